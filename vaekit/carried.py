"""Files that a results folder carries beside its tables: its provenance.json names them with their hashes."""

import hashlib
import json
from pathlib import Path

SHORT = 12  # digits of the key that name a file's member


def listed(folder: Path, kind: str) -> dict[str, str]:
    """The files of a kind that a results folder's provenance.json names, with their SHA-256; none of one unreadable."""
    try:
        return dict(json.loads((folder / "provenance.json").read_bytes()).get(kind, {}))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def read(path: Path, digest: str | None, limit: int, error: type[Exception]) -> bytes:
    """A file of at most `limit` bytes, verified. Errors: `error` where it is absent, too large or not as listed."""
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
    except OSError as refused:
        raise error(f"{path} cannot be read ({refused.strerror}); check it out again") from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise error(f"{path} is not what its provenance.json says; check it out again")
    return content
