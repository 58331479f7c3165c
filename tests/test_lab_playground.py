"""The playground in a real JupyterLab, driven as a user drives it: its keys, and what trains here."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

ROOT = Path(__file__).resolve().parents[1]
CELL = """\
import dataclasses
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation import explore
settings = study.Settings.at("quick", betas=[0.1, 1, 3], depths=[1], steps=20, n_train=32)
settings = dataclasses.replace(settings, hidden=4, batch_size=8, n_test=16)
explore.explore(study.run(settings), settings)"""
WIDGET = "document.querySelector('.vaekit-widget')"


@pytest.fixture
def lab(place):
    """The address of a JupyterLab over the folder `place`, in which nobody has ever worked."""
    program = shutil.which("jupyter-lab", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("JupyterLab is not installed (pip install -e '.[lab]'), so no notebook was opened in it")
    import nbformat  # here, where no child needs it

    cells = [nbformat.v4.new_markdown_cell("# Before"), nbformat.v4.new_code_cell(CELL)]
    tiny.notebook(place / "play.ipynb", *cells, nbformat.v4.new_markdown_cell("# After"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--allow-root", "--no-browser", f"--port={port}", "--ServerApp.port_retries=0"]
    command += ["--IdentityProvider.token=", "--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={place}"]
    own = {f"JUPYTER_{name}_DIR": f"{place / name.lower()}" for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"IPYTHONDIR": f"{place / 'ipython'}", "PYTHONPATH": f"{ROOT}"}
    with (place / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log, cwd=place)
    try:
        deadline = time.monotonic() + 60
        while not listening(port):
            assert server.poll() is None, (place / "lab.log").read_text()
            assert time.monotonic() < deadline, "JupyterLab does not answer"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/lab"
    finally:
        server.terminate()
        server.wait(30)


def listening(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def wait(tab, script: str, seconds: float = 60):
    """The value of a script, as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (value := tab.evaluate(script)):
        assert time.monotonic() < deadline, script
        time.sleep(0.2)
    return value


def click(tab, element: str) -> None:
    """A click of the mouse in the middle of an element."""
    tab.evaluate(f"{element}.scrollIntoView({{ block: 'center' }})")
    x, y = tab.evaluate(f"""(() => {{ const box = {element}.getBoundingClientRect();
        return [box.left + box.width / 2, box.top + box.height / 2]; }})()""")
    for kind in ("mousePressed", "mouseReleased"):
        tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)


def press(tab, key: str, code: int) -> None:
    for kind in ("keyDown", "keyUp"):
        tab.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)


@pytest.mark.slow
@pytest.mark.browser
def test_in_jupyterlab_the_keys_move_the_playground_alone_and_a_new_beta_trains(tab, lab):
    tab.resize(1400, 1000)
    tab.call("Page.navigate", url=f"{lab}/tree/play.ipynb?reset")
    wait(tab, "Boolean(window.jupyterapp && document.querySelector('.jp-Notebook .jp-CodeCell'))")
    kernel = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
    wait(tab, f"{kernel}?.connectionStatus == 'connected' && {kernel}.status == 'idle'")
    tab.evaluate("void window.jupyterapp.commands.execute('notebook:run-all-cells')")
    wait(tab, f"Boolean({WIDGET}?.querySelector('.plane'))")
    wait(tab, f"{WIDGET}.querySelectorAll('.column img').length == 12")  # the kernel made both members' pictures

    # Left and Right fold the section of a cell, Up and Down go to another: of a slider they are the slider's.
    cells = "[...document.querySelectorAll('.jp-Cell')].filter((cell) => cell.offsetHeight).length"
    before = tab.evaluate(cells)
    steps = f"{WIDGET}.querySelector('[aria-label=steps]')"
    click(tab, steps)
    for key, code in (("End", 35), ("ArrowLeft", 37), ("ArrowLeft", 37), ("ArrowUp", 38), ("ArrowDown", 40)):
        press(tab, key, code)
    assert tab.evaluate(f"{steps}.getAttribute('aria-valuetext')") == "12"
    assert tab.evaluate(f"document.activeElement === {steps}")
    tab.evaluate(f"{WIDGET}.querySelector('.plane').focus()")
    head = f"{WIDGET}.querySelector('.head .title').innerText"
    first = tab.evaluate(head)
    press(tab, "ArrowLeft", 37)
    press(tab, "ArrowRight", 39)
    press(tab, "ArrowLeft", 37)
    assert tab.evaluate(cells) == before
    assert tab.evaluate("document.activeElement.classList.contains('plane')")

    # What is not carried comes from the kernel, and what is not there trains.
    tab.evaluate(f"[...{WIDGET}.querySelectorAll('[role=tab]')][2].click()")
    wait(tab, f"{WIDGET}.querySelectorAll('.pair canvas').length == 2")
    prompts = "[...document.querySelectorAll('.jp-InputArea-prompt')].map((prompt) => prompt.innerText)"
    ran = tab.evaluate(prompts)
    members = tab.evaluate(f"{WIDGET}.querySelectorAll('.member').length")
    click(tab, f"{WIDGET}.querySelector('.bench input')")
    tab.call("Input.insertText", text="0.4")
    click(tab, f"{WIDGET}.querySelector('.bench button')")
    said = f"{WIDGET}.querySelector('.bench [role=status]').innerText"
    wait(tab, f"{said}.startsWith('Trained and measured: beta 0.4')")
    assert tab.evaluate(f"{WIDGET}.querySelectorAll('.member').length") == members + 1
    assert tab.evaluate(head).endswith("beta 0.4")
    assert tab.evaluate(head) != first
    assert tab.evaluate(prompts) == ran  # no cell has run for it

    # What trained is the kernel's to say, also to a page that is loaded again.
    tab.evaluate("window.jupyterapp.commands.execute('docmanager:save').then(() => true)")
    tab.call("Page.navigate", url=f"{lab}/tree/play.ipynb")
    wait(tab, f"Boolean({WIDGET}?.querySelector('.bench'))")
    wait(tab, f"{said}.startsWith('Trained and measured: beta 0.4')")
    assert tab.evaluate(f"{WIDGET}.querySelector('.bench input').value") == "0.4"
