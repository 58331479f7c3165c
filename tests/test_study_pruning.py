"""Study 4: its settings, its members, what it measures, and its figures, on tables that are made up."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from made_up import assert_drawn_whatever_the_range, drawn, errorbars, keyed, swept_values
from tiny import moved, row_of

from vaekit import claims, pruning, sweep
from vaekit.data import DataError, dsprites
from vaekit.losses import cross_entropy
from vaekit.metrics import evaluate
from vaekit.settings import SettingsError
from vaekit.store import SHORT, StoreError, default_store, results
from vaekit.store.table import frame, select
from vaekit.studies import pruning as study
from vaekit.studies.pruning import explore, figures
from vaekit.studies.pruning.claims import CLAIMS

pytestmark = pytest.mark.usefixtures("place", "house_style")
DRAWN = (
    figures.accuracy,
    figures.sparsity,
    figures.active_units,
    figures.collapse,
    figures.training,
    figures.compression,
    figures.cost,
    figures.disentanglement,
)


def tiny(width=2, n_test=100, **given) -> study.Settings:
    """A choice that trains in a moment."""
    given = {"data": "dsprites_like", "n_train": 64, "betas": [1], "readings": "sum"} | given
    return dataclasses.replace(study.Settings.at("quick", **given), width=width, n_test=n_test)


def named(member) -> tuple:
    """What a member is called in these tests: its reading, beta, arm and whether it has a decoder and a sample."""
    weights, arguments = dict(member.weights), dict(member.model_args)
    return member.objective, weights.get("beta"), member.arm, arguments["decoder"], arguments["sampled"]


# Settings and members


def test_a_parent_comes_directly_before_what_is_pruned_of_it():
    members = study.members(tiny(seeds=[0, 1], betas=[1, 5], readings=["sum", "pixel_mean"], sparsities=[0.5, 0.9]))
    assert len(members) == len({member.key for member in members}) == 2 * 2 * 2 * (1 + 2 + 1)
    assert [member.seed for member in members] == [0] * 16 + [1] * 16
    for parent, *children in batches(members, 4):
        assert parent.parent is None
        assert {child.parent for child in children} == {parent.key}
        assert [child.arm for child in children] == ["gradual", "gradual", "dense"]
        assert [dict(child.weights)["sparsity"] for child in children] == [0.5, 0.9, 0]
        for child in children:
            assert dict(child.model_args) == dict(parent.model_args) | {"decoder": False}
            assert dict(child.weights) | {"reconstruction": 1, "sparsity": 0} == dict(parent.weights) | {"sparsity": 0}
            assert dict(child.weights)["reconstruction"] == 0
            assert (parent.lr, child.lr, parent.batch_size) == (1e-3, 1e-4, 128)
    assert [named(member)[:2] for member in members[:16:4]] == [
        (objective, beta) for objective in ("classifier_sum", "classifier_pixel_mean") for beta in (1, 5)
    ]


def batches(items, size):
    return [items[start : start + size] for start in range(0, len(items), size)]


def test_arms_that_train_otherwise_have_parents_of_their_own():
    members = study.members(tiny(arms=["no_decoder", "baseline"]))
    assert [named(member) for member in members] == [
        ("classifier_sum", 1, None, False, True),
        ("classifier_sum", 1, "gradual", False, True),
        ("cross_entropy", None, None, False, False),
        ("cross_entropy", None, "gradual", False, False),
        ("cross_entropy", None, "dense", False, False),
    ]
    assert dict(members[0].weights)["reconstruction"] == 0
    assert dict(members[2].weights) == {}
    assert [dict(member.weights) for member in members[3:]] == [{"sparsity": 0.5}, {"sparsity": 0}]


def test_each_reading_has_its_lambda_unless_one_is_given():
    both = ["sum", "pixel_mean"]

    def weights(**given):
        return {(m.objective, dict(m.weights)["lambda"]) for m in study.members(tiny(readings=both, **given))}

    assert weights() == {("classifier_sum", 100), ("classifier_pixel_mean", 1)}
    assert weights(lambdas=[7]) == {("classifier_sum", 7), ("classifier_pixel_mean", 7)}


def published(**given) -> study.Settings:
    """The paper's budget, for which no image need be at hand."""
    return study.Settings.at("published", **({"data": "mnist"} | given))


def test_the_paper_scale_is_the_papers():
    members = study.members(published())
    assert len(members) == 5 * (3 * 4 * (1 + 5 + 2) + 3)
    assert {dict(member.weights).get("beta") for member in members} == {1, 3, 5, 10, None}
    assert {member.arm for member in members} == {None, *pruning.ARMS}
    assert {(member.n_train, member.n_test, member.split) for member in members} == {(None, 10_000, "own")}
    assert {dict(member.model_args)["channels"] for member in members} == {(32, 64)}
    assert {dict(member.model_args)["latent_dim"] for member in members} == {10}
    (colour,) = {m.model_args for m in study.members(published(data="cifar10_jpeg", arms="gradual")) if not m.arm}
    assert dict(colour) | {"channels": (32, 64, 128), "latent_dim": 64, "classes": 10} == dict(colour)


def test_the_quick_scale_takes_mnist_where_it_is_and_else_a_made_set(place):
    without = study.Settings.at("quick")
    assert (without.data, without.betas) == (("dsprites_like",), (1, 10))
    assert study.Settings.at("quick", betas=[3]).betas == (3,)
    (place / "data").mkdir()
    (place / "data" / "mnist.npz").write_bytes(b"no set")
    with_mnist = study.Settings.at("quick")  # no image is read before a run
    assert (with_mnist.data, with_mnist.betas) == (("mnist",), (1, 3, 5, 10))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sparsities": [0.5, 1.0]}, r"sparsities \(shares .*got 1.0; wanted .* at least 0 and below 1"),
        ({"sparsities": -0.1}, "sparsities .*got -0.1"),
        ({"arms": "gradul"}, r"arms .*got 'gradul' \(did you mean gradual\?\); wanted one or more of gradual, both"),
        ({"readings": "mean"}, "readings .*wanted one or more of sum or pixel_mean"),
        ({"betas": -1}, "betas .*at least 0"),
        ({"lambdas": "many"}, "lambdas .*got 'many'"),
        ({"epochs": 0}, "epochs .*at least 1"),
        ({"tuning_epochs": 1.5}, "tuning_epochs .*whole number"),
        ({"n_train": -1}, "n_train .*at least 0"),
        ({"n_train": 10**7}, "n_train is a whole number from 1 to 737,279"),
        ({"n_train": 0}, "n_train: dsprites_like has no training images of its own; say how many"),
        ({"data": "dsprites_like32", "n_train": 0}, "n_train: dsprites_like32 has no training images of its own"),
        ({"data": "tetrominoes"}, "data: tetrominoes has no labels; there are dsprites_like, mnist"),
        ({"data": "small_norb"}, r"small_norb\.npz is not there"),
        ({"data": "minst"}, "minst"),
        ({"width": 4}, "width: set by the scale alone"),
        ({"sparsity": 0.5}, r"sparsity: no such parameter \(did you mean sparsities\?\)"),
    ],
)
def test_bad_input_is_refused_before_any_work(given, message, place, monkeypatch):
    monkeypatch.setattr(sweep.train, "train_fleet", lambda *a, **how: pytest.fail("something was trained"))
    with pytest.raises((SettingsError, DataError), match=message):
        study.run(study.Settings.at("quick", **({"data": "dsprites_like"} | given)))


def test_budgets_are_no_choice_where_nothing_is_trained():
    with pytest.raises(SettingsError, match="epochs: scale published shows the budgets that results/ holds"):
        study.Settings.at("published", epochs=3)


@pytest.mark.parametrize("steps", [1, 2, 64, 781, 938, 14_062])
def test_snapshots_hold_the_end_and_four_fifths(steps):
    for arm in (None, "gradual"):
        member = dataclasses.replace(study.members(tiny())[0], steps=steps, arm=arm)
        kept, snapshots = study.SPEC.saved_steps(member), study.measured_steps(member)
        assert {max(1, round(0.8 * steps)), steps} <= set(kept) <= set(snapshots)
        assert (len(kept), len(snapshots)) == (min(steps, 2), min(steps, 2 if arm else 5))


# Measures


@pytest.fixture
def images():
    return sweep.examples("dsprites_like", "cv", 64, 100)


def taken(measure, member, images, step=None):
    torch.manual_seed(0)
    model = member.build().eval()
    return model, keyed(
        swept_values(study.SPEC, measure, model, member, member.steps if step is None else step, images)
    )


def test_quality_is_what_the_classifier_says_of_the_mean(images):
    parent = study.members(tiny(precision="fp64"))[0]
    model, answers = taken(study.quality, parent, images)
    names = {"accuracy": "", "cross_entropy": "", "distortion": "samples=1", "rate": ""}
    assert answers.keys() == {(part, *what) for part in ("train", "test") for what in names.items()}
    logits = model.classify(images.test.double() / 255)
    assert answers["test", "accuracy", ""].value == (logits.argmax(1) == images.test_labels).double().mean().item()
    wanted = cross_entropy(logits, images.test_labels)
    assert answers["test", "cross_entropy", ""].value == pytest.approx(wanted.mean().item(), rel=1e-9)
    assert answers["test", "cross_entropy", ""].se == pytest.approx(wanted.std().item() / 10, rel=1e-9)
    direct = evaluate(model, images.test, images.test_rows, 0)
    for measure, arguments in (("distortion", "samples=1"), ("rate", "")):
        assert answers["test", measure, arguments].value == pytest.approx(direct[measure].mean().item(), rel=1e-9)
    assert {value.n for value in answers.values()} == {64, 100}
    assert {part for part, _, _ in taken(study.quality, parent, images, step=0)[1]} == {"test"}


def test_what_a_network_lacks_is_not_measured(images):
    pruned, _, _, baseline = (study.members(tiny(arms=["gradual", "dense", "baseline"]))[i] for i in (1, 2, 0, 3))
    measures = {name for _, name, _ in taken(study.quality, pruned, images)[1]}
    assert measures == {"accuracy", "cross_entropy", "rate"}
    assert {name for _, name, _ in taken(study.quality, baseline, images)[1]} == {"accuracy", "cross_entropy"}
    assert not taken(study.code, baseline, images)[1]


def test_the_codes_measures_count_units_and_divide_the_rate(images):
    parent = study.members(tiny(precision="fp64"))[0]
    _, values = taken(study.code, parent, images)
    rates = [values["test", "rate_per_dimension", f"dim={i}"].value for i in range(10)]
    assert sum(rates) == pytest.approx(taken(study.quality, parent, images)[1]["test", "rate", ""].value)
    assert 0 <= values["test", "active_units", ""].value <= 10
    assert len(values) == 11


def test_factors_are_scored_at_the_end_and_the_orientation_only_as_far_as_an_image_shows_it(images, monkeypatch):
    member = dataclasses.replace(study.members(tiny())[0], steps=20)
    _, values = taken(study.gap, member, images)
    factors = ("shape", "scale", "orientation", "x", "y")
    assert values.keys() == {("test", "mig", how) for how in ("", *(f"factor={name}" for name in factors))}
    assert values["test", "mig", ""].value == pytest.approx(
        np.mean([values["test", "mig", f"factor={name}"].value for name in factors])
    )
    assert not taken(study.gap, member, images, step=16)[1]
    seen = []
    monkeypatch.setattr(study, "mig", lambda codes, factors: seen.append(factors) or study.dci(codes, factors, 0))
    monkeypatch.setattr(study, "dci", lambda codes, factors, seed: type("Found", (), {"value": 0.0, "gaps": [0.0] * 5}))
    taken(study.gap, member, images)
    squares = seen[0][seen[0][:, 0] == 0]
    assert squares[:, 2].max() <= 9  # a quarter of a turn
    assert torch.equal(seen[0][:, 3:], images.test_factors[:, 3:])


def test_dci_has_its_three_scores(images):
    member = study.members(tiny())[0]
    _, answers = taken(study.forest, member, images)
    assert {name for _, name, _ in answers} == {"dci_disentanglement", "dci_completeness", "dci_informativeness"}


def test_the_small_sprites_are_trained_and_scored_as_the_large(store):
    members = study.members(tiny(data="dsprites_like32", epochs=2, arms="gradual"))
    parent = members[0]
    assert len(dict(parent.model_args)["channels"]) == 3
    sweep.run(study.SPEC, members, store, progress=False, say=str)
    assert store.record(parent.key)["status"] == "finished"
    scores = {(row["measure"], row["arguments"]) for row in store.measure(parent.key, "gap", 1)}
    assert scores == {("mig", how) for how in ("", *(f"factor={name}" for name in dsprites.FACTORS))}
    assert {row["measure"] for row in store.measure(parent.key, "forest", 1)} == {
        "dci_disentanglement",
        "dci_completeness",
        "dci_informativeness",
    }
    examples = sweep.examples("dsprites_like32", "cv", 64, 100)
    assert torch.equal(examples.test_factors, sweep.examples("dsprites_like", "cv", 64, 100).test_factors)
    assert study._factors(dataclasses.replace(parent, data="tetrominoes"), examples) is None


def test_size_and_speed_are_those_of_the_network_that_classifies(images):
    parent, gradual, _ = study.members(tiny())
    model, answers = taken(study.size, parent, images)
    whole = answers["model", "parameters", ""].value
    parts = (model.encoder, model.mu, model.classifier)
    assert whole == sum(value.numel() for part in parts for value in part.parameters())
    assert {name for _, name, _ in answers} == {
        "parameters",
        "nonzero_parameters",
        "compressed_bytes",
        "flops",
        "sparse_flops",
    }
    assert whole == taken(study.size, gradual, images)[1]["model", "parameters", ""].value
    assert taken(study.speed, parent, images)[1]["model", "seconds_per_image", "batch=256"].value > 0
    assert not taken(study.speed, parent, images, step=0)[1]


# From an empty store to verdicts


def test_a_run_from_an_empty_store_gives_a_table_that_figures_and_claims_read(capsys):
    arms = ["gradual", "one_shot", "structured", "dense", "no_decoder", "baseline"]
    table = study.run(tiny(arms=arms, epochs=2, tuning_epochs=2, sparsities=[0.5]))
    assert "diverged" not in set(table["status"])
    pruned = select(table[table["parent"].notna()], "accuracy", part="test")
    assert sorted(study.variants(pruned)) == sorted([*arms[:4], "no_decoder", "baseline", "baseline"])
    assert set(pruned["parent_steps"]) == {1}
    left = select(table, "nonzero_parameters", arm="gradual").set_index("key")
    store = default_store()
    for key in left.index:
        state = store.weights(key, int(left.loc[key, "steps"]))
        outside = ["classifier", *["logvar"] * (not left.loc[key, "sampled"])]  # a baseline draws nothing
        masks = [
            value
            for name, value in state.items()
            if name.endswith("weight_mask") and not any(part in name for part in outside)
        ]
        total, kept = sum(mask.numel() for mask in masks), sum(int(mask.sum()) for mask in masks)
        assert kept == total - round(0.5 * total)
        assert all(not state[n.removesuffix("_mask")][~m].any() for n, m in state.items() if n.endswith("_mask"))
    assert "to train" in capsys.readouterr().out
    again = study.run(tiny(arms=arms, epochs=2, tuning_epochs=2, sparsities=[0.5]))
    assert "to train" not in capsys.readouterr().out
    assert len(again) == len(table)
    for draw in DRAWN:
        draw(table)
    assert len(figures.numbers(table)) == 3 + 7
    before = select(table, "accuracy", part="test").set_index("key")["value"]
    parent = pruned.loc[pruned["arm"] == "gradual", "parent"]
    _, data = moved(explore.explore(table, tiny()))
    assert [axis["name"] for axis in data["axes"]] == ["network", "beta", "pruned (%)"]
    points = {(point["axes"]["network"], point["axes"]["pruned (%)"]): point for point in data["points"]}
    not_tuned = [share for network, share in points if network == explore.NOT_TUNED]
    assert not_tuned == [100 * share for share in explore.SHARES]
    first = points[explore.NOT_TUNED, 0]["at"][100]["networks"][1]
    assert first == pytest.approx(100 * before[parent.iloc[0]], rel=1e-5)  # of 100 test images, all
    assert points[explore.NOT_TUNED, 95]["at"][100]["networks"][1] < 60  # biases alone are left: they name one shape
    assert {share for network, share in points if network == "pruned"} == {50}
    assert points["before pruning", 0]["stored"]
    assert points["pruned", 50]["says"].startswith("beta 1, pruned, 50 % of the weights pruned: test accuracy ")
    _, data = moved(
        explore.explore(table.assign(parent=table["parent"].where(table["parent"].isna(), "0" * 64)), tiny())
    )
    assert not any(point["axes"]["network"] == explore.NOT_TUNED for point in data["points"])
    said = {point["numbers"]["not tuned"] for point in data["points"]}
    assert [text[:22] for text in said] == ["No weights are here; a"]
    assert set(claims.verdict_table(CLAIMS, table)["outcome"].str.split(" ").str[0]) <= {"not", "needs"}


# Published tables


def value(member, step: int, measure: str, arguments: str) -> float:
    """What the made-up tables say was measured: smooth, and another for each seed and each place of the grid."""
    weights = dict(member.weights)
    beta, pruned = weights.get("beta", 0.5) or 0.1, weights.get("sparsity", 0.0)
    number = {
        "accuracy": 0.95 - 0.02 * beta - 0.2 * pruned**2 - 1 / (100 + step),
        "cross_entropy": 0.2 + 0.1 * beta,
        "distortion": 90 + beta,
        "rate": 20 / beta,
        "active_units": round(10 / beta),
        "rate_per_dimension": 5 / beta / (1 + int(arguments[4:] or 0) if arguments.startswith("dim=") else 1),
        "parameters": 96_000.0,
        "nonzero_parameters": 96_000 * (1 - pruned),
        "compressed_bytes": 350_000 * (1 - pruned) + 1_000 * beta,
        "flops": 1e6,
        "sparse_flops": 1e6 * (1 - pruned),
        "seconds_per_image": 1e-5,
        "mig": 0.1 + 0.01 * beta,
        "dci_disentanglement": 0.3,
    }
    return number[measure] + 0.001 * member.seed * (measure == "accuracy")


TAKEN = [
    *(("test", name, "") for name in ("accuracy", "cross_entropy", "distortion", "rate", "active_units")),
    *(("test", "rate_per_dimension", f"dim={i}") for i in range(10)),
    *(("model", name, "") for name in ("parameters", "nonzero_parameters", "compressed_bytes", "flops")),
    ("model", "sparse_flops", ""),
    ("model", "seconds_per_image", "batch=256"),
]
FACTORS = [("test", "mig", ""), ("test", "mig", "factor=x"), ("test", "dci_disentanglement", "")]


def tables(members, diverged=(), extra=()) -> results.Tables:
    filled = results.Tables()
    for m in members:
        lost = m.key in diverged or m.parent in diverged
        taken = {"measures": " ".join(map(str, study.SPEC.measures))}
        filled.members[m.key] = row_of(m, "diverged" if lost else "finished") | taken
        filled.measures[m.key] = [
            {"member": m.key[:SHORT], "step": step, "part": part, "measure": name, "arguments": arguments}
            | {"value": value(m, step, name, arguments), "se": 0.0, "n": 100, "version": 1}
            for step in (() if lost else study.measured_steps(m))
            for part, name, arguments in [*TAKEN, *extra]
        ]
    return filled


def made_up(extra=(), diverged=(), **given):
    members = study.members(published(**({"seeds": [0, 1], "sparsities": [0.5, 0.9]} | given)))
    return frame(tables(members, diverged, extra))


def test_published_shows_what_was_asked_for_with_its_parents(place):
    members = study.members(published(seeds=[0, 1], sparsities=[0.5, 0.9]))
    results.write(results.folder("pruning"), tables(members), {})
    whole = study.run(published())
    assert whole["key"].nunique() == len(members)
    shown = study.run(published(arms=["gradual", "dense"], betas=[1, 5], readings="sum", seeds=0, lambdas=100))
    assert set(shown["arm"].dropna()) == {"gradual", "dense"}
    assert set(shown["beta"]) == {1, 5}
    assert set(shown["objective"]) == {"classifier_sum"}
    assert shown["key"].nunique() == 2 * (1 + 2 + 1)
    alone = study.run(published(arms="baseline", betas=3, sparsities=0.9))
    assert set(alone["objective"]) == {"cross_entropy"}
    assert set(alone["sparsity"].dropna()) == {0, 0.9}
    for given, first in (({"betas": [1, 7]}, "betas 7"), ({"data": "fashion_mnist"}, "data fashion_mnist")):
        with pytest.raises(StoreError, match=f"lacks 1 of what was asked for, first {first}"):
            study.run(published(**given))


def test_a_published_page_explores_nothing_but_its_table(place):
    table = made_up(arms=["gradual", "dense"]).assign(asked=True)
    assert explore.explore(table, published())._repr_html_()  # a page's, which needs no kernel
    _, data = moved(explore.explore(table, tiny()))
    assert [budget["label"] for budget in data["budgets"]] == ["14,062 + 938 steps of 128, MNIST, 2 seeds"]
    reading, network, beta, pruned = data["axes"]
    assert {*reading["values"]} == {"sum, lambda 100", "sum, lambda 1", "pixel mean, lambda 1"}
    assert {*network["values"]} == {"before pruning", "tuned, not pruned", "pruned"}
    assert (beta["values"], pruned["values"]) == ([1, 3, 5, 10], [0, 50, 90])
    place = ["sum, lambda 100", "pruned", 5, 50]
    (point,) = [point for point in data["points"] if [*point["axes"].values()] == place]
    mean = 100 * (0.95 - 0.1 - 0.05 - 1 / 1038 + 0.0005)
    assert point["at"][100]["networks"] == pytest.approx([50, mean, 0, 0.1 / math.sqrt(2)], rel=1e-4)
    assert [*point["at"]] == [80, 100]
    shown = {name: point["numbers"][name] for name in ("seeds", explore.ACCURACY, "compressed (kB)")}
    assert shown == {"seeds": "2", explore.ACCURACY: f"{mean:.2f} ± 0.07", "compressed (kB)": "180.0 ± 0.0"}
    assert point["faint"] == ""
    several = made_up(arms=["gradual"], data=["mnist", "fashion_mnist"]).assign(asked=True)
    _, data = moved(explore.explore(several, tiny()))
    assert [budget["group"] for budget in data["budgets"]] == ["Fashion-MNIST", "MNIST"]
    for lost in (made_up(arms=["baseline"]), made_up(arms=["gradual"], diverged=set(table["key"]))):
        assert "nothing to move through" in explore.explore(lost.assign(asked=True), published())._repr_html_()


# Figures


def test_accuracy_has_a_panel_a_reading_and_shows_the_tables_means():
    table = made_up()
    figure = drawn(figures.accuracy(table))
    assert [ax.get_title() for ax in figure.axes] == ["sum, lambda 100", "sum, lambda 1", "pixel mean, lambda 1"]
    assert figure.axes[0].texts[0].get_text().startswith("14,062 + 938 steps of 128, MNIST, 2 seeds")
    values = errorbars(figure.axes[0])
    assert values.keys() == {
        "before pruning",
        "tuned, not pruned",
        *(
            f"{name}, {share} %"
            for name in ("pruned", "pruned, classifier too", "pruned at once")
            for share in (50, 90)
        ),
        *(f"{name}, {share} %" for name in ("pruned by channels", "pruned, never had a decoder") for share in (50, 90)),
    }
    wanted = [100 * (0.95 - 0.02 * beta - 0.05 - 1 / 1038 + 0.0005) for beta in (1, 3, 5, 10)]
    assert values["pruned, 50 %"] == [[1, 3, 5, 10], pytest.approx(wanted)]
    assert figure.axes[0].get_xticks().tolist() == [1, 3, 5, 10]
    (line,) = [line for line in figure.axes[0].lines if "baseline" in str(line.get_label())]
    assert line.get_label() == "baseline, tuned, not pruned"  # as long as what is beside it
    dense = table[(table["arm"] == "dense") & ~table["sampled"].astype(bool)]
    accuracy = select(dense, "accuracy", part="test")["value"].mean()
    assert line.get_ydata()[0] == pytest.approx(100 * accuracy)
    untuned = table[~(table["key"].isin(dense["key"]))]
    (line,) = [each for each in drawn(figures.accuracy(untuned)).axes[0].lines if "baseline" in str(each.get_label())]
    assert line.get_label() == "baseline, not tuned"
    assert line.get_ydata()[0] == pytest.approx(100 * (0.95 - 0.01 - 1 / 14_162 + 0.0005))


def test_sparsity_starts_at_the_dense_network():
    figure = drawn(figures.sparsity(made_up(arms=["gradual", "dense"])))
    curves = [bars.lines[0].get_xdata().tolist() for bars in figure.axes[0].containers]
    assert curves == [[0, 0.5, 0.9]] * 4
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["beta 1", "beta 3", "beta 5", "beta 10", "pruned"]


def test_collapse_orders_the_dimensions_and_counts_the_active_ones():
    figure = drawn(figures.collapse(made_up(arms=["gradual"], sparsities=[0.5])))
    lines = {line.get_label(): line for line in figure.axes[0].lines if line.get_label().startswith("beta")}
    assert list(lines) == [f"beta {beta}: {units} active of 10" for beta, units in ((1, 10), (3, 3), (5, 2), (10, 1))]
    rates = lines["beta 5: 2 active of 10"].get_ydata()
    assert rates == pytest.approx([1 / (1 + i) for i in range(10)])
    table = made_up(arms=["gradual"], sparsities=[0.5])
    table.loc[(table["measure"] == "active_units") & (table["beta"] == 3) & (table["seed"] == 1), "value"] = 4
    named = [line.get_label() for line in drawn(figures.collapse(table)).axes[0].lines]
    assert "beta 3: 3.5 active of 10 on average" in named


def test_compression_is_of_bytes():
    figure = drawn(figures.compression(made_up(arms=["gradual"], readings="sum", lambdas=100)))
    values = errorbars(figure.axes[0])
    for share in (0.5, 0.9):
        wanted = [4 * 96_000 / (350_000 * (1 - share) + 1_000 * beta) for beta in (1, 3, 5, 10)]
        assert values[f"pruned, {100 * share:g} %"][1] == pytest.approx(wanted, rel=1e-5)


def test_cost_shows_what_sparse_kernels_would_save_apart():
    left, right = drawn(figures.cost(made_up(arms=["gradual", "dense"]))).axes
    lines = [(bars.lines[0].get_xdata().tolist(), bars.lines[0].get_ydata().tolist()) for bars in left.containers]
    assert lines == [([0], [1])] * 2 + [([0.5, 0.9], [1, 1]), ([0.5, 0.9], pytest.approx([0.5, 0.1]))]
    assert left.get_ylim() == pytest.approx((0, 1.1))
    assert right.get_ylim()[0] == 0
    hollow = [line for line in left.lines if line.get_markerfacecolor() == "none"]
    assert len(hollow) == 2  # the means alone: no seed is drawn over them
    assert len([line for line in left.lines if line.get_markersize() == 2.5]) == 2
    assert right.containers[0].lines[0].get_ydata() == pytest.approx([10])


def test_disentanglement_is_drawn_where_it_was_measured_and_else_says_how():
    assert "dsprites_like" in drawn(figures.disentanglement(made_up())).axes[0].texts[0].get_text()
    table = made_up(extra=FACTORS, arms=["gradual", "dense"])
    figure = drawn(figures.disentanglement(table))
    assert errorbars(figure.axes[0])["pruned, 50 %"][1] == pytest.approx([0.11, 0.13, 0.15, 0.2])
    assert figure.axes[0].get_ylabel() == "mutual information gap"
    assert (
        errorbars(drawn(figures.disentanglement(table, "dci_disentanglement")).axes[0])["pruned, 90 %"][1] == [0.3] * 4
    )
    curves = [bars.lines[0].get_ydata().tolist() for bars in drawn(figures.sparsity(table, "mig")).axes[0].containers]
    assert curves == [pytest.approx([mig] * 3) for mig in (0.11, 0.13, 0.15, 0.2)]


def test_numbers_have_a_row_for_each_point_in_the_figures_order():
    shown = figures.numbers(made_up(readings="sum", lambdas=100, arms=["gradual", "baseline"], sparsities=[0.5]))
    assert len(shown) == 4 + 4 + 3
    assert shown["network"].tolist()[:8] == ["before pruning"] * 4 + ["pruned"] * 4
    first = shown.iloc[4]
    assert (first["reading"], first["beta"], first["pruned"], first["seeds"]) == ("sum, lambda 100", "1", "50 %", "2")
    assert first["accuracy (%)"] == f"{100 * (0.95 - 0.02 - 0.05 - 1 / 1038 + 0.0005):.2f} ± 0.07"
    assert [bool(budget) for budget in shown["budget"]] == [True] + [False] * 10
    assert set(shown["D (test), nats"][4:]) == {"– (no decoder)"}
    assert shown["D (test), nats"][0] == "91.0 ± 0.0"
    assert set(shown["network"][8:]) == {"baseline", "baseline, dense", "baseline, gradual"}


def test_figures_have_a_row_for_each_budget():
    table = made_up(arms=["gradual"], data=["mnist", "fashion_mnist", "cifar10_jpeg"], sparsities=[0.5])
    assert len(drawn(figures.cost(table)).axes) == 3 * 2
    for draw in DRAWN[:-2]:
        figure = drawn(draw(table))
        assert len(figure.axes) == 3 * 3
        starts = [ax.texts[0].get_text() for ax in figure.axes[::3]]
        assert sorted("CIFAR-10 (JPEG copy)" in text for text in starts) == [False, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("draw", DRAWN)
def test_figures_are_drawn_whatever_the_range_of_the_values(draw):
    assert_drawn_whatever_the_range(draw, made_up(FACTORS, arms=["gradual", "dense"]))


@pytest.mark.parametrize("given", [{"arms": ["baseline"]}, {"arms": ["dense"]}, {"betas": [0, 1]}, {"seeds": [3]}])
def test_figures_stand_tables_that_lack_what_they_show(given):
    table = made_up(**({"arms": ["gradual"], "sparsities": [0.5]} | given))
    for draw in DRAWN:
        drawn(draw(table))
    assert len(figures.numbers(table))


def test_members_that_diverged_leave_their_place_empty():
    chosen = {"arms": ["gradual"], "sparsities": [0.5], "seeds": [0]}
    lost = {m.key for m in study.members(published(**chosen)) if dict(m.weights).get("beta") == 5}
    everything = {m.key for m in study.members(published(**chosen))}
    for diverged in (lost, everything):
        table = made_up(diverged=diverged, **chosen)
        for draw in DRAWN:
            drawn(draw(table))
    assert [
        bars.lines[0].get_xdata().tolist()
        for bars in figures.accuracy(made_up(diverged=lost, **chosen)).axes[0].containers
    ]


def test_the_explorer_begins_with_trained_networks_of_the_least_and_the_largest_beta_in_its_first_budget():
    def point(network, beta, budget="first"):
        return {"budget": budget, "axes": {"network": network, "beta": beta, "pruned (%)": 0.0}}

    trained = [point("before pruning", beta) for beta in (3.0, 1.0, 10.0)]
    others = [point("pruned", 0.1), point("before pruning", 50.0, "second")]
    assert explore._start([others[0], *trained, others[1]]) == [trained[1]["axes"], trained[2]["axes"]]
    assert explore._start(others[:1]) == [others[0]["axes"]] * 2  # none was trained
