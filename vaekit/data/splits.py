"""Splits into training and test images (study 3; Bozkurt et al. 2021, section 4).

A maker of a split takes n_train (or None, for a split whose size is given) and returns a Split. Training sets drawn
from one set are prefixes of one permutation, hence nested; the tests are read from its end, so that the first test
images are the same whatever n_train.

Raises:
    DataError: an n_train that a split cannot have.
"""

import operator
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor

from vaekit.data.images import DataError, Split

SPLITS = {
    "random": "half of the images at random; the other half tests",
    "cv": "constant volume: n_train images at random, nested; the rest (or the set's own test images) tests",
    "checkerboard": "each factor's range cut in half: cells of even parity train, the others test",
    "cd": "constant density: the random split cropped to a centred box of factors with about n_train training images",
    "own": "the set's own training and test images",
}


def at_random(order: Callable[[], Tensor], size: int) -> Mapping[str, Callable[[int | None], Split]]:
    """The splits that any set made of one part has; `order()` is its permutation."""
    return {"random": partial(_random, order), "cv": partial(_constant_volume, order, size)}


def of_factors(order: Callable[[], Tensor], position: Tensor) -> Mapping[str, Callable[[int | None], Split]]:
    """The splits of a set of known factors: `order()` is its permutation, `position` (n, k) lies in the unit cube."""
    return {
        **at_random(order, len(position)),
        "checkerboard": partial(_checkerboard, order, position),
        "cd": partial(_constant_density, order, position),
    }


def of_parts(order: Callable[[], Tensor], n_train: int, n_test: int) -> Mapping[str, Callable[[int | None], Split]]:
    """The splits of a set that comes in two parts; `order()` permutes its training part."""
    return {"own": partial(_own, n_train, n_test), "cv": partial(_part, order, n_train, n_test)}


def _random(order: Callable[[], Tensor], n_train: int | None = None) -> Split:
    permutation = order()
    half = len(permutation) // 2
    _only(n_train, half)
    return Split(permutation[:half], permutation[half:].flip(0))


def _constant_volume(order: Callable[[], Tensor], size: int, n_train: int | None) -> Split:
    n_train = _between(n_train, size - 1)
    permutation = order()
    return Split(permutation[:n_train], permutation[n_train:].flip(0))


def _checkerboard(order: Callable[[], Tensor], position: Tensor, n_train: int | None) -> Split:
    _only(n_train, len(position) // 2)
    permutation = order()
    even = (position[permutation] >= 0.5).sum(1) % 2 == 0
    return Split(permutation[even], permutation[~even].flip(0))


def _constant_density(order: Callable[[], Tensor], position: Tensor, n_train: int | None) -> Split:
    half = len(position) // 2
    n_train = _between(n_train, half)
    side = (n_train / half) ** (1 / position.shape[1])
    inside = ((position - 0.5).abs() <= side / 2).all(1)
    halves = _random(order)
    split = Split(halves.train[inside[halves.train]], halves.test[inside[halves.test]])
    if not len(split.train) or not len(split.test):
        raise DataError(f"the box for n_train = {n_train} lacks training or test images: ask for a larger n_train")
    return split


def _own(n_train: int, n_test: int, asked: int | None) -> Split:
    _only(asked, n_train)
    return Split(torch.arange(n_train), torch.arange(n_train, n_train + n_test))


def _part(order: Callable[[], Tensor], n_train: int, n_test: int, asked: int | None) -> Split:
    return Split(order()[: _between(asked, n_train)], torch.arange(n_train, n_train + n_test))


def _between(n_train: int | None, most: int) -> int:
    number = _whole(n_train)
    if number is None or not 1 <= number <= most:
        raise DataError(f"n_train is a whole number from 1 to {most:,}, not {n_train!r}")
    return number


def _only(n_train: int | None, size: int) -> None:
    if n_train is not None and _whole(n_train) != size:
        raise DataError(f"n_train is {size:,} or not given, not {n_train!r}; split cv takes any")


def _whole(value: int | None) -> int | None:
    """A whole number of any kind (numpy's too) as an int; None for anything else."""
    return (
        None if value is None or isinstance(value, bool) or not hasattr(value, "__index__") else operator.index(value)
    )
