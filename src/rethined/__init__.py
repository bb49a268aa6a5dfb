"""RETHINED: real-time, high-resolution image inpainting on the machine you have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rethined.errors import (
    BackendError,
    InputError,
    OutputError,
    RethinedError,
    RethinedWarning,
    WeightsError,
)

if TYPE_CHECKING:
    from rethined.config import ModelConfig
    from rethined.engine import Engine, inpaint

# Nothing leaves the machine: ONNX Runtime reports its use over the network, unless it is told not to before it loads.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "Engine",
    "InputError",
    "ModelConfig",
    "OutputError",
    "RethinedError",
    "RethinedWarning",
    "WeightsError",
    "inpaint",
]


def __getattr__(name: str) -> Any:
    # The engine brings NumPy, ONNX Runtime and the compiler; `rethined --help` must not wait for them.
    if name in ("Engine", "inpaint"):
        from rethined import engine

        return getattr(engine, name)
    if name == "ModelConfig":
        from rethined.config import ModelConfig

        return ModelConfig
    raise AttributeError(f"module 'rethined' has no attribute {name!r}")
