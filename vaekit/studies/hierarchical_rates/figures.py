"""Study 2's figures, after Xiao & Bamler (2023). Numbers of figures are the paper's.

Every figure has a row for each budget, the largest first. Of a grid that several seeds hold, the seed with most of it
is drawn, of those asked for; the fresh seeds of a few members belong to the verdicts.
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
from vaekit.figures import BLUE, GREY, ORANGE, PURPLE, say
from vaekit.metrics import PROBES, accuracy_bound, upper_hull
from vaekit.store import table as tidy
from vaekit.store.table import having, select
from vaekit.studies.hierarchical_rates import claims

AXES = ["beta2", "beta1"]
R2, R1, R = "R(z2) (nats)", "R(z1|z2) (nats)", "total rate R (nats)"
PSNR, IS, RBF, INFORMATION = "PSNR (dB)", "Inception Score", "accuracy, RBF SVM", "I(y; z2) (nats)"
PROBE_NAMES = dict(zip(PROBES, ("logistic regression", "linear SVM", "RBF SVM", "kNN"), strict=True))
ACCURACIES = {f"accuracy, {name}": probe for probe, name in PROBE_NAMES.items()}
BOUND, SAMPLED = "bound by I(y; z2)", "RBF SVM of a sample of z2"
SCORES = (IS, "diversity", "sharpness")  # by one classifier
# The measure, and values of the table's columns, by what stands on an axis.
METRICS: dict[str, claims.Measured] = {
    R2: claims.RATE2,
    R1: claims.RATE1,
    R: claims.RATE,
    PSNR: claims.PSNR,
    **{score: (score.lower().replace(" ", "_"), {}) for score in SCORES},
    INFORMATION: claims.INFORMATION,
    **{name: claims.probed(probe) for name, probe in ACCURACIES.items()},
    BOUND: claims.BOUND,
    SAMPLED: ("sampled_accuracy", {"probe": "rbf_svm"}),
}
WORTH = (PSNR, *SCORES, INFORMATION, *ACCURACIES)  # what a member may be best at
BEST = {PSNR: "^", IS: "D", RBF: "o"}  # the paper's markers of the best at each of three applications


@figures.described(
    "The paper's figure 1: what each member is worth to three applications. Dots grow with the metric; "
    "triangle, diamond and ring: the best, where best and worst differ by more than their standard errors. "
    "Dashed: beta2 = beta1. Cross: where both are 1. In three dimensions, red has more of its rate in z2, blue in z1.",
    "A cloud of members in three dimensions, PSNR, Inception Score and accuracy, and three maps over the "
    "weights of the two rates whose dots grow with each of these, the best marked, the diagonal dashed.",
    claims=("2.4",),
)
def figure_1(table: pd.DataFrame) -> Figure:
    """Figure 1: what each member is worth to three applications, together and over (beta2, beta1), the best marked."""

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
        points = points_of(rows)
        surface_3d(axes, points, list(BEST))
        for ax, (metric, marker) in zip(axes[1:], BEST.items(), strict=True):
            landscape(ax, points, metric, marker)

    return _grid(table, draw, 4, [R2, R1, *BEST], wrap=2)


@figures.described(
    "The paper's figure 3: PSNR over the rates. Black ring, where that is in the grid: both betas 1. Orange rings: "
    "beta2 = beta1. Pink rings: the upper hull over the total rate, the best at a given rate. Dashed: equal rate R.",
    "PSNR over the two rates in three dimensions and as colour in two, with dashed lines of equal total rate, "
    "and over the total rate with the upper hull and the diagonal ringed.",
    claims=("2.5", "2.6"),
)
def figure_3(table: pd.DataFrame) -> Figure:
    """Figure 3: PSNR over the two rates, in three dimensions and in two, and over their sum, with its upper hull."""

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
        points = points_of(rows)
        surface_3d(axes, points, [R2, R1, PSNR])
        over_rates(axes[1], points, PSNR)
        over_total(axes[2], points, PSNR)
        if PSNR in points:
            axes[2].legend(loc="lower right")

    return _grid(table, draw, 3, [R2, R1, R, PSNR])


@figures.described(
    "The paper's figure 5: the Inception Score and its two factors over the rates. Black ring, where that is in the "
    "grid: both betas 1. Orange: beta2 = beta1. Pink: upper hull over the total rate.",
    "Inception Score, diversity and sharpness as colour over the two rates, a panel each, or a note that no "
    "classifier has judged.",
    claims=("2.7", "2.8"),
)
def figure_5(table: pd.DataFrame) -> Figure:
    """Figure 5: Inception Score over the two rates, and its factors diversity and sharpness."""
    return _all_over_rates(table, SCORES)


@figures.described(
    "The paper's figure 6: accuracy of the RBF SVM on mu2 over the total rate. Dashed: the bound of Eq. 11 by "
    "the total rate. Crosses: the tight one, by each member's own information. Orange triangles: the accuracy of the "
    "same classifier of samples of z2, of which alone Eq. 11 speaks.",
    "Accuracy of an RBF support vector machine over the total rate, with its upper hull, the bound by the "
    "total rate as a dashed line, the bound by each member's own information as crosses, and accuracies of samples as "
    "triangles.",
    claims=("2.11",),
)
def figure_6(table: pd.DataFrame) -> Figure:
    """Figure 6: accuracy of the RBF SVM on mu2 over the total rate, its upper hull, and the bounds of Eq. 11.

    Dashed: the bound by R, the paper's. Crosses: the tight bound, by each member's own I(y; z2). Triangles: accuracy
    of an RBF SVM of samples of z2.
    """

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
        (ax,), points = axes, points_of(rows)
        over_total(ax, points, RBF)
        if RBF in points:
            rates = np.linspace(0, points[R].max(), 200)
            ax.plot(rates, [accuracy_bound(r, 10) for r in rates], color=GREY, ls="--", lw=1, label="bound by R")
            if BOUND in points:
                ax.plot(points[R], points[BOUND], "x", color=GREY, ms=4, label=BOUND)
            if SAMPLED in points:
                ax.plot(points[R], points[SAMPLED], "v", color=ORANGE, mfc="none", ms=5, label=SAMPLED)
            ax.legend(loc="center left", bbox_to_anchor=(1, 0.5))

    return _grid(table, draw, 1, [R, RBF, BOUND], width=6.4)


@figures.described(
    "The paper's figure 7: what z2 tells of the label, and the accuracy of four classifiers of mu2, over the rates.",
    "Mutual information of label and upper latent, and the accuracies of four classifiers, as colour over the "
    "two rates, a panel each.",
    claims=("2.10", "2.12"),
)
def figure_7(table: pd.DataFrame) -> Figure:
    """Figure 7: what z2 tells of the label, and the accuracy of four classifiers of mu2, over the two rates."""
    return _all_over_rates(table, (INFORMATION, *ACCURACIES))


@figures.described(
    "The paper's figure 8: all metrics over the rates, of the GHVAE on binary MNIST.",
    "Nine panels of metrics as colour over the two rates, on binary MNIST, or the command that would train them.",
    claims=("2.9",),
)
def figure_8(table: pd.DataFrame) -> Figure:
    """Figure 8: all metrics over the rates, of the GHVAE on binary MNIST."""
    return _all_metrics(having(table, data="mnist_binary", model="ghvae"), "binary MNIST", "data", "mnist_binary")


@figures.described(
    "The paper's figure 9 (there on SVHN): all metrics over the rates, of the Ladder VAE, on the set in the title.",
    "Nine panels of metrics as colour over the two rates, of Ladder VAEs, or the command that would train them.",
    claims=("2.15",),
)
def figure_9(table: pd.DataFrame) -> Figure:
    """Figure 9: all metrics over the rates, of the Ladder VAE."""
    return _all_metrics(having(table, model="lvae"), "Ladder VAEs", "models", "lvae")


@figures.described(
    "Both rates on test images while training, at the corners of the grid and in its middle, one row a "
    "budget; (beta2, beta1) in parentheses.",
    "Two panels over training steps: the rate of the upper layer and the rate that the lower one adds, a "
    "curve for each corner of the grid and for its middle.",
    claims=("2.3",),
)
def learning_curves(table: pd.DataFrame) -> Figure:
    """The two rates on test images over training steps, of the grid's corners and its middle."""

    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
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


@figures.described("The best member by each metric beside the diagonal's best; (beta2, beta1) in parentheses")
def best(table: pd.DataFrame) -> pd.DataFrame:
    """The best member by each metric beside the diagonal's best, a row each, as text; (beta2, beta1) in parentheses.

    "Hull above the diagonal": at equal total rate, averaged over the diagonal's rates; never negative, by construction.
    Where the members are alike (`points_of`), none is named as the best.
    """
    lines = []
    for label, rows in budgets(table):
        points = points_of(rows)
        diagonal = points[np.isclose(*_betas(points))]
        for metric in filter(points.__contains__, WORTH):
            digits = ".3f" if metric in SCORES else ".3g"
            same = alike(points, metric) and points[metric].count() > 1
            gap = _gap(points, diagonal, metric)
            lines.append(
                {
                    "budget": label,
                    "metric": titled(points, metric),
                    "best member": _highest(points[metric], digits, same),
                    "best with beta2 = beta1": _highest(diagonal[metric], digits, same),
                    "hull above the diagonal": f"{gap:{digits}}" if np.isfinite(gap) and not same else "",
                }
            )
    return pd.DataFrame(lines)


def _highest(values: pd.Series, digits: str, same: bool) -> str:
    values = values.dropna()
    return f"{values.max():{digits}} {'all alike' if same else _text(values.idxmax())}" if len(values) else "none here"


@figures.described("The paper's Table 1: the best accuracies over the grid in per cent, the paper's in parentheses")
def table_1(table: pd.DataFrame) -> pd.DataFrame:
    """Table 1: the best accuracies over the grid in per cent, beside the paper's in parentheses, as text."""
    lines = []
    for label, rows in budgets(table):
        ends = having(select(rows, "accuracy"), seed=drawn_seed(rows))
        for on in ("mu2", "mu1"):
            accuracies = {probe: having(ends, probe=probe, on=on)["value"] for probe in PROBES}
            if members := max(map(len, accuracies.values())):
                paper = claims.TABLE_1.get((rows["data"].iloc[0].removesuffix("_jpeg"), on), ("",) * 4)
                row = {"budget": label, "code": on, "members": members}
                for (probe, name), published in zip(PROBE_NAMES.items(), paper, strict=True):
                    value = f"{100 * accuracies[probe].max():.2f}" if len(accuracies[probe]) else "none"
                    row[name] = f"{value} ({published:.2f})" if published else value
                lines.append(row)
    return pd.DataFrame(lines)


# Panels ---------------------------------------------------------------------------------------------------------------


def over_rates(ax: Axes, points: pd.DataFrame, metric: str) -> None:
    """A metric as colour over (R(z2), R(z1|z2)), a point a member; dashed lines have equal total rate."""
    if metric not in points:
        say(ax, _absent(metric))
        return
    dots = ax.scatter(points[R2], points[R1], s=24, **_by_colour(points, metric))
    ax.figure.colorbar(dots, ax=ax, pad=0.02, format=_plain())
    for total in np.linspace(0, points[R].max(), 6)[1:]:
        ax.plot([0, total], [total, 0], color="#cccccc", lw=0.7, ls="--", zorder=0)
    (x, y) = (points[rate].max() for rate in (R2, R1))
    ax.set(xlabel=R2, ylabel=R1, title=titled(points, metric))
    ax.set(xlim=(-0.04 * x, 1.06 * x + 0.1), ylim=(-0.04 * y, 1.06 * y + 0.1))
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
    ax.scatter(beta2, beta1, s=4 + 60 * share, clip_on=False, **_by_colour(points, metric))
    ends = min(*beta2, *beta1), max(*beta2, *beta1)
    ax.plot(ends, ends, color=ORANGE, ls="--", lw=1)
    if not alike(points, metric):
        ax.plot(*points[metric].idxmax(), marker, mfc="none", mec="black", ms=13, mew=1.5, clip_on=False)
    ax.plot(1, 1, "x", color="black", ms=7)
    ax.set(xscale="log", yscale="log", xlabel="beta2", ylabel="beta1", title=titled(points, metric))


def surface_3d(axes: np.ndarray, points: pd.DataFrame, along: Sequence[str]) -> None:
    """Members as points over three columns, coloured from more rate in z1 (blue) to more in z2 (red).

    A panel of three dimensions takes the place of the first of the `axes`.
    """
    place = axes[0].get_subplotspec()
    axes[0].remove()
    ax = axes[0] = axes[1].figure.add_subplot(place, projection="3d")
    if absent := [name for name in along if name not in points]:
        say(ax, _absent(absent[0]))
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
    """The label, of the seed that is drawn, and all rows of each budget that has a rate at the end of training."""
    groups = [rows for rows in tidy.budgets(table, AXES) if len(figures.finite(select(rows, "rate", layer=None)))]
    models = ["GHVAE" if rows["model"].iloc[0] == "ghvae" else "LVAE" for rows in groups]
    labels = [tidy.budget_label(having(rows, seed=drawn_seed(rows)), AXES) for rows in groups]
    return [(f"{model}: {label}", rows) for model, label, rows in zip(models, labels, groups, strict=True)]


def points_of(rows: pd.DataFrame) -> pd.DataFrame:
    """The members of a budget that are drawn, at the end of training: (beta2, beta1) x metrics.

    A metric that none of them has is no column. `attrs["classifier"]` names the classifier of the scores,
    `attrs["alike"]` the metrics whose best and worst agree: within their standard errors, scores also in the three
    decimals shown.
    """
    measured = {metric: metric_rows for metric in METRICS if len(metric_rows := rows_of(rows, metric))}
    points = pd.DataFrame({metric: own.set_index(AXES)["value"].astype(float) for metric, own in measured.items()})
    points = points.sort_index()
    points.attrs["classifier"] = measured[IS]["classifier"].iloc[0] if IS in measured else ""
    points.attrs["alike"] = tuple(metric for metric, own in measured.items() if _agree(own, metric in SCORES))
    return points


def rows_of(rows: pd.DataFrame, metric: str, at: str = "end") -> pd.DataFrame:
    """A metric of the seed that is drawn, on test images or samples; a score by the commonest classifier."""
    measure, where = METRICS[metric]
    measured = select(rows, measure, at, part=("test", "samples"), seed=drawn_seed(rows), **where)
    measured = figures.finite(measured)
    if metric in SCORES and len(measured):
        measured = having(measured, classifier=measured["classifier"].value_counts().idxmax())
    return measured


def drawn_seed(rows: pd.DataFrame) -> int:
    """The seed with the most members that have a rate, the lowest of several; of those asked for, where some have."""
    trained = figures.finite(select(rows, "rate", layer=None))
    if "asked" in trained and trained["asked"].any():
        trained = having(trained, seed=tuple(trained.loc[trained["asked"], "seed"].unique()))
    return int(trained.groupby("seed")["key"].nunique().idxmax())


def _grid(
    table: pd.DataFrame,
    draw: Callable[[np.ndarray, pd.DataFrame], None],
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


def _all_metrics(table: pd.DataFrame, what: str, name: str, value: str) -> Figure:
    """All metrics over the rates; for an empty table, what would fill it: the parameter, or commands for the book."""
    if table.empty:
        commands = f"python -m vaekit train hierarchical_rates --scale quick -p {name} {value}\n"
        commands += "python -m vaekit export hierarchical_rates"
        return figures.nothing(f"No {what} here yet: ask for {name} = [{value}], or, for the book, run\n{commands}")
    return _all_over_rates(table, WORTH)


def _all_over_rates(table: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    def draw(axes: np.ndarray, rows: pd.DataFrame) -> None:
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


def _by_colour(points: pd.DataFrame, metric: str) -> dict[str, Any]:
    low, high = _span(points, metric)
    return {"c": points[metric], "vmin": low, "vmax": high, "cmap": "viridis", "linewidths": 0}


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
    """A metric's name, of a score with its classifier in parentheses."""
    classifier = points.attrs.get("classifier") if metric in SCORES else ""
    return f"{metric} ({classifier})" if classifier else metric


def _absent(metric: str) -> str:
    return f"No {metric} here:\n{'no classifier has judged samples' if metric in SCORES else 'it was not measured'}."
