"""Study 4's figures: what beta, and then pruning, do to accuracy, to the code and to the size of the network.

A row of panels for each budget (training + tuning), a column for each reduction; points are seeds, lines their means
with standard deviations.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit import figures
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, grid, line, looks, mean_sd
from vaekit.store.table import budget_label, budgets, having, select
from vaekit.studies import pruning as study

# How a network came to be: its look and its name. "before" is trained and not yet pruned.
VARIANTS: dict[str, dict[str, Any]] = {
    "before": {"color": GREY, "marker": "o", "label": "before pruning"},
    "dense": {"color": BLUE, "marker": "^", "label": "tuned, not pruned"},
    "gradual": {"color": ORANGE, "marker": "s", "label": "pruned"},
    "both": {"color": GREEN, "marker": "D", "label": "pruned, classifier too"},
    "one_shot": {"color": PURPLE, "marker": "v", "label": "pruned at once"},
    "structured": {"color": "#56b4e9", "marker": "P", "label": "pruned by channels"},
    "no_decoder": {"color": "#e69f00", "marker": "X", "label": "pruned, never had a decoder"},
}
TITLES = {objective: name.replace("_", " ") for name, objective in study.REDUCTIONS.items()}
# Part, measure, factor and form of what stands beside the accuracy.
NUMBERS = {
    "D (test), nats": ("test", "distortion", 1, ".1f"),
    "R (test), nats": ("test", "rate", 1, ".2f"),
    "active units": ("test", "active_units", 1, ".1f"),
    "non-zero weights (thousand)": ("model", "nonzero_parameters", 1e-3, ".1f"),
    "compressed (kB)": ("model", "compressed_bytes", 1e-3, ".1f"),
}
SCORES = {
    "mig": "mutual information gap",
    "dci_disentanglement": "DCI: disentanglement",
    "dci_completeness": "DCI: completeness",
    "dci_informativeness": "DCI: informativeness",
}
NOTHING = """\
Nothing of this in the table. Sets of known factors: ask for data = [dsprites_like], or, for the book, run
python -m vaekit train pruning -p data dsprites_like
python -m vaekit export pruning"""
SHARE = "share of weights pruned"
Reduction = tuple[str, float]  # objective, lambda


@figures.described(
    "The paper's comparison: test accuracy over beta before and after pruning. Small points: seeds; lines: "
    "their means, with standard deviations. Dotted, where it was run: the baseline, the same network trained "
    "on the classification alone, tuned as long where it was, and not pruned.",
    "Test accuracy in percent over beta on a logarithmic axis, with one curve for the network before pruning "
    "and one for each way to prune it, a panel for each reading.",
    claims=("4.1", "4.2", "4.3", "4.6", "4.7"),
)
def accuracy(table: pd.DataFrame) -> Figure:
    """Accuracy on test images over beta, before and after pruning by each arm; the line is the baseline's, unpruned."""
    return _over_betas(table, "test accuracy (%)", ["accuracy"], lambda rows: scaled(_on_test(rows, "accuracy"), 100))


@figures.described(
    "How many dimensions of the latent tell test images apart, over beta.",
    "Active units over beta before and after pruning, a panel for each reading.",
)
def active_units(table: pd.DataFrame) -> Figure:
    """Dimensions of the latent that tell images apart over beta, before and after pruning."""
    measure = "active_units"
    return _over_betas(table, "active units of the code", [measure], lambda rows: _on_test(rows, measure))


@figures.described(
    "Compression ratio over beta: all weights in float32 over what is left of them, zlib-compressed.",
    "Compression ratio in bytes over beta before and after pruning, a panel for each reading.",
    claims=("4.4",),
)
def compression(table: pd.DataFrame) -> Figure:
    """All weights in float32 over what is left of them, zlib-compressed, over beta: claim 4.4's compression ratio."""

    def ratio(rows: pd.DataFrame) -> pd.DataFrame:
        sizes, parameters = select(rows, "compressed_bytes"), select(rows, "parameters").set_index("key")["value"]
        return sizes.assign(value=4 * sizes["key"].map(parameters) / sizes["value"])

    return _over_betas(table, "compression ratio of bytes", ["compressed_bytes", "parameters"], ratio)


@figures.described(
    "Mutual information gap over beta: of a factor, how much more the best dimension says than the second "
    "best, in units of the factor's entropy. Measured on dSprites-like images only.",
    "Mutual information gap over beta before and after pruning, a panel for each reading, or a note that "
    "nothing of it was measured.",
)
def disentanglement(table: pd.DataFrame, measure: str = "mig") -> Figure:
    """MIG over beta, or another of `SCORES`, of sets whose factors are known."""
    return _over_betas(_with(table, measure), SCORES[measure], [measure], lambda rows: _on_test(rows, measure))


@figures.described(
    "Test accuracy over the share of weights pruned. At 0: the network that was tuned as long without pruning.",
    "Test accuracy in percent over the share of weights pruned, a colour for each beta and a marker for each "
    "way to prune, a panel for each reading.",
    claims=("4.5",),
)
def sparsity(table: pd.DataFrame, measure: str = "accuracy") -> Figure:
    """Accuracy, or one of `SCORES`, over the share of weights pruned, a colour for each beta; at 0, tuned unpruned."""
    name, factor = (SCORES[measure], 1) if measure in SCORES else (f"test {measure} (%)", 100)

    def draw(ax: Axes, rows: pd.DataFrame, baseline: pd.DataFrame) -> None:
        rows = scaled(_on_test(rows, measure), factor)
        pruned = [variant for variant in VARIANTS if variant in set(rows["variant"]) - {"before", "dense"}]
        for variant, (beta, look) in product(pruned, betas):
            curve = having(rows, beta=beta, variant=variant if variant == "no_decoder" else (variant, "dense"))
            if (curve["variant"] == variant).any():
                line(ax, curve, "sparsity", seeds=True, color=look["color"], marker=VARIANTS[variant]["marker"])
        for _, look in betas:
            ax.plot([], [], color=look["color"], label=look["label"])
        for variant in pruned:
            ax.plot([], [], VARIANTS[variant]["marker"], color="black", label=VARIANTS[variant]["label"])
        if measure == "accuracy":
            _baseline(ax, baseline)
        ax.set(xlabel=SHARE, ylabel=name)

    table = _with(table, measure)
    betas = looks(_betas(table), "beta {:g}")
    return _by_reduction(table, draw, [measure])


@figures.described(
    "Mutual information gap over the share of weights pruned. Measured on dSprites-like images only.",
    "Mutual information gap over the share of weights pruned, a colour for each beta, a panel for each reading.",
)
def gap_kept(table: pd.DataFrame) -> Figure:
    """MIG over the share of weights pruned, of sets whose factors are known."""
    return sparsity(table, "mig")


@figures.described(
    "What a machine saves. Filled: the operations of dense arithmetic, without the channels that were removed "
    "whole. Hollow: without the products with a zero, too, as only sparse kernels do. Right: time measured on "
    "the machine that trained, beside whatever else it did.",
    "Million operations per image, and microseconds per image, over the share of weights pruned, for each way "
    "to prune.",
)
def cost(table: pd.DataFrame) -> Figure:
    """Multiplications and additions of one image, and the time it was measured to take, over the share pruned.

    Hollow: without the multiplications by a weight that is zero, which only sparse kernels save. Over all betas.
    """

    def draw(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        operations, time = axes
        for variant, look in VARIANTS.items():
            if variant == "before" or not len(flops := scaled(select(rows, "flops", variant=variant), 1e-6)):
                continue
            sparse = scaled(select(rows, "sparse_flops", variant=variant), 1e-6)
            seconds = scaled(select(rows, "seconds_per_image", variant=variant), 1e6)
            line(operations, flops, "sparsity", seeds=True, **look)
            plain = {name: look[name] for name in ("color", "marker")}
            line(operations, sparse, "sparsity", mfc="none", ls=":", **plain)
            line(time, seconds, "sparsity", seeds=True, **plain)
        operations.set(xlabel=SHARE, ylabel="million operations per image")
        time.set(xlabel=SHARE, ylabel="time per image (microseconds)")
        for ax in axes:
            ax.margins(x=0.1)
            if ax.containers:
                ax.set_ylim(0, 1.1 * ax.dataLim.y1)  # room for the markers at the top

    measures = ["flops", "sparse_flops", "seconds_per_image"]
    return grid(families(table), draw, 2, measures=measures, legend=True, empty=NOTHING)


@figures.described(
    "Rate of each dimension of the latent on test images, the largest first. Thin: seeds.",
    "Rate of each dimension of the latent in nats on a logarithmic axis, the largest first, a curve for each "
    "beta, a panel for each reading.",
)
def collapse(table: pd.DataFrame) -> Figure:
    """Rate of each dimension of the code, the largest first, with the number of active units.

    After pruning, by the share nearest to the paper's half; before it where nothing was pruned.
    """

    def draw(ax: Axes, rows: pd.DataFrame, _: pd.DataFrame) -> None:
        shares = rows.loc[rows["variant"] == "gradual", "sparsity"].unique()
        rows, title = having(rows, variant="gradual" if len(shares) else "before"), "before pruning"
        if len(shares):
            nearest = min(shares, key=lambda share: abs(share - 0.5))
            rows, title = having(rows, sparsity=nearest), f"{100 * nearest:g} % pruned"
        rates, units = select(rows, "rate_per_dimension", part="test"), select(rows, "active_units", part="test")
        for beta, look in looks(rates["beta"].dropna()):
            by_seed = having(rates, beta=beta).pivot_table(index="seed", columns="dim", values="value")
            ordered = pd.DataFrame(-np.sort(-by_seed.to_numpy(), axis=1), columns=range(1, by_seed.shape[1] + 1))
            active = having(units, beta=beta)["value"]
            words = f"beta {beta:g}: {round(active.mean(), 1):g} active of {by_seed.shape[1]}"
            words += " on average" if active.nunique() > 1 else ""
            ax.plot(ordered.columns, ordered.mean(), color=look["color"], marker=".", lw=1.2, label=words)
            for _, of_seed in ordered.iterrows():
                ax.plot(ordered.columns, of_seed, color=look["color"], lw=0.5, alpha=0.4)
        ax.set(xlabel="dimension of the code, by its rate", ylabel="rate (nats per image)", yscale="log")
        ax.legend(title=title, fontsize=8, handlelength=1)

    return _by_reduction(table, draw, ["rate_per_dimension", "active_units"])


@figures.described(
    "Test accuracy while training, before anything is pruned, mean over seeds. One row a budget: steps of "
    "training + steps of tuning.",
    "Test accuracy in percent over training steps, a curve for each beta, a panel for each reading, a row for "
    "each budget.",
)
def training(table: pd.DataFrame) -> Figure:
    """Test accuracy while training, before anything is pruned: has it come to rest?"""

    def draw(ax: Axes, rows: pd.DataFrame, _: pd.DataFrame) -> None:
        figures.learning_curves(scaled(having(rows, variant="before"), 100), "accuracy", ax, betas=betas)
        ax.set(ylabel="test accuracy (%)", xscale="linear")

    betas = _betas(table)
    return _by_reduction(table, draw, ["accuracy"], history=True)


@figures.described(
    "Accuracy, rates and sizes by point: means over seeds with standard deviations, D and R in nats per image"
)
def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind the figures as text, a row for each point: means over seeds with standard deviations.

    A budget stands at the first of its rows.
    Accuracy on test images in %, D and R in nats per image (one sample of z), bytes and operations of the network that
    classifies.
    """
    columns = {"accuracy (%)": ("test", "accuracy", 100, ".2f"), **NUMBERS}
    columns |= {"million operations": ("model", "flops", 1e-6, ".2f")}
    axes = ["objective", "lambda", "variant", "sparsity", "beta"]
    rows = []
    for budget, members in families(table):
        ends = members[members["step"] == members["steps"]]
        named = {"objective": [*TITLES, *ends["objective"]], "variant": [*VARIANTS, *ends["variant"]]}
        order = {column: {name: i for i, name in enumerate(dict.fromkeys(names))} for column, names in named.items()}
        ends = ends.sort_values(
            axes, key=lambda column: column.map(order[column.name]) if column.name in order else column
        )
        for i, (place, point) in enumerate(ends.groupby(axes, dropna=False, sort=False)):
            objective, weight, variant, share, beta = place
            row = {"budget": "" if i else budget, "reading": title_of((objective, weight))}
            row |= {"network": label_of(variant)}
            row |= {"pruned": "" if pd.isna(share) else f"{100 * share:g} %"}
            row |= {"beta": "" if pd.isna(beta) else f"{beta:g}", "seeds": str(point["seed"].nunique())}
            for name, (part, measure, factor, form) in columns.items():
                values = select(point, measure, part=part)["value"]
                row[name] = mean_sd(factor * values, form, empty="")
            if point["decoder"].eq(False).all():
                row["D (test), nats"] = "– (no decoder)"
            rows.append(row)
    return pd.DataFrame(rows)


def label_of(variant: str) -> str:
    """How a network came to be, in words."""
    return VARIANTS[variant]["label"] if variant in VARIANTS else variant


# Which rows a panel shows


def families(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """What was pruned under one budget, with what it came from, and its label; the largest budget first.

    Where nothing was pruned, what was trained under one budget.

    The column `variant` names how each row came to be: a key of `VARIANTS`, or of the baseline before or after pruning.
    """
    of_some = {"beta", "lambda", "arm", "sparsity", "parent_decoder", "parent_sampled"}
    table = table.assign(**dict.fromkeys(of_some - set(table), np.nan))
    table = table.assign(variant=_variants(table))
    if not table["parent"].notna().any():
        return [(budget_label(rows, study.AXES), rows) for rows in budgets(table, (*study.AXES, "variant"))]
    groups = []
    for pruned in budgets(table[table["parent"].notna()], (*study.AXES, "variant")):
        n_train = pruned["n_train"].iloc[0]
        size = "" if pd.isna(n_train) else f"{n_train:,.0f} images, "
        parents = having(table, key=tuple(pruned["parent"].unique()))
        before = f"{parents['steps'].iloc[0]:,} + " if len(parents) else ""
        groups.append((f"{size}{before}{budget_label(pruned, study.AXES)}", pd.concat([parents, pruned])))
    return groups


def _variants(table: pd.DataFrame) -> pd.Series:
    derived = study.variants(table).mask(lambda variant: variant == "baseline", "baseline, " + table["arm"].astype(str))
    before = pd.Series("before", index=table.index).mask(~table["decoder"].astype(bool), "before, no decoder")
    before = before.mask(~table["sampled"].astype(bool), "baseline")
    return derived.where(table["parent"].notna(), before)


def reductions_of(groups: Iterable[pd.DataFrame]) -> list[Reduction]:
    """The reductions of members that have a beta: sum before pixel mean, large lambdas first."""
    pairs = {pair for rows in groups for pair in zip(rows["objective"], rows["lambda"], strict=True)}
    order = list(TITLES)
    known = [(objective, weight) for objective, weight in pairs if objective in order]
    return sorted(known, key=lambda pair: (order.index(pair[0]), -pair[1]))


def title_of(reduction: Reduction) -> str:
    """A reduction in words; of none, nothing."""
    objective, weight = reduction
    return f"{TITLES[objective]}, lambda {weight:g}" if objective in TITLES else ""


def scaled(rows: pd.DataFrame, factor: float) -> pd.DataFrame:
    """The rows in another unit."""
    return rows.assign(value=factor * rows["value"])


def _betas(table: pd.DataFrame) -> Iterable[float]:
    """All betas of a figure, whose panels share a legend."""
    return table["beta"].dropna().unique() if "beta" in table else ()


def _with(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of the data sets that have a measure."""
    return table[table["data"].isin(table.loc[table["measure"] == measure, "data"])]


# How a panel shows them


def _over_betas(
    table: pd.DataFrame, name: str, measures: Sequence[str], pick: Callable[[pd.DataFrame], pd.DataFrame]
) -> Figure:
    """The values that `pick` gives of a reduction's rows over beta, a curve for each variant and sparsity."""

    def draw(ax: Axes, rows: pd.DataFrame, baseline: pd.DataFrame) -> None:
        rows = pick(rows)
        for variant, look in VARIANTS.items():
            for pruned, curve in having(rows, variant=variant).groupby("sparsity", dropna=False):
                share = f", {100 * pruned:g} %" if pruned > 0 else ""
                how = look | {"label": look["label"] + share, "part": curve["part"].iloc[0], "seeds": True}
                figures.over_beta(curve, curve["measure"].iloc[0], ax, **how)
        if len(betas := sorted(rows.loc[rows["value"].notna(), "beta"].unique())):
            ax.set_xticks(betas, [f"{beta:g}" for beta in betas])
            ax.minorticks_off()
        if "accuracy" in measures:
            _baseline(ax, baseline)
        ax.set(ylabel=name)

    return _by_reduction(table, draw, measures)


def _by_reduction(
    table: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame, pd.DataFrame], None],
    measures: Sequence[str],
    history: bool = False,
) -> Figure:
    """A panel for each reduction, a row for each budget: `draw(ax, rows, baseline)`. `history` is that of `grid`."""
    groups = families(table)
    reductions = reductions_of([rows for _, rows in groups])

    def draw_budget(axes: Sequence[Axes], rows: pd.DataFrame) -> None:
        for ax, (objective, weight) in zip(axes, reductions, strict=True):
            own = having(rows, objective=objective, **{"lambda": weight})
            if len(select(own, "accuracy")):  # where all diverged, there is nothing to draw
                draw(ax, own, having(rows, variant=("baseline", "baseline, dense")))
                ax.set(title=title_of((objective, weight)))

    if not reductions:
        return figures.nothing(NOTHING)
    drawn = having(pd.concat([rows for _, rows in groups]), part=("test", "model"))
    how = {"measures": measures, "drawn": drawn, "history": history, "legend": True, "sharey": "row"}
    return grid(groups, draw_budget, len(reductions), **how)


def _on_test(rows: pd.DataFrame, measure: str) -> pd.DataFrame:
    return select(rows, measure, part="test", factor=None)


def _baseline(ax: Axes, rows: pd.DataFrame) -> None:
    """A line for the baseline, tuned as long as what is beside it where it was."""
    values = select(rows, "accuracy", part="test")
    for variant, label in (("baseline, dense", "baseline, tuned, not pruned"), ("baseline", "baseline, not tuned")):
        if len(own := having(values, variant=variant)):
            ax.axhline(100 * own["value"].mean(), color="black", ls=":", lw=1, label=label)
            return
