"""How many members fit in memory at once, by an estimate made before any work."""

from pathlib import Path

import torch
from torch import nn

from vaekit.fleet.members import PRECISIONS, Budget

# Beside what is kept for the backward pass: its own gradients, what a kernel needs while it works, and fragments.
_WORKING = 2.0
_SHARE = 0.9  # of the memory that is free


def members_at_once(model: nn.Module, activations: int, budget: Budget, device: str) -> int:
    """How many members can be stepped at the same time; at least one, which is then tried.

    Args:
        model: one member's.
        activations: bytes that a step keeps of each image for its backward pass.
        budget: batch size and precision.
        device: "cpu", "cuda", …
    """
    return max(1, int(_SHARE * free(device) / bytes_of_one(model, activations, budget)))


def bytes_of_one(model: nn.Module, activations: int, budget: Budget) -> float:
    """What stepping one member takes: weights, gradients and Adam's two moments, and the activations of a batch."""
    size = torch.empty((), dtype=PRECISIONS[budget.precision]).element_size()
    weights = sum(value.numel() for value in model.parameters()) * size
    return 4 * weights + _WORKING * activations * budget.batch_size


def free(device: str) -> float:
    """Bytes free on a device; infinite where the system does not say."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0] + _cached(device))
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:  # another system, or one that keeps it to itself
        lines = []
    available = [float(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable")]
    return min([*available, *_limits()], default=float("inf"))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on a GPU or on a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    messages = ("allocate memory", "out of memory", "ALLOC_FAILED")  # a CPU's, a graph's, cuBLAS's and cuDNN's words
    return isinstance(error, RuntimeError) and any(words in str(error) for words in messages)


def _cached(device: str) -> int:
    """What torch holds on a GPU and does not use."""
    return torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def _limits() -> list[float]:
    """What a container leaves of its limit, where there is one (cgroup version 2)."""
    limit, used, parts = (Path("/sys/fs/cgroup") / f"memory.{name}" for name in ("max", "current", "stat"))
    try:
        cached = dict(line.split() for line in parts.read_text().splitlines()).get("inactive_file", 0)
        return [float(limit.read_text()) - float(used.read_text()) + float(cached)]  # files' cache is given back
    except (OSError, ValueError):  # no such file, or "max"
        return []
