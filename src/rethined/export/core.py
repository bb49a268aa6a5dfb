"""What every format is made from and compared with: the torch core, its inputs, and the differences to it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from rethined import weights
from rethined.config import ModelConfig
from rethined.errors import InputError, WeightsError
from rethined.masks import free_form
from rethined.model import Rethined
from rethined.model.pipeline import Core

LICENCE = "Apache-2.0"
INPUTS = ("image", "mask", "detail")
LARGEST = 4096
"""The longest side, in low-resolution pixels, that an exported core is promised to work with."""

Arrays = tuple[NDArray[np.float32], ...]
Run = Callable[[Arrays], Arrays]
"""The core on some runtime: `INPUTS` to `outputs`, as float32 arrays (1, C, h, w)."""


class Size(NamedTuple):
    """Of the core's image, in low-resolution pixels."""

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def outputs(config: ModelConfig) -> tuple[str, str, str]:
    """Names of what the core returns (`Core`)."""
    return ("low", "query", "key") if config.search else ("low", "source", "weight")


def parse_sizes(text: str, stride: int) -> list[Size]:
    """`HxW` or several with commas between; each once, in the order given.

    Raises:
        InputError: not that, or sides that are not multiples of `stride` from `stride` to LARGEST.
    """
    sizes = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", part.strip())
        size = Size(int(match[1]), int(match[2])) if match else None
        if size is None or any(side % stride or not stride <= side <= LARGEST for side in size):
            raise InputError(
                f"size is {part.strip() or 'empty'}; give HEIGHTxWIDTH, both multiples of {stride} from {stride} to "
                f"{LARGEST}, such as 512x512, 448x576 or 384x640"
            )
        sizes.append(size)
    return list(dict.fromkeys(sizes))


def load_weights(path: Path | None) -> tuple[Rethined, dict[str, str]]:
    """A model in evaluation mode, and its file's metadata.

    `path` is a safetensors file written by training, or an ONNX core written by `rethined export onnx` in fp32 or
    fp16, whose blocks come back fused; None is the core in the package. The sha256 beside an ONNX file must agree.

    Raises:
        InputError: no such file, or a quantised core.
        WeightsError: not such a file.
    """
    if path is None or path.suffix == ".onnx":
        return _from_onnx(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the best.safetensors of a training run")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        model = Rethined(weights.config(str(path), metadata))
        model.load_state_dict(load_file(path))
    except OSError as error:
        raise WeightsError(f"{path}: weights cannot be read: {error.strerror or error}") from error
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold rethined weights: {str(error).splitlines()[0]}") from error
    return model.eval(), metadata


def _from_onnx(path: Path | None) -> tuple[Rethined, dict[str, str]]:
    import onnx
    from google.protobuf.message import DecodeError

    name, data, _ = weights.read(path)
    try:
        proto = onnx.load_from_string(data)
    except DecodeError as error:
        raise WeightsError(f"{name} is not an ONNX model: {error}") from error
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    model = Rethined(weights.config(name, metadata)).fused_copy()
    if any(node.op_type == "DequantizeLinear" for node in proto.graph.node):
        raise InputError(
            f"{name} is quantised, and its weights are rounded for good; give the same core in fp32 or fp16, or the "
            "safetensors it was made of"
        )
    state = model.state_dict()
    tensors = {
        tensor.name.removeprefix("model."): tensor
        for tensor in proto.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    }
    found = state.keys() & tensors.keys()
    for key in found:
        state[key] = torch.from_numpy(onnx.numpy_helper.to_array(tensors[key]).astype(np.float32))
    # The exporter leaves out biases that are all 0.
    idle = {
        key for key in state.keys() - found if key.endswith(".bias") and f"{key.removesuffix('bias')}weight" in found
    }
    for key in idle:
        state[key] = torch.zeros_like(state[key])
    # The temperature scales all scores alike, so a core that returns queries and keys does without it.
    missing = state.keys() - found - idle - ({"patch_match.temperature"} if model.config.search else set())
    if missing:
        raise WeightsError(
            f"{name} has no {min(missing)}; give a core that rethined exported in fp32 or fp16, or safetensors"
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise WeightsError(f"{name} does not hold rethined weights: {str(error).splitlines()[0]}") from error
    return model.eval(), metadata


def check_exportable(config: ModelConfig) -> None:
    """How many patches a softmax over all mixes depends on the mask, which no format can say.

    Raises:
        InputError: `config` has such a softmax.
    """
    if not config.top_k:
        raise InputError("a softmax over all patches (top_k 0) has no exported form; train with top_k 1 or more")


def facts(model: Rethined, metadata: dict[str, str]) -> dict[str, str]:
    """What a file says about itself: configuration, licence, cost, and how to feed it; and the training's own."""
    side = model.config.patch_size
    core = Core(model)
    detail = (
        f"(1, 6, height/{side}, width/{side}) float32, root mean square over a patch of half the difference between "
        "the halves of each low-resolution pixel's box: left less right for R, G, B, then upper less lower; zeros "
        "where the image was not reduced"
    )
    return {
        "rethined.training": metadata.get("rethined.training", ""),
        "rethined.config": model.config.to_json(),
        "rethined.licence": LICENCE,
        "rethined.parameters": str(sum(parameter.numel() for parameter in core.parameters())),
        "rethined.macs": str(count_macs(model)),
        "rethined.inputs": json.dumps(
            {
                "image": "(1, 3, height, width) float32 RGB in [0, 1], 0 in the hole",
                "mask": "(1, 1, height, width) float32, 1 = hole, 0 = known",
                "detail": detail if model.config.detail else None,
                "multiple_of": model.config.stride,
            }
        ),
    }


def count_macs(model: Rethined, side: int = 512) -> int:
    """Multiply-accumulates of the core at `side` x `side` with a 20 % hole (torch's counter, halved)."""
    from torch.utils.flop_counter import FlopCounterMode

    core = Core(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        core(*sample(model.config, Size(side, side), 0))
    return int(counter.get_total_flops()) // 2


def sample(config: ModelConfig, size: Size, seed: int) -> tuple[Tensor, ...]:
    """The core's inputs: a smooth random picture (1, 3, h, w), a mask (1, 1, h, w) with about 20 % hole, detail."""
    rng = np.random.default_rng(seed)
    height, width = size
    picture = torch.from_numpy(rng.random((1, 3, max(2, height // 8), max(2, width // 8)), np.float32))
    picture = torch.nn.functional.interpolate(picture, (height, width), mode="bicubic").clamp(0, 1)
    mask = torch.from_numpy(free_form(height, width, rng, coverage=(0.15, 0.25)))[None, None].float()
    picture = picture * (1 - mask)
    if not config.detail:
        return picture, mask
    side = config.patch_size
    return picture, mask, torch.from_numpy(rng.random((1, 6, height // side, width // side), np.float32)) / 10


def plainly_spread(model: Rethined) -> Rethined:
    """A copy that repeats its guess by interpolation alone (`rethined.model.coarse.spread`): the same function."""
    model = copy.deepcopy(model)
    model.coarse.by_rows = False
    return model


def traced(model: Rethined, inputs: tuple[Tensor, ...]) -> torch.jit.ScriptModule:
    """The core as TorchScript, for converters that start there."""
    with torch.no_grad():
        core: torch.jit.ScriptModule = torch.jit.trace(Core(model).eval(), inputs, check_trace=False)  # type: ignore[no-untyped-call]
    return core


def differences(model: Rethined, run: Run, sizes: Sequence[Size], seeds: int = 1) -> dict[str, float]:
    """Largest differences between `run` and the torch core at `sizes`, by output, over `seeds` inputs of each.

    In units of the image's range, or of vectors of length 1; of `source`, the share of patches that copy from
    elsewhere. NaN where `run` returns any.
    """
    core = Core(model).eval()
    worst = dict.fromkeys(outputs(model.config), 0.0)
    for seed, size in enumerate([size for size in sizes for _ in range(seeds)]):
        inputs = sample(model.config, size, seed)
        got = run(tuple(value.numpy() for value in inputs))
        with torch.no_grad():
            want = [value.numpy() for value in core(*inputs)]
        for name, ours, theirs in zip(worst, got, want, strict=True):
            apart = (ours != theirs).mean() if name == "source" else np.abs(ours - theirs).max()
            worst[name] = float(np.maximum(worst[name], apart))  # unlike max() keeps NaN
    return worst
