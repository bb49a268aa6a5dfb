"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from numba import types
    from numba.extending import intrinsic
except ImportError:
    advance: Any = None
else:

    @intrinsic
    def advance(typing, counters, index, by):  # type: ignore[no-untyped-def]
        """Add `by` to counters[index], of C-contiguous int64, and return what it was before; atomic, and what threads
        wrote before it is seen by those that read the counter after."""

        def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            array, index, by = arguments
            data = context.make_array(signature.args[0])(context, builder, array).data
            return builder.atomic_rmw("add", builder.gep(data, [index]), by, "seq_cst")

        return types.int64(counters, types.int64, types.int64), generate


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
