"""Figures are drawn from a table, without a warning, and show its numbers."""

import dataclasses
import io
import itertools
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import assert_drawn_whatever_the_range, drawn, errorbars
from matplotlib.lines import AxLine
from test_table import CHANGES, PARENTS, RECORDED, two_members
from tiny import ARGUMENTS, member, moved, settings, tables, value

from vaekit import data, figures
from vaekit.data import tetrominoes
from vaekit.figures import over_beta, pictures, rate_distortion
from vaekit.store import ImageGrid, bundles, results
from vaekit.store.table import frame as frame_of
from vaekit.studies.rate_generalisation import explore, layers
from vaekit.studies.rate_generalisation import figures as study

pytestmark = pytest.mark.usefixtures("house_style")
BETAS = (0.01, 0.1, 1.0, 3.0)
PARTS = ("train", "test")


def grid(betas=BETAS, depths=(1, 3), seeds=(0, 1), **changes):
    return [
        member(beta, seed, ARGUMENTS | {"depth": depth}, **changes)
        for beta, depth, seed in itertools.product(betas, depths, seeds)
    ]


def frame(members, **how):
    return frame_of(tables(members, **how))


def words(text) -> str:
    """A text in one line."""
    return " ".join(text.get_text().split())


def curve(line):
    return [list(np.round(np.asarray(values, float), 9)) for values in line.get_data()]


def means(measure, arguments, part, betas=BETAS, depth=1, seeds=(0, 1), step=20):
    """What `tables` made up, averaged over seeds."""
    return [
        round(float(np.mean([value(m, step, part, measure, arguments) for m in grid([beta], [depth], seeds)])), 9)
        for beta in betas
    ]


def rd(part="test", **how):
    """The means of R, and those of D."""
    return [means("rate", "", part, **how), means("distortion", "samples=1", part, **how)]


# What studies share


def test_rate_distortion_shows_means_and_spread_over_seeds_between_lines_of_equal_elbo():
    (ax,) = drawn(rate_distortion(frame(grid(depths=[1])))).axes
    assert errorbars(ax) == {figures.PARTS[part][2]: rd(part) for part in PARTS}
    stars = [curve(line) for line in ax.lines if line.get_marker() == "*"]
    assert stars == [rd(part, betas=[1.0]) for part in PARTS]
    assert not [line for line in ax.lines if line.get_mec() == "black"]
    assert "nats per image" in ax.get_xlabel()
    assert "nats per image" in ax.get_ylabel()
    for bars, sd, side in zip(ax.containers[0].lines[2], (0.01, 0.1), (0, 1), strict=True):
        lengths = [np.ptp(segment[:, side]) for segment in bars.get_segments()]
        assert lengths == pytest.approx([2 * sd / np.sqrt(2)] * len(BETAS))
    lines = [line for line in ax.lines if isinstance(line, AxLine)]
    assert {line.get_slope() for line in lines} == {-1}
    totals = [sum(line.get_xy1()) for line in lines]
    assert 5 <= len(totals) <= 10
    (apart,) = set(np.diff(totals).round(9))
    assert totals == pytest.approx(apart * np.round(np.divide(totals, apart)))
    assert ax.get_xlim()[1] < 1.2 * max(means("rate", "", "test"))  # they widen nothing


def lined(rows):
    figure, axes = figures.panels(1, 1)
    figures.line(axes[0, 0], rows, "beta", own_error=True, seeds=True)
    return figure


def rd_curved(rows):
    figure, axes = figures.panels(1, 1)
    figures.rd_curve(rows[rows["measure"].isin(["rate", "distortion"])], axes[0, 0])
    figures.rd_axes(axes[0, 0])
    return figure


def in_a_panel(draw, *arguments):
    def make(rows):
        figure, axes = figures.panels(1, 1)
        draw(rows, *arguments, axes[0, 0])
        return figure

    return make


def in_a_grid(rows):
    groups = [(f"budget {number}", part) for number, part in rows.groupby("beta")]
    figure = figures.grid(groups, lambda axes, part: figures.line(axes[0], part, "beta"), legend=True)
    for ax in figure.axes:
        figures.label_above(ax, "a label", letters=20)
    return figure


PUBLIC = {
    "rate_distortion": rate_distortion,
    "line": lined,
    "rd_curve, rd_axes": rd_curved,
    "over_beta": in_a_panel(over_beta, "rate"),
    "learning_curves": in_a_panel(figures.learning_curves, "rate"),
    "grid, label_above": in_a_grid,
}
OF_STUDY_3 = (study.figure_3, study.figure_4, study.figure_5, study.figure_6)
OF_STUDY_3 += (study.learning_curves, study.early_stopping, study.figure_8)


@pytest.mark.parametrize("make", PUBLIC)
def test_figures_are_drawn_whatever_the_range_of_the_values(make):
    table = frame(grid(depths=[1]))
    table = table[(table["part"] == "test") & (table["step"] == 20) & table["arguments"].isin(["", "samples=1"])]
    assert_drawn_whatever_the_range(PUBLIC[make], table)


@pytest.mark.slow
@pytest.mark.parametrize("make", OF_STUDY_3)
def test_study_3_s_figures_are_drawn_whatever_the_range_of_the_values(make):
    table = frame(grid(BETAS[1:], seeds=[0], n_train=16_384)).assign(asked=True)
    assert_drawn_whatever_the_range(make, table)


@pytest.mark.parametrize("most", [1e3, 1e6, 1e12])
def test_lines_of_equal_elbo_are_few_whatever_the_rates(most):
    """F9: a curve whose rate and distortion reach far."""
    rows = [{"step": 5, "steps": 5, "part": "test", "seed": 0, "beta": beta} for beta in (0.001, 1)]
    values = zip(rows, ({"rate": most, "distortion": 50.0}, {"rate": 10.0, "distortion": most}), strict=True)
    rows = [row | {"measure": name, "value": value} for row, own in values for name, value in own.items()]
    (ax,) = drawn(rate_distortion(rows)).axes
    assert 3 <= sum(isinstance(line, AxLine) for line in ax.lines) <= 10


def test_rate_distortion_takes_rows_of_one_curve_alone():
    rows = [{"step": 5, "steps": 5, "part": "test", "beta": beta, "seed": 0} for beta in (0.1, 1)]
    rows = [row | {"measure": name, "value": 3.0 + row["beta"]} for row in rows for name in ("rate", "distortion")]
    (ax,) = drawn(rate_distortion(rows)).axes  # as metrics.rd_table has them
    assert errorbars(ax) == {"test images": [[3.1, 4], [3.1, 4]]}
    with pytest.raises(ValueError, match=r"two values of distortion at beta 0.1, seed 0; give one curve"):
        rate_distortion([*rows, rows[1]])
    with pytest.raises(ValueError, match="part is valid"):
        rate_distortion([row | {"part": "valid"} for row in rows])


def test_asked_points_have_a_ring():
    table = frame(grid(depths=[1]))
    (ax,) = rate_distortion(table.assign(asked=table["beta"].isin([0.1, 3]))).axes
    rings = [curve(line) for line in ax.lines if line.get_mec() == "black"]
    assert rings == [rd(part, betas=[0.1, 3]) for part in PARTS]


@pytest.mark.parametrize("betas", [[1.0], [0.1], [0.0, 0.1, 1.0], [0.0]])
def test_few_betas_and_a_beta_of_zero(betas):
    table = frame(grid(betas, [1], [0]))
    (ax,) = drawn(study.figure_3(table)).axes
    assert errorbars(ax)["test images"] == rd(betas=betas, seeds=[0])
    drawn(study.learning_curves(table))
    (ax,) = drawn(study.figure_8(table)).axes
    shown = ax.transAxes.inverted().transform(ax.transData.transform([(beta, 1.0) for beta in betas]))[:, 0]
    assert ((shown >= 0) & (shown <= 1)).all()


def test_over_beta_shows_one_measure_by_one_estimator():
    _, axes = figures.panels(1, 1)
    ax = over_beta(frame(grid(depths=[1])), "marginal_kl", axes[0, 0], {"estimator": "batch512"}, label="KL")
    assert errorbars(ax) == {"KL": [list(BETAS), means("marginal_kl", "estimator=batch512", "train")]}
    assert ax.get_xscale() == "log"
    over_beta(frame(grid([1.0], depths=[1])), "marginal_kl", ax, {"estimator": "exact"}, label="of one beta")
    low, high = ax.get_xlim()
    assert low < BETAS[0] < BETAS[-1] < high


def overlapping(figure):
    """Titles and labels of panels that cover each other."""
    texts = [text for ax in figure.axes for text in (ax.title, *ax.texts) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    return [(a, b) for (a, one), (b, other) in itertools.combinations(boxes, 2) if one.overlaps(other)]


def plot(ax, rows):
    ax.plot(rows["beta"], rows["value"], label="values")


LONG = "CV(16,384): 20,000 steps of 128, 512 units, Tetrominoes, 1 to 3 seeds a point"


@pytest.mark.parametrize("title", ["", "one line", "two\nlines", r"a $\nosuch"])
@pytest.mark.parametrize("by_name", [True, False])
def test_a_label_stands_above_its_panel_s_title_and_covers_no_other(title, by_name):
    """Of two budgets in one line, and of one in the next; also where the title is set later."""
    table = frame(grid())
    groups = [(f"{i} {LONG}", table[table["depth"].isin(depths)]) for i, depths in enumerate(((1,), (3,), (1, 3)))]
    if by_name:
        figure = figures.grid(groups, plot, {f"{title}{' ' * depth}": {"depth": depth} for depth in (1, 3)})
    else:
        figure = figures.grid(groups, lambda axes, rows: plot(axes[0], rows))
        for ax in figure.axes:
            ax.set_title(title, parse_math=False)
    labels = [text for ax in drawn(figure).axes for text in ax.texts]
    assert [words(text) for text in labels] == [label for label, _ in groups]
    assert not overlapping(figure)
    boxes = {text: text.get_window_extent() for text in labels}
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes.values())
    assert all(ax.title.get_window_extent().y1 <= boxes[text].y0 for ax in figure.axes for text in ax.texts)
    across = 2 if by_name else 1
    assert sum(ax.bbox.width for ax in figure.axes[:across]) > 0.8 * figure.bbox.width  # a label takes no panel's room


def test_a_grid_says_what_is_missing_and_breaks_its_lines():
    groups = [("all", frame(grid()))]
    columns = {"one": {"depth": 1}, "two": {"depth": 2}, "three": {"depth": 3}}
    figure = drawn(figures.grid(groups, plot, columns, wrap=2, missing="not run yet", legend=True))
    assert [ax.get_title() for ax in figure.axes] == ["one", "two", "three", ""]
    assert [ax.axison for ax in figure.axes] == [True, False, True, False]
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [["all"], ["not run yet"], [], []]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["values"]
    blank = drawn(figures.grid(groups, plot, columns))
    assert [(ax.get_title(), len(ax.texts)) for ax in blank.axes] == [("one", 1), ("", 0), ("three", 0)]


@pytest.mark.parametrize(("columns", "curves"), [(1, 2), (1, 8), (1, 24), (2, 8)])
def test_a_shared_legend_is_whole_and_stands_beside_a_single_column_where_it_is_long(columns, curves):
    def draw(axes, rows):
        for ax in axes:
            for number in range(curves):
                figures.line(ax, rows, "beta", label=f"pruned, never had a decoder, {number} %")

    panels = figures.grid([("all", frame(grid()))], draw, columns, legend=True)
    figure = drawn(panels)
    box = figure.legends[0].get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
    right, bottom = max(ax.bbox.x1 for ax in figure.axes), min(ax.bbox.y0 for ax in figure.axes)
    assert (box.x0 >= right) == (columns == 1 and curves > 3)
    assert (box.y1 <= bottom) == (columns == 2 or curves <= 3)
    assert all(ax.bbox.width > 150 and ax.bbox.height > 120 for ax in figure.axes)


def test_a_figure_without_data_is_a_picture_alone():
    assert figures.panels(1, 1)[0]._repr_mimebundle_() == {}
    assert figures.with_data(figures.panels(1, 1)[0], "")._repr_mimebundle_() == {}


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


def test_a_table_of_text_is_escaped():
    html = figures.text_table(pd.DataFrame({"<i>": ["<script>x</script>", "a & b"]})).to_html()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "a &amp; b" in html


# Study 3: a panel for each depth


def test_a_beta_has_one_colour_in_all_panels():
    figure = drawn(study.learning_curves(frame(grid([0.01, 0.1], [1], steps=400) + grid([0.1, 1.0], [3]))))
    colours = {(line.get_label(), line.get_color()) for ax in figure.axes for line in ax.lines}
    assert len(colours) == len({beta for beta, _ in colours}) == 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["beta 0.01", "beta 0.1", "beta 1"]


def test_figures_have_a_row_for_each_budget_and_a_panel_for_each_depth():
    members = grid() + grid(steps=400, depths=(1,)) + grid(n_train=64) + grid([0.1], n_test=None)
    table = frame(members).assign(asked=False)
    table.loc[(table["beta"] == 0.1), "asked"] = True
    for make in (study.figure_3, study.learning_curves, study.figure_8):
        figure = drawn(make(table))
        assert len(figure.axes) == 8
        labels = [words(ax.texts[0]) for ax in figure.axes[::2]]
        assert labels[0] == "CV(32): 400 steps of 8, 4 units, Tetrominoes, 2 seeds"
        assert sorted(label.split(":")[0] for label in labels) == ["CV(32)"] * 3 + ["CV(64)"]
        assert all("20 steps of 8" in label for label in labels[1:])
        assert not figure.axes[1].axison  # three layers were not trained for 400 steps
        assert [ax.get_title() for ax in figure.axes[2:4]] == ["1-layer MLP", "3-layer MLP"]


def test_budgets_of_different_depths_share_a_row_each_with_its_name():
    table = frame(grid(depths=[1], steps=400) + grid(depths=[3], steps=40) + grid(steps=20)).assign(asked=True)
    for make in (study.figure_3, study.learning_curves):
        figure = drawn(make(table))
        assert [ax.get_title() for ax in figure.axes] == ["1-layer MLP", "3-layer MLP"] * 2
        named = [words(ax.texts[0]) if ax.texts else "" for ax in figure.axes]
        assert [re.sub(" steps of.*", "", name) for name in named] == ["CV(32): 400", "CV(32): 40", "CV(32): 20", ""]
        assert not overlapping(figure)
    alone = drawn(study.figure_3(frame(grid(depths=[3], steps=400) + grid(steps=20)).assign(asked=True)))
    empty, first = alone.axes[:2]
    assert (empty.axison, first.axison) == (False, True)
    assert any(tick.get_visible() and tick.get_text() for tick in first.get_yticklabels())


def test_a_budget_of_one_beta_has_no_curve_unless_it_was_asked_for():
    table = frame(grid(depths=[1]) + grid([0.1], depths=[1], steps=400, seeds=[0]))
    single = table["steps"] == 400

    def shown(asked):
        return [ax.texts[0].get_text().split()[1] for ax in study.figure_3(table.assign(asked=asked)).axes]

    assert shown(True) == ["20"]
    assert shown(single) == ["400", "20"]
    assert shown(~single) == ["20"]
    assert set(study.numbers(table.assign(asked=True))["steps"]) == {"20"}
    assert len(study.figure_3(table[single].assign(asked=True)).axes) == 1


@pytest.mark.parametrize("learning_curve", [True, False])
def test_early_stopping_chooses_on_one_half_and_judges_on_the_other(learning_curve):
    table = frame(grid([0.1], [1], [0], steps=400), learning_curve=learning_curve)
    choosing = "test_nested_a" if learning_curve else "test_a"
    best = (table["part"] == choosing) & (table["step"] == 100) & (table["measure"] == "distortion")
    table.loc[best, "value"] = 1.0
    (ax,) = drawn(study.early_stopping(table)).axes
    for name, step in (("stopped early", 100), ("at the end", 400)):
        wanted = means("distortion", "samples=1", "test_b", [0.1], seeds=[0], step=step)
        assert errorbars(ax)[name][1] == wanted


@pytest.mark.parametrize("make", [study.learning_curves, study.early_stopping])
def test_a_member_s_curve_is_on_the_same_images_at_every_step(make):
    """What was measured on all test images, at two steps, is no part of a curve on the nested ones."""
    table = frame(grid([0.1], [1], [0], steps=400))
    whole = table["part"].isin(["test", "test_a", "test_b"])
    odd = table.assign(value=table["value"].where(~whole | (table["measure"] != "distortion"), 1.0))
    assert make(odd).csv == make(table).csv != ""
    # A member without a curve has its own, whatever the others have.
    old = frame(grid([1.0], [1], [0], steps=400), learning_curve=False)
    figure = make(pd.concat([table, old]))
    assert len(Data(figure).rows) == sum(len(Data(make(answer)).rows) for answer in (table, old))
    half = "_b" if make is study.early_stopping else ""
    assert set(Data(figure).rows["part"]) == {f"test_nested{half}", f"test{half}"}  # each under its own name


@pytest.mark.parametrize("when", ["at once", "late"])
def test_members_that_diverged_leave_their_place_empty_and_are_counted(when):
    diverged = tables(grid([0.1], [3]), status="diverged" if when == "at once" else "finished")
    for key, rows in diverged.measures.items():
        diverged.measures[key] = [row for row in rows if row["step"] < 20]
    table, lost = frame_of(tables(grid([0.1, 1], [1])).merged(diverged)), frame_of(diverged).assign(asked=True)
    for make in (study.figure_3, study.learning_curves, study.figure_8):
        for shown in (table, lost, table.assign(asked=table["depth"] == 3)):
            assert len(drawn(make(shown)).axes) == shown["depth"].nunique()
    assert "nothing to move through" in explore.explore(lost, settings())._repr_html_()
    assert study.numbers(lost)["D (test)"].tolist() == ["diverged"]
    assert study.numbers(lost)["seeds"].tolist() == ["0 (2 diverged)"]


def test_the_numbers_of_figure_3_are_the_tables():
    (row,) = study.numbers(frame(grid(betas=[0.1], depths=[3]))).to_dict("records")
    assert (row["layers"], row["beta"], row["seeds"], row["units"]) == (3, "0.1", "2", "4")
    assert (row["images"], row["steps"]) == ("CV(32)", "20")
    (mean,) = means("distortion", "samples=1", "test", [0.1], depth=3)
    assert row["D (test)"] == f"{mean:.1f} ± 0.1"
    assert row["floor (test)"] == "40.0"
    single = study.numbers(frame(grid(betas=[0.1], depths=[3], seeds=[0])))
    assert "±" not in "".join(map(str, single.iloc[0]))


# Study 3: training sets, networks and data compared


def counted(rows, counts):
    """Rows of one value a member as those of its counts of distances, by the bin."""
    rows = [rows.assign(measure="nearest_distance", arguments=f"bin={k}", bin=k, value=n) for k, n in counts.items()]
    return pd.concat(rows)


def test_figures_5_to_7_say_what_was_not_run():
    table = frame(grid(n_train=16_384) + grid(data="mnist", n_train=6_000, seeds=[0]))
    figure = drawn(study.figure_6(table))
    assert [ax.get_title() for ax in figure.axes] == ["MLP, 1 layer", "MLP, 3 layers", "CNN, 1 layer", "CNN, 3 layers"]
    assert errorbars(figure.axes[1])["test images"] == rd(depth=3)
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes[2:]] == [["not run yet"]] * 2
    figure = drawn(study.figure_7(table))
    assert [ax.get_title() for ax in figure.axes] == list(map(data.title, study.OTHERS))
    assert errorbars(figure.axes[1]).keys() == {"1 layer", "3 layers"}
    texts = [words(ax.texts[0]) for ax in figure.axes]
    assert texts == ["not run yet", "20 steps of 8, 4 units, MNIST, 1 seed", "not run yet", "not run yet"]
    *_, histogram = drawn(study.figure_5(table)).axes
    assert (histogram.get_title(), histogram.texts[0].get_text()) == ("no training: images alone", "not run yet")


def test_no_curve_mixes_training_sets_nor_a_label_counts_another_s_seeds():
    members = grid(data="mnist", n_train=6_000) + grid(data="mnist", n_train=100)
    members += grid(n_train=81_920, seeds=[0]) + grid(split="random", n_train=None, betas=BETAS[:3], seeds=[0])
    members += grid(n_train=16_384)
    table = frame(members)
    assert errorbars(drawn(study.figure_7(table)).axes[1])["1 layer"] == rd()
    assert errorbars(drawn(study.figure_5(table)).axes[0])["CV(82k)"] == rd(seeds=[0])
    labels = [words(ax.texts[0]) for ax in drawn(study.figure_3(table)).axes[::2]]
    seeds = {label.split(":")[0]: label.rpartition(", ")[2] for label in labels}
    assert seeds == {"CV(81,920)": "1 seed", "random half": "1 seed", "CV(16,384)": "2 seeds"}


def test_a_panel_beside_empty_ones_keeps_its_ticks():
    first, *others = drawn(study.figure_4(frame(grid(n_train=16_384, depths=[1])))).axes
    for ticks in (first.get_xticklabels(), first.get_yticklabels()):
        assert any(tick.get_visible() and tick.get_text() for tick in ticks)
    assert [(ax.texts[0].get_text(), ax.axison) for ax in others] == [("not run yet", False)] * 3


def test_curves_are_compared_at_the_largest_budget_that_has_two_of_them():
    table = frame(
        grid(n_train=16_384) + grid(n_train=16_384, steps=400, depths=[1]) + grid([0.1], n_train=16_384, steps=800)
    )
    for wanted, shown in ((20, table), (400, table[(table["steps"] != 20) & (table["beta"] != 0.01)])):
        assert set(study._one_budget(shown)["steps"]) == {wanted}


def test_the_parts_of_the_rate_in_and_out_of_the_loss():
    members = [
        dataclasses.replace(m, objective="mi_kl", weights=(("kl", kl), ("mi", mi)))
        for m in grid([0.1], [1, 3]) + grid([0.1], [3], n_train=64, seeds=[0])
        for mi, kl in itertools.product((0.0, 1.0), (0.0, 1.0))
    ]
    fields = {"step": 20, "part": "test", "measure": "distortion", "arguments": "samples=1", "samples": 1, "n": 16}
    fields |= {"status": "finished", "code_version": 1, "se": 0.1}
    rows = [{"key": m.key, **m.row(), **fields} for m in members]
    table = pd.DataFrame([{name.partition(".")[2] or name: value for name, value in row.items()} for row in rows])
    table["value"] = 60 + table["kl"] + table["seed"] + 9 * table["depth"]
    figure = drawn(study.parts_removed(table))
    assert [(words(ax.texts[0]), ax.get_title()) for ax in figure.axes] == [
        ("CV(32): 20 steps of 8, 4 units, Tetrominoes, 2 seeds", "3 layers"),
        ("CV(64): 20 steps of 8, 4 units, Tetrominoes, 1 seed", "3 layers"),
    ]
    names = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert names == ["MI out, KL out", "MI out, KL in", "MI in, KL out", "MI in, KL in"]
    for ax, least in zip(figure.axes, (87.5, 87.0), strict=True):
        assert list(ax.containers[0].lines[0].get_ydata()) == [least, least + 1, least, least + 1]
    without_beta = table.assign(beta=np.nan)
    nothing = [partial(study.parts_removed, frame(grid()))]
    nothing += [partial(make, without_beta) for make in (study.figure_3, study.figure_4, study.figure_5)]
    nothing += [partial(make, without_beta) for make in (study.figure_6, study.figure_7, study.figure_8)]
    nothing += [partial(make, without_beta) for make in (study.learning_curves, study.early_stopping)]
    for make in nothing:
        (ax,) = drawn(make()).axes
        assert ax.texts[0].get_text() == "not run yet"


# Study 3: images, and what moves


@pytest.mark.usefixtures("one_thread")
def test_figures_1_and_2_draw_the_data():
    sheet = drawn(explore.figure_1(4, 2)).axes[0].images[0].get_array()
    all_drawn = tetrominoes.image_set()
    first = all_drawn.take(all_drawn.split("random").train[:1])[0]
    assert np.array_equal(sheet[:32, :32], first.permute(1, 2, 0))
    figure = drawn(explore.figure_2(n_train=16_384, shown=400))
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


def grid_of(key, shade):
    """Three rows of eight pictures, each of one shade: 10 times the row, and the column."""
    tiles = np.zeros((3, 8, 4, 4, 3), np.uint8) + shade
    tiles += (10 * np.arange(3)[:, None] + np.arange(8))[..., None, None, None].astype(np.uint8)
    return ImageGrid(key, 20, 1, ("test image", "reconstruction", "nearest training image"), tiles)


@pytest.fixture
def pictured(monkeypatch):
    """Gives members pictures, of a shade by their keys; all others have none."""

    def give(shades):
        monkeypatch.setattr(
            explore.image_grids, "of", lambda spec, key, store: grid_of(key, shades[key]) if key in shades else None
        )

    return give


@pytest.fixture
def with_pictures(pictured):
    """Members of beta 0.1 have none; the others' are of a shade that their keys give."""
    members = grid(n_train=16_384)
    pictured({m.key: 100 * (dict(m.weights)["beta"] == 1) for m in members if dict(m.weights)["beta"] != 0.1})
    return frame(members).assign(asked=True)


def test_figure_3_s_pictures_stand_below_their_beta(with_pictures):
    figure = drawn(explore.figure_3_pictures(with_pictures, settings(), images=2))
    assert [ax.get_title() for ax in figure.axes] == [
        f"{layers(depth)}, seed 0: CV(16,384): 20 steps of 8, 4 units, Tetrominoes, 2 seeds" for depth in (1, 3)
    ]
    ax = figure.axes[0]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["test image", "beta 0.01", "beta 1", "beta 3"]
    shades = np.asarray(ax.images[0].get_array())[2::5, 2::5, 0]
    assert shades.tolist() == [
        [0, 10, 110, 10], [255, 20, 120, 20],  # the first test image's reconstructions, and their neighbours
        [1, 11, 111, 11], [255, 21, 121, 21],
    ]  # fmt: skip
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["image, reconstructions", "nearest training image"] * 2
    (ax,) = drawn(explore.figure_3_pictures(with_pictures[:0], settings())).axes
    assert ax.texts[0].get_text() == "No pictures are stored of these members."


def test_what_moves_has_each_member_s_numbers_and_spread_at_every_snapshot_and_a_sentence():
    table = frame(grid(n_train=16_384)).assign(asked=True)
    _, data = moved(explore.explore(table, settings()))
    assert [axis["name"] for axis in data["axes"]] == ["layers", "beta"]
    assert [budget["label"] for budget in data["budgets"]] == [
        "CV(16,384): 20 steps of 8, 4 units, Tetrominoes, 2 seeds"
    ]
    points = {tuple(point["axes"].values()): point for point in data["points"]}
    assert points.keys() == set(itertools.product((1, 3), BETAS))
    names = [figures.PARTS[part][2] for part in PARTS]
    for (depth, beta), point in points.items():
        assert [*point["at"]] == [4, 8, 12, 16, 20]  # on the nested images, where all were not measured
        for part, name in zip(PARTS, names, strict=True):
            wanted = [values[0] for values in rd(part, betas=[beta], depth=depth)]
            assert point["at"][20][name][:2] == pytest.approx(wanted, rel=1e-5)
            assert point["at"][4][name][1] > point["at"][20][name][1] + 100
        mean, spread = point["numbers"]["D (test), nats per image"].split(" ± ")
        assert (float(mean), spread) == (pytest.approx(rd("test", betas=[beta], depth=depth)[1][0], abs=0.051), "0.1")
        assert (point["numbers"]["seeds"], point["faint"]) == ("2", "20 of at least 20,000 steps")
    assert points[1, 0.01]["says"] == "beta 0.01, 1 layer: test D 116.1, R 19.8 nats per image, 2 seeds"
    # The spread is that of figure 3.
    for ax, depth in zip(drawn(study.figure_3(table)).axes, (1, 3), strict=True):
        for name, container in zip(names, ax.containers, strict=True):
            segments = [collection.get_segments() for collection in container.lines[2]]
            for beta, across, up in zip(BETAS, *segments, strict=True):
                x, y, sd_x, sd_y = points[depth, beta]["at"][20][name]
                assert np.diff(across, axis=0)[0] == pytest.approx([2 * sd_x, 0], rel=1e-4, abs=1e-9)
                assert np.diff(up, axis=0)[0] == pytest.approx([0, 2 * sd_y], rel=1e-4, abs=1e-9)
                assert min(sd_x, sd_y) > 0
                assert across.mean(0) == pytest.approx([x, y], rel=1e-5)


def test_what_moves_is_the_whole_table_with_pictures_of_a_seed_that_was_asked_for(monkeypatch):
    members = grid([0.1, 1.0], [1])
    carried = {m.key: bundles.Bundle({"key": m.key}, 20, grid_of(m.key, 0)) for m in members}
    monkeypatch.setattr(results, "bundle_of", lambda name, key: carried.get(key))
    table = frame(members)
    _, data = moved(explore.explore(table.assign(asked=table["seed"] == 1), settings()))
    assert [point["numbers"]["seeds"] for point in data["points"]] == ["2", "2"]
    assert [point["of"] for point in data["points"]] == ["seed 1"] * 2
    assert all(len(point["rows"]) == 3 for point in data["points"])


def test_what_moves_has_the_preference_for_training_images_beside_its_shares():
    """Of the members that have them: here those of beta 1, and one of two seeds of beta 3."""
    table = frame(grid(n_train=16_384)).assign(asked=True)
    ends = (table["step"] == 20) & (table["part"] == "test") & (table["measure"] == "rate")
    having = ends & ((table["beta"] == 1) | ((table["beta"] == 3) & (table["seed"] == 0)))
    rows = [
        table[having].assign(measure=measure, among=among, value=table["seed"] / 10 + size)
        for measure, among, size in (
            ("train_preference", None, 0.1),
            ("nearer_than_target", "train", 0.5),
            ("nearer_than_target", "control", 0.4),
            ("memorised", None, 0.9),
        )
    ]
    _, data = moved(explore.explore(pd.concat([table, *rows]), settings()))
    for point in data["points"]:
        numbers = {name: text for name, text in point["numbers"].items() if name in explore.MEMORISATION}
        few = " (1 of the seeds)"
        wanted = {
            1: ["0.150 ± 0.071", "0.550 ± 0.071", "0.450 ± 0.071"],
            3: ["0.100" + few, "0.500" + few, "0.400" + few],
        }.get(point["axes"]["beta"], [])
        assert numbers == dict(zip(explore.MEMORISATION, wanted, strict=False))


def test_every_budget_is_there_and_it_begins_with_the_largest_that_has_three_betas():
    largest = grid([0.3, 1.0], steps=400, seeds=[0])
    large = grid([0.001, 0.1, 0.3], [1], steps=200, seeds=[0])
    small = grid([0.1, 1.0, 3.0], [1], seeds=[0])
    members = {"200": large, "20": small, "400": largest}
    value, data = moved(explore.explore(frame(largest + large + small).assign(asked=True), settings()))
    names = [budget["label"] for budget in data["budgets"]]
    assert [name.split(" steps")[0].split(": ")[1] for name in names] == [*members]
    assert [data["points"][i]["axes"]["beta"] for i in value] == [0.001, 0.3]
    # Of each budget its own members alone.
    for name, own in zip(names, members.values(), strict=True):
        places = {tuple(point["axes"].values()) for point in data["points"] if point["budget"] == name}
        assert places == {(dict(m.model_args)["depth"], dict(m.weights)["beta"]) for m in own}
    # Budgets of the same label are two.
    _, data = moved(
        explore.explore(frame(small + grid([0.1], [1], seeds=[0], n_test=8)).assign(asked=True), settings())
    )
    first, second = (budget["label"] for budget in data["budgets"])
    assert second == f"{first} (2)"
    assert len(data["points"]) == 4


# The data beside a figure: what is drawn, all of it, and nothing else


@pytest.fixture(scope="module")
def all_drawn() -> pd.DataFrame:
    """A table with all that study 3 draws, and members and values beside it that its figures leave out.

    No two training sets, networks or budgets have a value in common; members stop early at different steps.
    """
    sizes = [("cv", 4_096), ("cv", 8_192), ("cv", 16_384), ("cv", 81_920), ("cd", 8_192), ("checkerboard", None)]
    members = [m for split, n in sizes for m in grid(split=split, n_train=n)]
    members += grid([0.1, 1], [2], [0], n_train=16_384) + grid(BETAS[1:3], steps=400, n_train=16_384)
    members += grid(data="mnist", n_train=6_000) + grid(depths=[2], data="mnist", n_train=6_000, seeds=[0])
    members += grid([0.1, 1], data="fashion_mnist", n_train=6_000)
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
    counts = [counted(count, {k: count["n_train"].fillna(9) + k}).assign(se=1.0) for k in (0, 2)]
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
    collections = iter(container.lines[2])
    half = [
        [np.ptp(segment[:, side]) / 2 for segment in next(collections).get_segments()] if has else None
        for side, has in enumerate((container.has_xerr, container.has_yerr))
    ]
    return x, y, *half


def assert_all_is_in(data, figure, lines):
    """`lines` are those of the figure: (axes, label), and what the data call it; its x is beta, or R with its D.

    All that is drawn else are stars, which are points of the lines, and levels: returned as (axes, height).
    """
    left, levels = dict(lines), []
    for ax in figure.axes:
        points = set()
        of_bars = {part for bars in ax.containers for part in (bars.lines[0], *bars.lines[1])}
        for container in ax.containers:
            labels = left.pop((ax, container.get_label()))
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
    assert not left
    return levels


def panels_of(figure):
    """Each panel that is drawn, with what stands above it and its row: training set, steps and layers."""
    title = None
    for ax in figure.axes:
        if ax.texts and ax.texts[0].get_text().startswith("C"):
            title = re.match(r"([A-Z]+)(?:\(([\d,]+)\))?: ([\d,]+) steps of", ax.texts[0].get_text())
        if ax.axison:
            split, n_train, steps = title.groups()
            depth = re.match(r"(\d)[- ]layer", ax.get_title())[1]
            n_train = (n_train or "").replace(",", "")
            yield ax, {"split": split.lower(), "n_train": n_train, "steps": steps.replace(",", ""), "depth": depth}


SPLITS = {
    "CV(82k)": {"split": "cv", "n_train": 81_920},
    "CV(16k)": {"split": "cv", "n_train": 16_384},
    "checkerboard(82k)": {"split": "checkerboard", "n_train": ""},
}
IN_BOTH = {figures.PARTS[part][2]: {"part": part} for part in PARTS}
RATES = {
    f"{look['label']}, {said}": {"measure": measure, "arguments": f"estimator={how}", "part": "train"}
    for measure, look in study.RATE_PARTS.items()
    for how, (said, _) in study.ESTIMATORS.items()
}
STOPPED = {
    name: {"curve": name, "measure": "distortion", "part": "test_nested_b"} for name in ("at the end", "stopped early")
}
# The lines of a panel by their labels, and what the data call them; of figures whose panels `panels_of` knows.
OF_A_PANEL = {study.figure_3: IN_BOTH, study.figure_8: RATES, study.early_stopping: STOPPED}
LEVELS = {study.figure_3: {"part": "test", "measure": "distortion_floor"}, study.figure_8: {"measure": "mi_ceiling"}}
# The same by panel of the others: its title, what it says, and its lines.
SIZES = {f"{n:,} images": {"n_train": n} for n in (8_192, 16_384)}
OF_PANELS = {
    study.figure_4: {
        "constant volume, 1 layer": ({"split": "cv", "depth": 1}, SIZES),
        "constant volume, 3 layers": ({"split": "cv", "depth": 3}, SIZES),
        "constant density, 1 layer": ({"split": "cd", "depth": 1}, {"8,192 images": {"n_train": 8_192}}),
        "constant density, 3 layers": ({"split": "cd", "depth": 3}, {"8,192 images": {"n_train": 8_192}}),
    },
    study.figure_5: {layers(depth): ({"depth": depth}, SPLITS) for depth in (1, 3)},
    study.figure_6: {
        f"{net}, {layers(depth)}": ({"model": model, "depth": depth, "n_train": 16_384}, IN_BOTH)
        for (model, net), depth in itertools.product((("dense_vae", "MLP"), ("conv_vae", "CNN")), (1, 3))
    },
    study.figure_7: {
        title: ({"data": name, "n_train": 6_000}, {layers(depth): {"depth": depth} for depth in (1, 3)})
        for title, name in (("Fashion-MNIST", "fashion_mnist"), ("MNIST", "mnist"))
    },
}
ALL = {"model": "dense_vae", "data": "tetrominoes", "steps": 20, "step": 20, "part": "test"}


@pytest.mark.parametrize("make", [*OF_A_PANEL, *OF_PANELS])
def test_the_data_are_what_a_figure_draws(all_drawn, make):
    figure = make(all_drawn)
    if make in OF_A_PANEL:
        panels = [(ax, where, OF_A_PANEL[make]) for ax, where in panels_of(figure)]
        assert len(panels) >= 7
    else:
        titled = {ax.get_title(): ax for ax in figure.axes}
        panels = [(titled[title], ALL | where, of) for title, (where, of) in OF_PANELS[make].items()]
        assert words(figure.axes[0].texts[0]).startswith("20 steps of 8, 4 units, ")
    data = Data(figure)
    lines = {(ax, label): where | line for ax, where, of in panels for label, line in of.items()}
    levels = assert_all_is_in(data, figure, lines)
    assert len(levels) == (len(panels) if make in LEVELS else 0)
    for ax, level in levels:
        (where,) = [where for panel, where, _ in panels if panel is ax]
        means_of_it = data.line("beta", **where, **LEVELS[make])
        assert [mean for _, mean, _ in means_of_it] == pytest.approx([level] * len(means_of_it))
        assert ax.get_ylim()[0] < level
    if make is study.figure_5:
        shares = {steps.get_label(): steps.get_data().values for steps in figure.axes[2].patches}
        for name, where in SPLITS.items():
            counts = data.line("arguments", **where, measure="nearest_distance")
            assert [k for k, *_ in counts] == list(np.flatnonzero(shares[name]))
            of_all = [count / sum(c for _, c, _ in counts) for _, count, _ in counts]
            assert of_all == pytest.approx(shares.pop(name)[[0, 2]].tolist())
        assert not shares
        assert {tuple(steps.get_data().edges) for steps in figure.axes[2].patches} == {(0, 0.25, 0.5, 0.75)}
    if make is study.early_stopping:
        apart = data.rows[(data.rows["curve"] == "stopped early") & (data.rows["steps"] == "400")]
        assert set(apart["step"]) == {"100 200"}
        assert set(apart["seeds"]) == {"2"}
    assert data.left.empty


def test_the_data_of_learning_curves_are_what_they_draw(all_drawn):
    figure = study.learning_curves(all_drawn)
    data = Data(figure)
    for ax, where in panels_of(figure):
        lines = [line for line in ax.lines if len(line.get_xdata())]  # the others are of other panels' betas
        assert len(lines) >= 2
        for line in lines:
            beta = line.get_label().removeprefix("beta ")
            wanted = data.line("step", **where, beta=beta, measure="distortion", part="test_nested")
            assert np.transpose(line.get_data()) == pytest.approx(np.array(wanted)[:, :2])
    assert data.left.empty


def test_the_data_of_the_parts_removed_are_what_it_draws(all_drawn):
    figure = study.parts_removed(all_drawn)
    data = Data(figure)
    for ax, where in panels_of(figure):
        (container,) = ax.containers
        x, y, _, up = bars(container)
        names = dict(zip(ax.get_xticks(), (tick.get_text() for tick in ax.get_xticklabels()), strict=True))
        for place, mean, sd in zip(x, y, up, strict=True):
            mi, kl = (str(int(where == "in")) for where in re.match(r"MI (\w+), KL (\w+)", names[place]).groups())
            (point,) = data.line("mi", **where, step=where["steps"], mi=mi, kl=kl, measure="distortion", part="test")
            assert (mean, sd) == pytest.approx(point[1:])
        assert len(x) == 4
    assert len(figure.axes) == 4
    assert data.left.empty


@pytest.mark.parametrize("change", [*CHANGES, *RECORDED, *PARENTS])
def test_figures_cut_where_budgets_and_verdicts_do(change):
    """Two members that differ in anything share no panel, and so no curve: that refuses two values of a point."""
    groups = study.training_sets(two_members(change).dropna(subset="value"))
    panels = figures.grid(groups, lambda axes, rows: rate_distortion(rows, axes[0])).axes
    assert len(panels) == 2
    assert all(len(ax.containers) == 2 for ax in panels)  # training and test images


def named_panels(groups, columns, **how):
    figure = figures.grid(groups, lambda ax, rows: rate_distortion(rows, ax), columns, **how)
    return figure, [ax for ax in figure.axes if ax.has_data()]


def test_a_panel_stands_under_its_own_budget():
    """A budget that fits between the panels of another has a line of its own; equal labels are numbered."""
    columns = {f"{depth} layers": {"depth": depth} for depth in (1, 2, 3)}
    ends, middle, right = (frame_of(tables(grid(depths=depths))) for depths in ((1, 3), (2,), (3,)))
    _, shown = named_panels([("long", ends), ("short", middle)], columns)
    assert len({round(ax.get_position().y0, 2) for ax in shown}) == 2
    left = frame_of(tables(grid(depths=(1,))))
    figure, shown = named_panels([("alike", left), ("alike", right)], columns)
    assert len({round(ax.get_position().y0, 2) for ax in shown}) == 1
    words = {text.get_text() for ax in figure.axes for text in ax.texts}
    assert {"alike", "alike (2)"} <= words


@pytest.mark.parametrize("columns", [{"none": {"depth": 77}}, {}])
def test_a_grid_without_a_panel_says_so(columns):
    figure, shown = named_panels([("a budget", frame_of(tables(grid())))], columns, empty="nothing of it")
    assert not shown
    assert "nothing of it" in [text.get_text() for ax in figure.axes for text in ax.texts]
