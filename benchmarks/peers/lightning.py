"""PyTorch Lightning's Trainer over the same DataLoader, with all that it need not do for training switched off."""

import importlib
import logging
import warnings
from collections.abc import Callable, Iterable

import torch
from torch import nn

from benchmarks.peers.dataloader import loader
from benchmarks.peers.task import LR, Task, mean_loss, sites_of
from vaekit.data.download import torchvision
from vaekit.losses import OBJECTIVES

REQUIREMENTS = ("pytorch-lightning==2.6.1", "torchmetrics==1.9.0", "lightning-utilities==0.15.3")


def prepare(task: Task) -> Callable[[], Iterable[nn.Module]]:
    """Trainers, modules and the loader ready."""
    torchvision("transforms")  # which torchmetrics imports, where that works
    lightning = importlib.import_module("pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    objective = OBJECTIVES[task.of.objective]

    class Module(lightning.LightningModule):
        """A member as Lightning wants it; its own precision plugin casts."""

        def __init__(self, module: nn.Module, weights):
            super().__init__()
            self.module, self.weights = module, weights

        def training_step(self, batch, number):
            x, labels = batch
            noise = {site: torch.randn(len(x), *shape) for site, shape in sites_of(self.module)}
            progress = torch.tensor(float(self.global_step))
            return mean_loss(objective, task.precision, self.module, x, labels, noise, self.weights, progress)

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=LR, fused=True)

    members = [Module(*one) for one in task.modules()]
    trainers = [
        lightning.Trainer(
            accelerator="cpu",
            devices=1,
            max_steps=task.steps,
            max_epochs=-1,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        for _ in members
    ]
    loaded = loader(task.of.image_shape, task.of.batch_size, task.workers)

    def train() -> Iterable[nn.Module]:
        for trainer, member in zip(trainers, members, strict=True):
            trainer.fit(member, loaded)
        return [member.module for member in members]

    return train
