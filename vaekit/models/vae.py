"""The dense and the convolutional VAE of studies 1 and 3.

A model returns distribution parameters and the sample that links them: `forward(x, noise)` gives {"z": posterior,
"sample": the latent drawn from it, "x": likelihood at that latent}. It knows no loss, no optimiser and no device.
Measures use `encode`, `decode`, `walk` and `representations`.

Shape: images x are (batch, C, H, W) in [0, 1], `noise[site]` is (batch, *noise_sites[site]).
"""

import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.models.convolution import Conv2d, ConvTranspose2d

LIKELIHOODS = ("bernoulli", "gaussian")


class VAE(nn.Module):
    """What the dense and the convolutional VAE share: an encoder and a decoder network around one Gaussian latent.

    A subclass sets `encoder` (images to features), `mu` and `logvar` (features to the latent's parameters) and
    `decoder` (latents to logits or means of the shape of the images).

    Args:
        image_shape: (C, H, W).
        depth: layers of the encoder, and of its mirror.
        latent_dim: dimensions of the latent z.
        likelihood: "bernoulli" (on logits) or "gaussian" (mean, with one fixed standard deviation).
        sigma: that standard deviation, in units of the images' [0, 1]; unused by "bernoulli".
    """

    generative: ClassVar[tuple[str, ...]] = ("decoder",)  # the modules that `decode` and `generate` need
    encoder: nn.Sequential
    decoder: nn.Sequential
    mu: nn.Linear
    logvar: nn.Linear
    logvar_x: Tensor

    def __init__(self, image_shape: tuple[int, int, int], depth: int, latent_dim: int, likelihood: str, sigma: float):
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise ValueError(f"likelihood is {likelihood!r}; use one of {', '.join(LIKELIHOODS)}")
        if sigma <= 0 or latent_dim < 1 or depth < 1:
            raise ValueError(f"sigma is {sigma}, latent_dim {latent_dim}, depth {depth}; give them above 0")
        self.image_shape = tuple(image_shape)
        self.noise_sites = {"z": (latent_dim,)}
        self.likelihood = likelihood
        # sigma belongs to the saved model: a distortion means nothing without it.
        self.register_buffer("logvar_x", torch.tensor(2 * math.log(sigma)))

    def encode(self, x: Tensor) -> Gaussian:
        """The posterior q(z|x) of each image, parameters of shape (batch, latent_dim)."""
        features = self.encoder(x)
        return Gaussian(self.mu(features), self.logvar(features))

    def decode(self, z: Tensor) -> Bernoulli | Gaussian:
        """The likelihood p(x|z) of each latent, parameters of shape (batch, C, H, W)."""
        return self.likelihood_of(self.decoder(z))

    def likelihood_of(self, out: Tensor) -> Bernoulli | Gaussian:
        """The likelihood whose logits, or means, are the decoder's output, of the same shape."""
        return Bernoulli(out) if self.likelihood == "bernoulli" else Gaussian(out, self.logvar_x)

    def forward(self, x: Tensor, noise: Mapping[str, Tensor]) -> dict:
        """{"z": the posterior of each image, "sample": a latent of each, "x": the likelihood at it}."""
        q = self.encode(x)
        z = q.sample(noise["z"])
        return {"z": q, "sample": z, "x": self.decode(z)}

    def generate(self, noise: Mapping[str, Tensor]) -> Bernoulli | Gaussian:
        """The likelihood at samples of the prior: `noise`, standard normal, is the latent."""
        return self.decode(noise["z"])

    def representations(self, x: Tensor, noise: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """All named layers of `walk` at once, by name and in order."""
        return dict(self.walk(x, noise))

    def walk(self, x: Tensor, noise: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The named layers on the way of x, in order: what comes out of each block, the latent, the output.

        "input", "encoder1", …, "mu", "logvar", "z" (a sample), "decoder1", …, "output" (the likelihood's mean). Each is
        computed when it is asked for, and of the large ones only the last is kept.
        """
        yield "input", x
        h = yield from _walk(self.encoder, x, "encoder")
        q = Gaussian(self.mu(h), self.logvar(h))
        del h
        z = q.sample(noise["z"])
        yield from (("mu", q.mu), ("logvar", q.logvar), ("z", z))
        out = yield from _walk(self.decoder, z, "decoder")
        yield "output", self.likelihood_of(out).mean


class DenseVAE(VAE):
    """Mirrored fully connected ReLU encoder and decoder (Bozkurt et al. 2021, section 4.3).

    `depth` hidden layers of `hidden` units on either side of the latent.
    """

    def __init__(
        self, image_shape=(3, 32, 32), depth=1, hidden=512, latent_dim=10, likelihood="bernoulli", sigma: float = 1.0
    ):
        super().__init__(image_shape, depth, latent_dim, likelihood, sigma)
        pixels = math.prod(image_shape)
        self.encoder = nn.Sequential(nn.Flatten(), *_dense_stack([pixels] + [hidden] * depth))
        self.mu, self.logvar = nn.Linear(hidden, latent_dim), nn.Linear(hidden, latent_dim)
        self.decoder = nn.Sequential(
            *_dense_stack([latent_dim] + [hidden] * depth),
            nn.Linear(hidden, pixels),
            nn.Unflatten(1, tuple(image_shape)),
        )


class ConvVAE(VAE):
    """`depth` stride-2 convolutions (kernel 4, padding 1), a linear latent, and the mirror of them.

    Study 3 (Bozkurt et al. 2021, section 4.3): 64 channels and ReLU; padding 1, the linear heads and the mirrored
    decoder are ours, where the paper is silent. Study 1 (its authors' code): channels (64, 128, 256, 256), `batch_norm`
    and `slope=0.2`, a LeakyReLU. `channels` is one number or one for each layer; H and W are multiples of 2**depth.
    """

    def __init__(
        self,
        image_shape=(3, 32, 32),
        depth=3,
        channels: int | Sequence[int] = 64,
        latent_dim=10,
        likelihood="bernoulli",
        sigma: float = 1.0,
        batch_norm=False,
        slope: float = 0.0,
    ):
        super().__init__(image_shape, depth, latent_dim, likelihood, sigma)
        image_channels, height, width = image_shape
        if height % 2**depth or width % 2**depth:
            raise ValueError(f"images are {height} x {width}; {depth} stride-2 layers want multiples of {2**depth}")
        widths = [channels] * depth if isinstance(channels, int) else list(channels)
        if len(widths) != depth:
            raise ValueError(f"channels is {channels} for depth {depth}; give one number, or one for each layer")

        def block(layer: nn.Module, width: int, norm: type[nn.Module]) -> list[nn.Module]:
            return [layer, *([norm(width)] if batch_norm else []), nn.LeakyReLU(slope) if slope else nn.ReLU()]

        small = (widths[-1], height // 2**depth, width // 2**depth)
        features = math.prod(small)
        # A single layer gains less by another layout than the copies to and from it cost.
        convolution = Conv2d if depth > 1 else nn.Conv2d
        down = [block(convolution(i, o, 4, 2, 1), o, nn.BatchNorm2d) for i, o in pairwise([image_channels, *widths])]
        self.encoder = nn.Sequential(*chain(*down), nn.Flatten())
        self.mu, self.logvar = nn.Linear(features, latent_dim), nn.Linear(features, latent_dim)
        up = [block(ConvTranspose2d(i, o, 4, 2, 1), o, nn.BatchNorm2d) for i, o in pairwise(widths[::-1])]
        self.decoder = nn.Sequential(
            *block(nn.Linear(latent_dim, features), features, nn.BatchNorm1d),
            nn.Unflatten(1, small),
            *chain(*up),
            ConvTranspose2d(widths[0], image_channels, 4, 2, 1),
        )


def _dense_stack(widths: list[int]) -> list[nn.Module]:
    return [layer for i, o in pairwise(widths) for layer in (nn.Linear(i, o), nn.ReLU())]


def _walk(network: nn.Sequential, h: Tensor, name: str) -> Generator[tuple[str, Tensor], None, Tensor]:
    """Run a network, yield what comes out of each nonlinearity as <name>1, <name>2, …; return what comes out of all."""
    number = 0
    for layer in network:
        h = layer(h)
        if isinstance(layer, nn.ReLU | nn.LeakyReLU):
            number += 1
            yield f"{name}{number}", h
    return h
