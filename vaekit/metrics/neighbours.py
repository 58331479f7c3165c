"""The nearest of many images, exactly, without comparing most of them.

Each image becomes a short vector: its coordinates along the directions in which the images vary most, and the length of
what is left. Short vectors are no further apart than their images (the triangle inequality), so one float32 product of
short vectors rules out nearly all images, and the rest are compared by their differences, in float64. A point far from
all images, a grey blob, is compared with whole images by a product first.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import checks, randomness

_DIRECTIONS = 256
_SAMPLE = 2_048  # images whose directions are taken
_BLOCK = 2**22  # values of a block of products: 17 MB
_IMAGES = 1_024  # whole images in a product
_MANY = 256  # images that short vectors let through of a point, above which whole images are multiplied
_PAIRS = 2**18  # values of the pairs that are compared at once: few, so that they stay in the cache
TIE = 1e-12  # relative difference of squared distances that are equal but for rounding


class Nearest(NamedTuple):
    """Of n points, the L2 distance of the nearest image, (n,), float64, and its number, (n,), int64.

    Of several that are equally near the first counts. A point that is not finite has none: infinity, and -1.
    """

    distance: Tensor
    index: Tensor


class Among:
    """Images among which the nearest are sought: prepared once, for many searches.

    Every distance that decides is taken from differences, of uint8 images as whole numbers. Some 260 numbers of each
    image are held beside it, and a search takes memory for a block.

    Args:
        images: (n, ...), uint8, or floats with values in [0, 1], on any device.

    Raises:
        ValueError: no images, or others than uint8 ones and floats in [0, 1].
    """

    @torch.no_grad()
    def __init__(self, images: Tensor):
        if not len(checks.pictures("images", images)):
            raise ValueError("images: got none among which to seek the nearest; give one or more")
        self._shape, self._images = images.shape[1:], images.flatten(1)
        sample = _levels(self._images[:: -(-len(images) // _SAMPLE)])
        self._mean = sample.mean(0)
        self._directions = _principal(sample - self._mean)
        self._short = torch.cat([self._shorten(_levels(part)) for part in self._images.split(_IMAGES)])

    @torch.no_grad()
    def nearest(self, points: Tensor) -> Nearest:
        """The nearest image to each of the points, (n, ...) of the images' shape, on their device.

        Raises:
            ValueError: points of another shape.
        """
        checks.pictures("points", points, self._shape, bounded=False)
        blocks = [self._search(_levels(block)) for block in self._blocks(points)]
        squares, index = (torch.cat(part) for part in zip(*blocks, strict=True))
        return Nearest(squares.sqrt() / 255, index)

    @torch.no_grad()
    def nearer(self, points: Tensor, targets: Tensor) -> Tensor:
        """Whether any image is nearer to a point than the point's own target is: bool, (n,).

        An image that is the target's equal is not nearer.

        Raises:
            ValueError: points or targets of another shape, or of different numbers.
        """
        checks.pictures("points", points, self._shape, bounded=False)
        if len(points) != len(checks.pictures("targets", targets, self._shape)):
            raise ValueError(f"got {len(points)} points and {len(targets)} targets; give each point its own target")
        blocks = []
        for block, of_block in zip(self._blocks(points), self._blocks(targets), strict=True):
            own = (_levels(block) - _levels(of_block)).square().sum(1) * (1 - TIE)
            blocks.append(self._search(_levels(block), own)[0] < own)
        return torch.cat(blocks)

    def _search(self, points: Tensor, enough: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Squared distances and numbers of the nearest images to points, as levels.

        Any image nearer than `enough` will do for a point: bounds rule out little for a grey blob, and one is enough.
        """
        bounds = _lower_bounds(self._shorten(points), self._short)
        least, likely = bounds.min(1)
        rows = torch.arange(len(points), device=points.device)
        squares = limit = self._exact(points, rows, likely)
        if enough is not None:
            rows = ((squares >= enough) & (least <= enough.float())).nonzero().squeeze(1)
            limit, bounds = enough[rows], bounds[rows]
        near = bounds <= limit.float().unsqueeze(1)
        if len(many := (near.sum(1) > _MANY).nonzero().squeeze(1)):
            bounds = self._whole_bounds(points[rows[many]])
            limit = torch.minimum(limit[many], self._exact(points, rows[many], bounds.argmin(1)))
            near[many] = bounds <= limit.float().unsqueeze(1)
        row, index = near.nonzero(as_tuple=True)
        row = rows[row]
        exact = self._exact(points, row, index)
        least = torch.full_like(squares, math.inf).scatter_reduce(0, row, exact, "amin")
        tied = exact == least[row]
        first = torch.full_like(likely, len(self._images)).scatter_reduce(0, row[tied], index[tied], "amin")
        first[least.isinf()] = -1
        if enough is not None:
            least = torch.where(squares < enough, squares, least)
        return least, first

    def _whole_bounds(self, points: Tensor) -> Tensor:
        """Lower bounds of the squared distances of points to all images, from products of all their values."""
        x = points - self._mean
        parts = self._images.split(_IMAGES)
        return torch.cat([_lower_bounds(x, _levels(part) - self._mean).float() for part in parts], dim=1)

    def _shorten(self, levels: Tensor) -> Tensor:
        """The short vectors of images, (n, directions + 1), float32."""
        x = levels - self._mean
        along = x @ self._directions
        rest = (x.square().sum(1) - along.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat((along, rest.unsqueeze(1)), dim=1).float()

    def _exact(self, points: Tensor, row: Tensor, index: Tensor) -> Tensor:
        """Squared distances of points and images by their numbers, from their differences."""
        size = max(1, _PAIRS // points.shape[1])
        # Written in place: a result kept between any two blocks would leave the memory of each in pieces.
        squares = points.new_empty(len(row))
        for i, j, part in zip(row.split(size), index.split(size), squares.split(size), strict=True):
            part.copy_((points[i] - _levels(self._images[j])).square_().sum(1))
        return squares

    def _blocks(self, points: Tensor) -> tuple[Tensor, ...]:
        return points.flatten(1).split(min(1_024, max(1, _BLOCK // len(self._images))))


@torch.no_grad()
def distances(points: Tensor, targets: Tensor) -> Tensor:
    """The L2 distance of each of the points, (n, ...), to its own target, (n, ...), values in [0, 1]: (n,), float64."""
    pairs = zip(points.split(_IMAGES), targets.split(_IMAGES), strict=True)
    return torch.cat([(_levels(a) - _levels(b)).flatten(1).square().sum(1) for a, b in pairs]).sqrt() / 255


def _lower_bounds(x: Tensor, y: Tensor) -> Tensor:
    """Lower bounds of the squared distances of rows of x to rows of y: a product, less what its rounding may add.

    The product of D terms is off by at most D eps of both squared lengths; the other roundings are few.
    """
    share = 1 - torch.finfo(x.dtype).eps * (x.shape[1] + 32)
    of_x, of_y = (share * rows.square().sum(1) for rows in (x, y))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32, which has 10 bits
    try:
        with torch.autocast(x.device.type, enabled=False):
            return torch.addmm(of_y, x, y.T, alpha=-2).add_(of_x.unsqueeze(1))
    finally:
        torch.set_float32_matmul_precision(before)


def _levels(images: Tensor) -> Tensor:
    """Images as float64 in levels of 0 to 255, in which the squared distances of uint8 images are whole numbers.

    Floats that are a level but for the rounding of their own type are that level: so bytes and their grey values are
    equals.
    """
    if images.dtype == torch.uint8:
        return images.double()
    levels = 255 * images.double()
    whole = levels.round()
    return torch.where((levels - whole).abs() <= 255 * torch.finfo(images.dtype).eps, whole, levels)


def _principal(x: Tensor) -> Tensor:
    """Orthonormal directions, (D, k), in which rows of x vary most, or nearly so (Halko et al. 2011, algorithm 4.4)."""
    shape = (x.shape[1], min(_DIRECTIONS, *x.shape))
    directions = randomness.normal(0, randomness.EVALUATION, 0, "directions", shape, x.dtype, x.device)
    for _ in range(2):
        directions = torch.linalg.qr(x.T @ (x @ directions)).Q
    return directions
