"""pythae's BetaVAE and BaseTrainer, around the very layers of our dense and convolutional VAE."""

import importlib
import tempfile
from collections.abc import Callable, Iterable

from torch import nn

from benchmarks.peers.task import IMAGES, LR, Task, examples, sites_of

REQUIREMENTS = (
    "pythae==0.1.2",
    "imageio==2.38.1",
    "pydantic==2.12.5",
    "pydantic-core==2.41.5",
    "annotated-types==0.7.0",
    "typing-inspection==0.4.2",
)


def prepare(task: Task) -> Callable[[], Iterable[nn.Module]]:
    """Trainers, models and pythae's data set, float images in memory, ready.

    Errors: ValueError where pythae cannot train the task.
    """
    if task.of.objective != "beta" or task.precision != "full" or task.of.arguments.get("batch_norm"):
        raise ValueError("its BetaVAE has one code and a Bernoulli likelihood, and it casts on a GPU alone")
    data, models, networks, outputs, trainers = (
        importlib.import_module(f"pythae.{name}")
        for name in ("data.datasets", "models", "models.nn", "models.base.base_utils", "trainers")
    )
    epoch = min(task.steps, IMAGES // task.of.batch_size)
    if task.steps % epoch:
        raise ValueError(f"{task.steps} steps are no whole number of epochs of {epoch}; pythae trains by epochs")
    images, labels = (part[: epoch * task.of.batch_size] for part in examples(task.of.image_shape))
    images = data.BaseDataset(images / 255, labels)

    class Encoder(networks.BaseEncoder):
        def __init__(self, vae):
            super().__init__()
            self.layers, self.mu, self.logvar = vae.encoder, vae.mu, vae.logvar

        def forward(self, x):
            h = self.layers(x)
            return outputs.ModelOutput(embedding=self.mu(h), log_covariance=self.logvar(h))

    class Decoder(networks.BaseDecoder):
        def __init__(self, vae):
            super().__init__()
            self.layers = vae.decoder

        def forward(self, z):
            return outputs.ModelOutput(reconstruction=self.layers(z).sigmoid())

    scratch = tempfile.TemporaryDirectory()
    modules, ready = [], []
    for number, (vae, weights) in enumerate(task.modules()):
        model = models.BetaVAE(
            models.BetaVAEConfig(
                input_dim=task.of.image_shape,
                latent_dim=dict(sites_of(vae))["z"][0],
                reconstruction_loss="bce",
                beta=weights["beta"].item(),
            ),
            Encoder(vae),
            Decoder(vae),
        )
        training = trainers.BaseTrainerConfig(
            output_dir=scratch.name,
            num_epochs=task.steps // epoch,
            per_device_train_batch_size=task.of.batch_size,
            learning_rate=LR,
            optimizer_cls="Adam",
            optimizer_params={"fused": True},
            no_cuda=True,
            seed=task.seed + number,
        )
        modules.append(vae)
        ready.append(trainers.BaseTrainer(model, images, training_config=training))

    def train() -> Iterable[nn.Module]:
        with scratch:
            for trainer in ready:
                trainer.train()
        return modules

    return train
