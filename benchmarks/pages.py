"""The committed tables as a page of the book shows them: text tables and a figure of ratios."""

import html
import math
from collections import Counter
from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from benchmarks import records, targets
from benchmarks.records import Row
from vaekit.figures import BLUE, GREEN, GREY, ORANGE, PURPLE, nothing, panels
from vaekit.pages import styled
from vaekit.widgets import Page

_COLOURS = (BLUE, ORANGE, GREEN, PURPLE, GREY)


def judged() -> pd.DataFrame:
    """Each target, what decides it, and the outcome, machine by machine."""
    rows = []
    for verdict in targets.verdicts():
        shown, reason = verdict.decisive, f" ({verdict.why})" if verdict.why else ""
        rows.append(
            {
                "target": verdict.target.says,
                "asked": verdict.target.rule.words,
                "measured": targets.said(shown) if shown else "",
                "outcome": verdict.outcome + reason,
                "machine": verdict.machine,
            }
        )
    return pd.DataFrame(rows)


def in_words() -> Page:
    """How many targets are met, missed and wait for another machine, and a line for each that is missed.

    A target that was measured on two machines counts twice.
    """
    verdicts = targets.verdicts()
    counts = Counter(verdict.outcome for verdict in verdicts)
    tally = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (targets.MET, targets.MISSED, targets.NOT_MEASURED))
    missed = [
        f"<li>{html.escape(each.target.says)}: asked {html.escape(each.target.rule.words)}, "
        f"measured {html.escape(targets.said(each.decisive))}, on {html.escape(each.machine)}</li>"
        for each in verdicts
        if each.outcome == targets.MISSED and each.decisive
    ]
    listed = f" Missed:</p><ul>{''.join(missed)}</ul>" if missed else "</p>"
    return styled(f"<p>Of {len(verdicts)} targets, each on its machine: {tally}.{listed}")


def ratios(benchmark: str) -> Figure:
    """How many times as long another takes, with its interval: a line a case, a colour a contender, a log axis.

    A panel for each machine; the line at 1 is where both are as fast.
    """
    rows = [row for row in records.read(benchmark) if row.quantity == "ratio" and not math.isnan(row.value)]
    rows = [row for row in rows if " / vaekit" in row.contender]
    if not rows:
        return nothing("Nobody has measured this yet, or its table is not committed.")
    by_machine = {
        machine: [row for row in rows if row.machine == machine] for machine in sorted({r.machine for r in rows})
    }
    lines = max(len({row.case for row in group}) for group in by_machine.values())
    figure, axes = panels(len(by_machine), 1, width=7, height=1.4 + 0.24 * lines)
    for ax, (machine, group) in zip(axes[:, 0], by_machine.items(), strict=True):
        _ratios(ax, group)
        ax.set_title(machine, loc="left", fontsize=8)
    return figure


def _ratios(ax, rows: Sequence[Row]) -> None:
    cases = list(dict.fromkeys(row.case for row in rows))
    contenders = list(dict.fromkeys(row.contender for row in rows))
    for number, contender in enumerate(contenders):
        own = [row for row in rows if row.contender == contender]
        y = [cases.index(row.case) + 0.12 * (number - (len(contenders) - 1) / 2) for row in own]
        low = [0.0 if math.isnan(row.low) else max(row.value - row.low, 0.0) for row in own]
        high = [0.0 if math.isnan(row.high) else max(row.high - row.value, 0.0) for row in own]
        how = {"fmt": "osv^D"[number % 5], "color": _COLOURS[number % len(_COLOURS)], "capsize": 2, "ms": 4, "lw": 1}
        ax.errorbar([row.value for row in own], y, xerr=[low, high], label=contender, **how)
    ax.axvline(1, color=GREY, lw=0.8, ls="--", zorder=0)
    ax.set(xscale="log", xlabel="times as long as vaekit takes", yticks=range(len(cases)))
    ax.set_yticklabels(cases, fontsize=8)
    ax.invert_yaxis()
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter("{x:g}")
    ax.tick_params(axis="x", which="both", labelsize=7)
    ax.legend(loc="lower center", bbox_to_anchor=(0.3, 1.06 if len(cases) < 12 else 1.02), ncols=3, fontsize=8)
