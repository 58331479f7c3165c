"""What a cluster costs: two workers beside one process on two cores, the overhead of a job, 2,000 jobs of nothing.

The workers are those of `--cluster local`, started before and warm: they have imported torch and hold their images.
Both contenders train the same members from nothing, into stores of their own, and the weights are compared bit by bit.
"""

import contextlib
import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import torch

from benchmarks import timing
from benchmarks.peers.process import resident
from benchmarks.records import Row
from vaekit import sweep
from vaekit.store import Member, Store
from vaekit.store.member import member_of
from vaekit.sweep import Measure, StudySpec, Value, cluster, hosts
from vaekit.sweep.jobs import Job

ROUNDS = 3
DEVICE = "cpu"
WORKERS, JOBS = 2, 2_000
QUIET: dict[str, Any] = {"progress": False, "say": lambda line: None}


def one(model, member, step, images) -> Iterator[Value]:
    """A value that costs nothing."""
    yield Value("train", "nothing", "", 0.0, 0.0, 1)


SPEC = StudySpec("made", (Measure("nothing", 1, one),), lambda m: (m.steps,), lambda m: (m.steps,))


def nothing(job: Job) -> dict[str, Any]:
    """In place of `cluster.work`: every member is said to be stored, and none is trained."""
    return {"stored": [member_of(row).key for row in job.members], "stopped": False}


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """The rows of the cases in whose names `only` is."""
    cases = {"8 members of study 3": _speed, "32 members of one step": _overhead, f"{JOBS:,} jobs of nothing": _nothing}
    torch.set_num_threads(WORKERS)
    begun = time.perf_counter()
    with hosts.opened("local", DEVICE, insecure=True) as here:
        here.client.wait_for_workers(WORKERS, 120)
        yield [Row("local cluster", "vaekit", "s to start", time.perf_counter() - begun)]
        for case, rows in cases.items():
            if only in case:
                yield rows(case, rounds, here.client.scheduler.address)


def _members(count: int, steps: int, **changes: Any) -> list[Member]:
    fields: dict[str, Any] = {"model": "dense_vae", "model_args": {"depth": 1, "hidden": 512, "latent_dim": 10}}
    fields |= {"data": "tetrominoes", "split": "cv", "objective": "beta", "weights": {"beta": 0.1}}
    fields |= {"n_train": 4096, "n_test": 1024}
    return [Member(**(fields | changes), steps=steps, seed=seed) for seed in range(count)]


@contextlib.contextmanager
def _store() -> Iterator[Store]:
    with tempfile.TemporaryDirectory() as folder:
        yield Store(folder)


def _trained(members: Sequence[Member], address: str | None) -> tuple[float, list[bytes]]:
    """Seconds from the call to its return, and the hashes of the weights."""
    with _store() as store:
        begun = time.perf_counter()
        if address:
            cluster.run("benchmarks.cluster:SPEC", members, store, address, **QUIET)
        else:
            sweep.run(SPEC, members, store, **QUIET)
        seconds = time.perf_counter() - begun
        weights = [store.weights(member.key, member.steps) for member in members]
    return seconds, [b"".join(w[name].numpy().tobytes() for name in sorted(w)) for w in weights]


def _speed(case: str, rounds: int, address: str) -> list[Row]:
    members = _members(8, 300)
    for where in (address, None):
        _trained([dataclasses.replace(member, steps=1) for member in members], where)  # images and imports
    bits: list[list[bytes]] = []

    def timed(where: str | None) -> float:
        seconds, weights = _trained(members, where)
        bits.append(weights)
        return seconds

    taken = timing.interleaved({"one": lambda: timed(None), "cluster": lambda: timed(address)}, rounds)
    if any(weights != bits[0] for weights in bits):
        raise RuntimeError("the cluster's members are not the same bits")
    note = f"{WORKERS} workers of one thread; the same bits"
    return [
        Row.of(case, "one process", "s", timing.interval(taken["one"])),
        Row.of(case, "cluster", "s", timing.interval(taken["cluster"]), note),
        Row.of(case, "one process / cluster", "ratio", timing.ratio(taken["one"], taken["cluster"])),
    ]


def _overhead(case: str, rounds: int, address: str) -> list[Row]:
    members = _members(32, 1, model_args={"depth": 1, "hidden": 16, "latent_dim": 10})
    _trained(members, address)  # images and imports
    of_a_job = timing.interval([WORKERS * _trained(members, address)[0] / len(members) for _ in range(rounds)])
    return [Row.of(case, "cluster", "s a job", of_a_job, "its one step, its files and the sweep's own plan included")]


def _nothing(case: str, rounds: int, address: str) -> list[Row]:
    members, spans = _members(JOBS, 1), []
    before = resident("VmRSS") / 1e6
    for _ in range(rounds):
        with _store() as store, mock.patch.object(cluster, "work", nothing):
            begun = time.perf_counter()
            cluster.run("benchmarks.cluster:SPEC", members, store, address, **QUIET)
            spans.append(time.perf_counter() - begun)
    note = f"{before:,.0f} MB of it before the first; the scheduler is in the same process"
    return [
        Row.of(case, "cluster", "s", timing.interval(spans)),
        Row(case, "client", "MB", resident("VmHWM") / 1e6, note=note),
    ]
