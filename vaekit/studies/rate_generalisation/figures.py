"""Study 3's figures, after Bozkurt et al. (2021). Numbers of figures are the paper's."""

from collections.abc import Callable

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit import data, figures, runs, sweep, tidy
from vaekit.figures import GREEN, GREY, PURPLE, panels
from vaekit.settings import Settings


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

    both = table[table["part"].isin(figures.PARTS)]
    drawn = tidy.csv(both, "rate", "distortion samples=1", "distortion_floor")
    return figures.with_data(_by_depth(table, draw), drawn)


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
    for label, group in _panels(table):
        for (depth, beta), point in group.groupby(["depth", "beta"]):
            row = {"images": label.split(":")[0], "steps": f"{point['steps'].iloc[0]:,}", "layers": depth}
            row |= {"beta": f"{beta:g}", "seeds": point["seed"].nunique()}
            for name, (part, measure, arguments) in columns.items():
                values = tidy.last(point, measure, part=part, arguments=arguments)["value"]
                spread = f" ± {values.std():.1f}" if len(values) > 1 and "floor" not in name else ""
                row[name] = f"{values.mean():.1f}{spread}"
            rows.append(row)
    return pd.DataFrame(rows)


def learning_curves(table: pd.DataFrame) -> Figure:
    """D on the test images over training steps: has a curve come to rest, and is its order over beta still changing?"""

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        figures.learning_curves(shown, "distortion", "samples=1", ax)
        ax.set(ylabel="test distortion D (nats per image)", yscale="log")
        if figures.leftmost(ax):
            ax.legend(ncols=2)

    drawn = tidy.csv(table[table["part"] == "test"], "distortion samples=1", last=False)
    return figures.with_data(_by_depth(table, draw), drawn)


def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: mutual information and marginal KL over beta, by both estimators, with the ceiling log N."""

    def draw(ax: Axes, shown: pd.DataFrame) -> None:
        for estimator, dash in (("exact", "-"), ("batch512", ":")):
            how = {"arguments": f"estimator={estimator}", "ls": dash}
            for measure, colour, marker, name in (
                ("mutual_information", GREEN, "o", "mutual information"),
                ("marginal_kl", PURPLE, "s", "marginal KL"),
            ):
                label = f"{name}, {estimator}"
                figures.over_beta(shown, measure, ax, color=colour, marker=marker, label=label, **how)
        ceiling = tidy.last(shown, "mi_ceiling")["value"].iloc[0]
        ax.axhline(ceiling, color=GREY, ls="--", lw=1, label="ceiling log N")
        ax.set(ylabel="nats per image", yscale="log")
        if figures.leftmost(ax):
            ax.legend(loc="lower left")

    drawn = tidy.csv(table, "mutual_information", "marginal_kl", "mi_ceiling")
    return figures.with_data(_by_depth(table, draw), drawn)


def explore(table: pd.DataFrame, chosen: Settings):
    """Move through the members asked for: the rate-distortion point, and what it makes of eight test images.

    In JupyterLab a widget with a slider for each axis; in a book a figure of one point, drawn from the table alone.
    """
    from vaekit.widgets import explore  # a book is drawn without widgets

    label, shown = next(iter(tidy.budgets(table[table["asked"]])))
    first = tidy.last(shown, "rate", part="test").sort_values("seed").drop_duplicates(["depth", "beta"])
    keys = {(row.depth, row.beta): row.key for row in first.itertuples()}
    store = None if chosen.scale == "published" else runs.default_store()

    def draw(depth: int, beta: float) -> tuple[Figure, str]:
        key = keys[depth, beta]
        figure, axes = panels(1, 2, width=4.4, height=3.4)
        figures.rate_distortion(shown[shown["depth"] == depth].assign(asked=True), axes[0, 0])
        rate, d = (tidy.last(shown, name, part="test", key=key, arguments=how)["value"].iloc[0]
                   for name, how in (("rate", ""), ("distortion", "samples=1")))  # fmt: skip
        axes[0, 0].plot(rate, d, "o", mfc="none", mec="black", ms=13, mew=1.5)
        axes[0, 0].set_title(label, fontsize=8, parse_math=False)
        if store is not None and key in store:
            member = runs.member_of(store.record(key)["member"])
            images = sweep.examples(member.data, member.split, member.n_train, member.n_test).test[:16]
            figures.reconstructions(runs.load(key, store=store), images, axes[0, 1])
        else:
            axes[0, 1].set_axis_off()
            axes[0, 1].text(0, 0.5, "its weights are not here:\nask for a seed of your own, say seeds = [7]")
        return figure, f"{depth} layers, beta {beta:g}: R {rate:.1f}, D {d:.1f} nats per test image"

    return explore(chosen, draw, [{"depth": depth, "beta": beta} for depth, beta in sorted(keys)])


def _by_depth(table: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None]) -> Figure:
    """A panel for each depth, a row for each budget and training set; what is not there stays empty."""
    rows = _panels(table)
    depths = sorted(table["depth"].unique())
    figure, axes = panels(len(rows), len(depths), sharey="row")
    for line, (_, group) in zip(axes, rows, strict=True):
        for ax, depth in zip(line, depths, strict=True):
            shown = group[group["depth"] == depth]
            if len(tidy.last(shown, "rate")):  # where all diverged, there is nothing to draw
                draw(ax, shown)
                ax.set(title=f"{depth}-layer MLP")
            else:
                ax.set_axis_off()
    figures.label_rows(axes, [label for label, _ in rows])
    return figure


def _panels(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of a figure: one for each budget, data set, split and size of the training set."""
    return [
        (f"{split.upper()}{'' if pd.isna(n_train) else f'({int(n_train):,})'}: {label}", group)
        for label, budget in tidy.budgets(table)
        for (_, split, n_train), group in budget.groupby(["data", "split", "n_train"], dropna=False)
    ]
