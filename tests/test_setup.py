"""The files that set the project up say the same thing, and name no machine."""

import importlib
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from vaekit import studies

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SYSTEMS = {"linux": ("Linux", "x86_64"), "darwin": ("Darwin", "arm64")}


def requirements(path: Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in path.read_text().splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def marker_environment(python: str, system: str) -> dict[str, str]:
    name, machine = SYSTEMS[system]
    return {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": system,
        "platform_system": name,
        "platform_machine": machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "extra": "",
    }


def pins(python: str = "3.11", system: str = "linux") -> dict[str, str]:
    """Canonical name -> version, of the lock's lines that hold for this Python and system."""
    environment = marker_environment(python, system)
    lines = [r for r in requirements(ROOT / "requirements.lock") if not r.marker or r.marker.evaluate(environment)]
    return {canonicalize_name(r.name): str(r.specifier).removeprefix("==") for r in lines}


def test_every_line_of_the_lock_is_one_exact_public_pin():
    lines = requirements(ROOT / "requirements.lock")
    assert all(re.fullmatch(r"==[0-9][0-9a-z.]*", str(r.specifier)) and not r.url for r in lines)
    names = [canonicalize_name(r.name) for r in lines]
    assert len(names) == len(set(names)) > 100
    assert "vaekit" not in names


def test_the_lock_keeps_the_versions_the_design_rests_on():
    locked = pins()
    assert int(locked["jupyter-book"].split(".")[0]) < 2  # version 2 reads neither _config.yml nor _toc.yml
    assert locked["numpy"].startswith("1.26.")
    assert (locked["torch"], locked["torchvision"]) == ("2.13.0", "0.28.0")


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("python", ["3.11", "3.12"])
def test_the_lock_is_closed_under_dependencies(python, system):
    """What a locked package needs is locked too, at a version it takes. (torch's CUDA packages come with its build.)"""
    locked, environment = pins(python, system), marker_environment(python, system)
    missing = []
    for name in locked:
        try:
            needs = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # a pin for another Python or system than this one
        for need in map(Requirement, needs):
            if need.marker and not need.marker.evaluate(environment):
                continue
            if name == "torch" and re.match(r"nvidia|cuda|triton", need.name):
                continue
            version = locked.get(canonicalize_name(need.name))
            if version is None or not need.specifier.contains(version, prereleases=True):
                missing.append(f"{name} needs {need}; the lock has {version}")
    assert not missing


def test_the_lock_satisfies_every_extra_of_the_package():
    locked, project = pins(), PYPROJECT["project"]
    wanted = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    for need in map(Requirement, wanted):
        assert need.specifier.contains(locked[canonicalize_name(need.name)]), f"{need} is not what is locked"


def test_what_is_installed_here_is_what_is_locked():
    """Else the other tests say nothing about the lock. A local label (torch's +cpu) is the same version."""
    # Whoever imported setuptools, as torch's compiler does, sees the copies that it carries, too.
    distributions = [d for d in importlib.metadata.distributions() if "_vendor" not in str(d.locate_file(""))]
    installed = {canonicalize_name(d.name): d.version.split("+")[0] for d in distributions}
    here = pins(f"{sys.version_info.major}.{sys.version_info.minor}", sys.platform)
    differ = {name: (version, installed.get(name)) for name, version in here.items() if installed.get(name) != version}
    assert not differ, "run make test, which installs the lock into .venv"


def test_the_conda_environment_has_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *plain, pip = environment["dependencies"]
    lines = pip["pip"]
    files = [ROOT / line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
    pinned = {canonicalize_name(r.name): str(r.specifier)[2:] for file in files for r in requirements(file)}
    locked = {canonicalize_name(r.name): str(r.specifier)[2:] for r in requirements(ROOT / "requirements.lock")}
    assert pinned == locked
    assert [line for line in lines if not line.startswith("-r ")] == ["-e ."]
    assert plain in (["python=3.11", "pip"], ["python=3.12", "pip"])  # no version is named twice


def fake_path(folder: Path, **interpreters: str) -> str:
    """A PATH of POSIX tools and the given interpreters, each a line of shell."""
    folder.mkdir(parents=True)
    for tool in ("sh", "make", "true"):
        (folder / tool).symlink_to(subprocess.run(["which", tool], capture_output=True, text=True).stdout.strip())
    for name, line in {"python3.11": "", "python3.12": "", "python3": "", "python": "", **interpreters}.items():
        (folder / name).write_text(f"#!/bin/sh\n{line or 'exit 127'}\n")
        (folder / name).chmod(0o755)
    return str(folder)


def dry_make(folder: Path, path: str, target: str = ".venv/stamp") -> subprocess.CompletedProcess:
    """`make -n` on a bare copy of the set-up files, in a folder whose name has a space."""
    folder.mkdir()
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text())
    environment = {"PATH": path}
    return subprocess.run(["make", "-n", target], cwd=folder, env=environment, capture_output=True, text=True)


def test_make_takes_the_first_python_that_really_runs(tmp_path):
    real = f'exec "{sys.executable}" "$@"'
    result = dry_make(tmp_path / "a clone", fake_path(tmp_path / "bin", **{"python3.12": real}))
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("python3.12 -m venv .venv")


def test_make_says_in_one_line_that_no_python_will_do(tmp_path):
    too_new = f'exec "{sys.executable}" -c "import sys; sys.exit(1)"'
    result = dry_make(tmp_path / "a clone", fake_path(tmp_path / "bin", python3=too_new), target="book")
    assert result.returncode != 0
    assert "needs Python 3.11 or 3.12" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_make_has_the_commands_and_none_is_mistaken_for_a_folder():
    text = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split())
    assert {"book", "test", "test-slow", "check", "lab", "results"} <= phony
    assert phony <= set(re.findall(r"^([a-z-]+):", text, re.M))


def test_make_results_covers_every_study(capsys):
    loop = r"^results:.*\n\tfor study in \$\$\(\$\(PY\) -c '(.*)'\);"
    exec(re.search(loop, (ROOT / "Makefile").read_text(), re.M)[1])
    assert capsys.readouterr().out.split() == [*studies.NAMES]


CHECKS = ["check", "test", "test-slow"]


def test_ci_runs_each_check_once():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line.split()[1] for line in lines if re.match(r"make (check|test)\b", line)] == CHECKS
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_each_test_is_of_one_of_the_two_commands():
    commands = re.findall(r"^(test[\w-]*):.*\n\t\$\(TEST\) (.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert commands == [("test", '-m "not slow"'), ("test-slow", "-m slow")]


def workflow(name: str) -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


@pytest.mark.parametrize(("name", "commands"), [("ci", [f"make {name}" for name in CHECKS]), ("book", ["make book"])])
def test_a_workflow_runs_what_the_makefile_has_with_least_permissions(name, commands):
    known = workflow(name)
    steps = [step for job in known["jobs"].values() for step in job["steps"]]
    assert [step["run"] for step in steps if "run" in step] == commands
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert {command.split()[1] for command in commands} <= targets
    assert known["permissions"] == {"contents": "read"}
    assert known["concurrency"]["group"].endswith("${{ github.ref }}")
    used = [step["uses"] for step in steps if "uses" in step]
    assert all(re.fullmatch(r"actions/[a-z-]+@v\d+", action) for action in used), used
    assert known[True]["push"] == {"branches": ["main"]}  # to YAML, `on` is a truth value
    assert "pull_request" in known[True]
    (python,) = [step["with"] for step in steps if "setup-python" in step.get("uses", "")]
    assert python["python-version"] == "3.12"
    assert (ROOT / python["cache-dependency-path"]).is_file()


def test_the_site_is_what_the_build_makes_and_only_main_is_published(build, monkeypatch, capsys):
    jobs = workflow("book")["jobs"]
    (upload,) = [step for step in jobs["build"]["steps"] if "upload-pages-artifact" in step.get("uses", "")]
    monkeypatch.setattr(build, "run_notebooks", lambda *_: [])
    monkeypatch.setattr(build, "build_pages", lambda _: 0)
    monkeypatch.setattr(build, "PAGES", ROOT / "no such folder")
    assert build.main([]) == 0
    assert capsys.readouterr().out == f"The book: {ROOT / upload['with']['path'] / 'index.html'}\n"
    deploy = jobs["deploy"]
    assert "permissions" not in jobs["build"]
    assert deploy["permissions"] == {"pages": "write", "id-token": "write"}
    assert deploy["needs"] == "build"
    assert "github.ref == 'refs/heads/main'" in deploy["if"]
    assert "github.event_name != 'pull_request'" in deploy["if"]
    assert deploy["environment"]["name"] == "github-pages"
    (published,) = [step for step in deploy["steps"] if "deploy-pages" in step["uses"]]
    assert f"steps.{published['id']}.outputs.page_url" in deploy["environment"]["url"]


def test_one_version_is_named_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PYPROJECT["project"]["version"] == importlib.metadata.version("vaekit")
    assert citation["license"] == PYPROJECT["project"]["license"]


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode or not listing.stdout:  # unpacked inside of another's repository, say
        pytest.skip("not a git checkout, so there is no list of tracked files")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


# Put together here, so that this file does not hold what it looks for.
HOSTS = [".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("npmjs", "org"), ("deb", "debian"))]
FORBIDDEN = re.compile("|".join([r"(?<![\w.~])/(?:root|home|Users|work)/\w", *map(re.escape, HOSTS)]))


def test_no_tracked_file_names_a_machine_or_a_registry():
    names = []
    for path in tracked_files():
        data = path.read_bytes()
        if b"\0" in data:  # a picture or weights
            continue
        for number, line in enumerate(data.decode().splitlines(), 1):
            if FORBIDDEN.search(line):
                names.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}")
    assert not names


@pytest.fixture
def pairs(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "book")
    import pairs

    return pairs


NOTEBOOK = """\
# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# A title

# %% tags=["parameters"]
beta = 1
"""


def test_the_notebooks_are_in_step_with_their_sources(pairs, capsys):
    assert pairs.main([]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("fault", ["none", "absent", "outputs", "source", "tag", "cell", "orphan"])
def test_a_pair_out_of_step_is_seen(pairs, tmp_path, monkeypatch, capsys, fault):
    monkeypatch.setattr(pairs, "NOTEBOOKS", tmp_path)
    source, partner = tmp_path / "x.py", tmp_path / "x.ipynb"
    source.write_text(NOTEBOOK)
    if fault != "absent":
        assert pairs.main(["--write"]) == 0
        notebook = nbformat.read(partner, as_version=4)
        match fault:
            case "outputs":
                notebook.cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
            case "source":
                notebook.cells[1].source = "beta = 2"
            case "tag":
                notebook.cells[1].metadata = {}
            case "cell":
                notebook.cells.append(nbformat.v4.new_code_cell("beta"))
        nbformat.write(notebook, partner)
    if fault == "orphan":
        source.unlink()
    assert pairs.main([]) == (fault != "none"), capsys.readouterr().out


@pytest.fixture
def pair(pairs, tmp_path, monkeypatch) -> tuple[Path, Path]:
    """A notebook's two files, in step, in a folder of their own."""
    monkeypatch.setattr(pairs, "NOTEBOOKS", tmp_path / "notebooks")
    source, partner = (tmp_path / "notebooks" / f"x.{kind}" for kind in ("py", "ipynb"))
    source.parent.mkdir()
    source.write_text(NOTEBOOK)
    assert pairs.main(["--write"]) == 0
    return source, partner


def edit(path: Path, to: str = "beta = 2") -> None:
    text = path.read_text()
    assert text.count("beta = ") == 1
    path.write_text(re.sub("beta = [0-9]+", to, text))


EDITED = {
    "the source": ["py"],
    "the notebook": ["ipynb"],
    "both": ["py", "ipynb"],
    "both, the source last": ["ipynb", "py"],
}


@pytest.mark.parametrize("edited", EDITED)
def test_writing_a_notebook_anew_loses_no_edit(pairs, pair, capsys, edited):
    for number, kind in enumerate(EDITED[edited], 2):
        edit(pair[0].with_suffix(f".{kind}"), f"beta = {number}")
    before = [path.read_text() for path in pair]
    status = pairs.main(["--write"])
    if edited == "the source":
        assert status == 0
        edit(pair[0], "beta = 3")  # edit, write, edit, write: no commit is needed in between
        assert pairs.main(["--write"]) == pairs.main([]) == 0
        return
    error = capsys.readouterr().err
    assert status == 1
    assert [path.read_text() for path in pair] == before
    assert pairs.main([]) == 1  # and the check gives the same advice, not to write
    assert error.partition("\n")[2] == capsys.readouterr().out
    assert ("x.py too: copy" in error) == (edited != "the notebook")
    assert "delete x.ipynb, then .venv/bin/python book/pairs.py --write" in error
    pair[1].unlink()
    assert pairs.main(["--write"]) == pairs.main([]) == 0
    assert pair[0].read_text() == before[0]


def test_edits_of_a_notebook_are_kept_as_the_error_says(pairs, pair, capsys):
    edit(pair[1])
    assert pairs.main(["--write"]) == 1
    command, name = re.search("`.venv/bin/jupytext (.*) notebooks/(.*)`", capsys.readouterr().err).groups()
    subprocess.run([sys.executable, "-m", "jupytext", *command.split(), pair[0].parent / name], check=True)
    assert "beta = 2" in pair[0].read_text()
    assert pairs.main(["--write"]) == pairs.main([]) == 0
    assert "beta = 2" in pair[1].read_text()


PICTURE = {"a.png": {"image/png": "iVBORw0KGgo="}}
BESIDE_THE_TEXT = {
    "a picture": lambda notebook: notebook.cells[0].update(attachments=PICTURE),
    "a slide": lambda notebook: notebook.cells[1].metadata.update(slideshow={"slide_type": "slide"}),
    "a tag": lambda notebook: notebook.cells[0].metadata.update(tags=["hide-input"]),
    "a title": lambda notebook: notebook.metadata.update(title="mine"),
}
# The first step, where a .py cannot hold it, and that step.
FIRST = {
    "a picture": (
        "move the picture pasted into cell 0 to a file in book/images",
        lambda book: book.cells[0].pop("attachments"),
    ),
    "a title": ("delete the notebook's metadata title", lambda book: book.metadata.pop("title")),
}


@pytest.mark.parametrize("also", ["beta = 1", "beta = 2"])
@pytest.mark.parametrize("what", BESIDE_THE_TEXT)
def test_an_edit_beside_the_text_is_kept_as_the_error_says(pairs, pair, capsys, what, also):
    edit(pair[1], also)
    notebook = nbformat.read(pair[1], as_version=4)
    BESIDE_THE_TEXT[what](notebook)
    nbformat.write(notebook, pair[1])
    before = [path.read_bytes() for path in pair]
    assert pairs.main(["--write"]) == pairs.main([]) == 1
    assert [path.read_bytes() for path in pair] == before
    error = capsys.readouterr().err
    assert ("which a .py cannot hold" in error) == (what in FIRST)
    if what in FIRST:
        sentence, take = FIRST[what]
        assert f"to keep the edits, first {sentence}, which" in error
        take(notebook)
        nbformat.write(notebook, pair[1])
        assert pairs.main(["--write"]) == (also == "beta = 2")
    command, name = re.search("`.venv/bin/jupytext (.*) notebooks/(.*)`", error).groups()
    subprocess.run([sys.executable, "-m", "jupytext", *command.split(), pair[0].parent / name], check=True)
    assert pairs.main(["--write"]) == pairs.main([]) == 0
    kept = nbformat.read(pair[1], as_version=4)
    assert pairs.content(kept) == pairs.content(notebook)


def test_what_jupyter_writes_by_itself_is_no_edit(pairs, pair):
    notebook = nbformat.read(pair[1], as_version=4)
    for cell in notebook.cells:
        cell.id += "x"
        cell.metadata |= {"execution": {}, "ExecuteTime": {"start": 1}, "collapsed": False, "scrolled": True}
        cell.metadata |= {"trusted": True, "editable": True, "papermill": {"status": "completed"}}
        cell.metadata.setdefault("tags", [])
    notebook.metadata |= {"language_info": {"name": "python"}, "papermill": {"duration": 1}, "widgets": {"a": 1}}
    nbformat.write(notebook, pair[1])
    assert pairs.main([]) == pairs.main(["--write"]) == 0


NO_NOTEBOOK = ["", "<<<<<<< ours", "[]", "{}", "no JSON", '{"cells": [5], "metadata": {}, "nbformat": 4}']
NO_NOTEBOOK += [f'{{"cells": {cells}, "nbformat": 4, "nbformat_minor": 5}}' for cells in ('5, "metadata": {}', "[]")]
NO_NOTEBOOK += ['{"cells": [], "metadata": "x", "nbformat": 4, "nbformat_minor": 5}']


@pytest.mark.parametrize("content", NO_NOTEBOOK)
@pytest.mark.parametrize("alone", [False, True])
def test_what_is_no_notebook_is_one_error_and_stays(pairs, pair, capsys, content, alone):
    pair[1].write_text(content)
    if alone:
        pair[0].unlink()
    assert pairs.main(["--write"]) == (not alone)
    assert pairs.main([]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("x.ipynb cannot be read as a notebook (")
    assert pair[1].read_text() == content


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("kind", ["a folder", "not to be read"])
def test_a_notebook_that_may_not_be_read_is_one_error(pairs, pair, capsys, kind):
    if kind == "a folder":
        pair[1].unlink()
        pair[1].mkdir()
    else:
        pair[1].chmod(0)
    assert pairs.main(["--write"]) == pairs.main([]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("x.ipynb cannot be read as a notebook (")


@pytest.mark.parametrize("mark", ["a text", 5, None, ["made_with"], {"made_with": [1]}])
def test_a_mark_that_is_none_is_one_error_and_written_anew(pairs, pair, capsys, mark):
    notebook = nbformat.read(pair[1], as_version=4)
    notebook.metadata["vaekit"] = mark
    nbformat.write(notebook, pair[1])
    assert pairs.main([]) == 1
    assert "x.ipynb does not carry the hash of its content: " in capsys.readouterr().out
    assert pairs.main(["--write"]) == pairs.main([]) == 0


def test_a_notebook_without_a_source_gets_one_as_the_check_says(pairs, pair, capsys):
    pair[0].unlink()
    assert pairs.main([]) == 1
    command, name = re.search("`.venv/bin/jupytext (.*) notebooks/(.*)`", capsys.readouterr().out).groups()
    subprocess.run([sys.executable, "-m", "jupytext", *command.split(), pair[0].parent / name], check=True)
    assert pairs.main([]) == 0


def test_every_notebook_says_which_kernel_runs_it_and_has_one_parameters_cell_at_most():
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        assert notebook.metadata.kernelspec.name == "python3", path.name
        assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) <= 1, path.name


FRONT_PAGES = pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])


def dead_links(page: Path) -> list[str]:
    """The targets of a page's links and pictures that lie on no other host and are no file of the checkout.

    A target with an anchor counts as dead: nothing checks anchors outside of the book.
    """
    targets = re.findall(r"\]\(\s*<?([^)\s>]+)", page.read_text())
    return [target for target in targets if not re.match("[a-z]+:", target) and not (page.parent / target).exists()]


@FRONT_PAGES
def test_the_front_pages_links_lead_somewhere(name):
    assert not dead_links(ROOT / name)


def test_a_dead_link_is_seen(tmp_path):
    (tmp_path / "a.md").write_text('[a](a.md), ![b](b.png "b"), [c](https://a.org), [a](a.md#b), [d](\n<d.md>)')
    assert dead_links(tmp_path / "a.md") == ["b.png", "a.md#b", "d.md"]


@FRONT_PAGES
def test_what_the_front_pages_point_to_is_there(name):
    text = (ROOT / name).read_text()
    paths = re.findall(r"`((?:vaekit|book|notebooks|tests)/[\w./]*|\w+\.(?:md|toml|lock|yml))`", text)
    assert paths
    made_by_the_reader = {"notebooks/X.py", "vaekit/studies/X/"}
    missing = [path for path in set(paths) - made_by_the_reader if not (ROOT / path).exists()]
    assert not missing


def test_what_the_api_pages_list_is_there():
    """Else the book is not built; told here without building it."""
    listed = re.compile(r"^\.\. automodule:: (\S+)\n   :members: (.+)$", re.M)
    named = [entry for page in (ROOT / "book" / "api").glob("*.md") for entry in listed.findall(page.read_text())]
    assert len(named) > 5
    modules = {name: importlib.import_module(name) for name, _ in named}
    lacking = [
        f"{module}.{name}"
        for module, names in named
        for name in names.split(", ")
        if not hasattr(modules[module], name)
    ]
    assert lacking == []
