"""Study 3: its members, the steps at which it looks, and what it measures on each."""

import math

import pytest
import torch
from tiny import member, settings

from vaekit import sweep
from vaekit.data import DataError
from vaekit.losses import bernoulli_floor
from vaekit.metrics import evaluate, reconstruct
from vaekit.settings import SettingsError
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")


def test_members_are_the_grid_with_seeds_outermost():
    chosen = settings(betas=[0.1, 1], seeds=[3, 5], depths=[1, 3], n_train=[32, 64])
    members = study.members(chosen)
    assert len(set(members)) == len({m.key for m in members}) == 16
    assert [m.seed for m in members] == [3] * 8 + [5] * 8
    first = members[0]
    assert dict(first.model_args) == {"depth": 1, "hidden": 4, "latent_dim": 10}
    assert (first.model, first.objective, first.split, first.data) == ("dense_vae", "beta", "cv", "tetrominoes")
    assert (first.steps, first.batch_size, first.n_train, first.n_test, first.lr) == (20, 8, 32, 16, 1e-3)
    assert {(m.n_train, dict(m.model_args)["depth"], dict(m.weights)["beta"]) for m in members} == {
        (n, depth, beta) for n in (32, 64) for depth in (1, 3) for beta in (0.1, 1)
    }
    assert study.members(settings(n_test=0))[0].n_test is None


def test_the_scales_are_the_papers_and_smaller():
    paper, short, quick = (study.Settings.at(scale) for scale in ("paper", "short", "quick"))
    assert len(study.members(paper)) == 2 * 2 * 5 * 12
    first = study.members(paper)[0]
    assert dict(first.model_args) == {"depth": 1, "hidden": 512, "latent_dim": 10}
    assert (first.steps, first.batch_size, first.n_test) == (257_000, 128, None)
    assert len(study.members(short)) == 2 * 3 * 12
    assert {(m.steps, m.n_train) for m in study.members(short)} == {(50_000, 16_384)}
    assert {m.steps for m in study.members(quick)} == {1_000}
    assert {dict(m.weights)["beta"] for m in study.members(quick)} <= {
        dict(m.weights)["beta"] for m in study.members(paper)
    }


def test_odd_but_good_values_are_taken():
    chosen = settings(betas="[1, 1e-3, 1.0]", seeds=2.0, depths="1")
    assert (chosen.betas, chosen.seeds, chosen.depths) == ((1.0, 0.001), (2,), (1,))
    assert len(study.members(chosen)) == 2


def test_images_that_are_not_there_are_refused_at_once():
    with pytest.raises((SettingsError, DataError), match=r"mnist\.npz is not there"):
        study.Settings.at("quick", data="mnist")


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 999, 1_000, 50_000, 257_000])
def test_snapshots_hold_the_end_four_fifths_and_what_is_kept(steps):
    made = member(steps=steps)
    snapshots, kept = study.snapshots(made), study.kept(made)
    assert set(kept) <= set(snapshots)
    for found in (snapshots, kept):
        assert found == tuple(sorted(set(found)))
        assert found[0] > 0
        assert found[-1] == steps
        assert max(1, round(0.8 * steps)) in found
    assert len(kept) <= 5
    shorter = {100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000} & set(range(steps))
    assert shorter <= set(snapshots)  # so that curves of different lengths can be compared


@pytest.fixture
def images():
    return sweep.examples("tetrominoes", "cv", 32, 16)


def taken(measure, one, step, images):
    found = list(measure(one.build().eval(), one, step, images))
    keyed = {(v.part, v.measure, v.arguments): v for v in found}
    assert len(keyed) == len(found)
    assert all(math.isfinite(v.value) and v.se >= 0 for v in found)
    return keyed


def test_rates_and_distortions(images):
    one = member(precision="fp64")
    model = one.build().eval()
    found = {(v.part, v.measure, v.arguments): v for v in study.rate_distortion(model, one, 20, images)}
    parts = {"train": 32, "test": 16, "test_a": 8, "test_b": 8}
    usual = {(part, *what) for part in parts for what in (("distortion", "samples=1"), ("rate", ""))}
    last = {(part, *what) for part in ("train", "test") for what in (("distortion", "mean"), ("distortion_floor", ""))}
    assert found.keys() == usual | last | {("test", "distortion", "samples=10")}
    assert {key: v.n for key, v in found.items()} == {key: parts[key[0]] for key in found}
    early = {(v.part, v.measure, v.arguments): v for v in study.rate_distortion(model, one, 16, images)}
    assert early == {key: found[key] for key in usual}
    direct = evaluate(model, images.test, images.test_rows, one.seed)
    for name, arguments in (("distortion", "samples=1"), ("rate", "")):
        whole, a, b = (found[part, name, arguments] for part in ("test", "test_a", "test_b"))
        assert whole.value == pytest.approx(direct[name].mean().item(), rel=1e-12)
        assert whole.se == pytest.approx(direct[name].std().item() / 4, rel=1e-12)
        assert whole.value == pytest.approx((a.value + b.value) / 2, rel=1e-12)
        assert a.value != b.value
    floor = bernoulli_floor(images.train.double() / 255).mean().item()
    assert found["train", "distortion_floor", ""].value == pytest.approx(floor, rel=1e-12)
    draws = [evaluate(model, images.test, images.test_rows, one.seed, draw)["distortion"] for draw in range(10)]
    assert found["test", "distortion", "samples=10"].value == pytest.approx(torch.stack(draws).mean().item(), rel=1e-12)


def test_ten_samples_are_taken_of_the_nested_subset(images, monkeypatch):
    monkeypatch.setattr(study, "NESTED", 5)
    one = member(precision="fp64")
    found = {
        (v.measure, v.arguments): v
        for v in study.rate_distortion(one.build().eval(), one, 20, images)
        if v.part == "test"
    }
    assert found["distortion", "samples=10"].n == 5
    assert found["distortion", "samples=1"].n == 16


def test_parts_of_the_rate(images):
    one = member(precision="fp64")
    found = taken(study.rate_parts, one, 20, images)
    both = {
        ("train", name, f"estimator={how}")
        for name in ("mutual_information", "marginal_kl")
        for how in ("exact", "batch512")
    }
    assert found.keys() == both | {("train", "mi_ceiling", "")}
    assert found["train", "mi_ceiling", ""].value == pytest.approx(math.log(32))
    assert all(v.n == 32 for v in found.values())
    for name in ("mutual_information", "marginal_kl"):  # 32 images are one batch: both estimators see all of them
        exact, batch = (found["train", name, f"estimator={how}"] for how in ("exact", "batch512"))
        assert exact.value == pytest.approx(batch.value, rel=1e-9, abs=1e-9)
    # I + KL is the mean of log q(z|x) - log p(z) over samples, whose mean is R
    total = sum(found["train", name, "estimator=exact"].value for name in ("mutual_information", "marginal_kl"))
    rate = evaluate(one.build().eval(), images.train, images.train_rows, 0)["rate"].mean().item()
    assert total == pytest.approx(rate, abs=1)


def test_neighbours(images):
    """By brute searches in float64."""
    one = member(precision="fp64")
    found = taken(study.neighbours, one, 20, images)
    test, train = (part.double().flatten(1) / 255 for part in (images.test, images.train))
    distances = torch.cdist(test, train).min(1).values
    counts = torch.histogram(distances, 100, range=(0, 25)).hist
    bins = {("test", "nearest_distance", f"bin={k}"): count for k, count in enumerate(counts.tolist()) if count}
    name = "nearest_distance_quantile"
    quantiles = {("test", name, f"q={q}"): distances.quantile(q).item() for q in (0.1, 0.5, 0.9)}
    assert found.keys() == {("test", "memorised", ""), *bins, *quantiles}
    assert {key: found[key].value for key in bins} == bins
    assert {key: found[key].value for key in quantiles} == pytest.approx(quantiles)
    assert all(found[key].se > 0 and found[key].n == 16 for key in found if key[1] != "memorised")
    assert list(study.neighbours(one.build().eval(), one, 12, images)) == []
    (early,) = study.neighbours(one.build().eval(), one, 16, images)
    assert early == found["test", "memorised", ""]
    assert early.value == share_by_hand(reconstruct(one.build().eval(), images.test), images)


def share_by_hand(made, images):
    made, test, train = (part.flatten(1).double() for part in (made, images.test / 255, images.train / 255))
    return (torch.cdist(made, train).min(1).values < (made - test).norm(dim=1)).double().mean().item()


@pytest.mark.parametrize(("weight", "least", "most"), [(1.0, 0, 0), (0.5, 0.1, 0.9), (0.0, 1, 1)])
def test_a_model_that_returns_training_images_has_memorised_them_all(images, monkeypatch, weight, least, most):
    """What it returns is a mixture of the test image, by its weight, and a training image."""
    one, train = member(), images.train[:16]
    made = (images.test.float() * weight + train.float() * (1 - weight) + 0.1) / 256
    monkeypatch.setattr(study, "reconstruct", lambda model, part: made)
    (found,) = study.neighbours(one.build(), one, 16, images)
    assert (found.value, found.n) == (share_by_hand(made, images), 16)
    assert least <= found.value <= most


def test_measures_give_what_they_say(images):
    gives = {
        "rate_distortion": {"distortion", "rate", "distortion_floor"},
        "rate_parts": {"mutual_information", "marginal_kl", "mi_ceiling"},
        "neighbours": {"memorised", "nearest_distance", "nearest_distance_quantile"},
    }
    for measure in study.DESIGN.measures:
        assert {key[1] for key in taken(measure.take, member(), 20, images)} == gives[measure.name]


def test_values_do_not_depend_on_who_asks(images):
    one, seeded = member(), member(seed=1)
    model = one.build().eval()
    first, again, other = (list(study.rate_distortion(model, m, 20, images)) for m in (one, one, seeded))
    assert first == again
    assert [v.value for v in first if v.measure == "distortion"] != [
        v.value for v in other if v.measure == "distortion"
    ]


def test_a_table_has_all_that_claims_and_figures_read(images):
    chosen = settings(betas=[1], precision="fp64")
    table = study.run(chosen)
    found = set(table.loc[table["step"] == 20, ["part", "measure", "arguments"]].itertuples(index=False, name=None))
    assert len(found - {row for row in found if row[1] == "nearest_distance"}) == 22
    assert sum(row[1] == "nearest_distance" for row in found) > 3
    assert set(table["step"]) == set(study.snapshots(member(steps=20)))
