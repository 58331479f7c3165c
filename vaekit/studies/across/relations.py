"""How the measures of one network go together: what the papers leave open, asked of the tidy table.

Beta drives every measure, so that any two of them go together over beta, and plain correlations say nothing. What is
tested is whether they go together *given beta*: from each value its mean over the seeds at that beta is taken, and what
is left is ranked and correlated over beta within a seed. A straight line through ranks would not do: two measures that
bend alike over beta would be left with the bend, and found related.

The mean of the seeds' correlations has a t interval. The seeds share the means that were taken from them, which costs
one of them: with n seeds the squared standard error is (n - 1) / (n - 2) times the usual one and has n - 2 degrees of
freedom. In made-up tables whose measures share a trend in beta, straight, bent or humped, and nothing else, with normal
or skewed noise, the eight tests then find something in 0 to 4 of 100 (5 are allowed).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import stats

from vaekit import data
from vaekit.store.table import budgets, select
from vaekit.studies.across import SPEC
from vaekit.sweep import fifths

# Measure of the tidy table and what its rows must have, by our name.
_OF_TRAINED = {
    "rate": ("rate", {"part": "test"}),
    "distortion": ("distortion", {"part": "test"}),
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
    "accuracy": "the accuracy before pruning",
    "pruned_accuracy": "the accuracy after pruning",
    "cost": "the cost of pruning",
    "compressed": "the compressed size",
}
_NATS = ("rate", "distortion", "gap", "mutual_information", "marginal_kl")
_UNITS = dict.fromkeys(_NATS, " (nats)") | {"active_units": " of 10", "compressed": " (bytes)"}
_UNITS |= {"cost": " (accuracy)"}  # of the dense child less that of the pruned one
MEASURES = {name: words.removeprefix("the ") + _UNITS.get(name, "") for name, words in WORDS.items()}
# What is known at a fifth of the training.
CHEAP = (
    *("distortion", "rate", "mutual_information", "marginal_kl", "active_units", "id_z", "id_mu", "id_peak"),
    *("out_in", "in_z", "knn", "linear", "accuracy"),
)
EARLY = {f"early_{name}": f"{MEASURES[name]}, at a fifth of the training" for name in CHEAP}
WORDS |= {f"early_{name}": f"{WORDS[name]} at a fifth of the training" for name in CHEAP}
LEAST_SEEDS, LEVEL = 3, 0.05


@dataclass(frozen=True)
class Relation:
    """A pair of measures on one image set: mean over seeds, low and high of a 95 % interval, in Spearman's rho.

    Args:
        data, a, b: the set, and names in `MEASURES` or `EARLY`.
        n_seeds: those that have both at every beta.
        plain: over beta within a seed; `partial`: given beta.
        p, adjusted: of the partial one, and after Holm over the pairs that are tested on the set.
    """

    data: str
    a: str
    b: str
    n_seeds: int
    plain: tuple[float, float, float]
    partial: tuple[float, float, float]
    p: float
    adjusted: float = math.nan

    @property
    def told(self) -> bool:
        """Whether the test finds that the two go together given beta."""
        return self.adjusted < LEVEL

    @property
    def sentence(self) -> str:
        """The relation in words."""
        first, second = WORDS[self.a], WORDS[self.b]
        if not math.isfinite(self.p):
            few = f"{self.n_seeds} of at least {LEAST_SEEDS} seeds have both at every beta"
            why = few if self.n_seeds < LEAST_SEEDS else "given beta, one of them is constant"
            return f"{data.title(self.data)}: {first} and {second} cannot be compared: {why}."
        rho, low, high = self.partial
        finding = "go together" if rho > 0 else "go against each other"
        finding = finding if self.told else "are not told to be related"
        interval = f"rho {rho:.2f}, 95 % interval {low:.2f} to {high:.2f}, Holm's p {_p(self.adjusted)}"
        return (
            f"{data.title(self.data)}: given beta, {first} and {second} {finding} ({interval}; "
            f"over beta alone {self.plain[0]:.2f}; {self.n_seeds} seeds)."
        )


@dataclass(frozen=True)
class Question:
    """What a paper leaves open: `pairs` of measures that it is put to, and the name of the `figure` that shows them."""

    title: str
    origin: str
    pairs: tuple[tuple[str, str], ...]
    figure: str


QUESTIONS = (
    Question(
        "Does the intrinsic dimension of z follow the rate, the mutual information, or the dimensions in use?",
        "left open by the paper of study 1; K is the same here, so that what of it is in use stands for it",
        (("id_z", "rate"), ("id_z", "mutual_information"), ("id_z", "active_units")),
        "dimension_of_z",
    ),
    Question(
        "Does Δ(out → in) follow the distortion, or the generalisation gap?",
        "left open by the paper of study 1",
        (("out_in", "distortion"), ("out_in", "gap")),
        "imbalance_of_the_output",
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
    """A row for each network that was trained from nothing, of the largest budget of each image set of a tidy table.

    Columns "key", "data", "seed", "beta", those of `MEASURES`, and those of `EARLY`; NaN where it was not measured.
    """
    columns = ["key", "data", "seed", "beta", *MEASURES, *EARLY]
    trained = table[table["parent"].isna()] if "parent" in table else table
    largest = {rows["data"].iloc[0]: rows for rows in reversed(budgets(trained, SPEC.axes))}
    parts = [_of_budget(rows, table).reindex(columns=columns) for _, rows in sorted(largest.items())]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _of_budget(trained: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    networks = trained.drop_duplicates("key").set_index("key")
    steps = int(networks["steps"].iloc[0])
    measures = {name: _read(trained, name, steps) for name in [*_OF_TRAINED, "id_peak"]}
    measures |= {f"early_{name}": _read(trained, name, fifths(steps)[0]) for name in CHEAP}
    on_training = _by_key(select(trained, "distortion", part="train", samples=1))
    measures["gap"] = measures["distortion"] - on_training
    children = table[table["parent"].isin(networks.index)] if "parent" in table else table.iloc[:0]
    children = children.sort_values("steps", kind="stable")
    after = {arm: children[children["arm"] == arm] for arm in ("gradual", "dense")}
    accuracies = {arm: _by_parent(select(rows, "accuracy", part="test"), rows) for arm, rows in after.items()}
    measures["pruned_accuracy"] = accuracies["gradual"]
    measures["cost"] = accuracies["dense"] - accuracies["gradual"]
    measures["compressed"] = _by_parent(select(after["gradual"], "compressed_bytes"), after["gradual"])
    return networks[["data", "seed", "beta"]].assign(**measures).reset_index()


def _read(rows: pd.DataFrame, name: str, step: int) -> pd.Series:
    """A measure of each network after so many steps, by key."""
    if name == "id_peak":
        ids = select(rows, "intrinsic_dimension", at=step)
        layers = ids["layer"].astype(str) if "layer" in ids else pd.Series("", index=ids.index)
        return ids[layers.str.startswith("encoder")].groupby("key")["value"].max()
    measure, where = _OF_TRAINED[name]
    where = where | ({"samples": 1} if measure == "distortion" else {})
    return _by_key(select(rows, measure, at=step, **where))


def _by_key(rows: pd.DataFrame) -> pd.Series:
    return rows.set_index("key")["value"].astype(float)


def _by_parent(rows: pd.DataFrame, children: pd.DataFrame) -> pd.Series:
    """By the parent's key; of several children the value of the one that was tuned longest."""
    parents = children.drop_duplicates("key").set_index("key")["parent"]
    return rows.assign(key=rows["key"].map(parents)).groupby("key")["value"].last().astype(float)


def relations(measured: pd.DataFrame) -> list[Relation]:
    """The pairs of `QUESTIONS` on each image set of `values`, but for those of which one was measured on no network."""
    tested = []
    for name, rows in measured.groupby("data", sort=True):
        here = [relation(rows, str(name), *pair) for pair in PAIRS if rows[list(pair)].notna().any().all()]
        adjusted = _holm([each.p for each in here])
        tested += [replace(each, adjusted=p) for each, p in zip(here, adjusted, strict=True)]
    return tested


def relation(rows: pd.DataFrame, name: str, a: str, b: str) -> Relation:
    """A pair of measures on one image set, from its rows of `values`; not adjusted."""
    both = [rows.pivot(index="seed", columns="beta", values=each) for each in (a, b)]
    shared = both[0].dropna().index.intersection(both[1].dropna().index)
    first, second = (each.loc[shared].to_numpy(dtype=float) for each in both)
    plain = _within(first, second)
    partial = _within(first - first.mean(0), second - second.mean(0)) if len(shared) else plain
    mean, low, high, p = _t(partial, shared_trend=True)
    return Relation(name, a, b, len(shared), _t(plain)[:3], (mean, low, high), p)


def _within(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rho over the columns of each row of two arrays (seeds, betas); rows where one is constant go."""
    varied = [np.ptp(each, axis=1) > 1e-12 * np.abs(each).max(initial=1.0) for each in (first, second)]
    ranks = [stats.rankdata(each[np.logical_and(*varied)], axis=1) for each in (first, second)]
    x, y = (each - each.mean(1, keepdims=True) for each in ranks)
    return (x * y).sum(1) / np.sqrt((x**2).sum(1) * (y**2).sum(1))


def _t(values: np.ndarray, shared_trend: bool = False) -> tuple[float, float, float, float]:
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
    """Holm's adjusted p of those that are finite, among all."""
    order = sorted((i for i, each in enumerate(p) if math.isfinite(each)), key=lambda i: p[i])
    raised = itertools.accumulate(((len(p) - rank) * p[i] for rank, i in enumerate(order)), max)
    adjusted = dict(zip(order, raised, strict=True))
    return [min(1.0, adjusted[i]) if i in adjusted else math.nan for i in range(len(p))]


def answer(question: Question, tested: Sequence[Relation]) -> str:
    """What the tests say to a question, in one sentence."""
    asked = [each for each in tested if (each.a, each.b) in question.pairs]
    able = [each for each in asked if math.isfinite(each.p)]
    if not able:
        seeds = max((each.n_seeds for each in asked), default=0)
        return f"Cannot be told yet: of {seeds} seed{'s' * (seeds != 1)} whole curves are there; {LEAST_SEEDS} are needed."
    ways = {True: "goes with", False: "goes against"}
    told = [
        f"{WORDS[each.a]} {ways[each.partial[0] > 0]} {WORDS[each.b]} on {data.title(each.data)}"
        for each in able
        if each.told
    ]
    rest = len(able) - len(told)
    if not told:
        return f"Nothing is told beyond what beta does to both: none of {len(able)} tests finds a relation."
    nothing = f"; {rest} of {len(able)} tests find{'s' * (rest == 1)} nothing" if rest else ""
    return f"Given beta, {'; '.join(told)}{nothing}."


def matrix(measured: pd.DataFrame, name: str) -> pd.DataFrame:
    """Spearman's rho over beta within a seed, its mean over seeds, of all pairs of `MEASURES` on an image set.

    It describes and tests nothing: beta drives all of them. NaN where one was not measured, or is constant.
    """
    rows, names = measured[measured["data"] == name], list(MEASURES)
    ranks = rows.groupby("seed")[names].rank()
    correlations = [ranks[rows["seed"] == seed].corr() for seed in sorted(rows["seed"].unique())]
    stacked = (
        np.stack([each.to_numpy() for each in correlations]) if correlations else np.empty((0, len(names), len(names)))
    )
    counts = np.isfinite(stacked).sum(0)
    total = np.where(np.isfinite(stacked), stacked, 0.0).sum(0)
    return pd.DataFrame(np.where(counts > 0, total / np.maximum(counts, 1), np.nan), index=names, columns=names)


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.2g}"
