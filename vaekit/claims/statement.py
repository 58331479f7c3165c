"""Claims: what a paper says, and the function that puts it to the test."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vaekit.claims.evidence import Evidence
from vaekit.claims.parts import Finding, Part


@dataclass(frozen=True)
class PaperScale:
    """What the paper ran: `grid` gives an axis' values, `settings` the fields of a member that it held fixed.

    `data` may stay empty where the scale stands under its data set in `Claim.scale`.
    """

    steps: int
    batch_size: int
    seeds: int
    data: tuple[str, ...] = ()
    grid: Mapping[str, tuple] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A statement of a paper and how it is decided; made by `claim`.

    `paper` is the paper's value, in words; `parts` the statistics on given evidence; `steps` (of `batch_size` images)
    the least budget that may decide, 0 where nothing is trained; `seeds` the least number of them; `study` keeps to the
    rows of one study where the table has several. `compares`, `within` and `untrained` are those of `budgets`. With
    `copies_decide` False a copy of the paper's data (a JPEG copy) is shown but decides nothing. `note` is for the page
    (rule 8).

    Where the paper says it of several data sets, `scale` maps each to what the paper ran on it: `parts` is then called
    with evidence of one set at a time (`Evidence.of`), each at its own best budget, and all of them must hold. `quorum`
    is the share of the parts that must hold, rounded up; below 1 it is taken over the parts of all sets that decide.
    """

    number: str
    sentence: str
    paper: str
    scale: PaperScale | Mapping[str, PaperScale]
    parts: Callable[[Evidence], Sequence[Part]] = field(repr=False)
    steps: int
    batch_size: int = 0
    seeds: int = 3
    study: str = ""
    compares: tuple[str, ...] = ()
    within: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    quorum: float = 1.0
    copies_decide: bool = True
    by_construction: bool = False
    note: str = ""

    def findings(self, evidence: Evidence) -> list[tuple[Part, Finding]]:
        """The claim's parts on this evidence, each with its finding."""
        parts = list(self.parts(evidence))
        sets = 1 if isinstance(self.scale, PaperScale) else len(self.scale)
        return [(part, part.judge(self.seeds, sets * len(parts))) for part in parts]


def claim(number: str, sentence: str, **how: Any) -> Callable[[Callable[[Evidence], Sequence[Part]]], Claim]:
    """Turn a function from `Evidence` to `Part`s into a `Claim`, whose fields `how` gives."""
    return lambda parts: Claim(number=number, sentence=sentence, parts=parts, **how)
