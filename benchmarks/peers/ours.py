"""`vaekit.train_fleet`, whole: with making the models, its checks and its snapshots."""

from collections.abc import Callable, Iterable

from torch import nn

from benchmarks.peers.task import IMAGES, LR, Task, examples
from vaekit.fleet import Budget, train_fleet
from vaekit.losses import OBJECTIVES


def prepare(task: Task) -> Callable[[], Iterable[nn.Module]]:
    """The images ready; the models are made where they are trained."""
    images, labels = (part[:IMAGES] for part in examples(task.of.image_shape))
    budget = Budget(task.steps, task.of.batch_size, LR, precision=task.precision)

    def train() -> Iterable[nn.Module]:
        fleet = train_fleet(
            task.of.make,
            OBJECTIVES[task.of.objective],
            task.fleet(),
            images,
            labels,
            budget=budget,
            backend=task.backend,
            progress=False,
        )
        return (fleet.model(i) for i in range(task.members))

    return train
