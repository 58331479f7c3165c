"""A plain in-memory loop, the strongest that one writes by hand: one member after another, with all threads.

The images lie in memory as uint8, batches are cut from torch.randperm, Adam is fused, and nothing is logged.
"""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from benchmarks.peers.task import IMAGES, Task, examples, train_on


def prepare(task: Task) -> Callable[[], Iterable[nn.Module]]:
    """The images ready; the models are made where they are trained."""
    images, labels = (part[:IMAGES] for part in examples(task.of.image_shape))

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            for index in torch.randperm(IMAGES).split(task.of.batch_size):
                yield images[index].float().div_(255), labels[index]

    return lambda: [train_on(task, batches(), *one) for one in task.modules()]
