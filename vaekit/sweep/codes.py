"""Codes of trained members: of the test images of their grids, made and exported with a decoder.

    codes = codes.of(study.SPEC, key, default_store())
    codes.mean[column], codes.kl  # (latent_dim,): where a test image lies, and which dimensions are used

Of a two-layer model they are of z2. What its decoder makes of them goes through the mean of p(z1|z2), so it is not the
grid's reconstruction, whose z1 has seen the image.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch

from vaekit.data import DataError
from vaekit.metrics import encode, rate_per_dimension
from vaekit.store import SHORT, Codes, ImageGrid, Store, load, member_of, results
from vaekit.sweep import image_grids
from vaekit.sweep.study import StudySpec, examples_of

IMAGES = 512  # test images whose KL is averaged


def of(spec: StudySpec, key: str, store: Store | None) -> Codes | None:
    """The codes of the test images that `image_grids.of` shows: those in results/, else made from weights in the store.

    Without a store, those in results/ alone. None where there are neither.

    Raises:
        StoreError: A file is damaged.
        DataError: They must be made, and the images are not here.
    """
    if (grid := image_grids.of(spec, key, store)) is None:
        return None
    bundle = results.bundle_of(spec.name, key, grid.step)
    carried = bundle.codes if bundle and bundle.record["key"] == key else None
    if carried and carried.version == grid.version:
        return carried
    return _made(grid, store) if store and key in store else None


def make(grid: ImageGrid, store: Store, say: Callable[[str], None]) -> Codes | None:
    """The codes of a stored member's grid; says so and gives None where its images are not here. Raises as `of`."""
    try:
        return _made(grid, store)
    except DataError as error:
        say(f"no codes of run {grid.key[:SHORT]}: {error}")
        return None


def _made(grid: ImageGrid, store: Store) -> Codes | None:
    """None where the grid shows no test images, or the codes are not finite."""
    if image_grids.TEST_IMAGES not in grid.labels:
        return None
    model, member = load(grid.key, grid.step, store), member_of(store.record(grid.key)["member"])
    shown = torch.tensor(grid.images[grid.labels.index(image_grids.TEST_IMAGES)]).permute(0, 3, 1, 2)
    mean = encode(model, shown).mu.numpy().astype(np.float16)
    kl = rate_per_dimension(encode(model, examples_of(member).test[:IMAGES])).float().clamp(min=0).numpy()
    if not (np.isfinite(mean).all() and np.isfinite(kl).all()):
        return None
    return Codes(next(iter(cast(Any, model).noise_sites)), grid.version, mean, kl)
