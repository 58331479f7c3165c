"""What a latent tells about an image's label: four classifiers, the mutual information, and the bound that links them.

Xiao & Bamler 2023 (arXiv 2302.04855), Eqs. 10 and 11, sections 5.3 and 5.6. scikit-learn is imported only where a
classifier is fitted.
"""

import math
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vaekit import checks, randomness
from vaekit.distributions import Gaussian
from vaekit.metrics.information import log_density, within
from vaekit.metrics.rates import mean_and_se

PROBES = ("logistic", "linear_svm", "rbf_svm", "knn")

# Iterations of libsvm for each pair of classes. On 32 principal components of 10,000 CIFAR-10 images, of unit variance,
# the RBF machine needs 2,000 of them; the linear one 230,000, 900,000 at twice the scale, more at three times (3, 6,
# 18 and 34 s of one core). There it is cut off and says so: accuracy 0.380 ± 0.011; at the others 0.377, 0.379.
_SVM_ITERATIONS = 1_000_000


class Accuracy(NamedTuple):
    """The fraction of n latents classified rightly, its binomial standard error, and whether the fit converged."""

    value: float
    se: float
    n: int
    converged: bool


class ClassInformation(NamedTuple):
    """I_q(y; z) in nats and its standard error over n samples; `ceiling` is log M, `entropy` H(y), the most it can be.

    The two are equal where all M classes are equally frequent.
    """

    value: float
    se: float
    ceiling: float
    n: int
    entropy: float


def probe_accuracy(name: str, latents: Tensor, labels: Tensor, seed: int) -> Accuracy:
    """Accuracy of a classifier fitted on 80 % of the latents, on the other 20 %.

    Classifiers and settings are those of the paper's published code: scikit-learn's defaults, on latents as they are.
    These are not standardised, for the prior gives them their unit: a collapsed dimension, all but constant, would be
    blown up to the weight of a used one. `linear_svm` is SVC(kernel="linear"), one class against one with the hinge
    loss, not LinearSVC, one against the rest with the squared one. `logistic` minimises the published code's convex
    loss, with L-BFGS instead of SAGA. `knn` has k = 5.

    Args:
        name: one of `PROBES`.
        latents: (n, d) or (n, ...), of any float type; n >= 10. Values that are not finite give NaN.
        labels: (n,) whole numbers.
        seed: of the split, which is the same for every classifier and for all latents of n images.

    Raises:
        ValueError: another name, too few latents, labels of another length, or labels that are all one class where
            they are fitted.
        ImportError: scikit-learn is not installed.
    """
    classifier = _classifier(name)
    latents, seed = checks.floats("latents", latents, least=10), checks.seed(seed)
    n = len(latents)
    order = randomness.permutation(seed, randomness.SPLIT, 0, n)
    x, y = latents.double().cpu()[order].numpy(), checks.labels("labels", labels, n).cpu()[order].numpy()
    fitted = n - n // 5
    if len(set(y[:fitted])) < 2:
        raise ValueError(
            f"all {fitted} labels that {name} is fitted on are {y[0]}; give latents of two classes or more"
        )
    if not torch.isfinite(latents).all():
        return Accuracy(math.nan, math.nan, n - fitted, False)

    from sklearn.exceptions import ConvergenceWarning

    # For the whole process: members are probed on several threads, and a filter put back by one is another's as well.
    # What the warning would say, the classifier says, too.
    warnings.filterwarnings("ignore", category=ConvergenceWarning)
    classifier.fit(x[:fitted], y[:fitted])
    converged = not getattr(classifier, "fit_status_", 0)
    if name == "logistic":
        converged = int(max(classifier.n_iter_)) < classifier.max_iter
    value = float((classifier.predict(x[fitted:]) == y[fitted:]).mean())
    return Accuracy(value, math.sqrt(value * (1 - value) / (n - fitted)), n - fitted, converged)


def _classifier(name: str):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    if name == "logistic":
        return LogisticRegression(max_iter=1000)
    if name == "linear_svm":
        return SVC(kernel="linear", max_iter=_SVM_ITERATIONS)
    if name == "rbf_svm":
        return SVC(kernel="rbf", max_iter=_SVM_ITERATIONS)
    if name == "knn":
        return KNeighborsClassifier(n_neighbors=5)
    raise ValueError(f"there is no probe {name!r}; use one of {', '.join(PROBES)}")


@torch.no_grad()
def class_information(posterior: Gaussian, labels: Tensor, seed: int, samples: int | None = None) -> ClassInformation:
    """I_q(y; z) = E_q[log q(z|y) - log q(z)] of an encoder and the labels of its images (Eq. 10), by Monte Carlo.

    q(z|y) and q(z) are the exact mixtures of the posteriors of all images of the class, and of all images; a class
    weighs as many as it has. So this is the information in the set of images at hand: where posteriors do not overlap,
    it is H(y) for any labels, even for shuffled ones. 0 <= I <= H(y): an estimate that chance takes out of its bounds
    is given as the bound.

    Args:
        posterior: q(z|x_n) of n images, (n, d) or (n, ...). Values that are not finite give NaN.
        labels: (n,) whole numbers; M of them differ.
        seed: of the noise, and of the choice of images.
        samples: at one z of each of so many images, taken at random; None: of each image, as the paper's code does.

    Raises:
        ValueError: no posterior, no whole numbers for labels, or fewer than two images or samples.
    """
    posterior, seed = checks.posterior(posterior, least=2), checks.seed(seed)
    size, device = len(posterior.mu), posterior.mu.device
    n = size if samples is None else min(checks.whole("samples", samples, 2), size)
    labels = checks.labels("labels", labels, size).to(device)
    _, classes, counts = labels.unique(return_inverse=True, return_counts=True)
    by_class = classes.argsort(stable=True)
    mixture = Gaussian(posterior.mu[by_class], posterior.logvar[by_class])
    values = []
    for rows in randomness.permutation(seed, randomness.EVALUATION, 0, size, device)[:n].split(256):
        shape = (posterior.mu.shape[1],)
        noise = randomness.normal_rows(seed, randomness.EVALUATION, 0, "class information", rows, shape, torch.float64)
        z = Gaussian(posterior.mu[rows], posterior.logvar[rows]).sample(noise)
        parts = log_density(z, mixture).split(counts.tolist(), dim=1)
        joint = torch.stack([part.logsumexp(1) for part in parts], dim=1)  # log q(y, z), but for a constant log n
        own = classes[rows]
        of_class = joint.gather(1, own.unsqueeze(1)).squeeze(1) - counts[own].double().log()
        values.append(of_class - joint.logsumexp(1) + math.log(size))
    information, se = mean_and_se(torch.cat(values))
    frequencies = counts.double() / size
    entropy = -(frequencies * frequencies.log()).sum().item()
    return ClassInformation(within(information, 0, entropy), se, math.log(len(counts)), n, entropy)


def accuracy_bound(information: float, classes: int, entropy: float | None = None) -> float:
    """The highest accuracy that any classifier can reach on z with this mutual information I(y; z): Eq. 11.

    It is the alpha in [1/M, 1] where f(alpha) = H(y) + alpha log alpha + (1 - alpha) log((1 - alpha)/(M - 1)) reaches
    the information (Fano's inequality, solved for the accuracy; Meyen 2016). f grows there, from H(y) - log M to H(y).

    Args:
        information: I(y; z) or a bound on it from above, such as a rate, in nats. Below zero (an estimate may be) it
            counts as zero; from H(y) on, the bound is 1. NaN gives NaN.
        classes: M, two or more.
        entropy: H(y) in nats; None: log M, equally frequent classes, where no information gives 1/M.

    Raises:
        ValueError: fewer than two classes, or an entropy outside [0, log M].
    """
    classes = checks.whole("classes", classes, 2)
    ceiling = math.log(classes)
    wanted = f"nats in [0, log {classes}]"
    entropy = ceiling if entropy is None else checks.number("entropy", entropy, wanted, -1e-9, ceiling + 1e-9)
    if checks.is_nan("information", information):
        return math.nan
    information = max(information, 0.0)
    low, high = 1 / classes, 1.0
    if information >= entropy:
        return high
    for _ in range(60):  # the bits of a float64, and a few
        alpha = (low + high) / 2
        reached = entropy + _xlogx(alpha) + _xlogx(1 - alpha) - (1 - alpha) * math.log(classes - 1)
        low, high = (alpha, high) if reached < information else (low, alpha)
    return high


def _xlogx(p: float) -> float:
    return p * math.log(p) if p > 0 else 0.0


def upper_hull(x: Sequence[float] | Tensor, y: Sequence[float] | Tensor) -> list[int]:
    """Which of n points (x, y) are corners of the upper convex hull, from the left to the right (section 5.3).

    With x the total rate these are the optimal models at a given total rate: each is the best in the interval up to
    the next one, on one of its sides. Andrew's (1979) monotone chain, O(n log n). A point on an edge between two
    corners is none; of equal points the first is taken; points that are not finite are left out.

    Raises:
        ValueError: x and y that are not numbers, or not of one length.
    """
    try:
        plain = [getattr(values, "tolist", lambda own=values: own)() for values in (x, y)]  # of columns of a table
        across, up = (torch.as_tensor(values, dtype=torch.float64) for values in plain)
    except (TypeError, ValueError) as error:
        raise ValueError(f"x and y: {error}; give two rows of numbers") from error
    if across.ndim != 1 or across.shape != up.shape:
        raise ValueError(f"x has shape {tuple(across.shape)} and y {tuple(up.shape)}; give two rows of one length")
    a, b = across.tolist(), up.tolist()
    finite = [i for i in range(len(a)) if math.isfinite(a[i]) and math.isfinite(b[i])]
    hull: list[int] = []
    for i in sorted(finite, key=lambda i: (a[i], -b[i], i)):
        if hull and a[i] == a[hull[-1]]:
            continue  # below the last one, or the same
        while len(hull) > 1 and _turn(a, b, hull[-2], hull[-1], i) >= 0:
            hull.pop()
        hull.append(i)
    return hull


def _turn(x: list[float], y: list[float], i: int, j: int, k: int) -> float:
    """Positive where the way from point i over j to k turns left: j then lies below the line from i to k."""
    return (x[j] - x[i]) * (y[k] - y[i]) - (y[j] - y[i]) * (x[k] - x[i])
