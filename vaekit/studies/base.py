"""What all studies share: their common settings, and the table that a study's notebook shows."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vaekit import runs, settings
from vaekit.data import absence, problem
from vaekit.fleet import PRECISIONS, device_problem
from vaekit.runs import Member
from vaekit.settings import Option, option
from vaekit.sweep import Design

PUBLISHED = "published"  # no scale of its own: the paper's, shown from results/


@dataclass(frozen=True, kw_only=True)
class StudySettings(settings.Settings):
    """Seeds, data, precision and device, and what can stand against a run before it begins.

    At scale "published" the table comes from the `source` "results": what `results/` holds, of what was given.
    Otherwise from "store": what is stored, after what is missing was trained.
    """

    seeds: tuple[int, ...] = option("seed numbers", at_least=0, below=2**63)
    data: tuple[str, ...] = option("image sets", check=problem)
    precision: str = option("arithmetic of the training", choices=tuple(PRECISIONS))
    device: str = option("cpu, cuda, cuda:1, …", check=device_problem, column="")

    @property
    def source(self) -> str:
        """Where the table comes from: "results" or "store"."""
        return "results" if self.scale == PUBLISHED else "store"

    @property
    def store(self) -> runs.Store | None:
        """The store that pictures and weights may be taken from; None where results/ alone are shown."""
        return None if self.source == "results" else runs.default_store()

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Every field's `Option` by its name; "published" stands beside the scales."""
        options = super().options()
        scale = dataclasses.replace(options["scale"], choices=(*cls.SCALES, PUBLISHED))
        return options | {"scale": scale}

    @classmethod
    def values_at(cls, scale: str | None) -> Mapping[str, Any]:
        """What a scale gives to each field that is not asked for."""
        return super().values_at("paper" if scale == PUBLISHED else scale)

    def problems(self) -> Iterable[str]:
        """Image sets whose files are not there, where something may be trained; no file is read."""
        if self.source == "results":
            return []
        return dict.fromkeys(filter(None, map(absence, self.data)))

    @classmethod
    def surroundings(cls, scale: str | None) -> Iterable[str]:
        """A store that cannot be written, unless nothing will be trained."""
        obstacle = None if scale == PUBLISHED else runs.default_store().obstacle()
        return [obstacle] if obstacle else []


def table_of(
    design: Design, members: Callable[[Any], Sequence[Member]], chosen: StudySettings, source: str | None = None
):
    """What a study's notebook shows, as a pandas DataFrame, from the settings' source unless another is given.

    See `vaekit.table.of_study`.
    """
    from vaekit import table  # pandas: a bare machine that only trains does without

    source = chosen.source if source is None else source
    return table.of_study(design, [] if source == "results" else members(chosen), chosen, source)
