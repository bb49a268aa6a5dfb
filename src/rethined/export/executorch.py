"""The core as an ExecuTorch program (`.pte`) for XNNPACK; what XNNPACK lacks runs on the portable kernels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from rethined.export.core import Arrays, Run, Size, sample
from rethined.export.onnx import quiet
from rethined.model import Rethined
from rethined.model.pipeline import Core

ALLOWED = frozenset(
    {
        "alias_copy",
        "avg_pool2d",
        "dim_order_ops::_to_dim_order_copy",
        "expand_copy",
        "pow",
        "split_with_sizes_copy",
        "sum",
        "unsqueeze_copy",
        "upsample_nearest2d",
    }
)
"""The operators that may be left to the portable kernels."""


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write the core for one size, in float32, to `path`."""
    assert sizes
    with quiet():
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        program = torch.export.export(Core(model).eval(), sample(model.config, sizes[0], 0))
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)


def load(path: Path, threads: int) -> Run:
    """The file, run by ExecuTorch, which decides itself how many threads it uses."""
    with quiet():
        from executorch.runtime import Runtime

        method = Runtime.get().load_program(path).load_method("forward")
    assert method is not None

    def run(inputs: Arrays) -> Arrays:
        results = method.execute([torch.from_numpy(np.ascontiguousarray(value)) for value in inputs])
        return tuple(value.numpy().copy() for value in results)

    return run


def operators(path: Path) -> set[str]:
    """The operators outside XNNPACK."""
    with quiet():
        from executorch.exir._serialize._program import deserialize_pte_binary

        plans = deserialize_pte_binary(path.read_bytes()).program.execution_plan
    return {operator.name.removeprefix("aten::") for plan in plans for operator in plan.operators}
