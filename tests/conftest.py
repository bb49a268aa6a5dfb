"""Fixtures that several test files share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture
def rethined(tmp_path: Path) -> Run:
    """Run the command line as a process of its own in `tmp_path`; `prelude` is Python to run before it."""

    def run(*arguments: object, prelude: str = "", **options: Any) -> subprocess.CompletedProcess[bytes]:
        start = ["-c", f"{prelude}\nfrom rethined.cli import main\nmain()"] if prelude else ["-m", "rethined"]
        command = [sys.executable, *start, *map(str, arguments)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("RETHINED_")}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, "timeout": 120} | options
        return subprocess.run(command, cwd=tmp_path, check=False, **options)

    return run


@pytest.fixture
def within(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, list[str]]]:
    """Run the command line in `tmp_path` within this process, where one of its own would load PyTorch for a sentence:
    its exit code, and the lines of stderr."""
    from rethined import cli

    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("RETHINED_")]:
        monkeypatch.delenv(name)

    def run(*arguments: object) -> tuple[int, list[str]]:
        code = cli._run(list(map(str, arguments)))
        return code, capfd.readouterr().err.splitlines()

    return run


@pytest.fixture
def without_numba(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where numba is not installed: `rethined.plain` does the work of all loops."""
    from rethined import rim, search, upscale, windows

    for name in ("_divide", "_choose", "_margin", "_multiples"):  # these are their own twins
        monkeypatch.setattr(windows, name, getattr(getattr(windows, name), "py_func", getattr(windows, name)))
    for module, names in (
        (rim, ("_mark", "_compare")),
        (upscale, ("_fill", "_shrink", "_contribute", "_mend")),
        (search, ("_describe", "_surround", "_halve", "_pool", "_depths", "_prepare", "_run")),
        (search, ("_regions", "_settle", "_meld")),
    ):
        for name in names:
            monkeypatch.setattr(module, name, None)
