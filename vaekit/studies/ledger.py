"""The ledger: the verdicts on all claims of all papers, from `results/` alone."""

import importlib

from vaekit import claims
from vaekit.claims import Verdict
from vaekit.store import results, table
from vaekit.studies import PAPERS


def verdicts() -> list[Verdict]:
    """The verdict on every claim of every study, in order.

    Raises:
        StoreError: a table is damaged.
    """
    return [
        verdict
        for name in PAPERS
        for verdict in claims.verdicts(
            importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS,
            table.frame(results.read(results.folder(name))),
        )
    ]


def titles() -> dict[str, str]:
    """The studies' names in words, by their names in code."""
    return {name: importlib.import_module(f"vaekit.studies.{name}.claims").CLAIMS.title for name in PAPERS}
