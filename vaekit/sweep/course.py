"""The course of a sweep: where it stands as its fleets and measures go on, and whether it ends early."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from vaekit.fleet import Newest, Progress, Stopped
from vaekit.fleet.progress import Tell
from vaekit.store import Member
from vaekit.sweep.plan import Plan
from vaekit.sweep.speed import Observed


class Course:
    """What a sweep tells of itself: it `begins` members, `trains` and `measures` them, and has `stored` each.

    A member counts as many steps as it is trained, or one where it is only measured.

    Args:
        todo: what is carried out.
        tell: is told; None: nobody.
        stop: asked whether to stop.
        seconds: after which no training goes on.
        seen: what measures took so far.
    """

    def __init__(self, todo: Plan, tell: Tell | None, stop: Callable[[], bool] | None, seconds: float, seen: Observed):
        self._tell, self._stop, self._end, self._seen = tell, stop, time.monotonic() + seconds, seen
        again = [*todo.unmeasured, *todo.shorter]
        groups = [again] * bool(again) + todo.groups
        self._only_measured = {member.key for member in again}
        self._group_of = {member.key: i for i, group in enumerate(groups, start=1) for member in group}
        self._groups, self._all = len(groups), sum(map(self._size, groups))
        self._done = self._stored = 0  # steps, and members, of what is stored
        self._fleet: list[Member] = []  # what is at work
        self._unmeasured = {i: (group[0], len(group)) for i, group in enumerate(groups, start=1)}
        self._now = Progress("training", 0, 1, 0, len(self._group_of), 0.0)

    def is_asked(self) -> bool:
        """Whether somebody says to stop."""
        return self._stop is not None and self._stop()

    def is_over(self) -> bool:
        """Whether the time is."""
        return time.monotonic() >= self._end

    def begins(self, members: Sequence[Member]) -> None:
        """These are next. Raises Stopped where somebody says to stop."""
        if self.is_asked():
            raise Stopped(self.share)
        self._fleet = list(members)
        self._now = dataclasses.replace(self._now, group=self._group_of[members[0].key], groups=self._groups)

    def trains(self, fleet: Progress) -> None:
        """A fleet of them tells where it stands."""
        done, own = self._done + fleet.share * self._size(self._fleet), self._size(self._fleet)
        left = fleet.seconds_left
        if left is not None and fleet.per_second:
            left += (self._all - self._done - own) / fleet.per_second
            measures = [self._seen.seconds_of_measures(*some) for some in self._unmeasured.values() if some[1]]
            left += sum(seconds or 0.0 for seconds in measures)
            fleet = dataclasses.replace(fleet, and_measures=None in measures)
        newest = (Newest(m, n.step, n.values) for m, n in zip(self._fleet, fleet.newest, strict=True))
        fleet = dataclasses.replace(fleet, group=self._now.group, groups=self._groups, newest=tuple(newest))
        self._told(fleet, done, left)

    def measures(self) -> None:
        """They are trained, and measured now. Raises Stopped where somebody says to stop."""
        if self.is_asked():
            raise Stopped(self.share)
        self._told(dataclasses.replace(self._now, phase="measuring"), self._done + self._size(self._fleet), None)

    def stored(self, member: Member, measuring: float | None = None) -> None:
        """One of them is stored, with its measures, which took so many seconds."""
        self._fleet.remove(member)
        first, count = self._unmeasured[group := self._group_of[member.key]]
        self._unmeasured[group] = (first, count - 1)
        if measuring:
            self._seen.add_measures(member, measuring)
        self._done, self._stored = self._done + self._size([member]), self._stored + 1

    @property
    def share(self) -> float:
        """Of all steps, those that are done."""
        return self._now.share

    def _size(self, members: Sequence[Member]) -> int:
        return sum(1 if member.key in self._only_measured else member.steps for member in members)

    def _told(self, now: Progress, steps: float, seconds_left: float | None) -> None:
        done, members = self._stored, len(self._group_of)
        self._now = dataclasses.replace(
            now, done=done, members=members, share=min(1.0, steps / self._all), seconds_left=seconds_left
        )
        if self._tell:
            self._tell(self._now)
