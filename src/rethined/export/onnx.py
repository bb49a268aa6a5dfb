"""The core as ONNX (opset 18): any height and width or one; weights in fp32 or fp16, or int8 convolutions."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rethined.backends import session_options
from rethined.config import ModelConfig
from rethined.errors import BackendError
from rethined.export.core import INPUTS, Arrays, Run, Size, check_exportable, differences, facts, outputs, sample
from rethined.image import write_atomic
from rethined.model import Rethined
from rethined.model.pipeline import Core

CHECKED = ((8, 8), (16, 16), (13, 20), (2, 1))
"""What a core of any size is compared with PyTorch at, in strides."""
TRACED = (7, 11)
"""What a core of any size is traced at, in strides: sides that nothing else in it has."""
TOLERANCE = 1e-4
"""Largest difference to PyTorch, of values in [0, 1]: float32 sums in another order, far below one grey level."""
SENSITIVE = ("head", "patch_match", "means")
"""Layers that int8 leaves as they are: the colours that are drawn, the vectors that are matched, and plain means."""


ALLOWED = frozenset(
    [
        "Add",
        "AveragePool",
        "Cast",
        "Clip",
        "Concat",
        "Conv",
        "DequantizeLinear",
        "Div",
        "Expand",
        "Log",
        "Max",
        "MaxPool",
        "Min",
        "Mul",
        "QuantizeLinear",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Resize",
        "Shape",
        "Split",
        "Sqrt",
        "Sub",
    ]
)
"""The operators that a core may hold: TensorRT, QNN and the browser have each of them."""


def export_core(model: Rethined, out: Path, metadata: dict[str, str]) -> dict[str, float]:
    """Write `model`'s core, for any size in fp32, to `out`, and its sha256 to `out`.sha256; returns the differences.

    Raises:
        BackendError: the exported graph disagrees with PyTorch; nothing is written.
        OutputError: a file cannot be written.
    """
    data = to_onnx(model, metadata)
    difference = differences(model, session(data), checked_sizes(model.config))
    if not max(difference.values()) <= TOLERANCE:
        raise BackendError(f"the ONNX core disagrees with PyTorch ({difference}); nothing is written")
    write_atomic(out, data, overwrite=True)
    write_atomic(out.with_name(f"{out.name}.sha256"), checksum(data, out.name), overwrite=True)
    return difference


def checksum(data: bytes, name: str) -> bytes:
    """What `sha256sum` writes."""
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n".encode()


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write the core to `path`; `sizes` None is any size, else it holds one. `calibration` is for int8."""
    data = to_onnx(model, metadata, sizes[0] if sizes else None, half=precision == "fp16")
    path.write_bytes(data)
    if precision == "int8":
        quantise(path, calibration)


def load(path: Path, threads: int) -> Run:
    """The file, run by ONNX Runtime on the CPU."""
    return session(path.read_bytes(), threads)


def session(
    data: bytes, threads: int = 0, provider: str = "CPUExecutionProvider", settings: Mapping[str, Any] | None = None
) -> Run:
    """An ONNX core, run by ONNX Runtime; 0 threads are one per core. `settings` are the provider's.

    Raises:
        BackendError: `provider` does not start; the runtime would take the processor instead, and say nothing.
    """
    import onnxruntime as ort

    loaded = ort.InferenceSession(data, session_options(threads), providers=[(provider, dict(settings or {}))])
    if loaded.get_providers()[0] != provider:
        raise BackendError(f"ONNX Runtime's {provider} does not start here; its libraries may be missing")

    def run(inputs: Arrays) -> Arrays:
        return tuple(loaded.run(None, dict(zip(INPUTS, inputs, strict=False))))

    return run


def operators(path: Path) -> set[str]:
    """The operators in the file."""
    import onnx

    return {node.op_type for node in onnx.load(path).graph.node}


def to_onnx(model: Rethined, metadata: dict[str, str], size: Size | None = None, *, half: bool = False) -> bytes:
    """The core of `model` as an ONNX file: inputs `image`, `mask` and, if the model has it, `detail`; outputs as
    `outputs` names them (`Core`). Any height and width, or `size` alone, with every shape a constant. With `half` the
    weights are stored in 16 bits: the same function in a smaller file.

    Raises:
        InputError: a model that has no exported form.
    """
    import onnx

    check_exportable(model.config)
    core = Core(model).eval()
    # What attends depends on the number of patches in many places. What searches is convolutions, of which a size can
    # be taken out again: with sides that are symbols PyTorch takes five times as long.
    symbols = size is None and not model.config.search
    traced = _in_strides(model.config, *TRACED)
    inputs = sample(model.config, size or traced, 0)
    with quiet():
        program = torch.onnx.export(
            core,
            inputs,
            dynamo=True,
            dynamic_shapes=_symbols(model.config, len(inputs)) if symbols else None,
            opset_version=18,
            input_names=list(INPUTS[: len(inputs)]),
            output_names=list(outputs(model.config)),
            optimize=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    if symbols:
        _name_symbols(proto.graph, model.config.stride)
    elif size is None:
        _take_any_size(proto.graph, traced)
    for node in proto.graph.node:
        del node.metadata_props[:]  # the exporter's notes on where each node came from: half of the file
        node.doc_string = ""
    del proto.graph.value_info[:]
    del proto.graph.metadata_props[:]  # in an order that differs from process to process
    proto.producer_name, proto.producer_version = "rethined", ""
    if half:
        store_in_half(proto.graph)
    told = facts(model, metadata)
    for key in sorted(told):
        proto.metadata_props.add(key=key, value=told[key])
    onnx.checker.check_model(proto)
    return bytes(proto.SerializeToString(deterministic=True))


def _symbols(config: ModelConfig, inputs: int) -> tuple[dict[int, Any], ...]:
    """Sides of the inputs, for PyTorch: multiples of the stride, and the detail's those of as many patches."""
    rows, columns = torch.export.Dim("rows", min=1, max=1024), torch.export.Dim("columns", min=1, max=1024)
    units = (config.stride, config.stride, config.stride // config.patch_size)[:inputs]
    return tuple({2: unit * rows, 3: unit * columns} for unit in units)


def _name_symbols(graph: Any, stride: int) -> None:
    """Call sides by the picture's height and width, of which PyTorch calls them multiples of `_symbols`."""
    for tensor in (*graph.input, *graph.output):
        for dimension in tensor.type.tensor_type.shape.dim:
            unit, _, symbol = dimension.dim_param.rpartition("*")
            if symbol in ("rows", "columns"):
                name = "height" if symbol == "rows" else "width"
                dimension.dim_param = name if int(unit) == stride else f"{name}/{stride // int(unit)}"


def checked_sizes(config: ModelConfig) -> tuple[Size, ...]:
    """CHECKED, in pixels."""
    return tuple(_in_strides(config, *sides) for sides in CHECKED)


def _in_strides(config: ModelConfig, rows: int, columns: int) -> Size:
    return Size(rows * config.stride, columns * config.stride)


def _take_any_size(graph: Any, traced: Size) -> None:
    """Make a graph that was `traced` at one size one for any: all that depends on that are the sides of what comes
    in and goes out, and reshapes, which leave columns as they are (0) and have as many rows as that makes (-1)."""
    import onnx

    for tensor in (*graph.input, *graph.output):
        sides = tensor.type.tensor_type.shape.dim[2:]
        for dimension, name, side in zip(sides, ("height", "width"), traced, strict=True):
            unit = side // dimension.dim_value
            dimension.dim_param = name if unit == 1 else f"{name}/{unit}"
    reshapes = [node for node in graph.node if node.op_type == "Reshape"]
    shapes = {node.input[1] for node in reshapes}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            shape = onnx.numpy_helper.to_array(tensor)
            shape = np.where(shape == traced.width, 0, np.where(shape == traced.height, -1, shape))
            tensor.CopyFrom(onnx.numpy_helper.from_array(shape, tensor.name))
    for node in reshapes:
        del node.attribute[:]  # among them, that 0 would be 0


def store_in_half(graph: Any) -> None:
    """Convolutions' weights and biases in 16 bits, each with a Cast to 32, which runtimes do once, when they load."""
    import onnx

    single = {name: f"{name}.single" for node in graph.node if node.op_type == "Conv" for name in node.input[1:]}
    for node in graph.node:
        node.input[:] = [single.get(name, name) for name in node.input]
    nodes = list(graph.node)
    del graph.node[:]
    for tensor in graph.initializer:
        if tensor.name in single:
            array = onnx.numpy_helper.to_array(tensor)
            half = array.astype(np.float16)
            assert (half == array).all(), tensor.name  # `Core` has rounded it
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, tensor.name))
            cast = onnx.helper.make_node("Cast", [tensor.name], [single[tensor.name]], to=onnx.TensorProto.FLOAT)
            graph.node.append(cast)
    graph.node.extend(nodes)


def quantise(path: Path, calibration: Sequence[Arrays]) -> None:
    """Replace the fp32 core at `path` by one with int8 convolutions (QDQ, per channel), calibrated on real inputs."""
    import onnx
    from onnxruntime import quantization

    class Pictures(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(calibration)

        def get_next(self) -> dict[str, object] | None:
            inputs = next(self.left, None)
            return None if inputs is None else dict(zip(INPUTS, inputs, strict=True))

    proto = onnx.load(path)
    kept = [node.name for node in proto.graph.node if any(word in name for name in node.input for word in SENSITIVE)]
    with quiet():
        quantization.quantize_static(
            path,
            path,
            Pictures(),
            quant_format=quantization.QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=kept,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
    proto, told = onnx.load(path), proto.metadata_props
    del proto.metadata_props[:]
    proto.metadata_props.extend(told)
    proto.producer_name, proto.producer_version = "rethined", ""
    path.write_bytes(proto.SerializeToString(deterministic=True))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Converters' own deprecations and progress are not the user's."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            _quiet_compiled(),
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextlib.contextmanager
def _quiet_compiled() -> Iterator[None]:
    """What compiled parts write to standard error, which they know by its number alone, goes nowhere."""
    try:
        errors = os.dup(2)
    except OSError:  # closed: nobody sees it
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(errors, 2)
        os.close(errors)
