"""Study 4's explorer: what networks lose with a share of their weights, tuned and not."""

from typing import Any

import pandas as pd
import torch

from vaekit import sweep, widgets
from vaekit.data import DataError
from vaekit.figures import mean_sd
from vaekit.pruning import magnitude_masks
from vaekit.store import Store, StoreError, UnreadableError, load, member_of
from vaekit.store.table import having, select
from vaekit.studies.pruning import Settings
from vaekit.studies.pruning.figures import families, of_reduction, reductions_of, scaled, title_of

SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PRUNED = "pruned (%)"  # the axis of the slider
NONE_STORED = "Not tuned: no weights are here; ask for a seed of your own that is not stored, say seeds = [7]."
TUNED, UNTUNED = "pruned and tuned", "pruned at once, not tuned"


def explore(table: pd.DataFrame, settings: Settings):
    """Move over reading, beta and the share of weights pruned: what the networks lose.

    Points are means over seeds of what was pruned and tuned. In the largest budget, where the trained network of a seed
    is stored, they stand beside that network without its smallest weights and without a step of tuning, on up to 1,000
    test images.
    """
    groups = [(label, _tuned(rows)) for label, rows in families(table)]
    groups = [(label, rows) for label, rows in groups if len(rows)]
    named = len(reductions_of(groups)) > 1
    stores = [settings.store, *[None] * len(groups)]
    budgets = [(label, _points(rows, named, store)) for (label, rows), store in zip(groups, stores, strict=False)]
    start = None
    if budgets:
        places = [point["axes"] for point in budgets[0][1]]
        first = [place for place in places if place.get("reading") == places[0].get("reading")]
        half = [place for place in first if place[PRUNED] == 50] or first
        start = half[len(half) // 2]
    how = {"x": "share of weights pruned (%)", "y": "test accuracy (%)", "series": (TUNED, UNTUNED)}
    return widgets.by_budget(settings.source, budgets, start, **how)


def _tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy (%) of what was pruned and tuned, and of what was tuned alone, where there is a beta."""
    rows = select(having(rows, variant=("gradual", "dense")), "accuracy", part="test")
    return scaled(rows[rows["value"].notna() & rows["beta"].notna()], 100)


def _points(tuned: pd.DataFrame, named: bool, store: Store | None) -> list[dict[str, Any]]:
    """The points of one budget, with their reduction where it is `named`."""
    points = []
    for reduction in reductions_of([("", tuned)]):
        for beta, rows in of_reduction(tuned, reduction).groupby("beta"):
            shares = tuple(sorted({*rows["sparsity"], *SHARES}))
            members = rows.sort_values(["asked", "seed"], ascending=[False, True])
            untuned, why = _untuned(store, shares, members["parent"])
            axes = ({"reading": title_of(reduction)} if named else {}) | {"beta": float(beta)}
            for share in shares if untuned else sorted(rows["sparsity"].unique()):
                place = axes | {PRUNED: round(100 * float(share), 6)}
                point = _point(having(rows, sparsity=share), place, untuned.get(share))
                points.append({"axes": place, "alt": why, **point})
    return points


def _point(rows: pd.DataFrame, place: dict[str, Any], untuned: float | None) -> dict[str, Any]:
    """What was pruned and tuned, which differs in its seeds, and what was not tuned."""
    series, numbers, values = {}, {}, {TUNED: rows["value"].mean(), UNTUNED: untuned}
    if len(rows):
        series[TUNED] = (place[PRUNED], values[TUNED], 0.0, rows["value"].std() if len(rows) > 1 else 0.0)
        numbers = {"seeds": f"{rows['seed'].nunique()}", f"accuracy (%), {TUNED}": mean_sd(rows["value"], ".2f")}
    if untuned is not None:
        series[UNTUNED] = (place[PRUNED], untuned)
        numbers[f"accuracy (%), {UNTUNED}"] = f"{untuned:.2f}"
    reading = f"{place['reading']}, " if "reading" in place else ""
    where = f"{reading}beta {place['beta']:g}, {place[PRUNED]:g} % of the weights pruned"
    words = "; ".join(f"{name} {values[name]:.1f} %" for name in series)
    return {"series": series, "numbers": numbers, "says": f"{where}: test accuracy {words}"}


@torch.no_grad()
def _untuned(store: Store | None, shares: tuple[float, ...], keys: pd.Series) -> tuple[dict[float, float], str]:
    """Test accuracy (%), by the share, of a stored network without so many of its encoder's smallest weights.

    It is the first of these that is stored. Where a store has nothing to show, none, and why.
    """
    stored = [key for key in keys if store is not None and key in store]
    if store is None or not stored:
        return {}, "" if store is None else NONE_STORED
    try:
        member = member_of(store.record(stored[0])["member"])
        images, model = sweep.examples_of(member), load(stored[0], store=store)
    except UnreadableError:
        raise
    except (DataError, StoreError) as error:
        return {}, f"Not tuned: {error}"
    assert images.test_labels is not None  # the study's sets have labels
    x = images.test[:1000].to(next(model.parameters()).dtype) / 255
    encoder = [name for name, _ in model.named_parameters() if name.startswith(("encoder.", "mu.", "logvar."))]
    weights = {name: model.get_parameter(name).clone() for name in encoder if name.endswith("weight")}
    accuracy = {}
    for share in shares:
        pruned = {name: weights[name] * mask for name, mask in magnitude_masks(weights, share).items()}
        model.load_state_dict(pruned, strict=False)
        right = model.classify(x).argmax(1) == images.test_labels[:1000]  # pyright: ignore[reportCallIssue]
        accuracy[share] = 100 * right.double().mean().item()
    return accuracy, ""
