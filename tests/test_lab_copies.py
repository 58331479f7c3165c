"""What `make lab` opens: copies of the notebooks that git ignores, as JupyterLab shows them best; edits are kept."""

import importlib
import json
import re
import shutil
import subprocess

import nbformat
import pytest
from conftest import ROOT


@pytest.fixture
def lab(monkeypatch, tmp_path):
    """The script, on copies of the notebooks that may be changed."""
    monkeypatch.syspath_prepend(ROOT / "book")
    module = importlib.import_module("lab")
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks")
    monkeypatch.setattr(module, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(module, "LAB", tmp_path / "lab")
    return module


def edit(path, source="# mine", output=None):
    notebook = nbformat.read(path, as_version=4)
    if output:
        code = next(cell for cell in notebook.cells if cell.cell_type == "code")
        code.outputs = [nbformat.v4.new_output("stream", text=output)]
    else:
        notebook.cells[0].source = source
    nbformat.write(notebook, path)


def texts(path, kind="markdown"):
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind)


def test_every_notebook_has_a_copy_without_the_book_s_marks(lab):
    lab.main()
    for source in lab.sources():
        copy = lab.LAB / source.name
        shown, notebook = texts(copy), nbformat.read(copy, as_version=4)
        nbformat.validate(notebook)
        assert not re.search(r"\{\w+\}`", shown)
        assert "jupytext" not in notebook.metadata  # saving it would write a .py beside it
        assert texts(copy, "code") == texts(source, "code")
        captions = [
            figure["caption"]
            for cell in nbformat.read(source, as_version=4).cells
            if (figure := cell.metadata.get("mystnb", {}).get("figure"))
        ]
        assert all(lab.as_text(caption).strip() in shown for caption in captions)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", shown):
            assert (lab.LAB / target).exists() or (ROOT / "lab" / target).resolve().exists(), target


def test_the_index_links_every_notebook_with_a_line(lab):
    lab.main()
    lines = [line for line in texts(lab.LAB / "index.ipynb").splitlines() if line.startswith("- ")]
    linked = [name for line in lines for name in re.findall(r"\((\w+\.ipynb)\)", line)]
    assert linked == [path.name for path in lab.sources()]
    assert {*lab.ABOUT} == {path.stem for path in lab.sources()}  # each has its line


@pytest.mark.parametrize(
    ("markdown", "text"),
    [
        ("as in {cite}`bozkurt2021rate`.", "as in (Bozkurt et al. 2021)."),
        ("{cite}`xiao2023trading,kingma2015adam`", "(Xiao and Bamler 2023), (Kingma and Ba 2015)"),
        ("see {doc}`data`", "see [Data](data.ipynb)"),
        ("{doc}`Notation <../notation>`", "[Notation](../book/notation.md)"),
        ("{doc}`the rules <scorecard>`", "[the rules](scorecard.ipynb)"),
        (
            "{download}`fleet.csv <../../benchmarks/results/fleet.csv>`",
            "[fleet.csv](../benchmarks/results/fleet.csv)",
        ),
        ("{other}`x`", "`x`"),
        ("plain `code` and $D + \\beta R$", "plain `code` and $D + \\beta R$"),
    ],
)
def test_marks_read_as_text_and_links(lab, monkeypatch, markdown, text):
    monkeypatch.setattr(lab, "LAB", lab.ROOT / "lab")
    assert lab.as_text(markdown).replace("[The data]", "[Data]") == text


def test_a_copy_that_was_changed_is_kept_and_another_follows_its_source(lab, capsys):
    lab.main()
    edit(lab.LAB / "pruning.ipynb")
    edit(lab.LAB / "data.ipynb", output="ran here")
    for name in ("pruning", "data", "scorecard"):
        edit(lab.NOTEBOOKS / f"{name}.ipynb", "# New\n\nA newer text.") if name != "data" else None
    capsys.readouterr()
    lab.main()
    assert capsys.readouterr().out == "lab/pruning.ipynb was changed: kept as it is (delete it for a new copy)\n"
    assert texts(lab.LAB / "pruning.ipynb").startswith("# mine")
    assert texts(lab.LAB / "scorecard.ipynb").startswith("# New\n\nA newer text.")
    assert "ran here" in (lab.LAB / "data.ipynb").read_text()  # nothing changed: what ran there stays
    edit(lab.NOTEBOOKS / "data.ipynb", "# New")
    lab.main()
    assert texts(lab.LAB / "data.ipynb").startswith("# New")


def test_what_is_no_notebook_is_kept(lab):
    lab.main()
    (lab.LAB / "data.ipynb").write_text("mine")
    (lab.LAB / "index.ipynb").write_text(json.dumps({"cells": "mine"}))
    lab.main()
    assert (lab.LAB / "data.ipynb").read_text() == "mine"
    assert "mine" in (lab.LAB / "index.ipynb").read_text()


def test_git_ignores_the_copies():
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", "lab/data.ipynb"], cwd=ROOT).returncode == 0
