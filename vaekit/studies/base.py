"""What all studies share: their common settings, and the table that a study's notebook shows."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from vaekit import sweep
from vaekit.data import absence, problem
from vaekit.fleet import PRECISIONS, device_problem
from vaekit.settings import Option, Settings, option, spelled
from vaekit.store import Member, Store, StoreError, default_store, results
from vaekit.store.table import budget_numbers, frame
from vaekit.sweep import StudySpec, cluster

PUBLISHED = "published"  # no scale of its own: the paper's, shown from results/


@dataclass(frozen=True, kw_only=True)
class StudySettings(Settings):
    """Seeds, data, precision and device, and what can stand against a run before it begins.

    At scale "published" the table comes from the `source` "results": what `results/` holds, of what was given.
    Otherwise from "store": what is stored, after what is missing was trained.
    """

    seeds: tuple[int, ...] = option("seed numbers", at_least=0, below=2**63)
    data: tuple[str, ...] = option("image sets", check=problem)
    precision: str = option("arithmetic of the training", choices=tuple(PRECISIONS))
    device: str = option("cpu, cuda, cuda:1, …", check=device_problem, column="")
    cluster: str = option("none, local, a scheduler's address or a YAML file", default="none", column="")

    @property
    def source(self) -> str:
        """Where the table comes from: "results" or "store"."""
        return "results" if self.scale == PUBLISHED else "store"

    @property
    def store(self) -> Store | None:
        """The store that pictures and weights may be taken from; None where results/ alone are shown."""
        return None if self.source == "results" else default_store()

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


def of_study(spec: StudySpec, members: Callable[[Any], Sequence[Member]], settings: Any) -> pd.DataFrame:
    """What a notebook shows: the members asked for, in the column `asked`, beside all that is known of their budgets.

    `members` turns the `settings` into what is asked for, and what is missing of that is trained first. With the source
    "results" nothing is trained: the members are those of `results/` that agree with all settings given.

    Raises:
        StoreError: `results/` lacks members; it names the command that would train them.
        StoreError, DataError: as in `sweep.run`.
    """
    if settings.source == "results":
        return _of_results(spec, settings)
    wanted = members(settings)
    if settings.cluster == "none":
        plan = sweep.run(spec, wanted, device=settings.device)
    else:
        reference = f"vaekit.studies.{spec.name}:SPEC"
        plan = cluster.run(reference, wanted, cluster=settings.cluster, device=settings.device)
    table = frame(sweep.tables(spec, members=wanted, listed=plan.listed))
    asked = table["key"].isin({member.key for member in wanted})
    numbers = budget_numbers(table, spec.axes)
    alike = numbers.isin(set(numbers[asked]))
    return table[alike].assign(asked=asked[alike]).reset_index(drop=True)


def _of_results(spec: StudySpec, settings: Settings) -> pd.DataFrame:
    """The members of `results/` that agree with all settings given, and those that they were derived from."""
    table = frame(results.read(results.folder(spec.name)))
    if not len(table):
        raise StoreError(
            f"{results.folder(spec.name)} holds no member yet (VAEKIT_RESULTS names another folder); `python -m vaekit "
            f"train {spec.name} --scale quick` and "
            f"`python -m vaekit export {spec.name}` make some"
        )
    members = table.drop_duplicates("key")
    if "parent" in members:
        members = members[~members["key"].isin(members["parent"])]
    held = _held(members, settings)
    absent, fitting = [], np.zeros(len(members), bool)
    for values in product(*held.values()):
        place = dict(zip(held, values, strict=True))
        fits = np.logical_and.reduce([held[name][value] for name, value in place.items()])
        fitting |= fits
        if not fits.any():
            absent.append(place)
    if absent:
        first = ", ".join(f"{name} {value}" for name, value in absent[0].items())
        what = f"results/{spec.name} lacks {len(absent)} of what was asked for, first {first}; train it by "
        raise StoreError(what + commands(spec, settings, _scale_of(table, settings)))
    asked = members[fitting]
    keys = {*asked["key"], *(asked["parent"].dropna() if "parent" in asked else ())}
    return table[table["key"].isin(keys)].assign(asked=True).reset_index(drop=True)


def commands(spec: StudySpec, settings: Settings, scale: str) -> str:
    """The commands that train what was given at a scale, and show it from results/."""
    options = spelled({name: getattr(settings, name) for name in sorted(settings.given)})
    train = f"python -m vaekit train {spec.name} --scale {scale}{options}"
    return f"`{train}`, then `python -m vaekit export {spec.name}`"


def _held(members: pd.DataFrame, settings: Settings) -> dict[str, dict[Any, np.ndarray]]:
    """For each setting given that tells members apart, which of them have each of its values.

    Where the option computes its column, a cell is empty where a member has no use for the setting: it goes with any
    value that some member has.
    """
    options, held = settings.options(), {}
    for name in sorted(settings.given):
        column = options[name].column
        if callable(column):
            title, cells = name, column(members)
            free = cells.isna()
        else:
            title = column or (name if name in members else name.removesuffix("s"))
            if title not in members:
                continue
            cells, free = members[title], False
        values = getattr(settings, name)
        values = values if isinstance(values, tuple) else (values,)
        zero = options[name].zero
        alike = {value: cells == (zero(members) if zero and value == 0 else value) for value in values}
        held[title] = {value: np.asarray(same | free if same.any() else same) for value, same in alike.items()}
    return held


def _scale_of(table: pd.DataFrame, settings: Settings) -> str:
    """The scale whose steps the largest budget of `results/` has; short where there is none."""
    steps = table["steps"].max()
    return next((name for name, values in settings.SCALES.items() if values.get("steps") == steps), "short")
