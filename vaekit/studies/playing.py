"""What the playgrounds of all studies share: what is shown of their points, and what a kernel does for them.

A study's `explore` makes points of its table, see `widgets.playground`, each with its `members`. Here a point gets what
`results/` carries of one of these; in JupyterLab a kernel adds what the store holds, and trains others.
"""

import math
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pandas as pd

from vaekit import sweep, widgets
from vaekit.data import DataError
from vaekit.fleet import Progress, Stopped
from vaekit.store import SHORT, Member, Store, StoreError, bundles, load, load_decoder, member_of, results
from vaekit.store.member import KEY
from vaekit.store.table import distinct, frame
from vaekit.sweep import StudySpec, codes, image_grids
from vaekit.widgets import Live, Movable, Page

NOTHING = "<p>There is nothing to move through: no member was trained to its end.</p>"
NOT_CARRIED = "results/ carries no {what} of this member."
NOT_STORED = "No {what} of this member are stored: ask for a seed of your own, say seeds = [{seed}]."
IN_THE_STORE = "A kernel gives its {what}: run the cell."  # of a notebook that is opened again
CURVE = 400  # places of the curve of what trains: more than a reader can tell apart
TRAINER = "vaekit trains here"  # the name of the one thread that does
# Of a member and what is asked for by name, the members to train: the last is the one that is then shown.
Vary = Callable[[Member, Mapping[str, float], Callable[[str], Member]], list[Member]]
Point = dict[str, Any]
Start = Callable[[Sequence[Point]], Sequence[Mapping[str, Any]]]


def members_of(rows: pd.DataFrame) -> list[tuple[bool, int, str]]:
    """Of each member of a point whether it was asked for, its seed and its key, as a point's `members`."""
    members = rows.drop_duplicates("key").sort_values(["asked", "seed"], ascending=[False, True])
    return [*zip(members["asked"].astype(bool), members["seed"].astype(int), members["key"], strict=True)]


def short(steps: float, least: int) -> str:
    """Why a point is faint: its budget is below the least that a claim rests on. "" where it is not."""
    return f"{steps:,.0f} of at least {least:,} steps" if steps < least else ""


def in_budgets(groups: Sequence[tuple[str, Sequence[Point]]]) -> list[Point]:
    """The points of several budgets, each with the label of its own; labels that are alike are numbered."""
    groups = [(label, points) for label, points in groups if len(points)]
    labels = distinct([label for label, _ in groups])
    return [{**point, "budget": label} for label, (_, points) in zip(labels, groups, strict=True) for point in points]


def shown(
    spec: StudySpec,
    table: pd.DataFrame,
    settings: Any,
    points_of: Callable[[pd.DataFrame], list[Point]],
    vary: Vary,
    trains: Sequence[str],
    start: Start | None = None,
    **how: Any,
) -> Movable | Page:
    """A study's playground, or a sentence where nothing was trained to its end.

    Args:
        spec: of the study.
        table, settings: as a notebook has them.
        points_of: makes points of a table, as `widgets.playground` takes them, each with `members` (see `members_of`).
        vary, trains: what "Train here" trains, and the names of the numbers that it asks for.
        start: of the points, where A and B are at first; None: where `widgets.playground` puts them.
        how: for `widgets.playground`.
    """
    points = points_of(table)
    if not any(any(at.values()) for point in points for at in point["places"].values()):
        return Page(NOTHING)
    kernel = Kernel(spec, table, settings, points_of, vary, trains, start, how)
    return widgets.show(settings.source, kernel.playground(points))


class Kernel:
    """Points with what is known of their members, and the answers to what a playground asks of a kernel."""

    def __init__(
        self,
        spec: StudySpec,
        table: pd.DataFrame,
        settings: Any,
        points_of: Callable[[pd.DataFrame], list[Point]],
        vary: Vary,
        trains: Sequence[str],
        start: Start | None,
        how: Mapping[str, Any],
    ):
        self.spec, self.settings, self.points_of, self.vary = spec, settings, points_of, vary
        self.trains, self.start, self.how = tuple(trains), start, dict(how)
        self.store: Store | None = settings.store
        self.seed = next(seed for seed in count(7) if seed not in set(table["seed"]))  # one that is free trains
        self.points: list[Point] = []
        self.training: threading.Thread | None = None
        self.stop = threading.Event()

    # ---- points

    def playground(self, points: Sequence[Point]) -> Movable:
        """The playground of these points, which replace those that there were."""
        self.points = [self._filled(point) for point in points]
        live = {} if self.store is None else {"answer": self.answer, "trains": self.trains}
        start = self.start(self.points) if self.start else ()
        return widgets.playground(self.points, start=start, **self.how, **live)

    def _filled(self, point: Point) -> Point:
        """A point with what is carried of one of its members: one asked for, of which most is known."""
        if "filled" in point or not point.get("members"):
            return point
        ranked = []
        for asked, seed, key in point["members"]:
            stored, carried = self._stored(key), results.bundle_of(self.spec.name, key)
            decoder, grid = bool(carried and carried.decoder), bool(carried and carried.grid)
            ranked.append(((asked, stored or decoder, grid), -len(ranked), seed, key, stored, carried))
        (_, known, _), _, seed, key, stored, carried = max(ranked, key=lambda one: one[:2])
        filled = {**point, "filled": True, "of": f"seed {seed}", "key": key[:SHORT]}
        filled["stored"] = self.store is not None and known  # a kernel is asked for decoders, also those of results/
        for name, words in (("why", "pictures"), ("why_not", "weights")):
            said = NOT_CARRIED if self.store is None else IN_THE_STORE if filled["stored"] else NOT_STORED
            filled.setdefault(name, said.format(what=words, seed=self.seed))
        if carried is not None:
            filled |= {"grid": carried.grid, "codes": carried.codes}
            if carried.decoder and self.store is None:
                filled["model"] = bundles.model_of(carried)
        return filled

    def _stored(self, key: str) -> bool:
        return self.store is not None and re.fullmatch(KEY, key) is not None and key in self.store

    # ---- answers

    def answer(self, live: Live, message: Mapping[str, Any]) -> None:
        """Reply to what is asked: a member's pictures and weights, a training, or that it stops.

        What a widget never asks is left alone.
        """
        if message.get("ask") != "stop" and not isinstance(message.get("key"), str):
            return
        match message.get("ask"):
            case "member" if message.get("id") is not None:
                facts, content = self.facts(message["key"])
                live.send({"id": message["id"], "facts": facts}, content)
            case "stop":
                self.stop.set()
            case "train":
                self.train(live, message)

    def facts(self, key: str) -> tuple[dict[str, Any], list[bytes]]:
        """What a store has of a member, and its decoder's weights; where something is lacking, why."""
        facts: dict[str, Any] = {"rows": [], "decoder": None, "codes": None, "why": "", "whyNot": ""}
        content: list[bytes] = []
        try:
            key = self._key(key)
            if grid := image_grids.of(self.spec, key, self.store):
                rows = zip(grid.labels, grid.images, strict=True)
                facts["rows"] = [[label, widgets.strip(images)] for label, images in rows]
            else:
                facts["why"] = "No pictures are made of this member."
        except (DataError, StoreError) as error:
            facts["why"] = f"{error}"
        try:
            model = load(key, store=self.store) if self._stored(key) else load_decoder(key)
            facts["decoder"], weights = widgets.packed(model)
            content.append(weights)
            facts["codes"] = widgets.codes_of(codes.of(self.spec, key, self.store))
        except (DataError, StoreError, ValueError) as error:
            facts["whyNot"] = f"{error}"
        return facts, content

    def _key(self, start: str) -> str:
        """The whole key of a point's member."""
        for point in self.points:
            for _, _, key in point.get("members", ()):
                if key.startswith(start):
                    return key
        raise StoreError(f"no point has a member {start}; run the cell again")

    def _member(self, key: str) -> Member:
        if self.store is not None and key in self.store:
            return member_of(self.store.record(key)["member"])
        return results.read(results.folder(self.spec.name)).member(key)

    # ---- training

    def train(self, live: Live, message: Mapping[str, Any]) -> None:
        """Train a member like one of a point, in a thread; `live.training` says where it stands, and where it is."""
        if any(thread.name == TRAINER and thread.is_alive() for thread in threading.enumerate()):
            live.training = {**live.training, "say": "Another member trains in this kernel; wait for its end."}
            return
        values = {name: str(text) for name, text in dict(message.get("values", {})).items()}
        live.training = {"key": message["key"], "letter": message.get("letter", 0), "values": values, "curve": []}

        def tell(at: Mapping[str, float] | None = None, **now: Any) -> None:
            curve = [*live.training["curve"], *([at] if at else [])]
            curve = curve[::2] if len(curve) > CURVE else curve
            live.training = {**live.training, "running": True, **now, "curve": curve}

        try:
            key = self._key(message["key"])
            members = self.vary(self._member(key), self._asked(values), self._member)
        except (DataError, StoreError, ValueError) as error:
            tell(say=f"{error}", running=False)
            return
        self.stop.clear()
        tell(say="It begins …")
        self.training = threading.Thread(
            target=self._train, args=(live, tell, members, key, message.get("letter", 0)), name=TRAINER, daemon=True
        )
        self.training.start()

    def _asked(self, texts: Mapping[str, Any]) -> dict[str, float]:
        """The numbers that were typed. Raises ValueError for what is none."""
        numbers = {}
        for name in self.trains:
            try:
                number = float(texts.get(name, ""))
            except ValueError:
                number = math.nan
            if not (math.isfinite(number) and number >= 0):
                raise ValueError(f"new {name}: got {texts.get(name, '')!r}; wanted a finite number, at least 0")
            numbers[name] = number
        return numbers

    def _train(self, live: Live, tell: Callable[..., None], members: Sequence[Member], key: str, letter: int) -> None:
        at: tuple[str, int] | None = None

        def progress(now: Progress) -> None:
            nonlocal at
            for newest in now.newest[:1]:
                what = f"{now.group}", newest.step
                known = {"distortion": "D", "rate": "R", "loss": "loss"}
                values = {name: newest.values[long] for long, name in known.items() if long in newest.values}
                values = {name: value for name, value in values.items() if name != "loss" or len(values) == 1}
                if what != at and values and all(map(math.isfinite, values.values())):
                    at = what
                    tell(at={"step": newest.step, "steps": now.steps, **values}, say=now.line())
                    return
            tell(say=now.line())

        try:
            how = {"device": self.settings.device, "progress": progress, "stop": self.stop.is_set}
            sweep.run(self.spec, members, self.store, say=lambda _: None, **how)
            self._place(live, tell, members, key, letter)
        except Stopped as stopped:
            reached = f"{100 * stopped.share:.0f} %"
            tell(say=f"Stopped at {reached}, which is kept: Go on continues it.", running=False, stopped=True)
        except Exception as error:  # whatever it is, a thread has nobody else to tell
            tell(say=f"{type(error).__name__}: {error}", running=False)

    def _place(self, live: Live, tell: Callable[..., None], members: Sequence[Member], key: str, letter: int) -> None:
        """Put the point of what was trained beside those that are there, in the budget of its model."""
        known = sweep.tables(self.spec, self.store, members=members, alone=True, listed=results.Tables())
        trained = self.points_of(frame(known).assign(asked=True))
        own = [point for point in trained if members[-1].key in {known for _, _, known in point.get("members", ())}]
        if not any(places for point in own for places in point["places"].values()):
            tell(say="It diverged: it has no place on the plane.", running=False)
            return
        model = next(point for point in self.points if key in {known for _, _, known in point.get("members", ())})
        # Beside others its point may have axes that alone it has not: those are its model's.
        shared = {"budget": model["budget"], "group": model.get("group", "")}
        new = [{**point, "axes": {**model["axes"], **point["axes"]}, **shared} for point in own]

        def place(point: Point) -> tuple:
            return point["budget"], *point["axes"].values()

        by_place = {place(point): point for point in [*self.points, *new]}  # a new one takes the place of the old
        movable = self.playground([*by_place.values()])
        value = [*live.value]
        value[letter] = [*by_place].index(place(new[-1]))
        live.weights, live.data = movable._weights, movable._state["data"]
        live.value = value
        tell(say=f"Trained and measured: {new[-1]['says']}", running=False)


def vary_weights(member: Member, numbers: Mapping[str, float], known: Callable[[str], Member]) -> list[Member]:
    """A member like this one with other weights of its objective, by their names.

    Raises:
        ValueError: its objective has no such weight.
    """
    weights = dict(member.weights)
    if lacking := [name for name in numbers if name not in weights]:
        raise ValueError(f"this member has no {lacking[0]}; choose one that has, by a click on the plane")
    return [replace(member, weights=weights | dict(numbers))]


def places_of(values: pd.DataFrame, axes: Sequence[str]) -> dict[Any, dict[float, dict[str, tuple[float, ...]]]]:
    """By the values of the axes, the means over seeds of x and y at each snapshot and of each series, with their sd.

    `values` has a row a member, snapshot and series: the axes, `snapshot`, `series`, `x` and `y`; rows without a finite
    x or y are left out.
    """
    values = values[np.isfinite(values[["x", "y"]].astype(float)).all(axis=1)]
    by_place = values.groupby([*axes, "snapshot", "series"])[["x", "y"]]
    spread = by_place.std().fillna(0)
    placed: dict[Any, dict[float, dict[str, tuple[float, ...]]]] = {}
    for (*place, snapshot, series), *numbers in by_place.mean().join(spread, rsuffix="_sd").itertuples():
        at = placed.setdefault(tuple(place), {})
        at.setdefault(snapshot, {})[str(series)] = tuple(numbers)
    return placed
