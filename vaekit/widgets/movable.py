"""What can be moved without a kernel: one ES module, which JupyterLab and a page run alike."""

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import anywidget
import traitlets

_HERE = Path(__file__).parent
# One module from several files: playground.js and widget.js use what comes before them.
_FILES = ("network.js", "playground.js", "widget.js")
_MODULE = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in _FILES)
_PREVIEWED = 4  # rows of pictures
_KEPT = 1_000_000  # bytes of weights that a saved notebook holds a second time, as HTML
_PAGE, _STYLE = ((_HERE / name).read_text(encoding="utf-8") for name in ("page.js", "widget.css"))


class Live(anywidget.AnyWidget):
    """A `Movable` in JupyterLab. `value` is what its sliders stand at: setting it moves them.

    `training` is what a playground's kernel trains, or trained last, so that any view of it shows this: {} for nothing,
    else `key`, `letter` and `values` as they were asked for; whether it is `running` or was `stopped`; a line `say`;
    and `curve`, measured values by name at each "step" of "steps".
    """

    _esm = _MODULE
    _css = _STYLE
    kind = traitlets.Unicode().tag(sync=True)
    data = traitlets.Dict().tag(sync=True)
    value = traitlets.List().tag(sync=True)
    weights = traitlets.Dict().tag(sync=True)
    training = traitlets.Dict().tag(sync=True)


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
        kind: "decoder" or "playground", see `widget.js`.
        says: a sentence that names it, for who cannot see it or runs no JavaScript.
        data, value: its content, and where its sliders stand, as plain values for JSON.
        weights: what `network.js` asks for by name at the first touch. In JupyterLab they come beside the state, in
            `static()` in elements of their own, which the book puts into files beside its page.
        answer: what a kernel does for what the widget asks: `answer(live, message)`, in the kernel's main thread, which
            replies by `live.send(…)` with the message's `id`. A page has no kernel, and asks nothing.
    """

    def __init__(
        self,
        kind: str,
        says: str,
        data: Mapping[str, Any],
        value: Sequence[Any],
        weights: Mapping[str, bytes] | None = None,
        answer: Callable[[Live, dict[str, Any]], None] | None = None,
    ):
        self._state: dict[str, Any] = {"kind": kind, "data": {"says": says, **data}, "value": list(value)}
        self._weights, self._answer = dict(weights or {}), answer

    @cached_property
    def live(self) -> Live:
        """The anywidget, made at first use; `live.value` follows the sliders, and they follow it."""
        live = Live(**self._state, weights=self._weights)
        if self._answer:
            answer = self._answer
            live.on_msg(lambda _, message, __: answer(live, message))
        return live

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """JupyterLab's widget; and HTML for a notebook that is opened again, whose widgets no kernel holds any more."""
        bundle: Any = self.live._repr_mimebundle_(**options)  # (content, metadata)
        small = sum(map(len, self._weights.values())) < _KEPT
        again = self._html(self._preview()) if small else self._preview()
        return {**bundle[0], "text/html": again}, *bundle[1:]

    def _preview(self) -> str:
        """HTML that runs nothing: what a stored notebook shows, e.g. papermill's, until it is run or trusted."""
        data = self._state["data"]
        first = [f"data:image/png;base64,{data['first']}"] if data.get("first") else []
        sources = first + [strip["src"] for strip in data.get("strips", ())[:_PREVIEWED]]
        pictures = "".join(f'<p><img src="{html.escape(source)}" alt="" height="96"></p>' for source in sources)
        how = "To move it, run this cell, or trust the notebook (in the command palette: Trust Notebook)."
        return f"<p>{html.escape(data['says'])}</p>{pictures}<p><em>{how}</em></p>"

    def static(self) -> Page:
        """HTML with all that it needs in it: the state as JSON, the module, the style. Several may share a page."""
        says = html.escape(self._state["data"]["says"])
        return Page(self._html(f"<noscript>{says} To move it here, JavaScript must be on.</noscript>"))

    def _html(self, note: str) -> str:
        """The page's HTML; `note` stands where no script is run."""
        state = json.dumps(self._state, allow_nan=False).replace("<", "\\u003c")
        weights = "".join(
            f'<script type="text/plain" class="vaekit-weights" data-hash="{name}">'
            f"{base64.b64encode(content).decode()}</script>\n"
            for name, content in self._weights.items()
        )
        return (
            f'{weights}<div class="vaekit-widget mathjax_ignore">'
            f'{note}<script type="application/json">{state}</script></div>\n'
            f"<style>{_STYLE}</style>\n"
            f'<script type="module">\n{_MODULE}\n{_PAGE}</script>\n'
        )


def show(source: str, movable: Movable) -> Movable | Page:
    """What a notebook shows: from the source "results", whose page has no kernel, HTML; else what JupyterLab runs."""
    return movable.static() if source == "results" else movable
