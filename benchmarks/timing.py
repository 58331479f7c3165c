"""Times of several contenders, taken in turns so that a machine's drift meets all of them alike."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

from scipy.stats import t as student


class Interval(NamedTuple):
    """A median with the 95 % interval of the mean of its logarithm over `rounds` rounds."""

    median: float
    low: float
    high: float
    rounds: int


def interleaved(contenders: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender in each round; every second round runs them in the reverse order.

    A contender that returns a number has timed itself: the number is taken for its seconds.
    """
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds):
        for name in list(contenders)[:: -1 if number % 2 else 1]:
            begun = time.perf_counter()
            own = contenders[name]()
            taken[name].append(own if isinstance(own, float) else time.perf_counter() - begun)
    return taken


def interval(values: list[float]) -> Interval:
    """The median of positive values with a t interval on their logarithms; NaN ends for fewer than three."""
    if len(values) < 3:
        return Interval(statistics.median(values), math.nan, math.nan, len(values))
    logs = [math.log(value) for value in values]
    half = student.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    centre = statistics.fmean(logs)
    return Interval(statistics.median(values), math.exp(centre - half), math.exp(centre + half), len(values))


def ratio(slower: list[float], faster: list[float]) -> Interval:
    """How many times `faster` is as fast as `slower`, round by round."""
    return interval([a / b for a, b in zip(slower, faster, strict=True)])
