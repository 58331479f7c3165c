"""A store for people: what it holds, all that is known of one run, every file that is damaged, what can go.

`python -m vaekit runs list | show | verify | clean` prints these; as a table, `table.runs()` has all of it. What a run
says of itself is shown with its control characters spelled out: a terminal obeys them.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from vaekit.fleet.progress import duration, named
from vaekit.store import checkpoints
from vaekit.store.files import StoreError, entries, exists
from vaekit.store.member import KEY, SHORT, Member, describe, member_of
from vaekit.store.runs import Store

_TOLD = 30.0  # seconds of a training after which its speed is known


def check(store: Store) -> None:
    """Raise StoreError where there is no store, or one that may not be read."""
    if not exists(store.root):
        raise StoreError(
            f"there is no store at {store.root}; `python -m vaekit train` makes it, VAEKIT_RUNS says where it is"
        )


def listing(store: Store, study: str | None = None, diverged: bool = False) -> tuple[list[str], list[str]]:
    """A line for each run, a heading first, and a sentence for each that is damaged.

    `study` and `diverged` leave out the others.
    """
    rows, damaged = [("key", "study", "status", "backend", "size", "measures", "what")], []
    for key in store.keys():
        try:
            record = store.record(key)
            member = member_of(record["member"])
        except StoreError as error:
            damaged.append(str(error))
            continue
        if (study and record.get("study") != study) or (diverged and record["status"] != "diverged"):
            continue
        measures = " ".join(f"{name}-{version}" for name, version in store.measures(key).items())
        origin, status, backend = (str(record.get(name) or "-") for name in ("study", "status", "backend"))
        what = f"{describe(member)}; {named(member)}"
        rows.append((key[:SHORT], origin, status, backend, _size(store.path(key)), measures or "-", what))
    return columns(rows), damaged


def show(store: Store, key: str) -> Iterator[str]:
    """All that is known of a run, line by line: its record, snapshots and the last values of each measure.

    Raises StoreError where the run or one of its measures is damaged.
    """
    record = store.record(key)
    yield key
    yield _shown(describe(member_of(record["member"])))
    for title, fields in (("member", record["member"]), ("run", record)):
        yield f"\n{title}"
        yield from (f"  {n}: {_shown(v)}" for n, v in fields.items() if n not in ("key", "member") and v is not None)
    yield f"\nfile: {store.path(key)}, {_size(store.path(key))}"
    yield f"snapshots: {', '.join(map(str, store.steps(key))) or 'none'}"
    for name, version in store.measures(key).items():
        rows = store.measure(key, name, version) or []
        last = max((row["step"] for row in rows), default=None)
        yield f"\n{name}-{version}: {len(rows)} values" + ("" if last is None else f", at step {last}")
        for row in rows:
            if row["step"] == last:
                label = " ".join(filter(None, (row["part"], row["measure"], row["arguments"])))
                yield f"  {_shown(label)}: {_number(row['value'])} ± {_number(row['se'])} (n = {row['n']})"


def status(store: Store, measuring: Callable[[Member, int], float | None]) -> list[str]:
    """A line for each training that is not finished: where, whether it goes on, how far it is; a heading first.

    `measuring(member, count)` gives the seconds that the measures of so many like it take; None where nobody knows.
    """
    rows = [("state", "where", "step", "saved", "left", "what")]
    for training in checkpoints.trainings(store):
        first, step = training.first, training.step
        state = {True: "measures" if step == first.steps else "trains", False: "stopped", None: "not known"}
        spent, measures = training.spent * training.fleet, measuring(first, training.members)
        # A start says little of how fast it goes on.
        known = step == first.steps or (step > 0 and spent >= _TOLD)
        left = duration(spent * (first.steps / step - 1) + (measures or 0.0)) if known else "not known yet"
        left += " and its measures" * (known and measures is None)
        what = f"{describe(first)}; {named(first)}"
        what += f", and {training.members - 1} like it" * (training.members > 1)
        rows.append((
            state[training.runs], f"{training.host}, process {training.pid}",
            f"{step:,} of {first.steps:,} ({100 * step / first.steps:.0f} %)",
            f"{duration(training.seconds)} ago", left, what,
        ))  # fmt: skip
    return columns(rows)


def damage(store: Store, keys: Iterable[str] | None = None) -> Iterator[str]:
    """A sentence for every damaged or surplus file of these runs and their measures.

    `keys` None stands for all of them, and for all checkpoints.
    """
    if keys is None:
        yield from store.surplus()
        yield from checkpoints.damage(store)
        keys = sorted({*store.keys(), *store.measured()})
    for key in keys:
        yield from store.damage(key)


def leftovers(store: Store, quarantine: bool = False, checkpoints: bool = False) -> list[Path]:
    """What may be deleted: what cut commits left in staging, and what is asked for.

    `quarantine` is what failed verification, `checkpoints` the states of fleets: what is unfinished begins anew without
    them, and what is finished cannot be lengthened. A commit in progress that loses its file in staging starts again.
    """
    names = {"quarantine": "[0-9a-f]{8}-.*"} if quarantine else {}
    names |= {"work": KEY} if checkpoints else {}  # whatever else lies there is not the store's
    stored = [(entry, name) for folder, name in names.items() for entry in entries(store.root / folder)]
    return [*store.staged(), *(Path(entry.path) for entry, name in stored if re.fullmatch(name, entry.name))]


def delete(paths: Iterable[Path]) -> None:
    """Delete folders and files. Raises StoreError with the one that could not be."""
    for path in paths:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
        except FileNotFoundError:
            continue  # its commit ended, or somebody else was faster
        except OSError as error:
            raise StoreError(f"{path} could not be deleted ({error.strerror})") from None


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what goes meanwhile counts for nothing."""
    files = [path] if path.is_file() else [Path(at) / name for at, _, names in os.walk(path) for name in names]
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue
    return total


def columns(rows: Iterable[tuple[str, ...]]) -> list[str]:
    """Rows as lines whose columns stand below each other."""
    shown = [tuple(map(_shown, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]


def _size(path: Path) -> str:
    return f"{size_of(path) / 1e6:,.2f} MB"


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.6g}"


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else text.encode("unicode_escape").decode()
