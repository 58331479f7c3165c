"""The command line: what it trains and writes, and one message and status 2 for all that can be foreseen."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import member, run_of, tables

from vaekit import results, runs, studies, sweep
from vaekit.__main__ import main
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("tiny_scales")
NAME = study.DESIGN.name


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
    monkeypatch.setattr(sweep, "_train", lambda *args: pytest.fail("trained"))


def error(capsys, *arguments):
    """The one message on stderr of a command that fails with status 2."""
    assert main(list(arguments)) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert "Traceback" not in message
    return message


def stored(**changes):
    """Commit an untrained run of a member of the tiny grid."""
    return runs.default_store().commit(run_of(member(**changes)))


def test_train_then_export_then_show(place, capsys):
    assert main(["train", NAME, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "0 members known" in out
    assert "2 to train: dense_vae depth 1 hidden 4" in out
    assert not (place / "runs").exists()
    assert main(["train", NAME]) == 0
    assert len(list(runs.default_store().keys())) == 2
    assert main(["train", NAME, "-p", "betas", "[0.1, 0.7]", "-p", "seeds", "0"]) == 0
    assert "1 members known" in capsys.readouterr().out
    assert main(["train", NAME]) == 0
    assert "not begun" not in capsys.readouterr().out
    assert main(["export", NAME]) == 0
    assert f"3 members, 210 values: {place / 'results' / NAME}" in capsys.readouterr().out
    before = {file.name: file.read_bytes() for file in (place / "results" / NAME).iterdir()}
    assert main(["export", NAME]) == 0
    assert {file.name: file.read_bytes() for file in (place / "results" / NAME).iterdir()} == before
    shown = study.run(study.Settings.at("published", betas=[0.7]))
    assert set(shown["beta"]) == {0.7}


def test_export_never_removes(place, capsys):
    path = results.folder(NAME)
    results.write(path, tables([member(5)]), {})
    assert main(["export", NAME]) == 0
    stored(beta=6)
    assert main(["export", NAME]) == 0
    found = results.read(path)
    assert found.members.keys() == {member(5).key, member(6).key}
    assert found.measures[member(5).key] == results.read(path).merged(found).measures[member(5).key] != []
    assert "2 members" in capsys.readouterr().out


def test_export_of_nothing_is_an_empty_table(capsys):
    assert main(["export", NAME]) == 0
    assert "0 members, 0 values" in capsys.readouterr().out
    assert results.read(results.folder(NAME)) == results.Tables()


def test_a_stopped_sweep_says_how_to_go_on(monkeypatch, capsys):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "_train", stop)
    assert main(["train", NAME]) == 130
    assert capsys.readouterr().err.startswith("stopped")


def test_no_time_trains_nothing(untrained, capsys):
    assert main(["train", NAME, "--minutes", "1e-9"]) == 0
    assert "not begun, for want of time: 2 members" in capsys.readouterr().out
    for minutes in ("0", "-1", "nan", "inf"):
        assert "wanted a number above 0" in error(capsys, "train", NAME, f"--minutes={minutes}")


def test_export_takes_the_members_that_are_asked_for(place, capsys):
    stored(beta=0.1)
    stored(beta=6)
    assert "give --scale as well" in error(capsys, "export", NAME, "-p", "betas", "6")
    assert main(["export", NAME, "--scale", "quick", "-p", "betas", "0.1"]) == 0
    assert set(results.read(results.folder(NAME)).members) <= {m.key for m in study.members(study.Settings.at("quick"))}


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
        (["-p", "split", "own"], ["unknown split of tetrominoes", "own"]),
        (["-p", "n_train", "1e9"], ["n_train is a whole number from 1 to 163,839"]),
        (["-p", "data", "mnist"], ["mnist.npz is not there", "python -m vaekit data mnist"]),
    ],
)
def test_what_cannot_be_trained_is_one_error(untrained, place, capsys, given, says):
    message = error(capsys, "train", NAME, *given)
    assert all(word in message for word in says)
    assert not list(place.rglob("*.*"))


def test_published_is_never_trained(untrained, capsys):
    message = error(capsys, "train", NAME, "--scale", "published")
    assert "published" in message


def test_a_store_that_cannot_be_written_is_one_error(untrained, place, capsys):
    (place / "runs").write_bytes(b"in the way")
    message = error(capsys, "train", NAME)
    assert str(place / "runs") in message


def test_damage_is_named(place, capsys):
    key = stored()
    (place / "runs" / "runs" / key[:2] / key / "run.json").write_text("{}")
    message = error(capsys, "export", NAME)
    assert key in message
    shutil.rmtree(place / "runs")
    results.write(results.folder(NAME), tables([member()]), {})
    table = results.folder(NAME) / "members.csv"
    table.write_bytes(table.read_bytes().replace(b"0.1", b"0.2"))
    for command in ("train", "export"):
        message = error(capsys, command, NAME)
        assert str(table) in message


def test_results_that_cannot_be_written_are_one_error(place, capsys):
    stored()
    (place / "results").write_bytes(b"in the way")
    message = error(capsys, "export", NAME)
    assert str(place / "results") in message


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
        assert studies.study(name).DESIGN.name == name


def test_as_a_command_from_any_folder(place):
    environment = os.environ | {"PYTHONPATH": str(runs.CHECKOUT), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "vaekit", "train", NAME, "-p", "seed", "1", "-p", "betas", "-1"]
    done = subprocess.run(command, cwd=place / "here", env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: 2 problems:"
    assert [line[:8] for line in lines[1:]] == ["- seed: ", "- betas "]
    assert not (place / "runs").exists()
