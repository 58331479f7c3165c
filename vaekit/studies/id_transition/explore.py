"""Study 1's explorer: the profiles of its networks, layer by layer."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from vaekit import data
from vaekit.figures import mean_sd
from vaekit.store import Member
from vaekit.store.table import select
from vaekit.studies import playing
from vaekit.studies.id_transition import DECODER, ENCODER, LATENT, LAYERS, OUTPUT, SPEC, Settings, own_images, step_of
from vaekit.studies.id_transition.claims import LAST_EPOCH
from vaekit.studies.id_transition.figures import BACK, budgets, of_layers

STATIONS = [
    f"layer {layer}{ {0: ', image', LATENT: ', code z', OUTPUT: ', output'}.get(layer, '') }" for layer in LAYERS
]
# Measure, columns and form of the numbers that are not of one layer.
NUMBERS: dict[str, tuple[str, dict[str, Any], str]] = {
    "Δ(image → output)": ("information_imbalance", {"from_layer": 0, "to_layer": OUTPUT}, ".3f"),
    "Δ(output → image)": ("information_imbalance", BACK, ".3f"),
    "D (test), nats": ("distortion", {"samples": 1}, ".1f"),
    "R (test), nats": ("rate", {}, ".1f"),
}


def explore(table: pd.DataFrame, settings: Settings) -> Any:
    """Move over K and the epochs: the intrinsic dimension of every layer, a line for each network.

    Points are means over seeds with their standard deviations. It begins with the largest budget.
    """
    how: dict[str, Any] = {"x": "layer: 0 image, 5 code z, 10 output", "y": "intrinsic dimension (2NN)", "colour": "K"}
    how |= {"clock": "epochs", "stations": STATIONS}
    return playing.shown(SPEC, table, settings, points, _vary, ["K"], **how)


def points(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The networks of every budget, as `widgets.playground` takes them."""
    return playing.in_budgets([(label, _points(rows)) for label, rows in budgets(table, "intrinsic_dimension")])


def _points(rows: pd.DataFrame) -> list[dict[str, Any]]:
    ids = of_layers(select(rows, "intrinsic_dimension", at="all"))
    points = []
    for dim, network in ids.groupby("latent_dim"):
        own, first = rows[rows["latent_dim"] == dim], network.iloc[0]
        end = network[network["step"] == network["steps"]]
        profile = _profile(dim, end)
        points.append(
            {
                "axes": {"K": int(dim)},
                "group": data.title(first["data"]),
                "faint": playing.short(first["steps"], step_of(LAST_EPOCH, own_images(first["data"]))),
                "places": {float(epoch): {"members": _line(at)} for epoch, at in network.groupby("epoch")},
                "numbers": _numbers(own, end),
                "says": profile,
                "members": playing.members_of(own),
            }
        )
    return points


def _line(network: pd.DataFrame) -> list[tuple[float, ...]]:
    """The dimension of each layer, mean and standard deviation over seeds."""
    by_layer = network.groupby("layer")["value"]
    spread = by_layer.std().fillna(0)
    return [(layer, mean, 0, spread[layer]) for layer, mean in by_layer.mean().items()]


def _numbers(rows: pd.DataFrame, end: pd.DataFrame) -> dict[str, str]:
    """A network's numbers at its end that are not of one layer."""
    left_out = of_layers(select(rows, "duplicates"))
    numbers = {"seeds": f"{end['seed'].nunique()}", "images N": f"{end['n'].max():,.0f}"}
    if len(left_out):
        numbers["duplicates left out, at most"] = f"{left_out['value'].max():.0f}"
    for name, (measure, where, form) in NUMBERS.items():
        if len(values := select(rows, measure, part="test", **where)):
            numbers[name] = mean_sd(values["value"], form)
    return numbers


def _profile(dim: float, network: pd.DataFrame) -> str:
    """A network in words: where its dimensions rise and fall."""
    mean = network.groupby("layer")["value"].mean().reindex(LAYERS)
    return (
        f"K = {dim:g}: the data has {mean[0]:.1f} dimensions, the encoder's peak {mean[[*ENCODER]].max():.1f}, "
        f"z {mean[LATENT]:.1f}, the decoder's peak {mean[[*DECODER]].max():.1f}, the output {mean[OUTPUT]:.1f}."
    )


def _vary(member: Member, numbers: Mapping[str, float], known: Callable[[str], Member]) -> list[Member]:
    """A network like this one with a code of another size."""
    dim = numbers["K"]
    if dim != int(dim) or not 1 <= dim <= 4_096:
        raise ValueError(f"new K: got {dim:g}; wanted a whole number from 1 to 4,096")
    return [replace(member, model_args=dict(member.model_args) | {"latent_dim": int(dim)})]
