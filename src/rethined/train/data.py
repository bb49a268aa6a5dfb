"""Photographs, decoded once into memory as uint8; crops and masks that depend on the seed and the step alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from rethined.data.pack import load_pack
from rethined.data.photos import BadPhotosError, Pixels, Problem, find_photos, read_pixels, some
from rethined.data.shards import INDEX, Member, find_members
from rethined.errors import InputError
from rethined.image import warn
from rethined.masks import free_form

SCALE = 2
"""Full-resolution pixels to one of the low-resolution grid, in training: what is above the grid is seen, too."""
SHORT_SIDE = SCALE * 384
"""Twice what the short side of a photograph has in the engine's low-resolution grid, for the usual 3:2."""
LEAST_SIDE, NARROWEST = 64, 32
"""Pixels a side must have, and how many times the other it may be: what is less would be enlarged to gigabytes."""
CANVAS = 512
"""Masks are drawn at the size of the engine's grid and cut, so that holes are as wide as they will be."""
WITHOUT_DETAIL = 1 / 6
"""Part of the pictures that have no more detail than the grid, as photographs of its size have none."""
PADDED = 1 / 4
"""Part of the masks that have a margin at the bottom and right, as the engine pads its grid with hole."""

Photos = list[Pixels]
Source = tuple[str, Callable[[], Pixels]]
"""A photograph's name, and what reads it."""


def load_folder(
    folder: Path,
    short_side: int = SHORT_SIDE,
    most: int | None = None,
    report: Callable[[str], None] = warn,
) -> Photos:
    """The photographs below `folder`, sorted by name, each (h, w, 3) RGB reduced to `short_side` by area.

    All, or the first `most`. `folder` may also hold shards that `rethined data shards` has written, or be a file of
    `rethined data pack`. Photographs too small or too narrow to learn from are left out, and `report` is told.

    Raises:
        BadPhotosError: photographs that cannot be read.
        InputError: no photograph there, or none that is large enough.
    """
    sources = _sources(folder)[:most]

    def load(source: Source) -> Pixels | Problem:
        name, read = source
        try:
            picture = read()
        except InputError as error:
            return Problem("corrupt", name, str(error))
        short, long = sorted(picture.shape[:2])
        if short < LEAST_SIDE or long > NARROWEST * short:
            return Problem("too small", name)
        return _reduced(picture, short_side)

    with ThreadPoolExecutor(4) as pool:
        loaded = list(pool.map(load, sources))
    problems = [one for one in loaded if isinstance(one, Problem)]
    corrupt = [one for one in problems if one.kind == "corrupt"]
    if corrupt:
        raise BadPhotosError(f"{len(corrupt)} of {len(sources)} photographs in {folder} cannot be read", corrupt)
    if problems:
        what = f"sides under {LEAST_SIDE} pixels, or more than {NARROWEST} times as long as wide"
        names = some(problem.name for problem in problems)
        if len(problems) == len(sources):
            raise InputError(f"no photograph in {folder} is large enough ({what}): {names}; give others")
        report(f"{len(problems)} of {len(sources)} photographs in {folder} are left out ({what}): {names}")
    return [one for one in loaded if not isinstance(one, Problem)]


def _sources(folder: Path) -> list[Source]:
    """What reads each photograph of a folder, of shards or of a pack."""
    if folder.is_file():
        return [(f"photograph {i}", partial(np.asarray, picture)) for i, picture in enumerate(load_pack(folder))]
    if (folder / INDEX).is_file():
        return [(member.name, partial(_read_member, member)) for member in find_members(folder)]
    return [(path.relative_to(folder).as_posix(), partial(read_pixels, path)) for path in find_photos(folder)]


def _read_member(member: Member) -> Pixels:
    return read_pixels(member.read(), name=member.name)


def _reduced(picture: Pixels, short_side: int) -> Pixels:
    height, width = picture.shape[:2]
    scale = short_side / min(height, width)
    size = (max(short_side, round(width * scale)), max(short_side, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


class Batches(Protocol):
    """Batches by number: `self[step]` is the same on every run, so a resumed run sees what it would have."""

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        """Images (B, 3, SCALE crop, SCALE crop) in [0, 1]; masks (B, 1, crop, crop), 1 = hole."""
        ...


@dataclass(frozen=True)
class _Draw:
    """Which pictures this process makes of each batch, and with which random numbers."""

    photos: Photos
    batch_size: int
    """Over all processes."""
    crops: Sequence[int]
    coverage: tuple[float, float]
    seed: int
    rank: int = 0
    world: int = 1

    def crop(self, step: int) -> int:
        """All processes draw the same one."""
        return int(np.random.default_rng((self.seed, step)).choice(self.crops))

    def generators(self, step: int) -> list[np.random.Generator]:
        """One for each picture of the batch that is this process's, whatever the others' are."""
        return [np.random.default_rng((self.seed, step, i)) for i in range(self.rank, self.batch_size, self.world)]

    def view(self, rng: np.random.Generator, size: int) -> tuple[int, slice, slice, bool, bool]:
        """A photograph, a square of it to be shrunk to `size`, whether mirrored, whether without fine detail.

        From nearly whole photographs to closer views, down to the stored resolution.
        """
        index = int(rng.integers(len(self.photos)))
        height, width = self.photos[index].shape[:2]
        side = round(rng.uniform(min(size, height, width), min(height, width)))
        y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
        return index, slice(y, y + side), slice(x, x + side), rng.random() < 0.5, rng.random() < WITHOUT_DETAIL

    def padding(self, rng: np.random.Generator) -> tuple[int, int]:
        """Rows and columns at the end that are beyond the picture; the network must have seen that."""
        if rng.random() < PADDED:
            rows, columns = rng.integers(0, 33, 2)
            return int(rows), int(columns)
        return 0, 0


class HostBatches(_Draw):
    """Made by NumPy and OpenCV, for training on processors."""

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        crop = self.crop(step)
        images, masks = [], []
        for rng in self.generators(step):
            images.append(self._image(rng, SCALE * crop))
            masks.append(self._hole(rng, crop))
        image = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
        return image, torch.from_numpy(np.stack(masks))[:, None].float()

    def _image(self, rng: np.random.Generator, size: int) -> NDArray[np.uint8]:
        index, rows, columns, mirrored, plain = self.view(rng, size)
        picture = self.photos[index][rows, columns]
        if picture.shape[0] != size:
            picture = np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
        if plain:
            small = cv2.resize(picture, (size // SCALE, size // SCALE), interpolation=cv2.INTER_AREA)
            picture = np.asarray(small, np.uint8).repeat(SCALE, 0).repeat(SCALE, 1)
        return np.ascontiguousarray(picture[:, ::-1] if mirrored else picture)

    def _hole(self, rng: np.random.Generator, crop: int) -> NDArray[np.bool_]:
        canvas = max(CANVAS, crop)
        whole = free_form(canvas, canvas, rng, coverage=self.coverage)
        low, high = 0.5 * self.coverage[0], min(0.8, 1.5 * self.coverage[1])
        while True:
            y, x = (int(rng.integers(canvas - crop + 1)) for _ in range(2))
            mask = whole[y : y + crop, x : x + crop].copy()
            if low < mask.mean() < high:
                break
            low *= 0.8  # a canvas may have no such place
            high = 1 - 0.8 * (1 - high)
        rows, columns = self.padding(rng)
        mask[crop - rows :] = True
        mask[:, crop - columns :] = True
        return mask


class DeviceBatches(_Draw):
    """Made where training is, from photographs that lie there as uint8: for GPUs, which must not wait for data."""

    def __init__(self, *args: object, device: torch.device, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        stored = [torch.from_numpy(photo).permute(2, 0, 1).contiguous().to(device) for photo in self.photos]
        object.__setattr__(self, "stored", stored)
        object.__setattr__(self, "device", device)

    stored: list[Tensor]
    device: torch.device

    def __getitem__(self, step: int) -> tuple[Tensor, Tensor]:
        crop = self.crop(step)
        generators = self.generators(step)
        images = torch.stack([self._image(rng, SCALE * crop) for rng in generators])
        masks = strokes_and_shapes(crop, generators, self.coverage, self.device)
        for mask, rng in zip(masks, generators, strict=True):
            rows, columns = self.padding(rng)
            mask[:, crop - rows :] = 1
            mask[:, :, crop - columns :] = 1
        return images, masks

    def _image(self, rng: np.random.Generator, size: int) -> Tensor:
        index, rows, columns, mirrored, plain = self.view(rng, size)
        picture = self.stored[index][:, rows, columns][None].float() / 255
        if picture.shape[2] != size:
            picture = F.interpolate(picture, (size, size), mode="bilinear", antialias=True)
        if plain:
            picture = F.interpolate(F.avg_pool2d(picture, SCALE), scale_factor=float(SCALE))
        return (picture.flip(3) if mirrored else picture)[0]


SHAPES = 10
"""Most shapes of a mask drawn on a device."""
SEGMENTS = 4
"""Segments of each stroke."""


def strokes_and_shapes(
    crop: int, generators: Sequence[np.random.Generator], coverage: tuple[float, float], device: torch.device
) -> Tensor:
    """`masks.free_form`'s kinds of holes, all of a batch at once, on `device`: (B, 1, crop, crop), 1 = hole.

    Up to SHAPES strokes, boxes and blobs are drawn over each crop of a CANVAS-sized picture, and as many kept as come
    nearest to an area drawn from `coverage`. Shapes are drawn by their distance functions, not pixel by pixel.
    """
    numbers = np.stack([rng.random((SHAPES, 8 + 2 * SEGMENTS)) for rng in generators]).astype(np.float32)
    goal = torch.tensor([rng.uniform(*coverage) for rng in generators], device=device)
    r = torch.from_numpy(numbers).to(device)  # (B, S, 8 + 2 SEGMENTS), uniform in 0..1
    axis = torch.arange(crop, device=device, dtype=torch.float32)
    y, x = axis[:, None], axis[None, :]
    # Centres may lie beside the crop: a hole is often cut by its border.
    centre = r[..., 0:2] * (crop + 64) - 32
    kind = r[..., 2]

    def at(values: Tensor) -> Tensor:
        return values[..., None, None]

    # Strokes: distance to the nearest of a chain of segments, as LaMa's (up to 60 degrees of turn, 5 to 35 % long).
    # As in `free_form`, a missing area that is small makes thin strokes.
    most = 0.02 + (0.5 * goal + 0.03).clamp(max=0.14)[:, None]
    thick = CANVAS * (0.02 + r[..., 3] * (most - 0.02)) / 2
    angle = 2 * torch.pi * r[..., 4]
    hole = torch.zeros(*r.shape[:2], crop, crop, dtype=torch.bool, device=device)
    py, px = centre[..., 0], centre[..., 1]
    for segment in range(SEGMENTS):
        angle = angle + (r[..., 8 + 2 * segment] - 0.5) * 2 * torch.pi / 3
        length = CANVAS * (0.05 + 0.3 * r[..., 9 + 2 * segment])
        dy, dx = length * torch.sin(angle), length * torch.cos(angle)
        along = ((y - at(py)) * at(dy) + (x - at(px)) * at(dx)) / at(length.square())
        along = along.clamp(0, 1)
        distance = (y - at(py) - along * at(dy)).square() + (x - at(px) - along * at(dx)).square()
        hole |= distance < at(thick.square())
        py, px = py + dy, px + dx
    # Boxes and blobs: of up to 15 % of the canvas; a blob's radius waves with the angle.
    area = CANVAS**2 * (0.03 + 0.12 * r[..., 5]) * goal[:, None].clamp(max=0.3) / 0.3
    aspect = torch.exp(1.4 * (r[..., 6] - 0.5))
    ny, nx = (y - at(centre[..., 0])) * at(aspect.sqrt()), (x - at(centre[..., 1])) / at(aspect.sqrt())
    half = at(area.sqrt() / 2)
    box = (ny.abs() < half) & (nx.abs() < half)
    theta = torch.atan2(ny, nx)
    wave = torch.ones_like(theta)
    for f in (1, 2, 3):
        wave = wave + at(0.5 * (r[..., 8 + f] - 0.5) / f) * torch.cos(f * theta + at(2 * torch.pi * r[..., 11 + f]))
    blob = ny.square() + nx.square() < at(area / torch.pi) * wave.clamp(min=0.2).square()
    hole = torch.where(at(kind < 0.6), hole, torch.where(at(kind < 0.8), box, blob))
    union = hole.cummax(1).values
    reached = union.float().mean((2, 3))
    best = (reached - goal[:, None]).abs().argmin(1)
    return union[torch.arange(len(best), device=device), best][:, None].float()
