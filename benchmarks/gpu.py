"""What a step of a stacked fleet costs on a GPU, as a share of the floor that its memory's speed sets.

    python -m benchmarks gpu                      every case that the card's memory holds
    python -m benchmarks gpu --only "ghvae bf16"  some

A step is that of `vaekit.fleet.stack`, batches, noise and Adam included. The formulations are ways to run the same
step: `graph` is what `train_fleet` does on a GPU, the others are what it is chosen against.
"""

import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.peers.task import SETUPS
from benchmarks.records import Row
from benchmarks.timing import interval
from vaekit.fleet import Budget, FleetMember
from vaekit.fleet.memory import ran_out
from vaekit.fleet.stack import Stack
from vaekit.fleet.stepping import Task
from vaekit.fleet.training import tf32
from vaekit.losses import OBJECTIVES

ROUNDS = 5
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# Microseconds of a model-step at batch 128 on a card that copies 4.3 TB/s: every byte once (design of this package).
FLOORS = {
    ("mlp1", "full"): 32, ("mlp1", "bf16"): 31, ("mlp3", "full"): 44, ("mlp3", "bf16"): 41,
    ("cnn3", "full"): 36, ("cnn3", "bf16"): 19, ("ghvae", "full"): 33, ("ghvae", "bf16"): 19,
}  # fmt: skip
FLOORS_COPY = 4.3e12
FORMULATIONS = ("graph", "graph, channels_last", "one operation at a time")
SIZES = (1, 8, 60, 441)
# Study 2's grid: fleet steps of 441 members at the `short` scale, and in the published example (500 epochs of SVHN).
SWEEPS = {"441 ghvae x 57,000 steps": (128, 57_000), "441 ghvae, published example": (256, 500 * 73_257 // 256)}


def measure(rounds: int, only: str = "", device: str = DEVICE, sizes=SIZES, steps: int = 0) -> Iterator[list[Row]]:
    """The copy rate, then µs per model-step of each case, and its share of the floor at that rate."""
    if torch.device(device).type != "cuda":
        print("no CUDA device: these are times of the same code on a CPU, and no share of any floor", file=sys.stderr)
    rate = copy_rate(device)
    yield [Row("copy", device, "TB/s", rate / 1e12)]
    for (name, precision), floor in FLOORS.items():
        for size in sizes:
            for formulation in FORMULATIONS:
                case = f"{name} {precision}"
                if only not in f"{case} {size} {formulation}":
                    continue
                try:
                    taken = [s * 1e6 / size for s in seconds(name, precision, size, formulation, rounds, device, steps)]
                except (RuntimeError, RuntimeWarning, MemoryError) as error:
                    why = "out of memory" if ran_out(error) else f"{type(error).__name__}: {error}".splitlines()[0][:90]
                    yield [Row(f"{case}, {size} members", formulation, "us/model-step", math.nan, note=why)]
                    continue
                best = interval(taken)
                rows = [Row.of(f"{case}, {size} members", formulation, "us/model-step", best)]
                if formulation == "graph" and size == max(sizes) and torch.device(device).type == "cuda":
                    share = floor * FLOORS_COPY / rate / best.median
                    rows.append(Row(case, "vaekit", "share of floor", share, rounds=rounds, note=f"{size} members"))
                yield rows
    for case, (batch, fleet_steps) in SWEEPS.items():
        precision = "bf16" if "published" in case else "full"
        if only in case and torch.device(device).type == "cuda":
            each = statistics.median(seconds("ghvae", precision, 147, "graph", rounds, device, steps, batch)) / 147
            yield [Row(case, "vaekit", "minutes", each * 441 * fleet_steps / 60, note=f"{precision}, from 147 at once")]


def copy_rate(device: str) -> float:
    """Bytes a second that the device reads and writes while it copies a large tensor."""
    size = 2**28 if torch.device(device).type == "cuda" else 2**24
    source = torch.ones(size, device=device)
    target = torch.empty_like(source)
    taken = [_timed(lambda: target.copy_(source), device) for _ in range(5)]
    return 2 * source.nbytes / statistics.median(taken)


def seconds(
    name: str, precision: str, size: int, formulation: str, rounds: int, device: str, steps: int = 0, batch: int = 128
) -> list[float]:
    """Seconds of a fleet's step, each the mean over some steps, in so many rounds."""
    setup = SETUPS[name]

    def make() -> torch.nn.Module:
        model = setup.make()
        if "channels_last" in formulation:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        return model

    numbers = torch.arange(4096 * math.prod(setup.image_shape), device=device)
    images = numbers.remainder(251).to(torch.uint8).reshape(4096, *setup.image_shape)
    budget = Budget(10**9, batch, precision=precision)
    task = Task(make, OBJECTIVES[setup.objective], images, None, budget, None)
    with tf32(precision, torch.device(device)), _eagerly("time" in formulation), warnings.catch_warnings():
        warnings.filterwarnings("error", "the step cannot be captured")  # it would be timed under a graph's name
        stack = Stack(task, [FleetMember(seed % 20, setup.weights) for seed in range(size)])
        for _ in range(6):  # warms up, and captures
            stack.advance()
        several = steps or max(3, min(200, 2000 // size))
        taken = [_timed(lambda: [stack.advance() for _ in range(several)], device) / several for _ in range(rounds)]
        stack.close()
        return taken


@contextmanager
def _eagerly(wanted: bool) -> Iterator[None]:
    """Steps launched one operation at a time, without a graph."""
    real = Stack._launch
    if wanted:
        Stack._launch = lambda self: self._step and self._step()
    try:
        yield
    finally:
        Stack._launch = real


def _timed(call: Callable[[], object], device: str) -> float:
    def wait() -> None:
        if torch.device(device).type == "cuda":
            torch.cuda.synchronize(device)

    wait()
    begun = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - begun
