"""A trained decoder that runs in the reader's browser: translated, checked against torch's, and packed."""

import base64
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.randomness import EVALUATION, normal
from vaekit.widgets.movable import Movable

LIMIT = 6_000_000  # bytes of the weights in base64
PIXEL = 1 / 255
_CODES = 64
_FUNCTIONS = {"relu": F.leaky_relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
_LAYERS = "Linear, ReLU, LeakyReLU, Tanh, Sigmoid, Flatten and Unflatten"


@torch.no_grad()
def decoder(model: nn.Module, caption: str = "", z: Sequence[float] | Tensor | None = None) -> Movable:
    """A slider for each dimension of a code, and the image that a trained decoder makes of it, without a kernel.

    The image is the mean of the likelihood p(x|z), clipped to [0, 1], each pixel within 1/255 of torch's: checked
    here at 64 codes from the prior, up to thrice as far out. Weights take 16 bits: whole steps, of a size for each row
    of a layer's matrix, which are an order finer than float16 is.

    Args:
        model: in eval mode, with `decoder`, an `nn.Sequential` of Linear, ReLU, LeakyReLU, Tanh, Sigmoid, Flatten and
            Unflatten, from codes to the logits of a `Bernoulli` or the means of a `Gaussian`, of shape (C, H, W) with
            1 or 3 channels: a `DenseVAE` from `store.load(key)` or `fleet.model(i)`, or a model of your own.
        caption: a line below it: which member this is, and its budget.
        z: the code to start from, (latent_dim,); None: the prior's mean.

    Raises:
        ValueError: no model, a layer that a page cannot run, another likelihood or shape, weights that are not finite
            or take more than 6 MB, or a model that still trains.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ValueError(f"this {name} is no model; give an nn.Module, as `store.load(key)` does")
    if model.training:
        raise ValueError(f"this {name} is in training mode; give model.eval()")
    net = getattr(model, "decoder", None)
    if not isinstance(net, nn.Sequential):
        raise ValueError(f"this {name} has no `decoder` that is an nn.Sequential; a page runs one of {_LAYERS}")
    layers, matrices = _translated(net)
    latent = layers[0]["inputs"]
    start = torch.zeros(latent) if z is None else torch.as_tensor(z, dtype=torch.float32).detach().cpu()
    if start.shape != (latent,) or not start.isfinite().all():
        raise ValueError(f"z is {start.tolist()} of shape {tuple(start.shape)}; give {latent} finite numbers")

    far = torch.linspace(1, 3, _CODES).unsqueeze(1)
    codes = torch.cat([start.unsqueeze(0), far * normal(0, EVALUATION, 0, "z", (_CODES, latent))])
    out = net(codes.to(next(net.parameters())))
    shape = tuple(out.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"the decoder of this {name} gives {shape} for a code; let it end in nn.Unflatten(1, (C, H, W)), C 1 or 3"
        )
    if isinstance(_likelihood(model, out), Bernoulli):
        layers.append({"op": "sigmoid"})
        out = out.sigmoid()
    rounded = [(*_rounded(matrix), bias) for matrix, bias in matrices]
    moved = (_run(layers, rounded, codes).clamp(0, 1) - out.float().cpu().flatten(1).clamp(0, 1)).abs().max()
    if not moved <= PIXEL:  # NaN is not
        raise ValueError(f"a pixel would be wrong by {moved:.2g}: this decoder does more than its layers say")
    weights = _base64([steps.flatten() for steps, _, _ in rounded], "<i2")
    rest = _base64([part for _, size, bias in rounded for part in (size, bias)], "<f4")
    if (length := len(weights) + len(rest)) > LIMIT:
        raise ValueError(
            f"the decoder's weights take {length / 1e6:.1f} MB, and a page carries {LIMIT / 1e6:.0f} MB at the most: "
            "choose a smaller model"
        )
    limit = max(3, math.ceil(start.abs().max()))
    size = f"{shape[1]} x {shape[2]} pixels"
    says = f"A decoder with a slider for each of the {latent} dimensions of its code z, and its image of {size}."
    data = {"caption": caption, "shape": shape, "layers": layers, "weights": weights, "rest": rest}
    return Movable("decoder", says, data | {"start": start.tolist(), "limit": limit}, start.tolist())


def _translated(net: nn.Sequential) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]]]:
    """The layers as `widget.js` takes them, and the matrix and the bias of each linear one in float32."""
    layers: list[dict[str, Any]] = []
    matrices: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(net, 1):
        match layer:
            case nn.Linear():
                layers.append({"op": "linear", "inputs": layer.in_features, "size": layer.out_features})
                bias = layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias
                matrices.append((layer.weight.float().cpu(), bias.float().cpu()))
            case nn.ReLU():
                layers.append({"op": "relu", "slope": 0.0})
            case nn.LeakyReLU():
                layers.append({"op": "relu", "slope": layer.negative_slope})
            case nn.Tanh() | nn.Sigmoid():
                layers.append({"op": type(layer).__name__.lower()})
            case nn.Flatten() | nn.Unflatten():
                pass  # values keep their order
            case _:
                raise ValueError(
                    f"layer {number} of the decoder is {type(layer).__name__}, which a page cannot run; it runs "
                    f"{_LAYERS}, as a DenseVAE's decoder has"
                )
    if not layers or layers[0]["op"] != "linear":
        raise ValueError("the decoder does not begin with a Linear layer, so the size of its code is not known")
    if not all(part.isfinite().all() for pair in matrices for part in pair):
        raise ValueError("the decoder's weights are not all finite: a model that diverged has no image to show")
    return layers, matrices


def _likelihood(model: Any, out: Tensor) -> Bernoulli | Gaussian:
    """The likelihood that a model makes of its decoder's output, or of images of that shape."""
    if hasattr(model, "likelihood_of"):
        likelihood = model.likelihood_of(out)
    else:
        noise = {site: out.new_zeros(len(out), *shape) for site, shape in getattr(model, "noise_sites", {}).items()}
        likelihood = model(out.sigmoid(), noise)["x"]
    if not isinstance(likelihood, Bernoulli | Gaussian):
        raise ValueError(f"the likelihood is {type(likelihood).__name__}; a page shows a Bernoulli or a Gaussian")
    return likelihood


def _rounded(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix in whole steps, int16, and the size of a step in each row: the largest weight is 32,767 of them."""
    size = matrix.abs().amax(1) / 32_767
    return (matrix / size.clamp(min=1e-30).unsqueeze(1)).round().to(torch.int16), size


def _base64(parts: Sequence[Tensor], kind: str) -> str:
    return base64.b64encode(torch.cat(list(parts)).numpy().astype(kind).tobytes()).decode()


def _run(layers: list[dict[str, Any]], rounded: list[tuple[Tensor, Tensor, Tensor]], h: Tensor) -> Tensor:
    """What `widget.js` computes, for codes (n, latent_dim) at once: (n, pixels)."""
    linear = iter(rounded)
    for layer in layers:
        if layer["op"] == "linear":
            steps, size, bias = next(linear)
            h = F.linear(h, steps * size.unsqueeze(1), bias)
        else:
            h = _FUNCTIONS[layer["op"]](h, *([layer["slope"]] if "slope" in layer else []))
    return h
