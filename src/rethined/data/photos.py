"""Photographs as files: which there are, how large they are, and whether all of each can be read."""

from __future__ import annotations

import csv
import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rethined import containers
from rethined.errors import InputError
from rethined.image import UnreadableError, is_image_name, read_photo

Pixels = NDArray[np.uint8]
"""(h, w, 3) RGB."""
LISTED = 12
"""So many names a message holds at most."""


@dataclass(frozen=True)
class Problem:
    """One file that cannot be used as it is."""

    kind: str
    """missing, corrupt, changed, wrong size, duplicate or extra."""
    name: str
    """Of the file, as the user knows it."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}" + (f" ({self.detail})" if self.detail else "")


def count(problems: Iterable[Problem]) -> str:
    """How many of each kind, for a message: `2 missing, 1 corrupt`."""
    kinds = [problem.kind for problem in problems]
    return ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))


def some(names: Iterable[object]) -> str:
    """The first few of many names, for a message."""
    every = [str(name) for name in names]
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(every[:LISTED]) + more


class BadPhotosError(InputError):
    """Some photographs cannot be used; `problems` says which and why."""

    def __init__(self, what: str, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__(f"{what}: {count(problems)}: {some(problem.name for problem in problems)}")


def find_photos(folder: Path) -> list[Path]:
    """Every picture below `folder`, in order of its path within it; nothing hidden, no linked folders.

    Raises:
        InputError: no such folder, or no picture there.
    """
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise InputError(f"{folder} {what}; give a folder of photographs")
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".") and is_image_name(Path(name))]
    if not found:
        raise InputError(f"no photographs below {folder}; give a folder with JPEG, PNG, WebP or TIFF files")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def displayed_size(path: Path) -> tuple[int, int]:
    """Width and height as displayed, from the file's header: nothing is decoded that need not be.

    Raises:
        InputError: not a picture, or one that is seen to be damaged.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with path.open("rb") as file:
            if file.read(8) == containers.PNG_SIGNATURE:
                return _png_size(file)
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
            return (image.height, image.width) if turned else (image.width, image.height)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check the path") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return read_photo(path).size


def _png_size(file: BinaryIO) -> tuple[int, int]:
    """From where the first chunk begins. Pillow would decode all pixels to find an EXIF that may come after them."""
    exif = None
    width = height = 0
    while True:
        header = file.read(8)
        if len(header) < 8:
            raise ValueError("the PNG is cut short")
        size, kind = struct.unpack(">I4s", header)
        if kind == b"IHDR":
            width, height = struct.unpack(">II", file.read(8))
            size -= 8
        elif kind == b"eXIf" and exif is None:
            exif = file.read(size)
            size = 0
        elif kind == b"IEND":
            return (height, width) if containers.orientation(exif) >= 5 else (width, height)
        file.seek(size + 4, os.SEEK_CUR)


@dataclass(frozen=True)
class Facts:
    """What is known of a file once all of it was read and decoded."""

    width: int
    """As displayed."""
    height: int
    bytes: int
    sha256: str


def examine(data: bytes, name: str) -> Facts:
    """Decode all of a picture's bytes, and say what they are.

    Raises:
        InputError: not a picture, or a damaged one.
    """
    width, height = read_photo(data, name=name).size
    return Facts(width, height, len(data), hashlib.sha256(data).hexdigest())


def read_bytes(path: Path) -> bytes:
    """The file's content.

    Raises:
        UnreadableError: the disk or the permissions do not let it be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from error


def sha256_of(path: Path) -> str:
    """Hexadecimal, as `sha256sum` prints it.

    Raises:
        UnreadableError: the disk or the permissions do not let it be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableError(f"{path} cannot be read: {error.strerror or error}") from error


def read_pixels(source: Path | bytes, *, name: str | None = None) -> Pixels:
    """A photograph as displayed, in 8 bits.

    Raises:
        InputError: as `read_photo`.
    """
    pixels = read_photo(source, name=name).pixels
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels.view(np.uint8)


def read_attribution(path: Path) -> dict[Path, dict[str, str]]:
    """Rows of a CSV file, by the file that their column `file` names, relative to the CSV's own folder.

    Raises:
        InputError: no such file, or no column `file` in it.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            if "file" not in (rows.fieldnames or ()):
                raise InputError(
                    f"{path} has no column `file`; its first line must name the columns, `file` among them"
                )
            return {
                (path.parent / row["file"]).resolve(): {
                    name: value for name, value in row.items() if name and name != "file" and value
                }
                for row in rows
            }
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}") from error
