"""Findings: what verdicts say in words, by the templates that stand beside the claims.

A template, `Claim.finding`, says what was measured, whatever its outcome: "At beta 1 … {0[1]:.3f}, at 0.01 …". Its
places are the criteria by number: `{0}` the mean over seeds with its unit; `{0:.2f}` as numbers are formatted;
`{0:above|below}` its size and the word for its sign; `{0[0.01]}` the curve behind it at a grid point; `{least}` the
criterion that holds by the least. What the outcome is, and how sure it is, the same sentences say of all claims.
"""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from vaekit import data
from vaekit.claims.rules import (
    CONSTRUCTED,
    NEEDS_DATA,
    NOT_REPRODUCED,
    NOT_RUN,
    REPRODUCED,
    UNDECIDED,
    Criterion,
    Verdict,
    text_of,
)
from vaekit.settings import WORDS

MOST = 4  # things that are said to be lacking
NEAR = 0.2  # of a claim's least steps: from there on what it has is shown as a result


class NoValueError(Exception):
    """A template names a criterion that has no value."""


class _Number:
    """A number in a template: its text with its unit, or its size with one of two words for its sign."""

    def __init__(self, value: float, unit: str):
        self._value, self._unit = value, unit
        if not math.isfinite(value):
            raise NoValueError

    def __format__(self, form: str) -> str:
        if "|" in form:
            return f"{_Number(abs(self._value), self._unit)} {form.split('|')[self._value < 0]}"
        return format(self._value, form) if form else f"{text_of(self._value)} {self._unit}".rstrip()


class _Place:
    """A criterion in a template."""

    def __init__(self, criterion: Criterion):
        self._criterion = criterion

    def __format__(self, form: str) -> str:
        return format(_Number(self._criterion.estimate, self._criterion.statistic.unit), form)

    def __getitem__(self, point: Any) -> _Number:
        curve = self._criterion.statistic.curves[0].values
        if float(point) not in curve:
            raise NoValueError
        return _Number(curve[float(point)].mean(), self._criterion.statistic.unit)


def finding(verdict: Verdict) -> str:
    """What was measured, in words; "" where the template needs a value that is not there.

    A claim is decided without it where another criterion refuses it: then the criteria stand by their own names.
    """
    if verdict.sets:
        texts = {name: text for name, of_set in on_trained_sets(verdict).sets.items() if (text := finding(of_set))}
        if len(verdict.sets) == 1:
            return next(iter(texts.values()), "")
        scopes = {name: verdict.sets[name].scope for name in texts}
        return "; ".join(f"{_sets(scopes[name].data) or name}: {text}" for name, text in texts.items())  # pyright: ignore
    criteria = [criterion for criterion in verdict.criteria if criterion.has_value]
    if not verdict.claim.finding or not criteria:
        return ""
    least = min(criteria, key=lambda each: each.sign * (each.estimate - each.threshold))
    try:
        return verdict.claim.finding.format(*map(_Place, verdict.criteria), least=_Place(least))
    except (NoValueError, IndexError):
        if verdict.outcome not in (REPRODUCED, NOT_REPRODUCED):
            return ""
        return "; ".join(f"{sets_titled(criterion.name)}: {_Place(criterion)}" for criterion in criteria)


def headline(verdict: Verdict) -> str:
    """The finding, with its interval where that holds both answers; where there is none, the claim in brief."""
    sentence = finding(verdict)
    if sentence and verdict.outcome == UNDECIDED:
        criteria = on_trained_sets(verdict).criteria
        open_ones = [each for each in criteria if any(reason.kind == "interval" for reason in each.reasons)]
        if open_ones:
            of = f"{sets_titled(open_ones[0].name)}, " if len(criteria) > 1 else ""
            sentence += f" (open: {of}{interval(open_ones[0])}, wanted {open_ones[0].wanted})"
    return sentence or brief(verdict)


def brief(verdict: Verdict) -> str:
    """The claim's sentence in a line."""
    return verdict.claim.brief or verdict.claim.sentence


def is_near(verdict: Verdict) -> bool:
    """Whether a page shows the claim as a result: decided, or undecided with a value at `NEAR` of its least steps.

    Of several image sets one is enough. A claim that needs no training is near as soon as it has all values.
    """
    if verdict.outcome in (REPRODUCED, NOT_REPRODUCED):
        return True
    if verdict.outcome != UNDECIDED or not finding(verdict):
        return False
    return _is_large(on_trained_sets(verdict))


def on_trained_sets(verdict: Verdict) -> Verdict:
    """A verdict of several image sets without those that lack `NEAR` of the least steps, where others have it."""
    large = {name: of_set for name, of_set in verdict.sets.items() if _is_large(of_set)}
    if not large:
        return verdict
    small = tuple(f"{name}, " for name in verdict.sets if name not in large)
    criteria = tuple(criterion for criterion in verdict.criteria if not criterion.name.startswith(small))
    return replace(verdict, sets=large, criteria=criteria)


def _is_large(verdict: Verdict) -> bool:
    return bool(verdict.scopes) and all(scope.steps >= NEAR * verdict.claim.steps for scope in verdict.scopes)


def answer(verdict: Verdict) -> str:
    """Whether the paper's claim holds here, in a sentence."""
    if not verdict.counted:
        return "It is true by construction, and not counted."
    match verdict.outcome:
        case "reproduced":
            return "The claim holds here."
        case "not reproduced":
            return "The claim does not hold here."
        case "undecided":
            leans = leaning(verdict) if is_near(verdict) else ""
            lacks = f"What is lacking: {text}." if (text := lacking(verdict)) else ""
            texts = ["It cannot be told yet.", leans, lacks]
            return " ".join(filter(None, texts))
        case "needs data":
            return f"It needs {lacking(verdict)}."
    return f"Not run yet: {lacking(verdict)}."


def leaning(verdict: Verdict) -> str:
    """Whether the values so far meet what is wanted."""
    valued = [criterion for criterion in on_trained_sets(verdict).criteria if criterion.has_value]
    met = [criterion.holds_at(criterion.estimate) for criterion in valued]
    if not valued:
        return ""
    if all(met):
        return "So far the values meet what is wanted."
    if not any(met):
        return "So far no value meets what is wanted."
    return f"So far {sum(met)} of {len(met)} values meet{'s' * (sum(met) == 1)} what is wanted."


def lacking(verdict: Verdict) -> str:
    """What the verdict lacks, for a reader: steps, seeds, members, data."""
    texts = list(dict.fromkeys(_lacks(verdict)))
    return "; ".join(texts[:MOST]) + " and more" * (len(texts) > MOST)


def _lacks(verdict: Verdict) -> Iterator[str]:
    if len(verdict.sets) > 1 and verdict.outcome in (UNDECIDED, NOT_RUN):
        for name, of_set in verdict.sets.items():
            if of_set.outcome not in (REPRODUCED, NOT_REPRODUCED):
                first = of_set.outcome if of_set.outcome == NEEDS_DATA else next(_lacks(of_set), "")
                yield f"{data.title(name)}: {first}"
        return
    for reason in verdict.reasons:
        text = reason.text
        match reason.kind:
            case "interval":
                yield "more seeds or steps, until the interval excludes one of the two answers"
            case "seeds":
                yield f"seeds, {text}"
            case "missing" if "(" in text or text == "no member of it":
                yield _members_lacking(verdict)
            case "missing" if verdict.claim.steps:
                # How many values there are is said of the budget that has most, which may be one of few steps.
                _, few, least = text.partition(" of at least ")
                where = ", each of at least" if few else " with all measures at"
                yield f"{f'at least {least}' if few else text}{where} {verdict.claim.steps:,} steps"
            case _:
                yield sets_titled(text)


def _members_lacking(verdict: Verdict) -> str:
    """The members that are not there, by the settings that a reader would ask for."""
    claim = verdict.claim
    named = [f"{setting(name)} {_listed(values)}" for name, values in claim.train.items()]
    of = f" ({'; '.join(named)})" if named else ""
    at = f" at {claim.steps:,} steps" if claim.steps else ""
    return f"no members with all measures{of}{at}"


def _listed(values: Any) -> str:
    values = values if isinstance(values, tuple | list) else (values,)
    if len(values) > 6:
        return f"{values[0]} to {values[-1]}"
    return ", ".join(map(in_words, values))


def setting(name: str) -> str:
    """A setting as readers know it."""
    return WORDS.get(name, name)


def in_words(value: Any) -> str:
    """A value of a setting as readers know it."""
    return f"{value:g}" if isinstance(value, float) else data.title(str(value)).replace("_", " ")


def sets_titled(text: str) -> str:
    """A text with image sets by the names that readers know: mnist_binary is binary MNIST."""
    return re.sub(r"\w+", lambda word: data.title(word[0]), text)


def _sets(names: Iterable[str]) -> str:
    return " and ".join(map(data.title, names))


def estimated(criterion: Criterion) -> str:
    """A criterion's value in words, with its interval where that has a width."""
    value = f"{sets_titled(criterion.name)}: {text_of(criterion.estimate)} {criterion.statistic.unit}".rstrip()
    return ", ".join(filter(None, (value, interval(criterion))))


def interval(criterion: Criterion) -> str:
    """A criterion's interval in words; "" where it has no width."""
    low, high = criterion.interval
    if not (math.isfinite(low) and low < high):
        return ""
    return f"{100 * criterion.level:.3g} % interval {text_of(low)} to {text_of(high)}"


def measured(criterion: Criterion) -> str:
    """A criterion's value with its interval, and what was wanted."""
    return f"{estimated(criterion)}; wanted {criterion.wanted}"


def sureness(verdict: Verdict) -> str:
    """How sure it is: seeds, budget beside the paper's, and what could overturn it."""
    texts, scopes = [], on_trained_sets(verdict).scopes
    for scope in scopes:
        seeds = f"{scope.seeds} seed{'s' * (scope.seeds != 1)} (the paper: {scope.paper.seeds})"
        steps = f"{scope.steps:,} of {scope.paper.steps:,} steps, " if scope.steps and scope.paper.steps else ""
        texts.append(f"{_sets(scope.data)}: {steps}{seeds}" if len(scopes) > 1 else f"{steps}{seeds}")
    return ". ".join([*texts, overturns(verdict)])


def overturns(verdict: Verdict) -> str:
    """What could still overturn an outcome."""
    if verdict.outcome == UNDECIDED:
        return "More seeds or steps can turn it either way"
    if any(scope.at_the_papers_scale for scope in verdict.scopes):
        return "At the paper's own scale: other seeds alone could overturn it"
    if verdict.scopes and not any(scope.steps for scope in verdict.scopes):
        return "No training enters it"
    return "Longer training, a finer grid or other seeds could overturn it; the same holds after 80 % of the steps"


BADGES = {
    REPRODUCED: "reproduced",
    NOT_REPRODUCED: "refused",
    UNDECIDED: "undecided",
    NEEDS_DATA: "needs data",
    NOT_RUN: "not run",
    CONSTRUCTED: "by construction",
}


def outcome(verdict: Verdict) -> str:
    """The outcome of a claim that counts; of one that does not, that it is true by construction."""
    return verdict.outcome if verdict.counted else CONSTRUCTED
