"""CONTRIBUTING's study, as it stands there: six places, and all that knows studies knows it."""

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PLACES = {
    "vaekit/studies/tiny/__init__.py",
    "vaekit/studies/tiny/claims.py",
    "vaekit/studies/tiny/figures.py",
    "vaekit/studies/__init__.py",
    "notebooks/tiny",
    "_toc.yml",
}


def written() -> dict[str, str]:
    """The files of CONTRIBUTING's study: each block names its own in its first line."""
    blocks = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    return dict(blocks)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A checkout with that study in it, registered as CONTRIBUTING says."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("vaekit", "notebooks", "book"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "studies/*.html"))
    (root / "_toc.yml").write_text((ROOT / "_toc.yml").read_text())
    before = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    for name, content in written().items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(content)
    listed, contents = root / "vaekit/studies/__init__.py", root / "_toc.yml"
    listed.write_text(re.sub(r"^(PAPERS = .*)\)$", r'\1, "tiny")', listed.read_text(), flags=re.M))
    line = "      - file: book/studies/scorecard\n"
    contents.write_text(contents.read_text().replace(line, "      - file: book/studies/tiny\n" + line))
    run(root, "book/pairs.py", "--write")
    after = {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    changed = {name for name, content in after.items() if before.get(name) != content and "__pycache__" not in name}
    assert {re.sub(r"^(notebooks/\w+)\..*", r"\1", name) for name in changed} == PLACES
    return root


# The two pages alone, with a picture in place of each figure: what their notebooks compute is another test's.
PAGES = """
import sys
import nbformat
sys.path.insert(0, "book")
import build

build.PAGES.mkdir(exist_ok=True)
for name in ("first_fleet", "mine"):
    page = build.prepared(build.ROOT / "notebooks" / f"{name}.ipynb")
    for cell in page.cells:
        if "mystnb" in cell.metadata:
            data = {"image/png": build.lighter(PICTURE)}
            cell.outputs = [nbformat.v4.new_output("display_data", data)]
    nbformat.write(page, build.PAGES / f"{name}.ipynb")
sys.exit(build.build_pages(build.ROOT))
"""


def test_a_copy_of_first_fleet_is_in_step_and_a_page(tmp_path):
    """As CONTRIBUTING says, command by command."""
    for name in ("notebooks", "book"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "studies"))
    shutil.copy(ROOT / "_config.yml", tmp_path)
    text = (ROOT / "CONTRIBUTING.md").read_text()
    command, listed = re.search(r"`(cp .*?)`", text)[1], re.search(r"`- file: (book/studies/mine)`", text)[1]
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    run(tmp_path, "book/pairs.py", "--write")
    assert "in step" in run(tmp_path, "book/pairs.py")
    for cell in nbformat.read(tmp_path / "notebooks/mine.ipynb", as_version=4).cells:
        assert not re.search(r"^(def |async |class (?!\w+\(nn\.Module\)))", cell.source, re.M)
    (tmp_path / "_toc.yml").write_text(
        f"format: jb-book\nroot: book/studies/first_fleet\nchapters:\n- file: {listed}\n"
    )
    png = base64.b64encode(picture()).decode()
    run(tmp_path, "-c", f"PICTURE = {png!r}{PAGES}")  # where Sphinx warns, of two figures of one name, it fails
    for name in ("first_fleet", "mine"):
        page = (tmp_path / f"_build/html/book/studies/{name}.html").read_text()
        names = re.findall(r'<figure[^>]* id="([^"]*)"', page)
        ends = name.replace("_", "-")
        assert names == [f"fig-first-fleet-{ends}", f"fig-first-fleet-reconstructions-{ends}"]


def picture() -> bytes:
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "png")
    return content.getvalue()


def run(root: Path, *arguments: str) -> str:
    """Run Python in the checkout, on its package, with its own store and results."""
    places = {f"VAEKIT_{name.upper()}": str(root / name) for name in ("runs", "results", "data")}
    environment = os.environ | places | {"PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=root, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


# What knows the study, in one process: the command line, its table from results/, and the scorecard.
COMMANDS = """
from vaekit.__main__ import main
from vaekit.studies import ledger, tiny

for command in ("train tiny --dry-run -p steps 20", "runs list tiny", "export tiny"):
    assert main(command.split()) == 0
    print("---")
print(tiny.run(tiny.Settings.at("published", betas=1))["beta"].unique(), "---", sep="\\n")
print(ledger.verdicts()[-1].number)
"""


def test_its_settings_members_and_measures_take_thirty_lines_or_so():
    code = written()["vaekit/studies/tiny/__init__.py"]
    assert len([line for line in code.splitlines() if line.strip() and '"""' not in line]) <= 45


@pytest.mark.slow
def test_a_study_of_six_places_is_trained_drawn_judged_and_published(checkout):
    out = checkout / "out.ipynb"
    papermill = ["-m", "papermill", "notebooks/tiny.ipynb", str(out), "--no-progress-bar"]
    run(checkout, *papermill, "-p", "betas", "[0.1, 1, 10]", "-p", "steps", "20")
    cells = nbformat.read(out, as_version=4).cells
    outputs = json.dumps([cell.get("outputs", []) for cell in cells])
    assert re.search(r"training \d of 3 members", outputs)
    assert "20 of at least 5,000 steps" in outputs
    assert "text/csv" in outputs
    assert "image/png" in outputs

    planned, listed, exported, published, last_claim = run(checkout, "-c", COMMANDS).split("---\n")
    assert "3 members known, 0 to be measured" in planned
    assert listed.count("tetrominoes") == 3
    assert exported.startswith("3 members, 60 values")
    assert published.strip() == "[1.]"
    assert last_claim.strip() == "5.1"
