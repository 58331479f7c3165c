"""Scope: on what a claim was measured, beside what the paper ran."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from vaekit.claims.evidence import Evidence, as_tuple
from vaekit.claims.parts import Finding, Part
from vaekit.claims.statement import PaperScale
from vaekit.claims.statistics import Statistic

# What became of a data set on its way here; any other set is the original. Made sets are always at hand, and one that
# is made to the paper's recipe is the paper's own data: its claims name it as such.
ORIGIN = {"tetrominoes": "made", "dsprites_like": "made", "cifar10_jpeg": "JPEG copy"}

# Copies of the paper's sets, which stand for them where a claim is judged a set at a time.
COPIES = {"cifar10_jpeg": "cifar10"}

MADE = {name for name, origin in ORIGIN.items() if origin == "made"}


@dataclass(frozen=True)
class Scope:
    """On what a claim was measured. `grid` holds an axis' values; `whole_grid` says if they hold all of the paper's."""

    steps: int
    share: float
    batch_size: int
    data: tuple[str, ...]
    seeds: int
    paper_seeds: int
    grid: Mapping[str, tuple]
    paper_grid: Mapping[str, tuple]
    whole_grid: bool
    remarks: tuple[str, ...]
    at_the_papers_scale: bool

    def __str__(self) -> str:
        says = (
            [f"{self.steps:,} steps ({100 * self.share:.3g} % of the paper's), batch {self.batch_size}"]
            if self.steps
            else []
        )
        says += [", ".join(f"{name} ({ORIGIN.get(name, 'original')})" for name in self.data)] if self.data else []
        says += [f"{self.seeds} seed{'s' * (self.seeds != 1)} (paper {self.paper_seeds})"]
        for axis, values in self.grid.items():
            held = len(_held(values, self.paper_grid[axis]))
            says.append(f"{axis} {_list(values)} ({held} of the paper's {len(self.paper_grid[axis])})")
        says += self.remarks
        return "; ".join([*says, "at the paper's scale"] if self.at_the_papers_scale else says)


def scope_of(paper: PaperScale, trained: bool, evidence: Evidence, judged: list[tuple[Part, Finding]]) -> Scope:
    """What the findings on this evidence rest on; the steps count only for what is `trained`."""
    budget = evidence.budget
    used = [part.statistic for part, finding in judged if finding.seeds]
    grid = {}
    for axis in paper.grid:
        along = [points for made in used if (points := _along(made, axis)) is not None]
        across = {value for made in used for value in as_tuple(made.where.get(axis, ()))}
        grid[axis] = tuple(sorted(set.intersection(*along) if along else across))
    data = tuple(sorted({name for made in used for name in made.data}))
    seeds = min(finding.seeds for _, finding in judged)
    strange = [name for name, value in paper.settings.items() if budget.get(name, value) != value]
    whole = len(used) == len(judged) and all(
        len(_held(grid[axis], values)) == len(values) for axis, values in paper.grid.items()
    )
    whole = whole and all(_product(made, paper.grid) for made in used if isinstance(made.over, tuple))
    remarks = [f"{name} {_list([budget[name]])} (paper {_list([paper.settings[name] or 'all'])})" for name in strange]
    remarks += [f"precision {budget['precision']}"] if "precision" in budget else []
    remarks += [f"lr {budget['lr']:g}"] if budget.get("lr") is not None else []
    remarks += ["an older code version"] * bool(budget.get("age", 0))
    dropped, lost = max(made.dropped for made in used), max(made.diverged for made in used)
    left_out = sorted({point for made in used for point in made.left_out})
    remarks += [f"{dropped} incomplete seed{'s' * (dropped > 1)} dropped"] * (dropped > 0)
    remarks += [f"{lost} member{'s' * (lost > 1)} diverged"] * (lost > 0)
    shown = f"{len(left_out)} points" if isinstance(next(iter(left_out), None), tuple) else _list(left_out)
    remarks += [f"{shown} left out: too few seeds"] * bool(left_out)
    batch = int(budget.get("batch_size", 0))
    return Scope(
        steps=int(budget["steps"]) if trained else 0,
        share=budget["steps"] / paper.steps if paper.steps else 1.0,
        batch_size=batch,
        data=data,
        seeds=seeds,
        paper_seeds=paper.seeds,
        grid=grid,
        paper_grid=paper.grid,
        whole_grid=whole,
        remarks=tuple(remarks),
        at_the_papers_scale=whole
        and not strange
        and budget["steps"] >= paper.steps
        and batch >= paper.batch_size
        and set(data) <= set(paper.data)
        and seeds >= paper.seeds,
    )


def _along(made: Statistic, axis: str) -> set | None:
    """The values that a statistic's grid has along one axis; None where it does not run along it."""
    if isinstance(made.over, tuple):
        return {point[made.over.index(axis)] for point in made.grid} if axis in made.over else None
    return set(made.grid) if made.over == axis else None


def _product(made: Statistic, grid: Mapping[str, tuple]) -> bool:
    """Whether a grid over several axes holds every combination of the paper's values."""
    have = {tuple(f"{value:.9g}" for value in point) for point in made.grid}
    return all(tuple(f"{value:.9g}" for value in point) in have for point in product(*(grid[a] for a in made.over)))


def _held(values: Iterable[float], wanted: Iterable[float]) -> list[float]:
    """Those of `wanted` that `values` holds, to 9 digits."""
    return [want for want in wanted if any(math.isclose(want, value, rel_tol=1e-9) for value in values)]


def _list(values: Iterable[Any]) -> str:
    values = list(values)
    if len(values) > 12 and all(isinstance(value, float) for value in values):
        return f"{min(values):g} to {max(values):g}"
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
