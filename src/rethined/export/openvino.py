"""The core as OpenVINO IR (`.xml` and `.bin`), converted from our ONNX."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rethined.export import onnx
from rethined.export.core import INPUTS, Arrays, Run, Size, facts, plainly_spread
from rethined.model import Rethined

ALLOWED = frozenset(
    [
        "Add",
        "AvgPool",
        "Broadcast",
        "Clamp",
        "Concat",
        "Constant",
        "Convert",
        "Convolution",
        "Divide",
        "FakeQuantize",
        "GroupConvolution",
        "Interpolate",
        "Log",
        "MaxPool",
        "Maximum",
        "Minimum",
        "Multiply",
        "Parameter",
        "Power",
        "ReduceMean",
        "ReduceSum",
        "Relu",
        "Reshape",
        "Result",
        "ShapeOf",
        "Split",
        "Sqrt",
        "Subtract",
        "VariadicSplit",
    ]
)
"""The operators that a core may hold."""


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write `path` and the .bin beside it. fp16 is that of the weights; the device decides what it computes in.

    OpenVINO's own compression would round other constants, too."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        core = Path(folder) / "core.onnx"
        # With products a core of any size would slice shapes; at a fixed one they are not faster here.
        onnx.convert(plainly_spread(model), core, sizes, precision, metadata, calibration)
        converted = openvino.Core().read_model(core)
    for key, value in facts(model, metadata).items():
        converted.set_rt_info(value, key.split("."))
    openvino.save_model(converted, path, compress_to_fp16=False)


def load(path: Path, threads: int) -> Run:
    """The file, run by OpenVINO on the CPU, computing in float32."""
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(path, "CPU", settings)

    def run(inputs: Arrays) -> Arrays:
        result = compiled(dict(zip(INPUTS, inputs, strict=True)))
        return tuple(np.array(result[output]) for output in compiled.outputs)

    return run


def operators(path: Path) -> set[str]:
    """The operators in the file."""
    import openvino

    return {operator.get_type_name() for operator in openvino.Core().read_model(path).get_ops()}
