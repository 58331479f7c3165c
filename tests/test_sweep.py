"""Sweeps: only what is missing is trained, what was trained is kept, and a value does not depend on its company."""

import dataclasses
import os
import platform
import re
import subprocess
import threading
import time
from types import SimpleNamespace

import pytest
import torch
from tiny import ARGUMENTS, member, run_of

from vaekit import provenance, sweep
from vaekit.data import DataError
from vaekit.fleet import Stopped, cores, progress
from vaekit.store import Store, StoreError, Tables, results
from vaekit.store import member as store_member
from vaekit.sweep import Measure, StudySpec, Value, course, last_step, plan, plan_sweep, report, speed, train
from vaekit.sweep.plan import bytes_per_run, fleet_size

pytestmark = pytest.mark.usefixtures("place")
DEEP = ARGUMENTS | {"depth": 2}


def weight(model, member, step, images):
    """The sum of all weights, in eval mode and of the images that the member has."""
    assert not model.training
    assert (len(images.train), len(images.test), len(images.test_rows)) == (32, 16, 16)
    total = sum(p.double().abs().sum().item() for p in model.parameters())
    yield Value("test", "weight", "", total, 0.0, len(images.test))


def spec(version=1):
    return StudySpec(
        "probes", (Measure("probe", version, weight),), lambda m: (m.steps // 2, m.steps), lambda m: (m.steps,)
    )


@pytest.fixture
def trained(monkeypatch):
    """The (seed, beta) of all that is trained, a list for each fleet. Interrupted in the fleet numbered `stop`."""

    class Fleets(list):
        stop = None

    fleets, real = Fleets(), train.train_fleet

    def counted(make_model, objective, members, *args, **how):
        fleets.append([(m.seed, m.weights["beta"]) for m in members])
        if len(fleets) == fleets.stop:
            raise KeyboardInterrupt
        return real(make_model, objective, members, *args, **how)

    monkeypatch.setattr(train, "train_fleet", counted)
    return fleets


seconds_per_step = plan.seconds_per_step


@pytest.fixture(autouse=True)
def _untimed(monkeypatch):
    """A sweep says how long it will take, which it measures; here we know."""
    monkeypatch.setattr(plan, "seconds_per_step", lambda member, device: 0.01)


def quiet(text):
    """Say nothing."""


def values(store, member, version=1):
    return {row["step"]: row["value"] for row in store.measure(member.key, "probe", version)}


def listed(store, members, make_spec=spec):
    """Move what a store holds of these members to results/."""
    tables = results.from_store(store, make_spec().versions, [member.key for member in members])
    results.write(results.folder("probes"), tables, {})


# Planning


def test_a_plan_sorts_what_is_known_from_what_is_missing(store, place):
    stored, old, shown, stale, gone = (member(beta) for beta in (1, 2, 3, 4, 5))
    lost = Store(place / "another machine's")
    sweep.run(spec(), [stored], store, say=quiet)
    sweep.run(spec(0), [old], store, say=quiet)
    sweep.run(spec(), [shown], lost, say=quiet)
    sweep.run(spec(0), [stale], lost, say=quiet)
    lost.commit(run_of(gone, (), "diverged"))
    tables = results.from_store(lost, {"probe": 1}, [shown.key, gone.key])
    results.write(place / "results" / "probes", tables.merged(results.from_store(lost, {"probe": 0}, [stale.key])), {})
    missing = [member(6), member(7, seed=3), member(8, model_args=DEEP), member(8, model_args=DEEP, steps=21)]
    todo = plan_sweep(spec(), [stored, stored, old, shown, stale, gone, *missing, missing[0]], store)
    assert todo.known == [stored, shown, gone]
    assert todo.unmeasured == [old]
    assert todo.unmeasurable == [stale]
    assert todo.groups == [missing[:2], [missing[2]], [missing[3]]]
    assert todo.missing == missing


def test_members_share_a_fleet_when_only_seed_and_weights_differ(store):
    alone = [{"steps": 21}, {"lr": 0.01}, {"batch_size": 9}, {"precision": "fp64"}, {"n_train": 33}, {"n_test": 17}]
    alone += [{"data": "mnist"}, {"split": "random"}, {"weight_decay": 0.1}, {"model_args": DEEP}, {"noise": "frozen"}]
    members = [member(), member(2, seed=5), *(member(**changes) for changes in alone)]
    assert [len(group) for group in plan_sweep(spec(), members, store).groups] == [2] + [1] * len(alone)


def test_damaged_evidence_stops_a_plan(store, place):
    sweep.run(spec(), [member()], store, say=quiet)
    (measured,) = place.glob("runs/measures/*/probe-1.json")
    measured.write_bytes(measured.read_bytes()[:-9])
    with pytest.raises(StoreError, match=str(measured)):
        plan_sweep(spec(), [member()], store)


# Running


def test_only_what_is_missing_is_trained(store, trained, place):
    sweep.run(spec(), [member(1), member(2)], store, say=quiet)
    assert trained == [[(0, 1)], [(0, 2)]]  # one thread: a member a core is a fleet of one
    kept = store.steps(member(1).key)
    assert kept == [20]
    assert set(values(store, member(1))) == {10, 20}  # measured where weights are not kept, too
    sweep.run(spec(), [member(2), member(1)], store, say=quiet)
    assert len(trained) == 2
    sweep.run(spec(), [member(2), member(3), member(1)], store, say=quiet)
    assert trained[2:] == [[(0, 3)]]
    listed(store, [member(3)])
    fresh = Store(place / "fresh")
    sweep.run(spec(), [member(3)], fresh, say=quiet)
    assert len(trained) == 3
    assert not fresh.root.exists()  # nothing to do needs no store


def test_a_measure_is_taken_when_it_says(store, trained):
    seldom = Measure("probe", 1, weight, at=last_step)
    never = Measure("never", 1, lambda *_: pytest.fail("taken"), at=lambda member: ())
    sweep.run(dataclasses.replace(spec(), measures=(seldom, never)), [member(1)], store, say=quiet)
    assert set(values(store, member(1))) == {20}
    assert store.measure(member(1).key, "never", 1) == []
    again = Measure("probe", 2, weight, at=lambda member: (10,))  # whose weights are not saved
    both = dataclasses.replace(spec(), measures=(again, never))
    sweep.run(both, [member(1)], store, say=quiet)
    assert values(store, member(1), 2) == {}
    assert len(trained) == 1


def test_the_steps_of_a_member_that_is_alone_are_measured_side_by_side(store):
    """On two cores two steps are at work at once: either waits for the other."""
    met = threading.Barrier(2, timeout=60)

    def meets(model, member, step, images):
        met.wait()
        yield from weight(model, member, step, images)

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        sweep.run(dataclasses.replace(spec(), measures=(Measure("probe", 1, meets),)), [member(1)], store, say=quiet)
    finally:
        torch.set_num_threads(before)
    assert [row["step"] for row in store.measure(member(1).key, "probe", 1)] == [10, 20]


def test_a_new_measure_is_taken_from_stored_weights(store, trained):
    sweep.run(spec(), [member(1)], store, say=quiet)
    sweep.run(spec(2), [member(1)], store, say=quiet)
    assert len(trained) == 1
    assert values(store, member(1), 2) == {20: values(store, member(1))[20]}
    assert not plan_sweep(spec(2), [member(1)], store).unmeasured
    tables = sweep.tables(spec(2), store)
    assert [row["version"] for row in tables.measures[member(1).key]] == [2]


def test_a_sweep_goes_on_from_where_it_was_stopped(store, trained):
    members = [member(1), member(2, model_args=DEEP), member(3)]
    trained.stop = 2
    with pytest.raises(KeyboardInterrupt):
        sweep.run(spec(), members, store, say=quiet)
    assert list(store.keys()) == [member(1).key]
    store.verify(member(1).key)
    sweep.run(spec(), members, store, say=quiet)
    assert trained[2:] == [[(0, 2)], [(0, 3)]]
    assert not plan_sweep(spec(), members, store).missing


def test_a_member_that_diverges_is_recorded_and_known(store, trained):
    wild = member(1e300)
    sweep.run(spec(), [wild, member(1)], store, say=quiet)
    record = store.record(wild.key)
    assert (record["status"], record["reason"]) == ("diverged", "the loss of step 0 was not finite")
    assert store.record(member(1).key)["status"] == "finished"
    sweep.run(spec(), [wild], store, say=quiet)
    sweep.run(spec(2), [wild], store, say=quiet)
    assert len(trained) == 2
    assert store.measure(wild.key, "probe", 2) == []


def test_images_that_cannot_be_had_stop_it_before_training(store, trained):
    for lacking in (member(2, data="mnist"), member(2, split="own"), member(2, n_train=10**6)):
        with pytest.raises(DataError):
            sweep.run(spec(), [member(1), lacking], store, say=quiet)
    assert not trained


def test_how_it_was_made_is_recorded(store):
    sweep.run(spec(), [member(1)], store, say=quiet)
    record = store.record(member(1).key)
    assert record["study"] == "probes"
    assert record["hardware"] == provenance.hardware("cpu")
    assert re.match(r"1 threads of \S", record["hardware"])
    assert record["wall_time"] >= 0
    assert (record["backend"], record["torch"]) == ("cores", torch.__version__)
    assert record["python"] == platform.python_version()
    assert record["commit"] == provenance.commit()


def test_the_commit_is_the_checkouts_or_none(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "CHECKOUT", tmp_path)
    assert provenance.commit() is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    assert provenance.commit() is None
    (tmp_path / "vaekit").mkdir()
    (tmp_path / "vaekit" / "provenance.py").touch()
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "theirs"], check=True)
    assert provenance.commit() is None  # the package was put into another's repository
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "another"))  # as in a hook of another repository
    assert re.fullmatch("[0-9a-f]{12}", provenance.commit() or "")


# A value does not depend on its company


def test_values_are_the_same_in_any_fleet_bit_for_bit(place):
    members = [member(beta, seed) for beta in (0.1, 1) for seed in (0, 1)]
    together, apart = Store(place / "together"), Store(place / "apart")
    torch.set_num_threads(2)
    sweep.run(spec(), members, together, say=quiet)
    torch.set_num_threads(1)
    for one in reversed(members):
        sweep.run(spec(), [one], apart, say=quiet)
    for one in members:
        assert values(together, one) == values(apart, one)
        here, there = apart.weights(one.key, 20), together.weights(one.key, 20)
        assert here.keys() == there.keys()
        assert all(torch.equal(here[name], there[name]) for name in here)
    assert len({tuple(values(apart, one).values()) for one in members}) == 4


@pytest.fixture
def stacked(monkeypatch):
    for module in (plan, train):
        monkeypatch.setattr(module, "default_backend", lambda device: "stack")
    monkeypatch.setattr(plan, "LARGEST_STACK", 2)


def test_more_members_than_a_stack_holds_are_trained_as_several(store, place, stacked, trained):
    members = [member(beta, precision="fp64") for beta in (0.1, 1, 2)]
    sweep.run(spec(), members, store, say=quiet)
    assert trained == [[(0, 0.1), (0, 1)], [(0, 2)]]
    assert store.record(members[0].key)["backend"] == "stack"
    alone = Store(place / "alone")
    sweep.run(spec(), [members[1]], alone, say=quiet)
    assert values(alone, members[1]) == pytest.approx(values(store, members[1]), rel=1e-12)


# Time and size


@pytest.fixture
def clock(monkeypatch):
    """A clock of the sweep's minutes that goes on by a second each time it is asked for: with each step, at least."""
    clock = SimpleNamespace(now=0.0)

    def tick():
        clock.now += 1
        return clock.now

    monkeypatch.setattr(course, "time", SimpleNamespace(monotonic=tick))
    return clock


@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_minutes_end_a_fleet_that_goes_on_from_there(store, place, trained, clock, monkeypatch, backend):
    for module in (plan, train):
        monkeypatch.setattr(module, "default_backend", lambda device: backend)
    monkeypatch.setattr(cores, "_LOOK", 0.001)
    members, lines = [member(1, steps=200), member(2, steps=200)], []
    sweep.run(spec(), members, store, minutes=1, say=lines.append)
    assert lines[-1].startswith("the minutes are over at ")
    assert re.search(r"at [1-9][0-9]? %: kept; the same", lines[-1])
    assert not list(store.keys())
    assert len(trained) == 1
    for _ in range(20):
        sweep.run(spec(), members, store, minutes=2, say=quiet)
    assert {*store.keys()} == {one.key for one in members}
    whole = Store(place / "whole")
    sweep.run(spec(), members, whole, say=quiet)
    assert all(values(store, one) == values(whole, one) for one in members)


def test_a_fleet_has_a_member_a_core_and_the_last_ones_take_turns(stacked, monkeypatch):
    assert fleet_size("cpu") == 2  # a stack, as large as one may be
    monkeypatch.setattr(plan, "default_backend", lambda device: "cores")
    assert fleet_size("cpu") == 1
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    assert {n: fleet_size("cpu", waiting=n) for n in (1, 4, 5, 7, 8)} == {1: 4, 4: 4, 5: 5, 7: 7, 8: 4}


def test_time_that_is_over_begins_nothing(store, trained, clock):
    sweep.run(spec(), [member(1)], store, say=quiet)
    lines, again = [], spec(2)
    for members in ([member(1)], [member(1), member(2)]):
        sweep.run(again, members, store, minutes=0, say=lines.append)
    assert len(trained) == 1
    assert store.measures(member(1).key) == {"probe": 1}
    assert lines[-1] == "the minutes are over at 0 %: kept; the same command goes on from there"


def test_seconds_per_step_are_measured(monkeypatch):
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(speed, "_WINDOW", 0.02)
    monkeypatch.setattr(plan, "seconds_per_step", seconds_per_step)
    begun = time.perf_counter()
    each = plan.seconds_per_step(member(), "cpu")
    assert 0 < each < 0.1
    assert time.perf_counter() - begun < 10
    again = time.perf_counter()
    assert plan.seconds_per_step(member(7, seed=3, steps=99, n_train=64), "cpu") == each  # its like was timed
    assert time.perf_counter() - again < 0.05


def test_a_report_says_what_a_plan_means(store, monkeypatch):
    monkeypatch.setattr(plan, "seconds_per_step", lambda member, device: 0.5)
    monkeypatch.setattr(speed, "timed_measures", lambda spec, member, device: 60.0)
    for beta, version in ((1, 1), (2, 0)):
        sweep.run(spec(version), [member(beta)], store, say=quiet)
    monkeypatch.setattr(speed, "observed", lambda *a: speed.Observed())
    members = [member(beta) for beta in range(1, 6)] + [member(1, model_args=DEEP, n_train=None, steps=12_000)]
    lines = report(spec(), plan_sweep(spec(), members, store), "cpu").splitlines()
    assert lines[0] == "probes: 1 members known, 1 to be measured from their weights"
    assert lines[1].startswith("  3 to train: dense_vae depth 1 hidden 4 latent_dim 2, 32 images of tetrominoes (cv), ")
    assert lines[1].endswith("20 steps of 8, full: about 4 min (as timed now), 2 MB")  # 30 s, and 60 s for each
    assert "depth 2" in lines[2]
    assert "tetrominoes (cv), 12,000 steps of 8, full: about 101 min (as timed now)" in lines[2]
    assert lines[3].startswith("  4 in all: about 104 min, measures about 4 min of it, ")
    assert len(lines) == 4
    untimed = report(spec(), plan_sweep(spec(), members, store), "cpu", timed=False)
    assert "about" not in untimed


def took(beta, steps, seconds, measuring=None, model_args=ARGUMENTS, **others):
    """A run that took so long, on this hardware."""
    record = {"hardware": provenance.hardware("cpu"), "backend": "cores", "fleet": 1, "wall_time": seconds}
    record |= {"measure_seconds": {} if measuring is None else {"probe": measuring}} | others
    return run_of(member(beta, steps=steps, model_args=model_args), (steps,), **record)


def test_times_are_those_that_stored_runs_took(store, monkeypatch):
    monkeypatch.setattr(plan, "seconds_per_step", lambda *a: pytest.fail("timed"))
    for beta, seconds in ((1, 20.0), (2, 30.0), (3, 1_000.0)):  # the quickest was disturbed least
        store.commit(took(beta, 100, seconds, measuring=90.0))
    store.commit(run_of(member(4, steps=100), hardware="another", wall_time=1e9, backend="cores"))
    store.commit(run_of(member(5, steps=100), (), "diverged", "", hardware=provenance.hardware("cpu"), wall_time=1e9))
    seen = speed.observed(store, Tables(), "cpu")
    assert seen.seconds_per_step(member(9, seed=8, steps=5_000, n_train=64)) == pytest.approx(0.2)
    assert seen.seconds_per_step(member(9, model_args=DEEP)) is None
    assert seen.seconds_of_measures(member(9, seed=8, steps=100)) == 90
    assert seen.seconds_of_measures(member(9, steps=200)) is None
    lines = report(spec(), plan_sweep(spec(), [member(8, steps=100), member(9, steps=100)], store), "cpu", store)
    assert "2 to train: " in lines
    assert "about 4 min (as stored runs took)" in lines  # 2 x (20 + 90) s


def test_measures_left_to_later_are_not_estimated(store):
    later = dataclasses.replace(spec(), measures=())
    for beta, measuring in ((1, {"probe": 90.0, "another": 600.0}), (2, {"another": 10.0})):
        store.commit(took(beta, 100, 20.0, measure_seconds=measuring))
    assert speed.observed(store, Tables(), "cpu", spec()).seconds_of_measures(member(9, steps=100)) == 90
    assert speed.observed(store, Tables(), "cpu", later).seconds_of_measures(member(9, steps=100)) == 0
    assert speed.observed(store, Tables(), "cpu").seconds_of_measures(member(9, steps=100)) == 10


def test_a_run_records_the_seconds_of_each_measure(store):
    sweep.run(spec(), [member()], store, say=quiet)
    assert store.record(member().key)["measure_seconds"].keys() == {"probe"}


def test_a_fleet_smaller_than_the_machine_has_longer_shares(store, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    store.commit(took(1, 100, 40.0, fleet=1))
    store.commit(took(2, 100, 10.0, fleet=4, model_args=DEEP))
    seen = speed.observed(store, Tables(), "cpu")
    assert seen.seconds_per_step(member(9)) == seen.seconds_per_step(member(9, model_args=DEEP)) == pytest.approx(0.1)


def test_runs_of_many_steps_are_told_of_by_no_short_ones(store):
    """Of known speeds: a start of 5 s, and 0.02 s a step where nothing else was at work."""
    for beta, steps, load in ((1, 50, 1), (2, 1_000, 1), (3, 1_000, 1), (4, 1_000, 4), (5, 10_000, 1), (6, 10_000, 3)):
        store.commit(took(beta, steps, load * (5 + 0.02 * steps)))
    store.commit(took(7, 10_000, 1.0, fleet=None))  # of a share that nobody knows
    seen = speed.observed(store, Tables(), "cpu")
    for steps, wanted in ((20_000, 0.0205), (10_000, 0.0205), (1_200, 0.025), (60, 0.12)):
        assert seen.seconds_per_step(member(8, steps=steps)) == pytest.approx(wanted)
    store.commit(took(1, 50, 6.0, model_args=DEEP))
    assert seen.seconds_per_step(member(8, steps=101, model_args=DEEP)) is None  # as yet not seen
    seen = speed.observed(store, Tables(), "cpu")
    assert seen.seconds_per_step(member(8, steps=101, model_args=DEEP)) is None
    assert seen.seconds_per_step(member(8, steps=101, model_args=DEEP), rough=True) == pytest.approx(0.12)
    assert seen.seconds_per_step(member(8, steps=100, model_args=DEEP)) == pytest.approx(0.12)


def test_a_plan_is_timed_within_a_limit_and_the_rest_is_like_it(store, monkeypatch):
    """The largest share first, of equal ones the widest and the narrowest; between them by parameters."""
    now, timed = [0.0], []
    monkeypatch.setattr(speed, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def step(member, device):
        now[0] += speed._ALTOGETHER * 0.3
        timed.append(dict(member.model_args)["hidden"])
        return 1e-3 * speed.parameters(member)

    monkeypatch.setattr(plan, "seconds_per_step", step)
    monkeypatch.setattr(speed, "timed_measures", lambda spec, member, device: step(member, device) * 600)
    widths = [member(model_args=ARGUMENTS | {"hidden": hidden}, steps=6_000) for hidden in (8, 2, 32, 4, 16)]
    lines = report(spec(), plan_sweep(spec(), [*widths, member(steps=60_000, model_args=DEEP)], store), "cpu").split(
        "\n"
    )
    assert timed == [4, 4, 32, 32]  # the deep one, of most steps, and the widest, during which the limit is reached
    for line, one in zip(lines[1:6], widths, strict=True):
        assert ("(by a like one)" in line) == (dict(one.model_args)["hidden"] != 32)
    known = speed.Timings(lambda one: speed.parameters(one), lambda one: 2.0 * speed.parameters(one))
    for one in (widths[2], widths[1]):
        known.seconds_per_step(one)
        known.seconds_of_measures(one)
    now[0] *= 100
    for one in widths:  # interpolated, and exact where what is timed is linear in the parameters
        seconds, like = known.seconds_per_step(one)
        assert (seconds, like) == (pytest.approx(speed.parameters(one)), one not in (widths[1], widths[2]))
        assert known.seconds_of_measures(one)[0] == pytest.approx(2 * speed.parameters(one))


def test_what_a_checkpoint_has_is_not_counted_again(store, monkeypatch):
    monkeypatch.setattr(plan, "seconds_per_step", lambda *a: 60.0)
    monkeypatch.setattr(speed, "timed_measures", lambda *a: 0.0)
    told, one = [], member(1, steps=1_000)
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(cores, "_LOOK", 0.001)
    with pytest.raises(Stopped) as stopped:
        sweep.run(spec(), [one], store, progress=told.append, say=quiet, stop=lambda: bool(told and told[-1].step > 99))
    left = round(1_000 * (1 - stopped.value.share))
    lasts = progress.duration(60 * left)
    assert f"about {lasts} (as timed now)" in report(spec(), plan_sweep(spec(), [one], store), "cpu", store)


def test_times_on_a_card_that_is_not_here_are_those_seen_on_one(store, monkeypatch):
    monkeypatch.setattr(plan, "seconds_per_step", lambda *a: pytest.fail("timed"))
    todo = plan_sweep(spec(), [member(8, steps=6_000)], store)
    assert "time not known, " in report(spec(), todo, "cuda", store)
    store.commit(took(1, 100, 100.0))
    assert "time not known, " in report(spec(), todo, "cuda", store)
    store.commit(took(2, 100, 2.0, hardware="a card", backend="stack", fleet=64))
    assert "about 2 min (as stored runs took)" in report(spec(), todo, "cuda", store)


def test_measures_are_timed_on_a_part_of_the_images():
    sizes = []

    def take(model, member, step, images):
        sizes.append((len(images.train), len(images.test)))
        time.sleep(0.002 + 1e-6 * len(images.train) ** 2)
        yield from ()

    one = member(n_train=2_000, n_test=400)
    design = StudySpec("probes", (Measure("slow", 1, take),), lambda m: (10, 20), lambda m: (20,))
    assert speed.timed_measures(design, one, "cpu") == pytest.approx(2 * 4.002, rel=0.25)
    assert max(sizes) == (1_280, 256)  # a part of both


@pytest.mark.parametrize("law", [lambda x: 3.0, lambda x: 0.2 + 4 * x, lambda x: x + 9 * x * x, lambda x: 7 * x * x])
def test_what_parts_took_says_what_the_whole_takes(law):
    points = [(part, law(part)) for part in (1 / 32, 1 / 16, 1 / 8, 1 / 4)]
    assert speed._at_whole(points) == pytest.approx(law(1.0), rel=1e-6)
    noisy = [(part, law(part) * noise) for (part, _), noise in zip(points, (0.95, 1.05, 0.95, 1.05), strict=True)]
    assert speed._at_whole(noisy) == pytest.approx(law(1.0), rel=0.5)
    assert speed._at_whole([(1 / 256, 1.0), (1 / 128, 2.1)]) < 1.1 * 256  # no square of what may be noise
    assert speed._at_whole([(0.5, 2.0)]) == 4.0
    assert speed._at_whole([(0.5, 2.0), (1.0, 3.0)]) == 3.0


@pytest.mark.parametrize("parts", [4, 5])
@pytest.mark.parametrize(("constant", "linear", "square"), [(0.08, 0.5, 35), (0.3, 5, 60)])
def test_a_square_is_seen_behind_a_constant(parts, constant, linear, square):
    """Neighbours of few images take no time of which the start is not most; of all of them, they take minutes."""

    def law(part):
        return constant + linear * part + square * part**2

    points = [(2**power / 256, law(2**power / 256)) for power in range(parts + 1)]
    assert speed._at_whole(points) == pytest.approx(law(1.0), rel=0.3)
    assert speed._at_whole([(1 / 256, 0.3), (1 / 128, 1.2)]) == pytest.approx(0.3 * 256**2)
    assert speed._at_whole([(1 / 256, 0.5), (1 / 128, 0.55), (1 / 64, 1.1)]) < 100  # which is noise


def test_bytes_of_a_run_are_those_on_the_disk(store):
    kept = dataclasses.replace(spec(), saved_steps=lambda m: (m.steps // 2, m.steps))
    sweep.run(kept, [member()], store, say=quiet)
    size = sum(
        os.path.getsize(file) for file in store.root.rglob("*") if file.is_file()
    )  # its last checkpoint included
    assert bytes_per_run(kept, member()) == pytest.approx(size, rel=0.05)


def test_tables_are_the_union_of_results_and_store(store):
    sweep.run(spec(), [member(1), member(2)], store, say=quiet)
    listed(store, [member(1)])
    shown = results.read(results.folder("probes"))
    shown.members[member(3).key] = shown.members[member(1).key] | member(3).row() | {"key": member(3).key}
    results.write(results.folder("probes"), shown, {})
    other = dataclasses.replace(spec(), name="others")
    sweep.run(other, [member(4)], store, say=quiet)
    assert sweep.tables(spec()).members.keys() == {member(beta).key for beta in (1, 2, 3)}
    assert sweep.tables(other).members.keys() == {member(4).key}
    assert sweep.tables(other, members=[member(1)]).members.keys() == {member(1).key, member(4).key}
    assert sweep.tables(dataclasses.replace(spec(), name="none"), store) == Tables()


def test_a_large_grid_is_planned_at_once(store):
    """Two seeds of a 21 x 21 grid beside a store that holds some of it: no key is computed twice."""
    members = [member(beta, seed, steps=steps) for beta in range(1, 442) for seed in (0, 1) for steps in (20,)]
    for one in members[:5]:
        store.commit(run_of(one))
    hashed = []
    with pytest.MonkeyPatch.context() as patch:
        real = store_member.key_of
        patch.setattr(store_member, "key_of", lambda *parts: hashed.append(1) or real(*parts))
        todo = plan_sweep(spec(0), members, store)
    assert len(todo.unmeasured) == 5
    assert len(todo.missing) == 877
    # A key of its own, and one for each length of which a member may be the beginning.
    assert len(hashed) <= len(members) * 6 + 50
