"""Study 4's figures: what beta, and then pruning, do to accuracy, to the code and to the size of the network.

A row of panels for each budget (training + tuning), a column for each reading; points are seeds, lines their means with
standard deviations.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vaekit import figures, runs, sweep, tidy
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, panels
from vaekit.pruning import magnitude_masks
from vaekit.settings import Settings
from vaekit.studies import pruning as study

# How a network came to be: colour, marker and name. "before" is trained and not yet pruned.
WAYS = {
    "before": (GREY, "o", "before pruning"),
    "dense": (BLUE, "^", "tuned, not pruned"),
    "gradual": (ORANGE, "s", "pruned"),
    "both": (GREEN, "D", "pruned, classifier too"),
    "one_shot": (PURPLE, "v", "pruned at once"),
    "structured": ("#56b4e9", "P", "pruned by channels"),
    "no_decoder": ("#e69f00", "X", "pruned, never had a decoder"),
}
TITLES = {"classifier_sum": "sum", "classifier_pixel_mean": "pixel mean"}
SCORES = {
    "mig": "mutual information gap",
    "dci_disentanglement": "DCI: disentanglement",
    "dci_completeness": "DCI: completeness",
    "dci_informativeness": "DCI: informativeness",
}
NOTHING = "Nothing of this in the table.\nSets of known factors: python -m vaekit train pruning -p data dsprites_like"


def accuracy(table: pd.DataFrame) -> Figure:
    """Accuracy on test images over beta, before and after pruning by each arm; the line is the baseline's, unpruned."""
    return _over_betas(
        table,
        lambda shown, way: _percent(_of(shown, "accuracy", way)),
        "test accuracy (%)",
        ["accuracy"],
        _baseline,
    )


def active_units(table: pd.DataFrame) -> Figure:
    """Dimensions of the code that tell images apart over beta, before and after pruning."""
    return _over_betas(
        table, lambda shown, way: _of(shown, "active_units", way), "active units of the code", ["active_units"]
    )


def compression(table: pd.DataFrame) -> Figure:
    """All weights in float32 over what is left of them, zlib-compressed, over beta: claim 4.4's compression ratio."""

    def ratio(shown: pd.DataFrame, way: str) -> pd.DataFrame:
        sizes, whole = _of(shown, "compressed_bytes", way, "model"), _of(shown, "parameters", way, "model")
        return sizes.assign(value=4 * sizes["key"].map(whole.set_index("key")["value"]) / sizes["value"])

    return _over_betas(table, ratio, "compression ratio of bytes", ["compressed_bytes", "parameters"])


def disentanglement(table: pd.DataFrame, measure: str = "mig") -> Figure:
    """MIG over beta, or another of `SCORES`, of sets whose factors are known."""

    def score(shown: pd.DataFrame, way: str) -> pd.DataFrame:
        found = _of(shown, measure, way)
        return found[found["arguments"] == ""]

    return _over_betas(_with(table, measure), score, SCORES[measure], [measure])


def sparsity(table: pd.DataFrame, measure: str = "accuracy") -> Figure:
    """Accuracy, or one of `SCORES`, over the share of weights pruned, a colour for each beta; at 0, tuned unpruned."""
    name, scale = (SCORES[measure], 1) if measure in SCORES else (f"test {measure} (%)", 100)

    def draw(ax: Axes, shown: pd.DataFrame, baseline: pd.DataFrame) -> None:
        found = _scaled(tidy.last(shown, measure, part="test", arguments=""), scale)
        pruned = [way for way in WAYS if way in set(found["way"]) - {"before", "dense"}]
        for way, (beta, colour) in product(pruned, _shades(found)):
            rows = found[found["way"].isin([way] if way == "no_decoder" else [way, "dense"]) & (found["beta"] == beta)]
            if (rows["way"] == way).any():
                _line(ax, rows, "sparsity", color=colour, marker=WAYS[way][1])
        for beta, colour in _shades(found):
            ax.plot([], [], color=colour, label=f"beta {beta:g}")
        for way in pruned:
            ax.plot([], [], WAYS[way][1], color="black", label=WAYS[way][2])
        if measure == "accuracy":
            _baseline(ax, baseline)
        ax.set(xlabel="share of weights pruned", ylabel=name)

    return _by_reading(_with(table, measure), draw, [measure])


def cost(table: pd.DataFrame) -> Figure:
    """Multiplications and additions of one image, and the time it was measured to take, over the share pruned.

    Hollow: without the multiplications by a weight that is zero, which only sparse kernels save. Over all betas.
    """
    if not (rows := _families(table)):
        return _nothing(NOTHING)
    figure, axes = panels(len(rows), 2)
    for (left, right), (_, group) in zip(axes, rows, strict=True):
        for way, (colour, marker, name) in WAYS.items():
            if way == "before" or not len(flops := _scaled(_of(group, "flops", way, "model"), 1e-6)):
                continue
            how = {"color": colour, "marker": marker}
            _line(left, flops, "sparsity", label=name, **how)
            _line(left, _scaled(_of(group, "sparse_flops", way, "model"), 1e-6), "sparsity", mfc="none", ls=":", **how)
            _line(right, _scaled(_of(group, "seconds_per_image", way, "model"), 1e6), "sparsity", **how)
        left.set(xlabel="share of weights pruned", ylabel="million operations per image")
        right.set(xlabel="share of weights pruned", ylabel="time per image (microseconds)")
        for ax in (left, right):
            ax.margins(x=0.1)
            if ax.containers:
                ax.set_ylim(0, 1.1 * ax.dataLim.y1)  # room for the markers at the top
    drawn = _drawn(rows, ["flops", "sparse_flops", "seconds_per_image"])
    return _finished(figure, axes, [label for label, _ in rows], drawn)


def collapse(table: pd.DataFrame) -> Figure:
    """Rate of each dimension of the code, the largest first, with the number of active units.

    After pruning, by the share nearest to the paper's half; before it where nothing was pruned.
    """

    def draw(ax: Axes, shown: pd.DataFrame, _: pd.DataFrame) -> None:
        shares = shown.loc[shown["way"] == "gradual", "sparsity"].unique()
        way, title = "before", "before pruning"
        if len(shares):
            nearest = min(shares, key=lambda share: abs(share - 0.5))
            shown, way, title = shown[shown["sparsity"] == nearest], "gradual", f"{100 * nearest:g} % pruned"
        rates, units = (_of(shown, measure, way) for measure in ("rate_per_dimension", "active_units"))
        for beta, colour in _shades(rates):
            each = rates[rates["beta"] == beta].pivot_table(index="seed", columns="arguments", values="value")
            ordered = pd.DataFrame(-np.sort(-each.to_numpy(), axis=1), columns=range(1, each.shape[1] + 1))
            active = units.loc[units["beta"] == beta, "value"]
            label = f"beta {beta:g}: {round(active.mean(), 1):g} active of {each.shape[1]}"
            label += " on average" if active.nunique() > 1 else ""
            ax.plot(ordered.columns, ordered.mean(), color=colour, marker=".", lw=1.2, label=label)
            for _, line in ordered.iterrows():
                ax.plot(ordered.columns, line, color=colour, lw=0.5, alpha=0.4)
        ax.set(xlabel="dimension of the code, by its rate", ylabel="rate (nats per image)", yscale="log")
        ax.legend(title=title, fontsize=8, handlelength=1)

    return _by_reading(table, draw, ["rate_per_dimension", "active_units"])


def training(table: pd.DataFrame) -> Figure:
    """Test accuracy while training, before anything is pruned: has it come to rest?"""

    def draw(ax: Axes, shown: pd.DataFrame, _: pd.DataFrame) -> None:
        before = _percent(shown[(shown["way"] == "before") & (shown["measure"] == "accuracy")])
        figures.learning_curves(before, "accuracy", "", ax)
        ax.set(ylabel="test accuracy (%)", xscale="linear")

    return _by_reading(table, draw, ["accuracy"], last=False)


def numbers(table: pd.DataFrame) -> pd.DataFrame:
    """The numbers behind the figures as text, a row for each point: means over seeds with standard deviations.

    A budget stands at the first of its rows.
    Accuracy on test images in %, D and R in nats per image (one sample of z), bytes and operations of the network that
    classifies.
    """
    columns = {
        "accuracy (%)": ("test", "accuracy", 100, ".2f"),
        "D (test)": ("test", "distortion", 1, ".1f"),
        "R (test)": ("test", "rate", 1, ".2f"),
        "active units": ("test", "active_units", 1, ".1f"),
        "non-zero weights (thousand)": ("model", "nonzero_parameters", 1e-3, ".1f"),
        "compressed (kB)": ("model", "compressed_bytes", 1e-3, ".1f"),
        "million operations": ("model", "flops", 1e-6, ".2f"),
    }
    axes = ["objective", "lambda", "way", "sparsity", "beta"]
    rows = []
    for label, group in _families(table):
        ends = group[group["step"] == group["steps"]]
        order = [*TITLES, *ends["objective"]], [*WAYS, *ends["way"]]
        ends = ends.sort_values(axes, key=lambda column: _ranked(column, *order))
        for i, (place, point) in enumerate(ends.groupby(axes, dropna=False, sort=False)):
            objective, lamda, way, sparsity, beta = place
            row = {"budget": "" if i else label, "reading": _title((objective, lamda)), "network": _name(way)}
            row |= {"pruned": _shown(100 * sparsity, "g", " %"), "beta": _shown(beta, "g")}
            row |= {"seeds": str(point["seed"].nunique())}
            for name, (part, measure, scale, form) in columns.items():
                values = scale * point.loc[(point["part"] == part) & (point["measure"] == measure), "value"]
                spread = f" ± {values.std():{form}}" if len(values) > 1 else ""
                row[name] = f"{values.mean():{form}}{spread}" if len(values) else ""
            if point["decoder"].eq(False).all():
                row["D (test)"] = "– (no decoder)"
            rows.append(row)
    return pd.DataFrame(rows)


def explore(table: pd.DataFrame, chosen: Settings):
    """Move beta and the share of weights pruned: what the networks asked for lose, tuned and not.

    In JupyterLab a widget; in a book a figure of one place, drawn from the table alone; None where nothing was pruned.
    The curve is the trained network of one seed without its smallest weights and without a step of tuning, on up to
    1,000 test images: made from stored weights when it is asked for.
    """
    from vaekit.widgets import explore  # a book is drawn without widgets

    families = _families(table[table["asked"]])[:1]
    tuned = [_percent(tidy.last(shown, "accuracy", part="test")) for _, shown in families]
    tuned = [rows[rows["way"].isin(["gradual", "dense"])] for rows in tuned]
    if not (names := _readings([("", rows) for rows in tuned])):
        return None
    [(label, _)], [tuned] = families, tuned
    store = None if chosen.scale == "published" else runs.default_store()
    here = {key for key in tuned["parent"].unique() if store is not None and key in store}
    finely = (0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95) if here else ()
    shares = sorted({*tuned["sparsity"], *finely})
    curves = lru_cache(partial(_untuned, store, tuple(shares)))

    def draw(beta: float, pruned: float) -> tuple[Figure, str]:
        figure, axes = panels(1, len(names), sharey=True)
        says = []
        for ax, reading in zip(axes[0], names, strict=True):
            ax.set(title=_title(reading), xlim=(-0.03, 1), xlabel="share of weights pruned")
            rows = _reading(tuned, reading)
            if not len(rows := rows[rows["beta"] == beta].sort_values("seed")):
                continue
            _line(ax, rows, "sparsity", color=ORANGE, marker="s", ls="none", label="pruned and tuned")
            values = {"tuned": rows.groupby("sparsity")["value"].mean().to_dict()}
            stored = [key for key in rows["parent"] if key in here]
            if stored and (untuned := curves(stored[0])) is not None:
                ax.plot(shares, untuned, color=GREY, lw=1.2, label="pruned at once, not tuned")
                values["not tuned"] = dict(zip(shares, untuned, strict=True))
            elif store is not None:
                says.append(f"{_title(reading)}: weights not here, train a seed that is not stored")
            there = {how: found[pruned] for how, found in values.items() if pruned in found}
            ax.plot([pruned] * len(there), list(there.values()), "o", mfc="none", mec="black", ms=11)
            says += [f"{_title(reading)}, {how}: {value:.1f} %" for how, value in there.items()]
        axes[0, 0].set(ylabel="test accuracy (%)")
        said = f"{'; '.join(says)}." if says else ""
        sentence = f"Test accuracy at beta {beta:g} without {100 * pruned:g} % of the weights. {said}".strip()
        return _finished(figure, axes, [f"beta {beta:g}, {label}"]), sentence

    points = [{"beta": beta, "pruned": share} for beta in sorted(tuned["beta"].unique()) for share in shares]
    return explore(chosen, draw, points)


@torch.no_grad()
def _untuned(store: runs.Store | None, shares: tuple[float, ...], key: str) -> list[float] | None:
    """Test accuracy (%) of a stored network without each share of its encoder's smallest weights; None: not stored."""
    if store is None or key not in store:
        return None
    member = runs.member_of(store.record(key)["member"])
    images = sweep.examples(member.data, member.split, member.n_train, member.n_test)
    assert images.test_labels is not None  # the study's sets have labels
    model = runs.load(key, store=store)
    x = images.test[:1000].to(next(model.parameters()).dtype) / 255
    encoder = [name for name, _ in model.named_parameters() if name.startswith(("encoder.", "mu.", "logvar."))]
    weights = {name: model.get_parameter(name).clone() for name in encoder if name.endswith("weight")}
    found = []
    for share in shares:
        pruned = {name: weights[name] * mask for name, mask in magnitude_masks(weights, share).items()}
        model.load_state_dict(pruned, strict=False)
        right = model.classify(x).argmax(1) == images.test_labels[:1000]  # pyright: ignore[reportCallIssue]
        found.append(100 * right.double().mean().item())
    return found


# Which rows a panel shows


def _families(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """What was pruned under one budget on one training set, with what it came from; the largest budget first.

    The column `way` names how each row came to be: a key of `WAYS`, or of the baseline before or after pruning.
    """
    absent = dict.fromkeys({"beta", "lambda"} - set(table), np.nan)  # where all are baselines
    # A list is no value to group by.
    table = table.assign(channels=table["channels"].astype(str), way=_ways(table), **absent)
    found = []
    for label, budget in tidy.budgets(table[table["parent"].notna()], (*study.AXES, "way")):
        for (_, n_train), group in budget.groupby(["data", "n_train"], dropna=False):
            size = "" if pd.isna(n_train) else f"{n_train:,.0f} images, "
            parents = table[table["key"].isin(group["parent"])]
            before = f"{parents['steps'].iloc[0]:,} + " if len(parents) else ""
            found.append((f"{size}{before}{label}", pd.concat([parents, group])))
    return found


def _ways(table: pd.DataFrame) -> pd.Series:
    derived = study.ways(table).mask(lambda way: way == "baseline", "baseline, " + table["arm"].astype(str))
    before = pd.Series("before", index=table.index).mask(~table["decoder"].astype(bool), "before, no decoder")
    before = before.mask(~table["sampled"].astype(bool), "baseline")
    return derived.where(table["parent"].notna(), before)


def _readings(families: Iterable[tuple[str, pd.DataFrame]]) -> list[tuple[str, float]]:
    """(objective, lambda) of all members that have a beta: sum before pixel mean, large lambdas first."""
    found = {pair for _, group in families for pair in zip(group["objective"], group["lambda"], strict=True)}
    return sorted(((o, w) for o, w in found if o in TITLES), key=lambda pair: (list(TITLES).index(pair[0]), -pair[1]))


def _reading(group: pd.DataFrame, reading: tuple[str, float]) -> pd.DataFrame:
    return group[(group["objective"] == reading[0]) & (group["lambda"] == reading[1])]


def _title(reading: tuple[str, float]) -> str:
    objective, lamda = reading
    return f"{TITLES[objective]}, lambda {lamda:g}" if objective in TITLES else ""


def _name(way: str) -> str:
    return WAYS[way][2] if way in WAYS else way


def _of(shown: pd.DataFrame, measure: str, way: str, part: str = "test") -> pd.DataFrame:
    return tidy.last(shown, measure, way=way, part=part)


def _percent(rows: pd.DataFrame) -> pd.DataFrame:
    return _scaled(rows, 100)


def _scaled(rows: pd.DataFrame, factor: float) -> pd.DataFrame:
    return rows.assign(value=factor * rows["value"])


def _with(table: pd.DataFrame, measure: str) -> pd.DataFrame:
    """The rows of the data sets that have a measure."""
    return table[table["data"].isin(table.loc[table["measure"] == measure, "data"])]


# How a panel shows them


def _over_betas(
    table: pd.DataFrame,
    rows_of: Callable[[pd.DataFrame, str], pd.DataFrame],
    name: str,
    measures: Sequence[str],
    beside: Callable[[Axes, pd.DataFrame], None] | None = None,
) -> Figure:
    """What `rows_of` gives of each way of a reading over beta, a curve for each way and sparsity."""

    def draw(ax: Axes, shown: pd.DataFrame, baseline: pd.DataFrame) -> None:
        for way, (colour, marker, label) in WAYS.items():
            for pruned, rows in rows_of(shown, way).groupby("sparsity", dropna=False):
                share = f", {100 * pruned:g} %" if pruned > 0 else ""
                _over_beta(ax, rows, color=colour, marker=marker, label=label + share)
        if beside:
            beside(ax, baseline)
        ax.set(ylabel=name)

    return _by_reading(table, draw, measures)


def _by_reading(
    table: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame, pd.DataFrame], None],
    measures: Sequence[str],
    last: bool = True,
) -> Figure:
    """A panel for each reading, a row for each budget; what is not there stays empty.

    `measures` are what is drawn: at the end of training or, unless `last`, at every step.
    """
    rows = _families(table)
    if not (names := _readings(rows)):
        return _nothing(NOTHING)
    figure, axes = panels(len(rows), len(names), sharey="row")
    for line, (_, group) in zip(axes, rows, strict=True):
        for ax, reading in zip(line, names, strict=True):
            shown = _reading(group, reading)
            if len(tidy.last(shown, "accuracy")):  # where all diverged, there is nothing to draw
                draw(ax, shown, group[group["way"] == "baseline"])
                ax.set(title=_title(reading))
            else:
                ax.set_axis_off()
    return _finished(figure, axes, [label for label, _ in rows], _drawn(rows, measures, last))


def _drawn(families: list[tuple[str, pd.DataFrame]], measures: Sequence[str], last: bool = True) -> str:
    """The data of a figure: measures of the network, and of test images."""
    rows = pd.concat([group for _, group in families])
    rows = rows[rows["part"].isin(["test", "model"]) & ~rows.index.duplicated()]  # families share their parents
    return tidy.csv(rows, *measures, last=last)


def _finished(figure: Figure, axes: np.ndarray, budgets: list[str], drawn: str = "") -> Figure:
    """The figure with its rows' budgets above them and, below, one legend of all panels that have none of their own."""
    figures.label_rows(axes, budgets)
    shared = [ax.get_legend_handles_labels() for ax in axes.flat if ax.get_legend() is None]
    named = {label: handle for handles, labels in shared for handle, label in zip(handles, labels, strict=True)}
    if named:
        columns = 4 if len(axes[0]) > 2 else 3
        figure.set_figheight(figure.get_figheight() + 0.25 * -(-len(named) // columns))
        figure.legend(named.values(), named.keys(), loc="outside lower center", ncols=columns)
    return figures.with_data(figure, drawn)


def _over_beta(ax: Axes, rows: pd.DataFrame, **how) -> None:
    """Rows of one measure, part and way over beta, each beta with a tick; nothing where there is no row."""
    if len(rows):
        ticks = sorted({*rows["beta"], *(ax.get_xticks() if ax.containers else ())})
        first = rows.iloc[0]
        figures.over_beta(rows, first["measure"], ax, part=first["part"], arguments=first["arguments"], **how)
        ax.plot(rows["beta"], rows["value"], how["marker"], color=how["color"], ms=2.5, alpha=0.5, lw=0)
        ax.set_xticks(ticks, [f"{beta:g}" for beta in ticks])
        ax.minorticks_off()


def _line(ax: Axes, rows: pd.DataFrame, x: str, **how) -> None:
    """The mean over a column with its standard deviation and seeds as points, which would fill a hollow marker."""
    points = rows.groupby(x)["value"]
    ax.errorbar(points.mean().index, points.mean(), yerr=points.std().fillna(0), capsize=2, lw=1.2, **how)
    if how.get("mfc") != "none":
        ax.plot(rows[x], rows["value"], how["marker"], color=how["color"], ms=2.5, alpha=0.5, lw=0)


def _baseline(ax: Axes, baseline: pd.DataFrame) -> None:
    if len(found := _percent(tidy.last(baseline, "accuracy", part="test"))["value"]):
        ax.axhline(found.mean(), color="black", ls=":", lw=1, label="baseline, not pruned")


def _ranked(column: pd.Series, objectives: list[str], ways: list[str]) -> pd.Series:
    """What a column is sorted by: readings and ways in the order in which figures show them, the rest as it is."""
    known = {"objective": objectives, "way": ways}.get(str(column.name))
    return column.map(known.index) if known else column


def _shades(rows: pd.DataFrame) -> list[tuple[float, tuple]]:
    """A colour for each beta."""
    betas = sorted(rows["beta"].dropna().unique())
    return list(zip(betas, map(tuple, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(betas)))), strict=True))


def _nothing(message: str) -> Figure:
    figure, axes = panels(1, 1, width=7, height=0.8)
    axes[0, 0].text(0.5, 0.5, message, ha="center", va="center")
    axes[0, 0].set_axis_off()
    return figure


def _shown(value: float, form: str, unit: str = "") -> str:
    return "" if pd.isna(value) else f"{value:{form}}{unit}"
