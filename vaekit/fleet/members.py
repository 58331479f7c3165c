"""What a fleet is given and what it gives back: members, their budget, and what became of them."""

import functools
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import overload

import torch
from torch import Tensor, nn

from vaekit import checks

PRECISIONS = {"fp64": torch.float64, "full": torch.float32, "bf16": torch.float32}  # the finest first
Projection = Callable[[dict[str, Tensor], Mapping[str, Tensor], int], Mapping[str, Tensor]]


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
        period: steps after which batches and noise come again: those of step t, from 0, are those of step t mod period.
            None: they never do.
    """

    steps: int
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.0
    precision: str = "full"
    snapshots: tuple[int, ...] = ()
    period: int | None = None

    def __post_init__(self):
        become = functools.partial(object.__setattr__, self)  # numpy's numbers become Python's
        positive = "a finite number, 0 or more"
        problems = checks.problems(
            lambda: become("steps", checks.whole("steps", self.steps, 1)),
            lambda: become("batch_size", checks.whole("batch_size", self.batch_size, 1)),
            lambda: become("lr", checks.number("lr", self.lr, positive, 0)),
            lambda: become("weight_decay", checks.number("weight_decay", self.weight_decay, positive, 0)),
            lambda: become("snapshots", tuple(checks.whole("snapshots", s) for s in checks.several(self.snapshots))),
            lambda: become("period", None if self.period is None else checks.whole("period", self.period, 1)),
        )
        if self.precision not in list(PRECISIONS):
            problems.append(f"precision is {self.precision!r}; use one of {', '.join(PRECISIONS)}")
        if not problems and (beyond := [step for step in self.snapshots if step > self.steps]):
            problems.append(f"snapshots {beyond} lie outside 0 … {self.steps} steps; give some within")
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
    """Every combination of seeds and weights: grid(beta=[0.1, 1, 4], seed=[0, 1]) are six members.

    Raises:
        ValueError: a seed that is no whole number of 63 bits, or a weight that is no finite number.
    """
    seeds = [checks.seed(one) for one in checks.several(seed)]
    axes = [[checks.number(name, one) for one in checks.several(values)] for name, values in weights.items()]
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

    `seconds` is what the steps of all members took together, on the wall's clock; a slice of the fleet keeps it.
    """

    def __init__(
        self, make: Callable[[], nn.Module], budget: Budget, backend: str, trained: list[Trained], seconds: float
    ):
        self.budget, self.backend, self.seconds = budget, backend, seconds
        self._make, self._trained = make, trained

    @overload
    def __getitem__(self, i: int) -> Trained: ...

    @overload
    def __getitem__(self, i: slice) -> "Fleet": ...

    def __getitem__(self, i: int | slice) -> "Trained | Fleet":
        if isinstance(i, slice):
            return Fleet(self._make, self.budget, self.backend, self._trained[i], self.seconds)
        return self._trained[i]

    def __len__(self) -> int:
        return len(self._trained)

    def model(self, i: int, step: int | None = None) -> nn.Module:
        """Member i's model in eval mode, as it was after `step` steps (None: its last snapshot).

        Raises: KeyError names the snapshots there are, IndexError the members.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"there is no member {i}; the fleet has {len(self)}, numbered from 0")
        snapshots = self[i].snapshots
        step = max(snapshots, default=0) if step is None else step
        if step not in snapshots:
            raise KeyError(f"member {i} ({self[i].status}) has no snapshot at step {step}; it has {sorted(snapshots)}")
        model = self._make()
        model.load_state_dict(snapshots[step])
        return model.eval()
