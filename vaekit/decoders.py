"""Decoders that a checkout carries, so that pictures can be drawn where no run is stored.

    results/<study>/decoder-<12 digits of the key>-<step>.safetensors   the weights that `decode` and `generate` need

Weights are in float16 where no pixel moves by more than 1/255, else in float32. The file names its member, and
provenance.json beside it has its hash.
"""

import copy
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vaekit import carried
from vaekit.carried import SHORT
from vaekit.randomness import NOISE, normal
from vaekit.settings import PlainError

LIMIT = 6_000_000  # bytes of a file
PIXEL = 1 / 255
NAME = re.compile(rf"decoder-([0-9a-f]{{{SHORT}}})-(0|[1-9][0-9]*)\.safetensors")
_SAMPLES = 64
# What bytes that are no decoder can raise in reading them: torch lacks a dtype, a shape is beyond every memory, …
_UNREADABLE = (ValueError, KeyError, TypeError, RuntimeError, OverflowError, MemoryError)  # RecursionError is one
_ENTRY = "member"  # one entry of metadata alone: safetensors writes several in no certain order


class DecoderError(PlainError, RuntimeError):
    """A decoder that cannot be kept, or a file of one that is not what it says."""


class Absent(nn.Module):
    """What stands where a model has no such part: any use of it is one clear error."""

    def __init__(self, name: str, what: str):
        super().__init__()
        self.says = f"{what} has no {name}: only its decoder is in results/; train the member to have all of it"

    def forward(self, *_: Any) -> NoReturn:
        raise DecoderError(self.says)

    def __iter__(self) -> Iterator[nn.Module]:
        raise DecoderError(self.says)


def file_name(key: str, step: int) -> str:
    """The name of the decoder's file of a member after `step` steps."""
    return f"decoder-{key[:SHORT]}-{step}.safetensors"


def pack(model: nn.Module, about: Mapping[str, Any]) -> bytes:
    """The decoder of a model in eval mode as a safetensors file; `about` are plain values on its member.

    Errors: DecoderError for a model without a decoder, or one over LIMIT.
    """
    parts = _parts(model)
    if not (all(name in model._modules for name in parts) and getattr(model, "noise_sites", None)):
        raise DecoderError(f"this {type(model).__name__} has no decoder, so none can be kept")
    whole = {name: value for name, value in model.state_dict().items() if _belongs(name, parts)}
    halved = {
        name: value.half() if value.dim() and value.is_floating_point() else value for name, value in whole.items()
    }
    state = halved if _pixels_stay(model, halved) else {n: _single(v) for n, v in whole.items()}
    text = json.dumps(about, sort_keys=True, separators=(",", ":"))
    content = safetensors.torch.save({n: v.cpu().contiguous() for n, v in state.items()}, {_ENTRY: text})
    if len(content) > LIMIT:
        raise DecoderError(
            f"this decoder takes {len(content) / 1e6:.1f} MB, and results/ carries {LIMIT / 1e6:.0f} MB at the most: "
            "choose a smaller member"
        )
    return content


def unpack(content: bytes, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What `pack` was told of the member, and the weights. Errors: DecoderError names the file that is none."""
    try:
        if len(content) > LIMIT:
            raise ValueError(f"it has {len(content):,} bytes, and {LIMIT:,} are the most")
        size = int.from_bytes(content[:8], "little")
        about = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][_ENTRY])
        state = safetensors.torch.load(content)
        if file_name(about["key"], about["step"]) != Path(name).name:
            raise ValueError("it is another member's, or of another step")
    except (*_UNREADABLE, safetensors.SafetensorError) as error:
        raise DecoderError(f"{name} is no decoder ({error}); check it out again") from None
    return about, state


def fit(model: nn.Module, state: Mapping[str, Tensor], name: str) -> nn.Module:
    """A model on the device "meta", in eval mode, with these weights for its decoder and nothing else that it had.

    "meta", so that a file takes no more memory than it has bytes, whatever model it says that it is of. Errors:
    DecoderError where names, shapes or kinds of number do not fit.
    """
    parts = _parts(model)
    wanted = {n: v for n, v in model.state_dict().items() if _belongs(n, parts)}
    wrong = sorted({*wanted} ^ {*state} | {n for n in {*wanted} & {*state} if _kind(wanted[n]) != _kind(state[n])})
    if wrong:
        raise DecoderError(f"{name} does not fit its model, first {wrong[0]}; check it out again")
    for part in [part for part, _ in model.named_children() if part not in parts]:
        setattr(model, part, Absent(part, Path(name).stem))
    model.load_state_dict({n: value.to(wanted[n].dtype) for n, value in state.items()}, assign=True)
    return model.eval()


def read(path: Path, digest: str | None) -> bytes:
    """A decoder's file, verified. Errors: DecoderError where it is absent, too large or not what was listed."""
    return carried.read(path, digest, LIMIT, DecoderError)


def find(root: Path, key: str) -> dict[int, tuple[Path, str | None]]:
    """The decoders of a member among the studies in `root`, by step, each with the hash that its folder lists."""
    found = sorted(root.glob(f"*/decoder-{key[:SHORT]}-*.safetensors"))
    return {
        int(match[2]): (path, carried.listed(path.parent, "decoders").get(path.name))
        for path in found
        if (match := NAME.fullmatch(path.name))
    }


def _parts(model: nn.Module) -> tuple[str, ...]:
    return getattr(model, "generative", ("decoder",))


def _belongs(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a weight is one of the parts', or the model's own: sigma is, without which no likelihood is one."""
    return name.partition(".")[0] in parts or "." not in name


def _kind(value: Tensor) -> tuple:
    return value.shape, value.is_floating_point()


def _single(value: Tensor) -> Tensor:
    return value.float() if value.is_floating_point() else value


@torch.no_grad()
def _pixels_stay(model: nn.Module, state: Mapping[str, Tensor]) -> bool:
    """Whether every pixel stays within 1/255 with these weights: at samples of the prior, and up to thrice as far."""
    kind = next(value.dtype for value in model.parameters())
    far = torch.linspace(1, 3, _SAMPLES, dtype=kind)
    noise = {
        site: normal(0, NOISE, 0, site, (_SAMPLES, *shape), kind) * far.view(-1, *[1] * len(shape))
        for site, shape in cast(Any, model).noise_sites.items()
    }
    moved = copy.deepcopy(model)
    moved.load_state_dict(state, strict=False)
    before, after = (cast(Any, each).generate(noise).mean for each in (model, moved))
    return bool(((before - after).abs() <= PIXEL).all())  # no NaN does
