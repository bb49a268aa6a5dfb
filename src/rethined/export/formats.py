"""What can be exported: one table, and the one way from weights to a file that was compared with PyTorch."""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rethined.errors import BackendError, InputError, OutputError
from rethined.image import check_output

if TYPE_CHECKING:
    from rethined.config import ModelConfig
    from rethined.export.core import Arrays, Size

TOLERANCES = {"fp32": 1e-4, "fp16": 1e-4, "int8": 0.5}
"""Largest difference to PyTorch that is written, of colours in [0, 1] and vectors of length 1 (`tolerance`).

fp32: sums in another order. fp16: the same, since it is what weights are stored in (`Core`), and nothing is computed
in. int8: only what is broken is refused; what it costs is measured by `rethined bench device`."""
COMPUTED_IN_HALF = 2 / 255
"""The same of formats that compute in fp16, too: two grey levels."""
PHOTOGRAPHS = 16
"""Most photographs that int8 is calibrated with."""


@dataclass(frozen=True)
class Format:
    """One target. The module `rethined.export.NAME` has `convert`, `load`, `operators` and `ALLOWED`."""

    title: str
    """Its name in sentences."""
    suffix: str
    """Of the file to write."""
    packages: tuple[str, ...]
    """That must be importable."""
    extra: str
    """What installs them."""
    precisions: tuple[str, ...] = ("fp32",)
    """The first is the default."""
    any_size: bool = False
    """Whether one file can take any height and width."""
    several: bool = False
    """Whether one file can hold several sizes."""
    beside: str = ""
    """Suffix of the second file."""
    computes_in_half: bool = False
    """Whether fp16 is what it computes in, and not only what weights are stored in."""


FORMATS = {
    "onnx": Format("ONNX", ".onnx", ("onnx", "onnxscript"), "export", ("fp32", "fp16", "int8"), any_size=True),
    "openvino": Format(
        "OpenVINO",
        ".xml",
        ("openvino", "onnx", "onnxscript"),
        "openvino",
        ("fp32", "fp16", "int8"),
        any_size=True,
        beside=".bin",
    ),
    "coreml": Format(
        "Core ML", ".mlpackage", ("coremltools",), "coreml", ("fp16", "fp32"), several=True, computes_in_half=True
    ),
    "executorch": Format("ExecuTorch", ".pte", ("executorch",), "executorch"),
    "litert": Format(
        "LiteRT", ".tflite", ("litert_torch", "ai_edge_litert", "ai_edge_quantizer"), "litert", ("fp32", "fp16")
    ),
    "ncnn": Format("ncnn", ".param", ("pnnx", "ncnn"), "ncnn", ("fp32", "fp16"), beside=".bin"),
}


def export(
    name: str,
    weights: Path | None,
    out: Path,
    *,
    size: str | None = None,
    precision: str | None = None,
    calibration: Path | None = None,
    overwrite: bool = False,
) -> tuple[dict[str, float], int]:
    """Write `weights` (None: those in the package) for the runtime `name` to `out`, compared with PyTorch.

    `size` is `HxW`, or several with commas between; None is any size where the format has it, else 512x512. int8
    needs `calibration`, a folder of photographs. ONNX gets OUT.sha256 beside it, all others OUT.json: sizes,
    precision, licence, configuration, sha256 of every file, differences.

    Returns the largest differences to PyTorch by output, and the bytes written.

    Raises:
        InputError: something that this format cannot do, a missing package, or a file that cannot be written.
        WeightsError: weights that cannot be used, or not be stored in half precision.
        BackendError: the runtime does not compute what PyTorch does; nothing is written.
    """
    form = _known(name)
    if precision is None:
        precision = form.precisions[0]
    _check(name, form, precision, calibration)
    written = [out] + ([out.parent / f"{out.stem}{form.beside}"] if form.beside else [])
    notes = out.parent / f"{out.name}{'.sha256' if name == 'onnx' else '.json'}"
    check_outputs([*written, notes], form, overwrite=overwrite)
    if missing := missing_packages(name):
        raise InputError(
            f"{form.title} needs {', '.join(missing)}; install with: pip install 'rethined[{form.extra}]'"
        )
    from rethined.export import core, onnx

    model, metadata = core.load_weights(weights)
    config = model.config
    sizes = None if size is None else core.parse_sizes(size, config.stride)
    if sizes and len(sizes) > 1 and not form.several:
        several = [other for other, it in FORMATS.items() if it.several]
        raise InputError(f"{name} holds one size a file, not {size}; several work with {' and '.join(several)}")
    if sizes is None and not form.any_size:
        sizes = [core.Size(512, 512)]
    core.check_exportable(config)
    if not config.search and (name, size, precision) != ("onnx", None, "fp32"):
        raise InputError("a core that attends by itself (search off) exports to onnx in fp32 for any size only")
    pictures = calibration_inputs(calibration, config, (sizes or [core.Size(512, 512)])[0]) if calibration else []
    module = importlib.import_module(f"rethined.export.{name}")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / out.name
        module.convert(model, made, sizes, precision, metadata, pictures)
        unknown = module.operators(made) - module.ALLOWED
        if unknown and config.search:
            raise BackendError(
                f"the {form.title} core holds {', '.join(sorted(unknown))}, which not every runtime of it has; "
                "nothing is written"
            )
        checked = sizes or onnx.checked_sizes(model.config)
        difference = core.differences(model, module.load(made, 0 if name == "onnx" else 2), checked)
        told = ", ".join(f"{key} {value:.1e}" for key, value in difference.items())
        allowed = tolerance(name, precision)
        if not max(difference.values()) <= allowed:
            raise BackendError(
                f"the {form.title} core differs from PyTorch by {told}, more than the {allowed:.1e} allowed "
                f"in {precision}; nothing is written"
            )
        sources = [made.with_suffix(path.suffix) for path in written]
        total = sum(size_of(source) for source in sources)
        if name == "onnx":
            note = onnx.checksum(made.read_bytes(), out.name)
        else:
            facts: dict[str, Any] = {
                "format": name,
                "precision": precision,
                "sizes": [str(one) for one in sizes] if sizes else "any",
                "differences": difference,
                "sha256": {file.relative_to(folder).as_posix(): _sha256(file) for file in _files(sources)},
            } | core.facts(model, metadata)
            note = (json.dumps(facts, indent=1) + "\n").encode()
        (made.parent / notes.name).write_bytes(note)
        _place([*sources, made.parent / notes.name], out.parent)
    return difference, total


def calibration_inputs(folder: Path, config: ModelConfig, size: Size) -> list[Arrays]:
    """The core's inputs for photographs in `folder`, with seeded holes: the middle of each, reduced to `size`.

    Raises:
        InputError: no photograph of at least that size.
    """
    import numpy as np

    from rethined import image, masks
    from rethined.upscale import Upscaler
    from rethined.windows import Window

    found = sorted(path for path in folder.glob("*") if image.is_image_name(path)) if folder.is_dir() else []
    inputs: list[Arrays] = []
    for path in found:
        pixels = image.read_photo(path).pixels
        height, width = pixels.shape[:2]
        scale = min(height // size.height, width // size.width)
        if scale == 0 or len(inputs) == PHOTOGRAPHS:
            continue
        h, w = size.height * scale, size.width * scale
        top, left = (height - h) // 2, (width - w) // 2
        rng = np.random.default_rng(len(inputs))
        hole = masks.free_form(h, w, rng, coverage=(0.1, 0.4))
        square = np.ascontiguousarray(pixels[top : top + h, left : left + w])
        all_ = slice(0, h), slice(0, w)
        window = Window(0, 0, h, w, scale, size.height, size.width, all_)
        small = Upscaler(1).shrink(square, hole, window, config.patch_size)
        inputs.append(tuple(small))
    if not inputs:
        raise InputError(f"{folder} has no photograph of at least {size}; give a folder of photographs")
    return inputs


def _known(name: str) -> Format:
    if name not in FORMATS:
        raise InputError(f"format is {name!r}; choose one of {', '.join(FORMATS)}, pipeline or hub")
    return FORMATS[name]


def _check(name: str, form: Format, precision: str, calibration: Path | None) -> None:
    if precision not in form.precisions:
        able = [other for other, it in FORMATS.items() if precision in it.precisions]
        elsewhere = f"; {precision} works with {' and '.join(able)}" if able else ""
        raise InputError(f"{name} is not exported in {precision!r} but in {' or '.join(form.precisions)}{elsewhere}")
    if precision == "int8" and calibration is None:
        raise InputError("int8 is calibrated on photographs; give a folder of them with --calibration")
    if calibration is not None and precision != "int8":
        raise InputError(f"--calibration is for int8, and the precision is {precision}; leave it out")


def tolerance(name: str, precision: str) -> float:
    """Largest difference to PyTorch with which `FORMATS[name]` is written."""
    return COMPUTED_IN_HALF if precision == "fp16" and FORMATS[name].computes_in_half else TOLERANCES[precision]


def missing_packages(name: str) -> list[str]:
    """Those of `FORMATS[name]` that are not installed."""
    packages = ("torch", "safetensors", *FORMATS[name].packages)
    return [package for package in packages if importlib.util.find_spec(package) is None]


def versions(name: str) -> dict[str, str]:
    """Of the packages that convert to and run `FORMATS[name]`, by distribution."""
    distributions = importlib.metadata.packages_distributions()
    found = sorted({one for package in FORMATS[name].packages for one in distributions.get(package, [])})
    return {distribution: importlib.metadata.version(distribution) for distribution in found}


def check_outputs(paths: Sequence[Path], form: Format, *, overwrite: bool) -> None:
    """Refuse early what could not be written: the file of `form`, then those beside it.

    Raises:
        InputError: another suffix than the format's, a file that exists and must not be replaced, or no folder.
    """
    if paths[0].suffix != form.suffix:
        raise InputError(f"output is {paths[0].name}; {form.title} is written to a name that ends in {form.suffix}")
    for path in paths:
        if path.is_dir() and path.suffix == ".mlpackage":  # which is a folder
            if not overwrite:
                raise InputError(f"{path} exists already; choose another name or use --overwrite")
        else:
            check_output(path, overwrite=overwrite)


def _files(paths: Sequence[Path]) -> list[Path]:
    return [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path]) if file.is_file()
    ]


def size_of(path: Path) -> int:
    return sum(file.stat().st_size for file in _files([path]))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _place(sources: Sequence[Path], folder: Path) -> None:
    """Move finished files and folders into `folder`: each whole or not at all, and none if there is no room for all.

    Raises:
        OutputError: the folder cannot be written to or the disk is full.
    """
    mark = secrets.token_hex(4)
    ready = [(source, folder / f".{source.name}.{mark}.tmp", folder / source.name) for source in sources]
    try:
        for source, temporary, _ in ready:
            if source.is_dir():
                shutil.copytree(source, temporary)
            else:
                shutil.copyfile(source, temporary)
        for _, temporary, target in ready:
            if target.is_dir():
                shutil.rmtree(target)
            temporary.replace(target)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written to: {error.strerror or error}") from error
    finally:
        for _, temporary, _ in ready:
            if temporary.is_dir():
                shutil.rmtree(temporary)
            else:
                temporary.unlink(missing_ok=True)
