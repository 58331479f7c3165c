"""The playground: every stored member on the plane that its study lives in, and two of them side by side."""

import base64
import io
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image
from torch import nn

from vaekit.store import ImageGrid
from vaekit.widgets.movable import Live, Movable
from vaekit.widgets.network import packed

SERIES = 2  # looks there are: filled, and hollow
SHAPES = 8  # marks there are
PICTURES = 240_000  # bytes of pictures in base64: with numbers and codes a page's playground stays below 600 kB
_FAR = 1e300  # beyond it a range overflows
_DIGITS = 6  # of a coordinate: more than a plot can show

Place = Sequence[float] | Sequence[Sequence[float]]


def playground(
    points: Iterable[Mapping[str, Any]],
    x: str,
    y: str,
    colour: str,
    shape: str = "",
    along: str = "",
    series: Sequence[str] = (),
    clock: str = "steps",
    stations: Sequence[str] = (),
    diagonals: str = "",
    caption: str = "",
    start: Sequence[Mapping[str, Any]] = (),
    answer: Callable[[Live, dict[str, Any]], None] | None = None,
    trains: Sequence[str] = (),
) -> Movable:
    """Members on a plane, and two of them, A and B, side by side: numbers, pictures, and decoders to move.

    Left, every point; a list of budgets chooses those in full colour, the first at the beginning, the others of its
    group stay faint behind. A click, or the arrow keys, pin A or B; a slider for each axis moves the one that is moved.
    A slider over snapshots shows the plane while it trained. Right, of A and of B: rows of its image grid, samples of
    the prior, a walk along dimensions of the code, and one between the codes of two test images.

    Args:
        points: mappings, one a point, which may stand for several seeds. `axes` are values by name, e.g. {"layers": 3,
            "beta": 0.1}, the same names in all points: texts, finite numbers, True, False, None, or tuples of them.
            `places` are coordinates by snapshot and series, e.g. {20_000: {"test": (12.4, 75.0)}}, the last snapshot
            the end: (x, y), or (x, y, sd of x, sd of y), or a list of such, which is a line. `numbers` are texts by
            name. `says` is a sentence for who cannot see the plane. All else may be lacking: `budget` and `group`, the
            texts of the list; `faint`, why it is faint, e.g. "1,000 of 257,000 steps"; `grid`, an `ImageGrid`, and
            `why`, what stands in its place; `model`, whose decoder is carried; `codes`, with the means `mean` (images,
            latent) of the grid's test images and the rates `kl` (latent,) in nats; `key`, the name by which a kernel is
            asked, and `stored`, whether it has more than is carried; `why_not`, what stands in place of a decoder that
            is not here; `of`, of which seed pictures are.
        x, y: labels of the plane's axes, with their units.
        colour, shape, along: the axes that colour a point, that give it its mark, and along which points are joined;
            "" for none.
        series: the names of at most two series, in the order of their looks: filled, hollow.
        clock: what snapshots count: "steps", "epochs".
        stations: the names of the places along a line, which stand beside its numbers.
        diagonals: what x + y is, e.g. "D + R", for lines of equal sum; "" for none.
        caption: a line below it.
        start: the axes of A and of B at first; where there are none, the ends of the first budget, or
            its one point and the next.
        answer: what a kernel does for what is asked of it, see `Movable`; None: nothing is asked.
        trains: the names of the numbers that "Train here" asks for.

    Raises:
        ValueError: no points, points without a common set of axes, an axis with a value of another kind or with two
            that are shown alike, two points at one place, coordinates that are not finite, pictures that are no grid, a
            look that is no axis or has more values than there are marks, or a start that is no point.
    """
    points = list(points)
    if not points:
        raise ValueError("there are no points to show; give one at least")
    axes, places = _axes(points)
    names = [axis["name"] for axis in axes]
    looks = {"colour": colour, "shape": shape, "along": along}
    for what, name in looks.items():
        if name not in (*names, "") or (what == "colour" and not name):
            raise ValueError(f"{what} is {name!r}, which is no axis; there are {', '.join(names)}")
    if shape and len(axes[names.index(shape)]["values"]) > SHAPES:
        count = len(axes[names.index(shape)]["values"])
        raise ValueError(f"{shape} has {count} values, and there are {SHAPES} marks; give fewer, or shape={colour!r}")
    budgets = _budgets(points)
    for (budget, place), times in Counter(
        (point.get("budget", ""), place) for point, place in zip(points, places, strict=True)
    ).items():
        if times > 1:
            what = ", ".join(f"{axis['name']} {axis['labels'][rank]}" for axis, rank in zip(axes, place, strict=True))
            raise ValueError(f"two points are at {what}{f' of {budget}' * bool(budget)}; give one for each place")
    drawn = dict.fromkeys(name for point in points for at in point["places"].values() for name in at)
    series = [*(name for name in series if name in drawn), *(name for name in drawn if name not in series)]
    if not 1 <= len(series) <= SERIES:
        raise ValueError(f"there are {len(series)} series; 1 to {SERIES} can be told apart")
    carried, weights = _carried(points)
    labels = [*dict.fromkeys(label for rows in carried["rows"] for label, _ in rows)]
    words = [*dict.fromkeys(str(name) for point in points for name in point.get("numbers", {}))]
    known = [budget["label"] for budget in budgets]
    shown = []
    for i, (point, place) in enumerate(zip(points, places, strict=True)):
        at = _words_of(axes, place)
        texts = {words.index(str(name)): str(text) for name, text in point.get("numbers", {}).items()}
        one = {"budget": known.index(point.get("budget", "")), "place": place, "numbers": [*texts.items()]}
        one |= {"at": _at(point["places"], series, at), "says": point.get("says") or f"{at}."}
        one |= {"rows": [[labels.index(label), strip] for label, strip in carried["rows"][i]]}
        one |= {"why": point.get("why", ""), "whyNot": point.get("why_not", ""), "stored": bool(point.get("stored"))}
        one |= {"faint": point.get("faint", ""), "key": point.get("key", ""), "of": point.get("of", "")}
        one |= {name: carried[name][i] for name in ("decoder", "codes") if carried[name][i] is not None}
        shown.append(one)
    if not any(pair for point in shown for _, at in point["at"] for pair in at):
        raise ValueError("no point has coordinates; give one at least an (x, y)")
    if left_out := carried["left_out"]:
        more = f"Pictures of {left_out} member{'s' * (left_out > 1)} are left out, to keep the page small."
        caption = f"{caption} {more}".strip()
    data = {"caption": caption, "axes": axes, "budgets": budgets, "points": shown, "series": series, "x": x, "y": y}
    data |= {
        "labels": labels,
        "strips": carried["strips"],
        "numbers": words,
        "clock": clock,
        "stations": list(stations),
    }
    data |= {"diagonals": diagonals, "trains": list(trains), "live": answer is not None}
    data |= {f"{what}By": names.index(name) if name else -1 for what, name in looks.items()}
    says = f"A plane of {len(points)} members over {x} and {y}, and two of them, A and B, side by side."
    return Movable("playground", says, data, _start(start, points, shown, names), weights, answer)


def _axes(points: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[tuple[int, ...]]]:
    """The axes with their values, and the place of each point as ranks of these."""
    names = list(points[0].get("axes", {}))
    if not names or any(point.get("axes", {}).keys() != {*names} for point in points):
        raise ValueError(f"points differ in their axes; give each the same as the first, {names}")
    if any(not isinstance(point.get("places"), Mapping) for point in points):
        raise ValueError("a point has no places; give each a mapping of them by snapshot, {} for one without any")
    columns = {name: [_stop(name, point["axes"][name]) for point in points] for name in names}
    axes, ranks = [], []
    for name, values in columns.items():
        _check_apart(name, values)
        once = _ordered(values)
        axes.append({"name": name, "values": once, "labels": _labels(once)})
        ranks.append([once.index(value) for value in values])
    return axes, list(zip(*ranks, strict=True))


def _budgets(points: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The budgets in the order in which they first come, each with its group."""
    groups: dict[str, str] = {}
    for point in points:
        label, group = point.get("budget", ""), point.get("group", "")
        if groups.setdefault(label, group) != group:
            raise ValueError(f"the budget {label!r} is of the groups {groups[label]!r} and {group!r}; give it one")
    return [{"label": label, "group": group} for label, group in groups.items()]


def _at(places: Mapping[Any, Mapping[str, Place | None]], series: Sequence[str], where: str) -> list[list[Any]]:
    """Of each snapshot, the places of each series as flat numbers x, y, sd of x, sd of y, …; or None."""
    shown = []
    for snapshot, by_series in places.items():
        if isinstance(snapshot, bool) or not isinstance(snapshot, int | float) or not 0 <= snapshot < _FAR:
            raise ValueError(f"a snapshot of the point at {where} is {snapshot!r}; give a finite number, 0 or above")
        shown.append([snapshot, [_flat(by_series.get(name), where) for name in series]])
    return sorted(shown, key=lambda one: one[0])


def _flat(place: Place | None, where: str) -> list[float] | None:
    if place is None or not len(place):
        return None
    many: Any = place if isinstance(place[0], Sequence | np.ndarray) else [place]
    flat: list[float] = []
    for pair in many:
        numbers = [*map(float, pair), *([0.0, 0.0] if len(pair) == 2 else [])]
        if len(numbers) != 4 or not np.all(np.abs(numbers) < _FAR):
            raise ValueError(
                f"the point at {where} is {tuple(pair)}; give x, y and their sd, and leave out what is not finite"
            )
        flat += [_short(number, _DIGITS) for number in numbers]
    return flat


def _carried(points: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """What pages carry of each point: rows of pictures as PNGs, each once, and decoders with codes."""
    strips: list[dict[str, Any]] = []
    known: dict[str, int] = {}
    rows, decoders, codes, weights, spent, left_out = [], [], [], {}, 0, 0
    for point in points:
        own: list[tuple[str, int]] = []
        if (grid := point.get("grid")) is not None:
            if not isinstance(grid, ImageGrid):
                raise ValueError(f"a grid is {type(grid).__name__}; give an ImageGrid, as `image_grids.of` does")
            made = [(label, strip(row)) for label, row in zip(grid.labels, grid.images, strict=True)]
            size = sum(
                len(one["src"]) for one in {one["src"]: one for _, one in made}.values() if one["src"] not in known
            )
            if spent + size > PICTURES:
                left_out += 1
            else:
                spent += size
                for label, one in made:
                    if one["src"] not in known:
                        known[one["src"]] = len(strips)
                        strips.append(one)
                    own.append((label, known[one["src"]]))
        rows.append(own)
        decoder = None
        if isinstance(model := point.get("model"), nn.Module):
            decoder, content = packed(model)
            weights[decoder["hash"]] = content
        decoders.append(decoder)
        codes.append(codes_of(point.get("codes")))
    return {"rows": rows, "strips": strips, "decoder": decoders, "codes": codes, "left_out": left_out}, weights


def strip(images: np.ndarray) -> dict[str, Any]:
    """Images uint8 (columns, H, W, C) side by side as a PNG's data URI, a transparent pixel after each."""
    columns, height, width, channels = images.shape
    gap = _unused(images)
    between = np.full((columns, height, 1, channels), 255 if gap is None else gap, np.uint8)
    pixels = np.concatenate([images, between], axis=2).swapaxes(0, 1).reshape(height, columns * (width + 1), channels)
    how: dict[str, Any] = {} if gap is None else {"transparency": gap[0] if channels == 1 else tuple(gap)}
    content = io.BytesIO()
    Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(content, "png", optimize=True, **how)
    source = f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
    return {"src": source, "columns": columns, "width": width, "height": height}


def _unused(images: np.ndarray) -> list[int] | None:
    """A colour that no pixel has, which a PNG may take for transparent; None where grey images have them all."""
    channels = images.shape[-1]
    weights = 256 ** np.arange(channels)
    taken = np.unique(images.reshape(-1, channels).astype(int) @ weights)
    free = np.setdiff1d(np.arange(min(256**channels, len(taken) + 1)), taken)
    return [int(free[0]) // int(weight) % 256 for weight in weights] if len(free) else None


def codes_of(codes: Any) -> dict[str, Any] | None:
    """Codes of test images and the rate of each dimension, as `playground.js` takes them."""
    if codes is None:
        return None
    mean, kl = np.asarray(codes.mean, float), np.asarray(codes.kl, float)
    return {"mean": [[_short(value) for value in row] for row in mean], "kl": [_short(value) for value in kl]}


def _short(value: float, digits: int = 5) -> float:
    return float(f"{value:.{digits}g}") + 0.0


def _start(
    start: Sequence[Mapping[str, Any]],
    points: Sequence[Mapping[str, Any]],
    shown: Sequence[Mapping[str, Any]],
    names: Sequence[str],
) -> list[int]:
    """The points that A and B are pinned to at first."""
    if not start:
        first = [i for i, point in enumerate(shown) if point["budget"] == 0]
        last = first[-1] if len(first) > 1 else min(first[0] + 1, len(shown) - 1)
        return [first[0], last]
    pinned = []
    for wanted in start:
        alike = [
            i
            for i, point in enumerate(points)
            if all(point["axes"][name] == wanted.get(name, point["axes"][name]) for name in names)
        ]
        if not alike or any(name not in names for name in wanted):
            raise ValueError(f"the start is {dict(wanted)}; give values of a point's {', '.join(names)}")
        pinned.append(alike[0])
    return [pinned[0], pinned[-1]]


# Values of an axis --------------------------------------------------------------------------------------------------


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
    """Texts of different values, with as few digits as tell them apart."""
    texts = ([_text(value, digits) for value in values] for digits in (3, 6, 9, 12, 17))
    return next((labels for labels in texts if len({*labels}) == len(labels)), [*map(str, values)])


def _words_of(axes: Sequence[Mapping[str, Any]], place: Sequence[int]) -> str:
    return ", ".join(f"{axis['name']} {axis['labels'][rank]}" for axis, rank in zip(axes, place, strict=True))
