"""The quality of reconstructions (PSNR) and of samples (the Inception Score and its two factors)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import entr

from vaekit import checks, randomness
from vaekit.distributions import as_float
from vaekit.metrics.rates import evaluate, grey, mean_and_se

# An image is known no better than to a byte: the mean square of rounding to one is as good as nothing. 58.92 dB.
LEAST_MSE = 1 / (12 * 255**2)


class PSNR(NamedTuple):
    """Peak signal to noise ratio of reconstructions, in dB, the peak being 1.

    `of_images` (n,), float64: each image's own, 10 log10(1 / MSE), whose mean is the paper's reading E[-log MSE].
    `of_all`: 10 log10(1 / the MSE over all images), its published code's reading, never above that mean (Jensen);
    `of_all_se`: its standard error over images, that of the MSE carried through the logarithm to first order.
    """

    of_images: Tensor
    of_all: float
    of_all_se: float


class InceptionScore(NamedTuple):
    """The mean over splits of IS = diversity * sharpness and of either factor, with the standard errors of the means.

    In each split the product is exact; that of the three means is not (so log IS is not the sum of their logarithms).
    `n` samples in all.
    """

    score: float
    score_se: float
    diversity: float
    diversity_se: float
    sharpness: float
    sharpness_se: float
    n: int


def psnr(model, images: Tensor, batch_size: int = 1024) -> PSNR:
    """PSNR of the reconstruction of uint8 images (n, C, H, W) from the modes of the model's latents, in both readings.

    The reconstruction is the likelihood's mean at zero noise, so the latents are the means of their posteriors, each
    given those above it; it is not cut to [0, 1]. MSEs below that of rounding to bytes count as that: 58.92 dB.

    Raises:
        ValueError: images that are not uint8, or a model that draws or whose BatchNorm trains.
    """

    def squares(params: dict, x: Tensor) -> dict[str, Tensor]:
        checks.names("the model's params", params, ["x"])
        if (mean := params["x"].mean).shape != x.shape:
            raise checks.refusal("the likelihood's mean", mean, f"one of the images' shape, {tuple(x.shape)}")
        return {"mse": (params["x"].mean - x).double().square().flatten(1).mean(1)}

    rows = torch.arange(len(checks.images(images)))
    errors = evaluate(model, images, rows, 0, None, batch_size, squares)["mse"]
    mse, se = mean_and_se(errors)
    in_db = 10 / math.log(10)
    return PSNR(
        -in_db * errors.clamp(min=LEAST_MSE).log(),
        -in_db * math.log(max(mse, LEAST_MSE)),
        in_db * se / max(mse, LEAST_MSE),
    )


@torch.no_grad()
def reconstruct(model, images: Tensor) -> Tensor:
    """The likelihood's means at the means of the latents of uint8 images: (n, C, H, W), float32, on the model's device.

    Of a model with several layers of latents, each mean is given those above it.

    Raises:
        ValueError: images that are not uint8, or a model that draws or whose BatchNorm trains.
    """
    dtype = checks.model(model, "noise_sites")
    x = grey(checks.images(images), dtype).to(dtype)
    noise = {site: x.new_zeros((len(x), *shape)) for site, shape in model.noise_sites.items()}
    with randomness.NoDraws(type(model).__name__):
        return as_float(model(x, noise))["x"].mean.float()


@torch.no_grad()
def generate_images(model, n: int, seed: int, batch_size: int = 500) -> Tensor:
    """The likelihood's means at n samples of the model's prior: (n, C, H, W), float32, on the model's device.

    They lie in [0, 1] for a Bernoulli likelihood; a Gaussian's means are left as they are, as in study 2's published
    code. Image i is keyed by (seed, i), under site names of its own: not by a batch, nor with what `evaluate` draws.

    Raises:
        ValueError: no images are asked for, or a model that draws, whose BatchNorm trains or without a prior.
    """
    dtype = checks.model(model, "noise_sites", "generate")
    n, seed, batch_size = checks.whole("n", n, 1), checks.seed(seed), checks.whole("batch_size", batch_size, 1)
    device = next((parameter.device for parameter in model.parameters()), None)
    images = []
    for rows in torch.arange(n, device=device).split(batch_size):
        noise = {
            site: randomness.normal_rows(seed, randomness.EVALUATION, 0, f"samples/{site}", rows, shape, dtype)
            for site, shape in model.noise_sites.items()
        }
        with randomness.NoDraws(type(model).__name__):
            images.append(model.generate(noise).mean.float())
    return torch.cat(images)


@torch.no_grad()
def probabilities(judge: Callable[[Tensor], Tensor], images: Tensor, batch_size: int = 500) -> Tensor:
    """p(y|x) by a classifier that gives it, of n images on its device: (n, classes), float64, on the CPU.

    Images are floats (n, C, H, W) whose grey values [0, 1] are; a Gaussian likelihood's means may leave them a little.

    Raises:
        ValueError: images that are no floats, or a classifier that gives no probabilities (its logits, say).
    """
    checks.floats("images", images)
    if checks.pictures("images", images, bounded=False).ndim != 4:
        raise checks.refusal("images", images, "floats of shape (n, C, H, W)")
    batches = images.split(checks.whole("batch_size", batch_size, 1))
    rows = [checks.distributions("the classifier", judge(batch)) for batch in batches]
    if len({part.shape[1] for part in rows}) > 1 or [*map(len, rows)] != [*map(len, batches)]:
        raise ValueError(f"the classifier: got {sum(map(len, rows))} rows for {len(images)} images; give one an image")
    return torch.cat(rows)


def inception_score(probabilities: Tensor, splits: int = 5) -> InceptionScore:
    """The Inception Score of n samples by their class probabilities (n, classes), in `splits` consecutive parts.

    exp E[KL(p(y|x) || p(y))] (Salimans et al. 2016) = diversity * sharpness, with diversity exp H[p(y)] in [1, classes]
    and sharpness exp(-E H[p(y|x)]) in [1 / classes, 1], where p(y) is the split's mean (Xiao & Bamler 2023, Eq. 12). It
    grows with the samples in a split, so compare scores of the same n and splits alone.

    Raises:
        ValueError: rows that are no distributions, or n is no multiple of `splits`.
    """
    rows, splits = checks.distributions("probabilities", probabilities), checks.whole("splits", splits, 1)
    n = len(rows)
    if n % splits:
        raise ValueError(f"{n} samples do not divide into {splits} splits; give a multiple")
    parts = rows.unflatten(0, (splits, n // splits))
    of_mean, mean_of = entr(parts.mean(1)).sum(-1), entr(parts).sum(-1).mean(1)
    score, diversity, sharpness = (of_mean - mean_of).exp(), of_mean.exp(), (-mean_of).exp()
    return InceptionScore(*mean_and_se(score), *mean_and_se(diversity), *mean_and_se(sharpness), n)
