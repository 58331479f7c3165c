"""Study 3's figures, after Bozkurt et al. (2021). Numbers of figures are the paper's."""

import io
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from PIL import Image

from vaekit import data, figures, pictures, runs, tidy
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, panels
from vaekit.settings import Settings
from vaekit.sheets import Sheet
from vaekit.studies.rate_generalisation import BIN, DESIGN
from vaekit.studies.rate_generalisation.claims import COUNTS, SIZES, stopped_early
from vaekit.studies.rate_generalisation.claims import OTHERS as TENTHS

SPLITS = {
    "CV(82k)": ({"split": ("cv",), "n_train": (81_920,)}, BLUE, "o"),  # or the random half, see `_dense`
    "CV(16k)": ({"split": ("cv",), "n_train": (16_384,)}, ORANGE, "s"),
    "checkerboard(82k)": ({"split": ("checkerboard",), "n_train": (81_920, None)}, GREEN, "D"),
}
DEPTHS = (1, 3)
ESTIMATORS = {"exact": "q(z) over all images", "batch512": "q(z) over batches of 512"}
NAMES = {"cv": "CV", "cd": "CD", "random": "random half"}
AXES = DESIGN.axes
NETS = {"dense_vae": "MLP", "conv_vae": "CNN"}
TETROMINOES = {"model": ("dense_vae",), "data": ("tetrominoes",)}
RD = ("rate", "distortion samples=1")
# The parts of the measure `learning_curve`, under the names by which its figures show them.
NESTED_PARTS = {f"test_nested{half}": f"test{half}" for half in ("", "_a", "_b")}
# What the explorer says of memorisation (claim 3.6), of members that have it: measure and arguments by name.
MEMORISATION = {
    "preference for training images": ("train_preference", ""),
    "share of test images nearer to a training image": ("nearer_than_target", "among=train"),
    "share of test images nearer to a control image": ("nearer_than_target", "among=control"),
}
_Sheets = dict[int, tuple[int, dict[float, Sheet]]]  # by depth: a seed, and its pictures by beta
OTHERS = {"fashion_mnist": "Fashion-MNIST", "mnist": "MNIST", "small_norb": "SmallNORB", "shapes3d": "3dShapes"}


def figure_1(columns: int = 16, rows: int = 6) -> Figure:
    """Figure 1: a random sheet of Tetrominoes."""
    tetrominoes = data.load("tetrominoes")
    chosen = tetrominoes.split("random").train[: columns * rows]
    return figures.pictures(tetrominoes.take(chosen), columns)


def factors(columns: int = 12) -> Figure:
    """Tetrominoes along each of the five factors, a row each: of all images, those nearest to an even walk."""
    tetrominoes = data.load("tetrominoes")
    place = tetrominoes.factors
    assert place is not None  # tetrominoes are made from them
    low, high = place.min(0).values, place.max(0).values
    middle = low + (high - low) * torch.tensor([0.1, 0.6, 0.8, 0.5, 0.5])
    chosen = []
    for factor in range(5):
        for share in torch.linspace(0, 1, columns):
            target = middle.clone()
            target[factor] = low[factor] + share * (high - low)[factor]
            chosen.append((((place - target) / (high - low)) ** 2).sum(1).argmin())
    return figures.pictures(tetrominoes.take(torch.stack(chosen)), columns)


def figure_2(n_train: int = 16_384, shown: int = 1_200) -> Figure:
    """Figure 2: training and test images of the four splits over two of their five factors.

    The images shown are those nearest to the middle of the other three factors; the sparse splits have `n_train`
    training images. (The paper draws 600 made-up points; these are images of the set.)
    """
    tetrominoes = data.load("tetrominoes")
    factors = tetrominoes.factors
    assert factors is not None  # tetrominoes are made from them
    low, high = factors.min(0).values, factors.max(0).values
    position = (factors - low) / (high - low)
    # Off the middle, which is a border of the checkerboard's cells.
    centre = ((position[:, [0, 1, 2]] - torch.tensor([0.4, 0.4, 0.4])) ** 2).sum(1)
    near = torch.zeros(len(factors), dtype=torch.bool)
    near[centre.argsort()[:shown]] = True
    splits = {
        "50/50 at random": ("random", None),
        "checkerboard": ("checkerboard", None),
        "constant density": ("cd", n_train),
        "constant volume": ("cv", n_train),
    }
    figure, axes = panels(1, 4, width=2.6, height=2.9, sharex=True, sharey=True)
    for ax, (title, (name, size)) in zip(axes[0], splits.items(), strict=True):
        split = tetrominoes.split(name, size)
        # Training images last: in the sparse split they are few, and the others would hide them.
        for part, (colour, marker, label) in reversed(figures.PARTS.items()):
            indices = getattr(split, part)
            x, y = factors[indices[near[indices]]][:, 3:5].T
            ax.plot(x, y, marker, color=colour, ms=2.5, lw=0, label=label)
        ax.set(title=f"{title}\n{len(split.train):,} / {len(split.test):,}", xlabel="x (pixels)", aspect="equal")
    axes[0, 0].set(ylabel="y (pixels)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, markerscale=3)
    return figure


def figure_3(table: pd.DataFrame) -> Figure:
    """Figure 3: rate-distortion curves on training and test images, a panel for each depth and training set.

    Each row has one budget, the largest first. The dotted line is the floor of D on the test images.
    """

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        figures.rate_distortion(shown, ax)
        floor = tidy.last(shown, "distortion_floor", part="test")["value"].mean()
        ax.axhline(floor, color=GREY, ls=":", lw=1)

    figure, drawn = _by_depth(table, draw)
    rows = [_points(drawn, *figures.PARTS), tidy.last(drawn, "distortion_floor", part="test")]
    return figures.with_data(figure, tidy.csv(pd.concat(rows), *RD, "distortion_floor"))


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of figure 3 as text, a row for each point: means over seeds with standard deviations, in nats.

    D is at one sample of z, and stands beside its floor on the same images.
    """
    columns = {
        "R (train)": ("train", "rate", ""),
        "D (train)": ("train", "distortion", "samples=1"),
        "floor (train)": ("train", "distortion_floor", ""),
        "R (test)": ("test", "rate", ""),
        "D (test)": ("test", "distortion", "samples=1"),
        "floor (test)": ("test", "distortion_floor", ""),
    }
    rows = []
    for label, group in _curves(_compared(table)):
        for (depth, beta), point in group.groupby(["depth", "beta"]):
            row = {"images": label.split(":")[0], "steps": f"{point['steps'].iloc[0]:,}", "layers": depth}
            row |= {"units": f"{point['hidden'].iloc[0]:g}", "beta": f"{beta:g}", "seeds": _seeds(point)}
            for name, (part, measure, arguments) in columns.items():
                values = tidy.last(point, measure, part=part, arguments=arguments)["value"].dropna()
                row[name] = _spread(values[:1] if "floor" in name else values) if len(values) else "diverged"
            rows.append(row)
    return pd.DataFrame(rows)


def figure_4(table: pd.DataFrame) -> Figure:
    """Figure 4: test curves by size of the training set, at constant volume (top) and at constant density (bottom)."""
    sizes = dict(zip(SIZES, zip(_shades(len(SIZES)), "osD^", strict=False), strict=True))
    mine = _of(table, **TETROMINOES, split=("cv", "cd"), n_train=SIZES, depth=DEPTHS)
    label, shown = _one_budget(mine)
    figure, axes = panels(2, 2, sharex=True, sharey=True)
    for line, (split, name) in zip(axes, {"cv": "constant volume", "cd": "constant density"}.items(), strict=True):
        for ax, depth in zip(line, DEPTHS, strict=True):
            for n_train, (colour, marker) in sizes.items():
                rows = _of(shown, split=(split,), n_train=(n_train,), depth=(depth,))
                _test_curve(rows, ax, color=colour, marker=marker, label=f"{n_train:,} images")
            _finish(ax, f"{name}, {_layers(depth)}")
    figures.label_rows(axes[:1], [label])
    return figures.with_data(figure, tidy.csv(_points(shown, "test"), *RD))


def figure_5(table: pd.DataFrame) -> Figure:
    """Figure 5: test curves of three splits; right, how far their test images lie from the nearest training image.

    The histogram is of the first 10,000 test images, in bins of 0.25 (L2 distance of images in [0, 1]); no training
    changes it. The paper has it in its appendix.
    """
    mine = {name: _of(table, **TETROMINOES, **where) for name, (where, *_) in SPLITS.items()}
    mine["CV(82k)"] = _dense(mine["CV(82k)"], _of(table, **TETROMINOES, split=("random",), n_train=(81_920, None)))
    label, shown = _one_budget(_of(pd.concat(mine.values()), depth=DEPTHS))
    figure, axes = panels(1, 3)
    for ax, depth in zip(axes[0], DEPTHS, strict=False):
        for name, (_, colour, marker) in SPLITS.items():
            rows = shown[(shown["depth"] == depth) & shown["key"].isin(mine[name]["key"])]
            _test_curve(rows, ax, color=colour, marker=marker, label=name)
        _finish(ax, _layers(depth))
    last = axes[0, 2]
    for name, (_, colour, _) in SPLITS.items():
        counts = distances(mine[name])
        if len(counts):
            last.stairs(counts / counts.sum(), BIN * np.arange(len(counts) + 1), color=colour, lw=1.5, label=name)
    last.set(xlabel="L2 distance to the nearest training image", ylabel="share of test images")
    _finish(last, "no training: images alone", rd=False)
    figures.label_rows(axes, [label])
    drawn = [_points(shown, "test"), *map(_counted, mine.values())]
    return figures.with_data(figure, tidy.csv(pd.concat(drawn), *RD, COUNTS))


def _dense(cv: pd.DataFrame, random: pd.DataFrame) -> pd.DataFrame:
    """CV(82k/82k) under that of its two names of which there is more, as in claim 3.11: they are never mixed."""
    return random if random["key"].nunique() > cv["key"].nunique() else cv


def distances(rows: pd.DataFrame) -> np.ndarray:
    """How many test images of one split lie at a distance in [k, k + 1) / 4 from the nearest training image, by k."""
    found = _counted(rows)
    bins = found["arguments"].str.removeprefix("bin=").astype(int)
    counts = np.zeros(bins.max() + 1 if len(bins) else 0)
    counts[bins.to_numpy()] = found["value"]
    return counts


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The counts of one split, read off one of its members: they are the same whichever it is."""
    found = tidy.last(rows, COUNTS, part="test")
    return found[found["key"] == found["key"].min()]


def figure_6(table: pd.DataFrame) -> Figure:
    """Figure 6: CV(16k), training and test curves of fully connected and convolutional networks, 1 and 3 layers."""
    figure, axes = panels(2, 2)
    labels, drawn = [], []
    for line, (model, net) in zip(axes, NETS.items(), strict=True):
        where = {"model": (model,), "data": ("tetrominoes",), "split": ("cv",), "n_train": (16_384,), "depth": DEPTHS}
        label, shown = _one_budget(_of(table, **where))
        labels.append(label)
        drawn.append(_points(shown, *figures.PARTS))
        for ax, depth in zip(line, DEPTHS, strict=True):
            for part, (colour, marker, name) in figures.PARTS.items():
                _curve(_of(shown, depth=(depth,)), part, ax, color=colour, marker=marker, label=name)
            _finish(ax, f"{net}, {_layers(depth)}")
    figures.label_rows(axes, labels)
    return figures.with_data(figure, tidy.csv(pd.concat(drawn), *RD))


def figure_7(table: pd.DataFrame) -> Figure:
    """Figure 7: test curves on other data, a tenth of the training images, with 1 and 3 layers; a panel a set."""
    figure, axes = panels(1, len(OTHERS), width=3.4)
    drawn = []
    for ax, (data_set, name) in zip(axes[0], OTHERS.items(), strict=True):
        where = {"model": ("dense_vae",), "data": (data_set,), "split": ("cv",), "n_train": (TENTHS[data_set],)}
        label, shown = _one_budget(_of(table, **where, depth=DEPTHS))
        for depth, colour, marker in zip(DEPTHS, (BLUE, ORANGE), "os", strict=True):
            _test_curve(_of(shown, depth=(depth,)), ax, color=colour, marker=marker, label=_layers(depth))
        _finish(ax, f"{name}\n{label}" if len(shown) else name)
        ax.title.set_fontsize(8)
        drawn.append(_points(shown, "test"))
    return figures.with_data(figure, tidy.csv(pd.concat(drawn), *RD))


def learning_curves(table: pd.DataFrame) -> Figure:
    """D on test images over training steps: has a curve come to rest, and is its order over beta still changing?

    On the images of `_while_training`.
    """

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        figures.learning_curves(_while_training(shown), "distortion", "samples=1", ax)
        ax.set(ylabel="test distortion D (nats per image)", yscale="log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))

    figure, drawn = _by_depth(table, draw, ncols=2)
    rows = _while_training(drawn)
    drawn = _as_measured(rows[rows["part"] == "test"])
    return figures.with_data(figure, tidy.csv(drawn, "distortion samples=1", last=False))


def early_stopping(table: pd.DataFrame) -> Figure:
    """What early stopping would give: test D over beta at each member's best snapshot, beside D at the end.

    The snapshot is chosen on one half of the test images, D is taken on the other (claim 3.4), both of those of
    `_while_training`.
    """

    def both(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
        rows = _while_training(rows)
        end = tidy.last(rows, "distortion", part="test_b", arguments="samples=1")
        found = {"at the end": end, "stopped early": stopped_early(rows, ("test_a", "test_b"))}
        return {name: rows.assign(curve=name) for name, rows in found.items()}

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        how = {"arguments": "samples=1", "part": "test_b"}
        for (name, rows), colour, marker in zip(both(shown).items(), (ORANGE, GREEN), "so", strict=True):
            # Whenever a member was stopped, it has one place in the curve: as if that were its end.
            ended = rows.assign(step=rows["steps"])
            figures.over_beta(ended, "distortion", ax, **how, color=colour, marker=marker, label=name)
        ax.set(ylabel="test distortion D (nats per image)")

    figure, drawn = _by_depth(table, draw)
    _legend(figure)
    rows = _as_measured(pd.concat(both(drawn).values()))
    return figures.with_data(figure, tidy.csv(rows, "distortion samples=1", last=False, steps_apart=False))


def _while_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Each member's D at every snapshot on the same test images, and on either half of them: test, test_a, test_b.

    They are the first 10,000, of the measure `learning_curve`; of a member that lacks it, all that `rate_distortion`
    took of it. Column `measured_part` has the part under which the value was taken.
    """
    d = rows[(rows["measure"] == "distortion") & (rows["arguments"] == "samples=1")]
    d = d.assign(measured_part=d["part"])
    has_curve = d["key"].isin(d.loc[d["part"].isin(NESTED_PARTS), "key"])
    nested, whole = d[d["part"].isin(NESTED_PARTS)], d[~has_curve & d["part"].isin(NESTED_PARTS.values())]
    return pd.concat([nested.assign(part=nested["part"].map(NESTED_PARTS)), whole])


def _as_measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `_while_training` under the parts of the tidy table."""
    return rows.assign(part=rows["measured_part"]).drop(columns="measured_part")


def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: mutual information and marginal KL over beta, by both estimators, with the ceiling log N."""

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        for (estimator, said), dash in zip(ESTIMATORS.items(), "-:", strict=True):
            how = {"arguments": f"estimator={estimator}", "ls": dash}
            for measure, colour, marker, name in (
                ("mutual_information", GREEN, "o", "mutual information"),
                ("marginal_kl", PURPLE, "s", "marginal KL"),
            ):
                label = f"{name}, {said}"
                figures.over_beta(shown, measure, ax, color=colour, marker=marker, label=label, **how)
        for ceiling in tidy.last(shown, "mi_ceiling", part="train")["value"].unique():
            ax.axhline(ceiling, color=GREY, ls="--", lw=1, label="ceiling log N")
        ax.set(ylabel="nats per image", yscale="log")

    figure, drawn = _by_depth(table, draw)
    _legend(figure)
    measures = ("mutual_information", "marginal_kl", "mi_ceiling")
    return figures.with_data(figure, tidy.csv(drawn[drawn["part"] == "train"], *measures))


def parts_removed(table: pd.DataFrame) -> Figure:
    """Test D after training with the mutual information and the marginal KL each in the loss or out of it (claim 3.16).

    A panel for each budget and training set of fully connected networks of 3 layers with the objective `mi_kl`, a point
    for each pair of weights, mean over seeds with standard deviation.
    """
    mine = _of(table, **TETROMINOES, objective=("mi_kl",), depth=(3,))
    mine = tidy.last(mine, "distortion", part="test", arguments="samples=1")
    shown = _panels(mine)
    figure, axes = panels(1, max(1, len(shown)), width=5.2)
    place = {0: "out", 1: "in"}
    for ax, (label, rows) in zip(axes[0], shown, strict=False):
        d = rows.groupby(["mi", "kl"])["value"]
        mean, spread = d.mean(), d.std().fillna(0)
        ax.errorbar(range(len(mean)), mean, yerr=spread, fmt="o", color=ORANGE, capsize=3)
        ax.set_xticks(range(len(mean)), [f"MI {place.get(mi, mi)}, KL {place.get(kl, kl)}" for mi, kl in mean.index])
        ax.set(ylabel="test distortion D (nats per image)", xlim=(-0.5, len(mean) - 0.5))
        ax.set_title(f"3 layers, {label}", fontsize=8, parse_math=False)
    if not shown:
        _finish(axes[0, 0], "3 layers, D + MI weight x MI + KL weight x KL")
    return figures.with_data(figure, tidy.csv(mine, "distortion samples=1"))


def figure_3_pictures(table: pd.DataFrame, chosen: Settings, images: int = 3) -> Figure:
    """Figure 3's pictures: hard test images, and what members of one seed make of them, by beta.

    Below each reconstruction is the training image that is nearest to it. A panel for each depth, of the budget that
    `explore` begins with.
    """
    (label, _, seeds), *_ = _to_move_through(table, chosen) or [("", table, {})]
    figure, axes = panels(max(1, len(seeds)), 1, width=8, height=0.9 * 2 * images)
    for ax, (depth, (seed, sheets)) in zip(axes[:, 0], seeds.items(), strict=False):
        tiles = [sheet.pictures[:, :images] for sheet in sheets.values()]
        columns = [np.stack([tiles[0][0], np.full_like(tiles[0][0], 255)]), *(each[1:3] for each in tiles)]
        # (row, image, column, H, W, C): of each image its row of reconstructions above its row of neighbours.
        placed = np.stack(columns, axis=2).swapaxes(0, 1)
        height, width, colours = placed.shape[-3:]
        flat = torch.from_numpy(placed.reshape(-1, height, width, colours)).permute(0, 3, 1, 2)
        figures.pictures(flat, len(columns), ax)
        ax.set_axis_on()
        ax.spines[:].set_visible(False)
        middle = np.arange(len(columns)) * (width + 1) + width / 2
        ax.set_xticks(middle, ["test image", *(f"beta {beta:g}" for beta in sheets)])
        ax.xaxis.tick_top()
        names = ["image, reconstructions", "nearest training image"] * images
        ax.set_yticks(np.arange(2 * images) * (height + 1) + height / 2, names)
        ax.tick_params(length=0, labelsize=8)
        ax.set_title(f"{_layers(depth)}, seed {seed}: {label}", fontsize=8, parse_math=False)
    if not seeds:
        axes[0, 0].text(0, 0.5, "No pictures are stored of these members.")
        axes[0, 0].set_axis_off()
        figure.set_size_inches(8, 0.6)
    return figure


def explore(table: pd.DataFrame, chosen: Settings):
    """Move through the members: the point on the curve, its pictures and its numbers follow.

    A list of budgets and training sets, a curve for each depth, and a slider over beta, in JupyterLab and on a page
    alike; it begins with the budget of `figure_3_pictures`, and a member that has pictures. Means over seeds with
    standard deviations; the pictures are of one seed a depth. Where no member has a place on a curve, a sentence says
    so.
    """
    from vaekit import widgets  # a figure is drawn without them

    budgets = _to_move_through(table, chosen)
    alone = len(budgets) == 1  # then there is nothing to choose

    def place(label: str, depth: int, beta: float) -> dict[str, Any]:
        return ({} if alone else {"budget": label}) | {"layers": int(depth), "beta": float(beta)}

    points = [
        {"axes": place(label, depth, beta)} | _point(depth, beta, same, seeds)
        for label, rows, seeds in budgets
        for (depth, beta), same in rows.groupby(["depth", "beta"])
    ]
    if not any(point["series"] for point in points):
        return widgets.Page("<p>There is nothing to move through: no member of a beta was trained to its end.</p>")
    label, rows, seeds = budgets[0]
    start = place(label, *_start(rows, seeds))
    made = widgets.curve(points, caption=label if alone else "", start=start, diagonals="D + R")
    return widgets.show(chosen, made)


def _point(depth: int, beta: float, rows: pd.DataFrame, seeds: _Sheets) -> dict[str, Any]:
    """A point of the widget: the members of one budget, depth and beta, which differ in their seeds."""
    numbers, series, said = {"seeds": _seeds(rows)}, {}, []
    for part, (_, _, name) in figures.PARTS.items():
        r = tidy.last(rows, "rate", part=part).set_index("seed")["value"]
        d = tidy.last(rows, "distortion", part=part, arguments="samples=1").set_index("seed")["value"]
        both = pd.DataFrame({"r": r, "d": d}).dropna()
        if len(both):
            mean, spread = both.mean(), both.std().fillna(0)
            series[name] = (mean["r"], mean["d"], spread["r"], spread["d"])
            numbers[f"D ({part}), nats per image"] = _spread(both["d"])
            numbers[f"R ({part}), nats per image"] = _spread(both["r"])
            count = f"{len(both)} seed{'s' if len(both) > 1 else ''}"
            said = [f"{part} D {mean['d']:.1f}, R {mean['r']:.1f} nats per image, {count}"]
    for name, (measure, arguments) in MEMORISATION.items():
        values = tidy.last(rows, measure, part="test", arguments=arguments)["value"].dropna()
        if len(values):
            few = f" ({len(values)} of the seeds)" if len(values) < rows["seed"].nunique() else ""
            numbers[name] = f"{_spread(values, 3)}{few}"
    seed, sheets = seeds.get(depth, (None, {}))
    sheet = sheets.get(beta)
    alt = "No pictures are stored of this member."
    if sheet:
        alt = f"{_layers(depth)}, beta {beta:g}, seed {seed}; rows from above: {', '.join(sheet.labels)}"
    return {
        "series": series,
        "numbers": numbers,
        "says": f"beta {beta:g}, {_layers(depth)}: {(said or ['not trained to its end'])[0]}",
        "picture": _png(sheet) if sheet else None,
        "alt": alt,
    }


def _start(rows: pd.DataFrame, seeds: _Sheets) -> tuple[int, float]:
    """Where to begin in a budget, as depth and beta: the depth of which most is pictured, of those the largest."""
    there = {depth: sorted(sheets) for depth, (_, sheets) in seeds.items()}
    there = there or {depth: sorted(same["beta"].unique()) for depth, same in rows.groupby("depth")}
    depth = max(there, key=lambda depth: (len(there[depth]), depth))
    return depth, there[depth][len(there[depth]) // 2]


def decode(table: pd.DataFrame, chosen: Settings):
    """A decoder to move: of the members whose weights are at hand, most steps and layers, beta nearest 1.

    At scale "published" those alone that `results/` carries: a page is the same whoever builds it.
    """
    from vaekit import widgets

    rows = _of(table.drop_duplicates("key"), **TETROMINOES, status=("finished",))
    rows = rows[rows["beta"].notna()]
    rows = rows.assign(off=np.abs(np.log(rows["beta"].clip(lower=1e-6))))
    rows = rows.sort_values(["steps", "depth", "off", "seed"], ascending=[False, False, True, True])
    for row in rows.itertuples():
        caption = f"{_layers(row.depth)}, beta {row.beta:g}, seed {row.seed}, {row.steps:,} steps, "
        caption += f"{row.data}, {_split(row.split, row.n_train)}"
        try:
            return widgets.show(chosen, widgets.decoder(runs.load(row.key, store=_store(chosen)), caption))
        except (runs.StoreError, ValueError):
            continue  # neither stored here nor carried; or more than a page can run
    return widgets.Page(
        "<p>No decoder of these members is here. Train a member of your own, say of seed 7, or carry one in results/ "
        "(export --decoders).</p>"
    )


def _store(chosen: Settings) -> runs.Store:
    """Where weights are taken from: at scale "published" from results/, which is no store and has decoders alone."""
    return runs.Store(runs.results_root()) if chosen.scale == "published" else runs.default_store()


def _to_move_through(table: pd.DataFrame, chosen: Settings) -> list[tuple[str, pd.DataFrame, _Sheets]]:
    """What can be moved through of the members asked for: each budget and training set with its pictures.

    The first is the most telling: the largest budget with two betas or more and pictures; without pictures, with two
    betas. The others follow, the largest first. A budget of a single beta, which has no curve, is there where no other
    is. Each has a label of its own.
    """

    def betas(rows: pd.DataFrame) -> int:
        ends = tidy.last(rows, "distortion", part="test", arguments="samples=1")
        return ends.loc[ends["value"].notna(), "beta"].nunique()

    def worth(one: tuple[str, pd.DataFrame, _Sheets]) -> tuple[bool, int, int]:
        return bool(one[2]), int(one[1]["steps"].iloc[0]), len(one[1].drop_duplicates(["depth", "beta"]))

    found = _panels(table[table["asked"] & table["beta"].notna()])
    found = [(label, rows) for label, rows in found if betas(rows) >= 2] or found
    shown = [(label, rows, _sheets(rows, chosen)) for label, rows in found]
    shown.sort(key=worth, reverse=True)
    first, rest = shown[:1], sorted(shown[1:], key=lambda one: worth(one)[1:], reverse=True)
    # Budgets that differ in what no label tells, as the number of test images, are no one curve.
    counts: Counter[str] = Counter()
    named = []
    for label, rows, seeds in first + rest:
        counts[label] += 1
        named.append((f"{label} ({counts[label]})" if counts[label] > 1 else label, rows, seeds))
    return named


def _sheets(rows: pd.DataFrame, chosen: Settings) -> _Sheets:
    """For each depth the seed of which there are most pictures, and those by beta; depths without any are left out."""
    found: _Sheets = {}
    members = rows.drop_duplicates("key").sort_values(["depth", "seed", "beta"])
    for (depth, seed), same in members.groupby(["depth", "seed"]):
        try:
            sheets = {row.beta: pictures.of(DESIGN, row.key, _store(chosen)) for row in same.itertuples()}
        except data.DataError:
            continue  # pictures would have to be made, of images that are not here
        there = {float(beta): sheet for beta, sheet in sheets.items() if sheet}
        if len(there) > len(found.get(int(depth), (0, {}))[1]):
            found[int(depth)] = (int(seed), there)
    return found


def _seeds(rows: pd.DataFrame) -> str:
    """How many seeds have a distortion at the end, and how many members diverged, as text."""
    there = tidy.last(rows, "distortion", part="test", arguments="samples=1")
    lost = rows["key"].nunique() - there.loc[there["value"].notna(), "key"].nunique()
    return f"{there.loc[there['value'].notna(), 'seed'].nunique()}" + (f" ({lost} diverged)" if lost else "")


def _png(sheet: Sheet, gap: int = 2, times: int = 2) -> bytes:
    """A sheet as it is shown: each picture enlarged, with white between them."""
    tiles = sheet.pictures.repeat(times, axis=2).repeat(times, axis=3)
    tiles = np.pad(tiles, [(0, 0), (0, 0), (0, gap), (0, gap), (0, 0)], constant_values=255)
    rows, columns, height, width, colours = tiles.shape
    whole = tiles.swapaxes(1, 2).reshape(rows * height, columns * width, colours)
    content = io.BytesIO()
    Image.fromarray(whole.squeeze()).save(content, "png", optimize=True)
    return content.getvalue()


def _spread(values: pd.Series, digits: int = 1) -> str:
    """A mean over seeds with its standard deviation, as text."""
    spread = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{spread}"


def _by_depth(
    table: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None], **legend: Any
) -> tuple[Figure, pd.DataFrame]:
    """A panel for each depth, a row for each budget and training set; what is not there stays empty.

    Budgets of different depths, one after the other, stand side by side in one row. The first panel of each has a
    `legend`, where something is given for it. With the figure come the rows of the panels that are drawn.
    """
    table = _compared(table)
    depths = sorted(table["depth"].unique())
    rows: list[dict[int, tuple[str, pd.DataFrame]]] = []  # by depth, the budget and what is drawn of it
    for label, group in _curves(table):
        shown = {depth: group[group["depth"] == depth] for depth in depths}
        there = {depth: (label, one) for depth, one in shown.items() if len(tidy.last(one, "rate"))}  # else: diverged
        if rows and rows[-1].keys().isdisjoint(there):
            rows[-1] |= there
        else:
            rows.append(there)
    if not any(rows):
        figure, axes = panels(1, 1)
        _finish(axes[0, 0], "D + beta R")
        return figure, table
    figure, axes = panels(len(rows), len(depths), sharey="row")
    for line, row in zip(axes, rows, strict=True):
        labelled: list[str] = []
        for ax, depth in zip(line, depths, strict=True):
            if depth not in row:
                ax.set_axis_off()
                continue
            label, shown = row[depth]
            draw(ax, shown)
            ax.set(title=f"{depth}-layer {NETS[shown['model'].iloc[0]]}")
            if not labelled:
                ax.tick_params(labelleft=True)  # where the first panel is empty, its labels are shared by nobody
            if label not in labelled:
                labelled.append(label)
                figures.label(ax, label, width=40 if len({label for label, _ in row.values()}) > 1 else None)
                if legend:
                    ax.legend(**legend)
    return figure, pd.concat([shown for row in rows for _, shown in row.values()])


def _legend(figure: Figure) -> None:
    """One legend below all panels, of what any of them draws."""
    found = [ax.get_legend_handles_labels() for ax in figure.axes]
    named = {name: handle for handles, names in found for handle, name in zip(handles, names, strict=True)}
    if named:
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=2)


def _curves(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The `_panels` of two betas or more, and those asked for beside stored ones; all, where that leaves none."""
    found = _panels(table)
    beside = "asked" in table and not table["asked"].all()
    curves = [(label, rows) for label, rows in found if rows["beta"].nunique() > 1 or (beside and rows["asked"].any())]
    return curves or found


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """What figures 3 and 8 show: dense and sparse Tetrominoes, and those of the quick scale; all, where there are none.

    Other sizes, splits, sets and networks have figures of their own, and so have the members without a beta.
    """
    table = table[table["beta"].notna()]
    named = _of(table, **TETROMINOES, split=("cv", "random"), n_train=(4_096, 16_384, 81_920, None))
    return named if len(named) else table


def _of(table: pd.DataFrame, **where: Sequence) -> pd.DataFrame:
    """The rows whose columns hold one of the values given; None stands for an empty cell."""
    for name, values in where.items():
        column = table[name]
        table = table[
            column.isin([value for value in values if value is not None]) | (column.isna() & (None in values))
        ]
    return table


def _one_budget(table: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """The budget to compare curves at: the largest with two curves of three betas; without one, that of most points.

    An empty table has an empty label.
    """
    curves = ("split", "n_train", "depth")

    def worth(found: tuple[str, pd.DataFrame]) -> tuple[bool, int, int]:
        each = found[1].groupby([*curves], dropna=False)["beta"].nunique()
        two = (each >= 3).sum() >= 2
        return two, int(found[1]["steps"].iloc[0]) if two else 0, int(each.sum())

    table = table[table["beta"].notna()]
    budgets = tidy.budgets(table, (*AXES, *curves)) if len(table) else ()
    return max(budgets, key=worth, default=("", table))


def _points(rows: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """The rows that curves of D over R draw, of the parts named: of each member both values, or neither."""
    both = [tidy.last(rows, "rate"), tidy.last(rows, "distortion", arguments="samples=1")]
    found = _of(pd.concat(both), part=parts)
    found = found[found["value"].notna()]
    return found[found.groupby(["key", "part"])["measure"].transform("size") == 2]


def _curve(rows: pd.DataFrame, part: str, ax: Axes, **how: Any) -> None:
    """A curve of D, at one sample of z, over R on the images of a part."""
    both = [tidy.last(rows, "rate", part=part), tidy.last(rows, "distortion", part=part, arguments="samples=1")]
    figures.rd_curve(pd.concat(both), ax, **how)


def _test_curve(rows: pd.DataFrame, ax: Axes, **how: Any) -> None:
    _curve(rows, "test", ax, **how)


def _finish(ax: Axes, title: str, rd: bool = True) -> None:
    """A panel's title, axes and legend; where nothing is stored to draw in it, it says so."""
    ax.set_title(title, parse_math=False)
    if not ax.has_data():
        ax.text(0.5, 0.5, "not run yet", transform=ax.transAxes, ha="center", color=GREY)
        ax.set(xlabel="", ylabel="")
        # Not `xticks=[]`: panels that share the axis would lose theirs.
        ax.tick_params(which="both", length=0, labelbottom=False, labelleft=False)
        ax.spines[:].set_color("#dddddd")
        return
    ax.tick_params(labelbottom=True, labelleft=True)  # whatever is empty beside it
    if rd:
        figures.rd_axes(ax)
    ax.legend(fontsize=8)


def _layers(depth: int) -> str:
    return "1 layer" if depth == 1 else f"{depth} layers"


def _shades(number: int) -> list:
    return list(plt.get_cmap("viridis")(np.linspace(0, 0.85, number)))


def _split(split: str, n_train: float) -> str:
    """A training set, as the paper writes it: CV(16,384)."""
    return f"{NAMES.get(split, split)}{'' if pd.isna(n_train) else f'({int(n_train):,})'}"


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of a figure: one for each budget, data set, split and size of the training set; the largest first."""
    found = [
        (f"{_split(split, n_train)}: {label}", budget)
        for (_, split, n_train), group in table.groupby(["data", "split", "n_train"], dropna=False)
        for label, budget in tidy.budgets(group, AXES)
    ]
    return sorted(found, key=lambda one: one[1]["steps"].iloc[0], reverse=True)
