"""Image sets kept as <name>.npz in the data folder: what each must hold, and a reader that trusts no file.

A file holds the uint8 arrays train_images, train_labels, test_images and test_labels, images as (n, height, width) or
(n, height, width, 3), and `source`, a sentence for whoever opens it; the first two arrays alone where the set is made
in one part. An array's size is checked before it is read, its kind and contents after. So nothing is unpickled, and a
wrong, truncated or hostile file costs no more memory than a good one.
"""

import errno
import functools
import hashlib
import math
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from vaekit import randomness
from vaekit.data import splits
from vaekit.data.images import DataError, ImageSet
from vaekit.settings import environment_folder, expanded

_HEADER = 128  # bytes that numpy writes before an array


@dataclass(frozen=True)
class Stored:
    """What a stored set must be; `sha256` is its contents' `digest`, None where no copy was at hand to take it from.

    A set without test images is made in one part. `originals` maps the addresses of the files that a set is made of to
    their SHA-256, where torchvision does not know them.
    """

    source: str
    shape: tuple[int, ...]
    n_train: int
    n_test: int
    sha256: str | None
    classes: int = 10
    downloadable: bool = True
    origin: str = "original"
    copy_of: str | None = None
    originals: Mapping[str, str] = field(default_factory=dict)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        height, width, channels = (*self.shape, 1)[:3]
        return channels, height, width

    @property
    def arrays(self) -> dict[str, tuple[int, ...]]:
        """The shape of each array."""
        parts = {"train": self.n_train, "test": self.n_test}
        of = {"images": self.shape, "labels": ()}
        return {f"{part}_{what}": (n, *shape) for part, n in parts.items() if n for what, shape in of.items()}


_NORB = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/smallnorb-5x"

STORED = {
    "mnist": Stored(
        source="MNIST (LeCun, Cortes and Burges)",
        shape=(28, 28),
        n_train=60_000,
        n_test=10_000,
        sha256="25b1a379d0a35342a5fb605ae7092594efeb1d484ce10bc5a55be448befd58ab",
    ),
    "fashion_mnist": Stored(
        source="Fashion-MNIST (Xiao, Rasul and Vollgraf 2017)",
        shape=(28, 28),
        n_train=60_000,
        n_test=10_000,
        sha256="2eec74045003bb5cc54c46331f8c48f77611acac295f1d863e16fbd263546563",
    ),
    "cifar10": Stored(
        source="CIFAR-10 (Krizhevsky 2009)",
        shape=(32, 32, 3),
        n_train=50_000,
        n_test=10_000,
        sha256=None,
    ),
    "cifar10_jpeg": Stored(
        source="CIFAR-10 (Krizhevsky 2009) as a JPEG copy (quality 75, 4:2:0), classes interleaved: not the original",
        shape=(32, 32, 3),
        n_train=50_000,
        n_test=10_000,
        sha256="366c0f29bd7879bda749459dd82ea367a3865c7177220681edf58beff745e2f3",
        downloadable=False,
        origin="JPEG copy",
        copy_of="cifar10",
    ),
    "svhn": Stored(
        source="SVHN, cropped digits (Netzer et al. 2011)",
        shape=(32, 32, 3),
        n_train=73_257,
        n_test=26_032,
        sha256=None,
    ),
    # The SHA-256 of the originals are those of TensorFlow Datasets (url_checksums/smallnorb.txt and shapes3d.txt).
    "small_norb": Stored(
        source="SmallNORB (LeCun, Huang and Bottou 2004), left camera, averaged from 96 to 32 pixels a side",
        shape=(32, 32),
        n_train=24_300,
        n_test=24_300,
        sha256=None,
        classes=5,
        originals={
            f"{_NORB}46789x9x18x6x2x96x96-training-dat.mat.gz": (
                "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873"
            ),
            f"{_NORB}46789x9x18x6x2x96x96-training-cat.mat.gz": (
                "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa"
            ),
            f"{_NORB}01235x9x18x6x2x96x96-testing-dat.mat.gz": (
                "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474"
            ),
            f"{_NORB}01235x9x18x6x2x96x96-testing-cat.mat.gz": (
                "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff"
            ),
        },
    ),
    "shapes3d": Stored(
        source="3D Shapes (Burgess and Kim 2018), averaged from 64 to 32 pixels a side",
        shape=(32, 32, 3),
        n_train=480_000,
        n_test=0,
        sha256=None,
        classes=4,
        originals={
            "https://storage.googleapis.com/3d-shapes/3dshapes.h5": (
                "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785"
            )
        },
    ),
}


def stored_path(name: str, folder: str | os.PathLike | None = None) -> Path:
    """The file of a set: in `folder`, else in VAEKIT_DATA, else in vaekit in the user's cache folder. Absolute.

    Raises:
        DataError: VAEKIT_DATA is relative, or there is no home folder to have a cache in.
    """
    if folder:
        return expanded(folder, DataError).absolute() / f"{name}.npz"
    cache = os.environ.get("XDG_CACHE_HOME", "")
    cache = cache if cache.startswith(("/", "~")) else "~/.cache"  # its specification has a relative one ignored
    return environment_folder("VAEKIT_DATA", Path(cache, "vaekit"), DataError) / f"{name}.npz"


def image_set(name: str, folder: str | os.PathLike | None = None) -> ImageSet:
    """A stored set: images (n, 1, 28, 28), (n, 1, 32, 32) or (n, 3, 32, 32), the training part first, and labels.

    Raises:
        DataError: its file is absent, cannot be read, or is not the set.
    """
    arrays, contents = read(name, folder)
    wanted = STORED[name]
    parts = (
        [torch.from_numpy(arrays.pop(key)) for key in wanted.arrays if key.endswith(what)]
        for what in ("images", "labels")
    )
    images, labels = (torch.cat(part) if len(part) > 1 else part[0] for part in parts)
    images = (images.unsqueeze(-1) if images.ndim == 3 else images).permute(0, 3, 1, 2)

    def order() -> torch.Tensor:
        return randomness.permutation(0, randomness.SPLIT, 0, wanted.n_train)

    return ImageSet(
        name=name,
        source=wanted.source,
        identity=_identity(contents),
        size=len(images),
        image_shape=wanted.image_shape,
        draw=lambda indices: images[indices].contiguous(),
        splitters=(
            splits.of_parts(order, wanted.n_train, wanted.n_test)
            if wanted.n_test
            else splits.at_random(order, wanted.n_train)
        ),
        labels=labels.long(),
    )


def absence(name: str) -> str | None:
    """The sentence for a set whose file is missing, with the next step; None where it is in place. Reads nothing."""
    try:
        path = stored_path(name)
        path.lstat()
    except DataError as error:  # no cache folder
        return str(error)
    except (FileNotFoundError, NotADirectoryError):
        return _absent(name, path)
    except OSError:
        return None  # it may be there: reading says what is wrong
    return None


class UnreadableFileError(DataError):
    """A file that the system does not let be read: not known to be absent, nor to be another."""


def _absent(name: str, path: Path) -> str:
    return f"{path} is not there. {_next_step(name, path)} Without a download there are tetrominoes and dsprites_like."


def identity(name: str) -> str:
    """The identity of a stored set, without reading it where its contents are pinned; otherwise its file is read once.

    Raises:
        DataError: as for `image_set`.
    """
    if pinned := STORED[name].sha256:
        return _identity(pinned)
    path = stored_path(name)
    return _identity(_contents(name, path, *state(path)))


def state(path: Path) -> tuple[int, int]:
    """What changes where another file comes in its place; (0, 0) where it cannot be told: reading says why."""
    try:
        file = path.stat()
    except OSError:
        return 0, 0
    return file.st_mtime_ns, file.st_size


@functools.lru_cache
def _contents(name: str, path: Path, changed: int, size: int) -> str:
    """The digest of a set's file, while it is the same file. A member's key asks for it again and again."""
    return read(name, path.parent)[1]


def _identity(contents: str) -> str:
    return f"sha256:{contents[:16]}"


def read(name: str, folder: str | os.PathLike | None = None) -> tuple[dict[str, np.ndarray], str]:
    """The arrays of a stored set and their digest. Raises: DataError, as for `image_set`; UnreadableFileError."""
    path, wanted = stored_path(name, folder), STORED[name]
    try:
        with zipfile.ZipFile(path) as archive:
            for key, shape in wanted.arrays.items():
                _check_size(archive, key, _HEADER + math.prod(shape))
        with np.load(path, allow_pickle=False) as file:
            arrays = {key: file[key] for key in wanted.arrays}
        return arrays, check(arrays, wanted)
    except (FileNotFoundError, NotADirectoryError):
        if not path.is_symlink():
            raise DataError(_absent(name, path)) from None
        raise UnreadableFileError(f"{path} is a link to nothing; VAEKIT_DATA names another folder") from None
    except Exception as error:  # a damaged file makes zipfile and numpy raise many kinds
        # Places in a damaged file that it says are before its beginning are EINVAL.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL, errno.EISDIR):
            advice = "let this user read it, or set VAEKIT_DATA to another folder"
            raise UnreadableFileError(f"{path} may not be read ({error.strerror}): {advice}") from error
        raise DataError(f"{path} is not a valid copy of {name}: {error}. {_next_step(name, path)}") from error


def check(arrays: Mapping[str, np.ndarray], wanted: Stored) -> str:
    """The digest of a set's arrays. Raises: ValueError for kinds, shapes, labels or a digest that a set does not have.

    The arrays of a good set are uint8.
    """
    for key, shape in wanted.arrays.items():
        array = arrays[key]
        if not isinstance(array, np.ndarray) or (array.dtype, array.shape) != (np.uint8, shape):
            kind = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else "no array"
            raise ValueError(f"{key} is {kind}, not uint8 {shape}")
        if key.endswith("labels") and array.max() >= wanted.classes:
            raise ValueError(f"{key} holds {array.max()}, but labels are below {wanted.classes}")
    contents = digest(arrays)
    if wanted.sha256 not in (None, contents):
        raise ValueError(f"its contents hash to sha256:{contents}, not to sha256:{wanted.sha256}")
    return contents


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 (hex) of arrays' names, shapes and bytes, whatever file they came in."""
    contents = hashlib.sha256()
    for key in sorted(arrays):
        contents.update(f"{key} {arrays[key].dtype.str} {arrays[key].shape}\n".encode())
        contents.update(np.ascontiguousarray(arrays[key]).data)
    return contents.hexdigest()


def write(path: Path, arrays: Mapping[str, np.ndarray], source: str) -> None:
    """Writes a set's file whole or not at all: into a file beside it, which then takes its name."""
    partial = path.with_name(f".{path.stem}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            np.savez(file, **arrays, source=np.array(source))
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _check_size(archive: zipfile.ZipFile, key: str, size: int) -> None:
    """Raises: ValueError where the array `key` of a .npz file does not take `size` bytes, which zipfile never exceeds.

    Other compressions than deflate are unpacked in whole blocks, whatever their size.
    """
    if f"{key}.npy" not in archive.namelist():
        raise ValueError(f"it lacks the array {key}")
    member = archive.getinfo(f"{key}.npy")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{key} is compressed by method {member.compress_type}, not stored or deflated")
    if member.file_size != size:
        raise ValueError(f"{key} takes {member.file_size:,} bytes, not {size:,}")


def _next_step(name: str, path: Path) -> str:
    wanted = STORED[name]
    if wanted.originals:
        base = next(iter(wanted.originals)).rpartition("/")[0]
        files = ", ".join(url.rpartition("/")[2] for url in wanted.originals)
        command = f"`python -m vaekit data {name}` makes it of {files}"
        return f"{command}, which it downloads from {base} unless they lie in that folder (VAEKIT_DATA names another)."
    if wanted.downloadable:
        return f"`python -m vaekit data {name}` downloads it there (VAEKIT_DATA names another folder)."
    return f"{name} is never downloaded: it is there only where it was prepared (VAEKIT_DATA names the folder)."
