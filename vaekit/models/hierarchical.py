"""The two-layer VAEs of study 2: the generalised top-down GHVAE and the Ladder VAE (arXiv 2302.04855, appendix A.1).

Both draw z2 from q(z2|x), then z1 from q(z1|x, z2), and decode z1 alone; the prior is p(z2) = N(0, I), p(z1|z2). They
differ in q(z1|x, z2). Two misprints of the paper's tables are read as its parameter counts and its authors' code
(github.com/timxzz/HIT) have them: "Share" of the GHVAE's q(z1|x, z2) is a convolution, and a transposed convolution on
the way of z2 is missing.
"""

from collections.abc import Iterator, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.models.convolution import Conv2d, ConvTranspose2d
from vaekit.models.vae import VAE

# Height and width of the images: the paper's channels, dimensions of z2 and likelihood.
PUBLISHED = {28: (16, 20, "bernoulli"), 32: (32, 32, "gaussian")}


class HierarchicalVAE(VAE):
    """Base of both models: q(z2|x), p(z1|z2) and p(x|z1); a subclass gives q(z1|x, z2).

    z1 is `channels` maps of 4 x 4 numbers; `decode` takes it, and z2 reaches the image through it alone. Standard
    deviations are the softplus of what a layer gives, those of q(z2|x) and p(z1|z2) in both models, as in the authors'
    code.

    Args:
        image_shape: (C, 28, 28) or (C, 32, 32).
        channels: of each convolution and of z1; None: the paper's, 16 for 28 x 28 (MNIST), else 32.
        latent_dim: dimensions of z2; None: the paper's, 20 or 32.
        likelihood: "bernoulli" or "gaussian"; None: the paper's, "bernoulli" for 28 x 28, else "gaussian".
        sigma: the Gaussian's standard deviation, in units of the images' [0, 1].
    """

    generative = ("decoder", "prior", "prior_mu", "prior_scale")

    def __init__(
        self,
        image_shape=(3, 32, 32),
        channels: int | None = None,
        latent_dim: int | None = None,
        likelihood: str | None = None,
        sigma: float = 0.71,
    ):
        image_channels, *sides = image_shape
        if sides not in ([28, 28], [32, 32]):
            raise ValueError(f"images are of shape {tuple(image_shape)}; these models take 28 x 28 or 32 x 32 pixels")
        published_channels, published_dim, published_likelihood = PUBLISHED[sides[0]]
        channels = published_channels if channels is None else channels
        latent_dim = published_dim if latent_dim is None else latent_dim
        if channels < 1:
            raise ValueError(f"channels is {channels}; give a number above 0, or None for the paper's")
        super().__init__(image_shape, 3, latent_dim, likelihood or published_likelihood, sigma)
        small = (channels, 4, 4)
        features = 16 * channels
        self.noise_sites = {"z2": (latent_dim,), "z1": small}
        # Between maps of a quarter of the image's side and those of 4 x 4: kernel, stride, padding.
        self.middle = (4, 2, 1) if sides[0] == 32 else (4, 1, 0)
        self.features = _quartering(image_channels, channels)
        self.encoder = nn.Sequential(Conv2d(channels, channels, *self.middle), nn.ReLU(), nn.Flatten())
        self.mu, self.scale = nn.Linear(features, latent_dim), nn.Linear(features, latent_dim)
        self.mu1, self.scale1 = Conv2d(channels, channels, 3, 1, 1), Conv2d(channels, channels, 3, 1, 1)
        self.prior = nn.Sequential(nn.Linear(latent_dim, features // 2), nn.ReLU())
        self.prior_mu, self.prior_scale = (
            nn.Sequential(nn.Linear(features // 2, features), nn.Unflatten(1, small)) for _ in range(2)
        )
        self.decoder = nn.Sequential(
            ConvTranspose2d(channels, channels, *self.middle),
            nn.ReLU(),
            ConvTranspose2d(channels, channels, 4, 2, 1),
            nn.ReLU(),
            ConvTranspose2d(channels, image_channels, 4, 2, 1),
        )
        self._add_posterior1(channels, latent_dim)

    def encode(self, x: Tensor) -> Gaussian:
        """The posterior q(z2|x) of each image, parameters of shape (batch, latent_dim)."""
        return self._posterior2(self.features(x))

    def encode_z1(self, x: Tensor, z2: Tensor) -> Gaussian:
        """The posterior q(z1|x, z2) of each image and a z2 of it, parameters of shape (batch, channels, 4, 4)."""
        return self._posterior1(x, self.features(x), z2, self.prior_of(z2))

    def prior_of(self, z2: Tensor) -> Gaussian:
        """p(z1|z2) of each z2, parameters of shape (batch, channels, 4, 4)."""
        h = self.prior(z2)
        return with_std(self.prior_mu(h), self.prior_scale(h))

    def forward(self, x: Tensor, noise: Mapping[str, Tensor]) -> dict:
        """Posteriors "z2" and "z1", "prior1" = p(z1|z2) at the sample of z2, likelihood "x" at the sample of z1."""
        features = self.features(x)
        q2 = self._posterior2(features)
        z2 = q2.sample(noise["z2"])
        prior1 = self.prior_of(z2)
        q1 = self._posterior1(x, features, z2, prior1)
        return {"z2": q2, "z1": q1, "prior1": prior1, "x": self.decode(q1.sample(noise["z1"]))}

    def generate(self, noise: Mapping[str, Tensor]) -> Bernoulli | Gaussian:
        """The likelihood at samples of the prior: z2 is its noise, z1 is drawn from p(z1|z2)."""
        return self.decode(self.prior_of(noise["z2"]).sample(noise["z1"]))

    def walk(self, x: Tensor, noise: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """The named layers on the way of x, in order: "input", "mu2", "z2" (a sample), "mu1", "z1", "output"."""
        yield "input", x
        params = self(x, noise)
        for layer in ("2", "1"):
            q = params[f"z{layer}"]
            yield f"mu{layer}", q.mu
            yield f"z{layer}", q.sample(noise[f"z{layer}"])
        yield "output", params["x"].mean

    def _posterior2(self, features: Tensor) -> Gaussian:
        h = self.encoder(features)
        return with_std(self.mu(h), self.scale(h))

    def _add_posterior1(self, width: int, latent_dim: int) -> None:
        """Set the layers of q(z1|x, z2) that come before mu1 and scale1."""
        raise NotImplementedError

    def _posterior1(self, x: Tensor, features: Tensor, z2: Tensor, prior1: Gaussian) -> Gaussian:
        """q(z1|x, z2), given what is available: the features of x that q(z2|x) sees, and p(z1|z2)."""
        raise NotImplementedError


class GHVAE(HierarchicalVAE):
    """The generalised top-down VAE (Table 2): q(z1|x, z2) is a network of its own that sees both x and z2."""

    def _add_posterior1(self, width: int, latent_dim: int) -> None:
        self.features1 = _quartering(self.image_shape[0], width)
        self.spread = nn.Sequential(
            nn.Linear(latent_dim, 16 * width),
            nn.ReLU(),
            nn.Unflatten(1, (width, 4, 4)),
            ConvTranspose2d(width, width, *self.middle),
            nn.ReLU(),
        )
        self.merge = nn.Sequential(Conv2d(2 * width, width, *self.middle), nn.ReLU())

    def _posterior1(self, x: Tensor, features: Tensor, z2: Tensor, prior1: Gaussian) -> Gaussian:
        h = self.merge(torch.cat((self.spread(z2), self.features1(x)), dim=1))
        return with_std(self.mu1(h), self.scale1(h))


class LVAE(HierarchicalVAE):
    """The Ladder VAE (Table 3): q(z1|x, z2) weighs what x says by its precision against p(z1|z2).

    What x says, N(mu, v), comes from the features that q(z2|x) sees; v itself is a softplus, a variance, as in the
    authors' code. 28 x 28 images are not in the paper's table; they take the GHVAE's strides.
    """

    def _add_posterior1(self, width: int, latent_dim: int) -> None:
        self.involved = nn.Sequential(Conv2d(width, width, *self.middle), nn.ReLU())

    def _posterior1(self, x: Tensor, features: Tensor, z2: Tensor, prior1: Gaussian) -> Gaussian:
        h = self.involved(features)
        return precision_weighted(Gaussian(self.mu1(h), log_softplus(self.scale1(h))), prior1)


def precision_weighted(a: Gaussian, b: Gaussian) -> Gaussian:
    """The normalised product of two Gaussians, elementwise: precisions add up and weigh the means.

    Sønderby et al. 2016, computed on log-variances, so that no variance under- or overflows.
    """
    weight = (b.logvar - a.logvar).sigmoid()  # of a: its share of the precision
    return Gaussian(b.mu + weight * (a.mu - b.mu), b.logvar + F.logsigmoid(a.logvar - b.logvar))


def with_std(mu: Tensor, raw: Tensor) -> Gaussian:
    """The Gaussian whose standard deviation is softplus(raw), elementwise."""
    return Gaussian(mu, 2 * log_softplus(raw))


def log_softplus(raw: Tensor) -> Tensor:
    """log(log(1 + exp(raw))), elementwise, within 2e-9; linear below -20, so nothing underflows and no floor is set."""
    return F.softplus(raw.clamp(min=-20)).log() - F.relu(-20 - raw)


def _quartering(image_channels: int, channels: int) -> nn.Sequential:
    """Two stride-2 convolutions: images to maps of a quarter of their side."""
    first, second = Conv2d(image_channels, channels, 4, 2, 1), Conv2d(channels, channels, 4, 2, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())
