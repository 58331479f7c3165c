"""The tables that a checkout carries: they come back as they were, whatever is in them, or are refused by name."""

import csv
import hashlib
import io
import itertools
import json
import re

import pytest
from test_store import ODD
from tiny import ARGUMENTS, FullDisk, member, row_of, run_of, tables

from vaekit.store import CHECKOUT, SHORT, Store, StoreError, Tables, results
from vaekit.store.results import from_store, read, write

CONV = member(model="conv_vae", model_args={"depth": 2, "channels": (4, 8), "slope": 1e-5, "batch_norm": True})


def files(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def written(path, filled):
    write(path, filled, {"note": "made up"})
    return read(path)


# What is written comes back


def test_nothing_is_no_error(tmp_path):
    assert read(tmp_path / "none") == Tables()
    assert written(tmp_path, Tables()) == Tables()


def test_tables_come_back(tmp_path):
    filled = tables([member(beta, seed) for beta in (0.1, 1, 1e-5) for seed in (0, 1)])
    again = written(tmp_path, filled)
    assert again.members == filled.members
    for key, rows in filled.measures.items():
        order = [(row["measure"], row["arguments"], row["part"], row["step"]) for row in again.measures[key]]
        assert order == sorted(order)
        rows = sorted(rows, key=lambda row: (row["measure"], row["arguments"], row["part"], row["step"]))
        for row, wanted in zip(again.measures[key], rows, strict=True):
            assert row == {**wanted, "value": pytest.approx(wanted["value"], rel=1e-11)}
    assert json.loads((tmp_path / "provenance.json").read_text())["note"] == "made up"


@pytest.mark.parametrize("odd", [*ODD, CONV])
def test_a_member_has_the_same_key_after_a_csv(tmp_path, odd):
    again = written(tmp_path, Tables({odd.key: row_of(odd)}))
    assert again.member(odd.key) == odd
    assert again.member(odd.key).key == odd.key


def test_members_of_different_models_share_a_table(tmp_path):
    chosen = [member(), CONV, member(model_args=ARGUMENTS | {"likelihood": "gaussian", "sigma": 0.1})]
    again = written(tmp_path, Tables({m.key: row_of(m) for m in chosen}))
    assert [again.member(m.key).key for m in chosen] == [m.key for m in chosen]


def test_members_of_fresh_and_of_frozen_noise_share_a_table(tmp_path):
    chosen = [member(), member(noise="frozen")]
    again = written(tmp_path, Tables({m.key: row_of(m) for m in chosen}))
    assert [again.members[m.key]["noise"] for m in chosen] == [None, "frozen"]
    assert [again.member(m.key) for m in chosen] == chosen


def test_a_key_that_looks_like_a_number_is_a_key(tmp_path):
    likely = (member(seed=seed, parent="12e4" * 16) for seed in itertools.count())
    # Short keys of digits alone, and of digits with an exponent.
    looks = (r"\d+", r"\d+e\d+")
    result = [next(m for m in likely if re.fullmatch(look, m.key[:SHORT])) for look in looks]
    filled = tables(result)
    again = written(tmp_path, filled)
    assert again.members == filled.members
    for m in result:
        assert {row["member"] for row in again.measures[m.key]} == {m.key[:SHORT]}


TEXTS = ["<b>bold</b> & 'so'", 'a, "b"; c', "two\nlines", "old\rlines", "both\r\nlines", "β = ½"]
TEXTS += [" spaces ", "1e5", "None"]
CELLS = [(column, text) for text in TEXTS for column in ("reason", "hardware")]
CELLS += [("wall_time", number) for number in (1.0, 100.0, 1e-5, 0.1, 1e22, -0.0, 5, None)]


@pytest.mark.parametrize(("column", "value"), CELLS)
def test_a_cell_comes_back_with_its_kind(tmp_path, column, value):
    filled = tables([member()])
    (row,) = filled.members.values()
    row[column] = value
    again = written(tmp_path, filled)
    assert again.members == filled.members
    assert type(again.members[member().key][column]) is type(value)


def test_the_same_tables_are_the_same_bytes(tmp_path):
    members = [member(beta, seed) for beta in (1, 0.1, 10) for seed in (1, 0)] + [CONV]
    filled = tables(members)
    turned = Tables(dict(reversed(filled.members.items())))
    turned.measures |= {key: rows[::-1] for key, rows in reversed(filled.measures.items())}
    first = written(tmp_path / "a", filled)
    written(tmp_path / "b", turned)
    written(tmp_path / "c", first)
    assert files(tmp_path / "a") == files(tmp_path / "b") == files(tmp_path / "c")
    assert set(files(tmp_path / "a")) == {"members.csv", "measures.csv", "provenance.json"}


def test_betas_are_listed_by_size(tmp_path):
    betas = [10.0, 9.0, 1e-5, 0.1]
    again = written(tmp_path, tables([member(beta) for beta in betas]))
    assert [row["weights.beta"] for row in again.members.values()] == sorted(betas)


# Merging, choosing, and what a store holds


def test_merging_adds_and_replaces_and_never_removes():
    old, new = tables([member(0.1), member(1)]), tables([member(1), member(2)])
    for row in new.members.values():
        row["hardware"] = "new"
    shared = member(1).key
    new.measures[shared] = [{**row, "value": 7.0} for row in new.measures[shared] if row["measure"] == "rate"]
    merged = old.merged(new)
    assert merged.members.keys() == {member(beta).key for beta in (0.1, 1, 2)}
    assert merged.members[member(0.1).key]["hardware"] == "made up"
    assert merged.members[shared]["hardware"] == "new"
    rates = [row for row in merged.measures[shared] if row["measure"] == "rate"]
    assert rates == new.measures[shared]
    others = [row for row in merged.measures[shared] if row["measure"] != "rate"]
    assert others == [row for row in old.measures[shared] if row["measure"] != "rate"]
    assert old == tables([member(0.1), member(1)])
    assert old.merged(Tables()) == Tables().merged(old) == old
    # Taken again from the weights that are stored, at fewer steps: what was measured at others stays.
    late = tables([member(1)])
    late.measures[shared] = [{**row, "value": 9.0} for row in late.measures[shared] if row["step"] == 20]
    values = {(row["step"], row["value"] == 9.0) for row in old.merged(late).measures[shared]}
    assert {step for step, _ in values} == {row["step"] for row in old.measures[shared]}
    assert {is_late for step, is_late in values if step == 20} == {True}
    assert len(old.merged(late).measures[shared]) == len(old.measures[shared])


def test_a_stores_tables(tmp_path):
    store = Store(tmp_path)
    key, diverged = store.commit(run_of(member())), store.commit(run_of(member(2), (), "diverged", "not <finite>"))
    row = {"step": 20, "part": "test", "measure": "rate", "arguments": "", "value": 1 / 3, "se": 0.1, "n": 16}
    store.commit_measure(key, "rates", 1, [row])
    store.commit_measure(key, "rates", 2, [row | {"value": 1.0}])
    result = from_store(store, {"rates": 2, "others": 1})
    assert result.measures == {key: [{"member": key[:12], **row, "value": 1.0, "version": 2}], diverged: []}
    assert result.member(key) == member()
    assert result.members[diverged]["reason"] == "not <finite>"
    assert from_store(store, {}, [key]).members.keys() == {key}
    store.path(key).write_text("{}")
    with pytest.raises(StoreError, match=key):
        from_store(store, {})


# What is damaged is refused by name


def redone(path, **contents):
    """Change tables and make the hashes fit: what whoever edits by hand and means it would do."""
    provenance = json.loads((path / "provenance.json").read_bytes())
    for name, content in contents.items():
        (path / f"{name}.csv").write_bytes(content)
        provenance["sha256"][f"{name}.csv"] = hashlib.sha256(content).hexdigest()
    (path / "provenance.json").write_text(json.dumps(provenance))


@pytest.fixture
def folder(tmp_path):
    written(tmp_path, tables([member(0.1), member(1)]))
    return tmp_path


@pytest.mark.parametrize("name", ["members.csv", "measures.csv"])
def test_a_table_edited_by_hand_is_refused(folder, name):
    path = folder / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))
    with pytest.raises(StoreError, match=str(path)):
        read(folder)


LACKING = [(name, None) for name in ("members.csv", "measures.csv", "provenance.json")]
NONE = ("", "{", "[]", "1", '{"sha256": []}', '{"sha256": null}', "{}", "[" * 100_000)


@pytest.mark.parametrize(("name", "text"), LACKING + [("provenance.json", text) for text in NONE])
def test_a_file_that_lacks_or_a_provenance_that_is_none_is_refused(folder, name, text):
    (folder / name).unlink() if text is None else (folder / name).write_text(text)
    with pytest.raises(StoreError, match=str(folder)) as caught:
        read(folder)
    assert text is not None or name in str(caught.value)


def edits(table):
    lines = table.splitlines(keepends=True)
    row = next(csv.reader(io.StringIO(lines[1].decode())))
    return {
        "a row twice": table + lines[1],
        "a row too many": table + b",".join([b"f" * 12, *lines[1].split(b",")[1:]]),
        "a cell too many": table + lines[1].strip() + b",1\n",
        "a cell too few": table + b",".join(lines[1].split(b",")[:-1]) + b"\n",
        "no header": b"".join(lines[1:]),
        "a quote left open": table + b'"' + lines[1],
        "not text": table + b"\xff\xfe\n",
        "empty": b"",
        "a row of one cell": table + row[0].encode() + b"\n",
    }


@pytest.mark.parametrize("name", ["members", "measures"])
@pytest.mark.parametrize("kind", list(edits(b"a,b\nc,d\n")))
def test_a_table_that_is_none_is_refused_even_with_its_hash(folder, name, kind):
    redone(folder, **{name: edits((folder / f"{name}.csv").read_bytes())[kind]})
    with pytest.raises(StoreError, match=f"{folder}.*{'twice' if kind == 'a row twice' else ''}"):
        read(folder)


def cell(table, row, column, text):
    """The table with one cell replaced; rows are counted from 0 after the header."""
    header, *lines = csv.reader(io.StringIO(table.decode(), newline=""))
    lines[row][header.index(column)] = text
    filled = io.StringIO(newline="")
    csv.writer(filled, lineterminator="\n").writerows([header, *lines])
    return filled.getvalue().encode()


EDITS = [
    ("members", "key", "0" * 64, "not the key of its row"),
    ("members", "key", "<b>", "no key"),
    ("members", "weights.beta", "0.2", "not the key of its row"),
    ("members", "steps", "21", "not the key of its row"),
    ("members", "seed", "one", "no member"),
    ("members", "weights.beta", "nan", "no member"),
    ("members", "code_version", "2", "not the key of its row"),
    ("members", "code_version", "", "code version None"),
    ("members", "data_identity", "sha256:0", "not the key of its row"),
    ("members", "status", "perfect", "status 'perfect'"),
    ("members", "status", "", "status None"),
    ("members", "wall_time", "fast", "'fast' s"),
    ("members", "wall_time", "inf", "inf s"),
    ("members", "measures", "rates-new", "no member"),
    ("measures", "value", "good", "value is 'good'"),
    ("measures", "value", "inf", "value is inf"),
    ("measures", "value", "nan", "value is nan"),
    ("measures", "value", "true", "value is True"),
    ("measures", "se", "[1]", "se is"),
    ("measures", "n", "many", "n is 'many'"),
    ("measures", "n", "-1", "n is -1"),
    ("measures", "step", "", "step is None"),
    ("measures", "step", "1.5", "step is 1.5"),
    ("measures", "version", "", "version is None"),
    ("measures", "part", "", "a part and a measure"),
]


@pytest.mark.parametrize(("name", "column", "text", "says"), EDITS)
def test_a_cell_that_was_edited_is_named_even_with_its_hash(folder, name, column, text, says):
    redone(folder, **{name: cell((folder / f"{name}.csv").read_bytes(), 0, column, text)})
    with pytest.raises(StoreError, match=re.escape(str(folder / f"{name}.csv"))) as caught:
        read(folder)
    assert says in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_value_that_was_measured_and_is_none_is_no_damage(tmp_path):
    filled = tables([member()])
    filled.measures[member().key][0]["value"] = None
    again = written(tmp_path, filled)
    assert sum(row["value"] is None for row in again.measures[member().key]) == 1


def test_what_this_checkout_carries_is_whole():
    for path in sorted((CHECKOUT / "results").glob("*/members.csv")):
        assert not list(results.damage(path.parent))


def test_merging_keeps_the_newer_version_and_what_either_measured():
    def versioned(version, text):
        filled = tables([member()])
        filled.members[member().key]["measures"] = text
        rows = [row for row in filled.measures[member().key] if row["measure"] != "rate" or version > 1]
        filled.measures[member().key] = [{**row, "version": version} for row in rows]
        return filled

    old, new = versioned(1, "rates-1 probes-1"), versioned(2, "rates-2")
    for merged in (old.merged(new), new.merged(old)):
        assert {row["version"] for row in merged.measures[member().key]} == {2}
        assert set(merged.members[member().key]["measures"].split()) == {"rates-2", "probes-1"}


def test_a_newer_measure_leaves_another_whose_values_have_its_name():
    """Study 3's rate is of two measures, `train` and `train_nested`."""
    old, late = tables([member()]), tables([member()])
    key = member().key
    rates = [row for row in old.measures[key] if row["measure"] == "rate"]
    whole = [row for row in rates if "nested" not in row["part"]]
    nested = [{**row, "version": 2} for row in rates if "nested" in row["part"]]
    old.measures[key], late.measures[key] = whole, nested
    both = old.merged(late)
    assert both.measures[key] == whole + nested
    assert both.merged(both) == both
    assert late.merged(old).measures[key] == nested + whole


def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    old, new = tables([member(0.1)]), tables([member(0.1), member(1)])
    for nth in itertools.count(1):
        path = tmp_path / str(nth)
        before = written(path, old)
        with monkeypatch.context() as patch:
            disk = FullDisk(patch, nth)
            try:
                write(path, new, {})
            except (StoreError, OSError) as error:
                assert "No space left" in str(error)  # noqa: PT017
        assert set(files(path)) == {"members.csv", "measures.csv", "provenance.json"}
        try:
            assert read(path).members.keys() in (before.members.keys(), new.members.keys())
        except StoreError as error:
            assert str(path) in str(error)  # noqa: PT017
        assert written(path, new).members == new.members
        if not disk.refused:
            break
    assert nth > 9  # three files: opened, written, synced, renamed
