"""A sweep on many machines: its fleets are jobs of a Dask cluster, whose workers commit into one store.

    cluster.run("vaekit.studies.pruning:SPEC", members, store, "slurm.yaml", device="cuda")

The client plans as `sweep.run` does, cuts what is missing into jobs, a fleet each, and feeds them to workers that are
idle. A job is plain values, and a worker that runs it anew, after another one died, goes on from the checkpoints in the
store: jobs may run more than once, members are committed once. Dask (the extra `vaekit[cluster]`) is imported where a
cluster is used, and only there.
"""

import importlib.util
import math
import queue
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from vaekit.fleet import Newest, Progress, default_backend
from vaekit.fleet.progress import EVERY, Tell, named, shown
from vaekit.fleet.training import stopping
from vaekit.store import SHORT, Member, Store, default_store, describe
from vaekit.sweep import plan, train
from vaekit.sweep.hosts import Cluster, ClusterError, Workers, check, opened
from vaekit.sweep.jobs import TOPIC, Job, end, problem, spec_of, work
from vaekit.sweep.plan import LARGEST_STACK, Plan, roughly
from vaekit.sweep.study import StudySpec

Say = Callable[[str], None]
ATTEMPTS = 2  # of a job that fails before it is further than it was
_FURTHER = 0.01  # of its steps: the first one of each attempt is saved
PER_WORKER = 3  # jobs of a GPU worker at the least, so that none waits long for the last one
_SMALL = 8  # members of a stack below which it is not cut for the sake of more jobs
_FILL = 60.0  # seconds between two looks whether workers have to be replaced
_LOOK = 0.2
_ANSWER = 30.0  # seconds in which a worker answers, or hands over what a job returned
_GONE = 5.0  # seconds without its worker after which a job is taken back
_SILENT = 60.0  # seconds without a word after which workers that shall end are not waited for


class JobsFailed(ClusterError):
    """Some jobs failed, and were named; all others are done."""

    status = 1


def report(spec: StudySpec, todo: Plan, workers: Workers, device: str, store: Store) -> str:
    """What a plan takes on `workers` (see `expected`): members and disk, jobs, hours at this machine's speed."""
    count = max(1, workers.count)
    lines = [plan.report(spec, todo, device, store, timed=False)]
    seconds = [trains + measures for trains, measures, _ in plan.seconds_of(spec, todo, store, device)]
    total, cores = len(todo.missing), default_backend(device) == "cores"
    sizes = [_size(len(group), total, count, workers.threads, device) for group in todo.groups]
    jobs = sum(math.ceil(len(group) / size) for group, size in zip(todo.groups, sizes, strict=True))
    again = len(todo.unmeasured) + len(todo.shorter)
    if again:
        jobs += math.ceil(again / _size(again, again, count, workers.threads, device))
    share = torch.get_num_threads() / (count * workers.threads) if cores else 1 / count
    known = workers.count and all(seconds)
    lasts = f"{roughly(sum(seconds) * share)} at this machine's speed" if known else "time not known"
    threads = f" of {workers.threads} threads" if workers.threads > 1 else ""
    lines.append(f"  {workers.what}: {jobs} jobs for {workers.count} workers{threads}, {lasts}")
    return "\n".join(lines)


def _size(waiting: int, total: int, workers: int, threads: int, device: str) -> int:
    """How many of the members that wait a job gets: one a thread; of a GPU a share of all, which the worker cuts.

    What a card holds is computed where the card is, and of what is free of it then.
    """
    if default_backend(device) == "cores":
        return min(waiting, threads)
    share = max(math.ceil(total / (PER_WORKER * workers)), min(_SMALL, math.ceil(total / workers)))
    return min(waiting, share, LARGEST_STACK)


# On the client --------------------------------------------------------------------------------------------------------


def run(
    reference: str,
    members: Iterable[Member],
    store: Store | None = None,
    cluster: str = "local",
    device: str = "cpu",
    minutes: float | None = None,
    insecure: bool = False,
    later: Sequence[str] = (),
    progress: Tell | bool | None = None,
    say: Say = print,
    stop: Callable[[], bool] | None = None,
) -> Plan:
    """`sweep.run` on a cluster: train what is missing, measure it, store it; return the plan that was carried out.

    Args:
        reference: "module:attribute" of the study's spec, which every worker can import.
        members, store, device, minutes, progress, say, stop: as in `sweep.run`; a worker's only GPU is "cuda".
        cluster: "local": a process a core, or a GPU; the address of a scheduler; or a YAML file of dask-jobqueue.
        insecure: take an address without TLS that is not this machine's.
        later: measures that are left out.

    Raises:
        ClusterError: The cluster cannot be had, a worker does not see the store, or the scheduler was lost.
        JobsFailed: Some jobs failed; the others are done.
        StoreError, DataError, Stopped: as in `sweep.run`.
    """
    check(cluster, device, insecure)
    store = store or default_store()
    first = Job(f"{TOPIC}-{uuid.uuid4().hex[:12]}", 0, reference, tuple(later), "", (), (), device, str(store.root), "")
    todo = train.prepare(spec_of(first), members, store, device, say)
    if not train.is_work(todo):
        return todo
    probe = store.root / "staging" / f".probe.{uuid.uuid4().hex[:8]}"
    first = replace(first, probe=str(probe))
    with shown(progress, say) as (tell, say_between):
        overview = Overview(todo, tell)
        with stopping(overview, True):
            try:
                with opened(cluster, device, insecure) as here:
                    Feeder(here, first, todo, store, overview, say_between, stop, minutes).feed()
            finally:
                probe.unlink(missing_ok=True)
    return todo


class Overview:
    """Where a sweep stands, from what its workers tell; `stopped` and `share` are as a fleet's `Watch` has them."""

    def __init__(self, todo: Plan, tell: Tell | None):
        again = {member.key for member in (*todo.unmeasured, *todo.shorter)}
        self.stopped = threading.Event()
        self.members = {member.key: member for member in (*todo.unmeasured, *todo.shorter, *todo.missing)}
        self._steps = {key: 1 if key in again else member.steps for key, member in self.members.items()}
        self._all, self._tell = sum(self._steps.values()), tell
        self.stored: set[str] = set()
        self.failed = 0
        self.heard: dict[int, dict[str, Any]] = {}  # the newest of each job at work
        self._sizes: dict[int, int] = {}
        self._of_stored = 0
        self._course: deque[tuple[float, float]] = deque(maxlen=120)  # (time, steps done)
        self._told = -math.inf

    @property
    def share(self) -> float:
        """Of all steps, those that are done."""
        return min(1.0, self._done() / self._all)

    def begins(self, number: int, members: Sequence[Member]) -> None:
        """A job is at work."""
        self._sizes[number] = sum(self._steps[member.key] for member in members if member.key not in self.stored)

    def ends(self, number: int, stored: Iterable[str]) -> None:
        """A job is not, any more."""
        self._sizes.pop(number, None)
        self.heard.pop(number, None)
        for key in stored:
            if key not in self.stored:
                self.stored.add(key)
                self._of_stored += self._steps[key]

    def tell(self) -> None:
        """Tell, if that is due."""
        now = time.monotonic()
        if self._tell is None or now - self._told < EVERY:
            return
        self._told, done = now, self._done()
        self._course.append((now, done))
        (begun, before), heard = self._course[0], list(self.heard.values())
        rate = max(0.0, done - before) / (now - begun) if now > begun else 0.0
        training = [one for one in heard if one["phase"] == "training"]
        newest = (Newest(self.members[key], step, values) for one in training for key, step, values in one["newest"])
        self._tell(Progress(
            phase="training" if training else "measuring" if heard else "waiting for a worker",
            step=sum(one["step"] for one in training) // max(1, len(training)),
            steps=sum(one["steps"] for one in training) // max(1, len(training)),
            done=len(self.stored) + sum(one["done"] for one in heard),
            members=len(self.members),
            share=self.share,
            per_second=rate,
            seconds_left=(self._all - done) / rate if rate and training else None,
            newest=tuple(newest),
            failed=self.failed,
        ))  # fmt: skip

    def _done(self) -> float:
        part = ((one["share"], self._sizes.get(number, 0)) for number, one in list(self.heard.items()))
        return self._of_stored + sum(share * size for share, size in part)


@dataclass
class Piece:
    """What a job is made of, each time that it is tried."""

    kind: str
    members: list[Member]
    longer: list[Member] = field(default_factory=list)
    reached: float = -1.0  # steps in the store when it was last given to a worker
    failed_on: list[str] = field(default_factory=list)  # workers, since it last got further


class Feeder:
    """Feeds the pieces of a plan to a cluster's idle workers, and settles what becomes of them."""

    def __init__(
        self,
        here: Cluster,
        first: Job,
        todo: Plan,
        store: Store,
        overview: Overview,
        say: Say,
        stop: Callable[[], bool] | None,
        minutes: float | None,
    ):
        self.client, self.here, self.first, self.store, self.overview = here.client, here, first, store, overview
        self.say, self.stop, self.end = say, stop, time.monotonic() + (60 * minutes if minutes else math.inf)
        self.again: deque[Piece] = deque()  # its worker went, or it failed there
        self.measured = [("measure", member, None) for member in todo.unmeasured]
        self.measured += [("cut", member, longer) for member, longer in todo.shorter.items()]
        stored = {*store.keys()}
        self.ready: list[list[Member]] = []
        self.children: dict[str, list[tuple[int, Member]]] = {}
        for i, group in enumerate(sorted(todo.groups, key=lambda group: group[0].parent is None)):  # children first
            self.ready.append([member for member in group if not member.parent or member.parent in stored])
            for member in group:
                if member.parent and member.parent not in stored:
                    self.children.setdefault(member.parent, []).append((i, member))
        self.images = sorted({member.data for member in overview.members.values()})
        self.flying: dict[str, tuple[Any, int, Piece, str]] = {}  # future, number, piece, worker; by the job's key
        self.done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        # Workers, by their addresses: whether they see what they need; who is asked; who raised an error.
        self.good: dict[str, bool] = {}
        self.asked: dict[str, Any] = {}
        self.doubted: set[str] = set()
        self.gone: dict[str, float] = {}  # since when workers with a job are not there
        self.failures: list[str] = []
        self.number, self.lost = 0, 0  # of jobs; of members whose parents failed
        self.filled = self.seen = self.heard = time.monotonic()

    def feed(self) -> None:
        """All of it, until it is done, its time is over or it is stopped. Raises ClusterError, JobsFailed."""
        from distributed.comm.core import CommClosedError

        try:
            self.client.subscribe_topic(TOPIC, self.hears)
            if self.await_workers():
                self.loop()
        except (OSError, TimeoutError, CommClosedError) as error:
            of_a_file = isinstance(error, BrokenPipeError) or getattr(error, "filename", None)
            self.check_scheduler(None if of_a_file else error)
            raise
        if self.failures and not self.overview.stopped.is_set():
            follow = f"; {self.lost} members wait for parents that are not there" if self.lost else ""
            what = f"{len(self.failures)} jobs failed{follow}; the same command tries them again"
            raise JobsFailed("\n- ".join((what, *self.failures)))

    def hears(self, event: tuple[float, Any]) -> None:
        """A worker told something; called by the client's own thread."""
        _, told = event
        if told["sweep"] != self.first.sweep:
            return
        self.heard = time.monotonic()
        if "line" in told:
            self.lines.put(told["line"])
        elif f"{self.first.sweep}-{told['job']}" in self.flying:
            self.overview.heard[told["job"]] = told

    def await_workers(self) -> bool:
        """Wait for the first worker, and look whether all see what they need; False where it is stopped before."""
        link = self.client.dashboard_link if importlib.util.find_spec("bokeh") else None
        self.say(f"the cluster {self.client.scheduler.address}" + (f", dashboard {link}" if link else ""))
        if refused := self.here.fill():
            self.say(refused)
        begun, problems = time.monotonic(), []
        while not self.good or (self.asked and time.monotonic() - begun < _ANSWER):
            if self.is_ending():
                return False
            if time.monotonic() - begun > self.here.patience:
                what = "answered" if self.asked else "came"
                raise ClusterError(f"no worker {what} within {self.here.patience:.0f} s")
            self.check_scheduler()
            self.overview.tell()
            self.keep_probe()
            problems += self.look_at(self.client.nthreads())
            time.sleep(_LOOK)
        if problems:
            raise ClusterError("\n- ".join(("some workers cannot do this", *problems)))
        return True

    def look_at(self, workers: Collection[str]) -> list[str]:
        """Ask workers that are new whether they see store, study and images; a sentence for each that does not."""
        from distributed import KilledWorker

        for worker in workers:
            if worker not in self.good and worker not in self.asked:
                self.asked[worker] = self.client.submit(problem, self.first, self.images, pure=False, workers=[worker])
        problems = []
        for worker, future in [*self.asked.items()]:
            if worker not in workers or future.status == "cancelled":
                del self.asked[worker]  # it is gone
            elif future.done():
                del self.asked[worker]
                answer = future.result() if future.status == "finished" else future.exception()
                if isinstance(answer, KilledWorker):
                    continue
                self.good[worker] = answer is None
                if answer and worker in self.doubted:
                    with suppress(OSError, TimeoutError, ValueError):  # it is gone, or has no nanny
                        self.client.restart_workers([worker], timeout=_ANSWER, raise_for_error=False)
                elif answer:
                    problems.append(f"{worker}: {answer}")
        return problems

    def loop(self) -> None:
        told, begun = 0.0, math.inf  # when workers were last told to end, and since when they are
        while True:
            self.check_scheduler()
            self.keep_probe()
            if self.is_ending():
                now = time.monotonic()
                begun = min(begun, now)
                if not self.flying or not self.client.nthreads() or now - max(begun, self.heard) > _SILENT:
                    break
                if now - told > EVERY:
                    told = now
                    # A worker that does not answer holds up this thread alone.
                    threading.Thread(target=self.tell_to_end, daemon=True).start()
            else:
                self.submit()
                if not self.flying and not self.is_left():
                    return
            with suppress(queue.Empty):
                self.settle(self.done.get(timeout=_LOOK))
                while True:
                    self.settle(self.done.get_nowait())
            while not self.lines.empty():
                self.say(self.lines.get())
            self.overview.tell()
        if not self.overview.stopped.is_set():
            share = 100 * self.overview.share
            self.say(f"the minutes are over at {share:.0f} %: kept; the same command goes on from there")

    def keep_probe(self) -> None:
        """Have the file that workers must see: whoever clears the store's staging deletes it."""
        if not (probe := Path(self.first.probe)).exists():
            probe.parent.mkdir(parents=True, exist_ok=True)
            probe.write_text("read me")

    def tell_to_end(self) -> None:
        """Have all workers save their states and end."""
        with suppress(Exception):  # it is told again, until nothing flies
            self.client.run(end, self.first.sweep, on_error="ignore")

    def is_ending(self) -> bool:
        """Whether nothing more is begun, and what is at work shall end."""
        if self.stop is not None and self.stop():
            self.overview.stopped.set()
        return self.overview.stopped.is_set() or time.monotonic() >= self.end

    def is_left(self) -> bool:
        """Whether something waits for a worker."""
        return bool(self.again or self.measured or any(self.ready))

    def check_scheduler(self, error: BaseException | None = None) -> None:
        """Raise ClusterError where the scheduler is lost."""
        if self.client.status != "running" or error is not None:
            raise ClusterError(
                f"the scheduler is lost ({error or self.client.status}); {len(self.overview.stored)} of "
                f"{len(self.overview.members)} members are stored, and the same command goes on from there"
            ) from None

    def submit(self) -> None:
        """Give idle workers a job each; no more jobs than workers, for one that dies puts the blame on all it has."""
        usable, processing = self.usable(), self.client.processing()
        self.drop_gone(usable)
        busy = {worker for *_, worker in self.flying.values()}
        idle = [worker for worker in usable if worker not in busy and not processing.get(worker)]
        # Children follow what is at work, and what was at work on a worker that went comes back.
        is_over = not (self.is_left() or self.children or busy - usable.keys())
        if idle and self.here.is_batch and is_over:
            self.client.retire_workers(idle)
            return
        for worker in idle[: max(0, len(usable) - len(self.flying))]:
            if not (piece := self.piece(worker, usable)):
                continue
            piece.reached = self.reached(piece)
            self.number += 1
            rows = tuple(member.row() for member in piece.members), tuple(member.row() for member in piece.longer)
            job = replace(self.first, number=self.number, kind=piece.kind, members=rows[0], longer=rows[1])
            self.overview.begins(job.number, piece.members)
            future = self.client.submit(work, job, key=job.key, pure=False, workers=[worker])
            self.flying[job.key] = future, job.number, piece, worker
            future.add_done_callback(self.done.put)

    def drop_gone(self, usable: Collection[str]) -> None:
        """Cancel jobs whose worker went by itself: Dask would keep them for it. Of one that dies it tells at once."""
        now = time.monotonic()
        missing = {worker for *_, worker in self.flying.values() if worker not in usable}
        self.gone = {worker: self.gone.get(worker, now) for worker in missing}
        for future, *_, worker in [*self.flying.values()]:
            if now - self.gone.get(worker, now) > _GONE and worker not in self.client.nthreads():
                future.cancel()

    def usable(self) -> dict[str, int]:
        """The workers that may get jobs, and their threads. Raises ClusterError where there were none for too long."""
        workers, now = self.client.scheduler_info(n_workers=-1)["workers"], time.monotonic()
        threads = {name: worker["nthreads"] for name, worker in workers.items() if worker["status"] == "running"}
        for line in self.look_at(threads):
            self.say(f"not used: {line}")
        if not threads:
            self.overview.heard.clear()
        if now - self.filled > _FILL and (self.is_left() or len(self.flying) > len(threads)):
            self.filled = now
            with suppress(ClusterError):  # what is refused now may be taken in a minute
                self.here.fill()
        usable = {worker: number for worker, number in threads.items() if self.good.get(worker)}
        if usable:
            self.seen = now
        if now - self.seen > self.here.patience:
            why = f"no worker can be used since {now - self.seen:.0f} s"
            raise ClusterError("\n- ".join((f"{why}; what is committed stays", *self.failures)))
        return usable

    def piece(self, worker: str, usable: Mapping[str, int]) -> Piece | None:
        """What a worker does next: not what failed there, as long as there are others."""
        workers, threads = len(usable), usable[worker]
        for i, piece in enumerate(self.again):
            if worker not in piece.failed_on or usable.keys() <= {*piece.failed_on}:
                del self.again[i]
                return piece
        if self.measured:
            kind = self.measured[0][0]
            waiting = sum(one[0] == kind for one in self.measured)  # all of a kind stand together
            size = _size(waiting, waiting, workers, threads, self.first.device)
            taken, self.measured = self.measured[:size], self.measured[size:]
            return Piece(kind, [member for _, member, _ in taken], [longer for *_, longer in taken if longer])
        total = sum(map(len, self.ready))
        for group in filter(None, self.ready):
            size = _size(len(group), total, workers, threads, self.first.device)
            if default_backend(self.first.device) == "stack":
                size = plan.begun_members(group, self.store, self.first.device) or size
            members, group[:size] = group[:size], []
            return Piece("train", members)
        return None

    def settle(self, future: Any) -> None:
        """What became of a job."""
        from distributed import KilledWorker

        _, number, piece, worker = self.flying.pop(future.key)
        heard = self.overview.heard.get(number, {})
        stored: list[str] = []
        if future.status == "finished" and (result := _result(future)) is not None:
            stored = result["stored"]
            if result["stopped"]:
                self.again.append(piece)
            elif left := len(piece.members) - len(stored):
                self.fail(piece, f"{left} of its members are not stored")
        elif future.status == "error":
            if isinstance(error := future.exception(), KilledWorker):
                words = f"its process died each time; last heard: {_words(heard)}"
            else:
                words = f"{type(error).__name__}: {error} (worker {heard.get('worker', worker)})"
                self.good.pop(worker, None)  # it is looked at again: an error may have spoiled its process
                self.doubted.add(worker)
            self.retry(piece, worker, words)
        elif future.status == "cancelled" and worker in self.gone:
            self.retry(piece, worker, f"its worker went each time; last heard: {_words(heard)}")
        else:  # its worker went before it was fetched; or the scheduler is lost, which is said next
            self.again.append(piece)
        if future.status != "finished" and piece.kind == "train":  # of some of its fleets the members may be there
            stored = [member.key for member in piece.members if member.key in self.store]
        self.overview.ends(number, stored)
        for key in stored:
            for group, child in self.children.pop(key, ()):
                self.ready[group].append(child)
        future.release()

    def retry(self, piece: Piece, worker: str, words: str) -> None:
        """Try a job that failed on another worker; after some attempts in halves; at last name the member."""
        steps = sum(member.steps for member in piece.members)
        if self.reached(piece) > piece.reached + _FURTHER * steps:
            piece.failed_on.clear()  # where its nodes' time is short it is further each time
        else:
            piece.failed_on.append(worker)
        missing = [i for i, m in enumerate(piece.members) if piece.kind != "train" or m.key not in self.store]
        half = math.ceil(len(missing) / 2)
        if len(piece.failed_on) < ATTEMPTS:
            self.again.append(piece)
        elif len(missing) > 1:
            for part in (missing[:half], missing[half:]):
                longer = [piece.longer[i] for i in part] if piece.longer else []
                self.again.append(Piece(piece.kind, [piece.members[i] for i in part], longer))
        elif missing:
            self.fail(piece, words)

    def reached(self, piece: Piece) -> float:
        """The steps that a piece's checkpoints, and what is stored of it, have reached."""
        fresh = [member for member in piece.members if member.key not in self.store]
        of_tracks = sum(size * step for size, step in plan.reached(fresh, self.store, self.first.device))
        return of_tracks + sum(member.steps for member in piece.members if member.key in self.store)

    def fail(self, piece: Piece, words: str) -> None:
        """Name a job that failed."""
        for member in piece.members:
            if member.key not in self.store:
                self.lost += len(self.children.pop(member.key, ()))
        first = next((member for member in piece.members if member.key not in self.store), piece.members[0])
        several = f" and {len(piece.members) - 1} more" if len(piece.members) > 1 else ""
        self.failures.append(f"{describe(first)}; {named(first)}{several} ({first.key[:SHORT]}): {words}")
        self.overview.failed += sum(member.key not in self.store for member in piece.members)
        self.say(f"failed: {self.failures[-1]}")


def _result(future: Any) -> dict[str, Any] | None:
    """What a job returned; None where its worker died before it was fetched: who does it again finds all stored."""
    from distributed import CancelledError, KilledWorker

    try:
        return future.result(timeout=_ANSWER)
    except (TimeoutError, CancelledError, KilledWorker):
        return None


def _words(heard: Mapping[str, Any]) -> str:
    """The last thing that a job's worker told."""
    if not heard:
        return "nothing"
    at = f", step {heard['step']:,} of {heard['steps']:,}" if heard["phase"] == "training" else ""
    return f"{heard['phase']}{at}, on {heard['worker']}"
