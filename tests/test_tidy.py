"""The table of a notebook: what was asked for, beside what is known of the same budget, and nothing else."""

import io
import math
import statistics

import pandas as pd
import pytest
from tiny import member, run_of, settings, tables, value

from vaekit import results, runs, sweep, tidy
from vaekit.results import ResultsError, Tables
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
NAME = study.DESIGN.name


def published(members):
    results.write(results.folder(NAME), tables(members), {})


def asked(chosen):
    return tidy.table(study.DESIGN, study.members(chosen), chosen)


@pytest.fixture
def trained(monkeypatch):
    """The betas of all that is trained."""
    betas, real = [], sweep.train_fleet

    def counted(make_model, objective, members, *args, **how):
        betas.extend(m.weights["beta"] for m in members)
        return real(make_model, objective, members, *args, **how)

    monkeypatch.setattr(sweep, "train_fleet", counted)
    monkeypatch.setattr(sweep, "seconds_per_step", lambda member, device: 0.01)
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
    frame = tidy.frame(tables([one, member(1)]))
    row = frame[(frame["key"] == one.key) & (frame["measure"] == "mi_ceiling") & (frame["step"] == 20)]
    (row,) = row.to_dict("records")
    wanted = {"beta": 0.25, "seed": 3, "depth": 1, "hidden": 4, "steps": 20, "part": "train", "arguments": "", "n": 16}
    assert {name: row[name] for name in wanted} == wanted
    assert row["value"] == pytest.approx(3.4657359)
    assert len(frame) == sum(map(len, tables([one, member(1)]).measures.values()))


def test_a_diverged_member_is_not_forgotten():
    made = tables([member(1)]).merged(tables([member(2)], status="diverged"))
    frame = tidy.frame(made)
    (row,) = frame[frame["beta"] == 2].to_dict("records")
    assert row["status"] == "diverged"
    assert pd.isna(row["value"])
    assert len(tidy.frame(tables([member(2)], status="diverged"))) == 1
    assert not len(tidy.frame(Tables()))


def test_a_diverged_member_is_in_its_notebooks_table(trained):
    table = asked(settings(betas=[1e300], depths=[1]))
    assert table[["beta", "status", "asked"]].to_dict("records") == [
        {"beta": 1e300, "status": "diverged", "asked": True}
    ]


def test_budgets_are_never_mixed():
    kinds = [
        {},
        {"steps": 40},
        {"batch_size": 9},
        {"lr": 0.01},
        {"precision": "fp64"},
        {"n_test": None},
        {"model_args": {"depth": 1, "hidden": 5, "latent_dim": 2}},
    ]
    members = [member(beta, **kind) for kind in kinds for beta in (0.1, 1)]
    members += [member(0.1, seed=1), member(0.1, n_train=33), member(0.1, split="random")]
    found = list(tidy.budgets(tidy.frame(tables(members))))
    assert len(found) == len(kinds)
    assert [group["steps"].iloc[0] for _, group in found] == [40] + [20] * (len(kinds) - 1)
    constant = ["steps", "batch_size", "lr", "precision", "n_test", "hidden"]
    assert all((group[constant].nunique(dropna=False) == 1).all() for _, group in found)
    assert sum(len(group) for _, group in found) == len(tidy.frame(tables(members)))
    labels = [label for label, _ in found]
    assert labels[0] == "40 steps of 8, 4 units, tetrominoes, 1 seed"
    assert any(label.endswith("1 to 2 seeds a point") for label in labels)


def test_the_last_values():
    frame = tidy.frame(tables([member(0.1), member(1)]))
    found = tidy.last(frame, "distortion", part="test", arguments="samples=10")
    assert list(found["beta"]) == [0.1, 1]
    assert set(found["step"]) == {20}
    assert not len(tidy.last(frame, "distortion", beta=3))


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
    with pytest.raises(ResultsError, match=r"holds no member yet; `python -m vaekit train rate_generalisation"):
        asked(study.Settings.at("published"))
    published(study.members(settings()))
    runs.default_store().commit(run_of(study.members(settings(betas=[0.3]))[0]))
    with pytest.raises(ResultsError) as caught:
        asked(study.Settings.at("published", betas=[0.1, 0.3], depths=[1]))
    assert "lacks 1 of what was asked for, first beta 0.3, depth 1" in str(caught.value)
    command = "python -m vaekit train rate_generalisation --scale short -p betas '[0.1, 0.3]' -p depths '[1]'"
    assert command in str(caught.value)
    assert not trained


# A whole store


def row(step, **changes):
    told = {"step": step, "part": "test", "measure": "rate", "arguments": "samples=1", "value": step / 3}
    return told | {"se": 0.1, "n": 16} | changes


@pytest.fixture
def store():
    """Members of two models, of which one is derived, one diverged without a value and one has a value that is none."""
    store = runs.default_store()
    conv = member(model="conv_vae", model_args={"depth": 1, "channels": (4,)})
    derived = member(3, parent=member().key)
    for one in (member(), conv, derived):
        store.commit_measure(one.key, "rates", 1, [row(16, value=0.5), row(20, part="train", arguments="")])
        store.commit(run_of(one))
    store.commit_measure(conv.key, "others", 3, [row(20, value=None, measure="other")])
    store.commit(run_of(member(7), (), "diverged", "not finite"))
    return store


def test_a_store_as_a_table_is_what_its_tables_are(store):
    pd.testing.assert_frame_equal(tidy.runs(store), tidy.frame(results.from_store(store)))
    found = tidy.runs()
    assert len(found) == 8
    assert found.loc[found["status"] == "diverged", "value"].isna().all()
    assert set(found["version"].dropna()) == {1, 3}


def test_whole_numbers_stay_whole_where_each_member_has_values():
    store = runs.default_store()
    store.commit_measure(store.commit(run_of(member())), "rates", 1, [row(20)])
    pd.testing.assert_frame_equal(tidy.runs(), tidy.frame(results.from_store(store)))
    assert tidy.runs()["step"].dtype == "int64"


def test_of_each_measure_the_newest_version(store):
    key = member().key
    for version in (10, 9):
        store.commit_measure(key, "rates", version, [row(20, value=float(version))])
    found = tidy.runs(store)
    assert found.loc[found["key"] == key, ["value", "version"]].to_numpy().tolist() == [[10.0, 10.0]]


def test_an_empty_store_is_an_empty_table(place):
    assert len(tidy.runs()) == 0
    assert list(tidy.runs())[:3] == ["key", "step", "part"]
    assert not (place / "runs").exists()


@pytest.mark.parametrize("kind", ["runs", "measures"])
def test_a_damaged_store_is_no_smaller_table(store, kind):
    path = next(store.root.glob(f"{kind}/*/{member().key}/r*.json"))
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0", b"1", 1))
    with pytest.raises(runs.StoreError, match=str(path)):
        tidy.runs(store)


def test_a_table_is_read_anew_each_time(store):
    before = tidy.runs(store)
    store.commit(run_of(member(8)))
    assert set(tidy.runs(store)["key"]) - set(before["key"]) == {member(8).key}


def read(text: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of a figure's data, and its comment by what each line is about."""
    comment = dict(line.removeprefix("# ").split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    return pd.read_csv(io.StringIO(text), comment="#", keep_default_na=False, na_values={"sd": ""}), comment


def test_a_figures_data_are_means_over_seeds_below_how_they_were_made():
    members = [member(beta, seed) for beta in (0.1, 1.0) for seed in (0, 1)] + [member(3.0, 0)]
    rows, comment = read(tidy.csv(tidy.frame(tables(members)), "rate", "distortion samples=1"))
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
    table = tidy.frame(tables([member(0.1, 0)]))
    rows, _ = read(tidy.csv(table, "rate", last=False))
    assert set(rows["step"]) == set(table["step"])
    assert len(set(rows["step"])) > 1
    assert tidy.csv(table, "psnr") == ""
    assert tidy.csv(tidy.frame(tables([member(0.1, 0)], "diverged")), "rate") == ""
