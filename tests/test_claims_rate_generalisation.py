"""Study 3's claims on made-up tables: satisfied, violated, and undecided for each reason there is."""

import math

import numpy as np
import pandas as pd
import pytest
from test_claims import measured, members

from vaekit.claims import (
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Verdict,
    t_interval,
    u_depths,
    verdict,
    verdicts,
)
from vaekit.studies.rate_generalisation.claims import BETAS, CLAIMS, PAPER

MEMORISED, U_SHAPED, SATURATES, GROWS = CLAIMS
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


# All of them


def test_the_papers_scale_is_reached_by_all_of_it_alone():
    frame = pd.concat(
        [dense(gap(0.01)), distortions(u_shaped, depths=(1, 3)), codes(deficit(0.1), shrinking)], ignore_index=True
    )
    for found in verdicts(CLAIMS, frame):
        assert found.outcome == REPRODUCED
        assert found.scope is not None
        assert found.scope.at_the_papers_scale, str(found.scope)
    smaller = verdicts(CLAIMS, frame.assign(n_test=2048))
    assert not any(found.scope and found.scope.at_the_papers_scale for found in smaller)
    assert "n_test 2048 (paper all)" in str(smaller[0].scope)


def test_no_claim_of_this_study_needs_data():
    """Tetrominoes are made here, to the paper's recipe."""
    assert {found.outcome for found in verdicts(CLAIMS, pd.DataFrame())} == {NOT_RUN}
    assert [claim.number for claim in CLAIMS] == ["3.1", "3.3", "3.14", "3.15"]


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
