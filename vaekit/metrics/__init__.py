"""What is reported and never optimised, in nats per image.

Measures take an ordinary model (`forward(x, noise)`) and uint8 images, and draw their own noise, keyed by a seed and
the number of each image: so a value depends neither on batches nor on the order of evaluation.
"""

from vaekit.metrics.disentanglement import DCI, MIG, active_units, dci, mig, rate_per_dimension
from vaekit.metrics.geometry import Dimension, Imbalance, information_imbalance, intrinsic_dimension
from vaekit.metrics.information import Information, encode, information
from vaekit.metrics.likelihood import log_likelihood
from vaekit.metrics.memorisation import Memorisation, memorisation
from vaekit.metrics.neighbours import Among, Nearest
from vaekit.metrics.probes import (
    PROBES,
    Accuracy,
    ClassInformation,
    accuracy_bound,
    class_information,
    probe_accuracy,
    upper_hull,
)
from vaekit.metrics.rates import evaluate, floor, mean_and_se, rd_table
from vaekit.metrics.samples import (
    PSNR,
    InceptionScore,
    generate_images,
    inception_score,
    probabilities,
    psnr,
    reconstruct,
)

__all__ = [
    "DCI",
    "MIG",
    "PROBES",
    "PSNR",
    "Accuracy",
    "Among",
    "ClassInformation",
    "Dimension",
    "Imbalance",
    "InceptionScore",
    "Information",
    "Memorisation",
    "Nearest",
    "accuracy_bound",
    "active_units",
    "class_information",
    "dci",
    "encode",
    "evaluate",
    "floor",
    "generate_images",
    "inception_score",
    "information",
    "information_imbalance",
    "intrinsic_dimension",
    "log_likelihood",
    "mean_and_se",
    "memorisation",
    "mig",
    "probabilities",
    "probe_accuracy",
    "psnr",
    "rate_per_dimension",
    "rd_table",
    "reconstruct",
    "upper_hull",
]
