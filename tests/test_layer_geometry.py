"""The diagnostic of a model's layers: layers whose answers are known, one held at a time, its cost on its rows."""

import math
import time
import weakref

import pytest
import torch
from torch import nn

import vaekit
from vaekit.metrics import geometry_table, information_imbalance, intrinsic_dimension, layer_geometry
from vaekit.models import ConvVAE

IMAGES = torch.randint(0, 256, (200, 1, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Known(nn.Module):
    """Layers of a known geometry, and who holds them: `alive` lists the layers that are, as each is made."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.0))
        self.noise_sites = {"z": (5,)}
        self.made, self.alive = [], []

    def walk(self, x, noise):
        yield "input", x
        for name, values in (
            ("z", lambda: noise["z"].clone()),
            ("twice", lambda: 2 * noise["z"] + 1),
            ("plane", lambda: noise["z"][:, :2].clone()),
            ("constant", lambda: torch.full((len(x), 3), 0.1)),
            ("copies", lambda: (noise["z"][:, :1] > 0).float()),
        ):
            self.made = [(other, ref) for other, ref in self.made if ref() is not None]
            self.alive.append((name, {other for other, _ in self.made}))
            made = values()
            self.made.append((name, weakref.ref(made)))
            yield name, made
            del made


def test_layers_of_known_geometry_are_told_and_one_is_held_at_a_time():
    model = Known()
    rows = layer_geometry(model, IMAGES, batch_size=64)
    found = {row["arguments"]: row for row in rows}
    assert found["layer=z"]["value"] == pytest.approx(5, abs=1)
    assert found["layer=twice"]["value"] == pytest.approx(found["layer=z"]["value"], rel=1e-4)
    assert found["layer=plane"]["value"] == pytest.approx(2, abs=0.5)
    assert found["from=z,to=twice"]["value"] == found["from=twice,to=z"]["value"] == 2 / 200
    assert found["from=twice,to=plane"]["value"] < found["from=plane,to=twice"]["value"] < 1
    assert found["from=input,to=z"]["value"] == pytest.approx(1, abs=0.2)
    assert math.isnan(found["layer=constant"]["value"])
    assert found["layer=constant"]["note"] == "constant"
    assert found["from=plane,to=constant"]["note"] == "constant: constant"
    assert found["layer=copies"]["note"] == "2 distinct points; 2NN needs 10 or more"
    order = ["input", "z", "twice", "plane", "constant", "copies"]
    for name, alive in model.alive:
        assert alive <= {name, order[order.index(name) - 1]}


def test_values_are_those_of_whole_layers_whatever_the_batches():
    model = ConvVAE((1, 8, 8), depth=2, channels=(4, 8), latent_dim=3, batch_norm=True).eval()
    rows = layer_geometry(model, IMAGES, seed=3, batch_size=70, half_subsets=2)
    noise = {"z": vaekit.randomness.normal_rows(3, vaekit.randomness.EVALUATION, 0, "z", torch.arange(200), (3,))}
    with torch.no_grad():
        layers = model.representations(IMAGES / 255, noise)
    assert [row["arguments"].removeprefix("layer=") for row in rows if row["measure"] == "intrinsic_dimension"] == [
        *layers
    ]
    for row in rows:
        if row["measure"] == "intrinsic_dimension":
            wanted = intrinsic_dimension(layers[row["arguments"].removeprefix("layer=")])
        else:
            a, b = (part.partition("=")[2] for part in row["arguments"].split(","))
            wanted = information_imbalance({a: layers[a], b: layers[b]}, [(a, b)])[a, b]
        assert row["value"] == pytest.approx(wanted.value, rel=2e-3)
    assert len(rows) == len(layers) + 2 * (len(layers) - 1)
    some = layer_geometry(model, IMAGES, seed=3, layers=["input", "z"], imbalance=False, half_subsets=2)
    assert [row["arguments"] for row in some] == ["layer=input", "layer=z"]
    assert some[0]["value"] == rows[0]["value"]


def test_a_fleet_s_snapshots_are_rows_that_carry_their_cost():
    budget = vaekit.Budget(4, 16, snapshots=(0, 2))
    fleet = vaekit.train_fleet(
        lambda: ConvVAE((1, 8, 8), depth=1, channels=4, latent_dim=2),
        vaekit.losses.OBJECTIVES["beta"], vaekit.grid(seed=[0, 1], beta=1), IMAGES, budget=budget, progress=False,
    )  # fmt: skip
    begun = time.perf_counter()
    rows = geometry_table(fleet, IMAGES[:50], layers=["input", "z"], imbalance=False)
    elapsed = time.perf_counter() - begun
    assert [(row["member"], row["step"]) for row in rows[::2]] == [(i, step) for i in (0, 1) for step in (0, 2, 4)]
    assert rows[-1] | {"value": 0, "se": 0, "seconds": 0, "share": 0} == {
        "member": 1, "seed": 1, "beta": 1, "steps": 4, "step": 4, "part": "probe", "measure": "intrinsic_dimension",
        "arguments": "layer=z", "value": 0, "se": 0, "n": 50, "note": "", "seconds": 0, "share": 0,
    }  # fmt: skip
    spent = sum(row["seconds"] for row in rows)
    assert 0 < spent < elapsed
    assert sum(row["share"] for row in rows) == pytest.approx(spent / fleet.seconds)
    of_input = {row["value"] for row in rows if row["arguments"] == "layer=input"}
    assert len(of_input) == 1


@pytest.mark.parametrize(
    ("model", "images", "layers", "message"),
    [
        (Known(), IMAGES / 255, None, "images are torch.float32; give the uint8 images"),
        (Known(), IMAGES, ["z", "y"], "no layer y; there are input, z, twice, plane, constant, copies"),
        (nn.Linear(2, 2), IMAGES, None, "Linear has no walk"),
    ],
)
def test_mistakes(model, images, layers, message):
    with pytest.raises(ValueError, match=message):
        layer_geometry(model, images, layers=layers)
