"""Golden traces: twenty steps in fp64 of a small member of each model family, as the code of its version gave them.

A stored result is keyed by its family's code version. Where one of these tests fails, results have changed. If that is
meant, raise the family's number in `vaekit.models.CODE_VERSIONS` and write the traces anew:

    python tests/test_golden.py

If it is not meant, undo what changed them.
"""

import json
import sys
from pathlib import Path

import pytest
import torch

from vaekit import pruning, randomness
from vaekit.fleet import Budget, FleetMember, train_fleet
from vaekit.losses import OBJECTIVES
from vaekit.models import CODE_VERSIONS, build

FILE = Path(__file__).parent / "golden" / "traces.json"
STEPS = 20
# Biases that a BatchNorm removes move by rounding alone, and are not summed.
CASES = {
    "dense_vae": ("dense_vae", {"depth": 2, "hidden": 12, "latent_dim": 3}),
    "conv_vae": ("conv_vae", {"depth": 2, "channels": 4, "latent_dim": 3}),
    "conv_vae with batch_norm": ("conv_vae", {"depth": 2, "channels": (3, 5), "latent_dim": 3, "likelihood": "gaussian",
                                              "sigma": 0.3, "batch_norm": True, "slope": 0.2}),
    "ghvae": ("ghvae", {"channels": 2, "latent_dim": 3}),
    "lvae": ("lvae", {"channels": 2, "latent_dim": 3, "likelihood": "gaussian"}),
    "classifier_vae": ("classifier_vae", {"channels": (3, 5), "latent_dim": 3, "classes": 3}),
    "classifier_vae, pruned": ("classifier_vae", {"channels": (3, 5), "latent_dim": 3, "classes": 3, "decoder": False,
                                                  "arm": "gradual"}),
}  # fmt: skip
# What a family trains on and for, where that is not the objective "beta" at 0.7 on images of 8 x 8.
TASKS = {
    "ghvae": ((1, 28, 28), "hierarchical", {"beta2": 0.3, "beta1": 2.0}),
    "lvae": ((3, 32, 32), "hierarchical_warmup", {"beta2": 0.3, "beta1": 2.0, "warmup": 8.0}),
    "classifier_vae": ((1, 8, 8), "classifier_sum",
                       {"beta": 0.7, "lambda": 10.0, "reconstruction": 1.0, "sparsity": 0.5}),
}  # fmt: skip
SUMS = {"encoder.0.weight", "encoder.1.weight", "mu.weight", "logvar.bias", "decoder.0.weight"}
SUMS |= {"scale.bias", "scale1.weight", "prior.0.weight", "spread.0.weight", "involved.0.weight"}


def trace(family, arguments):
    """The loss of each step, and sums of absolute weights after the last."""
    losses, arguments = [], dict(arguments)
    arm = arguments.pop("arm", None)
    shape, name, weights = TASKS.get(family, ((1, 8, 8), "beta", {"beta": 0.7}))

    def objective(params, images, labels, weights, progress):
        values = OBJECTIVES[name](params, images, labels, weights, progress)
        losses.append(values["loss"].mean().item())
        return values

    images = (randomness.uniform(2, randomness.FACTORS, 0, "golden", (40, *shape)) * 256).to(torch.uint8)
    member = FleetMember(11, weights, torch.arange(3, 36))
    budget = Budget(STEPS, batch_size=10, precision="fp64")

    def make():
        model = build(family, shape, **arguments)
        return pruning.add_masks(model) if arm else model

    (trained,) = train_fleet(
        make, objective, [member], images, torch.arange(40) % 3, budget=budget, backend="cores", threads=1,
        project=pruning.projection(make(), arm, STEPS) if arm else None,
    )  # fmt: skip
    state = trained.snapshots[STEPS]
    # The first call is the check of a forward pass of train_fleet, on two images.
    return {"loss": losses[-STEPS:], "weights": {n: state[n].abs().sum().item() for n in state if n in SUMS}}


def write():
    """Write all traces, under the versions that the code has now."""
    cases = {name: {"family": f, "code_version": CODE_VERSIONS[f], **trace(f, a)} for name, (f, a) in CASES.items()}
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(json.dumps(cases, indent=1) + "\n")


@pytest.fixture(scope="module")
def golden():
    return json.loads(FILE.read_text())


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_of_this_code_version(golden, name):
    family, arguments = CASES[name]
    traced, stored = trace(family, arguments), golden[name]
    assert len(traced["loss"]) == STEPS
    agree = traced["loss"] == pytest.approx(stored["loss"], rel=1e-9) and traced["weights"] == pytest.approx(
        stored["weights"], rel=1e-9
    )
    assert agree, (
        f"{name} trains to other results than those of code version {stored['code_version']}; if that is meant, raise "
        f"CODE_VERSIONS[{family!r}] in vaekit/models/__init__.py and run: python tests/test_golden.py"
    )


def test_every_family_has_a_trace_of_its_version(golden):
    assert golden.keys() == CASES.keys()
    assert {(case["family"], case["code_version"]) for case in golden.values()} == set(CODE_VERSIONS.items()), (
        "CODE_VERSIONS differ from the traces'; write these anew with: python tests/test_golden.py"
    )


if __name__ == "__main__":
    sys.exit(write())
