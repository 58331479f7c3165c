"""Sweeps on a Dask cluster: the bits of one machine, whatever becomes of workers, scheduler and client.

The cluster is a real one of two processes, and what is said to be killed is killed.
"""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import clustered
import distributed
import pytest
import torch
from tiny import member, settings

from vaekit import sweep
from vaekit.__main__ import main
from vaekit.fleet import Stopped
from vaekit.settings import SettingsError
from vaekit.store import Store, checkpoints
from vaekit.studies import rate_generalisation as study
from vaekit.sweep import Plan, cluster, hosts

pytestmark = pytest.mark.usefixtures("place")
SPEC = "clustered:SPEC"
LONG = 800  # steps that take seconds
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def address():
    """The address of a cluster of two processes, as `--cluster local --insecure` starts it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    with hosts.opened("local", "cpu", insecure=True) as here:
        here.client.wait_for_workers(2, 60)
        torch.set_num_threads(threads)
        yield here.client.scheduler.address


def run(members, store, address, lines=None, **how):
    say = (lambda line: None) if lines is None else lines.append
    return cluster.run(SPEC, members, store, address, progress=how.pop("progress", False), say=say, **how)


def alone(members, root) -> Store:
    """A store of the same members, trained by one process."""
    store = Store(root)
    sweep.run(clustered.SPEC, members, store, progress=False, say=lambda line: None)
    return store


def assert_same_bits(members, one, other):
    assert {*one.keys()} == {*other.keys()} == {member.key for member in members}
    for key in one.keys():
        assert one.measure(key, "probe", 1) == other.measure(key, "probe", 1)
        assert one.steps(key) == other.steps(key)
        for step in one.steps(key):
            weights, others = one.weights(key, step), other.weights(key, step)
            assert weights.keys() == others.keys()
            assert all(torch.equal(value, others[name]) for name, value in weights.items())


def trainings(store, seconds=30, count=1):
    """What trains, once so many have a checkpoint."""
    end = time.monotonic() + seconds
    while len(found := [one for one in checkpoints.trainings(store) if one.step]) < count:
        assert time.monotonic() < end, "nothing has trained"
        time.sleep(0.05)
    return found


@contextmanager
def aside(act, *arguments):
    """`act` in a thread; its error is raised here."""
    errors = []

    def caught():
        try:
            act(*arguments)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=caught)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def test_the_same_members_have_the_same_bits_and_children_follow_their_parents(store, address, place):
    parents = clustered.members(1, 2)
    children = [dataclasses.replace(member(3), parent=parent.key) for parent in parents]
    told = []
    plan = run([*children, *parents], store, address, progress=told.append)
    assert len(plan.missing) == 4
    assert_same_bits([*parents, *children], store, alone([*children, *parents], place / "alone"))
    assert told
    assert {now.members for now in told} == {4}
    assert not list((store.root / "staging").iterdir())


def test_what_is_known_never_reaches_the_cluster(store, address, place):
    alone(clustered.members(1), store.root)
    record = store.record(clustered.members(1)[0].key)
    told = []
    assert run(clustered.members(1, 2), store, address, progress=told.append).missing == clustered.members(2)
    assert {now.members for now in told} == {1}
    assert store.record(clustered.members(1)[0].key) == record
    run(clustered.members(1, 2), store, "tcp://127.0.0.1:9")  # where no scheduler is


def test_members_that_lack_a_measure_are_measured_there(store, address):
    alone(clustered.members(1, 2, 3), store.root)
    for path in store.root.glob("measures/*/*"):
        path.unlink()
    assert len(run(clustered.members(1, 2, 3), store, address).unmeasured) == 3
    assert all(store.measure(member.key, "probe", 1) for member in clustered.members(1, 2, 3))


def test_kill_9_of_a_worker_in_training_leaves_the_same_bits(store, address, place):
    members, killed, told = clustered.members(1, 2, 3, steps=4 * LONG), [], []

    def kill():
        killed.append(trainings(store)[0])
        os.kill(killed[0].pid, signal.SIGKILL)
        killed.append(len(told))

    with aside(kill):
        run(members, store, address, progress=told.append)
    one, before = killed
    assert 0 < one.step < one.first.steps
    steps = [new.step for now in told[before + 1 :] for new in now.newest if new.member == one.first]
    assert steps, "nothing was told of the member that went on"
    assert min(steps) >= one.step
    assert_same_bits(members, store, alone(members, place / "alone"))


def test_a_job_that_kills_its_process_is_named_after_some_attempts_and_others_finish(store, address):
    lines, good = [], clustered.members(1, 2, 3)
    clustered.deaths(os.getpid()).unlink(missing_ok=True)
    with pytest.raises(cluster.JobsFailed) as failed:
        run([*clustered.members(clustered.POISON, clustered.BUG), *good], store, address, lines)
    assert {*store.keys()} == {member.key for member in good}
    message = str(failed.value)
    assert "2 jobs failed" in message
    assert "beta 666, seed 0" in message
    assert "its process died each time; last heard: " in message
    assert "beta 667" in message
    assert "RuntimeError: no such measure today" in message
    assert failed.value.status == 1
    assert len([line for line in lines if line.startswith("failed: ")]) == 2
    # The first time it got further, for it was trained; then the attempts count.
    assert clustered.deaths(os.getpid()).read_text().count("died") == 1 + cluster.ATTEMPTS


def test_of_a_job_of_several_members_the_one_that_fails_is_named(store):
    good = clustered.members(1, 2, 3)
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=None) as started,
        pytest.raises(
            cluster.JobsFailed, match=r"1 jobs failed; (.|\n)*beta 667, seed 0 \(\w+\): RuntimeError: no such"
        ),
    ):
        run([*clustered.members(clustered.BUG), *good], store, started.scheduler_address)
    assert {*store.keys()} == {member.key for member in good}


def test_a_worker_that_an_error_spoiled_is_started_anew(store, address):
    lines = []
    clustered.spoiled(os.getpid()).unlink(missing_ok=True)
    run(clustered.members(clustered.SPOIL), store, address, lines)
    run(clustered.members(1, 2, 3), store, address, lines)
    assert len(list(store.keys())) == 4
    assert not [line for line in lines if line.startswith(("failed", "not used"))]
    with distributed.Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, 60)
        pids = client.run(os.getpid)
    assert int(clustered.spoiled(os.getpid()).read_text()) not in pids.values()


@pytest.mark.parametrize("how", ["stop", "minutes"])
def test_a_sweep_that_is_stopped_keeps_its_checkpoints_and_goes_on(store, address, place, how):
    members, lines = clustered.members(1, 2, 3, steps=LONG), []
    if how == "stop":
        with pytest.raises(Stopped, match="kept"):
            run(members, store, address, stop=lambda: any(one.step for one in checkpoints.trainings(store)))
    else:
        run(members, store, address, lines, minutes=0.03)
        assert any("the minutes are over" in line for line in lines)
    assert trainings(store)
    assert len(list(store.keys())) < 3
    run(members, store, address)
    assert_same_bits(members, store, alone(members, place / "alone"))


def test_a_store_that_workers_do_not_see_is_one_error(tmp_path, address):
    folder = os.open(tmp_path, os.O_DIRECTORY)
    try:
        with pytest.raises(cluster.ClusterError, match=r"tcp://127.0.0.1:\d+: .+ does not see the store") as error:
            run(clustered.members(1), Store(f"/proc/self/fd/{folder}/mine"), address)
    finally:
        os.close(folder)
    assert str(error.value).count("does not see the store") == 2


def test_a_study_that_workers_cannot_import_is_one_error(store, address, monkeypatch):
    monkeypatch.setattr(cluster, "spec_of", lambda job: clustered.SPEC)
    with pytest.raises(cluster.ClusterError, match="No module named 'nowhere'"):
        cluster.run("nowhere:SPEC", clustered.members(1), store, address, progress=False, say=lambda line: None)


def test_other_commands_that_clear_the_stores_staging_disturb_no_job(store, address):
    def clear():
        end = time.monotonic() + 4
        while time.monotonic() < end:
            store.clear_staging()
            time.sleep(0.1)

    members = clustered.members(*range(1, 9))
    with aside(clear):
        run(members, store, address)
    assert {*store.keys()} == {member.key for member in members}


def test_a_worker_that_does_not_answer_does_not_hold_up_who_stops(store, address, monkeypatch):
    monkeypatch.setattr(cluster, "_SILENT", 3.0)
    frozen = []

    def stop():
        if not frozen and (begun := [one for one in checkpoints.trainings(store) if one.step]):
            frozen.append(begun[0].pid)
            os.kill(begun[0].pid, signal.SIGSTOP)
        return bool(frozen)

    try:
        begun = time.monotonic()
        with pytest.raises(Stopped, match="kept"):
            run(clustered.members(1, steps=100 * LONG), store, address, stop=stop)
        assert time.monotonic() - begun < 60
    finally:
        os.kill(frozen[0], signal.SIGCONT)


def test_children_of_a_parent_that_failed_are_counted(store, address):
    parent = clustered.members(clustered.BUG)[0]
    child = dataclasses.replace(member(3), parent=parent.key)
    with pytest.raises(cluster.JobsFailed, match="1 jobs failed; 1 members wait for parents that are not there"):
        run([parent, child], store, address)


def test_what_is_stored_of_a_job_that_is_tried_again_counts_once():
    members = clustered.members(1, 2, 3, 4)
    overview = cluster.Overview(Plan(groups=[members]), None)
    overview.begins(1, members)
    overview.ends(1, [one.key for one in members[:2]])
    overview.begins(2, members)
    overview.heard[2] = {"share": 0.5}
    assert overview.share == 0.75


def test_a_command_trains_on_a_cluster(place, address, capsys):
    given = ["-p", "betas", "[1]", "-p", "depths", "[1]", "-p", "steps", "20", "-p", "n_train", "32"]
    command = ["train", "rate_generalisation", *given, "-p", "data", "tetrominoes"]
    assert main([*command, "--cluster", address, "--dry-run"]) == 0
    assert "1 jobs for 2 workers" in capsys.readouterr().out
    assert main([*command, "--cluster", address]) == 0
    out = capsys.readouterr().out
    assert f"the cluster {address}" in out
    assert "1 members were trained" in out
    assert main([*command, "-p", "cluster", address]) == 0
    assert "0 members were trained" in capsys.readouterr().out


def test_a_notebook_trains_on_a_cluster(place, address, monkeypatch):
    monkeypatch.setattr(sweep, "run", None)
    table = study.run(settings(cluster=address, betas=[1]))
    assert table["key"].nunique() == 1
    assert table["asked"].all()


def test_where_a_study_trains_changes_no_member():
    on_one, on_many = (study.Settings.at("quick", cluster=where) for where in (None, "local"))
    assert study.members(on_one) == study.members(on_many)
    with pytest.raises(SettingsError, match="CUDA"):
        study.Settings.at("quick", device="cuda")


def test_this_machines_own_cluster_has_tls(store, monkeypatch):
    lines = []
    monkeypatch.setattr(hosts, "_places", lambda device: [{}])
    run(clustered.members(1), store, "local", lines)
    assert len(list(store.keys())) == 1
    assert any("tls://127.0.0.1" in line for line in lines)
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(cluster.ClusterError, match="cryptography"):
        run(clustered.members(2), store, "local")


@contextmanager
def processes():
    """Processes of their own, killed in the end."""
    begun = []

    def start(*command, **how):
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
        begun.append(subprocess.Popen([sys.executable, *command], env=environment, text=True, **how))
        return begun[-1]

    try:
        yield start
    finally:
        for process in begun:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_a_scheduler_that_is_lost_is_one_error_and_the_same_call_goes_on(store, address, place):
    members, quiet = clustered.members(1, 2, steps=LONG), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    file = place / "scheduler.json"
    with processes() as start:
        where = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(file)]
        scheduler = start("-m", "distributed.cli.dask_scheduler", *where, **quiet)
        start("-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--nthreads", "1", **quiet)
        while not file.exists():
            time.sleep(0.1)
        found = json.loads(file.read_text())["address"]

        def kill():
            end = time.monotonic() + 60
            while not list(store.keys()) and time.monotonic() < end:
                time.sleep(0.05)
            scheduler.kill()

        with aside(kill), pytest.raises(cluster.ClusterError, match="the scheduler is lost"):
            run(members, store, found)
        assert list(store.keys())
    run(members, store, address)
    assert_same_bits(members, store, alone(members, place / "alone"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_a_terminals_processes_ends_them_with_their_states_kept(store, place, number):
    """A terminal's Ctrl-C reaches all of its processes, workers included."""
    script = f"""
import sys, torch, clustered
from vaekit.store import Store
from vaekit.sweep import cluster
torch.set_num_threads(2)
members = clustered.members(1, 2, 3, steps={50 * LONG})
try:
    cluster.run({SPEC!r}, members, Store({str(store.root)!r}), progress=False)
except KeyboardInterrupt as stopped:
    sys.exit(str(stopped))
"""
    with processes() as start:
        client = start("-c", script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        trainings(store, 60, 2)
        os.killpg(client.pid, number) if number == signal.SIGINT else os.kill(client.pid, number)
        _, says = client.communicate(timeout=60)
    assert client.returncode == (1 if number == signal.SIGINT else 128 + number)
    assert "stopped at" in says or number == signal.SIGTERM
    kept = trainings(store)
    assert not any(one.runs for one in kept)
    assert len(kept) == 2
    assert not [*store.keys()]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("tcp://8.8.8.8:8786", "has no TLS"),
        ("tcp://head:8786", "--insecure"),
        ("tcp://127.0.0.1:9", "no scheduler answers"),
        ("tcp://localhost", "wanted local"),
        ("http://127.0.0.1:9", "wanted tcp"),
        ("locla", "wanted local"),
        ("tls://127.0.0.1:9", "no certificate and key"),
        ("nowhere.yaml", "cannot be read"),
    ],
)
def test_a_cluster_that_cannot_be_meant_is_one_error(store, given, says, monkeypatch):
    monkeypatch.setattr(hosts, "_CONNECT", 1.0)
    with pytest.raises(cluster.ClusterError, match=says):
        run(clustered.members(1), store, given)
    assert not list(store.keys())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("slurm: [", "cannot be read"),
        ("workers: 3", "wants one of"),
        ("slrm: {cores: 1, memory: 1GB}\nworkers: 3", "did you mean slurm"),
        ("slurm: {cores: 1, memory: 1GB}", "workers: None"),
        ("slurm: {cores: 1, memory: 1GB}\nworkers: 0", "at least 1"),
        ("slurm: {memory: 1GB}\nworkers: 2", "needs `cores`"),
        ("slurm: {cores: '4', memory: 1GB}\nworkers: 2", "`cores: 4`; wanted a whole number"),
        ("slurm: {cores: 4, processes: 4, memory: 1GB}\nworkers: 2", "leave out `processes`"),
        ("slurm: {cores: 4, memory: 1GB}\nworkers: 2\npatience: soon", "`patience: soon`; wanted a time"),
        ("slurm: {cores: 4, memory: 1GB}\nworkers: 2\npatience: null", "`patience: None`; wanted a time"),
        ("slurm: {cores: 4, memory: 1GB}\nworkers: 2\npatience: 2m", "of at least 300s"),
        ("jobqueue: {slurm: {cores: 1, memory: 1GB, walltme: 1}}\nworkers: 2", "did you mean walltime"),
        ("slurm: {cores: 1, memory: 1GB}\nworkers: 2", "there is no sbatch"),
    ],
)
def test_settings_of_a_batch_system_that_cannot_be_meant_are_one_error(tmp_path, text, says, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "batch.yaml").write_text(text)
    with pytest.raises(cluster.ClusterError, match=says):
        hosts.check(str(tmp_path / "batch.yaml"), "cpu")


def test_a_batch_systems_workers_are_not_paused_and_its_dashboard_is_for_this_machine(tmp_path, monkeypatch):
    (tmp_path / "sbatch").touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    own = 'job_script_prologue: ["source here"], scheduler_options: {port: 8786}'
    (tmp_path / "batch.yaml").write_text(f"slurm: {{cores: 1, memory: 1GB, {own}}}\nworkers: 2\n")
    _, given, *_ = hosts._settings(str(tmp_path / "batch.yaml"))
    *off, last = given["job-script-prologue"]
    assert {"export DASK_DISTRIBUTED__WORKER__MEMORY__PAUSE=False", *hosts._KEEP} <= {*off}
    assert last == "source here"
    assert given["scheduler-options"] == {"dashboard_address": "127.0.0.1:0", "port": 8786}
    assert given["processes"] == 1


def test_a_batch_system_that_takes_no_job_is_one_error(store, tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho no such partition >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "batch.yaml").write_text("slurm: {cores: 1, memory: 1GB, interface: lo}\nworkers: 2\n")
    with pytest.raises(cluster.ClusterError, match="slurm takes no job") as error:
        run(clustered.members(1), store, str(tmp_path / "batch.yaml"), insecure=True)
    assert "no such partition" in str(error.value)


def test_a_batch_system_that_takes_some_of_the_jobs_is_asked_again(store, tmp_path, monkeypatch):
    once = f"mkdir {tmp_path}/taken 2>/dev/null && echo Submitted batch job 1 && exit"
    (tmp_path / "sbatch").write_text(f"#!/bin/sh\n{once}\necho no more of you >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    (tmp_path / "scancel").symlink_to("/bin/true")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(hosts, "_LEAST", 0.0)
    (tmp_path / "batch.yaml").write_text("patience: 1s\nslurm: {cores: 1, memory: 1GB, interface: lo}\nworkers: 3\n")
    lines, told = [], []
    with pytest.raises(cluster.ClusterError, match="no worker came within 1 s"):
        run(clustered.members(1), store, str(tmp_path / "batch.yaml"), lines, insecure=True, progress=told.append)
    assert [line for line in lines if "slurm takes 1 of 3 jobs" in line and "no more of you" in line]
    assert {now.phase for now in told} == {"waiting for a worker"}


@pytest.fixture
def bash(monkeypatch):
    """A batch system of bash alone, which replaces its workers within seconds."""
    monkeypatch.setattr(cluster, "_FILL", 1.0)
    monkeypatch.setattr(hosts, "_LOST", "1s")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    pytest.importorskip("dask_jobqueue.local")  # it is there when it is imported


@pytest.mark.slow
# What dask-jobqueue starts with bash it kills and does not wait for.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_batch_systems_jobs_train_are_replaced_and_end_with_nothing_to_do(store, tmp_path, monkeypatch, bash):
    (tmp_path / "batch.yaml").write_text("local: {cores: 1, memory: 1GB, log_directory: null}\nworkers: 2\n")
    killed, counts, clusters = [], [], []

    @contextmanager
    def seen(*arguments):
        with hosts.opened(*arguments) as here:
            clusters.append(here)
            yield here

    def kill():
        killed.extend(trainings(store, 60, 2))
        for pid in (int(Path(f"/proc/{killed[0].pid}/stat").read_text().split()[3]), killed[0].pid):  # its nanny first
            os.kill(pid, signal.SIGKILL)

    def count(now):
        counts.append(len(clusters[0].client.nthreads()))

    monkeypatch.setattr(cluster, "opened", seen)
    with aside(kill):
        run(
            clustered.members(1, 2, 3, steps=12 * LONG),
            store,
            str(tmp_path / "batch.yaml"),
            insecure=True,
            progress=count,
        )
    assert len(list(store.keys())) == 3
    changes = [number for number, _ in itertools.groupby(counts) if number]
    assert changes[-4:] == [2, 1, 2, 1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_batch_systems_last_worker_that_leaves_by_itself_is_replaced(store, tmp_path, bash):
    """By `--lifetime`, which ends a worker before the batch system does."""
    given = "{cores: 1, memory: 1GB, log_directory: null, worker_extra_args: ['--lifetime', '12s']}"
    (tmp_path / "batch.yaml").write_text(f"local: {given}\nworkers: 1\n")
    told, long = [], clustered.members(1, steps=200 * LONG)  # longer than a worker lives, however fast the machine is

    def phases():
        return [phase for phase, _ in itertools.groupby(now.phase for now in told)]

    where = {"insecure": True, "progress": told.append, "stop": lambda: phases().count("training") == 2}
    with pytest.raises(Stopped, match="kept"):
        run(long, store, str(tmp_path / "batch.yaml"), **where)
    assert phases().count("waiting for a worker") >= 2


def test_dask_is_imported_by_who_uses_a_cluster_alone():
    code = "import sys, vaekit.__main__; sys.exit(bool({'dask', 'distributed'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_without_dask_a_cluster_is_one_error(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(cluster.ClusterError, match="pip install"):
        run(clustered.members(1), store, "local")
