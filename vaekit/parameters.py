"""The notebook edge: what papermill, or a reader in JupyterLab, wrote into the parameters cell → checked settings."""

import ast
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from vaekit.settings import Settings

_INJECTED = "# Parameters"  # the first line of the cell that papermill puts after the one tagged `parameters`
S = TypeVar("S", bound=Settings)


def read(cls: type[S], namespace: Mapping[str, Any]) -> S:
    """The settings of class `cls` in a notebook: `settings = parameters.read(study.Settings, globals())`.

    Takes the names that are parameters of `cls`; None is not given. papermill only warns about a name that the notebook
    does not know and goes on with its default, so the names written in the parameters cells are checked too. Raises one
    SettingsError for all that is wrong, which ends papermill with an exit status that is not 0.
    """
    names = [name for name, option in cls.options().items() if option.parameter]
    return cls.at(**{name: namespace.get(name) for name in [*names, *_written(namespace.get("In", ()))]})


def _written(cells: Iterable[str]) -> list[str]:
    """The names that the parameters cells assign, by IPython's history `In`: the defaults', then the injected one's.

    The kernel sees no tags: the injected cell is the newest that starts as papermill's does, the defaults cell the
    newest other that assigns `scale`. An injected cell from before it is stale: run again, the defaults hold. (Not
    `globals()`: in a notebook that is run twice it also has the names of every later cell.)
    """
    injected: list[str] | None = None
    for cell in reversed(list(cells)):
        if cell.startswith(_INJECTED):
            injected = _assigned(cell) if injected is None else injected
        elif "scale" in (defaults := _assigned(cell)):
            return defaults + (injected or [])
    return injected or []


def _assigned(cell: str) -> list[str]:
    """The names that the cell's own lines assign; none for a cell that is no Python (IPython keeps those as well)."""
    try:
        lines = ast.parse(cell).body
    except (SyntaxError, ValueError):  # ValueError: a null byte
        return []
    targets = [target for line in lines if isinstance(line, ast.Assign) for target in line.targets]
    targets += [line.target for line in lines if isinstance(line, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
