"""Image grids of trained members: made where the weights are, exported with the tables, and shown from either.

    grid = image_grids.of(study.SPEC, key, default_store())
    grid.images[row, column]  # uint8 (H, W, C); grid.labels[row] says what it is

What a grid shows is the study's own (`StudySpec.grid`): chosen by the member and its images alone, so the same whoever
asks.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import DataError
from vaekit.metrics import generate_images, reconstruct
from vaekit.store import ImageGrid, Member, Store, load, member_of, results
from vaekit.sweep.study import Examples, StudySpec, examples_of

TEST_IMAGES = "test image"  # the label of the row whose codes are kept
ROWS = ("sample", TEST_IMAGES, "reconstruction")


def rows(model: nn.Module, member: Member, images: Examples, columns: int) -> Tensor | None:
    """`ROWS`: samples of the prior, the first test images, and their reconstructions at the means of their codes.

    uint8, (3, columns, C, H, W), cut to [0, 1]. None where a picture is not finite.
    """
    shown = images.test[:columns]
    drawn, remade = generate_images(model, len(shown), member.seed), reconstruct(model, shown)
    if not (drawn.isfinite().all() and remade.isfinite().all()):
        return None
    samples, reconstructions = ((255 * pixels.clamp(0, 1)).round().to(torch.uint8) for pixels in (drawn, remade))
    return torch.stack((samples, shown, reconstructions))


def of(spec: StudySpec, key: str, store: Store | None) -> ImageGrid | None:
    """The image grid of a member after its last stored step: that in results/, else made from its weights in the store.

    Without a store, that in results/ alone. None where it has neither, or where its study shows none.

    Raises:
        StoreError: A file is damaged.
        DataError: The grid must be made, and the images are not here.
    """
    if spec.grid is None:
        return None
    bundle = results.bundle_of(spec.name, key)
    carried = bundle.grid if bundle and bundle.record["key"] == key else None
    if carried and carried.version == spec.grid.version:
        return carried
    return (make(spec, key, store) if store and key in store else None) or carried


def make(spec: StudySpec, key: str, store: Store) -> ImageGrid | None:
    """The image grid of a stored member; None where it has no weights, or its code or its images are now others.

    Raises as `of`.
    """
    member, steps = member_of(store.record(key)["member"]), store.steps(key)
    if spec.grid is None or not steps or member.key != key:
        return None
    images = spec.grid.take(load(key, steps[-1], store), member, steps[-1], examples_of(member))
    if images is None:
        return None
    pixels = np.ascontiguousarray(images.permute(0, 1, 3, 4, 2).cpu().numpy())
    return ImageGrid(key, steps[-1], spec.grid.version, spec.grid.labels, pixels)


def make_all(spec: StudySpec, keys: Iterable[str], store: Store, say: Callable[[str], None]) -> list[ImageGrid]:
    """The image grids of those of these members that are stored and whose newest version results/ does not carry.

    Says how many it makes, and of how many members it cannot, since their images are not here. Raises StoreError for a
    damaged run.
    """
    if spec.grid is None:
        return []
    carried = {*results.bundle_hashes(results.folder(spec.name))}
    lacking = []
    for key in keys:
        step = max(store.steps(key), default=None) if key in store else None
        bundle = results.bundle_of(spec.name, key, step) if step is not None and carried else None
        if step is not None and not (bundle and bundle.grid and bundle.grid.version == spec.grid.version):
            lacking.append(key)
    # Members of the same images one after the other: those are made once.
    lacking.sort(key=lambda key: [str(store.record(key)["member"][n]) for n in ("data", "split", "n_train", "n_test")])
    if lacking:
        say(f"making image grids of {len(lacking)} member{'s' * (len(lacking) > 1)}")
    grids: list[ImageGrid | None] = []
    problems: dict[str, list[str]] = {}
    for key in lacking:
        try:
            grids.append(make(spec, key, store))
        except DataError as error:
            problems.setdefault(str(error), []).append(key)
    for problem, members in problems.items():
        say(f"no image grids of {len(members)} members: {problem}")
    return [grid for grid in grids if grid]
