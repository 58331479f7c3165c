"""From members to a table: which of them are known; the missing ones are trained as fleets, measured, committed.

A study hands over its members and its measures. What is known (in the store, or in `results/`) is taken as it is; the
rest is grouped into fleets, and each fleet is measured and committed before the next begins. While a fleet trains, its
state is saved now and then. So a sweep can be stopped anywhere and goes on from there, and a new beta trains itself
alone.
"""

from vaekit.sweep.plan import Plan, check_images, check_readable, plan_sweep, report, shard, tables
from vaekit.sweep.study import (
    Examples,
    GridSpec,
    Measure,
    StudySpec,
    Value,
    cached,
    compared_steps,
    examples,
    examples_of,
    fifths,
    last_step,
    log_spaced,
)
from vaekit.sweep.train import run

__all__ = [
    "Examples",
    "GridSpec",
    "Measure",
    "Plan",
    "StudySpec",
    "Value",
    "cached",
    "check_images",
    "check_readable",
    "compared_steps",
    "examples",
    "examples_of",
    "fifths",
    "last_step",
    "log_spaced",
    "plan_sweep",
    "report",
    "run",
    "shard",
    "tables",
]
