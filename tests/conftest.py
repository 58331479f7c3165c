"""Fixtures of the tests that train or store, and of those that open pages."""

import ctypes
import importlib
import os
from pathlib import Path

import browser as chromium
import pytest
import torch
from forks import Forks

from vaekit.store import Store
from vaekit.studies import rate_generalisation

ROOT = Path(__file__).resolve().parents[1]
# The files whose tests take longest are begun first, so that of two workers none ends long after the other.
LONGEST = ("test_book.py", "test_faults.py", "test_notebooks.py", "test_fleet.py", "test_hostile.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(autouse=True)
def one_thread():
    """Small operations on one thread: on a busy machine, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a store, results and data of its own; members train one after the other.

    Study 3's bound of log p(x), which takes longer than a tiny member's training, is of few images and samples.
    """
    monkeypatch.setattr(rate_generalisation, "BOUND", (4, 50))
    for name in ("runs", "results", "data"):
        monkeypatch.setenv(f"VAEKIT_{name.upper()}", str(tmp_path / name))
    return tmp_path


@pytest.fixture
def store(place):
    return Store(place / "runs")


@pytest.fixture
def permissions():
    """Permissions hold for this test, even if root runs it; skips where they cannot be made to."""
    if os.geteuid():
        yield
        return
    libc, header, words = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522, 0), ctypes.c_uint32 * 6
    own = words()
    if not hasattr(libc, "capset") or libc.capget(header, own):
        pytest.skip("nothing is forbidden to root here")
    # Without CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH among its effective capabilities root is like any other user.
    if libc.capset(header, words(own[0] & ~0b110, *own[1:])):
        pytest.skip("root cannot give up its rights here")
    yield
    libc.capset(header, own)


@pytest.fixture
def build(monkeypatch):
    """The module that builds the book; what lies beside it can be imported too."""
    monkeypatch.syspath_prepend(ROOT / "book")
    return importlib.import_module("build")


@pytest.fixture
def house_style():
    """What a figure sets of matplotlib's goes again, and no figure stays open, which a notebook would show twice."""
    import matplotlib.pyplot as plt  # here, where no test of the store needs it

    with plt.rc_context():
        yield
    assert not plt.get_fignums()


@pytest.fixture(scope="module")
def forks():
    """Processes of their own, made at once."""
    made = Forks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def tab():
    """A tab of a headless Chromium. Where it is missing: a failure in CI, else a skip that says so."""
    program = chromium.find()
    if program is None:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop("Chromium is not installed (Debian: apt-get install chromium), so no page was opened")
    opened = chromium.Browser(program)
    yield opened
    opened.close()
