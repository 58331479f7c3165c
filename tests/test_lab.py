"""A real JupyterLab, driven by headless Chromium: what a reader presses there, and what comes of it."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import browser as chromium
import papermill
import pytest
from conftest import ROOT
from tiny import notebook

pytestmark = pytest.mark.slow
TOKEN = "of-a-test"
FLAGS = [
    "--no-browser",
    "--allow-root",
    f"--IdentityProvider.token={TOKEN}",
    "--LabApp.expose_app_in_browser=True",
    "--LabApp.extension_manager=readonly",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]


class Lab:
    """JupyterLab on a folder, seen in a tab."""

    def __init__(self, tab, folder):
        self.tab, self.folder = tab, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        own = {
            name: str(folder / ".jupyter" / name)
            for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        }
        environment = os.environ | own | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        command = [
            sys.executable,
            "-m",
            "jupyter",
            "lab",
            *FLAGS,
            f"--port={self.port}",
            f"--ServerApp.root_dir={folder}",
        ]
        with (folder / "lab.log").open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        self.until(self._answers, "the server answers")

    def _answers(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api?token={TOKEN}").status == 200
        except OSError:
            return False

    def until(self, holds, what, seconds=90):
        """Wait until it holds: a function, or a JavaScript expression."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := self.tab.evaluate(holds) if isinstance(holds, str) else holds():
                return value
            time.sleep(0.1)
        raise AssertionError(f"not within {seconds} s: {what}; the page shows: {self.text()[-2000:]}")

    def open(self, name):
        """Open a notebook; its kernel is ready then."""
        self.tab.open(f"http://127.0.0.1:{self.port}/lab/tree/{name}?token={TOKEN}&reset")
        self.until("window.jupyterapp?.shell.currentWidget?.content?.widgets?.length > 0", "the notebook is there")
        session = "window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
        self.until(f"{session}?.status === 'idle'", "the kernel is ready")

    def does(self, command):
        """Carry out a command of JupyterLab's, without waiting for its end."""
        self.tab.evaluate(f"void window.jupyterapp.commands.execute({command!r})")

    def text(self):
        """All outputs, as they are read."""
        return self.tab.evaluate("[...document.querySelectorAll('.jp-OutputArea')].map(e => e.innerText).join('\\n')")

    def close(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def lab(tab, place):
    """In a browser of its own: a page with changes asks before it goes."""
    browser = chromium.Browser(chromium.find() or "")
    opened = Lab(browser, place)
    yield opened
    browser.close()
    opened.close()


TRAINS = """
from vaekit.studies import rate_generalisation as study
settings = study.Settings.at("quick", betas=1, depths=1, steps=50_000, n_train=256, seeds=3)
table = study.run(settings)
"""


def test_a_cell_that_trains_has_one_bar_and_is_interrupted_in_a_line(lab, place):
    notebook(place / "n.ipynb", TRAINS)
    lab.open("n.ipynb")
    shares = []
    for _ in range(2):
        lab.does("notebook:run-all-cells")
        lab.until("document.querySelectorAll('.jp-OutputArea progress').length === 1 "
                  "&& !!document.querySelector('.jp-OutputArea td')", "a bar, and the member's row")  # fmt: skip
        assert "beta 1, seed 3" in lab.text()
        shares.append(lab.tab.evaluate("document.querySelector('.jp-OutputArea progress').value"))
        lab.does("notebook:interrupt-kernel")
        lab.until("document.querySelector('.jp-OutputArea').innerText.includes('stopped at')", "it is stopped")
        last = lab.text().strip().splitlines()[-1]
        assert last.startswith("stopped at ")
        assert last.endswith(" %: kept; run the cell again")
        assert "Traceback" not in lab.text()
        assert not lab.tab.evaluate("document.querySelector('.jp-OutputArea progress')")
    assert 0 < shares[0] <= shares[1]  # it goes on from where it was stopped, maybe at once


MOVES = """
import torch
from vaekit import widgets
from vaekit.models import DenseVAE
torch.manual_seed(0)
shown = widgets.decoder(DenseVAE((1, 8, 8), hidden=16, latent_dim=2).eval(), "A decoder.")
shown
"""


def test_arrow_keys_move_a_slider_and_nothing_else(lab, place):
    notebook(place / "n.ipynb", "# a first cell", MOVES)
    lab.open("n.ipynb")
    lab.does("notebook:run-all-cells")
    slider = "document.querySelector('.jp-OutputArea input[type=range]')"
    lab.until(f"!!{slider}", "a slider")
    state = """JSON.stringify([...document.querySelectorAll('.jp-Notebook .jp-Cell')].map(e => [e.checkVisibility(),
        e.className.includes('jp-mod-active'), e.className.includes('collapsed')]))"""
    lab.tab.evaluate(f"{slider}.focus()")
    before, cells = float(lab.tab.evaluate(f"{slider}.value")), lab.tab.evaluate(state)
    for key, code, sign in (("ArrowRight", 39, 1), ("ArrowLeft", 37, -1), ("ArrowLeft", 37, -1)):
        value = float(lab.tab.evaluate(f"{slider}.value"))
        for kind in ("keyDown", "keyUp"):
            lab.tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)
        assert sign * (float(lab.tab.evaluate(f"{slider}.value")) - value) > 0
        assert lab.tab.evaluate(f"document.activeElement === {slider}")
        assert lab.tab.evaluate(state) == cells
    assert float(lab.tab.evaluate(f"{slider}.value")) < before


def test_what_papermill_ran_shows_its_widgets_when_it_is_opened_again(lab, place):
    """As pictures and a sentence at first, since what came from elsewhere runs nothing; live once it is trusted."""
    notebook(place / "in.ipynb", MOVES)
    papermill.execute_notebook(place / "in.ipynb", place / "out.ipynb", progress_bar=False)
    lab.open("out.ipynb")
    lab.until("!!document.querySelector('.jp-OutputArea p')", "what stands in its place")
    assert lab.text().split("\n", 1)[1].strip().startswith("A decoder with a slider")
    assert "trust the notebook" in lab.text()
    assert not lab.tab.evaluate("document.querySelector('.jp-OutputArea input[type=range]')")
    lab.does("notebook:trust")
    lab.until("!!document.querySelector('.jp-Dialog .jp-mod-accept')", "a question")
    lab.tab.evaluate("document.querySelector('.jp-Dialog .jp-mod-accept').click()")
    lab.until("document.querySelectorAll('.jp-OutputArea input[type=range]').length === 2", "the decoder's sliders")
    assert not lab.tab.evaluate(
        "window.jupyterapp.shell.currentWidget.content.widgets[0].model.executionState === 'running'"
    )
