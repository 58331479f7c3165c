"""What the store and the sweep promise when the world goes wrong: each test keeps a row of book/promises.md.

There are no locks anywhere in vaekit, so nothing here could rest on one.
"""

import errno
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from forks import Forks
from tiny import FullDisk, member

from vaekit import disk, sweep
from vaekit.runs import Store, StoreError
from vaekit.sweep import Design, Measure, Value, plan

MEMBERS = [member(beta, steps=2) for beta in (1, 2)]


def weight(model, member, step, images):
    """The sum of all weights."""
    total = sum(p.double().abs().sum().item() for p in model.parameters())
    yield Value("test", "weight", "", total, 0.0, len(images.test))


DESIGN = Design("probes", (Measure("probe", 1, weight),), lambda m: (1, m.steps), lambda m: (m.steps,))


@pytest.fixture(scope="module")
def forks():
    made = Forks()
    yield made
    made.close()


def swept(root, members=MEMBERS):
    """Run the sweep on a store, on one thread, without timing anything first."""
    torch.set_num_threads(1)
    os.environ["VAEKIT_RESULTS"] = os.path.join(root, "no results")
    sweep.seconds_per_step = lambda member, device: 0.01
    sweep.commit = lambda: None
    sweep.run(DESIGN, members, Store(root), progress=False, say=lambda line: None)


def killed_at(root, nth):
    """Run it, and be killed at the nth operation that changes the disk; returns all of them if they are fewer."""
    calls = []

    def seam(operation, path):
        calls.append(operation)
        if len(calls) == nth:
            os.kill(os.getpid(), signal.SIGKILL)

    disk.seam = seam
    swept(root)
    return calls


def hashes(root):
    """The hashes of all files of each run that is there, after each was verified: a run is whole, or absent."""
    store = Store(root)
    for key in store.keys():
        store.verify(key)
    return {key: store.record(key)["files"] for key in store.keys()}


def leftovers(root):
    """Files of a store that are no part of it."""
    files = {path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()}
    return {str(path) for path in files if path.parts[0] not in ("runs", "measures", "work")} | {
        str(path) for path in files if path.name.startswith(".")
    }


@pytest.fixture
def whole(forks, tmp_path):
    """What an uninterrupted sweep stores: hashes by key."""
    root = str(tmp_path / "whole")
    forks.run(swept, root).result()
    return hashes(root)


def test_kill_9_at_every_operation_leaves_members_whole_or_absent(forks, whole, tmp_path):
    for nth in itertools.count(1):
        root = str(tmp_path / "killed")
        end = forks.run(killed_at, root, nth)
        assert whole.items() >= hashes(root).items(), nth
        if end.status == 0:
            break
        assert end.status == -signal.SIGKILL
        forks.run(swept, root).result()
        assert hashes(root) == whole, nth
        assert not leftovers(root), nth
        shutil.rmtree(root)
    assert nth > 60
    assert {"mkdir", "open", "write", "write on", "fsync", "rename"} == set(end.value)
