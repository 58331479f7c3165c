"""Study 2's pictures and explorer.

Numbers are of the seed that has most of a budget's grid, of those asked for. Pictures are of any seed of a member,
first of those that were asked for; the caption says which.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from vaekit import data, figures
from vaekit.data import DataError
from vaekit.store import ImageGrid, Store, StoreError, UnreadableError
from vaekit.studies import playing
from vaekit.studies.hierarchical_rates import SPEC, Settings, pictured
from vaekit.studies.hierarchical_rates.claims import CLAIMS
from vaekit.studies.hierarchical_rates.figures import (
    AXES,
    INFORMATION,
    IS,
    PSNR,
    R1,
    R2,
    WORTH,
    alike,
    budgets,
    drawn_seed,
    named,
    points_of,
    rows_of,
    titled,
)
from vaekit.sweep import image_grids

NONE_STORED = "No pictures of this member are stored: ask for a seed of your own, say seeds = [7]."
NONE_IN_RESULTS = "results/ has no pictures of this member."
LEAST_STEPS = min(claim.steps for claim in CLAIMS if claim.steps)
NOT_PICTURED = "Pictures are made on the 6 × 6 sub-grid and at betas of 1."


@figures.described(
    "The paper's figure 4: samples (top), test images, and their reconstructions (bottom) of the member with "
    "the best PSNR, the one with the best samples, and the one nearest to betas of 1. Only members that were "
    "trained on the machine at hand or exported with pictures have some.",
    "For up to three members: eight samples of the prior, and eight test images above their reconstructions; "
    "or a note that no pictures are stored.",
)
def figure_4(table: pd.DataFrame, settings: Settings) -> Figure:
    """Figure 4: samples and reconstructions of three members: the best PSNR, the best samples, and betas of 1.

    They are of the largest budget that has pictures of one of them.
    """
    for label, rows in budgets(table):
        chosen, members = _telling(points_of(rows)), _by_point(rows)
        grids = {title: _grid(members[point], settings.store) for title, point in chosen.items()}
        if any(grid for grid, _ in grids.values()):
            return _three(label, chosen, grids)
    return figures.nothing("No pictures of these members are stored; those that are trained here have some.")


def _telling(points: pd.DataFrame) -> dict[str, Any]:
    """The members of figure 4 by their titles, as points (beta2, beta1)."""
    worth = [metric for metric in (PSNR, IS) if metric in points and not (metric == IS and alike(points, IS))]
    chosen: dict[str, Any] = {f"best {metric.partition(' (')[0]}": points[metric].idxmax() for metric in worth}
    nearest = min(points.index, key=lambda point: np.abs(np.log10(np.maximum(point, 1e-9))).sum())
    chosen["both betas 1" if nearest == (1, 1) else "betas nearest to 1"] = nearest
    return chosen


def _three(label: str, chosen: dict[str, Any], grids: dict[str, tuple[ImageGrid | None, str]]) -> Figure:
    figure, axes = figures.panels(1, len(chosen), width=3.6, height=2.0)
    for ax, (title, (grid, words)) in zip(axes[0], grids.items(), strict=True):
        ax.set_title(f"{title}{f', {words}' * bool(grid)}\n{named(chosen[title])}", fontsize=9)
        if grid:
            flat = torch.tensor(grid.images).flatten(0, 1).permute(0, 3, 1, 2)
            figures.pictures(flat, grid.images.shape[1], ax)
        else:
            figures.say(ax, words)
    figure.suptitle(label, x=0.01, ha="left", fontweight="bold", fontsize=9, parse_math=False)
    return figure


def explore(table: pd.DataFrame, settings: Settings) -> Any:
    """Move over the grid: a member's place among the two rates, its pictures and its numbers.

    It begins with the largest budget.
    """
    how: dict[str, Any] = {"x": R2, "y": R1, "colour": "beta2", "shape": "model", "along": "beta1"}
    return playing.shown(SPEC, table, settings, points, playing.vary_weights, ["beta2", "beta1"], **how)


def points(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The members of every budget, as `widgets.playground` takes them."""
    return playing.in_budgets([(label, [*_points(rows)]) for label, rows in budgets(table)])


def _points(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The members of one budget: the numbers of one seed, the pictures of any."""
    points, seed, members, first = points_of(rows), drawn_seed(rows), _by_point(rows), rows.iloc[0]
    rates = rows_of(rows, R2, at="all").merge(
        rows_of(rows, R1, at="all"), on=["key", "step", *AXES], suffixes=("", "_1")
    )
    rates = rates.assign(snapshot=rates["step"], series="members", x=rates["value"], y=rates["value_1"])
    placed = playing.places_of(rates, AXES)
    for point, values in points.dropna(subset=[R2, R1]).iterrows():
        beta2, beta1 = map(float, point)
        numbers = {"seed": f"{seed}", R2: f"{values[R2]:.1f}", R1: f"{values[R1]:.1f}"}
        for metric in values[[name for name in WORTH if name in points]].dropna().index:
            digits = 2 if metric in (PSNR, INFORMATION) else 3
            numbers[titled(points, metric)] = f"{values[metric].round(digits) + 0:.{digits}f}"
        rates = f"R(z2) {values[R2]:.1f} nats, R(z1|z2) {values[R1]:.1f} nats"
        quality = f", PSNR {values[PSNR]:.2f} dB" if PSNR in points else ""
        yield {
            "axes": {"model": "LVAE" if first["model"] == "lvae" else "GHVAE", "beta2": beta2, "beta1": beta1},
            "group": data.title(first["data"]),
            "faint": playing.short(first["steps"], LEAST_STEPS),
            "places": placed[point],
            "numbers": numbers,
            "says": f"beta2 {beta2:g}, beta1 {beta1:g}: {rates}{quality}",
            "members": playing.members_of(members[point]),
            **({} if pictured(beta2, beta1) else {"why": NOT_PICTURED}),
        }


def _by_point(rows: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """The members at each point: first those asked for, and among them the seed that is drawn."""
    members = rows.drop_duplicates("key")
    members = members.assign(unasked=~members["asked"], undrawn=members["seed"] != drawn_seed(rows))
    members = members.sort_values(["unasked", "undrawn", "seed"])
    return dict(iter(members.groupby(AXES)))


def _grid(members: pd.DataFrame, store: Store | None) -> tuple[ImageGrid | None, str]:
    """The pictures of the first member that has some, and its seed in words; or None, and why."""
    if not pictured(*members[AXES].iloc[0]):
        return None, NOT_PICTURED
    why = NONE_STORED if store else NONE_IN_RESULTS
    for key, seed, name in zip(members["key"], members["seed"], members["data"], strict=True):
        try:
            grid = image_grids.of(SPEC, key, store)
        except DataError:
            why = f"The images of {data.title(name)} are not on this machine."
        except UnreadableError:
            raise
        except StoreError:
            continue  # damaged weights, which `vaekit runs verify` names
        else:
            if grid:
                return grid, f"seed {seed}"
    return None, why
