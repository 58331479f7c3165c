"""The claims of study 3: Rate-Regularization and Generalization in VAEs (Bozkurt et al., AISTATS 2021).

All D, R, MI and KL in nats per image; D on the whole test set with one sample of z. The paper's grid of beta reaches
from 0.001 to 5: betas outside it are no part of what it says, so they enter no curve here.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from vaekit.claims import (
    Curve,
    Evidence,
    PaperScale,
    Part,
    absence,
    claim,
    column,
    complete,
    effect,
    in_doubt,
    paired,
    spearman,
    u_depth,
)

BETAS = (0.001, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 2.0, 3.0, 5.0)
PAPER = PaperScale(
    steps=257_000,
    batch_size=128,
    seeds=5,
    data=("tetrominoes",),  # made to the paper's recipe, so the paper's own set
    grid={"beta": BETAS, "depth": (1, 3)},
    settings={"hidden": 512, "latent_dim": 10, "objective": "beta", "n_test": None},
)
study_claim = partial(claim, study="rate_generalisation", scale=PAPER, seeds=3)

# CV(82k/82k) is also what a random half is: the two names are never mixed (`within`), whichever was run decides. The
# random split's size is its own, so there n_train need not be given.
DENSE = {"data": "tetrominoes", "model": "dense_vae", "split": ("cv", "random"), "n_train": (81_920, None)}
SPARSE = {"data": "tetrominoes", "model": "dense_vae", "split": "cv", "n_train": 16_384}

# What a curve in beta must hold before it says anything of a U: the paper's smallest beta, where the left arm ends (the
# trial's U rose by 1 nat from 0.1 to 0.001); one beta where its valley is; one of 1 or more for the right arm.
ARMS_AND_VALLEY = ((0.001, 0.001), (0.01, 0.5), (1.0, 5.0))


def _distortions(evidence: Evidence, depth: int, split: dict) -> tuple[Curve, Curve, Curve]:
    """Test D, training D and the training images' floor, seeds x beta, on one grid and the same seeds."""
    curve = partial(evidence.curve, between=(BETAS[0], BETAS[-1]), depth=depth, **split)
    test, train, floor = complete(
        curve("distortion", part="test", arguments="samples=1"),
        curve("distortion", part="train", arguments="samples=1"),
        curve("distortion_floor", part="train", steps="any"),
        points=4,
        ranges=ARMS_AND_VALLEY,
    )
    return test, train, floor


def _layers(depth: int) -> str:
    return "1 layer" if depth == 1 else f"{depth} layers"


@study_claim(
    "3.1",
    "Dense data, CV(82k/82k), 1 and 3 layers: no memorisation at any beta",
    paper="no evidence of memorization; virtually no generalization gap (Figure 3, top)",
    steps=50_000,
    within=("split",),
    note="The gap's share is of what training could still save, D on the training images above their floor. Its "
    "largest value over the betas is taken within each seed, which noise can only raise.",
)
def dense_data_is_not_memorised(evidence: Evidence) -> Sequence[Part]:
    """Per depth, no effect: max over beta of (D_test - D_train) / (D_train - floor) < 5 %."""

    def share(test, train, floor):
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.where(train > floor, (test - train) / (train - floor), np.nan)
        return shares.max(axis=1)  # NaN, no value, where a training D is not above its floor: one of them is wrong

    return [
        absence(paired(f"largest gap share, {_layers(depth)}", share, *curves, unit=""), margin=0.05)
        for depth, curves in ((depth, _distortions(evidence, depth, DENSE)) for depth in (1, 3))
    ]


@study_claim(
    "3.3",
    "Sparse data, CV(16k/147k), 1 layer: test D is U-shaped in beta while training D falls monotonically as beta falls",
    paper="training D decreases monotonically as beta is reduced; test D decreases, achieves a minimum, and somewhat "
    "increases afterwards (Figure 3, bottom)",
    scale=replace(PAPER, grid={"beta": BETAS, "depth": (1,)}),
    steps=50_000,
    note="The minimum's place is chosen for each seed by the other seeds, so that noise does not read as a U.",
)
def one_layer_is_u_shaped(evidence: Evidence) -> Sequence[Part]:
    """U-depth of test D > 0, and Spearman(beta, D_train) >= 0.95."""
    test, train, _ = _distortions(evidence, 1, SPARSE)
    return [
        effect(u_depth(test, "U-depth of test D"), above=0),
        effect(spearman(train, "Spearman(beta, training D)"), at_least=0.95),
    ]


def _per_depth(evidence: Evidence, curves, parts) -> list[Part]:
    """The parts of each depth whose grid is there, all of which must hold: section 4.5 and Figure 8 name no depth."""
    made = [(depth, curves(evidence, depth)) for depth in (1, 3)]
    there = [(depth, found) for depth, found in made if not found[0].lacks]
    # Where no depth has the grid, the one that has the most of it says what it lacks.
    return [part for depth, found in there or [max(made, key=_extent)] for part in parts(depth, *found)]


def _extent(made: tuple[int, tuple[Curve, ...]]) -> int:
    return made[1][0].values.size


SILENT = "The paper does not say of which depth: every depth at hand is shown, and all must hold. "


def _mutual_information(evidence: Evidence, depth: int) -> tuple[Curve, ...]:
    # 0.5 itself, where saturation is hardest; the middle; and the far end, or "every beta" would be of a few.
    return complete(
        evidence.curve(
            "mutual_information",
            part="train",
            arguments="estimator=exact",
            between=(BETAS[0], 0.5),
            depth=depth,
            **SPARSE,
        ),
        points=3,
        ranges=((0.001, 0.01), (0.1, 0.3), (0.5, 0.5)),
    )


@study_claim(
    "3.14",
    "The mutual information saturates at log N_train for beta < 1",
    paper="I(x; z) saturates to its maximum log N_train = 9.70 nats when beta < 1, CV(16k/147k) (Figure 8)",
    scale=replace(PAPER, grid={"beta": BETAS[:6], "depth": (1, 3)}),
    steps=20_000,
    note=SILENT + "Tested at beta up to 0.5, with q(z) exact over all training images.",
)
def information_saturates(evidence: Evidence) -> Sequence[Part]:
    """The largest of log N - MI (exact q(z)) over the betas up to 0.5 is below 0.2 nats."""
    ceiling = math.log(SPARSE["n_train"])

    def parts(depth: int, information: Curve) -> list[Part]:
        name = f"largest deficit of MI, beta up to 0.5, {_layers(depth)}"
        return [effect(paired(name, lambda values: (ceiling - values).max(axis=1), information), below=0.2)]

    return _per_depth(evidence, _mutual_information, parts)


def _marginal_kl(evidence: Evidence, depth: int) -> tuple[Curve, ...]:
    curve = partial(evidence.curve, part="train", between=(BETAS[0], BETAS[-1]), depth=depth, **SPARSE)
    return complete(
        curve("marginal_kl", arguments="estimator=exact"),
        curve("rate"),
        points=4,
        ranges=((0.001, 0.01), (0.1, 0.1), (2.0, 2.0)),
    )


@study_claim(
    "3.15",
    "The marginal KL is small for beta > 1 and grows as beta falls to 0",
    paper="KL(q(z) || p(z)) is small when beta > 1 but increases when beta < 1, CV(16k/147k) (Figure 8)",
    steps=20_000,
    note=SILENT + "Small cannot mean small beside R, which exceeds it by at most log N: it means less than half of the "
    "value at beta 0.1. Where a rate is below 0.1 nats the code is empty and its marginal KL says nothing.",
)
def marginal_kl_grows(evidence: Evidence) -> Sequence[Part]:
    """Spearman(beta, marginal KL) <= -0.95, and marginal KL(2) < half of marginal KL(0.1); R < 0.1: undecided."""

    def parts(depth: int, marginal: Curve, rate: Curve) -> list[Part]:
        low, high = column(marginal, 0.1), column(marginal, 2.0)
        order = spearman(marginal, f"Spearman(beta, marginal KL), {_layers(depth)}")
        halves = paired(
            f"half of marginal KL at 0.1 minus that at 2, {_layers(depth)}",
            lambda values: values[:, low] / 2 - values[:, high],
            marginal,
        )
        return [
            effect(in_doubt(order, rate, 0.1), at_most=-0.95),
            effect(in_doubt(halves, rate, 0.1), above=0),
        ]

    return _per_depth(evidence, _marginal_kl, parts)


CLAIMS = (dense_data_is_not_memorised, one_layer_is_u_shaped, information_saturates, marginal_kl_grows)
