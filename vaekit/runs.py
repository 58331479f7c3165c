"""Members, their keys, and the store: bytes in, bytes out.

    <store>/runs/ab/<key>/        run.json, history.safetensors, weights-<step>.safetensors: immutable once there
    <store>/measures/ab/<key>/    <measure>-<version>.json, each committed by a rename
    <store>/work                  states of fleets that are training, see `vaekit.checkpoints`
    <store>/staging/              what is being written; anyone may rename any of it at any time, and then delete it
    <store>/quarantine/           what failed verification; never deleted silently

Nothing rests on locks, modification times or the wall clock: a run is there, whole, once its folder has its name. Paths
come from hashes alone, and no code path loads a pickle.
"""

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vaekit import data, decoders, disk, models, pruning
from vaekit.fleet import PRECISIONS
from vaekit.settings import PlainError, canonical

SCHEMA = 1
_HISTORY = "history.safetensors"
_NAME = re.compile(r"history\.safetensors|weights-(0|[1-9][0-9]*)\.safetensors")
_MEASURE = re.compile(r"(\w+)-(0|[1-9][0-9]*)\.json")
_KEY = re.compile(r"[0-9a-f]{64}")
# How a seal's line begins in canonical JSON. No other line does: what is nested is indented further, and no text holds
# the end of a line.
_SEAL = b'\n "sha256": "'
_COMPACT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError)
_ATTEMPTS = 64  # of a commit: each sweep that starts makes the commits that are under way start again
CHECKOUT = Path(__file__).resolve().parents[1]


class StoreError(PlainError, RuntimeError):
    """A store that cannot be written, or something in it that is not what it says."""


@dataclass(frozen=True)
class Member:
    """Everything that a trained model depends on, as plain values.

    `model_args` and `weights` (the objective's) may be given as dictionaries and are kept as sorted pairs. `n_train` is
    None for splits whose size is given; `n_test` limits the test images (None: all). `parent` is the key of the member
    that a derived one starts from, `arm` what is done to it while it trains (see `pruning.ARMS`).
    """

    model: str
    data: str
    split: str
    objective: str
    steps: int
    seed: int
    n_train: int | None = None
    n_test: int | None = None
    model_args: Any = ()
    weights: Any = ()
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.0
    precision: str = "full"
    parent: str | None = None
    arm: str | None = None

    def __post_init__(self):
        pairs = {
            "model_args": tuple(sorted((name, _argument(value)) for name, value in dict(self.model_args).items())),
            "weights": tuple(sorted((name, canonical(value)) for name, value in dict(self.weights).items())),
            "lr": canonical(self.lr),
            "weight_decay": canonical(self.weight_decay),
        }
        for name, value in pairs.items():
            object.__setattr__(self, name, value)

    def row(self) -> dict[str, Any]:
        """The member as one flat row: `model_args.depth`, `weights.beta` and so on are columns of their own."""
        row: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            row |= {f"{field.name}.{k}": v for k, v in value} if isinstance(value, tuple) else {field.name: value}
        # A field that came after members were stored is named only where it is used: it must not change their keys.
        return {name: value for name, value in row.items() if not (name == "arm" and value is None)}

    @property
    def code_version(self) -> int:
        """The model family's code version, part of the key."""
        return models.CODE_VERSIONS[self.model]

    @property
    def key(self) -> str:
        """sha256 of the canonical JSON of what decides the result: 64 hexadecimal digits."""
        return key_of(SCHEMA, self.code_version, data.identity(self.data), self.row())

    def build(self) -> nn.Module:
        """A new, untrained model of this member's architecture, in its precision; with masks where it has an arm."""
        model = models.build(self.model, data.image_shape(self.data), **dict(self.model_args))
        model = pruning.add_masks(model) if self.arm else model
        return model.to(PRECISIONS[self.precision])


@dataclass(frozen=True)
class Run:
    """What became of a member, as it is stored: `weights` maps snapshot steps to state dicts.

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
        self._runs, self._measures = (f"{self.root}{os.sep}{name}{os.sep}" for name in ("runs", "measures"))

    def obstacle(self) -> str | None:
        """What visibly stands against storing anything, as a sentence; None where nothing does. Writes nothing."""
        there = next(path for path in (self.root, *self.root.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return None
        why = "is read-only" if there.is_dir() else "is a file"
        return f"the store {self.root} cannot be written: {there} {why}; set VAEKIT_RUNS to a folder that can"

    def check_writable(self) -> None:
        """Raise StoreError, naming the path and the reason, where nothing could be stored.

        Clears out `staging` first, where killed processes have left what they were writing; who is writing there now
        starts again.
        """
        self._clear_staging()
        try:
            self._commit(self.root / "staging" / "probe", {"probe": b"probe"}, lambda staging: None)
        except StoreError as error:
            why = f"{error.__cause__.strerror}" if isinstance(error.__cause__, OSError) else str(error)
            raise StoreError(
                f"the store {self.root} cannot be written ({why}); set VAEKIT_RUNS to a folder that can"
            ) from error

    def keys(self) -> Iterator[str]:
        """The keys of all runs that are there, unverified, in order."""
        return _keys_in(self._runs)

    def find(self, start: str) -> str:
        """The one key that starts so. Errors: StoreError where there is none, or more than one."""
        if set(start) - set("0123456789abcdef") or not start:
            raise StoreError(f"{start!r} is no start of a key; a key has 64 hexadecimal digits")
        found = [key for key in self.keys() if key.startswith(start)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise StoreError(f"no run in {self.root} has a key that starts with {start}; `runs list` shows them")
        shown = ", ".join(key[: len(start) + 4] for key in found[:4])
        raise StoreError(f"{len(found)} runs have keys that start with {start} ({shown}, …): give more digits")

    def __contains__(self, key: str) -> bool:
        return os.path.exists(self._file(self._runs, key, "run.json"))

    def record(self, key: str) -> dict[str, Any]:
        """A run's run.json. Errors: StoreError where it is absent, damaged or another member's."""
        path = self._file(self._runs, key, "run.json")
        try:
            record = _unsealed(_read(path))
            # What the key is made of stands in the record, so that runs of older versions can be checked, too.
            parts = (record["schema"], record["code_version"], record["data_identity"], record["member"])
            wrong = record["key"] != key or key_of(*parts) != key
            named = all(_NAME.fullmatch(name) and isinstance(digest, str) for name, digest in record["files"].items())
            named = named and isinstance(record["member"], dict)
            if not named or _HISTORY not in record["files"] or record["status"] not in ("finished", "diverged"):
                raise ValueError("its status or its files are none that a run has")
        except _UNREADABLE as error:
            raise StoreError(f"{path} cannot be read as a run ({error}); delete its folder to train it again") from None
        if wrong:
            raise StoreError(f"{path} holds another run than its folder says; delete the folder to train it again")
        return record

    def weights(self, key: str, step: int) -> dict[str, Tensor]:
        """A run's weights after `step` steps, verified. Errors: StoreError names what is damaged or lacking."""
        files = self.record(key)["files"]
        name = f"weights-{step}.safetensors"
        if name not in files:
            raise StoreError(f"run {key[:12]} has no weights of step {step}; it has {stored_steps(self.record(key))}")
        return _loaded(self._run(key) / name, files[name])

    def history(self, key: str) -> dict[str, Tensor]:
        """A run's history, verified: "step" and the objective's means, tensors of one length."""
        return _loaded(self._run(key) / _HISTORY, self.record(key)["files"][_HISTORY])

    def verify(self, key: str) -> None:
        """Read every file of a run. Errors: StoreError names the first that is damaged or lacking."""
        for name, digest in self.record(key)["files"].items():
            _verified(self._run(key) / name, digest)

    def damage(self, key: str) -> Iterator[str]:
        """A sentence for every file of a run and of its measures that is damaged, lacking, or there and not named."""
        listed: Mapping[str, str] = {}
        if (folder := self._run(key)).exists():
            try:
                listed = self.record(key)["files"]
            except StoreError as error:
                yield str(error)
            else:
                there = {entry.name for entry in _entries(folder)}
                yield from (
                    f"{folder / name} is not a file of this run" for name in sorted(there - {*listed, "run.json"})
                )
        for name, digest in listed.items():
            try:
                _verified(folder / name, digest)
            except StoreError as error:
                yield str(error)
        for entry in _entries(self._file(self._measures, key)):
            found = _MEASURE.fullmatch(entry.name)
            try:
                if not found or self.measure(key, found[1], int(found[2])) is None:
                    yield f"{entry.path} is not a measure"
            except StoreError as error:
                yield str(error)

    def surplus(self) -> Iterator[str]:
        """A sentence for all that lies among the runs and the measures where none of them can."""
        for shelf in (entry for place in (self._runs, self._measures) for entry in _entries(place)):
            if not (shelf.is_dir() and re.fullmatch("[0-9a-f]{2}", shelf.name)):
                yield f"{shelf.path} is no folder of keys"
            else:
                odd = (entry.path for entry in _entries(shelf.path) if not _is_key(entry, shelf))
                yield from (f"{path} is not the folder of a key that belongs there" for path in odd)

    def measured(self) -> Iterator[str]:
        """The keys of which there are measures, in order; a run's measures come before it."""
        return _keys_in(self._measures)

    def commit(self, run: Run) -> str:
        """Store a run, whole or not at all, and return its key; one that is there already is kept.

        Errors: StoreError with path and reason where the disk refuses, with what was stored before untouched.
        """
        key = run.member.key
        files = {f"weights-{step}.safetensors": safetensors.torch.save(dict(w)) for step, w in run.weights.items()}
        files[_HISTORY] = safetensors.torch.save(dict(run.history))
        record = {
            "schema": SCHEMA,
            "key": key,
            "code_version": run.member.code_version,
            "data_identity": data.identity(run.member.data),
            "member": run.member.row(),
            "status": run.status,
            "reason": run.reason,
            "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            **run.record,
        }
        target = self._run(key)

        def place(staging: Path) -> None:
            if not self._there(key):
                disk.move(staging, target)

        # run.json comes last: a folder that has one has all that it names.
        self._commit(target, {**files, "run.json": _sealed(record)}, place)
        return key

    def measure(self, key: str, name: str, version: int) -> list[dict[str, Any]] | None:
        """The rows of one measure of a member, or None where it is not there. Errors: StoreError if it is damaged."""
        columns = self.measure_columns(key, name, version)
        if columns is None:
            return None
        return [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]

    def measure_columns(self, key: str, name: str, version: int) -> dict[str, list[Any]] | None:
        """The same as columns of one length, as they are stored: half as long to read, for the table of all runs."""
        path = self._file(self._measures, key, f"{name}-{version}.json")
        try:
            content = _unsealed(_read(path))
            # Before there were columns, there were rows.
            columns = content["columns"] if "columns" in content else _columns(content["rows"])
            if (content["key"], content["measure"], content["version"]) != (key, name, version):
                raise ValueError("it is another member's, or another measure")
            if not isinstance(columns, dict) or not all(isinstance(column, list) for column in columns.values()):
                raise ValueError("it holds no columns")
            if len({len(column) for column in columns.values()}) > 1:
                raise ValueError("its columns are not of one length")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            raise StoreError(f"{path} is damaged ({error}); delete it to measure again") from None
        return columns

    def measures(self, key: str) -> dict[str, int]:
        """The newest version of each measure of a member that is there, by its name."""
        names = (_MEASURE.fullmatch(entry.name) for entry in _entries(self._file(self._measures, key)))
        found = sorted((name[1], int(name[2])) for name in names if name)
        return dict(found)

    def commit_measure(self, key: str, name: str, version: int, rows: list[dict[str, Any]]) -> None:
        """Store the rows of one measure of a member, of the same names each, by a rename.

        Errors: StoreError where the disk refuses; ValueError for rows of different names.
        """
        target = Path(self._file(self._measures, key, f"{name}-{version}.json"))
        content = {"key": key, "measure": name, "version": version, "columns": _columns(rows)}

        def place(staging: Path) -> None:
            disk.move(staging / target.name, target, replacing=True)

        self._commit(target, {target.name: _sealed(content)}, place)

    def quarantine(self, key: str) -> Path:
        """Move a damaged run out of the way, and return where to."""
        source, target = self._run(key), self.root / "quarantine" / f"{key}-{uuid.uuid4().hex[:8]}"
        disk.make_folder(target.parent)
        disk.move(source, target)
        return target

    def _there(self, key: str) -> bool:
        """Whether a run is there and whole; what is there and damaged is quarantined."""
        if not self._run(key).exists():
            return False
        try:
            self.verify(key)
        except StoreError:
            self.quarantine(key)
            return False
        return True

    def _commit(self, target: Path, files: Mapping[str, bytes], place: Callable[[Path], None]) -> None:
        """Write files to a staging folder, all of it on the disk, and let `place` rename it or what is in it.

        Where others were there in between (the target came, the staging folder went), it starts again.
        """
        for attempt in reversed(range(_ATTEMPTS)):
            staging = self._staging()
            try:
                disk.make_folder(staging)
                for name, content in files.items():
                    disk.write(staging / name, content)
                disk.sync(staging)
                disk.make_folder(target.parent)
                place(staging)
                disk.sync(target.parent.parent)  # where the parent's own name stands, if it is new
                return
            except OSError as error:
                if not attempt or error.errno not in (errno.ENOENT, errno.EEXIST, errno.ENOTEMPTY):
                    raise refused(target, error, sum(map(len, files.values()))) from error
            finally:
                shutil.rmtree(staging, ignore_errors=True)

    def _clear_staging(self) -> None:
        """Delete what is in `staging`, each by a rename first: no commit may place a folder that is half deleted."""
        for left in self.root.glob("staging/*"):
            try:
                left = left.rename(left.with_name(f"deleted-{uuid.uuid4().hex}"))
            except OSError:
                continue  # placed in the meantime, or deleted by another; or it cannot be, which a commit will say
            shutil.rmtree(left, ignore_errors=True)

    def _staging(self) -> Path:
        return self.root / "staging" / uuid.uuid4().hex

    def _run(self, key: str) -> Path:
        return Path(self._file(self._runs, key))

    @staticmethod
    def _file(place: str, key: str, name: str = "") -> str:
        """As text: a pathlib.Path takes as long to make as its small file to read, and there are tens of thousands."""
        return os.path.join(place + _checked(key)[:2], key, name)


def default_store() -> Store:
    """The store at VAEKIT_RUNS, or the checkout's own runs/ folder."""
    return Store(os.environ.get("VAEKIT_RUNS") or CHECKOUT / "runs")


def results_root() -> Path:
    """Where the studies' results lie: VAEKIT_RESULTS, or the checkout's own results/ folder."""
    return Path(os.environ.get("VAEKIT_RESULTS") or CHECKOUT / "results")


def load(key: str, step: int | None = None, store: Store | None = None) -> nn.Module:
    """The trained model of a stored member, in eval mode, after `step` steps (None: the last snapshot).

    A member that is not stored here may have its decoder in `results/`: then `decode` and `generate` work, and all else
    says what is lacking. Errors: StoreError where neither has the run or those weights, or they are damaged.
    """
    store = store or default_store()
    carried = {} if key in store else decoders.find(results_root(), key)
    if carried and (step is None or step in carried):
        return load_decoder(key, step)
    record = store.record(key)
    weights = store.weights(key, max(stored_steps(record), default=0) if step is None else step)
    member = member_of(record["member"])
    try:
        model = member.build()
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        raise StoreError(f"the model of run {key[:12]} cannot be built here ({error}): {record['member']}") from None
    wanted = {name: value.dtype for name, value in model.state_dict().items()}
    wrong = [name for name, value in weights.items() if value.dtype != wanted.get(name, value.dtype)]
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise StoreError(f"the weights of run {key[:12]} do not fit its model: {error}") from None
    if wrong:  # which torch would have cast
        raise StoreError(f"the weights of run {key[:12]} do not fit its model: {', '.join(wrong)} are of another dtype")
    return model.eval()


def load_decoder(key: str, step: int | None = None) -> nn.Module:
    """The decoder of a member that `results/` carries, in eval mode, after `step` steps (None: the last one carried).

    `decode` and `generate` work, and all else says what is lacking. Errors: StoreError where none is carried, or it is
    damaged.
    """
    carried = decoders.find(results_root(), key)
    if not carried or step not in (None, *carried):
        raise StoreError(f"results/ carries no decoder of run {key[:12]}; `export --decoders` adds one")
    path, digest = carried[max(carried) if step is None else step]
    return _decoder(path, digest)


def decoder_file(key: str, store: Store, step: int | None = None) -> tuple[str, bytes]:
    """Name and content of the file that carries a stored member's decoder (see `vaekit.decoders`).

    Errors: StoreError as for `load`, and for a model without a decoder or one that is too large.
    """
    record = store.record(key)
    step = max(stored_steps(record), default=0) if step is None else step
    about = {name: record[name] for name in ("schema", "key", "code_version", "data_identity", "member")}
    try:
        content = decoders.pack(load(key, step, store), about | {"step": step})
    except decoders.DecoderError as error:
        raise StoreError(f"run {key[:12]}: {error}") from None
    return decoders.file_name(key, step), content


def read_decoder(content: bytes, name: str) -> tuple[str, nn.Module]:
    """The key of a carried decoder's member, and its model with the decoder's weights alone, in eval mode.

    Errors: StoreError names the file where it is none, or another member's than it says.
    """
    try:
        about, state = decoders.unpack(content, name)
        key = key_of(about["schema"], about["code_version"], about["data_identity"], about["member"])
        if key != about["key"]:
            raise decoders.DecoderError(f"{name} holds another member's decoder than it says; check it out again")
        with torch.device("meta"):
            model = member_of(about["member"]).build()
        return key, decoders.fit(model, state, name)
    except decoders.DecoderError as error:
        raise StoreError(str(error)) from None
    except (*_UNREADABLE, RuntimeError) as error:  # RuntimeError: of a model that cannot be made, or of no data set
        raise StoreError(f"{name} is not the decoder of a member ({error}); check it out again") from None


def _decoder(path: Path, digest: str | None) -> nn.Module:
    try:
        content = decoders.read(path, digest)
    except decoders.DecoderError as error:
        raise StoreError(str(error)) from None
    return read_decoder(content, str(path))[1]


def stored_steps(record: Mapping[str, Any]) -> list[int]:
    """The steps whose weights a run's record names, in order."""
    names = (name.removesuffix(".safetensors").partition("-") for name in record["files"])
    return sorted(int(step) for kind, _, step in names if kind == "weights")


def member_of(row: Mapping[str, Any]) -> Member:
    """The member that `Member.row` made this row from. Errors: StoreError for a row that is none."""
    fields: dict[str, Any] = {}
    try:
        for name, value in row.items():
            head, _, tail = name.partition(".")
            if tail:
                fields.setdefault(head, {})[tail] = value
            else:
                fields[name] = value
        return Member(**fields)
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"this row is no member ({error}): {dict(row)}") from None


def unique(members: Iterable[Member]) -> list[Member]:
    """The members without duplicates, in order."""
    return list(dict.fromkeys(members))


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise StoreError(f"{key!r} is no key; a key has 64 hexadecimal digits")
    return key


def _verified(path: Path, digest: str) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}); delete its folder to train it again") from None
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise StoreError(
            f"{path} is damaged (sha256 {found[:12]}, was {digest[:12]}); delete its folder to train again"
        )
    return content


def _loaded(path: Path, digest: str) -> dict[str, Tensor]:
    """The tensors of a file that hashes as it must. Errors: StoreError, also where the hash is that of no such file."""
    content = _verified(path, digest)
    try:
        return tensors(content)
    except ValueError as error:
        raise StoreError(f"{path} holds no tensors ({error}); delete its folder to train it again") from None


def tensors(content: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file. Errors: ValueError for any other bytes, and for tensors that torch lacks."""
    try:
        return safetensors.torch.load(content)
    except (safetensors.SafetensorError, KeyError, TypeError, RuntimeError, OverflowError, MemoryError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _argument(value: Any) -> Any:
    """A model's argument in its one spelling: lists as tuples, floats canonical, those that are whole as integers."""
    if isinstance(value, list | tuple):
        return tuple(map(_argument, value))
    if not isinstance(value, float):
        return value
    number = canonical(value)
    return int(number) if number.is_integer() else number


def key_of(schema: int, code_version: int, identity: str, row: Mapping[str, Any]) -> str:
    """The key of a member by its row and what else decides the result, of whatever version of the code."""
    content = {"schema": schema, "code_version": code_version, "data": identity, "member": row}
    return _digest(_COMPACT.encode(content).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sealed(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON that carries the hash of itself."""
    blank = _json({**content, "sha256": "0" * 64})
    bare, at = _less_seal(blank)
    return blank[:at] + _digest(bare).encode() + blank[at + 64 :]


def _unsealed(sealed: bytes) -> dict[str, Any]:
    """What `_sealed` was given. Errors: one of `_UNREADABLE` for anything else, one flipped bit included."""
    bare, at = _less_seal(sealed)
    if sealed[at : at + 64] != _digest(bare).encode():
        raise ValueError("its hash does not match")
    content = json.loads(sealed)
    del content["sha256"]
    return content


def _less_seal(sealed: bytes) -> tuple[bytes, int]:
    """Sealed JSON less its seal: what is hashed, without writing it as JSON again; and where the hash begins."""
    line = sealed.rfind(_SEAL)
    at = line + len(_SEAL)
    rest = sealed[at + 64 :]
    if line >= 0 and rest.startswith(b'",'):
        return sealed[:line] + rest[2:], at
    if line >= 0 and rest == b'"\n}' and sealed[line - 1 : line] == b",":  # it came last
        return sealed[: line - 1] + rest[1:], at
    raise ValueError("it carries no hash")


def _columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = rows[0].keys() if rows else ()
    if any(row.keys() != names for row in rows):
        raise ValueError(f"the rows of a measure differ in their names; the first has {', '.join(names)}")
    return {name: [row[name] for row in rows] for name in names}


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read()


def _keys_in(place: str) -> Iterator[str]:
    for shelf in _entries(place):
        yield from (entry.name for entry in _entries(shelf.path) if _is_key(entry, shelf))


def _is_key(entry: os.DirEntry[str], shelf: os.DirEntry[str]) -> bool:
    return entry.is_dir() and bool(_KEY.fullmatch(entry.name)) and entry.name[:2] == shelf.name


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, in order of the names; nothing where there is none."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _json(value: Any) -> bytes:
    """Canonical JSON; a number that JSON has no word for is null."""
    return json.dumps(_plain(value), sort_keys=True, indent=1, allow_nan=False).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def refused(path: Path, error: OSError, size: int) -> StoreError:
    """What to say where the disk refused to write `path`, of so many bytes."""
    free = shutil.disk_usage(next(p for p in (path, *path.parents) if p.exists())).free
    return StoreError(
        f"{path} could not be written ({error.strerror}: it takes {size / 1e6:,.3f} MB, and {free / 1e6:,.3f} MB are "
        "free); nothing was lost"
    )
