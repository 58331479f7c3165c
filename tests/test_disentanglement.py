"""Disentanglement of latents that are made so, against scikit-learn's mutual information, and collapse by hand."""

import math

import pytest
import torch

from vaekit import randomness
from vaekit.distributions import Gaussian
from vaekit.losses import rate
from vaekit.metrics import active_units, dci, mig, rate_per_dimension

VALUES = (3, 4, 5)
N = 3000
FACTORS = torch.stack(
    [randomness.bits(1, randomness.FACTORS, 0, "factor", torch.arange(N))[:, i] % v for i, v in enumerate(VALUES)], 1
)
NOISE = randomness.normal(1, randomness.FACTORS, 0, "latent", (N, 3))
STANDARD = (FACTORS - FACTORS.double().mean(0)) / FACTORS.double().std(0)


def test_mig_where_each_dimension_codes_one_factor():
    score = mig(torch.cat((STANDARD, NOISE), 1), FACTORS)
    assert score.value == pytest.approx(1, abs=0.03)  # but for the bias of the rivals' information
    assert score.value == pytest.approx(sum(score.gaps) / 3)
    assert mig(-7 * STANDARD.flip(1).float() + 3, FACTORS).value == pytest.approx(score.value, abs=0.03)
    assert mig(STANDARD[:, :1], FACTORS[:, :1]).value == pytest.approx(1, abs=1e-12)  # without a rival


def test_mig_of_codes_that_know_nothing_is_its_bias():
    score = mig(NOISE, FACTORS)
    for gap, values in zip(score.gaps, VALUES, strict=True):
        assert 0 <= gap < 19 * (values - 1) / (2 * N) / math.log(values)  # Miller's bias of one estimate
    assert mig(torch.zeros(N, 3), FACTORS).value == pytest.approx(0, abs=1e-12)


def test_mig_where_every_factor_is_coded_twice():
    assert mig(torch.cat((STANDARD, 2 - STANDARD), 1), FACTORS).value == pytest.approx(0, abs=1e-12)


def test_mig_is_the_histogram_estimate_by_scikit_learn():
    import numpy as np
    from sklearn.metrics import mutual_info_score

    latents = STANDARD @ randomness.normal(2, randomness.FACTORS, 0, "mix", (3, 4), torch.float64) + 0.3
    latents = torch.cat((latents, torch.ones(N, 1)), 1)
    for bins in (20, 7):
        cells = [np.digitize(c, np.histogram(c, bins)[1][:-1]) for c in latents.T.numpy()]
        for y, gap in zip(FACTORS.T.numpy(), mig(latents, FACTORS, bins).gaps, strict=True):
            told = sorted(mutual_info_score(y, c) for c in cells)
            assert gap == pytest.approx((told[-1] - told[-2]) / mutual_info_score(y, y), abs=1e-9)


def test_a_code_of_more_values_than_bins_is_told_to_the_bins_alone():
    factor = torch.arange(3200).remainder(32)[:, None]
    assert mig(factor.double(), factor, bins=16).value == pytest.approx(math.log(16) / math.log(32), abs=1e-9)


def test_a_factor_of_one_value_is_left_out():
    factors = torch.cat((FACTORS[:, :1], torch.full((N, 1), 5), FACTORS[:, 1:]), 1)
    score, without = mig(STANDARD, factors), mig(STANDARD, FACTORS)
    assert score.value == without.value
    assert math.isnan(score.gaps[1])
    assert dci(STANDARD, factors, seed=0) == dci(STANDARD, FACTORS, seed=0)


def test_dci_where_each_dimension_codes_one_factor():
    scores = dci(STANDARD.float() + 0.05 * NOISE, FACTORS, seed=0)
    assert min(scores) > 0.99
    padded = dci(torch.cat((STANDARD, NOISE, torch.zeros(N, 1)), 1), FACTORS.double() / 7, seed=3)
    assert min(padded) > 0.99


def test_dci_of_codes_that_know_nothing():
    disentanglement, completeness, informativeness = dci(NOISE, FACTORS, seed=0)
    assert disentanglement < 0.05
    assert completeness < 0.05
    assert informativeness == pytest.approx(sum(1 / v for v in VALUES) / 3, abs=0.05)
    assert dci(torch.zeros(N, 2), FACTORS, seed=0)[:2] == (0, 0)


def test_dci_tells_one_dimension_for_many_factors_from_many_dimensions_for_one():
    # one dimension holds two factors: complete, not disentangled
    both = (FACTORS[:, 0] * 4 + FACTORS[:, 1]).double()[:, None]
    joined = dci(torch.cat((both, NOISE[:, :1]), 1), FACTORS[:, :2], seed=0)
    assert joined.completeness > 0.95
    assert joined.disentanglement < 0.05
    # the parity of each value in one dimension, its half in another: disentangled, not complete
    bits = torch.stack([FACTORS[:, 1] % 2, FACTORS[:, 1] // 2, STANDARD[:, 0]], 1)
    spread = dci(bits, FACTORS[:, [1, 0]], seed=0)
    assert spread.disentanglement > 0.95
    assert spread.completeness < 0.75
    assert spread.informativeness == 1


def test_dci_is_a_function_of_its_seed():
    latents = STANDARD + NOISE
    assert dci(latents, FACTORS, seed=0) == dci(latents, FACTORS, seed=0)
    assert dci(latents, FACTORS, seed=0) != dci(latents, FACTORS, seed=2**62)


def test_codes_that_are_not_finite_have_no_score():
    latents = STANDARD.clone()
    latents[5, 0] = math.nan
    assert all(math.isnan(score) for score in (mig(latents, FACTORS).value, *dci(latents, FACTORS, seed=0)))


@pytest.mark.parametrize("score", [mig, lambda latents, factors: dci(latents, factors, seed=0)])
def test_bad_arguments(score):
    for latents, factors in ((NOISE, FACTORS[:-1]), (NOISE[:, 0], FACTORS), (NOISE, FACTORS[:, 0])):
        with pytest.raises(ValueError, match=r"give \(n, d\) and \(n, k\)"):
            score(latents, factors)
    with pytest.raises(ValueError, match="none of 2 factors varies over 3000 images"):
        score(NOISE, torch.zeros(N, 2))
    with pytest.raises(ValueError, match="a factor has 3000 values in 3000 images; round it to few"):
        score(NOISE, STANDARD + NOISE)


def test_dci_needs_something_to_spread_over():
    for n, latents, factors in ((N, NOISE[:, :1], FACTORS), (N, NOISE, FACTORS[:, :1]), (9, NOISE, FACTORS // 2)):
        with pytest.raises(ValueError, match="two or more of both others"):
            dci(latents[:n], factors[:n], seed=0)


def test_active_units_counts_the_dimensions_whose_mean_varies():
    sd = torch.tensor([1.0, 0.2, 0.05, 0.0])  # variances 1, 0.04, 0.0025, 0
    mu = 5 + sd * randomness.normal(3, randomness.FACTORS, 0, "means", (1000, 4))
    q = Gaussian(mu, torch.zeros_like(mu))
    assert active_units(q) == 2
    assert active_units(q, threshold=0.001) == 3
    assert active_units(q, threshold=0.5) == 1
    assert active_units(Gaussian(mu.reshape(1000, 2, 2), mu)) == 2
    assert math.isnan(active_units(Gaussian(mu / 0, mu)))


def test_the_rates_of_the_dimensions_sum_to_the_rate():
    mu, logvar = randomness.normal(4, randomness.FACTORS, 0, "posterior", (2, 50, 6), torch.float64)
    q = Gaussian(mu * torch.tensor([0.0, 1, 2, 3, 4, 5]), logvar * torch.tensor([0.0, 1, 1, 1, 1, 1]))
    rates = rate_per_dimension(q)
    assert rates.sum().item() == pytest.approx(rate(q).mean().item(), rel=1e-12)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mu, (q.logvar / 2).exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(rates, kl.mean(0))
    assert rates[0] == 0
    assert rates.shape == (6,)
    assert rate_per_dimension(Gaussian(*(each.float().reshape(50, 2, 3) for each in q))).dtype == torch.float64
