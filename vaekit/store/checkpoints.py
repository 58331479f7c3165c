"""Checkpoints: the states of what is training, in the folder `work` of a store.

    work/<track>/<step>-<sha256>.safetensors            a state, its name carrying the hash of its header
    work/<track>/snapshot-<step>-<sha256>.safetensors   weights kept on the way, written once

A track is what trains, whatever the number of its steps: so a run whose last state is there is lengthened, not begun
again. On *cores*, whose members are independent to the bit, each member has a track of its own and goes on in any
company; a stack goes on in its own composition alone. A file is used only where it is what its name says and its
tensors are those of the model; one that is not is quarantined and named, and the state before it is taken.
"""

import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vaekit.fleet.state import History, State, below, under
from vaekit.store import files
from vaekit.store.files import UNREADABLE, Pack, StoreError, UnreadableError, entries
from vaekit.store.member import KEY, Member, member_of
from vaekit.store.runs import Store

EVERY = 60.0  # seconds between two states, at the least
SHARE = 50  # and this many times what the last took to write: 2 % of the time at the most
_KEPT = 2
_STATE = re.compile(r"(0|[1-9][0-9]*)-[0-9a-f]{64}\.safetensors")
_SNAPSHOT = re.compile(r"snapshot-(0|[1-9][0-9]*)-[0-9a-f]{64}\.safetensors")


class Checkpoints:
    """The checkpointer (see `vaekit.fleet.Checkpointer`) of one member on *cores*, or of one stack.

    Args:
        store: where; its `work` folder.
        members: the one, or those of the stack in order; they share all but seed and weights.
        snapshots: the steps at which weights are asked for.
        device: "cpu", "cuda", …: a state goes on where it was made.
        backend: "cores" or "stack".
        fleet_size: how many members train together, among which the time is shared.
        report: told what is damaged, by its name.
    """

    def __init__(
        self,
        store: Store,
        members: Sequence[Member],
        snapshots: Sequence[int],
        device: str,
        backend: str,
        fleet_size: int,
        report: Callable[[str], None] = print,
    ):
        self.store, self.members, self.report = store, list(members), report
        self.steps, self.snapshots = members[0].steps, set(snapshots)
        *_, self.folder = folders(store, members, device, backend)
        self._stacked = (len(members),) if backend == "stack" else ()
        self._fleet_size = fleet_size
        self._earlier = 0.0  # seconds of a member's share that earlier sessions took
        self._names: dict[int, str] = {}  # of the snapshots that are written, by step
        self._last = -1  # step of the last state that is written
        self._elsewhere: set[Path] = set()  # states that lack a snapshot that is asked for; left alone
        self._begun = time.monotonic()
        self._saved = -math.inf  # no state of this session is written: the first step's is, so that `status` knows it
        self._took = 0.0

    def latest(self) -> State | None:
        """The newest state that is whole and leads to what is asked for; None where there is none.

        Raises UnreadableError for one that may not be read.
        """
        self._begun = time.monotonic()
        for step, path in _states(self.folder):
            if step > self.steps:
                continue
            try:
                state, names, self._earlier = self._read(path)
            except FileNotFoundError:
                if files.exists(path):
                    self._quarantine(path, ValueError("a snapshot that it names is not there"))
                continue  # else it is gone: another process keeps newer ones
            except UnreadableError:
                raise
            except (StoreError, *UNREADABLE) as error:
                self._quarantine(path, error)
                continue
            if {at for at in self.snapshots if at <= step} <= state.snapshots.keys():
                self._names, self._last = names, step
                return state
            self._elsewhere.add(path)
        return None

    def due(self) -> bool:
        """Whether none was saved yet, or a minute has passed since then, and fifty times what that took to write."""
        return time.monotonic() - self._saved >= max(EVERY, SHARE * self._took)

    def save(self, state: State) -> None:
        """Write what has changed since the last state. Raises StoreError where the disk refuses; nothing is lost."""
        step = int(state.tensors["step"])
        if step == self._last:
            return
        begun = time.monotonic()
        for at, weights in state.snapshots.items():
            if at not in self._names or not files.exists(self.folder / self._names[at]):
                self._names[at] = self._write(f"snapshot-{at}", {"step": at}, {"snapshot": weights})
        about = {"snapshots": [self._names[at] for at in sorted(state.snapshots)], "seconds": self.seconds}
        about |= {"status": state.status, "reason": state.reason}
        about |= {"first": self.members[0].row(), "members": len(self.members), "fleet": self._fleet_size, **_here()}
        self._write(f"{step}", about, {"state": state.tensors})
        self._last, self._saved = step, time.monotonic()
        self._took = self._saved - begun
        _prune(self.folder, self.steps, _KEPT, self._elsewhere)

    @property
    def seconds(self) -> float:
        """Seconds that a member took so far, earlier sessions included: its share of what all took together."""
        return self._earlier + (time.monotonic() - self._begun) / self._fleet_size

    def done(self) -> None:
        """Keep no more than the last state, from which a longer run goes on; none of an arm, which cannot."""
        if self.members[0].arm:
            shutil.rmtree(self.folder, ignore_errors=True)
        else:
            _prune(self.folder, self.steps, 1, self._elsewhere)

    def _write(self, start: str, about: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> str:
        content = files.pack(about, groups)
        name = f"{start}-{files.header_digest(content)}.safetensors"
        files.replace(self.folder / name, content)
        return name

    def _read(self, path: Path) -> tuple[State, dict[int, str], float]:
        """A state with its snapshots, their names, and its seconds. Raises for what is wrong with it."""
        saved = _opened(path)
        about, tensors = saved.about, saved.read("state")
        names: dict[int, str] = {}
        snapshots: dict[int, Mapping[str, Tensor]] = {}
        for name in about["snapshots"]:
            match = _SNAPSHOT.fullmatch(name)
            if match is None:
                raise ValueError("it names a snapshot that cannot be one")
            try:
                snapshots[int(match[1])] = _opened(path.with_name(name)).read("snapshot")
            except UnreadableError:
                raise
            except StoreError as error:
                self._quarantine(path.with_name(name), error)
                raise ValueError(f"its {name[:24]}… cannot be used") from error
            names[int(match[1])] = name
        if tensors["step"].item() != int(path.name.partition("-")[0]):
            raise ValueError("it is of another step than its name says")
        state = State(tensors, snapshots, str(about["status"]), str(about["reason"]))
        self._check(state)
        return state, names, float(about["seconds"])

    def _check(self, state: State) -> None:
        """Whether names, shapes and dtypes are those of this track's model. Raises ValueError where they are not."""
        model, tensors = self.members[0].build(), state.tensors
        own = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        wanted = {f"model.{name}": ((*self._stacked, *value.shape), value.dtype) for name, value in own.items()}
        moments = {
            name: tuple(value.shape)
            for name, value in tensors.items()
            if name.startswith("adam.") and not name.endswith(".step")
        }
        fits = all(shape == wanted["model." + name[5:].rpartition(".")[0]][0] for name, shape in moments.items())
        fits &= not self._stacked or tensors["stopped_at"].shape == self._stacked
        if _forms(under("model.", below("model.", tensors))) != wanted or not fits or tensors["step"].shape != ():
            raise ValueError("its tensors are not those of the model")
        saved = {n: ((*self._stacked, *value.shape), value.dtype) for n, value in model.state_dict().items()}
        if any(_forms(weights) != saved for weights in state.snapshots.values()):
            raise ValueError("a snapshot's tensors are not those of the model")
        History.of(below("history.", tensors), int(tensors["step"]))

    def _quarantine(self, path: Path, error: Exception) -> None:
        target = self.store.quarantine(path)
        if target:
            reason = str(error).removeprefix(f"{path} is damaged (").partition("); ")[0]
            self.report(
                f"{path} is damaged ({reason}): moved to {target.parent}; an earlier state is taken if one can be"
            )


def folders(store: Store, members: Sequence[Member], device: str, backend: str) -> Iterator[Path]:
    """For each number of the first members, from one up, the folder of the track that they are together."""
    track = hashlib.sha256(json.dumps([torch.device(device).type, backend]).encode())
    for member in members:
        # What a member is tested on does not matter, nor, but where its course depends on them, how many its steps are.
        steps = member.steps if member.arm else 1  # an arm's ramp is as long as its training
        track.update(dataclasses.replace(member, steps=steps, n_test=None).key.encode())
        yield store.root / "work" / track.copy().hexdigest()


def reached(store: Store, members: Sequence[Member], device: str, backend: str) -> tuple[int, int]:
    """How many of the first members a track with a state holds, and the step that it has reached; 0, 0 without one.

    Nothing is verified.
    """
    held = 0, 0
    for size, folder in enumerate(folders(store, members, device, backend), start=1):
        steps = (step for step, _ in _states(folder) if step <= members[0].steps)
        if (newest := next(steps, None)) is not None:
            held = size, newest
    return held


def stored(store: Store, members: Sequence[Member], device: str, backend: str) -> list[Path]:
    """The folders that are there of tracks that these members, or the first of them, can be.

    Raises UnreadableError for a file in them that may not be read.
    """
    teams = [[member] for member in members] if backend == "cores" else [members]
    tracks = [folder for team in teams for folder in folders(store, team, device, backend) if files.exists(folder)]
    for entry in (entry for folder in tracks for entry in entries(folder)):
        with suppress(FileNotFoundError), files.reading(entry.path):  # another process may delete it
            open(entry.path, "rb").close()
    return tracks


@dataclass(frozen=True)
class Training:
    """What trains, or was stopped, by its newest state.

    Args:
        first: its first member; it has `members` on this track, beside which `fleet` trained in all.
        step: reached; `seconds` ago it was saved.
        spent: seconds of one member's share so far.
        host, pid: where.
        runs: whether that process still does; None where it is another machine's.
    """

    first: Member
    members: int
    fleet: int
    step: int
    seconds: float
    spent: float
    host: str
    pid: int
    runs: bool | None


def trainings(store: Store) -> Iterator[Training]:
    """All tracks whose training is not stored yet; what is damaged, or of an earlier version, is left out."""
    for track in files.visible(store.root / "work"):
        for step, path in _states(Path(track.path)):
            try:
                about = Pack(path).about
                first, age = member_of(about["first"]), time.time() - path.stat().st_mtime
                where = str(about["host"]), int(about["pid"])
                runs = _runs(*where, about["began"])
                counts = int(about["members"]), int(about["fleet"]), step, age, float(about["seconds"])
            except (FileNotFoundError, *UNREADABLE, StoreError):
                continue  # its training has gone on; or `verify` says what is wrong
            if first.key not in store and step <= first.steps:
                yield Training(first, *counts, *where, runs)
            break


def _here() -> dict[str, Any]:
    """This process, as nobody else's later on: a number of a process is given again."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def _began(pid: int) -> int | None:
    """When a process of this machine began, in ticks since it booted; None where it has none, or does not say."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _runs(host: str, pid: int, began: int | None) -> bool | None:
    if host != socket.gethostname():
        return None
    if began is not None:
        return _began(pid) == began
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True  # another user's
    return pid > 0


def damage(store: Store) -> Iterator[str]:
    """A sentence for every checkpoint that is damaged, and for what lies among them and is none."""
    for track in files.visible(store.root / "work"):
        if not (os.path.isdir(track.path) and re.fullmatch(KEY, track.name)):
            yield f"{track.path} {files.NOT_THE_STORES}: it is no folder of checkpoints"
            continue
        try:
            checkpoints = entries(track.path)
        except StoreError as error:
            yield str(error)
            continue
        for entry in checkpoints:
            try:
                if entry.name.startswith("."):
                    continue  # it is being written, or a kill cut it short: the next state clears it
                if not (_STATE.fullmatch(entry.name) or _SNAPSHOT.fullmatch(entry.name)):
                    yield f"{entry.path} {files.NOT_THE_STORES}: it is not a checkpoint"
                    continue
                saved = _opened(Path(entry.path))
                saved.verify()
                for name in saved.about.get("snapshots", ()):
                    if not files.exists(Path(track.path) / str(name)):
                        yield f"{entry.path} names a snapshot that is not there; delete it"
            except FileNotFoundError:
                continue  # its training goes on, and keeps newer ones
            except StoreError as error:
                yield str(error)


def _opened(path: Path) -> Pack:
    """A checkpoint that is what its name says. Raises StoreError where it is not."""
    saved = Pack(path, "delete it: an earlier state is taken, or the training begins anew")
    if saved.digest != path.stem.rpartition("-")[2]:
        raise StoreError(f"{path} is damaged (its header does not hash to its name); {saved.advice}")
    return saved


def _states(folder: Path) -> list[tuple[int, Path]]:
    """The states of a folder by their steps, the newest first; unverified."""
    matches = [match for match in (_STATE.fullmatch(entry.name) for entry in entries(folder)) if match]
    return sorted(((int(match[1]), folder / match[0]) for match in matches), key=lambda item: item[0], reverse=True)


def _prune(folder: Path, steps: int, number: int, elsewhere: Collection[Path]) -> None:
    """Delete older states than the newest of those up to `steps`, and what no state names; not those `elsewhere`."""
    states = _states(folder)
    own = [path for step, path in states if step <= steps and path not in elsewhere]
    named: set[str] = set()
    for _, path in states:
        if path in own[number:]:
            path.unlink(missing_ok=True)
        else:
            try:
                named |= _named(path)
            except UnreadableError:
                return  # what it needs is not known
    for entry in entries(folder):
        if entry.name.startswith(".") or (_SNAPSHOT.fullmatch(entry.name) and entry.name not in named):
            Path(entry.path).unlink(missing_ok=True)


def _named(path: Path) -> set[str]:
    """The snapshots that a state names; none where it is damaged. Raises UnreadableError."""
    try:
        return set(Pack(path).about["snapshots"])
    except UnreadableError:
        raise
    except (FileNotFoundError, *UNREADABLE):
        return set()


def _forms(tensors: Mapping[str, Tensor]) -> dict[str, tuple]:
    """Shapes and dtypes by name."""
    return {name: (tuple(value.shape), value.dtype) for name, value in tensors.items()}
