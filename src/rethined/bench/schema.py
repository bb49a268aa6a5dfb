"""What the numbers of results are called, what they mean, and how tables show them. Needs no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

REFERENCE = "copy_reference"
"""The method all others are compared to."""
DESIGN = "the released design"
"""In ablations and on frontiers, what others are compared with, whatever weights it has."""
DEFINITIONS = {
    "lpips": "LPIPS v0.1, AlexNet: mean over each layer's map, summed (the published number); lower is better",
    "lpips_squeeze": "the same over SqueezeNet 1.1",
    "l1": "mean absolute difference over pixels and channels, in [0, 1]",
    "psnr": "peak signal-to-noise ratio in dB, peak 255, over pixels and channels",
    "ssim": "Wang et al. 2004, Gaussian window of 11 pixels, sigma 1.5, mean of the RGB channels and of all pixels "
    "but the outermost 5",
    "fid": "Frechet distance between Inception-v3 features (2048) of fills and originals",
    "fid768": "the same between the means of the 17 x 17 x 768 map: not comparable with FID",
    "*_hole": "the same inside the hole: lpips and ssim are the mean of their full-resolution maps over hole pixels; "
    "fid is over square crops around random hole pixels",
    "hole": "part of the image that is hole, in [0, 1]",
    "seconds": "of one call, the first of them included; not a benchmark of speed",
    "ratio": f"mean lpips_hole over that of {REFERENCE}, which copies patches without training",
    "better": f"part of the photographs whose lpips_hole is lower than that of {REFERENCE}, in [0, 1]",
}
"""What every number of a result means."""
COLUMNS = (
    ("lpips_hole", "LPIPS in hole", 3),
    ("ratio", "ratio", 2),
    ("better", "better", 0),
    ("lpips_squeeze_hole", "LPIPS (Squeeze) in hole", 3),
    ("l1_hole", "L1 in hole", 4),
    ("psnr_hole", "PSNR in hole, dB", 2),
    ("ssim_hole", "SSIM in hole", 3),
    ("lpips", "LPIPS", 4),
    ("lpips_squeeze", "LPIPS (Squeeze)", 4),
    ("l1", "L1", 4),
    ("psnr", "PSNR, dB", 2),
    ("ssim", "SSIM", 4),
    ("fid_hole", "FID in hole", 1),
    ("fid", "FID", 1),
    ("fid768_hole", "FID-768 in hole", 3),
    ("fid768", "FID-768", 3),
)
"""Key, heading and decimals of what tables show of a method; a column without a number is left out."""


@dataclass(frozen=True)
class Runtime:
    """What `rethined bench device` can measure the core in."""

    title: str
    """Its name in tables."""
    form: str
    """Of `rethined.export.formats.FORMATS`, whose file it runs."""
    precisions: tuple[str, ...] = ()
    """Those measured; none are all that the format has."""
    provider: str = ""
    """Execution provider of ONNX Runtime, where it is not the processor's."""
    computing: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The provider's settings by precision, where that is what it computes in."""


RUNTIMES = {
    "onnx": Runtime("ONNX Runtime", "onnx"),
    "openvino": Runtime("OpenVINO", "openvino"),
    "web": Runtime("onnxruntime-web (WASM)", "onnx", ("fp32",)),
    "executorch": Runtime("ExecuTorch, XNNPACK", "executorch"),
    "litert": Runtime("LiteRT, XNNPACK", "litert"),
    "ncnn": Runtime("ncnn", "ncnn"),
    "coreml": Runtime("Core ML", "coreml"),
    "litert_gpu": Runtime("LiteRT, GPU", "litert", ("fp32",)),
    "qnn": Runtime("ONNX Runtime, Qualcomm QNN", "onnx", ("int8",), "QNNExecutionProvider"),
    "tensorrt": Runtime(
        "ONNX Runtime, TensorRT",
        "onnx",
        ("fp32", "fp16"),
        "TensorrtExecutionProvider",
        {"fp16": {"trt_fp16_enable": True}},
    ),
    "cuda": Runtime("ONNX Runtime, CUDA", "onnx", ("fp32",), "CUDAExecutionProvider"),
}
"""By name, in the order of Table 2."""
WAITING = (
    ("iPhone", "coreml", "fp16", " --told fp16=MS"),
    ("Android phone", "litert_gpu", "fp32", " --told fp32=MS"),
    ("Snapdragon", "qnn", "int8", ""),
    ("NVIDIA GPU", "tensorrt", "fp16", ""),
    ("NVIDIA GPU", "cuda", "fp32", ""),
)
"""Device, runtime, precision of rows that are empty until somebody has timed that runtime; what the command adds."""


def cell(summary: dict[str, Any], key: str, digits: int) -> str:
    """The number of one method in one run as text; `-` where there is none."""
    value = summary[key] if key in summary else summary["mean"].get(key)
    if value is None:
        return "-"
    return f"{value:.0%}" if key == "better" else f"{value:.{digits}f}"


def columns_of(runs: Sequence[dict[str, Any]]) -> list[tuple[str, str, int]]:
    """Those of COLUMNS of which any method of any run has a number."""
    summaries = [summary for run in runs for summary in run["methods"].values()]
    return [column for column in COLUMNS if any(cell(s, column[0], column[2]) != "-" for s in summaries)]
