"""Whether a model's reconstructions prefer the images that it was trained on to others like them."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import checks
from vaekit.metrics.neighbours import TIE, Among, distances


class Memorisation(NamedTuple):
    """Of n reconstructions, and m training and m control images that are exchangeable but for the training.

    `nearer_to_train`, `nearer_to_control` (n,), bool: whether an image of that kind is nearer to the reconstruction
    than its own target is. `train_preference`: P(the nearest training image is nearer than the nearest control image)
    - 1/2, ties counting half; `se` is its standard error for a model that remembers nothing.
    """

    nearer_to_train: Tensor
    nearer_to_control: Tensor
    train_preference: float
    se: float


@torch.no_grad()
def memorisation(points: Tensor, targets: Tensor, train: Tensor, control: Tensor) -> Memorisation:
    """How near reconstructions (n, ...) come to their targets (n, ...), to training and to control images (m, ...).

    Distances are L2, over uint8 images or floats in [0, 1]. A model that remembers nothing has a preference of 0 within
    its standard error, sharp or blurred; one that returns its nearest image of `train` has 1/2.

    The error counts the images that win, not those that are won: for such a model the 2m images are exchangeable, so
    which of them win how many points, n_j, does not depend on which are training images, and the preference is
    sum_j n_j s_j / n with s_j = +-1/2 by a draw of m among 2m. Each s_j has variance 1/4 and no two correlate
    positively, so the variance is at most sum_j n_j^2 / (4 n^2): one image that wins all points gives 1/2.

    A point that is not finite is nearer to nothing, and makes both numbers NaN.

    Raises:
        ValueError: no points or no images, images of different shapes or not in [0, 1], and unequal numbers of points
            and targets, or of training and control images.
    """
    shape = checks.pictures("points", points, bounded=False).shape[1:]
    for name, images in (("targets", targets), ("train", train), ("control", control)):
        checks.pictures(name, images, shape)
    if len(points) != len(targets):
        raise ValueError(f"got {len(points)} points and {len(targets)} targets; give each point its own target")
    if len(train) != len(control) or not len(points) or not len(train):
        given = f"{len(points)} points, {len(train)} training and {len(control)} control images"
        raise ValueError(f"got {given}; give one point or more, and as many images of either kind")
    own = distances(points, targets)
    of_train, of_control = (Among(images).nearest(points) for images in (train, control))
    train_wins = _below(of_train.distance, of_control.distance)
    control_wins = _below(of_control.distance, of_train.distance)
    # A tie is the training image's here, as if it had won: that can only raise the error.
    winners = torch.where(control_wins, len(train) + of_control.index, of_train.index)
    n, finite = len(points), bool(points.isfinite().all())
    wins = torch.bincount(winners.clamp(min=0)).double()
    preference = (train_wins.sum() - control_wins.sum()).item() / (2 * n)
    return Memorisation(
        _below(of_train.distance, own),
        _below(of_control.distance, own),
        preference if finite else math.nan,
        wins.square().sum().sqrt().item() / (2 * n) if finite else math.nan,
    )


def _below(a: Tensor, b: Tensor) -> Tensor:
    """Whether distances are smaller than others, by more than rounding."""
    return a.square() < b.square() * (1 - TIE)
