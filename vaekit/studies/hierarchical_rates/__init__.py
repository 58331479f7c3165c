"""Study 2, trading information between the layers of a hierarchical VAE (Xiao & Bamler 2023).

VAEs with two layers of codes over a grid of (beta2, beta1), the weights of R(z2) and R(z1|z2): which allocation of the
rate reconstructs, samples and classifies best? Here are the study's settings, its members and what is measured on each;
`figures`, `explore` and `claims` beside it read the tidy table.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar

from torch import Tensor, nn

from vaekit import randomness
from vaekit.classifiers import load as load_classifier
from vaekit.data import available, image_shape
from vaekit.distributions import Gaussian
from vaekit.losses import distortion, gaussian_kl, rate
from vaekit.metrics import (
    PROBES,
    accuracy_bound,
    class_information,
    evaluate,
    generate_images,
    inception_score,
    probabilities,
    probe_accuracy,
    psnr,
)
from vaekit.models.classifiers import Classifier
from vaekit.models.hierarchical import PUBLISHED
from vaekit.settings import canonical, option
from vaekit.store import Member
from vaekit.studies.base import StudySettings, of_study
from vaekit.sweep import (
    Examples,
    GridSpec,
    Measure,
    StudySpec,
    Value,
    compared_steps,
    fifths,
    image_grids,
    last_step,
    log_spaced,
)

GRID = tuple(canonical(10 ** (-1 + k / 10)) for k in range(21))  # of either beta
SUBGRID = GRID[::4]  # where mu1 is classified, too: a classifier of 512 numbers takes long
EPOCHS, PAPER_BATCH = 500, 256  # of the authors' published example
TRAINED_ON = {"svhn": 73_257, "mnist_binary": 60_000, "tetrominoes": 16_384}  # training images; else 50,000
PAPERS_CLASSIFIERS = {"svhn": "resnet18", "cifar10": "densenet121", "cifar10_jpeg": "densenet121"}  # the paper's own
MOST_IMAGES = 10_000  # training images on which rates are measured, samples that are judged
PICTURED = 8  # samples, and test images with their reconstructions
INFORMED = 2_000  # codes at which the class information is averaged

SETS = ("svhn", "cifar10", "cifar10_jpeg", "mnist_binary", "mnist", "fashion_mnist", "tetrominoes")
_COMMON = {"models": ("ghvae",), "betas2": GRID, "betas1": GRID, "seeds": (0,), "precision": "full", "device": "cpu"}
_COMMON |= {"n_test": 0}
_PAPER = _COMMON | {"data": ("svhn", "cifar10", "mnist_binary"), "steps": 0, "batch_size": PAPER_BATCH}


@dataclass(frozen=True, kw_only=True)
class Settings(StudySettings):
    """What a run of this study may choose; everything not given comes from the scale."""

    data: tuple[str, ...] = option("image sets", choices=SETS)
    models: tuple[str, ...] = option("hierarchical VAEs", choices=("ghvae", "lvae"))
    betas2: tuple[float, ...] = option("weights of R(z2), the upper layer's rate", at_least=0, column="beta2")
    betas1: tuple[float, ...] = option("weights of R(z1|z2), the lower layer's rate", at_least=0, column="beta1")
    steps: int = option(
        "training steps of every member; 0: 500 epochs of 256",
        at_least=0,
        at_most=10**9,
        zero=lambda table: table["data"].map(paper_steps),
    )
    batch_size: int = option("images of a step", at_least=1, parameter=False)
    n_test: int = option("test images that are measured; 0: all", at_least=0, parameter=False)

    SCALES: ClassVar = {
        "quick": _COMMON
        | {"betas2": (0.1, 1, 10), "betas1": (0.1, 1, 10), "steps": 120, "batch_size": 32, "n_test": 500}
        | {"data": partial(available, "mnist_binary", "cifar10", "cifar10_jpeg", "tetrominoes")},
        "short": _COMMON | {"steps": 57_000, "batch_size": 128, "data": ("svhn",)},
        "paper": _PAPER,
    }


def paper_steps(data: str) -> int:
    """The steps of the authors' example on a data set: 500 epochs of whole batches of 256 images."""
    return EPOCHS * (TRAINED_ON.get(data, 50_000) // PAPER_BATCH)


def published(data: str) -> dict[str, Any]:
    """The paper's networks on a data set, as arguments of the model, which are columns of the table."""
    channels, latent_dim, likelihood = PUBLISHED[image_shape(data)[1]]
    arguments = {"channels": channels, "latent_dim": latent_dim, "likelihood": likelihood}
    return arguments | ({"sigma": 0.71} if likelihood == "gaussian" else {})


def members(chosen: Settings) -> list[Member]:
    """The grid, seeds outermost and coarse sub-grids first: so that what a cut sweep leaves is a whole coarser grid."""
    places = product(enumerate(sorted(chosen.betas2)), enumerate(sorted(chosen.betas1)))
    points = sorted(places, key=lambda point: max(_level(point[0][0]), _level(point[1][0])))
    axes = product(chosen.seeds, chosen.models, chosen.data, points)
    return [_member(chosen, seed, model, data, beta2, beta1) for seed, model, data, ((_, beta2), (_, beta1)) in axes]


def _level(place: int) -> int:
    """0 for every fourth value of an axis, the 6 x 6 sub-grid of 21 x 21; 1 for every second, 11 x 11; else 2."""
    return 0 if place % 4 == 0 else 1 if place % 2 == 0 else 2


def _member(chosen: Settings, seed: int, model: str, data: str, beta2: float, beta1: float) -> Member:
    """The LVAE's weights of the rates rise over a fifth of the steps, as the authors' do."""
    steps = chosen.steps or paper_steps(data)
    split, n_train = ("cv", TRAINED_ON[data]) if data == "tetrominoes" else ("own", None)  # that one has no split
    return Member(
        model=model,
        model_args=published(data),
        data=data,
        split=split,
        n_train=n_train,
        n_test=chosen.n_test or None,
        objective="hierarchical" if model == "ghvae" else "hierarchical_warmup",
        weights={"beta2": beta2, "beta1": beta1} | ({"warmup": round(0.2 * steps)} if model == "lvae" else {}),
        steps=steps,
        batch_size=chosen.batch_size,
        lr=3e-4,
        seed=seed,
        precision=chosen.precision,
    )


def measured_steps(member: Member) -> tuple[int, ...]:
    """Fifths of the budget, and 1, 2 and 5 times the powers of ten from 100."""
    return tuple(sorted({*fifths(member.steps), *log_spaced(member.steps)}))


def rates(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """D and the rates with one sample of either code, on the test images and as many training images (10,000 at most).

    At the last step also the model's number of parameters.
    """
    n = min(MOST_IMAGES, member.n_test or MOST_IMAGES)
    for part, shown, rows in images.parts():
        shown, rows = (shown[:n], rows[:n]) if part == "train" else (shown, rows)
        values = evaluate(model, shown, rows, member.seed, of=_rates)
        yield Value.mean(part, "distortion", "samples=1", values["distortion"])
        yield Value.mean(part, "rate", "", values["rate_z2"] + values["rate_z1"])
        yield Value.mean(part, "rate", "layer=z2", values["rate_z2"])
        yield Value.mean(part, "rate", "layer=z1", values["rate_z1"])
    if step == member.steps:
        yield Value("model", "parameters", "", sum(weight.numel() for weight in model.parameters()), 0.0, 1)


def _rates(params: dict, x: Tensor) -> dict[str, Tensor]:
    r2, r1 = rate(params["z2"]), gaussian_kl(params["z1"], params["prior1"])
    return {"distortion": distortion(params["x"], x), "rate_z2": r2, "rate_z1": r1}


def reconstructions(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """PSNR of the test images' reconstructions from the modes of both codes, in both readings, in dB."""
    quality = psnr(model, images.test)
    yield Value.mean("test", "psnr", "of=images", quality.of_images)
    yield Value("test", "psnr", "of=global", quality.of_all, quality.of_all_se, len(images.test))


def samples(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """The Inception Score and its two factors by each classifier there is, and that classifier's own accuracy.

    On the decoder's means at 10,000 samples of z2 and z1, or as many as test images are measured.
    """
    if not (classifiers := classifiers_of(member.data)):
        return
    drawn = generate_images(model, min(MOST_IMAGES, len(images.test)) // 5 * 5, member.seed)
    for classifier in classifiers:
        classifier, record = classifier.to(drawn.device), classifier.record
        score = inception_score(probabilities(classifier, drawn))
        by = f"classifier={record['network']}"
        yield Value("samples", "inception_score", by, score.score, score.score_se, score.n)
        yield Value("samples", "diversity", by, score.diversity, score.diversity_se, score.n)
        yield Value("samples", "sharpness", by, score.sharpness, score.sharpness_se, score.n)
        yield Value("test", "judge_accuracy", by, record["accuracy"], record["accuracy_se"], record["n"])


def classifiers_of(data: str) -> list[Classifier]:
    """The classifiers that judge samples of a data set: ours, and the paper's where it was trained."""
    classifiers = (load_classifier(data, network) for network in dict.fromkeys((None, PAPERS_CLASSIFIERS.get(data))))
    return [classifier for classifier in classifiers if classifier]


def information(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """I_q(y; z2) on the test images, its ceiling, and the bounds on accuracy by it and by the rates (Eq. 11)."""
    labels = images.test_labels
    if labels is None:
        return

    def of(params: dict, x: Tensor) -> dict[str, Tensor]:
        return {"mu": params["z2"].mu, "logvar": params["z2"].logvar, **_rates(params, x)}

    values = evaluate(model, images.test, images.test_rows, member.seed, of=of)
    posterior = Gaussian(*(values[name].to(images.test.device) for name in ("mu", "logvar")))
    latent = class_information(posterior, labels, member.seed, INFORMED)
    yield Value("test", "class_information", "on=z2", latent.value, latent.se, latent.n)
    yield Value("test", "class_information_ceiling", "", latent.ceiling, 0.0, len(labels))
    r2, r1 = values["rate_z2"].mean().item(), values["rate_z1"].mean().item()
    for by, most in (("class_information", latent.value), ("rate_z2", r2), ("rate", r2 + r1)):
        bound = accuracy_bound(most, len(labels.unique()), latent.entropy)
        yield Value("test", "accuracy_bound", f"by={by}", bound, 0.0, len(labels))


def probes(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Accuracy of four classifiers of mu2 and, on the 6 x 6 sub-grid, of mu1 at a sample of z2.

    Fitted on 80 % of the test images, as the paper's are, and measured on the others.
    """
    labels = images.test_labels
    if labels is None:
        return
    weights = dict(member.weights)
    layers = ("mu2", "mu1") if {weights["beta2"], weights["beta1"]} <= set(SUBGRID) else ("mu2",)
    means = evaluate(
        model,
        images.test,
        images.test_rows,
        member.seed,
        of=lambda params, x: {name: params[f"z{name[-1]}"].mu.flatten(1) for name in layers},
    )
    for on, probe in product(layers, PROBES):
        accuracy = probe_accuracy(probe, means[on], labels, member.seed)
        yield Value("test", "accuracy", f"probe={probe},on={on}", accuracy.value, accuracy.se, accuracy.n)


def sampled_probes(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Accuracy, as `probes`, of classifiers of a sample of z2 of each test image: of these alone Eq. 11 speaks."""
    labels = images.test_labels
    if labels is None:
        return

    def of(params: dict, x: Tensor) -> dict[str, Tensor]:
        return {"mu": params["z2"].mu, "logvar": params["z2"].logvar}

    posterior = Gaussian(**evaluate(model, images.test, images.test_rows, member.seed, of=of))
    key, rows, mu = (member.seed, randomness.EVALUATION, 0, "z2"), images.test_rows.cpu(), posterior.mu
    z2 = posterior.sample(randomness.normal_rows(*key, rows, tuple(mu.shape[1:]), mu.dtype))
    for probe in PROBES:
        accuracy = probe_accuracy(probe, z2, labels, member.seed)
        yield Value("test", "sampled_accuracy", f"probe={probe}", accuracy.value, accuracy.se, accuracy.n)


def image_grid(model: nn.Module, member: Member, step: int, images: Examples) -> Tensor | None:
    """The rows of `image_grids.rows` for 8 images; None where no pictures of such a member are wanted (`pictured`)."""
    weights = dict(member.weights)
    return image_grids.rows(model, member, images, PICTURED) if pictured(weights["beta2"], weights["beta1"]) else None


def pictured(beta2: float, beta1: float) -> bool:
    """Whether a member has pictures: of the paper's grid its sub-grid and betas of 1, and any other betas.

    Those of all 441 members would fill a page with 30 MB.
    """
    return all(beta in (*SUBGRID, 1.0) or beta not in GRID for beta in (beta2, beta1))


def run(chosen: Settings):
    """The tidy table of what was chosen, as a pandas DataFrame (see `studies.base.of_study`)."""
    return of_study(SPEC, members, chosen)


SPEC = StudySpec(
    name="hierarchical_rates",
    measures=(
        Measure("rates", 1, rates),
        Measure("reconstructions", 1, reconstructions, at=compared_steps),
        Measure("samples", 1, samples, at=compared_steps),
        Measure("information", 1, information, at=compared_steps),
        Measure("probes", 1, probes, at=compared_steps),
        Measure("sampled_probes", 1, sampled_probes, at=last_step),
    ),
    measured_steps=measured_steps,
    saved_steps=compared_steps,
    axes=("beta2", "beta1"),
    grid=GridSpec(1, image_grids.ROWS, image_grid),
)
