"""The table of a notebook: what was asked for, beside what is known of the same budget, and nothing else."""

import dataclasses
import io
import math
import statistics
from itertools import product

import pandas as pd
import pytest
from tiny import member, row_of, run_of, settings, tables, value

from vaekit import sweep
from vaekit.store import Member, StoreError, Tables, default_store, results
from vaekit.store.table import budget_label, budgets, csv, frame, having, select
from vaekit.store.table import runs as stored
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
NAME = study.SPEC.name


def published(members):
    results.write(results.folder(NAME), tables(members), {})


def asked(chosen):
    return study.run(chosen)


@pytest.fixture
def trained(monkeypatch):
    """The betas of all that is trained."""
    betas, real = [], sweep.train.train_fleet

    def counted(make_model, objective, members, *args, **how):
        betas.extend(m.weights["beta"] for m in members)
        return real(make_model, objective, members, *args, **how)

    monkeypatch.setattr(sweep.train, "train_fleet", counted)
    monkeypatch.setattr(sweep.plan, "seconds_per_step", lambda member, device: 0.01)
    return betas


def test_a_table_trains_what_is_missing_and_shows_it_beside_its_kind(trained, capsys):
    others = settings(betas=[0.1, 0.2]), settings(steps=10), settings(n_test=15), settings(n_train=31)
    published([m for chosen in others for m in study.members(chosen)])
    chosen = settings(betas=[0.1, 0.7], depths=[1])
    table = asked(chosen)
    assert trained == [0.7]
    assert table.groupby("beta")["asked"].agg(["all", "any"]).to_dict("index") == {
        0.1: {"all": True, "any": True},
        0.2: {"all": False, "any": False},
        0.7: {"all": True, "any": True},
    }
    assert set(table["steps"]) == {20}
    assert set(table["n_test"]) == {16}
    assert set(table["n_train"]) == {32}
    again = asked(chosen)
    assert trained == [0.7]
    pd.testing.assert_frame_equal(table, again)
    deeper = asked(settings(betas=[0.1], depths=[2]))
    assert set(deeper["depth"]) == {1, 2}  # panels stand beside each other, whichever was asked for
    assert set(deeper.loc[deeper["asked"], "depth"]) == {2}


def test_members_that_are_tested_on_all_images_have_their_kind_too(trained):
    quick, whole = settings(betas=[0.1, 0.2]), settings(betas=[0.1, 0.2], n_test=0)
    published([*study.members(quick), *study.members(whole)])
    table = asked(settings(betas=[0.1], n_test=0))
    assert not trained
    assert set(table["beta"]) == {0.1, 0.2}
    assert table["n_test"].isna().all()
    assert set(table.loc[table["asked"], "beta"]) == {0.1}
    assert set(asked(settings(betas=[0.1]))["n_test"]) == {16}


def test_a_row_is_a_value_with_its_member():
    one = member(0.25, seed=3)
    table = frame(tables([one, member(1)]))
    (row,) = select(table, "mi_ceiling", key=one.key).to_dict("records")
    wanted = {"beta": 0.25, "seed": 3, "depth": 1, "hidden": 4, "steps": 20, "part": "train", "arguments": "", "n": 16}
    assert {name: row[name] for name in wanted} == wanted
    assert row["value"] == pytest.approx(3.4657359)
    assert len(table) == sum(map(len, tables([one, member(1)]).measures.values()))


def test_a_diverged_member_is_not_forgotten():
    both = tables([member(1)]).merged(tables([member(2)], status="diverged"))
    (row,) = having(frame(both), beta=2).to_dict("records")
    assert row["status"] == "diverged"
    assert pd.isna(row["value"])
    assert len(frame(tables([member(2)], status="diverged"))) == 1
    assert not len(frame(Tables()))


def test_a_diverged_member_is_in_its_notebooks_table(trained):
    table = asked(settings(betas=[1e300], depths=[1]))
    assert table[["beta", "status", "asked"]].to_dict("records") == [
        {"beta": 1e300, "status": "diverged", "asked": True}
    ]


# What may share a curve

AXES = ("beta", "depth")
# A change of each field of a member, of its network and of its objective; a seed alone makes no other budget.
CHANGES = {
    "model": {"model": "conv_vae", "model_args": {"depth": 1, "channels": 4, "latent_dim": 2}},
    "hidden": {"model_args": {"depth": 1, "hidden": 5, "latent_dim": 2}},
    "a width for each layer": {"model_args": {"depth": 1, "hidden": (4, 4), "latent_dim": 2}},
    "an argument that others lack": {"model_args": {"depth": 1, "hidden": 4, "latent_dim": 2, "slope": 0.1}},
    "data": {"data": "dsprites_like"},
    "split": {"split": "random"},
    "n_train": {"n_train": 33},
    "no n_train": {"n_train": None},
    "n_test": {"n_test": None},
    "objective": {"objective": "elbo"},
    "steps": {"steps": 40},
    "batch_size": {"batch_size": 9},
    "lr": {"lr": 0.01},
    "weight_decay": {"weight_decay": 0.01},
    "precision": {"precision": "fp64"},
    "noise": {"noise": "frozen"},
}
RECORDED = {"data_identity": {"data_identity": "another file"}, "code_version": {"code_version": 99}}
PARENTS = tuple(f"parent's {name}" for name in (*CHANGES, *RECORDED))


def two_members(change: str) -> pd.DataFrame:
    """Values of two members of each beta and seed, which differ in one thing, as a table."""
    both, name = Tables(), change.removeprefix("parent's ")
    for beta, seed, changed in product((0.1, 1.0), (0, 1), (False, True)):
        varied = member(beta, seed, **(CHANGES.get(name, {}) if changed else {}))
        key = varied.key + "-changed" * changed
        row = row_of(varied) | (RECORDED.get(name, {}) if changed else {}) | {"key": key}
        if change in PARENTS:
            both.members[key] = row
            row = row_of(member(beta, seed)) | {"key": f"child of {key}", "parent": key, "arm": "dense"}
            varied = member(beta, seed)
        both.members[row["key"]] = row
        both.measures[row["key"]] = tables([varied]).measures[varied.key]
    return frame(both)


@pytest.mark.parametrize("change", [*CHANGES, *RECORDED, *PARENTS])
def test_two_members_that_differ_in_anything_share_no_budget(change):
    table = two_members(change)
    table = table[table["value"].notna()]
    answers = budgets(table, AXES)
    assert len(answers) == 2
    assert sum(map(len, answers)) == len(table)
    for rows in answers:
        assert rows.groupby(["beta", "seed", "step", "part", "measure", "arguments"]).size().eq(1).all()
        assert set(rows["beta"]) == {0.1, 1.0}
        assert set(rows["seed"]) == {0, 1}


def test_every_field_of_a_member_is_changed_above():
    names = {field.name for field in dataclasses.fields(Member)}
    assert names <= {*CHANGES, "model_args", "weights", "seed", "parent", "arm"}


def test_axes_are_what_a_budget_may_differ_in():
    table = frame(tables([member(beta, n_train=n, split="cv") for beta in (0.1, 1) for n in (32, 33)]))
    assert len(budgets(table)) == 4
    assert len(budgets(table, ("beta",))) == 2
    assert len(budgets(table, ("beta", "n_train"))) == 1


def test_the_largest_budget_comes_first_and_then_the_newest_code_and_the_finest_precision():
    kinds = [{"steps": 40}, {"precision": "fp64"}, {}, {"precision": "bf16"}]
    table = frame(tables([member(0.1, **kind) for kind in reversed(kinds)]))
    older = frame(tables([member(0.1, seed=5, precision="fp64")])).assign(code_version=0)
    answers = budgets(pd.concat([older, table], ignore_index=True), AXES)
    assert [(rows["steps"].iloc[0], rows["precision"].iloc[0]) for rows in answers] == [
        (40, "full"),
        (20, "fp64"),
        (20, "full"),
        (20, "bf16"),
        (20, "fp64"),
    ]
    assert budgets(table.iloc[:0]) == []


def test_a_label_says_the_budget_and_the_seeds_at_a_point():
    rows = frame(tables([member(0.1), member(0.1, seed=1), member(1)]))
    assert budget_label(rows, AXES) == "20 steps of 8, 4 units, Tetrominoes, 1 to 2 seeds a point"
    assert budget_label(having(rows, seed=0, beta=1), AXES) == "20 steps of 8, 4 units, Tetrominoes, 1 seed"


# What a figure and a claim select


def test_a_selection_is_by_measure_arguments_fields_and_step():
    table = frame(tables([member(0.1), member(1)]))
    values = select(table, "distortion", part="test", samples=10)
    assert list(values["beta"]) == [0.1, 1]
    assert set(values["step"]) == {20}
    assert not len(select(table, "distortion", beta=3))
    assert set(select(table, "rate", at=16)["step"]) == {16}
    assert set(select(table, "rate", at="all", part="test_nested")["step"]) == {*study.measured_steps(member())}
    floors = select(table, "distortion_floor", at="last")
    assert len(floors) == 4
    assert set(select(table, "distortion", samples=("mean", 10))["arguments"]) == {"mean", "samples=10"}
    assert select(table, "rate", samples=None).equals(select(table, "rate"))
    assert not len(select(table, "mig"))  # not measured yet
    assert not len(select(table, "rate", sparsity=1))
    assert select(table, "rate", sparsity=None).equals(select(table, "rate"))


@pytest.mark.parametrize(
    ("measure", "where", "message"),
    [
        ("distorsion", {}, r"no measure 'distorsion' \(did you mean distortion\?\)"),
        ("Rate", {}, r"no measure 'Rate' \(did you mean rate\?\)"),
        ("rate", {"dept": 1}, r"no column 'dept' \(did you mean depth\?\)"),
        ("rate", {"n_trian": None}, r"no column 'n_trian' \(did you mean n_train\?\)"),
    ],
)
def test_a_misspelt_measure_or_column_is_an_error(measure, where, message):
    with pytest.raises(ValueError, match=message):
        select(frame(tables([member()])), measure, **where)


@pytest.mark.parametrize(
    ("arguments", "columns"),
    [
        ("", {}),
        ("probe=rbf_svm,on=mu2", {"probe": "rbf_svm", "on": "mu2"}),
        ("layer=5", {"layer": 5}),
        ("layer=mu", {"layer": "mu"}),
        ("from=10,to=0", {"from_layer": 10, "to_layer": 0}),
        ("q=0.9", {"q": 0.9}),
        ("mean", {"samples": "mean"}),
        ("depth=7", {}),  # a field of the member keeps its column
    ],
)
def test_arguments_are_columns(arguments, columns):
    filled = tables([member()])
    (rows,) = filled.measures.values()
    filled.measures[member().key] = [rows[0] | {"arguments": arguments}, rows[0] | {"arguments": "other=1"}]
    one, other = frame(filled).to_dict("records")
    assert {name: one[name] for name in columns} == columns
    assert all(pd.isna(other[name]) for name in columns)
    assert (one["depth"], one["arguments"], other["other"]) == (1, arguments, 1)


# Published: what results/ holds, and nothing is trained


def test_published_shows_all_that_there_is(trained):
    members = [m for chosen in (settings(seeds=[0, 1]), settings(steps=10)) for m in study.members(chosen)]
    published(members)
    table = asked(study.Settings.at("published"))
    assert set(table["key"]) == {m.key for m in members}
    assert table["asked"].all()
    assert not trained


def test_published_shows_a_part_of_it(trained):
    published([m for chosen in (settings(seeds=[0, 1]), settings(steps=10)) for m in study.members(chosen)])
    table = asked(study.Settings.at("published", betas="[1]", seeds=1, steps=20))
    assert set(table["key"]) == {m.key for m in study.members(settings(betas=[1], seeds=[1]))}
    assert set(asked(study.Settings.at("published", data="tetrominoes", device="cpu"))["steps"]) == {10, 20}


def test_what_published_lacks_is_one_error_with_the_command(trained):
    says = r"holds no member yet \(VAEKIT_RESULTS names another folder\); `python -m vaekit train rate_generalisation"
    with pytest.raises(StoreError, match=says):
        asked(study.Settings.at("published"))
    published(study.members(settings()))
    default_store().commit(run_of(study.members(settings(betas=[0.3]))[0]))
    with pytest.raises(StoreError) as caught:
        asked(study.Settings.at("published", betas=[0.1, 0.3], depths=[1]))
    assert "lacks 1 of what was asked for, first beta 0.3, depth 1" in str(caught.value)
    command = "python -m vaekit train rate_generalisation --scale short -p betas '[0.1, 0.3]' -p depths 1"
    assert command in str(caught.value)
    assert not trained


# A whole store


def row(step, **changes):
    told = {"step": step, "part": "test", "measure": "rate", "arguments": "samples=1", "value": step / 3}
    return told | {"se": 0.1, "n": 16} | changes


@pytest.fixture
def store():
    """Members of two models, of which one is derived, one diverged without a value and one has a value that is none."""
    store = default_store()
    conv = member(model="conv_vae", model_args={"depth": 1, "channels": (4,)})
    derived = member(3, parent=member().key)
    for one in (member(), conv, derived):
        store.commit_measure(one.key, "rates", 1, [row(16, value=0.5), row(20, part="train", arguments="")])
        store.commit(run_of(one))
    store.commit_measure(conv.key, "others", 3, [row(20, value=None, measure="other")])
    store.commit(run_of(member(7), (), "diverged", "not finite"))
    return store


def test_a_store_as_a_table_is_what_its_tables_are(store):
    pd.testing.assert_frame_equal(stored(store), frame(results.from_store(store)))
    values = stored()
    assert len(values) == 8
    assert values.loc[values["status"] == "diverged", "value"].isna().all()
    assert set(values["version"].dropna()) == {1, 3}


def test_whole_numbers_stay_whole_where_each_member_has_values():
    store = default_store()
    store.commit_measure(store.commit(run_of(member())), "rates", 1, [row(20)])
    pd.testing.assert_frame_equal(stored(), frame(results.from_store(store)))
    assert stored()["step"].dtype == "int64"


def test_of_each_measure_the_newest_version(store):
    key = member().key
    for version in (10, 9):
        store.commit_measure(key, "rates", version, [row(20, value=float(version))])
    values = stored(store)
    assert values.loc[values["key"] == key, ["value", "version"]].to_numpy().tolist() == [[10.0, 10.0]]


def test_an_empty_store_is_an_empty_table(place):
    assert len(stored()) == 0
    assert list(stored())[:3] == ["key", "step", "part"]
    assert not (place / "runs").exists()


@pytest.mark.parametrize("kind", ["runs", "measures"])
def test_a_damaged_store_is_no_smaller_table(store, kind):
    key = member().key
    path = store.path(key) if kind == "runs" else next(store.root.glob(f"measures/{key}/r*.json"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0", b"1", 1))
    with pytest.raises(StoreError, match=str(path)):
        stored(store)


def test_a_table_is_read_anew_each_time(store):
    before = stored(store)
    store.commit(run_of(member(8)))
    assert set(stored(store)["key"]) - set(before["key"]) == {member(8).key}


def read(text: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of a figure's data, and its comment by what each line is about."""
    comment = dict(line.removeprefix("# ").split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    return pd.read_csv(io.StringIO(text), comment="#", keep_default_na=False, na_values={"sd": ""}), comment


def test_a_figures_data_are_means_over_seeds_below_how_they_were_made():
    members = [member(beta, seed) for beta in (0.1, 1.0) for seed in (0, 1)] + [member(3.0, 0)]
    rows, comment = read(csv(frame(tables(members)), "rate", "distortion samples=1"))
    assert set(zip(rows["measure"], rows["arguments"], strict=True)) == {("rate", ""), ("distortion", "samples=1")}
    assert set(rows["step"]) == {20}
    assert list(rows.columns[:5]) == ["beta", "step", "part", "measure", "arguments"]
    for row in rows.itertuples():
        values = [
            value(m, 20, row.part, row.measure, row.arguments) for m in members if dict(m.weights)["beta"] == row.beta
        ]
        assert row.seeds == len(values)
        assert row.value == pytest.approx(statistics.mean(values), rel=1e-9)
        assert row.sd == pytest.approx(statistics.stdev(values)) if len(values) > 1 else math.isnan(row.sd)
        assert (row.se, row.n) == (0.5, 16)
    assert "depth 1" in comment["in all rows"]
    assert "beta 0.1" not in comment["in all rows"]
    assert comment["seed"] == "0, 1"
    assert comment["data_identity"]
    assert comment["hardware"] == "made up"
    assert comment["wall time of training"] == "8 s in all, 5 members"


def test_a_figures_data_are_of_every_step_on_request_and_empty_where_nothing_was_measured():
    table = frame(tables([member(0.1, 0)]))
    rows, _ = read(csv(table, "rate", last=False))
    assert set(rows["step"]) == set(table["step"])
    assert len(set(rows["step"])) > 1
    assert csv(table, "psnr") == ""
    assert csv(frame(tables([member(0.1, 0)], "diverged")), "rate") == ""


# What is no ordinary table


def test_an_argument_named_as_a_field_or_a_column_mixes_nothing():
    both = tables([member(0.1), member(1, model_args={"depth": 2, "hidden": 4, "latent_dim": 2})])
    for rows in both.measures.values():
        rows[:] = [rows[0] | {"arguments": "depth=7,n=3,step=5,beta=9"}]
    table = frame(both)
    assert set(table["depth"]) == {1, 2}
    assert set(table["n"]) == {16}
    assert set(table["argument_depth"]) == {7}
    assert set(table["argument_step"]) == {5}
    assert len(budgets(table, ("beta",))) == 2
    assert len(select(table, "distortion", at="all", argument_beta=9)) == 2


def test_children_of_parents_that_are_not_known_share_no_budget():
    orphans = tables([member(0.1, parent=parent * 64, arm="dense") for parent in "ab"])
    assert len(budgets(frame(orphans), AXES)) == 2


def test_an_empty_table_has_no_rows_to_select():
    assert not len(select(frame(Tables()), "rate"))
    assert not len(select(pd.DataFrame(), "rate", layer=1))


def test_what_looks_like_no_number_stays_a_text():
    filled = tables([member()])
    (rows,) = filled.measures.values()
    texts = ["05", "nan", "inf", "1_0", "1e-3", "-2", "0.50"]
    filled.measures[member().key] = [rows[0] | {"arguments": f"x={text}"} for text in texts]
    assert frame(filled)["x"].tolist() == ["05", "nan", "inf", "1_0", 0.001, -2, 0.5]
