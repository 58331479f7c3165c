"""Distributions and losses against torch.distributions, floors, reductions, and that beta means what it says."""

import math

import pytest
import torch
import torch.distributions as td

from vaekit.distributions import Bernoulli, Gaussian, as_float
from vaekit.losses import OBJECTIVES, bernoulli_floor, beta_objective, distortion, rate


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def gaussian():
    return Gaussian(draw(4, 3, seed=1), draw(4, 3, seed=2))


def test_rate_is_torch_s_kl(gaussian):
    q = td.Normal(gaussian.mu, (gaussian.logvar / 2).exp())
    expected = td.kl_divergence(q, td.Normal(torch.zeros(4, 3).double(), 1.0)).sum(1)
    torch.testing.assert_close(rate(gaussian), expected, rtol=1e-12, atol=1e-12)


def test_rate_is_zero_at_the_prior_and_positive_elsewhere(gaussian):
    assert torch.equal(rate(Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))), torch.zeros(2))
    assert (rate(gaussian) > 0).all()


def test_densities_are_torch_s(gaussian):
    value = draw(4, 3, seed=3)
    expected = td.Normal(gaussian.mu, (gaussian.logvar / 2).exp()).log_prob(value)
    torch.testing.assert_close(gaussian.log_prob(value), expected, rtol=1e-12, atol=1e-12)
    logits, ones = 5 * draw(4, 3, seed=4), (value > 0).double()
    expected = td.Bernoulli(logits=logits).log_prob(ones)
    torch.testing.assert_close(Bernoulli(logits).log_prob(ones), expected, rtol=1e-12, atol=1e-12)
    p = Bernoulli(logits).mean
    grey = torch.sigmoid(value)  # grey values are probabilities: the cross-entropy
    expected = grey * p.log() + (1 - grey) * (1 - p).log()
    torch.testing.assert_close(Bernoulli(logits).log_prob(grey), expected, rtol=1e-9, atol=1e-9)


def test_samples_have_the_gaussian_s_moments(gaussian):
    noise = draw(100_000, 4, 3, seed=5)
    z = gaussian.sample(noise)
    sd = (gaussian.logvar / 2).exp()
    torch.testing.assert_close(z, gaussian.mu + sd * noise)
    assert ((z.mean(0) - gaussian.mean).abs() < 5 * sd / 100_000**0.5).all()


def test_logits_far_out_cost_what_they_say_and_no_nan():
    logits = torch.tensor([[1e4, -1e4, 1e4, -1e4]])
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    assert distortion(Bernoulli(logits), x).tolist() == [2e4]


@pytest.mark.parametrize("likelihood", [Bernoulli, lambda m: Gaussian(m, torch.tensor(0.3).double())])
def test_distortion_sums_over_all_values_and_never_over_images(likelihood):
    out, x = draw(5, 2, 3, 4, seed=6), torch.sigmoid(draw(5, 2, 3, 4, seed=7))
    found = distortion(likelihood(out), x)
    by_hand = [sum(-likelihood(a).log_prob(b) for a, b in zip(o.flatten(), i.flatten(), strict=True)) for o, i in
               zip(out, x, strict=True)]  # fmt: skip
    assert found.shape == (5,)
    torch.testing.assert_close(found, torch.stack(by_hand))
    # an image of twice as many values, each of them twice there, costs twice as much
    torch.testing.assert_close(distortion(likelihood(torch.cat((out, out), 1)), torch.cat((x, x), 1)), 2 * found)


def test_a_gaussian_s_distortion_at_its_mean_is_the_constant_that_sigma_sets():
    sigma = 0.1
    x = torch.rand(2, 1, 4, 4, dtype=torch.float64)
    at_mean = distortion(Gaussian(x, torch.tensor(2 * math.log(sigma)).double()), x)
    torch.testing.assert_close(at_mean, torch.full((2,), 16 * math.log(sigma * math.sqrt(2 * math.pi))).double())


def test_the_floor_is_the_distortion_at_the_image_itself_and_nothing_goes_below():
    x = torch.rand(3, 1, 4, 4, dtype=torch.float64).clamp(0.01, 0.99)
    at_x = distortion(Bernoulli(torch.logit(x)), x)
    torch.testing.assert_close(bernoulli_floor(x), at_x)
    for seed in range(5):
        assert (distortion(Bernoulli(torch.logit(x) + 0.3 * draw(3, 1, 4, 4, seed=seed)), x) > at_x).all()
    assert bernoulli_floor(torch.tensor([[[[0.0, 1.0]]]])).tolist() == [0.0]  # black and white can be had for nothing
    assert bernoulli_floor(torch.tensor([[[[0.5, 0.5]]]])).item() == pytest.approx(2 * math.log(2))


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0, 7.0])
def test_beta_weighs_the_rate(gaussian, beta):
    x = torch.sigmoid(draw(4, 1, 2, 2, seed=8))
    params = {"z": gaussian, "x": Bernoulli(draw(4, 1, 2, 2, seed=9))}
    weight = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    values = beta_objective(params, x, None, {"beta": weight}, torch.tensor(0.0))
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(("loss", "distortion", "rate"), (4,))
    torch.testing.assert_close(values["loss"], values["distortion"] + beta * values["rate"])
    for image in range(4):  # d loss / d beta = rate, image by image: an ignored or rescaled beta fails here
        (slope,) = torch.autograd.grad(values["loss"][image], weight, retain_graph=True)
        torch.testing.assert_close(slope, values["rate"][image])


def test_at_beta_1_the_loss_bounds_the_evidence_of_a_linear_gaussian_model():
    # p(z) = N(0, 1), p(x|z) = N(z, s^2): with the exact posterior, D + R is -log N(x; 0, 1 + s^2) in expectation.
    s2, x = 0.25, torch.tensor([[0.7], [-1.3]], dtype=torch.float64)
    posterior = Gaussian(x / (1 + s2), torch.full_like(x, math.log(s2 / (1 + s2))))
    evidence = td.Normal(0.0, (1 + s2) ** 0.5).log_prob(x)[:, 0]
    noise = draw(2, 100_000, seed=10)

    def loss(q):
        z = q.sample(noise).unsqueeze(-1)
        d = torch.stack([distortion(Gaussian(zi, torch.tensor(math.log(s2)).double()), xi.expand_as(zi)).mean()
                         for zi, xi in zip(z, x, strict=True)])  # fmt: skip
        return d + rate(q)

    torch.testing.assert_close(loss(posterior), -evidence, rtol=0, atol=0.02)
    assert (loss(Gaussian(posterior.mu + 0.3, posterior.logvar)) > -evidence).all()


def test_as_float_raises_only_what_is_below_float32():
    params = {"z": Gaussian(torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float16)),
              "x": Bernoulli(torch.ones(2, dtype=torch.float64))}  # fmt: skip
    raised = as_float(params)
    assert [t.dtype for t in (*raised["z"], *raised["x"])] == [torch.float32, torch.float32, torch.float64]
    assert isinstance(raised["z"], Gaussian)


def test_objectives_are_known_by_name():
    assert OBJECTIVES["beta"] is beta_objective
