"""The notebooks as a runner meets them: papermill, an empty store, no data set, another working directory."""

import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import papermill
import pytest

from vaekit import runs, studies

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def empty_store(tmp_path, monkeypatch) -> runs.Store:
    for name in ("runs", "data"):
        monkeypatch.setenv(f"VAEKIT_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return runs.Store(tmp_path / "runs")


def run(name: str, to: Path, **parameters):
    path = str(ROOT / "notebooks" / f"{name}.ipynb")
    return papermill.execute_notebook(path, str(to / "out.ipynb"), parameters, progress_bar=False)


def text(notebook) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


def pictures(notebook) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.mark.parametrize("name", studies.NAMES)
def test_help_explains_every_parameter_of_a_study(tmp_path, name):
    command = [sys.executable, "-m", "papermill", "--help-notebook", str(ROOT / f"notebooks/{name}.ipynb")]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert "Unable to parse" not in shown.stdout + shown.stderr
    parameters = {name for name, option in studies.study(name).Settings.options().items() if option.parameter}
    entries = re.sub(r"\n {8,}", " ", shown.stdout)  # long names have their help on a line of its own
    explained = dict(re.findall(r"^  (\w+): .*\(default .*?\)(.*)$", entries, re.MULTILINE))
    assert set(explained) == parameters
    assert all(meaning.strip() for meaning in explained.values()), explained


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_define_nothing(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15
            if path.stem != "first_fleet":
                assert not [line for line in cell.source.splitlines() if line.startswith(("def ", "class ", "async "))]


@pytest.mark.slow
def test_new_weights_alone_are_trained_and_drawn_beside_the_stored_ones(empty_store, tmp_path):
    done = run("rate_generalisation", tmp_path, betas="[0.25]", depths=1, seeds="7", steps=1000)
    [key] = empty_store.keys()
    record = empty_store.record(key)
    assert (record["member"]["weights.beta"], record["member"]["seed"]) == (0.25, 7)
    assert record["member"]["steps"] == 1000
    assert record["status"] == "finished"
    assert pictures(done) == 12
    assert "application/vnd.jupyter.widget-view+json" in text(done)  # the explorer: a picture only in the book
    # results/ holds members of this budget: the summary of the table counts them beside the new one.
    assert "training 1 of 1 members" in text(done)
    begun = (empty_store.root / "runs" / key[:2] / key / "run.json").stat().st_mtime_ns
    again = run("rate_generalisation", tmp_path, betas=[0.25], depths=[1], seeds=7, steps=1000)
    assert "training 1 of" not in text(again)
    assert (empty_store.root / "runs" / key[:2] / key / "run.json").stat().st_mtime_ns == begun


@pytest.mark.slow
def test_published_trains_nothing(empty_store, tmp_path):
    done = run("rate_generalisation", tmp_path, scale="published")
    assert not list(empty_store.keys())
    assert pictures(done) == 12
    with pytest.raises(papermill.PapermillExecutionError, match="python -m vaekit train rate_generalisation"):
        run("rate_generalisation", tmp_path, scale="published", betas="[0.123]")


@pytest.mark.slow
def test_an_empty_store_and_empty_results_give_just_what_was_asked_for(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_RESULTS", str(tmp_path / "results"))
    done = run("rate_generalisation", tmp_path, betas="[0.2]", n_train=16384, depths=1, steps=50)
    [key] = empty_store.keys()
    member = empty_store.record(key)["member"]
    assert (member["weights.beta"], member["n_train"], member["split"]) == (0.2, 16_384, "cv")
    assert pictures(done) == 12


@pytest.mark.slow
def test_the_objective_of_claim_3_16_has_a_page_too(empty_store, tmp_path):
    done = run("rate_generalisation", tmp_path, objective="mi_kl", mi=1, kl=[0, 1], depths=3, steps=50, seeds=7)
    assert len(list(empty_store.keys())) == 2
    assert pictures(done) == 12
    assert "nothing to move through" in text(done)


# What a minute is enough for, of a seed that results/ lacks: trained without any data set and without the network.
SMALL = {
    "id_transition": {"latent_dims": [2], "epochs": [0, 1], "n_train": 256},
    "hierarchical_rates": {"betas2": [1], "betas1": [0.1, 1], "models": "ghvae", "steps": 20},
    "pruning": {"betas": [1], "epochs": 1, "tuning_epochs": 1, "n_train": 256, "readings": "sum"},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_study_trains_from_an_empty_store_and_draws(empty_store, tmp_path, name):
    done = run(name, tmp_path, seeds=[7], **SMALL[name])
    assert len(list(empty_store.keys())) >= 1
    assert all(empty_store.record(key)["member"]["seed"] == 7 for key in empty_store.keys())
    assert pictures(done) >= 4
    assert "application/vnd.jupyter.widget-view+json" in text(done)
    assert "needs data" in text(done) or "not run" in text(done)


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_each_study_is_published_without_training(empty_store, tmp_path, name):
    done = run(name, tmp_path, scale="published")
    assert not list(empty_store.keys())
    assert pictures(done) >= 4
    assert "widget-view" not in text(done)


@pytest.mark.slow
def test_all_that_is_wrong_comes_as_one_error_before_any_work(empty_store, tmp_path):
    wrong = {
        "betas": "[-1, nan]",
        "seed": 3,
        "split": "checkerbord",
        "data": "tetromino",
        "n_train": [],
        "device": "cuda:99",
    }
    with pytest.raises(papermill.PapermillExecutionError) as raised:
        run("rate_generalisation", tmp_path, **wrong)
    for hint in (
        "did you mean seeds?",
        "did you mean checkerboard?",
        "did you mean tetrominoes?",
        "-1",
        "nan",
        "empty",
        "cuda:99",
    ):
        assert hint in raised.value.evalue, hint
    assert not empty_store.root.exists()


@pytest.mark.slow
def test_first_fleet_trains_and_draws(empty_store, tmp_path):
    done = run("first_fleet", tmp_path)
    assert pictures(done) == 2
    assert text(done).count("finished") == 6
    assert not empty_store.root.exists()
