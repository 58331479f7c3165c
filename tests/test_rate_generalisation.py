"""Study 3: its members, the steps at which it looks, and what it measures on each."""

import contextlib
import dataclasses
import math
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from made_up import keyed, swept_values
from tiny import member, row_of, settings

from vaekit import claims, sweep
from vaekit.losses import bernoulli_floor
from vaekit.metrics import evaluate, log_likelihood, memorisation, reconstruct
from vaekit.settings import SettingsError
from vaekit.store import SHORT, results
from vaekit.store.table import budget_label, budgets, frame
from vaekit.studies import rate_generalisation as study
from vaekit.studies.rate_generalisation import claims as study_claims

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
    odd = settings(betas="[1, 1e-3, 1.0]", seeds=2.0, depths="1")
    assert (odd.betas, odd.seeds, odd.depths) == ((1.0, 0.001), (2,), (1,))
    assert len(study.members(odd)) == 2


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


def test_the_networks_are_members_with_their_own_arguments():
    chosen = dataclasses.replace(settings(betas=[1], models="[dense_vae, conv_vae]", depths=[1, 3]), channels=5)
    result = [(m.model, dict(m.model_args)) for m in study.members(chosen)]
    assert result == [
        ("dense_vae", {"depth": 1, "hidden": 4, "latent_dim": 10}),
        ("dense_vae", {"depth": 3, "hidden": 4, "latent_dim": 10}),
        ("conv_vae", {"depth": 1, "channels": 5, "latent_dim": 10}),
        ("conv_vae", {"depth": 3, "channels": 5, "latent_dim": 10}),
    ]
    (paper,) = study.members(study.Settings.at("paper", models="conv_vae", depths=3, betas=1, seeds=0, n_train=16_384))
    assert dict(paper.model_args) == {"depth": 3, "channels": 64, "latent_dim": 10}  # what claim 3.12 reads


def test_the_parts_of_the_rate_have_weights_of_their_own():
    chosen = settings(betas=None, objective="mi_kl", mi=[1, 0.5], kl="[0, 1]")
    assert [(m.objective, dict(m.weights)) for m in study.members(chosen)] == [
        ("mi_kl", {"mi": mi, "kl": kl}) for mi, kl in ((1, 0), (1, 1), (0.5, 0), (0.5, 1))
    ]
    assert len(study.members(settings(betas=None, objective="mi_kl"))) == 4


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"betas": None, "mi": 0}, "mi: no weight of the objective beta; leave it out, or ask for objective mi_kl"),
        ({"betas": None, "mi": 0, "kl": 1}, "2 problems:\n- mi: no .*\n- kl: no weight"),
        ({"objective": "mi_kl"}, "betas: no weight of the objective mi_kl; leave it out, or ask for objective beta"),
        ({"objective": "mi_kl", "betas": None, "kl": -1}, "kl .*got -1; wanted .* at least 0"),
        ({"objective": "mikl"}, r"got 'mikl' \(did you mean mi_kl\?\); wanted beta or mi_kl"),
        ({"models": "cnn"}, "models .*got 'cnn'; wanted one or more of dense_vae or conv_vae"),
        ({"models": "conv_vae", "depths": 6}, "conv_vae halves .* tetrominoes's of 32 x 32 cannot be halved 6 times"),
    ],
)
def test_what_does_not_go_together_is_refused(given, says):
    with pytest.raises(SettingsError, match=says):
        settings(**given)


def test_a_set_with_training_images_of_its_own_has_a_tenth_of_them(monkeypatch):
    monkeypatch.setattr("vaekit.studies.base.absence", lambda name: None)  # as if every file were there
    chosen = study.Settings.at("short", data="[fashion_mnist, mnist32, small_norb, shapes3d]")
    sizes = {name: {m.n_train for m in study.members(chosen) if m.data == name} for name in chosen.data}
    tenths = {"fashion_mnist": {6_000}, "mnist32": {6_000}, "small_norb": {2_430}, "shapes3d": {48_000}}
    assert sizes == tenths
    assert all(tenths.get(name, {n}) == {n} for name, n in study_claims.OTHERS.items())
    both = study.Settings.at("paper", data=["tetrominoes", "mnist"], split="cv")
    assert both.splits() == [("tetrominoes", "cv", 16_384), ("tetrominoes", "cv", 81_920), ("mnist", "cv", 6_000)]
    given = study.Settings.at("short", data="mnist", n_train=[100, 200])
    assert given.splits() == [("mnist", "cv", 100), ("mnist", "cv", 200)]
    assert study.Settings.at("short", data="mnist", split="own").splits() == [("mnist", "own", None)]
    with pytest.raises(SettingsError, match=r"fashion_mnist's of 28 x 28 cannot be halved 3 times; .*dense_vae"):
        study.Settings.at("short", data="fashion_mnist", models="[dense_vae, conv_vae]")


def of_claim_3_16(d, seeds=(0, 1, 2)):
    """The tables of members as the settings make them, with the test D that `d` says at their weights."""
    chosen = study.Settings.at("paper", objective="mi_kl", depths=3, n_train=16_384, seeds=list(seeds))
    distortions = results.Tables()
    for m in study.members(chosen):
        weights = dict(m.weights)
        distortions.members[m.key] = row_of(m)
        distortions.measures[m.key] = [
            {"member": m.key[:SHORT], "step": step, "part": "test", "measure": "distortion"}
            | {"arguments": "samples=1", "value": d(**weights) + 0.01 * m.seed * weights["mi"], "se": 0, "n": 9}
            | {"version": 1}
            for step in study.SPEC.saved_steps(m)
        ]
    return distortions


@pytest.mark.parametrize(
    ("d", "outcome"),
    [(lambda mi, kl: 77 + 3 * kl, claims.REPRODUCED), (lambda mi, kl: 77 + 3 * mi, claims.NOT_REPRODUCED)],
)
def test_claim_3_16_reads_such_members_also_beside_others(d, outcome):
    others = results.Tables(members={m.key: row_of(m) for m in study.members(study.Settings.at("short"))})
    table = frame(others.merged(of_claim_3_16(d)))
    verdict = claims.verdict(study_claims.CLAIMS["3.16"], table)
    assert (verdict.outcome, verdict.seeds) == (outcome, 3)


def test_a_table_of_both_networks_and_of_both_objectives_keeps_them_apart(monkeypatch):
    monkeypatch.setattr(sweep.plan, "seconds_per_step", lambda member, device: 0.01)
    how = {"betas": [0.1], "n_train": 32}
    asked = dataclasses.replace(settings(models="[dense_vae, conv_vae]", **how), channels=2)
    table = study.run(asked)
    assert table["asked"].all()
    assert table.loc[table["model"] == "conv_vae", "hidden"].isna().all()
    axes = study.SPEC.axes
    assert {budget_label(rows, axes): rows["model"].unique().tolist() for rows in budgets(table, axes)} == {
        "20 steps of 8, 4 units, Tetrominoes, 1 seed": ["dense_vae"],
        "20 steps of 8, 2 channels, Tetrominoes, 1 seed": ["conv_vae"],
    }
    parts = study.run(settings(betas=None, objective="mi_kl", mi=[1], kl=[0, 1]))
    assert set(parts["objective"]) == {"mi_kl"}
    (rows,) = budgets(parts, axes)
    assert set(rows[["mi", "kl"]].itertuples(index=False, name=None)) == {(1, 0), (1, 1)}
    results.write(results.folder(study.SPEC.name), sweep.tables(study.SPEC), {})
    whole = study.run(study.Settings.at("published"))
    assert len(budgets(whole, axes)) == 3
    shown = study.run(study.Settings.at("published", models="conv_vae", betas=0.1))
    assert shown["model"].unique().tolist() == ["conv_vae"]
    assert np.array_equal(shown["beta"].unique(), [0.1])
    assert set(study.run(study.Settings.at("published", objective="mi_kl", kl=0))["kl"]) == {0}


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 20, 999, 1_000, 50_000, 257_000])
def test_snapshots_hold_the_end_four_fifths_and_what_is_kept(steps):
    one = member(steps=steps)
    snapshots, kept = study.measured_steps(one), study.SPEC.saved_steps(one)
    assert set(kept) <= set(snapshots)
    for chosen in (snapshots, kept):
        assert chosen == tuple(sorted(set(chosen)))
        assert chosen[0] > 0
        assert chosen[-1] == steps
        assert max(1, round(0.8 * steps)) in chosen
    assert len(kept) <= 5
    shorter = {100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000} & set(range(steps))
    assert shorter <= set(snapshots)  # so that curves of different lengths can be compared


@pytest.fixture
def images():
    return sweep.examples("tetrominoes", "cv", 32, 16)


def taken(measure, one, step, images):
    return keyed(swept_values(study.SPEC, measure, one.build().eval(), one, step, images))


def test_rates_and_distortions_which_depend_on_the_member_alone(images, monkeypatch):
    one = member(precision="fp64")
    model = one.build().eval()
    answers = {(v.part, v.measure, v.arguments): v for v in study.rate_distortion(model, one, 20, images)}
    parts = {"train": 32, "test": 16, "test_a": 8, "test_b": 8}
    usual = {(part, *what) for part in parts for what in (("distortion", "samples=1"), ("rate", ""))}
    last = {(part, *what) for part in ("train", "test") for what in (("distortion", "mean"), ("distortion_floor", ""))}
    assert answers.keys() == usual | last | {("test", "distortion", "samples=10")}
    assert {key: v.n for key, v in answers.items()} == {key: parts[key[0]] for key in answers}
    early = {(v.part, v.measure, v.arguments): v for v in study.rate_distortion(model, one, 16, images)}
    assert early == {key: answers[key] for key in usual}
    assert not any(taken(study.rate_distortion, one, step, images) for step in study.measured_steps(one)[:-2])
    direct = evaluate(model, images.test, images.test_rows, one.seed)
    for name, arguments in (("distortion", "samples=1"), ("rate", "")):
        whole, a, b = (answers[part, name, arguments] for part in ("test", "test_a", "test_b"))
        assert whole.value == pytest.approx(direct[name].mean().item(), rel=1e-12)
        assert whole.se == pytest.approx(direct[name].std().item() / 4, rel=1e-12)
        assert whole.value == pytest.approx((a.value + b.value) / 2, rel=1e-12)
        assert a.value != b.value
    floor = bernoulli_floor(images.train.double() / 255).mean().item()
    assert answers["train", "distortion_floor", ""].value == pytest.approx(floor, rel=1e-12)
    draws = [evaluate(model, images.test, images.test_rows, one.seed, draw)["distortion"] for draw in range(10)]
    assert answers["test", "distortion", "samples=10"].value == pytest.approx(
        torch.stack(draws).mean().item(), rel=1e-12
    )
    assert list(study.rate_distortion(model, one, 20, images)) == list(answers.values())
    other = study.rate_distortion(model, member(precision="fp64", seed=1), 20, images)
    assert all(v != answers[v.part, v.measure, v.arguments] for v in other if v.arguments.startswith("samples"))
    monkeypatch.setattr(study, "NESTED", 5)  # of which ten samples are taken
    nested = {(v.part, v.measure, v.arguments): v.n for v in study.rate_distortion(model, one, 20, images)}
    assert nested == {key: v.n for key, v in answers.items()} | {("test", "distortion", "samples=10"): 5}


def test_a_learning_curve_is_of_the_first_images_at_every_snapshot(images, monkeypatch):
    one = member(precision="fp64")
    model = one.build().eval()
    monkeypatch.setattr(study, "NESTED", 6)
    first = dataclasses.replace(
        images,
        train=images.train[:6],
        train_rows=images.train_rows[:6],
        test=images.test[:6],
        test_rows=images.test_rows[:6],
    )
    whole, nested = (
        {(v.part, v.measure, v.arguments): v for v in measure(model, one, 16, shown)}
        for measure, shown in ((study.rate_distortion, first), (study.learning_curve, images))
    )
    assert {part: v.n for (part, *_), v in nested.items()} == {
        "train_nested": 6,
        "test_nested": 6,
        "test_nested_a": 3,
        "test_nested_b": 3,
    }
    assert len(nested) == len(whole)
    for (part, *what), value in nested.items():
        same = whole[part.replace("_nested", ""), *what]
        assert (value.value, value.se, value.n) == (same.value, same.se, same.n)
    for step in study.measured_steps(one):
        assert len(list(study.learning_curve(model, one, step, images))) == 8
    monkeypatch.setattr(study, "NESTED", 100)  # of fewer images, all
    counts = {v.part: v.n for v in study.learning_curve(model, one, 4, images)}
    assert counts == {"train_nested": 32, "test_nested": 16, "test_nested_a": 8, "test_nested_b": 8}


def test_parts_of_the_rate(images):
    one = member(precision="fp64")
    answers = taken(study.rate_parts, one, 20, images)
    both = {
        ("train", name, f"estimator={how}")
        for name in ("mutual_information", "marginal_kl")
        for how in ("exact", "batch512")
    }
    assert answers.keys() == both | {("train", "mi_ceiling", "")}
    assert answers["train", "mi_ceiling", ""].value == pytest.approx(math.log(32))
    assert all(v.n == 32 for v in answers.values())
    for name in ("mutual_information", "marginal_kl"):  # 32 images are one batch: both estimators see all of them
        exact, batch = (answers["train", name, f"estimator={how}"] for how in ("exact", "batch512"))
        assert exact.value == pytest.approx(batch.value, rel=1e-9, abs=1e-9)
    # I + KL is the mean of log q(z|x) - log p(z) over samples, whose mean is R
    total = sum(answers["train", name, "estimator=exact"].value for name in ("mutual_information", "marginal_kl"))
    rate = evaluate(one.build().eval(), images.train, images.train_rows, 0)["rate"].mean().item()
    assert total == pytest.approx(rate, abs=1)


def test_the_likelihood_of_the_last_weights(images, monkeypatch):
    monkeypatch.setattr(study, "BOUND", (5, 70))
    one = member(precision="fp64")
    model = one.build().eval()
    assert not taken(study.likelihood, one, 16, images)
    (value,) = study.likelihood(model, one, 20, images)
    assert (value.part, value.measure, value.arguments) == ("test", "log_likelihood", "samples=70")
    bound = log_likelihood(model, images.test[:5], images.test_rows[:5], one.seed, 70)
    assert (value.value, value.n) == (pytest.approx(bound.mean().item(), rel=1e-12), 5)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, True),
        ({"steps": 257_000, "seed": 4}, True),
        ({"steps": 19_999}, False),
        ({"n_train": 81_920}, False),
        ({"split": "cd"}, False),
        ({"data": "dsprites_like"}, False),
        ({"objective": "mi_kl"}, False),
        ({"model_args": {"depth": 1, "hidden": 512, "latent_dim": 10}}, False),
        ({"model": "conv_vae", "model_args": {"depth": 3, "channels": 64, "latent_dim": 10}}, False),
    ],
)
def test_the_members_of_claim_3_8_have_more_samples_at_two_steps(images, monkeypatch, changes, named):
    asked = []

    def counted(model, images, rows, seed, samples):
        asked.append((len(rows), samples))
        return torch.zeros(len(rows), dtype=torch.float64)

    monkeypatch.undo()  # of what `place` makes smaller
    monkeypatch.setattr(study, "log_likelihood", counted)
    many = dataclasses.replace(images, test=images.test.repeat(100, 1, 1, 1), test_rows=images.test_rows.repeat(100))
    args = {"depth": 3, "hidden": 512, "latent_dim": 10}
    one = member(**({"model_args": args, "steps": 20_000, "n_train": 16_384, "n_test": None} | changes))
    for step in study.SPEC.saved_steps(one):
        answers = swept_values(study.SPEC, study.likelihood, torch.nn.Identity(), one, step, many)
        wanted = 2 if named else 1
        assert len(answers) == (step in study.SPEC.saved_steps(one)[-wanted:])
        assert all(v.arguments == f"samples={5_000 if named else 1_000}" for v in answers)
    assert asked == ([(1_000, 5_000)] * 2 if named else [(100, 1_000)])


def test_neighbours(images):
    """By brute searches in float64."""
    one = member(precision="fp64")
    answers = taken(study.neighbours, one, 20, images)
    test, train = (part.double().flatten(1) / 255 for part in (images.test, images.train))
    distances = torch.cdist(test, train).min(1).values
    counts = torch.histogram(distances, 100, range=(0, 25)).hist
    bins = {("test", "nearest_distance", f"bin={k}"): count for k, count in enumerate(counts.tolist()) if count}
    name = "nearest_distance_quantile"
    quantiles = {("test", name, f"q={q}"): distances.quantile(q).item() for q in (0.1, 0.5, 0.9)}
    assert answers.keys() == {("test", "memorised", ""), *bins, *quantiles}
    assert {key: answers[key].value for key in bins} == bins
    assert {key: answers[key].value for key in quantiles} == pytest.approx(quantiles)
    assert all(answers[key].se > 0 and answers[key].n == 16 for key in answers if key[1] != "memorised")
    assert not taken(study.neighbours, one, 12, images)
    (early,) = study.neighbours(one.build().eval(), one, 16, images)
    assert early == answers["test", "memorised", ""]
    assert early.value == share_by_hand(reconstruct(one.build().eval(), images.test), images)


@pytest.mark.parametrize("of", ["floor", "Among"])
def test_what_the_members_of_a_split_share_is_computed_once_by_threads_that_ask_at_once(images, monkeypatch, of):
    ask = {"floor": lambda images: study._floor(images, "test"), "Among": study._nearest}[of]
    compute, both, computed = getattr(study, of), threading.Barrier(2), []

    def counted(part):
        computed.append(part)
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(0.5)  # for another that computes too
        return compute(part)

    monkeypatch.setattr(study, of, counted)
    alike = dataclasses.replace(images)  # equal to no other images: nothing is known of these
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, [alike, alike])
    assert first is second
    assert len(computed) == 1
    other = dataclasses.replace(images)
    ask(other)
    ask(other)
    assert len(computed) == 2


def share_by_hand(reconstructions, images):
    reconstructions, test, train = (
        part.flatten(1).double() for part in (reconstructions, images.test / 255, images.train / 255)
    )
    return (
        (torch.cdist(reconstructions, train).min(1).values < (reconstructions - test).norm(dim=1))
        .double()
        .mean()
        .item()
    )


@pytest.mark.parametrize(("weight", "least", "most"), [(1.0, 0, 0), (0.5, 0.1, 0.9), (0.0, 1, 1)])
def test_a_model_that_returns_training_images_has_memorised_them_all(images, monkeypatch, weight, least, most):
    """What it returns is a mixture of the test image, by its weight, and a training image."""
    one, train = member(), images.train[:16]
    reconstructions = (images.test.float() * weight + train.float() * (1 - weight) + 0.1) / 256
    monkeypatch.setattr(study, "reconstruct", lambda model, part: reconstructions)
    (result,) = study.neighbours(one.build(), one, 16, images)
    assert (result.value, result.n) == (share_by_hand(reconstructions, images), 16)
    assert least <= result.value <= most


@pytest.fixture
def memorises(monkeypatch):
    """Runs the measure with a model that makes what `make(nested test images)` gives, in [0, 1]."""

    def run(make, one, images, step=16):
        monkeypatch.setattr(study, "reconstruct", lambda model, part: make(part))
        values = swept_values(study.SPEC, study.memorised_images, one.build(), one, step, images)
        return {(v.measure, v.arguments): v for v in values}

    return run


def test_memorisation_compares_as_many_training_as_control_images(images, memorises, monkeypatch):
    """With 16 test images, 8 are nested and 8 control; of the training images, 8 that the seed draws."""
    drawn = []

    def compared(made, targets, train, control):
        drawn.append((targets, train, control))
        return memorisation(made, targets, train, control)

    monkeypatch.setattr(study, "memorisation", compared)
    answers = [memorises(lambda part: part / 255, member(seed=seed), images) for seed in (0, 0, 1)]
    assert answers[0].keys() == {
        ("train_preference", ""),
        ("nearer_than_target", "among=train"),
        ("nearer_than_target", "among=control"),
    }
    assert all(v.n == 8 and v.part == "test" for v in answers[0].values())
    assert answers[0] == answers[1] != answers[2]
    for targets, train, control in drawn:
        assert torch.equal(targets, images.test[:8])
        assert sorted(control.flatten(1).tolist()) == sorted(images.test[8:].flatten(1).tolist())
        among = [row for row in images.train.flatten(1).tolist() if row in train.flatten(1).tolist()]
        assert len(train) == len(among) == 8
    assert not torch.equal(drawn[0][1], drawn[2][1])
    # With images enough, the nested ones are 10,000 (here 4), and m is the number of training images.
    monkeypatch.setattr(study, "NESTED", 4)
    few = dataclasses.replace(images, train=images.train[:5], train_rows=images.train_rows[:5])
    memorises(lambda part: part / 255, member(), few)
    targets, train, control = drawn[-1]
    assert torch.equal(targets, images.test[:4])
    assert sorted(train.flatten(1).tolist()) == sorted(few.train.flatten(1).tolist())
    assert len(control) == 5
    assert all(row in images.test[4:].flatten(1).tolist() for row in control.flatten(1).tolist())


def test_memorisation_at_the_steps_of_a_verdict_and_between_alike_images(images, memorises):
    def exact(part):
        return part / 255

    one = member()
    assert not any(memorises(exact, one, images, step) for step in study.measured_steps(one)[:-2])
    assert memorises(exact, one, images, 16) == memorises(exact, one, images, 20) != {}
    for changes in ({"split": "checkerboard"}, {"split": "cd"}, {"split": "own"}, {"data": "mnist"}):
        assert not memorises(exact, member(**changes), images)
    assert memorises(exact, member(split="random", n_train=None), images)
    nothing = dataclasses.replace(images, test=images.test[:1], test_rows=images.test_rows[:1])
    assert not memorises(exact, one, nothing)


def test_what_is_not_finite_has_no_memorisation(images, memorises):
    def odd(part):
        made = part / 255
        made[3, 0, 0, 0] = math.nan
        return made

    assert all(math.isnan(v.value) for v in memorises(odd, member(), images).values())


def test_a_model_that_returns_training_images_prefers_them(images, memorises):
    few = dataclasses.replace(images, train=images.train[:8], train_rows=images.train_rows[:8])
    values = memorises(lambda part: few.train / 255, member(), few)
    assert values["train_preference", ""].value == 0.5
    assert values["nearer_than_target", "among=train"].value == 1.0
    # Where there are more training images than are drawn, those that are not drawn do not count.
    drawn = set(study._order(0, "train", len(images.train))[:8].tolist())
    assert len(images.train) > 8
    others = [i for i in range(len(images.train)) if i not in drawn][:8]
    undrawn = memorises(lambda part: images.train[others] / 255, member(), images)
    assert undrawn["train_preference", ""].value < 0.5


def test_a_table_has_all_that_claims_and_figures_read(images):
    chosen = settings(betas=[1], precision="fp64")
    table = study.run(chosen)
    answers = set(table.loc[table["step"] == 20, ["part", "measure", "arguments"]].itertuples(index=False, name=None))
    assert len(answers - {row for row in answers if row[1] == "nearest_distance"}) == 23 + 8 + 3
    assert sum(row[1] == "nearest_distance" for row in answers) > 3
    assert set(table["step"]) == set(study.measured_steps(member(steps=20)))
