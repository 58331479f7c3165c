"""What the standard measures of a member cost beside its training, at the short scale.

Training is extrapolated: the seconds of a step of one of two members that train side by side, one thread each, times
the member's steps. A measure is timed as a sweep takes it, for both members side by side, one thread each, on the real
images, once for each kind of snapshot (the last; of those whose weights are kept, the one before it; another of these;
any other), times how many there are of it.
"""

import dataclasses
import time
from collections import Counter
from collections.abc import Iterator

from torch import nn

from benchmarks.records import Row
from vaekit import data
from vaekit.fleet import Fleet, FleetMember, train_fleet, workers
from vaekit.losses import OBJECTIVES
from vaekit.pruning import projection
from vaekit.store import Member
from vaekit.studies import hierarchical_rates, id_transition, pruning, rate_generalisation
from vaekit.studies.rate_generalisation.claims import CLAIMS
from vaekit.sweep import Examples, Measure, StudySpec, examples_of
from vaekit.sweep.plan import budget_of

ROUNDS = 1
DEVICE = "cpu"
SUM = "all measures"  # but the exempt ones
EXEMPT = ("likelihood",)  # a bound that takes minutes by nature, and may be taken later (`train --later likelihood`)
ON, OFF = "study 2, on the sub-grid, short", "study 2, off it, short"
WARM, TIMED = 4, 36  # steps: of a fleet that is not timed, and of the one that is
# Steps of the two that are measured, and seconds that these may take. A network that has learned nothing makes grey
# blobs, and the images nearest to those take several times as long to find.
LEARNED, LEARNING = 400, 30.0


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """Yield the rows of one case after the other."""
    spent: dict[str, tuple[float, float]] = {}
    for case, (spec, member) in _cases().items():
        if only in case:
            rows = _shares(case, spec, member)
            values = {(row.contender, row.quantity): row.value for row in rows}
            spent[case] = values[SUM, "s"], values["training", "s"]
            yield rows
    yield from _sums(spent)


def _sums(spent: dict[str, tuple[float, float]]) -> Iterator[list[Row]]:
    """Rows of each sum of cases all of which are in `spent`: the seconds of its measures, and of its training."""
    for case, counts, note in (*_grids(), *_families()):
        if counts.keys() <= spent.keys():
            measures, training = (sum(n * spent[name][i] for name, n in counts.items()) for i in (0, 1))
            yield [Row(case, SUM, "share of training", measures / training, note=note)]


def _cases() -> dict[str, tuple[StudySpec, Member]]:
    """A member of each study at the short scale, on the first of its image sets, or of their kin, that is available.

    Of study 3 also one of the least budget of claims 3.6 to 3.8.
    """
    colour = data.available("cifar10", "cifar10_jpeg", "tetrominoes")
    cases: dict[str, tuple[StudySpec, Member]] = {}

    def add(case: str, spec: StudySpec, member: Member) -> None:
        cases[_case(case, member)] = spec, member

    spec = id_transition.Settings.at("short", data=colour, latent_dims=(32,))
    add("study 1, short", id_transition.SPEC, id_transition.members(spec)[0])
    for case, member in _layered():
        add(case, hierarchical_rates.SPEC, member)
    for depth in (1, 3):
        spec = rate_generalisation.Settings.at("short", betas=(1,), depths=(depth,), n_train=(16_384,))
        add(f"study 3, depth {depth}, short", rate_generalisation.SPEC, rate_generalisation.members(spec)[0])
    steps = max(claim.steps for claim in CLAIMS if claim.number in ("3.6", "3.7", "3.8"))
    least = dataclasses.replace(rate_generalisation.members(spec)[0], steps=steps)
    add(f"study 3, depth {depth}, claims 3.6 to 3.8", rate_generalisation.SPEC, least)
    for trained, tuned, _ in _pruned():
        add("study 4, trained, short", pruning.SPEC, trained)
        add("study 4, pruned, short", pruning.SPEC, tuned)
    return cases


def _layered() -> Iterator[tuple[str, Member]]:
    """Of study 2, on each image set: a member on the sub-grid, whose larger latent is classified too, and another."""
    colour = data.available("cifar10", "cifar10_jpeg", "tetrominoes")[:1]
    for name in filter(data.is_available, (*colour, "mnist_binary")):
        for case, beta in ((ON, hierarchical_rates.SUBGRID[2]), (OFF, hierarchical_rates.GRID[9])):
            settings = hierarchical_rates.Settings.at("short", data=(name,), betas2=(beta,), betas1=(beta,))
            yield case, hierarchical_rates.members(settings)[0]


def _grids() -> Iterator[tuple[str, dict[str, int], str]]:
    """The whole grid of study 2: its name, how many members each case stands for, and that in words."""
    on, whole = len(hierarchical_rates.SUBGRID) ** 2, len(hierarchical_rates.GRID) ** 2
    members: dict[str, dict[str, int]] = {}
    for case, member in _layered():
        members.setdefault(member.data, {})[_case(case, member)] = on if case == ON else whole - on
    for name, counts in members.items():
        yield f"study 2, grid, short, {name}", counts, f"{on} of {whole} members are on the sub-grid"


def _pruned() -> Iterator[tuple[Member, Member, int]]:
    """Of study 4, on each image set: a member that is trained, one derived from it, and how many are."""
    for name in filter(data.is_available, ("mnist", *data.available("cifar10", "cifar10_jpeg"))):
        settings = pruning.Settings.at("short", data=(name,), betas=(1,), lambdas=(100,), readings=("sum",), seeds=(0,))
        trained, *rest = pruning.members(settings)
        tuned = [member for member in rest if member.parent == trained.key]
        yield trained, tuned[0], len(tuned)


def _families() -> Iterator[tuple[str, dict[str, int], str]]:
    """The families of study 4, as `_grids`: what a pruned member took is its parent's training as well."""
    for trained, tuned, arms in _pruned():
        counts = {_case("study 4, trained, short", trained): 1, _case("study 4, pruned, short", tuned): arms}
        note = f"one that is trained, and the {arms} that are tuned and pruned from it"
        yield f"study 4, family, short, {trained.data}", counts, note


def _case(name: str, member: Member) -> str:
    return f"{name}, {member.data}, {member.steps:,} steps"


def _shares(case: str, spec: StudySpec, member: Member) -> list[Row]:
    """Seconds of the training and of each measure in all of it, and the measures' shares."""
    images = examples_of(member)
    fleet, step = _trained(member, images)
    training = step * member.steps
    note = f"a step of {step * 1e3:.1f} ms x {member.steps:,} steps"
    rows = [Row(case, "training", "s", training, note=note)]
    steps = spec.measured_steps(member)
    of_kind = Counter(_kind(spec, member, at) for at in steps)
    all_measures = 0.0
    for timed in spec.measures:
        firsts = {kind: _first(spec, member, kind) for kind in of_kind}
        spent = {
            kind: _seconds(timed, fleet, member, at, images) if timed in spec.measures_at(at, member) else 0.0
            for kind, at in firsts.items()
        }
        total = sum(spent[kind] * times for kind, times in of_kind.items())
        all_measures += 0 if timed.name in EXEMPT else total
        parts = ", ".join(f"{times} x {spent[kind]:.3g} s {kind}" for kind, times in of_kind.items())
        rows.append(Row(case, timed.name, "s", total, note=parts))
        rows.append(Row(case, timed.name, "share of training", total / training))
    exempt = f"without {', '.join(EXEMPT)}" if {*EXEMPT} & spec.versions.keys() else ""
    rows.append(Row(case, SUM, "s", all_measures, note=exempt))
    rows.append(Row(case, SUM, "share of training", all_measures / training, note=exempt))
    return rows


def _trained(member: Member, images: Examples) -> tuple[Fleet, float]:
    """Two such members after some steps, and the seconds of a step of either."""

    def train(steps: int) -> Fleet:
        return train_fleet(
            member.build,
            OBJECTIVES[member.objective],
            [FleetMember(seed, dict(member.weights)) for seed in (0, 1)],
            images.train,
            images.train_labels,
            budget=budget_of(dataclasses.replace(member, steps=steps)),
            project=projection(member.build(), member.arm, member.steps) if member.arm else None,
            threads=2,
            progress=False,
        )

    train(WARM)
    step = train(TIMED).seconds / TIMED
    return train(min(LEARNED, max(TIMED, int(LEARNING / step)))), step


def _kind(spec: StudySpec, member: Member, step: int) -> str:
    """What decides how much a measure does at a snapshot."""
    saved = spec.saved_steps(member)
    if step in saved[-2:]:  # what a verdict compares, at which alone some measures are taken
        return "at the end" if step == member.steps else "before the end"
    return "where weights are saved" if step in saved else "else"


def _first(spec: StudySpec, member: Member, kind: str) -> int:
    return next(step for step in spec.measured_steps(member) if _kind(spec, member, step) == kind)


def _seconds(timed: Measure, fleet: Fleet, member: Member, step: int, images: Examples) -> float:
    """Mean seconds of a measure of two models at once, one thread each."""

    def take(model: nn.Module) -> float:
        begun = time.perf_counter()
        for _ in timed.take(model, member, step, images):
            pass
        return time.perf_counter() - begun

    with workers(2) as pool:
        return sum(pool.map(take, (fleet.model(0), fleet.model(1)))) / 2
