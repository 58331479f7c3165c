"""How the measures of one network go together: what the papers leave open, asked of the tidy table.

Beta drives most measures, so that most go together over beta, and plain correlations say nothing. What is tested is
whether they go together *given beta*, among networks that differ in nothing but their seed: where, along beta, a seed
lies above the others in one measure, does it in the other, too? From each value the mean over the seeds at that beta is
taken, and what is left, in standard deviations over the seeds at that beta, is ranked and correlated over beta within a
seed. A straight line through ranks would not do: two measures that bend alike over beta would be left with the bend,
and found related. Without the division the betas at which seeds differ most would have the outermost ranks, and the
others would hardly count. What sets a seed off by as much at every beta is not seen.

The mean of the seeds' correlations has a t interval. The seeds share the means that were taken from them, which costs
one of them: with n seeds the squared standard error is (n - 1) / (n - 2) times the usual one and has n - 2 degrees of
freedom. In made-up tables whose measures share a trend in beta, straight, bent or humped, and nothing else, with noise
that is normal, skewed, or as large a slope of each seed's own, the eight tests then find something in 2 to 3 of 100 (5
are allowed).

Five seeds find close relations only, however the spread changes with beta. Of 100 pairs of normal values at eight betas
that correlate by 0.9 given beta they find 82, by 0.8 52, by 0.7 28, by 0.5 8; ten seeds find 96 at 0.7. Three find 4 at
0.95, and are not tested.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from vaekit import data
from vaekit.claims.statistics import spearmans
from vaekit.store.table import budgets, having, select
from vaekit.studies.across import SPARSITY, SPEC
from vaekit.sweep import fifths

# Measure of the tidy table and what its rows must have, by our name.
_OF_TRAINED = {
    "rate": ("rate", {"part": "test"}),
    "distortion": ("distortion", {"part": "test", "samples": 1}),
    "train_distortion": ("distortion", {"part": "train", "samples": 1}),
    "mutual_information": ("mutual_information", {"estimator": "exact"}),
    "marginal_kl": ("marginal_kl", {"estimator": "exact"}),
    "active_units": ("active_units", {}),
    "id_z": ("intrinsic_dimension", {"layer": "z"}),
    "id_mu": ("intrinsic_dimension", {"layer": "mu"}),
    "out_in": ("information_imbalance", {"from_layer": "output", "to_layer": "input"}),
    "in_z": ("information_imbalance", {"from_layer": "input", "to_layer": "z"}),
    "knn": ("probe_accuracy", {"probe": "knn"}),
    "linear": ("probe_accuracy", {"probe": "logistic"}),
    "mig": ("mig", {"factor": None}),
    "dci": ("dci_disentanglement", {}),
    "accuracy": ("accuracy", {"part": "test"}),
}
WORDS = {
    "rate": "the rate",
    "distortion": "the distortion",
    "train_distortion": "the distortion of training images",
    "gap": "the generalisation gap",
    "mutual_information": "the mutual information",
    "marginal_kl": "the marginal KL",
    "active_units": "the number of active units",
    "id_z": "the ID of z",
    "id_mu": "the ID of mu",
    "id_peak": "the encoder's peak ID",
    "out_in": "Δ(out → in)",
    "in_z": "Δ(in → z)",
    "knn": "the accuracy of kNN on mu",
    "linear": "the accuracy of a linear probe on mu",
    "mig": "MIG",
    "dci": "DCI disentanglement",
    "accuracy": "the classifier's accuracy",
    "pruned_accuracy": "the accuracy after pruning",
    "cost": "the cost of pruning",
    "compressed": "the compressed size",
}
SHORT = {name: words.removeprefix("the ") for name, words in WORDS.items()}
_NATS = ("rate", "distortion", "train_distortion", "gap")
_UNITS = dict.fromkeys(_NATS, " (nats)") | {"compressed": " (bytes)"}
_UNITS |= dict.fromkeys(("mutual_information", "marginal_kl"), " (nats, training images)")
_UNITS |= {"cost": " (accuracy)"}  # of the dense child less that of the pruned one
MEASURES = {name: title + _UNITS.get(name, "") for name, title in SHORT.items()}
# What is known at a fifth of the training.
CHEAP = (
    *("distortion", "rate", "mutual_information", "marginal_kl", "active_units", "id_z", "id_mu", "id_peak"),
    *("out_in", "in_z", "knn", "linear", "accuracy"),
)
EARLY = {f"early_{name}": f"{MEASURES[name]}, at a fifth of the training" for name in CHEAP}
WORDS |= {f"early_{name}": f"{WORDS[name]} at a fifth of the training" for name in CHEAP}
SHORT |= {f"early_{name}": f"{SHORT[name]} at a fifth of the training" for name in CHEAP}
LEAST_SEEDS, LEAST_BETAS, LEVEL = 4, 5, 0.05
LEAST_POINTS = 4  # of a rank correlation that is shown: of two it is always 1 or -1


@dataclass(frozen=True)
class Relation:
    """A pair of measures on one image set: mean over seeds, low and high of a 95 % interval, in Spearman's rho.

    Args:
        data, a, b: the set, and names in `MEASURES` or `EARLY`.
        n_seeds: those with both measures at all betas that most seeds have; of a test, those in which both vary.
        n_betas: those of these betas at which both measures differ among the seeds, which is what a test rests on.
        plain: over beta within a seed; `partial`: given beta.
        p: of the partial one; NaN where there is too little to test, of which `lacking` says what.
        family: how many pairs are tested on the set; `adjusted`: Holm's p over them.
    """

    data: str
    a: str
    b: str
    n_seeds: int
    n_betas: int
    plain: tuple[float, float, float]
    partial: tuple[float, float, float]
    p: float
    lacking: str = ""
    family: int = 1
    adjusted: float = math.nan

    @property
    def found(self) -> bool:
        """Whether the test finds that the two go together given beta."""
        return self.adjusted < LEVEL

    @property
    def brief(self) -> str:
        """The relation in a line."""
        pair = f"{SHORT[self.a]}, {SHORT[self.b]}"
        if self.lacking:
            return f"{pair}: not tested, {self.lacking}"
        given_beta = f"ρ {interval(self.partial)} at {self.n_betas} β, p {p_in_words(self.adjusted)}"
        return f"{pair}: {given_beta}; over β {number(self.plain[0])}"


@dataclass(frozen=True)
class Question:
    """What a paper leaves open: `pairs` of measures that it is put to, and the name of the `figure` that shows them.

    `note` is what a reader must know of the measures to read the answer.
    """

    title: str
    origin: str
    pairs: tuple[tuple[str, str], ...]
    figure: str
    note: str = ""


QUESTIONS = (
    Question(
        "Does the intrinsic dimension of z follow the rate, the mutual information, or the dimensions in use?",
        "left open by the paper of study 1; K is the same throughout, so the number of active units takes its place",
        (("id_z", "rate"), ("id_z", "mutual_information"), ("id_z", "active_units")),
        "dimension_of_z",
        "A dimension of z that is not in use holds the noise of the prior, and the ID counts it. The mutual "
        "information of N training images is at most ln N, the dashed line: close to it, it tells networks no more "
        "apart.",
    ),
    Question(
        "Does Δ(out → in) follow the distortion, or the generalisation gap?",
        "left open by the paper of study 1",
        (("out_in", "distortion"), ("out_in", "gap")),
        "imbalance_of_the_output",
        "The gap is D of 5,000 test images less D of all training images. Which images these are moves D by a standard "
        "error of 0.4 to 0.6 nats on MNIST, as much as the gap: there it may be below 0, and what it does over beta "
        "need not be generalisation.",
    ),
    Question(
        "Does MIG, or the number of active units, foretell what pruning costs?",
        "left open by the paper of study 4",
        (("mig", "cost"), ("active_units", "cost")),
        "cost_of_pruning",
    ),
    Question(
        "Which cheap measure at a fifth of the training foretells the distortion at its end?",
        "the paper of study 1 proposes Δ(out → in) as a live diagnostic, and so it is tested; the others are described",
        (("early_out_in", "distortion"),),
        "diagnostics",
    ),
)
PAIRS = tuple(pair for question in QUESTIONS for pair in question.pairs)


def values(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each network that was trained from nothing, of one budget of each image set of a tidy table.

    It is the largest that has the seeds and betas of a test, else the largest. Columns "key", "data", "seed", "beta",
    those of `MEASURES` and `EARLY`, in their units, and "ceiling", the most nats that the mutual information can be;
    NaN where it was not measured.

    Raises:
        ValueError: the table is of another study.
    """
    columns = ["key", "data", "seed", "beta", *MEASURES, *EARLY, "ceiling"]
    trained = table[table["parent"].isna()] if "parent" in table else table
    if len(trained) and "beta" not in trained:
        raise ValueError(
            f"a table of study {SPEC.name} is wanted, as `across.run(settings)` gives it; this has no beta"
        )
    by_set: dict[str, list[pd.DataFrame]] = {}
    for rows in budgets(trained, SPEC.axes):
        by_set.setdefault(str(rows["data"].iloc[0]), []).append(rows)
    chosen = [next(filter(_testable, own), own[0]) for _, own in sorted(by_set.items())]
    parts = [_of_budget(rows, table).reindex(columns=columns) for rows in chosen]
    if any(part.duplicated(["seed", "beta"]).any() for part in parts):
        raise ValueError(f"a table of study {SPEC.name} is wanted, with one network for each image set, seed and beta")
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _testable(rows: pd.DataFrame) -> bool:
    """Whether enough betas have the seeds of a test."""
    seeds = rows.groupby("beta")["seed"].nunique()
    return (seeds >= LEAST_SEEDS).sum() >= LEAST_BETAS


def _of_budget(trained: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    networks = trained.drop_duplicates("key").set_index("key")
    steps = int(networks["steps"].iloc[0])
    measures = {name: _read(trained, name, steps) for name in [*_OF_TRAINED, "id_peak"]}
    measures |= {f"early_{name}": _read(trained, name, fifths(steps)[0]) for name in CHEAP}
    measures["gap"] = measures["distortion"] - measures["train_distortion"]
    measures["ceiling"] = _by_key(select(trained, "mi_ceiling", at=steps))
    children = table[table["parent"].isin(networks.index)] if "parent" in table else table.iloc[:0]
    children = children.sort_values("steps", kind="stable")
    pruned, dense = having(children, arm="gradual", sparsity=SPARSITY), having(children, arm="dense")
    measures["pruned_accuracy"] = _by_parent(select(pruned, "accuracy", part="test"), pruned)
    measures["cost"] = _by_parent(select(dense, "accuracy", part="test"), dense) - measures["pruned_accuracy"]
    measures["compressed"] = _by_parent(select(pruned, "compressed_bytes"), pruned)
    return networks[["data", "seed", "beta"]].assign(**measures).reset_index()


def _read(rows: pd.DataFrame, name: str, step: int) -> pd.Series:
    """A measure of each network after so many steps, by key."""
    if name == "id_peak":
        ids = select(rows, "intrinsic_dimension", at=step)
        layers = ids["layer"].astype(str) if "layer" in ids else pd.Series("", index=ids.index)
        return ids[layers.str.startswith("encoder")].groupby("key")["value"].max()
    measure, where = _OF_TRAINED[name]
    return _by_key(select(rows, measure, at=step, **where))


def _by_key(rows: pd.DataFrame) -> pd.Series:
    return rows.set_index("key")["value"].astype(float)


def _by_parent(rows: pd.DataFrame, children: pd.DataFrame) -> pd.Series:
    """By the parent's key; of several children the value of the one that was tuned longest."""
    parents = children.drop_duplicates("key").set_index("key")["parent"]
    return _by_key(rows.assign(key=rows["key"].map(parents)).drop_duplicates("key", keep="last"))


def relations(measured: pd.DataFrame) -> list[Relation]:
    """The pairs of `QUESTIONS` on each image set of `values`, but for those of which one was measured on no network."""
    adjusted = []
    for name, rows in measured.groupby("data", sort=True):
        pairs = [relation(rows, str(name), *pair) for pair in PAIRS if rows[list(pair)].notna().any().all()]
        family = sum(not pair.lacking for pair in pairs)
        holm = _holm([pair.p for pair in pairs])
        adjusted += [replace(pair, adjusted=p, family=family) for pair, p in zip(pairs, holm, strict=True)]
    return adjusted


def relation(rows: pd.DataFrame, name: str, a: str, b: str) -> Relation:
    """A pair of measures on one image set, from its rows of `values`; not adjusted.

    Betas that fewer than half of the seeds have are left out, then seeds that lack one of the others.

    Raises:
        ValueError: no row is of the image set.
    """
    rows = _of_set(rows, name)
    both = [rows.pivot(index="seed", columns="beta", values=measure) for measure in (a, b)]
    has_both = both[0].notna() & both[1].notna()
    has_both = has_both.loc[has_both.any(axis=1)]
    has_both = has_both.loc[:, has_both.mean() >= 0.5]
    seeds, betas = has_both.index[has_both.all(axis=1)], has_both.columns
    first, second = (measure.loc[seeds, betas].to_numpy(dtype=float) for measure in both)
    differ = {a: (first != first[:1]).any(0), b: (second != second[:1]).any(0)}
    both_differ = differ[a] & differ[b]
    partial = _within(_given_beta(first[:, both_differ]), _given_beta(second[:, both_differ]))
    varied = {WORDS[each]: int(own.sum()) for each, own in differ.items()} | {"both": int(both_differ.sum())}
    lacking = _lacking(len(seeds), len(betas), varied, len(partial))
    mean, low, high, p = _t_interval(partial, shared_trend=True)
    return Relation(
        name, a, b, len(seeds) if lacking else len(partial), varied["both"], _t_interval(_within(first, second))[:3],
        (mean, low, high), math.nan if lacking else p, lacking,
    )  # fmt: skip


def _lacking(seeds: int, betas: int, varied: dict[str, int], changing: int) -> str:
    """What a test lacks, in words, or "" for nothing.

    `varied`: at how many betas either measure differs among the seeds, and both; `changing`: seeds in which both change
    over these.
    """
    if seeds < LEAST_SEEDS:
        return (
            f"{seeds} of the {LEAST_SEEDS} seeds that a test needs {'is' if seeds == 1 else 'are'} complete over beta"
        )
    if betas < LEAST_BETAS:
        return f"{betas} of the {LEAST_BETAS} betas that a test needs {'is' if betas == 1 else 'are'} trained"
    for name, count in varied.items():
        if count < LEAST_BETAS:
            at = f"{count} of the {LEAST_BETAS} betas that a test needs" if count else "no beta"
            return f"{name} differ{'s' * (name != 'both')} among seeds at {at}"
    return "" if changing >= LEAST_SEEDS else "seeds do not differ by more at one beta than at another"


def _given_beta(of_seeds: np.ndarray) -> np.ndarray:
    """Values of seeds (rows) less their mean at each beta, in standard deviations there; equal ones stay equal."""
    if not of_seeds.size:
        return of_seeds
    return np.round((of_seeds - of_seeds.mean(0)) / of_seeds.std(0, ddof=1), 9)


def _within(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho over the columns of each row of two arrays (seeds, betas); rows where one is constant go."""
    if not first.size:
        return np.empty(0)
    rho = spearmans(first, second)
    return rho[np.isfinite(rho)]


def _t_interval(values: np.ndarray, shared_trend: bool = False) -> tuple[float, float, float, float]:
    """Mean, 95 % t interval within [-1, 1], and p of a mean of 0; `shared_trend`: one seed went into the trend."""
    n = len(values)
    if n < LEAST_SEEDS:
        return (float(values.mean()) if n else math.nan), math.nan, math.nan, math.nan
    free = n - 2 if shared_trend else n - 1
    se = values.std(ddof=1) / math.sqrt(n) * (math.sqrt((n - 1) / (n - 2)) if shared_trend else 1.0)
    mean, half = float(values.mean()), float(stats.t.ppf(1 - LEVEL / 2, free) * se)
    p = float(2 * stats.t.sf(abs(mean) / se, free)) if se > 0 else float(mean == 0)
    return mean, max(-1.0, mean - half), min(1.0, mean + half), p


def _holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p of those that are finite, among these."""
    order = sorted((i for i, value in enumerate(p) if math.isfinite(value)), key=lambda i: p[i])
    raised = itertools.accumulate(((len(order) - rank) * p[i] for rank, i in enumerate(order)), max)
    adjusted = dict(zip(order, raised, strict=True))
    return [min(1.0, adjusted[i]) if i in adjusted else math.nan for i in range(len(p))]


def answer(question: Question, pairs: Sequence[Relation]) -> str:
    """What the tests say to a question, in one sentence; `pairs`: those of `relations`."""
    own = [pair for pair in pairs if (pair.a, pair.b) in question.pairs]
    tested = [pair for pair in own if not pair.lacking]
    if not tested:
        reasons = dict.fromkeys(f"on {data.title(pair.data)}, {pair.lacking}" for pair in own) or ["nothing is trained"]
        return f"Cannot be told yet: {'; '.join(reasons)}."
    found: dict[str, list[str]] = {}
    for pair in tested:
        if pair.found:
            way = "goes with" if pair.partial[0] > 0 else "goes against"
            found.setdefault(f"{WORDS[pair.a]} {way} {WORDS[pair.b]}", []).append(f"on {data.title(pair.data)}")
    if not found:
        return f"No relation beyond beta's own could be shown, in {len(tested)} test{'s' * (len(tested) > 1)}."
    rest = sum(not pair.found for pair in tested)
    none = f"; {rest} of {len(tested)} tests show{'s' * (rest == 1)} none" if rest else ""
    relations_found = "; ".join(f"{words} {' and '.join(sets)}" for words, sets in found.items())
    return f"Given beta, {relations_found}{none}."


def closest(measured: pd.DataFrame) -> str:
    """Which of the measures at a fifth of the training is closest to the distortion at the end, given beta, in words.

    It describes: the best of thirteen is no test, and has no interval.
    """
    named = []
    for name, rows in measured.groupby("data", sort=True):
        pairs = [relation(rows, str(name), early, "distortion") for early in EARLY]
        if compared := [pair for pair in pairs if not pair.lacking]:
            best = max(compared, key=lambda pair: abs(pair.partial[0]))
            measure = WORDS[best.a.removeprefix("early_")]
            named.append(
                f"{measure} on {data.title(str(name))} (of {len(compared)} measures, ρ {number(best.partial[0])})"
            )
    if not named:
        return ""
    return (
        "Not tested, since the best of so many is close by chance: closest to the distortion at the end, given beta, "
        f"{'is' if len(named) == 1 else 'are'} {' and '.join(named)}."
    )


def matrix(measured: pd.DataFrame, name: str) -> pd.DataFrame:
    """Spearman's rho over beta within a seed, its mean over seeds, of all pairs of `MEASURES` on an image set.

    It describes and tests nothing: beta drives most of them. Seeds with fewer than four networks with both, or in which
    one is constant, are left out; NaN where none is left.

    Raises:
        ValueError: no row is of the image set.
    """
    names = list(MEASURES)
    of_seeds = [
        own[names].astype(float).corr("spearman", min_periods=LEAST_POINTS)
        for _, own in _of_set(measured, name).groupby("seed")
    ]
    return pd.concat(of_seeds).groupby(level=0).mean().loc[names, names]


def _of_set(measured: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = measured[measured["data"] == name]
    if not len(rows):
        sets = ", ".join(sorted(measured["data"].unique())) or "none"
        raise ValueError(f"no network was trained on {name!r}; there are {sets}")
    return rows


def number(rho: float) -> str:
    """A correlation of two digits; never minus nothing."""
    return f"{round(rho, 2) + 0.0:.2f}".replace("-", "−")


def interval(of: tuple[float, float, float]) -> str:
    """Mean, low and high of a correlation; nothing where there is no interval."""
    mean, low, high = map(number, of)
    return f"{mean} ({low} to {high})" if math.isfinite(of[1]) else ""


def p_in_words(p: float) -> str:
    """A p-value of two digits, or that it is below 0.001; nothing where it is NaN."""
    if math.isnan(p):
        return ""
    return "below 0.001" if p < 0.001 else f"{p:.2g}"
