"""Things to move: in JupyterLab, and in a page that has no kernel. Nothing is trained by moving them.

`decoder` and `curve` run in the reader's browser: one ES module, `widget.js`, is JupyterLab's through anywidget and a
page's by `Movable.static`. All sliders are native, so Tab reaches them and the arrow keys move them.
"""

from vaekit.widgets.movable import Movable, Page, show
from vaekit.widgets.network import decoder
from vaekit.widgets.plot import by_budget, curve, grid_png

__all__ = ["Movable", "Page", "by_budget", "curve", "decoder", "grid_png", "show"]
