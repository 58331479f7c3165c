"""Rules: the criteria of a claim and their thresholds, the claims of a study, and the verdicts on them."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from vaekit.claims.curves import COPIES, ClaimError, Evidence, evidence_by_budget
from vaekit.claims.scope import PaperScale, Scope, scope_of
from vaekit.claims.statistics import Reason, Statistic
from vaekit.data import NAMES, about

REPRODUCED, NOT_REPRODUCED, UNDECIDED = "reproduced", "not reproduced", "undecided"
NEEDS_DATA, NOT_RUN = "needs data", "not run"
CONSTRUCTED = "true by construction, not counted"

# Below the paper's steps, what no kind of criterion can be yet, and why.
_UNSETTLED = {
    "effect": ((NOT_REPRODUCED,), "it may still come"),
    "absence": ((REPRODUCED,), "it may still go"),
    "number": ((REPRODUCED, NOT_REPRODUCED), "it may still move"),
}


@dataclass(frozen=True, eq=False)
class Criterion:
    """One statistic and its threshold, made by `effect`, `absence` or `number`; once judged, with an outcome.

    It is met where `sign` * (value - threshold) > 0 (>= 0 unless `strict`) on the whole interval at `level`; a `number`
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
    outcome: str = ""
    reasons: tuple[Reason, ...] = ()

    @property
    def name(self) -> str:
        """The statistic's name."""
        return self.statistic.name

    def named(self, name: str, *reasons: Reason) -> "Criterion":
        """The criterion with another name of its statistic, and `reasons` more to leave it undecided."""
        own = self.statistic
        statistic = replace(own, name=name, undecidable_because=(*own.undecidable_because, *reasons))
        return replace(self, statistic=statistic)

    @property
    def estimate(self) -> float:
        """The mean over the seeds; NaN without any."""
        sample = self.statistic.sample
        if not len(sample):
            return math.nan
        return float(sample[0] if np.ptp(sample) == 0 else sample.mean())

    @property
    def interval(self) -> tuple[float, float]:
        """(low, high) at the criterion's level."""
        return self.statistic.interval(self.level)

    @property
    def has_value(self) -> bool:
        """Whether any seed has a value."""
        return bool(len(self.statistic.sample))

    @property
    def p_value(self) -> float:
        """Two-sided p value of the t test that the mean is the threshold (Holm's order)."""
        if self.statistic.bounds is not None:
            raise ClaimError(f"{self.statistic.name} has an interval of its own and no p value: Holm needs one.")
        sample = self.statistic.sample
        if len(sample) < 2:
            return 1.0
        off, error = abs(sample.mean() - self.threshold), stats.sem(sample)
        if error == 0:
            return float(off == 0)
        return float(2 * stats.t.sf(off / error, len(sample) - 1))

    def judge(self, seeds: int = 3, criteria: int = 1) -> "Criterion":
        """The criterion with its outcome: `seeds` is the least number of seeds, `criteria` the conjunction's size."""
        statistic = self.statistic
        least = statistic.least_seeds or (1 if self.kind == "number" or statistic.bounds else seeds)
        outcome, reasons = UNDECIDED, statistic.undecidable_because
        if statistic.missing:
            outcome, reasons = NOT_RUN, (Reason("missing", statistic.missing),)
        elif len(statistic.sample) < least:
            # What too few values put in doubt is not said; what the budget lacks is.
            of_budget = (reason for reason in reasons if reason.kind == "budget")
            reasons = (_too_few_seeds(statistic, least), *of_budget)
        elif not reasons:
            outcome = self._outcome(criteria)
            reasons = (Reason("interval", "interval"),) if outcome == UNDECIDED else ()
        return replace(self, outcome=outcome, reasons=reasons)

    def _outcome(self, criteria: int) -> str:
        if self.kind == "number":
            return REPRODUCED if self.holds_at(self.estimate) else NOT_REPRODUCED
        if all(map(self.holds_at, self.interval)):
            return REPRODUCED
        wider = self.statistic.interval(max(self.level, 1 - 0.1 / criteria))
        best = max(self.sign * (end - self.threshold) for end in wider)
        return NOT_REPRODUCED if best < 0 else UNDECIDED

    def holds_at(self, value: float) -> bool:
        """Whether a value meets the threshold."""
        off = value - self.threshold
        if self.kind == "number":
            return abs(off) <= self.tolerance
        return self.sign * off > 0 or (off == 0 and not self.strict)

    def __str__(self) -> str:
        if not self.has_value:
            return f"{self.name}: no value (wanted {self.wanted})"
        low, high = self.interval
        if math.isfinite(low):
            shown = text_of(self.estimate) + f" [{text_of(low)}, {text_of(high)}]" * (low < high)
        else:
            shown = ", ".join(map(text_of, self.statistic.sample))
        unit = self.statistic.unit
        return f"{self.name}: {' '.join(filter(None, (shown, unit)))} (wanted {self.wanted})"


def _too_few_seeds(statistic: Statistic, least: int) -> Reason:
    run, diverged = len(statistic.values), max(curve.diverged for curve in statistic.curves)
    text = f"{run} of at least {least}" if run < least else "too few have a value"
    return Reason("seeds", f"{text}, {diverged} diverged" if diverged else text)


def text_of(value: float) -> str:
    """Three digits, and a large count whole."""
    return f"{value:,.0f}" if abs(value) >= 1000 and value == round(value) else f"{value:.3g}"


# An effect's thresholds by name: the side on which it must lie, whether strictly, and the sign in print.
_THRESHOLDS = {
    "above": (1, True, ">"),
    "at_least": (1, False, "≥"),
    "below": (-1, True, "<"),
    "at_most": (-1, False, "≤"),
}


def effect(statistic: Statistic, **threshold: float) -> Criterion:
    """Rule 1: the whole 95 % interval `above`, `at_least`, `below` or `at_most` the one threshold given.

    Raises:
        ClaimError: not exactly one of the four was given.
    """
    if len(threshold) != 1 or not threshold.keys() <= _THRESHOLDS.keys():
        raise ClaimError(f"an effect takes one threshold, got {len(threshold)}: {', '.join(_THRESHOLDS)}.")
    ((name, value),) = threshold.items()
    sign, strict, word = _THRESHOLDS[name]
    return Criterion(statistic, "effect", f"{word} {value:g}", value, sign, strict)


def absence(statistic: Statistic, margin: float = 0.5) -> Criterion:
    """Rule 2: no effect as an equivalence, the interval's upper end below `margin` (0.5 nats for differences of D)."""
    return Criterion(statistic, "absence", f"< {margin:g}", margin, sign=-1)


def number(
    statistic: Statistic, published: float, *, within: float = 0.0, relative: float = 0.0, factor: float = 0.0
) -> Criterion:
    """Rule 3: the mean near a published one; one seed decides.

    Near is `within` so much of it, `relative` so much times the number, or by a `factor` up or down.
    """
    if factor:
        within_factor = in_range(statistic, published / factor, published * factor)
        return replace(within_factor, wanted=f"{published:g}, × or ÷ {factor:g}")
    tolerance = max(within, relative * abs(published))
    wanted = f"{published:,g} ± {tolerance:.3g}" if tolerance else f"{published:,g}"
    return Criterion(statistic, "number", wanted, published, tolerance=tolerance)


def in_range(statistic: Statistic, low: float, high: float) -> Criterion:
    """Rule 3: the mean in a published range, its ends included; one seed decides."""
    return Criterion(statistic, "number", f"{low:g} to {high:g}", (low + high) / 2, tolerance=(high - low) / 2)


def holm(criteria: Sequence[Criterion]) -> list[Criterion]:
    """Rule 6: the same comparisons with Holm's intervals: the i-th smallest p value at 1 - 0.05 / (k - i + 1).

    From the first that does not pass on, the level stays, so that none after it passes (step-down).
    """
    k, alpha, corrected = len(criteria), 0.0, list(criteria)
    stopped = False
    for rank, index in enumerate(np.argsort([criterion.p_value for criterion in criteria], kind="stable")):
        alpha = alpha if stopped else 0.05 / (k - rank)
        stopped = stopped or criteria[index].p_value > alpha
        corrected[index] = replace(criteria[index], level=1 - alpha).named(f"{criteria[index].name} (Holm over {k})")
    return corrected


Criteria = Callable[[Evidence], Sequence[Criterion]]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper and how it is decided; `Claims.claim` makes it.

    Attributes:
        paper: the paper's value, in words.
        brief: the sentence in twelve words at most, for a list; "": the sentence.
        finding: what was measured, in words, with a place for each criterion's number (`claims.findings`).
        train: the settings, beside those of the scale `Claims.deciding`, of the members that it needs.
        scale: what the paper ran. Where the paper says it of several data sets, a scale for each: `criteria` then gets
            evidence of one set at a time (`Evidence.data_set`), each at its own best budget, and all sets must hold.
        steps, seeds: the least that may decide; 0 steps (of `batch_size` images) where nothing is trained.
        axes, untrained: as in `evidence_by_budget`.
        quorum: the share of the criteria that must hold, rounded up; below 1 it is of those of all sets that decide.
        copies_decide: whether a copy of the paper's data (a JPEG copy) decides; else it is shown alone.
        note: a remark for the page (rule 8).
        why: what was found of why it fails here; shown where it does.
    """

    number: str
    sentence: str
    paper: str
    scale: PaperScale | Mapping[str, PaperScale]
    criteria: Criteria = field(repr=False)
    steps: int
    brief: str = ""
    finding: str = ""
    train: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 0
    seeds: int = 3
    study: str = ""
    axes: tuple[str, ...] | None = ()
    untrained: tuple[str, ...] = ()
    quorum: float = 1.0
    copies_decide: bool = True
    by_construction: bool = False
    note: str = ""
    why: str = ""

    def __post_init__(self):
        if isinstance(self.axes, str):
            raise ClaimError(f"the axes of claim {self.number} are {self.axes!r}; give a tuple of names.")
        if self.axes is not None:
            object.__setattr__(self, "axes", tuple(self.axes))

    def judge(self, evidence: Evidence) -> tuple[Criterion, ...]:
        """The claim's criteria on this evidence, judged."""
        criteria = list(self.criteria(evidence))
        sets = 1 if isinstance(self.scale, PaperScale) else len(self.scale)
        return tuple(criterion.judge(self.seeds, sets * len(criteria)) for criterion in criteria)


class Claims:
    """The claims of a study, in the order in which they are made; `defaults` are fields that most of them share.

    Attributes:
        title: the study's name in words.
        question, answer: what the paper asks, and what it says, a sentence each.
        caution: what a reader must know before all else; "" for nothing.
        headline: numbers of claims, the one that matters most first.
        deciding: the scale whose steps and seeds are the least that decides most of them.

    >>> PAPER = PaperScale(steps=1_000, batch_size=128, seeds=1)
    >>> CLAIMS = Claims(scale=PAPER, steps=500, axes=("beta",))
    >>> @CLAIMS.claim("9.1", "D falls as beta does", paper="Figure 1")
    ... def d_falls(evidence):
    ...     (test,) = complete(evidence.curve("distortion", part="test"))
    ...     return [effect(spearman(test), at_least=0.95)]
    >>> [claim.number for claim in CLAIMS], CLAIMS["9.1"].steps
    (['9.1'], 500)
    """

    def __init__(
        self,
        *,
        title: str = "",
        question: str = "",
        answer: str = "",
        caution: str = "",
        headline: Sequence[str] = (),
        deciding: str = "paper",
        **defaults: Any,
    ):
        self.title, self.question, self.answer, self.caution = title, question, answer, caution
        self.headline, self.deciding = tuple(headline), deciding
        self._defaults = defaults
        self._claims: dict[str, Claim] = {}

    def claim(self, number: str, sentence: str, **fields: Any) -> Callable[[Criteria], Claim]:
        """Turn a function from `Evidence` to `Criterion`s into a `Claim` with these fields, and keep it.

        Raises:
            ClaimError: the number is taken.
        """

        def keep(criteria: Criteria) -> Claim:
            if number in self._claims:
                raise ClaimError(f"claim {number} is there already: {self._claims[number].sentence}.")
            given = self._defaults | fields
            self._claims[number] = Claim(number=number, sentence=sentence, criteria=criteria, **given)
            return self._claims[number]

        return keep

    def __getitem__(self, number: str) -> Claim:
        return self._claims[number]

    def __iter__(self) -> Iterator[Claim]:
        return iter(self._claims.values())


@dataclass(frozen=True, eq=False)
class Verdict:
    """The answer to a claim: outcome and scope, and its judged criteria, whatever the outcome.

    Of a claim about several data sets, `sets` holds the verdict on each, with a scope of its own; `criteria` are those
    of all sets, and `scope` is None.
    """

    claim: Claim
    criteria: tuple[Criterion, ...]
    outcome: str
    reasons: tuple[Reason, ...] = ()
    scope: Scope | None = None
    sets: Mapping[str, "Verdict"] = field(default_factory=dict)

    @property
    def number(self) -> str:
        """The claim's number."""
        return self.claim.number

    @property
    def reason(self) -> str:
        """The reasons for which nothing is decided, as text."""
        return "; ".join(map(str, self.reasons))

    @property
    def seeds(self) -> int:
        """The least number of seeds of any criterion."""
        return min((criterion.statistic.seeds for criterion in self.criteria), default=0)

    @property
    def has_value(self) -> bool:
        """Whether any criterion has a value."""
        return any(criterion.has_value for criterion in self.criteria)

    @property
    def counted(self) -> bool:
        """Whether the claim counts in a tally (rule 7)."""
        return not self.claim.by_construction

    @property
    def scopes(self) -> list[Scope]:
        """Its scope, or those of its sets; none of what was not run."""
        return [verdict.scope for verdict in (self.sets.values() or [self]) if verdict.scope]

    def row(self) -> dict[str, str]:
        """The verdict in words, by the columns of `verdict_table`."""
        claim = self.claim
        remarks = [*map(str, self.reasons), *["by construction: not counted"] * claim.by_construction]
        ours = [str(criterion) for criterion in self.criteria if criterion.has_value]
        if valueless := [criterion for criterion in self.criteria if not criterion.has_value]:
            names = (f"{criterion.name} (wanted {criterion.wanted})" for criterion in valueless)
            ours.append(f"no value of {', '.join(names)}")
        return {
            "claim": claim.number,
            "sentence": f"{claim.sentence}. {claim.note}" if claim.note else claim.sentence,
            "paper": claim.paper,
            "ours": "; ".join(ours),
            "seeds": str(self.seeds),
            "outcome": f"{self.outcome} ({'; '.join(remarks)})" if remarks else self.outcome,
            "scope": ". ".join(map(str, self.scopes)),
        }


def verdict(claim: Claim, table: pd.DataFrame) -> Verdict:
    """The verdict on one claim, from the tidy table alone (rules 1 to 7).

    One budget decides: the largest that has the claim's grid, its seeds and its least steps; failing that, the largest
    that has the grid; failing that, the largest with any value. "Largest" prefers the paper's own settings.
    """
    return verdicts([claim], table)[0]


def verdicts(claims: Iterable[Claim], table: pd.DataFrame) -> list[Verdict]:
    """`verdict` of each claim; the table is cut into budgets once for all that cut it alike."""
    by_cut: dict[tuple, list[Evidence]] = {}
    available = {name for name in NAMES if not about(name).stored}
    available |= {*table["data"].unique()} if "data" in table else set()
    judged = []
    for claim in claims:
        one_set = not isinstance(claim.scale, PaperScale)
        cut = claim.axes, claim.untrained, one_set
        if cut not in by_cut:
            by_cut[cut] = evidence_by_budget(table, claim.axes, untrained=claim.untrained, one_set=one_set)
        judged.append(_verdict(claim, by_cut[cut], available))
    return judged


def verdict_table(claims: Iterable[Claim], table: pd.DataFrame) -> pd.DataFrame:
    """The verdict on each claim, a row each: claim, sentence, paper, ours, seeds, outcome, scope (all text)."""
    columns = ["claim", "sentence", "paper", "ours", "seeds", "outcome", "scope"]
    return pd.DataFrame([verdict.row() for verdict in verdicts(claims, table)], columns=columns)


def _verdict(claim: Claim, evidences: list[Evidence], available: Collection[str]) -> Verdict:
    originals = {COPIES.get(name, name) if claim.copies_decide else name for name in available}
    if isinstance(claim.scale, PaperScale):
        return _on_one_scale(claim, claim.scale, evidences, originals | set(available))
    sets = {}
    for name, scale in claim.scale.items():
        of_set = [evidence for evidence in evidences if evidence.data_set == name]
        sets[name] = _on_one_scale(claim, replace(scale, data=(name,)), of_set, originals)
    return _on_all_sets(claim, sets)


def _on_all_sets(claim: Claim, sets: Mapping[str, Verdict]) -> Verdict:
    """The verdict on a claim of several data sets from those on each, all of which must hold."""
    several = len(sets) > 1
    outcomes = {verdict.outcome for verdict in sets.values()}
    ran = {name: verdict for name, verdict in sets.items() if verdict.outcome not in (NEEDS_DATA, NOT_RUN)}
    criteria, reasons = [], []
    for name, verdict in sets.items():
        if verdict.outcome not in (REPRODUCED, NOT_REPRODUCED):
            of_set = Reason("set", f"{name}: {verdict.reason if name in ran else verdict.outcome}")
            reasons += [of_set] if several else verdict.reasons
        if verdict.scope or verdict.outcome == UNDECIDED:
            prefix = f"{name}, " if several else ""
            criteria += [criterion.named(prefix + criterion.name) for criterion in verdict.criteria]
    if not ran:
        outcome, reasons = NOT_RUN if NOT_RUN in outcomes else NEEDS_DATA, []
        for name, verdict in sets.items():
            needed = [Reason("data", f"{name}: needs data")]
            reasons += verdict.reasons if verdict.outcome == outcome else needed
    elif claim.quorum < 1:
        of_all = [criterion for verdict in ran.values() for criterion in verdict.criteria]
        outcome = UNDECIDED if UNDECIDED in outcomes else conjunction(of_all, claim.quorum)[0]
    elif NOT_REPRODUCED in outcomes:
        outcome, reasons = NOT_REPRODUCED, []
    else:
        outcome = UNDECIDED if reasons else REPRODUCED
    return Verdict(claim, tuple(criteria), outcome, tuple(dict.fromkeys(reasons)), sets=sets)


def _on_one_scale(claim: Claim, paper: PaperScale, evidences: list[Evidence], available: Collection[str]) -> Verdict:
    """The verdict on the first of the evidence, nearest to the paper's settings first, that can decide."""
    best, criteria, rank = None, (), (False, False, False)
    for evidence in sorted(evidences, key=lambda evidence: _distance_from_paper(paper, evidence)):
        judged = claim.judge(evidence)
        has_grid = bool(judged) and not any(criterion.statistic.missing for criterion in judged)
        lacks_seeds = any(reason.kind == "seeds" for criterion in judged for reason in criterion.reasons)
        able = has_grid and not lacks_seeds and _reaches(evidence.budget, claim.steps, claim.batch_size)
        was_run = any(criterion.statistic.seeds for criterion in judged)
        if best is None or (able, has_grid, was_run) > rank:
            best, criteria, rank = evidence, judged, (able, has_grid, was_run)
        if able:
            break
    outcome, reasons = conjunction(criteria, claim.quorum)
    if best is not None and claim.steps and outcome != NOT_RUN:
        is_largest = all(evidence.budget["steps"] <= best.budget["steps"] for evidence in evidences)
        outcome, reasons = _budgeted(claim, paper, best, criteria, is_largest)

    *_, was_run = rank
    scope = None
    if best is not None and was_run:
        scope = scope_of(paper, best, [criterion.statistic for criterion in criteria], claim.steps > 0)
    wanted = " or ".join(paper.data)
    if outcome == NOT_RUN and not set(paper.data) & set(available):
        outcome, reasons = NEEDS_DATA, (Reason("data", wanted),)
    elif scope and not claim.copies_decide and set(scope.data) - set(paper.data):
        outcome, reasons = NEEDS_DATA, (Reason("data", f"{wanted}, not {', '.join(scope.data)}"),)
    verdict = Verdict(claim, criteria, outcome, reasons, scope)
    return verdict if verdict.has_value else replace(verdict, scope=None)


def conjunction(criteria: Sequence[Criterion], quorum: float = 1.0) -> tuple[str, tuple[Reason, ...]]:
    """(outcome, reasons) of judged criteria that must hold, or a `quorum` of them: one too many refused refuses all."""
    outcomes = [criterion.outcome for criterion in criteria]
    needed = math.ceil(round(quorum * len(outcomes), 9))
    if outcomes.count(NOT_REPRODUCED) > len(outcomes) - needed:
        return NOT_REPRODUCED, ()
    if outcomes and outcomes.count(REPRODUCED) >= needed:
        return REPRODUCED, ()
    for outcome in (NOT_RUN, UNDECIDED):
        if outcome in outcomes:
            of_outcome = (criterion.reasons for criterion in criteria if criterion.outcome == outcome)
            return outcome, tuple(dict.fromkeys(chain.from_iterable(of_outcome)))
    return NOT_RUN, (Reason("missing", "no member of it"),)


def _budgeted(
    claim: Claim, paper: PaperScale, evidence: Evidence, criteria: Sequence[Criterion], is_largest: bool
) -> tuple[str, tuple[Reason, ...]]:
    """Rule 4: least budget, agreement of 0.8 and 1.0 of the steps, and what may still come or go."""
    outcome, reasons = conjunction(criteria, claim.quorum)
    if not _reaches(evidence.budget, claim.steps, claim.batch_size):
        images = f" of {claim.batch_size} images" if claim.batch_size else ""
        larger = "" if is_largest else ", and what is trained for longer lacks part of what it compares"
        few = f"{evidence.budget['steps']:,} of at least {claim.steps:,} steps{images}{larger}"
        return UNDECIDED, (Reason("budget", few), *reasons)
    early, _ = conjunction(claim.judge(evidence.at(0.8)), claim.quorum)
    if early != outcome:
        turned = f"{early} at 0.8 of the steps, {outcome} at the end"
        return UNDECIDED, (*reasons, Reason("budget", turned))
    if _reaches(evidence.budget, paper.steps, paper.batch_size):
        return outcome, reasons
    return conjunction([_below_the_papers_steps(criterion) for criterion in criteria], claim.quorum)


def _below_the_papers_steps(criterion: Criterion) -> Criterion:
    unsettled, why = _UNSETTLED[criterion.kind]
    if criterion.outcome not in unsettled:
        return criterion
    reason = Reason("budget", f"below the paper's steps, {why}")
    return replace(criterion, outcome=UNDECIDED, reasons=(reason,))


def _reaches(budget: Mapping[str, Any], steps: int, batch_size: int) -> bool:
    """At least that many steps, and at least that many images in them."""
    batch = budget.get("batch_size", batch_size)
    return budget["steps"] >= steps and (not batch_size or budget["steps"] * batch >= steps * batch_size)


def _distance_from_paper(paper: PaperScale, evidence: Evidence) -> tuple[bool, int]:
    """A key that sorts originals before copies, then by the number of settings that differ from the paper's."""
    differing = sum(evidence.budget.get(name, value) != value for name, value in paper.settings.items())
    return evidence.budget.get("data") in COPIES, differing
