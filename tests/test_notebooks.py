"""The notebooks as a runner meets them: papermill, an empty store, no data set, another working directory."""

import json
import re
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import nbformat
import papermill.cli
import pytest
from click.testing import CliRunner

from vaekit import parameters, studies
from vaekit.settings import PlainError
from vaekit.store import Store
from vaekit.studies import rate_generalisation

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def empty_store(tmp_path, monkeypatch) -> Store:
    for name in ("runs", "data"):
        monkeypatch.setenv(f"VAEKIT_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return Store(tmp_path / "runs")


def run(name: str, to: Path, **parameters):
    path = str(ROOT / "notebooks" / f"{name}.ipynb")
    return papermill.execute_notebook(path, str(to / "out.ipynb"), parameters, progress_bar=False)


def text(notebook) -> str:
    return json.dumps([cell.get("outputs", []) for cell in notebook.cells])


def pictures(notebook) -> int:
    outputs = [output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", [])]
    return sum(("image/png" in data) + "".join(data.get("text/html", "")).count("<figure") for data in outputs)


@pytest.mark.parametrize("name", [path.stem for path in NOTEBOOKS if path.stem in studies.NAMES])
def test_help_explains_every_parameter_of_a_study(name, caplog):
    arguments = ["--help-notebook", str(ROOT / f"notebooks/{name}.ipynb")]
    shown = CliRunner().invoke(papermill.cli.papermill, arguments)
    assert "Unable to parse" not in shown.output + caplog.text
    parameters = {name for name, option in studies.study(name).Settings.options().items() if option.parameter}
    entries = re.sub(r"\n {8,}", " ", shown.output)  # long names have their help on a line of its own
    explained = dict(re.findall(r"^  (\w+): .*\(default .*?\)(.*)$", entries, re.MULTILINE))
    assert set(explained) == parameters
    assert all(meaning.strip() for meaning in explained.values()), explained


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_are_short_and_define_nothing_but_a_model(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert len(cell.source.splitlines()) <= 15
            defined = [line for line in cell.source.splitlines() if line.startswith(("def ", "class ", "async "))]
            assert all(line.endswith("(nn.Module):") for line in defined)


@pytest.mark.slow
def test_new_weights_alone_are_trained_and_drawn_beside_the_stored_ones(empty_store, tmp_path, capsys):
    done = run("rate_generalisation", tmp_path, betas="[0.25]", depths=1, seeds="7", steps=1000)
    [key] = empty_store.keys()
    record = empty_store.record(key)
    assert (record["member"]["weights.beta"], record["member"]["seed"]) == (0.25, 7)
    assert record["member"]["steps"] == 1000
    assert record["status"] == "finished"
    assert pictures(done) >= 4
    assert "application/vnd.jupyter.widget-view+json" in text(done)  # the explorer: a picture only in the book
    # results/ holds members of this budget: the summary of the table counts them beside the new one.
    assert "training 1 of 1 members" in text(done)
    begun = empty_store.path(key).stat().st_mtime_ns
    # What the page's first cell does, when it is run again with the same members written otherwise.
    given = {"scale": "quick", "betas": [0.25], "depths": [1], "seeds": 7, "steps": 1000}
    settings = parameters.read(rate_generalisation.Settings, given)
    capsys.readouterr()
    asked = rate_generalisation.run(settings).query("asked")
    assert set(asked["key"]) == {key}
    assert "training 1 of" not in "".join(capsys.readouterr())
    assert empty_store.path(key).stat().st_mtime_ns == begun


def two_at_a_time(to: Path, wanted: Mapping[str, dict]) -> dict[str, Future]:
    """Run notebooks side by side, from one empty store, without results and without data."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("runs", "results", "data"):
            patch.setenv(f"VAEKIT_{name.upper()}", str(to / name))
        patch.chdir(to)
        with ProcessPoolExecutor(2, get_context("spawn")) as pool:
            return {name: pool.submit(outcome, name, to, given) for name, given in wanted.items()}


def outcome(name: str, to: Path, given: dict) -> str:
    """A notebook with its outputs, as text: so it comes from one process to another."""
    (to / name).mkdir()
    try:
        return nbformat.writes(run(name, to / name, **given))
    except papermill.PapermillExecutionError as error:
        raise AssertionError(str(error)) from None  # papermill's own cannot be unpickled


def test_what_is_not_published_is_an_error_that_says_how_to_train_it(empty_store):
    settings = parameters.read(rate_generalisation.Settings, {"scale": "published", "betas": "[0.123]"})
    with pytest.raises(PlainError, match="python -m vaekit train rate_generalisation"):
        rate_generalisation.run(settings)


@pytest.mark.slow
def test_an_empty_store_and_empty_results_give_just_what_was_asked_for(empty_store, tmp_path, monkeypatch):
    monkeypatch.setenv("VAEKIT_RESULTS", str(tmp_path / "results"))
    done = run("rate_generalisation", tmp_path, betas="[0.2]", n_train=512, depths=1, steps=50)
    [key] = empty_store.keys()
    member = empty_store.record(key)["member"]
    assert (member["weights.beta"], member["n_train"], member["split"]) == (0.2, 512, "cv")
    assert pictures(done) >= 4


@pytest.mark.slow
def test_the_objective_of_claim_3_16_has_a_page_too(empty_store, tmp_path):
    small = {"n_train": 512, "depths": 1, "steps": 50}
    done = run("rate_generalisation", tmp_path, objective="mi_kl", mi=1, kl=[0, 1], seeds=7, **small)
    assert len(list(empty_store.keys())) == 2
    assert pictures(done) >= 4
    assert "nothing to move through" in text(done)


# What a minute is enough for, of a seed that results/ lacks: trained without any data set and without the network.
SMALL = {
    "id_transition": {"latent_dims": [2], "epochs": [0, 1], "n_train": 256},
    "hierarchical_rates": {"betas2": [1], "betas1": [0.1, 1], "models": "ghvae", "steps": 20},
    "pruning": {"betas": [1], "epochs": 1, "tuning_epochs": 1, "n_train": 256, "readings": "sum"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The pages of these, and the store that they began with nothing in it."""
    to = tmp_path_factory.mktemp("trained")
    return two_at_a_time(to, {name: {"seeds": [7], **given} for name, given in SMALL.items()}), Store(to / "runs")


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_study_trains_from_an_empty_store_and_draws(trained, name):
    pages, store = trained
    done = nbformat.reads(pages[name].result(), as_version=4)
    records = [record for record in map(store.record, store.keys()) if record["study"] == name]
    assert records
    assert all(record["member"]["seed"] == 7 for record in records)
    assert pictures(done) >= 4
    assert "application/vnd.jupyter.widget-view+json" in text(done)
    assert "needs data" in text(done) or "not run" in text(done)


@pytest.mark.slow
def test_all_that_is_wrong_comes_as_one_error_before_any_work(empty_store, tmp_path):
    wrong = {"betas": "[-1, nan]", "seed": 3, "split": "checkerbord", "data": "tetromino"}
    wrong |= {"n_train": [], "device": "cuda:99"}
    with pytest.raises(papermill.PapermillExecutionError) as raised:
        run("rate_generalisation", tmp_path, **wrong)
    meant = [f"did you mean {name}?" for name in ("seeds", "checkerboard", "tetrominoes")]
    for hint in (*meant, "-1", "nan", "empty", "cuda:99"):
        assert hint in raised.value.evalue, hint
    # And no frame of the package:
    assert raised.value.traceback == [f"SettingsError: {raised.value.evalue}"]
    assert not empty_store.root.exists()
