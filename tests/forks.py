"""Processes that may die: forked from one that has torch imported, so that a hundred of them cost little.

`python tests/forks.py` is that one. It reads an order a line, forks as many children as it asks for, waits until all
have ended, however that was, and writes what became of them. What the children need again and again, the function
`warm` of their module makes once. It never runs a step of training: autograd does not survive a fork.
"""

import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class End:
    """How a child ended: its exit status, or the signal that killed it as a negative number (130, 143, -9 …).

    `value` is what its function returned, `error` the traceback of what it raised.
    """

    status: int
    value: object = None
    error: str = ""

    def result(self):
        """What the function returned; fails where it did not."""
        assert self.status == 0, self.error or self.status
        return self.value


class Forks:
    """The process to fork from."""

    def __init__(self):
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)

    def run(self, function, *arguments, seconds: int = 60) -> End:
        """What became of a child that called a module's function on plain values."""
        return self.at_once([(function, *arguments)], seconds)[0]

    def at_once(self, calls, seconds: int = 60) -> list[End]:
        """What became of children that ran side by side; one that takes longer than `seconds` is killed."""
        named = [[f.__module__.rpartition(".")[2], f.__qualname__, arguments] for f, *arguments in calls]
        print(json.dumps([named, seconds]), file=self.process.stdin, flush=True)
        return [End(*end) for end in json.loads(self.process.stdout.readline())]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(30)


def serve() -> None:
    import torch
    import torch._dynamo  # which torch imports at the first step of an optimiser, for two seconds

    torch.set_num_threads(1)
    for line in sys.stdin:
        calls, seconds = json.loads(line)
        for name, *_ in calls:
            if name not in sys.modules and hasattr(module := importlib.import_module(name), "warm"):
                module.warm()
        children = [fork(call, seconds) for call in calls]
        print(json.dumps([ended(*child) for child in children]), flush=True)


def fork(call, seconds: int) -> tuple[int, int]:
    """(process, pipe to read from)."""
    read, write = os.pipe()
    if process := os.fork():
        os.close(write)
        return process, read
    os.close(read)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(2, 1)  # what a child prints is no answer of ours
    signal.alarm(seconds)
    try:
        os._exit(call_and_tell(call, write))
    finally:
        os._exit(70)  # whatever it was: a child never goes on as a second server


def call_and_tell(call, pipe: int) -> int:
    module, name, arguments = call
    told, status = [None, ""], 0
    try:
        told = [getattr(importlib.import_module(module), name)(*arguments), ""]
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        told, status = [None, traceback.format_exc()], 1
    with open(pipe, "w") as file:
        file.write(json.dumps(told))
    return status


def ended(process: int, pipe: int) -> tuple[int, object, str]:
    with open(pipe) as file:  # until the child has closed it, or is dead
        told = file.read()
    _, status = os.waitpid(process, 0)
    return (os.waitstatus_to_exitcode(status), *(json.loads(told) if told else (None, "")))


if __name__ == "__main__":
    serve()
