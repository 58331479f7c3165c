"""A trained decoder that runs in the reader's browser: translated, checked against torch's, and packed."""

import base64
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.models.hierarchical import HierarchicalVAE
from vaekit.randomness import EVALUATION, normal
from vaekit.widgets.movable import Movable

LIMIT = 6_000_000  # bytes of the weights in base64
PIXEL = 1 / 255
_CODES = 64
_FUNCTIONS = {"relu": F.leaky_relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
_LAYERS = (
    "Linear, Conv2d, ConvTranspose2d, BatchNorm behind one of these, ReLU, LeakyReLU, Tanh, Sigmoid, Flatten and "
    "Unflatten"
)


def decoder(model: nn.Module, caption: str = "", z: Sequence[float] | Tensor | None = None) -> Movable:
    """A slider for each dimension of a code, and the image that a trained decoder makes of it, without a kernel.

    The image is the mean of the likelihood p(x|z), clipped to [0, 1], each pixel within 1/255 of torch's; see `packed`.
    Of a two-layer model the code is z2, and z1 the mean of p(z1|z2).

    Args:
        model: as `packed` takes it, from `store.load(key)` or `fleet.model(i)`, or a model of your own.
        caption: a line below it: which member this is, and its budget.
        z: the code to start from, (latent_dim,); None: the prior's mean.

    Raises:
        ValueError: no model, a layer that a page cannot run, another likelihood or shape, weights that are not finite
            or take more than 6 MB, or a model that still trains.
    """
    spec, weights = packed(model, z)
    start = _code(z, spec["latent"])
    limit = max(3, math.ceil(start.abs().max()))
    size = "{1} x {2} pixels".format(*spec["shape"])
    says = f"A decoder with a slider for each of the {len(start)} dimensions of its code z, and its image of {size}."
    data = {"caption": caption, "network": spec, "start": start.tolist(), "first": _png(model, start), "limit": limit}
    return Movable("decoder", says, data, start.tolist(), {spec["hash"]: weights})


@torch.no_grad()
def _png(model: nn.Module, z: Tensor) -> str:
    """What the decoder of such a model makes of a code, as a PNG in base64: it is shown until the weights are there."""
    out = z.unsqueeze(0).to(next(model.parameters()))
    for part in _parts(model):
        out = part(out)
    pixels = (255 * _likelihood(model, out).mean[0].clamp(0, 1)).round().byte().permute(1, 2, 0).cpu().numpy()
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(content, "png", optimize=True)
    return base64.b64encode(content.getvalue()).decode()


@torch.no_grad()
def packed(model: nn.Module, z: Sequence[float] | Tensor | None = None) -> tuple[dict[str, Any], bytes]:
    """A decoder as `network.js` takes it: what its layers are, as plain values for JSON, and the weights of them all.

    A browser makes the mean of the likelihood p(x|z) from a code: of a two-layer model from z2, through the mean of
    p(z1|z2) or a sample of it. Each pixel is within 1/255 of torch's: checked here at 64 codes from the prior, up to
    thrice as far out. Weights take 16 bits: whole steps, of a size for each channel that a layer makes, which are an
    order finer than float16 is. BatchNorm is folded into the layer before it.

    Args:
        model: in eval mode: a `HierarchicalVAE`, or with `decoder`, an `nn.Sequential` of Linear, Conv2d,
            ConvTranspose2d, BatchNorm, ReLU, LeakyReLU, Tanh, Sigmoid, Flatten and Unflatten, from codes to the logits
            of a `Bernoulli` or the means of a `Gaussian`, of shape (C, H, W) with 1 or 3 channels.
        z: a code at which it is checked, too, (latent_dim,).

    Returns:
        The description, with "latent", the dimensions of the code; "shape" of the image; "noise", the numbers that are
        drawn between the layers (0: none); "hash", the name of the weights; and what is `network.js`'s alone. Then the
        weights, little-endian.

    Raises:
        ValueError: as `decoder`.
    """
    name = type(model).__name__
    if not isinstance(model, nn.Module):
        raise ValueError(f"this {name} is no model; give an nn.Module, as `store.load(key)` does")
    if model.training:
        raise ValueError(f"this {name} is in training mode; give model.eval()")
    if not isinstance(getattr(model, "decoder", None), nn.Sequential):
        raise ValueError(f"this {name} has no `decoder` that is an nn.Sequential; a page runs one of {_LAYERS}")
    parts = list(_parts(model))
    latent = _latent(parts[0])
    far = torch.linspace(1, 3, _CODES).unsqueeze(1)
    codes = torch.cat([_code(z, latent).unsqueeze(0), far * normal(0, EVALUATION, 0, "z", (_CODES, latent))])
    layers, matrices, out = _translated(parts, codes.to(next(model.parameters())))
    shape = tuple(out.shape[1:])
    if len(shape) != 3 or shape[0] not in (1, 3):
        raise ValueError(
            f"the decoder of this {name} gives {shape} for a code; let it end in nn.Unflatten(1, (C, H, W)), C 1 or 3"
        )
    noise = math.prod(model.noise_sites["z1"]) if isinstance(model, HierarchicalVAE) else 0
    wanted = [out]
    drawn = normal(0, EVALUATION, 0, "z1", (len(codes), noise))
    if isinstance(model, HierarchicalVAE):
        prior = model.prior_of(codes.to(out))
        wanted.append(model.decoder(prior.sample(drawn.to(out).view_as(prior.mu))))
    if isinstance(_likelihood(model, out), Bernoulli):
        layers.append({"op": "sigmoid"})
        wanted = [logits.sigmoid() for logits in wanted]
    rounded = [(*_rounded(matrix), bias) for matrix, bias in matrices]
    for t, pixels in enumerate(wanted):
        made = _run(layers, rounded, codes, t * drawn)
        moved = (made.clamp(0, 1) - pixels.float().cpu().flatten(1).clamp(0, 1)).abs().max()
        if not moved <= PIXEL:  # NaN is not
            raise ValueError(f"a pixel would be wrong by {moved:.2g}: this decoder does more than its layers say")
    floats = torch.cat([part for _, size, bias in rounded for part in (size, bias)])
    # Of a kernel, the matrix of each tap.
    steps = torch.cat([steps.permute(2, 3, 0, 1).flatten() for steps, _, _ in rounded])
    weights = floats.numpy().astype("<f4").tobytes() + steps.numpy().astype("<i2").tobytes()
    if (length := 4 * math.ceil(len(weights) / 3)) > LIMIT:
        raise ValueError(
            f"the decoder's weights take {length / 1e6:.1f} MB, and a page carries {LIMIT / 1e6:.0f} MB at the most: "
            "choose a smaller model"
        )
    spec = {"latent": latent, "shape": list(shape), "noise": noise, "layers": layers, "floats": len(floats)}
    return spec | {"hash": hashlib.sha256(weights).hexdigest()[:12]}, weights


class _Normal(nn.Module):
    """Where a two-layer model draws z1: `forward` gives the mean of p(z1|z2)."""

    def __init__(self, mean: nn.Sequential, scale: nn.Sequential):
        super().__init__()
        self.mean = mean
        self.heads: list[Any] = [mean[0], scale[0]]  # both linear, then unflattened

    def forward(self, h: Tensor) -> Tensor:
        return self.mean(h)


def _parts(model: Any) -> Iterator[nn.Module]:
    """The layers from a code to the likelihood's logits, or means."""
    if isinstance(model, HierarchicalVAE):
        yield from model.prior
        yield _Normal(model.prior_mu, model.prior_scale)
    yield from model.decoder


def _latent(first: nn.Module) -> int:
    match first:
        case nn.Linear():
            return first.in_features
        case nn.Unflatten() if (latent := math.prod(first.unflattened_size)) > 0:
            return latent
    raise ValueError(
        "the decoder does not begin with a Linear or an Unflatten layer, so the size of its code is not known"
    )


def _code(z: Sequence[float] | Tensor | None, latent: int) -> Tensor:
    start = torch.zeros(latent) if z is None else torch.as_tensor(z, dtype=torch.float32).detach().cpu()
    if start.shape != (latent,) or not start.isfinite().all():
        raise ValueError(f"z is {start.tolist()} of shape {tuple(start.shape)}; give {latent} finite numbers")
    return start


def _translated(
    parts: Sequence[nn.Module], h: Tensor
) -> tuple[list[dict[str, Any]], list[tuple[Tensor, Tensor]], Tensor]:
    """The layers as `network.js` takes them, the kernel and bias of each linear one, and what they make of codes h.

    A kernel is float32 (made channels, taken channels, height, width): of a Linear layer, 1 x 1.
    """
    layers: list[dict[str, Any]] = []
    kernels: list[tuple[Tensor, Tensor]] = []

    def add(kernel: Tensor, bias: Tensor | None, made: Tensor, **how: Any) -> None:
        bias = kernel.new_zeros(len(kernel)) if bias is None else bias
        kernels.append((kernel.float().cpu(), bias.float().cpu()))
        sizes = [[*each.shape[1:], 1, 1][:3] for each in (h, made)]
        sides = list(kernel.shape[2:])
        plain: dict[str, Any] = {"stride": [1, 1], "padding": [0, 0], "transposed": False}
        layers.append(
            {"op": "linear", "from": sizes[0], "to": sizes[1], "kernel": sides, "weights": kernel.numel()} | plain | how
        )

    for number, layer in enumerate(parts, 1):
        if problem := _problem(layer, h, layers):
            raise ValueError(f"layer {number} of the decoder is {problem}, which a page cannot run; it runs {_LAYERS}")
        made = layer(h)
        match layer:
            case nn.Linear():
                add(layer.weight[..., None, None], layer.bias, made)
            case nn.Conv2d() | nn.ConvTranspose2d():
                transposed = isinstance(layer, nn.ConvTranspose2d)
                kernel = layer.weight.transpose(0, 1) if transposed else layer.weight
                how = {"stride": list(layer.stride), "padding": list(layer.padding), "transposed": transposed}
                add(kernel, layer.bias, made, **how)
            case nn.BatchNorm1d() | nn.BatchNorm2d():
                kernels[-1] = _folded(*kernels[-1], layer)
            case _Normal():
                weight, bias = (torch.cat([getattr(head, name) for head in layer.heads]) for name in ("weight", "bias"))
                add(weight[..., None, None], bias, bias.unsqueeze(0))
                layers.append({"op": "normal"})
            case nn.ReLU():
                layers.append({"op": "relu", "slope": 0.0})
            case nn.LeakyReLU():
                layers.append({"op": "relu", "slope": layer.negative_slope})
            case nn.Tanh() | nn.Sigmoid():
                layers.append({"op": type(layer).__name__.lower()})
            case nn.Flatten() | nn.Unflatten():
                pass  # values keep their order
        h = made
    if not all(part.isfinite().all() for pair in kernels for part in pair):
        raise ValueError("the decoder's weights are not all finite: a model that diverged has no image to show")
    return layers, kernels, h


def _problem(layer: nn.Module, h: Tensor, before: Sequence[dict[str, Any]]) -> str | None:
    """What a layer is, if a page cannot run it on values like h, behind the layers `before`."""
    name = type(layer).__name__
    match layer:
        case nn.Linear() if h.dim() != 2:
            return f"{name} on values of shape {tuple(h.shape[1:])}"
        case nn.Conv2d() | nn.ConvTranspose2d():
            plain = {"groups": 1, "dilation": (1, 1), "padding_mode": "zeros"}
            odd = [f"{key} {getattr(layer, key)}" for key, usual in plain.items() if getattr(layer, key) != usual]
            odd += [f"padding {layer.padding}"] * isinstance(layer.padding, str)
            return f"{name} with {', '.join(odd)}" if odd else None
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            if layer.running_mean is None:
                return f"{name} without running statistics"
            return None if before and before[-1]["op"] == "linear" else f"{name} behind no linear layer"
        case nn.Linear() | nn.ReLU() | nn.LeakyReLU() | nn.Tanh() | nn.Sigmoid() | nn.Flatten() | nn.Unflatten():
            return None
        case _Normal():
            return None
    return name


def _folded(kernel: Tensor, bias: Tensor, norm: Any) -> tuple[Tensor, Tensor]:
    """A linear layer's kernel and bias, with the normalisation of its channels behind it in eval mode."""
    scale = (1 if norm.weight is None else norm.weight) / (norm.running_var + norm.eps).sqrt()
    shift = (0 if norm.bias is None else norm.bias) - norm.running_mean * scale
    # Behind an Unflatten, a channel is several rows of a Linear layer.
    scale, shift = (each.float().cpu().repeat_interleave(len(bias) // len(each)) for each in (scale, shift))
    return kernel * scale.view(-1, 1, 1, 1), bias * scale + shift


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


def _rounded(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """A kernel in whole steps, int16, and the size of a step in each row: the largest weight is 32,767 of them."""
    size = kernel.abs().amax((1, 2, 3)) / 32_767
    return (kernel / size.clamp(min=1e-30).view(-1, 1, 1, 1)).round().to(torch.int16), size


def _run(
    layers: list[dict[str, Any]], rounded: list[tuple[Tensor, Tensor, Tensor]], h: Tensor, noise: Tensor
) -> Tensor:
    """What `network.js` computes, for codes (n, latent_dim) and as many noises at once: (n, pixels)."""
    linear = iter(rounded)
    for layer in layers:
        match layer["op"]:
            case "linear":
                steps, size, bias = next(linear)
                kernel, h = steps * size.view(-1, 1, 1, 1), h.view(len(h), *layer["from"])
                how = {"stride": layer["stride"], "padding": layer["padding"]}
                if layer["transposed"]:
                    axes = zip(layer["to"][1:], layer["from"][1:], layer["kernel"], *how.values(), strict=True)
                    rest = [to - ((size - 1) * stride - 2 * padding + k) for to, size, k, stride, padding in axes]
                    h = F.conv_transpose2d(h, kernel.transpose(0, 1), bias, **how, output_padding=rest).flatten(1)
                else:
                    h = F.conv2d(h, kernel, bias, **how).flatten(1)
            case "normal":
                mean, scale = h.chunk(2, 1)
                h = mean + F.softplus(scale) * noise
            case op:
                h = _FUNCTIONS[op](h, *([layer["slope"]] if "slope" in layer else []))
    return h
