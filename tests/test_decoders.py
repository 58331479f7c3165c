"""Decoders that results/ carries: pictures as the whole model would make them, and a clear word on what is lacking."""

import json
import struct

import pytest
import torch
from safetensors.torch import load, save
from tiny import member, row_of, run_of

from vaekit import decoders, results, runs
from vaekit.randomness import EVALUATION, normal
from vaekit.results import Tables
from vaekit.runs import Store, StoreError
from vaekit.studies import rate_generalisation as study

pytestmark = pytest.mark.usefixtures("place")
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


def carried(one, name=study.DESIGN.name):
    """The run of a member in a store of its own, and its decoder in results/ alone."""
    store = Store(results.folder("").parent / "elsewhere")
    key = store.commit(run_of(one))
    file, content = runs.decoder_file(key, store)
    results.write(results.folder(name), Tables({key: row_of(one)}, decoders={file: content}), {})
    return store, key, results.folder(name) / file


def noise_of(model, dtype):
    return {site: normal(3, EVALUATION, 0, site, (5, *shape), dtype) for site, shape in model.noise_sites.items()}


@pytest.mark.parametrize("kind", list(MEMBERS))
@torch.no_grad()
def test_pictures_are_those_of_the_whole_model(kind):
    one = MEMBERS[kind]
    store, key, path = carried(one)
    whole, part = runs.load(key, store=store), runs.load(key)
    assert path.name == f"decoder-{key[:12]}-20.safetensors"
    assert not part.training
    noise = noise_of(whole, next(whole.parameters()).dtype)
    wanted, found = whole.generate(noise), part.generate(noise)
    assert type(wanted) is type(found)
    assert 0 <= (wanted.mean - found.mean).abs().max() <= 1 / 255
    if kind == "gaussian":
        assert torch.equal(part.logvar_x, whole.logvar_x)  # a distortion means nothing without it
    code = torch.zeros(2, *(whole.noise_sites.get("z1") or whole.noise_sites["z"]), dtype=whole.logvar_x.dtype)
    assert (whole.decode(code).mean - part.decode(code).mean).abs().max() <= 1 / 255


@pytest.mark.parametrize("kind", list(MEMBERS))
def test_what_a_decoder_lacks_says_so(kind):
    _, key, _ = carried(MEMBERS[kind])
    part = runs.load(key)
    kept = {"decoder", "prior", "prior_mu", "prior_scale"}
    assert {name for name, module in part.named_children() if not isinstance(module, decoders.Absent)} <= kept
    assert {name.partition(".")[0] for name, _ in part.named_parameters()} <= kept
    dtype = next(part.parameters()).dtype
    images = torch.zeros(2, *part.image_shape, dtype=dtype)
    noise = {site: torch.zeros(2, *shape, dtype=dtype) for site, shape in part.noise_sites.items()}
    for use in (lambda: part.encode(images), lambda: part(images, noise), lambda: part.representations(images, noise)):
        with pytest.raises(decoders.DecoderError, match="only its decoder is in results/"):
            use()


def test_weights_that_half_precision_would_spoil_are_kept_whole():
    model = member().build().eval()
    assert load(decoders.pack(model, {}))["decoder.0.weight"].dtype == torch.float16
    with torch.no_grad():
        model.decoder[0].weight.fill_(1e5)  # float16 ends at 65504
        model.decoder[2].weight.fill_(1e-6)
    kept = load(decoders.pack(model, {}))["decoder.0.weight"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, model.decoder[0].weight)


def test_the_store_comes_first_and_a_step_that_is_not_there_is_named():
    _, key, path = carried(member())
    assert isinstance(runs.load(key, 20).encoder, decoders.Absent)
    with pytest.raises(StoreError, match="cannot be read as a run"):
        runs.load(key, 16)
    runs.default_store().commit(run_of(member()))
    assert not isinstance(runs.load(key, 20).encoder, decoders.Absent)
    path.write_bytes(b"")
    runs.load(key)  # is not even read


def test_a_model_without_a_decoder_or_a_large_one_is_refused(monkeypatch):
    store = Store(results.folder("elsewhere"))
    bare = store.commit(
        run_of(member(model="classifier_vae", model_args={"channels": (4,), "latent_dim": 3, "decoder": False}))
    )
    with pytest.raises(StoreError, match=rf"{bare[:12]}.*no decoder"):
        runs.decoder_file(bare, store)
    key = store.commit(run_of(member()))
    monkeypatch.setattr(decoders, "LIMIT", 30_000)
    with pytest.raises(StoreError, match=rf"{key[:12]}.*MB at the most"):
        runs.decoder_file(key, store)


def test_the_same_decoder_is_the_same_bytes():
    store, key, path = carried(member())
    assert runs.decoder_file(key, store) == (path.name, path.read_bytes())


def test_a_damaged_decoder_is_never_used():
    _, key, path = carried(member())
    good = path.read_bytes()
    for place in range(0, len(good), len(good) // 10):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        with pytest.raises(StoreError, match=str(path)):
            runs.load(key)
        with pytest.raises(results.ResultsError, match=str(path)):
            results.read(path.parent)
    path.unlink()
    with pytest.raises(results.ResultsError, match=path.name):
        results.read(path.parent)


def headed(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def headers_of(about, state):
    """Files that say something else than they hold, by what is wrong."""
    weight = state["decoder.0.weight"]

    def made(state=state, **changes):
        return save(state, {"member": json.dumps(about | changes)})

    huge = {"__metadata__": {"member": json.dumps(about)}, "x": {"dtype": "F64", "shape": [2**40]}}
    return {
        "another step": made(step=16),
        "another key": made(key=member(2).key),
        "a lie": made(member=member(2).row()),
        "no weights": made({}),
        "a weight too many": made(state | {"encoder.1.weight": weight.clone()}),
        "a shape": made(state | {"decoder.0.weight": weight[:1].clone()}),
        "a kind": made(state | {"decoder.0.weight": weight.long()}),
        "none": headed(huge),
        "deep": headed(b"[" * 100_000),
    }


def test_a_hostile_decoder_is_one_error():
    _, _, path = carried(member())
    about, state = decoders.unpack(path.read_bytes(), path.name)
    for kind, content in headers_of(about, state).items():
        with pytest.raises(StoreError, match=path.name):
            runs.read_decoder(content, path.name)
        results.write(path.parent, Tables({member().key: row_of(member())}, decoders={path.name: content}), {})
        (problem,) = results.damage(path.parent)
        assert str(path) in problem, kind


@pytest.mark.parametrize(
    "changes", [{"model_args.hidden": 10**9}, {"model": "os.system"}, {"data": "../mnist"}], ids=str
)
def test_the_decoder_of_a_member_that_is_none_is_one_error(changes):
    """Or of one that should not be made: with the key that it would have."""
    _, _, path = carried(member())
    about, state = decoders.unpack(path.read_bytes(), path.name)
    row = about["member"] | changes
    key = runs.key_of(about["schema"], about["code_version"], about["data_identity"], row)
    name = decoders.file_name(key, about["step"])
    with pytest.raises(StoreError, match=name):
        runs.read_decoder(save(state, {"member": json.dumps(about | {"member": row, "key": key})}), name)


def test_the_decoder_of_no_member_is_refused():
    _, _, path = carried(member())
    other = {member(2).key: row_of(member(2))}
    results.write(path.parent, Tables(other, decoders={path.name: path.read_bytes()}), {})
    with pytest.raises(results.ResultsError, match=f"{path.name}.*no member"):
        results.read(path.parent)
