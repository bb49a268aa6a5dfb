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
    tally: Any = None
    slide: Any = None
    surroundings: Any = None
    bits: Any = None
    count: Any = None
    lowest: Any = None
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

    @intrinsic
    def tally(typing: Any, values: Any, shift: Any, votes: Any, here: Any, stride: Any) -> Any:
        """For 5 numbers a cell, and 1: sums of votes[n] times those of cell here + shift[n] in `values`, int32, over
        5 x 5 cells n around cell `here` of a grid with rows of `stride` cells.

        `values` is C-contiguous int16, and goes on for 3 numbers after each cell's; `shift` and `votes` are int32.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values, shift, votes = (
                context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in range(3)
            )
            here, stride = arguments[3:]
            numbers, words = ir.VectorType(_short, 8), ir.VectorType(_word, 8)
            one = ir.Constant(words, [0] * 5 + [1, 0, 0])
            kept = ir.Constant(words, [-1] * 5 + [0] * 3)
            first = ir.Constant(words, [0] * 8)
            total = first
            for y in range(-2, 3):
                for x in range(-2, 3):
                    n = builder.add(builder.add(here, builder.mul(stride, _index(y))), _index(x))
                    vote = builder.load(builder.gep(votes, [n]))
                    there = builder.add(here, builder.sext(builder.load(builder.gep(shift, [n])), _index))
                    place = builder.gep(values, [builder.mul(there, _index(5))])
                    loaded = builder.load(builder.bitcast(place, numbers.as_pointer()))
                    loaded.align = 2
                    cell = builder.or_(builder.and_(builder.sext(loaded, words), kept), one)
                    spread = builder.insert_element(ir.Constant(words, ir.Undefined), vote, _word(0))
                    spread = builder.shuffle_vector(spread, spread, first)
                    total = builder.add(total, builder.mul(cell, spread))
            parts = [builder.extract_element(total, _word(n)) for n in range(6)]
            return context.make_tuple(builder, signature.return_type, parts)

        i64, result = types.int64, types.UniTuple(types.int32, 6)
        return result(values, shift, votes, i64, i64), generate

    @intrinsic
    def slide(typing: Any, picture: Any, there: Any, here: Any, width: Any, sums: Any) -> Any:
        """To sums[8 a + b], a and b below 7, add the sum of (picture[there + n + m] - picture[here + n])^2 over 4 x 4
        places n, m being `a` rows down and `b` numbers on.

        `picture` is C-contiguous int16 in rows of `width`, of values of at most 765, and holds a number after the 10
        of each row that are looked at from `there` on; `sums` is C-contiguous int64.
        """
        side, taps = 7, 4

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            picture, sums = (
                context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 4)
            )
            _, there, here, width, _ = arguments
            line = ir.VectorType(_short, 8)

            def take(place: Any, kind: Any) -> Any:
                loaded = builder.load(builder.bitcast(builder.gep(picture, [place]), kind.as_pointer()))
                loaded.align = 2
                return loaded

            def along(place: Any, row: int, by: int) -> Any:
                return builder.add(builder.add(place, builder.mul(width, _index(row))), _index(by))

            pairs = ir.Constant(ir.VectorType(_word, LANES), [n // 2 + 8 * (n % 2) for n in range(LANES)])
            first = ir.Constant(_words, [0] * 8)
            wanted = []
            for v in range(taps):
                for u in range(0, taps, 2):
                    pair = builder.insert_element(ir.Constant(_words, ir.Undefined), take(along(here, v, u), _word), _word(0))
                    wanted.append(builder.bitcast(builder.shuffle_vector(pair, pair, first), _shorts))
            totals = [first] * side
            for y in range(side + taps - 1):
                lines = [take(along(there, y, u), line) for u in range(taps)]
                for u in range(0, taps, 2):
                    both = builder.shuffle_vector(lines[u], lines[u + 1], pairs)
                    for v in range(taps):
                        if 0 <= y - v < side:
                            apart = builder.sub(both, wanted[v * taps // 2 + u // 2])
                            squares = _products(context, builder, apart, apart)
                            totals[y - v] = builder.add(totals[y - v], squares)
            longs = ir.VectorType(_index, 8)
            for a, total in enumerate(totals):
                place = builder.bitcast(builder.gep(sums, [_index(8 * a)]), longs.as_pointer())
                sum_ = builder.load(place)
                sum_.align = 8
                stored = builder.store(builder.add(sum_, builder.sext(total, longs)), place)
                stored.align = 8
            return context.get_dummy_value()

        i64 = types.int64
        return types.void(picture, i64, i64, i64, sums), generate

    @intrinsic
    def surroundings(typing: Any, picture: Any, mask: Any, at: Any, here: Any, width: Any, weights: Any) -> Any:
        """Of the 5 x 5 pixels around one the weighted sums of R, G and B and of the weights, int32: of those that are
        known, then of those that are hole.

        `picture` (rows of 3 `width` numbers, uint8 or uint16) and `mask` (rows of `width`, uint8, 1 = hole) are
        C-contiguous; in them the pixel is at `at` and `here`. They go on, beyond the two pixels right of it, for one
        and for four numbers. `weights`, C-contiguous int32 (2, 5, LANES), are of what is known and what is hole:
        three of each pixel of a row, and 0.
        """

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            picture, mask, weights = (
                context.make_array(signature.args[n])(context, builder, arguments[n]).data for n in (0, 1, 5)
            )
            _, _, at, here, width, _ = arguments
            byte = ir.IntType(8)
            number = ir.IntType(signature.args[0].dtype.bitwidth)
            wide, some = ir.VectorType(_word, LANES), ir.VectorType(byte, LANES)
            nothing = ir.Constant(wide, [0] * LANES)
            threes = ir.Constant(wide, [min(n // 3, 5) for n in range(LANES)])

            def take(data: Any, place: Any, element: Any, count: int) -> Any:
                kind = ir.VectorType(element, count)
                loaded = builder.load(builder.bitcast(builder.gep(data, [place]), kind.as_pointer()))
                loaded.align = element.width // 8
                return loaded

            totals = [[nothing, nothing], [nothing, nothing]]
            for row in range(5):
                down = builder.mul(width, _index(row - 2))
                along = builder.add(at, builder.sub(builder.mul(down, _index(3)), _index(6)))
                values = builder.zext(take(picture, along, number, LANES), wide)
                bits = take(mask, builder.add(here, builder.sub(down, _index(2))), byte, 8)
                hole = builder.icmp_unsigned("!=", builder.shuffle_vector(bits, bits, threes), ir.Constant(some, [0] * LANES))
                for kind, total in enumerate(totals):
                    weight = take(weights, _index((5 * kind + row) * LANES), _word, LANES)
                    pair = (weight, nothing) if kind else (nothing, weight)
                    weight = builder.select(hole, *pair)
                    total[0] = builder.add(total[0], builder.mul(values, weight))
                    total[1] = builder.add(total[1], weight)
            results = []
            for total in totals:
                for n, vector in enumerate(total):
                    parts = [
                        builder.shuffle_vector(
                            vector, vector, ir.Constant(ir.VectorType(_word, 4), [3 * m, 3 * m + 1, 3 * m + 2, LANES - 1])
                        )
                        for m in range(5)
                    ]
                    added = parts[0]
                    for part in parts[1:]:
                        added = builder.add(added, part)
                    results += [builder.extract_element(added, _word(c)) for c in range(1 if n else 3)]
            return context.make_tuple(builder, signature.return_type, results)

        i64, result = types.int64, types.UniTuple(types.int32, 8)
        return result(picture, mask, i64, i64, i64, weights), generate

    @intrinsic
    def bits(typing: Any, bytes_: Any, place: Any) -> Any:
        """Which of the 64 numbers of C-contiguous uint8 from `place` on are not 0: int64, the first its lowest bit."""

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
            kind = ir.VectorType(ir.IntType(8), 64)
            loaded = builder.load(builder.bitcast(builder.gep(data, [arguments[1]]), kind.as_pointer()))
            loaded.align = 1
            return builder.bitcast(builder.icmp_unsigned("!=", loaded, ir.Constant(kind, [0] * 64)), _index)

        return types.int64(bytes_, types.int64), generate

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
