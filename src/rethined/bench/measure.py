"""How good the fills are: methods x photographs under the same holes, for `rethined eval` and `bench quality`."""

from __future__ import annotations

import os
import re
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined import image as images
from rethined import masks
from rethined.bench import baselines, peers, provenance
from rethined.bench.cases import CELL, Case, Worst
from rethined.bench.schema import DEFINITIONS, REFERENCE
from rethined.engine import Engine
from rethined.errors import BackendError, InputError, RethinedError
from rethined.metrics import backbones, fid, image
from rethined.metrics.lpips import Lpips, Net
from rethined.windows import Window, whole

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Method = Callable[[Image, Mask], Image]

BASELINES: dict[str, Method] = {
    "telea": baselines.telea,
    "telea_full": baselines.telea_full,
    REFERENCE: baselines.copy_reference,
}
WHOLE = "rethined_whole"
SMALLEST = 64
"""Shortest side, in pixels, of a photograph that is measured: below, the metrics' networks see mostly borders."""


_NUMBER = re.compile(r"\d+(\.\d+)?")


class Holes(Protocol):
    """Where the holes are: drawn, or from files."""

    @property
    def seed(self) -> int | None:
        """None where nothing is random."""
        ...

    def __str__(self) -> str:
        """The name in results."""
        ...

    def check(self, photos: Sequence[Path]) -> None:
        """Raise InputError where a photograph has no holes; reads nothing but the folder."""
        ...

    def of(self, path: Path, photo: images.Photo, height: int, width: int) -> Mask:
        """(height, width), True = hole, of the photograph reduced to this size."""
        ...


@dataclass(frozen=True)
class MaskSpec:
    """Which holes: one seeded mask per photograph, the same whatever else is in the run."""

    kind: str = "strokes"
    """One of rethined.masks.KINDS."""
    low: float = 0.10
    """Least part of the image that is hole."""
    high: float = 0.20
    """Largest part of the image that is hole."""
    seed: int = 0
    """Another seed, other holes."""

    @classmethod
    def parse(cls, text: str, seed: int = 0) -> MaskSpec:
        """`strokes-10-20`: kind and percentages.

        Raises:
            InputError: not of that form, or an unknown kind.
        """
        kind, *range_ = text.split("-")
        known = kind in masks.KINDS and len(range_) == 2 and all(_NUMBER.fullmatch(part) for part in range_)
        if not known or not 0 < float(range_[0]) <= float(range_[1]) < 100:
            raise InputError(
                f"masks are {text!r}; give KIND-LOW-HIGH in percent, such as strokes-10-20, with a KIND of "
                f"{', '.join(masks.KINDS)}, or a folder of PNG masks"
            )
        return cls(kind, float(range_[0]) / 100, float(range_[1]) / 100, seed)

    def __str__(self) -> str:
        return f"{self.kind}-{self.low * 100:g}-{self.high * 100:g}"

    def check(self, photos: Sequence[Path]) -> None:
        """Every photograph has holes."""

    def of(self, path: Path, photo: images.Photo, height: int, width: int) -> Mask:
        """Depends on the photograph's name without its suffix, and looks alike at every size."""
        rng = np.random.default_rng([self.seed, zlib.crc32(path.stem.encode())])
        return masks.free_form(height, width, rng, coverage=(self.low, self.high), kind=self.kind)


@dataclass(frozen=True)
class MaskFolder:
    """Holes from PNG files named like the photographs, of their size: white is the hole."""

    folder: Path
    """For a.jpg it holds a.png, for 2k/a.jpg 2k/a.png."""
    seed: None = None
    """Nothing is random."""

    def __str__(self) -> str:
        return self.folder.resolve().name

    def check(self, photos: Sequence[Path]) -> None:
        """Raises InputError naming the photographs without a mask, or two with the same."""
        names = _names(photos)
        missing = [name for path, name in names.items() if not self._file(path).is_file()]
        if missing:
            some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
            raise InputError(
                f"{self.folder} has no mask for {some}; put {Path(missing[0]).with_suffix('.png').as_posix()} there, "
                "white where the hole is, or take the photograph away"
            )
        seen: dict[Path, Path] = {}
        for path in photos:
            other = seen.setdefault(self._file(path), path)
            if other is not path:
                raise InputError(
                    f"{self.folder} has one mask for {names[other]} and {names[path]}; give each its own, in folders "
                    "like theirs"
                )

    def of(self, path: Path, photo: images.Photo, height: int, width: int) -> Mask:
        """A pixel is hole if any part of it is.

        Raises:
            InputError: a mask of another size, without a hole, or all hole.
        """
        file = self._file(path)
        hole = images.read_mask(file, photo)
        if not hole.any() or hole.all():
            state = "all white" if hole.any() else "without white"
            raise InputError(f"{file} is {state}; paint the hole white and leave the rest black")
        if hole.shape == (height, width):
            return hole
        # Sums of areas, so that a hairline is not lost between the pixels.
        share = cv2.resize(hole.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
        reduced = np.asarray(share > 1e-6)
        if reduced.all():
            raise InputError(f"{file} leaves nothing known at {width}x{height}; give a larger size")
        return reduced

    def _file(self, path: Path) -> Path:
        """In as many of the photograph's folders as there are below ours: 2k/a.png rather than a.png."""
        folders = path.parent.resolve().parts[1:]
        files = (self.folder.joinpath(*folders[i:], f"{path.stem}.png") for i in range(len(folders)))
        return next((file for file in files if file.is_file()), self.folder / f"{path.stem}.png")


def parse_masks(text: str, seed: int = 0) -> list[Holes]:
    """`strokes-10-20,objects-10-20`, or a folder of masks, or both with commas between.

    Raises:
        InputError: neither.
    """
    parts = [text] if Path(text).is_dir() else text.split(",")
    return [MaskFolder(Path(part)) if Path(part).is_dir() else MaskSpec.parse(part, seed) for part in parts]


@dataclass(frozen=True)
class Metrics:
    """What is measured. LPIPS over AlexNet, L1, PSNR and SSIM always."""

    lpips: Lpips
    """AlexNet is what papers report."""
    squeeze: Lpips | None = None
    """LPIPS over SqueezeNet."""
    inception: fid.Inception | None = None
    """Network of FID or FID-768."""
    crops: int = 16
    """Crops per photograph for the FID inside the hole."""
    crop_size: int = 256
    """Their side in pixels."""
    files: dict[str, str] | None = None
    """Sha256 of the networks' files by name."""

    @classmethod
    def load(cls, *, squeeze: bool = False, distances: bool = False, inception: Path | None = None) -> Metrics:
        """The networks from their files (`metrics.backbones`). `distances`: FID; so does naming an `inception` file.

        Raises:
            InputError: a file is not there.
            WeightsError: a file does not hold its network.
        """
        nets: tuple[Net, ...] = ("alex", "squeeze") if squeeze else ("alex",)
        paths = [backbones.find(f"lpips_{net}.safetensors") for net in nets]
        loaded = [Lpips.load(net, path) for net, path in zip(nets, paths, strict=True)]
        wanted = distances or inception is not None
        if wanted:
            paths.append(inception or backbones.find(*fid.FILES))
        return cls(
            loaded[0],
            loaded[1] if squeeze else None,
            fid.Inception.load(inception) if wanted else None,
            files={path.name: provenance.sha256(path) for path in paths if path},
        )


def load_methods(
    names: Iterable[str],
    *,
    threads: int | None = None,
    weights: Mapping[str, Path] | None = None,
    onnx: Mapping[str, peers.OnnxFile] | None = None,
) -> dict[str, Method]:
    """Methods by name: telea, telea_full, copy_reference, rethined (bundled weights), rethined:FILE, rethined_whole
    (which always looks at the whole photo at once), and peers.

    Peers without weights are refused; what `onnx` names is loaded whether it is among `names` or not.

    Raises:
        InputError: an unknown name, no such file, or a peer without weights.
        WeightsError: a file that does not hold weights.
    """
    loaded: dict[str, Method] = {}
    for name in dict.fromkeys([*names, *(onnx or ())]):
        if name in peers.names() or (onnx and name in onnx):
            loaded[name] = peers.load_method(name, weights, onnx, threads=threads)
        elif name in BASELINES:
            loaded[name] = BASELINES[name]
        elif name == WHOLE:
            loaded[name] = as_method(_Whole(threads=threads))
        elif name == "rethined" or name.startswith("rethined:"):
            loaded[name] = as_method(load_engine(weights_of(name), threads=threads))
        else:
            known = ", ".join([*BASELINES, WHOLE, *peers.names()])
            raise InputError(f"no method {name!r}; choose of {known}, rethined or rethined:FILE")
    return loaded


class _Whole(Engine):
    """The engine without `rethined.windows.find`: what that is worth."""

    def _windows(self, mask: Mask) -> list[Window]:
        return [whole(mask.shape[0], mask.shape[1], self.config.stride, self.config.band)] if mask.any() else []


def as_method(engine: Engine) -> Method:
    """What is uint8 stays uint8, which the engine's signature does not say."""
    return cast(Method, engine)


def load_engine(weights: Path | None, *, threads: int | None = None) -> Engine:
    """What users run, of an ONNX core, of a training run's safetensors file (exported first), or as bundled.

    Raises:
        InputError: no such file, or of another kind.
        WeightsError: a file that does not hold weights.
        BackendError: the packages for exporting are missing, or the export disagrees with PyTorch.
    """
    if weights is None or weights.suffix == ".onnx":
        return Engine(weights, threads=threads)
    if weights.suffix != ".safetensors":
        raise InputError(f"weights are {weights.name}; give a .safetensors file of a training run or an .onnx core")
    try:
        from rethined.export.core import load_weights
        from rethined.export.onnx import export_core

        model, metadata = load_weights(weights)
        with tempfile.TemporaryDirectory() as folder:
            core = Path(folder) / f"{weights.stem}.onnx"
            export_core(model, core, {"rethined.training": metadata.get("rethined.training", "")})
            return Engine(core, threads=threads)
    except ImportError as error:
        raise BackendError(
            f"measuring a .safetensors file exports it first, which needs {error.name}; "
            "install it with: pip install 'rethined[export]'"
        ) from error


def weights_of(name: str) -> Path | None:
    """The FILE of `rethined:FILE`; None for other names."""
    return Path(name.partition(":")[2]) if name.startswith("rethined:") else None


def sha256_of(name: str) -> str:
    """Of the weights of `rethined` or `rethined:FILE`."""
    return provenance.sha256(weights_of(name) or provenance.BUNDLED)


def find_photos(folder: Path) -> list[Path]:
    """Pictures below `folder`, in order of their path within it, or `folder` itself when it is a file; nothing
    hidden, no linked folders.

    Raises:
        InputError: there is none, or two in one folder have one name but for the suffix.
    """
    root = folder.parent if folder.is_file() else folder
    inside = [path.relative_to(root) for path in ([folder] if folder.is_file() else folder.rglob("*"))]
    shown = [path for path in inside if images.is_image_name(path) and not any(p.startswith(".") for p in path.parts)]
    found = [root / path for path in sorted(shown, key=Path.as_posix)]
    if not found:
        suffixes = ", ".join(names[0] for names in images.SUFFIXES.values())
        raise InputError(f"no photographs in {folder}; give a folder of {suffixes} files")
    seen: set[Path] = set()
    for path in found:
        name = path.with_suffix("")
        if name in seen:
            raise InputError(
                f"{folder} has two photographs called {path.stem}; masks go by name, so rename one of them"
            )
        seen.add(name)
    return found


def _names(photos: Sequence[Path]) -> dict[Path, str]:
    """What results call them: paths within the folder that holds them all, in POSIX form."""
    common = os.path.commonpath([path.parent for path in photos]) if photos else ""
    return {path: path.relative_to(common).as_posix() for path in photos}


def reduced(photo: images.Photo, size: int) -> Image | None:
    """The photograph as uint8 RGB with `size` pixels on its long side, by area; None when it has fewer."""
    width, height = photo.size
    factor = size / max(height, width)
    if factor > 1:
        return None
    pixels = photo.pixels
    if pixels.dtype == np.uint16:
        pixels = np.rint(pixels / 257).astype(np.uint8)
    shape = (max(1, round(width * factor)), max(1, round(height * factor)))
    if min(shape) < SMALLEST:
        raise InputError(
            f"{photo.name} is {shape[0]}x{shape[1]} at {size} pixels on the long side; every side needs {SMALLEST}: "
            "give a larger size or leave the photograph out"
        )
    if factor == 1:
        return np.ascontiguousarray(pixels, np.uint8)
    return np.ascontiguousarray(cv2.resize(pixels, shape, interpolation=cv2.INTER_AREA), np.uint8)


def run(
    methods: dict[str, Method],
    photos: Sequence[Path],
    size: int,
    holes: Holes,
    metrics: Metrics,
    *,
    worst: Worst | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fill every photograph with every method and measure; a JSON-ready dictionary, numbers as in DEFINITIONS.

    Photographs with fewer than `size` pixels on the long side are left out and listed; there may be none left.
    The last method is the one that is judged: `worst` collects the cases in which its LPIPS in the hole is
    highest. In memory are one photograph, one fill and their mask at a time.

    Raises:
        InputError: a photograph or a mask cannot be used.
        RethinedError: a method changed known pixels.
    """
    rows: list[dict[str, Any]] = []
    small: list[str] = []
    features = _Features(metrics)
    *others, judged = methods
    for path, called in _names(photos).items():
        file = images.read_photo(path)
        photo = reduced(file, size)
        if photo is None:
            small.append(called)
            continue
        height, width = photo.shape[:2]
        mask = holes.of(path, file, height, width)
        if not mask.any():
            raise InputError(f"{holes}: no such hole fits into {called} at {width}x{height}; give a larger size")
        del file  # the photograph at its own size
        features.start(path.stem, photo, mask)
        measured: dict[str, dict[str, Any]] = {}
        case: Case | None = None
        for name in (judged, *others):  # the judged one first: where it is worst is shown of all
            start = time.perf_counter()
            fill = methods[name](photo, mask)
            seconds = time.perf_counter() - start
            if not _keeps_known(fill, photo, mask):
                raise RethinedError(f"{name} changed known pixels of {called}; its numbers would be void")
            values, cells = _measure(fill, photo, mask, metrics)
            row = {"photo": called, "height": height, "width": width, "hole": float(mask.mean())}
            measured[name] = row | {"method": name, "seconds": seconds, **values}
            progress(f"{called} {name}: LPIPS in the hole {values['lpips_hole']:.4f}, {seconds:.2f} s")
            features.add(name, fill)
            if worst is not None and name == judged:
                case = worst.consider(called, size, str(holes), photo, mask, cells, values["lpips_hole"])
            if case is not None:
                case.add(name, fill, values)
            del fill
        rows += [measured[name] for name in methods]
    return {
        "size": size,
        "masks": {"name": str(holes), "seed": holes.seed},
        "photos": len(rows) // len(methods),
        "too_small": small,
        "fid": features.settings(),
        "methods": _summary(rows, {name: features.distances(name) for name in methods}),
        "rows": rows,
    }


def described(metrics: Metrics) -> dict[str, Any]:
    """What every result says of its numbers: definitions, and the files of the metrics' networks."""
    return {"definitions": DEFINITIONS, "networks": metrics.files}


class _Features:
    """Inception features of originals and fills: of whole images, and of crops around holes."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._boxes: list[tuple[slice, slice]] = []
        self._whole: dict[str, list[NDArray[np.float64]]] = {}
        self._crops: dict[str, list[NDArray[np.float64]]] = {}

    def settings(self) -> dict[str, Any] | None:
        metrics = self._metrics
        if metrics.inception is None:
            return None
        return {"name": metrics.inception.label, "crops": metrics.crops, "crop_size": metrics.crop_size}

    def start(self, name: str, photo: Image, mask: Mask) -> None:
        if self._metrics.inception:
            rng = np.random.default_rng(zlib.crc32(name.encode()))
            self._boxes = fid.crops(mask, self._metrics.crops, self._metrics.crop_size, rng)
            self.add("", photo)

    def add(self, name: str, picture: Image) -> None:
        network = self._metrics.inception
        if network:
            self._whole.setdefault(name, []).append(fid.features(network, [picture]))
            crops = fid.features(network, [picture[box] for box in self._boxes])
            self._crops.setdefault(name, []).append(crops)

    def distances(self, name: str) -> dict[str, float]:
        """`fid` and `fid_hole`, or `fid768` and `fid768_hole`; none where there are too few images."""
        network = self._metrics.inception
        if network is None:
            return {}
        key = "fid" if network.whole else "fid768"
        found = {}
        for suffix, sets in (("_hole", self._crops), ("", self._whole)):
            rows = [np.concatenate(sets.get(side, [np.empty((0, 1))])) for side in (name, "")]
            if len(rows[0]) >= 2:
                found[key + suffix] = fid.frechet_distance(*rows)
        return found


def _keeps_known(fill: Image, photo: Image, mask: Mask) -> bool:
    """Whether known pixels are as they were; by strips, as what indexing by a mask picks is a copy."""
    if fill.shape != photo.shape or fill.dtype != photo.dtype:
        return False
    strips = (slice(start, start + 256) for start in range(0, len(mask), 256))
    return all(np.array_equal(fill[strip][~mask[strip]], photo[strip][~mask[strip]]) for strip in strips)


def _measure(fill: Image, photo: Image, mask: Mask, metrics: Metrics) -> tuple[dict[str, float], NDArray[np.float64]]:
    """All metrics, and the sums of LPIPS over hole pixels by cells of CELL pixels."""
    count = np.count_nonzero(mask)
    distances = metrics.lpips.compare(fill, photo)
    cells = distances.sums_in(mask, CELL)
    values = {"lpips_hole": float(cells.sum() / count)}
    whole = {"lpips": distances.mean()}
    if metrics.squeeze is not None:
        distances = metrics.squeeze.compare(fill, photo)
        values["lpips_squeeze_hole"] = distances.mean_in(mask)
        whole["lpips_squeeze"] = distances.mean()
    return values | image.measure(fill, photo, mask) | whole, cells


def _summary(rows: list[dict[str, Any]], fids: dict[str, dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and median of every metric by method, FID, and the comparison with the reference."""
    result: dict[str, dict[str, Any]] = {}
    if not rows:
        return result
    about = ("photo", "height", "width", "hole", "method", "seconds")
    columns = {
        name: {key: [row[key] for row in rows if row["method"] == name] for key in rows[0] if key not in about}
        for name in dict.fromkeys(row["method"] for row in rows)
    }
    reference = columns.get(REFERENCE, {}).get("lpips_hole")
    for name, values in columns.items():
        ours = values["lpips_hole"]
        result[name] = {
            "mean": {key: float(np.mean(column)) for key, column in values.items()},
            "median": {key: float(np.median(column)) for key, column in values.items()},
            "ratio": float(np.mean(ours) / np.mean(reference)) if reference else None,
            "better": float(np.mean(np.less(ours, reference))) if reference else None,
            **fids[name],
        }
    return result
