"""A decoder's weights lie beside a built page, and are loaded from there at the first touch, also from a file."""

import base64
import io
import os
import re
import shutil

import nbformat
import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image
from test_movable import Opened, far_from, vae
from tiny import notebook

from vaekit import widgets

CONFIG = "title: Two pages\nexecute: {execute_notebooks: 'off'}\nsphinx: {local_extensions: {pages: book}}\n"
SETTLED = "new Promise((done) => setTimeout(done, 500))"


class Built(Opened):
    """A page of the book, opened as a file."""

    def __init__(self, tab, path):
        self.tab = tab
        tab.open(path.as_uri())


def loaded(tab) -> list[str]:
    return [url.rsplit("/", 1)[1] for url in tab.requests() if "decoder-" in url]


def page_of(tmp_path, monkeypatch, build, *models):
    """A book with a page of decoders, built from outputs that a kernel has left; returns the page."""
    root, to = tmp_path / "source", tmp_path / "to"
    studies = root / "book" / "studies"
    studies.mkdir(parents=True)
    for name in ("pages.py", "downloads.py"):
        shutil.copy(ROOT / "book" / name, root / "book")
    (root / "_config.yml").write_text(CONFIG)
    (root / "_toc.yml").write_text("format: jb-book\nroot: book/studies/moved\n")
    monkeypatch.setattr(build, "ROOT", root)
    monkeypatch.setattr(build, "environment_hash", lambda: "the same")
    title = nbformat.v4.new_markdown_cell("# Moved")
    notebook(tmp_path / "moved.ipynb", title, *["shown"] * len(models))
    done = nbformat.read(tmp_path / "moved.ipynb", as_version=4)
    for cell, model in zip(done.cells[1:], models, strict=True):
        html = widgets.decoder(model).static()._repr_html_()
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/html": html, "text/plain": "a page"})]
    monkeypatch.setattr(build, "cached", lambda *_: done)
    assert not build.run_notebooks(tmp_path, studies, tmp_path / "kept")
    assert not build.build_pages(to)
    return to / "_build" / "html" / "book" / "studies" / "moved.html"


@pytest.mark.browser
def test_the_first_touch_loads_the_weights_beside_the_page(tab, tmp_path, monkeypatch, build):
    models = [vae(), vae((1, 28, 28))]
    html = page_of(tmp_path, monkeypatch, build, models[0], *models)
    files = sorted(path.name for path in (html.parent / "moved").iterdir())
    assert len(files) == 2  # two widgets share one
    assert all(re.fullmatch(r"decoder-[0-9a-f]{12}\.js", name) for name in files)
    notebooks = [*tmp_path.rglob("_build/html/_sources/**/*.ipynb"), *tmp_path.rglob("book/studies/*.ipynb")]
    assert notebooks
    texts = [path.read_text() for path in [html, *notebooks]]
    for name in files:
        (_, content) = re.findall(r'"([^"]+)"', (html.parent / "moved" / name).read_text())
        assert len(content) > 50_000
        assert not any(content[:1000] in text for text in texts)
    content = [path.read_text() for path in [html, *notebooks]]
    for name in files:
        weights = (html.parent / "moved" / name).read_text().split('"')[3]
        assert len(weights) > 50_000
        assert not [text for text in content if weights[:200] in text]

    page = Built(tab, html)
    assert loaded(tab) == []  # a page that opens asks for no MB
    assert "Move a slider" in page("widgets[0].innerText")
    for widget, model in enumerate([models[0], *models]):
        assert not page.picture(widget).any()  # behind it, as a picture of its own:
        style = page(f"getComputedStyle(all({widget}, 'canvas')[0]).backgroundImage")
        png = base64.b64decode(style.removeprefix('url("data:image/png;base64,').removesuffix('")'))
        assert far_from(np.asarray(Image.open(io.BytesIO(png)).convert("RGBA")), model, [0.0] * 10) <= 1 / 255
    code = [0.0] * 2 + [0.7] + [0.0] * 7
    for widget, model in enumerate([models[0], *models]):
        page.slide(widget, 2, "ArrowRight", times=7)
        tab.evaluate(SETTLED)
        assert far_from(page.picture(widget), model, code) <= 1 / 255
    assert sorted(loaded(tab)) == files  # each once
    assert not page("document.querySelectorAll('[role=alert]').length")

    # A copy of the page alone says what it lacks, and asks again.
    aside = tmp_path / "aside"
    os.rename(html.parent / "moved", aside)
    page = Built(tab, html)
    page.slide(0, 2, "ArrowRight", times=6)
    tab.evaluate(SETTLED)
    assert "are not beside this page, in moved/decoder-" in page("all(0, '[role=alert]')[0].innerText")
    os.rename(aside, html.parent / "moved")
    page.slide(0, 2, "ArrowRight")
    tab.evaluate(SETTLED)
    assert page("all(0, '[role=alert]').length") == 0
    assert far_from(page.picture(0), models[0], code) <= 1 / 255


@pytest.mark.browser
def test_a_notebook_that_is_opened_without_a_kernel_has_them_in_it(tab, tmp_path):
    """Two widgets of one decoder, whose weights stand there twice."""
    model = vae()
    page = Opened(tab, tmp_path / "page.html", widgets.decoder(model), widgets.decoder(model))
    for widget in range(2):
        assert far_from(page.picture(widget), model, torch.zeros(10).tolist()) <= 1 / 255
    assert [url for url in tab.requests() if not url.startswith("data:")] == [(tmp_path / "page.html").as_uri()]
