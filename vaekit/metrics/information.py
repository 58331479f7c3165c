"""How the rate divides into mutual information and the marginal KL (Bozkurt et al. 2021, Eq. 5).

R = I_q[x; z] + KL(q(z) || p(z)) for the aggregate posterior q(z) = 1/N sum_n q(z|x_n). Both terms need log q(z), and
differ by how it is estimated. For one and the same sample they add up to R whatever q(z) is taken for, so their sum
tests nothing.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import randomness
from vaekit.distributions import Gaussian, as_float
from vaekit.metrics.rates import check_bytes


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
        ValueError: images that are not uint8.
    """
    check_bytes(images)
    dtype = next(model.parameters()).dtype
    parts = [as_float(model.encode(part.to(dtype) / 255)) for part in images.split(batch_size)]
    return Gaussian(torch.cat([q.mu for q in parts]), torch.cat([q.logvar for q in parts]))


@torch.no_grad()
def information(
    posterior: Gaussian, seed: int, estimator: str = "exact", samples: int = 2048, batch_size: int = 512
) -> Information:
    """Mutual information I_q[x; z] and marginal KL(q(z) || N(0, I)) of an encoder on its N training images.

    Args:
        posterior: q(z|x_n) of all N images, parameters of shape (N, latent_dim).
        seed: of the choice of images and of the noise.
        estimator: "exact": q(z) over all N components, at one z of each of `samples` random images. "batch": the
            paper's (Esmaeili et al. 2019): q(z) from the other images of a batch of `batch_size`, corrected for the
            sample's own component, 1/N q(z|x) + (N - 1)/N times the mean of the others; over all whole batches. It
            overshoots.

    Raises:
        ValueError: another estimator, or fewer than two images, samples or images in a batch.
    """
    posterior = Gaussian(posterior.mu.double(), posterior.logvar.double())
    size = len(posterior.mu)
    if estimator not in ("exact", "batch") or min(size, samples, batch_size) < 2:
        given = f"estimator is {estimator!r} on {size} images with {samples} samples in batches of {batch_size}"
        raise ValueError(f"{given}; use exact or batch, and two or more of each")
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
        log_own = own.log_prob(z).sum(1)
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
    mi, kl = torch.cat(mi), torch.cat(kl)
    root = math.sqrt(len(mi))
    return Information(
        mi.mean().item(), mi.std().item() / root, kl.mean().item(), kl.std().item() / root, math.log(size), len(mi)
    )


def log_density(z: Tensor, posterior: Gaussian) -> Tensor:
    """log q(z_i|x_j) in nats, (samples, N), of z (samples, d) under the posterior of each of N images, both float64.

    One matrix product, which in float64 loses little, but for the density of a latent of tiny variance at its image.
    """
    precision = (-posterior.logvar).exp()
    constant = (posterior.mu**2 * precision + posterior.logvar + math.log(2 * math.pi)).sum(1)
    left = torch.cat((z**2, z), dim=1)
    right = torch.cat((precision, -2 * posterior.mu * precision), dim=1)
    return -0.5 * (left @ right.T + constant)
