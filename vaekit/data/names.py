"""The names of the image sets: made, stored, and derived from a stored one."""

from vaekit.data import dsprites, tetrominoes
from vaekit.data.derived import DERIVED
from vaekit.data.images import DataError, unknown
from vaekit.data.stored import STORED

MADE = {"tetrominoes": tetrominoes, "dsprites_like": dsprites}
NAMES = (*MADE, *STORED, *DERIVED)


def problem(name: str) -> str | None:
    """Why no set of this name can be loaded, fetched or studied, as a sentence; None where nothing is wrong with it."""
    return None if name in NAMES else unknown("data set", name, NAMES)


def check(name: str) -> None:
    """Errors: DataError for a name that is not one of NAMES."""
    if wrong := problem(name):
        raise DataError(wrong)
