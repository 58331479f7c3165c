"""The dense and the convolutional VAE: shapes, sizes by closed formula, named layers, and what they refuse."""

import math
from itertools import pairwise

import pytest
import torch

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.losses import distortion
from vaekit.models import CODE_VERSIONS, MODELS, ConvVAE, DenseVAE, build

STUDY_1 = {"depth": 4, "channels": (64, 128, 256, 256), "batch_norm": True, "slope": 0.2}


def count(model):
    return sum(p.numel() for p in model.parameters())


def noise_for(model, batch, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    sites = model.noise_sites.items()
    return {site: torch.randn((batch, *shape), generator=generator, dtype=dtype) for site, shape in sites}


@pytest.mark.parametrize("name", ["dense_vae", "conv_vae"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 16, 8)])
@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_shapes(name, shape, likelihood):
    model = build(name, shape, depth=2, latent_dim=3, likelihood=likelihood)
    x = torch.rand(5, *shape)
    assert model.noise_sites == {"z": (3,)}
    params = model(x, noise_for(model, 5))
    assert isinstance(params["z"], Gaussian)
    assert isinstance(params["x"], Bernoulli if likelihood == "bernoulli" else Gaussian)
    assert params["z"].mu.shape == params["z"].logvar.shape == (5, 3)
    assert params["x"].mean.shape == x.shape
    assert distortion(params["x"], x).shape == (5,)
    assert CODE_VERSIONS.keys() == MODELS.keys()


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
    ("model", "layers"),
    [
        (DenseVAE((1, 8, 8), 2, 16, 3), ["encoder1", "encoder2", "mu", "logvar", "z", "decoder1", "decoder2"]),
        (ConvVAE((1, 8, 8), 1, 4, 3, "gaussian", 0.2), ["encoder1", "mu", "logvar", "z", "decoder1"]),
        (
            ConvVAE((3, 32, 32), latent_dim=8, likelihood="gaussian", **STUDY_1),
            [f"encoder{i}" for i in range(1, 5)] + ["mu", "logvar", "z"] + [f"decoder{i}" for i in range(1, 5)],
        ),
    ],
)
def test_representations_are_the_layers_that_forward_goes_through(model, layers):
    model.eval()
    x = torch.rand(4, *model.image_shape)
    noise = noise_for(model, 4)
    named = model.representations(x, noise)
    assert list(named) == ["input", *layers, "output"]
    params = model(x, noise)
    assert torch.equal(named["input"], x)
    assert torch.equal(named["mu"], params["z"].mu)
    assert torch.equal(named["logvar"], params["z"].logvar)
    assert torch.equal(named["z"], params["sample"])
    assert torch.equal(named["z"], params["z"].sample(noise["z"]))
    assert torch.equal(named["output"], params["x"].mean)
    assert torch.equal(model.decode(named["z"]).mean, named["output"])
    assert torch.equal(model.encode(x).mu, named["mu"])


def test_study_1_s_layers_let_through_a_fifth_of_what_is_below_zero():
    model = ConvVAE((3, 32, 32), latent_dim=8, likelihood="gaussian", **STUDY_1).eval()
    named = model.representations(torch.rand(2, 3, 32, 32), noise_for(model, 2))
    for name in ("encoder1", "decoder3"):
        assert named[name].min() < 0


def test_batch_norm_measures_the_batch_in_training_and_not_in_eval():
    model = ConvVAE((1, 8, 8), 1, 4, 2, batch_norm=True)
    x = torch.rand(6, 1, 8, 8)
    assert not torch.allclose(model.encode(x).mu[:3], model.encode(x[:3]).mu, atol=1e-4)
    model.eval()
    torch.testing.assert_close(model.encode(x).mu[:3], model.encode(x[:3]).mu)


def test_sigma_is_saved_with_the_model():
    model = DenseVAE((1, 4, 4), 1, 4, 2, "gaussian", 0.1)
    other = DenseVAE((1, 4, 4), 1, 4, 2, "gaussian", 0.7)
    other.load_state_dict(model.state_dict())
    x = torch.rand(3, 1, 4, 4)
    noise = noise_for(model, 3)
    assert torch.equal(distortion(other(x, noise)["x"], x), distortion(model(x, noise)["x"], x))
    assert other.logvar_x.item() == pytest.approx(2 * math.log(0.1))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: build("ghost", (1, 8, 8)), "dense_vae, conv_vae"),
        (lambda: build("dense_vae", (1, 8, 8), likelihood="poisson"), "bernoulli, gaussian"),
        (lambda: ConvVAE((1, 28, 28), depth=3), "multiples of 8"),
        (lambda: ConvVAE((1, 8, 12), depth=3), "multiples of 8"),
        (lambda: ConvVAE((1, 8, 8), depth=2, channels=(4, 8, 16)), "one for each layer"),
    ],
)
def test_bad_arguments_are_refused_in_a_sentence(make, says):
    with pytest.raises((ValueError, KeyError), match=says):
        make()
