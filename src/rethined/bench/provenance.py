"""Where a measurement comes from: code, weights, machine, versions, load and date, as plain JSON values."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from rethined.errors import InputError, OutputError
from rethined.image import write_atomic

PACKAGES = ("rethined", "numpy", "opencv-python-headless", "onnxruntime", "numba", "torch")
BUNDLED = Path(__file__).parent.parent / "assets" / "rethined.onnx"
"""What `Engine()` loads when no weights are named."""


def provenance() -> dict[str, Any]:
    """What every result file carries. `commit` is None outside git; `dirty`: it had edits."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.system()},
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "load_average": [round(value, 2) for value in os.getloadavg()] if hasattr(os, "getloadavg") else None,
    }


def cpu_name() -> str:
    """The processor as its maker names it, where the system tells."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model")):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    return platform.processor() or platform.machine()


def peak_mib() -> float:
    """Largest resident memory of this process so far, in MiB."""
    # Linux's ru_maxrss survives exec and so may be the parent's; VmHWM is this program's own.
    if sys.platform == "linux":
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 1024


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, result: dict[str, Any]) -> Path:
    """Write `result` as indented JSON, whole or not at all; NaN becomes null so that every reader can read it.

    Raises:
        OutputError: the file or its folder cannot be written.
    """
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_finite(result), indent=1, allow_nan=False) + "\n"
    write_atomic(path, text.encode(), overwrite=True)
    return path


def check_folder(path: Path) -> None:
    """Refuse early, before any work, a folder for results that could not be made or written to.

    Raises:
        OutputError: it is a file, or the nearest folder above it that exists cannot be written to.
    """
    there = next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
    if not there.is_dir():
        raise OutputError(f"{path} cannot be made, {there.name} is a file; choose another folder for the results")
    if not os.access(there, os.W_OK):
        raise OutputError(f"{path} cannot be written to; choose another folder for the results")


def read_json(path: Path) -> dict[str, Any]:
    """Raises InputError when `path` holds no JSON object."""
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path} as a result of `rethined bench`: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is no result of `rethined bench`: it holds a {type(value).__name__}")
    return value


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return round(value, 6) if abs(value) < float("inf") else None
    return value


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:  # no git on this machine
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
