"""The evidence that a checkout carries: results/<study>/, tidy tables written by `export` and read by everything else.

    members.csv       one row a member: its key, its fields, status, code version, hardware, wall time
    measures.csv      one row a value: member (12 digits of its key), step, part, measure, arguments, value, se, n
    decoder-….safetensors   of a few members, the weights that pictures need (see `vaekit.decoders`)
    pictures/….png   of members whose weights were there, what a study shows of them (see `vaekit.sheets`)
    provenance.json   hashes of all of them, and what wrote them

Exporting merges: it adds and replaces, and never removes a member that this store lacks. Reading is strict: a table
that was edited is named, also where its hash was made to fit.
"""

import csv
import hashlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vaekit import carried, decoders, disk, sheets
from vaekit.runs import SCHEMA, Member, Store, StoreError, key_of, member_of, read_decoder, results_root
from vaekit.settings import PlainError
from vaekit.sheets import Sheet, SheetError

RECORDED = ("status", "reason", "code_version", "data_identity", "hardware", "wall_time", "backend", "torch", "commit")
RECORDED += ("measures",)  # which were taken, as name-version: one that found nothing has no row
MEASURED = ("member", "step", "part", "measure", "arguments", "value", "se", "n", "version")
_TEXT = {"key", "model", "data", "split", "objective", "precision", "parent", "arm", "status", "reason"}
_TEXT |= {"data_identity", "hardware", "backend", "torch", "commit", "measures"}
_TEXT |= {"member", "part", "measure", "arguments"}
SHORT = carried.SHORT  # digits of the key that name a member in measures.csv
TABLES = ("members.csv", "measures.csv")
PROVENANCE = "provenance.json"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)


class ResultsError(PlainError, RuntimeError):
    """A results table that is damaged, edited by hand or not a table."""


@dataclass
class Tables:
    """Members and their measured values, as rows by the member's key.

    A member's row has its key, `Member.row()` and the columns `RECORDED`; a value's row has the columns `MEASURED`.
    `decoders` are the contents of the decoders' files, by their names; `pictures` those of the sheets' files.
    """

    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    decoders: dict[str, bytes] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)

    def merged(self, other: "Tables") -> "Tables":
        """Both; where they share a member, the other's row, and its values of each measure of which it has no older.

        What was measured of a member is what either measured.
        """
        members, measures = self.members | other.members, dict(self.measures)
        for key in self.members.keys() & other.members.keys():
            taken = _versions(self.members[key].get("measures"))
            for name, version in _versions(other.members[key].get("measures")).items():
                taken[name] = max(version, taken.get(name, 0))
            members[key] = members[key] | {"measures": _said(taken)}
        for key, rows in other.measures.items():
            mine = measures.get(key, [])
            newest = {row["measure"]: row["version"] for row in mine}
            rows = [row for row in rows if row["version"] >= newest.get(row["measure"], row["version"])]
            new = {row["measure"] for row in rows}
            measures[key] = [row for row in mine if row["measure"] not in new] + rows
        return Tables(members, measures, self.decoders | other.decoders, self.pictures | other.pictures)

    def only(self, keys: Iterable[str]) -> "Tables":
        """What there is of these keys."""
        kept = [key for key in keys if key in self.members]
        short = {key[:SHORT] for key in kept}
        return Tables(
            {k: self.members[k] for k in kept},
            {k: self.measures.get(k, []) for k in kept},
            {name: content for name, content in self.decoders.items() if member_of_file(name) in short},
            {name: content for name, content in self.pictures.items() if member_of_file(name) in short},
        )

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


def from_store(store: Store, measures: Mapping[str, int] | None = None, keys: Iterable[str] | None = None) -> Tables:
    """The tables of a store's runs, or of those of `keys`.

    `measures` maps those wanted to their versions; None: the newest of each that is there. Errors: StoreError for a run
    or a measure that is damaged.
    """
    tables = Tables()
    for row, values in stored(store, measures, keys):
        key = row["key"]
        tables.members[key] = row
        tables.measures[key] = [
            {"member": key[:SHORT], **dict(zip(columns, cells, strict=True)), "version": version}
            for version, columns in values
            for cells in zip(*columns.values(), strict=True)
        ]
    return tables


def stored(
    store: Store, measures: Mapping[str, int] | None = None, keys: Iterable[str] | None = None
) -> Iterator[tuple[dict[str, Any], list[tuple[int, dict[str, list[Any]]]]]]:
    """Run by run, what `from_store` makes tables of: a member's row, and each measure's version and columns."""
    for key in store.keys() if keys is None else keys:
        record = store.record(key)
        wanted = store.measures(key) if measures is None else measures
        read = ((name, store.measure_columns(key, name, wanted[name])) for name in wanted)
        found = {name: columns for name, columns in read if columns is not None}
        # JSON has lists alone; a member's own row has tuples, as the tables read them again.
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in record["member"].items()}
        row = {"key": key, **fields, **{name: record.get(name) for name in RECORDED}}
        row["measures"] = _said({name: wanted[name] for name in found})
        yield row, [(wanted[name], columns) for name, columns in found.items()]


def _said(versions: Mapping[str, int]) -> str:
    return " ".join(f"{name}-{version}" for name, version in versions.items())


def _versions(said: str | None) -> dict[str, int]:
    """What `_said` was given. Errors: ValueError where it was not."""
    return {name: int(version) for name, _, version in (word.rpartition("-") for word in (said or "").split())}


def folder(study: str) -> Path:
    """Where a study's results lie: in the checkout, whatever the working directory."""
    return results_root() / study


def read(path: Path) -> Tables:
    """The tables of one results folder; empty where there is none. Errors: ResultsError names a damaged file."""
    there = [name for name in (*TABLES, PROVENANCE) if (path / name).exists()]
    there += _carried(path)
    if not there:
        return Tables()
    try:
        return parse(path, {name: (path / name).read_bytes() for name in there})
    except OSError as error:
        raise ResultsError(f"the results in {path} cannot be read ({error}); check out the folder again") from None


def parse(path: Path, contents: Mapping[str, bytes]) -> Tables:
    """The tables that files of these contents hold. Errors: ResultsError names `path` and what is wrong."""
    hashes = _listed(path, contents)
    if problem := next(_misfits(path, contents, hashes), None):
        raise ResultsError(problem)
    rows, values = (_parse(path / name, contents[name]) for name in TABLES)
    members: dict[str, dict[str, Any]] = {}
    for row in rows:
        if problem := _problem_of_member(row, members):
            raise ResultsError(f"{path / TABLES[0]}: {problem}; it was edited: check it out again")
        members[row["key"]] = row
    keys = {key[:SHORT]: key for key in members}
    carried = {name: content for name, content in contents.items() if name not in (*TABLES, PROVENANCE)}
    pictures = {name: carried[name] for name in carried if sheets.NAME.fullmatch(name)}
    others = {name: carried[name] for name in carried if name not in pictures}
    tables = Tables(members, {key: [] for key in members}, others, pictures)
    seen: set[tuple] = set()
    for row in values:
        row["arguments"] = row["arguments"] or ""
        if problem := _problem_of_value(row, keys, seen):
            raise ResultsError(f"{path / TABLES[1]}: {problem}; it was edited: check it out again")
        tables.measures[keys[row["member"]]].append(row)
    if foreign := [name for name in carried if member_of_file(name) not in keys]:
        raise ResultsError(f"{path / foreign[0]} belongs to no member of {TABLES[0]}; check it out again")
    return tables


def damage(path: Path) -> Iterator[str]:
    """A sentence for every file of a results folder that is damaged, lacking, or none that `export` writes."""
    files = [file for place in ("*", f"{sheets.FOLDER}/*") for file in sorted(path.glob(place)) if file.is_file()]
    contents = {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
    if not contents:
        return
    try:
        found = list(_misfits(path, contents, _listed(path, contents)))
        yield from found or damaged_files(path, parse(path, contents))
    except ResultsError as error:
        yield str(error)


def damaged_files(path: Path, tables: Tables) -> Iterator[str]:
    """A sentence for every decoder and sheet among tables that is none, or of a member that they lack."""
    for name, content in (tables.decoders | tables.pictures).items():
        try:
            key = _key_in(name, content, str(path / name))
        except (StoreError, SheetError) as error:
            yield str(error)
        else:
            if key not in tables.members:
                yield f"{path / name} belongs to {key[:SHORT]}, which {TABLES[0]} lacks"


def _key_in(name: str, content: bytes, path: str) -> str:
    """The key of the member that a carried file says it belongs to; all of the file is read."""
    return sheets.unpack(content, path).key if sheets.NAME.fullmatch(name) else read_decoder(content, path)[0]


def pictures(study: str) -> dict[str, Sheet]:
    """The pictures that a study's results carry, by the keys of their members. Errors: ResultsError for any damage."""
    path = folder(study)
    try:
        found = [sheets.unpack(content, str(path / name)) for name, content in read(path).pictures.items()]
    except SheetError as error:
        raise ResultsError(str(error)) from None
    return {sheet.key: sheet for sheet in found}


def picture(study: str, key: str) -> Sheet | None:
    """The pictures of one member that a study's results carry, at its last step; None where there are none.

    Errors: ResultsError where their file is damaged; no other is read.
    """
    path = folder(study)
    try:
        found = [sheets.read(path / name, digest) for name, digest in sheets.listed(path, key).items()]
    except SheetError as error:
        raise ResultsError(str(error)) from None
    return max((sheet for sheet in found if sheet.key == key), key=lambda sheet: sheet.step, default=None)


def _listed(path: Path, contents: Mapping[str, bytes]) -> dict[str, str]:
    """The hash of each file, by name, as a folder's provenance has it. Errors: ResultsError where it is none."""
    try:
        provenance = json.loads(contents[PROVENANCE])
        return {**provenance["sha256"], **provenance.get("decoders", {}), **provenance.get("pictures", {})}
    except _UNREADABLE as error:
        raise ResultsError(f"{path / PROVENANCE} cannot be read ({error}); check out the folder again") from None


def _misfits(path: Path, contents: Mapping[str, bytes], hashes: Mapping[str, str]) -> Iterator[str]:
    """A sentence for every file that is lacking, not what its hash says, or without one."""
    for name in (*TABLES, *sorted({*contents, *hashes} - {*TABLES, PROVENANCE})):
        if name not in contents:
            yield f"{path / name} is lacking; check out the folder again"
        elif name not in hashes:
            yield f"{path / name} is no file that `export` wrote; delete it, or check out the folder again"
        elif hashlib.sha256(contents[name]).hexdigest() != hashes[name]:
            yield (
                f"{path / name} is not what its provenance.json says; `python -m vaekit export` alone writes it: "
                "check it out again"
            )


def _problem_of_member(row: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Why this is not the row of a member beside `others`; None where it is."""
    key = row["key"]
    if not re.fullmatch("[0-9a-f]{64}", key or ""):
        return f"{key!r} is no key"
    if key in others:
        return f"it holds {key[:SHORT]} twice"
    if row["status"] not in ("finished", "diverged"):
        return f"{key[:SHORT]} has the status {row['status']!r}; wanted finished or diverged"
    if row["wall_time"] is not None and not _finite(row["wall_time"]):
        return f"{key[:SHORT]} took {row['wall_time']!r} s, which is no time"
    try:
        _versions(row["measures"])
        fields = Tables({key: dict(row)}).member(key).row()
        fits = key_of(SCHEMA, row["code_version"], row["data_identity"], fields) == key
    except (StoreError, *_UNREADABLE) as error:
        return f"{key[:SHORT]} is no member ({error})"
    return None if fits else f"{key[:SHORT]} is not the key of its row"


def _problem_of_value(row: Mapping[str, Any], keys: Mapping[str, str], seen: set[tuple]) -> str | None:
    """Why this is no value of one of the members; None where it is, and it is added to what was seen."""
    name = tuple(row[column] for column in ("member", "step", "part", "measure", "arguments"))
    where = " ".join(map(str, name))
    if row["member"] not in keys:
        return f"it measures {row['member']}, which {TABLES[0]} lacks"
    if not (row["part"] and row["measure"]):
        return f"{where}: a value has a part and a measure"
    # A value that was measured and is no number has an empty cell.
    if wrong := [c for c in ("value", "se") if row[c] is not None and not _finite(row[c])]:
        return f"{where}: its {wrong[0]} is {row[wrong[0]]!r}, not a finite number"
    if wrong := [c for c in ("step", "n", "version") if type(row[c]) is not int or row[c] < 0]:
        return f"{where}: its {wrong[0]} is {row[wrong[0]]!r}, not a whole number"
    if name in seen:
        return f"{where} is there twice"
    seen.add(name)
    return None


def _finite(value: Any) -> bool:
    # A whole number of any size can be read; one beyond every float is no measured value.
    return type(value) in (int, float) and abs(value) <= sys.float_info.max


def member_of_file(name: str) -> str | None:
    """The first digits of the key whose decoder or pictures a file of this name holds; None for any other name."""
    found = decoders.NAME.fullmatch(name) or sheets.NAME.fullmatch(name)
    return found and found[1]


def _carried(path: Path) -> list[str]:
    """What lies in a results folder beside its tables, by the names that `contents_of` gives."""
    found = (file for place in ("decoder-*", f"{sheets.FOLDER}/[!.]*") for file in sorted(path.glob(place)))
    return [file.relative_to(path).as_posix() for file in found]


def write(path: Path, tables: Tables, provenance: Mapping[str, Any]) -> None:
    """Write tables to a results folder, each file by a rename, provenance last; what they no longer carry is deleted.

    A cut between the renames leaves hashes that do not match, which `read` reports: check the folder out again, then
    export. Errors: ResultsError where the disk refuses.
    """
    try:
        contents = contents_of(tables, provenance)
        for home in dict.fromkeys((path / name).parent for name in contents):
            disk.make_folder(home)
        for name, content in contents.items():
            disk.replace(path / name, content)
        for name in _carried(path):
            if name not in contents and member_of_file(name):
                disk.remove(path / name)
    except OSError as error:
        raise ResultsError(f"the results in {path} could not be written ({error.strerror})") from error


def contents_of(tables: Tables, provenance: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a results folder, by name: the same for the same tables, whatever their order; provenance last."""
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
        raise ResultsError(f"these results could not be written: a run holds no text ({error})") from None
    said = {**provenance, "sha256": _hashes(contents)}
    for name, files in (("decoders", tables.decoders), ("pictures", tables.pictures)):
        if files:
            said[name] = _hashes(files)
    text = json.dumps(said, indent=1, sort_keys=True).encode() + b"\n"
    return {**contents, **dict(sorted((tables.decoders | tables.pictures).items())), PROVENANCE: text}


def _hashes(contents: Mapping[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


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
