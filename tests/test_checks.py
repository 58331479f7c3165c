"""What is not what a docstring asks for is one sentence, in every public function alike, before any work."""

import inspect
import math
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from vaekit import figures, fleet, losses, metrics, pruning
from vaekit.distributions import Bernoulli, Gaussian
from vaekit.models import GHVAE, ClassifierVAE, DenseVAE

GENERATOR = torch.Generator().manual_seed(17)
N, SHAPE = 40, (1, 8, 8)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR)


IMAGES = torch.randint(0, 256, (N, *SHAPE), dtype=torch.uint8, generator=GENERATOR)
GREY = IMAGES / 255
LATENTS, LABELS = normal(N, 3), torch.arange(N) % 4
BINARY = LATENTS > 0
POSTERIOR = Gaussian(LATENTS, 0.1 * normal(N, 3))
FACTORS = torch.stack((torch.arange(N) % 2, torch.arange(N) % 3), dim=1)
PROBABILITIES = normal(N, 4).softmax(1)
MODEL = DenseVAE(SHAPE, 1, 16, 3).eval()
CLASSIFIER = pruning.add_masks(ClassifierVAE(channels=(4, 8))).eval()
ROW = {"member": 0, "seed": 0, "beta": 0.1, "steps": 1, "step": 1, "part": "test", "se": 0.0, "n": 1}
TABLE = pd.DataFrame([ROW | {"measure": name, "value": 3.0} for name in ("rate", "distortion")])


def classifier(layer):
    """A classifier whose first layer is another."""
    model = ClassifierVAE(channels=(4, 8)).eval()
    model.encoder[0] = layer
    return model


LAYERS = {
    "another padding": nn.Conv2d(1, 4, 4, 2, 1, padding_mode="circular"),
    "a dilation": nn.Conv2d(1, 4, 4, 2, 1, dilation=2),
    "no bias": nn.Conv2d(1, 4, 4, 2, 1, bias=False),
    "a sigmoid": nn.Sigmoid(),
    "batch norm": nn.BatchNorm2d(1),
}


class Dropping(DenseVAE):
    """A model that is another in training mode."""

    def __init__(self):
        super().__init__(SHAPE, 1, 16, 3)
        self.drop = nn.Dropout(0.5)


NONE = {"None": None, "a text": "z", "numpy's": np.zeros((N, 3)), "a list": [[0.0] * 3] * N}
COMPLEX = {"complex": torch.zeros(N, 3, dtype=torch.complex64), "a single number": torch.tensor(1.0)}
WRONG = {
    "points": NONE | COMPLEX,
    "latents": NONE | COMPLEX | {"labels": LABELS, "images": IMAGES, "none": LATENTS[:0], "no values": LATENTS[:, :0]},
    "labels": {
        "None": None,
        "numpy's": LABELS.numpy(),
        "too few": LABELS[:-1],
        "a column": LABELS[:, None],
        "fractions": LABELS + 0.5,
        "not finite": LABELS / 0,
        "complex": LABELS + 0j,
    },
    "rows": {"None": None, "negative": LABELS - 1, "fractions": LABELS + 0.5, "a mask": BINARY[:, 0]},
    "factors": {
        "None": None,
        "numpy's": FACTORS.numpy(),
        "too few": FACTORS[:-1],
        "one factor as a row": FACTORS[:, 0],
        "not finite": FACTORS.float().log().log(),
        "constant": FACTORS * 0,
        "all different": torch.arange(N)[:, None],
    },
    "images": {
        "None": None,
        "numpy's": IMAGES.numpy(),
        "in [0, 1]": GREY,
        "levels as floats": IMAGES.float(),
        "whole numbers": IMAGES.long(),
        "without channels": IMAGES[:, 0],
        "flat": IMAGES.flatten(1),
        "none": IMAGES[:0],
    },
    "pictures": {"HWC": IMAGES.expand(N, 3, 8, 8).permute(0, 2, 3, 1), "RGBA": IMAGES.expand(N, 4, 8, 8)},
    "samples": {"None": None, "bytes": IMAGES, "numpy's": GREY.numpy(), "flat": GREY.flatten(1), "none": GREY[:0]},
    "near": {
        "None": None,
        "whole numbers": IMAGES.long(),
        "levels as floats": IMAGES.float(),
        "complex": GREY + 0j,
        "another shape": GREY[:, :, :4],
        "too few": GREY[:-1],
    },
    "among": {
        "None": None,
        "levels as floats": IMAGES.float(),
        "negative": GREY - 1,
        "not finite": GREY / 0,
        "none": GREY[:0],
    },
    "grey": {
        "None": None,
        "bytes": IMAGES,
        "levels as floats": IMAGES.float(),
        "negative": GREY - 1,
        "numpy's": GREY.numpy(),
    },
    "target": {"another shape": GREY.expand(N, 3, 8, 8), "one image": GREY[:1], "flat": GREY.flatten(1)},
    "likelihood": {"None": None, "its mean": GREY, "a tuple": (GREY, GREY)},
    "posterior": {
        "None": None,
        "a mean alone": LATENTS,
        "one of two": (LATENTS,),
        "numpy's": Gaussian(LATENTS.numpy(), LATENTS.numpy()),
        "whole numbers": Gaussian(FACTORS, FACTORS),
        "unlike": Gaussian(LATENTS, LATENTS[:, :2]),
        "a variance an image": Gaussian(LATENTS, LATENTS[:, 0]),
    },
    "images' posterior": {"one image": Gaussian(LATENTS[:1], LATENTS[:1])},
    "prior": {"unlike": Gaussian(LATENTS[:, :2], LATENTS[:, :2]), "a number an image": Gaussian(*LATENTS.T[:2])},
    "probabilities": {
        "None": None,
        "numpy's": PROBABILITIES.numpy(),
        "logits": normal(N, 4),
        "logarithms": PROBABILITIES.log(),
        "per cent": 100 * PROBABILITIES,
        "a class missing": PROBABILITIES[:, 1:],
        "labels": LABELS,
        "none": PROBABILITIES[:0],
    },
    "judge": {"logits": lambda x: x.flatten(1)[:, :4] * 9, "labels": lambda x: x.flatten(1).argmax(1)},
    "logits": {"None": None, "labels": LABELS, "flat": LATENTS.flatten()},
    "classes": {"one too many": LABELS + 1, "ignored by torch": LABELS - 100, "floats": LABELS.float()},
    "count": {"0": 0, "-1": -1, "a fraction": 1.5, "a text": "3", "None": None, "true": True, "nan": math.nan,
              "numpy's true": np.True_, "torch's true": torch.tensor(True),
              "two": torch.tensor([1, 2]), "two of numpy's": np.array([1, 2])},
    "step": {"-1": -1, "beyond": 11, "a fraction": 1.5, "None": None},
    "seed": {"-1": -1, "a fraction": 1.5, "None": None, "64 bits": 2**63, "a text": "0", "true": True},
    "number": {"nan": math.nan, "infinite": math.inf, "a text": "0.1", "None": None, "two": LATENTS[0]},
    "weight": {"nan": math.nan, "infinite": math.inf, "a text": "0.1", "None": None},
    "share": {"per cent": 50, "negative": -0.1, "a tensor of per cent": torch.tensor(50.0), "nan": math.nan,
              "a tensor of nan": torch.tensor(math.nan)},
    "model": {"None": None, "the class": DenseVAE, "in training": Dropping().train(), "another": nn.Linear(2, 2)},
    "maker": {"a text": lambda: "a model", "nothing": lambda: None},
    "classifier": {"None": None, "the class": ClassifierVAE, "another": nn.Linear(2, 2)} | {
        what: classifier(layer) for what, layer in LAYERS.items()},
    "no encoder": {"None": None, "another": nn.Linear(2, 2)},
    "unmasked": {"without masks": ClassifierVAE(channels=(4, 8))},
    "maskable": {"nothing to mask": nn.Sequential(nn.ReLU()), "no bias": nn.Sequential(nn.Conv2d(1, 2, 3, bias=False))},
    "weights": {"none": {}, "a list": [LATENTS], "numpy's": {"a": LATENTS.numpy()}, "masks": {"a": LATENTS > 0}},
    "one share": {"two": torch.tensor([0.1, 0.2])},
    "channels": {"a row": LATENTS[:, 0]},
    "frame": {"None": None, "rows": [{"a": 1}]},
    "figure": {"None": None, "matplotlib's": figures.plt.Figure()},
    "table": {f"without {name}": TABLE.drop(columns=name) for name in figures.ROW},
    "rows of a curve": {f"without {name}": TABLE.drop(columns=name) for name in ("beta", "seed", "measure", "value")},
    "rows with values": {"without values": TABLE.drop(columns="value")},
    "rows of a line": {"without beta": TABLE.drop(columns="beta"), "without values": TABLE.drop(columns="value")},
    "estimator": {"another": "miracle"},
    "information": {"None": None, "a text": "1", "two": LATENTS[0]},
    "half subsets": {"1": 1, "-2": -2, "a fraction": 2.5},
    "entropy": {"beyond": 3.0, "negative": -1.0, "nan": math.nan},
    "numbers": {"of another length": [1.0], "a text": "12", "objects": [None, 1.0]},
    "values": {"None": None, "none": LATENTS[:0, 0], "labels": LABELS, "two columns": LATENTS},
}  # fmt: skip


def objective(name):
    return lambda **given: losses.OBJECTIVES[name](given["params"], GREY, LABELS, given["weights"], torch.tensor(0.0))


def training(**given):
    """A fleet that is refused before its first step."""
    members = given.pop("members", None) or fleet.grid(beta=[0.1, 1.0])
    settings = {"budget": fleet.Budget(10**9), "progress": False} | given
    return fleet.train_fleet(settings.pop("make_model", lambda: DenseVAE(SHAPE, 1, 16, 3)),
                             losses.beta_objective, members, settings.pop("images", IMAGES), **settings)  # fmt: skip


LIKELIHOOD = Bernoulli(normal(N, *SHAPE))
OUTPUTS = {"z": POSTERIOR, "z2": POSTERIOR, "z1": POSTERIOR, "prior1": POSTERIOR, "x": LIKELIHOOD, "sample": LATENTS}
OUTPUTS |= {"y": normal(N, 4)}
NUMBERS = {"beta": 1, "beta1": 1, "beta2": 1, "mi": 1, "kl": 1, "lambda": 1, "reconstruction": 1, "warmup": 0}
NEEDED = {
    "beta": ("x", "z", "beta"),
    "mi_kl": ("x", "z", "sample", "mi", "kl"),
    "hierarchical": ("x", "z2", "z1", "prior1", "beta1", "beta2"),
    "hierarchical_warmup": ("x", "z2", "z1", "prior1", "beta1", "beta2", "warmup"),
    "cross_entropy": ("y",),
    "classifier_sum": ("y", "z", "beta", "lambda", "reconstruction"),
    "classifier_pixel_mean": ("y", "z", "beta", "lambda", "reconstruction"),
}
AMONG = metrics.Among(GREY)
# A call that is right, and the kind of each of its arguments.
CALLS = {
    "metrics.active_units": (metrics.active_units, {"posterior": POSTERIOR, "threshold": 0.01},
                             {"posterior": "posterior|images' posterior", "threshold": "number"}),
    "metrics.rate_per_dimension": (metrics.rate_per_dimension, {"posterior": POSTERIOR}, {"posterior": "posterior"}),
    "metrics.mig": (metrics.mig, {"latents": LATENTS, "factors": FACTORS, "bins": 5},
                    {"latents": "latents", "factors": "factors", "bins": "count"}),
    "metrics.dci": (metrics.dci, {"latents": LATENTS, "factors": FACTORS, "seed": 0},
                    {"latents": "latents", "factors": "factors", "seed": "seed"}),
    "metrics.intrinsic_dimension": (metrics.intrinsic_dimension, {"points": LATENTS, "half_subsets": 0, "seed": 0},
                                    {"points": "points", "half_subsets": "half subsets", "seed": "seed"}),
    "metrics.information_imbalance": (
        lambda layer, **given: metrics.information_imbalance({"a": LATENTS, "b": layer}, **given),
        {"layer": LATENTS, "half_subsets": 0, "seed": 0},
        {"layer": "points", "half_subsets": "half subsets", "seed": "seed"}),
    "metrics.information": (
        metrics.information,
        {"posterior": POSTERIOR, "seed": 0, "estimator": "exact", "samples": 8, "batch_size": 8},
        {"posterior": "posterior|images' posterior", "seed": "seed", "estimator": "estimator", "samples": "count",
         "batch_size": "count"}),
    "metrics.class_information": (
        metrics.class_information, {"posterior": POSTERIOR, "labels": LABELS, "seed": 0, "samples": 9},
        {"posterior": "posterior|images' posterior", "labels": "labels", "seed": "seed"}),
    "metrics.probe_accuracy": (metrics.probe_accuracy, {"name": "knn", "latents": LATENTS, "labels": LABELS, "seed": 0},
                               {"name": "estimator", "latents": "latents", "labels": "labels", "seed": "seed"}),
    "metrics.accuracy_bound": (metrics.accuracy_bound, {"information": 0.5, "classes": 4, "entropy": 1.0},
                               {"information": "information", "classes": "count", "entropy": "entropy"}),
    "metrics.upper_hull": (metrics.upper_hull, {"x": [0.0, 1.0], "y": [0.0, 1.0]}, {"x": "numbers", "y": "numbers"}),
    "metrics.mean_and_se": (metrics.mean_and_se, {"values": LATENTS[:, 0]}, {"values": "values"}),
    "metrics.encode": (metrics.encode, {"model": MODEL, "images": IMAGES, "batch_size": 8},
                       {"model": "model", "images": "images", "batch_size": "count"}),
    "metrics.evaluate": (
        metrics.evaluate, {"model": MODEL, "images": IMAGES, "rows": torch.arange(N), "seed": 0, "batch_size": 8},
        {"model": "model", "images": "images", "rows": "rows", "seed": "seed", "batch_size": "count"}),
    "metrics.floor": (metrics.floor, {"images": IMAGES, "batch_size": 8}, {"images": "images", "batch_size": "count"}),
    "metrics.log_likelihood": (
        metrics.log_likelihood,
        {"model": MODEL, "images": IMAGES, "rows": torch.arange(N), "seed": 0, "samples": 2, "batch_size": 8},
        {"model": "model", "images": "images", "rows": "rows", "seed": "seed", "samples": "count",
         "batch_size": "count"}),
    "metrics.psnr": (metrics.psnr, {"model": MODEL, "images": IMAGES}, {"model": "model", "images": "images"}),
    "metrics.reconstruct": (metrics.reconstruct, {"model": MODEL, "images": IMAGES},
                            {"model": "model", "images": "images"}),
    "metrics.generate_images": (metrics.generate_images, {"model": MODEL, "n": 2, "seed": 0, "batch_size": 8},
                                {"model": "model", "n": "count", "seed": "seed", "batch_size": "count"}),
    "metrics.probabilities": (
        metrics.probabilities, {"judge": lambda x: x.flatten(1)[:, :4].softmax(1), "images": GREY, "batch_size": 8},
        {"judge": "judge", "images": "samples", "batch_size": "count"}),
    "metrics.inception_score": (metrics.inception_score, {"probabilities": PROBABILITIES, "splits": 5},
                                {"probabilities": "probabilities", "splits": "count"}),
    "metrics.memorisation": (
        metrics.memorisation, {"points": GREY, "targets": GREY, "train": GREY, "control": GREY},
        {"points": "near", "targets": "near", "train": "near|among", "control": "near|among"}),
    "metrics.Among": (metrics.Among, {"images": GREY}, {"images": "among"}),
    "metrics.Among.nearer": (AMONG.nearer, {"points": GREY, "targets": GREY}, {"points": "near", "targets": "near"}),
    "losses.rate": (losses.rate, {"posterior": POSTERIOR}, {"posterior": "posterior"}),
    "losses.gaussian_kl": (losses.gaussian_kl, {"q": POSTERIOR, "p": POSTERIOR},
                           {"q": "posterior", "p": "posterior|prior"}),
    "losses.distortion": (losses.distortion, {"likelihood": LIKELIHOOD, "images": GREY},
                          {"likelihood": "likelihood", "images": "grey|target"}),
    "losses.bernoulli_floor": (losses.bernoulli_floor, {"images": GREY}, {"images": "grey"}),
    "losses.cross_entropy": (losses.cross_entropy, {"logits": normal(N, 4), "labels": LABELS},
                             {"logits": "logits", "labels": "labels|classes"}),
    "pruning.add_masks": (pruning.add_masks, {"model": ClassifierVAE(channels=(4, 8))}, {"model": "maskable"}),
    "pruning.ramp": (pruning.ramp, {"step": 3, "steps": 10}, {"step": "step", "steps": "count"}),
    "pruning.encoder_weights": (pruning.encoder_weights, {"model": CLASSIFIER}, {"model": "no encoder"}),
    "pruning.magnitude_masks": (pruning.magnitude_masks, {"weights": {"a": LATENTS}, "sparsity": 0.5},
                                {"weights": "weights", "sparsity": "share|one share"}),
    "pruning.channel_mask": (pruning.channel_mask, {"weight": LATENTS, "sparsity": 0.5},
                             {"weight": "latents|channels", "sparsity": "share"}),
    "pruning.projection": (pruning.projection, {"model": CLASSIFIER, "arm": "gradual", "steps": 10},
                           {"model": "unmasked", "steps": "count"}),
    "pruning.size": (pruning.size, {"model": CLASSIFIER}, {"model": "classifier"}),
    "pruning.compact": (pruning.compact, {"model": CLASSIFIER}, {"model": "classifier"}),
    "pruning.seconds_per_image": (pruning.seconds_per_image, {"model": CLASSIFIER, "batch_size": 2, "rounds": 2},
                                  {"model": "classifier", "batch_size": "count", "rounds": "count"}),
    "figures.pictures": (figures.pictures, {"images": IMAGES, "columns": 4},
                         {"images": "images|pictures", "columns": "count"}),
    "figures.rate_distortion": (figures.rate_distortion, {"table": TABLE}, {"table": "table"}),
    "figures.with_data": (figures.with_data, {"figure": figures.nothing("x"), "data": ""}, {"figure": "figure"}),
    "figures.text_table": (figures.text_table, {"frame": TABLE}, {"frame": "frame"}),
    "figures.rd_curve": (lambda rows: figures.rd_curve(rows, figures.panels(1, 1)[1][0, 0]), {"rows": TABLE},
                         {"rows": "rows of a curve"}),
    "figures.line": (lambda rows: figures.line(figures.panels(1, 1)[1][0, 0], rows, "beta"), {"rows": TABLE},
                     {"rows": "rows of a line"}),
    "figures.finite": (figures.finite, {"rows": TABLE}, {"rows": "rows with values"}),
    "figures.over_beta": (lambda table: figures.over_beta(table, "rate", figures.panels(1, 1)[1][0, 0], part="test"),
                          {"table": TABLE}, {"table": "table"}),
    "figures.learning_curves": (lambda table: figures.learning_curves(table, "rate", figures.panels(1, 1)[1][0, 0]),
                                {"table": TABLE}, {"table": "table"}),
    "fleet.Budget": (fleet.Budget, {"steps": 10, "batch_size": 4, "lr": 0.1, "weight_decay": 0, "snapshots": [1]},
                     {"steps": "count", "batch_size": "count", "lr": "number", "weight_decay": "number",
                      "snapshots": "step"}),
    "fleet.grid": (lambda **given: fleet.grid(**given), {"seed": 0, "beta": 1.0}, {"seed": "seed", "beta": "weight"}),
    "fleet.new_model": (fleet.new_model, {"make_model": lambda: nn.Linear(2, 2), "seed": 0},
                        {"make_model": "maker", "seed": "seed"}),
    "fleet.batch_indices": (fleet.batch_indices, {"seed": 0, "size": 9, "batch_size": 4, "step": 0},
                            {"seed": "seed", "size": "count", "batch_size": "count"}),
}  # fmt: skip
FREE = {  # public, and no function of numbers or images: data classes, names, and what another function has checked
    "metrics": {"DCI", "MIG", "PROBES", "PSNR", "Accuracy", "ClassInformation", "Dimension", "Imbalance", "Nearest",
                "InceptionScore", "Information", "Memorisation", "rd_table"},
    "losses": {"OBJECTIVES", *(f"{name}_objective" for name in losses.OBJECTIVES)},
    "pruning": {"Size"},
    "figures": {"panels", "nothing", "say", "grid", "mean_sd", "looks", "rd_axes", "label_above", "described",
                "is_empty", "scheme", "stamp", "trimmed"},
    "fleet": {"HISTORY_EVERY", "PRECISIONS", "Checkpointer", "Fleet", "FleetMember", "State", "Trained",
              "default_backend", "device_problem", "train_fleet", "workers", "Newest", "Progress", "Stopped"},
}  # fmt: skip
CASES = [
    pytest.param(name, argument, value, id=f"{name}({argument}: {what})")
    for name, (_, _, kinds) in CALLS.items()
    for argument, kind in kinds.items()
    for what, value in {k: v for one in kind.split("|") for k, v in WRONG[one].items()}.items()
]


@pytest.mark.parametrize("name", CALLS)
def test_what_is_right_is_taken(name):
    call, given, _ = CALLS[name]
    call(**given)


@pytest.mark.parametrize(("name", "argument", "value"), CASES)
def test_what_is_wrong_is_one_sentence(name, argument, value):
    call, given, _ = CALLS[name]
    with pytest.raises(ValueError) as refused:
        call(**given | {argument: value})
    words = str(refused.value)
    assert "\n" not in words
    assert len(words) < 300
    assert any(word in words for word in ("give", "use one of")), words
    assert refused.traceback[-1].path.is_relative_to(inspect.getfile(losses).rpartition("/")[0]), words


@pytest.mark.parametrize("module", [metrics, losses, pruning, figures, fleet], ids=lambda module: module.__name__)
def test_every_public_function_is_asked(module):
    short = module.__name__.removeprefix("vaekit.")
    functions = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    public = {name for name in getattr(module, "__all__", functions) if not name.startswith("_")}
    asked = {name.split(".")[1] for name in CALLS if name.startswith(f"{short}.")}
    assert public - FREE[short] == asked


@pytest.mark.parametrize(("name", "missing"), [(name, one) for name, names in NEEDED.items() for one in names])
def test_an_objective_without_what_it_weighs_says_so(name, missing):
    given = {"params": dict(OUTPUTS), "weights": dict(NUMBERS)}
    objective(name)(**given)
    for names in given.values():
        names.pop(missing, None)
    with pytest.raises(ValueError, match=f"got .*; give .*{missing}"):
        objective(name)(**given)


def test_every_objective_is_asked():
    assert NEEDED.keys() == losses.OBJECTIVES.keys()


START = DenseVAE(SHAPE, 1, 16, 3).state_dict()
FLEETS = {
    "no model": ({"make_model": lambda: "a model"}, "make_model: got 'a model'; give a function that makes"),
    "a model that is handed no noise": ({"make_model": lambda: nn.Linear(2, 2)}, "Linear has no noise_sites"),
    "a model that is not made": ({"make_model": lambda: DenseVAE(shape=SHAPE)}, "make_model failed: TypeError"),
    "images in [0, 1]": ({"images": GREY}, "give uint8"),
    "numpy's images": ({"images": IMAGES.numpy()}, "give a uint8 tensor"),
    "numpy's labels": ({"labels": LABELS.numpy()}, "labels are ndarray"),
    "too few labels": ({"labels": LABELS[:-1]}, "39 labels for 40 images"),
    "no threads": ({"threads": 0, "threads_each": 0.5}, "threads: got 0; .*threads_each: got 0.5"),
    "another thing for a member": ({"members": [{"beta": 1.0}]}, "got a dict among the members"),
    "a seed that is none": ({"members": [fleet.FleetMember(1.5, {"beta": 1.0})]}, "member 0: seed: got 1.5"),
    "a weight that is none": ({"members": [fleet.FleetMember(0, {"beta": "1"})]}, "member 0: beta: got '1'"),
    "a list of indices": ({"members": [fleet.FleetMember(0, {"beta": 1.0}, [0, 1])]}, "indices: got list; give"),
    "numpy's indices": ({"members": [fleet.FleetMember(0, {"beta": 1.0}, np.arange(3))]}, "indices: got numpy.ndarray"),
    "no weights": ({"members": [fleet.FleetMember(0, None)]}, "member 0: weights are numbers by name"),
    "a module for a start": ({"members": [fleet.FleetMember(0, {"beta": 1.0}, start=MODEL)]}, "a start is a state"),
    "no device": ({"device": None}, "torch does not know None"),
    "a start of another model": (
        {"members": [fleet.FleetMember(0, {"beta": 1.0}, start=DenseVAE(SHAPE, 1, 8, 3).state_dict())]},
        r"member 0 starts with .* of shape .*, in the model it is of shape"),
    "a start without a layer": (
        {"members": [fleet.FleetMember(0, {"beta": 1.0}, start=dict(list(START.items())[1:]))]},
        r"member 0 starts with .* missing, in the model"),
}  # fmt: skip


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("name", FLEETS)
def test_a_fleet_that_cannot_be_trained_is_refused_before_its_first_step(name, backend):
    given, words = FLEETS[name]
    with pytest.raises(ValueError, match=words):
        training(**given, backend=backend)


@pytest.mark.parametrize("share", [50, -0.5])
@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_a_sparsity_that_is_no_share_is_refused_before_the_first_step(share, backend):
    def make():
        return pruning.add_masks(ClassifierVAE(channels=(4, 8)))

    project = pruning.projection(make(), "gradual", 10**9)
    with pytest.raises(ValueError, match=r"sparsity: got .*; give a share"):
        fleet.train_fleet(make, losses.cross_entropy_objective, fleet.grid(sparsity=[0.5, share]),
                          torch.zeros(20, 1, 28, 28, dtype=torch.uint8), torch.arange(20) % 10, project=project,
                          budget=fleet.Budget(10**9), backend=backend, progress=False)  # fmt: skip


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("place", [0, 7, 39])
@pytest.mark.parametrize("label", [10, -1, -100])
def test_a_label_that_is_no_class_is_refused_wherever_it_stands(place, label, backend):
    labels = torch.arange(N) % 10
    labels[place] = label
    with pytest.raises(ValueError, match=f"labels: got .*{label}.*; give 0 to 9, for logits of 10 classes"):
        fleet.train_fleet(lambda: ClassifierVAE(channels=(4, 8)), losses.cross_entropy_objective, fleet.grid(w=[1, 2]),
                          torch.zeros(N, 1, 28, 28, dtype=torch.uint8), labels, budget=fleet.Budget(10**9),
                          backend=backend, progress=False)  # fmt: skip


KINDS = [torch.int64, torch.int32, torch.uint8, torch.float32, np.int64, np.int32, np.float32, np.float64]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_numbers_of_any_kind_are_numbers(kind):
    """Numpy's and torch's single numbers, as settings take them too."""

    def number(value):
        return torch.tensor(value, dtype=kind) if isinstance(kind, torch.dtype) else kind(value)

    assert fleet.grid(beta=number(3)) == pytest.approx(fleet.grid(beta=3.0)) or (
        [one.weights for one in fleet.grid(beta=number(3))] == [{"beta": 3.0}]
    )
    if "int" in str(kind):
        budget = fleet.Budget(number(9), number(4), snapshots=[number(2)])
        assert budget == fleet.Budget(9, 4, snapshots=(2,))
        assert {type(one) for one in (budget.steps, budget.batch_size, *budget.snapshots)} == {int}
        assert [one.seed for one in fleet.grid(seed=number(5))] == [5]
    else:
        with pytest.raises(ValueError, match="whole number"):
            fleet.Budget(number(9))


@pytest.mark.parametrize("name", ["rate", "distortion"])
def test_losses_are_checked_by_shape_where_values_cannot_be_read(name):
    """Under vmap: what is right passes, a wrong shape is refused."""
    posterior = Gaussian(LATENTS.expand(2, N, 3), LATENTS.expand(2, N, 3))
    logits, images = LIKELIHOOD.logits.expand(2, *LIKELIHOOD.logits.shape), GREY.expand(2, *GREY.shape)
    if name == "rate":
        together = torch.vmap(losses.rate)(posterior)
        assert torch.equal(together[0], losses.rate(Gaussian(LATENTS, LATENTS)))
    else:
        together = torch.vmap(lambda logits, x: losses.distortion(Bernoulli(logits), x))(logits, images)
        torch.testing.assert_close(together[0], losses.distortion(LIKELIHOOD, GREY))
        with pytest.raises(ValueError, match="images: got"):
            torch.vmap(lambda logits, x: losses.distortion(Bernoulli(logits), x))(logits, images[..., :4])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_latents_of_few_bits_give_nearly_the_same_numbers(dtype):
    exact = torch.randn(400, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    few, tolerance = exact.to(dtype), 20 * torch.finfo(dtype).eps
    labels = (exact[:, 0] > 0).long()
    for measure in (
        lambda z: metrics.intrinsic_dimension(z, 0).value,
        lambda z: metrics.information_imbalance({"a": z, "b": exact[:, :2]}, half_subsets=0)["a", "b"].value,
        lambda z: metrics.information(Gaussian(z, torch.zeros_like(z)), 0).mutual_information,
        lambda z: metrics.class_information(Gaussian(z, torch.zeros_like(z)), labels, 0).value,
        lambda z: metrics.mig(z, labels[:, None]).value,
        lambda z: metrics.probe_accuracy("logistic", z, labels, 0).value,
        lambda z: metrics.active_units(Gaussian(z, torch.zeros_like(z))),
        lambda z: metrics.rate_per_dimension(Gaussian(z, torch.zeros_like(z))).sum().item(),
    ):
        assert measure(few) == pytest.approx(measure(exact), rel=max(tolerance, 1e-5), abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_model_of_few_bits_is_measured_against_the_images_as_they_are(dtype):
    low = DenseVAE(SHAPE, 1, 16, 3).eval()
    low.load_state_dict(MODEL.state_dict())
    low.to(dtype)
    rows = torch.arange(N)
    exact, few = (metrics.evaluate(model, IMAGES, rows, seed=0) for model in (MODEL, low))
    for name in exact:
        torch.testing.assert_close(few[name], exact[name], rtol=0.02, atol=0.02)
    bounds = [metrics.log_likelihood(model, IMAGES, rows, 0, samples=20) for model in (MODEL, low)]
    torch.testing.assert_close(*bounds, rtol=0.02, atol=0.02)
    assert metrics.psnr(low, IMAGES).of_all == pytest.approx(metrics.psnr(MODEL, IMAGES).of_all, abs=0.02)
    assert metrics.generate_images(low, 50, seed=0).isfinite().all()


def test_numbers_are_points_of_one_dimension():
    z = LATENTS[:, 0]
    assert metrics.intrinsic_dimension(z) == metrics.intrinsic_dimension(z[:, None])
    flat, column = ({"z": LATENTS, "label": y} for y in (LABELS, LABELS[:, None]))
    assert metrics.information_imbalance(flat) == metrics.information_imbalance(column)
    assert metrics.probe_accuracy("knn", z, LABELS, 0) == metrics.probe_accuracy("knn", z[:, None], LABELS, 0)


def test_the_default_measure_of_a_hierarchy_says_what_it_lacks():
    model = GHVAE((3, 32, 32)).eval()
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the model's params: got .*; give z, too"):
        metrics.evaluate(model, images, torch.arange(2), 0)


def test_binary_codes_are_points():
    assert metrics.intrinsic_dimension(BINARY).reason == metrics.intrinsic_dimension(BINARY.float()).reason
    layers = ({"a": BINARY, "b": LATENTS}, {"a": BINARY.double(), "b": LATENTS})
    assert metrics.information_imbalance(layers[0]) == metrics.information_imbalance(layers[1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.float32, torch.float16])
def test_rows_of_any_kind_number_images(dtype):
    values = [metrics.evaluate(MODEL, IMAGES, torch.arange(N).to(kind), 0) for kind in (torch.int64, dtype)]
    assert torch.equal(values[0]["distortion"], values[1]["distortion"])


@pytest.mark.parametrize("draw", [torch.randn_like, lambda x: nn.functional.dropout(x, 0.5)])
def test_a_model_that_draws_is_not_measured(draw):
    class Drawing(DenseVAE):
        def encode(self, x):
            return super().encode(x + 0.1 * draw(x))

    model = Drawing(SHAPE, 1, 16, 3).eval()
    for measure in (
        lambda: metrics.evaluate(model, IMAGES, torch.arange(N), 0),
        lambda: metrics.encode(model, IMAGES),
        lambda: metrics.reconstruct(model, IMAGES),
        lambda: metrics.psnr(model, IMAGES),
        lambda: metrics.log_likelihood(model, IMAGES, torch.arange(N), 0),
    ):
        with pytest.raises(ValueError, match="Drawing draws its own random numbers"):
            measure()


@pytest.mark.parametrize("logvar", [0.0, -80.0, -90.0, -300.0])
def test_equal_gaussians_have_no_divergence_however_narrow(logvar):
    q = Gaussian(torch.full((2, 3), 1.0), torch.full((2, 3), logvar))
    assert losses.gaussian_kl(q, q).tolist() == [0, 0]
    assert losses.gaussian_kl(tuple(q), tuple(q)).tolist() == [0, 0]
    peak = -0.5 * (logvar + math.log(2 * math.pi))
    assert q.log_prob(q.mean).tolist() == [pytest.approx([peak] * 3)] * 2


@pytest.mark.parametrize("change", [lambda z: z * 1e-20, lambda z: z * 1e15, lambda z: z + 1e8])
def test_dci_asks_for_the_order_of_latents_alone(change):
    factors = torch.stack((torch.arange(300) % 3, torch.arange(300) // 3 % 4), 1)
    latents = factors.double() + 0.01 * torch.randn(300, 2, generator=torch.Generator().manual_seed(4)).double()
    assert metrics.dci(change(latents), factors, 0) == pytest.approx(metrics.dci(latents, factors, 0), abs=0.02)
    assert metrics.dci(latents, factors, 0).disentanglement > 0.95


def test_a_likelihood_of_ones_own_has_one_value_for_each_of_the_image():
    class Laplace(NamedTuple):
        mean: torch.Tensor

        def log_prob(self, x):
            return -(x - self.mean).abs() - math.log(2)

    mean = torch.zeros_like(GREY)
    expected = (GREY.abs() + math.log(2)).flatten(1).sum(1)
    torch.testing.assert_close(losses.distortion(Laplace(mean), GREY), expected)
    torch.testing.assert_close(losses.distortion(torch.distributions.Laplace(mean, 1.0), GREY), expected)
    with pytest.raises(ValueError, match=r"log_prob: got .* of shape \(40, 3, 8, 8\); give one value for each"):
        losses.distortion(Laplace(mean.expand(N, 3, 8, 8)), GREY)


def test_a_slice_of_a_fleet_is_a_fleet():
    trained = fleet.train_fleet(lambda: DenseVAE(SHAPE, 1, 16, 3), losses.beta_objective, fleet.grid(beta=[0.1, 1, 2]),
                                IMAGES, budget=fleet.Budget(2, 8), progress=False)  # fmt: skip
    tables = [metrics.rd_table(some, IMAGES) for some in (trained, trained[1:])]
    assert [row | {"member": row["member"] + 1} for row in tables[1]] == [row for row in tables[0] if row["member"]]
    with pytest.raises(IndexError, match="no member 3; the fleet has 3"):
        trained.model(3)


def test_looks_name_what_is_no_number():
    assert [look["label"] for _, look in figures.looks(["b", "a", 2.0, None], "beta {:g}")] == [
        "beta 2", "beta None", "beta a", "beta b"]  # fmt: skip


@pytest.mark.parametrize("members", [lambda: fleet.FleetMember(0, {"beta": 1.0}), lambda: iter(fleet.grid(beta=1.0))])
def test_members_may_be_one_or_come_one_by_one(members):
    given = {"budget": fleet.Budget(2, 8), "progress": False}
    trained = fleet.train_fleet(lambda: DenseVAE(SHAPE, 1, 16, 3), losses.beta_objective, members(), IMAGES, **given)
    assert len(trained) == 1


def test_bytes_and_their_grey_values_are_equals():
    """Of every float type: which kind of number an image comes in decides nothing."""
    points = (GREY + 0.05 * normal(*GREY.shape)).clamp(0, 1)
    control = IMAGES.flip(0)
    exact = metrics.memorisation(points, IMAGES, IMAGES, control)
    for kind in (torch.float16, torch.float32, torch.float64):
        grey = [(images.double() / 255).to(kind) for images in (IMAGES, control)]
        for targets in (IMAGES, grey[0]):
            mixed = metrics.memorisation(points, targets, grey[0], control)
            assert torch.equal(mixed.nearer_to_train, exact.nearer_to_train)
            assert mixed.train_preference == exact.train_preference
        assert not metrics.Among(IMAGES).nearer(grey[0], grey[0]).any()
        assert torch.equal(metrics.Among(grey[0]).nearest(IMAGES).index, metrics.Among(IMAGES).nearest(IMAGES).index)


def test_a_classifier_gives_a_row_an_image():
    for judge in (lambda x: x.flatten(1)[:1, :4].softmax(1), lambda x: x.flatten(1)[:, : 1 + len(x)].softmax(1)):
        with pytest.raises(ValueError, match="rows for 40 images; give one an image"):
            metrics.probabilities(judge, GREY, batch_size=16)
    with pytest.raises(ValueError, match="images: got floats from 0 to 255"):
        metrics.probabilities(lambda x: x.flatten(1).softmax(1), IMAGES.float())


@pytest.mark.parametrize("values", [torch.zeros(3), torch.zeros(()), 1.0], ids=["too few", "one", "a number"])
def test_what_is_measured_has_a_row_an_image(values):
    with pytest.raises(ValueError, match=r"mine: got .*; give a row for each of 40 images"):
        metrics.evaluate(MODEL, IMAGES, torch.arange(N), 0, of=lambda params, x: {"mine": values})


def test_psnr_compares_an_image_with_its_own_reconstruction():
    class Flat(DenseVAE):
        def likelihood_of(self, out):
            return Bernoulli(super().likelihood_of(out).logits[:, 0])

    with pytest.raises(
        ValueError, match=r"the likelihood's mean: got .* of shape \(40, 8, 8\); give one of the images'"
    ):
        metrics.psnr(Flat(SHAPE, 1, 16, 3).eval(), IMAGES)


@pytest.mark.parametrize("draw", [figures.over_beta, figures.learning_curves])
def test_a_mean_over_seeds_is_one_over_seeds_alone(draw):
    twice = pd.concat([TABLE, TABLE.assign(value=5.0, gamma=2.0)])
    with pytest.raises(ValueError, match=r"two values of rate at beta 0\.1, seed 0.*; give one curve"):
        draw(twice, "rate", figures.panels(1, 1)[1][0, 0], part="test")


def test_columns_of_a_table_have_a_hull():
    table = pd.DataFrame({"x": [9.0, 0, 1, 2], "y": [9.0, 0, 2, 0]})[lambda rows: rows["x"] < 9]
    assert metrics.upper_hull(table["x"], table["y"]) == [0, 1, 2]


def test_an_encoder_with_layers_that_keep_zeros_is_made_compact():
    model = ClassifierVAE(channels=(4, 8)).eval()
    model.encoder = nn.Sequential(nn.Conv2d(1, 4, 4, 2, 1), nn.LeakyReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 8, 3, 1, 1),
                                  nn.Tanh(), nn.Flatten(), nn.Linear(392, 32), nn.ReLU())  # fmt: skip
    model.mu = nn.Linear(32, 3)
    model.classifier = nn.Linear(3, 10)
    with torch.no_grad():
        model.encoder[0].weight[1] = model.encoder[0].bias[1] = 0
        model.encoder[3].weight[[2, 5]] = 0
        model.encoder[3].bias[[2, 5]] = 0
    x = torch.rand(5, 1, 28, 28, generator=GENERATOR)
    compact = pruning.compact(model)
    torch.testing.assert_close(compact(x), model.classifier(model.mu(model.encoder(x))))
    assert [layer.out_channels for layer in compact if isinstance(layer, nn.Conv2d)] == [3, 6]
    with pytest.raises(ValueError, match="no linear layer between them and the heads"):
        pruning.projection(pruning.add_masks(model), "structured", 10)
