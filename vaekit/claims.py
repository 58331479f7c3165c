"""Claims: from the tidy table to an outcome and a scope, two things that the book shows in two columns.

A claim is a statement of a paper, what the paper says of it, the least evidence that may decide it, and a function from
`Evidence` to `Part`s: each part a statistic with one value a seed, and the threshold it must meet. A claim is the
conjunction of its parts.

    @claim("3.3", "Sparse, one layer: test D is U-shaped in beta", paper="...", scale=PAPER, steps=50_000)
    def one_layer_is_u_shaped(evidence):
        test, train = complete(...)
        return [effect(u_depth(test), above=0), effect(spearman(train), at_least=0.95)]

    verdict_table(CLAIMS, table)

The rules, and where they live:

1. a comparison is one paired difference a seed with a 95 % t interval over three seeds or more: `effect`;
2. "no effect" is an equivalence with a margin, never a failure to find: `absence`;
3. a published single number is met within a tolerance, and one seed decides: `number`;
4. budget: below the least one nothing is decided, the outcomes at 0.8 and at 1.0 of the steps must agree, and below the
   paper's steps an effect may still come and an absence may still go: `verdict`;
5. what is chosen on some seeds is decided on others: `u_depth` (leave one out), `choose`;
6. budgets, precisions and settings are never mixed (`budgets`); many comparisons are corrected (`holm`, `bonferroni`);
7. what is true by construction is marked and not counted: `Claim.by_construction`;
8. where a paper's numbers contradict its text, the numbers decide, and `Claim.note` says so.

Of conjunctions: a false one passes only if its false part does, so "reproduced" needs no correction (an
intersection-union test). A true one is refused as soon as one of k parts is, so with k > 2 "not reproduced" takes
Bonferroni's wider intervals: both errors stay below 5 %.

At a threshold itself: `above`, `below` and the margin of an `absence` are strict, `at_least` and `at_most` are not, a
tolerance includes its ends, and an interval that only touches the threshold refuses nothing.

Pure functions of the table: no model, no store, no randomness.
"""

import math
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtr, stdtrit
from scipy.stats import rankdata

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
NEEDS_DATA, NOT_RUN = "needs data", "not run"

# What became of a data set on its way here; any other set is the original. Made sets are always at hand, and one that
# is made to the paper's recipe is the paper's own data: its claims name it as such.
ORIGIN = {"tetrominoes": "made", "dsprites_like": "made", "cifar10_jpeg": "JPEG copy"}

MADE = {name for name, origin in ORIGIN.items() if origin == "made"}

# One curve never mixes members that differ in these (rule 6), as far as the table has them. `age` is the code version
# counted back from its model family's newest, because families count their versions apart.
BUDGET = ("steps", "precision", "batch_size", "lr", "weight_decay", "objective", "hidden", "latent_dim", "likelihood")
BUDGET += ("sigma", "n_test", "data_identity", "age")
PRECISIONS = ("fp64", "full", "bf16")

COLUMNS = ("key", "seed", "steps", "step", "status", "part", "measure", "arguments", "value", "version")


class ClaimError(ValueError):
    """A table from which no honest verdict can be computed: what came, what was wanted, the next step."""


# Evidence: the rows that one claim may rest on


@dataclass(frozen=True, eq=False)
class Curve:
    """One measure over one axis.

    `values` is seeds x grid in the measure's unit, NaN where a member is absent or diverged; `where` is what selected
    it, `data` the image sets it came from, `diverged` how many selected members diverged. After `complete`, `dropped`
    counts the incomplete seeds, `left_out` names grid points that too few seeds have, and
    `lacks` says what the claim would need that is not there ("" where nothing is missing).
    """

    values: pd.DataFrame
    over: str
    where: Mapping[str, Any]
    data: tuple[str, ...] = ()
    diverged: int = 0
    dropped: int = 0
    left_out: tuple = ()
    lacks: str = ""


@dataclass(frozen=True, eq=False)
class Evidence:
    """All rows of one budget (the values of `BUDGET` in `budget`), read at one `step` of it."""

    measures: Mapping[str, pd.DataFrame] = field(repr=False)
    diverged: pd.DataFrame = field(repr=False)
    budget: Mapping[str, Any]
    step: int

    def at(self, share: float) -> "Evidence":
        """The same budget after `share` of its steps."""
        return replace(self, step=round(share * self.budget["steps"]))

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
        rows = _only(rows, keep)
        rows = _only(rows, rows["version"] == rows.groupby(["key", "step"])["version"].transform("max"))
        return _only(rows, rows["step"] == rows.groupby("key")["step"].transform("max")) if steps == "any" else rows

    def curve(
        self,
        measure: str,
        *,
        part: str,
        arguments: str = "",
        over: str = "beta",
        between: tuple[float, float] = (-math.inf, math.inf),
        steps: str = "now",
        **where: Any,
    ) -> Curve:
        """The measure as seeds x `over`, for grid points in the closed range `between`.

        Equal rows given twice count once and an older version of a measure gives way to the newest. Two members, or two
        values, in one cell are a `ClaimError`: they would have to be averaged, which mixes what differs.
        """
        rows = self.select(measure, part=part, arguments=arguments, steps=steps, **where)
        if over not in rows:
            rows = rows.iloc[:0].assign(**{over: np.array([])})
        rows = _only(rows, rows[over].between(*between)).drop_duplicates(["key", "seed", over, "value"])
        if (twice := rows.duplicated(["seed", over], keep=False)).any():
            clash = _only(rows, twice).sort_values(["seed", over]).iloc[:2]
            raise ClaimError(
                f"two values of {measure} ({part}) for seed {clash['seed'].iloc[0]} and {over} {clash[over].iloc[0]}: "
                f"{clash['value'].tolist()} from members {[str(key)[:12] for key in clash['key']]}. One was wanted: "
                "select by the field in which they differ, or keep one of the two runs."
            )
        lost = self.diverged if over in self.diverged else self.diverged.iloc[:0].assign(**{over: np.array([])})
        lost = _only(lost, _matches(lost, where) & lost[over].between(*between))
        values = rows.pivot(index="seed", columns=over, values="value").astype(float)
        # A diverged member has no value, but it was run: its seed and its grid point belong to the curve.
        values = values.reindex(
            index=values.index.union(lost["seed"].unique()), columns=values.columns.union(lost[over].unique())
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


def budgets(table: pd.DataFrame, *, compares: Collection[str] = (), within: Collection[str] = ()) -> list[Evidence]:
    """Split the table into evidence of one budget each, the largest first.

    `compares`: fields of `BUDGET` that the claim itself compares, so they do not split; `within`: further fields that
    do. Of equal steps, the newest code comes first, then the finest precision, then what has more rows.
    """
    if table.empty:
        return []
    if missing := [name for name in COLUMNS if name not in table]:
        raise ClaimError(f"the tidy table lacks {missing}; wanted one row a measured value, with {list(COLUMNS)}.")
    if "code_version" in table:
        family = table["model"] if "model" in table else pd.Series("", index=table.index)
        table = table.assign(age=table["code_version"].groupby(family).rank("dense", ascending=False) - 1)
    fields = [name for name in (*BUDGET, *within) if name == "steps" or (name in table and name not in compares)]
    table = table.assign(arguments=table["arguments"].fillna("")).reset_index(drop=True)
    usable = (table["status"] == "finished") & np.isfinite(table["value"])
    found = []
    for values, rows in table.groupby(fields, dropna=False, sort=False):
        pairs = zip(fields, tuple(values), strict=True)  # pyright: ignore[reportArgumentType]
        budget: dict[str, Any] = {name: None if value != value else value for name, value in pairs}
        if "batch_size" not in budget and "batch_size" in rows:
            budget["batch_size"] = rows["batch_size"].min()
        groups = _only(rows, usable.loc[rows.index]).groupby("measure")
        measures = {str(name): group for name, group in groups}
        lost = _only(rows, rows["status"] != "finished").drop_duplicates("key")
        found.append(Evidence(measures, lost, budget, step=int(budget["steps"])))
    return sorted(found, key=_order)


def _order(evidence: Evidence) -> tuple:
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
            values=curve.values.reindex(index=seeds, columns=pd.Index(kept, name=over)),
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
    choosing seed is the one with the most of the grid, then the lowest, unless given. `curve` must not be `complete`d:
    the fresh seeds need only have the chosen points. No seed at all: `ClaimError`.
    """
    values = curve.values
    if values.empty:
        raise ClaimError(f"no seed to choose with: {curve.lacks or 'the curve is empty'}; check curve.lacks first.")
    chooser = values.notna().sum(axis=1).sort_index().idxmax() if seed is None else seed
    return pick(values.loc[chooser].dropna()), values.drop(index=chooser)


# Statistics: one value a seed


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
    """Spearman's rho of `x` (points,) with each of `curves` (..., points) -> (...); NaN where one is constant.

    Rounded to 12 digits, so that a threshold that rho meets in exact arithmetic is met.
    """
    a, b = rankdata(x), rankdata(curves, axis=-1)
    a, b = a - a.mean(), b - b.mean(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.round((a * b).sum(axis=-1) / np.sqrt((a**2).sum() * (b**2).sum(axis=-1)), 12)


@dataclass(frozen=True, eq=False)
class Statistic:
    """What a part of a claim rests on: `values`, one a seed (NaN where a seed gives none), and where they came from.

    `interval(level)` is the t interval over the seeds unless `bounds` replaces it: level -> (low, high), for a
    bootstrap over images, counts or Welch's test, in which case one seed may decide and `name` says what it is. `lacks`
    names what would be needed; `doubt` is a reason for which no value may decide ("rates too small").
    """

    name: str
    values: pd.Series
    unit: str = "nats"
    over: str = ""
    grid: tuple = ()
    where: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    diverged: int = 0
    dropped: int = 0
    left_out: tuple = ()
    lacks: str = ""
    doubt: str = ""
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
            where[field_name] = tuple(dict.fromkeys((*where.get(field_name, ()), *_tuple(value))))
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


def _per_seed(function: Callable[..., np.ndarray], *curves: Curve) -> pd.Series:
    """function(arrays of seeds x grid) as a series over the seeds; NaN where the curves lack what they need."""
    seeds = curves[0].values.index
    if len(seeds) == 0 or curves[0].lacks:
        return pd.Series(np.nan, index=seeds, dtype=float)
    return pd.Series(function(*(curve.values.to_numpy() for curve in curves)), index=seeds)


def u_depth(curve: Curve, name: str = "U-depth") -> Statistic:
    """U-depth of a complete curve, a value a seed (`u_depths`); "has a minimum" is U-depth > 0 by rule 1."""
    return statistic(name, _per_seed(u_depths, curve), curve)


def spearman(curve: Curve, name: str = "Spearman") -> Statistic:
    """Spearman's rho of the grid with a complete curve, a value a seed."""
    values = _per_seed(lambda array: spearmans(curve.values.columns.to_numpy(dtype=float), array), curve)
    return statistic(name, values, curve, unit="", limits=(-1, 1))


def paired(name: str, function: Callable[..., np.ndarray], *curves: Curve, unit: str = "nats") -> Statistic:
    """Any statistic of complete curves: `function` of their arrays (seeds, grid), a value a seed.

    For a worst case over the grid (`paired("gap", lambda a, b: (a - b).max(1), test, train)`), a difference between two
    grid points (`column`), and the like.
    """
    return statistic(name, _per_seed(function, *curves), *curves, unit=unit)


def column(curve: Curve, point: float) -> int:
    """The position of a grid point in a complete curve; -1 where it is not there (then `curve.lacks` says so)."""
    where = np.flatnonzero(np.isclose(curve.values.columns.to_numpy(dtype=float), point, rtol=1e-9))
    return int(where[0]) if len(where) else -1


def matched_rate(name: str, a: tuple[Curve, Curve], b: tuple[Curve, Curve], points: int = 201) -> Statistic:
    """D of `a` minus D of `b` at matched rate, a value a seed that both have, in nats.

    Each is (distortion, rate), completed together. D is interpolated linearly in R on a uniform grid of `points` over
    the common range of R, and averaged. NaN for a seed whose ranges do not meet.
    """
    (d_a, r_a), (d_b, r_b) = (tuple(curve.values for curve in pair) for pair in (a, b))
    values = {}
    for seed in d_a.index.intersection(d_b.index):
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


def in_doubt(made: Statistic, curve: Curve, least: float, reason: str = "rates too small") -> Statistic:
    """The statistic, undecided for `reason` where any value of `curve`, completed with its own, is below `least`."""
    return replace(made, doubt=reason) if (curve.values.to_numpy() < least).any() else made


# Parts: a statistic and what it must meet


@dataclass(frozen=True)
class Finding:
    """A part, judged: what the book shows of it whatever the outcome.

    `values` are the seeds' own, `low` and `high` the 95 % interval, NaN with fewer than three of them.
    """

    name: str
    values: tuple[float, ...]
    seeds: int
    estimate: float
    low: float
    high: float
    unit: str
    wanted: str
    outcome: str
    reason: str = ""

    def __str__(self) -> str:
        if not self.values and not math.isfinite(self.estimate):
            return f"{self.name}: no value"
        if math.isfinite(self.low):
            shown = f"{self.estimate:.3g} [{self.low:.3g}, {self.high:.3g}]"
        else:
            shown = ", ".join(f"{value:.3g}" for value in self.values)
        return f"{self.name}: {' '.join(filter(None, (shown, self.unit)))} (wanted {self.wanted})"


@dataclass(frozen=True, eq=False)
class Part:
    """One statistic and its threshold: made by `effect`, `absence` or `number`.

    Met where `sign` * (value - threshold) > 0 (>= 0 unless `strict`) on the whole interval at `level`; for a `number`
    where the mean lies within `tolerance` of the threshold.
    """

    statistic: Statistic
    kind: str  # effect | absence | number
    wanted: str
    threshold: float
    sign: int = 1
    strict: bool = True
    tolerance: float = 0.0
    level: float = 0.95
    correction: str = ""

    def judge(self, seeds: int = 3, parts: int = 1) -> Finding:
        """The part's own outcome with `seeds` as the least number of them, as one of `parts` of a conjunction."""
        made, sample = self.statistic, self.statistic.sample
        least = 1 if self.kind == "number" or made.bounds else seeds
        low, high = made.interval(self.level) if len(sample) >= 3 or made.bounds else (math.nan, math.nan)
        estimate = math.nan
        if len(sample):
            estimate = float(sample[0] if np.ptp(sample) == 0 else sample.mean())
        outcome, reason = UNDECIDED, ""
        if made.lacks:
            outcome, reason = NOT_RUN, made.lacks
        elif len(sample) < least:
            short = len(made.values) < least
            reason = f"seeds: {len(made.values)} of at least {least}" if short else "seeds: too few have a value"
            reason += f", {made.diverged} diverged" if made.diverged else ""
        elif made.doubt:
            reason = made.doubt
        elif self.kind == "number":
            outcome = REPRODUCED if abs(estimate - self.threshold) <= self.tolerance else NOT_REPRODUCED
        else:
            worst = min(self._margins(low, high))
            best = max(self._margins(*made.interval(max(self.level, 1 - 0.1 / parts))))
            if worst > 0 or (worst == 0 and not self.strict):
                outcome = REPRODUCED
            elif best < 0:
                outcome = NOT_REPRODUCED
            else:
                reason = "interval"
        name = f"{made.name} ({self.correction})" if self.correction else made.name
        return Finding(
            name=name,
            values=tuple(sample.tolist()),
            seeds=len(sample) or len(made.values),
            estimate=estimate,
            low=low,
            high=high,
            unit=made.unit,
            wanted=self.wanted,
            outcome=outcome,
            reason=reason,
        )

    def _margins(self, low: float, high: float) -> tuple[float, float]:
        return self.sign * (low - self.threshold), self.sign * (high - self.threshold)

    @property
    def p_value(self) -> float:
        """Two-sided p value of the t test that the mean is the threshold (Holm's order)."""
        if self.statistic.bounds is not None:
            raise ClaimError(f"{self.statistic.name} has an interval of its own and no p value: use bonferroni.")
        sample = self.statistic.sample
        if len(sample) < 2:
            return 1.0
        off, spread = abs(sample.mean() - self.threshold), sample.std(ddof=1) / math.sqrt(len(sample))
        if spread == 0:
            return float(off == 0)
        return float(2 * stdtr(len(sample) - 1, -off / spread))


def effect(
    made: Statistic,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Part:
    """Rule 1: the whole 95 % interval beyond the one threshold given. It may still come with more training."""
    given = [
        (sign, strict, word, threshold)
        for sign, strict, word, threshold in (
            (1, True, ">", above),
            (1, False, "≥", at_least),
            (-1, True, "<", below),
            (-1, False, "≤", at_most),
        )
        if threshold is not None
    ]
    if len(given) != 1:
        raise ClaimError(f"an effect takes one threshold, got {len(given)}: above, at_least, below or at_most.")
    sign, strict, word, threshold = given[0]
    return Part(made, "effect", f"{word} {threshold:g}", threshold, sign, strict)


def absence(made: Statistic, margin: float = 0.5) -> Part:
    """Rule 2: no effect as an equivalence, the interval's upper end below `margin` (0.5 nats for differences of D)."""
    return Part(made, "absence", f"< {margin:g}", margin, sign=-1)


def number(made: Statistic, published: float, *, within: float = 0.0, relative: float = 0.0) -> Part:
    """Rule 3: the mean within `within` (or `relative` times the number) of a published one; one seed decides."""
    tolerance = max(within, relative * abs(published))
    return Part(made, "number", f"{published:g} ± {tolerance:.3g}", published, tolerance=tolerance)


def bonferroni(parts: Sequence[Part]) -> list[Part]:
    """Rule 6: the same comparisons, each with the interval at 1 - 0.05 / k."""
    k = len(parts)
    return [replace(part, level=1 - 0.05 / k, correction=f"Bonferroni over {k}") for part in parts]


def holm(parts: Sequence[Part]) -> list[Part]:
    """Rule 6: the same comparisons with Holm's intervals: the i-th smallest p value at 1 - 0.05 / (k - i + 1).

    From the first that does not pass on, the level stays, so that none after it passes (step-down).
    """
    k, alpha, made = len(parts), 0.0, list(parts)
    stopped = False
    for rank, index in enumerate(np.argsort([part.p_value for part in parts], kind="stable")):
        alpha = alpha if stopped else 0.05 / (k - rank)
        stopped = stopped or parts[index].p_value > alpha
        made[index] = replace(parts[index], level=1 - alpha, correction=f"Holm over {k}")
    return made


# Claims and verdicts


@dataclass(frozen=True)
class PaperScale:
    """What the paper ran: `grid` gives an axis' values, `settings` the fields of a member that it held fixed."""

    steps: int
    batch_size: int
    seeds: int
    data: tuple[str, ...]
    grid: Mapping[str, tuple] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper and how it is decided; made by `claim`.

    `paper` is the paper's value, in words; `parts` the statistics on given evidence; `steps` (of `batch_size` images)
    the least budget that may decide, 0 where nothing is trained; `seeds` the least number of them; `study` keeps to the
    rows of one study where the table has several. `compares` and `within` are those of `budgets`. With `copies_decide`
    False a copy of the paper's data (a JPEG copy) is shown but decides nothing. `note` is for the page (rule 8).
    """

    number: str
    sentence: str
    paper: str
    scale: PaperScale
    parts: Callable[[Evidence], Sequence[Part]] = field(repr=False)
    steps: int
    batch_size: int = 0
    seeds: int = 3
    study: str = ""
    compares: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    copies_decide: bool = True
    by_construction: bool = False
    note: str = ""

    def findings(self, evidence: Evidence) -> list[tuple[Part, Finding]]:
        """The claim's parts on this evidence, each with its finding."""
        parts = list(self.parts(evidence))
        return [(part, part.judge(self.seeds, len(parts))) for part in parts]


def claim(number: str, sentence: str, **how: Any) -> Callable[[Callable[[Evidence], Sequence[Part]]], Claim]:
    """Turn a function from `Evidence` to `Part`s into a `Claim`, whose fields `how` gives."""
    return lambda parts: Claim(number=number, sentence=sentence, parts=parts, **how)


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


@dataclass(frozen=True)
class Verdict:
    """The answer to a claim: outcome and scope, and what was found, whatever the outcome."""

    number: str
    sentence: str
    paper: str
    findings: tuple[Finding, ...]
    outcome: str
    reasons: tuple[str, ...] = ()
    scope: Scope | None = None
    by_construction: bool = False
    note: str = ""

    @property
    def seeds(self) -> int:
        """The least number of seeds that any part rests on."""
        return min((finding.seeds for finding in self.findings), default=0)

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)

    @property
    def counted(self) -> bool:
        """Whether the claim counts in a tally (rule 7)."""
        return not self.by_construction

    def row(self) -> dict[str, str]:
        """The verdict as the book shows it."""
        remarks = [*self.reasons, *["by construction: not counted"] * self.by_construction]
        return {
            "claim": self.number,
            "sentence": self.sentence,
            "paper": self.paper,
            "ours": "; ".join(str(finding) for finding in self.findings),
            "seeds": str(self.seeds),
            "outcome": f"{self.outcome} ({'; '.join(remarks)})" if remarks else self.outcome,
            "scope": str(self.scope) if self.scope else "",
        }


def verdict(claim: Claim, table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> Verdict:
    """The verdict on one claim, from the tidy table alone (rules 1 to 7).

    It is decided on one budget: the largest that has the claim's grid, its seeds and its least steps; failing that, the
    largest that has the grid; failing that, the largest with any value, where "largest" prefers the paper's own
    settings. `at_hand` names image sets that could be used though the table has no row of them.
    """
    return verdicts([claim], table, at_hand=at_hand)[0]


def verdicts(claims: Iterable[Claim], table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> list[Verdict]:
    """`verdict` of each claim; the table is split into budgets once for all that split it alike."""
    split: dict[tuple, list[Evidence]] = {}
    at_hand = {*MADE, *at_hand, *(table["data"].unique() if "data" in table else ())}
    found = []
    for each in claims:
        how = each.study, each.compares, each.within
        if how not in split:
            rows = _only(table, table["study"] == each.study) if each.study and "study" in table else table
            split[how] = budgets(rows, compares=each.compares, within=each.within)
        found.append(_verdict(each, split[how], at_hand))
    return found


def verdict_table(claims: Iterable[Claim], table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> pd.DataFrame:
    """The claims as the book shows them: `as_table` of their `verdicts`."""
    return as_table(verdicts(claims, table, at_hand=at_hand))


def as_table(found: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts, a row each: claim, sentence, paper, ours, seeds, outcome, scope (all text)."""
    columns = ["claim", "sentence", "paper", "ours", "seeds", "outcome", "scope"]
    return pd.DataFrame([each.row() for each in found], columns=columns)


def _verdict(claim: Claim, groups: list[Evidence], at_hand: Collection[str]) -> Verdict:
    best, judged, rank = None, [], (False, False, False)
    for evidence in sorted(groups, key=lambda each: _strangeness(claim, each)):
        found = claim.findings(evidence)
        whole = bool(found) and not any(part.statistic.lacks for part, _ in found)
        seeds = whole and not any(finding.reason.startswith("seeds") for _, finding in found)
        enough = _reaches(evidence.budget, claim.steps, claim.batch_size)
        mine = seeds and enough, whole, any(finding.seeds for _, finding in found)
        if best is None or mine > rank:
            best, judged, rank = evidence, found, mine
        if seeds and enough:
            break
    findings = tuple(finding for _, finding in judged)
    outcome, reasons = conjunction(findings)
    if best is not None and claim.steps and outcome != NOT_RUN:
        outcome, reasons = _budgeted(claim, best, judged)

    used = {name for part, finding in judged for name in part.statistic.data if finding.seeds}
    if outcome == NOT_RUN and not set(claim.scale.data) & set(at_hand):
        outcome, reasons = NEEDS_DATA, (" or ".join(claim.scale.data),)
    elif not claim.copies_decide and used - set(claim.scale.data):
        outcome, reasons = NEEDS_DATA, (f"{' or '.join(claim.scale.data)}, not {', '.join(sorted(used))}",)
    scope = _scope(claim, best, judged) if best is not None and any(finding.seeds for finding in findings) else None
    return Verdict(
        number=claim.number,
        sentence=claim.sentence,
        paper=claim.paper,
        findings=findings,
        outcome=outcome,
        reasons=reasons,
        scope=scope,
        by_construction=claim.by_construction,
        note=claim.note,
    )


def conjunction(findings: Sequence[Finding]) -> tuple[str, tuple[str, ...]]:
    """(outcome, reasons) of a claim all of whose parts must hold: one refused part refuses it."""
    outcomes = {finding.outcome for finding in findings}
    if NOT_REPRODUCED in outcomes:
        return NOT_REPRODUCED, ()
    if outcomes == {REPRODUCED}:
        return REPRODUCED, ()
    for outcome in (NOT_RUN, UNDECIDED):
        if outcome in outcomes:
            reasons = (finding.reason for finding in findings if finding.outcome == outcome)
            return outcome, tuple(dict.fromkeys(reasons))
    return NOT_RUN, ("no member of it",)


def _budgeted(claim: Claim, evidence: Evidence, judged: list[tuple[Part, Finding]]) -> tuple[str, tuple[str, ...]]:
    """Rule 4: least budget, agreement of 0.8 and 1.0 of the steps, and what may still come or go."""
    outcome, reasons = conjunction([finding for _, finding in judged])
    steps = evidence.budget["steps"]
    if not _reaches(evidence.budget, claim.steps, claim.batch_size):
        images = f" of {claim.batch_size} images" if claim.batch_size else ""
        return UNDECIDED, (f"budget: {steps:,} of at least {claim.steps:,} steps{images}", *reasons)
    early, _ = conjunction([finding for _, finding in claim.findings(evidence.at(0.8))])
    if early != outcome:
        return UNDECIDED, (*reasons, f"budget: {early} at 0.8 of the steps, {outcome} at the end")
    if _reaches(evidence.budget, claim.scale.steps, claim.scale.batch_size):
        return outcome, reasons
    unsettled = {"effect": {NOT_REPRODUCED}, "absence": {REPRODUCED}, "number": {REPRODUCED, NOT_REPRODUCED}}
    why = {"effect": "it may still come", "absence": "it may still go", "number": "it may still move"}
    return conjunction(
        [
            replace(finding, outcome=UNDECIDED, reason=f"budget: below the paper's steps, {why[part.kind]}")
            if finding.outcome in unsettled[part.kind]
            else finding
            for part, finding in judged
        ]
    )


def _reaches(budget: Mapping[str, Any], steps: int, batch_size: int) -> bool:
    """At least that many steps, and at least that many images in them."""
    batch = budget.get("batch_size", batch_size)
    return budget["steps"] >= steps and (not batch_size or budget["steps"] * batch >= steps * batch_size)


def _strangeness(claim: Claim, evidence: Evidence) -> tuple:
    """Groups closest to the paper's settings first, then the largest budget (the order of `budgets`)."""
    strange = sum(evidence.budget.get(name, value) != value for name, value in claim.scale.settings.items())
    return strange, _order(evidence)


def _scope(claim: Claim, evidence: Evidence, judged: list[tuple[Part, Finding]]) -> Scope:
    paper, budget = claim.scale, evidence.budget
    used = [part.statistic for part, finding in judged if finding.seeds]
    grid = {}
    for axis in paper.grid:
        along = [set(made.grid) for made in used if made.over == axis]
        across = {value for made in used for value in _tuple(made.where.get(axis, ()))}
        grid[axis] = tuple(sorted(set.intersection(*along) if along else across))
    data = tuple(sorted({name for made in used for name in made.data}))
    seeds = min(finding.seeds for _, finding in judged)
    strange = [name for name, value in paper.settings.items() if budget.get(name, value) != value]
    whole = len(used) == len(judged) and all(
        len(_held(grid[axis], values)) == len(values) for axis, values in paper.grid.items()
    )
    remarks = [f"{name} {budget[name]} (paper {paper.settings[name] or 'all'})" for name in strange]
    remarks += [f"precision {budget['precision']}"] * ("precision" in budget)
    remarks += [f"lr {budget['lr']:g}"] * (budget.get("lr") is not None)
    remarks += ["an older code version"] * bool(budget.get("age", 0))
    dropped, lost = max(made.dropped for made in used), max(made.diverged for made in used)
    left_out = sorted({point for made in used for point in made.left_out})
    remarks += [f"{dropped} incomplete seed{'s' * (dropped > 1)} dropped"] * (dropped > 0)
    remarks += [f"{lost} member{'s' * (lost > 1)} diverged"] * (lost > 0)
    remarks += [f"{_list(left_out)} left out: too few seeds"] * bool(left_out)
    batch = int(budget.get("batch_size", 0))
    return Scope(
        steps=int(budget["steps"]) if claim.steps else 0,
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


def _held(values: Iterable[float], wanted: Iterable[float]) -> list[float]:
    """Those of `wanted` that `values` holds, to 9 digits."""
    return [want for want in wanted if any(math.isclose(want, value, rel_tol=1e-9) for value in values)]


def _matches(rows: pd.DataFrame, where: Mapping[str, Any]) -> pd.Series:
    keep = pd.Series(True, index=rows.index)
    for name, wanted in where.items():
        found = rows[name] if name in rows else pd.Series(None, index=rows.index, dtype=object)
        keep &= found.isin(_tuple(wanted)) | (found.isna() if None in _tuple(wanted) else False)
    return keep


def _only(rows: pd.DataFrame, keep: Any) -> pd.DataFrame:
    kept: Any = rows[keep]
    return kept


def _tuple(value: Any) -> tuple:
    return value if isinstance(value, tuple) else (value,)


def _among(value: Any) -> str:
    return " or ".join(str(each) for each in _tuple(value) if each is not None)


def _list(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
