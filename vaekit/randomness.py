"""Stateless random numbers: a draw is a function of what it is for, never of what was drawn before.

Every random number of the package is a word of Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy
as 1, 2, 3"), a counter-based generator: the key is the seed, the counter is (position, step, site, purpose). There is
no generator state to save for a resume, to share between members of a fleet or to reseed by mistake, and the same
words come out on a CPU and on a GPU, inside a CUDA graph, for one member or for sixty.

Changing anything here changes every stored result: the tests hold it to the published known-answer vectors.
"""

import hashlib
import math
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# What a draw is for: the fourth word of the counter.
INIT, ORDER, NOISE, EVALUATION, SPLIT, FACTORS = range(6)

_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


class NoDraws(TorchDispatchMode):
    """Refuses what torch tags as random: Dropout, `randn_like`, `multinomial`, …, by any generator.

    `running` names who is at work, the innermost last; the error, a ValueError, names it and the operation.
    """

    def __init__(self, who: str):
        super().__init__()
        self.running = [who]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and _draws(func, args, kwargs or {}):
            raise DrawError(
                f"{self.running[-1]} draws its own random numbers ({func.overloadpacket.__name__}), which would differ "
                "each time and in any company; take them from `noise`, with a site for them in noise_sites"
            )
        return func(*args, **(kwargs or {}))


class DrawError(ValueError):
    """Something draws random numbers of its own."""


def _draws(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operation draws: attention and recurrent layers are tagged as random also where nothing is dropped."""
    defaults = {argument.name: argument.default_value for argument in func._schema.arguments}
    given = defaults | dict(zip(defaults, args, strict=False)) | kwargs
    trains = given.get("train", given.get("training", True))
    return trains is not False and given.get("dropout_p", given.get("dropout")) != 0


def philox(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words for each counter.

    `counter` and `key` are tuples of int64 tensors that broadcast together and hold words in [0, 2**32), as the four
    tensors of the result do. Tensor operations only, so it runs wherever its arguments are.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # The int64 product wraps above 2**63, which leaves the bits of the unsigned product: masks then cut its halves.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c1, c2, c3 = (p1 >> 32 & _MASK) ^ c1 ^ k0, p1 & _MASK, (p0 >> 32 & _MASK) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = k0 + _WEYL[0] & _MASK, k1 + _WEYL[1] & _MASK
    return c0, c1, c2, c3


def site_number(site: str) -> int:
    """The word that stands for a site's name: the first 32 bits of its SHA-256."""
    return int.from_bytes(hashlib.sha256(site.encode()).digest()[:4], "big")


def bits(seed, purpose: int, step, site: str, positions: Tensor) -> Tensor:
    """Four 32-bit words at each position, int64.

    `seed` (in [0, 2**63)) and `step` (in [0, 2**32)) are whole numbers or int64 tensors that broadcast against
    `positions`, an int64 tensor of counters in [0, 2**32).

    Shape:
        (*broadcast shape, 4).
    """
    seed = torch.as_tensor(seed, device=positions.device)
    step = torch.as_tensor(step, device=positions.device)
    constants = torch.tensor([site_number(site), purpose], device=positions.device)
    counter = (positions, step, constants[0], constants[1])
    return torch.stack(torch.broadcast_tensors(*philox(counter, (seed & _MASK, seed >> 32))), dim=-1)


def uniform(seed, purpose: int, step, site: str, shape: tuple[int, ...], dtype=torch.float32, device=None) -> Tensor:
    """Uniform numbers on (0, 1), never 0 or 1, of shape (*seed and step broadcast, *shape).

    They have 23 random bits, exact in float32 and so the same draw in float32 and float64. In a type of fewer bits they
    are the same draw, rounded: 1 may then occur.
    """
    size = math.prod(shape)
    positions = torch.arange(-(-size // 4), device=device)
    seed, step = (torch.as_tensor(v, device=device).unsqueeze(-1) for v in (seed, step))
    numbers = _unit(bits(seed, purpose, step, site, positions), _wide(dtype))
    return numbers.flatten(-2)[..., :size].unflatten(-1, shape).to(dtype)


def normal(seed, purpose: int, step, site: str, shape: tuple[int, ...], dtype=torch.float32, device=None) -> Tensor:
    """Standard normal numbers of shape (*seed and step broadcast, *shape)."""
    size = math.prod(shape)
    uniforms = uniform(seed, purpose, step, site, (-(-size // 4) * 4,), _wide(dtype), device)
    return _box_muller(uniforms)[..., :size].unflatten(-1, shape).to(dtype)


def normal_rows(
    seed: int, purpose: int, step: int | Tensor, site: str, rows: Tensor, shape: tuple[int, ...], dtype=torch.float32
) -> Tensor:
    """Standard normal numbers for numbered rows: row i is the same whatever rows come with it.

    So a measure on an image does not depend on how its evaluation was cut into batches.

    Shape:
        (len(rows), *shape); with steps (k,), (k, len(rows), *shape).

    Raises:
        ValueError: A row's counter would leave 32 bits.
    """
    size = math.prod(shape)
    words_each = -(-size // 4)
    if len(rows) and int(rows.max() + 1) * words_each > 2**32:
        raise ValueError(
            f"row {int(rows.max())} of shape {shape} lies beyond the counter's 2**32 words; use fewer rows"
        )
    positions = rows.unsqueeze(-1) * words_each + torch.arange(words_each, device=rows.device)
    step = torch.as_tensor(step, device=rows.device)[..., None, None]
    uniforms = _unit(bits(seed, purpose, step, site, positions), _wide(dtype)).flatten(-2)
    return _box_muller(uniforms)[..., :size].unflatten(-1, shape).to(dtype)


def permutation(seed: int, purpose: int, step: int, size: int, device=None, site: str = "permutation") -> Tensor:
    """A random order of range(size), int64: the stable sort of 62 random bits at each place."""
    words = bits(seed, purpose, step, site, torch.arange(size, device=device))
    return torch.argsort(words[:, 0] << 30 ^ words[:, 1] >> 2, stable=True)


def _wide(dtype) -> torch.dtype:
    """The type in which numbers are drawn: half precision has not the bits."""
    return torch.promote_types(dtype, torch.float32)


def _unit(words: Tensor, dtype) -> Tensor:
    # 23 bits and a half: one more would round to 1 in float32, where log(u) would then be 0.
    return ((words >> 9).to(dtype) + 0.5) * 2.0**-23


def _box_muller(uniforms: Tensor) -> Tensor:
    """Pairs of uniforms on the last axis to pairs of standard normals (Box and Muller 1958)."""
    radius, angle = (-2 * uniforms[..., 0::2].log()).sqrt(), 2 * math.pi * uniforms[..., 1::2]
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(-2)
