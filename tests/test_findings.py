"""What verdicts say in words: the templates beside the claims, and the sentences of all of them.

`made_up.outcome` holds every verdict of the claims' own tests, of each outcome, to what is said of it here.
"""

import importlib
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from vaekit import studies
from vaekit.claims import NOT_RUN, REPRODUCED, UNDECIDED, Claims, PaperScale, complete, effect, findings, verdict
from vaekit.claims.statistics import Statistic, difference

PAPER = PaperScale(steps=1_000, batch_size=128, seeds=5, data=("tetrominoes",), grid={"beta": (0.1, 1.0)})
CLAIMS = [claim for name in studies.PAPERS for claim in importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS]


def table(low: float, high: float, seeds: int = 3, steps: int = 1_000) -> pd.DataFrame:
    """A measure at two betas, read at 0.8 and at all of the steps."""
    rows = [
        {"key": f"{seed}-{beta}", "seed": seed, "beta": beta, "step": step, "value": value + 0.01 * seed * beta}
        for seed in range(seeds)
        for beta, value in ((0.1, low), (1.0, high))
        for step in (round(0.8 * steps), steps)
    ]
    shared = {
        "steps": steps,
        "batch_size": 128,
        "status": "finished",
        "part": "test",
        "data": "tetrominoes",
        "version": 1,
    }
    return pd.DataFrame(rows).assign(measure="m", arguments="", **shared)


def judged(template: str, frame: pd.DataFrame, **fields):
    claims = Claims(scale=PAPER, steps=500, axes=("beta",))

    @claims.claim("9.1", "The measure falls", brief="It falls", paper="it does", finding=template, **fields)
    def falls(evidence):
        curve = evidence.curve("m", part="test")
        return [effect(difference("difference", curve, 0.1, 1.0, unit="nats"), above=0)]

    return verdict(claims["9.1"], frame)


@pytest.mark.parametrize(
    ("template", "low", "high", "said"),
    [
        ("It is {0}", 3, 1, "It is 1.99 nats"),
        ("{0:.3f}", 3, 1, "1.991"),
        ("{0:.0%} of it", 3, 1, "199% of it"),
        ("It lies {0:above|below}", 3, 1, "It lies 1.99 nats above"),
        ("It lies {0:above|below}", 1, 3, "It lies 2.01 nats below"),
        ("{0[0.1]} at 0.1, {0[1]:.1f} at 1", 3, 1, "3 nats at 0.1, 1.0 at 1"),
        ("By {least} at the least", 3, 1, "By 1.99 nats at the least"),
        ("At {0[0.5]}", 3, 1, "difference: 1.99 nats"),  # no such point, and decided all the same
        ("Of {1}", 3, 1, "difference: 1.99 nats"),  # no such criterion
        ("", 3, 1, ""),
    ],
)
def test_a_template_says_what_was_measured(template, low, high, said):
    assert findings.finding(judged(template, table(low, high))) == said


def test_where_nothing_was_measured_the_claim_stands_in_brief():
    absent = judged("It is {0}", table(3, 1)[:0])
    assert (absent.outcome, findings.finding(absent), findings.headline(absent)) == (NOT_RUN, "", "It falls")
    assert findings.answer(absent) == "Not run yet: no members with all measures at 500 steps."
    three_deep = judged("It is {0}", table(3, 1)[:0], train={"depths": (3,), "seeds": tuple(range(20))})
    assert findings.answer(three_deep) == (
        "Not run yet: no members with all measures (layers 3; seeds 0 to 19) at 500 steps."
    )


def test_an_open_interval_says_of_what_it_is():
    frame = table(3, 3 - 0.001)
    frame["value"] += np.where(frame["beta"] == 1, 0.2 * (frame["seed"] - 1), 0)
    open_one = judged("It is {0}", frame)
    interval = findings.interval(open_one.criteria[0])
    assert open_one.outcome == UNDECIDED
    assert findings.headline(open_one).endswith(f" (open: {interval}, wanted > 0)")


def test_what_is_missing_names_the_steps_it_is_wanted_at_and_k_by_its_name():
    def lacking(points, wanted):
        claims = Claims(scale=PAPER, steps=500, axes=("latent_dim",))

        @claims.claim("9.1", "It falls", brief="It falls", paper="it does")
        def falls(evidence):
            curve = evidence.curve("m", part="test", over="latent_dim")
            return [effect(difference("difference", *complete(curve, **wanted), 0.1, 1.0), above=0)]

        return findings.lacking(verdict(claims["9.1"], points))

    frame = table(3, 1).rename(columns={"beta": "latent_dim"})
    assert lacking(frame, {"holding": [2]}) == "no K 2 with all measures at 500 steps"
    assert lacking(frame, {"points": 5}) == "at least 5 values of K, each of at least 500 steps"


def test_a_larger_budget_that_lacks_a_part_is_said():
    """Else a reader sees 400 steps in the list beside 1,000 in a bar."""

    def of(frame):
        claims = Claims(scale=PAPER, steps=500, axes=("beta",))

        @claims.claim("9.1", "It falls", brief="It falls", paper="it does", finding="{0}")
        def falls(evidence):
            (curve,) = complete(evidence.curve("m", part="test"), holding=(0.1, 1.0))
            return [effect(difference("difference", curve, 0.1, 1.0), above=0)]

        return findings.lacking(verdict(claims["9.1"], frame))

    short, long = table(3, 1, steps=400), table(3, 1)
    assert of(short) == "400 of at least 500 steps"
    both = pd.concat([short, long[long["beta"] == 0.1].assign(key="long")])
    assert of(both) == "400 of at least 500 steps, and what is trained for longer lacks part of what it compares"


def test_each_outcome_is_said_and_what_undecided_leans_to():
    holds, fails = judged("{0}", table(3, 1)), judged("{0}", table(1, 3))
    assert findings.answer(holds) == "The claim holds here."
    assert findings.answer(fails) == "The claim does not hold here."
    few = judged("{0}", table(3, 1, seeds=2))
    assert findings.answer(few) == (
        "It cannot be told yet. So far the values meet what is wanted. What is lacking: seeds, 2 of at least 3."
    )
    assert "So far no value meets what is wanted." in findings.answer(judged("{0}", table(1, 3, seeds=2)))
    short = judged("{0}", table(3, 1, steps=400))
    assert "400 of at least 500 steps" in findings.answer(short)


def test_a_claim_of_one_image_set_by_name_lacks_what_one_without_a_name_lacks():
    by_name = {"mnist": replace(PAPER, data=())}
    for few in (table(3, 1, seeds=2), table(3, 1, steps=400), table(3, 1, steps=400, seeds=2)):
        named, plain = judged("{0}", few.assign(data="mnist"), scale=by_name), judged("{0}", few)
        assert named.outcome == plain.outcome == UNDECIDED
        assert findings.lacking(named) == findings.lacking(plain)


def test_of_several_image_sets_those_of_few_steps_are_not_told_where_others_have_more():
    def on(mnist_steps, svhn_steps):
        both = [
            table(3, 1, seeds=2, steps=mnist_steps).assign(data="mnist"),
            table(1, 3, seeds=2, steps=svhn_steps).assign(data="svhn", key=lambda rows: "s" + rows["key"]),
        ]
        scale = {name: replace(PAPER, data=()) for name in ("mnist", "svhn")}
        return judged("It is {0}", pd.concat(both), scale=scale)

    short = on(1_000, 10)
    assert findings.is_near(short)
    assert findings.headline(short) == "MNIST: It is 2 nats"
    assert findings.leaning(short) == "So far the values meet what is wanted."
    assert findings.sureness(short).startswith("1,000 of 1,000 steps, 2 seeds (the paper: 5)")
    assert findings.lacking(short) == "MNIST: seeds, 2 of at least 3; SVHN: 10 of at least 500 steps"
    assert [criterion.name for criterion in findings.on_trained_sets(short).criteria] == ["mnist, difference"]
    assert findings.leaning(on(1_000, 1_000)) == "So far 1 of 2 values meets what is wanted."
    neither = on(10, 10)
    assert not findings.is_near(neither)
    assert "So far" not in findings.answer(neither)
    assert len(findings.on_trained_sets(neither).criteria) == 2


def test_near_is_what_a_fifth_of_the_least_steps_has_measured():
    assert findings.is_near(judged("{0}", table(3, 1)))
    assert findings.is_near(judged("{0}", table(3, 1, steps=100)))
    assert not findings.is_near(judged("{0}", table(3, 1, steps=90)))
    assert not findings.is_near(judged("{0}", table(3, 1)[:0]))


def test_how_sure_names_the_budget_beside_the_papers():
    text = findings.sureness(judged("{0}", table(3, 1, steps=600)))
    assert text.startswith("600 of 1,000 steps, 3 seeds (the paper: 5). Longer training")
    measured = findings.measured(judged("{0}", table(3, 1)).criteria[0])
    assert measured.startswith("difference: 1.99 nats, 95 % interval ")
    assert measured.endswith("; wanted > 0")


def test_a_level_that_many_comparisons_share_is_said():
    wide = effect(Statistic("x", pd.Series([1.0, 2.0, 3.0])), above=0)
    assert "99 % interval" in findings.measured(wide.__class__(**{**vars(wide), "level": 0.99}))


@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.number)
def test_every_claim_has_its_words(claim):
    assert 2 <= len(claim.brief.split()) <= 12
    assert claim.finding
    assert not claim.brief.endswith(".")
    assert not claim.finding.endswith(".")


@pytest.mark.parametrize("name", studies.PAPERS)
def test_what_a_claim_needs_can_be_asked_for(name):
    """At the paper's scale, and by settings that are there."""
    study = studies.study(name)
    claims = importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS
    assert claims.title
    assert claims.question.endswith("?")
    assert claims.deciding in study.Settings.SCALES
    assert {*claims.headline} <= {claim.number for claim in claims}
    for claim in claims:
        settings = study.Settings.at("published", **claim.train)
        assert all(np.all(getattr(settings, name) == value) for name, value in claim.train.items()), claim.number


def test_outcomes_have_a_badge_each():
    assert {REPRODUCED, UNDECIDED, NOT_RUN} <= findings.BADGES.keys()
    assert len({*findings.BADGES.values()}) == len(findings.BADGES)


def test_an_interval_without_width_is_not_said():
    exact = effect(Statistic("x", pd.Series([2.0, 2.0, 2.0])), above=0)
    assert findings.measured(exact) == "x: 2 nats; wanted > 0"
