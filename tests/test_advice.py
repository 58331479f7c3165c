"""Who does what a message says finds that it was true."""

import re
import shlex
from pathlib import Path

import pytest
import test_hierarchical_rates
import torch
from made_up import drawn

from vaekit import studies
from vaekit.__main__ import main
from vaekit.models import DenseVAE
from vaekit.settings import SettingsError
from vaekit.store import StoreError
from vaekit.studies import base, hierarchical_rates, id_transition, pruning, rate_generalisation
from vaekit.studies.hierarchical_rates import figures as figures_2
from vaekit.studies.pruning import figures as figures_4
from vaekit.widgets import decoder

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.usefixtures("house_style")
# What makes a scale so small that its commands take seconds.
SMALL = {
    "id_transition": {"latent_dims": (2,), "epochs": (0, 1), "n_train": 16, "width": 2, "batch_size": 8, "n_test": 24},
    "hierarchical_rates": {"betas2": (1,), "betas1": (1,), "steps": 5, "batch_size": 4, "n_test": 15},
    "rate_generalisation": {"betas": (0.1, 1), "depths": (1,), "steps": 20, "n_train": (32,), "hidden": 4},
    "pruning": {"n_train": 64, "betas": (1,), "readings": ("sum",), "arms": ("gradual",), "width": 2, "n_test": 100},
}
SMALL["pruning"] |= {"data": ("dsprites_like",), "epochs": 1, "tuning_epochs": 1}
SMALL["across"] = SMALL["pruning"] | {"data": ("dsprites_like32",)}
for name in ("id_transition", "hierarchical_rates", "rate_generalisation"):
    SMALL[name] |= {"data": ("tetrominoes",)}
SMALL["rate_generalisation"] |= {"batch_size": 8, "n_test": 16}


@pytest.fixture
def small(place, monkeypatch):
    """All scales that train are tiny."""
    for name, values in SMALL.items():
        scales = studies.study(name).Settings.SCALES
        for scale in ("quick", "short"):
            monkeypatch.setitem(scales, scale, scales[scale] | {"seeds": (0,)} | values)
    monkeypatch.setattr(hierarchical_rates, "EPOCHS", 2)
    monkeypatch.setattr(hierarchical_rates, "PAPER_BATCH", 8_192)  # two epochs of two batches
    monkeypatch.setattr(id_transition, "CIFAR_TRAIN", 24)


def follow(message: str) -> None:
    """Run the commands of a message, those in backticks or on lines of their own, in their order."""
    commands = re.findall(r"`?(?:\.venv/bin/)?python -m vaekit ([^`\n]+)", message)
    assert commands
    for command in commands:
        assert main(shlex.split(command)) in (0, None), command


GIVEN = {
    "id_transition": [{"seeds": [7]}, {"n_train": 0}, {"n_train": 12, "epochs": [0, 2]}],
    "hierarchical_rates": [{"seeds": [7]}, {"steps": 0}, {"betas2": [0.3, 1], "models": "lvae"}],
    "rate_generalisation": [{"seeds": [7]}, {"betas": [0.2, 1], "n_train": [40]}],
    "pruning": [{"seeds": [7]}, {"sparsities": [0.8], "arms": ["gradual", "dense"]}],
    "across": [{"seeds": [7]}, {"betas": [0.3, 1]}],
}


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", studies.NAMES)
def test_what_is_not_published_is_trained_as_the_error_says(name):
    study = studies.study(name)

    def published(**given):
        return study.run(study.Settings.at("published", data=list(SMALL[name]["data"]), **given))

    for given in ({}, *GIVEN[name]):
        with pytest.raises(StoreError) as raised:
            published(**given)
        follow(str(raised.value))
        table = published(**given)
        assert len(table)
        if "seeds" in given:
            assert set(table["seed"]) == {7}
        if given in ({"n_train": 0}, {"steps": 0}):
            (column,) = given
            (number,) = set(table[column])
            assert number == {"n_train": 24, "steps": 4}[column]
            assert len(published(**{column: int(number)})) == len(table)  # which may as well be asked for by itself


@pytest.mark.slow
@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("draw", [figures_2.figure_9, figures_4.disentanglement])
def test_an_empty_figure_is_filled_as_it_says(draw):
    """By asking for the members in a notebook, and by the commands in the book."""
    study = {figures_2.figure_9: hierarchical_rates, figures_4.disentanglement: pruning}[draw]
    rows = test_hierarchical_rates.world() if study is hierarchical_rates else None
    empty = draw(rows) if rows is not None else draw(study.run(study.Settings.at("quick", arms="baseline")))
    words = " ".join(text.get_text() for text in drawn(empty).findobj(lambda part: hasattr(part, "get_text")))
    parameter, value = re.search(r"ask for (\w+) = \[(\w+)\]", words).groups()
    asked = study.run(study.Settings.at("quick", **{parameter: value}))
    assert any(ax.has_data() for ax in drawn(draw(asked)).axes)
    follow("\n".join(re.findall(r"python -m vaekit .*", words)))
    assert any(
        ax.has_data()
        for ax in drawn(draw(study.run(study.Settings.at("published", data=SMALL[study.SPEC.name]["data"][0])))).axes
    )


PROBLEMS = [
    (rate_generalisation, {"objective": "mi_kl", "betas": 1}, {"objective": "mi_kl"}, "leave it out"),
    (
        rate_generalisation,
        {"objective": "mi_kl", "betas": 1},
        {"objective": "beta", "betas": 1},
        "ask for objective beta",
    ),
    (rate_generalisation, {"mi": 1}, {"objective": "mi_kl", "mi": 1}, "ask for objective mi_kl"),
    (rate_generalisation, {"models": "conv_vae", "depths": 6}, {"models": "conv_vae", "depths": 5}, "other depths"),
    (rate_generalisation, {"models": "conv_vae", "depths": 6}, {"models": "dense_vae", "depths": 6}, "[dense_vae]"),
    (rate_generalisation, {"beta": 1}, {"betas": 1}, "did you mean betas?"),
    (id_transition, {"epochs": [5, 1]}, {"epochs": [1, 5]}, "in ascending order"),
    (id_transition, {"epochs": 0}, {"epochs": [0, 1]}, "of at least 1, which ends the training"),
    (pruning, {"data": "dsprites_like", "n_train": 0}, {"data": "dsprites_like", "n_train": 64}, "say how many"),
    (hierarchical_rates, {"models": "vae"}, {"models": "lvae"}, "one or more of ghvae or lvae"),
]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("case", PROBLEMS, ids=lambda case: case[3])
def test_parameters_are_right_once_changed_as_the_error_says(case):
    study, wrong, right, says = case
    with pytest.raises(SettingsError, match=re.escape(says)):
        study.Settings.at("quick", **wrong)
    assert study.Settings.at("quick", **right)


def test_a_decoder_can_be_moved_once_changed_as_the_error_says():
    with pytest.raises(ValueError, match=r"give model\.eval\(\)"):
        decoder(DenseVAE())
    assert decoder(DenseVAE().eval())
    with pytest.raises(ValueError, match="choose a smaller model"):
        decoder(DenseVAE(hidden=1_000).eval())
    assert decoder(DenseVAE(hidden=500).eval())
    model = DenseVAE((1, 4, 4)).eval()
    model.decoder = model.decoder[:-1]
    with pytest.raises(ValueError, match=r"end in nn\.Unflatten\(1, \(C, H, W\)\)"):
        decoder(model)
    model.decoder.append(torch.nn.Unflatten(1, (1, 4, 4)))
    assert decoder(model)


def commands() -> list[str]:
    """The commands on studies in the texts that people read, each in one line."""
    study_3 = ROOT / "notebooks" / "rate_generalisation.py"  # which has a shell function named train
    pages = [*ROOT.glob("*.md"), *(ROOT / "book").glob("*.md"), *(ROOT / "notebooks").glob("*.py"), study_3]
    texts = [re.sub(r"\\\n(# )?", "", page.read_text()) for page in pages]
    lines = [
        line for text in texts for line in re.findall(r"python -m vaekit (train \w+[^`\n#]*|export \w+[^`\n#]*)", text)
    ]
    runs = [run for text in texts for run in re.findall(r"papermill notebooks/(\w+\.ipynb[^`\n#]*)", text)]
    lines += [
        f"train rate_generalisation --scale paper {given}"
        for given in re.findall(r"^# train (-p .*)$", texts[-1], re.M)
    ]
    return sorted({" ".join(line.split()) for line in [*lines, *runs] if "..." not in line})


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("command", commands())
def test_a_command_that_a_text_names_is_one(command, monkeypatch, capsys):
    """Its study, scale and parameters are known; that the images are at hand is another's matter."""
    monkeypatch.setattr(base, "absence", lambda name: None)
    monkeypatch.setattr(base, "device_problem", lambda name: None)
    words = [word for word in shlex.split(command) if word not in ("&&", "make", "book", "$@")]
    given = {words[i + 1]: words[i + 2] for i, word in enumerate(words) if word == "-p"}
    given = {name: "[0, 1]" if value == "$SEEDS" else value for name, value in given.items()}
    given.pop("device", None)
    name = (words[0] if words[0].endswith(".ipynb") else words[1]).removesuffix(".ipynb")
    scale = words[words.index("--scale") + 1] if "--scale" in words else given.pop("scale", "quick")
    assert name in studies.NAMES
    assert studies.study(name).Settings.at(scale, **given)
