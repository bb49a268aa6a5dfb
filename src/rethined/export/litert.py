"""The core as a LiteRT (TensorFlow Lite) model; inputs and outputs stay channels-first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rethined.export.core import Arrays, Run, Size, sample
from rethined.export.onnx import quiet
from rethined.model import Rethined
from rethined.model.pipeline import Core

ALLOWED = frozenset(
    [
        "ADD",
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "DEQUANTIZE",
        "DIV",
        "LOG",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MEAN",
        "MINIMUM",
        "MUL",
        "PAD",
        "RELU_0_TO_1",
        "RELU",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SQRT",
        "SUB",
        "SUM",
        "TRANSPOSE",
    ]
)
"""The operators that a core may hold: all are built in."""


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write the core for one size to `path`. fp16 is that of convolutions' weights in the file."""
    assert sizes
    with quiet():
        import litert_torch

        litert_torch.convert(Core(model).eval(), sample(model.config, sizes[0], 0)).export(str(path))
        if precision == "fp16":
            path.write_bytes(_in_half(path))


def _in_half(path: Path) -> bytes:
    """The file with weights in 16 bits, each with an operator to 32, which the interpreter runs once."""
    from ai_edge_quantizer import qtyping
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.quantizer import Quantizer

    half = qtyping.TensorQuantizationConfig(num_bits=16, dtype=qtyping.TensorDataType.FLOAT)
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=half, compute_precision=qtyping.ComputePrecision.FLOAT, explicit_dequantize=True
    )
    quantizer = Quantizer(str(path))
    quantizer.update_quantization_recipe(
        ".*", qtyping.TFLOperationName.ALL_SUPPORTED, config, AlgorithmName.FLOAT_CASTING
    )
    return bytes(quantizer.quantize().quantized_model)


def load(path: Path, threads: int) -> Run:
    """The file, run by LiteRT with XNNPACK."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    with quiet():  # XNNPACK says that it is there
        interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()

    def run(inputs: Arrays) -> Arrays:
        results = runner(**{f"args_{index}": value for index, value in enumerate(inputs)})
        return tuple(results[f"output_{index}"] for index in range(len(results)))

    return run


def operators(path: Path) -> set[str]:
    """The operators in the file, without the delegates that the interpreter puts in their place."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return {operator["op_name"] for operator in plain._get_ops_details()}
