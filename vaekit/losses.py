"""Rates, distortions and objectives: pure functions, one value per image, in nats.

An *objective* maps (params, images, labels, weights, progress) to a dictionary of tensors of shape (batch,): `loss`,
which training minimises in the mean, and whatever else is worth recording. `params` is what the model returned,
`weights` the member's own numbers by name (each a number or a scalar tensor), `progress` the number of steps done, a
scalar tensor: a warm-up is so many steps long, whatever the budget. Where it lacks what it weighs, it is a ValueError.
"""

import math
from collections.abc import Callable, Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from vaekit import checks
from vaekit.distributions import Bernoulli, Gaussian

Objective = Callable[[dict, Tensor, Tensor | None, Mapping[str, Tensor], Tensor], dict[str, Tensor]]


def rate(posterior: Gaussian) -> Tensor:
    """R = KL(q(z|x) || N(0, I)) of each image, (batch,), in nats (Kingma & Welling 2014, appendix B).

    Raises:
        ValueError: no Gaussian of floats (batch, ...), or a logvar that is not of the shape of mu.
    """
    mu, logvar = _gaussian("posterior", posterior)
    return (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).flatten(1).sum(1)


def gaussian_kl(q: Gaussian, p: Gaussian) -> Tensor:
    """KL(q || p) of each image's diagonal Gaussians, (batch,), in nats, summed over their dimensions.

    Raises:
        ValueError: as `rate`, or a p that does not broadcast to the shape of q.
    """
    q = _gaussian("q", q)
    p = _gaussian("p", p, q.mu.shape)
    excess = q.logvar - p.logvar
    return (0.5 * ((q.mu - p.mu) ** 2 * p.precision + excess.expm1() - excess)).flatten(1).sum(1)


def distortion(likelihood: Bernoulli | Gaussian, images: Tensor) -> Tensor:
    """D = -log p(x|z) of each image, (batch,), in nats, summed over the image's values.

    A likelihood of one's own has a `log_prob` that gives each value's, of the images' shape.

    Raises:
        ValueError: images of another shape than the likelihood's, that are no floats, or, for a Bernoulli, not in
            [0, 1]: bytes are not divided by 255 here.
    """
    if not hasattr(likelihood, "log_prob"):
        raise checks.refusal("likelihood", likelihood, "a vaekit.distributions.Bernoulli or Gaussian, or its like")
    if not isinstance(images, Tensor) or not images.is_floating_point() or images.ndim < 2:
        raise checks.refusal("images", images, "floats (batch, ...)")
    shape = getattr(likelihood[0], "shape", ()) if isinstance(likelihood, Bernoulli | Gaussian) else images.shape
    if shape != images.shape:
        raise checks.refusal("images", images, f"floats of the likelihood's shape, {tuple(shape)}")
    if isinstance(likelihood, Bernoulli):
        checks.unit("images", images)
    if isinstance(likelihood, Gaussian):
        _gaussian("likelihood", likelihood, images.shape)
    log_probs = likelihood.log_prob(images)
    if log_probs.shape != images.shape:
        raise checks.refusal("the likelihood's log_prob", log_probs, f"one value for each of {tuple(images.shape)}")
    return -log_probs.flatten(1).sum(1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """-log softmax(logits)[label] of each image, (batch,), in nats, for (batch, classes) logits and int64 labels.

    Raises:
        ValueError: labels that are no whole numbers from 0 to classes - 1, one for each image.
    """
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        raise checks.refusal("logits", logits, "floats of shape (batch, classes)")
    if not isinstance(labels, Tensor) or labels.is_floating_point():
        raise checks.refusal("labels", labels, "whole numbers of shape (batch,)")
    n, classes = logits.shape
    low, high = checks.extremes(checks.labels("labels", labels, n)) or (0, 0)
    if low < 0 or high >= classes:
        raise ValueError(f"labels: got {low:g} to {high:g}; give 0 to {classes - 1}, for logits of {classes} classes")
    return F.cross_entropy(logits, labels.long(), reduction="none")


def bernoulli_floor(images: Tensor) -> Tensor:
    """The least distortion that any Bernoulli likelihood can reach on each image, (batch,), in nats.

    A grey value x costs at least its own entropy -x log x - (1 - x) log(1 - x), at p = x: a floor that has nothing to
    do with the model, so D is reported beside it.

    Raises:
        ValueError: images that are no floats in [0, 1], (batch, ...).
    """
    if checks.unit("images", images).ndim < 2:
        raise checks.refusal("images", images, "floats (batch, ...)")
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


def beta_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """D + beta * R (Higgins et al. 2017; Bozkurt et al. 2021, Eq. 1 with its sign turned), one value per image."""
    _has(params, ("x", "z"), weights, ("beta",))
    d, r = distortion(params["x"], images), rate(params["z"])
    return {"loss": d + weights["beta"] * r, "distortion": d, "rate": r}


def mi_kl_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """D + mi * I(x; z) + kl * KL(q(z) || p(z)): the two parts of the rate weighed apart, one value per image.

    R = I_q[x; z] + KL(q(z) || p(z)) (Hoffman & Johnson 2016; Bozkurt et al. 2021, Eq. 5). Both are estimated in a batch
    of B images at the latents that were drawn, which the model gives as "sample", (B, d), beside "z" and "x":

        log q(z_i) = log 1/B sum_j q(z_i|x_j),  MI_i = log q(z_i|x_i) - log q(z_i),  KL_i = log q(z_i) - log p(z_i).

    An image's own component weighs 1/B: the correction of `metrics.information` with the batch taken for the whole data
    set, whose size no objective knows. Hence MI_i <= log B, 4.85 nats in a batch of 128; what a latent says of its
    image beyond that counts as marginal KL. For any q(z) the two add up to log q(z|x) - log p(z), the rate at one
    sample. The images of a batch are coupled.

    Raises:
        ValueError: the model gives no "sample", as of every objective that lacks what it weighs.
    """
    _has(params, ("x", "z", "sample"), weights, ("mi", "kl"))
    z, q = params["sample"], _gaussian("z", params["z"])
    if not isinstance(z, Tensor) or z.ndim != 2 or z.shape != q.mu.shape:
        raise checks.refusal("sample", z, f"the latent that was drawn, of the shape of mu, {tuple(q.mu.shape)}")
    # Without a weight on the marginal KL, variances soon collapse. So a deviation is divided by its standard deviation
    # before it is squared, taken as exp(-40) at least: there, to rounding, a latent is its mean already.
    scale = (-0.5 * q.logvar).clamp(max=40).exp()
    deviation = (z.unsqueeze(1) - q.mu) * scale  # of latent i from the mean of image j, (B, B, d)
    constant = z.shape[1] * math.log(2 * math.pi)
    pairs = -0.5 * (deviation.square().sum(2) + q.logvar.sum(1) + constant)
    log_q = pairs.logsumexp(1) - math.log(len(z))
    log_prior = -0.5 * (z.square().sum(1) + constant)
    d, mi, kl = distortion(params["x"], images), pairs.diagonal() - log_q, log_q - log_prior
    loss = d + weights["mi"] * mi + weights["kl"] * kl
    return {"loss": loss, "distortion": d, "mutual_information": mi, "marginal_kl": kl}


def hierarchical_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """D + beta2 * R(z2) + beta1 * R(z1|z2) (Xiao & Bamler 2023, Eqs. 7-8), one value per image.

    Needs the params "z2", "z1", "prior1" = p(z1|z2) and "x"; R(z1|z2) is analytic at the sample of z2. `rate` is the
    total R, `rate_z2` and `rate_z1` are its parts.
    """
    _has(params, ("x", "z2", "z1", "prior1"), weights, ("beta2", "beta1"))
    d = distortion(params["x"], images)
    r2, r1 = rate(params["z2"]), gaussian_kl(params["z1"], params["prior1"])
    loss = d + weights["beta2"] * r2 + weights["beta1"] * r1
    return {"loss": loss, "distortion": d, "rate": r2 + r1, "rate_z2": r2, "rate_z1": r1}


def hierarchical_warmup_objective(
    params: dict, images: Tensor, labels, weights: Mapping, progress
) -> dict[str, Tensor]:
    """`hierarchical_objective` with both betas rising linearly from 0 to their own over the first `warmup` steps.

    So the authors of study 2 train their Ladder VAE, over a fifth of the epochs. A warm-up of 0 steps is none.
    """
    _has(params, (), weights, ("warmup", "beta2", "beta1"))
    share = torch.where(progress < weights["warmup"], progress / weights["warmup"], 1.0)
    betas = {name: share * weights[name] for name in ("beta2", "beta1")}
    return hierarchical_objective(params, images, labels, betas, progress)


def cross_entropy_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """The cross-entropy of the class logits "y" with the labels, and nothing else, one value per image."""
    _has(params, ("y",), weights, ())
    ce = cross_entropy(params["y"], labels)
    return {"loss": ce, "cross_entropy": ce}


def classifier_sum_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """reconstruction * D + beta * R + lambda * CE, each a sum in nats per image (arXiv 2307.09994, one reading).

    Needs the params "z" and "y" (class logits); a model without a decoder gives no "x", and D is left out. What is
    returned beside the loss is not weighted.
    """
    return _classifier_objective(params, images, labels, weights, values=1)


def classifier_pixel_mean_objective(
    params: dict, images: Tensor, labels, weights: Mapping, progress
) -> dict[str, Tensor]:
    """`classifier_sum_objective` with D divided by the number of an image's values, the other reading of its paper.

    In terms of sums, beta and lambda are so many times larger; the distortion that is returned is the sum all the same.
    """
    return _classifier_objective(params, images, labels, weights, values=images[0].numel())


def _classifier_objective(params, images, labels, weights, values: int) -> dict[str, Tensor]:
    _has(params, ("z", "y"), weights, ("beta", "lambda", *(["reconstruction"] if "x" in params else [])))
    r, ce = rate(params["z"]), cross_entropy(params["y"], labels)
    loss = weights["beta"] * r + weights["lambda"] * ce
    if "x" not in params:
        return {"loss": loss, "rate": r, "cross_entropy": ce}
    d = distortion(params["x"], images)
    return {"loss": weights["reconstruction"] * d / values + loss, "rate": r, "cross_entropy": ce, "distortion": d}


def _has(params: Mapping, distributions: Iterable[str], weights: Mapping, numbers: Iterable[str]) -> None:
    checks.names("the model's params", params, distributions)
    checks.names("the member's weights", weights, numbers)


def _gaussian(name: str, value: Gaussian, shape: torch.Size | None = None) -> Gaussian:
    """A Gaussian of floats (batch, ...) whose parameters broadcast to this shape; None: to that of its own mu."""
    usable = isinstance(value, tuple) and len(value) == 2 and all(isinstance(part, Tensor) for part in value)
    if not usable or not all(part.is_floating_point() for part in value) or (shape is None and value[0].ndim < 2):
        raise checks.refusal(name, value, "a vaekit.distributions.Gaussian of floats (batch, ...)")
    shape = value[0].shape if shape is None else shape
    for part, parameter in zip(Gaussian._fields, value, strict=True):
        sizes = zip(reversed(parameter.shape), reversed(shape), strict=False)
        if parameter.ndim > len(shape) or any(size not in (1, wanted) for size, wanted in sizes):
            raise checks.refusal(f"{name}.{part}", parameter, f"the shape {tuple(shape)}")
    return Gaussian(*value)


OBJECTIVES: dict[str, Objective] = {
    "beta": beta_objective,
    "mi_kl": mi_kl_objective,
    "hierarchical": hierarchical_objective,
    "hierarchical_warmup": hierarchical_warmup_objective,
    "classifier_sum": classifier_sum_objective,
    "classifier_pixel_mean": classifier_pixel_mean_objective,
    "cross_entropy": cross_entropy_objective,
}
