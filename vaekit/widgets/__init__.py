"""Things to move: in JupyterLab, and in a page that has no kernel. What is moved in a page trains nothing.

`decoder` and `playground` run in the reader's browser: one ES module is JupyterLab's through anywidget and a page's by
`Movable.static`. All sliders are native, so Tab reaches them and the arrow keys move them.
"""

from vaekit.widgets.movable import Live, Movable, Page, show
from vaekit.widgets.network import decoder, packed
from vaekit.widgets.playground import codes_of, playground, strip

__all__ = ["Live", "Movable", "Page", "codes_of", "decoder", "packed", "playground", "show", "strip"]
