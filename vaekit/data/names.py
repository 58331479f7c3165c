"""The names of the image sets: made, stored, derived from a stored one, and planned."""

from vaekit.data import dsprites, tetrominoes
from vaekit.data.derived import DERIVED
from vaekit.data.images import DataError, unknown
from vaekit.data.stored import STORED

MADE = {"tetrominoes": tetrominoes, "dsprites_like": dsprites}
NAMES = (*MADE, *STORED, *DERIVED)
PLANNED = {
    "small_norb": "SmallNORB (LeCun, Huang and Bottou 2004)",
    "shapes3d": "3D Shapes (Burgess and Kim 2018)",
}


def problem(name: str) -> str | None:
    """Why no set of this name can be loaded, fetched or studied, as a sentence; None where nothing is wrong with it."""
    if name in NAMES:
        return None
    if name in PLANNED:
        names = ", ".join(NAMES)
        return (
            f"{name}, {PLANNED[name]}, is planned and cannot be read yet; there are {names} (dsprites_like has factors)"
        )
    return unknown("data set", name, NAMES)


def check(name: str) -> None:
    """Errors: DataError for a name that is not one of NAMES."""
    if wrong := problem(name):
        raise DataError(wrong)
