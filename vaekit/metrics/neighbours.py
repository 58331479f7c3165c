"""The nearest of many images, exactly, without comparing most of them.

Each image becomes a short vector: its coordinates along the directions in which the images vary most, and the length of
what is left. No two short vectors are further apart than their images (the triangle inequality), so one float32 product
of short vectors rules out nearly all images, and those that remain are compared by their differences, in float64. The
directions decide how long that takes, and nothing else. For a point far from all images, a grey blob, they rule out
few: its bounds are then made of whole images, a product of all their values.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import randomness
from vaekit.metrics.geometry import full_precision

_DIRECTIONS = 256
_SAMPLE = 2_048  # images whose directions are taken
_POINTS, _IMAGES = 1_024, 8_192  # of a block of products: 34 MB
_MANY = 32  # images a point that short vectors let through in a block, above which whole images are multiplied
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

    Holds the images as they came and some 260 numbers of each; a search takes memory for a block of either side.

    Args:
        images: (n, ...), uint8, or floats with values in [0, 1], on any device.

    Errors: ValueError for no images, and for other kinds of number.
    """

    @torch.no_grad()
    def __init__(self, images: Tensor):
        if not len(images):
            raise ValueError("there are no images among which to seek the nearest; give one or more")
        self._shape, self._images = images.shape[1:], images.flatten(1)
        sample = _levels(self._images[:: -(-len(images) // _SAMPLE)])
        self._mean = sample.mean(0)
        self._directions = _principal(sample - self._mean)
        short = torch.cat([self._shorten(_levels(part)) for part in self._images.split(_POINTS)])
        self._short = torch.cat((short, torch.ones_like(short[:, :1]), self._squares(short)), dim=1)

    @torch.no_grad()
    def nearest(self, points: Tensor) -> Nearest:
        """The nearest image to each of the points, (n, ...) of the images' shape, on their device.

        Errors: ValueError for points of another shape.
        """
        parts = self._flat(points).split(_POINTS)
        anything = [points.new_full((len(part),), math.inf, dtype=torch.float64) for part in parts]
        found = [self._search(_levels(part), best) for part, best in zip(parts, anything, strict=True)]
        squares, index = (torch.cat(parts) for parts in zip(*found, strict=True))
        return Nearest(squares.sqrt() / 255, index)

    @torch.no_grad()
    def nearer(self, points: Tensor, targets: Tensor) -> Tensor:
        """Whether any image is nearer to a point than the point's own target is: bool, (n,).

        An image that is the target's equal is not nearer. Errors: ValueError as for `nearest`.
        """
        found = []
        for part, own in zip(self._flat(points).split(_POINTS), self._flat(targets).split(_POINTS), strict=True):
            x = _levels(part)
            found.append(self._search(x, (x - _levels(own)).square().sum(1) * (1 - TIE), any_will_do=True)[1] >= 0)
        return torch.cat(found)

    def _search(self, points: Tensor, best: Tensor, any_will_do: bool = False) -> tuple[Tensor, Tensor]:
        """Squared distances and numbers of the nearest images to points, as levels, of those nearer than `best`.

        The number is -1 where there is none. Where any will do, that of some nearer image: bounds say little of a grey
        blob, and all images would be compared with it.
        """
        index = torch.full_like(best, -1, dtype=torch.long)
        short = self._shorten(points)
        left = torch.cat((-2 * short, self._squares(short), torch.ones_like(short[:, :1])), dim=1)
        for start in range(0, len(self._images), _IMAGES):
            with full_precision(points.device):
                bounds = left @ self._short[start : start + _IMAGES].T
            least, place = bounds.min(1)
            open_yet = (index < 0) if any_will_do else torch.ones_like(index, dtype=torch.bool)
            rows = (open_yet & (least <= best.float())).nonzero().squeeze(1)
            likely = self._exact(points, rows, place[rows] + start)
            if any_will_do:
                there = likely < best[rows]
                best[rows[there]], index[rows[there]] = likely[there], place[rows[there]] + start
                rows, likely = rows[~there], likely[~there]
            if not len(rows):
                continue
            limit = torch.minimum(best[rows], likely)
            let_through = bounds[rows] <= limit.float().unsqueeze(1)
            if let_through.sum() > _MANY * len(rows):
                tight = self._tight_bounds(points[rows], start)
                limit = torch.minimum(limit, self._exact(points, rows, tight.argmin(1) + start))
                let_through = tight <= limit.float().unsqueeze(1)
            row, column = let_through.nonzero(as_tuple=True)
            column += start
            exact = self._exact(points, rows[row], column)
            closest = torch.full_like(limit, math.inf).scatter_reduce(0, row, exact, "amin")
            tied = exact == closest[row]
            first = torch.full_like(rows, len(self._images)).scatter_reduce(0, row[tied], column[tied], "amin")
            better = closest < best[rows]
            best[rows[better]], index[rows[better]] = closest[better], first[better]
        return torch.where(index < 0, math.inf, best), index

    def _tight_bounds(self, points: Tensor, start: int) -> Tensor:
        """Bounds of squared distances from products of all values of points and of one block of images, as levels."""
        x = points - self._mean
        # In pieces, whose products are off by as little as those of short vectors; their sum adds an error for each.
        pieces = x.float().split(_DIRECTIONS, 1)
        terms, squares = _DIRECTIONS + len(pieces), x.square().sum(1, keepdim=True)
        bounds = []
        for part in self._images[start : start + _IMAGES].split(_POINTS):
            y = _levels(part) - self._mean
            with full_precision(points.device):
                products = sum(a @ b.T for a, b in zip(pieces, y.float().split(_DIRECTIONS, 1), strict=True))
            both = (squares + y.square().sum(1)) * _kept(terms)
            bounds.append((both - 2 * products).float())
        return torch.cat(bounds, dim=1)

    def _squares(self, short: Tensor) -> Tensor:
        """Squared lengths of short vectors, (n, 1), less what keeps every bound that is made of two of them a bound."""
        return (short.double().square().sum(1, keepdim=True) * _kept(short.shape[1])).float()

    def _shorten(self, levels: Tensor) -> Tensor:
        """The short vectors of images, (n, directions + 1), float32."""
        x = levels - self._mean
        along = x @ self._directions
        rest = (x.square().sum(1) - along.square().sum(1)).clamp(min=0).sqrt()
        return torch.cat((along, rest.unsqueeze(1)), dim=1).float()

    def _exact(self, points: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Squared distances of points and images by their numbers, from their differences."""
        size = max(1, _PAIRS // points.shape[1])
        # Written in place: a result kept between any two blocks would leave the memory of each in pieces.
        found = points.new_empty(len(row))
        for i, j, part in zip(row.split(size), column.split(size), found.split(size), strict=True):
            part.copy_((points[i] - _levels(self._images[j])).square().sum(1))
        return found

    def _flat(self, points: Tensor) -> Tensor:
        if points.shape[1:] != self._shape:
            raise ValueError(f"points are {tuple(points.shape[1:])}; give them of the images' {tuple(self._shape)}")
        return points.flatten(1)


def nearest(points: Tensor, among: Tensor) -> Nearest:
    """The nearest to each of the points, (n, ...), among images, (m, ...), in L2 over values in [0, 1].

    Both are uint8, or floats in [0, 1]. Exact: every distance that decides is taken from differences in float64, and of
    uint8 images as whole numbers. For many searches among the same images, see `Among`. Errors: ValueError as there.
    """
    return Among(among).nearest(points)


@torch.no_grad()
def distances(points: Tensor, targets: Tensor) -> Tensor:
    """The L2 distance of each of the points, (n, ...), to its own target, (n, ...), values in [0, 1]: (n,), float64."""
    pairs = zip(points.split(_POINTS), targets.split(_POINTS), strict=True)
    return torch.cat([(_levels(a) - _levels(b)).flatten(1).square().sum(1) for a, b in pairs]).sqrt() / 255


def _kept(terms: int) -> float:
    """The share of two squared lengths that is safe beside their vectors' product, of so many terms, in float32.

    The product is off by at most `terms` eps of both; the other roundings are few.
    """
    return 1 - torch.finfo(torch.float32).eps * (terms + 16)


def _levels(images: Tensor) -> Tensor:
    """Images as float64 in levels of 0 to 255, in which the squared distances of uint8 images are whole numbers."""
    if images.dtype == torch.uint8:
        return images.double()
    if not images.is_floating_point():
        raise ValueError(f"images are {images.dtype}; give uint8, or floats with values in [0, 1]")
    return 255 * images.double()


def _principal(x: Tensor) -> Tensor:
    """Orthonormal directions, (D, k), in which rows of x vary most, or nearly so (Halko et al. 2011, algorithm 4.4)."""
    shape = (x.shape[1], min(_DIRECTIONS, *x.shape))
    found = randomness.normal(0, randomness.EVALUATION, 0, "directions", shape, x.dtype, x.device)
    for _ in range(2):
        found = torch.linalg.qr(x.T @ (x @ found)).Q
    return found
