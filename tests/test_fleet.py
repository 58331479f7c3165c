"""Fleets: what becomes of a member depends on its own settings alone, and is what a plain training loop gives.

A bias in front of a BatchNorm moves nothing: its gradient is zero but for rounding, which Adam scales up to steps of
full size. Where backends, whose rounding differs, are compared, these biases and the running means that follow them are
left out; everything that the model computes with is compared. (At beta = 0 the bias of mu is one more such bias.)
"""

import dataclasses
import gc
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextlib import contextmanager
from itertools import count, pairwise
from typing import ClassVar

import pytest
import torch
from torch import nn

from vaekit import randomness
from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import (
    Budget,
    FleetMember,
    batch_indices,
    default_backend,
    grid,
    memory,
    new_model,
    stack,
    train_fleet,
)
from vaekit.fleet.stepping import Draws, Task
from vaekit.losses import beta_objective, hierarchical_warmup_objective, mi_kl_objective, rate
from vaekit.models import GHVAE, LVAE, ConvVAE, DenseVAE

N, SHAPE = 60, (1, 8, 8)
IMAGES = (randomness.uniform(0, randomness.FACTORS, 0, "test images", (N, *SHAPE)) * 256).to(torch.uint8)
LARGER = (randomness.uniform(1, randomness.FACTORS, 0, "test images", (N, 1, 28, 28)) * 256).to(torch.uint8)
BACKENDS = ("cores", "stack")
PRECISIONS = ("full", "bf16")
torch.optim.Adam([torch.zeros(1)])  # a process's first imports torch's compiler, in a cycle that holds what called it


def dense():
    return DenseVAE(SHAPE, 1, 16, 3)


def conv():
    return ConvVAE(SHAPE, 2, (4, 6), 3, "gaussian", 0.3, batch_norm=True, slope=0.2)


def ghvae():
    return GHVAE((1, 28, 28), 2, 3)


def lvae():
    return LVAE((1, 28, 28), 2, 3)


def two_rates(params, images, labels, weights, progress):
    """A beta of either layer, and a warm-up that differs between members, from the one beta that `seven` have."""
    both = {"beta2": weights["beta"], "beta1": 1 / weights["beta"], "warmup": 20 * weights["beta"]}
    return hierarchical_warmup_objective(params, images, labels, both, progress)


class Recurrent(nn.Module):
    """A VAE that uses one layer four times, with noise of two sites."""

    def __init__(self):
        super().__init__()
        self.noise_sites = {"z": (3,), "input": (64,)}
        self.again, self.mu, self.out = nn.Linear(64, 64), nn.Linear(64, 3), nn.Linear(3, 64)

    def forward(self, x, noise):
        h = x.flatten(1) + 0.1 * noise["input"]
        for _ in range(4):
            h = self.again(h).relu()
        q = Gaussian(self.mu(h), self.mu(h).detach() * 0)
        return {"z": q, "x": Bernoulli(self.out(q.sample(noise["z"])).unflatten(1, SHAPE))}


def seven():
    """The member under test is the fourth; its siblings differ in everything that a member may differ in."""
    subset = torch.arange(5, 55)
    return [
        FleetMember(7, {"beta": 4.0}),
        FleetMember(1, {"beta": 1.0}, torch.arange(20)),
        FleetMember(3, {"beta": 0.1}, subset),
        FleetMember(3, {"beta": 1.0}, subset),
        FleetMember(3, {"beta": 1.0}),
        FleetMember(2**62 + 1, {"beta": 0.01}),
        FleetMember(5, {"beta": 30.0}, torch.tensor([1, 1, 2])),
    ]


def train(make_model, members, steps=50, batch_size=12, precision="fp64", snapshots=(), period=None, **arguments):
    objective, images = (two_rates, LARGER) if make_model in (ghvae, lvae) else (beta_objective, IMAGES)
    objective, images = arguments.pop("objective", objective), arguments.pop("images", images)
    budget = Budget(steps, batch_size, precision=precision, snapshots=snapshots, period=period)
    return train_fleet(make_model, objective, members, images, budget=budget, **arguments)


def difference(a, b, leave_out=()):
    """The largest relative difference of two state dicts; 0 only where they agree bit for bit."""
    assert a.keys() == b.keys()
    names = [name for name in a if name not in leave_out and not torch.equal(a[name], b[name])]
    return max(
        (((a[n].double() - b[n].double()).norm() / a[n].double().norm().clamp(min=1e-300)).item() for n in names),
        default=0.0,
    )


def same(one, other):
    """Whether two members went the same way, bit for bit."""
    return (
        (one.status, one.reason) == (other.status, other.reason)
        and one.snapshots.keys() == other.snapshots.keys()
        and all(difference(one.snapshots[s], other.snapshots[s]) == 0 for s in one.snapshots)
        and one.history.keys() == other.history.keys()
        and all(torch.equal(one.history[name], other.history[name]) for name in one.history)
    )


def behind_batch_norm(model):
    """Names of biases in front of a BatchNorm, and of the running means that these biases shift."""
    named = list(model.named_modules())
    return [
        name
        for (first, _), (norm, module) in pairwise(named)
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
        for name in (f"{first}.bias", f"{norm}.running_mean")
    ]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("make_model", [dense, conv, ghvae, lvae])
def test_cores_a_member_is_bit_for_bit_the_same_in_any_company(make_model, precision):
    members = seven()
    steps = 12 if make_model in (ghvae, lvae) else 30
    settings = {"precision": precision, "snapshots": (10,), "steps": steps, "backend": "cores"}
    (alone,) = train(make_model, members[3:4], threads=1, **settings)
    for threads in (1, 4):
        assert same(train(make_model, members, threads=threads, **settings)[3], alone)


def test_cores_the_members_that_fill_no_round_take_turns():
    """Three on two cores: none is stepped alone at the end, while a core is idle."""
    seen = []

    def watched(params, images, labels, weights, progress):
        seen.append((float(weights["beta"]), int(progress)))
        return beta_objective(params, images, labels, weights, progress)

    members = grid(beta=[1.0, 2.0, 3.0])
    turns = train(dense, members, steps=300, objective=watched, backend="cores", threads=2)
    first_end = min(seen.index((beta, 299)) for beta in (1.0, 2.0, 3.0))
    assert all((beta, 100) in seen[:first_end] for beta in (1.0, 2.0, 3.0))  # else the third had not begun by then
    alone = train(dense, members, steps=300, backend="cores", threads=1)
    assert all(same(a, b) for a, b in zip(turns, alone, strict=True))


def test_a_fleet_smaller_than_the_machine_shares_its_threads_unless_its_bits_matter():
    seen = set()

    def watched(*given):
        seen.add(torch.get_num_threads())
        return beta_objective(*given)

    def threads(members, **how):
        seen.clear()
        train(conv, grid(seed=range(members), beta=1.0), steps=2, objective=watched, backend="cores", **how)
        return seen - {4}, 4 in seen  # the check of a forward pass sees all

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        assert threads(1) == (set(), True)
        assert threads(2) == ({2}, True)
        assert threads(5) == ({1}, True)
        assert (
            threads(1, checkpointers=[Memory()]) == threads(1, threads=4) == threads(1, threads_each=1) == ({1}, True)
        )
    finally:
        torch.set_num_threads(before)


def test_cores_autocast_s_shared_cache_does_not_couple_members():
    # Autocast caches its bf16 copies of weights for the whole process, and any thread's exit empties that cache. A
    # weight used more than once then adds up its gradient in bf16 or in float32, as the other threads happen to run.
    members = grid(seed=range(4), beta=1)
    settings = {"precision": "bf16", "steps": 60, "backend": "cores"}
    together = train(Recurrent, members, threads=4, **settings)
    assert all(same(train(Recurrent, [m], threads=1, **settings)[0], t) for m, t in zip(members, together, strict=True))


@pytest.mark.parametrize("make_model", [dense, conv, Recurrent, ghvae, lvae])
def test_stack_in_float64_is_the_member_alone_and_the_cores_backend(make_model):
    members, steps = seven(), 25 if make_model in (ghvae, lvae) else 50
    (alone,) = train(make_model, members[3:4], steps, backend="stack")
    stack = train(make_model, members, steps, backend="stack")
    cores = train(make_model, members, steps, backend="cores", threads=2)
    leave_out = behind_batch_norm(make_model())
    assert len(leave_out) == (8 if make_model is conv else 0)
    assert difference(stack[3].snapshots[steps], alone.snapshots[steps], leave_out) <= 1e-12
    for s, c in zip(stack, cores, strict=True):
        assert difference(s.snapshots[steps], c.snapshots[steps], leave_out) <= 1e-12
        assert s.history.keys() == c.history.keys() >= {"step", "loss", "rate", "distortion"}
        for name in s.history:
            torch.testing.assert_close(s.history[name], c.history[name], rtol=1e-11, atol=1e-11)


def test_batch_norm_s_buffers_are_each_member_s_own():
    for backend in BACKENDS:
        trained = train(conv, seven(), steps=20, backend=backend, threads=2)
        state = trained[3].snapshots[20]
        assert state["encoder.1.num_batches_tracked"] == 20
        assert state["encoder.1.running_var"].shape == (4,)
        assert difference(state, trained[4].snapshots[20]) > 1e-3
        x = IMAGES[:5].double() / 255
        model = trained.model(3)
        assert torch.allclose(model.encode(x[:2]).mu, model.encode(x).mu[:2], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("period", [None, 4, 23])
@pytest.mark.parametrize("make_model", [dense, conv])
def test_a_member_is_what_a_plain_training_loop_gives(make_model, period, backend):
    """With a period, its steps see what those of the first period see, and draw the same noise."""
    member = FleetMember(3, {"beta": 0.5}, torch.arange(10, 47))
    (trained,) = train(make_model, [member], steps=30, period=period, backend=backend, threads=1)
    model = new_model(make_model, 3).double().train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    endless = torch.cat([randomness.permutation(3, randomness.ORDER, epoch, 37) for epoch in range(10)])
    losses = []
    for step in range(30):
        like = step % period if period else step
        x = IMAGES[10 + endless[12 * like : 12 * like + 12]].double() / 255
        noise = {"z": randomness.normal(3, randomness.NOISE, like, "z", (12, 3), torch.float64)}
        params = model(x, noise)
        kl = 0.5 * (params["z"].mu ** 2 + params["z"].logvar.exp() - 1 - params["z"].logvar).sum()
        loss = (-params["x"].log_prob(x).sum() + 0.5 * kl) / 12
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert difference(trained.snapshots[30], model.state_dict(), behind_batch_norm(model)) <= 1e-12
    assert trained.history["loss"].tolist() == pytest.approx([sum(losses) / 30], rel=1e-12)
    assert trained.history["step"].tolist() == [30]


@pytest.mark.parametrize(("period", "batch_size"), [(1, 100), (5, 12), (16, 4), (37, 12)])
def test_batches_and_noise_come_again_after_a_period(period, batch_size):
    """Those of the first are the ones without a period, of members of several seeds and subsets side by side."""
    members = [FleetMember(3), FleetMember(2**40, indices=torch.arange(20))]

    def drawn(of):
        task = Task(dense, beta_objective, IMAGES, None, Budget(1, batch_size, period=of), None)
        draws = Draws(task, members, {"z": (3,)})
        seen = []
        for step in range(3 * period + 20):
            place = draws.ready(step)
            seen.append((draws.rows[:, place].clone(), draws.noise["z"][place].clone()))
        return seen

    fresh, again = drawn(None), drawn(period)
    for step, (rows, noise) in enumerate(again):
        assert torch.equal(rows, fresh[step % period][0])
        assert torch.equal(noise, fresh[step % period][1])
        assert step < period or not torch.equal(noise, fresh[step][1])


def test_an_epoch_without_learning_has_the_same_losses_each_time():
    losses = []

    def objective(params, images, labels, weights, progress):
        values = beta_objective(params, images, labels, weights, progress)
        losses.append(values["loss"].mean().item())
        return values

    for period in (None, 5):
        budget = Budget(15, 12, lr=0.0, precision="fp64", period=period)
        train_fleet(dense, objective, [FleetMember(3, {"beta": 1.0})], IMAGES, budget=budget, backend="cores")
    fresh, frozen = losses[-32:-17], losses[-15:]  # two calls more try each model
    assert frozen == frozen[:5] * 3
    assert frozen[:5] == fresh[:5]
    assert len({*fresh}) == 15


def nan_from(params, images, labels, weights, progress):
    """Beta's objective, whose loss is NaN from the step that `nan` names, and only there (no branch: vmap sees it)."""
    values = beta_objective(params, images, labels, weights, progress)
    return values | {"loss": torch.where(progress >= weights["nan"], torch.nan, values["loss"])}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("precision", ["full", "fp64"])
def test_a_nan_stays_at_home(backend, precision):
    well = [FleetMember(s, {"beta": b, "nan": 1e9}) for s, b in ((0, 1.0), (1, 1.0), (1, 0.1))]
    settings = {"objective": nan_from, "backend": backend, "precision": precision, "snapshots": (5, 10, 20)}
    ill = [well[0], FleetMember(1, {"beta": 1.0, "nan": 13.0}), well[2]]
    before, after = (train(dense, m, steps=120, threads=2, **settings) for m in (well, ill))
    assert same(before[0], after[0])
    assert same(before[2], after[2])
    sick = after[1]
    assert sick.status == "diverged"
    assert sick.reason == "the loss of step 13 was not finite"
    assert list(sick.snapshots) == [5, 10]
    assert all(difference(sick.snapshots[s], before[1].snapshots[s]) == 0 for s in (5, 10))
    assert sick.history["step"].tolist() == []
    assert all(p.isfinite().all() for p in after.model(1).parameters())
    with pytest.raises(KeyError, match=r"diverged.*\[5, 10\]"):
        after.model(1, 20)


@pytest.mark.parametrize("backend", BACKENDS)
def test_parts_of_the_rate_couple_a_batch_s_images_and_never_members(backend):
    weights = [{"mi": mi, "kl": kl} for mi, kl in ((1.0, 1.0), (1.0, 0.0), (0.0, 1e300), (0.0, 1.0))]
    members = [FleetMember(seed, each) for seed, each in zip((1, 1, 1, 2), weights, strict=True)]
    settings = {"objective": mi_kl_objective, "backend": backend, "steps": 30, "precision": "full", "threads": 2}
    together = train(dense, members, **settings)
    assert [trained.status for trained in together] == ["finished", "finished", "diverged", "finished"]
    names = {"step", "loss", "distortion", "mutual_information", "marginal_kl"}
    for i in (0, 1, 3):
        (alone,) = train(dense, members[i : i + 1], **settings)
        assert difference(together[i].snapshots[30], alone.snapshots[30]) <= (0 if backend == "cores" else 1e-4)
        assert together[i].history.keys() == names
        assert 0 < together[i].history["mutual_information"].item() <= torch.tensor(12.0).log()


def steep_from(params, images, labels, weights, progress):
    """A loss that stays finite while its gradient is infinite from step `steep` on."""
    values = beta_objective(params, images, labels, weights, progress)
    spike = torch.where(progress >= weights["steep"], values["loss"] * 0, 1.0).sqrt()
    return values | {"loss": values["loss"] + spike}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("steep", "kept", "ends"), [(119, [50, 110], [100]), (109, [50], [100]), (49, [], [])])
def test_weights_that_are_not_finite_are_no_snapshot(backend, steep, kept, ends):
    members = [FleetMember(0, {"beta": 1.0, "steep": float(steep)}), FleetMember(0, {"beta": 1.0, "steep": 1e9})]
    ill, well = train(dense, members, steps=120, snapshots=(50, 110), objective=steep_from, backend=backend, threads=2)
    assert (ill.status, ill.reason) == ("diverged", f"the weights after step {steep + 1} were not finite")
    assert list(ill.snapshots) == kept
    assert ill.history["step"].tolist() == ends  # the same with both backends: whole windows from before
    assert well.status == "finished"
    assert well.history["step"].tolist() == [100, 120]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_longer_run_passes_through_the_shorter_one(backend):
    members = grid(seed=[0, 1], beta=[0.1, 1.0])
    longer = train(dense, members, steps=120, snapshots=(30, 100), backend=backend, precision="full")
    for steps in (30, 100):
        shorter = train(dense, members, steps=steps, backend=backend, precision="full")
        for a, b in zip(longer, shorter, strict=True):
            assert list(b.snapshots) == [steps]
            assert difference(a.snapshots[steps], b.snapshots[steps]) == 0
    for a, b in zip(longer, shorter, strict=True):  # a row of history is the mean of its own hundred steps
        assert a.history["step"].tolist() == [100, 120]
        assert all(a.history[name][0] == b.history[name][0] for name in a.history)


@pytest.mark.parametrize("batch_size", [1, 7, 12, 24, 25, 36])
def test_every_image_is_seen_equally_often(batch_size):
    size, epochs = 12, 4 * batch_size
    orders = {}
    batches = [batch_indices(3, size, batch_size, step, orders=orders) for step in range(4 * size)]
    assert all(len(b) == batch_size for b in batches)
    assert torch.equal(torch.cat(batches).bincount(minlength=size).unique(), torch.tensor([epochs]))
    alone = [batch_indices(3, size, batch_size, step) for step in range(len(batches))]
    assert all(torch.equal(a, b) for a, b in zip(batches, alone, strict=True))  # what is kept changes nothing
    assert len(orders) <= -(-batch_size // size) + 2  # and stays small
    seen = torch.cat(batches).unflatten(0, (-1, size))
    assert torch.equal(seen.sort(1).values.unique(dim=0), torch.arange(size)[None])  # whole epochs
    assert len(seen.unique(dim=0)) > epochs * 0.9  # each in an order of its own


@pytest.mark.parametrize("backend", BACKENDS)
def test_objectives_get_labels_and_may_couple_the_images_of_a_batch(backend):
    labels = torch.arange(N)

    def objective(params, images, labels, weights, progress):
        values = beta_objective(params, images, labels, weights, progress)
        mu = params["z"].mu
        pairs = -((mu[:, None] - mu[None]) ** 2).sum(-1)
        coupled = pairs.logsumexp(1)  # what a marginal KL asks of a batch
        brightest = images.flatten(1).sum(1) - SUMS[labels]
        return {"loss": values["loss"] + weights["beta"] * coupled, "coupled": coupled, "mismatch": brightest.abs()}

    members = seven()
    (alone,) = train(dense, members[3:4], steps=20, objective=objective, labels=labels, backend=backend)
    trained = train(dense, members, steps=20, objective=objective, labels=labels, backend=backend, threads=2)
    assert difference(alone.snapshots[20], trained[3].snapshots[20]) <= (0 if backend == "cores" else 1e-12)
    assert alone.history["mismatch"].item() < 1e-9  # each image came with its own label
    assert alone.history["coupled"].item() > 0


SUMS = (IMAGES.double() / 255).flatten(1).sum(1)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("ending", [None, RuntimeError, KeyboardInterrupt])
def test_torch_s_global_state_is_left_alone_and_an_end_is_prompt(backend, ending):
    calls = iter(range(10**9))

    def objective(params, images, labels, weights, progress):
        if ending and next(calls) == 20:
            raise ending("in the objective")
        return beta_objective(params, images, labels, weights, progress)

    def state():
        switches = (torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.is_autocast_cache_enabled())
        return torch.get_num_threads(), torch.get_default_dtype(), switches, torch.get_rng_state().tolist()

    images = IMAGES.clone()
    torch.set_num_threads(2)
    before, start = state(), time.monotonic()
    arguments = {"objective": objective, "backend": backend, "threads": 3, "images": images, "precision": "bf16"}
    if ending:
        with pytest.raises(ending, match="in the objective"):
            train(dense, grid(seed=range(6), beta=1), steps=100_000, **arguments)
        assert time.monotonic() - start < 20  # the whole would take minutes
    else:
        train(dense, grid(seed=range(6), beta=1), steps=5, **arguments)
    assert state() == before
    assert torch.equal(images, IMAGES)


def test_a_start_reseeds_no_gpu_s_generator(monkeypatch):
    reseeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
    new_model(dense, 4)
    assert not reseeded


def test_the_start_is_the_seed_s_or_what_is_given():
    same_seed = [new_model(dense, 4).state_dict() for _ in range(2)]
    assert difference(*same_seed) == 0
    assert difference(same_seed[0], new_model(dense, 5).state_dict()) > 0.1
    untrained = Budget(1, 12, lr=0.0, precision="fp64")
    (trained,) = train(dense, [FleetMember(4, {"beta": 1.0})], steps=5)
    for backend in BACKENDS:
        for start in (trained.snapshots[5], None):
            member = FleetMember(4, {"beta": 1.0}, start=start)
            (kept,) = train_fleet(dense, beta_objective, [member], IMAGES, budget=untrained, backend=backend)
            assert difference(kept.snapshots[1], start or new_model(dense, 4).double().state_dict()) == 0


class Odd(DenseVAE):
    """A frozen weight, a weight of two names, and a buffer that is not saved."""

    def __init__(self):
        super().__init__(SHAPE, 1, 16, 3)
        self.logvar.weight = self.mu.weight
        self.decoder[0].weight.requires_grad_(False)
        self.register_buffer("scratch", torch.ones(2), persistent=False)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frozen_and_tied_weights_and_unsaved_buffers(backend):
    member = FleetMember(0, {"beta": 1.0})
    trained = train(Odd, [member, member], steps=10, backend=backend)
    state, start = trained[1].snapshots[10], new_model(Odd, 0).double().state_dict()
    assert state.keys() == start.keys()
    assert torch.equal(state["decoder.0.weight"], start["decoder.0.weight"])
    assert torch.equal(state["mu.weight"], state["logvar.weight"])
    assert not torch.equal(state["mu.weight"], start["mu.weight"])
    assert torch.equal(trained.model(1).mu.weight, state["mu.weight"])
    assert difference(state, train(Odd, [member], steps=10, backend="cores")[0].snapshots[10]) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "dtype"), [("fp64", torch.float64), ("full", torch.float32),
                                                  ("bf16", torch.float32)])  # fmt: skip
def test_precision(backend, precision, dtype):
    seen = []

    def objective(params, images, labels, weights, progress):
        seen.extend((params["x"].logits.dtype, params["z"].mu.dtype, images.dtype, weights["beta"].dtype))
        return beta_objective(params, images, labels, weights, progress)

    members = grid(seed=[0, 1], beta=1.0)
    trained = train(dense, members, objective=objective, precision=precision, backend=backend)
    assert set(seen) == {dtype}  # never a loss in bf16
    state = trained[0].snapshots[50]
    assert {v.dtype for v in state.values()} == {dtype}
    gap = difference(state, train(dense, members, backend=backend)[0].snapshots[50])
    low, high = {"fp64": (0, 0), "full": (1e-9, 1e-3), "bf16": (1e-5, 0.1)}[precision]
    assert low <= gap <= high


def test_fleet_gives_models_back_and_training_helps():
    members = grid(seed=[0, 3], beta=[0.1, 4.0])
    assert [(m.seed, m.weights["beta"]) for m in members] == [(0, 0.1), (0, 4.0), (3, 0.1), (3, 4.0)]
    trained = train(dense, members, steps=300, snapshots=(100, 200), precision="full")
    assert len(trained) == 4
    assert (trained.backend, trained.budget.steps) == ("stack", 300)
    assert [list(t.snapshots) for t in trained] == [[100, 200, 300]] * 4
    for step in (100, 300, None):
        model = trained.model(2, step)
        assert not model.training
        assert difference(model.state_dict(), trained[2].snapshots[step or 300]) == 0
    model.mu.weight.data.zero_()  # a model that is given is one's own
    assert trained.model(2).mu.weight.abs().max() > 0
    for t in trained:
        assert t.history["loss"][0] > t.history["loss"][-1]
        total = t.history["distortion"] + t.member.weights["beta"] * t.history["rate"]
        torch.testing.assert_close(t.history["loss"], total, rtol=1e-5, atol=0)
    assert trained[0].history["rate"][-1] > trained[1].history["rate"][-1]  # a larger beta, a smaller rate
    with pytest.raises(KeyError, match=r"no snapshot at step 7; it has \[100, 200, 300\]"):
        trained.model(0, 7)


def test_the_backend_is_a_fixed_choice():
    assert [default_backend(device) for device in ("cpu", "cuda", "cuda:1")] == ["cores", "stack", "stack"]
    # On a CPU it is a matter of the model's size and of its images': the study's own models are too large for a stack.
    for members, backend in ((1, "cores"), (3, "cores"), (4, "stack"), (64, "stack")):
        assert default_backend("cpu", dense(), SHAPE, members) == backend
    assert default_backend("cpu", DenseVAE((3, 32, 32), 1, 4, 2), (3, 32, 32), 64) == "cores"
    assert default_backend("cpu", DenseVAE(SHAPE, 1, 512, 10), SHAPE, 64) == "cores"


@pytest.mark.parametrize("make_model", [dense, conv])
@pytest.mark.parametrize("share", ["all", "batches", "noise"])
def test_members_that_share_batches_or_noise_are_what_they_are_alone(make_model, share):
    """A stack has one tensor of what all members share; that must not show."""
    subsets = [torch.arange(20), torch.arange(10, 40)] if share == "noise" else [None, None]
    seeds = (3, 4) if share == "batches" else (3, 3)  # two orders, in fact: batches are shared by seed and subset
    members = [FleetMember(s, {"beta": b}, i) for s, b, i in zip(seeds, (0.1, 4.0), subsets, strict=True)]
    settings = {"steps": 40, "precision": "fp64", "backend": "stack"}
    together = train(make_model, members, **settings)
    for member, mine in zip(members, together, strict=True):
        (alone,) = train(make_model, [member], steps=40, precision="fp64", backend="cores")
        left_out = behind_batch_norm(make_model()) if make_model is conv else ()
        assert difference(mine.snapshots[40], alone.snapshots[40], left_out) < 1e-12


class Memory:
    """A checkpointer that remembers every state, and asks for one every few looks."""

    def __init__(self, state=None, every=10**9, on_save=None):
        self.states, self.first, self.every, self.looks, self.on_save = [], state, every, 0, on_save

    def latest(self):
        return self.first

    def due(self):
        self.looks += 1
        return self.looks % self.every == 0

    def save(self, state):
        tensors = {name: value.clone() for name, value in state.tensors.items()}
        self.states.append(dataclasses.replace(state, tensors=tensors))
        if self.on_save:
            self.on_save(self)


def memories(backend, members, states=(), **options):
    """A memory for each member on *cores*, one for a stack; each goes on from its state, if there are `states`."""
    number = len(members) if backend == "cores" else 1
    return [Memory(state, **options) for state in states or [None] * number]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("precision", "period"), [("full", None), ("bf16", None), ("full", 30)])
def test_a_fleet_goes_on_from_its_state_as_if_nothing_had_been(backend, precision, period):
    """Bit for bit: with a member that has diverged, one that will, BatchNorm, and an open window of history."""
    members = [FleetMember(s, {"beta": 1.0, "nan": n}) for s, n in ((0, 1e9), (1, 8.0), (2, 112.0))]
    settings = {"objective": nan_from, "backend": backend, "precision": precision, "snapshots": (0, 5, 113)}
    settings |= {"batch_size": 4, "period": period}
    whole = train(conv, members, steps=115, threads=2, **settings)
    first = memories(backend, members)
    train(conv, members, steps=109, threads=2, checkpointers=first, **settings | {"snapshots": (0, 5)})
    second = memories(backend, members, [memory.states[-1] if memory.states else None for memory in first])
    rest = train(conv, members, steps=115, threads=2, checkpointers=second, **settings)
    assert all(same(a, b) for a, b in zip(whole, rest, strict=True))
    assert [t.status for t in rest] == ["finished", "diverged", "diverged"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_state_kept_in_the_middle_is_one_to_go_on_from(backend):
    """Members a core are each at a step of their own; saving their states changes nothing."""
    members = grid(seed=[0, 1, 2], beta=[0.1, 1.0])
    settings = {"steps": 120, "precision": "full", "backend": backend, "threads": 2}
    savers = memories(backend, members, every=50)
    whole = train(dense, members, checkpointers=savers, **settings)
    assert [int(state.tensors["step"]) for state in savers[0].states] == [50, 100, 120]
    firsts = [memory.states[i % 2] for i, memory in enumerate(savers)]
    again = train(dense, members, checkpointers=memories(backend, members, firsts), **settings)
    plain = train(dense, members, **settings)
    assert all(same(a, b) and same(a, c) for a, b, c in zip(whole, again, plain, strict=True))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("number", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("times", [1, 2])
def test_a_signal_ends_a_fleet_with_its_state_kept_and_a_second_one_at_once(backend, number, ends, times):
    main_thread, members, savers = threading.main_thread(), grid(seed=[0, 1], beta=1.0), []

    def told(memory):
        """The first signal comes while some thread saves a state, the second while the last one is saved."""
        last = threading.current_thread() is main_thread and backend == "cores"
        if memory is savers[0] and len(memory.states) == 1:
            signal.pthread_kill(main_thread.ident, number)
        if times == 2 and (last or (backend == "stack" and len(memory.states) == 1)):
            signal.raise_signal(number)

    savers += memories(backend, members, every=2, on_save=told)
    before = signal.getsignal(number)
    settings = {"steps": 10**6, "threads": 2}
    with pytest.raises(ends) as raised:
        train(dense, members, backend=backend, checkpointers=savers, **settings)
    if ends is SystemExit:
        assert raised.value.code == 143
    assert signal.getsignal(number) is before
    assert 0 < int(savers[0].states[-1].tensors["step"]) < 10**6
    if backend == "stack":
        assert (len(savers[0].states) == 1) is (times == 2)
    else:  # the last states are saved one after the other
        assert len(savers[0].states) > 1


@pytest.fixture
def sizes(monkeypatch):
    """How many members each stack had that was begun; more than `most` run out of memory."""

    class Sizes(list):
        most = 99

    sizes, real = Sizes(), stack.train

    def narrow(task, part, *rest):
        sizes.append(len(part))
        if len(part) > sizes.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(task, part, *rest)

    monkeypatch.setattr(stack, "train", narrow)
    return sizes


def test_a_stack_that_memory_does_not_hold_is_cut_before_it_fails(monkeypatch, sizes):
    members = grid(seed=range(7), beta=1.0)
    whole = train(dense, members, steps=20, backend="stack")
    monkeypatch.setattr(memory, "members_at_once", lambda *_: 3)
    parts = train(dense, members, steps=20, backend="stack")
    assert sizes == [7, 3, 3, 1]
    assert all(difference(a.snapshots[20], b.snapshots[20]) < 1e-12 for a, b in zip(whole, parts, strict=True))


def test_a_stack_that_ran_out_of_memory_is_tried_smaller(sizes):
    sizes.most = 2
    trained = train(dense, grid(seed=range(5), beta=1.0), steps=5, backend="stack")
    assert sizes == [5, 3, 2, 2, 1]
    assert [t.member.seed for t in trained] == list(range(5))
    sizes.most = 0
    with pytest.raises(MemoryError, match="one member does not fit"):
        train(dense, grid(seed=range(5), beta=1.0), steps=5, backend="stack")


@pytest.mark.parametrize("ending", [None, torch.OutOfMemoryError])
def test_a_stack_s_memory_is_free_when_it_is_done(ending, monkeypatch):
    """Without a collection of cycles: what comes next on a card needs its memory at once."""
    made = []

    class Watched(stack.Stack):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(weakref.ref(self))
            if ending and len(made) > 1:
                assert made[-2]() is None

        def advance(self):
            super().advance()
            if ending and len(self.members) > 2:
                raise ending("CUDA out of memory")

    monkeypatch.setattr(stack, "Stack", Watched)
    gc.disable()
    try:
        train(dense, grid(seed=range(4), beta=1.0), steps=3, backend="stack")
        assert made[-1]() is None
    finally:
        gc.enable()


class Gpu:
    """What a stack asks of torch.cuda, on a CPU: while a graph is captured nothing runs, so all numbers stay.

    `in_step(stack)` raises what a capture fails of in the middle of the step, if it does; `at_end(stack)`, at its end.
    """

    def __init__(self, monkeypatch):
        self.stream, self.capturing, self.stacks, self.graphs, self.replays = "default", False, [], [], 0
        self.in_step = self.at_end = lambda stack: None
        gpu = self

        class Stack(stack.Stack):
            def __init__(self, *arguments):
                assert all(made() is None for made in gpu.stacks + gpu.graphs)  # what failed is gone, uncollected
                super().__init__(*arguments)
                self._side = gpu.Stream()
                gpu.stacks.append(weakref.ref(self))

        class Graph:
            def __init__(self):
                self.stack = weakref.proxy(gpu.stacks[-1]())
                gpu.graphs.append(weakref.ref(self))

            def capture_begin(self):
                assert gpu.stream != "default"
                gpu.capturing = True
                self.numbers = [(value, value.clone()) for value in self.tensors()]

            def capture_end(self):
                gpu.capturing = False
                with torch.no_grad():
                    for value, held in self.numbers:
                        value.copy_(held)
                for parameter in self.stack.params.values():
                    parameter.grad.fill_(torch.nan)  # never computed
                gpu.at_end(self.stack)

            def replay(self):
                assert gpu.stream == "default"
                gpu.replays += 1
                self.stack._step()

            def tensors(self):
                own = self.stack
                adam = [value for state in own.optimizer.state.values() for value in state.values()]
                return [own.clock, own.stopped_at, *own.rows.values(), *own.sums.values(), *adam]

        monkeypatch.setattr(stack, "Stack", Stack)
        for name, fake in (
            ("CUDAGraph", Graph),
            ("Stream", self.Stream),
            ("stream", self.on),
            ("current_stream", self.Stream),
            ("synchronize", lambda: None),
            ("empty_cache", lambda: None),
        ):
            monkeypatch.setattr(torch.cuda, name, fake)

    class Stream:
        def wait_stream(self, other):
            pass

    @contextmanager
    def on(self, stream):
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def objective(self, params, images, labels, weights, progress):
        """Like `beta_objective`, where its capture does not fail."""
        if self.capturing:
            self.in_step(self.stacks[-1]())
        return beta_objective(params, images, labels, weights, progress)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr(gc, "collect", lambda: 0)
    gc.disable()
    yield Gpu(monkeypatch)
    gc.enable()


def raising(error, says, above=0):
    """A failure of captures of more than so many members."""

    def failing(stack):
        if len(stack.members) > above:
            raise error(says)  # a new one: an error holds the frames that it passed

    return failing


@pytest.mark.parametrize("kept", [False, True])
def test_a_gpu_s_steps_are_a_graph_after_the_first(gpu, kept):
    members = grid(seed=[0, 1], beta=[0.1, 1.0])
    settings = {"steps": 120, "precision": "full", "backend": "stack", "checkpointers": [Memory()] if kept else []}
    graphed = train(dense, members, objective=gpu.objective, **settings)
    assert (len(gpu.graphs), gpu.replays) == (1, 117)
    assert all(same(a, b) for a, b in zip(graphed, train(dense, members, **settings), strict=True))


@pytest.mark.parametrize("where", ["in the step", "at its end", "in both"])
def test_a_step_that_no_graph_holds_is_taken_without_one(gpu, monkeypatch, where):
    """With one warning, one attempt, and the same bits; the reason is the first error, not what came of it."""
    said = "CUDA error: operation not permitted when stream is capturing"
    first = raising(torch.AcceleratorError, f"{said}\nSearch for `cudaErrorStreamCaptureUnsupported'")
    later = raising(torch.AcceleratorError, "CUDA error: operation failed due to a previous error during capture")
    if where != "at its end":
        gpu.in_step = first
    if where != "in the step":
        gpu.at_end = later if where == "in both" else first
    members = grid(seed=[0, 1], beta=[0.1, 1.0])
    settings = {"steps": 120, "precision": "full", "backend": "stack", "snapshots": (3, 4, 5)}
    memory_of = Memory(every=50)
    with pytest.warns(RuntimeWarning) as warned:
        eager = train(dense, members, objective=gpu.objective, checkpointers=[memory_of], **settings)
    (warning,) = warned
    assert f"cannot be captured as a CUDA graph ({said}), so" in str(warning.message)
    assert (len(gpu.graphs), gpu.replays, gpu.stream) == (1, 0, "default")
    with pytest.warns(RuntimeWarning, match="cannot be captured"):
        again = train(dense, members, objective=gpu.objective, checkpointers=[Memory(memory_of.states[0])], **settings)
    monkeypatch.undo()
    plain = train(dense, members, **settings)
    assert all(same(a, b) and same(a, c) for a, b, c in zip(plain, eager, again, strict=True))


@pytest.mark.parametrize("ends", [True, False])
def test_a_capture_that_ran_out_of_memory_is_tried_with_fewer_members(gpu, monkeypatch, ends):
    gpu.in_step = raising(torch.OutOfMemoryError, "CUDA out of memory", above=2)
    if not ends:
        gpu.at_end = raising(RuntimeError, "operation failed due to a previous error during capture", above=2)
    members, settings = grid(seed=range(5), beta=1.0), {"steps": 20, "backend": "stack"}
    parts = train(dense, members, objective=gpu.objective, **settings)
    assert (len(gpu.graphs), gpu.replays) == (5, 3 * 17)  # of 5, 3, 2, 2 and 1 members
    gpu.in_step = raising(torch.OutOfMemoryError, "CUDA out of memory")
    with pytest.raises(MemoryError, match="one member does not fit"):
        train(dense, members, objective=gpu.objective, **settings)
    monkeypatch.undo()
    whole = train(dense, members, **settings)
    assert all(difference(a.snapshots[20], b.snapshots[20]) < 1e-12 for a, b in zip(whole, parts, strict=True))


@pytest.mark.parametrize("mistake", [ValueError, RuntimeError])
def test_a_mistake_that_comes_to_light_in_the_capture_is_no_capture_s(gpu, mistake):
    calls = count()

    def objective(*given):
        if next(calls) >= 5:  # what is tried before any work, twice, and three steps
            raise mistake("in the objective")
        return gpu.objective(*given)

    with pytest.raises(mistake, match="in the objective"):
        train(dense, grid(beta=1.0), objective=objective, steps=20, backend="stack")
    assert len(gpu.graphs) == 1


def test_the_estimate_of_memory(monkeypatch):
    """Weights, gradients and two moments in float32, and twice what autograd keeps; nine tenths of what is free."""
    model, budget = dense(), Budget(1, batch_size=10)
    parameters = sum(p.numel() for p in model.parameters())
    one = 16 * parameters + 2 * 100 * 10
    assert memory.bytes_of_one(model, 100, budget) == one
    for room, members in ((10.5, 9), (0.1, 1)):
        monkeypatch.setattr(memory, "free", lambda device, room=room: room * one)
        assert memory.members_at_once(model, 100, budget, "cpu") == members


def test_all_that_is_wrong_comes_in_one_error():
    members = [
        FleetMember(-1, {"beta": float("nan")}),
        FleetMember(0, {"gamma": 1.0}, torch.tensor([0, N])),
        FleetMember(0, {"beta": 1.0}, torch.tensor([], dtype=torch.int64)),
    ]
    with pytest.raises(ValueError) as error:
        train(dense, members, images=IMAGES.float(), labels=torch.zeros(3), backend="racks", device="cuda:77")
    said = str(error.value)
    for part in ("uint8", "3 labels for 60 images", "names of their weights", "member 0: seed: got -1; give",
                 "beta: got nan; give", "member 1 trains", "member 2 trains", "racks", "cuda:77"):  # fmt: skip
        assert part in said


def of_images(indices):
    return train(dense, [FleetMember(0, {"beta": 1.0}, indices)], steps=1)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: of_images(torch.ones(N, dtype=torch.bool)), "int64"),
        (lambda: of_images(torch.arange(9).to(torch.uint8)), "int64"),
        (lambda: of_images(torch.arange(9.0)), "int64"),
        (lambda: train(dense, []), "no members"),
        (lambda: train(lambda: nn.Linear(2, 2), grid(beta=1)), "noise_sites"),
        (lambda: Budget(0, 0, precision="half"), r"steps: got 0.*; batch_size: .*'half'; use one of fp64, full, bf16"),
        (lambda: Budget(10, snapshots=(0, 11, 12)), r"\[11, 12\]"),
        (lambda: Budget(10, snapshots=(-1,)), "snapshots: got -1"),
        (lambda: Budget(10, period=0), "period: got 0"),
    ],
)
def test_bad_settings(make, says):
    with pytest.raises(ValueError, match=says):
        make()


class Wrong(nn.Module):
    """A model whose forward asks for another noise than it declares."""

    noise_sites: ClassVar = {"z": (2,)}

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x, noise):
        return {"z": self.layer(noise["eps"])}


@pytest.mark.parametrize(
    ("make_model", "objective", "says"),
    [
        (Wrong, beta_objective, r"the model failed on images \(2, .*noise \{'z': \(2, 2\)\}.*KeyError: 'eps'"),
        (None, lambda params, *_: {"rate": rate(params["z"])}, "must give loss"),
        (None, lambda params, *_: {"loss": rate(params["z"]).mean()}, r"\{'loss': \(\)\} for two images"),
        (None, lambda params, images, labels, weights, _: weights["lam"], r"weights \['beta'\]: KeyError: 'lam'"),
        (Recurrent, mi_kl_objective, r"failed on params \['z', 'x'\] .*ValueError: .*got z, x; give sample, too"),
    ],
)
def test_mistakes_in_a_model_or_an_objective_are_said_before_any_work(make_model, objective, says):
    with pytest.raises(ValueError, match=says):
        train(make_model or dense, grid(beta=1), objective=objective, steps=10**6)


@pytest.mark.parametrize("count", [1, 2])
def test_who_steps_takes_denormal_numbers_for_zero_and_nobody_else_does(count):
    """A worker of a fleet; or whoever called, where there is one member: it is left as it was."""
    tiny, seen = torch.tensor([1e-39]), []

    def watched(*given):
        own = threading.current_thread() is threading.main_thread()
        seen.append((own, (tiny * 1.0).item() == 0))
        return beta_objective(*given)

    members = grid(seed=range(count), beta=1.0)
    train(dense, members, steps=3, objective=watched, backend="cores", threads=2)
    assert seen[-3 * count :] == [(count == 1, True)] * 3 * count
    assert (tiny * 1.0).item() > 0


def test_numpy_may_be_asked_for_its_limits_in_a_worker():
    """They are cached: a process that has never asked would warn in a thread that takes denormals for zero."""
    program = (
        "import warnings; warnings.simplefilter('error')\n"
        "import numpy as np\nfrom vaekit.fleet import workers\n"
        "with workers(1) as pool:\n"
        "    pool.submit(lambda: [str(np.finfo(kind)) for kind in (np.float32, np.float64)]).result()\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
