"""One package a study: its settings, members and measures, and beside them its figures and claims."""

import importlib
from types import ModuleType

PAPERS = ("id_transition", "hierarchical_rates", "rate_generalisation", "pruning")
NAMES = (*PAPERS, "across")  # the last is ours: no paper's claims are put to it


def study(name: str) -> ModuleType:
    """A study's package by its name: with `Settings`, `members`, `run` and `SPEC`."""
    return importlib.import_module(f"{__name__}.{name}")
