"""Image grids of trained members: made where the weights are, exported with the tables, and shown from either.

    grid = image_grids.of(study.SPEC, key, default_store())
    grid.images[row, column]  # uint8 (H, W, C); grid.labels[row] says what it is

What a grid shows is the study's own (`StudySpec.grid`): chosen by the member and its images alone, so the same whoever
asks.
"""

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.data import DataError
from vaekit.metrics import generate_images, reconstruct
from vaekit.store import ImageGrid, Member, Store, load, member_of, results
from vaekit.sweep.study import Examples, StudySpec, examples_of

TEST_IMAGES = "test image"  # the label of the row whose codes are kept
_IMAGES = ("data", "split", "n_train", "n_test")  # the fields of a member that say what its images are
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


def make_all(
    spec: StudySpec, keys: Iterable[str], store: Store, say: Callable[[str], None], also: Collection[str] = ()
) -> list[ImageGrid]:
    """The image grids that results/ lacks of those of these members that are stored, in their newest version.

    A page shows the pictures of one seed a point: of members that differ in the seed alone one has a grid, the first
    that gives one, unless results/ has one of them already; those of `also` have their own. Says how many it makes,
    and of how many it cannot, since their images are not here.

    Raises:
        StoreError: a run, or a bundle of results/, is damaged.
    """
    if spec.grid is None:
        return []
    listed = results.bundle_hashes(results.folder(spec.name))
    in_results = [results.bundle_of(spec.name, name.partition("-")[0]) for name in listed]
    newest = [each.record for each in in_results if each and each.grid and each.grid.version == spec.grid.version]
    stored = [store.record(key) for key in keys if key in store and store.steps(key)]
    own = [record for record in stored if record["key"] in also]
    shown = {record["key"] for record in newest} | {*map(_of_any_seed, [*newest, *own])}
    lacking: dict[Any, list[dict]] = {}
    for record in sorted(stored, key=lambda record: record["member"]["seed"]):
        point = record["key"] if record["key"] in also else _of_any_seed(record)
        if point not in shown:
            lacking.setdefault(point, []).append(record)
    if lacking:
        say(f"making image grids of {len(lacking)} member{'s' * (len(lacking) > 1)}")
    grids: list[ImageGrid | None] = []
    problems: dict[str, list[Any]] = {}
    # Members of the same images one after the other: those are made once.
    for point in sorted(lacking, key=lambda point: [str(lacking[point][0]["member"][name]) for name in _IMAGES]):
        try:
            seeds = (make(spec, record["key"], store) for record in lacking[point])
            grids.append(next(filter(None, seeds), None))
        except DataError as error:
            problems.setdefault(str(error), []).append(point)
    for problem, members in problems.items():
        say(f"no image grids of {len(members)} members: {problem}")
    return [grid for grid in grids if grid]


def _of_any_seed(record: Mapping[str, Any]) -> tuple:
    """What two runs share that differ in the seed alone."""
    return dataclasses.replace(member_of(record["member"]), seed=0), record["code_version"], record["data_identity"]
