"""How the rate divides into mutual information and the marginal KL (Bozkurt et al. 2021, Eq. 5).

R = I_q[x; z] + KL(q(z) || p(z)) for the aggregate posterior q(z) = 1/N sum_n q(z|x_n). Both terms need log q(z), and
differ by how it is estimated. For one and the same sample they add up to R whatever q(z) is taken for, so their sum
tests nothing.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import checks, randomness
from vaekit.distributions import Gaussian, as_float
from vaekit.metrics.rates import grey, mean_and_se

_ROUNDING = 1e-9  # nats
_VALUES = 2**20  # deviations that are held at once: 8 MB


class Information(NamedTuple):
    """Estimates in nats with their standard errors over the n samples of z; `ceiling` is log N, the most MI can be."""

    mutual_information: float
    mutual_information_se: float
    marginal_kl: float
    marginal_kl_se: float
    ceiling: float
    n: int


@torch.no_grad()
def encode(model, images: Tensor, batch_size: int = 1024) -> Gaussian:
    """The posterior of each of n uint8 images by a model's `encode`: parameters of shape (n, latent_dim).

    Raises:
        ValueError: images that are not uint8, or a model that draws or whose BatchNorm trains.
    """
    dtype = checks.model(model, "encode")
    batches = checks.images(images).split(checks.whole("batch_size", batch_size, 1))
    with randomness.NoDraws(type(model).__name__):
        parts = [as_float(model.encode(grey(batch, dtype).to(dtype))) for batch in batches]
    return Gaussian(torch.cat([q.mu for q in parts]), torch.cat([q.logvar for q in parts]))


@torch.no_grad()
def information(
    posterior: Gaussian, seed: int, estimator: str = "exact", samples: int = 2048, batch_size: int = 512
) -> Information:
    """Mutual information I_q[x; z] and marginal KL(q(z) || N(0, I)) of an encoder on its N training images.

    0 <= I <= log N, and KL >= 0: an estimate that chance takes out of its bounds is given as the bound.

    Args:
        posterior: q(z|x_n) of all N images, parameters of shape (N, latent_dim). Values that are not finite give NaN.
        seed: of the choice of images and of the noise.
        estimator: "exact": q(z) over all N components, at one z of each of `samples` random images. "batch": the
            paper's (Esmaeili et al. 2019): q(z) from the other images of a batch of `batch_size`, corrected for the
            sample's own component, 1/N q(z|x) + (N - 1)/N times the mean of the others; over all whole batches. It
            overshoots.

    Raises:
        ValueError: another estimator, no posterior, or fewer than two images, samples or images in a batch.
    """
    if estimator not in ("exact", "batch"):
        raise checks.refusal("estimator", estimator, "exact or batch")
    posterior, seed = checks.posterior(posterior, least=2), checks.seed(seed)
    samples, batch_size = checks.whole("samples", samples, 2), checks.whole("batch_size", batch_size, 2)
    size = len(posterior.mu)
    order = randomness.permutation(seed, randomness.EVALUATION, 0, size, posterior.mu.device)
    if estimator == "exact":
        blocks = [(rows, None) for rows in order[:samples].split(256)]
    else:
        batch_size = min(batch_size, size)
        blocks = [(rows, rows) for rows in order[: size // batch_size * batch_size].split(batch_size)]
    mi, kl = [], []
    for rows, others in blocks:
        own = Gaussian(posterior.mu[rows], posterior.logvar[rows])
        shape = (posterior.mu.shape[1],)
        noise = randomness.normal_rows(seed, randomness.EVALUATION, 0, "information", rows, shape, torch.float64)
        z = own.sample(noise)
        log_own = _log_densities(z, own)
        if others is None:
            pairs = log_density(z, posterior)
            pairs[torch.arange(len(rows)), rows] = log_own
            log_q = pairs.logsumexp(1) - math.log(size)
        else:
            pairs = log_density(z, own)
            pairs.fill_diagonal_(-math.inf)
            rest = pairs.logsumexp(1) - math.log(len(rows) - 1) + math.log1p(-1 / size)
            log_q = torch.logaddexp(log_own - math.log(size), rest)
        log_prior = Gaussian(torch.zeros_like(z), torch.zeros_like(z)).log_prob(z).sum(1)
        mi.append(log_own - log_q)
        kl.append(log_q - log_prior)
    (of_mi, mi_se), (of_kl, kl_se) = mean_and_se(torch.cat(mi)), mean_and_se(torch.cat(kl))
    ceiling = math.log(size)
    bounded = within(of_mi, 0, ceiling), mi_se, within(of_kl, 0, math.inf), kl_se
    return Information(*bounded, ceiling, sum(map(len, mi)))


def within(estimate: float, low: float, high: float) -> float:
    """An estimate, or the bound of what it estimates that it misses by chance; NaN stays."""
    return estimate if math.isnan(estimate) else min(max(estimate, low), high)


def log_density(z: Tensor, posterior: Gaussian) -> Tensor:
    """log q(z_i|x_j) in nats, (samples, N), of z (samples, d) under the posterior of each of N images, both float64.

    One matrix product. Where variances are so small that its terms, which all but cancel, lose more than `_ROUNDING`
    to rounding, deviations are divided by their standard deviations instead, before they are squared.
    """
    mu, logvar = posterior
    precision = (-logvar).exp()
    terms = ((z.abs().amax(0) + mu.abs()).square() * precision).sum(1)  # the most that any z of these adds up
    constant = (mu**2 * precision + logvar + math.log(2 * math.pi)).sum(1)
    left = torch.cat((z**2, z), dim=1)
    right = torch.cat((precision, -2 * mu * precision), dim=1)
    densities = -0.5 * (left @ right.T + constant)
    lossy = ~(terms * torch.finfo(terms.dtype).eps * (mu.shape[1] + 8) <= _ROUNDING)
    for images in lossy.nonzero().squeeze(1).split(max(1, _VALUES // z.numel())):
        densities[:, images] = _log_densities(z.unsqueeze(1), Gaussian(mu[images], logvar[images]))
    return densities


def _log_densities(z: Tensor, posterior: Gaussian) -> Tensor:
    """log q(z|x) in nats, summed over the last axis, from deviations in units of their standard deviations.

    These are exp(-300) at least, which leaves products finite: long before, a latent is its mean to rounding.
    """
    deviations = (z - posterior.mu) * (-0.5 * posterior.logvar).clamp(max=300).exp()
    return -0.5 * (deviations.square_() + posterior.logvar + math.log(2 * math.pi)).sum(-1)
