"""Image sets as uint8 arrays in memory: made (Tetrominoes) or stored (MNIST and its like), with their splits.

    data = load("tetrominoes")
    split = data.split("cv", n_train=16_384)
    images = data.take(split.train)  # uint8 (16384, 3, 32, 32)

`load` never uses the network; `fetch` does.
"""

import os

from vaekit.data import stored, tetrominoes
from vaekit.data.download import fetch
from vaekit.data.images import DataError, ImageSet, Split, unknown
from vaekit.data.splits import SPLITS
from vaekit.data.stored import STORED

__all__ = [
    "NAMES",
    "SPLITS",
    "DataError",
    "ImageSet",
    "Split",
    "fetch",
    "identity",
    "image_shape",
    "load",
    "tetrominoes",
]

NAMES = ("tetrominoes", *STORED)


def load(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A named image set.

    Stored ones are read from <name>.npz in `folder`, else in VAEKIT_DATA, else in the user's cache folder, and checked
    whole; `tetrominoes` is made (tetrominoes.image_set offers other seeds and angles).
    Errors: DataError for an unknown name, or a file that is absent or not valid: it names the path and the next step.
    """
    if name not in NAMES:
        raise DataError(unknown("data set", name, NAMES))
    return tetrominoes.image_set() if name == "tetrominoes" else stored.image_set(name, folder)


def identity(name: str) -> str:
    """The identity of a named set, without reading it where its contents are pinned. Errors: DataError, as for load."""
    if name == "tetrominoes":
        return tetrominoes.identity()
    pinned = STORED[name].sha256 if name in STORED else None
    return f"sha256:{pinned[:16]}" if pinned else load(name).identity


def image_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of a named set, without reading it. Errors: DataError for an unknown name."""
    return STORED[name].image_shape if name in STORED else load(name).image_shape
