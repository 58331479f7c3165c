"""What is tried before any work: two models are made and see two images, so that a mistake is one clear error.

A member is to be the same each time and in any company. So all that is random in it must come of its seed: its start,
which `make_model` draws by torch's global generator, its batches, and the noise that the model is handed. Whatever else
draws, in the model, the objective or the projection, is found by the operations that torch tags as random; what torch
does not see (numpy, a clock), by two models that differ.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter
from torch.utils._pytree import tree_leaves

from vaekit import randomness
from vaekit.distributions import as_float
from vaekit.fleet.members import FleetMember
from vaekit.fleet.stepping import Task

_CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6, "equal_nan": True}  # what rounding may be from pass to pass


def tried(task: Task, members: Sequence[FleetMember]) -> tuple[nn.Module, int]:
    """The first member's model as it starts, and the bytes that a step keeps of each image for its backward pass.

    Raises: ValueError says what was given and what was wanted; what the code itself raised is its cause.
    """
    with torch.random.fork_rng(devices=[]):
        model, twin = _made(task, members[0]), _made(task, members[0])
        _check_starts(model, members)
        states = zip(model.state_dict().items(), twin.state_dict().values(), strict=True)
        if unlike := [name for (name, value), other in states if not _close(value, other)]:
            raise ValueError(
                f"make_model gives another {unlike[0]} each time; let it set all weights, and draw them by torch's "
                "global generator alone, which is seeded for each member"
            )
        (results, image_bytes), (again, _) = _passed(model, task, members[0]), _passed(twin, task, members[0])
        if not all(map(_close, tree_leaves(results), tree_leaves(again))):
            raise ValueError(
                "model or objective give other values each time for the same images and noise; let all that is random "
                "come of `noise`, with a site for it in noise_sites"
            )
        _check_projection(model, task, members)
    return model, image_bytes


def _made(task: Task, member: FleetMember) -> nn.Module:
    with _told("make_model failed"):
        model = task.new_model(FleetMember(member.seed))
    if lazy := [name for name, value in model.named_parameters() if isinstance(value, UninitializedParameter)]:
        raise ValueError(f"{lazy[0]} has no size yet; give a model whose layers know theirs, not Lazy ones")
    if not isinstance(getattr(model, "noise_sites", None), Mapping):
        raise ValueError(
            f"{type(model).__name__} has no noise_sites; set it to a dictionary from each noise's name to the "
            'shape that one image needs, e.g. {"z": (10,)}'
        )
    return model


def _check_starts(model: nn.Module, members: Sequence[FleetMember]) -> None:
    """Refuse a start that is not a state dict of this model."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    for i, member in enumerate(members):
        if member.start is None:
            continue
        start = {name: tuple(value.shape) for name, value in member.start.items()}
        if unlike := sorted(name for name in own.keys() | start.keys() if own.get(name) != start.get(name)):
            name = unlike[0]
            given, wanted = (f"of shape {of[name]}" if name in of else "missing" for of in (start, own))
            raise ValueError(f"member {i} starts with {name} {given}, in the model it is {wanted}; give its state_dict")


def _passed(model: nn.Module, task: Task, member: FleetMember) -> tuple[tuple[Any, Any], int]:
    """What the model and the objective give of two images, and the bytes of each that a backward pass needs."""
    images, labels = _two_images(task)
    rows = torch.arange(2)
    noise = {
        site: randomness.normal_rows(member.seed, randomness.NOISE, 0, site, rows, tuple(shape), task.dtype)
        for site, shape in model.noise_sites.items()  # pyright: ignore
    }
    weights = task.weights_of(member)
    given = f"images {tuple(images.shape)} and noise { ({site: tuple(value.shape) for site, value in noise.items()}) }"
    own = {value.untyped_storage().data_ptr() for value in itertools.chain(model.parameters(), model.buffers())}
    saved: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        watch = randomness.NoDraws(f"{type(model).__name__}")
        with _told(f"the model failed on {given}"), watch, _layers(model, watch.running):
            params = as_float(model(images, noise))
        names = list(params) if isinstance(params, dict) else type(params).__name__
        failed = f"the objective failed on params {names} and weights {list(weights)}"
        with _told(failed), randomness.NoDraws("the objective"):
            values = task.objective(params, images, labels, weights, torch.tensor(0.0))
            shapes = {name: tuple(value.shape) for name, value in values.items()}
    if "loss" not in shapes or set(shapes.values()) != {(2,)}:
        raise ValueError(f"the objective gave {shapes} for two images; it must give loss, and each value one an image")
    if unfit := [name for name, value in values.items() if not value.is_floating_point() or name == "step"]:
        raise ValueError(f"the objective gave {unfit[0]}, {values[unfit[0]].dtype}; give floats, and none named step")
    with _told("the loss has no gradient; give one that depends on the model's parameters"):
        values["loss"].mean().backward()
    return (params, values), math.ceil(sum(saved.values()) / 2)


def _two_images(task: Task) -> tuple[Tensor, Tensor | None]:
    """Two images as a step sees them, on the CPU: those with the least and the greatest label, if they have numbers."""
    two = [0, len(task.images) - 1]
    if task.labels is not None and task.labels.ndim == 1:
        numbers = task.labels.double()
        ends = [int(numbers.argmin()), int(numbers.argmax())]
        two = ends if ends[0] != ends[1] else two
    labels = None if task.labels is None else task.labels[two].cpu()
    return task.images[two].cpu().to(task.dtype) / 255, labels


def _check_projection(model: nn.Module, task: Task, members: Sequence[FleetMember]) -> None:
    """Let the projections be made, of each member's weights at the start, of the first one's later on, too."""
    if task.project is None:
        return
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    different = list({tuple(member.weights.items()): member for member in members}.values())
    tries = [(member, 0) for member in different] + [(members[0], step) for step in {1, task.budget.steps}]
    for member, step in tries:
        failed = f"the projection failed on weights {dict(member.weights)} after {step} steps"
        with _told(failed), torch.no_grad(), randomness.NoDraws("the projection"):
            changed, again = (dict(task.project(state, task.weights_of(member), step)) for _ in range(2))
        own = {name: value.shape for name, value in state.items()}
        if unfit := [name for name, value in changed.items() if own.get(name) != getattr(value, "shape", None)]:
            raise ValueError(f"the projection changes {unfit[0]}; give tensors as the model has them, {', '.join(own)}")
        if not all(_close(value, again.get(name)) for name, value in changed.items()):
            raise ValueError(
                f"the projection changes to other values each time after {step} steps; let nothing be random"
            )


@contextmanager
def _layers(model: nn.Module, running: list[str]) -> Iterator[None]:
    """Note in `running` which of a model's layers are running."""
    hooks = []
    for name, layer in model.named_modules():
        who = f"{name}, a {type(layer).__name__}," if name else f"{type(layer).__name__}.forward"
        hooks.append(layer.register_forward_pre_hook(lambda *_, who=who: running.append(who)))
        hooks.append(layer.register_forward_hook(lambda *_: (running.pop(), None)[1]))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _told(failed: str) -> Iterator[None]:
    """What somebody's code raises, as one sentence and its cause."""
    try:
        yield
    except randomness.DrawError:
        raise
    except Exception as error:
        raise ValueError(f"{failed}: {type(error).__name__}: {error}") from error


def _close(value: Any, other: Any) -> bool:
    """Whether two results are the same but for rounding; what is neither a tensor nor a number is not compared."""
    if isinstance(value, Tensor) and isinstance(other, Tensor):
        return value.shape == other.shape and torch.allclose(value, other, **_CLOSE)
    if isinstance(value, int | float) and isinstance(other, int | float):
        return value == other or (math.isnan(value) and math.isnan(other))
    return not isinstance(value, int | float | Tensor)
