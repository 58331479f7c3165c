"""Fetching a stored set: the only part of the package that uses the network, and the only one that knows torchvision.

Addresses and checksums are torchvision's; its readers are not used, for that of CIFAR-10 unpickles. The originals'
bytes are read here (IDX files; CIFAR-10's binary archive; SVHN's MATLAB files, by scipy), checked, and written as one
.npz file.
"""

import gzip
import http.client
import importlib
import math
import os
import socket
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from vaekit.data import names, stored
from vaekit.data.derived import DERIVED
from vaekit.data.images import DataError
from vaekit.data.stored import STORED, Stored

# https://www.cs.toronto.edu/~kriz/cifar.html; torchvision knows the pickled archive beside it.
CIFAR10_BINARY = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
MALFORMED = (ValueError, tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile)  # what the readers below may raise
_TIMEOUT = 60  # seconds without a byte after which a server is given up
_libraries: list[torch.library.Library] = []  # what they declare lasts as long as they do


def fetch(name: str, folder: str | os.PathLike | None = None) -> str:
    """Downloads a set into the data folder unless a valid copy is there; returns a sentence that says what was done.

    The set's file appears whole or not at all, and replaces one that is not valid. Errors: DataError for an unknown
    set or one that is not downloaded, no network, a wrong checksum, a folder that cannot be written.
    """
    names.check(name)
    if name in names.MADE:
        return f"{name} is made when it is loaded: there is nothing to download"
    if name in DERIVED:
        origin = DERIVED[name].of
        return f"{name} is made from {origin} when it is loaded: {fetch(origin, folder)}"
    path, wanted = stored.stored_path(name, folder), STORED[name]
    try:
        stored.read(name, folder)
        return f"{name} is already there and valid: {path}"
    except DataError:
        if not wanted.downloadable:
            raise
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=path.parent) as scratch:
            arrays = _download(name, Path(scratch))
            stored.check(arrays, wanted)
            stored.write(path, arrays, wanted.source)
    except DataError:
        raise
    except MALFORMED as error:
        raise DataError(f"what was downloaded is not {name}: {error}. {path} was not written; try again") from error
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}. Set VAEKIT_DATA to a folder with room") from error
    return f"{name} is fetched: {path}"


def torchvision(name: str) -> ModuleType:
    """A module of torchvision ("datasets", "models"), also where torchvision's compiled operators do not load.

    PyPI's torchvision is a CUDA build. Beside a CPU build of torch its operators are missing, and its import dies of
    describing them ("operator torchvision::nms does not exist"): so their schemas are declared, and it is imported
    again. They must not be declared first: where the operators do load, that would define them twice.
    Errors: DataError where torchvision is not installed.
    """
    try:
        return importlib.import_module(f"torchvision.{name}")
    except ImportError as error:
        raise DataError(f"torchvision is needed here ({error}): pip install torchvision") from error
    except RuntimeError as error:
        if "operator torchvision::" not in str(error):
            raise
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _libraries.append(library)
    return importlib.import_module(f"torchvision.{name}")


def _download(name: str, scratch: Path) -> dict[str, np.ndarray]:
    """The arrays of a set, by way of the original files in `scratch`."""
    datasets, wanted = torchvision("datasets"), STORED[name]
    if name == "cifar10":
        mirrors = [datasets.CIFAR10.url.rpartition("/")[0] + "/"]
        return read_cifar(_get(mirrors, *CIFAR10_BINARY, scratch), wanted)
    if name == "svhn":
        matlab = _matlab()  # first, lest a large download be in vain
        originals = [datasets.SVHN.split_list[part] for part in ("train", "test")]
        files = [_get([url.rpartition("/")[0] + "/"], file, md5, scratch) for url, file, md5 in originals]
        return read_svhn(files[0], files[1], wanted, matlab)
    origin = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    files = [_get(origin.mirrors, file, md5, scratch) for file, md5 in origin.resources]
    return {key: read_idx(file, shape) for file, (key, shape) in zip(files, wanted.arrays.items(), strict=True)}


def _matlab() -> ModuleType:
    """scipy.io. Errors: DataError where scipy is not installed."""
    try:
        return importlib.import_module("scipy.io")
    except ImportError as error:
        raise DataError(f"svhn comes in MATLAB files, which scipy reads ({error}): pip install scipy") from error


def _get(mirrors: Sequence[str], file: str, md5: str, scratch: Path) -> Path:
    """Downloads a file from the first mirror that gives it with its checksum. Errors: DataError names them all."""
    utils = importlib.import_module("torchvision.datasets.utils")
    failures = []
    for mirror in mirrors:
        try:
            with _patience(_TIMEOUT):
                utils.download_url(mirror + file, str(scratch), file, md5)
            return scratch / file
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            (scratch / file).unlink(missing_ok=True)
            failures.append(f"{mirror + file}: {error}")
    raise DataError(
        f"{file} (md5 {md5}) could not be downloaded. {'; '.join(failures)}. Nothing was written: try again with a "
        "network, or copy the set's .npz file from another machine's data folder"
    )


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Bounds how long a socket waits: torchvision's download has no limit of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The uint8 array of a gzipped IDX file (http://yann.lecun.com/exdb/mnist); ValueError if not of this shape."""
    header = struct.pack(f">4B{len(shape)}I", 0, 0, 8, len(shape), *shape)  # 8: unsigned bytes
    size = len(header) + math.prod(shape)
    with gzip.open(path) as file:
        data = file.read(size + 1)
    if data[: len(header)] != header or len(data) != size:
        raise ValueError(f"{path.name} is not an IDX file of unsigned bytes of shape {shape}")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)


def read_cifar(path: Path, wanted: Stored) -> dict[str, np.ndarray]:
    """The arrays of CIFAR-10's binary archive; ValueError if one of its six files is absent or of another length.

    Five training files and one test file hold records of a label and 3 x 32 x 32 bytes; nothing is extracted to disk.
    """
    height, width, channels = wanted.shape
    batch = wanted.n_train // 5
    counts = {f"cifar-10-batches-bin/data_batch_{i}.bin": batch for i in range(1, 6)}
    counts["cifar-10-batches-bin/test_batch.bin"] = wanted.n_test
    record = 1 + math.prod(wanted.shape)
    records = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            if member.name in counts and member.isreg() and (file := archive.extractfile(member)):
                records[member.name] = file.read(counts[member.name] * record + 1)
    for file, count in counts.items():
        if len(records.get(file, b"")) != count * record:
            raise ValueError(f"{path.name} lacks {file} of {count:,} records of {record:,} bytes")
    rows = np.frombuffer(b"".join(records[file] for file in counts), np.uint8).reshape(-1, record)
    images = rows[:, 1:].reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
    train, test = slice(None, wanted.n_train), slice(wanted.n_train, None)
    return {
        "train_images": np.ascontiguousarray(images[train]),
        "train_labels": rows[train, 0].copy(),
        "test_images": np.ascontiguousarray(images[test]),
        "test_labels": rows[test, 0].copy(),
    }


def read_svhn(train: Path, test: Path, wanted: Stored, matlab: ModuleType) -> dict[str, np.ndarray]:
    """The arrays of SVHN's two MATLAB files (format 5): X (32, 32, 3, n) and y (n, 1), where the digit 0 is 10.

    `matlab` is scipy.io, whose reader runs nothing that is in the file. ValueError if a file is not so.
    """
    arrays = {}
    for part, path, count in (("train", train, wanted.n_train), ("test", test, wanted.n_test)):
        try:
            found = matlab.loadmat(path, variable_names=("X", "y"))
            images, labels = found["X"], found["y"].ravel()
        except Exception as error:  # it has many kinds, some of them without a base of their own
            raise ValueError(f"{path.name} is not a MATLAB file of format 5 that holds X and y: {error!r}") from error
        if images.dtype != np.uint8 or images.shape != (*wanted.shape, count) or len(labels) != count:
            what = f"{images.dtype} {images.shape} with {len(labels):,} labels"
            raise ValueError(f"{path.name} holds {what}, not {count:,} images of {wanted.shape} bytes")
        if labels.dtype.kind not in "iuf" or not np.isin(labels, range(1, 11)).all():
            raise ValueError(f"{path.name} holds labels other than the whole numbers from 1 to 10")
        arrays[f"{part}_images"] = np.ascontiguousarray(np.moveaxis(images, 3, 0))
        arrays[f"{part}_labels"] = (labels % 10).astype(np.uint8)
    return arrays
