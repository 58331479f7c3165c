"""The built book as a reader meets it: every page in headless Chromium, with the network off."""

import base64
import csv
import http.server
import importlib.metadata
import io
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image
from tiny import notebook

from vaekit.claims.findings import BADGES

ROOT = Path(__file__).resolve().parents[1]
STUDIES = ("id_transition", "hierarchical_rates", "rate_generalisation", "pruning")
NARROW = 390  # CSS pixels: a phone held upright

# ---- the build, without a browser


def test_every_notebook_is_a_page_and_every_page_has_its_source():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    files = [toc["root"], *(chapter["file"] for part in toc["parts"] for chapter in part["chapters"])]
    studies = {Path(file).name for file in files if file.startswith("book/studies/")}
    assert studies == {path.stem for path in (ROOT / "notebooks").glob("*.py")}
    texts = {file for file in files if not file.startswith("book/studies/")}
    assert texts == {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}


def test_a_notebook_that_fails_is_named_and_spoils_no_other(tmp_path, capsys, build):
    cells = {"bad": "1 / 0", "good": "2 + 3", "scaled": 'scale = "quick"'}
    for name, source in cells.items():
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]} if name == "scaled" else {})
        notebook(tmp_path / f"{name}.ipynb", cell)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "bad.ipynb").write_text("the last good one")
    assert build.run_notebooks(tmp_path, tmp_path / "out", tmp_path / "kept") == ["bad.ipynb"]
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert (tmp_path / "out" / "bad.ipynb").read_text() == "the last good one"
    good = nbformat.read(tmp_path / "out" / "good.ipynb", as_version=4)
    assert good.cells[0].outputs[0].data["text/plain"] == "5"
    scaled = nbformat.read(tmp_path / "out" / "scaled.ipynb", as_version=4)
    assert "published" in scaled.cells[1].source
    assert str(tmp_path) not in (tmp_path / "out" / "scaled.ipynb").read_text()  # pages are offered for download
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bad.ipynb", "good.ipynb", "scaled.ipynb"]
    assert sorted(path.name.split("-")[0] for path in (tmp_path / "kept").iterdir()) == ["good", "scaled"]


@pytest.fixture
def packages(monkeypatch) -> list:
    """What is installed, as far as a build knows: to read the names of all packages takes longer than a test."""
    installed = [SimpleNamespace(name="torch", version="2.13.0")]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: installed)
    return installed


@pytest.mark.usefixtures("packages")
def test_outputs_are_made_anew_when_anything_but_prose_changes(tmp_path, monkeypatch, build):
    """What kernels do is another test's: here a notebook's only output is how often one has run."""
    (tmp_path / "results").mkdir()
    monkeypatch.setenv("VAEKIT_RESULTS", str(tmp_path / "results"))
    runs = itertools.count(1)

    def executed(path: Path) -> tuple[str, str, float]:
        done = nbformat.read(path, as_version=4)
        (cell,) = build.code(done)
        cell.outputs = [nbformat.v4.new_output("execute_result", {"text/plain": str(next(runs))})]
        if cell.source == "meddles":
            (tmp_path / "results" / "table.csv").write_text("2")
        return nbformat.writes(done), "", 0.0

    monkeypatch.setattr(build, "executed", executed)
    monkeypatch.setattr(build, "ProcessPoolExecutor", lambda *_: ThreadPoolExecutor(1))

    def shown(prose: str, source: str = "old") -> str:
        """What the page says after a build: the prose, and how often the code has run."""
        notebook(tmp_path / "a.ipynb", nbformat.v4.new_markdown_cell(prose), source)
        assert not build.run_notebooks(tmp_path, tmp_path / "out", tmp_path / "kept")
        text, code = nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).cells
        assert code.source == source
        return f"{text.source}: {code.outputs[0].data['text/plain']}"

    assert shown("old") == "old: 1"
    assert shown("new") == "new: 1"
    assert shown("new", "new") == "new: 2"
    assert len(list((tmp_path / "kept").iterdir())) == 1  # one a notebook
    (tmp_path / "results" / "table.csv").write_text("1")
    assert shown("new", "new") == "new: 3"
    # What changes while a notebook runs may or may not have been seen by it.
    assert shown("new", "meddles") == "new: 4"
    assert shown("new", "meddles") == "new: 5"
    assert shown("new", "meddles") == "new: 5"
    [place] = (tmp_path / "kept").iterdir()
    place.write_text(place.read_text()[:-9])
    assert shown("new", "meddles") == "new: 6"


def test_the_environment_is_known_by_content_and_not_by_time(tmp_path, monkeypatch, packages, build):
    for name in ("RESULTS", "DATA", "RUNS"):
        monkeypatch.setenv(f"VAEKIT_{name}", str(tmp_path / name))
    monkeypatch.setattr(build, "ROOT", tmp_path)
    places = ("vaekit/a.py", "benchmarks/results/a.csv", "RESULTS/a.csv")
    others = ("DATA/mnist.npz", "RUNS/classifiers/a.safetensors")
    known = [build.environment_hash()]

    def changed() -> bool:
        known.append(build.environment_hash())
        return known[-1] != known[-2]

    for path in map(tmp_path.joinpath, (*places, *others)):
        path.parent.mkdir(parents=True)
        path.write_text("1")
        assert changed(), path
        os.utime(path, (0, 0))
        assert not changed(), path
    for name in places:
        (tmp_path / name).write_text("2")
        assert changed(), name
    monkeypatch.setenv("VAEKIT_OTHER", "1")
    assert changed()
    packages[0].version += ".post1"
    assert changed()


def test_a_picture_becomes_lighter_only_where_nobody_can_tell(build):
    def base64_of(pixels: np.ndarray) -> str:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "png")
        return base64.b64encode(buffer.getvalue()).decode()

    def pixels_of(png: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"))

    # 256 colours are enough for all of it; transparent pixels lie on white paper.
    drawn = np.repeat(np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8), 4, axis=2)
    drawn[..., 3] = 255
    drawn[:9, :9] = (0, 0, 0, 0)
    lighter = build.lighter(base64_of(drawn))
    assert len(lighter) < len(base64_of(drawn)) / 2
    drawn[:9, :9] = 255
    assert np.abs(pixels_of(lighter).astype(int) - drawn[..., :3]).max() <= 2
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    assert np.array_equal(pixels_of(build.lighter(base64_of(noise))), noise)


CONFIG = """
title: small
only_build_toc_files: true
sphinx: {local_extensions: {pages: book}, config: {html_theme: sphinx_book_theme}}
"""


@pytest.mark.slow
def test_what_sphinx_has_read_is_used_again_but_no_warning_is_forgotten(tmp_path, monkeypatch, build):
    monkeypatch.setattr(build, "ROOT", tmp_path / "source")
    monkeypatch.setattr(build, "environment_hash", lambda: "the same")
    book, to = tmp_path / "source" / "book", tmp_path / "to"
    book.mkdir(parents=True)
    for name in ("pages.py", "downloads.py"):
        (book / name).write_text((ROOT / "book" / name).read_text())
    (book.parent / "_config.yml").write_text(CONFIG)
    (book.parent / "_toc.yml").write_text("format: jb-book\nroot: book/a\nchapters:\n- file: book/b\n")
    (book / "a.md").write_text("# A\n\nTo {doc}`b`.\n")

    def built(text: str) -> str:
        """What a build makes of page b, which is newer in no way that a clock tells."""
        (book / "b.md").write_text(text)
        os.utime(book / "b.md", (0, 0))
        return "" if build.build_pages(to) else (to / "_build" / "html" / "book" / "b.html").read_text()

    assert "first text" in built("# B\n\nfirst text\n")
    doctree = to / "_build" / ".doctrees" / "book" / "a.doctree"
    read = doctree.stat().st_mtime_ns
    assert "second text" in built("# Other\n\nsecond text\n")
    assert doctree.stat().st_mtime_ns == read  # the other page was not read again
    assert ">Other<" in (to / "_build" / "html" / "book" / "a.html").read_text()  # and has the new title all the same
    wrong = "# B\n\n```{nosuchdirective}\n```\n"
    assert not built(wrong)
    assert not built(wrong)  # Sphinx would not warn again of a page that it does not read again
    assert not (to / "_build" / "clean").exists()  # so the next one begins as the first did


def test_a_picture_without_alt_text_fails_the_build(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    path = f"import sys\nsys.path.insert(0, {str(ROOT / 'book')!r})\n"
    (source / "conf.py").write_text(path + "extensions = ['pages']\nhtml_theme = 'sphinx_book_theme'\n")
    pictures = {"none.svg": "", "some.svg": "A grey square"}
    images = "".join(f".. image:: {name}\n   :alt: {alt}\n\n" for name, alt in pictures.items())
    (source / "index.rst").write_text(f"Title\n=====\n\n{images}")
    for name in pictures:
        (source / name).write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>')
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", source, tmp_path / "html"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode, result.stderr
    assert re.findall("without alt text: (.*?)(?: \\[|$)", result.stderr, re.MULTILINE) == ["none.svg"]
    assert result.stderr.count("WARNING") == 1, result.stderr


def test_docstrings_become_plain_restructuredtext(build):
    from pages import docstring_to_rst

    lines = [
        "Of `nn.Module`s *only*, 2**32 of (*shape, n_train_).",
        "",
        "    a*b `c`",
        "",
        "    d",
        "",
        ">>> f(*x)",
        "1",
    ]
    docstring_to_rst(None, "function", "f", None, None, lines)
    first = r"Of ``nn.Module``\ s *only*, 2\*\*32 of (\*shape, n_train\_)."
    assert lines == [first, "", "::", "", "    a*b `c`", "", "    d", "", ">>> f(*x)", "1"]


def test_a_notebooks_downloads_are_made_from_what_it_shows_and_cites(tmp_path, monkeypatch, build):
    import downloads

    caption = {"mystnb": {"figure": {"name": "fig-x", "caption": "A figure."}}}
    picture = nbformat.v4.new_output("display_data", {"image/png": "", "text/csv": "beta,value\n1,2\n"})
    cells = [
        nbformat.v4.new_markdown_cell("# A study\n\nAfter {cite:t}`xiao2023trading`, not {cite}`kingma2014auto`."),
        nbformat.v4.new_code_cell("figure", metadata=caption, outputs=[picture]),
        nbformat.v4.new_code_cell("figure", outputs=[picture]),  # without a name it is no figure of the page
    ]
    study = nbformat.v4.new_notebook(cells=cells)
    texts = downloads.files("pruning", study)
    assert texts.keys() == {"fig-x.csv", "pruning.bib"}
    assert texts["fig-x.csv"] == "beta,value\n1,2\n"
    assert re.findall(r"^@\w+\{(\w+),$", texts["pruning.bib"], re.M) == ["xiao2023trading", "vaekit"]
    assert "Xiao, Tim Z." in texts["pruning.bib"]
    assert "version 0.1.0" in texts["pruning.bib"]
    assert texts["pruning.bib"].count("{") == texts["pruning.bib"].count("}")
    assert downloads.files("no study", study).keys() == {"fig-x.csv"}
    *_, last = downloads.linked("pruning", study).cells
    assert "{download}`fig-x.csv <pruning/fig-x.csv>`" in cells[1].metadata["mystnb"]["figure"]["caption"]
    # The command that it names is the one by which build.py runs a notebook of a scale.
    parameters = {}
    monkeypatch.setattr(build.papermill, "execute_notebook", lambda path, to, given, **_: parameters.update(given))
    build.run_by_papermill(ROOT / "notebooks" / "pruning.ipynb")
    options = " ".join(f"-p {name} {value}" for name, value in parameters.items())
    assert f"papermill notebooks/pruning.ipynb out.ipynb {options}`\n" in last.source
    study.cells[0].source = "# Nothing cited"
    assert re.findall(r"^@\w+\{(\w+),$", downloads.files("pruning", study)["pruning.bib"], re.M) == ["vaekit"]
    study.cells[0].source = "{cite}`nobody1900nothing`"
    with pytest.raises(ValueError, match="cites its paper first, but nobody1900nothing"):
        downloads.files("pruning", study)


@pytest.fixture(scope="session")
def book(tmp_path_factory) -> SimpleNamespace:
    """The book, built once, with an empty store and without image sets: as on a machine that was never used for it.

    `html` is the folder of its pages, `notebooks` that of the notebooks with their outputs, `places` what the store and
    the image sets would be in. VAEKIT_BOOK=…/_build/html takes a book that is there already.
    """
    to = tmp_path_factory.mktemp("book")
    places = [to / "runs", to / "data"]
    if not (html := os.environ.get("VAEKIT_BOOK")):
        command = [sys.executable, ROOT / "book" / "build.py", "--to", to]
        environment = os.environ | {"VAEKIT_RUNS": str(places[0]), "VAEKIT_DATA": str(places[1])}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        html = to / "_build" / "html"
    return SimpleNamespace(html=Path(html), notebooks=ROOT / "book" / "studies", places=places)


@pytest.fixture(scope="session")
def html(book) -> Path:
    """The folder of the built pages."""
    return book.html


def published(book, name: str) -> str:
    """The outputs of a notebook as the book has run it: at scale published, with an empty store and no image set."""
    assert not any(place.exists() for place in book.places)
    cells = nbformat.read(book.notebooks / f"{name}.ipynb", as_version=4).cells
    return json.dumps([cell.get("outputs", []) for cell in cells])


@pytest.mark.parametrize("name", [*STUDIES, "across"])
def test_each_study_is_published_without_training(book, name):
    outputs = published(book, name)
    assert not re.search(r"training \d+ of", outputs)
    assert outputs.count("<figure") >= (6 if name == "across" else 7)
    assert "widget-view" not in outputs


def test_first_fleet_trains_and_draws(book):
    outputs = published(book, "first_fleet")
    assert outputs.count('"image/png"') == 2
    assert outputs.count("finished") == 6


def pages(html: Path) -> list[str]:
    """The addresses of all pages, relative to the book; without the one at the top, which only leads to the first."""
    addresses = sorted(path.relative_to(html).as_posix() for path in html.rglob("*.html"))
    return [page for page in addresses if page != "index.html" and not page.startswith("_static/")]


def test_no_page_names_a_script_style_or_picture_of_another_host(html):
    loaded = re.compile(r"""<(?:script|link|img|iframe|source)\b[^>]*?(?:src|href)=["']?(?:https?:)?//[^\s>]*""")
    networks = re.compile(r"unpkg\.com|jsdelivr|cdnjs|googleapis|gstatic")
    for page in pages(html):
        text = (html / page).read_text()
        assert not loaded.findall(text), page
        assert not networks.findall(text), page
    for style in (html / "_static").rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import\s)["']?(?:https?:)?//""", style.read_text()), style.name


def test_the_top_leads_to_the_first_page(html):
    assert 'content="0; url=book/studies/index.html"' in (html / "index.html").read_text()


def test_the_book_is_small_enough_to_load_and_to_publish(html, build):
    sizes = build.page_sizes(html)
    assert set(sizes) >= set(pages(html))
    # What a widget computes with comes beside what is read and looked at.
    held = re.compile(r'<script type="application/json">.*?</script>', re.DOTALL)
    moved = {page: sum(map(len, held.findall((html / page).read_text()))) for page in sizes}
    assert not {page: size for page, size in moved.items() if size > 8e6}
    assert not {page: size for page, size in sizes.items() if size - moved[page] > 1.5e6}
    assert sum(path.stat().st_size for path in html.rglob("*") if path.is_file()) < 60e6


def test_no_page_or_download_names_a_path_of_the_machine_that_built_it(book, html):
    paths = {str(path) for path in (ROOT, Path.home(), sys.prefix, *book.places)} - {"/"}
    files = [path for name in ("_sources", "_downloads") for path in (html / name).rglob("*")]
    for path in [*(html / page for page in pages(html)), *files]:
        if path.is_file():
            assert not [name for name in paths if name.encode() in path.read_bytes()], path.relative_to(html)


class References(HTMLParser):
    """What a page refers to, and what in it can be referred to."""

    def __init__(self, page: Path):
        super().__init__()
        self.targets, self.ids = set(), set()
        self.feed(page.read_text())

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids |= {values[name] for name in ("id", "name") if values.get(name)}
        self.targets |= {values[name] for name in ("href", "src") if values.get(name)}


def broken_references(html: Path) -> dict[str, list[str]]:
    """Page -> each address, of a page, a file or a place in it, that leads nowhere within the pages of a folder."""
    known = {page: References(page) for page in html.rglob("*.html") if "_static" not in page.parts}
    broken = {}
    for page, references in known.items():
        for target in sorted(references.targets):
            url, anchor = urldefrag(target)
            if re.match(r"[a-z]+:|//", url):
                continue
            place = (page.parent / unquote(url.partition("?")[0])).resolve() if url else page
            ids = known[place].ids if place in known else None  # None: no page, so it has no places
            if not place.is_file() or (anchor and ids is not None and unquote(anchor) not in ids):
                broken.setdefault(page.relative_to(html).as_posix(), []).append(target)
    return broken


def test_a_reference_that_leads_nowhere_is_seen(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="#top"></a><a href="#none"></a><a href="b.html#x%20y"></a>'
        '<a href="b.html#none"></a>'
        '<a href="c.html"></a><img src="a.png"><img src="b.png"><a href="https://example.org/#x"></a><img src="data:,">'
    )
    (tmp_path / "b.html").write_text('<p id="x y"></p><a href="a.html?q=1#top"></a>')
    (tmp_path / "a.png").touch()
    assert broken_references(tmp_path) == {"a.html": ["#none", "b.html#none", "b.png", "c.html"]}


def test_every_link_picture_and_anchor_within_the_book_leads_somewhere(html):
    assert not broken_references(html)
    assert sum(len(References(html / page).targets) for page in pages(html)) > 500


@pytest.mark.parametrize("study", [*STUDIES, "across"])
def test_a_study_offers_its_notebook_its_data_and_what_to_cite(html, study):
    page = html / "book" / "studies" / f"{study}.html"
    section = BeautifulSoup(page.read_text(), "html.parser").select_one("section#downloads")
    offered = {link.get_text(): page.parent / link["href"] for link in section.select("a.download")}
    tables = {name: ROOT / "results" / study / name for name in ("members.csv", "measures.csv", "provenance.json")}
    own = {f"{study}.ipynb", f"{study}.py", f"{study}.bib"}
    assert offered.keys() == own | tables.keys()
    for name, source in {f"{study}.py": ROOT / "notebooks" / f"{study}.py", **tables}.items():
        assert offered[name].read_bytes() == source.read_bytes()
    assert any(cell.get("outputs") for cell in nbformat.read(offered[f"{study}.ipynb"], as_version=4).cells)
    assert re.findall(r"^@\w+\{(\w+),$", offered[f"{study}.bib"].read_text(), re.M)[1:] == ["vaekit"]
    assert f"papermill notebooks/{study}.ipynb" in section.get_text()


def same(cell: str, other: str) -> bool:
    try:
        return float(cell) == float(other)
    except ValueError:
        return cell == other


@pytest.mark.parametrize("study", STUDIES)
def test_each_figure_of_a_study_offers_the_rows_of_the_results_that_it_draws(html, study):
    page = html / "book" / "studies" / f"{study}.html"
    folder = ROOT / "results" / study
    members = {}
    for row in rows_of(folder / "members.csv"):
        members[row["key"][:12]] = {name.rpartition(".")[2]: cell for name, cell in row.items()}
        if row.get("noise") == "":  # a figure names it
            members[row["key"][:12]]["noise"] = "fresh"
    measured = defaultdict(dict)
    for row in rows_of(folder / "measures.csv"):
        place = row["measure"], row["arguments"], row["part"], row["step"]
        measured[place][row["member"]] = float(row["value"])
    exact = 0
    figures = BeautifulSoup(page.read_text(), "html.parser").select("figure.vk-figure")
    assert [figure["id"] for figure in figures] == [f"{study[0].upper()}{i}" for i in range(1, len(figures) + 1)]
    offered = [(figure, link) for figure in figures for link in figure.select("figcaption a[download]")]
    stamped = [
        figure for figure in figures if re.match(r"\s*\w+\. [\d,]+ of [\d,]+ steps\.", figure.figcaption.get_text())
    ]
    assert len(offered) >= len(figures) - len(stamped) - 5  # the quick scale, the network, and images have none
    for figure, link in offered:
        assert link.get_text() == f"{figure['id']}.csv"
        lines = (page.parent / link["href"]).read_text().splitlines()
        comment = [line for line in lines if line.startswith("#")]
        named = {line.removeprefix("# ").partition(": ")[0] for line in comment}
        assert {"vaekit", "in all rows", "seed", "data_identity", "hardware", "wall time of training"} <= named
        rows = list(csv.DictReader(lines[len(comment) :]))
        settings = rows[0].keys() & members[next(iter(members))].keys() - {"channels", "decoder", "sampled"}
        for row in rows[:: max(1, len(rows) // 50)]:
            values = [
                value
                for step in row["step"].split()  # several, where members stopped at different ones
                for key, value in measured[row["measure"], row["arguments"], row["part"], step].items()
                if all(same(row[name], members[key][name]) for name in settings)
            ]
            assert min(values) - 1e-9 <= float(row["value"]) <= max(values) + 1e-9
            if len(values) == int(row["seeds"]):  # else its settings do not tell: a figure may draw fewer seeds
                exact += 1
                assert float(row["value"]) == pytest.approx(statistics.mean(values), rel=1e-9)
    assert exact > 20


# ---- the numbers, by a path of their own: from the CSV to the page without pandas, tidy or figures


def tables(page: Path) -> list[list[dict[str, str]]]:
    """The text tables of a page, as rows by column heading."""
    elements = BeautifulSoup(page.read_text(), "html.parser").select("table.vaekit-table, table.vk-table")
    cells = [[[cell.get_text(strip=True) for cell in row.select("th, td")] for row in t.select("tr")] for t in elements]
    return [[dict(zip(head, row, strict=True)) for row in rows] for head, *rows in cells]


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def finals(study: str) -> list[tuple[dict[str, str], dict[str, str]]]:
    """(member, value) for every value of a study's results at the last step of its member."""
    members = {row["key"][:12]: row for row in rows_of(ROOT / "results" / study / "members.csv")}
    values = ((members[row["member"]], row) for row in rows_of(ROOT / "results" / study / "measures.csv"))
    return [(member, row) for member, row in values if row["step"] == member["steps"]]


def test_the_study_shows_the_numbers_of_its_results(html):
    ends = defaultdict(list)
    for member, row in finals("rate_generalisation"):
        named = member["split"] in ("cv", "random") and member["n_train"] in ("4096", "16384", "81920", "")
        named = named and (member["data"], member["model"]) == ("tetrominoes", "dense_vae")
        if named and member["weights.beta"] and row["value"]:
            split = {"cv": "CV", "random": "random half"}[member["split"]]
            images = split + (f"({int(member['n_train']):,})" if member["n_train"] else "")
            point = images, int(member["steps"]), int(member["model_args.hidden"]), int(member["model_args.depth"])
            if row["arguments"] in ("", "samples=1"):
                ends[(*point, float(member["weights.beta"]), row["measure"], row["part"])].append(float(row["value"]))
    of_page = tables(html / "book/studies/rate_generalisation.html")
    shown = [row for table in of_page if table and "D (test)" in table[0] for row in table]
    points = {point[:5] for point in ends}
    betas = defaultdict(set)
    for *budget, _, beta in points:
        betas[tuple(budget)].add(beta)
    # One beta makes no curve, and a budget of one or two members stands back.
    assert len(shown) == len([point for point in points if len(betas[point[:3]]) > 2])
    for row in shown:
        point = row["images"], int(row["steps"].replace(",", "")), int(row["units"]), int(row["layers"])
        for name, measure in {"R": "rate", "D": "distortion", "floor": "distortion_floor"}.items():
            for part in ("train", "test"):
                values = ends[(*point, float(row["beta"]), measure, part)]
                mean, *spread = row[f"{name} ({part})"].split(" ± ")
                assert float(mean) == pytest.approx(statistics.mean(values), abs=0.051)
                if spread:
                    assert float(spread[0]) == pytest.approx(statistics.stdev(values), abs=0.051)
                assert len(values) == int(row["seeds"])


def test_the_other_studies_show_the_numbers_of_their_results(html):
    layers = {"z": "layer=5", "output": "layer=10"}
    of_dimensions = [table for table in tables(html / "book/studies/id_transition.html") if "prominence" in table[0]]
    ends = finals("id_transition")
    for row in [row for table in of_dimensions for row in table]:
        for name, arguments in layers.items():
            values = [
                float(value["value"])
                for member, value in ends
                if (member["data"], member["model_args.latent_dim"]) == (row["images"], row["K"])
                and round(int(member["steps"]) * int(member["batch_size"]) / int(member["n_train"]))
                == int(row["epochs"])
                and not member.get("noise")  # frozen noise is another page's
                and (value["measure"], value["arguments"]) == ("intrinsic_dimension", arguments)
            ]
            assert len(values) == int(row["seeds"])
            assert float(row[name].split(" ± ")[0]) == pytest.approx(statistics.mean(values), abs=0.051)
    of_pruning = [table for table in tables(html / "book/studies/pruning.html") if "accuracy (%)" in table[0]]
    accuracies = [row for table in of_pruning for row in table]
    for row, before in zip(accuracies, [{"budget": ""}, *accuracies], strict=False):
        row["budget"] = row["budget"] or before["budget"]  # it stands in the first of its rows
    trained = [row for row in accuracies if row["network"] == "before pruning" and ", MNIST," in row["budget"]]
    assert trained
    for row in trained:
        (steps,) = re.findall(r"([\d,]+) \+ [\d,]+ steps", row["budget"])
        objective = "classifier_sum" if row["reading"].startswith("sum") else "classifier_pixel_mean"
        of_row = [
            (int(member["code_version"]), float(value["value"]))
            for member, value in finals("pruning")
            if (member["arm"], member["data"], member["objective"]) == ("", "mnist", objective)
            and member["model_args.decoder"] == "true"
            and int(member["steps"]) == int(steps.replace(",", ""))
            and float(member["weights.beta"]) == float(row["beta"])
            and (value["measure"], value["part"]) == ("accuracy", "test")
        ]
        newest = max(version for version, _ in of_row)  # members of older code are a budget of their own
        values = [value for version, value in of_row if version == newest]
        assert len(values) == int(row["seeds"])
        assert float(row["accuracy (%)"].split(" ± ")[0]) == pytest.approx(100 * statistics.mean(values), abs=0.0051)
    of_probes = [table for table in tables(html / "book/studies/hierarchical_rates.html") if "RBF SVM" in table[0]]
    probed = [row for table in of_probes for row in table]
    one_seed = next(
        row for row in probed if row["budget"].startswith("GHVAE") and "CIFAR-10 (JPEG copy), 1 seed" in row["budget"]
    )
    best = max(
        float(value["value"])
        for member, value in finals("hierarchical_rates")
        if (member["model"], member["data"]) == ("ghvae", "cifar10_jpeg")
        and value["arguments"] == "probe=rbf_svm,on=mu2"
    )
    assert float(one_seed["RBF SVM"].split()[0]) == pytest.approx(100 * best, abs=0.0051)


def test_the_ledger_the_studies_and_the_first_page_say_the_same(html):
    def page(name: str) -> BeautifulSoup:
        return BeautifulSoup((html / f"book/studies/{name}.html").read_text(), "html.parser")

    lines = page("scorecard").select("details.vk-line")
    outcomes = {line.select_one("summary b").get_text(): line["data-outcome"] for line in lines}
    assert len(outcomes) == len(lines) == 52
    for number, study in enumerate(STUDIES, start=1):
        shown = page(study)
        badges = {
            place["id"].removeprefix("claim-").replace("-", "."): place.select_one(".vk-badge")["class"][1][3:]
            for place in shown.select('[id^="claim-"]')
        }
        own = {claim: outcome for claim, outcome in outcomes.items() if claim.startswith(f"{number}.")}
        assert badges == {claim: BADGES[outcome].replace(" ", "-") for claim, outcome in own.items()}
        linked = [link.get_text() for link in shown.select(".vk-badges a")]
        assert sorted(linked) == sorted(own)
    first = page("index")
    counted = [outcome for outcome in outcomes.values() if "not counted" not in outcome]
    assert len(first.select(".vk-strip a")) == len(counted) == 51
    decided = f"{counted.count('reproduced')} reproduced, {counted.count('not reproduced')} refused"
    assert f"51 claims, {decided}" in first.select_one("h1").get_text()
    for link in first.select(".vk-strip a"):
        number = link["aria-label"].partition(",")[0]
        assert link["class"] == [f"vk-{BADGES[outcomes[number]].replace(' ', '-')}"]


# ---- the pages, in a browser

FACTS = """(() => {
    const all = (selector) => [...document.querySelectorAll(selector)];
    return {
        formulas: all(".math").length,
        unset: all(".math").filter((e) => !e.querySelector("mjx-container")).map((e) => e.textContent.slice(0, 80)),
        faulty: all("[data-mjx-error], mjx-merror").map((e) => e.dataset.mjxError || e.textContent),
        dollars: all("main :is(p, li, summary, td, th, h1, h2, h3)").map((e) => e.cloneNode(true))
            .map((e) => (e.querySelectorAll("pre, code, .math").forEach((c) => c.remove()), e.textContent))
            .filter((text) => /\\$[^$]+\\$/.test(text)),
        pictures: [...document.images].map((i) => [i.src, i.alt.trim(), i.complete && i.naturalWidth > 0]),
        headings: all(".bd-article h1").length,
    };
})()"""

# Elements that reach beyond the right edge and can be neither scrolled to nor are meant to be outside.
TOO_WIDE = """(() => {
    const boxed = (e) => { for (; e && !e.matches("main"); e = e.parentElement)
        if (["auto", "scroll"].includes(getComputedStyle(e).overflowX)) return true; return false; };
    const outside = (e) => { const b = e.getBoundingClientRect(); return b.right > innerWidth + 1 && b.width > 1; };
    const found = [...document.querySelectorAll("main *")].filter((e) => outside(e) && !boxed(e)
        && e.checkVisibility({ visibilityProperty: true }) && !e.closest("mjx-assistive-mml, .visually-hidden"));
    return { page: document.documentElement.scrollWidth, found: found.map((e) => e.outerHTML.slice(0, 99)) };
})()"""

# Text whose contrast with what is behind it (WCAG 2, 1.4.3) is under 3, in the theme that is named.
FAINT = """(async (theme) => {
    const still = document.createElement("style");
    still.textContent = "* { transition: none !important; }";
    document.head.append(still);
    document.documentElement.dataset.theme = document.documentElement.dataset.mode = theme;
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const context = Object.assign(document.createElement("canvas"), { width: 1, height: 1 })
        .getContext("2d", { willReadFrequently: true });
    const known = {};
    const rgba = (colour) => known[colour] ??= (() => {
        context.clearRect(0, 0, 1, 1); context.fillStyle = colour; context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    })();
    const behind = (e) => { for (; e; e = e.parentElement) {
        const colour = rgba(getComputedStyle(e).backgroundColor); if (colour[3] > 128) return colour; }
        return theme == "dark" ? [0, 0, 0, 255] : [255, 255, 255, 255]; };
    const light = (c) => [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
        const v = c[i] / 255; return sum + weight * (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); }, 0);
    const faint = new Set();
    for (const e of document.querySelectorAll("main *, nav *")) {
        const text = [...e.childNodes].filter((n) => n.nodeType == 3).map((n) => n.data.trim()).join("");
        if (!text || e.closest("svg, script, style, mjx-container")) continue;
        if (!e.checkVisibility({ visibilityProperty: true })) continue;
        const [a, b] = [light(rgba(getComputedStyle(e).color)), light(behind(e))];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (contrast < 3) faint.add(`${contrast.toFixed(1)}: ${text.slice(0, 60)}`);
    }
    return [...faint];
})"""


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def address(html):
    """Where the book is served."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(html)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="session")
def visits(html, address, tab) -> dict[str, dict]:
    """What each page showed, asked for and reported: wide and narrow, light and dark."""
    facts_by_page = {}
    for page in pages(html):
        tab.open(address + page)
        facts = tab.evaluate(FACTS)
        facts["faint"] = {theme: tab.evaluate(f"{FAINT}('{theme}')") for theme in ("light", "dark")}
        tab.resize(NARROW)
        facts["narrow"] = tab.evaluate(TOO_WIDE)
        facts["errors"], facts["requests"] = tab.errors(), tab.requests()
        facts_by_page[page] = facts
    return facts_by_page


def written(visits: dict) -> dict:
    """The pages that are the book's own, not the theme's search page."""
    return {page: facts for page, facts in visits.items() if page.startswith("book/")}


def wrong(visits: dict, problem) -> dict:
    """Page -> `problem(facts)`, of the pages where that is not empty."""
    return {page: faults for page, facts in visits.items() if (faults := problem(facts))}


@pytest.mark.browser
class TestPages:
    def test_no_page_asks_another_host_for_anything(self, visits, address):
        local = (address, "data:", "blob:")
        assert all(facts["requests"] for facts in visits.values())
        assert not wrong(visits, lambda facts: [url for url in facts["requests"] if not url.startswith(local)])

    def test_no_page_reports_an_error(self, visits):
        assert not wrong(visits, lambda facts: facts["errors"])

    def test_every_formula_is_set(self, visits):
        assert visits["book/studies/index.html"]["formulas"] > 0
        assert not wrong(visits, lambda facts: facts["unset"] + facts["faulty"] + facts["dollars"])

    def test_every_picture_loads_and_says_what_it_shows(self, visits):
        assert visits["book/studies/index.html"]["pictures"]
        assert not wrong(visits, lambda facts: [src for src, alt, loaded in facts["pictures"] if not (alt and loaded)])

    def test_every_page_has_one_title(self, visits):
        assert not wrong(written(visits), lambda facts: facts["headings"] != 1)

    def test_nothing_reaches_beyond_a_narrow_screen(self, visits):
        assert not wrong(visits, lambda facts: facts["narrow"]["found"])
        assert not wrong(visits, lambda facts: facts["narrow"]["page"] > NARROW)

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_text_can_be_read(self, visits, theme):
        assert not wrong(written(visits), lambda facts: facts["faint"][theme])

    def test_the_search_finds_a_word(self, tab, address):
        tab.open(address + "search.html?q=distortion")
        hits = "document.querySelectorAll('ul.search li a').length"
        deadline = time.monotonic() + 10
        while not (count := tab.evaluate(hits)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert count

    def test_the_book_opens_from_a_folder_too(self, tab, html):
        """Without a server: file://, where a browser refuses modules and fonts by address."""
        tab.open((html / "book" / "studies" / "index.html").as_uri())
        facts = tab.evaluate(FACTS)
        assert facts["formulas"] > 0
        assert not facts["unset"] + facts["faulty"]
        assert all(loaded for _, _, loaded in facts["pictures"])
        assert all(url.startswith(("file:", "data:")) for url in tab.requests())

    def test_what_can_be_moved_on_a_page_moves_without_a_server(self, visits, tab, html):
        """By the keyboard: the first slider with two stops of each widget. From file://, with the network off."""
        looks = """[...document.querySelectorAll(".vaekit-widget")].map((widget) =>
            [widget.ariaLabel, widget.querySelector("canvas")?.toDataURL() ?? widget.innerText])"""
        moved = {}
        for page in written(visits):
            if 'class="vaekit-widget' not in (html / page).read_text():
                continue
            tab.open((html / page).as_uri(), NARROW)
            for i, (name, before) in enumerate(tab.evaluate(looks)):
                widget = f"document.querySelectorAll('.vaekit-widget')[{i}]"
                tab.evaluate(f"{widget}.querySelector('input[type=range]:enabled').focus()")
                moved[page, name] = False
                for key, code in (("ArrowRight", 39), ("ArrowLeft", 37), ("ArrowLeft", 37)):
                    tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code)
                    deadline = time.monotonic() + 5  # a decoder's weights come at the first touch
                    while not moved[page, name] and time.monotonic() < deadline:
                        moved[page, name] = tab.evaluate(looks)[i][1] != before
            assert not [error for error in tab.errors() if "webfonts" not in error]
            assert all(url.startswith(("file:", "data:")) for url in tab.requests())
        assert len(moved) >= 6  # a playground of each study, that of the first page, and first_fleet's decoder
        assert all(moved.values()), moved


@pytest.mark.browser
@pytest.mark.usefixtures("tab", "build")
def test_a_study_can_be_printed(html, tmp_path, build):
    import pdf

    assert pdf.main(["rate_generalisation", "--html", str(html), "--to", str(tmp_path / "a.pdf")]) == 0
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


@pytest.mark.browser
def test_paper_shows_the_text_alone_in_light_colours(tab, address):
    """As print lays it out on A4's width, whatever the reader's theme."""
    tab.open(f"{address}book/studies/rate_generalisation.html", width=680)
    tab.evaluate("document.documentElement.dataset.theme = 'dark'")
    tab.evaluate("dispatchEvent(new Event('beforeprint'))")
    tab.call("Emulation.setEmulatedMedia", media="print")
    shown = """(selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility()).length"""
    for gone in (".bd-sidebar-primary", ".bd-sidebar-secondary", ".bd-header-article", ".bd-footer", ".copybtn"):
        assert tab.evaluate(f"({shown})('{gone}')") == 0, gone
    for there in ("h1", "figure img", "figcaption a", "pre", "table"):
        assert tab.evaluate(f"({shown})('.bd-article {there}')") > 0, there
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    too_wide = """[...document.querySelectorAll(".bd-article *")].filter((e) => e.checkVisibility()
        && !e.closest("mjx-container, .visually-hidden, svg *, .vaekit-widget img") // what a widget cuts off itself
        && e.getBoundingClientRect().right > innerWidth + 1)
        .map((e) => e.outerHTML.slice(0, 99))"""
    assert not tab.evaluate(too_wide)
    tab.call("Emulation.setEmulatedMedia", media="")
    tab.evaluate("dispatchEvent(new Event('afterprint'))")
    assert tab.evaluate("document.documentElement.dataset.theme") == "dark"


@pytest.mark.parametrize(
    ("built", "page", "says"),
    [([], "a", "make book"), (["a", "b"], "c", "there are a, b"), (["a"], "a", "Chromium is not installed")],
)
def test_what_cannot_be_printed_is_one_line(tmp_path, monkeypatch, built, page, says, build):
    import pdf

    monkeypatch.setenv("PATH", str(tmp_path))
    for name in built:
        (tmp_path / "book" / "studies").mkdir(parents=True, exist_ok=True)
        (tmp_path / "book" / "studies" / f"{name}.html").touch()
    with pytest.raises(SystemExit, match=says):
        pdf.main([page, "--html", str(tmp_path), "--to", str(tmp_path / "x.pdf")])
    assert not (tmp_path / "x.pdf").exists()
