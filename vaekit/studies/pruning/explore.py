"""Study 4's explorer: what networks lose with a share of their weights, tuned and not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import torch

from vaekit import data, sweep
from vaekit.data import DataError
from vaekit.figures import mean_sd
from vaekit.pruning import encoder_weights, magnitude_masks
from vaekit.store import Member, Store, StoreError, UnreadableError, load, member_of
from vaekit.store.table import having, select
from vaekit.studies import playing
from vaekit.studies.pruning import SPEC, Settings
from vaekit.studies.pruning.claims import TRAINING
from vaekit.studies.pruning.figures import NUMBERS, families, label_of, reductions_of, scaled, title_of

SHARES = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
PRUNED = "pruned (%)"  # the axis of the slider
NONE_STORED = "No weights are here; ask for a seed of your own that is not stored, say seeds = [7]."
NOT_TUNED = "pruned at once, not tuned"
ACCURACY = "test accuracy (%)"
# Those that the points rest on: of all columns, each of their rows would be copied many times.
COLUMNS = ["key", "seed", "asked", "step", "steps", "part", "measure", "samples", "value", "data"]
COLUMNS += ["parent", "parent_steps", "objective", "lambda", "beta", "sparsity", "variant"]
NO_DECODER = "What is tuned has no decoder any more: it classifies."
PRUNED_HERE = "It was pruned here and is not stored."


def explore(table: pd.DataFrame, settings: Settings):
    """Move over reading, beta, the share of weights pruned and how: what the networks lose.

    Points are means over seeds. In the largest budget, where the trained network of a seed is stored, they stand beside
    that network without its smallest weights and without a step of tuning, on up to 1,000 test images.
    """
    how: dict[str, Any] = {
        "x": "share of weights pruned (%)",
        "y": "test accuracy (%)",
        "colour": "beta",
        "shape": "network",
    }
    how |= {"along": PRUNED, "clock": "% of its steps"}
    points_of = partial(points, store=settings.store)
    return playing.shown(SPEC, table, settings, points_of, _vary, ["beta"], _start, **how)


def points(table: pd.DataFrame, store: Store | None = None) -> list[dict[str, Any]]:
    """The networks of every budget, as `widgets.playground` takes them; with a `store`, also those not tuned."""
    groups = [(label, _points(rows, None if i else store)) for i, (label, rows) in enumerate(families(table))]
    points = playing.in_budgets(groups)
    if len({point["axes"]["reading"] for point in points}) < 2:
        for point in points:
            del point["axes"]["reading"]
    return [{**point, "says": _says(point)} for point in points]


def _start(points: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The trained networks of the least and of the largest beta: they have decoders, which what is tuned has not."""
    first = points[0]
    alike = {"network": label_of("before"), "reading": first["axes"].get("reading")}
    trained = [
        point["axes"]
        for point in points
        if point.get("budget") == first.get("budget")
        and all(point["axes"].get(name) == value for name, value in alike.items())
    ]
    ends = sorted(trained or [first["axes"]], key=lambda axes: axes["beta"])
    return [ends[0], ends[-1]]


def _points(rows: pd.DataFrame, store: Store | None) -> list[dict[str, Any]]:
    """The networks of one budget, trained and tuned, and of each beta one that was pruned and not tuned."""
    rows = rows[[name for name in COLUMNS if name in rows]]
    accuracy = scaled(select(rows, "accuracy", at="all", part="test"), 100)
    accuracy = accuracy[accuracy["beta"].notna()]
    if not len(accuracy):
        return []
    accuracy = accuracy.assign(
        reading=[title_of(pair) for pair in zip(accuracy["objective"], accuracy["lambda"], strict=True)],
        pruned=(100 * accuracy["sparsity"].fillna(0)).astype(float).round(6),
        snapshot=(100 * accuracy["step"] / accuracy["steps"]).round(),
        series="networks",
        y=accuracy["value"],
    )
    axes = ["reading", "variant", "beta", "pruned"]
    placed = playing.places_of(accuracy.assign(x=accuracy["pruned"]), axes)
    points = [
        _point(place, placed.get(place, {}), own, having(rows, key=tuple(own["key"])))
        for place, own in accuracy.groupby(axes)
    ]
    tuned = having(accuracy, variant=("gradual", "dense"))
    for (reading, beta), own in tuned.groupby(["reading", "beta"]) if store else ():
        members = own.sort_values(["asked", "seed"], ascending=[False, True])
        untuned, why = _untuned(store, SHARES, members["parent"])
        faint = _faint(own)
        for share, value in untuned.items():
            place = _axes(reading, NOT_TUNED, beta, 100 * share)
            point = {"axes": place, "group": data.title(own["data"].iloc[0]), "faint": faint}
            point |= {"places": {100: {"networks": (place[PRUNED], value)}}, "numbers": {ACCURACY: f"{value:.2f}"}}
            points.append(point | {"why": PRUNED_HERE, "why_not": PRUNED_HERE})
        if why:
            for point in points:
                if point["axes"]["reading"] == reading and point["axes"]["beta"] == beta:
                    point["numbers"]["not tuned"] = why
    order = {title_of(reduction): place for place, reduction in enumerate(reductions_of([accuracy]))}
    return sorted(points, key=lambda point: order.get(point["axes"]["reading"], len(order)))


def _point(
    place: tuple[str, str, float, float], places: dict[float, Any], rows: pd.DataFrame, whole: pd.DataFrame
) -> dict[str, Any]:
    """Networks that differ in their seeds: the rows of their accuracy, and all."""
    reading, variant, beta, pruned = place
    axes, ends = _axes(reading, label_of(variant), beta, pruned), rows[rows["step"] == rows["steps"]]
    point = {
        "axes": axes,
        "group": data.title(rows["data"].iloc[0]),
        "faint": _faint(rows),
        "places": places if len(ends) else {},
        "numbers": {"seeds": f"{ends['seed'].nunique()}", ACCURACY: mean_sd(ends["value"], ".2f")} | _numbers(whole),
        "members": playing.members_of(rows),
    }
    if variant != "before":
        point |= {"why_not": NO_DECODER, "why": NO_DECODER}
    return point


def _numbers(rows: pd.DataFrame) -> dict[str, str]:
    measured = {
        name: scaled(select(rows, measure, part=part), factor) for name, (part, measure, factor, _) in NUMBERS.items()
    }
    return {name: mean_sd(own["value"], NUMBERS[name][3]) for name, own in measured.items() if len(own)}


def _axes(reading: str, network: str, beta: float, pruned: float) -> dict[str, Any]:
    return {"reading": reading, "network": network, "beta": float(beta), PRUNED: round(float(pruned), 6)}


def _says(point: Mapping[str, Any]) -> str:
    *reading, network, beta, pruned = point["axes"].values()
    place = [*reading, f"beta {beta:g}", network, f"{pruned:g} % of the weights pruned"]
    return f"{', '.join(place)}: test accuracy {point['numbers'][ACCURACY]} %"


def _faint(rows: pd.DataFrame) -> str:
    """Why a budget is below the paper's: the steps of training, of what was derived those before it."""
    first = rows.iloc[0]
    derived = pd.notna(first["parent"])
    steps, paper = first["parent_steps"] if derived else first["steps"], TRAINING.get(first["data"])
    return playing.short(steps, paper) if paper else ""


def _vary(member: Member, numbers: Mapping[str, float], known: Callable[[str], Member]) -> list[Member]:
    """A network like this one with another beta; of one that was tuned, also what it comes from."""
    (changed,) = playing.vary_weights(member, numbers, known)
    if not member.parent:
        return [changed]
    (parent,) = playing.vary_weights(known(member.parent), numbers, known)
    return [parent, replace(changed, parent=parent.key)]


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
        return {}, f"{error}"
    assert images.test_labels is not None  # the study's sets have labels
    x = images.test[:1000].to(next(model.parameters()).dtype) / 255
    weights = {name: model.get_parameter(name).clone() for name in encoder_weights(model)}
    accuracy = {}
    for share in shares:
        pruned = {name: weights[name] * mask for name, mask in magnitude_masks(weights, share).items()}
        model.load_state_dict(pruned, strict=False)
        right = model.classify(x).argmax(1) == images.test_labels[:1000]  # pyright: ignore[reportCallIssue]
        accuracy[share] = 100 * right.double().mean().item()
    return accuracy, ""
