"""Study 1, understanding VAEs with intrinsic dimension and information imbalance (arXiv 2411.01978).

Convolutional VAEs over K, the size of the code: how many dimensions has each layer's cloud of test images, and which
layer predicts which, while they train? Here are the study's settings, its members and what is measured on each;
`figures`, `explore` and `claims` beside it read the tidy table.

Layers are numbered as in the paper: 0 the image, 1 to 4 the encoder's blocks, 5 the sampled z, 6 the decoder's linear
block, 7 to 9 its convolutions, 10 the output; "mu" is the mean of the code, of which z is a sample. Where the paper is
silent its authors' code decides: the net, the loss, Adam's settings, 80 % of the training images, the checkpoints.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise, permutations
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit import randomness
from vaekit.data import NAMES, about, available, image_shape
from vaekit.metrics import Dimension, evaluate, information_imbalance, intrinsic_dimension
from vaekit.settings import option
from vaekit.store import Member, StoreError
from vaekit.studies.base import StudySettings, commands, of_study
from vaekit.sweep import Examples, GridSpec, Measure, StudySpec, Value, cached, compared_steps, image_grids

DIMS = (2, 4, 8, 16, 32, 64, 128)
EPOCHS = (0, 1, 2, 5, 10, 20, 50, 75, 100, 150, 200)
CIFAR_TRAIN, MNIST_TRAIN = 40_000, 48_000  # 80 % of the sets' training images
LAYERS = range(11)
ENCODER, LATENT, DECODER, OUTPUT = range(1, 5), 5, range(6, 10), 10
DEPTH = 4
# Of the model's own names for what comes out of each layer (`ConvVAE.representations`) to the paper's numbers.
NUMBER_OF = {"input": "0", **{f"encoder{i}": str(i) for i in range(1, 5)}, "mu": "mu", "z": "5"}
NUMBER_OF |= {f"decoder{i}": str(5 + i) for i in range(1, 5)} | {"output": "10"}
SETS = tuple(name for name in NAMES if all(side % 2**DEPTH == 0 for side in image_shape(name)[1:]))
PICTURED = 6  # samples, and test images with their reconstructions: photographs hardly deflate
WEIGHT_DECAY = 1e-4  # of a loss summed over the batch: of the batch's mean, so many times smaller
# Whether each epoch draws noise and an order of its own, or has the first one's, as the authors' loop seems to.
NOISES = ("fresh", "frozen")

_COMMON = {
    "latent_dims": DIMS,
    "epochs": EPOCHS,
    "n_train": 0,
    "precision": "full",
    "device": "cpu",
    "width": 64,
    "batch_size": 256,
    "n_test": 5_000,
}
_PAPER = _COMMON | {"seeds": (0, 1, 2), "data": ("cifar10", "mnist32")}


def own_images(name: str) -> int:
    """80 % of a set's training images, as the authors' code takes them; of a made set as many as of CIFAR-10."""
    return about(name).n_train * 4 // 5 or CIFAR_TRAIN


def noises(table):
    """The noise of each row of a tidy table, a name of `NOISES`; fresh where it says none, as tables once did not."""
    return table["noise"].fillna("fresh") if "noise" in table else table.assign(noise="fresh")["noise"]


@dataclass(frozen=True, kw_only=True)
class Settings(StudySettings):
    """What a run of this study may choose; everything not given comes from the scale.

    A member is measured at each of `EPOCHS` before its end, and at 0.8 of its steps, whatever is shown of it: so all
    members of one budget have the same rows, whoever asked for them first.

    Frozen noise: step t has the batch and the noise of step t mod ceil(n_train / batch_size), which is what a loop has
    that reseeds at every epoch (`Member.noise`). What is measured draws noise of its own, the same for both.
    """

    latent_dims: tuple[int, ...] = option("K, the dimensions of the code", at_least=1, at_most=4_096)
    epochs: tuple[int, ...] = option(
        "checkpoints that are shown; the last one ends the training", choices=EPOCHS, column=""
    )
    data: tuple[str, ...] = option("image sets", choices=SETS)
    n_train: int = option(
        "training images; 0: 80 % of the set's, 40,000 of a made set",
        at_least=0,
        zero=lambda table: table["data"].map(own_images),
    )
    noise: tuple[str, ...] = option(
        "fresh, or frozen: the first epoch's noise and batches in every epoch",
        choices=NOISES,
        default=NOISES[:1],
        column=noises,
    )
    width: int = option("channels of the first of the four blocks", at_least=1, parameter=False)
    batch_size: int = option("images of a step", at_least=1, parameter=False)
    n_test: int = option("test images whose layers are measured", at_least=1, parameter=False)

    SCALES: ClassVar = {
        "quick": _COMMON
        | {"latent_dims": (2, 8, 32), "epochs": (0, 1, 2, 5), "seeds": (0,), "n_train": 1_024}
        | {"data": partial(available, "cifar10", "cifar10_jpeg", "tetrominoes")}
        | {"width": 16, "batch_size": 64, "n_test": 500},
        "short": _COMMON | {"epochs": (0, 1, 2, 5, 10, 20, 50), "seeds": (0,), "data": ("cifar10",)},
        "paper": _PAPER,
    }

    def images_of(self, name: str) -> int:
        """How many images of a set are trained on."""
        return self.n_train or own_images(name)

    def problems(self) -> Iterable[str]:
        """Checkpoints out of order or without training, and what `StudySettings` finds."""
        if list(self.epochs) != sorted(self.epochs):
            yield f"epochs: got {', '.join(map(str, self.epochs))}; wanted them in ascending order"
        elif not self.epochs[-1]:
            yield "epochs: got 0 alone; wanted a last one of at least 1, which ends the training"
        yield from super().problems()


def step_of(epoch: float, n_train: int, batch_size: int = 256) -> int:
    """The step that ends an epoch, an epoch being `n_train` images, whole batches or not."""
    return round(epoch * n_train / batch_size)


def members(chosen: Settings) -> list[Member]:
    """The grid, seeds outermost: so that what a cut sweep leaves is whole curves over K."""
    return [
        Member(
            model="conv_vae",
            model_args={
                "depth": DEPTH,
                "channels": tuple(chosen.width * times for times in (1, 2, 4, 4)),
                "batch_norm": True,
                "slope": 0.2,
                "latent_dim": latent_dim,
            },
            data=name,
            split="cv",
            n_train=chosen.images_of(name),
            n_test=chosen.n_test,
            objective="beta",
            weights={"beta": 1},
            steps=max(1, step_of(chosen.epochs[-1], chosen.images_of(name), chosen.batch_size)),
            batch_size=chosen.batch_size,
            weight_decay=WEIGHT_DECAY / chosen.batch_size,
            seed=seed,
            precision=chosen.precision,
            noise=None if noise == "fresh" else noise,
        )
        for seed in chosen.seeds
        for noise in chosen.noise
        for name in chosen.data
        for latent_dim in chosen.latent_dims
    ]


def measured_steps(member: Member) -> tuple[int, ...]:
    """The steps of `EPOCHS` before the end, 0.8 of the steps, and the end."""
    return tuple(sorted({*_steps_before_the_end(member, EPOCHS), *compared_steps(member)}))


def saved_steps(member: Member) -> tuple[int, ...]:
    """The steps whose weights are stored: 0.8 and 1.0 of all, and the epochs 1, 10 and 50, which a claim names."""
    return tuple(sorted({*_steps_before_the_end(member, (1, 10, 50)), *compared_steps(member)}))


def _steps_before_the_end(member: Member, epochs: Iterable[int]) -> list[int]:
    steps = (step_of(epoch, member.n_train or 0, member.batch_size) for epoch in epochs)
    return [step for step in steps if step < member.steps]


def rate_distortion(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """R, and D with one sample of z, on training and test images."""
    for part, shown, rows in images.parts():
        values = evaluate(model, shown, rows, member.seed)
        yield Value.mean(part, "rate", "", values["rate"])
        yield Value.mean(part, "distortion", "samples=1", values["distortion"])


def dimensions(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """2NN's intrinsic dimension of the test images in each layer, and how many were left out as duplicates.

    At the last step also that of as many draws from the prior N(0, I), the null model of z.
    """
    clouds = layers(model, images.test, images.test_rows, member.seed)
    for name, points in clouds.items():
        dimension = _of_images(images) if name == "0" else intrinsic_dimension(points)
        yield Value("test", "intrinsic_dimension", f"layer={name}", dimension.value, dimension.se, dimension.n)
        yield Value("test", "duplicates", f"layer={name}", float(dimension.duplicates), 0.0, len(points))
    if step == member.steps:
        size = clouds["5"].shape[1:]
        rows = torch.arange(len(images.test), device=images.test.device)
        prior = randomness.normal_rows(member.seed, randomness.EVALUATION, 0, "prior", rows, size)
        dimension = intrinsic_dimension(prior)
        yield Value("test", "prior_dimension", "", dimension.value, dimension.se, dimension.n)


@cached(maxsize=1)
def _of_images(images: Examples) -> Dimension:
    """The ID of the test images themselves, which no member changes."""
    return intrinsic_dimension(images.test.float() / 255)


def imbalances(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Delta(A -> B) of the test images, for adjacent layers and for image and output, both ways; of all at the end.

    The error bars, of what costs most, rest on fewer half-subsets before the last step.
    """
    last = step == member.steps
    clouds = layers(model, images.test, images.test_rows, member.seed)
    del clouds["mu"]
    names = list(clouds)
    near = [pair for a, b in [*pairwise(names), (names[0], names[-1])] for pair in ((a, b), (b, a))]
    pairs = list(permutations(names, 2)) if last else near
    deltas = information_imbalance(clouds, pairs, half_subsets=10 if last else 4)
    for (a, b), delta in deltas.items():
        yield Value("test", "information_imbalance", f"from={a},to={b}", delta.value, delta.se, delta.n)


@torch.no_grad()
def layers(
    model,
    images: Tensor,
    rows: Tensor,
    seed: int,
    batch_size: int = 1024,
    names: Mapping[str, str] = NUMBER_OF,
) -> dict[str, Tensor]:
    """What comes out of each layer for n uint8 images, (n, …) by the paper's number of the layer, and for "mu".

    `rows` number the images, which key the noise of z together with the seed; `names` says which layers of the model's
    are wanted, and as what. All layers of 5,000 images of the paper's net take 1.4 GB.
    """
    dtype = next(model.parameters()).dtype
    clouds: dict[str, Tensor] = {}
    for place in torch.arange(len(images)).split(batch_size):
        ids = rows[place].to(images.device)
        noise = {
            site: randomness.normal_rows(seed, randomness.EVALUATION, 0, site, ids, shape, dtype)
            for site, shape in model.noise_sites.items()
        }
        for name, values in model.representations(images[place].to(dtype) / 255, noise).items():
            if name in names:
                cloud = clouds.setdefault(names[name], values.new_empty(len(images), *values.shape[1:]))
                cloud[place] = values
    return clouds


def image_grid(model: nn.Module, member: Member, step: int, images: Examples) -> Tensor | None:
    """The rows of `image_grids.rows` for 6 images."""
    return image_grids.rows(model, member, images, PICTURED)


def run(chosen: Settings):
    """The tidy table of what was chosen, as a pandas DataFrame (see `studies.base.of_study`), with the column `noise`.

    Where `epochs` were given, it has their steps alone, and 0.8 and 1.0 of all steps; from results/, of the members
    that end with the last of them.

    Raises:
        StoreError: no member of `results/` ends with the last of them.
    """
    table = of_study(SPEC, members, chosen)
    table = table.assign(noise=noises(table))
    if "epochs" not in chosen.given:
        return table
    epochs = {epoch: (epoch * table["n_train"] / table["batch_size"]).round() for epoch in chosen.epochs}
    table = table[table["steps"] == epochs[chosen.epochs[-1]]]
    if not len(table):
        what = f"results/{SPEC.name} has no member of {chosen.epochs[-1]} epochs; train some by "
        raise StoreError(what + commands(SPEC, chosen, "short"))
    shown = table["step"] >= (0.8 * table["steps"]).round()
    for step in epochs.values():
        shown |= table["step"] == step
    return table[shown].reset_index(drop=True)


SPEC = StudySpec(
    name="id_transition",
    measures=(
        Measure("rate_distortion", 1, rate_distortion),
        Measure("dimensions", 1, dimensions),
        Measure("imbalances", 1, imbalances),
    ),
    measured_steps=measured_steps,
    saved_steps=saved_steps,
    axes=("latent_dim",),
    grid=GridSpec(1, image_grids.ROWS, image_grid),
)
