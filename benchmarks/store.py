"""Opening a store of 10,000 members as a DataFrame: seconds, and memory above the interpreter's.

Each member has a record, and the 99 values that study 3 takes of one at the quick scale: rate_distortion (64) and
rate_parts (35). There is no weights file, since none is opened. The store is read from the disk's cache, in a fresh
process each round; the memory is its peak above what the interpreter and its packages take (as Linux counts it).
"""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from benchmarks import timing
from benchmarks.records import Row
from vaekit import runs
from vaekit.runs import Member, Run

ROUNDS = 5
DEVICE = "cpu"
MEMBERS = 10_000
ROWS = {"rate_distortion": 64, "rate_parts": 35}
_ROOT = Path(__file__).resolve().parents[1]
_OPEN = r"""
import json, re, sys, time
from vaekit import runs, tidy
def megabytes(name):
    with open("/proc/self/status") as file:
        return int(re.search(name + r":\s+(\d+) kB", file.read())[1]) / 1e3
before, begun = megabytes("VmRSS"), time.perf_counter()
table = tidy.runs(runs.Store(sys.argv[1]))
print(json.dumps([time.perf_counter() - begun, megabytes("VmHWM") - before, table["key"].nunique(), len(table)]))
"""


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """The rows of the one case, where `only` is in its name."""
    case = f"{MEMBERS:,} members as a DataFrame"
    if only not in case:
        return
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), MEMBERS)
        found = [_opened(folder) for _ in range(rounds + 1)][1:]  # the first fills the disk's cache
    seconds, megabytes, members, rows = zip(*found, strict=True)
    if {*members} != {MEMBERS}:
        raise RuntimeError(f"{MEMBERS:,} members were made and {members} were read")
    note = f"{rows[0]:,} values"
    yield [
        Row.of(case, "vaekit", "s", timing.interval(list(seconds)), note),
        Row.of(case, "vaekit", "MB", timing.interval(list(megabytes)), note),
    ]


def make(root: Path, members: int) -> None:
    """A store of made members, committed as any other, but for weights and for the wait for the disk."""
    store, history = runs.Store(root), {"step": torch.tensor([1000])}
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
