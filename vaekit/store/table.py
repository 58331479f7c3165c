"""The tidy table: what every figure and every claim rests on, as a pandas DataFrame.

One row a measured value: the fields of its member (arguments of the model and weights of the objective by their own
names: depth, beta), how the member was made, and `step`, `part`, `measure`, `arguments`, `value`, `se`, `n`, `version`.
What `arguments` says ("probe=rbf_svm,on=mu2") has columns of its own as well (`probe`, `on`), which `select` reads.

`budgets` decides what may share a curve, a panel and a verdict, for figures and claims alike.
"""

import dataclasses
import importlib.metadata
import math
import re
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd

from vaekit import data
from vaekit.fleet import PRECISIONS
from vaekit.settings import nearest
from vaekit.store import results
from vaekit.store.member import Member
from vaekit.store.results import Tables
from vaekit.store.runs import Store, default_store

# Recorded, not asked for, and yet part of a member's budget.
_IDENTITY = ("data_identity", "code_version")
_TEXTS = ("part", "measure", "arguments")
_AT_ONCE = 500  # members whose values are read at once
# The widths in a budget's label; where some networks are fully connected, the others' column is empty.
_WIDTHS = {"hidden": "units", "channels": "channels"}
# The columns of arguments whose stored names are no good names of columns.
_COLUMN_OF = {"from": "from_layer", "to": "to_layer"}
# The comment of a figure's data says these of the members, beside their settings.
_PROVENANCE = ("seed", "data_identity", "hardware", "backend", "torch", "commit", "measures")
# Columns that a table lacks where no member has such a field, or no measure with such an argument was taken.
_NETWORK = "depth hidden channels latent_dim batch_norm slope likelihood sigma classes decoder sampled"
_WEIGHTS = "beta beta2 beta1 warmup mi kl lambda reconstruction sparsity"
_ARGUMENTS = "samples layer estimator classifier probe on by of among bin q dim factor batch from_layer to_layer"
_KNOWN = {
    *(field.name for field in dataclasses.fields(Member)),
    *(*results.MEASURED, *results.RECORDED, "key", "asked"),
    *(*_NETWORK.split(), *_WEIGHTS.split(), *_ARGUMENTS.split()),
}


def frame(tables: Tables) -> pd.DataFrame:
    """The tables as one, a row a value. `model_args.depth` is `depth`, `weights.beta` is `beta`.

    A member without any value (it diverged at once) keeps one row, with an empty value. The fields of derived members'
    parents are `parent_steps`, `parent_decoder` and so on.
    """
    return _joined(tables.members.values(), _values(tables))


def _values(tables: Tables) -> pd.DataFrame:
    """The values alone, a row each, with the key of the member."""
    rows = [row for rows in tables.measures.values() for row in rows]
    keys = np.repeat(np.array(list(tables.measures), object), [len(rows) for rows in tables.measures.values()])
    columns = {name: list(map(itemgetter(name), rows)) for name in results.MEASURED[1:]}
    columns |= {name: list(map(sys.intern, columns[name])) for name in _TEXTS}  # one object each, not a million
    return pd.DataFrame({"key": keys, **columns}, dtype=None if rows else object)


def _joined(rows: Iterable[dict[str, Any]], values: pd.DataFrame) -> pd.DataFrame:
    """Values beside the fields of their members, given as rows, and each argument in a column of its own."""
    members = _members(rows)
    if not len(members):
        return values
    codes, texts = pd.factorize(values["arguments"])
    arguments = _argument_columns(texts.tolist(), codes, members)
    return values.assign(**arguments).merge(members, on="key", how="right")


def runs(store: Store | None = None) -> pd.DataFrame:
    """All that a store holds (None: the default one), as `frame` has it: of each measure the newest version.

    Every record and every measure is read and verified; weights are not.

    Raises:
        StoreError: something is damaged (`python -m vaekit runs verify` names all of it).
    """
    store = store or default_store()
    keys, rows, values = list(store.keys()), [], []
    for start in range(0, len(keys), _AT_ONCE):  # the values of all, as rows, would be a gigabyte of dictionaries
        tables = results.from_store(store, keys=keys[start : start + _AT_ONCE])
        rows += tables.members.values()
        if any(tables.measures.values()):
            values.append(_values(tables))
    if not values:
        return _joined(rows, _values(Tables()))
    return _joined(rows, pd.concat(values, ignore_index=True))


def select(table: pd.DataFrame, measure: str, at: str | int = "end", **where: Any) -> pd.DataFrame:
    """The rows of a measure, at the end of training or when `at` says; none where it was not measured.

    Args:
        table: the tidy table, or some rows of it.
        measure: a name in the column `measure`.
        at: "end", each member's last step; "all", every step; "last", the last step at which each member has the
            measure (for what no training changes); or a step.
        where: values of columns, arguments of the measure among them: `layer=5`, `samples=1`. A tuple holds those that
            will do, None stands for an empty cell, and a column that the table lacks is empty.

    Raises:
        ValueError: a column is not known, or the measure is misspelt.
    """
    if table.empty:
        return table
    step = {} if at in ("end", "all", "last") else {"step": at}
    rows = having(table, measure=measure, **step, **where)
    if rows.empty:
        check_measure(measure, table["measure"].dropna().unique())
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
        elif len(table.columns) and name.removeprefix("argument_").removeprefix("parent_") not in _KNOWN:
            raise ValueError(f"the tidy table has no column {name!r}{nearest(name, [*table, *_KNOWN])}")
        elif None not in wanted:
            places = places[:0]
    return table.iloc[places]


def check_measure(measure: str, measures: Collection[str]) -> None:
    """Refuse a misspelt measure; one that was merely not taken resembles none of a table's `measures`.

    Raises:
        ValueError: the measure is none of them, and almost one of them.
    """
    if measure not in measures and (hint := nearest(measure, measures, cutoff=0.85)):
        raise ValueError(f"there is no measure {measure!r}{hint}")


def budget_fields(table: pd.DataFrame, axes: Iterable[str] = ()) -> list[str]:
    """The columns of a row's budget: which member it is of and how that was trained, but for seed and axes.

    These are all fields of a member, all fields of its parent in place of the parent's key, the identity of the data
    and the version of the code. An axis of the members is one of their parents, too.
    """
    others = {*results.MEASURED, *results.RECORDED, *_arguments_in(table), "key", "parent", "asked"} - {*_IDENTITY}
    varied = {"seed", *axes}
    return [name for name in table if name not in others and name.removeprefix("parent_") not in varied]


def budgets(table: pd.DataFrame, axes: Iterable[str] = ()) -> list[pd.DataFrame]:
    """The table cut by budget: no curve, panel or verdict may mix two.

    Members have one budget where they agree in all `budget_fields`; a column that a caller adds splits them, too. Code
    versions are counted back from the newest of each family of models. The largest budget comes first: of most steps,
    then of the newest code, then of the finest precision, then of most rows.
    """
    if table.empty:
        return []
    fields, finest_first = budget_fields(table, axes := {*axes}), list(PRECISIONS)
    numbered = table.assign(_age=ages(table)).groupby(budget_numbers(table, axes).to_numpy(), sort=False)

    def order(rows: pd.DataFrame) -> tuple:
        first = rows.iloc[0]
        precision = first.get("precision")
        rank = finest_first.index(precision) if precision in finest_first else len(finest_first)
        # So that the order is total whatever the order of the rows.
        budget = str([str(first[name]) for name in fields])
        return -rows["steps"].max(), rows["_age"].min(), rank, -rows["value"].notna().sum(), budget

    return [rows.drop(columns="_age") for rows in sorted((rows for _, rows in numbered), key=order)]


def ages(table: pd.DataFrame) -> pd.Series:
    """How many versions of its family's code are newer than a row's, 0 for the newest; 0 where no version is known."""
    if "code_version" not in table:
        return pd.Series(0.0, index=table.index)
    family = table["model"] if "model" in table else pd.Series("", index=table.index)
    return (table["code_version"].groupby(family).rank("dense", ascending=False) - 1).fillna(0)


def budget_numbers(table: pd.DataFrame, axes: Iterable[str]) -> pd.Series:
    """A number for the budget of each row."""
    members = table.assign(_age=ages(table)).drop_duplicates("key")
    fields = [name for name in budget_fields(table, axes) if name != "code_version"]
    cells = [map(_comparable, members[name]) for name in [*fields, "_age"]]
    numbers, _ = pd.factorize(pd.Series(list(zip(*cells, strict=True)), dtype=object))
    return table["key"].map(dict(zip(members["key"], numbers, strict=True)))


def _comparable(cell: Any) -> Any:
    """A cell that equals another where both say the same: an empty one is NaN, and no NaN equals another."""
    if isinstance(cell, list | tuple):
        return tuple(cell)
    return None if pd.isna(cell) else cell


def budget_label(rows: pd.DataFrame, axes: Iterable[str] = ()) -> str:
    """A budget in words: steps, widths, precision, data and seeds at each point of its `axes`."""
    first = rows.iloc[0]
    points = [name for name in axes if name in rows and not name.startswith("parent")]
    counts = rows.groupby(points, dropna=False)["seed"].nunique() if points else rows["seed"].nunique()
    least, most = np.min(counts), np.max(counts)
    widths = _WIDTHS.items() if "hidden" in rows else ()
    words = [
        f"{first['steps']:,} steps of {first['batch_size']}",
        *(f"{first[name]:.0f} {unit}" for name, unit in widths if _is_number(first.get(name))),
        *([first["precision"]] if first["precision"] != "full" else []),
        ", ".join(sorted(map(data.title, rows["data"].unique()))),
        f"{least} seed{'s' if least > 1 else ''}" if least == most else f"{least} to {most} seeds a point",
    ]
    return ", ".join(words)


def distinct(labels: Sequence[str]) -> list[str]:
    """The labels, numbered where two budgets differ in what no label tells: the second of a kind ends in "(2)"."""
    counts: Counter[str] = Counter()
    numbered = []
    for label in labels:
        counts[label] += 1
        numbered.append(f"{label} ({counts[label]})" if counts[label] > 1 else label)
    return numbered


def _is_number(cell: Any) -> bool:
    """Whether a cell holds one number: not none, nor one for each layer."""
    return pd.api.types.is_number(cell) and pd.notna(cell)


def _parsed(arguments: Any) -> dict[str, Any]:
    """Arguments of a measure by their columns: "probe=knn,on=mu2" has two; a bare word is a value of `samples`."""
    cells = {}
    for word in filter(None, arguments.split(",") if isinstance(arguments, str) else ()):
        name, equals, value = word.partition("=")
        name, value = (name, value) if equals else ("samples", name)
        cells[_COLUMN_OF.get(name, name)] = _cell(value)
    return cells


def _cell(text: str) -> int | float | str:
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    return float(text) if re.fullmatch(r"-?(0|[1-9]\d*)(\.\d+)?(e[+-]?\d+)?", text) else text


def _argument_columns(texts: Sequence[Any], codes: np.ndarray, members: pd.DataFrame) -> dict[str, np.ndarray]:
    """A column for each argument: the value that the text at each code has, NaN where it has none (code -1).

    Where a field of the members or of a row has that name, the column is called `argument_` and the name.
    """
    parsed = [*(_parsed(text) for text in texts), {}]
    fields = {*members, *results.MEASURED}
    return {
        f"argument_{name}" if name in fields else name: np.array(
            [cells.get(name, math.nan) for cells in parsed], object
        )[codes]
        for name in dict.fromkeys(name for cells in parsed for name in cells)
    }


def _arguments_in(table: pd.DataFrame) -> set[str]:
    """The columns that hold arguments of measures."""
    names = {name for text in table["arguments"].unique() for name in _parsed(text)} if "arguments" in table else set()
    return {f"argument_{name}" if f"argument_{name}" in table else name for name in names}


def _members(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Members as a table; a derived one has the fields of its parent, too."""
    short = [{name.partition(".")[2] or name: value for name, value in row.items()} for row in rows]
    by_key = {row["key"]: row for row in short}
    left_out = {"key", "parent", *results.RECORDED} - {*_IDENTITY}

    def with_parent(row: dict[str, Any]) -> dict[str, Any]:
        if not row.get("parent"):
            return row
        if not (parent := by_key.get(row["parent"])):
            return row | {"unknown_parent": row["parent"]}  # which may be any: it shares a budget with no other
        return row | {f"parent_{name}": cell for name, cell in with_parent(parent).items() if name not in left_out}

    return pd.DataFrame([with_parent(row) for row in short])


def csv(table: pd.DataFrame, *measures: str, last: bool = True, steps_apart: bool = True) -> str:
    """What a figure draws, as the text of a CSV: a row a point, below comment lines that say how it was made.

    Columns: the settings that differ among the rows, `step`, `part`, `measure`, `arguments`, and of each point `value`,
    the mean over seeds, `sd`, their standard deviation (empty for one seed), `seeds`, how many, `se`, the mean of the
    standard errors that each seed's value has by itself, and `n`, how many images or samples it rests on. The comment
    has the settings that all rows share, the seeds, the data's identity, hardware, versions and wall time.
    `pandas.read_csv(path, comment="#")` reads it. Without any such value the text is empty.

    Args:
        table: the tidy table, or the rows of it that are drawn.
        measures: those drawn: "rate", or with its arguments, "distortion samples=1".
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
    place = ["step", "part", "measure", "arguments"]
    if not steps_apart:
        alike = rows.groupby([*differ, *place[1:]], dropna=False)["step"]
        rows = rows.assign(step=alike.transform(lambda steps: " ".join(f"{step:.0f}" for step in sorted(set(steps)))))
    points = rows.groupby([*differ, *place], dropna=False, sort=False).agg(
        value=("value", "mean"), sd=("value", "std"), seeds=("seed", "nunique"), se=("se", "mean"), n=("n", "max")
    )
    shared = [f"{name} {rows[name].iloc[0]}" for name in fields if name not in differ and rows[name].notna().all()]
    comment = (
        "unit: nats per image of distortion, rate, information, KL and likelihood; none of counts, shares and scores",
        "value: mean over seeds; sd: over seeds; se: of one seed's value, their mean; n: images or samples of it",
        f"in all rows: {', '.join(shared)}",
    )
    return commented(points.reset_index(), rows, *comment)


def commented(points: pd.DataFrame, table: pd.DataFrame, *comment: str) -> str:
    """Points as the text of a CSV, below comment lines: vaekit's version, those given, and how `table` was made.

    How the members of a tidy table were made: data's identity, hardware, versions, seeds and wall time.
    """
    members = table.drop_duplicates("key")
    provenance = {name: sorted(set(map(str, members[name].dropna()))) for name in _PROVENANCE if name in members}
    lines = [f"vaekit: {importlib.metadata.version('vaekit')}", *comment]
    lines += [f"{name}: {', '.join(texts)}" for name, texts in provenance.items() if texts]
    if "wall_time" in members:
        lines.append(f"wall time of training: {members['wall_time'].sum():.0f} s in all, {len(members)} members")
    head = "".join(f"# {' '.join(line.split())}\n" for line in lines)
    return head + points.to_csv(index=False, float_format="%.12g", lineterminator="\n")


def _as_the_members(rows: pd.DataFrame, name: str) -> bool:
    """Whether a column says of each row's parent what another says of its member."""
    own = name.removeprefix("parent_")
    return own != name and own in rows and bool((rows[name].isna() | (rows[name] == rows[own])).all())


def _plain(value: Any) -> Any:
    """A setting as one cell; a list is no value to group by."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value
