"""What the store and the sweep promise when the world goes wrong: each test keeps a row of book/promises.md.

Processes are really killed, disks are really full. There are no locks anywhere in vaekit, so nothing rests on one.
"""

import errno
import functools
import itertools
import os
import resource
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
import torch
from tiny import member, notebook, run_of, tables

from vaekit import data, provenance, sweep
from vaekit.__main__ import main
from vaekit.store import Store, StoreError, files, load, results
from vaekit.store.checkpoints import Checkpoints
from vaekit.studies import rate_generalisation as study
from vaekit.sweep import Measure, StudySpec, Value, plan, train

AT_ONCE = 4  # children side by side: they wait for the disk more than they compute

# What the children do: each of these functions runs in a process of its own ------------------------------------------


def weight(model, member, step, images):
    """The sum of all weights."""
    total = sum(p.double().abs().sum().item() for p in model.parameters())
    yield Value("test", "weight", "", total, 0.0, len(images.test))


SPEC = StudySpec("probes", (Measure("probe", 1, weight),), lambda m: (1, m.steps), lambda m: (m.steps,))


def members(count=2, steps=2):
    return [member(beta, steps=steps) for beta in range(1, count + 1)]


def warm():
    """Images that every child needs."""
    torch.set_num_threads(1)
    data.load = functools.cache(data.load)
    one = members()[0]
    sweep.examples_of(one)


def swept(root, backend="cores", count=2, steps=2):
    """Run a sweep on a store, with a state kept at each step of a stack and at the end of a member."""
    torch.set_num_threads(1)
    os.environ["VAEKIT_RESULTS"] = os.path.join(root, "no results")
    plan.seconds_per_step = lambda member, device: 0.01
    provenance.commit = lambda: None
    plan.default_backend = train.default_backend = lambda device: backend
    Checkpoints.due = lambda self: backend == "stack" or steps > 2
    sweep.run(SPEC, members(count, steps), Store(root), progress=False, say=lambda line: None)


def at_each_call(act):
    """Have `act(number, operation)` called before every operation that changes the disk; returns their names."""
    calls = []

    def seam(operation, path):
        calls.append(operation)
        act(len(calls), operation)

    files.seam = seam
    return calls


def killed_at(root, nth, backend):
    """Run the sweep, and be killed at the nth operation; returns all of them if they are fewer."""
    calls = at_each_call(lambda number, _: number == nth and os.kill(os.getpid(), signal.SIGKILL))
    swept(root, backend)
    return calls


def refused_at_every(begun, folder, first, every, backend):
    """Go on with a sweep on a disk that is full at operation `first`, then at every so manieth; returns how many."""
    for nth in itertools.count(first, every):
        root = os.path.join(folder, str(nth))
        shutil.copytree(begun, root)

        asked = []  # a full disk refuses all but to delete

        def full(_, operation, nth=nth, asked=asked):
            asked += [operation] * (operation != "unlink")
            if len(asked) == nth and operation != "unlink":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        at_each_call(full)
        said = ""
        try:
            swept(root, backend)
        except StoreError as error:
            said = str(error)
        if len(asked) < nth:
            return nth
        assert "No space left" in said, nth
        assert root in said, nth
        assert hashes(begun).items() <= hashes(root).items(), nth
        assert not leftovers(root), nth
        at_each_call(lambda *_: None)
        swept(root, backend)
        assert len(hashes(root)) == 2, nth
        assert not leftovers(root), nth
        shutil.rmtree(root)


def exported(root, nth=0):
    """Write results in place of others, and be killed at the nth operation; returns how many there are."""
    calls = at_each_call(lambda number, _: number == nth and os.kill(os.getpid(), signal.SIGKILL))
    results.write(Path(root), tables(members()), {})
    return len(calls)


def killed_in_training(root):
    """Be killed when a state was kept, in the middle of the training."""
    real = Checkpoints.save

    def save(self, state):
        real(self, state)
        if int(state.tensors["step"]) >= 20:
            os.kill(os.getpid(), signal.SIGKILL)

    Checkpoints.save = save
    swept_at_length(root)


def swept_at_length(root):
    """A longer training, its state kept at short intervals; returns how many steps it took."""
    steps, real = [], plan.OBJECTIVES["beta"]

    def counted(params, images, *rest):
        steps.append(len(images))
        return real(params, images, *rest)

    plan.OBJECTIVES["beta"] = counted
    swept(root, "cores", 1, 400)
    return sum(size > 2 for size in steps)  # the check of a forward pass has two images


def commanded(root, **changes):
    """`python -m vaekit train` of one member; returns its status."""
    tiny = study.Settings.SCALES["quick"] | {"depths": (1,), "n_train": (32,), "hidden": 4}
    tiny |= {"batch_size": 8, "n_test": 16} | changes
    study.Settings.SCALES = dict.fromkeys(study.Settings.SCALES, tiny)
    os.environ |= {"VAEKIT_RUNS": root, "VAEKIT_RESULTS": os.path.join(root, "no results")}
    plan.seconds_per_step = lambda member, device: 0.01
    return main(["train", study.SPEC.name])


def told(root, signals):
    """A command that gets a signal between two steps, and another one as the last state is being saved."""
    torch.set_num_threads(1)
    real = Checkpoints.save

    def due(self):
        if len(steps) == 1:
            signal.pthread_kill(threading.main_thread().ident, signals[0])
        return bool(steps.append(1))

    def save(self, state):
        for number in signals[1:]:
            signal.raise_signal(number)
        real(self, state)

    steps: list[int] = []
    Checkpoints.due, Checkpoints.save = due, save
    raise SystemExit(commanded(root, betas=(0.1,), steps=100_000))


def limited(root, size):
    """Run the sweep where no file may be longer than `size` bytes; returns what it said."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    return refusal(root)


def refusal(root):
    """What a sweep said that a store refused."""
    try:
        swept(root)
    except StoreError as error:
        return str(error)
    raise AssertionError("nothing was refused")


def refused_before_training(root):
    """A store that cannot be written: what is there can be read, and nothing is trained. Returns what was said."""
    swept(root, count=1)  # all of it is there
    assert len(hashes(root)) == 1
    load(members()[0].key, store=Store(root))
    train.train_fleet = None
    return refusal(root)


# What a store must be like afterwards --------------------------------------------------------------------------------


def hashes(root):
    """The hashes of what each run holds, after each was verified: a run is whole, or absent."""
    store = Store(root)
    for key in store.keys():
        store.verify(key)
        assert store.measure(key, "probe", 1) is not None
    return {key: files.Pack(store.path(key)).groups for key in store.keys()}


def leftovers(root):
    """Files of a store that are no part of it: of staging, of quarantine, and those with a name for the time being."""
    paths = [path.relative_to(root) for path in Path(root).rglob("*") if path.is_file()]
    return [path for path in paths if path.parts[0] not in ("runs", "measures", "work") or path.name.startswith(".")]


@pytest.fixture(scope="module")
def whole(forks, tmp_path_factory):
    """What an uninterrupted sweep stores: hashes by key."""
    root = str(tmp_path_factory.mktemp("whole"))
    forks.run(swept, root).result()
    assert len(hashes(root)) == 2
    return hashes(root)


@pytest.fixture(scope="module")
def begun(forks, tmp_path_factory):
    """A store where the first of two members is there."""
    root = str(tmp_path_factory.mktemp("begun"))
    forks.run(swept, root, "cores", 1).result()
    return root


@pytest.fixture
def small_disk(tmp_path):
    """A function that mounts a disk of so many kilobytes, or changes what it is; skips where that is not allowed."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = []

    def mount(options):
        command = ["mount", "-t", "tmpfs", "-o", ",".join([*["remount"] * bool(mounted), options]), "none", folder]
        if not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("this process may not mount a disk")
        mounted.append(folder)
        return str(folder)

    yield mount
    if mounted:
        subprocess.run(["umount", folder], check=True)


# kill -9 -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_kill_9_at_every_operation_leaves_members_whole_or_absent(forks, begun, whole, tmp_path, backend):
    """Of checkpoints, measures and runs alike; and what is trained again has the same bits."""
    for nth in itertools.count(1, AT_ONCE):
        numbers = range(nth, nth + AT_ONCE)
        roots = {n: shutil.copytree(begun, str(tmp_path / str(n))) for n in numbers}
        killed = forks.at_once([(killed_at, root, n, backend) for n, root in roots.items()])
        assert all(hashes(begun).items() <= hashes(root).items() for root in roots.values()), nth
        assert {end.status for end in killed} <= {0, -signal.SIGKILL}
        again = forks.at_once([(swept, root, backend) for root in roots.values()])
        for (n, root), end in zip(roots.items(), again, strict=True):
            end.result()
            assert hashes(root).keys() == whole.keys(), n
            assert backend == "stack" or hashes(root) == whole, n
            assert not leftovers(root), n
            shutil.rmtree(root)
        if killed[-1].status == 0:
            break
    assert nth > 40
    assert {"mkdir", "open", "write", "write on", "fsync", "link", "rename", "unlink"} == set(killed[-1].value)


def test_kill_9_in_an_export_is_harmless_or_reported_and_leaves_no_file(forks, tmp_path):
    before, after, reported = tables(members(1)), tables(members()), 0
    for nth in itertools.count(1):
        root = tmp_path / str(nth)
        results.write(root, before, {})
        killed = forks.run(exported, str(root), nth)
        if killed.status == 0:
            break
        try:
            there = results.read(root).members.keys()
        except StoreError:  # cut between two of three renames
            reported += 1
        else:
            assert there in (before.members.keys(), after.members.keys())
        forks.run(exported, str(root)).result()
        assert results.read(root).members.keys() == after.members.keys()
        assert len(list(root.iterdir())) == 3
    assert 0 < reported < nth - 1 == killed.value


def test_kill_9_in_training_goes_on_from_the_newest_state_to_the_same_bits(forks, tmp_path):
    roots = [str(tmp_path / name) for name in ("killed", "whole")]
    assert forks.run(killed_in_training, roots[0]).status == -signal.SIGKILL
    assert not hashes(roots[0])
    again, steps = (forks.run(swept_at_length, root).result() for root in roots)
    assert steps == 400
    assert again <= 380
    assert hashes(roots[0]) == hashes(roots[1])
    assert not leftovers(roots[0])


def test_staging_may_be_cleared_at_any_time(tmp_path, monkeypatch):
    """As every sweep that begins does: a commit that is under way starts again."""
    run, key = run_of(member()), member().key
    for nth in itertools.count(1):
        store = Store(tmp_path / str(nth))
        calls = []

        def seam(operation, path, store=store, nth=nth, calls=calls):
            calls.append(operation)
            if len(calls) == nth:
                Store(store.root).clear_staging()

        with monkeypatch.context() as patch:
            patch.setattr(files, "seam", seam)
            store.commit(run)
            store.commit_measure(key, "probe", 1, [])
        store.verify(key)
        assert store.measure(key, "probe", 1) == []
        assert not leftovers(store.root)
        if len(calls) < nth:
            break
    assert nth > 20


# Disks ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_a_disk_that_is_full_at_any_operation_costs_nothing_that_was_stored(forks, begun, tmp_path, backend):
    firsts = range(1, AT_ONCE + 1)
    calls = [(refused_at_every, begun, str(tmp_path), n, AT_ONCE, backend) for n in firsts]
    assert min(end.result() for end in forks.at_once(calls, seconds=200)) > 30


def test_a_disk_that_is_really_full_is_one_error_and_the_sweep_goes_on_when_there_is_room(forks, whole, small_disk):
    root = small_disk("size=1000k")
    said = forks.run(refusal, root).result()
    assert root in said
    assert "No space left" in said
    assert " MB are free" in said
    assert len(hashes(root)) == 1
    small_disk("size=9m")
    forks.run(swept, root).result()
    assert hashes(root) == whole
    assert not leftovers(root)


def test_a_file_that_may_not_grow_is_one_error_and_the_sweep_goes_on_when_it_may(forks, whole, tmp_path):
    """What a full disk is where nobody may mount one: a limit on the size of files."""
    root = str(tmp_path / "store")
    forks.run(swept, root, "cores", 1).result()
    said = forks.run(limited, root, 20_000).result()
    assert root in said
    assert "File too large: it takes 0." in said
    assert hashes(root).items() < whole.items()
    forks.run(swept, root).result()
    assert hashes(root) == whole
    assert not leftovers(root)


def test_a_read_only_store_can_be_read_and_refuses_before_training(forks, small_disk):
    root = small_disk("size=9m")
    forks.run(swept, root, "cores", 1).result()
    small_disk("ro")
    said = forks.run(refused_before_training, root).result()
    assert f"the store {root} cannot be written (Read-only file system)" in said


@pytest.mark.slow
def test_a_disk_that_fills_while_papermill_writes_costs_the_page_alone(tmp_path, monkeypatch):
    """The notebook that is being written is lost; its members are stored, and run again it trains nothing."""
    import nbformat
    import papermill.iorw  # here, where no child needs it

    root, out = tmp_path / "store", tmp_path / "out.ipynb"
    train = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nimport test_faults\n"
    cells = [
        nbformat.v4.new_code_cell(f"root = {str(root)!r}", metadata={"tags": ["parameters"]}),
        train + "test_faults.swept(root, count=1)\nlen(test_faults.hashes(root))",
    ]
    notebook(tmp_path / "in.ipynb", *cells)
    real = papermill.iorw.LocalHandler.write

    def full(self, content, path):
        if list(Store(root).keys()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
        real(self, content, path)

    with monkeypatch.context() as patch:
        patch.setattr(papermill.iorw.LocalHandler, "write", full)
        with pytest.raises(OSError, match="No space left"):
            papermill.execute_notebook(tmp_path / "in.ipynb", out, progress_bar=False)
    there = hashes(root)
    assert len(there) == 1
    record = Store(root).record(*there)
    done = papermill.execute_notebook(tmp_path / "in.ipynb", out, progress_bar=False)
    assert done.cells[-1].outputs[0].data["text/plain"] == "1"
    assert Store(root).record(*there) == record  # its wall time included: it was not trained again
    assert not leftovers(root)


# Bits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_flipped_bit_at_two_hundred_places_is_found(tmp_path):
    """Of a run; the test of all kinds of stored files takes twenty-four of each."""
    store = Store(tmp_path)
    key = store.commit(run_of(member()))
    path = store.path(key)
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    places = {*range(0, header, header // 100), *range(header, len(good), (len(good) - header) // 100)}
    for place in sorted(places):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1 << place % 8]) + good[place + 1 :])
        with pytest.raises(StoreError, match=key):
            store.verify(key)
    path.write_bytes(good)
    store.verify(key)


# Processes, divergence, signals --------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_processes_on_the_same_sweep_commit_each_member_once(forks, whole, tmp_path, count):
    root = str(tmp_path / "store")
    for end in forks.at_once([(swept, root)] * count, seconds=200):
        end.result()
    assert hashes(root) == whole
    assert not leftovers(root)
    assert not (Path(root) / "quarantine").exists()


def all_diverge(root):
    """A command whose members all diverge, twice."""
    first = commanded(root, betas=(1e300,), steps=20)
    sweep.train_fleet = None  # it is known now
    return [first, commanded(root, betas=(1e300,), steps=20)]


def test_members_that_all_diverge_are_recorded_and_known_when_asked_for_again(forks, tmp_path):
    root = str(tmp_path / "store")
    assert forks.run(all_diverge, root).result() == [1, 0]
    store = Store(root)
    (key,) = store.keys()
    assert store.record(key)["status"] == "diverged"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_a_sweep_with_its_state_kept_and_a_second_one_at_once(forks, tmp_path, number, times):
    root = str(tmp_path / "store")
    end = forks.run(told, root, [int(number)] * times)
    assert end.status == 128 + number, end.error
    states = [path for path in Path(root).glob("work/*/*") if path.name[0].isdigit()]
    assert bool(states) == (times == 1)
    assert not leftovers(root)
