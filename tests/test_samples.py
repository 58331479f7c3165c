"""PSNR and the Inception Score on answers that are known, and samples that depend on nothing but their keys."""

import math

import pytest
import torch
from torch import nn

from vaekit import randomness
from vaekit.distributions import Gaussian
from vaekit.metrics import evaluate, generate_images, inception_score, probabilities, psnr, reconstruct
from vaekit.metrics.samples import LEAST_MSE
from vaekit.models import ConvVAE, DenseVAE

SHAPE = (1, 8, 8)
IMAGES = (randomness.uniform(1, randomness.FACTORS, 0, "test images", (30, *SHAPE)) * 256).to(torch.uint8)


class Off(nn.Module):
    """Reconstructs each image off by what `error` says; adds its noise, so that only zero noise gives just that."""

    noise_sites = {"z": SHAPE}  # noqa: RUF012

    def __init__(self, error):
        super().__init__()
        self.error = nn.Parameter(torch.as_tensor(error, dtype=torch.float64))

    def forward(self, x, noise):
        return {"x": Gaussian(x + self.error[: len(x)].view(-1, 1, 1, 1) + noise["z"], torch.zeros(()))}

    def generate(self, noise):
        return Gaussian(noise["z"], torch.zeros(()))


@pytest.fixture(params=[lambda: DenseVAE(SHAPE, 1, 16, 3), lambda: ConvVAE(SHAPE, 1, 4, 3, likelihood="gaussian")])
def model(request):
    return request.param().double().eval()


def test_psnr_by_hand_in_both_readings():
    quality = psnr(Off([0.1, 0.01, 0.01, 0.1]), IMAGES[:4])
    assert quality.of_images.tolist() == pytest.approx([20, 40, 40, 20])
    mse = (0.01 + 0.0001) / 2
    assert quality.of_all == pytest.approx(-10 * math.log10(mse))
    assert quality.of_all < quality.of_images.mean()
    spread = (0.01 - 0.0001) / 2 * math.sqrt(4 / 3) / math.sqrt(4)  # standard error of the MSE
    assert quality.of_all_se == pytest.approx(10 * math.log10(math.e) * spread / mse)


def test_a_perfect_reconstruction_is_as_good_as_rounding_to_bytes():
    quality = psnr(Off([0.0] * 30), IMAGES)
    ceiling = 10 * math.log10(12 * 255**2)
    assert quality.of_images.tolist() == pytest.approx([ceiling] * 30)
    assert (quality.of_all, quality.of_all_se) == pytest.approx((ceiling, 0))
    rounded = (IMAGES.double() + torch.rand(IMAGES.shape, generator=torch.Generator().manual_seed(0)) - 0.5) / 255
    assert (rounded - IMAGES.double() / 255).square().mean().item() == pytest.approx(LEAST_MSE, rel=0.1)


def test_psnr_is_that_of_the_modes_whatever_the_batches(model):
    quality = psnr(model, IMAGES)
    at_modes = model.decode(model.encode(IMAGES.double() / 255).mu).mean
    mse = (at_modes - IMAGES.double() / 255).square().mean((1, 2, 3)).detach()
    torch.testing.assert_close(quality.of_images, -10 * mse.log10())
    assert quality.of_all == pytest.approx(-10 * mse.mean().log10().item())
    for batch_size in (1, 7):
        cut = psnr(model, IMAGES, batch_size)
        torch.testing.assert_close(cut.of_images, quality.of_images)
        assert cut.of_all == pytest.approx(quality.of_all)


@torch.no_grad()
def test_reconstructions_are_means_at_the_codes_means(model):
    x = IMAGES.double() / 255
    wanted = model.decode(model.encode(x).mu).mean
    assert torch.equal(reconstruct(model, IMAGES), wanted.float())
    with pytest.raises(ValueError, match="uint8"):
        reconstruct(model, x)


def test_samples_depend_on_seed_and_number_alone(model):
    whole = generate_images(model, 20, seed=3)
    assert whole.shape == (20, *SHAPE)
    assert whole.dtype == torch.float32
    for batch_size in (1, 7):
        torch.testing.assert_close(generate_images(model, 20, 3, batch_size), whole)
    torch.testing.assert_close(generate_images(model, 9, 3), whole[:9])
    assert not torch.allclose(generate_images(model, 20, 4), whole)
    assert len(torch.unique(whole, dim=0)) == 20


def test_samples_are_of_the_prior_and_not_of_the_noise_of_evaluation():
    drawn = generate_images(Off([0.0]), 2000, seed=3)
    assert drawn.mean().item() == pytest.approx(0, abs=5 / math.sqrt(drawn.numel()))
    assert drawn.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / drawn.numel()))
    rows = torch.arange(30)
    at_evaluation = evaluate(
        Off([0.0] * 30), IMAGES, rows, 3, of=lambda params, x: {"noise": (params["x"].mu - x).flatten(1)[:, 0]}
    )
    assert not torch.isclose(at_evaluation["noise"], drawn[:30].flatten(1)[:, 0].double()).any()


def test_no_class_is_told_and_every_class_is():
    uniform = inception_score(torch.full((50, 8), 1 / 8))
    assert uniform[::2] == pytest.approx((1, 8, 1 / 8, 50))
    assert uniform[1:6:2] == pytest.approx((0, 0, 0), abs=1e-6)
    certain = inception_score(torch.eye(8).repeat(5, 1))  # each split has each class once
    assert certain[::2] == pytest.approx((8, 8, 1, 40))
    collapsed = inception_score(torch.eye(8)[:1].repeat(40, 1))
    assert collapsed[::2] == pytest.approx((1, 1, 1, 40))


def test_the_score_is_its_formula_in_each_split():
    p = torch.randn(60, 7, generator=torch.Generator().manual_seed(0)).double().mul(2).softmax(1)
    each = []
    for part in p.chunk(5):
        marginal = part.mean(0)
        score = (part * (part / marginal).log()).sum(1).mean().exp().item()  # exp E KL(p(y|x) || p(y))
        alone = inception_score(part, splits=1)
        assert alone.score == pytest.approx(score)
        assert alone.score == pytest.approx(alone.diversity * alone.sharpness)
        assert alone.diversity == pytest.approx(torch.distributions.Categorical(marginal).entropy().exp().item())
        each.append(alone)
    scores = inception_score(p)
    assert scores.n == 60
    for name in ("score", "diversity", "sharpness"):
        values = torch.tensor([getattr(one, name) for one in each], dtype=torch.float64)
        assert getattr(scores, name) == pytest.approx(values.mean().item())
        assert getattr(scores, f"{name}_se") == pytest.approx(values.std().item() / math.sqrt(5))
    # splits differ in both factors, so the means' product is not the score's mean
    assert scores.score != pytest.approx(scores.diversity * scores.sharpness, rel=1e-6)


@pytest.mark.parametrize(("n", "splits"), [(0, 5), (7, 5), (5, 0)])
def test_samples_that_do_not_divide(n, splits):
    with pytest.raises(ValueError, match="give "):
        inception_score(torch.full((n, 3), 1 / 3), splits)


def test_probabilities_do_not_depend_on_batches():
    images = torch.rand(20, *SHAPE, generator=torch.Generator().manual_seed(0))

    def judge(x):
        return torch.stack((x.mean((1, 2, 3)), 1 - x.mean((1, 2, 3))), 1)

    judged = probabilities(judge, images)
    assert judged.dtype == torch.float64
    torch.testing.assert_close(judged, judge(images).double())
    for batch_size in (1, 7):
        torch.testing.assert_close(probabilities(judge, images, batch_size), judged)
