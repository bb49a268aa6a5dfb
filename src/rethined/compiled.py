"""Loops compiled by numba."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import reduce
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
    bits: Any = None
    count: Any = None
    dot: Any = None
    lowest: Any = None
    slide: Any = None
    surroundings: Any = None
    tally: Any = None
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

    # What follows LLVM finds in loops, too, but there it fills half a register, or a part of one, or none. Arrays are
    # C-contiguous and places in them those of flat ones; no bounds are checked.
    _index, _word, _short, _byte = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.IntType(8)
    _shorts, _words = ir.VectorType(_short, LANES), ir.VectorType(_word, LANES // 2)

    def _data(context: Any, builder: Any, signature: Any, arguments: Any, *numbers: int) -> list[Any]:
        """Where the arrays among the `arguments` begin that have these numbers."""
        return [context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in numbers]

    def _take(builder: Any, data: Any, place: Any, element: Any, count: int) -> Any:
        """`count` numbers from `place` on."""
        pointer = builder.bitcast(builder.gep(data, [place]), ir.VectorType(element, count).as_pointer())
        loaded = builder.load(pointer)
        loaded.align = element.width // 8
        return loaded

    def _vector(*numbers: int, element: Any = _word) -> Any:
        return ir.Constant(ir.VectorType(element, len(numbers)), list(numbers))

    def _everywhere(builder: Any, word: Any) -> Any:
        """LANES / 2 times the same of 32 bits."""
        one = builder.insert_element(ir.Constant(_words, ir.Undefined), word, _word(0))
        return builder.shuffle_vector(one, one, _vector(*[0] * (LANES // 2)))

    def _function(builder: Any, kind: Any, name: str) -> Any:
        return cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]

    def _products(context: Any, builder: Any, a: Any, b: Any) -> Any:
        """Sums of two neighbours' products each of `a` and `b`, LANES numbers of 16 bits."""
        if "+avx2" in getattr(context.codegen(), "_tm_features", ""):
            multiply = ir.FunctionType(_words, [_shorts, _shorts])
            return builder.call(_function(builder, multiply, "llvm.x86.avx2.pmadd.wd"), [a, b])
        halves = []
        for first in range(2):
            wide = (builder.sext(_part(builder, x, range(first, LANES, 2)), _words) for x in (a, b))
            halves.append(builder.mul(*wide))
        return builder.add(*halves)

    def _part(builder: Any, vector: Any, lanes: Iterable[int]) -> Any:
        """Some `lanes` of a `vector`, in that order."""
        return builder.shuffle_vector(vector, vector, _vector(*lanes))

    def _total(builder: Any, parts: list[Any]) -> Any:
        """The sum of all numbers of all `parts`."""
        name = f"llvm.vector.reduce.add.v{LANES // 2}i32"
        return builder.call(_function(builder, ir.FunctionType(_word, [_words]), name), [reduce(builder.add, parts)])

    @intrinsic
    def dot(typing: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
        """The product of the 2 LANES numbers of `a` from `i` on and those of `b`, int8 both, from `j` on, int32."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays, parts = _data(context, builder, signature, arguments, 0, 2), []
            for first in (0, LANES):
                pair = []
                for data, place in zip(arrays, arguments[1::2], strict=True):
                    loaded = _take(builder, data, builder.add(place, _index(first)), _byte, LANES)
                    pair.append(builder.sext(loaded, _shorts))
                parts.append(_products(context, builder, *pair))
            return _total(builder, parts)

        return types.int32(a, types.int64, b, types.int64), generate

    @intrinsic
    def unlike(typing: Any, values: Any, weights: Any, i: Any, j: Any, line: Any) -> Any:
        """The sum of weights[j + n] (values[i + n] - values[j + n])^2, int32, over n of 5 rows of 25 numbers, which
        begin `line` apart.

        `values` and `weights` are int16; from where a row begins they hold 2 LANES numbers.
        """
        rows, kept = 5, 25

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, weights = _data(context, builder, signature, arguments, 0, 1)
            _, _, i, j, line = arguments
            parts = []
            for row in range(rows):
                for first in (0, LANES):
                    along = builder.add(builder.mul(line, _index(row)), _index(first))
                    theirs, mine = (
                        _take(builder, values, builder.add(place, along), _short, LANES) for place in (i, j)
                    )
                    apart = builder.sub(theirs, mine)
                    weight = _take(builder, weights, builder.add(j, along), _short, LANES)
                    lanes = _vector(*[-(first + n < kept) for n in range(LANES)], element=_short)
                    weighted = builder.mul(apart, builder.and_(weight, lanes))
                    parts.append(_products(context, builder, apart, weighted))
            return _total(builder, parts)

        i64 = types.int64
        return types.int32(values, weights, i64, i64, i64), generate

    @intrinsic
    def tally(typing: Any, values: Any, shift: Any, votes: Any, here: Any, stride: Any) -> Any:
        """Sums, int32, of the 5 numbers of cells here + shift[n] in `values`, each times votes[n], over the 5 x 5
        cells n around cell `here` of a grid with rows of `stride` cells; and of votes[n].

        `values` are int16, and go on for 3 numbers after each cell's; `shift` and `votes` are int32.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, shift, votes = _data(context, builder, signature, arguments, 0, 1, 2)
            here, stride = arguments[3:]
            ones, kept = _vector(*[0] * 5, 1, 0, 0), _vector(*[-1] * 5, *[0] * 3)
            parts = []
            for n in range(25):
                place = builder.add(here, builder.add(builder.mul(stride, _index(n // 5 - 2)), _index(n % 5 - 2)))
                there = builder.add(here, builder.sext(builder.load(builder.gep(shift, [place])), _index))
                cell = builder.sext(_take(builder, values, builder.mul(there, _index(5)), _short, 8), _words)
                vote = _everywhere(builder, builder.load(builder.gep(votes, [place])))
                parts.append(builder.mul(builder.or_(builder.and_(cell, kept), ones), vote))
            total = reduce(builder.add, parts)
            results = [builder.extract_element(total, _word(n)) for n in range(6)]
            return context.make_tuple(builder, signature.return_type, results)

        i64, result = types.int64, types.Tuple([types.int32] * 6)  # type: ignore[no-untyped-call]
        return result(values, shift, votes, i64, i64), generate

    @intrinsic
    def slide(typing: Any, picture: Any, there: Any, here: Any, width: Any, sums: Any) -> Any:
        """To sums[8 a + b], `a` and `b` below 7, add the sum of (picture[there + n + m] - picture[here + n])^2 over
        4 x 4 places n, with m `a` rows down and `b` numbers on.

        `picture`, int16, of values of at most 765, has rows of `width`, and goes on for one number after the ten of
        each row that are looked at from `there` on; `sums` are int64, and of 8 b the last is of no use.
        """
        side, taps = 7, 4

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            picture, sums = _data(context, builder, signature, arguments, 0, 4)
            _, there, here, width, _ = arguments

            def along(place: Any, row: int, by: int) -> Any:
                return builder.add(builder.add(place, builder.mul(width, _index(row))), _index(by))

            # Of two neighbours in turn, whose squares are summed at once.
            wanted = {}
            for v in range(taps):
                for u in range(0, taps, 2):
                    pair = builder.bitcast(_take(builder, picture, along(here, v, u), _short, 2), _word)
                    wanted[v, u] = builder.bitcast(_everywhere(builder, pair), _shorts)
            totals: list[list[Any]] = [[] for _ in range(side)]
            for y in range(side + taps - 1):
                for u in range(0, taps, 2):
                    lines = [_take(builder, picture, along(there, y, u + n), _short, 8) for n in range(2)]
                    pairs = builder.shuffle_vector(*lines, _vector(*[n // 2 + 8 * (n % 2) for n in range(LANES)]))
                    for v in range(taps):
                        if 0 <= y - v < side:
                            apart = builder.sub(pairs, wanted[v, u])
                            totals[y - v].append(_products(context, builder, apart, apart))
            for a, parts in enumerate(totals):
                before = _take(builder, sums, _index(8 * a), _index, 8)
                pointer = builder.bitcast(builder.gep(sums, [_index(8 * a)]), before.type.as_pointer())
                added = builder.add(before, builder.sext(reduce(builder.add, parts), before.type))
                builder.store(added, pointer).align = 8
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(picture, i64, i64, i64, sums), generate

    @intrinsic
    def surroundings(typing: Any, picture: Any, mask: Any, at: Any, here: Any, width: Any, weights: Any) -> Any:
        """Of the 5 x 5 pixels around one the weighted sums of R, G and B and of the weights, int32: of those that are
        known, then of those that are hole.

        `picture` has rows of 3 `width` numbers, uint8 or uint16, and `mask` rows of `width`, uint8, not 0 = hole; in
        them the pixel is at `at` and `here`. They go on, beyond the two pixels right of it, for one and for three
        numbers. `weights`, int32 (2, 5, LANES), are of what is known and of what is hole: three times that of each
        pixel of a row, and 0.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            picture, mask, weights = _data(context, builder, signature, arguments, 0, 1, 5)
            _, _, at, here, width, _ = arguments
            number = ir.IntType(signature.args[0].dtype.bitwidth)
            nothing = _vector(*[0] * LANES)
            totals: list[list[list[Any]]] = [[[], []], [[], []]]
            for row in range(5):
                down = builder.mul(width, _index(row - 2))
                along = builder.add(at, builder.sub(builder.mul(down, _index(3)), _index(6)))
                values = builder.zext(_take(builder, picture, along, number, LANES), nothing.type)
                line = _take(builder, mask, builder.add(here, builder.sub(down, _index(2))), _byte, 8)
                threes = _part(builder, line, [min(n // 3, 5) for n in range(LANES)])
                hole = builder.icmp_unsigned("!=", threes, _vector(*[0] * LANES, element=_byte))
                for kind, (sums, counts) in enumerate(totals):
                    own = _take(builder, weights, _index((5 * kind + row) * LANES), _word, LANES)
                    weight = builder.select(hole, *((own, nothing) if kind else (nothing, own)))
                    sums.append(builder.mul(values, weight))
                    counts.append(weight)
            results = []
            for kinds in totals:
                for parts, needed in zip(kinds, (3, 1), strict=True):
                    total = reduce(builder.add, parts)
                    pixels = [_part(builder, total, [3 * m, 3 * m + 1, 3 * m + 2, LANES - 1]) for m in range(5)]
                    added = reduce(builder.add, pixels)
                    results += [builder.extract_element(added, _word(c)) for c in range(needed)]
            return context.make_tuple(builder, signature.return_type, results)

        i64, result = types.int64, types.Tuple([types.int32] * 8)  # type: ignore[no-untyped-call]
        return result(picture, mask, i64, i64, i64, weights), generate

    @intrinsic
    def bits(typing: Any, array: Any, place: Any) -> Any:
        """Which of the 64 numbers of `array`, uint8, from `place` on are not 0: int64, the first its lowest bit."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            (data,) = _data(context, builder, signature, arguments, 0)
            loaded = _take(builder, data, arguments[1], _byte, 64)
            return builder.bitcast(builder.icmp_unsigned("!=", loaded, _vector(*[0] * 64, element=_byte)), _index)

        return types.int64(array, types.int64), generate

    @intrinsic
    def count(typing: Any, word: Any) -> Any:
        """How many bits of an int64 are set."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.ctpop(arguments[0])

        return types.int64(types.int64), generate

    @intrinsic
    def lowest(typing: Any, word: Any) -> Any:
        """The number of the lowest bit of an int64 that is set; some is."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

        return types.int64(types.int64), generate


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
