"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def compiled(*freedoms: str) -> Callable[[Any], Any]:
    """`numba.njit`, cached on disk where any folder for it can be written; None where numba is not installed.

    `freedoms` are what LLVM may do with floats: `contract` (fused multiply and add), `reassoc` (sums in any order).
    """

    def decorate(function: Any) -> Any:
        try:
            import numba
        except ImportError:
            return None
        # Loops divide by what is never 0, and need not ask.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(freedoms)}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no such folder: compile anew in every process
            return numba.njit(**options)(function)

    return decorate
