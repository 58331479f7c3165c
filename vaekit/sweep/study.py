"""What a sweep needs to know of a study: its measures, when they are taken, and on which images."""

import dataclasses
import functools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor, nn

from vaekit import data
from vaekit.metrics import mean_and_se
from vaekit.settings import SettingsError
from vaekit.store import Member

T = TypeVar("T")


@dataclass(frozen=True)
class Value:
    """One measured number, in nats per image unless the measure says otherwise; `se` is its error over n images."""

    part: str
    measure: str
    arguments: str
    value: float
    se: float
    n: int

    @classmethod
    def mean(cls, part: str, measure: str, arguments: str, values: Tensor) -> "Value":
        """The mean of (n,) values, one an image, with its standard error."""
        return cls(part, measure, arguments, *mean_and_se(values), len(values))


@dataclass(frozen=True, eq=False)
class Examples:
    """The images that a member trains and is tested on, uint8 (n, C, H, W), and their numbers in the data set.

    Labels (n,) and factors (n, k) are the images', on the CPU; None where the set has none.
    """

    train: Tensor
    test: Tensor
    train_rows: Tensor
    test_rows: Tensor
    train_labels: Tensor | None = None
    test_labels: Tensor | None = None
    test_factors: Tensor | None = None

    def parts(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """("train", its images, their numbers), then the same for "test"."""
        yield "train", self.train, self.train_rows
        yield "test", self.test, self.test_rows


@dataclass(frozen=True)
class Measure:
    """A family of values, and the version of the code that takes them.

    Args:
        name: in the column `measures` of a table.
        version: raised when the values would change.
        take: `take(model, member, step, examples)` yields the values of one step, from a model in eval mode.
        at: of a member, the steps at which it is taken; None: all the measured ones.
        images: of a member, how many test images it looks at; None: all of them. It serves an estimate of its time.
    """

    name: str
    version: int
    take: Callable[[nn.Module, Member, int, Examples], Iterable[Value]]
    at: Callable[[Member], Collection[int]] | None = None
    images: Callable[[Member], int] | None = None

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"


@dataclass(frozen=True)
class GridSpec:
    """The image grid that a study shows of a trained member, and the version of the code that chooses its images.

    `take(model, member, step, examples)` gives uint8 images (rows, columns, C, H, W), a label for each row, from a
    model in eval mode; None where there is nothing to show.
    """

    version: int
    labels: tuple[str, ...]
    take: Callable[[nn.Module, Member, int, Examples], Tensor | None]


@dataclass(frozen=True)
class StudySpec:
    """What a sweep needs to know of a study.

    Args:
        name: of the study.
        measures: what is measured on each member.
        measured_steps: the steps of a member at which measures are taken.
        saved_steps: those whose weights are stored.
        axes: the tidy table's columns that differ among the points of one figure (beside seed, data and n_train).
        grid: what is shown of a member; made when it is exported (see `vaekit.sweep.image_grids`).
    """

    name: str
    measures: Sequence[Measure]
    measured_steps: Callable[[Member], tuple[int, ...]]
    saved_steps: Callable[[Member], tuple[int, ...]]
    axes: tuple[str, ...] = ("beta",)
    grid: GridSpec | None = None

    @property
    def versions(self) -> dict[str, int]:
        """Each measure's version by its name."""
        return {measure.name: measure.version for measure in self.measures}

    def measures_at(self, step: int, member: Member) -> list[Measure]:
        """The measures that are taken of a member after `step` steps."""
        return [measure for measure in self.measures if measure.at is None or step in measure.at(member)]

    def without(self, names: Iterable[str]) -> "StudySpec":
        """The same study without these measures. Raises SettingsError for a name that is none, or for all of them."""
        names = {*names}
        if unknown := sorted(names - self.versions.keys()):
            raise SettingsError(f"got the measure {unknown[0]!r}; {self.name} has {', '.join(self.versions)}")
        left = tuple(measure for measure in self.measures if measure.name not in names)
        if not left:
            raise SettingsError(f"got all measures of {self.name}; wanted one or more to be taken at once")
        return dataclasses.replace(self, measures=left)


@functools.lru_cache(maxsize=1)
def examples(name: str, split: str, n_train: int | None, n_test: int | None, device: str = "cpu") -> Examples:
    """The images of a member's data and split, on a device. Raises DataError where they cannot be had."""
    images = data.load(name)
    parts = images.split(split, n_train)
    test = parts.test if n_test is None else parts.test[:n_test]
    described = (images.labels, parts.train), (images.labels, test), (images.factors, test)
    known = [None if of is None else of[rows] for of, rows in described]
    return Examples(images.take(parts.train).to(device), images.take(test).to(device), parts.train, test, *known)


def examples_of(member: Member, device: str = "cpu") -> Examples:
    """The images of a member, on a device. Raises DataError where they cannot be had."""
    return examples(member.data, member.split, member.n_train, member.n_test, device)


def cached(maxsize: int) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """`functools.lru_cache` for what members of a fleet share, which are measured side by side.

    One thread computes at a time; another that asks for the same waits for it, and does not compute it again.
    """

    def decorate(function: Callable[..., T]) -> Callable[..., T]:
        known, lock = functools.lru_cache(maxsize)(function), threading.Lock()

        @functools.wraps(function)
        def ask(*arguments: Any) -> T:
            with lock:
                return known(*arguments)

        return ask

    return decorate


def log_spaced(steps: int) -> tuple[int, ...]:
    """1, 2 and 5 times the powers of ten from 100, below `steps`: the same steps in every longer run."""
    series = (mantissa * 10**power for power in range(2, 10) for mantissa in (1, 2, 5))
    return tuple(step for step in series if step < steps)


def fifths(steps: int) -> tuple[int, ...]:
    """Fifths of a budget, the whole of it last."""
    return tuple(sorted({max(1, round(fifth * steps / 5)) for fifth in range(1, 6)}))


def compared_steps(member: Member) -> tuple[int, ...]:
    """0.8 and 1.0 of a member's steps, which a verdict compares (rule 4 of the claims)."""
    return fifths(member.steps)[-2:]


def last_step(member: Member) -> tuple[int, ...]:
    """The end of a member's training."""
    return (member.steps,)
