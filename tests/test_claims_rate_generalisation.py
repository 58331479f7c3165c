"""Study 3's claims on made-up tables: satisfied, violated, and undecided for each reason there is."""

import math

import numpy as np
import pandas as pd
import pytest
from test_claims import measured, members

from vaekit.claims import (
    NEEDS_DATA,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Verdict,
    in_brief,
    t_interval,
    u_depths,
    verdict,
    verdicts,
)
from vaekit.studies.rate_generalisation.claims import BETAS, BIN, CLAIMS, OTHERS, PAPER, SIZES

BY_NUMBER = {claim.number: claim for claim in CLAIMS}
MEMORISED, U_SHAPED, SATURATES, GROWS = (BY_NUMBER[number] for number in ("3.1", "3.3", "3.14", "3.15"))
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


def distortions(test, train=rising, arguments="samples=1", **how) -> pd.DataFrame:
    rows = members(**(FULL | how))
    return pd.concat(
        [
            measured(rows, "distortion", "test", test, arguments),
            measured(rows, "distortion", "train", train, arguments),
            measured(rows, "distortion_floor", "train", lambda rows, share: FLOOR, shares=(1.0,)),
        ],
        ignore_index=True,
    )


def codes(information=None, marginal=None, rate=None, depths=(1, 3), **how) -> pd.DataFrame:
    rows = members(**(FULL | {"depths": depths} | how))
    made = []
    if information is not None:
        made.append(measured(rows, "mutual_information", "train", information, "estimator=exact"))
        # The paper's estimator overshoots; no claim reads it.
        made.append(measured(rows, "mutual_information", "train", lambda rows, share: 99.0, "estimator=batch512"))
    if marginal is not None:
        made.append(measured(rows, "marginal_kl", "train", marginal, "estimator=exact"))
        made.append(measured(rows, "rate", "train", rate or (lambda rows, share: 10.0)))
    return pd.concat(made, ignore_index=True)


def turned(arm, right=5.0):
    """D with its minimum at 0.1: `arm` nats more at 0.001 (a number, or a function of the rows), `right` a decade."""

    def value(rows, share=1.0):
        left = arm(rows) if callable(arm) else arm
        return 60 + np.where(decades(rows) < -1, left / 4, right) * (decades(rows) + 1) ** 2 + jitter(rows)

    return value


def curves(test, measure="distortion", part="test", arguments="samples=1", shares=(0.8, 1.0), **how) -> pd.DataFrame:
    return measured(members(**(FULL | how)), measure, part, test, arguments, shares)


def outcome(found: Verdict) -> tuple[str, str]:
    return found.outcome, found.reason


def later(early, late):
    """`early` at 0.8 of the steps, `late` at their end."""
    return lambda rows, share: (early if share < 1 else late)(rows, share)


def spread(shape, where, by):
    """`shape`, with values so far apart between the seeds, at the betas of `where`, that no interval decides."""

    def value(rows, share=1.0):
        return shape(rows, share) + where(rows) * by * np.where(rows["seed"] % 2, 1, -1)

    return value


def judged(number: str, *frames: pd.DataFrame) -> Verdict:
    return verdict(BY_NUMBER[number], pd.concat(frames, ignore_index=True))


def check(number: str, frames, wanted: tuple[str, str | None]) -> None:
    found = judged(number, *([frames] if isinstance(frames, pd.DataFrame) else frames))
    assert found.outcome == wanted[0], found.reason
    assert wanted[1] is None or found.reason == wanted[1]


COME, GO = ("budget: below the paper's steps, it may still come", "budget: below the paper's steps, it may still go")


# 3.1: dense data, no memorisation


def gap(size):
    """Test D above training D by `size` of what training D has above the floor, at the largest beta; half elsewhere."""
    return lambda rows, share: rising(rows) + size * np.where(rows["beta"] == 5, 1, 0.5) * (rising(rows) - FLOOR)


def dense(test, **how):
    return distortions(test, **({"depths": (1, 3), "n_train": 81_920} | how))


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (dense(gap(0.01)), (REPRODUCED, "")),
        (dense(gap(-0.2)), (REPRODUCED, "")),
        (dense(gap(0.2)), (NOT_REPRODUCED, "")),
        (dense(gap(0.2), steps=50_000), (NOT_REPRODUCED, "")),  # an absence may be refused below the paper's steps
        (dense(gap(0.01), steps=256_999), (UNDECIDED, GO)),
        (dense(gap(0.01), seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (dense(gap(0.2), steps=49_999), (UNDECIDED, "budget: 49,999 of at least 50,000 steps")),
        (
            dense(later(gap(0.01), gap(0.2))),
            (UNDECIDED, "budget: reproduced at 0.8 of the steps, not reproduced at the end"),
        ),
        (dense(spread(gap(0.05), lambda rows: rows["beta"] == 5, 1)), (UNDECIDED, "interval")),
        (dense(gap(0.01), n_train=16_384), (NOT_RUN, None)),
        (dense(gap(0.01), depths=(1,)), (NOT_RUN, "no distortion (test) of depth 3, data tetrominoes")),
        (dense(gap(0.01), betas=BETAS[3:]), (NOT_RUN, "no beta 0.001")),
        (dense(gap(0.01), betas=(0.001, 1.0)), (NOT_RUN, "no beta from 0.01 to 0.5")),
    ],
)
def test_dense_data_is_not_memorised(frame, wanted):
    found = verdict(MEMORISED, frame)
    assert found.outcome == wanted[0]
    assert wanted[1] is None or found.reason.startswith(wanted[1])


def test_the_gap_is_measured_against_what_lies_above_the_floor():
    found = verdict(MEMORISED, dense(gap(0.04)))
    assert [finding.estimate for finding in found.findings] == pytest.approx([0.04, 0.04])
    assert [finding.unit for finding in found.findings] == ["", ""]
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
        return [curves(distortion, **how), curves(rate, "rate", arguments="", **how)]

    return frames


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (depths_apart(5)(), (REPRODUCED, "")),
        (depths_apart(5)(split="random", n_train=None, steps=50_000), (REPRODUCED, "")),
        (depths_apart(-5)(), (NOT_REPRODUCED, "")),
        (depths_apart(-5)(steps=100_000), (UNDECIDED, COME)),
        (depths_apart(5, noise=20)(), (UNDECIDED, "interval")),
        (depths_apart(5)(seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (depths_apart(5)(steps=20_000), (UNDECIDED, "budget: 20,000 of at least 50,000 steps")),
        (depths_apart(5)()[:1], (NOT_RUN, None)),
        (depths_apart(5)(depths=(3,)), (NOT_RUN, None)),
        (depths_apart(5)(betas=BETAS[:8]), (NOT_RUN, "no beta from 1 to 5")),
    ],
)
def test_three_layers_dominate(frames, wanted):
    check("3.2", frames, wanted)


def test_depths_are_compared_at_matched_rate():
    """Not at the same beta, where the line's slope would add 2 * 0.3 * 2 nats."""
    (finding,) = judged("3.2", *depths_apart(5)()).findings
    assert finding.estimate == pytest.approx(5, abs=0.1)


# 3.3: sparse data, one layer, U-shaped

FLAT = spread(lambda rows, share: u_shaped(rows) * 0 + 75, lambda rows: rows["beta"] < 0.005, 3)


def l_shaped(rows, share=1.0):
    return 75 + 5 * (decades(rows) + 3) + jitter(rows)


def falling(rows, share=1.0):
    return 200 - rising(rows)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (distortions(u_shaped), (REPRODUCED, "")),
        (distortions(u_shaped, steps=50_000, seeds=range(3)), (REPRODUCED, "")),
        (distortions(l_shaped), (NOT_REPRODUCED, "")),
        (distortions(u_shaped, falling), (NOT_REPRODUCED, "")),
        (distortions(l_shaped, falling), (NOT_REPRODUCED, "")),
        (distortions(l_shaped, steps=256_999), (UNDECIDED, COME)),
        (distortions(u_shaped, falling, steps=50_000), (UNDECIDED, COME)),
        (distortions(u_shaped, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (distortions(u_shaped, seeds=(0,)), (UNDECIDED, "seeds: 1 of at least 3")),
        (distortions(u_shaped, steps=20_000), (UNDECIDED, "budget: 20,000 of at least 50,000 steps")),
        (
            distortions(later(l_shaped, u_shaped), steps=50_000),
            (UNDECIDED, "budget: not reproduced at 0.8 of the steps, reproduced at the end"),
        ),
        (distortions(FLAT), (UNDECIDED, "interval")),
        (distortions(u_shaped, spread(rising, lambda rows: rows["beta"] < 0.01, 30)), (UNDECIDED, "interval")),
        (distortions(u_shaped, depths=(3,)), (NOT_RUN, None)),
        (distortions(u_shaped, data="mnist"), (NOT_RUN, None)),
        (distortions(u_shaped, model="conv_vae"), (NOT_RUN, None)),
        (distortions(u_shaped, n_train=8_192), (NOT_RUN, None)),
        (distortions(u_shaped, arguments="samples=10"), (NOT_RUN, None)),
        (distortions(u_shaped, betas=BETAS[1:]), (NOT_RUN, "no beta 0.001")),
        (distortions(u_shaped, betas=BETAS[:8]), (NOT_RUN, "no beta from 1 to 5")),
        (distortions(u_shaped, betas=(0.001, 0.1, 1.0)), (NOT_RUN, "3 of at least 4 values of beta")),
        (pd.DataFrame(), (NOT_RUN, None)),
    ],
)
def test_one_layer_is_u_shaped(frame, wanted):
    found = verdict(U_SHAPED, frame)
    assert found.outcome == wanted[0]
    assert wanted[1] is None or found.reason == wanted[1]


def test_what_3_3_shows():
    found = verdict(U_SHAPED, distortions(u_shaped, seeds=range(4), steps=50_000))
    depth, order = found.findings
    assert depth.estimate == pytest.approx(2, abs=0.1)  # 0.5 nats for each of two decades, squared
    assert (order.estimate, order.low, order.high) == (1, 1, 1)
    row = found.row()
    assert "U-depth of test D: 2" in row["ours"]
    assert "Spearman(beta, training D): 1 [1, 1] (wanted ≥ 0.95)" in row["ours"]
    assert row["seeds"] == "4"
    assert row["scope"].startswith(
        "50,000 steps (19.5 % of the paper's), batch 128; tetrominoes (made); 4 seeds (paper 5)"
    )
    assert "the paper's scale" not in row["scope"]


def test_betas_outside_the_papers_range_change_nothing():
    wide = (0.0, 1e-5, *BETAS, 20.0, 100.0)
    collapsed = distortions(u_shaped, lambda rows, share: np.where(rows["beta"] > 5, 90.0, rising(rows)), betas=BETAS)
    extra = distortions(lambda rows, share: 10.0, lambda rows, share: 500.0, betas=[b for b in wide if b not in BETAS])
    assert verdict(U_SHAPED, pd.concat([collapsed, extra])) == verdict(U_SHAPED, collapsed)


def test_one_more_beta_that_a_reader_trains_does_not_undo_the_verdict():
    ours = distortions(u_shaped, steps=50_000, seeds=range(3))
    theirs = distortions(lambda rows, share: 0.0, steps=50_000, seeds=(0,), betas=(0.25, 0.65))
    found = verdict(U_SHAPED, pd.concat([ours, theirs]))
    assert found.outcome == REPRODUCED
    assert found.scope is not None
    assert "0.25, 0.65 left out: too few seeds" in found.scope.remarks


def test_a_quick_run_beside_a_long_one_does_not_enter():
    long = distortions(u_shaped, steps=50_000, seeds=range(3))
    quick = distortions(l_shaped, steps=1000, seeds=range(3))
    assert verdict(U_SHAPED, pd.concat([quick, long])) == verdict(U_SHAPED, long)
    # Mixed into one curve, many short seeds and three long ones would say the opposite.
    mixed = pd.concat([long, distortions(l_shaped, steps=50_000, seeds=range(3, 20))])
    assert verdict(U_SHAPED, mixed).findings[0].estimate < 0


def test_diverged_members_cost_their_seeds_and_are_counted():
    frame = distortions(u_shaped)
    lost = (frame["seed"] >= 3) & (frame["beta"] == 0.001)
    frame.loc[lost, "status"] = "diverged"
    found = verdict(U_SHAPED, frame)
    assert (found.outcome, found.seeds) == (REPRODUCED, 3)
    assert found.scope is not None
    assert not found.scope.at_the_papers_scale
    assert {"2 incomplete seeds dropped", "2 members diverged"} <= set(found.scope.remarks)
    frame.loc[frame["beta"] == 0.001, "status"] = "diverged"
    assert outcome(verdict(U_SHAPED, frame)) == (UNDECIDED, "seeds: 0 of at least 3, 5 diverged")


# 3.4: stopped early


def overfitting(late):
    """D at each share of the steps: its minimum near 0.1 comes with training, `late` nats at 0.001 in all."""
    return lambda rows, share: l_shaped(rows) + (rows["beta"] < 0.05) * late * max(0, share - 0.4) / 0.6


SHARES = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)


def halves(choosing, judging=None, shares=SHARES, **how):
    parts = (("test_nested_a", choosing), ("test_nested_b", judging or choosing))
    return [curves(value, part=part, shares=shares, **how) for part, value in parts]


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (halves(overfitting(30)), (REPRODUCED, "")),
        (halves(u_shaped), (NOT_REPRODUCED, "")),
        (halves(u_shaped, steps=50_000), (NOT_REPRODUCED, "")),
        (halves(overfitting(30), steps=256_999), (UNDECIDED, GO)),
        (halves(overfitting(30), seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (halves(spread(overfitting(30), lambda rows: rows["beta"] == 0.001, 30)), (UNDECIDED, "interval")),
        (halves(overfitting(30), depths=(3,)), (NOT_RUN, None)),
        (halves(overfitting(30), shares=(0.8, 1.0)), (NOT_RUN, "2 of at least 5 snapshots of a member")),
        (halves(overfitting(30))[:1], (NOT_RUN, None)),
        (distortions(u_shaped), (NOT_RUN, None)),
        ([frame.replace({"part": {"test_nested_a": "test_a"}}) for frame in halves(overfitting(30))], (NOT_RUN, None)),
    ],
)
def test_early_stopping_takes_the_u_away(frames, wanted):
    check("3.4", frames, wanted)


def test_the_snapshot_is_chosen_on_one_half_and_judged_on_the_other():
    def best_at_first(rows, share):
        return l_shaped(rows) + 10 * share

    def other(rows, share):
        return np.where(rows["beta"] == 0.001, 100 * share, 60 + rows["beta"])

    (finding,) = judged("3.4", *halves(best_at_first, other)).findings
    assert finding.estimate == pytest.approx(100 * 0.1 - 60.005, abs=0.01)
    # The whole test set, and its halves at two steps, are other images: a snapshot is not sought among them.
    whole = [curves(lambda rows, share: 1.0, part=part) for part in ("test_a", "test_b")]
    (same,) = judged("3.4", *halves(best_at_first, other), *whole, distortions(u_shaped)).findings
    assert same.estimate == finding.estimate


# 3.5: sparse data, three layers


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (curves(l_shaped, depths=(3,)), (REPRODUCED, "")),
        (curves(u_shaped, depths=(3,)), (NOT_REPRODUCED, "")),
        (curves(lambda rows, share: 75 - 0.1 * decades(rows), depths=(3,)), (NOT_REPRODUCED, "")),  # no U, and no fall
        (curves(u_shaped, depths=(3,), steps=50_000), (NOT_REPRODUCED, "")),
        (curves(l_shaped, depths=(3,), steps=50_000), (UNDECIDED, GO)),
        (curves(l_shaped, depths=(3,), seeds=(0,)), (UNDECIDED, "seeds: 1 of at least 3")),
        (curves(spread(l_shaped, lambda rows: rows["beta"] == 0.001, 10), depths=(3,)), (UNDECIDED, "interval")),
        (curves(l_shaped, depths=(1,)), (NOT_RUN, None)),
    ],
)
def test_three_layers_keep_falling(frames, wanted):
    check("3.5", frames, wanted)


# 3.6: memorisation


def memorised(slope):
    """The preference for training images, which changes by `slope` a decade of beta."""
    return lambda rows, share: 0.2 + slope * decades(rows) + jitter(rows, 0.01)


def preferences(value, measure="train_preference", arguments="", **how):
    return curves(value, measure, arguments=arguments, **({"depths": (3,), "betas": (0.01, 0.1, 1.0)} | how))


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (preferences(memorised(0.1)), (REPRODUCED, "")),
        (preferences(memorised(0.1), steps=20_000, seeds=range(3)), (REPRODUCED, "")),
        (preferences(memorised(-0.1)), (NOT_REPRODUCED, "")),
        (preferences(memorised(-0.1), steps=20_000), (UNDECIDED, COME)),
        (preferences(memorised(0.1), steps=19_999), (UNDECIDED, "budget: 19,999 of at least 20,000 steps")),
        (preferences(spread(memorised(0.0), lambda rows: rows["beta"] == 1, 0.1)), (UNDECIDED, "interval")),
        (preferences(memorised(0.1), betas=(0.1, 1.0)), (NOT_RUN, "no beta 0.01")),
        (preferences(memorised(0.1), depths=(1,)), (NOT_RUN, None)),
        (preferences(memorised(0.1), seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (
            preferences(later(memorised(-0.1), memorised(0.1))),
            (UNDECIDED, "budget: not reproduced at 0.8 of the steps, reproduced at the end"),
        ),
        # Shares count poor reconstructions: they decide nothing.
        (preferences(memorised(0.1), "memorised"), (NOT_RUN, None)),
        (preferences(memorised(0.1), "nearer_than_target", "among=train"), (NOT_RUN, None)),
        (curves(u_shaped, depths=(3,)), (NOT_RUN, None)),
    ],
)
def test_memorisation_shows_at_large_beta(frames, wanted):
    check("3.6", frames, wanted)


def test_what_3_6_shows():
    (finding,) = judged("3.6", preferences(memorised(0.1))).findings
    assert finding.estimate == pytest.approx(0.2, abs=0.02)  # two decades
    assert finding.unit == ""


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
    return [curves(distortion, **how), curves(rate, "rate", arguments="", **how)]


def bound(value, **how):
    return [curves(value, "log_likelihood", arguments="samples=5000", **({"depths": (3,)} | how))]


@pytest.mark.parametrize(("number", "made"), [("3.7", elbo), ("3.8", bound)])
@pytest.mark.parametrize(
    ("value", "how", "wanted"),
    [
        (peaked(0.1), {}, (REPRODUCED, "")),
        (peaked(0.1), {"steps": 20_000, "betas": (0.01, 0.1, 0.3, 0.5, 1.0)}, (REPRODUCED, "")),
        (peaked(1), {}, (NOT_REPRODUCED, "")),
        (peaked(0.003), {}, (NOT_REPRODUCED, "")),
        (peaked(1), {"steps": 100_000}, (UNDECIDED, COME)),
        (peaked(0.1), {"seeds": (3, 4)}, (UNDECIDED, "seeds: 2 of at least 3")),
        (peaked(0.1), {"seeds": (3,)}, (UNDECIDED, "seeds: 1 of at least 3")),
        (peaked(0.1), {"steps": 10_000}, (UNDECIDED, "budget: 10,000 of at least 20,000 steps")),
        (spread(peaked(0.1), lambda rows: rows["beta"] == 0.5, 20), {}, (UNDECIDED, "interval")),
        (
            later(peaked(1), peaked(0.1)),
            {},
            (UNDECIDED, "budget: not reproduced at 0.8 of the steps, reproduced at the end"),
        ),
        (peaked(0.1), {"betas": (0.01, 0.1, 0.5, 1.0, 2.0)}, (NOT_RUN, "no beta 0.3")),
        (peaked(0.1), {"depths": (1,)}, (NOT_RUN, None)),
    ],
)
def test_it_is_greatest_near_a_tenth(number, made, value, how, wanted):
    check(number, made(value, **how), wanted)


def test_the_peak_is_held_against_each_beta_outside_by_holm():
    found = judged("3.7", *elbo(peaked(0.1)))
    assert len(found.findings) == 10
    assert all(finding.name.endswith("(Holm over 10)") for finding in found.findings)
    (at_one,) = [finding for finding in found.findings if "- at 1 (" in finding.name]
    assert at_one.estimate == pytest.approx(3, abs=0.05)
    # A seed whose own best is 0.3 is still read at 0.1, which the others name.
    rows = elbo(spread(peaked(0.1), lambda rows: (rows["beta"] == 0.3) & (rows["seed"] == 0), 2))
    (at_one,) = [finding for finding in judged("3.7", *rows).findings if "- at 1 (" in finding.name]
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


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (with_sizes(shrinking_gain), (REPRODUCED, "")),
        (with_sizes(shrinking_gain, steps=50_000, seeds=range(3)), (REPRODUCED, "")),
        (with_sizes(growing_gain), (NOT_REPRODUCED, "")),
        (with_sizes(growing_gain, steps=50_000), (UNDECIDED, COME)),
        (with_sizes(shrinking_gain, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (with_sizes(lambda rows: 4 + growing_gain(rows) * np.where(rows["seed"] % 2, 1, -1)), (UNDECIDED, "interval")),
        (with_sizes(shrinking_gain)[:3], (NOT_RUN, None)),
        (with_sizes(shrinking_gain, split="cd"), (NOT_RUN, None)),
    ],
)
def test_depth_matters_more_with_less_data(frames, wanted):
    check("3.9", frames, wanted)


def test_the_slope_of_3_9_is_in_log_n():
    (finding,) = judged("3.9", *with_sizes(shrinking_gain)).findings
    assert finding.estimate == pytest.approx(-1, abs=0.02)


# 3.10: constant density


def densities(volume, density, **how):
    return [
        frame
        for split, arm in (("cv", volume), ("cd", density))
        for frame in with_sizes(lambda rows, arm=arm: arm + 0 * rows["seed"], SIZES[:2], split, **how)
    ]


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (densities(4, 1), (REPRODUCED, "")),
        (densities(4, 1, steps=50_000), (REPRODUCED, "")),
        (densities(4, 3), (NOT_REPRODUCED, "")),
        (densities(4, 3, steps=50_000), (UNDECIDED, COME)),
        (densities(-4, -6), (UNDECIDED, "G_CV is not above 0")),
        (densities(0, 4), (UNDECIDED, "G_CV is not above 0")),
        (densities(4, 1, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (densities(4, 2), (UNDECIDED, "interval")),
        (densities(4, 1)[:3], (NOT_RUN, None)),
    ],
)
def test_depth_matters_less_at_constant_density(frames, wanted):
    check("3.10", frames, wanted)


# 3.11: checkerboard

SPLITS = {"checkerboard": {"split": "checkerboard", "n_train": None}, "sparse": {}, "dense": {"n_train": 81_920}}


def checked(arm, dense="cv", **how):
    """U-depths of 0 with dense and 4 with sparse data, `arm` on the checkerboard."""
    splits = SPLITS | {"dense": {"split": dense, "n_train": 81_920 if dense == "cv" else None}}
    return [curves(turned(size), **(where | how)) for where, size in zip(splits.values(), (arm, 4, 0), strict=True)]


def nearest(check, sparse=5.0, dense=2.0, images=10_000, split="cv", **how):
    """Histograms of distances to the nearest training image, normal with these means and a deviation of 0.5."""
    splits = SPLITS | {"dense": {"split": split, "n_train": 81_920 if split == "cv" else None}}
    made = []
    for where, mean in zip(splits.values(), (check, sparse, dense), strict=True):
        counts = np.exp(-2 * ((np.arange(50) + 0.5) * BIN - mean) ** 2)
        bins = pd.DataFrame({"bin": range(50), "count": np.round(images * counts / counts.sum())})
        rows = members(**(FULL | {"seeds": (0, 1), "betas": (1.0,)} | where | how)).merge(bins, how="cross")
        frame = measured(rows, "nearest_distance", "test", lambda rows, share: rows["count"], shares=(1.0,))
        made.append(frame.assign(arguments=[f"bin={k}" for k in frame["bin"]]).drop(columns=["bin", "count"]))
    return made


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        ([*checked(3.5), *nearest(5.4)], (REPRODUCED, "")),
        ([*checked(3.5, "random"), *nearest(5.4, split="random")], (REPRODUCED, "")),
        ([*checked(0.5), *nearest(5.4)], (NOT_REPRODUCED, "")),
        ([*checked(3.5), *nearest(2.4)], (NOT_REPRODUCED, "")),
        ([*checked(0.5, steps=50_000), *nearest(5.4, steps=50_000)], (UNDECIDED, COME)),
        ([*checked(3.5, seeds=(0, 1)), *nearest(5.4)], (UNDECIDED, "seeds: 2 of at least 3")),
        ([*checked(2.0), *nearest(5.4)], (UNDECIDED, "interval")),
        ([*checked(3.5), *nearest(8.0, images=30)], (UNDECIDED, "interval")),  # 3 and 6 / 2: too few images to tell
        ([*checked(3.5), *nearest(5.4, steps=500, n_test=2_000)], (REPRODUCED, "")),  # no training changes a distance
        (checked(3.5), (NOT_RUN, None)),
        (checked(3.5)[1:], (NOT_RUN, None)),
        (nearest(5.4), (NOT_RUN, None)),
    ],
)
def test_checkerboard_is_like_sparse_data(frames, wanted):
    check("3.11", frames, wanted)


def test_distances_are_compared_as_histograms():
    shape, distance = judged("3.11", *checked(3.5), *nearest(5.4)).findings
    assert shape.estimate == pytest.approx(3.5 - 0.5, abs=0.1)
    assert distance.estimate == pytest.approx(0.4 - 3.4 / 2, abs=0.01)  # W1 of shifted curves is the shift
    assert distance.high - distance.low == pytest.approx(2 * 1.96 * 0.5 / 100 * math.sqrt(1.5), rel=0.15)
    # Without the curves it stands alone, and is shown.
    alone = judged("3.11", *nearest(5.4, steps=500))
    assert (alone.outcome, alone.findings[1].estimate) == (NOT_RUN, distance.estimate)
    assert in_brief([alone])["ours"].tolist() == [alone.row()["ours"]] != [""]
    # Of members of several budgets, one is read: that of the most test images.
    few = [frame.assign(n=1_000) for frame in nearest(9.0, images=1_000, steps=900)]
    many = [frame.assign(n=10_000) for frame in nearest(5.4, steps=500)]
    assert judged("3.11", *checked(3.5), *few, *many).findings[1].values == distance.values
    # Both names of the dense split at once: the one with more members is read, and the two never mix.
    both = judged("3.11", *checked(3.5), *checked(3.5, "random", seeds=(0,))[2:], *nearest(5.4))
    assert both.findings[0].values == shape.values


# 3.12: convolutions


def networks(deep, shallow, mlp=4.0, **how):
    convolutional = {"model": "conv_vae", "hidden": None, "channels": 64}
    return [
        curves(turned(deep), depths=(3,), **(convolutional | how)),
        curves(turned(shallow), depths=(1,), **(convolutional | how)),
        curves(turned(mlp), depths=(1,), **how),
    ]


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (networks(0, 1), (REPRODUCED, "")),
        (networks(0, 3), (NOT_REPRODUCED, "")),
        (networks(2, 1), (NOT_REPRODUCED, "")),
        (networks(2, 1, steps=50_000), (NOT_REPRODUCED, "")),
        (networks(0, 1, steps=50_000), (UNDECIDED, GO)),
        (networks(0, 1, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (networks(0, 2), (UNDECIDED, "interval")),
        (networks(0, 1)[:2], (NOT_RUN, None)),
        (networks(0, 1)[2:], (NOT_RUN, None)),
        ([*networks(0, 1)[:2], curves(turned(4), hidden=64)], (NOT_RUN, None)),
    ],
)
def test_convolutions_hardly_turn(frames, wanted):
    check("3.12", frames, wanted)


# 3.13: other data


def on_other_data(deep=4.0, sets=tuple(OTHERS), **arms):
    """U-depths with 1 layer of 2, or as given; on 3dShapes also with 3 layers, `deep`."""
    how = {name: {"data": name, "n_train": OTHERS[name], "data_identity": f"{name}-1"} for name in sets}
    made = [curves(turned(arms.get(name, 2.0)), **how[name]) for name in sets]
    return [*made, *(curves(turned(deep), depths=(3,), **how[name]) for name in sets if name == "shapes3d")]


def noisy_set(**how):
    shape = spread(turned(1.0), lambda rows: rows["beta"] == 0.001, 5)
    return curves(shape, data="mnist", n_train=OTHERS["mnist"], data_identity="mnist-1", **how)


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
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
    ],
)
def test_other_data_turn_too(frames, wanted):
    check("3.13", frames, wanted)


def test_most_is_more_than_half_of_the_sets_at_hand():
    two = judged("3.13", *on_other_data(sets=("mnist", "fashion_mnist"), mnist=1.0))
    assert two.findings[0].name == "U-depth with 1 layer, the least of the 2 deepest of 2 sets"
    assert two.findings[0].estimate == pytest.approx(1, abs=0.1)
    four = judged("3.13", *on_other_data(mnist=1.0, shapes3d=-3.0))
    assert four.findings[0].name == "U-depth with 1 layer, the least of the 3 deepest of 4 sets"
    assert four.findings[0].estimate == pytest.approx(1, abs=0.1)


# 3.14: information saturates at log N

LOG_N = math.log(16_384)


def deficit(size):
    """MI below log N by `size` at beta 0.5 and by less below it; far from saturated above."""
    return lambda rows, share: LOG_N - np.where(rows["beta"] > 0.5, 3, size * rows["beta"] / 0.5) + jitter(rows, 0.001)


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (codes(deficit(0.1)), (REPRODUCED, "")),
        (codes(deficit(0.1), steps=20_000, seeds=range(3)), (REPRODUCED, "")),
        (codes(deficit(0.5)), (NOT_REPRODUCED, "")),
        (codes(deficit(0.5), steps=20_000), (UNDECIDED, COME)),
        (codes(deficit(0.1), seeds=(4, 7)), (UNDECIDED, "seeds: 2 of at least 3")),
        (codes(deficit(0.1), steps=19_999), (UNDECIDED, "budget: 19,999 of at least 20,000 steps")),
        (
            codes(later(deficit(0.5), deficit(0.1))),
            (UNDECIDED, "budget: not reproduced at 0.8 of the steps, reproduced at the end"),
        ),
        (codes(spread(deficit(0.2), lambda rows: rows["beta"] == 0.5, 0.1)), (UNDECIDED, "interval")),
        (codes(deficit(0.1), betas=BETAS[:5]), (NOT_RUN, "no beta 0.5")),
        (codes(deficit(0.1), betas=BETAS[3:]), (NOT_RUN, "no beta from 0.001 to 0.01")),
        (codes(deficit(0.1), n_train=8_192), (NOT_RUN, None)),
        (codes(marginal=lambda rows, share: 1.0), (NOT_RUN, None)),
        (distortions(u_shaped), (NOT_RUN, None)),
    ],
)
def test_information_saturates(frame, wanted):
    found = verdict(SATURATES, frame)
    assert found.outcome == wanted[0]
    assert wanted[1] is None or found.reason == wanted[1]


def test_3_14_is_the_worst_beta_of_each_seed_and_every_depth_at_hand():
    found = verdict(SATURATES, codes(deficit(0.1)))
    assert [finding.name for finding in found.findings] == [
        "largest deficit of MI, beta up to 0.5, 1 layer",
        "largest deficit of MI, beta up to 0.5, 3 layers",
    ]
    assert found.findings[0].estimate == pytest.approx(0.1, abs=0.002)
    assert found.scope is not None
    assert found.scope.at_the_papers_scale
    alone = verdict(SATURATES, codes(deficit(0.1), depths=(1,)))
    assert (alone.outcome, len(alone.findings)) == (REPRODUCED, 1)
    assert alone.scope is not None
    assert not alone.scope.at_the_papers_scale
    assert "depth 1 (1 of the paper's 2)" in str(alone.scope)
    both = pd.concat([codes(deficit(0.1), depths=(1,)), codes(deficit(0.5), depths=(3,))])
    assert verdict(SATURATES, both).outcome == NOT_REPRODUCED
    stray = pd.concat([codes(deficit(0.1), depths=(1,)), codes(deficit(0.1), depths=(3,), betas=(0.5,))])
    assert verdict(SATURATES, stray).outcome == REPRODUCED  # one point is no curve of that depth
    assert "every depth at hand" in found.note


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


@pytest.mark.parametrize(
    ("frame", "wanted"),
    [
        (codes(marginal=shrinking), (REPRODUCED, "")),
        (codes(marginal=shrinking, steps=20_000, seeds=range(3)), (REPRODUCED, "")),
        (codes(marginal=growing), (NOT_REPRODUCED, "")),
        (codes(marginal=slow), (NOT_REPRODUCED, "")),
        (codes(marginal=slow, steps=20_000), (UNDECIDED, COME)),
        (codes(marginal=shrinking, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (codes(marginal=shrinking, steps=10_000), (UNDECIDED, "budget: 10,000 of at least 20,000 steps")),
        (
            codes(marginal=later(growing, shrinking)),
            (UNDECIDED, "budget: not reproduced at 0.8 of the steps, reproduced at the end"),
        ),
        (codes(marginal=spread(shrinking, lambda rows: rows["beta"] == 0.1, 4)), (UNDECIDED, "interval")),
        (codes(marginal=shrinking, rate=empty_above(2)), (UNDECIDED, RATES)),
        (codes(marginal=growing, rate=empty_above(5)), (UNDECIDED, RATES)),
        (codes(marginal=shrinking, betas=BETAS[:9]), (NOT_RUN, "no beta 2")),
        (codes(marginal=shrinking, betas=[b for b in BETAS if b != 0.1]), (NOT_RUN, "no beta 0.1")),
        (codes(marginal=shrinking, betas=(0.01, 0.1, 2.0)), (NOT_RUN, "3 of at least 4 values of beta")),
        (codes(information=deficit(0.1)), (NOT_RUN, None)),
    ],
)
def test_marginal_kl_grows(frame, wanted):
    found = verdict(GROWS, frame)
    assert found.outcome == wanted[0]
    assert wanted[1] is None or found.reason == wanted[1]


def test_what_3_15_shows():
    found = verdict(GROWS, codes(marginal=shrinking, depths=(3,)))
    order, halves = found.findings
    assert order.estimate == -1
    assert halves.estimate == pytest.approx(6 / 2 - (3 - 3 * math.log10(2)), abs=0.05)
    assert "too small" not in found.reason
    empty = verdict(GROWS, codes(marginal=shrinking, rate=empty_above(3)))
    assert all(math.isfinite(finding.estimate) for finding in empty.findings)  # shown all the same


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


@pytest.mark.parametrize(
    ("frames", "wanted"),
    [
        (parts_of_the_rate(77, 80.1), (REPRODUCED, "")),
        (parts_of_the_rate(77, 82), (REPRODUCED, "")),
        (parts_of_the_rate(81, 80), (NOT_REPRODUCED, "")),
        (parts_of_the_rate(77, 78), (NOT_REPRODUCED, "")),
        (parts_of_the_rate(77, 78, steps=50_000), (NOT_REPRODUCED, "")),
        (parts_of_the_rate(77, 80.1, steps=50_000), (UNDECIDED, GO)),
        (parts_of_the_rate(77, 80.1, seeds=(0, 1)), (UNDECIDED, "seeds: 2 of at least 3")),
        (parts_of_the_rate(77, 80.1, noise=9), (UNDECIDED, "interval")),
        (parts_of_the_rate(77, 80.1)[:2], (NOT_RUN, "no mi 0")),
        (parts_of_the_rate(77, 80.1)[::2], (NOT_RUN, "no kl 0")),
        (parts_of_the_rate(77, 80.1, objective="beta"), (NOT_RUN, None)),
        (parts_of_the_rate(77, 80.1, depths=(1,)), (NOT_RUN, None)),
        (curves(l_shaped, depths=(3,)), (NOT_RUN, None)),
    ],
)
def test_the_marginal_kl_is_what_costs(frames, wanted):
    check("3.16", frames, wanted)


# All of them

HOLDS = {
    "3.2": depths_apart(5)(),
    "3.4": halves(overfitting(30)),
    "3.5": [curves(l_shaped, depths=(3,))],
    "3.6": preferences(memorised(0.1)),
    "3.7": elbo(peaked(0.1)),
    "3.8": bound(peaked(0.1)),
    "3.9": with_sizes(shrinking_gain),
    "3.10": densities(4, 1),
    "3.11": [*checked(3.5), *nearest(5.4)],
    "3.12": networks(0, 1),
    "3.13": on_other_data(),
    "3.16": parts_of_the_rate(77, 80.1),
}


@pytest.mark.parametrize("number", HOLDS)
def test_each_reaches_the_papers_scale(number):
    frames = HOLDS[number] if isinstance(HOLDS[number], list) else [HOLDS[number]]
    found = judged(number, *frames)
    assert found.scope is not None
    assert found.scope.at_the_papers_scale, str(found.scope)
    smaller = judged(number, *(frame.assign(seed=frame["seed"] + 1)[frame["seed"] < 4] for frame in frames))
    assert smaller.outcome == REPRODUCED
    assert smaller.scope is not None
    assert not smaller.scope.at_the_papers_scale


def test_the_papers_scale_is_reached_by_all_of_it_alone():
    frame = pd.concat(
        [dense(gap(0.01)), distortions(u_shaped, depths=(1, 3)), codes(deficit(0.1), shrinking)], ignore_index=True
    )
    four = MEMORISED, U_SHAPED, SATURATES, GROWS
    for found in verdicts(four, frame):
        assert found.outcome == REPRODUCED
        assert found.scope is not None
        assert found.scope.at_the_papers_scale, str(found.scope)
    smaller = verdicts(four, frame.assign(n_test=2048))
    assert not any(found.scope and found.scope.at_the_papers_scale for found in smaller)
    assert "n_test 2048 (paper all)" in str(smaller[0].scope)


def test_only_the_claim_of_other_data_needs_data():
    """Tetrominoes are made here, to the paper's recipe."""
    found = {each.number: each.outcome for each in verdicts(CLAIMS, pd.DataFrame())}
    assert list(found) == [f"3.{i}" for i in range(1, 17)]
    assert found.pop("3.13") == NEEDS_DATA
    assert set(found.values()) == {NOT_RUN}


# How often 3.3 would be wrong: through the whole path, which must say what its statistic says


def test_simulated_tables_are_judged_as_their_curves_are():
    rng = np.random.default_rng(0)
    frame = distortions(u_shaped, seeds=range(3), steps=PAPER.steps).sort_values(["step", "seed", "beta"])
    cells = ((frame["measure"] == "distortion") & (frame["part"] == "test")).to_numpy()
    noise = rng.normal(size=(60, 3, 12))
    arm = np.array([0] * 6 + [0.5, 1, 2, 5, 9, 15])  # no left arm, so no U
    wanted, said = [], []
    for left, world in zip([0.0, 9.0] * 30, noise, strict=True):
        curves = world + arm + left * (np.arange(12) == 0)
        frame.loc[cells, "value"] = np.concatenate([curves.ravel()] * 2)  # at 0.8 and at 1.0 of the steps
        said.append(verdict(U_SHAPED, frame).outcome == REPRODUCED)
        wanted.append(t_interval(u_depths(curves))[0] > 0)
    assert said == wanted
    assert sum(said[::2]) <= 3  # of 30 without a U
    assert sum(said[1::2]) >= 28  # of 30 with a deep one
