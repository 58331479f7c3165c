"""log p(x) of a trained model, by a bound from importance-weighted samples."""

import math

import torch
from torch import Tensor

from vaekit import checks, randomness
from vaekit.distributions import Gaussian, as_float
from vaekit.losses import distortion
from vaekit.metrics.information import encode
from vaekit.metrics.rates import grey


@torch.no_grad()
def log_likelihood(
    model, images: Tensor, rows: Tensor, seed: int, samples: int = 1_000, batch_size: int = 256
) -> Tensor:
    """A lower bound of log p(x) of each image, (n,), float64 on the CPU, in nats (Burda et al. 2016, Eq. 8).

    log 1/K sum_k p(x|z_k) p(z_k) / q(z_k|x) for K `samples` z_k of q(z|x). It is the exact log p(x) where q(z|x) is the
    posterior, and otherwise grows in expectation with K towards it; at K = 1 it is the ELBO at one sample. Sample k is
    draw k of `evaluate`.

    Args:
        model: a module in eval mode with one latent "z" of the prior N(0, I): `encode`, `decode` and `noise_sites`.
        images: uint8, (n, C, H, W), on the model's device.
        rows: (n,) numbers of the images, from 0, which key their noise.
        seed: of the noise.
        samples: K.
        batch_size: latents decoded at once: few, so that what a decoder makes of them stays in a CPU's cache.

    Raises:
        ValueError: images that are not uint8, rows that do not number them, no samples, or a model that draws, whose
            BatchNorm trains, or that has another latent.
    """
    own = checks.model(model, "encode", "decode", "noise_sites")
    sites = dict(model.noise_sites)
    if sites.keys() != {"z"}:
        raise ValueError(f"model: got the latents {', '.join(sites)}; give one whose only latent is z")
    samples, batch_size = checks.whole("samples", samples, 1), checks.whole("batch_size", batch_size, 1)
    seed = checks.seed(seed)
    posterior = encode(model, images)
    rows = checks.rows(rows, len(images))
    draws = torch.arange(samples, device=images.device)
    bounds = []
    for image, row, mu, logvar in zip(images, rows.to(images.device), *posterior, strict=True):
        dtype = mu.dtype
        noise = randomness.normal_rows(seed, randomness.EVALUATION, draws, "z", row.view(1), sites["z"], dtype)[:, 0]
        z = Gaussian(mu, logvar).sample(noise)
        # log p(z) - log q(z|x): of the two densities, log 2 pi cancels, and the noise is what q(z|x) has standardised.
        log_ratio = 0.5 * (noise.double() ** 2 - z.double() ** 2 + logvar.double()).sum(1)
        x = grey(image, dtype)
        parts = [
            distortion(as_float(model.decode(part.to(own))), x.expand(len(part), *x.shape))
            for part in z.split(batch_size)
        ]
        bounds.append((log_ratio - torch.cat(parts).double()).logsumexp(0) - math.log(samples))
    return torch.stack(bounds).cpu()
