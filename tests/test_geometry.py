"""Intrinsic dimension and Information Imbalance where they are known, by brute force, and as DADApy computes them."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vaekit.metrics import geometry, information_imbalance, intrinsic_dimension


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


def differences(points):
    """All squared distances from differences, infinite to itself."""
    points = points.double()
    squares = torch.stack([(points - one).square().sum(1) for one in points])
    return squares.fill_diagonal_(math.inf)


def brute_force(a, b):
    """Delta(a -> b) from all ranks, ties at their mean rank, and how many points met one."""
    ranks, ties = [], 0
    for of_a, of_b in zip(differences(a).numpy(), differences(b).numpy(), strict=True):
        nearest = np.flatnonzero(of_a <= of_a.min() * (1 + 1e-11))
        tied = [np.abs(of_b - of_b[j]) <= 1e-11 * of_b[j] for j in nearest]
        ranks.append(np.mean([(of_b[~equal] < of_b[equal].min()).sum() + (equal.sum() + 1) / 2 for equal in tied]))
        ties += len(nearest) > 1 or max(equal.sum() for equal in tied) > 1
    return 2 / len(a) * np.mean(ranks), ties


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
    dimension = intrinsic_dimension(make(5000, d, seed=7), half_subsets=0)
    assert dimension.value == pytest.approx(value, abs=4 * sd)
    assert (dimension.n, dimension.duplicates, dimension.reason) == (5000, 0, "")


def test_a_cloud_says_two_over_n_of_itself_and_nothing_of_another():
    n = 1000
    imbalances = information_imbalance({"a": gaussian(n, 4), "b": gaussian(n, 9, seed=1)},
                                       [("a", "a"), ("a", "b"), ("b", "a")])  # fmt: skip
    assert imbalances["a", "a"].value == 2 / n
    assert imbalances["a", "a"].se == 0
    for pair in (("a", "b"), ("b", "a")):
        assert imbalances[pair].value == pytest.approx(1, abs=4 / math.sqrt(3 * n))
        assert (imbalances[pair].n, imbalances[pair].ties, imbalances[pair].reason) == (n, 0, "")


def test_one_angle_of_a_torus_says_something_of_both_and_both_say_all_of_one():
    n, torus = 3000, circles(3000, 2)
    imbalances = information_imbalance({"circle": torus[:, ::2], "torus": torus}, half_subsets=0)
    assert imbalances["circle", "torus"].value == pytest.approx(0.42566, abs=4 * 0.4 / math.sqrt(n))
    assert imbalances["torus", "circle"].value < 2 / math.sqrt(n)


@pytest.mark.parametrize("dimensions", [(2, 3), (128, 20), (3072, 784)])
def test_both_are_what_dadapy_computes(dadapy, dimensions):
    n = 2000
    a, b = (gaussian(n, d, seed=d) * torch.linspace(0.1, 2, d) for d in dimensions)
    b = b + a @ gaussian(*dimensions)
    imbalances = information_imbalance({"a": a, "b": b}, half_subsets=0)
    with warnings.catch_warnings():  # that the subset is not smaller than the set, as its exact value needs
        warnings.simplefilter("ignore")
        comparison = dadapy.MetricComparisons(coordinates=a.numpy())
        forth, back = comparison.return_information_imbalace(b.numpy(), k=1, subset_size=n)
        for points in (a, b):
            value, *_ = dadapy.IdEstimation(coordinates=points.numpy()).compute_id_2NN()
            assert intrinsic_dimension(points, 0).value == pytest.approx(value, rel=1e-9)
    assert imbalances["a", "b"].value == pytest.approx(forth[0], rel=1e-9)
    assert imbalances["b", "a"].value == pytest.approx(back[0], rel=1e-9)
    assert 0.02 < forth[0] < 0.9


@pytest.mark.parametrize(("block", "shift"), [(256, 0.0), (40, 0.1)])
def test_ties_share_the_mean_of_their_ranks_and_are_counted(monkeypatch, block, shift):
    monkeypatch.setattr(geometry, "_BLOCK", block)
    lattices = {f"{d}": torch.randint(0, 6, (150, d), generator=generator(d)).double() for d in (2, 4, 9)}
    layers = {name: (points + shift) / 3 for name, points in lattices.items()}
    for (a, b), imbalance in information_imbalance(layers).items():
        value, ties = brute_force(lattices[a], lattices[b])
        assert imbalance.value == pytest.approx(value, rel=1e-12)
        assert imbalance.ties == ties > 0
    few = torch.tensor([[0.0], [1.0], [2.0], [7.0]])  # the second is tied between the first and the third
    imbalance = information_imbalance({"a": few}, [("a", "a")])["a", "a"]
    assert (imbalance.value, imbalance.n, imbalance.ties) == (2 / 4 * (1 + 1.5 + 1 + 1) / 4, 4, 1)


CLOUDS = {
    "a circle": lambda: circles(1000, 1).float(),
    "far from the origin": lambda: gaussian(1000, 8, dtype=torch.float32) + 175,
    "of tiny variance": lambda: 1e-9 * gaussian(500, 8) + 1,
    "tight clusters": lambda: torch.cat((1e-7 * gaussian(300, 8), 1e-7 * gaussian(300, 8, seed=1) + 1)),
    "images": lambda: (torch.rand(500, 3, 16, 16, generator=generator()) * 256).to(torch.uint8),
}


class Counted(TorchDispatchMode):
    """How many numbers all operations gave."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.numbers += sum(value.numel() for value in tree_leaves(result) if isinstance(value, torch.Tensor))
        return result


def layers_with_ties(n):
    """A cloud, its labels, a lattice, and a layer that has two values."""
    cloud = gaussian(n, 4)
    labels = torch.arange(n) % 10
    return {"z": cloud, "label": labels, "lattice": (2 * cloud[:, :2]).round(), "sign": (cloud[:, 0] > 0).long()}


def test_of_many_ties_the_ranks_are_those_by_brute_force():
    layers = layers_with_ties(300)
    points = {name: values.double().reshape(300, -1) for name, values in layers.items()}
    for (a, b), imbalance in information_imbalance(layers, half_subsets=0).items():
        delta, ties = brute_force(points[a], points[b])
        assert imbalance.value == pytest.approx(delta, rel=1e-12), (a, b)
        assert imbalance.ties == ties, (a, b)


def test_the_work_of_ties_grows_with_the_square_of_the_points():
    """As that of points without any: eight times as many numbers for twice the points would be its cube."""
    work = []
    for n in (1200, 2400):
        with Counted() as counted:
            information_imbalance(layers_with_ties(n), half_subsets=0)
        work.append(counted.numbers)
    assert work[1] / work[0] < 5


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("offset", [0.0, 1.0, 100.0])
def test_points_that_their_type_has_rounded_have_the_dimension_they_had_or_none(dtype, offset):
    """Two dimensions among five, at ever smaller a spread around a place: NaN before it is wrong."""
    inside = gaussian(600, 2) @ torch.eye(2, 5, dtype=torch.float64)
    exact = intrinsic_dimension(inside, 0).value
    none = []
    for spread in (1, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8):
        dimension = intrinsic_dimension((offset + spread * inside).to(dtype), 0)
        if math.isnan(dimension.value):
            none.append(spread)
            assert dimension.reason
        else:
            assert dimension.value == pytest.approx(exact, rel=0.1), spread
    assert offset or len(none) < 5


@pytest.mark.parametrize("spread", [1e-2, 1e-3, 1e-4, 1e-5])
def test_two_clusters_far_apart_have_the_dimension_of_one(spread):
    """600 points in a plane around two places, by brute force in float64."""
    inside = gaussian(600, 2) @ torch.eye(2, 5, dtype=torch.float64)
    centre = torch.where(torch.arange(600).unsqueeze(1) % 2 == 0, 1.0, -1.0).double()
    points = centre + spread * inside
    nearest = differences(points).topk(2, largest=False).values
    dimension = geometry._two_nn(nearest[:, 0], nearest[:, 1])
    assert intrinsic_dimension(points, 0).value == pytest.approx(dimension, rel=1e-9)
    assert intrinsic_dimension(points.float(), 0).value == pytest.approx(dimension, rel=0.01)


@pytest.mark.parametrize("name", CLOUDS)
def test_rounding_decides_no_neighbour(name):
    """On points whose neighbours |x|^2 + |y|^2 - 2xy alone does not tell apart: against differences of the points."""
    points = CLOUDS[name]().flatten(1)
    layers = {"all": points, "some": points[:, :1]}
    for (a, b), imbalance in information_imbalance(layers, half_subsets=0).items():
        value, ties = brute_force(layers[a], layers[b])
        assert (imbalance.value, imbalance.ties) == (pytest.approx(value, rel=1e-12), ties)
    first, second = differences(points).topk(2, largest=False).values.T
    assert intrinsic_dimension(points).value == pytest.approx(geometry._two_nn(first, second), rel=1e-9)


def test_neither_blocks_nor_the_order_of_points_nor_where_they_lie_matters(monkeypatch):
    a, b = gaussian(200, 5, seed=3), gaussian(200, 5, seed=4)
    b = b + a
    expected, dimension = information_imbalance({"a": a, "b": b}, half_subsets=2), intrinsic_dimension(a)
    for block in (3, 37):
        monkeypatch.setattr(geometry, "_BLOCK", block)
        assert information_imbalance({"a": a, "b": b}, half_subsets=2) == expected
        assert intrinsic_dimension(a)[:2] == pytest.approx(dimension[:2], rel=1e-9)
    order, turn = torch.randperm(200, generator=generator()), torch.linalg.qr(gaussian(5, 5)).Q
    moved = {"a": 1e-3 * a[order] @ turn + 40, "b": 1e3 * b[order] - 1}
    for pair, imbalance in information_imbalance(moved, half_subsets=0).items():
        assert imbalance.value == pytest.approx(expected[pair].value, rel=1e-12)
    assert intrinsic_dimension(moved["a"]).value == pytest.approx(dimension.value, rel=1e-9)


def test_pairs_and_company_do_not_change_a_value():
    layers = {name: gaussian(200, d, seed=d) for name, d in (("a", 3), ("b", 4), ("c", 5))}
    whole = information_imbalance(layers)
    assert list(whole) == [("a", "b"), ("a", "c"), ("b", "a"), ("b", "c"), ("c", "a"), ("c", "b")]
    some = [("c", "a"), ("a", "b")]
    assert information_imbalance(layers, some) == {pair: whole[pair] for pair in some}
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
    dimension = intrinsic_dimension(points)
    assert math.isnan(dimension.value)
    assert (dimension.n, dimension.reason) == (50, reason)
    clouds = {"x": points, "y": gaussian(50, 3), "z": gaussian(50, 3, seed=1)}
    for pair, imbalance in information_imbalance(clouds).items():
        assert math.isnan(imbalance.value) == ("x" in pair)
        assert imbalance.reason == (f"x: {reason}" if "x" in pair else "")


def test_too_few_points_and_a_lattice_have_no_dimension():
    assert intrinsic_dimension(gaussian(9, 3)).reason == "9 distinct points; 2NN needs 10 or more"
    assert intrinsic_dimension(gaussian(2, 3)).reason == "2 points, of which 3 is the least"
    assert math.isnan(information_imbalance({"a": gaussian(2, 3)}, [("a", "a")])["a", "a"].value)
    lattice = torch.cartesian_prod(*[torch.arange(5.0)] * 3)
    for points in (lattice, lattice.double() / 3 + 0.1):
        dimension = intrinsic_dimension(points)
        assert math.isnan(dimension.value)
        assert dimension.reason == "every point's first two neighbours are equally far"
    assert math.isfinite(intrinsic_dimension(gaussian(10, 3)).value)


def test_the_error_is_the_spread_over_other_points_and_needs_no_seed_but_its_own():
    dimensions = [intrinsic_dimension(gaussian(400, 4, seed)) for seed in range(30)]
    imbalances = [
        information_imbalance({"a": (x := gaussian(300, 4, seed)), "b": x[:, :3]}, [("b", "a")])["b", "a"]
        for seed in range(30)
    ]
    for estimates in (dimensions, imbalances):
        spread = torch.tensor([estimate.value for estimate in estimates]).std().item()
        assert sum(estimate.se for estimate in estimates) / 30 == pytest.approx(spread, rel=0.4)
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
            dimension = intrinsic_dimension(make(400, d, seed))
            bars["ID"].append((abs(dimension.value - d), dimension.se))
        torus, apart = circles(300, 2, seed), gaussian(300, 4, seed + 1000)
        clouds = {"circle": torus[:, ::2], "torus": torus, "apart": apart}
        known = {("circle", "torus"): 0.42566, ("torus", "apart"): 1.0, ("apart", "circle"): 1.0}
        for pair, imbalance in information_imbalance(clouds, known).items():
            bars["II"].append((abs(imbalance.value - known[pair]), imbalance.se))
    for off, se in (torch.tensor(bar).T for bar in bars.values()):
        assert 0.86 < (off <= 2.262 * se).float().mean() < 0.98
        assert 0.55 < (off <= se).float().mean() < 0.75


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_reduced_precision_around_a_measure_does_not_reach_it(device):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    points = (gaussian(500, 64, dtype=torch.float32) + 20).to(device)
    layers = {"a": points, "b": points[:, ::2] ** 2}
    dimension = intrinsic_dimension(points.cpu())
    imbalances = information_imbalance({name: cloud.cpu() for name, cloud in layers.items()})
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast(device, dtype=torch.bfloat16):
            assert intrinsic_dimension(points).value == pytest.approx(dimension.value, rel=1e-9)
            for pair, imbalance in information_imbalance(layers).items():
                assert imbalance[:2] == pytest.approx(imbalances[pair][:2], rel=1e-9)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"half_subsets": 1}, "half_subsets: got 1; give 0 for no error bar, or 2 or more"),
        ({"pairs": [("a", "c")]}, "no layer c; there are a, b"),
        ({"layers": {"a": torch.zeros(3, 1), "b": torch.zeros(4, 1)}}, "layers of different numbers of points"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        information_imbalance(**{"layers": {"a": gaussian(9, 2), "b": gaussian(9, 2)}} | arguments)
