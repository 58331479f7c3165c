"""Surfaces: curves over two axes, and statistics whose points are the grid's.

Where three seeds or more hold the grid, the interval is over the seeds. With fewer, it is a block bootstrap over the
grid: neighbours resemble each other, so blocks of them are drawn, not points. It tells how far the statistic rests on a
few regions of the grid, and nothing of what another seed would give: its `Statistic.name` says that it is one.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from vaekit.claims.evidence import Curve, chooser
from vaekit.claims.statistics import Statistic, per_seed, spearmans, statistic

DRAWS = 1000


def whole(*curves: Curve, least: int = 5) -> tuple[Curve, ...]:
    """Cut surfaces to one grid, with `least` values of each axis, and to the seeds that hold it.

    Those are the seeds with nine tenths of the points, or more, of the one that has most: fresh seeds of a few chosen
    members (rule 5) are none of them. What is kept depends on which members there are, never on a value.
    """
    grid = functools.reduce(pd.Index.intersection, (curve.values.columns for curve in curves))
    seeds = functools.reduce(pd.Index.union, (curve.values.index for curve in curves))
    cells = (curve.values.notna().reindex(index=seeds, columns=grid, fill_value=False) for curve in curves)
    held = np.logical_and.reduce([each.to_numpy() for each in cells])
    count = held.sum(axis=1)
    full = count >= max(1, 0.9 * count.max(initial=0))
    kept = grid[held[full].all(axis=0)] if full.any() else grid[:0]
    lacks = [curve.lacks for curve in curves if curve.lacks]
    for axis, name in enumerate(curves[0].over):
        values = kept.get_level_values(axis).nunique()
        lacks += [f"{values} of at least {least} values of {name}"] * (values < least)
    return tuple(
        replace(
            curve,
            values=curve.values.reindex(index=seeds[full], columns=kept),
            diverged=max(each.diverged for each in curves),
            left_out=tuple(sorted(set(grid[held[full].any(axis=0)]) - set(kept))),
            lacks=lacks[0] if lacks else "",
        )
        for curve in curves
    )


def falls(curve: Curve, axis: str, tie: float = 0.0) -> Curve:
    """Where a surface falls from one value of `axis` to the next: 1 or 0 at the pair's lower end.

    NaN at the last value, beside a gap in the grid, and where both ends of a pair are below `tie`.
    """
    if curve.values.empty:
        return curve
    place, shape = _places(curve)
    dense = np.full((len(curve.values), *shape), np.nan)
    dense[:, place[:, 0], place[:, 1]] = curve.values.to_numpy()
    along = 1 + curve.over.index(axis)
    low, high = np.delete(dense, -1, along), np.delete(dense, 0, along)
    fell = np.where(np.isnan(low + high) | ((low < tie) & (high < tie)), np.nan, high < low)
    edge = np.full_like(dense.take([0], along), np.nan)
    pairs = np.concatenate([fell, edge], along)[:, place[:, 0], place[:, 1]]
    return replace(curve, values=pd.DataFrame(pairs, curve.values.index, curve.values.columns))


def partial_spearmans(x: Any, y: Any, given: Any) -> np.ndarray:
    """Spearman's partial rho of x and y with the rank of `given` held, (..., points) each -> (...).

    0 where `given` alone orders x or y, for then nothing is left for the other to follow; NaN where one is constant.
    """
    xy, xg, yg = spearmans(x, y), spearmans(x, given), spearmans(y, given)
    left = np.sqrt((1 - xg**2) * (1 - yg**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        rho = np.where(left == 0, 0.0, (xy - xg * yg) / left)
    return np.clip(np.round(rho, 12), -1, 1)


def over_grid(name: str, function: Callable[..., np.ndarray], *curves: Curve, unit: str = "", **more: Any) -> Statistic:
    """`function` of the arrays (seeds, points) of whole surfaces, a value a seed, reducing the last axis.

    With fewer than three seeds, the interval is that of the block bootstrap, and one seed decides.
    """
    values = per_seed(function, *curves)
    if curves[0].lacks or not 0 < len(values) < 3:
        return statistic(name, values, *curves, unit=unit, **more)

    @functools.cache
    def drawn() -> np.ndarray:
        picks = _blocks(curves[0])
        made = function(*(curve.values.to_numpy()[:, picks] for curve in curves)).mean(axis=0)
        return made[np.isfinite(made)]

    def bounds(level: float) -> tuple[float, float]:
        low, high = np.quantile(drawn(), [(1 - level) / 2, (1 + level) / 2]) if len(drawn()) else (math.nan, math.nan)
        return float(low), float(high)

    what = f"{name}, block bootstrap over the grid"
    return statistic(what, values, *curves, unit=unit, bounds=bounds, **more)


def duel(name: str, end: Curve, now: Curve, one: Callable, other: Callable, unit: str = "") -> Statistic:
    """The best member of one region of the grid minus the best of another, a value for each seed that did not choose.

    Rule 5: the seed with the most of the grid names the two, by its values at the `end` of training; the others give
    their difference `now`. `one` and `other` are masks of the points, from arrays of their values along each axis.
    """
    (grid,) = whole(end)
    made = functools.partial(statistic, unit=unit)
    if grid.lacks:
        return made(name, pd.Series(dtype=float), grid)
    first = chooser(end)
    values = end.values.loc[first].dropna()
    axes = [values.index.get_level_values(axis).to_numpy() for axis in end.over]
    sides = [values[mask(*axes)] for mask in (one, other)]
    if not all(map(len, sides)):
        return made(name, pd.Series(dtype=float), replace(grid, lacks=f"no member on one side of: {name}"))
    a, b = (side.idxmax() for side in sides)
    says = f"{name}: {point_text(a)} and {point_text(b)}, named by seed {first}"
    fresh = now.values.drop(index=first, errors="ignore").reindex(columns=values.index)
    return made(says, (fresh[a] - fresh[b]).dropna(), grid, chosen=(a, b))


def point_text(point: tuple) -> str:
    """A point of a grid, for people."""
    return f"({', '.join(f'{value:.3g}' for value in point)})"


def _places(curve: Curve) -> tuple[np.ndarray, tuple[int, ...]]:
    """The grid's points as rows of positions along the axes, and how many values each axis has."""
    levels = [curve.values.columns.get_level_values(i) for i in range(len(curve.over))]
    codes = [pd.factorize(level, sort=True) for level in levels]
    return np.stack([code for code, _ in codes], axis=1), tuple(len(values) for _, values in codes)


def _blocks(curve: Curve) -> np.ndarray:
    """(DRAWS, points) positions of points: blocks of neighbours, about the root of each axis long, the same each time.

    Where the grid has a gap, its nearest point stands in.
    """
    place, shape = _places(curve)
    cells = np.indices(shape).reshape(2, -1).T
    nearest = ((cells[:, None] - place[None]) ** 2).sum(axis=2).argmin(axis=1).reshape(shape)
    side = [max(2, round(math.sqrt(n))) for n in shape]
    blocks = math.ceil(len(place) / math.prod(side))
    rng = np.random.default_rng(0)
    corner = [rng.integers(0, n - s + 1, (DRAWS, blocks, 1, 1)) for n, s in zip(shape, side, strict=True)]
    inside = np.arange(side[0])[:, None], np.arange(side[1])[None]
    return nearest[corner[0] + inside[0], corner[1] + inside[1]].reshape(DRAWS, -1)
