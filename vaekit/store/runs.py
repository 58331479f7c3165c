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
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vaekit import data
from vaekit.settings import environment_folder, expanded
from vaekit.store import files
from vaekit.store.files import UNREADABLE, Pack, StoreError, UnreadableError, entries
from vaekit.store.member import KEY, SCHEMA, SHORT, Member, key_of, member_of

CHECKOUT = Path(__file__).resolve().parents[2]
_MEASURE = re.compile(r"(\w+)-(0|[1-9][0-9]*)\.json")
_KEY = re.compile(KEY)
_RUN = re.compile(KEY + r"\.safetensors")
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
    """A folder of finished runs and their measures. Reading never writes; a commit quarantines what is damaged.

    Raises:
        StoreError: There is no home for a `~`, or the runs are stored as they once were, which is no longer read.
    """

    def __init__(self, root: Path | str):
        self.root = expanded(root, StoreError).absolute()
        self._runs, self._measures = self.root / "runs", self.root / "measures"
        self._shelves = [self.root / "staging", self._runs, self._measures, self.root / "work"]
        self._refuse_older()

    # The folder ---------------------------------------------------------------------------------------------------

    def _refuse_older(self) -> None:
        with suppress(UnreadableError):  # which is said by what needs to read it
            older = any(re.fullmatch("[0-9a-f]{2}", entry.name) for entry in entries(self._runs))
            if older and not any(self.keys()):
                raise StoreError(
                    f"{self.root} holds runs of an older layout (runs/ab/<key>/), which this version does not read; "
                    "set VAEKIT_RUNS to another folder"
                )

    def check_writable(self, folders: Iterable[Path] = ()) -> None:
        """Raise StoreError, naming the folder and the reason, where something could not be stored; leave no file.

        A file is made in each shelf, and in the `folders` of members that are there already: in the way of what will be
        stored there, so by a link from staging but for checkpoints.
        """
        staging, *_, work = self._shelves
        absent = [p for p in (*reversed(self.root.parents), self.root, *self._shelves) if not os.path.lexists(p)]
        for folder in (*self._shelves, *folders):
            try:
                files.check_writable(folder, None if work in (folder, folder.parent) else staging)
            except StoreError as error:
                for created in reversed(absent):
                    with suppress(OSError):  # it is not there, or another process uses it
                        created.rmdir()
                reason = error.__cause__.strerror if isinstance(error.__cause__, OSError) else error
                raise StoreError(
                    f"the store {self.root} cannot be written ({reason}): {folder} takes no file; set VAEKIT_RUNS to a "
                    "folder that can, all of it on one disk"
                ) from error

    def staged(self) -> list[Path]:
        """What is being written, or was when its process was killed. Raises UnreadableError."""
        names = (entry.name for entry in entries(self.root / "staging"))
        return [self.root / "staging" / name for name in names if files.TEMPORARY.fullmatch(name)]

    def clear_staging(self) -> None:
        """Delete what killed processes were writing; who is writing there now starts again."""
        with suppress(UnreadableError):  # then nothing can be written there, which is said where it matters
            for path in self.staged():
                with suppress(OSError):  # another process did it; or nobody can
                    path.unlink()

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
        """The keys of all runs that are there, unverified, in order. Raises UnreadableError."""
        names = (entry.name for entry in entries(self._runs))
        return (name.removesuffix(".safetensors") for name in names if _RUN.fullmatch(name))

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
        return files.exists(self.path(key))

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
            with files.reading(path), open(path, "rb", buffering=0) as file:
                sealed = file.read()
            content = files.unseal(sealed)
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
        except UnreadableError:
            raise
        except UNREADABLE as error:
            raise StoreError(f"{path} is damaged ({error}); delete it to measure again") from None
        return columns

    def measures_folder(self, key: str) -> Path:
        """Where the measures of a member are. Raises StoreError for what is no key."""
        return self._measures / _checked(key)

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
        try:
            measures = files.visible(self._measures / key)
        except StoreError as error:
            yield str(error)
            return
        for entry in measures:
            match = _MEASURE.fullmatch(entry.name)
            try:
                if not match or self.measure_columns(key, match[1], int(match[2])) is None:
                    yield f"{entry.path} {files.NOT_THE_STORES}: it is not a measure"
            except StoreError as error:
                yield str(error)

    def surplus(self) -> Iterator[str]:
        """A sentence for all that lies in the store, among its runs or among its measures, where nothing can."""
        for entry in files.visible(self.root):
            if entry.name not in ("runs", "measures", "work", "staging", "quarantine", "classifiers"):
                yield f"{entry.path} {files.NOT_THE_STORES}: it is no part of one"
        for entry in files.visible(self._runs):
            if not _RUN.fullmatch(entry.name):
                yield f"{entry.path} {files.NOT_THE_STORES}: it is not a run"
        for entry in files.visible(self._measures):
            if not (os.path.isdir(entry.path) and _KEY.fullmatch(entry.name)):
                yield f"{entry.path} {files.NOT_THE_STORES}: it is no folder of a member's measures"

    def measured(self) -> Iterator[str]:
        """The keys of which there are measures, in order; a run's measures come before it."""
        names = (entry.name for entry in entries(self._measures) if os.path.isdir(entry.path))
        return (name for name in names if _KEY.fullmatch(name))

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
                if files.exists(path):  # else another process moved it away, damaged
                    return
            except UnreadableError:
                raise
            except StoreError:
                self.quarantine(path)


def default_folder(name: str) -> Path:
    """The folder of this name that its environment variable (VAEKIT_RUNS, …) names, or the checkout's own.

    Raises:
        StoreError: The path is relative, or there is no home; or none is given, and this copy is no checkout.
    """
    variable = f"VAEKIT_{name.upper()}"
    if not (os.environ.get(variable) or os.path.exists(CHECKOUT / "pyproject.toml")):
        raise StoreError(
            f"vaekit is installed in {CHECKOUT}, apart from its checkout and the {name}/ in it: set {variable} to a "
            "folder, or install a clone by `pip install -e .`"
        )
    return environment_folder(variable, CHECKOUT / name, StoreError)


def default_store() -> Store:
    """The store at VAEKIT_RUNS, or the checkout's own runs/ folder. Raises StoreError as `default_folder`."""
    return Store(default_folder("runs"))


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
