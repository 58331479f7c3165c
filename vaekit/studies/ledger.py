"""The ledger: the verdicts on all claims of all studies, from `results/` alone."""

import importlib
from collections import Counter
from collections.abc import Iterable

import pandas as pd

from vaekit import claims, studies
from vaekit.claims import Verdict
from vaekit.store import results, table

OUTCOMES = (claims.REPRODUCED, claims.NOT_REPRODUCED, claims.UNDECIDED, claims.NEEDS_DATA, claims.NOT_RUN)


def verdicts() -> list[Verdict]:
    """The verdict on every claim of every study, in order.

    Raises:
        StoreError: a table is damaged.
    """
    return [
        verdict
        for name in studies.NAMES
        for verdict in claims.verdicts(
            importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS,
            table.frame(results.read(results.folder(name))),
        )
    ]


def tally(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """How many claims have each outcome; what is true by construction has a row of its own (rule 7 of `claims`)."""
    counts = Counter(verdict.outcome if verdict.counted else claims.CONSTRUCTED for verdict in verdicts)
    return pd.DataFrame(
        [{"outcome": outcome, "claims": counts[outcome]} for outcome in (*OUTCOMES, claims.CONSTRUCTED)]
    )


def by_study(verdicts: Iterable[Verdict]) -> pd.DataFrame:
    """How many claims each study has, and in the last row how many there are."""
    counts = Counter(verdict.claim.study for verdict in verdicts)
    rows = [{"study": name.replace("_", " "), "claims": counts[name]} for name in studies.NAMES]
    return pd.DataFrame([*rows, {"study": "all", "claims": counts.total()}])
