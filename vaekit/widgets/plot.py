"""Stored members on a plot: what is chosen moves the point, the picture and the numbers together."""

import base64
import io
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vaekit.store import ImageGrid
from vaekit.store.table import distinct
from vaekit.widgets.movable import Movable, Page, show

_PNG = b"\x89PNG\r\n\x1a\n"
_SERIES = 4  # colours and marks there are


def curve(
    points: Sequence[Mapping[str, Any]],
    caption: str = "",
    x: str = "rate R (nats per image)",
    y: str = "distortion D (nats per image)",
    start: Mapping[str, Any] | None = None,
    diagonals: str = "",
    series: Sequence[str] = (),
) -> Movable:
    """Members on a plot, without a kernel: choosing one moves a ring on its curve, its picture and its numbers.

    The last axis has a slider, and the points along it are one curve. Each axis before it has radio buttons, or a list
    where its values are long texts, which choose the curve. A slider stops at the values of its curve alone. Curves
    that differ in the axis before the last share the ranges of the plot; those that are not chosen lie faintly behind.
    Half a second after the last move a screen reader is told the point's sentence.

    Args:
        points: mappings. `axes` are values by name, e.g. {"depth": 3, "beta": 0.1}, the same names in all points.
            `series` are (x, y) by name in the units of the labels, e.g. {"train": (12.1, 70.2), "test": (12.4, 75.0)},
            or (x, y, sd of x, sd of y), which are drawn as bars; four names at most. `numbers` are texts by name, e.g.
            {"D (test), nats": "75.0 ± 0.3"}. `picture` is a PNG or None; `alt` its caption, or what stands in its
            place. `says` is the sentence for who cannot see the plot; without it, the axes and the numbers.
        caption: a line below it: which members these are, and their budget.
        x, y: labels of the axes, with their units.
        start: the axes' values to begin with; None: those of the middle point.
        series: the names of the series in the order of their looks; the others come behind.
        diagonals: what x + y is, e.g. "D + R", for lines of equal sum behind the curves; "" for none.

    Raises:
        ValueError: no points, points without a common set of axes, two at one place, coordinates that are not finite, a
            picture that is no PNG or has no words, or a start that no slider reaches.
    """
    if not points:
        raise ValueError("there are no points to move over; give one at least")
    names = list(points[0]["axes"])
    if not names or any(list(point["axes"]) != names for point in points):
        raise ValueError(f"points differ in their axes; give each the same as the first, {names}")
    places = [tuple(_plain(value) for value in point["axes"].values()) for point in points]
    for place, times in Counter(places).items():
        if times > 1:
            raise ValueError(f"two points are at {_in_words(names, place)}; give one for each place")
    columns = zip(*places, strict=True)
    axes = [{"name": name, "values": _ordered(values)} for name, values in zip(names, columns, strict=True)]
    begin = places[len(places) // 2] if start is None else tuple(_plain(start.get(name)) for name in names)
    if any(value not in axis["values"] for axis, value in zip(axes, begin, strict=True)):
        raise ValueError(f"the start is {start}; give a stored value for each of {', '.join(names)}")
    drawn = dict.fromkeys(name for point in points for name in point["series"])
    series = [*(name for name in series if name in drawn), *(name for name in drawn if name not in series)]
    if not 1 <= len(series) <= _SERIES:
        raise ValueError(f"there are {len(series)} series; 1 to {_SERIES} can be told apart")
    ranks = [{value: rank for rank, value in enumerate(axis["values"])} for axis in axes]
    curves: dict[tuple, dict[str, None]] = defaultdict(dict)  # the names of the numbers that a curve's points have
    for place, point in zip(places, points, strict=True):
        curves[place[:-1]] |= dict.fromkeys(point.get("numbers", {}))
    numbers = list(dict.fromkeys(name for names_of_curve in curves.values() for name in names_of_curve))
    packed = []
    for place, point in zip(places, points, strict=True):
        # Places as ranks and numbers by the place of their name: what is long is written once, not for every point.
        texts = {name: point.get("numbers", {}).get(name, "–") for name in curves[place[:-1]]}
        ranked = [rank[value] for rank, value in zip(ranks, place, strict=True)]
        numbered = [[numbers.index(name), str(text)] for name, text in texts.items()]
        packed.append({"place": ranked, "numbers": numbered} | _packed(point, _in_words(names, place), series))
    packed.sort(key=lambda point: point["place"])
    if not any(pair for point in packed for pair in point["series"]):
        raise ValueError("no point has coordinates; give one at least an (x, y)")
    for axis in axes:
        axis["labels"] = [_text(value) for value in axis["values"]]
    plots: dict[tuple, list[list[float]]] = defaultdict(list)  # by the ranks of all axes but the last two
    for point in packed:
        plots[tuple(point["place"][:-2])] += filter(None, point["series"])
    data = {"caption": caption, "axes": axes, "points": packed, "series": series, "numbers": list(map(str, numbers))}
    data |= {"x": x, "y": y, "plots": [_plot(of, pairs, diagonals) for of, pairs in plots.items()]}
    moved = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    says = f"Choose {moved}: the point on the curve, its picture and its numbers follow."
    return Movable("curve", says, data, list(begin))


def by_budget(
    source: str,
    budgets: Iterable[tuple[str, Iterable[Mapping[str, Any]]]],
    start: Mapping[str, Any] | None = None,
    **how: Any,
) -> Movable | Page:
    """A study's explorer of several budgets: one `curve`, whose first axis chooses the budget.

    Where there is one budget, its label is the caption. Where no point has coordinates, a sentence says so.

    Args:
        source: that of the settings, see `show`.
        budgets: their labels and points, as `curve` takes them.
        start: the axes' values to begin with in the first budget; None: those of its middle point.
        how: for `curve`.
    """
    groups = [(label, list(points)) for label, points in budgets]
    if not any(point["series"] for _, points in groups for point in points):
        return Page("<p>There is nothing to move through: no member was trained to its end.</p>")
    first = groups[0][1]
    begin: Mapping[str, Any] = start or first[len(first) // 2]["axes"]
    if len(groups) == 1:
        return show(source, curve(first, caption=groups[0][0], start=begin, **how))
    labels = distinct([label for label, _ in groups])
    points = [
        {**point, "axes": {"budget": label, **point["axes"]}}
        for label, (_, own) in zip(labels, groups, strict=True)
        for point in own
    ]
    return show(source, curve(points, start={"budget": labels[0], **begin}, **how))


def grid_png(grid: ImageGrid) -> bytes:
    """A grid of pictures as the PNG of a point: row by row, a white pixel between two of them."""
    tiles = np.pad(grid.images, [(0, 0), (0, 0), (0, 1), (0, 1), (0, 0)], constant_values=255)
    rows, columns, height, width, channels = tiles.shape
    pixels = tiles.swapaxes(1, 2).reshape(rows * height, columns * width, channels)
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(content, "png", optimize=True)
    return content.getvalue()


def _packed(point: Mapping[str, Any], where: str, series: Sequence[str]) -> dict[str, Any]:
    """A point's series, words and picture, as `widget.js` takes them."""
    return {
        "series": [_pair(point["series"].get(name), where) for name in series],
        "says": point.get("says") or f"{where}: {_listed(point.get('numbers', {}))}",
        **_picture(point.get("picture"), point.get("alt", ""), where),
    }


def _plain(value: Any) -> Any:
    """A value of pandas or numpy as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers rising, all else in the order in which it first comes."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(value, int | float) for value in once) else once


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _in_words(names: Sequence[str], place: Sequence[Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(names, place, strict=True))


def _listed(numbers: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {text}" for name, text in numbers.items())


def _pair(pair: Sequence[float] | None, where: str) -> list[float] | None:
    """x, y and the standard deviations of both, zero where they are not given."""
    if pair is None:
        return None
    x, y, *spread = (float(value) for value in pair)
    if not np.isfinite([x, y, *spread]).all():
        raise ValueError(f"the point at {where} is {tuple(pair)}; leave out what is not finite")
    return [x, y, *(spread or (0.0, 0.0))]


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


def _plot(of: Sequence[int], pairs: Sequence[Sequence[float]], diagonals: str) -> dict[str, Any]:
    """The ranges and the diagonals of the curves that share a plot."""
    ends = np.array(pairs).reshape(-1, 4)
    x, y = (_scale(ends[:, i] - ends[:, i + 2], ends[:, i] + ends[:, i + 2]) for i in (0, 1))
    lines, apart = _diagonals(x, y) if diagonals else ([], 0)
    legend = f"equal {diagonals}, {apart:g} apart" if lines else ""
    return {"of": list(of), "x": x, "y": y, "diagonals": lines, "legend": legend}


def _scale(low: np.ndarray, high: np.ndarray) -> dict[str, Any]:
    """An axis of the plot: its range, a little wider than the values with their bars, and the ticks within."""
    least, most = (float(low.min()), float(high.max())) if len(low) else (0.0, 1.0)
    room = 0.06 * ((most - least) or 1)
    least, most = least - room, most + room
    ticks = [
        float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(least, most) if least <= tick <= most
    ]
    return {"low": least, "high": most, "ticks": [[tick, f"{tick:g}"] for tick in ticks]}


def _diagonals(x: Mapping[str, Any], y: Mapping[str, Any]) -> tuple[list[list[float]], float]:
    """Lines of equal x + y from edge to edge of the plot, each as x, y, x, y, and how far apart their sums are."""
    low, high = x["low"] + y["low"], x["high"] + y["high"]
    sums = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high)
    within = [float(total) for total in sums if low < total < high]
    ends = [(max(x["low"], t - y["high"]), min(x["high"], t - y["low"]), t) for t in within]
    return [[a, t - a, b, t - b] for a, b, t in ends], float(sums[1] - sums[0])
