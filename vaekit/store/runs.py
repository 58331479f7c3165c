"""The store: finished runs and what was measured of them.

In the folder of a store:

    runs/<key>.safetensors                    a run: weights, history, and its record in the header
    measures/<key>/<measure>-<version>.json   the values of one measure of a member
    work/<track>/                             states of what is training, see `vaekit.store.checkpoints`
    staging/                                  files while they are written; anyone may delete them at any time
    quarantine/                               what failed verification; never deleted silently

Files and their hashes follow `vaekit.store.files`. Nothing rests on locks, times of files or a clock, paths come from
hashes alone, and no code path loads a pickle.
"""

import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vaekit import data
from vaekit.store import files
from vaekit.store.files import UNREADABLE, Pack, StoreError
from vaekit.store.member import SCHEMA, SHORT, Member, key_of, member_of

CHECKOUT = Path(__file__).resolve().parents[2]
_MEASURE = re.compile(r"(\w+)-(0|[1-9][0-9]*)\.json")
_KEY = re.compile(r"[0-9a-f]{64}")
_NUMBER = {float, int, type(None)}
_COLUMNS = {"step": {int}, "part": {str}, "measure": {str}, "arguments": {str}, "value": _NUMBER, "se": _NUMBER}
_COLUMNS |= {"n": {int}}
_GROUP = re.compile(r"history|weights/(0|[1-9][0-9]*)")


@dataclass(frozen=True)
class Run:
    """What became of a member, as it is stored: `weights` maps the saved steps to state dicts.

    `record` holds what is worth knowing of how it was made: hardware, wall time, backend, versions.
    """

    member: Member
    status: str
    reason: str
    history: Mapping[str, Tensor]
    weights: Mapping[int, Mapping[str, Tensor]]
    record: Mapping[str, Any]


class Store:
    """A folder of finished runs and their measures. Reading never writes; a commit quarantines what is damaged."""

    def __init__(self, root: Path | str):
        self.root = Path(root).absolute()
        self._runs, self._measures = self.root / "runs", self.root / "measures"

    # The folder ---------------------------------------------------------------------------------------------------

    def writability_problem(self) -> str | None:
        """What visibly stands against storing anything, as a sentence; None where nothing does. Writes nothing."""
        nearest = next(path for path in (self.root, *self.root.parents) if path.exists())
        if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
            return None
        why = "is read-only" if nearest.is_dir() else "is a file"
        return f"the store {self.root} cannot be written: {nearest} {why}; set VAEKIT_RUNS to a folder that can"

    def check_writable(self) -> None:
        """Raise StoreError, naming the path and the reason, where nothing could be stored."""
        probe = self.root / "staging" / f"probe-{uuid.uuid4().hex}"
        try:
            files.create(probe, b"probe")
        except StoreError as error:
            reason = f"{error.__cause__.strerror}" if isinstance(error.__cause__, OSError) else str(error)
            raise StoreError(
                f"the store {self.root} cannot be written ({reason}); set VAEKIT_RUNS to a folder that can"
            ) from error
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)

    def clear_staging(self) -> None:
        """Delete what killed processes were writing; who is writing there now starts again."""
        for entry in entries(self.root / "staging"):
            with suppress(OSError):  # another process did it; or nobody can
                os.unlink(entry.path)

    def quarantine(self, path: Path) -> Path | None:
        """Move a damaged file of this store out of the way, and return where to; None where another process did it.

        Raises:
            StoreError: The disk refuses.
        """
        name = "-".join(path.relative_to(self.root).parts[1:])
        target = self.root / "quarantine" / f"{uuid.uuid4().hex[:8]}-{name}"
        try:
            files.move(path, target)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path} is damaged and could not be moved to {target} ({error.strerror})") from error
        return target

    # Runs ---------------------------------------------------------------------------------------------------------

    def keys(self) -> Iterator[str]:
        """The keys of all runs that are there, unverified, in order."""
        names = (entry.name.removesuffix(".safetensors") for entry in entries(self._runs))
        return (name for name in names if _KEY.fullmatch(name))

    def find(self, start: str) -> str:
        """The one key that starts so. Raises StoreError where there is none, or more than one."""
        if set(start) - set("0123456789abcdef") or not start:
            raise StoreError(f"{start!r} is no start of a key; give some of its first digits, 0 to 9 and a to f")
        keys = [key for key in self.keys() if key.startswith(start)]
        if len(keys) == 1:
            return keys[0]
        if not keys:
            raise StoreError(f"no run in {self.root} has a key that starts with {start}; `runs list` shows them")
        shown = ", ".join([*(key[: len(start) + 4] for key in keys[:4]), *["…"] * (len(keys) > 4)])
        raise StoreError(f"{len(keys)} runs have keys that start with {start} ({shown}): give more digits")

    def path(self, key: str) -> Path:
        """The file of a run. Raises StoreError for what is no key."""
        return self._runs / f"{_checked(key)}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self.path(key).exists()

    def record(self, key: str) -> dict[str, Any]:
        """What is known of a run. Raises StoreError where it is absent, damaged or another member's."""
        return self._open(key).about

    def weights(self, key: str, step: int) -> dict[str, Tensor]:
        """A run's weights after `step` steps, verified. Raises StoreError for what is damaged or lacking."""
        run = self._open(key)
        if f"weights/{step}" not in run.groups:
            raise StoreError(f"run {key[:SHORT]} has no weights of step {step}; it has {_steps(run)}")
        return self._read(key, f"weights/{step}")

    def steps(self, key: str) -> list[int]:
        """The steps whose weights a run has, in order. Raises as `record`."""
        return _steps(self._open(key))

    def history(self, key: str) -> dict[str, Tensor]:
        """A run's history, verified: "step" and the objective's means, tensors of one length. Raises as `record`."""
        return self._read(key, "history")

    def commit(self, run: Run) -> str:
        """Store a run, whole or not at all, and return its key; one that is there already is kept.

        Raises:
            StoreError: The disk refuses; what was stored before has not changed.
        """
        key = run.member.key
        record = {
            "schema": SCHEMA,
            "key": key,
            "code_version": run.member.code_version,
            "data_identity": data.identity(run.member.data),
            "member": run.member.row(),
            "status": run.status,
            "reason": run.reason,
            **run.record,
        }
        groups = {f"weights/{step}": weights for step, weights in run.weights.items()} | {"history": run.history}
        self._commit(self.path(key), files.pack(record, groups), lambda: self.verify(key))
        return key

    def verify(self, key: str) -> None:
        """Read all of a run. Raises StoreError where it is damaged or lacking."""
        try:
            self._open(key).verify()
        except FileNotFoundError:
            raise StoreError(f"{self.root} has no run {key[:SHORT]} any more; train it") from None

    # Measures -----------------------------------------------------------------------------------------------------

    def measure(self, key: str, name: str, version: int) -> list[dict[str, Any]] | None:
        """The rows of one measure of a member, or None where it is not there. Raises StoreError if it is damaged."""
        columns = self.measure_columns(key, name, version)
        if columns is None:
            return None
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def measure_columns(self, key: str, name: str, version: int) -> dict[str, list[Any]] | None:
        """The same as columns of one length, as they are stored."""
        path = self._measure(key, name, version)
        try:
            with open(path, "rb", buffering=0) as file:
                content = files.unseal(file.read())
            columns = content["columns"]
            if (content["key"], content["measure"], content["version"]) != (key, name, version):
                raise ValueError("it is another member's, or another measure")
            if not all(isinstance(column, list) for column in columns.values()):
                raise ValueError("it holds no columns")
            if columns and columns.keys() != _COLUMNS.keys():
                raise ValueError(f"it has the columns {', '.join(columns)}")
            if odd := [name for name, column in columns.items() if not {*map(type, column)} <= _COLUMNS[name]]:
                raise ValueError(f"its column {odd[0]} holds something else than it should")
            if len({len(column) for column in columns.values()}) > 1:
                raise ValueError("its columns are not of one length")
        except FileNotFoundError:
            return None
        except (OSError, *UNREADABLE) as error:
            raise StoreError(f"{path} is damaged ({error}); delete it to measure again") from None
        return columns

    def measures(self, key: str) -> dict[str, int]:
        """The newest version of each measure of a member that is there, by its name."""
        matches = (_MEASURE.fullmatch(entry.name) for entry in entries(f"{self._measures}/{key}"))
        return dict(sorted((match[1], int(match[2])) for match in matches if match))

    def commit_measure(self, key: str, name: str, version: int, rows: list[dict[str, Any]]) -> None:
        """Store the rows of one measure of a member, of the same names each; one that is there already is kept.

        Raises:
            StoreError: The disk refuses.
            ValueError: The rows differ in their names.
        """
        content = {"key": key, "measure": name, "version": version, "columns": _columns(rows)}
        path = Path(self._measure(key, name, version))
        self._commit(path, files.seal(content), lambda: self.measure_columns(key, name, version))

    # What is damaged ----------------------------------------------------------------------------------------------

    def damage(self, key: str) -> Iterator[str]:
        """A sentence for each file of a run and of its measures that is damaged or does not belong there."""
        try:
            if key in self:
                self.verify(key)
        except StoreError as error:
            yield str(error)
        for entry in entries(self._measures / key):
            match = _MEASURE.fullmatch(entry.name)
            try:
                if not match or self.measure_columns(key, match[1], int(match[2])) is None:
                    yield f"{entry.path} is not a measure"
            except StoreError as error:
                yield str(error)

    def surplus(self) -> Iterator[str]:
        """A sentence for all that lies in the store, among its runs or among its measures, where nothing can."""
        for entry in entries(self.root):
            if entry.name not in ("runs", "measures", "work", "staging", "quarantine", "classifiers"):
                yield f"{entry.path} is no part of a store"
        for entry in entries(self._runs):
            if not (_KEY.fullmatch(entry.name.removesuffix(".safetensors")) and entry.name.endswith(".safetensors")):
                yield f"{entry.path} is not a run"
        for entry in entries(self._measures):
            if not (entry.is_dir() and _KEY.fullmatch(entry.name)):
                yield f"{entry.path} is no folder of a member's measures"

    def measured(self) -> Iterator[str]:
        """The keys of which there are measures, in order; a run's measures come before it."""
        return (entry.name for entry in entries(self._measures) if entry.is_dir() and _KEY.fullmatch(entry.name))

    # ---------------------------------------------------------------------------------------------------------------

    def _measure(self, key: str, name: str, version: int) -> str:
        """As text: a pathlib.Path takes as long to make as its small file to read, and there are tens of thousands."""
        return f"{self._measures}/{_checked(key)}/{name}-{version}.json"

    def _read(self, key: str, group: str) -> dict[str, Tensor]:
        try:
            return self._open(key).read(group)
        except FileNotFoundError:
            raise StoreError(f"{self.root} has no run {key[:SHORT]} any more; train it") from None

    def _open(self, key: str) -> Pack:
        path = self.path(key)
        try:
            run = Pack(path, "delete it to train it again")
            # What the key is made of stands in the record, so that runs of older versions can be checked, too.
            record = run.about
            parts = (record["schema"], record["code_version"], record["data_identity"], record["member"])
            if record["key"] != key or key_of(*parts) != key:
                raise StoreError(f"{path} holds another run than its name says; delete it to train it again")
            known = record["status"] in ("finished", "diverged") and type(record["code_version"]) is int
            member_of(record["member"])
            if not known or "history" not in run.groups or not all(map(_GROUP.fullmatch, run.groups)):
                raise ValueError("its status or its groups are none that a run has")
        except FileNotFoundError:
            raise StoreError(f"{self.root} has no run {key[:SHORT]}; train it") from None
        except StoreError:
            raise
        except UNREADABLE as error:
            raise StoreError(f"{path} cannot be read as a run ({error}); delete it to train it again") from None
        return run

    def _commit(self, path: Path, content: bytes, verify: Callable[[], object]) -> None:
        """Put a file in its place, unless a whole one is there; a damaged one is quarantined."""
        while not files.create(path, content, self.root / "staging"):
            try:
                verify()
                if path.exists():  # else another process moved it away, damaged
                    return
            except StoreError:
                self.quarantine(path)


def default_store() -> Store:
    """The store at VAEKIT_RUNS, or the checkout's own runs/ folder."""
    return Store(os.environ.get("VAEKIT_RUNS") or CHECKOUT / "runs")


def load(key: str, step: int | None = None, store: Store | None = None) -> nn.Module:
    """The trained model of a stored member, in eval mode, after `step` steps (None: the last that were saved).

    Raises:
        StoreError: The store lacks the run or those weights, or they are damaged.
    """
    store = store or default_store()
    member = member_of(store.record(key)["member"])
    weights = store.weights(key, max(store.steps(key), default=0) if step is None else step)
    try:
        model = member.build()
    except UNREADABLE as error:
        raise StoreError(f"the model of run {key[:SHORT]} cannot be built here ({error}): {member.row()}") from None
    return fit(model, weights, f"the weights of run {key[:SHORT]}").eval()


def fit(model: nn.Module, weights: Mapping[str, Tensor], what: str) -> nn.Module:
    """A model with these weights. Raises StoreError, about `what`, where names, shapes or dtypes do not fit."""
    dtypes = {name: value.dtype for name, value in model.state_dict().items()}
    # A weight of another dtype would be cast without a word.
    if wrong := [name for name, value in weights.items() if value.dtype != dtypes.get(name, value.dtype)]:
        raise StoreError(f"{what} do not fit its model: {', '.join(wrong)} are of another dtype")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StoreError(f"{what} do not fit its model: {error}") from None
    return model


def entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, in order of the names; nothing where there is none."""
    try:
        with os.scandir(folder) as unordered:
            return sorted(unordered, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _checked(key: str) -> str:
    """A key, so that no other text becomes a part of a path. Raises StoreError for what is none."""
    if not _KEY.fullmatch(key):
        raise StoreError(f"{key!r} is no key; a key has 64 hexadecimal digits")
    return key


def _steps(run: Pack) -> list[int]:
    return sorted(int(name.removeprefix("weights/")) for name in run.groups if name != "history")


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = rows[0].keys() if rows else ()
    if any(row.keys() != names for row in rows):
        raise ValueError(f"the rows of a measure differ in their names; the first has {', '.join(names)}")
    return {name: [row[name] for row in rows] for name in names}
