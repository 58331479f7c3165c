"""Classifiers on latents whose classes are known, information by numeric integration, the bound by its own function."""

import itertools
import math
import warnings

import pytest
import torch
from tiny import posterior

from vaekit import randomness
from vaekit.distributions import Gaussian
from vaekit.metrics import PROBES, accuracy_bound, class_information, information, probe_accuracy, probes, upper_hull


def normal(site, *shape):
    return randomness.normal(1, randomness.FACTORS, 0, site, shape, torch.float64)


def labels(n, classes):
    return torch.arange(n) % classes


@pytest.mark.parametrize("name", PROBES)
def test_classes_far_apart_are_all_told_apart(name):
    y = labels(300, 3)
    accuracy = probe_accuracy(name, 10 * torch.eye(3)[y] + normal("apart", 300, 3), y + 7, seed=0)
    assert accuracy == (1.0, 0.0, 60, True)


def test_each_classifier_draws_the_boundaries_that_it_can():
    latents = 2 * randomness.uniform(1, randomness.FACTORS, 0, "squares", (1000, 2), torch.float64) - 1
    y = (latents[:, 0] * latents[:, 1] > 0).long()  # exclusive or: no line parts them
    accuracy = {name: probe_accuracy(name, latents, y, seed=0) for name in PROBES}
    for name, (value, se, n, _) in accuracy.items():
        assert (value > 0.93) if name in ("rbf_svm", "knn") else (value < 0.65)
        assert n == 200
        assert se == pytest.approx(math.sqrt(value * (1 - value) / 200))


@pytest.mark.parametrize("name", PROBES)
def test_what_is_scored_was_not_fitted(name):
    y = randomness.bits(2, randomness.FACTORS, 0, "labels", torch.arange(300))[:, 0] % 2
    value, se, *_ = probe_accuracy(name, normal("wide", 300, 512), y, seed=0)  # any labels can be fitted in 512 dims
    assert abs(value - 0.5) < 4 * se


@pytest.mark.parametrize("name", PROBES)
def test_the_same_as_scikit_learn_on_the_same_split(name):
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    y = labels(503, 4)
    latents = torch.eye(4)[y] + 0.7 * normal("overlap", 503, 4)
    order = randomness.permutation(5, randomness.SPLIT, 0, 503)
    x, t = latents[order].numpy(), y[order].numpy()
    reference = {
        "logistic": LogisticRegression(max_iter=10_000, solver="newton-cg"),
        "linear_svm": SVC(kernel="linear"),
        "rbf_svm": SVC(),
        "knn": KNeighborsClassifier(5),
    }[name].fit(x[:403], t[:403])
    accuracy = probe_accuracy(name, latents, y, seed=5)
    assert accuracy.value == reference.score(x[403:], t[403:])
    assert 0.5 < accuracy.value < 0.95
    assert accuracy.n == 100
    assert probe_accuracy(name, latents.reshape(503, 2, 2), y.to(torch.uint8), seed=5) == accuracy
    assert probe_accuracy(name, latents, y, seed=6) != accuracy


@pytest.mark.parametrize("name", PROBES)
def test_codes_of_any_float_type(name):
    y = labels(100, 2)
    latents = 8 * y[:, None] + normal("types", 100, 2)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        assert probe_accuracy(name, latents.to(dtype).requires_grad_(), y, seed=0).value == 1


@pytest.mark.parametrize("name", PROBES)
def test_codes_that_are_collapsed_or_not_finite(name):
    y = (torch.arange(200) % 4 > 0).long()  # three quarters are of one class
    test = y[randomness.permutation(0, randomness.SPLIT, 0, 200)[160:]]
    if name != "knn":  # which five of equal neighbours count is up to it
        assert probe_accuracy(name, torch.zeros(200, 3), y, seed=0).value == test.double().mean().item()
    for bad in (math.nan, math.inf):
        latents = normal("bad", 200, 3)
        latents[17, 1] = bad
        value, se, n, converged = probe_accuracy(name, latents, y, seed=0)
        assert math.isnan(value)
        assert math.isnan(se)
        assert (n, converged) == (40, False)


def test_a_fit_that_is_cut_off_says_so_and_nothing_else_is_hushed(monkeypatch):
    y, latents = labels(300, 2), normal("no classes", 300, 2)
    assert probe_accuracy("linear_svm", latents, y, seed=0).converged
    monkeypatch.setattr(probes, "_SVM_ITERATIONS", 3)
    assert not probe_accuracy("linear_svm", latents, y, seed=0).converged

    class Grumbling:
        def fit(self, x, y):
            warnings.warn("something else", UserWarning, stacklevel=1)

        def predict(self, x):
            return 0 * x[:, 0]

    monkeypatch.setattr(probes, "_classifier", lambda name: Grumbling())
    with pytest.warns(UserWarning, match="something else"):
        assert probe_accuracy("knn", latents, y, seed=0).converged


def test_bad_arguments_of_a_probe():
    latents = torch.zeros(20, 2)
    with pytest.raises(ValueError, match="no probe 'oracle'; use one of logistic, linear_svm, rbf_svm, knn"):
        probe_accuracy("oracle", latents, labels(20, 2), seed=0)
    for n, y, words in ((20, labels(19, 2), "20 whole numbers"), (9, labels(9, 2), "n 10 or more")):
        with pytest.raises(ValueError, match=words):
            probe_accuracy("knn", latents[:n], y, seed=0)
    with pytest.raises(ValueError, match="all 16 labels that knn is fitted on are 3"):
        probe_accuracy("knn", latents, torch.full((20,), 3), seed=0)


def integral(q, y):
    """I(y; z) of a mixture on a line, by numeric integration in nats."""
    z = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    density = torch.stack([Gaussian(m, s).log_prob(z) for m, s in zip(*q, strict=True)])
    log_q = density.logsumexp(0) - math.log(len(y))
    total = 0.0
    for c in y.unique():
        of_class = density[y == c].logsumexp(0) - math.log((y == c).sum())
        total += (y == c).double().mean() * torch.trapezoid(of_class.exp() * (of_class - log_q), z)
    return float(total)


@pytest.mark.parametrize(("spread", "sd", "classes"), [(1.0, 0.5, 2), (3.0, 0.4, 3), (0.3, 1.0, 2)])
def test_class_information_of_a_mixture_on_a_line_against_numeric_integration(spread, sd, classes):
    y = (torch.arange(60) % 5).clamp(max=classes - 1)  # not equally frequent
    q = posterior(spread * (y + 0.5 * normal("mixture", 60)), sd)
    truth = integral(q, y)
    for samples in (None, 40):
        estimate = [class_information(q, y, seed, samples) for seed in range(100)]
        values = torch.tensor([each.value for each in estimate], dtype=torch.float64)
        assert values.mean().item() == pytest.approx(truth, abs=5 * values.std().item() / 10)
        assert 0.2 < values.std() / torch.tensor([each.se for each in estimate]).mean() < 1.5  # one z an image: less
        assert {each.n for each in estimate} == {samples or 60}
    assert 0.003 < truth < estimate[0].entropy < estimate[0].ceiling == math.log(classes)


def test_class_information_is_the_entropy_where_nothing_overlaps_and_none_where_all_does():
    y = torch.tensor([4] * 50 + [9] * 30 + [2] * 20)
    entropy = -sum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    apart = class_information(posterior(torch.arange(100) * 100.0, 0.5), y, seed=0)
    assert apart.value == pytest.approx(entropy, abs=1e-12)
    assert apart.entropy == pytest.approx(entropy, abs=1e-12)
    assert apart.ceiling == math.log(3)
    for same in (posterior([[0.3, -1.0]] * 100, 0.5), posterior((torch.arange(100) // 2 % 5).double(), 0.5)):
        balanced = torch.arange(100) % 2  # both classes have the same mixture
        assert class_information(same, balanced, seed=1).value == pytest.approx(0, abs=1e-12)
    one_class = class_information(posterior([0.0, 1.0], 1.0), torch.zeros(2), seed=0)
    assert one_class == pytest.approx((0, 0, 0, 2, 0), abs=1e-12)


def test_class_information_of_a_class_for_each_image_is_the_images_information():
    q = posterior(normal("images", 300, 3), 0.5)
    estimate, whole = class_information(q, torch.arange(300), seed=0), information(q, seed=1, samples=300)
    se = math.hypot(estimate.se, whole.mutual_information_se)
    assert estimate.value == pytest.approx(whole.mutual_information, abs=4 * se)
    assert estimate.ceiling == pytest.approx(whole.ceiling)
    shaped = Gaussian(*(each.reshape(300, 3, 1).float() for each in q))
    assert class_information(shaped, torch.arange(300), seed=0).value == pytest.approx(estimate.value, abs=1e-5)
    assert math.isnan(class_information(Gaussian(q.mu * math.nan, q.logvar), labels(300, 2), seed=0).value)
    for y in (labels(299, 2), labels(300, 2)[:, None]):
        with pytest.raises(ValueError, match="give a torch tensor of 300 whole numbers"):
            class_information(q, y, seed=0)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_the_bound_inverts_its_function(classes):
    for share in (1.0, 0.7, 0.2):
        entropy = share * math.log(classes)
        for i in range(1, 40):
            alpha = 1 / classes + (1 - 1 / classes) * i / 40
            f = entropy + alpha * math.log(alpha) + (1 - alpha) * math.log((1 - alpha) / (classes - 1))
            if f >= 0:
                assert accuracy_bound(f, classes, entropy) == pytest.approx(alpha, abs=1e-9)


def test_the_limits_of_the_bound():
    assert accuracy_bound(0, 10) == pytest.approx(0.1, abs=1e-7)
    assert accuracy_bound(-0.1, 10) == accuracy_bound(0, 10)
    assert accuracy_bound(math.log(10), 10) == accuracy_bound(1e9, 10) == accuracy_bound(math.inf, 10) == 1
    assert accuracy_bound(0, 10, entropy=0) == 1  # one class alone: always right
    # without information, guessing the commonest of two classes (0.8, 0.2) reaches the bound
    assert accuracy_bound(0, 2, -0.8 * math.log(0.8) - 0.2 * math.log(0.2)) == pytest.approx(0.8)
    bounds = [accuracy_bound(i / 100, 10) for i in range(260)]
    assert bounds == sorted(bounds)
    assert math.isnan(accuracy_bound(math.nan, 10))
    for classes, entropy in ((1, None), (10, 2.4), (10, -0.1)):
        with pytest.raises(ValueError, match=r"classes: got 1; give a whole number|entropy: got .* give nats in"):
            accuracy_bound(1.0, classes, entropy)


def test_the_bound_holds_for_the_best_classifier_of_a_known_mixture():
    z = torch.linspace(-30, 30, 20_001, dtype=torch.float64)
    for distance in (0.1, 1.0, 3.0):
        q = posterior([0.0, distance], 1.0)
        joint = torch.stack([Gaussian(m, s).log_prob(z).exp() / 2 for m, s in zip(*q, strict=True)])
        best = torch.trapezoid(joint.max(0).values, z).item()  # Bayes' accuracy
        assert best < accuracy_bound(integral(q, labels(2, 2)), 2) < best + 0.1


def test_the_upper_hull():
    assert upper_hull([0, 1, 2, 3, 4], [0, 2, 1, 2.5, 0]) == [0, 1, 3, 4]
    assert upper_hull([3, 0, 4, 1, 2], [2.5, 0, 0, 2, 1]) == [1, 3, 0, 2]  # in the order of x
    assert upper_hull([0, 1, 2, 3], [0, 1, 2, 3]) == [0, 3]  # on one line: its ends
    assert upper_hull([0, 1, 2], [5, 0, 5]) == [0, 2]
    assert upper_hull([1, 1, 1, 2, 2], [0, 3, 3, 1, 0]) == [1, 3]  # one x, or one point, several times
    assert upper_hull([0, 1, math.nan, 3, 2], [0, 1, 9, math.inf, 0]) == [0, 1, 4]
    assert upper_hull(torch.tensor([7.0]), torch.tensor([1.0])) == [0]
    assert upper_hull([], []) == []
    with pytest.raises(ValueError, match="two rows of one length"):
        upper_hull([0, 1], [0])


def test_no_point_lies_above_the_upper_hull():
    x, y = normal("hull x", 200), normal("hull y", 200)
    corners = upper_hull(x, y)
    slopes = [((y[b] - y[a]) / (x[b] - x[a])).item() for a, b in itertools.pairwise(corners)]
    assert slopes == sorted(slopes, reverse=True)
    assert {x.argmin().item(), x.argmax().item(), y.argmax().item()} <= set(corners)
    for a, slope in zip(corners, slopes, strict=False):
        assert (y - y[a] - slope * (x - x[a])).max() < 1e-12
