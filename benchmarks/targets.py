"""The speeds that vaekit sets itself, each judged by the committed tables: `python -m benchmarks targets`.

A target names the rows that decide it; all of them must hold, on one machine. Each machine whose rows are committed is
judged by itself. What nobody has measured, or what a machine cannot show, is said so and is neither met nor missed.
"""

import fnmatch
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import records
from benchmarks.fleet import BATCHES, CONVOLUTIONAL
from benchmarks.records import Row

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured here"


@dataclass(frozen=True)
class Rule:
    """What a number must be: `words` for people, e.g. "≥ 1.25"; `holds(row)` decides."""

    words: str
    holds: Callable[[Row], bool]


def at_least(limit: float) -> Rule:
    """The median is not below a limit."""
    return Rule(f"≥ {limit:g}", lambda row: row.value >= limit)


def at_most(limit: float) -> Rule:
    """The median is not above a limit."""
    return Rule(f"≤ {limit:g}", lambda row: row.value <= limit)


# A true ratio of 1 gives medians on both sides of it: the interval must reach 1, and the median may not be far below.
NOT_SLOWER = Rule("not slower", lambda row: row.high >= 1.0 and row.value >= 0.95)
HOLDS_ZERO = Rule("interval holds 0", lambda row: row.low <= 0.0 <= row.high)


@dataclass(frozen=True)
class Target:
    """A sentence, and the rows that decide it.

    Args:
        item: what of vaekit it is about: "training", "GPU", "bf16", "geometry", "measures", "store", "book".
        says: the target as a sentence.
        benchmark: whose table has the rows: `results/<benchmark>.csv`.
        cases, contenders, quantity: the rows are every case with every contender. A case or a quantity may end in `*`:
            then it is all that begin so, of which there must be one.
        rule: what each of them must be.
        bf16: it is about bfloat16's speed, so a processor that emulates it cannot show it.
        card: a word that the machine's name must have, e.g. "H200".
    """

    item: str
    says: str
    benchmark: str
    cases: tuple[str, ...]
    contenders: tuple[str, ...]
    quantity: str
    rule: Rule
    bf16: bool = False
    card: str = ""


@dataclass(frozen=True)
class Verdict:
    """A target on one machine: its outcome, why there is none, and the rows that decided (or are there already)."""

    target: Target
    outcome: str
    why: str = ""
    rows: Sequence[Row] = field(default=())

    @property
    def machine(self) -> str:
        return self.rows[0].machine if self.rows else ""

    @property
    def failing(self) -> list[Row]:
        """The rows that miss it."""
        return [] if self.outcome != MISSED else [row for row in self.rows if not self.target.rule.holds(row)]

    @property
    def decisive(self) -> Row | None:
        """The row to show for all: the first that misses, else the one that is nearest to it."""
        if not self.rows:
            return None
        upwards = self.target.rule.words.startswith("≤")
        return self.failing[0] if self.failing else (max if upwards else min)(self.rows, key=lambda row: row.value)


def _members(sizes: dict[str, tuple[int, ...]], precision: str = "full") -> tuple[str, ...]:
    return tuple(f"{model}, {precision}, {n} members" for model, counts in sizes.items() for n in counts)


_LARGER = ("mlp1", "mlp3", "cnn3", "ghvae")
_PLAIN, _TRAINERS = ("plain loop / vaekit",), ("dataloader / vaekit", "lightning / vaekit")
# The models of the four studies at every fleet size that is measured; a fleet of one is a target of its own.
_FLEETS: dict[str, tuple[int, ...]] = {"mlp1": (2, 3, 4), "mlp3": (2, 4), "cnn3": (2, 3), "ghvae": (2, 4)}
_FLEETS |= dict.fromkeys(("cnn1", "ghvae28", "lvae", "classifier28", "classifier32", "study1"), (2,))
_ALONE: dict[str, tuple[int, ...]] = dict.fromkeys((*_LARGER, "classifier28"), (1,))
_COMPARED = tuple(
    f"II both ways, N = {cloud}, 1 thread" for cloud in ("5,000, D = 128", "5,000, D = 3,072", "10,000, D = 128")
)
_COMPARED += ("11 x 11 II and 11 IDs, N = 2,000, 1 thread",)

TARGETS = (
    Target(
        "training",
        "A fleet of 1-layer MLPs trains 1.25 times as fast as a plain in-memory loop",
        "fleet",
        _members({"mlp1": (2,)}),
        _PLAIN,
        "ratio",
        at_least(1.25),
    ),
    Target(
        "training",
        "A fleet of 3-layer MLPs trains 1.1 times as fast as a plain loop",
        "fleet",
        _members({"mlp3": (2,)}),
        _PLAIN,
        "ratio",
        at_least(1.1),
    ),
    Target(
        "training",
        "A fleet of MNIST's convolutional nets trains 1.5 times as fast as a plain loop of torch's own layers",
        "fleet",
        _members({"classifier28": (2,), "ghvae28": (2,)}),
        _PLAIN,
        "ratio",
        at_least(1.5),
    ),
    Target(
        "training",
        "A fleet of the colour nets of studies 2 and 4, or of study 1's, trains 1.25 times as fast",
        "fleet",
        _members({"classifier32": (2,), "ghvae": (2,), "study1": (2,)}),
        _PLAIN,
        "ratio",
        at_least(1.25),
    ),
    Target(
        "training",
        "No convolutional net trains more slowly as a fleet, in batches of 32 or of 512",
        "fleet",
        tuple(f"{setup}, batch {size}, 2 members" for setup in CONVOLUTIONAL for size in BATCHES),
        _PLAIN,
        "ratio",
        NOT_SLOWER,
    ),
    Target(
        "training",
        "A fleet of CNNs in bf16 trains 1.1 times as fast as a plain loop in bf16",
        "fleet",
        _members({"cnn3": (2,)}, "bf16"),
        _PLAIN,
        "ratio",
        at_least(1.1),
        bf16=True,
    ),
    Target(
        "training",
        "No model of the four studies trains more slowly as a fleet, of any size",
        "fleet",
        _members(_FLEETS),
        _PLAIN,
        "ratio",
        NOT_SLOWER,
    ),
    Target(
        "training",
        "A fleet of one is not slower than a plain loop",
        "fleet",
        _members(_ALONE),
        _PLAIN,
        "ratio",
        NOT_SLOWER,
    ),
    Target(
        "training",
        "A fleet of 8 or 32 tiny VAEs (25,000 parameters) trains twice as fast as a plain loop",
        "fleet",
        _members({"tiny": (8, 32)}),
        _PLAIN,
        "ratio",
        at_least(2),
    ),
    Target(
        "training",
        "Against DataLoader with transforms and against Lightning, a fleet is 1.2 times as fast on the larger models",
        "fleet",
        _members(dict.fromkeys(_LARGER, (2,)), "trainers"),
        _TRAINERS,
        "ratio",
        at_least(1.2),
    ),
    Target(
        "training",
        "Against DataLoader with transforms and against Lightning, a fleet of 8 is 3 times as fast on the tiny model",
        "fleet",
        _members({"tiny": (8,)}, "trainers"),
        _TRAINERS,
        "ratio",
        at_least(3),
    ),
    Target(
        "training",
        "bf16 makes the MLPs twice as fast again",
        "fleet",
        tuple(f"{model}, full against bf16, 2 members" for model in ("mlp1", "mlp3")),
        ("vaekit / vaekit bf16",),
        "ratio",
        at_least(2),
        bf16=True,
    ),
    Target(
        "training",
        "A fleet's peak memory is at most 1.3 times what it must hold",
        "fleet",
        ("mlp3, memory, 2 members", "ghvae, memory, 2 members", "mlp1, memory, 8 members"),
        ("vaekit / needed",),
        "ratio",
        at_most(1.3),
    ),
    Target(
        "GPU",
        "A fleet of MLPs reaches 60 % of the floor that the card's bandwidth and arithmetic set",
        "gpu",
        tuple(f"{model} {precision}" for model in ("mlp1", "mlp3") for precision in ("full", "bf16")),
        ("vaekit",),
        "share of floor",
        at_least(0.6),
    ),
    Target(
        "GPU",
        "A fleet of GHVAEs or CNNs reaches 33 % of the floor",
        "gpu",
        tuple(f"{model} {precision}" for model in ("ghvae", "cnn3") for precision in ("full", "bf16")),
        ("vaekit",),
        "share of floor",
        at_least(0.33),
    ),
    Target(
        "GPU",
        "441 GHVAEs of 57,000 steps take at most 45 minutes of one H200",
        "gpu",
        ("441 ghvae x 57,000 steps",),
        ("vaekit",),
        "minutes",
        at_most(45),
        card="H200",
    ),
    Target(
        "GPU",
        "441 GHVAEs at the published example's longer budget take at most 2 hours of one H200 in bf16",
        "gpu",
        ("441 ghvae, published example",),
        ("vaekit",),
        "minutes",
        at_most(120),
        card="H200",
    ),
    Target(
        "bf16",
        "In bf16 a stack's members end where they end alone, paired by seed",
        "fleet",
        ("tiny, bf16 stack against alone",),
        ("stack - alone",),
        "difference of losses (nats)",
        HOLDS_ZERO,
    ),
    Target(
        "geometry",
        "Information Imbalance both ways is 4 times as fast as DADApy's at N = 5,000, D = 128",
        "geometry",
        ("II both ways, N = 5,000, D = 128, 1 thread",),
        ("DADApy / vaekit",),
        "ratio",
        at_least(4),
    ),
    Target(
        "geometry",
        "Information Imbalance both ways is no slower than DADApy's at N = 5,000, D = 3,072",
        "geometry",
        ("II both ways, N = 5,000, D = 3,072, 1 thread",),
        ("DADApy / vaekit",),
        "ratio",
        at_least(1),
    ),
    Target(
        "geometry",
        "The whole 11 × 11 matrix with all intrinsic dimensions is twice as fast as DADApy's at N = 2,000",
        "geometry",
        ("11 x 11 II and 11 IDs, N = 2,000, 1 thread",),
        ("DADApy / vaekit",),
        "ratio",
        at_least(2),
    ),
    Target(
        "geometry",
        "Peak memory above the inputs is a fifth of DADApy's at N = 10,000, D = 128",
        "geometry",
        ("II both ways, N = 10,000, D = 128, 1 thread",),
        ("vaekit / DADApy",),
        "ratio of MB above the inputs",
        at_most(0.2),
    ),
    Target(
        "geometry",
        "The whole matrix at N = 5,000 takes at most 1.2 GB above the inputs",
        "geometry",
        ("11 x 11 II and 11 IDs, N = 5,000, 1 thread",),
        ("vaekit",),
        "MB above the inputs",
        at_most(1200),
    ),
    Target(
        "geometry",
        "Every imbalance is within 1e-9 of DADApy's",
        "geometry",
        _COMPARED,
        ("vaekit",),
        "largest relative difference of II",
        at_most(1e-9),
    ),
    Target(
        "geometry",
        "Dimensions of well-scaled points are within 1e-9 of DADApy's (on a model's layers its own rounding shows)",
        "geometry",
        ("2NN, N = 5,000, D = 128, 1 thread",),
        ("vaekit",),
        "largest relative difference of ID",
        at_most(1e-9),
    ),
    Target(
        "measures",
        "The measures of every study, likelihood left out, take at most a tenth of the training at the short scale",
        "measures",
        tuple(f"study {study}, short, *" for study in ("1", "2, grid", "3, depth 1", "3, depth 3", "4, family")),
        ("all measures",),
        "share of training",
        at_most(0.1),
    ),
    Target(
        "store",
        "A store of 10,000 members opens as a DataFrame within 10 s",
        "store",
        ("10,000 members as a DataFrame",),
        ("vaekit",),
        "s",
        at_most(10),
    ),
    Target(
        "store",
        "A store of 10,000 members opens as a DataFrame in 500 MB",
        "store",
        ("10,000 members as a DataFrame",),
        ("vaekit",),
        "MB",
        at_most(500),
    ),
    Target(
        "store",
        "Checkpoints take at most a fiftieth of a training at the paper's scale",
        "store",
        ("checkpoint, mlp3, 2 members",),
        ("vaekit",),
        "share of training",
        at_most(0.02),
    ),
    Target(
        "book",
        "The book is built from nothing in 3 minutes, the packages aside",
        "book",
        ("book, from nothing",),
        ("vaekit",),
        "s",
        at_most(180),
    ),
    Target(
        "book",
        "The book is built again within 30 seconds after a change of prose",
        "book",
        (
            "book, after a change of prose in one notebook (data.ipynb)",
            "book, after a change of prose in one page (running.md)",
        ),
        ("vaekit",),
        "s",
        at_most(30),
    ),
    Target(
        "book",
        "No page with its pictures is over 1.5 MB",
        "book",
        ("book, largest page",),
        ("vaekit",),
        "MB",
        at_most(1.5),
    ),
    Target(
        "book",
        "`import vaekit` takes at most twice as long as `import torch`",
        "book",
        ("import",),
        ("vaekit / torch",),
        "ratio",
        at_most(2),
    ),
)


def verdicts(read: Callable[[str], Sequence[Row]] = records.read, targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """Every target on every machine that has rows of it, in order; `read(benchmark)` gives the committed rows."""
    return [verdict for target in targets for verdict in _judge(target, read(target.benchmark))]


def _judge(target: Target, committed: Sequence[Row]) -> Iterator[Verdict]:
    wanted = [(case, contender) for case in target.cases for contender in target.contenders]
    asked = [
        row
        for row in committed
        if fnmatch.fnmatchcase(row.quantity, target.quantity) and any(_is(row, *name) for name in wanted)
    ]
    if not asked:
        yield Verdict(target, NOT_MEASURED, "no GPU" if target.benchmark == "gpu" else "nobody has measured it")
    for machine in sorted({row.machine for row in asked}):
        rows = [row for row in asked if row.machine == machine]
        numbers = [row for row in rows if not math.isnan(row.value)]
        lacking = [name for name in wanted if not any(_is(row, *name) for row in numbers)]
        if target.bf16 and not records.has_bf16(machine):
            yield Verdict(target, NOT_MEASURED, "this processor emulates bf16", rows)
        elif target.card not in machine:
            yield Verdict(target, NOT_MEASURED, f"not an {target.card}", rows)
        elif not all(target.rule.holds(row) for row in numbers):
            yield Verdict(target, MISSED, "", numbers)
        elif lacking:
            case, contender = lacking[0]
            why = f"{len(lacking)} of {len(wanted)} rows are missing, e.g. {contender} at {case}"
            yield Verdict(target, NOT_MEASURED, why, rows)
        else:
            yield Verdict(target, MET, "", rows)


def _is(row: Row, case: str, contender: str) -> bool:
    return row.contender == contender and fnmatch.fnmatchcase(row.case, case)


def said(row: Row) -> str:
    """A number for people: with its interval, unit, contender and case."""
    ends = "" if math.isnan(row.low) else f" [{row.low:.3g}, {row.high:.3g}]"
    return f"{row.value:.3g}{ends} {row.quantity}: {row.contender}, {row.case}"


def main(read: Callable[[str], Sequence[Row]] = records.read) -> int:
    """Print each target, what was measured, on which machine, and the outcome; 1 where one is missed, else 0."""
    judged = verdicts(read)
    for verdict in judged:
        reason = f" ({verdict.why})" if verdict.why else ""
        print(f"{verdict.outcome.upper()}{reason}: {verdict.target.item}: {verdict.target.says}")
        for row in verdict.failing or filter(None, [verdict.decisive]):
            print(f"    {said(row)}; asked: {verdict.target.rule.words}")
        if verdict.machine:
            print(f"    on {verdict.machine}")
    counts = {outcome: sum(v.outcome == outcome for v in judged) for outcome in (MET, MISSED, NOT_MEASURED)}
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return int(counts[MISSED] > 0)
