"""Figures are drawn from a table, without a warning, and show its numbers."""

import dataclasses
import io
import itertools
import re
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.lines import AxLine
from tiny import ARGUMENTS, member, settings, tables, value

from vaekit import figures, tidy
from vaekit.data import tetrominoes
from vaekit.figures import over_beta, pictures, rate_distortion
from vaekit.runs import StoreError
from vaekit.sheets import Sheet
from vaekit.studies.rate_generalisation import figures as study

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BETAS = (0.01, 0.1, 1.0, 3.0)
PARTS = ("train", "test")


@pytest.fixture(autouse=True)
def _house_style_goes_again():
    with matplotlib.rc_context():
        yield
    assert not plt.get_fignums()  # a notebook would show a figure that is still open a second time


def grid(betas=BETAS, depths=(1, 3), seeds=(0, 1), **changes):
    return [
        member(beta, seed, ARGUMENTS | {"depth": depth}, **changes)
        for beta, depth, seed in itertools.product(betas, depths, seeds)
    ]


def frame(members, **how):
    return tidy.frame(tables(members, **how))


def drawn(figure):
    """Draw a figure whole, as saving it does."""
    figure.canvas.draw()
    return figure


def curve(line):
    return [list(np.round(np.asarray(values, float), 9)) for values in line.get_data()]


def errorbars(ax):
    """Points of the error bars by label: {label: [x, y]}."""
    return {bars.get_label(): curve(bars.lines[0]) for bars in ax.containers}


def means(measure, arguments, part, betas=BETAS, depth=1, seeds=(0, 1), step=20):
    """What `tables` made up, averaged over seeds."""
    return [
        round(float(np.mean([value(m, step, part, measure, arguments) for m in grid([beta], [depth], seeds)])), 9)
        for beta in betas
    ]


def test_rate_distortion_shows_the_tables_means():
    (ax,) = drawn(rate_distortion(frame(grid(depths=[1])))).axes
    points = errorbars(ax)
    assert points.keys() == {"training images", "test images"}
    for part in PARTS:
        wanted = [means("rate", "", part), means("distortion", "samples=1", part)]
        assert points[figures.PARTS[part][2]] == wanted
    stars = [curve(line) for line in ax.lines if line.get_marker() == "*"]
    assert stars == [
        [[means(m, a, part, [1.0])[0]] for m, a in (("rate", ""), ("distortion", "samples=1"))] for part in PARTS
    ]
    assert not [line for line in ax.lines if line.get_mec() == "black"]
    assert "nats per image" in ax.get_xlabel()
    assert "nats per image" in ax.get_ylabel()


def test_spread_over_seeds_is_drawn():
    (ax,) = rate_distortion(frame(grid(depths=[1]))).axes
    (across, up) = ax.containers[0].lines[2]
    for bars, measure, side in ((across, "rate", 0), (up, "distortion", 1)):
        lengths = [abs(np.diff(segment[:, side]).item()) for segment in bars.get_segments()]
        sd = {"rate": 0.01, "distortion": 0.1}[measure] / np.sqrt(2)
        assert lengths == pytest.approx([2 * sd] * len(BETAS))


def test_lines_of_equal_elbo_cross_the_curves_and_widen_nothing():
    (ax,) = drawn(rate_distortion(frame(grid(depths=[1])))).axes
    lines = [line for line in ax.lines if isinstance(line, AxLine)]
    assert lines
    assert all(line.get_slope() == -1 for line in lines)
    totals = [sum(line.get_xy1()) for line in lines]
    assert np.diff(totals) == pytest.approx([20] * (len(totals) - 1))
    assert ax.get_xlim()[1] < 1.2 * max(means("rate", "", "test"))


def test_asked_points_have_a_ring():
    table = frame(grid(depths=[1]))
    table = table.assign(asked=table["beta"].isin([0.1, 3]))
    (ax,) = rate_distortion(table).axes
    rings = [curve(line) for line in ax.lines if line.get_mec() == "black"]
    wanted = [[means(m, a, part, [0.1, 3]) for m, a in (("rate", ""), ("distortion", "samples=1"))] for part in PARTS]
    assert rings == wanted


@pytest.mark.parametrize("betas", [[1.0], [0.1], [0.0, 0.1, 1.0], [0.0]])
def test_few_betas_and_a_beta_of_zero(betas):
    table = frame(grid(betas, [1], [0]))
    (ax,) = drawn(study.figure_3(table)).axes
    assert errorbars(ax)["test images"][1] == means("distortion", "samples=1", "test", betas, seeds=[0])
    drawn(study.learning_curves(table))
    (ax,) = drawn(study.figure_8(table)).axes
    shown = ax.transAxes.inverted().transform(ax.transData.transform([(beta, 1.0) for beta in betas]))[:, 0]
    assert ((shown >= 0) & (shown <= 1)).all()


def test_over_beta_shows_one_measure_by_one_estimator():
    _, axes = figures.panels(1, 1)
    ax = over_beta(frame(grid(depths=[1])), "marginal_kl", axes[0, 0], "estimator=batch512", label="KL")
    assert errorbars(ax) == {"KL": [list(BETAS), means("marginal_kl", "estimator=batch512", "train")]}
    assert ax.get_xscale() == "log"


def test_learning_curves_show_every_step_of_every_beta():
    figure = drawn(study.learning_curves(frame(grid(depths=[3], steps=400))))
    (ax,) = figure.axes
    steps = [80, 100, 160, 200, 240, 320, 400]
    wanted = {
        f"beta {beta:g}": [
            steps,
            [means("distortion", "samples=1", "test", [beta], depth=3, step=step)[0] for step in steps],
        ]
        for beta in BETAS
    }
    assert {line.get_label(): curve(line) for line in ax.lines} == wanted


def test_figures_have_a_row_for_each_budget_and_a_panel_for_each_depth():
    members = grid() + grid(steps=400, depths=(1,)) + grid(n_train=64) + grid([0.1], n_test=None)
    table = frame(members).assign(asked=False)
    table.loc[(table["beta"] == 0.1), "asked"] = True
    for make in (study.figure_3, study.learning_curves, study.figure_8):
        figure = drawn(make(table))
        assert len(figure.axes) == 8
        titles = [ax.texts[0].get_text() for ax in figure.axes[::2]]
        assert titles[0] == "CV(32): 400 steps of 8, 4 units, tetrominoes, 2 seeds"
        assert sorted(title.split(":")[0] for title in titles) == ["CV(32)"] * 3 + ["CV(64)"]
        assert all("20 steps of 8" in title for title in titles[1:])
        assert not figure.axes[1].axison  # three layers were not trained for 400 steps
        assert [ax.get_title() for ax in figure.axes[2:4]] == ["1-layer MLP", "3-layer MLP"]


def test_figure_3_draws_each_depths_own_numbers_above_the_floor():
    figure = drawn(study.figure_3(frame(grid())))
    for ax, depth in zip(figure.axes, (1, 3), strict=True):
        wanted = [means(m, a, "test", depth=depth) for m, a in (("rate", ""), ("distortion", "samples=1"))]
        assert errorbars(ax)["test images"] == wanted
        (floor,) = [line for line in ax.lines if line.get_linestyle() == ":"]
        assert set(floor.get_ydata()) == {40.0}
        assert ax.get_ylim()[0] < 40.0


def test_figure_8_draws_both_estimators_and_the_ceiling():
    (ax,) = drawn(study.figure_8(frame(grid(depths=[1])))).axes
    wanted = {
        f"{name}, {said}": [list(BETAS), means(measure, f"estimator={how}", "train")]
        for measure, name in (("mutual_information", "mutual information"), ("marginal_kl", "marginal KL"))
        for how, said in study.ESTIMATORS.items()
    }
    assert errorbars(ax) == wanted
    (ceiling,) = [line for line in ax.lines if line.get_label() == "ceiling log N"]
    assert ceiling.get_ydata() == pytest.approx([np.log(32)] * 2)


def test_figures_4_and_5_draw_each_split_and_size_in_its_own_curve():
    members = [
        m for split in ("cv", "cd") for n in study.SIZES[:2] for m in grid(split=split, n_train=n, seeds=[0])
    ] + grid(split="checkerboard", n_train=None, seeds=[0])
    table = frame(members)
    figure = drawn(study.figure_4(table))
    wanted = [means("rate", "", "test", seeds=[0]), means("distortion", "samples=1", "test", seeds=[0])]
    for ax, name in zip(figure.axes[::2], ("constant volume", "constant density"), strict=True):
        assert ax.get_title() == f"{name}, 1 layer"
        assert errorbars(ax) == {"8,192 images": wanted, "16,384 images": wanted}
    assert figure.axes[0].texts[0].get_text() == "20 steps of 8, 4 units, tetrominoes, 1 seed"
    figure = drawn(study.figure_5(table))
    assert errorbars(figure.axes[0]) == {"CV(16k)": wanted, "checkerboard(82k)": wanted}
    assert figure.axes[2].texts[0].get_text() == "not run yet"


def test_figure_5_s_histogram_is_a_split_s_own():
    table = frame(grid(n_train=16_384, seeds=[0, 1], betas=[0.1]))
    key = sorted(table["key"].unique())
    first = table[(table["step"] == 20) & (table["measure"] == "rate") & (table["part"] == "test")]
    counts = {"bin=0": 10.0, "bin=3": 30.0}
    more = [
        first[first["key"] == k].assign(measure="nearest_distance", arguments=name, value=count)
        for k in key
        for name, count in counts.items()
    ]
    table = pd.concat([table, *more])
    assert study.distances(table).tolist() == [10, 0, 0, 30]
    (steps,) = drawn(study.figure_5(table)).axes[2].patches
    assert steps.get_data().values.tolist() == [0.25, 0, 0, 0.75]
    assert steps.get_data().edges.tolist() == [0, 0.25, 0.5, 0.75, 1]


def test_figures_6_and_7_say_what_was_not_run():
    table = frame(grid(n_train=16_384) + grid(data="mnist", n_train=6_000, seeds=[0]))
    figure = drawn(study.figure_6(table))
    assert errorbars(figure.axes[1])["test images"] == [
        means("rate", "", "test", depth=3),
        means("distortion", "samples=1", "test", depth=3),
    ]
    assert [[t.get_text() for t in ax.texts] for ax in figure.axes[2:]] == [["not run yet", ""], ["not run yet"]]
    figure = drawn(study.figure_7(table))
    assert [ax.get_title().split("\n")[0] for ax in figure.axes] == list(study.OTHERS.values())
    assert errorbars(figure.axes[1]).keys() == {"1 layer", "3 layers"}
    assert [ax.texts[0].get_text() for ax in figure.axes if ax.texts] == ["not run yet"] * 3


def test_no_curve_mixes_training_sets_nor_a_label_counts_another_s_seeds():
    members = grid(data="mnist", n_train=6_000) + grid(data="mnist", n_train=100)
    members += grid(n_train=81_920, seeds=[0]) + grid(split="random", n_train=None, betas=BETAS[:3], seeds=[0])
    members += grid(n_train=16_384)
    table = frame(members)
    wanted = [means("rate", "", "test"), means("distortion", "samples=1", "test")]
    ax = drawn(study.figure_7(table)).axes[1]
    assert errorbars(ax)["1 layer"] == wanted
    one = [means("rate", "", "test", seeds=[0]), means("distortion", "samples=1", "test", seeds=[0])]
    assert errorbars(drawn(study.figure_5(table)).axes[0])["CV(82k)"] == one
    labels = [ax.texts[0].get_text() for ax in drawn(study.figure_3(table)).axes[::2]]
    seeds = {label.split(":")[0]: label.rpartition(", ")[2] for label in labels}
    assert seeds == {"CV(81,920)": "1 seed", "random half": "1 seed", "CV(16,384)": "2 seeds"}
    both = table[(table["data"] == "tetrominoes") & (table["depth"] == 1)]
    with pytest.raises(ValueError, match=r"two values of distortion at beta 0.01, seed 0; give one curve"):
        rate_distortion(both)


def test_budgets_of_different_depths_share_a_row_each_with_its_name():
    table = frame(grid(depths=[1], steps=400) + grid(depths=[3], steps=40) + grid(steps=20)).assign(asked=True)
    for make in (study.figure_3, study.learning_curves):
        figure = drawn(make(table))
        assert [ax.get_title() for ax in figure.axes] == ["1-layer MLP", "3-layer MLP"] * 2
        named = [" ".join(ax.texts[0].get_text().split()) if ax.texts else "" for ax in figure.axes]
        assert [re.sub(" steps of.*", "", name) for name in named] == ["CV(32): 400", "CV(32): 40", "CV(32): 20", ""]
        assert [bool(ax.get_legend()) for ax in figure.axes[:3]] == [True] * 3
    alone = drawn(study.figure_3(frame(grid(depths=[3], steps=400) + grid(steps=20)).assign(asked=True)))
    empty, first = alone.axes[:2]
    assert (empty.axison, first.axison) == (False, True)
    assert any(label.get_visible() and label.get_text() for label in first.get_yticklabels())


def test_a_budget_of_one_beta_has_no_curve_unless_it_was_asked_for():
    members = grid(depths=[1]) + grid([0.1], depths=[1], steps=400, seeds=[0])
    table = frame(members)
    mine = table["steps"] == 400

    def shown(asked):
        return [ax.texts[0].get_text().split()[1] for ax in study.figure_3(table.assign(asked=asked)).axes]

    assert shown(True) == ["20"]
    assert shown(mine) == ["400", "20"]
    assert shown(~mine) == ["20"]
    assert set(study.numbers(table.assign(asked=True))["steps"]) == {"20"}
    assert len(study.figure_3(table[mine].assign(asked=True)).axes) == 1


def test_a_panel_beside_empty_ones_keeps_its_ticks():
    figure = drawn(study.figure_4(frame(grid(n_train=16_384, depths=[1]))))
    first, *others = figure.axes
    for labels in (first.get_xticklabels(), first.get_yticklabels()):
        assert any(label.get_visible() and label.get_text() for label in labels)
    for ax in others:
        assert ax.texts[0].get_text() == "not run yet"
        assert not any(label.get_visible() for label in (*ax.get_xticklabels(), *ax.get_yticklabels()))


def test_curves_are_compared_at_the_largest_budget_that_has_two_of_them():
    table = frame(
        grid(n_train=16_384) + grid(n_train=16_384, steps=400, depths=[1]) + grid([0.1], n_train=16_384, steps=800)
    )
    for wanted, shown in ((20, table), (400, table[(table["steps"] != 20) & (table["beta"] != 0.01)])):
        label, _ = study._one_budget(shown)
        assert label.startswith(f"{wanted} steps")


@pytest.mark.parametrize("learning_curve", [True, False])
def test_early_stopping_chooses_on_one_half_and_judges_on_the_other(learning_curve):
    table = frame(grid([0.1], [1], [0], steps=400), learning_curve=learning_curve)
    choosing = "test_nested_a" if learning_curve else "test_a"
    best = (table["part"] == choosing) & (table["step"] == 100) & (table["measure"] == "distortion")
    table.loc[best, "value"] = 1.0
    (ax,) = drawn(study.early_stopping(table)).axes
    points = errorbars(ax)
    assert points["stopped early"][1] == means("distortion", "samples=1", "test_b", [0.1], seeds=[0], step=100)
    assert points["at the end"][1] == means("distortion", "samples=1", "test_b", [0.1], seeds=[0], step=400)


@pytest.mark.parametrize("make", [study.learning_curves, study.early_stopping])
def test_a_member_s_curve_is_on_the_same_images_at_every_step(make):
    """What was measured on all test images, at two steps, is no part of a curve on the nested ones."""
    members = grid([0.1], [1], [0], steps=400)
    table = frame(members)
    whole = table["part"].isin(["test", "test_a", "test_b"])
    odd = table.assign(value=table["value"].where(~whole | (table["measure"] != "distortion"), 1.0))
    assert make(odd).csv == make(table).csv != ""
    # A member without a curve has its own, whatever the others have.
    old = frame(grid([1.0], [1], [0], steps=400), learning_curve=False)
    both = pd.concat([table, old])
    figure = make(both)
    alone = [make(each) for each in (table, old)]
    assert len(Data(figure).rows) == sum(len(Data(each).rows) for each in alone)
    half = "_b" if make is study.early_stopping else ""
    assert set(Data(figure).rows["part"]) == {f"test_nested{half}", f"test{half}"}  # each under its own name


def sheet(key, shade):
    """Three rows of eight pictures, each of one shade: 10 times the row, and the column."""
    made = np.zeros((3, 8, 4, 4, 3), np.uint8) + shade
    made += (10 * np.arange(3)[:, None] + np.arange(8))[..., None, None, None].astype(np.uint8)
    return Sheet(key, 20, 1, ("test image", "reconstruction", "nearest training image"), made)


@pytest.fixture
def with_pictures(monkeypatch):
    """Members of beta 0.1 have none; the others' are of a shade that their keys give."""
    members = grid(n_train=16_384)
    shades = {m.key: 100 * (dict(m.weights)["beta"] == 1) for m in members if dict(m.weights)["beta"] != 0.1}
    monkeypatch.setattr(
        study.pictures, "of", lambda design, key, store: sheet(key, shades[key]) if key in shades else None
    )
    return frame(members).assign(asked=True)


def test_figure_3_s_pictures_stand_below_their_beta(with_pictures):
    figure = drawn(study.figure_3_pictures(with_pictures, settings(), images=2))
    assert [ax.get_title() for ax in figure.axes] == [
        f"{name}, seed 0: CV(16,384): 20 steps of 8, 4 units, tetrominoes, 2 seeds" for name in ("1 layer", "3 layers")
    ]
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["test image", "beta 0.01", "beta 1", "beta 3"]
    shades = np.asarray(ax.images[0].get_array())[2::5, 2::5, 0]
    assert shades.tolist() == [
        [0, 10, 110, 10], [255, 20, 120, 20],  # the first test image's reconstructions, and their neighbours
        [1, 11, 111, 11], [255, 21, 121, 21],
    ]  # fmt: skip
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "image, reconstructions",
        "nearest training image",
    ] * 2


def test_what_moves_has_each_member_s_numbers_and_pictures(with_pictures):
    shown = study.explore(with_pictures, settings())
    data = shown._state["data"]
    assert [axis["name"] for axis in data["axes"]] == ["layers", "beta"]
    assert data["caption"] == "CV(16,384): 20 steps of 8, 4 units, tetrominoes, 2 seeds"
    points = {tuple(point["place"]): point for point in data["points"]}
    assert points.keys() == set(itertools.product((1, 3), BETAS))
    for (depth, beta), point in points.items():
        wanted = [
            [means(m, a, part, [beta], depth)[0] for m, a in (("rate", ""), ("distortion", "samples=1"))]
            for part in PARTS
        ]
        assert [list(np.round(pair[:2], 9)) for pair in point["series"]] == wanted
        said, spread = dict(point["numbers"])["D (test), nats per image"].split(" ± ")
        assert (float(said), spread) == (pytest.approx(wanted[1][1], abs=0.051), "0.1")
        assert (point["picture"] is None) == (beta == 0.1)
        assert dict(point["numbers"])["seeds"] == "2"


def test_what_moves_has_the_preference_for_training_images_beside_its_shares(with_pictures):
    """Of the members that have them: here those of beta 1, and one of two seeds of beta 3."""
    table = with_pictures
    ends = (table["step"] == 20) & (table["part"] == "test") & (table["measure"] == "rate")
    having = ends & ((table["beta"] == 1) | ((table["beta"] == 3) & (table["seed"] == 0)))
    rows = [
        table[having].assign(measure=measure, arguments=arguments, value=table["seed"] / 10 + size)
        for measure, arguments, size in (
            ("train_preference", "", 0.1),
            ("nearer_than_target", "among=train", 0.5),
            ("nearer_than_target", "among=control", 0.4),
            ("memorised", "", 0.9),
        )
    ]
    points = study.explore(pd.concat([table, *rows]), settings())._state["data"]["points"]
    for point in points:
        said = {name: text for name, text in point["numbers"] if name in study.MEMORISATION and text != "–"}
        few = " (1 of the seeds)"
        wanted = {
            1: ["0.150 ± 0.071", "0.550 ± 0.071", "0.450 ± 0.071"],
            3: ["0.100" + few, "0.500" + few, "0.400" + few],
        }
        assert said == dict(zip(study.MEMORISATION, wanted.get(point["place"][1], []), strict=False))


def test_what_moves_has_the_spread_of_figure_3_and_a_sentence(with_pictures):
    data = study.explore(with_pictures, settings())._state["data"]
    (plot,) = data["plots"]
    assert re.fullmatch(r"equal D \+ R, \d+ apart", plot["legend"])
    figure = drawn(study.figure_3(with_pictures))
    for ax, depth in zip(figure.axes, (1, 3), strict=True):
        points = [point for point in data["points"] if point["place"][0] == depth]
        for s, (label, part) in enumerate(zip(("training images", "test images"), PARTS, strict=True)):
            container = next(c for c in ax.containers if c.get_label() == label)
            bars = [collection.get_segments() for collection in container.lines[2]]
            for point, across, up in zip(points, *bars, strict=True):
                x, y, sd_x, sd_y = point["series"][s]
                assert np.diff(across, axis=0)[0] == pytest.approx([2 * sd_x, 0], abs=1e-9), part
                assert np.diff(up, axis=0)[0] == pytest.approx([0, 2 * sd_y], abs=1e-9), part
                assert sd_x > 0
                assert sd_y > 0
                assert across.mean(0) == pytest.approx([x, y])
    point = data["points"][0]
    assert point["place"] == [1, 0.01]
    x, y, *_ = point["series"][1]
    assert point["says"] == f"beta 0.01, 1 layer: test D {y:.1f}, R {x:.1f} nats per image, 2 seeds"


def moved(table, monkeypatch, pictures=()):
    """Where the widget of a table begins, and what it holds; some of its members have pictures."""
    keys = {m.key for m in pictures}
    monkeypatch.setattr(study.pictures, "of", lambda design, key, store: sheet(key, 0) if key in keys else None)
    state = study.explore(table.assign(asked=True), settings())._state
    return state["value"], state["data"]


def test_it_begins_with_the_largest_budget_that_has_two_betas_and_pictures(monkeypatch):
    largest = grid([0.3], steps=400, seeds=[0])
    large = grid([0.001, 0.1], [1], steps=200, seeds=[0])
    middle = grid([0.1, 1.0, 3.0], steps=100, seeds=[0])
    small = grid([0.1, 1.0], [1], seeds=[0])
    pictured = [m for m in middle if dict(m.weights)["beta"] == 3 and dict(m.model_args)["depth"] == 1]
    chosen = partial(moved, frame(largest + large + middle + small), monkeypatch)

    value, data = chosen(pictures=pictured + small)
    names = data["axes"][0]["values"]
    assert [name.split(" steps")[0].split(": ")[1] for name in names] == ["100", "200", "20"]  # one beta is no curve
    assert value == [names[0], 1, 3.0]  # the one that has pictures
    # Of each budget its own members alone.
    for name, members in zip(names, (middle, large, small), strict=True):
        places = {tuple(point["place"][1:]) for point in data["points"] if point["place"][0] == name}
        assert places == {(dict(m.model_args)["depth"], dict(m.weights)["beta"]) for m in members}
    assert [plot["of"] for plot in data["plots"]] == [[name] for name in names]
    value, data = chosen(pictures=middle)
    assert value == [names[0], 3, 1.0]
    value, _ = chosen(pictures=large + small)
    assert value == [names[1], 1, 0.1]
    value, _ = chosen()
    assert value == [names[1], 1, 0.1]
    value, data = moved(frame(largest), monkeypatch)
    assert value == [3, 0.3]
    assert "400 steps" in data["caption"]


def test_budgets_of_the_same_label_are_two_curves(monkeypatch):
    both = grid([0.1, 1.0], [1], seeds=[0]) + grid([0.1, 1.0], [1], seeds=[0], n_test=8)
    _, data = moved(frame(both), monkeypatch)
    first, second = data["axes"][0]["values"]
    assert second == f"{first} (2)"
    assert len(data["points"]) == 4


@pytest.mark.parametrize("when", ["at once", "late"])
def test_where_all_diverged_a_sentence_says_so(when):
    diverged = tables(grid([0.1], [3]), status="diverged" if when == "at once" else "finished")
    for key, rows in diverged.measures.items():
        diverged.measures[key] = [row for row in rows if row["step"] < 20]
    table = tidy.frame(diverged).assign(asked=True)
    assert "nothing to move through" in study.explore(table, settings())._repr_html_()
    assert study.numbers(table)["D (test)"].tolist() == ["diverged"]
    assert study.numbers(table)["seeds"].tolist() == ["0 (2 diverged)"]


def test_the_decoder_shown_is_the_longest_trained_and_deepest_near_beta_1(monkeypatch):
    members = grid(steps=400, seeds=[0]) + grid([1.0], steps=20, seeds=[0])
    absent = {
        m.key
        for m in members
        if m.steps == 400 and dict(m.model_args)["depth"] == 3 and dict(m.weights)["beta"] in (1, 3)
    }

    def load(key, store):
        if key in absent:
            raise StoreError("not here")
        return member(model_args=ARGUMENTS).build().eval()

    monkeypatch.setattr(study.runs, "load", load)
    shown = study.decode(frame(members).assign(asked=True), settings())
    assert shown._state["data"]["caption"] == "3 layers, beta 0.1, seed 0, 400 steps, tetrominoes, CV(32)"
    absent |= {m.key for m in members}
    assert "--decoders" in study.decode(frame(members).assign(asked=True), settings())._repr_html_()


def test_the_parts_of_the_rate_in_and_out_of_the_loss():
    members = [
        dataclasses.replace(m, objective="mi_kl", weights=(("kl", kl), ("mi", mi)))
        for m in grid([0.1], [1, 3]) + grid([0.1], [3], n_train=64, seeds=[0])
        for mi, kl in itertools.product((0.0, 1.0), (0.0, 1.0))
    ]
    made = {"step": 20, "part": "test", "measure": "distortion", "arguments": "samples=1", "n": 16, "se": 0.1}
    made |= {"status": "finished", "code_version": 1}
    rows = [{"key": m.key, **m.row(), **made} for m in members]
    table = pd.DataFrame([{name.partition(".")[2] or name: value for name, value in row.items()} for row in rows])
    table["value"] = 60 + table["kl"] + table["seed"] + 9 * table["depth"]
    figure = drawn(study.parts_removed(table))
    assert [ax.get_title() for ax in figure.axes] == [
        "3 layers, CV(32): 20 steps of 8, 4 units, tetrominoes, 2 seeds",
        "3 layers, CV(64): 20 steps of 8, 4 units, tetrominoes, 1 seed",
    ]
    names = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert names == ["MI out, KL out", "MI out, KL in", "MI in, KL out", "MI in, KL in"]
    for ax, least in zip(figure.axes, (87.5, 87.0), strict=True):
        assert list(ax.containers[0].lines[0].get_ydata()) == [least, least + 1, least, least + 1]
    (ax,) = drawn(study.parts_removed(frame(grid()))).axes
    assert ax.texts[0].get_text() == "not run yet"
    for make in (study.figure_3, study.learning_curves, study.early_stopping, study.figure_8):
        (ax,) = drawn(make(table.assign(beta=np.nan))).axes
        assert ax.texts[0].get_text() == "not run yet"


@pytest.mark.parametrize("when", ["at once", "late"])
def test_members_that_diverged_leave_their_place_empty(when):
    diverged = tables(grid([0.1], [3]), status="diverged" if when == "at once" else "finished")
    for key, rows in diverged.measures.items():
        diverged.measures[key] = [row for row in rows if row["step"] < 20]
    table = tidy.frame(tables(grid([0.1, 1], [1])).merged(diverged))
    for make in (study.figure_3, study.learning_curves, study.figure_8):
        for shown in (table, tidy.frame(diverged), table.assign(asked=table["depth"] == 3)):
            figure = drawn(make(shown))
            assert len(figure.axes) == shown["depth"].nunique()


def test_pictures_are_the_pixels_row_by_row():
    colour = torch.randint(0, 256, (5, 3, 4, 6), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for images in (colour, colour[:, :1]):
        (ax,) = drawn(pictures(images, columns=2)).axes
        sheet = np.atleast_3d(ax.images[0].get_array())
        assert sheet.shape == (3 * 5 - 1, 2 * 7 - 1, images.shape[1])
        for i, image in enumerate(images):
            y, x = i // 2 * 5, i % 2 * 7
            assert np.array_equal(sheet[y : y + 4, x : x + 6], image.permute(1, 2, 0))
        assert (sheet[4] == 255).all()
        assert (sheet[:, 6] == 255).all()
        assert (sheet[10:, 7:] == 255).all()


@pytest.mark.usefixtures("one_thread")
def test_figures_1_and_2_draw_the_data():
    sheet = drawn(study.figure_1(4, 2)).axes[0].images[0].get_array()
    made = tetrominoes.image_set()
    first = made.take(made.split("random").train[:1])[0]
    assert np.array_equal(sheet[:32, :32], first.permute(1, 2, 0))
    figure = drawn(study.figure_2(n_train=16_384, shown=400))
    assert len(figure.axes) == 4
    titles = [ax.get_title().split("\n") for ax in figure.axes]
    assert titles[0] == ["50/50 at random", "81,920 / 81,920"]
    assert titles[3] == ["constant volume", "16,384 / 147,456"]
    for ax in figure.axes:
        points = {line.get_label(): len(line.get_xdata()) for line in ax.lines}
        assert points.keys() == {"training images", "test images"}
        assert 0 < sum(points.values()) <= 400
    assert sum(points.values()) == 400  # the last split, constant volume, leaves no image out
    assert 0 < points["training images"] < 100


def test_the_numbers_of_figure_3_are_the_tables():
    shown = study.numbers(frame(grid(betas=[0.1], depths=[3])))
    (row,) = shown.to_dict("records")
    assert (row["layers"], row["beta"], row["seeds"], row["units"]) == (3, "0.1", "2", "4")
    assert (row["images"], row["steps"]) == ("CV(32)", "20")
    (mean,) = means("distortion", "samples=1", "test", [0.1], depth=3)
    assert row["D (test)"] == f"{mean:.1f} ± 0.1"
    assert row["floor (test)"] == "40.0"
    single = study.numbers(frame(grid(betas=[0.1], depths=[3], seeds=[0])))
    assert "±" not in "".join(map(str, single.iloc[0]))


def test_a_table_of_text_is_escaped():
    html = figures.text_table(pd.DataFrame({"<i>": ["<script>x</script>", "a & b"]})).to_html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a &amp; b" in html


# ---- the data beside a figure: what is drawn, all of it, and nothing else


@pytest.fixture(scope="module")
def made() -> pd.DataFrame:
    """A table with all that study 3 draws, and members and values beside it that its figures leave out.

    No two training sets, networks or budgets have a value in common; members stop early at different steps.
    """
    sizes = [("cv", 4_096), ("cv", 8_192), ("cv", 16_384), ("cv", 81_920), ("cd", 8_192), ("checkerboard", None)]
    members = [m for split, n in sizes for m in grid(split=split, n_train=n)]
    members += grid([0.1, 1], [2], [0], n_train=16_384) + grid(BETAS[1:3], steps=400, n_train=16_384)
    members += grid(data="mnist", n_train=6_000) + grid(depths=[2], data="mnist", n_train=6_000, seeds=[0])
    members += [
        dataclasses.replace(m, model="conv_vae", model_args={"depth": depth, "channels": 4, "latent_dim": 2})
        for depth in (1, 2, 3)
        for m in grid(depths=[depth], n_train=16_384)
    ]
    table = frame(members)
    table["value"] += table.groupby(["split", "n_train", "model", "data", "steps"], dropna=False).ngroup() / 100
    ended, d = table["step"] == table["steps"], table["measure"] == "distortion"
    sparse, dense = table["n_train"] == 4_096, table["n_train"] == 81_920
    single = (table["n_train"] == 8_192) & (table["beta"] == 3) & (table["seed"] == 1)
    late = (sparse & (table["depth"] == 3)) | (dense & (table["beta"] == 0.1) & (table["seed"] == 0))
    infinite = (table["split"] == "checkerboard") & (table["beta"] == 1) & (table["seed"] == 1)
    table.loc[infinite & d & ended, "value"] = np.nan
    best = (
        (table["part"] == "test_nested_a") & d & (table["step"] == 100 * (1 + table["seed"])) & (table["steps"] == 400)
    )
    table.loc[best, "value"] = 1.0
    table = table[~(single | (late & ended))]
    count = table[(table["measure"] == "rate") & (table["part"] == "test") & (table["step"] == table["steps"])]
    counts = [
        count.assign(measure="nearest_distance", arguments=f"bin={k}", value=count["n_train"].fillna(9) + k, se=1.0)
        for k in (0, 2)
    ]
    table = pd.concat([table, *counts]).assign(mi=np.nan, kl=np.nan)
    whole = table[(table["n_train"].isin([8_192, 16_384])) & (table["model"] == "dense_vae") & (table["beta"] == 1)]
    parts = [
        whole.assign(objective="mi_kl", beta=np.nan, mi=mi, kl=kl, key=whole["key"] + f"{mi}{kl}").assign(
            value=whole["value"] + 2 * mi + kl
        )
        for mi, kl in itertools.product((0.0, 1.0), (0.0, 1.0))
    ]
    return pd.concat([table, *parts], ignore_index=True)


def as_text(cell) -> str:
    try:
        return repr(float(cell))
    except ValueError:
        return cell


class Data:
    """The data that a figure gives a notebook: asked for line by line, until `left` says what no line has drawn."""

    def __init__(self, figure):
        text = figure._repr_mimebundle_()["text/csv"]
        (shared,) = re.findall(r"^# in all rows: (.*)$", text, re.MULTILINE)
        rows = pd.read_csv(io.StringIO(text), comment="#", dtype=str, keep_default_na=False)
        self.rows = rows.assign(**dict(setting.split(" ", 1) for setting in shared.split(", ")))
        self.drawn = pd.Series(data=False, index=rows.index)

    def line(self, over, **labels):
        """A line's places, means and standard deviations over seeds, by what a reader is told of it."""
        rows = self.rows
        for name, wanted in labels.items():
            rows = rows[rows[name].map(as_text) == as_text(wanted)]
        assert not self.drawn[rows.index].any()
        self.drawn[rows.index] = True
        assert (rows["sd"] == "").equals(rows["seeds"] == "1")
        numbers = [rows[over].str.removeprefix("bin="), rows["value"], rows["sd"].replace("", "0")]
        return sorted(zip(*(column.astype(float) for column in numbers), strict=True))

    @property
    def left(self) -> pd.DataFrame:
        return self.rows[~self.drawn]


def bars(container):
    """The points of error bars, each with half the length of its bars across and up."""
    x, y = (np.asarray(values, float) for values in container.lines[0].get_data())
    found = iter(container.lines[2])
    half = [
        [np.ptp(segment[:, side]) / 2 for segment in next(found).get_segments()] if there else None
        for side, there in enumerate((container.has_xerr, container.has_yerr))
    ]
    return x, y, *half


def assert_all_is_in(data, figure, lines):
    """`lines` are those of the figure: (axes, label), and what the data call it; its x is beta, or R with its D.

    All that is drawn else are stars, which are points of the lines, and levels: returned as (axes, height).
    """
    said, levels = dict(lines), []
    for ax in figure.axes:
        points = set()
        of_bars = {part for bars in ax.containers for part in (bars.lines[0], *bars.lines[1])}
        for container in ax.containers:
            labels = said.pop((ax, container.get_label()))
            x, y, across, up = bars(container)
            points |= set(zip(x, y, strict=True))
            if "measure" in labels:
                wanted = data.line("beta", **labels)
                assert list(x) == [beta for beta, *_ in wanted]
            else:
                r = data.line("beta", **labels, measure="rate")
                wanted = data.line("beta", **labels, measure="distortion")
                assert [beta for beta, *_ in r] == [beta for beta, *_ in wanted]
                assert np.transpose([x, across]) == pytest.approx(np.array(r)[:, 1:])
            assert np.transpose([y, up]) == pytest.approx(np.array(wanted)[:, 1:])
        for line in set(ax.lines) - of_bars:
            if line.get_marker() == "*":
                assert set(zip(*line.get_data(), strict=True)) <= points
            elif not isinstance(line, AxLine):
                (level,) = set(line.get_ydata())
                levels.append((ax, level))
    assert not said
    return levels


def panels_of(figure):
    """Each panel that is drawn, with what stands above it and its row: training set, steps and layers."""
    label = None
    for ax in figure.axes:
        if ax.texts and ax.texts[0].get_text().startswith("C"):
            label = re.match(r"([A-Z]+)(?:\(([\d,]+)\))?: ([\d,]+) steps of", ax.texts[0].get_text())
        if ax.axison:
            split, n_train, steps = label.groups()
            depth = re.match(r"(\d)-layer MLP", ax.get_title())[1]
            n_train = (n_train or "").replace(",", "")
            yield ax, {"split": split.lower(), "n_train": n_train, "steps": steps.replace(",", ""), "depth": depth}


LAYERS = {"1 layer": 1, "3 layers": 3}
DRAWN = {"model": "dense_vae", "data": "tetrominoes", "steps": 20, "step": 20}


def test_figure_3_s_data_are_what_it_draws(made):
    figure = study.figure_3(made)
    data, panels = Data(figure), dict(panels_of(figure))
    assert len(panels) == 8
    lines = {
        (ax, label): where | {"part": part, "step": where["steps"]}
        for ax, where in panels.items()
        for part, (_, _, label) in figures.PARTS.items()
    }
    for ax, level in assert_all_is_in(data, figure, lines):
        found = data.line("beta", **panels.pop(ax), part="test", measure="distortion_floor")
        assert [mean for _, mean, _ in found] == pytest.approx([level] * len(found))
    assert not panels
    assert data.left.empty


def test_figure_4_s_data_are_what_it_draws(made):
    figure = study.figure_4(made)
    lines = {
        (ax, f"{n:,} images"): DRAWN | {"split": split, "depth": depth, "n_train": n, "part": "test"}
        for (split, depth), ax in zip(itertools.product(("cv", "cd"), (1, 3)), figure.axes, strict=True)
        for n in (8_192, 16_384)
        if split == "cv" or n == 8_192
    }
    data = Data(figure)
    assert not assert_all_is_in(data, figure, lines)
    assert data.left.empty


def test_figure_5_s_data_are_what_it_draws(made):
    figure = study.figure_5(made)
    splits = {"CV(82k)": ("cv", 81_920), "CV(16k)": ("cv", 16_384), "checkerboard(82k)": ("checkerboard", "")}
    said = {name: {"split": split, "n_train": n} for name, (split, n) in splits.items()}
    lines = {
        (ax, name): DRAWN | where | {"depth": LAYERS[ax.get_title()], "part": "test"}
        for ax in figure.axes[:2]
        for name, where in said.items()
    }
    data = Data(figure)
    assert not assert_all_is_in(data, figure, lines)
    shares = {steps.get_label(): steps.get_data().values for steps in figure.axes[2].patches}
    for name, where in said.items():
        counts = data.line("arguments", **where, measure="nearest_distance")
        assert [k for k, *_ in counts] == list(np.flatnonzero(shares[name]))
        assert [count / sum(c for _, c, _ in counts) for _, count, _ in counts] == pytest.approx(
            shares.pop(name)[[0, 2]].tolist()
        )
    assert not shares
    assert data.left.empty


def test_figure_6_s_data_are_what_it_draws(made):
    figure = study.figure_6(made)
    nets = {"MLP": "dense_vae", "CNN": "conv_vae"}
    lines = {
        (ax, label): DRAWN | {"model": nets[net], "depth": LAYERS[layers], "part": part, "n_train": 16_384}
        for ax in figure.axes
        for net, layers in [ax.get_title().split(", ")]
        for part, (_, _, label) in figures.PARTS.items()
    }
    data = Data(figure)
    assert not assert_all_is_in(data, figure, lines)
    assert data.left.empty


def test_figure_7_s_data_are_what_it_draws(made):
    figure = study.figure_7(pd.concat([made, frame(grid([0.1, 1], data="fashion_mnist", n_train=6_000))]))
    lines = {
        (ax, label): DRAWN | {"data": name, "depth": depth, "part": "test", "n_train": 6_000}
        for ax, name in zip(figure.axes, ("fashion_mnist", "mnist"), strict=False)
        for label, depth in LAYERS.items()
    }
    data = Data(figure)
    assert not assert_all_is_in(data, figure, lines)
    assert data.left.empty


def test_figure_8_s_data_are_what_it_draws(made):
    figure = study.figure_8(made)
    data, panels = Data(figure), dict(panels_of(figure))
    lines = {
        (ax, f"{name}, {said}"): where | {"measure": measure, "arguments": f"estimator={how}", "part": "train"}
        for ax, where in panels.items()
        for measure, name in (("mutual_information", "mutual information"), ("marginal_kl", "marginal KL"))
        for how, said in study.ESTIMATORS.items()
    }
    for ax, level in assert_all_is_in(data, figure, lines):
        found = data.line("beta", **panels.pop(ax), measure="mi_ceiling")
        assert [mean for _, mean, _ in found] == pytest.approx([level] * len(found))
    assert not panels
    assert data.left.empty


def test_the_data_of_learning_curves_are_what_they_draw(made):
    figure = study.learning_curves(made)
    data = Data(figure)
    for ax, where in panels_of(figure):
        assert len(ax.lines) >= 2
        for line in ax.lines:
            beta = line.get_label().removeprefix("beta ")
            wanted = data.line("step", **where, beta=beta, measure="distortion", part="test_nested")
            assert np.transpose(line.get_data()) == pytest.approx(np.array(wanted)[:, :2])
    assert data.left.empty


def test_the_data_of_early_stopping_are_what_it_draws_and_name_the_steps(made):
    figure = study.early_stopping(made)
    lines = {
        (ax, label): where | {"curve": label, "measure": "distortion", "part": "test_nested_b"}
        for ax, where in panels_of(figure)
        for label in ("at the end", "stopped early")
    }
    data = Data(figure)
    assert not assert_all_is_in(data, figure, lines)
    assert data.left.empty
    apart = data.rows[(data.rows["curve"] == "stopped early") & (data.rows["steps"] == "400")]
    assert set(apart["step"]) == {"100 200"}
    assert set(apart["seeds"]) == {"2"}


def test_the_data_of_the_parts_removed_are_what_it_draws(made):
    figure = study.parts_removed(made)
    data = Data(figure)
    for ax in figure.axes:
        split, n_train, steps = re.match(r"3 layers, (C[VD])\(([\d,]+)\): (\d+) steps", ax.get_title()).groups()
        where = {"depth": 3, "split": split.lower(), "n_train": n_train.replace(",", ""), "steps": steps, "step": steps}
        (container,) = ax.containers
        x, y, _, up = bars(container)
        names = dict(zip(ax.get_xticks(), (label.get_text() for label in ax.get_xticklabels()), strict=True))
        for place, mean, sd in zip(x, y, up, strict=True):
            mi, kl = (str(int(where == "in")) for where in re.match(r"MI (\w+), KL (\w+)", names[place]).groups())
            (found,) = data.line("mi", **where, mi=mi, kl=kl, measure="distortion", part="test")
            assert (mean, sd) == pytest.approx(found[1:])
        assert len(x) == 4
    assert len(figure.axes) == 4
    assert data.left.empty


def test_a_figure_without_data_is_a_picture_alone():
    assert figures.panels(1, 1)[0]._repr_mimebundle_() == {}
    figure = figures.with_data(figures.panels(1, 1)[0], "")
    assert figure._repr_mimebundle_() == {}
