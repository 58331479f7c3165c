"""Study 3's claims on made-up tables: satisfied, violated, and undecided for each reason there is."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import at_steps, later, measured, outcome, told, without_early
from test_claims import members

from vaekit.claims import NEEDS_DATA, NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict, verdict
from vaekit.claims.statistics import t_interval, u_depths
from vaekit.studies.rate_generalisation.claims import BETAS, BIN, CLAIMS, OTHERS, PAPER, SIZES

MEMORISED, U_SHAPED, SATURATES, GROWS = (CLAIMS[number] for number in ("3.1", "3.3", "3.14", "3.15"))
FULL = {"betas": BETAS, "seeds": range(5), "steps": PAPER.steps}
FLOOR = 48.2


def jitter(rows, size=0.02):
    """A little of everything's own: a number for each seed, depth and beta, the same on every machine."""
    return size * np.sin(37.0 * rows["seed"] + 11.0 * rows["depth"] + 5.0 * np.log(rows["beta"]))


def decades(rows):
    return np.log10(rows["beta"])


def rising(rows, share=1.0):
    """Training D, which grows with beta; 10 to 50 nats above the floor."""
    return FLOOR + 10 + 10 * (decades(rows) + 3) + jitter(rows)


def u_shaped(rows, share=1.0):
    """Test D with its minimum near 0.1 and 2 nats more at 0.001."""
    return FLOOR + 27 + 0.5 * (decades(rows) + 1) ** 2 * np.where(decades(rows) > -1, 10, 1) + jitter(rows)


def distortions(test, train=rising, samples=1, **how) -> pd.DataFrame:
    rows = members(**(FULL | how))
    return pd.concat(
        [
            measured(rows, "distortion", "test", test, samples=samples),
            measured(rows, "distortion", "train", train, samples=samples),
            measured(rows, "distortion_floor", "train", lambda rows, share: FLOOR, shares=(1.0,)),
        ],
        ignore_index=True,
    )


def codes(information=None, marginal=None, rate=None, depths=(1, 3), **how) -> pd.DataFrame:
    rows = members(**(FULL | {"depths": depths} | how))
    frames = []
    if information is not None:
        frames.append(measured(rows, "mutual_information", "train", information, estimator="exact"))
        # The paper's estimator overshoots; no claim reads it.
        frames.append(measured(rows, "mutual_information", "train", lambda rows, share: 99.0, estimator="batch512"))
    if marginal is not None:
        frames.append(measured(rows, "marginal_kl", "train", marginal, estimator="exact"))
        frames.append(measured(rows, "rate", "train", rate or (lambda rows, share: 10.0)))
    return pd.concat(frames, ignore_index=True)


def turned(arm, right=5.0):
    """D with its minimum at 0.1: `arm` nats more at 0.001 (a number, or a function of the rows), `right` a decade."""

    def value(rows, share=1.0):
        left = arm(rows) if callable(arm) else arm
        return 60 + np.where(decades(rows) < -1, left / 4, right) * (decades(rows) + 1) ** 2 + jitter(rows)

    return value


ONE_SAMPLE, NONE = {"samples": 1}, {}  # arguments of a measure


def curves(test, measure="distortion", part="test", arguments=ONE_SAMPLE, shares=(0.8, 1.0), **how) -> pd.DataFrame:
    return measured(members(**(FULL | how)), measure, part, test, shares, **arguments)


def spread(shape, where, by):
    """`shape`, with values so far apart between the seeds, at the betas of `where`, that no interval decides."""

    def value(rows, share=1.0):
        return shape(rows, share) + where(rows) * by * np.where(rows["seed"] % 2, 1, -1)

    return value


def judged(number: str, *frames: pd.DataFrame) -> Verdict:
    return verdict(CLAIMS[number], pd.concat(frames, ignore_index=True))


def listed(frames) -> list[pd.DataFrame]:
    return frames if isinstance(frames, list) else [frames]


# Of a claim, tables and what they decide; None for a reason that does not matter.
CASES: dict[str, list] = {}
EARLY = "budget: reproduced at 0.8 of the steps, not reproduced at the end"
COME, GO = ("budget: below the paper's steps, it may still come", "budget: below the paper's steps, it may still go")


# 3.1: dense data, no memorisation


def gap(size):
    """Test D above training D by `size` of what training D has above the floor, at the largest beta; half elsewhere."""
    return lambda rows, share: rising(rows) + size * np.where(rows["beta"] == 5, 1, 0.5) * (rising(rows) - FLOOR)


OF_DENSE = "data tetrominoes, model dense_vae, split cv or random, n_train 81920"


def dense(test, **how):
    return distortions(test, **({"depths": (1, 3), "n_train": 81_920} | how))


CASES["3.1"] = [
    (dense(gap(0.01)), (REPRODUCED, "")),
    (dense(gap(-0.2)), (REPRODUCED, "")),
    (dense(gap(0.2)), (NOT_REPRODUCED, "")),
    (dense(later(gap(0.01), gap(0.2))), (UNDECIDED, EARLY)),
    (dense(spread(gap(0.05), lambda rows: rows["beta"] == 5, 1)), (UNDECIDED, "interval")),
    (dense(gap(0.01), n_train=16_384), (NOT_RUN, None)),
    (dense(gap(0.01), depths=(1,)), (NOT_RUN, f"no distortion (test) of depth 3, {OF_DENSE}")),
    (dense(gap(0.01), betas=BETAS[3:]), (NOT_RUN, "no beta 0.001")),
    (dense(gap(0.01), betas=(0.001, 1.0)), (NOT_RUN, "no beta from 0.01 to 0.5")),
]


def test_the_gap_is_measured_against_what_lies_above_the_floor():
    answers = verdict(MEMORISED, dense(gap(0.04)))
    assert [criterion.estimate for criterion in answers.criteria] == pytest.approx([0.04, 0.04])
    assert [criterion.statistic.unit for criterion in answers.criteria] == ["", ""]
    # 4 % of what is above the floor is less of D itself; one layer that memorises refuses the claim.
    one = pd.concat([dense(gap(0.01), depths=(1,)), dense(gap(0.2), depths=(3,))])
    assert verdict(MEMORISED, one).outcome == NOT_REPRODUCED
    below = verdict(MEMORISED, dense(gap(0.01)).replace({"value": {FLOOR: 1000.0}}))  # a floor that cannot be one
    assert outcome(below) == (UNDECIDED, "seeds: too few have a value")


def test_a_random_half_is_the_dense_split_and_the_two_never_mix():
    random = dense(gap(0.01), split="random", n_train=None)
    assert verdict(MEMORISED, random).outcome == REPRODUCED
    both = pd.concat([random, dense(gap(0.2), seeds=(0, 1))])
    assert verdict(MEMORISED, both).outcome == REPRODUCED
    assert outcome(verdict(MEMORISED, dense(gap(0.01), split="checkerboard")))[0] == NOT_RUN


# 3.2: dense data, three layers dominate


def depths_apart(by, noise=0.0):
    """(D, R) of both depths: 3 layers lie `by` nats below 1 layer's line, and give a little more rate at each beta."""

    def rate(rows, share=1.0):
        return 30 - 4 * decades(rows) + 0.3 * rows["depth"]

    def distortion(rows, share):
        below = by + noise * np.where(rows["seed"] % 2, 1, -1)
        return 150 - 2 * rate(rows) - below * (rows["depth"] == 3) + jitter(rows)

    def frames(**how):
        how = {"depths": (1, 3), "n_train": 81_920} | how
        return [curves(distortion, **how), curves(rate, "rate", arguments=NONE, **how)]

    return frames


CASES["3.2"] = [
    (depths_apart(5)(), (REPRODUCED, "")),
    (depths_apart(5)(split="random", n_train=None), (REPRODUCED, "")),
    (depths_apart(-5)(), (NOT_REPRODUCED, "")),
    (depths_apart(5, noise=20)(), (UNDECIDED, "interval")),
    (depths_apart(5)()[:1], (NOT_RUN, None)),
    (depths_apart(5)(depths=(3,)), (NOT_RUN, None)),
    (depths_apart(5)(betas=BETAS[:8]), (NOT_RUN, "no beta from 1 to 5")),
]


def test_depths_are_compared_at_matched_rate():
    """Not at the same beta, where the line's slope would add 2 * 0.3 * 2 nats."""
    (criterion,) = judged("3.2", *depths_apart(5)()).criteria
    assert criterion.estimate == pytest.approx(5, abs=0.1)


# 3.3: sparse data, one layer, U-shaped

FLAT = spread(lambda rows, share: u_shaped(rows) * 0 + 75, lambda rows: rows["beta"] < 0.005, 3)


def l_shaped(rows, share=1.0):
    return 75 + 5 * (decades(rows) + 3) + jitter(rows)


def falling(rows, share=1.0):
    return 200 - rising(rows)


CASES["3.3"] = [
    (distortions(u_shaped), (REPRODUCED, "")),
    (distortions(l_shaped), (NOT_REPRODUCED, "")),
    (distortions(u_shaped, falling), (NOT_REPRODUCED, "")),
    (distortions(l_shaped, falling), (NOT_REPRODUCED, "")),
    (distortions(FLAT), (UNDECIDED, "interval")),
    (distortions(u_shaped, spread(rising, lambda rows: rows["beta"] < 0.01, 30)), (UNDECIDED, "interval")),
    (distortions(u_shaped, depths=(3,)), (NOT_RUN, None)),
    (distortions(u_shaped, data="mnist"), (NOT_RUN, None)),
    (distortions(u_shaped, model="conv_vae"), (NOT_RUN, None)),
    (distortions(u_shaped, n_train=8_192), (NOT_RUN, None)),
    (distortions(u_shaped, samples=10), (NOT_RUN, None)),
    (distortions(u_shaped, betas=BETAS[1:]), (NOT_RUN, "no beta 0.001")),
    (distortions(u_shaped, betas=BETAS[:8]), (NOT_RUN, "no beta from 1 to 5")),
    (distortions(u_shaped, betas=(0.001, 0.1, 1.0)), (NOT_RUN, "3 of at least 4 values of beta")),
    (pd.DataFrame(), (NOT_RUN, None)),
]


def test_what_3_3_shows():
    answer = verdict(U_SHAPED, distortions(u_shaped, seeds=range(4), steps=50_000))
    depth, order = answer.criteria
    assert depth.estimate == pytest.approx(2, abs=0.1)  # 0.5 nats for each of two decades, squared
    assert (order.estimate, *order.interval) == (1, 1, 1)
    row = answer.row()
    assert "U-depth of test D: 2" in row["ours"]
    assert "Spearman(beta, training D): 1 (wanted ≥ 0.95)" in row["ours"]
    assert row["seeds"] == "4"
    assert row["scope"].startswith(
        "50,000 steps (19.5 % of the paper's), batch 128; tetrominoes (made); 4 seeds (paper 5)"
    )
    assert "the paper's scale" not in row["scope"]


def test_betas_outside_the_papers_range_change_nothing():
    wide = (0.0, 1e-5, *BETAS, 20.0, 100.0)
    collapsed = distortions(u_shaped, lambda rows, share: np.where(rows["beta"] > 5, 90.0, rising(rows)), betas=BETAS)
    extra = distortions(lambda rows, share: 10.0, lambda rows, share: 500.0, betas=[b for b in wide if b not in BETAS])
    assert told(verdict(U_SHAPED, pd.concat([collapsed, extra]))) == told(verdict(U_SHAPED, collapsed))


# 3.4: stopped early


def overfitting(late):
    """D at each share of the steps: its minimum near 0.1 comes with training, `late` nats at 0.001 in all."""
    return lambda rows, share: l_shaped(rows) + (rows["beta"] < 0.05) * late * max(0, share - 0.4) / 0.6


SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def halves(choosing, judging=None, shares=SHARES, **how):
    parts = (("test_nested_a", choosing), ("test_nested_b", judging or choosing))
    return [curves(value, part=part, shares=shares, **how) for part, value in parts]


CASES["3.4"] = [
    (halves(overfitting(30)), (REPRODUCED, "")),
    (halves(u_shaped), (NOT_REPRODUCED, "")),
    (halves(spread(overfitting(30), lambda rows: rows["beta"] == 0.001, 30)), (UNDECIDED, "interval")),
    (halves(overfitting(30), depths=(3,)), (NOT_RUN, None)),
    (halves(overfitting(30), shares=(0.8, 1.0)), (NOT_RUN, "2 of at least 5 snapshots of a member")),
    (halves(overfitting(30))[:1], (NOT_RUN, None)),
    (distortions(u_shaped), (NOT_RUN, None)),
    ([frame.replace({"part": {"test_nested_a": "test_a"}}) for frame in halves(overfitting(30))], (NOT_RUN, None)),
]


def test_the_snapshot_is_chosen_on_one_half_and_judged_on_the_other():
    def best_at_first(rows, share):
        return l_shaped(rows) + 10 * share

    def other(rows, share):
        return np.where(rows["beta"] == 0.001, 100 * share, 60 + rows["beta"])

    (criterion,) = judged("3.4", *halves(best_at_first, other)).criteria
    assert criterion.estimate == pytest.approx(100 * 0.1 - 60.005, abs=0.01)
    # The whole test set, and its halves at two steps, are other images: a snapshot is not sought among them.
    whole = [curves(lambda rows, share: 1.0, part=part) for part in ("test_a", "test_b")]
    (same,) = judged("3.4", *halves(best_at_first, other), *whole, distortions(u_shaped)).criteria
    assert same.estimate == criterion.estimate


# 3.5: sparse data, three layers


CASES["3.5"] = [
    (curves(l_shaped, depths=(3,)), (REPRODUCED, "")),
    (curves(u_shaped, depths=(3,)), (NOT_REPRODUCED, "")),
    (curves(lambda rows, share: 75 - 0.1 * decades(rows), depths=(3,)), (NOT_REPRODUCED, "")),  # no U, and no fall
    (curves(spread(l_shaped, lambda rows: rows["beta"] == 0.001, 10), depths=(3,)), (UNDECIDED, "interval")),
    (curves(l_shaped, depths=(1,)), (NOT_RUN, None)),
]


# 3.6: memorisation


def memorised(slope):
    """The preference for training images, which changes by `slope` a decade of beta."""
    return lambda rows, share: 0.2 + slope * decades(rows) + jitter(rows, 0.01)


def preferences(value, measure="train_preference", arguments=NONE, **how):
    return curves(value, measure, arguments=arguments, **({"depths": (3,), "betas": (0.01, 0.1, 1.0)} | how))


CASES["3.6"] = [
    (preferences(memorised(0.1)), (REPRODUCED, "")),
    (preferences(memorised(-0.1)), (NOT_REPRODUCED, "")),
    (preferences(spread(memorised(0.0), lambda rows: rows["beta"] == 1, 0.1)), (UNDECIDED, "interval")),
    (preferences(memorised(0.1), betas=(0.1, 1.0)), (NOT_RUN, "no beta 0.01")),
    (preferences(memorised(0.1), depths=(1,)), (NOT_RUN, None)),
    # Shares count poor reconstructions: they decide nothing.
    (preferences(memorised(0.1), "memorised"), (NOT_RUN, None)),
    (preferences(memorised(0.1), "nearer_than_target", {"among": "train"}), (NOT_RUN, None)),
    (curves(u_shaped, depths=(3,)), (NOT_RUN, None)),
]


def test_what_3_6_shows():
    (criterion,) = judged("3.6", preferences(memorised(0.1))).criteria
    assert criterion.estimate == pytest.approx(0.2, abs=0.02)  # two decades
    assert criterion.statistic.unit == ""


# 3.7 and 3.8: where the ELBO and log p(x) are greatest


def peaked(at, height=3.0):
    """Greatest at the beta `at`, where it is -80; `height` less a decade away, four times that two decades away."""
    return lambda rows, share: -80 - height * (decades(rows) - math.log10(at)) ** 2 + jitter(rows)


def elbo(value, **how):
    def rate(rows, share=1.0):
        return 20 - 4 * decades(rows)

    def distortion(rows, share):
        return -value(rows, share) - rate(rows)

    how = {"depths": (3,)} | how
    return [curves(distortion, **how), curves(rate, "rate", arguments=NONE, **how)]


def bound(value, **how):
    return [curves(value, "log_likelihood", arguments={"samples": 5000}, **({"depths": (3,)} | how))]


for number, made in (("3.7", elbo), ("3.8", bound)):
    CASES[number] = [
        (made(peaked(0.1)), (REPRODUCED, "")),
        (made(peaked(0.1), betas=(0.01, 0.1, 0.3, 0.5, 1.0)), (REPRODUCED, "")),
        (made(peaked(1)), (NOT_REPRODUCED, "")),
        (made(peaked(0.003)), (NOT_REPRODUCED, "")),
        (made(spread(peaked(0.1), lambda rows: rows["beta"] == 0.5, 20)), (UNDECIDED, "interval")),
        (made(peaked(0.1), betas=(0.01, 0.1, 0.5, 1.0, 2.0)), (NOT_RUN, "no beta 0.3")),
        (made(peaked(0.1), depths=(1,)), (NOT_RUN, None)),
    ]


def test_the_peak_is_held_against_each_beta_outside_by_holm():
    answers = judged("3.7", *elbo(peaked(0.1)))
    assert len(answers.criteria) == 10
    assert all(criterion.name.endswith("(Holm over 10)") for criterion in answers.criteria)
    (at_one,) = [criterion for criterion in answers.criteria if "- at 1 (" in criterion.name]
    assert at_one.estimate == pytest.approx(3, abs=0.05)
    # A seed whose own best is 0.3 is still read at 0.1, which the others name.
    rows = elbo(spread(peaked(0.1), lambda rows: (rows["beta"] == 0.3) & (rows["seed"] == 0), 2))
    (at_one,) = [criterion for criterion in judged("3.7", *rows).criteria if "- at 1 (" in criterion.name]
    assert at_one.estimate == pytest.approx(3, abs=0.05)


# 3.9: constant volume


def with_sizes(arm, sizes=SIZES, split="cv", **how):
    """Both depths at each size: `arm(rows)` nats at 0.001 with 1 layer, none with 3."""
    shape = turned(lambda rows: arm(rows) * (rows["depth"] == 1))
    return [curves(shape, depths=(1, 3), n_train=n, split=split, **how) for n in sizes]


def shrinking_gain(rows):
    return 10 - np.log(rows["n_train"] / 1024)


def growing_gain(rows):
    return np.log(rows["n_train"] / 1024)


CASES["3.9"] = [
    (with_sizes(shrinking_gain), (REPRODUCED, "")),
    (with_sizes(growing_gain), (NOT_REPRODUCED, "")),
    (with_sizes(lambda rows: 4 + growing_gain(rows) * np.where(rows["seed"] % 2, 1, -1)), (UNDECIDED, "interval")),
    (with_sizes(shrinking_gain)[:3], (NOT_RUN, None)),
    (with_sizes(shrinking_gain, split="cd"), (NOT_RUN, None)),
]


def test_the_slope_of_3_9_is_in_log_n():
    (criterion,) = judged("3.9", *with_sizes(shrinking_gain)).criteria
    assert criterion.estimate == pytest.approx(-1, abs=0.02)


# 3.10: constant density


def densities(volume, density, **how):
    return [
        frame
        for split, arm in (("cv", volume), ("cd", density))
        for frame in with_sizes(lambda rows, arm=arm: arm + 0 * rows["seed"], SIZES[:2], split, **how)
    ]


CASES["3.10"] = [
    (densities(4, 1), (REPRODUCED, "")),
    (densities(4, 3), (NOT_REPRODUCED, "")),
    (densities(-4, -6), (UNDECIDED, "G_CV is not above 0")),
    (densities(0, 4), (UNDECIDED, "G_CV is not above 0")),
    (densities(4, 2), (UNDECIDED, "interval")),
    (densities(4, 1)[:3], (NOT_RUN, None)),
]


# 3.11: checkerboard

SPLITS = {"checkerboard": {"split": "checkerboard", "n_train": None}, "sparse": {}, "dense": {"n_train": 81_920}}


def checked(arm, dense="cv", **how):
    """U-depths of 0 with dense and 4 with sparse data, `arm` on the checkerboard."""
    splits = SPLITS | {"dense": {"split": dense, "n_train": 81_920 if dense == "cv" else None}}
    return [curves(turned(size), **(where | how)) for where, size in zip(splits.values(), (arm, 4, 0), strict=True)]


def nearest(check, sparse=5.0, dense=2.0, images=10_000, split="cv", **how):
    """Histograms of distances to the nearest training image, normal with these means and a deviation of 0.5."""
    splits = SPLITS | {"dense": {"split": split, "n_train": 81_920 if split == "cv" else None}}
    frames = []
    for where, mean in zip(splits.values(), (check, sparse, dense), strict=True):
        counts = np.exp(-2 * ((np.arange(50) + 0.5) * BIN - mean) ** 2)
        bins = pd.DataFrame({"bin": range(50), "count": np.round(images * counts / counts.sum())})
        rows = members(**(FULL | {"seeds": (0, 1), "betas": (1.0,)} | where | how)).merge(bins, how="cross")
        frame = measured(rows, "nearest_distance", "test", lambda rows, share: rows["count"], shares=(1.0,))
        frames.append(frame.assign(arguments=[f"bin={k}" for k in frame["bin"]]).drop(columns="count"))
    return frames


CASES["3.11"] = [
    ([*checked(3.5), *nearest(5.4)], (REPRODUCED, "")),
    ([*checked(3.5, "random"), *nearest(5.4, split="random")], (REPRODUCED, "")),
    ([*checked(0.5), *nearest(5.4)], (NOT_REPRODUCED, "")),
    ([*checked(3.5), *nearest(2.4)], (NOT_REPRODUCED, "")),
    ([*checked(2.0), *nearest(5.4)], (UNDECIDED, "interval")),
    ([*checked(3.5), *nearest(8.0, images=30)], (UNDECIDED, "interval")),  # 3 and 6 / 2: too few images to tell
    ([*checked(3.5), *nearest(5.4, steps=500, n_test=2_000)], (REPRODUCED, "")),  # no training changes a distance
    (checked(3.5), (NOT_RUN, None)),
    (checked(3.5)[1:], (NOT_RUN, None)),
    (nearest(5.4), (NOT_RUN, None)),
]


def test_distances_are_compared_as_histograms():
    shape, distance = judged("3.11", *checked(3.5), *nearest(5.4)).criteria
    assert shape.estimate == pytest.approx(3.5 - 0.5, abs=0.1)
    assert distance.estimate == pytest.approx(0.4 - 3.4 / 2, abs=0.01)  # W1 of shifted curves is the shift
    assert distance.interval[1] - distance.interval[0] == pytest.approx(2 * 1.96 * 0.5 / 100 * math.sqrt(1.5), rel=0.15)
    # Without the curves it stands alone, and is shown.
    alone = judged("3.11", *nearest(5.4, steps=500))
    assert (alone.outcome, alone.criteria[1].estimate) == (NOT_RUN, distance.estimate)
    assert alone.row()["ours"]
    # Of members of several budgets, one is read: that of the most test images.
    few = [frame.assign(n=1_000) for frame in nearest(9.0, images=1_000, steps=900)]
    many = [frame.assign(n=10_000) for frame in nearest(5.4, steps=500)]
    assert judged("3.11", *checked(3.5), *few, *many).criteria[1].estimate == distance.estimate
    # Both names of the dense split at once: the one with more members is read, and the two never mix.
    both = judged("3.11", *checked(3.5), *checked(3.5, "random", seeds=(0,))[2:], *nearest(5.4))
    assert both.criteria[0].statistic.values.equals(shape.statistic.values)


# 3.12: convolutions


def networks(deep, shallow, mlp=4.0, **how):
    convolutional = {"model": "conv_vae", "hidden": None, "channels": 64}
    return [
        curves(turned(deep), depths=(3,), **(convolutional | how)),
        curves(turned(shallow), depths=(1,), **(convolutional | how)),
        curves(turned(mlp), depths=(1,), **how),
    ]


CASES["3.12"] = [
    (networks(0, 1), (REPRODUCED, "")),
    (networks(0, 3), (NOT_REPRODUCED, "")),
    (networks(2, 1), (NOT_REPRODUCED, "")),
    (networks(0, 2), (UNDECIDED, "interval")),
    (networks(0, 1)[:2], (NOT_RUN, None)),
    (networks(0, 1)[2:], (NOT_RUN, None)),
    ([*networks(0, 1)[:2], curves(turned(4), hidden=64)], (NOT_RUN, None)),
]


# 3.13: other data


def on_other_data(deep=4.0, sets=tuple(OTHERS), **arms):
    """U-depths with 1 layer of 2, or as given; on 3dShapes also with 3 layers, `deep`."""
    how = {name: {"data": name, "n_train": OTHERS[name], "data_identity": f"{name}-1"} for name in sets}
    frames = [curves(turned(arms.get(name, 2.0)), **how[name]) for name in sets]
    return [*frames, *(curves(turned(deep), depths=(3,), **how[name]) for name in sets if name == "shapes3d")]


def noisy_set(**how):
    shape = spread(turned(1.0), lambda rows: rows["beta"] == 0.001, 5)
    return curves(shape, data="mnist", n_train=OTHERS["mnist"], data_identity="mnist-1", **how)


CASES["3.13"] = [
    (on_other_data(), (REPRODUCED, "")),
    (on_other_data(mnist=-2.0), (REPRODUCED, "")),
    (on_other_data(mnist=-2.0, small_norb=-2.0), (NOT_REPRODUCED, "")),
    (on_other_data(deep=1.0), (NOT_REPRODUCED, "")),
    (on_other_data(mnist=-2.0, sets=("mnist", "fashion_mnist")), (NOT_REPRODUCED, "")),
    ([*on_other_data(sets=("fashion_mnist", "shapes3d")), noisy_set()], (REPRODUCED, "")),
    ([*on_other_data(sets=("shapes3d",)), noisy_set()], (UNDECIDED, "interval")),
    (on_other_data(sets=("mnist", "fashion_mnist")), (NOT_RUN, None)),
    (on_other_data(sets=("shapes3d",))[1:], (NOT_RUN, None)),
    (curves(u_shaped), (NEEDS_DATA, "fashion_mnist or mnist or small_norb or shapes3d")),
]


def test_most_is_more_than_half_of_the_available_sets():
    two = judged("3.13", *on_other_data(sets=("mnist", "fashion_mnist"), mnist=1.0))
    assert two.criteria[0].name == "U-depth with 1 layer, the least of the 2 deepest of 2 sets"
    assert two.criteria[0].estimate == pytest.approx(1, abs=0.1)
    four = judged("3.13", *on_other_data(mnist=1.0, shapes3d=-3.0))
    assert four.criteria[0].name == "U-depth with 1 layer, the least of the 3 deepest of 4 sets"
    assert four.criteria[0].estimate == pytest.approx(1, abs=0.1)


# 3.14: information saturates at log N

LOG_N = math.log(16_384)


def deficit(size):
    """MI below log N by `size` at beta 0.5 and by less below it; far from saturated above."""
    return lambda rows, share: LOG_N - np.where(rows["beta"] > 0.5, 3, size * rows["beta"] / 0.5) + jitter(rows, 0.001)


CASES["3.14"] = [
    (codes(deficit(0.1)), (REPRODUCED, "")),
    (codes(deficit(0.5)), (NOT_REPRODUCED, "")),
    (codes(spread(deficit(0.2), lambda rows: rows["beta"] == 0.5, 0.1)), (UNDECIDED, "interval")),
    (codes(deficit(0.1), betas=BETAS[:5]), (NOT_RUN, "no beta 0.5")),
    (codes(deficit(0.1), betas=BETAS[3:]), (NOT_RUN, "no beta from 0.001 to 0.01")),
    (codes(deficit(0.1), n_train=8_192), (NOT_RUN, None)),
    (codes(marginal=lambda rows, share: 1.0), (NOT_RUN, None)),
    (distortions(u_shaped), (NOT_RUN, None)),
]


def test_3_14_is_the_worst_beta_of_each_seed_and_every_available_depth():
    answers = verdict(SATURATES, codes(deficit(0.1)))
    assert [criterion.name for criterion in answers.criteria] == [
        "largest deficit of MI, beta up to 0.5, 1 layer",
        "largest deficit of MI, beta up to 0.5, 3 layers",
    ]
    assert answers.criteria[0].estimate == pytest.approx(0.1, abs=0.002)
    assert answers.scope.at_the_papers_scale
    alone = verdict(SATURATES, codes(deficit(0.1), depths=(1,)))
    assert (alone.outcome, len(alone.criteria)) == (REPRODUCED, 1)
    assert not alone.scope.at_the_papers_scale
    assert "depth 1 (1 of the paper's 2)" in str(alone.scope)
    both = pd.concat([codes(deficit(0.1), depths=(1,)), codes(deficit(0.5), depths=(3,))])
    assert verdict(SATURATES, both).outcome == NOT_REPRODUCED
    stray = pd.concat([codes(deficit(0.1), depths=(1,)), codes(deficit(0.1), depths=(3,), betas=(0.5,))])
    assert verdict(SATURATES, stray).outcome == REPRODUCED  # one point is no curve of that depth
    assert "every depth at hand" in answers.claim.note


# 3.15: marginal KL


def shrinking(rows, share=1.0):
    """Marginal KL: 3 nats a decade; 3 + 3 at beta 0.1 and 2.1 at 2."""
    return 3 - 3 * decades(rows) + jitter(rows)


def growing(rows, share=1.0):
    return 20 - shrinking(rows)


def slow(rows, share=1.0):
    """Falls in beta, but by less than half from 0.1 to 2."""
    return 20 - decades(rows)


def empty_above(beta):
    return lambda rows, share: np.where(rows["beta"] >= beta, 0.05, 10.0)


RATES = "rates too small"


CASES["3.15"] = [
    (codes(marginal=shrinking), (REPRODUCED, "")),
    (codes(marginal=growing), (NOT_REPRODUCED, "")),
    (codes(marginal=slow), (NOT_REPRODUCED, "")),
    (codes(marginal=spread(shrinking, lambda rows: rows["beta"] == 0.1, 4)), (UNDECIDED, "interval")),
    (codes(marginal=shrinking, rate=empty_above(2)), (UNDECIDED, RATES)),
    (codes(marginal=growing, rate=empty_above(5)), (UNDECIDED, RATES)),
    (codes(marginal=shrinking, betas=BETAS[:9]), (NOT_RUN, "no beta 2")),
    (codes(marginal=shrinking, betas=[b for b in BETAS if b != 0.1]), (NOT_RUN, "no beta 0.1")),
    (codes(marginal=shrinking, betas=(0.01, 0.1, 2.0)), (NOT_RUN, "3 of at least 4 values of beta")),
    (codes(information=deficit(0.1)), (NOT_RUN, None)),
]


def test_what_3_15_shows():
    answers = verdict(GROWS, codes(marginal=shrinking, depths=(3,)))
    order, halves = answers.criteria
    assert order.estimate == -1
    assert halves.estimate == pytest.approx(6 / 2 - (3 - 3 * math.log10(2)), abs=0.05)
    assert "too small" not in answers.reason
    empty = verdict(GROWS, codes(marginal=shrinking, rate=empty_above(3)))
    assert all(math.isfinite(criterion.estimate) for criterion in empty.criteria)  # shown all the same


def test_a_rate_that_was_not_measured_leaves_the_claim_not_run():
    frame = codes(marginal=shrinking)
    assert outcome(verdict(GROWS, frame[frame["measure"] != "rate"]))[0] == NOT_RUN


# 3.16: which part of the rate costs


def parts_of_the_rate(without_kl, without_mi, both=80.0, noise=0.0, **how):
    """Test D after training with both parts of the rate, without the marginal KL (with `noise`), without the MI."""
    weights = ((1.0, 1.0, both), (1.0, 0.0, without_kl), (0.0, 1.0, without_mi))
    how = {"betas": (math.nan,), "depths": (3,), "objective": "mi_kl"} | how

    def value(d):
        return lambda rows, share: (
            d
            + 0.02 * np.sin(37.0 * rows["seed"] + 5 * d)
            + noise * (rows["kl"] == 0) * np.where(rows["seed"] % 2, 1, -1)
        )

    return [curves(value(d), mi=mi, kl=kl, **how) for mi, kl, d in weights]


CASES["3.16"] = [
    (parts_of_the_rate(77, 80.1), (REPRODUCED, "")),
    (parts_of_the_rate(77, 82), (REPRODUCED, "")),
    (parts_of_the_rate(81, 80), (NOT_REPRODUCED, "")),
    (parts_of_the_rate(77, 78), (NOT_REPRODUCED, "")),
    (parts_of_the_rate(77, 80.1, noise=9), (UNDECIDED, "interval")),
    (parts_of_the_rate(77, 80.1)[:2], (NOT_RUN, "no mi 0")),
    (parts_of_the_rate(77, 80.1)[::2], (NOT_RUN, "no kl 0")),
    (parts_of_the_rate(77, 80.1, objective="beta"), (NOT_RUN, None)),
    (parts_of_the_rate(77, 80.1, depths=(1,)), (NOT_RUN, None)),
    (curves(l_shaped, depths=(3,)), (NOT_RUN, None)),
]


# All of them


ALL = [(number, *case) for number, cases in CASES.items() for case in cases]


@pytest.mark.parametrize(("number", "frames", "wanted"), ALL)
def test_tables_decide_a_claim_as_its_rules_say(number, frames, wanted):
    answer = judged(number, *listed(frames))
    assert answer.outcome == wanted[0], answer.reason
    assert wanted[1] is None or answer.reason == wanted[1]


@pytest.mark.parametrize("number", CASES)
def test_what_every_claim_needs(number):
    """Of the first table of each, which is the paper's scale: seeds, steps, and the same at 0.8 of them."""
    frames, least = listed(CASES[number][0][0]), CLAIMS[number].steps

    def after(change):
        return outcome(judged(number, *map(change, frames)))

    answers = judged(number, *frames)
    assert answers.scope.at_the_papers_scale, str(answers.scope)
    for seeds in (1, 2):
        wanted = UNDECIDED, f"seeds: {seeds} of at least 3"
        assert after(lambda frame, seeds=seeds: frame[frame["seed"] < seeds]) == wanted
    short = UNDECIDED, f"budget: {least - 1:,} of at least {least:,} steps"
    assert after(lambda frame: at_steps(frame, least - 1)) == short
    absent = any(criterion.kind == "absence" for criterion in answers.criteria)
    at_least = (UNDECIDED, GO) if absent else (REPRODUCED, "")
    assert after(lambda frame: at_steps(frame, least)) == at_least
    assert after(lambda frame: at_steps(frame, PAPER.steps - 1)) == at_least
    unmeasured = UNDECIDED, "budget: not run at 0.8 of the steps, reproduced at the end"
    assert after(without_early) == unmeasured
    fewer = judged(number, *(frame[frame["seed"] < 4] for frame in frames))
    assert fewer.outcome == REPRODUCED
    assert not fewer.scope.at_the_papers_scale
    other = judged(number, *(frame.assign(n_test=2048) for frame in frames))
    assert not other.scope.at_the_papers_scale
    assert "n_test 2048 (paper all)" in str(other.scope)


@pytest.mark.parametrize(("number", "frames"), [case[:2] for case in ALL if case[2] == (NOT_REPRODUCED, "")])
def test_below_the_papers_steps_an_absence_alone_is_refused(number, frames):
    frames = listed(frames)
    criteria = judged(number, *frames).criteria
    answers = judged(number, *(at_steps(frame, CLAIMS[number].steps) for frame in frames))
    if any(criterion.kind == "absence" and criterion.outcome == NOT_REPRODUCED for criterion in criteria):
        assert outcome(answers) == (NOT_REPRODUCED, "")
    elif any(criterion.outcome == NOT_RUN for criterion in criteria):
        assert answers.outcome == NOT_RUN
    else:
        assert (answers.outcome, COME in answers.reason) == (UNDECIDED, True)


# How often 3.3 would be wrong: through the whole path, which must say what its statistic says


def test_simulated_tables_are_judged_as_their_curves_are():
    rng = np.random.default_rng(0)
    frame = distortions(u_shaped, seeds=range(3), steps=PAPER.steps).sort_values(["step", "seed", "beta"])
    cells = ((frame["measure"] == "distortion") & (frame["part"] == "test")).to_numpy()
    noise = rng.normal(size=(60, 3, 12))
    arm = np.array([0] * 6 + [0.5, 1, 2, 5, 9, 15])  # no left arm, so no U
    wanted, reproduced = [], []
    for left, world in zip([0.0, 9.0] * 30, noise, strict=True):
        curves = world + arm + left * (np.arange(12) == 0)
        frame.loc[cells, "value"] = np.concatenate([curves.ravel()] * 2)  # at 0.8 and at 1.0 of the steps
        reproduced.append(verdict(U_SHAPED, frame).outcome == REPRODUCED)
        wanted.append(t_interval(u_depths(curves))[0] > 0)
    assert reproduced == wanted
    assert sum(reproduced[::2]) <= 3  # of 30 without a U
    assert sum(reproduced[1::2]) >= 28  # of 30 with a deep one
