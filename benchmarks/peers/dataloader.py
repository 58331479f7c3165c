"""The same loop over torch's DataLoader and a data set as torchvision's are: PIL images through ToTensor."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from benchmarks.peers.task import IMAGES, Task, examples, train_on
from vaekit.data.download import torchvision


class Pictures(Dataset):
    """Images and labels as torchvision's CIFAR10 and MNIST give them: an array's row to a PIL image, transformed."""

    def __init__(self, image_shape: tuple[int, int, int]):
        images, labels = (part[:IMAGES].numpy() for part in examples(image_shape))
        self.arrays = images.transpose(0, 2, 3, 1) if image_shape[0] > 1 else images[:, 0]
        self.labels = labels.tolist()
        self.transform = torchvision("transforms").ToTensor()

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[i])), self.labels[i]


@cache
def loader(image_shape: tuple[int, int, int], batch_size: int, workers: int) -> DataLoader:
    """Whole shuffled batches; the workers stay between epochs, and from one training to the next."""
    return DataLoader(
        Pictures(image_shape),
        batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        # A script's default on Linux. Here it is that of this process, which was spawned: its workers would start bare.
        multiprocessing_context="fork" if workers else None,
    )


def prepare(task: Task) -> Callable[[], Iterable[nn.Module]]:
    """The data set and its loader ready; the models are made where they are trained."""
    loaded = loader(task.of.image_shape, task.of.batch_size, task.workers)

    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from loaded

    return lambda: [train_on(task, batches(), *one) for one in task.modules()]
