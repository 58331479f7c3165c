"""A fleet in the middle of its training: its state, who saves it, and the history of its losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

HISTORY_EVERY = 100  # steps that one row of a history is the mean of


@dataclass
class State:
    """All that a member on *cores*, or a stack, goes on from: what comes of it is what no break would have given.

    Attributes:
        tensors: by name, on the CPU: weights, Adam's moments, history, "step".
        snapshots: the weights kept so far, by step; of a stack with a leading axis of members.
        status: "finished", or "diverged" with a `reason`; a stack has its members' in `tensors`.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    snapshots: Mapping[int, Mapping[str, Tensor]] = field(default_factory=dict)
    status: str = "finished"
    reason: str = ""


class Checkpointer(Protocol):
    """Keeps the state of a member, or of a stack, while it trains, e.g. on a disk."""

    def latest(self) -> State | None:
        """What to go on from, None to begin."""

    def due(self) -> bool:
        """Whether it is time to save the state again."""
        ...

    def save(self, state: State) -> None:
        """Save a state; called at once after an interruption and after the last step, too.

        Its tensors change with the next step.
        """


class History:
    """Means of the objective's values over windows of `HISTORY_EVERY` steps; a value is a number or one a member."""

    def __init__(self):
        self.rows: list[dict] = []
        self.sums: dict = {}
        self.step = 0

    def add(self, step: int, values: dict) -> None:
        """Add the values of one step; `step` counts from 1."""
        self.sums = {name: self.sums.get(name, 0.0) + value for name, value in values.items()}
        self.ended(step)

    def ended(self, step: int) -> None:
        """Note that a step's values are in `sums`, and close the window that ends there."""
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

    def tensors(self) -> dict[str, Tensor]:
        """Rows and open window as tensors by name, on the CPU."""
        named = {"step": torch.tensor([r["step"] for r in self.rows], dtype=torch.int64)}
        for name in (self.rows[0] if self.rows else {}).keys() - {"step"}:
            values = [torch.as_tensor(r[name], dtype=torch.float64) for r in self.rows]
            named[f"row.{name}"] = torch.stack(values).cpu()
        for name, value in self.sums.items():
            named[f"sum.{name}"] = torch.as_tensor(value, dtype=torch.float64).cpu().clone()
        return named

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], step: int, device: torch.device | str = "cpu") -> "History":
        """The history that `tensors` came from, after `step` steps; numbers become Python's own."""

        def back(value: Tensor):
            return value.to(device, copy=True) if value.dim() else value.item()

        history = cls()
        history.step = step
        columns = {name.removeprefix("row."): value for name, value in tensors.items() if name.startswith("row.")}
        for i, end in enumerate(tensors["step"].tolist()):
            history.rows.append({"step": end} | {name: back(value[i]) for name, value in columns.items()})
        history.sums = {n.removeprefix("sum."): back(v) for n, v in tensors.items() if n.startswith("sum.")}
        return history


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose name begins with a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a prefix before their names."""
    return {prefix + name: value for name, value in tensors.items()}
