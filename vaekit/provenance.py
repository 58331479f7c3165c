"""Where and by what a result was made, for its record."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from vaekit.store import CHECKOUT


def hardware(device: str) -> str:
    """The processor that trains, for people."""
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # another system than Linux, or a container that hides it
        lines = []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    return f"{torch.get_num_threads()} threads of {name or platform.machine()}"


def commit() -> str | None:
    """The checkout's git commit, its first 12 digits; None outside a checkout, or where git does not say."""
    if not os.path.exists(CHECKOUT / ".git"):  # an installed package, perhaps inside of another repository
        return None
    # Variables such as GIT_DIR, which git sets for its hooks, name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    lines = []
    # The second tells a repository of which this package is a part from one that it was put into.
    for command in (["rev-parse", "HEAD"], ["ls-files", "--error-unmatch", "vaekit/provenance.py"]):
        try:
            answer = subprocess.run(["git", *command], cwd=CHECKOUT, env=environment, capture_output=True)
        except OSError:
            return None
        if answer.returncode:
            return None
        lines += answer.stdout.split()
    return lines[0].decode("ascii")[:12]
