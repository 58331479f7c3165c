"""House style, and the plots that two studies or more draw: from the tidy table, never from live models."""

import math
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from numbers import Real
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox, BboxBase, IdentityTransform
from pandas.io.formats.style import Styler
from torch import Tensor

from vaekit import checks
from vaekit.store.table import csv, distinct, having, select

# Okabe and Ito's colours, told apart by colour-blind readers too.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#777777"
LEAST_LINE = 4  # points of a line
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
    """A figure with the data that it draws, as the text of a CSV: for IPython another form of the same picture."""

    csv = ""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/csv": self.csv} if self.csv else {}


def panels(rows: int, columns: int, width: float = 4.2, height: float = 3.4, **how: Any) -> tuple[Figure, np.ndarray]:
    """A figure of rows x columns axes in the house style, always as a two-dimensional array.

    pyplot forgets it at once: so a notebook shows it where a cell returns it, once.
    """
    plt.rcdefaults()  # a matplotlibrc of one's own changes no figure
    plt.rcParams.update(STYLE)
    size = (width * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, FigureClass=_DataFigure, **how)
    plt.close(figure)
    return figure, axes


def with_data(figure: Figure, data: str) -> Figure:
    """The figure with the data that it draws (`table.csv`), which a notebook then stores beside the picture.

    A page of the book offers it in the caption, under the figure's name. Without data the figure stays as it is.
    """
    if not isinstance(figure, _DataFigure):
        raise checks.refusal("figure", figure, "one that vaekit.figures.panels made")
    figure.csv = data
    return figure


def described(
    caption: str, alt: str = "", claims: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Say what a figure, or a table without `alt`, shows: a page shows it with these words, at the first of its claims.

    Args:
        caption: below the figure.
        alt: what is seen, for who cannot see it.
        claims: the numbers of the claims that it bears on.
    """

    def describe(function: Any) -> Any:
        function.caption, function.alt, function.claims, function.is_table = caption, alt, tuple(claims), not alt
        return function

    return describe


def is_empty(figure: Figure) -> bool:
    """Whether no panel of a figure has a point, a bar or a picture in it."""
    return not any(map(_is_drawn, figure.axes))


def _is_drawn(ax: Axes) -> bool:
    return bool(ax.images) or bool(np.isfinite(ax.dataLim.get_points()).all())  # a line across all of it has no points


def trimmed(figure: Figure) -> Figure:
    """A figure of `panels` without those rows and columns of panels in which nothing is drawn.

    One with a colour bar stays as it is, for the bar is laid out beside all the panels that it was made for.
    """
    axes = {ax: place for ax in figure.axes if (place := ax.get_subplotspec())}
    drawn = [place for ax, place in axes.items() if _is_drawn(ax)]
    rows = sorted({place.rowspan.start for place in drawn})
    columns = sorted({place.colspan.start for place in drawn})
    grids = {place.get_gridspec() for place in axes.values()}
    if not drawn or len(axes) < len(figure.axes) or len(grids) > 1:
        return figure
    sizes = grids.pop().get_geometry()
    if sizes == (len(rows), len(columns)):
        return figure
    width, height = figure.get_size_inches()
    figure.set_size_inches(width * len(columns) / sizes[1], height * len(rows) / sizes[0])
    smaller = figure.add_gridspec(len(rows), len(columns))
    for ax, place in axes.items():
        row, column = place.rowspan.start, place.colspan.start
        if row in rows and column in columns:
            ax.set_subplotspec(smaller[rows.index(row), columns.index(column)])
        else:
            ax.remove()
    return figure


def stamp(figure: Figure, words: str) -> None:
    """Write words across a figure, large and grey, so that nobody takes it for more than it is."""
    figure.text(0.5, 0.5, words, ha="center", va="center", rotation=18, fontsize=26, color=GREY, alpha=0.35, zorder=100)


def scheme(model: Any) -> Figure:
    """A model from left to right, drawn from what passes through it: a bar for each layer of `walk`, with its shape.

    A bar's height grows with the logarithm of the layer's numbers.

    Args:
        model: a VAE in eval mode, with `image_shape`, `noise_sites` and `walk`.
    """
    image = torch.zeros(2, *model.image_shape)
    noise = {site: torch.zeros(2, *shape) for site, shape in model.noise_sites.items()}
    with torch.no_grad():
        layers = [(name, tuple(value.shape[1:])) for name, value in model.eval().walk(image, noise)]
    figure, axes = panels(1, 1, width=max(5.5, 0.78 * len(layers)), height=2.3)
    ax, colours = axes[0, 0], {"enc": BLUE, "dec": GREEN, "inp": GREY, "out": GREY}
    for place, (name, shape) in enumerate(layers):
        height = 0.25 + math.log10(math.prod(shape))
        ax.bar(place, height, 0.5, -height / 2, color=colours.get(name[:3], ORANGE))
        ax.text(place, height / 2 + 0.12, name, ha="center", va="bottom", fontsize=9)
        below = -height / 2 - 0.12 - 0.45 * (place % 2)  # neighbours' shapes may be wider than their bars are apart
        ax.text(place, below, " × ".join(map(str, shape)), ha="center", va="top", fontsize=9)
    ax.set(ylim=(-3.3, 2.9), xlim=(-0.8, len(layers) - 0.2))
    ax.plot([0, len(layers) - 1], [0, 0], color="#cccccc", zorder=0)
    ax.set_axis_off()
    return figure


def nothing(words: str) -> Figure:
    """A figure that says why there is nothing to draw."""
    figure, axes = panels(1, 1, width=7, height=0.8)
    say(axes[0, 0], words)
    return figure


def say(ax: Axes, words: str) -> None:
    """Words in place of a panel."""
    ax.set_axis_off()
    ax.annotate(words, (0.5, 0.5), xycoords="axes fraction", ha="center", va="center", fontsize=9)


def grid(
    groups: Sequence[tuple[str, pd.DataFrame]],
    draw: Callable[[Any, pd.DataFrame], None],
    columns: int | Mapping[str, Mapping[str, Any]] = 1,
    *,
    measures: Sequence[str] = (),
    drawn: pd.DataFrame | None = None,
    history: bool = False,
    legend: bool = False,
    empty: str = "not run yet",
    missing: str = "",
    wrap: int = 0,
    **how: Any,
) -> Figure:
    """A row of panels for each budget, labelled above its first panel, with the data that is drawn.

    Args:
        groups: the label and the rows of each budget, the largest first (`table.budgets`, `table.budget_label`).
        draw: with a number of columns, `draw(axes, rows)` of a budget's panels; with named ones, `draw(ax, rows)` of
            each panel's own rows.
        columns: how many panels a budget has; or, by the panels' titles, what `table.having` picks for each. Budgets
            one after the other that share no panel then stand side by side.
        measures: the data, as `table.csv` takes them, of the rows `drawn` (None: all rows of `groups`).
        history: the data are of every step; else of the end of training.
        legend: one legend for all panels that have none of their own, below them; a long one beside a single column.
        empty: the words where there is no panel.
        missing: the words below the title of a panel in which nothing is drawn; "": it stays blank.
        wrap: panels in a line at most; 0: all of them.
        how: for `panels`.
    """
    labels = distinct([label for label, _ in groups])
    groups = [(label, rows) for label, (_, rows) in zip(labels, groups, strict=True)]
    titles = [""] * columns if isinstance(columns, int) else list(columns)
    count = len(titles)
    lines = groups if isinstance(columns, int) else _packed(groups, columns)
    if not lines:
        return nothing(empty)
    across = min(count, wrap or count)
    options: dict[str, Any] = how if isinstance(columns, int) else {"sharey": "row", **how}
    figure, axes = panels(-(-count // across) * len(lines), across, **options)
    for block, line in zip(axes.reshape(len(lines), -1)[:, :count], lines, strict=True):
        if isinstance(line, tuple):
            label, rows = line
            draw(block, rows)
            labels = [label, *[""] * (count - 1)]
        else:
            labels = [
                _draw_panel(ax, title, line.get(title), draw, missing) for ax, title in zip(block, titles, strict=True)
            ]
        _label_panels(block, labels, across)
    for ax in figure.axes:
        if not ax.has_data():
            ax.set_axis_off()
            if missing and ax.get_title():
                say(ax, missing)
    if legend:
        _shared_legend(figure, across)
    if measures:
        shown = pd.concat([rows for _, rows in groups]) if drawn is None else drawn
        shown = shown.drop_duplicates(["key", "step", "part", "measure", "arguments"])  # of parents that budgets share
        with_data(figure, csv(shown, *measures, last=not history))
    return figure


def _draw_panel(ax: Axes, title: str, shown: tuple[str, pd.DataFrame] | None, draw: Callable, missing: str) -> str:
    """Draw a named panel, and return the label of its budget; "" where it has none."""
    if shown:
        draw(ax, shown[1])
    if shown or missing:
        ax.set_title(title, parse_math=False)
    return shown[0] if shown else ""


def _packed(
    groups: Sequence[tuple[str, pd.DataFrame]], columns: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, tuple[str, pd.DataFrame]]]:
    """Line by line, the label and the rows of each panel by its title.

    A budget joins the line of the one before it where all of its panels stand to the right of that one's.
    """
    lines: list[dict[str, tuple[str, pd.DataFrame]]] = []
    place = list(columns).index
    for text, rows in groups:
        own = {title: (text, shown) for title, where in columns.items() if len(shown := having(rows, **where))}
        if lines and own and max(map(place, lines[-1])) < min(map(place, own)):
            lines[-1] |= own
        elif own:
            lines.append(own)
    return lines


def _label_panels(block: np.ndarray, labels: Sequence[str], across: int) -> None:
    """Each budget's label above the first of its panels, as wide as they are: `across` panels are a line."""
    width = block[0].figure.get_figwidth() / across
    firsts = sorted(labels.index(label) for label in {*labels} - {""})
    for first, following in zip(firsts, [*firsts[1:], len(labels)], strict=True):
        last = min(following, (first // across + 1) * across)
        if first:
            block[first].tick_params(labelleft=True)  # where the line's first panel is empty, nobody else shows them
        label_above(block[first], labels[first], letters=int(9.6 * width * (last - first)))


def _shared_legend(figure: Figure, across: int) -> None:
    """One legend of what any panel draws that has none of its own: below them, or a long one beside a single column."""
    shared = [ax.get_legend_handles_labels() for ax in figure.axes if ax.get_legend() is None]
    named = {name: handle for handles, names in shared for handle, name in zip(handles, names, strict=True)}
    if not named:
        return
    width, height = figure.get_size_inches()
    entry = 0.55 + 0.075 * max(map(len, named))
    columns = max(1, min(4, int(width / entry)))
    lines = -(-len(named) // columns)
    if across == 1 and lines > 3:
        figure.set_size_inches(width + entry, max(height, 0.25 * len(named)))
        figure.legend(named.values(), named.keys(), loc="outside right upper")
    else:
        figure.set_size_inches(width, height + 0.25 * lines)
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)


def line(ax: Axes, rows: pd.DataFrame, over: str, *, own_error: bool = False, seeds: bool = False, **how: Any) -> None:
    """The mean of `value` over a column with its standard deviation over seeds; nothing of rows without a number.

    Args:
        ax: the panel.
        rows: of one curve.
        over: the column of the horizontal axis.
        own_error: whether the bar of a single seed is its own standard error; else it has none.
        seeds: whether each seed is a small point as well.
        how: for matplotlib's `errorbar`.

    Raises:
        ValueError: rows without the columns.
    """
    checks.names("rows", rows.columns, (over, "value", *(["se"] if own_error else [])))
    rows = finite(rows)
    if not len(rows):
        return
    points = rows.groupby(over)
    mean, spread = points["value"].mean(), points["value"].std()
    bars = spread.where(points["value"].count() > 1, points["se"].mean()) if own_error else spread
    drawn = ax.errorbar(mean.index, mean, yerr=bars.fillna(0), **_unjoined(mean, {"capsize": 2, "lw": 1.2, **how}))
    if seeds:
        colour = drawn.lines[0].get_color()
        ax.plot(rows[over], rows["value"], how.get("marker", "o"), color=colour, ms=2.5, alpha=0.5, lw=0)


def _unjoined(points: Sequence[Any] | pd.Series | pd.DataFrame, look: dict[str, Any]) -> dict[str, Any]:
    """The look of a curve: fewer than `LEAST_LINE` points are not joined, for a line would say what is between them."""
    if len(points) >= LEAST_LINE or look.get("ls") == "none":
        return look
    return {"marker": "o", **look, "ls": "none", "elinewidth": look["lw"]}


def finite(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose value is a number: what is drawn, since an axis that reaches for the others has no scale.

    Raises:
        ValueError: rows without the column `value`.
    """
    checks.names("rows", rows.columns, ("value",))
    return rows[np.isfinite(rows["value"].astype(float))]


def mean_sd(values: pd.Series, form: str = ".1f", empty: str = "–") -> str:
    """A mean over seeds with its standard deviation, as text; of one seed without, of none `empty`."""
    values = pd.Series(values, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return empty
    return f"{values.mean():{form}}" + (f" ± {values.std():{form}}" if len(values) > 1 else "")


def looks(values: Iterable[Any], name: str = "{:g}") -> list[tuple[Any, dict[str, Any]]]:
    """Each different value in order, with a colour, a marker and a label of its own, for matplotlib."""
    once = sorted(set(values), key=lambda value: (isinstance(value, str), value is None, value or 0))
    shades = plt.get_cmap("viridis")(np.linspace(0, 0.9, max(1, len(once))))
    return [
        (value, {"color": tuple(shade), "marker": marker, "label": _labelled(name, value)})
        for value, shade, marker in zip(once, shades, cycle("osv^D<>p"), strict=False)
    ]


def _labelled(name: str, value: Any) -> str:
    """A value in its form, which is that of a number; another value as it is."""
    return name.format(value) if isinstance(value, Real) else name.replace("{:g}", "{}").format(value)


ROW = ("seed", "beta", "step", "steps", "part", "measure", "value")  # columns without which nothing is drawn
# Parts of those images, which other figures draw.
SUBSETS = ("test_a", "test_b", "train_nested", "test_nested", "test_nested_a", "test_nested_b")


def rate_distortion(table: pd.DataFrame | Sequence[Mapping[str, Any]], ax: Axes | None = None) -> Figure:
    """D over R in nats per image at the end of training, a curve for each part, a point for each beta.

    `table` is the tidy table of one budget, or the rows of `metrics.rd_table`. Points are means over seeds with their
    standard deviations; the star is beta = 1; grey diagonals have equal ELBO, -D - R at beta = 1 (Bozkurt et al. 2021,
    figure 3). Rings mark the members that were asked for, where others stand beside them.

    Raises:
        ValueError: a table without its columns, of another part, or with two values of a beta and a seed.
    """
    frame = pd.DataFrame(table)
    checks.names("table", frame.columns, ROW)
    ax = _given(ax)
    if unknown := set(frame["part"].dropna()) - {*PARTS, *SUBSETS}:
        raise ValueError(f"part is {', '.join(sorted(unknown))}; a curve is drawn for {' and '.join(PARTS)}")
    final = pd.concat([select(frame, "rate", layer=None), select(frame, "distortion", samples=(1, None))])
    for part, (colour, marker, label) in PARTS.items():
        rows = having(final, part=part)
        mean = rd_curve(rows, ax, color=colour, marker=marker, label=label)
        if len(rows) and "asked" in rows and not rows["asked"].all():
            asked = mean.loc[mean.index.intersection(rows.loc[rows["asked"], "beta"].unique())]
            ax.plot(asked["rate"], asked["distortion"], "o", mfc="none", mec="black", ms=11, mew=1.2)
    rd_axes(ax)
    if ax.get_legend_handles_labels()[0]:
        ax.legend(loc="best")
    return _figure(ax)


def rd_curve(rows: pd.DataFrame, ax: Axes, **how: Any) -> pd.DataFrame:
    """Draw one curve of D over R: a point for each beta, the mean over seeds with its standard deviation.

    `rows` are those of the measures rate and distortion; `how` goes to the plot. The star is beta = 1.

    Returns:
        The means by beta, with the columns rate and distortion.

    Raises:
        ValueError: rows without these columns, or a beta and a seed that have two values, which are of two curves.
    """
    checks.names("rows", rows.columns, ("beta", "seed", "measure", "value"))
    rows = finite(rows)
    _check_one_curve(rows, "beta", "seed", "measure")
    points = rows.pivot(index=["beta", "seed"], columns="measure", values="value")
    points = points.reindex(columns=["rate", "distortion"]).dropna().groupby("beta")
    mean, spread = points.mean(), points.std().fillna(0)
    if not len(mean):
        return mean
    r, d = mean["rate"], mean["distortion"]
    look = _unjoined(mean, {"capsize": 2, "lw": 1.2, **how})
    drawn = ax.errorbar(r, d, yerr=spread["distortion"], xerr=spread["rate"], **look)
    if 1 in mean.index:
        ax.plot(r[1], d[1], "*", color="white", mec=drawn.lines[0].get_color(), ms=12, zorder=5)
    return mean


def _check_one_curve(rows: pd.DataFrame, *place: str) -> None:
    """Refuse rows with two values at one place, of which a mean over seeds would be one over other things, too."""
    if len(twice := rows[rows.duplicated(list(place))]):
        first = twice.iloc[0]
        where = ", ".join(f"{name} {first[name]:g}" for name in place if name != "measure")
        raise ValueError(f"two values of {first['measure']} at {where}; give one curve")


def rd_axes(ax: Axes) -> None:
    """The axes' names and, behind the curves that are drawn, about eight diagonals of equal ELBO."""
    ax.set(xlabel="rate R (nats per image)", ylabel="distortion D (nats per image)")
    (left, bottom), (right, top) = ax.dataLim.min, ax.dataLim.max
    if not np.isfinite([left, bottom, right, top]).all():
        return  # nothing is drawn
    for total in MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(left + bottom, right + top):
        x = np.clip(total - bottom, left, right)
        if bottom <= total - x <= top:
            ax.axline((x, total - x), slope=-1, color="#cccccc", lw=0.7, zorder=0)


def over_beta(
    table: pd.DataFrame, measure: str, ax: Axes, where: Mapping[str, Any] | None = None, part: str = "train", **how: Any
) -> Axes:
    """A measure over beta at the end of training, mean over seeds with its standard deviation, beta on a log axis.

    `where` has arguments of the measure, as `table.select` takes them; `how` is for `line`.

    Raises:
        ValueError: a table without its columns.
    """
    checks.names("table", table.columns, ROW)
    rows = select(table, measure, part=part, **(where or {}))
    rows = finite(rows[rows["beta"].notna()])
    _check_one_curve(rows, "beta", "seed")
    if len(rows):
        line(ax, rows, "beta", **{"marker": "o", **how})
        curves = [bars.lines[0] for bars in ax.containers if isinstance(bars, ErrorbarContainer)]
        _beta_axis(ax, np.concatenate([curve.get_xdata() for curve in curves if curve]).tolist())
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


def learning_curves(
    table: pd.DataFrame, measure: str, ax: Axes, part: str = "test", betas: Iterable[float] | None = None, **where: Any
) -> Axes:
    """A measure over training steps, one curve for each beta (mean over seeds), steps on a log axis.

    `betas` are all that share a legend, so that each has one colour in all panels; None: those of the table.

    Raises:
        ValueError: a table without its columns.
    """
    checks.names("table", table.columns, ROW)
    rows = finite(select(table, measure, at="all", part=part, **where))
    _check_one_curve(rows, "beta", "seed", "step")
    for beta, look in looks(rows["beta"].dropna() if betas is None else betas, "beta {:g}"):
        curve = rows[rows["beta"] == beta].groupby("step")["value"].mean()
        ax.plot(curve.index, curve, ms=3, lw=1.2, **look)
    ax.set(xscale="log", xlabel="training steps")
    return ax


def pictures(images: Tensor, columns: int, ax: Axes | None = None) -> Figure:
    """uint8 images (n, C, H, W), C 1 or 3, as one sheet, row by row, without axes.

    Raises:
        ValueError: other images, or no columns.
    """
    checks.images(images, channels=(1, 3))
    columns = checks.whole("columns", columns, 1)
    ax = _given(ax, width=0.55 * columns, height=0.55 * -(-len(images) // columns))
    array = images.permute(0, 2, 3, 1).cpu().numpy()
    n, height, width, channels = array.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1, channels), 255, np.uint8)
    for i, image in enumerate(array):
        y, x = i // columns * (height + 1), i % columns * (width + 1)
        sheet[y : y + height, x : x + width] = image
    ax.imshow(sheet if channels == 3 else sheet[..., 0], cmap="gray", interpolation="nearest")
    ax.set_axis_off()
    return _figure(ax)


def text_table(frame: pd.DataFrame) -> Styler:
    """A table of text for a page: every word of it, headings included, escaped, without the index.

    Raises:
        ValueError: no DataFrame.
    """
    if not isinstance(frame, pd.DataFrame):
        raise checks.refusal("frame", frame, "a pandas DataFrame")
    look = {"text-align": "left", "vertical-align": "top", "white-space": "normal"}
    styler = frame.style.hide(axis="index").format(escape="html").format_index(escape="html", axis=1)
    styler.set_properties(**look)
    styler.set_table_attributes('class="dataframe vaekit-table"').set_uuid("table")
    return styler.set_table_styles([{"selector": "th", "props": [("text-align", "left")]}])


class _Label(Annotation):
    """A line above a panel, for whose width the layout makes no room: it may reach over the next panels."""

    def get_tightbbox(self, renderer: Any = None) -> Bbox | None:
        box = super().get_tightbbox(renderer)
        if box is None or self.axes is None:
            return box
        panel = self.axes.bbox
        return Bbox.from_extents(panel.x0, box.y0, min(box.x1, panel.x1), box.y1)


def label_above(ax: Axes, text: str, letters: int | None = None) -> None:
    """A budget's label above a panel and its title, in lines of at most so many `letters`. A dollar is no formula.

    It stays above the title, also where that is set later.
    """

    def titles(renderer: Any) -> BboxBase:
        words = [child for child in ax.get_children() if isinstance(child, Text) and child not in ax.texts]
        return Bbox.union([text.get_window_extent(renderer) for text in words])

    lines = textwrap.wrap(text, letters) if letters else [text]
    how: dict[str, Any] = {"xycoords": ("axes fraction", titles), "textcoords": "offset points", "va": "bottom"}
    how |= {"annotation_clip": False, "clip_on": False, "fontweight": "bold", "fontsize": 9, "parse_math": False}
    ax.add_artist(_Label("\n".join(lines), (0, 1), (0, 8), transform=IdentityTransform(), **how))


def _given(ax: Axes | None, **size: float) -> Axes:
    """The axes given, or those of a new figure."""
    return panels(1, 1, **size)[1][0, 0] if ax is None else ax


def _figure(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # panels made it
    return figure
