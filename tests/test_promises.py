"""Every promise of the book names tests, and each of them is there and, where it says so, slow."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (TESTS.parent / "book" / "promises.md").read_text().splitlines()
    if line.startswith("| ") and not line.endswith("| kept by |")
]


def slow_by_name(name: str) -> dict[str, bool]:
    """The tests that pytest collects from a file, each with whether it is marked slow as a whole."""
    tree = ast.parse((TESTS / name).read_text())
    functions = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"))
    return {f.name: any(ast.unparse(mark) == "pytest.mark.slow" for mark in f.decorator_list) for f in functions}


@pytest.mark.parametrize(("promise", "how", "keepers"), ROWS, ids=[row[0] for row in ROWS])
def test_a_promise_is_kept_by_tests_that_are_there(promise, how, keepers):
    assert promise
    assert how
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`( \(slow\))?", keepers)
    assert named
    assert keepers == ", ".join(f"`{file}::{test}`{slow}" for file, test, slow in named)
    for file, test, slow in named:
        assert slow_by_name(file).get(test) is bool(slow), f"{file}::{test}"


def test_each_kind_of_fault_has_its_row():
    assert len(ROWS) >= 25
