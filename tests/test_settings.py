"""The one validator of settings: odd but good input, every kind of bad input, all of it in one error."""

import copy
import dataclasses
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from vaekit import settings
from vaekit.settings import SettingsError, canonical, nearest, option, spelled


def device_problem(device):
    return None if device == "cpu" else f"{device!r} is not on this machine; use 'cpu'"


@dataclass(frozen=True, kw_only=True)
class Settings(settings.Settings):
    betas: tuple[float, ...] = option("weights of the rate R in D + beta R", at_least=0)
    seeds: tuple[int, ...] = option("seed numbers", at_least=0, below=2**63)
    steps: int = option("training steps of every member", at_least=1)
    data: tuple[str, ...] = option("image sets", choices=("tetrominoes", "mnist", "fashion_mnist"))
    split: str = option("how images are divided", choices=("cv", "random", "checkerboard", "cd", "own"))
    depths: tuple[int, ...] = option("hidden layers", choices=(1, 3))
    sparsities: tuple[float, ...] = option("fractions of the weights", above=0, below=1)
    lr: float = option("learning rate", above=0, at_most=1, default=1e-3)
    device: str = option("cpu or cuda", check=device_problem)
    hidden: int = option("units of a hidden layer", at_least=1, parameter=False)

    QUICK: ClassVar = {
        "betas": (0.01, 0.1, 1),
        "seeds": (0, 1),
        "steps": 500,
        "data": "tetrominoes",
        "split": "cv",
        "depths": (1, 3),
        "sparsities": 0.5,
        "device": "cpu",
        "hidden": 64,
    }
    SCALES: ClassVar = {"quick": QUICK, "paper": QUICK | {"steps": 256_000, "hidden": 512}}

    def problems(self):
        if self.split == "own" and "tetrominoes" in self.data:
            yield "split: tetrominoes have no split of their own; use cv or random"


def problems(scale="quick", /, cls=Settings, **given) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        cls.at(scale, **given)
    return caught.value.problems


def test_a_scale_is_the_start_and_what_is_given_replaces_it():
    quick, paper = Settings.at("quick"), Settings.at("paper", seeds=3, betas=None)
    assert (quick.scale, quick.given, quick.steps, quick.hidden, quick.lr) == ("quick", frozenset(), 500, 64, 1e-3)
    assert quick.data == ("tetrominoes",)  # a scale's values are read as any others
    assert (paper.scale, paper.given, paper.seeds) == ("paper", {"seeds"}, (3,))
    assert (paper.betas, paper.steps, paper.hidden) == ((0.01, 0.1, 1.0), 256_000, 512)


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [
        ("betas", 2, (2.0,)),
        ("betas", "[1, 1e-3]", (1.0, 1e-3)),
        ("betas", [1, "1e-3"], (1.0, 1e-3)),  # what YAML makes of [1, 1e-3]
        ("betas", "1e-3", (1e-3,)),
        ("betas", " [ .1,\n 1 ,] ", (0.1, 1.0)),
        ("betas", '["0.25", "7E-1"]', (0.25, 0.7)),
        ("betas", (0.1 + 0.2, 1, 0.3, 1.0), (0.3, 1.0)),
        ("betas", "[2, 1, 2, 0, -0.0]", (2.0, 1.0, 0.0)),
        ("betas", np.linspace(0, 1, 3), (0.0, 0.5, 1.0)),
        ("betas", np.array(2), (2.0,)),
        ("betas", [np.float64(0.5), np.int32(2)], (0.5, 2.0)),
        ("seeds", 3, (3,)),
        ("seeds", range(3), (0, 1, 2)),
        ("seeds", "0-19", tuple(range(20))),
        ("seeds", "0-4,7", (0, 1, 2, 3, 4, 7)),
        ("seeds", " 0 - 2, 1-3 , 9 ", (0, 1, 2, 3, 9)),
        ("seeds", "[0-2, 7]", (0, 1, 2, 7)),
        ("seeds", ["0-2", 7], (0, 1, 2, 7)),
        ("depths", "1,3", (1, 3)),
        ("seeds", "5-5", (5,)),
        ("seeds", "[3.0, 1e2, 010]", (3, 100, 10)),
        ("seeds", str(2**63 - 1), (2**63 - 1,)),  # exact: not by way of a float
        ("seeds", np.arange(2, dtype=np.uint8), (0, 1)),
        ("steps", "500", 500),
        ("steps", 5e2, 500),
        ("steps", np.int64(7), 7),
        ("data", "mnist", ("mnist",)),
        ("data", "[mnist, 'tetrominoes', mnist]", ("mnist", "tetrominoes")),
        ("data", '["mnist"]', ("mnist",)),
        ("split", " 'random' ", "random"),
        ("split", np.str_("random"), "random"),
        ("depths", "3", (3,)),
        ("sparsities", "[0.9, 1e-3]", (0.9, 1e-3)),
        ("lr", "1", 1.0),
    ],
)
def test_good_input_that_looks_odd_is_taken(name, raw, value):
    read = getattr(Settings.at("quick", **{name: raw}), name)
    assert read == value
    plain = {tuple: tuple, int: int, float: float, str: str}[type(value)]
    assert type(read) is plain
    if plain is tuple:
        assert [type(item) for item in read] == [type(item) for item in value]
        assert "-0.0" not in map(str, read)


@pytest.mark.parametrize(
    ("name", "raw", "got"),
    [
        ("betas", -1, "-1"),
        ("betas", [0.1, -1, "x", 2], "-1 and 'x'"),
        ("betas", float("nan"), "nan"),
        ("betas", "nan", "'nan'"),
        ("betas", "[1, 1e400]", "'1e400'"),
        ("betas", [float("inf"), float("-inf")], "inf and -inf"),
        ("betas", "no", "'no'"),
        ("betas", "0,5", "'0,5'"),
        ("betas", "0-5", "'0-5'"),
        ("seeds", "5-3", "'5-3' (a range goes up: 3-5)"),
        ("seeds", "0-", "'0-' (a range has two ends: 0-4)"),
        ("seeds", "1-2-3", "'1-2-3' (a range has two ends: 0-4)"),
        ("seeds", "-1-3", "'-1-3' (a range has two ends: 0-4)"),
        ("seeds", "0-4,x", "'x'"),
        ("seeds", "x, 7, 4-0", "'x' and '4-0' (a range goes up: 0-4)"),
        ("seeds", "1.5-3", "'1.5-3'"),
        ("seeds", "0-9999999999999999999", "'0-9999999999999999999'"),
        ("seeds", "0-100000", "'0-100000' (more than 100,000 numbers)"),  # rather a slip than 100,001 seeds
        ("steps", "1-3", "'1-3'"),
        ("betas", "[1,,2]", "''"),
        ("betas", "[1, 2", "'[1, 2'"),
        ("betas", "", "''"),
        ("betas", True, "True"),
        ("betas", [[1]], "[1]"),
        ("betas", [None], "None"),
        ("betas", {1, 2}, "{1, 2}"),
        ("betas", {"a": 1}, "{'a': 1}"),
        ("betas", 1j, "1j"),
        ("betas", [], "an empty list"),
        ("betas", " [] ", "an empty list"),
        ("betas", (), "an empty list"),
        ("betas", np.ones((2, 2)), "[1.0, 1.0] and [1.0, 1.0]"),
        ("betas", [-1, -2, -3, -4], "-1 and -2 and -3 and more"),
        ("seeds", 3.5, "3.5"),
        ("seeds", "3.5", "'3.5'"),
        ("seeds", [True, np.True_], "True and True"),
        ("seeds", -1, "-1"),
        ("seeds", 2**63, str(2**63)),
        ("seeds", float("inf"), "inf"),
        ("seeds", "1:30", "'1:30'"),
        ("steps", 0, "0"),
        ("steps", [500], "[500]"),
        ("steps", "[500]", "['500']"),
        ("steps", float("nan"), "nan"),
        ("data", "fasion_mnist", "'fasion_mnist' (did you mean fashion_mnist?)"),
        ("data", ["MNIST", "photos"], "'MNIST' (did you mean mnist?) and 'photos'"),
        ("data", 3, "3"),
        ("split", ["cv"], "['cv']"),
        ("split", "ramdom", "'ramdom' (did you mean random?)"),
        ("depths", [1, 2], "2"),
        ("sparsities", 0, "0"),
        ("sparsities", 1, "1"),
        ("sparsities", 1 - 1e-15, "0.999999999999999"),  # in the canonical form it is 1
        ("lr", 0, "0"),
        ("lr", 1.5, "1.5"),
        ("lr", 10**400, "1000"),
        ("device", 0, "0"),
    ],
)
def test_bad_input_is_refused_with_what_came(name, raw, got):
    (problem,) = problems(**{name: raw})
    start, wanted = problem.split("; wanted ")
    assert start.startswith(f"{name} (")
    assert f": got {got}" in start
    assert wanted == Settings.options()[name].wanted


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("betas", "one or more finite numbers, each at least 0"),
        ("seeds", "one or more whole numbers or ranges such as 0-4, each at least 0 and below 9223372036854775808"),
        ("steps", "a whole number, at least 1"),
        ("data", "one or more of tetrominoes, mnist or fashion_mnist"),
        ("split", "cv, random, checkerboard, cd or own"),
        ("lr", "a finite number, above 0 and at most 1"),
        ("device", "a name"),
        ("scale", "quick or paper"),
    ],
)
def test_what_is_wanted_is_said_in_words(name, words):
    assert Settings.options()[name].wanted == words


def test_every_problem_is_in_one_error():
    found = problems("quik", betas=-1, beta=2, data="[]", split="own", device="cuda", hiddden=None)
    assert found == (
        "beta: no such parameter (did you mean betas?)",
        "hiddden: no such parameter; there are scale, betas, seeds, steps, data, split, depths, sparsities, lr, device",
        "scale (where all that is not given comes from): got 'quik' (did you mean quick?); wanted quick or paper",
        "betas (weights of the rate R in D + beta R): got -1; wanted one or more finite numbers, each at least 0",
        "data (image sets): got an empty list; wanted one or more of tetrominoes, mnist or fashion_mnist",
        "device: 'cuda' is not on this machine; use 'cpu'",
    )
    error = SettingsError(*found)
    assert str(error).splitlines() == ["6 problems:", *(f"- {problem}" for problem in found)]
    assert str(SettingsError("one")) == "one"
    assert copy.copy(error).problems == found  # by the way that also brings it back whole from a worker process


def test_a_scale_can_come_with_the_names_and_must_come():
    assert Settings.at(scale="paper", steps="7") == Settings.at("paper", steps=7)
    assert Settings.at("quick", scale="paper").steps == 256_000
    assert Settings.at(scale="quick").given == frozenset()
    for scale in (None, 3, ["quick", "paper"], ""):
        (problem,) = problems(scale)
        assert f"got {scale!r}; wanted quick or paper" in problem


def test_names_that_are_no_parameters():
    (problem,) = problems(hidden=8)
    assert problem.startswith("hidden: set by the scale alone; there are scale, betas,")
    assert problems(cls=Settings, given=1, self=2)[0].startswith("given: no such parameter")
    assert Settings.at("quick", steps=None).steps == 500
    assert problems(step=None) == ("step: no such parameter (did you mean steps?)",)  # even with nothing in it


def test_fields_are_compared_only_when_each_is_right():
    own = "split: tetrominoes have no split of their own; use cv or random"
    assert problems(split="own") == (own,)
    assert problems(split="own", data=["mnist", "tetrominoes"]) == (own,)
    assert Settings.at("quick", split="own", data="mnist").split == "own"
    (problem,) = problems(split="own", steps=0)
    assert problem.startswith("steps")


def test_direct_construction_is_checked_alike():
    values = Settings.QUICK | {"betas": "[1, 1e-3, 1.0]", "seeds": 3}
    made = Settings(**values)
    assert (made.scale, made.betas, made.seeds, made.lr) == (None, (1.0, 1e-3), (3,), 1e-3)
    with pytest.raises(SettingsError) as caught:
        Settings(**values | {"betas": -1, "steps": True, "hidden": 0, "scale": "quik"})
    assert [problem.split(" ")[0] for problem in caught.value.problems] == ["scale", "betas", "steps", "hidden"]
    with pytest.raises(SettingsError, match=r"^data .*got 5;.* or fashion_mnist$"):
        Settings(**values | {"data": 5, "split": "own"})  # the fields are not compared
    with pytest.raises(SettingsError, match="no split of their own"):
        Settings(**values | {"split": "own"})


def test_replace_keeps_scale_and_checks_again():
    quick = Settings.at("quick", seeds=3)
    small = dataclasses.replace(quick, hidden="8")
    assert (small.hidden, small.scale, small.given, small.seeds) == (8, "quick", {"seeds"}, (3,))
    with pytest.raises(SettingsError, match=r"^hidden .*got 0"):
        dataclasses.replace(quick, hidden=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        quick.hidden = 8


def test_settings_are_equal_by_their_values():
    assert Settings.at("quick", seeds="[0, 1]") == Settings.at("quick")
    assert Settings.at("quick", seeds=1) != Settings.at("quick")
    assert len({Settings.at("quick"), Settings.at("quick", betas=[0.01, 0.1, 1])}) == 1


def test_an_unknown_limit_is_the_studys_mistake():
    with pytest.raises(TypeError, match="at_lest"):
        option("steps", at_lest=1)


def test_canonical_floats():
    assert canonical(0.1 + 0.2) == canonical(0.3) == 0.3
    assert str(canonical(-0.0)) == "0.0"
    assert canonical(1 / 3) == 0.333333333333
    assert canonical(canonical(1 / 7)) == canonical(1 / 7)
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite"):
            canonical(value)


def test_nearest():
    assert nearest("n_trian", ["n_test", "n_train", "steps"]) == " (did you mean n_train?)"
    assert nearest("elbo", ["ELBO"]) == nearest("Elbo", ["ELBO"]) == " (did you mean ELBO?)"
    assert nearest("learning", ["steps"]) == ""


def test_the_standard_library_is_enough():
    """The module, run from its file, imports nothing else: not even YAML for a text with a list."""
    path = Path(settings.__file__)
    code = f"""
import runpy, sys
before = set(sys.modules)
names = runpy.run_path({str(path)!r})
assert names["Option"](meaning="m", kind=float, several=True).read("betas", "[1, 1e-3]") == ((1.0, 1e-3), [])
print(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("value", "text"),
    [((3,), "3"), ((1, 5), "'[1, 5]'"), (tuple(range(20)), "0-19"), ("cd", "cd"), ((0, 1, 3, 4), "'[0, 1, 3, 4]'")],
)
def test_a_command_takes_what_it_is_given(value, text):
    assert spelled({"n_train": value}) == f" -p n_train {text}"
    assert spelled({"n_train": value, "data": "mnist"}) == f" -p n_train {text} -p data mnist"
