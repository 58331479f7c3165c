"""The links among the texts: each kind is seen where it is broken, at its line, and where it is not, left alone."""

from pathlib import Path

import pytest

TOC = "root: book/index\nparts:\n- chapters: [{file: book/other}, {file: book/studies/one}]\n"
NOTEBOOK = """\
# ---
# jupyter: {}
# ---

# %% [markdown]
# # One
#
# {doc}`The other <../other>`, {ref}`fig-drawn`, {cite:t}`known1999, known2000`,
# {download}`one.csv
# <../../results/one.csv>`, [at the front](../../README.md), [the other](../other).
#
# ```bash
# not/[a link](nowhere.md) "{doc}`nowhere`"
# ```

# %% mystnb={"figure": {"caption": "See {doc}`/book/other`.", "name": "fig-drawn"}}
print("[not a link](nowhere.md)")
"""
INDEX = """\
# Index

(here)=
See {ref}`here`, {numref}`the figure <fig-kept>`, {eq}`eq-one`, [it](#here), [one](studies/one) and `[no](link.md)`.

$$ x $$ (eq-one)

```{figure} picture.png
:name: fig-kept

[Far away](https://example.org/nowhere.md), [near](other.md).
```
"""
README = """\
# A title

## Two `words`, here!

[Here](#two-words-here), [there](book/other.md#another-one), [a file](book/picture.png)
"""


@pytest.fixture
def links(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "book")
    import links

    return links


@pytest.fixture
def project(tmp_path):
    contents = {
        "_toc.yml": TOC,
        "README.md": README,
        "CONTRIBUTING.md": "[Back](README.md#a-title)\n",
        "book/index.md": INDEX,
        "book/other.md": "# Another one\n",
        "book/picture.png": "",
        "book/references.bib": "@misc{known1999,\n}\n\n@misc{known2000,\n}\n",
        "notebooks/one.py": NOTEBOOK,
        "results/one.csv": "",
    }
    for name, text in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_our_own_links_lead_somewhere(links, capsys):
    assert links.main() == 0, capsys.readouterr().out


def test_what_is_whole_is_left_alone(links, project):
    assert links.Project(project).problems() == []
    assert {len(list(text.links())) for text in links.texts(project) if text.file == "notebooks/one.py"} == {8}


BROKEN = {
    "README.md": [
        ("[x](book/none.md)", "no file book/none.md"),
        ('![x](none.png "none")', "no file none.png"),
        ("[x](../elsewhere)", "no file ../elsewhere"),
        ("[x](#none)", "no such anchor in README.md"),
        ("[x](CONTRIBUTING.md#none)", "no such anchor in CONTRIBUTING.md"),
        ("[x]: none.md", "no file none.md"),
    ],
    "book/other.md": [
        ("[two\nlines](studies/none)", "no file book/studies/none"),
        ("[x](#none)", "no label of the book"),
        ("[x](index.md#none)", "no such anchor in book/index.md"),
        ("{doc}`none`", "no page of _toc.yml"),
        ("{ref}`x <none>`", "no label of the book"),
        ("{numref}`none`", "no label of the book"),
        ("{eq}`none`", "no label of the book"),
        ("{download}`x <none.csv>`", "no file book/none.csv"),
        ("{cite:t}`known1999, none`", "no entry of book/references.bib"),
        ("```{figure} none.png\n```", "no file book/none.png"),
        (":::{note}\n[x](none)\n:::", "no file book/none"),
    ],
    "notebooks/one.py": [
        ("# %% [markdown]\n# {doc}`none`", "no page of _toc.yml"),
        ('# %% mystnb={"figure": {"caption": "{cite}`none`"}}', "no entry of book/references.bib"),
    ],
}


@pytest.mark.parametrize(
    ("file", "text", "problem"), [(file, *case) for file, cases in BROKEN.items() for case in cases], ids=str
)
def test_a_broken_link_is_named_with_its_line(links, project, monkeypatch, capsys, file, text, problem):
    path = project / file
    before = path.read_text() + "\nSome text.\n\n"
    path.write_text(before + text + "\n")
    line = before.count("\n") + 1 + ("\n# {doc}" in text or "\n[x](none)" in text)
    monkeypatch.setattr(links, "ROOT", project)
    assert links.main() == 1
    (said,) = capsys.readouterr().out.splitlines()
    assert said.startswith(f"{file}:{line}: ")
    assert said.endswith(f": {problem}")
