"""Study 2: its members, what it measures on each, and its figures."""

import dataclasses
import math

import pandas as pd
import pytest
import torch
from made_up import assert_drawn_whatever_the_range, drawn, keyed, swept_values
from matplotlib import pyplot as plt
from test_claims_hierarchical_rates import table as made_up
from tiny import held, moved, with_columns
from torch import nn

from vaekit import claims, randomness, sweep
from vaekit.__main__ import main
from vaekit.data import DataError
from vaekit.figures import panels
from vaekit.metrics import (
    accuracy_bound,
    class_information,
    encode,
    evaluate,
    generate_images,
    inception_score,
    psnr,
    reconstruct,
)
from vaekit.settings import SettingsError
from vaekit.store import Member, StoreError
from vaekit.studies import hierarchical_rates as study
from vaekit.studies.hierarchical_rates import claims as ours
from vaekit.studies.hierarchical_rates import explore
from vaekit.studies.hierarchical_rates import figures as plots
from vaekit.sweep import Examples, image_grids

pytestmark = pytest.mark.usefixtures("place")


def settings(scale="quick", batch_size=4, n_test=15, **given):
    chosen = study.Settings.at(scale, **{"data": "tetrominoes", "steps": 5, "betas2": [0.1, 1], "betas1": 1} | given)
    return dataclasses.replace(chosen, batch_size=batch_size, n_test=n_test)


def weights(members):
    return [(dict(m.weights)["beta2"], dict(m.weights)["beta1"]) for m in members]


# Members --------------------------------------------------------------------------------------------------------------


def test_the_papers_grid_and_coarser_ones_first():
    members = study.members(study.Settings.at("short", data="tetrominoes", seeds="[0, 4]"))
    assert len(set(members)) == 2 * 441
    assert [m.seed for m in members] == [0] * 441 + [4] * 441
    points = weights(members[:441])
    assert points == weights(members[441:])
    assert set(points[:36]) == {(a, b) for a in study.SUBGRID for b in study.SUBGRID}
    assert set(points[:121]) == {(a, b) for a in study.GRID[::2] for b in study.GRID[::2]}
    assert set(points) == {(a, b) for a in study.GRID for b in study.GRID}
    assert {m.batch_size for m in members} == {128}
    assert {m.steps for m in members} == {57_000}
    assert {m.lr for m in members} == {3e-4}


@pytest.mark.parametrize(
    ("data", "steps", "arguments"),
    [
        ("svhn", 143_000, {"channels": 32, "latent_dim": 32, "likelihood": "gaussian", "sigma": 0.71}),
        ("cifar10", 97_500, {"channels": 32, "latent_dim": 32, "likelihood": "gaussian", "sigma": 0.71}),
        ("mnist_binary", 117_000, {"channels": 16, "latent_dim": 20, "likelihood": "bernoulli"}),
    ],
)
def test_the_papers_scale_depends_on_the_data(data, steps, arguments, monkeypatch):
    monkeypatch.setattr(study.Settings, "problems", lambda self: ())
    paper = study.Settings.at("paper")
    assert paper.data == ("svhn", "cifar10", "mnist_binary")
    ghvae, lvae = study.members(study.Settings.at("paper", data=data, models="[ghvae, lvae]"))[::441]
    assert dict(ghvae.model_args) == dict(lvae.model_args) == arguments
    assert (ghvae.steps, ghvae.batch_size, ghvae.split, ghvae.n_train, ghvae.n_test) == (steps, 256, "own", None, None)
    assert (ghvae.model, ghvae.objective) == ("ghvae", "hierarchical")
    assert dict(ghvae.weights) == {"beta2": 0.1, "beta1": 0.1}
    assert (lvae.model, lvae.objective) == ("lvae", "hierarchical_warmup")
    assert dict(lvae.weights) == {"beta2": 0.1, "beta1": 0.1, "warmup": steps / 5}
    assert {m.steps for m in study.members(study.Settings.at("paper", data=data, steps=99))} == {99}


def test_parameters_are_checked():
    chosen = study.Settings.at("quick", betas2="[1, 0.5]", betas1=2, data="tetrominoes")
    assert weights(study.members(chosen)) == [(0.5, 2.0), (1.0, 2.0)]
    with pytest.raises(SettingsError, match="wanted one or more of ghvae or lvae"):
        study.Settings.at("quick", models="vae", data="tetrominoes")
    with pytest.raises(SettingsError, match=r"svhn\.npz is not there"):
        study.Settings.at("paper")


@pytest.mark.parametrize("steps", [1, 5, 120, 57_000, 97_500, 143_000])
def test_snapshots_hold_what_the_claims_read(steps):
    one = member(steps=steps)
    snapshots, kept = study.measured_steps(one), study.SPEC.saved_steps(one)
    assert snapshots == tuple(sorted(set(snapshots)))
    assert set(kept) <= set(snapshots)
    assert kept[-1] == snapshots[-1] == steps
    assert max(1, round(0.8 * steps)) in kept
    assert len(kept) <= 2


# Measures -------------------------------------------------------------------------------------------------------------


def member(beta2=0.1, beta1=0.1, **changes) -> Member:
    fields = {"model": "ghvae", "data": "tetrominoes", "split": "cv", "objective": "hierarchical", "steps": 20}
    fields |= {"n_train": 40, "n_test": 50, "batch_size": 8, "precision": "fp64", "seed": 3}
    return Member(
        **(fields | changes), model_args={"channels": 2, "latent_dim": 3}, weights={"beta2": beta2, "beta1": beta1}
    )


@pytest.fixture
def images():
    result = sweep.examples("tetrominoes", "cv", 40, 50)
    labels = torch.arange(50) % 3
    return dataclasses.replace(result, test_labels=labels)


def model_of(one: Member):
    torch.manual_seed(0)
    return one.build().eval()


def taken(measure, images, step=20, one=None):
    one = one or member()
    return keyed(swept_values(study.SPEC, measure, model_of(one), one, step, images))


def test_rates_are_those_of_either_layer(images):
    answers = taken(study.rates, images)
    assert {key[0] for key in answers} == {"train", "test", "model"}
    for part, n in (("train", 40), ("test", 50)):
        total, z2, z1 = (answers[part, "rate", layer] for layer in ("", "layer=z2", "layer=z1"))
        assert total.value == pytest.approx(z2.value + z1.value, rel=1e-9)
        assert {answers[part, "distortion", "samples=1"].n, total.n, z2.n, z1.n} == {n}
        assert min(z2.value, z1.value) > 0
    posterior = encode(model_of(member()), images.test)
    assert answers["test", "rate", "layer=z2"].value == pytest.approx(study.rate(posterior).mean().item(), rel=1e-9)
    count = sum(weight.numel() for weight in model_of(member()).parameters())
    assert answers["model", "parameters", ""].value == count
    assert ("model", "parameters", "") not in taken(study.rates, images, step=16)


def test_training_images_are_as_many_as_test_images_at_most(images):
    values = taken(study.rates, images, one=member(n_test=7))
    assert values["train", "rate", ""].n == 7


def test_reconstructions_in_both_readings(images):
    values = taken(study.reconstructions, images)
    direct = psnr(model_of(member()), images.test)
    assert values["test", "psnr", "of=images"].value == pytest.approx(direct.of_images.mean().item(), rel=1e-12)
    assert values["test", "psnr", "of=global"].value == direct.of_all


class Judge(nn.Module):
    """Three classes, by the mean of each colour."""

    def __init__(self):
        super().__init__()
        self.record = {"network": "cnn", "accuracy": 0.9, "accuracy_se": 0.01, "n": 100}

    def forward(self, images):
        return images.flatten(2).mean(2).softmax(1)


def test_samples_are_judged_by_the_available_classifiers(images, monkeypatch):
    assert taken(study.samples, images) == {}  # nobody is
    monkeypatch.setattr(study, "classifiers_of", lambda data: [Judge()])
    values = taken(study.samples, images)
    score, diversity, sharpness = (
        values["samples", name, "classifier=cnn"].value for name in ("inception_score", "diversity", "sharpness")
    )
    drawn = study.generate_images(model_of(member()), 50, seed=3)
    assert score == inception_score(Judge()(drawn)).score
    assert score == pytest.approx(diversity * sharpness, rel=1e-3)
    assert values["test", "judge_accuracy", "classifier=cnn"].value == 0.9
    assert values["samples", "diversity", "classifier=cnn"].n == 50


def test_the_papers_judge_is_asked_where_it_was_trained(monkeypatch):
    asked = []
    monkeypatch.setattr(study, "load_classifier", lambda data, network: asked.append((data, network)))
    assert study.classifiers_of("svhn") == study.classifiers_of("mnist_binary") == []
    assert asked == [("svhn", None), ("svhn", "resnet18"), ("mnist_binary", None)]


def test_information_and_the_bounds_that_it_gives(images):
    values = taken(study.information, images)
    posterior = encode(model_of(member()), images.test)
    code = class_information(posterior, images.test_labels, 3, study.INFORMED)
    assert values["test", "class_information", "on=z2"].value == pytest.approx(code.value, rel=1e-9)
    assert values["test", "class_information_ceiling", ""].value == pytest.approx(math.log(3))
    rate = study.rate(posterior).mean().item()
    for by, most in (("class_information", code.value), ("rate_z2", rate)):
        wanted = accuracy_bound(most, 3, code.entropy)
        assert values["test", "accuracy_bound", f"by={by}"].value == pytest.approx(wanted, rel=1e-6)
    by_rate, by_rate2 = (values["test", "accuracy_bound", f"by={by}"].value for by in ("rate", "rate_z2"))
    assert 1 / 3 <= by_rate2 <= by_rate <= 1


def test_mu1_is_classified_on_the_sub_grid_alone(images):
    pytest.importorskip("sklearn")
    answers = taken(study.probes, images)
    assert {key[2] for key in answers} == {f"probe={p},on={on}" for p in study.PROBES for on in ("mu2", "mu1")}
    assert {v.n for v in answers.values()} == {10}
    off = taken(study.probes, images, one=member(beta2=1.0))
    assert {key[2] for key in off} == {f"probe={p},on=mu2" for p in study.PROBES}
    codes = evaluate(
        model_of(member()), images.test, images.test_rows, 3, of=lambda p, x: {"mu2": p["z2"].mu.flatten(1)}
    )["mu2"]
    knn = study.probe_accuracy("knn", codes, images.test_labels, 3)
    assert answers["test", "accuracy", "probe=knn,on=mu2"].value == knn.value


def test_samples_of_z2_are_classified_as_their_means_are_but_for_their_noise(images, monkeypatch):
    pytest.importorskip("sklearn")
    of_means, of_samples = taken(study.probes, images), taken(study.sampled_probes, images)
    assert {key[2] for key in of_samples} == {f"probe={p}" for p in study.PROBES}
    assert not taken(study.sampled_probes, images, step=16)
    z2 = dict(model_of(member()).double().walk(*walked(images)))["z2"]
    knn = study.probe_accuracy("knn", z2, images.test_labels, 3)
    assert of_samples["test", "sampled_accuracy", "probe=knn"].value == knn.value

    def without_noise(*given, **how):
        return {**evaluate(*given, **how), "logvar": torch.tensor(-200.0)}

    monkeypatch.setattr(study, "evaluate", without_noise)
    for (_, _, by), value in taken(study.sampled_probes, images).items():
        assert value.value == of_means["test", "accuracy", f"{by},on=mu2"].value


def walked(images) -> tuple:
    """The test images as the model sees them, and the noise under which a member of seed 3 is measured."""
    sites = model_of(member()).noise_sites
    noise = {
        site: randomness.normal_rows(3, randomness.EVALUATION, 0, site, images.test_rows, tuple(shape), torch.float64)
        for site, shape in sites.items()
    }
    return images.test.double() / 255, noise


def test_without_labels_nothing_is_classified(images):
    bare: Examples = dataclasses.replace(images, test_labels=None)
    assert taken(study.information, bare) == taken(study.probes, bare) == taken(study.sampled_probes, bare) == {}


@pytest.mark.parametrize("measure", [study.reconstructions, study.samples, study.information, study.probes])
def test_what_takes_long_is_measured_late(measure, images, monkeypatch):
    monkeypatch.setattr(study, "classifiers_of", lambda data: [Judge()])
    assert not taken(measure, images, step=12)
    assert set(taken(measure, images, step=16)) == set(taken(measure, images, step=20))


def test_a_table_has_what_claims_and_figures_read():
    table = study.run(settings(models="[ghvae, lvae]"))
    assert set(table["step"]) == {1, 2, 3, 4, 5}
    assert {*plots.AXES, "model", "channels", "latent_dim", "likelihood", "sigma", "objective"} <= set(table.columns)
    assert len(table.groupby(["model", "beta2", "beta1"])) == 4
    counts = table[table["measure"] == "parameters"].groupby("model")["value"].first()
    assert counts.to_dict() == {"ghvae": 475_811, "lvae": 408_131}
    shown = claims.verdict_table(ours.CLAIMS, table)
    assert len(shown) == 15
    assert "GHVAE, 32 x 32 pixels: 475,811 parameters (wanted 475,811)" in shown["ours"][0]
    for draw in FIGURES:
        texts(draw(table))
    assert study.run(settings(models="[ghvae, lvae]")).equals(table)


# Figures --------------------------------------------------------------------------------------------------------------

FIGURES = (plots.figure_1, plots.figure_3, plots.figure_5, plots.figure_6, plots.figure_7)
FIGURES += (plots.figure_8, plots.figure_9, plots.learning_curves)
COARSE = study.GRID[::5]


def world(**how) -> pd.DataFrame:
    """A made-up tidy table over a 5 x 5 grid, with all columns that figures read."""
    rows = with_columns(made_up(**({"points": COARSE} | how)))
    return rows.assign(weight_decay=0.0, parent=None, arm=None, data_identity="made", asked=True)


def texts(figure) -> list[str]:
    """All words on a figure."""
    return [text.get_text() for text in drawn(figure).findobj(plt.Text)]


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_state_their_budget(draw):
    both = pd.concat([world(), world(data="mnist_binary"), world(model="lvae", data="cifar10", steps=57_000)])
    words = texts(draw(both))
    labels = {
        "GHVAE: 143,000 steps of 256, SVHN, 1 seed",
        "GHVAE: 117,000 steps of 256, binary MNIST, 1 seed",
        "LVAE: 57,000 steps of 256, CIFAR-10, 1 seed",
    }
    wanted = {plots.figure_8: "binary MNIST", plots.figure_9: "LVAE"}.get(draw, "")
    assert {word.strip() for word in words} & labels == {label for label in labels if wanted in label}


@pytest.mark.parametrize("draw", FIGURES)
def test_figures_say_what_is_missing(draw):
    rates_only = world(only=("rate",))
    words = " ".join(texts(draw(rates_only)))
    if draw in (plots.figure_8, plots.figure_9):
        assert "python -m vaekit train hierarchical_rates --scale quick -p" in words
    elif draw is not plots.learning_curves:
        assert " here:" in words
    lost = world().assign(status="diverged", value=math.nan, step=math.nan)
    assert "No member of this kind is here." in texts(plots.figure_1(lost))
    assert texts(draw(rates_only.iloc[:0]))


@pytest.mark.parametrize("draw", [*FIGURES, plots.best, explore.points])
def test_the_seed_that_is_drawn_has_been_trained(draw):
    stored = world().assign(asked=False)
    diverged = world().iloc[:1].assign(seed=7, key="of seed 7", status="diverged", value=math.nan)
    both = pd.concat([stored, diverged.assign(asked=True)])
    assert plots.drawn_seed(both) == 0
    draw(both)


@pytest.mark.slow
@pytest.mark.parametrize("draw", FIGURES)
def test_figures_are_drawn_whatever_the_range_of_the_values(draw):
    both = pd.concat([world(), world(data="mnist_binary"), world(model="lvae")])
    assert_drawn_whatever_the_range(draw, both)


def test_the_points_are_those_of_the_seed_that_has_most():
    fresh = world(points=[(0.1, 0.1)], seeds=(0, 1, 2))
    points = plots.points_of(pd.concat([world(seeds=(3,)), fresh]))
    assert len(points) == 25
    assert points.index.tolist() == sorted(points.index)
    assert points.attrs["classifier"] == "resnet20"
    rows = world(seeds=(3,))
    one = rows[(rows["measure"] == "psnr") & (rows["beta2"] == 0.1) & (rows["beta1"] == 10) & (rows["step"] == 143_000)]
    assert points.loc[(0.1, 10.0), plots.PSNR] == one["value"].item()
    alone = plots.points_of(world(only=("rate",)))
    assert list(alone.columns) == [plots.R2, plots.R1, plots.R]


def test_the_best_and_the_diagonals():
    shown = plots.best(world()).set_index("metric")
    assert shown.loc["Inception Score (resnet20)", "best member"].endswith("(0.1, 1)")
    assert shown.loc[plots.PSNR, "best member"].endswith("(10, 0.1)")
    assert shown.loc[plots.PSNR, "best with beta2 = beta1"].endswith("(0.1, 0.1)")
    gaps = pd.to_numeric(shown["hull above the diagonal"])
    assert (gaps >= 0).all()
    assert gaps[plots.PSNR] > 0.01
    off = plots.best(world(points=[(0.1, 1.0), (1.0, 10.0)]))
    assert set(off["best with beta2 = beta1"]) == {"none here"}
    assert plots.best(world().iloc[:0]).empty


def test_scores_that_are_alike_have_no_best():
    flat = world(data="mnist_binary")
    rows = flat["measure"] == "inception_score"
    flat.loc[rows, "value"] = 1 + 1e-4 * flat.loc[rows, "beta2"] / 10
    points = plots.points_of(flat)
    assert plots.IS in points.attrs["alike"]
    assert plots.PSNR not in points.attrs["alike"]
    shown = plots.best(flat).set_index("metric")["best member"]
    assert next(text for name, text in shown.items() if name.startswith("Inception")) == "1.000 all alike"
    _, ((ax, marked),) = panels(1, 2)
    plots.landscape(ax, points, plots.IS, "D")
    plots.landscape(marked, points, plots.PSNR, "^")
    assert [line.get_marker() for line in ax.lines] == ["None", "x"]
    assert [line.get_marker() for line in marked.lines] == ["None", "^", "x"]
    low, high = ax.collections[0].get_clim()
    assert high - low == pytest.approx(0.02)
    assert not any("e-" in word for word in texts(plots.figure_5(flat)) + texts(plots.figure_1(flat)))


def test_figure_8_leaves_the_ladder_to_figure_9():
    both = pd.concat([world(data="mnist_binary"), world(model="lvae", data="mnist_binary")])
    assert not any("LVAE" in word for word in texts(plots.figure_8(both)))


def test_table_1_stands_beside_the_papers():
    shown = plots.table_1(pd.concat([world(), world(data="mnist_binary")]))
    assert shown["code"].tolist() == ["mu2", "mu2"]
    assert shown.loc[0, "RBF SVM"].endswith("(77.60)")
    assert "(" not in shown.loc[1, "RBF SVM"]
    assert shown["members"].tolist() == [25, 25]
    assert plots.table_1(world(only=("rate",))).empty


# Pictures and the explorer --------------------------------------------------------------------------------------------


def test_pictures_are_samples_images_and_reconstructions(images):
    model = model_of(member()).float()
    shown = study.image_grid(model, member(), 20, images)
    assert (shown.dtype, shown.shape) == (torch.uint8, (3, 8, 3, 32, 32))
    assert torch.equal(shown[1], images.test[:8])
    drawn = generate_images(model, 8, 3).clamp(0, 1)
    assert torch.equal(shown[0], (255 * drawn).round().byte())
    assert (shown[2].float() / 255 - reconstruct(model, shown[1]).clamp(0, 1)).abs().max() <= 0.5 / 255 + 1e-6
    few = dataclasses.replace(images, test=images.test[:5])
    assert study.image_grid(model, member(), 20, few).shape == (3, 5, 3, 32, 32)
    with torch.no_grad():
        next(model.parameters()).fill_(math.nan)
    assert study.image_grid(model, member(), 20, images) is None


def test_pictures_are_of_a_seed_asked_for_and_go_with_the_results():
    chosen = settings(seeds="[7]")
    table = study.run(chosen)
    other = table.assign(seed=0, asked=False, key=table["key"].str[::-1])
    both = pd.concat([table, other], ignore_index=True)  # as many of seed 0, whose weights are not here
    shown = explore.explore(both, chosen)
    points = moved(shown)[1]["points"]
    assert {(point["axes"]["beta2"], point["axes"]["beta1"]) for point in points} == {(0.1, 1.0), (1.0, 1.0)}
    assert all((point["of"], point["stored"], point["numbers"]["seed"]) == ("seed 7", True, "7") for point in points)
    facts, content = shown._answer.__self__.facts(points[0]["key"])
    assert [label for label, _ in facts["rows"]] == ["sample", "test image", "reconstruction"]
    assert (len(content), len(facts["codes"]["mean"]), facts["why"], facts["whyNot"]) == (1, 8, "", "")
    words = texts(explore.figure_4(both, chosen))
    assert any(word == "both betas 1, seed 7\n(β2, β1) = (1, 1)" for word in words)
    assert main(["export", "hierarchical_rates"]) in (0, None)
    page = held(explore.explore(table, dataclasses.replace(chosen, scale="published")))["data"]
    assert all((point["of"], len(point["rows"]), point["stored"]) == ("seed 7", 3, False) for point in page["points"])
    assert all(strip["src"].startswith("data:image/png") for strip in page["strips"])


@pytest.mark.parametrize(
    ("module", "name", "error"),
    [(image_grids, "load", StoreError("damaged")), (image_grids, "examples_of", DataError("gone"))],
)
def test_what_cannot_be_pictured_costs_its_picture_alone(module, name, error, monkeypatch):
    chosen = settings(betas2=[1])
    shown = explore.explore(study.run(chosen), chosen)

    def fail(*arguments):
        raise error

    monkeypatch.setattr(module, name, fail)
    facts, content = shown._answer.__self__.facts(moved(shown)[1]["points"][0]["key"])
    assert (facts["rows"], facts["why"]) == ([], f"{error}")
    assert len(content) == 1


def test_the_explorer_moves_over_the_grids():
    chosen = dataclasses.replace(settings(), scale="published")
    both = pd.concat([world(), world(model="lvae", steps=57_000)])
    data = held(explore.explore(both, chosen))["data"]
    assert [axis["name"] for axis in data["axes"]] == ["model", "beta2", "beta1"]
    assert len(data["budgets"]) == 2
    assert len(data["points"]) == 2 * 25
    points = plots.points_of(world())
    first, values = data["points"][0], points.iloc[0]
    assert first["at"][-1][1] == [[pytest.approx(values[plots.R2]), pytest.approx(values[plots.R1]), 0, 0]]
    numbers = {data["numbers"][name]: text for name, text in first["numbers"]}
    assert numbers["seed"] == "0"
    assert numbers[plots.PSNR] == f"{values[plots.PSNR]:.2f}"
    assert numbers["Inception Score (resnet20)"] == f"{values[plots.IS]:.3f}"
    assert numbers[plots.RBF] == f"{values[plots.RBF]:.3f}"
    assert first["why"] == "results/ carries no pictures of this member."
    assert first["says"].startswith("beta2 0.1, beta1 0.1: R(z2) ")
    assert "nothing to move through" in explore.explore(world().iloc[:0], chosen)._repr_html_()
    assert any("No pictures" in word for word in texts(explore.figure_4(world(), chosen)))


def test_of_the_papers_grid_its_sub_grid_has_pictures():
    grid = [(beta2, beta1) for beta2 in study.GRID for beta1 in study.GRID]
    assert sum(study.pictured(*point) for point in grid) == 7 * 7
    assert study.pictured(0.123, 1.0)
    assert not study.pictured(study.GRID[1], 1.0)
