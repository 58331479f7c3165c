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

import numpy as np
from numpy import ndarray

from vaekit.claims import (
    Curve,
    Evidence,
    PaperScale,
    Part,
    absence,
    claim,
    column,
    complete,
    effect,
    number,
    paired,
    statistic,
)
from vaekit.studies.id_transition import CIFAR_TRAIN, DIMS, LAYERS, MNIST_TRAIN, step_of

ENCODER, CODE, DECODER, OUTPUT = range(1, 5), 5, range(6, 10), 10
TARGETS = (2, 4, 8, 32, 64, 128)  # K = 16 is no target
STEPS = step_of(200, CIFAR_TRAIN)

PAPER = PaperScale(
    steps=STEPS,
    batch_size=256,
    seeds=1,
    data=("cifar10",),
    grid={"latent_dim": TARGETS},
    settings={
        "data": "cifar10",
        "n_test": 5_000,
        "objective": "beta",
        "channels": (64, 128, 256, 256),
        "lr": 1e-3,
        "weight_decay": 1e-4 / 256,
    },
)
MNIST = replace(
    PAPER,
    steps=step_of(200, MNIST_TRAIN),
    data=("mnist32",),
    grid={"latent_dim": (64, 128)},
    settings={**PAPER.settings, "data": "mnist32"},
)
study_claim = partial(
    claim,
    study="id_transition",
    scale=PAPER,
    steps=STEPS,
    batch_size=256,
    compares=("latent_dim",),
    within=("data",),  # so that the original, where it is at hand, decides before a copy of it
)

_OURS = {"model": "conv_vae", "split": "cv", "beta": 1.0}
CIFAR = {"data": ("cifar10", "cifar10_jpeg"), "n_train": CIFAR_TRAIN, **_OURS}
DIGITS = {"data": "mnist32", "n_train": MNIST_TRAIN, **_OURS}


def _at_the_end(
    evidence: Evidence, kinds: Sequence[tuple[str, str]], dims: Sequence[int], data: Mapping
) -> list[Curve]:
    """Measures of the test images over K, given as (measure, arguments), on the seeds that have all of `dims`."""
    curves = (evidence.curve(name, part="test", arguments=how, over="latent_dim", **data) for name, how in kinds)
    return list(complete(*curves, ranges=[(dim, dim) for dim in dims]))


def _dimensions(evidence: Evidence, layers: Sequence[int], dims: Sequence[int], data: Mapping = CIFAR) -> list[Curve]:
    return _at_the_end(evidence, [("intrinsic_dimension", f"layer={layer}") for layer in layers], dims, data)


def _while_training(
    evidence: Evidence, measure: str, dim: int, epochs: Sequence[tuple[float, float]], part: str, arguments: str = ""
) -> Curve:
    """A measure at one K over the steps from epoch 1 on, that holds the end and a step of each range of epochs."""
    steps = [(step_of(first, CIFAR_TRAIN), step_of(last, CIFAR_TRAIN)) for first, last in epochs]
    how = {"part": part, "arguments": arguments, "over": "step", "steps": "until"}
    curve = evidence.curve(measure, **how, latent_dim=dim, **CIFAR)
    # Cut here and not by `between`, which would forget a member that diverged at an earlier step.
    trained = curve.values.loc[:, curve.values.columns >= step_of(1, CIFAR_TRAIN)]
    (found,) = complete(replace(curve, values=trained), ranges=[*steps, (evidence.step, evidence.step)])
    return found


def _each(
    what: str, published: Mapping[int, float], curves: Sequence[Curve], of: Callable[..., ndarray], relative: float
) -> list[Part]:
    """A published number for each K: `of` the curves' arrays (seeds, K) at that K."""

    def at(dim: int) -> Part:
        place = column(curves[0], dim)
        found = paired(f"{what}, K = {dim}", lambda *arrays: of(*arrays)[:, place], *curves, unit="")
        return number(found, published[dim], relative=relative)

    return [at(dim) for dim in published]


def _highest(*layers: ndarray) -> ndarray:
    return np.max(layers, axis=0)


def _itself(values: ndarray) -> ndarray:
    return values


@study_claim(
    "1.1",
    "2NN ID of the data",
    paper='31.0 ("about 30")',
    scale=replace(PAPER, steps=0, grid={}, settings={"data": "cifar10", "n_test": 5_000}),
    steps=0,
    copies_decide=False,
    note="It needs the original images: 5,000 test images at random of the JPEG copy have 29.7.",
)
def data_have_about_30_dimensions(evidence: Evidence) -> Sequence[Part]:
    """31.0 within 0.5; the images are the same whatever was trained, and so is the value of every K."""
    curve = evidence.curve(
        "intrinsic_dimension", part="test", arguments="layer=0", over="latent_dim", steps="any", **CIFAR, n_test=5_000
    )
    return [number(statistic("ID of the data", curve.values.mean(axis=1), curve, unit=""), 31.0, within=0.5)]


ENCODER_PEAKS = {2: 66.8, 4: 72.7, 8: 77.6, 32: 75.7, 64: 72.7, 128: 71.2}


@study_claim(
    "1.2",
    "The encoder's ID has a hump, for every K",
    paper="its peak is 66.8, 72.7, 77.6, 75.7, 72.7, 71.2 for K = 2, 4, 8, 32, 64, 128",
    note="The paper's text has small bottlenecks without a double hump; its numbers have the encoder's hump for every "
    "K. The numbers decide.",
)
def the_encoder_has_a_hump(evidence: Evidence) -> Sequence[Part]:
    """The largest ID of layers 1 to 4 of each K, within 15 %."""
    curves = _dimensions(evidence, ENCODER, TARGETS)
    return _each("ID at the encoder's peak", ENCODER_PEAKS, curves, _highest, 0.15)


CODES = {2: 2.0, 4: 4.0, 8: 8.1, 32: 24.6, 64: 38.7, 128: 59.0}


@study_claim(
    "1.3",
    "ID of the code z",
    paper="2.0, 4.0, 8.1, 24.6, 38.7, 59.0 for K = 2, 4, 8, 32, 64, 128",
    note="2NN finds about the same in as many draws from the prior N(0, I), and found it in the untrained networks' "
    "codes (2.0, 4.1, 7.9, 25.0, 38.6, 58.6): the value is that of Gaussian noise and tells little of the data.",
)
def the_codes_have_their_own_dimension(evidence: Evidence) -> Sequence[Part]:
    """Layer 5 of each K, within 8 %, which is four times 2NN's own spread on 5,000 images."""
    return _each("ID of z", CODES, _dimensions(evidence, [CODE], TARGETS), _itself, 0.08)


@study_claim(
    "1.4",
    "The decoder's hump grows gradually with K, and is highest from K = 32 on",
    paper="its prominence is 1.0, 1.0, 1.11, 1.31, 1.52, 1.48, 1.30 for K = 2, 4, 8, 16, 32, 64, 128",
    scale=replace(PAPER, grid={"latent_dim": DIMS}),
    note="The paper's text has a transition where K passes the data's ID, about 30; its numbers have no step there. "
    "The numbers decide. K = 16 counts, as one end of two doublings.",
)
def the_decoders_hump_grows_gradually(evidence: Evidence) -> Sequence[Part]:
    """max(ID of layers 6 to 9) / max(ID of 5 and 10): argmax at K >= 32, no doubling of K is half of the whole rise."""
    curves = _dimensions(evidence, [CODE, OUTPUT, *DECODER], DIMS)
    places = [column(curves[0], dim) for dim in DIMS]
    wide = DIMS.index(32)

    def prominence(code: ndarray, output: ndarray, *decoder: ndarray) -> ndarray:
        return (_highest(*decoder) / _highest(code, output))[:, places]

    def lead(*arrays: ndarray) -> ndarray:
        found = prominence(*arrays)
        return found[:, wide:].max(axis=1) - found[:, :wide].max(axis=1)

    def largest_share(*arrays: ndarray) -> ndarray:
        found = prominence(*arrays)
        rise = found.max(axis=1) - found[:, 0]
        steepest = np.diff(found, axis=1).max(axis=1)
        return np.divide(steepest, rise, out=np.full(len(found), np.nan), where=rise > 0)

    return [
        effect(paired("prominence, best of K ≥ 32 minus best of K < 32", lead, *curves, unit=""), above=0),
        effect(paired("largest share of one doubling in the rise", largest_share, *curves, unit=""), at_most=0.5),
    ]


DECODER_PEAKS = {32: 37.5, 64: 57.1, 128: 76.9}


@study_claim(
    "1.5",
    "The decoder's peak ID grows with K",
    paper="37.5, 57.1, 76.9 for K = 32, 64, 128",
    scale=replace(PAPER, grid={"latent_dim": tuple(DECODER_PEAKS)}),
)
def the_decoder_peaks(evidence: Evidence) -> Sequence[Part]:
    """The largest ID of layers 6 to 9, within 15 %."""
    curves = _dimensions(evidence, DECODER, tuple(DECODER_PEAKS))
    return _each("ID at the decoder's peak", DECODER_PEAKS, curves, _highest, 0.15)


OUTPUTS = {32: 21.8, 64: 23.2, 128: 24.7}


@study_claim(
    "1.6",
    "The output's ID is below the data's",
    paper="21.8, 23.2, 24.7 for K = 32, 64, 128; the data's is 31.0",
    scale=replace(PAPER, grid={"latent_dim": tuple(OUTPUTS)}),
)
def outputs_have_fewer_dimensions(evidence: Evidence) -> Sequence[Part]:
    """Layer 10 within 15 %, and below layer 0 for each of these K."""
    dims = tuple(OUTPUTS)
    output, images = _dimensions(evidence, [OUTPUT, 0], dims)
    places = [column(output, dim) for dim in dims]
    gap = paired(
        "ID of the data minus the output's, smallest of K = 32, 64, 128",
        lambda out, data: (data - out)[:, places].min(axis=1),
        output,
        images,
        unit="",
    )
    return [*_each("ID of the output", OUTPUTS, [output], _itself, 0.15), effect(gap, above=0)]


THIRD_LAYER = {1: 18.5, 10: 27.0, 50: 47.0, 200: 72.7}


@study_claim(
    "1.7",
    "Two phases: the encoder's ID goes on growing long after the first fit",
    paper="K = 64, layer 3: 18.5, 27.0, 47.0, 72.7 at epochs 1, 10, 50, 200",
    scale=replace(PAPER, grid={"latent_dim": (64,)}),
)
def dimensions_grow_in_two_phases(evidence: Evidence) -> Sequence[Part]:
    """Layer 3 of K = 64 at each of these epochs, within 20 %; epoch 200 is where this evidence is read."""
    *passed, last = THIRD_LAYER
    epochs = [(epoch, epoch) for epoch in passed]
    curve = _while_training(evidence, "intrinsic_dimension", 64, epochs, "test", "layer=3")

    def at(epoch: int) -> Part:
        place = column(curve, evidence.step if epoch == last else step_of(epoch, CIFAR_TRAIN))
        found = paired(f"ID of layer 3, epoch {epoch}", lambda values: values[:, place], curve, unit="")
        return number(found, THIRD_LAYER[epoch], relative=0.2)

    return [at(epoch) for epoch in THIRD_LAYER]


def _inside(curve: Curve, first: float, last: float) -> ndarray:
    """Which grid points of a curve over steps lie between two epochs, those included."""
    low, high = step_of(first, CIFAR_TRAIN), step_of(last, CIFAR_TRAIN)
    steps = curve.values.columns.to_numpy(dtype=float)
    return (steps >= low) & (steps <= high)


@study_claim(
    "1.8",
    "The KL rises to a peak near epoch 10 and then falls slowly",
    paper="K = 64: about 24, 30, 17 nats as logged",
    scale=replace(PAPER, grid={"latent_dim": (64,)}),
)
def the_kl_peaks_and_falls(evidence: Evidence) -> Sequence[Part]:
    """R on the training images, K = 64: its peak between epochs 3 and 30, and at least 25 % less at the end."""
    curve = _while_training(evidence, "rate", 64, [(1, 2), (3, 30)], "train")
    near = _inside(curve, 3, 30)
    lead = paired(
        "KL at its peak of epochs 3 to 30 minus the highest of the others",
        lambda kl: kl[:, near].max(axis=1) - kl[:, ~near].max(axis=1),
        curve,
    )
    fall = paired("fall of KL from its peak", lambda kl: 1 - kl[:, -1] / kl.max(axis=1), curve, unit="")
    return [effect(lead, above=0), effect(fall, at_least=0.25)]


BACK = f"from={OUTPUT},to=0"


@study_claim(
    "1.9",
    "The output first learns to predict the image, then forgets some of it: K = 32, 64, 128",
    paper="Delta(out → in) at epochs 1, 10, 200: .0545, .0102, .0535 (K = 32); .0316, .0089, .0465 (64); "
    ".0754, .0109, .0622 (128)",
    scale=replace(PAPER, grid={"latent_dim": (32, 64, 128)}),
)
def the_output_forgets_the_image(evidence: Evidence) -> Sequence[Part]:
    """Delta(out -> in) from epoch 1 on has its minimum between epochs 5 and 20, and ends at 3 times it or more."""

    def parts(dim: int) -> list[Part]:
        curve = _while_training(evidence, "information_imbalance", dim, [(1, 2), (5, 20)], "test", BACK)
        near = _inside(curve, 5, 20)
        place = paired(
            f"Delta, least of the other epochs over that of 5 to 20, K = {dim}",
            lambda delta: delta[:, ~near].min(axis=1) / delta[:, near].min(axis=1),
            curve,
            unit="",
        )
        rise = paired(
            f"Delta at the end over its minimum, K = {dim}",
            lambda delta: delta[:, -1] / delta[:, near].min(axis=1),
            curve,
            unit="",
        )
        return [effect(place, above=1), effect(rise, at_least=3)]

    return [part for dim in (32, 64, 128) for part in parts(dim)]


@study_claim(
    "1.10",
    "With K = 2 there is no such forgetting",
    paper="Delta(out → in) is .391, .339, .364 at epochs 1, 10, 200",
    scale=replace(PAPER, grid={"latent_dim": (2,)}),
    note="The largest value after the minimum is taken within each seed, which noise can only raise.",
)
def a_narrow_code_forgets_nothing(evidence: Evidence) -> Sequence[Part]:
    """No effect: from epoch 1 on, no later Delta(out -> in) is 1.5 times its minimum."""
    curve = _while_training(evidence, "information_imbalance", 2, [(1, 2), (5, 20)], "test", BACK)

    def rise(delta: ndarray) -> ndarray:
        later = np.maximum.accumulate(delta[:, ::-1], axis=1)[:, ::-1]  # the largest from here to the end
        lowest = delta.argmin(axis=1)[:, None]
        return (np.take_along_axis(later, lowest, axis=1) / np.take_along_axis(delta, lowest, axis=1))[:, 0]

    return [absence(paired("Delta after its minimum over the minimum", rise, curve, unit=""), margin=1.5)]


LEFT = {2: 0.364, 4: 0.240, 8: 0.134, 32: 0.054, 64: 0.047, 128: 0.062}


@study_claim(
    "1.11",
    "How well the output predicts the image, at the end",
    paper="Delta(out → in) is .364, .240, .134, .054, .047, .062 for K = 2, 4, 8, 32, 64, 128",
)
def outputs_predict_images(evidence: Evidence) -> Sequence[Part]:
    """Delta(out -> in) of each K, within a factor of 1.5: from 2/3 of the published number to 3/2 of it."""
    curves = _at_the_end(evidence, [("information_imbalance", BACK)], TARGETS, CIFAR)
    middles = {dim: value * (3 / 2 + 2 / 3) / 2 for dim, value in LEFT.items()}
    parts = _each("Delta(out → in)", middles, curves, _itself, relative=(3 / 2 - 2 / 3) / (3 / 2 + 2 / 3))
    return [replace(part, wanted=f"{value:g}, × or ÷ 1.5") for part, value in zip(parts, LEFT.values(), strict=True)]


@study_claim(
    "1.12",
    "The encoder compresses; the decoder expands where K is large",
    paper="relative difference of adjacent layers: encoder negative, decoder positive for K = 64, about 0 for K = 4",
    scale=replace(PAPER, grid={"latent_dim": (4, 64)}),
)
def the_decoder_expands(evidence: Evidence) -> Sequence[Part]:
    """(Delta(l -> l+1) - Delta(l+1 -> l)) / their mean, over the pairs 0-1 to 4-5 and 5-6 to 9-10, each averaged.

    K = 64: encoder below 0, decoder above 0; K = 4: the decoder's size less than a third of that.
    """
    up = [f"from={layer},to={layer + 1}" for layer in LAYERS[:-1]]
    down = [f"from={layer + 1},to={layer}" for layer in LAYERS[:-1]]
    curves = _at_the_end(evidence, [("information_imbalance", how) for how in (*up, *down)], (4, 64), CIFAR)
    small, large = column(curves[0], 4), column(curves[0], 64)

    def differences(*arrays: ndarray) -> ndarray:
        """(layer pairs, seeds, K)."""
        rise, fall = np.split(np.stack(arrays), 2)
        return 2 * (rise - fall) / (rise + fall)

    def encoder(*arrays: ndarray) -> ndarray:
        return differences(*arrays)[:CODE].mean(axis=0)[:, large]

    def decoder(*arrays: ndarray) -> ndarray:
        return differences(*arrays)[CODE:].mean(axis=0)[:, large]

    def excess(*arrays: ndarray) -> ndarray:
        both = differences(*arrays)[CODE:].mean(axis=0)
        return both[:, large] / 3 - np.abs(both[:, small])

    return [
        effect(paired("relative difference, encoder, K = 64", encoder, *curves, unit=""), below=0),
        effect(paired("relative difference, decoder, K = 64", decoder, *curves, unit=""), above=0),
        effect(paired("a third of it minus the decoder's size at K = 4", excess, *curves, unit=""), above=0),
    ]


PLATEAUS = {64: 41.0, 128: 60.0}


@study_claim(
    "1.13",
    "MNIST: the decoder has a plateau far above the output",
    paper="decoder's ID 60 (K = 128) and 41 (K = 64), output 12 to 15, read off a plot",
    scale=MNIST,
    steps=MNIST.steps,
)
def digits_have_a_plateau(evidence: Evidence) -> Sequence[Part]:
    """max(ID of layers 6 to 9) within 25 %, and the output's between 9 and 19, for both K."""
    output, *decoder = _dimensions(evidence, [OUTPUT, *DECODER], tuple(PLATEAUS), DIGITS)
    low, high = 9.0, 19.0
    middle = dict.fromkeys(PLATEAUS, (low + high) / 2)
    outputs = _each("ID of the output", middle, [output], _itself, relative=(high - low) / (high + low))
    return [
        *_each("ID at the decoder's peak", PLATEAUS, decoder, _highest, 0.25),
        *(replace(part, wanted=f"{low:g} to {high:g}") for part in outputs),
    ]


CLAIMS = (
    data_have_about_30_dimensions,
    the_encoder_has_a_hump,
    the_codes_have_their_own_dimension,
    the_decoders_hump_grows_gradually,
    the_decoder_peaks,
    outputs_have_fewer_dimensions,
    dimensions_grow_in_two_phases,
    the_kl_peaks_and_falls,
    the_output_forgets_the_image,
    a_narrow_code_forgets_nothing,
    outputs_predict_images,
    the_decoder_expands,
    digits_have_a_plateau,
)
