"""The claims of study 1: Understanding VAEs with Intrinsic Dimension and Information Imbalance (arXiv 2411.01978).

The targets are the numbers that the authors published of one seed; K = 16 looks stale there (constant over the epochs)
and is no target. Dimensions (ID) are 2NN's on the first 5,000 test images, Delta is the Information Imbalance of the
same images, KL is the rate R on the training images in nats per image. Layers: 0 the image, 1 to 4 the encoder's
blocks, 5 the sampled z, 6 to 9 the decoder's blocks, 10 the output.

Every claim but the first names epoch 200, which is its least budget and the end of training: it is read at 0.8 of it,
too (rule 4). An earlier epoch that a claim names is a row of the same run, as it was passed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy import ndarray

from vaekit.claims import Claims, PaperScale, absence, complete, effect, number, paired
from vaekit.claims.curves import Curve, Evidence
from vaekit.claims.rules import Criterion, in_range
from vaekit.claims.statistics import Statistic
from vaekit.studies.id_transition import (
    CIFAR_TRAIN,
    DECODER,
    ENCODER,
    LATENT,
    LAYERS,
    MNIST_TRAIN,
    OUTPUT,
    Settings,
    step_of,
)

_SETTINGS = Settings.SCALES["paper"]
LAST_EPOCH = _SETTINGS["epochs"][-1]
DIMS = _SETTINGS["latent_dims"]
TARGETS = tuple(dim for dim in DIMS if dim != 16)
STEPS = step_of(LAST_EPOCH, CIFAR_TRAIN)

PAPER = PaperScale(
    steps=STEPS,
    batch_size=_SETTINGS["batch_size"],
    seeds=1,
    data=("cifar10",),
    grid={"latent_dim": TARGETS},
    settings={
        "data": "cifar10",
        "n_test": _SETTINGS["n_test"],
        "objective": "beta",
        "channels": (64, 128, 256, 256),
        "lr": 1e-3,
        "weight_decay": 1e-4 / 256,
    },
)
MNIST = replace(
    PAPER,
    steps=step_of(LAST_EPOCH, MNIST_TRAIN),
    data=("mnist32",),
    grid={"latent_dim": (64, 128)},
    settings={**PAPER.settings, "data": "mnist32"},
)
CLAIMS = Claims(
    title="Intrinsic dimension and Information Imbalance",
    question="How many dimensions does each layer of a VAE use, and what does one layer know of another?",
    answer="The dimension rises, falls and rises again on its way through the layers once the code is larger than the "
    "data's own dimension, and training has two phases: a fast fit and a slow forgetting.",
    caution="The published numbers are of one seed on the original CIFAR-10. Where only the JPEG copy is at hand, it "
    "decides claims about the network, and none about the data.",
    headline=("1.5", "1.9", "1.7", "1.2"),
    study="id_transition",
    scale=PAPER,
    steps=STEPS,
    batch_size=PAPER.batch_size,
    axes=("latent_dim", "model", "split", "beta", "n_train"),
)

# The frozen noise of some members is no claim's. A table that knows no other than fresh noise may not say so.
_OURS = {"model": "conv_vae", "split": "cv", "beta": 1.0, "noise": ("fresh", None)}
CIFAR = {"data": ("cifar10", "cifar10_jpeg"), "n_train": CIFAR_TRAIN, **_OURS}
DIGITS = {"data": "mnist32", "n_train": MNIST_TRAIN, **_OURS}

# The numbers that the authors published for each K: dimensions at a layer, and Delta from the output to the image.
PUBLISHED = {
    "ID at the encoder's peak": {2: 66.8, 4: 72.7, 8: 77.6, 32: 75.7, 64: 72.7, 128: 71.2},
    "ID of z": {2: 2.0, 4: 4.0, 8: 8.1, 32: 24.6, 64: 38.7, 128: 59.0},
    "ID at the decoder's peak": {32: 37.5, 64: 57.1, 128: 76.9},
    "ID of the output": {32: 21.8, 64: 23.2, 128: 24.7},
    "Delta(out → in)": {2: 0.364, 4: 0.240, 8: 0.134, 32: 0.054, 64: 0.047, 128: 0.062},
}
# Of MNIST, read off a plot.
PLATEAUS = {64: 41.0, 128: 60.0}


def _in_words(what: str) -> str:
    values = PUBLISHED[what]
    texts = (f"{value:.3f}".removeprefix("0") if value < 1 else str(value) for value in values.values())
    return f"{', '.join(texts)} for K = {', '.join(map(str, values))}"


def _on(what: str) -> PaperScale:
    """The paper's scale, of those K alone that it has a number for."""
    return replace(PAPER, grid={"latent_dim": tuple(PUBLISHED[what])})


Curves = tuple[Curve, ...]


def _at_the_end(evidence: Evidence, measure: str, arguments: Sequence[Mapping], dims: Sequence[int], **where) -> Curves:
    """A measure of the test images over K, with each of the `arguments`, on the seeds that have all of `dims`."""
    where = where or CIFAR
    curves = (evidence.curve(measure, part="test", over="latent_dim", **named, **where) for named in arguments)
    return complete(*curves, holding=dims)


def _dimensions(evidence: Evidence, layers: Sequence[int], dims: Sequence[int], **where) -> Curves:
    return _at_the_end(evidence, "intrinsic_dimension", [{"layer": layer} for layer in layers], dims, **where)


def _steps(first: float, last: float) -> tuple[int, int]:
    """The steps of two epochs."""
    return step_of(first, CIFAR_TRAIN), step_of(last, CIFAR_TRAIN)


def _while_training(
    evidence: Evidence, measure: str, dim: int, epochs: Sequence[tuple[float, float]], **where: Any
) -> Curve:
    """A measure at one K over the steps from epoch 1 on, that holds the end and a step of each range of epochs."""
    curve = evidence.curve(measure, over="step", at="until", latent_dim=dim, **where, **CIFAR)
    # Cut here and not by `between`, which would forget a member that diverged at an earlier step.
    trained = curve.values.loc[:, curve.values.columns >= step_of(1, CIFAR_TRAIN)]
    steps = [_steps(first, last) for first, last in epochs]
    (curve,) = complete(replace(curve, values=trained), holding=[*steps, evidence.step])
    return curve


def _inside(curve: Curve, first: float, last: float) -> ndarray:
    """Which grid points of a curve over steps lie between two epochs, those included."""
    return curve.values.columns.to_series().between(*_steps(first, last)).to_numpy()


def _each(
    what: str, published: Mapping[int, float], curves: Sequence[Curve], judge: Callable[[Statistic, float], Criterion]
) -> list[Criterion]:
    """A number for each K, the largest of the curves there, held against the published one by `judge`."""

    def highest(*layers: ndarray) -> ndarray:
        return np.max(layers, axis=0)[:, 0]

    return [
        judge(paired(f"{what}, K = {dim}", highest, *curves, at=[dim], unit=""), value)
        for dim, value in published.items()
    ]


def _as_published(what: str, evidence: Evidence, layers: Sequence[int], relative: float) -> list[Criterion]:
    """The largest dimension of `layers` for each K of which the paper has a number, within this share of it."""
    published = PUBLISHED[what]
    curves = _dimensions(evidence, layers, tuple(published))
    return _each(what, published, curves, partial(number, relative=relative))


@CLAIMS.claim(
    "1.1",
    "2NN ID of the data",
    brief="The data has about 30 dimensions",
    finding="The images have {0} dimensions",
    paper='31.0 ("about 30")',
    scale=replace(PAPER, steps=0, grid={}, settings={name: PAPER.settings[name] for name in ("data", "n_test")}),
    steps=0,
    copies_decide=False,
    note="It needs the original images: 5,000 test images at random of the JPEG copy have 29.7.",
)
def data_have_about_30_dimensions(evidence: Evidence) -> Sequence[Criterion]:
    """31.0 within 0.5; the images are the same whatever was trained, and so is the value of every K."""
    images = CIFAR | {"n_test": PAPER.settings["n_test"]}
    curve = evidence.curve("intrinsic_dimension", part="test", layer=0, over="latent_dim", at="last", **images)
    return [number(Statistic("ID of the data", curve.values.mean(axis=1), (curve,), unit=""), 31.0, within=0.5)]


@CLAIMS.claim(
    "1.2",
    "The encoder's ID has a hump, for every K",
    brief="The encoder expands the dimension, for every K",
    finding="The encoder's dimension peaks at {0} for K = 2 and at {5} for K = 128",
    paper="its peak is " + _in_words("ID at the encoder's peak"),
    note="The paper's text has small bottlenecks without a double hump; its numbers have the encoder's hump for every "
    "K. The numbers decide.",
)
def the_encoder_has_a_hump(evidence: Evidence) -> Sequence[Criterion]:
    """The largest ID of layers 1 to 4 of each K, within 15 %."""
    return _as_published("ID at the encoder's peak", evidence, ENCODER, relative=0.15)


@CLAIMS.claim(
    "1.3",
    "ID of the code z",
    brief="Dimension of the code z, for each K",
    finding="The code has {0} dimensions for K = 2 and {5} for K = 128",
    paper=_in_words("ID of z"),
    note="2NN finds about the same in as many draws from the prior N(0, I), and found it in the untrained networks' "
    "codes (2.0, 4.1, 7.9, 25.0, 38.6, 58.6): the value is that of Gaussian noise and tells little of the data.",
)
def the_codes_have_their_own_dimension(evidence: Evidence) -> Sequence[Criterion]:
    """Layer 5 of each K, within 8 %, which is four times 2NN's own spread on 5,000 images."""
    return _as_published("ID of z", evidence, [LATENT], relative=0.08)


@CLAIMS.claim(
    "1.4",
    "The decoder's hump grows gradually with K, and is highest from K = 32 on",
    brief="The decoder's hump grows gradually with K",
    finding="From K = 32 on the decoder's hump is {0:higher|lower} than below; one doubling makes {1:.0%} of its rise",
    paper="its prominence is 1.0, 1.0, 1.11, 1.31, 1.52, 1.48, 1.30 for K = 2, 4, 8, 16, 32, 64, 128",
    scale=replace(PAPER, grid={"latent_dim": DIMS}),
    note="The paper's text has a transition where K passes the data's ID, about 30; its numbers have no step there. "
    "The numbers decide. K = 16 counts, as one end of two doublings.",
)
def the_decoders_hump_grows_gradually(evidence: Evidence) -> Sequence[Criterion]:
    """max(ID of layers 6 to 9) / max(ID of 5 and 10): argmax at K >= 32, no doubling of K is half of the whole rise."""
    curves = _dimensions(evidence, [LATENT, OUTPUT, *DECODER], DIMS)
    wide = DIMS.index(32)

    def prominence(code: ndarray, output: ndarray, *decoder: ndarray) -> ndarray:
        return np.max(decoder, axis=0) / np.maximum(code, output)

    def lead(*arrays: ndarray) -> ndarray:
        ratios = prominence(*arrays)
        return ratios[:, wide:].max(axis=1) - ratios[:, :wide].max(axis=1)

    def largest_share(*arrays: ndarray) -> ndarray:
        ratios = prominence(*arrays)
        rise = ratios.max(axis=1) - ratios[:, 0]
        steepest = np.diff(ratios, axis=1).max(axis=1)
        return np.divide(steepest, rise, out=np.full(len(ratios), np.nan), where=rise > 0)

    late = paired("prominence, best of K ≥ 32 minus best of K < 32", lead, *curves, at=DIMS, unit="")
    step = paired("largest share of one doubling in the rise", largest_share, *curves, at=DIMS, unit="")
    return [effect(late, above=0), effect(step, at_most=0.5)]


@CLAIMS.claim(
    "1.5",
    "The decoder's peak ID grows with K",
    brief="The decoder's peak dimension grows with K",
    finding="The decoder's dimension peaks at {0}, {1} and {2} for K = 32, 64 and 128",
    paper=_in_words("ID at the decoder's peak"),
    scale=_on("ID at the decoder's peak"),
)
def the_decoder_peaks(evidence: Evidence) -> Sequence[Criterion]:
    """The largest ID of layers 6 to 9, within 15 %."""
    return _as_published("ID at the decoder's peak", evidence, DECODER, relative=0.15)


@CLAIMS.claim(
    "1.6",
    "The output's ID is below the data's",
    brief="The output has fewer dimensions than the data",
    finding="Where it is nearest, the output has {3:dimensions fewer|dimensions more} than the data",
    paper=_in_words("ID of the output") + "; the data's is 31.0",
    scale=_on("ID of the output"),
)
def outputs_have_fewer_dimensions(evidence: Evidence) -> Sequence[Criterion]:
    """Layer 10 within 15 %, and below layer 0 for each of these K."""
    published = PUBLISHED["ID of the output"]
    dims = tuple(published)
    output, images = _dimensions(evidence, [OUTPUT, 0], dims)
    name = "ID of the data minus the output's, smallest of K = 32, 64, 128"
    gap = paired(name, lambda out, data: (data - out).min(axis=1), output, images, at=dims, unit="")
    numbers = _each("ID of the output", published, [output], partial(number, relative=0.15))
    return [*numbers, effect(gap, above=0)]


THIRD_LAYER = {1: 18.5, 10: 27.0, 50: 47.0, 200: 72.7}


@CLAIMS.claim(
    "1.7",
    "Two phases: the encoder's ID goes on growing long after the first fit",
    brief="The encoder's dimension grows long after the first fit",
    finding="Layer 3 has {0} dimensions after epoch 1 and {3} at the end",
    paper="K = 64, layer 3: 18.5, 27.0, 47.0, 72.7 at epochs 1, 10, 50, 200",
    scale=replace(PAPER, grid={"latent_dim": (64,)}),
)
def dimensions_grow_in_two_phases(evidence: Evidence) -> Sequence[Criterion]:
    """Layer 3 of K = 64 at each of these epochs, within 20 %; epoch 200 is where this evidence is read."""
    *passed, last = THIRD_LAYER
    epochs = [(epoch, epoch) for epoch in passed]
    curve = _while_training(evidence, "intrinsic_dimension", 64, epochs, part="test", layer=3)

    def at(epoch: int) -> Criterion:
        step = evidence.step if epoch == last else step_of(epoch, CIFAR_TRAIN)
        dimension = paired(f"ID of layer 3, epoch {epoch}", lambda values: values[:, 0], curve, at=[step], unit="")
        return number(dimension, THIRD_LAYER[epoch], relative=0.2)

    return [at(epoch) for epoch in THIRD_LAYER]


@CLAIMS.claim(
    "1.8",
    "The KL rises to a peak near epoch 10 and then falls slowly",
    brief="The KL peaks near epoch 10, then falls slowly",
    finding="The KL ends {1:.0%} below its peak, which of epochs 3 to 30 is {0:above|below} all others",
    paper="K = 64: about 24, 30, 17 nats as logged",
    scale=replace(PAPER, grid={"latent_dim": (64,)}),
)
def the_kl_peaks_and_falls(evidence: Evidence) -> Sequence[Criterion]:
    """R on the training images, K = 64: its peak between epochs 3 and 30, and at least 25 % less at the end."""
    curve = _while_training(evidence, "rate", 64, [(1, 2), (3, 30)], part="train")
    near = _inside(curve, 3, 30)
    name = "KL at its peak of epochs 3 to 30 minus the highest of the others"
    lead = paired(name, lambda kl: kl[:, near].max(axis=1) - kl[:, ~near].max(axis=1), curve)
    fall = paired("fall of KL from its peak", lambda kl: 1 - kl[:, -1] / kl.max(axis=1), curve, unit="")
    return [effect(lead, above=0), effect(fall, at_least=0.25)]


BACK = {"from_layer": OUTPUT, "to_layer": 0}


@CLAIMS.claim(
    "1.9",
    "The output first learns to predict the image, then forgets some of it: K = 32, 64, 128",
    brief="The output learns to predict the image, then forgets",
    finding="Δ(out → in) ends at {1}, {3} and {5} times its minimum for K = 32, 64 and 128",
    paper="Delta(out → in) at epochs 1, 10, 200: .0545, .0102, .0535 (K = 32); .0316, .0089, .0465 (64); "
    ".0754, .0109, .0622 (128)",
    scale=replace(PAPER, grid={"latent_dim": (32, 64, 128)}),
)
def the_output_forgets_the_image(evidence: Evidence) -> Sequence[Criterion]:
    """Delta(out -> in) from epoch 1 on has its minimum between epochs 5 and 20, and ends at 3 times it or more."""

    def criteria(dim: int) -> list[Criterion]:
        curve = _while_training(evidence, "information_imbalance", dim, [(1, 2), (5, 20)], part="test", **BACK)
        near = _inside(curve, 5, 20)
        name = f"Delta, least of the other epochs over that of 5 to 20, K = {dim}"
        place = paired(name, lambda delta: delta[:, ~near].min(axis=1) / delta[:, near].min(axis=1), curve, unit="")
        name = f"Delta at the end over its minimum, K = {dim}"
        rise = paired(name, lambda delta: delta[:, -1] / delta[:, near].min(axis=1), curve, unit="")
        return [effect(place, above=1), effect(rise, at_least=3)]

    return [criterion for dim in (32, 64, 128) for criterion in criteria(dim)]


@CLAIMS.claim(
    "1.10",
    "With K = 2 there is no such forgetting",
    brief="With K = 2 nothing is forgotten",
    finding="With K = 2, Δ(out → in) later reaches {0} times its minimum",
    paper="Delta(out → in) is .391, .339, .364 at epochs 1, 10, 200",
    scale=replace(PAPER, grid={"latent_dim": (2,)}),
    note="The largest value after the minimum is taken within each seed, which noise can only raise.",
)
def a_narrow_code_forgets_nothing(evidence: Evidence) -> Sequence[Criterion]:
    """No effect: from epoch 1 on, no later Delta(out -> in) is 1.5 times its minimum."""
    curve = _while_training(evidence, "information_imbalance", 2, [(1, 2), (5, 20)], part="test", **BACK)

    def rise(delta: ndarray) -> ndarray:
        later = np.maximum.accumulate(delta[:, ::-1], axis=1)[:, ::-1]  # the largest from here to the end
        lowest = delta.argmin(axis=1)[:, None]
        return (np.take_along_axis(later, lowest, axis=1) / np.take_along_axis(delta, lowest, axis=1))[:, 0]

    return [absence(paired("Delta after its minimum over the minimum", rise, curve, unit=""), margin=1.5)]


@CLAIMS.claim(
    "1.11",
    "How well the output predicts the image, at the end",
    brief="How well the output predicts the image",
    finding="Δ(out → in) ends at {0} for K = 2 and at {5} for K = 128",
    paper="Delta(out → in) is " + _in_words("Delta(out → in)"),
)
def outputs_predict_images(evidence: Evidence) -> Sequence[Criterion]:
    """Delta(out -> in) of each K, within a factor of 1.5: from 2/3 of the published number to 3/2 of it."""
    published = PUBLISHED["Delta(out → in)"]
    curves = _at_the_end(evidence, "information_imbalance", [BACK], tuple(published))
    return _each("Delta(out → in)", published, curves, partial(number, factor=1.5))


@CLAIMS.claim(
    "1.12",
    "The encoder compresses; the decoder expands where K is large",
    brief="The encoder compresses, the decoder expands for large K",
    finding="With K = 64 the relative difference is {0:.2f} in the encoder and {1:.2f} in the decoder",
    paper="relative difference of adjacent layers: encoder negative, decoder positive for K = 64, about 0 for K = 4",
    scale=replace(PAPER, grid={"latent_dim": (4, 64)}),
)
def the_decoder_expands(evidence: Evidence) -> Sequence[Criterion]:
    """(Delta(l -> l+1) - Delta(l+1 -> l)) / their mean, over the pairs 0-1 to 4-5 and 5-6 to 9-10, each averaged.

    K = 64: encoder below 0, decoder above 0; K = 4: the decoder's size less than a third of that.
    """
    up = [{"from_layer": layer, "to_layer": layer + 1} for layer in LAYERS[:-1]]
    down = [{"from_layer": layer + 1, "to_layer": layer} for layer in LAYERS[:-1]]
    curves = _at_the_end(evidence, "information_imbalance", [*up, *down], (4, 64))

    def statistic(name: str, of: Callable[[ndarray, ndarray], ndarray]) -> Statistic:
        """`of` the encoder's and the decoder's mean relative differences, each (K = 4 and 64, seeds)."""

        def both(*arrays: ndarray) -> ndarray:
            rise, fall = np.split(np.stack(arrays), 2)
            relative = 2 * (rise - fall) / (rise + fall)
            return of(relative[:LATENT].mean(axis=0).T, relative[LATENT:].mean(axis=0).T)

        return paired(name, both, *curves, at=(4, 64), unit="")

    def excess(encoder: ndarray, decoder: ndarray) -> ndarray:
        return decoder[1] / 3 - np.abs(decoder[0])

    return [
        effect(statistic("relative difference, encoder, K = 64", lambda encoder, decoder: encoder[1]), below=0),
        effect(statistic("relative difference, decoder, K = 64", lambda encoder, decoder: decoder[1]), above=0),
        effect(statistic("a third of it minus the decoder's size at K = 4", excess), above=0),
    ]


@CLAIMS.claim(
    "1.13",
    "MNIST: the decoder has a plateau far above the output",
    brief="MNIST: the decoder has a plateau far above the output",
    finding="On MNIST the decoder peaks at {0} (K = 64) and {1} (128) dimensions, the output has {2} and {3}",
    train={"data": ("mnist32",)},
    paper="decoder's ID 60 (K = 128) and 41 (K = 64), output 12 to 15, read off a plot",
    scale=MNIST,
    steps=MNIST.steps,
)
def digits_have_a_plateau(evidence: Evidence) -> Sequence[Criterion]:
    """max(ID of layers 6 to 9) within 25 %, and the output's between 9 and 19, for both K."""
    output, *decoder = _dimensions(evidence, [OUTPUT, *DECODER], tuple(PLATEAUS), **DIGITS)
    return [
        *_each("ID at the decoder's peak", PLATEAUS, decoder, partial(number, relative=0.25)),
        *_each("ID of the output", PLATEAUS, [output], lambda dimension, _: in_range(dimension, 9, 19)),
    ]
