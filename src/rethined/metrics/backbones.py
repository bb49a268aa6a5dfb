"""The metrics' pretrained networks: one file each.

Those of LPIPS are in the package, in half precision (assets/README.md has their origin and licences); Inception is
not. A folder named by $RETHINED_BACKBONES comes first.
"""

from __future__ import annotations

import os
import pickle
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from rethined.errors import InputError, WeightsError

VARIABLE = "RETHINED_BACKBONES"
SOURCES = {
    "lpips_alex.safetensors": "AlexNet (torchvision) + LPIPS v0.1 heads of PerceptualSimilarity",
    "lpips_squeeze.safetensors": "SqueezeNet 1.1 (torchvision) + LPIPS v0.1 heads of PerceptualSimilarity",
    "pt_inception-2015-12-05-6726825d.pth": "Inception-v3 of FID, as pytorch-fid publishes it",
    "weights-inception-2015-12-05-6726825d.pth": "Inception-v3 of FID, as torch-fidelity publishes it",
    "inception2015_768.safetensors": "Inception-v3 of FID (TensorFlow 2015-12-05), up to the 768-channel map",
}


def find(*names: str) -> Path | None:
    """The first of `names` that is in $RETHINED_BACKBONES or, where that is not set, in the package."""
    folder = os.environ.get(VARIABLE)
    place = Path(folder) if folder else Path(str(resources.files("rethined"))) / "assets"
    return next((place / name for name in names if (place / name).is_file()), None)


def load(names: tuple[str, ...], path: Path | None) -> dict[str, Tensor]:
    """The tensors of a network: from `path`, else from the first of `names` that `find` finds.

    Raises:
        InputError: no such file; the message says which one is wanted and where it comes from.
        WeightsError: the file is no safetensors file, and no file of plain tensors that torch wrote.
    """
    path = path or find(*names)
    if path is None or not path.is_file():
        wanted = " or ".join(f"{name} ({SOURCES[name]})" for name in names)
        tried = path or Path(os.environ.get(VARIABLE, "")) / names[-1]
        missing = f"{tried} is not there; " if path or os.environ.get(VARIABLE) else ""
        raise InputError(f"{missing}this metric needs {wanted}; set {VARIABLE} to the folder that holds it")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path} is not a file of tensors that can be read: {error}") from error
    except Exception as error:  # safetensors' own error class derives from Exception directly
        raise WeightsError(f"{path} is not a readable safetensors file: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise WeightsError(f"{path} holds no dictionary of tensors; give the state_dict of the network")
    return tensors
