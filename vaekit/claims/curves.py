"""Curves: the rows of the tidy table that one claim may rest on, and the curves that they make."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

from vaekit.data import NAMES, about
from vaekit.settings import WORDS
from vaekit.store import table as tidy

COLUMNS = ("key", "seed", "steps", "step", "status", "part", "measure", "arguments", "value", "version")
# Copies of the paper's sets, which stand for them where a claim is judged a set at a time. A set that is made to the
# paper's recipe is the paper's own data: its claims name it as such.
COPIES = {name: known.copy_of for name in NAMES if (known := about(name)).copy_of}

Points = float | tuple[float, float]  # a grid point, or a closed range of them

# In place of a claim's axes, where no training changes its values: all members are one evidence.
EVERY_FIELD = None


class ClaimError(ValueError):
    """A table or a claim from which no honest verdict can be computed."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One measure over one axis, or over several: each point of the grid is then a tuple of their values.

    `values` is seeds x grid in the measure's unit, NaN where a member is absent or diverged; `where` selected its rows,
    `diverged` members of which diverged. `complete` dropped `dropped` seeds and the grid points `left_out`. `missing`
    is what the claim needs and the table lacks, "" for nothing.
    """

    values: pd.DataFrame
    over: str | tuple[str, ...]
    where: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    diverged: int = 0
    dropped: int = 0
    left_out: tuple = ()
    missing: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All rows of one budget, read at one `step` of it.

    `budget` has the values of the `fields` of a member in which all rows agree: all but the claim's axes. `older` says
    that newer code of their model family exists. Curves are cached, as many claims read the same ones.
    """

    measures: Mapping[str, pd.DataFrame] = field(repr=False)
    diverged: pd.DataFrame = field(repr=False)
    budget: Mapping[str, Any]
    fields: Collection[str] = field(repr=False)
    step: int
    older: bool = False
    _curves: dict = field(default_factory=dict, init=False, repr=False)

    @property
    def data_set(self) -> str:
        """The paper's data set that these rows are of, or of a copy of; "" where they are of several."""
        data = self.budget.get("data") or ""
        return COPIES.get(data, data)

    def at(self, share: float) -> "Evidence":
        """The same budget after `share` of its steps."""
        step = round(share * self.budget["steps"])
        return self if step == self.step else replace(self, step=step)

    def select(self, measure: str, *, at: str = "now", **where: Any) -> pd.DataFrame:
        """Finite rows of one measure, of its newest version; `where` is that of `table.select`.

        `at` is "now", this evidence's step; "until", all steps up to it; "last", the last that each member has, for
        what no training changes.
        """
        tidy.check_measure(measure, self.measures)
        rows = self.measures.get(measure, self.diverged.iloc[:0])
        if at == "until":
            return tidy.having(rows.loc[rows["step"] <= self.step], **where)
        return tidy.select(rows, measure, self.step if at == "now" else at, **where)

    def curve(
        self,
        measure: str,
        *,
        part: str,
        over: str | tuple[str, ...] = "beta",
        between: tuple[float, float] = (-math.inf, math.inf),
        at: str = "now",
        **where: Any,
    ) -> Curve:
        """The measure as seeds x `over`, for grid points in the closed range `between` along each axis.

        `where` names fields of the members and arguments of the measure (`samples=1`; `layer=None`: without one). Equal
        rows count once.

        Raises:
            ClaimError: a seed and a point have two values, whose mean would mix what differs.
        """
        name = measure, part, over, between, at, *where.items()
        if name not in self._curves:
            axes = list(as_tuple(over))
            rows = _within(self.select(measure, at=at, part=part, **where), axes, between)
            rows = _one_a_cell(rows, axes, f"{measure} ({part})")
            of_members = {field: value for field, value in where.items() if field in self.fields}
            values = rows.pivot(index="seed", columns=over if isinstance(over, str) else axes, values="value")
            lost = self.diverged
            if len(lost):  # a diverged member has no value, but it was run: its seed and its point belong to the curve
                lost = _within(tidy.having(lost, **of_members), axes, between)
            if len(lost):
                points = values.columns.union(lost.set_index(axes).index.unique())
                values = values.reindex(index=values.index.union(lost["seed"].unique()), columns=points)
            what = ", ".join(f"{field} {_among(value)}" for field, value in of_members.items())
            self._curves[name] = Curve(
                values=values.astype(float),
                over=over,
                where=where,
                data=tuple(sorted(rows["data"].unique())) if "data" in rows else (),
                diverged=len(lost),
                missing="" if len(rows) or len(lost) else f"no {measure} ({part})" + (f" of {what}" if what else ""),
            )
        return self._curves[name]

    def distinct(self, measure: str, *, missing: str, **where: Any) -> Curve:
        """The distinct values of what no training changes, whichever members have them, in place of one a seed."""
        rows = self.select(measure, at="last", **where)
        values = pd.DataFrame({"": rows["value"].unique()}, dtype=float)
        data = tuple(sorted(set(rows["data"])))
        return Curve(values, "", where, data, missing="" if len(rows) else missing)


def evidence_by_budget(
    table: pd.DataFrame, axes: Collection[str] | None = (), *, untrained: Collection[str] = (), one_set: bool = False
) -> list[Evidence]:
    """Cut the tidy table into evidence of one budget each, by `table.budgets` and in its order.

    Args:
        table: the tidy table, of one study.
        axes: the fields of a member that the claim selects by or compares; `EVERY_FIELD`: nothing is cut.
        untrained: measures that no training changes: evidence of any budget has all their rows of the same images.
        one_set: with `EVERY_FIELD`, cut by data set all the same.

    Raises:
        ClaimError: the table lacks columns.
    """
    if table.empty:
        return []
    if absent := [name for name in COLUMNS if name not in table]:
        raise ClaimError(f"the tidy table lacks {absent}; wanted one row a measured value, with {list(COLUMNS)}.")
    table = table.reset_index(drop=True)
    if axes is None:
        fixed = ["data"] if one_set else []
        cut = [rows for _, rows in table.groupby("data")] if one_set else [table]
    else:
        fixed = tidy.budget_fields(table, axes)
        cut = tidy.budgets(table, axes)
    fields = {*tidy.budget_fields(table), *(axes or ())}
    usable, outdated = _usable(table), tidy.ages(table) > 0
    shared = table.loc[usable & table["measure"].isin(list(untrained))]

    def evidence(rows: pd.DataFrame) -> Evidence:
        budget = _budget(rows, fixed)
        same_images = {name: budget[name] for name in ("data", "data_identity") if name in budget}
        measures = _by_measure(rows.loc[usable[rows.index]]) | _by_measure(tidy.having(shared, **same_images))
        lost = rows.loc[rows["status"] != "finished"].drop_duplicates("key")
        return Evidence(measures, lost, budget, fields, int(budget["steps"]), bool(outdated[rows.index].any()))

    return [evidence(rows) for rows in cut]


def _budget(rows: pd.DataFrame, fields: Iterable[str]) -> dict[str, Any]:
    """What the rows agree in, None where it is empty; of steps and batches that differ, the most and the least."""
    cells = {name: rows[name].iloc[0] for name in fields}
    budget: dict[str, Any] = {name: None if cell != cell else cell for name, cell in cells.items()}
    budget.setdefault("steps", rows["steps"].max())
    if "batch_size" in rows:
        budget.setdefault("batch_size", rows["batch_size"].min())
    return budget


def _by_measure(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {str(name): group for name, group in rows.groupby("measure")}


def _usable(table: pd.DataFrame) -> pd.Series:
    """Which rows have a finite value of a finished member, of the newest version of that value."""
    usable = (table["status"] == "finished") & np.isfinite(table["value"])
    versions = table.groupby("measure")["version"].transform("nunique")
    several = table.loc[usable & (versions > 1)]
    if len(several):
        of_one_value = several.groupby(["key", "step", "part", "measure", "arguments"], dropna=False)["version"]
        older = several["version"] < of_one_value.transform("max")
        usable = usable & ~older.reindex(table.index, fill_value=False)
    return usable


def complete(*curves: Curve, points: int = 1, holding: Iterable[Points] = ()) -> tuple[Curve, ...]:
    """Cut curves to one grid and to the seeds that have all of it, so that every difference is paired.

    The grid must hold `points` values, and those of `holding` (one in each closed range of it): they are kept whatever
    it costs in seeds. Any other grid point that would leave fewer than three complete seeds is left out, so that one
    more beta of one seed never undoes what three seeds say. The cut depends on which members exist, never on a value.
    """
    axis, cells = WORDS.get(str(curves[0].over), curves[0].over), _present(curves)
    seeds_of = dict(zip(cells.columns.tolist(), cells.to_numpy().T, strict=True))
    count = {point: int(seeds.sum()) for point, seeds in seeds_of.items()}
    missing = [curve.missing for curve in curves if curve.missing]
    keep = {}
    held = np.ones(len(cells), dtype=bool)
    for wanted in holding:
        low, high = wanted if isinstance(wanted, tuple) else (wanted, wanted)
        if inside := [point for point in count if low <= point <= high]:
            point = max(inside, key=lambda point: count[point])
            keep[point], held = None, held & seeds_of[point]
        else:
            missing.append(f"no {axis} {low:g}" if low == high else f"no {axis} from {low:g} to {high:g}")

    floor = min(3, int(held.sum()) if keep else max(count.values(), default=0))
    for point in sorted(count, key=lambda point: -count[point]):
        both = held & seeds_of[point]
        if point not in keep and both.sum() >= floor:
            keep[point], held = None, both
    if len(keep) < points:
        missing.append(f"{len(keep)} of at least {points} values of {axis}")
    grid = cells.columns[cells.columns.isin(list(keep))].sort_values()
    return _cut(curves, cells.index[held], grid, cells.columns, missing, dropped=int((~held).sum()))


def complete_grid(*curves: Curve) -> tuple[Curve, ...]:
    """Cut surfaces to one grid, with five values of each axis or more, and to the seeds that hold it.

    These seeds have at least nine tenths of the points of the one that has most: fresh seeds of a few chosen members
    (rule 5) have not. The cut depends on which members exist, never on a value.
    """
    cells = _present(curves)
    count = cells.sum(axis=1)
    full = cells.loc[count >= max(1, 0.9 * count.max())] if len(cells) else cells
    grid = cells.columns[full.all()] if len(full) else cells.columns[:0]
    missing = [curve.missing for curve in curves if curve.missing]
    for name in curves[0].over:
        values = grid.get_level_values(name).nunique()
        missing += [f"{values} of at least 5 values of {WORDS.get(name, name)}"] * (values < 5)
    return _cut(curves, full.index, grid, cells.columns[full.any()], missing)


def _present(curves: Iterable[Curve]) -> pd.DataFrame:
    """Which seeds have which points in all curves: the seeds of any of them, the points that they share."""
    present = [curve.values.notna() for curve in curves]
    seeds = reduce(pd.Index.union, (cells.index for cells in present))
    grid = reduce(pd.Index.intersection, (cells.columns for cells in present))
    aligned = [cells.reindex(index=seeds, columns=grid, fill_value=False).to_numpy() for cells in present]
    return pd.DataFrame(np.logical_and.reduce(aligned), seeds, grid, dtype=bool)


def _cut(
    curves: Iterable[Curve], seeds: pd.Index, grid: pd.Index, points: pd.Index, missing: list[str], dropped=0
) -> tuple[Curve, ...]:
    """The curves at these seeds and at the `grid`, which has left out some of the `points`."""
    cut = {
        "diverged": max(curve.diverged for curve in curves),
        "dropped": dropped,
        "left_out": tuple(sorted(set(points) - set(grid))),
        "missing": missing[0] if missing else "",
    }
    return tuple(replace(curve, values=curve.values.reindex(index=seeds, columns=grid), **cut) for curve in curves)


def selection_seed(curve: Curve) -> Any:
    """Rule 5: the seed that chooses, the one with the most of the grid, then the lowest.

    Raises:
        ClaimError: the curve has no seed.
    """
    if curve.values.empty:
        raise ClaimError(f"no seed to choose with: {curve.missing or 'the curve is empty'}; check curve.missing first.")
    return curve.values.notna().sum(axis=1).sort_index().idxmax()


def decreases_along(curve: Curve, axis: str, tie: float = 0.0) -> Curve:
    """Where a surface falls from one value of `axis` to the next: 1 or 0 at the pair's lower end.

    NaN at the last value, beside a gap in the grid, and where both ends of a pair are below `tie`.
    """
    values = curve.values.T
    if values.empty:
        return curve
    levels = [np.unique(values.index.get_level_values(name)) for name in curve.over]
    low = values.reindex(pd.MultiIndex.from_product(levels, names=curve.over))
    high = low.groupby(level=[name for name in curve.over if name != axis]).shift(-1)
    tied = (low < tie) & (high < tie)
    fell = (high < low).astype(float).where(low.notna() & high.notna() & ~tied)
    return replace(curve, values=fell.reindex(values.index).T)


def _one_a_cell(rows: pd.DataFrame, axes: list[str], what: str) -> pd.DataFrame:
    """The rows, each once."""
    rows = rows.drop_duplicates(["key", "seed", *axes, "value"])
    if (twice := rows.duplicated(["seed", *axes], keep=False)).any():
        clash = rows.loc[twice].sort_values(["seed", *axes]).iloc[:2]
        point = " and ".join(f"{axis} {clash[axis].iloc[0]}" for axis in axes)
        raise ClaimError(
            f"two values of {what} for seed {clash['seed'].iloc[0]} and {point}: {clash['value'].tolist()} "
            f"from members {[str(key)[:12] for key in clash['key']]}. One was wanted: select by the field or the "
            "argument in which they differ, or keep one of the two runs."
        )
    return rows


def _within(rows: pd.DataFrame, axes: list[str], between: tuple[float, float]) -> pd.DataFrame:
    """The rows that have a value in the closed range along each axis; none where the table lacks an axis."""
    if missing_axes := {axis: np.array([]) for axis in axes if axis not in rows}:
        return rows.iloc[:0].assign(**missing_axes)
    return rows.loc[np.logical_and.reduce([rows[axis].between(*between) for axis in axes])]


def as_tuple(value: Any) -> tuple:
    """A value as a tuple of the one, a tuple as it is."""
    return value if isinstance(value, tuple) else (value,)


def _among(value: Any) -> str:
    return " or ".join(str(one) for one in as_tuple(value) if one is not None)
