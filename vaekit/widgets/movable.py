"""What can be moved without a kernel: one ES module, `widget.js`, which JupyterLab and a page run alike."""

import html
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_MODULE, _PAGE, _STYLE = (
    Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("widget.js", "page.js", "widget.css")
)


class Live(anywidget.AnyWidget):
    """A `Movable` in JupyterLab. `value` is what its sliders stand at: setting it moves them."""

    _esm = _MODULE
    _css = _STYLE
    kind = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    value = traitlets.List().tag(sync=True)


class Page:
    """HTML that needs no kernel and asks no host for anything: what a cell of a built page shows."""

    def __init__(self, content: str):
        self._content = content

    def _repr_html_(self) -> str:
        return self._content


class Movable:
    """Something to move. JupyterLab shows it as an anywidget, `live`; `static()` is the same for a page.

    The anywidget is made where it is shown: a built page would carry its state, which no page can run.

    Args:
        kind: "decoder" or "curve", see `widget.js`.
        says: a sentence that names it, for who cannot see it or runs no JavaScript.
        data, value: its content, and where its sliders stand, as plain values for JSON.
    """

    def __init__(self, kind: str, says: str, data: Mapping[str, Any], value: Sequence[Any]):
        self._state: dict[str, Any] = {"kind": kind, "data": {"says": says, **data}, "value": list(value)}

    @cached_property
    def live(self) -> Live:
        """The anywidget, made at first use; `live.value` follows the sliders, and they follow it."""
        return Live(**self._state)

    def _repr_mimebundle_(self, **options: Any) -> Any:
        return self.live._repr_mimebundle_(**options)

    def static(self) -> Page:
        """HTML with all that it needs in it: the state as JSON, the module, the style. Several may share a page."""
        state = json.dumps(self._state, allow_nan=False).replace("<", "\\u003c")
        says = html.escape(self._state["data"]["says"])
        return Page(
            f'<div class="vaekit-widget mathjax_ignore">'
            f"<noscript>{says} To move it here, JavaScript must be on.</noscript>"
            f'<script type="application/json">{state}</script></div>\n'
            f"<style>{_STYLE}</style>\n"
            f'<script type="module">\n{_MODULE}\n{_PAGE}</script>\n'
        )


def show(source: str, movable: Movable) -> Movable | Page:
    """What a notebook shows: from the source "results", whose page has no kernel, HTML; else what JupyterLab runs."""
    return movable.static() if source == "results" else movable
