"""What a user's environment is like: paths of settings, homes, disks, terminals; each kind in all of its places."""

import io
import os
import pwd
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import member, run_of, tables

from vaekit import classifiers, data, studies, sweep
from vaekit.__main__ import main
from vaekit.data import DataError, stored
from vaekit.settings import PlainError
from vaekit.store import Store, StoreError, default_store, files, load, results, runs
from vaekit.store.checkpoints import Checkpoints, folders
from vaekit.studies import rate_generalisation as study

NAME = study.SPEC.name
PLACES = {
    "VAEKIT_RUNS": lambda: default_store().root,
    "VAEKIT_RESULTS": results.root,
    "VAEKIT_DATA": lambda: stored.stored_path("mnist").parent,
}
EACH_PLACE = pytest.mark.parametrize(("variable", "where"), PLACES.items(), ids=PLACES)


@pytest.fixture(params=["no HOME", "an empty HOME"])
def homeless(request, monkeypatch):
    """No HOME, or an empty one, and a user without a name."""

    def unknown(user):
        raise KeyError(user)

    for variable in ("HOME", "XDG_CACHE_HOME", *PLACES):
        monkeypatch.delenv(variable, raising=False)
    if request.param == "an empty HOME":
        monkeypatch.setenv("HOME", "")
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def error(capsys, *arguments):
    """The one line on stderr of a command that fails with status 2."""
    assert main(list(arguments)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


# Paths of settings


@EACH_PLACE
def test_a_tilde_is_the_home_folder(variable, where, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/of vaekit")
    assert where() == tmp_path / "of vaekit"


@EACH_PLACE
@pytest.mark.parametrize("path", ["here", "./here", "../here", "."])
def test_a_relative_path_is_one_error(variable, where, path, monkeypatch):
    monkeypatch.setenv(variable, path)
    with pytest.raises(PlainError, match=f"{variable}: got {path}; wanted an absolute path"):
        where()


@EACH_PLACE
@pytest.mark.parametrize("path", ["~/of vaekit", ""])
def test_a_relative_home_is_named_and_not_what_nobody_set(variable, where, path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "here")
    monkeypatch.setenv(variable, path)
    if path or variable == "VAEKIT_DATA":  # the others are in the checkout
        says = f"^HOME: got here; wanted an absolute path, since ~/.* is in it; or set {variable} to an absolute path"
        with pytest.raises(PlainError, match=says):
            where()
    else:
        assert where().is_absolute()


def test_a_relative_cache_folder_is_ignored(monkeypatch, tmp_path):
    monkeypatch.delenv("VAEKIT_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert PLACES["VAEKIT_DATA"]() == tmp_path / ".cache" / "vaekit"


@EACH_PLACE
def test_an_empty_variable_is_none(variable, where, monkeypatch):
    monkeypatch.delenv(variable, raising=False)
    default = where()
    monkeypatch.setenv(variable, "")
    assert where() == default


@EACH_PLACE
def test_a_home_that_is_not_known_is_one_error(variable, where, monkeypatch, homeless):
    monkeypatch.setenv(variable, "~/of vaekit")
    with pytest.raises(PlainError, match=f"none is known here; set {variable} to an absolute path"):
        where()


COMMANDS = [["train", NAME], ["train", NAME, "--dry-run"], ["export", NAME], ["runs", "list"], ["runs", "show", "a"]]
COMMANDS += [["runs", "verify"], ["runs", "clean"], ["classifier", "mnist", "--model", "resnet18"]]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_so_in_one_line_and_makes_nothing(command, place, monkeypatch, capsys):
    (place / "here").mkdir()
    monkeypatch.chdir(place / "here")
    monkeypatch.setenv("VAEKIT_RUNS", "store")
    assert "VAEKIT_RUNS: got store; wanted an absolute path" in error(capsys, *command)
    assert not list((place / "here").iterdir())


def test_folders_of_the_command_line_may_have_a_tilde(place, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(place))
    results.write(results.folder(NAME), tables([member()]), {})
    default_store().commit(run_of(member()))
    assert main(["export", NAME, "--to", "~/part"]) == 0
    assert results.read(place / "part").members.keys() == {member().key}
    assert main(["export", NAME, "--from", "~/part"]) == 0
    assert Store("~/store").root == place / "store"


# Homes and users without a name


@pytest.mark.parametrize("name", studies.NAMES)
def test_without_a_home_a_study_is_planned_from_generated_images(name, homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("VAEKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("VAEKIT_RESULTS", str(tmp_path / "results"))
    chosen = studies.study(name).Settings.at("quick")
    plan = sweep.plan_sweep(studies.study(name).SPEC, studies.study(name).members(chosen), default_store())
    sweep.check_images(plan)
    assert not any(data.about(one.data).stored for one in plan.missing)


def test_without_a_home_a_stored_set_is_one_problem_that_says_what_to_set(homeless, monkeypatch, tmp_path):
    monkeypatch.setenv("VAEKIT_RUNS", str(tmp_path / "runs"))
    with pytest.raises(PlainError, match="set VAEKIT_DATA"):
        study.Settings.at("quick", data="mnist")
    for use in (data.load, data.fetch):
        with pytest.raises(DataError, match="set VAEKIT_DATA"):
            use("mnist")


# An ordinary install


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The package, apart from its checkout."""
    for variable in PLACES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(runs, "CHECKOUT", tmp_path / "site-packages")
    (tmp_path / "site-packages").mkdir()
    return tmp_path


USES = {
    "store": default_store,
    "results": results.root,
    "a carried classifier": lambda: classifiers.load("mnist"),
    "a decoder": lambda: results.load_decoder("0" * 12),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_an_installed_copy_has_no_folder_of_its_own(use, installed):
    with pytest.raises(PlainError, match=r"installed in .*site-packages.* set VAEKIT_(RUNS|RESULTS) to a folder, or"):
        use()
    assert not list((installed / "site-packages").iterdir())


def test_an_installed_copy_takes_the_folders_that_are_given(installed, monkeypatch):
    for name in ("runs", "results"):
        monkeypatch.setenv(f"VAEKIT_{name.upper()}", str(installed / name))
    assert default_store().root == installed / "runs"
    assert results.root() == installed / "results"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_of_an_installed_copy_says_so_in_one_line(command, installed, capsys):
    assert "set VAEKIT_" in error(capsys, *command)


# What cannot be stored is not trained


def read_only(folder, elsewhere):
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)


def file_in_its_place(folder, elsewhere):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.touch()


def link_to_nothing(folder, elsewhere):
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to("a disk that is not there")


def link_to_a_read_only_folder(folder, elsewhere):
    folder.parent.mkdir(parents=True, exist_ok=True)
    elsewhere.mkdir()
    elsewhere.chmod(0o555)
    folder.symlink_to(elsewhere)


SHELVES = {
    "the store": lambda root, one: root,
    "what it lies in": lambda root, one: root.parent,
    "staging": lambda root, one: root / "staging",
    "runs": lambda root, one: root / "runs",
    "measures": lambda root, one: root / "measures",
    "measures of the member": lambda root, one: root / "measures" / one.key,
    "work": lambda root, one: root / "work",
    "work of the member": lambda root, one: next(folders(Store(root), [one], "cpu", "cores")),
}


def contents(folder):
    return {path: path.lstat().st_mode for path in folder.rglob("*")}


@pytest.fixture
def refused(place, monkeypatch):
    """A function that asks for a member in a store and returns why it is refused, before any work and any litter."""
    monkeypatch.setattr(sweep.train, "train_fleet", lambda *_, **options: pytest.fail("trained"))
    monkeypatch.setattr(sweep.plan, "seconds_per_step", lambda *_: 0.01)

    def refused(root, lines):
        before = contents(place)
        with pytest.raises(StoreError) as caught:
            sweep.run(study.SPEC, [member()], Store(root), say=lines.append)
        assert contents(place) == before
        return str(caught.value)

    return refused


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("spoil", [read_only, file_in_its_place, link_to_nothing, link_to_a_read_only_folder])
@pytest.mark.parametrize("shelf", SHELVES.values(), ids=SHELVES)
def test_what_cannot_be_stored_is_refused_before_any_work(shelf, spoil, place, refused):
    root, lines = place / "disk" / "store", []
    spoiled = shelf(root, member())
    spoil(spoiled, place / "elsewhere")
    assert str(spoiled) in refused(root, lines)
    assert not lines


@pytest.fixture
def other_disk(tmp_path):
    """A folder on another file system."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second file system here")
    folder = shared / f"vaekit-{os.getpid()}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("shelf", ["staging", "runs", "measures"])
def test_a_shelf_on_another_disk_is_refused_before_any_work(shelf, place, refused, other_disk):
    root = place / "store"
    root.mkdir()
    (root / shelf).symlink_to(other_disk)
    assert "cross-device link" in refused(root, [])
    assert not list(other_disk.iterdir())


@pytest.mark.parametrize("shelf", ["runs", "work"])
def test_a_disk_without_room_for_one_member_is_refused_before_any_work(shelf, place, refused, other_disk, monkeypatch):
    """Of a store that is not there yet, and of one whose checkpoints lie on a disk of their own."""
    size, root, full = sweep.plan.bytes_per_run(study.SPEC, member()), place / "store", place
    if shelf == "work":
        full = root / shelf
        root.mkdir()
        full.symlink_to(other_disk)
        size -= sweep.plan.bytes_per_run(study.SPEC, member(), checkpoint=False)
    usage, lines = {full: size - 1}, []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=usage.get(path, 10**9)))
    message = refused(root, lines)
    assert f"the disk of {full} has no room to train" in message
    assert f"takes {size / 1e6:.3f} MB, and {(size - 1) / 1e6:.3f} MB are free" in message
    assert not lines
    usage[full] = size
    with pytest.raises(pytest.fail.Exception, match="trained"):
        sweep.run(study.SPEC, [member()], Store(root), say=lines.append)


@pytest.mark.parametrize("shelf", ["", "work"])
def test_a_whole_store_or_its_checkpoints_may_lie_on_another_disk(shelf, place, other_disk):
    root = place / "store"
    (root / shelf).parent.mkdir(exist_ok=True)
    (root / shelf).symlink_to(other_disk)
    store = Store(root)
    store.check_writable()
    store.commit(run_of(member()))
    store.verify(member().key)


@pytest.mark.parametrize("folder", [results.folder, lambda name: default_store().root / name])
def test_a_classifier_that_cannot_be_stored_is_not_trained(folder, place, permissions, monkeypatch):
    images = SimpleNamespace(labels=torch.arange(2), image_shape=(1, 28, 28), split=lambda name: None)
    monkeypatch.setattr(data, "load", lambda name: images)
    monkeypatch.setattr(classifiers, "train", lambda *_: pytest.fail("trained"))
    read_only(folder("classifiers"), None)
    with pytest.raises(StoreError, match=r"classifiers.* could not be written"):
        classifiers.make("mnist")


@pytest.mark.parametrize("shelf", ["runs", "measures", "work", "staging", "quarantine", "."])
def test_a_folder_of_the_store_that_may_not_be_read_is_named_by_every_command(shelf, place, permissions, capsys):
    store = default_store()
    store.commit(run_of(member()))
    store.commit_measure(member().key, "rates", 1, [])
    (store.root / shelf).mkdir(exist_ok=True)
    (store.root / shelf).chmod(0)
    try:
        for command in (["runs", "verify"], ["runs", "list"], ["runs", "clean", "--quarantine", "--checkpoints"]):
            status, shown = main(command), capsys.readouterr()
            assert "delete" not in shown.err
            if status:
                assert str((store.root / shelf).resolve()) in shown.err
                assert files.MAY_NOT_BE_READ in shown.err
    finally:
        (store.root / shelf).chmod(0o755)
    store.verify(member().key)


def test_runs_of_an_older_layout_are_not_taken_for_none(place, capsys):
    new = Store(place / "new")
    older = place / "runs" / "runs" / "ab"
    older.mkdir(parents=True)
    for use in (default_store, lambda: sweep.run(study.SPEC, [member()])):
        with pytest.raises(StoreError, match="older layout"):
            use()
    commands = [["runs", *rest] for rest in (["status"], ["list"], ["show", "0"], ["verify"], ["clean"])]
    commands += [["train", "rate_generalisation"], ["export", "rate_generalisation"]]
    assert len({error(capsys, *command) for command in commands}) == 1
    new.commit(run_of(member()))
    older.rename(new.root / "runs" / "ab")  # beside runs of today it is merely surplus
    assert list(Store(new.root).keys()) == [member().key]


def test_what_is_not_the_stores_is_not_deleted(place, capsys):
    """In folders of the same names, say of a project that VAEKIT_RUNS names."""
    store = default_store()
    store.check_writable()
    strange = [store.root / folder / name for folder in ("staging", "work", "quarantine") for name in ("a.txt", ".b")]
    for path in strange:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (store.root / "staging" / ".cut.01234567").touch()
    store.clear_staging()
    assert not store.staged()
    assert main(["runs", "clean", "--quarantine", "--checkpoints", "--yes"]) == 0
    swap = results.folder(NAME) / ".members.csv.swp"
    swap.parent.mkdir(parents=True)
    swap.touch()
    results.write(results.folder(NAME), tables([member()]), {})
    assert all(path.exists() for path in (*strange, swap))


# Image sets


@pytest.mark.usefixtures("permissions")
@pytest.mark.parametrize("spoil", ["a file", "a folder", "a link"])
def test_an_image_set_that_may_not_be_read_is_not_taken_for_absent_nor_replaced(spoil, place):
    path = stored.stored_path("mnist")
    path.parent.mkdir()
    if spoil == "a link":
        path.symlink_to("nothing")
    else:
        path.touch()
        {"a file": path, "a folder": path.parent}[spoil].chmod(0)
    assert data.available("mnist", "tetrominoes") == ("mnist",)
    for use in (data.load, data.fetch):
        with pytest.raises(DataError, match=r"may not be read|a link to nothing") as caught:
            use("mnist")
        assert str(path) in str(caught.value)
        assert "python -m vaekit data" not in str(caught.value)
    path.parent.chmod(0o755)


# Terminals and names


@pytest.fixture
def terminal(monkeypatch):
    """A function that runs `python -m vaekit` on a terminal of an encoding, and returns status and output."""

    def run(*arguments, encoding="ascii"):
        out, err = (io.TextIOWrapper(io.BytesIO(), encoding, "strict") for _ in range(2))
        monkeypatch.setattr(sys, "argv", ["vaekit", *arguments])
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        monkeypatch.delitem(sys.modules, "vaekit.__main__", raising=False)  # which is imported here, and is run anew
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("vaekit", run_name="__main__")
        for stream in (out, err):
            stream.flush()
        return ended.value.code, out.buffer.getvalue(), err.buffer.getvalue()

    return run


HELP = [[], ["data"], ["train"], ["export"], ["runs"], ["runs", "list"], ["runs", "show"], ["runs", "verify"]]
HELP += [["runs", "clean"], ["classifier"]]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("command", HELP, ids=" ".join)
def test_a_help_is_shown_on_every_terminal(command, encoding, terminal):
    status, out, err = terminal(*command, "--help", encoding=encoding)
    assert (status, err) == (0, b"")
    assert b"usage: " in out


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
@pytest.mark.parametrize("name", [b"caf\xe9", "Größe β".encode(), b"a\nb \x1b[31m"])
def test_a_store_may_have_any_name_on_every_terminal(name, encoding, terminal, place, monkeypatch):
    root = place / os.fsdecode(name)
    monkeypatch.setenv("VAEKIT_RUNS", str(root))
    store, key = default_store(), member(steps=20).key
    assert not os.path.exists(root)
    for command, status in ((["runs", "list"], 2), (["runs", "verify"], 0)):
        assert terminal(*command, encoding=encoding)[0] == status
    store.commit(run_of(member()))
    store.commit_measure(key, "rates", 1, [])
    load(key, store=store)
    assert Checkpoints(store, [member()], [], "cpu", "cores", 1).latest() is None
    damaged = store.root / "measures" / key / "rates-2.json"
    damaged.touch()
    for command, status in ((["runs", "list"], 0), (["runs", "show", key], 0), (["runs", "verify"], 1)):
        assert terminal(*command, encoding=encoding)[0] in (status, 2)
    damaged.unlink()
    for command in (["runs", "show", key], ["runs", "verify"], ["runs", "clean"], ["export", NAME]):
        status, out, err = terminal(*command, encoding=encoding)
        assert (status, err) == (0, b""), command
        assert out


def test_errors_about_the_system_name_the_file_and_no_line_of_code(capsys, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "a file")

    monkeypatch.setattr(data, "fetch", refuse)
    assert error(capsys, "data", "mnist") == "error: a file cannot be used (Permission denied)"


# A matplotlibrc of one's own

STYLES = {
    "LaTeX": {"text.usetex": True},
    "dark": {"figure.facecolor": "black", "axes.facecolor": "black", "text.color": "white", "axes.edgecolor": "white"},
    "tiny": {"figure.dpi": 20, "savefig.dpi": 20, "font.size": 3, "figure.figsize": (1, 1)},
    "cropped": {"savefig.bbox": "tight", "savefig.facecolor": "red", "savefig.transparent": True},
    "lines": {
        "lines.linewidth": 9,
        "lines.marker": "x",
        "errorbar.capsize": 9,
        "axes.grid": True,
        "path.sketch": (1, 9, 2),
    },
    "axes": {
        "axes.xmargin": 0.4,
        "axes.formatter.use_locale": True,
        "xtick.direction": "in",
        "axes.unicode_minus": False,
    },
    "fonts": {"font.family": "monospace", "mathtext.fontset": "stix", "svg.fonttype": "none"},
    "colours": {"image.cmap": "jet", "image.origin": "lower", "axes.prop_cycle": "cycler('color', ['r'])"},
}


def drawn():
    from vaekit import figures  # here, where no other test needs matplotlib

    figure, axes = figures.panels(1, 2)
    axes[0, 0].errorbar([1, 2], [-1, 1], [0.1, 0.2], label="a")
    axes[0, 0].legend()
    axes[0, 0].set_title("beta, $\\beta$")
    axes[0, 1].imshow([[0, 1], [2, 3]])
    pictures = [io.BytesIO() for _ in ("png", "svg")]
    for kind, picture in zip(("png", "svg"), pictures, strict=True):
        figure.savefig(picture, format=kind, metadata={"Date": None} if kind == "svg" else None)
    return [picture.getvalue() for picture in pictures]


@pytest.mark.usefixtures("house_style")
@pytest.mark.parametrize("style", STYLES.values(), ids=STYLES)
def test_a_matplotlibrc_of_ones_own_changes_no_figure(style):
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        plain = drawn()
    matplotlib.rcParams.update(style)
    assert drawn() == plain
