"""The one rule of all that is kept: a thing is one file, whole or absent, and its header or its name says its hash.

A file is written under a temporary name, brought to the disk, and given its own name in one operation. `create` links
it, which fails where somebody was first; `replace` renames it over what is there. Every operation that changes the disk
passes `seam`, where the tests stop the world.

Two forms are kept. A *sealed* text is JSON that carries the hash of its own content. A *pack* is a safetensors file
whose sealed header holds a description and a hash for each group of its tensors, so that one group is read, and
verified, without the others.
"""

import errno
import glob
import hashlib
import json
import math
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from vaekit.settings import PlainError

ATTEMPTS = 64  # of a write: each sweep that starts clears what others are writing, who then start again
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}")  # the name of a file while it is written, which no other file has
PROBE = ".probe"  # the name of a file that is made to see that one can be
MAY_NOT_BE_READ = "may not be read"
NOT_THE_STORES = "is not the store's"
_HEADER = "vaekit"  # the one entry of a pack's metadata: safetensors writes several in no certain order
# What bytes that are not what they say can raise in reading them: torch lacks a dtype, a shape is beyond every memory.
UNREADABLE = (
    ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError, MemoryError,
    safetensors.SafetensorError,
)  # fmt: skip


class StoreError(PlainError, RuntimeError):
    """Something that cannot be stored, or something stored that is not what it says."""


class UnreadableError(StoreError):
    """Something that the system does not let be read: not known to be damaged, nor to be absent."""


# Writing --------------------------------------------------------------------------------------------------------------


def seam(operation: str, path: Path) -> None:
    """Called before each operation that changes the disk, and in the middle of each write. Does nothing."""


def create(path: Path, content: bytes, temporary: Path | None = None) -> bool:
    """Put a new file in its place, unless there is one; returns whether it was put.

    Where the file system has no hard links, the file is made under its own name: one that a kill cut short is then no
    absent file, but a damaged one.

    Args:
        path: where.
        content: of the file.
        temporary: the folder, of the same file system, for the file while it is written (None: that of `path`).

    Raises:
        StoreError: The disk refuses; nothing that was there has changed.
    """
    with _refusals(path, len(content)):
        for attempt in reversed(range(ATTEMPTS)):
            try:
                make_folder(path.parent)
                with _written(path, content, temporary or path.parent) as partial:
                    is_new = _link(partial, path, content)
                sync(path.parent)
                return is_new
            except FileNotFoundError:  # somebody cleared what was being written
                if not attempt:
                    raise
        raise AssertionError("the last attempt returns or raises")


def replace(path: Path, content: bytes) -> None:
    """Put a file in the place of what is there, by a rename.

    What killed processes left of such writes is deleted; another process that is writing there now starts again.

    Raises:
        StoreError: The disk refuses; what was there has not changed.
    """
    with _refusals(path, len(content)):
        make_folder(path.parent)
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*"):
            if TEMPORARY.fullmatch(leftover.name):  # an editor's file has another name
                leftover.unlink(missing_ok=True)
        for attempt in reversed(range(ATTEMPTS)):
            try:
                with _written(path, content, path.parent) as partial:
                    seam("rename", path)
                    os.replace(partial, path)
                    return sync(path.parent)
            except FileNotFoundError:
                if not attempt:
                    raise


def check_writable(folder: Path, temporary: Path | None = None) -> None:
    """Make a file in a folder, and delete it: as `create` does or, without `temporary`, as `replace` does.

    Raises:
        StoreError: The disk refuses.
    """
    probe = folder / PROBE
    try:
        create(probe, b"probe", temporary) if temporary else replace(probe, b"probe")
    finally:
        with suppress(OSError):
            remove(probe)


def move(source: Path, target: Path) -> None:
    """Rename, and bring the new name to the disk. Raises OSError."""
    make_folder(target.parent)
    seam("rename", target)
    os.rename(source, target)
    sync(target.parent)


def make_folder(path: Path) -> None:
    """A folder and those that it lies in, on the disk, where they are not there yet. Raises OSError."""
    if not path.is_dir():
        make_folder(path.parent)
        seam("mkdir", path)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def remove(path: Path) -> None:
    """Delete a file, if it is there. Raises OSError."""
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


def _link(partial: Path, path: Path, content: bytes) -> bool:
    """Give a file that is written its name; returns whether that was free."""
    seam("link", path)
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _create_exclusively(path, content)
    return True


def _create_exclusively(path: Path, content: bytes) -> bool:
    try:
        _write(path, content)
    except FileExistsError:
        return False
    except OSError:
        path.unlink(missing_ok=True)
        raise
    return True


@contextmanager
def _written(path: Path, content: bytes, folder: Path) -> Iterator[Path]:
    """A temporary file with this content, on the disk; gone afterwards."""
    make_folder(folder)
    partial = folder / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        _write(partial, content)
        yield partial
    finally:
        remove(partial)


def _write(path: Path, content: bytes) -> None:
    seam("open", path)
    with open(path, "xb") as file:
        view = memoryview(content)
        half = len(view) // 2
        seam("write", path)
        file.write(view[:half])
        file.flush()
        seam("write on", path)
        file.write(view[half:])
        file.flush()
        seam("fsync", path)
        os.fsync(file.fileno())


@contextmanager
def _refusals(path: Path, size: int) -> Iterator[None]:
    """What the disk refuses is a StoreError with the path, the size and what is free."""
    try:
        yield
    except OSError as error:
        space = ""
        if error.errno in _FULL:
            free = shutil.disk_usage(next(p for p in (path, *path.parents) if os.path.exists(p))).free
            space = f": it takes {size / 1e6:,.3f} MB, and {free / 1e6:,.3f} MB are free"
        raise StoreError(f"{path} could not be written ({error.strerror}{space}); nothing was lost") from error


# Reading --------------------------------------------------------------------------------------------------------------


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """What the system does not let be read is an UnreadableError; only what is absent is a FileNotFoundError.

    Permissions, a disk that fails, a file in place of a folder, a link to a disk that is not there: only what was read
    and found wrong is damaged, and only what is known not to be there is absent.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            links = [place for place in (Path(path), *Path(path).parents) if place.is_symlink()]
            if not (broken := next((link for link in links if not os.path.exists(link)), None)):
                raise
            reason = f"{broken} is a link to nothing"
        advice = "nothing was changed: let this user read it, or see to its disk, and try again"
        raise UnreadableError(f"{path} {MAY_NOT_BE_READ} ({reason}); {advice}") from error


def exists(path: Path | str) -> bool:
    """Whether something is there. Raises UnreadableError where that cannot be known."""
    try:
        with reading(path):
            os.stat(path)
    except FileNotFoundError:
        return False
    return True


def entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """What lies in a folder, in order of the names; nothing where there is none. Raises UnreadableError."""
    try:
        with reading(folder), os.scandir(folder) as unordered:
            return sorted((entry for entry in unordered if entry.name != PROBE), key=lambda entry: entry.name)
    except FileNotFoundError:
        return []


def visible(folder: Path | str) -> list[os.DirEntry[str]]:
    """The same without hidden entries, which systems and editors leave anywhere."""
    return [entry for entry in entries(folder) if not entry.name.startswith(".")]


# Sealed texts ---------------------------------------------------------------------------------------------------------


def digest(content: bytes) -> str:
    """The SHA-256 of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def seal(content: Mapping[str, Any]) -> bytes:
    """Canonical JSON that carries the hash of its content; a number that JSON has no word for is null."""
    plain = json.dumps(_plain(content), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return _framed(plain.encode())


def unseal(sealed: bytes) -> dict[str, Any]:
    """What `seal` was given. Raises ValueError for any other bytes, one flipped bit included."""
    content = sealed[len(_framed(b"")) - 1 : -1]
    if sealed != _framed(content):
        raise ValueError("its hash does not match")
    return json.loads(content)


def _framed(content: bytes) -> bytes:
    return b'{"sha256":"%b","content":%b}' % (digest(content).encode(), content)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


# Packs ----------------------------------------------------------------------------------------------------------------


def pack(about: Mapping[str, Any], groups: Mapping[str, Mapping[str, Tensor]]) -> bytes:
    """A safetensors file of groups of tensors on the CPU, `about` and the groups' hashes in its header."""
    hashes = {name: _digest_of(tensors) for name, tensors in groups.items()}
    tensors: dict[str, Tensor] = {}
    owners: set[int] = set()
    for group, named in groups.items():
        for name, value in named.items():
            tensors[f"{group}/{name}"] = tensor = _apart(value, owners)
            owners.add(tensor.untyped_storage().data_ptr())
    header = seal({"about": about, "groups": hashes}).decode()
    return safetensors.torch.save(tensors, {_HEADER: header})


def header_digest(content: bytes) -> str:
    """The hash of a pack's header, and so of all that the pack holds: `Pack.digest`."""
    size = int.from_bytes(content[:8], "little")
    return digest(json.loads(content[8 : 8 + size])["__metadata__"][_HEADER].encode())


class Pack:
    """A file that `pack` made: its header is read and verified at once, a group of its tensors when it is asked for.

    Attributes:
        about: the description.
        groups: the hash of each group by its name.
        digest: of the header, and by the hashes in it of all that the file holds.

    Raises:
        FileNotFoundError: There is no such file.
        UnreadableError: The system does not let it be read.
        StoreError: The file names itself, and why it is no pack, with the `advice` at the end.
    """

    def __init__(self, path: Path, advice: str = "delete it"):
        self.path, self.advice = path, advice
        try:
            with _opened(path) as file:
                sealed = (file.metadata() or {})[_HEADER].encode()
                header = unseal(sealed)
                self.about, self.groups = dict(header["about"]), dict(header["groups"])
        except UnreadableError:
            raise
        except UNREADABLE as error:
            raise self._error(error) from None
        self.digest = digest(sealed)

    def read(self, group: str) -> dict[str, Tensor]:
        """The tensors of a group, verified. Raises StoreError where they are damaged, and else as above."""
        start = f"{group}/"
        try:
            with _opened(self.path) as file:
                names = [name for name in file.keys() if name.startswith(start)]
                tensors = {name.removeprefix(start): file.get_tensor(name) for name in names}
            if _digest_of(tensors) != self.groups[group]:
                raise ValueError(f"its {group} does not hash to what its header says")
        except UnreadableError:
            raise
        except UNREADABLE as error:
            raise self._error(error) from None
        return tensors

    def verify(self) -> None:
        """Read all of the file. Raises StoreError where any of it is damaged, or is no part of a group."""
        for group in self.groups:
            self.read(group)
        with _opened(self.path) as file:
            foreign = [name for name in file.keys() if not name.startswith(tuple(f"{group}/" for group in self.groups))]
        if foreign:
            raise self._error(ValueError(f"it holds {foreign[0]}, which is no part of it"))

    def _error(self, error: Exception) -> StoreError:
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return StoreError(f"{self.path} is damaged ({reason}); {self.advice}")


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file. Raises FileNotFoundError and UnreadableError: for safetensors, both are absent."""
    with reading(path), open(path, "rb") as file:
        text = str(path).encode(errors="ignore").decode()
        # safetensors takes no path whose bytes are not UTF-8: such a file is opened by its descriptor.
        pack = safetensors.safe_open(text if text == str(path) else f"/dev/fd/{file.fileno()}", "pt")
    with pack as opened:
        yield opened


def _digest_of(tensors: Mapping[str, Tensor]) -> str:
    """A hash of tensors with their names, kinds and shapes."""
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach()
        hashed.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        hashed.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return hashed.hexdigest()


def _apart(value: Tensor, owners: set[int]) -> Tensor:
    """A tensor that shares its memory with none of the `owners`, as safetensors wants it."""
    value = value.detach().contiguous()
    memory = value.untyped_storage()
    is_alone = value.nbytes == memory.nbytes() and memory.data_ptr() not in owners
    return value if is_alone else value.clone()
