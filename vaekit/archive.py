"""A study's results as one file, to be carried from machine to machine: a .zip of what a results folder holds.

Nothing in it is compressed, so that the same tables are the same bytes everywhere, and reading one takes no more memory
than it has bytes.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

from vaekit import disk, results
from vaekit.results import PROVENANCE, TABLES, ResultsError, Tables

LIMIT = 500_000_000  # bytes
_DAY = (1980, 1, 1, 0, 0, 0)  # the first that a .zip knows: when a file was made does not matter


def write(path: Path, contents: Mapping[str, bytes]) -> None:
    """Write the files of a results folder (`results.contents_of`) as one.

    Errors: ResultsError: the disk refuses, or they are more than `read` takes.
    """
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as archive:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name, _DAY)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # Unix, whatever the machine
            archive.writestr(entry, content)
    if (size := len(made.getvalue())) > LIMIT:
        raise ResultsError(f"{path} would have {size:,} bytes, and {LIMIT:,} are the most; export by --scale or -p")
    try:
        disk.replace(path, made.getvalue())
    except OSError as error:
        raise ResultsError(f"{path} could not be written ({error.strerror})") from error


def read(path: Path, study: str) -> Tables:
    """The tables in a file that `write` made of this study, as strictly as a results folder's.

    Errors: ResultsError for any other file; nothing in it is unpacked to the disk.
    """
    contents = _contents(path)
    tables = results.parse(path, contents)
    if (of := json.loads(contents[PROVENANCE]).get("study")) != study:
        raise ResultsError(f"{path} holds results of {of!r}, not of {study}")
    if problem := next(results.damaged_files(path, tables), None):
        raise ResultsError(problem)
    return tables


def _contents(path: Path) -> dict[str, bytes]:
    try:
        if (size := path.stat().st_size) > LIMIT:
            raise ValueError(f"it has {size:,} bytes, and {LIMIT:,} are the most")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            names = [entry.filename for entry in entries]
            if odd := [
                name for name in names if name not in (*TABLES, PROVENANCE) and not results.member_of_file(name)
            ]:
                raise ValueError(f"it holds {odd[0]!r}")
            if len({*names}) < len(names):
                raise ValueError("it holds a name twice")
            if any(e.compress_type != zipfile.ZIP_STORED or e.file_size != e.compress_size for e in entries):
                raise ValueError("it is compressed")
            if sum(entry.file_size for entry in entries) > size:
                raise ValueError("its files overlap")
            return {name: archive.read(name) for name in names}
    # Whatever zipfile meets in a file that is none, or in one with a password.
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise ResultsError(f"{path} is no file that `export --to` wrote ({error})") from None
