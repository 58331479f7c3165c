"""Magnitude pruning while a model trains: masks, arms, and the size of a pruned network.

A mask is a boolean buffer `<layer>.weight_mask` beside its weight, as torch.nn.utils.prune names it, but the weight
stays an ordinary parameter: so a pruned model can be copied, stacked and stored like any other. `projection` makes the
function that `train_fleet` calls after every step: it grows the masks by the arm's schedule and sets what they remove
to zero, so that masks hold through Adam's steps.

The model is one with an `encoder` (a Sequential whose convolutions are followed by ReLU), linear heads `mu` and
`logvar`, and a linear `classifier` on mu: `models.ClassifierVAE`.
"""

import copy
import math
import time
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vaekit import checks

ARMS = {
    "gradual": "the encoder's smallest weights, by a cubic ramp",
    "both": "the smallest weights of encoder and classifier together, by a cubic ramp",
    "one_shot": "the encoder's smallest weights, all before the first step",
    "structured": "the convolutions' channels of smallest norm, by a cubic ramp",
    "dense": "nothing: the same training without pruning",
}
UPDATES = 20  # of the masks along a ramp, evenly spaced, the last after the last step
_MASK = "_mask"
_ZERO_STAYS = (nn.Flatten, nn.Identity, nn.ReLU, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Tanh, nn.MaxPool2d,
               nn.AvgPool2d, nn.AdaptiveAvgPool2d)  # fmt: skip


def add_masks(model: nn.Module) -> nn.Module:
    """The model with a mask of ones beside the weight of each convolution and linear layer outside its decoder.

    A convolution has one beside its bias, too, because a channel goes with its bias.

    Raises:
        ValueError: nothing outside the decoder has a mask, or a convolution has no bias.
    """
    masked = 0
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not name.startswith("decoder"):
            layer.register_buffer("weight" + _MASK, torch.ones_like(layer.weight, dtype=torch.bool))
            masked += 1
            if isinstance(layer, nn.Conv2d):
                if layer.bias is None:
                    raise ValueError(f"model: got the convolution {name} without a bias; give it one: bias=True")
                layer.register_buffer("bias" + _MASK, torch.ones_like(layer.bias, dtype=torch.bool))
    if not masked:
        raise checks.refusal("model", model, "one with convolutions or linear layers outside its decoder")
    return model


def ramp(step: int, steps: int) -> float:
    """The share of the final sparsity after `step` of `steps`: 1 - (1 - step / steps)^3 (Zhu & Gupta 2017, Eq. 1).

    Raises:
        ValueError: no steps, or a step beyond them.
    """
    steps = checks.whole("steps", steps, 1)
    step = checks.whole("step", step, 0, steps)
    return 1 - (1 - step / steps) ** 3


def encoder_weights(model: nn.Module) -> list[str]:
    """The names of the weights that are pruned: the encoder's and its heads'.

    A model that draws nothing never uses its variances: pruned first, they would save the weights that it uses.

    Raises:
        ValueError: a model without an encoder, or without `noise_sites`.
    """
    if not (hasattr(model, "encoder") and hasattr(model, "noise_sites")):  # in training mode, too
        raise checks.refusal("model", model, "one with an encoder and noise_sites, e.g. models.ClassifierVAE")
    used = ("encoder.", "mu.", *["logvar."] * bool(model.noise_sites))
    return [name for name, _ in model.named_parameters() if name.startswith(used) and name.endswith("weight")]


def magnitude_masks(weights: Mapping[str, Tensor], sparsity: Tensor | float) -> dict[str, Tensor]:
    """Masks that leave out the share `sparsity` of all the weights together that is smallest in magnitude.

    round(sparsity * n) of n weights go, as in torch.nn.utils.prune.global_unstructured with L1Unstructured. Of equal
    weights the first go first. `sparsity` may be a tensor and the call be under vmap.

    Raises:
        ValueError: no weights, or a sparsity outside [0, 1]: it is a share, no percentage.
    """
    checks.share("sparsity", sparsity)
    if not isinstance(weights, Mapping) or not weights:
        raise checks.refusal("weights", weights, "tensors by name, one or more")
    for name, value in weights.items():
        checks.floats(f"weights[{name}]", value)
    sizes = [value.numel() for value in weights.values()]
    flat = torch.cat([value.flatten() for value in weights.values()]).abs()
    masks = _ranks(flat) >= torch.as_tensor(sparsity * len(flat)).round()
    return {
        name: mask.view(value.shape) for (name, value), mask in zip(weights.items(), masks.split(sizes), strict=True)
    }


def channel_mask(weight: Tensor, sparsity: Tensor | float) -> Tensor:
    """Mask (channels,) that leaves out the share `sparsity` of a layer's output channels, those of smallest L2 norm.

    As torch.nn.utils.prune.ln_structured(n=2, dim=0), except that one channel always stays.

    Raises:
        ValueError: a weight without channels, or a sparsity outside [0, 1]: it is a share, no percentage.
    """
    checks.share("sparsity", sparsity)
    checks.floats("weight", weight)
    if weight.ndim < 2:
        raise checks.refusal("weight", weight, "floats of shape (channels, ...)")
    norms = weight.flatten(1).norm(dim=1)
    return _ranks(norms) >= torch.as_tensor(sparsity * len(norms)).round().clamp(max=len(norms) - 1)


def projection(
    model: nn.Module, arm: str, steps: int
) -> Callable[[dict[str, Tensor], Mapping[str, Tensor], int], dict[str, Tensor]] | None:
    """The function of an arm that `train_fleet` calls after every step of a training of `steps`; None: the dense arm.

    The members' weight "sparsity", in [0, 1), is the share that goes in the end.

    Raises:
        KeyError: there is no arm of that name; the error lists them.
        ValueError: no steps, or a model without masks: see `add_masks`. The function itself refuses a sparsity outside
            [0, 1], and weights that have none.
    """
    steps = checks.whole("steps", steps, 1)
    if arm not in ARMS:
        raise KeyError(f"no arm {arm!r} of pruning; there are {', '.join(ARMS)}")
    if arm == "dense":
        return None
    every = max(1, steps // UPDATES)
    layers = dict(model.named_modules())
    masked = [name for name in model.state_dict() if name.endswith(_MASK)]
    if not masked:
        raise checks.refusal("model", model, "one with masks, as pruning.add_masks makes them")
    encoder = [layer for name, layer in layers.items() if name.startswith("encoder.")]
    convolutions = any(isinstance(layer, nn.Conv2d) for layer in encoder)
    if arm == "structured" and (not convolutions or any(isinstance(layer, nn.Linear) for layer in encoder)):
        wanted = "one whose encoder has convolutions, and no linear layer between them and the heads: structured prunes"
        raise checks.refusal("model", model, f"{wanted} the channels, and what the heads would multiply of them")
    pruned = [name for name in encoder_weights(model) if name + _MASK in masked]
    pruned += ["classifier.weight"] * (arm == "both")

    def project(state: dict[str, Tensor], weights: Mapping[str, Tensor], step: int) -> dict[str, Tensor]:
        checks.names("the member's weights", weights, ["sparsity"])
        checks.share("sparsity", weights["sparsity"])
        masks = {name: state[name] for name in masked}
        due = step == 0 if arm == "one_shot" else step > 0 and (step % every == 0 or step == steps)
        if due:
            share = weights["sparsity"] * (1 if arm == "one_shot" else ramp(step, steps))
            masks |= _channels(layers, state, share) if arm == "structured" else _smallest(pruned, state, share)
        values = {name.removesuffix(_MASK): mask for name, mask in masks.items()}
        return masks | {name: state[name] * mask for name, mask in values.items()}

    return project


class Size(NamedTuple):
    """The size of the network that classifies.

    Args:
        parameters: Weights and biases as they were trained.
        nonzero: Those of them that are not zero.
        compressed_bytes: zlib (level 9) of what `compact` leaves, in float32.
        flops: Multiplications and additions of one image in that compact network, zeros included.
        sparse_flops: Without those by a weight that is zero, which a machine saves only by sparse kernels.
    """

    parameters: int
    nonzero: int
    compressed_bytes: int
    flops: int
    sparse_flops: int


@torch.no_grad()
def size(model: nn.Module) -> Size:
    """The size of encoder, mu and classifier: what is left to run once decoder and sampling are gone.

    Raises:
        ValueError: as `compact`.
    """
    small = compact(model)
    submodules = [model.get_submodule(name) for name in ("encoder", "mu", "classifier")]
    tensors = [value.detach() for submodule in submodules for value in submodule.parameters()]
    content = b"".join(value.detach().cpu().float().numpy().tobytes() for value in small.parameters())
    image = torch.zeros(1, *model.image_shape, dtype=tensors[0].dtype, device=tensors[0].device)  # pyright: ignore
    dense = sparse = 0
    for layer in small:
        image = layer(image)
        if isinstance(layer, nn.Conv2d | nn.Linear):
            places = math.prod(image.shape[2:])  # at which the weights are applied; 1 of a linear layer
            dense += 2 * places * layer.weight.numel()
            sparse += 2 * places * int(layer.weight.count_nonzero())
    return Size(
        parameters=sum(value.numel() for value in tensors),
        nonzero=sum(int(value.count_nonzero()) for value in tensors),
        compressed_bytes=len(zlib.compress(content, 9)),
        flops=dense,
        sparse_flops=sparse,
    )


def compact(model: nn.Module) -> nn.Sequential:
    """Encoder, mu and classifier as one network in eval mode, without the channels that a mask removed whole.

    Maps images (batch, C, H, W) in [0, 1] to the same logits as the model does, (batch, classes).

    Raises:
        ValueError: a model without one of the three, or without `image_shape`; or an encoder with other layers than
            plain convolutions, Linear and those that leave a channel of zeros as it is (ReLU, Flatten, pooling, …).
    """
    checks.model(model, "encoder", "mu", "classifier", "image_shape")
    for name, layer in model.get_submodule("encoder").named_children():
        if not (_plain(layer) if isinstance(layer, nn.Conv2d) else isinstance(layer, (nn.Linear, *_ZERO_STAYS))):
            names = ", ".join(kind.__name__ for kind in _ZERO_STAYS)
            plain = f"a convolution (groups 1, dilation 1, zeros around, a bias), Linear, {names}"
            raise checks.refusal(f"encoder.{name}", layer, plain)
    encoder, head, classifier = (copy.deepcopy(model.get_submodule(name)) for name in ("encoder", "mu", "classifier"))
    kept: Tensor | None = None  # channels of the convolution before, of so many
    channels = 0
    network: list[nn.Module] = []
    for layer in [*encoder.children(), head]:
        if isinstance(layer, nn.Conv2d):
            weight, bias = layer.weight.data, layer.bias
            assert bias is not None  # plain
            weight, channels = weight if kept is None else weight[:, kept], layer.out_channels
            kept = (layer.weight.data.flatten(1).any(1) | (bias.data != 0)).nonzero().flatten()
            kept = kept if len(kept) else torch.tensor([0], device=weight.device)
            small = nn.Conv2d(weight.shape[1], len(kept), layer.kernel_size, layer.stride, layer.padding)  # pyright: ignore
            layer = _filled(small, weight[kept], bias.data[kept])
        elif isinstance(layer, nn.Linear) and kept is not None:
            weight = layer.weight.data.unflatten(1, (channels, -1))[:, kept].flatten(1)
            layer, kept = _filled(nn.Linear(weight.shape[1], layer.out_features), weight, layer.bias.data), None
        network.append(layer)
    return nn.Sequential(*network, classifier).eval()


@torch.no_grad()
def seconds_per_image(model: nn.Module, batch_size: int = 256, rounds: int = 7) -> tuple[float, float]:
    """Time of the compact network on one image of a batch: (median, standard deviation over the rounds), seconds.

    Measured, on whatever else the machine does at that moment: compare only what was measured together.

    Raises:
        ValueError: as `compact`, no images, or fewer than two rounds.
    """
    batch_size, rounds = checks.whole("batch_size", batch_size, 1), checks.whole("rounds", rounds, 2)
    network, shape = compact(model), model.image_shape
    first = next(network.parameters())
    images = torch.zeros(batch_size, *shape, dtype=first.dtype, device=first.device)  # pyright: ignore
    seconds = []
    for _ in range(rounds + 1):  # the first warms up
        begun = time.perf_counter()
        network(images).sum().item()
        seconds.append((time.perf_counter() - begun) / batch_size)
    values = torch.tensor(seconds[1:], dtype=torch.float64)
    return values.median().item(), values.std().item()


def _ranks(values: Tensor) -> Tensor:
    """The rank of each of (n,) values, from 0; of equal ones the first is lower."""
    return values.argsort(stable=True).argsort()


def _smallest(pruned: list[str], state: Mapping[str, Tensor], share: Tensor) -> dict[str, Tensor]:
    # What is masked already counts as zero: Adam has just moved it, and it must not come back.
    weights = {name: state[name] * state[name + _MASK] for name in pruned}
    return {name + _MASK: mask for name, mask in magnitude_masks(weights, share).items()}


def _channels(layers: Mapping[str, nn.Module], state: Mapping[str, Tensor], share: Tensor) -> dict[str, Tensor]:
    """Masks of the channels that go, in their own layer and in the inputs of the next: what it would multiply is 0."""
    masks: dict[str, Tensor] = {}
    kept: Tensor | None = None
    for name in [name for name, layer in layers.items() if isinstance(layer, nn.Conv2d) and name.startswith("encoder")]:
        weight = state[f"{name}.weight"]
        before = kept
        kept = channel_mask(weight * state[f"{name}.weight{_MASK}"], share)
        mask = kept.view(-1, 1, 1, 1).expand_as(weight)
        masks[f"{name}.weight{_MASK}"] = mask if before is None else mask & before.view(1, -1, 1, 1)
        masks[f"{name}.bias{_MASK}"] = kept
    assert kept is not None  # an encoder has a convolution
    for head in ("mu", "logvar"):
        weight = state[f"{head}.weight"]
        columns = kept.repeat_interleave(weight.shape[1] // len(kept))
        masks[f"{head}.weight{_MASK}"] = columns.expand_as(weight)
    return masks


def _plain(layer: nn.Conv2d) -> bool:
    """Whether a convolution is one that can be made anew with fewer channels."""
    own = layer.groups, layer.dilation, layer.padding_mode
    return own == (1, (1, 1), "zeros") and layer.bias is not None


def _filled(layer: nn.Conv2d | nn.Linear, weight: Tensor, bias: Tensor) -> nn.Module:
    layer.to(weight)
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
