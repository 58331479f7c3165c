"""Pictures that results/ carries: those that the weights make, kept over exports, never decoded where damaged."""

import io
import json
import struct
import zlib

import matplotlib.image
import numpy as np
import pytest
import torch
from tiny import member, row_of, run_of, tables

from vaekit import pictures, results, runs, sheets, sweep
from vaekit.__main__ import main
from vaekit.metrics import reconstruct
from vaekit.results import ResultsError, Tables
from vaekit.runs import Store, StoreError
from vaekit.sheets import Sheet, SheetError
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
DESIGN = study.DESIGN
LABELS = ("test image", "reconstruction", "nearest training image")


def sheet_of(key=None, step=20, colours=3, rows=2, seed=0):
    made = np.random.default_rng(seed).integers(0, 256, (rows, 4, 5, 6, colours)).astype(np.uint8)
    return Sheet(key or member().key, step, 1, tuple(f"row {i}" for i in range(rows)), made)


# A sheet as a PNG


@pytest.mark.parametrize("colours", [1, 3])
def test_a_sheet_comes_back_and_is_a_png_to_others(colours):
    sheet = sheet_of(colours=colours)
    content = sheets.pack(sheet)
    again = sheets.unpack(content, sheets.file_name(sheet.key, 20))
    assert (again.key, again.step, again.version, again.labels) == (sheet.key, 20, 1, sheet.labels)
    assert np.array_equal(again.pictures, sheet.pictures)
    shown = (255 * matplotlib.image.imread(io.BytesIO(content), format="png")).round().astype(np.uint8)
    for row in range(2):
        for column in range(4):
            tile = shown[5 * row : 5 * row + 5, 6 * column : 6 * column + 6].reshape(5, 6, -1)[..., :3]
            assert np.array_equal(tile, sheet.pictures[row, column])


def test_what_a_sheet_cannot_hold_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3)).astype(np.uint8)
    key = member().key
    assert len(sheets.pack(Sheet(key, 20, 1, LABELS, noise))) < sheets.LIMIT  # the worst that study 3 can make
    with pytest.raises(SheetError, match=r"bytes, and results/ carries 80,000"):
        sheets.pack(Sheet(key, 20, 1, LABELS, np.concatenate((noise, 255 - noise), axis=1)))
    for wrong in (noise[..., :2], noise.astype(np.float32), noise[:2]):
        with pytest.raises(SheetError, match="wanted uint8"):
            sheets.pack(Sheet(key, 20, 1, LABELS, wrong))


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width=24, height=10, kind=2, about=None, packed=None, **changes):
    """A PNG of two rows of four pictures whose parts have right checksums, whatever they say."""
    said = {"key": member().key, "step": 20, "version": 1, "labels": ["a", "b"], "columns": 4} | changes
    text = b"vaekit\0" + (json.dumps(said).encode() if about is None else about)
    lines = zlib.compress(bytes(10 * (24 * 3 + 1))) if packed is None else packed
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    parts = {b"IHDR": header, b"tEXt": text, b"IDAT": lines, b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, body) for kind, body in parts.items())


HOSTILE = {
    "nothing": b"",
    "another file": b"GIF89a" + bytes(40),
    "cut": png()[:-1],
    "longer": png() + b"x",
    "a checksum": png()[:40] + b"?" + png()[41:],
    "palette": png(kind=3),
    "wide": png(width=2**31),
    "a bomb": png(packed=zlib.compress(bytes(10**8))),
    "short": png(packed=zlib.compress(b"")),
    "not packed": png(packed=b"nothing"),
    "filtered": png(packed=zlib.compress(b"\1" * (10 * 73))),
    "no text": png(about=b""),
    "a list": png(about=b"[]"),
    "deep": png(about=b"[" * 70_000),
    "another member": png(key=member(2).key),
    "another step": png(step=16),
    "a number": png(key=7),
    "labels": png(labels="ab"),
    "no label": png(labels=[]),
    "columns": png(columns=5),
    "no columns": png(columns=0),
    "less than none": png(columns=-4),
    "a word": png(version="1"),
    "empty": png(width=0, packed=zlib.compress(bytes(10))),
    "large": png(about=b" " * sheets.LIMIT),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_sheet_is_one_error(kind):
    name = sheets.file_name(member().key, 20)
    assert sheets.unpack(png(), name).pictures.shape == (2, 4, 5, 6, 3)
    with pytest.raises(SheetError, match=f"{name} is no sheet of pictures"):
        sheets.unpack(HOSTILE[kind], name)
    results.write(
        results.folder(DESIGN.name), Tables({member().key: row_of(member())}, pictures={name: HOSTILE[kind]}), {}
    )
    (said,) = results.damage(results.folder(DESIGN.name))
    assert name in said
    with pytest.raises(ResultsError, match=name):
        results.pictures(DESIGN.name)
    with pytest.raises(ResultsError, match=name):
        pictures.of(DESIGN, member().key, None)


# What results/ carries


def carried(*members):
    """Sheets of members in results/, each of other pictures."""
    made = {m.key: sheet_of(m.key, seed=i) for i, m in enumerate(members)}
    files = {sheets.file_name(key, 20): sheets.pack(sheet) for key, sheet in made.items()}
    found = tables(members)
    found.pictures |= files
    results.write(results.folder(DESIGN.name), found, {})
    return made


def test_results_give_the_pictures_of_their_members():
    made = carried(member(), member(2))
    found = results.pictures(DESIGN.name)
    assert found.keys() == made.keys()
    for key, sheet in made.items():
        assert np.array_equal(found[key].pictures, sheet.pictures)
        assert np.array_equal(pictures.of(DESIGN, key, None).pictures, sheet.pictures)
    assert results.pictures("pruning") == {}
    assert pictures.of(DESIGN, member(7).key, None) is None


@pytest.mark.parametrize("kind", ["flipped", "gone", "another's", "not listed"])
def test_what_is_damaged_is_named_and_never_decoded(kind, monkeypatch):
    carried(member(), member(2))
    folder = results.folder(DESIGN.name)
    path, other = (folder / sheets.file_name(m.key, 20) for m in (member(), member(2)))
    good = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    elif kind == "gone":
        path.unlink()
    elif kind == "another's":
        path.write_bytes(other.read_bytes())
    else:
        path = path.with_name("0" * 12 + "-20.png")
        path.write_bytes(good)
    monkeypatch.setattr(sheets, "unpack", lambda content, name: pytest.fail("decoded"))
    with pytest.raises(ResultsError, match=str(path)):
        results.pictures(DESIGN.name)
    assert [line for line in results.damage(folder) if str(path) in line]
    if kind != "not listed":
        with pytest.raises(ResultsError, match=str(path)):
            pictures.of(DESIGN, member().key, None)


def test_pictures_go_with_their_member_and_stay_with_others():
    carried(member(), member(2))
    folder = results.folder(DESIGN.name)
    found = results.read(folder)
    assert found.merged(Tables()) == Tables().merged(found) == found
    one = found.only([member().key])
    results.write(folder, one, {})
    assert [path.name for path in (folder / "pictures").iterdir()] == [f"{member().key[:12]}-20.png"]
    assert results.read(folder) == one
    results.write(folder, Tables(one.members, one.measures), {})
    assert not list((folder / "pictures").iterdir())
    assert results.read(folder).pictures == {}
    stray = tables([member(2)])
    stray.pictures |= one.pictures
    results.write(folder, stray, {})
    with pytest.raises(ResultsError, match="belongs to no member"):
        results.read(folder)


# What the weights make


def made_by(key, store):
    """The pictures of study 3 by another way: brute searches in float64."""
    model = runs.load(key, store=store)
    images = sweep.examples("tetrominoes", "cv", 32, 16)
    test, train = (part.double().flatten(1) / 255 for part in (images.test, images.train))
    order = torch.cdist(test, train).min(1).values.argsort()
    shown = images.test[order[8:16]]  # of 16 distances, the eight whose middle is nearest to the 14th, or the last
    made = reconstruct(model, shown)
    near = images.train[torch.cdist(made.double().flatten(1), train).argmin(1)]
    return torch.stack((shown, (255 * made).round().to(torch.uint8), near)).permute(0, 1, 3, 4, 2).numpy()


def test_an_export_carries_what_the_weights_make(place, capsys):
    store = runs.default_store()
    key, other = store.commit(run_of(member())), store.commit(run_of(member(2)))
    diverged = store.commit(run_of(member(7), (), "diverged", "not finite"))
    assert pictures.of(DESIGN, key, None) is None  # results/ alone
    before = pictures.of(DESIGN, key, store)
    assert np.array_equal(before.pictures, made_by(key, store))
    assert (before.key, before.step, before.version, before.labels) == (key, 20, 1, LABELS)
    assert main(["export", DESIGN.name]) == 0
    assert "making pictures of 2 members" in capsys.readouterr().out
    found = results.pictures(DESIGN.name)
    assert found.keys() == {key, other}
    assert np.array_equal(found[key].pictures, before.pictures)
    assert pictures.of(DESIGN, diverged, store) is None
    folder = results.folder(DESIGN.name)
    listed = json.loads((folder / "provenance.json").read_bytes())["pictures"]
    assert listed.keys() == {f"pictures/{each[:12]}-20.png" for each in found}
    # Without the weights they stay, and are what is shown.
    elsewhere = Store(place / "elsewhere")
    third = runs.default_store()
    assert np.array_equal(pictures.of(DESIGN, key, elsewhere).pictures, before.pictures)
    third.commit(run_of(member(3)))
    content = (folder / f"pictures/{key[:12]}-20.png").read_bytes()
    assert main(["export", DESIGN.name]) == 0
    assert "making pictures of 1 member" in capsys.readouterr().out
    assert results.pictures(DESIGN.name).keys() == {key, other, member(3).key}
    assert (folder / f"pictures/{key[:12]}-20.png").read_bytes() == content
    assert main(["runs", "verify"]) == 0


def test_pictures_travel_as_one_file(place, monkeypatch):
    key = runs.default_store().commit(run_of(member()))
    assert main(["export", DESIGN.name, "--to", str(place / "a.zip")]) == 0
    monkeypatch.setenv("VAEKIT_RUNS", str(place / "other"))
    assert main(["export", DESIGN.name, "--from", str(place / "a.zip")]) == 0
    assert results.pictures(DESIGN.name).keys() == {key}


def test_a_new_version_is_made_where_the_weights_are(monkeypatch):
    store = runs.default_store()
    key = store.commit(run_of(member()))
    assert main(["export", DESIGN.name]) == 0
    newer = sweep.Pictures(
        2, ("black",), lambda model, one, step, images: torch.zeros(1, 2, 1, 3, 4, dtype=torch.uint8)
    )
    design = sweep.Design(DESIGN.name, (), DESIGN.snapshots, DESIGN.kept, pictures=newer)
    assert pictures.of(design, key, store).pictures.shape == (1, 2, 3, 4, 1)
    assert pictures.of(design, key, Store(store.root / "none")).version == 1
    assert pictures.of(design, key, None).version == 1
    carried = results.read(results.folder(DESIGN.name)).pictures
    (content,) = pictures.export(design, [key], carried, store, print).values()
    assert sheets.unpack(content, f"{key[:12]}-20.png").version == 2
    nothing = sweep.Pictures(3, (), lambda *of: None)
    design = sweep.Design("another", (), DESIGN.snapshots, DESIGN.kept, pictures=nothing)
    assert pictures.of(design, key, store) is None
    assert pictures.export(design, [key], {}, store, print) == {}
    assert pictures.of(sweep.Design("another", (), DESIGN.snapshots, DESIGN.kept), key, store) is None


def test_what_cannot_be_made_is_said(monkeypatch, capsys):
    one = member(data="mnist", split="own", n_train=None)
    store = runs.default_store()
    key = store.commit(run_of(one))
    assert pictures.export(DESIGN, [key], {}, store, print) == {}
    assert "no pictures of 1 members" in (said := capsys.readouterr().out)
    assert "mnist.npz is not there" in said
    monkeypatch.setattr(sheets, "LIMIT", 100)
    key = store.commit(run_of(member()))
    with pytest.raises(StoreError, match=rf"{key[:12]}.*carries 100 a member"):
        pictures.export(DESIGN, [key], {}, store, print)
