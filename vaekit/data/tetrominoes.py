"""Tetrominoes: 163,840 colour images of one J tetromino, made from five factors and never downloaded.

Bozkurt et al. 2021, "Rate-Regularization and Generalization in VAEs", section 4.1: the factors are drawn uniformly,
one draw in each cell of a grid, so that the data set fills its factor space evenly and its density is known.
"""

import math

import torch
from torch import Tensor

from vaekit import randomness
from vaekit.data import splits
from vaekit.data.images import DataError, ImageSet

RECIPE = 1  # raised when an image or a split would change
SOURCE = "Tetrominoes (Bozkurt et al. 2021), made"
SIDE = 32
CLASSES = 0  # no labels
IMAGE_SHAPE = (3, SIDE, SIDE)
FACTORS = ("angle", "hue", "scale", "x", "y")
STRATA = (16, 8, 5, 16, 16)
SIZE = math.prod(STRATA)
ANGLE_RANGES = (337.5, 360.0)

# The corners (u, v) of the J in cells: u right, v down, the origin at the bounding box's centre.
CORNERS = ((0.0, -1.5), (1.0, -1.5), (1.0, 1.5), (-1.0, 1.5), (-1.0, 0.5), (0.0, 0.5))

# Images drawn at once: few, so that they stay in the cache, and so that torch shares none of the operations among its
# threads, which costs more than it gains, and on a busy machine ten times as much.
_BLOCK = 24


def image_set(seed: int = 0, angle_range: float = 337.5) -> ImageSet:
    """The data set of one seed. Nothing is drawn before it is asked for; `take` draws only what it is asked for.

    `angle_range` is the angle's upper end in degrees: 337.5, whose sixteen strata are like those of the authors' other
    factors, or 360, as the paper's text has it.

    Raises:
        DataError: another angle_range or a seed outside [0, 2**63).
    """
    if angle_range not in ANGLE_RANGES:
        raise DataError(f"angle_range is {' or '.join(f'{a:g}' for a in ANGLE_RANGES)} degrees, not {angle_range!r}")
    if not 0 <= seed < 2**63:
        raise DataError(f"the seed of tetrominoes is a whole number from 0 to 2**63 - 1, not {seed!r}")
    position = positions(seed)
    values = factors(position, angle_range)
    return ImageSet(
        name="tetrominoes",
        source=f"{SOURCE}: recipe {RECIPE}, seed {seed}, angles to {angle_range:g}°",
        identity=identity(seed, angle_range),
        size=SIZE,
        image_shape=IMAGE_SHAPE,
        draw=lambda indices: draw(values[indices]),
        splitters=splits.of_factors(lambda: randomness.permutation(seed, randomness.SPLIT, 0, SIZE), position),
        factors=values,
        factor_names=FACTORS,
    )


def identity(seed: int = 0, angle_range: float = 337.5) -> str:
    """What results on these images are keyed on: recipe, seed and, where it is not 337.5, the angles' range."""
    return f"tetrominoes-{RECIPE}-seed{seed}" + ("" if angle_range == 337.5 else f"-angle{angle_range:g}")


def positions(seed: int) -> Tensor:
    """Where each image lies in the unit cube of factors: float64 (163840, 5), one uniform draw in each cell."""
    cells = torch.cartesian_prod(*(torch.arange(n) for n in STRATA))
    jitter = randomness.uniform(seed, randomness.FACTORS, 0, "tetrominoes", (SIZE, len(FACTORS)), torch.float64)
    return (cells + jitter) / torch.tensor(STRATA, dtype=torch.float64)


def factors(position: Tensor, angle_range: float = 337.5) -> Tensor:
    """Factors (n, 5) at positions in the unit cube: angle in degrees, hue in turns, scale, x and y in pixels."""
    low = torch.tensor([0, 0, 2, 8, 8], dtype=torch.float64)
    high = torch.tensor([angle_range, 0.875, 5, 23, 23], dtype=torch.float64)
    return low + (high - low) * position


def corners(factors: Tensor) -> tuple[Tensor, Tensor]:
    """The polygon's corners in the frame, in pixels: x and y, each (n, 6).

    Pixel (row, column) = (i, j) is [j, j + 1] x [i, i + 1]. A growing angle turns the shape counter-clockwise as seen.
    """
    angle, _, scale, x, y = factors.unsqueeze(-1).unbind(1)
    u, v = torch.tensor(CORNERS, dtype=factors.dtype).T
    cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
    return x + 0.5 + scale * (cos * u + sin * v), y + 0.5 + scale * (cos * v - sin * u)


def draw(factors: Tensor) -> Tensor:
    """The images of factors (n, 5) in float64: uint8 (n, 3, 32, 32), HSV(hue, 1, coverage) on black."""
    images = torch.zeros(len(factors), 3, SIDE * SIDE, dtype=torch.uint8)
    for start in range(0, len(factors), _BLOCK):
        block, values = images[start : start + _BLOCK], factors[start : start + _BLOCK]
        coverage, rows, columns = window_coverage(*corners(values))
        pixels = (rows.unsqueeze(-1) * SIDE + columns.unsqueeze(1)).flatten(1)  # (n, h * w)
        levels = 255 * colours(values[:, 1]).unsqueeze(-1) * coverage.flatten(1).unsqueeze(1)
        block.scatter_(2, pixels.unsqueeze(1).expand(levels.shape), levels.add_(0.5).to(torch.uint8))
    return images.unflatten(2, (SIDE, SIDE))


def colours(hue: Tensor) -> Tensor:
    """RGB (n, 3) of HSV(hue, 1, 1), with hue in turns: all three are proportional to the value."""
    sector = (torch.tensor([5, 3, 1], dtype=hue.dtype) + 6 * hue.unsqueeze(-1)) % 6
    return 1 - torch.minimum(sector, 4 - sector).clamp(0, 1)


def window_coverage(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The exact share of each pixel that polygons cover, in a window of the frame around each of them.

    `x` and `y` (n, corners) are in float64 and go round each polygon from u towards v. Returns the coverage (n, h, w)
    and the frame's rows (n, h) and columns (n, w) of the windows, which hold all that is not 0.

    By Green's theorem, the area of a polygon inside pixel [j, j + 1] x [i, i + 1] is the integral of clamp(x - j, 0, 1)
    dy along those parts of its edges with y in [i, i + 1]. Along an edge x is linear in y, so that its part is |dy|/dx
    times the difference, from the pixel's upper to its lower border, of the clamp's antiderivative S at x - j.
    """
    rows, columns = _window(y), _window(x)
    lines = torch.cat((rows, rows[:, -1:] + 1), dim=1)  # the h + 1 borders of the window's rows
    dx, dy = (_away_from_zero(p.roll(-1, 1) - p) for p in (x, y))
    total = torch.zeros(len(x), lines.shape[1], columns.shape[1], dtype=x.dtype)
    for x0, y0, run, rise in zip(*(t.unsqueeze(-1).unbind(1) for t in (x, y, dx, dy)), strict=True):
        crossing = x0 + run * ((lines - y0) / rise).clamp(0, 1)  # where the edge meets each line, or its nearer end
        reach = crossing.unsqueeze(-1) - columns.unsqueeze(1)
        inside = reach.clamp(0, 1)
        antiderivative = reach.sub_(inside, alpha=0.5).mul_(inside)  # S: t**2 / 2 on [0, 1], then t - 1/2
        total += antiderivative.mul_((rise.abs() / run).unsqueeze(-1))
    return total.diff(dim=1), rows, columns


def _window(p: Tensor) -> Tensor:
    """Consecutive pixels (n, w) of the frame that hold all of the polygons' extent there, on one axis."""
    first, last = p.amin(1, keepdim=True).floor().long(), p.amax(1, keepdim=True).floor().long()
    width = min(int((last - first).max()) + 1, SIDE)
    return first.clamp(0, SIDE - width) + torch.arange(width)


def _away_from_zero(d: Tensor) -> Tensor:
    """Tilts an edge along an axis by a millionth of a pixel, which is less than the images resolve."""
    return torch.where(d.abs() < 1e-6, 1e-6, d)
