"""The classifier VAE of study 4: a convolutional VAE whose latent is also classified."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.models.vae import ConvVAE


class ClassifierVAE(ConvVAE):
    """Beta-VAE-Classif (arXiv 2307.09994, section 3): an encoder, a linear classifier of its latent z, and a decoder.

    The layers are ours where the paper is silent: stride-2 convolutions (kernel 4, padding 1) with ReLU, mirrored.
    The classifier sees a sample of z in training and mu in eval mode; `forward` gives its logits as "y". Without
    `decoder` there is no "x": so a network that is pruned carries none. Without `sampled` the classifier sees mu in
    training, too, and nothing is drawn: with the cross-entropy alone that is the ordinary CNN, the paper's baseline.

    Args:
        image_shape: (C, H, W), H and W multiples of 2**len(channels).
        channels: of each convolution.
        latent_dim: dimensions of z.
        classes: labels lie in 0 … classes - 1.
        likelihood, sigma: of the decoder, see `VAE`.
    """

    def __init__(
        self,
        image_shape=(1, 28, 28),
        channels: Sequence[int] = (32, 64),
        latent_dim=10,
        classes=10,
        decoder=True,
        sampled=True,
        likelihood="bernoulli",
        sigma: float = 1.0,
    ):
        super().__init__(image_shape, len(channels), channels, latent_dim, likelihood, sigma)
        if classes < 2:
            raise ValueError(f"classes is {classes}; give two or more")
        if not decoder:
            del self.decoder
        if not sampled:
            self.noise_sites = {}
        self.classifier = nn.Linear(latent_dim, classes)

    def classify(self, x: Tensor) -> Tensor:
        """Class logits of each image at the mean of its latent, (batch, classes)."""
        return self.classifier(self.encode(x).mu)

    def decode(self, z: Tensor) -> Bernoulli | Gaussian:
        """The likelihood p(x|z) of each latent.

        Raises:
            ValueError: This model was made without a decoder.
        """
        if "decoder" not in self._modules:
            raise ValueError("this classifier VAE was made without a decoder; make it with decoder=True")
        return super().decode(z)

    def forward(self, x: Tensor, noise: Mapping[str, Tensor]) -> dict:
        """{"z": posterior, "y": class logits (batch, classes)} and, with a decoder, "x": likelihood at a sample."""
        q = self.encode(x)
        z = q.sample(noise["z"]) if self.noise_sites else q.mu
        params = {"z": q, "y": self.classifier(z if self.training else q.mu)}
        return params | {"x": self.decode(z)} if "decoder" in self._modules else params
