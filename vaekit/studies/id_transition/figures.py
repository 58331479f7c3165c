"""Study 1's figures (arXiv 2411.01978), each with a row for every budget and data set.

Values are means over seeds. Bars are their standard deviation over seeds; of a single seed, its own error, from random
half-subsets of the images (`differences` has none: its two Deltas share those). Members that diverged are left out,
and, but for `frozen_noise`, those of frozen noise.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vaekit import figures
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, line, looks, mean_sd
from vaekit.store import table as tidy
from vaekit.store.table import having, select
from vaekit.studies.id_transition import DECODER, ENCODER, EPOCHS, LATENT, LAYERS, NOISES, OUTPUT, noises

AXES = ("latent_dim",)
PAPERS_NET = "64, 128, 256, 256"
NAMES = ["0\nimage", "1", "2", "3", "4", "5\nz", "6", "7", "8", "9", "10\noutput"]
BACK = {"from_layer": OUTPUT, "to_layer": 0}


@figures.described(
    "ID of every layer at the end of training, one row a budget and data set. Dashed: the ID of the images. "
    "Bars: standard deviation over seeds; of one seed, its error from half-subsets.",
    "Intrinsic dimension over the eleven layers, a curve for each size of the latent, with the data's own "
    "dimension as a dashed line, one row for each budget and data set.",
    claims=("1.1", "1.2", "1.5", "1.6", "1.13"),
)
def dimensions(table: pd.DataFrame) -> Figure:
    """The ID of every layer at the end of training, a curve for each K; the dashed line is the data's own ID."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = axes
        layers = of_layers(select(rows, "intrinsic_dimension"))
        _curves(ax, layers, "latent_dim", "K = {:g}", over="layer")
        if len(images := layers.loc[layers["layer"] == 0, "value"]):
            ax.axhline(images.mean(), color=GREY, ls="--", lw=1, label="the data")
        _layer_axis(ax)
        _legend_beside(ax)

    return _grid(table, "intrinsic_dimension", draw)


@figures.described(
    "Left: the highest ID of the decoder's layers over the higher one of latent and output; 1 is no hump. "
    "Right: the ID of the latent beside that of as many draws from the prior, the null model.",
    "Left: prominence of the decoder's hump over K with the data's dimension as a dashed line. Right: "
    "dimension of the sampled latent, of its mean and of draws from the prior over K on logarithmic axes.",
    claims=("1.3", "1.4"),
)
def over_dims(table: pd.DataFrame) -> Figure:
    """The decoder's hump and the code, over K.

    Left: how far the hump stands out, max(ID of layers 6 to 9) / max(ID of layers 5 and 10). Right: the ID of the
    sampled code z and of its mean, beside that of as many draws from the prior N(0, I), the null model.
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        hump, code = axes
        last = select(rows, "intrinsic_dimension")
        line(hump, prominences(rows), "latent_dim", color=BLUE, marker="o")
        hump.axhline(1, color=GREY, ls=":", lw=1)
        if len(images := having(last, layer=0)):
            hump.axvline(images["value"].mean(), color=GREY, ls="--", lw=1, label="ID of the data")
        hump.set(ylabel="prominence of the decoder's hump")
        kinds: tuple[tuple[str, pd.DataFrame, dict[str, Any]], ...] = (
            ("z", having(last, layer=LATENT), {"color": BLUE, "marker": "o"}),
            ("mean of z", having(last, layer="mu"), {"color": GREEN, "marker": "^"}),
            ("the prior N(0, I)", select(rows, "prior_dimension"), {"color": ORANGE, "marker": "s", "ls": "--"}),
        )
        for name, own, look in kinds:
            line(code, own, "latent_dim", own_error=True, label=name, **look)
        dims = np.unique(last["latent_dim"])
        code.plot(dims, dims, color=GREY, ls=":", lw=1, label="K")
        code.set_yscale("log", base=2)
        code.set_yticks(dims, [f"{dim:g}" for dim in dims])
        code.set(ylabel="intrinsic dimension (2NN)")
        for ax in axes:
            ax.set_xscale("log", base=2)
            ax.set_xticks(dims, [f"{dim:g}" for dim in dims])
            ax.minorticks_off()
            ax.set(xlabel="K, the dimensions of the code")
            _legend(ax)

    measures = ("intrinsic_dimension", "prior_dimension")
    return _grid(table, "intrinsic_dimension", draw, columns=2, width=4.4, measures=measures)


@figures.described(
    "ID of every layer while training, for K 64 or the largest there is.",
    "Intrinsic dimension over the eleven layers of one network, a curve for each epoch that was measured.",
    claims=("1.7",),
)
def phases(table: pd.DataFrame, latent_dim: int | None = None) -> Figure:
    """The ID of every layer at the epochs that were measured, for one K: 64, or the largest there is, unless given."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = axes
        layers = of_layers(select(rows, "intrinsic_dimension", at="all"))
        dims = set(layers["latent_dim"])
        dim = next((dim for dim in (latent_dim, 64) if dim in dims), max(dims))
        _curves(ax, having(layers, latent_dim=dim), "epoch", "epoch {:g}", over="layer")
        _layer_axis(ax)
        ax.set(title=f"K = {dim}")
        _legend_beside(ax)

    return _grid(table, "intrinsic_dimension", draw, history=True)


@figures.described(
    "Left: KL of the latent on the training images, in nats per image. Right: Information Imbalance from the "
    "output to the image, on the test images. The axis of epochs is logarithmic from 1 on.",
    "Two panels over epochs, a curve for each K: the KL on the training images, and the Information Imbalance "
    "from the output to the image on a logarithmic axis.",
    claims=("1.8", "1.9", "1.10", "1.11"),
)
def over_epochs(table: pd.DataFrame) -> Figure:
    """While training, a curve for each K: the KL on the training images, and Delta(output -> image) on the test images.

    The Delta says how badly the output predicts the image: about 0 where it does, about 1 where it says nothing of it.
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        kl = select(rows, "rate", at="all", part="train", layer=None)
        delta = select(rows, "information_imbalance", at="all", part="test", **BACK)
        for ax, own in zip(axes, (kl, delta), strict=True):
            _curves(ax, own, "latent_dim", "K = {:g}", over="epoch")
            _epoch_axis(ax, own)
        axes[0].set(ylabel="KL, training images (nats per image)")
        axes[1].set(ylabel="Δ(output → image)", yscale="log")
        _legend(axes[0])

    measures = ("rate", "information_imbalance from=10,to=0")
    return _grid(table, "rate", draw, columns=2, width=4.4, measures=measures, history=True)


@figures.described(
    "Fresh noise and batches in every epoch, or the first epoch's in each (frozen), for K 32 or the largest there is. "
    "Left: Information Imbalance from the output to the image, on the test images. Right: KL of the latent, in nats "
    "per image. The axis of epochs is logarithmic from 1 on.",
    "Two panels over epochs, a curve each for fresh and for frozen noise: the Information Imbalance from the output to "
    "the image on a logarithmic axis, and the KL on training images and, dashed, on test images.",
)
def frozen_noise(table: pd.DataFrame, latent_dim: int | None = None) -> Figure:
    """Fresh against frozen noise while training: Delta(output -> image) on test images, and the KL on both parts.

    For one K of the frozen ones: 32, or the largest there is, unless given. Budgets without frozen members have no row.
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        dim = frozen_dim(rows, latent_dim)
        rows = having(rows, latent_dim=dim)
        delta = select(rows, "information_imbalance", at="all", part="test", **BACK)
        kl = select(rows, "rate", at="all", layer=None)
        for noise, colour in zip(NOISES, (BLUE, ORANGE), strict=True):
            look = {"color": colour, "own_error": True}
            line(axes[0], having(delta, noise=noise), "epoch", marker="o", label=noise, **look)
            for part, marker, style in (("train", "o", "-"), ("test", "s", "--")):
                own = having(kl, noise=noise, part=part)
                line(axes[1], own, "epoch", marker=marker, ls=style, label=f"{noise}, {part}", **look)
        for ax, own in zip(axes, (delta, kl), strict=True):
            _epoch_axis(ax, own)
            ax.set(title=f"K = {dim}")
            _legend(ax)
        axes[0].set(ylabel="Δ(output → image)", yscale="log")
        axes[1].set(ylabel="KL (nats per image)")

    measures = ("rate", "information_imbalance from=10,to=0")
    empty = "no frozen noise here: ask for noise = [fresh, frozen]"
    return figures.grid(frozen_budgets(table), draw, 2, measures=measures, history=True, empty=empty, width=4.4)


def frozen_budgets(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The label and the rows of each budget that has members with frozen noise, those with fresh noise beside them."""
    return [(label, rows) for label, rows in budgets(table, "rate", NOISES) if "frozen" in set(rows["noise"])]


def frozen_dim(rows: pd.DataFrame, latent_dim: int | None = None) -> int:
    """The K of the members with frozen noise: the one given, 32, or the largest there is."""
    dims = set(having(rows, noise="frozen")["latent_dim"])
    return next((dim for dim in (latent_dim, 32) if dim is not None and dim in dims), max(dims))


def frozen_noise_in_words(table: pd.DataFrame) -> str:
    """What `frozen_noise` shows at the end of the training of the largest budget, of the seeds that have both noises.

    Nothing where no seed has both.
    """
    if not (both := frozen_budgets(table)):
        return ""
    _, rows = both[0]
    rows = having(rows, latent_dim=frozen_dim(rows))
    seeds = set.intersection(*(set(having(rows, noise=noise)["seed"]) for noise in NOISES))
    if not seeds:
        return ""
    rows = rows[rows["seed"].isin(seeds)]
    delta, kl = (
        " and ".join(f"{having(own, noise=noise)['value'].mean():.3g} with {noise} noise" for noise in NOISES)
        for own in (
            select(rows, "information_imbalance", part="test", **BACK),
            select(rows, "rate", part="train", layer=None),
        )
    )
    words = (
        f"After {rows['epoch'].max():g} epochs, of {len(seeds)} seed{'s' * (len(seeds) > 1)}, Δ(output → image) is "
        f"{delta}; the KL on training images is {kl}, in nats."
    )
    return words + " One seed does not tell a difference from chance." * (len(seeds) == 1)


@figures.described(
    "Difference of the two Information Imbalances of adjacent layers, over their mean. Below 0: compression. Bars: "
    "standard deviation over seeds; of one seed none.",
    "Relative difference of the two Information Imbalances of adjacent layers over the layers, a curve for "
    "each K, with a line at zero.",
    claims=("1.12",),
)
def differences(table: pd.DataFrame) -> Figure:
    """(Delta(l -> l+1) - Delta(l+1 -> l)) / their mean over the pairs of adjacent layers; below 0: compression."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = axes
        pairs = _both_ways(rows)
        pairs = pairs[pairs["to_layer"] == pairs["from_layer"] + 1]
        relative = 2 * (pairs["upwards"] - pairs["downwards"]) / (pairs["upwards"] + pairs["downwards"])
        _curves(ax, pairs.assign(value=relative), "latent_dim", "K = {:g}", over="from_layer", own_error=False)
        ax.axhline(0, color=GREY, lw=1)
        ax.axvline(LATENT - 0.5, color=GREY, ls=":", lw=1)
        ax.set_xticks(LAYERS[:-1], [f"{layer}–{layer + 1}" for layer in LAYERS[:-1]])
        ax.set(xlabel="layers", ylabel="relative difference of Δ")
        _legend_beside(ax)

    return _grid(table, "information_imbalance", draw)


@figures.described(
    "The information plane: adjacent layers, and image against output (star). A is the layer nearer the image.",
    "Scatter plots on logarithmic axes of the Information Imbalance from layer A to B against that from B to "
    "A, for adjacent layers and for image and output, with the diagonal, a panel for three sizes of the "
    "latent.",
)
def plane(table: pd.DataFrame) -> Figure:
    """The information plane: Delta(A -> B) against Delta(B -> A) for adjacent layers, and for image and output.

    On the diagonal two layers say the same of each other; above it A says more of B than B of A, for A nearer the
    image. A panel each for the smallest, the middle and the largest K.
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        pairs = _both_ways(rows)
        for ax, dim in _some(axes, pairs["latent_dim"]):
            own = having(pairs, latent_dim=dim)
            means = own.groupby(["from_layer", "to_layer"])[["upwards", "downwards"]].mean().reset_index()
            adjacent = means["to_layer"] == means["from_layer"] + 1
            ends = (means["from_layer"] == 0) & (means["to_layer"] == OUTPUT)
            kinds = (
                ("encoder", BLUE, "o", adjacent & (means["to_layer"] <= LATENT)),
                ("decoder", ORANGE, "s", adjacent & (means["to_layer"] > LATENT)),
                ("image and output", GREEN, "*", ends),
            )
            for name, colour, marker, which in kinds:
                points = means[which]
                look = {"color": colour, "marker": marker, "ms": 10 if marker == "*" else 5, "lw": 0, "label": name}
                ax.plot(points["upwards"], points["downwards"], **look)
                for a, b, x, y in points.itertuples(index=False):
                    ax.annotate(f"{a}–{b}", (x, y), (4, 3), textcoords="offset points", fontsize=7)
            least = means[["upwards", "downwards"]].to_numpy().min()
            ax.axline((least, least), (1, 1), color=GREY, lw=1)
            ax.set(xscale="log", yscale="log", xlabel="Δ(A → B)", ylabel="Δ(B → A)", title=f"K = {dim}")
            if ax is axes[0]:
                _legend(ax, title="A–B")

    return _grid(table, "information_imbalance", draw, columns=3, width=3.6)


@figures.described(
    "Information Imbalance of all pairs of layers at the end of training. Dark: the layer of the row predicts "
    "the layer of the column.",
    "Heat maps of the Information Imbalance between all pairs of eleven layers, a panel for three sizes of "
    "the latent, dark where a layer predicts the other.",
)
def matrix(table: pd.DataFrame) -> Figure:
    """Delta(A -> B) of all 11 x 11 pairs of layers at the end, a panel each for the smallest, middle and largest K."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        last = select(rows, "information_imbalance")
        image = None
        for ax, dim in _some(axes, last["latent_dim"]):
            own = having(last, latent_dim=dim)
            deltas = own.pivot_table(index="from_layer", columns="to_layer", values="value")
            deltas = deltas.reindex(index=LAYERS, columns=LAYERS)
            image = ax.imshow(deltas, norm=LogNorm(2 / own["n"].max(), 1), cmap="viridis", interpolation="nearest")
            ax.set_xticks(LAYERS, map(str, LAYERS))
            ax.set_yticks(LAYERS, map(str, LAYERS))
            ax.set(xlabel="to layer B", ylabel="from layer A", title=f"K = {dim}")
        if image is not None:
            image.axes.figure.colorbar(image, ax=list(axes), label="Δ(A → B)", shrink=0.8)

    return _grid(table, "information_imbalance", draw, columns=3, width=3.6, height=3.8)


@figures.described("Dimensions and imbalances at the end of training, with the number N of images")
def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """What the figures show at the end of training, as text: a row for each budget, data set and K.

    IDs are 2NN's, on the N images that are named; "left out" is the largest number of duplicates that any layer had.
    """
    shown = []
    for _, rows in budgets(table, "intrinsic_dimension"):
        for dim, own in rows.groupby("latent_dim"):
            ids = of_layers(select(own, "intrinsic_dimension"))
            by_layer = ids.pivot_table(index="seed", columns="layer", values="value").reindex(columns=LAYERS)
            shown.append(
                {
                    "images": own["data"].iloc[0],
                    "epochs": f"{own['epoch'].max():g}",
                    "K": dim,
                    "seeds": ids["seed"].nunique(),
                    "N": f"{ids['n'].max():,.0f}",
                    "left out": f"{select(own, 'duplicates')['value'].max():.0f}",
                    "data": mean_sd(by_layer[0]),
                    "encoder's peak": mean_sd(by_layer[[*ENCODER]].max(axis=1)),
                    "z": mean_sd(by_layer[LATENT]),
                    "prior": mean_sd(select(own, "prior_dimension")["value"]),
                    "decoder's peak": mean_sd(by_layer[[*DECODER]].max(axis=1)),
                    "output": mean_sd(by_layer[OUTPUT]),
                    "prominence": mean_sd(prominences(own)["value"], ".2f"),
                    "KL (nats)": mean_sd(select(own, "rate", part="train", layer=None)["value"]),
                    "Δ(output → image)": mean_sd(select(own, "information_imbalance", **BACK)["value"], ".3f"),
                }
            )
    return pd.DataFrame(shown)


def budgets(table: pd.DataFrame, measure: str, noise: Sequence[str] = NOISES[:1]) -> list[tuple[str, pd.DataFrame]]:
    """The label and the rows of each budget of finished members that has a measure at its end, with their `epoch`.

    Members of each `noise` named share a budget; others are left out. The label adds to `table.budget_label` epochs,
    training images, N, and the net where it is not the paper's.
    """
    table = figures.finite(table[table["status"] == "finished"])
    epoch = (table["step"] * table["batch_size"] / table["n_train"]).round(1)
    table = having(table.assign(epoch=epoch, noise=noises(table)), noise=tuple(noise))
    groups = tidy.budgets(table, (*AXES, "epoch", "noise"))
    return [(_label(rows), rows) for rows in groups if len(select(rows, measure))]


def _label(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    epochs = round(first["steps"] * first["batch_size"] / first["n_train"], 1)
    trained = f"{epochs:g} epoch{'' if epochs == 1 else 's'} of {first['n_train']:,.0f} images"
    label = f"{trained}, N = {first['n_test']:,.0f}: {tidy.budget_label(rows, AXES)}"
    net = ", ".join(map(str, first["channels"]))
    return label if net == PAPERS_NET else f"{label}, channels {net}"


def _grid(
    table: pd.DataFrame,
    measure: str,
    draw: Callable[[Sequence[Axes], pd.DataFrame], None],
    columns: int = 1,
    measures: Sequence[str] = (),
    **how: Any,
) -> Figure:
    """A row of panels for each budget that has a measure at its end; `measures` are drawn, where not that one alone."""
    how = {"measures": measures or (measure,), "empty": f"no {measure} here", "width": 6.6, **how}
    return figures.grid(budgets(table, measure), draw, columns, **how)


def of_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of the numbered layers, whose numbers are whole."""
    return having(rows, layer=tuple(LAYERS)).astype({"layer": int})


def prominences(rows: pd.DataFrame) -> pd.DataFrame:
    """The prominence of the decoder's hump of each member, as `value`; members that lack a layer are left out."""
    ids = of_layers(select(rows, "intrinsic_dimension"))
    layers = ids.pivot_table(index=["seed", "latent_dim"], columns="layer", values="value").reindex(columns=LAYERS)
    hump = layers[[*DECODER]].max(axis=1, skipna=False) / layers[[LATENT, OUTPUT]].max(axis=1, skipna=False)
    return hump.dropna().rename("value").reset_index()


def _both_ways(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each member and pair of layers, the lower first: `upwards` and `downwards` are its Deltas."""
    pairs = select(rows, "information_imbalance").astype({"from_layer": int, "to_layer": int})
    rising = pairs["from_layer"] < pairs["to_layer"]
    down = pairs[~rising].rename(columns={"from_layer": "to_layer", "to_layer": "from_layer", "value": "downwards"})
    on = ["seed", "latent_dim", "from_layer", "to_layer"]
    up = pairs[rising].rename(columns={"value": "upwards"})
    return up[[*on, "upwards"]].merge(down[[*on, "downwards"]], on=on)


def _curves(ax: Axes, rows: pd.DataFrame, by: str, name: str, over: str, own_error: bool = True) -> None:
    """The mean of `value` over a column, a curve for each value of another: see the module's docstring."""
    for value, look in looks(rows[by], name):
        line(ax, having(rows, **{by: value}), over, own_error=own_error, **look)


def _epoch_axis(ax: Axes, rows: pd.DataFrame) -> None:
    """Epochs, logarithmic from 1 on, with a tick at those of `EPOCHS` that the rows reach."""
    ticks = [epoch for epoch in EPOCHS if epoch <= rows["epoch"].max() and epoch not in (75, 150)]
    ax.set_xscale("symlog", linthresh=1, linscale=0.4)
    ax.set_xticks(ticks, map(str, ticks))
    ax.minorticks_off()
    ax.set(xlabel="epochs")


def _some(axes: Sequence[Axes], values: pd.Series) -> list[tuple[Axes, int]]:
    """The smallest, middle and largest value, each with its panel."""
    once = np.unique(values)
    chosen = once[np.unique(np.linspace(0, len(once) - 1, min(len(axes), len(once))).round().astype(int))]
    return list(zip(axes, chosen, strict=False))


def _layer_axis(ax: Axes) -> None:
    ax.axvline(LATENT, color=GREY, ls=":", lw=1)
    ax.set_xticks(LAYERS, NAMES)
    ax.set(xlabel="layer", ylabel="intrinsic dimension (2NN)")


def _legend(ax: Axes, **how: Any) -> None:
    """A legend where there is something to explain."""
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(**{"ncols": 2 if len(handles) > 4 else 1, "fontsize": 8, **how})


def _legend_beside(ax: Axes) -> None:
    _legend(ax, loc="upper left", bbox_to_anchor=(1, 1), ncols=1)
