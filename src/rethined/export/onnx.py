"""The core as ONNX (opset 18, dynamic height and width), compared with PyTorch before it is written."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from rethined.config import ModelConfig
from rethined.errors import BackendError, InputError, WeightsError
from rethined.image import write_atomic
from rethined.masks import free_form
from rethined.model import Rethined
from rethined.model.pipeline import Core

LICENCE = "Apache-2.0"
CHECKED_SIZES = ((256, 256), (512, 512), (416, 640), (64, 32))
INPUTS = ("image", "mask", "detail")


def outputs(config: ModelConfig) -> tuple[str, str, str]:
    """Names of what the core returns (`Core`)."""
    return ("low", "query", "key") if config.search else ("low", "source", "weight")


TOLERANCE = 1e-4
"""Largest difference to PyTorch, of values in [0, 1]: float32 sums in another order, far below one grey level."""


def load_weights(path: Path) -> tuple[Rethined, dict[str, str]]:
    """The model in a safetensors file written by training, in evaluation mode, and the file's metadata.

    Raises:
        InputError: no such file.
        WeightsError: not such a file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; give the best.safetensors of a training run")
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        model = Rethined(ModelConfig.from_json(metadata.get("rethined.config", "")))
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(f"{path} does not hold rethined weights: {str(error).splitlines()[0]}") from error
    return model.eval(), metadata


def export_core(model: Rethined, out: Path, metadata: dict[str, str]) -> dict[str, float]:
    """Write `model`'s core to `out`, and its sha256 to `out`.sha256; returns the largest differences to PyTorch.

    Raises:
        BackendError: the exported graph disagrees with PyTorch; nothing is written.
        OutputError: a file cannot be written.
    """
    data = to_onnx(model, metadata)
    difference = compare(model, data)
    if max(difference.values()) > TOLERANCE:
        raise BackendError(f"the ONNX core disagrees with PyTorch ({difference}); nothing is written")
    checksum = f"{hashlib.sha256(data).hexdigest()}  {out.name}\n".encode()
    write_atomic(out, data, overwrite=True)
    write_atomic(out.with_name(f"{out.name}.sha256"), checksum, overwrite=True)
    return difference


def to_onnx(model: Rethined, metadata: dict[str, str]) -> bytes:
    """The core of `model` as an ONNX file: inputs `image`, `mask` and, if the model has it, `detail`; outputs as
    `outputs` names them (`Core`)."""
    import onnx

    core = Core(model).eval()
    stride, side = model.config.stride, model.config.patch_size
    rows, columns = torch.export.Dim("rows", min=1, max=1024), torch.export.Dim("columns", min=1, max=1024)
    inputs = sample(model.config, 256, 256, 0)
    # Sides are multiples of the stride, and the detail's those of as many patches.
    patches = stride // side
    units = (stride, stride, patches)[: len(inputs)]
    dimensions = tuple({2: unit * rows, 3: unit * columns} for unit in units)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            core,
            inputs,
            dynamo=True,
            dynamic_shapes=dimensions,
            opset_version=18,
            input_names=list(INPUTS[: len(inputs)]),
            output_names=list(outputs(model.config)),
            optimize=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    for tensor in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for dimension in tensor.type.tensor_type.shape.dim:
            name = "height" if dimension.dim_param.endswith("rows") else "width"
            if dimension.dim_param == f"{stride}*{'rows' if name == 'height' else 'columns'}":
                dimension.dim_param = name
            elif dimension.dim_param.endswith(("*rows", "*columns")):
                unit = stride // int(dimension.dim_param.split("*")[0])
                dimension.dim_param = f"{name}/{unit}"
    for node in proto.graph.node:  # the exporter's notes on where each node came from: half of the file
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]  # in an order that differs from process to process
    proto.producer_name, proto.producer_version = "rethined", ""
    facts = metadata | {
        "rethined.config": model.config.to_json(),
        "rethined.licence": LICENCE,
        "rethined.parameters": str(sum(p.numel() for p in core.parameters())),
        "rethined.macs": str(count_macs(model)),
        "rethined.inputs": json.dumps(
            {
                "image": "(1, 3, height, width) float32 RGB in [0, 1], 0 in the hole",
                "mask": "(1, 1, height, width) float32, 1 = hole, 0 = known",
                "detail": f"(1, 6, height/{side}, width/{side}) float32, root mean square over a patch of half the "
                "difference between the halves of each low-resolution pixel's box: left less right for R, G, B, then "
                "upper less lower; zeros where the image was not reduced"
                if model.config.detail
                else None,
                "multiple_of": stride,
            }
        ),
    }
    for key in sorted(facts):
        proto.metadata_props.add(key=key, value=facts[key])
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def count_macs(model: Rethined, side: int = 512) -> int:
    """Multiply-accumulates of the core at `side` x `side` with a 20 % hole (torch's counter, halved)."""
    from torch.utils.flop_counter import FlopCounterMode

    core = Core(model).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        core(*sample(model.config, side, side, 0))
    return int(counter.get_total_flops()) // 2


def sample(config: ModelConfig, height: int, width: int, seed: int) -> tuple[Tensor, ...]:
    """The core's inputs: a smooth random picture (1, 3, h, w), a mask (1, 1, h, w) with about 20 % hole, detail."""
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(rng.random((1, 3, max(2, height // 8), max(2, width // 8)), np.float32))
    picture = torch.nn.functional.interpolate(picture, (height, width), mode="bicubic").clamp(0, 1)
    mask = torch.from_numpy(free_form(height, width, rng, coverage=(0.15, 0.25)))[None, None].float()
    picture = picture * (1 - mask)
    if not config.detail:
        return picture, mask
    side = config.patch_size
    return picture, mask, torch.from_numpy(rng.random((1, 6, height // side, width // side), np.float32)) / 10


def compare(model: Rethined, data: bytes) -> dict[str, float]:
    """Largest differences between the exported core and PyTorch over several sizes, by output.

    In units of the image's range, or of vectors of length 1; of `source`, the share of patches that copy from
    elsewhere.
    """
    import onnxruntime as ort

    core = Core(model).eval()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    worst = dict.fromkeys(outputs(model.config), 0.0)
    for index, (height, width) in enumerate(CHECKED_SIZES):
        inputs = sample(model.config, height, width, index)
        got = session.run(None, {name: value.numpy() for name, value in zip(INPUTS, inputs, strict=False)})
        with torch.no_grad():
            want = [value.numpy() for value in core(*inputs)]
        for name, ours, theirs in zip(worst, got, want, strict=True):
            apart = (ours != theirs).mean() if name == "source" else np.abs(ours - theirs).max()
            worst[name] = max(worst[name], float(apart))
    return worst
