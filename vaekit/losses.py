"""Rates, distortions and objectives: pure functions, one value per image, in nats.

An *objective* maps (params, images, labels, weights, progress) to a dictionary of tensors of shape (batch,): `loss`,
which training minimises in the mean, and whatever else is worth recording. `params` is what the model returned,
`weights` the member's own numbers by name (each a number or a scalar tensor), `progress` the number of steps done, a
scalar tensor: a warm-up is so many steps long, whatever the budget.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vaekit.distributions import Bernoulli, Gaussian

Objective = Callable[[dict, Tensor, Tensor | None, Mapping[str, Tensor], Tensor], dict[str, Tensor]]


def rate(posterior: Gaussian) -> Tensor:
    """R = KL(q(z|x) || N(0, I)) of each image, (batch,), in nats (Kingma & Welling 2014, appendix B)."""
    mu, logvar = posterior
    return (0.5 * (mu**2 + logvar.exp() - 1 - logvar)).flatten(1).sum(1)


def distortion(likelihood: Bernoulli | Gaussian, images: Tensor) -> Tensor:
    """D = -log p(x|z) of each image, (batch,), in nats, summed over the image's values."""
    return -likelihood.log_prob(images).flatten(1).sum(1)


def bernoulli_floor(images: Tensor) -> Tensor:
    """The least distortion that any Bernoulli likelihood can reach on each image, (batch,), in nats.

    A grey value x costs at least its own entropy -x log x - (1 - x) log(1 - x), at p = x: a floor that has nothing to
    do with the model, so D is reported beside it.
    """
    return -(torch.xlogy(images, images) + torch.xlogy(1 - images, 1 - images)).flatten(1).sum(1)


def beta_objective(params: dict, images: Tensor, labels, weights: Mapping, progress) -> dict[str, Tensor]:
    """D + beta * R (Higgins et al. 2017; Bozkurt et al. 2021, Eq. 1 with its sign turned), one value per image."""
    d, r = distortion(params["x"], images), rate(params["z"])
    return {"loss": d + weights["beta"] * r, "distortion": d, "rate": r}


OBJECTIVES: dict[str, Objective] = {"beta": beta_objective}
