"""`python -m vaekit runs …`: what people see of a store, and that verify names every damaged file and nothing else."""

import shutil

import pytest
from tiny import member, run_of, tables

from vaekit import results, runs
from vaekit.__main__ import main
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
NAME = study.DESIGN.name
ROWS = [
    {"step": step, "part": "test", "measure": "rate", "arguments": "", "value": step / 3, "se": 0.25, "n": 16}
    for step in (16, 20)
]


@pytest.fixture
def store():
    """Two runs, one of them diverged, with a measure each."""
    store = runs.default_store()
    for run in (run_of(member(0.1), backend="cores"), run_of(member(7), (), "diverged", "loss <inf> at step 3")):
        store.commit_measure(run.member.key, "rate_distortion", 1, ROWS if run.weights else [])
        store.commit(run)
    return store


KEY, DIVERGED = member(0.1).key, member(7).key


def said(capsys, *arguments, status=0):
    assert main(["runs", *arguments]) == status
    return capsys.readouterr()


def error(capsys, *arguments):
    found = said(capsys, *arguments, status=2)
    assert found.err.startswith("error: ")
    assert found.err.count("\n") == 1
    return found.err


def home(store, key):
    return store.root / "runs" / key[:2] / key


# What people see


def test_list_is_a_line_a_run(store, capsys):
    heading, *lines = said(capsys, "list").out.splitlines()
    assert heading.split() == ["key", "study", "status", "backend", "size", "measures", "what"]
    assert [line.split()[0] for line in lines] == sorted([KEY[:12], DIVERGED[:12]])
    (line,) = [line for line in lines if line.startswith(KEY[:12])]
    for word in (NAME, "finished", "cores", "0.22 MB", "rate_distortion-1", "depth 1", "20 steps", "beta 0.1, seed 0"):
        assert word in line
    (line,) = said(capsys, "list", "--diverged").out.splitlines()[1:]
    assert line.startswith(DIVERGED[:12])
    assert len(said(capsys, "list", NAME).out.splitlines()) == 3
    assert len(said(capsys, "list", "pruning").out.splitlines()) == 1


def test_list_names_a_damaged_run_and_shows_the_others(store, capsys):
    (home(store, KEY) / "run.json").write_text("{}")
    found = said(capsys, "list", status=1)
    assert KEY in found.err
    assert KEY[:12] not in found.out
    assert DIVERGED[:12] in found.out


def test_show_tells_all(store, capsys):
    for start in (KEY, KEY[:12], KEY[:2]):
        out = said(capsys, "show", start).out
        assert out.startswith(KEY)
        for line in ("weights.beta: 0.1", "status: finished", "backend: cores", "snapshots: 16, 20"):
            assert line in out
        assert "history.safetensors: 0.00 MB, sha256" in out
        assert "rate_distortion-1: 2 values, at step 20\n  test rate: 6.66667 ± 0.25 (n = 16)\n" in out
        assert "5.33333" not in out
    assert "reason: loss <inf> at step 3" in said(capsys, "show", DIVERGED).out


def test_a_terminal_is_not_commanded(store, capsys):
    other = store.commit(run_of(member(3), hardware="\x1b[2Jboo", backend="\x1b]0;boo\x07"))
    for arguments in (("list",), ("show", other)):
        out = said(capsys, *arguments).out
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
    for arguments in (("list",), ("show", KEY), ("verify",), ("clean", "--yes")):
        assert f"there is no store at {store.root}" in error(capsys, *arguments)
    assert not store.root.exists()


# Verify


def test_all_is_whole(store, capsys):
    results.write(results.folder(NAME), tables([member()]), {})
    assert "2 runs" in said(capsys, "verify").out
    assert "1 runs" in said(capsys, "verify", KEY[:12]).out


def test_verify_names_every_damaged_file_and_no_other(store, capsys):
    measures = store.root / "measures"
    results.write(results.folder(NAME), tables([member()]), {})
    damaged = [
        home(store, KEY) / "weights-16.safetensors",
        home(store, KEY) / "history.safetensors",
        home(store, KEY) / "surplus.txt",
        home(store, DIVERGED) / "run.json",
        measures / KEY[:2] / KEY / "rate_distortion-1.json",
        measures / KEY[:2] / KEY / "notes.json",
        measures / KEY[:2] / KEY / "rate_distortion-2.json",
        store.root / "runs" / "stray",
        store.root / "runs" / KEY[:2] / "stray",
        results.folder(NAME) / "members.csv",
        results.folder(NAME) / "measures.csv",
        results.folder(NAME) / "decoder-000000000000-1.safetensors",
    ]
    for path in damaged:
        content = path.read_bytes() if path.exists() else b"{"
        path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    for folder in (store.root / "runs" / KEY[:2] / "a folder", store.root / "runs" / KEY[:2] / ("0" * 64)):
        folder.mkdir()
        damaged.append(folder)
    gone = home(store, KEY) / "weights-20.safetensors"
    gone.unlink()
    lines = said(capsys, "verify", status=1).err.splitlines()
    for path in (*damaged, gone):
        assert len([line for line in lines if line.startswith(f"damaged: {path} ")]) == 1
    assert len(lines) == len(damaged) + 1
    lines = said(capsys, "verify", DIVERGED, status=1).err.splitlines()
    assert len(lines) == 1


def test_a_measure_without_a_run_is_verified_and_is_no_damage(store, capsys):
    key = member(5).key
    store.commit_measure(key, "rate_distortion", 1, ROWS)
    assert said(capsys, "verify").err == ""
    path = store.root / "measures" / key[:2] / key / "rate_distortion-1.json"
    path.write_bytes(path.read_bytes()[:-9])
    assert str(path) in said(capsys, "verify", status=1).err


def test_a_shelf_that_a_cut_commit_left_is_no_damage(store, capsys):
    (store.root / "runs" / "00").mkdir(exist_ok=True)
    said(capsys, "verify")


def test_results_are_verified_without_a_store(place, capsys):
    path = results.folder(NAME)
    results.write(path, tables([member()]), {})
    (path / "provenance.json").write_text("{}")
    found = said(capsys, "verify", status=2)
    assert f"damaged: {path / 'provenance.json'}" in found.err
    assert "there is no store" in found.err


# Clean


def test_clean_deletes_leftovers_alone_and_only_when_told(store, capsys):
    (store.root / "staging" / "left").mkdir(parents=True)
    (store.root / "staging" / "left" / "weights").write_bytes(bytes(2_000_000))
    (store.root / "staging" / "file").write_bytes(b"x")
    kept = store.quarantine(DIVERGED)
    for arguments in ((), ("--quarantine",)):
        out = said(capsys, "clean", *arguments).out
        assert "2.00 MB" in out
        assert (str(kept) in out) is bool(arguments)
        assert "--yes deletes them" in out
    assert (store.root / "staging" / "left").exists()
    assert "2 leftovers, 2.00 MB: deleted" in said(capsys, "clean", "--yes").out
    assert list((store.root / "staging").iterdir()) == []
    assert kept.exists()
    said(capsys, "clean", "--yes", "--quarantine")
    assert not kept.exists()
    store.verify(KEY)


def test_clean_deletes_a_link_and_not_what_it_points_to(store, place):
    (place / "mine").mkdir()
    (store.root / "staging").mkdir(exist_ok=True)
    (store.root / "staging" / "link").symlink_to(place / "mine")
    assert main(["runs", "clean", "--yes"]) == 0
    assert (place / "mine").is_dir()
    assert not list((store.root / "staging").iterdir())
