"""The core as a Core ML ML program (`.mlpackage`).

Predicting needs macOS; `load` evaluates what was saved, operator by operator, in PyTorch. That proves the program,
not what Apple's runtime makes of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from rethined.export.core import INPUTS, LICENCE, Arrays, Run, Size, facts, outputs, plainly_spread, sample, traced
from rethined.export.onnx import quiet
from rethined.model import Rethined

DESCRIPTIONS = {
    "low": "Colours of the fill, one for 4 x 4 pixels, in [0, 1]",
    "query": "What every 8 x 8 patch looks for, of unit length",
    "key": "What every 8 x 8 patch looks like, of unit length",
}


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write the core for one size (iOS 16, macOS 13), or for each of several (iOS 18, macOS 15), to `path`."""
    assert sizes
    with quiet():
        import coremltools as ct

        inputs = sample(model.config, sizes[0], 0)
        names = outputs(model.config)
        given = []
        for name, value in zip(INPUTS, inputs, strict=True):
            side = model.config.patch_size if name == "detail" else 1
            shapes = [(1, value.shape[1], size.height // side, size.width // side) for size in sizes]
            shape = shapes[0] if len(shapes) == 1 else ct.EnumeratedShapes(shapes, default=shapes[0])
            given.append(ct.TensorType(name=name, shape=shape, dtype=np.float32))
        package = ct.convert(
            traced(plainly_spread(model), inputs),  # with products several sizes would need computing with shapes
            inputs=given,
            outputs=[ct.TensorType(name=name, dtype=np.float32) for name in names],
            convert_to="mlprogram",
            minimum_deployment_target=ct.target.iOS16 if len(sizes) == 1 else ct.target.iOS18,
            compute_precision=ct.precision.FLOAT16 if precision == "fp16" else ct.precision.FLOAT32,
            skip_model_load=True,
        )
        told = facts(model, metadata)
        package.author = "The rethined developers"
        package.license = LICENCE
        package.short_description = (
            "RETHINED, the low-resolution core: what to draw in a hole, and what resembles what"
        )
        for name, text in json.loads(told["rethined.inputs"]).items():
            if name in INPUTS:
                package.input_description[name] = text
        for name in names:
            package.output_description[name] = DESCRIPTIONS[name]
        package.user_defined_metadata.update(told)
        package.save(str(path))


def load(path: Path, threads: int) -> Run:
    """The saved program, evaluated operator by operator with the types that it declares."""
    function = _function(path)

    def run(inputs: Arrays) -> Arrays:
        values: dict[str, Any] = {}
        for name, array in zip(INPUTS, inputs, strict=True):
            values[name] = torch.from_numpy(array)
        with torch.no_grad():
            for operation in function.operations:
                if operation.op_type == "const":
                    values[operation.outputs[0].name] = _constant(operation.outputs[0].val)
                    continue
                given = {}
                for name, value in operation.inputs.items():
                    many = isinstance(value, tuple | list)
                    given[name] = [values[one.name] for one in value] if many else values[value.name]
                results = OPERATORS[operation.op_type](given)
                for output, result in zip(operation.outputs, results, strict=True):
                    values[output.name] = result
        return tuple(values[output.name].float().numpy() for output in function.outputs)

    return run


def predictor(path: Path) -> Run:
    """The saved program, run by Apple's runtime; on macOS alone."""
    import coremltools as ct

    model = ct.models.MLModel(str(path))

    def run(inputs: Arrays) -> Arrays:
        predicted = model.predict(dict(zip(INPUTS, inputs, strict=True)))
        return tuple(predicted[name] for name in ("low", "query", "key"))

    return run


def operators(path: Path) -> set[str]:
    """The operators in the file."""
    return {operation.op_type for operation in _function(path).operations} - {"const"}


def _function(path: Path) -> Any:
    with quiet():
        import coremltools as ct
        from coremltools.converters.mil.frontend.milproto.load import load as load_program

        package = ct.models.MLModel(str(path), skip_model_load=True)
        spec = package.get_spec()
        return load_program(
            model_spec=spec,
            specification_version=spec.specificationVersion,
            file_weights_dir=package.weights_dir,
        ).functions["main"]


def _constant(value: Any) -> Any:
    """Numbers as tensors, all else as it is."""
    array = np.asarray(value)
    return torch.from_numpy(np.array(array)) if array.dtype.kind in "fiub" else value


def _list(value: Any) -> list[int]:
    return [int(v) for v in value.reshape(-1)]


def _padding(given: dict[str, Any]) -> list[int]:
    """Of F.pad: left, right, top, bottom."""
    if given["pad_type"] == "valid":
        return [0, 0, 0, 0]
    top, bottom, left, right = _list(given["pad"])
    return [left, right, top, bottom]


def _conv(given: dict[str, Any]) -> tuple[Tensor]:
    padded = F.pad(given["x"], _padding(given))
    return (
        F.conv2d(padded, given["weight"], given.get("bias"), _list(given["strides"]), groups=int(given["groups"])),
    )


def _avg_pool(given: dict[str, Any]) -> tuple[Tensor]:
    if any(_padding(given)):
        assert not given["exclude_padding_from_average"]
    padded = F.pad(given["x"], _padding(given))
    return (F.avg_pool2d(padded, _list(given["kernel_sizes"]), _list(given["strides"])),)


def _max_pool(given: dict[str, Any]) -> tuple[Tensor]:
    padded = F.pad(given["x"], _padding(given), value=-torch.inf)
    return (F.max_pool2d(padded, _list(given["kernel_sizes"]), _list(given["strides"])),)


def _scaled(given: dict[str, Any], mode: str) -> tuple[Tensor]:
    scale = (float(given["scale_factor_height"]), float(given["scale_factor_width"]))
    if mode == "bilinear":
        assert not given["align_corners"]
        return (F.interpolate(given["x"], scale_factor=scale, mode="bilinear", align_corners=False),)
    return (F.interpolate(given["x"], scale_factor=scale, mode="nearest"),)


def _split(given: dict[str, Any]) -> tuple[Tensor, ...]:
    axis = int(given["axis"])
    sizes = given.get("split_sizes")
    if sizes is not None:
        return given["x"].split(_list(sizes), axis)  # type: ignore[no-any-return]
    return given["x"].chunk(int(given["num_splits"]), axis)  # type: ignore[no-any-return]


DTYPES = {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
OPERATORS: dict[str, Callable[[dict[str, Any]], tuple[Tensor, ...]]] = {
    "add": lambda g: (g["x"] + g["y"],),
    "avg_pool": _avg_pool,
    "cast": lambda g: (g["x"].to(DTYPES[g["dtype"]]),),
    "clip": lambda g: (g["x"].clamp(g["alpha"], g["beta"]),),
    "concat": lambda g: (torch.cat(g["values"], int(g["axis"])),),
    "conv": _conv,
    "log": lambda g: ((g["x"] + g["epsilon"]).log(),),
    "max_pool": _max_pool,
    "maximum": lambda g: (torch.maximum(g["x"], g["y"]),),
    "mul": lambda g: (g["x"] * g["y"],),
    "real_div": lambda g: (g["x"] / g["y"],),
    "reduce_mean": lambda g: (g["x"].mean(_list(g["axes"]), keepdim=bool(g["keep_dims"])),),
    "reduce_sum": lambda g: (g["x"].sum(_list(g["axes"]), keepdim=bool(g["keep_dims"])),),
    "reduce_sum_square": lambda g: (g["x"].square().sum(_list(g["axes"]), keepdim=bool(g["keep_dims"])),),
    "relu": lambda g: (g["x"].relu(),),
    "reshape": lambda g: (g["x"].reshape(_list(g["shape"])),),
    "split": _split,
    "sqrt": lambda g: (g["x"].sqrt(),),
    "square": lambda g: (g["x"].square(),),
    "sub": lambda g: (g["x"] - g["y"],),
    "upsample_bilinear": lambda g: _scaled(g, "bilinear"),
    "upsample_nearest_neighbor": lambda g: _scaled(g, "nearest"),
}
"""What the core is made of in Core ML's language, by the arguments that it names."""
ALLOWED = frozenset(OPERATORS)
"""The operators that a program may hold."""
