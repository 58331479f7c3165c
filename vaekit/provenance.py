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

    def git(*command: str) -> bytes:
        run = subprocess.run(["git", *command], cwd=CHECKOUT, env=environment, capture_output=True, check=True)
        return run.stdout

    try:
        git("ls-files", "--error-unmatch", "vaekit/provenance.py")  # fails where the package is in another repository
        return git("rev-parse", "HEAD").decode("ascii")[:12]
    except (OSError, subprocess.CalledProcessError):
        return None
