"""The evidence that a checkout carries: results/<study>/, tidy tables written by `export` and read by everything else.

    members.csv       one row a member: its key, its fields, status, code version, hardware, wall time
    measures.csv      one row a value: member (12 digits of its key), step, part, measure, arguments, value, se, n
    provenance.json   hashes of both tables, and what wrote them

Exporting merges: it adds and replaces, and never removes a member that this store lacks.
"""

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaekit import disk
from vaekit.runs import CHECKOUT, Member, Store, member_of
from vaekit.settings import PlainError

RECORDED = ("status", "reason", "code_version", "data_identity", "hardware", "wall_time", "backend", "torch", "commit")
RECORDED += ("measures",)  # which were taken, as name-version: one that found nothing has no row
MEASURED = ("member", "step", "part", "measure", "arguments", "value", "se", "n", "version")
_TEXT = {"key", "model", "data", "split", "objective", "precision", "parent", "arm", "status", "reason"}
_TEXT |= {"data_identity", "hardware", "backend", "torch", "commit", "measures"}
_TEXT |= {"member", "part", "measure", "arguments"}
SHORT = 12  # digits of the key that name a member in measures.csv


class ResultsError(PlainError, RuntimeError):
    """A results table that is damaged, edited by hand or not a table."""


@dataclass
class Tables:
    """Members and their measured values, as rows by the member's key.

    A member's row has its key, `Member.row()` and the columns `RECORDED`; a value's row has the columns `MEASURED`.
    """

    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def merged(self, other: "Tables") -> "Tables":
        """Both; where they share a member, the other's row, and the other's values of each measure that it has."""
        measures = dict(self.measures)
        for key, rows in other.measures.items():
            new = {row["measure"] for row in rows}
            measures[key] = [row for row in measures.get(key, []) if row["measure"] not in new] + rows
        return Tables(self.members | other.members, measures)

    def only(self, keys: Iterable[str]) -> "Tables":
        """The rows of these keys, as far as they are there."""
        kept = [key for key in keys if key in self.members]
        return Tables({k: self.members[k] for k in kept}, {k: self.measures.get(k, []) for k in kept})

    def member(self, key: str) -> Member:
        """The member of a row."""
        row = self.members[key]
        return member_of(
            {
                name: value
                for name, value in row.items()
                if name not in ("key", *RECORDED) and not (value is None and "." in name)
            }
        )


def from_store(store: Store, measures: Mapping[str, int], keys: Iterable[str] | None = None) -> Tables:
    """The tables of a store's runs; `measures` maps the measures wanted to their versions, `keys` limits the runs.

    Errors: StoreError for a run or a measure that is damaged.
    """
    tables = Tables()
    for key in store.keys() if keys is None else keys:
        record = store.record(key)
        found = {name: rows for name in measures if (rows := store.measure(key, name, measures[name])) is not None}
        # JSON has lists alone; a member's own row has tuples, as the tables read them again.
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in record["member"].items()}
        row = {"key": key, **fields, **{name: record.get(name) for name in RECORDED}}
        tables.members[key] = row | {"measures": " ".join(f"{name}-{measures[name]}" for name in found)}
        tables.measures[key] = [
            {"member": key[:SHORT], **value, "version": measures[name]}
            for name, rows in found.items()
            for value in rows
        ]
    return tables


def folder(study: str) -> Path:
    """Where a study's results lie: in the checkout, whatever the working directory."""
    return Path(os.environ.get("VAEKIT_RESULTS") or CHECKOUT / "results") / study


def read(path: Path) -> Tables:
    """The tables of one results folder; empty where there is none. Errors: ResultsError names a damaged file."""
    names = ("members.csv", "measures.csv")
    if not any((path / name).exists() for name in (*names, "provenance.json")):
        return Tables()
    try:
        hashes = json.loads((path / "provenance.json").read_bytes())["sha256"]
        contents = {name: (path / name).read_bytes() for name in names}
        damaged = [name for name in names if hashlib.sha256(contents[name]).hexdigest() != hashes.get(name)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ResultsError(f"the results in {path} cannot be read ({error}); check out the folder again") from None
    if damaged:
        raise ResultsError(
            f"{path / damaged[0]} is not what its provenance.json says; `python -m vaekit export` alone writes it: "
            "check it out again"
        )
    rows, values = (_parse(path / name, contents[name]) for name in names)
    members = {row["key"]: row for row in rows}
    if len(members) < len(rows) or not all(re.fullmatch("[0-9a-f]{64}", key or "") for key in members):
        raise ResultsError(f"{path / 'members.csv'} holds a key twice, or one that is none; check it out again")
    keys = {key[:SHORT]: key for key in members}
    tables = Tables(members, {key: [] for key in members})
    for row in values:
        if row["member"] not in keys:
            raise ResultsError(f"{path / 'measures.csv'} measures {row['member']}, which members.csv lacks")
        tables.measures[keys[row["member"]]].append({**row, "arguments": row["arguments"] or ""})
    return tables


def write(path: Path, tables: Tables, provenance: Mapping[str, Any]) -> None:
    """Write tables to a results folder, each file by a rename, provenance last.

    A cut between the renames leaves hashes that do not match, which `read` reports: check the folder out again, then
    export. Errors: ResultsError where the disk refuses.
    """
    fields = sorted({name for row in tables.members.values() for name in row} - {"key", *RECORDED})
    rows = sorted(tables.members.values(), key=lambda row: _order(row, [*fields, "key"]))
    values = [
        row
        for member in rows
        for row in sorted(
            tables.measures.get(member["key"], []),
            key=lambda r: (r["measure"], r["arguments"] or "", r["part"], r["step"]),
        )
    ]
    both = {"members.csv": (rows, ["key", *fields, *RECORDED]), "measures.csv": (values, MEASURED)}
    try:
        contents = {name: _format(*table) for name, table in both.items()}
    except UnicodeEncodeError as error:
        raise ResultsError(f"the results in {path} could not be written: a run holds no text ({error})") from None
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    contents["provenance.json"] = (
        json.dumps({**provenance, "sha256": hashes}, indent=1, sort_keys=True).encode() + b"\n"
    )
    try:
        disk.make_folder(path)
        for name, content in contents.items():
            disk.replace(path / name, content)
    except OSError as error:
        raise ResultsError(f"the results in {path} could not be written ({error.strerror})") from error


def _order(row: Mapping[str, Any], fields: list[str]) -> tuple:
    """Members in the order of their fields, numbers by size, so that a table's diff can be read."""
    values = [row.get(name) for name in fields]
    return tuple((0, v, "") if isinstance(v, int | float) else (1, 0, str(v or "")) for v in values)


def _format(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> bytes:
    columns = list(columns)
    lines = [columns, *([_cell(row.get(name)) for name in columns] for row in rows)]
    return "".join(",".join(map(_quoted, line)) + "\n" for line in lines).encode()


def _quoted(cell: str) -> str:
    """A cell of a CSV; csv.writer of Python 3.11 leaves a lone carriage return unquoted, which no reader takes."""
    return '"' + cell.replace('"', '""') + '"' if set(cell) & set(',"\r\n') else cell


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        # All 12 digits of a canonical float, and a point, so that it is read as a float and gives the same key.
        text = f"{value:.12g}"
        return text if set(text) & set(".en") else f"{text}.0"
    return json.dumps(value) if isinstance(value, list | tuple | bool) else str(value)


def _parse(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The rows of a table. Errors: ResultsError names the file that is none."""
    needed = {"members.csv": {"key", *RECORDED}, "measures.csv": set(MEASURED)}[path.name]
    try:
        header, *lines = csv.reader(io.StringIO(content.decode(), newline=""), strict=True)
        if lacking := needed - set(header):
            raise ValueError(f"it lacks the columns {', '.join(sorted(lacking))}")
        return [
            {name: (cell or None) if name in _TEXT else _value(cell) for name, cell in zip(header, line, strict=True)}
            for line in lines
        ]
    except (csv.Error, ValueError, RecursionError) as error:
        raise ResultsError(f"{path} is not a table that export writes ({error}); check it out again") from None


def _value(cell: str) -> Any:
    """A cell as the plain value that `_cell` wrote: nothing, a whole number, a float, JSON, or text."""
    if cell == "":
        return None
    for read_as in (int, float, json.loads):
        try:
            value = read_as(cell)
        except ValueError:
            continue
        return tuple(value) if isinstance(value, list) else value
    return cell
