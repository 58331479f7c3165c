"""The GHVAE and the LVAE: the paper's sizes, what each layer is fed, the softplus heads, and samples of the prior."""

import math

import pytest
import torch
from torch import nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.losses import gaussian_kl
from vaekit.models import build
from vaekit.models.hierarchical import log_softplus, precision_weighted, with_std

COLOUR, MNIST = (3, 32, 32), (1, 28, 28)
BOTH = pytest.mark.parametrize("family", ["ghvae", "lvae"])


def small(family, shape=MNIST, **arguments):
    torch.manual_seed(5)
    return build(family, shape, **{"channels": 2, "latent_dim": 3} | arguments).double()


def images(shape=MNIST, batch=4):
    return torch.rand(batch, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noise_for(model, batch=4):
    generator = torch.Generator().manual_seed(2)
    sites = model.noise_sites.items()
    return {site: torch.randn((batch, *shape), generator=generator, dtype=torch.float64) for site, shape in sites}


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(
    ("family", "shape", "parameters"),
    [("ghvae", COLOUR, 475_811), ("ghvae", MNIST, 122_713), ("lvae", COLOUR, 408_131)],
)
def test_the_paper_s_sizes(family, shape, parameters):
    # Tables 2 and 3 of arXiv 2302.04855; sigma is a buffer and no parameter.
    model = build(family, shape)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.logvar_x.item() == pytest.approx(2 * math.log(0.71))


@BOTH
@pytest.mark.parametrize("shape", [COLOUR, MNIST, (1, 32, 32)])
def test_the_paper_s_latents_and_likelihood(family, shape):
    model = build(family, shape)
    channels, latent_dim = (16, 20) if shape == MNIST else (32, 32)
    assert model.noise_sites == {"z2": (latent_dim,), "z1": (channels, 4, 4)}
    assert model.likelihood == ("bernoulli" if shape == MNIST else "gaussian")
    prior1 = model.prior_of(torch.zeros(2, latent_dim))
    assert prior1.mu.shape == prior1.logvar.shape == (2, channels, 4, 4)


@BOTH
def test_what_is_given_replaces_the_paper_s(family):
    model = build(family, MNIST, channels=3, latent_dim=5, likelihood="gaussian", sigma=0.2)
    assert model.noise_sites == {"z2": (5,), "z1": (3, 4, 4)}
    x = model.decode(torch.zeros(2, 3, 4, 4))
    assert isinstance(x, Gaussian)
    assert x.logvar.item() == pytest.approx(2 * math.log(0.2))
    model = build(family, COLOUR, channels=2, likelihood="bernoulli")
    assert isinstance(model.decode(torch.zeros(1, 2, 4, 4)), Bernoulli)
    assert model.noise_sites["z2"] == (32,)


@BOTH
@pytest.mark.parametrize("shape", [COLOUR, MNIST])
def test_forward_is_its_parts(family, shape):
    model, x = small(family, shape), images(shape)
    noise = noise_for(model)
    params = model(x, noise)
    assert same(params["z2"], model.encode(x))
    z2 = params["z2"].sample(noise["z2"])
    assert same(params["prior1"], model.prior_of(z2))
    assert same(params["z1"], model.encode_z1(x, z2))
    assert same(params["x"], model.decode(params["z1"].sample(noise["z1"])))
    assert list(model.representations(x, noise)) == ["input", "mu2", "z2", "mu1", "z1", "output"]


@BOTH
def test_z1_sees_both_x_and_z2(family):
    model, x = small(family), images()
    z2 = noise_for(model)["z2"]
    q = model.encode_z1(x, z2)
    assert not torch.allclose(q.mu[0], model.encode_z1(x[:1], z2[:1] + 1).mu[0])
    assert not torch.allclose(q.mu[0], model.encode_z1(1 - x[:1], z2[:1]).mu[0])


def constant(layer, value):
    """Let a layer give one number, whatever it is fed."""
    layer = layer[0] if isinstance(layer, nn.Sequential) else layer
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)


@BOTH
def test_softplus_is_a_standard_deviation_and_in_the_lvae_s_z1_a_variance(family):
    model, x = small(family), images()
    for layer, raw in ((model.scale, -1.5), (model.prior_scale, 0.5), (model.scale1, -0.7)):
        constant(layer, raw)
    softplus = {raw: math.log1p(math.exp(raw)) for raw in (-1.5, 0.5, -0.7)}
    params = model(x, noise_for(model))
    variance = {name: params[name].logvar.exp() for name in ("z2", "z1", "prior1")}
    z1 = softplus[-0.7] ** 2 if family == "ghvae" else 1 / (1 / softplus[-0.7] + 1 / softplus[0.5] ** 2)
    for name, expected in {"z2": softplus[-1.5] ** 2, "prior1": softplus[0.5] ** 2, "z1": z1}.items():
        torch.testing.assert_close(variance[name], torch.full_like(variance[name], expected), rtol=1e-8, atol=0)


def test_the_lvae_weighs_what_x_says_against_the_prior_by_precision():
    model, x = small("lvae"), images()
    z2 = noise_for(model)["z2"]
    constant(model.mu1, 3.0)
    constant(model.prior_mu, -1.0)
    constant(model.scale1, math.log(math.expm1(0.5)))  # x says N(3, 0.5)
    constant(model.prior_scale, math.log(math.expm1(0.5)))  # the prior is N(-1, 0.25): precisions 2 and 4
    q = model.encode_z1(x, z2)
    torch.testing.assert_close(q.mu, torch.full_like(q.mu, (2 * 3 + 4 * -1) / 6), rtol=1e-8, atol=0)
    torch.testing.assert_close(q.logvar.exp(), torch.full_like(q.mu, 1 / 6), rtol=1e-8, atol=0)
    constant(model.scale1, 1e9)  # an x that says nothing leaves the prior, and a rate of nothing
    params = model(x, noise_for(model))
    assert gaussian_kl(params["z1"], params["prior1"]).max() < 1e-6
    constant(model.scale1, -1e3)  # one that says all leaves itself
    q = model.encode_z1(x, z2)
    assert torch.equal(q.mu, torch.full_like(q.mu, 3.0))
    assert q.logvar.max().item() == pytest.approx(-1e3, rel=1e-6)


def test_precision_weighting_by_hand_and_by_its_own_rules():
    a = Gaussian(torch.tensor([1.0, 0.0, 5.0]), torch.tensor([4.0, 1.0, 0.2]).log())
    b = Gaussian(torch.tensor([3.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 0.3]).log())
    product = precision_weighted(a, b)
    torch.testing.assert_close(product.mu, torch.tensor([(1 / 4 + 3) / (1 / 4 + 1), 0.0, 5.0]))
    torch.testing.assert_close(product.logvar.exp(), torch.tensor([0.8, 0.5, 0.12]))
    for one, other in zip(product, precision_weighted(b, a), strict=True):
        torch.testing.assert_close(one, other)
    z = torch.linspace(-2, 6, 5).unsqueeze(1)  # the product of the densities, but for a constant
    ratio = a.log_prob(z) + b.log_prob(z) - product.log_prob(z)
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_softplus_is_right_far_out(dtype):
    raw = torch.tensor([-700.0, -100, -50, -20.5, -20, -19.5, -5, 0, 3, 19, 30, 1e4], dtype=dtype, requires_grad=True)
    expected = [math.log(math.log1p(math.exp(a)) if a < 500 else a) for a in raw.tolist()]
    values = log_softplus(raw)
    rtol = {torch.float32: 1e-6, torch.float64: 1e-14}[dtype]
    torch.testing.assert_close(values, torch.tensor(expected, dtype=dtype), rtol=rtol, atol=2e-9)
    (slope,) = torch.autograd.grad(values.sum(), raw)
    true = torch.tensor([1 / (1 + math.exp(-a)) / math.exp(e) if a > -300 else 1.0 for a, e in
                         zip(raw.tolist(), expected, strict=True)], dtype=dtype)  # fmt: skip
    torch.testing.assert_close(slope, true, rtol=1e-6, atol=1e-8)
    extreme = torch.tensor([-1e4, -1e30], dtype=dtype)
    torch.testing.assert_close(log_softplus(extreme), extreme, rtol=0, atol=2e-9)
    torch.testing.assert_close(with_std(raw, raw).logvar, 2 * values)


def with_linear_prior(family, slope, offset, sd):
    """A model whose p(z1|z2) is N(slope * z2 + offset, sd^2), elementwise, for one z2, and whose decoder is none."""
    model = small(family, channels=1, latent_dim=1, likelihood="gaussian")
    hidden = model.prior[0]
    nn.init.zeros_(hidden.weight)
    nn.init.zeros_(hidden.bias)
    hidden.weight.data[:2, 0] = torch.tensor([1.0, -1.0])  # relu(z) - relu(-z) = z
    constant(model.prior_mu, offset)
    model.prior_mu[0].weight.data[:, 0], model.prior_mu[0].weight.data[:, 1] = slope, -slope
    constant(model.prior_scale, math.log(math.expm1(sd)))
    model.decoder = nn.Identity()
    return model


@BOTH
def test_generate_s_marginal_is_the_prior_s(family):
    # z1 = a z2 + b + s e has mean b, variance a^2 + s^2 and, over its elements, covariance a_i a_j.
    slope = torch.linspace(-1, 2, 16, dtype=torch.float64)
    model, n = with_linear_prior(family, slope, 0.7, 0.5), 100_000
    noise = noise_for(model, n)
    samples = model.generate(noise).mean.flatten(1)
    torch.testing.assert_close(samples, (noise["z2"] * slope + 0.7 + 0.5 * noise["z1"].flatten(1)))
    covariance = slope.outer(slope) + 0.25 * torch.eye(16)
    assert ((samples.mean(0) - 0.7).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()
    error = ((covariance**2 + covariance.diagonal().outer(covariance.diagonal())) / n).sqrt()
    assert ((samples.T.cov() - covariance).abs() < 5 * error).all()


@BOTH
def test_generate_decodes_a_sample_of_the_prior(family):
    model = small(family)
    noise = noise_for(model)
    z1 = model.prior_of(noise["z2"]).sample(noise["z1"])
    assert same(model.generate(noise), model.decode(z1))
