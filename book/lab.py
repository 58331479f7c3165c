"""`make lab`: copies of the notebooks to work in, which git ignores, and an index of them.

.venv/bin/python book/lab.py          make or renew the copies in lab/, and print the index's path

A copy that was edited is never overwritten: its cells are compared with those that it was made with. The book's own
marks, which JupyterLab would show raw, become text and links; captions of figures become a line below their cell.
"""

import hashlib
import json
import os
import re
from pathlib import Path

import nbformat
from pairs import NOTEBOOKS, read

ROOT = NOTEBOOKS.parent
LAB = ROOT / "lab"
INDEX = "index.ipynb"
_MADE = "vaekit_lab"  # the hash of what a copy was made with, in its metadata
_FIELD = re.compile(r"^\s*(\w+)\s*=\s*[{\"](.*?)[}\"],?\s*$", re.MULTILINE)
_ROLE = re.compile(r"\{(\w+)\}`([^`]*)`")
_TITLED = re.compile(r"(.*?)\s*<([^>]*)>", re.DOTALL)
ABOUT = {
    "id_transition": "study 1: the intrinsic dimension of a network's layers, and what they tell of each other",
    "hierarchical_rates": "study 2: two layers of latents, and the rate of each",
    "rate_generalisation": "study 3: rate, distortion, and images that were never seen",
    "pruning": "study 4: disentanglement, and what pruning does to it",
    "across": "across the papers: the measures of all four on the same networks",
    "first_fleet": "a model of your own: a module, a fleet, its curve",
    "data": "the image sets",
    "performance": "how fast it is, and against what",
    "scorecard": "every claim with its verdict",
}


def main() -> None:
    """Make what is absent, renew what nobody edited, and write the index."""
    LAB.mkdir(exist_ok=True)
    lines, edited = [], []
    for source in sources():
        target = LAB / source.name
        if is_edited(target):
            edited.append(target.name)
        else:
            write(copied(source), target)
        title = next(line for line in read(source).cells[0].source.splitlines() if line.startswith("# "))[2:]
        lines.append(f"- [{title}]({source.name}): {ABOUT.get(source.stem, 'a notebook')}")
    text = (
        "# vaekit\n\nThese are copies: change, run and save them as you like; git ignores them, and `make lab` renews "
        "only those that you did not change. Each begins with a cell of parameters. Training may be interrupted (■) "
        "and goes on when the cell is run again.\n\n" + "\n".join(lines)
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text, id="index")])
    if not is_edited(LAB / INDEX):
        write(notebook, LAB / INDEX)
    for name in edited:
        print(f"lab/{name} was changed: kept as it is (delete it for a new copy)")


def sources() -> list[Path]:
    """The notebooks to copy, in the order of `ABOUT`: all but the book's front page, whose place the index takes."""
    paths = {path.stem: path for path in NOTEBOOKS.glob("*.ipynb") if path.name != INDEX}
    return [paths[name] for name in sorted(paths, key=lambda name: [*ABOUT, name].index(name))]


def copied(source: Path) -> nbformat.NotebookNode:
    """A notebook as JupyterLab shows it best: without the pairing with a .py, and with the book's marks as text."""
    notebook = read(source)
    for name in ("jupytext", "vaekit"):
        notebook.metadata.pop(name, None)
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = as_text(cell.source)
        cells.append(cell)
        if caption := cell.metadata.get("mystnb", {}).get("figure", {}).get("caption"):
            cells.append(nbformat.v4.new_markdown_cell(f"*{as_text(caption).strip()}*", id=f"{cell.id}-caption"))
    notebook.cells = cells
    return notebook


def as_text(markdown: str) -> str:
    """Markdown with MyST's roles as plain text and links."""

    def plain(match: re.Match[str]) -> str:
        role, content = match.groups()
        if role == "cite":
            return ", ".join(citations()[key.strip()] for key in content.split(","))
        titled = _TITLED.fullmatch(content)
        title, target = titled.groups() if titled else (None, content)
        if role == "doc":
            name = target.rpartition("/")[2]
            if (NOTEBOOKS / f"{name}.ipynb").exists():
                return f"[{title or title_of(name)}]({name}.ipynb)"
            page = ROOT / "book" / f"{name}.md"
            return f"[{title or title_of(name)}]({os.path.relpath(page, LAB)})"
        if role == "download":
            return f"[{title or target}]({target.removeprefix('../')})"
        return f"`{content}`"

    return _ROLE.sub(plain, markdown)


def citations() -> dict[str, str]:
    """How each entry of the book's references reads in a text, by its key: "(Bozkurt et al. 2021)"."""
    entries = re.split(r"^@\w+\{", (ROOT / "book" / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE)
    shown = {}
    for entry in entries[1:]:
        key, fields = entry.partition(",")[0].strip(), dict(_FIELD.findall(entry))
        names = [re.sub(r"[{}]", "", name.partition(",")[0]) for name in re.split(r"\s+and\s+", fields["author"])]
        who = f"{names[0]} et al." if len(names) > 2 or "others" in names else " and ".join(names)
        shown[key] = f"({who} {fields['year']})"
    return shown


def title_of(name: str) -> str:
    """The title of a notebook or page of the book."""
    notebook = NOTEBOOKS / f"{name}.ipynb"
    text = read(notebook).cells[0].source if notebook.exists() else (ROOT / "book" / f"{name}.md").read_text("utf-8")
    return next(line for line in text.splitlines() if line.startswith("# "))[2:]


def is_edited(path: Path) -> bool:
    """Whether a copy holds other cells than it was made with (outputs do not count), or is no notebook at all."""
    if not path.exists():
        return False
    try:
        notebook = nbformat.read(path, as_version=4)
    except Exception:
        return True
    return notebook.metadata.get(_MADE) != content_hash(notebook)


def content_hash(notebook: nbformat.NotebookNode) -> str:
    """Of the kinds and sources of all cells."""
    content = [[cell.cell_type, cell.source] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def write(notebook: nbformat.NotebookNode, target: Path) -> None:
    """Write a copy, unless the same is there already: what ran in it stays."""
    notebook.metadata[_MADE] = content_hash(notebook)
    if target.exists() and nbformat.read(target, as_version=4).metadata.get(_MADE) == notebook.metadata[_MADE]:
        return
    nbformat.write(notebook, target)


if __name__ == "__main__":
    main()
