"""Carrying out a plan: train, measure and commit, fleet by fleet."""

import dataclasses
import gc
import math
import platform
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from typing import Any

import torch
from torch import Tensor, nn

from vaekit import provenance, pruning
from vaekit.fleet import Fleet, FleetMember, Stopped, default_backend, memory, train_fleet, workers
from vaekit.fleet.progress import Tell, shown
from vaekit.losses import OBJECTIVES
from vaekit.store import SHORT, Member, Run, Store, StoreError, default_store, describe, load
from vaekit.store.checkpoints import Checkpoints
from vaekit.sweep import plan, speed
from vaekit.sweep.course import Course
from vaekit.sweep.plan import Plan
from vaekit.sweep.study import Examples, Measure, StudySpec, examples_of

Say = Callable[[str], None]
_LOOK = 0.5  # seconds between two looks at measures that are being taken


def run(
    spec: StudySpec,
    members: Iterable[Member],
    store: Store | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    progress: Tell | bool | None = None,
    say: Say = print,
    stop: Callable[[], bool] | None = None,
) -> Plan:
    """Say what is missing, train it, measure it, store it; return the plan that was carried out.

    Derived members are trained as soon as their parents are there, so that a cut sweep leaves whole families. After so
    many `minutes` the fleet that trains is saved and ended, and nothing more is begun; measures that were begun are
    taken. `progress` and `stop` are as in `train_fleet`, for the sweep as a whole; a `Progress` then has the store's
    members.

    Raises:
        StoreError: What is missing could not be stored, or what is stored may not be read; before any training.
        DataError: A data set cannot be had; before any training.
        Stopped: It was interrupted, or `stop` said so; what was trained is kept, and the same call goes on from there.
    """
    store = store or default_store()
    todo = prepare(spec, members, store, device, say)
    if not is_work(todo):
        return todo
    with shown(progress, say) as (tell, say_between):
        seen = speed.observed(store, todo.listed, device, spec)
        course = Course(todo, tell, stop, math.inf if minutes is None else 60 * minutes, seen)
        try:
            carry_out(spec, todo, store, device, course, say_between, say_between)
        except KeyboardInterrupt:
            raise Stopped(course.share) from None
    return todo


def prepare(spec: StudySpec, members: Iterable[Member], store: Store, device: str, say: Say) -> Plan:
    """Plan a sweep and say what is missing, where it can be had and stored. Raises StoreError, DataError."""
    store.clear_staging()
    todo = plan.plan_sweep(spec, members, store)
    if is_work(todo):
        plan.check_storable(spec, todo, store, device)
        plan.check_images(todo)
    if is_work(todo) or todo.unmeasurable:
        say(plan.report(spec, todo, device, store, timed=False))
    return todo


def is_work(todo: Plan) -> bool:
    """Whether a plan has anything to carry out."""
    return bool(todo.groups or todo.unmeasured or todo.shorter)


def carry_out(spec: StudySpec, todo: Plan, store: Store, device: str, course: Course, say: Say, say_fleet: Say) -> None:
    """Do what a plan says, until its time is over; `say_fleet` is told of each fleet that begins.

    Raises: Stopped where somebody says to stop.
    """
    for member, longer in todo.shorter.items():
        _cut(spec, member, longer, store)
    for member in [*todo.unmeasured, *todo.shorter]:
        if not course.is_over():
            course.begins([member])
            _measure_again(spec, member, store, device, course)
    waiting = sorted(map(list, todo.groups), key=lambda group: group[0].parent is None)  # children first
    while ready := next(((group, able) for group in waiting if (able := _able(group, store))), None):
        group, able = ready
        size = plan.fleet_size(device, plan.capacity(able[0], device), len(able))
        stopped = plan.begun_members(able[:size], store, device) if default_backend(device) == "stack" else 0
        fleet = able[: stopped or size]
        try:
            if course.is_over():
                raise Stopped(course.share)
            say_fleet(f"training {len(fleet)} of {len(group)} members: {describe(group[0])}")
            _train(spec, fleet, store, device, course, say)
        except Stopped:
            if course.is_asked() or not course.is_over():
                raise
            say(f"the minutes are over at {100 * course.share:.0f} %: kept; the same command goes on from there")
            return
        taken = set(map(id, fleet))  # to compare thousands of members with it field by field takes long
        group[:] = [member for member in group if id(member) not in taken]


def _able(group: list[Member], store: Store) -> list[Member]:
    """Those of a group that can be trained now."""
    return [member for member in group if member.parent is None or member.parent in store]


def _train(spec: StudySpec, members: list[Member], store: Store, device: str, course: Course, say: Say) -> None:
    """Train, measure and commit one fleet; one that memory does not hold after all, as two."""
    course.begins(members)
    starts = {member.key: _start(member, store) for member in members if member.parent}
    orphans = {key for key, start in starts.items() if start is None}
    for member in (member for member in members if member.key in orphans):
        store.commit(Run(member, "diverged", "its parent diverged", {}, {}, {"study": spec.name, "wall_time": 0.0}))
        course.stored(member)
    members = [member for member in members if member.key not in orphans]
    if not members:
        return
    first, backend = members[0], default_backend(device)
    images, snapshots = examples_of(first, device), spec.measured_steps(first)
    tracks = [[member] for member in members] if backend == "cores" else [members]
    asked = [*snapshots, first.steps]
    savers = [Checkpoints(store, track, asked, device, backend, len(members), say) for track in tracks]
    try:
        fleet = train_fleet(
            first.build,
            OBJECTIVES[first.objective],
            [FleetMember(member.seed, dict(member.weights), start=starts.get(member.key)) for member in members],
            images.train,
            images.train_labels,
            budget=plan.budget_of(first, snapshots),
            project=pruning.projection(first.build(), first.arm, first.steps) if first.arm else None,
            device=device,
            backend=backend,
            checkpointers=savers,
            progress=course.trains,
            stop=lambda: course.is_asked() or course.is_over(),
        )
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        if len(members) == 1:
            what = f"one member does not fit in the memory of {device}: {describe(first)} ({error})"
            raise StoreError(what) from error
        fleet = None
    if fleet is None:  # out here the error is gone, and the tensors that its frames held
        gc.collect()  # a process's first optimiser imports torch's compiler, in a cycle that holds the stack
        say(f"out of memory with {len(members)} members; they are trained as two fleets")
        half = math.ceil(len(members) / 2)
        for part in (members[:half], members[half:]):
            _train(spec, part, store, device, course, say)
        return
    seconds = [round(savers[i if backend == "cores" else 0].seconds, 2) for i in range(len(members))]
    _commit(spec, members, fleet, seconds, images, store, device, course)
    for saver in savers:
        saver.done()


def _commit(
    spec: StudySpec,
    members: list[Member],
    fleet: Fleet,
    seconds: list[float],
    images: Examples,
    store: Store,
    device: str,
    course: Course,
) -> None:
    """Measure and store the members of a trained fleet, side by side."""
    record = {
        "study": spec.name,
        "hardware": provenance.hardware(device),
        "backend": fleet.backend,
        "fleet": len(members),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": provenance.commit(),
    }

    def take(i: int, step: int) -> dict[str, tuple[list[dict], float]]:
        """By the names of a step's measures what they took, and in how many seconds."""
        taken = {}
        if (measures := spec.measures_at(step, members[i])) and not stopped.is_set():
            model = fleet.model(i, step).to(device)
            for measure in measures:
                begun = time.monotonic()
                values = _take(measure, model, members[i], step, images)
                taken[measure.name] = values, time.monotonic() - begun
        return taken

    saved, stopped = {*spec.saved_steps(members[0])}, threading.Event()
    with workers(None if device == "cpu" else 1) as pool:
        # Step by step, so that a member that is alone has all cores, too.
        taken = [[pool.submit(take, i, step) for step in sorted(one.snapshots)] for i, one in enumerate(fleet)]
        for member, trained, of_steps, spent in zip(members, fleet, taken, seconds, strict=True):
            try:
                course.measures()
                while wait(of_steps, _LOOK).not_done:
                    course.measures()
            except BaseException:
                stopped.set()  # the others end with the step at hand
                raise
            results = [one.result() for one in of_steps]
            # The run comes last: where it is there, so are its measures, those at steps that are not saved included.
            measuring = {}
            for measure in spec.measures:
                of_measure = [result[measure.name] for result in results if measure.name in result]
                rows = [row for values, _ in of_measure for row in values]
                store.commit_measure(member.key, measure.name, measure.version, rows)
                measuring[measure.name] = round(sum(took for _, took in of_measure), 2)
            weights = {step: state for step, state in trained.snapshots.items() if step in saved}
            own = record | {"wall_time": spent, "measure_seconds": measuring}
            store.commit(Run(member, trained.status, trained.reason, trained.history, weights, own))
            course.stored(member, sum(measuring.values()))


def _cut(spec: StudySpec, member: Member, longer: Member, store: Store) -> None:
    """Store a member as the beginning of a longer run: the same weights, history and record up to its last step."""
    source, history = store.record(longer.key), store.history(longer.key)
    upto = history["step"] <= member.steps if len(history) else torch.ones(0, dtype=torch.bool)
    steps = {*spec.saved_steps(member), member.steps} & {*store.steps(longer.key)}
    same = ("study", "hardware", "backend", "fleet", "torch", "python", "commit")
    record: dict[str, Any] = {name: source[name] for name in same if name in source}
    record |= {"wall_time": round(source["wall_time"] * member.steps / longer.steps, 2), "beginning_of": longer.key}
    weights = {step: store.weights(longer.key, step) for step in steps}
    store.commit(Run(member, "finished", "", {n: v[upto] for n, v in history.items()}, weights, record))


def _start(member: Member, store: Store) -> dict[str, Tensor] | None:
    """What a derived member starts from: its parent's last weights, as far as it has them; None if that diverged."""
    assert member.parent is not None  # asked for derived members alone
    if store.record(member.parent)["status"] == "diverged":
        return None
    weights = store.weights(member.parent, max(store.steps(member.parent)))
    fresh = member.build().state_dict()
    if lacking := [name for name in fresh if name not in weights and not name.endswith("_mask")]:
        raise StoreError(f"run {member.parent[:SHORT]} lacks what its derived member has: {', '.join(lacking)}")
    return {**fresh, **{name: value for name, value in weights.items() if name in fresh}}


def _measure_again(spec: StudySpec, member: Member, store: Store, device: str, course: Course) -> None:
    """Take the measures that a stored run lacks, at the steps whose weights are there."""
    images, steps = examples_of(member, device), store.steps(member.key)
    for measure in spec.measures:
        if store.measure_columns(member.key, measure.name, measure.version) is None:
            values = []
            for step in steps:
                course.measures()
                if measure in spec.measures_at(step, member):
                    values += _take(measure, load(member.key, step, store).to(device), member, step, images)
            store.commit_measure(member.key, measure.name, measure.version, values)
    course.stored(member)


def _take(measure: Measure, model: nn.Module, member: Member, step: int, images: Examples) -> list[dict]:
    return [{"step": step, **dataclasses.asdict(value)} for value in measure.take(model, member, step, images)]
