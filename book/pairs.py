"""Keep each notebook's two files in step: `notebooks/X.py`, the source, and `notebooks/X.ipynb`, which tools open.

python book/pairs.py            compare them by content; exit 1 and say what differs
python book/pairs.py --write    make each .ipynb anew from its .py
"""

import sys
from pathlib import Path

import jupytext
import nbformat

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}  # where a source names no other
NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"


def built(source: Path) -> nbformat.NotebookNode:
    """The notebook of a py:percent text, without outputs; its cells are numbered, so writing it twice is no diff."""
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.setdefault("kernelspec", KERNEL)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    return notebook


def problems(source: Path) -> list[str]:
    """What keeps `source` and its .ipynb from being one notebook, a sentence each; none where they agree."""
    partner = source.with_suffix(".ipynb")
    if not partner.exists():
        return [f"{partner.name} is missing"]
    texts, stored = built(source), nbformat.read(partner, as_version=4)
    errors = [f"cell {i} of {partner.name} has outputs" for i, cell in enumerate(stored.cells) if cell.get("outputs")]
    if [content(cell) for cell in texts.cells] != [content(cell) for cell in stored.cells]:
        pairs = enumerate(zip(texts.cells, stored.cells, strict=False))
        first = next((i for i, (a, b) in pairs if content(a) != content(b)), min(len(texts.cells), len(stored.cells)))
        errors.append(f"{source.name} and {partner.name} differ from cell {first} on")
    if texts.metadata.get("kernelspec") != stored.metadata.get("kernelspec"):
        errors.append(f"{source.name} and {partner.name} name different kernels")
    return errors


def content(cell: nbformat.NotebookNode) -> tuple:
    """What two copies of a cell must share."""
    return cell.cell_type, cell.source, cell.metadata.get("tags", []), cell.metadata.get("mystnb", {})


def main(arguments: list[str]) -> int:
    sources = sorted(NOTEBOOKS.glob("*.py"))
    if arguments == ["--write"]:
        for source in sources:
            nbformat.write(built(source), source.with_suffix(".ipynb"))
        return 0
    if arguments:
        sys.exit(__doc__)
    errors = [problem for source in sources for problem in problems(source)]
    errors += [f"{path.name} has no .py" for path in NOTEBOOKS.glob("*.ipynb") if not path.with_suffix(".py").exists()]
    print("\n".join(errors) or f"{len(sources)} notebooks are in step with their sources")
    if errors:
        print("The .py is the source: python book/pairs.py --write makes the .ipynb from it.")
    return bool(errors)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
