"""Across the papers: the measures of all four on the same networks, which each paper takes on its own.

Study 4's classifier VAE over beta, each trained network with its pruned and its dense child. How do intrinsic
dimension, Information Imbalance, rate, mutual information, disentanglement and prunability go together? Nothing of it
is a paper's claim: the questions are those that the papers leave open, `relations` beside it answers them from the tidy
table, `figures` draws it.

    from vaekit.studies import across
    from vaekit.studies.across import figures, relations

    table = across.run(across.Settings.at("quick", betas=(0.1, 0.3, 1, 3, 10)))
    relations.relations(relations.values(table))
    figures.dimension_of_z(table)
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from vaekit.data import about
from vaekit.metrics import encode, information_imbalance, intrinsic_dimension, probe_accuracy
from vaekit.settings import option
from vaekit.store import Member
from vaekit.studies import id_transition, pruning, rate_generalisation
from vaekit.studies.base import of_study
from vaekit.sweep import Examples, Measure, StudySpec, Value, fifths

BETAS = (0.1, 0.19, 0.37, 0.72, 1.4, 2.7, 5.2, 10)
EPOCHS, MADE_EPOCHS = 10, 32  # 32 epochs of 20,000 images are 5,000 steps
MADE_TRAIN = 20_000  # training images of a set that has none of its own
CLOUD = 2_000  # test images whose layers are compared
PROBES = ("knn", "logistic")
SPARSITY = 0.9  # half the weights cost nothing on shapes: there would be nothing to foretell

_COMMON: dict[str, Any] = {
    **pruning.Settings.SCALES["short"],
    "betas": BETAS,
    "readings": ("sum",),
    "sparsities": (SPARSITY,),
    "seeds": (0, 1, 2, 3, 4),
    "data": ("mnist", "dsprites_like32"),
    "epochs": 0,
    "n_test": 5_000,
}


@dataclass(frozen=True, kw_only=True)
class Settings(pruning.Settings):
    """What a run of this study may choose: study 4's settings, at scales of their own; what is fixed is one network."""

    epochs: int = option("epochs of training; 0: 10, of a made set 32", at_least=0, at_most=10_000)
    n_train: int = option("training images; 0: the set's own, 20,000 of a made set", at_least=0)
    lambdas: tuple[float, ...] = option("weights of the cross-entropy", at_least=0, parameter=False)
    readings: tuple[str, ...] = option("how the reconstruction is reduced", choices=pruning.REDUCTIONS, parameter=False)
    sparsities: tuple[float, ...] = option("shares of the weights that are pruned", at_least=0, parameter=False)
    arms: tuple[str, ...] = option("ways to prune", choices=pruning.ARMS, parameter=False)

    SCALES: ClassVar = {
        "quick": _COMMON
        | {"betas": (0.1, 0.72, 2.7, 10), "seeds": (0,), "data": ("dsprites_like32",)}
        | {"epochs": 2, "n_train": 2_048, "n_test": 512, "width": 8},
        "short": _COMMON,
        "paper": _COMMON | {"data": (*_COMMON["data"], "dsprites_like")},
    }

    def images_of(self, name: str) -> int:
        """How many training images of a set are drawn; 0: its own."""
        return self.n_train or (0 if about(name).n_train else MADE_TRAIN)

    def epochs_of(self, name: str) -> int:
        """Epochs of training on a set."""
        return self.epochs or (EPOCHS if about(name).n_train else MADE_EPOCHS)


members, networks = pruning.members, pruning.networks


def ends(member: Member) -> tuple[int, ...]:
    """A fifth of a member's steps, and all of them: what a measure foretells, and of what.

    None of what is derived, which has no decoder.
    """
    return () if member.arm else (fifths(member.steps)[0], member.steps)


def saved_steps(member: Member) -> tuple[int, ...]:
    """The steps whose weights are stored: those of study 4, and of what is trained from nothing its first fifth."""
    return tuple(sorted({*ends(member)[:1], *pruning.SPEC.saved_steps(member)}))


def clouds(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """2NN's intrinsic dimension of the first 2,000 test images in each layer, and of mu; two Information Imbalances.

    Delta(out -> in) tells how much of the image its reconstruction lacks, Delta(in -> z) how much of the latent does
    not follow from which images are alike.
    """
    depth = len(dict(member.model_args)["channels"])
    names = ["input", *(f"encoder{i}" for i in range(1, depth + 1)), "mu", "z", "output"]
    points = id_transition.layers(
        model, images.test[:CLOUD], images.test_rows[:CLOUD], member.seed, names=dict(zip(names, names, strict=True))
    )
    for name, cloud in points.items():
        dimension = intrinsic_dimension(cloud)
        yield Value("test", "intrinsic_dimension", f"layer={name}", dimension.value, dimension.se, dimension.n)
    pairs = [("output", "input"), ("input", "z")]
    for (a, b), delta in information_imbalance(points, pairs, half_subsets=4).items():
        yield Value("test", "information_imbalance", f"from={a},to={b}", delta.value, delta.se, delta.n)


def probes(model: nn.Module, member: Member, step: int, images: Examples) -> Iterator[Value]:
    """Accuracy of classifiers that are fitted on the means of the test images' latents, by `probe_accuracy`."""
    assert images.test_labels is not None  # all sets of study 4 have labels
    mu, labels = encode(model, images.test).mu, images.test_labels
    for name in PROBES:
        accuracy = probe_accuracy(name, mu, labels, member.seed)
        yield Value("test", "probe_accuracy", f"probe={name}", accuracy.value, accuracy.se, accuracy.n)


def run(chosen: Settings):
    """The tidy table of what was chosen, as a pandas DataFrame (see `studies.base.of_study`)."""
    return of_study(SPEC, members, chosen)


SPEC = StudySpec(
    name="across",
    measures=(
        *(measure for measure in pruning.SPEC.measures if measure.name != "speed"),
        Measure("rate_parts", 1, rate_generalisation.rate_parts, at=ends),
        Measure("clouds", 1, clouds, at=ends, images=lambda member: CLOUD),
        Measure("probes", 1, probes, at=ends),
    ),
    measured_steps=pruning.SPEC.measured_steps,
    saved_steps=saved_steps,
    axes=pruning.AXES,
)
