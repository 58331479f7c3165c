"""Checkpoints of fleets that are training: the keeper that puts their state into the folder `work` of a store.

    ab/<key>/<step>-<sha256>.safetensors                      a state, its name carrying its hash
    ab/<key>/snapshot-<member>-<step>-<sha256>.safetensors    weights kept on the way, written once

The key is that of what trains, whatever the number of steps: so a run whose last state is there is lengthened, not
begun again. With the backend *cores*, whose members are independent to the bit, each has a folder of its own and goes
on in any company; a stack goes on in its own composition alone. A file is used only where its bytes hash to its name
and its tensors are those of the model; one that is not is quarantined and named, and the state before it is taken.
"""

import dataclasses
import errno
import hashlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from vaekit import disk, runs
from vaekit.fleet.state import History, State, below, under
from vaekit.runs import Member, Store, refused

_STATE = re.compile(r"(0|[1-9][0-9]*)-([0-9a-f]{64})\.safetensors")
_SNAPSHOT = re.compile(r"snapshot-(0|[1-9][0-9]*)-(0|[1-9][0-9]*)-([0-9a-f]{64})\.safetensors")
EVERY = 60.0  # seconds between two states, at the least
SHARE = 50  # and this many times what the last took to write: 2 % of the time at the most
_KEPT = 2
_ATTEMPTS = 8
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError)


class Checkpoints:
    """The keeper of one fleet (see `vaekit.fleet.Keeper`).

    Args:
        store: where; its `work` folder.
        members: the fleet, in order; they share all but seed and weights.
        snapshots: the steps at which this fleet's weights are asked for.
        device: "cpu", "cuda", …: a state goes on where it was made.
        backend: "cores" or "stack".
        say: told what is damaged, by its name.
    """

    def __init__(
        self,
        store: Store,
        members: Sequence[Member],
        snapshots: Sequence[int],
        device: str,
        backend: str,
        say: Callable[[str], None] = print,
    ):
        self.store, self.members, self.backend, self.say = store, list(members), backend, say
        self.steps, self.snapshots = members[0].steps, set(snapshots)
        kind = torch.device(device).type
        tracks = [track(member) for member in members]
        groups = [[name] for name in tracks] if backend == "cores" else [tracks]
        self.folders = [_folder(store, kind, backend, group) for group in groups]
        self.seconds = [0.0] * len(members)  # that each member's share of earlier sessions took
        self._written: list[dict[tuple[int, int], str]] = [{} for _ in self.folders]
        self._last = [-1] * len(self.folders)
        self._aside: list[set[Path]] = [set() for _ in self.folders]  # states that lead elsewhere, left alone
        self._begun = self._saved = self._asked = time.monotonic()
        self._took = 0.0

    def latest(self) -> State | None:
        """The newest state that is whole and leads to what is asked for; None where there is none."""
        state = State(text={"backend": self.backend})
        for i, folder in enumerate(self.folders):
            if found := self._newest(i, folder):
                prefix = f"{i}." if self.backend == "cores" else ""
                state.tensors |= under(prefix, found.tensors)
                state.text |= {prefix + name: value for name, value in found.text.items()}
                state.snapshots |= {
                    (i if self.backend == "cores" else member, step): weights
                    for (member, step), weights in found.snapshots.items()
                }
                for member in range(len(self.members)) if self.backend != "cores" else [i]:
                    self.seconds[member] = float(found.text.get("seconds", 0.0))
        self._begun = time.monotonic()
        return state if state.tensors else None

    def due(self) -> bool:
        """Whether a minute has passed since the last state, and fifty times what that took to write."""
        self._asked = time.monotonic()  # from here on a state costs time: it is gathered, then written
        return self._asked - self._saved >= max(EVERY, SHARE * self._took)

    def save(self, state: State) -> None:
        """Write what has changed since the last state. Errors: StoreError where the disk refuses; nothing is lost."""
        for i, folder in enumerate(self.folders):
            prefix = f"{i}." if self.backend == "cores" else ""
            own = below(prefix, state.tensors)
            if not own or int(own["step"]) == self._last[i]:
                continue
            snapshots = {
                (0 if self.backend == "cores" else member, step): weights
                for (member, step), weights in state.snapshots.items()
                if self.backend != "cores" or member == i
            }
            text = {n.removeprefix(prefix): v for n, v in state.text.items() if n.startswith(prefix) and n != "backend"}
            text["seconds"] = f"{self.spent(i):.3f}"
            for attempt in reversed(range(_ATTEMPTS)):
                try:
                    self._write(i, folder, State(own, snapshots, text))
                    break
                except OSError as error:  # another process may have cleared what was being written
                    if not attempt or error.errno != errno.ENOENT:
                        raise refused(folder, error, _size(own, *snapshots.values())) from error
        self._saved = time.monotonic()
        self._took = self._saved - self._asked

    def spent(self, i: int) -> float:
        """Seconds that member i took so far, earlier sessions included: its share of the fleet's."""
        return self.seconds[i] + (time.monotonic() - self._begun) / len(self.members)

    def done(self) -> None:
        """Keep no more than the last state, from which a longer run goes on; none of an arm, which cannot."""
        for i, folder in enumerate(self.folders):
            if self.members[0].arm:
                shutil.rmtree(folder, ignore_errors=True)
            else:
                _prune(folder, self.steps, 1, self._aside[i])

    def _write(self, i: int, folder: Path, state: State) -> None:
        disk.make_folder(folder)
        for (member, step), weights in state.snapshots.items():
            if (member, step) not in self._written[i] or not (folder / self._written[i][member, step]).exists():
                content = safetensors.torch.save(dict(weights))
                name = f"snapshot-{member}-{step}-{_digest(content)}.safetensors"
                disk.replace(folder / name, content)
                self._written[i][member, step] = name
        named = [self._written[i][place] for place in sorted(state.snapshots)]
        text = json.dumps({"text": state.text, "snapshots": named}, sort_keys=True).encode()
        content = safetensors.torch.save(
            {**state.tensors, "text": torch.frombuffer(bytearray(text), dtype=torch.uint8)}
        )
        step = int(state.tensors["step"])
        disk.replace(folder / f"{step}-{_digest(content)}.safetensors", content)
        disk.sync(folder.parent)
        self._last[i] = step
        _prune(folder, self.steps, _KEPT, self._aside[i])

    def _newest(self, i: int, folder: Path) -> State | None:
        for step, path in _states(folder):
            if step > self.steps:
                continue
            try:
                state, names = self._read(path)
            except FileNotFoundError:
                continue  # it, or a snapshot of it, is gone: another process keeps newer ones
            except _UNREADABLE as error:
                self._quarantine(path, error)
                continue
            there = {at for _, at in state.snapshots}
            if {at for at in self.snapshots if at <= step} <= there:
                self._written[i], self._last[i] = names, step
                return state
            self._aside[i].add(path)
        return None

    def _read(self, path: Path) -> tuple[State, dict[tuple[int, int], str]]:
        """A state with its snapshots. Errors: ValueError and others name what is wrong with it."""
        tensors = runs.tensors(_verified(path))
        meta = json.loads(bytes(tensors.pop("text").tolist()))
        named = {_SNAPSHOT.fullmatch(name): name for name in meta["snapshots"]}
        if None in named:
            raise ValueError("it names a snapshot that cannot be one")
        state = State(tensors, {}, {str(name): str(value) for name, value in meta["text"].items()})
        if tensors["step"].item() != int(path.name.partition("-")[0]):
            raise ValueError("it is of another step than its name says")
        names: dict[tuple[int, int], str] = {}
        for match, name in named.items():
            assert match is not None
            try:
                weights = runs.tensors(_verified(path.with_name(name)))
            except FileNotFoundError:
                raise
            except (OSError, ValueError) as error:
                self._quarantine(path.with_name(name), error)
                raise ValueError(f"its {name[:24]}… cannot be used") from error
            place = int(match[1]), int(match[2])
            state.snapshots[place], names[place] = weights, name
        self._check(state)
        return state, names

    def _check(self, state: State) -> None:
        """Whether names, shapes and dtypes are those of this fleet's model. Errors: ValueError where they are not."""
        model, tensors = self.members[0].build(), state.tensors
        lead = () if self.backend == "cores" else (len(self.members),)
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        wanted = {f"model.{name}": ((*lead, *value.shape), value.dtype) for name, value in own.items()}
        moments = {
            name: tuple(value.shape)
            for name, value in tensors.items()
            if name.startswith("adam.") and not name.endswith(".step")
        }
        fits = all(shape == wanted["model." + name[5:].rpartition(".")[0]][0] for name, shape in moments.items())
        fits &= self.backend == "cores" or tensors["stopped_at"].shape == lead
        if _forms(under("model.", below("model.", tensors))) != wanted or not fits or tensors["step"].shape != ():
            raise ValueError("its tensors are not those of the model")
        if any(_forms(weights) != _forms(model.state_dict()) for weights in state.snapshots.values()):
            raise ValueError("a snapshot's tensors are not those of the model")
        History.of(below("history.", tensors), int(tensors["step"]))

    def _quarantine(self, path: Path, error: Exception) -> None:
        target = self.store.root / "quarantine" / f"{path.parent.name}-{uuid.uuid4().hex[:8]}-{path.name}"
        try:
            disk.make_folder(target.parent)
            disk.move(path, target)
        except FileNotFoundError:
            return  # another process did it
        except OSError as refusal:
            raise refused(target, refusal, path.stat().st_size) from refusal
        self.say(f"{path} is damaged ({error}): moved to {target.parent}; an earlier state is taken, if there is one")


def track(member: Member) -> str:
    """What trains, whatever it is tested on and, where its course does not depend on them, the number of its steps."""
    steps = member.steps if member.arm else 1  # an arm's ramp is as long as its training
    return dataclasses.replace(member, steps=steps, n_test=None).key


def has_state(store: Store, members: Sequence[Member], device: str, backend: str) -> bool:
    """Whether there is a state from which these members, as one fleet, might go on. Nothing is verified."""
    folder = _folder(store, torch.device(device).type, backend, [track(member) for member in members])
    return any(step <= members[0].steps for step, _ in _states(folder))


def _folder(store: Store, kind: str, backend: str, tracks: list[str]) -> Path:
    key = _digest(json.dumps([kind, backend, tracks]).encode())
    return store.root / "work" / key[:2] / key


def _states(folder: Path) -> list[tuple[int, Path]]:
    """The states of a folder by their steps, the newest first; unverified."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return []
    found = [(int(match[1]), folder / match[0]) for match in map(_STATE.fullmatch, names) if match]
    return sorted(found, key=lambda one: one[0], reverse=True)


def _prune(folder: Path, steps: int, kept: int, aside: Collection[Path]) -> None:
    """Delete older states than the newest `kept` of those up to `steps`, and what no state names; not those `aside`."""
    states = _states(folder)
    old = [path for _, path in [one for one in states if one[0] <= steps and one[1] not in aside][kept:]]
    for path in old:
        path.unlink(missing_ok=True)
    if not folder.exists():
        return
    named = {name for step, path in states if path not in old for name in _named(path)}
    for path in folder.iterdir():
        partial = path.name.startswith(".")
        if partial or (_SNAPSHOT.fullmatch(path.name) and path.name not in named):
            path.unlink(missing_ok=True)


def _named(path: Path) -> Iterator[str]:
    """The snapshots that a state names; none where it cannot be read."""
    try:
        with safetensors.safe_open(path, "pt") as file:
            yield from json.loads(bytes(file.get_tensor("text").tolist()))["snapshots"]
    except (*_UNREADABLE, safetensors.SafetensorError):
        return


def _verified(path: Path) -> bytes:
    """A file's bytes, which hash to what its name says. Errors: ValueError where they do not."""
    content = path.read_bytes()
    if _digest(content) != path.stem.rpartition("-")[2]:
        raise ValueError("its bytes do not hash to its name")
    return content


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple]:
    """Shapes and dtypes by name."""
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}


def _size(*several: Mapping[str, Tensor]) -> int:
    """The bytes of some tensors."""
    return sum(value.numel() * value.element_size() for tensors in several for value in tensors.values())


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
