"""What a study can be asked for: typed values, checked in one place for the notebook, Python and the command line.

A study's settings are a frozen dataclass over `Settings`, each field made by `option`. Values come from one of its
`SCALES`, replaced by what is given. All that is wrong is one `SettingsError`, before any work.

>>> @dataclass(frozen=True, kw_only=True)
... class Example(Settings):
...     betas: tuple[float, ...] = option("weights of the rate", at_least=0)
...     steps: int = option("training steps", at_least=1)
...     SCALES = {"quick": {"betas": (0.1, 1), "steps": 500}, "short": {"betas": (0.1, 1), "steps": 50_000}}
>>> settings = Example.at("quick", betas="[0.25, 7e-1]")
>>> settings.betas, settings.steps, settings.given
((0.25, 0.7), 500, frozenset({'betas'}))
>>> Example.at("quick", beta=2, steps=-1)
Traceback (most recent call last):
    ...
vaekit.settings.SettingsError: 2 problems:
- beta: no such parameter (did you mean betas?)
- steps (training steps): got -1; wanted a whole number, at least 1

Standard library only: the training core must run on a bare machine.
"""

import dataclasses
import difflib
import math
import operator
import os
import re
import reprlib
import shlex
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

# Settings that a table or a page names, as readers know them; the others by their own names.
WORDS = {
    "betas": "beta",
    "data": "images",
    "n_train": "training images",
    "depths": "layers",
    "models": "network",
    "latent_dims": "latent dimensions",
    "latent_dim": "K",
    "arms": "pruning",
    "lambdas": "lambda",
    "readings": "reading",
}


class PlainError(Exception):
    """An error whose message says all there is to say: IPython shows it without a traceback."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: no line of code is to blame."""
        return [f"{type(self).__name__}: {self}"]


class SettingsError(PlainError, ValueError):
    """All that is wrong with what was asked for, a sentence for each of `problems`."""

    @property
    def problems(self) -> tuple[str, ...]:
        return self.args

    def __str__(self):
        if len(self.problems) == 1:
            return self.problems[0]
        return "\n- ".join((f"{len(self.problems)} problems:", *self.problems))


def expanded(path: str | os.PathLike, error: type[PlainError], advice: str = "give an absolute path") -> Path:
    """A path with `~` as the user's home. Raises `error` where no home is known, or HOME is relative."""
    at_home = str(path).startswith("~")
    try:
        if at_home and os.environ.get("HOME") == "":
            raise RuntimeError("an empty HOME is none, and not /")
        folder = Path(path).expanduser()
    except RuntimeError:
        raise error(f"{path} is in a home folder, and none is known here; {advice}") from None
    if at_home and not folder.is_absolute():
        raise error(f"HOME: got {os.environ['HOME']}; wanted an absolute path, since {path} is in it; or {advice}")
    return folder


def environment_folder(variable: str, default: str | os.PathLike, error: type[PlainError]) -> Path:
    """The absolute folder that an environment variable names, or the default; `~` is the user's home.

    Raises:
        error: There is no home folder, or the path is relative: a notebook, whose kernel works in another folder, would
            take it for another one.
    """
    chosen = os.environ.get(variable) or default
    folder = expanded(chosen, error, f"set {variable} to an absolute path")
    if not folder.is_absolute():
        raise error(f"{variable}: got {chosen}; wanted an absolute path, which is the same in every working folder")
    return folder


def canonical(value: float) -> float:
    """A float to 12 significant digits: 0.1 + 0.2 and 0.3 are one, -0.0 is 0.0.

    Raises:
        ValueError: It is NaN or infinite.
    """
    if not math.isfinite(value):
        raise ValueError(f"got {value}; wanted a finite number")
    return float(f"{value:.12g}") + 0.0


def nearest(word: object, words: Iterable[object], cutoff: float = 0.6) -> str:
    """The suggestion " (did you mean …?)" of the nearest of `words`, or nothing where none is as alike as `cutoff`."""
    names = {str(name).lower(): name for name in words}
    matches = difflib.get_close_matches(str(word).lower(), names, n=1, cutoff=cutoff)
    return f" (did you mean {names[matches[0]]}?)" if matches else ""


# From what people, YAML and numpy write to one value of a kind: ValueError or OverflowError where it is none ---------


def _text(raw: object) -> str:
    if not isinstance(raw, str) or not raw:
        raise ValueError
    return raw


def _number(raw: Any) -> int | float:
    if isinstance(raw, str):
        try:
            return int(raw)
        except ValueError:
            return float(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError
    return raw


def _whole(raw: object) -> int:
    number = _number(raw)
    if number != int(number):
        raise ValueError
    return int(number)


_KINDS: dict[type, tuple[str, Callable[[Any], Any]]] = {
    str: ("name", _text),
    int: ("whole number", _whole),
    float: ("finite number", lambda raw: canonical(_number(raw))),
}


def _plain(raw: Any) -> Any:
    """`raw` as Python's own values: numpy's by `tolist`, the text of a list ("[1, 1e-3]") as a list of texts.

    Lists are flat and hold names and numbers, so we need no YAML for them: its readers are not everywhere, and take
    1e-3 for a text, 010 for eight and 1:30 for ninety.
    """
    if hasattr(raw, "tolist"):
        raw = raw.tolist()
    if not isinstance(raw, str):
        return list(raw) if isinstance(raw, list | tuple | range) else raw
    text = raw.strip()
    if text[:1] == "[" and text[-1:] == "]":
        items = text[1:-1].split(",")
        return [_plain(item) for item in (items if items[-1].strip() else items[:-1])]  # "[]", "[1, 2,]"
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text


_RANGE = re.compile(r"\s*([0-9]{1,19})\s*-\s*([0-9]{1,19})\s*", re.ASCII)
_LONGEST = 100_000  # numbers of a range


def _spread(raw: Any) -> Any:
    """Lists of whole numbers as people write them: "0-19" and "0-4,7" with all that is meant, else what came, by part.

    A text is cut at its commas, so that an error names the part that is wrong.
    """
    if isinstance(raw, str):
        raw = [part.strip() for part in raw.split(",")]
    if not isinstance(raw, list):
        return raw
    items: list[Any] = []
    for item in raw:
        first, last = _ends(item) or (0, -1)
        items += range(first, last + 1) if 0 <= last - first < _LONGEST else [item]
    return items


def spelled(settings: Mapping[str, Any]) -> str:
    """Settings as options of a command, " -p betas '[0.1, 1.0]' -p seeds 0-4"; whole numbers in a row are a range."""
    return "".join(f" -p {name} {shlex.quote(_spelled(value))}" for name, value in settings.items())


def _spelled(value: Any) -> str:
    values = list(value) if isinstance(value, tuple) else [value]
    whole = all(isinstance(each, int) for each in values)
    if whole and len(values) > 3 and values == list(range(values[0], values[-1] + 1)):
        return f"{values[0]}-{values[-1]}"
    return f"[{', '.join(map(str, values))}]" if len(values) > 1 else str(values[0])


def _ends(item: object) -> tuple[int, int] | None:
    """The ends of the range that a text says; None where it says none."""
    match = _RANGE.fullmatch(item) if isinstance(item, str) else None
    return (int(match[1]), int(match[2])) if match else None


def _fault(item: object) -> str:
    """What is wrong with a range, in brackets; nothing where none was meant."""
    if ends := _ends(item):
        first, last = ends
        return f" (more than {_LONGEST:,} numbers)" if first <= last else f" (a range goes up: {last}-{first})"
    meant = isinstance(item, str) and re.fullmatch(r"[\s0-9-]+-[\s0-9-]*", item, re.ASCII)
    return " (a range has two ends: 0-4)" if meant else ""


_BOUNDS = {"at_least": operator.ge, "above": operator.gt, "at_most": operator.le, "below": operator.lt}
_echo = reprlib.Repr()
_echo.maxstring = _echo.maxother = 60


@dataclass(frozen=True, kw_only=True)
class Option:
    """The meaning of a field of a study's settings (a phrase, for errors and help) and the values it takes.

    Args:
        meaning: The phrase.
        at_least, above, at_most, below, choices: They hold for each value of a list.
        check: Takes a value that passed these and returns a sentence on what is wrong with it, or None.
        parameter: False where the scale alone sets the field.
        column: Where the tidy table has the values: a column's name, a function from the table to them, empty where a
            member has no use for the setting, or "" for none. None: the field's own name, or that without its s.
        zero: Where 0 stands for another number: a function from the table to that, for each row.
        kind, several: The field's annotation: str, int or float, and whether it is a tuple.
    """

    meaning: str
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    choices: tuple | None = None
    check: Callable[[Any], str | None] | None = None
    parameter: bool = True
    column: str | Callable[[Any], Any] | None = None
    zero: Callable[[Any], Any] | None = None
    kind: type = str
    several: bool = False

    @property
    def _bounds(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in _BOUNDS if getattr(self, name) is not None}

    @property
    def wanted(self) -> str:
        """In words, e.g. "one or more finite numbers, each at least 0"."""
        if self.choices:
            *others, last = map(str, self.choices)
            return "one or more of " * self.several + (f"{', '.join(others)} or {last}" if others else last)
        noun = _KINDS[self.kind][0]
        ranges = " or ranges such as 0-4" * (self.several and self.kind is int)
        limits = " and ".join(f"{name.replace('_', ' ')} {bound}" for name, bound in self._bounds.items())
        amount = f"one or more {noun}s{ranges}" if self.several else f"a {noun}"
        return f"{amount}, {'each ' * self.several}{limits}" if limits else amount

    def read(self, name: str, raw: object) -> tuple[Any, list[str]]:
        """(the typed value, the problems of `raw`); where several may be, a tuple without duplicates."""
        spread = self.several and self.kind is int
        raw = _spread(_plain(raw)) if spread else _plain(raw)
        values, wrong = [], []
        for item in raw if self.several and isinstance(raw, list) else [raw]:
            try:
                value = _KINDS[self.kind][1](_plain(item))
                admitted = all(_BOUNDS[name](value, bound) for name, bound in self._bounds.items())
            except (ValueError, OverflowError):
                value, admitted = None, False
            if admitted and (self.choices is None or value in self.choices):
                values.append(value)
            else:
                wrong.append(_echo.repr(item) + _fault(item) * spread + nearest(item, self.choices or ()))
        if wrong or not values:
            got = " and ".join(wrong[:3]) + " and more" * (len(wrong) > 3) if wrong else "an empty list"
            return None, [f"{name} ({self.meaning}): got {got}; wanted {self.wanted}"]
        values = tuple(dict.fromkeys(values))
        sentences = filter(None, map(self.check, values)) if self.check else ()
        return values if self.several else values[0], [f"{name}: {sentence}" for sentence in sentences]


def option(meaning: str, *, choices: Iterable | None = None, default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A field of a study's settings; the keywords are those of `Option`, `default` is for what scales need not name."""
    limits |= {"meaning": meaning, "choices": None if choices is None else tuple(choices)}
    return dataclasses.field(default=default, metadata={"option": Option(**limits)})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of every study's settings: a subclass adds fields by `option` and, in `SCALES`, their values at each scale.

    Values are read alike however it is made: texts as numbers, one value as a list of one, duplicates merged. `scale`
    is None where it was made of values alone; `given` are the names whose values replaced the scale's.

    Raises:
        SettingsError: Some of it is wrong; the error lists every problem.
    """

    scale: str | None = option("where all that is not given comes from", default=None)
    given: frozenset[str] = dataclasses.field(default=frozenset(), compare=False)
    SCALES: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    @classmethod
    def at(cls, scale: object = None, /, **given: object) -> Self:
        """The values of `scale` (or of a given "scale"), replaced by those `given`; None is not given."""
        options, problems = cls.options(), []
        names = [name for name, option in options.items() if option.parameter]
        for name in given:
            if name not in names:
                what = "set by the scale alone" if name in options else "no such parameter"
                problems.append(f"{name}: {what}" + (nearest(name, names) or f"; there are {', '.join(names)}"))
        replaced = {name: raw for name, raw in given.items() if raw is not None and name in names}
        chosen, _ = options["scale"].read("scale", scale := replaced.pop("scale", scale))
        values = {"scale": scale, **cls.values_at(chosen), **replaced}
        values = {name: raw() if callable(raw) else raw for name, raw in values.items()}
        problems += [problem for name, raw in values.items() for problem in options[name].read(name, raw)[1]]
        if problems:
            raise SettingsError(*problems)
        return cls(given=frozenset(replaced), **values)  # pyright: ignore[reportArgumentType]

    @classmethod
    def options(cls) -> dict[str, Option]:
        """Every field's `Option` by its name, in order, `scale` first."""
        hints, options = typing.get_type_hints(cls), {}
        for field in dataclasses.fields(cls):
            if declared := field.metadata.get("option"):
                kind, *rest = typing.get_args(hints[field.name]) or (hints[field.name],)
                options[field.name] = dataclasses.replace(declared, kind=kind, several=rest == [...])
        return options | {"scale": dataclasses.replace(options["scale"], choices=tuple(cls.SCALES))}

    @classmethod
    def values_at(cls, scale: str | None) -> Mapping[str, Any]:
        """What a scale gives to each field that is not asked for; nothing at no scale."""
        return cls.SCALES.get(scale or "", {})

    def problems(self) -> Iterable[str]:
        """What is wrong between fields: sentences, asked for only where every field alone is right."""
        return ()

    def __post_init__(self):
        problems = []
        for name, option in self.options().items():
            if (raw := getattr(self, name)) is not None or name != "scale":
                value, wrong = option.read(name, raw)
                problems += wrong
                object.__setattr__(self, name, value)  # a frozen dataclass's own way to set its fields
        if problems := problems or list(self.problems()):
            raise SettingsError(*problems)
