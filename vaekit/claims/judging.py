"""Verdicts: from the claims and the tidy table to an outcome and a scope."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from vaekit.claims.evidence import Evidence, budgets, only, order_of
from vaekit.claims.parts import NEEDS_DATA, NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED, Finding, Part
from vaekit.claims.scope import COPIES, MADE, Scope, scope_of
from vaekit.claims.statement import Claim, PaperScale

CONSTRUCTED = "true by construction, not counted"


@dataclass(frozen=True)
class Verdict:
    """The answer to a claim: outcome and scope, and what was found, whatever the outcome.

    Of a claim that is judged a data set at a time, `sets` holds the verdict on each, with a scope of its own.
    """

    number: str
    sentence: str
    paper: str
    findings: tuple[Finding, ...]
    outcome: str
    reasons: tuple[str, ...] = ()
    scope: Scope | None = None
    sets: Mapping[str, "Verdict"] = field(default_factory=dict)
    by_construction: bool = False
    note: str = ""

    @property
    def seeds(self) -> int:
        """The least number of seeds that any part rests on."""
        return min((finding.seeds for finding in self.findings), default=0)

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)

    @property
    def counted(self) -> bool:
        """Whether the claim counts in a tally (rule 7)."""
        return not self.by_construction

    def row(self) -> dict[str, str]:
        """The verdict as the book shows it."""
        scopes = [verdict.scope for verdict in self.sets.values()] or [self.scope]
        remarks = [*self.reasons, *["by construction: not counted"] * self.by_construction]
        ours = [str(finding) for finding in self.findings if not finding.silent]
        if silent := [f"{finding.name} (wanted {finding.wanted})" for finding in self.findings if finding.silent]:
            ours.append(f"no value of {', '.join(silent)}")
        return {
            "claim": self.number,
            "sentence": f"{self.sentence}. {self.note}" if self.note else self.sentence,
            "paper": self.paper,
            "ours": "; ".join(ours),
            "seeds": str(self.seeds),
            "outcome": f"{self.outcome} ({'; '.join(remarks)})" if remarks else self.outcome,
            "scope": ". ".join(str(scope) for scope in scopes if scope),
        }


def verdict(claim: Claim, table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> Verdict:
    """The verdict on one claim, from the tidy table alone (rules 1 to 7).

    It is decided on one budget: the largest that has the claim's grid, its seeds and its least steps; failing that, the
    largest that has the grid; failing that, the largest with any value, where "largest" prefers the paper's own
    settings. `at_hand` names image sets that could be used though the table has no row of them.
    """
    return verdicts([claim], table, at_hand=at_hand)[0]


def verdicts(claims: Iterable[Claim], table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> list[Verdict]:
    """`verdict` of each claim; the table is split into budgets once for all that split it alike."""
    split: dict[tuple, list[Evidence]] = {}
    at_hand = {*MADE, *at_hand, *(table["data"].unique() if "data" in table else ())}
    found = []
    for each in claims:
        within = each.within if isinstance(each.scale, PaperScale) else (*each.within, "data")
        how = each.study, each.compares, within, each.untrained
        if how not in split:
            rows = only(table, table["study"] == each.study) if each.study and "study" in table else table
            split[how] = budgets(rows, compares=each.compares, within=within, untrained=each.untrained)
        found.append(_verdict(each, split[how], at_hand))
    return found


def verdict_table(claims: Iterable[Claim], table: pd.DataFrame, *, at_hand: Collection[str] = ()) -> pd.DataFrame:
    """The claims as the book shows them: `as_table` of their `verdicts`."""
    return as_table(verdicts(claims, table, at_hand=at_hand))


def as_table(found: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts, a row each: claim, sentence, paper, ours, seeds, outcome, scope (all text)."""
    columns = ["claim", "sentence", "paper", "ours", "seeds", "outcome", "scope"]
    return pd.DataFrame([each.row() for each in found], columns=columns)


def in_brief(found: Iterable[Verdict]) -> pd.DataFrame:
    """Verdicts at a glance: claim, sentence, ours and outcome, the decided ones first (all text).

    Of those of which nothing was found, not run or for want of data, and of those true by construction, one row each
    says which claims they are.
    """
    rows, others = [], {}
    for each in found:
        said = each.outcome not in (NOT_RUN, NEEDS_DATA) or not all(part.silent for part in each.findings)
        if each.counted and said:
            shown = each.row()
            rows.append({name: shown[name] for name in ("claim", "sentence", "ours", "outcome")})
        else:
            others.setdefault(each.outcome if each.counted else CONSTRUCTED, []).append(each.number)
    rows.sort(key=lambda row: row["outcome"].startswith((UNDECIDED, NOT_RUN, NEEDS_DATA)))
    for outcome, numbers in others.items():
        rows.append({"claim": f"{len(numbers)} more", "sentence": ", ".join(numbers), "ours": "", "outcome": outcome})
    return pd.DataFrame(rows, columns=["claim", "sentence", "ours", "outcome"])


def _verdict(claim: Claim, groups: list[Evidence], at_hand: Collection[str]) -> Verdict:
    there = {_original(each) if claim.copies_decide else each for each in at_hand}
    if isinstance(claim.scale, PaperScale):
        return _judged(claim, claim.scale, groups, there | set(at_hand))
    found = {}
    for name, scale in claim.scale.items():
        mine = [replace(each, of=name) for each in groups if _original(each.budget["data"]) == name]
        found[name] = _judged(claim, replace(scale, data=(name,)), mine, there)
    return _together(claim, found)


def _original(data: str) -> str:
    return COPIES.get(data, data)


def _together(claim: Claim, found: Mapping[str, Verdict]) -> Verdict:
    """The verdict on a claim of several data sets from those on each, all of which must hold."""
    silent = {name for name, each in found.items() if each.outcome in (NEEDS_DATA, NOT_RUN)}
    outcomes = {each.outcome for each in found.values()}
    reasons = tuple(
        f"{name}: {each.outcome if name in silent else each.reason}" if len(found) > 1 else each.reason
        for name, each in found.items()
        if each.outcome not in (REPRODUCED, NOT_REPRODUCED)
    )
    if silent == found.keys():
        outcome = NOT_RUN if NOT_RUN in outcomes else NEEDS_DATA
        said = {
            name: (f"{name}: needs data",) if each.outcome == NEEDS_DATA else each.reasons
            for name, each in found.items()
        }
        said = {name: each.reasons for name, each in found.items()} if outcome == NEEDS_DATA else said
        reasons = tuple(dict.fromkeys(reason for each in said.values() for reason in each))
    elif claim.quorum < 1:
        decided = [each for name, each in found.items() if name not in silent]
        undecided = any(each.outcome == UNDECIDED for each in decided)
        parts = [finding for each in decided for finding in each.findings]
        outcome = UNDECIDED if undecided else conjunction(parts, claim.quorum)[0]
    elif NOT_REPRODUCED in outcomes:
        outcome, reasons = NOT_REPRODUCED, ()
    else:
        outcome = UNDECIDED if reasons else REPRODUCED
    return Verdict(
        number=claim.number,
        sentence=claim.sentence,
        paper=claim.paper,
        findings=tuple(
            replace(finding, name=f"{name}, {finding.name}" if len(found) > 1 else finding.name)
            for name, each in found.items()
            if each.scope or each.outcome == UNDECIDED
            for finding in each.findings
        ),
        outcome=outcome,
        reasons=reasons,
        sets=found,
        by_construction=claim.by_construction,
        note=claim.note,
    )


def _judged(claim: Claim, paper: PaperScale, groups: list[Evidence], at_hand: Collection[str]) -> Verdict:
    best, judged, rank = None, [], (False, False, False)
    for evidence in sorted(groups, key=lambda each: _strangeness(paper, each)):
        found = claim.findings(evidence)
        whole = bool(found) and not any(part.statistic.lacks for part, _ in found)
        seeds = whole and not any(finding.reason.startswith("seeds") for _, finding in found)
        enough = _reaches(evidence.budget, claim.steps, claim.batch_size)
        mine = seeds and enough, whole, any(finding.seeds for _, finding in found)
        if best is None or mine > rank:
            best, judged, rank = evidence, found, mine
        if seeds and enough:
            break
    findings = tuple(finding for _, finding in judged)
    outcome, reasons = conjunction(findings, claim.quorum)
    if best is not None and claim.steps and outcome != NOT_RUN:
        outcome, reasons = _budgeted(claim, paper, best, judged)

    used = {name for part, finding in judged for name in part.statistic.data if finding.seeds}
    if outcome == NOT_RUN and not set(paper.data) & set(at_hand):
        outcome, reasons = NEEDS_DATA, (" or ".join(paper.data),)
    elif not claim.copies_decide and used - set(paper.data):
        outcome, reasons = NEEDS_DATA, (f"{' or '.join(paper.data)}, not {', '.join(sorted(used))}",)
    scope = None
    if best is not None and not all(finding.silent for finding in findings):
        scope = scope_of(paper, claim.steps > 0, best, judged)
    return Verdict(
        number=claim.number,
        sentence=claim.sentence,
        paper=claim.paper,
        findings=findings,
        outcome=outcome,
        reasons=reasons,
        scope=scope,
        by_construction=claim.by_construction,
        note=claim.note,
    )


def conjunction(findings: Sequence[Finding], quorum: float = 1.0) -> tuple[str, tuple[str, ...]]:
    """(outcome, reasons) of a claim whose parts must hold, or a `quorum` of them: one too many refused refuses it."""
    outcomes = [finding.outcome for finding in findings]
    needed = math.ceil(round(quorum * len(outcomes), 9))
    if outcomes.count(NOT_REPRODUCED) > len(outcomes) - needed:
        return NOT_REPRODUCED, ()
    if outcomes and outcomes.count(REPRODUCED) >= needed:
        return REPRODUCED, ()
    for outcome in (NOT_RUN, UNDECIDED):
        if outcome in outcomes:
            reasons = (finding.reason for finding in findings if finding.outcome == outcome)
            return outcome, tuple(dict.fromkeys(reasons))
    return NOT_RUN, ("no member of it",)


def _budgeted(
    claim: Claim, paper: PaperScale, evidence: Evidence, judged: list[tuple[Part, Finding]]
) -> tuple[str, tuple[str, ...]]:
    """Rule 4: least budget, agreement of 0.8 and 1.0 of the steps, and what may still come or go."""
    outcome, reasons = conjunction([finding for _, finding in judged], claim.quorum)
    steps = evidence.budget["steps"]
    if not _reaches(evidence.budget, claim.steps, claim.batch_size):
        images = f" of {claim.batch_size} images" if claim.batch_size else ""
        return UNDECIDED, (f"budget: {steps:,} of at least {claim.steps:,} steps{images}", *reasons)
    early, _ = conjunction([finding for _, finding in claim.findings(evidence.at(0.8))], claim.quorum)
    if early != outcome:
        return UNDECIDED, (*reasons, f"budget: {early} at 0.8 of the steps, {outcome} at the end")
    if _reaches(evidence.budget, paper.steps, paper.batch_size):
        return outcome, reasons
    unsettled = {"effect": {NOT_REPRODUCED}, "absence": {REPRODUCED}, "number": {REPRODUCED, NOT_REPRODUCED}}
    why = {"effect": "it may still come", "absence": "it may still go", "number": "it may still move"}
    return conjunction(
        [
            replace(finding, outcome=UNDECIDED, reason=f"budget: below the paper's steps, {why[part.kind]}")
            if finding.outcome in unsettled[part.kind]
            else finding
            for part, finding in judged
        ],
        claim.quorum,
    )


def _reaches(budget: Mapping[str, Any], steps: int, batch_size: int) -> bool:
    """At least that many steps, and at least that many images in them."""
    batch = budget.get("batch_size", batch_size)
    return budget["steps"] >= steps and (not batch_size or budget["steps"] * batch >= steps * batch_size)


def _strangeness(paper: PaperScale, evidence: Evidence) -> tuple:
    """Originals before copies, groups closest to the paper's settings, then the largest budget (`budgets`' order)."""
    strange = sum(evidence.budget.get(name, value) != value for name, value in paper.settings.items())
    return evidence.budget.get("data") in COPIES, strange, order_of(evidence)
