"""The book's own speed: building it from nothing and after a change of prose, its largest page, `import vaekit`.

A fresh clone of the last commit is built in a temporary folder with the packages that are installed, once, then
REBUILDS times after each kind of change; `rounds` are those of the import, in fresh processes, in turns.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import nbformat

from benchmarks import timing
from benchmarks.records import Row

ROUNDS = 9
DEVICE = "cpu"
REBUILDS = 3
NOTEBOOK, PAGE = "data.ipynb", "running.md"  # whose prose changes
_ROOT = Path(__file__).resolve().parents[1]


def measure(rounds: int, only: str) -> Iterator[list[Row]]:
    """The rows of the import, then those of the book, where `only` is in a case's name."""
    cases = {"import": lambda: [_import(rounds)], "book": _book}
    for case, rows in cases.items():
        if only in case:
            yield from rows()


def _import(rounds: int) -> list[Row]:
    contenders = {name: partial(_seconds_of_import, name) for name in ("vaekit", "torch")}
    for warm in contenders.values():  # from the disk, and compiled
        warm()
    taken = timing.interleaved(contenders, rounds)
    rows = [Row.of("import", name, "s", timing.interval(seconds)) for name, seconds in taken.items()]
    return [*rows, Row.of("import", "vaekit / torch", "ratio", timing.ratio(taken["vaekit"], taken["torch"]))]


def _seconds_of_import(name: str) -> float:
    """Seconds that the import takes in a fresh process, its start aside."""
    script = f"import time; begun = time.perf_counter(); import {name}; print(time.perf_counter() - begun)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=_ROOT)
    return float(done.stdout)


def _book() -> Iterator[list[Row]]:
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "vaekit"
        subprocess.run(["git", "clone", "--quiet", _ROOT, clone], check=True)
        size = f"{len(list((clone / 'notebooks').glob('*.ipynb')))} notebooks"
        yield [Row("book, from nothing", "vaekit", "s", _build(clone), note=size)]
        pages = {page: size / 1e6 for page, size in _page_sizes(clone).items()}
        largest = max(pages, key=pages.__getitem__)
        yield [Row("book, largest page", "vaekit", "MB", pages[largest], note=f"{largest}, with its pictures")]
        changes = {f"one notebook ({NOTEBOOK})": _change_notebook, f"one page ({PAGE})": _change_page}
        for what, change in changes.items():
            seconds = [_after(change, clone, number) for number in range(REBUILDS)]
            yield [Row.of(f"book, after a change of prose in {what}", "vaekit", "s", timing.interval(seconds))]


def _build(clone: Path) -> float:
    """Seconds of one build. Errors: CalledProcessError where it fails."""
    own = ("VAEKIT_RUNS", "VAEKIT_RESULTS")  # the clone's, not those of whoever measures
    environment = {name: value for name, value in os.environ.items() if name not in own}
    begun = time.perf_counter()
    command = [sys.executable, clone / "book" / "build.py"]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=clone, env=environment | {"PYTHONPATH": str(clone)})
    return time.perf_counter() - begun


def _after(change, clone: Path, number: int) -> float:
    change(clone, f"Sentence {number}, which was not there before.")
    return _build(clone)


def _change_notebook(clone: Path, sentence: str) -> None:
    path = clone / "notebooks" / NOTEBOOK
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source += f"\n\n{sentence}"
    nbformat.write(notebook, path)


def _change_page(clone: Path, sentence: str) -> None:
    path = clone / "book" / PAGE
    path.write_text(f"{path.read_text()}\n{sentence}\n")


def _page_sizes(clone: Path) -> dict[str, int]:
    """The built pages' bytes, as the build itself counts them."""
    script = "import build, json, pathlib; print(json.dumps(build.page_sizes(pathlib.Path('_build/html'))))"
    environment = os.environ | {"PYTHONPATH": str(clone / "book")}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=clone, env=environment)
    return json.loads(done.stdout)
