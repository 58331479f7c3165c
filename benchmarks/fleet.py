"""Training: a fleet against what people use today, at the same models, batches, steps, precision and threads.

A contender is timed whole, in a process of its own, in turns with the others; what it makes ready beforehand (imports,
data sets, loaders, Trainers) is not counted, and of ours everything is. Each trains the same members from the same
starts; their losses afterwards stand beside the times, so that nobody is fast and wrong.

A case is "<model>, <precision or what else it is about>, <members>". Its rows:

    us/model-step   of each contender: seconds over the optimiser steps of all members together
    ratio           "other / vaekit": how many times the other takes
    loss (nats)     the mean over members of the objective on held-out images after the training
    loss ratio      "other / vaekit"
"""

import itertools
import math
import os
import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from scipy.stats import t as student
from scipy.stats import ttest_rel

from benchmarks import records, timing
from benchmarks.peers import process
from benchmarks.peers.process import Outcome, Peers
from benchmarks.peers.task import SETUPS, Task
from benchmarks.records import Row
from benchmarks.timing import Interval

ROUNDS = 5
DEVICE = "cpu"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

# Steps of every member: whole epochs of 32 steps where pythae takes part, and some seconds of work.
STEPS = {"tiny": 320, "mlp1": 64, "mlp3": 32, "cnn1": 16, "cnn3": 16, "ghvae": 32, "ghvae28": 32, "lvae": 32}
STEPS |= {"classifier28": 32, "classifier32": 16, "study1": 4}


@dataclass(frozen=True)
class Contender:
    """Who trains: a module of `benchmarks.peers`, and what it changes in the task.

    Of several `variants` the one that is fastest before the rounds begin takes part in them.
    """

    peer: str
    changes: Mapping[str, object] = field(default_factory=dict)
    variants: tuple[Mapping[str, object], ...] = ({},)


_LOADING = tuple({"workers": number} for number in (0, 1, 2))
CONTENDERS = {
    "vaekit": Contender("ours"),
    "vaekit cores": Contender("ours", {"backend": "cores"}),
    "vaekit stack": Contender("ours", {"backend": "stack"}),
    "vaekit bf16": Contender("ours", {"precision": "bf16"}),
    "plain loop": Contender("plain"),
    "plain loop compiled": Contender("plain", {"compiled": True}),
    # These train one member after another, so two tell the time of a step as well as many.
    "dataloader": Contender("dataloader", {"members": 2}, _LOADING),
    "lightning": Contender("lightning", {"members": 2}, _LOADING),
    "pythae": Contender("pythae", {"members": 2}),
}
PEERS = ("dataloader", "lightning", "pythae")
# Fleet sizes at which each model meets the plain loop, and which trainers it meets.
SIZES = {"mlp1": (2, 1, 3, 4), "mlp3": (2, 1, 4), "cnn3": (2, 1, 3), "ghvae": (2, 1, 4), "tiny": (2, 1, 8, 32)}
SIZES |= {"cnn1": (2,), "ghvae28": (2,), "lvae": (2,), "classifier28": (2, 1), "classifier32": (2,), "study1": (2,)}
CONVOLUTIONAL = ("cnn1", "cnn3", "ghvae", "ghvae28", "lvae", "classifier28", "classifier32", "study1")
BATCHES = (32, 512)  # beside the studies' own, at which convolutions must be no slower
MET = {"mlp1": PEERS, "mlp3": PEERS, "cnn3": PEERS, "ghvae": PEERS[:2], "tiny": PEERS}
SCALED = ("mlp3", "ghvae")
REMEMBERED = (("mlp3", 2), ("ghvae", 2), ("mlp1", 8))


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """The rows of each case whose name contains `only`, case by case."""
    with process.peers() as peers:
        for name, case in cases().items():
            if only in name:
                yield case(name, rounds, peers)


def cases() -> dict[str, Callable[[str, int, Peers], list[Row]]]:
    """Every case by its name: what measures it."""
    contests: dict[str, Callable[[str, int, Peers], list[Row]]] = {}
    for setup, sizes in SIZES.items():
        for members in sizes:
            both = ("vaekit cores", "vaekit stack") if setup == "tiny" else ()
            names = ("vaekit", *both, "plain loop")
            contests[f"{setup}, full, {members} members"] = partial(_contest, _task(setup, members), names)
    for setup, batch_size in itertools.product(CONVOLUTIONAL, BATCHES):
        steps = max(2, STEPS[setup] * SETUPS[setup].batch_size // batch_size)
        task = replace(_task(setup, 2), steps=steps, batch_size=batch_size)
        contests[f"{setup}, batch {batch_size}, 2 members"] = partial(_contest, task, ("vaekit", "plain loop"))
    for setup, met in MET.items():
        members = 8 if setup == "tiny" else 2
        contests[f"{setup}, trainers, {members} members"] = partial(_contest, _task(setup, members), ("vaekit", *met))
    for setup in ("mlp1", "mlp3", "cnn3", "ghvae"):
        task = _task(setup, 2, precision="bf16")
        contests[f"{setup}, bf16, 2 members"] = partial(_contest, task, ("vaekit", "plain loop"))
        contests[f"{setup}, full against bf16, 2 members"] = partial(
            _contest, _task(setup, 2), ("vaekit bf16", "vaekit")
        )
    for setup in ("mlp1", "ghvae", "tiny"):
        contests[f"{setup}, compiled, 2 members"] = partial(
            _contest, _task(setup, 2), ("plain loop compiled", "plain loop")
        )
    for setup in SCALED:
        contests[f"{setup}, weak scaling"] = partial(_weak_scaling, setup)
    for setup, members in REMEMBERED:
        contests[f"{setup}, memory, {members} members"] = partial(_memory, _task(setup, members))
    contests["tiny, bf16 stack against alone"] = _stack_against_alone
    return contests


def _task(setup: str, members: int, **more) -> Task:
    # One member alone is over so soon that making and checking its model, once, would be a tenth of its time.
    return Task(setup, members, STEPS[setup] * (4 if members == 1 else 1), CORES, **more)


def _contest(task: Task, names: tuple[str, ...], case: str, rounds: int, peers: Peers) -> list[Row]:
    """Contenders at one task, in turns; ratios are against the first of them."""
    tasks: dict[str, Task] = {}
    notes = {name: _bf16_note(task) for name in names}
    rows = []
    for name in names:
        try:
            tasks[name], chosen = _choose(CONTENDERS[name], task, peers)
            notes[name] += chosen
        except Exception as error:  # whatever a peer dies of is what the table must say
            first = str(error).strip().splitlines() or [type(error).__name__]
            rows.append(Row(case, name, "us/model-step", math.nan, note=f"it did not run: {first[0][:200]}"))
    taken: dict[str, list[Outcome]] = {name: [] for name in tasks}

    def turn(name: str) -> float:
        seed = 100 * len(taken[name])  # another start each round, the same for all
        taken[name].append(peers.train(CONTENDERS[name].peer, replace(tasks[name], seed=seed)))
        return taken[name][-1].seconds

    seconds = timing.interleaved({name: partial(turn, name) for name in tasks}, rounds)
    steps = {name: [s / tasks[name].model_steps for s in seconds[name]] for name in tasks}
    # Of the members that a contender trained: all contenders train the first ones.
    fewest = min(task.members for task in tasks.values())
    losses = {name: [statistics.fmean(o.losses[:fewest]) for o in taken[name]] for name in tasks}
    first = names[0]
    for name in tasks:
        in_us = timing.interval([1e6 * s for s in steps[name]])
        rows.append(Row.of(case, name, "us/model-step", in_us, notes[name]))
        rows.append(Row.of(case, name, "loss (nats)", timing.interval(losses[name])))
        if name != first and first in tasks:
            pair = f"{name} / {first}"
            rows.append(Row.of(case, pair, "ratio", timing.ratio(steps[name], steps[first]), notes[name]))
            rows.append(Row.of(case, pair, "loss ratio", timing.ratio(losses[name], losses[first])))
    return rows


def _choose(contender: Contender, task: Task, peers: Peers) -> tuple[Task, str]:
    """The task as a contender does it, warm: with the fastest of its variants, and the words for that one."""
    variants = [replace(task, **contender.changes, **variant) for variant in contender.variants]
    for variant in variants:
        peers.train(contender.peer, replace(variant, steps=2))
    if len(variants) == 1:
        return variants[0], ""
    seconds = [peers.train(contender.peer, variant).seconds for variant in variants]
    best = seconds.index(min(seconds))
    words = [" ".join(f"{name}={value}" for name, value in variant.items()) for variant in contender.variants]
    return variants[best], f"{words[best]}, the fastest of {', '.join(words)}"


def _bf16_note(task: Task) -> str:
    return "" if task.precision != "bf16" or records.has_bf16() else "this processor emulates bf16. "


def _weak_scaling(setup: str, case: str, rounds: int, peers: Peers) -> list[Row]:
    """As many members as cores, for 1, 2, 4, … cores: the time of all of them should stay that of one."""
    counts = [count for count in (1, 2, 4, 8, 16) if count <= CORES]
    tasks = {count: Task(setup, count, STEPS[setup], count, backend="cores") for count in counts}
    for task in tasks.values():
        peers.train("ours", replace(task, steps=2))
    seconds = timing.interleaved(
        {str(count): lambda task=task: peers.train("ours", task).seconds for count, task in tasks.items()}, rounds
    )
    rows = []
    for count, task in tasks.items():
        in_us = [1e6 * s / task.model_steps for s in seconds[str(count)]]
        rows.append(Row.of(case, f"vaekit, {count} cores", "us/model-step", timing.interval(in_us)))
        if count > 1:
            kept = timing.ratio(seconds["1"], seconds[str(count)])
            rows.append(Row.of(case, f"1 core / {count} cores", "efficiency", kept))
    return rows


def _memory(task: Task, case: str, rounds: int, peers: Peers) -> list[Row]:
    """The peak of a fresh process over what a fleet must hold.

    That is the images once, every member's weights (they are what comes back), and, of as many members as run at once,
    gradients, Adam's two moments and the activations: what autograd saves for one step's backward pass, counted.
    """
    memories = [process.memory_of(replace(task, steps=20)) for _ in range(rounds)]
    needed = memories[0].weights + memories[0].moments + memories[0].activations + memories[0].images
    parts = {"weights": memories[0].weights, "gradients and moments": memories[0].moments}
    parts |= {"activations": memories[0].activations, "images": memories[0].images}
    note = " + ".join(f"{name} {size / 1e6:.1f}" for name, size in parts.items())
    return [
        Row.of(case, "vaekit", "peak (MB)", timing.interval([m.peak / 1e6 for m in memories])),
        Row(case, "needed", "MB", needed / 1e6, note=note),
        Row.of(case, "vaekit / needed", "ratio", timing.interval([m.peak / needed for m in memories])),
    ]


def _stack_against_alone(case: str, rounds: int, peers: Peers, seeds: int = 20, steps: int = 200) -> list[Row]:
    """Whether bf16 members of a stack end as they do alone, paired by seed; `rounds` do not matter."""
    task = Task("tiny", seeds, steps, CORES, "bf16", spread=0)
    stacked, alone = (peers.train("ours", replace(task, backend=backend)).losses for backend in ("stack", "cores"))
    excess = [a - b for a, b in zip(stacked, alone, strict=True)]
    half = student.ppf(0.975, seeds - 1) * statistics.stdev(excess) / math.sqrt(seeds)
    mean, spread = statistics.fmean(excess), statistics.stdev(alone)
    taken = Interval(mean, mean - half, mean + half, seeds)
    in_sd = Interval(mean / spread, (mean - half) / spread, (mean + half) / spread, seeds)
    pair = "stack - alone"
    note = f"{seeds} seeds, {steps} steps; their losses alone have sd {spread:.3g} around {statistics.fmean(alone):.4g}"
    return [
        Row.of(case, pair, "difference of losses (nats)", taken, note),
        Row.of(case, pair, "difference over sd of seeds", in_sd),
        Row(case, pair, "p of a paired t test", float(ttest_rel(stacked, alone).pvalue), rounds=seeds),
        Row(case, "alone", "sd of losses over seeds (nats)", spread, rounds=seeds),
    ]
