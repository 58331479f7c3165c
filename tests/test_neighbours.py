"""Nearest images: those of a brute search in whole numbers, whatever the bounds let through; ties; odd points."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from vaekit import data
from vaekit.metrics import Among, nearest, neighbours


@pytest.fixture
def small(monkeypatch):
    """Blocks and directions so few that a search goes through many, and the bounds let many images through."""
    for name, number in {"_POINTS": 16, "_IMAGES": 40, "_DIRECTIONS": 4, "_PAIRS": 3072 * 5}.items():
        monkeypatch.setattr(neighbours, name, number)


@pytest.fixture(scope="module")
def images():
    """40 tetrominoes, and 150 others of which the last 50 are there twice and the first 5 are among the 40."""
    tetrominoes = data.load("tetrominoes")
    rows = tetrominoes.split("cv", 200).train
    points, others = tetrominoes.take(rows[:40]), tetrominoes.take(rows[40:140])
    return points, torch.cat((others, others[50:], points[:5]))


def brute(points, among):
    """Squared distances in whole numbers, and the first of the nearest."""
    squares = (points.long().flatten(1).unsqueeze(1) - among.long().flatten(1)).square().sum(2)
    least = squares.min(1, keepdim=True).values
    return least.squeeze(1), (squares == least).long().argmax(1)


@pytest.mark.parametrize("blocks", ["usual", "small"])
def test_nearest_tetrominoes_are_those_of_a_brute_search(images, blocks, request):
    if blocks == "small":
        request.getfixturevalue("small")
    squares, index = brute(*images)
    found = nearest(*images)
    assert torch.equal(found.distance, squares.double().sqrt() / 255)
    assert torch.equal(found.index, index)
    assert (found.distance == 0).sum() == 5
    assert (found.index < 100).sum() > 30  # of an image that is there twice, the first


@pytest.mark.usefixtures("small")
def test_floats_are_as_near_as_scikit_learn_says(images):
    points, among = images
    points = points.float() / 255
    points += 0.2 * torch.rand(points.shape, generator=torch.Generator().manual_seed(0)) * (1 - points)
    oracle = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(among.double().flatten(1).numpy() / 255)
    distance, index = oracle.kneighbors(points.double().flatten(1).numpy())
    for others in (among, among.double() / 255):
        found = nearest(points, others)
        assert found.distance.numpy() == pytest.approx(distance[:, 0], rel=1e-7)
        assert torch.equal(among[found.index], among[torch.from_numpy(index[:, 0])])  # one of two that are alike


@pytest.mark.usefixtures("small")
def test_ties_go_to_the_first_in_whatever_block():
    """Points on a line: 3 lies between 2 and 4, which are there again and again."""
    among = torch.tensor([200, 4, 2] * 40, dtype=torch.uint8).view(-1, 1, 1, 1)
    found = nearest(torch.tensor([3, 2, 4, 150], dtype=torch.uint8).view(-1, 1, 1, 1), among)
    assert found.index.tolist() == [1, 2, 1, 0]
    assert found.distance.tolist() == [1 / 255, 0, 0, 50 / 255]


def test_a_bound_is_never_above_its_distance(images, monkeypatch):
    """As far as float32 goes: with one image at a time, each bound decides whether the image is looked at."""
    points, among = images
    monkeypatch.setattr(neighbours, "_DIRECTIONS", 64)
    prepared, seen = Among(among), []
    x = points.double().flatten(1)
    exact = (x.unsqueeze(1) - among.double().flatten(1)).square().sum(2)
    short = prepared._shorten(x)
    left = torch.cat((-2 * short, prepared._squares(short), torch.ones_like(short[:, :1])), dim=1)
    bounds = (left @ prepared._short.T).double()
    assert (bounds <= exact).all()
    assert bounds.median() > exact.median() / 3  # and says something
    tight = prepared._tight_bounds(x, 0).double()
    assert (tight <= exact).all()
    assert (tight > exact - 1e-4 * exact.max()).all()
    monkeypatch.setattr(prepared, "_exact", lambda p, i, j: seen.append(len(i)) or Among._exact(prepared, p, i, j))
    prepared.nearest(points)
    assert sum(seen) < exact.numel() / 4


@pytest.mark.usefixtures("small")
def test_a_grey_blob_is_not_compared_with_every_image(images, monkeypatch):
    """No bound rules anything out for it; but it is enough to find one image that is nearer."""
    points, among = images
    blobs = torch.full(points.shape, 0.45) + 0.01 * torch.rand(points.shape)
    prepared, asked = Among(among), []
    exact = prepared._exact
    monkeypatch.setattr(
        prepared, "_exact", lambda points, row, column: (asked.append(len(row)), exact(points, row, column))[1]
    )
    squares = (255 * blobs.double().flatten(1).unsqueeze(1) - among.double().flatten(1)).square().sum(2).min(1).values
    own = (255 * blobs.double() - points.double()).flatten(1).square().sum(1)
    found = prepared.nearer(blobs, points)
    assert torch.equal(found, squares < own * (1 - 1e-12))
    assert found.double().mean() > 0.8
    assert sum(asked) < len(points) * len(among) / 2
    # Nor where the nearest is wanted: bounds of whole images rule out what those of short vectors do not.
    asked.clear()
    assert torch.equal((255 * prepared.nearest(blobs).distance).square().round(), squares.round())
    assert sum(asked) < len(points) * len(among) / 4


@pytest.mark.usefixtures("small")
def test_nearer_than_the_target(images):
    points, among = images
    targets = torch.cat((points[:15], points.roll(1, 0)[15:]))  # fifteen are their own: nothing is nearer
    squares, _ = brute(points, among)
    own = (points.long() - targets.long()).square().flatten(1).sum(1)
    prepared = Among(among)
    assert torch.equal(prepared.nearer(points, targets), squares < own)
    assert 15 < prepared.nearer(points, targets).sum() <= 25
    # The target's equal is not nearer, whatever floats make of the differences.
    blurred = (points.float() / 255).sqrt()
    assert not Among(points).nearer(blurred, points[nearest(blurred, points).index]).any()


def test_odd_points_and_images(images):
    points, among = images
    one = nearest(points, among[:1])
    assert one.index.tolist() == [0] * 40
    assert torch.equal(one.distance, brute(points, among[:1])[0].double().sqrt() / 255)
    flat = nearest(points[:3], torch.zeros_like(among))
    assert flat.index.tolist() == [0, 0, 0]
    odd = points[:3].float() / 255
    odd[1, 0, 0, 0], odd[2, 0, 0, 0] = math.nan, math.inf
    found = nearest(odd, among)
    assert found.index.tolist() == [brute(points[:1], among)[1].item(), -1, -1]
    assert found.distance[1:].tolist() == [math.inf, math.inf]
    assert len(nearest(points[:0], among).index) == 0


def test_what_cannot_be_compared_is_refused(images):
    points, among = images
    with pytest.raises(ValueError, match="no images"):
        Among(among[:0])
    with pytest.raises(ValueError, match="int64; give uint8"):
        nearest(points, among.long())
    with pytest.raises(ValueError, match=r"points are \(32, 32\)"):
        nearest(points[:, 0], among)
