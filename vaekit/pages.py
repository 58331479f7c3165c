"""Pages: what a study's notebook shows of its claims and figures, in JupyterLab as in the book.

    page = pages.StudyPage(study, settings)   # the table, and the verdicts on it
    page.status()                             # question, the paper's answer, ours, budget, outcomes
    page.found()                              # a block for each claim that is decided or near it, with its figure
    page.rest()                               # folded: the other figures, numbers, the quick scale's figures
    page.not_run()                            # what would decide the other claims

Nothing of it is typed for a result: words come from the verdicts (`claims.findings`), figures from the table. What of
a page needs no claims is `TablePage`. The HTML is that of pages.html; a page of the book and JupyterLab show the same.
"""

import base64
import importlib
import importlib.util
import inspect
import io
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

import jinja2
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from vaekit import data, figures
from vaekit.claims import Claims, Verdict, findings, verdicts
from vaekit.claims.curves import COPIES
from vaekit.claims.findings import BADGES
from vaekit.claims.rules import CONSTRUCTED, NEEDS_DATA, NOT_REPRODUCED, NOT_RUN, REPRODUCED, UNDECIDED, text_of
from vaekit.settings import spelled
from vaekit.store.table import budget_numbers, budgets
from vaekit.widgets import Page

OPEN = 6  # blocks of decided claims that are open; where none is decided, two others are
SO_FAR = 2  # figures in the open where no claim is near
MEASURED = 2  # criteria whose intervals stand in the open
# Networks that agree in this are compared over that: where more was trained of all that the quick scale has of it, the
# quick scale shows nothing.
COMPARED, COMPARED_OVER = ("data", "model", "objective", "noise"), ("depth", "arm")
GPU = "NVIDIA|CUDA|H100|H200|A100"  # in the name of the hardware of a stored member
_STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Picture:
    """A figure as a page shows it. `source` and `address` are data URIs, of the picture and of its data."""

    label: str
    source: str
    width: int
    alt: str
    caption: str
    code: str
    address: str

    @property
    def file(self) -> str:
        """The name of the file with its data."""
        return f"{self.label}.csv"


@dataclass(frozen=True)
class Block:
    """A claim that is decided or near it, as a page shows it."""

    verdict: Verdict
    picture: Picture | None
    also: str

    @property
    def told(self) -> Verdict:
        """The verdict on those image sets of which the block speaks."""
        return findings.on_trained_sets(self.verdict)

    @property
    def measured(self) -> list[str]:
        """Each criterion of what is `told`, with its interval; what keeps the claim from holding comes first."""
        criteria = sorted(self.told.criteria, key=lambda criterion: criterion.outcome == REPRODUCED)
        return [findings.measured(criterion) for criterion in criteria if criterion.has_value]

    @property
    def foremost(self) -> list[str]:
        """The first of them; and how many there are, where there are more."""
        shown, more = self.measured[:MEASURED], len(self.measured) - MEASURED
        if more > 0:
            shown.append(f"{more} more {'is' if more == 1 else 'are'} folded below")
        return shown

    @property
    def method(self) -> str:
        """The criteria in words: their docstring."""
        return inspect.getdoc(self.verdict.claim.criteria) or ""

    @property
    def seeds(self) -> list[dict[str, str]]:
        """The values of each seed, a row a criterion of what is `told`."""
        shown = [each for each in self.told.criteria if each.has_value and each.statistic.bounds is None]
        values = {criterion.name: criterion.statistic.values.dropna().to_dict() for criterion in shown}
        seeds = sorted({seed for by_seed in values.values() for seed in by_seed})
        return [
            {"value of": findings.sets_titled(name)}
            | {f"seed {seed}": text_of(by_seed[seed]) if seed in by_seed else "–" for seed in seeds}
            for name, by_seed in values.items()
        ]


class TablePage:
    """A study's page as far as it takes no claims: its table, and the network and the figures that are drawn from both.

    Figures are numbered in the order in which they are shown, under the study's first letter: R1, R2, …

    Args:
        study: the study's package, e.g. `vaekit.studies.pruning`; its module `figures` is read, too.
        settings: the notebook's.
        table: the table to show; None: `study.run(settings)`, which trains what is missing.
    """

    OTHERS = "The other figures"  # as they are called on the page
    TEMPLATES = "pages.html"  # the file in the package whose macros the page shows

    def __init__(self, study: ModuleType, settings: Any, table: pd.DataFrame | None = None):
        self.study, self.settings = study, settings
        self.table = study.run(settings) if table is None else table
        self._pictures: dict[tuple, Picture] = {}  # what was drawn: shown again, a figure keeps its number

    @property
    def address(self) -> str:
        """The page of the book, from those beside it."""
        return f"{self.name}.html"

    @property
    def name(self) -> str:
        """The study's name in code."""
        return self.study.__name__.rpartition(".")[2]

    @property
    def bars(self) -> list[dict[str, Any]]:
        """The two largest budgets of networks trained from nothing, beside those of scale "paper": steps and seeds.

        The quick scale has a bar only where nothing else was trained.
        """
        rows = (self.table[~self._is_quick] if len(self.long) else self.table).drop_duplicates("key")
        axes = [name for name in self.study.SPEC.axes if name in rows]
        points = rows.assign(steps=_training_steps(rows)).groupby(["steps", "data", *axes], dropna=False)
        budgets = points["seed"].nunique().groupby(level=["steps", "data"]).agg(["min", "max"])
        return [
            {
                "text": f"{steps:,.0f} of {whole:,} steps, {self._seeds(least, most)}, {data.title(name)}",
                "share": f"{100 * min(1.0, steps / whole):.3g}",
            }
            for (steps, name), (least, most) in budgets.sort_index(ascending=False).head(2).iterrows()
            for whole in [self._whole(name)]
        ]

    def _seeds(self, least: int, most: int) -> str:
        """The seeds at a point of a budget, beside those of scale "paper" where there are fewer."""
        planned = len(self._papers.seeds)
        if least < most:
            return f"{least} to {most} seeds a point"
        return f"{most} of {planned} seeds" if most < planned else f"{most} seed{'s' * (most > 1)}"

    def scheme(self) -> Page:
        """The network, drawn from the model as it is built, and what scale "paper" trains."""
        deepest = max(self._papers_networks, key=lambda member: dict(member.model_args).get("depth", 0))
        figure = figures.scheme(deepest.build())
        grid = f'Scale "paper" is {_grid_in_words(self._papers, self._papers_networks)}'
        several = len({member.data for member in self._papers_networks}) > 1
        network = f"The network{f' for {data.title(deepest.data)}' if several else ''}, layer by layer."
        alt = "The network from left to right, a bar for each layer, as high as the layer has numbers."
        caption, place = f"{network} {grid} The bars at the top of the page say what is trained.", ("scheme",)
        drawn = self._pictures.get(place) or self._picture(place, figure, caption, alt)
        return _page("picture", drawn)

    def rest(self) -> Page:
        """Folded: the figures that no block shows, numbers, and the figures of the quick scale."""
        asked = self.settings.source != "results"
        long = [self._draw(each, self.long) for each in self._figures() if each not in self._above]
        parts = [
            _render("fold", [*filter(None, long)], [], open=asked, summary=self.OTHERS),
            _render("fold", [], self._tables(self.long), summary="The numbers"),
        ]
        if len(self.quick):
            whole = max(map(self._whole, self.quick["data"].unique()))
            steps = f"{int(_training_steps(self.quick).max()):,} of {whole:,} steps"
            note = "These networks show that everything runs. They were hardly trained, and decide nothing."
            of_table = [each for each in self._figures() if "table" in inspect.signature(each).parameters]
            quick = [self._draw(each, self.quick, stamp=steps) for each in of_table]
            summary = f"The quick scale's figures: {steps}"
            parts.append(_render("fold", [*filter(None, quick)], self._tables(self.quick), note=note, summary=summary))
        return styled("".join(part for part in parts if "<figure" in part or "<table" in part))

    def _page(self, macro: str, *parts: Any, **named: Any) -> Page:
        return _page(macro, *parts, file=self.TEMPLATES, **named)

    # Which members ----------------------------------------------------------------------------------------------------

    @cached_property
    def long(self) -> pd.DataFrame:
        """The members that figures show as results: of results/, those of a larger budget than the quick scale's.

        A budget of one or two members makes no curve, and stands back where there are others.
        """
        rows = self.table[~self._is_quick]
        if self.settings.source != "results" or not len(rows):
            return rows
        sizes = rows.groupby(budget_numbers(rows, self.study.SPEC.axes).to_numpy())["key"].transform("nunique")
        return rows[(sizes >= 3).to_numpy()] if (sizes >= 3).any() else rows

    @property
    def longest(self) -> pd.DataFrame:
        """The members of the largest budget of `long`; of the table, where that is empty."""
        return next(iter(budgets(self.long if len(self.long) else self.table, self.study.SPEC.axes)))

    @cached_property
    def shown(self) -> pd.DataFrame:
        """The table without the members of the quick scale that stand back behind longer ones."""
        return self.table[~self._stands_back]

    @cached_property
    def quick(self) -> pd.DataFrame:
        """The members of results/ of the quick scale's budget that are `shown`."""
        return self.table[self._is_quick & ~self._stands_back]

    @cached_property
    def _stands_back(self) -> pd.Series:
        """Of each row whether it is of the quick scale, and `long` has all that the quick scale compares with it."""
        compared, alike = self._numbered(COMPARED), self._numbered((*COMPARED, *COMPARED_OVER))
        lacking = compared[self._is_quick & ~alike.isin(alike[self.long.index])]
        return self._is_quick & ~compared.isin(lacking)

    def _numbered(self, columns: Sequence[str]) -> pd.Series:
        """The same number for rows that agree in those of these columns that the table has."""
        return self.table.groupby([name for name in columns if name in self.table], dropna=False).ngroup()

    @cached_property
    def _is_quick(self) -> pd.Series:
        if self.settings.source != "results":
            return pd.Series(False, index=self.table.index)
        most = max(member.steps for member in self._networks(self.study.Settings.at("quick")))
        before = self.table["parent_steps"].fillna(0) if "parent_steps" in self.table else 0
        return (self.table["steps"] <= most) & (before <= most)

    def _whole(self, name: str) -> int:
        """The steps of a whole training on an image set, or what it is a copy of, at scale "paper"; else the most."""
        trained = [each for each in self._papers_networks if not each.arm]
        own = [each for each in trained if each.data in (name, COPIES.get(name))]
        return max(each.steps for each in own or trained)

    @cached_property
    def _papers(self) -> Any:
        """The settings of scale "paper"."""
        return self.study.Settings.at("published")

    @cached_property
    def _papers_networks(self) -> list[Any]:
        return self._networks(self._papers)

    def _networks(self, settings: Any) -> list[Any]:
        """The members of settings, whether or not their images are here."""
        return getattr(self.study, "networks", self.study.members)(settings)

    # Figures and tables -----------------------------------------------------------------------------------------------

    @property
    def _above(self) -> set[Any]:
        """The figures that the page shows before `rest`."""
        return set()

    def _figures(self) -> list[Any]:
        """The study's figures in the order of their places in the code: what `figures.described` describes."""
        return [each for each in _described(self.study) if not each.is_table]

    def _tables(self, table: pd.DataFrame) -> list[tuple[str, list[dict[str, Any]]]]:
        functions = [each for each in _described(self.study) if each.is_table]
        tables = [(each.caption, each(table)) for each in functions] if len(table) else []
        return [(caption, rows.to_dict("records")) for caption, rows in tables if len(rows)]

    def _figure(self, function: Any, table: pd.DataFrame) -> Figure | None:
        """The figure that a described function draws of a table; None where it has nothing to draw."""
        if not len(table):
            return None
        given = {"table": table, "settings": self.settings}
        figure = function(**{name: given[name] for name in given if name in inspect.signature(function).parameters})
        return None if figures.is_empty(figure) else figure

    def _draw(self, function: Any, table: pd.DataFrame, stamp: str = "", sharp: bool = False) -> Picture | None:
        """The picture of `_figure`: an SVG where it shall be `sharp`, which takes thrice the bytes of a PNG."""
        if drawn := self._pictures.get((function, stamp)):
            return drawn
        if (figure := self._figure(function, table)) is None:
            return None
        panels = len(figure.axes)
        figure = figures.trimmed(figure)
        left_out = " Panels of what is not trained yet are left out." * (len(figure.axes) < panels)
        if stamp:
            figures.stamp(figure, stamp)
        caption = f"{stamp}. {function.caption}" if stamp else function.caption
        place = function, stamp
        texts = caption + left_out, function.alt + left_out
        return self._picture(place, figure, *texts, _code(function), stamped=bool(stamp), sharp=sharp)

    def _picture(
        self,
        place: tuple,
        figure: Figure,
        caption: str,
        alt: str,
        code: str = "",
        stamped: bool = False,
        sharp: bool = True,
    ) -> Picture:
        label = f"{self.name[0].upper()}{len(self._pictures) + 1}"
        by_lines = sharp and not _is_dense(figure)
        numbers = "" if stamped else getattr(figure, "csv", "")  # of the quick scale they would be most of the page
        source = _svg(figure) if by_lines else _png(figure, 80 if stamped else 150, grey=stamped)
        picture = Picture(
            label=label,
            source=source,
            width=round(96 * figure.get_figwidth()),
            alt=alt,
            caption=caption,
            code=code,
            address=_uri("text/csv", numbers.encode()) if numbers else "",
        )
        self._pictures[place] = picture
        return picture


class StudyPage(TablePage):
    """The page of a study that re-runs a paper: its table, the verdicts on it, and what the notebook shows of both.

    Args:
        study, settings, table: as of `TablePage`; the study's module `claims` is read, too.
    """

    OTHERS = "The other figures of the paper"

    def __init__(self, study: ModuleType, settings: Any, table: pd.DataFrame | None = None):
        super().__init__(study, settings, table)
        self.claims: Claims = _module(study, "claims").CLAIMS
        self.verdicts = verdicts(self.claims, self.table)

    # What was found ---------------------------------------------------------------------------------------------------

    @cached_property
    def near(self) -> list[Verdict]:
        """The claims that are shown as results: decided ones first, those that matter most before others."""
        place = {number: rank for rank, number in enumerate(self.claims.headline)}
        near = [verdict for verdict in self.verdicts if verdict.counted and findings.is_near(verdict)]
        return sorted(
            near, key=lambda each: (each.outcome == UNDECIDED, place.get(each.number, len(place)), _order(each.number))
        )

    @property
    def ours(self) -> str:
        """The one finding that matters most, in words."""
        trained = [verdict for verdict in self.near if verdict.claim.steps]
        if not trained:
            return "No claim can be told yet: no budget has the steps, the seeds and the settings of one together."
        return f"{findings.headline(trained[0])}{_interval(trained[0])}."

    @property
    def conclusion(self) -> str:
        """What the verdicts amount to; of the claims that matter most the first that cannot be told yet, and why."""
        outcomes = Counter(findings.outcome(verdict) for verdict in self.verdicts)
        tally = _tally(outcomes, sum(verdict.counted for verdict in self.verdicts))
        undecided = [verdict for verdict in self.near if verdict.outcome == UNDECIDED]
        if not undecided:
            return tally
        is_ours = undecided[0] is next((each for each in self.near if each.claim.steps), None)
        said = "This is not told yet." if is_ours else f"Not told yet: {findings.headline(undecided[0])}."
        lacking = f"Lacking: {text}." if (text := findings.lacking(undecided[0])) else ""
        return " ".join(filter(None, (said, lacking, tally)))

    @property
    def by_outcome(self) -> list[tuple[str, list[Verdict]]]:
        """The claims of each outcome that there is."""
        groups = {outcome: [] for outcome in BADGES}
        for verdict in self.verdicts:
            groups[findings.outcome(verdict)].append(verdict)
        return [(outcome, group) for outcome, group in groups.items() if group]

    # What the notebook shows ------------------------------------------------------------------------------------------

    def status(self) -> Page:
        """The box under the title: question, the paper's answer, ours, the budget, and the claims by outcome."""
        return _page("status", self)

    def found(self) -> Page:
        """A block for each claim that is decided or near it: finding, outcome, figure, how sure.

        Those that cannot be told yet are folded to their finding, where others are decided; their figures are PNGs, so
        that the page stays small.
        """
        blocks, shown = [], {}
        decided = sum(verdict.outcome != UNDECIDED for verdict in self.near)
        opened = min(decided, OPEN) or 2
        for verdict in self.near:
            function = self._figure_of(verdict)
            also = shown[function].label if function in shown else ""
            picture = self._draw(function, self.long, sharp=len(blocks) < opened) if function and not also else None
            shown |= {function: picture} if picture else {}
            blocks.append(Block(verdict, picture, also))
        so_far = [self._draw(function, self.long, sharp=True) for function in self.so_far]
        return _page("blocks", blocks[:opened], blocks[opened:], so_far)

    def not_run(self) -> Page:
        """What would decide the claims that no block shows: a row a claim, with its command and its hours."""
        near = {verdict.number for verdict in self.near}
        rows = [
            {
                "verdict": verdict,
                "lacking": findings.lacking(verdict) if verdict.counted else "nothing: true by construction",
                "options": spelled(verdict.claim.train),
                **self._hours(verdict),
            }
            for verdict in self.verdicts
            if verdict.number not in near
        ]
        command = f".venv/bin/python -m vaekit train {self.name} --scale {self.claims.deciding}"
        return _page("not_run", rows, self._machine, command)

    @cached_property
    def so_far(self) -> list[Any]:
        """Where no claim is near that takes training: the figures of those that matter most, as far as there is one."""
        if any(verdict.claim.steps for verdict in self.near):
            return []
        place = {verdict.number: verdict for verdict in self.verdicts}
        functions = dict.fromkeys(self._figure_of(place[number]) for number in self.claims.headline)
        drawn = (each for each in functions if each and self._figure(each, self.long))
        return list(islice(drawn, SO_FAR))

    @property
    def thumbnail(self) -> str:
        """The picture of the claim that matters most; "" without one."""
        for each in [*map(self._figure_of, self.near), *self.so_far]:
            if each and (figure := self._figure(each, self.long)):
                return _png(figures.trimmed(figure), 50)
        return ""

    @property
    def _above(self) -> set[Any]:
        return {*map(self._figure_of, self.near), *self.so_far}

    def _figure_of(self, verdict: Verdict) -> Any:
        """The figure that bears on a claim; None where none does."""
        return next((each for each in self._figures() if verdict.number in each.claims), None)

    # Commands and hours -----------------------------------------------------------------------------------------------

    def _hours(self, verdict: Verdict) -> dict[str, str]:
        """The hours of all members that a claim needs, on the machine of results/ and on a GPU."""
        if not verdict.counted or not verdict.claim.steps:
            return {"hours": "–", "gpu": "–"}
        members = self._networks(self._deciding_settings(verdict))
        return {"hours": self._text_of_hours(members, gpu=False), "gpu": self._text_of_hours(members, gpu=True)}

    def _deciding_settings(self, verdict: Verdict) -> Any:
        """The settings of the members that a claim needs at the least; "published" asks for no image to be here."""
        scales, options = self.study.Settings.SCALES, self.study.Settings.options()
        paper = scales["paper"]
        least = {
            name: value
            for name, value in scales[self.claims.deciding].items()
            if options[name].parameter and value != paper[name] and not callable(value)
        }
        return self.study.Settings.at("published", **(least | dict(verdict.claim.train)))

    def _text_of_hours(self, members: Sequence[Any], gpu: bool) -> str:
        """The hours of training, without measures, as members of their kind took; "not measured" without one."""
        seconds, speeds = 0.0, self._speeds(gpu)
        for member in members:
            speed = speeds.get(_network(dict(member.model_args), member))
            if speed is None:
                return "not measured"
            seconds += member.steps * speed
        hours = seconds / 3600
        return f"{hours:,.0f}" if hours >= 10 else f"{hours:.1f}"

    def _speeds(self, gpu: bool) -> dict[tuple, float]:
        """Seconds of a step by the kind of network, the median over results/; on a CPU, a core's share of them."""
        rows = self._timed[self._timed["hardware"].str.contains(GPU) == gpu]
        kinds = [_network(row, row) for row in rows.to_dict("records")]
        cores = rows["hardware"].str.extract(r"(\d+) (?:threads|cores)")[0].fillna(1).astype(float)
        seconds = rows["wall_time"].astype(float) / rows["steps"] / (1.0 if gpu else cores)
        return seconds.groupby(pd.Series(kinds, index=rows.index, dtype=object)).median().to_dict()

    @property
    def _timed(self) -> pd.DataFrame:
        rows = self.table.drop_duplicates("key")
        return rows[(rows["wall_time"].astype(float) > 0) & rows["hardware"].notna()]

    @property
    def _machine(self) -> str:
        rows = self._timed["hardware"]
        rows = rows[~rows.str.contains(GPU)]
        return str(rows.mode().iloc[0]).split(",")[0] if len(rows) else "this machine"


# All studies ----------------------------------------------------------------------------------------------------------


def strip(verdicts: Iterable[Verdict]) -> Page:
    """A square for each claim that counts, coloured by its outcome: the sentence on hovering, its block on a click.

    The book's first page takes what it says in its title from here (`data-title`).
    """
    verdicts = [verdict for verdict in verdicts if verdict.counted]
    counts = Counter(findings.outcome(verdict) for verdict in verdicts)
    decided = f"{counts[REPRODUCED]} reproduced, {counts[NOT_REPRODUCED]} refused"
    title = f"{len(verdicts)} claims, {decided}, the rest waiting for compute or data"
    return _page("strip", verdicts, _address, title, [(name, counts[name]) for name in BADGES if counts[name]])


def cards(shown: Iterable[StudyPage]) -> Page:
    """A card for each study: its question, the paper's answer, ours, the outcomes, its best figure."""
    return _page("cards", list(shown))


def scorecard(verdicts: Iterable[Verdict], studies: Mapping[str, str]) -> Page:
    """A line for each claim with its outcome first; what was found, and on what, folded. `studies`: titles by name."""
    rows = [
        {
            "verdict": verdict,
            "headline": findings.headline(verdict) if findings.is_near(verdict) else "–",
            "row": verdict.row(),
            "address": _address(verdict),
        }
        for verdict in verdicts
    ]
    outcomes = [name for name in BADGES if any(findings.outcome(row["verdict"]) == name for row in rows)]
    return _page("scorecard", rows, list(studies.items()), outcomes)


def _tally(outcomes: Mapping[str, int], claims: int) -> str:
    decided = outcomes.get(REPRODUCED, 0), outcomes.get(NOT_REPRODUCED, 0)
    waiting = sum(outcomes.get(name, 0) for name in (NOT_RUN, NEEDS_DATA))
    texts = [f"{decided[0]} reproduced, {decided[1]} refused"]
    if undecided := outcomes.get(UNDECIDED, 0):
        texts.append(f"{undecided} cannot be told yet")
    if waiting:
        texts.append(f"{waiting} wait{'s' * (waiting == 1)} for compute or data")
    return f"Of {claims} claims {', '.join(texts)}."


# HTML -----------------------------------------------------------------------------------------------------------------


@cache
def _templates(name: str) -> Any:
    """The macros of a file of the package. Text is escaped in all of them."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    said = {
        name: getattr(findings, name) for name in ("answer", "brief", "headline", "outcome", "sureness", "sets_titled")
    }
    given = {**said, "anchor": anchor, "names": BADGES, "CONSTRUCTED": CONSTRUCTED}
    return environment.get_template(name, globals=given)


def _render(macro: str, *parts: Any, file: str = "pages.html", **named: Any) -> str:
    return str(getattr(_templates(file).module, macro)(*parts, **named))


def _page(macro: str, *parts: Any, **named: Any) -> Page:
    return styled(_render(macro, *parts, **named))


def styled(html: str) -> Page:
    """HTML in the pages' style, in the light as in the dark; of none, nothing."""
    return Page(f'<div class="vk-page mathjax_ignore"><style>{_STYLE}</style>{html}</div>' if html else "")


def anchor(verdict: Verdict) -> str:
    """The name of a claim's place on its page."""
    return f"claim-{verdict.number.replace('.', '-')}"


def _address(verdict: Verdict) -> str:
    return f"{verdict.claim.study}.html#{anchor(verdict)}"


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    comments = rb"<\?xml.*?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>"
    content = re.sub(comments, b"", buffer.getvalue(), flags=re.DOTALL)
    return _uri("image/svg+xml", re.sub(rb"\n\s*", b"\n", content))


def _png(figure: Figure, dpi: int, grey: bool = False) -> str:
    """A picture of few colours, which take a third of the bytes, or of 8 greys."""
    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=dpi)
    picture = Image.open(drawn).convert("L" if grey else "RGB")
    picture.quantize(8 if grey else 256, dither=Image.Dither.NONE).save(packed, "png", optimize=True)
    return _uri("image/png", packed.getvalue())


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _is_dense(figure: Figure) -> bool:
    """Whether a figure has pictures, or more points than a drawing by lines should have."""
    points = sum(len(line.get_xdata()) for ax in figure.axes for line in ax.get_lines())  # pyright: ignore
    points += sum(len(each.get_offsets()) for ax in figure.axes for each in ax.collections)  # pyright: ignore
    return any(ax.images for ax in figure.axes) or points > 2_000


def _code(function: Callable) -> str:
    return textwrap.dedent(inspect.getsource(inspect.unwrap(function)))


# Verdicts and settings ------------------------------------------------------------------------------------------------


def _module(study: ModuleType, name: str) -> Any:
    return importlib.import_module(f"{study.__name__}.{name}")


def _described(study: ModuleType) -> list[Any]:
    """What `figures.described` describes in a study's figures and explore, in the order of the code."""
    names = [name for name in ("figures", "explore") if importlib.util.find_spec(f"{study.__name__}.{name}")]
    values = [each for name in names for each in vars(_module(study, name)).values()]
    return [each for each in values if inspect.isfunction(each) and hasattr(each, "caption")]


def _order(number: str) -> list[int]:
    return [int(part) for part in number.split(".")]


def _interval(verdict: Verdict) -> str:
    """The interval of a claim's first criterion in parentheses, with its value where the headline lacks that."""
    first = next((each for each in findings.on_trained_sets(verdict).criteria if each.has_value), None)
    headline = findings.headline(verdict)
    if not first or not (interval := findings.interval(first)) or interval in headline:
        return ""
    has_value = re.search(rf"(?<![\w.-]){re.escape(text_of(first.estimate))}(?![\w.])", headline)
    return f" ({interval if has_value else findings.estimated(first)})"


def _training_steps(rows: pd.DataFrame) -> pd.Series:
    """The steps from nothing: of what is pruned or tuned those before that."""
    return rows["parent_steps"].fillna(rows["steps"]) if "parent_steps" in rows else rows["steps"]


def _grid_in_words(chosen: Any, members: Sequence[Any]) -> str:
    """What scale "paper" trains: the values of each axis of its grid, and how many networks that makes."""
    axes, fields = [], {name.rpartition(".")[2] for member in members for name in member.row()}
    for name, option in chosen.options().items():
        values = getattr(chosen, name)
        varied = option.parameter and isinstance(values, tuple) and len(values) > 1
        if varied and fields & {name, name.removesuffix("s")}:
            words, shown = findings.setting(name), list(map(findings.in_words, values))
            few = len(values) <= 7
            axes.append(
                f"{words} {', '.join(shown)}" if few else f"{words} from {shown[0]} to {shown[-1]}, {len(shown)} values"
            )
    trained = [member for member in members if not member.arm]
    steps = " or ".join(f"{step:,}" for step in sorted({member.steps for member in trained}))
    pruned = f", and {len(members) - len(trained):,} pruned or tuned from them" if len(trained) < len(members) else ""
    return f"{len(trained):,} networks ({'; '.join(axes)}), each of {steps} steps{pruned}."


def _network(arguments: Mapping[str, Any], member: Any) -> tuple:
    """What the speed of a network's training depends on, of a member or of a row of the table."""
    of = member if isinstance(member, Mapping) else vars(member)
    sizes = (arguments.get(name) for name in ("depth", "hidden", "channels", "latent_dim"))
    known = (None if size is None or size != size else str(size).removesuffix(".0") for size in sizes)
    return of["model"], of["batch_size"], bool(of.get("arm") == of.get("arm") and of.get("arm")), *known
