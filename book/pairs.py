"""Keep each notebook's two files in step: `notebooks/X.py`, the source, and `notebooks/X.ipynb`, which tools open.

.venv/bin/python book/pairs.py            compare them by content; exit 1 and say what differs, and what to do
.venv/bin/python book/pairs.py --write    make each .ipynb anew from its .py, or say what edit that would lose

An .ipynb carries a hash of the content it was made with, so that an edit of it is known from an older state.
"""

import hashlib
import json
import sys
from pathlib import Path

import jupytext
import nbformat

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}  # where a source names no other
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
COMMAND = ".venv/bin/python book/pairs.py --write"
WRITE = f"{COMMAND} makes the .ipynb from the .py"
# What no hand writes: Jupyter on running, editors on opening, jupytext on reading. All else is content.
OF_CELLS = {"ExecuteTime", "autoscroll", "cell_marker", "collapsed", "editable", "execution", "id"}
OF_CELLS |= {"lines_to_end_of_cell_marker", "lines_to_next_cell", "noskipline", "papermill", "scrolled", "skipline"}
OF_CELLS |= {"trusted", "vscode"}
OF_NOTEBOOKS = {"jupytext", "kernel_info", "kernelspec", "language_info", "papermill", "vaekit", "vscode", "widgets"}


def built(source: Path) -> nbformat.NotebookNode:
    """The notebook of a py:percent text, without outputs; its cells are numbered, so writing it twice is no diff."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.setdefault("kernelspec", KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata["vaekit"] = {"made_with": content_hash(notebook)}
    return notebook


def problems(source: Path) -> list[str]:
    """What keeps `source` and its .ipynb from being one notebook, a sentence each; none where they agree."""
    partner = source.with_suffix(".ipynb")
    if not partner.exists():
        return [f"{partner.name} is missing: {WRITE}"]
    if edit := lost_edit(source):
        return [edit]
    texts, stored = built(source), read(partner)
    errors = [f"cell {i} of {partner.name} has outputs" for i, cell in enumerate(stored.cells) if cell.get("outputs")]
    if content(texts) != content(stored):
        pairs = enumerate(zip(content(texts), content(stored), strict=False), start=-1)  # the metadata come first
        shorter = min(len(texts.cells), len(stored.cells))
        first = next((i for i, (text, cell) in pairs if text != cell), shorter)
        where = "in their metadata" if first < 0 else f"from cell {first} on"
        errors.append(f"{source.name} and {partner.name} differ {where}")
    elif made_with(stored) != content_hash(stored):
        errors.append(f"{partner.name} does not carry the hash of its content")
    if texts.metadata.get("kernelspec") != stored.metadata.get("kernelspec"):
        errors.append(f"{source.name} and {partner.name} name different kernels")
    return [f"{error}: {WRITE}" for error in errors]


def lost_edit(source: Path) -> str:
    """A sentence where --write would lose what was written in the .ipynb alone, with the next step; else ""."""
    partner = source.with_suffix(".ipynb")
    if not partner.exists():
        return ""
    delete = f"to keep {source.name}, delete {partner.name}, then {COMMAND}"
    try:
        stored = read(partner)
    except ValueError as error:
        return f"{error}; {delete}"
    made, texts = made_with(stored), built(source)
    if content(stored) == content(texts) or made == content_hash(stored):
        return ""
    if made == content_hash(texts):
        keep = f"to keep the edits, {to_source(stored, partner.name)} from them"
        return f"{partner.name} was edited and {source.name} was not; {keep}; {delete}"
    keep = f"{beyond_text(stored)}copy what is to stay into {source.name}"
    return f"{partner.name} was edited, and {source.name} too: {keep}; {delete}"


def to_source(notebook: nbformat.NotebookNode, name: str) -> str:
    """How an .ipynb becomes a .py that loses nothing of it."""
    return f"{beyond_text(notebook)}`.venv/bin/jupytext --to py:percent notebooks/{name}` makes the .py"


def beyond_text(notebook: nbformat.NotebookNode) -> str:
    """What to do first about what a .py cannot hold of a notebook; "" where it holds all."""
    metadata, *cells = content(notebook)
    todo = [
        f"move the picture pasted into cell {i} to a file in book/images" for i, cell in enumerate(cells) if cell[2]
    ]
    todo += [f"delete the notebook's metadata {', '.join(metadata)}"] if metadata else []
    return f"first {' and '.join(todo)}, which a .py cannot hold, then " if todo else ""


def read(path: Path) -> nbformat.NotebookNode:
    """An .ipynb. Raises ValueError, with a sentence, for what is none or may not be read."""
    try:
        notebook = nbformat.read(path, as_version=4)
        content(notebook)  # JSON of another form shows here
    except (OSError, ValueError, LookupError, TypeError, AttributeError, nbformat.ValidationError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error).strip().partition("\n")[0][:80]
        raise ValueError(f"{path.name} cannot be read as a notebook ({reason})") from None
    return notebook


def content(notebook: nbformat.NotebookNode) -> list:
    """What two copies of a notebook must share: its metadata, then cell by cell."""
    cells = [
        (cell.cell_type, cell.source, cell.get("attachments", {}), by_hand(cell.metadata, OF_CELLS))
        for cell in notebook.cells
    ]
    return [by_hand(notebook.metadata, OF_NOTEBOOKS), *cells]


def by_hand(metadata: nbformat.NotebookNode, others: set[str]) -> dict:
    """Metadata without what programs write, and without what is empty."""
    return {name: value for name, value in metadata.items() if name not in others and value not in ([], {})}


def content_hash(notebook: nbformat.NotebookNode) -> str:
    return hashlib.sha256(json.dumps(content(notebook), sort_keys=True).encode()).hexdigest()[:16]


def made_with(notebook: nbformat.NotebookNode) -> str | None:
    """The hash of the content that an .ipynb was made with; None of one that --write did not make."""
    mark = notebook.metadata.get("vaekit")
    return mark.get("made_with") if isinstance(mark, dict) else None


def main(arguments: list[str]) -> int:
    sources = sorted(NOTEBOOKS.glob("*.py"))
    if arguments == ["--write"]:
        if edits := list(filter(None, map(lost_edit, sources))):
            print("\n".join(["nothing was written:", *edits]), file=sys.stderr)
            return 1
        for source in sources:
            nbformat.write(built(source), source.with_suffix(".ipynb"))
        return 0
    if arguments:
        sys.exit(__doc__)
    errors = [problem for source in sources for problem in problems(source)]
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not path.with_suffix(".py").exists():
            try:
                errors.append(f"{path.name} has no .py: {to_source(read(path), path.name)}")
            except ValueError as error:
                errors.append(str(error))
    print("\n".join(errors) or f"{len(sources)} notebooks are in step with their sources")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
