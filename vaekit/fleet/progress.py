"""Where a training stands: told now and then to one function, which shows it; and what ends it early.

    train_fleet(…, progress=print)  # a `Progress`, at most once a second

What is shown where nothing else is asked for is a consumer of the same: a bar in a terminal and in a notebook, and
elsewhere, e.g. in a log, a line a minute.
"""

import html
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

EVERY = 1.0  # seconds between two reports, at the least: each makes a GPU wait once
LINE_EVERY = 60.0  # seconds between two lines of a log
_WINDOW = 30  # reports over which the speed is taken
_MANY = 8  # members whose values are shown one by one, at the most
_SHORT = {"distortion": "D", "rate": "R", "cross_entropy": "CE"}  # those that are shown, in this order

Tell = Callable[["Progress"], object]


@dataclass(frozen=True)
class Newest:
    """The newest values of a member that trains: the objective's own means, by name, in nats per image.

    They are over the last full `HISTORY_EVERY` steps, which end at `step`; before there are any, over fewer. `member`
    is what was given: a `FleetMember` to `train_fleet`, the store's `Member` to `sweep.run`.
    """

    member: Any
    step: int = 0
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """Where a fleet stands, or a sweep of several.

    Args:
        phase: "training", "measuring" or, on a cluster, "waiting for a worker".
        group, groups: which kind of member is at work, from 1, and of how many.
        failed: how many members' jobs failed on a cluster.
        step, steps: the mean step of the members that train now, and their budget.
        done, members: how many are finished, of those asked for.
        share: of all steps asked for that are done, 0 to 1.
        per_second: model steps a second, lately, of all members together; 0 while it is not known.
        seconds_left: None while it is not known; without measures that took nobody knows how long, if `and_measures`.
        newest: of each member that trains now.
    """

    phase: str
    step: int
    steps: int
    done: int
    members: int
    share: float
    per_second: float = 0.0
    seconds_left: float | None = None
    newest: tuple[Newest, ...] = ()
    group: int = 1
    groups: int = 1
    and_measures: bool = False
    failed: int = 0

    def line(self) -> str:
        """All of it in a line."""
        parts = [self.phase + f" kind {self.group} of {self.groups}" * (self.groups > 1)]
        if self.phase == "training":
            parts.append(f"step {self.step:,} of {self.steps:,}")
            parts += [f"{self.per_second:,.3g} steps/s"] if self.per_second else []
            parts += [f"{_SHORT[name]} {_range(values)}" for name, values in self._columns().items()]
        measures = " and measures" * self.and_measures
        parts += [] if self.seconds_left is None else [f"{duration(self.seconds_left)}{measures} left"]
        parts += [f"{self.done} of {self.members} members done"] + [f"{self.failed} failed"] * bool(self.failed)
        return ", ".join(parts)

    def _columns(self) -> dict[str, list[float]]:
        """The values that are shown, of each member that has them; the loss is not one where its parts are."""
        names = [name for name in _SHORT if any(name in newest.values for newest in self.newest)]
        return {name: [newest.values[name] for newest in self.newest if name in newest.values] for name in names}

    def html(self) -> str:
        """The same for a notebook: a bar, and the newest values of each member in a table."""
        bar = f'<progress value="{self.share:.4f}" style="width: 16em" aria-label="share of the steps"></progress>'
        names = list(self._columns())
        rows = [
            f"<tr><td>{html.escape(named(newest.member))}</td><td>{newest.step:,}</td>"
            + "".join(f"<td>{newest.values[name]:.4g}</td>" for name in names)
            + "</tr>"
            for newest in self.newest
            if newest.values
        ]
        titles = "".join(f"<th>{title}</th>" for title in ("member", "step", *(_SHORT[name] for name in names)))
        table = f"<table><tr>{titles}</tr>{''.join(rows)}</table>" if rows and len(rows) <= _MANY else ""
        return f"<div>{bar} {_percent(self.share)}, {html.escape(self.line())}</div>{table}"


class Stopped(KeyboardInterrupt):
    """A training that was ended early, as an interruption ends it; its message is a line, which IPython shows alone."""

    def __init__(self, share: float, kept: bool = True):
        self.share = share
        again = "run the cell again" if _in_notebook() else "the same command goes on from there"
        super().__init__(f"stopped at {_percent(share)}: " + (f"kept; {again}" if kept else "nothing was kept"))

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback."""
        return [str(self)]


class Watch:
    """What a fleet tells while it trains, and what tells it to stop: `stopped` is set after which no step is begun.

    Everything but `stopped` belongs to the thread that called `train_fleet`.
    """

    def __init__(self, members: Sequence[Any], steps: int, tell: Tell | None, stop: Callable[[], bool] | None):
        self.stopped = threading.Event()
        self._steps, self._tell, self._stop = steps, tell, stop
        self._newest, self._at = [Newest(member) for member in members], [0] * len(members)
        self._told = -EVERY
        self._course: deque[tuple[float, int]] = deque(maxlen=_WINDOW)  # (time, steps done)

    @property
    def share(self) -> float:
        """Of all steps, those that are known to be done."""
        return sum(self._at) / (len(self._at) * self._steps)

    def look(self, read: Callable[[], Sequence[tuple[int, int, Mapping[str, float]]]], first: int = 0, now=False):
        """Ask whether to stop; tell where it stands if that is due, or `now`.

        `read` gives for members from `first` on: the steps done, and the step of the newest values with these.
        """
        if self._stop and not self.stopped.is_set() and self._stop():
            self.stopped.set()
        time_ = time.monotonic()
        if not now and (self._tell is None or time_ - self._told < EVERY):
            return
        for i, (done, step, values) in enumerate(read(), start=first):
            self._at[i], self._newest[i] = done, Newest(self._newest[i].member, step, dict(values))
        self._told = time_
        self._course.append((time_, sum(self._at)))
        if self._tell:
            self._tell(self.progress())

    def progress(self) -> Progress:
        """Where the fleet stands."""
        (begun, before), (now, done), all_ = self._course[0], self._course[-1], len(self._at) * self._steps
        speed = max(0, done - before) / (now - begun) if now > begun else 0.0
        return Progress(
            "training", done // len(self._at), self._steps, self._at.count(self._steps), len(self._at), self.share,
            speed, (all_ - done) / speed if speed else None, tuple(self._newest),
        )  # fmt: skip


# Who shows it ---------------------------------------------------------------------------------------------------------


@contextmanager
def shown(progress: Tell | bool | None, say: Callable[[str], object]) -> Iterator[tuple[Tell | None, Callable]]:
    """Whom to tell, and how to say a line between: nobody (False), who is given, or what this place shows (None, True).

    A notebook and a terminal show a bar, which goes when the training ends; elsewhere `say` gets a line a minute.
    """
    if progress is False:
        yield None, say
    elif callable(progress):
        yield progress, say
    elif _in_notebook():
        with _cell() as tell:
            yield tell, say
    elif sys.stderr and sys.stderr.isatty():
        bar = _Bar()
        try:
            yield bar, bar.between(say)
        finally:
            bar.clear()
    else:
        yield _Lines(say), say


def duration(seconds: float) -> str:
    """A rough time for people: an estimate has two digits at the most."""
    if seconds < 60:
        return "under a minute"
    for unit, size in (("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * size:
            return f"{float(f'{seconds / size:.2g}'):,g} {unit}"
    return f"{seconds / 60:.0f} min"


class _Bar:
    """One line of a terminal, drawn over itself."""

    def __init__(self):
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        filled = round(20 * progress.share)
        text = f"{_percent(progress.share):>5} [{'#' * filled}{'.' * (20 - filled)}] {progress.line()}"
        text = text[: shutil.get_terminal_size().columns - 1]
        self._write(f"\r{text}{' ' * (self._width - len(text))}")
        self._width = len(text)

    def clear(self) -> None:
        if self._width:
            self._write(f"\r{' ' * self._width}\r")
        self._width = 0

    def between(self, say: Callable[[str], object]) -> Callable[[str], None]:
        """`say`, on a line of its own."""

        def cleared(line: str) -> None:
            self.clear()
            say(line)

        return cleared

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


class _Lines:
    """A line a minute, the first after one."""

    def __init__(self, say: Callable[[str], object]):
        self._say, self._last = say, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._last >= LINE_EVERY:
            self._last = time.monotonic()
            self._say(progress.line())


@contextmanager
def _cell() -> Iterator[Tell]:
    """A bar below a notebook's cell, changed in place; nothing is left of it."""
    display = sys.modules["IPython.display"].display  # it is there wherever a kernel runs, and nowhere else needed
    nothing = {"text/plain": "", "text/html": ""}
    handle = display(nothing, raw=True, display_id=True)
    try:
        yield lambda progress: handle.update({"text/plain": progress.line(), "text/html": progress.html()}, raw=True)
    finally:
        handle.update(nothing, raw=True)


def _in_notebook() -> bool:
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return hasattr(shell, "kernel")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def named(member: Any) -> str:
    """A member among those of its fleet, for people: its weights and seed."""
    weights = [f"{name} {value:g}" for name, value in dict(member.weights).items()]
    return ", ".join([*weights, f"seed {member.seed}"])


def _range(values: Sequence[float]) -> str:
    """A few numbers, or from where to where many go."""
    if len(values) <= 2:
        return " and ".join(f"{value:.4g}" for value in values)
    return f"{min(values):.4g} to {max(values):.4g}"
