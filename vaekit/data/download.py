"""Fetching a stored set: the only part of the package that uses the network, and the only one that knows torchvision.

Addresses and checksums are torchvision's, or stand in `STORED`. Originals are downloaded by pooch; one that lies in the
data folder already is not. torchvision reads those of MNIST, Fashion-MNIST and SVHN; its reader of CIFAR-10 unpickles,
so the binary archive is read here, as are the sets that it lacks: SmallNORB's matrices and 3D Shapes' HDF5 file. What
was read is checked and written as one .npz file.
"""

import functools
import gzip
import importlib
import math
import os
import shutil
import struct
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch

from vaekit.data import names, stored
from vaekit.data.derived import DERIVED
from vaekit.data.images import DataError
from vaekit.data.made import MADE
from vaekit.data.stored import STORED, Stored

# https://www.cs.toronto.edu/~kriz/cifar.html; torchvision knows the pickled archive beside it.
CIFAR10_BINARY = ("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530")
_ROWS = 500  # images read at once of a file that is large
_RETRIES = 2  # after a download that broke or came corrupted
_TIMEOUT = 60  # seconds without a byte after which a server is given up
_CHUNK = 2**16  # bytes
_libraries: list[torch.library.Library] = []  # what they declare lasts as long as they do


def fetch(name: str, folder: str | os.PathLike | None = None) -> str:
    """Downloads a set into the data folder unless a valid copy is there; returns a sentence about the outcome.

    The set's file appears whole or not at all, and replaces one that is not valid.

    Raises:
        DataError: an unknown set or one that is not downloaded, no network, a wrong checksum, a folder that cannot be
            written, a file there that may not be read, a library that is not installed.
    """
    names.check(name)
    if name in MADE:
        return f"{name} is made when it is loaded: there is nothing to download"
    if name in DERIVED:
        origin = DERIVED[name].of
        return f"{name} is made from {origin} when it is loaded: {fetch(origin, folder)}"
    path, wanted = stored.stored_path(name, folder), STORED[name]
    try:
        stored.read(name, folder)
        return f"{name} is already there and valid: {path}"
    except stored.UnreadableFileError:
        raise
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
    except Exception as error:  # readers of originals raise many kinds
        if isinstance(error, OSError) and error.errno:  # the system's, not a reader's
            raise DataError(f"{path} cannot be written: {error}. Set VAEKIT_DATA to a folder with room") from error
        problem = str(error) or repr(error)
        raise DataError(f"what was downloaded is not {name}: {problem}. {path} was not written; try again") from error
    return f"{name} is fetched: {path}"


def torchvision(name: str) -> ModuleType:
    """A module of torchvision ("datasets", say), also where torchvision's compiled operators do not load.

    PyPI's torchvision is a CUDA build. Beside a CPU build of torch its operators are missing, and its import dies of
    describing them ("operator torchvision::nms does not exist"): so their schemas are declared, and it is imported
    again. They must not be declared first: where the operators do load, that would define them twice.

    Raises:
        DataError: torchvision is not installed.
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
    # Libraries first, lest a large download be in vain.
    h5 = _library("h5py", "shapes3d comes in an HDF5 file, which h5py reads") if name == "shapes3d" else None
    if name == "svhn":
        _library("scipy.io", "svhn comes in MATLAB files, which scipy reads")
    get = functools.partial(_get, folder=folder, scratch=scratch)
    if wanted.originals:
        places = [(url.rpartition("/"), sha256) for url, sha256 in wanted.originals.items()]
        files = [get([f"{base}/"], file, sha256) for (base, _, file), sha256 in places]
        return read_shapes3d(files[0], wanted, h5) if h5 else read_norb(files, wanted)
    datasets = torchvision("datasets")
    if name == "cifar10":
        return read_cifar(get([f"{os.path.dirname(datasets.CIFAR10.url)}/"], *CIFAR10_BINARY), wanted)
    if name == "svhn":
        arrays = {}
        for part in ("train", "test"):
            url, file, md5 = datasets.SVHN.split_list[part]
            get([f"{os.path.dirname(url)}/"], file, md5)
            dataset = datasets.SVHN(str(scratch), part)
            arrays[f"{part}_images"] = np.ascontiguousarray(dataset.data.transpose(0, 2, 3, 1))
            arrays[f"{part}_labels"] = dataset.labels.astype(np.uint8)
        return arrays
    origin = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    files = [get(origin.mirrors, file, md5) for file, md5 in origin.resources]
    return {key: read_idx(file) for file, key in zip(files, wanted.arrays, strict=True)}


def _library(module: str, reason: str) -> ModuleType:
    """A module of a library that nothing else here needs. Raises: DataError where it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(f"{reason} ({error}): pip install {module.partition('.')[0]}") from error


def _get(mirrors: Sequence[str], file: str, checksum: str, folder: Path, scratch: Path) -> Path:
    """A file of this MD5 or SHA-256 in `scratch`: a link to that in `folder`, else from the first mirror that gives it.

    Raises:
        DataError: none does; it names them all.
    """
    pooch = _library("pooch", "downloads are made by pooch")
    kind, failures, own = "md5" if len(checksum) == 32 else "sha256", [], folder / file
    if own.is_file():
        if (digest := pooch.file_hash(own, kind)) == checksum:
            (scratch / file).symlink_to(own)
            return scratch / file
        failures.append(f"{own}: it is another file, of {kind} {digest}")
    downloader = pooch.HTTPDownloader(progressbar=True, timeout=_TIMEOUT, chunk_size=_CHUNK)
    for mirror in mirrors:
        originals = pooch.create(scratch, mirror, registry={file: f"{kind}:{checksum}"}, retry_if_failed=_RETRIES)
        try:
            return Path(originals.fetch(file, downloader=downloader))
        except (OSError, ValueError) as error:
            failures.append(f"{mirror + file}: {error}")
    raise DataError(
        f"{file} ({kind} {checksum}) could not be downloaded. {'; '.join(failures)}. Nothing was written: try again "
        f"with a network, put the file into {folder}, or copy the set's .npz file there from another machine"
    )


def read_idx(path: Path) -> np.ndarray:
    """The array of a gzipped IDX file (http://yann.lecun.com/exdb/mnist), which is unpacked beside it."""
    with gzip.open(path) as packed, open(path.with_suffix(""), "wb") as file:
        shutil.copyfileobj(packed, file)
    return torchvision("datasets.mnist").read_sn3_pascalvincent_tensor(str(path.with_suffix(""))).numpy()


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
    parts = []
    with gzip.open(path) as file:
        good = file.read(len(header)) == header
        for start in range(0, shape[0], _ROWS):
            count = min(_ROWS, shape[0] - start)
            data = file.read(count * row)
            if not good or len(data) != count * row:
                raise ValueError(f"{path.name} is not a matrix of {kind.name} of shape {shape}")
            parts.append(make(np.frombuffer(data, kind).reshape(count, *shape[1:])))
        if file.read(1):
            raise ValueError(f"{path.name} holds more than a matrix of {kind.name} of shape {shape}")
    return np.concatenate(parts)


def read_shapes3d(path: Path, wanted: Stored, h5: ModuleType) -> dict[str, np.ndarray]:
    """The arrays of 3D Shapes' HDF5 file: images, twice as high and as wide, and which of four shapes each shows.

    `h5` is h5py. The file must hold every combination of its six factors, in order, the last changing fastest.
    ValueError if it is not so.
    """
    high, wide, channels = wanted.shape
    images = np.empty((wanted.n_train, *wanted.shape), np.uint8)
    try:
        with h5.File(path, "r") as file:
            source, factors = file["images"], np.asarray(file["labels"])
            if source.dtype != np.uint8 or source.shape != (wanted.n_train, 2 * high, 2 * wide, channels):
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
