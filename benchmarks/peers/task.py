"""What is trained: the studies' models on made images, the same starts, steps and objective whoever trains them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.data import tetrominoes
from vaekit.distributions import as_float
from vaekit.fleet import FleetMember, new_model
from vaekit.losses import OBJECTIVES, Objective
from vaekit.models import build
from vaekit.models.convolution import Conv2d, ConvTranspose2d

IMAGES, HELD_OUT = 4_096, 1_024
LR = 1e-3


@dataclass(frozen=True)
class Setup:
    """One model as a study has it: family, arguments, image shape, objective with its weights, batch size."""

    family: str
    image_shape: tuple[int, int, int]
    arguments: Mapping[str, object] = field(default_factory=dict)
    objective: str = "beta"
    weights: Mapping[str, float] = field(default_factory=lambda: {"beta": 1.0})
    batch_size: int = 128

    def make(self) -> nn.Module:
        """A new module, initialised from torch's global generator."""
        return build(self.family, self.image_shape, **self.arguments)


COLOUR, DIGIT = (3, 32, 32), (1, 28, 28)
_LAYERS = {"beta2": 1.0, "beta1": 1.0}
_CLASSIFIED = {"objective": "classifier_sum", "weights": {"beta": 1.0, "lambda": 100.0, "reconstruction": 1.0}}
SETUPS = {
    "tiny": Setup("dense_vae", (1, 8, 8), {"hidden": 156}),  # 25,044 parameters
    "mlp1": Setup("dense_vae", COLOUR, {"depth": 1, "hidden": 512}),
    "mlp3": Setup("dense_vae", COLOUR, {"depth": 3, "hidden": 512}),
    "cnn1": Setup("conv_vae", COLOUR, {"depth": 1, "channels": 64}),
    "cnn3": Setup("conv_vae", COLOUR, {"depth": 3, "channels": 64}),
    "ghvae": Setup("ghvae", COLOUR, objective="hierarchical", weights=_LAYERS),
    "ghvae28": Setup("ghvae", DIGIT, objective="hierarchical", weights=_LAYERS),
    "lvae": Setup("lvae", COLOUR, objective="hierarchical_warmup", weights=_LAYERS | {"warmup": 10.0}),
    "classifier28": Setup("classifier_vae", DIGIT, {"channels": (32, 64), "latent_dim": 10}, **_CLASSIFIED),
    "classifier32": Setup("classifier_vae", COLOUR, {"channels": (32, 64, 128), "latent_dim": 64}, **_CLASSIFIED),
    "study1": Setup(
        "conv_vae",
        COLOUR,
        {"depth": 4, "channels": (64, 128, 256, 256), "batch_norm": True, "slope": 0.2, "latent_dim": 32},
        batch_size=256,
    ),
}


@dataclass(frozen=True)
class Task:
    """What a contender does: `members` members of a setup for `steps` steps with `threads` threads.

    Args:
        setup: one of `SETUPS`.
        members: they differ in seed, and in the first of their weights by `spread` of it from one to the next.
        seed: the first member's.
        backend: of ours: "cores", "stack" or None, its own choice.
        batch_size: another than the setup's; 0: its own.
        compiled: whether the plain loop runs its step through torch.compile.
        workers: processes that load for a DataLoader; 0: none but its own.
    """

    setup: str
    members: int
    steps: int
    threads: int
    precision: str = "full"
    seed: int = 0
    spread: float = 0.25
    backend: str | None = None
    batch_size: int = 0
    compiled: bool = False
    workers: int = 0

    @property
    def of(self) -> Setup:
        """The setup by its name, at this task's batch size."""
        named = SETUPS[self.setup]
        return replace(named, batch_size=self.batch_size) if self.batch_size else named

    @property
    def model_steps(self) -> int:
        """Optimiser steps of all members together."""
        return self.members * self.steps

    def fleet(self) -> list[FleetMember]:
        """The members, by seed and weights."""
        first = next(iter(self.of.weights))
        scaled = [self.of.weights[first] * (1 + self.spread * i) for i in range(self.members)]
        return [FleetMember(self.seed + i, {**self.of.weights, first: value}) for i, value in enumerate(scaled)]

    def modules(self) -> Iterable[tuple[nn.Module, dict[str, Tensor]]]:
        """Each member's module at its start, of torch's own layers, and its weights as tensors."""
        for member in self.fleet():
            weights = {name: torch.tensor(value) for name, value in member.weights.items()}
            yield of_torchs_layers(new_model(self.of.make, member.seed)), weights

    def losses(self, modules: Iterable[nn.Module]) -> list[float]:
        """Each member's objective on held-out images with fixed noise, in nats, as in training (batch statistics)."""
        images, labels = (part[IMAGES:] for part in examples(self.of.image_shape))
        generator = torch.Generator().manual_seed(0)
        found = []
        with torch.no_grad():
            for module, member in zip(modules, self.fleet(), strict=True):
                sites = {site: torch.randn(HELD_OUT, *shape, generator=generator) for site, shape in sites_of(module)}
                module.train()
                found.append(
                    mean_loss(
                        OBJECTIVES[self.of.objective],
                        "full",
                        module,
                        images / 255,
                        labels,
                        sites,
                        {name: torch.tensor(value) for name, value in member.weights.items()},
                        torch.tensor(float(self.steps)),
                    ).item()
                )
        return found


TORCHS_OWN: dict[type[nn.Module], type[nn.Module]] = {Conv2d: nn.Conv2d, ConvTranspose2d: nn.ConvTranspose2d}


def of_torchs_layers(module: nn.Module) -> nn.Module:
    """The module with its convolutions made torch's own, as whoever writes a plain loop has them."""
    for layer in module.modules():
        layer.__class__ = TORCHS_OWN.get(type(layer), type(layer))  # pyright: ignore[reportAttributeAccessIssue]
    return module


def sites_of(module: nn.Module) -> Iterable[tuple[str, tuple[int, ...]]]:
    """The noise that a module asks for: each site and one image's shape."""
    return module.noise_sites.items()  # pyright: ignore


def mean_loss(objective: Objective, precision: str, module, x, labels, noise, weights, progress) -> Tensor:
    """The objective's mean over a batch, in nats."""
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        params = module(x, noise)
    return objective(as_float(params), x, labels, weights, progress)["loss"].mean()


@cache
def step_loss(objective: str, precision: str, compiled: bool) -> Callable[..., Tensor]:
    """`mean_loss` of a named objective, (module, x, labels, noise, weights, progress) -> loss; compiled where asked."""

    def loss(module, x, labels, noise, weights, progress) -> Tensor:
        return mean_loss(OBJECTIVES[objective], precision, module, x, labels, noise, weights, progress)

    return torch.compile(loss, dynamic=False) if compiled else loss


def train_on(task: Task, batches: Iterable[tuple[Tensor, Tensor]], module: nn.Module, weights) -> nn.Module:
    """An ordinary loop over (images in [0, 1], labels), with torch's own noise and fused Adam."""
    loss_of = step_loss(task.of.objective, task.precision, task.compiled)
    adam = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    for step, (x, labels) in zip(range(task.steps), batches, strict=False):
        noise = {site: torch.randn(len(x), *shape) for site, shape in sites_of(module)}
        loss = loss_of(module, x, labels, noise, weights, torch.tensor(float(step)))
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
    return module


@cache
def examples(image_shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Tetrominoes of a shape, uint8, the held-out ones last, and in which tenth of the width each lies, int64.

    Grey ones are the brightest of their channels; smaller ones are cropped in the middle, or averaged over blocks.
    """
    made = tetrominoes.image_set()
    chosen = torch.randperm(len(made), generator=torch.Generator().manual_seed(0))[: IMAGES + HELD_OUT]
    images = made.take(chosen)
    channels, side, _ = image_shape
    if channels == 1:
        images = images.amax(1, keepdim=True)
    if (block := tetrominoes.SIDE // side) > 1:
        images = F.avg_pool2d(images.float(), block).to(torch.uint8)
    edge = (images.shape[-1] - side) // 2
    place = tetrominoes.positions(0)[chosen, tetrominoes.FACTORS.index("x")]
    return images[..., edge : edge + side, edge : edge + side].contiguous(), (10 * place).long()
