"""Plain `nn.Module`s that return distribution parameters, by name.

`CODE_VERSIONS` holds an integer per model family. It is part of every stored member's key and is raised when a change
would change results; the golden traces in the tests fail when somebody forgets.
"""

from torch import nn

from vaekit.models.classifier_vae import ClassifierVAE
from vaekit.models.convolution import Conv2d, ConvTranspose2d
from vaekit.models.hierarchical import GHVAE, LVAE
from vaekit.models.vae import VAE, ConvVAE, DenseVAE

MODELS: dict[str, type[nn.Module]] = {
    "dense_vae": DenseVAE,
    "conv_vae": ConvVAE,
    "ghvae": GHVAE,
    "lvae": LVAE,
    "classifier_vae": ClassifierVAE,
}
CODE_VERSIONS = {"dense_vae": 1, "conv_vae": 2, "ghvae": 2, "lvae": 2, "classifier_vae": 2}

__all__ = [
    "CODE_VERSIONS",
    "GHVAE",
    "LVAE",
    "MODELS",
    "VAE",
    "ClassifierVAE",
    "Conv2d",
    "ConvTranspose2d",
    "ConvVAE",
    "DenseVAE",
    "build",
]


def build(name: str, image_shape: tuple[int, ...], **arguments) -> nn.Module:
    """A new model of a registered family, for images of shape (C, H, W).

    Raises:
        KeyError: There is no family of that name; the error lists them.
    """
    if name not in MODELS:
        raise KeyError(f"no model {name!r}; the families are {', '.join(MODELS)}")
    return MODELS[name](image_shape=image_shape, **arguments)
