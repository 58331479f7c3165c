"""Members, their keys, and the store: what is committed comes back bit for bit, or is refused with a reason."""

import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from tiny import ARGUMENTS, FullDisk, member, run_of

from vaekit import data, models, runs
from vaekit.runs import Member, Store, StoreError, member_of

ROWS = [{"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 1 / 3, "se": 0.1, "n": 16}]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def folder(store, key):
    return store.root / "runs" / key[:2] / key


def measure_file(store, key):
    return store.root / "measures" / key[:2] / key / "rates-1.json"


def leftovers(store):
    """What lies about in staging."""
    return list((store.root / "staging").glob("*"))


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


# Members and keys


def gaussian(sigma):
    return member(model_args=ARGUMENTS | {"likelihood": "gaussian", "sigma": sigma})


def conv(channels):
    return member(model="conv_vae", model_args={"channels": channels})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (member(0.3, lr=0.3), member(0.1 + 0.2, lr=0.1 + 0.2)),
        (member(1), member(1.0)),
        (member(), member(model_args=tuple(reversed(ARGUMENTS.items())))),
        (conv([0, 1]), conv((0, 1))),
        (gaussian(0.3), gaussian(0.1 + 0.2)),
        (gaussian(1.0), gaussian(1)),
    ],
)
def test_a_member_is_one_whatever_way_its_numbers_are_written(one, other):
    assert one == other
    assert one.key == other.key
    assert one.weights == other.weights
    assert runs.unique([one, member(7), other]) == [one, member(7)]


def test_the_key_of_a_member_stays_what_it_is():
    # Everything stored, here and in results/, is found by keys: if this one changes, all of it is lost, and trained
    # again. Raise a model's code version instead, or keep what a new field is by default out of the key.
    assert member().key == "6aecc63f0a72ae527c01ea022ba545d0fd4c199fe4eb16985f216342f708aaa0"


CHANGES = {
    "model": "conv_vae",
    "data": "mnist",
    "split": "random",
    "objective": "other",
    "steps": 21,
    "seed": 1,
    "n_train": None,
    "n_test": None,
    "model_args": ARGUMENTS | {"hidden": 5},
    "weights": {"beta": 0.2},
    "batch_size": 9,
    "lr": 2e-3,
    "weight_decay": 0.1,
    "precision": "fp64",
    "parent": "ab" * 32,
    "arm": "gradual",
}


def test_every_field_is_in_the_key():
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(Member)}
    keys = {dataclasses.replace(member(), **{name: changed}).key for name, changed in CHANGES.items()}
    assert len(keys | {member().key}) == len(CHANGES) + 1


def test_the_code_version_and_the_data_are_in_the_key(monkeypatch):
    before = member().key
    monkeypatch.setitem(models.CODE_VERSIONS, "dense_vae", 2)
    newer = member().key
    monkeypatch.setattr(data, "identity", lambda name: "another")
    assert len({before, newer, member().key}) == 3


ODD = [
    member(),
    member(1e-05, lr=1e-5),
    member(1e22, seed=2**63 - 1),
    member(1 / 3, n_train=None, n_test=None, parent="12e4" * 16),
    member(model_args=ARGUMENTS | {"likelihood": "gaussian", "sigma": 1.0}),
    member(model_args=ARGUMENTS | {"likelihood": "gaussian", "sigma": 0.1}),
    member(model="conv_vae", model_args={"depth": 2, "channels": (4, 8), "batch_norm": True, "slope": 1e-5}),
    dataclasses.replace(member(), model_args={}, weights={"beta1": 1, "beta2": 2.5}),
]


@pytest.mark.parametrize("odd", ODD)
def test_a_row_gives_its_member_back(odd):
    for row in (odd.row(), json.loads(json.dumps(odd.row()))):
        assert member_of(row) == odd
        assert member_of(row).key == odd.key


@pytest.mark.parametrize("change", [{"colour": "red"}, {"weights.beta": "x"}, {"weights.beta": None}, {"lr": []}])
def test_a_row_that_is_no_member_is_refused(change):
    with pytest.raises(StoreError, match="no member"):
        member_of(member().row() | change)


# What is committed comes back


@pytest.mark.parametrize("precision", ["full", "fp64"])
def test_a_run_comes_back_bit_for_bit(store, precision):
    run = run_of(member(precision=precision), hardware='<b>a, "b"</b>\n', wall_time=float("nan"))
    assert run.member.key not in store
    key = store.commit(run)
    assert key == run.member.key
    assert key in store
    assert list(store.keys()) == [key]
    store.verify(key)
    for step, weights in run.weights.items():
        assert same(store.weights(key, step), weights)
    assert same(store.history(key), run.history)
    record = store.record(key)
    assert member_of(record["member"]) == run.member
    assert (record["status"], record["reason"], record["hardware"]) == ("finished", "", run.record["hardware"])
    assert record["wall_time"] is None
    assert runs.stored_steps(record) == [16, 20]
    assert not leftovers(store)


def test_measures_come_back(store):
    key = member().key
    assert store.measure(key, "rates", 1) is None
    store.commit_measure(key, "rates", 1, ROWS)
    assert store.measure(key, "rates", 1) == ROWS
    assert store.measure(key, "rates", 2) is None
    store.commit_measure(key, "rates", 1, [])
    assert store.measure(key, "rates", 1) == []
    assert not leftovers(store)


def test_measures_that_were_stored_as_rows_are_read(store):
    key = member().key
    path = measure_file(store, key)
    path.parent.mkdir(parents=True)
    for rows in (ROWS, []):
        path.write_bytes(runs._sealed({"key": key, "measure": "rates", "version": 1, "rows": rows}))
        assert store.measure(key, "rates", 1) == rows


def test_measures_that_are_no_table_are_refused(store):
    with pytest.raises(ValueError, match="differ in their names; the first has step"):
        store.commit_measure(member().key, "rates", 1, [*ROWS, {"step": 1}])
    assert not store.root.exists()
    store.commit_measure(member().key, "rates", 1, ROWS)
    for columns in ({"step": [1, 2], "value": [1]}, [1], {"step": 1}):
        content = {"key": member().key, "measure": "rates", "version": 1, "columns": columns}
        measure_file(store, member().key).write_bytes(runs._sealed(content))
        with pytest.raises(StoreError, match="damaged"):
            store.measure(member().key, "rates", 1)


def test_the_first_run_is_kept(store):
    key = store.commit(run_of(member(), hardware="first"))
    before = contents(folder(store, key))
    assert store.commit(run_of(member(), steps=(20,), hardware="second")) == key
    assert contents(folder(store, key)) == before
    assert not leftovers(store)
    assert not (store.root / "quarantine").exists()


def test_load_gives_the_model_back(store):
    run = run_of(member(precision="fp64"))
    key = store.commit(run)
    images, noise = torch.rand(3, 3, 32, 32, dtype=torch.float64), {"z": torch.zeros(3, 2, dtype=torch.float64)}
    for step, chosen in ((None, 20), (20, 20), (16, 16)):
        model = runs.load(key, step, store)
        assert not model.training
        wanted = run.member.build()
        wanted.load_state_dict(run.weights[chosen])
        with torch.no_grad():
            assert torch.equal(model(images, noise)["x"].logits, wanted.eval()(images, noise)["x"].logits)


def test_load_looks_in_the_default_store(place):
    key = runs.default_store().commit(run_of(member()))
    assert (place / "runs" / "runs" / key[:2] / key).is_dir()
    assert isinstance(runs.load(key), models.DenseVAE)


def test_load_says_what_is_lacking(store):
    with pytest.raises(StoreError, match="cannot be read as a run"):
        runs.load(member().key, store=store)
    key = store.commit(run_of(member()))
    with pytest.raises(StoreError, match=r"no weights of step 3; it has \[16, 20\]"):
        runs.load(key, 3, store)
    diverged = store.commit(run_of(member(2), steps=(), status="diverged", reason="the loss of step 0 was not finite"))
    with pytest.raises(StoreError, match="no weights"):
        runs.load(diverged, store=store)
    run = run_of(member(3))
    other = store.commit(dataclasses.replace(run, weights={20: {"mu.weight": torch.zeros(1)}}))
    with pytest.raises(StoreError, match="do not fit its model"):
        runs.load(other, store=store)


# What is damaged is never used


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << place % 7
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["weights-20.safetensors", "history.safetensors", "run.json"])
def test_a_flipped_bit_is_found_wherever_it_is(store, name):
    key = store.commit(run_of(member()))
    path = folder(store, key) / name
    good = path.read_bytes()
    for place in range(0, len(good), max(1, len(good) // 20)):
        flip(path, place)
        with pytest.raises(StoreError, match=key):
            store.verify(key)
        path.write_bytes(good)
    store.verify(key)


@pytest.mark.parametrize("harm", ["cut", "missing", "empty"])
@pytest.mark.parametrize("name", ["weights-20.safetensors", "history.safetensors", "run.json"])
def test_a_damaged_run_is_quarantined_and_replaced(store, name, harm):
    run = run_of(member())
    key = store.commit(run)
    path = folder(store, key) / name
    good = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(good[: len(good) // 2] if harm == "cut" else b"")
    with pytest.raises(StoreError, match=name):
        store.verify(key)
    damaged = contents(folder(store, key))
    assert store.commit(run) == key
    store.verify(key)
    assert path.read_bytes() == good
    (kept,) = (store.root / "quarantine").iterdir()
    assert contents(kept) == damaged
    assert list(store.keys()) == [key]
    assert not leftovers(store)


def test_another_members_run_is_not_taken(store):
    key, other = store.commit(run_of(member())), member(2).key
    folder(store, other).parent.mkdir(exist_ok=True)
    shutil.copytree(folder(store, key), folder(store, other))
    for read in (store.record, store.verify, store.history, runs.load):
        with pytest.raises(StoreError, match="another run"):
            read(other, store=store) if read is runs.load else read(other)


def hostile_records(good, outside):
    """What a run.json could hold in place of its record, given the path of a file outside of the store."""
    digest = hashlib.sha256(outside.read_bytes()).hexdigest()

    def files(**changes):
        return json.dumps(good | {"files": good["files"] | changes})

    return {
        "not JSON": "{",
        "not text": b"\xff\xfe",
        "deep": "[" * 100_000,
        "a list": "[]",
        "a number": "1",
        "nothing but its key": json.dumps({"key": good["key"]}),
        "no files": json.dumps({name: good[name] for name in good if name != "files"}),
        "files that are a list": json.dumps(good | {"files": ["weights-20.safetensors"]}),
        "a hash that is a number": files(**{"weights-20.safetensors": 12}),
        "a step that is none": files(**{"weights-x.safetensors": digest}),
        "a path out of the store": files(
            **{os.path.relpath(outside, folder(Store(outside.parent), good["key"])): digest}
        ),
        "an absolute path": files(**{str(outside): digest}),
        "a status of its own": json.dumps(good | {"status": "<script>"}),
        "a status that is a list": json.dumps(good | {"status": []}),
        "a member that is a list": json.dumps(good | {"member": []}),
        "another member": json.dumps(good | {"member": member(2).row()}),
        "a model that is none": json.dumps(good | {"member": member().row() | {"model": "os.system"}}),
        "arguments of no model": json.dumps(good | {"member": member().row() | {"model_args.x": 1}}),
    }


@pytest.mark.parametrize("kind", hostile_records({"key": member().key, "files": {}}, Path(__file__)))
def test_a_hostile_record_is_one_error_and_is_replaced(tmp_path, kind):
    store = Store(tmp_path)
    run = run_of(member())
    key = store.commit(run)
    outside = tmp_path / "outside"
    outside.write_bytes(b"nobody's")
    content = hostile_records(store.record(key), outside)[kind]
    (folder(store, key) / "run.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(StoreError, match=key):
        store.verify(key)
    with pytest.raises(StoreError, match=key[:12]):
        runs.load(key, store=store)
    store.commit(run)
    store.verify(key)
    assert same(store.weights(key, 20), run.weights[20])


@pytest.mark.parametrize("key", ["", "ab", "../" * 21 + "a", "A" * 64, "ab" * 32 + "\n", "/" * 64, "ab" * 33])
def test_a_key_is_64_digits_and_nothing_else(store, key):
    for use in (store.record, store.history, store.verify, store.quarantine, lambda k: k in store):
        with pytest.raises(StoreError, match="is no key"):
            use(key)
    with pytest.raises(StoreError, match="is no key"):
        store.measure(key, "rates", 1)
    with pytest.raises(StoreError, match="is no key"):
        store.commit_measure(key, "rates", 1, [])
    assert not store.root.exists()


def test_a_damaged_measure_is_found(store):
    key, other = member().key, member(2).key
    store.commit_measure(key, "rates", 1, ROWS)
    path = measure_file(store, key)
    good = path.read_bytes()
    for place in range(0, len(good), max(1, len(good) // 40)):
        flip(path, place)
        with pytest.raises(StoreError, match="damaged"):
            store.measure(key, "rates", 1)
        path.write_bytes(good)
    for content in (b"", good[:-20], b"[]", b"null", b'{"rows": []}', b"[" * 100_000):
        path.write_bytes(content)
        with pytest.raises(StoreError, match="damaged"):
            store.measure(key, "rates", 1)
    measure_file(store, other).parent.mkdir(parents=True)
    measure_file(store, other).write_bytes(good)
    with pytest.raises(StoreError, match="damaged"):
        store.measure(other, "rates", 1)  # whole, and another member's
    store.commit_measure(key, "rates", 1, ROWS)
    assert path.read_bytes() == good


@pytest.mark.parametrize(
    "content",
    [{"z": 1}, {"a": "x"}, {"a": [1, {"sha256": "no seal"}], "t": '\n "sha256": "', "z": "sha256"}, {"sha": {}}],
)
def test_a_seal_is_the_hash_of_what_is_sealed(content):
    sealed = runs._sealed(content)
    bare = json.dumps(content, sort_keys=True, indent=1).encode()
    digest = hashlib.sha256(bare).hexdigest()
    assert sealed == json.dumps(content | {"sha256": digest}, sort_keys=True, indent=1).encode()
    assert runs._unsealed(sealed) == content
    for place in range(len(sealed)):
        with pytest.raises(ValueError):
            runs._unsealed(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        with pytest.raises(ValueError):
            runs._unsealed(sealed[:place])


def test_a_start_of_a_key_is_enough(store):
    keys = [store.commit(run_of(member(beta))) for beta in (1, 2)]
    for key in keys:
        assert store.find(key) == store.find(key[:12]) == key
    with pytest.raises(StoreError, match="no run in"):
        store.find("f" * 64)


# A disk that refuses, and others at work


def test_a_store_that_cannot_be_written_says_so(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"in the way")
    store = Store(tmp_path / "file")
    for use in (store.check_writable, lambda: store.commit(run_of(member()))):
        with pytest.raises(StoreError, match=str(tmp_path / "file")):
            use()
    assert (tmp_path / "file").read_bytes() == b"in the way"
    fine = Store(tmp_path / "store")
    fine.check_writable()
    assert not leftovers(fine)

    FullDisk(monkeypatch, 3)
    with pytest.raises(StoreError, match="No space left"):
        fine.check_writable()
    assert not leftovers(fine)


@pytest.mark.parametrize("theirs", ["whole", "damaged"])
def test_another_process_commits_the_same_member_first(store, monkeypatch, theirs):
    run, rename = run_of(member(), hardware="mine"), os.rename
    key = run.member.key

    def beaten(source, target):
        monkeypatch.setattr(os, "rename", rename)
        Store(store.root).commit(run_of(member(), hardware="theirs"))
        if theirs == "damaged":
            (folder(store, key) / "weights-20.safetensors").write_bytes(b"")
        return rename(source, target)

    monkeypatch.setattr(os, "rename", beaten)
    assert store.commit(run) == key
    store.verify(key)
    assert store.record(key)["hardware"] == ("theirs" if theirs == "whole" else "mine")
    assert not leftovers(store)


@pytest.mark.parametrize("call", ["fsync", "rename", "replace"])
def test_who_finds_its_staging_folder_deleted_starts_again(store, monkeypatch, call):
    run, real = run_of(member()), getattr(os, call)

    def deleted(*args):
        monkeypatch.setattr(os, call, real)
        shutil.rmtree(store.root / "staging")
        return real(*args)

    monkeypatch.setattr(os, call, deleted)
    if call == "replace":
        store.commit_measure(run.member.key, "rates", 1, ROWS)
        assert store.measure(run.member.key, "rates", 1) == ROWS
    else:
        assert store.commit(run) == run.member.key
        store.verify(run.member.key)
    assert getattr(os, call) is real
    assert not leftovers(store)
