"""How measures go together across the papers: known correlations are found, a trend in beta that all share is not."""

import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
from made_up import measured, members
from scipy import stats

from vaekit import figures
from vaekit.studies.across import BETAS, SPEC
from vaekit.studies.across import figures as across_figures
from vaekit.studies.across import relations as study

SEEDS = range(5)
TRENDS = {
    "straight": lambda t: t,
    "bent": lambda t: np.tanh(4 * t),
    "steep": np.exp,
    "humped": lambda t: -((t - 0.5) ** 2),
}
NOISES = {
    "normal": lambda draw, t: draw.standard_normal((5, 8)),
    "skewed": lambda draw, t: np.exp(1.5 * t) * draw.lognormal(0, 1, (5, 8)),
}


def table_of(**values) -> pd.DataFrame:
    """`values` of MEASURES and EARLY, arrays (seeds, betas), as `relations.values` gives them."""
    rows = pd.DataFrame([(seed, beta) for seed in SEEDS for beta in BETAS], columns=["seed", "beta"])
    every = dict.fromkeys([*study.MEASURES, *study.EARLY], math.nan)
    return rows.assign(
        key=rows.index.map(str), data="dsprites_like32", **every | {n: v.ravel() for n, v in values.items()}
    )


def made_up(seed: int, trend: str, noise: str) -> dict[str, np.ndarray]:
    """All that is tested, with a trend in beta in common and nothing else; active units are whole numbers."""
    draw, t = np.random.default_rng(seed), np.linspace(-1, 1, 8)
    names = {name for pair in study.PAIRS for name in pair}
    signs = {name: draw.choice([-1, 1]) for name in sorted(names)}
    drawn = {name: signs[name] * TRENDS[trend](t) + 0.3 * NOISES[noise](draw, t) for name in sorted(names)}
    return drawn | {"active_units": np.round(5 + 3 * drawn["active_units"])}


def test_eight_pairs_are_tested():
    assert len(study.PAIRS) == len({*study.PAIRS}) == 8
    assert {name for pair in study.PAIRS for name in pair} <= {*study.MEASURES, *study.EARLY}
    assert all(hasattr(across_figures, question.figure) for question in study.QUESTIONS)


@pytest.mark.parametrize(
    ("trend", "noise"),
    [("straight", "normal"), ("bent", "normal"), ("bent", "skewed"), ("steep", "skewed"), ("humped", "normal")],
)
def test_a_common_trend_in_beta_finds_nothing_in_95_of_100_draws(trend, noise):
    tables = [table_of(**made_up(seed, trend, noise)) for seed in range(100)]
    finds = [any(relation.told for relation in study.relations(table)) for table in tables]
    assert sum(finds) <= 5
    plain = [study.relation(table, "dsprites_like32", "id_z", "rate").plain[0] for table in tables]
    assert np.mean(np.abs(plain)) > 0.3  # which a plain correlation would have taken for a relation


@pytest.mark.parametrize("sign", [1, -1])
def test_what_goes_together_given_beta_is_found(sign):
    hits = 0
    for seed in range(40):
        drawn = made_up(seed, "bent", "normal")
        trend = np.tanh(4 * np.linspace(-1, 1, 8))
        drawn["id_z"] = trend + sign * (drawn["rate"] - drawn["rate"].mean(0)) + 0.05 * drawn["id_z"]
        first = study.relations(table_of(**drawn))[0]
        assert (first.a, first.b) == ("id_z", "rate")
        hits += first.told and math.copysign(1, first.partial[0]) == sign
    assert hits >= 38


def test_numbers_are_scipys():
    drawn = made_up(0, "bent", "normal")
    one = study.relation(table_of(**drawn), "dsprites_like32", "id_z", "rate")
    x, y = drawn["id_z"], drawn["rate"]
    plain = [stats.spearmanr(x[i], y[i]).statistic for i in SEEDS]
    partial = [stats.spearmanr(x[i] - x.mean(0), y[i] - y.mean(0)).statistic for i in SEEDS]
    half = stats.t.ppf(0.975, 4) * stats.sem(plain)
    assert one.plain == pytest.approx((np.mean(plain), max(-1, np.mean(plain) - half), min(1, np.mean(plain) + half)))
    se = stats.sem(partial) * math.sqrt(4 / 3)
    assert one.partial[0] == pytest.approx(np.mean(partial))
    assert one.p == pytest.approx(2 * stats.t.sf(abs(np.mean(partial)) / se, 3))
    assert study.matrix(table_of(**drawn), "dsprites_like32").loc["id_z", "rate"] == pytest.approx(np.mean(plain))


def test_holm_is_that_of_the_textbook():
    assert study._holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert study._holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


def test_seeds_that_are_not_whole_are_left_out_and_few_are_not_told():
    table = table_of(**made_up(0, "bent", "normal"))
    cut = table[(table["seed"] > 0) | (table["beta"] < 5)]
    assert study.relations(cut)[0].n_seeds == 4
    few = study.relations(table[table["seed"] < 2])
    assert not any(each.told or math.isfinite(each.p) for each in few)
    assert "2 of at least 3 seeds" in few[0].sentence
    assert study.answer(study.QUESTIONS[0], few).endswith("of 2 seeds whole curves are there; 3 are needed.")
    constant = table.assign(active_units=10.0)
    assert "one of them is constant" in study.relation(constant, "dsprites_like32", "id_z", "active_units").sentence
    without = study.relations(table.assign(mig=math.nan))
    assert len(without) == 7


def test_an_answer_says_what_is_told_and_what_is_not():
    one = study.relations(table_of(**made_up(0, "bent", "normal")))
    assert "Nothing is told beyond what beta does" in study.answer(study.QUESTIONS[1], one)
    told = [dataclasses.replace(each, adjusted=0.01, partial=(-0.9, -1.0, -0.8)) for each in one]
    assert study.answer(study.QUESTIONS[1], [told[3], one[4]]) == (
        "Given beta, Δ(out → in) goes against the distortion on dSprites-like at 32 × 32; 1 of 2 tests finds nothing."
    )
    assert "go against each other (rho -0.90, 95 % interval -1.00 to -0.80, Holm's p 0.01" in told[0].sentence


@pytest.fixture(scope="module")
def tidy() -> pd.DataFrame:
    """A tidy table of two seeds and three betas, each with its children: values tell what they are of."""
    points = [(beta, seed) for beta in (0.1, 1.0, 10.0) for seed in (0, 1)]
    same = {"data": "dsprites_like32", "model": "classifier_vae", "batch_size": 128, "n_train": 20_000, "split": "cv"}
    trained = members(["beta", "seed"], points, steps=5_000, arm=None, parent=None, **same)
    shares = (0.2, 1.0)
    of = {
        "rate": ("test", {}),
        "mutual_information": ("train", {"estimator": "exact"}),
        "active_units": ("test", {}),
        "accuracy": ("test", {}),
    }
    frames = [
        measured(trained, name, part, lambda r, s: r["beta"] * s + r["seed"], shares, **how)
        for name, (part, how) in of.items()
    ]
    for part, extra in (("test", 3.0), ("train", 0.0)):
        frames.append(
            measured(trained, "distortion", part, lambda r, s, extra=extra: 80 - r["beta"] + extra, shares, samples=1)
        )
    for layer, value in (("encoder1", 5.0), ("encoder2", 9.0), ("z", 7.0), ("mu", 6.0)):
        frames.append(
            measured(
                trained,
                "intrinsic_dimension",
                "test",
                lambda r, s, value=value: value * s + 0 * r["beta"],
                shares,
                layer=layer,
            )
        )
    for arm, accuracy in (("gradual", 0.90), ("dense", 0.95)):
        child = members(["beta", "seed"], points, steps=312, arm=arm, parent_steps=5_000, **same).assign(
            parent=trained["key"]
        )
        frames.append(measured(child, "accuracy", "test", lambda r, s, a=accuracy: a + 0 * r["beta"], (1.0,)))
        frames.append(measured(child, "compressed_bytes", "model", lambda r, s: 1_000 + r["beta"], (1.0,)))
    return pd.concat(frames, ignore_index=True)


def test_values_are_those_of_the_tidy_table(tidy):
    values = study.values(tidy).set_index(["beta", "seed"])
    assert len(values) == 6
    one = values.loc[1.0, 1]
    assert (one["rate"], one["early_rate"]) == (2.0, pytest.approx(1.2))
    assert (one["distortion"], one["gap"]) == (82.0, 3.0)
    assert (one["id_peak"], one["early_id_peak"], one["id_z"]) == (9.0, pytest.approx(1.8), 7.0)
    assert one["pruned_accuracy"] == 0.90
    assert one["cost"] == pytest.approx(0.05)
    assert one["compressed"] == 1_001
    assert math.isnan(one["mig"])


def test_of_several_budgets_the_largest_is_read(tidy):
    less = tidy.assign(key="short " + tidy["key"], parent="short " + tidy["parent"], steps=tidy["steps"] // 5)
    less["step"] //= 5
    both = pd.concat([less, tidy], ignore_index=True)
    pd.testing.assert_frame_equal(study.values(both), study.values(tidy))


def test_of_children_of_two_lengths_the_longer_is_read(tidy):
    longer = tidy[tidy["arm"] == "gradual"].assign(steps=624, step=624, value=0.93)
    longer["key"] = "longer " + longer["key"]
    both = study.values(pd.concat([tidy, longer], ignore_index=True))
    assert both["pruned_accuracy"].tolist() == [0.93] * 6


@pytest.mark.parametrize("draw", [question.figure for question in study.QUESTIONS])
def test_figures_draw_what_is_there_and_say_what_is_not(tidy, draw):
    function = getattr(across_figures, draw)
    assert len(function.caption) > 40
    assert figures.is_empty(function(tidy.iloc[:0]))
    figure = function(tidy)
    assert figures.is_empty(figure) == (draw == "imbalance_of_the_output")  # no Delta in this table


def test_points_of_a_scatter_are_the_networks(tidy):
    figure = across_figures.dimension_of_z(tidy)
    points = np.concatenate([np.asarray(each.get_offsets()) for each in figure.axes[0].collections])
    values = study.values(tidy)
    assert sorted(map(tuple, points)) == sorted(zip(values["rate"], values["id_z"], strict=True))
    rows = pd.read_csv(io.StringIO(figure.csv), comment="#")
    pd.testing.assert_frame_equal(rows[["key", "rate", "id_z"]], values[["key", "rate", "id_z"]], check_dtype=False)
    assert len(across_figures.numbers(tidy)) == 3


@pytest.mark.parametrize("draw", ["dimension_of_z", "diagnostics"])
def test_a_figures_data_says_how_it_was_made(tidy, draw):
    comment = [line for line in getattr(across_figures, draw)(tidy).csv.splitlines() if line.startswith("# ")]
    assert "# seed: 0, 1" in comment
    assert comment[0].startswith("# vaekit: ")
    assert all(line.strip("# ") for line in comment)


def test_every_measure_that_is_read_is_taken():
    names = {measure.name for measure in SPEC.measures}
    assert names >= {"quality", "code", "gap", "forest", "size", "rate_parts", "clouds", "probes"}
