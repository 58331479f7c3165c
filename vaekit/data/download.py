"""Fetching a stored set: the only part of the package that uses the network, and the only one that knows torchvision.

Addresses and checksums are torchvision's, or stand in `STORED`; torchvision's readers are not used, for that of
CIFAR-10 unpickles. The originals' bytes are read here (IDX files; CIFAR-10's binary archive; SmallNORB's matrices;
SVHN's MATLAB files, by scipy; 3D Shapes' HDF5 file, by h5py), checked, and written as one .npz file. An original that
lies in the data folder already is not downloaded.
"""

import functools
import gzip
import hashlib
import http.client
import importlib
import math
import os
import socket
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
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
_ROWS = 500  # images read at once of a file that is large
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
            arrays = _download(name, path.parent, Path(scratch))
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
    """A module of torchvision ("datasets", say), also where torchvision's compiled operators do not load.

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


def _download(name: str, folder: Path, scratch: Path) -> dict[str, np.ndarray]:
    """The arrays of a set, by way of the original files in `folder` or, downloaded, in `scratch`."""
    wanted = STORED[name]
    get = functools.partial(_get, folder=folder, scratch=scratch)
    if wanted.originals:
        # First, lest a large download be in vain.
        h5 = _library("h5py", "shapes3d comes in an HDF5 file, which h5py reads") if name == "shapes3d" else None
        places = [(url.rpartition("/"), sha256) for url, sha256 in wanted.originals.items()]
        files = [get([f"{base}/"], file, sha256) for (base, _, file), sha256 in places]
        return read_shapes3d(files[0], wanted, h5) if h5 else read_norb(files, wanted)
    datasets = torchvision("datasets")
    if name == "cifar10":
        mirrors = [datasets.CIFAR10.url.rpartition("/")[0] + "/"]
        return read_cifar(get(mirrors, *CIFAR10_BINARY), wanted)
    if name == "svhn":
        matlab = _library("scipy.io", "svhn comes in MATLAB files, which scipy reads")
        originals = [datasets.SVHN.split_list[part] for part in ("train", "test")]
        files = [get([url.rpartition("/")[0] + "/"], file, md5) for url, file, md5 in originals]
        return read_svhn(files[0], files[1], wanted, matlab)
    origin = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    files = [get(origin.mirrors, file, md5) for file, md5 in origin.resources]
    return {key: read_idx(file, shape) for file, (key, shape) in zip(files, wanted.arrays.items(), strict=True)}


def _library(module: str, why: str) -> ModuleType:
    """A module of a library that nothing else here needs. Errors: DataError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{why} ({error}): pip install {module.partition('.')[0]}") from error


def _get(mirrors: Sequence[str], file: str, checksum: str, folder: Path, scratch: Path) -> Path:
    """A file of this MD5 or SHA-256 from `folder`, else from the first mirror that gives it, into `scratch`.

    Errors: DataError names them all.
    """
    failures, there = [], folder / file
    if there.is_file():
        if _digest(there, checksum) == checksum:
            return there
        failures.append(f"{there}: it is another file, of {_kind(checksum)} {_digest(there, checksum)}")
    utils = torchvision("datasets.utils")
    for mirror in mirrors:
        try:
            with _patience(_TIMEOUT):
                utils.download_url(mirror + file, str(scratch), file)
            if (came := _digest(scratch / file, checksum)) == checksum:
                return scratch / file
            failures.append(f"{mirror + file}: it came corrupted, of {_kind(checksum)} {came}")
        except (OSError, RuntimeError, http.client.HTTPException) as error:
            failures.append(f"{mirror + file}: {error}")
        (scratch / file).unlink(missing_ok=True)
    raise DataError(
        f"{file} ({_kind(checksum)} {checksum}) could not be downloaded. {'; '.join(failures)}. Nothing was written: "
        f"try again with a network, put the file into {folder}, or copy the set's .npz file there from another machine"
    )


def _kind(checksum: str) -> str:
    return "md5" if len(checksum) == 32 else "sha256"


def _digest(path: Path, like: str) -> str:
    """A file's checksum, of the kind of another."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(_kind(like), usedforsecurity=False)).hexdigest()


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


def read_norb(files: Sequence[Path], wanted: Stored) -> dict[str, np.ndarray]:
    """The arrays of SmallNORB's matrices: images and categories for training, then for testing; the left camera's.

    The cameras' images are three times as high and as wide as those wanted. ValueError if a file is not so.
    """
    high, wide = (3 * side for side in wanted.shape)
    arrays = {}
    for part, n, (images, labels) in (("train", wanted.n_train, files[:2]), ("test", wanted.n_test, files[2:])):
        left = read_matrix(images, np.dtype("u1"), (n, 2, high, wide), lambda pairs: area_averaged(pairs[:, 0], 3))
        categories = read_matrix(labels, np.dtype("<i4"), (n,))
        if not ((categories >= 0) & (categories < wanted.classes)).all():
            raise ValueError(f"{labels.name} holds categories other than 0 to {wanted.classes - 1}")
        arrays |= {f"{part}_images": left, f"{part}_labels": categories.astype(np.uint8)}
    return arrays


def read_matrix(
    path: Path, kind: np.dtype, shape: tuple[int, ...], make: Callable[[np.ndarray], np.ndarray] = np.copy
) -> np.ndarray:
    """What `make` makes of the rows of a gzipped matrix in NORB's format; ValueError if not of this kind and shape.

    The format (https://cs.nyu.edu/~ylclab/data/norb-v1.0-small): a magic number for the kind, the number of dimensions,
    three dimensions at least, and the values, little-endian. Rows are read a few at a time: a file holds half a
    gigabyte.
    """
    sizes = (*shape, 1, 1)[: max(3, len(shape))]
    header = struct.pack(f"<{2 + len(sizes)}i", {1: 0x1E3D4C55, 4: 0x1E3D4C54}[kind.itemsize], len(shape), *sizes)
    row = math.prod(shape[1:]) * kind.itemsize
    made = []
    with gzip.open(path) as file:
        good = file.read(len(header)) == header
        for start in range(0, shape[0], _ROWS):
            count = min(_ROWS, shape[0] - start)
            data = file.read(count * row)
            if not good or len(data) != count * row:
                raise ValueError(f"{path.name} is not a matrix of {kind.name} of shape {shape}")
            made.append(make(np.frombuffer(data, kind).reshape(count, *shape[1:])))
        if file.read(1):
            raise ValueError(f"{path.name} holds more than a matrix of {kind.name} of shape {shape}")
    return np.concatenate(made)


def read_shapes3d(path: Path, wanted: Stored, h5: ModuleType) -> dict[str, np.ndarray]:
    """The arrays of 3D Shapes' HDF5 file: images, twice as high and as wide, and which of four shapes each shows.

    `h5` is h5py. The file must hold every combination of its six factors, in order, the last changing fastest.
    ValueError if it is not so.
    """
    high, wide, colours = wanted.shape
    images = np.empty((wanted.n_train, *wanted.shape), np.uint8)
    try:
        with h5.File(path, "r") as file:
            source, factors = file["images"], np.asarray(file["labels"])
            if source.dtype != np.uint8 or source.shape != (wanted.n_train, 2 * high, 2 * wide, colours):
                raise ValueError(f"{path.name} holds images of {source.dtype} {source.shape}")
            rows = max(_ROWS, (source.chunks or (0,))[0])  # whole chunks: each is unpacked once
            for start in range(0, wanted.n_train, rows):
                images[start : start + rows] = area_averaged(source[start : start + rows], 2)
    except (OSError, KeyError) as error:
        raise ValueError(f"{path.name} is not an HDF5 file that holds images and labels: {error!r}") from error
    if factors.shape != (wanted.n_train, 6):
        raise ValueError(f"{path.name} holds labels of shape {factors.shape}, not {wanted.n_train:,} of six factors")
    levels = [np.unique(column, return_inverse=True) for column in factors.T]
    sizes = [len(values) for values, _ in levels]
    if math.prod(sizes) != wanted.n_train or any(
        (level != place).any()
        for (_, level), place in zip(levels, np.unravel_index(np.arange(wanted.n_train), sizes), strict=True)
    ):
        raise ValueError(f"{path.name} does not hold every combination of its factors in order")
    return {"train_images": images, "train_labels": levels[4][1].astype(np.uint8)}


def area_averaged(images: np.ndarray, factor: int) -> np.ndarray:
    """uint8 images (n, height, width, …) at 1/`factor` of their height and width: the means, halves rounded up."""
    sums = np.zeros_like(images[:, ::factor, ::factor], np.uint16)
    for row in range(factor):  # a fifth of the time of one sum over the cells
        for column in range(factor):
            sums += images[:, row::factor, column::factor]
    area = factor**2
    return ((2 * sums + area) // (2 * area)).astype(np.uint8)
