"""Study 3's data, its members' pictures, and its explorer."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from vaekit import data, figures
from vaekit.figures import mean_sd, panels
from vaekit.store import ImageGrid, StoreError, UnreadableError
from vaekit.store.table import select
from vaekit.studies import playing
from vaekit.studies.rate_generalisation import SPEC, Settings, layers
from vaekit.studies.rate_generalisation.claims import CLAIMS
from vaekit.studies.rate_generalisation.figures import NAMES, seeds, training_sets
from vaekit.sweep import image_grids

# Numbers of memorisation (claim 3.6), of members that have them: measure and arguments by name.
MEMORISATION: dict[str, tuple[str, dict[str, Any]]] = {
    "preference for training images": ("train_preference", {}),
    "share nearer to a training image": ("nearer_than_target", {"among": "train"}),
    "share nearer to a control image": ("nearer_than_target", {"among": "control"}),
}


PARTS_SHOWN = ("test", "train")  # in the order of their looks
LEAST_STEPS = min(claim.steps for claim in CLAIMS if claim.steps)


# The data


@figures.described(
    "The paper's figure 1: Tetrominoes, drawn at random.",
    "A sheet of 96 small colour images, each a J-shaped tetromino of another place, size, angle and hue on black.",
)
def figure_1(columns: int = 16, rows: int = 6) -> Figure:
    """Figure 1: a random grid of Tetrominoes."""
    tetrominoes = data.load("tetrominoes")
    chosen = tetrominoes.split("random").train[: columns * rows]
    return figures.pictures(tetrominoes.take(chosen), columns)


def factors(columns: int = 12) -> Figure:
    """Tetrominoes along each of the five factors, a row each, drawn exactly there; the other factors stay."""
    position = torch.tensor([0.1, 0.6, 0.8, 0.5, 0.5], dtype=torch.float64).repeat(5, columns, 1)
    for factor in range(5):
        position[factor, :, factor] = torch.linspace(0, 1, columns, dtype=torch.float64)
    return figures.pictures(data.tetrominoes.draw(data.tetrominoes.factors(position.flatten(0, 1))), columns)


def _positions(tetrominoes: Any) -> torch.Tensor:
    """The factors of each image, scaled to [0, 1]."""
    low, high = tetrominoes.factors.min(0).values, tetrominoes.factors.max(0).values
    return (tetrominoes.factors - low) / (high - low)


@figures.described(
    "The paper's figure 2: the four splits, shown over two of the five factors for images that lie near the "
    "middle of the other three. Above each: the number of training and test images.",
    "Four scatter plots of training and test images over two factors: mixed, in checkerboard blocks, in a "
    "smaller box, and few training images spread over all.",
)
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


@figures.described(
    "The paper's figure 3, its pictures: test images that are hard to reconstruct, at the 90th percentile of "
    "the distance to the nearest training image; what members of one seed make of them, by beta; and, below, "
    "the training image nearest to each reconstruction.",
    "For each depth, rows of small colour images: test images, their reconstructions at each beta, and below "
    "each reconstruction the training image nearest to it.",
)
def figure_3_pictures(table: pd.DataFrame, settings: Settings, images: int = 3) -> Figure:
    """Figure 3's pictures: hard test images, and what members of one seed make of them, by beta.

    Below each reconstruction is the training image that is nearest to it. A panel for each depth, of the largest budget
    that has two betas or more and pictures.
    """
    by_size = ((label, _grids(rows, settings)) for label, rows in _largest_first(table))
    label, by_depth = next((budget for budget in by_size if budget[1]), ("", {}))
    if not by_depth:
        return figures.nothing("No pictures are stored of these members.")
    most = max(len(grids) for _, grids in by_depth.values())
    figure, axes = panels(len(by_depth), 1, width=1.8 + 0.9 * (1 + most), height=0.9 * 2 * images)  # 1.8: the labels
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
    """Move through the members: their places on the rate-distortion plane, their pictures and their numbers.

    Points are means over seeds with standard deviations; pictures are of one seed. It begins with the largest budget
    that has three betas or more.
    """
    how: dict[str, Any] = {"x": "rate R (nats per image)", "y": "distortion D (nats per image)", "diagonals": "D + R"}
    how |= {"colour": "beta", "shape": "layers", "along": "beta"}
    how |= {"series": [figures.PARTS[part][2] for part in PARTS_SHOWN]}
    return playing.shown(SPEC, table, settings, points, playing.vary_weights, ["beta"], **how)


def points(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The members of every budget and training set, as `widgets.playground` takes them."""
    groups = [(label, _points(rows)) for label, rows in training_sets(table[table["beta"].notna()])]
    groups.sort(key=lambda group: len({point["axes"]["beta"] for point in group[1]}) < 3)  # else the largest first
    return playing.in_budgets(groups)


def _points(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The members of one budget and training set: a point for each depth and beta."""
    placed = playing.places_of(_rates(rows), ["depth", "beta"])
    return [_point(place, placed.get(place, {}), own) for place, own in rows.groupby(["depth", "beta"])]


def _rates(rows: pd.DataFrame) -> pd.DataFrame:
    """R and D of each member at each snapshot: on all images where they were measured, else on the nested ones."""
    names = {part: figures.PARTS[part][2] for part in PARTS_SHOWN}
    measured = [
        select(rows, "rate", at="all", part=part)
        .merge(
            select(rows, "distortion", at="all", part=part, samples=1)[["key", "step", "value"]],
            on=["key", "step"],
            suffixes=("", "_d"),
        )
        .assign(series=name)
        for part, name in (*names.items(), *((f"{part}_nested", name) for part, name in names.items()))
    ]
    rates = pd.concat(measured).drop_duplicates(["key", "step", "series"])
    return rates.assign(snapshot=rates["step"], x=rates["value"], y=rates["value_d"])


def _point(place: tuple[int, float], places: dict[float, Any], rows: pd.DataFrame) -> dict[str, Any]:
    (depth, beta), first = place, rows.iloc[0]
    numbers, sentence = {"seeds": seeds(rows)}, "not trained to its end"
    ended = places.get(first["steps"], {})
    for part in PARTS_SHOWN:
        r = select(rows, "rate", part=part).set_index("seed")["value"]
        d = select(rows, "distortion", part=part, samples=1).set_index("seed")["value"]
        both = pd.DataFrame({"r": r, "d": d}).dropna()
        if len(both):
            numbers[f"D ({part}), nats per image"] = mean_sd(both["d"])
            numbers[f"R ({part}), nats per image"] = mean_sd(both["r"])
        if len(both) and part == "test":
            count = f"{len(both)} seed{'s' if len(both) > 1 else ''}"
            sentence = f"test D {both['d'].mean():.1f}, R {both['r'].mean():.1f} nats per image, {count}"
    for name, (measure, where) in MEMORISATION.items():
        values = select(rows, measure, part="test", **where)["value"].dropna()
        if len(values):
            few = f" ({len(values)} of the seeds)" if len(values) < rows["seed"].nunique() else ""
            numbers[name] = mean_sd(values, ".3f") + few
    return {
        "axes": {"layers": int(depth), "beta": float(beta)},
        "group": f"{data.title(first['data'])}, {NAMES.get(first['split'], first['split'])}",
        "faint": playing.short(first["steps"], LEAST_STEPS),
        "places": places if ended else {},
        "numbers": numbers,
        "says": f"beta {beta:g}, {layers(depth)}: {sentence}",
        "members": playing.members_of(rows),
    }


def _largest_first(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Each budget and training set of two betas or more, the largest first; where there is none, those of one beta."""

    def betas(rows: pd.DataFrame) -> int:
        ends = select(rows, "distortion", part="test", samples=1)
        return ends.loc[ends["value"].notna(), "beta"].nunique()

    def size(group: tuple[str, pd.DataFrame]) -> tuple[int, int]:
        _, rows = group
        return int(rows["steps"].iloc[0]), len(rows.drop_duplicates(["depth", "beta"]))

    groups = training_sets(table[table["beta"].notna()])
    groups = [(label, rows) for label, rows in groups if betas(rows) >= 2] or groups
    return sorted(groups, key=size, reverse=True)


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
