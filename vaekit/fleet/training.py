"""`train_fleet`: check, choose the backend, cut the fleet where memory would not hold it, train."""

import functools
import gc
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn

from vaekit import checks
from vaekit.fleet import cores, memory, stack, stepping, trial
from vaekit.fleet.members import Budget, Fleet, FleetMember, Projection, Trained
from vaekit.fleet.progress import Stopped, Tell, Watch, shown
from vaekit.fleet.state import Checkpointer
from vaekit.fleet.stepping import Task
from vaekit.losses import Objective

_TINY = (50_000, 256)  # parameters, and values of an image, up to which a CPU stacks; see `default_backend`
_FEW = 4  # members from which on it does: stacking two costs as much as it saves


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
    threads_each: int | None = None,
    checkpointers: Sequence[Checkpointer] = (),
    progress: Tell | bool | None = None,
    stop: Callable[[], bool] | None = None,
) -> Fleet:
    """Train all members, each as if it were alone.

    Args:
        make_model: makes the module that all members share, an ordinary `nn.Module` whose `forward(x, noise)` returns
            distribution parameters and whose `noise_sites` maps each name in `noise` to one image's shape. Its
            parameters are initialised as it does itself, under the member's seed. Neither it nor the objective draws
            numbers of its own (Dropout, `randn_like`): what is random comes as `noise`.
        objective: (params, images, labels, weights, progress) -> {"loss": …, …}, each of shape (batch,); see `losses`.
            Progress is the number of steps done, not a share of the budget: so a longer run's snapshot at a step is
            what a run of that many steps would have given. On a GPU a step is one CUDA graph, unless the objective or
            the model reads a value back (`.item()`): then a RuntimeWarning says why it is not, and steps are slower.
        members: what to train; see `grid`.
        images: uint8, (n, C, H, W), kept once; a step sees them in [0, 1].
        labels: (n,), or (n, ...), handed on to the objective.
        budget: steps, batch size, precision, snapshots.
        project: (state, weights, step) -> the tensors of `state` that change; called for each member by itself at the
            start (step 0) and after every step, with its parameters and buffers by name and the number of steps done.
            Masks are applied by it, see `pruning`.
        device: "cpu", "cuda", …
        backend: "cores", "stack", or None: `default_backend`'s choice.
        threads: how many members *cores* steps at a time; None: torch's number of threads.
        threads_each: with how many intra-op threads *cores* steps each. With 1 a member has the same bits in any
            company and on any number of cores. None: 1 with checkpointers or with `threads`; otherwise a fleet smaller
            than torch's number of threads shares them out.
        checkpointers: save the fleet's state now and then, so that a fleet that is stopped goes on where it was: one a
            member on *cores*, one in all for a *stack*. SIGINT and SIGTERM then end the training after the step at
            hand, with its state saved.
        progress: a function is told where the training stands, a `Progress`, at most once a second, by the thread that
            called. None: a bar in a terminal and in a notebook, elsewhere a line a minute; False: nothing.
        stop: asked between steps; once it is True the training ends as by a signal, e.g. the `is_set` of an Event.

    Returns a `Fleet`. A member whose loss or weights are no longer finite goes no further and is marked as diverged;
    the others do not notice. A fleet that memory would not hold at once is trained in parts; with a checkpointer it is
    not, since a state is that of one composition. Raises: ValueError, all problems in one, before any work; MemoryError
    where not even one member fits; Stopped, a KeyboardInterrupt, where it was ended early.
    """
    members = checks.several(members)
    _check(members, images, labels, budget, device, backend, threads, threads_each)
    images = images.to(device)
    labels = None if labels is None else labels.to(device)
    task = Task(make_model, objective, images, labels, budget, project)
    template, activations = trial.tried(task, members)
    backend = backend or default_backend(device, template, images.shape[1:], len(members))
    if checkpointers and len(checkpointers) != (wanted := len(members) if backend == "cores" else 1):
        raise ValueError(f"train_fleet: got {len(checkpointers)} checkpointers; {backend} wants {wanted}")
    capacity = memory.members_at_once(template, activations, budget, device)
    del template  # a model more would be in memory all the while
    begun = time.perf_counter()
    with (
        shown(progress, functools.partial(print, file=sys.stderr, flush=True)) as (tell, _),
        stopping(watch := Watch(members, budget.steps, tell, stop), bool(checkpointers)),
        tf32(budget.precision, torch.device(device)),
        torch.cuda.device(device) if torch.device(device).type == "cuda" else nullcontext(),
    ):
        if backend == "cores":
            if threads_each is None:
                threads_each = 1 if checkpointers or threads else max(1, torch.get_num_threads() // len(members))
            threads = min(threads or torch.get_num_threads(), capacity, len(members))
            trained = cores.train(task, members, threads, threads_each, capacity, checkpointers, watch)
        elif checkpointers:
            trained = stack.train(task, members, checkpointers[0], watch)
        else:
            trained = _in_parts(task, members, capacity, watch)
    seconds = time.perf_counter() - begun
    make = functools.partial(stepping.new_model, make_model, members[0].seed, None, task.dtype)
    return Fleet(make, budget, backend, trained, seconds)


def _in_parts(task: Task, members: Sequence[FleetMember], capacity: int, watch: Watch) -> list[Trained]:
    """Train stacks of equal size, as many members at once as memory has capacity for; smaller ones where it had not.

    Raises: MemoryError for a single member that does not fit.
    """
    parts = math.ceil(len(members) / max(1, min(capacity, len(members))))
    size = math.ceil(len(members) / parts)
    trained: list[Trained] = []
    while len(trained) < len(members) and not watch.stopped.is_set():
        first = len(trained)
        try:
            trained += stack.train(task, members[first : first + size], None, watch, first)
            continue
        except (RuntimeError, MemoryError) as error:
            if not memory.ran_out(error):
                raise
            if size == 1:
                raise MemoryError(f"one member does not fit in the memory of {task.images.device}: {error}") from error
        size = math.ceil(size / 2)  # out here the error is gone, and the tensors that its frames held
        gc.collect()  # a process's first optimiser imports torch's compiler, in a cycle that holds the stack
    return trained


def default_backend(
    device: str, model: nn.Module | None = None, image_shape: Sequence[int] = (), members: int = 1
) -> str:
    """The backend of a device and a fleet: a fixed choice, so that a repeated run takes the same path.

    *stack* on a GPU. On a CPU *cores*, but for four or more members of a model so small (at most 50,000 parameters, on
    images of at most 256 values) that Python's overhead rules; see the benchmarks.
    """
    if torch.device(device).type != "cpu":
        return "stack"
    if model is None or members < _FEW:
        return "cores"
    parameters = sum(value.numel() for value in model.parameters())
    tiny = parameters <= _TINY[0] and math.prod(image_shape) <= _TINY[1]
    return "stack" if tiny else "cores"


class Stoppable(Protocol):
    """What a signal ends: `stopped` is set where it came, `share` is what is done."""

    stopped: threading.Event

    @property
    def share(self) -> float: ...


@contextmanager
def stopping(watch: Stoppable, checkpoints: bool) -> Iterator[None]:
    """End the training at SIGINT or SIGTERM, where states are saved; what they mean follows once the last one is.

    A second signal ends at once. Handlers can be set by the main thread alone; elsewhere nothing is caught.
    """
    came: list[int] = []

    def note(number: int, frame: object) -> None:
        came.append(number)
        if len(came) > 1:
            _end(number)
        watch.stopped.set()

    caught = (signal.SIGINT, signal.SIGTERM) if checkpoints and _in_main_thread() else ()
    before = {number: signal.signal(number, note) for number in caught}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if signal.SIGTERM in came[:1]:
        _end(signal.SIGTERM)
    if came or (watch.stopped.is_set() and watch.share < 1):
        raise Stopped(watch.share, kept=checkpoints)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _end(number: int) -> None:
    """End as a signal asks for: an interrupted cell or command, or a process that was told to terminate."""
    raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)


@contextmanager
def tf32(precision: str, device: torch.device) -> Iterator[None]:
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
    except (RuntimeError, TypeError):
        return f"torch does not know {device!r}; use cpu or cuda"
    if kind.type not in ("cpu", "cuda") or (kind.type == "cpu" and kind.index):
        return f"{device!r} is no device to train on; use cpu or cuda"
    if kind.type == "cuda" and (kind.index or 0) >= torch.cuda.device_count():
        return f"{device!r} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices here; use cpu"
    return None


def _check(members, images, labels, budget, device, backend, threads, threads_each) -> None:
    """All that can be wrong with a fleet, in one error, before any work."""
    problems = []
    if not isinstance(budget, Budget):
        raise ValueError(f"train_fleet: budget is {budget!r}; give a vaekit.Budget(steps=…)")
    if not isinstance(images, Tensor):
        raise ValueError(f"train_fleet: images are {type(images).__name__}; give a uint8 tensor, e.g. image_set.train")
    if not members:
        problems.append("there are no members; give at least one, see vaekit.grid")
    elif strange := [member for member in members if not isinstance(member, FleetMember)]:
        raise ValueError(f"train_fleet: got a {type(strange[0]).__name__} among the members; give FleetMembers")
    if images.dtype != torch.uint8 or images.dim() != 4 or not len(images):
        problems.append(f"images are {images.dtype} of shape {tuple(images.shape)}; give uint8 of shape (n, C, H, W)")
    if labels is not None and not (isinstance(labels, Tensor) and labels.ndim):
        problems.append(f"labels are {type(labels).__name__}; give a tensor of shape (n,), e.g. image_set.labels")
    elif labels is not None and len(labels) != len(images):
        problems.append(f"there are {len(labels)} labels for {len(images)} images")
    if len({frozenset(member.weights or ()) for member in members}) > 1:
        problems.append("members differ in the names of their weights; give each the same names")
    for i, member in enumerate(members):
        if not isinstance(member.weights, Mapping) or not isinstance(member.start, Mapping | None):
            problems.append(f"member {i}: weights are numbers by name, and a start is a state dict; give mappings")
            continue
        weights = (functools.partial(checks.number, *weight) for weight in member.weights.items())
        wrong = checks.problems(functools.partial(checks.seed, member.seed), *weights)
        problems += [f"member {i}: {problem}" for problem in wrong]
        indices = member.indices
        whole = isinstance(indices, Tensor) and indices.dtype == torch.int64 and indices.dim() == 1
        if indices is not None and not whole:
            problems.append(f"member {i}: {checks.refusal('indices', indices, 'a torch tensor of int64, (n,)')}")
        elif indices is not None and (not len(indices) or int(indices.min()) < 0 or int(indices.max()) >= len(images)):
            problems.append(f"member {i} trains on no images, or on some beyond the {len(images)} that there are")
    given = {"threads": threads, "threads_each": threads_each}
    counts = {name: count for name, count in given.items() if count is not None}
    problems += checks.problems(*(functools.partial(checks.whole, *count, 1) for count in counts.items()))
    if backend not in (None, "cores", "stack"):
        problems.append(f"backend is {backend!r}; use cores, stack or None")
    if problem := device_problem(device):
        problems.append(f"device: {problem}")
    elif backend == "cores" and torch.device(device).type != "cpu":
        problems.append(f"the cores backend is a CPU's; device is {device!r}, use stack there")
    if problems:
        raise ValueError("train_fleet: " + "; ".join(problems))
