"""Checkpoints: a sweep goes on where it was stopped, to the same bits, and nothing damaged is ever gone on from."""

import dataclasses
import itertools
import shutil

import pytest
import torch
from tiny import member

from vaekit import sweep
from vaekit.fleet import State
from vaekit.store import Store, StoreError, checkpoints, maintenance
from vaekit.store.checkpoints import Checkpoints, reached
from vaekit.sweep import Measure, StudySpec, Value, plan, plan_sweep, train


def weight(model, member, step, images):
    yield Value("train", "probe", "", sum(p.double().sum() for p in model.parameters()).item(), 0.0, 1)


def halves(member):
    return tuple(sorted({member.steps // 2, member.steps}))


SPEC = StudySpec("probes", (Measure("probe", 1, weight),), halves, halves)


DUE = Checkpoints.due


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """A state every few looks, and no timing of steps."""
    looks = itertools.count(1)
    monkeypatch.setattr(Checkpoints, "due", lambda self: next(looks) % 20 == 0)
    monkeypatch.setattr(plan, "seconds_per_step", lambda member, device: 0.01)


def use_backend(monkeypatch, name):
    for module in (plan, train):
        monkeypatch.setattr(module, "default_backend", lambda device: name)


@pytest.fixture(params=["cores", "stack"])
def backend(request, monkeypatch):
    use_backend(monkeypatch, request.param)
    return request.param


@pytest.fixture
def steps(monkeypatch):
    """How often the objective was called in training, beside its checks: the steps that were really taken."""
    taken, real = [], plan.OBJECTIVES["beta"]

    def counted(params, images, *rest):
        if len(images) > 2:
            taken.append(1)
        return real(params, images, *rest)

    monkeypatch.setitem(plan.OBJECTIVES, "beta", counted)
    return taken


def run(members, store, say=lambda line: None):
    return sweep.run(SPEC, members, store, say=say)


def stopped_after(monkeypatch, saves, error=KeyboardInterrupt):
    """The process ends just after so many states were written."""
    real, counter = Checkpoints.save, itertools.count(1)

    def save(self, state):
        real(self, state)
        if next(counter) == saves:
            raise error

    monkeypatch.setattr(Checkpoints, "save", save)


def same(one, other, members):
    for m in members:
        assert one.measure(m.key, "probe", 1) == other.measure(m.key, "probe", 1)
        assert all(torch.equal(v, other.history(m.key)[n]) for n, v in one.history(m.key).items())
        for step in halves(m):
            here, there = one.weights(m.key, step), other.weights(m.key, step)
            assert here.keys() == there.keys()
            assert all(torch.equal(here[name], there[name]) for name in here)


def states(store):
    return sorted(path for path in store.root.glob("work/*/*") if path.name[0].isdigit())


@pytest.mark.parametrize("noise", [None, "frozen"])
def test_a_sweep_goes_on_from_its_last_state_to_the_same_bits(store, place, backend, monkeypatch, steps, noise):
    members = [member(beta, steps=200, noise=noise) for beta in (0.1, 1)]
    whole = Store(place / "whole")
    run(members, whole)
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(members, store)
    assert not list(store.keys())
    assert states(store)
    stopped = 2
    if backend == "cores":
        stopped = sum(reached(store, [m], "cpu", backend)[0] for m in members)
    lines = sweep.report(SPEC, plan_sweep(SPEC, members, store), "cpu", store)
    assert f"({stopped} of them have a checkpoint)" in lines
    steps.clear()
    run(members, store)
    assert 0 < len(steps) < (400 if backend == "cores" else 200)
    same(store, whole, members)


def test_a_fleet_that_ended_and_was_not_committed_is_not_trained_again(store, backend, monkeypatch, steps):
    with monkeypatch.context() as patch:
        patch.setattr(Store, "commit_measure", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run([member()], store)
    steps.clear()
    run([member()], store)
    assert not steps
    assert member().key in store


def test_a_run_is_lengthened_from_its_last_state(store, place, backend, steps):
    short, long = ([member(beta, steps=n) for beta in (0.1, 1)] for n in (60, 120))
    run(short, store)
    steps.clear()
    lines = []
    run(long, store, lines.append)
    assert len(steps) == 60 * (2 if backend == "cores" else 1)
    whole = Store(place / "whole")
    run(long, whole)
    same(store, whole, long)
    assert "have a checkpoint" in lines[0]


def test_a_state_that_lacks_a_snapshot_that_is_asked_for_is_no_start(store, steps):
    """A half of 90 steps is no snapshot of the run of 60: that one cannot be lengthened."""
    run([member(steps=60)], store)
    steps.clear()
    run([member(steps=90)], store)
    assert len(steps) == 90


def test_a_longer_run_answers_for_the_shorter_one(store, place, steps):
    long, short = member(steps=50), member(steps=30)  # three fifths
    kept = StudySpec("probes", SPEC.measures, lambda m: sweep.fifths(m.steps), lambda m: sweep.fifths(m.steps))
    sweep.run(kept, [long], store, say=lambda line: None)
    steps.clear()
    lines = []
    assert plan_sweep(kept, [short], store).shorter == {short: long}
    sweep.run(kept, [short], store, say=lines.append)
    assert not steps
    assert "1 are snapshots of longer runs" in lines[0]
    whole = Store(place / "whole")
    sweep.run(kept, [short], whole, say=lambda line: None)
    here, there = store.weights(short.key, 30), whole.weights(short.key, 30)
    assert all(torch.equal(here[name], there[name]) for name in there)
    # What the longer run kept on its way: 10, 20 and 30 steps, of which the shorter asks for the last alone.
    last = [row for row in whole.measure(short.key, "probe", 1) if row["step"] == 30]
    assert store.measure(short.key, "probe", 1) == last
    assert store.record(short.key)["beginning_of"] == long.key
    assert plan_sweep(kept, [short], store).known == [short]
    assert not plan_sweep(kept, [dataclasses.replace(short, steps=31)], store).shorter


def checkpointer(store, one=None, snapshots=(30, 60), reports=None):
    report = ([] if reports is None else reports).append
    return Checkpoints(store, [one or member(steps=60)], [*snapshots], "cpu", "cores", 1, report)


def states_of(model, step):
    """The state of a member after `step` steps, each with other weights."""
    tensors = {"step": torch.tensor(step), "history.step": torch.tensor([], dtype=torch.int64)}
    tensors |= {f"model.{name}": value + step for name, value in model.state_dict().items()}
    return State(tensors, {30: model.state_dict()})


def written(store, n=4):
    """A store with `n` states of a member that was stopped on its way, and the state that the last of them is."""
    saver, model = checkpointer(store), member().build()
    for step in range(40, 40 + n):
        state = states_of(model, step)
        saver.save(state)
    return state


def test_the_newest_two_states_are_kept_and_a_snapshot_is_written_once(store):
    last = written(store, 5)
    assert [path.name.split("-")[0] for path in states(store)] == ["43", "44"]
    (snapshot,) = store.root.glob("work/*/snapshot-*")
    state = checkpointer(store).latest()
    assert state.tensors.keys() == last.tensors.keys()
    assert all(torch.equal(state.tensors[name], last.tensors[name]) for name in last.tensors)
    assert all(torch.equal(v, last.snapshots[30][n]) for n, v in state.snapshots[30].items())
    checkpointer(store).done()
    assert [path.name.split("-")[0] for path in states(store)] == ["44"]
    assert snapshot.exists()


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
@pytest.mark.parametrize("what", ["state", "snapshot"])
def test_what_is_damaged_is_named_and_never_used(store, harm, what):
    written(store)
    path = states(store)[-1] if what == "state" else next(store.root.glob("work/*/snapshot-*"))
    content = path.read_bytes()
    places = [0, 7, 9, len(content) // 2, len(content) - 1] if harm == "flip" else [0]
    for place in places:
        store_here = Store(store.root.with_name(f"copy-{place}"))
        shutil.copytree(store.root, store_here.root)
        hurt = store_here.root / path.relative_to(store.root)
        flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        hurt.write_bytes({"flip": flipped, "cut": content[:-1], "empty": b"", "gone": b""}[harm])
        if harm == "gone":
            hurt.unlink()
        reports = []
        state = checkpointer(store_here, reports=reports).latest()
        if what == "state":
            assert int(state.tensors["step"]) == 42
        else:  # both states need it, so both are set aside, and a new training keeps its own
            assert state is None
            assert not states(store_here)
            assert len(reports) >= 2
            model = member().build()
            checkpointer(store_here).save(states_of(model, 3))
            assert [path.name.split("-")[0] for path in states(store_here)] == ["3"]
        if harm != "gone":
            assert path.name[:20] in reports[0]
            assert "damaged" in reports[0]
            assert any(hurt.name in q.name for q in (store_here.root / "quarantine").iterdir())


def test_a_state_of_another_model_is_refused_though_its_hash_is_right(store):
    written(store)
    reports = []
    other = member(steps=60, model_args={"depth": 1, "hidden": 5, "latent_dim": 2})
    own, another = checkpointer(store), checkpointer(store, other, reports=reports)
    shutil.move(own.folder, another.folder)
    assert another.latest() is None
    assert "not those of the model" in reports[0]


def test_states_beyond_the_end_are_left_alone(store):
    """A shorter run that is begun while a longer one waits neither takes its states nor deletes them."""
    written(store)
    shorter = checkpointer(store, member(steps=41), (20, 41))
    assert shorter.latest() is None  # 40 would do, but it was pruned; 42 and 43 lie beyond
    shorter.done()
    assert len(states(store)) == 2


def test_states_that_lead_elsewhere_are_neither_used_nor_counted(store):
    """States of 42 and 43 steps that lack the snapshot at 20 asked for now: the new ones, of fewer steps, stay."""
    last = written(store)
    other = checkpointer(store, snapshots=(20, 60))
    assert other.latest() is None
    other.save(State({**last.tensors, "step": torch.tensor(5)}))
    assert [path.name.split("-")[0] for path in states(store)] == ["42", "43", "5"]
    assert int(checkpointer(store, snapshots=(20, 60)).latest().tensors["step"]) == 5


def test_a_stack_goes_on_as_it_was_composed(store, monkeypatch, steps):
    """What memory and time allow differs from day to day; its state is that of the members that it held."""
    use_backend(monkeypatch, "stack")
    members = [member(beta, steps=100) for beta in (0.1, 1, 2)]
    monkeypatch.setattr(plan, "capacity", lambda member, device: 2)
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(members, store)
    monkeypatch.setattr(plan, "capacity", lambda member, device: 8)
    steps.clear()
    run(members, store)
    assert [store.record(m.key)["fleet"] for m in members] == [2, 2, 1]
    assert len(steps) == (100 - 40) + 100


def test_what_earlier_sessions_took_is_counted(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    first = checkpointer(store)
    now[0] = 30.0
    first.save(State({"step": torch.tensor(1)}))
    later = checkpointer(store)
    monkeypatch.setattr(later, "_check", lambda state: None)
    assert later.latest() is not None
    now[0] = 37.0
    assert later.seconds == pytest.approx(37.0)
    shared = Checkpoints(store, [member()], [], "cpu", "cores", fleet_size=4)
    now[0] = 45.0
    assert shared.seconds == pytest.approx(2.0)


def test_when_a_state_is_due(monkeypatch, store):
    monkeypatch.setattr(Checkpoints, "due", DUE)
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    saver = checkpointer(store)
    assert saver.due()  # the first one, from which on `status` knows of it
    saver.save(State({"step": torch.tensor(0)}))
    now[0] = 59.0
    assert not saver.due()
    now[0] = 60.0
    assert saver.due()
    monkeypatch.setattr(saver, "_write", lambda *_: now.__setitem__(0, now[0] + 2.0))
    saver.save(State({"step": torch.tensor(1)}))
    for later, due in ((99.0, False), (100.0, True)):  # fifty times the two seconds that it took
        now[0] = 62.0 + later
        assert saver.due() is due


def test_a_fleet_that_memory_does_not_hold_is_trained_as_two(store, monkeypatch):
    use_backend(monkeypatch, "stack")
    monkeypatch.setattr(plan, "capacity", lambda member, device: 8)
    real, sizes = train.train_fleet, []

    def narrow(make, objective, members, *args, **how):
        sizes.append(len(members))
        if len(members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(make, objective, members, *args, **how)

    monkeypatch.setattr(train, "train_fleet", narrow)
    lines = []
    members = [member(beta) for beta in (0.1, 1, 2, 3, 4)]
    run(members, store, lines.append)
    assert sizes == [5, 3, 2, 1, 2]
    assert sum("out of memory" in line for line in lines) == 2
    assert all(m.key in store for m in members)
    assert store.record(members[0].key)["fleet"] == 2
    monkeypatch.setattr(train, "train_fleet", lambda *_, **__: (_ for _ in ()).throw(MemoryError("no")))
    with pytest.raises(StoreError, match="one member does not fit"):
        run([member(9)], store)


def test_checkpoints_are_cleared_where_that_is_asked(store):
    written(store)
    assert not maintenance.leftovers(store)
    paths = maintenance.leftovers(store, checkpoints=True)
    assert sum(map(maintenance.size_of, paths)) > 1000
    maintenance.delete(paths)
    assert checkpointer(store).latest() is None
