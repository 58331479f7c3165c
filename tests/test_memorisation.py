"""Memorisation: networks made up of which it is known what they remember, and a brute search in float64."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d

from vaekit import data
from vaekit.metrics import Among, memorisation
from vaekit.metrics.neighbours import distances

N, M = 200, 300


@pytest.fixture(scope="module")
def images():
    """Targets, training images, control images and fresh ones, uint8: random parts of one set."""
    tetrominoes = data.load("tetrominoes")
    chosen = tetrominoes.take(tetrominoes.split("random").train[: 2 * N + 2 * M])
    return chosen.split([N, M, M, N])


def as_floats(images):
    return images.float() / 255


def brute(points, targets, train, control):
    """The values by `torch.cdist` in float64, in its slow and exact form."""
    points, targets, train, control = (
        (part.double() / 255 if part.dtype == torch.uint8 else part.double()).flatten(1)
        for part in (points, targets, train, control)
    )
    squares = torch.cdist(points, torch.cat((train, control)), compute_mode="donot_use_mm_for_euclid_dist")
    of_train, of_control = squares[:, : len(train)].min(1).values, squares[:, len(train) :].min(1).values
    own = (points - targets).norm(dim=1)
    wins = torch.bincount(squares.argmin(1)).double()
    preference = ((of_train < of_control).double() + (of_train == of_control).double() / 2).mean().item() - 0.5
    return of_train < own, of_control < own, preference, wins.square().sum().sqrt().item() / 2 / len(points)


def networks(images):
    """What networks that remember nothing make of the targets."""
    targets, _, _, fresh = images
    mixed = sum(as_floats(targets).roll(i, 0) for i in range(8)) / 8
    grey = torch.full(targets.shape, 0.4) + 0.01 * torch.rand(targets.shape, generator=torch.Generator().manual_seed(0))
    return {
        "sharp": as_floats(fresh),
        "blurred": avg_pool2d(as_floats(targets), 9, 1, 4),
        "mixed": mixed,
        "collapsed": as_floats(targets).mean(0, keepdim=True).expand(targets.shape).contiguous(),
        "grey": grey,
    }


@pytest.mark.parametrize("name", ["sharp", "blurred", "mixed", "collapsed", "grey"])
def test_it_is_what_a_brute_search_says(images, name):
    points = networks(images)[name]
    result, wanted = memorisation(points, *images[:3]), brute(points, *images[:3])
    assert torch.equal(result.nearer_to_train, wanted[0])
    assert torch.equal(result.nearer_to_control, wanted[1])
    assert result[2:] == pytest.approx(wanted[2:], abs=1e-12)


@pytest.mark.parametrize("name", ["sharp", "blurred", "mixed", "collapsed", "grey"])
def test_a_network_that_remembers_nothing_prefers_nothing(images, name):
    """Over draws of which of the images were the training images, as the error has it."""
    targets, *both, _ = images
    points, pool = networks(images)[name], torch.cat(both)
    where = Among(pool).nearest(points).index
    draws = [torch.randperm(2 * M, generator=torch.Generator().manual_seed(seed)) < M for seed in range(200)]
    scores = [is_train[where].double().mean().item() - 0.5 for is_train in draws]
    is_train = draws[-1]
    result = memorisation(points, targets, pool[is_train], pool[~is_train])
    assert result.train_preference == pytest.approx(scores[-1], abs=1e-12)  # no ties here
    scores = torch.tensor(scores)
    assert abs(scores.mean()) < 4 * result.se / math.sqrt(len(scores))
    # The spread of 200 draws is known to 5 %; without replacement it is a little less.
    assert 0.8 * result.se < scores.square().mean().sqrt() < 1.15 * result.se
    if name in ("collapsed", "grey"):
        assert abs(result.train_preference) == result.se == 0.5  # one image wins all: one toss of a coin
    else:
        assert result.se < 0.2


def test_poor_reconstructions_are_nearer_to_others_than_to_their_targets_but_to_either_kind(images):
    blurred = memorisation(networks(images)["mixed"], *images[:3])
    assert min(blurred.nearer_to_train.double().mean(), blurred.nearer_to_control.double().mean()) > 0.9
    assert abs(blurred.train_preference) < 4 * blurred.se


def test_a_network_that_returns_its_nearest_training_image_prefers_it_always(images):
    targets, train, control, _ = images
    points = as_floats(train[Among(train).nearest(targets).index])
    result = memorisation(points, targets, train, control)
    assert result.train_preference == 0.5
    assert result.nearer_to_train.all()
    assert result.se < 0.1
    assert memorisation(points, targets, control, train).train_preference == -0.5
    # One that returns it for a half of the targets, and the targets for the others, is in between.
    half = torch.cat((points[: N // 2], as_floats(targets[N // 2 :])))
    assert 0.15 < memorisation(half, targets, train, control).train_preference < 0.35


def test_a_network_that_returns_its_targets_is_nearer_to_nothing(images):
    targets, train, control, _ = images
    result = memorisation(as_floats(targets), targets, train, control)
    assert not result.nearer_to_train.any()
    assert not result.nearer_to_control.any()
    # Nor where the target is among them: what equals it is not nearer.
    brighter = as_floats(targets).sqrt()
    result = memorisation(brighter, targets, targets, targets)
    assert not (result.nearer_to_train & (Among(targets).nearest(brighter).index == torch.arange(N))).any()


def test_ties_count_half(images):
    targets, train, *_ = images
    same = memorisation(networks(images)["mixed"], targets, train, train.flip(0))
    assert same.train_preference == 0
    assert torch.equal(same.nearer_to_train, same.nearer_to_control)
    # Values 0, 1 and 2 of a pixel: 1 lies between, and rounding decides nothing.
    levels = torch.tensor([0, 2, 40, 41], dtype=torch.uint8).view(-1, 1, 1, 1)
    points = torch.tensor([1, 1, 1, 39], dtype=torch.float64).view(-1, 1, 1, 1) / 255
    result = memorisation(points, levels, levels[[0, 3]], levels[[1, 2]])
    assert result.train_preference == pytest.approx((3 * 0.5 + 0) / 4 - 0.5)
    assert result.se == pytest.approx(math.sqrt(3**2 + 1) / 8)


def test_the_order_of_points_and_images_changes_nothing(images):
    targets, train, control, _ = images
    points = networks(images)["blurred"]
    expected = memorisation(points, targets, train, control)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    other = memorisation(points[order], targets[order], train.flip(0), control.roll(7, 0))
    assert other[2:] == expected[2:]
    assert torch.equal(other.nearer_to_train, expected.nearer_to_train[order])
    parts = [memorisation(points[i], targets[i], train, control) for i in torch.arange(N).split(50)]
    assert torch.equal(torch.cat([part.nearer_to_control for part in parts]), expected.nearer_to_control)
    assert sum(part.train_preference for part in parts) / 4 == pytest.approx(expected.train_preference, abs=1e-12)


def test_what_is_not_finite_or_not_given(images):
    targets, train, control, _ = images
    points = networks(images)["blurred"]
    points[5, 0, 3, 3] = math.inf
    result = memorisation(points, targets, train, control)
    assert math.isnan(result.train_preference)
    assert math.isnan(result.se)
    with pytest.raises(ValueError, match="200 points, 300 training and 299 control images; give"):
        memorisation(points, targets, train, control[1:])
    with pytest.raises(ValueError, match="got 0 points"):
        memorisation(points[:0], targets[:0], train, control)
    with pytest.raises(ValueError, match=r"1 targets; give each point its own target"):
        memorisation(points, targets[:1], train, control)


def test_distances_of_pairs(images):
    targets, train, *_ = images
    wanted = (targets.double() - train[:N].double()).flatten(1).norm(dim=1) / 255
    assert distances(targets, train[:N]).numpy() == pytest.approx(wanted.numpy(), rel=1e-12)
    assert not distances(targets, targets).any()
