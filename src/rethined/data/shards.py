"""WebDataset shards: plain tar files whose members `KEY.jpg` and `KEY.json` are one sample, for clusters."""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rethined.data import mask_set
from rethined.data.manifest import MASKS, Entry, read_manifest
from rethined.data.photos import BadPhotosError, Problem, read_bytes, sha256_of
from rethined.errors import InputError, OutputError
from rethined.image import is_image_name, write_atomic

INDEX = "shards.json"
FORMAT = 1
MASK = ".mask.png"
"""Ends the name of a test photograph's mask."""


def write_shards(
    folder: Path,
    out: Path,
    *,
    split: str | None = None,
    shard_mb: float = 500,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Pack the photographs of a folder with a manifest into `out`/NAME-000000.tar and so on; returns their index.

    Photographs go in as they are, in the order of their checksums, which mixes sources and sizes. Shards have at most
    `shard_mb` million bytes, or one photograph. Each is written whole or not at all; a run that was stopped goes on
    after those that are there and have their checksum. The same photographs give the same bytes.

    Raises:
        BadPhotosError: files that are missing or no longer what the manifest says.
        InputError: no manifest, no photographs of that split, or an `out` that holds other shards.
        OutputError: `out` cannot be written to or the disk is full.
    """
    manifest = read_manifest(folder)
    entries = [entry for entry in manifest.files if split in (None, entry.split)]
    if not entries:
        there = sorted({entry.split for entry in manifest.files if entry.split})
        raise InputError(f"{folder} has no photographs in split {split}; choose of {', '.join(there) or 'none'}")
    problems = [Problem("missing", entry.name) for entry in entries if not (folder / entry.name).is_file()]
    if problems:
        raise BadPhotosError(f"{len(problems)} of {len(entries)} photographs are not in {folder}", problems)
    masks = _masks(folder)
    entries.sort(key=lambda entry: entry.sha256)
    plan = _plan(entries, shard_mb)
    digest = [[entry.sha256 for entry in shard] for shard in plan]
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the shards")
    out.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"format": FORMAT, "data": manifest.name, "split": split, "samples": len(entries)}
    done = _done(out, index, digest)
    if not done:  # before the first shard, so that a run that was stopped knows its own
        write_atomic(out / INDEX, _json(index | {"shards": []}), overwrite=True)
    for half in out.glob(".*.tar.*.tmp"):
        half.unlink()
    stem = split or "photos"
    rows: list[dict[str, Any]] = []
    number = 0
    for i, shard in enumerate(plan):
        name = f"{stem}-{i:06}.tar"
        if i < len(done) and (out / name).is_file() and sha256_of(out / name) == done[i]["sha256"]:
            rows.append(done[i])
        else:
            _write_tar(out / name, _members(folder, shard, number, masks))
            rows.append({"name": name, "samples": len(shard), "sha256": sha256_of(out / name), "photos": digest[i]})
            report(f"{name}: {len(shard)} photographs")
        number += len(shard)
        rest = done[i + 1 :]
        write_atomic(out / INDEX, _json(index | {"shards": rows + rest}), overwrite=True)
    return index | {"shards": rows}


@dataclass(frozen=True)
class Member:
    """One photograph in a shard."""

    name: str
    """Shard and member, for messages."""
    shard: Path
    offset: int
    """Of its first byte in the shard."""
    size: int

    def read(self) -> bytes:
        """The photograph's file."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


def find_members(folder: Path) -> list[Member]:
    """The photographs in the shards of `folder`, in their order; nothing is decoded.

    Raises:
        InputError: shards that are missing, cut short, or not those of the index.
    """
    try:
        rows = [(row["name"], row["samples"]) for row in json.loads(read_bytes(folder / INDEX))["shards"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder / INDEX} is damaged; make the shards again with: rethined data shards") from error
    found: list[Member] = []
    for name, samples in rows:
        path = folder / Path(name).name
        try:
            with tarfile.open(path, "r:") as tar:
                inside = [info for info in tar if is_image_name(Path(info.name))]
        except (OSError, tarfile.TarError) as error:
            raise InputError(f"{path} cannot be read as a shard ({error}); get the whole file") from error
        photos = [info for info in inside if not info.name.endswith(MASK)]
        if len(photos) != samples:
            raise InputError(f"{path} holds {len(photos)} of {samples} photographs; get the whole file")
        found += [Member(f"{path.name}/{info.name}", path, info.offset_data, info.size) for info in photos]
    return found


def _plan(entries: list[Entry], shard_mb: float) -> list[list[Entry]]:
    shards: list[list[Entry]] = [[]]
    size = 0
    for entry in entries:
        cost = entry.bytes + 4096  # two or three headers, the JSON, and what fills up blocks of 512
        if shards[-1] and size + cost > shard_mb * 1e6 - 10240:
            shards.append([])
            size = 0
        shards[-1].append(entry)
        size += cost
    return shards


def _done(out: Path, index: dict[str, Any], digest: list[list[str]]) -> list[dict[str, Any]]:
    """The shards that an earlier run of the same has finished, by its index.

    Raises:
        InputError: `out` holds something else.
    """
    path = out / INDEX
    if not path.is_file():
        if others := sorted(out.glob("*.tar")):
            raise InputError(f"{out} holds {others[0].name} but no {INDEX}; choose another folder")
        return []
    try:
        old = json.loads(read_bytes(path))
        rows: list[dict[str, Any]] = old.pop("shards")
        same = old == index and [row["photos"] for row in rows] == digest[: len(rows)]
    except (ValueError, KeyError, TypeError, AttributeError):
        same = False
    if not same:
        raise InputError(f"{out} holds shards of other photographs or another size; choose another folder")
    return rows


def _masks(folder: Path) -> dict[str, Path]:
    """Fixed masks by the name, without suffix, of the photograph within its split."""
    masks = folder / MASKS
    if not (masks / mask_set.MANIFEST).is_file():
        return {}
    return {
        entry["name"].removesuffix(".png"): masks / entry["name"] for entry in mask_set.read_manifest(masks)["files"]
    }


def _members(folder: Path, shard: list[Entry], number: int, masks: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    for key, entry in enumerate(shard, number):
        path = folder / entry.name
        data = read_bytes(path)
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            problem = Problem("changed", entry.name)
            raise BadPhotosError(f"{folder} does not hold what its manifest says", [problem])
        suffix = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg"}.get(path.suffix[1:].lower(), path.suffix[1:].lower())
        yield f"{key:08}.{suffix}", data
        yield (
            f"{key:08}.json",
            _json({name: value for name, value in asdict(entry).items() if value not in (None, {})}),
        )
        within = Path(entry.name.removeprefix("test/")).with_suffix("").as_posix()
        if entry.split == "test" and (mask := masks.get(within)):
            yield f"{key:08}{MASK}", read_bytes(mask)


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _write_tar(path: Path, members: Iterator[tuple[str, bytes]]) -> None:
    """As `write_atomic`, without holding all of it in memory; no dates and owners, so that the same is the same."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                    for name, data in members:
                        add(tar, name, data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:  # also when interrupted: leave nothing behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """A member with nothing but a name and its content."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
