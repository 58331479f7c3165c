"""All models by one contract, the dense and the convolutional VAE by closed formulas, and what each refuses.

The cases of the contract are those of the golden traces, of which every family has one.
"""

import copy
import math
from itertools import pairwise

import pytest
import torch
from test_convolution import TORCH_LAYERS
from test_golden import CASES, TASKS
from torch.utils._pytree import tree_leaves, tree_map

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.losses import OBJECTIVES, distortion
from vaekit.models import CODE_VERSIONS, MODELS, ConvVAE, DenseVAE, build

BATCH = 4
STUDY_1 = {"depth": 4, "channels": (64, 128, 256, 256), "batch_norm": True, "slope": 0.2}


def count(model):
    return sum(p.numel() for p in model.parameters())


def noise_for(model, batch=BATCH, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    sites = model.noise_sites.items()
    return {site: torch.randn((batch, *shape), generator=generator, dtype=dtype) for site, shape in sites}


class Case:
    """A small model of a family in float64, images and noise for it, and the objective that it is trained by."""

    def __init__(self, name: str, seed=0, **changes):
        self.family, arguments = CASES[name]
        self.shape, self.objective, self.weights = TASKS.get(self.family, ((1, 8, 8), "beta", {"beta": 0.7}))
        torch.manual_seed(seed)
        arguments = {key: value for key, value in arguments.items() if key != "arm"}  # pruning's, not the model's
        self.model = build(self.family, self.shape, **arguments | changes).double()
        self.x = torch.rand(BATCH, *self.shape, dtype=torch.float64)
        self.noise = noise_for(self.model)

    def values(self, model) -> dict:
        """The objective's values at the outputs of a model for these images and this noise."""
        step, labels = torch.tensor(3.0), torch.arange(BATCH) % 3
        return OBJECTIVES[self.objective](model(self.x, self.noise), self.x, labels, self.weights, step)


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def case(name):
    return Case(name)


def assert_same(found: dict, expected: dict, rows=slice(None), **tolerances):
    """The same distributions, those of `expected` at some rows."""
    assert found.keys() == expected.keys()
    for a, b in zip(tree_leaves(found), tree_leaves(expected), strict=True):
        torch.testing.assert_close(a, b[rows] if b.dim() else b, **tolerances)


# ---- the contract


def test_every_family_has_a_code_version_and_a_case():
    assert CODE_VERSIONS.keys() == MODELS.keys() == {family for family, _ in CASES.values()}


def test_forward_returns_distributions_of_the_declared_shapes(case):
    params, batch = case.model(case.x, case.noise), torch.Size([BATCH])
    for site, shape in case.model.noise_sites.items():
        assert isinstance(params[site], Gaussian)
        assert params[site].mu.shape == params[site].logvar.shape == (BATCH, *shape)
    if "x" in params:
        assert isinstance(params["x"], Bernoulli if case.model.likelihood == "bernoulli" else Gaussian)
        assert params["x"].mean.shape == case.x.shape
        assert params["x"].mean.is_contiguous()  # as the images are, to which they are compared
        assert case.model.generate(case.noise).mean.shape == case.x.shape
    values = case.values(case.model)
    assert {value.shape for value in values.values()} == {batch}
    assert all(value.isfinite().all() for value in values.values())


def test_the_loss_reaches_every_parameter(name):
    case = Case(name, **({"channels": 8} if name in ("ghvae", "lvae") else {}))  # of two, every ReLU may be dead
    case.values(case.model)["loss"].mean().backward()
    layers = list(case.model.named_modules())
    # What a BatchNorm subtracts has no gradient but rounding.
    removed = {f"{name}.bias" for (name, _), (_, after) in pairwise(layers) if "BatchNorm" in type(after).__name__}
    gradients = {name: p.grad for name, p in case.model.named_parameters() if name not in removed}
    assert [name for name, g in gradients.items() if g is None or not g.isfinite().all() or g.abs().max() < 1e-12] == []


def test_a_saved_state_gives_the_same_outputs(name, case):
    """The likelihood's sigma belongs to it: the other model is made with another one."""
    other = Case(name, seed=1, sigma=0.9).model
    other.load_state_dict(case.model.state_dict())
    expected, found = (model.eval()(case.x, case.noise) for model in (case.model, other))
    assert_same(found, expected, rtol=0, atol=0)


def test_images_do_not_see_each_other(case):
    model = case.model.eval()
    alone = model(case.x[:1], {site: noise[:1] for site, noise in case.noise.items()})
    assert_same(alone, model(case.x, case.noise), slice(1), rtol=1e-10, atol=1e-10)


def test_a_member_of_a_stack_gives_what_it_gives_alone(name, case):
    members = [Case(name, seed).model.eval() for seed in range(3)]
    state = torch.func.stack_module_state(members)

    def forward(parameters, buffers):
        return torch.func.functional_call(members[0], (parameters, buffers), (case.x, case.noise))

    stacked = torch.func.vmap(forward)(*state)
    for i, model in enumerate(members):
        member = tree_map(lambda tensor, i=i: tensor[i], stacked)
        assert_same(member, model(case.x, case.noise), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name, (_, arguments) in CASES.items() if arguments.get("decoder", True)])
def test_representations_are_the_layers_that_forward_goes_through(case):
    model = case.model.eval()
    params, layers = model(case.x, case.noise), model.representations(case.x, case.noise)
    names = list(layers)
    assert (names[0], names[-1]) == ("input", "output")
    assert torch.equal(layers["input"], case.x)
    for site in model.noise_sites:
        assert torch.equal(layers[f"mu{site[1:]}"], params[site].mu)
        assert torch.equal(layers[site], params[site].sample(case.noise[site]))
    torch.testing.assert_close(model.decode(layers[site]).mean, layers["output"])
    torch.testing.assert_close(layers["output"], params["x"].mean)
    assert torch.equal(model.encode(case.x).mu, layers["mu" if "mu" in layers else "mu2"])
    if "sample" in params:
        assert torch.equal(params["sample"], layers["z"])


def test_values_and_gradients_are_those_of_torchs_layers(case):
    theirs = copy.deepcopy(case.model)
    for layer in theirs.modules():
        layer.__class__ = TORCH_LAYERS.get(type(layer), type(layer))
    for model in (case.model, theirs):
        case.values(model)["loss"].mean().backward()
    for (name, ours), expected in zip(case.model.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, rtol=1e-10, atol=1e-10, msg=name)


# ---- the dense and the convolutional VAE


@pytest.mark.parametrize("name", ["dense_vae", "conv_vae"])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_images_need_not_be_square(name, likelihood):
    model = build(name, (3, 16, 8), depth=2, latent_dim=3, likelihood=likelihood)
    x = torch.rand(5, 3, 16, 8)
    assert distortion(model(x, noise_for(model, 5, torch.float32))["x"], x).shape == (5,)


@pytest.mark.parametrize(("depth", "hidden", "latent_dim"), [(1, 512, 10), (3, 512, 10), (2, 7, 4)])
def test_size_of_a_dense_vae(depth, hidden, latent_dim):
    pixels = 3 * 32 * 32
    inner = (depth - 1) * hidden * (hidden + 1)
    encoder = (pixels + 1) * hidden + inner + 2 * (hidden + 1) * latent_dim
    decoder = (latent_dim + 1) * hidden + inner + (hidden + 1) * pixels
    assert count(DenseVAE((3, 32, 32), depth, hidden, latent_dim)) == encoder + decoder


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("channels", [64, (64, 128, 256, 256)])
def test_size_of_a_convolutional_vae(channels, batch_norm):
    depth, latent_dim, side = 4, 10, 32
    widths = [3] + ([channels] * depth if isinstance(channels, int) else list(channels))
    features = widths[-1] * (side // 2**depth) ** 2
    kernels = sum(16 * i * o for i, o in pairwise(widths))  # the same on either side
    linear = 2 * (features + 1) * latent_dim + (latent_dim + 1) * features
    biases = sum(widths[1:]) + sum(widths[:-1])
    norms = 2 * (sum(widths[1:]) + features + sum(widths[1:-1])) if batch_norm else 0
    model = ConvVAE((3, side, side), depth, channels, latent_dim, batch_norm=batch_norm)
    assert count(model) == 2 * kernels + biases + linear + norms


@pytest.mark.parametrize(
    ("model", "encoders", "decoders"),
    [
        (DenseVAE((1, 8, 8), 2, 16, 3), 2, 2),
        (ConvVAE((1, 8, 8), 1, 4, 3, "gaussian", 0.2), 1, 1),
        (ConvVAE((3, 32, 32), latent_dim=8, likelihood="gaussian", **STUDY_1), 4, 4),
    ],
)
def test_a_layer_is_named_after_each_nonlinearity(model, encoders, decoders):
    x = torch.rand(2, *model.image_shape)
    layers = model.eval().representations(x, noise_for(model, 2, torch.float32))
    names = [f"encoder{i}" for i in range(1, encoders + 1)] + ["mu", "logvar", "z"]
    names += [f"decoder{i}" for i in range(1, decoders + 1)]
    assert list(layers) == ["input", *names, "output"]
    assert torch.equal(layers["logvar"], model.encode(x).logvar)


def test_study_1_s_layers_let_through_a_fifth_of_what_is_below_zero():
    model = ConvVAE((3, 32, 32), latent_dim=8, likelihood="gaussian", **STUDY_1).eval()
    layers = model.representations(torch.rand(2, 3, 32, 32), noise_for(model, 2, torch.float32))
    for name in ("encoder1", "decoder3"):
        assert layers[name].min() < 0


def test_batch_norm_measures_the_batch_in_training_and_not_in_eval():
    model = ConvVAE((1, 8, 8), 1, 4, 2, batch_norm=True)
    x = torch.rand(6, 1, 8, 8)
    assert not torch.allclose(model.encode(x).mu[:3], model.encode(x[:3]).mu, atol=1e-4)
    model.eval()
    torch.testing.assert_close(model.encode(x).mu[:3], model.encode(x[:3]).mu)


def test_sigma_is_stored_as_its_log_variance():
    assert DenseVAE((1, 4, 4), 1, 4, 2, "gaussian", 0.1).logvar_x.item() == pytest.approx(2 * math.log(0.1))


# ---- what is refused


@pytest.mark.parametrize(
    ("family", "shape", "arguments", "message"),
    [
        ("ghost", (1, 8, 8), {}, "dense_vae, conv_vae"),
        ("dense_vae", (1, 8, 8), {"likelihood": "poisson"}, "bernoulli, gaussian"),
        ("conv_vae", (1, 28, 28), {"depth": 3}, "multiples of 8"),
        ("conv_vae", (1, 8, 12), {"depth": 3}, "multiples of 8"),
        ("conv_vae", (1, 8, 8), {"depth": 2, "channels": (4, 8, 16)}, "one for each layer"),
        ("classifier_vae", (1, 8, 8), {"classes": 1}, "classes is 1"),
        *(
            (family, shape, arguments, message)
            for family in ("ghvae", "lvae")
            for shape, arguments, message in [
                ((1, 8, 8), {}, r"\(1, 8, 8\); these models take 28 x 28 or 32 x 32"),
                ((3, 32, 28), {}, "28 x 28 or 32 x 32"),
                ((3, 32, 32), {"channels": 0}, "channels is 0"),
                ((3, 32, 32), {"latent_dim": 0}, "latent_dim 0"),
                ((3, 32, 32), {"likelihood": "poisson"}, "bernoulli, gaussian"),
                ((3, 32, 32), {"sigma": 0.0}, "sigma is 0.0"),
            ]
        ),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(family, shape, arguments, message):
    with pytest.raises((ValueError, KeyError), match=message):
        build(family, shape, **arguments)
