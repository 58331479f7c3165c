"""The command line: what it trains and writes, and one message and status 2 for all that can be foreseen."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import member, run_of, tables

import vaekit
from vaekit import data, provenance, studies, sweep
from vaekit.__main__ import main
from vaekit.store import CHECKOUT, default_store, load_decoder, results
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("tiny_scales")
NAME = study.SPEC.name


@pytest.fixture
def tiny_scales(place, monkeypatch):
    """The study's own scales at a size that trains at once; the working directory is a folder that stays empty."""
    tiny = study.Settings.SCALES["quick"] | {"betas": (0.1, 1), "depths": (1,), "steps": 20, "n_train": (32,)}
    tiny |= {"hidden": 4, "batch_size": 8, "n_test": 16}
    monkeypatch.setattr(study.Settings, "SCALES", dict.fromkeys(study.Settings.SCALES, tiny))
    (place / "here").mkdir()
    monkeypatch.chdir(place / "here")
    yield
    assert not list((place / "here").iterdir())


@pytest.fixture
def untrained(monkeypatch):
    """Nothing may be trained."""
    monkeypatch.setattr(sweep.train, "_train", lambda *args: pytest.fail("trained"))


def error(capsys, *arguments):
    """The one message on stderr of a command that fails with status 2."""
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def stored(**changes):
    """Commit an untrained run of a member of the tiny grid."""
    return default_store().commit(run_of(member(**changes)))


def test_train_then_export_then_show(place, capsys):
    assert main(["train", NAME, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "0 members known" in out
    assert "2 to train: dense_vae depth 1 hidden 4" in out
    assert not (place / "runs").exists()
    assert main(["train", NAME]) == 0
    assert len(list(default_store().keys())) == 2
    assert main(["train", NAME, "-p", "betas", "[0.1, 0.7]", "-p", "seeds", "0"]) == 0
    assert "1 members known" in capsys.readouterr().out
    assert main(["train", NAME]) == 0
    assert "not begun" not in capsys.readouterr().out
    assert main(["export", NAME]) == 0
    values = sum(map(len, results.read(results.folder(NAME)).measures.values()))
    assert f"3 members, {values} values: {place / 'results' / NAME}" in capsys.readouterr().out
    before = contents(place / "results" / NAME)
    assert main(["export", NAME]) == 0
    assert contents(place / "results" / NAME) == before
    shown = study.run(study.Settings.at("published", betas=[0.7]))
    assert set(shown["beta"]) == {0.7}


def test_export_never_removes(place, capsys):
    path = results.folder(NAME)
    results.write(path, tables([member(5)]), {})
    assert main(["export", NAME]) == 0
    stored(beta=6)
    assert main(["export", NAME]) == 0
    tables_read = results.read(path)
    assert tables_read.members.keys() == {member(5).key, member(6).key}
    assert tables_read.measures[member(5).key] == results.read(path).merged(tables_read).measures[member(5).key] != []
    assert "2 members" in capsys.readouterr().out


def test_export_of_nothing_is_one_error(place, capsys):
    assert "nothing of rate_generalisation is stored" in error(capsys, "export", NAME)
    assert not (place / "results").exists()


def test_a_stopped_sweep_says_how_to_go_on(monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep.train, "_train", stop)
    assert main(["train", NAME]) == 130
    assert capsys.readouterr().err.startswith("stopped")


def test_minutes_that_are_enough_end_as_always(capsys):
    assert main(["train", NAME, "--minutes", "10"]) == 0
    assert "the minutes are over" not in capsys.readouterr().out
    assert main(["train", NAME, "--minutes", "1e-9"]) == 0  # there is nothing left to do


def test_no_time_trains_nothing(untrained, capsys):
    assert main(["train", NAME, "--minutes", "1e-9"]) == 75
    assert "the minutes are over at 0 %: kept; the same command goes on from there" in capsys.readouterr().out
    for minutes in ("0", "-1", "nan", "inf"):
        assert "wanted a number above 0" in error(capsys, "train", NAME, f"--minutes={minutes}")


def test_a_measure_left_for_later_is_taken_from_the_weights(place, capsys):
    assert main(["train", NAME, "--later", "likelihood", "neighbours"]) == 0
    store = default_store()
    key = next(iter(store.keys()))
    assert store.measures(key).keys() == study.SPEC.versions.keys() - {"likelihood", "neighbours"}
    assert main(["train", NAME, "--later", "likelihood", "--dry-run"]) == 0
    assert "0 members known, 2 to be measured from their weights" in capsys.readouterr().out
    assert main(["export", NAME]) == 0
    before = results.read(results.folder(NAME)).measures
    assert main(["train", NAME]) == 0
    assert store.measures(key).keys() == study.SPEC.versions.keys()
    assert main(["export", NAME]) == 0
    for key, rows in results.read(results.folder(NAME)).measures.items():
        assert len(rows) > len(before[key])
        assert all(row in rows for row in before[key])


def test_measures_that_are_none_or_all_are_one_error(untrained, capsys):
    assert "likelihood, neighbours" in error(capsys, "train", NAME, "--later", "likelyhood")
    assert "one or more to be taken" in error(capsys, "train", NAME, "--later", *study.SPEC.versions)


def test_export_takes_the_members_that_are_asked_for(place, capsys):
    (asked,) = study.members(study.Settings.at("quick", betas=[0.1]))
    default_store().commit(run_of(asked))
    stored(beta=6)
    assert "give --scale as well" in error(capsys, "export", NAME, "-p", "betas", "6")
    assert "that was chosen is stored" in error(capsys, "export", NAME, "--scale", "quick", "-p", "betas", "7")
    assert main(["export", NAME, "--scale", "quick", "-p", "betas", "0.1"]) == 0
    assert {*results.read(results.folder(NAME)).members} == {asked.key}


def test_the_image_sets_are_listed(place, capsys):
    (place / "data").mkdir()
    (place / "data" / "mnist.npz").write_bytes(b"no images, which only loading would find")
    assert main(["data", "--list"]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["name", "images", "shape"]
    assert [line.split()[0] for line in lines] == list(data.NAMES)
    here = {line.split()[0] for line in lines if "  yes  " in line}
    assert here == {name for name in data.NAMES if (of := data.about(name).stored) is None or of == "mnist"}
    (copy,) = (line for line in lines if line.startswith("cifar10_jpeg "))
    assert "60,000" in copy
    assert "  no  " in copy
    assert "JPEG copy of cifar10" in copy


@pytest.mark.parametrize("arguments", [["data"], ["data", "mnist", "--list"]])
def test_data_is_one_name_or_the_list(capsys, arguments):
    with pytest.raises(SystemExit):
        main(arguments)


def test_the_version_names_the_commit_of_a_checkout(capsys, monkeypatch):
    for commit, says in (("0123456789ab", ", commit 0123456789ab"), (None, "")):
        monkeypatch.setattr(provenance, "commit", lambda commit=commit: commit)
        with pytest.raises(SystemExit) as ended:
            main(["--version"])
        assert ended.value.code == 0
        assert capsys.readouterr().out == f"vaekit {vaekit.__version__}{says}\n"


def test_a_card_that_is_not_here_can_be_planned_for(place, untrained, capsys):
    assert main(["train", NAME, "-p", "device", "cuda", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "2 to train: dense_vae depth 1 hidden 4" in out
    assert "time not known" in out
    assert "CUDA" in error(capsys, "train", NAME, "-p", "device", "cuda")
    assert "torch does not know" in error(capsys, "train", NAME, "-p", "device", "cuda:a", "--dry-run")


# Parts of a sweep, and results that travel


def family():
    """Members with children and grandchildren: three generations share a shard."""
    parents = [member(beta, seed) for beta in (0.1, 1, 7) for seed in range(4)]
    children = [member(1, seed, parent=parent.key) for parent in parents for seed in range(2)]
    return parents + children + [member(2, parent=child.key) for child in children]


@pytest.mark.parametrize("of", [1, 2, 3, 7, 100])
def test_shards_divide_a_sweep_and_keep_families_together(of):
    members = family()
    shards = [sweep.shard(members, number, of) for number in range(of)]
    assert sorted(m.key for shard in shards for m in shard) == sorted(m.key for m in members)
    for number, shard in enumerate(shards):
        keys = {m.key for m in shard}
        assert {m.key for m in sweep.shard(members[::-1] + members, number, of)} == keys
        assert all(m.parent in keys for m in shard if m.parent)
        for m in shard:
            if not m.parent:
                assert int(m.key, 16) % of == number
            # Whatever else is asked for: a child whose parent is not asked for goes where that would.
            elif m.parent in {parent.key for parent in members[:12]}:
                assert sweep.shard([m], number, of) == [m]


def test_train_a_shard(untrained, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(sweep, "run", lambda spec, members, *args, **options: asked.extend(members) or sweep.Plan())
    grid = ["-p", "betas", "[0.1, 1, 2, 3, 4]"]
    whole = study.members(study.Settings.at("quick", betas=[0.1, 1, 2, 3, 4]))
    for shard in ("1/3", "2/3", "3/3"):
        before = len(asked)
        assert main(["train", NAME, *grid, "--shard", shard]) == 0
        part = len(asked) - before
        assert f"shard {shard}: {part} of 5 members" in capsys.readouterr().out
        assert main(["train", NAME, *grid, "--shard", shard, "--dry-run"]) == 0
        out = capsys.readouterr().out
        assert f"shard {shard}: {part} of 5 members" in out
        assert (f"{part} to train" in out) is (part > 0)
    assert sorted(m.key for m in asked) == sorted(m.key for m in whole)


@pytest.mark.parametrize(
    "shard", ["", "1", "0/2", "3/2", "-1/2", "1/0", "1/2/3", "a/b", "1.0/2", "¹/2", "1/" + "9" * 5000]
)
def test_a_shard_that_is_none_is_one_error(untrained, capsys, shard):
    assert "wanted I/N" in error(capsys, "train", NAME, f"--shard={shard}")


def contents(path):
    files = (file for file in path.rglob("*") if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}


def test_results_travel_in_a_folder(place, monkeypatch, capsys):
    own, theirs = stored(beta=1), stored(beta=6)
    for name in ("a", "b"):
        assert main(["export", NAME, "--decoders", theirs[:12], "--to", str(place / name)]) == 0
    assert not (place / "results").exists()
    assert contents(place / "a") == contents(place / "b")
    assert main(["export", NAME, "--decoders", theirs]) == 0
    exported = contents(place / "results" / NAME)
    assert exported == contents(place / "a")
    assert f"{theirs[:12]}-20.safetensors" in exported
    shutil.rmtree(place / "results")
    monkeypatch.setenv("VAEKIT_RUNS", str(place / "other"))
    assert main(["export", NAME, "--from", str(place / "a")]) == 0
    assert contents(place / "results" / NAME) == exported
    shutil.rmtree(place / "results")
    results.write(results.folder(NAME), tables([member(5)]), {})
    assert main(["export", NAME, "--from", str(place / "a")]) == 0
    assert "3 members" in capsys.readouterr().out
    assert set(results.read(results.folder(NAME)).members) == {own, theirs, member(5).key}
    assert type(load_decoder(theirs).encoder).__name__ == "Absent"
    assert main(["export", NAME]) == 0  # of an empty store: removes nothing, decoders neither
    assert load_decoder(theirs)


def test_a_folder_that_is_not_empty_is_not_written_into(place, capsys):
    stored()
    results.write(place / "a", tables([member(5)]), {"study": NAME})
    before = contents(place / "a")
    (place / "b").write_bytes(b"in the way")
    for name in ("a", "b"):
        assert "not an empty folder" in error(capsys, "export", NAME, "--to", str(place / name))
    assert contents(place / "a") == before
    (place / "c").mkdir()
    assert main(["export", NAME, "--to", str(place / "c")]) == 0


def test_a_folder_that_lists_a_path_is_refused_and_nothing_is_written(place, capsys):
    stored(beta=1)
    path = results.folder(NAME)
    assert main(["export", NAME]) == 0
    provenance = json.loads((path / "provenance.json").read_bytes())
    (path.parent / "secret").write_bytes(b"nobody's")
    provenance["bundles"]["../secret"] = hashlib.sha256(b"nobody's").hexdigest()
    (path / "provenance.json").write_text(json.dumps(provenance))
    assert "which is no bundle" in error(capsys, "export", NAME, "--to", str(place / "a" / "b"))
    assert not (place / "a").exists()


def test_decoders_are_chosen_by_key_or_by_scale(place, capsys):
    settings = study.Settings.at("quick")
    keys = [default_store().commit(run_of(m)) for m in study.members(settings)]
    assert main(["export", NAME, "--scale", "quick", "--decoders"]) == 0
    path = results.folder(NAME)
    assert {f"{key[:12]}-20.safetensors" for key in keys} < set(contents(path))
    before = contents(path)
    assert "0 of the runs that are meant" in error(capsys, "export", NAME, "--decoders")
    assert "no run in" in error(capsys, "export", NAME, "--decoders", "0123456789")
    foreign = default_store().commit(run_of(member(9), study="pruning"))
    assert "none of this study's" in error(capsys, "export", NAME, "--decoders", foreign)
    for beta in range(2, 7):
        stored(beta=beta)
    every = [key for key in default_store().keys() if key != foreign]
    assert len(every) == 7
    assert "wanted 1 to 6" in error(capsys, "export", NAME, "--decoders", *every)
    assert "leave out" in error(capsys, "export", NAME, "--from", "x", "--decoders", keys[0])
    assert contents(path) == before


def test_bundles_of_all_studies_have_a_limit(place, monkeypatch, capsys):
    for beta in (2, 3):
        assert main(["export", NAME, "--decoders", stored(beta=beta)]) == 0
    shutil.copytree(results.folder(NAME), results.folder("another"))
    key, path = stored(beta=4), results.folder(NAME)
    sizes = {file.name: file.stat().st_size for file in place.glob("results/*/*.safetensors")}
    assert len(sizes) == 2
    limit = 2 * sum(sizes.values()) + 1  # as much as there is, and hardly more
    monkeypatch.setattr(results, "BUNDLES_LIMIT", limit)
    before = contents(path)
    for to in ((), ("--to", str(place / "away"))):
        message = error(capsys, "export", NAME, "--decoders", key, *to)
        assert re.search(rf"would take 0\.\d+ MB, and results/ carries {limit / 1e6:g} at the most", message)
        assert all(name in message for name in (f"{NAME}/", "another/", max(sizes, key=sizes.get)))
    assert contents(path) == before
    assert not (place / "away").exists()
    monkeypatch.setattr(results, "BUNDLES_LIMIT", limit + 100_000)
    assert main(["export", NAME, "--decoders", key]) == 0


def spoilt(folder, kind):
    """Do to another machine's export what `kind` says."""
    members, provenance = folder / "members.csv", folder / "provenance.json"
    bundle = next(folder.glob("*.safetensors"))
    match kind:
        case "missing":
            shutil.rmtree(folder)
        case "a file":
            shutil.rmtree(folder)
            folder.write_bytes(b"in the way")
        case "empty":
            members.write_bytes(b"")
        case "flipped":
            members.write_bytes(members.read_bytes().replace(b"1", b"3", 1))
        case "another study":
            provenance.write_bytes(provenance.read_bytes().replace(NAME.encode(), b"pruning"))
        case "edited":
            text = members.read_bytes().replace(b"finished", b"perfect!")
            members.write_bytes(text)
            provenance_json = json.loads(provenance.read_bytes())
            provenance_json["sha256"]["members.csv"] = hashlib.sha256(text).hexdigest()
            provenance.write_text(json.dumps(provenance_json))
        case "a table is lacking":
            members.unlink()
        case "a bundle is lacking":
            bundle.unlink()
        case "a bundle is cut":
            bundle.write_bytes(bundle.read_bytes()[:-1])
        case "a bundle is none":
            bundle.write_bytes(b"nothing")
            provenance_json = json.loads(provenance.read_bytes())
            provenance_json["bundles"][bundle.name] = hashlib.sha256(b"nothing").hexdigest()
            provenance.write_text(json.dumps(provenance_json))
        case "a path":
            provenance_json = json.loads(provenance.read_bytes())
            provenance_json["bundles"]["../outside.safetensors"] = provenance_json["bundles"][bundle.name]
            (folder.parent / "outside.safetensors").write_bytes(bundle.read_bytes())
            provenance.write_text(json.dumps(provenance_json))
        case "a stranger":
            (folder / "more.txt").write_bytes(b"?")


HOSTILE = "missing|a file|empty|flipped|another study|edited|a table is lacking|a bundle is lacking|a bundle is cut"


@pytest.mark.parametrize("kind", [*HOSTILE.split("|"), "a bundle is none", "a path", "a stranger"])
def test_a_hostile_folder_is_one_error_and_changes_nothing(place, capsys, kind):
    stored(beta=1)
    assert main(["export", NAME]) == 0
    path = place / "theirs"
    assert main(["export", NAME, "--to", str(path)]) == 0
    before = contents(results.folder(NAME))
    spoilt(path, kind)
    capsys.readouterr()
    assert "theirs" in error(capsys, "export", NAME, "--from", str(path))
    assert contents(results.folder(NAME)) == before
    names = {entry.name for entry in place.iterdir()}
    assert names <= {"runs", "results", "here", "theirs", "outside.safetensors"}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["-p", "beta", "1"], ["beta: no such parameter", "did you mean betas?"]),
        (["-p", "hidden", "4"], ["hidden: set by the scale alone"]),
        (["-p", "betas", "[-1, nan]", "-p", "steps", "0"], ["2 problems", "betas", "steps", "at least 1"]),
        (["-p", "betas", "[]"], ["an empty list"]),
        (["-p", "seeds", "1.5"], ["seeds", "whole numbers"]),
        (["-p", "data", "mnits"], ["data", "did you mean mnist?"]),
        (["-p", "split", "<b>"], ["split", "<b>"]),
        (["-p", "device", "cuda:77"], ["CUDA"]),
        (["--scale", "quik"], ["scale", "did you mean quick?"]),
        (["--scale", "published"], ["published"]),
        (["-p", "split", "own"], ["unknown split of tetrominoes", "own"]),
        (["-p", "n_train", "1e9"], ["n_train is a whole number from 1 to 163,839"]),
        (["-p", "data", "mnist"], ["mnist.npz is not there", "python -m vaekit data mnist"]),
    ],
)
def test_what_cannot_be_trained_is_one_error(untrained, place, capsys, given, says):
    message = error(capsys, "train", NAME, *given)
    assert all(word in message for word in says)
    assert not list(place.rglob("*.*"))


@pytest.mark.parametrize(("command", "name"), [("train", "runs"), ("export", "results")])
def test_a_place_that_cannot_be_written_is_one_error(untrained, place, capsys, command, name):
    if command == "export":
        stored()
    (place / name).write_bytes(b"in the way")
    assert str(place / name) in error(capsys, command, NAME)


def test_damage_is_named(place, capsys):
    key = stored()
    default_store().path(key).write_text("{}")
    message = error(capsys, "export", NAME)
    assert key in message
    shutil.rmtree(place / "runs")
    results.write(results.folder(NAME), tables([member()]), {})
    table = results.folder(NAME) / "members.csv"
    table.write_bytes(table.read_bytes().replace(b"0.1", b"0.2"))
    for command in ("train", "export"):
        message = error(capsys, command, NAME)
        assert str(table) in message


@pytest.mark.parametrize("name", ["mnits", "cifar10_jpeg", "../mnist", ""])
def test_data_that_cannot_be_fetched_is_one_error(capsys, name):
    error(capsys, "data", name)


@pytest.mark.parametrize(
    "arguments", [[], ["train"], ["train", "prunning"], ["export", "no such"], ["train", NAME, "--minutes", "soon"]]
)
def test_a_command_that_is_none_is_refused(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: python -m vaekit" in capsys.readouterr().err


def test_every_study_is_a_command():
    folder = Path(studies.__file__).parent
    assert set(studies.NAMES) == {path.parent.name for path in folder.glob("*/__init__.py")}
    for name in studies.NAMES:
        assert studies.study(name).SPEC.name == name


def test_as_a_command_from_any_folder(place):
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "vaekit", "train", NAME, "-p", "seed", "1", "-p", "betas", "-1"]
    done = subprocess.run(command, cwd=place / "here", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: 2 problems:"
    assert [line[:8] for line in lines[1:]] == ["- seed: ", "- betas "]
    assert not (place / "runs").exists()


@pytest.mark.parametrize("command", [["runs", "list"], ["train", NAME, "-p", "steps", "20"]])
def test_output_that_cannot_be_written_is_one_line(place, command):
    if not os.path.exists("/dev/full"):
        pytest.skip("there is no /dev/full here")
    stored()
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT), "OMP_NUM_THREADS": "1"}
    # What is said while it trains is written at once, all else at the end.
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "vaekit", *command]
        done = subprocess.run(command, cwd=place / "here", env=environment, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert done.stderr == b"error: the output cannot be written (No space left on device)\n"


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("trained", [0, 1, 2])
def test_what_trains_nothing_needs_no_store_that_can_be_written(place, capsys, trained):
    assert not trained or main(["train", NAME, *["-p", "betas", "0.1"] * (trained == 1)]) == 0
    root = place / "runs"
    folders = [path for path in (root, *root.rglob("*")) if path.is_dir()] if trained else [place]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o555)
    try:
        assert main(["train", NAME, "--dry-run"]) == 0
        assert f"{trained} members known" in capsys.readouterr().out
        if trained == 2:
            assert main(["train", NAME]) == 0
        else:
            assert f"{root} cannot be written" in error(capsys, "train", NAME)
    finally:
        for folder, mode in modes.items():
            folder.chmod(mode)


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("dry", [["--dry-run"], []])
def test_a_run_to_be_measured_that_may_not_be_read_is_not_planned(untrained, capsys, dry):
    key = default_store().commit(run_of(study.members(study.Settings.at("quick"))[0]))
    default_store().path(key).chmod(0)
    assert f"{key}.safetensors may not be read" in error(capsys, "train", NAME, *dry)
