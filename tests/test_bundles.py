"""Bundles that results/ carries: image grids, decoders and codes, kept over exports, and a word on what is lacking."""

import dataclasses
import json
import zlib

import numpy as np
import pytest
import torch
from tiny import member, row_of, run_of, tables

from vaekit import sweep
from vaekit.__main__ import main
from vaekit.metrics import generate_images, reconstruct
from vaekit.randomness import EVALUATION, normal
from vaekit.store import (
    Codes,
    ImageGrid,
    Store,
    StoreError,
    Tables,
    bundles,
    default_store,
    files,
    load,
    load_decoder,
    results,
)
from vaekit.studies import hierarchical_rates, id_transition, pruning
from vaekit.studies import rate_generalisation as study
from vaekit.sweep import codes, image_grids

pytestmark = pytest.mark.usefixtures("place")
SPEC = study.SPEC
FOLDER = SPEC.name
LABELS = ("test image", "reconstruction", "nearest training image")
HIERARCHICAL = {"model": "ghvae", "data": "cifar10_jpeg", "split": "own", "objective": "hierarchical", "n_train": None}
SMALL = {"channels": 4, "latent_dim": 3}
MEMBERS = {
    "dense": member(),
    "conv": member(model="conv_vae", model_args={"depth": 2, "channels": (4, 8), "batch_norm": True, "slope": 0.2}),
    "gaussian": member(model_args={"depth": 1, "hidden": 4, "latent_dim": 2, "likelihood": "gaussian", "sigma": 0.1}),
    "double": member(precision="fp64"),
    "ghvae": member(**HIERARCHICAL, model_args=SMALL),
    "lvae": member(**HIERARCHICAL | {"model": "lvae"}, model_args=SMALL),
    "classifier": member(model="classifier_vae", model_args={"channels": (4, 8), "latent_dim": 3}),
}


def grid_of(one=None, step=20, channels=3, rows=2, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (rows, 4, 5, 6, channels)).astype(np.uint8)
    return ImageGrid((one or member()).key, step, 1, tuple(f"row {i}" for i in range(rows)), pixels)


def bundle_of(one=None, grid=None, decoder=True):
    """The bundle of a member whose run is stored elsewhere."""
    store = Store(results.root() / "elsewhere")
    key = store.commit(run_of(one or member()))
    bundle = bundles.of_run(store.record(key), 20)
    bundle.grid = grid
    bundle.decoder = bundles.decoder_of(load(key, store=store)) if decoder else {}
    return bundle


def carry(*several, members=None):
    """Bundles in results/, beside the rows of their members; returns the folder."""
    folder = results.folder(FOLDER)
    rows = {one.key: row_of(one) for one in members or [member()]}
    results.write(folder, Tables(rows), {}, {bundle.name: bundle.pack() for bundle in several})
    return folder


# A grid


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_comes_back(channels):
    grid = grid_of(channels=channels)
    carry(bundle_of(grid=grid, decoder=False))
    again = results.bundle_of(FOLDER, grid.key).grid
    assert (again.key, again.step, again.version, again.labels) == (grid.key, 20, 1, grid.labels)
    assert np.array_equal(again.images, grid.images)
    assert results.bundle_of(FOLDER, grid.key, 16) is None
    assert results.bundle_of("pruning", grid.key) is None
    assert results.bundle_of(FOLDER, member(7).key) is None


def test_what_a_grid_cannot_hold_is_refused():
    noise = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3)).astype(np.uint8)
    key = member().key
    grid = ImageGrid(key, 20, 1, LABELS, noise)
    assert len(bundle_of(grid=grid, decoder=False).pack()) < bundles.GRID_LIMIT  # the worst that study 3 can make
    large = ImageGrid(key, 20, 1, LABELS, np.concatenate((noise, 255 - noise), axis=1))
    with pytest.raises(StoreError, match=r"bytes, and results/ carries 80,000"):
        bundle_of(grid=large, decoder=False).pack()
    for wrong in (noise[..., :2], noise.astype(np.float32), noise[:2], noise[0]):
        with pytest.raises(StoreError, match="wanted uint8"):
            ImageGrid(key, 20, 1, LABELS, wrong)


def pack_with(about=None, groups=None, **grid):
    """A whole file of a bundle, whatever it says; its grid has two rows of four images."""
    record = bundle_of(decoder=False).record
    shown = {"version": 1, "labels": ["a", "b"], "shape": [2, 4, 5, 6, 3]} | grid
    deflated = torch.frombuffer(bytearray(zlib.compress(bytes(720))), dtype=torch.uint8)
    groups = {"grid": {"deflated": deflated}} if groups is None else groups
    return files.pack(record | {"step": 20, "grid": shown} | (about or {}), groups)


def deflated(content):
    return {"grid": {"deflated": torch.frombuffer(bytearray(content), dtype=torch.uint8)}}


HOSTILE = {
    "a bomb": {"groups": deflated(zlib.compress(bytes(10**8)))},
    "a grid beyond all memory": {"shape": [2**20, 2**20, 2**20, 1, 3]},
    "short": {"groups": deflated(zlib.compress(b""))},
    "not deflated": {"groups": deflated(b"nothing")},
    "no grid": {"groups": {}},
    "another member": {"about": {"key": member(2).key}},
    "another step": {"about": {"step": 16}},
    "a step that is a text": {"about": {"step": "20"}},
    "a number for a key": {"about": {"key": 7}},
    "a lie": {"about": {"member": member(2).row()}},
    "labels": {"labels": "a"},
    "no label": {"labels": []},
    "a row less": {"shape": [1, 4, 5, 6, 3]},
    "less than none": {"shape": [2, -4, 5, 6, 3]},
    "a shape of words": {"shape": ["a"]},
    "an argument too many": {"more": 1},
    "about nothing": {"about": {"grid": 7}},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_bundle_is_one_error(kind, tmp_path):
    path = tmp_path / bundles.file_name(member().key, 20)
    path.write_bytes(pack_with())
    assert bundles.read(path).grid.images.shape == (2, 4, 5, 6, 3)
    content = pack_with(**HOSTILE[kind])
    path.write_bytes(content)
    with pytest.raises(StoreError, match=path.name):
        bundles.read(path)
    results.write(results.folder(FOLDER), Tables({member().key: row_of(member())}), {}, {path.name: content})
    (problem,) = results.damage(results.folder(FOLDER))
    assert path.name in problem
    with pytest.raises(StoreError, match=path.name):
        image_grids.of(SPEC, member().key, None)


def test_a_file_larger_than_any_bundle_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / bundles.file_name(member().key, 20)
    path.write_bytes(pack_with())
    monkeypatch.setattr(bundles, "DECODER_LIMIT", -bundles.GRID_LIMIT + 100)
    with pytest.raises(StoreError, match="more than a bundle can have"):
        bundles.read(path)


@pytest.mark.parametrize("kind", ["flipped", "gone", "another's", "not listed"])
def test_what_is_not_listed_so_is_named_and_never_decoded(kind, monkeypatch):
    others = [bundle_of(one, grid_of(one, seed=i), decoder=False) for i, one in enumerate((member(), member(2)))]
    folder = carry(*others, members=[member(), member(2)])
    path, other = (folder / bundle.name for bundle in others)
    good = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(good[:-20] + bytes([good[-20] ^ 1]) + good[-19:])
    elif kind == "gone":
        path.unlink()
    elif kind == "another's":
        path.write_bytes(other.read_bytes())
    else:
        path = path.with_name("0" * 12 + "-20.safetensors")
        path.write_bytes(good)
    monkeypatch.setattr(bundles, "read", lambda path: pytest.fail("decoded"))
    assert [line for line in results.damage(folder) if str(path) in line]
    if kind != "not listed":
        with pytest.raises(StoreError, match=str(path)):
            image_grids.of(SPEC, member().key, None)
        with pytest.raises(StoreError, match=str(path)):
            results.bundle_contents(folder)


def test_the_bundle_of_no_member_is_named():
    folder = carry(bundle_of(), members=[member(2)])
    (problem,) = results.damage(folder)
    assert "belongs to" in problem
    assert "lacks" in problem


# A decoder


def noise_of(model, dtype):
    return {site: normal(3, EVALUATION, 0, site, (5, *shape), dtype) for site, shape in model.noise_sites.items()}


@pytest.mark.parametrize("kind", list(MEMBERS))
@torch.no_grad()
def test_images_are_those_of_the_whole_model(kind):
    one = MEMBERS[kind]
    folder = carry(bundle_of(one), members=[one])
    whole, part = load(one.key, store=Store(results.root() / "elsewhere")), load_decoder(one.key)
    assert (folder / f"{one.key[:12]}-20.safetensors").exists()
    assert not part.training
    noise = noise_of(whole, next(whole.parameters()).dtype)
    wanted, decoded = whole.generate(noise), part.generate(noise)
    assert type(wanted) is type(decoded)
    assert 0 <= (wanted.mean - decoded.mean).abs().max() <= 1 / 255
    if kind == "gaussian":
        assert torch.equal(part.logvar_x, whole.logvar_x)  # a distortion means nothing without it
    latent = torch.zeros(2, *(whole.noise_sites.get("z1") or whole.noise_sites["z"]), dtype=whole.logvar_x.dtype)
    assert (whole.decode(latent).mean - part.decode(latent).mean).abs().max() <= 1 / 255


@pytest.mark.parametrize("kind", list(MEMBERS))
def test_what_a_decoder_lacks_says_so(kind):
    carry(bundle_of(MEMBERS[kind]), members=[MEMBERS[kind]])
    part = load_decoder(MEMBERS[kind].key)
    kept = {"decoder", "prior", "prior_mu", "prior_scale"}
    assert {name for name, module in part.named_children() if not isinstance(module, bundles.Absent)} <= kept
    assert {name.partition(".")[0] for name, _ in part.named_parameters()} <= kept
    dtype = next(part.parameters()).dtype
    images = torch.zeros(2, *part.image_shape, dtype=dtype)
    noise = {site: torch.zeros(2, *shape, dtype=dtype) for site, shape in part.noise_sites.items()}
    for use in (lambda: part.encode(images), lambda: part(images, noise), lambda: part.representations(images, noise)):
        with pytest.raises(StoreError, match="only its decoder is in results/"):
            use()


def test_weights_that_half_precision_would_spoil_are_kept_whole():
    model = member().build().eval()
    assert bundles.decoder_of(model)["decoder.0.weight"].dtype == torch.float16
    with torch.no_grad():
        model.decoder[0].weight.fill_(1e5)  # float16 ends at 65504
        model.decoder[2].weight.fill_(1e-6)
    kept = bundles.decoder_of(model)["decoder.0.weight"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, model.decoder[0].weight)


def test_a_decoder_that_is_not_carried_is_named():
    carry(bundle_of(grid=grid_of(), decoder=False))
    for key in (member().key, member(2).key):
        with pytest.raises(StoreError, match=rf"no decoder of run {key[:12]}; `export --decoders` adds one"):
            load_decoder(key)
    carry(bundle_of())
    assert load_decoder(member().key, 20)
    assert load_decoder(member().key[:12])
    with pytest.raises(StoreError, match="is no key"):
        load_decoder("../../x")
    with pytest.raises(StoreError, match="no decoder"):
        load_decoder(member().key, 16)


def test_a_model_without_a_decoder_or_a_large_one_is_refused(monkeypatch):
    bare = member(model="classifier_vae", model_args={"channels": (4,), "latent_dim": 3, "decoder": False})
    with pytest.raises(StoreError, match="ClassifierVAE has no decoder"):
        bundles.decoder_of(bare.build().eval())
    bundle = bundle_of()
    monkeypatch.setattr(bundles, "DECODER_LIMIT", 3_000)
    with pytest.raises(StoreError, match="this decoder takes"):
        bundle.pack()


def test_the_same_bundle_is_the_same_bytes():
    assert bundle_of(grid=grid_of()).pack() == bundle_of(grid=grid_of()).pack()


def weights_of(changes):
    """The decoder of the member, with other weights."""
    weights = bundle_of().decoder
    weight = weights["decoder.0.weight"]
    return {
        "no weights": {},
        "a weight too many": weights | {"encoder.1.weight": weight.clone()},
        "a shape": weights | {"decoder.0.weight": weight[:1].clone()},
        "a kind": weights | {"decoder.0.weight": weight.long()},
    }[changes]


@pytest.mark.parametrize("changes", ["no weights", "a weight too many", "a shape", "a kind"])
def test_a_decoder_that_does_not_fit_its_model_is_one_error(changes):
    bundle = bundle_of()
    bundle.decoder = weights_of(changes)
    folder = carry(bundle)
    with pytest.raises(StoreError, match=r"does not fit its model|no decoder"):
        load_decoder(member().key)
    assert len(list(results.damage(folder))) == (changes != "no weights")


@pytest.mark.parametrize(
    "changes", [{"model_args.hidden": 10**9}, {"model": "os.system"}, {"data": "../mnist"}], ids=str
)
def test_the_decoder_of_a_member_that_is_none_is_one_error(changes):
    """Or of one that should not be made: with the key that it would have."""
    from vaekit.store import key_of

    bundle = bundle_of()
    record = bundle.record | {"member": bundle.record["member"] | changes}
    bundle.record = record | {
        "key": key_of(record["schema"], record["code_version"], record["data_identity"], record["member"])
    }
    with pytest.raises(StoreError, match=bundle.name):
        bundles.model_of(bundle)


# Codes


def coded_with(about=None, without="", **arrays):
    """A whole file of a bundle with the codes of its grid's four images, whatever they are."""
    held = {"mean": torch.zeros(4, 2, dtype=torch.float16), "kl": torch.zeros(2)} | arrays
    groups = deflated(zlib.compress(bytes(720))) | {"codes": {n: a for n, a in held.items() if n != without}}
    return pack_with({"codes": {"site": "z", "version": 1}} | (about or {}), groups)


HOSTILE_CODES = {
    "another precision": {"mean": torch.zeros(4, 2)},
    "no KL": {"without": "kl"},
    "an array too many": {"sigma": torch.zeros(2)},
    "a KL of another size": {"kl": torch.zeros(3)},
    "an image too many": {"mean": torch.zeros(5, 2, dtype=torch.float16)},
    "no image": {"mean": torch.zeros(2, dtype=torch.float16)},
    "not finite": {"mean": torch.full((4, 2), torch.nan, dtype=torch.float16)},
    "a KL below 0": {"kl": torch.tensor([1.0, -1.0])},
    "larger than any": {"mean": torch.zeros(4, 9_000, dtype=torch.float16), "kl": torch.zeros(9_000)},
    "a number for a site": {"about": {"codes": {"site": 7, "version": 1}}},
    "a text for a version": {"about": {"codes": {"site": "z", "version": "1"}}},
    "an argument too many": {"about": {"codes": {"site": "z", "version": 1, "more": 1}}},
    "about nothing": {"about": {"codes": 7}},
}


@pytest.mark.parametrize("kind", HOSTILE_CODES)
def test_hostile_codes_are_one_error(kind, tmp_path):
    path = tmp_path / bundles.file_name(member().key, 20)
    path.write_bytes(coded_with())
    assert bundles.read(path).codes.mean.shape == (4, 2)
    path.write_bytes(coded_with(**HOSTILE_CODES[kind]))
    with pytest.raises(StoreError, match=path.name):
        bundles.read(path)
    content = {path.name: path.read_bytes()}
    results.write(results.folder(FOLDER), Tables({member().key: row_of(member())}), {}, content)
    (problem,) = results.damage(results.folder(FOLDER))
    assert path.name in problem


@pytest.mark.parametrize(("site", "dims"), [("z", 3), ("z2", 2)])
def test_codes_that_do_not_fit_the_model_are_one_error(site, dims):
    bundle = bundle_of()
    bundle.codes = Codes(site, 1, np.zeros((4, dims), np.float16), np.zeros(dims, np.float32))
    folder = carry(bundle)
    with pytest.raises(StoreError, match=rf"the codes in {bundle.name} do not fit its model: {site} of {dims}"):
        load_decoder(member().key)
    assert len(list(results.damage(folder))) == 1


def test_codes_too_large_are_not_packed():
    bundle = bundle_of()
    bundle.codes = Codes("z", 1, np.zeros((4, 9_000), np.float16), np.zeros(9_000, np.float32))
    with pytest.raises(StoreError, match="this set of codes takes 108,000 bytes"):
        bundle.pack()


@pytest.mark.parametrize("kind", ["dense", "ghvae"])
@torch.no_grad()
def test_codes_are_those_of_the_test_images_of_the_grid(kind, monkeypatch):
    one = member() if kind == "dense" else member(model="ghvae", model_args=SMALL, objective="hierarchical")
    store, site = default_store(), "z" if kind == "dense" else "z2"
    key = store.commit(run_of(one))
    assert codes.of(SPEC, key, None) is None
    made = codes.of(SPEC, key, store)  # as JupyterLab does, where nothing was exported
    assert main(["export", FOLDER, "--decoders", key[:12]]) == 0
    monkeypatch.setenv("VAEKIT_RUNS", str(store.root / "none"))
    carried = codes.of(SPEC, key, None)
    assert (made.site, carried.site, carried.version) == (site, site, 1)
    assert np.array_equal(made.mean, carried.mean)
    assert np.array_equal(made.kl, carried.kl)
    model = load(key, store=store)
    grid = image_grids.of(SPEC, key, None)
    shown = torch.tensor(grid.images[0]).permute(0, 3, 1, 2) / 255
    assert np.allclose(carried.mean, model.encode(shown).mu, atol=1e-3)
    q = model.encode(sweep.examples("tetrominoes", "cv", 32, 16).test / 255)
    kl = (q.mu**2 + q.logvar.exp() - 1 - q.logvar).mean(0) / 2
    assert np.allclose(carried.kl, kl, atol=1e-5)
    if kind == "dense":  # the decoder makes the grid's reconstructions of them
        remade = load_decoder(key).decode(torch.tensor(carried.mean).float()).mean
        assert np.abs(255 * remade.permute(0, 2, 3, 1).numpy() - grid.images[1]).max() <= 2
    newer = sweep.StudySpec(FOLDER, (), *(SPEC.measured_steps, SPEC.saved_steps), grid=sweep.GridSpec(2, LABELS, None))
    assert codes.of(newer, key, None).version == 1  # of the grid that is shown, the older
    bundle = results.bundle_of(FOLDER, key)
    other = ImageGrid(key, 20, 2, grid.labels, grid.images)
    monkeypatch.setattr(image_grids, "of", lambda *_: other)
    assert codes.of(SPEC, key, None) is None  # of another version's images
    assert bundle.codes


def test_codes_follow_the_grid_and_travel_with_it(place):
    store = default_store()
    key = store.commit(run_of(member()))
    assert main(["export", FOLDER, "--decoders", key]) == 0
    path = results.folder(FOLDER) / f"{key[:12]}-20.safetensors"
    bundle, name = bundles.read(path), path.name
    older = ImageGrid(key, 20, 0, bundle.grid.labels, bundle.grid.images[:, ::-1])
    bundle.grid, bundle.codes = older, Codes("z", 0, bundle.codes.mean[::-1].copy(), bundle.codes.kl)
    tables_now = results.read(results.folder(FOLDER))
    results.write(results.folder(FOLDER), tables_now, {"study": FOLDER}, {name: bundle.pack()})
    assert main(["export", FOLDER]) == 0  # the new grid's, without being asked for
    assert (bundles.read(path).grid.version, bundles.read(path).codes.version) == (1, 1)
    assert main(["export", FOLDER, "--to", str(place / "a")]) == 0
    carry(bundle_of(grid=grid_of(), decoder=False))
    merged = results.merged_bundles(results.folder(FOLDER), place / "a")
    (place / name).write_bytes(merged[name])
    assert bundles.read(place / name).codes


def test_no_codes_are_made_where_the_images_are_not(capsys):
    store = default_store()
    one = member(data="mnist", split="own", n_train=None)
    key = store.commit(run_of(one))
    grid = ImageGrid(key, 20, 1, LABELS, np.zeros((3, 4, 28, 28, 1), np.uint8))
    assert codes.make(grid, store, print) is None
    assert f"no codes of run {key[:12]}" in capsys.readouterr().out


# What an export carries


@pytest.mark.parametrize("of", [id_transition, hierarchical_rates, pruning], ids=lambda of: of.SPEC.name)
def test_a_grid_of_samples_test_images_and_reconstructions(of):
    two_layers = member(model="ghvae", model_args=SMALL)
    kinds = {
        "id_transition": member(model="conv_vae", model_args={"depth": 2, "channels": 4, "latent_dim": 3}),
        "hierarchical_rates": dataclasses.replace(two_layers, weights={"beta2": 1, "beta1": 1}),
        "pruning": member(model="classifier_vae", model_args={"channels": (4, 8), "latent_dim": 3, "decoder": True}),
    }
    one = kinds[of.SPEC.name]
    model, images = one.build().eval(), sweep.examples("tetrominoes", "cv", 32, 16)
    grid = of.SPEC.grid.take(model, one, 20, images)
    assert of.SPEC.grid.labels == ("sample", "test image", "reconstruction")
    assert 6 <= grid.shape[1] <= 8
    shown = images.test[: grid.shape[1]]
    assert torch.equal(grid[1], shown)
    assert ((grid[0] / 255 - generate_images(model, len(shown), one.seed).clamp(0, 1)).abs() <= 0.5 / 255 + 1e-6).all()
    assert ((grid[2] / 255 - reconstruct(model, shown).clamp(0, 1)).abs() <= 0.5 / 255 + 1e-6).all()
    with torch.no_grad():
        for parameter in model.decoder.parameters():
            parameter.fill_(torch.nan)
    assert of.SPEC.grid.take(model, one, 20, images) is None


def test_what_has_no_decoder_has_no_grid():
    pruned = member(model="classifier_vae", model_args={"channels": (4,), "latent_dim": 3, "decoder": False})
    images = sweep.examples("tetrominoes", "cv", 32, 16)
    assert pruning.SPEC.grid.take(pruned.build().eval(), pruned, 20, images) is None


def made_by(key, store):
    """The image grid of study 3 by another way: brute searches in float64."""
    images = sweep.examples("tetrominoes", "cv", 32, 16)
    test, train = (part.double().flatten(1) / 255 for part in (images.test, images.train))
    order = torch.cdist(test, train).min(1).values.argsort()
    shown = images.test[order[8:16]]  # of 16 distances, the eight whose middle is nearest to the 14th, or the last
    remade = reconstruct(load(key, store=store), shown)
    near = images.train[torch.cdist(remade.double().flatten(1), train).argmin(1)]
    return torch.stack((shown, (255 * remade).round().to(torch.uint8), near)).permute(0, 1, 3, 4, 2).numpy()


def carried_keys():
    return {name[:12] for name in results.bundle_hashes(results.folder(FOLDER))}


def test_an_export_carries_what_the_weights_make(place, capsys):
    store = default_store()
    key, other = store.commit(run_of(member())), store.commit(run_of(member(2)))
    diverged = store.commit(run_of(member(7), (), "diverged", "not finite"))
    assert image_grids.of(SPEC, key, None) is None  # results/ alone
    before = image_grids.of(SPEC, key, store)
    assert np.array_equal(before.images, made_by(key, store))
    assert (before.key, before.step, before.version, before.labels) == (key, 20, 1, LABELS)
    assert main(["export", FOLDER]) == 0
    assert "making image grids of 2 members" in capsys.readouterr().out
    assert carried_keys() == {key[:12], other[:12]}
    assert image_grids.of(SPEC, diverged, store) is None
    # Without the weights they stay, and are what is shown.
    elsewhere = Store(place / "elsewhere")
    assert np.array_equal(image_grids.of(SPEC, key, elsewhere).images, before.images)
    store.commit(run_of(member(3)))
    path = results.folder(FOLDER) / f"{key[:12]}-20.safetensors"
    content = path.read_bytes()
    assert main(["export", FOLDER]) == 0
    assert "making image grids of 1 member" in capsys.readouterr().out
    assert carried_keys() == {key[:12], other[:12], member(3).key[:12]}
    assert path.read_bytes() == content
    # A decoder joins the grid in the same file.
    assert main(["export", FOLDER, "--decoders", key[:12]]) == 0
    whole = bundles.read(path)
    assert np.array_equal(whole.grid.images, before.images)
    assert isinstance(load_decoder(key).encoder, bundles.Absent)
    assert main(["runs", "verify"]) == 0


def test_bundles_travel_in_a_folder(place, monkeypatch):
    key = default_store().commit(run_of(member()))
    assert main(["export", FOLDER, "--to", str(place / "a"), "--decoders", key]) == 0
    monkeypatch.setenv("VAEKIT_RUNS", str(place / "other"))
    assert not results.folder(FOLDER).exists()
    assert main(["export", FOLDER, "--from", str(place / "a")]) == 0
    assert carried_keys() == {key[:12]}
    assert load_decoder(key)
    contents = {path.name: path.read_bytes() for path in (place / "a").iterdir()}
    assert contents == {path.name: path.read_bytes() for path in results.folder(FOLDER).iterdir()}


def test_a_folder_with_one_part_of_a_bundle_takes_away_no_other(place):
    """Another machine's grid beside our decoder: the file has both."""
    key = default_store().commit(run_of(member()))
    assert main(["export", FOLDER, "--to", str(place / "a")]) == 0  # a grid alone
    assert main(["export", FOLDER, "--decoders", key]) == 0
    path = results.folder(FOLDER) / f"{key[:12]}-20.safetensors"
    before = path.read_bytes()
    assert main(["export", FOLDER, "--from", str(place / "a")]) == 0
    assert bundles.read(path).decoder
    assert path.read_bytes() == before
    carry(bundle_of(grid=grid_of(), decoder=False))
    other = results.merged_bundles(results.folder(FOLDER), place / "a")
    assert other[path.name] == (place / "a" / path.name).read_bytes()  # its grid is the newer


def test_a_damaged_bundle_is_not_exported_as_if_it_were_whole(place, capsys):
    key = default_store().commit(run_of(member()))
    assert main(["export", FOLDER]) == 0
    path = results.folder(FOLDER) / f"{key[:12]}-20.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = (results.folder(FOLDER) / "provenance.json").read_bytes()
    for to in ([], ["--to", str(place / "a")]):
        assert main(["export", FOLDER, *to]) == 2
        assert f"{path} is not what its provenance.json says" in capsys.readouterr().err
    assert (results.folder(FOLDER) / "provenance.json").read_bytes() == before
    assert not (place / "a").exists()


def test_a_new_version_is_made_where_the_weights_are():
    store = default_store()
    key = store.commit(run_of(member()))
    assert main(["export", FOLDER]) == 0
    black = torch.zeros(1, 2, 1, 3, 4, dtype=torch.uint8)
    newer = sweep.GridSpec(2, ("black",), lambda model, one, step, images: black)
    steps = (SPEC.measured_steps, SPEC.saved_steps)
    spec = sweep.StudySpec(FOLDER, (), *steps, grid=newer)
    assert image_grids.of(spec, key, store).images.shape == (1, 2, 3, 4, 1)
    assert image_grids.of(spec, key, Store(store.root / "none")).version == 1
    assert image_grids.of(spec, key, None).version == 1
    (grid,) = image_grids.make_all(spec, [key], store, print)
    assert grid.version == 2
    spec = sweep.StudySpec("another", (), *steps, grid=sweep.GridSpec(3, (), lambda *of: None))
    assert image_grids.of(spec, key, store) is None
    assert image_grids.make_all(spec, [key], store, print) == []
    assert image_grids.of(sweep.StudySpec("another", (), *steps), key, store) is None


def test_of_several_seeds_one_has_a_grid_and_a_decoder_s_member_its_own(capsys):
    store = default_store()
    keys = {seed: store.commit(run_of(member(seed=seed))) for seed in (2, 0, 1)}
    other = store.commit(run_of(member(1.0, seed=1)))

    def made(*wanted, also=()):
        return {grid.key for grid in image_grids.make_all(SPEC, wanted, store, print, also=also)}

    assert made(*keys.values(), other) == {keys[0], other}
    assert "making image grids of 2 members" in capsys.readouterr().out
    assert made(*keys.values(), also=[keys[2]]) == {keys[2]}
    assert main(["export", FOLDER]) == 0
    assert made(*keys.values(), other) == set()
    assert made(*keys.values(), other, also=[keys[2]]) == {keys[2]}
    assert main(["export", FOLDER, "--decoders", keys[2]]) == 0
    carried = {key for key in [*keys.values(), other] if results.bundle_of(FOLDER, key)}
    assert carried == {keys[0], keys[2], other}
    assert results.bundle_of(FOLDER, keys[2]).codes
    assert made(*keys.values(), other, also=[keys[2]]) == set()


def test_where_the_lowest_seed_gives_no_pictures_the_next_one_has_the_grid():
    keys = [default_store().commit(run_of(member(seed=seed))) for seed in (0, 1, 2)]
    black = torch.zeros(1, 2, 1, 3, 4, dtype=torch.uint8)
    grid = sweep.GridSpec(1, ("black",), lambda model, one, step, images: None if one.seed == 0 else black)
    spec = sweep.StudySpec(FOLDER, (), SPEC.measured_steps, SPEC.saved_steps, grid=grid)
    assert [each.key for each in image_grids.make_all(spec, keys, default_store(), print)] == [keys[1]]


def test_what_cannot_be_made_is_said(capsys):
    store = default_store()
    key = store.commit(run_of(member(data="mnist", split="own", n_train=None)))
    assert image_grids.make_all(SPEC, [key], store, print) == []
    printed = capsys.readouterr().out
    assert "no image grids of 1 members" in printed
    assert "mnist.npz is not there" in printed


def test_provenance_lists_the_bundles():
    bundle = bundle_of(grid=grid_of())
    folder = carry(bundle)
    listed = json.loads((folder / "provenance.json").read_bytes())["bundles"]
    assert listed == {bundle.name: files.digest((folder / bundle.name).read_bytes())}
    results.write(folder, tables([member()]), {}, results.bundle_contents(folder))
    assert results.bundle_hashes(folder) == listed
