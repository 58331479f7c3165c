"""Pictures of trained members: made where the weights are, exported with the tables, and shown from either.

    sheet = pictures.of(study.DESIGN, key, runs.default_store())
    sheet.pictures[row, column]  # uint8 (H, W, C); sheet.labels[row] says what it is

What they show is the study's own (`Design.pictures`): chosen by the member and its images alone, so the same whoever
asks.
"""

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vaekit import results, runs, sheets, sweep
from vaekit.data import DataError
from vaekit.results import ResultsError
from vaekit.runs import Store, StoreError
from vaekit.sheets import Sheet
from vaekit.sweep import Design


def of(design: Design, key: str, store: Store | None) -> Sheet | None:
    """The pictures of a member after its last stored step: those in results/, else made from its weights in the store.

    Without a store, those in results/ alone. None where it has neither, or where its study makes no pictures. Errors:
    StoreError, ResultsError for damaged files; DataError where pictures must be made and the images are not here.
    """
    if design.pictures is None:
        return None
    carried = results.picture(design.name, key)
    if carried and carried.version == design.pictures.version:
        return carried
    return (make(design, key, store) if store and key in store else None) or carried


def make(design: Design, key: str, store: Store) -> Sheet | None:
    """The pictures of a stored member; None where it has no weights, or its code or its images are now others.

    Errors: as for `of`.
    """
    record = store.record(key)
    member, steps = runs.member_of(record["member"]), runs.stored_steps(record)
    if design.pictures is None or not steps or member.key != key:
        return None
    images = sweep.examples(member.data, member.split, member.n_train, member.n_test)
    taken = design.pictures.take(runs.load(key, steps[-1], store), member, steps[-1], images)
    if taken is None:
        return None
    shown = np.ascontiguousarray(taken.permute(0, 1, 3, 4, 2).cpu().numpy())
    return Sheet(key, steps[-1], design.pictures.version, design.pictures.labels, shown)


def export(
    design: Design, keys: Iterable[str], carried: Mapping[str, bytes], store: Store, say: Callable[[str], None]
) -> dict[str, bytes]:
    """Files of the pictures of those of these members that are stored, by name, but for those that are `carried`.

    Says what it makes, and of how many members it cannot, since their images are not here. Errors: StoreError for a
    damaged run, and for pictures that take more than `sheets.LIMIT`.
    """
    if design.pictures is None:
        return {}
    lacking = [key for key in keys if key in store and not _is_there(design, key, carried, store)]
    # Members of the same images one after the other: those are made once.
    lacking.sort(key=lambda key: [str(store.record(key)["member"][n]) for n in ("data", "split", "n_train", "n_test")])
    if lacking:
        say(f"making pictures of {len(lacking)} member{'s' * (len(lacking) > 1)}")
    made: dict[str, bytes] = {}
    problems: dict[str, list[str]] = {}
    for key in lacking:
        try:
            sheet = make(design, key, store)
            if sheet:
                made[sheets.file_name(key, sheet.step)] = sheets.pack(sheet)
        except DataError as error:
            problems.setdefault(str(error), []).append(key)
        except sheets.SheetError as error:
            raise StoreError(f"run {key[: sheets.SHORT]}: {error}") from None
    for problem, of_them in problems.items():
        say(f"no pictures of {len(of_them)} members: {problem}")
    return made


def _is_there(design: Design, key: str, carried: Mapping[str, bytes], store: Store) -> bool:
    """Whether a member's pictures are carried, or there are none to make."""
    steps = runs.stored_steps(store.record(key))
    name = sheets.file_name(key, max(steps, default=0))
    if not steps or name not in carried:
        return not steps
    try:
        return design.pictures is None or sheets.unpack(carried[name], name).version == design.pictures.version
    except sheets.SheetError as error:
        raise ResultsError(str(error)) from None
