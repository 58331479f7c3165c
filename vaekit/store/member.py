"""A member of a study: everything that a trained model depends on, and the key that this gives it."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from vaekit import data, models, pruning
from vaekit.fleet import PRECISIONS
from vaekit.settings import canonical
from vaekit.store.files import StoreError

SCHEMA = 1
KEY = "[0-9a-f]{64}"  # the pattern of a key
SHORT = 12  # digits of a key that name its member to people
_COMPACT = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


@dataclass(frozen=True)
class Member:
    """Everything that a trained model depends on, as plain values.

    `model_args` and `weights` (the objective's) may be given as dictionaries and are kept as sorted pairs. `n_train` is
    None for splits whose size is given; `n_test` limits the test images (None: all). `parent` is the key of the member
    that a derived one starts from, `arm` what is done to it while it trains (see `pruning.ARMS`).

    `noise` is None where every step draws noise and a batch of its own. "frozen": the first epoch's come again in each
    later one, as where a training loop reseeds at every epoch. An epoch is then ceil(n_train / batch_size) steps, the
    least that see all images; its last batch is filled up with the first ones of the seed's next order.

    Raises:
        ValueError: a number that is not finite, or a `noise` that is none.
    """

    model: str
    data: str
    split: str
    objective: str
    steps: int
    seed: int
    n_train: int | None = None
    n_test: int | None = None
    model_args: Any = ()
    weights: Any = ()
    batch_size: int = 128
    lr: float = 1e-3
    weight_decay: float = 0.0
    precision: str = "full"
    parent: str | None = None
    arm: str | None = None
    noise: str | None = None

    def __post_init__(self):
        if self.noise not in (None, "frozen") or (self.noise and not self.n_train):
            raise ValueError(f"noise is {self.noise!r} of n_train {self.n_train}; wanted None, or frozen of a number")
        spelled = {
            "model_args": tuple(sorted((name, _argument(value)) for name, value in dict(self.model_args).items())),
            "weights": tuple(sorted((name, canonical(value)) for name, value in dict(self.weights).items())),
            "lr": canonical(self.lr),
            "weight_decay": canonical(self.weight_decay),
        }
        for name, value in spelled.items():
            object.__setattr__(self, name, value)

    def row(self) -> dict[str, Any]:
        """The member as one flat row: `model_args.depth`, `weights.beta` and so on are columns of their own."""
        row: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            row |= {f"{field.name}.{k}": v for k, v in value} if isinstance(value, tuple) else {field.name: value}
        # A field that came after members were stored is named only where it is used: it must not change their keys.
        return {name: value for name, value in row.items() if not (name in ("arm", "noise") and value is None)}

    @property
    def period(self) -> int | None:
        """The steps after which batches and noise come again; None: they never do."""
        return -(-(self.n_train or 0) // self.batch_size) if self.noise else None

    @property
    def code_version(self) -> int:
        """The model family's code version, part of the key."""
        return models.CODE_VERSIONS[self.model]

    @property
    def key(self) -> str:
        """sha256 of the canonical JSON of what decides the result: 64 hexadecimal digits."""
        outside = (self.code_version, data.identity(self.data))  # what decides it and is no field of its own
        if self.__dict__.get("_outside") != outside:
            object.__setattr__(self, "_key", key_of(SCHEMA, *outside, self.row()))
            object.__setattr__(self, "_outside", outside)
        return self.__dict__["_key"]

    def build(self) -> nn.Module:
        """A new, untrained model of this member's architecture, in its precision; with masks where it has an arm."""
        model = models.build(self.model, data.image_shape(self.data), **dict(self.model_args))
        model = pruning.add_masks(model) if self.arm else model
        return model.to(PRECISIONS[self.precision])


def key_of(schema: int, code_version: int, identity: str, row: Mapping[str, Any]) -> str:
    """The key of a member by its row and what else decides the result, of whatever version of the code."""
    content = {"schema": schema, "code_version": code_version, "data": identity, "member": row}
    return hashlib.sha256(_COMPACT.encode(content).encode()).hexdigest()


def member_of(row: Mapping[str, Any]) -> Member:
    """The member that `Member.row` made this row from. Raises StoreError for a row that is none."""
    fields: dict[str, Any] = {}
    try:
        for name, value in row.items():
            head, _, tail = name.partition(".")
            if tail:
                fields.setdefault(head, {})[tail] = value
            else:
                fields[name] = value
        member = Member(**fields)
        for field in dataclasses.fields(Member):
            value = getattr(member, field.name)
            kind: Any = field.type
            if kind is not Any and (isinstance(value, bool) or not isinstance(value, kind)):
                raise TypeError(f"{field.name} is {value!r}")
        return member
    except (TypeError, ValueError, OverflowError) as error:
        raise StoreError(f"this row is no member ({error}): {dict(row)}") from None


def unique(members: Iterable[Member]) -> list[Member]:
    """The members without duplicates, in order."""
    return list(dict.fromkeys(members))


def describe(member: Member) -> str:
    """What a member shares with the others of its fleet, for people."""
    model = " ".join([member.model, *(f"{name} {value}" for name, value in member.model_args)])
    images = f"{member.n_train:,} images of {member.data}" if member.n_train else member.data
    arm = f", pruned ({member.arm})" if member.arm else ""
    noise = f", {member.noise} noise" if member.noise else ""
    steps = f"{member.steps:,} steps of {member.batch_size}{noise}"
    return f"{model}{arm}, {images} ({member.split}), {steps}, {member.precision}"


def _argument(value: Any) -> Any:
    """A model's argument in its one spelling: lists as tuples, floats canonical, those that are whole as integers."""
    if isinstance(value, list | tuple):
        return tuple(map(_argument, value))
    if not isinstance(value, float):
        return value
    number = canonical(value)
    return int(number) if number.is_integer() else number
