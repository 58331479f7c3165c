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
    MEASURES,
    QUESTIONS,
    WORDS,
    Question,
    Relation,
    answer,
    matrix,
    relations,
    values,
)
from vaekit.studies.id_transition.figures import frozen_noise
from vaekit.widgets import Page

NAMED = 3  # pairs that the box under the title names on each image set


@dataclass(frozen=True)
class Block:
    """A question as the page shows it."""

    question: Question
    answer: str
    picture: pages.Picture | None
    sentences: list[str]


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
        tested = _by_set([relation for relation in self.relations if math.isfinite(relation.p)])
        return " ".join(_summary(name, own) for name, own in tested.items()) or "Nothing has the seeds to tell."

    def status(self) -> Page:
        """The box under the title: the question, what came out, the budget, and that no paper claims any of it."""
        return self._page("status", self)

    def answers(self) -> Page:
        """A block for each question: where it was left open, what the tests say of it, its figure, each pair."""
        return self._page("answers", [self._block(question) for question in QUESTIONS])

    def matrix(self) -> Page:
        """For each image set the rank correlations of all measures, and the networks behind the one that is chosen."""
        tested = {frozenset(pair) for question in QUESTIONS for pair in question.pairs}
        sets = [_Matrix(name, own, tested) for name, own in self.values.groupby("data")]
        return self._page("matrix", [each for each in sets if each.rows])

    def noise(self) -> Page:
        """Study 1 with frozen beside fresh noise, from results/; how to train it where no network has frozen noise."""
        table = frame(results.read(results.folder(id_transition.SPEC.name)))
        return self._page("noise", self._draw(frozen_noise, table, sharp=True))

    def _block(self, question: Question) -> Block:
        own = [relation for relation in self.relations if (relation.a, relation.b) in question.pairs]
        picture = self._draw(getattr(figures, question.figure), self.long, sharp=True)
        told = any(math.isfinite(relation.p) for relation in own)  # else the answer says what all sentences would
        return Block(question, answer(question, own), picture, [relation.sentence for relation in own if told])

    def _whole(self, name: str) -> int:
        networks = self._networks(self.study.Settings.at("published"))
        own = [each.steps for each in networks if each.data == name and not each.arm]
        return max(own) if own else super()._whole(name)

    @property
    def _above(self) -> set[Any]:
        return {getattr(figures, question.figure) for question in QUESTIONS}

    def _tables(self, table: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
        """Those of the study's figures, and the tested pairs."""
        pairs = _pairs(relations(values(table))) if len(table) else []
        return [*super()._tables(table), *([("The tested pairs", pairs)] if pairs else [])]


def _by_set(relations: Sequence[Relation]) -> dict[str, list[Relation]]:
    """Relations by the titles of their image sets."""
    names = dict.fromkeys(relation.data for relation in relations)
    return {data.title(name): [each for each in relations if each.data == name] for name in names}


def _summary(title: str, tested: Sequence[Relation]) -> str:
    told = sorted((each for each in tested if each.told), key=lambda each: -abs(each.partial[0]))
    count = f"{len(told) or 'none'} of {len(tested)} tested pairs {'is' if len(told) < 2 else 'are'} related given β"
    named = [f"{short(each.a)} with {short(each.b)} (ρ {each.partial[0]:.2f})" for each in told[:NAMED]]
    return f"{title}: {count}{': ' * bool(named)}{', '.join(named)}{', …' * (len(told) > NAMED)}."


def short(name: str) -> str:
    """A measure's title without its unit."""
    return WORDS[name].removeprefix("the ")


def _pairs(tested: Sequence[Relation]) -> list[dict[str, Any]]:
    return [
        {
            "images": data.title(each.data),
            "pair": f"{short(each.a)}, {short(each.b)}",
            "seeds": each.n_seeds,
            "ρ within a seed": _interval(each.plain),
            "ρ given β": _interval(each.partial),
            "p": f"{each.p:.2g}",
            "p, Holm": f"{each.adjusted:.2g}",
        }
        for each in tested
        if math.isfinite(each.p)
    ]


def _interval(of: tuple[float, float, float]) -> str:
    mean, low, high = of
    return f"{mean:.2f} ({low:.2f} to {high:.2f})"


class _Matrix:
    """The matrix of one image set. `points` is what the script draws: the networks' values, in the measures' order."""

    def __init__(self, name: str, own: pd.DataFrame, tested: set[frozenset[str]]):
        shares = matrix(own, name)
        names = [each for each in MEASURES if shares[each].drop(each).notna().any()]
        self.title, self.names = data.title(name), [short(each) for each in names]
        self.rows = [
            (short(a), [None if a == b else _Cell(shares.loc[a, b], {a, b} in tested) for b in names]) for a in names
        ]
        self.points = {
            "title": self.title,
            "names": [MEASURES[each] for each in names],
            "short": self.names,
            "beta": own["beta"].tolist(),
            "seed": own["seed"].tolist(),
            "values": [[_rounded(value) for value in own[each]] for each in names],
        }


@dataclass(frozen=True)
class _Cell:
    """A correlation, and whether its pair is tested."""

    value: float
    tested: bool

    @property
    def text(self) -> str:
        return "" if math.isnan(self.value) else f"{round(self.value, 2) + 0.0:.2f}".replace("-", "−")

    @property
    def strength(self) -> int:
        """Percent of the colour: up to 60, on which text of the page's own colour can be read."""
        return round(60 * abs(self.value))

    @property
    def kind(self) -> str:
        return ("p" if self.value > 0 else "m") + " t" * self.tested


def _rounded(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None
