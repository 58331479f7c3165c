"""Nearest images: those of a brute search in whole numbers, whatever the bounds let through; ties; odd points."""

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from vaekit import data
from vaekit.metrics import Among, neighbours


@pytest.fixture
def small(monkeypatch):
    """Blocks and directions so few that a search goes through many, and the bounds let many images through."""
    for name, number in {"_BLOCK": 3_000, "_IMAGES": 40, "_DIRECTIONS": 4, "_MANY": 8, "_PAIRS": 3072 * 5}.items():
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


def counted(monkeypatch, among):
    """The images prepared, and a list that grows by how many are compared by their differences."""
    prepared, numbers = Among(among), []
    exact = prepared._exact
    monkeypatch.setattr(prepared, "_exact", lambda p, i, j: (numbers.append(len(i)), exact(p, i, j))[1])
    return prepared, numbers


@pytest.mark.parametrize("blocks", ["usual", "small"])
def test_nearest_tetrominoes_are_those_of_a_brute_search(images, blocks, request):
    if blocks == "small":
        request.getfixturevalue("small")
    points, among = images
    squares, index = brute(points, among)
    nearest = Among(among).nearest(points)
    assert torch.equal(nearest.distance, squares.double().sqrt() / 255)
    assert torch.equal(nearest.index, index)
    assert (nearest.distance == 0).sum() == 5
    assert (nearest.index < 100).sum() > 30  # of an image that is there twice, the first


@pytest.mark.usefixtures("small")
def test_floats_are_as_near_as_scikit_learn_says(images):
    points, among = images
    points = points.float() / 255
    points += 0.2 * torch.rand(points.shape, generator=torch.Generator().manual_seed(0)) * (1 - points)
    oracle = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(among.double().flatten(1).numpy() / 255)
    distance, index = oracle.kneighbors(points.double().flatten(1).numpy())
    for others in (among, among.double() / 255):
        nearest = Among(others).nearest(points)
        assert nearest.distance.numpy() == pytest.approx(distance[:, 0], rel=1e-7)
        assert torch.equal(among[nearest.index], among[torch.from_numpy(index[:, 0])])  # one of two that are alike


@pytest.mark.usefixtures("small")
def test_ties_go_to_the_first_in_whatever_block():
    """Points on a line: 3 lies between 2 and 4, which are there again and again."""
    among = torch.tensor([200, 4, 2] * 40, dtype=torch.uint8).view(-1, 1, 1, 1)
    nearest = Among(among).nearest(torch.tensor([3, 2, 4, 150], dtype=torch.uint8).view(-1, 1, 1, 1))
    assert nearest.index.tolist() == [1, 2, 1, 0]
    assert nearest.distance.tolist() == [1 / 255, 0, 0, 50 / 255]


def test_a_bound_is_never_above_its_distance(images, monkeypatch):
    """As far as float32 goes: with bounds that tight, each decides whether an image is looked at."""
    points, among = images
    monkeypatch.setattr(neighbours, "_DIRECTIONS", 64)
    prepared, numbers = counted(monkeypatch, among)
    x = points.double().flatten(1)
    exact = (x.unsqueeze(1) - among.double().flatten(1)).square().sum(2)
    bounds = neighbours._lower_bounds(prepared._shorten(x), prepared._short).double()
    assert (bounds <= exact).all()
    assert bounds.median() > exact.median() / 3  # and says something
    of_whole_images = prepared._whole_bounds(x).double()
    assert (of_whole_images <= exact + 1e-7 * exact).all()  # rounded to float32, as what they are compared with
    assert (of_whole_images > exact - 1e-6 * exact.max()).all()
    prepared.nearest(points)
    assert sum(numbers) < exact.numel() / 4


@pytest.mark.usefixtures("small")
def test_a_grey_blob_is_not_compared_with_every_image(images, monkeypatch):
    """No short vector rules anything out for it; but one image that is nearer is enough, or whole images rule out."""
    points, among = images
    blobs = torch.full(points.shape, 0.45) + 0.01 * torch.rand(points.shape)
    prepared, numbers = counted(monkeypatch, among)
    squares = (255 * blobs.double().flatten(1).unsqueeze(1) - among.double().flatten(1)).square().sum(2).min(1).values
    own = (255 * blobs.double() - points.double()).flatten(1).square().sum(1)
    nearer = prepared.nearer(blobs, points)
    assert torch.equal(nearer, squares < own * (1 - 1e-12))
    assert nearer.double().mean() > 0.8
    assert sum(numbers) < len(points) * len(among) / 2
    numbers.clear()
    assert torch.equal((255 * prepared.nearest(blobs).distance).square().round(), squares.round())
    assert sum(numbers) < len(points) * len(among) / 4


@pytest.mark.usefixtures("small")
def test_nearer_than_the_target(images):
    points, among = images
    targets = torch.cat((points[:15], points.roll(1, 0)[15:]))  # fifteen are their own: nothing is nearer
    squares, _ = brute(points, among)
    own = (points.long() - targets.long()).square().flatten(1).sum(1)
    nearer = Among(among).nearer(points, targets)
    assert torch.equal(nearer, squares < own)
    assert 15 < nearer.sum() <= 25
    # The target's equal is not nearer, whatever floats make of the differences.
    blurred = (points.float() / 255).sqrt()
    prepared = Among(points)
    assert not prepared.nearer(blurred, points[prepared.nearest(blurred).index]).any()


def test_odd_points_and_images(images):
    points, among = images
    one = Among(among[:1]).nearest(points)
    assert one.index.tolist() == [0] * 40
    assert torch.equal(one.distance, brute(points, among[:1])[0].double().sqrt() / 255)
    assert Among(torch.zeros_like(among)).nearest(points[:3]).index.tolist() == [0, 0, 0]
    odd = points[:3].float() / 255
    odd[1, 0, 0, 0], odd[2, 0, 0, 0] = math.nan, math.inf
    prepared = Among(among)
    nearest = prepared.nearest(odd)
    assert nearest.index.tolist() == [brute(points[:1], among)[1].item(), -1, -1]
    assert nearest.distance[1:].tolist() == [math.inf, math.inf]
    assert not prepared.nearer(odd, points.roll(1, 0)[:3])[1:].any()
    assert len(prepared.nearest(points[:0]).index) == 0


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (lambda points, among: Among(among[:0]), "images: got none"),
        (lambda points, among: Among(among.long()), "int64 of .*; give uint8"),
        (lambda points, among: Among(among).nearest(points[:, 0]), r"points: got torch.uint8 of shape \(40, 32, 32\)"),
    ],
)
def test_what_cannot_be_compared_is_refused(images, search, message):
    with pytest.raises(ValueError, match=message):
        search(*images)
