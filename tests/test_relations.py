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
from vaekit.studies.across import BETAS
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
    "slopes": lambda draw, t: draw.standard_normal((5, 8)) + draw.standard_normal((5, 1)) * t,  # a seed's own
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
    [
        *(("straight", "normal"), ("bent", "normal"), ("bent", "skewed")),
        *(("steep", "skewed"), ("humped", "normal"), ("bent", "slopes")),
    ],
)
def test_a_common_trend_in_beta_finds_nothing_in_95_of_100_draws(trend, noise):
    tables = [table_of(**made_up(seed, trend, noise)) for seed in range(200)]
    finds = [any(relation.found for relation in study.relations(table)) for table in tables]
    assert np.mean(finds) <= 0.05
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
        hits += first.found and math.copysign(1, first.partial[0]) == sign
    assert hits >= 38


def test_five_seeds_find_close_relations_only():
    """As the page says: of 100 pairs that correlate by 0.9 given beta 82, by 0.5 8, at the level of one of eight."""
    draw, hits = np.random.default_rng(0), {0.9: 0, 0.5: 0}
    for correlation in hits:
        for _ in range(200):
            one, other = draw.standard_normal((2, 5, 8))
            joined = correlation * one + math.sqrt(1 - correlation**2) * other
            pair = study.relation(table_of(id_z=one, rate=joined), "dsprites_like32", "id_z", "rate")
            hits[correlation] += pair.p < study.LEVEL / 8
    assert 0.74 < hits[0.9] / 200 < 0.9
    assert hits[0.5] / 200 < 0.16


def test_how_much_seeds_differ_at_a_beta_changes_nothing():
    """A measure that spreads a hundred times as far at the largest beta is ranked as one of equal spread is."""
    drawn = made_up(0, "bent", "normal")
    wide = drawn | {"id_z": drawn["id_z"] + 99 * np.linspace(0, 1, 8) * (drawn["id_z"] - drawn["id_z"].mean(0))}
    one, other = (pair_of(table_of(**values)) for values in (drawn, wide))
    assert (one.partial, one.p) == (other.partial, other.p)


def test_what_sets_a_seed_off_at_every_beta_is_not_seen():
    """As the page says: only where a seed differs more than elsewhere counts."""
    drawn = made_up(0, "bent", "normal")
    seeds = np.array([-2.0, -1, 0, 1, 2])[:, None]
    noise = np.random.default_rng(1).standard_normal((2, 5, 8))
    both = {"id_z": 1_000 * seeds + noise[0], "rate": 1_000 * seeds + noise[1]}
    assert abs(pair_of(table_of(**drawn | both)).partial[0]) < 0.5
    alone = pair_of(table_of(**drawn | {"id_z": np.tile(seeds, 8)}))
    assert alone.lacking == "seeds do not differ by more at one beta than at another"


def test_a_beta_at_which_all_seeds_are_alike_is_left_out():
    drawn = made_up(0, "bent", "normal")
    alike = drawn["active_units"].copy()
    alike[:, :3] = 10.0
    table = table_of(**drawn | {"active_units": alike})
    pair = study.relation(table, "dsprites_like32", "id_z", "active_units")
    of_others = study.relation(table[table["beta"] > BETAS[2]], "dsprites_like32", "id_z", "active_units")
    assert (pair.n_betas, pair.partial, pair.p) == (5, of_others.partial, of_others.p)
    alike[:, :6] = 10.0
    pair = study.relation(table_of(**drawn | {"active_units": alike}), "dsprites_like32", "id_z", "active_units")
    assert pair.lacking == "the number of active units differs among seeds at 2 of the 5 betas that a test needs"
    first, last = drawn["id_z"].copy(), drawn["rate"].copy()
    first[:, :2], last[:, -2:] = 7.0, 7.0
    pair = pair_of(table_of(**drawn | {"id_z": first, "rate": last}))
    assert (pair.n_betas, pair.lacking) == (4, "both differ among seeds at 4 of the 5 betas that a test needs")
    assert math.isnan(pair.p)


def test_numbers_are_scipys():
    drawn = made_up(0, "bent", "normal")
    one = study.relation(table_of(**drawn), "dsprites_like32", "id_z", "rate")
    x, y = drawn["id_z"], drawn["rate"]
    plain = [stats.spearmanr(x[i], y[i]).statistic for i in SEEDS]
    left = [(values - values.mean(0)) / values.std(0) for values in (x, y)]
    partial = [stats.spearmanr(left[0][i], left[1][i]).statistic for i in SEEDS]
    half = stats.t.ppf(0.975, 4) * stats.sem(plain)
    assert one.plain == pytest.approx((np.mean(plain), max(-1, np.mean(plain) - half), min(1, np.mean(plain) + half)))
    se = stats.sem(partial) * math.sqrt(4 / 3)
    assert one.partial[0] == pytest.approx(np.mean(partial))
    assert one.p == pytest.approx(2 * stats.t.sf(abs(np.mean(partial)) / se, 3))
    assert study.matrix(table_of(**drawn), "dsprites_like32").loc["id_z", "rate"] == pytest.approx(np.mean(plain))


def test_a_cell_of_the_matrix_is_spearmans_rho_of_the_networks_that_have_both():
    table = table_of(**made_up(0, "bent", "normal"))
    table.loc[table["beta"].isin(BETAS[2:4]), "id_z"] = math.nan
    both = table.dropna(subset=["id_z"])
    wanted = [stats.spearmanr(own["id_z"], own["rate"]).statistic for _, own in both.groupby("seed")]
    assert study.matrix(table, "dsprites_like32").loc["id_z", "rate"] == pytest.approx(np.mean(wanted))


def test_a_correlation_of_fewer_than_four_networks_is_not_shown():
    table = table_of(**made_up(0, "bent", "normal"))
    assert study.matrix(table[table["beta"] > 2], "dsprites_like32").isna().all(axis=None)
    assert math.isfinite(study.matrix(table[table["beta"] > 1], "dsprites_like32").loc["id_z", "rate"])


def test_an_image_set_that_is_not_there_and_a_table_of_another_study_are_named(tidy):
    table = table_of(**made_up(0, "bent", "normal"))
    both = pd.concat([table, table.assign(data="mnist", key="m" + table["key"])])
    assert study.relation(both, "mnist", "id_z", "rate").partial == pair_of(table).partial
    for asks in (study.matrix, lambda rows, name: study.relation(rows, name, "id_z", "rate")):
        with pytest.raises(ValueError, match="no network was trained on 'mnistt'; there are dsprites_like32, mnist"):
            asks(both, "mnistt")
    with pytest.raises(ValueError, match="a table of study across is wanted"):
        study.values(tidy.drop(columns="beta"))
    twice = tidy[tidy["arm"].isna()].assign(objective="another", key="another " + tidy["key"])
    with pytest.raises(ValueError, match="one network for each image set, seed and beta"):
        study.values(pd.concat([tidy, twice]))


def test_values_that_are_equal_stay_equal_less_their_mean():
    """Counts and accuracies have ties, which an error in the last bit would break in the same way in every seed."""
    draw = np.random.default_rng(0)
    # At each beta three seeds have one more, in whichever order: the same mean and spread everywhere.
    more = np.array([draw.permutation([0, 0, 1, 1, 1]) for _ in BETAS]).T
    units, rate = draw.integers(3, 6, 8) + more, draw.standard_normal((5, 8))
    one = study.relation(table_of(active_units=units / 10, rate=rate), "dsprites_like32", "active_units", "rate")
    z = (rate - rate.mean(0)) / rate.std(0)
    wanted = [stats.spearmanr(more[i], z[i]).statistic for i in SEEDS]
    assert one.partial[0] == pytest.approx(np.mean(wanted), abs=1e-12)


def test_holm_is_that_of_the_textbook():
    assert study._holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert study._holm([0.5, math.nan, 0.9]) == pytest.approx([1.0, math.nan, 1.0], nan_ok=True)


def pair_of(table: pd.DataFrame) -> study.Relation:
    return study.relation(table, "dsprites_like32", "id_z", "rate")


def test_networks_beyond_the_grid_cost_no_seed():
    """A beta of one seed, a seed of some betas, a beta at which most diverged."""
    table = table_of(**made_up(0, "bent", "normal"))
    whole = pair_of(table)
    assert (whole.n_seeds, whole.n_betas, whole.lacking) == (5, 8, "")
    extra = table.iloc[:1].assign(beta=0.3, key="extra")
    assert pair_of(pd.concat([table, extra])) == whole
    sixth = table[table["seed"] == 0].iloc[:3].assign(seed=5, key="sixth")
    assert pair_of(pd.concat([table, sixth])) == whole
    diverged = table.assign(rate=table["rate"].mask((table["beta"] == BETAS[7]) & (table["seed"] != 2)))
    assert pair_of(diverged) == pair_of(table[table["beta"] != BETAS[7]])
    assert (pair_of(diverged).n_seeds, pair_of(diverged).n_betas) == (5, 7)
    one = table.assign(rate=table["rate"].mask((table["beta"] == BETAS[7]) & (table["seed"] == 2)))
    assert pair_of(one) == pair_of(table[table["seed"] != 2])


@pytest.mark.parametrize(
    ("cut", "reason"),
    [
        (lambda table: table[table["seed"] < 1], "1 of the 4 seeds that a test needs is complete over beta"),
        (lambda table: table[table["seed"] < 3], "3 of the 4 seeds that a test needs are complete over beta"),
        (lambda table: table[table["beta"] < 1], "4 of the 5 betas that a test needs are trained"),
        (lambda table: table.assign(id_z=10.0), "the ID of z differs among seeds at no beta"),
        (lambda table: table.assign(rate=table["beta"]), "the rate differs among seeds at no beta"),
    ],
)
def test_too_little_is_not_tested_and_the_answer_says_why(cut, reason):
    question, table = study.QUESTIONS[0], cut(table_of(**made_up(0, "bent", "normal")))
    pairs = [pair for pair in study.relations(table) if (pair.a, pair.b) == ("id_z", "rate")]
    (pair,) = pairs
    assert math.isnan(pair.p)
    assert not pair.found
    assert pair.brief == f"ID of z, rate: not tested, {reason}"
    assert study.answer(question, pairs) == f"Cannot be told yet: on dSprites-like at 32 × 32, {reason}."


def test_holm_is_over_the_pairs_that_are_tested():
    table = table_of(**made_up(0, "bent", "normal"))
    assert {pair.family for pair in study.relations(table)} == {8}
    without = study.relations(table.assign(mig=math.nan))
    assert [pair.family for pair in without] == [7] * 7
    constant = study.relations(table.assign(active_units=10.0))
    assert [pair.family for pair in constant] == [6] * 8


def test_an_answer_says_what_is_found_and_what_is_not():
    pairs = study.relations(table_of(**made_up(0, "bent", "normal")))
    assert study.answer(study.QUESTIONS[1], pairs) == "No relation beyond beta's own could be shown, in 2 tests."
    found = [dataclasses.replace(pair, adjusted=0.01, partial=(-0.9, -1.0, -0.8)) for pair in pairs]
    assert study.answer(study.QUESTIONS[1], [found[3], pairs[4]]) == (
        "Given beta, Δ(out → in) goes against the distortion on dSprites-like at 32 × 32; 1 of 2 tests shows none."
    )
    both = [found[3], dataclasses.replace(found[3], data="mnist")]
    assert study.answer(study.QUESTIONS[1], both) == (
        "Given beta, Δ(out → in) goes against the distortion on dSprites-like at 32 × 32 and on MNIST."
    )
    assert found[0].brief.startswith("ID of z, rate: ρ −0.90 (−1.00 to −0.80) at 8 β, p 0.01; over β ")


def test_the_closest_measure_at_a_fifth_of_the_training_is_named():
    drawn = made_up(0, "bent", "normal")
    random = np.random.default_rng(1).standard_normal((5, 8))
    early = {"early_knn": -drawn["distortion"] + 0.01 * random, "early_mutual_information": random}
    words = study.closest(table_of(**drawn, **early))
    assert words == (
        "Not tested, since the best of so many is close by chance: closest to the distortion at the end, given beta, "
        "is the accuracy of kNN on mu on dSprites-like at 32 × 32 (of 3 measures, ρ −0.99)."
    )
    assert study.closest(table_of(**drawn).iloc[:8]) == ""


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
    for arm, sparsity, accuracy in (("gradual", 0.9, 0.90), ("dense", 0.0, 0.95)):
        child = members(["beta", "seed"], points, steps=312, arm=arm, parent_steps=5_000, sparsity=sparsity, **same)
        child = child.assign(parent=trained["key"])
        size = 10_000 * (1 - sparsity)
        frames.append(measured(child, "accuracy", "test", lambda r, s, a=accuracy: a + 0 * r["beta"], (1.0,)))
        frames.append(measured(child, "compressed_bytes", "model", lambda r, s, b=size: b + r["beta"], (1.0,)))
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
    assert one["compressed"] == pytest.approx(1_001)
    assert math.isnan(one["mig"])


def test_of_several_budgets_the_largest_is_read(tidy):
    less = tidy.assign(key="short " + tidy["key"], parent="short " + tidy["parent"], steps=tidy["steps"] // 5)
    less["step"] //= 5
    both = pd.concat([less, tidy], ignore_index=True)
    pd.testing.assert_frame_equal(study.values(both), study.values(tidy))


def test_of_children_of_two_lengths_the_longer_is_read(tidy):
    longer = tidy[tidy["arm"] == "gradual"].assign(steps=624, step=624, value=0.93)
    longer["key"] = "longer " + longer["key"]
    for rows in ([tidy, longer], [longer, tidy]):
        both = study.values(pd.concat(rows, ignore_index=True))
        assert both["pruned_accuracy"].tolist() == [0.93] * 6


def test_a_child_of_another_sparsity_is_not_read(tidy):
    half = tidy[tidy["arm"] == "gradual"].assign(sparsity=0.5, value=0.99)
    half["key"] = "half " + half["key"]
    for rows in ([tidy, half], [half, tidy]):
        pd.testing.assert_frame_equal(study.values(pd.concat(rows, ignore_index=True)), study.values(tidy))


def test_a_larger_budget_of_a_few_networks_does_not_replace_what_can_be_tested():
    points = [(beta, seed) for beta in BETAS for seed in SEEDS]
    same = {"data": "mnist", "model": "classifier_vae", "batch_size": 128, "split": "own", "arm": None, "parent": None}
    grid = members(["beta", "seed"], points, steps=100, **same)
    few = members(["beta", "seed"], [(beta, 0) for beta in BETAS], steps=1_000, **same)
    grid, few = (measured(rows, "rate", "test", lambda r, s: r["beta"] * s, (0.2, 1.0)) for rows in (grid, few))
    both = pd.concat([grid, few], ignore_index=True)
    assert {*study.values(both)["key"]} == {*grid["key"]}
    assert {*study.values(both[both["seed"] == 0])["key"]} == {*few["key"]}


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
