"""Stored members on a plot: what is chosen moves the point, the picture and the numbers together."""

import base64
import io
import math
import struct
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from vaekit.store import ImageGrid
from vaekit.store.table import distinct
from vaekit.widgets.movable import Movable, Page, show

_PNG = b"\x89PNG\r\n\x1a\n"
_SERIES = 4  # colours and marks there are
_FAR = 1e300  # beyond it a range overflows


def curve(
    points: Iterable[Mapping[str, Any]],
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
        points: mappings. `axes` are values by name, e.g. {"depth": 3, "beta": 0.1}, the same names in all points:
            texts, finite numbers, True, False, None, or tuples of them, which are shown as texts.
            `series` are (x, y) by name in the units of the labels, e.g. {"train": (12.1, 70.2), "test": (12.4, 75.0)},
            or (x, y, sd of x, sd of y), which are drawn as bars; four names at most. `numbers` are texts by name, e.g.
            {"D (test), nats": "75.0 ± 0.3"}. `picture` is a PNG or None; `alt` its caption, or what stands in its
            place. `says` is the sentence for who cannot see the plot; without it, the axes and the numbers.
        caption: a line below it: which members these are, and their budget.
        x, y: labels of the axes, with their units.
        start: the axes' values to begin with, each of a stored point, also where none has all of them; None: those of
            the middle point.
        series: the names of the series in the order of their looks; the others come behind.
        diagonals: what x + y is, e.g. "D + R", for lines of equal sum behind the curves; "" for none.

    Raises:
        ValueError: no points, points without a common set of axes, an axis with a value of another kind or with two
            that are shown alike, two points at one place, coordinates that are not finite, a picture that is no PNG or
            has no words, or a start that no slider reaches.
    """
    points = list(points)
    if not points:
        raise ValueError("there are no points to move over; give one at least")
    names = list(points[0].get("axes", {}))
    if not names or any(point.get("axes", {}).keys() != {*names} for point in points):
        raise ValueError(f"points differ in their axes; give each the same as the first, {names}")
    if any("series" not in point for point in points):
        raise ValueError("a point has no series; give each a mapping of them, {} for one without coordinates")
    places = [tuple(_stop(name, point["axes"][name]) for name in names) for point in points]
    for name, values in zip(names, zip(*places, strict=True), strict=True):
        _check_apart(name, values)
    for place, times in Counter(places).items():
        if times > 1:
            raise ValueError(f"two points are at {_in_words(names, place)}; give one for each place")
    columns = zip(*places, strict=True)
    axes = [{"name": name, "values": _ordered(values)} for name, values in zip(names, columns, strict=True)]
    ranks = [{value: rank for rank, value in enumerate(axis["values"])} for axis in axes]
    begin = places[len(places) // 2]
    if start is not None:
        begin = [_stop(name, start[name]) for name in names if name in start]
        if len(begin) < len(names) or any(value not in rank for value, rank in zip(begin, ranks, strict=True)):
            raise ValueError(f"the start is {start}; give a stored value for each of {', '.join(names)}")
    begin = [axis["values"][rank[value]] for axis, rank, value in zip(axes, ranks, begin, strict=True)]
    drawn = dict.fromkeys(name for point in points for name in point["series"])
    series = [*(name for name in series if name in drawn), *(name for name in drawn if name not in series)]
    if not 1 <= len(series) <= _SERIES:
        raise ValueError(f"there are {len(series)} series; 1 to {_SERIES} can be told apart")
    curves: dict[tuple, dict[str, None]] = defaultdict(dict)  # the names of the numbers that a curve's points have
    for place, point in zip(places, points, strict=True):
        curves[place[:-1]] |= dict.fromkeys(point.get("numbers", {}))
    names_of_numbers = dict.fromkeys(name for names_of_curve in curves.values() for name in names_of_curve)
    numbers = {name: number for number, name in enumerate(names_of_numbers)}
    packed = []
    for place, point in zip(places, points, strict=True):
        # Places as ranks and numbers by the place of their name: what is long is written once, not for every point.
        texts = {name: point.get("numbers", {}).get(name, "–") for name in curves[place[:-1]]}
        ranked = [rank[value] for rank, value in zip(ranks, place, strict=True)]
        numbered = [[numbers[name], str(text)] for name, text in texts.items()]
        packed.append({"place": ranked, "numbers": numbered} | _packed(point, _in_words(names, place), series))
    packed.sort(key=lambda point: point["place"])
    if not any(pair for point in packed for pair in point["series"]):
        raise ValueError("no point has coordinates; give one at least an (x, y)")
    for axis in axes:
        axis["labels"] = _labels(axis["values"])
    plots: dict[tuple, list[list[float]]] = defaultdict(list)  # by the ranks of all axes but the last two
    for point in packed:
        plots[tuple(point["place"][:-2])] += filter(None, point["series"])
    data = {"caption": caption, "axes": axes, "points": packed, "series": series, "numbers": list(map(str, numbers))}
    data |= {"x": x, "y": y, "plots": [_plot(of, pairs, diagonals) for of, pairs in plots.items()]}
    moved = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    says = f"Choose {moved}: the point on the curve, its picture and its numbers follow."
    return Movable("curve", says, data, begin)


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
    groups = [(label, own) for label, points in budgets if (own := list(points))]
    if not any(point.get("series") for _, points in groups for point in points):
        return Page("<p>There is nothing to move through: no member was trained to its end.</p>")
    first = groups[0][1]
    begin: Mapping[str, Any] = start or first[len(first) // 2].get("axes", {})
    if len(groups) == 1:
        return show(source, curve(first, caption=groups[0][0], start=begin, **how))
    if any("budget" in point.get("axes", {}) for _, points in groups for point in points):
        raise ValueError("an axis is called budget, as the one that chooses the budget is; give it another name")
    labels = distinct([label for label, _ in groups])
    points = [
        {**point, "axes": {"budget": label, **point.get("axes", {})}}
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
        **_picture(point.get("picture"), point.get("alt") or "", where),
    }


def _stop(name: str, value: Any) -> str | int | float | None:
    """A value of an axis as a page holds it: Python's own, not pandas's or numpy's; as a text what JSON has not."""
    value = value.item() if isinstance(value, np.generic) else value
    match value:
        case None | str() | bool():
            return value
        case int() if abs(value) < 2**53:  # a page knows larger ones by their first digits alone
            return value
        case float() if math.isfinite(value):
            return value
        case int():
            return f"{value}"
        case tuple() | list():
            return f"({', '.join(_text(_stop(name, part)) for part in value)})"
    raise ValueError(
        f"{name} is {value!r} at a point; give a text, a finite number, True, False, None or a tuple of such"
    )


def _check_apart(name: str, values: Sequence[Any]) -> None:
    """Raise ValueError for two values of an axis that are one place, as True and 1, or shown alike, as "1" and 1."""
    once = [*{(isinstance(value, bool), value): value for value in values}.values()]
    labels = _labels(once)
    if len({*once}) < len(once) or len({*labels}) < len(once):
        shown = zip(once, labels, strict=True)
        one, other = next((a, b) for (a, x), (b, y) in combinations(shown, 2) if a == b or x == y)
        raise ValueError(f"{name} is {one!r} and {other!r}, which no reader can tell apart; give texts that differ")


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers rising, all else in the order in which it first comes."""
    once = list(dict.fromkeys(values))
    return sorted(once) if all(isinstance(value, int | float) for value in once) else once


def _text(value: Any, digits: int = 6) -> str:
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _labels(values: Sequence[Any]) -> list[str]:
    """Texts of different values, with as many digits as tell them apart."""
    texts = ([_text(value, digits) for value in values] for digits in (6, 9, 12, 17))
    return next((labels for labels in texts if len({*labels}) == len(labels)), [*map(str, values)])


def _in_words(names: Sequence[str], place: Sequence[Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in zip(names, place, strict=True))


def _listed(numbers: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {text}" for name, text in numbers.items())


def _pair(pair: Sequence[float] | None, where: str) -> list[float] | None:
    """x, y and the standard deviations of both, zero where they are not given."""
    if pair is None:
        return None
    numbers = [*map(float, pair), *([0.0, 0.0] if len(pair) == 2 else [])]
    if len(numbers) != 4 or not np.all(np.abs(numbers) < _FAR):
        raise ValueError(
            f"the point at {where} is {tuple(pair)}; give x, y and their sd, and leave out what is not finite"
        )
    return numbers


def _picture(content: bytes | None, alt: str, where: str) -> dict[str, Any]:
    """A PNG as a data URI with the size to show it at: a small one enlarged."""
    if content is None:
        return {"picture": None, "alt": alt}
    width, height = struct.unpack(">II", content[16:24]) if len(content) >= 24 else (0, 0)
    if content[:8] != _PNG or not width or not alt.strip():
        raise ValueError(f"the picture at {where} is no PNG or has no alt text; give both")
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
    room = max(0.06 * ((most - least) or 1), 1e-9 * max(abs(least), abs(most)))  # also where all are one large value
    least, most = least - room, most + room
    ticks = [
        float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(least, most) if least <= tick <= most
    ]
    return {"low": least, "high": most, "ticks": [list(tick) for tick in zip(ticks, _labels(ticks), strict=True)]}


def _diagonals(x: Mapping[str, Any], y: Mapping[str, Any]) -> tuple[list[list[float]], float]:
    """Lines of equal x + y from edge to edge of the plot, each as x, y, x, y, and how far apart their sums are."""
    low, high = x["low"] + y["low"], x["high"] + y["high"]
    sums = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(low, high)
    within = [float(total) for total in sums if low < total < high]
    ends = [(max(x["low"], t - y["high"]), min(x["high"], t - y["low"]), t) for t in within]
    return [[a, t - a, b, t - b] for a, b, t in ends], float(sums[1] - sums[0])
