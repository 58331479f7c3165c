"""The evidence that a checkout carries: results/<study>/, tidy tables written by `export` and read by everything else.

    members.csv       one row a member: its key, its fields, status, code version, hardware, wall time
    measures.csv      one row a value: member (12 digits of its key), step, part, measure, arguments, value, se, n
    <key>-<step>.safetensors   of a few members, what pages show of them (see `vaekit.store.bundles`)
    provenance.json   hashes of all of them, and what wrote them

Exporting merges: it adds and replaces, and never removes a member that this store lacks. Reading is strict: a table
that was edited is named, also where its hash was made to fit.
"""

import csv
import io
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from vaekit.store import bundles, files
from vaekit.store.bundles import Bundle
from vaekit.store.files import UNREADABLE, StoreError, digest
from vaekit.store.member import KEY, SCHEMA, SHORT, Member, key_of, member_of
from vaekit.store.runs import Store, default_folder

RECORDED = ("status", "reason", "code_version", "data_identity", "hardware", "wall_time", "backend", "torch", "commit")
RECORDED += ("measures",)  # which were taken, as name-version: one that found nothing has no row
MEASURED = ("member", "step", "part", "measure", "arguments", "value", "se", "n", "version")
_TEXT = {"key", "model", "data", "split", "objective", "precision", "parent", "arm", "noise", "status", "reason"}
_TEXT |= {"data_identity", "hardware", "backend", "torch", "commit", "measures"}
_TEXT |= {"member", "part", "measure", "arguments"}
BUNDLES_LIMIT = 12_000_000  # bytes of the bundles of all studies together: a checkout should stay small
TABLES = ("members.csv", "measures.csv")
PROVENANCE = "provenance.json"
_LIMIT = 500_000_000  # bytes of a table


@dataclass
class Tables:
    """Members and their measured values, as rows by the member's key.

    A member's row has its key, `Member.row()` and the columns `RECORDED`; a value's row has the columns `MEASURED`.
    """

    members: dict[str, dict[str, Any]] = field(default_factory=dict)
    measures: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def merged(self, other: "Tables") -> "Tables":
        """Both; where they share a member, the other's row, and of each part of a measure the newer version's values.

        A part that the newer version no longer takes stays: no row says of which measure it is.
        Of one version, values of the same step, part and arguments are the other's. What was measured of a member is
        what either measured.
        """
        members, measures = self.members | other.members, dict(self.measures)
        for key in self.members.keys() & other.members.keys():
            versions = _versions(self.members[key].get("measures"))
            for name, version in _versions(other.members[key].get("measures")).items():
                versions[name] = max(version, versions.get(name, 0))
            members[key] = members[key] | {"measures": _versions_text(versions)}
        for key, others in other.measures.items():
            rows = measures.get(key, [])
            newest = {_series(row): row["version"] for row in rows}
            taken = [row for row in others if row["version"] >= newest.get(_series(row), row["version"])]
            versions, places = {_series(row): row["version"] for row in taken}, {_place(row) for row in taken}
            current = [row for row in rows if row["version"] >= versions.get(_series(row), row["version"])]
            measures[key] = [row for row in current if _place(row) not in places] + taken
        return Tables(members, measures)

    def member(self, key: str) -> Member:
        """The member of a row."""
        cells = {name: value for name, value in self.members[key].items() if name not in ("key", *RECORDED)}
        return member_of({name: value for name, value in cells.items() if not (value is None and "." in name)})


def from_store(store: Store, measures: Mapping[str, int] | None = None, keys: Iterable[str] | None = None) -> Tables:
    """The tables of a store's runs, or of those of `keys`.

    `measures` maps those wanted to their versions; None: the newest of each that is there. Raises StoreError for a run
    or a measure that is damaged.
    """
    tables = Tables()
    for key in store.keys() if keys is None else keys:
        record = store.record(key)
        wanted = store.measures(key) if measures is None else measures
        stored = {name: store.measure(key, name, wanted[name]) for name in wanted}
        taken = {name: rows for name, rows in stored.items() if rows is not None}
        # JSON has lists alone; a member's own row has tuples, as the tables read them again.
        fields = {name: tuple(v) if isinstance(v, list) else v for name, v in record["member"].items()}
        row = {"key": key, **fields, **{name: record.get(name) for name in RECORDED}}
        tables.members[key] = row | {"measures": _versions_text({name: wanted[name] for name in taken})}
        tables.measures[key] = [
            {"member": key[:SHORT], **value, "version": wanted[name]} for name, rows in taken.items() for value in rows
        ]
    return tables


def _place(row: Mapping[str, Any]) -> tuple:
    """What a value of a member is of; two values of one place are measured twice."""
    return tuple(row[column] for column in ("step", "part", "measure", "arguments"))


def _series(row: Mapping[str, Any]) -> tuple:
    """The part and the name of a value: two measures of a study may share a name, but no part of it."""
    return row["part"], row["measure"]


def _versions_text(versions: Mapping[str, int]) -> str:
    return " ".join(f"{name}-{version}" for name, version in versions.items())


def _versions(text: str | None) -> dict[str, int]:
    """What `_versions_text` was given. Raises ValueError where it was not."""
    return {name: int(version) for name, _, version in (word.rpartition("-") for word in (text or "").split())}


# Reading --------------------------------------------------------------------------------------------------------------


def root() -> Path:
    """Where the studies' results lie: VAEKIT_RESULTS, or the checkout's own results/. Raises as `default_folder`."""
    return default_folder("results")


def folder(study: str) -> Path:
    """Where a study's results lie, whatever the working directory."""
    return root() / study


def read(path: Path) -> Tables:
    """The tables of one results folder; empty where there is none.

    Raises:
        UnreadableError: The system does not let a file be read.
        StoreError: A file is damaged, edited by hand or not a table; it is named.
    """
    contents = {name: _content(path / name) for name in (*TABLES, PROVENANCE)}
    present = {name: content for name, content in contents.items() if content is not None}
    return parse(path, present) if present else Tables()


def _content(path: Path) -> bytes | None:
    """What a file holds; None where it is not there. Raises StoreError for one that is too large, or as `reading`."""
    try:
        with files.reading(path), open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > _LIMIT:
                raise StoreError(f"{path} has more than {_LIMIT:,} bytes; check it out again")
            return file.read()
    except FileNotFoundError:
        return None


def parse(path: Path, contents: Mapping[str, bytes]) -> Tables:
    """The tables that files of these contents, by name, hold. Raises StoreError with `path` and what is wrong."""
    hashes = _provenance(path, contents)["sha256"]
    if problem := next(_misfits(path, TABLES, contents, hashes), None):
        raise StoreError(problem)
    rows, values = (_parse(path / name, contents[name]) for name in TABLES)
    members: dict[str, dict[str, Any]] = {}
    for row in rows:
        if problem := _problem_of_member(row, members):
            raise StoreError(f"{path / TABLES[0]}: {problem}; it was edited: check it out again")
        members[row["key"]] = row
    keys = {key[:SHORT]: key for key in members}
    tables = Tables(members, {key: [] for key in members})
    seen: set[tuple] = set()
    for row in values:
        row["arguments"] = row["arguments"] or ""
        if problem := _problem_of_value(row, keys, seen):
            raise StoreError(f"{path / TABLES[1]}: {problem}; it was edited: check it out again")
        tables.measures[keys[row["member"]]].append(row)
    return tables


def study_of(path: Path) -> str | None:
    """Which study's results a folder holds; None where there are none. Raises StoreError as `read`."""
    provenance = _read_provenance(path)
    return str(provenance["study"]) if "study" in provenance else None


def bundle_hashes(path: Path) -> dict[str, str]:
    """The bundles that a results folder lists, with their SHA-256. Raises StoreError as `read`."""
    return _read_provenance(path).get("bundles", {})


def bundle_of(study: str, key: str, step: int | None = None) -> Bundle | None:
    """What a study's results carry of a member after `step` steps (None: the last one carried); None for nothing.

    Raises:
        StoreError: The bundle is damaged, or not the one that provenance.json lists.
    """
    path = folder(study)
    listed = bundle_hashes(path)
    matches = [match for match in map(bundles.NAME.fullmatch, listed) if match and match[1] == key[:SHORT]]
    steps = {int(match[2]): match[0] for match in matches if step is None or int(match[2]) == step}
    if not steps:
        return None
    name = steps[max(steps)]
    return _bundle(path / name, listed[name])


def load_decoder(key: str, step: int | None = None) -> nn.Module:
    """The decoder of a member that `results/` carries, in eval mode, after `step` steps (None: the last one carried).

    `decode` and `generate` work, and all else says what is lacking. Raises StoreError where none is carried, or it is
    damaged.
    """
    if not re.fullmatch(f"[0-9a-f]{{{SHORT},64}}", key):
        raise StoreError(f"{key!r} is no key; give {SHORT} or more of its digits, 0 to 9 and a to f")
    folders = [entry.path for entry in files.entries(root()) if os.path.isdir(entry.path)]
    paths = [Path(entry.path) for path in folders for entry in files.entries(path)]
    matches = [(path, bundles.NAME.fullmatch(path.name)) for path in paths]
    steps = {path: int(match[2]) for path, match in matches if match and match[1] == key[:SHORT]}
    for path in sorted(steps, key=lambda path: steps[path], reverse=True):
        if step in (None, steps[path]):
            bundle = _bundle(path, bundle_hashes(path.parent).get(path.name))
            if bundle.record["key"].startswith(key) and bundle.decoder:
                return bundles.model_of(bundle)
    raise StoreError(f"results/ carries no decoder of run {key[:SHORT]}; `export --decoders` adds one")


def merged_bundles(path: Path, other: Path) -> dict[str, bytes]:
    """The bundles of two results folders; of one that both have, each part that the other has is the other's."""
    contents = bundle_contents(path)
    for name, content in bundle_contents(other).items():
        if contents.get(name, content) != content:
            bundle, newer = bundles.read(path / name), bundles.read(other / name)
            for part in ("grid", "decoder", "codes"):
                setattr(bundle, part, getattr(newer, part) or getattr(bundle, part))
            content = bundle.pack()
        contents[name] = content
    return contents


def check_bundles(study: str, contents: Mapping[str, bytes]) -> None:
    """Raise StoreError where a study's new bundles and those that `results/` has of the others are too many bytes."""
    others = [Path(entry.path) for entry in files.entries(root()) if os.path.isdir(entry.path) and entry.name != study]
    sizes = {f"{path.name}/{name}": (path / name).stat().st_size for path in others for name in bundle_hashes(path)}
    sizes |= {f"{study}/{name}": len(content) for name, content in contents.items()}
    if (total := sum(sizes.values())) > BUNDLES_LIMIT:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        shown = ", ".join(f"{name} ({sizes[name] / 1e6:.2f} MB)" for name in largest)
        raise StoreError(
            f"the bundles of all studies would take {total / 1e6:.2f} MB, and results/ carries {BUNDLES_LIMIT / 1e6:g} "
            f"at the most; export fewer decoders. The largest: {shown}"
        )


def bundle_contents(path: Path) -> dict[str, bytes]:
    """The bundles that a results folder lists, as bytes. Raises StoreError where one is lacking or another."""
    return {name: _listed(path / name, hash_) for name, hash_ in bundle_hashes(path).items()}


def _bundle(path: Path, hash_: str | None) -> Bundle:
    _listed(path, hash_)
    return bundles.read(path)


def _listed(path: Path, hash_: str | None) -> bytes:
    content = _content(path)
    if content is None:
        raise StoreError(f"{path} is not there; check it out again")
    if digest(content) != hash_:
        raise StoreError(f"{path} is not what its provenance.json says; check it out again")
    return content


def damage(path: Path) -> Iterator[str]:
    """A sentence for every file of a results folder that is damaged, lacking, or none that `export` writes."""
    try:
        entries = files.visible(path)
        folders = [entry.path for entry in entries if os.path.isdir(entry.path)]
        yield from (f"{folder} is no file that `export` wrote; move it away" for folder in folders)
        names = [entry.name for entry in entries if entry.path not in folders]
        if not names:
            return
        contents = {name: content for name in names if (content := _content(path / name)) is not None}
        provenance = _provenance(path, contents)
        hashes = {**provenance["sha256"], **provenance["bundles"]}
        misfits = list(_misfits(path, {*names, *hashes} - {PROVENANCE}, contents, hashes))
        yield from misfits
        tables = Tables() if misfits else parse(path, contents)
    except StoreError as error:
        yield str(error)
        return
    for name in provenance["bundles"]:
        try:
            bundle = None if misfits else bundles.read(path / name)
            if bundle and bundle.decoder:
                bundles.model_of(bundle)
            if bundle and bundle.record["key"] not in tables.members:
                yield f"{path / name} belongs to {bundle.record['key'][:SHORT]}, which {TABLES[0]} lacks"
        except StoreError as error:
            yield str(error)


def _read_provenance(path: Path) -> dict[str, Any]:
    """A folder's provenance, empty where there is none. Raises StoreError where it cannot be read."""
    content = _content(path / PROVENANCE)
    return {} if content is None else _provenance(path, {PROVENANCE: content})


def _provenance(path: Path, contents: Mapping[str, bytes]) -> dict[str, Any]:
    """A folder's provenance with its hashes: of the tables in "sha256", of the bundles in "bundles"."""
    if PROVENANCE not in contents:
        raise StoreError(f"{path / PROVENANCE} is lacking; check out the folder again")
    try:
        provenance = json.loads(contents[PROVENANCE])
        if odd := [name for name in provenance.get("bundles", {}) if not bundles.NAME.fullmatch(name)]:
            raise ValueError(f"it lists {odd[0]!r}, which is no bundle")
        return {**provenance, "sha256": dict(provenance["sha256"]), "bundles": dict(provenance.get("bundles", {}))}
    except UNREADABLE as error:
        raise StoreError(f"{path / PROVENANCE} cannot be read ({error}); check out the folder again") from None


def _misfits(
    path: Path, names: Iterable[str], contents: Mapping[str, bytes], hashes: Mapping[str, str]
) -> Iterator[str]:
    """A sentence for every file of these that is lacking, not what its hash says, or without one."""
    for name in sorted(names):
        if name not in contents:
            yield f"{path / name} is lacking; check out the folder again"
        elif name not in hashes:
            yield f"{path / name} is no file that `export` wrote; move it away, or check out the folder again"
        elif digest(contents[name]) != hashes[name]:
            yield (
                f"{path / name} is not what its provenance.json says; `python -m vaekit export` alone writes it: "
                "check it out again"
            )


def _problem_of_member(row: Mapping[str, Any], others: Mapping[str, Any]) -> str | None:
    """Why this is not the row of a member beside `others`; None where it is."""
    key = row["key"]
    if not re.fullmatch(KEY, key or ""):
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
        if type(row["code_version"]) is not int:
            return f"{key[:SHORT]} has the code version {row['code_version']!r}; wanted a whole number"
    except (StoreError, OSError, *UNREADABLE) as error:
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


# Writing --------------------------------------------------------------------------------------------------------------


def write(
    path: Path, tables: Tables, provenance: Mapping[str, Any], bundled: Mapping[str, bytes] | None = None
) -> None:
    """Write tables and bundles to a results folder, each file by a rename, provenance last.

    The files are the same for the same tables, whatever their order. `bundled` are the contents of all bundles by name.
    A cut between the renames leaves hashes that do not match, which `read` reports: check the folder out again, then
    export.

    Raises:
        StoreError: The disk refuses, or what was to be written could not be read again.
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
    layouts = {"members.csv": (rows, ["key", *fields, *RECORDED]), "measures.csv": (values, MEASURED)}
    try:
        contents = {name: _format(*layout) for name, layout in layouts.items()}
    except UnicodeEncodeError as error:
        raise StoreError(f"these results could not be written: a run holds no text ({error})") from None
    hashes = {"sha256": {name: digest(content) for name, content in contents.items()}}
    bundled = dict(sorted((bundled or {}).items()))
    if bundled:
        hashes["bundles"] = {name: digest(content) for name, content in bundled.items()}
    text = json.dumps({**provenance, **hashes}, indent=1, sort_keys=True).encode() + b"\n"
    contents |= {**bundled, PROVENANCE: text}
    parse(Path(), contents)  # before the first of them replaces what is there
    for name, content in contents.items():
        if _content(path / name) != content:
            files.replace(path / name, content)


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
    """The rows of a table. Raises StoreError with the file that is none."""
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
        raise StoreError(f"{path} is not a table that export writes ({error}); check it out again") from None


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
