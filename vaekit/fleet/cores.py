"""The backend of a CPU: a member a core, each an ordinary module stepped by one thread."""

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.fleet import stepping
from vaekit.fleet.members import FleetMember, Trained
from vaekit.fleet.progress import Watch
from vaekit.fleet.state import Checkpointer, History, State, below, under
from vaekit.fleet.stepping import BLOCK, Draws, Task

_LOOK = 0.5  # seconds after which the calling thread wakes: it alone handles signals, and tells of the progress


def train(
    task: Task,
    members: Sequence[FleetMember],
    threads: int,
    threads_each: int,
    capacity: int,
    checkpointers: Sequence[Checkpointer],
    watch: Watch,
) -> list[Trained]:
    """Train all members, `threads` at a time; where `watch` is stopped, return what there is, after the step at hand.

    Of members that no number of full rounds would hold, the last ones take turns, so that no core is idle while one
    member of three is stepped alone; as far as memory has room for more members than threads.
    """
    savers: Sequence[Checkpointer | None] = checkpointers or [None] * len(members)
    trainers = [MemberTrainer(task, member, saver) for member, saver in zip(members, savers, strict=True)]

    def look(now: bool = False) -> None:
        watch.look(lambda: [trainer.newest() for trainer in trainers], now=now)

    look(now=True)
    stop = threading.Event()
    rest = len(trainers) % threads
    fits = 2 * threads + rest - 1 <= capacity  # those that take turns, and the last of the others
    turns_from = len(trainers) - threads - rest if rest and threads < len(trainers) and fits else len(trainers)
    waiting = deque((trainer, i >= turns_from) for i, trainer in enumerate(trainers))

    def work(each: Callable[[], None] = lambda: None) -> None:
        while waiting and not (stop.is_set() or watch.stopped.is_set()):
            try:
                trainer, turns = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            if trainer.run((stop, watch.stopped), each, BLOCK if turns else task.budget.steps):
                waiting.append((trainer, turns))

    if threads == 1 and not checkpointers:
        # Torch keeps a team of threads for each of Python's, and two teams wait for each other.
        with _settled(threads_each):
            work(look)
        look(now=True)
        return [trainer.trained() for trainer in trainers]
    with workers(threads, threads_each) as pool:
        pending = {pool.submit(work) for _ in range(threads)}
        try:
            while pending:
                done, pending = wait(pending, _LOOK, FIRST_COMPLETED)
                for job in done:
                    job.result()  # an error in one ends all, now and not when the others are done
                look()
        finally:
            stop.set()
    for trainer in trainers:
        trainer.save()
    look(now=True)
    return [trainer.trained() for trainer in trainers]


class MemberTrainer:
    """One member on its way. Its model is made on the thread that steps it, so that only what runs takes memory.

    With a checkpointer, the thread that steps a member saves its state between two of its steps, and weights and
    moments stay in place at the end, for a state from which a longer run goes on.
    """

    def __init__(self, task: Task, member: FleetMember, checkpointer: Checkpointer | None):
        self.task, self.member, self.checkpointer = task, member, checkpointer
        self.result, self.history, self.step = Trained(member), History(), 0
        self.values: dict[str, float] = {}  # of the last step
        self.model: nn.Module | None = None
        self.optimizer: torch.optim.Adam | None = None
        self._draws: Draws | None = None
        self._restored: dict[str, Tensor] | None = None
        if checkpointer and (state := checkpointer.latest()):
            self._restore(state)

    def run(self, stops: tuple[threading.Event, ...], each: Callable[[], None], steps: int) -> bool:
        """Step at most `steps` times, and call `each` after each; return whether there is more to do.

        There is not at the end of the budget, at divergence, and where one of `stops` is set.
        """
        until = min(self.step + steps, self.task.budget.steps)
        if self.step < until and self.result.status != "diverged":
            self._run(stops, each, until)
        return self.step == until < self.task.budget.steps

    def _run(self, stops: tuple[threading.Event, ...], each: Callable[[], None], until: int) -> None:
        task, budget, member, result = self.task, self.task.budget, self.member, self.result
        model, optimizer = self._begin()
        state = {name: value.detach() for name, value in model.state_dict().items()}  # shares the model's memory
        weights = task.weights_of(member)
        draws = self._draws = self._draws or Draws(task, [member], model.noise_sites)  # pyright: ignore
        if self.step == 0:
            if task.project:
                stepping.project(task.project, state, weights, 0)
            if 0 in budget.snapshots:
                result.snapshots[0] = _copied(state)
        while self.step < until and not any(stop.is_set() for stop in stops):
            place = draws.ready(self.step)
            index = draws.rows[0, place]
            x = task.images[index].to(task.dtype).div_(255)
            y = None if task.labels is None else task.labels[index]
            noise = {site: values[place, 0] for site, values in draws.noise.items()}
            progress = torch.tensor(float(self.step))
            means = stepping.means(model, task.objective, x, y, noise, weights, progress, budget.precision)
            values = {name: value.item() for name, value in means.items()}
            if not math.isfinite(values["loss"]):
                result.status, result.reason = "diverged", stepping.diverged_loss(self.step)
                break
            optimizer.zero_grad(set_to_none=True)
            means["loss"].backward()
            optimizer.step()
            if task.project:
                stepping.project(task.project, state, weights, self.step + 1)
            self.history.add(self.step + 1, values)
            self.values = values
            if self.step + 1 in task.snapshots:
                if not stepping.finite(state):
                    result.status, result.reason = "diverged", stepping.diverged_weights(self.step + 1)
                    break
                is_last = self.step + 1 == budget.steps and not self.checkpointer
                result.snapshots[self.step + 1] = self._handed_over() if is_last else _copied(state)
            self.step += 1
            each()
            if self.checkpointer and self.checkpointer.due():
                self.save()
        if self.step == until < budget.steps and result.status != "diverged":
            return  # for now: its turn is over
        self._draws = None
        if not self.checkpointer:
            self.model = self.optimizer = None

    def newest(self) -> tuple[int, int, Mapping[str, float]]:
        """The steps done, all of them where it diverged, and the step of the newest means with these."""
        done = self.step if self.result.status == "finished" else self.task.budget.steps
        if not self.history.rows:
            return done, self.step, self.values
        newest = self.history.rows[-1]
        return done, newest["step"], {name: value for name, value in newest.items() if name != "step"}

    def save(self) -> None:
        """Let the checkpointer save the state, if there is one and a step was taken in this session."""
        if self.checkpointer and self.model is not None:
            self.checkpointer.save(self.state())

    def state(self) -> State:
        """All that the member goes on from; its tensors are the member's own. Raises before the first step."""
        assert self.model is not None
        assert self.optimizer is not None
        tensors = {"step": torch.tensor(self.step), **under("model.", _all_tensors(self.model))}
        for name, parameter in self.model.named_parameters():
            tensors |= {f"adam.{name}.{moment}": value for moment, value in self.optimizer.state[parameter].items()}
        tensors = {name: value.detach() for name, value in tensors.items()} | under("history.", self.history.tensors())
        return State(tensors, dict(self.result.snapshots), self.result.status, self.result.reason)

    def trained(self) -> Trained:
        """What became of the member, its last window of history closed where it finished."""
        if self.result.status == "finished" and self.step == self.task.budget.steps:
            self.history.close()
        self.result.history = self.history.upto(self.task.budget.steps)
        self.result.snapshots = {s: w for s, w in self.result.snapshots.items() if s in {*self.task.snapshots}}
        return self.result

    def _handed_over(self) -> dict[str, Tensor]:
        """The model's own weights, which nobody changes any more: no second copy beside gradients and moments."""
        assert self.model is not None
        saved = self.model.state_dict()
        own = {id(value) for value in self.model.state_dict(keep_vars=True).values()}
        return {name: value.detach() for name, value in saved.items()} if len(own) == len(saved) else _copied(saved)

    def _restore(self, state: State) -> None:
        self._restored, self.step = state.tensors, int(state.tensors["step"])
        self.history = History.of(below("history.", state.tensors), self.step)
        self.result.snapshots = {step: dict(weights) for step, weights in state.snapshots.items()}
        if self.step < self.task.budget.steps:  # a run that ends there has not taken the step that diverged
            self.result.status, self.result.reason = state.status, state.reason

    def _begin(self) -> tuple[nn.Module, torch.optim.Adam]:
        if self.model is not None and self.optimizer is not None:
            return self.model, self.optimizer  # another turn
        model = self.task.new_model(self.member)
        optimizer = stepping.adam(model.parameters(), self.task.budget)
        if self._restored:
            with torch.no_grad():
                for name, value in _all_tensors(model).items():
                    value.copy_(self._restored[f"model.{name}"])
            for name, parameter in model.named_parameters():
                moments = below(f"adam.{name}.", self._restored)
                optimizer.state[parameter] = {moment: value.clone() for moment, value in moments.items()}
        self.model, self.optimizer, self._restored = model, optimizer, None
        return model, optimizer


def _copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in state.items()}


def _all_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers, those that a state dict leaves out included."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@contextmanager
def workers(number: int | None = None, threads_each: int = 1) -> Iterator[ThreadPoolExecutor]:
    """A pool whose workers run torch with so many intra-op threads each (None: as many workers as torch has threads).

    With one each, whatever a worker computes has the same bits on any number of cores; and nothing waits for a thread
    that a busy machine does not run, which costs small operations ten times their work. They take denormal numbers for
    zero: on images with much black, gradients and Adam's moments fall below 1e-38, where a processor is many times
    slower.
    """
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(number or before, initializer=_settle_worker, initargs=(threads_each,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        # A worker's set_num_threads is also the default of threads made later.
        torch.set_num_threads(before)


def _settle_worker(threads_each: int) -> None:
    for kind in ("float32", "float64"):  # numpy asks for its limits once, and warns where the least number is zero
        np.finfo(kind).smallest_subnormal  # noqa: B018
    torch.set_num_threads(threads_each)
    torch.set_flush_denormal(True)  # this thread's alone


@contextmanager
def _settled(threads_each: int) -> Iterator[None]:
    """The calling thread as one of `workers`, and as it was afterwards."""
    threads, flushes = torch.get_num_threads(), not (torch.tensor(1e-39) * 1.0).item()
    _settle_worker(threads_each)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(flushes)
