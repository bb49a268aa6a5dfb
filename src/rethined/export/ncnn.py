"""The core for ncnn (`.param` and `.bin`), converted by pnnx."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rethined.errors import BackendError
from rethined.export.core import Arrays, Run, Size, plainly_spread, sample, traced
from rethined.export.onnx import quiet
from rethined.model import Rethined

ALLOWED = frozenset(
    [
        "BinaryOp",
        "Clip",
        "Concat",
        "Convolution",
        "ConvolutionDepthWise",
        "Input",
        "Interp",
        "Pooling",
        "ReLU",
        "Reduction",
        "Reshape",
        "Slice",
        "Split",
        "UnaryOp",
    ]
)
"""The layers that a core may hold."""


def convert(
    model: Rethined,
    path: Path,
    sizes: Sequence[Size] | None,
    precision: str,
    metadata: dict[str, str],
    calibration: Sequence[Arrays],
) -> None:
    """Write `path` and the .bin beside it, for one size. fp16 is that of convolutions' weights in the file.

    Raises:
        BackendError: pnnx failed.
    """
    import pnnx

    assert sizes
    inputs = sample(model.config, sizes[0], 0)
    model = plainly_spread(model)  # with products of four axes ncnn takes three times as long
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with quiet():
            traced(model, inputs).save(folder / "core.pt")
        shapes = ",".join(f"{list(value.shape)}f32".replace(" ", "") for value in inputs)
        command = [pnnx.EXEC_PATH, "core.pt", f"inputshape={shapes}", f"fp16={int(precision == 'fp16')}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        param, weights = folder / "core.ncnn.param", folder / "core.ncnn.bin"
        if done.returncode or not param.is_file():
            raise BackendError(f"pnnx could not convert the core: {done.stderr.strip()[-300:] or done.returncode}")
        shutil.move(param, path)
        shutil.move(weights, path.with_suffix(".bin"))


def load(path: Path, threads: int) -> Run:
    """The files, run by ncnn on the CPU, computing in float32."""
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.opt.use_bf16_storage = False
    if net.load_param(str(path)) or net.load_model(str(path.with_suffix(".bin"))):
        raise BackendError(f"ncnn cannot load {path.name}")

    def run(inputs: Arrays) -> Arrays:
        with net.create_extractor() as extractor:
            for name, value in zip(net.input_names(), inputs, strict=True):
                # A Mat only refers to the array's memory; its clone owns it.
                extractor.input(name, ncnn.Mat(np.ascontiguousarray(value[0])).clone())
            return tuple(np.array(extractor.extract(name)[1])[None] for name in net.output_names())

    return run


def operators(path: Path) -> set[str]:
    """The layers in the file."""
    return {line.split()[0] for line in path.read_text().splitlines()[2:] if line.strip()}
