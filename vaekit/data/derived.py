"""Image sets that are made of a stored one when they are loaded: its images in another form, its labels and splits."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data import stored
from vaekit.data.images import ImageSet
from vaekit.data.stored import STORED

_BLOCK = 64  # images resized at once: few, so that they stay in the cache


@dataclass(frozen=True)
class Derived:
    """A set made of the stored set `of`: `make` turns its images (n, C, H, W) into these, uint8 (n, *image_shape).

    `recipe` is raised when an image would change.
    """

    of: str
    change: str
    image_shape: tuple[int, int, int]
    make: Callable[[Tensor], Tensor]
    recipe: int = 1

    @property
    def source(self) -> str:
        """The stored set's source and what became of it."""
        return f"{STORED[self.of].source}, {self.change}"


def binarised(images: Tensor) -> Tensor:
    """255 where a value v / 255 is above 0.5, that is v >= 128, else 0: uint8 of the same shape."""
    return (images >> 7) * 255


def resized(images: Tensor) -> Tensor:
    """28 x 28 images at 32 x 32: uint8 (n, C, 32, 32), as torchvision's Resize(32) makes them of PIL images.

    Bilinear; antialiasing changes nothing where an image grows. Output i looks at input 7/8 (i + 1/2) - 1/2 =
    (14 i - 1) / 16, so that all weights are sixteenths. As in Pillow, each row is widened first and each column after
    it, both rounded to whole values, halves up. Whole numbers throughout: the same bits on every machine.
    """
    return torch.cat([_taller(_taller(block.mT.contiguous()).mT.contiguous()) for block in images.split(_BLOCK)])


def _taller(images: Tensor) -> Tensor:
    """uint8 (..., 28, w) to uint8 (..., 32, w)."""
    place = (14 * torch.arange(32) - 1).clamp(0, 16 * 27)
    above, share = place // 16, (place % 16).to(torch.int16).unsqueeze(-1)
    values = images.to(torch.int16)
    upper, lower = values.index_select(-2, above), values.index_select(-2, (above + 1).clamp(max=27))
    return ((upper * (16 - share) + lower * share + 8) >> 4).to(torch.uint8)


DERIVED = {
    "mnist_binary": Derived("mnist", "binarised once at 0.5", (1, 28, 28), binarised),
    "mnist32": Derived("mnist", "resized to 32 x 32", (1, 32, 32), resized),
}


def image_set(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A derived set. Raises: DataError, as for the stored set that it is made of."""
    form, origin = DERIVED[name], stored.image_set(DERIVED[name].of, folder)
    return dataclasses.replace(
        origin,
        name=name,
        source=form.source,
        identity=_identity(name, origin.identity),
        image_shape=form.image_shape,
        draw=lambda indices: form.make(origin.draw(indices)),
    )


def identity(name: str) -> str:
    """The recipe, and the identity of the stored set, which is not read where its contents are pinned."""
    return _identity(name, stored.identity(DERIVED[name].of))


def _identity(name: str, origin: str) -> str:
    return f"{name}-{DERIVED[name].recipe}:{origin}"
