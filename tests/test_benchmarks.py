"""The benchmarks' arithmetic and tables, and that the contenders train the same thing. Speeds are not tested."""

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from tiny import member
from torch import nn

from benchmarks import fleet, gpu, measures, records, store, timing
from benchmarks.peers import dataloader, lightning, ours, plain, process
from benchmarks.peers.task import IMAGES, SETUPS, Task, examples, train_on
from benchmarks.records import Row
from vaekit.fleet import batch_indices
from vaekit.randomness import NOISE, normal
from vaekit.store import Store, maintenance
from vaekit.studies.rate_generalisation import SPEC
from vaekit.sweep import Measure


def test_contenders_take_turns_and_every_second_round_is_reversed():
    order = []
    seconds = timing.interleaved({name: lambda name=name: order.append(name) for name in "abc"}, 3)
    assert "".join(order) == "abccbaabc"
    assert {name: len(taken) for name, taken in seconds.items()} == {"a": 3, "b": 3, "c": 3}
    assert all(0 <= s < 1 for taken in seconds.values() for s in taken)
    # One that times itself:
    assert timing.interleaved({"own": lambda: 7.5}, 2) == {"own": [7.5, 7.5]}


def test_a_ratio_s_interval_is_the_t_interval_of_its_logarithm():
    interval = timing.ratio([2.0, 4.0, 8.0], [1.0, 1.0, 1.0])
    half = 4.302653 * math.log(2) / math.sqrt(3)  # t(0.975, 2), and the logs lie log 2 apart: their sd
    assert interval.median == 4
    assert interval.rounds == 3
    assert interval.low == pytest.approx(4 * math.exp(-half), rel=1e-6)
    assert interval.high == pytest.approx(4 * math.exp(half), rel=1e-6)
    drift = timing.ratio([3.0, 30.0, 300.0], [2.0, 20.0, 200.0])  # meets both, and cancels
    assert (drift.median, drift.low, drift.high) == pytest.approx((1.5, 1.5, 1.5))


def test_two_rounds_have_a_median_and_no_interval():
    estimate = timing.interval([1.0, 3.0])
    assert (estimate.median, estimate.rounds) == (2, 2)
    assert math.isnan(estimate.low)
    assert math.isnan(estimate.high)
    with pytest.raises(ValueError, match="zip"):
        timing.ratio([1.0, 2.0], [1.0])


def test_a_processor_is_read_with_its_instructions():
    cpuinfo = "processor\t: 0\nmodel name\t: Some CPU: 2\nflags\t\t: fpu avx2 avx512f avx512_bf16\nbogomips\t: 5\n\n"
    assert records._processor(2 * cpuinfo) == ("Some CPU: 2", {"fpu", "avx2", "avx512f", "avx512_bf16"})
    name, flags = records._processor("")
    assert name
    assert not flags


def test_tables_are_read_back_and_a_new_measurement_replaces_the_old(monkeypatch, tmp_path):
    monkeypatch.setattr(records, "RESULTS", tmp_path / "results")
    assert records.read("fleet") == []
    first = records.write(
        "fleet", [Row("a, 2", "x", "s", 1.5, 1.25, 2.0, 3, "a note, with a comma"), Row("b", "x", "s", 4)]
    )
    assert records.read("fleet")[0] == first[0]  # what the machine was stands with it
    assert first[0].machine
    (second,) = records.write("fleet", [Row("a, 2", "x", "s", 9.0, 8.0, 10.0, 5)])
    kept = records.read("fleet")
    assert [(row.case, row.value) for row in kept] == [("a, 2", 9), ("b", 4)]
    assert kept[0] == second
    assert math.isnan(kept[1].low)
    elsewhere = [replace(row, machine="another") for row in kept]
    assert {row.name for row in elsewhere}.isdisjoint(row.name for row in kept)  # machines do not replace each other


@pytest.mark.parametrize("setup", SETUPS)
def test_every_setup_has_examples_and_a_loss(setup):
    task = Task(setup, 2, 1, 1)
    images, labels = examples(task.of.image_shape)
    assert (images.dtype, images.shape[1:]) == (torch.uint8, task.of.image_shape)
    assert (labels.min(), labels.max()) == (0, 9)
    assert images.float().std(0).max() > 10
    assert len({frozenset(member.weights.items()) for member in task.fleet()}) == 2
    module, _ = next(iter(task.modules()))
    assert {type(layer).__module__.split(".")[0] for layer in module.modules() if layer is not module} == {"torch"}


def test_the_plain_loop_fed_with_our_batches_and_noise_is_train_fleet():
    task = Task("tiny", 2, 20, 1, backend="cores")
    images, labels = (part[:IMAGES] for part in examples(task.of.image_shape))

    class Fed(nn.Module):
        """A model that takes our noise, whatever it is given."""

        def __init__(self, module, seed):
            super().__init__()
            self.module, self.noise_sites, self.seed, self.step = module, module.noise_sites, seed, 0

        def forward(self, x, noise):
            draws = normal(self.seed, NOISE, self.step, "z", tuple(noise["z"].shape))
            self.step += 1
            return self.module(x, {"z": draws})

    for seed, ((module, weights), trained) in enumerate(zip(task.modules(), ours.prepare(task)(), strict=True)):
        index = [batch_indices(seed, IMAGES, 128, step) for step in range(task.steps)]
        batches = [(images[i].float().div_(255), labels[i]) for i in index]
        alone = train_on(task, batches, Fed(module, seed), weights).module
        gap = max((a - b).abs().max() for a, b in zip(alone.parameters(), trained.parameters(), strict=True))
        assert gap < 1e-5


@pytest.mark.parametrize("peer", [plain, dataloader])
def test_peers_of_this_environment_end_where_train_fleet_does(peer):
    task = Task("tiny", 2, 120, 1)
    torch.manual_seed(0)
    start = task.losses(module for module, _ in task.modules())
    reached = task.losses(ours.prepare(task)())
    other = task.losses(peer.prepare(task)())
    for before, a, b in zip(start, reached, other, strict=True):
        assert a < 0.5 * before  # there is something to agree on
        assert b == pytest.approx(a, rel=0.05)
        assert b != a  # batches and noise of its own


def test_a_peer_that_cannot_run_is_a_row_that_says_why(monkeypatch):
    class Refusing:
        def train(self, name, task):
            if name == "lightning":
                raise RuntimeError("no wheel\nfor this machine")
            return process.Outcome(0.5 * task.members, [3.0] * task.members)

    rows = fleet._contest(Task("tiny", 4, 10, 1), ("vaekit", "plain loop", "lightning"), "a case", 3, Refusing())
    by_name = {(row.contender, row.quantity): row for row in rows}
    assert math.isnan(by_name["lightning", "us/model-step"].value)
    assert by_name["lightning", "us/model-step"].note == "it did not run: no wheel"
    assert by_name["plain loop", "us/model-step"].value == pytest.approx(50_000)
    assert by_name["plain loop / vaekit", "ratio"].value == 1
    assert ("lightning / vaekit", "ratio") not in by_name


def test_an_environment_that_pip_refuses_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "EXTRA", tmp_path)
    refusal = subprocess.CompletedProcess([], 1, "", "looking\nERROR: no such thing\n")
    monkeypatch.setattr(process.subprocess, "run", lambda *_, **__: refusal)
    with pytest.raises(RuntimeError, match="lightning cannot be installed: ERROR: no such thing"):
        process.environment("lightning", lightning.REQUIREMENTS)
    assert not list(tmp_path.iterdir())


def test_cases_can_be_run_one_at_a_time():
    names = list(fleet.cases())
    assert [name for name in names if sum(name in other for other in names) > 1] == []


def test_importing_the_benchmarks_peers_imports_none_of_their_packages():
    program = (
        "import sys, benchmarks.fleet; assert not {'pytorch_lightning', 'pythae', 'torchvision'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("formulation", gpu.FORMULATIONS)
def test_the_gpu_s_benchmark_steps_a_stack_on_a_cpu_as_well(formulation):
    """All but the capture: the same stack, stepped so often as it is timed."""
    taken = gpu.seconds("tiny", "full", 3, formulation, rounds=2, device="cpu", steps=2, batch=8)
    assert len(taken) == 2
    assert all(second > 0 for second in taken)


def test_without_a_gpu_nothing_is_a_share_of_a_floor(monkeypatch):
    monkeypatch.setattr(gpu, "FLOORS", {("tiny", "full"): 1.0})
    monkeypatch.setattr(gpu, "FORMULATIONS", ("graph",))
    rows = [row for some in gpu.measure(1, device="cpu", sizes=(2,), steps=1) for row in some]
    assert [row.quantity for row in rows] == ["TB/s", "us/model-step"]
    assert rows[0].value > 0


def test_measures_are_summed_over_snapshots_but_the_exempt_one(monkeypatch):
    """Measures that take 1, 10, 100 and 1,000 s at the four kinds of snapshot of a member of 2,000 steps."""
    seconds = {"at the end": 1, "before the end": 10, "where weights are saved": 100, "else": 1_000}
    one = member(steps=2_000)
    design = replace(SPEC, measures=[Measure(name, 1, lambda *_: ()) for name in ("rates", "likelihood")])
    monkeypatch.setattr(measures, "examples_of", lambda *_: None)
    monkeypatch.setattr(measures, "_trained", lambda *_: (None, 3.0))
    monkeypatch.setattr(
        measures, "_seconds", lambda _, fleet, member, step, images: seconds[measures._kind(design, member, step)]
    )
    rows = {(row.contender, row.quantity): row for row in measures._shares("a case", design, one)}
    # Snapshots at 400, 800, 1,200, 1,600, 2,000, and at 100, 200, 500 and 1,000.
    wanted = 1 + 10 + 3 * 100 + 4 * 1_000
    assert rows["rates", "s"].value == rows["likelihood", "s"].value == rows["all measures", "s"].value == wanted
    assert rows["all measures", "share of training"].value == wanted / (3 * 2_000)
    assert rows["all measures", "share of training"].note == "without likelihood"


def test_a_study_s_share_counts_each_kind_of_member():
    """One measure takes 5 s; a member trains for 100 s; only those on the sub-grid of study 2 take 50 s more."""
    spent = {case: (55.0 if "on the sub-grid" in case else 5.0, 100.0) for case in measures._cases()}
    shares = {row.case: row.value for (row,) in measures._sums(spent)}
    grids, families = (
        [shares[case] for case in shares if kind in case] for kind in ("study 2, grid", "study 4, family")
    )
    assert grids == pytest.approx([(36 * 55 + 405 * 5) / (441 * 100)] * len(grids))
    assert families == pytest.approx([0.05] * len(families))
    assert len(grids) + len(families) == len(shares) >= 1
    half = {case: value for case, value in spent.items() if "off it" not in case and "pruned" not in case}
    assert not list(measures._sums(half))


def test_a_made_store_is_whole_and_opens(tmp_path):
    store.make(tmp_path, 100)
    opened = Store(tmp_path)
    assert not list(maintenance.damage(opened))
    assert len(list(opened.keys())) == 100
    seconds, megabytes, members, rows = store._opened(str(tmp_path))
    assert (members, rows) == (100, 100 * 99)
    assert seconds > 0
    assert megabytes > 0
