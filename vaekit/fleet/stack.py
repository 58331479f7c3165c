"""The backend of a GPU, and of tiny models: all members as one model with a leading axis, a step of it at a time.

A step is tensor operations alone: which step it is, its batches and its noise are read from tensors on the device, and
nothing is read back. So on a GPU one step is one CUDA graph, captured once and launched for every step. Where a model
or an objective does what a graph cannot hold, a warning says so, and steps are taken one operation at a time.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress

import torch
from torch import Tensor

from vaekit.fleet import memory, stepping
from vaekit.fleet.members import FleetMember, Trained
from vaekit.fleet.progress import Watch
from vaekit.fleet.state import HISTORY_EVERY, Checkpointer, History, State, below, under
from vaekit.fleet.stepping import BLOCK, Draws, Task

_WARM = 3  # steps taken one operation at a time before the capture: kernels load, and Adam makes its moments
_NEVER = 2**62  # the step in which a member stopped that did not
_UNCAPTURED = (
    "the step cannot be captured as a CUDA graph ({}), so its operations are launched one by one: the results are the "
    "same, the training is slower. For a graph, model and objective must read no value back (.item(), .cpu(), an if on "
    "a tensor) and make no shape depend on values (nonzero, boolean masks)"
)


def train(
    task: Task, members: Sequence[FleetMember], checkpointer: Checkpointer | None, watch: Watch, first: int = 0
) -> list[Trained]:
    """Train all members, those of `watch` from `first` on; where it is stopped, return what there is."""
    with _stackable():
        stack = Stack(task, members)
    if checkpointer and (state := checkpointer.latest()):
        stack.restore(state)
    try:
        watch.look(stack.newest, first, now=True)
        with _stackable():
            stack.begin()
        while stack.step < task.budget.steps and not watch.stopped.is_set():
            with _stackable() if stack.step == 0 else nullcontext():
                stack.advance()
            watch.look(stack.newest, first)
            if checkpointer and checkpointer.due():
                checkpointer.save(stack.state())
        if checkpointer:
            checkpointer.save(stack.state())
        watch.look(stack.newest, first, now=True)
        return stack.trained()
    finally:
        stack.close()


@contextmanager
def _stackable() -> Iterator[None]:
    """Until the first step is done: what torch cannot do to a whole stack, as one sentence; of one member it could."""
    try:
        yield
    except RuntimeError as error:
        if memory.ran_out(error):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(f"the stack backend cannot step this model ({reason}); use backend='cores'") from error


class Stack:
    """All members on their way: rows of every tensor.

    A row that is not finite spoils no other. So the step in which that came is noted on the device, without a wait for
    it, and what the row held from then on is thrown away.
    """

    def __init__(self, task: Task, members: Sequence[FleetMember]):
        self.task, self.members, self.device = task, members, task.images.device
        models = [task.new_model(member) for member in members]
        self.base, self.saved = models[0], stepping.names_of(models[0])
        params, buffers = torch.func.stack_module_state(models)
        # Made on the CPU, the same on every device, and moved whole.
        self.params = {n: p.detach().to(self.device).requires_grad_(p.requires_grad) for n, p in params.items()}
        self.buffers = {n: b.to(self.device) for n, b in buffers.items()}
        self.base.to(self.device)
        del models
        trained = [p for p in self.params.values() if p.requires_grad]
        self.optimizer = stepping.adam(trained, task.budget, capturable=self.device.type == "cuda")
        self.weights = {
            name: torch.tensor([m.weights[name] for m in members], dtype=task.dtype, device=self.device)
            for name in members[0].weights
        }
        self.draws = Draws(task, members, self.base.noise_sites)  # pyright: ignore
        self.clock = torch.zeros((), dtype=torch.int64, device=self.device)  # steps done, as the device knows it
        self.stopped_at = torch.full((len(members),), _NEVER, device=self.device)
        self.sums: dict[str, Tensor] = {}
        self.history, self.step = History(), 0
        self.snapshots: dict[int, dict[str, Tensor]] = {}
        self.rows = {name: value.detach() for name, value in (self.params | self.buffers).items()}
        self._step: Callable[[], None] | None = self._stepped_together()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._side = torch.cuda.Stream() if self.device.type == "cuda" else None
        self._eager = 0  # steps taken one operation at a time

    def close(self) -> None:
        """Let go of the step and of the graph, which hold all tensors: the memory is the next fleet's at once."""
        self._step = self._graph = None

    def begin(self) -> None:
        """What comes before the first step: masks, and the snapshot of the start."""
        if self.step == 0:
            if self.task.project:
                stepping.project(self.task.project, self.rows, self.weights, 0, stacked=True)
            if 0 in self.task.budget.snapshots:
                self._keep()

    def advance(self) -> None:
        """One step of all members, and what follows it now and then."""
        self.draws.ready(self.step)
        self._launch()
        self.step += 1
        if self.task.project:
            stepping.project(self.task.project, self.rows, self.weights, self.step, stacked=True)
        self.history.sums = self.sums
        self.history.ended(self.step)
        if not self.history.sums:  # a window was closed, and its row holds quotients of its own
            for total in self.sums.values():
                total.zero_()
        if self.step in self.task.snapshots:
            self._keep()

    def trained(self) -> list[Trained]:
        """What became of the members."""
        results, budget = [], self.task.budget
        self.history = History.of(self.history.tensors(), self.step)  # on the CPU, in one copy a name
        finished = self.step == budget.steps
        for i, (member, stopped) in enumerate(zip(self.members, self.stopped_at.tolist(), strict=True)):
            kept = {step: self._row(stacked, i) for step, stacked in self.snapshots.items()}
            broken = [step for step, state in kept.items() if not stepping.finite(state)]
            result = Trained(member)
            if stopped < budget.steps or broken:
                by_loss = stopped < min(broken, default=math.inf)
                why = stepping.diverged_loss(stopped) if by_loss else stepping.diverged_weights(min(broken))
                result.status, result.reason = "diverged", why
                last = min([stopped, *broken])
                kept = {s: state for s, state in kept.items() if s <= last and s not in broken}
                result.history = self.history.upto(last, row=i)
            result.snapshots = {s: state for s, state in kept.items() if s in self.task.snapshots}
            results.append(result)
        if finished:
            open_window = self.step % HISTORY_EVERY
            self.history.sums = {name: total.cpu() for name, total in self.sums.items()} if open_window else {}
            self.history.close()  # a window that is not full is a finished member's alone
        for i, result in enumerate(results):
            if result.status == "finished":
                result.history = self.history.upto(budget.steps, row=i)
        return results

    def newest(self) -> list[tuple[int, int, dict[str, float]]]:
        """Of each member the steps done, and the step of its newest means with these; the device is waited for."""
        rows = self.history.rows
        at = rows[-1]["step"] if rows else self.step
        means = rows[-1] if rows else {name: total / self.step for name, total in self.sums.items()}
        columns = {name: value.tolist() for name, value in means.items() if name != "step"}
        return [
            (self.step, at, {name: values[i] for name, values in columns.items()}) for i in range(len(self.members))
        ]

    def state(self) -> State:
        """All that training goes on from, on the CPU."""
        own = {**under("model.", self.rows), "stopped_at": self.stopped_at, "step": torch.tensor(self.step)}
        for name, parameter in self.params.items():
            own |= {f"adam.{name}.{moment}": value for moment, value in self.optimizer.state[parameter].items()}
        self.history.sums = dict(self.sums)
        tensors = {name: value.detach().to("cpu", copy=True) for name, value in own.items()}
        snapshots = {
            step: {name: stacked[source] for name, source in self.saved.items()}
            for step, stacked in self.snapshots.items()
        }
        return State(tensors | under("history.", self.history.tensors()), snapshots)

    @torch.no_grad()
    def restore(self, state: State) -> None:
        """Take up what `state` was."""
        tensors = state.tensors
        self.step = int(tensors["step"])
        self.clock.fill_(self.step)
        self.stopped_at.copy_(tensors["stopped_at"])
        for name, value in self.rows.items():
            value.copy_(tensors[f"model.{name}"])
        for name, parameter in self.params.items():
            if moments := below(f"adam.{name}.", tensors):
                on = {moment: value.to(self.device, copy=True) for moment, value in moments.items()}
                self.optimizer.state[parameter] = on
        self.history = History.of(below("history.", tensors), self.step, self.device)
        self.sums = self.history.sums
        self.snapshots = {
            step: {source: stacked[name] for name, source in self.saved.items()}
            for step, stacked in sorted(state.snapshots.items())
        }

    def _launch(self) -> None:
        """One step: on a GPU as a graph, but for the first few, and for all where it cannot be captured."""
        assert self._step is not None
        if self._side is None:
            self._step()
            return
        refusal = self._capture() if self._graph is None and self._eager == _WARM else ""
        if self._graph is not None:
            self._graph.replay()  # a capture runs nothing
            return
        # A capture asks for a side stream in the steps before it; the memory that they took stays that stream's.
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            self._step()
        torch.cuda.current_stream().wait_stream(self._side)
        self._eager += 1  # so a capture that failed is not tried again
        if refusal:  # after the step: what fails without a capture, too, is raised as what it is
            warnings.warn(_UNCAPTURED.format(refusal), RuntimeWarning, stacklevel=2)

    def _capture(self) -> str:
        """Capture the step as the graph. Returns why that failed, in a line, or nothing; memory that ran out is raised.

        A failed capture has run nothing either. What it leaves are gradients without numbers, which the next step drops
        unread. It is not made by `torch.cuda.graph`: that would leave its stream the current one, and raise that the
        capture could not be ended instead of why.
        """
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        torch.cuda.empty_cache()  # the graph's memory is its own
        try:
            with torch.cuda.stream(torch.cuda.Stream()):
                graph.capture_begin()
                try:
                    self._step()  # pyright: ignore[reportOptionalCall]
                except BaseException:
                    with suppress(RuntimeError):
                        graph.capture_end()
                    raise
                graph.capture_end()
        except RuntimeError as error:
            if memory.ran_out(error):
                raise
            return str(error).partition("\n")[0]
        self._graph = graph
        return ""

    def _stepped_together(self) -> Callable[[], None]:
        """The step of the whole fleet, as a function of nothing but tensors that keep their place."""
        task, budget, draws = self.task, self.task.budget, self.draws

        def one(p, b, x, y, noise, w, progress):
            def call(x, noise):
                return torch.func.functional_call(self.base, (p, b), (x, noise))

            return stepping.means(call, task.objective, x, y, noise, w, progress, budget.precision)

        # Members that share batches, or noise, share the tensor: the first layer is then one product for all of them.
        same_batch, same_noise = len(draws.rows) == 1, len(draws.seeds) == 1
        by_batch, by_noise = (None if same else 0 for same in (same_batch, same_noise))
        axes = (0, 0, by_batch, None if task.labels is None else by_batch, by_noise, 0, None)
        together = torch.func.vmap(one, in_dims=axes)

        def step() -> None:
            place = (self.clock % BLOCK).view(1)
            index = draws.rows.index_select(1, place).squeeze(1)
            index = index[0] if same_batch else index[draws.order_of]
            x = task.images[index].to(task.dtype).div_(255)
            y = None if task.labels is None else task.labels[index]
            noise = {site: values.index_select(0, place)[0] for site, values in draws.noise.items()}
            noise = {site: v[0] if same_noise else v[draws.seed_of] for site, v in noise.items()}
            progress = self.clock.to(torch.get_default_dtype())
            means = together(self.params, self.buffers, x, y, noise, self.weights, progress)
            bad = ~means["loss"].detach().isfinite()
            self.stopped_at.copy_(torch.where(bad, self.stopped_at.clamp(max=self.clock), self.stopped_at))
            self.optimizer.zero_grad(set_to_none=True)
            means["loss"].sum().backward()
            self.optimizer.step()
            for name, value in means.items():
                if name not in self.sums:
                    self.sums[name] = torch.zeros_like(value, dtype=torch.float64)
                self.sums[name] += value.detach()
            self.clock += 1

        return step

    def _keep(self) -> None:
        """Note the weights that the state dict holds, stacked, on the CPU."""
        names = {*self.saved.values()}
        self.snapshots[self.step] = {n: v.to("cpu", copy=True) for n, v in self.rows.items() if n in names}

    def _row(self, stacked: dict[str, Tensor], i: int) -> dict[str, Tensor]:
        """Member i's own state dict."""
        return {name: stacked[source][i].clone() for name, source in self.saved.items()}
