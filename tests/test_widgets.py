"""The explorer: what it shows follows its sliders, nothing is trained by moving them, and a book gets a figure."""

import ipywidgets
import pytest
from matplotlib.figure import Figure
from tiny import settings

from vaekit import fleet, sweep
from vaekit.figures import panels
from vaekit.widgets import explore, explorer

POINTS = [{"beta": beta, "step": step} for beta in (0.1, 1.0, 3.0) for step in (10, 20)]


@pytest.fixture
def calls(monkeypatch):
    for module in (fleet, sweep):
        monkeypatch.setattr(module, "train_fleet", lambda *a, **k: pytest.fail("moving a slider trained"))
    return []


@pytest.fixture
def draw(calls):
    def draw(beta, step):
        calls.append((beta, step))
        figure, axes = panels(1, 1, 1, 1)
        axes[0, 0].plot([0, beta], [0, step])
        return figure, f"<beta> {beta} after {step}"

    return draw


def test_the_picture_follows_the_sliders(draw, calls):
    box = explorer(draw, POINTS)
    beta, step, picture = box.children
    assert isinstance(beta, ipywidgets.SelectionSlider)  # which the keyboard moves
    assert (beta.description, [value for _, value in beta.options]) == ("beta", [0.1, 1.0, 3.0])
    shown = {picture.value}
    assert "&lt;beta&gt;" in picture.value
    assert 'alt="' in picture.value
    for value in (0.1, 3.0):
        beta.value = value
        shown.add(picture.value)
    step.value = 20 if step.value == 10 else 10
    shown.add(picture.value)
    assert len(shown) == 4
    assert len(calls) == 4
    beta.value = 0.1
    beta.value = 3.0
    assert len(calls) == 5  # what was drawn once is kept


def test_a_combination_that_nobody_trained_is_said(draw):
    box = explorer(draw, POINTS[1:])
    beta, step, picture = box.children
    beta.value, step.value = 0.1, 10
    assert "no trained member at beta 0.1, step 10" in picture.value


def test_points_of_other_axes_are_refused(draw):
    with pytest.raises(ValueError, match=r"\['beta', 'step'\]"):
        explorer(draw, [*POINTS, {"beta": 1.0}])


def test_a_book_gets_a_figure_and_a_notebook_the_widget(draw):
    assert isinstance(explore(settings("published"), draw, POINTS), Figure)
    assert isinstance(explore(settings("quick"), draw, POINTS), ipywidgets.VBox)
    assert explore(settings("quick"), draw, []) is None
