"""Image sets as uint8 arrays in memory: made (Tetrominoes), stored (MNIST and its like) or derived, with their splits.

    data = load("tetrominoes")
    split = data.split("cv", n_train=16_384)
    images = data.take(split.train)  # uint8 (16384, 3, 32, 32)

`load` never uses the network; `fetch` does.
"""

import functools
import os
from pathlib import Path

from vaekit.data import derived, dsprites, names, stored, tetrominoes
from vaekit.data.derived import DERIVED
from vaekit.data.download import fetch
from vaekit.data.images import DataError, ImageSet, Split
from vaekit.data.made import MADE
from vaekit.data.names import NAMES, About, about, problem, title
from vaekit.data.splits import SPLITS
from vaekit.data.stored import STORED

__all__ = [
    "DERIVED",
    "MADE",
    "NAMES",
    "SPLITS",
    "STORED",
    "About",
    "DataError",
    "ImageSet",
    "Split",
    "about",
    "absence",
    "available",
    "catalogue",
    "dsprites",
    "fetch",
    "identity",
    "image_shape",
    "is_available",
    "load",
    "problem",
    "tetrominoes",
    "title",
]


def load(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A named image set. The last ones that were asked for are kept, so that a set is read once.

    Stored ones are read from <name>.npz in `folder`, else in VAEKIT_DATA, else in the user's cache folder, and checked
    whole. `tetrominoes` and `dsprites_like` are made (tetrominoes.image_set offers other seeds and angles,
    dsprites.image_set unique orientations); derived ones are made of a set of either kind.

    Raises:
        DataError: an unknown name, or a file that is absent or not valid: it names the path and the next step.
    """
    origin = about(name).stored
    if origin is None:
        return _made(name)
    path = stored.stored_path(origin, folder)
    return _stored(name, path.parent, *stored.state(path))


@functools.lru_cache(maxsize=1)
def _made(name: str) -> ImageSet:
    return derived.image_set(name) if name in DERIVED else MADE[name].image_set()


@functools.lru_cache(maxsize=2)
def _stored(name: str, folder: Path, changed: int, size: int) -> ImageSet:
    """A set of the file that was changed at this time: another file is read anew."""
    return (derived if name in DERIVED else stored).image_set(name, folder)


def identity(name: str) -> str:
    """The identity of a named set, without reading it where its contents are pinned. Raises: DataError, as `load`."""
    names.check(name)
    if name in MADE:
        return MADE[name].identity()
    return (derived if name in DERIVED else stored).identity(name)


def image_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of a named set, without reading it. Raises: DataError for an unknown name."""
    return about(name).image_shape


def is_available(name: str) -> bool:
    """Whether a named set needs no download: it is made, or its file is in place (it is not read).

    Raises:
        DataError: an unknown name.
    """
    return absence(name) is None


def absence(name: str) -> str | None:
    """The sentence for a named set whose file is missing, with the next step; None where it is available.

    Raises:
        DataError: an unknown name.
    """
    origin = about(name).stored
    return None if origin is None else stored.absence(origin)


def available(first: str, *others: str) -> tuple[str]:
    """The first available of these sets, as a tuple of one; where none is, the first: its error says what to do.

    >>> available("tetrominoes", "mnist")
    ('tetrominoes',)
    """
    return (next((name for name in (first, *others) if is_available(name)), first),)


def catalogue() -> list[dict[str, str]]:
    """A row for each set: its name, images, shape, source and how to have it. Reads no file."""
    rows = []
    for name in NAMES:
        known = about(name)
        if name in DERIVED:
            way = f"made from {DERIVED[name].of}"
        elif known.stored:
            way = f"python -m vaekit data {name}" if STORED[name].downloadable else "where it was prepared"
        else:
            way = "always there"
        channels, height, width = known.image_shape
        shape = f"{height} × {width}" + f" × {channels}" * (channels > 1)
        rows.append(
            {"name": name, "images": f"{known.size:,}", "shape": shape, "source": known.source, "how to have it": way}
        )
    return rows
