"""Evidence: the rows of the tidy table that one claim may rest on, and the curves that they make."""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd

# One curve never mixes members that differ in these (rule 6), as far as the table has them. `age` is the code version
# counted back from its model family's newest, because families count their versions apart.
# `parent_steps` keeps apart the members derived from parents that were trained differently.
BUDGET = ("steps", "parent_steps", "precision", "batch_size", "lr", "weight_decay", "objective")
BUDGET += ("hidden", "channels", "latent_dim", "likelihood", "sigma", "n_test", "data_identity", "age")
PRECISIONS = ("fp64", "full", "bf16")

COLUMNS = ("key", "seed", "steps", "step", "status", "part", "measure", "arguments", "value", "version")


class ClaimError(ValueError):
    """A table from which no honest verdict can be computed: what came, what was wanted, the next step."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One measure over one axis, or over several.

    `values` is seeds x grid in the measure's unit, NaN where a member is absent or diverged; `over` names the axis, and
    with a tuple of axes each point of the grid is a tuple of their values. `where` is what selected it, `data` the
    image sets it came from, `diverged` how many selected members diverged. After `complete`, `dropped` counts the
    incomplete seeds, `left_out` names grid points that too few seeds have, and `lacks` says what the claim would need
    that is not there ("" where nothing is missing).
    """

    values: pd.DataFrame
    over: str | tuple[str, ...]
    where: Mapping[str, Any]
    data: tuple[str, ...] = ()
    diverged: int = 0
    dropped: int = 0
    left_out: tuple = ()
    lacks: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All rows of one budget (the values of `BUDGET` in `budget`), read at one `step` of it.

    Where a claim is judged a data set at a time, `of` is the paper's set that these rows are of, or of a copy of.
    """

    measures: Mapping[str, pd.DataFrame] = field(repr=False)
    diverged: pd.DataFrame = field(repr=False)
    budget: Mapping[str, Any]
    step: int
    of: str = ""

    def at(self, share: float) -> "Evidence":
        """The same budget after `share` of its steps."""
        step = round(share * self.budget["steps"])
        return self if step == self.step else replace(self, step=step)

    def select(self, measure: str, *, part: str, arguments: str = "", steps: str = "now", **where: Any) -> pd.DataFrame:
        """Finite rows of one measure; `where` gives a field's value (None: unset), or a tuple of those that will do.

        `steps`: "now" the rows at this evidence's step, "until" the history up to it (early stopping), "any" the last
        row that each member has (what does not depend on training: floors).
        """
        rows = self.measures.get(measure)
        if rows is None:
            return pd.DataFrame(columns=list(dict.fromkeys((*COLUMNS, "data", *where))))
        keep = (rows["part"] == part) & (rows["arguments"] == arguments) & _matches(rows, where)
        if steps != "any":
            keep &= rows["step"] == self.step if steps == "now" else rows["step"] <= self.step
        rows = only(rows, keep)
        rows = only(rows, rows["version"] == rows.groupby(["key", "step"])["version"].transform("max"))
        return only(rows, rows["step"] == rows.groupby("key")["step"].transform("max")) if steps == "any" else rows

    def curve(
        self,
        measure: str,
        *,
        part: str,
        arguments: str = "",
        over: str | tuple[str, ...] = "beta",
        between: tuple[float, float] = (-math.inf, math.inf),
        steps: str = "now",
        **where: Any,
    ) -> Curve:
        """The measure as seeds x `over`, for grid points in the closed range `between` along each axis.

        Equal rows given twice count once and an older version of a measure gives way to the newest. Two members, or two
        values, in one cell are a `ClaimError`: they would have to be averaged, which mixes what differs.
        """
        rows = self.select(measure, part=part, arguments=arguments, steps=steps, **where)
        axes = list(as_tuple(over))
        rows = _within(rows, axes, between).drop_duplicates(["key", "seed", *axes, "value"])
        if (twice := rows.duplicated(["seed", *axes], keep=False)).any():
            clash = only(rows, twice).sort_values(["seed", *axes]).iloc[:2]
            point = " and ".join(f"{axis} {clash[axis].iloc[0]}" for axis in axes)
            raise ClaimError(
                f"two values of {measure} ({part}) for seed {clash['seed'].iloc[0]} and {point}: "
                f"{clash['value'].tolist()} from members {[str(key)[:12] for key in clash['key']]}. One was wanted: "
                "select by the field in which they differ, or keep one of the two runs."
            )
        lost = _within(only(self.diverged, _matches(self.diverged, where)), axes, between)
        values = rows.pivot(index="seed", columns=over if isinstance(over, str) else axes, values="value").astype(float)
        # A diverged member has no value, but it was run: its seed and its grid point belong to the curve.
        values = values.reindex(
            index=values.index.union(lost["seed"].unique()),
            columns=values.columns.union(lost.set_index(axes).index.unique()),
        )
        what = ", ".join(f"{name} {_among(value)}" for name, value in where.items())
        return Curve(
            values=values,
            over=over,
            where=where,
            data=tuple(sorted(rows["data"].unique())) if "data" in rows else (),
            diverged=len(lost),
            lacks="" if len(rows) or len(lost) else f"no {measure} ({part}) of {what}",
        )


def budgets(
    table: pd.DataFrame,
    *,
    compares: Collection[str] = (),
    within: Collection[str] = (),
    untrained: Collection[str] = (),
) -> list[Evidence]:
    """Split the table into evidence of one budget each, the largest first.

    `compares`: fields of `BUDGET` that the claim itself compares, so they do not split; `within`: further fields that
    do. To compare "steps" is for what no training changes, read by `select(steps="any")`; where that is but a part of a
    claim, `untrained` names those measures, and evidence of any budget has all their rows of the same data. Of equal
    steps, the newest code comes first, then the finest precision, then what has more rows.
    """
    if table.empty:
        return []
    if missing := [name for name in COLUMNS if name not in table]:
        raise ClaimError(f"the tidy table lacks {missing}; wanted one row a measured value, with {list(COLUMNS)}.")
    if "code_version" in table:
        family = table["model"] if "model" in table else pd.Series("", index=table.index)
        table = table.assign(age=table["code_version"].groupby(family).rank("dense", ascending=False) - 1)
    fields = [name for name in (*BUDGET, *within) if name in table and name not in compares]
    table = table.assign(arguments=table["arguments"].fillna("")).reset_index(drop=True)
    usable = (table["status"] == "finished") & np.isfinite(table["value"])
    shared = only(table, usable & table["measure"].isin(list(untrained)))
    found = []
    for values, rows in table.groupby(fields, dropna=False, sort=False) if fields else [((), table)]:
        pairs = zip(fields, tuple(values), strict=True)  # pyright: ignore[reportArgumentType]
        budget: dict[str, Any] = {name: None if value != value else value for name, value in pairs}
        budget.setdefault("steps", rows["steps"].max())
        if "batch_size" not in budget and "batch_size" in rows:
            budget["batch_size"] = rows["batch_size"].min()
        groups = only(rows, usable.loc[rows.index]).groupby("measure")
        measures = {str(name): group for name, group in groups}
        same = {"data_identity": budget["data_identity"]} if "data_identity" in budget else {}
        measures |= {str(name): group for name, group in only(shared, _matches(shared, same)).groupby("measure")}
        lost = only(rows, rows["status"] != "finished").drop_duplicates("key")
        found.append(Evidence(measures, lost, budget, step=int(budget["steps"])))
    return sorted(found, key=order_of)


def order_of(evidence: Evidence) -> tuple:
    """Sorts evidence: most steps, newest code, finest precision, most rows first."""
    budget = evidence.budget
    precision = budget.get("precision")
    rank = PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)
    rest = str(sorted((name, str(value)) for name, value in budget.items()))  # the last word, so that order is total
    return -budget["steps"], budget.get("age", 0), rank, -sum(map(len, evidence.measures.values())), rest


def complete(*curves: Curve, points: int = 1, ranges: Iterable[tuple[float, float]] = ()) -> tuple[Curve, ...]:
    """Cut curves to one grid and to the seeds that have all of it, so that every difference is paired.

    The grid must hold `points` values, one at least in each closed range of `ranges`: those are kept whatever it costs
    in seeds. Any other grid point that would leave fewer than three complete seeds is left out, so that one more beta
    of one seed never undoes what three seeds say. What is kept depends on which members there are, never on a value.
    """
    over = curves[0].over
    present = [curve.values.notna() for curve in curves]
    seeds_seen = reduce(pd.Index.union, (cells.index for cells in present))
    grid = reduce(pd.Index.intersection, (cells.columns for cells in present))
    aligned = [held.reindex(index=seeds_seen, columns=grid, fill_value=False).to_numpy() for held in present]
    cells = dict(zip(grid.tolist(), np.logical_and.reduce(aligned).T, strict=True))
    count = {point: int(held.sum()) for point, held in cells.items()}

    lacks = [curve.lacks for curve in curves if curve.lacks][:1]
    needed = []
    for low, high in ranges:
        if inside := [point for point in count if low <= point <= high]:
            needed.append(max(inside, key=lambda point: count[point]))
        elif not lacks:
            lacks.append(f"no {over} {low:g}" if low == high else f"no {over} from {low:g} to {high:g}")

    keep = dict.fromkeys(needed)
    held = np.ones(len(seeds_seen), dtype=bool)
    for point in keep:
        held = held & cells[point]
    floor = min(3, int(held.sum()) if keep else max(count.values(), default=0))
    for point in sorted(count, key=lambda point: -count[point]):
        both = held & cells[point]
        if point not in keep and both.sum() >= floor:
            keep[point], held = None, both
    if not lacks and len(keep) < points:
        lacks.append(f"{len(keep)} of at least {points} values of {over}")

    kept, seeds = sorted(keep), seeds_seen[held]
    return tuple(
        replace(
            curve,
            values=curve.values.reindex(index=seeds, columns=grid[grid.isin(kept)].sort_values()),
            diverged=max(each.diverged for each in curves),
            dropped=len(seeds_seen) - len(seeds),
            left_out=tuple(sorted(set(count) - set(kept))),
            lacks=lacks[0] if lacks else "",
        )
        for curve in curves
    )


def choose(curve: Curve, pick: Callable[[pd.Series], Hashable], seed: int | None = None) -> tuple[Any, pd.DataFrame]:
    """Rule 5: one seed's grid names a point (`pick`: its values over the grid -> the point); the other seeds decide.

    Returns the point and the values (seeds x grid) of every seed but the one that chose, whose own never enter. The
    choosing seed is `chooser`'s unless given. `curve` must not be `complete`d:
    the fresh seeds need only have the chosen points. No seed at all: `ClaimError`.
    """
    values = curve.values
    first = chooser(curve) if seed is None else seed
    return pick(values.loc[first].dropna()), values.drop(index=first)


def chooser(curve: Curve) -> Any:
    """Rule 5: the seed that chooses, the one with the most of the grid, then the lowest. None at all: `ClaimError`."""
    if curve.values.empty:
        raise ClaimError(f"no seed to choose with: {curve.lacks or 'the curve is empty'}; check curve.lacks first.")
    return curve.values.notna().sum(axis=1).sort_index().idxmax()


def _within(rows: pd.DataFrame, axes: list[str], between: tuple[float, float]) -> pd.DataFrame:
    """The rows that have a value in the closed range along each axis; none where the table lacks an axis."""
    if lacking := {axis: np.array([]) for axis in axes if axis not in rows}:
        return rows.iloc[:0].assign(**lacking)
    return only(rows, np.logical_and.reduce([rows[axis].between(*between) for axis in axes]))


def _matches(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    keep = pd.Series(True, index=rows.index)
    for name, wanted in where.items():
        found = rows[name] if name in rows else pd.Series(None, index=rows.index, dtype=object)
        keep &= found.isin(as_tuple(wanted)) | (found.isna() if None in as_tuple(wanted) else False)
    return keep


def only(rows: pd.DataFrame, keep: Any) -> pd.DataFrame:
    """The rows to keep: `rows[keep]`, which pandas does not say is a frame."""
    kept: Any = rows[keep]
    return kept


def as_tuple(value: Any) -> tuple:
    """A value as a tuple of the one, a tuple as it is."""
    return value if isinstance(value, tuple) else (value,)


def _among(value: Any) -> str:
    return " or ".join(str(each) for each in as_tuple(value) if each is not None)
