"""Study 1: its members, the steps at which it looks, what it measures on each, and its figures."""

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from made_up import assert_drawn_whatever_the_range, drawn, errorbars, keyed
from test_claims_id_transition import READ, published, table
from tiny import held, moved, with_columns

from vaekit import claims, sweep
from vaekit.data import image_shape
from vaekit.figures import mean_sd
from vaekit.fleet import new_model
from vaekit.metrics import evaluate, information_imbalance, intrinsic_dimension
from vaekit.settings import SettingsError
from vaekit.store import StoreError, results
from vaekit.store import table as tidy
from vaekit.studies import id_transition as study
from vaekit.studies.id_transition import claims as ours
from vaekit.studies.id_transition import explore
from vaekit.studies.id_transition import figures as plots

pytestmark = pytest.mark.usefixtures("place", "house_style")
PAIRS = [f"from={a},to={b}" for a, b in itertools.permutations(range(11), 2)]
NEAR = [f"from={a},to={b}" for a, b in itertools.permutations(range(11), 2) if abs(a - b) in (1, 10)]


def settings(scale="quick", width=2, batch_size=8, n_test=24, **given) -> study.Settings:
    given = {"data": "tetrominoes", "latent_dims": [2, 3], "seeds": [0], "epochs": [0, 1, 2], "n_train": 16} | given
    return dataclasses.replace(study.Settings.at(scale, **given), width=width, batch_size=batch_size, n_test=n_test)


# Members


def test_members_are_the_grid_with_seeds_outermost():
    members = study.members(settings(seeds=[3, 5], n_train=64))
    assert [(m.seed, dict(m.model_args)["latent_dim"]) for m in members] == [(3, 2), (3, 3), (5, 2), (5, 3)]
    assert len({m.key for m in members}) == 4
    first = members[0]
    layout = {"depth": 4, "channels": (2, 4, 8, 8), "batch_norm": True, "slope": 0.2}
    assert dict(first.model_args) == layout | {"latent_dim": 2}
    assert (first.model, first.objective, dict(first.weights), first.split) == ("conv_vae", "beta", {"beta": 1}, "cv")
    assert (first.steps, first.batch_size, first.n_train, first.n_test) == (16, 8, 64, 24)


def test_the_scales_are_the_papers_and_smaller():
    """The paper's grid and budget, and the layout of its authors' network."""
    paper = {"data": ["cifar10", "mnist32"]}
    values = study.Settings.SCALES["paper"]
    assert values["data"] == ("cifar10", "mnist32")
    assert (values["latent_dims"], values["seeds"]) == ((2, 4, 8, 16, 32, 64, 128), (0, 1, 2))
    assert values["epochs"] == (0, 1, 2, 5, 10, 20, 50, 75, 100, 150, 200)
    members = study.members(study.Settings.at("published", **paper))
    assert len(members) == 3 * 2 * 7
    cifar, mnist = members[6], members[7]
    assert (cifar.data, cifar.n_train, cifar.steps, cifar.batch_size) == ("cifar10", 40_000, 31_250, 256)
    assert (mnist.data, mnist.n_train, mnist.steps) == ("mnist32", 48_000, 37_500)
    assert (cifar.n_test, cifar.lr, cifar.weight_decay) == (5_000, 1e-3, 1e-4 / 256)
    assert dict(cifar.model_args)["channels"] == (64, 128, 256, 256)
    quick = study.Settings.at("quick", data="tetrominoes")
    assert {m.steps for m in study.members(quick)} == {80}
    assert study.Settings.SCALES["short"]["epochs"][-1] == 50


def test_quick_takes_the_first_available_set(place):
    assert study.Settings.at("quick").data == ("tetrominoes",)
    (place / "data").mkdir()
    (place / "data" / "cifar10_jpeg.npz").write_bytes(b"no images, which only loading would find")
    assert study.Settings.at("quick").data == ("cifar10_jpeg",)


def test_images_of_every_set_fit_the_net():
    for name in study.SETS:
        assert not image_shape(name)[1] % 16
    chosen = settings(data="dsprites_like", latent_dims=[2])
    (one,) = study.members(chosen)
    images = torch.zeros(1, 1, 64, 64, dtype=torch.uint8)
    assert evaluate(one.build().eval(), images, torch.zeros(1, dtype=torch.int64), 0)["rate"].shape == (1,)
    assert settings(n_train=0).images_of("tetrominoes") == 40_000


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"latent_dims": [0, 8]},
            r"latent_dims .* got 0; wanted one or more whole numbers or ranges such as 0-4, each at least 1",
        ),
        ({"epochs": [0, 5, 2]}, "epochs: got 0, 5, 2; wanted them in ascending order"),
        ({"epochs": [5, 0, 5]}, "ascending order"),  # the second 5 is merged with the first
        ({"epochs": [0]}, "epochs: got 0 alone; wanted a last one of at least 1"),
        ({"epochs": [0, 3]}, r"epochs .* got 3; wanted one or more of 0, 1, 2, 5, 10, 20, 50, 75, 100, 150 or 200"),
        ({"data": "mnist"}, r"'mnist' \(did you mean mnist32\?\)"),
        ({"latent_dim": 8}, r"latent_dim: no such parameter \(did you mean latent_dims\?\)"),
        ({"width": 8}, "width: set by the scale alone"),
        ({"noise": "froze"}, r"noise .* got 'froze' \(did you mean frozen\?\); wanted one or more of fresh or frozen"),
    ],
)
def test_bad_input_is_refused(given, message):
    with pytest.raises(SettingsError, match=message):
        study.Settings.at("quick", **given)


# Steps


@pytest.mark.parametrize(("epochs", "n_train", "batch"), [(1, 16, 8), (2, 16, 256), (5, 2048, 64), (200, 40_000, 256)])
def test_snapshots_hold_the_epochs_before_the_end_and_what_verdicts_compare(epochs, n_train, batch):
    (one,) = study.members(settings(latent_dims=[2], epochs=[epochs], n_train=n_train, batch_size=batch))
    values, kept = study.measured_steps(one), study.SPEC.saved_steps(one)
    assert values == tuple(sorted(set(values)))
    assert set(kept) <= set(values)
    assert {max(1, round(0.8 * one.steps)), one.steps} <= set(kept)
    assert values[0] == 0
    assert values[-1] == one.steps >= 1
    wanted = {round(e * n_train / batch) for e in study.EPOCHS if e < epochs}
    assert wanted - {one.steps} <= set(values)
    assert len(kept) <= 5


def test_the_papers_steps_are_those_of_its_epochs():
    (one,) = study.members(study.Settings.at("published", data="cifar10", latent_dims=64, seeds=0))
    assert study.measured_steps(one) == (0, 156, 312, 781, 1562, 3125, 7812, 11719, 15625, 23438, 25000, 31250)
    assert study.SPEC.saved_steps(one) == (156, 1562, 7812, 25000, 31250)


# What is measured


@pytest.fixture
def member():
    return study.members(settings(latent_dims=[3]))[0]


@pytest.fixture
def images(member):
    return sweep.examples_of(member)


@pytest.fixture
def model(member):
    return new_model(member.build, member.seed).eval()


def taken(measure, model, one, step, images):
    return keyed(measure(model, one, step, images), finite=False)


def test_layers_are_numbered_as_in_the_paper(model, member, images):
    answers = study.layers(model, images.test, images.test_rows, member.seed)
    shapes = {name: tuple(points.shape[1:]) for name, points in answers.items()}
    assert shapes == {
        "0": (3, 32, 32),
        "1": (2, 16, 16),
        "2": (4, 8, 8),
        "3": (8, 4, 4),
        "4": (8, 2, 2),
        "mu": (3,),
        "5": (3,),
        "6": (32,),
        "7": (8, 4, 4),
        "8": (4, 8, 8),
        "9": (2, 16, 16),
        "10": (3, 32, 32),
    }
    assert {len(points) for points in answers.values()} == {24}
    torch.testing.assert_close(answers["0"], images.test.float() / 255)
    assert (answers["10"] > 0).all()
    assert (answers["10"] < 1).all()


def test_layers_do_not_depend_on_batches_and_z_is_a_sample_of_the_members_own(model, member, images):
    whole, parts, other = (
        study.layers(model, images.test, images.test_rows, seed, batch_size=size)
        for seed, size in ((0, 99), (0, 5), (1, 99))
    )
    for name, points in whole.items():
        torch.testing.assert_close(parts[name], points)
        same = torch.equal(points, other[name])
        assert same == (name in ("0", "1", "2", "3", "4", "mu")), name
    q = model.encode(images.test.float() / 255)
    noise = (whole["5"] - q.mu) / (0.5 * q.logvar).exp()
    assert abs(noise.mean().item()) < 0.5
    assert 0.7 < noise.std().item() < 1.3


def test_dimensions_of_every_layer(model, member, images):
    at_end = taken(study.dimensions, model, member, member.steps, images)
    names = [*map(str, range(11)), "mu"]
    both = {("test", name, f"layer={n}") for name in ("intrinsic_dimension", "duplicates") for n in names}
    assert at_end.keys() == both | {("test", "prior_dimension", "")}
    early = taken(study.dimensions, model, member, 1, images)
    assert early == {key: at_end[key] for key in both}
    points = study.layers(model, images.test, images.test_rows, member.seed)
    for name in names:
        wanted = intrinsic_dimension(points[name])
        result = at_end["test", "intrinsic_dimension", f"layer={name}"]
        assert (result.value, result.n) == pytest.approx((wanted.value, wanted.n), nan_ok=True)
    assert at_end["test", "intrinsic_dimension", "layer=0"].se > 0


def test_duplicates_are_counted_and_a_constant_layer_is_no_number(model, member, images):
    doubled = dataclasses.replace(images, test=torch.cat([images.test[:20], images.test[:4]]))
    values = taken(study.dimensions, model, member, 1, doubled)
    assert values["test", "duplicates", "layer=0"].value == 4
    assert values["test", "intrinsic_dimension", "layer=0"].n == 20
    assert values["test", "duplicates", "layer=5"].value == 0  # their noise is their own
    with torch.no_grad():
        model.mu.weight.zero_()
    collapsed = {v.arguments: v for v in study.dimensions(model, member, 1, images) if v.measure != "duplicates"}
    assert math.isnan(collapsed["layer=mu"].value)
    assert math.isfinite(collapsed["layer=5"].value)


def test_the_prior_is_the_null_model_of_as_many_points():
    one = study.members(settings(latent_dims=[4], n_test=400))[0]
    images = sweep.examples_of(one)
    values = taken(study.dimensions, one.build().eval(), one, one.steps, images)["test", "prior_dimension", ""]
    assert values.n == 400
    assert values.value == pytest.approx(4, abs=0.6)


def test_imbalances_of_adjacent_layers_and_of_all_at_the_end(model, member, images):
    early, late = (taken(study.imbalances, model, member, step, images) for step in (1, member.steps))
    assert {key[2] for key in early} == set(NEAR)
    assert {key[2] for key in late} == set(PAIRS)
    assert {v.n for v in (*early.values(), *late.values())} == {24}
    for key, value in early.items():
        assert value.value == late[key].value
    assert all(2 / 24 <= v.value < 2 for v in late.values())
    assert all(v.se > 0 for v in early.values() if v.value > 2 / 24 + 0.5)
    points = study.layers(model, images.test, images.test_rows, member.seed)
    (direct,) = information_imbalance(points, [("10", "0")]).values()
    assert early["test", "information_imbalance", "from=10,to=0"].value == pytest.approx(direct.value, abs=1e-12)


def test_rates_and_distortions(model, member, images):
    answers = taken(study.rate_distortion, model, member, 1, images)
    kinds = (("rate", ""), ("distortion", "samples=1"))
    assert answers.keys() == {(part, *kind) for part in ("train", "test") for kind in kinds}
    assert {key[0]: v.n for key, v in answers.items()} == {"train": 16, "test": 24}
    direct = evaluate(model, images.train, images.train_rows, member.seed)
    assert answers["train", "rate", ""].value == pytest.approx(direct["rate"].mean().item())


# From settings to table, figures and verdicts


def test_a_table_has_all_that_claims_and_figures_read(place):
    chosen = settings()
    table = study.run(chosen)
    assert table["asked"].all()
    assert set(table["step"]) == {0, 2, 3, 4}
    dimensions = table[table["measure"] == "intrinsic_dimension"].groupby(["key", "step"])["arguments"]
    assert {tuple(sorted(layers)) for _, layers in dimensions} == {
        tuple(sorted(f"layer={n}" for n in (*range(11), "mu")))
    }
    every = table[(table["measure"] == "information_imbalance") & (table["step"] == 4)]
    assert set(every["arguments"]) == set(PAIRS)
    for draw in FIGURES:
        drawn(draw(table))
    assert len(plots.numbers(table)) == 2
    points = held(explore.explore(table, chosen))["data"]["points"]
    assert [[len(at[0]) for _, at in point["at"]] for point in points] == [[4 * 11] * 4] * 2
    assert {answer.outcome for answer in claims.verdicts(ours.CLAIMS, table)} <= {claims.NOT_RUN, claims.NEEDS_DATA}
    # And the same from results/, to which an empty cell is no number.
    merged = sweep.tables(study.SPEC, members=study.members(chosen))
    results.write(results.folder(study.SPEC.name), merged, {})
    again = study.run(settings(scale="published", epochs=None))
    assert len(again) == len(table)
    drawn(plots.dimensions(again))


def test_frozen_noise_repeats_the_first_epoch_and_goes_its_own_way_after_it():
    both = study.members(settings(noise=["fresh", "frozen"]))
    assert [one.noise for one in both] == [None, None, "frozen", "frozen"]
    assert [one.key for one in both[:2]] == [one.key for one in study.members(settings())]
    assert [one.period for one in both] == [None, None, 2, 2]
    assert study.members(settings(noise="frozen", n_train=17))[0].period == 3  # whole steps, and all images
    table = study.run(settings(noise=["fresh", "frozen"]))
    assert set(table["noise"]) == {"fresh", "frozen"}
    place = ["latent_dim", "step", "part", "measure", "arguments"]
    fresh, frozen = (tidy.having(table, noise=noise).set_index(place)["value"].sort_index() for noise in study.NOISES)
    assert (fresh.index == frozen.index).all()
    step = fresh.index.get_level_values("step")
    assert ((fresh == frozen) | fresh.isna())[step <= 2].all()
    rates = fresh.index.get_level_values("measure") == "rate"
    assert (fresh != frozen)[rates & (step > 2)].all()
    drawn(plots.frozen_noise(table))
    # Those of one noise are asked for alone, in the store and in results/, whose older tables lack the column.
    assert set(study.run(settings())["noise"]) == {"fresh"}
    merged = sweep.tables(study.SPEC, members=both)
    results.write(results.folder(study.SPEC.name), merged, {})
    published = {"scale": "published", "epochs": None}
    assert set(study.run(settings(**published))["noise"]) == {"fresh", "frozen"}
    assert set(study.run(settings(**published, noise="frozen"))["noise"]) == {"frozen"}
    assert set(study.run(settings(**published, noise="fresh"))["noise"]) == {"fresh"}
    older = results.Tables({one.key: merged.members[one.key] for one in both[:2]}, merged.measures)
    older.measures = {key: merged.measures[key] for key in older.members}
    results.write(results.folder(study.SPEC.name), older, {})
    assert set(study.run(settings(**published, noise="fresh"))["noise"]) == {"fresh"}


def test_epochs_that_are_not_asked_for_are_measured_and_not_shown():
    some = study.run(settings(epochs=[0, 2], latent_dims=[2]))
    assert set(some["step"]) == {0, 3, 4}
    assert set(study.run(settings(latent_dims=[2]))["step"]) == {0, 2, 3, 4}  # nothing is trained again


def test_published_says_which_epochs_it_lacks():
    one = study.members(settings(latent_dims=[2]))
    sweep.run(study.SPEC, one, progress=False)
    results.write(results.folder(study.SPEC.name), sweep.tables(study.SPEC), {})
    given = {"scale": "published", "latent_dims": [2], "n_train": 16}
    assert set(study.run(settings(**given, epochs=[0, 2]))["step"]) == {0, 3, 4}
    with pytest.raises(StoreError, match=r"no member of 50 epochs; train some by `python -m vaekit train id_tran"):
        study.run(settings(**given, epochs=[0, 50]))


# Figures


FIGURES = (plots.dimensions, plots.over_dims, plots.phases, plots.over_epochs)
FIGURES += (plots.differences, plots.plane, plots.matrix)
PUBLISHED = {pair.replace("_layer", "") for pair in READ["information_imbalance"]}
MU = 11  # where claims, which read no layer mu, have numbers alone


def whole(measure, arguments, dim, epoch):
    """All that the study measures, made up."""
    if measure == "prior_dimension":
        return 0.9 * dim
    if measure == "duplicates":
        return 3.0 if arguments == "layer=0" else 0.0
    if arguments == f"layer={MU}":
        return 0.5 * dim
    if measure == "information_imbalance" and arguments not in PUBLISHED:
        return 0.3
    return published(measure, arguments, dim, epoch)


@pytest.fixture
def all_measures(monkeypatch):
    """A table of all measures at two budgets, on two sets."""
    every = {**READ, "information_imbalance": PAIRS, "prior_dimension": [""], "duplicates": ["layer=0", "layer=5"]}
    every["intrinsic_dimension"] = [*READ["intrinsic_dimension"], f"layer={MU}"]
    for name, arguments in every.items():
        monkeypatch.setitem(READ, name, arguments)
    only = tuple(every)
    how = {"dims": (2, 64), "epochs": (0, 1, 10, 50), "only": only}
    digits = {"data": "mnist32", "n_train": 48_000, "end": 50, "epochs": (0, 1, 10)}
    frames = [table(whole, seeds=(0, 1, 2), **how), table(whole, **(how | digits))]
    rows = pd.concat(frames, ignore_index=True).assign(asked=True, n=5_000)
    rows = rows.drop(columns=["layer", "from", "to"])  # of which mu is none as yet
    return with_columns(rows.replace({"arguments": {f"layer={MU}": "layer=mu"}}))


def labels(figure):
    """The words of each budget, however they are wrapped."""
    texts = [text.get_text() for ax in figure.axes for text in ax.texts]
    return [" ".join(text.split()) for text in texts if "steps of" in text]


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_each_budget_and_set_has_a_row_that_says_so(all_measures, draw):
    figure = drawn(draw(all_measures))
    first, second = labels(figure)
    assert first == "200 epochs of 40,000 images, N = 5,000: 31,250 steps of 256, CIFAR-10, 3 seeds"
    assert second == "50 epochs of 48,000 images, N = 5,000: 9,375 steps of 256, MNIST at 32 × 32, 1 seed"
    narrow = draw(all_measures.assign(channels=[(16, 32, 64, 64)] * len(all_measures)))
    assert labels(narrow)[0] == f"{first}, channels 16, 32, 64, 64"


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_missing_and_diverged_rows_leave_a_gap(all_measures, draw):
    drawn(draw(all_measures[(all_measures["arguments"] != "layer=7") & (all_measures["measure"] != "prior_dimension")]))
    drawn(
        draw(
            all_measures[
                (all_measures["latent_dim"] == 64)
                & (all_measures["seed"] == 0)
                & (all_measures["step"] == all_measures["steps"])
            ]
        )
    )
    lost = all_measures.assign(status=all_measures["status"].mask(all_measures["data"] == "mnist32", "diverged"))
    lost["value"] = lost["value"].mask(all_measures["arguments"] == "layer=5")
    assert len(labels(drawn(draw(lost)))) == 1
    nothing = drawn(draw(all_measures[all_measures["measure"] == "distortion"]))
    assert "here" in nothing.axes[0].texts[0].get_text()


@pytest.mark.slow
@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_figures_are_drawn_whatever_the_range_of_the_values(all_measures, draw):
    assert_drawn_whatever_the_range(draw, all_measures)


def test_dimensions_are_the_tables_means(all_measures):
    ax = drawn(plots.dimensions(all_measures)).axes[0]
    values = errorbars(ax)
    assert values.keys() == {"K = 2", "K = 64"}
    wanted = [published("intrinsic_dimension", f"layer={n}", 64, 200) for n in range(11)]
    np.testing.assert_allclose(values["K = 64"][0], range(11))
    np.testing.assert_allclose(values["K = 64"][1], wanted, rtol=1e-9)  # the seeds' jitter has mean 0
    (dashed,) = [line for line in ax.lines if line.get_label() == "the data"]
    assert np.asarray(dashed.get_ydata()) == pytest.approx([31, 31], rel=1e-9)


def test_bars_are_the_spread_over_seeds_or_one_seeds_own_error(all_measures):
    three, one = plots.dimensions(all_measures.assign(se=0.7)).axes
    images = (
        (all_measures["latent_dim"] == 2)
        & (all_measures["arguments"] == "layer=0")
        & (all_measures["measure"] == "intrinsic_dimension")
    )
    spread = all_measures.loc[images & (all_measures["step"] == 31_250), "value"].std()
    assert [first_bar(ax) for ax in (three, one)] == pytest.approx([spread, 0.7])


def first_bar(ax):
    """Half the length of the first error bar."""
    bars: Any = ax.containers[0]
    low, high = bars.lines[2][0].get_segments()[0][:, 1]
    return (high - low) / 2


def test_the_hump_and_the_code_over_k(all_measures):
    hump, code = drawn(plots.over_dims(all_measures)).axes[:2]
    (line,) = errorbars(hump).values()
    np.testing.assert_allclose(line[1], [1.0, 57.1 / 38.7], rtol=5e-3)
    measured = errorbars(code)
    assert measured.keys() == {"z", "mean of z", "the prior N(0, I)"}
    np.testing.assert_allclose(measured["z"][1], [2.0, 38.7], rtol=1e-6)
    np.testing.assert_allclose(measured["the prior N(0, I)"][1], [1.8, 57.6], rtol=1e-6)


def test_phases_are_those_of_k_64_or_of_the_largest_or_of_the_one_wanted(all_measures):
    ax = drawn(plots.phases(all_measures)).axes[0]
    assert list(errorbars(ax)) == [f"epoch {epoch}" for epoch in (0, 1, 10, 50, 160, 200)]
    assert ax.get_title() == "K = 64"
    assert errorbars(ax)["epoch 10"][1][3] == pytest.approx(27.0)
    assert drawn(plots.phases(all_measures, 2)).axes[0].get_title() == "K = 2"
    assert drawn(plots.phases(all_measures[all_measures["latent_dim"] == 2])).axes[0].get_title() == "K = 2"


def test_what_is_drawn_over_epochs(all_measures):
    kl, delta = drawn(plots.over_epochs(all_measures)).axes[:2]
    x, y = errorbars(kl)["K = 64"]
    np.testing.assert_allclose(x, [0, 1, 10, 50, 160, 200])
    np.testing.assert_allclose(np.take(y, [1, 2, 5]), [24, 30, 17], rtol=1e-6)
    np.testing.assert_allclose(np.take(errorbars(delta)["K = 64"][1], [1, 2, 5]), [0.0316, 0.0089, 0.047], rtol=1e-6)


def with_frozen(**fields):
    """Members of ten epochs with fresh noise, in a table that does not name it, and half their values with frozen."""
    how = {"dims": (2, 32, 64), "epochs": (0, 1, 2, 5), "end": 10, "only": ("rate", "information_imbalance")}
    fresh = table(seeds=(0, 1), **how)
    frozen = table(lambda *place: published(*place) / 2, seeds=(0, 1), noise="frozen", **(how | fields))
    rows = pd.concat([fresh, frozen], ignore_index=True)
    rates = rows[rows["measure"] == "rate"]
    rows = pd.concat([rows, rates.assign(part="test", value=rates["value"] + 1)], ignore_index=True)
    return rows.assign(arguments=rows["arguments"].str.replace("_layer", ""))


def test_frozen_noise_is_drawn_beside_fresh_noise():
    rows = with_frozen()
    figure = drawn(plots.frozen_noise(rows))
    assert len(labels(figure)) == 1
    delta, kl = figure.axes[:2]
    assert delta.get_title() == kl.get_title() == "K = 32"
    curves = errorbars(delta)
    assert [*curves] == ["fresh", "frozen"]
    np.testing.assert_allclose(curves["fresh"][0], [0, 1, 2, 5, 8, 10])
    wanted = tidy.select(rows, "information_imbalance", at="all", latent_dim=32, **plots.BACK)
    for noise, named in (("fresh", None), ("frozen", "frozen")):
        means = tidy.having(wanted, noise=named).groupby("step")["value"].mean()
        np.testing.assert_allclose(curves[noise][1], means, atol=1e-9)
    rates = errorbars(kl)
    assert [*rates] == ["fresh, train", "fresh, test", "frozen, train", "frozen, test"]
    np.testing.assert_allclose(np.subtract(rates["frozen, test"][1], rates["frozen, train"][1]), 1, atol=1e-6)
    np.testing.assert_allclose(rates["fresh, train"][1], 2 * np.array(rates["frozen, train"][1]), rtol=1e-6)
    assert drawn(plots.frozen_noise(rows, 64)).axes[0].get_title() == "K = 64"
    assert drawn(plots.frozen_noise(with_frozen(dims=(2, 64)))).axes[0].get_title() == "K = 64"  # K of the frozen
    assert_drawn_whatever_the_range(plots.frozen_noise, rows)


def test_frozen_noise_in_words_has_the_numbers_at_the_end_of_the_seeds_that_have_both():
    rows = with_frozen()
    words = plots.frozen_noise_in_words(rows)
    assert words.startswith("After 10 epochs, of 2 seeds, Δ(output → image) is ")
    of_both = tidy.having(rows, latent_dim=32, step=rows["step"].max())
    delta = tidy.select(of_both, "information_imbalance", part="test", **plots.BACK)
    rates = tidy.select(of_both, "rate", part="train", layer=None)
    for own in (delta, rates):
        fresh, frozen = (tidy.having(own, noise=noise)["value"] for noise in (None, "frozen"))
        assert len(fresh) == len(frozen) == 2
        assert f"{fresh.mean():.3g} with fresh noise and {frozen.mean():.3g} with frozen noise" in words
    one_frozen = rows[(rows["noise"] != "frozen") | (rows["seed"] == 0)]
    of_one = plots.frozen_noise_in_words(one_frozen)
    assert "of 1 seed," in of_one
    assert of_one.endswith("from chance.")
    assert words.endswith("in nats.")
    assert of_one == plots.frozen_noise_in_words(one_frozen[one_frozen["seed"] == 0])
    assert plots.frozen_noise_in_words(rows[rows["noise"] == "frozen"]) == ""
    assert plots.frozen_noise_in_words(rows[rows["noise"] != "frozen"]) == ""


def test_without_frozen_members_a_sentence_says_how_to_have_them(all_measures):
    for rows in (all_measures, all_measures.iloc[:0]):
        nothing = drawn(plots.frozen_noise(rows))
        assert "ask for noise = [fresh, frozen]" in " ".join(nothing.axes[0].texts[0].get_text().split())


@pytest.mark.parametrize("draw", [plots.over_epochs, plots.numbers, explore.points], ids=lambda draw: draw.__name__)
def test_no_other_figure_has_frozen_members_in_it(all_measures, draw):
    frozen = all_measures.assign(noise="frozen", value=0.5, key=all_measures["key"] + " frozen")
    both = pd.concat([all_measures, frozen], ignore_index=True)
    told = [drawn(draw(rows)) if draw is plots.over_epochs else draw(rows) for rows in (all_measures, both, frozen)]
    if draw is plots.over_epochs:
        told = [[errorbars(ax) for ax in figure.axes] for figure in told]
    wanted, answer, nothing = map(str, told)
    assert answer == wanted
    assert not len(plots.numbers(frozen))
    assert nothing != wanted


def test_differences_plane_and_matrix(all_measures):
    ax = drawn(plots.differences(all_measures)).axes[0]
    np.testing.assert_allclose(errorbars(ax)["K = 64"][1], [-0.3] * 5 + [0.3] * 5, atol=5e-3)
    (one_seed,) = drawn(plots.differences(all_measures[all_measures["seed"] == 0])).axes[0].containers[:1]
    bars = np.stack(one_seed.lines[2][0].get_segments())
    np.testing.assert_array_equal(bars[:, 0], bars[:, 1])  # the error of one Delta is not that of their ratio
    left, right, empty = drawn(plots.plane(all_measures)).axes[:3]
    assert (left.get_title(), right.get_title()) == ("K = 2", "K = 64")
    assert not empty.axison
    (star,) = [line for line in right.lines if line.get_marker() == "*"]
    np.testing.assert_allclose(np.concatenate(star.get_data()), [0.3, 0.047], rtol=1e-2)
    (image,) = drawn(plots.matrix(all_measures)).axes[1].images
    values = np.ma.filled(image.get_array(), np.nan)
    assert values.shape == (11, 11)
    assert np.isnan(np.diag(values)).all()
    assert values[10, 0] == pytest.approx(0.047)
    assert values[0, 10] == pytest.approx(0.3)


def test_numbers_say_n_and_what_was_left_out(all_measures):
    values = plots.numbers(all_measures)
    row = values[(values["K"] == 64) & (values["images"] == "cifar10")].iloc[0].to_dict()
    assert (row["epochs"], row["seeds"], row["N"], row["left out"]) == ("200", 3, "5,000", "3")
    assert row["encoder's peak"].startswith("72.7 ± 0.")
    assert row["output"].startswith("23.2")
    assert row["prominence"].startswith("1.4")
    gap = plots.numbers(all_measures[all_measures["measure"] == "intrinsic_dimension"])
    assert set(gap["KL (nats)"]) == set(gap["prior"]) == {"–"}


# The explorer


def test_the_explorer_has_every_layer_of_every_network(all_measures):
    _, data = moved(explore.explore(all_measures, settings(scale="published", epochs=None)))
    assert [axis["name"] for axis in data["axes"]] == ["K"]
    assert [(budget["label"], budget["group"]) for budget in data["budgets"]] == [
        ("200 epochs of 40,000 images, N = 5,000: 31,250 steps of 256, CIFAR-10, 3 seeds", "CIFAR-10"),
        ("50 epochs of 48,000 images, N = 5,000: 9,375 steps of 256, MNIST at 32 × 32, 1 seed", "MNIST at 32 × 32"),
    ]
    assert [point["axes"]["K"] for point in data["points"]] == [2, 64, 2, 64]
    point = data["points"][1]
    assert [*point["at"]] == [0, 1, 10, 50, 160, 200]
    x, y, sd_x, sd_y = point["at"][200]["members"][4 * 3 : 4 * 3 + 4]  # layer 3
    assert (x, sd_x) == (3, 0)
    assert y == pytest.approx(published("intrinsic_dimension", "layer=3", 64, 200), rel=1e-5)
    values = tidy.select(all_measures, "intrinsic_dimension", layer=3, latent_dim=64, data="cifar10")["value"]
    assert sd_y == pytest.approx(values.std(), rel=1e-5)
    assert point["says"].startswith("K = 64: the data has 31.0 dimensions, the encoder's peak 72.7")
    assert "the decoder's peak 57.1, the output 23.2" in point["says"]
    assert data["stations"][:2] + data["stations"][-1:] == ["layer 0, image", "layer 1", "layer 10, output"]
    numbers = point["numbers"]
    assert (numbers["seeds"], numbers["images N"], numbers["duplicates left out, at most"]) == ("3", "5,000", "3")
    back = tidy.select(all_measures, "information_imbalance", latent_dim=64, data="cifar10", **plots.BACK)["value"]
    assert numbers["Δ(output → image)"] == mean_sd(back, ".3f")
    assert [one["faint"] for one in data["points"]] == ["", "", *["9,375 of at least 37,500 steps"] * 2]


def test_of_dimensions_alone_there_are_no_deltas_and_of_none_a_sentence(all_measures):
    one = all_measures[all_measures["data"] == "mnist32"]
    data = held(explore.explore(one[one["measure"] == "intrinsic_dimension"], settings()))["data"]
    assert not any("Δ" in name for name in data["numbers"])
    nothing = explore.explore(all_measures.assign(status="diverged"), settings())
    assert "nothing to move through" in nothing._repr_html_()
