"""What the store costs: opening one of 10,000 members as a DataFrame, and the checkpoints of a training.

A checkpoint is that of two members of study 3's 3-layer MLP with all the snapshots that 257,000 steps keep: its share
of the time is that of writing it at the interval that `vaekit.store.checkpoints` then keeps.

Each member has a record, and 99 values in two measures, rate_distortion (64) and rate_parts (35), about as many as
study 3 takes of one at the quick scale. There is no weights file, since none is opened. The store is read from the
disk's cache, in a fresh process each round; the memory is its peak above what the interpreter and its packages take (as
Linux counts it).
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import timing
from benchmarks.records import Row
from vaekit.fleet import State
from vaekit.store import Member, Run, Store
from vaekit.store.checkpoints import EVERY, SHARE, Checkpoints
from vaekit.studies import rate_generalisation

ROUNDS = 5
DEVICE = "cpu"
MEMBERS = 10_000
ROWS = {"rate_distortion": 64, "rate_parts": 35}
_ROOT = Path(__file__).resolve().parents[1]
_OPEN = r"""
import json, re, sys, time
from vaekit.store import Store, table
def megabytes(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\s+(\d+) kB", file.read())[1]) * 1024 / 1e6
before, begun = megabytes("VmRSS"), time.perf_counter()
rows = table.runs(Store(sys.argv[1]))
print(json.dumps([time.perf_counter() - begun, megabytes("VmHWM") - before, rows["key"].nunique(), len(rows)]))
"""


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """The rows of the cases in whose names `only` is."""
    cases = {f"{MEMBERS:,} members as a DataFrame": _listing, "checkpoint, mlp3, 2 members": _checkpoint}
    for case, rows in cases.items():
        if only in case:
            yield from rows(case, rounds)


def _checkpoint(case: str, rounds: int) -> Iterator[list[Row]]:
    """Seconds that two members, one after the other, take to save their states, snapshots aside: those come once."""
    settings = rate_generalisation.Settings.at("paper", betas=(0.1,), depths=(3,), n_train=(16_384,), seeds=(0, 1))
    members = rate_generalisation.members(settings)
    states = []
    for member in members:
        model = {f"model.{name}": value for name, value in member.build().state_dict().items()}
        moments = {f"adam.{name[6:]}.{m}": v for name, v in model.items() for m in ("exp_avg", "exp_avg_sq")}
        snapshots = {step: member.build().state_dict() for step in rate_generalisation.measured_steps(member)}
        states.append(State({**model, **moments, "history.step": torch.zeros(0, dtype=torch.int64)}, snapshots))
    with tempfile.TemporaryDirectory() as folder:
        savers = [Checkpoints(Store(folder), [member], [], "cpu", "cores", len(members)) for member in members]

        def save(step: int) -> float:
            begun = time.perf_counter()
            for saver, state in zip(savers, states, strict=True):
                state.tensors["step"] = torch.tensor(step)
                saver.save(state)
            return time.perf_counter() - begun

        first = save(1)
        seconds = timing.interval([save(2 + number) for number in range(rounds)])
    size = sum(value.nbytes for state in states for value in state.tensors.values()) / 1e6
    share = [s / max(EVERY, SHARE * s) for s in (seconds.median, seconds.low, seconds.high)]
    note = f"{size:,.0f} MB; the first, with {sum(len(s.snapshots) for s in states)} snapshots, {first:.1f} s"
    yield [
        Row.of(case, "vaekit", "s", seconds, note),
        Row(case, "vaekit", "share of training", *share, rounds=rounds, note=f"every {EVERY:.0f} s or more"),
    ]


def _listing(case: str, rounds: int) -> Iterator[list[Row]]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), MEMBERS)
        openings = [_opened(folder) for _ in range(rounds + 1)][1:]  # the first fills the disk's cache
    seconds, megabytes, members, rows = zip(*openings, strict=True)
    if {*members} != {MEMBERS}:
        raise RuntimeError(f"{MEMBERS:,} members were made and {members} were read")
    note = f"{rows[0]:,} values"
    yield [
        Row.of(case, "vaekit", "s", timing.interval(list(seconds)), note),
        Row.of(case, "vaekit", "MB", timing.interval(list(megabytes)), note),
    ]


def make(root: Path, members: int) -> None:
    """A store of made members, committed as any other, but for weights and for the wait for the disk."""
    store, history = Store(root), {"step": torch.tensor([1000])}
    made = {"study": "made", "hardware": "made up", "wall_time": 2.5, "backend": "cores", "torch": torch.__version__}
    with mock.patch.object(os, "fsync", return_value=None):
        for number in range(members):
            member = Member(
                model="dense_vae",
                model_args={"depth": 1 + 2 * (number % 2), "hidden": 64, "latent_dim": 10},
                data="tetrominoes",
                split="cv",
                n_train=4096,
                n_test=1024,
                objective="beta",
                weights={"beta": number % 997 / 100},
                steps=1000,
                batch_size=64,
                seed=number,
            )
            for name, count in ROWS.items():
                store.commit_measure(member.key, name, 1, [_value(number, row) for row in range(count)])
            store.commit(Run(member, "finished", "", history, {}, made))


def _value(number: int, row: int) -> dict[str, Any]:
    """A value that is another for each member and row, with all the digits that a measured one has."""
    value = math.sqrt(2 + number + row / 100)
    part, measure = ("train", "test", "test_a", "test_b")[row % 4], ("rate", "distortion")[row // 4 % 2]
    told = {"step": 100 * (1 + row // 8), "part": part, "measure": measure, "arguments": "samples=1"}
    return told | {"value": value, "se": value / 7, "n": 1024}


def _opened(folder: str) -> list[float]:
    done = subprocess.run([sys.executable, "-c", _OPEN, folder], check=True, capture_output=True, text=True, cwd=_ROOT)
    return json.loads(done.stdout)
