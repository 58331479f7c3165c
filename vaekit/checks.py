"""What public functions ask of what they are given: one sentence with what came and what was wanted, before any work.

Each check returns the value in the form that is worked with, or raises a ValueError. Shapes and types are always looked
at; values where they can be read: under `torch.func.vmap` and while a CUDA graph is captured, tensors have none.
"""

import math
import operator
from collections.abc import Callable, Container, Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.distributions import Gaussian

_BEYOND = 2  # by how much the means of a Gaussian likelihood may leave [0, 1], and are not taken for levels to 255
_OFF = 1e-2  # by how much the probabilities of a classifier in half precision may miss a sum of 1


def refusal(name: str, value: object, wanted: str) -> ValueError:
    """The error that says what came under a name, and what was wanted."""
    if isinstance(value, Tensor):
        came = f"{value.dtype} of shape {tuple(value.shape)}"
    elif value is None or isinstance(value, bool | int | float | str):
        came = repr(value)
    else:
        came = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    return ValueError(f"{name}: got {came}; give {wanted}")


def points(name: str, value: Tensor, least: int = 0) -> Tensor:
    """Points (n, ...) of real numbers, at least so many, as (n, d); plain numbers (n,) are points of one dimension."""
    usable = isinstance(value, Tensor) and not value.is_complex() and value.ndim > 0
    if not usable or len(value) < least or 0 in value.shape[1:]:
        raise refusal(name, value, f"a torch tensor (n, d) or (n, ...), n {least} or more")
    value = value.detach().unsqueeze(-1).flatten(1)
    return value.byte() if value.dtype == torch.bool else value  # binary codes are numbers


def floats(name: str, value: Tensor, least: int = 1) -> Tensor:
    """Points of any float type: whole numbers are labels, or images that were not divided by 255."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise refusal(name, value, "a torch tensor of floats, (n, d) or (n, ...)")
    return points(name, value, least)


def posterior(value: Gaussian, least: int = 1) -> Gaussian:
    """q(z|x) of n images, at least so many: mu and logvar of one shape, (n, ...); as (n, d), float64."""
    if not isinstance(value, tuple) or len(value) != 2:
        raise refusal("posterior", value, "a vaekit.distributions.Gaussian of mu and logvar, (n, d) each")
    mu, logvar = value
    rows = Gaussian(floats("posterior.mu", mu, least).double(), floats("posterior.logvar", logvar, least).double())
    if rows.mu.shape != rows.logvar.shape:
        raise refusal("posterior.logvar", logvar, f"the shape of mu, {tuple(mu.shape)}")
    return rows


def labels(name: str, value: Tensor, n: int) -> Tensor:
    """Whole numbers (n,), one for each of n, as int64; floats will do where they are whole."""
    wanted = f"a torch tensor of {n} whole numbers, ({n},)"
    if not isinstance(value, Tensor) or value.is_complex() or value.shape != (n,):
        raise refusal(name, value, wanted)
    if value.is_floating_point() and (off := extremes((value - value.round()).abs())) and off[1] != 0:
        raise ValueError(f"{name}: got {value.dtype} that are not whole; give {wanted}")
    return value.detach().long()


def rows(value: Tensor, n: int) -> Tensor:
    """The numbers of n images, from 0, as int64."""
    numbers = labels("rows", value, n)
    if value.dtype == torch.bool or (n and int(numbers.min()) < 0):
        raise refusal("rows", value if value.dtype == torch.bool else int(numbers.min()), "the images' numbers, from 0")
    return numbers


def images(value: Tensor, name: str = "images", channels: Container[int] | None = None) -> Tensor:
    """uint8 images (n, C, H, W), one or more: others may lie in [0, 1] already, and would be divided by 255 again."""
    usable = isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 4 and value.numel() > 0
    if not usable or (channels is not None and value.shape[1] not in channels):
        how = "" if channels is None else f", C one of {channels}"
        raise refusal(name, value, f"uint8 of shape (n, C, H, W){how}, as vaekit.data gives them")
    return value


def pictures(name: str, value: Tensor, like: torch.Size | None = None, bounded: bool = True) -> Tensor:
    """uint8 images (n, ...), or floats in [0, 1]; each of the shape `like`, where that is given.

    Floats that a model made need not be `bounded`: they may leave [0, 1] a little, and be not finite at all.
    """
    usable = isinstance(value, Tensor) and (value.dtype == torch.uint8 or value.is_floating_point())
    if not usable or value.ndim < 2 or 0 in value.shape[1:] or like not in (None, value.shape[1:]):
        shape = "(n, ...)" if like is None else f"(n, {', '.join(map(str, like))})"
        raise refusal(name, value, f"uint8 images, or floats in [0, 1], of shape {shape}")
    if value.is_floating_point():
        low, high = extremes(value if bounded else value.detach().nan_to_num(0, 0, 0)) or (0, 1)
        beyond = 0 if bounded else _BEYOND
        if not (low >= -beyond and high <= 1 + beyond):
            raise ValueError(f"{name}: got floats from {low:g} to {high:g}; give them in [0, 1], or uint8 images")
    return value


def unit(name: str, value: Tensor, wanted: str = "floats in [0, 1]") -> Tensor:
    """Floats in [0, 1], or not numbers at all (NaN): grey values, probabilities."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise refusal(name, value, wanted)
    low, high = extremes(value) or (0, 1)
    if low < 0 or high > 1:
        raise ValueError(f"{name}: got values from {low:g} to {high:g}; give {wanted}")
    return value


def extremes(value: Tensor) -> tuple[float, float] | None:
    """The least and the greatest value, NaN where one is; None of none at all, and where they cannot be read."""
    if not value.numel() or (value.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None
    try:
        low, high = value.detach().aminmax()
        return low.item(), high.item()
    except RuntimeError:  # under vmap
        return None


def distributions(name: str, value: Tensor) -> Tensor:
    """Probabilities (n, classes), n >= 1, each row with the sum 1; as float64 on the CPU. Rows of NaN stay."""
    wanted = "probabilities (n, classes) whose rows have the sum 1, as a softmax gives them"
    if not isinstance(value, Tensor) or value.ndim != 2 or not value.numel():
        raise refusal(name, value, wanted)
    rows = unit(name, value, wanted).detach().double().cpu()
    if (off := (rows.sum(1) - 1).abs().nan_to_num(0).max().item()) > _OFF:
        raise ValueError(f"{name}: got rows whose sums are off 1 by up to {off:g}; give {wanted}")
    return rows


def whole(name: str, value: int, least: int = 0, most: int | None = None) -> int:
    """A whole number of any kind (numpy's and torch's, too) from `least` to `most`, both included."""
    number = None if _is_bool(value) else _index(value)
    if number is None or number < least or (most is not None and number > most):
        upto = " or more" if most is None else f" to {most:,}"
        raise refusal(name, value if number is None else number, f"a whole number, {least}{upto}")
    return number


def _index(value: int) -> int | None:
    try:
        return operator.index(value)
    except TypeError:  # no whole number, or several
        return None


def _is_bool(value: object) -> bool:
    """Whether a value is True or False, of Python, numpy or torch: those are no numbers here."""
    return isinstance(value, bool | np.bool_) or getattr(value, "dtype", None) == torch.bool


def seed(value: int) -> int:
    """A seed: a whole number of 63 bits."""
    return whole("seed", value, 0, 2**63 - 1)


def number(
    name: str, value: float, wanted: str = "a finite number", low: float = -math.inf, high: float = math.inf
) -> float:
    """A finite number of any kind (numpy's and torch's, too) in [low, high]."""
    try:
        plain = math.nan if _is_bool(value) or isinstance(value, str | bytes) else float(value)
    except (TypeError, ValueError, RuntimeError):
        plain = math.nan
    if not (math.isfinite(plain) and low <= plain <= high):
        raise refusal(name, value, wanted)
    return value if type(value) in (int, float) else plain


def is_nan(name: str, value: float) -> bool:
    """Whether a number of any kind is NaN; it may be infinite."""
    try:
        return math.isnan(value)
    except (TypeError, ValueError, RuntimeError):
        raise refusal(name, value, "a number") from None


def several(value: object) -> list:
    """The values of an iterable, or one value as a list; a text is one."""
    try:
        return [value] if isinstance(value, str | bytes) else list(value)  # pyright: ignore
    except TypeError:
        return [value]


def share(name: str, value: float | Tensor) -> None:
    """A number in [0, 1], which may be a tensor whose value cannot be read."""
    if isinstance(value, Tensor) and value.numel() != 1:
        raise refusal(name, value, "one share, in [0, 1]")
    low, high = (extremes(value) or (0, 1)) if isinstance(value, Tensor) else (number(name, value),) * 2
    if not (low >= 0 and high <= 1):
        raise refusal(name, high if low >= 0 else low, "a share, in [0, 1]")


def problems(*asked: Callable[[], object]) -> list[str]:
    """What these checks refuse, sentence by sentence, so that one error may say all of it."""
    sentences = []
    for check in asked:
        try:
            check()
        except ValueError as error:
            sentences.append(str(error))
    return sentences


def names(name: str, value: Mapping | Container[str], wanted: Iterable[str]) -> None:
    """A mapping, or the columns of a table, with all of these names."""
    if missing := [one for one in wanted if one not in value]:
        has = ", ".join(map(str, value)) if isinstance(value, Iterable) else type(value).__name__
        raise ValueError(f"{name}: got {has or 'nothing'}; give {' and '.join(missing)}, too")


def model(value: nn.Module, *parts: str) -> torch.dtype:
    """A model that has these methods or attributes, without Dropout or BatchNorm in training mode.

    There Dropout draws, and BatchNorm takes the batch for the data. Returns the type of the parameters.
    """
    if not isinstance(value, nn.Module):
        raise refusal("model", value, "a torch.nn.Module in eval mode")
    for name, layer in value.named_modules():
        if layer.training and isinstance(layer, nn.modules.dropout._DropoutNd | nn.modules.batchnorm._BatchNorm):
            where = f"{name}, a {type(layer).__name__}, in training mode"
            raise ValueError(f"model: got {type(value).__name__} with {where}; give it in eval mode, model.eval()")
    if missing := [part for part in parts if not hasattr(value, part)]:
        raise ValueError(f"model: got {type(value).__name__} without {' and '.join(missing)}; give one that has them")
    return next((parameter.dtype for parameter in value.parameters()), torch.float32)
