"""One contract of all that is kept: it comes back, or what is wrong with it is one error that names the file."""

import builtins
import contextlib
import errno
import os
import re
import struct

import numpy as np
import pytest
import torch
from tiny import member, run_of, tables

from vaekit import classifiers, data, sweep
from vaekit.__main__ import main
from vaekit.fleet import State, new_model
from vaekit.models.classifiers import Classifier
from vaekit.store import ImageGrid, StoreError, UnreadableError, bundles, default_store, files, load_decoder, results
from vaekit.store.checkpoints import Checkpoints
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
NAME = study.SPEC.name
ROWS = [{"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 1 / 3, "se": 0.1, "n": 16}]


def run():
    store = default_store()
    key = store.commit(run_of(member()))
    return store.path(key), lambda: store.verify(key)


def measure():
    store, key = default_store(), member().key
    store.commit_measure(key, "rates", 1, ROWS)
    (path,) = store.root.glob("measures/*/rates-1.json")
    return path, lambda: store.measure(key, "rates", 1)


def checkpoint(kind):
    """The state of a member that was stopped at step 40, or the snapshot that the state names."""
    one, store, reports = member(steps=60), default_store(), []
    model = new_model(one.build, 0)
    tensors = {"step": torch.tensor(40), "history.step": torch.tensor([], dtype=torch.int64)}
    tensors |= {f"model.{name}": value for name, value in model.state_dict().items()}
    Checkpoints(store, [one], [30, 60], "cpu", "cores", 1).save(State(tensors, {30: model.state_dict()}))
    (path,) = store.root.glob(f"work/*/{kind}-*")

    def use():
        if Checkpoints(store, [one], [30, 60], "cpu", "cores", 1, reports.append).latest() is None:
            raise StoreError(*reports, "absent")

    return path, use


def bundle():
    store = default_store()
    key = store.commit(run_of(member()))
    grid = ImageGrid(key, 20, 1, ("a", "b"), np.arange(360, dtype=np.uint8).reshape(2, 4, 5, 3, 3))
    whole = bundles.of_run(store.record(key), 20)
    whole.grid, whole.decoder = grid, bundles.decoder_of(member().build().eval())
    results.write(results.folder(NAME), tables([member()]), {}, {whole.name: whole.pack()})

    def use():
        assert results.bundle_of(NAME, key).grid is not None
        load_decoder(key)

    return results.folder(NAME) / whole.name, use


def classifier():
    weights = {name: value.half() for name, value in Classifier("cnn", (1, 28, 28), 10).state_dict().items()}
    record = {"data_identity": data.identity("mnist"), "network": "cnn", "image_shape": [1, 28, 28], "classes": 10}
    path = results.folder("classifiers") / "mnist-cnn.safetensors"
    files.replace(path, files.pack(record | {"accuracy": 0.9}, {"weights": weights}))
    return path, lambda: classifiers.load("mnist")


def table(name):
    path = results.folder(NAME)
    results.write(path, tables([member()]), {})
    return path / name, lambda: results.read(path)


KINDS = {
    "run": run,
    "measure": measure,
    "state": lambda: checkpoint("40"),
    "snapshot": lambda: checkpoint("snapshot-30"),
    "bundle": bundle,
    "classifier": classifier,
    "members.csv": lambda: table("members.csv"),
    "measures.csv": lambda: table("measures.csv"),
}


@pytest.fixture(params=KINDS)
def kind(request, monkeypatch):
    monkeypatch.setattr(data, "identity", lambda name: "sha256:0" if name == "mnist" else "tetrominoes-1-seed0")
    return request.param


@pytest.fixture
def kept(kind):
    """A file of this kind, and a function that uses it."""
    return KINDS[kind]()


def refusal(use, capsys):
    """What use of a file says that is damaged, and the lines of `runs verify`, which come first: use may quarantine."""
    main(["runs", "verify"])
    damaged = [line for line in capsys.readouterr().err.splitlines() if line.startswith("damaged: ")]
    with pytest.raises(StoreError) as caught:
        use()
    return str(caught.value), damaged


def test_it_is_used_and_verified_where_it_is_whole(kept, capsys):
    _, use = kept
    use()
    assert main(["runs", "verify"]) in (0, 2)  # 2 where there is no store
    assert "damaged" not in capsys.readouterr().err


def harmed(good):
    places = sorted({*range(12), *range(12, len(good), max(1, len(good) // 24)), len(good) - 1})
    flipped = {f"bit {p}": good[:p] + bytes([good[p] ^ 1 << p % 7]) + good[p + 1 :] for p in places}
    return flipped | {"cut": good[: len(good) // 2], "less a byte": good[:-1], "empty": b"", "longer": good + b"\0"}


def test_any_harm_is_one_error_that_names_the_file(kind, kept, capsys):
    path, use = kept
    whole = {file: file.read_bytes() for file in path.parent.iterdir()}
    for harm, content in harmed(whole[path]).items():
        path.write_bytes(content)
        message, damaged = refusal(use, capsys)
        assert path.name[:20] in message, harm
        assert len(damaged) == 1, (harm, damaged)
        assert path.name in damaged[0], harm
        for file, good in whole.items():  # a checkpoint is quarantined, and what needs it with it
            file.write_bytes(good)
    use()


def headed(header, body=b""):
    text = header if isinstance(header, bytes) else header.encode()
    return struct.pack("<Q", len(text)) + text + body


HOSTILE = {
    "no JSON": headed("{"),
    "deep": headed("[" * 100_000),
    "a list": headed("[]"),
    "beyond every memory": headed(
        '{"x": {"dtype": "F64", "shape": [1099511627776], "data_offsets": [0, 8]}}', bytes(8)
    ),
    "a header beyond the file": struct.pack("<Q", 2**62) + bytes(64),
    "no seal": headed('{"x": {"dtype": "F64", "shape": [1], "data_offsets": [0, 8]}}', bytes(8)),
    "another seal": headed('{"__metadata__": {"vaekit": "{}"}}'),
    "sealed text": files.seal({"key": "x"}),
    "sealed, and nothing that it should be": files.pack({"about": []}, {}),
    "no text": b"\xff\xfe",
    "a dictionary": b'{"rows": []}',
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_error_that_names_it(kind, kept, content, capsys):
    path, use = kept
    path.write_bytes(content)
    message, damaged = refusal(use, capsys)
    assert path.name[:20] in message
    assert len(damaged) == 1
    assert path.name in damaged[0]


@pytest.mark.parametrize("kind", ["run", "measure"], indirect=True)
@pytest.mark.parametrize("harm", ["cut", "empty"])
def test_a_damaged_file_is_quarantined_and_replaced_when_it_is_stored_again(kind, kept, harm):
    path, use = kept
    good = path.read_bytes()
    damaged = harmed(good)[harm]
    path.write_bytes(damaged)
    KINDS[kind]()
    use()
    assert path.read_bytes() == good
    (quarantined,) = (default_store().root / "quarantine").iterdir()
    assert quarantined.read_bytes() == damaged
    assert path.stem[:12] in quarantined.name


@pytest.mark.parametrize("kind", ["run", "measure", "bundle"], indirect=True)
def test_another_members_file_is_not_taken(kind, kept, capsys):
    """Whole, and under the name of one that it is not."""
    path, _ = kept
    other, store = member(2), default_store()
    theirs = {
        "run": store.path(other.key),
        "measure": store.root / "measures" / other.key / path.name,
        "bundle": path.with_name(bundles.file_name(other.key, 20)),
    }[kind]
    theirs.parent.mkdir(exist_ok=True)
    theirs.write_bytes(path.read_bytes())
    if kind == "bundle":
        with pytest.raises(StoreError, match=f"{theirs.name} .*another member's"):
            bundles.read(theirs)
    for use in (store.verify, lambda key: store.measure(key, "rates", 1)):
        with contextlib.suppress(StoreError):
            assert use(other.key) is None
    main(["runs", "verify"])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("damaged")]
    assert theirs.name in line


RECORDS = {
    "nothing but its key": lambda good: {"key": good["key"]},
    "a status of its own": lambda good: good | {"status": "<script>"},
    "a status that is a list": lambda good: good | {"status": []},
    "a member that is a list": lambda good: good | {"member": []},
    "another member": lambda good: good | {"member": member(2).row()},
    "a model that is none": lambda good: good | {"member": member().row() | {"model": "os.system"}},
    "arguments of no model": lambda good: good | {"member": member().row() | {"model_args.x": 1}},
    "a list": lambda good: [],
    "a text for a number": lambda good: good | {"member": member().row() | {"steps": "many"}},
    "a truth for a number": lambda good: good | {"member": member().row() | {"n_train": True}},
    "a code version that is none": lambda good: good | {"code_version": "1"},
}
GROUPS = {
    "no history": ["weights/20"],
    "a step that is none": ["history", "weights/x"],
    "a path": ["history", "../outside"],
}


@pytest.mark.parametrize("change", RECORDS.values(), ids=RECORDS)
def test_a_hostile_record_in_a_whole_file_is_one_error(change, capsys):
    """Whose key is that of the file, where it has one."""
    path, use = run()
    history, weights = ({n: v.clone() for n, v in files.Pack(path).read(g).items()} for g in ("history", "weights/20"))
    path.write_bytes(files.pack(change(files.Pack(path).about), {"history": history, "weights/20": weights}))
    message, _ = refusal(use, capsys)
    assert path.name in message


ODD = {
    "a number for a text": {"part": [1]},
    "a text for a number": {"value": ["abc"]},
    "mixed": {"step": ["x"]},
    "a list": {"n": [[]]},
    "a truth": {"n": [True]},
}


@pytest.mark.parametrize("changes", ODD.values(), ids=ODD)
def test_a_measure_of_other_values_in_a_whole_file_is_one_error(changes, capsys):
    path, use = measure()
    content = files.unseal(path.read_bytes())
    path.write_bytes(files.seal(content | {"columns": content["columns"] | changes}))
    message, damaged = refusal(use, capsys)
    assert path.name in message
    assert len(damaged) == 1


def test_a_measure_without_a_column_in_a_whole_file_is_one_error(capsys):
    path, use = measure()
    content = files.unseal(path.read_bytes())
    del content["columns"]["se"]
    path.write_bytes(files.seal(content))
    assert path.name in refusal(use, capsys)[0]


def test_a_snapshot_that_is_not_there_is_named(capsys):
    path, _ = checkpoint("snapshot-30")
    path.unlink()
    main(["runs", "verify"])
    assert "names a snapshot that is not there" in capsys.readouterr().err


@pytest.mark.parametrize("groups", GROUPS.values(), ids=GROUPS)
def test_hostile_groups_in_a_whole_file_are_one_error(groups, capsys):
    path, use = run()
    record = files.Pack(path).about
    path.write_bytes(files.pack(record, {name: {"x": torch.ones(1)} for name in groups}))
    message, _ = refusal(use, capsys)
    assert path.name in message
    assert not [entry for entry in path.parent.iterdir() if entry != path]


def test_reading_one_group_does_not_read_the_others():
    path, _ = run()
    store, content = default_store(), path.read_bytes()
    weights = member().build().state_dict()
    start = content.index(files.Pack(path).read("weights/16")["decoder.0.weight"].numpy().tobytes())
    path.write_bytes(content[:start] + b"\xff\xff\xff\xff" + content[start + 4 :])
    assert store.weights(member().key, 20).keys() == weights.keys()
    with pytest.raises(StoreError, match="its weights/16 does not hash"):
        store.weights(member().key, 16)


# What is not readable is neither damaged nor absent


def forbidden(path, monkeypatch):
    path.chmod(0)


def forbidden_folder(path, monkeypatch):
    path.parent.chmod(0)


def link_to_nothing(path, monkeypatch):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("a disk that is not there"))


def folder_linked_to_nothing(path, monkeypatch):
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.symlink_to("a disk that is not there")


def link_to_itself(path, monkeypatch):
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path)


def folder_in_its_place(path, monkeypatch):
    path.rename(path.with_name("elsewhere"))
    path.mkdir()


def file_in_place_of_its_folder(path, monkeypatch):
    path.parent.rename(path.parent.with_name("elsewhere"))
    path.parent.touch()


def failing_disk(path, monkeypatch):
    real = builtins.open

    def broken(file, *arguments, **options):
        if os.fspath(file) == str(path):
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", broken)


REFUSALS = [forbidden, forbidden_folder, link_to_nothing, folder_linked_to_nothing, link_to_itself]
REFUSALS += [folder_in_its_place, file_in_place_of_its_folder, failing_disk]
NO_DAMAGE = pytest.mark.parametrize("refuse", REFUSALS)


def contents(folder):
    """The files and links that lie in a folder, where permissions hide none of them, with their sizes."""
    return {path: path.lstat().st_size for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


@NO_DAMAGE
@pytest.mark.usefixtures("permissions")
def test_what_may_not_be_read_is_one_error_that_advises_no_deletion(kept, refuse, place, monkeypatch, capsys):
    path, use = kept
    refuse(path, monkeypatch)
    before = contents(place)
    with pytest.raises(UnreadableError, match=files.MAY_NOT_BE_READ) as caught:
        use()
    assert str(path.parent) in str(caught.value)
    main(["runs", "verify"])
    lines = capsys.readouterr().err.splitlines()
    assert any(str(path.parent) in line for line in lines)
    for line in (str(caught.value), *(line for line in lines if files.MAY_NOT_BE_READ in line)):
        assert not re.search("delete|check .* out|damaged", line), line
    assert contents(place) == before


def trained(*_, checkpointers, **options):
    """What stands for a training, which begins by taking the latest states."""
    assert all(saver.latest() is None for saver in checkpointers)
    pytest.fail("trained")


@NO_DAMAGE
@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("kind", ["run", "measure", "state", "snapshot"], indirect=True)
def test_what_may_not_be_read_is_neither_trained_again_nor_moved(kind, kept, refuse, place, monkeypatch):
    path, _ = kept
    members = [member(steps=60) if kind in ("state", "snapshot") else member()]
    measures = (sweep.Measure("rates", 1, lambda *_: []),)
    spec = sweep.StudySpec(NAME, measures, lambda m: (30, m.steps), lambda m: (m.steps,))
    monkeypatch.setattr(sweep.train, "train_fleet", trained)
    monkeypatch.setattr(sweep.plan, "seconds_per_step", lambda *_: 0.01)
    refuse(path, monkeypatch)
    before = contents(place)
    with pytest.raises(UnreadableError):
        sweep.run(spec, members, say=lambda line: None)
    assert contents(place) == before
