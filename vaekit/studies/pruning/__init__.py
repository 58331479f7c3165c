"""Study 4, the impact of disentanglement on pruning neural networks (arXiv 2307.09994).

A VAE whose code is also classified, over beta; then its decoder is dropped and its encoder pruned. Does a code forced
to disentangle stand more pruning? Here are the study's settings, its members and what is measured on each; `figures`
and `claims` beside it read the tidy table.

Where the paper is silent the choices are ours: the convolutions, the size of the code, Adam's 1e-3 and 1e-4, batches of
128, the ramp of the pruning, and the reduction of the reconstruction, both of which are run (`REDUCTIONS`).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from vaekit import losses, pruning
from vaekit.data import NAMES, about, available, dsprites, image_shape, is_available, load, problem
from vaekit.metrics import encode, evaluate
from vaekit.metrics.disentanglement import active_units, dci, mig, rate_per_dimension
from vaekit.settings import option
from vaekit.store import Member
from vaekit.studies.base import StudySettings, of_study
from vaekit.sweep import Examples, GridSpec, Measure, StudySpec, Value, compared_steps, fifths, image_grids, last_step

CLASSES = {name: known.classes for name in NAMES if (known := about(name)).classes}
# "sum": all terms summed over an image's values, in nats; "pixel_mean": the reconstruction averaged over its P pixel
# values, which is the sum with beta P and lambda P. Where beta collapses the code depends on which the paper meant.
REDUCTIONS = {"sum": "classifier_sum", "pixel_mean": "classifier_pixel_mean"}
# What is pruned and how (gradual is the paper's), and two ways to train what is then pruned.
ARMS = {
    **pruning.ARMS,
    "no_decoder": "gradual, after training without a decoder: KL and classifier alone",
    "baseline": "gradual and dense, after training on the classification alone, without sampling",
}
PICTURED = 6  # samples, and test images with their reconstructions
BATCH, LR, TUNING_LR = 128, 1e-3, 1e-4
# What differs among the points of one figure: all that is pruned of networks that were trained alike.
AXES = ("beta", "lambda", "objective", "reconstruction", "decoder", "sampled", "arm", "sparsity")

_COMMON = {
    "betas": (1, 3, 5, 10),
    "lambdas": (100,),
    "readings": tuple(REDUCTIONS),
    "sparsities": (0.5,),
    "epochs": 30,
    "tuning_epochs": 2,
    "n_train": 0,
    "precision": "full",
    "device": "cpu",
    "n_test": 10_000,
    "width": 32,
}
_PAPER = _COMMON | {"seeds": (0, 1, 2, 3, 4), "data": ("mnist", "cifar10"), "lambdas": (100, 1), "arms": tuple(ARMS)}


def _quick_betas() -> tuple[float, ...]:
    """The paper's where MNIST is at hand; its ends where not: the made set's images are five times as large."""
    return _COMMON["betas"] if is_available("mnist") else (1, 10)


def _unlabelled(name: str) -> str | None:
    return problem(name) or (None if name in CLASSES else f"{name} has no labels; there are {', '.join(CLASSES)}")


def _reduction(table):
    """The reduction of each row of a tidy table; empty for the baseline, which has no reconstruction."""
    return table["objective"].map({objective: name for name, objective in REDUCTIONS.items()})


def variants(table):
    """How each row of a tidy table was trained and pruned, a name of `ARMS`; empty for what was not derived."""
    variant = table["arm"].mask(table["parent_decoder"].eq(False), "no_decoder")
    return variant.mask(table["parent_sampled"].eq(False), "baseline")


@dataclass(frozen=True, kw_only=True)
class Settings(StudySettings):
    """What a run of this study may choose; everything not given comes from the scale.

    The claims on 20 seeds (4.2, 4.8) take them by name: `-p seeds 0-19`, beside `-p arms '[gradual]'` or
    `-p arms '[gradual, no_decoder]'` and the betas wanted.
    """

    data: tuple[str, ...] = option("image sets, with labels", check=_unlabelled)
    betas: tuple[float, ...] = option("weights of the rate R", at_least=0, column=lambda table: table["beta"])
    lambdas: tuple[float, ...] = option(
        "weights of the cross-entropy; where none is given, pixel_mean has 1",
        at_least=0,
        column=lambda table: table["lambda"],
    )
    readings: tuple[str, ...] = option("how the reconstruction is reduced", choices=REDUCTIONS, column=_reduction)
    sparsities: tuple[float, ...] = option(
        "shares of the weights that are pruned",
        at_least=0,
        below=1,
        column=lambda table: table["sparsity"].mask(table["arm"] == "dense"),
    )
    arms: tuple[str, ...] = option("ways to train and to prune", choices=ARMS, column=variants)
    epochs: int = option("epochs of training", at_least=1, at_most=10_000)
    tuning_epochs: int = option("epochs of pruning, on top", at_least=1, at_most=10_000)
    n_train: int = option("training images; 0: the set's own", at_least=0)
    n_test: int = option("test images that are measured", at_least=1, parameter=False)
    width: int = option("channels of the first convolution; the next has twice as many", at_least=1, parameter=False)

    SCALES: ClassVar = {
        "quick": _COMMON
        | {"data": partial(available, "mnist", "dsprites_like"), "betas": _quick_betas, "arms": ("gradual", "dense")}
        | {"seeds": (0,), "epochs": 2, "n_train": 4_096, "n_test": 1_024, "width": 8},
        "short": _COMMON | {"seeds": (0, 1, 2), "data": ("mnist",), "arms": ("gradual", "dense")},
        "paper": _PAPER,
    }

    def images_of(self, name: str) -> int:
        """How many training images of a set are drawn; 0: its own."""
        return self.n_train

    def epochs_of(self, name: str) -> int:
        """Epochs of training on a set."""
        return self.epochs

    def problems(self) -> Iterable[str]:
        """Budgets where nothing is trained, made sets without a number of images, and what `StudySettings` finds."""
        if self.source == "results":
            fixed = self.given & {"epochs", "tuning_epochs", "n_train"}
            return [f"{name}: scale published shows the budgets that results/ holds" for name in sorted(fixed)]
        unsized = [name for name in self.data if not (about(name).n_train or self.images_of(name))]
        sizes = [f"n_train: {name} has no training images of its own; say how many" for name in unsized]
        return [*sizes, *super().problems()]


def members(chosen: Settings) -> list[Member]:
    """Seeds outermost, so that what a cut sweep leaves is whole curves; a parent directly before what is pruned."""
    return [
        member
        for trained, tuned in _families(chosen)
        for member in (trained, *(replace(each, parent=trained.key) for each in tuned))
    ]


def networks(chosen: Settings) -> list[Member]:
    """The members without their parents' keys: what there is to train, also where the images are not at hand."""
    return [member for trained, tuned in _families(chosen) for member in (trained, *tuned)]


def _families(chosen: Settings) -> Iterator[tuple[Member, list[Member]]]:
    for seed in chosen.seeds:
        for name in chosen.data:
            for trained, arms in _trained(chosen, name, seed):
                yield trained, list(_tuned(chosen, trained, arms))


def _trained(chosen: Settings, name: str, seed: int) -> Iterator[tuple[Member, tuple[str, ...]]]:
    """What is trained from the start on one set with one seed, each with the arms of its children."""
    channels, height, _ = image_shape(name)
    model_args = {
        "latent_dim": 64 if channels > 1 else 10,
        "channels": tuple(chosen.width * 2**layer for layer in range(3 if height % 8 == 0 else 2)),
        "classes": CLASSES[name],
        "decoder": True,
        "sampled": True,
    }
    trained = partial(
        Member,
        model="classifier_vae",
        data=name,
        split="cv" if chosen.images_of(name) else "own",
        n_train=chosen.images_of(name) or None,
        n_test=chosen.n_test,
        steps=_steps(chosen, name, chosen.epochs_of(name)),
        batch_size=BATCH,
        lr=LR,
        seed=seed,
        precision=chosen.precision,
    )
    asked = tuple(arm for arm in chosen.arms if arm in pruning.ARMS)
    alone = model_args | {"decoder": False}
    for reading in chosen.readings:
        for lamda in chosen.lambdas if reading == "sum" or "lambdas" in chosen.given else (1,):
            for beta in chosen.betas:
                weights = {"beta": beta, "lambda": lamda, "reconstruction": 1}
                objective = REDUCTIONS[reading]
                if asked:
                    yield trained(model_args=model_args, objective=objective, weights=weights), asked
                if "no_decoder" in chosen.arms:
                    weights |= {"reconstruction": 0}
                    yield trained(model_args=alone, objective=objective, weights=weights), ("gradual",)
    if "baseline" in chosen.arms:
        yield trained(model_args=alone | {"sampled": False}, objective="cross_entropy"), ("gradual", "dense")


def _tuned(chosen: Settings, parent: Member, arms: Iterable[str]) -> Iterator[Member]:
    """The members derived from a trained one: without its decoder, tuned on, and pruned as the arm says."""
    weights: dict[str, Any] = dict(parent.weights)
    if "reconstruction" in weights:
        weights |= {"reconstruction": 0}
    for arm in arms:
        for sparsity in (0,) if arm == "dense" else chosen.sparsities:
            yield replace(
                parent,
                model_args=dict(parent.model_args) | {"decoder": False},
                weights=weights | {"sparsity": sparsity},
                steps=_steps(chosen, parent.data, chosen.tuning_epochs),
                lr=TUNING_LR,
                parent="",
                arm=arm,
            )


def _steps(chosen: Settings, name: str, epochs: int) -> int:
    """So many epochs in steps, the last batch of each drawn into the next epoch."""
    n_train = chosen.images_of(name) or about(name).n_train
    return max(1, round(epochs * n_train / BATCH))


def measured_steps(member: Member) -> tuple[int, ...]:
    """Fifths of the training; of the tuning, which is short, the last two."""
    return compared_steps(member) if member.arm else fifths(member.steps)


def quality(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """How well images are classified at the mean of their codes; R, and D where there is a decoder, at one sample.

    On test images, and at the end on training images as well.
    """
    for part, shown, rows in images.parts():
        if part == "train" and step < member.steps:
            continue
        labels = getattr(images, f"{part}_labels")
        values = evaluate(model, shown, rows, member.seed, of=_terms)
        yield Value.mean(part, "accuracy", "", (values["logits"].argmax(1) == labels).double())
        yield Value.mean(part, "cross_entropy", "", losses.cross_entropy(values["logits"], labels))
        if "distortion" in values:
            yield Value.mean(part, "distortion", "samples=1", values["distortion"])
        if _has_code(member):
            yield Value.mean(part, "rate", "", values["rate"])


def _terms(params: dict, x: Tensor) -> dict[str, Tensor]:
    terms = {"logits": params["y"], "rate": losses.rate(params["z"])}
    return terms | {"distortion": losses.distortion(params["x"], x)} if "x" in params else terms


def _has_code(member: Member) -> bool:
    """Whether q(z|x) was trained: the baseline's variances, and so its rate, mean nothing."""
    return bool(dict(member.model_args)["sampled"])


def code(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Which dimensions of the code are used: the two signs of posterior collapse, on test images."""
    if _has_code(member):
        q = encode(model, images.test)
        yield Value("test", "active_units", "", active_units(q), 0.0, len(images.test))
        for i, value in enumerate(rate_per_dimension(q).tolist()):
            yield Value("test", "rate_per_dimension", f"dim={i}", value, 0.0, len(images.test))


def gap(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """MIG of the codes' means on test images, and each factor's own, where factors are known."""
    if (factors := _factors(member, images)) is not None:
        score = mig(encode(model, images.test).mu, factors)
        yield Value("test", "mig", "", score.value, 0.0, len(factors))
        for name, value in zip(dsprites.FACTORS, score.gaps, strict=True):
            yield Value("test", "mig", f"factor={name}", value, 0.0, len(factors))


def forest(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """DCI of the codes' means on test images, where factors are known."""
    if (factors := _factors(member, images)) is not None:
        for name, value in dci(encode(model, images.test).mu, factors, member.seed)._asdict().items():
            yield Value("test", f"dci_{name}", "", value, 0.0, len(factors))


def _factors(member: Member, images: Examples) -> Tensor | None:
    """The factors of the test images, the orientation modulo its shape's symmetry, which no code can tell apart."""
    if images.test_factors is None or load(member.data).factor_names != dsprites.FACTORS:
        return None
    factors = images.test_factors.clone()
    factors[:, dsprites.FACTORS.index("orientation")] = dsprites.orientation_class(factors).to(factors)
    return factors


def size(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """What the network that classifies weighs; see `pruning.size`."""
    sizes = pruning.size(model)._asdict()
    sizes["nonzero_parameters"] = sizes.pop("nonzero")
    for name, value in sizes.items():
        yield Value("model", name, "", float(value), 0.0, 1)


def speed(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Time of the network that classifies, once; see `pruning.seconds_per_image`."""
    median, spread = pruning.seconds_per_image(model)
    yield Value("model", "seconds_per_image", "batch=256", median, spread, 1)


def image_grid(model: nn.Module, member: Member, step: int, images: Examples) -> Tensor | None:
    """The rows of `image_grids.rows` for 6 images, of what has a decoder: no pruned network has one, but its parent."""
    decodes = dict(member.model_args)["decoder"]
    return image_grids.rows(model, member, images, PICTURED) if decodes else None


def run(chosen: Settings):
    """The tidy table of what was chosen, as a pandas DataFrame (see `studies.base.of_study`)."""
    return of_study(SPEC, members, chosen)


SPEC = StudySpec(
    name="pruning",
    measures=(
        Measure("quality", 1, quality),
        Measure("code", 1, code),
        Measure("gap", 1, gap, at=last_step),
        Measure("forest", 1, forest, at=last_step),
        Measure("size", 1, size),
        Measure("speed", 1, speed, at=last_step),
    ),
    measured_steps=measured_steps,
    saved_steps=compared_steps,
    axes=AXES,
    grid=GridSpec(1, image_grids.ROWS, image_grid),
)
