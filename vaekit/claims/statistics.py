"""Statistics: what the criteria of a claim rest on, one value a seed.

A surface is a curve over two axes, and its statistics have the grid's points. Where three seeds or more hold the grid,
the interval is over the seeds. With fewer, it is a block bootstrap over the grid: neighbours resemble each other, so
blocks of them are drawn, not points. It tells how far the statistic rests on a few regions of the grid, and nothing of
what another seed would give: its `Statistic.name` says that it is one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vaekit.claims.curves import Curve, complete_grid, selection_seed

DRAWS = 1000  # of the block bootstrap


@dataclass(frozen=True)
class Reason:
    """Why nothing is decided: its `kind` ("seeds", "budget", "interval", "missing", …) and its text for the reader.

    As a string, a text that does not say what it is about begins with the kind: "seeds: 2 of at least 3".
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.kind in ("budget", "seeds") else self.text


def t_interval(values: Any, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided t interval of the mean of (..., n); NaN for fewer than two values, of no width where all are equal."""
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    if n < 2:
        return np.full(values.shape[:-1], np.nan), np.full(values.shape[:-1], np.nan)
    mean = np.where(np.ptp(values, axis=-1) == 0, values[..., 0], values.mean(axis=-1))  # equal floats' may miss them
    error = np.sqrt(((values - mean[..., None]) ** 2).sum(axis=-1) / (n - 1) / n)
    half = stats.t.ppf((1 + level) / 2, n - 1) * error
    return mean - half, mean + half


def u_depths(curves: Any) -> np.ndarray:
    """U-depth a seed: D(smallest beta) - D(b*), b* the interior argmin of the *other* seeds' mean curve.

    The seeds' values are not quite independent, as each one's b* is the others': on a curve of 12 betas that is level
    all over, the worst case, the 95 % t interval lies above 0 in 3.9 % of tables with 3 seeds, 5.0 % with 5, 5.9 % with
    8 (simulated; 2.5 % were they independent), and in 4.4 % with 5 seeds where only the left arm is level.

    Shape:
        (..., seeds, betas) in ascending beta -> (..., seeds), in the unit of the curves; NaN with one seed.

    Raises:
        ValueError: fewer than three betas have no interior.
    """
    curves = np.asarray(curves, dtype=float)
    seeds, betas = curves.shape[-2:]
    if betas < 3:
        raise ValueError(f"{betas} betas have no interior: a U-depth needs three or more.")
    if seeds < 2:
        return np.full(curves.shape[:-1], np.nan)
    others = curves.sum(axis=-2, keepdims=True) - curves
    best = others[..., 1:-1].argmin(axis=-1, keepdims=True) + 1
    return curves[..., 0] - np.take_along_axis(curves, best, axis=-1)[..., 0]


def spearmans(x: Any, curves: Any) -> np.ndarray:
    """Spearman's rho of `x` with each of `curves`; NaN where one is constant.

    It is rounded to 12 digits, so that a threshold that rho meets in exact arithmetic is met.

    Shape:
        `x` (points,) or (..., points), `curves` (..., points) -> (...).
    """
    ranks = (stats.rankdata(values, axis=-1) for values in (x, curves))
    a, b = (ranked - ranked.mean(axis=-1, keepdims=True) for ranked in ranks)
    with np.errstate(invalid="ignore"):
        return np.round((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)), 12)


def partial_spearmans(x: Any, y: Any, given: Any) -> np.ndarray:
    """Spearman's partial rho of x and y with the rank of `given` held; NaN where one is constant.

    It is 0 where `given` alone orders x or y: nothing is left for the other to follow.

    Shape:
        (..., points) each -> (...).
    """
    xy, xg, yg = spearmans(x, y), spearmans(x, given), spearmans(y, given)
    left = np.sqrt((1 - xg**2) * (1 - yg**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(left == 0, 0.0, (xy - xg * yg) / left)
    return np.clip(np.round(rho, 12), -1, 1)


@dataclass(frozen=True, eq=False)
class Statistic:
    """What a criterion rests on: `values`, one a seed (NaN where a seed gives none), and their curves.

    Attributes:
        limits: what the statistic can be.
        bounds: level -> (low, high), in place of the t interval over the seeds: for a bootstrap over images, counts or
            Welch's test. One seed may then decide, and `name` says what interval it is.
        least_seeds: with `bounds`, the least number of seeds all the same.
        undecidable_because: reasons for which no value decides.
        chosen: the grid's points that one seed named and the others decide between (rule 5).
    """

    name: str
    values: pd.Series
    curves: tuple[Curve, ...] = ()
    unit: str = "nats"
    limits: tuple[float, float] = (-math.inf, math.inf)
    bounds: Callable[[float], tuple[float, float]] | None = None
    least_seeds: int = 0
    undecidable_because: tuple[Reason, ...] = ()
    chosen: tuple = ()

    @cached_property
    def sample(self) -> np.ndarray:
        """The values that are numbers."""
        values = self.values.to_numpy(dtype=float)
        return values[np.isfinite(values)]

    @property
    def seeds(self) -> int:
        """How many seeds have a value; where none has, how many were run."""
        return len(self.sample) or len(self.values)

    @property
    def missing(self) -> str:
        """What the statistic needs and the table lacks; "" for nothing."""
        return next((curve.missing for curve in self.curves if curve.missing), "")

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high) at this level, cut to what the statistic can be; NaN of a t interval with two seeds or fewer."""
        if len(self.sample) < 3 and not self.bounds:
            return math.nan, math.nan
        low, high = self.bounds(level) if self.bounds else t_interval(self.sample, level)
        low, high = np.clip((float(low), float(high)), *self.limits)
        return float(low), float(high)


def paired(
    name: str, function: Callable[..., np.ndarray], *curves: Curve, at: Sequence[float] = (), unit: str = "nats"
) -> Statistic:
    """Any statistic of complete curves: `function` of their arrays (seeds, grid), a value a seed.

    With `at`, the arrays have these points of the grid alone, in this order. NaN where a curve is `missing` something.
    """
    seeds = curves[0].values.index
    if len(seeds) == 0 or curves[0].missing:
        return Statistic(name, pd.Series(math.nan, seeds), curves, unit)
    frames = (curve.values[list(at)] if at else curve.values for curve in curves)
    values = function(*(frame.to_numpy() for frame in frames))
    return Statistic(name, pd.Series(values, seeds, dtype=float), curves, unit)


def difference(name: str, curve: Curve, high: float, low: float, unit: str = "nats") -> Statistic:
    """A complete curve at one point of its grid minus that at another, a value a seed."""
    return paired(name, lambda values: values[:, 0] - values[:, 1], curve, at=(high, low), unit=unit)


def u_depth(curve: Curve, name: str = "U-depth") -> Statistic:
    """U-depth of a complete curve, a value a seed (`u_depths`); "has a minimum" is U-depth > 0 by rule 1."""
    return paired(name, u_depths, curve)


def spearman(curve: Curve, name: str = "Spearman") -> Statistic:
    """Spearman's rho of the grid with a complete curve, a value a seed."""
    grid = curve.values.columns.to_numpy(dtype=float)
    return replace(paired(name, lambda values: spearmans(grid, values), curve, unit=""), limits=(-1, 1))


def matched_rate(name: str, a: tuple[Curve, Curve], b: tuple[Curve, Curve], points: int = 201) -> Statistic:
    """D of `a` minus D of `b` at matched rate, a value a seed that both have, in nats.

    Each is (distortion, rate), completed together. D is interpolated linearly in R on a uniform grid of `points` over
    the common range of R, and averaged. NaN for a seed whose ranges do not meet; no value where a grid lacks anything.
    """
    pairs = [(d.values, r.values) for d, r in (a, b)]
    held = not a[0].missing and all(len(d.columns) for d, _ in pairs)
    values = {}
    for seed in pairs[0][0].index.intersection(pairs[1][0].index) if held else ():
        lines = [pd.Series(d.loc[seed].to_numpy(), r.loc[seed].to_numpy()) for d, r in pairs]
        lines = [line.sort_index(kind="stable") for line in lines]
        low, high = max(line.index[0] for line in lines), min(line.index[-1] for line in lines)
        grid = np.linspace(low, high, points)
        first, second = (np.interp(grid, line.index, line) for line in lines)
        values[seed] = (first - second).mean() if low < high else np.nan
    return Statistic(name, pd.Series(values, dtype=float), (*a, *b))


def exact(statistic: Statistic) -> Statistic:
    """The statistic as a count, which has no error: its interval is the range of its values, and one seed decides."""
    sample = statistic.sample
    if not len(sample):
        return statistic
    return replace(statistic, bounds=lambda level: (float(sample.min()), float(sample.max())))


def in_doubt(statistic: Statistic, rate: Curve, least: float) -> Statistic:
    """The statistic, undecided where any value of `rate`, completed with its own curve, is below `least` nats."""
    if not (rate.values.to_numpy() < least).any():
        return statistic
    return replace(statistic, undecidable_because=(Reason("values", "rates too small"),))


def over_grid(name: str, function: Callable[..., np.ndarray], *curves: Curve, unit: str = "") -> Statistic:
    """`function` of the arrays (seeds, points) of complete grids, a value a seed, reducing the last axis.

    With fewer than three seeds, the interval is that of the block bootstrap, and one seed decides.
    """
    statistic = paired(name, function, *curves, unit=unit)
    if curves[0].missing or not 0 < len(statistic.values) < 3:
        return statistic

    def draw() -> np.ndarray:
        picks = _blocks(curves[0])
        values = function(*(curve.values.to_numpy()[:, picks] for curve in curves)).mean(axis=0)
        return values[np.isfinite(values)]

    return replace(statistic, name=f"{name}, block bootstrap over the grid", bounds=percentiles(draw))


def percentiles(draw: Callable[[], np.ndarray]) -> Callable[[float], tuple[float, float]]:
    """`Statistic.bounds` of a bootstrap, which draws once: the middle of its draws, NaN where there are none."""
    drawn = cache(draw)

    def bounds(level: float) -> tuple[float, float]:
        if not len(drawn()):
            return math.nan, math.nan
        low, high = np.quantile(drawn(), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    return bounds


def held_out_difference(name: str, end: Curve, now: Curve, one: Callable, other: Callable, unit: str = "") -> Statistic:
    """The best member of one region of the grid minus the best of another, a value for each seed that did not choose.

    Rule 5: the seed with the most of the grid names the two, by its values at the `end` of training; the others give
    their difference `now`. `one` and `other` are masks of the points, from arrays of their values along each axis.
    """
    (grid,) = complete_grid(end)
    nothing = pd.Series(dtype=float)
    if grid.missing:
        return Statistic(name, nothing, (grid,), unit)
    seed = selection_seed(end)
    values = end.values.loc[seed].dropna()
    axes = [values.index.get_level_values(axis).to_numpy() for axis in end.over]
    sides = [values[mask(*axes)] for mask in (one, other)]
    if not all(map(len, sides)):
        return Statistic(name, nothing, (replace(grid, missing=f"no member on one side of: {name}"),), unit)
    a, b = (side.idxmax() for side in sides)
    fresh = now.values.drop(index=seed, errors="ignore").reindex(columns=values.index)
    return Statistic(
        f"{name}: {_point(a)} and {_point(b)}, named by seed {seed}",
        (fresh[a] - fresh[b]).dropna(),
        (grid,),
        unit,
        chosen=(a, b),
    )


def _point(point: tuple) -> str:
    return f"({', '.join(f'{value:.3g}' for value in point)})"


def _blocks(curve: Curve) -> np.ndarray:
    """(DRAWS, points) positions of points: blocks of neighbours, about the root of each axis long, the same each time.

    Where the grid has a gap, its nearest point stands in.
    """
    levels = [curve.values.columns.get_level_values(axis) for axis in curve.over]
    place = np.stack([pd.factorize(level, sort=True)[0] for level in levels], axis=1)
    shape = place.max(axis=0) + 1
    nearest = np.full(shape, -1)
    nearest[tuple(place.T)] = np.arange(len(place))
    for gap in np.argwhere(nearest < 0):
        nearest[tuple(gap)] = ((place - gap) ** 2).sum(axis=1).argmin()
    side = [max(2, round(math.sqrt(n))) for n in shape]
    blocks = math.ceil(len(place) / math.prod(side))
    rng = np.random.default_rng(0)
    corner = [rng.integers(0, n - s + 1, (DRAWS, blocks, 1, 1)) for n, s in zip(shape, side, strict=True)]
    inside = np.arange(side[0])[:, None], np.arange(side[1])[None]
    return nearest[corner[0] + inside[0], corner[1] + inside[1]].reshape(DRAWS, -1)
