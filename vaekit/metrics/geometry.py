"""What distances alone say of clouds of points: intrinsic dimension, and which of two clouds predicts the other.

Distances are Euclidean, between flattened points. A matrix product of centred points gives all of them fast and a bound
on their rounding; where the bound leaves in doubt which of two is smaller, both are computed again from differences, in
float64. So neighbours and ranks are exact whatever the precision of the product, the size of its blocks and the order
of the points, and memory grows with the number of points times the size of a block.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import randomness

_CANDIDATES = 16  # neighbours kept of each point; a half-subset lacks two of them once in 3,900
# Relative rounding allowed in the squared distances of the first four, which give the value, and of the others, which
# give no more than its error.
_NEEDED = (1e-10, 1e-4)
_DUPLICATE = 1e-8  # distance of duplicates, of the points' root mean square distance from their mean
_LEAST = 10  # distinct points
_TIE = 1e-12  # relative difference of squared distances that are equal but for rounding
_TRIM = 0.9  # share of the ratios that the fit keeps


class Dimension(NamedTuple):
    """A 2NN intrinsic dimension, its error, and the n distinct points it rests on; `reason` says why it is NaN."""

    value: float
    se: float
    n: int
    duplicates: int
    reason: str = ""


class Imbalance(NamedTuple):
    """An Information Imbalance on n points, its error, and how many points met a tie; `reason` says why it is NaN."""

    value: float
    se: float
    n: int
    ties: int
    reason: str = ""


@torch.no_grad()
def intrinsic_dimension(
    points: Tensor, half_subsets: int = 10, seed: int = 0, dtype: torch.dtype = torch.float64, block: int = 1024
) -> Dimension:
    """The 2NN intrinsic dimension of N points (Facco et al. 2017, "Estimating the intrinsic dimension of datasets").

    With mu = r2 / r1, the ratio of the distances to a point's first two neighbours, -log(1 - F(mu)) = d log mu: the
    slope d is fitted through the origin by least squares to the lowest 90 % of the ratios, F(mu_i) = i / N. The value
    belongs to its N: compare none across different N. Of duplicates, which would have r1 = 0, one is kept.

    Args:
        points: (N, ...), flattened, on any device.
        half_subsets: the error is the standard deviation over so many random half-subsets, times the root of 1/2; 0:
            no error bar (NaN). On clouds of 400 points of known dimension, the 95 % interval by it (Student's, 10
            half-subsets) held the dimension in 91 % of 600; at large d the estimate's own bias comes on top.
        seed: of the half-subsets.
        dtype: of the matrix product, float64 or float32.
        block: points in a block of distances.

    NaN with a reason for a constant cloud, fewer than 10 distinct points, points that are not finite, and a lattice
    (all ratios 1). Errors: ValueError for another dtype, or for a single half-subset.
    """
    _check(half_subsets, dtype)
    cloud = _Cloud(points, dtype, block)
    if cloud.reason:
        return Dimension(math.nan, math.nan, cloud.n, 0, cloud.reason)
    kept = cloud.distinct()
    duplicates = cloud.n - len(kept)
    if len(kept) < _LEAST:
        reason = f"{len(kept)} distinct points; 2NN needs {_LEAST} or more"
        return Dimension(math.nan, math.nan, len(kept), duplicates, reason)
    if duplicates:
        cloud = _Cloud(points[kept], dtype, block)
    with full_precision(points.device):
        neighbours, squares = cloud.neighbours(_CANDIDATES)
    value = _two_nn(squares[:, 0], squares[:, 1])
    of_halves = []
    for half in _halves(cloud.n, half_subsets, seed, points.device) if cloud.n >= 2 * _LEAST else ():
        inside = half[neighbours[half]]
        place = inside.cumsum(1)
        whole = place[:, -1] >= 2  # which neighbours fell into the half is chance: leaving the other rows out is, too
        first, second = (squares[half][whole][(inside & (place == k))[whole]] for k in (1, 2))
        of_halves.append(_two_nn(first, second))
    reason = "every point's first two neighbours are equally far" if math.isnan(value) else ""
    return Dimension(value, _error(of_halves), cloud.n, duplicates, reason)


@torch.no_grad()
def information_imbalance(
    layers: Mapping[str, Tensor],
    pairs: Iterable[tuple[str, str]] | None = None,
    half_subsets: int = 10,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    block: int = 256,
) -> dict[tuple[str, str], Imbalance]:
    """The Information Imbalance of pairs of layers on all N points, with one neighbour (Glielmo et al. 2022).

    Delta(A -> B) = 2/N times the mean, over the points, of the rank in B of the point's nearest neighbour in A: about 0
    where A predicts B, about 1 where A says nothing of B; Delta(A -> A) = 2/N. The nearest has rank 1; the point itself
    does not count. Points equally far from a point share the mean of their ranks, and several nearest neighbours the
    mean of theirs; `ties` counts the points where that was so.

    Args:
        layers: (N, ...) each, of the same N points in the same order; flattened; on one device.
        pairs: the (A, B) wanted; None: all ordered pairs of different layers.
        half_subsets, seed, dtype: as for `intrinsic_dimension`. What a half-subset costs is a quarter of the ranks.
        block: points in a block of distances; as many blocks as layers are held at once.

    NaN with a reason where a layer is constant or not finite, or where there are fewer than 3 points. Errors:
    ValueError for a pair that names no layer, for layers of different N, and as for `intrinsic_dimension`.
    """
    _check(half_subsets, dtype)
    pairs = list(itertools.permutations(layers, 2) if pairs is None else pairs)
    names = list(dict.fromkeys(itertools.chain(*pairs)))
    if unknown := [name for name in names if name not in layers]:
        raise ValueError(f"no layer {', '.join(unknown)}; there are {', '.join(layers)}")
    if len({len(points) for points in layers.values()}) > 1:
        sizes = {name: len(points) for name, points in layers.items()}
        raise ValueError(f"layers of different numbers of points: {sizes}; give all of the same points")
    clouds = {name: _Cloud(layers[name], dtype, block) for name in names}
    wrong = {name: f"{name}: {cloud.reason}" for name, cloud in clouds.items() if cloud.reason}
    sound = [pair for pair in pairs if not {*pair} & {*wrong}]
    ranked = zip(sound, *_imbalances(clouds, sound, half_subsets, seed), strict=True) if sound else ()
    values = {pair: Imbalance(delta[0], _error(delta[1:]), len(layers[pair[0]]), ties) for pair, delta, ties in ranked}
    for a, b in pairs:
        reason = "; ".join(wrong[name] for name in dict.fromkeys((a, b)) if name in wrong)
        values.setdefault((a, b), Imbalance(math.nan, math.nan, len(layers[a]), 0, reason))
    return {pair: values[pair] for pair in pairs}


class _Cloud:
    """Points, flattened, and their squared distances: fast ones with a bound on their rounding, and exact ones."""

    def __init__(self, points: Tensor, dtype: torch.dtype, block: int):
        self.points, self.dtype, self.block = points.flatten(1), dtype, block
        self.n, self.dimension = self.points.shape
        # Any shift leaves differences as they are, so its own rounding does no harm: but it must be near the mean.
        self._wide = torch.promote_types(points.dtype, dtype)
        self._shift = self.points.mean(0, dtype=torch.float64).to(self._wide)
        self._norms = torch.cat([self._centred(rows).square().sum(1) for rows in self.blocks()])
        self.scale = self._norms.mean(dtype=torch.float64).sqrt().item()

    @property
    def reason(self) -> str:
        """Why no measure can be taken on these points, or nothing."""
        if self.n < 3:
            return f"{self.n} points, of which 3 is the least"
        if not math.isfinite(self.scale):
            return "not all values are finite"
        stored = torch.finfo(self.points.dtype if self.points.is_floating_point() else torch.float64).eps
        if self.scale <= 4 * stored * self._shift.double().norm().item() or self.scale == 0:
            return "constant"
        return ""

    def distinct(self) -> Tensor:
        """Rows of the points without duplicates, of which the first is kept.

        Duplicates are neighbours on a random line: others fall between them with a chance of 1e-8 each.
        """
        line = randomness.normal(0, randomness.EVALUATION, 0, "line", (self.dimension,), torch.float64,
                                 self.points.device)  # fmt: skip
        shift = self._shift.double()
        order = torch.cat([(self.points[rows].double() - shift) @ line for rows in self.blocks()]).argsort(stable=True)
        again = self.exact(order[1:], order[:-1]) <= (_DUPLICATE * self.scale) ** 2
        return order[torch.cat((again.new_ones(1), ~again))].sort().values

    def exact(self, left: Tensor, right: Tensor) -> Tensor:
        """Squared distances of pairs of rows from their differences, float64."""
        size = max(1, 2**22 // self.dimension)
        parts = [
            (self.points[i].double() - self.points[j].double()).square().sum(1)
            for i, j in zip(left.split(size), right.split(size), strict=True)
        ]
        return torch.cat(parts)

    def blocks(self) -> list[slice]:
        """All rows, a block at a time."""
        return [slice(start, min(start + self.block, self.n)) for start in range(0, self.n, self.block)]

    def fast(self, rows: slice, several: list[slice]) -> Iterator[Tensor]:
        """Squared distances of rows to each of several blocks, by a matrix product; infinite to itself."""
        left = self._centred(rows)
        for columns in several:
            product = left @ self._centred(columns).T
            squares = product.mul_(-2).add_(self._norms[rows].unsqueeze(1)).add_(self._norms[columns])
            if rows == columns:
                squares.fill_diagonal_(math.inf)
            yield squares

    def rounding(self, rows: Tensor, squares: Tensor) -> Tensor:
        """What a fast squared distance of about `squares` from one of `rows` can be wrong by.

        In terms of |x_i|^2 + d^2, since |x_j|^2 <= 2 |x_i|^2 + 2 d^2. Where one sum after the other is rounded, as on a
        GPU, a product of D terms is off by eps sqrt(D) / 5 (standard deviation); the rest rounds a few times.
        """
        return torch.finfo(self.dtype).eps * (8 + math.sqrt(self.dimension)) * (self._norms[rows] + squares)

    def neighbours(self, k: int) -> tuple[Tensor, Tensor]:
        """Rows of the k nearest neighbours of each point, nearest first, and their squared distances, float64.

        The distances are recomputed from differences where a product's rounding would show.
        """
        k = min(k, self.n - 1)
        near = torch.zeros(self.n, k, dtype=torch.long, device=self.points.device)
        best = torch.full((self.n, k), math.inf, dtype=self.dtype, device=self.points.device)
        every = self.blocks()
        index = torch.arange(self.n, device=near.device)
        for i, rows in enumerate(every):
            for columns, squares in zip(every[i:], self.fast(rows, every[i:]), strict=True):
                both_ways = ((rows, columns, squares), (columns, rows, squares.T))
                for one, other, found in both_ways[: 1 if rows == columns else 2]:
                    best[one], place = torch.cat((best[one], found), dim=1).topk(k, largest=False)
                    names = index[other].expand(len(found), -1)
                    near[one] = torch.cat((near[one], names), dim=1).gather(1, place)
        needed = torch.where(index[:k] < 4, *_NEEDED)
        of, place = (self.rounding(index.unsqueeze(1), best) > needed * best).nonzero(as_tuple=True)
        squares = best.double()
        squares[of, place] = self.exact(of, near[of, place])
        squares, order = squares.sort(stable=True)
        return near.gather(1, order), squares

    def _centred(self, rows: slice) -> Tensor:
        return (self.points[rows].to(self._wide) - self._shift).to(self.dtype)


class _Part(NamedTuple):
    """Fast squared distances between some rows and some columns of a cloud: where neighbours and ranks are found."""

    cloud: _Cloud
    rows: Tensor
    columns: Tensor
    squares: Tensor

    def exact(self, row: Tensor, column: Tensor) -> Tensor:
        """Exact squared distances at places of the matrix."""
        return self.cloud.exact(self.rows[row], self.columns[column])

    def nearest(self) -> tuple[Tensor, Tensor]:
        """Places (row, column) of each row's nearest neighbour, in the order of the rows; of all that are tied."""
        least = self.squares.amin(1)
        near = self.squares <= (least + 2 * self.cloud.rounding(self.rows, least)).unsqueeze(1)
        row, column = near.nonzero(as_tuple=True)
        doubt = near.sum(1)[row] > 1
        exact = self.exact(row[doubt], column[doubt])
        best = exact.new_full((len(self.rows),), math.inf).scatter_reduce(0, row[doubt], exact, "amin")
        kept = torch.ones_like(doubt)
        kept[doubt] = exact <= best[row[doubt]] * (1 + _TIE)
        return row[kept], column[kept]

    def ranks(self, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Of each row, the mean rank of its places, and whether a tie was met in this cloud or among the places.

        Only counts are needed: of the distances that are smaller for sure, and of those within rounding.
        """
        number = torch.bincount(row, minlength=len(self.rows))
        rank = torch.zeros(len(self.rows), dtype=torch.float64, device=row.device)
        tied = number > 1
        for i, j in zip(row.split(self.cloud.block), column.split(self.cloud.block), strict=True):
            one, met = self._ranks(i, j, self.squares if len(row) == len(self.rows) else self.squares[i])
            rank.index_add_(0, i, one)
            tied[i[met]] = True
        return rank / number, tied

    def _ranks(self, row: Tensor, column: Tensor, squares: Tensor) -> tuple[Tensor, Tensor]:
        """The rank of each place in its row, `squares` being its row's, and whether it is tied with another."""
        own = self.squares[row, column]
        margin = 2 * self.cloud.rounding(self.rows[row], own)
        low, high = (own - margin).unsqueeze(1), (own + margin).unsqueeze(1)
        below, upto = ((squares < low).sum(1, dtype=torch.int32), (squares <= high).sum(1, dtype=torch.int32))
        rank, tied = below + 1.0, upto > below + 1  # in doubt yet
        if len(doubt := tied.nonzero().squeeze(1)):
            place, other = ((squares[doubt] >= low[doubt]) & (squares[doubt] <= high[doubt])).nonzero(as_tuple=True)
            exact, own = self.exact(row[doubt][place], other), self.exact(row[doubt], column[doubt])[place]
            smaller = torch.bincount(place[exact < own * (1 - _TIE)], minlength=len(doubt))
            equal = torch.bincount(place[(exact - own).abs() <= own * _TIE], minlength=len(doubt))  # and itself
            rank[doubt] += smaller + (equal - 1) / 2
            tied[doubt] = equal > 1
        return rank.double(), tied


def _imbalances(
    clouds: Mapping[str, _Cloud], pairs: list[tuple[str, str]], half_subsets: int, seed: int
) -> tuple[list[list[float]], list[int]]:
    """Of each pair, the imbalances on all points and on each half-subset, and how many of all points met a tie.

    One block of rows at a time, of all layers, so that each distance is computed once.
    """
    clouds = {name: clouds[name] for name in dict.fromkeys(itertools.chain(*pairs))}
    first = clouds[pairs[0][0]]
    index = torch.arange(first.n, device=first.points.device)
    views = [index >= 0]
    views += _halves(first.n, half_subsets, seed, index.device) if first.n >= 6 else []
    total = torch.zeros(len(pairs), len(views), dtype=torch.float64, device=index.device)
    ties = torch.zeros(len(pairs), dtype=torch.long, device=index.device)
    with full_precision(index.device):
        for rows in first.blocks():
            whole = {name: torch.cat(list(cloud.fast(rows, first.blocks())), dim=1) for name, cloud in clouds.items()}
            for view, chosen in enumerate(views):
                inside, columns = chosen[rows], chosen.nonzero().squeeze(1)
                parts = {
                    name: _Part(cloud, index[rows][inside], columns, squares[inside][:, columns] if view else squares)
                    for (name, squares), cloud in zip(whole.items(), clouds.values(), strict=True)
                }
                nearest = {name: parts[name].nearest() for name in {a for a, _ in pairs}}
                for i, (a, b) in enumerate(pairs):
                    rank, tied = parts[b].ranks(*nearest[a])
                    total[i, view] += rank.sum()
                    ties[i] += tied.sum() * (view == 0)
    return (2 * total / torch.stack([view.sum() for view in views]) ** 2).tolist(), ties.tolist()


def _two_nn(first: Tensor, second: Tensor) -> float:
    """The slope of the trimmed fit, from the squared distances of the first two neighbours."""
    n = len(first)
    log_mu = ((second / first).log() / 2).sort().values[: int(n * _TRIM)]
    if not log_mu[-1] > _NEEDED[0]:
        return math.nan  # but for rounding, all are 0
    y = -torch.log1p(-torch.arange(1, len(log_mu) + 1, dtype=torch.float64, device=log_mu.device) / n)
    return (log_mu @ y / (log_mu @ log_mu)).item()


def _halves(n: int, number: int, seed: int, device) -> list[Tensor]:
    """Masks of random halves of n points."""
    orders = (randomness.permutation(seed, randomness.EVALUATION, i, n, device) for i in range(number))
    return [order < n // 2 for order in orders]


def _error(of_halves: list[float]) -> float:
    return torch.tensor(of_halves, dtype=torch.float64).std().item() * math.sqrt(0.5) if of_halves else math.nan


def _check(half_subsets: int, dtype: torch.dtype) -> None:
    if half_subsets < 0 or half_subsets == 1:
        raise ValueError(f"half_subsets is {half_subsets}; use 0 for no error bar, or 2 or more")
    if dtype not in (torch.float32, torch.float64):
        raise ValueError(f"dtype is {dtype}; use torch.float64 or torch.float32")


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Products at the precision of their arguments: no TF32, which has 10 bits, and no autocast."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
