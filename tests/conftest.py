"""Fixtures of the tests that train or store."""

import pytest
import torch

from vaekit.studies import rate_generalisation


@pytest.fixture
def one_thread():
    """Small operations on one thread: on a busy machine, threads wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def place(tmp_path, monkeypatch, one_thread):
    """A folder with a store, results and data of its own; members train one after the other.

    Study 3's bound of log p(x), which takes longer than a tiny member's training, is of few images and samples.
    """
    monkeypatch.setattr(rate_generalisation, "BOUND", (4, 50))
    for name in ("runs", "results", "data"):
        monkeypatch.setenv(f"VAEKIT_{name.upper()}", str(tmp_path / name))
    return tmp_path
