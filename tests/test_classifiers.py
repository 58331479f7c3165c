"""The classifiers that judge samples: their networks, their training and its resume, and what the checkout carries."""

import pytest
import torch
from torch import nn

from vaekit import classifiers, data, randomness
from vaekit.__main__ import main
from vaekit.classifiers import Recipe
from vaekit.models.classifiers import NETWORKS, Classifier, Residual
from vaekit.store import StoreError, files, results

CARRIED = {"cifar10_jpeg": "resnet20", "mnist": "cnn", "mnist_binary": "cnn"}
QUICK = Recipe(epochs=4, lr=0.1, batch_size=16)


def halves(n, side=8):
    """Noisy images (n, 1, side, side) whose label is which half is bright."""
    labels = torch.arange(n) % 2
    images = randomness.uniform(0, randomness.FACTORS, 0, "halves", (n, 1, side, side)) * 60
    bright = torch.arange(side)[None, :] // (side // 2) == labels[:, None]
    return (images + 150 * bright[:, None, :, None]).to(torch.uint8), labels


@pytest.fixture
def tiny(place, monkeypatch):
    """A small mnist of 8 x 8 pixels, a store and results of its own; gives the set."""
    images, labels = halves(96)
    split = data.Split(torch.arange(80), torch.arange(80, 96))
    image_set = data.ImageSet(
        "mnist", "made", "made", 96, (1, 8, 8), lambda rows: images[rows], {"own": lambda n: split}, labels=labels
    )
    monkeypatch.setattr(data, "load", {"mnist": image_set, "tetrominoes": data.tetrominoes.image_set()}.get)
    return image_set


@pytest.mark.parametrize(
    ("name", "shape", "weights"), [("resnet20", (3, 32, 32), 269_722), ("cnn", (1, 28, 28), 29_178)]
)
def test_the_small_networks(name, shape, weights):
    classifier = Classifier(name, shape).eval()
    assert sum(p.numel() for p in classifier.parameters()) == weights  # He et al. 2016, Table 6: 0.27 M
    x = torch.rand(4, *shape)
    assert classifier.logits(x).shape == (4, 10)
    torch.testing.assert_close(classifier(x), classifier.logits(x).softmax(1))
    torch.testing.assert_close(classifier(x).sum(1), torch.ones(4))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "weights"), [("resnet18", 11_173_962), ("densenet121", 6_956_426)])
def test_torchvision_s_networks_see_small_images_whole(name, weights):
    network = NETWORKS[name](3, 10).eval()
    assert sum(p.numel() for p in network.parameters()) == weights
    last = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)][-1]
    last.register_forward_hook(lambda layer, x, out: shapes.append(tuple(out.shape[2:])))
    shapes: list[tuple] = []
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert shapes == [(4, 4)]  # three halvings of 32; torchvision's own would make five


def test_an_unknown_network():
    with pytest.raises(KeyError, match="there are resnet20, cnn"):
        Classifier("resnet21", (3, 32, 32))


def test_the_shortcut_has_no_parameters():
    block = Residual(2, 3, 2).eval()
    nn.init.zeros_(block.second[1].weight)  # so that only the shortcut is left
    x = torch.randn(5, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.cat((x[:, :, ::2, ::2].relu(), torch.zeros(5, 1, 3, 3)), 1)
    torch.testing.assert_close(block(x), expected)


def test_images_are_standardised():
    images = halves(40)[0].repeat(1, 3, 1, 1) // torch.tensor([1, 2, 3])[:, None, None]
    mean, sd = classifiers.standardisation(images)
    x = images.double() / 255
    torch.testing.assert_close(mean.double(), x.mean((0, 2, 3))[:, None, None])
    torch.testing.assert_close(sd.double(), x.std((0, 2, 3), correction=0)[:, None, None])
    assert classifiers.standardisation(torch.zeros(4, 1, 8, 8, dtype=torch.uint8))[1].item() > 0


@pytest.mark.parametrize("flips", [False, True])
def test_moved_images_are_windows_of_their_padded_selves(flips):
    images = torch.arange(1, 257).clamp(max=255).to(torch.uint8).reshape(1, 1, 16, 16).repeat(200, 2, 1, 1)
    windows_seen = classifiers.moved(images, 0, 7, flips)
    padded = nn.functional.pad(images[0], (2, 2, 2, 2))
    windows = [padded[:, i : i + 16, j : j + 16] for i in range(5) for j in range(5)]
    windows += [window.flip(2) for window in windows] if flips else []
    counts = torch.stack([(windows_seen == window).flatten(1).all(1) for window in windows]).sum(1)
    assert counts.sum() == 200  # each is one of them
    assert (counts > 0).sum() > 0.8 * len(windows)
    torch.testing.assert_close(classifiers.moved(images, 0, 7, flips), windows_seen)
    assert not torch.equal(classifiers.moved(images, 0, 8, flips), windows_seen)
    assert not torch.equal(classifiers.moved(images, 1, 7, flips), windows_seen)


def test_the_learning_rate_is_one_cycle():
    rates = [QUICK.rate(step, 1000) for step in range(1000)]
    assert max(rates) == pytest.approx(QUICK.lr, rel=0.01)
    assert rates.index(max(rates)) == pytest.approx(200, abs=1)
    assert rates[0] == pytest.approx(QUICK.lr / 400)
    assert rates[-1] == pytest.approx(QUICK.lr / 1600)


def test_only_images_without_a_handedness_are_mirrored():
    assert classifiers.recipe("cifar10_jpeg", "resnet20").flips
    assert not classifiers.recipe("mnist_binary", "cnn").flips
    assert classifiers.recipe("mnist", "cnn", 3).epochs == 3
    assert classifiers.usual_network("cifar10") == "resnet20"
    assert classifiers.usual_network("fashion_mnist") == "cnn"


def test_training_learns_and_leaves_the_generator_alone():
    images, labels = halves(160)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    printed = []
    classifier, seconds = classifiers.train("cnn", images[:128], labels[:128], QUICK, say=printed.append)
    assert torch.equal(torch.get_rng_state(), before)
    assert classifiers.correct(classifier, images[128:], labels[128:], batch_size=10).mean() > 0.9
    assert not classifier.training
    assert len(printed) == 4
    assert printed[-1].startswith("epoch 4 of 4: cross-entropy ")
    assert seconds > 0


def test_a_training_that_was_cut_goes_on_to_the_same_result(tmp_path):
    images, labels = halves(72)  # not whole batches
    whole, _ = classifiers.train("cnn", images, labels, QUICK, seed=3)
    checkpoint = tmp_path / "there" / "cnn.checkpoint"

    def cut(line):
        if line.startswith("epoch 3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifiers.train("cnn", images, labels, QUICK, 3, checkpoint, cut)
    assert [path.name for path in checkpoint.parent.iterdir()] == ["cnn.checkpoint"]
    printed = []
    resumed, _ = classifiers.train("cnn", images, labels, QUICK, 3, checkpoint, printed.append)
    assert [line.split(":")[0] for line in printed] == ["epoch 3 of 4", "epoch 4 of 4"]
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    other, _ = classifiers.train("cnn", images, labels, QUICK, seed=4)
    assert not torch.equal(other.network[0].weight, whole.network[0].weight)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-9])
    with pytest.raises(StoreError, match=r"cnn\.checkpoint is no checkpoint.*delete it"):
        classifiers.train("cnn", images, labels, QUICK, 3, checkpoint)


def test_a_classifier_is_made_once_and_measured_as_it_is_kept(tiny, place, capsys):
    assert classifiers.load("mnist") is None
    assert main(["classifier", "mnist", "--epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "epoch 2 of 2" in printed
    before = torch.get_rng_state()
    classifier = classifiers.load("mnist")
    assert torch.equal(torch.get_rng_state(), before)
    assert not classifier.training
    assert {w.dtype for w in classifier.parameters()} == {torch.float32}
    assert all(torch.equal(w, w.half().float()) for w in classifier.state_dict().values() if w.is_floating_point())
    right = classifiers.correct(classifier, tiny.test, tiny.labels[80:])
    record = classifier.record
    assert (record["accuracy"], record["n"]) == (right.mean().item(), 16)
    assert record["accuracy_se"] == pytest.approx(right.std().item() / 4)
    assert f"{record['accuracy']:.2%}" in printed
    assert record["data_identity"] == data.identity("mnist")
    assert record["recipe"]["epochs"] == 2
    kept = {path.name for path in (place / "results" / "classifiers").iterdir()}
    assert kept == {"mnist-cnn.safetensors"}
    assert not list((place / "runs" / "classifiers").iterdir())  # the checkpoint is gone
    assert main(["classifier", "mnist"]) == 0
    assert "is already there" in capsys.readouterr().out


def test_large_classifiers_stay_in_the_store(tiny, place, monkeypatch):
    monkeypatch.setattr(classifiers, "CARRIED", ())
    classifiers.make("mnist", epochs=1)
    assert (place / "runs" / "classifiers" / "mnist-cnn.safetensors").exists()
    assert not (place / "results").exists()
    assert classifiers.load("mnist", "cnn") is not None


@pytest.mark.parametrize("damage", ["cut", "other images", "other weights", "no field"])
def test_a_damaged_classifier_is_one_error(tiny, place, monkeypatch, damage):
    """Any other harm is that of any stored file, see test_stored_files.py."""
    classifiers.make("mnist", epochs=1)
    path = place / "results" / "classifiers" / "mnist-cnn.safetensors"
    kept = files.Pack(path)
    weights = {name: value.clone() for name, value in kept.read("weights").items()}
    match damage:
        case "cut":
            path.write_bytes(path.read_bytes()[:-1])
        case "other images":
            monkeypatch.setattr(data, "identity", lambda name: "sha256:0")
        case "other weights":
            path.write_bytes(files.pack(kept.about | {"network": "resnet20"}, {"weights": weights}))
        case "no field":
            path.write_bytes(files.pack({"data_identity": data.identity("mnist")}, {"weights": weights}))
    for use in (classifiers.load, classifiers.make):
        with pytest.raises(StoreError, match=r"mnist-cnn\.safetensors cannot be used.*vaekit classifier mnist --mod"):
            use("mnist")
    assert len(list(classifiers.damage())) == (damage != "other images")


def test_what_cannot_be_trained(tiny, capsys):
    for arguments, printed in (
        (["tetrominoes"], "tetrominoes has no labels"),
        (["mnist", "--epochs", "0"], "--epochs: got 0; wanted 1 or more"),
        (["mnist", "--device", "abacus"], "--device: torch does not know 'abacus'"),
    ):
        assert main(["classifier", *arguments]) == 2
        assert printed in capsys.readouterr().err
    with pytest.raises(data.DataError, match="unknown data set"):
        classifiers.load("minst")


@pytest.mark.parametrize(("name", "network"), CARRIED.items())
def test_the_checkout_carries_classifiers(name, network):
    classifier = classifiers.load(name)
    path = results.folder("classifiers") / f"{name}-{network}.safetensors"
    assert path.stat().st_size < 1e6
    record = classifier.record
    assert (record["data"], record["network"], record["n"]) == (name, network, 10_000)
    assert classifier.image_shape == data.image_shape(name)
    try:
        test = data.load(name)
    except data.DataError as error:
        pytest.skip(str(error))
    rows = test.split("own").test[:1000]
    right = classifiers.correct(classifier, test.take(rows), test.labels[rows]).mean().item()
    assert right == pytest.approx(record["accuracy"], abs=5 * record["accuracy_se"] * 10**0.5)
