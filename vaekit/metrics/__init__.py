"""What is reported and never optimised, in nats per image.

Measures take an ordinary model (`forward(x, noise)`) and uint8 images, and draw their own noise, keyed by a seed and
the number of each image: so a value depends neither on batches nor on the order of evaluation.
"""

from vaekit.metrics.information import Information, encode, information
from vaekit.metrics.rates import evaluate, floor, mean_and_se, rd_table

__all__ = ["Information", "encode", "evaluate", "floor", "information", "mean_and_se", "rd_table"]
