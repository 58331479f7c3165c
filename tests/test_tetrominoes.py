"""The Tetrominoes against their definition: supersampling, areas, conventions, strata, a pinned hash, time, memory."""

import colorsys
import hashlib
import math
import resource
import sys
import time

import numpy as np
import pytest
import torch

from vaekit.data import DataError, load, tetrominoes

CHOSEN = torch.arange(37, tetrominoes.SIZE, 4099)  # 40 images from all over the grid


@pytest.fixture(scope="module")
def data():
    return tetrominoes.image_set()


def supersampled(factors, samples=64):
    """Coverage (32, 32) by the definition: the share of samples x samples points of each pixel inside the J."""
    angle, _, scale, x, y = factors
    points = (np.arange(tetrominoes.SIDE * samples) + 0.5) / samples
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    rows = []
    for line in points.reshape(tetrominoes.SIDE, samples, 1):
        dx, dy = points - (x + 0.5), line - (y + 0.5)
        u, v = (cos * dx - sin * dy) / scale, (sin * dx + cos * dy) / scale  # the rotation's inverse
        stem, foot = (u >= 0) & (u <= 1) & (abs(v) <= 1.5), (u >= -1) & (u <= 0) & (v >= 0.5) & (v <= 1.5)
        rows.append((stem | foot).reshape(samples, tetrominoes.SIDE, samples).mean((0, 2)))
    return np.stack(rows)


def coverage(factors):
    """The whole frame's coverage (n, 32, 32)."""
    frame = torch.zeros(len(factors), tetrominoes.SIDE, tetrominoes.SIDE, dtype=torch.float64)
    window, rows, columns = tetrominoes.window_coverage(*tetrominoes.corners(factors))
    frame[torch.arange(len(factors))[:, None, None], rows[:, :, None], columns[:, None, :]] = window
    return frame


def row(angle=0.0, hue=0.0, scale=4.0, x=15.5, y=15.5):
    return torch.tensor([[angle, hue, scale, x, y]], dtype=torch.float64)


@pytest.mark.parametrize(("samples", "images"), [(64, 40), (256, 3)])
def test_coverage_is_the_definition_s(data, samples, images):
    factors = data.factors[CHOSEN[:images]]
    expected = np.stack([supersampled(f, samples) for f in factors.tolist()])
    error = abs(coverage(factors).numpy() - expected)
    assert error.max() < 1 / 2 / samples + 1e-6  # as much as samples err by themselves, along an axis
    assert error.mean() < 1e-2 / samples


@pytest.mark.parametrize("angle", [0, 1e-9, 1e-5, 1e-3, 90, 90 + 1e-6, 180, 270 - 1e-4])
def test_coverage_of_edges_along_the_axes(angle):
    factors = row(angle, x=15.25, y=15.75)  # edges in quarters of a pixel, which the samples resolve exactly
    np.testing.assert_allclose(coverage(factors)[0].numpy(), supersampled(factors[0].tolist()), atol=1 / 1024)


def test_area_and_bounds(data):
    factors = data.factors[::7]
    x, y = tetrominoes.corners(factors)
    whole = ((x >= 0) & (x <= 32) & (y >= 0) & (y <= 32)).all(1)
    areas = torch.cat([coverage(f).sum((1, 2)) for f in factors[whole].split(2048)])
    torch.testing.assert_close(areas, 4 * factors[whole, 2] ** 2, rtol=1e-6, atol=0)
    some = coverage(factors[:2048])
    assert some.min() > -1e-6
    assert some.max() < 1 + 1e-6


def test_orientation_in_the_frame():
    # Scale 4 about the frame's centre: the J's stem is u in [0, 1], v in [-1.5, 1.5]; its foot points to -u at +v.
    upright = coverage(row())[0]
    assert upright[10:22, 16:20].min() > 1 - 1e-6
    assert upright[18:22, 12:16].min() > 1 - 1e-6
    assert upright.sum() == pytest.approx(64)
    quarter = coverage(row(angle=90))[0]  # counter-clockwise as seen
    torch.testing.assert_close(quarter, torch.rot90(upright, 1), atol=3e-6, rtol=0)
    moved = coverage(row(x=18.5, y=14.5))[0]
    torch.testing.assert_close(moved, upright.roll((-1, 3), (0, 1)), atol=3e-6, rtol=0)


def test_colour_is_hsv():
    hues = torch.linspace(0, 0.875, 50, dtype=torch.float64)
    expected = torch.tensor([colorsys.hsv_to_rgb(h, 1, 1) for h in hues.tolist()], dtype=torch.float64)
    torch.testing.assert_close(tetrominoes.colours(hues), expected)
    image = tetrominoes.draw(row(hue=1 / 3, x=15.25))[0]  # green, a quarter of a pixel to the left
    assert image[:, 12, 17].tolist() == [0, 255, 0]
    assert image[:, 12, 15].tolist() == [0, 64, 0]
    assert image[:, 0, 0].tolist() == [0, 0, 0]


def test_pixels_are_rounded_coverage(data):
    factors = data.factors[CHOSEN]
    expected = 255 * tetrominoes.colours(factors[:, 1])[:, :, None, None] * coverage(factors)[:, None]
    assert (data.take(CHOSEN) - expected).abs().max() <= 0.5 + 1e-6


def test_one_uniform_draw_in_each_cell(data):
    scaled = tetrominoes.positions(0) * torch.tensor(tetrominoes.STRATA)
    cells = scaled.floor().long()
    flat = torch.from_numpy(np.ravel_multi_index(tuple(cells.T.numpy()), tetrominoes.STRATA))
    assert torch.equal(flat, torch.arange(tetrominoes.SIZE))
    within = scaled - cells
    assert (within.mean(0) - 0.5).abs().max() < 4 * math.sqrt(1 / 12 / tetrominoes.SIZE)
    assert (within.std(0) - math.sqrt(1 / 12)).abs().max() < 0.003
    assert (torch.corrcoef(within.T) - torch.eye(5)).abs().max() < 5 / math.sqrt(tetrominoes.SIZE)
    for column, low, high in zip(data.factors.T, (0, 0, 2, 8, 8), (337.5, 0.875, 5, 23, 23), strict=True):
        assert low <= column.min() < low + (high - low) * 1e-3
        assert high - (high - low) * 1e-3 < column.max() <= high


def test_share_cut_by_the_frame(data):
    beyond = torch.cat([torch.maximum(-p, p - 32) for p in tetrominoes.corners(data.factors)], dim=1).amax(1)
    assert (beyond > 0).double().mean() == pytest.approx(0.0012, abs=1e-4)
    assert beyond.max() < 0.5
    cut = (beyond > 0.3).nonzero()[:2, 0]
    expected = np.stack([supersampled(f) for f in data.factors[cut].tolist()])
    np.testing.assert_allclose(coverage(data.factors[cut]).numpy(), expected, atol=1 / 128)


def test_an_image_does_not_depend_on_what_is_drawn_with_it(data):
    together = data.take(torch.arange(3000, 3300))
    shuffled = torch.randperm(300, generator=torch.Generator().manual_seed(0))
    assert torch.equal(data.take(3000 + shuffled), together[shuffled])
    assert torch.equal(data.take([3007]), together[7:8])
    assert data.take([]).shape == (0, 3, 32, 32)


def test_identity_names_recipe_seed_and_angle(data):
    other = tetrominoes.image_set(seed=1)
    wide = tetrominoes.image_set(angle_range=360)
    assert data.identity == "tetrominoes-1-seed0"
    assert other.identity == "tetrominoes-1-seed1"
    assert wide.identity == "tetrominoes-1-seed0-angle360"
    assert 359 < wide.factors[:, 0].max() <= 360
    assert not torch.equal(other.take([5]), data.take([5]))
    assert torch.equal(load("tetrominoes").take([5]), data.take([5]))
    assert other.split("cv", 9).train.tolist() != data.split("cv", 9).train.tolist()
    assert data.labels is None
    assert data.factor_names == ("angle", "hue", "scale", "x", "y")
    with pytest.raises(DataError, match=r"337\.5 or 360 degrees, not 90"):
        tetrominoes.image_set(angle_range=90)
    with pytest.raises(DataError, match="not -1"):
        tetrominoes.image_set(seed=-1)


def test_the_recipe_has_not_changed(data):
    """Raise RECIPE with this hash: everything stored was made of these images. Rounded to 16 levels, for sin and cos
    differ in their last bit between machines."""
    images = data.take(torch.arange(0, tetrominoes.SIZE, 40))
    coarse = ((images.int() + 8) // 16).to(torch.uint8)
    assert hashlib.sha256(coarse.numpy().tobytes()).hexdigest()[:16] == "e64f0309bea9bc3a"
    order = data.split("random").train[:1000]
    assert hashlib.sha256(order.numpy().tobytes()).hexdigest()[:16] == "6e2faffbfdaac3e0"


@pytest.mark.slow
def test_all_images_in_30_seconds_and_2_gb():
    data = tetrominoes.image_set(seed=2)
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = data.images
    assert time.process_time() - start < 30
    assert images.shape == (163_840, 3, 32, 32)
    assert images.dtype == torch.uint8
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert grown < 1e9
    assert torch.equal(data.take(CHOSEN), data.draw(CHOSEN))
