"""How long members take to train and to measure: as runs on this hardware took, else timed on a small part."""

import dataclasses
import functools
import itertools
import math
import statistics
import time
from collections.abc import Iterable, Iterator, Mapping
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
_WINDOW, _LONGEST = 1.0, 20.0  # seconds of one at the least, and of all of them at the most
_PATIENCE = 20.0  # seconds of all measures of a member after which each is tried once
_PART, _LEAST = 1 / 64, 16  # of the images on which measures are timed, at first
_ENOUGH, _LONG = 1.0, 8.0  # seconds of a measure after which no larger part is taken, and it is not repeated


@dataclass
class Observed:
    """What stored runs took on a device: seconds of a model step where the device is full, and of a member's measures.

    Attributes:
        steps: by what a member's speed depends on, see `kind`.
        measures: by that, the data and the budget.
    """

    steps: dict[Member, list[float]] = field(default_factory=dict)
    measures: dict[tuple, list[float]] = field(default_factory=dict)

    def seconds_per_step(self, member: Member) -> float | None:
        """The median; None where no such member was seen."""
        seen = self.steps.get(kind(member))
        return statistics.median(seen) if seen else None

    def seconds_of_measures(self, member: Member) -> float | None:
        """The median of all measures of one member, on one core or on the card; None where none was seen."""
        seen = self.measures.get(_budget(member))
        return statistics.median(seen) if seen else None


def observed(store: Store, listed: Tables, device: str) -> Observed:
    """What the runs of a store took on this hardware; of kinds that are not there, those of `results/`.

    Of a card that is not in this machine those on any card. Damaged runs are left out.
    """
    absent = device_problem(device) is not None
    here = None if absent else provenance.hardware(device)
    stored, exported = Observed(), Observed()
    for seen, rows in ((stored, _records(store)), (exported, _rows(listed))):
        for member, row in rows:
            hardware, took = str(row.get("hardware")), row.get("wall_time") or 0.0
            fits = row.get("backend") == default_backend(device) == "stack" if absent else hardware == here
            if not fits or row.get("status") != "finished" or not took:
                continue
            # A member's share of what its fleet took; of a fleet smaller than the machine, more than in a full one.
            share = min(1.0, row["fleet"] / torch.get_num_threads()) if row.get("fleet") and not absent else 1.0
            full = share if default_backend(device) == "cores" else 1.0
            seen.steps.setdefault(kind(member), []).append(took * full / member.steps)
            if measured := row.get("measure_time"):
                seen.measures.setdefault(_budget(member), []).append(measured)
    return Observed(exported.steps | stored.steps, exported.measures | stored.measures)


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
    # Neither the weights of its objective nor its arm nor the number of its images are worth another timing.
    alike: dict = {"seed": 0, "steps": 1, "n_train": None, "n_test": None, "parent": None, "arm": None, "split": "own"}
    shape = data.image_shape(member.data)
    alike["data"] = next(name for name in data.NAMES if data.image_shape(name) == shape)
    return dataclasses.replace(member, weights={name: 1.0 for name, _ in member.weights}, **alike)


def _budget(member: Member) -> tuple:
    return kind(member), member.data, member.split, member.n_train, member.n_test, member.steps, member.parent is None


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
        if not marks or (mark[0] - marks[-1][0] >= _WINDOW and mark[1] - marks[-1][1] >= 8 * size):
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
                once = time.perf_counter() - begun > _PATIENCE
                total += pool.submit(_timed_measure, measure, model, member, at, images, once).result()
    return total


def _timed_measure(
    measure: Measure, model: torch.nn.Module, member: Member, at: list[int], images: Examples, once: bool = False
) -> float:
    """Seconds of one measure at all its steps: what they would be of all images, by those of growing parts.

    If `once`, by a single try of the first part.
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
            last = seconds(at[-1]) if last < _LONG and not once else last
            first = seconds(at[0]) if len(at) > 1 and last < _LONG and not once else last
            points.append((part, last + (len(at) - 1) * min(first, last)))
        except Exception:  # too few images for it: it may take more
            points.append((part, 0.0))
            last = 0.0
        if once or part == 1.0 or last > _LONG or (last > _ENOUGH and len(points) > 1):
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
    shares, seconds = map(np.array, zip(*points, strict=True))
    if shares[-1] == 1 or not seconds.all():
        return float(seconds[-1] / shares[-1])
    terms = np.stack([np.ones_like(shares), shares, shares**2], 1)
    terms = terms if len(shares) > 2 else terms[:, 1 : 1 + len(shares)]
    weights, _ = nnls(terms / seconds[:, None], np.ones_like(seconds))  # of the relative errors
    return float(weights.sum())
