"""The metrics' pretrained networks: one safetensors file each, by path or in $RETHINED_BACKBONES."""

from __future__ import annotations

import os
from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor

from rethined.errors import InputError, WeightsError

VARIABLE = "RETHINED_BACKBONES"
SOURCES = {
    "lpips_alex.safetensors": "AlexNet (torchvision) + LPIPS v0.1 heads of PerceptualSimilarity",
    "lpips_squeeze.safetensors": "SqueezeNet 1.1 (torchvision) + LPIPS v0.1 heads of PerceptualSimilarity",
    "inception2015_768.safetensors": "Inception-v3 of FID (TensorFlow 2015-12-05), up to the 768-channel map",
}


def load(name: str, path: Path | None) -> dict[str, Tensor]:
    """The tensors of backbone `name`, from `path` or else from the folder in $RETHINED_BACKBONES.

    Raises:
        InputError: no such file; the message says which one is wanted and where it comes from.
        WeightsError: the file is no safetensors file.
    """
    if path is None:
        folder = os.environ.get(VARIABLE)
        if not folder:
            raise InputError(
                f"this metric needs {name} ({SOURCES[name]}); set {VARIABLE} to the folder that holds it"
            )
        path = Path(folder) / name
    if not path.is_file():
        raise InputError(f"{path} is not there; this metric needs {name} ({SOURCES[name]}); set {VARIABLE}")
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error class derives from Exception directly
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
