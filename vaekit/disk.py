"""Files that are there whole or not at all, whatever stops the process.

A file is written under another name, brought to the disk, and renamed; what is renamed is on the disk before. Every
step passes `seam`, where the tests stop the world.
"""

import glob
import os
import uuid
from pathlib import Path

_ATTEMPTS = 8


def seam(operation: str, path: Path) -> None:
    """Called before each operation that changes the disk, and in the middle of each write. Does nothing."""


def write(path: Path, content: bytes) -> None:
    """A new file with its content on the disk. Errors: OSError, FileExistsError where it is there."""
    seam("open", path)
    with open(path, "xb") as file:
        half = len(content) // 2
        seam("write", path)
        file.write(content[:half])
        file.flush()
        seam("write on", path)
        file.write(content[half:])
        file.flush()
        seam("fsync", path)
        os.fsync(file.fileno())


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, by a rename. Errors: OSError, with what was there untouched.

    What killed processes left of such writes is deleted; another process that is writing there now starts again.
    """
    for left in path.parent.glob(f".{glob.escape(path.name)}.*"):
        left.unlink(missing_ok=True)
    for attempt in reversed(range(_ATTEMPTS)):
        partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            write(partial, content)
            return move(partial, path, replacing=True)
        except FileNotFoundError:
            if not attempt:
                raise
        finally:
            partial.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """A folder and those that it lies in, where they are not there yet."""
    seam("mkdir", path)
    path.mkdir(parents=True, exist_ok=True)


def move(source: Path, target: Path, replacing: bool = False) -> None:
    """Rename, and bring the new name to the disk; a file that is there is replaced only where that is meant."""
    seam("rename", target)
    (os.replace if replacing else os.rename)(source, target)
    sync(target.parent)


def remove(path: Path) -> None:
    """Delete a file. Errors: OSError."""
    seam("unlink", path)
    path.unlink(missing_ok=True)


def sync(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    seam("fsync", folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
