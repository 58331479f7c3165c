"""Where a training stands: what is told, by whom, how often; what ends it; and what a terminal and a notebook show."""

import io
import re
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from test_sweep import spec
from tiny import member

from vaekit import sweep
from vaekit.data import load
from vaekit.fleet import Budget, FleetMember, Newest, Progress, Stopped, progress, train_fleet
from vaekit.losses import beta_objective
from vaekit.models import DenseVAE
from vaekit.store import Store
from vaekit.sweep import plan, train

pytestmark = pytest.mark.usefixtures("place")
MEMBERS = [FleetMember(0, {"beta": 1.0}), FleetMember(1, {"beta": 4.0})]


@pytest.fixture
def often(monkeypatch):
    """Every step is told."""
    monkeypatch.setattr(progress, "EVERY", 0.0)


def trained(steps=250, members=MEMBERS, **how):
    images = load("tetrominoes").take(torch.arange(32))
    make = partial(DenseVAE, depth=1, hidden=4, latent_dim=2)
    return train_fleet(make, beta_objective, members, images, budget=Budget(steps, 8), **how)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    "how", [{"backend": "stack"}, {"backend": "cores"}, {"backend": "cores", "threads": 2}], ids=str
)
def test_a_fleet_tells_from_the_start_to_the_end(how):
    told, threads = [], set()
    fleet = trained(progress=lambda now: (told.append(now), threads.add(threading.current_thread())), **how)
    assert threads == {threading.current_thread()}
    assert (told[0].step, told[0].share, told[0].done, told[0].seconds_left) == (0, 0.0, 0, None)
    assert (told[-1].step, told[-1].steps, told[-1].share, told[-1].done) == (250, 250, 1.0, 2)
    assert {(now.phase, now.members, now.group, now.groups) for now in told} == {("training", 2, 1, 1)}
    shares = [now.share for now in told]
    assert shares == sorted(shares)
    for one, newest in zip(fleet, told[-1].newest, strict=True):
        assert newest.member is one.member
        assert newest.step == one.history["step"][-2] == 200  # the last window is not full
        for name in ("loss", "distortion", "rate"):
            assert newest.values[name] == pytest.approx(one.history[name][-2].item(), rel=1e-6)
    assert all(now.per_second > 0 for now in told[1:])
    assert told[-1].seconds_left == 0


def test_it_is_told_at_most_once_in_a_while_and_before_the_first_full_window(monkeypatch):
    for backend in ("cores", "stack"):
        told = []
        trained(60, progress=told.append, backend=backend)
        assert told[0].step == 0
        assert told[-1].newest[0].values["distortion"] > 0
        assert len(told) <= 4


@pytest.mark.parametrize("backend", ["stack", "cores"])
def test_nobody_is_told_where_that_is_asked(backend, capsys, monkeypatch):
    monkeypatch.setattr(progress, "_Lines", lambda say: pytest.fail("shown"))
    assert len(trained(20, progress=False, backend=backend)) == 2
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("backend", ["stack", "cores"])
def test_a_fleet_that_is_told_to_stop_is_stopped(backend):
    told = []
    with pytest.raises(Stopped, match=r"^stopped at \d+ %: nothing was kept$") as raised:
        trained(10**6, backend=backend, progress=told.append, stop=lambda: len(told) > 5)
    assert 0 < raised.value.share < 0.01
    assert len(trained(30, backend=backend, progress=False, stop=lambda: False)) == 2
    with pytest.raises(Stopped):
        trained(30, backend=backend, progress=False, stop=lambda: True)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("backend", ["stack", "cores"])
def test_a_sweep_in_another_thread_is_stopped_and_goes_on(store, place, monkeypatch, backend):
    for module in (plan, train):
        monkeypatch.setattr(module, "default_backend", lambda device: backend)
    members, told, ended, stop = [member(1, steps=300), member(2, steps=300)], [], [], threading.Event()

    def tell(now):
        told.append((threading.current_thread(), now))
        if now.step >= 120:
            stop.set()

    def work():
        try:
            sweep.run(spec(), members, store, progress=tell, say=lambda line: None, stop=stop.is_set)
        except Stopped as stopped:
            ended.append(stopped)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert {who for who, _ in told} == {thread}
    (stopped,) = ended
    assert 0.1 < stopped.share < 0.9
    assert str(stopped) == f"stopped at {100 * stopped.share:.0f} %: kept; the same command goes on from there"
    assert not list(store.keys())
    again = []
    sweep.run(spec(), members, store, progress=again.append, say=lambda line: None)
    assert again[0].share == pytest.approx(stopped.share)
    whole = Store(place / "whole")
    sweep.run(spec(), members, whole, progress=False, say=lambda line: None)
    for one in members:
        weights, alone = store.weights(one.key, 300), whole.weights(one.key, 300)
        assert all(torch.equal(weights[name], alone[name]) for name in alone)


@pytest.mark.usefixtures("often")
def test_a_sweep_tells_of_all_that_it_does(store):
    known, deep = member(3), {"depth": 2, "hidden": 4, "latent_dim": 2}
    sweep.run(spec(), [known], store, progress=False, say=lambda line: None)
    told, members = [], [known, member(1), member(2), member(1, model_args=deep, steps=40)]
    sweep.run(spec(2), members, store, progress=told.append, say=lambda line: None)
    assert [now.phase for now in told][:2] == ["measuring", "training"]
    assert told[-1].phase == "measuring"
    assert {(now.members, now.groups) for now in told} == {(4, 3)}
    assert [now.group for now in told] == sorted(now.group for now in told)
    assert [now.share for now in told] == sorted(now.share for now in told)
    assert told[-1].done == 3  # the last one is being measured
    assert told[-1].share == 1
    assert {newest.member for now in told if now.phase == "training" for newest in now.newest} == {*members[1:]}


def test_the_time_left_has_the_measures_in_it(store, monkeypatch):
    """As they took so far; where none was taken yet, the line says that they come on top."""
    monkeypatch.setattr(progress, "EVERY", 0.0)

    def take(model, member, step, images):
        time.sleep(0.2)
        yield from ()

    design = sweep.StudySpec("probes", (sweep.Measure("slow", 1, take),), lambda m: (10, 20), lambda m: (20,))
    for members, known in (([member(1), member(2)], False), ([member(beta) for beta in range(3, 13)], True)):
        told: list[Progress] = []
        sweep.run(design, members, store, progress=told.append, say=lambda line: None)
        first = next(now for now in told if now.seconds_left is not None)
        assert first.and_measures is not known
        assert (" and measures left" in first.line()) is not known
        if known:
            assert first.seconds_left >= 10 * 0.4
            assert sorted((now.seconds_left for now in told if now.seconds_left), reverse=True)[-1] < first.seconds_left


def test_measures_are_stopped_between_two_steps(store, monkeypatch):
    asked = []

    def take(model, member, step, images):
        asked.append(step)
        time.sleep(0.5)
        yield from ()

    monkeypatch.setattr(train, "_LOOK", 0.01)
    slow = sweep.Measure("slow", 1, take)
    design = sweep.StudySpec("probes", (slow,), lambda m: (10, 20), lambda m: (20,))
    with pytest.raises(Stopped):
        sweep.run(design, [member()], store, progress=False, say=lambda line: None, stop=lambda: bool(asked))
    assert asked == [10]
    assert not list(store.keys())
    sweep.run(design, [member()], store, progress=False, say=lambda line: None)
    assert list(store.keys()) == [member().key]


# Who shows it


NOW = Progress(
    "training", 12_000, 20_000, 3, 10, 0.52, 812.34, 725.0,
    (Newest(FleetMember(0, {"beta": 0.1}), 12_000, {"loss": 63.0, "distortion": 61.25, "rate": 14.125}),),
    group=2, groups=3,
)  # fmt: skip


def test_a_line_has_all_of_it():
    line = (
        "training kind 2 of 3, step 12,000 of 20,000, 812 steps/s, D 61.25, R 14.12, 12 min left, 3 of 10 members done"
    )
    assert NOW.line() == line


def test_a_notebook_has_a_bar_and_a_row_for_each_member():
    shown = NOW.html()
    assert '<progress value="0.5200"' in shown
    assert "52 %" in shown
    assert "<td>beta 0.1, seed 0</td><td>12,000</td><td>61.25</td><td>14.12</td>" in shown


def test_a_terminal_has_one_line_that_goes_again(monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    said = []
    with progress.shown(None, lambda line: said.append((line, terminal.getvalue()))) as (tell, say):
        assert tell
        tell(NOW)
        say("a line between")
        tell(NOW)
    ((line, before),) = said
    assert line == "a line between"
    assert before.startswith("\r 52 % [##########..........] training kind 2 of 3")
    assert re.search(r"\r +\r$", before)
    assert "\n" not in terminal.getvalue()
    assert re.search(r"\r +\r$", terminal.getvalue())


def test_a_log_has_a_line_a_minute(monkeypatch):
    clock, lines = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    with progress.shown(None, lines.append) as (tell, say):
        assert tell
        assert say == lines.append
        for _ in range(301):
            tell(NOW)
            clock.now += 1
    assert lines == [NOW.line()] * 5
