"""Many photographs in one small file, for short runs on rented machines: reduced, encoded as WebP, decoded once.

A pack is a tar file: `index.json`, then `000000.webp` and so on in the order of the index. No pickle: nothing in it
is ever run.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rethined.data.manifest import default_threads
from rethined.data.photos import (
    BadPhotosError,
    Pixels,
    Problem,
    find_photos,
    read_attribution,
    read_bytes,
    read_pixels,
)
from rethined.data.shards import add
from rethined.errors import InputError
from rethined.image import write_atomic

INDEX = "index.json"
FORMAT = "rethined-pack-1"
QUALITIES = (92, 88, 84, 80)
"""Of WebP, best first. Below the last, fewer pixels are the smaller loss."""
SIDES = tuple(0.96**i for i in range(28))
"""Parts of the shorter side that is asked for, down to a third."""
SAMPLE = 48
"""So many photographs the size of all is estimated from."""


def write_pack(
    folder: Path,
    path: Path,
    *,
    max_mb: float = 45,
    short_side: int = 768,
    attribution: Path | None = None,
    overwrite: bool = False,
    threads: int | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Pack every photograph below `folder` into one file of at most `max_mb` million bytes; returns its index.

    Photographs are reduced by area to `short_side` pixels on the shorter side, never enlarged, and encoded with the
    best WebP quality that fits, from 92 to 80; if 80 does not fit, they are reduced to less. `attribution` is a CSV
    file as `read_attribution` takes it, whose rows go into the index.

    Raises:
        BadPhotosError: photographs that cannot be read, or are too long for WebP.
        InputError: no photographs, or too many for the size.
        OutputError: the file cannot be written.
    """
    found = find_photos(folder)
    told = read_attribution(attribution) if attribution else {}
    budget = max_mb * 1e6

    def read(photo: Path, side: int = short_side) -> Pixels | Problem:
        return read_reduced(photo, photo.relative_to(folder).as_posix(), side)

    def make(photo: Path, side: int, quality: int) -> Encoded | Problem:
        picture = read(photo, side)
        return picture if isinstance(picture, Problem) else encode(picture, quality)

    with ThreadPoolExecutor(threads or default_threads()) as pool:
        # Every so many in order of file size: how well photographs compress differs tenfold.
        by_size = sorted(found, key=lambda photo: (photo.stat().st_size, photo))
        step = max(1, len(found) / SAMPLE)
        chosen = [by_size[int((i + 0.5) * step)] for i in range(int(len(found) / step))]
        looked = list(pool.map(read, chosen))
        sample = [one for one in looked if not isinstance(one, Problem)]
        if len(sample) < len(looked):
            raise _bad(folder, pool.map(read, found), len(found))  # all that there are, not only of the sample
        correction = 1.0
        for side, quality in _settings(short_side):
            images = list(pool.map(lambda pixels, s=side, q=quality: encode(reduced(pixels, s), q), sample))
            expected = _cost(images) / len(images) * len(found)
            if expected * correction > budget:
                continue
            report(f"{side} pixels on the shorter side, WebP quality {quality}")
            made = list(pool.map(lambda photo, s=side, q=quality: make(photo, s, q), found))
            images = [one for one in made if not isinstance(one, Problem)]
            if len(images) < len(made):
                raise _bad(folder, made, len(found))
            index, data = _assemble(found, folder, told, side, quality, images)
            if len(data) <= budget:
                write_atomic(path, data, overwrite=overwrite)
                return index
            correction = len(data) / expected  # what the sample did not show
    least = round(short_side * SIDES[-1])
    raise InputError(
        f"{len(found)} photographs do not fit into {max_mb:g} MB, not even with {least} pixels on the shorter side; "
        "give fewer photographs or a larger --max-mb"
    )


def _settings(short_side: int) -> Iterator[tuple[int, int]]:
    """Shorter sides and WebP qualities to try, best first."""
    for quality in QUALITIES:
        yield short_side, quality
    for part in SIDES[1:]:
        yield max(1, round(short_side * part)), QUALITIES[-1]


Encoded = tuple[bytes, int, int]
"""WebP bytes, width and height."""


def read_reduced(path: Path, name: str, short_side: int) -> Pixels | Problem:
    """A photograph as displayed, of at most `short_side` pixels on the shorter side and 8 bits; or why there is none:
    it is no picture, damaged, or too long for WebP."""
    try:
        picture = reduced(read_pixels(path), short_side)
    except InputError as error:
        return Problem("corrupt", name, str(error))
    height, width = picture.shape[:2]
    if max(width, height) > 16383:
        return Problem("wrong size", name, f"it would have {width} x {height} pixels, WebP holds 16383")
    return picture


def _bad(folder: Path, results: Iterable[object], total: int) -> BadPhotosError:
    problems = [one for one in results if isinstance(one, Problem)]
    return BadPhotosError(f"{len(problems)} of {total} photographs in {folder} cannot be used", problems)


def reduced(pixels: Pixels, short_side: int) -> Pixels:
    """By area to `short_side` pixels on the shorter side; never enlarged."""
    height, width = pixels.shape[:2]
    scale = short_side / min(height, width)
    if scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def encode(pixels: Pixels, quality: int) -> Encoded:
    """As WebP, `quality` 1 to 100."""
    done, data = cv2.imencode(".webp", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, quality])
    assert done
    return data.tobytes(), pixels.shape[1], pixels.shape[0]


def _cost(images: Sequence[Encoded]) -> int:
    """Bytes in a pack: headers, blocks of 512, and about a line of the index each."""
    return sum(-(-len(data) // 512) * 512 + 512 + 128 for data, _, _ in images)


def _assemble(
    found: Sequence[Path],
    folder: Path,
    told: dict[Path, dict[str, str]],
    side: int,
    quality: int,
    images: Sequence[Encoded],
) -> tuple[dict[str, Any], bytes]:
    files = []
    for path, (_, width, height) in zip(found, images, strict=True):
        file: dict[str, Any] = {"name": path.relative_to(folder).as_posix(), "width": width, "height": height}
        if row := told.get(path.resolve()):
            file["attribution"] = row
        files.append(file)
    index = {"format": FORMAT, "short_side": side, "quality": quality, "files": files}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        add(tar, INDEX, json.dumps(index, ensure_ascii=False).encode())
        for i, (data, _, _) in enumerate(images):
            add(tar, f"{i:06}.webp", data)
    return index, buffer.getvalue()


def _members(data: bytes, name: str) -> list[tuple[str, bytes]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            members = []
            for info in tar:
                file = tar.extractfile(info)
                members.append((info.name, file.read() if file else b""))
                if len(members[-1][1]) != info.size:
                    raise InputError(f"{name} is cut short; get the whole file")
    except tarfile.TarError as error:
        raise InputError(f"{name} is not a pack of photographs; make one with: rethined data pack") from error
    if not members or members[0][0] != INDEX:
        raise InputError(f"{name} is not a pack of photographs; make one with: rethined data pack")
    return members


def load_pack(path: Path, *, threads: int | None = None) -> list[Pixels]:
    """All photographs of a pack, in the order of its index, each (h, w, 3) RGB.

    Raises:
        InputError: no such file, not a pack, or a damaged one.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist; give a file that `rethined data pack` has written")
    members = _members(read_bytes(path), str(path))
    try:
        index = json.loads(members[0][1])
        known = index["format"] == FORMAT
        sizes = [(int(file["height"]), int(file["width"])) for file in index["files"]]
    except (ValueError, KeyError, TypeError):
        known, sizes = False, []
    if not known:
        raise InputError(f"{path} is a pack of another version, or damaged; make it again with: rethined data pack")
    if len(sizes) != len(members) - 1:
        raise InputError(f"{path} is cut short: {len(members) - 1} of {len(sizes)} photographs; get the whole file")

    def decode(i: int) -> Pixels:
        pixels = cv2.imdecode(np.frombuffer(members[i + 1][1], np.uint8), cv2.IMREAD_COLOR_RGB)
        if pixels is None or pixels.shape[:2] != sizes[i]:
            raise InputError(f"{path} is damaged: photograph {index['files'][i].get('name', i)}; get the file again")
        return np.asarray(pixels, np.uint8)

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        return list(pool.map(decode, range(len(sizes))))
