"""Hostile files: thousands of mutants of all that is read; each gives one clear error or a correct load, and no more.

A batch of mutants is read in a process of its own, whose memory is limited: one that crashes, hangs or takes a
gigabyte ends that process. Hashes are made to fit wherever a reader checks one, so that what lies behind is reached.
"""

import ast
import contextlib
import gzip
import hashlib
import io
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
import torch
from tiny import ARGUMENTS, member, run_of, tables

from vaekit import data, judges, results, runs, sheets
from vaekit.checkpoints import Checkpoints
from vaekit.data import DataError, download, stored
from vaekit.data.stored import STORED
from vaekit.fleet.state import History, State, below
from vaekit.models.classifiers import Classifier
from vaekit.results import ResultsError
from vaekit.runs import Store, StoreError
from vaekit.sheets import Sheet, SheetError

COUNT = 400  # mutants of each kind of file
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


# Readers: each writes a mutant where it is read, and reads it -------------------------------------------------------


def reseal(store: Store, key: str, changes: dict) -> None:
    """Write a run's record with changes, and with a hash that fits."""
    record = json.loads((store._run(key) / "run.json").read_bytes()) | changes
    (store._run(key) / "run.json").write_bytes(sealed(record))


def sealed(content) -> bytes:
    """As the store seals what it writes, but for its refusal of what JSON has no word for."""
    how = {"sort_keys": True, "indent": 1}
    content = {name: value for name, value in content.items() if name != "sha256"}
    digest = hashlib.sha256(json.dumps(content, **how).encode()).hexdigest()
    return json.dumps(content | {"sha256": digest}, **how).encode()


def planted(store: Store, name: str, content: bytes, record) -> str:
    """A run whose file `name` has this content, by a record that says just so."""
    key = member().key
    (store._run(key) / name).write_bytes(content)
    files = record["files"] | {name: hashlib.sha256(content).hexdigest()}
    (store._run(key) / "run.json").write_bytes(sealed(record | {"files": files}))
    return key


def check_tensors(found, content: bytes) -> None:
    assert all(isinstance(value, torch.Tensor) for value in found.values())
    assert sum(value.numel() * value.element_size() for value in found.values()) <= len(content)


def read_weights(count):
    store = Store(tempfile.mkdtemp())
    record = store.record(store.commit(run_of(member())))
    good = (store._run(member().key) / "weights-20.safetensors").read_bytes()
    wanted = {name: (value.dtype, value.shape) for name, value in member().build().state_dict().items()}
    for content in safetensors_mutants(good, count):
        key = planted(store, "weights-20.safetensors", content, record)
        with may_refuse(StoreError):
            check_tensors(store.weights(key, 20), content)
        with may_refuse(StoreError):
            state = runs.load(key, 20, store).state_dict()
            assert {name: (value.dtype, value.shape) for name, value in state.items()} == wanted


def read_history(count):
    store = Store(tempfile.mkdtemp())
    record = store.record(store.commit(run_of(member())))
    good = (store._run(member().key) / "history.safetensors").read_bytes()
    for content in safetensors_mutants(good, count):
        key = planted(store, "history.safetensors", content, record)
        with may_refuse(StoreError):
            check_tensors(store.history(key), content)


def read_record(count):
    """Records whose own hash and whose key are right, whatever they hold: a store that somebody else made."""
    store = Store(tempfile.mkdtemp())
    good = store.record(store.commit(run_of(member())))
    folder = store._run(member().key)
    for record in plain_mutants(good, count):
        with contextlib.suppress(Exception):  # a key that fits, if these parts can have one
            parts = (record["schema"], record["code_version"], record["data_identity"], record["member"])
            record["key"] = runs._key(*parts)
        key = record.get("key")
        key = key if isinstance(key, str) and len(key) == 64 and set(key) <= set("0123456789abcdef") else "ab" * 32
        target = store._run(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target != folder:
            folder.rename(target)
            folder = target
        (folder / "run.json").write_bytes(sealed(record))
        with may_refuse(StoreError, ResultsError):
            store.verify(key)
        with may_refuse(StoreError, ResultsError):
            runs.load(key, store=store)
        with may_refuse(StoreError, ResultsError):
            found = results.from_store(store, {"probe": 1})
            results.write(Path(store.root) / "out", found, {})
            results.read(Path(store.root) / "out")


def read_measure(count):
    store = Store(tempfile.mkdtemp())
    key = store.commit(run_of(member()))
    rows = [{"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 0.5, "se": 0.1, "n": 16}]
    store.commit_measure(key, "probe", 1, rows)
    (path,) = store.root.glob("measures/??/*/probe-1.json")
    good = path.read_bytes()
    several = [sealed(content) for content in plain_mutants(json.loads(good), count // 2) if isinstance(content, dict)]
    for content in [*mutants(good, count // 2), *several]:
        path.write_bytes(content)
        with may_refuse(StoreError, ResultsError):
            store.measure(key, "probe", 1)
            results.from_store(store, {"probe": 1})


def read_decoder(count):
    """A decoder that results/ carries, its member named in the metadata."""
    store = Store(tempfile.mkdtemp())
    name, good = runs.decoder_file(store.commit(run_of(member())), store)
    assert runs.read_decoder(good, name)[0] == member().key
    for content in mutants(good, count):
        with may_refuse(StoreError):
            runs.read_decoder(content, name)


def read_sheet(count):
    """Pictures that results/ carries; a part whose checksum was made to fit, too."""
    good = sheets.pack(Sheet(member().key, 20, 1, ("a", "b"), np.arange(360, dtype=np.uint8).reshape(2, 4, 5, 3, 3)))
    name = sheets.file_name(member().key, 20)
    bodies = sheets._parts(good)
    for which in range(3):
        for body in mutants(bodies[which], count // 3 + 1):
            kinds = (b"IHDR", b"tEXt", b"IDAT", b"IEND")
            parts = [*bodies[:which], body, *bodies[which + 1 :], b""]
            content = good[:8] + b"".join(map(sheets._chunk, kinds, parts))
            with may_refuse(SheetError):
                found = sheets.unpack(content, name)
                assert (found.key[:12], found.step, found.pictures.ndim) == (member().key[:12], 20, 5)


def read_checkpoint(count):
    """States and snapshots whose names carry their hashes."""
    store = Store(tempfile.mkdtemp())
    one = member(steps=60)
    made = Checkpoints(store, [one], [30, 60], "cpu", "cores")
    model = one.build()
    tensors = {"step": torch.tensor(40), "history.step": torch.tensor([], dtype=torch.int64)}
    tensors |= {f"model.{name}": value for name, value in model.state_dict().items()}
    tensors |= {f"adam.{name}.exp_avg": value.detach().clone() for name, value in model.named_parameters()}
    state = State({f"0.{name}": value for name, value in tensors.items()}, text={"backend": "cores"})
    state.snapshots[0, 30] = model.state_dict()
    made.save(state)
    paths = {path.name.split("-")[0]: path for path in made.folders[0].iterdir()}
    kept = {kind: path.read_bytes() for kind, path in paths.items()}
    for kind in ("40", "snapshot"):
        for content in safetensors_mutants(kept[kind], count // 2):
            for path in made.folders[0].iterdir():
                path.unlink()
            (made.folders[0] / paths["snapshot"].name).write_bytes(kept["snapshot"])
            name = f"40-{hashlib.sha256(content).hexdigest()}.safetensors"
            if kind == "snapshot":
                snapshot = f"snapshot-0-30-{hashlib.sha256(content).hexdigest()}.safetensors"
                (made.folders[0] / snapshot).write_bytes(content)
                loaded = runs.tensors(kept["40"])
                text = json.dumps({"text": {}, "snapshots": [snapshot]}).encode()
                loaded["text"] = torch.frombuffer(bytearray(text), dtype=torch.uint8)
                whole = runs.safetensors.torch.save(loaded)
                name = f"40-{hashlib.sha256(whole).hexdigest()}.safetensors"
            (made.folders[0] / name).write_bytes(whole if kind == "snapshot" else content)
            said = []
            found = Checkpoints(store, [one], [30, 60], "cpu", "cores", said.append).latest()
            with may_refuse(StoreError):
                if found is None:
                    raise StoreError(*said)
                assert int(found.tensors["0.step"]) == 40
                model.load_state_dict(found.snapshots[0, 30])
                History.of(below("0.history.", found.tensors), 40)


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
        with may_refuse(*download.MALFORMED):
            assert download.read_idx(folder / "idx.gz", shape).shape == shape
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
        with may_refuse(*download.MALFORMED):
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
        with may_refuse(ResultsError, StoreError):
            found = results.read(folder)
            for key in found.members:
                found.member(key)


def read_classifier(count):
    folder = Path(tempfile.mkdtemp())
    os.environ["VAEKIT_RESULTS"] = str(folder)
    data.identity = lambda name: "sha256:0"
    judge = Classifier("cnn", (1, 28, 28), 10).eval()
    weights = {name: value.half() if value.is_floating_point() else value for name, value in judge.state_dict().items()}
    good = runs.safetensors.torch.save(weights)
    record = {"data_identity": "sha256:0", "network": "cnn", "image_shape": [1, 28, 28], "classes": 10}
    path = folder / "classifiers" / "mnist-cnn.json"
    path.parent.mkdir()

    def read(content, record):
        path.with_suffix(".safetensors").write_bytes(content)
        path.write_bytes(json.dumps(record | {"sha256": hashlib.sha256(content).hexdigest()}).encode())
        with may_refuse(ResultsError):
            found = judges.load_judge("mnist")
            assert all(value.dtype == torch.float32 for value in found.parameters())

    for content in safetensors_mutants(good, count // 2):
        read(content, record)
    for changed in plain_mutants(record, count // 2):
        read(good, changed)


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
@pytest.mark.parametrize("count", [COUNT, pytest.param(5 * COUNT, marks=pytest.mark.slow)])
def test_a_mutant_is_an_error_or_a_correct_load(forks, tmp_path, reader, count):
    end = forks.run(in_little_memory, reader, count, str(tmp_path), seconds=60 * count // COUNT)
    refused, loaded = end.result()
    assert refused > count // 4
    assert loaded  # else no mutant came past the hashes
    assert refused + loaded >= count


def test_no_code_can_run_what_a_file_says():
    modules = {"pickle", "marshal", "shelve", "yaml", "dill", "joblib"}
    calls = {"torch.load", "np.load", "numpy.load", "eval", "exec", "compile"}
    for path in Path(runs.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = {alias.name for alias in node.names} if isinstance(node, ast.Import) else set()
            named |= {node.module} if isinstance(node, ast.ImportFrom) else set()
            assert not named & modules, path
            assert not (isinstance(node, ast.Call) and ast.unparse(node.func) in calls), path


def test_paths_come_from_hashes_alone(tmp_path):
    """Names that lead elsewhere, where a member and a record have names: nothing is written outside of the store."""
    store = Store(tmp_path / "store")
    for name in ("../../../outside", str(tmp_path / "outside"), "a/b", "x" * 5000, "\n", ".", ""):
        key = store.commit(run_of(member(objective=name, split=name), hardware=name, study=name, reason=name))
        assert store.record(key)["hardware"] == name
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert sorted(path.name for path in store.root.iterdir()) == ["runs", "staging"]
    assert all(len(path.name) == 64 for path in store.root.glob("runs/*/*"))
