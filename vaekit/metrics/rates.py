"""Rate and distortion of a trained model, one value per image."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from vaekit import checks, randomness
from vaekit.distributions import as_float
from vaekit.losses import bernoulli_floor, distortion, rate


def rate_and_distortion(params: dict, images: Tensor) -> dict[str, Tensor]:
    """R of a model with one latent "z" and D of its likelihood "x", each (batch,), in nats."""
    checks.names("the model's params", params, ("x", "z"))
    return {"distortion": distortion(params["x"], images), "rate": rate(params["z"])}


@torch.no_grad()
def evaluate(
    model,
    images: Tensor,
    rows: Tensor,
    seed: int,
    draw: int | None = 0,
    batch_size: int = 1024,
    of: Callable[[dict, Tensor], dict[str, Tensor]] = rate_and_distortion,
) -> dict[str, Tensor]:
    """What is measured of each image, by name: {"distortion": (n,), "rate": (n,)}, float64 on the CPU, in nats.

    Args:
        model: a module in eval mode; `forward(x, noise)` gives distribution parameters by name.
        images: uint8, (n, C, H, W), on the model's device.
        rows: (n,) numbers of the images, from 0, which key their noise.
        seed: of the noise.
        draw: which of the independent samples of the latents to take; None: their means instead of a sample.
        of: (params, images in [0, 1]) -> values by name, one an image.

    Raises:
        ValueError: images that are not uint8, rows that do not number them, a model with Dropout or BatchNorm in
            training mode, or one that draws random numbers.
    """
    dtype = checks.model(model, "noise_sites")
    n = len(checks.images(images))
    rows = checks.rows(rows, n)
    seed, batch_size = checks.seed(seed), checks.whole("batch_size", batch_size, 1)
    draw = None if draw is None else checks.whole("draw", draw)
    batches: dict[str, list[Tensor]] = {}
    for start in range(0, n, batch_size):
        x = grey(images[start : start + batch_size], dtype)
        ids = rows[start : start + batch_size].to(images.device)
        noise = {site: _noise(seed, draw, site, ids, shape, dtype) for site, shape in model.noise_sites.items()}
        with randomness.NoDraws(type(model).__name__):
            params = as_float(model(x.to(dtype), noise))
        for name, values in of(params, x).items():
            if not isinstance(values, Tensor) or values.shape[:1] != (len(x),):
                raise checks.refusal(name, values, f"a row for each of {len(x)} images, ({len(x)}, ...)")
            batches.setdefault(name, []).append(values.double().cpu())
    return {name: torch.cat(parts) for name, parts in batches.items()}


def grey(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 images in [0, 1], of a model's type: of float32 where that has not the bits to tell levels apart."""
    return images.to(torch.promote_types(dtype, torch.float32)) / 255


def floor(images: Tensor, batch_size: int = 4096) -> Tensor:
    """The floor of a Bernoulli distortion on each of n uint8 images, (n,), float64 on the CPU, in nats.

    Raises:
        ValueError: images that are not uint8.
    """
    checks.images(images)
    batch_size = checks.whole("batch_size", batch_size, 1)
    entropy = bernoulli_floor(torch.arange(256, dtype=torch.float64, device=images.device).unsqueeze(1) / 255)
    return torch.cat([entropy[part.flatten(1).long()].sum(1).cpu() for part in images.split(batch_size)])


def mean_and_se(values: Tensor) -> tuple[float, float]:
    """The mean of (n,) values and its standard error over images (0 for a single one).

    Raises:
        ValueError: no values, or values that are no floats of one dimension.
    """
    if checks.floats("values", values).shape != (*values.shape, 1):
        raise checks.refusal("values", values, "floats of shape (n,)")
    se = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return values.mean().item(), se


def rd_table(fleet, images: Tensor, part: str = "train") -> list[dict]:
    """Rate and distortion of every member at every snapshot, on these images: tidy rows for `figures`.

    One row a value, with the member's seed and weights, `step`, `steps` (the budget), `part` (a name for these images),
    `measure` ("distortion" with one sample of z, or "rate"), `value` in nats per image, `se` over images, and `n`.
    """
    rows = []
    device = images.device
    for i, trained in enumerate(fleet):
        for step in sorted(trained.snapshots):
            model = fleet.model(i, step).to(device)
            measures = evaluate(model, images, torch.arange(len(images)), trained.member.seed)
            for measure, values in measures.items():
                value, se = mean_and_se(values)
                rows.append(
                    {"member": i, "seed": trained.member.seed, **trained.member.weights}
                    | {"steps": fleet.budget.steps, "step": step, "part": part, "measure": measure}
                    | {"value": value, "se": se, "n": len(images)}
                )
    return rows


def _noise(seed: int, draw: int | None, site: str, ids: Tensor, shape: tuple[int, ...], dtype) -> Tensor:
    if draw is None:
        return torch.zeros((len(ids), *shape), dtype=dtype, device=ids.device)
    return randomness.normal_rows(seed, randomness.EVALUATION, draw, site, ids, shape, dtype)
