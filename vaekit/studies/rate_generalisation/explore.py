"""Study 3's data, its members' pictures, and its explorers."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from vaekit import data, figures, widgets
from vaekit.figures import mean_sd, panels
from vaekit.store import ImageGrid, StoreError, UnreadableError, load, load_decoder
from vaekit.store.table import having, select
from vaekit.studies.rate_generalisation import SPEC, Settings, layers
from vaekit.studies.rate_generalisation.figures import TETROMINOES, seeds, training_set, training_sets
from vaekit.sweep import image_grids

# Numbers of memorisation (claim 3.6), of members that have them: measure and arguments by name.
MEMORISATION: dict[str, tuple[str, dict[str, Any]]] = {
    "preference for training images": ("train_preference", {}),
    "share of test images nearer to a training image": ("nearer_than_target", {"among": "train"}),
    "share of test images nearer to a control image": ("nearer_than_target", {"among": "control"}),
}


# The data


def figure_1(columns: int = 16, rows: int = 6) -> Figure:
    """Figure 1: a random grid of Tetrominoes."""
    tetrominoes = data.load("tetrominoes")
    chosen = tetrominoes.split("random").train[: columns * rows]
    return figures.pictures(tetrominoes.take(chosen), columns)


def factors(columns: int = 12) -> Figure:
    """Tetrominoes along each of the five factors, a row each: of all images, those nearest to an even walk."""
    tetrominoes = data.load("tetrominoes")
    position = _positions(tetrominoes)
    chosen = []
    for factor in range(5):
        for share in torch.linspace(0, 1, columns):
            target = torch.tensor([0.1, 0.6, 0.8, 0.5, 0.5])
            target[factor] = share
            chosen.append(((position - target) ** 2).sum(1).argmin())
    return figures.pictures(tetrominoes.take(torch.stack(chosen)), columns)


def _positions(tetrominoes: Any) -> torch.Tensor:
    """The factors of each image, scaled to [0, 1]."""
    low, high = tetrominoes.factors.min(0).values, tetrominoes.factors.max(0).values
    return (tetrominoes.factors - low) / (high - low)


def figure_2(n_train: int = 16_384, shown: int = 1_200) -> Figure:
    """Figure 2: training and test images of the four splits over two of their five factors.

    The images shown are those nearest to the middle of the other three factors; the sparse splits have `n_train`
    training images. (The paper draws 600 made-up points; these are images of the set.)
    """
    tetrominoes = data.load("tetrominoes")
    factors: Any = tetrominoes.factors
    # Off the middle, which is a border of the checkerboard's cells.
    off_centre = ((_positions(tetrominoes)[:, [0, 1, 2]] - torch.tensor([0.4, 0.4, 0.4])) ** 2).sum(1)
    near = torch.zeros(len(factors), dtype=torch.bool)
    near[off_centre.argsort()[:shown]] = True
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


# The members


class _Budget(NamedTuple):
    """Members of one budget and training set; `grids`: by depth a seed, and its pictures by beta."""

    label: str
    rows: pd.DataFrame
    grids: dict[int, tuple[int, dict[float, ImageGrid]]]


def figure_3_pictures(table: pd.DataFrame, settings: Settings, images: int = 3) -> Figure:
    """Figure 3's pictures: hard test images, and what members of one seed make of them, by beta.

    Below each reconstruction is the training image that is nearest to it. A panel for each depth, of the budget that
    `explore` begins with.
    """
    shown = _budgets(table, settings)[:1]
    if not shown or not shown[0].grids:
        return figures.nothing("No pictures are stored of these members.")
    label, _, by_depth = shown[0]
    figure, axes = panels(len(by_depth), 1, width=8, height=0.9 * 2 * images)
    for ax, (depth, (seed, grids)) in zip(axes[:, 0], by_depth.items(), strict=True):
        tiles = [grid.images[:, :images] for grid in grids.values()]
        columns = [np.stack([tiles[0][0], np.full_like(tiles[0][0], 255)]), *(rows[1:3] for rows in tiles)]
        # (row, image, column, H, W, C): of each image its row of reconstructions above its row of neighbours.
        placed = np.stack(columns, axis=2).swapaxes(0, 1)
        height, width, channels = placed.shape[-3:]
        flat = torch.from_numpy(placed.reshape(-1, height, width, channels)).permute(0, 3, 1, 2)
        figures.pictures(flat, len(columns), ax)
        ax.set_axis_on()
        ax.spines[:].set_visible(False)
        middle = np.arange(len(columns)) * (width + 1) + width / 2
        ax.set_xticks(middle, ["test image", *(f"beta {beta:g}" for beta in grids)])
        ax.xaxis.tick_top()
        names = ["image, reconstructions", "nearest training image"] * images
        ax.set_yticks(np.arange(2 * images) * (height + 1) + height / 2, names)
        ax.tick_params(length=0, labelsize=8)
        ax.set_title(f"{layers(depth)}, seed {seed}: {label}", fontsize=8, parse_math=False)
    return figure


def explore(table: pd.DataFrame, settings: Settings):
    """Move through the members: the point on the curve, its pictures and its numbers follow.

    A list of budgets and training sets, a curve for each depth, and a slider over beta. Points are means over seeds
    with standard deviations; pictures are of one seed a depth. It begins with the budget of `figure_3_pictures`, at a
    member that has pictures.
    """
    shown = _budgets(table, settings)
    points = [(budget.label, _points(budget)) for budget in shown]
    start = _start(shown[0]) if shown else None
    return widgets.by_budget(settings.source, points, start, diagonals="D + R")


def _points(budget: _Budget) -> list[dict[str, Any]]:
    """The points of the widget: of each depth and beta the members, which differ in their seeds."""
    return [_point(depth, beta, rows, budget) for (depth, beta), rows in budget.rows.groupby(["depth", "beta"])]


def _point(depth: int, beta: float, rows: pd.DataFrame, budget: _Budget) -> dict[str, Any]:
    numbers, series, sentence = {"seeds": seeds(rows)}, {}, "not trained to its end"
    for part, (_, _, name) in figures.PARTS.items():
        r = select(rows, "rate", part=part).set_index("seed")["value"]
        d = select(rows, "distortion", part=part, samples=1).set_index("seed")["value"]
        both = pd.DataFrame({"r": r, "d": d}).dropna()
        if len(both):
            mean, spread = both.mean(), both.std().fillna(0)
            series[name] = (mean["r"], mean["d"], spread["r"], spread["d"])
            numbers[f"D ({part}), nats per image"] = mean_sd(both["d"])
            numbers[f"R ({part}), nats per image"] = mean_sd(both["r"])
            count = f"{len(both)} seed{'s' if len(both) > 1 else ''}"
            sentence = f"{part} D {mean['d']:.1f}, R {mean['r']:.1f} nats per image, {count}"
    for name, (measure, where) in MEMORISATION.items():
        values = select(rows, measure, part="test", **where)["value"].dropna()
        if len(values):
            few = f" ({len(values)} of the seeds)" if len(values) < rows["seed"].nunique() else ""
            numbers[name] = mean_sd(values, ".3f") + few
    seed, grids = budget.grids.get(depth, (None, {}))
    grid = grids.get(beta)
    alt = "No pictures are stored of this member."
    if grid:
        alt = f"{layers(depth)}, beta {beta:g}, seed {seed}; rows from above: {', '.join(grid.labels)}"
    return {
        "axes": {"layers": int(depth), "beta": float(beta)},
        "series": series,
        "numbers": numbers,
        "says": f"beta {beta:g}, {layers(depth)}: {sentence}",
        "picture": widgets.grid_png(grid) if grid else None,
        "alt": alt,
    }


def _start(budget: _Budget) -> dict[str, Any]:
    """Where to begin in a budget: the depth of which most is pictured, of those the largest."""
    betas = {depth: sorted(grids) for depth, (_, grids) in budget.grids.items()}
    betas = betas or {depth: sorted(rows["beta"].unique()) for depth, rows in budget.rows.groupby("depth")}
    depth = max(betas, key=lambda depth: (len(betas[depth]), depth))
    return {"layers": depth, "beta": betas[depth][len(betas[depth]) // 2]}


def _budgets(table: pd.DataFrame, settings: Settings) -> list[_Budget]:
    """Each budget and training set with its pictures.

    The first is the largest with two betas or more and pictures; without pictures, with two betas. The others follow,
    the largest first. A budget of a single beta has no curve: it is there where no other is.
    """

    def betas(rows: pd.DataFrame) -> int:
        ends = select(rows, "distortion", part="test", samples=1)
        return ends.loc[ends["value"].notna(), "beta"].nunique()

    def size(budget: _Budget) -> tuple[int, int]:
        return int(budget.rows["steps"].iloc[0]), len(budget.rows.drop_duplicates(["depth", "beta"]))

    groups = training_sets(table[table["beta"].notna()])
    groups = [(label, rows) for label, rows in groups if betas(rows) >= 2] or groups
    shown = [_Budget(label, rows, _grids(rows, settings)) for label, rows in groups]
    shown.sort(key=size, reverse=True)
    if pictured := [i for i, budget in enumerate(shown) if budget.grids]:
        shown.insert(0, shown.pop(pictured[0]))
    return shown


def _grids(rows: pd.DataFrame, settings: Settings) -> dict[int, tuple[int, dict[float, ImageGrid]]]:
    """For each depth with pictures, a seed and its pictures by beta: one that was asked for, and has most of them."""
    best: dict[int, tuple[int, dict[float, ImageGrid]]] = {}
    ranks: dict[int, tuple[bool, int]] = {}
    members = rows.drop_duplicates("key").sort_values(["depth", "seed", "beta"])
    for (depth, seed), same in members.groupby(["depth", "seed"]):
        grids: dict[float, ImageGrid] = {}
        for row in same.itertuples():
            try:
                grid = image_grids.of(SPEC, row.key, settings.store)
            except UnreadableError:
                raise
            except (data.DataError, StoreError):
                continue  # images that are not here, or damaged weights, which `vaekit runs verify` names
            if grid:
                grids[float(row.beta)] = grid
        rank = bool(same["asked"].any()), len(grids)
        if grids and rank > ranks.get(int(depth), (False, 0)):
            best[int(depth)], ranks[int(depth)] = (int(seed), grids), rank
    return best


def decode(table: pd.DataFrame, settings: Settings):
    """A decoder to move: of the members whose weights are here, asked for, most steps and layers, beta nearest 1.

    From the source "results" it is one that `results/` carries: a page is the same whoever builds it.
    """
    members = having(table.drop_duplicates("key"), **TETROMINOES, status="finished")
    members = members[members["beta"].notna()]
    members = members.assign(off=np.abs(np.log(members["beta"].clip(lower=1e-6))))
    first = {"asked": False, "steps": False, "depth": False, "off": True, "seed": True}
    members = members.sort_values(list(first), ascending=list(first.values()))
    for row in members.itertuples():
        caption = f"{layers(row.depth)}, beta {row.beta:g}, seed {row.seed}, {row.steps:,} steps, "
        caption += f"{row.data}, {training_set(row.split, row.n_train)}"
        try:
            store = settings.store
            model = load(row.key, store=store) if store else load_decoder(row.key)
            return widgets.show(settings.source, widgets.decoder(model, caption))
        except UnreadableError:
            raise
        except (StoreError, ValueError):
            continue  # neither stored here nor carried; or more than a page can run
    return widgets.Page(
        "<p>No decoder of these members is here. Ask for a seed of your own, say seeds = [7], or carry one in results/ "
        "(export --decoders).</p>"
    )
