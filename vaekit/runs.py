"""Members, their keys, and the store: bytes in, bytes out.

    <store>/runs/ab/<key>/        run.json, history.safetensors, weights-<step>.safetensors: immutable once there
    <store>/measures/ab/<key>/    <measure>-<version>.json, each committed by a rename
    <store>/work/                 states of fleets that are training, see `vaekit.checkpoints`
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
from torch import Tensor, nn

from vaekit import data, disk, models, pruning
from vaekit.fleet import PRECISIONS
from vaekit.settings import PlainError, canonical

SCHEMA = 1
_HISTORY = "history.safetensors"
_NAME = re.compile(r"history\.safetensors|weights-(0|[1-9][0-9]*)\.safetensors")
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
        return _key(SCHEMA, self.code_version, data.identity(self.data), self.row())

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
        return (path.name for path in sorted(self.root.glob("runs/??/*")) if path.is_dir())

    def __contains__(self, key: str) -> bool:
        return (self._run(key) / "run.json").exists()

    def record(self, key: str) -> dict[str, Any]:
        """A run's run.json. Errors: StoreError where it is absent, damaged or another member's."""
        path = self._run(key) / "run.json"
        try:
            record = _unsealed(path.read_bytes())
            # What the key is made of stands in the record, so that runs of older versions can be checked, too.
            parts = (record["schema"], record["code_version"], record["data_identity"], record["member"])
            wrong = record["key"] != key or _key(*parts) != key
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
        path = self._measure(key, name, version)
        try:
            content = _unsealed(path.read_bytes())
            rows = content["rows"]
            if (content["key"], content["measure"], content["version"]) != (key, name, version):
                raise ValueError("it is another member's, or another measure")
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("it holds no rows")
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            raise StoreError(f"{path} is damaged ({error}); delete it to measure again") from None
        return rows

    def commit_measure(self, key: str, name: str, version: int, rows: list[dict[str, Any]]) -> None:
        """Store the rows of one measure of a member by a rename. Errors: StoreError where the disk refuses."""
        target = self._measure(key, name, version)
        content = {"key": key, "measure": name, "version": version, "rows": rows}

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
        return self.root / "runs" / _checked(key)[:2] / key

    def _measure(self, key: str, name: str, version: int) -> Path:
        return self.root / "measures" / _checked(key)[:2] / key / f"{name}-{version}.json"


def default_store() -> Store:
    """The store at VAEKIT_RUNS, or the checkout's own runs/ folder."""
    return Store(os.environ.get("VAEKIT_RUNS") or CHECKOUT / "runs")


def load(key: str, step: int | None = None, store: Store | None = None) -> nn.Module:
    """The trained model of a stored member, in eval mode, after `step` steps (None: the last snapshot).

    Errors: StoreError where the store lacks the run or those weights, or finds them damaged.
    """
    store = store or default_store()
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
    if len(key) != 64 or set(key) - set("0123456789abcdef"):
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


def _key(schema: int, code_version: int, identity: str, row: Mapping[str, Any]) -> str:
    content = {"schema": schema, "code_version": code_version, "data": identity, "member": row}
    return _digest(json.dumps(content, sort_keys=True, separators=(",", ":")).encode())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _sealed(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON that carries the hash of itself."""
    return _json({**content, "sha256": _digest(_json(content))})


def _unsealed(sealed: bytes) -> dict[str, Any]:
    """What `_sealed` was given. Errors: one of `_UNREADABLE` for anything else, one flipped bit included."""
    content = json.loads(sealed)
    seal = content.pop("sha256")
    if seal != _digest(_json(content)):
        raise ValueError("its hash does not match")
    return content


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
