"""The weights in the package, and the check that a file is what its publisher wrote."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from rethined.config import ModelConfig
from rethined.errors import InputError, WeightsError

DEFAULT_NAME = "rethined.onnx"


def read(path: Path | None) -> tuple[str, bytes, str]:
    """Name, bytes and sha256 of an ONNX core: the package's own, or the file at `path`.

    A file `NAME.sha256` beside it (what `sha256sum` writes, and what our exporter does) must agree.

    Raises:
        InputError: no such file.
        WeightsError: the bytes are not those that the checksum was made of.
    """
    if path is None:
        folder = resources.files("rethined") / "assets"
        file, checksum = folder / DEFAULT_NAME, folder / f"{DEFAULT_NAME}.sha256"
    else:
        file, checksum = path, path.with_name(f"{path.name}.sha256")
    name = file.name
    try:
        data = file.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{name}: no such weights; give an ONNX file written by `rethined export`") from error
    except OSError as error:
        raise InputError(f"{name}: weights cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if checksum.is_file():
        expected = checksum.read_text().split()
        if not expected or expected[0] != digest:
            raise WeightsError(
                f"{name} is corrupt: its sha256 is {digest[:12]}..., expected {''.join(expected[:1])[:12]}...; "
                "install rethined again or fetch the weights again"
            )
    elif path is None:
        raise WeightsError(f"{name} has no checksum beside it; install rethined again")
    return name, data, digest


def config(name: str, metadata: Mapping[str, str]) -> ModelConfig:
    """The architecture in the metadata of weights, which are called `name`.

    Raises:
        WeightsError: they are not weights of rethined, or of another version of it.
    """
    if "rethined.pipeline" in metadata:
        raise WeightsError(
            f"{name} is a pipeline, not a core: ONNX Runtime runs it alone; give what `rethined export onnx` wrote"
        )
    if "rethined.config" not in metadata:
        raise WeightsError(
            f"{name} is not a rethined core: it carries no rethined.config; give a file that rethined wrote"
        )
    try:
        return ModelConfig.from_json(metadata["rethined.config"])
    except WeightsError as error:
        raise WeightsError(f"{name}: {error}") from error
