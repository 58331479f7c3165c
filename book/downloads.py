"""What a page lets its reader take away: the notebook, its data, that of each figure, and what to cite.

build.py writes the files that are made for it (`files`) into a folder beside the page's notebook; pages.py puts the
links (`linked`) into what Sphinx reads, not into the notebook, which is one of the downloads itself. Decoders' weights
lie in such files, too (`weights`), so that a page loads them where a reader moves a slider, and no notebook has them.
So does the data of the figures that `vaekit.pages` shows: in the notebook it is a link to itself (a data URI).
"""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[1]

SECTION = """\
## Downloads

- Notebook: {{download}}`{name}.ipynb` as on this page, {{download}}`{name}.py <../../notebooks/{name}.py>` without
  outputs
- Data: {{download}}`members.csv <../../results/{name}/members.csv>` (what was trained, where and how long),
  {{download}}`measures.csv <../../results/{name}/measures.csv>` (all that was measured),
  {{download}}`provenance.json <../../results/{name}/provenance.json>` (hashes and commits); those of a figure are in
  its caption
- To cite: {{download}}`{name}.bib <{name}/{name}.bib>`, the paper and vaekit
- This page again, from these data: `.venv/bin/papermill notebooks/{name}.ipynb out.ipynb -p scale published`
"""

WEIGHTS = re.compile(r'(<script type="text/plain" class="vaekit-weights" data-hash="(\w+)")>([^<]+)</script>')


def weights(name: str, notebook: NotebookNode) -> dict[str, str]:
    """The weights of decoders, by file name: taken out of a notebook's outputs, which keep the file's address alone.

    The files are scripts, since a page that is opened as a file may load nothing else.
    """
    texts: dict[str, str] = {}

    def addressed(found: re.Match) -> str:
        file = f"decoder-{found[2]}.js"
        texts[file] = f'vaekitWeights("{found[2]}", "{found[3]}");\n'
        return f'{found[1]} data-src="{name}/{file}"></script>'

    for shown in html_of(notebook):
        shown["text/html"] = WEIGHTS.sub(addressed, shown["text/html"])
    return texts


DATA = re.compile(r'href="data:text/csv;base64,([^"]*)" download="([^"/]+)"')


def html_of(notebook: NotebookNode) -> Iterator[NotebookNode]:
    """The outputs that are HTML, as their data."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                yield output.data


def files(name: str, notebook: NotebookNode) -> dict[str, str]:
    """What is made for a page, by file name: the data of each figure, and a study's BibTeX."""
    texts = {f"{figure['name']}.csv": data for figure, data in figures(notebook)}
    for shown in html_of(notebook):
        texts |= {file: base64.b64decode(data).decode() for data, file in DATA.findall(shown["text/html"])}
    if is_study(name):
        texts[f"{name}.bib"] = bibtex(notebook)
    return texts


def linked(name: str, notebook: NotebookNode) -> NotebookNode:
    """The notebook with its links: in the caption of each figure that has data and, of a study, in a last section.

    A figure whose name another notebook has too, as a copy has all of them, gets that of its page behind it: a label is
    the whole book's.
    """
    for figure, _ in figures(notebook):
        figure["caption"] += f" Data: {{download}}`{figure['name']}.csv <{name}/{figure['name']}.csv>`."
    others = [path.read_text() for path in sorted((ROOT / "notebooks").glob("*.py")) if path.stem != name]
    taken = {label for text in others for label in re.findall(r'"name": "([^"]+)"', text)}
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        if figure.get("name") in taken:
            figure["name"] += f"-{name}"
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("text/csv", None)  # no form that a page can show
    for shown in html_of(notebook):
        if title := re.search(r'data-title="([^"]+)"', shown["text/html"]):
            heading = notebook.cells[0]
            heading.source = re.sub(r"^# .*", lambda found: f"{found[0]}: {title[1]}", heading.source, count=1)
        shown["text/html"] = DATA.sub(rf'href="{name}/\2" download', shown["text/html"])
    if is_study(name):
        notebook.cells.append(nbformat.v4.new_markdown_cell(SECTION.format(name=name), id="downloads"))
    return notebook


def is_study(name: str) -> bool:
    return (ROOT / "results" / name / "provenance.json").is_file()


def figures(notebook: NotebookNode) -> Iterator[tuple[NotebookNode, str]]:
    """The caption and name of each figure that carries its data (`vaekit.figures.with_data`), and these."""
    for cell in notebook.cells:
        figure = cell.metadata.get("mystnb", {}).get("figure", {})
        for output in cell.get("outputs", []):
            if {"name", "caption"} <= figure.keys() and "text/csv" in output.get("data", {}):
                yield figure, output["data"]["text/csv"]


def bibtex(notebook: NotebookNode) -> str:
    """The first work that a notebook cites, if any, as book/references.bib has it, and vaekit, as in CITATION.cff."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    key = re.search(r"\{cite[:\w]*\}`(\w+)", prose)
    known = (ROOT / "book" / "references.bib").read_text()
    entry = key and re.search(rf"^@\w+\{{{key[1]},$.*?^\}}$", known, re.MULTILINE | re.DOTALL)
    if key and not entry:
        raise ValueError(f"a study cites its paper first, but {key[1]} is not in book/references.bib")
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    fields = {
        "title": cited["title"],
        "author": " and ".join(f"{{{author['name']}}}" for author in cited["authors"]),
        "note": f"Software, version {cited['version']}, {cited['license']} licence",
    }
    lines = "".join(f"  {name.ljust(6)} = {{{value}}},\n" for name, value in fields.items())
    return (f"{entry[0]}\n\n" if entry else "") + f"@misc{{vaekit,\n{lines}}}\n"
