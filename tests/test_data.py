"""Loading, checking, splitting and fetching image sets; downloads come from a server on this machine."""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import http.server
import importlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import vaekit.data
from vaekit.data import DataError, derived, download, fetch, load, splits, stored
from vaekit.data.stored import STORED

SMALL = {
    "mnist": stored.Stored("small grey images", (4, 4), n_train=10, n_test=5, sha256=None),
    "cifar10": stored.Stored("small colour images", (4, 4, 3), n_train=10, n_test=5, sha256=None),
    "cifar10_jpeg": stored.Stored("small copies", (4, 4, 3), n_train=10, n_test=5, sha256=None, downloadable=False),
    "svhn": stored.Stored("small house numbers", (4, 4, 3), n_train=10, n_test=5, sha256=None),
}
# As small, but with the real ones' addresses; of the second there is one part.
ORIGINALS = {name: STORED[name].originals for name in ("small_norb", "shapes3d")}
LATER = {
    "small_norb": stored.Stored("small toys", (4, 4), 10, 5, None, classes=5, originals=ORIGINALS["small_norb"]),
    "shapes3d": stored.Stored("small shapes", (4, 4, 3), 24, 0, None, classes=2, originals=ORIGINALS["shapes3d"]),
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder of its own, in which the stored sets are small."""
    monkeypatch.setenv("VAEKIT_DATA", str(tmp_path / "data"))
    for name, small in (SMALL | LATER).items():
        monkeypatch.setitem(STORED, name, small)
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def arrays_of(name):
    """Contents that fit a small set."""
    random = np.random.default_rng(0)
    wanted = (SMALL | LATER)[name]
    arrays = {key: random.integers(0, 256, shape, dtype=np.uint8) for key, shape in wanted.arrays.items()}
    return {key: values % wanted.classes if key.endswith("labels") else values for key, values in arrays.items()}


def pin(monkeypatch, name, arrays):
    monkeypatch.setitem(STORED, name, dataclasses.replace(SMALL[name], sha256=stored.digest(arrays)))


# Loading


@pytest.mark.parametrize("name", SMALL)
def test_a_stored_set_comes_back(folder, name):
    arrays = arrays_of(name)
    np.savez_compressed(folder / f"{name}.npz", **arrays, source=np.array("here"))
    data = load(name)
    pixels = np.concatenate([arrays["train_images"], arrays["test_images"]])
    expected = pixels[:, None] if name == "mnist" else np.moveaxis(pixels, 3, 1)
    assert data.images.dtype == torch.uint8
    assert np.array_equal(data.images.numpy(), expected)
    assert data.image_shape == expected.shape[1:]
    assert len(data) == 15
    assert data.factors is None
    labels = np.concatenate([arrays["train_labels"], arrays["test_labels"]])
    assert data.labels.dtype == torch.int64
    assert data.labels.tolist() == labels.tolist()
    assert torch.equal(data.train, data.images[:10])
    assert torch.equal(data.test, data.images[10:])
    assert torch.equal(data.take([12, 3]), data.images[[12, 3]])
    assert data.identity == f"sha256:{stored.digest(arrays)[:16]}"
    assert data.source == SMALL[name].source


@pytest.mark.parametrize("name", ["tetrominoes", "dsprites_like", "dsprites_like32", *SMALL])
def test_identity_and_shape_are_known_without_reading(folder, monkeypatch, name):
    if name in SMALL:
        arrays = arrays_of(name)
        np.savez(folder / f"{name}.npz", **arrays)
        assert vaekit.data.identity(name) == load(name).identity
        pin(monkeypatch, name, arrays)
    expected = load(name)
    monkeypatch.setattr(stored, "read", None)
    assert vaekit.data.identity(name) == expected.identity
    assert vaekit.data.image_shape(name) == expected.image_shape == tuple(expected.take([0]).shape[1:])


def test_an_identity_is_of_contents_alone_and_read_once_for_each_file(folder, monkeypatch):
    """Where it is not pinned, that is."""
    path, arrays, reads, read = folder / "cifar10.npz", arrays_of("cifar10"), [], stored.read
    np.savez(path, **arrays)
    monkeypatch.setattr(stored, "read", lambda *of: reads.append(of) or read(*of))
    before = vaekit.data.identity("cifar10")
    assert before == vaekit.data.identity("cifar10") == f"sha256:{stored.digest(arrays)[:16]}"
    assert len(reads) == 1
    np.savez_compressed(path, **dict(reversed(arrays.items())), source=np.array("elsewhere"))
    assert vaekit.data.identity("cifar10") == load("cifar10").identity == before
    arrays["test_images"][0, 0, 0] ^= 1
    np.savez(path, **arrays)
    assert vaekit.data.identity("cifar10") == f"sha256:{stored.digest(arrays)[:16]}" != before
    path.unlink()
    with pytest.raises(DataError, match=r"cifar10\.npz is not there"):
        vaekit.data.identity("cifar10")


def test_where_the_files_are(monkeypatch, tmp_path):
    monkeypatch.setenv("VAEKIT_DATA", str(tmp_path))
    assert stored.stored_path("mnist") == tmp_path / "mnist.npz"
    assert stored.stored_path("mnist", tmp_path / "other") == tmp_path / "other" / "mnist.npz"
    monkeypatch.delenv("VAEKIT_DATA")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stored.stored_path("mnist") == tmp_path / "vaekit" / "mnist.npz"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert stored.stored_path("mnist") == Path.home() / ".cache" / "vaekit" / "mnist.npz"


ABSENT = {
    "fasion_mnist": r"unknown data set: 'fasion_mnist'.*mean fashion_mnist\?.*tetrominoes, ",
    "mnist": r"data/mnist\.npz is not there.*python -m vaekit data mnist`.*tetrominoes",
    "mnist_binary": r"data/mnist\.npz is not there.*python -m vaekit data mnist`",
    "mnist32": r"data/mnist\.npz is not there.*python -m vaekit data mnist`",
    "cifar10_jpeg": r"data/cifar10_jpeg\.npz is not there.*never downloaded.*tetrominoes",
    "small_norb": r"data/small_norb\.npz is not there.*python -m vaekit data small_norb`"
    r".*smallnorb-5x01235x9x18x6x2x96x96-testing-cat\.mat\.gz"
    r".*from https://cs\.nyu\.edu/~ylclab/data/norb-v1\.0-small unless.*lie in that folder",
}


@pytest.mark.parametrize("name", ABSENT)
def test_unknown_and_absent_sets_name_the_next_step(folder, name):
    with pytest.raises(DataError, match=ABSENT[name]):
        load(name)
    assert list(folder.iterdir()) == []


def header(shape, dtype="|u1", extra=""):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, {extra}}}".encode()
    text = text.ljust(118 - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def replaced(packed=zipfile.ZIP_DEFLATED, **members):
    """The .npz file of a good set, as bytes, with some of its members' bytes replaced, or left out where None."""
    contents = io.BytesIO()
    np.savez(contents, **arrays_of("mnist"))
    with zipfile.ZipFile(contents) as archive:
        files = {name[:-4]: archive.read(name) for name in archive.namelist()} | members
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w", packed) as archive:
        for name, data in files.items():
            if data is not None:
                archive.writestr(f"{name}.npy", data)
    return changed.getvalue()


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("something was unpickled",))


HOSTILE = {
    "no archive": (b"not an archive", "not a zip file"),
    "empty": (b"", "not a zip file"),
    "a folder": (None, ""),
    "truncated": (replaced()[:-300], "not a zip file"),
    "an array is missing": (replaced(test_labels=None), "lacks the array test_labels"),
    "wrong dtype": (replaced(train_labels=header((10,), "|i1") + bytes(10)), r"is int8 \(10,\), not uint8"),
    "wrong shape": (replaced(train_images=header((10, 8, 2)) + bytes(160)), r"\(10, 8, 2\), not uint8 \(10, 4, 4\)"),
    "wrong count": (replaced(train_labels=header((11,)) + bytes(11)), "train_labels takes 139 bytes, not 138"),
    "huge shape": (replaced(train_images=header((10**12, 4, 4)) + bytes(160)), "allocate"),
    "objects": (replaced(train_labels=header((10,), "|O") + pickle.dumps(0).ljust(10)), "allow_pickle=False"),
    "code in the header": (replaced(train_labels=header((10,), extra="'x': exit()") + bytes(10)), "malformed"),
    "not an array": (replaced(train_labels=pickle.dumps(Bomb()).ljust(138)), "train_labels is no array"),
    "too short": (replaced(train_labels=header((10,)) + bytes(9)), "takes 137 bytes, not 138"),
    "shorter than its header says": (replaced(train_images=header((11, 4, 4)) + bytes(160)), "EOF"),
    "packed by bzip2": (replaced(zipfile.ZIP_BZIP2), "by method 12, not stored or deflated"),
    "labels out of range": (
        replaced(train_labels=header((10,)) + bytes([10] * 10)),
        "holds 10, but labels are below",
    ),
    "a header as long as it gets": (replaced(test_labels=b"\x93NUMPY\x02\x00".ljust(133, b"\xff")), "EOF"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_not_the_set_is_one_error(folder, case):
    contents, message = HOSTILE[case]
    path = folder / "mnist.npz"
    path.mkdir() if contents is None else path.write_bytes(contents)
    says = rf"data/mnist\.npz is not a valid copy.*{message}.*python -m vaekit data mnist"
    with pytest.raises(DataError, match=says):
        load("mnist")


@pytest.mark.parametrize("start", [header((10, 4, 4)), b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**27)])
def test_a_zip_bomb_costs_no_memory(folder, start):
    """A quarter of a gigabyte of zeros, deflated, behind the right header and behind one that claims to be as long."""
    with (
        zipfile.ZipFile(folder / "mnist.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("train_images.npy", "w") as member,
    ):
        member.write(start)
        for _ in range(2**4):
            member.write(bytes(2**24))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"train_images|lacks"):
        load("mnist")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e7


def test_a_flipped_bit_anywhere_is_an_error_or_changes_nothing(folder):
    np.savez(folder / "mnist.npz", **arrays_of("mnist"))
    good, identity = (folder / "mnist.npz").read_bytes(), load("mnist").identity
    random = np.random.default_rng(1)
    refused = 0
    for place in random.integers(0, len(good) * 8, 300):
        changed = bytearray(good)
        changed[place // 8] ^= 1 << place % 8
        (folder / "mnist.npz").write_bytes(changed)
        try:
            assert load("mnist").identity == identity
        except DataError:
            refused += 1
    assert refused > 200


def test_other_contents_are_refused_with_both_hashes(folder, monkeypatch):
    arrays = arrays_of("mnist")
    pin(monkeypatch, "mnist", arrays)
    np.savez(folder / "mnist.npz", **arrays)
    load("mnist")
    other = arrays | {"test_images": arrays["test_images"] ^ 1}
    np.savez(folder / "mnist.npz", **other)
    says = f"hash to sha256:{stored.digest(other)}, not to sha256:{stored.digest(arrays)}"
    with pytest.raises(DataError, match=says):
        load("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10_jpeg"])
def test_the_known_sets(name):
    if not stored.stored_path(name).exists():
        pytest.skip(f"{stored.stored_path(name)} is not there (VAEKIT_DATA)")
    data = load(name)
    assert data.identity == f"sha256:{str(STORED[name].sha256)[:16]}"
    counts = torch.bincount(data.labels[: STORED[name].n_train]).tolist()
    mnist = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]  # as in the originals; the others are balanced
    assert counts == (mnist if name == "mnist" else [STORED[name].n_train // 10] * 10)
    assert data.images.shape == (len(data), *data.image_shape)
    assert data.images.float().std() > 20


# Derived sets, and which sets there are


@pytest.fixture
def mnist(folder, monkeypatch):
    """A small mnist of the right height and width, in its file; gives its arrays."""
    small = dataclasses.replace(SMALL["mnist"], shape=(28, 28))
    monkeypatch.setitem(STORED, "mnist", small)
    random = np.random.default_rng(0)
    arrays = {key: random.integers(0, 256, shape, dtype=np.uint8) for key, shape in small.arrays.items()}
    arrays |= {key: arrays[key] % 10 for key in ("train_labels", "test_labels")}
    np.savez(folder / "mnist.npz", **arrays)
    return arrays


@pytest.mark.parametrize("name", ["mnist_binary", "mnist32"])
def test_a_derived_set_is_its_origin_in_another_form(folder, mnist, monkeypatch, name):
    origin, data = load("mnist"), load(name)
    assert data.name == name
    assert data.source.startswith("small grey images, ")
    assert len(data) == 15
    assert torch.equal(data.labels, origin.labels)
    for part in ("own", "cv"):
        assert torch.equal(data.split(part, 10).train, origin.split(part, 10).train)
    assert data.identity == f"{name}-1:{origin.identity}" == vaekit.data.identity(name)
    assert data.take([]).shape == (0, *data.image_shape)
    few = data.take([12, 3])
    assert few.dtype == torch.uint8
    assert torch.equal(few, data.images[[12, 3]])
    assert torch.equal(few, load(name, folder).take([12, 3]))
    monkeypatch.setitem(STORED, "mnist", dataclasses.replace(STORED["mnist"], sha256=stored.digest(mnist)))
    monkeypatch.setattr(stored, "read", None)
    assert vaekit.data.identity(name) == data.identity
    assert vaekit.data.image_shape(name) == data.image_shape == tuple(few.shape[1:])


def test_halved_is_the_mean_of_four_pixels_with_halves_up():
    values = torch.tensor([0, 1, 2, 3, 127, 254, 255], dtype=torch.uint8)
    images = torch.cartesian_prod(values, values, values, values).view(-1, 1, 2, 2)
    means = images.double().mean((1, 2, 3))
    assert torch.equal(derived.halved(images).flatten().double(), (means + 0.5).floor())
    wide = torch.arange(2 * 3 * 4 * 6, dtype=torch.uint8).view(2, 3, 4, 6)
    pooled = torch.nn.functional.avg_pool2d(wide.double(), 2)
    assert torch.equal(derived.halved(wide).double(), (pooled + 0.5).floor())


def test_a_set_derived_from_a_made_one_is_drawn_in_blocks_and_has_the_identity_of_both(monkeypatch):
    origin, data = load("dsprites_like"), load("dsprites_like32")
    rows = origin.split("cv", 150).train
    drawn = []
    monkeypatch.setattr(vaekit.data.dsprites, "draw", lambda levels, draw=vaekit.data.dsprites.draw: (
        drawn.append(len(levels)), draw(levels))[1])  # fmt: skip
    few = data.take(rows)
    assert sum(drawn) == 150
    assert max(drawn) <= 64
    assert few.dtype == torch.uint8
    means = torch.nn.functional.avg_pool2d(origin.take(rows).double(), 2)
    assert torch.equal(few.double(), (means + 0.5).floor())
    assert data.take([]).shape == (0, 1, 32, 32)
    assert torch.equal(data.take(rows[70:71]), few[70:71])
    assert data.identity == "dsprites_like32-1:dsprites_like-1" == vaekit.data.identity("dsprites_like32")
    monkeypatch.setattr(vaekit.data.dsprites, "RECIPE", 2)
    assert vaekit.data.identity("dsprites_like32") == "dsprites_like32-1:dsprites_like-2"
    newer = dataclasses.replace(derived.DERIVED["dsprites_like32"], recipe=3)
    monkeypatch.setitem(derived.DERIVED, "dsprites_like32", newer)
    assert vaekit.data.identity("dsprites_like32") == "dsprites_like32-3:dsprites_like-2"


def test_binarised_above_one_half():
    values = torch.arange(256, dtype=torch.uint8)
    assert derived.binarised(values).tolist() == [255 if value / 255 > 0.5 else 0 for value in range(256)]


def test_resized_is_pillow_s():
    image = importlib.import_module("PIL.Image")
    random = torch.randint(0, 256, (130, 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    random[0] = 255
    random[1] = 0
    for given, enlarged in zip(random[:, 0], derived.resized(random)[:, 0], strict=True):
        expected = image.fromarray(given.numpy()).resize((32, 32), image.Resampling.BILINEAR)
        assert np.array_equal(enlarged.numpy(), np.asarray(expected))


def test_what_is_available_is_known_without_reading(folder, monkeypatch):
    monkeypatch.setattr(stored, "read", None)
    available, is_available = vaekit.data.available, vaekit.data.is_available
    assert [name for name in vaekit.data.NAMES if is_available(name)] == [
        "tetrominoes",
        "dsprites_like",
        "dsprites_like32",
    ]
    assert available("cifar10", "cifar10_jpeg", "tetrominoes", "dsprites_like") == ("tetrominoes",)
    assert available("mnist32", "mnist") == ("mnist32",)  # whose error says how to have it
    (folder / "mnist.npz").touch()
    (folder / "cifar10_jpeg.npz").touch()
    assert available("cifar10", "cifar10_jpeg", "tetrominoes") == ("cifar10_jpeg",)
    assert is_available("mnist")
    assert is_available("mnist_binary")
    assert not is_available("fashion_mnist")
    with pytest.raises(DataError, match="unknown data set: 'cifar'"):
        available("cifar", "tetrominoes")


def test_what_is_known_of_a_set_without_reading_it():
    about = vaekit.data.about
    assert (about("tetrominoes").origin, about("tetrominoes").n_train, about("tetrominoes").classes) == ("made", 0, 0)
    assert (about("dsprites_like").size, about("dsprites_like").classes) == (737_280, 3)
    assert (about("mnist_binary").origin, about("mnist_binary").stored) == ("original", "mnist")
    assert (about("mnist32").n_train, about("mnist32").image_shape) == (60_000, (1, 32, 32))
    small = about("dsprites_like32")
    assert (small.image_shape, small.size, small.classes) == ((1, 32, 32), 737_280, 3)
    assert (small.n_train, small.n_test, small.origin, small.copy_of, small.stored) == (0, 0, "made", None, None)
    assert small.source == about("dsprites_like").source + ", averaged to 32 x 32"
    assert (about("cifar10_jpeg").origin, about("cifar10_jpeg").copy_of) == ("JPEG copy", "cifar10")
    with pytest.raises(DataError, match="unknown data set: 'cifar'"):
        about("cifar")


def test_a_set_made_in_one_part_has_no_test_images_of_its_own(folder):
    arrays = arrays_of("shapes3d")
    np.savez(folder / "shapes3d.npz", **arrays)
    data = load("shapes3d")
    assert len(data) == 24
    assert np.array_equal(data.take([23, 4]).numpy(), np.moveaxis(arrays["train_images"][[23, 4]], 3, 1))
    assert data.take([23, 4]).is_contiguous()
    assert data.labels.tolist() == arrays["train_labels"].tolist()
    split = data.split("cv", 5)
    assert (len(split.train), len(split.test)) == (5, 19)
    with pytest.raises(DataError, match="unknown split of shapes3d: 'own'; there are random, cv"):
        data.split("own")


def test_the_catalogue_is_true_of_every_set(mnist):
    assert [row["name"] for row in vaekit.data.catalogue()] == list(vaekit.data.NAMES)
    rows = {row["name"]: row for row in vaekit.data.catalogue()}
    for name in ("tetrominoes", "dsprites_like", "mnist", "mnist32", "dsprites_like32"):
        data = load(name)
        assert rows[name]["images"] == f"{len(data):,}"
        assert data.source.startswith(rows[name]["source"])
    assert rows["svhn"]["shape"] == "4 × 4 × 3"
    assert rows["svhn"]["how to have it"] == "python -m vaekit data svhn"
    assert rows["mnist32"]["shape"] == "32 × 32"
    assert rows["mnist32"]["how to have it"] == "made from mnist"
    assert rows["dsprites_like32"]["how to have it"] == "made from dsprites_like"
    assert rows["cifar10_jpeg"]["how to have it"] == "where it was prepared"


# Splits


@pytest.fixture(scope="module")
def tetrominoes():
    return load("tetrominoes")


def as_set(indices):
    return set(indices.tolist())


@pytest.mark.parametrize("name", ["random", "checkerboard", "cv"])
def test_splits_cover_the_set_once(tetrominoes, name):
    split = tetrominoes.split(name, 20_000 if name == "cv" else None)
    assert split.train.dtype == split.test.dtype == torch.int64
    assert torch.equal(torch.cat([split.train, split.test]).sort().values, torch.arange(len(tetrominoes)))
    assert torch.equal(tetrominoes.split(name, len(split.train) if name == "cv" else 81_920).train, split.train)


def test_constant_volume_is_nested_and_tests_on_the_same_images_first(tetrominoes):
    small, large = tetrominoes.split("cv", 16_384), tetrominoes.split("cv", np.int64(57_344))
    assert len(small.train) == 16_384
    assert len(small.test) == 147_456
    assert len(large.train) == 57_344
    assert torch.equal(large.train[:16_384], small.train)
    assert torch.equal(large.test[:10_000], small.test[:10_000])
    half, random = tetrominoes.split("cv", 81_920), tetrominoes.split("random")
    assert torch.equal(half.train, random.train)
    assert torch.equal(half.test, random.test)
    # At random: every factor's mean over the training images is that of the whole, to 4 standard errors.
    whole = tetrominoes.factors
    error = (whole[small.train].mean(0) - whole.mean(0)).abs() / (whole.std(0) / 16_384**0.5)
    assert error.max() < 4


def test_checkerboard_alternates_in_every_factor(tetrominoes):
    split = tetrominoes.split("checkerboard")
    low = torch.tensor([0, 0, 2, 8, 8], dtype=torch.float64)
    middle = torch.tensor([337.5 / 2, 0.4375, 3.5, 15.5, 15.5], dtype=torch.float64)
    assert (tetrominoes.factors >= low).all()
    upper = (tetrominoes.factors > middle).long()
    assert (upper[split.train].sum(1) % 2 == 0).all()
    assert (upper[split.test].sum(1) % 2 == 1).all()
    cells = (upper * torch.tensor([16, 8, 4, 2, 1])).sum(1)
    assert len(cells[split.train].unique()) == len(cells[split.test].unique()) == 16
    assert len(split.train) == pytest.approx(81_920, rel=0.001)


@pytest.mark.parametrize("n_train", [8_192, 16_384, 32_768, 57_344, 81_920])
def test_constant_density_crops_both_parts(tetrominoes, n_train):
    split, whole = tetrominoes.split("cd", n_train), tetrominoes.split("random")
    assert as_set(split.train) <= as_set(whole.train)
    assert as_set(split.test) <= as_set(whole.test)
    assert len(split.train) == pytest.approx(n_train, rel=0.02)
    assert len(split.test) == pytest.approx(n_train, rel=0.02)
    side = (n_train / 81_920) ** 0.2
    extent = torch.tensor([337.5, 0.875, 3, 15, 15], dtype=torch.float64)
    used = tetrominoes.factors[torch.cat([split.train, split.test])]
    share = (used.amax(0) - used.amin(0)) / extent
    assert (share <= side).all()
    assert (share > side - 0.01).all()
    middle = (used.amax(0) + used.amin(0)) / 2
    assert ((middle - torch.tensor([168.75, 0.4375, 3.5, 15.5, 15.5])).abs() / extent < 0.01).all()


def test_splits_of_a_set_in_two_parts():
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    makers = splits.of_parts(lambda: order, n_train=100, n_test=20)
    own, small, large = makers["own"](None), makers["cv"](10), makers["cv"](100)
    assert own.train.tolist() == list(range(100))
    assert own.test.tolist() == list(range(100, 120))
    assert torch.equal(large.train[:10], small.train)
    assert as_set(large.train) == as_set(own.train)
    assert torch.equal(small.test, own.test)
    assert makers["own"](100).train.tolist() == own.train.tolist()


def test_impossible_splits_say_what_is_possible(tetrominoes):
    cases = {
        ("checkboard", None): r"unknown split of tetrominoes: 'checkboard' \(did you mean checkerboard\?\); "
        "there are random, cv, checkerboard, cd",
        ("own", None): "unknown split of tetrominoes: 'own'; there are",
        ("cv", None): "split cv of tetrominoes: n_train is a whole number from 1 to 163,839, not None",
        ("cv", 0): "not 0",
        ("cv", 163_840): "not 163840",
        ("cv", 0.1): "not 0.1",
        ("cv", True): "not True",
        ("cv", "16384"): "not '16384'",
        ("random", 16_384): "split random .* is 81,920 or not given, not 16384; split cv takes any",
        ("checkerboard", 16_384): "n_train is 81,920 or not given",
        ("cd", 81_921): "split cd of tetrominoes: n_train is a whole number from 1 to 81,920, not 81921",
        ("cd", None): "not None",
    }
    for (name, n_train), message in cases.items():
        with pytest.raises(DataError, match=message):
            tetrominoes.split(name, n_train)
    assert set(tetrominoes.splitters) | {"own"} == set(vaekit.data.SPLITS)


# Fetching


def idx(array):
    return gzip.compress(struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes())


def cifar_archive(arrays, leave_out=None):
    """The binary archive of a small set: a label, then the red, green and blue planes, for each image."""
    records = {
        part: np.concatenate(
            [arrays[f"{part}_labels"][:, None], np.moveaxis(arrays[f"{part}_images"], 3, 1).reshape(-1, 48)], axis=1
        )
        for part in ("train", "test")
    }
    files = {f"data_batch_{i + 1}.bin": records["train"][2 * i : 2 * i + 2] for i in range(5)}
    contents = io.BytesIO()
    with tarfile.open(fileobj=contents, mode="w:gz") as archive:
        for name, rows in {"readme.html": np.zeros(3, np.uint8), **files, "test_batch.bin": records["test"]}.items():
            if name != leave_out:
                member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
                member.size = rows.nbytes
                archive.addfile(member, io.BytesIO(rows.tobytes()))
    return contents.getvalue()


def matlab_file(arrays, part, **how):
    """One of SVHN's two files for a small set: images along the last axis, labels from 1 to 10."""
    contents = io.BytesIO()
    labels = np.where(arrays[f"{part}_labels"] == 0, 10, arrays[f"{part}_labels"])
    variables = {"X": np.moveaxis(arrays[f"{part}_images"], 0, 3), "y": labels[:, None]} | how
    variables = {key: value for key, value in variables.items() if value is not None}
    scipy.io.savemat(contents, variables, do_compression=True)
    return contents.getvalue()


def md5(contents):
    return hashlib.md5(contents, usedforsecurity=False).hexdigest()


@pytest.fixture
def server(folder, tmp_path, monkeypatch):
    """Serves small originals of mnist, cifar10 and svhn in the place of torchvision's mirrors: the served folder."""
    served = tmp_path / "served"
    served.mkdir()
    datasets = download.torchvision("datasets")
    resources = []
    for (file, _), array in zip(datasets.MNIST.resources, arrays_of("mnist").values(), strict=True):
        (served / file).write_bytes(idx(array))
        resources.append((file, md5(idx(array))))
    archive = cifar_archive(arrays_of("cifar10"))
    (served / "cifar-10-binary.tar.gz").write_bytes(archive)

    files = {part: matlab_file(arrays_of("svhn"), part) for part in ("train", "test")}
    for part, contents in files.items():
        (served / f"{part}_32x32.mat").write_bytes(contents)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=served)) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{httpd.server_port}/"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(download, "_RETRIES", 0)  # of which each waits
        monkeypatch.setattr(datasets.MNIST, "mirrors", [address + "absent/", address])
        monkeypatch.setattr(datasets.MNIST, "resources", resources)
        monkeypatch.setattr(datasets.CIFAR10, "url", address + "cifar-10-python.tar.gz")
        monkeypatch.setattr(download, "CIFAR10_BINARY", ("cifar-10-binary.tar.gz", md5(archive)))
        originals = {part: [f"{address}{part}_32x32.mat", f"{part}_32x32.mat", md5(files[part])] for part in files}
        monkeypatch.setattr(datasets.SVHN, "split_list", originals)
        yield served
        httpd.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["mnist", "cifar10", "svhn"])
def test_fetch_writes_the_originals_once(server, folder, monkeypatch, name):
    arrays = arrays_of(name)
    pin(monkeypatch, name, arrays)
    assert fetch(name) == f"{name} is fetched: {folder / name}.npz"
    assert [file.name for file in folder.iterdir()] == [f"{name}.npz"]
    assert load(name).identity == f"sha256:{stored.digest(arrays)[:16]}"
    with np.load(folder / f"{name}.npz", allow_pickle=False) as file:
        assert all(np.array_equal(file[key], value) for key, value in arrays.items())
        assert str(file["source"]) == SMALL[name].source
    for file in server.iterdir():
        file.unlink()
    assert fetch(name) == f"{name} is already there and valid: {folder / name}.npz"


def test_fetch_replaces_what_is_not_valid_and_makes_its_folder(server, folder):
    (folder / "mnist.npz").write_bytes(b"half a file")
    assert "is fetched" in fetch("mnist")
    assert "is fetched" in fetch("mnist", folder / "new" / "folder")
    assert load("mnist").identity == load("mnist", folder / "new" / "folder").identity


def test_a_failed_fetch_leaves_nothing_and_keeps_what_was_there(server, folder, monkeypatch):
    images = server / "train-images-idx3-ubyte.gz"
    good = images.read_bytes()
    (folder / "mnist.npz").write_bytes(b"half a file")
    says = r"train-images-idx3-ubyte\.gz \(md5 \w+\) could not.*absent.*404.*does not match the known hash"
    for contents in (good[:-20], good + b"\0", b""):
        images.write_bytes(contents)
        with pytest.raises(DataError, match=says):
            fetch("mnist")
    images.write_bytes(good)
    monkeypatch.setitem(STORED, "mnist", dataclasses.replace(SMALL["mnist"], sha256="0" * 64))
    with pytest.raises(DataError, match=r"not mnist: its contents hash to sha256:\w{64}, not to sha256:0{64}"):
        fetch("mnist")
    monkeypatch.setitem(STORED, "mnist", dataclasses.replace(SMALL["mnist"], shape=(4, 5)))
    with pytest.raises(DataError, match=r"not mnist: train_images is uint8 \(10, 4, 4\), not uint8 \(10, 4, 5\)"):
        fetch("mnist")
    assert [file.name for file in folder.iterdir()] == ["mnist.npz"]
    assert (folder / "mnist.npz").read_bytes() == b"half a file"


def test_an_archive_without_a_batch(server, folder, monkeypatch):
    archive = cifar_archive(arrays_of("cifar10"), leave_out="data_batch_3.bin")
    (server / "cifar-10-binary.tar.gz").write_bytes(archive)
    monkeypatch.setattr(download, "CIFAR10_BINARY", ("cifar-10-binary.tar.gz", md5(archive)))
    with pytest.raises(DataError, match=r"lacks cifar-10-batches-bin/data_batch_3.bin of 2 records of 49 bytes"):
        fetch("cifar10")
    assert list(folder.iterdir()) == []


HOUSE_NUMBERS = {
    "not a MATLAB file": (lambda arrays: matlab_file(arrays, "train")[:60], ""),
    "cut": (lambda arrays: matlab_file(arrays, "train")[:-20], ""),
    "too few": (lambda arrays: matlab_file(arrays, "test"), r"train_images is uint8 \(5, 4, 4, 3\), not uint8 \(10, 4"),
    "of another kind": (lambda arrays: matlab_file(arrays, "train", X=np.zeros((4, 4, 3, 10), np.int16)), "is int16"),
    "labels too few": (lambda arrays: matlab_file(arrays, "train", y=np.ones((9, 1), np.uint8)), r"uint8 \(9,\)"),
    "labels out of range": (lambda arrays: matlab_file(arrays, "train", y=np.full((10, 1), 11)), "holds 11, but"),
    "without images": (lambda arrays: matlab_file(arrays, "train", X=None), "X"),
}


@pytest.mark.parametrize("case", HOUSE_NUMBERS)
def test_house_numbers_that_are_not_as_they_should_be(server, folder, monkeypatch, case):
    make, message = HOUSE_NUMBERS[case]
    contents = make(arrays_of("svhn"))
    (server / "train_32x32.mat").write_bytes(contents)
    svhn = download.torchvision("datasets").SVHN
    train = [*svhn.split_list["train"][:2], md5(contents)]
    monkeypatch.setattr(svhn, "split_list", svhn.split_list | {"train": train})
    with pytest.raises(DataError, match=f"what was downloaded is not svhn: .*{message}"):
        fetch("svhn")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "module", "says"),
    [
        ("svhn", "scipy.io", r"MATLAB files, which scipy reads .*pip install scipy"),
        ("mnist", "pooch", r"downloads are made by pooch .*pip install pooch"),
        ("shapes3d", "h5py", r"shapes3d comes in an HDF5 file, which h5py .*pip install h5py"),
    ],
)
def test_what_reads_the_originals_is_asked_for_before_them(folder, monkeypatch, name, module, says):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(DataError, match=says):
        fetch(name)


def test_offline_is_one_error(server, folder, monkeypatch):
    datasets = download.torchvision("datasets")
    monkeypatch.setattr(datasets.MNIST, "mirrors", ["http://127.0.0.1:1/", "http://no-such-host.invalid/"])
    with pytest.raises(DataError, match=r"could not be downloaded.*refused.*no-such-host.*Nothing was written"):
        fetch("mnist")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("moment", ["download", "fsync", "rename"])
@pytest.mark.parametrize("failure", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=["^C", "full"])
def test_an_interrupt_or_a_full_disk_leaves_nothing(server, folder, monkeypatch, moment, failure):
    def fail(*_):
        raise failure

    with monkeypatch.context() as patch:
        if moment == "download":
            patch.setattr(download, "read_idx", fail)
        else:
            patch.setattr(os, {"fsync": "fsync", "rename": "replace"}[moment], fail)
        with pytest.raises((KeyboardInterrupt, DataError), match=r"|No space left.*VAEKIT_DATA") as caught:
            fetch("mnist")
    assert isinstance(caught.value, KeyboardInterrupt) == isinstance(failure, KeyboardInterrupt)
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written(server, folder):
    (folder / "file").write_text("")
    with pytest.raises(DataError, match=r"file/mnist\.npz cannot be written.*VAEKIT_DATA"):
        fetch("mnist", folder / "file")


def test_what_is_not_downloaded(folder):
    for name in ("tetrominoes", "dsprites_like"):
        assert fetch(name) == f"{name} is made when it is loaded: there is nothing to download"
    with pytest.raises(DataError, match=r"cifar10_jpeg\.npz is not there.*never downloaded"):
        fetch("cifar10_jpeg")
    with pytest.raises(DataError, match=r"unknown data set: 'cifar'.*did you mean cifar10"):
        fetch("cifar")


def test_a_derived_set_is_fetched_with_its_origin(server, folder):
    path = folder / "mnist.npz"
    assert fetch("mnist_binary") == f"mnist_binary is made from mnist when it is loaded: mnist is fetched: {path}"
    assert fetch("mnist32").endswith(f"mnist is already there and valid: {path}")
    assert [file.name for file in folder.iterdir()] == ["mnist.npz"]


# The sets whose addresses and checksums are here


def norb_file(array):
    """A matrix in NORB's format, gzipped."""
    kind = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    header = struct.pack(f"<{2 + len(sizes)}i", kind, array.ndim, *sizes)
    return gzip.compress(header + array.astype(array.dtype.newbyteorder("<")).tobytes())


def norb_files(arrays):
    """Originals of the small SmallNORB: each pixel three times as high and wide; the right camera sees something else.

    In each 3 x 3 cell the nine values differ, with the pixel's own for their mean.
    """
    files = {}
    for url in ORIGINALS["small_norb"]:
        part = "train" if "training" in url else "test"
        if "-cat." in url:
            array = arrays[f"{part}_labels"].astype(np.int32)
        else:
            around = np.tile(np.arange(-4, 5).reshape(3, 3), (4, 4))
            left = arrays[f"{part}_images"].clip(4, 251).repeat(3, 1).repeat(3, 2) + around
            array = np.stack([left, 255 - left], axis=1).astype(np.uint8)
        files[url.rpartition("/")[2]] = norb_file(array)
    return files


def lay(monkeypatch, name, folder, files):
    """Originals into the data folder, with their checksums for the known ones; nothing can be downloaded."""
    for file, contents in files.items():
        (folder / file).write_bytes(contents)
    here = {f"http://127.0.0.1:1/{file}": hashlib.sha256(contents).hexdigest() for file, contents in files.items()}
    monkeypatch.setitem(STORED, name, dataclasses.replace(LATER[name], originals=here))
    monkeypatch.setattr(download, "_RETRIES", 0)


def test_small_norb_is_made_of_originals_that_lie_there(folder, monkeypatch):
    arrays = arrays_of("small_norb")
    lay(monkeypatch, "small_norb", folder, norb_files(arrays))
    monkeypatch.setattr(download, "_ROWS", 3)
    assert fetch("small_norb") == f"small_norb is fetched: {folder / 'small_norb.npz'}"
    data = load("small_norb")
    wanted = np.concatenate([arrays["train_images"], arrays["test_images"]]).clip(4, 251)
    assert np.array_equal(data.images[:, 0].numpy(), wanted)
    assert data.labels.tolist() == [*arrays["train_labels"], *arrays["test_labels"]]
    assert len(data.split("cv", 3).test) == len(data.split("own").test) == 5


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda images, labels: (images[:, :1], labels), r"training-dat.* is not a matrix of uint8 .*\(10, 2, 12, 12"),
        (lambda images, labels: (images[:9], labels), "is not a matrix of uint8"),
        (lambda images, labels: (images, labels.astype(np.uint8)), r"training-cat.* is not .* of int32 .*\(10,\)"),
        (lambda images, labels: (images, labels + 5), "training-cat.* holds categories other than 0 to 4"),
        (lambda images, labels: (images, labels - 5), "holds categories other than 0 to 4"),
    ],
)
def test_small_norb_s_matrices_are_checked(folder, monkeypatch, damage, says):
    arrays = arrays_of("small_norb")
    files = norb_files(arrays)
    images = np.zeros((10, 2, 12, 12), np.uint8)
    for file, array in zip(files, damage(images, arrays["train_labels"].astype(np.int32)), strict=False):
        files[file] = norb_file(array)
    lay(monkeypatch, "small_norb", folder, files)
    with pytest.raises(DataError, match=f"what was downloaded is not small_norb: .*{says}"):
        fetch("small_norb")
    assert not (folder / "small_norb.npz").exists()


def test_a_matrix_with_something_behind_it_or_cut_is_none(tmp_path):
    good = gzip.decompress(norb_file(np.arange(5, dtype=np.int32)))
    path = tmp_path / "matrix.gz"
    for contents, says in ((good + b"\0", "more than a matrix"), (good[:-1], "not a matrix"), (b"", "not a matrix")):
        path.write_bytes(gzip.compress(contents))
        with pytest.raises(ValueError, match=says):
            download.read_matrix(path, np.dtype("<i4"), (5,))
    path.write_bytes(gzip.compress(good))
    assert download.read_matrix(path, np.dtype("<i4"), (5,)).tolist() == [0, 1, 2, 3, 4]


def test_an_original_of_another_checksum_is_not_used(folder, monkeypatch):
    files = norb_files(arrays_of("small_norb"))
    lay(monkeypatch, "small_norb", folder, files)
    first = next(iter(files))
    (folder / first).write_bytes(b"another")
    with pytest.raises(DataError) as caught:
        fetch("small_norb")
    for words in (f"{first} (sha256 {hashlib.sha256(files[first]).hexdigest()}) could not be downloaded",
                  f"{folder / first}: it is another file, of sha256 {hashlib.sha256(b'another').hexdigest()}",
                  f"http://127.0.0.1:1/{first}: ", f"put the file into {folder}"):  # fmt: skip
        assert words in str(caught.value)


class Hdf5:
    """What `read_shapes3d` uses of h5py: a file of named arrays, or none."""

    def __init__(self, arrays):
        self.arrays = arrays

    def File(self, path, mode):
        if self.arrays is None:
            raise OSError("Unable to open file (file signature not found)")
        return contextlib.nullcontext(self.arrays)


class Dataset(np.ndarray):
    """An array as HDF5 has them, in chunks."""

    chunks = (9, 4, 4, 1)


def shapes3d(arrays):
    """The contents of the small 3D Shapes: factors of 1, 2, 3, 2, 2 and 1 levels, the fifth the shape."""
    levels = [[0.0], [0.0, 0.1], [0.0, 0.1, 0.2], [0.75, 1.25], [0.0, 1.0], [-30.0]]
    factors = np.stack(np.meshgrid(*levels, indexing="ij"), axis=-1).reshape(24, 6)
    return {"images": arrays["train_images"].repeat(2, 1).repeat(2, 2).view(Dataset), "labels": factors}


def test_3d_shapes_is_made_of_its_file(folder, monkeypatch):
    arrays = arrays_of("shapes3d")
    lay(monkeypatch, "shapes3d", folder, {"3dshapes.h5": b"read by a stand-in"})
    monkeypatch.setitem(sys.modules, "h5py", Hdf5(shapes3d(arrays)))
    monkeypatch.setattr(download, "_ROWS", 7)
    assert fetch("shapes3d") == f"shapes3d is fetched: {folder / 'shapes3d.npz'}"
    data = load("shapes3d")
    assert np.array_equal(data.images.numpy(), np.moveaxis(arrays["train_images"], 3, 1))
    assert data.labels.tolist() == [0, 1] * 12


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"images": np.zeros((24, 8, 9, 3), np.uint8)}, r"3dshapes.h5 holds images of uint8 \(24, 8, 9, 3\)"),
        ({"images": np.zeros((24, 8, 8, 3))}, "holds images of float64"),
        ({"labels": np.zeros((24, 5))}, r"labels of shape \(24, 5\), not 24 of six factors"),
        ({"labels": np.zeros((24, 6))}, "does not hold every combination of its factors in order"),
        ({"labels": shapes3d(arrays_of("shapes3d"))["labels"][::-1]}, "every combination .* in order"),
        ({"labels": None}, "is not an HDF5 file that holds images and labels: KeyError"),
        (None, "is not an HDF5 file that holds images and labels: OSError"),
    ],
)
def test_3d_shapes_file_is_checked(change, says):
    contents = change and shapes3d(arrays_of("shapes3d")) | change
    contents = contents and {name: array for name, array in contents.items() if array is not None}
    with pytest.raises(ValueError, match=says):
        download.read_shapes3d(Path("3dshapes.h5"), LATER["shapes3d"], Hdf5(contents))  # pyright: ignore


def test_an_area_is_averaged_with_halves_rounded_up():
    image = np.array([[0, 1, 255, 255], [0, 1, 255, 254]], np.uint8)
    assert download.area_averaged(image[None], 2).tolist() == [[[1, 255]]]  # 1/2 and 254.75
    nine = np.arange(9, dtype=np.uint8).reshape(1, 3, 3, 1) * np.array([1, 28], np.uint8)
    assert download.area_averaged(nine, 3).tolist() == [[[[4, 112]]]]


def test_the_checksums_of_originals_are_sha_256():
    assert [len(files) for files in ORIGINALS.values()] == [4, 1]
    for url, checksum in (pair for files in ORIGINALS.values() for pair in files.items()):
        assert url.startswith("https://")
        assert len(bytes.fromhex(checksum)) == 32


def test_torchvision_s_addresses_and_checksums_are_there():
    datasets = download.torchvision("datasets")
    parts = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for origin in (datasets.MNIST, datasets.FashionMNIST):
        files = [file for file, _ in origin.resources]
        assert files == [f"{part}-ubyte.gz" for part in parts]  # in the order of Stored.arrays
        assert all(len(checksum) == 32 for _, checksum in origin.resources)
        assert origin.mirrors
    assert datasets.CIFAR10.url.endswith("/cifar-10-python.tar.gz")
    for part in ("train", "test"):
        url, file, checksum = datasets.SVHN.split_list[part]
        assert url.endswith(f"/{part}_32x32.mat")
        assert file == f"{part}_32x32.mat"
        assert len(checksum) == 32


def test_only_fetch_imports_torchvision():
    code = "import sys, vaekit.data as data; [data.load(name).take([0]) for name in ('tetrominoes', 'dsprites_like')]; "
    code += "assert not {'torchvision', 'scipy', 'pooch'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_each_set_has_a_title_of_its_own():
    titles = [vaekit.data.title(name) for name in vaekit.data.NAMES]
    assert len({*titles}) == len(titles)
    assert vaekit.data.title("somebody's own") == "somebody's own"
