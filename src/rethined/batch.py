"""Filling photos from files: one, or a folder of them with reading, filling and writing overlapped."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np

from rethined import image as images
from rethined.errors import InputError, RethinedError
from rethined.image import Image, Mask, Photo, warn
from rethined.workers import usable_cores

Fill = Callable[[Image, Mask], Image]
"""An engine: image (H, W, 3) and mask (H, W) to the filled image."""

T = TypeVar("T")
SIDE_BY_SIDE = ".side-by-side.jpg"
AHEAD = 4
"""Photos of a folder that are read before the engine takes them, and as many that wait to be written, at most."""
AHEAD_PIXELS = 50_000_000
"""Of these, together: one reads ahead by less where each photo is large."""

current: ContextVar[str] = ContextVar("current", default="")
"""The file of a folder run that the calling thread is at work on, for messages."""


@dataclass(frozen=True)
class Options:
    """How each photo is read, filled and written."""

    invert: bool = False
    """White is known and black is the hole."""
    dilate: int = 0
    """Pixels by which the hole grows in every direction before it is filled."""
    feather: int = 0
    """Pixels, inside the hole, over which the fill fades into what was there."""
    quality: int | None = None
    """1 to 100, for JPEG, WebP and AVIF; by default that of the source."""
    side_by_side: bool = False
    """Also make a picture of original, masked and result."""
    max_pixels: int = images.MAX_PIXELS
    """Largest width times height that is read."""


@dataclass(frozen=True)
class Job:
    """One photo of a folder run."""

    image: Path
    mask: Path | None
    """None where the masks' folder has none for this photo."""
    output: Path
    name: str
    """Path of the photo within its folder, for reports."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    job: Job
    status: Literal["filled", "skipped", "failed"]
    message: str = ""


@dataclass(frozen=True)
class Filled:
    """The bytes to write for one photo."""

    photo: bytes
    side_by_side: bytes | None
    summary: str
    """One line for the user."""


def read(image: Path | bytes, mask: Path | bytes, options: Options) -> tuple[Photo, Mask]:
    """A photo and its mask as it will be filled; warns about masks that look like a mistake.

    Raises:
        InputError: as `read_photo` and `read_mask`.
    """
    photo = images.read_photo(image, max_pixels=options.max_pixels)
    hole = images.read_mask(mask, photo, invert=options.invert, max_pixels=options.max_pixels)
    hole = images.dilate(hole, options.dilate)
    share = np.count_nonzero(hole) / hole.size
    if share == 0:
        warn(f"the mask of {photo.name} is empty (white marks the hole): the photo is returned as it is")
    elif share > 0.5:
        warn(f"the mask covers {share:.0%} of {photo.name}; if it is the wrong way round, use --mask-invert")
    return photo, hole


@contextmanager
def reading_threads(count: int = 1) -> Iterator[ThreadPoolExecutor]:
    """Threads to read with. Who stops early does not wait for them: what they read, a pipe perhaps, may never end."""
    pool = ThreadPoolExecutor(count, "read")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def encode(photo: Photo, hole: Mask, result: Image, options: Options, format: str | None = None) -> Filled:
    """The files to write for a photo that an engine has filled."""
    result = images.feather(photo.pixels, result, hole, options.feather)
    return Filled(
        photo=images.encode_photo(photo, result, hole, format=format, quality=options.quality),
        side_by_side=images.encode_side_by_side(photo, result, hole) if options.side_by_side else None,
        summary=f"{hole.size / 1e6:.1f} megapixels, {np.count_nonzero(hole) / hole.size:.1%} filled",
    )


def fill(photo: Photo, hole: Mask, engine: Fill) -> Image:
    """The photo's upright pixels, filled; an empty mask costs nothing."""
    return engine(photo.pixels, hole) if hole.any() else photo.pixels


def write(output: Path, filled: Filled, *, overwrite: bool) -> None:
    """Write the photo, and beside it the picture for looking.

    Raises:
        InputError, OutputError: as `write_atomic`.
    """
    images.write_atomic(output, filled.photo, overwrite=overwrite)
    if filled.side_by_side is not None:
        images.write_atomic(side_by_side_path(output), filled.side_by_side, overwrite=overwrite)


def side_by_side_path(output: Path) -> Path:
    """Where the picture for looking goes. It keeps the whole name: a.jpg and a.png have one each."""
    return output.with_name(output.name + SIDE_BY_SIDE)


def plan(image_folder: Path, masks: Path, output_folder: Path, *, overwrite: bool = False) -> tuple[list[Job], int]:
    """The photos of a folder and the folders in it, in order of name, and the number of other files there.

    `masks` is one mask for all, or a folder with a mask of the same relative path and stem, of any suffix.
    Outputs have the same relative path. Masks and outputs inside the image folder are not read as photos.

    Raises:
        InputError: no photos or no masks there, or folders that get into each other's way.
    """
    if not masks.exists():
        raise InputError(f"{masks} does not exist; give a mask, or a folder of masks named like the images")
    if masks.resolve() == image_folder.resolve():
        raise InputError(f"{masks} is the images' own folder; put the masks into a folder of their own")
    if output_folder.exists() and not output_folder.is_dir():
        raise InputError(f"{output_folder} is a file; a folder of images needs a folder for the results")
    in_place = output_folder.resolve() == image_folder.resolve()
    if in_place and not overwrite:
        raise InputError(f"{output_folder} is the images' own folder; name another or --overwrite")
    apart = {masks.resolve()} if in_place else {masks.resolve(), output_folder.resolve()}
    found = _masks_by_stem(masks) if masks.is_dir() else {}
    jobs, others = [], 0
    for path in _files(image_folder, apart):
        relative = path.relative_to(image_folder)
        if not images.is_image_name(path) or path.name.endswith(SIDE_BY_SIDE):
            others += 1
            continue
        mask = found.get(relative.with_suffix("")) if masks.is_dir() else masks
        jobs.append(Job(path, mask, output_folder / relative, str(relative)))
    if not jobs:
        raise InputError(f"{image_folder} holds no images; give a folder of {', '.join(images.SUFFIXES)} files")
    return jobs, others


def _files(folder: Path, apart: set[Path]) -> Iterator[Path]:
    """Every file below `folder` in order of name; none hidden, in `apart` or in a linked folder."""
    for entry in sorted(folder.iterdir(), key=lambda path: path.name):
        if entry.name.startswith(".") or entry.resolve() in apart:
            continue
        if entry.is_dir():
            if not entry.is_symlink():  # which may lead back here
                yield from _files(entry, apart)
        else:
            yield entry


def _masks_by_stem(folder: Path) -> dict[Path, Path]:
    found: dict[Path, Path] = {}
    for path in _files(folder, set()):
        if images.is_image_name(path):
            found.setdefault(path.relative_to(folder).with_suffix(""), path)
    return found


def run(jobs: list[Job], engine: Fill, options: Options, *, overwrite: bool = False) -> Iterator[Outcome]:
    """Fill every photo and report on each, in order, going on past those that fail.

    While the engine fills one, others are read and written, on as many threads each as half the cores, but AHEAD at
    most, and fewer where photos are large: to write a PNG takes one thread ten times as long as all take to fill it.
    A photo whose output is there already is skipped, so that an interrupted run goes on where it stopped.
    """
    count = min(max(usable_cores() // 2, 1), AHEAD)
    ahead, todo = 1, iter(jobs)  # how large they are is not known
    reading: deque[tuple[Job, Future[tuple[Photo, Mask] | Outcome]]] = deque()
    writing: deque[Future[Outcome]] = deque()
    with reading_threads(count) as reader, ThreadPoolExecutor(count, "write") as writer:

        def read_on(wanted: int) -> None:
            for job in itertools.islice(todo, max(wanted - len(reading), 0)):
                reading.append((job, reader.submit(_read, job, options, overwrite)))

        read_on(1)
        while reading:
            job, begun = reading.popleft()
            ready = begun.result()
            if not isinstance(ready, Outcome):
                ahead = min(max(AHEAD_PIXELS // ready[1].size, 1), count)
            read_on(ahead)
            filled = ready if isinstance(ready, Outcome) else _attempt(job, partial(_filled, *ready, engine))
            while len(writing) >= ahead or (writing and writing[0].done()):
                yield writing.popleft().result()
            writing.append(writer.submit(_write, job, filled, options, overwrite))
            del begun, ready, filled  # the writer holds them now
        while writing:
            yield writing.popleft().result()


def _read(job: Job, options: Options, overwrite: bool) -> tuple[Photo, Mask] | Outcome:
    if job.output.exists() and not overwrite:
        return Outcome(job, "skipped", f"{job.output} exists")
    if job.mask is None:
        return Outcome(job, "failed", "there is no mask of this name")
    mask = job.mask
    for path in (job.image, mask):
        if path.exists() and not path.is_file():  # a pipe would be waited for, and the other photos with it
            return Outcome(job, "failed", f"{path} is not a regular file; give a picture file")

    def step() -> tuple[Photo, Mask]:
        photo, hole = read(job.image, mask, options)
        images.check_format(photo, photo.format)
        _ = photo.pixels  # worked out and kept now, while the engine is busy with another photo
        return photo, hole

    return _attempt(job, step)


def _filled(photo: Photo, hole: Mask, engine: Fill) -> tuple[Photo, Mask, Image]:
    return photo, hole, fill(photo, hole, engine)


def _write(job: Job, filled: tuple[Photo, Mask, Image] | Outcome, options: Options, overwrite: bool) -> Outcome:
    if isinstance(filled, Outcome):
        return filled
    photo, hole, result = filled

    def step() -> Outcome:
        files = encode(photo, hole, result, options)
        job.output.parent.mkdir(parents=True, exist_ok=True)
        write(job.output, files, overwrite=overwrite)
        return Outcome(job, "filled", files.summary)

    return _attempt(job, step)


def _attempt(job: Job, step: Callable[[], T]) -> T | Outcome:
    """What `step` returns, or that the job failed: whatever is wrong with one photo, the others go on."""
    current.set(job.name)
    try:
        return step()
    except RethinedError as error:
        return Outcome(job, "failed", str(error))
    except MemoryError:
        return Outcome(job, "failed", "there is not enough memory for it")
    except Exception as error:
        if os.environ.get("RETHINED_DEBUG"):
            raise
        return Outcome(job, "failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
