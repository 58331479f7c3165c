"""Figures across the papers: a point is a network; a row of panels for each image set; colours go with beta."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from vaekit import data, figures
from vaekit.figures import GREY, ORANGE
from vaekit.store.table import commented
from vaekit.studies.across.relations import CHEAP, EARLY, MEASURES, relation, values

COLOURS = "plasma"  # of beta, from blue over red to yellow as in page.html: told apart by the colour-blind, in grey
MARKERS = "os^DvPX*"  # of the seeds, as in page.html
PANEL_POINTS = 3
NOTHING = "too few networks have both"


@figures.described(
    "The intrinsic dimension of z over what it may follow. A point is a network at the end of its training, its colour "
    "is beta, its shape the seed; the dashed line is the most that the mutual information can be.",
    "Scatter plots of the ID of z over the rate, the mutual information and the active units, a row an image set.",
)
def dimension_of_z(table: pd.DataFrame) -> Figure:
    """ID of z over rate, mutual information and active units."""
    return _scatters(table, [("rate", "id_z"), ("mutual_information", "id_z"), ("active_units", "id_z")])


@figures.described(
    "Δ(out → in), how much of the image the reconstruction lacks, over the distortion and over the generalisation gap. "
    "A point's colour is beta, its shape the seed.",
    "Scatter plots of the Information Imbalance from output to input over distortion and gap, a row an image set.",
)
def imbalance_of_the_output(table: pd.DataFrame) -> Figure:
    """Delta(out -> in) over D, and over the gap of D between test and training images."""
    return _scatters(table, [("distortion", "out_in"), ("gap", "out_in")])


@figures.described(
    "The cost of pruning (the accuracy of the network that was tuned as long without pruning, less that of the pruned "
    "one) over MIG, where factors are known, and over the active units of the network that was pruned. A point's "
    "colour is beta, its shape the seed.",
    "Scatter plots of the cost of pruning over MIG and over active units, a row an image set.",
)
def cost_of_pruning(table: pd.DataFrame) -> Figure:
    """Cost of pruning over MIG and over active units."""
    return _scatters(table, [("mig", "cost"), ("active_units", "cost")])


@figures.described(
    "How well each measure at a fifth of the training foretells the test distortion at its end: Spearman's rho over "
    "beta within a seed (grey), which beta alone can make large, and given beta (orange); means over seeds with 95 % "
    "intervals, which are not adjusted for their number.",
    "Intervals of two correlations for each of thirteen measures, a panel for each image set.",
)
def diagnostics(table: pd.DataFrame) -> Figure:
    """Spearman's rho of each measure at a fifth of the training with D at its end, plain and given beta."""
    sets = _sets(values(table))
    if not sets:
        return figures.nothing(NOTHING)
    figure, axes = figures.panels(1, len(sets), width=5.2, height=4.4, sharey=True)
    rows = []
    for ax, (name, measured) in zip(axes[0], sets, strict=True):
        forecasts = [relation(measured, name, early, "distortion") for early in EARLY]
        for look, kind in (((GREY, "o", "over beta"), "plain"), ((ORANGE, "s", "given beta"), "partial")):
            _intervals(ax, [getattr(each, kind) for each in forecasts], *look, shift=0.15 if kind == "plain" else -0.15)
        ax.axvline(0, color=GREY, lw=0.8)
        ax.set(title=data.title(name), xlabel="rho with the distortion at the end", xlim=(-1.05, 1.05))
        ax.set_yticks(range(len(CHEAP)), [MEASURES[each] for each in CHEAP], fontsize=9)
        rows += [
            {"data": name, "measure": each.a, "kind": kind, **dict(zip(("rho", "low", "high"), of, strict=True))}
            for each in forecasts
            for kind, of in (("over beta", each.plain), ("given beta", each.partial))
        ]
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    comment = (
        "rho: Spearman's, of a measure at a fifth of the training with the distortion at its end, within a seed",
        "rho, low, high: mean over seeds and its 95 % interval",
    )
    return figures.with_data(figure, commented(pd.DataFrame(rows), table, *comment))


@figures.described("Each network's measures at the end of its training, means over seeds with standard deviations")
def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """A row for each image set and beta: mean and standard deviation over seeds of every measure."""
    rows = []
    for (name, beta), of_beta in values(table).groupby(["data", "beta"]):
        cells = {title: figures.mean_sd(of_beta[each], ".3g") for each, title in MEASURES.items()}
        rows.append({"images": data.title(str(name)), "beta": f"{beta:g}", "seeds": len(of_beta), **cells})
    return pd.DataFrame(rows)


def _sets(measured: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [(str(name), rows) for name, rows in measured.groupby("data", sort=True)]


def _scatters(table: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> Figure:
    """A panel for each pair (x, y) and image set."""
    sets = _sets(values(table))
    if not any(rows[list(pair)].notna().all(axis=1).sum() >= PANEL_POINTS for _, rows in sets for pair in pairs):
        return figures.nothing(NOTHING)
    figure, axes = figures.panels(len(sets), len(pairs), width=3.4, height=2.3)
    betas = pd.concat([rows["beta"] for _, rows in sets])
    low, high = betas.min(), betas.max()
    norm = LogNorm(low, high) if low > 0 else Normalize(low, high)
    for row, (name, measured) in zip(axes, sets, strict=True):
        for ax, (x, y) in zip(row, pairs, strict=True):
            _scatter(ax, measured, x, y, norm)
        next((ax for ax in row if ax.get_visible()), row[0]).set_title(data.title(name), loc="left")
    ticks = [beta for beta in (0.1, 1, 10) if low <= beta <= high] if low > 0 else [low, high]
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, shrink=0.6, label="beta", ticks=ticks, format="%g")
    bar.minorticks_off()
    drawn = dict.fromkeys(sum(pairs, ()))
    points = pd.concat([rows for _, rows in sets])[["key", "data", "seed", "beta", *drawn]]
    comment = ("a row a network at the end of its training", *(f"{name}: {MEASURES[name]}" for name in drawn))
    return figures.with_data(figure, commented(points, table, *comment))


def _scatter(ax: Axes, measured: pd.DataFrame, x: str, y: str, norm: Normalize) -> None:
    rows = measured.dropna(subset=[x, y])
    if len(rows) < PANEL_POINTS:
        ax.set_visible(False)
        return
    seeds = sorted(measured["seed"].unique())
    for seed, of_seed in rows.groupby("seed"):
        marker = MARKERS[seeds.index(seed) % len(MARKERS)]
        look = {"c": of_seed["beta"], "norm": norm, "cmap": COLOURS, "s": 18, "edgecolors": "none"}
        ax.scatter(of_seed[x], of_seed[y], marker=marker, **look)
    if x == "mutual_information":
        ax.axvline(rows["ceiling"].max(), color=GREY, lw=0.8, ls="--")
    ax.set(xlabel=MEASURES[x], ylabel=MEASURES[y])


def _intervals(
    ax: Axes, intervals: Sequence[tuple[float, float, float]], colour: str, marker: str, label: str, shift: float
) -> None:
    means, lows, highs = np.array(intervals, dtype=float).T
    places = np.arange(len(intervals)) + shift
    errors = np.nan_to_num(np.stack([means - lows, highs - means]))
    look = {"color": colour, "marker": marker, "ls": "none", "capsize": 2, "label": label, "ms": 4}
    ax.errorbar(means, places, xerr=errors, **look)
