"""Train many small models at once: tensors in, tensors out.

A *member* of a fleet is a seed, the weights of its objective and the images that it sees. All members share one
architecture, one objective and one budget. What becomes of a member depends on its own settings alone, never on who
shares its fleet: its start, its batches and its noise are stateless draws of its own seed, and nothing is averaged,
clipped or counted over members.

Two backends do the same work. *cores* steps each member as an ordinary module on a thread of its own, one intra-op
thread each: on a CPU that is faster than stepping one model with all threads, and bit for bit the same in any company
and with any number of cores. *stack* steps all members as one model with a leading axis (`torch.func.vmap`): the way
of a GPU, and of models and images so small that Python's overhead rules. The two agree to rounding.

This module knows no disk, no keys and no VAE: the objective says what is minimised.
"""

import copy
import itertools
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vaekit import randomness
from vaekit.distributions import as_float
from vaekit.losses import Objective

PRECISIONS = {"fp64": torch.float64, "full": torch.float32, "bf16": torch.float32}
Projection = Callable[[dict[str, Tensor], Mapping[str, Tensor], int], Mapping[str, Tensor]]
HISTORY_EVERY = 100  # steps that one row of a history is the mean of
_DRAW = 16  # steps of noise that are drawn together: a draw costs the same few hundred operations for one or sixteen


@dataclass(frozen=True)
class Budget:
    """What training costs, the same for all members of a fleet.

    Args:
        steps: optimiser steps of every member.
        batch_size: images of a step.
        lr: Adam's learning rate.
        weight_decay: Adam's L2 term, added to the gradient.
        precision: "full" (float32; TF32 products on a GPU), "fp64", or "bf16" (products in bfloat16, weights, losses
            and Adam's state in float32).
        snapshots: steps after which the weights are kept, 0 being the start; those after the last step always are.
    """

    steps: int
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.0
    precision: str = "full"
    snapshots: tuple[int, ...] = ()

    def __post_init__(self):
        problems = []
        for name in ("steps", "batch_size"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                problems.append(f"{name} is {value!r}; give a whole number above 0")
        if not (0 <= self.lr < math.inf and 0 <= self.weight_decay < math.inf):
            problems.append(f"lr is {self.lr!r} and weight_decay {self.weight_decay!r}; give finite numbers from 0 up")
        if self.precision not in PRECISIONS:
            problems.append(f"precision is {self.precision!r}; use one of {', '.join(PRECISIONS)}")
        if beyond := [s for s in self.snapshots if not 0 <= s <= self.steps]:
            problems.append(f"snapshots {beyond} lie outside 0 … {self.steps} steps")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class FleetMember:
    """One model to train.

    Args:
        seed: of the start weights, the batches and the noise; in [0, 2**63).
        weights: the objective's numbers by name, e.g. {"beta": 0.1}; the same names in all members.
        indices: int64 indices of the images that this member trains on; None: all.
        start: a state dict to start from instead of the seed's own.
    """

    seed: int
    weights: Mapping[str, float] = field(default_factory=dict)
    indices: Tensor | None = None
    start: Mapping[str, Tensor] | None = None


def grid(seed: int | Iterable[int] = 0, **weights: float | Iterable[float]) -> list[FleetMember]:
    """Every combination of seeds and weights: grid(beta=[0.1, 1, 4], seed=[0, 1]) are six members."""
    seeds = [seed] if isinstance(seed, int) else list(seed)
    axes = [[v] if isinstance(v, int | float) else list(v) for v in weights.values()]
    combinations = list(itertools.product(*axes))
    return [FleetMember(s, dict(zip(weights, c, strict=True))) for s in seeds for c in combinations]


@dataclass
class Trained:
    """What became of one member.

    `snapshots` maps steps to state dicts on the CPU. `history` maps "step" and the objective's names to tensors of one
    length: means over `HISTORY_EVERY` steps, up to the step named. `status` is "finished", or "diverged" with a
    `reason`; a diverged member keeps the snapshots from before.
    """

    member: FleetMember
    status: str = "finished"
    reason: str = ""
    snapshots: dict[int, dict[str, Tensor]] = field(default_factory=dict)
    history: dict[str, Tensor] = field(default_factory=dict)


class Fleet(Sequence[Trained]):
    """A trained fleet: a sequence of `Trained`, in the order of its members, that gives models back.

    `seconds` is what the steps of all members took together, on the wall's clock.
    """

    def __init__(self, template: nn.Module, budget: Budget, backend: str, trained: list[Trained], seconds: float):
        self.budget, self.backend, self.seconds = budget, backend, seconds
        self._template, self._trained = template, trained

    def __getitem__(self, i):
        return self._trained[i]

    def __len__(self) -> int:
        return len(self._trained)

    def model(self, i: int, step: int | None = None) -> nn.Module:
        """Member i's model in eval mode, as it was after `step` steps (None: its last snapshot).

        Errors: KeyError names the snapshots there are.
        """
        snapshots = self[i].snapshots
        step = max(snapshots, default=0) if step is None else step
        if step not in snapshots:
            raise KeyError(f"member {i} ({self[i].status}) has no snapshot at step {step}; it has {sorted(snapshots)}")
        model = copy.deepcopy(self._template)
        model.load_state_dict(snapshots[step])
        return model.eval()


def train_fleet(
    make_model: Callable[[], nn.Module],
    objective: Objective,
    members: Sequence[FleetMember],
    images: Tensor,
    labels: Tensor | None = None,
    *,
    budget: Budget,
    project: Projection | None = None,
    device: str = "cpu",
    backend: str | None = None,
    threads: int | None = None,
    progress: bool | None = None,
) -> Fleet:
    """Train all members, each as if it were alone.

    Args:
        make_model: makes the module that all members share, an ordinary `nn.Module` whose `forward(x, noise)` returns
            distribution parameters and whose `noise_sites` maps each name in `noise` to one image's shape. Its
            parameters are initialised as it does itself, under the member's seed.
        objective: (params, images, labels, weights, progress) -> {"loss": …, …}, each of shape (batch,); see `losses`.
            Progress is the number of steps done, not a share of the budget: so a longer run's snapshot at a step is
            what a run of that many steps would have given.
        members: what to train; see `grid`.
        images: uint8, (n, C, H, W), kept once; a step sees them in [0, 1].
        labels: (n,), handed on to the objective.
        budget: steps, batch size, precision, snapshots.
        project: (state, weights, step) -> the tensors of `state` that change; called for each member by itself at the
            start (step 0) and after every step, with its parameters and buffers by name and the number of steps done.
            Masks are applied by it, see `pruning`.
        device: "cpu", "cuda", …
        backend: "cores", "stack", or None: `default_backend`'s choice.
        threads: how many members *cores* steps at a time; None: torch's number of threads.
        progress: show a bar; None: in a terminal and in a notebook.

    Returns a `Fleet`. A member whose loss or weights are no longer finite goes no further and is marked as diverged;
    the others do not notice. Errors: ValueError, all problems in one, before any work.
    """
    _check(members, images, labels, budget, device, backend)
    images = images.to(device)
    labels = None if labels is None else labels.to(device)
    models = [new_model(make_model, m.seed, m.start, PRECISIONS[budget.precision]).to(device) for m in members]
    if not isinstance(getattr(models[0], "noise_sites", None), Mapping):
        raise ValueError(
            f"{type(models[0]).__name__} has no noise_sites; set it to a dictionary from each noise's name to the "
            'shape that one image needs, e.g. {"z": (10,)}'
        )
    template = copy.deepcopy(models[0]).cpu()
    _rehearse(copy.deepcopy(template), objective, members[0], images, labels, budget)
    backend = backend or default_backend(device)
    hidden = progress is False or (progress is None and "ipykernel" not in sys.modules and not sys.stderr.isatty())
    begun = time.perf_counter()
    with tqdm(total=len(members) * budget.steps, unit="step", disable=hidden, mininterval=0.5, smoothing=0.05) as bar:
        if backend == "cores":
            trained = _train_cores(models, objective, members, images, labels, budget, project, threads, bar)
        else:
            trained = _train_stack(models, objective, members, images, labels, budget, project, bar)
    return Fleet(template, budget, backend, trained, time.perf_counter() - begun)


def default_backend(device: str) -> str:
    """The backend of a device: a fixed choice, so that a repeated run takes the same path.

    *cores* on a CPU, *stack* elsewhere. On a CPU, stacking pays where both the model and its images are so small that
    Python's overhead rules (25,000 parameters on 8 x 8 pixels); ask for it by name there.
    """
    return "cores" if torch.device(device).type == "cpu" else "stack"


def new_model(
    make_model: Callable[[], nn.Module], seed: int, start: Mapping[str, Tensor] | None = None, dtype=None
) -> nn.Module:
    """A model whose own initialisation ran under `seed`, on the CPU, with torch's global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        words = randomness.bits(seed, randomness.INIT, 0, "start", torch.zeros(1, dtype=torch.int64))
        torch.default_generator.manual_seed(int(words[0, 0]) << 31 ^ int(words[0, 1]))
        model = make_model().to(dtype)
    if start is not None:
        model.load_state_dict(start)
    return model.train()


def batch_indices(seed: int, size: int, batch_size: int, step: int, device=None, orders: dict | None = None) -> Tensor:
    """Which of `size` images step `step` (from 0) sees: int64, (batch_size,).

    The batches cut one endless row of permutations, a fresh one each epoch, so every image is seen equally often
    whatever the batch size. `orders` keeps the permutations of the current epochs from call to call.
    """
    orders = {} if orders is None else orders
    first, last = step * batch_size, (step + 1) * batch_size
    parts = []
    for epoch in range(first // size, (last - 1) // size + 1):
        if epoch not in orders:
            for old in [e for e in orders if e < epoch - 1]:
                del orders[old]
            orders[epoch] = randomness.permutation(seed, randomness.ORDER, epoch, size, device)
        parts.append(orders[epoch][max(first - epoch * size, 0) : last - epoch * size])
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _train_cores(models, objective, members, images, labels, budget, project, threads, bar) -> list[Trained]:
    stop = threading.Event()
    with one_thread_each(threads) as pool:
        try:
            args = (objective, images, labels, budget, project, stop, bar)
            jobs = [pool.submit(_train_one, model, m, *args) for model, m in zip(models, members, strict=True)]
            models.clear()  # each thread drops its model when it is done
            for job in as_completed(jobs):
                job.result()  # an error in one ends all, now and not when the others are done
            return [job.result() for job in jobs]
        finally:
            stop.set()


@contextmanager
def one_thread_each(threads: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """A pool whose workers run torch with one intra-op thread each (None: as many workers as torch has threads).

    Whatever one of them computes has the same bits on any number of cores; and nothing waits for a thread that a busy
    machine does not run, which costs small operations ten times their work. They take denormal numbers for zero: on
    images with much black, gradients and Adam's moments fall below 1e-38, where a processor is many times slower.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads or before, initializer=_settle_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        # A worker's set_num_threads(1) is also the default of threads made later.
        torch.set_num_threads(before)


def _settle_worker() -> None:
    for kind in ("float32", "float64"):  # numpy asks for its limits once, and warns where the least number is zero
        np.finfo(kind).smallest_subnormal  # noqa: B018
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # this thread's alone


def _train_one(model, member, objective, images, labels, budget, project, stop, bar) -> Trained:
    """Step one member on this thread."""
    dtype = PRECISIONS[budget.precision]
    optimizer = _adam(model.parameters(), budget)
    weights = {name: torch.tensor(value, dtype=dtype) for name, value in member.weights.items()}
    size = len(images) if member.indices is None else len(member.indices)
    orders: dict = {}
    noise = _Noise(torch.tensor([member.seed]), model.noise_sites, budget.batch_size, dtype)
    history = _History()
    result = Trained(member)
    state = {name: value.detach() for name, value in model.state_dict().items()}  # shares the model's memory
    if project:
        _project(project, state, weights, 0)
    if 0 in budget.snapshots:
        result.snapshots[0] = {name: value.clone() for name, value in state.items()}
    for step in range(budget.steps):
        if stop.is_set():
            return result
        index = batch_indices(member.seed, size, budget.batch_size, step, orders=orders)
        index = index if member.indices is None else member.indices[index]
        x = images[index].to(dtype).div_(255)
        y = None if labels is None else labels[index]
        draws = {site: values[0] for site, values in noise.at(step).items()}
        means = _means(model, objective, x, y, draws, weights, torch.tensor(float(step)), budget.precision)
        values = {name: value.item() for name, value in means.items()}
        if not math.isfinite(values["loss"]):
            result.status, result.reason = "diverged", _diverged_loss(step)
            break
        optimizer.zero_grad(set_to_none=True)
        means["loss"].backward()
        optimizer.step()
        if project:
            _project(project, state, weights, step + 1)
        history.add(step + 1, values)
        if step + 1 in budget.snapshots or step + 1 == budget.steps:
            if not _finite(state):
                result.status, result.reason = "diverged", _diverged_weights(step + 1)
                break
            result.snapshots[step + 1] = {name: value.clone() for name, value in state.items()}
        bar.update()
    if result.status == "finished":
        history.close()
    result.history = history.upto(budget.steps)
    return result


def _train_stack(models, objective, members, images, labels, budget, project, bar) -> list[Trained]:
    dtype, device = PRECISIONS[budget.precision], images.device
    params, buffers = torch.func.stack_module_state(models)
    base = models[0]
    saved = _names_of(base)
    models.clear()
    optimizer = _adam([p for p in params.values() if p.requires_grad], budget)
    names = list(members[0].weights)
    weights = {name: torch.tensor([m.weights[name] for m in members], dtype=dtype, device=device) for name in names}
    seeds, which = torch.tensor([m.seed for m in members], device=device).unique(return_inverse=True)
    noise = _Noise(seeds, base.noise_sites, budget.batch_size, dtype)
    subsets = [None if m.indices is None else m.indices.to(device) for m in members]
    orders: list[dict] = [{} for _ in members]

    def batch(step: int) -> Tensor:
        rows = []
        for member, subset, kept in zip(members, subsets, orders, strict=True):
            size = len(images) if subset is None else len(subset)
            row = batch_indices(member.seed, size, budget.batch_size, step, device, kept)
            rows.append(row if subset is None else subset[row])
        return torch.stack(rows)

    def one(p, b, x, y, draws, w, progress):
        def call(x, noise):
            return torch.func.functional_call(base, (p, b), (x, noise))

        return _means(call, objective, x, y, draws, w, progress, budget.precision)

    step_all = torch.func.vmap(one, in_dims=(0, 0, 0, None if labels is None else 0, 0, 0, None))
    stopped_at = torch.full((len(members),), budget.steps, device=device)
    results = [Trained(m) for m in members]
    history = _History()
    state = {name: value.detach() for name, value in (params | buffers).items()}

    def keep(step: int) -> None:
        stacked = {name: value.cpu() for name, value in state.items()}
        for i, result in enumerate(results):
            result.snapshots[step] = {name: stacked[source][i].clone() for name, source in saved.items()}

    with _tf32(budget.precision, device):
        if project:
            _project(project, state, weights, 0, stacked=True)
        if 0 in budget.snapshots:
            keep(0)
        for step in range(budget.steps):
            index = batch(step)
            x = images[index].to(dtype).div_(255)
            y = None if labels is None else labels[index]
            draws = {site: values[which] for site, values in noise.at(step).items()}
            progress = torch.tensor(float(step), device=device)
            means = step_all(params, buffers, x, y, draws, weights, progress)
            # Members are rows of every tensor: one that is not finite spoils its own row and no other. So it is noted,
            # without a wait for the device, and what its row held from then on is thrown away.
            stopped_at = torch.where(means["loss"].isfinite(), stopped_at, stopped_at.clamp(max=step))
            optimizer.zero_grad(set_to_none=True)
            means["loss"].sum().backward()
            optimizer.step()
            if project:
                _project(project, state, weights, step + 1, stacked=True)
            history.add(step + 1, {name: value.detach().double() for name, value in means.items()})
            if step + 1 in budget.snapshots or step + 1 == budget.steps:
                keep(step + 1)
            bar.update(len(members))
    for i, (result, step) in enumerate(zip(results, stopped_at.tolist(), strict=True)):
        broken = [s for s, state in result.snapshots.items() if not _finite(state)]
        if step < budget.steps or broken:
            reason = _diverged_loss(step) if step < min(broken, default=math.inf) else _diverged_weights(min(broken))
            result.status, result.reason = "diverged", reason
            step = min([step, *broken])
            result.snapshots = {s: state for s, state in result.snapshots.items() if s <= step and s not in broken}
            result.history = history.upto(step, row=i)
    history.close()  # a window that is not full is a finished member's alone
    for i, result in enumerate(results):
        if result.status == "finished":
            result.history = history.upto(budget.steps, row=i)
    return results


@torch.no_grad()
def _project(project, state, weights, step: int, stacked: bool = False) -> None:
    """Let `project` change the weights in place: of one member, or of each row of a stack."""
    call = torch.func.vmap(lambda s, w: project(s, w, step)) if stacked else lambda s, w: project(s, w, step)
    for name, value in call(state, weights).items():
        state[name].copy_(value)


def _means(call, objective, x, y, noise, weights, progress, precision) -> dict[str, Tensor]:
    """The objective's means over one member's batch."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        # The cache of bfloat16 weights is the process's, and any thread that leaves autocast empties it: with it, how a
        # weight that is used twice sums its gradient would depend on the company.
        params = call(x, noise)
    return {name: v.mean() for name, v in objective(as_float(params), x, y, weights, progress).items()}


def _rehearse(model, objective, member, images, labels, budget) -> None:
    """One forward pass on two images: a mistake in a model or an objective is one clear error, before any work.

    Errors: ValueError says what was given and what was wanted; what the code itself raised is its cause.
    """
    dtype, two = PRECISIONS[budget.precision], torch.tensor([0, len(images) - 1])
    x = images[two].cpu().to(dtype) / 255
    y = None if labels is None else labels[two].cpu()
    noise = {site: torch.zeros(2, *shape, dtype=dtype) for site, shape in model.noise_sites.items()}
    weights = {name: torch.tensor(value, dtype=dtype) for name, value in member.weights.items()}
    given = f"images {tuple(x.shape)} and noise { ({site: tuple(value.shape) for site, value in noise.items()}) }"
    try:
        params = model(x, noise)
    except Exception as error:
        raise ValueError(f"the model failed on {given}: {type(error).__name__}: {error}") from error
    try:
        values = objective(params, x, y, weights, torch.tensor(0.0))
        shapes = {name: tuple(value.shape) for name, value in values.items()}
    except Exception as error:
        names = list(params) if isinstance(params, dict) else type(params).__name__
        what = f"the objective failed on params {names} and weights {list(weights)}"
        raise ValueError(f"{what}: {type(error).__name__}: {error}") from error
    if "loss" not in shapes or set(shapes.values()) != {(2,)}:
        raise ValueError(f"the objective gave {shapes} for two images; it must give loss, and each value one an image")


def _adam(parameters, budget: Budget) -> torch.optim.Adam:
    return torch.optim.Adam(parameters, lr=budget.lr, weight_decay=budget.weight_decay, fused=True)


class _Noise:
    """The standard normal noise of each step, drawn for sixteen steps at a time: {site: (seeds, batch, *shape)}."""

    def __init__(self, seeds: Tensor, sites: Mapping[str, tuple[int, ...]], batch_size: int, dtype):
        self.seeds, self.sites, self.batch_size, self.dtype = seeds, sites, batch_size, dtype
        self.block, self.draws = -1, {}

    def at(self, step: int) -> dict[str, Tensor]:
        if step // _DRAW != self.block:
            self.block = step // _DRAW
            device = self.seeds.device
            steps = torch.arange(self.block * _DRAW, (self.block + 1) * _DRAW, device=device).unsqueeze(1)
            self.draws = {
                site: randomness.normal(
                    self.seeds, randomness.NOISE, steps, site, (self.batch_size, *shape), self.dtype, device
                )
                for site, shape in self.sites.items()
            }
        return {site: draw[step % _DRAW] for site, draw in self.draws.items()}


class _History:
    """Means of the objective's values over windows of `HISTORY_EVERY` steps; a value is a number or one a member."""

    def __init__(self):
        self.rows: list[dict] = []
        self.sums: dict = {}
        self.step = 0

    def add(self, step: int, values: dict) -> None:
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.step = step
        if step % HISTORY_EVERY == 0:
            self.close()

    def close(self) -> None:
        """End the window, be it full or not."""
        if self.sums:
            count = (self.step - 1) % HISTORY_EVERY + 1
            self.rows.append({"step": self.step} | {name: total / count for name, total in self.sums.items()})
            self.sums = {}

    def upto(self, step: int, row: int | None = None) -> dict[str, Tensor]:
        """The windows that end by a step, as one tensor a name; of one member where the values are stacked."""
        kept = [r for r in self.rows if r["step"] <= step]
        columns = {name: [r[name] for r in kept] for name in (kept[0] if kept else ())}
        steps = torch.tensor(columns.pop("step", []), dtype=torch.int64)
        values = {name: [v if row is None else v[row] for v in column] for name, column in columns.items()}
        return {"step": steps} | {name: torch.tensor(v, dtype=torch.float64) for name, v in values.items()}


def _names_of(model: nn.Module) -> dict[str, str]:
    """Every name in the state dict to the name under which the tensor is stacked: tied tensors are stacked once."""
    first: dict[int, str] = {}
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        first.setdefault(id(tensor), name)
    return {name: first[id(tensor)] for name, tensor in model.state_dict(keep_vars=True).items()}


def _finite(state: Mapping[str, Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in state.values())


def _diverged_loss(step: int) -> str:
    return f"the loss of step {step} was not finite"


def _diverged_weights(step: int) -> str:
    return f"the weights after step {step} were not finite"


@contextmanager
def _tf32(precision: str, device: torch.device) -> Iterator[None]:
    """TF32 products for "full" and "bf16" on a GPU, with torch's own settings put back afterwards."""
    if device.type != "cuda":
        yield
        return
    matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest" if precision == "fp64" else "high")
    torch.backends.cudnn.allow_tf32 = precision != "fp64"
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn


def device_problem(device: str) -> str | None:
    """What stands against training on a device, as a sentence; None where nothing does."""
    try:
        kind = torch.device(device)
    except RuntimeError:
        return f"torch does not know {device!r}; use cpu or cuda"
    if kind.type not in ("cpu", "cuda") or (kind.type == "cpu" and kind.index):
        return f"{device!r} is no device to train on; use cpu or cuda"
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        return f"{device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices here; use cpu"
    return None


def _check(members, images, labels, budget, device, backend) -> None:
    """All that can be wrong with a fleet, in one error, before any work."""
    problems = []
    if not isinstance(budget, Budget):
        raise ValueError(f"train_fleet: budget is {budget!r}; give a vaekit.Budget(steps=…)")
    if not isinstance(images, Tensor):
        raise ValueError(f"train_fleet: images are {type(images).__name__}; give a uint8 tensor, e.g. image_set.train")
    if not members:
        problems.append("there are no members; give at least one, see vaekit.grid")
    if images.dtype != torch.uint8 or images.dim() != 4 or not len(images):
        problems.append(f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 of shape (n, C, H, W)")
    if labels is not None and len(labels) != len(images):
        problems.append(f"there are {len(labels)} labels for {len(images)} images")
    if len({frozenset(m.weights) for m in members}) > 1:
        problems.append("members differ in the names of their weights; give each the same names")
    for i, member in enumerate(members):
        if not 0 <= member.seed < 2**63:
            problems.append(f"member {i} has seed {member.seed}; seeds lie in [0, 2**63)")
        if bad := [f"{name}={value}" for name, value in member.weights.items() if not math.isfinite(value)]:
            problems.append(f"member {i} has {', '.join(bad)}; weights are finite numbers")
        if (indices := member.indices) is not None and (indices.dtype != torch.int64 or indices.dim() != 1):
            problems.append(
                f"member {i} has indices of {indices.dtype} and shape {tuple(indices.shape)}; give int64, (n,)"
            )
        elif indices is not None and (not len(indices) or int(indices.min()) < 0 or int(indices.max()) >= len(images)):
            problems.append(f"member {i} trains on no images, or on some beyond the {len(images)} that there are")
    if backend not in (None, "cores", "stack"):
        problems.append(f"backend is {backend!r}; use cores, stack or None")
    if problem := device_problem(device):
        problems.append(f"device: {problem}")
    elif backend == "cores" and torch.device(device).type != "cpu":
        problems.append(f"the cores backend is a CPU's; device is {device!r}, use stack there")
    if problems:
        raise ValueError("train_fleet: " + "; ".join(problems))
