"""What a sweep would do: which members are known, which are missing, and what training those takes."""

import dataclasses
import functools
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch

from vaekit import data
from vaekit.fleet import Budget, FleetMember, default_backend, device_problem, memory
from vaekit.fleet.progress import duration
from vaekit.fleet.stepping import Task
from vaekit.fleet.trial import tried
from vaekit.losses import OBJECTIVES
from vaekit.store import (
    SHORT,
    Member,
    Store,
    StoreError,
    Tables,
    UnreadableError,
    checkpoints,
    default_store,
    describe,
    files,
    results,
    unique,
)
from vaekit.sweep import speed
from vaekit.sweep.study import StudySpec

LARGEST_STACK = 512  # members of a stacked fleet at the most, where memory holds as many


@dataclass
class Plan:
    """What a sweep would do: members that are known, that lack a measure, and groups to train that can share a fleet.

    Attributes:
        known: nothing is to be done for them.
        unmeasured: their weights are in the store.
        shorter: longer runs in the store that passed through a member.
        unmeasurable: in `results/` without their weights, so that a new measure would need them trained again.
        groups: members to train, by what a fleet shares.
        listed: the study's tables in `results/`, read once.
    """

    known: list[Member] = field(default_factory=list)
    unmeasured: list[Member] = field(default_factory=list)
    shorter: dict[Member, Member] = field(default_factory=dict)
    unmeasurable: list[Member] = field(default_factory=list)
    groups: list[list[Member]] = field(default_factory=list)
    listed: Tables = field(default_factory=Tables)

    @property
    def missing(self) -> list[Member]:
        """The members to train."""
        return [member for group in self.groups for member in group]

    @property
    def again(self) -> list[Member]:
        """Those members to train that `results/` knows, without the weights that others are derived from."""
        return [member for member in self.missing if member.key in self.listed.members]


def plan_sweep(spec: StudySpec, members: Iterable[Member], store: Store) -> Plan:
    """Sort members into what is known and what is missing.

    A derived member starts from its parent's weights: a parent that is known, but whose weights are not here, is
    missing where a child of it is.

    Raises:
        StoreError: Evidence is damaged, or the parent of a missing member is neither stored nor given.
    """
    result = Plan(listed=results.read(results.folder(spec.name)))
    listed, stored = result.listed.members, {*store.keys()}
    asked = {member.key: member for member in unique(members)}
    versions = set(map(str, spec.measures))
    lengths = {row["steps"] for row in listed.values()}
    missing: dict[str, Member] = {}
    for key, member in asked.items():
        if key in stored:
            done = all(store.measure_columns(key, m.name, m.version) is not None for m in spec.measures)
            (result.known if done else result.unmeasured).append(member)
        elif row := listed.get(key):
            done = row["status"] == "diverged" or versions <= {*(row["measures"] or "").split()}
            (result.known if done else result.unmeasurable).append(member)
        elif longer := _longer(spec, member, store, stored, lengths):
            result.shorter[member] = longer
        else:
            missing[key] = member
    here = stored | {member.key for member in result.shorter}
    children = [member for member in missing.values() if member.parent]
    while children:
        parent = children.pop().parent
        if not parent or parent in here or parent in missing:
            continue
        if parent not in asked:
            raise StoreError(
                f"a member is derived from run {parent[:SHORT]}, which is not stored here: train that, too"
            )
        missing[parent] = asked[parent]
        children.append(asked[parent])
    result.known = [member for member in result.known if member.key not in missing]
    result.unmeasurable = [member for member in result.unmeasurable if member.key not in missing]
    groups: dict[tuple, list[Member]] = {}
    for member in (member for key, member in asked.items() if key in missing):
        groups.setdefault((_alike(member), tuple(name for name, _ in member.weights)), []).append(member)
    result.groups = list(groups.values())
    return result


def _alike(member: Member) -> Member:
    """What members that can share a fleet have in common, but for the names of their weights."""
    return dataclasses.replace(member, seed=0, weights=(), parent="" if member.parent else None)


def _longer(spec: StudySpec, member: Member, store: Store, stored: set[str], lengths: set[int]) -> Member | None:
    """A longer run in the store that saved this member's last weights on its way, if there is one.

    It must save them at that step, so few lengths can be meant: those of which it is a fifth or more, and those that
    the study is known to have. A member with an arm is none: its course depends on its length.
    """
    if member.arm or not stored:
        return None
    fifths = {round(5 * member.steps / part) for part in range(1, 5)}
    for length in sorted(length for length in fifths | lengths if length > member.steps):
        longer = dataclasses.replace(member, steps=length)
        if longer.key in stored and member.steps in {*spec.saved_steps(longer)} & {*store.steps(longer.key)}:
            return longer
    return None


def check_readable(spec: StudySpec, plan: Plan, store: Store, device: str) -> list[Path]:
    """The folders that are there of what is missing. Raises StoreError where what is there of it may not be read."""
    folders, backend = [], default_backend(device)
    for group in plan.groups:
        folders += checkpoints.stored(store, group if backend == "cores" else group[:LARGEST_STACK], device, backend)
    members = [*plan.missing, *plan.unmeasured, *plan.shorter]
    for member in members:
        for measure in spec.measures:
            try:
                store.measure_columns(member.key, measure.name, measure.version)
            except UnreadableError:
                raise
            except StoreError:
                continue  # a damaged one is replaced
    for member in plan.unmeasured:
        store.record(member.key)
    return [*folders, *filter(files.exists, (store.measures_folder(member.key) for member in members))]


def check_storable(spec: StudySpec, plan: Plan, store: Store, device: str) -> None:
    """Raise StoreError where what is missing could not be stored, or what is there of it may not be read."""
    folders = check_readable(spec, plan, store, device)
    _check_space(spec, plan, store, device)
    store.check_writable(folders)


def _check_space(spec: StudySpec, plan: Plan, store: Store, device: str) -> None:
    """Raise StoreError where not even the largest of the members that begin anew fits into what is free."""
    fresh = [group[0] for group in plan.groups if not begun_members(group, store, device)]
    if not fresh:
        return
    largest = max(fresh, key=lambda member: bytes_per_run(spec, member))
    whole, run = (bytes_per_run(spec, largest, checkpoint) for checkpoint in (True, False))
    shelves = (store.root / "runs", store.root / "work")
    runs, work = (next(at for at in (shelf, *shelf.parents) if files.exists(at)) for shelf in shelves)
    apart = os.stat(runs).st_dev != os.stat(work).st_dev
    for folder, size in ((runs, run), (work, whole - run)) if apart else ((runs, whole),):
        if size > (free := shutil.disk_usage(folder).free):
            raise StoreError(
                f"the disk of {folder} has no room to train: {describe(largest)} takes {size / 1e6:,.3f} MB, and "
                f"{free / 1e6:,.3f} MB are free; make room, or set VAEKIT_RUNS to a folder on another disk"
            )


def check_images(plan: Plan) -> None:
    """Raise DataError with all sets and splits that members to train need and that cannot be had."""
    problems = []
    needed = {(first.data, first.split, first.n_train) for first, *_ in plan.groups}
    for name, split, n_train in sorted(needed, key=str):
        try:
            data.load(name).split(split, n_train)
        except data.DataError as error:
            problems.append(str(error))
    if problems:
        raise data.DataError("\n".join(dict.fromkeys(problems)))


def shard(members: Iterable[Member], number: int, of: int) -> list[Member]:
    """The members of part `number` (from 0) of `of`: the same part whoever asks, whatever else is asked for.

    A member's key decides; a derived one goes with the member that its family starts from.
    """
    family = {member.key: member for member in unique(members)}

    def root(key: str) -> str:
        parent = family[key].parent if key in family else None
        return root(parent) if parent else key

    return [member for key, member in family.items() if int(root(key), 16) % of == number]


def tables(
    spec: StudySpec,
    store: Store | None = None,
    members: Iterable[Member] = (),
    alone: bool = False,
    listed: Tables | None = None,
) -> Tables:
    """All that is known of a study: what `results/` holds, what the store's runs of this study add, and `members`.

    With `alone`, the store adds no others than those. `listed` is what `results/` holds, if it was read already.
    """
    store = store or default_store()
    asked = {member.key for member in members}
    own = (key for key in store.keys() if not alone and store.record(key).get("study") == spec.name)
    keys = sorted({*own, *(key for key in asked if key in store)})
    listed = results.read(results.folder(spec.name)) if listed is None else listed
    return listed.merged(results.from_store(store, spec.versions, keys))


# What it takes --------------------------------------------------------------------------------------------------------


def report(spec: StudySpec, plan: Plan, device: str, store: Store | None = None, timed: bool = True) -> str:
    """What a plan means: members known and missing, and the disk that the missing ones will take.

    If `timed`, also the time: as stored runs on this hardware took, else by training and measuring a little of each
    kind first, as far as that takes no more than about a minute, and of others as like ones take. For a card that is
    not in this machine it is said only where stored runs tell.
    """
    store = store or default_store()
    took = seconds_of(spec, plan, store, device) if timed else []
    lines = [f"{spec.name}: {len(plan.known)} members known, {len(plan.unmeasured)} to be measured from their weights"]
    if plan.shorter:
        lines.append(f"  {len(plan.shorter)} are snapshots of longer runs, to be measured")
    if plan.unmeasurable:
        what = f"{len(plan.unmeasurable)} are in results/ without one of the measures as it is now taken"
        lines.append(f"  {what}; their weights are not here, so they stand as they are")
    training, measuring, megabytes, unknown = 0.0, 0.0, 0.0, 0
    for i, group in enumerate(plan.groups):
        fills = sum(bytes_per_run(spec, member) for member in group) / 1e6
        begun = begun_members(group, store, device)
        going = f" ({begun} of them have a checkpoint)" if begun else ""
        lasts = ""
        if timed:
            trains, measures, how = took[i]
            lasts = f"{roughly(trains + measures)} ({how}), " if trains else "time not known, "
            training, measuring, unknown = training + trains, measuring + measures, unknown + (not trains)
        lines.append(f"  {len(group)} to train{going}: {describe(group[0])}: {lasts}{fills:,.0f} MB")
        megabytes += fills
    if plan.groups:
        lasts = f"{roughly(training + measuring)}, measures {roughly(measuring)} of it, " if timed else ""
        if unknown:
            lasts = "" if unknown == len(plan.groups) else f"{lasts}without those whose time is not known, "
        lines.append(f"  {len(plan.missing)} in all: {lasts}{megabytes:,.0f} MB")
    if again := len(plan.again):
        known = "is in results/, and is" if again == 1 else "are in results/, and are"
        lines.append(f"  {again} of them {known} trained again, for the weights that derived members start from")
    return "\n".join(lines)


def seconds_of(spec: StudySpec, plan: Plan, store: Store, device: str) -> list[tuple[float, float, str]]:
    """Of each group of a plan the seconds to train it and to measure it, and how they are known."""
    seen = speed.observed(store, plan.listed, device, spec)
    timings = speed.Timings(
        lambda member: seconds_per_step(member, device), lambda member: speed.timed_measures(spec, member, device)
    )
    took = {i: _seconds(plan.groups[i], store, device, seen, timings) for i in speed.timing_order(plan.groups)}
    return [took[i] for i in range(len(plan.groups))]


def _seconds(
    group: list[Member], store: Store, device: str, seen: speed.Observed, timings: speed.Timings
) -> tuple[float, float, str]:
    """Seconds to train a group, less what its checkpoints have, and to measure it; and how that is known.

    0 where it is not: of a card that is not here, or, of measures, without the images.
    """
    first, cores, absent = group[0], default_backend(device) == "cores", device_problem(device) is not None
    seconds_each, how = seen.seconds_per_step(first, rough=absent), "as stored runs took"
    if seconds_each is None:
        seconds_each, like = (0.0, False) if absent else timings.seconds_per_step(first)
        how = "by a like one" if like else "as timed now"
    # A member a core: fewer than cores take as long as a full fleet.
    steps = (max(len(group), fleet_size(device)) if cores else len(group)) * first.steps
    steps -= sum(size * step for size, step in reached(group, store, device))
    measures = seen.seconds_of_measures(first, len(group))
    if measures is None:
        with suppress(data.DataError):
            each, like = (0.0, False) if absent else timings.seconds_of_measures(first)
            measures = each * len(group) / min(seen.at_once, len(group))
            how += ", measures by a like one" * (like and how != "by a like one")
    return seconds_each * steps, measures or 0.0, how


def reached(members: list[Member], store: Store, device: str) -> list[tuple[int, int]]:
    """How many members each track holds that a group can go on with, and its step: of *cores* a member's, or a stack's.

    A stack that was stopped goes on in its own composition alone. What is free of a card's memory, and the time that is
    left, are never the same twice, so neither is the size that a stack would have.
    """
    backend = default_backend(device)
    teams = [[member] for member in members] if backend == "cores" else [members[:LARGEST_STACK]] * bool(members)
    return [checkpoints.reached(store, team, device, backend) for team in teams]


def begun_members(members: list[Member], store: Store, device: str) -> int:
    """How many of a group have a checkpoint."""
    return sum(size for size, _ in reached(members, store, device))


def bytes_per_run(spec: StudySpec, member: Member, checkpoint: bool = True) -> int:
    """What a stored run of this member takes on the disk, nearly all of it weights; with its last checkpoint, if so."""
    size = _bytes_of_weights(_alike(member))
    # Of a checkpoint weights, two moments, and snapshots on the way; an arm keeps none.
    state = 3 + len(spec.measured_steps(member)) if checkpoint and not member.arm else 0
    return size * (len(spec.saved_steps(member)) + state)


@functools.lru_cache
def _bytes_of_weights(member: Member) -> int:
    return sum(value.nbytes for value in member.build().state_dict().values())


def seconds_per_step(member: Member, device: str) -> float:
    """Seconds of a model step in a fleet that fills the device, timed on made images, once for each kind of member."""
    size = fleet_size(device, capacity=min(64, capacity(member, device)))
    return speed.timed_step(speed.kind(member), size, device)


def fleet_size(device: str, capacity: int = 64, waiting: int = 0) -> int:
    """How many of the members that are `waiting` to train together.

    A member a core, and of the last ones as many as are left, which take turns; or a stack, of as many as its
    `capacity`.
    """
    if default_backend(device) == "cores":
        size = torch.get_num_threads()
        return waiting if size < waiting < 2 * size else size
    return min(capacity, LARGEST_STACK)


def capacity(member: Member, device: str) -> int:
    """How many members like this one a device steps at once: a CPU one a core, a stack what memory holds."""
    if default_backend(device) == "cores":
        return torch.get_num_threads()
    budget, objective = budget_of(member), OBJECTIVES[member.objective]
    images = torch.zeros(2, *data.image_shape(member.data), dtype=torch.uint8)
    task = Task(member.build, objective, images, torch.zeros(2, dtype=torch.int64), budget, None)
    model, activations = tried(task, [FleetMember(member.seed, dict(member.weights))])
    return memory.members_at_once(model, activations, budget, device)


def budget_of(member: Member, snapshots: tuple[int, ...] = ()) -> Budget:
    """The budget that a member is trained with."""
    own = member.lr, member.weight_decay, member.precision
    return Budget(member.steps, member.batch_size, *own, snapshots, member.period)


def roughly(seconds: float) -> str:
    """An estimated time in words; of what takes less than a minute, that alone."""
    return f"about {duration(seconds)}" if seconds >= 60 else duration(seconds)
