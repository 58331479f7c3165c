"""Bundles: what a checkout carries of a trained member, so that it can be shown where no run is stored.

    results/<study>/<12 digits of the key>-<step>.safetensors

A bundle holds an image grid, the weights of a decoder, or both; beside a decoder, the codes of the grid's test images.
It is a pack (see `vaekit.store.files`) that names its member; the provenance.json beside it has its hash. Grids are
deflated: most images are black. No encoder is carried: it is as large as its decoder, or larger, and a page needs no
more of it than the codes of a few test images.
"""

import copy
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn

from vaekit.randomness import NOISE, normal
from vaekit.store import files
from vaekit.store.files import UNREADABLE, Pack, StoreError
from vaekit.store.member import SHORT, key_of, member_of

NAME = re.compile(rf"([0-9a-f]{{{SHORT}}})-(0|[1-9][0-9]*)\.safetensors")
DECODER_LIMIT = 6_000_000  # bytes
GRID_LIMIT = 80_000  # bytes of a deflated grid: 24 images of 32 x 32 in colour always fit
CODES_LIMIT = 80_000  # bytes: of 8 images 4,096 dimensions
_LARGEST_GRID = 2**22  # values: no file unfolds to more
_PIXEL = 1 / 255
_SAMPLES = 64
_ADVICE = "check it out again"


@dataclass(frozen=True, eq=False)
class ImageGrid:
    """Images of a member after `step` steps, and what each row shows.

    Attributes:
        images: uint8, (rows, columns, H, W, C) with C 1 or 3.
        labels: a label for each row.
        version: of the code which chose and made the images.
    """

    key: str
    step: int
    version: int
    labels: tuple[str, ...]
    images: np.ndarray

    def __post_init__(self):
        shape, kind = self.images.shape, self.images.dtype
        if kind != np.uint8 or len(shape) != 5 or shape[0] != len(self.labels) or shape[4] not in (1, 3):
            raise StoreError(
                f"images are {kind} {shape} with {len(self.labels)} labels; wanted uint8 (rows, columns, H, W, C) with "
                "a label a row and C 1 or 3"
            )


@dataclass(frozen=True, eq=False)
class Codes:
    """Where a member's test images lie in its code, and which dimensions it uses.

    Attributes:
        site: the latent whose codes they are: "z", or "z2" of a two-layer model.
        version: of the code which chose the images, see `ImageGrid`.
        mean: float16, (columns, latent_dim): posterior means of the test images of the grid, column by column.
        kl: float32, (latent_dim,): KL(q(z|x) || N(0, I)) of each dimension, in nats per image, averaged over test
            images.
    """

    site: str
    version: int
    mean: np.ndarray
    kl: np.ndarray

    def __post_init__(self):
        mean, kl = self.mean, self.kl
        if (mean.dtype, kl.dtype) != (np.float16, np.float32) or mean.ndim != 2 or kl.shape != mean.shape[1:]:
            raise StoreError(
                f"codes are {mean.dtype} {mean.shape} with a KL of {kl.dtype} {kl.shape}; wanted float16 (columns, "
                "latent_dim) and float32 (latent_dim,)"
            )
        if not (np.isfinite(mean).all() and np.isfinite(kl).all() and (kl >= 0).all()):
            raise StoreError(
                "codes and their KL are not all finite, or a KL is below 0; wanted those of a trained model"
            )


@dataclass
class Bundle:
    """What is carried of one member after `step` steps: `record` says which; all else may be lacking."""

    record: dict[str, Any]
    step: int
    grid: ImageGrid | None = None
    decoder: dict[str, Tensor] = field(default_factory=dict)
    codes: Codes | None = None

    @property
    def name(self) -> str:
        """The name of the file."""
        return file_name(self.record["key"], self.step)

    def pack(self) -> bytes:
        """The file. Raises StoreError for a grid, a decoder or codes that are too large."""
        about: dict[str, Any] = {**self.record, "step": self.step}
        groups: dict[str, Mapping[str, Tensor]] = {}
        if self.grid:
            deflated = zlib.compress(self.grid.images.tobytes(), 9)
            _check_size(len(deflated), GRID_LIMIT, "this image grid")
            about["grid"] = {"version": self.grid.version, "labels": self.grid.labels, "shape": self.grid.images.shape}
            groups["grid"] = {"deflated": torch.frombuffer(bytearray(deflated), dtype=torch.uint8)}
        if self.decoder:
            _check_size(sum(value.nbytes for value in self.decoder.values()), DECODER_LIMIT, "this decoder")
            groups["decoder"] = self.decoder
        if self.codes:
            _check_size(self.codes.mean.nbytes + self.codes.kl.nbytes, CODES_LIMIT, "this set of codes")
            about["codes"] = {"site": self.codes.site, "version": self.codes.version}
            groups["codes"] = {name: torch.from_numpy(getattr(self.codes, name)) for name in ("mean", "kl")}
        return files.pack(about, groups)


def of_run(record: Mapping[str, Any], step: int) -> Bundle:
    """An empty bundle of a stored run, by its record."""
    return Bundle({name: record[name] for name in ("schema", "key", "code_version", "data_identity", "member")}, step)


class Absent(nn.Module):
    """What stands where a model has no such part: any use of it is one clear error."""

    def __init__(self, name: str, what: str):
        super().__init__()
        self.message = f"{what} has no {name}: only its decoder is in results/; train the member to have all of it"

    def forward(self, *_: Any) -> NoReturn:
        raise StoreError(self.message)

    def __iter__(self) -> Iterator[nn.Module]:
        raise StoreError(self.message)


def file_name(key: str, step: int) -> str:
    """The name of the bundle of a member after `step` steps."""
    return f"{key[:SHORT]}-{step}.safetensors"


def read(path: Path) -> Bundle:
    """A bundle from its file, all of it verified.

    Raises:
        UnreadableError: The system does not let the file be read.
        StoreError: The file is absent, damaged, another member's, too large, or no bundle.
    """
    try:
        with files.reading(path):
            size = path.stat().st_size
        if size > 2 * (DECODER_LIMIT + GRID_LIMIT):
            raise StoreError(f"{path} has {size:,} bytes, more than a bundle can have; {_ADVICE}")
        pack = Pack(path, _ADVICE)
    except FileNotFoundError:
        raise StoreError(f"{path} is not there; {_ADVICE}") from None
    pack.verify()
    try:
        about = dict(pack.about)
        step, shown, coded = about.pop("step"), about.pop("grid", None), about.pop("codes", None)
        identity = (about["schema"], about["code_version"], about["data_identity"], about["member"])
        names_file = type(step) is int and file_name(about["key"], step) == path.name
        if key_of(*identity) != about["key"] or not names_file:
            raise ValueError("it is another member's than it says")
        grid = _grid(pack.read("grid")["deflated"], about["key"], step, **shown) if shown else None
        codes = _codes(pack.read("codes"), **coded) if coded else None
        if codes and grid and codes.version == grid.version and len(codes.mean) != grid.images.shape[1]:
            raise ValueError(f"it has the codes of {len(codes.mean)} images beside a grid of {grid.images.shape[1]}")
        return Bundle(about, step, grid, pack.read("decoder") if "decoder" in pack.groups else {}, codes)
    except (zlib.error, *UNREADABLE) as error:
        raise StoreError(f"{path} is not the bundle of a member ({error}); {_ADVICE}") from None


def _grid(deflated: Tensor, key: str, step: int, version: int, labels: list[str], shape: list[int]) -> ImageGrid:
    size = int(np.prod(shape, dtype=object))
    if not 0 < size <= _LARGEST_GRID:
        raise ValueError(f"its grid says that it holds {size:,} values, and {_LARGEST_GRID:,} are the most")
    inflater = zlib.decompressobj()
    values = inflater.decompress(deflated.numpy().tobytes(), size + 1)
    if len(values) != size or not inflater.eof or inflater.unused_data:
        raise ValueError("its grid does not hold as many values as it says")
    return ImageGrid(key, step, version, tuple(labels), np.frombuffer(values, np.uint8).reshape(shape))


def _codes(arrays: Mapping[str, Tensor], site: str, version: int) -> Codes:
    _check_size(sum(array.nbytes for array in arrays.values()), CODES_LIMIT, "this set of codes")
    if type(version) is not int or not isinstance(site, str):
        raise ValueError(f"its codes are of {site!r}, version {version!r}")
    return Codes(site, version, **{name: array.numpy() for name, array in arrays.items()})


def _check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise StoreError(f"{what} takes {size:,} bytes, and results/ carries {limit:,} a member at the most")


# Decoders -------------------------------------------------------------------------------------------------------------


def decoder_of(model: nn.Module) -> dict[str, Tensor]:
    """The weights that `decode` and `generate` of a model in eval mode need, on the CPU.

    They are in float16 where no pixel moves by more than 1/255, else in float32.

    Raises:
        StoreError: The model has no decoder.
    """
    parts = _parts(model)
    if not (all(name in model._modules for name in parts) and getattr(model, "noise_sites", None)):
        raise StoreError(f"this {type(model).__name__} has no decoder, so none can be kept")
    whole = {name: value for name, value in model.state_dict().items() if _belongs(name, parts)}
    halved = {
        name: value.half() if value.dim() and value.is_floating_point() else value for name, value in whole.items()
    }
    single = {name: value.float() if value.is_floating_point() else value for name, value in whole.items()}
    weights = halved if _pixels_stay(model, halved) else single
    return {name: value.cpu().contiguous() for name, value in weights.items()}


def model_of(bundle: Bundle) -> nn.Module:
    """The model of a bundle's member with the decoder's weights alone, in eval mode: `decode` and `generate` work.

    It is made on the device "meta", so that a file takes no more memory than it has bytes, whatever model it says that
    it is of.

    Raises:
        StoreError: The bundle has no decoder, or one that does not fit its model, as codes beside it may not.
    """
    if not bundle.decoder:
        raise StoreError(f"results/ carries no decoder of run {bundle.name}; `export --decoders` adds one")
    try:
        with torch.device("meta"):
            model = member_of(bundle.record["member"]).build()
    except UNREADABLE as error:
        raise StoreError(f"the model of {bundle.name} cannot be built here ({error}); {_ADVICE}") from None
    parts, weights = _parts(model), bundle.decoder
    own = {name: value for name, value in model.state_dict().items() if _belongs(name, parts)}
    shared = {*own} & {*weights}
    wrong = sorted({*own} ^ {*weights} | {name for name in shared if _kind(own[name]) != _kind(weights[name])})
    if wrong:
        raise StoreError(f"the decoder in {bundle.name} does not fit its model, first {wrong[0]}; {_ADVICE}")
    codes, sites = bundle.codes, cast(Any, model).noise_sites
    if codes and sites.get(codes.site) != codes.kl.shape:
        raise StoreError(f"the codes in {bundle.name} do not fit its model: {codes.site} of {codes.kl.size}; {_ADVICE}")
    for part in [part for part, _ in model.named_children() if part not in parts]:
        setattr(model, part, Absent(part, Path(bundle.name).stem))
    model.load_state_dict({name: value.to(own[name].dtype) for name, value in weights.items()}, assign=True)
    return model.eval()


def _parts(model: nn.Module) -> tuple[str, ...]:
    return getattr(model, "generative", ("decoder",))


def _belongs(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a weight is one of the parts', or the model's own: sigma is, without which no likelihood is one."""
    return name.partition(".")[0] in parts or "." not in name


def _kind(value: Tensor) -> tuple:
    return value.shape, value.is_floating_point()


@torch.no_grad()
def _pixels_stay(model: nn.Module, weights: Mapping[str, Tensor]) -> bool:
    """Whether every pixel stays within 1/255 with these weights: at samples of the prior, and up to thrice as far."""
    dtype = next(value.dtype for value in model.parameters())
    far = torch.linspace(1, 3, _SAMPLES, dtype=dtype)
    noise = {
        site: normal(0, NOISE, 0, site, (_SAMPLES, *shape), dtype) * far.view(-1, *[1] * len(shape))
        for site, shape in cast(Any, model).noise_sites.items()
    }
    moved = copy.deepcopy(model)
    moved.load_state_dict(weights, strict=False)
    before, after = (cast(Any, each).generate(noise).mean for each in (model, moved))
    return bool(((before - after).abs() <= _PIXEL).all())  # no NaN does
