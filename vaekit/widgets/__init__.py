"""Things to move: in JupyterLab, and some of them in a page that has no kernel. Nothing is trained by moving them.

`decoder` and `curve` run in the reader's browser, here and in the built book alike: one ES module, `widget.js`, is
JupyterLab's through anywidget and a page's by `Movable.static`. `explore` asks the kernel: a study gives a function
that draws one point from the tidy table and from stored weights, and what was drawn once is kept. All sliders are
native, so Tab reaches them and the arrow keys move them.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
from matplotlib.figure import Figure

from vaekit.settings import Settings
from vaekit.widgets.movable import Movable, Page, show
from vaekit.widgets.network import decoder
from vaekit.widgets.plot import curve

__all__ = ["Movable", "Page", "curve", "decoder", "explore", "explorer", "show"]

Draw = Callable[..., tuple[Figure, str]]


def explore(chosen: Settings, draw: Draw, points: Sequence[Mapping[str, Any]]) -> ipywidgets.Widget | Figure | None:
    """What a notebook shows at its end: the explorer, or, in a book that has no kernel, its middle point as a figure.

    Args:
        chosen: the notebook's settings; at scale "published" the page is static.
        draw: draw(**point) -> (figure, a sentence that says what it shows).
        points: what can be chosen, each a value by axis, e.g. [{"beta2": 0.1, "beta1": 1.0}, …]. Without any there is
            nothing to show, and None comes back.
    """
    if not points:
        return None
    if chosen.scale == "published":
        return draw(**points[len(points) // 2])[0]
    return explorer(draw, points)


def explorer(draw: Draw, points: Sequence[Mapping[str, Any]]) -> ipywidgets.VBox:
    """A slider for each axis of `points`, and below them the picture and the sentence that `draw` gives.

    A combination that no point has is said so, in place of the picture. Errors: ValueError for points without a common
    set of axes.
    """
    axes = list(points[0])
    if any(list(point) != axes for point in points):
        raise ValueError(f"points differ in their axes; give each the same as the first, {axes}")
    sliders = {name: _slider(name, sorted({point[name] for point in points})) for name in axes}
    there = {tuple(point.values()) for point in points}
    picture = ipywidgets.HTML()
    drawn: dict[tuple, str] = {}

    def show(change: object = None) -> None:
        place = {name: slider.value for name, slider in sliders.items()}
        found = tuple(place.values())
        if found not in there:
            said = ", ".join(f"{name} {value:g}" for name, value in place.items())
            picture.value = f"<p>There is no trained member at {html.escape(said)}.</p>"
            return
        if found not in drawn:
            drawn[found] = _page(*draw(**place))
        picture.value = drawn[found]

    middle = points[len(points) // 2]
    for name, slider in sliders.items():
        slider.value = middle[name]
        slider.observe(show, "value")
    show()
    return ipywidgets.VBox([*sliders.values(), picture])


def _slider(name: str, values: list) -> ipywidgets.SelectionSlider:
    options = [(f"{value:g}" if isinstance(value, int | float) else str(value), value) for value in values]
    return ipywidgets.SelectionSlider(
        options=options,
        description=name,
        continuous_update=False,  # a picture a value, not one for each pixel of the way
        style={"description_width": "8em"},
        layout={"width": "min(30em, 95%)"},
    )


def _page(figure: Figure, sentence: str) -> str:
    """A figure as an image with its sentence, as alternative text and below it."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=110)
    data = base64.b64encode(content.getvalue()).decode()
    said = html.escape(sentence)
    return f'<img src="data:image/png;base64,{data}" alt="{said}" style="max-width: 100%"><p>{said}</p>'
