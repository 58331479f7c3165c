"""dSprites-like: 737,280 binary images of a square, an ellipse or a heart, made from five factors, never downloaded.

After Matthey, Higgins, Hassabis and Lerchner 2017, "dSprites: Disentanglement testing Sprites dataset"
(https://github.com/google-deepmind/dsprites-dataset): the same factors in the same order, close to its images and not
bit-equal to them. All images take 3 GB, so an image is drawn from its index when it is asked for.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaekit import randomness
from vaekit.data import splits
from vaekit.data.images import DataError, ImageSet

RECIPE = 1  # raised when an image or a split would change
SOURCE = "dSprites-like images (after Matthey et al. 2017), made"
SIDE = 64
IMAGE_SHAPE = (1, SIDE, SIDE)
SHAPES = ("square", "ellipse", "heart")
CLASSES = len(SHAPES)
FACTORS = ("shape", "scale", "orientation", "x", "y")
LEVELS = (3, 6, 40, 32, 32)  # of each factor; the index of an image counts them with y fastest
SIZE = math.prod(LEVELS)
TURN = 39  # steps of orientation in a full turn: the original's forty include both 0 and 2 pi
ORIENTATIONS = (TURN + 1, TURN)
SYMMETRY = (4, 2, 1)  # how often a shape falls on itself in a full turn

# The cosine and the sine of each orientation, that of 2 pi being that of 0.
_ANGLES = [math.tau * (k % TURN) / TURN for k in range(TURN + 1)]
_TURNS = torch.tensor([(math.cos(a), math.sin(a)) for a in _ANGLES], dtype=torch.float64)

# A sprite reaches 9.6 * sqrt(2) = 13.6 pixels from its centre: a window of 28 x 28 holds it, and the frame the window.
_WINDOW = 28
# Images drawn at once: few, so that they stay in the cache and torch shares no operation among its threads.
_BLOCK = 40


def image_set(orientations: int = TURN + 1) -> ImageSet:
    """The data set; `take` draws just what it is asked for, and `images`, 3 GB, is an error.

    `factors` (n, 5) are in the original's units, the shape counted from 0: shape 0 square, 1 ellipse, 2 heart; scale
    0.5 to 1; orientation 0 to 2 pi (radians); x and y 0 to 1, the centre being at 16 + 32 x pixels. `labels` are the
    shapes. With 39 `orientations` the one at 2 pi is left out, whose images are those at 0: 718,848 images. Splits:
    random, cv.

    Raises:
        DataError: another number of orientations.
    """
    if orientations not in ORIENTATIONS:
        raise DataError(f"dsprites_like has {ORIENTATIONS[0]} orientations or {ORIENTATIONS[1]}, not {orientations!r}")
    size = SIZE // LEVELS[2] * orientations
    shape, scale, turn, x, y = (torch.arange(n, dtype=torch.float64) for n in LEVELS)
    values = torch.cartesian_prod(shape, (5 + scale) / 10, turn[:orientations] * (math.tau / TURN), x / 31, y / 31)
    return ImageSet(
        name="dsprites_like",
        source=f"{SOURCE}: recipe {RECIPE}, {orientations} orientations",
        identity=identity(orientations),
        size=size,
        image_shape=IMAGE_SHAPE,
        draw=lambda indices: draw(levels(indices, orientations)),
        splitters=splits.at_random(lambda: randomness.permutation(0, randomness.SPLIT, 0, size), size),
        labels=torch.arange(len(SHAPES)).repeat_interleave(size // len(SHAPES)),
        factors=values,
        factor_names=FACTORS,
    )


def identity(orientations: int = TURN + 1) -> str:
    """What results on these images are keyed on: the recipe and, where it is not 40, the number of orientations."""
    return f"dsprites_like-{RECIPE}" + ("" if orientations == LEVELS[2] else f"-orientations{orientations}")


def levels(indices: Tensor, orientations: int = TURN + 1) -> Tensor:
    """The level of each factor at int64 indices (n,): int64 (n, 5), from 0. The shape changes slowest, y fastest."""
    size = SIZE // LEVELS[2] * orientations
    if len(indices) and not -size <= int(indices.min()) <= int(indices.max()) < size:
        raise IndexError(f"images of dsprites_like are 0 to {size - 1:,}; got {indices.min()} to {indices.max()}")
    shape, scale, _, x, y = LEVELS
    return torch.stack(torch.unravel_index(indices % size, (shape, scale, orientations, x, y)), dim=1)


def index(shape=2, scale=5, orientation=0, x=16, y=16) -> Tensor:
    """The index of the image at these levels, which are whole numbers or tensors that broadcast; of 40 orientations.

    >>> index(shape=0, scale=5, orientation=0, x=0, y=torch.arange(3))
    tensor([204800, 204801, 204802])
    """
    image = torch.zeros((), dtype=torch.int64)
    for level, count in zip((shape, scale, orientation, x, y), LEVELS, strict=True):
        image = image * count + torch.as_tensor(level)
    return image


def orientation_class(factors: Tensor) -> Tensor:
    """The orientation modulo the shape's symmetry (square pi/2, ellipse pi, heart 2 pi), in steps of 2 pi / 39.

    `factors` (n, 5) are those of the set; int64 (n,): 0 to 9 for a square, to 19 for an ellipse, to 38 for a heart. Two
    images of one class that share all other factors are turned against each other by less than a step (9.2 degrees)
    and symmetries; those at 0 and at 2 pi are equal. MIG and its like need this in the orientation's place: an image
    does not say at which of its shape's equal orientations it was drawn.
    """
    symmetry = torch.tensor(SYMMETRY)[factors[:, 0].long()]
    step = (factors[:, 2] * (TURN / math.tau)).round().long()
    return symmetry * step % TURN // symmetry


def draw(levels: Tensor) -> Tensor:
    """The images of levels (n, 5): uint8 (n, 1, 64, 64), 255 where the pixel's centre lies in the sprite, else 0.

    Pixel (row, column) = (i, j) is [j, j + 1] x [i, i + 1], y points down, and a growing orientation turns the sprite
    counter-clockwise as seen. No pixel's centre lies on an outline: moving them all by 1e-9 pixels changes no image of
    the set, and machines disagree by less than 1e-12. So the images are the same everywhere, bit for bit.
    """
    images = torch.zeros(len(levels), SIDE * SIDE, dtype=torch.uint8)
    for shape, covers in enumerate(_COVERS):
        for chosen in (levels[:, 0] == shape).nonzero()[:, 0].split(_BLOCK):
            u, v, pixels = _window(levels[chosen])
            inside = covers(u, v).flatten(1).to(torch.uint8) * 255
            images[chosen] = torch.zeros(len(chosen), SIDE * SIDE, dtype=torch.uint8).scatter_(1, pixels, inside)
    return images.view(-1, *IMAGE_SHAPE)


def _window(levels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The window around each sprite: its pixels' centres (u, v) in the sprite's frame at scale 1, each (n, 28, 28).

    And where those pixels stand in the flattened frame, int64 (n, 28 * 28).
    """
    scale = (5 + levels[:, 1].double()) / 10
    cos, sin = _TURNS[levels[:, 2]].view(-1, 2, 1, 1).unbind(1)
    centre = 16 + 32 * levels[:, 3:].double() / 31
    pixels = (centre.round().long() - _WINDOW // 2).unsqueeze(-1) + torch.arange(_WINDOW)  # (n, x and y, 28)
    away = (pixels + 0.5 - centre.unsqueeze(-1)) / scale.view(-1, 1, 1)
    dx, dy = away[:, 0].unsqueeze(1), away[:, 1].unsqueeze(2)
    place = pixels[:, 1].unsqueeze(2) * SIDE + pixels[:, 0].unsqueeze(1)
    return cos * dx - sin * dy, sin * dx + cos * dy, place.flatten(1)


def _square(u: Tensor, v: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) <= 9.6


def _ellipse(u: Tensor, v: Tensor) -> Tensor:
    return (u / 12.8).square() + (v / 7.2).square() <= 1


def _heart(u: Tensor, v: Tensor) -> Tensor:
    """Inside of u = 9.6 sin(t)**3, v = -0.6636 (13 cos t - 5 cos 2t - 2 cos 3t - cos 4t) - 1.434.

    A line of constant u meets it twice, at cos t = c and -c with c = sqrt(1 - (u / 9.6)**(2/3)); in c, the brackets are
    -8 c**4 - 8 c**3 - 2 c**2 + 19 c + 4, of which the even part is the middle of the two and the odd part half their
    distance.
    """
    square = 1 - (u.abs() / 9.6).pow(2 / 3)  # c**2; below 0 beside the heart
    middle = -0.6636 * (4 - square * (2 + 8 * square)) - 1.434
    half = 0.6636 * square.clamp(min=0).sqrt() * (19 - 8 * square)
    return (square >= 0) & ((v - middle).abs() <= half)


_COVERS: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (_square, _ellipse, _heart)
