"""Statistics: what the parts of a claim rest on, one value a seed."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit
from scipy.stats import rankdata

from vaekit.claims.evidence import Curve, as_tuple


def t_interval(values: Any, level: float = 0.95, axis: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided t interval of the mean along `axis`; NaN for fewer than two values, of no width where all are equal."""
    values = np.asarray(values, dtype=float)
    n = values.shape[axis]
    if n < 2:
        nothing = np.full(np.delete(values.shape, axis), np.nan)
        return nothing, nothing
    first = values.take(0, axis)
    mean = np.where(np.ptp(values, axis=axis) == 0, first, values.mean(axis))  # a mean of equal floats may miss them
    spread = np.sqrt(((values - np.expand_dims(mean, axis)) ** 2).sum(axis) / (n - 1))
    half = stdtrit(n - 1, (1 + level) / 2) * spread / math.sqrt(n)
    return mean - half, mean + half


def u_depths(curves: Any) -> np.ndarray:
    """U-depth a seed: D(smallest beta) - D(b*), b* the interior argmin of the *other* seeds' mean curve.

    `curves` (..., seeds, betas) in ascending beta -> (..., seeds), in the unit of the curves; may be negative. NaN with
    one seed, for which no other chooses. At least three betas, or there is no interior (`ValueError`).

    The seeds' values are not quite independent, as each one's b* is the others': on a curve of 12 betas that is level
    all over, the worst case, the 95 % t interval lies above 0 in 3.9 % of tables with 3 seeds, 5.0 % with 5, 5.9 % with
    8 (simulated; 2.5 % were they independent), and in 4.4 % with 5 seeds where only the left arm is level.
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
    """Spearman's rho of `x` with each of `curves` (..., points) -> (...); NaN where one is constant.

    `x` is (points,), or of the shape of the curves.

    Rounded to 12 digits, so that a threshold that rho meets in exact arithmetic is met.
    """
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (rankdata(x, axis=-1), rankdata(curves, axis=-1)))
    with np.errstate(invalid="ignore"):
        return np.round((a * b).sum(axis=-1) / np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)), 12)


@dataclass(frozen=True, eq=False)
class Statistic:
    """What a part of a claim rests on: `values`, one a seed (NaN where a seed gives none), and where they came from.

    `interval(level)` is the t interval over the seeds unless `bounds` replaces it: level -> (low, high), for a
    bootstrap over images, counts or Welch's test, in which case one seed may decide and `name` says what it is. `lacks`
    names what would be needed; `doubt` is a reason for which no value may decide ("rates too small"); `chosen` are the
    grid's points that one seed named and the others decide between (rule 5).
    """

    name: str
    values: pd.Series
    unit: str = "nats"
    over: str | tuple[str, ...] = ""
    grid: tuple = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    diverged: int = 0
    dropped: int = 0
    left_out: tuple = ()
    lacks: str = ""
    doubt: str = ""
    chosen: tuple = ()
    limits: tuple[float, float] = (-math.inf, math.inf)
    bounds: Callable[[float], tuple[float, float]] | None = None

    @property
    def sample(self) -> np.ndarray:
        """The values that are numbers."""
        values = self.values.to_numpy(dtype=float)
        return values[np.isfinite(values)]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """(low, high) at this level, cut to what the statistic can be."""
        low, high = self.bounds(level) if self.bounds else t_interval(self.sample, level)
        low, high = np.clip((float(low), float(high)), *self.limits)
        return float(low), float(high)


def statistic(name: str, values: pd.Series, *curves: Curve, unit: str = "nats", **more: Any) -> Statistic:
    """A statistic of `values` (index: seed) that remembers the curves it came from."""
    grids = [set(curve.values.columns) for curve in curves]
    where: dict[str, tuple] = {}
    for curve in curves:
        for field_name, value in curve.where.items():
            where[field_name] = tuple(dict.fromkeys((*where.get(field_name, ()), *as_tuple(value))))
    return Statistic(
        name,
        values,
        unit,
        over=curves[0].over if curves else "",
        grid=tuple(sorted(set.intersection(*grids))) if grids else (),
        where=where,
        data=tuple(sorted({image_set for curve in curves for image_set in curve.data})),
        diverged=max((curve.diverged for curve in curves), default=0),
        dropped=max((curve.dropped for curve in curves), default=0),
        left_out=tuple(sorted({point for curve in curves for point in curve.left_out})),
        lacks=next((curve.lacks for curve in curves if curve.lacks), ""),
        **more,
    )


def per_seed(function: Callable[..., np.ndarray], *curves: Curve) -> pd.Series:
    """function(arrays of seeds x grid) as a series over the seeds; NaN where the curves lack what they need."""
    seeds = curves[0].values.index
    if len(seeds) == 0 or curves[0].lacks:
        return pd.Series(np.nan, index=seeds, dtype=float)
    return pd.Series(function(*(curve.values.to_numpy() for curve in curves)), index=seeds)


def u_depth(curve: Curve, name: str = "U-depth") -> Statistic:
    """U-depth of a complete curve, a value a seed (`u_depths`); "has a minimum" is U-depth > 0 by rule 1."""
    return statistic(name, per_seed(u_depths, curve), curve)


def spearman(curve: Curve, name: str = "Spearman") -> Statistic:
    """Spearman's rho of the grid with a complete curve, a value a seed."""
    values = per_seed(lambda array: spearmans(curve.values.columns.to_numpy(dtype=float), array), curve)
    return statistic(name, values, curve, unit="", limits=(-1, 1))


def paired(name: str, function: Callable[..., np.ndarray], *curves: Curve, unit: str = "nats") -> Statistic:
    """Any statistic of complete curves: `function` of their arrays (seeds, grid), a value a seed.

    For a worst case over the grid (`paired("gap", lambda a, b: (a - b).max(1), test, train)`), a difference between two
    grid points (`column`), and the like.
    """
    return statistic(name, per_seed(function, *curves), *curves, unit=unit)


def column(curve: Curve, point: float) -> int:
    """The position of a grid point in a complete curve; -1 where it is not there (then `curve.lacks` says so)."""
    where = np.flatnonzero(np.isclose(curve.values.columns.to_numpy(dtype=float), point, rtol=1e-9))
    return int(where[0]) if len(where) else -1


def matched_rate(name: str, a: tuple[Curve, Curve], b: tuple[Curve, Curve], points: int = 201) -> Statistic:
    """D of `a` minus D of `b` at matched rate, a value a seed that both have, in nats.

    Each is (distortion, rate), completed together. D is interpolated linearly in R on a uniform grid of `points` over
    the common range of R, and averaged. NaN for a seed whose ranges do not meet; no value where a grid is empty.
    """
    (d_a, r_a), (d_b, r_b) = (tuple(curve.values for curve in pair) for pair in (a, b))
    values = {}
    for seed in d_a.index.intersection(d_b.index) if len(d_a.columns) and len(d_b.columns) else ():
        rates, distortions = [], []
        for d, r in ((d_a, r_a), (d_b, r_b)):
            order = np.argsort(r.loc[seed].to_numpy(), kind="stable")
            rates.append(r.loc[seed].to_numpy()[order])
            distortions.append(d.loc[seed].to_numpy()[order])
        low, high = max(r[0] for r in rates), min(r[-1] for r in rates)
        grid = np.linspace(low, high, points)
        first, second = (np.interp(grid, r, d) for r, d in zip(rates, distortions, strict=True))
        values[seed] = (first - second).mean() if low < high else np.nan
    return statistic(name, pd.Series(values, dtype=float), *a, *b)


def exact(made: Statistic) -> Statistic:
    """The statistic as a count, which has no error: its interval is the range of its values, and one seed decides."""
    sample = made.sample
    if not len(sample):
        return made
    return replace(made, bounds=lambda level: (float(sample.min()), float(sample.max())))


def in_doubt(made: Statistic, curve: Curve, least: float, reason: str = "rates too small") -> Statistic:
    """The statistic, undecided for `reason` where any value of `curve`, completed with its own, is below `least`."""
    return replace(made, doubt=reason) if (curve.values.to_numpy() < least).any() else made
