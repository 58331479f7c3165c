"""Does one dimension of a latent hold one factor of an image? And which dimensions does an encoder use at all?

Scores of latents against factors that are known, and the two signs of posterior collapse.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.special import entr

from vaekit import checks, randomness
from vaekit.distributions import Gaussian
from vaekit.losses import rate


class MIG(NamedTuple):
    """The mutual information gap and each factor's own, in [0, 1]; NaN for a factor that does not vary."""

    value: float
    gaps: list[float]


class DCI(NamedTuple):
    """Disentanglement, completeness and informativeness, each in [0, 1], 1 the best; the last is an accuracy."""

    disentanglement: float
    completeness: float
    informativeness: float


def mig(latents: Tensor, factors: Tensor, bins: int = 20) -> MIG:
    """The mutual information gap.

    The two largest I(latent dimension; factor), their difference over H(factor), averaged over the factors that vary.
    The estimator is the histogram one of disentanglement_lib (Locatello et al. 2019), not Chen's sum over posteriors:
    each dimension of the latents (posterior means) is cut into `bins` intervals of equal width over its range, and the
    mutual information is that of the counts. Three biases follow. Counts overestimate it, by about (bins - 1)(V - 1)/2n
    nats for a factor of V values (Miller 1955), which the difference all but removes, yet noise scores a little above
    0. A latent of a factor with V > bins values tells log(bins) at most: even a perfect one scores no more than about
    log(bins)/log(V). An outlier stretches the intervals until all other latents share a few.

    Args:
        latents: (n, d), of any float type. Values that are not finite give NaN.
        factors: (n, k) discrete values, finite.
        bins: intervals for each dimension.

    Raises:
        ValueError: latents that are no floats, shapes that do not fit, no factor that varies, or a factor of so many
            values that most occur once: its information is then that of the row's number.

    References:
        Chen et al. 2018, "Isolating sources of disentanglement in VAEs", section 4.1.
    """
    values, bins = _discrete(latents, factors), checks.whole("bins", bins, 2)
    if not torch.isfinite(latents).all():
        return MIG(math.nan, [math.nan] * len(values))
    latents = latents.detach().double().cpu()
    low, high = latents.min(0).values, latents.max(0).values
    width = torch.where(high > low, high - low, 1.0)
    cells = ((latents - low) / width * bins).long().clamp(max=bins - 1)
    gaps = []
    for labels, count in values:
        if count == 1:
            gaps.append(math.nan)
            continue
        joint = torch.stack([torch.bincount(column * count + labels, minlength=bins * count) for column in cells.T])
        p = joint.reshape(-1, bins, count).double() / len(latents)
        entropy = entr(p[0].sum(0)).sum()
        information = entropy + entr(p.sum(2)).sum(1) - entr(p.flatten(1)).sum(1)
        best = torch.cat((information, torch.zeros(1))).topk(2).values  # a single dimension has no rival
        gaps.append(((best[0] - best[1]) / entropy).item())
    finite = [gap for gap in gaps if not math.isnan(gap)]
    return MIG(sum(finite) / len(finite), gaps)


def dci(latents: Tensor, factors: Tensor, seed: int) -> DCI:
    """Disentanglement, completeness and informativeness.

    From R[i, j], how important dimension i of the latents is to a predictor of factor j: disentanglement is 1 minus the
    entropy of R's rows, completeness of its columns (each row or column a distribution, the entropy in units of its
    most, weighted by the row's or column's share of R), informativeness the accuracy on the 20 % of rows that were not
    fitted. The predictor is a random forest as in the paper, and as in disentanglement_lib a classifier: ten trees that
    split on any dimension, with leaves of at least 1 % of the latents. Smaller leaves spend importance on noise: where
    each of five factors has one dimension with a little noise, disentanglement is 1.00 with this forest, 0.76 with
    leaves of five latents. Gradient boosting, disentanglement_lib's choice, takes minutes where this takes seconds. So
    values compare only with those of the same predictor.

    Args:
        latents: (n, d), n >= 10 and d >= 2, of any float type. Values that are not finite give NaN.
        factors: (n, k) discrete values, finite, of two factors or more that vary; those that do not are left out.
        seed: of the split and of the forests.

    Raises:
        ValueError: as `mig`, or a d or a number of factors that vary of 1: nothing to spread over.
        ImportError: scikit-learn is not installed.

    References:
        Eastwood & Williams 2018, "A framework for the quantitative evaluation of disentangled representations", sec. 2.
    """
    from sklearn.ensemble import RandomForestClassifier

    values, seed = [labels for labels, count in _discrete(latents, factors) if count > 1], checks.seed(seed)
    n, d = latents.shape
    if n < 10 or d < 2 or len(values) < 2:
        given = f"{n} latents of {d} dimensions and {len(values)} factors that vary"
        raise ValueError(f"DCI was given {given}; it takes ten latents or more, and two or more of both others")
    if not torch.isfinite(latents).all():
        return DCI(math.nan, math.nan, math.nan)
    order = randomness.permutation(seed, randomness.SPLIT, 0, n)
    x = latents.detach().double().cpu()[order]
    # A tree asks for order alone; but scikit-learn's see float32, and take a range below 1e-7 for a constant.
    width = x.amax(0) - x.amin(0)
    x, fitted = ((x - x.amin(0)) / torch.where(width > 0, width, 1.0)).numpy(), n - n // 5
    importances, accuracies = [], []
    for labels in values:
        y = labels[order].numpy()
        forest = RandomForestClassifier(10, min_samples_leaf=0.01, max_features=None, random_state=seed % 2**32)
        forest.fit(x[:fitted], y[:fitted])
        importances.append(torch.from_numpy(forest.feature_importances_))
        accuracies.append(forest.score(x[fitted:], y[fitted:]))
    importance = torch.stack(importances, dim=1)
    return DCI(_concentration(importance), _concentration(importance.T), sum(accuracies) / len(accuracies))


def active_units(posterior: Gaussian, threshold: float = 0.01) -> float:
    """How many dimensions of an encoder tell images apart: the variance of mu over n images exceeds the threshold.

    Burda et al. 2016, "Importance Weighted Autoencoders", section 5.3 (their threshold is 0.01). `posterior` has
    parameters of shape (n, d) or (n, ...), n >= 2. A whole number; NaN where mu is not finite.

    Raises:
        ValueError: no such posterior.
    """
    mu, threshold = checks.posterior(posterior, least=2).mu, checks.number("threshold", threshold)
    return float((mu.var(0) > threshold).sum()) if torch.isfinite(mu).all() else math.nan


def rate_per_dimension(posterior: Gaussian) -> Tensor:
    """The rate of each dimension, averaged over n images: (d,), float64 on the CPU, in nats; they sum to the mean rate.

    `posterior` has parameters of shape (n, d) or (n, ...). A collapsed dimension has almost none.

    Raises:
        ValueError: no such posterior.
    """
    mu, logvar = checks.posterior(posterior)
    return (rate(Gaussian(mu.T, logvar.T)) / len(mu)).cpu()


def _discrete(latents: Tensor, factors: Tensor) -> list[tuple[Tensor, int]]:
    """Each factor as numbers of its values, (n,), on the CPU, and how many values there are."""
    n = len(checks.floats("latents", latents))
    if latents.ndim != 2 or len(checks.points("factors", factors)) != n or factors.ndim != 2:
        shapes = f"latents have shape {tuple(latents.shape)} and factors {tuple(factors.shape)}"
        raise ValueError(f"{shapes}; give (n, d) and (n, k), a row for each image")
    if not factors.isfinite().all():
        raise ValueError("factors: got values that are not finite; give discrete ones, known of every image")
    columns = [column.unique(return_inverse=True) for column in factors.cpu().T]
    counts = [len(values) for values, _ in columns]
    if not any(count > 1 for count in counts):
        raise ValueError(f"none of {len(counts)} factors varies over {len(latents)} images; give one that does")
    if max(counts) > max(len(latents) // 2, 2):
        raise ValueError(f"a factor has {max(counts)} values in {len(latents)} images; round it to few, or give more")
    return [(labels, count) for (_, labels), count in zip(columns, counts, strict=True)]


def _concentration(importance: Tensor) -> float:
    """1 minus the entropy of each row as a share of its most, averaged with each row's weight; 0 for nothing at all."""
    weight = importance.sum(1)
    if weight.sum() == 0:
        return 0.0
    rows = importance / torch.where(weight > 0, weight, 1.0).unsqueeze(1)
    concentrations = 1 - entr(rows).sum(1) / math.log(importance.shape[1])
    return ((concentrations * weight).sum() / weight.sum()).item()
