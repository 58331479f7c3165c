"""How long members take to train and to measure: as runs on this hardware took, else timed on a small part."""

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from vaekit import data, provenance
from vaekit.fleet import (
    Budget,
    FleetMember,
    Progress,
    Stopped,
    default_backend,
    device_problem,
    new_model,
    train_fleet,
    workers,
)
from vaekit.losses import OBJECTIVES
from vaekit.store import Member, Store, StoreError, Tables
from vaekit.store.member import member_of
from vaekit.sweep.study import Examples, Measure, StudySpec, examples_of

WINDOWS = 3  # in which steps are timed; their median counts
_WINDOW, _LONGEST = 1.0, 10.0  # seconds of one at the least, and of all of them at the most
_PATIENCE = 10.0  # seconds of all measures of a member after which each is timed in a hurry
_ALTOGETHER = 45.0  # seconds of all timings of a plan after which no other is begun, as far as like ones are known
_SHORT = 10.0  # seconds of a run that may have gone into its start
_PART, _LEAST = 1 / 256, 16  # of the images on which measures are timed, at first
_SQUARES = 1.25  # the power of the number of images from which on a measure is more than linear in it
_ENOUGH, _LONG = 1.0, 8.0  # seconds of a measure after which no larger part is taken, and it is not repeated
_HURRY = 1 / 4  # of these


@dataclass
class Observed:
    """What stored runs took on a device: seconds of a model step where the device is full, and of a member's measures.

    Attributes:
        steps: (how many, seconds of each) by what a member's speed depends on, see `kind`.
        measures: by that, the data and the budget.
        at_once: members that are measured side by side.
    """

    steps: dict[Member, list[tuple[int, float]]] = field(default_factory=dict)
    measures: dict[tuple, list[float]] = field(default_factory=dict)
    at_once: int = 1

    def seconds_per_step(self, member: Member, rough: bool = False) -> float | None:
        """As its like of the nearest number of steps took; None where none was seen.

        Short runs, whose time may have gone into their start, tell nothing of far longer ones, unless `rough`.
        """
        seen = [
            (steps, seconds)
            for steps, seconds in self.steps.get(kind(member), ())
            if rough or steps * seconds >= _SHORT or 2 * steps >= member.steps
        ]
        nearest = min((steps for steps, _ in seen), key=lambda steps: abs(math.log(steps / member.steps)), default=0)
        return _undisturbed(seconds for steps, seconds in seen if steps == nearest)

    def seconds_of_measures(self, member: Member, count: int = 1) -> float | None:
        """Of so many members, on all cores or on the card; None where none was seen."""
        each = _undisturbed(self.measures.get(_budget(member), ()))
        return None if each is None else each * count / min(self.at_once, count)

    def add_measures(self, member: Member, seconds: float) -> None:
        """One more member was measured."""
        self.measures.setdefault(_budget(member), []).append(seconds)


def _undisturbed(seconds: Iterable[float]) -> float | None:
    """The lower quartile: other work on a machine only ever adds to a time."""
    ordered = sorted(seconds)
    return ordered[(len(ordered) - 1) // 4] if ordered else None


def observed(store: Store, listed: Tables, device: str, spec: StudySpec | None = None) -> Observed:
    """What the runs of a store took on this hardware; of kinds that are not there, the steps of those of `results/`.

    Of a card that is not in this machine those on any card. Damaged runs are left out, and on *cores* those that do not
    say how many shared the machine. Measures are those of `spec`, of runs that took all of them; without it, all that
    a run took.
    """
    absent = device_problem(device) is not None
    here = None if absent else provenance.hardware(device)
    stored, exported = Observed(), Observed()
    for seen, rows in ((stored, _records(store)), (exported, _rows(listed))):
        for member, row in rows:
            hardware, took = str(row.get("hardware")), row.get("wall_time") or 0.0
            fits = row.get("backend") == default_backend(device) == "stack" if absent else hardware == here
            on_cores = default_backend(device) == "cores"
            if not fits or row.get("status") != "finished" or not took or (on_cores and not row.get("fleet")):
                continue
            # A member's share of what its fleet took; of a fleet smaller than the machine, more than in a full one.
            full = min(1.0, row["fleet"] / torch.get_num_threads()) if on_cores else 1.0
            seen.steps.setdefault(kind(member), []).append((member.steps, took * full / member.steps))
            took_by = row.get("measure_seconds") or {}  # older records have one number of all: no saying of which
            wanted = spec.versions.keys() if spec else took_by.keys()
            if took_by and wanted <= took_by.keys():
                seen.add_measures(member, sum(took_by[name] for name in wanted))
    at_once = torch.get_num_threads() if device == "cpu" else 1
    return Observed(exported.steps | stored.steps, stored.measures, at_once)


def _records(store: Store) -> Iterator[tuple[Member, Mapping[str, Any]]]:
    for key in store.keys():
        try:
            record = store.record(key)
            yield member_of(record["member"]), record
        except StoreError:
            continue


def _rows(listed: Tables) -> Iterator[tuple[Member, Mapping[str, Any]]]:
    return ((listed.member(key), row) for key, row in listed.members.items())


@functools.cache
def kind(member: Member) -> Member:
    """A member's like, as far as the speed of its training goes: its images count by their shape alone."""
    # Neither the weights of its objective nor its arm, its noise or the number of its images are worth another timing.
    alike: dict = dict.fromkeys(("n_train", "n_test", "parent", "arm", "noise"))
    alike |= {"seed": 0, "steps": 1, "split": "own"}
    shape = data.image_shape(member.data)
    alike["data"] = next(name for name in data.NAMES if data.image_shape(name) == shape)
    return dataclasses.replace(member, weights={name: 1.0 for name, _ in member.weights}, **alike)


def _budget(member: Member) -> tuple:
    return kind(member), member.data, member.split, member.n_train, member.n_test, member.steps, member.parent is None


class Timings:
    """Seconds of a model step and of a member's measures: timed while patience lasts, then as of like members.

    Of members of one family, who differ in their widths, say, the seconds are interpolated by their parameters.

    Args:
        step: times a step of a member.
        measures: times its measures.
    """

    def __init__(self, step: Callable[[Member], float], measures: Callable[[Member], float]):
        self._step, self._measures = step, measures
        self._known: dict[tuple, dict[int, float]] = {}  # by family and parameters
        self._end = time.monotonic() + _ALTOGETHER

    def seconds_per_step(self, member: Member) -> tuple[float, bool]:
        """The seconds, and whether they are of like members."""
        own, shape = kind(member), data.image_shape(member.data)
        alike = (member.model, member.objective, shape, member.batch_size, member.precision)
        return self._seconds(member, self._step, [("step", own), ("step", *alike), ("step", member.model)])

    def seconds_of_measures(self, member: Member) -> tuple[float, bool]:
        """The same of all measures of one member."""
        child = member.parent is not None
        alike = (member.model, *_budget(member)[1:])
        families = [_budget(member), alike, ("measures", member.model, child), ("measures", member.model)]
        return self._seconds(member, self._measures, families)

    def _seconds(self, member: Member, timed: Callable[[Member], float], families: list[tuple]) -> tuple[float, bool]:
        """`families`: those that a member is of, the nearest first, which is of its like alone."""
        if own := self._known.get(families[0]):
            return next(iter(own.values())), False
        known = next((self._known[family] for family in families if family in self._known), None)
        size = parameters(member)
        if known and time.monotonic() > self._end:
            sizes = sorted(known)
            return float(np.interp(size, sizes, [known[each] for each in sizes])), True
        seconds = timed(member)
        for family in families:
            self._known.setdefault(family, {})[size] = seconds
        return seconds, False


def timing_order(groups: Sequence[Sequence[Member]]) -> list[int]:
    """Numbers of the groups: those of most steps first; of as many, the largest member, then from the smallest on."""
    by_size = sorted(range(len(groups)), key=lambda i: parameters(groups[i][0]))
    steps = {i: len(group) * group[0].steps for i, group in enumerate(groups)}
    alike: dict[int, list[int]] = {}
    for i in by_size:
        alike.setdefault(steps[i], []).append(i)
    return [i for n in sorted(alike, reverse=True) for i in [*alike[n][-1:], *alike[n][:-1]]]


@functools.cache
def parameters(member: Member) -> int:
    """The number of a member's parameters."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in kind(member).build().parameters())


@functools.cache
def timed_step(member: Member, size: int, device: str) -> float:
    """Seconds of a model step in a fleet of so many on made images: the median of windows inside the training."""
    shape = (512, *data.image_shape(member.data))
    images = torch.arange(math.prod(shape)).remainder(251).to(torch.uint8).reshape(shape)
    fleet = [FleetMember(seed, dict(member.weights)) for seed in range(size)]
    speeds: list[float] = []
    marks: list[tuple[float, float]] = []  # (time, steps done) where a window ends and the next begins

    def tell(now: Progress) -> None:
        mark = time.perf_counter(), now.share * steps * size
        if not marks or (mark[0] - marks[-1][0] >= _WINDOW and mark[1] - marks[-1][1] >= 3 * size):
            marks.append(mark)
            speeds[:] = [(end - begin) / (done - before) for (begin, before), (end, done) in itertools.pairwise(marks)]
        elif len(marks) == 1 and mark[1]:  # in case that not even one is filled
            speeds[:] = [(mark[0] - marks[0][0]) / mark[1]]

    def stop() -> bool:
        return len(marks) > 1 + WINDOWS or (bool(speeds) and time.perf_counter() - started > _LONGEST)

    steps, started = 10**7, time.perf_counter()
    budget = Budget(steps, member.batch_size, member.lr, member.weight_decay, member.precision)
    options: dict[str, Any] = {"budget": budget, "device": device, "backend": default_backend(device)}
    options |= {"threads_each": 1} if options["backend"] == "cores" else {}
    with suppress(Stopped):
        train_fleet(member.build, OBJECTIVES[member.objective], fleet, images, torch.arange(512).remainder(2),
                    progress=tell, stop=stop, **options)  # fmt: skip
    return statistics.median(speeds[1:] or speeds)  # the first one has the start in it


def timed_measures(spec: StudySpec, member: Member, device: str) -> float:
    """Seconds that a member's measures take, on one core or on the card; of an untrained one, on a part of its images.

    Raises DataError where its images are not here.
    """
    images, model = examples_of(member, device), new_model(member.build, 0).eval().to(device)
    total, begun = 0.0, time.perf_counter()
    with workers(1) as pool:
        for measure in spec.measures:
            at = [step for step in spec.measured_steps(member) if measure in spec.measures_at(step, member)]
            if at:
                hurry = _HURRY if time.perf_counter() - begun > _PATIENCE else 1.0
                total += pool.submit(_timed_measure, measure, model, member, at, images, hurry).result()
    return total


def _timed_measure(
    measure: Measure, model: torch.nn.Module, member: Member, at: list[int], images: Examples, hurry: float = 1.0
) -> float:
    """Seconds of one measure at all its steps: what they would be of all images, by those of growing parts.

    These are the fewer, the smaller `hurry` is, which is a share of the patience.
    """
    most = len(images.test) if measure.images is None else min(len(images.test), measure.images(member))
    part = min(1.0, max(_PART, _LEAST / min(len(images.train), most)))
    points: list[tuple[float, float]] = []
    while True:
        some = _part(images, part, most)

        def seconds(step: int, some: Examples = some) -> float:
            begun = time.perf_counter()
            list(measure.take(model, member, step, some))
            return time.perf_counter() - begun

        try:
            last = seconds(at[-1])  # loads what it needs, and computes once what members of one split share
            last = seconds(at[-1]) if last < hurry * _LONG else last
            first = seconds(at[0]) if len(at) > 1 and last < hurry * _LONG else last
            points.append((part, last + (len(at) - 1) * min(first, last)))
        except Exception:  # too few images for it: it may take more
            points.append((part, 0.0))
            last = 0.0
        if part == 1.0 or last > hurry * _LONG or (last > hurry * _ENOUGH and len(points) > 1):
            break
        part = min(1.0, 2 * part)
    return _at_whole(points)


def _part(images: Examples, part: float, most: int) -> Examples:
    """The first images, as many as that share of both parts, of test images of `most`."""
    counts = {"train": len(images.train), "test": min(most, len(images.test))}
    rows = {name: slice(math.ceil(part * count)) for name, count in counts.items()}
    fields = {f.name: getattr(images, f.name) for f in dataclasses.fields(images)}
    cut = {n: None if value is None else value[rows[n.partition("_")[0]]] for n, value in fields.items()}
    return dataclasses.replace(images, **cut)


def _at_whole(points: Iterable[tuple[float, float]]) -> float:
    """What took so many seconds at these shares, at the whole: a constant, a share, and its square, none below 0."""
    taken = list(points)  # where there were too few images, nothing was
    shares, seconds = map(np.array, zip(*[at for at in taken if at[1]] or taken[-1:], strict=True))
    if shares[-1] == 1 or not seconds.all():
        return float(seconds[-1] / shares[-1])
    power = math.log(seconds[-1] / seconds[0]) / math.log(shares[-1] / shares[0]) if len(shares) > 1 else 1.0
    if len(shares) > 3 and seconds[-2] > 1.5 * seconds[0] and seconds[-1] > 2 * seconds[0]:
        # Of what grew alone: in small parts a constant hides a square. What fewer parts or less growth say is noise.
        grown, share = seconds[-2:] - seconds[0], shares[-2:] - shares[0]
        power = max(power, math.log(grown[1] / grown[0]) / math.log(share[1] / share[0]))
    terms = np.stack([np.ones_like(shares), shares, shares**2], 1)
    # A square that only the noise of small parts asks for would be most of what is said of the whole.
    terms = terms if power >= _SQUARES else terms[:, :2]
    terms = terms if len(shares) >= terms.shape[1] else terms[:, 1 : 1 + len(shares)]
    weights, _ = nnls(terms / seconds[:, None], np.ones_like(seconds))  # of the relative errors
    return float(weights.sum())
