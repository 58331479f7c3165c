"""Scope: on what a claim was measured, beside what the paper ran."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from vaekit.claims.curves import Curve, Evidence, as_tuple
from vaekit.claims.statistics import Statistic
from vaekit.data import NAMES, about


@dataclass(frozen=True)
class PaperScale:
    """What the paper ran: `grid` gives an axis' values, `settings` the fields of a member that it held fixed.

    `data` may stay empty where the scale stands under its data set in `Claim.scale`.
    """

    steps: int
    batch_size: int
    seeds: int
    data: tuple[str, ...] = ()
    grid: Mapping[str, tuple] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Scope:
    """On what the criteria of a claim rest, beside what the `paper` ran.

    `steps` is 0 where nothing is trained, `seeds` the least number of any criterion, `grid` the values along the
    paper's axes that all criteria share. `remarks` are settings other than the paper's, how it was computed, and what
    was lost.
    """

    paper: PaperScale
    steps: int
    batch_size: int
    data: tuple[str, ...]
    seeds: int
    grid: Mapping[str, tuple]
    remarks: tuple[str, ...]
    at_the_papers_scale: bool

    def __str__(self) -> str:
        says = []
        if self.steps:
            share = 100 * self.steps / self.paper.steps if self.paper.steps else 100
            says.append(f"{self.steps:,} steps ({share:.3g} % of the paper's), batch {self.batch_size}")
        if self.data:
            # A table may have a set that this version does not know.
            origins = {name: about(name).origin if name in NAMES else "original" for name in self.data}
            says.append(", ".join(f"{name} ({origin})" for name, origin in origins.items()))
        says.append(f"{self.seeds or 'no whole'} seed{'s' * (self.seeds > 1)} (paper {self.paper.seeds})")
        for axis, values in ((axis, values) for axis, values in self.grid.items() if values):
            wanted = self.paper.grid[axis]
            says.append(f"{axis} {_list(values)} ({len(_held(values, wanted))} of the paper's {len(wanted)})")
        says += [*self.remarks, *["at the paper's scale"] * self.at_the_papers_scale]
        return "; ".join(says)


def scope_of(paper: PaperScale, evidence: Evidence, statistics: Sequence[Statistic], trained: bool) -> Scope:
    """Read the scope of statistics off their evidence and their curves; one at least must have been run."""
    budget = evidence.budget
    used = [statistic for statistic in statistics if statistic.seeds]
    curves = [curve for statistic in used for curve in statistic.curves]
    grid = {axis: _values_along(axis, curves) for axis in paper.grid}
    whole_grid = (
        len(used) == len(statistics)
        and all(len(_held(grid[axis], values)) == len(values) for axis, values in paper.grid.items())
        and all(_every_pair(curve, paper.grid) for curve in curves if isinstance(curve.over, tuple))
    )
    others = [name for name, value in paper.settings.items() if budget.get(name, value) != value]
    remarks = [f"{name} {_list([budget[name]])} (paper {_list([paper.settings[name] or 'all'])})" for name in others]
    steps, batch_size = int(budget["steps"]), int(budget.get("batch_size", 0))
    data = tuple(sorted({name for curve in curves for name in curve.data}))
    seeds = min(statistic.seeds for statistic in statistics)
    return Scope(
        paper=paper,
        steps=steps if trained else 0,
        batch_size=batch_size,
        data=data,
        seeds=seeds,
        grid=grid,
        remarks=(*remarks, *_how_computed(evidence), *_lost(curves)),
        at_the_papers_scale=whole_grid
        and not others
        and steps >= paper.steps
        and batch_size >= paper.batch_size
        and set(data) <= set(paper.data)
        and seeds >= paper.seeds,
    )


def _how_computed(evidence: Evidence) -> list[str]:
    budget = evidence.budget
    remarks = [f"precision {budget['precision']}"] if "precision" in budget else []
    remarks += [f"lr {budget['lr']:g}"] if budget.get("lr") is not None else []
    return remarks + ["an older code version"] * evidence.older


def _lost(curves: Sequence[Curve]) -> list[str]:
    dropped, diverged = max(curve.dropped for curve in curves), max(curve.diverged for curve in curves)
    left_out = sorted({point for curve in curves for point in curve.left_out})
    shown = f"{len(left_out)} points" if left_out and isinstance(left_out[0], tuple) else _list(left_out)
    return [
        *[f"{dropped} incomplete seed{'s' * (dropped > 1)} dropped"] * (dropped > 0),
        *[f"{diverged} member{'s' * (diverged > 1)} diverged"] * (diverged > 0),
        *[f"{shown} left out: too few seeds"] * bool(left_out),
    ]


def _values_along(axis: str, curves: Iterable[Curve]) -> tuple:
    """The values of one axis that all grids along it share; where none runs along it, those that selected curves."""
    along, selected = [], set()
    for curve in curves:
        if axis in as_tuple(curve.over):
            along.append(set(curve.values.columns.get_level_values(axis)))
        selected |= set(as_tuple(curve.where.get(axis, ())))
    return tuple(sorted(set.intersection(*along) if along else selected))


def _every_pair(curve: Curve, grid: Mapping[str, tuple]) -> bool:
    """Whether a grid over several axes holds every combination of the paper's values."""
    have = {tuple(f"{value:.9g}" for value in point) for point in curve.values.columns}
    wanted = product(*(grid[axis] for axis in curve.over))
    return all(tuple(f"{value:.9g}" for value in point) in have for point in wanted)


def _held(values: Iterable[float], wanted: Iterable[float]) -> list[float]:
    """Those of `wanted` that `values` holds, to 9 digits."""
    return [want for want in wanted if any(math.isclose(want, value, rel_tol=1e-9) for value in values)]


def _list(values: Iterable[Any]) -> str:
    values = list(values)
    if len(values) > 12 and all(isinstance(value, float) for value in values):
        return f"{min(values):g} to {max(values):g}"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
