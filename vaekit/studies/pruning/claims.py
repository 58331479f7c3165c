"""The claims of study 4: Impact of Disentanglement on Pruning Neural Networks (arXiv 2307.09994).

All on test images, after pruning: 30 epochs, then 2 in which the encoder loses half of its weights. Differences of
accuracy are in points, hundredths of all images. The paper does not say how it reduces the reconstruction, and its
beta means another thing under each of the two reductions: every claim is decided in both, and both must hold. Where a
claim names no data set it is put to both, MNIST and CIFAR-10. We hold a summary of the paper with a few of its
sentences, and no numbers.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vaekit.claims import Claims, PaperScale, absence, complete, effect, paired
from vaekit.claims.curves import Curve, Evidence
from vaekit.claims.rules import Criterion
from vaekit.claims.statistics import Reason, Statistic, difference, percentiles, u_depths
from vaekit.data import about
from vaekit.studies.pruning import BATCH, TUNING_LR, Settings

_SETTINGS = Settings.SCALES["paper"]
BETAS = _SETTINGS["betas"]
REDUCTIONS = {
    "sum": {"objective": "classifier_sum", "lambda": 100.0},
    "pixel mean": {"objective": "classifier_pixel_mean", "lambda": 1.0},
}


def _steps(option: str) -> dict[str, int]:
    """The steps of so many epochs of each of the paper's sets."""
    epochs = _SETTINGS[option]
    return {name: round(epochs * about(name).n_train / BATCH) for name in _SETTINGS["data"]}


TRAINING, TUNING = _steps("epochs"), _steps("tuning_epochs")
PAPER = {
    name: PaperScale(
        steps=TUNING[name],
        batch_size=BATCH,
        seeds=3,  # of 25 runs in all, over two data sets and four betas
        grid={"beta": BETAS},
        settings={"parent_steps": TRAINING[name], "split": "own", "n_test": 10_000, "lr": TUNING_LR},
    )
    for name in TRAINING
}
AXES = ("beta", "objective", "lambda", "arm", "sparsity", "decoder")
CLAIMS = Claims(
    title="Disentanglement and pruning",
    question="Does a latent that is forced to disentangle make a network that stands more pruning?",
    answer="The authors call it inconclusive: a moderate beta looks best, beta 10 collapses, and half of the weights "
    "can go at little cost.",
    caution="We hold a summary of the paper with a few of its sentences, and no numbers. It does not say how it "
    "reduces the reconstruction, and so not what its beta is: a claim must hold in both readings, sum and pixel mean.",
    headline=("4.5", "4.1", "4.3"),
    study="pruning",
    scale=PAPER,
    steps=min(TUNING.values()),  # the least of both sets; each set's own is in `_below_the_paper`
    batch_size=BATCH,
    seeds=5,
    axes=AXES,
)

PRUNED = {"arm": "gradual", "sparsity": 0.5, "parent_decoder": True}
DENSE = PRUNED | {"arm": "dense", "sparsity": 0.0}
MANY = 20  # seeds, where a spread or a tail is compared
_DRAWS = 10_000  # of a resampling, always the same ones: a verdict is a function of the table
Read = Callable[..., Curve]


def _below_the_paper(evidence: Evidence) -> tuple[Reason, ...]:
    """What the budget lacks of the paper's: steps before the pruning and of it, training images."""
    budget, data = evidence.budget, evidence.data_set
    before, after = int(budget.get("parent_steps") or 0), int(budget["steps"])
    texts = []
    if min(TUNING.values()) < TUNING[data] > after:  # where it is the least of both, the claim says so
        texts.append(f"{after:,} of at least {TUNING[data]:,} steps on {data}")
    if before < TRAINING[data]:
        texts.append(f"pruned after {before:,} of at least {TRAINING[data]:,} steps of training")
    if budget.get("split", "own") != "own":
        texts.append(f"{int(budget['n_train'] or 0):,} training images, not all")
    return tuple(Reason("budget", text) for text in texts)


def _in_each_reduction(
    criteria: Callable[[Evidence, Read], Sequence[Criterion]],
) -> Callable[[Evidence], list[Criterion]]:
    """The criteria in each reduction, where `curve(measure, *betas)` is over those betas, or all of the paper's.

    Accuracy comes in points. They are undecided where a network was trained or pruned for less than the paper's epochs,
    or on fewer images.
    """

    def in_each(evidence: Evidence) -> list[Criterion]:
        reasons = _below_the_paper(evidence)
        return [
            criterion.named(f"{criterion.name}, {name}", *reasons)
            for name, reduction in REDUCTIONS.items()
            for criterion in criteria(evidence, partial(_curve, evidence, reduction))
        ]

    return in_each


def _curve(
    evidence: Evidence, reduction: Mapping, measure: str, *betas: float, part="test", of: Mapping = PRUNED
) -> Curve:
    curve = evidence.curve(measure, part=part, **of, **reduction)
    values = curve.values[[beta for beta in curve.values if beta in (betas or BETAS)]]
    return replace(curve, values=100 * values if measure == "accuracy" else values)


def _of_all(
    name: str,
    estimate: Callable[..., Any],
    bounds: Callable[..., tuple[float, float]],
    *curves: Curve,
    seeds: int,
    unit: str = "points",
) -> Statistic:
    """A statistic of all seeds together, with an interval of its own; undecided with fewer than `seeds` of them.

    Both functions take the curves' arrays (seeds, grid), `bounds` a level before them.
    """
    index = curves[0].values.index
    arrays = [curve.values.to_numpy() for curve in curves]
    able = not curves[0].missing and len(index) > 1
    return Statistic(
        name,
        pd.Series(estimate(*arrays) if able else np.nan, index=index, dtype=float),
        curves,
        unit,
        bounds=cache(lambda level: bounds(level, *arrays)) if able else None,
        least_seeds=seeds,
    )


# Intervals that are not a t interval of one value a seed


def welch(a: np.ndarray, b: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Welch's interval of the mean of `a` minus that of `b`, each (seeds, ...), over unequal variances."""
    va, vb = a.var(0, ddof=1) / len(a), b.var(0, ddof=1) / len(b)
    with np.errstate(invalid="ignore"):
        freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = np.sqrt(va + vb) * stats.t.ppf((1 + level) / 2, np.where(va + vb > 0, freedom, 1.0))
    return a.mean(0) - b.mean(0) - half, a.mean(0) - b.mean(0) + half


def best_gain(values: np.ndarray) -> float:
    """The largest mean of columns 1 and on of (seeds, grid), minus that of column 0."""
    return float(values.mean(0)[1:].max() - values.mean(0)[0])


def best_gain_bounds(level: float, values: np.ndarray) -> tuple[float, float]:
    """Interval of `best_gain`.

    That some column is above is shown by the one that is farthest, at the first of Holm's levels; that none is takes
    all of them, each at the level itself.
    """
    others, first = values[:, 1:], values[:, :1]
    low, _ = welch(others, first, 1 - (1 - level) / others.shape[1])
    _, high = welch(others, first, level)
    return float(low.max()), float(high.max())


def bootstrap(function: Callable[[np.ndarray], np.ndarray], level: float, values: np.ndarray) -> tuple[float, float]:
    """Percentile interval of `function`, (draws, seeds, grid) -> (draws,), over resampled seeds of (seeds, grid)."""
    picks = np.random.default_rng(0).integers(len(values), size=(_DRAWS, len(values)))
    return percentiles(lambda: function(values[picks]))(level)


def deviation_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """The standard deviation of `a` over that of `b`, each (seeds, 1); not finite where `b` does not vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(a.std(ddof=1) / b.std(ddof=1))


def deviation_ratio_bounds(level: float, a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """F interval of `deviation_ratio`, were both normal."""
    low, high = stats.f.ppf([(1 + level) / 2, (1 - level) / 2], len(a) - 1, len(b) - 1) ** -0.5 * deviation_ratio(a, b)
    return float(low), float(high)


def range_of_five(values: np.ndarray) -> np.ndarray:
    """Mean range over all choices of five of n seeds, (n, grid) -> (grid,): a range grows with its number of seeds.

    Of fewer than five, their range.
    """
    n = len(values)
    k = min(n, 5)
    # How often the value of this rank is the largest of k, less how often it is the smallest.
    weights = [math.comb(rank, k - 1) - math.comb(n - 1 - rank, k - 1) for rank in range(n)]
    return np.array(weights) / math.comb(n, k) @ np.sort(values, axis=0)


def excess_spread(values: np.ndarray) -> float:
    """Median over the grid of the range over five seeds, minus the largest step of the mean between neighbours."""
    return float(np.median(range_of_five(values)) - np.abs(np.diff(values.mean(0))).max())


def excess_spread_bounds(level: float, values: np.ndarray) -> tuple[float, float]:
    """Interval of `excess_spread` of (seeds, grid), were the seeds at each grid point normal.

    Means and deviations are drawn as Student's and chi-square's laws have them. A bootstrap will not do: a resampled
    range is never larger than the range. "Above every step" takes each step at the level itself, "below one" corrects
    for their number.
    """
    n, grid = values.shape
    rng = np.random.default_rng(0)
    wider = np.sqrt((n - 1) / rng.chisquare(n - 1, (_DRAWS, grid)))
    means = values.mean(0) + values.std(0, ddof=1) * wider * rng.standard_normal((_DRAWS, grid)) / math.sqrt(n)
    excess = np.median(range_of_five(values) * wider, axis=1)[:, None] - np.abs(np.diff(means, axis=1))
    tail = (1 - level) / 2
    return float(np.quantile(excess, tail, 0).min()), float(np.quantile(excess, 1 - tail / (grid - 1), 0).min())


# The claims


@CLAIMS.claim(
    "4.1",
    "Some beta > 1 beats beta = 1 in accuracy",
    brief="Some beta > 1 beats beta 1 in accuracy",
    finding="The best beta above 1 is {0:better|worse} than beta 1 in sum, {1:better|worse} in pixel mean",
    paper="at a certain beta > 1 the accuracy of pruned and unpruned models increased over beta = 1 (first on MNIST); "
    "the authors call it inconclusive",
    note="The first step of Holm's procedure answers 'some': the largest of the differences, at 1 - 0.05 / 3.",
)
@_in_each_reduction
def some_beta_beats_one(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """The largest gain in mean accuracy over beta = 1 is above 0, by Welch's intervals."""
    (accuracy,) = complete(curve("accuracy"), holding=BETAS)
    name = "largest gain over beta 1 (Welch, Holm)"
    return [effect(_of_all(name, best_gain, best_gain_bounds, accuracy, seeds=5), above=0)]


def _top_difference(values: np.ndarray) -> np.ndarray:
    """90th percentile over the seeds of the last column minus that of the first, (..., seeds, grid) -> (...)."""
    top = np.quantile(values, 0.9, axis=-2)
    return top[..., -1] - top[..., 0]


@CLAIMS.claim(
    "4.2",
    "CIFAR-10: the upper range of accuracy at beta = 5 exceeds that at beta = 1",
    brief="CIFAR-10: the best runs at beta 5 beat those at 1",
    finding="The upper range at beta 5 is {0:higher|lower} than at beta 1 in sum, {1:higher|lower} in pixel mean",
    train={
        "data": ("cifar10",),
        "betas": (1, 5),
        "arms": ("gradual",),
        "seeds": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    },
    paper="for beta = 5 the upper range of accuracy exceeds that of the beta = 1 model",
    scale={"cifar10": replace(PAPER["cifar10"], grid={"beta": (1.0, 5.0)})},
    seeds=MANY,
    note="The upper range is the 90th percentile over 20 seeds: of five seeds, maximum against maximum is a coin flip.",
)
@_in_each_reduction
def upper_range_at_five(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """90th percentile at beta = 5 minus that at beta = 1 is above 0, by a bootstrap over seeds."""
    (accuracy,) = complete(curve("accuracy", 1.0, 5.0), holding=(1.0, 5.0))
    name = "90th percentile at beta 5 minus that at beta 1 (bootstrap)"
    top = _of_all(name, _top_difference, partial(bootstrap, _top_difference), accuracy, seeds=MANY)
    return [effect(top, above=0)]


@CLAIMS.claim(
    "4.3",
    "At beta = 10 the accuracy drops severely, with posterior collapse",
    brief="At beta 10 the accuracy drops, with posterior collapse",
    finding="At beta 10 the accuracy is {0:lower|higher} than at 1 in sum, {2:lower|higher} in pixel mean",
    paper="severe accuracy drops at beta = 10 due to posterior collapse (summary; CIFAR-10 is named elsewhere in it)",
    scale={name: replace(scale, grid={"beta": (1.0, 10.0)}) for name, scale in PAPER.items()},
    note="Collapse is seen in the units, not in the accuracy: a unit is active where the variance of its mean over the "
    "images is above 0.01.",
)
@_in_each_reduction
def collapse_at_ten(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """More than 5 points below beta = 1, and fewer than half of its active units."""
    both = curve("accuracy", 1.0, 10.0), curve("active_units", 1.0, 10.0)
    accuracy, units = complete(*both, holding=(1.0, 10.0))
    drop = difference("drop at beta 10", accuracy, 1.0, 10.0, unit="points")
    name = "half of the active units at beta 1 minus those at beta 10"
    lost = paired(name, lambda values: values[:, 0] / 2 - values[:, 1], units, unit="units")
    return [effect(drop, above=5), effect(lost, above=0)]


@CLAIMS.claim(
    "4.4",
    "Compression ratios are alike across beta",
    brief="Compression ratios are alike across beta",
    finding="The compression ratio spreads by {0} over beta in sum, by {1} in pixel mean",
    paper="compression ratios remain similar across models",
    note="Of parameters the ratio is the same by construction. It is decided on bytes: of all weights in float32 over "
    "those of the pruned network, zlib-compressed.",
)
@_in_each_reduction
def compression_is_alike(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """No effect: the compression ratio's spread over the betas, (max - min) / mean, is below 2 %."""
    both = (curve(measure, part="model") for measure in ("parameters", "compressed_bytes"))
    parameters, size = complete(*both, holding=BETAS)

    def spread(parameters, size):
        ratio = 4 * parameters / size
        return 100 * np.ptp(ratio, axis=1) / ratio.mean(1)

    name = "spread of the compression ratio over beta"
    return [absence(paired(name, spread, parameters, size, unit="%"), margin=2)]


@CLAIMS.claim(
    "4.5",
    "Pruning half of the weights costs little accuracy",
    brief="Pruning half of the weights costs little",
    finding="Pruning half of the weights costs at most {0} in sum, {1} in pixel mean",
    paper="50 % of the weights pruned at little cost; no number in the summary that we hold",
    note="Against the same network tuned for the same two epochs without pruning. The largest cost over the betas is "
    "taken within each seed, which noise can only raise.",
)
@_in_each_reduction
def pruning_costs_little(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """No effect: the largest cost over the betas is at most 1 point on MNIST, at most 3 on CIFAR-10."""
    dense, pruned = complete(curve("accuracy", of=DENSE), curve("accuracy"), holding=BETAS)
    cost = paired("largest cost over beta", lambda a, b: (a - b).max(axis=1), dense, pruned, unit="points")
    margin = {"mnist": 1, "cifar10": 3}[evidence.data_set]
    return [replace(absence(cost, margin), wanted=f"≤ {margin}", strict=False)]


@CLAIMS.claim(
    "4.6",
    "Accuracy against beta is an inverted U",
    brief="Accuracy against beta is an inverted U",
    finding="A moderate beta is {0:better|worse} than beta 1 and {1:better|worse} than 10 in sum; in pixel mean "
    "{2:better|worse} and {3:better|worse}",
    paper="(summary) initial results suggest a U-shaped accuracy curve: best at moderate beta, about 5",
    note="The best interior beta is chosen for each seed by the other seeds, so that noise does not read as a U.",
)
@_in_each_reduction
def accuracy_is_an_inverted_u(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """Accuracy at an interior beta above that at either end."""
    (accuracy,) = complete(curve("accuracy"), holding=BETAS)
    best = "best interior beta minus beta"
    rise = paired(f"{best} 1", lambda values: u_depths(-values), accuracy, unit="points")
    fall = paired(f"{best} 10", lambda values: u_depths(-values[:, ::-1]), accuracy, unit="points")
    return [effect(rise, above=0), effect(fall, above=0)]


@CLAIMS.claim(
    "4.7",
    "Accuracy spreads widely between runs",
    brief="Accuracy spreads widely between runs",
    finding="Five runs spread {0:more|less} than the largest step of beta in sum, {1:more|less} in pixel mean",
    paper="(summary) large variance across runs (instability)",
    note="Wide is more than what beta does: the range of five runs, its median over the betas, against the largest "
    "difference between the means of neighbouring betas. With more seeds, the mean range of any five of them.",
)
@_in_each_reduction
def runs_spread_widely(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """Median over beta of the range of five runs, minus the largest difference of neighbouring means, is above 0."""
    (accuracy,) = complete(curve("accuracy"), holding=BETAS)
    name = "median range of five runs minus the largest step between means (normal)"
    return [effect(_of_all(name, excess_spread, excess_spread_bounds, accuracy, seeds=5), above=0)]


@CLAIMS.claim(
    "4.8",
    "The reconstruction term steadies pruning",
    brief="The reconstruction term steadies pruning",
    finding="With the reconstruction, accuracy spreads {0} times as much as without it in sum, {1} times in pixel mean",
    train={
        "betas": (1,),
        "arms": ("gradual", "no_decoder"),
        "seeds": (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19),
    },
    paper="(summary) the reconstruction preserves features, which may stabilise pruning",
    scale={name: replace(scale, grid={"beta": (1.0,)}) for name, scale in PAPER.items()},
    seeds=MANY,
    axes=(*AXES, "reconstruction"),
    note="At beta = 1, against training with the KL and the classifier alone. An F test, which takes accuracies for "
    "normal; with 5 seeds its power would be 21 %.",
)
@_in_each_reduction
def reconstruction_steadies(evidence: Evidence, curve: Read) -> Sequence[Criterion]:
    """Standard deviation over seeds of the pruned accuracy: with the reconstruction over that without it, below 1."""
    without = curve("accuracy", 1.0, of=PRUNED | {"parent_decoder": False})
    pair = complete(curve("accuracy", 1.0), without, holding=(1.0,))
    name = "SD with the reconstruction over SD without (F)"
    ratio = _of_all(name, deviation_ratio, deviation_ratio_bounds, *pair, seeds=MANY, unit="")
    return [effect(ratio, below=1)]
