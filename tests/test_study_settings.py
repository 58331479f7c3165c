"""What all studies' settings share: they are made without a look at any image, and say what stands against a run."""

import builtins

import pytest
import torch

from vaekit import data, studies, sweep
from vaekit.data import DataError
from vaekit.settings import SettingsError


def test_all_image_sets_that_cannot_be_had_are_one_error_before_any_training(place, monkeypatch):
    study = studies.study("rate_generalisation")
    monkeypatch.setattr(sweep.train, "train_fleet", lambda *a, **how: pytest.fail("something was trained"))
    with pytest.raises(SettingsError) as caught:
        study.Settings.at("quick", data=["tetrominoes", "small_norb", "shapes3d"], n_train=10**6)
    files = [problem.split(" ")[0].rpartition("/")[2] for problem in caught.value.problems]
    assert files == ["small_norb.npz", "shapes3d.npz"]
    with pytest.raises(DataError) as caught:
        study.run(study.Settings.at("quick", data="tetrominoes", n_train=[10**6, 10**7]))
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert all("n_train is a whole number from 1 to 163,839" in line for line in lines)


@pytest.mark.parametrize("name", studies.NAMES)
def test_settings_are_made_without_reading_images(name, monkeypatch, tmp_path):
    def refuse(*arguments, **how):
        raise AssertionError("an image set was asked for")

    opened, real = [], builtins.open
    for module in (data.stored, data.derived, *data.names.MADE.values()):
        monkeypatch.setattr(module, "image_set", refuse)
    monkeypatch.setattr(torch, "from_numpy", refuse)
    monkeypatch.setattr(builtins, "open", lambda path, *a, **how: opened.append(str(path)) or real(path, *a, **how))
    monkeypatch.setenv("VAEKIT_RUNS", str(tmp_path / "runs"))
    settings = studies.study(name).Settings
    monkeypatch.setattr("vaekit.studies.base.absence", lambda name: None)  # as if every file were there
    for scale in (*settings.SCALES, "published"):
        chosen = settings.at(scale)
        assert chosen.source == ("results" if scale == "published" else "store")
        assert (chosen.store is None) == (scale == "published")
    assert not [path for path in opened if path.endswith(".npz")]


@pytest.mark.parametrize("name", studies.NAMES)
@pytest.mark.parametrize("scale", ["short", "paper"])
def test_a_scale_above_quick_never_takes_another_set_than_the_papers(place, monkeypatch, name, scale):
    """What is not at hand is one error that names each file, and the same with other files there."""
    settings = studies.study(name).Settings
    assert not any(map(callable, settings.SCALES[scale].values()))  # nothing depends on what is at hand
    wanted = settings.SCALES[scale]["data"]
    assert {*wanted} <= {*settings.SCALES["paper"]["data"]}
    absent = [set_ for set_ in wanted if not data.is_available(set_)]
    if not absent:
        assert settings.at(scale).data == wanted == ("tetrominoes",)
        return
    with pytest.raises(SettingsError) as caught:
        settings.at(scale)
    assert len(caught.value.problems) == len({data.about(set_).stored for set_ in absent})
    assert all("is not there" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("name", studies.NAMES)
def test_published_has_the_papers_values_and_stands_beside_the_scales(name):
    settings = studies.study(name).Settings
    assert "published" not in settings.SCALES
    published = settings.at("published")
    assert {option: getattr(published, option) for option in settings.SCALES["paper"]} == {
        option: value if isinstance(value, str | int) else tuple(value)
        for option, value in settings.SCALES["paper"].items()
    }
    with pytest.raises(SettingsError, match=rf"wanted {', '.join(settings.SCALES)} or published"):
        settings.at("publisht")
