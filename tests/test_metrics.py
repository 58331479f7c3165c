"""Measures on answers that are known: mixtures by numeric integration, a case by hand, and independence of batches."""

import math

import pytest
import torch
from tiny import posterior as components

from vaekit import randomness
from vaekit.distributions import Gaussian
from vaekit.fleet import Budget, grid, train_fleet
from vaekit.losses import bernoulli_floor, beta_objective, rate
from vaekit.metrics import (
    class_information,
    encode,
    evaluate,
    floor,
    information,
    log_likelihood,
    mean_and_se,
    rd_table,
)
from vaekit.metrics.information import log_density
from vaekit.models import GHVAE, ConvVAE, DenseVAE

SHAPE = (1, 8, 8)
IMAGES = (randomness.uniform(1, randomness.FACTORS, 0, "test images", (30, *SHAPE)) * 256).to(torch.uint8)
ESTIMATORS = ("exact", "batch")


def integrals(posterior):
    """Mutual information and marginal KL of a 1-D mixture, by numeric integration in nats."""
    z = torch.linspace(-40, 40, 400_001, dtype=torch.float64)
    parts = [Gaussian(m, s).log_prob(z) for m, s in zip(*posterior, strict=True)]
    log_q = torch.stack(parts).logsumexp(0) - math.log(len(parts))
    mi = sum(torch.trapezoid(p.exp() * (p - log_q), z) for p in parts) / len(parts)
    prior = Gaussian(torch.tensor(0.0), torch.tensor(0.0)).log_prob(z)
    return mi.item(), torch.trapezoid(log_q.exp() * (log_q - prior), z).item()


@pytest.mark.parametrize("draw", [0, 3, None])
@pytest.mark.parametrize("make", [lambda: DenseVAE(SHAPE, 1, 16, 3), lambda: ConvVAE(SHAPE, 1, 4, 3, batch_norm=True)])
def test_evaluate_depends_neither_on_batches_nor_on_company(make, draw):
    model, rows = make().double().eval(), torch.arange(100, 130)
    whole = evaluate(model, IMAGES, rows, seed=5, draw=draw)
    assert whole["distortion"].shape == whole["rate"].shape == (30,)
    for batch_size in (1, 7, 30):
        cut = evaluate(model, IMAGES, rows, seed=5, draw=draw, batch_size=batch_size)
        for name in whole:
            torch.testing.assert_close(cut[name], whole[name], rtol=1e-12, atol=1e-12)
    chosen = torch.tensor([29, 0, 13])
    few = evaluate(model, IMAGES[chosen], rows[chosen], seed=5, draw=draw)
    torch.testing.assert_close(few["distortion"], whole["distortion"][chosen], rtol=1e-12, atol=1e-12)


def test_evaluate_is_the_loss_s_distortion_and_rate_in_double_precision():
    model, rows = DenseVAE(SHAPE, 1, 16, 3).eval(), torch.arange(30)
    measured = evaluate(model, IMAGES, rows, seed=5, draw=2)
    noise = {"z": randomness.normal_rows(5, randomness.EVALUATION, 2, "z", rows, (3,))}
    with torch.no_grad():
        expected = beta_objective(model(IMAGES / 255, noise), IMAGES / 255, None, {"beta": 1}, None)
    for name, values in measured.items():
        assert values.dtype == torch.float64
        torch.testing.assert_close(values.float(), expected[name], rtol=1e-5, atol=1e-5)
    others = [evaluate(model, IMAGES, rows, seed, draw)["distortion"] for seed, draw in ((5, 3), (6, 2), (5, None))]
    assert not any(torch.equal(measured["distortion"], other) for other in others)
    at_mean = model.decode(model.encode(IMAGES / 255).mu)
    torch.testing.assert_close(others[2].float(), -at_mean.log_prob(IMAGES / 255).flatten(1).sum(1).detach())


def test_the_floor_of_bytes_is_the_floor_by_its_formula():
    x = IMAGES.double() / 255
    expected = -(torch.xlogy(x, x) + torch.xlogy(1 - x, 1 - x)).sum((1, 2, 3))
    torch.testing.assert_close(floor(IMAGES, batch_size=7), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(floor(IMAGES), bernoulli_floor(x), rtol=1e-12, atol=1e-12)
    assert floor(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 1, 2)).tolist() == [0.0]


def test_mean_and_se():
    values = torch.tensor([1.0, 2.0, 3.0, 6.0])
    assert mean_and_se(values) == pytest.approx((3.0, math.sqrt((4 + 1 + 0 + 9) / 3 / 4)))
    assert mean_and_se(values[:1]) == (1.0, 0.0)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_codes_that_are_all_the_same_tell_nothing(estimator):
    estimate = information(components([[0.5, -1.0]] * 300, 0.3), seed=0, estimator=estimator, batch_size=100)
    assert estimate.mutual_information == pytest.approx(0, abs=1e-10)
    assert estimate.ceiling == pytest.approx(math.log(300))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_codes_far_apart_tell_the_image(estimator):
    posterior = components(torch.arange(400) * 100.0, 0.5)
    estimate = information(posterior, seed=1, estimator=estimator, batch_size=100)
    assert estimate.mutual_information == pytest.approx(math.log(400), abs=1e-6)  # the ceiling, from batches of 100 too
    assert estimate.mutual_information_se == pytest.approx(0, abs=1e-6)
    assert estimate.n == 400


@pytest.mark.parametrize(("spread", "sd"), [(1.0, 0.5), (3.0, 0.4), (0.3, 1.0)])
def test_a_mixture_on_a_line_against_numeric_integration(spread, sd):
    posterior = components(spread * torch.randn(40, generator=torch.Generator().manual_seed(2)).double(), sd)
    mi, kl = integrals(posterior)
    rates = rate(posterior)
    assert mi + kl == pytest.approx(rates.mean().item(), abs=1e-6)  # Eq. 5 itself, by integration
    many = [information(posterior, seed) for seed in range(100)]  # 40 samples each
    for name, truth in (("mutual_information", mi), ("marginal_kl", kl)):
        values = torch.tensor([getattr(estimate, name) for estimate in many], dtype=torch.float64)
        assert values.mean().item() == pytest.approx(truth, abs=5 * values.std().item() / 10)
        typical = torch.tensor([getattr(estimate, f"{name}_se") for estimate in many]).mean()
        assert 0.2 * typical < values.std() < 1.5 * typical  # one sample a component spreads less than n at random
    # a batch of all images is the exact estimator; smaller ones overshoot
    whole = [information(posterior, seed, "batch", batch_size=40) for seed in range(3)]
    for a, b in zip(whole, many, strict=False):
        assert a.mutual_information == pytest.approx(b.mutual_information, rel=1e-9)
        assert a.marginal_kl == pytest.approx(b.marginal_kl, rel=1e-9, abs=1e-9)
    halves = [information(posterior, seed, "batch", batch_size=8).mutual_information for seed in range(100)]
    assert sum(halves) / 100 > mi


def test_the_batch_estimator_corrects_for_the_sample_s_own_component_by_hand():
    posterior = components([[0.0], [0.4], [1.0], [2.5]], 0.7)
    estimate = information(posterior, seed=3, estimator="batch", batch_size=2)
    order = randomness.permutation(3, randomness.EVALUATION, 0, 4).tolist()
    noise = randomness.normal_rows(3, randomness.EVALUATION, 0, "information", torch.arange(4), (1,), torch.float64)

    def density(z, i):
        return math.exp(-((z - posterior.mu[i].item()) ** 2) / (2 * 0.49)) / math.sqrt(2 * math.pi * 0.49)

    mi, kl = [], []
    for a, b in (order[:2], order[2:]):
        for own, other in ((a, b), (b, a)):
            z = posterior.mu[own].item() + 0.7 * noise[own].item()
            q = density(z, own) / 4 + 3 / 4 * density(z, other)
            mi.append(math.log(density(z, own) / q))
            kl.append(math.log(q / (math.exp(-z * z / 2) / math.sqrt(2 * math.pi))))
    assert estimate.mutual_information == pytest.approx(sum(mi) / 4, rel=1e-12)
    assert estimate.marginal_kl == pytest.approx(sum(kl) / 4, rel=1e-12)
    assert estimate.mutual_information_se == pytest.approx(torch.tensor(mi).std().item() / 2, rel=1e-5)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_aggregate_that_is_the_prior_has_no_marginal_kl(estimator):
    sd, n = 0.6, 4000  # means N(0, 1 - sd^2), so that q(z) = N(0, 1) but for the 4000 means
    mu = math.sqrt(1 - sd**2) * torch.randn(n, 1, generator=torch.Generator().manual_seed(4)).double()
    estimate = information(components(mu, sd), seed=0, estimator=estimator, samples=4000)
    assert abs(estimate.marginal_kl) < 5 * estimate.marginal_kl_se + 2 / 512
    assert estimate.mutual_information == pytest.approx(-math.log(sd), abs=5 * estimate.mutual_information_se + 2 / 512)
    shifted = information(components(mu + 2, sd), seed=0, estimator=estimator, samples=4000)
    assert shifted.marginal_kl == pytest.approx(2.0, abs=5 * shifted.marginal_kl_se + 0.02)  # |shift|^2 / 2


def test_the_rate_is_the_sum_of_both_in_expectation():
    posterior = components(torch.randn(500, 4, generator=torch.Generator().manual_seed(5)).double(), 0.5)
    estimate = information(posterior, seed=0)
    se = math.hypot(estimate.mutual_information_se, estimate.marginal_kl_se)
    assert estimate.mutual_information + estimate.marginal_kl == pytest.approx(
        rate(posterior).mean().item(), abs=4 * se
    )
    assert estimate.mutual_information < estimate.ceiling
    assert information(posterior, seed=0, samples=100).n == 100
    assert information(posterior, seed=0, estimator="batch", batch_size=64).n == 448  # whole batches only
    assert information(Gaussian(*(t.float() for t in posterior)), seed=0).mutual_information == pytest.approx(
        estimate.mutual_information, abs=1e-4
    )


def test_encode_gives_the_posterior_of_every_image():
    model = DenseVAE(SHAPE, 1, 16, 3).double().eval()
    posterior, whole = encode(model, IMAGES, batch_size=7), model.encode(IMAGES.double() / 255)
    torch.testing.assert_close(posterior.mu, whole.mu.detach())
    torch.testing.assert_close(posterior.logvar, whole.logvar.detach())


def test_codes_of_tiny_variance_tell_the_image_and_no_more():
    mu = 10 * torch.randn(300, 3, generator=torch.Generator().manual_seed(6)).double()
    estimate = information(components(mu, 1e-12), seed=0)
    assert estimate.mutual_information == pytest.approx(math.log(300))


@pytest.mark.parametrize(
    ("n", "estimator", "words"), [(1, "exact", "n 2 or more"), (9, "miracle", "'miracle'; give exact or batch")]
)
def test_bad_arguments(n, estimator, words):
    with pytest.raises(ValueError, match=words):
        information(components([[0.0]] * n, 1.0), seed=0, estimator=estimator)


def test_rd_table_has_a_row_for_each_value():
    budget = Budget(6, 8, snapshots=(2,), precision="fp64")
    fleet = train_fleet(lambda: DenseVAE(SHAPE, 1, 8, 2), beta_objective, grid([0, 4], beta=[0.5, 2]), IMAGES,
                        budget=budget)  # fmt: skip
    rows = rd_table(fleet, IMAGES[:9], part="test")
    assert len(rows) == 4 * 2 * 2
    keys = {(r["member"], r["seed"], r["beta"], r["step"], r["measure"]) for r in rows}
    assert keys == {(i, s, b, step, m) for i, (s, b) in enumerate([(0, 0.5), (0, 2), (4, 0.5), (4, 2)])
                    for step in (2, 6) for m in ("distortion", "rate")}  # fmt: skip
    assert {(r["steps"], r["part"], r["n"]) for r in rows} == {(6, "test", 9)}
    by_hand = evaluate(fleet.model(2, 2), IMAGES[:9], torch.arange(9), seed=4)
    for name, values in by_hand.items():
        (row,) = [r for r in rows if (r["member"], r["step"], r["measure"]) == (2, 2, name)]
        assert (row["value"], row["se"]) == mean_and_se(values)


# The importance-weighted bound


class Linear(torch.nn.Module):
    """p(z) = N(0, I), p(x|z) = N(W z + b, s^2 I), W's columns orthogonal: so log p(x) and the posterior are known."""

    def __init__(self, shift=0.0, stretch=1.0):
        super().__init__()
        self.noise_sites = {"z": (2,)}
        generator = torch.Generator().manual_seed(7)
        columns = torch.linalg.qr(torch.randn(16, 2, generator=generator).double()).Q
        self.w = torch.nn.Parameter(columns * torch.tensor([1.5, 0.4]))
        self.b, self.sd = torch.full((16,), 0.4).double(), 0.5
        self.shift, self.stretch = shift, stretch

    def encode(self, x):
        precision = 1 + (self.w**2).sum(0) / self.sd**2
        mu = (x.flatten(1) - self.b) @ self.w / self.sd**2 / precision
        return Gaussian(mu + self.shift, (self.stretch / precision).log().expand_as(mu))

    def decode(self, z):
        mean = (z @ self.w.T + self.b).unflatten(1, (1, 4, 4))
        return Gaussian(mean, torch.tensor(2 * math.log(self.sd), dtype=torch.float64))

    def exact(self, images):
        covariance = self.w @ self.w.T + self.sd**2 * torch.eye(16).double()
        return torch.distributions.MultivariateNormal(self.b, covariance).log_prob(images.flatten(1).double() / 255)


TINY = (randomness.uniform(2, randomness.FACTORS, 0, "test images", (6, 1, 4, 4)) * 256).to(torch.uint8)


@pytest.mark.parametrize("samples", [1, 3, 300])
def test_the_bound_is_exact_at_the_posterior_however_few_the_samples(samples):
    model = Linear()
    bound = log_likelihood(model, TINY, torch.arange(6), seed=0, samples=samples)
    assert (bound.dtype, bound.shape) == (torch.float64, (6,))
    torch.testing.assert_close(bound, model.exact(TINY).detach(), rtol=1e-9, atol=1e-9)


def test_the_bound_grows_with_the_samples_towards_the_truth():
    model, image = Linear(shift=0.4, stretch=1.5), TINY[:1]
    truth = model.exact(image).item()
    bound = [log_likelihood(model, image.expand(60, 1, 4, 4), torch.arange(60), 0, k).mean() for k in (1, 6, 36)]
    assert bound == sorted(bound)
    assert bound[-1] < truth + 0.05
    assert log_likelihood(model, image, torch.zeros(1).long(), 0, 20_000).item() == pytest.approx(truth, abs=0.03)


@pytest.mark.parametrize("make", [lambda: DenseVAE(SHAPE, 1, 16, 3), lambda: ConvVAE(SHAPE, 1, 4, 3, "gaussian", 0.3)])
def test_the_bound_is_its_formula_in_torch_s_densities(make):
    model, rows = make().double().eval(), torch.tensor([8, 3])
    bound = log_likelihood(model, IMAGES[:2], rows, seed=5, samples=7)
    x = IMAGES[:2].double() / 255
    q = model.encode(x)
    terms = []
    for k in range(7):
        noise = randomness.normal_rows(5, randomness.EVALUATION, k, "z", rows, (3,), torch.float64)
        z = q.sample(noise)
        encoder, prior = torch.distributions.Normal(q.mu, (q.logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
        log_px = model.decode(z).log_prob(x).flatten(1).sum(1)
        terms.append(log_px + (prior.log_prob(z) - encoder.log_prob(z)).sum(1))
    expected = torch.stack(terms).logsumexp(0).detach() - math.log(7)
    torch.testing.assert_close(bound, expected, rtol=1e-8, atol=1e-7)
    one = log_likelihood(model, IMAGES[:2], rows, seed=5, samples=1)
    torch.testing.assert_close(one, terms[0].detach(), rtol=1e-8, atol=1e-7)


def test_the_bound_depends_neither_on_blocks_nor_on_company():
    model, rows = DenseVAE(SHAPE, 2, 16, 3).eval(), torch.arange(100, 130)
    whole = log_likelihood(model, IMAGES, rows, seed=1, samples=20)
    for batch_size in (1, 7, 20):
        cut = log_likelihood(model, IMAGES, rows, seed=1, samples=20, batch_size=batch_size)
        torch.testing.assert_close(cut, whole, rtol=1e-6, atol=1e-4)
    few = log_likelihood(model, IMAGES[[29, 4]], rows[[29, 4]], seed=1, samples=20)
    torch.testing.assert_close(few, whole[[29, 4]], rtol=1e-6, atol=1e-4)
    assert not torch.allclose(log_likelihood(model, IMAGES, rows, seed=2, samples=20), whole)


def test_the_bound_of_what_has_no_one_code_is_refused():
    with pytest.raises(ValueError, match="got the latents z2, z1; give one whose only latent is z"):
        log_likelihood(GHVAE((1, 28, 28), 2, 3).eval(), IMAGES, torch.arange(30), 0, 20)
    with pytest.raises(ValueError, match="samples: got 0; give a whole number, 1 or more"):
        log_likelihood(DenseVAE(SHAPE, 1, 4, 2), IMAGES, torch.arange(30), 0, 0)


LOG_VARIANCES = (2.0, 0.0, -5.0, -20.0, -35.0, -40.0, -50.0, -80.0, -300.0, -2000.0)


@pytest.mark.parametrize("logvar", LOG_VARIANCES[3:])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_information_of_variances_however_small(logvar, estimator):
    """Twins, one posterior for all, and classes that do not overlap: log 128, 0 and log 4, as of any small variance."""
    codes = torch.randn(128, 5, generator=torch.Generator().manual_seed(0))
    twins = Gaussian(codes.repeat(2, 1), torch.full((256, 5), logvar))
    alike = Gaussian(torch.full((256, 5), 3.3), torch.full((256, 5), logvar))
    shown = [information(q, 0, estimator, samples=256, batch_size=256) for q in (twins, alike)]
    assert [estimate.mutual_information for estimate in shown] == pytest.approx([math.log(128), 0], abs=1e-9)
    apart = Gaussian(codes, twins.logvar[:128])
    assert class_information(apart, torch.arange(128) % 4, 0).value == pytest.approx(math.log(4), abs=1e-9)


def bounded_posteriors():
    """Posteriors of every size of variance, of one and of mixed sizes, near the origin and far from it."""
    generator = torch.Generator().manual_seed(5)
    for logvar in LOG_VARIANCES:
        for distance in (0.0, 1.0, 1e3, 1e8):
            mu = torch.randn(40, 3, generator=generator) + distance
            yield Gaussian(mu, torch.full_like(mu, logvar))
            yield Gaussian(mu.repeat(2, 1), logvar * torch.rand(80, 3, generator=generator))
            yield Gaussian(mu[:1].repeat(40, 1), torch.full_like(mu, logvar))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimate_never_leaves_the_bounds_of_what_it_estimates(estimator):
    for i, q in enumerate(bounded_posteriors()):
        estimate = information(q, i, estimator, samples=16, batch_size=8)
        assert 0 <= estimate.mutual_information <= estimate.ceiling, i
        assert estimate.marginal_kl >= 0, i
        of_class = class_information(q, torch.arange(len(q.mu)) % 3, i, samples=16)
        assert 0 <= of_class.value <= of_class.entropy, i


@pytest.mark.parametrize("logvar", LOG_VARIANCES)
def test_densities_are_those_of_torch(logvar):
    """By one product, or by deviations: against torch.distributions, at the means, near them and far from them."""
    generator = torch.Generator().manual_seed(3)
    mu = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    q = Gaussian(mu, logvar + 0.1 * torch.randn(30, 4, generator=generator, dtype=torch.float64))
    z = torch.cat((mu[:5], q.sample(torch.ones_like(mu))[:5], mu[:5] + 1))
    normal = torch.distributions.Normal(mu, (0.5 * q.logvar.clamp(min=-600)).exp())
    expected = normal.log_prob(z.unsqueeze(1)).sum(2)
    if logvar >= -600:
        torch.testing.assert_close(log_density(z, q), expected, rtol=1e-9, atol=1e-6)
    assert (log_density(z, q).argmax(1) == torch.arange(5).repeat(3))[: 10 if logvar < 0 else 0].all()
