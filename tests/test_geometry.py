"""Intrinsic dimension and Information Imbalance where they are known, by brute force, and as DADApy computes them."""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy.stats import rankdata

from vaekit.metrics import information_imbalance, intrinsic_dimension

FAST = {"dtype": torch.float32, "half_subsets": 0}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def gaussian(n, d, seed=0, dtype=torch.float64):
    return torch.randn(n, d, generator=generator(seed), dtype=dtype)


def circles(n, d, seed=0):
    """Points of a flat torus: d angles, each on a circle of its own."""
    angles = 2 * math.pi * torch.rand(n, d, generator=generator(seed), dtype=torch.float64)
    return torch.cat((angles.cos(), angles.sin()), 1)


def sphere(n, d, seed=0):
    return torch.nn.functional.normalize(gaussian(n, d + 1, seed))


def swiss_roll(n, d, seed=0):
    u, v = torch.rand(2, n, generator=generator(seed), dtype=torch.float64)
    angle = 1.5 * math.pi * (1 + 2 * u)
    return torch.stack((angle * angle.cos(), 21 * v, angle * angle.sin()), 1)


def brute_force(a, b):
    """Delta(a -> b) from all ranks, ties at their mean rank, and how many points met one."""
    n, ranks, ties = len(a), [], 0
    for i in range(n):
        d, e = (((x[i] - x) ** 2).sum(1).numpy().round(9) for x in (a, b))
        d[i] = e[i] = np.inf
        nearest = np.flatnonzero(d == d.min())
        ranks.append(rankdata(e)[nearest].mean())
        ties += len(nearest) > 1 or any((e == e[j]).sum() > 1 for j in nearest)
    return 2 / n * np.mean(ranks), ties


@pytest.fixture(scope="module")
def dadapy():
    """An independent implementation; its import changes how numpy prints."""
    options = np.get_printoptions()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dadapy
    np.set_printoptions(**options)
    return dadapy


# The values of the trimmed fit at N = 5,000, five seeds each: 2NN falls short in high dimensions, and at boundaries.
@pytest.mark.parametrize(
    ("make", "d", "value", "sd"),
    [
        (circles, 1, 1.002, 0.027),
        (circles, 2, 2.027, 0.030),
        (circles, 5, 5.06, 0.12),
        (circles, 10, 11.5, 0.18),
        (sphere, 2, 1.96, 0.06),
        (sphere, 5, 4.97, 0.10),
        (sphere, 10, 9.43, 0.16),
        (gaussian, 2, 1.99, 0.03),
        (gaussian, 8, 8.05, 0.12),
        (gaussian, 16, 14.6, 0.2),
        (swiss_roll, 2, 2.00, 0.02),
    ],
)
def test_dimensions_that_are_known(make, d, value, sd):
    found = intrinsic_dimension(make(5000, d, seed=7), **FAST)
    assert found.value == pytest.approx(value, abs=4 * sd)
    assert (found.n, found.duplicates, found.reason) == (5000, 0, "")


def test_a_cloud_says_two_over_n_of_itself_and_nothing_of_another():
    n = 1000
    found = information_imbalance({"a": gaussian(n, 4), "b": gaussian(n, 9, seed=1)},
                                  [("a", "a"), ("a", "b"), ("b", "a")])  # fmt: skip
    assert found["a", "a"].value == 2 / n
    assert found["a", "a"].se == 0
    for pair in (("a", "b"), ("b", "a")):
        assert found[pair].value == pytest.approx(1, abs=4 / math.sqrt(3 * n))
        assert (found[pair].n, found[pair].ties, found[pair].reason) == (n, 0, "")


def test_one_angle_of_a_torus_says_something_of_both_and_both_say_all_of_one():
    n, torus = 3000, circles(3000, 2)
    found = information_imbalance({"circle": torus[:, ::2], "torus": torus}, half_subsets=0, dtype=torch.float32)
    assert found["circle", "torus"].value == pytest.approx(0.42566, abs=4 * 0.4 / math.sqrt(n))
    assert found["torus", "circle"].value < 2 / math.sqrt(n)


@pytest.mark.parametrize("dimensions", [(2, 3), (128, 20), (3072, 784)])
def test_both_are_what_dadapy_computes(dadapy, dimensions):
    n = 2000
    a, b = (gaussian(n, d, seed=d) * torch.linspace(0.1, 2, d) for d in dimensions)
    b = b + a @ gaussian(*dimensions)
    found = information_imbalance({"a": a, "b": b}, half_subsets=0)
    fast = information_imbalance({"a": a, "b": b}, half_subsets=0, dtype=torch.float32)
    with warnings.catch_warnings():  # that the subset is not smaller than the set, as its exact value needs
        warnings.simplefilter("ignore")
        comparison = dadapy.MetricComparisons(coordinates=a.numpy())
        forth, back = comparison.return_information_imbalace(b.numpy(), k=1, subset_size=n)
        for points in (a, b):
            value, *_ = dadapy.IdEstimation(coordinates=points.numpy()).compute_id_2NN()
            assert intrinsic_dimension(points, 0).value == pytest.approx(value, rel=1e-9)
            assert intrinsic_dimension(points, **FAST).value == pytest.approx(value, rel=1e-5)
    assert found["a", "b"].value == pytest.approx(forth[0], rel=1e-9)
    assert found["b", "a"].value == pytest.approx(back[0], rel=1e-9)
    assert fast["a", "b"].value == pytest.approx(forth[0], rel=1e-5)
    assert fast["b", "a"].value == pytest.approx(back[0], rel=1e-5)
    assert 0.02 < forth[0] < 0.9


def test_ties_share_the_mean_of_their_ranks_and_are_counted():
    whole = {f"{d}": torch.randint(0, 6, (150, d), generator=generator(d)).double() for d in (2, 4, 9)}
    for dtype, block, shift in ((torch.float64, 256, 0.0), (torch.float32, 40, 0.1)):
        layers = {name: (points + shift) / 3 for name, points in whole.items()}
        found = information_imbalance(layers, dtype=dtype, block=block)
        for (a, b), imbalance in found.items():
            value, ties = brute_force(whole[a], whole[b])
            assert imbalance.value == pytest.approx(value, rel=1e-12)
            assert imbalance.ties == ties > 0
    few = torch.tensor([[0.0], [1.0], [2.0], [7.0]])  # the second is tied between the first and the third
    assert information_imbalance({"a": few}, [("a", "a")])["a", "a"][2:4] == (4, 1)
    assert information_imbalance({"a": few}, [("a", "a")])["a", "a"].value == 2 / 4 * (1 + 1.5 + 1 + 1) / 4


@pytest.mark.parametrize("name", ["circle", "far", "images"])
def test_a_product_in_single_precision_gives_the_same(name):
    """On points whose neighbours a float32 product alone cannot tell: close ones, and a cloud at 175 deviations."""
    made = {
        "circle": lambda: circles(2000, 1).float(),
        "far": lambda: gaussian(1000, 8, dtype=torch.float32) + 175,
        "images": lambda: (torch.rand(500, 3, 16, 16, generator=generator()) * 256).to(torch.uint8),
    }
    points = made[name]()
    layers = {"all": points, "some": points[:, :1]}
    exact, fast = (information_imbalance(layers, half_subsets=2, dtype=d) for d in (torch.float64, torch.float32))
    assert fast == exact
    (value, se, *rest), (fast_value, fast_se, *fast_rest) = (
        intrinsic_dimension(points, dtype=dtype) for dtype in (torch.float64, torch.float32)
    )
    assert fast_value == pytest.approx(value, rel=1e-9)
    assert fast_se == pytest.approx(se, rel=1e-3)
    assert fast_rest == rest
    if name == "far":
        assert value == pytest.approx(8, abs=1)
        assert information_imbalance({"far": points, "near": points.double() - 175}, half_subsets=0)[
            "far", "near"
        ].value == pytest.approx(2 / 1000)


def test_neither_blocks_nor_the_order_of_points_nor_where_they_lie_matters():
    a, b = gaussian(200, 5, seed=3), gaussian(200, 5, seed=4)
    b = b + a
    expected, dimension = information_imbalance({"a": a, "b": b}, half_subsets=2), intrinsic_dimension(a)
    for block in (3, 37):
        assert information_imbalance({"a": a, "b": b}, half_subsets=2, block=block) == expected
        assert intrinsic_dimension(a, block=block)[:2] == pytest.approx(dimension[:2], rel=1e-9)
    order, turn = torch.randperm(200, generator=generator()), torch.linalg.qr(gaussian(5, 5)).Q
    moved = {"a": 1e-3 * a[order] @ turn + 40, "b": 1e3 * b[order] - 1}
    for pair, found in information_imbalance(moved, half_subsets=0).items():
        assert found.value == pytest.approx(expected[pair].value, rel=1e-12)
    assert intrinsic_dimension(moved["a"]).value == pytest.approx(dimension.value, rel=1e-9)


def test_pairs_and_company_do_not_change_a_value():
    layers = {name: gaussian(200, d, seed=d) for name, d in (("a", 3), ("b", 4), ("c", 5))}
    whole = information_imbalance(layers)
    assert list(whole) == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]
    assert information_imbalance(layers, [("c", "a"), ("a", "b")]) == {
        pair: whole[pair] for pair in (("c", "a"), ("a", "b"))
    }
    assert information_imbalance(layers, []) == {}


def test_of_duplicates_one_is_kept_and_the_others_are_counted():
    points = gaussian(400, 6, seed=2) * 50 + 3
    copies = torch.cat((points[:30], points[:30], points[7:8].repeat(5, 1), points[50:60] + 1e-8))
    alone, together = intrinsic_dimension(points), intrinsic_dimension(torch.cat((points, copies)))
    assert (together.n, together.duplicates) == (400, 75)
    assert together.value == pytest.approx(alone.value, rel=1e-6)
    assert intrinsic_dimension(torch.cat((points, points + 1e-5))).duplicates == 0
    three = gaussian(3, 2).repeat(100, 1)
    assert intrinsic_dimension(three)[2:] == (3, 297, "3 distinct points; 2NN needs 10 or more")


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        (torch.full((50, 7), 0.1), "constant"),
        (torch.zeros(50, 7), "constant"),
        (0.1 + 1e-9 * gaussian(50, 7).float(), "constant"),
        (torch.full((50, 7), math.nan), "not all values are finite"),
        (torch.cat((gaussian(50, 7), torch.full((1, 7), math.inf)))[1:], "not all values are finite"),
    ],
)
def test_what_has_no_distances_is_nan_with_the_reason(points, reason):
    found = intrinsic_dimension(points)
    assert math.isnan(found.value)
    assert (found.n, found.reason) == (50, reason)
    whole = information_imbalance({"x": points, "y": gaussian(50, 3), "z": gaussian(50, 3, seed=1)})
    for pair, imbalance in whole.items():
        assert math.isnan(imbalance.value) == ("x" in pair)
        assert imbalance.reason == (f"x: {reason}" if "x" in pair else "")


def test_too_few_points_and_a_lattice_have_no_dimension():
    assert intrinsic_dimension(gaussian(9, 3)).reason == "9 distinct points; 2NN needs 10 or more"
    assert intrinsic_dimension(gaussian(2, 3)).reason == "2 points, of which 3 is the least"
    assert math.isnan(information_imbalance({"a": gaussian(2, 3)}, [("a", "a")])["a", "a"].value)
    lattice = torch.cartesian_prod(*[torch.arange(5.0)] * 3)
    for points in (lattice, lattice.double() / 3 + 0.1):
        found = intrinsic_dimension(points)
        assert math.isnan(found.value)
        assert found.reason == "every point's first two neighbours are equally far"
    assert math.isfinite(intrinsic_dimension(gaussian(10, 3)).value)


def test_the_error_is_the_spread_over_other_points_and_needs_no_seed_but_its_own():
    dimensions = [intrinsic_dimension(gaussian(400, 4, seed), dtype=torch.float32) for seed in range(30)]
    imbalances = [
        information_imbalance({"a": (x := gaussian(300, 4, seed)), "b": x[:, :3]}, [("b", "a")])["b", "a"]
        for seed in range(30)
    ]
    for found in (dimensions, imbalances):
        spread = torch.tensor([one.value for one in found]).std().item()
        assert sum(one.se for one in found) / 30 == pytest.approx(spread, rel=0.4)
    points = gaussian(400, 4)
    again, other, none = (intrinsic_dimension(points, half_subsets, seed)
                          for half_subsets, seed in ((10, 0), (10, 1), (0, 0)))  # fmt: skip
    assert again == intrinsic_dimension(points)
    assert again.value == other.value == none.value
    assert again.se != other.se
    assert math.isnan(none.se)


@pytest.mark.slow
def test_error_bars_cover_what_is_known():
    """Student's intervals (9 degrees of freedom) at 95 % and of one error, 66 %: half-subsets make them a bit short."""
    bars: dict[str, list[tuple[float, float]]] = {"ID": [], "II": []}
    for seed in range(60):
        for make, d in ((circles, 1), (circles, 2), (sphere, 2), (gaussian, 2), (gaussian, 4), (swiss_roll, 2)):
            found = intrinsic_dimension(make(400, d, seed), dtype=torch.float32)
            bars["ID"].append((abs(found.value - d), found.se))
        torus, apart = circles(300, 2, seed), gaussian(300, 4, seed + 1000)
        clouds = {"circle": torus[:, ::2], "torus": torus, "apart": apart}
        known = {("circle", "torus"): 0.42566, ("torus", "apart"): 1.0, ("apart", "circle"): 1.0}
        for pair, found in information_imbalance(clouds, known, dtype=torch.float32).items():
            bars["II"].append((abs(found.value - known[pair]), found.se))
    for off, se in (torch.tensor(one).T for one in bars.values()):
        assert 0.86 < (off <= 2.262 * se).float().mean() < 0.98
        assert 0.55 < (off <= se).float().mean() < 0.75


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_reduced_precision_around_a_measure_does_not_reach_it(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    points = (gaussian(500, 64, dtype=torch.float32) + 20).to(device)
    layers = {"a": points, "b": points[:, ::2] ** 2}
    expected = intrinsic_dimension(points.cpu(), **FAST), information_imbalance({k: v.cpu() for k, v in layers.items()})
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            found = intrinsic_dimension(points, **FAST), information_imbalance(layers, dtype=torch.float32)
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found[0].value == pytest.approx(expected[0].value, rel=1e-9)
    for pair, imbalance in found[1].items():
        assert imbalance[:2] == pytest.approx(expected[1][pair][:2], rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"half_subsets": 1}, "half_subsets is 1; use 0 for no error bar, or 2 or more"),
        ({"dtype": torch.bfloat16}, "dtype is torch.bfloat16; use torch.float64 or torch.float32"),
        ({"pairs": [("a", "c")]}, "no layer c; there are a, b"),
        ({"layers": {"a": torch.zeros(3, 1), "b": torch.zeros(4, 1)}}, "layers of different numbers of points"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        information_imbalance(**{"layers": {"a": gaussian(9, 2), "b": gaussian(9, 2)}} | arguments)
