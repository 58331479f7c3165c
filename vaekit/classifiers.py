"""Classifiers that judge what a model generates: how they are trained, and where the trained ones are.

    results/classifiers/<data>-<network>.safetensors   weights, BatchNorm statistics and standardisation in float16,
                                                        and in the header how they were trained and how well they do

`python -m vaekit classifier DATA` makes them. The small networks are carried by the checkout, one for each data set
that has one, so that an Inception Score is comparable wherever it is taken; large ones stay in the store.
"""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit import data, provenance, randomness
from vaekit.fleet import batch_indices, new_model
from vaekit.metrics import mean_and_se
from vaekit.models.classifiers import Classifier
from vaekit.store import StoreError, UnreadableError, default_store, files, results

CARRIED = ("resnet20", "cnn")  # by the checkout
MIRRORED = ("cifar10", "cifar10_jpeg")  # data sets whose images may be flipped: no digits, no letters


@dataclass(frozen=True)
class Recipe:
    """Stochastic gradient descent with Nesterov's momentum, on images cropped at random from their padded selves.

    The learning rate rises linearly from 0 to `lr` over `warmup` of the steps and falls linearly back to 0 (one cycle:
    Smith and Topin 2018). Products are in bfloat16. `flips`: half of the images are mirrored.
    """

    epochs: int
    lr: float
    flips: bool = False
    warmup: float = 0.2
    momentum: float = 0.9
    weight_decay: float = 5e-4
    batch_size: int = 128

    def rate(self, step: int, steps: int) -> float:
        """The learning rate of step `step` (from 0) of `steps`."""
        done = (step + 0.5) / steps
        return self.lr * min(done / self.warmup, (1 - done) / (1 - self.warmup))


def recipe(data_name: str, network: str, epochs: int | None = None) -> Recipe:
    """How a network is trained on a data set, for its usual number of epochs or another."""
    usual, lr = {"resnet20": (12, 0.2), "cnn": (8, 0.1)}.get(network, (200, 0.1))
    return Recipe(epochs or usual, lr, flips=data_name in MIRRORED)


def usual_network(data_name: str) -> str:
    """The network that judges a data set: a small CNN for grey images, a ResNet-20 for colour."""
    return "cnn" if data.image_shape(data_name)[0] == 1 else "resnet20"


# Training -------------------------------------------------------------------------------------------------------------


def train(
    network: str,
    images: Tensor,
    labels: Tensor,
    chosen: Recipe,
    seed: int = 0,
    checkpoint: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Classifier, float]:
    """A classifier trained on uint8 images (n, C, H, W) with int64 labels (n,), on their device, and its seconds.

    It is in eval mode; the seconds include those before a resume. Start, batches, crops and flips are keyed by `seed`
    and the step. After each epoch the state goes to `checkpoint`; where that file is there, training goes on from it,
    to the result that it would have had.

    Raises:
        StoreError: The checkpoint cannot be read or written.
    """
    size, device = len(images), images.device
    epoch = max(1, size // chosen.batch_size)
    steps = chosen.epochs * epoch
    shape = cast(tuple[int, int, int], tuple(images.shape[1:]))
    classes = int(labels.max()) + 1
    classifier = cast(Classifier, new_model(lambda: Classifier(network, shape, classes), seed))
    classifier.mean, classifier.sd = standardisation(images)
    classifier.to(device)
    optimiser = torch.optim.SGD(
        classifier.parameters(), chosen.lr, chosen.momentum, weight_decay=chosen.weight_decay, nesterov=True
    )
    first, seconds = _resume(checkpoint, classifier, optimiser) if checkpoint and files.exists(checkpoint) else (0, 0.0)
    begun, total = time.monotonic() - seconds, torch.zeros((), device=device)
    orders: dict[int, Tensor] = {}
    for step in range(first, steps):
        rows = batch_indices(seed, size, chosen.batch_size, step, device, orders)
        x = moved(images[rows], seed, step, chosen.flips) / 255
        with torch.autocast(device.type, torch.bfloat16):
            logits = classifier.logits(x)
        loss = F.cross_entropy(logits.float(), labels[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.param_groups[0]["lr"] = chosen.rate(step, steps)
        optimiser.step()
        total += loss.detach()
        if (step + 1) % epoch == 0:
            seconds = time.monotonic() - begun
            mean_loss, speed = total.item() / epoch, (step + 1) * chosen.batch_size / seconds
            say(
                f"epoch {(step + 1) // epoch} of {chosen.epochs}: cross-entropy {mean_loss:.3f} nats, "
                f"{speed:,.0f} images/s"
            )
            total.zero_()
            if checkpoint:
                _save(checkpoint, classifier, optimiser, step + 1, seconds)
    return classifier.eval(), seconds


def standardisation(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel of uint8 images (n, C, H, W), in [0, 1]: float32, (C, 1, 1) each."""
    bytes_ = torch.arange(256, dtype=torch.float64, device=images.device)
    share = torch.stack([channel.flatten().bincount(minlength=256) for channel in images.unbind(1)])
    share = share.double() / share.sum(1, keepdim=True)
    mean = share @ bytes_
    sd = (share * (bytes_ - mean[:, None]) ** 2).sum(1).sqrt().clamp(min=1)  # of a black set, too
    return (mean / 255).float()[:, None, None], (sd / 255).float()[:, None, None]


def moved(images: Tensor, seed: int, step: int, flips: bool) -> Tensor:
    """A step's images (n, C, H, W), each cropped at random after padding by an eighth of its side, perhaps mirrored."""
    n, _, height, width = images.shape
    pad = height // 8
    draws = randomness.uniform(seed, randomness.NOISE, step, "crop", (3, n), device=images.device)
    down, right = (draws[:2] * (2 * pad + 1)).long()
    rows = down[:, None] + torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(n, width)
    if flips:
        columns = torch.where(draws[2, :, None] < 0.5, width - 1 - columns, columns)
    padded = F.pad(images, (pad, pad, pad, pad)).permute(0, 2, 3, 1)
    each = torch.arange(n, device=images.device)[:, None, None]
    return padded[each, rows[:, :, None], (right[:, None] + columns)[:, None, :]].permute(0, 3, 1, 2)


def _save(checkpoint: Path, classifier: nn.Module, optimiser: torch.optim.Optimizer, step: int, seconds: float) -> None:
    momenta = {name: optimiser.state[weight]["momentum_buffer"] for name, weight in classifier.named_parameters()}
    groups = {"weights": _on_cpu(classifier.state_dict()), "momenta": _on_cpu(momenta)}
    files.replace(checkpoint, files.pack({"step": step, "seconds": seconds}, groups))


def _resume(checkpoint: Path, classifier: nn.Module, optimiser: torch.optim.Optimizer) -> tuple[int, float]:
    """Put a checkpoint's state in place; returns the steps and seconds it had taken."""
    try:
        saved = files.Pack(checkpoint)
        step, seconds, momenta = int(saved.about["step"]), float(saved.about["seconds"]), saved.read("momenta")
        for name, weight in classifier.named_parameters():
            optimiser.state[weight]["momentum_buffer"] = momenta[name].to(weight)
        classifier.load_state_dict(saved.read("weights"))
    except UnreadableError:
        raise
    except (OSError, *files.UNREADABLE) as error:
        raise StoreError(f"{checkpoint} is no checkpoint of this training ({_first_line(error)}); delete it") from None
    return step, seconds


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu() for name, value in tensors.items()}


# What is kept of it ---------------------------------------------------------------------------------------------------


def load(data_name: str, network: str | None = None) -> Classifier | None:
    """The trained classifier of a data set, in eval mode, on the CPU; None where there is none.

    `network`: the one that usually judges the set, or another. The classifier's `record` says how it was trained, on
    what, and its test accuracy.

    Raises:
        DataError: There is no such set.
        UnreadableError: The system does not let the file be read.
        StoreError: The file is damaged, or made from other images than the set of that name has now.
    """
    network = network or usual_network(data_name)
    path = _path(data_name, network)
    if not files.exists(path):
        return None
    identity = data.identity(data_name)
    try:
        kept = files.Pack(path)
        if kept.about["data_identity"] != identity:
            raise ValueError(f"it was trained on {kept.about['data_identity']}; {data_name} is {identity} here")
        return _built(kept.about, kept.read("weights"))
    except UnreadableError:
        raise
    except (OSError, *files.UNREADABLE) as error:
        raise StoreError(
            f"the classifier {path} cannot be used ({_first_line(error)}). Check it out again, or delete it and train "
            f"it: `python -m vaekit classifier {data_name} --model {network}`"
        ) from None


def make(
    data_name: str,
    network: str | None = None,
    epochs: int | None = None,
    device: str = "cpu",
    say: Callable[[str], None] = lambda line: None,
) -> str:
    """Train, measure and keep the classifier of a data set unless it is there; returns a sentence on what is there.

    A training that was cut goes on from its last epoch.

    Raises:
        DataError: The set is absent or has no labels.
        StoreError: A file is damaged or may not be read, or the disk refuses; before any training where it would.
    """
    network = network or usual_network(data_name)
    path = _path(data_name, network)
    if kept := load(data_name, network):
        return f"{path} is already there, {_accuracy(kept.record)}; delete it to train another"
    images, chosen = data.load(data_name), recipe(data_name, network, epochs)
    if images.labels is None:
        raise data.DataError(f"{data_name} has no labels, so that nothing can learn to classify it")
    split = images.split("own")
    record: dict[str, Any] = {
        "data": data_name,
        "data_identity": data.identity(data_name),
        "network": network,
        "image_shape": images.image_shape,
        "classes": int(images.labels.max()) + 1,
        "recipe": dataclasses.asdict(chosen),
        "seed": 0,
    }
    digest = files.digest(json.dumps(record, sort_keys=True).encode())
    checkpoint = default_store().root / "classifiers" / f"{path.stem}-{digest[:12]}.checkpoint"
    for folder in {path.parent, checkpoint.parent}:
        files.check_writable(folder)
    labels = images.labels.to(device)
    trained, seconds = train(
        network, images.take(split.train).to(device), labels[split.train], chosen, record["seed"], checkpoint, say
    )
    weights = _on_cpu(trained.state_dict())
    weights = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    # What is measured is what is kept: the weights in half precision.
    right = correct(_built(record, weights).to(device), images.take(split.test).to(device), labels[split.test])
    value, se = mean_and_se(right)
    record |= {"accuracy": value, "accuracy_se": se, "n": len(right), "wall_time": round(seconds, 1)}
    record |= {"hardware": provenance.hardware(device), "torch": torch.__version__}
    files.replace(path, files.pack(record, {"weights": weights}))
    checkpoint.unlink(missing_ok=True)
    return f"{path} is trained, {_accuracy(record)}"


def damage() -> Iterator[str]:
    """A sentence for every file of a classifier, or of one in training, that is damaged."""
    for folder in (results.folder("classifiers"), default_store().root / "classifiers"):
        try:
            paths = [Path(entry.path) for entry in files.visible(folder)]
        except StoreError as error:
            yield str(error)
            continue
        for path in paths:
            try:
                kept = files.Pack(path, "check it out again, or delete it and train it")
                kept.verify()
                if path.suffix == ".safetensors":
                    _built(kept.about, kept.read("weights"))
            except (OSError, *files.UNREADABLE) as error:
                yield str(error) if isinstance(error, StoreError) else f"{path} is no classifier ({_first_line(error)})"


@torch.no_grad()
def correct(classifier: Classifier, images: Tensor, labels: Tensor, batch_size: int = 1000) -> Tensor:
    """Whether the most probable class of each uint8 image (n, C, H, W) is its label: (n,), 0 or 1, float64, CPU."""
    classes = torch.cat([classifier(part / 255).argmax(1) for part in images.split(batch_size)])
    return (classes == labels).double().cpu()


def _built(record: dict[str, Any], weights: Mapping[str, Tensor]) -> Classifier:
    with torch.device("meta"):  # no weights are drawn, so torch's generator stays as it is
        classifier = Classifier(record["network"], tuple(record["image_shape"]), record["classes"])
    classifier.load_state_dict(weights, assign=True)
    classifier.record = record
    return classifier.float().eval()


def _path(data_name: str, network: str) -> Path:
    """Large networks lie in the store, those that the checkout carries in its results."""
    home = results.folder("classifiers") if network in CARRIED else default_store().root / "classifiers"
    return home / f"{data_name}-{network}.safetensors"


def _accuracy(record: Mapping[str, Any]) -> str:
    return f"test accuracy {record['accuracy']:.2%} ± {record['accuracy_se']:.2%} on {record['n']:,} images"


def _first_line(error: Exception) -> str:
    """What an error says, less the list of every weight that does not fit."""
    return str(error).partition("\n")[0]
