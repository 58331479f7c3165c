"""What a data set is: uint8 images, made or stored, their labels or factors, their splits and their identity."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from vaekit.settings import PlainError, nearest

LARGEST = 2**30  # bytes: no set of more is drawn whole


class DataError(PlainError, ValueError):
    """A data set, a split or a file that cannot be had: says what came, what was wanted and the next step."""


@dataclass(frozen=True)
class Split:
    """Which images train and which test: int64 indices into the data set's images, in random order where drawn."""

    train: Tensor
    test: Tensor


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A named set of uint8 images.

    `identity` is what results are keyed on: a made set's recipe and seed, or a hash of a stored set's contents.
    `draw` gives the images (n, C, H, W) of int64 indices; `splitters` gives each split's name its maker.
    `labels` are int64 (size,) or None; `factors` float64 (size, k) or None.
    """

    name: str
    source: str
    identity: str
    size: int
    image_shape: tuple[int, int, int]
    draw: Callable[[Tensor], Tensor] = field(repr=False)
    splitters: Mapping[str, Callable[[int | None], Split]] = field(repr=False)
    labels: Tensor | None = field(default=None, repr=False)
    factors: Tensor | None = field(default=None, repr=False)
    factor_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.size

    @cached_property
    def images(self) -> Tensor:
        """All images, uint8 (size, C, H, W); a made set draws them once and keeps them.

        Raises:
            DataError: a set of more than a gigabyte, of which `take` gives a part.
        """
        if (size := self.size * math.prod(self.image_shape)) > LARGEST:
            raise DataError(
                f"all {self.size:,} images of {self.name} would fill {size / 1e9:.1f} GB: take(indices) gives those "
                "that are needed, say take(split('cv', 20_000).train)"
            )
        return self.draw(torch.arange(self.size))

    def take(self, indices: Tensor | Iterable[int]) -> Tensor:
        """The images of these indices only, uint8 (n, C, H, W); the same whatever else is taken with them."""
        indices = torch.as_tensor(indices, dtype=torch.int64)
        return self.images[indices] if "images" in vars(self) else self.draw(indices)

    def split(self, name: str, n_train: int | None = None) -> Split:
        """One of the set's splits, with `n_train` training images where it is drawn (SPLITS says what they are).

        Raises:
            DataError: a split that the set lacks, or an n_train that the split cannot have.
        """
        if name not in self.splitters:
            raise DataError(unknown(f"split of {self.name}", name, self.splitters))
        try:
            return self.splitters[name](n_train)
        except DataError as error:
            raise DataError(f"split {name} of {self.name}: {error}") from None

    @property
    def train(self) -> Tensor:
        """The training images of the set's own split: the first of its splits."""
        return self.take(self.split(next(iter(self.splitters))).train)

    @property
    def test(self) -> Tensor:
        """The test images of the set's own split."""
        return self.take(self.split(next(iter(self.splitters))).test)


def unknown(kind: str, name: object, known: Iterable[str]) -> str:
    """The sentence for a name that is not known, with the nearest one that is."""
    known = list(known)
    return f"unknown {kind}: {name!r}{nearest(name, known)}; there are {', '.join(known)}"
