"""Members, their keys, and the store: what is committed comes back bit for bit, the first one for good."""

import dataclasses
import errno
import json
import os
from pathlib import Path

import pytest
import torch
from tiny import ARGUMENTS, FullDisk, member, run_of

from vaekit import data, models
from vaekit.store import (
    CHECKOUT,
    Member,
    Store,
    StoreError,
    default_store,
    describe,
    files,
    load,
    member_of,
    results,
    unique,
)

ROWS = [{"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 1 / 3, "se": 0.1, "n": 16}]


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) and a[n].dtype == b[n].dtype for n in a)


def temporary(store):
    """Files that a write has left behind."""
    return list((store.root / "staging").glob("*"))


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
    assert unique([one, member(7), other]) == [one, member(7)]


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
    "noise": "frozen",
}


def test_the_keys_of_all_evidence_stay_what_they_are():
    frozen = Path(__file__).with_name("frozen").joinpath("keys.txt").read_text().split()
    carried = {
        key: tables.member(key)
        for path in sorted((CHECKOUT / "results").glob("*/members.csv"))
        for tables in [results.read(path.parent)]
        for key in tables.members
    }
    assert len(frozen) == len(set(frozen)) > 200
    assert set(frozen) <= carried.keys()
    # Of those of older code, and of image sets that are not here, the row's own hash says the same (`results.read`).
    current = [key for key, one in carried.items() if one.data == "tetrominoes" and one.model == "dense_vae"]
    assert len(current) > 50
    assert all(carried[key].key == key for key in current)


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
    member(noise="frozen"),
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


@pytest.mark.parametrize("change", [{"noise": "fresh"}, {"noise": "frozen", "n_train": None}])
def test_noise_is_frozen_over_an_epoch_of_a_known_size(change):
    with pytest.raises(ValueError, match="wanted None, or frozen of a number"):
        member(**change)
    with pytest.raises(StoreError, match="no member"):
        member_of(member().row() | change)
    assert "noise" not in member().row()
    assert member().period is None
    assert (member(noise="frozen").period, member(noise="frozen", n_train=33).period) == (4, 5)
    assert "20 steps of 8, frozen noise, full" in describe(member(noise="frozen"))


def test_a_key_that_was_computed_is_computed_again_where_it_would_be_another(monkeypatch):
    one = member()
    first = one.key
    assert one.key is first
    monkeypatch.setattr(data, "identity", lambda name: "another")
    assert one.key != first
    assert dataclasses.replace(one, seed=5).key not in (first, one.key)


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
    assert store.steps(key) == [16, 20]
    assert not temporary(store)


def test_weights_that_share_memory_come_back(store):
    """Tied ones, and views of a part of another."""
    whole = torch.arange(12.0).reshape(3, 4)
    weights = {"a": whole, "b": whole, "c": whole[1:], "d": whole.T, "e": torch.tensor(1.5)}
    key = store.commit(dataclasses.replace(run_of(member()), weights={20: weights}))
    assert same(store.weights(key, 20), weights)


def test_measures_come_back(store):
    key = member().key
    assert store.measure(key, "rates", 1) is None
    store.commit_measure(key, "rates", 1, ROWS)
    assert store.measure(key, "rates", 1) == ROWS
    assert store.measure(key, "rates", 2) is None
    store.commit_measure(key, "rates", 2, [])
    assert store.measure(key, "rates", 2) == []
    assert store.measures(key) == {"rates": 2}
    assert not temporary(store)


def test_measures_that_are_no_table_are_refused(store):
    with pytest.raises(ValueError, match="differ in their names; the first has step"):
        store.commit_measure(member().key, "rates", 1, [*ROWS, {"step": 1}])
    assert not store.root.exists()
    store.commit_measure(member().key, "rates", 1, ROWS)
    (path,) = store.root.glob("measures/*/rates-1.json")
    for columns in ({"step": [1, 2], "value": [1]}, [1], {"step": 1}):
        content = {"key": member().key, "measure": "rates", "version": 1, "columns": columns}
        path.write_bytes(files.seal(content))
        with pytest.raises(StoreError, match="damaged"):
            store.measure(member().key, "rates", 1)


def test_the_first_run_and_the_first_measure_are_kept(store):
    key = store.commit(run_of(member(), hardware="first"))
    store.commit_measure(key, "rates", 1, ROWS)
    before = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    assert store.commit(run_of(member(), steps=(20,), hardware="second")) == key
    store.commit_measure(key, "rates", 1, [])
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == before
    assert not (store.root / "quarantine").exists()


def test_load_gives_the_model_back(store):
    run = run_of(member(precision="fp64"))
    key = store.commit(run)
    images, noise = torch.rand(3, 3, 32, 32, dtype=torch.float64), {"z": torch.zeros(3, 2, dtype=torch.float64)}
    for step, chosen in ((None, 20), (20, 20), (16, 16)):
        model = load(key, step, store)
        assert not model.training
        wanted = run.member.build()
        wanted.load_state_dict(run.weights[chosen])
        with torch.no_grad():
            assert torch.equal(model(images, noise)["x"].logits, wanted.eval()(images, noise)["x"].logits)


def test_load_looks_in_the_default_store(place):
    key = default_store().commit(run_of(member()))
    assert (place / "runs" / "runs" / f"{key}.safetensors").is_file()
    assert isinstance(load(key), models.DenseVAE)


def test_load_says_what_is_lacking(store):
    with pytest.raises(StoreError, match=f"has no run {member().key[:12]}"):
        load(member().key, store=store)
    key = store.commit(run_of(member()))
    with pytest.raises(StoreError, match=r"no weights of step 3; it has \[16, 20\]"):
        load(key, 3, store)
    diverged = store.commit(run_of(member(2), steps=(), status="diverged", reason="the loss of step 0 was not finite"))
    with pytest.raises(StoreError, match="no weights"):
        load(diverged, store=store)
    run = run_of(member(3))
    for wrong in ({"mu.weight": torch.zeros(1)}, {n: v.double() for n, v in run.weights[20].items()}):
        store.path(run.member.key).unlink(missing_ok=True)
        other = store.commit(dataclasses.replace(run, weights={20: wrong}))
        with pytest.raises(StoreError, match="do not fit its model"):
            load(other, store=store)


def test_a_start_of_a_key_is_enough(store):
    keys = [store.commit(run_of(member(beta))) for beta in (1, 2)]
    for key in keys:
        assert store.find(key) == store.find(key[:12]) == key
    with pytest.raises(StoreError, match="no run in"):
        store.find("f" * 64)


@pytest.mark.parametrize("key", ["", "ab", "../" * 21 + "a", "A" * 64, "ab" * 32 + "\n", "/" * 64, "ab" * 33])
def test_a_key_is_64_digits_and_nothing_else(store, key):
    for use in (store.record, store.history, store.verify, store.path, lambda k: k in store):
        with pytest.raises(StoreError, match="is no key"):
            use(key)
    with pytest.raises(StoreError, match="is no key"):
        store.measure(key, "rates", 1)
    with pytest.raises(StoreError, match="is no key"):
        store.commit_measure(key, "rates", 1, [])
    assert not store.root.exists()


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
    assert not temporary(fine)
    FullDisk(monkeypatch, 3)
    with pytest.raises(StoreError, match="No space left"):
        fine.check_writable()
    assert not temporary(fine)


@pytest.fixture(params=["links", "no links"])
def links(request, monkeypatch):
    """A file system with hard links, and one without."""
    if request.param == "no links":

        def refuse(source, target):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("links")
@pytest.mark.parametrize("theirs", ["whole", "damaged"])
def test_another_process_commits_the_same_member_first(store, monkeypatch, theirs):
    key = member().key
    seam = files.seam

    def beaten(operation, path):
        if operation == "link":
            monkeypatch.setattr(files, "seam", seam)
            Store(store.root).commit(run_of(member(), hardware="theirs"))
            if theirs == "damaged":
                store.path(key).write_bytes(b"")

    monkeypatch.setattr(files, "seam", beaten)
    assert store.commit(run_of(member(), hardware="mine")) == key
    store.verify(key)
    assert store.record(key)["hardware"] == ("theirs" if theirs == "whole" else "mine")
    assert not temporary(store)


@pytest.mark.usefixtures("links")
def test_what_is_committed_is_read_again_and_the_first_is_kept(store):
    key = store.commit(run_of(member(), hardware="first"))
    store.commit(run_of(member(), hardware="second"))
    store.verify(key)
    assert store.record(key)["hardware"] == "first"
    assert not temporary(store)


def test_without_links_a_write_that_fails_leaves_no_file(store, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOTSUP, "no links")))
    path = store.path(member().key)

    def full(operation, written):
        if (operation, written) == ("fsync", path):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "seam", full)
    with pytest.raises(StoreError, match="No space left"):
        store.commit(run_of(member()))
    assert not [path for path in store.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("operation", ["open", "write on", "fsync", "link"])
def test_who_finds_its_temporary_file_deleted_starts_again(store, monkeypatch, operation):
    run, seam = run_of(member()), files.seam

    def deleted(name, path):
        if name == operation and path.parent.name in ("staging", "runs"):
            monkeypatch.setattr(files, "seam", seam)
            for leftover in temporary(store):
                leftover.unlink()

    monkeypatch.setattr(files, "seam", deleted)
    assert store.commit(run) == run.member.key
    assert files.seam is seam
    store.verify(run.member.key)
    assert not temporary(store)


@pytest.mark.parametrize("content", [{"z": 1}, {"a": "x"}, {"a": [1, {"sha256": "no seal"}], "t": '","content":'}, {}])
def test_a_seal_is_the_hash_of_what_is_sealed(content):
    sealed = files.seal(content)
    assert json.loads(sealed)["content"] == files.unseal(sealed) == content
    for place in range(len(sealed)):
        with pytest.raises(ValueError):
            files.unseal(sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :])
        with pytest.raises(ValueError):
            files.unseal(sealed[:place])
