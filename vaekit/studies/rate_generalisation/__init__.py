"""Study 3, rate-regularisation and generalisation (Bozkurt et al. 2021).

VAEs on Tetrominoes, over beta, depth and the size of the training set: does the rate help a VAE to generalise? Here are
the study's settings, its members and what is measured on each; `figures` and `claims` beside it read the tidy table.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import torch
from torch import nn

from vaekit import randomness
from vaekit.data import SPLITS, about, image_shape
from vaekit.metrics import (
    Among,
    Nearest,
    encode,
    evaluate,
    floor,
    information,
    log_likelihood,
    memorisation,
    reconstruct,
)
from vaekit.settings import option
from vaekit.store import Member
from vaekit.studies.base import StudySettings, of_study
from vaekit.sweep import (
    Examples,
    GridSpec,
    Measure,
    StudySpec,
    Value,
    cached,
    compared_steps,
    fifths,
    last_step,
    log_spaced,
)

PAPER_BETAS = (0.001, 0.005, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1, 2, 3, 5)
_COMMON = {
    "betas": PAPER_BETAS,
    "data": ("tetrominoes",),
    "split": "cv",
    "models": ("dense_vae",),
    "depths": (1, 3),
    "objective": "beta",
    "mi": (0, 1),
    "kl": (0, 1),
    "precision": "full",
    "device": "cpu",
    "hidden": 512,
    "channels": 64,
    "batch_size": 128,
    "n_test": 0,
}
_PAPER = _COMMON | {"seeds": (0, 1, 2, 3, 4), "steps": 257_000, "n_train": (16_384, 81_920)}
# Test images, and samples of z for each, of the bound of log p(x): as a rule, and for the members of claim 3.8.
BOUND, BOUND_OF_CLAIM_3_8 = (100, 1_000), (1_000, 5_000)
# What those members share.
_OF_CLAIM_3_8 = {"model": "dense_vae", "model_args": (("depth", 3), ("hidden", 512), ("latent_dim", 10))}
_OF_CLAIM_3_8 |= {"data": "tetrominoes", "split": "cv", "n_train": 16_384, "objective": "beta"}
# Images of the nested subsets: the first of the test images and, for learning curves, of the training images.
NESTED = 10_000
BIN = 0.25  # of the histogram of their distances, L2
PICTURED = 8  # test images of the pictures


@dataclass(frozen=True, kw_only=True)
class Settings(StudySettings):
    """What a run of this study may choose; everything not given comes from the scale."""

    betas: tuple[float, ...] = option("weights of the rate R in D + beta R", at_least=0)
    steps: int = option("training steps of every member", at_least=1, at_most=10**9)
    split: str = option("how the images are divided into training and test", choices=tuple(SPLITS))
    n_train: tuple[int, ...] = option("images in the training set", at_least=2)
    models: tuple[str, ...] = option("networks: fully connected, convolutional", choices=("dense_vae", "conv_vae"))
    depths: tuple[int, ...] = option("hidden layers on either side of the code", at_least=1, at_most=8)
    objective: str = option("what is minimised, see vaekit.losses", choices=("beta", "mi_kl"))
    mi: tuple[float, ...] = option("weights of the mutual information in mi_kl", at_least=0)
    kl: tuple[float, ...] = option("weights of the marginal KL in mi_kl", at_least=0)
    hidden: int = option("units of a hidden layer", at_least=1, parameter=False)
    channels: int = option("channels of a convolution", at_least=1, parameter=False)
    batch_size: int = option("images of a step", at_least=1, parameter=False)
    n_test: int = option("test images that are measured; 0: all", at_least=0, parameter=False)

    SCALES: ClassVar = {
        "quick": _COMMON
        | {"betas": (0.01, 0.1, 1, 3), "seeds": (0,), "steps": 1_000, "n_train": (4_096,)}
        | {"hidden": 64, "channels": 8, "batch_size": 64, "n_test": 1_024},
        "short": _COMMON | {"seeds": (0, 1, 2), "steps": 50_000, "n_train": (16_384,)},
        "paper": _PAPER,
    }

    def sizes(self, name: str) -> tuple[int | None, ...]:
        """The sizes of a set's training sets: None where the split says its own and no other was given.

        A set that comes with training images of its own has a tenth of them where none was given, as in the paper's
        Figure 7.
        """
        if "n_train" in self.given:
            return self.n_train
        if self.split in ("random", "checkerboard", "own"):
            return (None,)
        return (own // 10,) if (own := about(name).n_train) else self.n_train

    def splits(self) -> list[tuple[str, str, int | None]]:
        """(data set, split, n_train) of every training set that is asked for."""
        return [(name, self.split, n_train) for name in self.data for n_train in self.sizes(name)]

    def networks(self) -> list[tuple[str, dict[str, int]]]:
        """(model, its arguments) of every network that is asked for."""
        width = {"dense_vae": {"hidden": self.hidden}, "conv_vae": {"channels": self.channels}}
        axes = product(self.models, self.depths)
        return [(model, {"depth": depth, "latent_dim": 10} | width[model]) for model, depth in axes]

    def weights(self) -> list[dict[str, float]]:
        """The weights of the objective, of every member that is asked for."""
        if self.objective == "beta":
            return [{"beta": beta} for beta in self.betas]
        return [{"mi": mi, "kl": kl} for mi, kl in product(self.mi, self.kl)]

    def problems(self) -> Iterable[str]:
        """Weights of another objective, images that cannot be halved so often, and what `StudySettings` finds."""
        foreign, other = (("mi", "kl"), "mi_kl") if self.objective == "beta" else (("betas",), "beta")
        for name in filter(self.given.__contains__, foreign):
            yield f"{name}: no weight of the objective {self.objective}; leave it out, or ask for objective {other}"
        if self.source == "results":
            return
        for name, depth in product(self.data, self.depths if "conv_vae" in self.models else ()):
            if any(side % 2**depth for side in image_shape(name)[1:]):
                height, width = image_shape(name)[1:]
                yield (
                    f"depths: conv_vae halves images in each layer, and {name}'s of {height} x {width} cannot be "
                    f"halved {depth} times; ask for other depths, or for models [dense_vae]"
                )
        yield from super().problems()


def members(chosen: Settings) -> list[Member]:
    """The grid, seeds outermost: so that what a cut sweep leaves is whole curves."""
    return [
        Member(
            model=model,
            model_args=arguments,
            data=name,
            split=split,
            n_train=n_train,
            n_test=chosen.n_test or None,
            objective=chosen.objective,
            weights=weights,
            steps=chosen.steps,
            batch_size=chosen.batch_size,
            seed=seed,
            precision=chosen.precision,
        )
        for seed, (name, split, n_train), (model, arguments), weights in product(
            chosen.seeds, chosen.splits(), chosen.networks(), chosen.weights()
        )
    ]


def measured_steps(member: Member) -> tuple[int, ...]:
    """Fifths of the budget, and 1, 2 and 5 times the powers of ten from 100: the same steps in every longer run."""
    return tuple(sorted({*saved_steps(member), *log_spaced(member.steps)}))


def saved_steps(member: Member) -> tuple[int, ...]:
    """Fifths of the budget: the steps whose weights are stored."""
    return fifths(member.steps)


def rate_distortion(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """R and D with one sample of z, on training and test images and on either half of the test images.

    At the last step also D with ten samples on the first 10,000 test images (the nested subset), D at the mean of z,
    and the floor of D.
    """
    for part, shown, rows in images.parts():
        yield from _rates(model, member, part, shown, rows, halved=part == "test")
    if step == member.steps:
        for part, shown, rows in images.parts():
            at_mean = evaluate(model, shown, rows, member.seed, draw=None)
            yield Value.mean(part, "distortion", "mean", at_mean["distortion"])
            yield Value.mean(part, "distortion_floor", "", _floor(images, part))
        nested, rows = images.test[:NESTED], images.test_rows[:NESTED]
        draws = [evaluate(model, nested, rows, member.seed, draw)["distortion"] for draw in range(10)]
        yield Value.mean("test", "distortion", "samples=10", torch.stack(draws).mean(0))


def learning_curve(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """R and D with one sample of z on the nested images, at every snapshot: the same images at all of them.

    They are the first 10,000 training and the first 10,000 test images, or all where there are fewer: the parts
    `train_nested` and `test_nested`, and `test_nested_a` and `test_nested_b`, the halves of the latter.
    """
    for part, shown, rows in images.parts():
        nested = slice(0, NESTED)
        yield from _rates(model, member, f"{part}_nested", shown[nested], rows[nested], halved=part == "test")


def _rates(
    model: nn.Module, member: Member, part: str, shown: torch.Tensor, rows: torch.Tensor, halved: bool
) -> Iterator[Value]:
    """R and D with one sample of z on images, and on every second of them from the first and from the second."""
    values = evaluate(model, shown, rows, member.seed)
    halves = [(f"{part}_a", slice(0, None, 2)), (f"{part}_b", slice(1, None, 2))]
    for name, piece in [(part, slice(None)), *(halves if halved else [])]:
        yield Value.mean(name, "distortion", "samples=1", values["distortion"][piece])
        yield Value.mean(name, "rate", "", values["rate"][piece])


def rate_parts(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Mutual information and marginal KL on the training images, by both estimators, with the ceiling log N."""
    q = encode(model, images.train)
    for estimator, arguments in (("exact", "estimator=exact"), ("batch", "estimator=batch512")):
        estimate = information(q, member.seed, estimator)
        yield Value("train", "mutual_information", arguments, *estimate[:2], estimate.n)
        yield Value("train", "marginal_kl", arguments, *estimate[2:4], estimate.n)
    yield Value("train", "mi_ceiling", "", estimate.ceiling, 0.0, len(images.train))


def likelihood(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """The importance-weighted bound of log p(x) on test images: 1,000 samples on the first 100, at the last step.

    For the members of claim 3.8 (3 layers of 512, CV(16k), D + beta R) 5,000 samples on the first 1,000, at 0.8 and 1.0
    of the steps; from the claim's least budget of 20,000 steps on, since each takes minutes.
    """
    count, samples = _bound(member)
    bound = log_likelihood(model, images.test[:count], images.test_rows[:count], member.seed, samples)
    yield Value.mean("test", "log_likelihood", f"samples={samples}", bound)


def _bound(member: Member) -> tuple[int, int]:
    return BOUND_OF_CLAIM_3_8 if _is_of_claim_3_8(member) else BOUND


def likelihood_steps(member: Member) -> tuple[int, ...]:
    """The steps at which `likelihood` is taken."""
    return compared_steps(member) if _is_of_claim_3_8(member) else last_step(member)


def _is_of_claim_3_8(member: Member) -> bool:
    return member.steps >= 20_000 and all(getattr(member, name) == value for name, value in _OF_CLAIM_3_8.items())


def neighbours(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Memorisation of the nested test images at the last two fifths, and at the end how far they lie from training.

    `memorised` is the share whose reconstruction (at the mean of z) is nearer to some training image than to the image
    itself. `nearest_distance` counts the images by their L2 distance to the nearest training image, "bin=k" those in
    [k, k + 1) / 4; `nearest_distance_quantile` are quantiles of it. The two are the split's own, not the model's.
    """
    among = _nearest(images)[0]
    parts = images.test[:NESTED].split(1_000)
    reconstructions = [reconstruct(model, part) for part in parts]
    memorised = torch.cat([among.nearer(*both) for both in zip(reconstructions, parts, strict=True)]).double()
    # A reconstruction that is not finite is nearer to nothing; so is no share of which it is one.
    finite = all(part.isfinite().all() for part in reconstructions)
    yield Value.mean("test", "memorised", "", memorised if finite else memorised * math.nan)
    if step == member.steps:
        distances = _nearest(images)[1].distance
        n = len(distances)
        for k, count in enumerate(torch.bincount((distances / BIN).long()).tolist()):
            if count:
                yield Value("test", "nearest_distance", f"bin={k}", count, math.sqrt(count * (1 - count / n)), n)
        for q in (0.1, 0.5, 0.9):
            # Between the order statistics that bound it in about two of three samples.
            around = torch.tensor([0, -1, 1]) * math.sqrt(q * (1 - q) / n) + q
            value, low, high = distances.quantile(around.clamp(0, 1).to(distances)).tolist()
            yield Value("test", "nearest_distance_quantile", f"q={q}", value, (high - low) / 2, n)


def memorised_images(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Whether reconstructions of nested test images prefer the training images to other test images.

    Taken at the mean of z, see `metrics.memorisation`. `train_preference` is the
    preference; `nearer_than_target` are the shares of images whose reconstruction is nearer to one of m training images
    ("among=train") or of m control images ("among=control") than to its own target. m is the number of training images
    or of test images beyond the nested ones, whichever is less, drawn by the member's seed; where it is less than the
    training set, what a network remembers of the others does not count. Where fewer than 20,000 test images are
    measured, half of them are nested. Absent unless training and test images are exchangeable: both random parts of one
    set (split cv or random), no test set of its own.
    """
    of_one_set = not about(member.data).n_test
    n_nested = min(NESTED, len(images.test) // 2)
    if member.split not in ("cv", "random") or not of_one_set or not n_nested:
        return
    nested, others = images.test[:n_nested], images.test[n_nested:]
    m = min(len(images.train), len(others))
    train, control = (
        pool[_order(member.seed, name, len(pool)).to(pool.device)[:m]]
        for name, pool in (("train", images.train), ("control", others))
    )
    reconstructions = torch.cat([reconstruct(model, part) for part in nested.split(1_000)])
    preference = memorisation(reconstructions, nested, train, control)
    yield Value("test", "train_preference", "", preference.train_preference, preference.se, n_nested)
    of_all = 1.0 if math.isfinite(preference.train_preference) else math.nan
    for among, nearer in (("train", preference.nearer_to_train), ("control", preference.nearer_to_control)):
        yield Value.mean("test", "nearer_than_target", f"among={among}", nearer.double() * of_all)


def _order(seed: int, name: str, size: int) -> torch.Tensor:
    return randomness.permutation(seed, randomness.EVALUATION, 0, size, site=f"memorisation/{name}")


def worst_case(model: nn.Module, member: Member, step: int, images: Examples) -> torch.Tensor | None:
    """Test images that are hard to reconstruct, their reconstructions, and the training images nearest to those.

    uint8, (3, 8, C, H, W): of the nested test images, the eight around the 90th percentile of the distance to the
    nearest training image (Bozkurt et al. 2021, figure 3), the same of every member of a split. None where a
    reconstruction is not finite.
    """
    among, nearest_of_test = _nearest(images)
    distance = nearest_of_test.distance
    first = max(0, min(round(0.9 * len(distance)) - PICTURED // 2, len(distance) - PICTURED))
    shown = images.test[distance.argsort(stable=True)[first : first + PICTURED]]
    reconstructions = reconstruct(model, shown)
    if not reconstructions.isfinite().all():
        return None
    nearest = images.train[among.nearest(reconstructions).index]
    return torch.stack((shown, (255 * reconstructions.clamp(0, 1)).round().to(torch.uint8), nearest))


@cached(maxsize=2)
def _floor(images: Examples, part: str) -> torch.Tensor:
    return floor(getattr(images, part))


@cached(maxsize=1)
def _nearest(images: Examples) -> tuple[Among, Nearest]:
    """The training images, prepared for searches, and those nearest to the nested test images."""
    among = Among(images.train)
    return among, among.nearest(images.test[:NESTED])


def layers(depth: int) -> str:
    """A depth in words."""
    return "1 layer" if depth == 1 else f"{depth} layers"


def run(chosen: Settings):
    """The tidy table of what was chosen, as a pandas DataFrame (see `studies.base.of_study`).

    It has a column for each weight and each network's width, empty where no member has it.
    """
    table = of_study(SPEC, members, chosen)
    absent = [name for name in (*SPEC.axes, "hidden", "channels") if name not in table]
    return table.assign(**dict.fromkeys(absent, math.nan))


SPEC = StudySpec(
    name="rate_generalisation",
    measures=(
        Measure("rate_distortion", 1, rate_distortion, at=compared_steps),
        Measure("rate_parts", 1, rate_parts),
        Measure("likelihood", 1, likelihood, at=likelihood_steps, images=lambda member: _bound(member)[0]),
        Measure("neighbours", 1, neighbours, at=compared_steps, images=lambda member: NESTED),
        Measure("learning_curve", 1, learning_curve, images=lambda member: NESTED),
        Measure("memorisation", 1, memorised_images, at=compared_steps),
    ),
    measured_steps=measured_steps,
    saved_steps=saved_steps,
    axes=("beta", "mi", "kl", "depth"),
    grid=GridSpec(1, ("test image", "reconstruction", "nearest training image"), worst_case),
)
