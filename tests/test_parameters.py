"""The notebook edge: what papermill injects and what a reader types, with real kernels where it matters."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import papermill.cli
import pytest
from click.testing import CliRunner

from vaekit import parameters
from vaekit.settings import SettingsError

STUDY = """
from dataclasses import dataclass

from vaekit import settings
from vaekit.settings import option


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    betas: tuple[float, ...] = option("weights of the rate", at_least=0)
    seeds: tuple[int, ...] = option("seed numbers", at_least=0)
    n_train: int = option("images in the training set", at_least=2)
    hidden: int = option("units of a hidden layer", at_least=1, parameter=False)
    SCALES = {"quick": {"betas": (0.1, 1), "seeds": 0, "n_train": 64, "hidden": 8}}
    SCALES["paper"] = SCALES["quick"] | {"n_train": 16_384}
"""
DEFAULTS = """
scale: str = "quick"    # quick | paper
betas: list = None      # weights of the rate, e.g. [0.1, 1]; None: the scale's own
seeds: list = None      # seed numbers
n_train: int = None     # images in the training set
"""
READ = "settings = parameters.read(study.Settings, globals())"
NOTEBOOK = f"""# %%
import study
from vaekit import parameters

# %% tags=["parameters"]
{DEFAULTS}
# %%
{READ}

# %%
data, beta = settings.given, settings.betas  # a story's own names, which are no parameters when it is run again
print("work", settings.scale, settings.betas, settings.seeds, settings.n_train)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a small study and its notebook, where kernels find both the study and the package."""
    (tmp_path / "study.py").write_text(STUDY)
    notebook = jupytext.reads(NOTEBOOK, fmt="py:percent")
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, tmp_path / "study.ipynb")
    path = [str(tmp_path), str(Path(parameters.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def work(notebook) -> list[str]:
    """What the cell after the check printed: nothing where the error came before any work."""
    cells = nbformat.read(notebook, as_version=4).cells
    return [output.text for output in cells[-1].outputs if output.output_type == "stream"]


@pytest.mark.slow
def test_papermill_with_good_input_that_looks_odd(place):
    given = {"betas": "[1, 1e-3, 1.0]", "seeds": 3, "n_train": "1e2"}
    papermill.execute_notebook(place / "study.ipynb", place / "out.ipynb", given, progress_bar=False, cwd=place)
    assert work(place / "out.ipynb") == ["work quick (1.0, 0.001) (3,) 100\n"]


@pytest.mark.slow
def test_papermills_exit_status_tells_of_a_misspelt_name(place):
    done = CliRunner().invoke(papermill.cli.papermill, ["study.ipynb", "out.ipynb", "-p", "beta", "0.5"])
    assert done.exit_code != 0
    assert "SettingsError: beta: no such parameter (did you mean betas?)" in str(done.exception)
    assert work(place / "out.ipynb") == []


SESSIONS = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell

def session(cells):
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    shell._showtraceback = lambda *shown: None
    for cell in cells:
        done = shell.run_cell(cell, store_history=True)
        error = done.error_before_exec or done.error_in_exec
        settings = shell.user_ns.get("settings")
        yield str(error) if error else settings and f"{settings.betas} {settings.seeds}"

print(json.dumps([list(session(cells)) for cells in json.loads(sys.argv[1])]))
"""


def sessions(*notebooks: list[str]) -> list[list[str | None]]:
    """The cells of each run one after another in its own IPython: after each, the error or what `settings` holds."""
    command = [sys.executable, "-c", SESSIONS, json.dumps(notebooks)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_cells_run_again_in_one_session(place):
    """JupyterLab: a notebook that papermill has run, opened and run twice, corrected, and its defaults taken again."""
    imports, story = "import study; from vaekit import parameters", "data = beta = 1; steps = []"
    injected, misspelt = "# Parameters\nbetas = [0.5]\n", "# Parameters\nbetas = [0.5]\nseed = 3\n"
    whole = [imports, DEFAULTS, injected, READ, story]
    twice, corrected, stale, typed = sessions(
        [*whole, *whole],
        [imports, DEFAULTS, misspelt, READ, injected, READ],
        [imports, DEFAULTS, misspelt, READ, DEFAULTS, READ, "betas = [2]", READ],
        [imports, DEFAULTS + "betsa = [3]\n", READ, "this is no Python", "%config", READ],
    )
    assert twice[3:] == ["(0.5,) (0,)"] * 7
    assert corrected[3:] == ["seed: no such parameter (did you mean seeds?)", None, "(0.5,) (0,)"]
    assert stale[3] == corrected[3]
    assert stale[5:] == ["(0.1, 1.0) (0,)", "(0.1, 1.0) (0,)", "(2.0,) (0,)"]
    assert [typed[2], typed[5]] == ["betsa: no such parameter (did you mean betas?)"] * 2


@pytest.fixture
def cls(place):
    names = {}
    exec(STUDY, names)
    return names["Settings"]


def test_outside_ipython_the_values_are_checked(cls):
    given = {"scale": "paper", "betas": "[1, 1e-3]", "seeds": None, "other": 1, "hidden": 3}
    read = parameters.read(cls, given)
    assert (read.scale, read.betas, read.seeds, read.n_train, read.hidden) == ("paper", (1.0, 1e-3), (0,), 16_384, 8)
    assert read.given == {"betas"}
    with pytest.raises(SettingsError, match=r"got None; wanted quick or paper"):
        parameters.read(cls, {"betas": [1]})


def test_names_are_those_that_the_parameters_cells_assign(cls):
    def read(*cells, **values):
        return parameters.read(cls, {"In": ["", *cells, READ], "scale": "quick"} | values)

    attributes = "# Parameters\nimport os\nx.betas = betas[0] = 1\nfor n in []:\n    m = 1\n"
    assert read(attributes).betas == (0.1, 1.0)  # no names of the notebook's are assigned here
    assert read("beta = 1", "scales = 2").betas == (0.1, 1.0)  # not a parameters cell
    with pytest.raises(SettingsError, match=r"^2 problems:\n- beta: .*\n- seed: "):
        read("# Parameters\nbeta = seed = None")
    with pytest.raises(SettingsError, match=r"^beta: no such parameter \(did you mean betas\?\)$"):
        read("# Parameters\nbeta: float = 1", "a syntax error")
