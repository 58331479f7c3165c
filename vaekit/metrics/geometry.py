"""Intrinsic dimension and Information Imbalance: what the distances between points say of a cloud, and of two.

Distances are Euclidean, between flattened points, in float64. A matrix product of centred points gives them fast; those
that its rounding could move by more than the tolerance of a tie are taken from differences. So neighbours and ranks are
exact whatever the order of the points and wherever they lie. Memory grows with the number of points times that of a
block.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import checks, randomness

_NEIGHBOURS = 16  # of each point; a half-subset lacks two of them once in 3,900
_DUPLICATE = 1e-8  # distance of duplicates, of the points' root mean square distance from their mean
_LEAST = 10  # distinct points
_TIE = 1e-11  # relative difference of squared distances that are equal but for rounding
_TRIM = 0.9  # share of the ratios that the fit keeps
_MANY = 16  # values of a row that are ranked, above which the row is sorted: counting them takes longer then
_BLOCK = 256  # points whose distances to all others are held at once


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
def intrinsic_dimension(points: Tensor, half_subsets: int = 10, seed: int = 0) -> Dimension:
    """The 2NN intrinsic dimension of N points.

    With mu = r2 / r1, the ratio of the distances to a point's first two neighbours, -log(1 - F(mu)) = d log mu: the
    slope d is fitted through the origin by least squares to the lowest 90 % of the ratios, F(mu_i) = i / N. The value
    belongs to its N: values of different N do not compare. Of duplicates, which would have r1 = 0, one is kept.

    Args:
        points: (N, ...), flattened, of any real type, on any device; (N,) are points on a line.
        half_subsets: the error is the standard deviation over so many random half-subsets, times the root of 1/2; 0:
            no error bar (NaN). On clouds of 400 points of known dimension, the 95 % interval by it (Student's, 10
            half-subsets) held the dimension in 91 % of 600; at large d the estimate's own bias comes on top.
        seed: of the half-subsets.

    Returns:
        NaN with a reason for a constant cloud, fewer than 10 distinct points, points that are not finite, a lattice
        (all ratios 1), and points whose own type has rounded their neighbours' distances away.

    Raises:
        ValueError: no tensor of points, or a single half-subset.

    References:
        Facco et al. 2017, "Estimating the intrinsic dimension of datasets by a minimal neighborhood information".
    """
    half_subsets, seed = _halves_asked(half_subsets), checks.seed(seed)
    points = checks.points("points", points)
    cloud = _Cloud(points)
    if cloud.reason:
        return Dimension(math.nan, math.nan, cloud.n, 0, cloud.reason)
    distinct = cloud.distinct()
    duplicates = cloud.n - len(distinct)
    if len(distinct) < _LEAST:
        reason = f"{len(distinct)} distinct points; 2NN needs {_LEAST} or more"
        return Dimension(math.nan, math.nan, len(distinct), duplicates, reason)
    if duplicates:
        cloud = _Cloud(points[distinct])
    index = torch.arange(cloud.n, device=points.device)
    nearest = [cloud.squares(rows).topk(min(_NEIGHBOURS, cloud.n - 1), largest=False) for rows in index.split(_BLOCK)]
    squares, neighbours = (torch.cat(part) for part in zip(*nearest, strict=True))
    if squares[:, 0].median().sqrt().item() < cloud.rounding:
        reason = f"neighbours are nearer than {points.dtype} tells them apart; give the points in float64"
        return Dimension(math.nan, math.nan, cloud.n, duplicates, reason)
    value = _two_nn(squares[:, 0], squares[:, 1])
    of_halves = []
    for half in _halves(cloud.n, half_subsets, seed, points.device) if cloud.n >= 2 * _LEAST else ():
        inside = half[neighbours[half]]
        order = inside.cumsum(1)
        enough = order[:, -1] >= 2  # which neighbours fell into the half is chance: leaving the other rows out is, too
        first, second = (squares[half][enough][(inside & (order == k))[enough]] for k in (1, 2))
        of_halves.append(_two_nn(first, second))
    reason = "every point's first two neighbours are equally far" if math.isnan(value) else ""
    return Dimension(value, _error(of_halves), cloud.n, duplicates, reason)


@torch.no_grad()
def information_imbalance(
    layers: Mapping[str, Tensor],
    pairs: Iterable[tuple[str, str]] | None = None,
    half_subsets: int = 10,
    seed: int = 0,
) -> dict[tuple[str, str], Imbalance]:
    """The Information Imbalance of pairs of layers on all N points, with one neighbour.

    Delta(A -> B) = 2/N times the mean, over the points, of the rank in B of the point's nearest neighbour in A: about 0
    where A predicts B, about 1 where A says nothing of B; Delta(A -> A) = 2/N. The nearest has rank 1; the point itself
    does not count. Points equally far from a point share the mean of their ranks, and several nearest neighbours the
    mean of theirs; `ties` counts the points where that was so.

    Args:
        layers: (N, ...) each, of the same N points in the same order; flattened; on one device. Labels, (N,), are a
            layer, too, where points of one class are equally far.
        pairs: the (A, B) wanted; None: all ordered pairs of different layers.
        half_subsets, seed: as for `intrinsic_dimension`. The ranks in a half-subset cost a quarter of those of all.

    Returns:
        An `Imbalance` for each pair; NaN with a reason where a layer is constant or not finite, or where there are
        fewer than 3 points.

    Raises:
        ValueError: a layer that is no tensor of points, a pair that names no layer, layers of different N, a single
            half-subset.

    References:
        Glielmo et al. 2022, "Ranking the information content of distance measures".
    """
    half_subsets, seed = _halves_asked(half_subsets), checks.seed(seed)
    if not isinstance(layers, Mapping):
        raise checks.refusal("layers", layers, "a mapping of names to points")
    layers = {name: checks.points(f"layer {name}", values) for name, values in layers.items()}
    pairs = list(itertools.permutations(layers, 2) if pairs is None else pairs)
    if any(isinstance(pair, str) or len(pair) != 2 for pair in pairs):
        raise ValueError(f"pairs: got {pairs}; give pairs of two names, [(a, b), …]")
    names = list(dict.fromkeys(itertools.chain(*pairs)))
    if unknown := [name for name in names if name not in layers]:
        raise ValueError(f"no layer {', '.join(unknown)}; there are {', '.join(layers)}")
    if len({len(points) for points in layers.values()}) > 1:
        sizes = {name: len(points) for name, points in layers.items()}
        raise ValueError(f"layers of different numbers of points: {sizes}; give all of the same points")
    clouds = {name: _Cloud(layers[name]) for name in names}
    reasons = {pair: "; ".join(f"{name}: {clouds[name].reason}" for name in dict.fromkeys(pair) if clouds[name].reason)
               for pair in pairs}  # fmt: skip
    sound = [pair for pair, reason in reasons.items() if not reason]
    values = _imbalances({name: clouds[name] for pair in sound for name in pair}, sound, half_subsets, seed)
    return {
        pair: values.get(pair) or Imbalance(math.nan, math.nan, len(layers[pair[0]]), 0, reason)
        for pair, reason in reasons.items()
    }


def _imbalances(
    clouds: Mapping[str, "_Cloud"], pairs: list[tuple[str, str]], half_subsets: int, seed: int
) -> dict[tuple[str, str], Imbalance]:
    """The imbalances of sound layers, one block of rows of all layers at a time: each distance is computed once."""
    if not pairs:
        return {}
    n, device = clouds[pairs[0][0]].n, clouds[pairs[0][0]].points.device
    index = torch.arange(n, device=device)
    views = [index >= 0, *(_halves(n, half_subsets, seed, device) if n >= 6 else ())]
    ranks = torch.zeros(len(views), len(pairs), dtype=torch.float64, device=device)
    ties = torch.zeros(len(pairs), dtype=torch.long, device=device)
    for rows in index.split(_BLOCK):
        squares = {name: cloud.squares(rows) for name, cloud in clouds.items()}
        for view, chosen in enumerate(views):
            parts = {name: block[chosen[rows]][:, chosen] for name, block in squares.items()} if view else squares
            nearest = {name: _nearest(parts[name]) for name in {a for a, _ in pairs}}
            for i, (a, b) in enumerate(pairs):
                rank, tied = _ranks(parts[b], *nearest[a])
                ranks[view, i] += rank.sum()
                ties[i] += tied.sum() * (view == 0)
    delta = 2 * ranks / torch.stack([chosen.sum() for chosen in views]).unsqueeze(1) ** 2
    return {
        pair: Imbalance(value, _error(of_halves), n, tied)
        for pair, (value, *of_halves), tied in zip(pairs, delta.T.tolist(), ties.tolist(), strict=True)
    }


def _nearest(squares: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each row's least value, in the order of the rows; of all that are tied."""
    row, column = (squares <= squares.amin(1, keepdim=True) * (1 + _TIE)).nonzero(as_tuple=True)
    return row, column


def _ranks(squares: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Of each row, the mean rank of these of its values, and whether it has several or another is tied with one.

    Ranks are counted, value by value; where rows have many, as with labels for a layer, the rows are sorted instead.
    """
    number = torch.bincount(row, minlength=len(squares))
    rank = torch.zeros(len(squares), dtype=torch.float64, device=row.device)
    tied = number > 1
    if len(row) > _MANY * len(squares):
        ordered = squares.sort(1).values
        below = torch.searchsorted(ordered, squares * (1 - _TIE))[row, column]
        upto = torch.searchsorted(ordered, squares * (1 + _TIE), right=True)[row, column]
        rank.index_add_(0, row, (below + 1 + upto).double() / 2)
        tied[row[upto > below + 1]] = True
        return rank / number, tied
    for i, j in zip(row.split(_BLOCK), column.split(_BLOCK), strict=True):
        own, others = squares[i, j].unsqueeze(1), squares if len(row) == len(squares) else squares[i]
        below = (others < own * (1 - _TIE)).sum(1, dtype=torch.int32)
        upto = (others <= own * (1 + _TIE)).sum(1, dtype=torch.int32)
        rank.index_add_(0, i, (below + 1 + upto).double() / 2)
        tied[i[upto > below + 1]] = True
    return rank / number, tied


class _Cloud:
    """Points, flattened, and their squared distances."""

    def __init__(self, points: Tensor):
        self.points = points
        self.n, self.dimension = self.points.shape
        self._mean = self.points.mean(0, dtype=torch.float64)
        self._norms = torch.cat([self._centred(part).square().sum(1) for part in self.points.split(_BLOCK)])
        self.scale = self._norms.mean().sqrt().item()
        stored = self.points.dtype if self.points.is_floating_point() else torch.float64
        self._type = torch.finfo(stored)

    @property
    def reason(self) -> str:
        """Why no measure can be taken on these points, or nothing."""
        if self.n < 3:
            return f"{self.n} points, of which 3 is the least"
        if not math.isfinite(self.scale):
            return "not all values are finite"
        return "constant" if self.scale <= 4 * self._type.eps * self._mean.norm().item() or self.scale == 0 else ""

    @property
    def rounding(self) -> float:
        """How far a point of this size may have been moved when it was rounded to its type."""
        size = math.hypot(self.scale, self._mean.norm().item())
        return self._type.eps * max(size, self._type.tiny * math.sqrt(self.dimension))

    def distinct(self) -> Tensor:
        """Rows of the points without duplicates, of which the first is kept.

        Duplicates are neighbours on a random line: others fall between them with a chance of 1e-8 each.
        """
        line = randomness.normal(0, randomness.EVALUATION, 0, "line", (self.dimension,), torch.float64,
                                 self.points.device)  # fmt: skip
        order = torch.cat([self._centred(part) @ line for part in self.points.split(_BLOCK)]).argsort(stable=True)
        again = self._exact(order[1:], order[:-1]) <= (_DUPLICATE * self.scale) ** 2
        return order[torch.cat((again.new_ones(1), ~again))].sort().values

    def squares(self, rows: Tensor) -> Tensor:
        """Squared distances of some rows to all points, (rows, n), to half of `_TIE`; infinite to themselves.

        Where one sum after the other is rounded, as on a GPU, the product of D terms is off by eps sqrt(D) / 5
        (standard deviation) of |x_i|^2 + d^2, since |x_j|^2 <= 2 |x_i|^2 + 2 d^2; the rest rounds a few times.
        """
        left = self._centred(self.points[rows]).mul_(-2)
        squares = torch.cat([left @ self._centred(part).T for part in self.points.split(_BLOCK)], dim=1)
        squares += self._norms[rows].unsqueeze(1)
        squares += self._norms
        squares.scatter_(1, rows.unsqueeze(1), math.inf)
        rounding = torch.finfo(torch.float64).eps * (8 + math.sqrt(self.dimension)) / (_TIE / 2)
        row, column = (squares <= rounding * self._norms[rows].unsqueeze(1)).nonzero(as_tuple=True)
        squares[row, column] = self._exact(rows[row], column)
        return squares

    def _exact(self, left: Tensor, right: Tensor) -> Tensor:
        """Squared distances of pairs of rows from their differences."""
        squares = self._norms.new_empty(len(left))
        size = max(1, 2**18 // self.dimension)  # few, so that they stay in the cache
        for i, j, part in zip(left.split(size), right.split(size), squares.split(size), strict=True):
            part.copy_((self.points[i].double() - self.points[j]).square_().sum(1))
        return squares

    def _centred(self, points: Tensor) -> Tensor:
        return points.to(torch.float64, copy=True).sub_(self._mean)


def _two_nn(first: Tensor, second: Tensor) -> float:
    """The slope of the trimmed fit, from the squared distances of the first two neighbours."""
    n = len(first)
    log_mu = ((second / first).log() / 2).sort().values[: int(n * _TRIM)]
    if not log_mu[-1] > 1e-10:
        return math.nan  # but for rounding, all are 0
    y = -torch.log1p(-torch.arange(1, len(log_mu) + 1, dtype=torch.float64, device=log_mu.device) / n)
    return (log_mu @ y / (log_mu @ log_mu)).item()


def _halves(n: int, number: int, seed: int, device) -> list[Tensor]:
    """Masks of random halves of n points."""
    orders = (randomness.permutation(seed, randomness.EVALUATION, i, n, device) for i in range(number))
    return [order < n // 2 for order in orders]


def _error(of_halves: list[float]) -> float:
    return torch.tensor(of_halves, dtype=torch.float64).std().item() * math.sqrt(0.5) if of_halves else math.nan


def _halves_asked(half_subsets: int) -> int:
    if (number := checks.whole("half_subsets", half_subsets)) == 1:
        raise ValueError("half_subsets: got 1; give 0 for no error bar, or 2 or more")
    return number
