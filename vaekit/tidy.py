"""The tidy table: what every figure and every claim rests on, as a pandas DataFrame.

One row a measured value: the fields of its member (arguments of the model and weights of the objective by their own
names: depth, beta), how the member was made, and `step`, `part`, `measure`, `arguments`, `value`, `se`, `n`, `version`.
"""

import importlib.metadata
import math
from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from vaekit import results, sweep
from vaekit.results import ResultsError, Tables
from vaekit.runs import Member, Store, default_store
from vaekit.settings import Settings
from vaekit.sweep import Design

# What may differ among the panels of a figure, beside the study's own axes; members that agree in the rest of their
# fields have one budget.
_PANELS = ("key", "seed", "data", "n_train", "split")
# What a budget's label says of the networks where some are fully connected; of the others that column is empty.
_WIDTHS = {"hidden": "units", "channels": "channels"}
# What else a row of a derived member says of its parent: no curve may mix children of parents trained differently.
_OF_PARENT = {"parent_steps": "steps", "parent_decoder": "decoder", "parent_sampled": "sampled"}
# What the comment of a figure's data says of the members, beside their settings.
_MADE = ("seed", "data_identity", "hardware", "backend", "torch", "commit", "measures")


def frame(tables: Tables) -> pd.DataFrame:
    """The tables as one, a row a value. `model_args.depth` is `depth`, `weights.beta` is `beta`.

    A member without any value (it diverged at once) keeps one row, with an empty value, so that it is not forgotten.
    Where there are derived members, `parent_steps`, `parent_decoder` and `parent_sampled` are their parents'.
    """
    members = _members(tables.members.values())
    values = pd.DataFrame(
        [{**row, "key": key} for key, rows in tables.measures.items() for row in rows],
        columns=["key", *results.MEASURED[1:]],
    )
    return values.merge(members, on="key", how="right") if len(members) else values


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
    return pd.DataFrame({"key": made.pop("key"), **columns.arrays(), **made}, copy=False)


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

    def arrays(self) -> dict[str, Any]:
        """The columns in the order of `results.MEASURED`, texts that are alike sharing one object."""
        which = np.frombuffer(self.which, np.int64)
        arrays: dict[str, Any] = {
            name: pd.array([words[i] for words in self.words], dtype="str").take(which, allow_fill=True)
            for i, name in enumerate(self.TEXTS)
        }
        arrays |= {name: np.frombuffer(numbers) for name, numbers in self.numbers.items()}
        if (which >= 0).all():
            arrays |= {name: arrays[name].astype(np.int64) for name in ("step", "n", "version")}
        return {name: arrays[name] for name in results.MEASURED[1:]}


def _floats(cells: list) -> array:
    try:
        return array("d", cells)
    except TypeError:  # a value that was measured and is no number
        return array("d", [math.nan if cell is None else cell for cell in cells])


def _members(rows: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Members as a table, with what a row of a derived one says of its parent."""
    short = [{name.partition(".")[2] or name: value for name, value in row.items()} for row in rows]
    if any(row.get("parent") for row in short):
        known = {row["key"]: row for row in short}
        for row in short:
            parent = known.get(row.get("parent") or "", {})
            row |= {name: parent.get(source) for name, source in _OF_PARENT.items()}
    return pd.DataFrame(short)


def table(design: Design, members: Sequence[Member], chosen: Settings) -> pd.DataFrame:
    """What a notebook shows: the members asked for, beside all that is known of the same budget and images.

    Trains what is missing first. At scale "published" it trains nothing and shows `results/` whole, or the part of it
    that was asked for. The column `asked` marks the members that were.

    Errors: ResultsError at "published", for members that `results/` lacks, with the command that would train them;
    StoreError and DataError as in `sweep.run`.
    """
    if chosen.scale == "published":
        return _published(design, members, chosen)
    sweep.run(design, members, device=getattr(chosen, "device", "cpu"))
    known = frame(sweep.tables(design, members=members))
    asked = known["key"].isin({member.key for member in members})
    shared = [name for name in _fields(known) if name not in ("key", "seed", *design.axes)]
    # As text: an empty field is NaN here, and no NaN equals another.
    budget = known[shared].astype(object).fillna("").map(str).agg("|".join, axis=1)
    alike = budget.isin(set(budget[asked]))
    return known[alike].assign(asked=asked[alike]).reset_index(drop=True)


def budgets(
    known: pd.DataFrame, axes: Sequence[str] = ("beta", "mi", "kl", "depth")
) -> Iterator[tuple[str, pd.DataFrame]]:
    """The table cut by budget, the largest first, each with a label for its figures: no curve may mix two.

    `axes` are the study's own (`Design.axes`): the columns that differ among the points of one budget.
    """
    columns = [name for name in _fields(known) if name not in (*_PANELS, *axes)]
    widths = _WIDTHS.items() if "hidden" in known else ()
    groups = [group for _, group in known.groupby(columns, dropna=False, sort=False)]
    for group in sorted(groups, key=lambda g: (g["steps"].iloc[0], g["n"].max()), reverse=True):
        first = group.iloc[0]
        points = [name for name in axes if name in group and name != "parent"]
        counts = group.groupby(points, dropna=False)["seed"].nunique() if points else group["seed"].nunique()
        least, most = np.min(counts), np.max(counts)
        says = [
            f"{first['steps']:,} steps of {first['batch_size']}",
            *(f"{first[name]:.0f} {unit}" for name, unit in widths if _is_number(first.get(name))),
            *([first["precision"]] if first["precision"] != "full" else []),
            ", ".join(sorted(group["data"].unique())),
            f"{least} seed{'s' if least > 1 else ''}" if least == most else f"{least} to {most} seeds a point",
        ]
        yield ", ".join(says), group


def _is_number(cell: Any) -> bool:
    """Whether a cell holds one number: not none, nor one for each layer."""
    return pd.api.types.is_number(cell) and pd.notna(cell)


def last(known: pd.DataFrame, measure: str, **where: Any) -> pd.DataFrame:
    """The rows of a measure at the end of training, further narrowed by the columns named."""
    found = known[(known["measure"] == measure) & (known["step"] == known["steps"])]
    for name, value in where.items():
        found = found[found[name] == value]
    return found


def csv(known: pd.DataFrame, *measures: str, last: bool = True, steps_apart: bool = True) -> str:
    """What a figure draws, as the text of a CSV: a row a point, below comment lines that say how it was made.

    Columns: the settings that differ among the rows, `step`, `part`, `measure`, `arguments`, and of each point `value`,
    the mean over seeds, `sd`, their standard deviation (empty for one seed), `seeds`, how many, `se`, the mean of the
    standard errors that each seed's value has by itself, and `n`, how many images or samples it rests on. Settings that
    all rows share stand in the comment, beside the seeds, the data's identity, hardware, versions and wall time.
    `pandas.read_csv(path, comment="#")` reads it. Without any such value the text is empty.

    Args:
        known: the tidy table, or the part of it that is drawn.
        measures: what of it is drawn: a measure, "rate", or one with its arguments, "distortion samples=1".
        last: at the end of training alone; else at every step.
        steps_apart: values of different steps are different points; else they are one, whose `step` names all of them.
    """
    rows = known[known["measure"].isin(measures) | (known["measure"] + " " + known["arguments"]).isin(measures)]
    rows = rows[rows["value"].notna() & ((rows["step"] == rows["steps"]) | (not last))]
    if rows.empty:
        return ""
    fields = [name for name in _fields(rows) if name not in ("key", "seed", "parent")]
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


def _plain(value: Any) -> Any:
    """A setting as one cell; a list is no value to group by."""
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else value


def _fields(known: pd.DataFrame) -> list[str]:
    """The columns that describe a member and not how or how well it was made, nor a value."""
    return [name for name in known if name not in (*results.MEASURED, *results.RECORDED, "asked")] + ["code_version"]


def _published(design: Design, members: Sequence[Member], chosen: Settings) -> pd.DataFrame:
    known = frame(results.read(results.folder(design.name)))
    if not len(known):
        raise ResultsError(
            f"results/{design.name} holds no member yet; `python -m vaekit train {design.name} --scale quick` and "
            f"`python -m vaekit export {design.name}` make some"
        )
    given = {name: getattr(chosen, name) for name in sorted(chosen.given)}
    options = chosen.options()
    named = {name: options[name].column or (name if name in known else name.removesuffix("s")) for name in given}
    columns = {named[name]: v if isinstance(v, tuple) else (v,) for name, v in given.items()}
    columns = {name: values for name, values in columns.items() if name in known}
    wanted = set(product(*columns.values()))
    have = set(known[list(columns)].itertuples(index=False, name=None)) if columns else wanted
    if lacking := sorted(wanted - have):
        asked = " ".join(f"-p {name} '{_shown(value)}'" for name, value in given.items())
        raise ResultsError(
            f"results/{design.name} lacks {len(lacking)} of what was asked for, first "
            f"{', '.join(f'{name} {value}' for name, value in zip(columns, lacking[0], strict=True))}; train it by "
            f"`python -m vaekit train {design.name} --scale {_scale_of(known, chosen)} {asked}`, then "
            f"`python -m vaekit export {design.name}`"
        )
    for name, values in columns.items():
        known = known[known[name].isin(values)]
    return known.assign(asked=True).reset_index(drop=True)


def _scale_of(known: pd.DataFrame, chosen: Settings) -> str:
    """The scale whose steps the largest budget of `results/` has; short where there is none."""
    steps = known["steps"].max()
    return next((name for name, values in chosen.SCALES.items() if values.get("steps") == steps), "short")


def _shown(value: Any) -> str:
    return "[" + ", ".join(map(str, value)) + "]" if isinstance(value, tuple) else str(value)
