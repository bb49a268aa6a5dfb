"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

LANES = 16
"""Numbers of 16 bits that are multiplied at once."""

try:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic
except ImportError:
    advance: Any = None
    dot: Any = None
    unlike: Any = None
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

    # What follows LLVM finds in loops, too, but there it fills half a register.
    _index, _word, _short = ir.IntType(64), ir.IntType(32), ir.IntType(16)
    _shorts, _words = ir.VectorType(_short, LANES), ir.VectorType(_word, LANES // 2)

    def _load(builder: Any, data: Any, place: Any, element: Any) -> Any:
        """LANES numbers from `place` on, as 16 bits each."""
        pointer = builder.bitcast(builder.gep(data, [place]), ir.VectorType(element, LANES).as_pointer())
        loaded = builder.load(pointer)
        loaded.align = element.width // 8
        return loaded if element is _short else builder.sext(loaded, _shorts)

    def _function(builder: Any, kind: Any, name: str) -> Any:
        return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]

    def _products(context: Any, builder: Any, a: Any, b: Any) -> Any:
        """Sums of two products each of `a` and `b`, LANES numbers of 16 bits; which two depends on the processor."""
        if "+avx2" in getattr(context.codegen(), "_tm_features", ""):
            multiply = ir.FunctionType(_words, [_shorts, _shorts])
            return builder.call(_function(builder, multiply, "llvm.x86.avx2.pmadd.wd"), [a, b])
        halves = []
        for first in (0, LANES // 2):
            chosen = ir.Constant(_words, list(range(first, first + LANES // 2)))
            wide = (builder.sext(builder.shuffle_vector(x, x, chosen), _words) for x in (a, b))
            halves.append(builder.mul(*wide))
        return builder.add(*halves)

    def _total(builder: Any, parts: list[Any]) -> Any:
        """The sum of all numbers of all `parts`."""
        total = parts[0]
        for part in parts[1:]:
            total = builder.add(total, part)
        name = f"llvm.vector.reduce.add.v{LANES // 2}i32"
        return builder.call(_function(builder, ir.FunctionType(_word, [_words]), name), [total])

    @intrinsic
    def dot(typing: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
        """The product of the 2 LANES numbers of `a` from `i` on and those of `b` from `j` on, int32; both arrays are
        C-contiguous int8."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            parts = []
            for first in (0, LANES):
                pair = []
                for n in (0, 2):
                    array = context.make_array(signature.args[n])(context, builder, arguments[n])
                    place = builder.add(arguments[n + 1], _index(first))
                    pair.append(_load(builder, array.data, place, ir.IntType(8)))
                parts.append(_products(context, builder, *pair))
            return _total(builder, parts)

        return types.int32(a, types.int64, b, types.int64), generate

    @intrinsic
    def unlike(typing: Any, values: Any, weights: Any, i: Any, j: Any, line: Any) -> Any:
        """The sum of weights[j + n] (values[i + n] - values[j + n])^2, int32, over n of 5 rows of 25 numbers, which
        begin `line` apart.

        `values` and `weights` are C-contiguous int16; from where a row begins they hold 2 LANES numbers.
        """
        rows, kept = 5, 25

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, weights = (
                context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 1)
            )
            _, _, i, j, line = arguments
            parts = []
            for row in range(rows):
                for first in (0, LANES):
                    along = builder.add(builder.mul(line, _index(row)), _index(first))
                    mine = _load(builder, values, builder.add(j, along), _short)
                    apart = builder.sub(_load(builder, values, builder.add(i, along), _short), mine)
                    weight = _load(builder, weights, builder.add(j, along), _short)
                    lanes = ir.Constant(_shorts, [-(first + n < kept) for n in range(LANES)])
                    weighted = builder.mul(apart, builder.and_(weight, lanes))
                    parts.append(_products(context, builder, apart, weighted))
            return _total(builder, parts)

        i64 = types.int64
        return types.int32(values, weights, i64, i64, i64), generate


def compiled(*freedoms: str) -> Callable[[Any], Any]:
    """`numba.njit`, cached on disk where any folder for it can be written; None where numba is not installed, or told
    by NUMBA_DISABLE_JIT not to compile.

    `freedoms` are what LLVM may do with floats: `contract` (fused multiply and add), `reassoc` (sums in any order).
    """

    def decorate(function: Any) -> Any:
        try:
            import numba
        except ImportError:
            return None
        if numba.config.DISABLE_JIT:  # type: ignore[attr-defined]
            return None
        # Loops divide by what is never 0, and need not ask.
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(freedoms)}
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:  # no such folder: compile anew in every process
            return numba.njit(**options)(function)

    return decorate
