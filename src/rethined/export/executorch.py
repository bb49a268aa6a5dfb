"""The core as an ExecuTorch program (`.pte`) for XNNPACK; what XNNPACK lacks runs on the portable kernels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rethined.export.core import Arrays, Run, Size, sample
from rethined.export.onnx import quiet
from rethined.model import Rethined
from rethined.model.pipeline import Core

ALLOWED = frozenset(
    {
        "alias_copy",
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


class Convolved(nn.Module):
    """`core` in which means are depthwise convolutions. XNNPACK has those; means it has without margins alone, and on
    the portable kernels they took most of the time."""

    def __init__(self, core: nn.Module, inputs: Sequence[Tensor]) -> None:
        super().__init__()
        self.core = core
        with torch.no_grad():  # makes the kernels
            self(*inputs)

    def forward(self, *inputs: Tensor) -> Any:
        with _Convolving(self):
            return self.core(*inputs)

    def mean(self, x: Tensor, side: int | tuple[int, int], stride: int | None = None, padding: Any = 0) -> Tensor:
        """As `F.avg_pool2d`."""
        rows, columns = (side, side) if isinstance(side, int) else side
        channels = x.shape[1]
        name = f"mean_of_{channels}_by_{rows}_by_{columns}"
        if not hasattr(self, name):
            self.register_buffer(name, torch.full((channels, 1, rows, columns), 1 / (rows * columns)))
        return F.conv2d(x, getattr(self, name), None, stride or side, padding, 1, channels)


class _Convolving(TorchFunctionMode):
    """In its context `F.avg_pool2d` is `convolved.mean`."""

    def __init__(self, convolved: Convolved) -> None:
        super().__init__()
        self.convolved = convolved

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: Sequence[Any] = (),
        keywords: Mapping[str, Any] | None = None,
    ) -> Any:
        called = self.convolved.mean if function is F.avg_pool2d else function
        return called(*arguments, **(keywords or {}))


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

        inputs = sample(model.config, sizes[0], 0)
        program = torch.export.export(Convolved(Core(model).eval(), inputs), inputs)
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
