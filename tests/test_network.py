"""A decoder in the reader's browser: its pixels are torch's, of every kind of layer and of every study's models."""

import base64
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import new_model
from vaekit.models import GHVAE, LVAE, ClassifierVAE, ConvVAE, DenseVAE
from vaekit.widgets import network

SCRIPT = (Path(network.__file__).with_name("network.js")).read_text(encoding="utf-8")
CODES = 6


class Own(nn.Module):
    def __init__(self, *layers, likelihood=lambda out: Gaussian(out, torch.zeros(()))):
        super().__init__()
        self.noise_sites = {"z": ()}
        self.decoder = nn.Sequential(*layers)
        self.likelihood_of = likelihood


def maps(*layers, size=(2, 3, 5)) -> Own:
    """Layers that take maps of this size, of which the last makes one map or three."""
    return Own(nn.Linear(4, 2 * 3 * 5), nn.Unflatten(1, size), *layers)


KINDS = {
    "linear": lambda: Own(nn.Linear(4, 7), nn.ReLU(), nn.Linear(7, 12, bias=False), nn.Unflatten(1, (3, 2, 2))),
    "leaky": lambda: Own(nn.Linear(4, 9), nn.LeakyReLU(0.3), nn.Unflatten(1, (1, 3, 3))),
    "tanh, sigmoid": lambda: Own(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 9), nn.Sigmoid(), nn.Unflatten(1, (1, 3, 3))),
    "flat again": lambda: maps(nn.Flatten(), nn.Linear(30, 12), nn.Unflatten(1, (3, 2, 2))),
    "logits": lambda: Own(nn.Linear(4, 9), nn.Unflatten(1, (1, 3, 3)), likelihood=Bernoulli),
    "conv": lambda: maps(nn.Conv2d(2, 3, 3, padding=1)),
    "conv, strided": lambda: maps(nn.Conv2d(2, 1, (2, 3), stride=(1, 2), padding=(1, 0), bias=False)),
    "transposed 4, 2, 1": lambda: maps(nn.ConvTranspose2d(2, 3, 4, 2, 1)),
    "transposed 4, 1, 0": lambda: maps(nn.ConvTranspose2d(2, 3, 4, 1, 0)),
    "transposed, uneven": lambda: maps(nn.ConvTranspose2d(2, 1, (3, 2), (2, 3), (0, 1), (1, 2), bias=False)),
    "to six channels": lambda: maps(nn.ConvTranspose2d(2, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, 1, 1)),
    "no linear": lambda: Own(nn.Unflatten(1, (4, 1, 1)), nn.ConvTranspose2d(4, 3, 4, 1, 0)),
    "batch norm": lambda: Own(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Tanh(), nn.Unflatten(1, (1, 3, 3))),
    "batch norm of maps": lambda: maps(nn.ConvTranspose2d(2, 3, 4, 2, 1), nn.BatchNorm2d(3)),
    "batch norm, unflattened": lambda: maps(nn.BatchNorm2d(2, affine=False), nn.ReLU(), nn.Conv2d(2, 1, 1)),
}  # fmt: skip
# Of each study, as its paper has it; of study 1 the largest latent.
STUDIES = {
    "1, K = 128": lambda: ConvVAE((3, 32, 32), 4, (64, 128, 256, 256), 128, "gaussian", batch_norm=True, slope=0.2),
    "2, GHVAE 28": lambda: GHVAE((1, 28, 28)),
    "2, GHVAE 32": lambda: GHVAE((3, 32, 32)),
    "2, LVAE 32": lambda: LVAE((3, 32, 32)),
    "3, 1 layer": lambda: DenseVAE(depth=1),
    "3, 3 layers": lambda: DenseVAE(depth=3),
    "4": ClassifierVAE,
}


def trained(make) -> nn.Module:
    """A model as a training might leave it: its images differ, its normalisations are no identities."""
    model = new_model(make, 0)
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator))
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.2)
            if module.affine:
                nn.init.uniform_(module.weight, 0.5, 2, generator=generator)
                nn.init.normal_(module.bias, generator=generator)
        elif isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            module.weight.data *= 2
    return model.eval()


def in_browser(tab, model: nn.Module, codes: torch.Tensor, noise: torch.Tensor, t: float = 0) -> tuple:
    """The pixels of each code, and the milliseconds of the fastest."""
    spec, weights = network.packed(model)
    content = base64.b64encode(weights).decode()
    tab.open("about:blank")
    pixels, shortest = tab.evaluate(f"""(() => {{ {SCRIPT}
        const net = network({json.dumps(spec)}, numbers(Uint8Array, "{content}").buffer);
        const [made, took] = [[], []];
        {json.dumps([*zip(codes.tolist(), noise.tolist(), strict=True)])}.forEach(([code, noise]) => {{
            const begun = performance.now();
            made.push([...net.decode(code, {{ t: {t}, noise }})]);
            took.push(performance.now() - begun);
        }});
        // On a busy machine another process may have had the core: the fastest of what fits into ten seconds.
        for (const end = performance.now() + 10_000; Math.min(...took) > 40 && performance.now() < end; ) {{
            const begun = performance.now();
            net.decode({json.dumps(codes[0].tolist())});
            took.push(performance.now() - begun);
        }}
        return [made, Math.min(...took)]; }})()""")
    return torch.tensor(pixels), shortest


def far(got: torch.Tensor, wanted: torch.Tensor) -> float:
    assert wanted.std() > 0.02  # else any picture would do
    return float((got.clamp(0, 1) - wanted.flatten(1).clamp(0, 1)).abs().max())


def codes_for(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    spec, _ = network.packed(model)
    generator = torch.Generator().manual_seed(2)
    return tuple(torch.randn(CODES, size, generator=generator) for size in (spec["latent"], spec["noise"]))


@pytest.mark.browser
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_each_kind_of_layer_is_torch_s(tab, kind):
    model = trained(KINDS[kind])
    codes, noise = codes_for(model)
    assert far(in_browser(tab, model, codes, noise)[0], model.likelihood_of(model.decoder(codes)).mean) <= 1 / 2_000


@pytest.mark.browser
@pytest.mark.parametrize("study", STUDIES)
@torch.no_grad()
def test_each_study_s_decoder_is_torch_s_within_50_ms(tab, study):
    model = trained(STUDIES[study])
    codes, noise = codes_for(model)
    made, milliseconds = in_browser(tab, model, codes, noise)
    if not hasattr(model, "prior_of"):
        assert far(made, model.decode(codes).mean) <= 1 / 255
    else:
        prior = model.prior_of(codes)
        assert far(made, model.decode(prior.mu).mean) <= 1 / 255
        drawn, _ = in_browser(tab, model, codes, noise, t=1)
        sampled = {"z2": codes, "z1": noise.view_as(prior.mu)}
        assert far(drawn, model.generate(sampled).mean) <= 1 / 255
        assert (drawn - made).abs().max() > 0.1
        half, _ = in_browser(tab, model, codes, noise, t=0.5)
        assert far(half, model.generate(sampled | {"z1": sampled["z1"] / 2}).mean) <= 1 / 255
    assert milliseconds < 50


def test_a_description_is_plain_and_the_weights_have_their_name():
    spec, weights = network.packed(trained(STUDIES["2, GHVAE 28"]))
    assert json.loads(json.dumps(spec)) == spec
    assert (spec["latent"], spec["noise"], spec["shape"]) == (20, 256, [1, 28, 28])
    linear = [layer for layer in spec["layers"] if layer["op"] == "linear"]
    assert len(weights) == sum(2 * layer["weights"] + 8 * layer["to"][0] for layer in linear)
    other, _ = network.packed(trained(STUDIES["2, GHVAE 32"]))
    assert len({spec["hash"], other["hash"]}) == 2
