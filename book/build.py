"""Run the notebooks over what results/ holds, then build the book from them.

    python book/build.py [--to FOLDER]      the pages are FOLDER/_build/html (FOLDER: this checkout)

A notebook with a parameter `scale` runs at `published`: it shows what results/ holds and trains nothing. Exit status 1
if a notebook failed, a page warned (a broken link, a figure without alt text, an unknown citation) or the build failed.

The outputs of a notebook are cached in .cache/book, under a hash of all that they can depend on (`environment_hash`
and the code itself): a change of prose alone runs nothing again. Sphinx reads again the pages whose contents changed,
and all of them where anything else did. Whatever failed, or changed on the way, is not cached.
"""

import argparse
import base64
import hashlib
import importlib.metadata
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import downloads
import nbformat
import numpy as np
import papermill
from nbformat import NotebookNode
from PIL import Image

from vaekit.settings import PlainError

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "book" / "studies"  # ignored by git: made here, read by Jupyter Book
CACHE = ROOT / ".cache" / "book"
AT_ONCE = min(4, os.cpu_count() or 1)  # notebooks: a kernel takes most of a GB


# What outputs depend on


def digest(parts: Iterable[bytes | str]) -> str:
    """A hash of some parts, in their order, that tells where one ends."""
    sha256 = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        sha256.update(len(data).to_bytes(8, "big") + data)
    return sha256.hexdigest()


def files(folder: Path) -> list[Path]:
    """All files below a folder, sorted, without what Python compiled and what is hidden."""
    paths = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(path for path in paths if not path.name.startswith("."))


def contents(paths: Iterable[Path]) -> str:
    return digest(part for path in paths for part in (os.fspath(path), path.read_bytes()))


def environment_hash() -> str:
    """A hash of all that a notebook's outputs depend on, its own code aside.

    By content: the package, benchmarks/, results/ and this file; by version: Python and all that is installed; by name
    and size: image sets and classifiers that were fetched or trained, which are checked whole when they are read. Where
    these lie is no part of it.
    """
    from vaekit.data.stored import stored_path
    from vaekit.store import default_store, results

    places = {"VAEKIT_RESULTS", "VAEKIT_RUNS", "VAEKIT_DATA"}
    sources = [*files(ROOT / "vaekit"), *files(ROOT / "benchmarks"), *files(results.folder("any").parent)]
    large = [*files(stored_path("any").parent), *files(default_store().root / "classifiers")]
    return digest(
        [
            contents([*sources, Path(__file__)]),
            *(f"{path.name} {path.stat().st_size}" for path in large),
            *sorted(f"{package.name} {package.version}" for package in importlib.metadata.distributions()),
            *sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("VAEKIT_") and k not in places),
            sys.version,
            platform.platform(),
        ]
    )


# The notebooks


def run_by_papermill(path: Path, **options) -> NotebookNode:
    """Run a notebook in its own folder, at scale `published` if it has one; papermill's error where a cell fails."""
    parameters = {"scale": "published"} if "scale" in papermill.inspect_notebook(str(path)) else {}
    return papermill.execute_notebook(str(path), None, parameters, cwd=path.parent, progress_bar=False, **options)


def prepared(path: Path) -> NotebookNode:
    """A notebook as it will run: with its parameters, without outputs."""
    notebook = run_by_papermill(path, prepare_only=True)
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)  # paths of this machine, which the page offers for download
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if "injected-parameters" in tags:
            cell.id = "parameters"  # not a random one: equal notebooks are equal files
        if {"parameters", "injected-parameters"} & {*tags}:
            tags.append("remove-cell")  # from the page: what is downloaded has it
    return notebook


def code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def same_code(one: NotebookNode, other: NotebookNode) -> bool:
    return [cell.source for cell in code(one)] == [cell.source for cell in code(other)]


def executed(path: Path) -> tuple[str, str, float]:
    """Run a notebook: (the notebook with outputs, as text; what went wrong; seconds)."""
    begun = time.monotonic()
    try:
        done = run_by_papermill(path)
    except Exception as error:  # whatever a notebook can raise; not all of it can be pickled, so as text
        message = str(error) if isinstance(error, papermill.PapermillExecutionError) else traceback.format_exc()
        return "", message, time.monotonic() - begun
    for cell in code(done):
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = lighter(output.data["image/png"])
    return nbformat.writes(done), "", time.monotonic() - begun


def lighter(png: str) -> str:
    """A base64 PNG without transparency, and with 256 colours where that moves them by under 1/255 (rms): a third."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    opaque = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")).convert("RGB")
    reduced = opaque.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    difference = np.asarray(opaque, np.float32) - np.asarray(reduced.convert("RGB"), np.float32)
    buffer = io.BytesIO()
    (reduced if np.sqrt(np.mean(difference**2)) < 1 else opaque).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def cached(path: Path, notebook: NotebookNode) -> NotebookNode | None:
    """The notebook with outputs in a file of the cache, if the file is whole and of the same code."""
    try:
        stored = nbformat.read(path, as_version=4)
    except (OSError, ValueError):
        return None
    return stored if same_code(stored, notebook) else None


def write(text: str, path: Path) -> None:
    """Whole or not at all, and not where the file says so already."""
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)


def run_notebooks(folder: Path, destination: Path, cache: Path = CACHE) -> list[str]:
    """Write every notebook of a folder, with its outputs, into `destination`; run those whose outputs `cache` lacks.

    Returns the names of those that failed, after printing why; their files in `destination` stay as they were.
    """
    environment = environment_hash()
    notebooks = {path: prepared(path) for path in sorted(folder.glob("*.ipynb"))}
    places = {
        path: cache / f"{path.stem}-{digest([environment, *(cell.source for cell in code(notebook))])}.ipynb"
        for path, notebook in notebooks.items()
    }

    def show(path: Path, done: NotebookNode) -> None:
        """The notebook as it stands with the outputs of the one that ran (its prose may be another), and its files."""
        for cell, ran in zip(code(notebooks[path]), code(done), strict=True):
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        files_by_name = downloads.weights(path.stem, notebooks[path])  # first: the notebook is then without them
        files_by_name |= downloads.files(path.stem, notebooks[path])
        write(nbformat.writes(notebooks[path]), destination / path.name)
        for old in (destination / path.stem).glob("*"):
            if old.name not in files_by_name:
                old.unlink()
        for name, text in files_by_name.items():
            write(text, destination / path.stem / name)

    stored = {path: cached(places[path], notebook) for path, notebook in notebooks.items()}
    for path, done in stored.items():
        if done:
            show(path, done)
            print(f"{path.name}: unchanged", flush=True)
    failed = []
    with ProcessPoolExecutor(AT_ONCE, get_context("spawn")) as pool:
        running = {pool.submit(executed, path): path for path, done in stored.items() if not done}
        for future in as_completed(running):
            path, (text, wrong, seconds) = running[future], future.result()
            done = None if wrong else nbformat.reads(text, as_version=4)
            if done is None or not same_code(done, notebooks[path]):
                wrong = wrong or "its code was changed while it ran: build again"
                print(f"{path.name} failed:\n{wrong}", file=sys.stderr, flush=True)
                failed.append(path.name)
                continue
            show(path, done)
            if environment_hash() == environment:
                for old in cache.glob(f"{path.stem}-*.ipynb"):
                    old.unlink()
                write(text, places[path])
            print(f"{path.name}: {seconds:.0f} s", flush=True)
    return sorted(failed)


# The pages


def reading_hash() -> str:
    """A hash of all that Sphinx's reading of a page depends on, the page's own text aside: book/pages.py sees to it."""
    sources = [path for path in files(ROOT / "book") if path.suffix not in (".md", ".ipynb")]
    pages = [path.name for path in files(ROOT / "book") if path.suffix in (".md", ".ipynb")]
    return digest([environment_hash(), contents([*sources, ROOT / "_config.yml", ROOT / "_toc.yml"]), *pages])


def build_pages(to: Path) -> int:
    """Build the pages into `to`/_build/html; returns Jupyter Book's exit status. Warnings are errors.

    All pages are written anew. What Sphinx read before is taken again only if the build before this one was without
    a warning: it warns of a page when it reads it, and not again.
    """
    folder, now = to / "_build", reading_hash()
    clean = folder / "clean"  # the reading_hash of a build that succeeded; gone while one runs
    if clean.exists() and clean.read_text() == now:
        clean.unlink()
        shutil.rmtree(folder / "html", ignore_errors=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    command = Path(sys.executable).with_name("jupyter-book")
    options = ["--path-output", str(to), "-W", "--keep-going", "-q"]
    status = subprocess.run([command, "build", str(ROOT), *options], cwd=ROOT).returncode
    if status == 0 and reading_hash() == now:
        clean.write_text(now)
    return status


def page_sizes(html: Path) -> dict[str, int]:
    """Bytes of each page, by its address: its file, and the pictures that no other page shows."""
    pictures = {}
    for page in sorted(path for path in html.rglob("*.html") if "_static" not in path.parts):
        sources = re.findall(r'<img\b[^>]*?\bsrc="([^"]+)"', page.read_text())
        pictures[page] = {(page.parent / source).resolve() for source in sources if not source.startswith("data:")}
    shown = Counter(picture for own in pictures.values() for picture in own)
    return {
        page.relative_to(html).as_posix(): page.stat().st_size
        + sum(picture.stat().st_size for picture in own if shown[picture] == 1)
        for page, own in pictures.items()
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Run the notebooks over results/, then build the book from them.")
    parser.add_argument("--to", type=Path, default=ROOT, help="folder that gets _build/html (this checkout)")
    to = parser.parse_args(arguments).to.expanduser().resolve()
    names = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    for page in PAGES.glob("*.ipynb"):
        if page.name not in names:
            page.unlink()  # a page never outlives its notebook
            shutil.rmtree(page.with_suffix(""), ignore_errors=True)
    try:
        failed = run_notebooks(ROOT / "notebooks", PAGES)
    except (PlainError, PermissionError) as error:  # of a folder that may not be read, or that a variable names amiss
        print(f"error: {error}", file=sys.stderr)
        return 2
    if failed:
        print(f"No book was built: {', '.join(failed)} failed (see above).", file=sys.stderr)
        return 1
    if status := build_pages(to):
        return status
    print(f"The book: {to / '_build' / 'html' / 'index.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
