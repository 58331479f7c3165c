"""Study 3's figures, after Bozkurt et al. (2021), from the table alone. Numbers of figures are the paper's."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from vaekit import data, figures
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, grid, mean_sd
from vaekit.store.table import budget_label, budgets, csv, having, select
from vaekit.studies.rate_generalisation import BIN, SPEC, layers
from vaekit.studies.rate_generalisation.claims import COUNTS, OTHERS, SIZES, stopped_early

SPLITS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "CV(82k)": ({"split": "cv", "n_train": 81_920}, {"color": BLUE, "marker": "o"}),
    "CV(16k)": ({"split": "cv", "n_train": 16_384}, {"color": ORANGE, "marker": "s"}),
    "checkerboard(82k)": ({"split": "checkerboard", "n_train": (81_920, None)}, {"color": GREEN, "marker": "D"}),
}
DEPTHS = (1, 3)
AXES = SPEC.axes
TRAINING_SETS = (*AXES, "split", "n_train")  # axes of figures that compare training sets
ESTIMATORS = {"exact": ("all images", "-"), "batch512": ("batches of 512", ":")}
RATE_PARTS: dict[str, dict[str, Any]] = {
    "mutual_information": {"color": GREEN, "marker": "o", "label": "MI"},
    "marginal_kl": {"color": PURPLE, "marker": "s", "label": "KL"},
}
STOPPED: dict[str, dict[str, Any]] = {
    "at the end": {"color": ORANGE, "marker": "s", "label": "at the end"},
    "stopped early": {"color": GREEN, "marker": "o", "label": "stopped early"},
}
NAMES = {"cv": "CV", "cd": "CD", "random": "random half"}
NETS = {"dense_vae": "MLP", "conv_vae": "CNN"}
TETROMINOES = {"model": "dense_vae", "data": "tetrominoes"}
# The parts of the measure `learning_curve`, under the names by which its figures show them.
NESTED_PARTS = {f"test_nested{half}": f"test{half}" for half in ("", "_a", "_b")}
RD = ("rate", "distortion samples=1")
TEST_D = "test distortion D (nats per image)"


@figures.described(
    "The paper's figure 3: rate and distortion at the end of training, mean over seeds with standard "
    "deviation, each budget by itself. Star: beta = 1. Grey diagonals: equal D + R. Dotted: the floor of D, "
    "the entropy of the test images' own pixels.",
    "Distortion over rate for training and test images, a panel for each depth and budget, a point for each "
    "beta, with a star at beta 1.",
    claims=("3.1", "3.2", "3.3", "3.5"),
)
def figure_3(table: pd.DataFrame) -> Figure:
    """Figure 3: rate-distortion curves on training and test images, a panel for each depth and training set.

    Each row has one budget, the largest first. The dotted line is the floor of D on the test images.
    """

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        figures.rate_distortion(rows, ax)
        floor = select(rows, "distortion_floor", part="test")["value"].mean()
        ax.axhline(floor, color=GREY, ls=":", lw=1)

    groups, panels, rows = _by_depth(table)
    drawn = pd.concat([_points(rows, *figures.PARTS), select(rows, "distortion_floor", part="test")])
    return grid(groups, draw, panels, measures=(*RD, "distortion_floor"), drawn=drawn)


@figures.described("Rate and distortion by point, in nats per image: means over seeds with standard deviations")
def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers of figure 3 as text, a row for each point: means over seeds with standard deviations, in nats.

    D is at one sample of z, and stands beside its floor on the same images.
    """
    lines = []
    for text, rows in _curves(_compared(table)):
        for (depth, beta), point in rows.groupby(["depth", "beta"]):
            line = {"images": text.split(":")[0], "steps": f"{point['steps'].iloc[0]:,}", "layers": depth}
            line |= {"units": f"{point['hidden'].iloc[0]:g}", "beta": f"{beta:g}", "seeds": seeds(point)}
            for part in figures.PARTS:
                values = {
                    "R": select(point, "rate", part=part),
                    "D": select(point, "distortion", part=part, samples=1),
                    "floor": select(point, "distortion_floor", part=part).head(1),  # the images' own
                }
                line |= {f"{name} ({part})": mean_sd(of["value"], empty="diverged") for name, of in values.items()}
            lines.append(line)
    return pd.DataFrame(lines)


@figures.described(
    "The paper's figure 4: test curves by size of the training set, mean over seeds with standard deviation.",
    "Four panels of test distortion over rate, for constant volume and constant density, one and three "
    "layers, a curve for each size of the training set.",
    claims=("3.9", "3.10"),
)
def figure_4(table: pd.DataFrame) -> Figure:
    """Figure 4: test curves by size of the training set, at constant volume (top) and at constant density (bottom)."""

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        for n_train, look in figures.looks(SIZES, "{:,} images"):
            _curve(ax, having(rows, n_train=n_train), **look)
        _finish(ax)

    rows = _one_budget(having(table, **TETROMINOES, split=("cv", "cd"), n_train=SIZES, depth=DEPTHS))
    panels = {
        f"{name}, {layers(depth)}": {"split": split, "depth": depth}
        for split, name in (("cv", "constant volume"), ("cd", "constant density"))
        for depth in DEPTHS
    }
    return _rd_grid([rows], draw, panels, "test", wrap=2, sharex=True, sharey=True)


@figures.described(
    "The paper's figure 5, and the histogram of its appendix: three splits, and how far their test images lie "
    "from the nearest training image.",
    "Test curves of three splits for one and for three layers, and a histogram of the distance of test images "
    "to the nearest training image in each split.",
    claims=("3.11",),
)
def figure_5(table: pd.DataFrame) -> Figure:
    """Figure 5: test curves of three splits; right, how far their test images lie from the nearest training image.

    The histogram is of the first 10,000 test images, in bins of 0.25 (L2 distance of images in [0, 1]); no training
    changes it. The paper has it in its appendix.
    """
    splits = {name: having(table, **TETROMINOES, **where) for name, (where, _) in SPLITS.items()}
    # CV(82k/82k) under that of its two names of which there is more, as in claim 3.11: they are never mixed.
    halves = having(table, **TETROMINOES, split="random", n_train=(81_920, None))
    splits["CV(82k)"] = max(splits["CV(82k)"], halves, key=lambda rows: rows["key"].nunique())

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
        for ax, depth in zip(axes[:2], DEPTHS, strict=True):
            for name, members in splits.items():
                same = having(rows, depth=depth, key=tuple(members["key"]))
                _curve(ax, same, label=name, **SPLITS[name][1])
            ax.set_title(layers(depth))
            _finish(ax)
        for name, members in splits.items():
            counts = distances(members)
            if len(counts):
                edges, colour = BIN * np.arange(len(counts) + 1), SPLITS[name][1]["color"]
                axes[2].stairs(counts / counts.sum(), edges, color=colour, lw=1.5, label=name)
                axes[2].legend(fontsize=8)
        axes[2].set(xlabel="L2 distance to the nearest training image", ylabel="share of test images")
        axes[2].set_title("no training: images alone")

    rows = _one_budget(having(pd.concat(splits.values()), depth=DEPTHS))
    drawn = pd.concat([_points(rows, "test"), *map(_counted, splits.values())])
    return _rd_grid([rows], draw, 3, measures=(*RD, COUNTS), drawn=drawn)


def distances(rows: pd.DataFrame) -> np.ndarray:
    """How many test images of one split lie at a distance in [k, k + 1) / 4 from the nearest training image, by k."""
    counted = _counted(rows)
    return np.bincount(counted["bin"].astype(int), counted["value"]) if len(counted) else np.zeros(0)


def _counted(rows: pd.DataFrame) -> pd.DataFrame:
    """The counts of one split, read off one of its members: they are the same whichever it is."""
    rows = select(rows, COUNTS, part="test")
    return rows[rows["key"] == rows["key"].min()]


@figures.described(
    "The paper's figure 6: CV(16k), fully connected and convolutional networks.",
    "Four panels of distortion over rate on training and test images, for fully connected and convolutional "
    "networks of one and three layers.",
    claims=("3.12",),
)
def figure_6(table: pd.DataFrame) -> Figure:
    """Figure 6: CV(16k), training and test curves of fully connected and convolutional networks, 1 and 3 layers."""

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        for part, (colour, marker, name) in figures.PARTS.items():
            _curve(ax, rows, part, color=colour, marker=marker, label=name)
        _finish(ax)

    where = {"data": "tetrominoes", "split": "cv", "n_train": 16_384, "depth": DEPTHS}
    nets = [_one_budget(having(table, model=model, **where)) for model in NETS]
    panels = {
        f"{net}, {layers(depth)}": {"model": model, "depth": depth} for model, net in NETS.items() for depth in DEPTHS
    }
    return _rd_grid(nets, draw, panels, *figures.PARTS, wrap=2, sharey=False)


@figures.described(
    "The paper's figure 7: other data, a tenth of the training images.",
    "Four panels of test distortion over rate, one for each of Fashion-MNIST, MNIST, SmallNORB and 3dShapes, "
    "with one and three layers.",
    claims=("3.13",),
)
def figure_7(table: pd.DataFrame) -> Figure:
    """Figure 7: test curves on other data, a tenth of the training images, with 1 and 3 layers; a panel a set."""

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        for depth, colour, marker in zip(DEPTHS, (BLUE, ORANGE), "os", strict=True):
            _curve(ax, having(rows, depth=depth), color=colour, marker=marker, label=layers(depth))
        _finish(ax)

    where = {"model": "dense_vae", "split": "cv", "depth": DEPTHS}
    sets = [_one_budget(having(table, data=name, n_train=n_train, **where)) for name, n_train in OTHERS.items()]
    panels = {data.title(name): {"data": name} for name in OTHERS}
    return _rd_grid(sets, draw, panels, "test", width=3.4, sharey=False)


@figures.described(
    "Distortion while training, on the same test images at every step (the first 10,000; of members without "
    "that measure, all), mean over seeds, each budget by itself.",
    "Test distortion over training steps on logarithmic axes, one curve for each beta, a panel for each depth "
    "and budget.",
)
def learning_curves(table: pd.DataFrame) -> Figure:
    """D on test images over training steps: has a curve come to rest, and is its order over beta still changing?

    On the images of `_while_training`.
    """

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        figures.learning_curves(_while_training(rows), "distortion", ax, betas=betas)
        ax.set(ylabel=TEST_D, yscale="log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))

    groups, panels, rows = _by_depth(table)
    betas = rows["beta"].unique()
    drawn = _as_measured(having(_while_training(rows), part="test"))
    return grid(groups, draw, panels, measures=("distortion",), drawn=drawn, history=True, legend=True)


@figures.described(
    "What early stopping would change: distortion on one half of the first 10,000 test images at the end, and at the "
    "snapshot that was best on the other half; mean over seeds with standard deviation.",
    "Test distortion over beta, at the end of training and at each member's best snapshot, a panel for each "
    "depth and budget.",
    claims=("3.4",),
)
def early_stopping(table: pd.DataFrame) -> Figure:
    """What early stopping would give: test D over beta at each member's best snapshot, beside D at the end.

    The snapshot is chosen on one half of the test images, D is taken on the other (claim 3.4), both of those of
    `_while_training`.
    """

    def curves(rows: pd.DataFrame) -> pd.DataFrame:
        rows = _while_training(rows)
        of = {
            "at the end": select(rows, "distortion", part="test_b"),
            "stopped early": stopped_early(rows, ("test_a", "test_b")),
        }
        return pd.concat([of[curve].assign(curve=curve) for curve in STOPPED])

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        rows = curves(rows)
        rows = rows.assign(step=rows["steps"])  # whenever a member was stopped, that is its end here
        for curve, look in STOPPED.items():
            figures.over_beta(having(rows, curve=curve), "distortion", ax, part="test_b", **look)
        ax.set(ylabel=TEST_D)

    groups, panels, rows = _by_depth(table)
    figure = grid(groups, draw, panels, legend=True)
    return figures.with_data(figure, csv(_as_measured(curves(rows)), "distortion", last=False, steps_apart=False))


def _while_training(rows: pd.DataFrame) -> pd.DataFrame:
    """Each member's D at every snapshot on the same test images, and on either half of them: test, test_a, test_b.

    They are the first 10,000, of the measure `learning_curve`; of a member that lacks it, all that `rate_distortion`
    took of it. Column `measured_part` has the part under which the value was taken.
    """
    rows = select(rows, "distortion", at="all", samples=1)
    rows = rows.assign(measured_part=rows["part"])
    nested = having(rows, part=tuple(NESTED_PARTS))
    others = rows[~rows["key"].isin(nested["key"])]
    nested = nested.assign(part=nested["part"].map(NESTED_PARTS))
    return pd.concat([nested, having(others, part=tuple(NESTED_PARTS.values()))])


def _as_measured(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `_while_training` under the parts of the tidy table."""
    return rows.assign(part=rows["measured_part"]).drop(columns="measured_part")


@figures.described(
    "The paper's figure 8: the two parts of the rate over beta, mutual information (MI) and marginal KL. Solid: q(z) "
    "over all N training images. "
    "Dotted: the paper's estimate from batches of 512, which lies on the solid line but where the information "
    "is below the ceiling, and above it there. Dashed: the ceiling log N.",
    "Mutual information and marginal KL over beta on logarithmic axes, by two estimators, with the ceiling "
    "log N as a dashed line.",
    claims=("3.14", "3.15"),
)
def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: mutual information and marginal KL over beta, by both estimators, with the ceiling log N."""

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        for estimator, (words, dash) in ESTIMATORS.items():
            for measure, look in RATE_PARTS.items():
                look = look | {"label": f"{look['label']}, {words}", "ls": dash}
                figures.over_beta(rows, measure, ax, {"estimator": estimator}, **look)
        for ceiling in select(rows, "mi_ceiling")["value"].unique():
            ax.axhline(ceiling, color=GREY, ls="--", lw=1, label="ceiling log N")
        ax.set(ylabel="nats per image", yscale="log")
        ax.yaxis.set_major_formatter(LogFormatter())
        ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.4)))

    groups, panels, rows = _by_depth(table)
    drawn = having(rows, part="train")
    return grid(groups, draw, panels, measures=(*RATE_PARTS, "mi_ceiling"), drawn=drawn, legend=True)


@figures.described(
    "Test distortion with either part of the rate in the loss or out of it; 3 layers, mean over seeds with "
    "standard deviation.",
    "Test distortion after training with the mutual information and the marginal KL each in or out of the loss.",
    claims=("3.16",),
)
def parts_removed(table: pd.DataFrame) -> Figure:
    """Test D after training with the mutual information and the marginal KL each in the loss or out of it (claim 3.16).

    A panel for each budget and training set of fully connected networks of 3 layers with the objective `mi_kl`, a point
    for each pair of weights, mean over seeds with standard deviation.
    """
    words = {0: "out", 1: "in"}

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        pairs = rows.groupby(["mi", "kl"])
        figures.line(ax, rows.assign(pair=pairs.ngroup()), "pair", marker="o", ls="none", color=ORANGE)
        names = [f"MI {words.get(mi, mi)}, KL {words.get(kl, kl)}" for mi, kl in pairs.groups]
        ax.set_xticks(range(len(names)), names)
        ax.set(ylabel=TEST_D, xlim=(-0.5, len(names) - 0.5))

    rows = having(table, **TETROMINOES, objective="mi_kl", depth=3)
    rows = select(rows, "distortion", part="test", samples=1)
    return grid(training_sets(rows), draw, {"3 layers": {}}, measures=("distortion",), width=5.2)


SHARES: dict[str, dict[str, Any]] = {
    "train": {"color": BLUE, "marker": "o", "label": "training image"},
    "control": {"color": GREY, "marker": "s", "label": "control image"},
}


@figures.described(
    "Memorisation over beta. Left: how often the nearest training image is nearer to a reconstruction than the nearest "
    "control image, less one half; 0 is no preference. Right: the share of test images whose reconstruction is nearer "
    "to a training image, or to a control image, than to its own target.",
    "Two panels over beta on a logarithmic axis: the preference for training images with a line at zero, and the "
    "shares of reconstructions that are nearer to a training image or to a control image than to their target.",
    claims=("3.6",),
)
def memorisation(table: pd.DataFrame) -> Figure:
    """The preference for training images over beta, and the two shares behind it (claim 3.6), of the deepest nets."""

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
        figures.over_beta(rows, "train_preference", axes[0], part="test", color=ORANGE)
        axes[0].axhline(0, color=GREY, lw=1)
        axes[0].set(ylabel="preference for training images")
        for among, look in SHARES.items():
            figures.over_beta(rows, "nearer_than_target", axes[1], {"among": among}, part="test", **look)
        axes[1].set(ylabel="share nearer than its target")
        axes[1].legend()

    measures = ("train_preference", "nearer_than_target")
    rows = having(table[table["beta"].notna()], **TETROMINOES, split="cv", n_train=16_384)
    deepest = having(rows, depth=rows["depth"].max()) if len(rows) else rows
    groups = [(text, own) for text, own in training_sets(deepest) if len(select(own, "train_preference"))]
    return grid(groups[:1], draw, 2, measures=measures)


@figures.described(
    "Two bounds of log p(x) of test images over beta, in nats per image: the ELBO, -(D + R) whatever beta was trained "
    "with, and the importance-weighted bound. Grey: from 0.05 to 0.3, where the paper has the maximum.",
    "The ELBO and the importance-weighted bound of log p(x) of test images over beta on a logarithmic axis, with the "
    "range from 0.05 to 0.3 shaded.",
    claims=("3.7", "3.8"),
)
def bounds(table: pd.DataFrame) -> Figure:
    """The ELBO and the importance-weighted bound of test images over beta (claims 3.7 and 3.8), a panel a depth."""

    def draw(ax: Axes, rows: pd.DataFrame) -> None:
        both = [select(rows, "rate", part="test"), select(rows, "distortion", part="test", samples=1)]
        elbo = -pd.concat(both).groupby(["key", "beta", "seed"])["value"].agg(lambda values: values.sum(skipna=False))
        figures.line(ax, elbo.reset_index(), "beta", color=ORANGE, marker="o", label="ELBO, -(D + R)")
        figures.over_beta(rows, "log_likelihood", ax, part="test", color=GREEN, marker="s", label="log p(x), bound")
        ax.axvspan(0.05, 0.3, color="#eeeeee", zorder=0)
        ax.set(xscale="log", xlabel="beta", ylabel="nats per image")

    groups, panels, rows = _by_depth(table)
    drawn = pd.concat([_points(rows, "test"), select(rows, "log_likelihood", part="test")])
    return grid(groups, draw, panels, measures=(*RD, "log_likelihood"), drawn=drawn, legend=True)


# Which rows a figure shows


def training_sets(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each budget and training set with its label, the largest budget first."""
    groups = budgets(table, AXES)
    return [
        (f"{training_set(*rows[['split', 'n_train']].iloc[0])}: {budget_label(rows, AXES)}", rows) for rows in groups
    ]


def training_set(split: str, n_train: float) -> str:
    """A training set, as the paper writes it: CV(16,384)."""
    return f"{NAMES.get(split, split)}{'' if pd.isna(n_train) else f'({int(n_train):,})'}"


def seeds(rows: pd.DataFrame) -> str:
    """How many seeds have a distortion at the end, and how many members diverged, as text."""
    ended = select(rows, "distortion", part="test", samples=1).dropna(subset="value")
    lost = rows["key"].nunique() - ended["key"].nunique()
    return f"{ended['seed'].nunique()}" + (f" ({lost} diverged)" if lost else "")


def _by_depth(table: pd.DataFrame) -> tuple[list[tuple[str, pd.DataFrame]], dict[str, dict[str, Any]], pd.DataFrame]:
    """For `grid`, a panel for each depth: the budgets and the panels; and the rows of all of them.

    Depths at which every member of a budget diverged are left out.
    """
    table = _compared(table)
    networks = sorted(set(zip(table["model"], table["depth"], strict=True)))
    panels = {f"{depth}-layer {NETS[model]}": {"model": model, "depth": depth} for model, depth in networks}
    ended = [(text, rows, figures.finite(select(rows, "rate"))) for text, rows in _curves(table)]
    trained = [(text, having(rows, depth=tuple(rates["depth"]))) for text, rows, rates in ended]
    groups = [(text, rows) for text, rows in trained if len(rows)]
    return groups, panels, pd.concat([table[:0], *(rows for _, rows in groups)])


def _curves(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The training sets of two betas or more, and those asked for beside stored ones; all, where that leaves none."""
    groups = training_sets(table)
    beside = "asked" in table and not table["asked"].all()
    curves = [(text, rows) for text, rows in groups if rows["beta"].nunique() > 1 or (beside and rows["asked"].any())]
    return curves or groups


def _compared(table: pd.DataFrame) -> pd.DataFrame:
    """What figures 3 and 8 show: dense and sparse Tetrominoes, and those of the quick scale; all, where there are none.

    Other sizes, splits, sets and networks have figures of their own, and so have the members without a beta.
    """
    table = table[table["beta"].notna()]
    named = having(table, **TETROMINOES, split=("cv", "random"), n_train=(4_096, 16_384, 81_920, None))
    return named if len(named) else table


def _one_budget(table: pd.DataFrame) -> pd.DataFrame:
    """The budget to compare curves at: the largest with two curves of three betas; without one, that of most points."""

    def worth(rows: pd.DataFrame) -> tuple[bool, int, int]:
        betas = rows.groupby(["split", "n_train", "depth"], dropna=False)["beta"].nunique()
        comparable = (betas >= 3).sum() >= 2
        return comparable, rows["steps"].iloc[0] if comparable else 0, betas.sum()

    table = table[table["beta"].notna()]
    return max(budgets(table, TRAINING_SETS), key=worth, default=table[:0])


# Curves of D over R


def _points(rows: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """The rows that curves of D over R draw, of the parts named: of each member both values, or neither."""
    both = pd.concat([select(rows, "rate", part=parts), select(rows, "distortion", part=parts, samples=1)])
    both = both[both["value"].notna()]
    return both[both.groupby(["key", "part"])["measure"].transform("size") == 2]


def _rd_grid(compared: Sequence[pd.DataFrame], draw: Callable, columns: Any, *parts: str, **how: Any) -> Figure:
    """A grid of such curves, of what `_one_budget` gives, with the data of these parts."""
    groups = [(budget_label(rows, TRAINING_SETS), rows) for rows in compared if len(rows)]
    data = {"measures": RD, "drawn": _points(pd.concat(compared), *parts)}
    return grid(groups, draw, columns, missing="not run yet", **(data | how))


def _curve(ax: Axes, rows: pd.DataFrame, part: str = "test", **how: Any) -> None:
    """A curve of D, at one sample of z, over R on the images of a part."""
    figures.rd_curve(_points(rows, part), ax, **how)


def _finish(ax: Axes) -> None:
    """The axes and the legend of curves of D over R, where there are any, whatever is empty beside them."""
    if ax.has_data():
        ax.tick_params(labelbottom=True, labelleft=True)
        figures.rd_axes(ax)
        ax.legend(fontsize=8)
