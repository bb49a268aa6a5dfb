"""A folder to publish on a model hub: card, trainable weights, configuration, ONNX, and Core ML where it converts."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import PyTorchModelHubMixin
from safetensors.torch import save_file

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

To fill holes, `pip install .` in a checkout of rethined installs the engine, which needs no PyTorch:

```python
import rethined

filled = rethined.Engine("model.onnx")(photo, mask)  # (H, W, 3) uint8 RGB and (H, W) bool, True = fill
```

The files hold the network alone. It works on a reduced picture of at most 600 pixels squared, of more for large \
photographs, with h and w multiples of {stride}; the search and the copying at full resolution are the engine's. \
Programs that do these themselves are in the checkout's `examples/runners`, and described in its `docs/exports.md` \
and `docs/runners.md`.

| | shape, float32 | what |
|---|---|---|
| in `image` | (1, 3, h, w) | RGB in [0, 1], 0 in the hole |
| in `mask` | (1, 1, h, w) | 1 = hole, 0 = known |
| in `detail` | (1, 6, h/{side}, w/{side}) | how much detail the reduced picture lacks; 0 if nothing was reduced |
| out `low` | (1, 3, h/{band}, w/{band}) | colours of the fill, about [0, 1] |
| out `query` | (1, {dim}, h/{side}, w/{side}) | what each {side} x {side} patch looks for, of length 1 |
| out `key` | (1, {dim}, h/{side}, w/{side}) | what each {side} x {side} patch looks like, of length 1 |

To train on, or to look inside, in PyTorch (`pip install '.[export]'`):

```python
from rethined.export.hub import HubModel

model = HubModel.from_pretrained("FOLDER OR REPOSITORY")
```

## Limits

- It continues textures and smooth surroundings and knows nothing about things: it does not complete a face, a word \
or half a car, and a large hole across several objects shows it.
- What it copies comes from the same photograph; where little is known, or nothing like it, the fill is smooth.
- Photographs were what it learned from; drawings, screenshots and text may come out badly.
- It must not be used to make a picture pass as evidence of what was there.

Licence: {licence}.
"""


class HubModel(Rethined, PyTorchModelHubMixin):
    """`Rethined` with `from_pretrained`, `save_pretrained`, `push_to_hub`; `rethined` is `ModelConfig.to_json()`.

    Raises:
        WeightsError: a config of another version of rethined.
    """

    def __init__(self, rethined: str) -> None:
        super().__init__(ModelConfig.from_json(rethined))
        self.metadata: dict[str, str] = {}
        """Of the training, for the file."""

    def _save_pretrained(self, save_directory: Path) -> None:
        """What the mixin writes, with the metadata that `load_weights` reads."""
        told = {"format": "pt", "rethined.config": self.config.to_json(), "rethined.licence": LICENCE}
        save_file(self.state_dict(), save_directory / "model.safetensors", self.metadata | told)


def publish(weights: Path | None, out: Path) -> Iterator[str]:
    """Fill the new folder `out`; yields a line for each file written. Nothing is there before all are ready.

    Holds model.safetensors and config.json, which `HubModel.from_pretrained` reads, model.onnx and its sha256,
    LICENSE, and RETHINED.mlpackage where coremltools is installed.

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
    model, metadata = load_weights(weights)
    config = model.config
    hub = HubModel(config.to_json())
    hub.metadata = metadata
    hub.load_state_dict(model.state_dict())
    files = {
        "model.safetensors": "the weights as they were trained, averaged: to train on, in PyTorch",
        "config.json": "the architecture",
        "model.onnx": "the network for any size, weights in 16 bits, with its sha256 beside it",
    }
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as name:
        folder = Path(name) / "hub"
        hub.save_pretrained(folder)
        formats.export("onnx", weights, folder / "model.onnx", precision="fp16")
        if importlib.util.find_spec("coremltools"):
            formats.export("coreml", weights, folder / "RETHINED.mlpackage", size=ASPECTS)
            files["RETHINED.mlpackage"] = "the network for Core ML, fp16, in the sizes of the usual aspect ratios"
        else:
            yield "without Core ML, which needs: pip install 'rethined[coreml]'"
        table = "\n".join(f"| `{file}` | {what} |" for file, what in files.items())
        parameters = sum(parameter.numel() for parameter in model.fused_copy().parameters())
        card = CARD.format(
            files=table,
            parameters=parameters,
            stride=config.stride,
            side=config.patch_size,
            band=config.band,
            dim=config.key_dim,
            licence=LICENCE,
        )
        (folder / "README.md").write_text(card)
        (folder / "LICENSE").write_text(_licence())
        # safetensors writes for the owner alone; what is published is read by others.
        (folder / "model.safetensors").chmod((folder / "README.md").stat().st_mode)
        shutil.move(folder, out)
    for path in sorted(out.iterdir()):
        yield f"{path}: {formats.size_of(path) / 1e6:.1f} MB"


def _licence() -> str:
    """The text of the licence, which is installed with the package."""
    text = importlib.metadata.distribution("rethined").read_text("licenses/LICENSE")
    assert text is not None
    return text
