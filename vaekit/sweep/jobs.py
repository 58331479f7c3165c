"""What a worker of a cluster does: a job, a fleet of plain values, which it trains, measures and commits itself."""

import functools
import math
import os
import pkgutil
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vaekit import data
from vaekit.fleet import Progress, Stopped, device_problem
from vaekit.store import SHORT, Member, Store, StoreError
from vaekit.store.member import member_of
from vaekit.sweep import speed, train
from vaekit.sweep.course import Course
from vaekit.sweep.plan import Plan
from vaekit.sweep.study import StudySpec

TOPIC = "vaekit-sweep"  # of what workers tell
_VISIBLE = 90.0  # seconds after which a file that another machine wrote is seen here: network file systems cache
_SOON = 5.0  # the same of one in a folder that nobody has looked into here


@dataclass(frozen=True)
class Job:
    """A fleet to train, or members to measure, as a worker needs them: references and plain values.

    Args:
        sweep: of which it is a part, and its number there.
        spec: "module:attribute" of the study's spec; `later` are the names of its measures that are left out.
        kind: "train"; "measure", from stored weights; or "cut", from longer runs.
        members: their rows; `longer` are those of the runs that they are cut from.
        store, probe: the folder of the store, and a file in it that each worker must see.
    """

    sweep: str
    number: int
    spec: str
    later: tuple[str, ...]
    kind: str
    members: tuple[Mapping[str, Any], ...]
    longer: tuple[Mapping[str, Any], ...]
    device: str
    store: str
    probe: str

    @property
    def key(self) -> str:
        """Its name on the cluster."""
        return f"{self.sweep}-{self.number}"


_ended: set[str] = set()  # sweeps that this process was told to stop


def dask_setup(worker: Any) -> None:
    """Called by Dask as a local worker starts: a terminal's Ctrl-C reaches it, too, and is the client's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def end(sweep: str) -> None:
    """Tell this process that a sweep's jobs save their state and end."""
    _ended.add(sweep)


def problem(job: Job, images: Sequence[str] = ()) -> str | None:
    """What stands against running this job's sweep on this worker, as a sentence; None where nothing does.

    It is asked as a task: a store that does not answer holds up a thread of the worker, and not the worker.
    """
    try:
        _wait_until(lambda: os.path.exists(job.probe), f"the store {job.store}", lambda: False, _SOON)
        spec_of(job)
        Store(job.store).check_writable()
        absent = [sentence for name in images if (sentence := data.absence(name))]
        return absent[0] if absent else device_problem(job.device)
    except StoreError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def work(job: Job) -> dict[str, Any]:
    """Carry out a job on the worker that this is. Returns the keys that are `stored`, and whether it was `stopped`."""
    from distributed import Status, get_worker

    worker = get_worker()
    key, leaving = worker.get_current_task(), (Status.closing, Status.closing_gracefully, Status.closed)

    def stop() -> bool:
        # A running thread cannot be cancelled: it has to see that its client is gone, or its worker about to go.
        task = worker.state.tasks.get(key)
        return job.sweep in _ended or worker.status in leaving or task is None or task.state == "cancelled"

    def log(**fields: Any) -> None:
        worker.log_event(TOPIC, {"sweep": job.sweep, "job": job.number, **fields})

    def tell(now: Progress) -> None:
        newest = [[n.member.key, n.step, dict(n.values)] for n in now.newest]
        names = ("phase", "step", "steps", "done", "share")
        log(**{name: getattr(now, name) for name in names}, newest=newest, worker=str(worker.name))

    members, store, spec = list(map(member_of, job.members)), Store(job.store), spec_of(job)
    torch.set_num_threads(worker.state.nthreads)
    _wait_until(lambda: os.path.exists(job.probe), f"the store {job.store}", stop)
    for parent in {member.parent for member in members if member.parent and job.kind == "train"}:
        _wait_until(functools.partial(store.__contains__, parent), f"the parent {parent[:SHORT]}", stop)
    stopped = stop()
    if not stopped and (todo := _todo(job, members, store)):
        course = Course(todo, tell, stop, math.inf, speed.Observed())
        try:
            train.carry_out(spec, todo, store, job.device, course, lambda line: log(line=line), lambda line: None)
        except Stopped:
            stopped = True
    done = [] if stopped and job.kind == "measure" else [member.key for member in members if member.key in store]
    return {"stored": done, "stopped": stopped}


def _todo(job: Job, members: list[Member], store: Store) -> Plan | None:
    """The plan of what is left of a job, which another worker may have begun; None where nothing is."""
    if job.kind == "measure":
        return Plan(unmeasured=members)
    fresh = [member for member in members if member.key not in store]
    if job.kind == "cut":
        longer = dict(zip(members, map(member_of, job.longer), strict=True))
        measured = [member for member in members if member not in fresh]
        return Plan(unmeasured=measured, shorter={member: longer[member] for member in fresh})
    return Plan(groups=[fresh]) if fresh else None


def _wait_until(is_visible: Callable[[], bool], name: str, stop: Callable[[], bool], seconds: float = _VISIBLE) -> None:
    end = time.monotonic() + seconds
    while not is_visible():
        if time.monotonic() > end:
            raise StoreError(f"{socket.gethostname()} does not see {name}")
        if stop():
            return
        time.sleep(0.5)


@functools.cache
def resolved(reference: str) -> StudySpec:
    """The spec that "module:attribute" names."""
    spec = pkgutil.resolve_name(reference)
    if not isinstance(spec, StudySpec):
        raise TypeError(f"{reference} is a {type(spec).__name__}; wanted a StudySpec")
    return spec


def spec_of(job: Job) -> StudySpec:
    """The spec of a job's study, without the measures that are left out."""
    spec = resolved(job.spec)
    return spec.without(job.later) if job.later else spec
