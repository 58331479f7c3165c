"""The geometry of a model's layers on a fixed probe set, one layer at a time: a diagnostic for while it trains."""

import math
import time
from collections.abc import Collection

import torch
from torch import Tensor

from vaekit import randomness
from vaekit.metrics.geometry import information_imbalance, intrinsic_dimension
from vaekit.metrics.rates import check_bytes


@torch.no_grad()
def layer_geometry(
    model,
    images: Tensor,
    rows: Tensor | None = None,
    seed: int = 0,
    layers: Collection[str] | None = None,
    imbalance: bool = True,
    half_subsets: int = 4,
    dtype: torch.dtype = torch.float32,
    batch_size: int = 256,
) -> list[dict]:
    """2NN dimensions of a model's layers and Information Imbalances of consecutive ones, as tidy rows with their cost.

    The batches of the probe set go through the model side by side: all of them advance by one layer, that layer is
    measured, and they go on from it. So nothing is computed twice, as it would be from the images again for each layer;
    and what is held is the images, one layer (and the one before it, for the imbalance), never the whole pass, as
    hooks that collect would.

    Args:
        model: a module in eval mode; `walk(x, noise)` yields (name, values) for each layer in turn, as those of
            `vaekit.models` do.
        images: the probe set, uint8, (n, C, H, W), on the model's device. Values belong to their n: keep the set.
        rows: (n,) numbers of the images, which key their noise together with `seed`; None: 0 … n - 1.
        layers: names of those to measure; None: all. Consecutive are those that follow each other among them.
        imbalance: measure the imbalances of consecutive layers, too, both ways.
        half_subsets, dtype: see `intrinsic_dimension`.
        batch_size: images that go through a layer together.

    A row has `measure` ("intrinsic_dimension" or "information_imbalance"), `arguments` ("layer=z", "from=mu,to=z"),
    `value`, `se`, `n` (of the dimension: without duplicates), `note` (duplicates, ties, or why the value is NaN) and
    `seconds`; these add up to what all of it took.

    Errors: ValueError for images that are not uint8, a model without `walk`, or a layer that it does not have.
    """
    check_bytes(images)
    if not hasattr(model, "walk"):
        raise ValueError(
            f"{type(model).__name__} has no walk(x, noise); write one that yields (name, values) for each layer in turn"
        )
    parameter = next(model.parameters())
    rows = torch.arange(len(images)) if rows is None else rows

    def walk(place: Tensor):
        ids = rows[place].to(parameter.device)
        noise = {
            site: randomness.normal_rows(seed, randomness.EVALUATION, 0, site, ids, shape, parameter.dtype)
            for site, shape in model.noise_sites.items()
        }
        yield from model.walk(images[place].to(parameter.dtype) / 255, noise)

    index = torch.arange(len(images))
    names = [name for name, _ in walk(index[:1])]
    if unknown := [name for name in layers or () if name not in names]:
        raise ValueError(f"no layer {', '.join(unknown)}; there are {', '.join(names)}")
    walks = [walk(place) for place in index.split(batch_size)]
    found: list[dict] = []
    before: dict[str, Tensor] = {}
    clock = time.perf_counter()

    def add(measure: str, results: dict[str, tuple[float, float, int, str]]) -> None:
        nonlocal clock
        spent, clock = time.perf_counter() - clock, time.perf_counter()
        found.extend(
            {"measure": measure, "arguments": arguments, "value": value, "se": se, "n": n, "note": note}
            | {"seconds": spent / len(results)}
            for arguments, (value, se, n, note) in results.items()
        )

    for name in names:
        parts = [next(one)[1] for one in walks]
        if layers is not None and name not in layers:
            continue
        points = torch.cat(parts)
        del parts
        dimension = intrinsic_dimension(points, half_subsets, dtype=dtype)
        copies = f"{dimension.duplicates} duplicates left out" if dimension.duplicates else ""
        note = dimension.reason or copies
        add("intrinsic_dimension", {f"layer={name}": (dimension.value, dimension.se, dimension.n, note)})
        if before:
            both = information_imbalance(before | {name: points}, half_subsets=half_subsets, dtype=dtype)
            results = {
                f"from={a},to={b}": (one.value, one.se, one.n, one.reason or (f"{one.ties} ties" if one.ties else ""))
                for (a, b), one in both.items()
            }
            add("information_imbalance", results)
        before = {name: points} if imbalance else {}
    return found


def geometry_table(fleet, images: Tensor, part: str = "probe", **how) -> list[dict]:
    """`layer_geometry` of every member of a trained fleet at every snapshot: how the layers change in training.

    Give the budget the `snapshots` that are wanted; e.g. `pandas.DataFrame(rows).query("measure ==
    'intrinsic_dimension'").pivot_table("value", "step", "arguments")` is then a row for each step and a column for each
    layer. `how` goes on to `layer_geometry`.

    To its rows come the member's seed and weights, `step`, `steps` (the budget), `part` (a name for the images), and
    `share`: the row's seconds as a share of those that the training of the whole fleet took. Shares add up; where the
    fleet has no time of its own they are NaN.
    """
    rows = []
    trained_in = getattr(fleet, "seconds", math.nan)
    for i, trained in enumerate(fleet):
        for step in sorted(trained.snapshots):
            model = fleet.model(i, step).to(images.device)
            for row in layer_geometry(model, images, seed=trained.member.seed, **how):
                rows.append(
                    {"member": i, "seed": trained.member.seed, **trained.member.weights}
                    | {"steps": fleet.budget.steps, "step": step, "part": part}
                    | row
                    | {"share": row["seconds"] / trained_in}
                )
    return rows
