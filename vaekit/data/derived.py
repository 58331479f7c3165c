"""Image sets that are made of another when they are loaded: its images in another form, its labels, factors, splits."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from vaekit.data import stored
from vaekit.data.images import ImageSet
from vaekit.data.made import MADE
from vaekit.data.stored import STORED

_BLOCK = 64  # images made at once: few, so that they stay in the cache and their origin's are never there together


@dataclass(frozen=True)
class Derived:
    """A set made of the stored or made set `of`: `make` turns its images (n, C, H, W) into these, (n, *image_shape).

    `recipe` is raised when an image would change.
    """

    of: str
    change: str
    image_shape: tuple[int, int, int]
    make: Callable[[Tensor], Tensor]
    recipe: int = 1

    @property
    def source(self) -> str:
        """The origin's source and what became of it."""
        origin = MADE[self.of].SOURCE if self.of in MADE else STORED[self.of].source
        return f"{origin}, {self.change}"


def binarised(images: Tensor) -> Tensor:
    """255 where a value v / 255 is above 0.5, that is v >= 128, else 0: uint8 of the same shape."""
    return (images >> 7) * 255


def resized(images: Tensor) -> Tensor:
    """28 x 28 images at 32 x 32: uint8 (n, C, 32, 32), as torchvision's Resize(32) makes them of PIL images.

    Bilinear; antialiasing changes nothing where an image grows. Output i looks at input 7/8 (i + 1/2) - 1/2 =
    (14 i - 1) / 16, so that all weights are sixteenths. As in Pillow, each row is widened first and each column after
    it, both rounded to whole values, halves up. Whole numbers throughout: the same bits on every machine.
    """
    return _taller(_taller(images.mT.contiguous()).mT.contiguous())


def _taller(images: Tensor) -> Tensor:
    """uint8 (..., 28, w) to uint8 (..., 32, w)."""
    place = (14 * torch.arange(32) - 1).clamp(0, 16 * 27)
    above, share = place // 16, (place % 16).to(torch.int16).unsqueeze(-1)
    values = images.to(torch.int16)
    upper, lower = values.index_select(-2, above), values.index_select(-2, (above + 1).clamp(max=27))
    return ((upper * (16 - share) + lower * share + 8) >> 4).to(torch.uint8)


def halved(images: Tensor) -> Tensor:
    """The means of 2 x 2 pixels: uint8 (n, C, H, W) of even H and W to (n, C, H / 2, W / 2).

    In whole numbers, halves up: (sum + 2) // 4. The same bits on every machine.
    """
    values = images.to(torch.int16)
    rows = values[..., ::2, :] + values[..., 1::2, :]
    return ((rows[..., ::2] + rows[..., 1::2] + 2) >> 2).to(torch.uint8)


DERIVED = {
    "mnist_binary": Derived("mnist", "binarised once at 0.5", (1, 28, 28), binarised),
    "mnist32": Derived("mnist", "resized to 32 x 32", (1, 32, 32), resized),
    "dsprites_like32": Derived("dsprites_like", "averaged to 32 x 32", (1, 32, 32), halved),
}


def image_set(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A derived set. Raises: DataError, as for the set that it is made of."""
    form = DERIVED[name]
    origin = MADE[form.of].image_set() if form.of in MADE else stored.image_set(form.of, folder)

    def draw(indices: Tensor) -> Tensor:
        images = torch.empty(len(indices), *form.image_shape, dtype=torch.uint8)
        for block, some in zip(images.split(_BLOCK), indices.split(_BLOCK), strict=True):
            block.copy_(form.make(origin.draw(some)))
        return images

    return dataclasses.replace(
        origin,
        name=name,
        source=form.source,
        identity=_identity(name, origin.identity),
        image_shape=form.image_shape,
        draw=draw,
    )


def identity(name: str) -> str:
    """The recipe, and the identity of the origin, which is not read where its contents are pinned."""
    of = DERIVED[name].of
    return _identity(name, MADE[of].identity() if of in MADE else stored.identity(of))


def _identity(name: str, origin: str) -> str:
    return f"{name}-{DERIVED[name].recipe}:{origin}"
