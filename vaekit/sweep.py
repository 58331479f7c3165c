"""From members to a table: which of them are known, train the missing ones as fleets, measure, commit.

A study hands over its members and its measures. What is known (in the store, or in `results/`) is taken as it is; the
rest is grouped into fleets, and each fleet is measured and committed before the next begins. While a fleet trains, its
state is kept now and then. So a sweep can be stopped anywhere and goes on from there, and a new beta trains itself
alone.
"""

import dataclasses
import functools
import gc
import importlib.util
import math
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vaekit import checkpoints, data, pruning, results, runs
from vaekit.checkpoints import Checkpoints
from vaekit.fleet import Budget, FleetMember, default_backend, memory, train_fleet, workers
from vaekit.fleet.stepping import Task, rehearse
from vaekit.losses import OBJECTIVES
from vaekit.metrics import mean_and_se
from vaekit.runs import Member, Run, Store, StoreError
from vaekit.settings import SettingsError

T = TypeVar("T")
_STACKED = 512  # members of a stacked fleet at the most, where memory holds as many


@dataclass(frozen=True)
class Value:
    """One measured number, in nats per image unless the measure says otherwise; `se` is its error over n images."""

    part: str
    measure: str
    arguments: str
    value: float
    se: float
    n: int

    @classmethod
    def mean(cls, part: str, measure: str, arguments: str, values: Tensor) -> "Value":
        """The mean of (n,) values, one an image, with its standard error."""
        return cls(part, measure, arguments, *mean_and_se(values), len(values))


@dataclass(frozen=True, eq=False)
class Examples:
    """The images that a member trains and is tested on, uint8 (n, C, H, W), and their numbers in the data set.

    Labels (n,) and factors (n, k) are the images', on the CPU; None where the set has none.
    """

    train: Tensor
    test: Tensor
    train_rows: Tensor
    test_rows: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    train_factors: Tensor | None = None
    test_factors: Tensor | None = None

    def parts(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """("train", its images, their numbers), then the same for "test"."""
        yield "train", self.train, self.train_rows
        yield "test", self.test, self.test_rows


@dataclass(frozen=True)
class Measure:
    """A family of values, and the version of the code that takes them.

    `take(model, member, step, examples)` yields the values of one snapshot, from a model in eval mode. On a machine
    that lacks one of the modules that it `needs`, it is left for later, to be taken from the weights that are stored.
    """

    name: str
    version: int
    take: Callable[[nn.Module, Member, int, Examples], Iterable[Value]]
    needs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def possible(self) -> bool:
        """Whether all that it needs is installed here."""
        return all(importlib.util.find_spec(module) for module in self.needs)


@dataclass(frozen=True)
class Pictures:
    """What a study shows of a trained member, and the version of the code that chooses and makes it.

    `take(model, member, step, examples)` gives uint8 pictures (rows, columns, C, H, W), a label for each row, from a
    model in eval mode; None where there is nothing to show.
    """

    version: int
    labels: tuple[str, ...]
    take: Callable[[nn.Module, Member, int, Examples], Tensor | None]


@dataclass(frozen=True)
class Design:
    """What a sweep needs to know of a study.

    `snapshots(member)` are the steps at which everything is measured, `kept(member)` those whose weights are stored.
    `axes` are the tidy table's columns that differ among the points of one figure (beside seed, data and n_train).
    `pictures` are made when a member is exported (see `vaekit.pictures`).
    """

    name: str
    measures: Sequence[Measure]
    snapshots: Callable[[Member], tuple[int, ...]]
    kept: Callable[[Member], tuple[int, ...]]
    axes: tuple[str, ...] = ("beta",)
    pictures: Pictures | None = None

    @property
    def versions(self) -> dict[str, int]:
        """Each measure's version by its name."""
        return {measure.name: measure.version for measure in self.measures}

    @property
    def possible(self) -> list[Measure]:
        """The measures that can be taken on this machine."""
        return [measure for measure in self.measures if measure.possible]

    def without(self, names: Iterable[str]) -> "Design":
        """The same study without these measures. Errors: SettingsError for a name that is none, or for all of them."""
        names = {*names}
        if unknown := sorted(names - self.versions.keys()):
            raise SettingsError(f"got the measure {unknown[0]!r}; {self.name} has {', '.join(self.versions)}")
        left = tuple(measure for measure in self.measures if measure.name not in names)
        if not left:
            raise SettingsError(f"got all measures of {self.name}; wanted one or more to be taken at once")
        return dataclasses.replace(self, measures=left)


@dataclass
class Plan:
    """What a sweep would do: members that are known, that lack a measure, and groups to train that can share a fleet.

    `unmeasured` have their weights in the store; `unmeasurable` are in `results/` without them, so that a new measure
    would need them trained again. `shorter` maps members to longer runs in the store that passed through them. `listed`
    are the study's tables in `results/`, read once.
    """

    known: list[Member] = field(default_factory=list)
    unmeasured: list[Member] = field(default_factory=list)
    shorter: dict[Member, Member] = field(default_factory=dict)
    unmeasurable: list[Member] = field(default_factory=list)
    groups: list[list[Member]] = field(default_factory=list)
    listed: results.Tables = field(default_factory=results.Tables)

    @property
    def missing(self) -> list[Member]:
        """The members to train."""
        return [member for group in self.groups for member in group]


def plan(design: Design, members: Iterable[Member], store: Store) -> Plan:
    """Sort members into what is known and what is missing. Errors: StoreError, ResultsError for damaged evidence.

    A derived member starts from its parent's weights: a parent that is known, but whose weights are not here, is
    missing where a child of it is. Errors: StoreError for a missing one whose parent is neither stored nor given.
    """
    listed = results.read(results.folder(design.name))
    found = Plan(listed=listed)
    asked = {member.key: member for member in runs.unique(members)}
    missing: dict[str, Member] = {}
    for key, member in asked.items():
        if key in store:
            done = all(store.measure(key, m.name, m.version) is not None for m in design.possible)
            (found.known if done else found.unmeasured).append(member)
        elif key in listed.members:
            row = listed.members[key]
            done = row["status"] == "diverged" or {*map(str, design.possible)} <= {*(row["measures"] or "").split()}
            (found.known if done else found.unmeasurable).append(member)
        elif longer := _longer(design, member, store, listed):
            found.shorter[member] = longer
        else:
            missing[key] = member
    for parent in dict.fromkeys(m.parent for m in missing.values() if m.parent):
        if parent not in asked and parent not in store:
            raise StoreError(f"a member is derived from run {parent[:12]}, which is not stored here: train that, too")
        if parent not in store:
            missing[parent] = asked[parent]
    found.known = [member for member in found.known if member.key not in missing]
    found.unmeasurable = [member for member in found.unmeasurable if member.key not in missing]
    groups: dict[tuple, list[Member]] = {}
    for member in (member for key, member in asked.items() if key in missing):
        alike = dataclasses.replace(member, seed=0, weights=(), parent="" if member.parent else None)
        groups.setdefault((alike, tuple(name for name, _ in member.weights)), []).append(member)
    found.groups = list(groups.values())
    return found


def check_images(todo: Plan) -> None:
    """Errors: DataError says of all sets and splits that members to train need which of them cannot be had."""
    problems = []
    needed = {(first.data, first.split, first.n_train) for first, *_ in todo.groups}
    for name, split, n_train in sorted(needed, key=str):
        try:
            data.load(name).split(split, n_train)
        except data.DataError as error:
            problems.append(str(error))
    if problems:
        raise data.DataError("\n".join(dict.fromkeys(problems)))


def run(
    design: Design,
    members: Iterable[Member],
    store: Store | None = None,
    device: str = "cpu",
    minutes: float | None = None,
    progress: bool | None = None,
    say: Callable[[str], None] = print,
) -> Plan:
    """Say what is missing, train it, measure it, store it; return the plan that was carried out.

    Derived members are trained as soon as their parents are there, so that a cut sweep leaves whole families. With
    `minutes`, no fleet is begun that would not end within them. Errors: StoreError before any training where the
    store cannot be written; DataError where a data set cannot be had.
    """
    store = store or runs.default_store()
    todo = plan(design, members, store)
    if not todo.missing and not todo.unmeasured and not todo.shorter:
        if todo.unmeasurable:
            say(report(design, todo, device, store, timed=False))
        return todo
    store.check_writable()
    check_images(todo)
    say(report(design, todo, device, store, timed=minutes is not None))
    for member, longer in todo.shorter.items():
        _cut(design, member, longer, store)
    for member in [*todo.unmeasured, *todo.shorter]:
        _measure_again(design, member, store, device)
    end = math.inf if minutes is None else time.monotonic() + 60 * minutes
    waiting = sorted(map(list, todo.groups), key=lambda group: group[0].parent is None)  # children first
    each = {id(group): 0.0 if minutes is None else _estimate(group[0], device) for group in waiting}
    while ready := next((found for group in waiting if (found := _ready(group, store))), None):
        group, able = ready
        begun = time.monotonic()
        size = fleet_size(device, each[id(group)], end - begun, room(able[0], device), len(able))
        fleet = able[: _begun_size(able[:size], store, device) or size]
        if not fleet:
            say(f"not begun, for want of time: {len(group)} members of {describe(group[0])}")
            waiting.remove(group)
            continue
        say(f"training {len(fleet)} of {len(group)} members: {describe(group[0])}")
        _train(design, fleet, store, device, progress, say)
        group[:] = [member for member in group if member not in fleet]
        # With its measures, which the estimate leaves out; less where it went on from a state.
        each[id(group)] = max(each[id(group)], (time.monotonic() - begun) / len(fleet))
    for group in filter(None, waiting):
        say(f"not begun, for want of their parents: {len(group)} members of {describe(group[0])}")
    return todo


def _begun_size(able: list[Member], store: Store, device: str) -> int:
    """How many of the first members a stack that was stopped held: it goes on in its own composition alone; 0: none.

    What is free of a card's memory, and the time that is left, are never the same twice, so neither is the size.
    """
    if default_backend(device) == "cores":
        return 0
    sizes = range(len(able), 0, -1)
    return next((n for n in sizes if checkpoints.has_state(store, able[:n], device, "stack")), 0)


def _ready(group: list[Member], store: Store) -> tuple[list[Member], list[Member]] | None:
    """The group and those of it that can be trained now; None where there are none."""
    able = [member for member in group if member.parent is None or member.parent in store]
    return (group, able) if able else None


def _estimate(member: Member, device: str) -> float:
    return member.steps * seconds_per_step(member, device)


def report(design: Design, todo: Plan, device: str, store: Store | None = None, timed: bool = True) -> str:
    """What a plan means: members known and missing, and the disk that the missing ones will take.

    If `timed`, also the time, by training a few steps of each kind first.
    """
    store = store or runs.default_store()
    lines = [
        f"{design.name}: {len(todo.known)} members known, {len(todo.unmeasured)} to be measured from their weights"
    ]
    if todo.shorter:
        lines.append(f"  {len(todo.shorter)} are snapshots of longer runs, to be measured")
    if todo.unmeasurable:
        what = f"{len(todo.unmeasurable)} are in results/ without a measure's newest version"
        lines.append(f"  {what}, and their weights are not here: it would need them trained again")
    minutes = space = 0.0
    for group in todo.groups:
        first = group[0]
        # A member a core: fewer than cores take as long as a full fleet.
        rounded = max(len(group), fleet_size(device)) if default_backend(device) == "cores" else len(group)
        takes = rounded * first.steps * seconds_per_step(first, device) / 60 if timed else 0.0
        fills = sum(bytes_per_run(design, member) for member in group) / 1e6
        begun = _begun_size(group[:_STACKED], store, device)
        if default_backend(device) == "cores":
            begun = sum(checkpoints.has_state(store, [one], device, "cores") for one in group)
        going = f" ({begun} of them have a checkpoint)" if begun else ""
        lasts = f"{_duration(takes)}, " if timed else ""
        lines.append(f"  {len(group)} to train{going}: {describe(first)}: {lasts}{fills:,.0f} MB")
        minutes, space = minutes + takes, space + fills
    if todo.groups:
        lasts = f"{_duration(minutes)} and measures, " if timed else ""
        lines.append(f"  {len(todo.missing)} in all: {lasts}{space:,.0f} MB")
    return "\n".join(lines)


def _duration(minutes: float) -> str:
    """A rough time for people: an estimate has two digits at the most."""
    if minutes < 1:
        return "under a minute"
    for unit, size in (("days", 1440), ("hours", 60)):
        if minutes >= 2 * size:
            return f"about {float(f'{minutes / size:.2g}'):,g} {unit}"
    return f"about {minutes:.0f} min"


def shard(members: Iterable[Member], number: int, of: int) -> list[Member]:
    """The members of part `number` (from 0) of `of`: the same part whoever asks, whatever else is asked for.

    A member's key decides; a derived one goes with the member that its family starts from.
    """
    family = {member.key: member for member in runs.unique(members)}

    def root(key: str) -> str:
        parent = family[key].parent if key in family else None
        return root(parent) if parent else key

    return [member for key, member in family.items() if int(root(key), 16) % of == number]


def tables(
    design: Design,
    store: Store | None = None,
    members: Iterable[Member] = (),
    alone: bool = False,
    listed: results.Tables | None = None,
) -> results.Tables:
    """All that is known of a study: what `results/` holds, what the store's runs of this study add, and `members`.

    With `alone`, the store adds no others than those. `listed` is what `results/` holds, if it was read already.
    """
    store = store or runs.default_store()
    asked = {member.key for member in members}
    mine = (key for key in store.keys() if not alone and store.record(key).get("study") == design.name)
    keys = sorted({*mine, *(key for key in asked if key in store)})
    listed = results.read(results.folder(design.name)) if listed is None else listed
    return listed.merged(results.from_store(store, design.versions, keys))


def describe(member: Member) -> str:
    """What the members of a fleet share, for people."""
    model = " ".join([member.model, *(f"{name} {value}" for name, value in member.model_args)])
    images = f"{member.n_train:,} images of {member.data}" if member.n_train else member.data
    arm = f", pruned ({member.arm})" if member.arm else ""
    return f"{model}{arm}, {images} ({member.split}), {member.steps:,} steps of {member.batch_size}, {member.precision}"


def seconds_per_step(member: Member, device: str) -> float:
    """Seconds of a model-step in a fleet that fills the device, from a short fleet on made images, timed once."""
    # Neither its images, but for their shape, nor the weights of its objective nor its arm are worth another timing.
    weights = {name: 1.0 for name, _ in member.weights}
    alike: dict = {"seed": 0, "steps": 40, "n_train": None, "n_test": None, "parent": None, "arm": None, "split": "own"}
    shape = data.image_shape(member.data)
    alike["data"] = next(name for name in data.NAMES if data.image_shape(name) == shape)
    return _seconds_per_step(dataclasses.replace(member, weights=weights, **alike), device)


@functools.lru_cache
def _seconds_per_step(member: Member, device: str) -> float:
    shape = (512, *data.image_shape(member.data))
    images = torch.arange(math.prod(shape)).remainder(251).to(torch.uint8).reshape(shape)
    labels = torch.arange(512).remainder(2)
    alike = [
        FleetMember(seed, dict(member.weights))
        for seed in range(fleet_size(device, room=min(64, room(member, device))))
    ]
    taken, steps = 0.0, 2  # the first two warm up, and say how many fit into two seconds
    for _ in range(2):
        steps = min(member.steps, max(2, int(2 * steps / taken))) if taken else steps
        begun = time.monotonic()
        budget = dataclasses.replace(budget_of(member), steps=steps, snapshots=())
        objective = OBJECTIVES[member.objective]
        how = {"budget": budget, "device": device, "backend": default_backend(device), "progress": False}
        train_fleet(member.build, objective, alike, images, labels, **how)
        taken = time.monotonic() - begun
    return taken / steps / len(alike)


def bytes_per_run(design: Design, member: Member) -> int:
    """What a stored run of this member takes on the disk, nearly all of it weights, with its last checkpoint."""
    size = sum(value.numel() * value.element_size() for value in member.build().state_dict().values())
    state = 0 if member.arm else 3 + len(design.snapshots(member))  # weights, two moments, and snapshots on the way
    return size * (len(design.kept(member)) + state)


def fleet_size(
    device: str, seconds_each: float = 0.0, seconds_left: float = math.inf, room: int = 64, waiting: int = 0
) -> int:
    """How many of the members that are `waiting` to train together; none where they would not end in time.

    A member a core, which takes as long for one as for all cores, so `seconds_each` is a core's share of that; of the
    last ones as many as are left, which take turns. Or a stack: `room` is how many it may hold, see `room`.
    """
    if default_backend(device) == "cores":
        size = torch.get_num_threads()
        if size < waiting < 2 * size and waiting * seconds_each <= seconds_left:
            return waiting
        return size if size * seconds_each <= seconds_left else 0
    size = min(room, _STACKED)
    if size * seconds_each <= seconds_left:
        return size
    return max(0, int(seconds_left / seconds_each))


def room(member: Member, device: str) -> int:
    """How many members like this one a stack on a device has memory for, by an estimate."""
    if default_backend(device) == "cores":
        return torch.get_num_threads()
    model = member.build()
    images = torch.zeros(2, *data.image_shape(member.data), dtype=torch.uint8)
    task = Task(
        member.build, OBJECTIVES[member.objective], images, torch.zeros(2, dtype=torch.int64), budget_of(member), None
    )
    activations = rehearse(model, task, FleetMember(member.seed, dict(member.weights)))
    return memory.members_at_once(model, activations, budget_of(member), device)


def budget_of(member: Member, snapshots: tuple[int, ...] = ()) -> Budget:
    """The budget that a member is trained with."""
    return Budget(member.steps, member.batch_size, member.lr, member.weight_decay, member.precision, snapshots)


@functools.lru_cache(maxsize=1)
def examples(name: str, split: str, n_train: int | None, n_test: int | None, device: str = "cpu") -> Examples:
    """The images of a member's data and split, on a device. Errors: DataError where they cannot be had."""
    images = data.load(name)
    parts = images.split(split, n_train)
    test = parts.test if n_test is None else parts.test[:n_test]
    known = [None if of is None else of[rows] for of in (images.labels, images.factors) for rows in (parts.train, test)]
    return Examples(images.take(parts.train).to(device), images.take(test).to(device), parts.train, test, *known)


def cached(maxsize: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """`functools.lru_cache` for what members of a fleet share, which are measured side by side.

    One thread computes at a time; another that asks for the same waits for it, and does not compute it again.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        known, lock = functools.lru_cache(maxsize)(function), threading.Lock()

        @functools.wraps(function)
        def ask(*arguments: Any) -> T:
            with lock:
                return known(*arguments)

        return ask

    return decorate


def log_spaced(steps: int, first: int = 100) -> tuple[int, ...]:
    """1, 2 and 5 times the powers of ten from `first`, below `steps`: the same steps in every longer run."""
    found = (mantissa * first * 10**power for power in range(8) for mantissa in (1, 2, 5))
    return tuple(step for step in found if step < steps)


def fifths(steps: int) -> tuple[int, ...]:
    """Fifths of a budget, the whole of it last (rule 4 of the claims reads it at 0.8 and at 1.0)."""
    return tuple(sorted({max(1, round(fifth * steps / 5)) for fifth in range(1, 6)}))


def hardware(device: str) -> str:
    """The processor that trains, for people."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{torch.get_num_threads()} threads of {name or platform.machine()}"


def _train(
    design: Design, fleet: list[Member], store: Store, device: str, progress: bool | None, say: Callable[[str], None]
) -> None:
    """Train, measure and commit one fleet; one that memory does not hold after all, as two."""
    first = fleet[0]
    starts = {member.key: _start(member, store) for member in fleet if member.parent}
    for member in [member for member in fleet if starts.get(member.key, {}) is None]:
        store.commit(Run(member, "diverged", "its parent diverged", {}, {}, {"study": design.name, "wall_time": 0.0}))
    fleet = [member for member in fleet if starts.get(member.key, {}) is not None]
    if not fleet:
        return
    images = examples(first.data, first.split, first.n_train, first.n_test, device)
    snapshots, backend = design.snapshots(first), default_backend(device)
    keeper = Checkpoints(store, fleet, [*snapshots, first.steps], device, backend, say)
    try:
        trained = train_fleet(
            first.build,
            OBJECTIVES[first.objective],
            [FleetMember(member.seed, dict(member.weights), start=starts.get(member.key)) for member in fleet],
            images.train,
            images.train_labels,
            budget=budget_of(first, snapshots),
            project=pruning.projection(first.build(), first.arm, first.steps) if first.arm else None,
            device=device,
            backend=backend,
            keeper=keeper,
            progress=progress,
        )
    except (RuntimeError, MemoryError) as error:
        if not memory.ran_out(error):
            raise
        if len(fleet) == 1:
            what = f"one member does not fit in the memory of {device}: {describe(first)} ({error})"
            raise StoreError(what) from error
        trained = None
    if trained is None:  # out here the error is gone, and the tensors that its frames held
        gc.collect()  # a process's first optimiser imports torch's compiler, in a cycle that holds the stack
        say(f"out of memory with {len(fleet)} members; they are trained as two fleets")
        half = math.ceil(len(fleet) / 2)
        for part in (fleet[:half], fleet[half:]):
            _train(design, part, store, device, progress, say)
        return
    seconds = [round(keeper.spent(i), 2) for i in range(len(fleet))]
    record = {
        "study": design.name,
        "hardware": hardware(device),
        "backend": trained.backend,
        "fleet": len(fleet),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit(),
    }

    def measure(i: int) -> dict[str, list[dict]]:
        found: dict[str, list[dict]] = {m.name: [] for m in design.possible}
        for step in sorted(trained[i].snapshots):
            model = trained.model(i, step).to(device)
            for m in design.possible:
                found[m.name] += _take(m, model, fleet[i], step, images)
        return found

    kept = set(design.kept(first))
    with workers(None if device == "cpu" else 1) as pool:
        taken = pool.map(measure, range(len(fleet)))
        for member, result, found, spent in zip(fleet, trained, taken, seconds, strict=True):
            # The run comes last: where it is there, so are its measures, those at steps that are not kept included.
            for m in design.possible:
                store.commit_measure(member.key, m.name, m.version, found[m.name])
            weights = {step: state for step, state in result.snapshots.items() if step in kept}
            store.commit(
                Run(member, result.status, result.reason, result.history, weights, record | {"wall_time": spent})
            )
    keeper.done()


def _longer(design: Design, member: Member, store: Store, listed: results.Tables) -> Member | None:
    """A longer run in the store that kept this member's last weights on its way, if there is one.

    It must keep them at that step, so few lengths can be meant: those of which it is a fifth or more, and those that
    the study is known to have. A member with an arm is none: its course depends on its length.
    """
    if member.arm:
        return None
    steps = {round(5 * member.steps / part) for part in range(1, 5)}
    steps |= {row["steps"] for row in listed.members.values()}
    for length in sorted(length for length in steps if length > member.steps):
        longer = dataclasses.replace(member, steps=length)
        passes = member.steps in design.kept(longer) and longer.key in store
        if passes and member.steps in runs.stored_steps(store.record(longer.key)):
            return longer
    return None


def _cut(design: Design, member: Member, longer: Member, store: Store) -> None:
    """Store a member as the beginning of a longer run: the same weights, history and record up to its last step."""
    source = store.record(longer.key)
    history = store.history(longer.key)
    upto = history["step"] <= member.steps if len(history) else torch.ones(0, dtype=torch.bool)
    kept = {*design.kept(member), member.steps} & {*runs.stored_steps(source)}
    record = {name: source[name] for name in ("study", "hardware", "backend", "fleet", "torch", "python", "commit")
              if name in source}  # fmt: skip
    record |= {"wall_time": round(source["wall_time"] * member.steps / longer.steps, 2), "beginning_of": longer.key}
    weights = {step: store.weights(longer.key, step) for step in kept}
    store.commit(Run(member, "finished", "", {n: v[upto] for n, v in history.items()}, weights, record))


def _start(member: Member, store: Store) -> dict[str, Tensor] | None:
    """What a derived member starts from: its parent's last weights, as far as it has them; None if that diverged."""
    assert member.parent is not None  # asked for derived members alone
    record = store.record(member.parent)
    if record["status"] == "diverged":
        return None
    weights = store.weights(member.parent, max(runs.stored_steps(record)))
    fresh = member.build().state_dict()
    if lacking := [name for name in fresh if name not in weights and not name.endswith("_mask")]:
        raise StoreError(f"run {member.parent[:12]} lacks what its derived member has: {', '.join(lacking)}")
    return {**fresh, **{name: value for name, value in weights.items() if name in fresh}}


def _measure_again(design: Design, member: Member, store: Store, device: str) -> None:
    """Take the measures that a stored run lacks, at the steps whose weights are there."""
    images = examples(member.data, member.split, member.n_train, member.n_test, device)
    steps = runs.stored_steps(store.record(member.key))
    for measure in design.possible:
        if store.measure(member.key, measure.name, measure.version) is None:
            found = []
            for step in steps:
                found += _take(measure, runs.load(member.key, step, store).to(device), member, step, images)
            store.commit_measure(member.key, measure.name, measure.version, found)


def _take(measure: Measure, model: nn.Module, member: Member, step: int, images: Examples) -> list[dict]:
    return [{"step": step, **dataclasses.asdict(value)} for value in measure.take(model, member, step, images)]


def commit() -> str | None:
    """The checkout's git commit, for the record; None outside a checkout."""
    try:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=runs.CHECKOUT, capture_output=True, text=True)
    except OSError:
        return None
    return found.stdout.strip()[:12] if found.returncode == 0 else None
