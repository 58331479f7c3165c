"""The page across the papers: what the tests say of each question, and every measure against every other.

    page = AcrossPage(study, settings)
    page.status()    # the question, what came out, the budget; that all of it is ours
    page.answers()   # a block for each question of `relations`, with its figure
    page.matrix()    # the rank correlations of all measures, with the networks behind each
    page.noise()     # study 1 with frozen noise
    page.rest()      # folded: numbers, the quick scale's figures

Its HTML is that of page.html beside it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from vaekit import data, pages
from vaekit.store import results
from vaekit.store.table import frame
from vaekit.studies import id_transition
from vaekit.studies.across import figures
from vaekit.studies.across.relations import (
    LEAST_POINTS,
    MEASURES,
    PAIRS,
    QUESTIONS,
    SHORT,
    Question,
    Relation,
    answer,
    closest,
    interval,
    matrix,
    number,
    p_in_words,
    relations,
    values,
)
from vaekit.studies.id_transition.figures import frozen_noise, frozen_noise_in_words
from vaekit.widgets import Page

NAMED = 3  # pairs that the box under the title names on each image set


@dataclass(frozen=True)
class Block:
    """A question as the page shows it."""

    question: Question
    answer: str
    picture: pages.Picture | None
    lines: dict[str, list[Relation]]  # by the titles of the image sets; none where nothing is tested


class AcrossPage(pages.TablePage):
    """The page of the study across the papers, which has no paper's claims: questions and tests in their place.

    Args:
        study, settings, table: as of `pages.TablePage`.
    """

    TEMPLATES = "studies/across/page.html"
    QUESTION = (
        "How do intrinsic dimension, Information Imbalance, rate, mutual information, disentanglement and prunability "
        "go together on the same network?"
    )

    @cached_property
    def values(self) -> pd.DataFrame:
        """The measures of each trained network beyond the quick scale, see `relations.values`."""
        return values(self.long)

    @cached_property
    def relations(self) -> list[Relation]:
        """The tested pairs on each image set, see `relations.relations`; none without a trained network."""
        return relations(self.values) if len(self.values) else []

    @property
    def ours(self) -> str:
        """What came out on each image set, in words: how many pairs go together given beta, and the closest of them."""
        of_sets = [_summary(title, own) for title, own in _by_set(self.relations).items()]
        return " ".join(of_sets) or "Nothing is trained beyond the quick scale yet."

    def status(self) -> Page:
        """The box under the title: the question, what came out, the budget, and that no paper claims any of it."""
        return self._page("status", self)

    def answers(self) -> Page:
        """A block for each question: where it was left open, what the tests say of it, its figure, each pair."""
        return self._page("answers", [self._block(question) for question in QUESTIONS])

    def matrix(self) -> Page:
        """For each image set the rank correlations of all measures, and the networks behind the one that is chosen."""
        tested = {frozenset(pair) for pair in PAIRS}
        sets = [_matrix(name, own, tested) for name, own in self.values.groupby("data")]
        return self._page("matrix", [each for each in sets if each["rows"]], LEAST_POINTS)

    def noise(self) -> Page:
        """Study 1 with frozen beside fresh noise, from results/; how to train it where no network has frozen noise."""
        table = frame(results.read(results.folder(id_transition.SPEC.name)))
        picture = self._draw(frozen_noise, table, sharp=True)
        return self._page("noise", picture, frozen_noise_in_words(table) if picture else "")

    def _block(self, question: Question) -> Block:
        own = [relation for relation in self.relations if (relation.a, relation.b) in question.pairs]
        picture = self._draw(getattr(figures, question.figure), self.long, sharp=True)
        lines = {} if all(pair.lacking for pair in own) else _by_set(own)  # else the answer says what is lacking
        words = answer(question, own)
        if question.figure == "diagnostics" and lines:
            words = f"{words} {closest(self.values)}"
        return Block(question, words, picture, lines)

    @property
    def _above(self) -> set[Any]:
        return {getattr(figures, question.figure) for question in QUESTIONS}

    def _tables(self, table: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
        """Those of the study's figures, and the tested pairs."""
        rows = _rows(relations(values(table))) if len(table) else []
        return [*super()._tables(table), *([("The tested pairs", rows)] if rows else [])]


def _by_set(pairs: Sequence[Relation]) -> dict[str, list[Relation]]:
    """Pairs by the titles of their image sets."""
    names = dict.fromkeys(pair.data for pair in pairs)
    return {data.title(name): [pair for pair in pairs if pair.data == name] for name in names}


def _summary(title: str, pairs: Sequence[Relation]) -> str:
    tested = [pair for pair in pairs if not pair.lacking]
    if not tested:
        return f"{title}: nothing can be tested, {'; '.join(dict.fromkeys(pair.lacking for pair in pairs))}."
    found = sorted((pair for pair in tested if pair.found), key=lambda pair: -abs(pair.partial[0]))
    if not found:
        return f"{title}: no relation given β could be shown, in {len(tested)} test{'s' * (len(tested) > 1)}."
    named = [f"{SHORT[pair.a]} with {SHORT[pair.b]} (ρ {number(pair.partial[0])})" for pair in found[:NAMED]]
    named += [f"{len(found) - NAMED} more"] * (len(found) > NAMED)
    pairs_tested = f"{len(tested)} tested pair{'s' * (len(tested) > 1)}"
    count = f"{len(found)} of {pairs_tested} {'is' if len(found) == 1 else 'are'} related given β"
    return f"{title}: {count}: {', '.join(named)}."


def _rows(pairs: Sequence[Relation]) -> list[dict[str, Any]]:
    return [
        {
            "images": data.title(pair.data),
            "pair": f"{SHORT[pair.a]}, {SHORT[pair.b]}",
            "seeds": pair.n_seeds,
            "betas": pair.n_betas,
            "ρ within a seed": interval(pair.plain),
            "ρ given β": interval(pair.partial),
            "p": p_in_words(pair.p),
            "p, Holm": p_in_words(pair.adjusted),
            "lacking": pair.lacking,
        }
        for pair in pairs
    ]


def _matrix(name: str, own: pd.DataFrame, tested: set[frozenset[str]]) -> dict[str, Any]:
    """The matrix of one image set. `points` is what the script draws: the networks' values, in the measures' order."""
    correlations = matrix(own, name)
    names = [each for each in MEASURES if correlations[each].drop(each).notna().any()]
    title, short = data.title(name), [SHORT[each] for each in names]
    rows = [
        (SHORT[a], [None if a == b else _Cell(correlations.loc[a, b], {a, b} in tested) for b in names]) for a in names
    ]
    points = {
        "title": title,
        "names": [MEASURES[each] for each in names],
        "short": short,
        "beta": own["beta"].tolist(),
        "seed": own["seed"].tolist(),
        "values": [[_rounded(value) for value in own[each]] for each in names],
    }
    return {"title": title, "names": short, "rows": rows, "points": points}


@dataclass(frozen=True)
class _Cell:
    """A correlation, and whether its pair is tested."""

    value: float
    tested: bool

    @property
    def text(self) -> str:
        return "" if math.isnan(self.value) else number(self.value)

    @property
    def strength(self) -> int:
        """Percent of the colour: up to 60, on which text of the page's own colour can be read."""
        return round(60 * abs(self.value))

    @property
    def kind(self) -> str:
        return ("p" if self.value > 0 else "m") + " t" * self.tested


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
