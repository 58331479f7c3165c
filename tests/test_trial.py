"""What is tried before a fleet trains: whatever would make a member another one each time is found, and named."""

import random
from typing import ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vaekit.distributions import Bernoulli, Gaussian
from vaekit.fleet import Budget, grid, train_fleet
from vaekit.losses import beta_objective
from vaekit.metrics import evaluate

IMAGES = torch.randint(0, 256, (64, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
OWN = torch.Generator()


class Own(nn.Module):
    """A model of one's own, with a layer in the middle and something done to its images."""

    noise_sites: ClassVar = {"z": (2,)}

    def __init__(self, layer=None, change=lambda x: x):
        super().__init__()
        layers = (nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), layer or nn.Identity(), nn.Linear(16, 4))
        self.encoder, self.change = nn.Sequential(*layers), change
        self.decoder = nn.Sequential(nn.Linear(2, 64), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, x, noise):
        q = Gaussian(*self.encoder(self.change(x)).chunk(2, 1))
        return {"z": q, "x": Bernoulli(self.decoder(q.sample(noise["z"])))}


class Noisy(nn.Module):
    """A layer that draws by a call of torch's."""

    def __init__(self, draw):
        super().__init__()
        self.draw = draw

    def forward(self, x):
        return x + 0.1 * self.draw(x)


def trained(make_model, objective=beta_objective, members=2, backend=None, **given):
    """Losses of a fleet that begins: a billion steps would not end."""
    given = {"budget": Budget(20, 16), "progress": False} | given
    fleet = train_fleet(make_model, objective, grid(beta=[0.1 * (i + 1) for i in range(members)]), IMAGES,
                        backend=backend, **given)  # fmt: skip
    return [one.history["loss"].tolist() for one in fleet]


LAYERS = {
    "Dropout": lambda: nn.Dropout(0.3),
    "AlphaDropout": lambda: nn.AlphaDropout(0.3),
    "RReLU": lambda: nn.RReLU(),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(16, 2, 8),
}
DRAWS = {
    "randn_like": torch.randn_like,
    "rand": lambda x: torch.rand(x.shape),
    "normal": lambda x: torch.normal(x, 1.0),
    "normal_": lambda x: torch.empty_like(x).normal_(),
    "bernoulli": lambda x: torch.bernoulli(torch.full_like(x, 0.5)),
    "multinomial": lambda x: torch.multinomial(torch.ones(len(x), 16), 16).float(),
    "randperm": lambda x: x[torch.randperm(len(x))],
    "randint": lambda x: torch.randint(0, 9, x.shape).float(),
    "exponential": lambda x: F.gumbel_softmax(x),
    "distributions": lambda x: torch.distributions.Normal(0.0, 1.0).rsample(x.shape),
    "a generator of one's own": lambda x: torch.randn(x.shape, generator=OWN),
    "dropout as a function": lambda x: F.dropout(x, 0.3),
}
UNSEEN = {  # by torch
    "numpy": lambda x: float(np.random.default_rng().random()),
    "python": lambda x: random.SystemRandom().random(),
}


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_that_draws_is_refused_by_its_name(name, backend):
    with pytest.raises(
        ValueError, match=r"^encoder\.3[\w.]*, a \w+, draws its own random numbers .* from `noise`"
    ) as error:
        trained(lambda: Own(LAYERS[name]()), backend=backend, budget=Budget(10**9))
    assert name in str(error.value) or name == "TransformerEncoderLayer"


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("name", DRAWS)
def test_a_draw_of_any_kind_is_refused_wherever_it_is(name, backend):
    draw = DRAWS[name]
    with pytest.raises(ValueError, match=r"^encoder\.3, a Noisy, draws its own random numbers"):
        trained(lambda: Own(Noisy(draw)), backend=backend)
    with pytest.raises(ValueError, match=r"^Own\.forward draws its own random numbers"):
        trained(lambda: Own(change=lambda x: x + draw(x.flatten(1)).sum()), backend=backend)

    def objective(params, images, *rest):
        values = beta_objective(params, images, *rest)
        return values | {"loss": values["loss"] + draw(images.flatten(1)).sum()}

    with pytest.raises(ValueError, match=r"^the objective draws its own random numbers"):
        trained(Own, objective, backend=backend)

    def project(state, weights, step):
        return {"encoder.1.weight": state["encoder.1.weight"] + draw(state["encoder.1.weight"]).sum()}

    with pytest.raises(ValueError, match=r"^the projection draws its own random numbers"):
        trained(Own, backend=backend, project=project)


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("name", UNSEEN)
def test_what_torch_does_not_see_is_found_by_two_models_that_differ(name, backend):
    draw = UNSEEN[name]
    with pytest.raises(ValueError, match="model or objective give other values each time"):
        trained(lambda: Own(Noisy(draw)), backend=backend)

    def objective(params, images, *rest):
        return {name: value + draw(images) for name, value in beta_objective(params, images, *rest).items()}

    with pytest.raises(ValueError, match="model or objective give other values each time"):
        trained(Own, objective, backend=backend)

    def make():
        model = Own()
        model.encoder[1].bias.data += draw(None)
        return model

    with pytest.raises(ValueError, match=r"make_model gives another encoder\.1\.bias each time"):
        trained(make, backend=backend)


FREE = {
    "a Dropout of nothing": lambda: nn.Dropout(0.0),
    "a Dropout that was put in eval mode": lambda: Evaluated(nn.Dropout(0.3)),
    "batch norm": lambda: nn.BatchNorm1d(16),
    "a norm that goes on at each pass": lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)),
    "an initialisation by torch's generator": lambda: nn.Bilinear(1, 1, 1) and nn.Identity(),
}


class Evaluated(nn.Module):
    """A layer that is never in training mode."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer.eval()

    def train(self, mode=True):
        return self

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("name", FREE)
def test_what_draws_nothing_is_trained_to_the_same_numbers_alone_and_in_company(name):
    def make():
        return Own(FREE[name]())

    together = trained(make, threads_each=1, backend="cores")
    assert trained(make, threads_each=1, backend="cores") == together
    assert trained(make, members=1, threads_each=1, backend="cores") == together[:1]


def test_what_is_tried_leaves_no_trace_in_torch_s_generator():
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match="draws"):
        trained(lambda: Own(nn.Dropout(0.3)))
    trained(Own)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_projection_may_change_what_the_model_has_alone():
    with pytest.raises(
        ValueError, match=r"the projection changes encoder\.9; give tensors as the model has them, encoder\.1\.weight"
    ):
        trained(Own, project=lambda state, weights, step: {"encoder.9": state["encoder.1.weight"]})


def test_two_images_with_the_first_and_the_last_class_are_tried():
    seen = []

    def objective(params, images, labels, *rest):
        seen.append(labels.tolist())
        return beta_objective(params, images, labels, *rest)

    labels = (torch.arange(64) * 7) % 64
    fleet = {"labels": labels, "budget": Budget(1, 16), "progress": False}
    train_fleet(Own, objective, grid(beta=1.0), IMAGES, **fleet)
    assert seen[0] == [0, 63]


class Attending(nn.Module):
    """Attention over the halves of its features, with a share of dropout."""

    def __init__(self, dropout):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, dropout=dropout, batch_first=True)

    def forward(self, x):
        x = x.unflatten(1, (2, 8))
        return self.attention(x, x, x, need_weights=False)[0].flatten(1)


def test_attention_draws_where_it_drops_alone():
    assert trained(lambda: Own(Attending(0.0)), threads_each=1) == trained(lambda: Own(Attending(0.0)), threads_each=1)
    with pytest.raises(ValueError, match=r"^encoder\.3\.attention, a MultiheadAttention, draws"):
        trained(lambda: Own(Attending(0.3)))


class Gated(Own):
    """A model whose noise is multiplied by what is drawn elsewhere: of noise that is zero nothing would be seen."""

    def forward(self, x, noise):
        return super().forward(x, {"z": noise["z"] * float(np.random.default_rng().random())})


def test_what_multiplies_the_noise_is_seen():
    with pytest.raises(ValueError, match="other values each time"):
        trained(Gated)


@pytest.mark.parametrize("draw", [torch.randn_like, lambda x: x * np.random.default_rng().random()])
@pytest.mark.parametrize("since", [0, 1, 20])
@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_a_projection_that_is_random_at_any_time_is_refused(draw, since, backend):
    def project(state, weights, step):
        return {"encoder.1.bias": draw(state["encoder.1.bias"])} if step >= since else {}

    with pytest.raises(ValueError, match=r"the projection draws|to other values each time"):
        trained(Own, project=project, backend=backend)


class Told(Own):
    """A model that gives more than distributions."""

    def forward(self, x, noise):
        return super().forward(x, noise) | {"note": None, "name": "own", "count": 3, "prior": PRIOR, "list": [x, "x"],
            "nan": float("nan")}  # fmt: skip


PRIOR = torch.distributions.Normal(0.0, 1.0)


@pytest.mark.parametrize("precision", ["full", "bf16"])
@pytest.mark.parametrize("backend", ["cores", "stack"])
def test_a_model_may_give_more_than_distributions(backend, precision):
    given = {"backend": backend, "budget": Budget(20, 16, precision=precision), "threads_each": 1}
    assert trained(Told, **given) == trained(Own, **given)


def changed(**more):
    """The beta objective with values of another kind."""
    return lambda *given: beta_objective(*given) | {name: make(given) for name, make in more.items()}


OBJECTIVES = {
    "an accuracy of bools": (changed(right=lambda given: given[1].flatten(1).sum(1) > 0), "gave right, torch.bool"),
    "a count": (changed(label=lambda given: torch.arange(2)), r"gave label, torch\.int64; give floats"),
    "the name of the steps": (changed(step=lambda given: torch.zeros(2)), "gave step, .* none named step"),
    "a loss without a gradient": (
        changed(loss=lambda given: torch.zeros(2)),
        "the loss has no gradient; .*RuntimeError",
    ),
    "a mean": (changed(loss=lambda given: beta_objective(*given)["loss"].mean()), "each value one an image"),
}


@pytest.mark.parametrize("backend", ["cores", "stack"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_that_no_step_can_use_is_refused_before_any_work(name, backend):
    objective, words = OBJECTIVES[name]
    with pytest.raises(ValueError, match=words):
        trained(Own, objective, backend=backend, budget=Budget(10**9))


def test_what_a_stack_cannot_step_is_one_sentence_that_says_what_can():
    def make():
        class Inner(Own):
            """Another class each time."""

        return Inner()

    for make_model in (make, lambda: Own(nn.utils.parametrizations.spectral_norm(nn.Linear(16, 16)))):
        with pytest.raises(ValueError, match=r"the stack backend cannot step this model \(.*\); use backend='cores'"):
            trained(make_model, backend="stack")
        trained(make_model, backend="cores")


@pytest.mark.parametrize(
    "layer", [lambda: nn.LSTM(16, 16, 2, batch_first=True, dropout=0.3), lambda: nn.RReLU()], ids=["LSTM", "RReLU"]
)
def test_what_draws_in_training_alone_is_measured_and_not_trained(layer):
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer()

        def forward(self, x):
            result = self.layer(x.unsqueeze(1))
            return (result[0] if isinstance(result, tuple) else result).squeeze(1)

    with pytest.raises(ValueError, match="draws its own random numbers"):
        trained(lambda: Own(Recurrent()), backend="cores")
    assert evaluate(Own(Recurrent()).eval(), IMAGES, torch.arange(64), 0)["rate"].shape == (64,)


def test_a_layer_without_a_size_is_refused():
    with pytest.raises(ValueError, match=r"encoder\.3\.weight has no size yet"):
        trained(lambda: Own(nn.LazyLinear(16)))
