"""House style, and the plots that two studies or more draw: from the tidy table, never from live models."""

import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas.io.formats.style import Styler
from torch import Tensor

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777"
PARTS = {"train": (BLUE, "o", "training images"), "test": (ORANGE, "s", "test images")}
STYLE: dict[Any, Any] = {
    "figure.dpi": 144,
    "figure.facecolor": "white",
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.markersize": 5,
    "svg.fonttype": "path",
    "svg.hashsalt": "vaekit",
}


class _DataFigure(Figure):
    """A figure that knows the data it draws, as the text of a CSV: for IPython another form of the same picture."""

    csv = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/csv": self.csv} if self.csv else {}


def use_style() -> None:
    """Draw in the house style from here on."""
    plt.rcParams.update(STYLE)


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.4, **how: Any) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes, always as a two-dimensional array.

    pyplot forgets it at once: so a notebook shows it where a cell returns it, once.
    """
    use_style()
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, FigureClass=_DataFigure, **how)
    plt.close(figure)
    return figure, axes


def with_data(figure: Figure, csv: str) -> Figure:
    """The figure with the data that it draws (`tidy.csv`), which a notebook then stores beside the picture.

    A page of the book offers it in the caption, under the figure's name. Without data the figure stays as it is.
    """
    assert isinstance(figure, _DataFigure)  # panels made it
    figure.csv = csv
    return figure


# Parts of those images, which other figures draw.
SUBSETS = ("test_a", "test_b", "train_nested", "test_nested", "test_nested_a", "test_nested_b")


def rate_distortion(table: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Figure:
    """D over R in nats per image at the end of training, a curve for each part, a point for each beta.

    `table` is the tidy table of one budget, or the rows of `metrics.rd_table`. Points are means over seeds with their
    standard deviations; the star is beta = 1; grey diagonals are lines of equal ELBO, -D - R at beta = 1 (Bozkurt et
    al. 2021, figure 3). Rings mark the members that were asked for, where others are shown beside them.
    """
    ax = _given(ax)
    frame = pd.DataFrame(table)
    if unknown := set(frame["part"].dropna()) - {*PARTS, *SUBSETS}:
        raise ValueError(f"part is {', '.join(sorted(unknown))}; a curve is drawn for {' and '.join(PARTS)}")
    final = frame[frame["step"] == frame["steps"]]
    if "arguments" in final:
        final = final[final["arguments"].isin(["", "samples=1"])]
    for part, (colour, marker, label) in PARTS.items():
        rows = final[(final["part"] == part) & final["measure"].isin(["rate", "distortion"])]
        mean = rd_curve(rows, ax, color=colour, marker=marker, label=label)
        if len(rows) and "asked" in rows and not rows["asked"].all():
            asked = mean.loc[mean.index.intersection(rows.loc[rows["asked"], "beta"].unique())]
            ax.plot(asked["rate"], asked["distortion"], "o", mfc="none", mec="black", ms=11, mew=1.2)
    rd_axes(ax)
    ax.legend(loc="best")
    return _figure(ax)


def rd_curve(rows: pd.DataFrame, ax: Axes, **how: Any) -> pd.DataFrame:
    """Draw one curve of D over R: a point for each beta, the mean over seeds with its standard deviation.

    `rows` are those of the measures rate and distortion of one curve; `how` goes to the plot. The star is beta = 1.
    Returns the means, by beta, with the columns rate and distortion; nothing is drawn of no rows. Errors: ValueError
    for two values of a beta and a seed, which are of two curves.
    """
    rows = rows[rows["value"].notna()]
    if len(twice := rows[rows.duplicated(["beta", "seed", "measure"])]):
        first = twice.iloc[0]
        raise ValueError(
            f"two values of {first['measure']} at beta {first['beta']:g}, seed {first['seed']}; give one curve"
        )
    points = rows.pivot(index=["beta", "seed"], columns="measure", values="value")
    points = points.reindex(columns=["rate", "distortion"]).dropna().groupby("beta")
    mean, spread = points.mean(), points.std().fillna(0)
    if not len(mean):
        return mean
    r, d = mean["rate"], mean["distortion"]
    drawn = ax.errorbar(r, d, yerr=spread["distortion"], xerr=spread["rate"], **{"capsize": 2, "lw": 1.2, **how})
    if 1 in mean.index:
        ax.plot(r[1], d[1], "*", color="white", mec=drawn.lines[0].get_color(), ms=12, zorder=5)
    return mean


def rd_axes(ax: Axes) -> None:
    """The axes' names, and diagonals of equal ELBO behind the curves that are drawn."""
    _iso_elbo(ax)
    ax.set(xlabel="rate R (nats per image)", ylabel="distortion D (nats per image)")


def over_beta(
    table: pd.DataFrame, measure: str, ax: Axes, arguments: str = "", part: str = "train", **how: Any
) -> Axes:
    """A measure over beta at the end of training, mean over seeds with its standard deviation, beta on a log axis."""
    rows = table[(table["step"] == table["steps"]) & (table["measure"] == measure) & (table["part"] == part)]
    points = rows[rows["arguments"] == arguments].groupby("beta")["value"]
    mean, spread = points.mean(), points.std().fillna(0)
    if not len(mean):
        return ax
    _beta_axis(ax, mean.index)
    ax.errorbar(mean.index, mean, yerr=spread, capsize=2, **{"marker": "o", "lw": 1.2, **how})
    return ax


def _beta_axis(ax: Axes, betas: Sequence[float]) -> None:
    """Beta on a log axis, with a place for 0 where it is among them, and room where there is but one."""
    positive = [beta for beta in betas if beta > 0] or [1.0]
    if min(betas) <= 0:
        ax.set_xscale("symlog", linthresh=min(positive))
        ax.set_xlim(-min(positive) / 2, 2 * max(positive))
    else:
        ax.set_xscale("log")
        ax.set_xlim(min(positive) / 1.5, 1.5 * max(positive))
    ax.set(xlabel="beta")


def learning_curves(table: pd.DataFrame, measure: str, arguments: str, ax: Axes, part: str = "test") -> Axes:
    """A measure over training steps, one curve for each beta (mean over seeds), steps on a log axis."""
    rows = table[(table["measure"] == measure) & (table["arguments"] == arguments) & (table["part"] == part)]
    betas = sorted(rows["beta"].unique())
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, len(betas)))
    for beta, shade, marker in zip(betas, shades, cycle("osv^D"), strict=False):
        curve = rows[rows["beta"] == beta].groupby("step")["value"].mean()
        ax.plot(curve.index, curve, color=shade, marker=marker, ms=3, lw=1.2, label=f"beta {beta:g}")
    ax.set(xscale="log", xlabel="training steps")
    return ax


def pictures(images: Tensor, columns: int, ax: Axes | None = None) -> Figure:
    """uint8 images (n, C, H, W) as one sheet, row by row, without axes."""
    ax = _given(ax, width=0.55 * columns, height=0.55 * -(-len(images) // columns))
    array = images.permute(0, 2, 3, 1).cpu().numpy()
    n, height, width, colours = array.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, colours), 255, np.uint8)
    for i, image in enumerate(array):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        sheet[y : y + height, x : x + width] = image
    ax.imshow(sheet if colours == 3 else sheet[..., 0], cmap="gray", interpolation="nearest")
    ax.set_axis_off()
    return _figure(ax)


@torch.no_grad()
def reconstructions(model, images: Tensor, ax: Axes, columns: int = 8) -> Axes:
    """uint8 images, `columns` to a row, each row above what a model makes of them at the modes of their codes."""
    x = images.to(next(model.parameters()).dtype) / 255
    noise = {site: x.new_zeros((len(x), *shape)) for site, shape in model.noise_sites.items()}
    made = (model(x, noise)["x"].mean.clamp(0, 1) * 255).round().to(torch.uint8)
    rows = [part for pair in zip(images.split(columns), made.split(columns), strict=True) for part in pair]
    pictures(torch.cat(rows), columns, ax)
    ax.set_title("images, and below each its reconstruction", loc="left")
    return ax


def text_table(frame: pd.DataFrame) -> Styler:
    """A table of text for a page: every word of it, headings included, escaped, without the index."""
    look = {"text-align": "left", "vertical-align": "top", "white-space": "normal"}
    styler = frame.style.hide(axis="index").format(escape="html").format_index(escape="html", axis=1)
    styler.set_properties(**look)
    styler.set_table_attributes('class="dataframe vaekit-table"').set_uuid("table")
    return styler.set_table_styles([{"selector": "th", "props": [("text-align", "left")]}])


def leftmost(ax: Axes) -> bool:
    """Whether a panel stands first in its row: where a legend goes that all panels share."""
    place = ax.get_subplotspec()
    return place is None or place.is_first_col()


def label_rows(axes: np.ndarray, labels: Sequence[str]) -> None:
    """A line above the first panel of each row: its budget, which every figure states."""
    for row, text in zip(axes, labels, strict=True):
        label(row[0], text)


def label(ax: Axes, text: str, width: int | None = None) -> None:
    """A line above a panel: its budget; or several, of at most `width` letters. A dollar is no formula there."""
    lines = textwrap.wrap(text, width) if width else [text]
    how = {"transform": ax.transAxes, "fontweight": "bold", "fontsize": 9, "parse_math": False}
    ax.text(0, 1.13, "\n".join(lines), **how)


def _given(ax: Axes | None, **size: float) -> Axes:
    """The axes given, or those of a new figure."""
    return panels(1, 1, **size)[1][0, 0] if ax is None else ax


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # panels made it
    return figure


def _iso_elbo(ax: Axes, every: float = 20.0) -> None:
    """Diagonals of equal D + R behind the curves, `every` so many nats, through the range of the data."""
    (left, bottom), (right, top) = ax.dataLim.min, ax.dataLim.max
    for total in np.arange(np.ceil((left + bottom) / every), (right + top) / every) * every:
        x = np.clip(total - bottom, left, right)
        if bottom <= total - x <= top:
            ax.axline((x, total - x), slope=-1, color="#cccccc", lw=0.7, zorder=0)
