"""Study 2's figures, after Xiao & Bamler (2023). Numbers of figures are the paper's.

Every figure has a row for each budget, data set and model, the largest first. Of a grid that several seeds hold, the
seed with most of it is drawn; the fresh seeds of a few members belong to the verdicts.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from vaekit import data, figures, runs, sweep, tidy, widgets
from vaekit.claims import point_text
from vaekit.figures import BLUE, GREY, ORANGE, PURPLE, panels
from vaekit.metrics import PROBES, accuracy_bound, generate_images, upper_hull
from vaekit.studies.hierarchical_rates import DESIGN, Settings
from vaekit.studies.hierarchical_rates.claims import TABLE_1

AXES = ["beta2", "beta1"]
R2, R1, R = "R(z2) (nats)", "R(z1|z2) (nats)", "total rate R (nats)"
PSNR, IS, RBF, INFORMATION = "PSNR (dB)", "Inception Score", "accuracy, RBF SVM", "I(y; z2) (nats)"
CLASSIFIERS = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))
# (measure, arguments) by what stands on an axis; a score's classifier is the one that judged most members.
METRICS = {
    R2: ("rate", "layer=z2"),
    R1: ("rate", "layer=z1"),
    R: ("rate", ""),
    PSNR: ("psnr", "of=images"),
    IS: ("inception_score", None),
    "diversity": ("diversity", None),
    "sharpness": ("sharpness", None),
    INFORMATION: ("class_information", "on=z2"),
    **{f"accuracy, {name}": ("accuracy", f"probe={probe},on=mu2") for probe, name in CLASSIFIERS.items()},
}
PARTS = ("test", "samples")
SCORES = (IS, "diversity", "sharpness")
BOUND = "bound by I(y; z2)"
DRAWN = {**METRICS, BOUND: ("accuracy_bound", "by=class_information")}
BEST = {PSNR: "^", IS: "D", RBF: "o"}  # the paper's markers of the best at each of three applications


def figure_1(table: pd.DataFrame) -> Figure:
    """Figure 1: what each member is worth to three applications, together and over (beta2, beta1), the best marked."""

    def draw(axes: Sequence[Axes], points: pd.DataFrame) -> None:
        for ax, (metric, marker) in zip(axes[1:], BEST.items(), strict=True):
            landscape(ax, points, metric, marker)
        surface_3d(axes[0], points, list(BEST))

    return _by_budget(table, draw, 4, [R2, R1, *BEST], three_d=True)


def figure_3(table: pd.DataFrame) -> Figure:
    """Figure 3: PSNR over the two rates, in three dimensions and in two, and over their sum, with its upper hull."""

    def draw(axes: Sequence[Axes], points: pd.DataFrame) -> None:
        surface_3d(axes[0], points, [R2, R1, PSNR])
        over_rates(axes[1], points, PSNR)
        over_total(axes[2], points, PSNR)
        if PSNR in points:
            axes[2].legend(loc="lower right")

    return _by_budget(table, draw, 3, [R2, R1, R, PSNR], three_d=True)


def figure_4(table: pd.DataFrame, columns: int = 8) -> Figure:
    """Figure 4: samples and reconstructions of three members: the best PSNR, the best samples, and betas of 1.

    From the weights of the largest budget of which some are stored here; none: a figure that says so.
    """
    for label, group in _groups(table):
        points = grid(group)
        worth = [metric for metric in (PSNR, IS) if metric in points and not (metric == IS and _alike(points, metric))]
        chosen = {f"best {metric.partition(' (')[0]}": points[metric].idxmax() for metric in worth}
        chosen["both betas 1"] = min(points.index, key=lambda point: np.abs(np.log10(np.maximum(point, 1e-9))).sum())
        models = {what: (point, stored(group, point)) for what, point in chosen.items()}
        if any(model for _, model in models.values()):
            figure, axes = panels(2, len(models), width=3.6, height=1.6)
            for column, (what, (point, model)) in zip(axes.T, models.items(), strict=True):
                column[0].set_title(f"{what}, {_named(point)}\nsamples")
                pictures_of(column, group, model, columns)
            figure.suptitle(label, x=0.01, ha="left", fontweight="bold", fontsize=9, parse_math=False)
            return figure
    return _nothing("No member's weights are on this machine; those that are trained here have pictures.")


def figure_5(table: pd.DataFrame) -> Figure:
    """Figure 5: Inception Score over the two rates, and its factors diversity and sharpness."""

    def draw(axes: Sequence[Axes], points: pd.DataFrame) -> None:
        for ax, metric in zip(axes, SCORES, strict=True):
            over_rates(ax, points, metric)

    return _by_budget(table, draw, 3, [R2, R1, R, *SCORES])


def figure_6(table: pd.DataFrame) -> Figure:
    """Figure 6: accuracy of the RBF SVM on mu2 over the total rate, its upper hull, and the bounds of Eq. 11.

    Dashed: the bound by R, the paper's. Crosses: the tight bound, by each member's own I(y; z2).
    """

    def draw(axes: Sequence[Axes], points: pd.DataFrame) -> None:
        ax = axes[0]
        over_total(ax, points, RBF)
        if RBF in points:
            rates = np.linspace(0, points[R].max(), 200)
            ax.plot(rates, [accuracy_bound(r, 10) for r in rates], color=GREY, ls="--", lw=1, label="bound by R")
            if BOUND in points:
                ax.plot(points[R], points[BOUND], "x", color=GREY, ms=4, label=BOUND)
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _by_budget(table, draw, 1, [R, RBF, BOUND], width=6.4)


def figure_7(table: pd.DataFrame) -> Figure:
    """Figure 7: what z2 tells of the label, and the accuracy of four classifiers of mu2, over the two rates."""
    metrics = [INFORMATION, *_accuracies()]
    return _by_budget(table, partial(_all_over_rates, metrics), len(metrics), [R2, R1, R, *metrics])


def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: all metrics over the rates, of the GHVAE on binary MNIST."""
    shown = (table["data"] == "mnist_binary") & (table["model"] == "ghvae")
    return _all_metrics(table[shown], "binary MNIST", "-p data mnist_binary")


def figure_9(table: pd.DataFrame) -> Figure:
    """Figure 9: all metrics over the rates, of the Ladder VAE."""
    return _all_metrics(table[table["model"] == "lvae"], "Ladder VAEs", "-p models lvae")


def learning_curves(table: pd.DataFrame) -> Figure:
    """The two rates on test images over training steps, of the grid's corners and its middle."""

    def draw(axes: Sequence[Axes], group: pd.DataFrame) -> None:
        points = grid(group).index
        low, high = points[0], points[-1]
        corners = [(low[0], low[1]), (low[0], high[1]), (high[0], low[1]), high, points[len(points) // 2]]
        for ax, label, (measure, arguments) in zip(axes, (R2, R1), (METRICS[R2], METRICS[R1]), strict=True):
            rows = _rows(group, measure, arguments)
            for point, marker in zip(dict.fromkeys(corners), "osv^D", strict=False):
                curve = rows[(rows["beta2"] == point[0]) & (rows["beta1"] == point[1])].sort_values("step")
                how = {"marker": marker, "ms": 3, "lw": 1.2, "clip_on": False}
                ax.plot(curve["step"], curve["value"], label=_named(point), **how)
            ax.set(xscale="log", yscale="symlog", ylim=(0, None), xlabel="training steps", ylabel=label)
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _by_budget(table, draw, 2, [R2, R1], whole=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The best member by each metric beside the diagonal's best, a row each, as text; (beta2, beta1) in parentheses.

    "Hull above the diagonal": at equal total rate, averaged over the diagonal's rates; never negative, by construction.
    Where the members are alike (`grid`), none is named as the best.
    """
    rows = []
    for label, group in _groups(table):
        points = grid(group)
        diagonal = points[np.isclose(*_betas(points))]
        for metric in [name for name in METRICS if name not in (R, R2, R1) and name in points]:
            values = points[metric].dropna()
            own = diagonal[metric].dropna()
            digits, alike = ".3f" if metric in SCORES else ".3g", _alike(points, metric) and len(values) > 1
            row = {"budget": label, "metric": _titled(points, metric)}
            row["best member"] = f"{values.max():{digits}} {'all alike' if alike else point_text(values.idxmax())}"
            row["best with beta2 = beta1"] = (
                f"{own.max():{digits}} {'all alike' if alike else point_text(own.idxmax())}"
                if len(own)
                else "none here"
            )
            gap = _gap(points, diagonal, metric)
            row["hull above the diagonal"] = f"{gap:{digits}}" if np.isfinite(gap) and not alike else ""
            rows.append(row)
    return pd.DataFrame(rows)


def table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1: the best accuracies over the grid in per cent, beside the paper's in parentheses, as text."""
    rows = []
    for label, group in _groups(table):
        for on in ("mu2", "mu1"):
            found = {probe: _rows(group, "accuracy", f"probe={probe},on={on}", last=True) for probe in PROBES}
            if any(map(len, found.values())):
                paper = TABLE_1.get((group["data"].iloc[0].removesuffix("_jpeg"), on), ("",) * 4)
                row = {"budget": label, "code": on, "members": max(map(len, found.values()))}
                for (probe, name), number in zip(CLASSIFIERS.items(), paper, strict=True):
                    value = f"{100 * found[probe]['value'].max():.2f}" if len(found[probe]) else "none"
                    row[name] = f"{value} ({number:.2f})" if number else value
                rows.append(row)
    return pd.DataFrame(rows)


def explore(table: pd.DataFrame, chosen: Settings) -> Any:
    """The explorer of the largest budget's grid: a slider for each beta, the rates, samples and reconstructions."""
    label, group = next(_groups(table), ("", table))
    points = [dict(zip(AXES, point, strict=True)) for point in grid(group).index] if label else []

    def draw(beta2: float, beta1: float) -> tuple[Figure, str]:
        shown = grid(group)
        row = shown.loc[(beta2, beta1)]
        figure, axes = panels(1, 3, width=3.6, height=3.2)
        over_rates(axes[0, 0], shown, PSNR)
        axes[0, 0].plot(row[R2], row[R1], "o", mfc="none", mec="black", ms=14, mew=2)
        pictures_of(list(axes[0, 1:]), group, stored(group, (beta2, beta1)), 4)
        axes[0, 1].set_title("samples", loc="left")
        axes[0, 0].set_title(f"{label}\n", loc="left", fontweight="bold", fontsize=9, linespacing=1.6, parse_math=False)
        says = f"beta2 {beta2:g}, beta1 {beta1:g}: R(z2) {row[R2]:.1f} nats, R(z1|z2) {row[R1]:.1f} nats"
        return figure, f"{says}, PSNR {row[PSNR]:.2f} dB" if PSNR in row else says

    return widgets.explore(chosen, draw, points)


# Panels ---------------------------------------------------------------------------------------------------------------


def over_rates(ax: Axes, points: pd.DataFrame, metric: str) -> None:
    """A metric as colour over (R(z2), R(z1|z2)), a point a member; dashed lines have equal total rate."""
    if not _has(ax, points, metric):
        return
    low, high = _span(points, metric)
    how = {"vmin": low, "vmax": high, "cmap": "viridis", "linewidths": 0}
    shown = ax.scatter(points[R2], points[R1], c=points[metric], s=24, **how)
    _figure_of(ax).colorbar(shown, ax=ax, pad=0.02, format=_plain())
    for total in np.linspace(0, points[R].max(), 6)[1:]:
        ax.plot([0, total], [total, 0], color="#cccccc", lw=0.7, ls="--", zorder=0)
    ax.set(xlabel=R2, ylabel=R1, title=_titled(points, metric))
    ax.set(xlim=(-0.04 * points[R2].max(), 1.06 * points[R2].max() + 0.1))
    ax.set(ylim=(-0.04 * points[R1].max(), 1.06 * points[R1].max() + 0.1))
    _mark(ax, points, R2, R1, metric)


def over_total(ax: Axes, points: pd.DataFrame, metric: str) -> None:
    """A metric over the total rate, a point a member, with the upper hull of all (section 5.3)."""
    if not _has(ax, points, metric):
        return
    ax.plot(points[R], points[metric], ".", color=BLUE, ms=4, alpha=0.6, label="members")
    _mark(ax, points, R, metric, metric)
    ax.set(xlabel=R, ylabel=_titled(points, metric))
    ax.margins(0.08)


def landscape(ax: Axes, points: pd.DataFrame, metric: str, marker: str) -> None:
    """A metric as the size of dots over (beta2, beta1), on log axes; the largest is marked, the diagonal is dashed.

    Where the members are alike (`grid`), none is marked.
    """
    if not _has(ax, points, metric):
        return
    beta2, beta1 = _betas(points)
    low, high = _span(points, metric)
    share = ((points[metric] - low) / (high - low)).fillna(0.0) if high > low else 0 * points[metric]
    how = {"vmin": low, "vmax": high, "cmap": "viridis", "linewidths": 0, "clip_on": False}
    ax.scatter(beta2, beta1, s=4 + 60 * share, c=points[metric], **how)
    ends = min(*beta2, *beta1), max(*beta2, *beta1)
    ax.plot(ends, ends, color=ORANGE, ls="--", lw=1)
    if not _alike(points, metric):
        ax.plot(*points[metric].idxmax(), marker, mfc="none", mec="black", ms=13, mew=1.5, clip_on=False)
    ax.plot(1, 1, "x", color="black", ms=7)
    ax.set(xscale="log", yscale="log", xlabel="beta2", ylabel="beta1", title=_titled(points, metric))


def surface_3d(ax: Any, points: pd.DataFrame, along: Sequence[str]) -> None:
    """Members as points over three columns, coloured from more rate in z1 (blue) to more in z2 (red)."""
    if lacking := [name for name in along if name not in points]:
        ax.set_axis_off()
        ax.text2D(0.5, 0.5, _absent(lacking[0]), ha="center", wrap=True, transform=ax.transAxes)
        return
    beta2, beta1 = _betas(points)
    ax.scatter(*(points[name] for name in along), c=np.log10(beta1 / beta2), cmap="coolwarm", s=12, depthshade=False)
    for name, label in zip("xyz", along, strict=True):
        getattr(ax, f"set_{name}label")(_titled(points, label), fontsize=8, labelpad=7)
        axis = getattr(ax, f"{name}axis")
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(_plain())
        if label in SCORES:
            getattr(ax, f"set_{name}lim")(*_span(points, label))
    ax.tick_params(labelsize=7, pad=1)
    ax.set_box_aspect(None, zoom=0.72)


def pictures_of(axes: Sequence[Axes], group: pd.DataFrame, model: Any, columns: int) -> None:
    """A model's samples in the first panel, test images and their reconstructions in the second."""
    if model is None:
        for ax in axes:
            _say(
                ax,
                "The weights of this member\nare not on this machine:\nask for a seed of your own,\nsay seeds = [7].",
            )
        return
    first = group.iloc[0]
    drawn = (generate_images(model, 2 * columns, seed=0).clamp(0, 1) * 255).round().byte()
    figures.pictures(drawn, columns, axes[0])
    if not data.is_at_hand(first["data"]):
        _say(axes[1], f"The images of {first['data']}\nare not on this machine.")
        return
    n_train = None if pd.isna(first["n_train"]) else int(first["n_train"])
    figures.reconstructions(
        model, sweep.examples(first["data"], first["split"], n_train, columns).test, axes[1], columns
    )


# From the tidy table --------------------------------------------------------------------------------------------------


def grid(group: pd.DataFrame) -> pd.DataFrame:
    """The members of the seed that has most of a budget's grid, at the end of training: (beta2, beta1) x metrics.

    Metrics that none of them has are no column; `attrs["judge"]` names the classifier of the scores, `attrs["alike"]`
    the metrics of which best and worst agree: within their standard errors or, of scores, in the three decimals shown.
    """
    found = {name: _rows(group, measure, arguments, last=True) for name, (measure, arguments) in DRAWN.items()}
    columns = {name: rows.set_index(AXES)["value"].astype(float) for name, rows in found.items() if len(rows)}
    made = pd.DataFrame(columns).sort_index()
    judge = found[IS]["arguments"].iloc[0].partition("=")[2] if len(found[IS]) else ""
    made.attrs["judge"] = judge
    made.attrs["alike"] = tuple(name for name, rows in found.items() if len(rows) and _agree(rows, name in SCORES))
    return made


def stored(group: pd.DataFrame, point: tuple) -> Any:
    """The trained model of a member of the seed that is drawn; None where its weights are not here."""
    rows = group[(group["seed"] == _seed(group)) & (group["beta2"] == point[0]) & (group["beta1"] == point[1])]
    key, store = rows["key"].iloc[0], runs.default_store()
    try:
        return runs.load(key, store=store) if key in store else None  # a decoder of results/ reconstructs nothing
    except runs.StoreError:
        return None


def _rows(group: pd.DataFrame, measure: str, arguments: str | None, last: bool = False) -> pd.DataFrame:
    """A measure of the seed that is drawn, on test images or samples; None: with the commonest arguments."""
    rows = group[(group["measure"] == measure) & group["part"].isin(PARTS)]
    if arguments is None and len(rows):
        arguments = rows["arguments"].value_counts().idxmax()
    rows = rows[(rows["arguments"] == arguments) & (rows["seed"] == _seed(group))]
    return rows[rows["step"] == rows["steps"]] if last else rows


def _seed(group: pd.DataFrame) -> int:
    """The seed with the most members, the lowest of several."""
    return int(group.groupby("seed")["key"].nunique().sort_index().idxmax())


def _groups(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """(label, rows) of each budget, data set and model that has a value at the end of training."""
    for label, group in tidy.budgets(table, DESIGN.axes):
        for (model, _), rows in group.groupby(["model", "data"]):
            if len(tidy.last(rows, "rate")):
                yield f"{'GHVAE' if model == 'ghvae' else 'LVAE'}: {label}", rows


def _by_budget(
    table: pd.DataFrame,
    draw: Callable[[Sequence[Axes], pd.DataFrame], None],
    count: int,
    shows: Sequence[str],
    three_d: bool = False,
    whole: bool = False,
    width: float = 3.4,
) -> Figure:
    """`count` panels for each budget, drawn from its `grid` or, as a `whole`, from its rows; the first may be 3-d.

    `shows` are the metrics drawn: at the end of training or, of a `whole`, at every step.
    """
    rows = list(_groups(table))
    if not rows:
        return _nothing("No member of this kind is here.")
    columns = 2 if count == 4 else min(count, 3)
    lines = -(-count // columns)
    figure, axes = panels(len(rows) * lines, columns, width=width, height=3.1)
    for block, (label, group) in zip(axes.reshape(len(rows), -1), rows, strict=True):
        if three_d:
            place = block[0].get_subplotspec()
            block[0].remove()
            block[0] = figure.add_subplot(place, projection="3d")
        for ax in block[count:]:
            ax.set_axis_off()
        draw(block[:count], group if whole else grid(group))
        # As a title, which takes no width from the panels; the empty line leaves room for the panel's own.
        block[0].set_title(f"{label}\n", loc="left", fontweight="bold", fontsize=9, linespacing=1.6, parse_math=False)
    drawn = pd.concat([group[group["part"].isin(PARTS) & (group["seed"] == _seed(group))] for _, group in rows])
    measures = [measure if how is None else f"{measure} {how}" for measure, how in map(DRAWN.__getitem__, shows)]
    return figures.with_data(figure, tidy.csv(drawn, *measures, last=not whole))


def _all_metrics(table: pd.DataFrame, what: str, option: str) -> Figure:
    """All metrics over the rates; for an empty table, the command that would fill it."""
    if table.empty:
        return _nothing(
            f"No {what} here yet:\n.venv/bin/python -m vaekit train hierarchical_rates --scale quick {option}"
        )
    metrics = [PSNR, *SCORES, INFORMATION, *_accuracies()]
    return _by_budget(table, partial(_all_over_rates, metrics), len(metrics), [R2, R1, R, *metrics])


def _all_over_rates(metrics: Sequence[str], axes: Sequence[Axes], points: pd.DataFrame) -> None:
    for ax, metric in zip(axes, metrics, strict=True):
        over_rates(ax, points, metric)


def _accuracies() -> list[str]:
    return [f"accuracy, {name}" for name in CLASSIFIERS.values()]


def _mark(ax: Axes, points: pd.DataFrame, x: str, y: str, metric: str) -> None:
    """The paper's rings: black for betas of 1, orange for the diagonal, pink for the hull of the metric over R.

    Where the members are alike (`grid`), no hull is marked.
    """
    beta2, beta1 = _betas(points)
    hull = points.iloc[upper_hull(points[R].tolist(), points[metric].tolist())]
    diagonal, ones = points[np.isclose(beta2, beta1)], points[np.isclose(beta2, 1) & np.isclose(beta1, 1)]
    ring = partial(ax.plot, marker="o", mfc="none", lw=0)
    if not _alike(points, metric):
        ring(hull[x], hull[y], mec=PURPLE, ms=7, label="upper hull")
    ring(diagonal[x], diagonal[y], mec=ORANGE, ms=5, label="beta2 = beta1")
    ring(ones[x], ones[y], mec="black", ms=9, label="both 1")


def _gap(points: pd.DataFrame, diagonal: pd.DataFrame, metric: str) -> float:
    """The upper hull minus the diagonal at equal total rate, averaged over the diagonal's rates; NaN without two."""
    own = diagonal[[R, metric]].dropna().sort_values(R)
    if len(own) < 2:
        return np.nan
    hull = points.iloc[upper_hull(points[R].tolist(), points[metric].tolist())]
    rates = np.linspace(own[R].iloc[0], own[R].iloc[-1], 201)
    return float((np.interp(rates, hull[R], hull[metric]) - np.interp(rates, own[R], own[metric])).mean())


def _agree(rows: pd.DataFrame, score: bool) -> bool:
    """Whether best and worst lie within their standard errors or, of scores, within 0.001."""
    low, high = rows.loc[rows["value"].idxmin()], rows.loc[rows["value"].idxmax()]
    gap = high["value"] - low["value"]
    return bool(gap <= np.hypot(low["se"], high["se"]) or (score and gap < 0.001))


def _alike(points: pd.DataFrame, metric: str) -> bool:
    return metric in points.attrs.get("alike", ())


def _span(points: pd.DataFrame, metric: str) -> tuple[float, float]:
    """What colours and dots range over: the values, of scores at least 0.01 to either side of their middle."""
    low, high = points[metric].min(), points[metric].max()
    if metric in SCORES:
        middle, half = (low + high) / 2, max((high - low) / 2, 0.01)
        return middle - half, middle + half
    return low, high


def _plain() -> ScalarFormatter:
    return ScalarFormatter(useOffset=False)


def _named(point: tuple) -> str:
    return f"(β2, β1) = {point_text(point)}"


def _betas(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return points.index.get_level_values(0).to_numpy(float), points.index.get_level_values(1).to_numpy(float)


def _titled(points: pd.DataFrame, metric: str) -> str:
    judge = points.attrs.get("judge") if metric in SCORES else ""
    return f"{metric} ({judge})" if judge else metric


def _has(ax: Axes, points: pd.DataFrame, metric: str) -> bool:
    if metric in points:
        return True
    _say(ax, _absent(metric))
    return False


def _absent(metric: str) -> str:
    judged = metric in SCORES
    return f"No {metric} here:\n{'no classifier has judged samples' if judged else 'it was not measured'}."


def _say(ax: Axes, words: str) -> None:
    ax.set_axis_off()
    ax.text(0.5, 0.5, words, ha="center", va="center", transform=ax.transAxes, fontsize=9)


def _nothing(words: str) -> Figure:
    figure, axes = panels(1, 1, width=6, height=1)
    _say(axes[0, 0], words)
    return figure


def _figure_of(ax: Axes) -> Figure:
    figure = ax.get_figure(root=True)
    assert figure is not None  # panels made it
    return figure
