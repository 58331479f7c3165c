"""Studies that a cluster's workers import: tiny, with a member whose process dies, and one that raises."""

import multiprocessing
import os
import signal
import tempfile
from pathlib import Path

from tiny import member

from vaekit.store import checkpoints
from vaekit.sweep import Measure, StudySpec, Value, jobs

POISON, BUG, SPOIL = 666.0, 667.0, 668.0
if multiprocessing.parent_process():  # a worker
    checkpoints.EVERY = 0.1


def deaths(pid):
    """A file with a line for each death of a worker that a process started."""
    return Path(tempfile.gettempdir(), f"vaekit-deaths-{pid}")


def spoiled(pid):
    """A file with the number of the worker that an error spoiled."""
    return Path(tempfile.gettempdir(), f"vaekit-spoiled-{pid}")


def weight(model, member, step, images):
    """The sum of all weights; or the end of this process, or an error."""
    beta = dict(member.weights)["beta"]
    if beta == POISON:
        with deaths(os.getppid()).open("a") as file:
            file.write("died\n")
        os.kill(os.getpid(), signal.SIGKILL)
    if beta == BUG:
        raise RuntimeError("no such measure today")
    if beta == SPOIL and not (once := spoiled(os.getppid())).exists():
        once.write_text(str(os.getpid()))
        jobs.device_problem = lambda device: "the card has fallen off the bus"
        raise RuntimeError("an illegal memory access")
    total = sum(p.double().abs().sum().item() for p in model.parameters())
    yield Value("test", "weight", "", total, 0.0, len(images.test))


SPEC = StudySpec("probes", (Measure("probe", 1, weight),), lambda m: (m.steps // 2, m.steps), lambda m: (m.steps,))


def members(*betas, steps=20, **changes):
    return [member(beta, steps=steps, **changes) for beta in betas]
