"""The two distributions that these models return, as their parameters.

They are named tuples of tensors, so that `torch.func.vmap` sees through them, and know only how to draw a sample from
noise that is given and what the log-density of a value is. Rates and distortions are in `losses`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._pytree import tree_map


class Gaussian(NamedTuple):
    """A diagonal Gaussian: mean and log-variance, of one shape or broadcasting to one."""

    mu: Tensor
    logvar: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean, of the shape of mu."""
        return self.mu

    def sample(self, noise: Tensor) -> Tensor:
        """mu + sd * noise, for standard normal noise of the shape of mu (the reparameterisation trick)."""
        return self.mu + (0.5 * self.logvar).exp() * noise

    def log_prob(self, value: Tensor) -> Tensor:
        """Elementwise log-density in nats."""
        return -0.5 * ((value - self.mu) ** 2 * self.precision + self.logvar + math.log(2 * math.pi))

    @property
    def precision(self) -> Tensor:
        """1 / variance, of the shape of logvar; finite, so that no deviation times it is none."""
        return (-self.logvar).clamp(max=0.99 * math.log(torch.finfo(self.logvar.dtype).max)).exp()


class Bernoulli(NamedTuple):
    """A Bernoulli variable in each element, by its logit: grey values in [0, 1] are taken as probabilities."""

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """The probability of 1, of the shape of the logits."""
        return self.logits.sigmoid()

    def log_prob(self, value: Tensor) -> Tensor:
        """value * log p + (1 - value) * log(1 - p), in nats, computed on the logits so that no log(0) can occur."""
        return -F.binary_cross_entropy_with_logits(self.logits, value, reduction="none")


def as_float(params):
    """The same parameters with every tensor below float32 raised to it, so that losses are never taken in bf16.

    What is no tensor stays as it is.
    """
    low = (torch.bfloat16, torch.float16)
    return tree_map(lambda value: value.float() if getattr(value, "dtype", None) in low else value, params)
