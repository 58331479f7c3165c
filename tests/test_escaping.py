"""What comes from parameters or tables is text on a page, whatever it is: no mark-up, no script, no formula.

A page is built as the book builds its own, of a notebook whose names are hostile, and opened with the network off.
"""

import shutil
import xml.etree.ElementTree as ET
from io import BytesIO, StringIO
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from tiny import member, tables

from vaekit import claims, figures, widgets
from vaekit.store import ImageGrid, results
from vaekit.store.table import frame

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = [
    "<script>window.harmed = 1</script>",
    '"><img src="harm.png" onerror="window.harmed = 2">',
    "' onmouseover='window.harmed = 3' autofocus onfocus='window.harmed = 3",
    "</td></tr></table></div><script>window.harmed = 4</script>",
    "[a](javascript:window.harmed=5) ![b](harm.png) {raw}`html` {{ title }} **stressed**",
    r"$\href{javascript:window.harmed=6}{x}$ and $\nosuch$ and \(x^2\) and \[y\]",
    "&lt;b&gt; &amp; <b>&</b> <!-- -->",
    "<svg onload=window.harmed=7><style>body { display: none }</style>",
]
ALL = " ".join(HOSTILE)


def shown(source: str, *outputs, **metadata) -> nbformat.NotebookNode:
    return nbformat.v4.new_code_cell(source, outputs=list(outputs), execution_count=1, metadata=metadata)


def page_of(html: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_output("execute_result", {"text/html": html, "text/plain": ALL}, execution_count=1)


def drawing() -> str:
    """A figure as SVG, with a hostile title and hostile names of its panels."""
    figure, axes = figures.panels(1, 1, 8, 4)
    figures.label_above(axes[0, 0], HOSTILE[5])
    written = BytesIO()
    figure.savefig(written, format="svg", metadata={"Title": ALL, "Date": None})
    return written.getvalue().decode()


def hostile_playground() -> str:
    """A playground, all of whose words are hostile."""
    rows = ImageGrid("0" * 64, 1, 1, (ALL,), np.zeros((1, 8, 4, 4, 1), np.uint8))
    point = {"axes": {ALL: ALL, "beta": 1}, "places": {1: {ALL: (1, 1)}}, "numbers": {ALL: ALL}, "says": ALL}
    point |= {"budget": ALL, "group": ALL, "faint": ALL, "of": ALL, "why": ALL, "why_not": ALL}
    points = [point | {"grid": rows}, point | {"budget": f"{ALL} {ALL}", "group": f"{ALL} {ALL}"}]
    points.append(point | {"axes": {ALL: f"{ALL}!", "beta": 1}})
    names = {"x": ALL, "y": ALL, "colour": "beta", "shape": ALL, "diagonals": ALL, "clock": ALL, "caption": ALL}
    return widgets.playground(points, **names).static()._repr_html_()


CLAIMS = claims.Claims(scale=claims.PaperScale(20, 8, 3, (ALL,), {"beta": (0.1, 1)}), steps=20, axes=("beta",))


@CLAIMS.claim("0.1", ALL, paper=ALL, note=ALL)
def hostile_claim(evidence):
    (curve,) = claims.complete(evidence.curve("distortion", part="test", samples=1, data=ALL))
    return [claims.effect(claims.paired(ALL, lambda array: array[:, 1] - array[:, 0], curve), above=0)]


def hostile_verdicts() -> pd.DataFrame:
    """A verdict on a study whose data, precision and hardware have hostile names."""
    table = frame(tables([member(beta, seed) for beta in (0.1, 1) for seed in range(3)]))
    rows = claims.verdict_table(CLAIMS, table.assign(data=ALL, hardware=ALL, precision=ALL, asked=True))
    assert rows[["sentence", "paper", "ours", "scope"]].map(lambda text: ALL in text).all(axis=None), rows.to_dict()
    return rows


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_shows_hostile_names_as_text(tmp_path, monkeypatch, tab):
    monkeypatch.syspath_prepend(ROOT / "book")
    import build

    source = tmp_path / "source"
    shutil.copytree(ROOT / "book", source / "book", ignore=shutil.ignore_patterns("studies", "*.md", "__pycache__"))
    shutil.copy(ROOT / "_config.yml", source)
    (source / "_toc.yml").write_text("format: jb-book\nroot: book/page\n")
    cells = [
        nbformat.v4.new_markdown_cell("# A page\n\nOf $x^2$, so that MathJax is there."),
        shown(f"# Parameters\nname = {ALL!r}", tags=["injected-parameters"]),
        shown("names", page_of(figures.text_table(pd.DataFrame({"name": HOSTILE, ALL: HOSTILE}))._repr_html_())),
        shown("verdicts", page_of(figures.text_table(hostile_verdicts())._repr_html_())),
        shown("playground", page_of(hostile_playground())),
        shown("said", nbformat.v4.new_output("stream", name="stdout", text=ALL)),
        shown("frame", page_of(pd.DataFrame({"name": HOSTILE}).to_html())),
        shown(
            "drawn",
            nbformat.v4.new_output("execute_result", {"image/svg+xml": drawing()}, execution_count=1),
            mystnb={"image": {"alt": ALL}},
        ),
    ]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), source / "book" / "page.ipynb")
    monkeypatch.setattr(build, "ROOT", source)
    monkeypatch.setattr(build, "environment_hash", lambda: "the same")
    assert build.build_pages(tmp_path / "to") == 0

    tab.open((tmp_path / "to" / "_build" / "html" / "book" / "page.html").as_uri())
    tab.evaluate("document.querySelectorAll('main *').forEach(e => e.dispatchEvent(new Event('mouseover')))")
    text = " ".join(tab.evaluate("document.querySelector('main').innerText").split())
    assert tab.evaluate("window.harmed") is None
    assert tab.evaluate("document.querySelectorAll('mjx-container').length") == 1
    assert not [event for event in tab.events if event.get("method") == "Page.javascriptDialogOpening"]
    assert not [url for url in tab.requests() if "harm" in url]
    for name in HOSTILE:
        assert text.count(" ".join(name.split())) >= 6, name
    moved = " ".join(tab.evaluate("document.querySelector('.vaekit-widget').innerText").split())
    assert min(moved.count(" ".join(name.split())) for name in HOSTILE) >= 6  # axis, value, series, number, caption
    alts = tab.evaluate("[...document.images].map(i => i.alt)")
    assert sum(ALL in alt for alt in alts) == 1 + 2  # a drawing, and a row of pictures in two halves


def test_a_drawing_holds_names_as_text():
    drawn = ET.parse(StringIO(drawing()))
    kinds = {element.tag.rpartition("}")[2] for element in drawn.iter()}
    assert "script" not in kinds
    assert "image" not in kinds
    titles = [element.text for element in drawn.iter() if element.tag.endswith("title")]
    assert ALL in titles


@pytest.mark.parametrize("name", HOSTILE)
def test_a_table_gives_names_back(tmp_path, name):
    written = tables([member()])
    for row in written.members.values():
        row |= {"hardware": name, "reason": name + "\r\n," + name}
    results.write(tmp_path, written, {})
    assert results.read(tmp_path).members == written.members
