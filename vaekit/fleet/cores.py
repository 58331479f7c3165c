"""The backend of a CPU: a member a core, each an ordinary module stepped by one thread."""

import math
import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.fleet import stepping
from vaekit.fleet.members import FleetMember, Trained
from vaekit.fleet.state import History, Keeper, State, below, under
from vaekit.fleet.stepping import BLOCK, Draws, Task

_POLL = 0.5  # seconds between two looks at whether a checkpoint is due


def train(
    task: Task,
    members: Sequence[FleetMember],
    threads: int,
    threads_each: int,
    room: int,
    keeper: Keeper | None,
    interrupted: threading.Event,
    bar,
) -> list[Trained]:
    """Train all members, `threads` at a time; where `interrupted` is set, return what there is, after the step at hand.

    Of members that no number of full rounds would hold, the last ones take turns, so that no core is idle while one
    member of three is stepped alone; as far as memory has room for more members than threads.
    """
    solos = [Solo(task, member, keep=keeper is not None) for member in members]
    if keeper and (state := keeper.latest()):
        for i, solo in enumerate(solos):
            solo.restore(i, state)
    bar.update(sum(solo.step for solo in solos))
    stop = threading.Event()
    rest = len(solos) % threads
    fits = 2 * threads + rest - 1 <= room  # those that take turns, and the last of the others
    turns_from = len(solos) - threads - rest if rest and threads < len(solos) and fits else len(solos)
    waiting = deque((solo, i >= turns_from) for i, solo in enumerate(solos))

    def work() -> None:
        while waiting and not (stop.is_set() or interrupted.is_set()):
            try:
                solo, turns = waiting.popleft()
            except IndexError:  # another thread took the last one
                return
            if solo.run((stop, interrupted), bar, BLOCK if turns else task.budget.steps):
                waiting.append((solo, turns))

    if threads == 1 and not keeper:
        # Torch keeps a team of threads for each of Python's, and two teams wait for each other.
        with _settled(threads_each):
            work()
        return [solo.trained() for solo in solos]
    with workers(threads, threads_each) as pool:
        pending = {pool.submit(work) for _ in range(threads)}
        try:
            while pending:
                done, pending = wait(pending, _POLL if keeper else None, FIRST_COMPLETED)
                for job in done:
                    job.result()  # an error in one ends all, now and not when the others are done
                if keeper and pending and not interrupted.is_set() and keeper.due():
                    state = _state(solos)
                    if not any(solo.failed for solo in solos):  # what a step that failed left is no state
                        keeper.save(state)
        finally:
            stop.set()
    if keeper:
        keeper.save(_state(solos))
    return [solo.trained() for solo in solos]


class Solo:
    """One member on its way. It is made on the thread that steps it, so that only what runs takes memory.

    `keep` leaves weights and moments in place at the end, for a state from which a longer run goes on.
    """

    def __init__(self, task: Task, member: FleetMember, keep: bool):
        self.task, self.member, self.keep = task, member, keep
        self.result, self.history, self.step = Trained(member), History(), 0
        self.means = torch.compile(stepping.means) if task.compiled else stepping.means
        self.model: nn.Module | None = None
        self.optimizer: torch.optim.Adam | None = None
        self._draws: Draws | None = None
        self._given: dict[str, Tensor] | None = None
        self._asked: queue.SimpleQueue | None = None
        self._stepping = threading.Lock()  # held by the thread that steps it
        self.failed = False

    def run(self, stops: tuple[threading.Event, ...], bar, steps: int) -> bool:
        """Step at most `steps` times; return whether there is more to do.

        There is not at the end of the budget, at divergence, and where one of `stops` is set.
        """
        with self._stepping:
            until = min(self.step + steps, self.task.budget.steps)
            if self.step < until and self.result.status != "diverged":
                try:
                    self._run(stops, bar, until)
                except BaseException:
                    self.failed = True  # before anyone can look at what a half step left
                    raise
            return self.step == until < self.task.budget.steps

    def _run(self, stops: tuple[threading.Event, ...], bar, until: int) -> None:
        task, budget, member, result = self.task, self.task.budget, self.member, self.result
        model, optimizer = self._begin()
        state = {name: value.detach() for name, value in model.state_dict().items()}  # shares the model's memory
        weights = {name: torch.tensor(value, dtype=task.dtype) for name, value in member.weights.items()}
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
            means = self.means(model, task.objective, x, y, noise, weights, progress, budget.precision)
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
            if self.step + 1 in task.snapshots:
                if not stepping.finite(state):
                    result.status, result.reason = "diverged", stepping.diverged_weights(self.step + 1)
                    break
                last = self.step + 1 == budget.steps and not self.keep
                result.snapshots[self.step + 1] = self._handed_over() if last else _copied(state)
            self.step += 1
            bar.update()
            self.answer()
        if self.step == until < budget.steps and result.status != "diverged":
            return  # for now: its turn is over
        self._draws = None
        if not self.keep:
            self.model = self.optimizer = None

    def _handed_over(self) -> dict[str, Tensor]:
        """The model's own weights, which nobody changes any more: no second copy beside gradients and moments."""
        assert self.model is not None
        saved = self.model.state_dict()
        own = {id(value) for value in self.model.state_dict(keep_vars=True).values()}
        return {name: value.detach() for name, value in saved.items()} if len(own) == len(saved) else _copied(saved)

    def trained(self) -> Trained:
        """What became of the member, its last window of history closed where it finished."""
        if self.result.status == "finished" and self.step == self.task.budget.steps:
            self.history.close()
        self.result.history = self.history.upto(self.task.budget.steps)
        self.result.snapshots = {s: w for s, w in self.result.snapshots.items() if s in {*self.task.snapshots}}
        return self.result

    def ask(self) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
        """The member's tensors and snapshots between two of its steps, whoever is stepping it."""
        asked: queue.SimpleQueue = queue.SimpleQueue()
        while not self._stepping.acquire(timeout=0.01):
            self._asked = asked  # again, should a step have ended between another question and its answer
            try:
                return asked.get(timeout=0.05)
            except queue.Empty:
                continue  # a long step; or its turn has ended
        try:
            self._asked = None
            return self.tensors(), dict(self.result.snapshots)
        finally:
            self._stepping.release()

    def answer(self) -> None:
        """Give the tensors to who asked for them: called by the thread that steps, between two steps."""
        if asked := self._asked:
            self._asked = None
            asked.put((self.tensors(), dict(self.result.snapshots)))

    def tensors(self) -> dict[str, Tensor]:
        """All that the member goes on from, but for its snapshots; copies."""
        if self.model is None or self.optimizer is None:
            return dict(self._given or {})
        own = {"step": torch.tensor(self.step), **under("model.", _all_tensors(self.model))}
        for name, parameter in self.model.named_parameters():
            own |= {f"adam.{name}.{moment}": value for moment, value in self.optimizer.state[parameter].items()}
        copied = {name: value.detach().clone() for name, value in own.items()}
        return copied | under("history.", self.history.tensors())

    def restore(self, i: int, state: State) -> None:
        """Take up what `tensors` and the snapshots were, as member i of a fleet."""
        if tensors := below(f"{i}.", state.tensors):
            self._given, self.step = tensors, int(tensors["step"])
            self.history = History.of(below("history.", tensors), self.step)
            self.result.snapshots = {step: dict(w) for (member, step), w in state.snapshots.items() if member == i}
            if self.step < self.task.budget.steps:  # a run that ends there has not taken the step that diverged
                self.result.status = state.text.get(f"{i}.status", "finished")
                self.result.reason = state.text.get(f"{i}.reason", "")

    def _begin(self) -> tuple[nn.Module, torch.optim.Adam]:
        if self.model is not None and self.optimizer is not None:
            return self.model, self.optimizer  # another turn
        model = self.task.new_model(self.member)
        optimizer = stepping.adam(model.parameters(), self.task.budget)
        if self._given:
            with torch.no_grad():
                for name, value in _all_tensors(model).items():
                    value.copy_(self._given[f"model.{name}"])
            for name, parameter in model.named_parameters():
                moments = below(f"adam.{name}.", self._given)
                optimizer.state[parameter] = {moment: value.clone() for moment, value in moments.items()}
        self.model, self.optimizer, self._given = model, optimizer, None
        return model, optimizer


def _state(solos: Sequence[Solo]) -> State:
    """The state of a fleet, each member as it is between two of its own steps."""
    state = State(text={"backend": "cores"})
    for i, solo in enumerate(solos):
        tensors, snapshots = solo.ask()
        state.tensors |= under(f"{i}.", tensors)
        state.snapshots |= {(i, step): weights for step, weights in snapshots.items()}
        if solo.result.status == "diverged":
            state.text |= {f"{i}.status": "diverged", f"{i}.reason": solo.result.reason}
    return state


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
