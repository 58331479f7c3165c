"""Contenders in processes of their own, each with its own packages, threads and denormal numbers."""

import contextlib
import ctypes
import hashlib
import importlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch

from benchmarks.peers import ours
from benchmarks.peers.task import Task, examples, mean_loss, sites_of
from vaekit.losses import OBJECTIVES

EXTRA = Path(__file__).parents[2] / ".cache" / "benchmarks"


class Outcome(NamedTuple):
    """What a training took, without imports and what was made ready, and the members' losses after it, in nats."""

    seconds: float
    losses: list[float]


class Memory(NamedTuple):
    """Bytes of `train_fleet`: its peak above what was there before, and the parts of what it must hold."""

    peak: int
    weights: int
    moments: int
    activations: int
    images: int


class Peers:
    """The contenders' processes, each started when first asked for."""

    def __init__(self):
        self.pools: dict[str, ProcessPoolExecutor] = {}

    def train(self, name: str, task: Task) -> Outcome:
        """Let the module `benchmarks.peers.<name>` train a task. Errors: whatever it raised there."""
        if name not in self.pools:
            self.pools[name] = _process(name)
        return self.pools[name].submit(_train, name, task).result()

    def close(self) -> None:
        """End all processes."""
        for pool in self.pools.values():
            pool.shutdown()


@contextlib.contextmanager
def peers() -> Iterator[Peers]:
    """`Peers` that end with the block."""
    running = Peers()
    try:
        yield running
    finally:
        running.close()


def memory_of(task: Task) -> Memory:
    """The memory of our training of a task, in a fresh process. Errors: OSError where there is no Linux /proc."""
    with _process("ours") as pool:
        return pool.submit(_memory, task).result()


def environment(name: str, requirements: tuple[str, ...]) -> Path:
    """A folder with a peer's packages, made where it is lacking; torch and the rest come from our own environment.

    Errors: RuntimeError with pip's last word.
    """
    folder = EXTRA / f"{name}-{hashlib.sha256(' '.join(requirements).encode()).hexdigest()[:8]}"
    if not folder.exists():
        part = folder.with_suffix(f".{os.getpid()}")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(part), *requirements]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} cannot be installed: {done.stderr.strip().splitlines()[-1]}")
        part.rename(folder)
    return folder


def _process(name: str) -> ProcessPoolExecutor:
    wanted = getattr(importlib.import_module(f"benchmarks.peers.{name}"), "REQUIREMENTS", ())
    paths = [str(environment(name, wanted))] if wanted else []
    return ProcessPoolExecutor(1, get_context("spawn"), _begin, (name, paths))


def _begin(name: str, paths: list[str]) -> None:
    """Settle a contender's process."""
    sys.path += paths
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)  # what trainers print is not the benchmark's
    os.dup2(nowhere, 2)
    if name != "ours":
        # Ours does so itself, where it does. Before any operation: the threads that torch then starts inherit it.
        torch.set_flush_denormal(True)


def _train(name: str, task: Task) -> Outcome:
    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    train = importlib.import_module(f"benchmarks.peers.{name}").prepare(task)
    begun = time.perf_counter()
    modules = train()
    seconds = time.perf_counter() - begun
    return Outcome(seconds, task.losses(modules))


def _memory(task: Task) -> Memory:
    torch.set_num_threads(task.threads)
    # What is loaded once, and what kernels keep for a model, is there before; what was freed is given back.
    ours.prepare(replace(task, members=1, steps=2))()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    images, labels = examples(task.of.image_shape)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    ours.prepare(task)()
    peak = resident("VmHWM") - before

    module, weights = next(iter(task.modules()))
    batch = task.of.batch_size
    x, noise = images[:batch] / 255, {site: torch.randn(batch, *shape) for site, shape in sites_of(module)}
    own = {p.untyped_storage().data_ptr() for p in (*module.parameters(), *module.buffers())}
    saved: dict[int, int] = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = mean_loss(
            OBJECTIVES[task.of.objective],
            task.precision,
            module,
            x,
            labels[:batch],
            noise,
            weights,
            torch.tensor(0.0),
        )
    del loss
    size = sum(p.nbytes for p in module.parameters())
    running = task.members if task.backend == "stack" else min(task.members, task.threads)
    return Memory(
        peak=peak,
        weights=task.members * size,
        moments=running * 3 * size,
        activations=running * sum(saved.values()),
        images=images.nbytes,
    )


def resident(field: str) -> int:
    """A line of this process's memory in bytes: "VmRSS" is what it has, "VmHWM" the most it had."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[field].split()[0]) * 1024
