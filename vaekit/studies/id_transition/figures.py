"""Study 1's figures (arXiv 2411.01978), each with a row for every budget and data set.

Values are means over seeds. Bars are their standard deviation over seeds; of a single seed, its own error, from random
half-subsets of the images. Members that diverged are left out.
"""

from collections.abc import Callable, Sequence
from itertools import cycle

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from vaekit import figures, tidy
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, panels
from vaekit.studies.id_transition import EPOCHS, LAYERS

AXES = ("latent_dim",)
PAPERS_NET = "64, 128, 256, 256"
CODE = 5
NAMES = ["0\nimage", "1", "2", "3", "4", "5\nz", "6", "7", "8", "9", "10\noutput"]


def dimensions(table: pd.DataFrame) -> Figure:
    """The ID of every layer at the end of training, a curve for each K; the dashed line is the data's own ID."""

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = line
        found = _of_layers(tidy.last(rows, "intrinsic_dimension"))
        for dim, how in _looks(found["latent_dim"], "K = {}"):
            _curve(ax, found[found["latent_dim"] == dim], "layer", **how)
        if len(data := found.loc[found["layer"] == 0, "value"]):
            ax.axhline(data.mean(), color=GREY, ls="--", lw=1, label="the data")
        _layer_axis(ax)
        ax.set(ylabel="intrinsic dimension (2NN)")
        _legend(ax, beside=True)

    return _by_budget(table, ("intrinsic_dimension",), draw)


def over_dims(table: pd.DataFrame) -> Figure:
    """The decoder's hump and the code, over K.

    Left: how far the hump stands out, max(ID of layers 6 to 9) / max(ID of layers 5 and 10). Right: the ID of the
    sampled code z and of its mean, beside that of as many draws from the prior N(0, I), the null model.
    """

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        hump, code = line
        last = tidy.last(rows, "intrinsic_dimension")
        found = _of_layers(last)
        _curve(hump, _prominences(rows), "latent_dim", color=BLUE, marker="o")
        hump.axhline(1, color=GREY, ls=":", lw=1)
        if len(data := found.loc[found["layer"] == 0, "value"]):
            hump.axvline(data.mean(), color=GREY, ls="--", lw=1, label="ID of the data")
        hump.set(ylabel="prominence of the decoder's hump")
        for arguments, label, colour, marker in (("layer=5", "z", BLUE, "o"), ("layer=mu", "mean of z", GREEN, "^")):
            _curve(code, last[last["arguments"] == arguments], "latent_dim", label=label, color=colour, marker=marker)
        prior = tidy.last(rows, "prior_dimension")
        _curve(code, prior, "latent_dim", label="the prior N(0, I)", color=ORANGE, marker="s", ls="--")
        dims = np.unique(last["latent_dim"])
        code.plot(dims, dims, color=GREY, ls=":", lw=1, label="K")
        code.set_yscale("log", base=2)
        code.set_yticks(dims, [f"{dim:g}" for dim in dims])
        code.set(ylabel="intrinsic dimension (2NN)")
        for ax in line:
            ax.set_xscale("log", base=2)
            ax.set_xticks(dims, [f"{dim:g}" for dim in dims])
            ax.minorticks_off()
            ax.set(xlabel="K, the dimensions of the code")
            _legend(ax)

    shows = ("intrinsic_dimension", "prior_dimension")
    return _by_budget(table, ("intrinsic_dimension",), draw, columns=2, width=4.4, shows=shows)


def phases(table: pd.DataFrame, latent_dim: int | None = None) -> Figure:
    """The ID of every layer at the epochs that were measured, for one K: 64, or the largest there is, unless given."""

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = line
        found = _of_layers(rows[rows["measure"] == "intrinsic_dimension"])
        dim = _one_of(found["latent_dim"], (latent_dim, 64))
        found = found[found["latent_dim"] == dim]
        for epoch, how in _looks(found["epoch"], "epoch {}"):
            _curve(ax, found[found["epoch"] == epoch], "layer", **how)
        _layer_axis(ax)
        ax.set(ylabel="intrinsic dimension (2NN)", title=f"K = {dim}")
        _legend(ax, beside=True)

    return _by_budget(table, ("intrinsic_dimension",), draw, last=False)


def over_epochs(table: pd.DataFrame) -> Figure:
    """While training, a curve for each K: the KL on the training images, and Delta(output -> image) on the test images.

    The Delta says how badly the output predicts the image: about 0 where it does, about 1 where it says nothing of it.
    """

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        shown = (("rate", "train", ""), ("information_imbalance", "test", "from=10,to=0"))
        for ax, (measure, part, arguments) in zip(line, shown, strict=True):
            found = rows[(rows["measure"] == measure) & (rows["part"] == part) & (rows["arguments"] == arguments)]
            for dim, how in _looks(found["latent_dim"], "K = {}"):
                _curve(ax, found[found["latent_dim"] == dim], "epoch", **how)
            ticks = [epoch for epoch in EPOCHS if epoch <= found["epoch"].max() and epoch not in (75, 150)]
            ax.set_xscale("symlog", linthresh=1, linscale=0.4)
            ax.set_xticks(ticks, map(str, ticks))
            ax.minorticks_off()
            ax.set(xlabel="epochs")
        line[0].set(ylabel="KL, training images (nats per image)")
        line[1].set(ylabel="Δ(output → image)", yscale="log")
        _legend(line[0])

    shows = ("rate", "information_imbalance from=10,to=0")
    return _by_budget(table, ("rate", "information_imbalance"), draw, columns=2, width=4.4, shows=shows, last=False)


def differences(table: pd.DataFrame) -> Figure:
    """(Delta(l -> l+1) - Delta(l+1 -> l)) / their mean over the pairs of adjacent layers; below 0: compression."""

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,) = line
        pairs = _both_ways(rows)
        pairs = pairs[pairs["b"] == pairs["a"] + 1]
        pairs = pairs.assign(value=2 * (pairs["there"] - pairs["back"]) / (pairs["there"] + pairs["back"]))
        for dim, how in _looks(pairs["latent_dim"], "K = {}"):
            _curve(ax, pairs[pairs["latent_dim"] == dim], "a", **how)
        ax.axhline(0, color=GREY, lw=1)
        ax.axvline(CODE - 0.5, color=GREY, ls=":", lw=1)
        ax.set_xticks(LAYERS[:-1], [f"{a}–{a + 1}" for a in LAYERS[:-1]])
        ax.set(xlabel="layers", ylabel="relative difference of Δ")
        _legend(ax, beside=True)

    return _by_budget(table, ("information_imbalance",), draw)


def plane(table: pd.DataFrame) -> Figure:
    """The information plane: Delta(A -> B) against Delta(B -> A) for adjacent layers, and for image and output.

    On the diagonal two layers say the same of each other; above it A says more of B than B of A, for A nearer the
    image. A panel each for the smallest, the middle and the largest K.
    """

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        pairs = _both_ways(rows)
        for ax, dim in _some(line, pairs["latent_dim"]):
            shown = pairs[pairs["latent_dim"] == dim].groupby(["a", "b"])[["there", "back"]].mean().reset_index()
            kinds = (
                ("encoder", BLUE, "o", (shown["b"] == shown["a"] + 1) & (shown["b"] <= CODE)),
                ("decoder", ORANGE, "s", (shown["b"] == shown["a"] + 1) & (shown["b"] > CODE)),
                ("image and output", GREEN, "*", (shown["a"] == 0) & (shown["b"] == LAYERS[-1])),
            )
            for label, colour, marker, which in kinds:
                points = shown[which]
                how = {"color": colour, "marker": marker, "lw": 0, "label": label}
                ax.plot(points["there"], points["back"], ms=10 if marker == "*" else 5, **how)
                for a, b, x, y in points[["a", "b", "there", "back"]].itertuples(index=False):
                    ax.annotate(f"{a:.0f}–{b:.0f}", (x, y), (4, 3), textcoords="offset points", fontsize=7)
            least = shown[["there", "back"]].to_numpy().min()
            ax.axline((least, least), (1, 1), color=GREY, lw=1)
            ax.set(xscale="log", yscale="log", xlabel="Δ(A → B)", ylabel="Δ(B → A)", title=f"K = {dim}")
            if figures.leftmost(ax):
                _legend(ax, title="A–B")

    return _by_budget(table, ("information_imbalance",), draw, columns=3, width=3.6)


def matrix(table: pd.DataFrame) -> Figure:
    """Delta(A -> B) of all 11 x 11 pairs of layers at the end, a panel each for the smallest, middle and largest K."""

    def draw(line: Sequence[Axes], rows: pd.DataFrame) -> None:
        last = _of_pairs(tidy.last(rows, "information_imbalance"))
        image = None
        for ax, dim in _some(line, last["latent_dim"]):
            shown = last[last["latent_dim"] == dim]
            values = shown.pivot_table(index="a", columns="b", values="value").reindex(index=LAYERS, columns=LAYERS)
            image = ax.imshow(values, norm=LogNorm(2 / shown["n"].max(), 1), cmap="viridis", interpolation="nearest")
            ax.set_xticks(LAYERS, map(str, LAYERS))
            ax.set_yticks(LAYERS, map(str, LAYERS))
            ax.set(xlabel="to layer B", ylabel="from layer A", title=f"K = {dim}")
        if image is not None:
            image.axes.figure.colorbar(image, ax=list(line), label="Δ(A → B)", shrink=0.8)

    return _by_budget(table, ("information_imbalance",), draw, columns=3, width=3.6, height=3.8)


def places(table: pd.DataFrame) -> list[dict[str, float]]:
    """What `at` can draw: every K and epoch of the largest budget that was asked for, the epoch fastest."""
    rows = _asked(table)
    found = {(float(dim), float(epoch)) for dim, epoch in zip(rows["latent_dim"], rows["epoch"], strict=True)}
    return [{"K": dim, "epoch": epoch} for dim, epoch in sorted(found)]


def at(table: pd.DataFrame, K: float, epoch: float) -> tuple[Figure, str]:
    """The ID of every layer of one K after one epoch, before its other epochs in grey, and what it shows in words."""
    rows = _asked(table)
    rows = _of_layers(rows[rows["latent_dim"] == K])
    figure, ((ax,),) = panels(1, 1, width=6.6)
    for other, points in rows.groupby("epoch"):
        if other != epoch:
            ax.plot(points.groupby("layer")["value"].mean(), color="#dddddd", lw=1, zorder=0)
    found = rows[rows["epoch"] == epoch]
    _curve(ax, found, "layer", color=BLUE, marker="o")
    _layer_axis(ax)
    ax.set(
        ylabel="intrinsic dimension (2NN)", title=f"K = {K:g}, epoch {epoch:g}", ylim=(0, 1.05 * rows["value"].max())
    )
    value = found.groupby("layer")["value"].mean().reindex(LAYERS)
    sentence = (
        f"K = {K:g} after {epoch:g} epochs: the data has {value[0]:.1f} dimensions, the encoder's peak "
        f"{value.loc[1:4].max():.1f}, z {value[CODE]:.1f}, the decoder's peak {value.loc[6:9].max():.1f}, the output "
        f"{value[10]:.1f}."
    )
    return figure, sentence


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """What the figures show at the end of training, as text: a row for each budget, data set and K.

    IDs are 2NN's, on the N images that are named; "left out" is the largest number of duplicates that any layer had.
    """
    made = []
    for _, rows in _budgets(table, ("intrinsic_dimension",)):
        last = rows[rows["step"] == rows["steps"]]
        humps = _prominences(last)
        for dim in np.unique(last["latent_dim"]):
            mine = last[last["latent_dim"] == dim]
            found = _of_layers(mine[mine["measure"] == "intrinsic_dimension"])
            by_layer = found.pivot_table(index="seed", columns="layer", values="value").reindex(columns=LAYERS)
            kl = mine[(mine["measure"] == "rate") & (mine["part"] == "train")]
            back = mine[(mine["measure"] == "information_imbalance") & (mine["arguments"] == "from=10,to=0")]
            left_out = mine.loc[mine["measure"] == "duplicates", "value"].max()
            made.append(
                {
                    "images": mine["data"].iloc[0],
                    "epochs": f"{mine['epoch'].max():g}",
                    "K": dim,
                    "seeds": mine["seed"].nunique(),
                    "N": f"{found['n'].max():,.0f}",
                    "left out": f"{left_out:.0f}",
                    "data": _text(by_layer[0]),
                    "encoder's peak": _text(by_layer[[1, 2, 3, 4]].max(axis=1)),
                    "z": _text(by_layer[CODE]),
                    "prior": _text(mine.loc[mine["measure"] == "prior_dimension", "value"]),
                    "decoder's peak": _text(by_layer[[6, 7, 8, 9]].max(axis=1)),
                    "output": _text(by_layer[10]),
                    "prominence": _text(humps.loc[humps["latent_dim"] == dim, "value"], ".2f"),
                    "KL (nats)": _text(kl["value"]),
                    "Δ(output → image)": _text(back["value"], ".3f"),
                }
            )
    return pd.DataFrame(made)


def _text(values: pd.Series, form: str = ".1f") -> str:
    """A mean with its standard deviation over seeds; a dash where nothing was measured."""
    values = values.dropna()
    if not len(values):
        return "–"
    return f"{values.mean():{form}}" + (f" ± {values.std():{form}}" if len(values) > 1 else "")


def _by_budget(
    table: pd.DataFrame,
    needs: Sequence[str],
    draw: Callable[[Sequence[Axes], pd.DataFrame], None],
    columns: int = 1,
    width: float = 6.6,
    height: float = 3.4,
    shows: Sequence[str] = (),
    last: bool = True,
) -> Figure:
    """A row of panels for each budget and data set that has the measures needed, the largest budget first.

    `shows` are the values drawn, where they are not those of `needs`; at the end of training alone, if `last`.
    """
    rows = _budgets(table, needs)
    figure, axes = panels(max(1, len(rows)), columns, width=width, height=height)
    for line, (_, group) in zip(axes, rows, strict=False):
        draw(line, group)
    for ax in axes.flat:
        if not ax.has_data():
            ax.set_axis_off()
    if rows:
        figures.label_rows(axes, [label for label, _ in rows])
        drawn = pd.concat([group for _, group in rows])
        figures.with_data(figure, tidy.csv(drawn, *(shows or needs), last=last))
    else:
        axes[0, 0].text(0.5, 0.5, f"no {' and '.join(needs)} here", ha="center")
    return figure


def _budgets(table: pd.DataFrame, needs: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """Finished members that have all measures needed, cut by budget, data set and training set, with their epochs."""
    table = table[(table["status"] == "finished") & table["value"].notna()]
    found = []
    for (_, n_train), images in table.groupby(["data", "n_train"]):
        for label, rows in tidy.budgets(images, AXES):
            rows = rows.assign(epoch=(rows["step"] * rows["batch_size"] / n_train).round(1))
            if set(needs) <= set(rows.loc[rows["step"] == rows["steps"], "measure"]):
                found.append((_setting(rows, label), rows))
    return sorted(found, key=lambda one: one[1]["steps"].iloc[0] * one[1]["batch_size"].iloc[0], reverse=True)


def _asked(table: pd.DataFrame) -> pd.DataFrame:
    """The IDs of the largest budget that has a member which was asked for."""
    found = [rows for _, rows in _budgets(table, ("intrinsic_dimension",)) if rows["asked"].any()]
    return found[0][found[0]["measure"] == "intrinsic_dimension"] if found else table.iloc[:0].assign(epoch=[])


def _setting(rows: pd.DataFrame, label: str) -> str:
    """A budget's label with what it leaves out: epochs, training images, N, and the net where it is not the paper's."""
    first = rows.iloc[0]
    says = f"{rows['epoch'].max():g} epochs of {first['n_train']:,.0f} images, N = {first['n_test']:,.0f}:\n{label}"
    net = ", ".join(map(str, first["channels"]))
    return says if net == PAPERS_NET else f"{says}\nchannels {net}"


def _of_layers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the numbered layers, with the number as `layer`."""
    number = pd.to_numeric(rows["arguments"].str.removeprefix("layer="), errors="coerce")
    return rows.assign(layer=number)[number.notna()]


def _of_pairs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of an Information Imbalance, with the numbers of its layers as `a` (from) and `b` (to)."""
    layers = rows["arguments"].str.extract(r"from=(?P<a>\d+),to=(?P<b>\d+)").astype(float)
    return rows.assign(a=layers["a"], b=layers["b"])


def _both_ways(rows: pd.DataFrame) -> pd.DataFrame:
    """A row for each seed, K and pair a < b at the end: `there` is Delta(a -> b), `back` Delta(b -> a)."""
    found = _of_pairs(tidy.last(rows, "information_imbalance"))
    up, down = found[found["a"] < found["b"]], found[found["a"] > found["b"]]
    down = down.rename(columns={"a": "b", "b": "a", "value": "back"})
    on = ["seed", "latent_dim", "a", "b"]
    return up.rename(columns={"value": "there"})[[*on, "there", "se"]].merge(down[[*on, "back"]], on=on)


def _prominences(rows: pd.DataFrame) -> pd.DataFrame:
    """The prominence of the decoder's hump of each member, as `value`; members that lack a layer are left out."""
    found = _of_layers(tidy.last(rows, "intrinsic_dimension"))
    layers = found.pivot_table(index=["seed", "latent_dim"], columns="layer", values="value").reindex(columns=LAYERS)
    hump = layers[[6, 7, 8, 9]].max(axis=1, skipna=False) / layers[[CODE, 10]].max(axis=1, skipna=False)
    return hump.dropna().rename("value").reset_index().assign(se=np.nan)


def _curve(ax: Axes, rows: pd.DataFrame, over: str, **how) -> None:
    """The mean of `value` over one column, with bars: see the module's docstring."""
    if not len(rows):
        return
    points = rows.groupby(over)
    mean, spread = points["value"].mean(), points["value"].std()
    bars = spread.where(points["value"].count() > 1, points["se"].mean()).fillna(0)
    ax.errorbar(mean.index, mean, yerr=bars, capsize=2, lw=1.2, **how)


def _looks(values: pd.Series, label: str) -> list[tuple[float, dict]]:
    """Each different value in order, with a colour, a marker and a label of its own."""
    found = np.unique(values)
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, max(1, len(found))))
    return [
        (value, {"color": shade, "marker": marker, "label": label.format(f"{value:g}")})
        for value, shade, marker in zip(found, shades, cycle("osv^D<>p"), strict=False)
    ]


def _one_of(values: pd.Series, wanted: Sequence[int | None]) -> int:
    """The first value wanted that is there, else the largest."""
    found = set(values)
    return next((value for value in wanted if value is not None and value in found), max(found))


def _some(line: Sequence[Axes], values: pd.Series) -> list[tuple[Axes, int]]:
    """The smallest, middle and largest value, each with its panel."""
    found = np.unique(values)
    chosen = found[np.unique(np.linspace(0, len(found) - 1, min(len(line), len(found))).round().astype(int))]
    return list(zip(line, chosen, strict=False))


def _layer_axis(ax: Axes) -> None:
    ax.axvline(CODE, color=GREY, ls=":", lw=1)
    ax.set_xticks(LAYERS, NAMES)
    ax.set(xlabel="layer")


def _legend(ax: Axes, beside: bool = False, **how) -> None:
    """A legend where there is something to explain, on the panel or to the right of it."""
    handles, _ = ax.get_legend_handles_labels()
    if handles and beside:
        ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8, **how)
    elif handles:
        ax.legend(ncols=2 if len(handles) > 4 else 1, fontsize=8, **how)
