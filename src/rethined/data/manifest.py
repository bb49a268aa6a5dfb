"""What a folder of photographs holds, with checksums: written once, and what is there can be held against it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from rethined.data import mask_set
from rethined.data.photos import (
    BadPhotosError,
    Problem,
    examine,
    find_photos,
    read_attribution,
    read_bytes,
    sha256_of,
)
from rethined.errors import InputError
from rethined.image import write_atomic

MANIFEST = "manifest.json"
FORMAT = 1
SPLITS = ("train", "test", "validation")
MASKS = "masks"
"""Folder of the fixed masks of the test photographs."""


@dataclass(frozen=True)
class Entry:
    """One photograph."""

    name: str
    """Path below the manifest's folder, in POSIX form."""
    width: int
    """In pixels, as displayed."""
    height: int
    bytes: int
    """Of the file."""
    sha256: str
    """Of the file."""
    split: str | None = None
    """train, test or validation."""
    group: str | None = None
    """2k, 4k or 8k, by the longer side."""
    source: str | None = None
    """The data set that it comes from."""
    source_name: str | None = None
    """What it is called there, without suffix."""
    attribution: dict[str, str] = field(default_factory=dict)
    """Licence, author and whatever else a table said of it."""


@dataclass(frozen=True)
class Manifest:
    """All photographs of a data set."""

    name: str
    """Of the data set."""
    files: tuple[Entry, ...]
    about: dict[str, Any] = field(default_factory=dict)
    """How it was made, as plain JSON values: no dates and no paths, so that the same is made again."""

    def to_json(self) -> bytes:
        """The same manifest gives the same bytes."""
        files = [
            {key: value for key, value in asdict(entry).items() if value not in (None, {})} for entry in self.files
        ]
        whole = {
            "format": FORMAT,
            "rethined": metadata.version("rethined"),
            "name": self.name,
            "about": self.about,
            "files": files,
        }
        return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Manifest:
        """The inverse; `name` is what messages call it.

        Raises:
            InputError: something else, a damaged manifest, or one that names files outside its folder.
        """
        try:
            whole = json.loads(data)
            files = tuple(Entry(**entry) for entry in whole["files"])
            known = whole["format"] == FORMAT and all(isinstance(entry.name, str) for entry in files)
            manifest = cls(whole["name"], files, whole["about"])
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            raise InputError(
                f"{name} is not a manifest of photographs, or damaged; make it again: rethined data folder FOLDER"
            )
        for entry in manifest.files:
            path = PurePosixPath(entry.name)
            if path.is_absolute() or ".." in path.parts:
                raise InputError(f"{name} names {entry.name}, which is not below its folder; make the manifest again")
        return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"there is no {MANIFEST} in {folder}; make one with: rethined data folder {folder}")
    return Manifest.from_json(read_bytes(path), str(path))


# ---------------------------------------------------------------- any folder


def from_folder(
    folder: Path,
    *,
    attribution: Path | None = None,
    min_side: int = 1,
    threads: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> Manifest:
    """The manifest of every photograph below `folder`, each read and decoded in full.

    A first folder called train, test, val or validation becomes the split. `attribution` is a CSV file as
    `read_attribution` takes it. `min_side` is what the shorter side must have, in pixels.

    Raises:
        BadPhotosError: corrupt files, files of the same content, or photographs that are too small.
        InputError: no photographs there, or no such CSV file.
    """
    found = find_photos(folder)
    told = read_attribution(attribution) if attribution else {}
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, str] = {}

    def look(path: Path) -> Entry | Problem:
        name = path.relative_to(folder).as_posix()
        try:
            facts = examine(read_bytes(path), name)
        except InputError as error:
            return Problem("corrupt", name, str(error))
        if min(facts.width, facts.height) < min_side:
            return Problem("wrong size", name, f"{facts.width} x {facts.height}, the shorter side under {min_side}")
        first = name.split("/")[0] if "/" in name else ""
        split = {"val": "validation", "valid": "validation"}.get(first, first)
        return Entry(
            name,
            facts.width,
            facts.height,
            facts.bytes,
            facts.sha256,
            split=split if split in SPLITS else None,
            attribution=told.get(path.resolve(), {}),
        )

    with ThreadPoolExecutor(threads or default_threads()) as pool:
        for i, result in enumerate(pool.map(look, found), 1):
            if i % 500 == 0:
                report(f"{i} of {len(found)} photographs")
            if isinstance(result, Problem):
                problems.append(result)
            elif (other := seen.setdefault(result.sha256, result.name)) != result.name:
                problems.append(Problem("duplicate", result.name, f"the same as {other}"))
            else:
                entries.append(result)
    if problems:
        raise BadPhotosError(f"{len(problems)} of {len(found)} photographs in {folder} cannot be used", problems)
    return Manifest(folder.resolve().name, tuple(entries), {"columns": _columns(entries)} if told else {})


def _columns(entries: Iterable[Entry]) -> list[str]:
    return list(dict.fromkeys(chain.from_iterable(entry.attribution for entry in entries)))


def default_threads() -> int:
    """One a core, and no more than memory bears: an 8K photograph takes about 200 MB while it is decoded."""
    return min(8, os.cpu_count() or 1)


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it whole or not at all, over an older one.

    Raises:
        InputError, OutputError: as `write_atomic`.
    """
    write_atomic(path, manifest.to_json(), overwrite=True)


# ---------------------------------------------------------------- verifying


def verify(folder: Path, *, threads: int | None = None) -> Iterator[Problem]:
    """What is wrong with the photographs and masks of `folder`, held against its manifest.

    missing, corrupt (cannot be decoded), wrong size, changed (can be, but is another file), duplicate (two entries of
    one content, or a file beside them that is a copy of one) and extra (not in the manifest).

    Raises:
        InputError: as `read_manifest`.
    """
    manifest = read_manifest(folder)
    masks = folder / MASKS if (folder / MASKS / mask_set.MANIFEST).is_file() else None
    with ThreadPoolExecutor(threads or default_threads()) as pool:
        for problem in pool.map(lambda entry: _problem(folder, entry), manifest.files):
            if problem:
                yield problem
    seen: dict[str, str] = {}
    for entry in manifest.files:
        if (other := seen.setdefault(entry.sha256, entry.name)) != entry.name:
            yield Problem("duplicate", entry.name, f"the same as {other}")
    listed = {entry.name for entry in manifest.files}
    for path in _photos_or_none(folder):
        name = path.relative_to(folder).as_posix()
        if name in listed or (masks and path.is_relative_to(masks)):
            continue
        copied = seen.get(sha256_of(path))
        yield Problem("duplicate", name, f"the same as {copied}") if copied else Problem("extra", name)
    if masks:
        for problem in mask_set.verify(masks):
            yield Problem(problem.kind, f"{MASKS}/{problem.name}", problem.detail)
    elif "masks" in manifest.about:
        yield Problem("missing", f"{MASKS}/{mask_set.MANIFEST}")


def _photos_or_none(folder: Path) -> list[Path]:
    try:
        return find_photos(folder)
    except InputError:  # all of them are missing, each of which has been said
        return []


def _problem(folder: Path, entry: Entry) -> Problem | None:
    path = folder / entry.name
    if not path.is_file():
        return Problem("missing", entry.name)
    try:
        if sha256_of(path) == entry.sha256:
            return None
        facts = examine(read_bytes(path), entry.name)
    except InputError as error:
        return Problem("corrupt", entry.name, str(error))
    wanted, got = f"{entry.width} x {entry.height}", f"{facts.width} x {facts.height}"
    if got != wanted:
        return Problem("wrong size", entry.name, f"{got}, the manifest says {wanted}")
    return Problem("changed", entry.name)
