"""What both backends step with: the start, the batches, the noise, the objective's means, and the optimiser."""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vaekit import checks, randomness
from vaekit.distributions import as_float
from vaekit.fleet.members import PRECISIONS, Budget, FleetMember, Projection
from vaekit.losses import Objective

BLOCK = 16  # steps whose noise and batches are drawn together: a draw costs the same few hundred operations for all
_GENERATOR = threading.Lock()  # torch's global generator is one for all threads


@dataclass(frozen=True)
class Task:
    """What all members of a fleet share."""

    make_model: Callable[[], nn.Module]
    objective: Objective
    images: Tensor
    labels: Tensor | None
    budget: Budget
    project: Projection | None

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return PRECISIONS[self.budget.precision]

    @property
    def snapshots(self) -> set[int]:
        """The steps after which the weights are kept."""
        return {*self.budget.snapshots, self.budget.steps}

    def new_model(self, member: FleetMember) -> nn.Module:
        """A member's model as it starts, on the CPU."""
        return new_model(self.make_model, member.seed, member.start, self.dtype)

    def weights_of(self, member: FleetMember) -> dict[str, Tensor]:
        """A member's weights of the objective's terms, as a step hands them over."""
        return {name: torch.tensor(value, dtype=self.dtype) for name, value in member.weights.items()}


def new_model(
    make_model: Callable[[], nn.Module], seed: int, start: Mapping[str, Tensor] | None = None, dtype=None
) -> nn.Module:
    """A model whose own initialisation ran under `seed`, on the CPU, with torch's global generator left as it was.

    Raises:
        ValueError: what was made is no module, or the seed is none.
    """
    seed = checks.seed(seed)
    with _GENERATOR, torch.random.fork_rng(devices=[]):
        words = randomness.bits(seed, randomness.INIT, 0, "start", torch.zeros(1, dtype=torch.int64))
        torch.default_generator.manual_seed(int(words[0, 0]) << 31 ^ int(words[0, 1]))
        model = make_model()
    if not isinstance(model, nn.Module):
        raise checks.refusal("make_model", model, "a function that makes a torch.nn.Module")
    model.to(dtype)
    if start is not None:
        model.load_state_dict(start)
    return model.train()


def batch_indices(seed: int, size: int, batch_size: int, step: int, device=None, orders: dict | None = None) -> Tensor:
    """Which of `size` images step `step` (from 0) sees: int64, (batch_size,).

    The batches cut one endless row of permutations, a fresh one each epoch, so every image is seen equally often
    whatever the batch size. `orders` keeps the permutations of the current epochs from call to call.

    Raises:
        ValueError: no images, an empty batch, or a step before the first.
    """
    size, batch_size = checks.whole("size", size, 1), checks.whole("batch_size", batch_size, 1)
    seed, step = checks.seed(seed), checks.whole("step", step)
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


class Draws:
    """The batches and the noise of `BLOCK` steps at a time, of each distinct order of images and of each seed.

    `rows` is (orders, BLOCK, batch), numbers of images; `noise` maps sites to (BLOCK, seeds, batch, *shape). They keep
    their place in memory, so that a captured graph may read them. `order_of` and `seed_of` are each member's places.
    Of a budget with a period, each step has those of its like in the first period.
    """

    def __init__(self, task: Task, members: Sequence[FleetMember], sites: Mapping[str, tuple[int, ...]]):
        device, self.batch_size, self.period = task.images.device, task.budget.batch_size, task.budget.period
        orders = {(m.seed, id(m.indices)): m for m in members}
        seeds = list(dict.fromkeys(m.seed for m in members))
        of_order, of_seed = ({value: place for place, value in enumerate(values)} for values in (orders, seeds))
        self.sites, self.dtype, self.size = dict(sites), task.dtype, len(task.images)
        self.seeds = torch.tensor(seeds, device=device)
        self.order_of = torch.tensor([of_order[m.seed, id(m.indices)] for m in members], device=device)
        self.seed_of = torch.tensor([of_seed[m.seed] for m in members], device=device)
        self._orders = [(m.seed, None if m.indices is None else m.indices.to(device), {}) for m in orders.values()]
        self.rows = torch.empty(len(orders), BLOCK, self.batch_size, dtype=torch.int64, device=device)
        self.noise = {
            site: torch.empty(BLOCK, len(seeds), self.batch_size, *shape, dtype=self.dtype, device=device)
            for site, shape in sites.items()
        }
        self._block = -1

    def ready(self, step: int) -> int:
        """Draw the block that holds a step, unless it is there, and return the step's place in it."""
        if step // BLOCK != self._block:
            self._block = step // BLOCK
            device = self.rows.device
            for row, (seed, subset, orders) in zip(self.rows, self._orders, strict=True):
                places = self._places(seed, self.size if subset is None else len(subset), orders)
                row.copy_((places if subset is None else subset[places]).view_as(row))
            steps = torch.arange(self._block * BLOCK, (self._block + 1) * BLOCK, device=device).unsqueeze(1)
            steps = steps if self.period is None else steps % self.period
            for site, shape in self.sites.items():
                shape = (self.batch_size, *shape)
                draws = randomness.normal(self.seeds, randomness.NOISE, steps, site, shape, self.dtype, device)
                self.noise[site].copy_(draws)
        return step % BLOCK

    def _places(self, seed: int, size: int, orders: dict) -> Tensor:
        """Which of `size` images the block's steps see, one step after the other: (BLOCK * batch,)."""
        device, block = self.rows.device, self._block
        if self.period is None:  # one row of permutations, and so one cut
            return batch_indices(seed, size, BLOCK * self.batch_size, block, device, orders)
        steps = (step % self.period for step in range(block * BLOCK, (block + 1) * BLOCK))
        return torch.cat([batch_indices(seed, size, self.batch_size, step, device, orders) for step in steps])


def means(call, objective, x, y, noise, weights, progress, precision) -> dict[str, Tensor]:
    """The objective's means over one member's batch."""
    kind, low = x.device.type, precision == "bf16"
    # The cache of bfloat16 weights is the process's, and any thread that leaves autocast empties it: with it, how a
    # weight that is used twice sums its gradient would depend on the company.
    cast = torch.autocast(kind, torch.bfloat16, enabled=low, cache_enabled=False)
    with cast if low or torch.is_autocast_enabled(kind) else nullcontext():  # entering it costs a tenth of a tiny step
        params = call(x, noise)
    return {name: v.mean() for name, v in objective(as_float(params), x, y, weights, progress).items()}


def adam(parameters, budget: Budget, capturable: bool = False) -> torch.optim.Adam:
    """The optimiser of every member (Kingma & Ba 2015), as one kernel over all its tensors."""
    return torch.optim.Adam(
        parameters, lr=budget.lr, weight_decay=budget.weight_decay, fused=True, capturable=capturable
    )


@torch.no_grad()
def project(project: Projection, state: Mapping[str, Tensor], weights, step: int, stacked: bool = False) -> None:
    """Let a projection change the weights in place: of one member, or of each row of a stack."""
    call = torch.func.vmap(lambda s, w: project(s, w, step)) if stacked else lambda s, w: project(s, w, step)
    for name, value in call(state, weights).items():
        state[name].copy_(value)


def names_of(model: nn.Module) -> dict[str, str]:
    """Every name in the state dict to the name under which the tensor is stacked: tied tensors are stacked once."""
    first: dict[int, str] = {}
    for name, tensor in itertools.chain(model.named_parameters(), model.named_buffers()):
        first.setdefault(id(tensor), name)
    return {name: first[id(tensor)] for name, tensor in model.state_dict(keep_vars=True).items()}


def finite(state: Mapping[str, Tensor]) -> bool:
    """Whether all numbers are."""
    return all(bool(value.isfinite().all()) for value in state.values())


def diverged_loss(step: int) -> str:
    """Why a member is frozen whose loss was not finite in step `step`, from 0."""
    return f"the loss of step {step} was not finite"


def diverged_weights(step: int) -> str:
    """Why a member is frozen whose weights were not finite after `step` steps."""
    return f"the weights after step {step} were not finite"
