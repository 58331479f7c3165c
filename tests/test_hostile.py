"""Hostile files: thousands of mutants of all that is read; each gives one clear error or a correct load, and no more.

A batch of mutants is read in a process of its own, whose memory is limited: one that crashes, hangs or takes a
gigabyte ends that process. Hashes are made to fit wherever a reader checks one, so that what lies behind is reached.
"""

import ast
import contextlib
import gzip
import hashlib
import io
import itertools
import json
import os
import random
import resource
import struct
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from tiny import ARGUMENTS, member, run_of, tables

from vaekit import classifiers, data
from vaekit.data import DataError, download, stored
from vaekit.data.stored import STORED
from vaekit.fleet.state import History, State, below
from vaekit.models.classifiers import Classifier
from vaekit.store import CHECKOUT, ImageGrid, Store, StoreError, bundles, files, key_of, load, results
from vaekit.store.checkpoints import Checkpoints

COUNT = 200  # mutants of each kind of file
ROOM = 400 << 20  # bytes that a batch may take beyond what the process has
HUGE = [0, 1, 2**7, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1]
ODD = [None, True, -1, 0, 1.5, 1e308, -1e308, 2**63, 10**400, "", "x", "../../x", "/etc/passwd", "\x00", "\ud800"]
ODD += ["<script>", [], {}, [[]], {"a": {"b": []}}, ["x"] * 3, "9" * 5000, "[" * 5000, "nan", "1e999"]

# Mutants -------------------------------------------------------------------------------------------------------------


def mutants(good: bytes, count: int, seed: int = 0):
    """Bytes near to `good`: flipped bits, cuts, repeats, and lengths that are none."""
    draw = random.Random(seed)
    for number in range(count):
        made = bytearray(good)
        for _ in range(draw.choice([1, 1, 1, 2, 8])):
            place = draw.choice([draw.randrange(len(good)), draw.randrange(min(len(good), 200))])
            place = min(place, max(0, len(made) - 1))
            match number % 6:
                case 0 | 1 if made:
                    made[place] ^= 1 << draw.randrange(8)
                case 2:
                    del made[place:]
                case 3:
                    made[place:place] = made[place : place + draw.randrange(1, 64)]
                case 4:
                    size = draw.choice([2, 4, 8])
                    made[place : place + size] = (draw.choice(HUGE) % 2 ** (8 * size)).to_bytes(size, "little")
                case 5:
                    del made[place : place + draw.randrange(1, 16)]
        yield bytes(made)


def plain_mutants(good, count: int, seed: int = 0):
    """Plain values near to `good`: somewhere in them, a key is gone, is another, or a value is an odd one."""
    draw = random.Random(seed)
    for _ in range(count):
        made = json.loads(json.dumps(good))
        for _ in range(draw.choice([1, 1, 2])):
            place = made
            while True:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                if not keys:
                    break
                key = draw.choice(keys)
                if isinstance(place[key], dict | list) and draw.random() < 0.7:
                    place = place[key]
                    continue
                match draw.randrange(4):
                    case 0:
                        del place[key]
                    case 1 if isinstance(place, dict):
                        place[str(draw.choice(ODD))] = place.pop(key)
                    case _:
                        place[key] = draw.choice(ODD)
                break
        yield made


def safetensors_mutants(good: bytes, count: int):
    """Files with mutated bytes, files with a mutated header whose length is right, and some that mean to harm."""
    yield from mutants(good, count // 2)
    size = int.from_bytes(good[:8], "little")
    header = json.loads(good[8 : 8 + size])
    for changed in plain_mutants(header, count // 2):
        yield packed(json.dumps(changed).encode(), good[8 + size :])
    for text in headers(header):
        yield packed(text, good[8 + size :])
    for length in HUGE:
        yield struct.pack("<Q", length) + good[8:]


def packed(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def headers(good):
    """Headers of a safetensors file that somebody made to harm."""
    name, entry = next((n, e) for n, e in good.items() if n != "__metadata__")
    one, two = json.dumps({name: entry})[1:-1], json.dumps({"../../" + name: entry})[1:-1]
    yield f"{{{one},{one}}}".encode()  # a name twice
    yield f"{{{one},{two}}}".encode()  # two names for the same bytes
    for depth in (100, 1000, 100_000):
        yield b'{"__metadata__":' * depth + b"{}" + b"}" * depth
        yield b"[" * depth
    for shape in ([2**62, 4], [2**63, 0], [0, 2**62, 2**62], [-1], [1.5], ["a"], [10**30], [1] * 10_000):
        for offsets in ([0, 0], entry["data_offsets"], [0, 2**63], [-1, 4]):
            for dtype in ("F32", "C64", "F8_E4M3", "F4", "O", 7):
                yield json.dumps({name: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}).encode()
    yield json.dumps({name: entry, "__metadata__": {"a": "b" * 10**6}}).encode()
    yield b'{"a":"' + b"\\ud800" * 10 + b'"}'
    yield b"\xff" * 40
    yield b" " * 10**6


def pack_mutants(good: bytes, count: int):
    """Mutants of a pack, the hashes in their headers made to fit what they hold where that can be read at all."""
    about = header_of(good)["content"]["about"]
    for content in safetensors_mutants(good, count):
        try:
            tensors = safetensors.torch.load(content)
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
        except Exception:  # whatever a hostile file raises
            yield content
            continue
        groups: dict[str, dict] = {}
        for name, value in tensors.items():
            group, _, own = name.rpartition("/")
            groups.setdefault(group, {})[own] = value
        hashes = {group: files._digest_of(named) for group, named in groups.items()}
        header["__metadata__"] = {"vaekit": files.seal({"about": about, "groups": hashes}).decode()}
        yield packed(json.dumps(header).encode(), content[8 + size :])


def header_of(pack: bytes) -> dict:
    size = int.from_bytes(pack[:8], "little")
    return json.loads(json.loads(pack[8 : 8 + size])["__metadata__"]["vaekit"])


def with_its_key(record):
    """A record with the key that fits, if its parts can have one; and a key under which it can lie."""
    with contextlib.suppress(Exception):
        identity = (record["schema"], record["code_version"], record["data_identity"], record["member"])
        record["key"] = key_of(*identity)
    key = record.get("key")
    return key if isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef") else "ab" * 32


# Readers: each goes through so many mutants --------------------------------------------------------------------------


def check_tensors(tensors, content: bytes) -> None:
    assert all(isinstance(value, torch.Tensor) for value in tensors.values())
    assert sum(value.nbytes for value in tensors.values()) <= len(content)


def read_run(count):
    store = Store(tempfile.mkdtemp())
    key = store.commit(run_of(member()))
    wanted = {name: (value.dtype, value.shape) for name, value in member().build().state_dict().items()}
    for content in pack_mutants(store.path(key).read_bytes(), count):
        store.path(key).write_bytes(content)
        with may_refuse(StoreError):
            check_tensors(store.weights(key, 20), content)
            check_tensors(store.history(key), content)
            state = load(key, 20, store).state_dict()
            assert {name: (value.dtype, value.shape) for name, value in state.items()} == wanted


def read_record(count):
    """Records whose own hash and whose key are right, whatever they hold: a store that somebody else made."""
    store = Store(tempfile.mkdtemp())
    run = run_of(member())
    good = store.record(store.commit(run))
    groups = {"history": run.history, "weights/20": run.weights[20]}
    for record in plain_mutants(good, count):
        key = with_its_key(record)
        for path in store.root.glob("runs/*"):
            path.unlink()
        store.path(key).write_bytes(files.pack(record, groups))
        with may_refuse(StoreError):
            store.verify(key)
        with may_refuse(StoreError):
            load(key, store=store)
        with may_refuse(StoreError):
            results.write(Path(store.root) / "out", results.from_store(store, {"probe": 1}), {})
            results.read(Path(store.root) / "out")


def read_measure(count):
    store = Store(tempfile.mkdtemp())
    key = store.commit(run_of(member()))
    rows = [{"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 0.5, "se": 0.1, "n": 16}]
    store.commit_measure(key, "probe", 1, rows)
    (path,) = store.root.glob("measures/*/probe-1.json")
    good = path.read_bytes()
    sealed = [files.seal(content) for content in plain_mutants(files.unseal(good), count // 2)]
    for content in [*mutants(good, count // 2), *sealed]:
        path.write_bytes(content)
        with may_refuse(StoreError):
            store.measure(key, "probe", 1)
            results.from_store(store, {"probe": 1})


def read_bundle(count):
    """What results/ carries of a member: mutants of the file, and of what it says of itself."""
    folder, one = Path(tempfile.mkdtemp()), member()
    store = Store(folder / "store")
    whole = bundles.of_run(store.record(store.commit(run_of(one))), 20)
    pixels = np.arange(360, dtype=np.uint8).reshape(2, 4, 5, 3, 3)
    whole.grid = ImageGrid(one.key, 20, 1, ("a", "b"), pixels)
    whole.decoder = bundles.decoder_of(one.build().eval())
    good = whole.pack()
    path = folder / whole.name
    path.write_bytes(good)
    groups = {name: {n: v.clone() for n, v in files.Pack(path).read(name).items()} for name in ("grid", "decoder")}
    told = []
    for about in plain_mutants(files.Pack(path).about, count // 2):
        key = with_its_key(about)
        told.append((bundles.file_name(key, 20), files.pack(about, groups)))
    for name, content in [*((path.name, content) for content in pack_mutants(good, count // 2)), *told]:
        (folder / name).write_bytes(content)
        with may_refuse(StoreError):
            bundle = bundles.read(folder / name)
            assert bundle.grid is None or bundle.grid.images.ndim == 5
            bundles.model_of(bundle)


def read_checkpoint(count):
    """States and snapshots whose names carry the hashes of their headers."""
    store, one = Store(tempfile.mkdtemp()), member(steps=60)
    saver = Checkpoints(store, [one], [30, 60], "cpu", "cores", 1)
    model = one.build()
    tensors = {"step": torch.tensor(40), "history.step": torch.tensor([], dtype=torch.int64)}
    tensors |= {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"adam.{name}.exp_avg": value.detach().clone() for name, value in model.named_parameters()}
    saver.save(State(tensors, {30: model.state_dict()}))
    paths = {path.name.split("-")[0]: path for path in saver.folder.iterdir()}
    whole = {kind: path.read_bytes() for kind, path in paths.items()}
    about = header_of(whole["40"])["content"]["about"]
    changed = (files.pack(other, {"state": tensors}) for other in plain_mutants(about, count // 3))
    states = itertools.chain(changed, pack_mutants(whole["40"], count // 3))
    snapshots = pack_mutants(whole["snapshot"], count // 3)
    pairs = itertools.chain(
        ((whole["snapshot"], state) for state in states), ((content, None) for content in snapshots)
    )
    for snapshot, state in pairs:
        for path in saver.folder.iterdir():
            path.unlink()
        name = f"snapshot-30-{digest_of(snapshot)}.safetensors"
        (saver.folder / name).write_bytes(snapshot)
        state = files.pack(about | {"snapshots": [name]}, {"state": tensors}) if state is None else state
        (saver.folder / f"40-{digest_of(state)}.safetensors").write_bytes(state)
        reports = []
        latest = Checkpoints(store, [one], [30, 60], "cpu", "cores", 1, reports.append).latest()
        with may_refuse(StoreError):
            if latest is None:
                raise StoreError(*reports)
            assert int(latest.tensors["step"]) == 40
            model.load_state_dict(latest.snapshots[30])
            History.of(below("history.", latest.tensors), 40)


def digest_of(pack: bytes) -> str:
    try:
        return files.header_digest(pack)
    except Exception:  # no header
        return "0" * 64


def read_images(count):
    small = stored.Stored("small grey images", (4, 4), n_train=10, n_test=5, sha256=None)
    folder = Path(tempfile.mkdtemp())
    os.environ["VAEKIT_DATA"] = str(folder)
    STORED["mnist"] = small
    draw = np.random.default_rng(0)
    arrays = {key: draw.integers(0, 10, shape, dtype=np.uint8) for key, shape in small.arrays.items()}
    for save in (np.savez, np.savez_compressed):
        save(folder / "mnist.npz", **arrays)
        good = (folder / "mnist.npz").read_bytes()
        inner = []
        with zipfile.ZipFile(folder / "mnist.npz") as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        for name, content in members.items():
            inner += [rezipped(members | {name: changed}) for changed in mutants(content, count // 16)]
        inner += [rezipped(members | {"../" + name: content}) for name, content in members.items()]
        for content in [*mutants(good, count // 2), *inner]:
            (folder / "mnist.npz").write_bytes(content)
            with may_refuse(DataError):
                found = data.load("mnist")
                assert found.images.shape == (15, 1, 4, 4)
                assert int(found.labels.max()) < 10
    assert [path.name for path in folder.iterdir()] == ["mnist.npz"]


def rezipped(members) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return made.getvalue()


def read_originals(count):
    """The originals' files behind a right checksum: IDX and CIFAR-10's archive."""
    folder = Path(tempfile.mkdtemp())
    shape = (10, 4, 4)
    idx = struct.pack(">4B3I", 0, 0, 8, 3, *shape) + bytes(160)
    for content in [*mutants(gzip.compress(idx), count // 4), *map(gzip.compress, mutants(idx, count // 4))]:
        (folder / "idx.gz").write_bytes(content)
        with may_refuse(Exception):  # of many kinds; `stored.check` looks at the shape
            download.read_idx(folder / "idx.gz")
    small = stored.Stored("small colour images", (4, 4, 3), n_train=10, n_test=5, sha256=None)
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, images in {**{f"data_batch_{i}": 2 for i in range(1, 6)}, "test_batch": 5}.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}.bin")
            entry.size = images * 49
            archive.addfile(entry, io.BytesIO(bytes(entry.size)))
    tar = made.getvalue()
    linked = io.BytesIO()
    with tarfile.open(fileobj=linked, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            entry = tarfile.TarInfo("cifar-10-batches-bin/test_batch.bin")
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive.addfile(entry)
    for content in [*mutants(gzip.compress(tar), count // 4), *map(gzip.compress, mutants(tar, count // 4)),
                    gzip.compress(linked.getvalue())]:  # fmt: skip
        (folder / "tar.gz").write_bytes(content)
        with may_refuse(Exception):
            assert download.read_cifar(folder / "tar.gz", small)["train_images"].shape == (10, 4, 4, 3)


def read_tables(count):
    """Results whose hashes fit, and results whose provenance is none."""
    folder = Path(tempfile.mkdtemp())
    results.write(folder, tables([member(), member(2, model_args=ARGUMENTS | {"depth": 2})]), {})
    good = {path.name: path.read_bytes() for path in folder.iterdir()}
    several = []
    draw = random.Random(0)
    for name in ("members.csv", "measures.csv"):
        several += [{name: content} for content in mutants(good[name][:3000], count // 3)]
        lines = [line.split(",") for line in good[name].decode().splitlines()]
        for _ in range(count // 6):
            changed = [list(line) for line in lines]
            row = draw.choice(changed)
            row[draw.randrange(len(row))] = results._quoted(str(draw.choice(ODD)))
            text = "\n".join(map(",".join, changed)) + "\n"
            several.append({name: text.encode("utf-8", "surrogatepass")})
    provenance = json.loads(good["provenance.json"])
    several += [{"provenance.json": content} for content in mutants(good["provenance.json"], count // 6)]
    several += [{"provenance.json": json.dumps(made).encode()} for made in plain_mutants(provenance, count // 6)]
    for changes in several:
        contents = good | changes
        if "provenance.json" not in changes:
            hashes = {name: hashlib.sha256(contents[name]).hexdigest() for name in ("members.csv", "measures.csv")}
            contents["provenance.json"] = json.dumps({"sha256": hashes}).encode()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        with may_refuse(StoreError, StoreError):
            found = results.read(folder)
            for key in found.members:
                found.member(key)


def read_classifier(count):
    folder = Path(tempfile.mkdtemp())
    os.environ["VAEKIT_RESULTS"] = str(folder)
    data.identity = lambda name: "sha256:0"
    network = Classifier("cnn", (1, 28, 28), 10).eval()
    weights = {n: value.half() if value.is_floating_point() else value for n, value in network.state_dict().items()}
    record = {"data_identity": "sha256:0", "network": "cnn", "image_shape": [1, 28, 28], "classes": 10}
    path = folder / "classifiers" / "mnist-cnn.safetensors"
    path.parent.mkdir()
    good = files.pack(record, {"weights": weights})
    told = [files.pack(changed, {"weights": weights}) for changed in plain_mutants(record, count // 2)]
    for content in [*pack_mutants(good, count // 2), *told]:
        path.write_bytes(content)
        with may_refuse(StoreError):
            loaded = classifiers.load("mnist")
            assert all(value.dtype == torch.float32 for value in loaded.parameters())


refusals: list[str] = []


@contextlib.contextmanager
def may_refuse(*errors):
    """Lets pass the errors that a reader may end with, and notes what they said; none may be for want of memory."""
    said = ""
    try:
        yield
    except errors as error:
        said = str(error) or repr(error)
    assert "MemoryError" not in said
    refusals.append(said)


def in_little_memory(name, count, folder):
    """Run a reader over its mutants with little memory; returns how many were refused, and how many were loaded."""
    torch.set_num_threads(1)
    page = resource.getpagesize()
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * page
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, taken + ROOM))
    tempfile.tempdir = folder
    globals()[name](count)
    return sum(map(bool, refusals)), refusals.count("")


@pytest.mark.parametrize("reader", [name for name in dir() if name.startswith("read_")])
@pytest.mark.parametrize("count", [COUNT, pytest.param(10 * COUNT, marks=pytest.mark.slow)])
def test_a_mutant_is_an_error_or_a_correct_load(forks, tmp_path, reader, count):
    end = forks.run(in_little_memory, reader, count, str(tmp_path), seconds=60 * count // COUNT)
    refused, loaded = end.result()
    assert refused > count // 4
    assert loaded  # else no mutant came past the hashes
    assert refused + loaded >= count


def test_no_code_can_run_what_a_file_says():
    modules = {"pickle", "marshal", "shelve", "dill", "joblib"}
    calls = {"torch.load", "np.load", "numpy.load", "eval", "exec", "compile"}
    calls |= {f"yaml.{kind}load{all_}" for kind in ("", "full_", "unsafe_") for all_ in ("", "_all")}  # not safe_load
    plain = "np.load(path, allow_pickle=False)"  # refuses what would be unpickled
    for path in (CHECKOUT / "vaekit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            named |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not named & modules, path
            if isinstance(node, ast.Call) and ast.unparse(node.func) in calls:
                assert ast.unparse(node) == plain, path


def test_paths_come_from_hashes_alone(tmp_path):
    """Names that lead elsewhere, where a member and a record have names: nothing is written outside of the store."""
    store = Store(tmp_path / "store")
    for name in ("../../../outside", str(tmp_path / "outside"), "a/b", "x" * 5000, "\n", ".", ""):
        key = store.commit(run_of(member(objective=name, split=name), hardware=name, study=name, reason=name))
        assert store.record(key)["hardware"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert sorted(path.name for path in store.root.iterdir()) == ["runs", "staging"]
    assert all(len(path.stem) == 64 for path in store.root.glob("runs/*"))
