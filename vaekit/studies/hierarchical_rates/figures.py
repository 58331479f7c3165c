"""Study 2's figures, after Xiao & Bamler (2023). Numbers of figures are the paper's.

Every figure has a row for each budget, the largest first. Of a grid that several seeds hold, the seed with most of it
is drawn; the fresh seeds of a few members belong to the verdicts.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from vaekit import figures
from vaekit import table as tables
from vaekit.figures import BLUE, GREY, ORANGE, PURPLE, say
from vaekit.metrics import PROBES, accuracy_bound, upper_hull
from vaekit.studies.hierarchical_rates.claims import TABLE_1
from vaekit.table import having, select

AXES = ["beta2", "beta1"]
R2, R1, R = "R(z2) (nats)", "R(z1|z2) (nats)", "total rate R (nats)"
PSNR, IS, RBF, INFORMATION = "PSNR (dB)", "Inception Score", "accuracy, RBF SVM", "I(y; z2) (nats)"
CLASSIFIERS = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))
ACCURACIES = {f"accuracy, {name}": probe for probe, name in CLASSIFIERS.items()}
BOUND = "bound by I(y; z2)"
# The measure, and values of the table's columns, by what stands on an axis. Scores are those of one judge.
METRICS: dict[str, tuple[str, dict[str, Any]]] = {
    R2: ("rate", {"layer": "z2"}),
    R1: ("rate", {"layer": "z1"}),
    R: ("rate", {"layer": None}),
    PSNR: ("psnr", {"of": "images"}),
    IS: ("inception_score", {}),
    "diversity": ("diversity", {}),
    "sharpness": ("sharpness", {}),
    INFORMATION: ("class_information", {"on": "z2"}),
    **{name: ("accuracy", {"probe": probe, "on": "mu2"}) for name, probe in ACCURACIES.items()},
    BOUND: ("accuracy_bound", {"by": "class_information"}),
}
SCORES = (IS, "diversity", "sharpness")
WORTH = (PSNR, *SCORES, INFORMATION, *ACCURACIES)  # what a member may be best at
BEST = {PSNR: "^", IS: "D", RBF: "o"}  # the paper's markers of the best at each of three applications


def figure_1(table: pd.DataFrame) -> Figure:
    """Figure 1: what each member is worth to three applications, together and over (beta2, beta1), the best marked."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        points = points_of(rows)
        surface_3d(axes[0], points, list(BEST))
        for ax, (metric, marker) in zip(axes[1:], BEST.items(), strict=True):
            landscape(ax, points, metric, marker)

    return _grid(table, draw, 4, [R2, R1, *BEST], wrap=2, projections=("3d",))


def figure_3(table: pd.DataFrame) -> Figure:
    """Figure 3: PSNR over the two rates, in three dimensions and in two, and over their sum, with its upper hull."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        points = points_of(rows)
        surface_3d(axes[0], points, [R2, R1, PSNR])
        over_rates(axes[1], points, PSNR)
        over_total(axes[2], points, PSNR)
        if PSNR in points:
            axes[2].legend(loc="lower right")

    return _grid(table, draw, 3, [R2, R1, R, PSNR], projections=("3d",))


def figure_5(table: pd.DataFrame) -> Figure:
    """Figure 5: Inception Score over the two rates, and its factors diversity and sharpness."""
    return _all_over_rates(table, SCORES)


def figure_6(table: pd.DataFrame) -> Figure:
    """Figure 6: accuracy of the RBF SVM on mu2 over the total rate, its upper hull, and the bounds of Eq. 11.

    Dashed: the bound by R, the paper's. Crosses: the tight bound, by each member's own I(y; z2).
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        (ax,), points = axes, points_of(rows)
        over_total(ax, points, RBF)
        if RBF in points:
            rates = np.linspace(0, points[R].max(), 200)
            ax.plot(rates, [accuracy_bound(r, 10) for r in rates], color=GREY, ls="--", lw=1, label="bound by R")
            if BOUND in points:
                ax.plot(points[R], points[BOUND], "x", color=GREY, ms=4, label=BOUND)
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _grid(table, draw, 1, [R, RBF, BOUND], width=6.4)


def figure_7(table: pd.DataFrame) -> Figure:
    """Figure 7: what z2 tells of the label, and the accuracy of four classifiers of mu2, over the two rates."""
    return _all_over_rates(table, (INFORMATION, *ACCURACIES))


def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: all metrics over the rates, of the GHVAE on binary MNIST."""
    return _all_metrics(having(table, data="mnist_binary", model="ghvae"), "binary MNIST", "-p data mnist_binary")


def figure_9(table: pd.DataFrame) -> Figure:
    """Figure 9: all metrics over the rates, of the Ladder VAE."""
    return _all_metrics(having(table, model="lvae"), "Ladder VAEs", "-p models lvae")


def learning_curves(table: pd.DataFrame) -> Figure:
    """The two rates on test images over training steps, of the grid's corners and its middle."""

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        points = points_of(rows).index
        low, high = points[0], points[-1]
        corners = [(low[0], low[1]), (low[0], high[1]), (high[0], low[1]), high, points[len(points) // 2]]
        for ax, metric in zip(axes, (R2, R1), strict=True):
            rates = rows_of(rows, metric, at="all")
            for point, marker in zip(dict.fromkeys(corners), "osv^D", strict=False):
                curve = having(rates, **dict(zip(AXES, point, strict=True))).sort_values("step")
                look = {"marker": marker, "ms": 3, "lw": 1.2, "clip_on": False}
                ax.plot(curve["step"], curve["value"], label=named(point), **look)
            ax.set(xscale="log", yscale="symlog", ylim=(0, None), xlabel="training steps", ylabel=metric)
            ax.xaxis.set_minor_formatter(NullFormatter())
        axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _grid(table, draw, 2, [R2, R1], history=True)


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The best member by each metric beside the diagonal's best, a row each, as text; (beta2, beta1) in parentheses.

    "Hull above the diagonal": at equal total rate, averaged over the diagonal's rates; never negative, by construction.
    Where the members are alike (`points_of`), none is named as the best.
    """
    shown = []
    for label, rows in budgets(table):
        points = points_of(rows)
        diagonal = points[np.isclose(*_betas(points))]
        for metric in filter(points.__contains__, WORTH):
            values, own = points[metric].dropna(), diagonal[metric].dropna()
            digits = ".3f" if metric in SCORES else ".3g"
            same = alike(points, metric) and len(values) > 1

            def highest(of: pd.Series, digits: str = digits, same: bool = same) -> str:
                return f"{of.max():{digits}} {'all alike' if same else _text(of.idxmax())}" if len(of) else "none here"

            gap = _gap(points, diagonal, metric)
            shown.append(
                {
                    "budget": label,
                    "metric": titled(points, metric),
                    "best member": highest(values),
                    "best with beta2 = beta1": highest(own),
                    "hull above the diagonal": f"{gap:{digits}}" if np.isfinite(gap) and not same else "",
                }
            )
    return pd.DataFrame(shown)


def table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1: the best accuracies over the grid in per cent, beside the paper's in parentheses, as text."""
    shown = []
    for label, rows in budgets(table):
        ends = having(select(rows, "accuracy"), seed=drawn_seed(rows))
        for on in ("mu2", "mu1"):
            accuracies = {probe: having(ends, probe=probe, on=on)["value"] for probe in PROBES}
            if members := max(map(len, accuracies.values())):
                paper = TABLE_1.get((rows["data"].iloc[0].removesuffix("_jpeg"), on), ("",) * 4)
                row = {"budget": label, "code": on, "members": members}
                for (probe, name), published in zip(CLASSIFIERS.items(), paper, strict=True):
                    value = f"{100 * accuracies[probe].max():.2f}" if len(accuracies[probe]) else "none"
                    row[name] = f"{value} ({published:.2f})" if published else value
                shown.append(row)
    return pd.DataFrame(shown)


# Panels ---------------------------------------------------------------------------------------------------------------


def over_rates(ax: Axes, points: pd.DataFrame, metric: str) -> None:
    """A metric as colour over (R(z2), R(z1|z2)), a point a member; dashed lines have equal total rate."""
    if metric not in points:
        say(ax, _absent(metric))
        return
    low, high = _span(points, metric)
    how = {"vmin": low, "vmax": high, "cmap": "viridis", "linewidths": 0}
    shown = ax.scatter(points[R2], points[R1], c=points[metric], s=24, **how)
    ax.figure.colorbar(shown, ax=ax, pad=0.02, format=_plain())
    for total in np.linspace(0, points[R].max(), 6)[1:]:
        ax.plot([0, total], [total, 0], color="#cccccc", lw=0.7, ls="--", zorder=0)
    ax.set(xlabel=R2, ylabel=R1, title=titled(points, metric))
    ax.set(xlim=(-0.04 * points[R2].max(), 1.06 * points[R2].max() + 0.1))
    ax.set(ylim=(-0.04 * points[R1].max(), 1.06 * points[R1].max() + 0.1))
    _mark(ax, points, R2, R1, metric)


def over_total(ax: Axes, points: pd.DataFrame, metric: str) -> None:
    """A metric over the total rate, a point a member, with the upper hull of all (section 5.3)."""
    if metric not in points:
        say(ax, _absent(metric))
        return
    ax.plot(points[R], points[metric], ".", color=BLUE, ms=4, alpha=0.6, label="members")
    _mark(ax, points, R, metric, metric)
    ax.set(xlabel=R, ylabel=titled(points, metric))
    ax.margins(0.08)


def landscape(ax: Axes, points: pd.DataFrame, metric: str, marker: str) -> None:
    """A metric as the size of dots over (beta2, beta1), on log axes; the largest is marked, the diagonal is dashed.

    Where the members are alike (`points_of`), none is marked.
    """
    if metric not in points:
        say(ax, _absent(metric))
        return
    beta2, beta1 = _betas(points)
    low, high = _span(points, metric)
    share = ((points[metric] - low) / (high - low)).fillna(0.0) if high > low else 0 * points[metric]
    how = {"vmin": low, "vmax": high, "cmap": "viridis", "linewidths": 0, "clip_on": False}
    ax.scatter(beta2, beta1, s=4 + 60 * share, c=points[metric], **how)
    ends = min(*beta2, *beta1), max(*beta2, *beta1)
    ax.plot(ends, ends, color=ORANGE, ls="--", lw=1)
    if not alike(points, metric):
        ax.plot(*points[metric].idxmax(), marker, mfc="none", mec="black", ms=13, mew=1.5, clip_on=False)
    ax.plot(1, 1, "x", color="black", ms=7)
    ax.set(xscale="log", yscale="log", xlabel="beta2", ylabel="beta1", title=titled(points, metric))


def surface_3d(ax: Any, points: pd.DataFrame, along: Sequence[str]) -> None:
    """Members as points over three columns, coloured from more rate in z1 (blue) to more in z2 (red)."""
    if lacking := [name for name in along if name not in points]:
        say(ax, _absent(lacking[0]))
        return
    beta2, beta1 = _betas(points)
    ax.scatter(*(points[name] for name in along), c=np.log10(beta1 / beta2), cmap="coolwarm", s=12, depthshade=False)
    for name, label in zip("xyz", along, strict=True):
        getattr(ax, f"set_{name}label")(titled(points, label), fontsize=8, labelpad=7)
        axis = getattr(ax, f"{name}axis")
        axis.set_major_locator(MaxNLocator(4))
        axis.set_major_formatter(_plain())
        if label in SCORES:
            getattr(ax, f"set_{name}lim")(*_span(points, label))
    ax.tick_params(labelsize=7, pad=1)
    ax.set_box_aspect(None, zoom=0.72)


# From the tidy table --------------------------------------------------------------------------------------------------


def budgets(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The label and the rows of each budget that has a rate at the end of training."""
    groups = [rows for rows in tables.budgets(table, AXES) if len(select(rows, "rate", layer=None))]
    models = ["GHVAE" if rows["model"].iloc[0] == "ghvae" else "LVAE" for rows in groups]
    return [(f"{model}: {tables.label(rows, AXES)}", rows) for model, rows in zip(models, groups, strict=True)]


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The members of a budget that are drawn, at the end of training: (beta2, beta1) x metrics.

    Metrics that none of them has are no column; `attrs["judge"]` names the classifier of the scores, `attrs["alike"]`
    the metrics of which best and worst agree: within their standard errors or, of scores, in the three decimals shown.
    """
    measured = {metric: rows_of(rows, metric) for metric in METRICS}
    measured = {metric: own for metric, own in measured.items() if len(own)}
    points = pd.DataFrame({metric: own.set_index(AXES)["value"].astype(float) for metric, own in measured.items()})
    points = points.sort_index()
    points.attrs["judge"] = measured[IS]["classifier"].iloc[0] if IS in measured else ""
    points.attrs["alike"] = tuple(metric for metric, own in measured.items() if _agree(own, metric in SCORES))
    return points


def rows_of(rows: pd.DataFrame, metric: str, at: str = "end") -> pd.DataFrame:
    """The rows of a metric of the seed that is drawn, on test images or samples; of scores by the commonest judge."""
    measure, where = METRICS[metric]
    own = select(rows, measure, at, part=("test", "samples"), seed=drawn_seed(rows), **where)
    own = own[own["value"].notna()]
    if metric in SCORES and len(own):
        own = having(own, classifier=own["classifier"].value_counts().idxmax())
    return own


def drawn_seed(rows: pd.DataFrame) -> int:
    """The seed with the most members, the lowest of several."""
    return int(rows.groupby("seed")["key"].nunique().sort_index().idxmax())


def _grid(
    table: pd.DataFrame,
    draw: Callable[[Sequence[Axes], pd.DataFrame], None],
    count: int,
    metrics: Sequence[str],
    history: bool = False,
    **how: Any,
) -> Figure:
    """`count` panels for each budget; its data are the `metrics`, at the end or, as `history`, at every step."""
    groups = budgets(table)
    drawn = [rows_of(rows, metric, "all" if history else "end") for _, rows in groups for metric in metrics]
    data = {"measures": [METRICS[metric][0] for metric in metrics], "drawn": pd.concat(drawn) if drawn else None}
    how = {"wrap": 3, "width": 3.4, "height": 3.1, "empty": "No member of this kind is here.", **data, **how}
    return figures.grid(groups, draw, count, history=history, **how)


def _all_metrics(table: pd.DataFrame, what: str, option: str) -> Figure:
    """All metrics over the rates; for an empty table, the command that would fill it."""
    if table.empty:
        command = f".venv/bin/python -m vaekit train hierarchical_rates --scale quick {option}"
        return figures.nothing(f"No {what} here yet:\n{command}")
    return _all_over_rates(table, WORTH)


def _all_over_rates(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        points = points_of(rows)
        for ax, metric in zip(axes, metrics, strict=True):
            over_rates(ax, points, metric)

    return _grid(table, draw, len(metrics), [R2, R1, R, *metrics])


def _mark(ax: Axes, points: pd.DataFrame, x: str, y: str, metric: str) -> None:
    """The paper's rings: black for betas of 1, orange for the diagonal, pink for the hull of the metric over R.

    Where the members are alike (`points_of`), no hull is marked.
    """
    beta2, beta1 = _betas(points)
    diagonal, ones = points[np.isclose(beta2, beta1)], points[np.isclose(beta2, 1) & np.isclose(beta1, 1)]
    ring = partial(ax.plot, marker="o", mfc="none", lw=0)
    if not alike(points, metric):
        hull = _hull(points, metric)
        ring(hull[x], hull[y], mec=PURPLE, ms=7, label="upper hull")
    ring(diagonal[x], diagonal[y], mec=ORANGE, ms=5, label="beta2 = beta1")
    ring(ones[x], ones[y], mec="black", ms=9, label="both 1")


def _hull(points: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The members on the upper hull of a metric over the total rate."""
    return points.iloc[upper_hull(points[R].tolist(), points[metric].tolist())]


def _gap(points: pd.DataFrame, diagonal: pd.DataFrame, metric: str) -> float:
    """The upper hull minus the diagonal at equal total rate, averaged over the diagonal's rates; NaN without two."""
    own = diagonal[[R, metric]].dropna().sort_values(R)
    if len(own) < 2:
        return np.nan
    hull = _hull(points, metric)
    rates = np.linspace(own[R].iloc[0], own[R].iloc[-1], 201)
    return float((np.interp(rates, hull[R], hull[metric]) - np.interp(rates, own[R], own[metric])).mean())


def _agree(rows: pd.DataFrame, score: bool) -> bool:
    """Whether best and worst lie within their standard errors or, of scores, within 0.001."""
    low, high = rows.loc[rows["value"].idxmin()], rows.loc[rows["value"].idxmax()]
    gap = high["value"] - low["value"]
    return bool(gap <= np.hypot(low["se"], high["se"]) or (score and gap < 0.001))


def alike(points: pd.DataFrame, metric: str) -> bool:
    """Whether the best and the worst member agree, so that none is the best (`points_of`)."""
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


def named(point: tuple) -> str:
    """A point (beta2, beta1) in a title."""
    return f"(β2, β1) = {_text(point)}"


def _text(point: tuple) -> str:
    beta2, beta1 = point
    return f"({beta2:g}, {beta1:g})"


def _betas(points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return points.index.get_level_values(0).to_numpy(float), points.index.get_level_values(1).to_numpy(float)


def titled(points: pd.DataFrame, metric: str) -> str:
    """A metric's name, of a score with its judge in parentheses."""
    judge = points.attrs.get("judge") if metric in SCORES else ""
    return f"{metric} ({judge})" if judge else metric


def _absent(metric: str) -> str:
    judged = metric in SCORES
    return f"No {metric} here:\n{'no classifier has judged samples' if judged else 'it was not measured'}."
