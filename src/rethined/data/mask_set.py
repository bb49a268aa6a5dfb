"""Fixed masks on disk: one PNG a photograph (white = hole), a manifest with checksums, and a sheet to look at."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rethined.data.photos import BadPhotosError, Problem, displayed_size, find_photos, read_bytes, read_pixels
from rethined.errors import InputError
from rethined.image import SUFFIXES, read_photo, remove_halves, write_atomic
from rethined.masks import Mask, Preset

if TYPE_CHECKING:
    from PIL import Image as PillowImage

MANIFEST, SHEET = "masks.json", "sheet.png"
FORMAT = 1
CELL = 224
"""Side of a picture on the sheet, in pixels."""
SHOWN = 48
"""So many masks the sheet shows at most, spread evenly over the set."""


@dataclass(frozen=True)
class Job:
    """One mask that is to be drawn."""

    name: str
    """Of the file to write, in POSIX form: the photograph's path within its folder, with .png."""
    size: tuple[int, int]
    """Width and height."""
    photo: Path | None = None
    """Shown under the mask on the sheet."""


def jobs_like(folder: Path) -> list[Job]:
    """A mask for every photograph below `folder`, of its size as displayed, named like it.

    Raises:
        BadPhotosError: photographs that cannot be read.
        InputError: no photographs there, or two that would share a mask.
    """
    found = find_photos(folder)
    jobs: list[Job] = []
    problems: list[Problem] = []
    for path in found:
        name = path.relative_to(folder)
        try:
            jobs.append(Job(name.with_suffix(".png").as_posix(), displayed_size(path), path))
        except InputError as error:
            problems.append(Problem("corrupt", name.as_posix(), str(error)))
    if problems:
        raise BadPhotosError(f"{len(problems)} of {len(found)} photographs in {folder} cannot be read", problems)
    seen: dict[str, Job] = {}
    for job in jobs:
        other = seen.setdefault(job.name, job)
        if other is not job:
            raise InputError(f"{other.photo} and {job.photo} would both have the mask {job.name}; rename one of them")
    if SHEET in seen:
        raise InputError(f"the mask of {seen[SHEET].photo} would be {SHEET}, which is the contact sheet; rename it")
    return jobs


def jobs_of_size(width: int, height: int, number: int) -> list[Job]:
    """`number` masks of one size, called 0000.png, 0001.png and so on."""
    digits = max(4, len(str(number - 1)))
    return [Job(f"{i:0{digits}}.png", (width, height)) for i in range(number)]


def write_masks(
    jobs: Sequence[Job],
    preset: Preset,
    out: Path,
    *,
    preset_name: str | None,
    seed: int = 0,
    report: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Draw all `jobs` into the folder `out`, made if need be; returns the manifest.

    Whatever is there already and the same stays: a run that was stopped goes on, a second run changes nothing.

    Raises:
        InputError: `out` holds files of these names that are something else, or a mask cannot be drawn.
        OutputError: the folder cannot be written to or the disk is full.
    """
    settings = {
        "format": FORMAT,
        "rethined": metadata.version("rethined"),
        "preset": preset_name,
        "kind": preset.kind,
        "coverage": list(preset.coverage),
        "stroke_width": list(preset.stroke_width) if preset.stroke_width else None,
        "seed": seed,
    }
    if (out / MANIFEST).exists():
        old = read_manifest(out)
        same = {key: old.get(key) for key in settings if key != "rethined"} == {
            key: value for key, value in settings.items() if key != "rethined"
        }
        if not same or [entry["name"] for entry in old["files"]] != [job.name for job in jobs]:
            raise InputError(
                f"{out} holds other masks (another preset, seed or set of photos); choose another folder"
            )
    elif out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the masks")
    remove_halves(out / name for name in (MANIFEST, SHEET, *(job.name for job in jobs)))
    files: list[dict[str, Any]] = []

    def make(job: Job) -> tuple[dict[str, Any], PillowImage.Image | None]:
        width, height = job.size
        mask = preset.draw(Path(job.name).stem, height, width, seed)
        covered = round(np.count_nonzero(mask) / mask.size, 6)
        data = encode(mask)
        path = out / job.name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Another version of zlib may write other bytes for the same mask, which is not another mask.
        if path.exists() and not (read_bytes(path) == data or _same_pixels(path, mask)):
            raise InputError(f"{path} exists already and is another mask; choose another folder")
        if path.exists():
            data = read_bytes(path)
        else:
            write_atomic(path, data)
        entry = {
            "name": job.name,
            "width": width,
            "height": height,
            "coverage": covered,
            "sha256": hashlib.sha256(data).hexdigest(),
            "pixels_sha256": pixels_sha256(mask),
        }
        return entry, _cell(job, mask, covered) if job.name in shown else None

    shown = {jobs[i * len(jobs) // SHOWN].name for i in range(SHOWN)} if len(jobs) > SHOWN else {j.name for j in jobs}
    cells = []
    with ThreadPoolExecutor(4) as pool:
        for entry, cell in pool.map(make, jobs):
            files.append(entry)
            if cell:
                cells.append(cell)
            if len(files) % 100 == 0:
                report(f"{len(files)} of {len(jobs)} masks")
    manifest = settings | {"files": files}
    write_atomic(out / SHEET, _sheet(cells), overwrite=True)
    write_atomic(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode(), overwrite=True)
    return manifest


def encode(mask: Mask) -> bytes:
    """A PNG with one bit a pixel, white = hole."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def decode(path: Path) -> Mask:
    """(H, W), True = hole, of a mask file.

    Raises:
        InputError: not a picture, or a damaged one.
    """
    return np.asarray(read_photo(path).pixels[..., 0] > 127)


def pixels_sha256(mask: Mask) -> str:
    """Of width, height and one bit a pixel: the same for the same mask, whatever wrote the PNG."""
    height, width = mask.shape
    return hashlib.sha256(f"{width}x{height}:".encode() + np.packbits(mask, axis=None).tobytes()).hexdigest()


def _same_pixels(path: Path, mask: Mask) -> bool:
    try:
        return np.array_equal(decode(path), mask)
    except InputError:
        return False


# ---------------------------------------------------------------- manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """What `write_masks` has written beside the masks.

    Raises:
        InputError: there is none, or it is of another kind.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(f"there is no {MANIFEST} in {folder}; give a folder that `rethined masks` has written")
    try:
        manifest = json.loads(read_bytes(path))
        known = manifest["format"] == FORMAT and all(
            {"name", "width", "height", "sha256", "pixels_sha256"} <= entry.keys() for entry in manifest["files"]
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise InputError(f"{path} is not a manifest of masks, or damaged; make the masks again in another folder")
    assert isinstance(manifest, dict)
    return manifest


def verify(folder: Path) -> Iterator[Problem]:
    """What is wrong with a folder of masks, in order of name: missing, corrupt, wrong size, changed or extra files.

    Raises:
        InputError: as `read_manifest`.
    """
    entries = {entry["name"]: entry for entry in read_manifest(folder)["files"]}
    for name, entry in entries.items():
        path = folder / name
        if not path.is_file():
            yield Problem("missing", name)
            continue
        if hashlib.sha256(read_bytes(path)).hexdigest() == entry["sha256"]:
            continue
        try:
            mask = decode(path)
        except InputError as error:
            yield Problem("corrupt", name, str(error))
            continue
        wanted, got = f"{entry['width']} x {entry['height']}", f"{mask.shape[1]} x {mask.shape[0]}"
        if got != wanted:
            yield Problem("wrong size", name, f"{got}, the manifest says {wanted}")
        elif pixels_sha256(mask) != entry["pixels_sha256"]:
            yield Problem("changed", name)
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and not path.name.startswith(".") and name not in (MANIFEST, SHEET, *entries):
            yield Problem("extra", name)


# ---------------------------------------------------------------- sheet


def _cell(job: Job, mask: Mask, coverage: float) -> PillowImage.Image:
    """A small picture of the mask, over its photograph where there is one, with name and coverage under it."""
    from PIL import Image, ImageDraw

    scale = CELL / max(job.size)
    size = (max(1, round(job.size[0] * scale)), max(1, round(job.size[1] * scale)))
    hole = Image.fromarray(mask.view(np.uint8) * np.uint8(255)).resize(size, Image.Resampling.BOX)
    cell = Image.new("RGB", (CELL + 8, CELL + 24), (24, 24, 24))
    if job.photo:
        under = _thumbnail(job.photo, size).point(lambda value: value * 0.6)  # so that white is hole and not sky
    else:
        under = Image.new("RGB", size, (64, 64, 64))
    under.paste((255, 255, 255), (0, 0), hole)
    cell.paste(under, ((CELL + 8 - size[0]) // 2, (CELL + 4 - size[1]) // 2))
    name = job.name.removesuffix(".png")
    label = f"{name if len(name) <= 24 else '...' + name[-21:]}  {100 * coverage:.3g}%"
    ImageDraw.Draw(cell).text((6, CELL + 7), label.encode("ascii", "replace").decode(), fill=(255, 255, 255))
    return cell


def _thumbnail(path: Path, size: tuple[int, int]) -> PillowImage.Image:
    from PIL import Image, ImageOps

    if path.suffix.lower() in SUFFIXES["JPEG"]:
        with Image.open(path) as photo:
            photo.draft("RGB", (2 * CELL, 2 * CELL))  # decodes an eighth of it, in an eighth of the time
            return ImageOps.exif_transpose(photo).convert("RGB").resize(size, Image.Resampling.BOX)
    return Image.fromarray(read_pixels(path)).resize(size, Image.Resampling.BOX)


def _sheet(cells: Sequence[PillowImage.Image]) -> bytes:
    from PIL import Image

    columns = min(8, len(cells))
    width, height = cells[0].size
    sheet = Image.new("RGB", (columns * width, -(-len(cells) // columns) * height), (24, 24, 24))
    for i, cell in enumerate(cells):
        sheet.paste(cell, (i % columns * width, i // columns * height))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def describe(manifest: dict[str, Any]) -> str:
    """One line about a set of masks, for people."""
    coverage = [entry["coverage"] for entry in manifest["files"]]
    return (
        f"{len(coverage)} masks, {100 * min(coverage):.3g}% to {100 * max(coverage):.3g}% hole, "
        f"{100 * np.mean(coverage):.3g}% on average"
    )
