"""Distributions and losses against torch.distributions, all objectives by one contract, floors and reductions."""

import math
from typing import NamedTuple

import pytest
import torch
import torch.distributions as td
from torch.utils._pytree import tree_leaves, tree_map

from vaekit.distributions import Bernoulli, Gaussian, as_float
from vaekit.losses import (
    OBJECTIVES,
    bernoulli_floor,
    cross_entropy,
    distortion,
    gaussian_kl,
    hierarchical_objective,
    hierarchical_warmup_objective,
    mi_kl_objective,
    rate,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def normal(gaussian: Gaussian) -> td.Normal:
    """The same distribution, by torch."""
    return td.Normal(gaussian.mu, (gaussian.logvar / 2).exp())


@pytest.fixture
def gaussian():
    return Gaussian(draw(4, 3, seed=1), draw(4, 3, seed=2))


# ---- all objectives


class Term(NamedTuple):
    """One summand of a loss: factor * weight * value; the weight is 1 where it has no name."""

    value: str
    weight: str = ""
    factor: float = 1


STEP, WEIGHTS = 3.0, {"beta": 0.5, "mi": 0.7, "kl": 0.2, "beta2": 0.3, "beta1": 7.0, "lambda": 100.0,
                      "reconstruction": 0.6, "warmup": 8.0}  # fmt: skip
CLASSIFIER = [Term("rate", "beta"), Term("cross_entropy", "lambda")]
TERMS = {
    "beta": [Term("distortion"), Term("rate", "beta")],
    "mi_kl": [Term("distortion"), Term("mutual_information", "mi"), Term("marginal_kl", "kl")],
    "hierarchical": [Term("distortion"), Term("rate_z2", "beta2"), Term("rate_z1", "beta1")],
    "hierarchical_warmup": [Term("distortion"), Term("rate_z2", "beta2", 3 / 8), Term("rate_z1", "beta1", 3 / 8)],
    "classifier_sum": [Term("distortion", "reconstruction"), *CLASSIFIER],
    "classifier_pixel_mean": [Term("distortion", "reconstruction", 1 / 12), *CLASSIFIER],
    "cross_entropy": [Term("cross_entropy")],
}


def outputs() -> dict:
    """What models return for four images, all that any objective needs, of leaves that have gradients."""
    layer = (4, 2, 3, 3)
    params = {
        "z": Gaussian(draw(4, 3, seed=1), draw(4, 3, seed=2)),
        "z2": Gaussian(draw(4, 3, seed=24), draw(4, 3, seed=25)),
        "z1": Gaussian(draw(*layer, seed=20), draw(*layer, seed=21)),
        "prior1": Gaussian(draw(*layer, seed=22), draw(*layer, seed=23)),
        "y": 3 * draw(4, 5, seed=30),
        "x": Bernoulli(draw(4, 3, 2, 2, seed=31)),
        "sample": draw(4, 3, seed=33),
    }
    return tree_map(torch.Tensor.requires_grad_, params)


IMAGES, LABELS = torch.sigmoid(draw(4, 3, 2, 2, seed=32)), torch.tensor([4, 0, 0, 2])


def direct_values(params: dict) -> dict:
    """Each term of the losses by torch.distributions and sums over all but the images."""
    p, z = params["x"].mean, params["sample"]
    each = td.Independent(normal(params["z"]), 1)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(4).double()), each)
    standard = td.Normal(torch.zeros(3).double(), 1.0)
    return {
        "distortion": -(IMAGES * p.log() + (1 - IMAGES) * (1 - p).log()).flatten(1).sum(1),
        "rate": td.kl_divergence(normal(params["z"]), standard).sum(1),
        "rate_z2": td.kl_divergence(normal(params["z2"]), standard).sum(1),
        "rate_z1": td.kl_divergence(normal(params["z1"]), normal(params["prior1"])).flatten(1).sum(1),
        "mutual_information": each.log_prob(z) - mixture.log_prob(z),
        "marginal_kl": mixture.log_prob(z) - td.Independent(standard, 1).log_prob(z),
        "cross_entropy": -td.Categorical(logits=params["y"]).log_prob(LABELS),
    }


@pytest.mark.parametrize("zero", ["", "beta", "kl", "beta1", "reconstruction"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_is_the_weighted_sum_of_its_terms_image_by_image(name, zero):
    assert OBJECTIVES[name].__name__ == f"{name}_objective"
    params, terms = outputs(), TERMS[name]
    given = {key: 0.0 if key == zero else weight for key, weight in WEIGHTS.items()}
    weights = {key: torch.tensor(value, dtype=torch.float64, requires_grad=True) for key, value in given.items()}
    values = OBJECTIVES[name](params, IMAGES, LABELS, weights, torch.tensor(STEP))
    expected = direct_values(params)
    if "hierarchical" in name:
        expected["rate"] = expected["rate_z2"] + expected["rate_z1"]
        terms = [*terms, Term("rate", factor=0)]  # recorded, and no summand
    assert values.keys() == {"loss", *(term.value for term in terms)}
    assert {value.shape for value in values.values()} == {(4,)}
    for term in terms:
        torch.testing.assert_close(values[term.value], expected[term.value])
    loss = sum(factor * given.get(weight, 1) * expected[value] for value, weight, factor in terms)
    torch.testing.assert_close(values["loss"], loss)
    # d loss / d weight is the term, image by image: an ignored or rescaled beta fails here.
    for value, weight, factor in terms:
        if weight:
            slopes = [torch.autograd.grad(one, weights[weight], retain_graph=True)[0] for one in values["loss"]]
            torch.testing.assert_close(torch.stack(slopes), factor * values[value])
    leaves = tree_leaves(params)
    gradients = [torch.autograd.grad(total.sum(), leaves, materialize_grads=True) for total in (values["loss"], loss)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_sees_a_stack_of_members(name):
    weights = {key: torch.tensor([value, value / 3], dtype=torch.float64) for key, value in WEIGHTS.items()}
    params = tree_map(lambda t: torch.stack((t, 0.5 * t)), outputs())
    labels, step = torch.stack((LABELS, LABELS.flip(0))), torch.tensor(STEP)
    stacked = torch.func.vmap(lambda p, y, w: OBJECTIVES[name](p, IMAGES, y, w, step))(params, labels, weights)
    for i in range(2):
        own_params, own_weights = tree_map(lambda t, i=i: t[i], (params, weights))
        torch.testing.assert_close(
            tree_map(lambda t, i=i: t[i], stacked),
            OBJECTIVES[name](own_params, IMAGES, labels[i], own_weights, step),
            rtol=1e-12, atol=1e-12,
        )  # fmt: skip


@pytest.mark.parametrize("tensors", [True, False])
@pytest.mark.parametrize(
    ("step", "warmup", "share"),
    [(0, 40, 0.0), (1, 40, 0.025), (10, 40, 0.25), (39, 40, 0.975), (40, 40, 1.0), (1000, 40, 1.0), (0, 0, 1.0),
     (5, 0, 1.0)],
)  # fmt: skip
def test_a_warm_up_raises_both_betas_linearly(step, warmup, share, tensors):
    params, step = outputs(), torch.tensor(float(step))
    weights = {"beta2": 0.5, "beta1": 3.0, "warmup": float(warmup)}
    weights = {name: torch.tensor(value) for name, value in weights.items()} if tensors else weights
    scaled = {"beta2": 0.5 * share, "beta1": 3.0 * share}
    values = hierarchical_warmup_objective(params, IMAGES, None, weights, step)
    expected = hierarchical_objective(params, IMAGES, None, scaled, step)
    torch.testing.assert_close(values, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", ["classifier_sum", "classifier_pixel_mean"])
def test_without_a_decoder_there_is_no_distortion(name):
    params = outputs()
    del params["x"]
    values = OBJECTIVES[name](params, IMAGES, LABELS, WEIGHTS, torch.tensor(0.0))
    assert values.keys() == {"loss", "rate", "cross_entropy"}
    torch.testing.assert_close(values["loss"], 0.5 * rate(params["z"]) + 100 * cross_entropy(params["y"], LABELS))


def test_an_objective_that_needs_the_sample_says_so():
    params = outputs()
    del params["sample"]
    with pytest.raises(ValueError, match=r"params: got z, .*; give sample, too"):
        mi_kl_objective(params, IMAGES, None, WEIGHTS, None)


def test_cross_entropy_is_log_m_where_nothing_is_known():
    torch.testing.assert_close(cross_entropy(torch.zeros(4, 10), LABELS), torch.full((4,), math.log(10)))


# ---- rates, distortions and densities


def test_kl_of_two_gaussians_is_torch_s():
    """Its sums over several dimensions are those of the objectives' contract."""
    a, b = (Gaussian(draw(4, 3, seed=s), draw(4, 3, seed=s + 1)) for s in (20, 22))
    found = gaussian_kl(a, b)
    torch.testing.assert_close(found, td.kl_divergence(normal(a), normal(b)).sum(1), rtol=1e-12, atol=1e-12)
    standard = Gaussian(torch.zeros(4, 3).double(), torch.zeros(4, 3).double())
    torch.testing.assert_close(gaussian_kl(a, standard), rate(a), rtol=1e-12, atol=1e-12)


def test_kl_of_two_gaussians_is_never_below_zero_however_close_they_are():
    mu, logvar = draw(200, 512, seed=28, dtype=torch.float32), draw(200, 512, seed=29, dtype=torch.float32)
    assert torch.equal(gaussian_kl(Gaussian(mu, logvar), Gaussian(mu, logvar)), torch.zeros(200))
    near = gaussian_kl(Gaussian(mu, torch.full_like(mu, 1e-3)), Gaussian(mu, torch.zeros_like(mu)))  # in float32
    torch.testing.assert_close(near, torch.full((200,), 256 * (math.expm1(1e-3) - 1e-3)), rtol=2e-3, atol=0)
    far = gaussian_kl(Gaussian(mu, logvar - 200), Gaussian(mu, logvar))  # costs what it says, and no infinity
    torch.testing.assert_close(far, torch.full((200,), 512 * 199 / 2))


def test_rate_is_torch_s_kl(gaussian):
    expected = td.kl_divergence(normal(gaussian), td.Normal(torch.zeros(4, 3).double(), 1.0)).sum(1)
    torch.testing.assert_close(rate(gaussian), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(rate(Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))), torch.zeros(2))


def test_densities_are_torch_s(gaussian):
    value = draw(4, 3, seed=3)
    expected = normal(gaussian).log_prob(value)
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


def objective_of(posterior: Gaussian) -> dict:
    """The objective mi_kl of images whose latents were drawn from `posterior` with some noise."""
    n, d = posterior.mu.shape
    z = posterior.sample(draw(n, d, seed=34, dtype=posterior.mu.dtype))
    params = {"z": posterior, "sample": z, "x": Bernoulli(draw(n, 1, 2, 2, seed=35, dtype=z.dtype))}
    images = torch.sigmoid(draw(n, 1, 2, 2, seed=36, dtype=z.dtype))
    return mi_kl_objective(params, images, None, {"mi": 1.0, "kl": 1.0}, None)


def test_a_batch_s_information_is_log_b_at_most():
    apart = Gaussian(100 * torch.arange(8.0).unsqueeze(1), torch.zeros(8, 1))
    same = Gaussian(torch.full((8, 2), 0.3), torch.zeros(8, 2))
    close = Gaussian(draw(8, 2, seed=39), draw(8, 2, seed=40))
    found = [objective_of(q)["mutual_information"] for q in (apart, same, close)]
    torch.testing.assert_close(found[0], torch.full((8,), math.log(8)))
    torch.testing.assert_close(found[1], torch.zeros(8))
    assert (found[2] < math.log(8)).all()
    assert 0 < found[2].mean() < math.log(8)


@pytest.mark.parametrize("low", [-20.0, -80.0, -120.0, -400.0])
def test_a_latent_whose_variance_has_collapsed_has_a_finite_gradient(low):
    mu, logvar = draw(5, 3, seed=41, dtype=torch.float32).requires_grad_(), torch.full((5, 3), low).requires_grad_()
    values = objective_of(Gaussian(mu, logvar))
    torch.testing.assert_close(values["mutual_information"], torch.full((5,), math.log(5)), atol=1e-4, rtol=0)
    found = torch.autograd.grad(values["loss"].sum(), (mu, logvar))
    assert all(gradient.isfinite().all() for gradient in found)


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
