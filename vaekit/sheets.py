"""Sheets of pictures that a checkout carries, for members whose weights it does not.

    results/<study>/pictures/<12 digits of the key>-<step>.png   all of a member's pictures, lossless

Pictures of one size lie side by side, in rows and columns; whose they are and what the rows show stands in the file
itself (a text entry, JSON), its hash in provenance.json. PNG is written and read here, in one plain form: the training
core has no library of images.
"""

import json
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vaekit import carried
from vaekit.carried import SHORT
from vaekit.settings import PlainError

FOLDER = "pictures"
NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{{SHORT}}})-(0|[1-9][0-9]*)\.png")
LIMIT = 80_000  # bytes of a file: 24 pictures of 32 x 32 in colour always fit
_LARGEST = 2**22  # values of a sheet: no file unfolds to more
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_ENTRY = b"vaekit\0"
_COLOURS = {1: 0, 3: 2}  # PNG's number for grey, and for red, green and blue
_UNREADABLE = (ValueError, KeyError, TypeError, OverflowError, RecursionError, struct.error, zlib.error)


class SheetError(PlainError, RuntimeError):
    """Pictures that cannot be kept, or a file of them that is not what it says."""


@dataclass(frozen=True, eq=False)
class Sheet:
    """Pictures of a member after `step` steps: uint8 (rows, columns, H, W, C), C 1 or 3, and what each row shows.

    `version` is that of the code which chose and made them.
    """

    key: str
    step: int
    version: int
    labels: tuple[str, ...]
    pictures: np.ndarray


def file_name(key: str, step: int) -> str:
    """The name, in a study's folder, of the file with a member's pictures after `step` steps."""
    return f"{FOLDER}/{key[:SHORT]}-{step}.png"


def pack(sheet: Sheet) -> bytes:
    """A sheet as a PNG. Errors: SheetError for one over LIMIT, or of pictures that are neither grey nor in colour."""
    rows, columns, height, width, colours = sheet.pictures.shape
    if colours not in _COLOURS or sheet.pictures.dtype != np.uint8 or rows != len(sheet.labels):
        raise SheetError(
            f"pictures are {sheet.pictures.dtype} {sheet.pictures.shape} with {len(sheet.labels)} labels; wanted uint8 "
            "(rows, columns, H, W, C) with a label a row and C 1 or 3"
        )
    lines = sheet.pictures.transpose(0, 2, 1, 3, 4).reshape(rows * height, columns * width * colours)
    about = {name: getattr(sheet, name) for name in ("key", "step", "version", "labels")} | {"columns": columns}
    header = struct.pack(">IIBBBBB", columns * width, rows * height, 8, _COLOURS[colours], 0, 0, 0)
    parts = {
        b"IHDR": header,
        b"tEXt": _ENTRY + json.dumps(about, sort_keys=True).encode(),
        b"IDAT": zlib.compress(np.pad(lines, ((0, 0), (1, 0))).tobytes(), 9),  # each line after its filter, 0 for none
        b"IEND": b"",
    }
    content = _SIGNATURE + b"".join(_chunk(kind, body) for kind, body in parts.items())
    if len(content) > LIMIT:
        raise SheetError(
            f"its pictures take {len(content):,} bytes, and results/ carries {LIMIT:,} a member at the most: show fewer"
        )
    return content


def unpack(content: bytes, name: str) -> Sheet:
    """The sheet that `pack` wrote. Errors: SheetError names the file that is none, or another's than its name says."""
    try:
        if len(content) > LIMIT:
            raise ValueError(f"it has more than {LIMIT:,} bytes")
        header, said, packed = _parts(content)
        width, height, depth, kind, *rest = struct.unpack(">IIBBBBB", header)
        colours = {means: number for number, means in _COLOURS.items()}.get(kind, 0)
        if not said.startswith(_ENTRY) or not colours or (depth, *rest) != (8, 0, 0, 0):
            raise ValueError("it is another kind of PNG")
        about = json.loads(said.removeprefix(_ENTRY))
        key, step, version, labels, columns = (about[n] for n in ("key", "step", "version", "labels", "columns"))
        rows = len(labels)
        texts = isinstance(labels, list) and all(isinstance(text, str) for text in (key, *labels))
        if not texts or any(type(number) is not int or number < 0 for number in (step, version, columns)):
            raise ValueError("it does not say whose pictures these are")
        if not (rows and columns and width and height) or width % columns or height % rows:
            raise ValueError(f"it has no {rows} x {columns} pictures")
        if Path(file_name(key, step)).name != Path(name).name:
            raise ValueError("it is another member's, or of another step")
        lines = _lines(packed, height, width * colours)
        tiles = lines.reshape(rows, height // rows, columns, width // columns, colours).transpose(0, 2, 1, 3, 4)
        return Sheet(key, step, version, tuple(labels), np.ascontiguousarray(tiles))
    except _UNREADABLE as error:
        raise SheetError(f"{name} is no sheet of pictures ({error}); check it out again") from None


def listed(folder: Path, key: str) -> dict[str, str]:
    """The files of a member's pictures that a results folder's provenance.json names, with their hashes.

    No files where that cannot be read.
    """
    names = ((NAME.fullmatch(name), digest) for name, digest in carried.listed(folder, FOLDER).items())
    return {name[0]: str(digest) for name, digest in names if name and name[1] == key[:SHORT]}


def read(path: Path, digest: str) -> Sheet:
    """A sheet from its file; nothing of it is decoded before its hash is the one listed.

    Errors: SheetError where it is absent, too large, not what was listed, or none.
    """
    return unpack(carried.read(path, digest, LIMIT, SheetError), str(path))


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a PNG: its length, its name, what it holds, and their CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _parts(content: bytes) -> list[bytes]:
    """What the header, the text and the pixels' part hold; ValueError for anything but these, in this order."""
    if not content.startswith(_SIGNATURE):
        raise ValueError("it does not begin as a PNG does")
    at, found = len(_SIGNATURE), []
    for kind in (b"IHDR", b"tEXt", b"IDAT", b"IEND"):
        (size,) = struct.unpack_from(">I", content, at)
        body = content[at + 8 : at + 8 + size]
        chunk = _chunk(kind, body)
        if content[at : at + len(chunk)] != chunk:
            raise ValueError(f"its {kind.decode()} is lacking or damaged")
        at += len(chunk)
        found.append(body)
    if at != len(content):
        raise ValueError("something follows its end")
    return found[:3]


def _lines(packed: bytes, height: int, width: int) -> np.ndarray:
    """The unfiltered lines of a PNG, uint8 (height, width); ValueError where there are more or less."""
    size = height * (width + 1)
    if not 0 < size <= _LARGEST:
        raise ValueError(f"it says that it holds {size:,} values, and {_LARGEST:,} are the most")
    unfold = zlib.decompressobj()
    content = unfold.decompress(packed, size + 1)
    if len(content) != size or not unfold.eof or unfold.unused_data:
        raise ValueError("it does not hold as many values as it says")
    lines = np.frombuffer(content, np.uint8).reshape(height, width + 1)
    if lines[:, 0].any():
        raise ValueError("its lines are filtered")
    return lines[:, 1:]
