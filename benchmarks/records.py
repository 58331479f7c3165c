"""The tables of measurements: `results/<benchmark>.csv`, one row a number, with the machine it was taken on.

A row is named by (machine, case, contender, quantity); measuring again replaces it and leaves the others.
"""

import csv
import datetime
import math
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from benchmarks.timing import Interval
from vaekit.provenance import commit

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured number.

    Args:
        case: what was done, e.g. "mlp1, full, 2 members".
        contender: who did it, e.g. "vaekit", "lightning"; of a ratio, "peer / vaekit".
        quantity: what the number is, with its unit: "us/model-step", "ratio", "MB", "loss (nats)", "s".
        value, low, high: the median and its 95 % interval; NaN ends where there is none.
        rounds: how many times it was taken.
        note: what a reader must know, e.g. why there is no number.
    """

    case: str
    contender: str
    quantity: str
    value: float
    low: float = math.nan
    high: float = math.nan
    rounds: int = 1
    note: str = ""
    machine: str = ""
    torch: str = ""
    commit: str = ""
    date: str = ""

    @classmethod
    def of(cls, case: str, contender: str, quantity: str, taken: Interval, note: str = "") -> "Row":
        """A row from an interval."""
        return cls(case, contender, quantity, *taken, note=note)

    @property
    def name(self) -> tuple[str, str, str, str]:
        """What a later measurement of the same thing replaces."""
        return self.machine, self.case, self.contender, self.quantity


def machine(device: str = "cpu") -> str:
    """The machine in words: processor, cores, what arithmetic it has, memory, system. No name, no address."""
    if torch.device(device).type == "cuda":
        card = torch.cuda.get_device_properties(device)
        return f"{card.name}, {card.total_memory / 2**30:.0f} GiB"
    info = Path("/proc/cpuinfo")
    model, flags = _processor(info.read_text() if info.exists() else "")
    has = [
        word
        for flag, word in (("avx512f", "AVX-512"), ("avx512_bf16", "AVX512-BF16"), ("amx_bf16", "AMX"))
        if flag in flags
    ]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    arithmetic = ", ".join(has) or "AVX2 alone"
    return f"{os.cpu_count()} cores of {model} ({arithmetic}), {memory:.0f} GiB, {platform.system()}"


def _processor(cpuinfo: str) -> tuple[str, set[str]]:
    """The name and the instruction sets of the processor that Linux describes so."""
    pairs = (line.partition(":") for line in cpuinfo.splitlines())
    told = {name.strip(): value.strip() for name, _, value in pairs}  # before the colon stand one tab or two
    return told.get("model name") or platform.processor() or platform.machine(), set(told.get("flags", "").split())


def has_bf16(words: str | None = None) -> bool:
    """Whether a machine in words (this one) has bfloat16 products of its own; without, bf16 is emulated and slow."""
    return any(name in (words or machine()) for name in ("AVX512-BF16", "AMX"))


def read(benchmark: str) -> list[Row]:
    """The committed rows of a benchmark; none where it was never run."""
    path = RESULTS / f"{benchmark}.csv"
    if not path.exists():
        return []
    kinds = {field.name: field.type for field in fields(Row)}
    with open(path, newline="") as file:
        return [
            Row(**{name: {float: float, int: int}.get(kinds[name], str)(cell) for name, cell in row.items()})
            for row in csv.DictReader(file)
        ]


def write(benchmark: str, rows: Iterable[Row], device: str = "cpu") -> list[Row]:
    """Merge rows, stamped with machine, versions and day, into a benchmark's table; returns them stamped."""
    stamp = {
        "machine": machine(device),
        "torch": torch.__version__,
        "commit": commit() or "",
        "date": datetime.date.today().isoformat(),
    }
    new = [Row(**{**asdict(row), **stamp}) for row in rows]
    merged = {row.name: row for row in [*read(benchmark), *new]}
    RESULTS.mkdir(exist_ok=True)
    with open(RESULTS / f"{benchmark}.csv", "w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Row)], lineterminator="\n")
        table.writeheader()
        for row in sorted(merged.values(), key=lambda row: row.name):
            table.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in asdict(row).items()})
    return new


def show(rows: Iterable[Row]) -> str:
    """The rows as text for people."""
    lines = []
    for row in rows:
        ends = "" if math.isnan(row.low) else f"  [{row.low:.4g}, {row.high:.4g}]"
        lines.append(f"{row.case:44s} {row.contender:32s} {row.value:10.4g} {row.quantity}{ends}  {row.note}".rstrip())
    return "\n".join(lines)
