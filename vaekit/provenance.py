"""Where and by what a result was made, for its record."""

import platform
import subprocess
from pathlib import Path

import torch

from vaekit.store import CHECKOUT


def hardware(device: str) -> str:
    """The processor that trains, for people."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{torch.get_num_threads()} threads of {name or platform.machine()}"


def commit() -> str | None:
    """The checkout's git commit, its first 12 digits; None outside a checkout."""
    if not (CHECKOUT / ".git").exists():  # an installed package, perhaps inside of another repository
        return None
    try:
        answer = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip()[:12] if answer.returncode == 0 else None
