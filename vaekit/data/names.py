"""The names of the image sets, and what is known of each without reading it."""

from dataclasses import dataclass

from vaekit.data.derived import DERIVED
from vaekit.data.images import DataError, unknown
from vaekit.data.made import MADE
from vaekit.data.stored import STORED

NAMES = (*MADE, *STORED, *DERIVED)
TITLES = {
    "tetrominoes": "Tetrominoes",
    "dsprites_like": "dSprites-like",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
    "cifar10_jpeg": "CIFAR-10 (JPEG copy)",
    "svhn": "SVHN",
    "small_norb": "SmallNORB",
    "shapes3d": "3dShapes",
    "mnist_binary": "binary MNIST",
    "mnist32": "MNIST at 32 × 32",
    "dsprites_like32": "dSprites-like at 32 × 32",
}


@dataclass(frozen=True)
class About:
    """What is known of a set.

    Args:
        image_shape: (C, H, W).
        size: images in all.
        n_train, n_test: images of the parts that the set comes in; a made set has none, and some have no test part.
        classes: how many labels; 0: it has none.
        source: where the images come from, as a citation and what became of them.
        origin: "original", "made", or what kind of copy it is; `copy_of` names the set that a copy is of.
        stored: the stored set whose file it is read from; None for a made set and for what is derived from one.
    """

    image_shape: tuple[int, int, int]
    size: int
    n_train: int
    n_test: int
    classes: int
    source: str
    origin: str
    copy_of: str | None
    stored: str | None


def about(name: str) -> About:
    """What is known of a named set. Raises: DataError for an unknown name."""
    check(name)
    form = DERIVED.get(name)
    origin = form.of if form else name
    if origin in MADE:
        recipe = MADE[origin]
        shape, source = (form.image_shape, form.source) if form else (recipe.IMAGE_SHAPE, recipe.SOURCE)
        return About(shape, recipe.SIZE, 0, 0, recipe.CLASSES, source, "made", None, None)
    file = STORED[origin]
    form = form or file
    return About(
        form.image_shape, file.n_train + file.n_test, file.n_train, file.n_test, file.classes, form.source,
        file.origin, file.copy_of, origin,
    )  # fmt: skip


def title(name: str) -> str:
    """A set's name as readers know it; a name that is none of NAMES, as it stands."""
    return TITLES.get(name, name)


def problem(name: str) -> str | None:
    """Why no set of this name can be loaded, fetched or studied, as a sentence; None where nothing is wrong with it."""
    return None if name in NAMES else unknown("data set", name, NAMES)


def check(name: str) -> None:
    """Raises: DataError for a name that is not one of NAMES."""
    if message := problem(name):
        raise DataError(message)
