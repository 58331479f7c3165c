"""The tidy table: what every figure and every claim rests on, as a pandas DataFrame.

One row a measured value: the fields of its member (arguments of the model and weights of the objective by their own
names: depth, beta), how the member was made, and `step`, `part`, `measure`, `arguments`, `value`, `se`, `n`, `version`.
What `arguments` says ("probe=rbf_svm,on=mu2") has columns of its own as well (`probe`, `on`), which `select` reads.

`budgets` decides what may share a curve, a panel and a verdict, for figures and claims alike.
"""

import importlib.metadata
import math
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from vaekit import results, sweep
from vaekit.results import ResultsError, Tables
from vaekit.runs import Member, Store, default_store
from vaekit.settings import Settings
from vaekit.sweep import Design

PRECISIONS = ("fp64", "full", "bf16")  # the finest first
# Of what was recorded of a member, not asked for: what makes it another member all the same.
_IDENTITY = ("data_identity", "code_version")
# What a budget's label says of the networks where some are fully connected; of the others that column is empty.
_WIDTHS = {"hidden": "units", "channels": "channels"}
# Arguments of measures under the names of their columns, where the stored ones do not do.
_COLUMN_OF = {"from": "from_layer", "to": "to_layer"}
# What the comment of a figure's data says of the members, beside their settings.
_MADE = ("seed", "data_identity", "hardware", "backend", "torch", "commit", "measures")


def frame(tables: Tables) -> pd.DataFrame:
    """The tables as one, a row a value. `model_args.depth` is `depth`, `weights.beta` is `beta`.

    A member without any value (it diverged at once) keeps one row, with an empty value, so that it is not forgotten.
    Where there are derived members, `parent_steps`, `parent_decoder` and so on are the fields of their parents.
    """
    members = _members(tables.members.values())
    values = pd.DataFrame(
        [{**row, "key": key} for key, rows in tables.measures.items() for row in rows],
        columns=["key", *results.MEASURED[1:]],
    )
    if not len(members):
        return values
    codes, texts = pd.factorize(values["arguments"])
    arguments = _argument_columns(texts.tolist(), codes, members)
    return values.assign(**arguments).merge(members, on="key", how="right")


def runs(store: Store | None = None) -> pd.DataFrame:
    """All that a store holds (None: the default one), as `frame` has it: of each measure the newest version.

    Nothing is taken from an index: every record and every measure is read and verified; weights are not. Errors:
    StoreError names what is damaged (`python -m vaekit runs verify` names all of it).
    """
    columns, rows, counts = _Columns(), [], []
    for row, measures in results.stored(store or default_store()):
        rows.append(row)
        counts.append(columns.add(measures))
    members = _members(rows)
    if not rows:
        return frame(Tables())
    which = np.repeat(np.arange(len(rows)), counts)
    made = {name: members[name].array.take(which) for name in members}
    return pd.DataFrame({"key": made.pop("key"), **columns.arrays(members), **made}, copy=False)


def select(table: pd.DataFrame, measure: str, at: str | int = "end", **where: Any) -> pd.DataFrame:
    """The rows of a measure, at the end of training or when `at` says.

    Args:
        table: the tidy table, or a part of it.
        measure: a name in the column `measure`.
        at: "end", each member's last step; "all", every step; "last", the last step at which each member has the
            measure (for what no training changes); or a step.
        where: values of columns, arguments of the measure among them: `layer=5`, `samples=1`. A tuple holds those that
            will do, None stands for an empty cell, and a column that the table lacks is empty.
    """
    if table.empty:
        return table
    step = {} if at in ("end", "all", "last") else {"step": at}
    rows = having(table, measure=measure, **step, **where)
    if at == "end":
        return rows[(rows["step"] == rows["steps"]).to_numpy()]
    if at == "last":
        return rows[(rows["step"] == rows.groupby("key")["step"].transform("max")).to_numpy()]
    return rows


def having(table: pd.DataFrame, **where: Any) -> pd.DataFrame:
    """The rows whose columns hold what `where` says, as in `select`, of all measures and steps."""
    places = np.arange(len(table))
    for name, wanted in where.items():
        wanted = tuple(wanted) if isinstance(wanted, tuple | list) else (wanted,)
        if name in table:
            cells = table[name].iloc[places]
            held = cells.isin([value for value in wanted if value is not None]).to_numpy()
            places = places[held | cells.isna().to_numpy() if None in wanted else held]
        elif None not in wanted:
            places = places[:0]
    return table.iloc[places]


def budget_fields(table: pd.DataFrame, axes: Iterable[str] = ()) -> list[str]:
    """The columns that say which member a row is of and how that was trained, but for seed and axes: its budget.

    All fields of a member and, in place of its parent's key, all fields of the parent; the identity of the data and the
    version of the code. Values, arguments of measures and how a training went are none of them. What is an axis of the
    members is one of their parents, too.
    """
    others = {*results.MEASURED, *results.RECORDED, *_arguments_in(table), "key", "parent", "asked"} - {*_IDENTITY}
    varied = {"seed", *axes}
    return [name for name in table if name not in others and name.removeprefix("parent_") not in varied]


def budgets(table: pd.DataFrame, axes: Iterable[str] = ()) -> list[pd.DataFrame]:
    """The table cut by budget: no curve, panel or verdict may mix two.

    Members have one budget where they agree in all `budget_fields` but the `axes` that the caller compares: any other
    column that a caller adds splits them, too. Code versions are counted back from the newest that the table has of
    each family of models, which count theirs apart. The largest budget
    comes first: of most steps, of equal ones that of the newest code, then of the finest precision, then of most rows.
    """
    if table.empty:
        return []
    fields = budget_fields(table, axes := {*axes})
    numbered = table.assign(_age=_ages(table)).groupby(_budget_numbers(table, axes).to_numpy(), sort=False)

    def order(rows: pd.DataFrame) -> tuple:
        first = rows.iloc[0]
        precision = first.get("precision")
        rank = PRECISIONS.index(precision) if precision in PRECISIONS else len(PRECISIONS)
        # The last word, so that the order is total whatever the order of the rows.
        rest = str([str(first[name]) for name in fields])
        return -rows["steps"].max(), rows["_age"].min(), rank, -rows["value"].notna().sum(), rest

    return [rows.drop(columns="_age") for rows in sorted((rows for _, rows in numbered), key=order)]


def _ages(table: pd.DataFrame) -> pd.Series:
    """How many versions of its family's code are newer than a row's, 0 for the newest; 0 where no version is known."""
    if "code_version" not in table:
        return pd.Series(0.0, index=table.index)
    family = table["model"] if "model" in table else pd.Series("", index=table.index)
    return (table["code_version"].groupby(family).rank("dense", ascending=False) - 1).fillna(0)


def _budget_numbers(table: pd.DataFrame, axes: Iterable[str]) -> pd.Series:
    """A number for the budget of each row."""
    members = table.assign(_age=_ages(table)).drop_duplicates("key")
    fields = [name for name in budget_fields(table, axes) if name != "code_version"]
    cells = [map(_comparable, members[name]) for name in [*fields, "_age"]]
    numbers, _ = pd.factorize(pd.Series(list(zip(*cells, strict=True)), dtype=object))
    return table["key"].map(dict(zip(members["key"], numbers, strict=True)))


def _comparable(cell: Any) -> Any:
    """A cell that equals another where both say the same: an empty one is NaN, and no NaN equals another."""
    if isinstance(cell, list | tuple):
        return tuple(cell)
    return None if pd.isna(cell) else cell


def label(rows: pd.DataFrame, axes: Iterable[str] = ()) -> str:
    """What a figure says of a budget: steps, widths, precision, data and seeds at each point of its `axes`."""
    first = rows.iloc[0]
    points = [name for name in axes if name in rows and not name.startswith("parent")]
    counts = rows.groupby(points, dropna=False)["seed"].nunique() if points else rows["seed"].nunique()
    least, most = np.min(counts), np.max(counts)
    widths = _WIDTHS.items() if "hidden" in rows else ()
    says = [
        f"{first['steps']:,} steps of {first['batch_size']}",
        *(f"{first[name]:.0f} {unit}" for name, unit in widths if _is_number(first.get(name))),
        *([first["precision"]] if first["precision"] != "full" else []),
        ", ".join(sorted(rows["data"].unique())),
        f"{least} seed{'s' if least > 1 else ''}" if least == most else f"{least} to {most} seeds a point",
    ]
    return ", ".join(says)


def distinct(labels: Sequence[str]) -> list[str]:
    """The labels, each another: those of two budgets that differ in what no label tells are told apart by "(2)"."""
    counts: Counter[str] = Counter()
    apart = []
    for text in labels:
        counts[text] += 1
        apart.append(f"{text} ({counts[text]})" if counts[text] > 1 else text)
    return apart


def _is_number(cell: Any) -> bool:
    """Whether a cell holds one number: not none, nor one for each layer."""
    return pd.api.types.is_number(cell) and pd.notna(cell)


class _Columns:
    """Values gathered as columns: as rows, a million of them would be half a gigabyte of dictionaries."""

    TEXTS = ("part", "measure", "arguments")
    NUMBERS = ("step", "value", "se", "n")

    def __init__(self):
        self.words: dict[tuple[str, ...], int] = {}
        self.which = array("q")  # of the words, -1 for none
        self.numbers = {name: array("d") for name in (*self.NUMBERS, "version")}

    def add(self, measures: Iterable[tuple[int, dict[str, list[Any]]]]) -> int:
        """Add a member's values, and return how many rows they take: one empty row where there are none."""
        before, words = len(self.which), self.words
        for version, columns in measures:
            if not columns:
                continue
            texts = zip(*(columns[name] for name in self.TEXTS), strict=True)
            self.which.extend([words.setdefault(text, len(words)) for text in texts])
            for name in self.NUMBERS:
                self.numbers[name].extend(_floats(columns[name]))
            self.numbers["version"].extend(_floats([version] * len(columns["step"])))
        if before == len(self.which):
            self.which.append(-1)
            for column in self.numbers.values():
                column.append(math.nan)
        return len(self.which) - before

    def arrays(self, members: pd.DataFrame) -> dict[str, Any]:
        """The columns in the order of `results.MEASURED`, then the arguments'; alike texts share one object."""
        which = np.frombuffer(self.which, np.int64)
        arrays: dict[str, Any] = {
            name: pd.array([words[i] for words in self.words], dtype="str").take(which, allow_fill=True)
            for i, name in enumerate(self.TEXTS)
        }
        arrays |= {name: np.frombuffer(numbers) for name, numbers in self.numbers.items()}
        if (which >= 0).all():
            arrays |= {name: arrays[name].astype(np.int64) for name in ("step", "n", "version")}
        ordered = {name: arrays[name] for name in results.MEASURED[1:]}
        return ordered | _argument_columns([arguments for *_, arguments in self.words], which, members)


def _floats(cells: list) -> array:
    try:
        return array("d", cells)
    except TypeError:  # a value that was measured and is no number
        return array("d", [math.nan if cell is None else cell for cell in cells])


def _parsed(arguments: Any) -> dict[str, Any]:
    """Arguments of a measure by their columns: "probe=knn,on=mu2" has two; a bare word is of what `samples` says."""
    found = {}
    for word in filter(None, arguments.split(",") if isinstance(arguments, str) else ()):
        name, equals, value = word.partition("=")
        name, value = (name, value) if equals else ("samples", name)
        found[_COLUMN_OF.get(name, name)] = _cell(value)
    return found


def _cell(text: str) -> int | float | str:
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", text) else text


def _argument_columns(texts: Sequence[Any], codes: np.ndarray, members: pd.DataFrame) -> dict[str, np.ndarray]:
    """A column for each argument: the value that the text at each code has, NaN where it has none (code -1).

    Where a field of the members or of a row has that name, the column is called `argument_` and the name.
    """
    parsed = [_parsed(text) for text in texts]
    taken = {*members, *results.MEASURED}
    names = dict.fromkeys(name for each in parsed for name in each)
    return {
        f"argument_{name}" if name in taken else name: np.array(
            [*(each.get(name, math.nan) for each in parsed), math.nan], object
        )[codes]
        for name in names
    }


def _arguments_in(table: pd.DataFrame) -> set[str]:
    """The columns that hold arguments of measures."""
    names = {name for text in table["arguments"].unique() for name in _parsed(text)} if "arguments" in table else set()
    return {f"argument_{name}" if f"argument_{name}" in table else name for name in names}


def _members(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Members as a table, with what a row of a derived one says of its parent."""
    short = [{name.partition(".")[2] or name: value for name, value in row.items()} for row in rows]
    known = {row["key"]: row for row in short}
    unsaid = {"key", "parent", *results.RECORDED} - {*_IDENTITY}

    def with_parent(row: dict[str, Any]) -> dict[str, Any]:
        if not row.get("parent"):
            return row
        if not (parent := known.get(row["parent"])):
            return row | {"unknown_parent": row["parent"]}  # which may be any: it shares a budget with no other
        of_parent = {f"parent_{name}": value for name, value in with_parent(parent).items() if name not in unsaid}
        return row | of_parent

    return pd.DataFrame([with_parent(row) for row in short])


def of_study(design: Design, members: Sequence[Member], settings: Settings, source: str = "store") -> pd.DataFrame:
    """What a notebook shows: the members asked for, beside all that is known of the same budget and images.

    From the source "store": trains what is missing first. From "results": trains nothing, and shows `results/` whole,
    or the part of it that was asked for. The column `asked` marks the members that were.

    Errors: ResultsError for members that `results/` lacks, with the command that would train them; StoreError and
    DataError as in `sweep.run`.
    """
    if source not in ("store", "results"):
        raise ValueError(f"the source is {source!r}; wanted 'store' or 'results'")
    if source == "results":
        return _of_results(design, settings)
    plan = sweep.run(design, members, device=getattr(settings, "device", "cpu"))
    known = frame(sweep.tables(design, members=members, listed=plan.listed))
    asked = known["key"].isin({member.key for member in members})
    numbers = _budget_numbers(known, design.axes)
    alike = numbers.isin(set(numbers[asked]))
    return known[alike].assign(asked=asked[alike]).reset_index(drop=True)


def csv(table: pd.DataFrame, *measures: str, last: bool = True, steps_apart: bool = True) -> str:
    """What a figure draws, as the text of a CSV: a row a point, below comment lines that say how it was made.

    Columns: the settings that differ among the rows, `step`, `part`, `measure`, `arguments`, and of each point `value`,
    the mean over seeds, `sd`, their standard deviation (empty for one seed), `seeds`, how many, `se`, the mean of the
    standard errors that each seed's value has by itself, and `n`, how many images or samples it rests on. Settings that
    all rows share stand in the comment, beside the seeds, the data's identity, hardware, versions and wall time.
    `pandas.read_csv(path, comment="#")` reads it. Without any such value the text is empty.

    Args:
        table: the tidy table, or the part of it that is drawn.
        measures: what of it is drawn: a measure, "rate", or one with its arguments, "distortion samples=1".
        last: at the end of training alone; else at every step.
        steps_apart: values of different steps are different points; else they are one, whose `step` names all of them.
    """
    rows = table[table["measure"].isin(measures) | (table["measure"] + " " + table["arguments"]).isin(measures)]
    rows = rows[rows["value"].notna() & ((rows["step"] == rows["steps"]) | (not last))]
    if rows.empty:
        return ""
    fields = [name for name in budget_fields(rows) if name != "data_identity" and not _as_the_members(rows, name)]
    rows = rows.assign(**{name: rows[name].map(_plain) for name in fields if rows[name].dtype == object})
    differ = [name for name in fields if rows[name].nunique(dropna=False) > 1]
    what = ["step", "part", "measure", "arguments"]
    if not steps_apart:
        alike = rows.groupby([*differ, *what[1:]], dropna=False)["step"]
        rows = rows.assign(step=alike.transform(lambda steps: " ".join(f"{step:.0f}" for step in sorted(set(steps)))))
    points = rows.groupby([*differ, *what], dropna=False, sort=False).agg(
        value=("value", "mean"), sd=("value", "std"), seeds=("seed", "nunique"), se=("se", "mean"), n=("n", "max")
    )
    first, members = rows.iloc[0], rows.drop_duplicates("key")
    made = {name: sorted(set(map(str, members[name].dropna()))) for name in _MADE if name in members}
    shared = [f"{name} {first[name]}" for name in fields if name not in differ and not pd.isna(first[name])]
    comment = [
        f"vaekit: {importlib.metadata.version('vaekit')}",
        "unit: nats per image of distortion, rate, information, KL and likelihood; none of counts, shares and scores",
        "value: mean over seeds; sd: over seeds; se: of one seed's value, their mean; n: images or samples of it",
        f"in all rows: {', '.join(shared)}",
        *(f"{name}: {', '.join(said)}" for name, said in made.items() if said),
    ]
    if "wall_time" in members:
        comment.append(f"wall time of training: {members['wall_time'].sum():.0f} s in all, {len(members)} members")
    lines = "".join(f"# {' '.join(line.split())}\n" for line in comment)
    return lines + points.reset_index().to_csv(index=False, float_format="%.12g", lineterminator="\n")


def _as_the_members(rows: pd.DataFrame, name: str) -> bool:
    """Whether a column says of each row's parent what another says of its member."""
    own = name.removeprefix("parent_")
    return own != name and own in rows and bool((rows[name].isna() | (rows[name] == rows[own])).all())


def _plain(value: Any) -> Any:
    """A setting as one cell; a list is no value to group by."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _of_results(design: Design, settings: Settings) -> pd.DataFrame:
    """The members of `results/` that agree with all settings given, and those that they were derived from."""
    known = frame(results.read(results.folder(design.name)))
    if not len(known):
        raise ResultsError(
            f"results/{design.name} holds no member yet; `python -m vaekit train {design.name} --scale quick` and "
            f"`python -m vaekit export {design.name}` make some"
        )
    members = known.drop_duplicates("key")
    if "parent" in members:
        members = members[~members["key"].isin(members["parent"])]
    held = _held(members, settings)
    places = [dict(zip(held, values, strict=True)) for values in product(*held.values())]
    fitting = [np.logical_and.reduce([held[name][value] for name, value in place.items()]) for place in places]
    if lacking := [place for place, fits in zip(places, fitting, strict=True) if not np.any(fits)]:
        first = ", ".join(f"{name} {value}" for name, value in lacking[0].items())
        asked = " ".join(f"-p {name} '{_shown(getattr(settings, name))}'" for name in sorted(settings.given))
        raise ResultsError(
            f"results/{design.name} lacks {len(lacking)} of what was asked for, first {first}; train it by "
            f"`python -m vaekit train {design.name} --scale {_scale_of(known, settings)} {asked}`, then "
            f"`python -m vaekit export {design.name}`"
        )
    asked = members[np.logical_or.reduce(fitting)] if held else members
    keys = {*asked["key"], *(asked["parent"].dropna() if "parent" in asked else ())}
    return known[known["key"].isin(keys)].assign(asked=True).reset_index(drop=True)


def _held(members: pd.DataFrame, settings: Settings) -> dict[str, dict[Any, np.ndarray]]:
    """For each setting given that tells members apart, which of them have each of its values.

    Where the option computes its column, an empty cell goes with any value that some member has: it is empty where a
    member has no use for the setting.
    """
    options, held = settings.options(), {}
    for name in sorted(settings.given):
        column = options[name].column
        if callable(column):
            title, cells = name, column(members)
            free = cells.isna()
        else:
            title = column or (name if name in members else name.removesuffix("s"))
            if title not in members:
                continue
            cells, free = members[title], False
        values = getattr(settings, name)
        values = values if isinstance(values, tuple) else (values,)
        alike = {value: cells == value for value in values}
        held[title] = {value: np.asarray(same | free if same.any() else same) for value, same in alike.items()}
    return held


def _scale_of(known: pd.DataFrame, chosen: Settings) -> str:
    """The scale whose steps the largest budget of `results/` has; short where there is none."""
    steps = known["steps"].max()
    return next((name for name, values in chosen.SCALES.items() if values.get("steps") == steps), "short")


def _shown(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
