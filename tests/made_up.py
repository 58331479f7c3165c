"""Made-up tidy tables for the tests of claims and figures, and what verdicts, measures and figures say."""

import math
import re
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

from vaekit.claims import NEEDS_DATA, NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED, Verdict, findings

matplotlib.use("Agg")


def members(axes: list[str], points, **fields: Any) -> pd.DataFrame:
    """A row a member, one at each of the `points` along the axes, as the tidy table describes it."""
    rows = pd.DataFrame(points, columns=axes)
    usual = {"n_test": None, "precision": "full", "status": "finished", "code_version": 1}
    for name, value in (usual | fields).items():
        rows[name] = [value] * len(rows) if isinstance(value, tuple) else value
    return rows.assign(key=["|".join(map(str, row)) for row in rows.drop(columns="status").itertuples(index=False)])


def measured(rows: pd.DataFrame, measure: str, part: str, value, shares=(0.8, 1.0), **arguments) -> pd.DataFrame:
    """`value(rows, share)` of each member at each share of its steps, as rows of the tidy table."""
    text = ",".join(f"{name}={value}" for name, value in arguments.items())
    frames = [
        rows.assign(step=(share * rows["steps"]).round().astype(int), value=value(rows, share)) for share in shares
    ]
    extra = {"part": part, "measure": measure, "arguments": text, "se": 0.0, "n": 1000, "version": 1}
    return pd.concat(frames, ignore_index=True).assign(**extra, **arguments)


def at_steps(frame: pd.DataFrame, steps: int) -> pd.DataFrame:
    """The same values after so many steps in all, and at the same shares of them."""
    return frame.assign(step=(frame["step"] / frame["steps"] * steps).round().astype(int), steps=steps)


def without_early(frame: pd.DataFrame) -> pd.DataFrame:
    """What was not measured at 0.8 of the steps."""
    return frame[frame["step"] != (0.8 * frame["steps"]).round()]


def later(early, late):
    """`early` at 0.8 of the steps, `late` at their end."""
    return lambda rows, share: (early if share < 1 else late)(rows, share)


def outcome(judged) -> tuple[str, str]:
    """The outcome of a verdict, or of a criterion, and its reasons; what is said of a verdict holds for its outcome."""
    if isinstance(judged, Verdict) and judged.claim.study:
        check_words(judged)
    return judged.outcome, "; ".join(map(str, judged.reasons))


def check_words(verdict: Verdict) -> None:
    """What a page says of a verdict: the finding of one that is decided, and the sentence that its outcome has."""
    words = [findings.headline(verdict), findings.answer(verdict), findings.sureness(verdict)]
    assert all(words), verdict.number
    assert not re.search(r"[{}]|\bnan\b|\binf\b|None", " ".join(words)), words
    if verdict.outcome in (REPRODUCED, NOT_REPRODUCED):
        assert re.search(r"\d", findings.finding(verdict)), verdict.number
        assert verdict.claim.by_construction or findings.is_near(verdict)
    begins = {REPRODUCED: "The claim holds", NOT_REPRODUCED: "The claim does not", UNDECIDED: "It cannot be told yet"}
    begins |= {NEEDS_DATA: "It needs", NOT_RUN: "Not run yet"}
    assert words[1].startswith(begins[verdict.outcome] if verdict.counted else "It is true by construction")


def told(verdict) -> tuple:
    """All that a verdict says, and its values to the last digit."""
    return verdict.row(), [criterion.statistic.sample.tolist() for criterion in verdict.criteria]


def keyed(values, finite=True) -> dict:
    """What a measure yields, by part, measure and arguments, which name each value once."""
    values = list(values)
    by_name = {(value.part, value.measure, value.arguments): value for value in values}
    assert len(by_name) == len(values)
    assert not finite or all(math.isfinite(value.value) and value.se >= 0 for value in values)
    return by_name


def drawn(figure):
    """Draw a figure whole, as saving it does."""
    figure.draw_without_rendering()
    return figure


# What may become of a table's values: their range, no number among them, few of them.
RANGES = {
    "a millionth": lambda rows: rows.assign(value=1e-6 * rows["value"]),
    "a million": lambda rows: rows.assign(value=1e6 * rows["value"]),
    "twelve decades": lambda rows: rows.assign(value=rows["value"] * 10.0 ** (np.arange(len(rows)) % 7 * 2 - 6)),
    "some NaN": lambda rows: rows.assign(value=rows["value"].where(np.arange(len(rows)) % 3 > 0)),
    "some infinite": lambda rows: rows.assign(value=rows["value"].where(np.arange(len(rows)) % 3 > 0, math.inf)),
    "no number": lambda rows: rows.assign(value=math.nan),
    "one row": lambda rows: rows.iloc[:1],
    "no rows": lambda rows: rows.iloc[:0],
}


def assert_drawn_whatever_the_range(make, table) -> None:
    """`make(table)` is drawn with values of any range, with at most thrice the lines, words and ticks."""
    usual = len(drawn(make(table)).findobj())
    shown = {name: len(drawn(make(change(table))).findobj()) for name, change in RANGES.items()}
    assert all(0 < parts <= 3 * usual for parts in shown.values()), (usual, shown)


def errorbars(ax) -> dict[str, list]:
    """Points of the error bars by label: {label: [x, y]}."""
    return {
        bars.get_label(): [list(np.round(np.asarray(values, float), 9)) for values in bars.lines[0].get_data()]
        for bars in ax.containers
    }


def swept_values(spec, take, model, member, step, images) -> list:
    """What a sweep measures of a model after `step` steps by the measure that `take` is of; nothing at other steps."""
    assert take in [measure.take for measure in spec.measures]
    return [
        value for m in spec.measures_at(step, member) if m.take is take for value in take(model, member, step, images)
    ]
