"""`python -m vaekit runs …`: what people see of a store, and that verify names every damaged file and nothing else."""

import dataclasses
import os
import re
import shutil
import socket
import subprocess

import numpy as np
import pytest
from tiny import member, run_of, tables

from vaekit import sweep
from vaekit.__main__ import main
from vaekit.fleet import Stopped, cores, progress
from vaekit.provenance import hardware
from vaekit.store import ImageGrid, bundles, checkpoints, default_store, maintenance, results
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
NAME = study.SPEC.name
ROWS = [
    {"step": step, "part": "test", "measure": "rate", "arguments": "", "value": step / 3, "se": 0.25, "n": 16}
    for step in (16, 20)
]


@pytest.fixture
def store():
    """Two runs, one of them diverged, with a measure each."""
    store = default_store()
    for run in (run_of(member(0.1), backend="cores"), run_of(member(7), (), "diverged", "loss <inf> at step 3")):
        store.commit_measure(run.member.key, "rate_distortion", 1, ROWS if run.weights else [])
        store.commit(run)
    return store


KEY, DIVERGED = member(0.1).key, member(7).key


def shown(capsys, *arguments, status=0):
    assert main(["runs", *arguments]) == status
    return capsys.readouterr()


def error(capsys, *arguments):
    output = shown(capsys, *arguments, status=2)
    assert output.err.startswith("error: ")
    assert output.err.count("\n") == 1
    return output.err


@pytest.fixture
def stopped(place, monkeypatch):
    """A store in which two members were stopped on their way, by this very process."""
    store, told = default_store(), []
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(cores, "_LOOK", 0.001)
    how = {"progress": told.append, "say": lambda line: None, "stop": lambda: bool(told and told[-1].step >= 400)}
    with pytest.raises(Stopped):
        sweep.run(study.SPEC, [member(0.1, steps=4_000), member(7, steps=4_000)], store, **how)
    return store


# What people see


def test_status_says_what_trains_where_and_how_far(stopped, capsys, monkeypatch):
    heading, *lines = shown(capsys, "status").out.splitlines()
    assert heading.split() == ["state", "where", "step", "saved", "left", "what"]
    assert len(lines) == 1  # one core: the second had not begun
    (line,) = lines
    assert line.startswith(f"trains  {socket.gethostname()}, process {os.getpid()}  ")
    step = int(re.search(r"([0-9,]+) of 4,000", line)[1].replace(",", ""))
    assert 400 <= step < 4_000
    assert f"({100 * step / 4_000:.0f} %)" in line
    assert "dense_vae depth 1" in line
    assert line.endswith("beta 0.1, seed 0")
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_began", lambda pid: 0)  # another process has its number by now
        assert shown(capsys, "status").out.splitlines()[1].startswith("stopped  ")
    with monkeypatch.context() as patch:
        patch.setattr(socket, "gethostname", lambda: "elsewhere")
        assert shown(capsys, "status").out.splitlines()[1].startswith("not known  ")
    sweep.run(study.SPEC, [member(0.1, steps=4_000)], stopped, progress=False, say=lambda line: None)
    assert "nothing trains into" in shown(capsys, "status").out


def test_a_run_without_weights_of_its_objective_is_listed_by_its_seed_alone(store, capsys):
    store.commit(run_of(dataclasses.replace(member(0.1, seed=3), weights=(), objective="cross_entropy")))
    assert any(line.endswith(", full; seed 3") for line in shown(capsys, "list").out.splitlines())


def test_status_knows_a_training_from_its_first_step_and_counts_its_measures(stopped, capsys, monkeypatch):
    """The seconds of measures are those of finished runs on this machine."""

    def left():
        line = shown(capsys, "status").out.splitlines()[1]
        return re.search(r"ago  (.*?)  ", line)[1]

    shutil.rmtree(stopped.root / "work")
    seen, one = [], member(0.1, steps=4_000)

    def look(now):
        if not seen and any(stopped.root.glob("work/*/[0-9]*")):  # a step is told before its state is on the disk
            seen.append(left())

    def stop():
        return bool(seen)

    monkeypatch.setattr(progress, "EVERY", 0.0)
    with pytest.raises(Stopped):
        sweep.run(study.SPEC, [one], stopped, progress=look, say=lambda line: None, stop=stop)
    assert seen == ["not known yet"]
    monkeypatch.setattr(maintenance, "_TOLD", 0.0)
    assert left().endswith(" and its measures")
    like = run_of(
        member(5, steps=4_000),
        hardware=hardware("cpu"),
        backend="cores",
        fleet=1,
        wall_time=60.0,
        measure_seconds={"rate": 7_200.0},
    )
    stopped.commit(like)
    assert left() == "2 hours"


def test_status_passes_over_what_is_damaged(stopped, capsys):
    for path in stopped.root.glob("work/*/[0-9]*"):
        path.write_bytes(b"{}")
    assert "nothing trains into" in shown(capsys, "status").out


def test_a_process_that_ended_does_not_run():
    ended = subprocess.Popen(["true"])
    ended.wait()
    host = socket.gethostname()
    assert checkpoints._runs(host, os.getpid(), checkpoints._began(os.getpid()))
    assert checkpoints._runs(host, os.getpid(), None)
    for began in (None, 1):
        assert not checkpoints._runs(host, ended.pid, began)
    assert not checkpoints._runs(host, 10**30, None)
    assert not checkpoints._runs(host, -1, None)
    assert checkpoints._runs("elsewhere", os.getpid(), None) is None


def test_list_is_a_line_a_run(store, capsys):
    heading, *lines = shown(capsys, "list").out.splitlines()
    assert heading.split() == ["key", "study", "status", "backend", "size", "measures", "what"]
    assert [line.split()[0] for line in lines] == sorted([KEY[:12], DIVERGED[:12]])
    (line,) = [line for line in lines if line.startswith(KEY[:12])]
    for word in (NAME, "finished", "cores", "0.22 MB", "rate_distortion-1", "depth 1", "20 steps", "beta 0.1, seed 0"):
        assert word in line
    (line,) = shown(capsys, "list", "--diverged").out.splitlines()[1:]
    assert line.startswith(DIVERGED[:12])
    assert len(shown(capsys, "list", NAME).out.splitlines()) == 3
    assert len(shown(capsys, "list", "pruning").out.splitlines()) == 1


def test_list_names_a_damaged_run_and_shows_the_others(store, capsys):
    store.path(KEY).write_text("{}")
    output = shown(capsys, "list", status=1)
    assert KEY in output.err
    assert KEY[:12] not in output.out
    assert DIVERGED[:12] in output.out


def test_show_tells_all(store, capsys):
    for start in (KEY, KEY[:12], KEY[:2]):
        out = shown(capsys, "show", start).out
        assert out.startswith(KEY)
        for line in ("weights.beta: 0.1", "status: finished", "backend: cores", "snapshots: 16, 20"):
            assert line in out
        assert f"file: {store.path(KEY)}, 0.22 MB" in out
        assert "rate_distortion-1: 2 values, at step 20\n  test rate: 6.66667 ± 0.25 (n = 16)\n" in out
        assert "5.33333" not in out
    assert "reason: loss <inf> at step 3" in shown(capsys, "show", DIVERGED).out


def test_a_terminal_is_not_commanded(store, capsys):
    other = store.commit(run_of(member(3), hardware="\x1b[2Jboo", backend="\x1b]0;boo\x07"))
    for arguments in (("list",), ("show", other)):
        out = shown(capsys, *arguments).out
        assert "boo" in out
        assert not {"\x1b", "\x07"} & set(out)


def test_what_is_not_there_is_one_error(store, capsys):
    assert "no run" in error(capsys, "show", "0123456789ab")
    assert "no start of a key" in error(capsys, "show", "../../x")
    assert "no start of a key" in error(capsys, "verify", "")
    first = KEY[0]
    alike = next(m for m in (member(seed=seed) for seed in range(1, 999)) if m.key[0] == first)
    store.commit(run_of(alike))
    assert "give more digits" in error(capsys, "show", first)
    shutil.rmtree(store.root)
    for arguments in (("list",), ("show", KEY), ("verify", KEY), ("clean", "--yes")):
        assert f"there is no store at {store.root}" in error(capsys, *arguments)
    assert not store.root.exists()


# Verify


def test_all_is_whole(store, capsys):
    results.write(results.folder(NAME), tables([member()]), {})
    assert "2 runs" in shown(capsys, "verify").out
    assert "1 runs" in shown(capsys, "verify", KEY[:12]).out


def test_verify_names_what_does_not_belong_and_what_is_lacking(store, capsys):
    """What is damaged is named by a test of each kind of file, see test_stored_files.py."""
    measures = store.root / "measures"
    grid = ImageGrid(KEY, 20, 1, ("a",), np.zeros((1, 1, 2, 2, 1), np.uint8))
    bundle = bundles.of_run(store.record(KEY), 20)
    bundle.grid = grid
    results.write(results.folder(NAME), tables([member()]), {}, {bundle.name: bundle.pack()})
    surplus = [
        store.root / "runs" / "stray",
        store.root / "runs" / "0123.safetensors",
        measures / "stray",
        measures / KEY / "notes.json",
        measures / KEY / "rate_distortion-2.json",
        store.root / "work" / "a track",
        store.root / "work" / ("0" * 64) / "stray",
        store.root / "stray",
        results.folder(NAME) / "stray",
        results.folder(NAME) / "000000000000-1.safetensors",
        results.folder("classifiers") / "stray",
    ]
    for path in surplus:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"{")
    (store.root / "runs" / "a folder").mkdir()
    lacking = results.folder(NAME) / bundle.name
    lacking.unlink()
    named = [*surplus, store.root / "runs" / "a folder", lacking]
    lines = shown(capsys, "verify", status=1).err.splitlines()
    damaged = {lacking, measures / KEY / "rate_distortion-2.json"}
    for path in named:
        kind = "damaged" if path in damaged or results.root() in path.parents else "surplus"
        assert len([line for line in lines if line.startswith(f"{kind}: {path} ")]) == 1, path
        assert kind == "damaged" or f"{path} is not the store's: it is no" in "\n".join(lines)
    assert len(lines) == len(named)
    (store.root / "work" / ("0" * 64) / ".being-written").write_bytes(b"")
    lines = shown(capsys, "verify", DIVERGED).err
    assert lines == ""


def test_hidden_files_are_nobody_s_damage(store, capsys):
    track = store.root / "work" / ("0" * 64)
    shelves = [
        store.root / name for name in ("", "runs", "measures", f"measures/{KEY}", "work", "staging", "quarantine")
    ]
    for folder in (*shelves, track, results.folder(NAME), results.folder("classifiers"), store.root / "classifiers"):
        folder.mkdir(exist_ok=True, parents=True)
        (folder / ".DS_Store").write_bytes(b"?")
    shown(capsys, "verify")


def test_a_measure_without_a_run_is_verified_and_is_no_damage(store, capsys):
    key = member(5).key
    store.commit_measure(key, "rate_distortion", 1, ROWS)
    assert shown(capsys, "verify").err == ""
    path = store.root / "measures" / key / "rate_distortion-1.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert str(path) in shown(capsys, "verify", status=1).err


def test_results_are_verified_without_a_store(place, capsys):
    path = results.folder(NAME)
    results.write(path, tables([member()]), {})
    (path / "provenance.json").write_text("{}")
    output = shown(capsys, "verify", status=1)
    assert f"damaged: {path / 'provenance.json'}" in output.err
    assert "there is no store" in output.out


# Clean


def test_clean_deletes_leftovers_alone_and_only_when_told(store, capsys):
    left = store.root / "staging" / ".left.01234567"
    left.write_bytes(bytes(2_000_000))
    (store.root / "staging" / ".file.01234567").write_bytes(b"x")
    kept = store.quarantine(store.path(DIVERGED))
    for arguments in ((), ("--quarantine",)):
        out = shown(capsys, "clean", *arguments).out
        assert "2.00 MB" in out
        assert (str(kept) in out) is bool(arguments)
        assert "--yes deletes them" in out
    assert left.exists()
    assert "2 leftovers, 2.00 MB: deleted" in shown(capsys, "clean", "--yes").out
    assert list((store.root / "staging").iterdir()) == []
    assert kept.exists()
    shown(capsys, "clean", "--yes", "--quarantine")
    assert not kept.exists()
    store.verify(KEY)


def test_clean_deletes_a_link_and_not_what_it_points_to(store, place):
    (place / "mine").mkdir()
    (store.root / "staging").mkdir(exist_ok=True)
    (store.root / "staging" / ".link.01234567").symlink_to(place / "mine")
    assert main(["runs", "clean", "--yes"]) == 0
    assert (place / "mine").is_dir()
    assert not list((store.root / "staging").iterdir())
