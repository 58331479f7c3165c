"""Parts: a statistic and what it must meet, and the corrections where there are many."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import stdtr

from vaekit.claims.evidence import ClaimError
from vaekit.claims.statistics import Statistic

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
NEEDS_DATA, NOT_RUN = "needs data", "not run"


@dataclass(frozen=True)
class Finding:
    """A part, judged: what the book shows of it whatever the outcome.

    `values` are the seeds' own, `low` and `high` the 95 % interval, NaN with fewer than three of them.
    """

    name: str
    values: tuple[float, ...]
    seeds: int
    estimate: float
    low: float
    high: float
    unit: str
    wanted: str
    outcome: str
    reason: str = ""

    @property
    def silent(self) -> bool:
        """Whether nothing was found."""
        return not self.values and not math.isfinite(self.estimate)

    def __str__(self) -> str:
        if self.silent:
            return f"{self.name}: no value (wanted {self.wanted})"
        if math.isfinite(self.low):
            shown = f"{_text(self.estimate)} [{_text(self.low)}, {_text(self.high)}]"
        else:
            shown = ", ".join(map(_text, self.values))
        return f"{self.name}: {' '.join(filter(None, (shown, self.unit)))} (wanted {self.wanted})"


def _text(value: float) -> str:
    """Three digits, and a large count whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.3g}"


@dataclass(frozen=True, eq=False)
class Part:
    """One statistic and its threshold: made by `effect`, `absence` or `number`.

    Met where `sign` * (value - threshold) > 0 (>= 0 unless `strict`) on the whole interval at `level`; for a `number`
    where the mean lies within `tolerance` of the threshold.
    """

    statistic: Statistic
    kind: str  # effect | absence | number
    wanted: str
    threshold: float
    sign: int = 1
    strict: bool = True
    tolerance: float = 0.0
    level: float = 0.95
    correction: str = ""

    def judge(self, seeds: int = 3, parts: int = 1) -> Finding:
        """The part's own outcome with `seeds` as the least number of them, as one of `parts` of a conjunction."""
        made, sample = self.statistic, self.statistic.sample
        least = 1 if self.kind == "number" or made.bounds else seeds
        low, high = made.interval(self.level) if len(sample) >= 3 or made.bounds else (math.nan, math.nan)
        estimate = math.nan
        if len(sample):
            estimate = float(sample[0] if np.ptp(sample) == 0 else sample.mean())
        outcome, reason = UNDECIDED, ""
        if made.lacks:
            outcome, reason = NOT_RUN, made.lacks
        elif len(sample) < least:
            short = len(made.values) < least
            reason = f"seeds: {len(made.values)} of at least {least}" if short else "seeds: too few have a value"
            reason += f", {made.diverged} diverged" if made.diverged else ""
        elif made.doubt:
            reason = made.doubt
        elif self.kind == "number":
            outcome = REPRODUCED if abs(estimate - self.threshold) <= self.tolerance else NOT_REPRODUCED
        else:
            worst = min(self._margins(low, high))
            best = max(self._margins(*made.interval(max(self.level, 1 - 0.1 / parts))))
            if worst > 0 or (worst == 0 and not self.strict):
                outcome = REPRODUCED
            elif best < 0:
                outcome = NOT_REPRODUCED
            else:
                reason = "interval"
        name = f"{made.name} ({self.correction})" if self.correction else made.name
        return Finding(
            name=name,
            values=tuple(sample.tolist()),
            seeds=len(sample) or len(made.values),
            estimate=estimate,
            low=low,
            high=high,
            unit=made.unit,
            wanted=self.wanted,
            outcome=outcome,
            reason=reason,
        )

    def _margins(self, low: float, high: float) -> tuple[float, float]:
        return self.sign * (low - self.threshold), self.sign * (high - self.threshold)

    @property
    def p_value(self) -> float:
        """Two-sided p value of the t test that the mean is the threshold (Holm's order)."""
        if self.statistic.bounds is not None:
            raise ClaimError(f"{self.statistic.name} has an interval of its own and no p value: use bonferroni.")
        sample = self.statistic.sample
        if len(sample) < 2:
            return 1.0
        off, spread = abs(sample.mean() - self.threshold), sample.std(ddof=1) / math.sqrt(len(sample))
        if spread == 0:
            return float(off == 0)
        return float(2 * stdtr(len(sample) - 1, -off / spread))


def effect(
    made: Statistic,
    *,
    above: float | None = None,
    at_least: float | None = None,
    below: float | None = None,
    at_most: float | None = None,
) -> Part:
    """Rule 1: the whole 95 % interval beyond the one threshold given. It may still come with more training."""
    given = [
        (sign, strict, word, threshold)
        for sign, strict, word, threshold in (
            (1, True, ">", above),
            (1, False, "≥", at_least),
            (-1, True, "<", below),
            (-1, False, "≤", at_most),
        )
        if threshold is not None
    ]
    if len(given) != 1:
        raise ClaimError(f"an effect takes one threshold, got {len(given)}: above, at_least, below or at_most.")
    sign, strict, word, threshold = given[0]
    return Part(made, "effect", f"{word} {threshold:g}", threshold, sign, strict)


def absence(made: Statistic, margin: float = 0.5) -> Part:
    """Rule 2: no effect as an equivalence, the interval's upper end below `margin` (0.5 nats for differences of D)."""
    return Part(made, "absence", f"< {margin:g}", margin, sign=-1)


def number(made: Statistic, published: float, *, within: float = 0.0, relative: float = 0.0) -> Part:
    """Rule 3: the mean within `within` (or `relative` times the number) of a published one; one seed decides."""
    tolerance = max(within, relative * abs(published))
    wanted = f"{published:,g} ± {tolerance:.3g}" if tolerance else f"{published:,g}"
    return Part(made, "number", wanted, published, tolerance=tolerance)


def bonferroni(parts: Sequence[Part]) -> list[Part]:
    """Rule 6: the same comparisons, each with the interval at 1 - 0.05 / k."""
    k = len(parts)
    return [replace(part, level=1 - 0.05 / k, correction=f"Bonferroni over {k}") for part in parts]


def holm(parts: Sequence[Part]) -> list[Part]:
    """Rule 6: the same comparisons with Holm's intervals: the i-th smallest p value at 1 - 0.05 / (k - i + 1).

    From the first that does not pass on, the level stays, so that none after it passes (step-down).
    """
    k, alpha, made = len(parts), 0.0, list(parts)
    stopped = False
    for rank, index in enumerate(np.argsort([part.p_value for part in parts], kind="stable")):
        alpha = alpha if stopped else 0.05 / (k - rank)
        stopped = stopped or parts[index].p_value > alpha
        made[index] = replace(parts[index], level=1 - alpha, correction=f"Holm over {k}")
    return made
