"""Checkpoints: a sweep goes on where it was stopped, to the same bits, and nothing damaged is ever gone on from."""

import dataclasses
import itertools
import shutil

import pytest
import torch
from tiny import member

from vaekit import checkpoints, sweep, upkeep
from vaekit.checkpoints import Checkpoints, has_state
from vaekit.fleet import cores
from vaekit.runs import Store, StoreError
from vaekit.sweep import Design, Measure, Value, plan


def weight(model, member, step, images):
    yield Value("train", "probe", "", sum(p.double().sum() for p in model.parameters()).item(), 0.0, 1)


def halves(member):
    return tuple(sorted({member.steps // 2, member.steps}))


DESIGN = Design("probes", (Measure("probe", 1, weight),), halves, halves)


DUE = Checkpoints.due


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    """A state every few looks, and no timing of steps."""
    looks = itertools.count(1)
    monkeypatch.setattr(Checkpoints, "due", lambda self: next(looks) % 20 == 0)
    monkeypatch.setattr(cores, "_POLL", 0.001)
    monkeypatch.setattr(sweep, "seconds_per_step", lambda member, device: 0.01)


@pytest.fixture(params=["cores", "stack"])
def backend(request, monkeypatch):
    monkeypatch.setattr(sweep, "default_backend", lambda device: request.param)
    return request.param


@pytest.fixture
def steps(monkeypatch):
    """How often the objective was called in training, rehearsals aside: the steps that were really taken."""
    taken, real = [], sweep.OBJECTIVES["beta"]

    def counted(params, images, *rest):
        if len(images) > 2:
            taken.append(1)
        return real(params, images, *rest)

    monkeypatch.setitem(sweep.OBJECTIVES, "beta", counted)
    return taken


def run(members, store, say=lambda line: None):
    return sweep.run(DESIGN, members, store, say=say)


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
    return sorted(path for path in store.root.glob("work/??/*/*") if path.name[0].isdigit())


def test_a_sweep_goes_on_from_its_last_state_to_the_same_bits(store, place, backend, monkeypatch, steps):
    members = [member(beta, steps=200) for beta in (0.1, 1)]
    whole = Store(place / "whole")
    run(members, whole)
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(members, store)
    assert not list(store.keys())
    assert states(store)
    begun = 2
    if backend == "cores":
        begun = sum(has_state(store, [m], "cpu", backend) for m in members)
    said = sweep.report(DESIGN, plan(DESIGN, members, store), "cpu", store)
    assert f"({begun} of them have a checkpoint)" in said
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
    said = []
    run(long, store, said.append)
    assert len(steps) == 60 * (2 if backend == "cores" else 1)
    whole = Store(place / "whole")
    run(long, whole)
    same(store, whole, long)
    assert "have a checkpoint" in said[0]


def test_a_state_that_lacks_a_snapshot_that_is_asked_for_is_no_start(store, steps):
    """A half of 90 steps is no snapshot of the run of 60: that one cannot be lengthened."""
    run([member(steps=60)], store)
    steps.clear()
    run([member(steps=90)], store)
    assert len(steps) == 90


def test_a_longer_run_answers_for_the_shorter_one(store, place, steps):
    long, short = member(steps=50), member(steps=30)  # three fifths
    kept = Design("probes", DESIGN.measures, lambda m: sweep.fifths(m.steps), lambda m: sweep.fifths(m.steps))
    sweep.run(kept, [long], store, say=lambda line: None)
    steps.clear()
    said = []
    assert plan(kept, [short], store).shorter == {short: long}
    sweep.run(kept, [short], store, say=said.append)
    assert not steps
    assert "1 are snapshots of longer runs" in said[0]
    whole = Store(place / "whole")
    sweep.run(kept, [short], whole, say=lambda line: None)
    here, there = store.weights(short.key, 30), whole.weights(short.key, 30)
    assert all(torch.equal(here[name], there[name]) for name in there)
    # What the longer run kept on its way: 10, 20 and 30 steps, of which the shorter asks for the last alone.
    last = [row for row in whole.measure(short.key, "probe", 1) if row["step"] == 30]
    assert store.measure(short.key, "probe", 1) == last
    assert store.record(short.key)["beginning_of"] == long.key
    assert plan(kept, [short], store).known == [short]
    assert not plan(kept, [dataclasses.replace(short, steps=31)], store).shorter


def keeper(store, one=None, snapshots=(30, 60), said=None):
    say = ([] if said is None else said).append
    return Checkpoints(store, [one or member(steps=60)], [*snapshots], "cpu", "cores", say)


def written(store, n=4):
    """A store with `n` states of a member that was stopped on its way, and the state that the last of them is."""
    made = keeper(store)
    model = member().build()
    for step in range(40, 40 + n):
        tensors = {"step": torch.tensor(step), "history.step": torch.tensor([], dtype=torch.int64)}
        tensors |= {f"model.{name}": value + step for name, value in model.state_dict().items()}
        state = cores.State({f"0.{name}": value for name, value in tensors.items()}, text={"backend": "cores"})
        state.snapshots[0, 30] = model.state_dict()
        made.save(state)
    return state


def test_the_newest_two_states_are_kept_and_a_snapshot_is_written_once(store):
    last = written(store, 5)
    assert [path.name.split("-")[0] for path in states(store)] == ["43", "44"]
    (snapshot,) = store.root.glob("work/??/*/snapshot-*")
    found = keeper(store).latest()
    assert found.tensors.keys() == last.tensors.keys()
    assert all(torch.equal(found.tensors[name], last.tensors[name]) for name in last.tensors)
    assert all(torch.equal(v, last.snapshots[0, 30][n]) for n, v in found.snapshots[0, 30].items())
    finished = keeper(store)
    finished.done()
    assert [path.name.split("-")[0] for path in states(store)] == ["44"]
    assert snapshot.exists()


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "gone"])
@pytest.mark.parametrize("what", ["state", "snapshot"])
def test_what_is_damaged_is_named_and_never_used(store, harm, what):
    written(store)
    path = states(store)[-1] if what == "state" else next(store.root.glob("work/??/*/snapshot-*"))
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
        said = []
        found = keeper(store_here, said=said).latest()
        if what == "state":
            assert int(found.tensors["0.step"]) == 42
        else:
            assert found is None
        if harm != "gone":
            assert path.name[:20] in said[0]
            assert "damaged" in said[0]
            assert any(hurt.name in q.name for q in (store_here.root / "quarantine").iterdir())


def test_a_state_of_another_model_is_refused_though_its_hash_is_right(store):
    written(store)
    said = []
    other = member(steps=60, model_args={"depth": 1, "hidden": 5, "latent_dim": 2})
    mine, theirs = keeper(store), keeper(store, other, said=said)
    shutil.move(mine.folders[0], theirs.folders[0])
    assert theirs.latest() is None
    assert "not those of the model" in said[0]


def test_states_beyond_the_end_are_left_alone(store):
    """A shorter run that is begun while a longer one waits neither takes its states nor deletes them."""
    written(store)
    shorter = keeper(store, member(steps=41), (20, 41))
    assert shorter.latest() is None  # 40 would do, but it was pruned; 42 and 43 lie beyond
    shorter.done()
    assert len(states(store)) == 2


def test_states_that_lead_elsewhere_are_neither_used_nor_counted(store):
    """States of 42 and 43 steps that lack the snapshot at 20 asked for now: the new ones, of fewer steps, stay."""
    last = written(store)
    other = keeper(store, snapshots=(20, 60))
    assert other.latest() is None
    tensors = {**last.tensors, "0.step": torch.tensor(5)}
    other.save(cores.State(tensors, {}, {"backend": "cores"}))
    assert [path.name.split("-")[0] for path in states(store)] == ["42", "43", "5"]
    assert int(keeper(store, snapshots=(20, 60)).latest().tensors["0.step"]) == 5


def test_a_stack_goes_on_as_it_was_composed(store, monkeypatch, steps):
    """What memory and time allow differs from day to day; its state is that of the members that it held."""
    monkeypatch.setattr(sweep, "default_backend", lambda device: "stack")
    members = [member(beta, steps=100) for beta in (0.1, 1, 2)]
    monkeypatch.setattr(sweep, "room", lambda member, device: 2)
    with monkeypatch.context() as patch:
        stopped_after(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            run(members, store)
    monkeypatch.setattr(sweep, "room", lambda member, device: 8)
    steps.clear()
    run(members, store)
    assert [store.record(m.key)["fleet"] for m in members] == [2, 2, 1]
    assert len(steps) == (100 - 40) + 100


def test_what_earlier_sessions_took_is_counted(store, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    made = keeper(store)
    now[0] = 30.0
    made.save(cores.State({"0.step": torch.tensor(1)}, {}, {"backend": "cores"}))
    later = keeper(store)
    monkeypatch.setattr(later, "_check", lambda state: None)
    assert later.latest() is not None
    now[0] = 37.0
    assert later.spent(0) == pytest.approx(37.0)


def test_when_a_state_is_due(monkeypatch, store):
    monkeypatch.setattr(Checkpoints, "due", DUE)
    now = [0.0]
    monkeypatch.setattr(checkpoints.time, "monotonic", lambda: now[0])
    made = keeper(store)
    now[0] = 59.0
    assert not made.due()
    now[0] = 60.0
    assert made.due()
    monkeypatch.setattr(made, "_write", lambda *_: now.__setitem__(0, now[0] + 2.0))
    made.save(cores.State({"0.step": torch.tensor(1)}, {}, {"backend": "cores"}))
    for later, due in ((99.0, False), (100.0, True)):  # fifty times the two seconds that it took
        now[0] = 62.0 + later
        assert made.due() is due


def test_a_fleet_that_memory_does_not_hold_is_trained_as_two(store, monkeypatch):
    monkeypatch.setattr(sweep, "default_backend", lambda device: "stack")
    monkeypatch.setattr(sweep, "room", lambda member, device: 8)
    real, sizes = sweep.train_fleet, []

    def narrow(make, objective, members, *args, **how):
        sizes.append(len(members))
        if len(members) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(make, objective, members, *args, **how)

    monkeypatch.setattr(sweep, "train_fleet", narrow)
    said = []
    members = [member(beta) for beta in (0.1, 1, 2, 3, 4)]
    run(members, store, said.append)
    assert sizes == [5, 3, 2, 1, 2]
    assert sum("out of memory" in line for line in said) == 2
    assert all(m.key in store for m in members)
    assert store.record(members[0].key)["fleet"] == 2
    monkeypatch.setattr(sweep, "train_fleet", lambda *_, **__: (_ for _ in ()).throw(MemoryError("no")))
    with pytest.raises(StoreError, match="one member does not fit"):
        run([member(9)], store)


def test_checkpoints_are_cleared_where_that_is_asked(store):
    written(store)
    assert not upkeep.leftovers(store)
    found = upkeep.leftovers(store, checkpoints=True)
    assert sum(map(upkeep.size_of, found)) > 1000
    upkeep.delete(found)
    assert keeper(store).latest() is None
