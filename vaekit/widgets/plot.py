"""Stored members on a plot: what is chosen moves the point, the picture and the numbers together."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from vaekit.widgets.movable import Movable

_PNG = b"\x89PNG\r\n\x1a\n"
_SERIES = 4  # colours and marks there are


def curve(
    points: Sequence[Mapping[str, Any]],
    caption: str = "",
    x: str = "rate R (nats per image)",
    y: str = "distortion D (nats per image)",
    start: Mapping[str, Any] | None = None,
) -> Movable:
    """Members on a plot, without a kernel: choosing one moves a ring on its curve, its picture and its numbers.

    The last axis has a slider over its stored values, and the points along it are one curve; each axis before it has
    radio buttons, which choose the curve. A combination that is not stored is said so.

    Args:
        points: each a mapping. `axes` are values by name, e.g. {"depth": 3, "beta": 0.1}, the same names in each point.
            `series` are (x, y) by name in the units of the labels, e.g. {"train": (12.1, 70.2), "test": (12.4, 75.0)},
            four names at most; the first has the blue dots of training images, the second the orange squares of test
            images. `numbers` are texts by name, e.g. {"D (test), nats": "75.0 ± 0.3"}. `picture` is a PNG or None.
            `alt` says what the picture shows; without a picture it stands in its place.
        caption: a line below it: which members these are, and their budget.
        x: label of the horizontal axis, with its unit.
        y: label of the vertical axis, with its unit.
        start: the axes' values to begin with; None: those of the middle point.

    Errors: ValueError for no points, points without a common set of axes, two at one place, coordinates that are not
    finite, a picture that is no PNG or has no words, and a start that no slider reaches.
    """
    if not points:
        raise ValueError("there are no points to move over; give one at least")
    names = list(points[0]["axes"])
    if not names or any(list(point["axes"]) != names for point in points):
        raise ValueError(f"points differ in their axes; give each the same as the first, {names}")
    places = [[_plain(value) for value in point["axes"].values()] for point in points]
    if twice := next((place for i, place in enumerate(places) if place in places[:i]), None):
        raise ValueError(f"two points are at {_said(names, twice)}; give one for each place")
    columns = zip(*places, strict=True)
    axes = [{"name": name, "values": _ordered(values)} for name, values in zip(names, columns, strict=True)]
    begin = places[len(places) // 2] if start is None else [_plain(start.get(name)) for name in names]
    if any(value not in axis["values"] for axis, value in zip(axes, begin, strict=True)):
        raise ValueError(f"the start is {start}; give a stored value for each of {', '.join(names)}")
    series = list(dict.fromkeys(name for point in points for name in point["series"]))
    if not 1 <= len(series) <= _SERIES:
        raise ValueError(f"there are {len(series)} series; 1 to {_SERIES} can be told apart")
    made = [
        {
            "place": place,
            "series": [_pair(point["series"].get(name), _said(names, place)) for name in series],
            "numbers": [[str(name), str(text)] for name, text in point.get("numbers", {}).items()],
            **_picture(point.get("picture"), point.get("alt", ""), _said(names, place)),
        }
        for place, point in zip(places, points, strict=True)
    ]
    pairs = np.array([pair for point in made for pair in point["series"] if pair])
    if not len(pairs):
        raise ValueError("no point has coordinates; give one at least an (x, y)")
    made.sort(key=lambda point: [axis["values"].index(value) for axis, value in zip(axes, point["place"], strict=True)])
    for axis in axes:
        axis["labels"] = [_text(value) for value in axis["values"]]
    data = {"caption": caption, "axes": axes, "points": made, "series": series}
    data |= {"x": _scale(x, pairs[:, 0]), "y": _scale(y, pairs[:, 1])}
    moved = " and ".join(names)
    says = f"Sliders over {moved}: the point on the curve, its picture and its numbers follow."
    return Movable("curve", says, data, begin)


def _plain(value: Any) -> Any:
    """A value of pandas or numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers rising, all else in the order in which it first comes."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(value, int | float) for value in once) else once


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _said(names: Sequence[str], place: Sequence[Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(names, place, strict=True))


def _pair(pair: Sequence[float] | None, where: str) -> list[float] | None:
    if pair is None:
        return None
    x, y = (float(value) for value in pair)
    if not np.isfinite([x, y]).all():
        raise ValueError(f"the point at {where} is ({x}, {y}); leave out what is not finite")
    return [x, y]


def _picture(content: bytes | None, alt: str, where: str) -> dict[str, Any]:
    """A PNG as a data URI with the size to show it at: a small one enlarged."""
    if content is None:
        return {"picture": None, "alt": alt}
    if content[:8] != _PNG or not alt.strip():
        raise ValueError(f"the picture at {where} is no PNG or has no alt text; give both")
    width, height = struct.unpack(">II", content[16:24])
    times = max(1, round(400 / width))
    source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
    size = {"width": times * width, "height": times * height, "pixelated": times > 1}
    return {"picture": {"src": source, **size}, "alt": alt}


def _scale(label: str, values: np.ndarray) -> dict[str, Any]:
    """An axis of the plot: its range, a little wider than the values, and the ticks within."""
    room = 0.06 * (np.ptp(values) or 1)
    low, high = float(values.min() - room), float(values.max() + room)
    ticks = [float(tick) for tick in MaxNLocator(5).tick_values(low, high) if low <= tick <= high]
    return {"label": label, "low": low, "high": high, "ticks": [[tick, f"{tick:g}"] for tick in ticks]}
