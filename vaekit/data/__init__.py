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
from vaekit.data.names import MADE, NAMES, problem
from vaekit.data.splits import SPLITS
from vaekit.data.stored import STORED

__all__ = [
    "DERIVED",
    "NAMES",
    "SPLITS",
    "STORED",
    "DataError",
    "ImageSet",
    "Split",
    "absence",
    "at_hand",
    "catalogue",
    "dsprites",
    "fetch",
    "identity",
    "image_shape",
    "is_at_hand",
    "load",
    "problem",
    "tetrominoes",
]


def load(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A named image set. The last ones that were asked for are kept, so that a set is read once.

    Stored ones are read from <name>.npz in `folder`, else in VAEKIT_DATA, else in the user's cache folder, and checked
    whole; derived ones are made of such a set. `tetrominoes` and `dsprites_like` are made (tetrominoes.image_set offers
    other seeds and angles, dsprites.image_set unique orientations).
    Errors: DataError for an unknown name, or a file that is absent or not valid: it names the path and the next step.
    """
    names.check(name)
    if name in MADE:
        return _made(name)
    path = stored.stored_path(DERIVED[name].of if name in DERIVED else name, folder)
    try:
        file = path.stat()
    except OSError:
        return _stored(name, path.parent, 0, 0)  # which says what is wrong
    return _stored(name, path.parent, file.st_mtime_ns, file.st_size)


@functools.lru_cache(maxsize=1)
def _made(name: str) -> ImageSet:
    return MADE[name].image_set()


@functools.lru_cache(maxsize=2)
def _stored(name: str, folder: Path, changed: int, size: int) -> ImageSet:
    """A set of the file that was changed at this time: another file is read anew."""
    return (derived if name in DERIVED else stored).image_set(name, folder)


def identity(name: str) -> str:
    """The identity of a named set, without reading it where its contents are pinned. Errors: DataError, as for load."""
    names.check(name)
    if name in MADE:
        return MADE[name].identity()
    return (derived if name in DERIVED else stored).identity(name)


def image_shape(name: str) -> tuple[int, int, int]:
    """(C, H, W) of a named set, without reading it. Errors: DataError for an unknown name."""
    names.check(name)
    return MADE[name].IMAGE_SHAPE if name in MADE else (STORED | DERIVED)[name].image_shape


def is_at_hand(name: str) -> bool:
    """Whether a named set can be had without a download: it is made, or its file is there (it is not read).

    Errors: DataError for an unknown name.
    """
    return absence(name) is None


def absence(name: str) -> str | None:
    """A sentence where a named set needs a file that is not there, with the next step; None where it is at hand.

    Errors: DataError for an unknown name.
    """
    names.check(name)
    return None if name in MADE else stored.absence(DERIVED[name].of if name in DERIVED else name)


def at_hand(first: str, *others: str) -> tuple[str]:
    """The first of these sets that is at hand, as a tuple of one; where none is, the first: its error says what to do.

    >>> at_hand("tetrominoes", "mnist")
    ('tetrominoes',)
    """
    return (next((name for name in (first, *others) if is_at_hand(name)), first),)


def catalogue() -> list[dict[str, str]]:
    """What there is, a row for each set: its name, images, shape, source and how to have it. Reads no file."""
    rows = []
    for name in NAMES:
        of = DERIVED[name].of if name in DERIVED else name
        size = MADE[name].SIZE if name in MADE else STORED[of].n_train + STORED[of].n_test
        if name in MADE:
            source, how = MADE[name].SOURCE, "always there"
        elif name in DERIVED:
            source, how = DERIVED[name].source, f"made from {of}"
        else:
            source = STORED[name].source
            how = f"python -m vaekit data {name}" if STORED[name].downloadable else "where it was prepared"
        channels, height, width = image_shape(name)
        shape = f"{height} × {width}" + f" × {channels}" * (channels > 1)
        rows.append({"name": name, "images": f"{size:,}", "shape": shape, "source": source, "how to have it": how})
    return rows
