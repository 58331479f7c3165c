"""The claims of study 3: Rate-Regularization and Generalization in VAEs (Bozkurt et al., AISTATS 2021).

All D, R, MI and KL in nats per image; D on the whole test set with one sample of z. The paper's grid of beta reaches
from 0.001 to 5: betas outside it are no part of what it says, so they enter no curve here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from vaekit.claims import Claims, PaperScale, absence, complete, effect, paired, spearman, u_depth
from vaekit.claims.curves import Curve, Evidence
from vaekit.claims.rules import Criterion, holm
from vaekit.claims.statistics import Reason, Statistic, difference, in_doubt, matched_rate, percentiles, u_depths
from vaekit.store import table as tidy
from vaekit.studies.rate_generalisation import BIN, Settings, layers

_SETTINGS = Settings.SCALES["paper"]
BETAS = _SETTINGS["betas"]
PAPER = PaperScale(
    steps=_SETTINGS["steps"],
    batch_size=_SETTINGS["batch_size"],
    seeds=len(_SETTINGS["seeds"]),
    data=("tetrominoes",),  # made to the paper's recipe, so the paper's own set
    grid={"beta": BETAS, "depth": (1, 3)},
    settings={"hidden": 512, "latent_dim": 10, "objective": "beta", "n_test": None},
)
SHALLOW, DEEP = (replace(PAPER, grid={"beta": BETAS, "depth": (depth,)}) for depth in (1, 3))
AXES = ("beta", "depth", "model", "split", "n_train")
CLAIMS = Claims(
    title="Rate and generalisation",
    question="Does the rate term help a VAE to reconstruct images that it was not trained on?",
    answer="Mostly no. Only a shallow network on sparse data has a best beta that is not the smallest; a deep one "
    "reconstructs unseen images better the less the rate weighs, and memorises at large beta.",
    headline=("3.6", "3.5", "3.3", "3.7", "3.14"),
    deciding="short",
    study="rate_generalisation",
    scale=PAPER,
    seeds=3,
    axes=AXES,
)

# CV(82k/82k) is also what a random half is. The two names are never mixed, as `split` is no axis of what reads them:
# whichever was run decides. The random split's size is its own, so there n_train need not be given.
DENSE = {"data": "tetrominoes", "model": "dense_vae", "split": ("cv", "random"), "n_train": (81_920, None)}
OF_DENSE = ("beta", "depth", "model", "n_train")
SPARSE = {"data": "tetrominoes", "model": "dense_vae", "split": "cv", "n_train": 16_384}

# What a curve in beta must hold before it says anything of a U: the paper's smallest beta, where the left arm ends (the
# trial's U rose by 1 nat from 0.1 to 0.001); one beta where its valley is; one of 1 or more for the right arm.
ARMS_AND_VALLEY = ((0.001, 0.001), (0.01, 0.5), (1.0, 5.0))


def _curve(evidence: Evidence, measure: str, part: str, **where: Any) -> Curve:
    """A measure over the betas of the paper's range."""
    return evidence.curve(measure, part=part, between=(BETAS[0], BETAS[-1]), **where)


def _distortion(evidence: Evidence, part: str, **where: Any) -> Curve:
    return _curve(evidence, "distortion", part, samples=1, **where)


def _of_a_u(*curves: Curve) -> tuple[Curve, ...]:
    """The curves on one grid, which can hold a U, and of the same seeds."""
    return complete(*curves, points=4, holding=ARMS_AND_VALLEY)


def _tests(evidence: Evidence, *selections: Mapping[str, Any]) -> tuple[Curve, ...]:
    """Test D of each selection, seeds x beta."""
    return _of_a_u(*(_distortion(evidence, "test", **where) for where in selections))


def _with_training(evidence: Evidence, depth: int, split: dict) -> tuple[Curve, ...]:
    """Test D, training D and the training images' floor, seeds x beta."""
    distortions = (_distortion(evidence, part, depth=depth, **split) for part in ("test", "train"))
    floor = _curve(evidence, "distortion_floor", "train", at="last", depth=depth, **split)
    return _of_a_u(*distortions, floor)


@CLAIMS.claim(
    "3.1",
    "Dense data, CV(82k/82k), 1 and 3 layers: no memorisation at any beta",
    brief="Dense data: nothing is memorised",
    finding="On dense data the gap is at most {0:.1%} of what training could still save with 1 layer, {1:.1%} with 3",
    train={"n_train": (81920,)},
    paper="no evidence of memorization; virtually no generalization gap (Figure 3, top)",
    steps=50_000,
    axes=OF_DENSE,
    note="The gap's share is of what training could still save, D on the training images above their floor. Its "
    "largest value over the betas is taken within each seed, which noise can only raise.",
)
def dense_data_is_not_memorised(evidence: Evidence) -> Sequence[Criterion]:
    """Per depth, no effect: max over beta of (D_test - D_train) / (D_train - floor) < 5 %."""

    def share(test, train, floor):
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(train > floor, (test - train) / (train - floor), np.nan)
        return shares.max(axis=1)  # NaN, no value, where a training D is not above its floor: one of them is wrong

    return [
        absence(paired(f"largest gap share, {layers(depth)}", share, *curves, unit=""), margin=0.05)
        for depth, curves in ((depth, _with_training(evidence, depth, DENSE)) for depth in (1, 3))
    ]


@CLAIMS.claim(
    "3.2",
    "Dense data, CV(82k/82k): 3 layers dominate 1 layer",
    brief="Dense data: three layers dominate one",
    finding="On dense data, 3 layers reconstruct {0:better|worse} than 1 at equal rate",
    train={"n_train": (81920,)},
    paper="increasing model capacity decreases both the rate and the distortion (Figure 3, top)",
    steps=50_000,
    axes=OF_DENSE,
)
def three_layers_dominate(evidence: Evidence) -> Sequence[Criterion]:
    """D of 1 layer minus D of 3 layers, at matched rate, on test images, > 0."""
    d1, d3, r1, r3 = _of_a_u(
        *(_distortion(evidence, "test", **DENSE, depth=depth) for depth in (1, 3)),
        *(_curve(evidence, "rate", "test", **DENSE, depth=depth) for depth in (1, 3)),
    )
    name = "D of 1 layer - D of 3 layers at matched rate"
    return [effect(matched_rate(name, (d1, r1), (d3, r3)), above=0)]


@CLAIMS.claim(
    "3.3",
    "Sparse data, CV(16k/147k), 1 layer: test D is U-shaped in beta while training D falls monotonically as beta falls",
    brief="Sparse data, one layer: test D is U-shaped in beta",
    finding="With 1 layer, test D at beta 0.001 is {0:above|below} its valley, and the rank correlation "
    "of beta and training D is {1:.2f}",
    train={"n_train": (16384,), "depths": (1,)},
    paper="training D decreases monotonically as beta is reduced; test D decreases, achieves a minimum, and somewhat "
    "increases afterwards (Figure 3, bottom)",
    scale=SHALLOW,
    steps=50_000,
    note="The minimum's place is chosen for each seed by the other seeds, so that noise does not read as a U.",
)
def one_layer_is_u_shaped(evidence: Evidence) -> Sequence[Criterion]:
    """U-depth of test D > 0, and Spearman(beta, D_train) >= 0.95."""
    test, train, _ = _with_training(evidence, 1, SPARSE)
    return [
        effect(u_depth(test, "U-depth of test D"), above=0),
        effect(spearman(train, "Spearman(beta, training D)"), at_least=0.95),
    ]


SNAPSHOTS = 5  # that every member must have, or the best of them says little of what early stopping would find


def stopped_early(rows: pd.DataFrame, halves: tuple[str, str]) -> pd.DataFrame:
    """Of each member, the row of D on the second half of the test images at the snapshot that is best on the first.

    `rows` are tidy; `halves` names their parts, which should be of the same images at every snapshot.
    """
    choosing, judging = (tidy.select(rows, "distortion", "all", part=part, samples=1) for part in halves)
    choosing, judging = choosing.dropna(subset="value"), judging.dropna(subset="value")
    best = choosing.loc[choosing.groupby("key")["value"].idxmin(), ["key", "step"]]
    return judging.merge(best, on=["key", "step"])


def _stopped_early(evidence: Evidence, where: Mapping[str, Any]) -> Curve:
    """`stopped_early` of the measure `learning_curve` up to this evidence's step."""
    halves = "test_nested_a", "test_nested_b"
    rows = evidence.select("distortion", at="until", part=halves, samples=1, **where)
    best = stopped_early(rows, halves).assign(step=evidence.step, part="test")
    (curve,) = _tests(replace(evidence, measures={"distortion": best}), where)
    least = rows[rows["part"] == halves[0]].groupby("key")["step"].nunique().min()
    few = f"{least} of at least {SNAPSHOTS} snapshots of a member" if least < SNAPSHOTS else ""
    return replace(curve, missing=curve.missing or few)


@CLAIMS.claim(
    "3.4",
    "Sparse data, CV(16k/147k), 1 layer: stopped early, test D keeps falling as beta falls",
    brief="Sparse data, one layer: stopped early, the U goes",
    finding="Stopped early, test D of 1 layer at beta 0.001 is {0:above|below} its valley",
    train={"n_train": (16384,), "depths": (1,)},
    paper="when we perform early stopping, the RD curve once again becomes monotonic",
    scale=SHALLOW,
    steps=50_000,
    note="Each member's snapshot is chosen on one half of the first 10,000 test images, and its D is taken on the "
    "other.",
)
def early_stopping_takes_the_u_away(evidence: Evidence) -> Sequence[Criterion]:
    """No effect: U-depth of test D at each member's best snapshot."""
    return [absence(u_depth(_stopped_early(evidence, {**SPARSE, "depth": 1}), "U-depth of test D, stopped early"))]


@CLAIMS.claim(
    "3.5",
    "Sparse data, CV(16k/147k), 3 layers: test D keeps falling as beta falls",
    brief="Sparse data, three layers: test D keeps falling",
    finding="With 3 layers, test D at beta 0.001 is {0:above|below} the lowest at a larger beta; the rank "
    "correlation of beta and test D is {1:.2f}",
    train={"n_train": (16384,), "depths": (3,)},
    paper="a qualitatively different trend: no memorization is apparent at smaller beta (Figure 3, bottom)",
    scale=DEEP,
    steps=50_000,
)
def three_layers_keep_falling(evidence: Evidence) -> Sequence[Criterion]:
    """No effect: U-depth of test D; and Spearman(beta, D_test) >= 0.9."""
    (test,) = _tests(evidence, {**SPARSE, "depth": 3})
    return [absence(u_depth(test, "U-depth of test D")), effect(spearman(test, "Spearman(beta, test D)"), at_least=0.9)]


@CLAIMS.claim(
    "3.6",
    "Sparse data, CV(16k/147k), 3 layers: memorisation shows at large beta",
    brief="Sparse data, three layers: large beta memorises",
    finding="At beta 1 a training image is nearest, rather than a control image, for {0[1]:.1%} of the test images "
    "more than by chance, at beta 0.01 for {0[0.01]:.1%}",
    train={"n_train": (16384,), "depths": (3,)},
    paper="some reconstructions resemble memorized neighbors; no memorization is apparent at smaller beta",
    scale=replace(DEEP, grid={"beta": (0.01, 1.0), "depth": (3,)}),
    steps=20_000,
    note="The preference is how often the training image nearest to a test image's reconstruction is nearer than the "
    "nearest of as many control images, which are like the training images but were not trained on, less 1/2: 0, but "
    "for chance, of a network that remembers nothing, however poor its reconstructions.",
)
def memorisation_shows_at_large_beta(evidence: Evidence) -> Sequence[Criterion]:
    """t(1) - t(0.01) > 0.

    t is the measure `train_preference` (part test): P(nearest of m training images nearer than nearest of
    m control images) - 1/2, to the reconstructions, at the mean of z, of the nested 10,000 test images.
    """
    preference = _curve(evidence, "train_preference", "test", depth=3, **SPARSE)
    (preference,) = complete(preference, holding=(0.01, 1.0))
    name = "preference for training images at beta 1 - at beta 0.01"
    return [effect(difference(name, preference, 1.0, 0.01, unit=""), above=0)]


PEAK = (0.05, 0.3)
AROUND_THE_PEAK = (0.01, 0.1, 0.3, 0.5, 1.0)


def _peaks(name: str, curve: Curve) -> list[Criterion]:
    """A complete curve at its best beta in `PEAK` minus that at each beta outside: > 0 (Holm).

    Each seed's best beta is that of the other seeds' mean curve, as in `u_depth`: none chooses what it decides.
    """
    betas = curve.values.columns.to_numpy(dtype=float)
    inside = (betas >= PEAK[0]) & (betas <= PEAK[1])

    def peak(values: np.ndarray) -> np.ndarray:
        if len(values) < 2:
            return np.full(len(values), np.nan)
        best = np.where(inside, values.sum(axis=0) - values, -np.inf).argmax(axis=1)
        return values[np.arange(len(values)), best]

    says = f"{name} at the best beta from {PEAK[0]:g} to {PEAK[1]:g}"
    if curve.missing:
        return [effect(paired(says, peak, curve), above=0)]
    differences = [
        paired(f"{says} - at {beta:g}", partial(lambda i, values: peak(values) - values[:, i], i), curve)
        for i, beta in enumerate(betas)
        if not inside[i]
    ]
    return holm([effect(difference, above=0) for difference in differences])


@CLAIMS.claim(
    "3.7",
    "Sparse data, CV(16k/147k), 3 layers: the ELBO of test images is greatest near beta 0.1",
    brief="Three layers: the test ELBO peaks near beta 0.1",
    finding="Near beta 0.1 the test ELBO is {least:above|below} that of the nearest rival",
    train={"n_train": (16384,), "depths": (3,)},
    paper="the test-set lower bound achieves a maximum at beta = 0.1 (Figure 3, bottom)",
    scale=DEEP,
    steps=20_000,
    note="The ELBO is -(D + R) whatever beta was trained with. Near 0.1 means from 0.05 to 0.3; the best beta there is "
    "chosen for each seed by the other seeds.",
)
def elbo_peaks_near_a_tenth(evidence: Evidence) -> Sequence[Criterion]:
    """ELBO(b) - ELBO(outside) > 0 for the best b in [0.05, 0.3] and each beta outside (Holm)."""
    distortion = _distortion(evidence, "test", depth=3, **SPARSE)
    rate = _curve(evidence, "rate", "test", depth=3, **SPARSE)
    d, r = complete(distortion, rate, points=5, holding=AROUND_THE_PEAK)
    return _peaks("ELBO", replace(d, values=-(d.values + r.values)))


@CLAIMS.claim(
    "3.8",
    "Sparse data, CV(16k/147k), 3 layers: log p(x) of test images is greatest there too",
    brief="Three layers: the test likelihood peaks there, too",
    finding="Near beta 0.1, log p(x) of test images is {least:above|below} that of the nearest rival",
    train={"n_train": (16384,), "depths": (3,)},
    paper="this maximum also corresponds to the maximum of the log marginal likelihood",
    scale=DEEP,
    steps=20_000,
    note="Decided as 3.7 is, on the importance-weighted bound.",
)
def likelihood_peaks_there_too(evidence: Evidence) -> Sequence[Criterion]:
    """log p(b) - log p(outside) > 0 for the best b in [0.05, 0.3] and each beta outside (Holm).

    log p is the measure `log_likelihood` (part test, `samples` 5,000): the mean, over the first 1,000 test
    images, of log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x), with K = 5,000 samples of q(z|x).
    """
    likelihood = _curve(evidence, "log_likelihood", "test", samples=5_000, depth=3, **SPARSE)
    (bound,) = complete(likelihood, points=5, holding=AROUND_THE_PEAK)
    return _peaks("log p(x)", bound)


SIZES = (8_192, 16_384, 32_768, 57_344)


def _both_depths(*splits: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{**SPARSE, **split, "depth": depth} for split in splits for depth in (1, 3)]


def _gains(curves: Sequence[np.ndarray]) -> np.ndarray:
    """G = U-depth(1 layer) - U-depth(3 layers), (splits, seeds), of test D in the order of `_both_depths`."""
    return np.stack([u_depths(one) - u_depths(three) for one, three in zip(curves[::2], curves[1::2], strict=True)])


@CLAIMS.claim(
    "3.9",
    "Constant volume: the difference between 1 and 3 layers grows as the training set shrinks",
    brief="Depth matters more as the training set shrinks",
    finding="For each e-fold of training images the depths' difference {0:grows|shrinks}",
    train={"n_train": (8192, 16384, 32768, 57344)},
    paper="the discrepancy between 1-layer and 3-layer networks becomes more pronounced as we decrease the size of the "
    "training set (Figure 4, top)",
    scale=replace(PAPER, grid={**PAPER.grid, "n_train": SIZES}),
    steps=50_000,
    note="G is the U-depth of test D with 1 layer minus that with 3 layers.",
)
def depth_matters_more_with_less_data(evidence: Evidence) -> Sequence[Criterion]:
    """The slope of G(N) on log N, over N of 8k, 16k, 32k and 56k, per seed, < 0."""
    curves = _tests(evidence, *_both_depths(*({"n_train": n} for n in SIZES)))
    log_n = np.log(SIZES) - np.log(SIZES).mean()
    slope = paired("slope of G on log N", lambda *arrays: log_n @ _gains(arrays) / (log_n @ log_n), *curves)
    return [effect(slope, below=0)]


@CLAIMS.claim(
    "3.10",
    "Constant density: the difference between 1 and 3 layers is much smaller",
    brief="At constant density depth matters much less",
    finding="At constant volume the depths' difference is {0:more|less} than twice that at constant density",
    train={"n_train": (8192, 16384), "split": "cd"},
    paper="in the CD splits, discrepancies are much less pronounced (Figure 4, bottom)",
    scale=replace(PAPER, grid={**PAPER.grid, "n_train": SIZES[:2]}),
    steps=50_000,
    note="Much smaller means by more than half; G as in 3.9, in the mean of 8k and 16k training images.",
)
def depth_matters_less_at_constant_density(evidence: Evidence) -> Sequence[Criterion]:
    """G_CV - 2 G_CD > 0; undecided unless G_CV > 0."""
    splits = [{"split": split, "n_train": n} for split in ("cv", "cd") for n in SIZES[:2]]
    curves = _tests(evidence, *_both_depths(*splits))
    of_volume = paired("G_CV", lambda *arrays: np.array([0.5, 0.5, 0, 0]) @ _gains(arrays), *curves)
    more = paired("G_CV - 2 G_CD", lambda *arrays: np.array([0.5, 0.5, -1, -1]) @ _gains(arrays), *curves)
    if not of_volume.interval()[0] > 0:
        more = replace(more, undecidable_because=(Reason("values", "G_CV is not above 0"),))
    return [effect(more, above=0)]


CHECKERBOARD = DENSE | {"split": "checkerboard"}
COUNTS = "nearest_distance"
DRAWS = 2_000  # of a bootstrap, the same ones each time: a verdict is a function of the table


def _dense(evidence: Evidence) -> dict[str, Any]:
    """`DENSE` under that of its two names of which there is more: more curves or, without any, more distances."""

    def rows(where: Mapping[str, Any]) -> tuple[int, int]:
        distortions = evidence.select("distortion", part="test", samples=1, **where)
        return len(distortions), len(_distances(evidence, where).values.columns)

    return max(({**DENSE, "split": name} for name in DENSE["split"]), key=rows)


def _distances(evidence: Evidence, where: Mapping[str, Any]) -> Curve:
    """How many test images lie how far from the training images: a split's own, so read off one of its members.

    It is the measure `nearest_distance` (part test, `bin` k): how many of the first 10,000 test images have
    the training image that is nearest (L2) at a distance in [k, k + 1) / 4. A bin without images needs no row. A member
    of any budget will do, of those the one that saw the most test images.
    """
    if COUNTS in evidence.measures:
        rows = evidence.measures[COUNTS].assign(n=lambda rows: rows.get("n", 0))
        rows = rows.sort_values(["version", "n", "key", "step"], ascending=[False, False, True, False])
        split = [rows[field].fillna("") for field in where]
        rows = rows.loc[rows["key"] == rows.groupby(split)["key"].transform("first")]
        evidence = replace(evidence, measures={COUNTS: rows.drop_duplicates(["key", "bin"])})
    return evidence.curve(COUNTS, part="test", over="bin", at="last", **where)


def _nearer(evidence: Evidence, dense: Mapping[str, Any], seeds: pd.Index) -> Statistic:
    """W1(check, CV16k) - W1(check, CV82k) / 2 of `_distances`, with a bootstrap over test images."""
    curves = [_distances(evidence, where) for where in (CHECKERBOARD, SPARSE, dense)]
    counts = pd.concat([curve.values.max() for curve in curves], axis=1).sort_index()
    counts = counts.reindex(range(int(counts.index.max()) + 1) if len(counts) else []).fillna(0).to_numpy().T

    def difference(images: np.ndarray) -> np.ndarray:
        check, sparse, dense = np.moveaxis(images.cumsum(axis=-1) / images.sum(axis=-1, keepdims=True), -2, 0)
        return BIN * (np.abs(check - sparse) - np.abs(check - dense) / 2).sum(axis=-1)

    def draw() -> np.ndarray:
        rng = np.random.default_rng(0)
        images = [rng.multinomial(int(each.sum()), each / each.sum(), DRAWS) for each in counts]
        return difference(np.stack(images, axis=1))

    name = "W1(check, CV16k) - W1(check, CV82k) / 2, bootstrap over test images"
    if not len(seeds):  # no curves: what no training changes has its value all the same
        seeds = curves[0].values.index[:1]
    if any(curve.missing for curve in curves):
        return Statistic(name, pd.Series(np.nan, seeds), tuple(curves), unit="L2")
    values = pd.Series(difference(counts), seeds)
    return Statistic(name, values, tuple(curves), unit="L2", bounds=percentiles(draw))


@CLAIMS.claim(
    "3.11",
    "The checkerboard (82k/82k) generalises like CV(16k/147k), not like CV(82k/82k)",
    brief="The checkerboard generalises like sparse data",
    finding="The checkerboard's U is {0:nearer|farther} to that of sparse data than to that of dense data",
    train={"split": "checkerboard", "depths": (1,)},
    paper="similar generalization performance for the Checkerboard and CV(16k/147k) splits, which have a similar "
    "distribution over pixel-distances between test set and nearest training examples (Figure 5)",
    scale=SHALLOW,
    steps=50_000,
    untrained=(COUNTS,),
    note="In the U-depth of test D with 1 layer, and in how far test images lie from the nearest training image, which "
    "no training changes.",
)
def checkerboard_is_like_sparse_data(evidence: Evidence) -> Sequence[Criterion]:
    """|U_check - U_CV82k| - |U_check - U_CV16k| > 0, and W1(check, CV16k) - W1(check, CV82k) / 2 < 0."""
    dense = _dense(evidence)
    curves = _tests(evidence, *({**where, "depth": 1} for where in (CHECKERBOARD, dense, SPARSE)))

    def nearer(*arrays: np.ndarray) -> np.ndarray:
        check, dense, sparse = map(u_depths, arrays)
        return np.abs(check - dense) - np.abs(check - sparse)

    shape = paired("|U_check - U_CV82k| - |U_check - U_CV16k|", nearer, *curves)
    return [effect(shape, above=0), effect(_nearer(evidence, dense, shape.values.index), below=0)]


MLP = SPARSE | {"hidden": 512}
CNN = SPARSE | {"model": "conv_vae", "channels": 64}
NO_WIDTH = {name: value for name, value in PAPER.settings.items() if name != "hidden"}


@CLAIMS.claim(
    "3.12",
    "Convolutions, CV(16k/147k): 3 layers keep falling as beta falls, 1 layer only mildly fails to",
    brief="With convolutions the U is mild or gone",
    finding="With convolutions, 3 layers have a U of {0}; the dense net's is {1:more|less} than twice the "
    "convolutional one's",
    train={"n_train": (16384,), "models": ("conv_vae",)},
    paper="monotonic for 3-layer CNNs and only a small degree of non-monotonicity in the 1-layer CNN (Figure 6)",
    scale=replace(PAPER, settings=NO_WIDTH),
    steps=50_000,
    axes=(*AXES, "hidden", "channels"),
    note="Mildly means by less than half of the fully connected network's U-depth.",
)
def convolutions_hardly_turn(evidence: Evidence) -> Sequence[Criterion]:
    """3 layers, no effect: U-depth of test D; 1 layer: U-depth(MLP) - 2 U-depth(CNN) > 0."""
    (deep,) = _tests(evidence, {**CNN, "depth": 3})
    shallow = _tests(evidence, {**MLP, "depth": 1}, {**CNN, "depth": 1})
    mild = paired("U-depth of the MLP - 2 of the CNN, 1 layer", lambda a, b: u_depths(a) - 2 * u_depths(b), *shallow)
    return [absence(u_depth(deep, "U-depth of the CNN, 3 layers")), effect(mild, above=0)]


# A tenth of each set's training images.
OTHERS = {"fashion_mnist": 6_000, "mnist": 6_000, "small_norb": 2_430, "shapes3d": 48_000}


def _of_set(name: str, depth: int) -> dict[str, Any]:
    return MLP | {"data": name, "n_train": OTHERS[name], "depth": depth}


def _in_most_sets(evidence: Evidence) -> Statistic:
    """The least U-depth among the deepest of the available sets, more than half of them: above 0 if most have one."""
    curves = [_tests(evidence, _of_set(name, 1))[0] for name in OTHERS]
    available = [curve for curve in curves if not curve.missing]
    if not available:
        return u_depth(max(curves, key=lambda curve: curve.values.size), "U-depth with 1 layer")
    most = len(available) // 2 + 1
    depths = pd.concat([u_depth(curve).values for curve in available], axis=1, join="inner")
    return Statistic(
        f"U-depth with 1 layer, the least of the {most} deepest of {len(available)} sets",
        pd.Series(-np.sort(-depths.to_numpy())[:, most - 1], depths.index),
        tuple(available),
    )


@CLAIMS.claim(
    "3.13",
    "Other data, a tenth of the training images: 1 layer has a minimum in most sets; in 3dShapes that of 3 layers is "
    "deeper",
    brief="Other data: one layer has a minimum in most sets",
    finding="In most other sets, test D of 1 layer at beta 0.001 is {0:above|below} its valley",
    train={"data": ("fashion_mnist", "mnist", "small_norb", "shapes3d")},
    paper="the 1-layer network exhibits a local minimum in most datasets; in 3dShapes the 3-layer network exhibits a "
    "more pronounced one (Figure 7)",
    scale=replace(PAPER, data=tuple(OTHERS)),
    steps=50_000,
    axes=(*AXES, "data", "data_identity", "hidden"),
    note="Most means more than half of the sets at hand.",
)
def other_data_turn_too(evidence: Evidence) -> Sequence[Criterion]:
    """The (n // 2 + 1)-th largest of n sets' U-depths > 0; on 3dShapes U-depth(3 layers) - U-depth(1 layer) > 0."""
    curves = _tests(evidence, *(_of_set("shapes3d", depth) for depth in (1, 3)))
    more = paired("3dShapes: U-depth with 3 layers - with 1", lambda a, b: u_depths(b) - u_depths(a), *curves)
    return [effect(_in_most_sets(evidence), above=0), effect(more, above=0)]


def _available(of_depth: Mapping[int, tuple[Curve, ...]]) -> Mapping[int, tuple[Curve, ...]]:
    """The depths with the grid, all of which must hold; without any, the one that has most of it."""
    most = max(of_depth, key=lambda depth: of_depth[depth][0].values.size)
    complete_curves = {depth: curves for depth, curves in of_depth.items() if not curves[0].missing}
    return complete_curves or {most: of_depth[most]}


NO_DEPTH = "The paper does not say of which depth: every depth at hand is shown, and all must hold. "


# 0.5 itself, where saturation is hardest; the middle; and the far end, or "every beta" would be of a few.
WHERE_IT_SATURATES = ((0.001, 0.01), (0.1, 0.3), 0.5)


@CLAIMS.claim(
    "3.14",
    "The mutual information saturates at log N_train for beta < 1",
    brief="The mutual information saturates at log N",
    finding="For beta up to 0.5 the mutual information is within {0} of its ceiling log N",
    train={"n_train": (16384,)},
    paper="I(x; z) saturates to its maximum log N_train = 9.70 nats when beta < 1, CV(16k/147k) (Figure 8)",
    scale=replace(PAPER, grid={"beta": BETAS[:6], "depth": (1, 3)}),
    steps=20_000,
    note=NO_DEPTH + "Tested at beta up to 0.5, with q(z) exact over all training images.",
)
def information_saturates(evidence: Evidence) -> Sequence[Criterion]:
    """The largest of log N - MI (exact q(z)) over the betas up to 0.5 is below 0.2 nats."""
    where = {"part": "train", "between": (BETAS[0], 0.5), "estimator": "exact", **SPARSE}
    of_depth = {}
    for depth in (1, 3):
        information = evidence.curve("mutual_information", depth=depth, **where)
        of_depth[depth] = complete(information, points=3, holding=WHERE_IT_SATURATES)

    def deficit(information: np.ndarray) -> np.ndarray:
        return (math.log(SPARSE["n_train"]) - information).max(axis=1)

    return [
        effect(paired(f"largest deficit of MI, beta up to 0.5, {layers(depth)}", deficit, *curves), below=0.2)
        for depth, curves in _available(of_depth).items()
    ]


@CLAIMS.claim(
    "3.15",
    "The marginal KL is small for beta > 1 and grows as beta falls to 0",
    brief="The marginal KL is small, and grows as beta falls",
    finding="The marginal KL is {1[0.1]} at beta 0.1 and {1[2]} at beta 2",
    train={"n_train": (16384,)},
    paper="KL(q(z) || p(z)) is small when beta > 1 but increases when beta < 1, CV(16k/147k) (Figure 8)",
    steps=20_000,
    note=NO_DEPTH
    + "Small cannot mean small beside R, which exceeds it by at most log N: it means less than half of the "
    "value at beta 0.1. Where a rate is below 0.1 nats the code is empty and its marginal KL says nothing.",
)
def marginal_kl_grows(evidence: Evidence) -> Sequence[Criterion]:
    """Spearman(beta, marginal KL) <= -0.95, and marginal KL(2) < half of marginal KL(0.1); R < 0.1: undecided."""
    of_depth = {}
    for depth in (1, 3):
        marginal = _curve(evidence, "marginal_kl", "train", estimator="exact", depth=depth, **SPARSE)
        rate = _curve(evidence, "rate", "train", depth=depth, **SPARSE)
        of_depth[depth] = complete(marginal, rate, points=4, holding=((0.001, 0.01), 0.1, 2.0))
    criteria = []
    for depth, (marginal, rate) in _available(of_depth).items():
        order = spearman(marginal, f"Spearman(beta, marginal KL), {layers(depth)}")
        name = f"half of marginal KL at 0.1 minus that at 2, {layers(depth)}"
        halves = paired(name, lambda values: values[:, 0] / 2 - values[:, 1], marginal, at=(0.1, 2.0))
        criteria.append(effect(in_doubt(order, rate, 0.1), at_most=-0.95))
        criteria.append(effect(in_doubt(halves, rate, 0.1), above=0))
    return criteria


@CLAIMS.claim(
    "3.16",
    "Sparse data, 3 layers, beta 1: taking the marginal KL out of the loss improves test D; taking the MI out does not",
    brief="The marginal KL costs generalisation, the information does not",
    finding="Without the marginal KL test D is {0:lower|higher}, without the information {1:lower|higher}",
    train={"n_train": (16384,), "objective": "mi_kl", "depths": (3,)},
    paper="the MI admits a clear interpretation as a regularizer, the marginal KL as a constraint; VAEs trained with "
    "either term removed confirm the effect of the marginal KL (section 4.5)",
    scale=replace(
        PAPER,
        grid={"mi": (0.0, 1.0), "kl": (0.0, 1.0), "depth": (3,)},
        settings={**PAPER.settings, "objective": "mi_kl"},
    ),
    steps=50_000,
    axes=("mi", "kl", "depth", "model", "split", "n_train"),
    note="The paper's models without either term are in an appendix that its text leaves unnamed; its objective for "
    "them is not given. The MI within a batch is at most the log of its size: 4.85 nats at 128 images, 4.16 at 64.",
)
def the_marginal_kl_is_what_costs(evidence: Evidence) -> Sequence[Criterion]:
    """D(1, 1) - D(1, 0) > 0; no effect: D(1, 1) - D(0, 1). D(mi, kl) is test D after training with these weights.

    The objective is `mi_kl`, with the weights "mi" and "kl": D + mi * MI + kl * KL(q(z) || p(z)), both estimated in the
    batch, with the sample's own component corrected (`metrics.information`, "batch").
    """
    curve = partial(evidence.curve, "distortion", part="test", samples=1, objective="mi_kl", depth=3, **SPARSE)
    (over_kl,) = complete(curve(over="kl", mi=1.0), holding=(0.0, 1.0))
    (over_mi,) = complete(curve(over="mi", kl=1.0), holding=(0.0, 1.0))
    return [
        effect(difference("test D with both - without the marginal KL", over_kl, 1.0, 0.0), above=0),
        absence(difference("test D with both - without the MI", over_mi, 1.0, 0.0)),
    ]
