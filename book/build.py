"""Run the notebooks over what results/ holds, then build the book from them.

    python book/build.py [--to FOLDER]      the pages are FOLDER/_build/html (FOLDER: this checkout)

A notebook with a parameter `scale` runs at `published`: it shows what results/ holds and trains nothing. Exit status 1
if a notebook failed, a page warned (a broken link, a figure without alt text, an unknown citation) or the build failed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "book" / "studies"  # ignored by git: made here, read by Jupyter Book


def run_notebook(path: Path, destination: Path) -> None:
    """Run a notebook in its own folder and write it, with its outputs, into the folder `destination`.

    The file there is replaced only by a whole one. Errors: papermill's, when a cell fails.
    """
    parameters = {"scale": "published"} if "scale" in papermill.inspect_notebook(str(path)) else {}
    done = papermill.execute_notebook(str(path), None, parameters, cwd=path.parent, progress_bar=False)
    done.metadata.pop("papermill", None)  # paths of this machine, which the page offers for download
    destination.mkdir(parents=True, exist_ok=True)
    partial = destination / f".{path.stem}.{os.getpid()}.partial"
    nbformat.write(done, partial)
    partial.replace(destination / path.name)


def run_notebooks(folder: Path, destination: Path) -> list[str]:
    """Run every notebook of a folder; returns the names of those that failed, after printing why."""
    failed = []
    for path in sorted(folder.glob("*.ipynb")):
        started = time.monotonic()
        try:
            run_notebook(path, destination)
        except Exception as error:  # whatever a notebook can raise: say it, and go on to the others
            print(f"{path.name} failed:\n{error}", file=sys.stderr)
            failed.append(path.name)
        else:
            print(f"{path.name}: {time.monotonic() - started:.0f} s", flush=True)
    return failed


def build_pages(to: Path) -> int:
    """Build the pages into `to`/_build/html, from nothing; returns Jupyter Book's exit status. Warnings are errors."""
    shutil.rmtree(to / "_build", ignore_errors=True)
    command = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", str(to), "--all", "-W", "--keep-going", "-q"]
    return subprocess.run([command, "build", str(ROOT), *options], cwd=ROOT).returncode


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks over results/, then build the book from them.")
    parser.add_argument("--to", type=Path, default=ROOT, help="folder that gets _build/html (this checkout)")
    to = parser.parse_args(arguments).to.resolve()
    shutil.rmtree(PAGES, ignore_errors=True)  # so that a page never outlives its notebook
    if failed := run_notebooks(ROOT / "notebooks", PAGES):
        print(f"No book was built: {', '.join(failed)} failed (see above).", file=sys.stderr)
        return 1
    if status := build_pages(to):
        return status
    print(f"The book: {to / '_build' / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
