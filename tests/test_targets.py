"""The targets' verdicts on made-up tables, where the outcome is known."""

import math
from dataclasses import replace

import pytest

from benchmarks import records, targets
from benchmarks.records import Row
from benchmarks.targets import MET, MISSED, NOT_MEASURED, Target

PLAIN = "2 cores of some processor (AVX2 alone), 8 GiB, Linux"
WITH_BF16 = "8 cores of another (AVX-512, AVX512-BF16, AMX), 64 GiB, Linux"
TWICE = Target("training", "twice as fast", "fleet", ("a", "b"), ("other / vaekit",), "ratio", targets.at_least(2))


def row(value, low=math.nan, high=math.nan, case="a", machine=PLAIN, **more) -> Row:
    return replace(Row(case, "other / vaekit", "ratio", value, low, high, machine=machine), **more)


def judge(target: Target, *rows: Row) -> list[tuple[str, str]]:
    found = targets.verdicts(lambda name: list(rows) if name == target.benchmark else [], [target])
    return [(verdict.outcome, verdict.machine) for verdict in found]


def test_all_rows_must_hold():
    assert judge(TWICE, row(2.0), row(3.0, case="b")) == [(MET, PLAIN)]
    assert judge(TWICE, row(1.99), row(3.0, case="b")) == [(MISSED, PLAIN)]


def test_a_row_that_lacks_is_neither_met_nor_missed_but_one_that_fails_decides():
    assert judge(TWICE) == [(NOT_MEASURED, "")]
    assert judge(TWICE, row(3.0)) == [(NOT_MEASURED, PLAIN)]
    assert judge(TWICE, row(1.0)) == [(MISSED, PLAIN)]
    assert judge(TWICE, row(3.0), row(math.nan, case="b", note="it did not run")) == [(NOT_MEASURED, PLAIN)]


def test_rows_of_another_case_contender_or_quantity_do_not_count():
    others = row(9.0, case="c"), row(9.0, contender="x / vaekit"), row(9.0, quantity="s")
    assert judge(TWICE, *others) == [(NOT_MEASURED, "")]


def test_a_case_may_be_a_beginning():
    target = replace(TWICE, cases=("a", "study 1, *"))
    assert judge(target, row(3.0)) == [(NOT_MEASURED, PLAIN)]
    several = row(3.0, case="study 1, mnist"), row(1.0, case="study 1, svhn"), row(1.0, case="study 2, svhn")
    assert judge(target, row(3.0), several[0], several[2]) == [(MET, PLAIN)]
    assert judge(target, row(3.0), *several) == [(MISSED, PLAIN)]


def test_each_machine_is_judged_by_itself():
    rows = [row(3.0, machine=m, case=c) for m in (PLAIN, WITH_BF16) for c in "ab"]
    assert judge(TWICE, *rows) == [(MET, PLAIN), (MET, WITH_BF16)]
    assert judge(TWICE, rows[0], rows[3]) == [(NOT_MEASURED, PLAIN), (NOT_MEASURED, WITH_BF16)]


@pytest.mark.parametrize(
    ("value", "low", "high", "outcome"),
    [
        (0.97, 0.93, 1.01, MET),
        (1.2, 1.1, 1.3, MET),
        (0.97, 0.95, 0.99, MISSED),  # surely slower
        (0.94, 0.8, 1.1, MISSED),  # far below, and badly known
        (1.0, math.nan, math.nan, MISSED),  # without an interval nothing is shown
    ],
)
def test_not_slower(value, low, high, outcome):
    target = replace(TWICE, cases=("a",), rule=targets.NOT_SLOWER)
    assert judge(target, row(value, low, high)) == [(outcome, PLAIN)]


@pytest.mark.parametrize(("low", "high", "outcome"), [(-1, 1, MET), (0.1, 1, MISSED), (-1, -0.1, MISSED)])
def test_an_interval_that_holds_zero(low, high, outcome):
    assert judge(replace(TWICE, cases=("a",), rule=targets.HOLDS_ZERO), row(0.0, low, high)) == [(outcome, PLAIN)]


def test_a_limit_from_above():
    target = replace(TWICE, rule=targets.at_most(30))
    assert judge(target, row(30.0), row(29.0, case="b")) == [(MET, PLAIN)]
    assert judge(target, row(30.1), row(29.0, case="b")) == [(MISSED, PLAIN)]
    [verdict] = targets.verdicts(lambda _: [row(7.0), row(29.0, case="b")], [target])
    assert verdict.decisive == row(29.0, case="b")  # the nearest to missing


def test_the_speed_of_bf16_is_judged_where_the_processor_has_it():
    target = replace(TWICE, cases=("a",), bf16=True)
    assert judge(target, row(0.5), row(3.0, machine=WITH_BF16)) == [(NOT_MEASURED, PLAIN), (MET, WITH_BF16)]


def test_a_target_of_one_card_is_not_judged_on_another():
    target = replace(TWICE, cases=("a",), card="H200")
    rows = row(1.0, machine="NVIDIA H100, 80 GiB"), row(3.0, machine="NVIDIA H200, 141 GiB")
    assert [outcome for outcome, _ in judge(target, *rows)] == [NOT_MEASURED, MET]


def rows_of(target: Target, holds: bool) -> list[Row]:
    """Rows that decide a target, on a machine that can show it."""
    good, bad = {"≥": (1e6, -1.0), "≤": (-1.0, 1e6), "n": (1.0, 0.5), "i": (0.0, 1.0)}[target.rule.words[0]]
    value, machine = good if holds else bad, f"{WITH_BF16} H200"
    named = [(case, contender) for case in target.cases for contender in target.contenders]
    return [Row(*name, target.quantity, value, value, value, machine=machine) for name in named]


@pytest.mark.parametrize("target", targets.TARGETS, ids=lambda target: target.says)
def test_every_target_can_be_met_and_missed(target):
    assert [outcome for outcome, _ in judge(target, *rows_of(target, True))] == [MET]
    assert [outcome for outcome, _ in judge(target, *rows_of(target, False))] == [MISSED]


def test_the_exit_status_says_whether_one_is_missed(capsys):
    assert targets.main(lambda _: []) == 0
    assert f"0 {MET}, 0 {MISSED}, {len(targets.TARGETS)} {NOT_MEASURED}" in capsys.readouterr().out
    last = targets.TARGETS[-1]
    assert targets.main(lambda name: rows_of(last, True) if name == last.benchmark else []) == 0
    assert targets.main(lambda name: rows_of(last, False) if name == last.benchmark else []) == 1
    shown = capsys.readouterr().out
    assert f"{MISSED.upper()}: {last.item}: {last.says}" in shown
    assert f"asked: {last.rule.words}" in shown


def test_what_is_committed_can_be_judged():
    for verdict in targets.verdicts():
        assert verdict.outcome in (MET, MISSED, NOT_MEASURED)
        assert verdict.why if verdict.outcome == NOT_MEASURED else verdict.rows
    assert records.has_bf16(WITH_BF16)
    assert not records.has_bf16(PLAIN)
