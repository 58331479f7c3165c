"""Study 1's explorer: layer by layer through its networks."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from vaekit import widgets
from vaekit.figures import mean_sd
from vaekit.store.table import select
from vaekit.studies.id_transition import DECODER, ENCODER, LATENT, LAYERS, OUTPUT, Settings
from vaekit.studies.id_transition.figures import budgets, of_layers


def explore(table: pd.DataFrame, settings: Settings) -> Any:
    """Move through the layers of a network: its dimensions there, at each epoch of each K of each budget.

    Points are means over seeds with their standard deviations. It begins with the largest budget's middle.
    """
    points = [(label, _points(rows)) for label, rows in budgets(table, "intrinsic_dimension")]
    x = "layer: 0 image, 5 code z, 10 output"
    return widgets.by_budget(settings.source, points, x=x, y="intrinsic dimension (2NN)")


def _points(rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The points of one budget, by K, epoch and layer."""
    ids = of_layers(select(rows, "intrinsic_dimension", at="all"))
    duplicates = of_layers(select(rows, "duplicates", at="all"))
    left_out = duplicates.groupby(["latent_dim", "epoch", "layer"])["value"].mean().to_dict()
    imbalances = select(rows, "information_imbalance", at="all")
    pairs = imbalances.groupby(["latent_dim", "epoch", "from_layer", "to_layer"])["value"] if len(imbalances) else ()
    deltas = {place: mean_sd(values, ".3f") for place, values in pairs}
    for (dim, epoch), network in ids.groupby(["latent_dim", "epoch"]):
        profile = _profile(dim, epoch, network)
        for layer, at_layer in network.groupby("layer"):
            values, count = at_layer["value"], at_layer["seed"].nunique()
            numbers = {
                "intrinsic dimension": mean_sd(values),
                "error of one seed, from half-subsets": f"{at_layer['se'].mean():.1f}",
                "images N": f"{at_layer['n'].max():,.0f}",
                "duplicates left out": f"{left_out.get((dim, epoch, layer), 0):g}",
                "seeds": f"{count}",
            }
            for name, pair in _pairs(int(layer)).items() if deltas else ():
                numbers[name] = deltas.get((dim, epoch, *pair), "–")
            yield {
                "axes": {"K": int(dim), "epoch": float(epoch), "layer": int(layer)},
                "series": {"intrinsic dimension": (layer, values.mean(), 0, values.std() if count > 1 else 0)},
                "numbers": numbers,
                "alt": profile,
                "says": f"K {dim:g}, epoch {epoch:g}, layer {layer}: {mean_sd(values)} dimensions",
            }


def _pairs(layer: int) -> dict[str, tuple[int, int]]:
    """The layers, from and to, whose Information Imbalances are shown at a layer: its neighbours' and the ends'."""
    before, after = layer - 1, layer + 1
    return {
        "Δ(layer before → this)": (before, layer),
        "Δ(this → layer before)": (layer, before),
        "Δ(this → layer after)": (layer, after),
        "Δ(layer after → this)": (after, layer),
        "Δ(image → output)": (0, OUTPUT),
        "Δ(output → image)": (OUTPUT, 0),
    }


def _profile(dim: int, epoch: float, network: pd.DataFrame) -> str:
    """A network in words: where its dimensions rise and fall."""
    mean = network.groupby("layer")["value"].mean().reindex(LAYERS)
    return (
        f"K = {dim:g} after {epoch:g} epochs: the data has {mean[0]:.1f} dimensions, the encoder's peak "
        f"{mean[[*ENCODER]].max():.1f}, z {mean[LATENT]:.1f}, the decoder's peak {mean[[*DECODER]].max():.1f}, "
        f"the output {mean[OUTPUT]:.1f}."
    )
