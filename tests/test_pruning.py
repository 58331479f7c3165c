"""Pruning: the same weights as torch.nn.utils.prune chooses, masks that hold while a fleet trains, and what is left."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from vaekit import pruning, randomness
from vaekit.fleet import Budget, FleetMember, train_fleet
from vaekit.losses import classifier_sum_objective, cross_entropy_objective
from vaekit.models import ClassifierVAE

N, SHAPE, STEPS = 48, (1, 8, 8), 40
IMAGES = (randomness.uniform(0, randomness.FACTORS, 0, "test images", (N, *SHAPE)) * 256).to(torch.uint8)
LABELS = torch.arange(N) % 3
WEIGHTS = {"beta": 1.0, "lambda": 10.0, "reconstruction": 0.0}


def make(**arguments):
    return pruning.add_masks(ClassifierVAE(SHAPE, (4, 6), 3, classes=3, **({"decoder": False} | arguments)))


def train(arm, sparsities, backend="cores", precision="fp64", steps=STEPS, snapshots=(), make_model=make, **options):
    members = [FleetMember(seed, WEIGHTS | {"sparsity": s}) for seed, s in enumerate(sparsities)]
    budget = Budget(steps, 8, precision=precision, snapshots=snapshots)
    project = pruning.projection(make_model(), arm, steps)
    return train_fleet(
        make_model, classifier_sum_objective, members, IMAGES, LABELS, budget=budget, project=project, backend=backend,
        progress=False, **options,
    )  # fmt: skip


def pruned_names(arm):
    names = ["encoder.0.weight", "encoder.2.weight", "mu.weight", "logvar.weight"]
    return [*names, "classifier.weight"] if arm == "both" else names


@pytest.mark.parametrize("sparsity", [0, 0.1, 0.5, 0.873, 0.99])
def test_the_weights_are_those_that_torch_prunes(sparsity):
    model = make()
    names = pruned_names("gradual")
    masks = pruning.magnitude_masks({name: model.get_parameter(name) for name in names}, sparsity)
    oracle = copy.deepcopy(model)
    where = [(oracle.get_submodule(name.removesuffix(".weight")), "weight") for name in names]
    for layer, _ in where:  # its buffers have the names that torch's own masks take
        del layer.weight_mask
    prune.global_unstructured(where, prune.L1Unstructured, amount=float(sparsity))
    for name, (layer, _) in zip(names, where, strict=True):
        assert torch.equal(masks[name], layer.weight_mask.bool())


@pytest.mark.parametrize("sparsity", [0, 0.25, 0.5, 0.8])
def test_the_channels_are_those_that_torch_prunes(sparsity):
    layer = nn.Conv2d(5, 16, 4)
    mask = pruning.channel_mask(layer.weight, sparsity)
    prune.ln_structured(layer, "weight", amount=round(sparsity * 16), n=2, dim=0)
    assert torch.equal(mask, layer.weight_mask.flatten(1).any(1))
    assert int((~mask).sum()) == round(sparsity * 16)
    assert int(pruning.channel_mask(layer.weight, 0.999).sum()) == 1  # one always stays


def test_the_ramp_is_cubic():
    assert [pruning.ramp(step, 4) for step in range(5)] == [0, 1 - 27 / 64, 1 - 1 / 8, 1 - 1 / 64, 1]


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("arm", ["gradual", "both", "one_shot", "structured"])
def test_masks_hold_grow_and_end_at_the_sparsity(arm, backend):
    sparsities = (0.5, 0.8)
    fleet = train(arm, sparsities, backend, snapshots=(0, 1, 10, 11, 20, 39))
    for trained, sparsity in zip(fleet, sparsities, strict=True):
        before = None
        for state in trained.snapshots.values():
            masks = {name: mask for name, mask in state.items() if name.endswith("_mask")}
            for name, mask in masks.items():
                assert bool((state[name.removesuffix("_mask")][~mask] == 0).all())
                assert before is None or not bool((mask & ~before[name]).any()), "a mask never gives back"
            before = masks
        start, end = trained.snapshots[0], trained.snapshots[STEPS]
        whole = torch.cat([end[f"{name}_mask"].flatten() for name in pruned_names(arm)])
        if arm == "structured":
            removed = [int((~end[f"encoder.{i}.weight_mask"].flatten(1).any(1)).sum()) for i in (0, 2)]
            assert removed == [round(sparsity * channels) for channels in (4, 6)]
        else:
            assert int((~whole).sum()) == round(sparsity * len(whole))
        at_start = torch.cat([start[f"{name}_mask"].flatten() for name in pruned_names(arm)])
        assert bool(at_start.all()) == (arm != "one_shot")
        if arm != "both":
            assert bool(end["classifier.weight_mask"].all())


def test_what_is_not_pruned_goes_on_training():
    end = train("gradual", [0.5])[0].snapshots[STEPS]
    start = train("gradual", [0.5], snapshots=(0,))[0].snapshots[0]
    mask = end["encoder.2.weight_mask"]
    moved = (end["encoder.2.weight"] != start["encoder.2.weight"])[mask]
    assert moved.double().mean() > 0.8  # but for those that only ever see padding


def test_the_dense_arm_is_training_without_pruning():
    assert pruning.projection(make(), "dense", STEPS) is None
    with_masks = train("dense", [0.0])[0].snapshots[STEPS]
    without = train("dense", [0.0], make_model=lambda: ClassifierVAE(SHAPE, (4, 6), 3, classes=3, decoder=False))
    for name, value in without[0].snapshots[STEPS].items():
        assert torch.equal(value, with_masks[name])


@pytest.mark.parametrize("arm", ["gradual", "structured"])
def test_a_pruned_member_is_the_same_in_any_company(arm):
    alone = train(arm, [0.5])[0].snapshots[STEPS]
    company = train(arm, [0.5, 0.9, 0.0], threads=2)[0].snapshots[STEPS]
    stacked = train(arm, [0.5, 0.9, 0.0], backend="stack")[0].snapshots[STEPS]
    for name, value in alone.items():
        assert torch.equal(value, company[name])
        torch.testing.assert_close(stacked[name].double(), value.double(), rtol=1e-12, atol=1e-12)


def test_an_unknown_arm_is_named():
    with pytest.raises(KeyError, match=r"no arm 'lottery'.*gradual.*structured"):
        pruning.projection(make(), "lottery", 10)


def test_size_of_a_network_that_can_be_counted_by_hand():
    model = make()
    size = pruning.size(model)
    convs, heads = (16 * 1 * 4, 16 * 4 * 6), (6 * 2 * 2 * 3, 3 * 3)
    biases = 4 + 6 + 3 + 3
    assert size.parameters == size.nonzero == sum(convs) + sum(heads) + biases
    assert size.flops == size.sparse_flops == 2 * (convs[0] * 16 + convs[1] * 4 + sum(heads))
    assert 0.8 * 4 * size.parameters < size.compressed_bytes < 4 * size.parameters + 100


def test_a_pruned_network_compresses_and_only_a_structured_one_saves_arithmetic():
    def make_larger():
        return pruning.add_masks(ClassifierVAE((1, 16, 16), (16, 32), 8, classes=3, decoder=False))

    def project(arm):
        model = make_larger()
        state = {name: value.detach() for name, value in model.state_dict().items()}
        project = pruning.projection(model, arm, 10)
        for name, value in project(state, {"sparsity": torch.tensor(0.5)}, 10 if arm != "one_shot" else 0).items():
            state[name].copy_(value)
        return model

    dense = pruning.size(make_larger())
    sparse, thin = pruning.size(project("one_shot")), pruning.size(project("structured"))
    assert sparse.flops == dense.flops
    assert sparse.sparse_flops < 0.7 * dense.flops
    assert sparse.compressed_bytes < 0.7 * dense.compressed_bytes
    assert thin.flops == thin.sparse_flops < 0.5 * dense.flops
    assert thin.compressed_bytes < 0.5 * dense.compressed_bytes
    assert dense.parameters == sparse.parameters == thin.parameters


@pytest.mark.parametrize("arm", ["gradual", "structured", "dense"])
def test_the_compact_network_gives_the_same_logits(arm):
    fleet = train(arm, [0.6])
    model = fleet.model(0)
    x = IMAGES[:10].double() / 255
    torch.testing.assert_close(pruning.compact(model)(x), model.classify(x), rtol=1e-12, atol=1e-12)
    seconds, spread = pruning.seconds_per_image(model, 16, rounds=3)
    assert seconds > 0
    assert spread >= 0


def test_the_classifier_sees_a_sample_in_training_and_the_mean_in_eval_mode():
    model = ClassifierVAE(SHAPE, (4, 6), 3, classes=3)
    x, noise = torch.rand(5, *SHAPE), {"z": torch.randn(5, 3)}
    assert not torch.equal(model.train()(x, noise)["y"], model.classify(x))
    assert torch.equal(model.eval()(x, noise)["y"], model.classify(x))
    assert model(x, noise)["x"].mean.shape == x.shape


def test_a_model_without_a_decoder_gives_none_and_the_baseline_draws_nothing():
    bare = ClassifierVAE(SHAPE, (4, 6), 3, classes=3, decoder=False)
    assert bare(torch.rand(2, *SHAPE), {"z": torch.zeros(2, 3)}).keys() == {"z", "y"}
    assert not any(name.startswith("decoder") for name in bare.state_dict())
    with pytest.raises(ValueError, match="without a decoder"):
        bare.decode(torch.zeros(1, 3))
    with pytest.raises(ValueError, match="classes is 1"):
        ClassifierVAE(SHAPE, (4, 6), 3, classes=1)

    def baseline():
        return ClassifierVAE(SHAPE, (4, 6), 3, classes=3, decoder=False, sampled=False)

    assert baseline().noise_sites == {}
    options = {"budget": Budget(30, 8), "progress": False}
    fleet = train_fleet(baseline, cross_entropy_objective, [FleetMember(0)], IMAGES, LABELS, **options)
    assert fleet[0].history["loss"][-1] < 1.2


@pytest.mark.parametrize("arm", ["gradual", "both", "one_shot"])
def test_the_share_of_a_baseline_is_of_the_weights_that_it_uses(arm):
    """It never uses its variances, whose weights stay as they began: pruned first, they would save the others."""
    model = make(sampled=False)
    project = pruning.projection(model, arm, 10)
    state = dict(model.state_dict())
    state["logvar.weight"] = 1e-6 * state["logvar.weight"]
    pruned = project(state, {"sparsity": torch.tensor(0.5)}, 0 if arm == "one_shot" else 10)
    names = [name for name in pruned_names(arm) if name != "logvar.weight"]
    gone = sum(int((pruned[name] == 0).sum()) for name in names)
    assert gone == round(sum(pruned[name].numel() for name in names) / 2)
    assert torch.equal(pruned["logvar.weight"], state["logvar.weight"])
