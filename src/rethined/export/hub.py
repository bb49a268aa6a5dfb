"""A folder to publish on a model hub: card, trainable weights, configuration, ONNX, and Core ML where it converts."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import PyTorchModelHubMixin

from rethined.config import ModelConfig
from rethined.errors import InputError
from rethined.export import formats
from rethined.export.core import LICENCE, load_weights
from rethined.model import Rethined

ASPECTS = "512x512,448x576,576x448,416x608,608x416,384x640,640x384"
"""What square, 4:3, 3:2 and 16:9 photographs, upright and lying, are reduced to (`rethined.windows.whole`)."""
CARD = """---
license: apache-2.0
library_name: rethined
pipeline_tag: image-to-image
tags:
- inpainting
- onnx
- safetensors
---

# RETHINED

Fills holes in photographs of any size. These are weights for [rethined](https://arxiv.org/abs/2503.14757) \
(WACV 2025), by a training of this implementation's own: {parameters:,} parameters as deployed.

| file | what |
|---|---|
{files}

The network works on a reduced picture of at most 600 pixels squared, of more for large photographs. `image` is \
float32 RGB in [0, 1], 0 in the hole; `mask` is 1 in the hole and 0 elsewhere. What it returns says what to draw and \
what resembles what; the search and the copying at full resolution are the engine's.

```python
import rethined

filled = rethined.Engine("model.onnx")(photo, mask)  # (H, W, 3) uint8 RGB and (H, W) bool, True = fill
```

To train on, or to look inside, in PyTorch:

```python
from rethined.export.hub import HubModel

model = HubModel.from_pretrained("FOLDER OR REPOSITORY")
```

Licence: {licence}. Photographs were what it learned from; it continues textures and knows nothing about things.
"""


class HubModel(Rethined, PyTorchModelHubMixin):
    """`Rethined` with `from_pretrained`, `save_pretrained`, `push_to_hub`; `rethined` is `ModelConfig.to_json()`.

    Raises:
        WeightsError: a config of another version of rethined.
    """

    def __init__(self, rethined: str) -> None:
        super().__init__(ModelConfig.from_json(rethined))


def publish(weights: Path | None, out: Path) -> Iterator[str]:
    """Fill the new folder `out`; yields a line for each file written. Nothing is there before all are ready.

    Holds model.safetensors and config.json, which `HubModel.from_pretrained` reads, model.onnx and its sha256, and
    RETHINED.mlpackage where coremltools is installed.

    Raises:
        InputError: weights that were fused and cannot be trained on, or a folder that exists.
        WeightsError: weights that cannot be used.
        BackendError: an export disagrees with PyTorch.
    """
    if weights is None or weights.suffix != ".safetensors":
        raise InputError("hub publishes weights that can be trained on; give the .safetensors of a training run")
    if out.exists():
        raise InputError(f"{out} exists already; name a new folder")
    if not out.parent.is_dir():
        raise InputError(f"{out.parent} is not a folder; create it first")
    model, _ = load_weights(weights)
    hub = HubModel(model.config.to_json())
    hub.load_state_dict(model.state_dict())
    files = {
        "model.safetensors": "the weights as they were trained, averaged: to train on, in PyTorch",
        "config.json": "the architecture",
        "model.onnx": "the core for any size, weights in 16 bits, with its sha256 beside it",
    }
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name) / "hub"
        hub.save_pretrained(folder)
        formats.export("onnx", weights, folder / "model.onnx", precision="fp16")
        if importlib.util.find_spec("coremltools") and model.config.search:
            formats.export("coreml", weights, folder / "RETHINED.mlpackage", size=ASPECTS)
            files["RETHINED.mlpackage"] = "the core for Core ML, fp16, in the sizes of the usual aspect ratios"
        else:
            yield "without Core ML, which needs: pip install 'rethined[coreml]'"
        table = "\n".join(f"| `{file}` | {what} |" for file, what in files.items())
        parameters = sum(parameter.numel() for parameter in model.fused_copy().parameters())
        (folder / "README.md").write_text(CARD.format(files=table, parameters=parameters, licence=LICENCE))
        # safetensors writes for the owner alone; what is published is read by others.
        (folder / "model.safetensors").chmod((folder / "README.md").stat().st_mode)
        shutil.move(folder, out)
    for path in sorted(out.iterdir()):
        yield f"{path}: {formats.size_of(path) / 1e6:.1f} MB"
