"""The metrics' pretrained networks: one safetensors file each.

Those of LPIPS are in the package, in half precision (assets/README.md has their origin and licences); Inception is
not. A folder named by $RETHINED_BACKBONES comes first.
"""

from __future__ import annotations

import os
from importlib import resources
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
    """The tensors of backbone `name`, from `path`, else from $RETHINED_BACKBONES, else from the package.

    Raises:
        InputError: no such file; the message says which one is wanted and where it comes from.
        WeightsError: the file is no safetensors file.
    """
    if path is None:
        folder = os.environ.get(VARIABLE)
        packaged = Path(str(resources.files("rethined"))) / "assets" / name
        if folder:
            path = Path(folder) / name
        elif packaged.is_file():
            path = packaged
        else:
            raise InputError(
                f"this metric needs {name} ({SOURCES[name]}); set {VARIABLE} to the folder that holds it"
            )
    if not path.is_file():
        raise InputError(f"{path} is not there; this metric needs {name} ({SOURCES[name]}); set {VARIABLE}")
    try:
        return load_file(path)
    except Exception as error:  # safetensors' own error class derives from Exception directly
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
