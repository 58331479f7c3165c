"""Distributions and losses against torch.distributions, floors, reductions, and that beta means what it says."""

import math

import pytest
import torch
import torch.distributions as td
from torch.utils._pytree import tree_map

from vaekit.distributions import Bernoulli, Gaussian, as_float
from vaekit.losses import (
    OBJECTIVES,
    bernoulli_floor,
    beta_objective,
    classifier_pixel_mean_objective,
    classifier_sum_objective,
    cross_entropy,
    cross_entropy_objective,
    distortion,
    gaussian_kl,
    hierarchical_objective,
    hierarchical_warmup_objective,
    mi_kl_objective,
    rate,
)


def draw(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture
def gaussian():
    return Gaussian(draw(4, 3, seed=1), draw(4, 3, seed=2))


def test_rate_is_torch_s_kl(gaussian):
    q = td.Normal(gaussian.mu, (gaussian.logvar / 2).exp())
    expected = td.kl_divergence(q, td.Normal(torch.zeros(4, 3).double(), 1.0)).sum(1)
    torch.testing.assert_close(rate(gaussian), expected, rtol=1e-12, atol=1e-12)
    assert torch.equal(rate(Gaussian(torch.zeros(2, 3), torch.zeros(2, 3))), torch.zeros(2))


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


def coded(posterior, seed=34):
    """Params of images whose codes were drawn from `posterior` with some noise, and the images."""
    n, d = posterior.mu.shape
    z = posterior.sample(draw(n, d, seed=seed, dtype=posterior.mu.dtype))
    params = {"z": posterior, "sample": z, "x": Bernoulli(draw(n, 1, 2, 2, seed=35, dtype=z.dtype))}
    return params, torch.sigmoid(draw(n, 1, 2, 2, seed=36, dtype=z.dtype))


def test_the_parts_of_the_rate_are_those_of_the_batch_s_own_mixture():
    mu, logvar = (draw(6, 3, seed=s).requires_grad_() for s in (37, 38))
    params, x = coded(Gaussian(mu, logvar))
    weights = scales(("mi", 0.7), ("kl", 0.2))
    values = mi_kl_objective(params, x, None, weights, None)
    names = ("loss", "distortion", "mutual_information", "marginal_kl")
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(names, (6,))
    each = td.Independent(td.Normal(mu, (logvar / 2).exp()), 1)
    mixture = td.MixtureSameFamily(td.Categorical(torch.ones(6).double()), each)
    prior = td.Independent(td.Normal(torch.zeros(3).double(), 1.0), 1)
    z = params["sample"]
    mi, kl = each.log_prob(z) - mixture.log_prob(z), mixture.log_prob(z) - prior.log_prob(z)
    torch.testing.assert_close(values["mutual_information"], mi)
    torch.testing.assert_close(values["marginal_kl"], kl)
    torch.testing.assert_close(values["distortion"], distortion(params["x"], x))
    torch.testing.assert_close(slopes(values, weights["mi"]), mi)
    torch.testing.assert_close(slopes(values, weights["kl"]), kl)
    expected = (distortion(params["x"], x) + 0.7 * mi + 0.2 * kl).mean()
    for found, wanted in zip(*(torch.autograd.grad(loss, (mu, logvar), retain_graph=True)
                               for loss in (values["loss"].mean(), expected)), strict=True):  # fmt: skip
        torch.testing.assert_close(found, wanted)


def test_a_batch_s_information_is_log_b_at_most():
    apart = Gaussian(100 * torch.arange(8.0).unsqueeze(1), torch.zeros(8, 1))
    same = Gaussian(torch.full((8, 2), 0.3), torch.zeros(8, 2))
    close = Gaussian(draw(8, 2, seed=39), draw(8, 2, seed=40))
    found = [mi_kl_objective(*coded(q), None, {"mi": 1, "kl": 1}, None)["mutual_information"] for q in
             (apart, same, close)]  # fmt: skip
    torch.testing.assert_close(found[0], torch.full((8,), math.log(8)))
    torch.testing.assert_close(found[1], torch.zeros(8))
    assert (found[2] < math.log(8)).all()
    assert 0 < found[2].mean() < math.log(8)


@pytest.mark.parametrize("low", [-20.0, -80.0, -120.0, -400.0])
def test_a_code_whose_variance_has_collapsed_has_a_finite_gradient(low):
    mu, logvar = draw(5, 3, seed=41, dtype=torch.float32).requires_grad_(), torch.full((5, 3), low).requires_grad_()
    values = mi_kl_objective(*coded(Gaussian(mu, logvar)), None, {"mi": 1.0, "kl": 1.0}, None)
    torch.testing.assert_close(values["mutual_information"], torch.full((5,), math.log(5)), atol=1e-4, rtol=0)
    found = torch.autograd.grad(values["loss"].sum(), (mu, logvar))
    assert all(gradient.isfinite().all() for gradient in found)


def test_an_objective_that_needs_the_sample_says_so(gaussian):
    params, x = coded(gaussian)
    del params["sample"]
    with pytest.raises(ValueError, match='mi_kl needs the code that was drawn: return it as "sample"'):
        mi_kl_objective(params, x, None, {"mi": 1, "kl": 1}, None)


@pytest.mark.parametrize("beta", [0.0, 0.1, 1.0, 7.0])
def test_beta_weighs_the_rate(gaussian, beta):
    x = torch.sigmoid(draw(4, 1, 2, 2, seed=8))
    params = {"z": gaussian, "x": Bernoulli(draw(4, 1, 2, 2, seed=9))}
    weights = scales(("beta", beta))
    values = beta_objective(params, x, None, weights, torch.tensor(0.0))
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(("loss", "distortion", "rate"), (4,))
    torch.testing.assert_close(values["loss"], values["distortion"] + beta * values["rate"])
    # d loss / d beta = rate, image by image: an ignored or rescaled beta fails here
    torch.testing.assert_close(slopes(values, weights["beta"]), values["rate"])


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


def scales(*weights):
    return {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in weights}


def slopes(values, weight):
    """d loss / d weight of each image."""
    return torch.stack([torch.autograd.grad(v, weight, retain_graph=True)[0] for v in values["loss"]])


def two_layers():
    q1, p1 = (Gaussian(draw(4, 2, 3, 3, seed=s), draw(4, 2, 3, 3, seed=s + 1)) for s in (20, 22))
    z2 = Gaussian(draw(4, 3, seed=24), draw(4, 3, seed=25))
    params = {"z2": z2, "z1": q1, "prior1": p1, "x": Bernoulli(draw(4, 1, 2, 2, seed=26))}
    return params, torch.sigmoid(draw(4, 1, 2, 2, seed=27))


def test_kl_of_two_gaussians_is_torch_s():
    params, _ = two_layers()
    q, p = (td.Normal(g.mu, (g.logvar / 2).exp()) for g in (params["z1"], params["prior1"]))
    found = gaussian_kl(params["z1"], params["prior1"])
    assert found.shape == (4,)
    torch.testing.assert_close(found, td.kl_divergence(q, p).flatten(1).sum(1), rtol=1e-12, atol=1e-12)
    normal = Gaussian(torch.zeros(4, 3).double(), torch.zeros(4, 3).double())
    torch.testing.assert_close(gaussian_kl(params["z2"], normal), rate(params["z2"]), rtol=1e-12, atol=1e-12)


def test_kl_of_two_gaussians_is_never_below_zero_however_close_they_are():
    mu, logvar = draw(200, 512, seed=28, dtype=torch.float32), draw(200, 512, seed=29, dtype=torch.float32)
    assert torch.equal(gaussian_kl(Gaussian(mu, logvar), Gaussian(mu, logvar)), torch.zeros(200))
    near = gaussian_kl(Gaussian(mu, torch.full_like(mu, 1e-3)), Gaussian(mu, torch.zeros_like(mu)))  # in float32
    torch.testing.assert_close(near, torch.full((200,), 256 * (math.expm1(1e-3) - 1e-3)), rtol=2e-3, atol=0)
    far = gaussian_kl(Gaussian(mu, logvar - 200), Gaussian(mu, logvar))  # costs what it says, and no infinity
    torch.testing.assert_close(far, torch.full((200,), 512 * 199 / 2))


@pytest.mark.parametrize(("beta2", "beta1"), [(0.1, 10.0), (1.0, 1.0), (3.0, 0.0)])
def test_each_beta_weighs_its_own_layer_s_rate(beta2, beta1):
    params, x = two_layers()
    weights = scales(("beta2", beta2), ("beta1", beta1))
    values = hierarchical_objective(params, x, None, weights, torch.tensor(0.0))
    names = ("loss", "distortion", "rate", "rate_z2", "rate_z1")
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(names, (4,))
    torch.testing.assert_close(values["rate_z2"], rate(params["z2"]))
    torch.testing.assert_close(values["rate_z1"], gaussian_kl(params["z1"], params["prior1"]))
    torch.testing.assert_close(values["rate"], values["rate_z2"] + values["rate_z1"])
    torch.testing.assert_close(values["distortion"], distortion(params["x"], x))
    expected = values["distortion"] + beta2 * values["rate_z2"] + beta1 * values["rate_z1"]
    torch.testing.assert_close(values["loss"], expected)
    torch.testing.assert_close(slopes(values, weights["beta2"]), values["rate_z2"])
    torch.testing.assert_close(slopes(values, weights["beta1"]), values["rate_z1"])


@pytest.mark.parametrize("tensors", [True, False])
@pytest.mark.parametrize(
    ("step", "warmup", "share"),
    [(0, 40, 0.0), (1, 40, 0.025), (10, 40, 0.25), (39, 40, 0.975), (40, 40, 1.0), (1000, 40, 1.0), (0, 0, 1.0),
     (5, 0, 1.0)],
)  # fmt: skip
def test_a_warm_up_raises_both_betas_linearly(step, warmup, share, tensors):
    params, x = two_layers()
    weights = scales(("beta2", 0.5), ("beta1", 3.0), ("warmup", float(warmup)))
    given = weights if tensors else {"beta2": 0.5, "beta1": 3.0, "warmup": float(warmup)}
    values = hierarchical_warmup_objective(params, x, None, given, torch.tensor(float(step)))
    scaled = {"beta2": 0.5 * share, "beta1": 3.0 * share}
    expected = hierarchical_objective(params, x, None, scaled, torch.tensor(float(step)))
    assert values.keys() == expected.keys()
    for name in values:
        torch.testing.assert_close(values[name], expected[name], rtol=1e-6, atol=0)
    if tensors:
        torch.testing.assert_close(slopes(values, weights["beta2"]), share * values["rate_z2"], rtol=1e-6, atol=0)
        torch.testing.assert_close(slopes(values, weights["beta1"]), share * values["rate_z1"], rtol=1e-6, atol=0)


def classified(gaussian, decoder=True):
    params = {"z": gaussian, "y": 3 * draw(4, 5, seed=30)}
    params |= {"x": Bernoulli(draw(4, 3, 2, 2, seed=31))} if decoder else {}
    return params, torch.sigmoid(draw(4, 3, 2, 2, seed=32)), torch.tensor([4, 0, 0, 2])


def test_cross_entropy_is_torch_s_and_log_m_where_nothing_is_known(gaussian):
    params, x, labels = classified(gaussian)
    expected = -td.Categorical(logits=params["y"]).log_prob(labels)
    torch.testing.assert_close(cross_entropy(params["y"], labels), expected, rtol=1e-12, atol=1e-12)
    values = cross_entropy_objective({"y": params["y"]}, x, labels, {}, torch.tensor(0.0))
    assert values.keys() == {"loss", "cross_entropy"}
    assert torch.equal(values["loss"], values["cross_entropy"])
    torch.testing.assert_close(values["loss"], expected)
    torch.testing.assert_close(cross_entropy(torch.zeros(4, 10), labels), torch.full((4,), math.log(10)))


@pytest.mark.parametrize(("objective", "divided_by"), [(classifier_sum_objective, 1),
                                                       (classifier_pixel_mean_objective, 12)])  # fmt: skip
@pytest.mark.parametrize("reconstruction", [0.0, 1.0])
def test_each_weight_of_a_classifier_vae_weighs_its_own_term(gaussian, objective, divided_by, reconstruction):
    params, x, labels = classified(gaussian)
    weights = scales(("beta", 0.5), ("lambda", 100.0), ("reconstruction", reconstruction))
    values = objective(params, x, labels, weights, torch.tensor(0.0))
    names = ("loss", "rate", "cross_entropy", "distortion")
    assert {name: v.shape for name, v in values.items()} == dict.fromkeys(names, (4,))
    d, r, ce = distortion(params["x"], x), rate(gaussian), cross_entropy(params["y"], labels)
    for name, expected in (("distortion", d), ("rate", r), ("cross_entropy", ce)):
        torch.testing.assert_close(values[name], expected)
    torch.testing.assert_close(values["loss"], reconstruction * d / divided_by + 0.5 * r + 100 * ce)
    for name, expected in (("reconstruction", d / divided_by), ("beta", r), ("lambda", ce)):
        torch.testing.assert_close(slopes(values, weights[name]), expected)


@pytest.mark.parametrize("objective", [classifier_sum_objective, classifier_pixel_mean_objective])
def test_without_a_decoder_there_is_no_distortion(gaussian, objective):
    params, x, labels = classified(gaussian, decoder=False)
    weights = {"beta": 0.5, "lambda": 10.0, "reconstruction": 1.0}
    values = objective(params, x, labels, weights, torch.tensor(0.0))
    assert values.keys() == {"loss", "rate", "cross_entropy"}
    torch.testing.assert_close(values["loss"], 0.5 * rate(gaussian) + 10 * cross_entropy(params["y"], labels))


def test_objectives_see_a_stack_of_members(gaussian):
    weights = {"beta": [0.5, 2.0], "lambda": [1.0, 7.0], "reconstruction": [1.0, 0.5]}
    weights |= {"beta2": [0.3, 3.0], "beta1": [1.0, 7.0], "warmup": [0.0, 8.0], "mi": [1.0, 0.0], "kl": [0.5, 2.0]}
    weights = {name: torch.tensor(value, dtype=torch.float64) for name, value in weights.items()}
    (layers, _), (classes, x, labels) = two_layers(), classified(gaussian)
    params = tree_map(lambda t: torch.stack((t, 0.5 * t)), layers | classes | {"sample": draw(4, 3, seed=33)})
    labels, step = torch.stack((labels, labels.flip(0))), torch.tensor(3.0)
    for objective in OBJECTIVES.values():
        stacked = torch.func.vmap(lambda p, y, w, f=objective: f(p, x, y, w, step))(params, labels, weights)
        for i in range(2):
            own_params, own = tree_map(lambda t, i=i: t[i], (params, weights))
            alone = objective(own_params, x, labels[i], own, step)
            assert stacked.keys() == alone.keys()
            assert all(stacked[name].shape == (2, 4) for name in alone)
            for name in alone:
                torch.testing.assert_close(stacked[name][i], alone[name], rtol=1e-12, atol=1e-12)


def test_objectives_are_known_by_name():
    for name in ("beta", "mi_kl", "hierarchical", "hierarchical_warmup", "classifier_sum", "classifier_pixel_mean",
                 "cross_entropy"):  # fmt: skip
        assert OBJECTIVES[name].__name__ == f"{name}_objective"
