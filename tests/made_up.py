"""Made-up tidy tables for the tests of claims, and what a verdict on one says."""

from typing import Any

import pandas as pd


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


def outcome(found) -> tuple[str, str]:
    """The outcome of a verdict, or of a part, and its reasons."""
    return found.outcome, "; ".join(map(str, found.reasons))


def told(found) -> tuple:
    """All that a verdict says, and its values to the last digit."""
    return found.row(), [part.statistic.sample.tolist() for part in found.parts]
