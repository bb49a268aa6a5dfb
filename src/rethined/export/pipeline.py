"""The engine as one ONNX file: photo and mask of any size in, filled photo out, every stage inside.

Written around the exported core with plain operators (opset 18, no custom ones), so that ONNX Runtime runs it on
every platform, browsers included. The loops of `rethined.search` and `rethined.upscale` become tables: the
surroundings of all cells are rows (im2col), candidates are rows gathered from it, and a choice is an ArgMin. Numbers
that a choice depends on are integers here as there, so that sources are the same: int64, or floats below 2^24.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from rethined import rim, search, upscale, weights, windows
from rethined.config import ModelConfig
from rethined.engine import Engine
from rethined.errors import BackendError, InputError, RethinedWarning, WeightsError
from rethined.image import write_atomic
from rethined.masks import free_form

OPSET = 18
CHUNK = 2**14
"""Hole pixels written at a time: bounds the memory of the last stage."""
BORDERS = 2**12
"""Sides of cells that regions are fitted to at a time: bounds the memory of that stage."""
STRIP = 32
"""Rows of the low-resolution image made at a time: bounds the memory of the first."""
ANCESTORS = 14
"""Halvings in which texture of a hole's surroundings is looked for: enough for a photo 2^14 times as long as high."""
CHECKED = ((512, 512, 0.2), (768, 1024, 0.2), (2048, 2048, 0.02), (301, 1201, 0.05), (33, 20, 0.2))
"""Height and width, and about what part of them is hole: where it is little there are several windows."""
SHARE = 1e-3
"""Of hole pixels that may differ from the engine's by more than one grey level."""
TRIES = 6
"""Pictures of a size that are filled until they agree in one. Within the pipeline ONNX Runtime may add up some
network's sums in another order; the last bit of a query then decides, now and then, between two sources, and all that
follows from it. A graph that computes something else agrees in none."""

FLOAT, DOUBLE, INT, BOOL, BYTE = (
    TensorProto.FLOAT,
    TensorProto.DOUBLE,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.UINT8,
)


def export_pipeline(name: str, core: bytes, out: Path) -> dict[str, float]:
    """Write the pipeline around `core`, an ONNX core written by our exporter and called `name`, to `out`, and its
    sha256 to `out`.sha256.

    Returns by size the share of hole pixels more than one grey level from the engine's.

    Raises:
        InputError: a core of one size, or one that attends instead of searching.
        WeightsError: not such a core.
        BackendError: more than `SHARE` of hole pixels differ, or a known one; nothing is written.
        OutputError: a file cannot be written.
    """
    data = to_pipeline(name, core)
    difference = compare(core, data)
    if max(difference.values()) > SHARE:
        raise BackendError(f"the ONNX pipeline disagrees with the engine ({difference}); nothing is written")
    checksum = f"{hashlib.sha256(data).hexdigest()}  {out.name}\n".encode()
    write_atomic(out, data, overwrite=True)
    write_atomic(out.with_name(f"{out.name}.sha256"), checksum, overwrite=True)
    return difference


def compare(core: bytes, data: bytes) -> dict[str, float]:
    """By size: the share of hole pixels that the pipeline fills more than one grey level apart from the engine, in
    the first of at most TRIES pictures with no more than SHARE, else the least; 1 if it changes a known pixel."""
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "core.onnx"
        path.write_bytes(core)
        engine = Engine(path)
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    shares = {}
    for index, (height, width, share) in enumerate(CHECKED):
        apart = 1.0
        for turn in range(TRIES):
            rng = np.random.default_rng(index + turn * len(CHECKED))
            image = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8).repeat(8, 0).repeat(8, 1)
            noise = rng.integers(0, 99, (height, width, 3), np.uint8)
            image = np.ascontiguousarray(image[:height, :width]) // 2 + noise
            hole = free_form(height, width, rng, coverage=(0.7 * share, 1.5 * share))
            if index % 2:  # something dark, of which the mask leaves a rim
                image[cv2.dilate(hole.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] //= 8
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RethinedWarning)  # in the least picture there is nothing to copy
                want = engine(image, hole)
            (got,) = session.run(None, {"image": image, "mask": hole.astype(np.uint8) * 255})
            if not (got[~hole] == image[~hole]).all():
                apart = 1.0
                break
            apart = min(apart, float((np.abs(got.astype(int) - want).max(-1) > 1)[hole].mean()))
            if apart <= SHARE:
                break
        shares[f"{width}x{height}"] = apart
    return shares


class Value:
    """A tensor of the graph. Python integers beside it are int64, Python floats float32."""

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def __add__(self, other: Operand) -> Value:
        return self.graph.op("Add", self, other)

    def __radd__(self, other: Operand) -> Value:
        return self.graph.op("Add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", self, other)

    def __rsub__(self, other: Operand) -> Value:
        return self.graph.op("Sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", self, other)

    def __rmul__(self, other: Operand) -> Value:
        return self.graph.op("Mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Value:
        return self.graph.op("Div", other, self)

    def __floordiv__(self, other: Operand) -> Value:
        """Of integers that are not negative: ONNX cuts towards zero."""
        return self.graph.op("Div", self, other)

    def __mod__(self, other: Operand) -> Value:
        return self.graph.op("Mod", self, other)

    def __lt__(self, other: Value | int | float) -> Value:
        return self.graph.op("Less", self, other)

    def __ge__(self, other: Value | int | float) -> Value:
        return self.graph.op("GreaterOrEqual", self, other)

    def __gt__(self, other: Value | int | float) -> Value:
        return self.graph.op("Greater", self, other)

    def __and__(self, other: Operand) -> Value:
        return self.graph.op("And", self, other)

    def __or__(self, other: Operand) -> Value:
        return self.graph.op("Or", self, other)

    def __invert__(self) -> Value:
        return self.graph.op("Not", self)


Operand = Value | int | float | np.ndarray


class Graph:
    """Writes nodes one after another, within a loop's body where one is open."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[tuple[str, tuple[int, ...], bytes], onnx.TensorProto] = {}
        self._numbers = itertools.count()

    def constant(self, value: int | float | np.ndarray) -> Value:
        array = (
            value
            if isinstance(value, np.ndarray)
            else np.array(value, np.float32 if isinstance(value, float) else np.int64)
        )
        key = str(array.dtype), array.shape, array.tobytes()
        if key not in self.initializers:
            self.initializers[key] = numpy_helper.from_array(array, f"c{len(self.initializers)}")
        return Value(self, self.initializers[key].name)

    def name(self, operand: Operand) -> str:
        return (operand if isinstance(operand, Value) else self.constant(operand)).name

    def op(self, kind: str, *inputs: Operand, name: str | None = None, **attributes: Any) -> Value:
        """One node of one output."""
        return self.ops(kind, 1, *inputs, name=name, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: Operand, name: str | None = None, **attributes: Any) -> list[Value]:
        outputs = [f"v{next(self._numbers)}" for _ in range(count)]
        names = [self.name(operand) for operand in inputs]
        self.nodes.append(helper.make_node(kind, names, outputs, name or f"{kind}_{outputs[0]}", **attributes))
        return [Value(self, output) for output in outputs]

    def loop(
        self,
        count: Operand,
        body: Callable[..., Sequence[Value]],
        *state: tuple[Value, int],
        scan: Sequence[int] = (),
        ends: bool = False,
    ) -> list[Value]:
        """`body(i, *state)` `count` times, returning the next state and what is collected: the last state, and the
        collections. `state` are pairs of a value and its type, `scan` the types of what is collected. A body that
        `ends` returns first whether to go on."""
        with self._body() as nodes:
            i, going = (Value(self, f"v{next(self._numbers)}") for _ in range(2))
            given = [Value(self, f"v{next(self._numbers)}") for _ in state]
            returned = body(self.op("Reshape", i, np.zeros(0, np.int64)), *given)
            again, *returned = returned if ends else (going, *returned)
            outputs = [self.op("Identity", value) for value in (again, *returned)]
        kinds = [BOOL, *(kind for _, kind in state)]
        graph = helper.make_graph(
            nodes,
            f"body{next(self._numbers)}",
            [helper.make_tensor_value_info(i.name, INT, [])]
            + [helper.make_tensor_value_info(v.name, k, None) for v, k in zip((going, *given), kinds, strict=True)],
            [helper.make_tensor_value_info(v.name, k, None) for v, k in zip(outputs, [*kinds, *scan], strict=True)],
        )
        begin = [value for value, _ in state]
        return self.ops("Loop", len(returned), count, np.array(True), *begin, body=graph)

    @contextmanager
    def _body(self) -> Iterator[list[onnx.NodeProto]]:
        outer, self.nodes = self.nodes, []
        yield self.nodes
        self.nodes = outer

    # Operators by the names NumPy has for them.

    def cast(self, value: Operand, kind: int) -> Value:
        return self.op("Cast", value, to=kind)

    def where(self, condition: Value, yes: Operand, no: Operand) -> Value:
        return self.op("Where", condition, yes, no)

    def gather(self, data: Operand, indices: Operand, axis: int = 0) -> Value:
        return self.op("Gather", data, indices, axis=axis)

    def dims(self, *sizes: Operand) -> Value:
        """A shape, of integers and scalars."""
        return self.op("Concat", *(self.op("Reshape", size, np.array([1])) for size in sizes), axis=0)

    def reshape(self, value: Value, *sizes: Operand) -> Value:
        return self.op("Reshape", value, self.dims(*sizes))

    def transpose(self, value: Value, *order: int) -> Value:
        return self.op("Transpose", value, perm=list(order))

    def sum(self, value: Value, *axes: int) -> Value:
        return self.op("ReduceSum", value, np.array(axes), keepdims=0)

    def concat(self, *values: Operand, axis: int, name: str | None = None) -> Value:
        return self.op("Concat", *values, axis=axis, name=name)

    def unsqueeze(self, value: Value, *axes: int) -> Value:
        return self.op("Unsqueeze", value, np.array(axes))

    def arange(self, count: Operand) -> Value:
        return self.op("Range", 0, count, 1)

    def full(self, shape: Value, value: int | float) -> Value:
        array = np.array([value], np.float32 if isinstance(value, float) else np.int64)
        return self.op("ConstantOfShape", shape, value=numpy_helper.from_array(array))

    def nonzero(self, value: Value) -> Value:
        """Indices of what is not 0 in a vector."""
        return self.reshape(self.op("NonZero", value), -1)

    def clip(self, value: Value, low: Operand, high: Operand) -> Value:
        return self.op("Min", self.op("Max", value, low), high)

    def pool(self, value: Value, rows: int, columns: int, *, border: bool) -> Value:
        """Maxima (h, w) of the surroundings, of as many cells; within the picture alone, or of all that `border`."""
        pads = [0, 0] if border else [rows // 2, columns // 2]
        four = self.unsqueeze(value, 0, 1)
        pooled = self.op("MaxPool", four, kernel_shape=[rows, columns], pads=pads * 2)
        return self.op("Squeeze", pooled, np.array((0, 1)))


def to_pipeline(name: str, core: bytes) -> bytes:
    """The pipeline around a core, arguments and errors as of `export_pipeline`: inputs `image` (height, width, 3)
    uint8 RGB and `mask` (height, width) uint8, from 128 on to be filled; output `result` like `image`."""
    try:
        model = onnx.load_from_string(core)
    except DecodeError as error:
        raise WeightsError(f"{name} is not an ONNX file; give one written by `rethined export onnx`") from error
    facts = {entry.key: entry.value for entry in model.metadata_props}
    config = weights.config(name, facts)
    # By another name than a core has it, so that nobody takes this for one.
    facts["rethined.pipeline"] = facts.pop("rethined.config")
    if not config.search:
        raise InputError(
            f"{name} attends by itself (search off), and a pipeline searches; give one that was trained to search, "
            "or fill with this one, exported to onnx, by `rethined inpaint --weights`"
        )
    sides = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim[2:]]
    if any(sides):
        raise InputError(
            f"{name} takes {sides[0]}x{sides[1]} alone and a pipeline any size; give a core exported without --size"
        )
    model = onnx.compose.add_prefix(model, "core/")
    g = Graph()
    image, mask = Value(g, "image"), Value(g, "mask")
    result = pipeline(g, model.graph, config, image, mask)
    g.nodes.append(helper.make_node("Identity", [result.name], ["result"], "result"))
    shape: list[str | int | None] = ["height", "width", 3]
    graph = helper.make_graph(
        g.nodes,
        "rethined",
        [
            helper.make_tensor_value_info("image", BYTE, shape),
            helper.make_tensor_value_info("mask", BYTE, shape[:2]),
        ],
        [helper.make_tensor_value_info("result", BYTE, shape)],
        [*g.initializers.values(), *model.graph.initializer],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    made = helper.make_model(
        graph,
        producer_name="rethined",
        doc_string="Fills the hole of a photograph of any size: RETHINED, every stage from photo and mask to result",
        opset_imports=opsets,
        ir_version=model.ir_version,
    )
    facts["rethined.inputs"] = json.dumps(
        {
            "image": "(height, width, 3) uint8 RGB",
            "mask": "(height, width) uint8, 128 and more = hole",
            "result": "(height, width, 3) uint8; pixels outside the hole are those of image",
        }
    )
    for key in sorted(facts):
        made.metadata_props.add(key=key, value=facts[key])
    onnx.checker.check_model(made)
    return bytes(made.SerializeToString(deterministic=True))


def pipeline(g: Graph, core: onnx.GraphProto, config: ModelConfig, image: Value, mask: Value) -> Value:
    """Top to bottom as `Engine.__call__`."""
    # Concat refuses masks of another size, and its name says why. It would pass over what has no pixels: there an
    # index is out of bounds before.
    shift = g.constant(np.array(7, np.uint8))
    for name, value in (("image_must_have_pixels", image), ("mask_must_have_the_size_of_image_and_pixels", mask)):
        empty = g.cast(g.op("Equal", g.op("Size", value), 0), INT)
        shift = g.op("Gather", g.op("Reshape", shift, np.array([1])), empty, name=name)
    bits = g.op("BitShift", mask, shift, direction="RIGHT")
    both = g.concat(image, g.unsqueeze(bits, 2), axis=2, name="mask_must_have_the_size_of_image")
    height, width = (g.gather(g.op("Shape", image), axis) for axis in (0, 1))
    found = find_windows(g, g.gather(both, 3, axis=2), height, width, config.stride)

    def fill(i: Value, both: Value) -> tuple[Value]:
        """What one window shows, filled, in its place; what it fills for good is then no hole."""
        halves, top, bottom, left, right, rows, columns, *holes = (g.gather(g.gather(found, i), n) for n in range(11))
        corner, end = g.dims(top, left), g.dims(bottom, right)
        part = g.op("Slice", both, corner, end, np.array((0, 1)))
        filled = fill_window(g, core, config, part, halves, rows, columns)
        inside = [
            (axis >= begin) & (axis < end)
            for axis, begin, end in (
                (g.unsqueeze(g.arange(bottom - top) + top, 1), *holes[:2]),
                (g.arange(right - left) + left, *holes[2:]),
            )
        ]
        open_ = g.where(inside[0] & inside[1], np.array(0, np.uint8), g.gather(part, 3, axis=2))
        part = g.concat(filled, g.unsqueeze(open_, 2), axis=2)
        for axis, begin, end, length in ((1, left, right, width), (0, top, bottom, height)):
            lines = both if axis == 0 else g.op("Slice", both, g.dims(top), g.dims(bottom), np.array([0]))
            before = g.op("Slice", lines, np.array([0]), g.dims(begin), np.array([axis]))
            after = g.op("Slice", lines, g.dims(end), g.dims(length), np.array([axis]))
            part = g.concat(before, part, after, axis=axis)
        return (part,)

    (result,) = g.loop(g.gather(g.op("Shape", found), 0), fill, (both, BYTE))
    return g.gather(result, np.arange(3), axis=2)


def fill_window(
    g: Graph, core: onnx.GraphProto, config: ModelConfig, both: Value, halves: Value, rows: Value, columns: Value
) -> Value:
    """The photo of `both` (height, width, 4), what a window shows of photo and mask, with its holes filled; on a grid
    of `rows` x `columns`."""
    height, width = (g.gather(g.op("Shape", both), axis) for axis in (0, 1))
    image, bits = g.gather(both, np.arange(3), axis=2), g.gather(both, 3, axis=2)
    small, holes, detail = shrink(g, both, halves, rows, columns, height, width, config.patch_size)
    small, holes, detail, spared = hide(g, small, holes, detail, rows, columns, config.patch_size)
    for name, value in (("image", small), ("mask", holes), ("detail", detail)):
        if name == "detail" and not config.detail:
            continue
        four = g.unsqueeze(g.transpose(value, 2, 0, 1), 0) if name != "mask" else g.unsqueeze(value, 0, 1)
        g.nodes.append(helper.make_node("Identity", [four.name], [f"core/{name}"], f"core/{name}"))
    g.nodes.extend(core.node)
    # (1, C, rows, columns) -> (rows * columns, C)
    low, query, key = (
        g.transpose(g.reshape(Value(g, f"core/{name}"), channels, -1), 1, 0)
        for name, channels in (("low", 3), ("query", config.key_dim), ("key", config.key_dim))
    )
    rows, columns = rows // search.CELL, columns // search.CELL
    levels = pyramid(g, small, holes, low, query, key, rows, columns)
    found: Found | None = None
    for number in reversed(range(search.LEVELS)):
        found = search_level(g, levels[number], number, found)
    assert found is not None
    finest = levels[0]
    source = g.where(finest.known, g.arange(rows * columns), g.gather(found.source, found.place))
    side = halves * search.CELL // 2
    place = places(g, source, align(g, small, source, finest, found.any), finest, halves)
    lacking = correction(g, low, place, finest, found.any, side)
    return holes_filled(g, image, bits, place, finest, found.any, lacking, side, width, spared, halves)


def whole(g: Graph, height: Value, width: Value, stride: int) -> tuple[Value, Value]:
    """`rethined.windows.whole`: all factors up to the photo's, in halves (K,), and the pixels of its grid."""
    # A grid of 256 x 256 pixels, whatever its shape, is small enough with its padding, or one stride high or wide.
    enough = g.cast(g.op("Sqrt", g.cast(height * width, DOUBLE)), INT) // 256 + 2
    halves = g.op("Range", 2, enough * 2, 1)
    allowed = g.op("Equal", halves % 2, 0) | (halves < 2 * windows.WHOLE)
    halves = g.gather(halves, g.nonzero(g.cast(allowed, INT)))
    hs, ws = ((side * 2 + halves * stride - 1) // (halves * stride) * stride for side in (height, width))
    largest = g.op("Max", halves * windows.GRID_GROWTH, 2 * windows.GRID)
    fits = (hs * ws * 2 < largest + 1) | g.op("Equal", g.op("Min", hs, ws), stride)
    first = g.op("ArgMax", g.cast(fits, FLOAT), axis=0, keepdims=1)
    return g.op("Slice", halves, np.array([0]), first + 1), g.gather(hs * ws, g.op("Squeeze", first))


def find_windows(g: Graph, bits: Value, height: Value, width: Value, stride: int) -> Value:
    """`rethined.windows.find`: of each window (W, 11) the factor in halves, begin and end of its rows and of its
    columns, rows and columns of its grid, and begin and end of the rows and columns that it fills for good."""
    photo = height, width, stride, *whole(g, height, width, stride)
    block = windows.BLOCK
    pads = g.dims(0, 0, (block - height % block) % block, (block - width % block) % block)
    h, w = ((side + block - 1) // block for side in (height, width))
    padded = g.reshape(g.op("Pad", bits, pads), h, block, w, block)
    blocks = g.cast(g.op("ReduceMax", padded, np.array((1, 3)), keepdims=0), INT)

    def any_(blocks: Value) -> Value:
        return g.cast(g.sum(blocks, 0, 1) > 0, INT)

    def factor(table: Value) -> Value:
        return g.gather(g.gather(table, 0), 0)

    table = finest(g, blocks, *photo, windows.LEVELS)
    halves = factor(table)
    sources = squares(g, 1 - blocks, halves * windows.SOURCE // (2 * block) + 1)
    few = g.cast(g.sum(sources, 0, 1), INT) * windows.SCARCE < g.sum(1 - blocks, 0, 1)
    fenced = g.cast(few & (halves > 2), INT)

    # What runs once or not at all are loops: bodies of no turn take no time.
    def apart(_: Value, table: Value) -> tuple[Value]:
        fourth = g.op("Slice", padded, np.array([0]), np.array([block]), np.array([1]), np.array([4]))
        full = g.op("ReduceMin", fourth, np.array((1, 3)), keepdims=0)
        bar = halves * (fenced * (windows.BAR - windows.THIN) + windows.THIN) // (2 * block)
        thick = thick_blocks(g, blocks, full, bar)
        thin = blocks - thick

        def finer(_: Value, table: Value) -> tuple[Value]:
            thickest = halves * windows.THIN // (2 * block) * block
            found = finest(g, thin, *photo, windows.THIN_LEVELS, windows.THIN_SHARE, thickest)
            better = g.cast(factor(found) < factor(table), INT)

            def others(_: Value, found: Value) -> tuple[Value]:
                return (g.concat(found, finest(g, thick, *photo, windows.LEVELS), axis=0),)

            (found,) = g.loop(better * any_(thick), others, (found, INT))
            one, other = (g.gather(g.op("Shape", value), 0) for value in (table, found))
            first, last = g.dims(one * better), g.dims(one + other * better)
            return (g.op("Slice", g.concat(table, found, axis=0), first, last, np.array([0])),)

        (table,) = g.loop(any_(thin), finer, (table, INT))
        return (table,)

    turns = g.op("Max", fenced, g.cast(halves >= int(2 * windows.FINE), INT))
    (table,) = g.loop(turns, apart, (table, INT))
    return table


def squares(g: Graph, blocks: Value, side: Value) -> Value:
    """`rethined.windows._squares`, by their first blocks instead of their middles; (h, w) floats."""

    def shrink(_: Value, found: Value) -> tuple[Value]:
        found = g.op("Pad", found, np.array((0, 0, 1, 1)))
        return (1.0 - g.pool(1.0 - found, 2, 2, border=True),)

    (found,) = g.loop(side - 1, shrink, (g.cast(blocks, FLOAT), FLOAT))
    return found


def thick_blocks(g: Graph, blocks: Value, full: Value, side: Value) -> Value:
    """`rethined.windows._thick`: what hangs together with the first block of a full square."""
    blocks = g.cast(blocks, FLOAT)

    def grow(i: Value, found: Value) -> tuple[Value, Value]:
        grown = g.pool(found, 3, 3, border=False) * blocks
        return g.op("ReduceMax", grown - found, keepdims=0) > 0.0, grown

    (found,) = g.loop(g.op("Size", blocks), grow, (squares(g, full, side), FLOAT), ends=True)
    return g.cast(found, INT)


def finest(
    g: Graph,
    blocks: Value,
    height: Value,
    width: Value,
    stride: int,
    factors: Value,
    budget: Value,
    levels: int,
    share: int = 1,
    thickest: Value | None = None,
) -> Value:
    """`rethined.windows._finest`, as `find_windows` returns windows, of at most `share` times the `budget`; if holes
    are known to be no thicker than `thickest`, pixels, each of no more than that where it can be cut.

    Boxes are numbered as in a heap: those that box n is cut into are 2 n + 1 and 2 n + 2.
    """
    boxes, thickness, cuttable, crossing = tree(g, blocks, levels)
    thickness = thickness if thickest is None else g.op("Min", thickness, thickest)

    # All factors at once, (K, boxes).
    halves = g.unsqueeze(factors, 1)
    margin = g.op("Max", halves * windows.MARGIN // 2, thickness)
    edges = [g.gather(boxes, n, axis=1) * windows.BLOCK for n in range(4)]
    edges[1], edges[3] = g.op("Min", edges[1], height), g.op("Min", edges[3], width)
    shown = []
    for begin, end, length in ((*edges[:2], height), (*edges[2:], width)):
        first = g.op("Max", begin - margin, 0)
        reach = g.op("Min", end + margin, length) - first
        multiple = halves * stride // 2
        least = g.op("Min", (multiple - 1 + length) // multiple, windows.LEAST)
        count = g.op("Max", (reach + multiple - 1) // multiple, least)
        size = g.op("Min", count * multiple, length)
        first = g.op("Min", g.op("Max", first - (size - reach) // 2, 0), length - size)
        shown.append((first, first + size, count * stride))
    cells = shown[0][2] * shown[1][2]

    def level(values: Value, depth: int) -> Value:
        """(K, 2 ** depth)"""
        return g.op("Slice", values, np.array([2**depth - 1]), np.array([2 ** (depth + 1) - 1]), np.array([1]))

    may = g.cast(cuttable & (crossing * 2 < halves * windows.CROSSING + 1) & (cells > windows.EXTRA), INT)
    must = None if thickest is None else g.cast(cuttable & (cells > budget), INT)
    best, cuts = level(cells, levels), [g.full(g.dims(2**levels), 0)]
    for depth in reversed(range(levels)):
        own, two = level(cells, depth), g.sum(g.reshape(best, -1, 2**depth, 2), 2) + windows.EXTRA
        cheaper = (level(may, depth) > 0) & (two < own)
        if must is not None:
            cheaper = cheaper | (level(must, depth) > 0)
        best, cuts = g.where(cheaper, two, own), [g.cast(cheaper, INT), *cuts]
    chosen = g.op("ArgMax", g.cast(best < budget * share + 1, FLOAT), axis=0, keepdims=0)  # (1,)

    # Of boxes that are cut no further the numbers, from 1 on, in the order of their places in the last level.
    slots, active = g.full(g.dims(2**levels), 0), g.constant(np.array([1]))
    for depth, cut in enumerate(cuts):
        cut = g.reshape(g.gather(cut, chosen), -1) if depth < levels else cut
        numbers = (active - active * cut) * np.arange(2**depth, 2 ** (depth + 1))
        after = np.array((0, 0, 0, 2 ** (levels - depth) - 1))
        slots = slots + g.reshape(g.op("Pad", g.unsqueeze(numbers, 1), after), -1)
        active = g.reshape(g.op("Expand", g.unsqueeze(active * cut, 1), np.array((1, 2))), -1)
    picked = g.gather(slots, g.nonzero(slots)) - 1
    every = np.array([2**levels]), np.array([0]), np.array([2])  # end, axis, step
    picked = g.concat(*(g.op("Slice", picked, np.array([first]), *every) for first in (0, 1)), axis=0)
    (rows, bottom, h), (columns, right, w) = shown
    seen = (g.gather(value, chosen) for value in (rows, bottom, columns, right, h, w))
    table = [g.op("Expand", g.gather(factors, chosen), g.op("Shape", picked))]
    table += [g.reshape(g.gather(value, picked, axis=1), -1) for value in seen]
    table += [g.gather(edge, picked) for edge in edges]
    return g.concat(*(g.unsqueeze(line, 1) for line in table), axis=1)


def tree(g: Graph, blocks: Value, levels: int) -> tuple[Value, Value, Value, Value]:
    """`rethined.windows._Node` of all boxes after at most `levels` cuts: edges in blocks (boxes, 4), how thick the
    hole is, whether it may be cut and what that crosses, (boxes,), in pixels. Those of which another may not be made
    are of no account."""
    block, (h, w) = windows.BLOCK, (g.gather(g.op("Shape", blocks), axis) for axis in (0, 1))
    # Before every line: blocks whose hole goes on beyond it.
    pairs = []
    for axis, before in ((0, np.array((1, 0, 0, 0))), (1, np.array((0, 1, 0, 0)))):
        one = g.op("Slice", blocks, np.array([1]), g.dims(h if axis == 0 else w), np.array([axis]))
        other = g.op("Slice", blocks, np.array([0]), np.array([-1]), np.array([axis]))
        pairs.append(g.op("Pad", one * other, before))

    def box(i: Value, boxes: Value, valid: Value) -> tuple[Value, ...]:
        """The next two states, and of box `i` what is returned."""
        top, bottom, left, right = (g.gather(g.gather(boxes, i), n) for n in range(4))
        part = g.op("Slice", blocks, g.dims(top, left), g.dims(bottom, right), np.array((0, 1)))
        ends = []
        for axis, begin in ((1, top), (0, left)):
            line = g.op("ReduceMax", part, np.array([axis]), keepdims=0)
            first, last = (g.op("ArgMax", line, axis=0, keepdims=0, select_last_index=n) for n in (0, 1))
            ends += [begin + first, begin + last + 1]
        top, bottom, left, right = ends
        part = g.op("Slice", blocks, g.dims(top, left), g.dims(bottom, right), np.array((0, 1)))
        high = (bottom - top) >= (right - left)
        count = g.op("Max", bottom - top, right - left)
        thick = g.sum(part, 0, 1) * block // count
        cuts = []
        for axis, begin, (first, last) in ((0, top, (left, right)), (1, left, (top, bottom))):
            across = g.op("Slice", pairs[axis], g.dims(first), g.dims(last), np.array([1 - axis]))
            crossed = g.sum(across, 1 - axis)
            at = g.arange(g.gather(g.op("Shape", crossed), 0)) - begin
            first_cut = g.op("Max", count // 4, 1)
            central = g.op("Abs", at * 2 - count)
            middle = (at >= first_cut) & (at < count - first_cut + 1)
            best = g.op("ArgMin", g.where(middle, crossed * 2**20 + central, 2**50), axis=0, keepdims=0)
            cuts.append((best, g.gather(crossed, best)))
        cut, crossed = (g.where(high, one, other) for one, other in zip(*cuts, strict=True))
        may = (g.gather(valid, i) > 0) & (count * block > 2 * windows.MARGIN) & (i < 2**levels - 1)
        tight = g.dims(top, bottom, left, right)
        halves = g.concat(
            g.where(may, g.where(high, g.dims(top, cut, left, right), g.dims(top, bottom, left, cut)), tight),
            g.where(may, g.where(high, g.dims(cut, bottom, left, right), g.dims(top, bottom, cut, right)), tight),
            axis=0,
        )
        places = g.unsqueeze(g.dims(i * 2 + 1, i * 2 + 2), 1)
        boxes = g.op("ScatterND", boxes, places, g.reshape(halves, 2, 4))
        valid = g.op("ScatterND", valid, places, g.op("Expand", g.cast(may, INT), np.array([2])))
        return boxes, valid, tight, thick, may, crossed * block

    count = 2 ** (levels + 2) - 1  # those after the last level are not looked at
    boxes = g.op("Expand", g.dims(0, h, 0, w), np.array((count, 4)))
    _, _, tight, thickness, may, crossing = g.loop(
        2 ** (levels + 1) - 1, box, (boxes, INT), (g.full(g.dims(count), 1), INT), scan=(INT, INT, BOOL, INT)
    )
    return tight, thickness, may, crossing


def shrink(
    g: Graph, both: Value, halves: Value, h: Value, w: Value, height: Value, width: Value, patch: int
) -> tuple[Value, Value, Value]:
    """`Upscaler.shrink`, strip by strip: image (h, w, 3), holes (h, w), detail (h / patch, w / patch, 6)."""
    copies = halves % 2 + 1  # of every pixel along both axes, so that boxes are whole
    scale = halves * copies // 2
    pads = g.dims(0, 0, 0, h * scale // copies - height, w * scale // copies - width, 0)
    padded = g.op("Pad", both, pads, np.array(1, np.uint8))  # beyond the border all is hole
    half, at = scale // 2, g.arange(scale)
    signs = g.cast(at < half, FLOAT) - g.cast(at >= scale - half, FLOAT)
    halves = g.concat(g.unsqueeze(g.cast(at >= 0, FLOAT), 0), g.unsqueeze(signs, 0), axis=0)  # (2, scale)
    one, pixels = g.constant(np.array(1.0)), g.cast(scale * scale * 255, DOUBLE)
    gain = g.cast(one / pixels, FLOAT)

    def strip(i: Value) -> tuple[Value, Value, Value]:
        count = scale * STRIP // copies
        begin = g.reshape(i * count, 1)
        lines = g.op("Slice", padded, begin, begin + g.reshape(count, 1), np.array([0]))
        lines = g.op("Expand", g.unsqueeze(lines, 1, 3), g.dims(1, copies, 1, copies, 1))
        lines = g.cast(g.reshape(lines, STRIP, scale, -1), FLOAT)
        rows = g.reshape(g.op("MatMul", halves, lines), STRIP, 2, w, scale, 4)
        whole, vertical = (g.gather(rows, k, axis=1) for k in (0, 1))  # (STRIP, w, scale, 4)
        sums, down = g.sum(whole, 2), g.sum(vertical, 2)
        across = g.sum(whole * g.unsqueeze(signs, 1), 2)
        colours = np.arange(3)
        hole = g.cast(g.gather(sums, 3, axis=2) > 0.0, FLOAT)
        known = g.unsqueeze(1.0 - hole, 2)
        differences = g.concat(g.gather(across, colours, axis=2), g.gather(down, colours, axis=2), axis=2)
        # Squares of whole numbers, exact in doubles: in whatever order they are summed, the same.
        differences = g.cast(differences * known, DOUBLE)
        blocks = g.reshape(differences * differences, STRIP // patch, patch, w // patch, patch, 6)
        return g.gather(sums, colours, axis=2) * gain * known, hole, g.sum(blocks, 1, 3)

    small, holes, energy = g.loop(h // STRIP, strip, scan=(FLOAT, FLOAT, DOUBLE))
    detail = g.op("Sqrt", g.reshape(energy, h // patch, w // patch, 6)) / g.cast(
        g.op("Max", half * scale * (2 * 255 * patch), 1), DOUBLE
    )
    return g.reshape(small, h, w, 3), g.reshape(holes, h, w), g.cast(detail, FLOAT)


def hide(
    g: Graph, small: Value, holes: Value, detail: Value, h: Value, w: Value, patch: int
) -> tuple[Value, Value, Value, Value]:
    """`rethined.rim.hide`: what `shrink` returned, with the rim made part of the hole; and (h * w,), as bits, where
    nothing is mended."""
    grown = near = holes
    for _ in range(rim.HOLE - 1):
        grown = g.pool(grown, 3, 3, border=False)
        near = near + grown
    found = rims(g, grey(g, small), near, h, w)
    known = 1.0 - found
    patches = g.op("MaxPool", g.unsqueeze(found, 0, 1), kernel_shape=[patch] * 2, strides=[patch] * 2)
    detail = detail * (1.0 - g.reshape(patches, h // patch, w // patch, 1))
    spared = g.reshape(g.pool(found, 3, 3, border=False), -1) > 0.0
    return small * g.unsqueeze(known, 2), g.op("Max", holes, found), detail, spared


def rims(g: Graph, grey: Value, near: Value, h: Value, w: Value) -> Value:
    """`rethined.rim.find`, (h, w), 1.0 = rim; `grey` and `near`, the rings' marks, (h, w) floats."""
    some = (near >= float(rim.FAR)) & (near < float(rim.HOLE))
    some = some & g.op("Equal", (g.unsqueeze(g.arange(h), 1) + g.arange(w)) % 2, 0)
    where = g.op("NonZero", some)  # (2, N)
    y, x = (g.gather(where, axis) for axis in (0, 1))
    line = w + 2
    at = (y + 1) * line + x + 1
    marks, greys = (g.reshape(g.op("Pad", g.cast(values, INT), np.full(4, 1)), -1) for values in (near, grey))
    beside = g.unsqueeze(at, 0) + g.unsqueeze(g.concat(g.dims(line * -1), np.array((-1, 1)), g.dims(line), axis=0), 1)
    own = g.gather(marks, at)
    outer = g.cast(g.op("Equal", g.gather(marks, beside), own - 1), INT)  # (4, N)
    count, total = g.sum(outer, 0), g.sum(outer * g.gather(greys, beside), 0)
    mean = (total * 2 + count) // g.op("Max", count * 2, 1)
    any_ = g.cast(count > 0, INT)

    arc = rim.ARC
    down, across = h // arc, w // arc  # whole, as the grid is
    place = (own * down + y // arc) * across + x // arc
    none = g.full(g.dims(down * across * rim.HOLE), 0)

    def around(values: Value) -> Value:
        """(HOLE, h / ARC, w / ARC) sums by ring of 3 x 3 blocks; floats are exact below 2^24."""
        sums = g.op("ScatterElements", none, place, values, axis=0, reduction="add")
        sums = g.reshape(g.cast(sums, FLOAT), rim.HOLE, 1, down, across)
        sums = g.op("Conv", sums, np.ones((1, 1, 3, 3), np.float32), pads=[1, 1, 1, 1])
        return g.reshape(g.cast(sums, INT), rim.HOLE, down, across)

    counts = around(any_)
    means = around(g.op("Abs", g.gather(greys, at) - mean) * any_) * rim.PARTS // g.op("Max", counts, 1)
    times, unit = rim.TIMES
    least = g.gather(means, rim.FAR) * times + unit * rim.PARTS * rim.MORE
    inner: Operand = rim.HOLE
    for ring in reversed(range(rim.FAR + 1, rim.HOLE)):
        inner = g.where((g.gather(means, ring) * unit > least) & (g.gather(counts, rim.FAR) > 0), ring - 1, inner)
    for axis, side in ((0, h), (1, w)):
        inner = g.gather(inner, g.arange(side) // arc, axis)
    return g.cast((near >= g.cast(inner, FLOAT)) & (near < float(rim.HOLE)), FLOAT)


def grey(g: Graph, small: Value) -> Value:
    """R + G + B (h, w) of `small` (h, w, 3), of white 765, whole floats."""
    reds, greens, blues = (g.gather(small, c, axis=2) for c in range(3))
    return g.op("Floor", (reds + greens + blues) * 255.0 + 0.5)


class Level:
    """The picture at one size; vectors are of all cells in reading order."""

    def __init__(self, g: Graph, h: Value, w: Value, values: Value, known: Value, query: Value, key: Value) -> None:
        self.h, self.w, self.count = h, w, h * w
        self.values = values
        """(h * w, CHANNELS) float, integers."""
        self.known_map = known
        """(h, w) float."""
        self.known = g.reshape(known, -1) > 0.0
        self.query, self.key = query, key
        """(rows, key_dim) float, integers; of which cell row `patch` tells."""
        self.patch = g.arange(self.count)
        self.depth = g.reshape(depths(g, known), -1)


class Found:
    """Sources of a level's targets: what `rethined.search.search` returns."""

    def __init__(self, any_: Value, place: Value, source: Value) -> None:
        self.any = any_
        """Whether there was anything to copy from; if not, sources are 0."""
        self.place = place
        """(h * w,): position in `source`, -1 of cells that are no targets."""
        self.source = source
        """(targets + 1,): the last is 0, which is what -1 finds."""


def pyramid(
    g: Graph, small: Value, holes: Value, low: Value, query: Value, key: Value, rows: Value, columns: Value
) -> list[Level]:
    """`rethined.search.pyramid`; `low`, `query`, `key` are (cells or patches, channels)."""
    described, known = describe(g, small, holes, rows, columns)
    bits = g.reshape(known, -1, 1) > 0.0
    guess = g.op("Floor", g.clip(low, 0.0, 1.0) * float(search.WHITE) + 0.5)
    texture = from_ancestors(g, g.gather(described, np.array((3, 4)), axis=1), known, rows, columns)
    values = g.where(bits, described, g.concat(guess, texture, axis=1))
    q, k = (g.op("Round", vectors * float(search.UNIT)) for vectors in (query, key))
    levels = [Level(g, rows, columns, values, known, q, k)]
    at = levels[0].patch
    levels[0].patch = (at // columns) // 2 * (columns // 2) + at % columns // 2
    for number in range(1, search.LEVELS):
        if number > 1:
            q, k = (means(g, vectors, rows, columns) for vectors in (q, k))
        values = means(g, values, rows, columns)
        known = g.cast(g.sum(g.reshape(known, rows // 2, 2, columns // 2, 2), 1, 3) > 3.5, FLOAT)
        rows, columns = rows // 2, columns // 2
        levels.append(Level(g, rows, columns, values, known, q, k))
    return levels


def means(g: Graph, values: Value, rows: Value, columns: Value) -> Value:
    """Rounded means of 2 x 2 cells of `values` (rows * columns, C)."""
    blocks = g.reshape(values, rows // 2, 2, columns // 2, 2, -1)
    total = g.sum(blocks, 1, 3)
    return g.op("Floor", (g.reshape(total, rows * columns // 4, -1) + 2.0) * 0.25)


def describe(g: Graph, small: Value, holes: Value, rows: Value, columns: Value) -> tuple[Value, Value]:
    """`rethined.search._describe`: (cells, CHANNELS), and (rows, columns), 1.0 = known."""
    side = search.CELL
    blocks = g.transpose(g.reshape(small, rows, side, columns, side, 3), 1, 3, 0, 2, 4)
    pixels = g.ops("Split", side**2, g.reshape(blocks, side**2, -1, 3), axis=0, num_outputs=side**2)
    pixels = [g.reshape(pixel, -1, 3) for pixel in pixels]  # [side * y + x], (cells, 3)
    greys = []
    for pixel in pixels:
        r, green, b = (g.gather(pixel, c, axis=1) for c in range(3))
        greys.append(r + green + b)

    def added(terms: Sequence[Value]) -> Value:
        """One by one: float sums depend on their order."""
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def differences(step: int, y_end: int, x_end: int) -> Value:
        pairs = [(side * y + x, side * y + x + step) for y in range(y_end) for x in range(x_end)]
        return added([g.op("Abs", greys[a] - greys[b]) for a, b in pairs])

    def rounded(sums: Value, unit: float) -> Value:
        return g.op("Floor", sums * unit + 0.5)

    white, count = search.WHITE, 3 * side * (side - 1)
    textures = [differences(1, side, side - 1), differences(side, side - 1, side)]
    parts = [rounded(added(pixels), white / side**2)] + [
        g.unsqueeze(g.op("Min", rounded(texture, white * search.TEXTURE / count), float(white)), 1)
        for texture in textures
    ]
    hole = g.op("MaxPool", g.unsqueeze(holes, 0, 1), kernel_shape=[side, side], strides=[side, side])
    known = 1.0 - g.reshape(hole, rows, columns)
    return g.concat(*parts, axis=1) * g.reshape(known, -1, 1), known


def from_ancestors(g: Graph, values: Value, known: Value, rows: Value, columns: Value) -> Value:
    """`rethined.search._surround`, (rows * columns, C)."""
    count = g.reshape(known, rows, columns, 1)
    sums = g.concat(g.reshape(values, rows, columns, -1) * count, count, axis=2)
    pyramid, h, w = [sums], rows, columns
    for _ in range(ANCESTORS):
        sums = g.op("Pad", sums, g.dims(0, 0, 0, h % 2, w % 2, 0))
        h, w = (h + 1) // 2, (w + 1) // 2
        sums = g.sum(g.reshape(sums, h, 2, w, 2, -1), 1, 3)
        pyramid.append(sums)
    channels = np.arange(2)
    filled: Value | None = None
    for number in reversed(range(ANCESTORS + 1)):
        y, x = (g.arange(side) // 2**number for side in (rows, columns))
        here = g.gather(g.gather(pyramid[number], y), x, axis=1)
        total, some = g.gather(here, channels, axis=2), g.gather(here, np.array([2]), axis=2)
        mean = g.op("Floor", (total * 2.0 + some) / (g.op("Max", some, 1.0) * 2.0))
        filled = mean if filled is None else g.where(some > 0.0, mean, filled)
    assert filled is not None
    return g.reshape(filled, rows * columns, -1)


def depths(g: Graph, known: Value) -> Value:
    """City-block distance to the nearest known cell (h, w) float; as far as it matters."""
    deepest = max(*search.INHERITED, len(search.WEIGHTS), 4)
    reached, depth = known, 1.0 - known
    for _ in range(deepest - 1):
        reached = g.op("Max", g.pool(reached, 3, 1, border=False), g.pool(reached, 1, 3, border=False))
        depth = depth + (1.0 - reached)
    return depth


def pseudo_random(cell: Value, number: Operand) -> tuple[Value, Value]:
    """`rethined.search.pseudo_random`"""
    x = (cell * 7919 + (number * 104729 + 12345)) % 65521
    return x * 17364 % 65521, x * 31337 % 65521


def search_level(g: Graph, level: Level, number: int, above: Found | None) -> Found:
    """`rethined.search.search`; where nothing is known well enough it finds zeros, and says so."""
    h, w, reach = level.h, level.w, search.REACH
    side = 2 * reach + 1
    hole_map = 1.0 - level.known_map
    border = g.op("Pad", hole_map, np.full(4, reach), 1.0)
    valid_bits = 1.0 - g.reshape(g.pool(border, side, side, border=True), -1)
    valid = valid_bits > 0.0
    choices = g.nonzero(valid_bits)
    count = g.gather(g.op("Shape", choices), 0)
    near = g.reshape(g.pool(hole_map, 3, 3, border=False), -1)
    targets = g.nonzero(near)
    total = g.gather(g.op("Shape", targets), 0)
    place = g.where(near > 0.0, g.op("CumSum", g.cast(near, INT), 0) - 1, -1)
    y0, x0 = targets // w, targets % w
    first, _ = pseudo_random(targets, 64 * 64 + number)
    source = g.gather(g.concat(choices, np.array([0]), axis=0), first * count // 65521)
    any_ = count > 0
    radius = g.op("Max", h, w)
    hole = g.nonzero(g.reshape(hole_map, -1))
    if above is not None:
        radius = radius // g.where(above.any, 4, 1)
        deep = (level.depth >= float(search.INHERITED[number])) & above.any
        source = inherited(g, level, above, valid, deep, targets, source)

    # Surroundings as rows of a table: indices into the picture with a border, and what must be added for each.
    steps = np.arange(-reach, reach + 1)
    dy, dx = (steps.repeat(side), np.tile(steps, side))
    cells = g.arange(level.count)
    wide = w + 2 * reach
    around = g.unsqueeze((cells // w + reach) * wide + cells % w + reach, 1) + (g.constant(dy) * wide + dx)
    offsets = g.constant(dy) * w + dx
    straight = np.flatnonzero(abs(dy) + abs(dx) == 1)
    pads = np.array((reach, reach, 0, reach, reach, 0))

    def table(values: Value) -> Value:
        """(h * w, side * side * CHANNELS)"""
        padded = g.reshape(g.op("Pad", g.reshape(values, h, w, search.CHANNELS), pads), -1, search.CHANNELS)
        return g.reshape(g.gather(padded, around), -1, side**2 * search.CHANNELS)

    counts = g.gather(
        np.array(search.WEIGHTS, np.float32),
        g.cast(g.op("Min", level.depth, float(len(search.WEIGHTS) - 1)), INT),
    )
    counts = g.op("Pad", g.reshape(counts, h, w), np.full(4, reach))
    weight = g.gather(g.reshape(counts, -1), g.gather(around, targets))  # (N, side * side)
    affinity = g.op("Floor", (g.sum(weight, 1) * float(search.AFFINITY) + 8.0) * (1 / 16))
    affinity = affinity + float(search.LEAST_AFFINITY)
    spread = np.kron(np.eye(side**2, dtype=np.float32), np.ones((1, search.CHANNELS), np.float32))
    share = g.op("MatMul", weight, spread)  # (N, side * side * CHANNELS)
    asked = g.gather(level.query, g.gather(level.patch, targets))  # (N, D)
    fair = g.cast(g.op("Max", search.OFTEN, search.FAIR * total // g.op("Max", count, 1)), FLOAT)

    def price(rows: Value, mine: Value, offers: Value, owners: Value | None = None) -> Value:
        """(P,) of `offers` (P,), cells, to the targets at `owners` (P,) of the list; by default to all in turn."""
        own, counted, asking, worth = (
            value if owners is None else g.gather(value, owners) for value in (mine, share, asked, affinity)
        )
        difference = g.gather(rows, offers) - own
        product = g.sum(g.gather(level.key, g.gather(level.patch, offers)) * asking, 1)
        return g.sum(difference * difference * counted, 1) + worth * g.op("Max", float(search.UNIT**2) - product, 0.0)

    def inside(y: Value, x: Value) -> Value:
        return (y >= 0) & (y < h) & (x >= 0) & (x < w)

    neighbours = np.array([(n // 3 - 1, n % 3 - 1) for n in range(9) if n != 4])
    tried = len(neighbours) + 3

    def improve(
        rows: Value, mine: Value, uses: Value, jump: Value, counter: Value, source: Value, cost: Value
    ) -> tuple[Value, Value]:
        """`rethined.search._improve`: what neighbours and others propose at once, then guesses one by one."""
        by, bx = g.constant(neighbours[:, 0]) * jump, g.constant(neighbours[:, 1]) * jump
        y, x = g.unsqueeze(y0, 1) + by, g.unsqueeze(x0, 1) + bx  # (N, 8)
        exists = inside(y, x)
        there = g.where(exists, g.gather(place, g.where(exists, y * w + x, 0)), -1)
        taken = g.gather(source, g.op("Max", there, 0))
        sy, sx = taken // w - by, taken % w - bx
        # How far the sources of the four neighbours are from them; 0, as never here, if they copy nothing.
        away = g.where(place >= 0, g.gather(g.concat(source, np.array([0]), axis=0), place) - cells, 0)
        away = g.reshape(g.op("Pad", g.reshape(away, h, w), np.full(4, reach)), -1)
        beside = g.gather(away, g.gather(g.gather(around, targets), straight, axis=1))  # (N, 4)

        def apart(offers: Value, owners: Value | None = None) -> Value:
            """What seams and repeats cost."""
            theirs, cell, dear, before = (
                value if owners is None else g.gather(value, owners) for value in (beside, targets, affinity, source)
            )
            same = g.op("Equal", theirs, g.unsqueeze(offers - cell, 1))
            seams = (4.0 - g.sum(g.cast(same, FLOAT), 1)) * float(search.SEAM)
            others = g.gather(uses, offers) - g.cast(g.op("Equal", offers, before), FLOAT)
            crowded = g.clip(others - fair, 0.0, float(search.MOST)) * float(search.CROWD)
            crowded = g.clip(others, 0.0, float(search.OFTEN)) + crowded
            return dear * (seams + crowded * float(search.REPEAT))

        across, down = pseudo_random(targets, counter * 16 + search.STRAIGHT)
        random, _ = pseudo_random(targets, counter * 16 + search.ALIKE)
        alike = random * total // 65521
        other, copied = g.gather(targets, alike), g.gather(source, alike)
        fy, fx = y0 + copied // w - other // w, x0 + copied % w - other % w
        fy, fx = (
            g.concat(*(g.unsqueeze(value, 1) for value in values), axis=1)
            for values in ((y0, down % h, fy), (across % w, x0, fx))
        )
        own = g.unsqueeze(source, 1)
        offers = g.concat(allowed(own, sy, sx, there >= 0), allowed(own, fy, fx, None), axis=1)
        offers = g.reshape(offers, -1)
        # Most propose what one has already: only others are priced.
        other = g.nonzero(g.reshape(g.cast(~g.op("Equal", g.reshape(offers, -1, tried), own), INT), -1))
        others, owners = g.gather(offers, other), other // tried
        prices = price(rows, mine, others, owners) + apart(others, owners)
        dear = g.full(g.op("Shape", offers), 3e38)
        prices = g.reshape(g.op("ScatterElements", dear, other, prices), -1, tried)
        first = g.op("ArgMin", prices, axis=1, keepdims=1)
        least, best = (
            g.reshape(g.op("GatherElements", values, first, axis=1), -1)
            for values in (prices, g.reshape(offers, -1, tried))
        )
        cost = cost + apart(source)
        better = least < cost
        best, least = g.where(better, best, source), g.where(better, least, cost)

        def guess(i: Value, best: Value, least: Value, reach: Value) -> tuple[Value, Value, Value]:
            a, b = pseudo_random(targets, counter * 16 + i)
            span = reach * 2 + 1
            sy, sx = best // w + a % span - reach, best % w + b % span - reach
            other = allowed(best, sy, sx, None)
            cost = price(rows, mine, other) + apart(other)
            better = cost < least
            return g.where(better, other, best), g.where(better, cost, least), g.op("Max", reach // 2, 1)

        narrow = g.op("Max", radius // search.NARROW, 1)
        distance = g.where(g.op("Equal", counter % 2, 1), narrow, radius)
        best, least, _ = g.loop(search.GUESSES[number], guess, (best, INT), (least, FLOAT), (distance, INT))
        return best, least - apart(best)

    def allowed(otherwise: Value, sy: Value, sx: Value, also: Value | None) -> Value:
        """Cells at `sy`, `sx`; where one is none, or its surroundings are not known, `otherwise`."""
        good = inside(sy, sx) if also is None else inside(sy, sx) & also
        offer = g.where(good, sy * w + sx, 0)
        return g.where(good & g.gather(valid, offer), offer, otherwise)

    powers = 2 ** np.arange(16, -1, -1)

    def draw(values: Value, source: Value, cost: Value, some: Value) -> Value:
        """`rethined.search._vote` of the cells `some`."""
        price = g.cast(cost, INT)
        mean = g.op("Max", g.sum(price, 0) // g.op("Max", total, 1), 1)
        votes = g.gather(powers, g.op("Min", price * search.DECISION // mean, 16))
        padded = g.op("Pad", g.reshape(place, h, w), np.full(4, reach), -1)
        n = g.gather(g.reshape(padded, -1), g.gather(around, some))  # (R, side * side)
        there = n >= 0
        n = g.op("Max", n, 0)
        vote = g.unsqueeze(g.where(there, g.gather(votes, n), 0), 2)
        copied = g.clip(g.gather(source, n) - offsets, 0, level.count - 1)
        sums = g.sum(g.cast(g.gather(values, copied), INT) * vote, 1)  # (R, CHANNELS)
        all_ = g.sum(vote, 1)
        drawn = (sums * 2 + all_) // (all_ * 2)
        return g.op("ScatterND", values, g.unsqueeze(some, 1), g.cast(drawn, FLOAT))

    values = level.values
    for turn in range(-1 if above is not None else 0, search.ROUNDS):
        rows = table(values)
        mine = g.gather(rows, targets)
        cost = price(rows, mine, source)
        if turn < 0:
            deep_cells = g.nonzero(g.cast(deep, FLOAT) * g.reshape(hole_map, -1))
            values = draw(values, source, cost, deep_cells)
            continue
        jumps = np.array(search.JUMPS[turn])
        counter = (number * 8 + turn) * 8
        # How many targets copy each cell; as in the engine, what a round's own steps change does not count in it.
        ones, none = g.full(g.op("Shape", source), 1), g.full(g.dims(level.count), 0)
        uses = g.cast(g.op("ScatterElements", none, source, ones, axis=0, reduction="add"), FLOAT)

        def step(i: Value, source: Value, cost: Value) -> tuple[Value, Value]:
            return improve(rows, mine, uses, g.gather(jumps, i), i + counter, source, cost)  # noqa: B023

        source, cost = g.loop(len(jumps), step, (source, INT), (cost, FLOAT))
        if turn < search.ROUNDS - 1:
            values = draw(values, source, cost, hole)
    return Found(any_, place, g.concat(source, np.array([0]), axis=0))


def inherited(
    g: Graph, level: Level, above: Found, valid: Value, deep: Value, targets: Value, otherwise: Value
) -> Value:
    """`rethined.search.inherited`; `deep` (h * w,)."""
    h, w = level.h, level.w
    y, x = targets // w, targets % w
    there = g.gather(above.place, y // 2 * (w // 2) + x // 2)
    taken = g.gather(above.source, there)
    sy, sx = taken // (w // 2) * 2 + y % 2, taken % (w // 2) * 2 + x % 2
    result, open_ = otherwise, g.gather(deep, targets) & (there >= 0)
    for dy, dx in search.NEARBY:
        ny, nx = sy + dy, sx + dx
        good = open_ & (ny >= 0) & (ny < h) & (nx >= 0) & (nx < w)
        offer = g.where(good, ny * w + nx, 0)
        good = good & g.gather(valid, offer)
        result, open_ = g.where(good, offer, result), open_ & ~good
    return result


def regions(g: Graph, shift: Value, level: Level) -> tuple[Value, Value, Value]:
    """`rethined.search._regions`: the region of every cell, and how many there are, which is also what known cells
    have; and of each the shift, 0 after the last. `shift` of every cell, 0 where known."""
    cells, hole = g.arange(level.count), ~g.op("Equal", shift, 0)
    sides = [(g.gather(shift, there), there) for there in beside(g, level)]
    joined = [(g.op("Equal", theirs, shift) & hole, there) for theirs, there in sides]

    def spread(i: Value, root: Value) -> tuple[Value, Value]:
        """The smallest neighbour's of the same region, then its root's."""
        least = root
        for same, there in joined:
            least = g.op("Min", least, g.where(same, g.gather(root, there), root))
        least = g.gather(least, least)
        return g.op("ReduceMax", g.cast(least < root, INT), keepdims=0) > 0, least

    (root,) = g.loop(level.count, spread, (cells, INT), ends=True)
    begins = g.cast(g.op("Equal", root, cells) & hole, INT)
    count = g.sum(begins, 0)
    region = g.where(hole, g.gather(g.op("CumSum", begins, 0), root) - 1, count)
    return region, count, g.concat(g.gather(shift, g.nonzero(begins)), np.array([0]), axis=0)


def beside(g: Graph, level: Level) -> list[Value]:
    """The cells above, left of, right of and below every cell; itself beyond the border."""
    cells = g.arange(level.count)
    y, x = cells // level.w, cells % level.w
    inside = (y > 0, level.w * -1), (x > 0, -1), (x < level.w - 1, 1), (y < level.h - 1, level.w)
    return [g.where(exists, cells + step, cells) for exists, step in inside]


def align(g: Graph, small: Value, source: Value, level: Level, any_: Value) -> Value:
    """`rethined.search.align`, (h * w, 2) of all cells, 0 of known ones; `small` (h, w, 3) in pixels."""
    w, cell, reach = level.w, search.CELL, search.NUDGE
    side = 2 * reach + 1  # moves, down and across, are numbers a * side + b, as `_nudge` counts them
    away = np.abs(np.arange(side) - reach)
    stay = g.constant(search.STAY * (away[:, None] + away).reshape(-1, 1))
    line = w * cell + 2 * reach
    pixels = g.reshape(g.op("Pad", grey(g, small), np.full(4, reach)), -1)  # (h cell + 2 reach) x line

    cells = g.arange(level.count)
    shift = g.where(level.known | ~any_, 0, source - cells)
    region, count, own = regions(g, shift, level)
    others = g.concat(*(g.unsqueeze(there, 1) for there in beside(g, level)), axis=1)  # (h * w, 4)
    border = ~g.op("Equal", g.gather(region, others), g.unsqueeze(region, 1))
    border = border & ~g.op("Equal", g.unsqueeze(shift, 1), 0)
    border = g.nonzero(g.reshape(g.cast(border, INT), -1))
    mine, beyond = g.gather(region, border // 4), g.gather(g.reshape(others, -1), border)
    known = g.op("Equal", g.gather(shift, beyond), 0)
    ones = g.full(g.op("Shape", mine), 1)
    sizes = g.op("ScatterElements", g.full(g.dims(count + 1), 0), mine, ones, axis=0, reduction="add")

    def corner(cells: Value) -> Value:
        """Of cells, in `pixels` but for the margin."""
        return (cells // w * line + cells % w) * cell

    def square(length: int) -> Value:
        return g.reshape(g.unsqueeze(g.constant(np.arange(length)), 1) * line + np.arange(length), -1, 1)

    around, within = square(side + cell - 1), square(cell)

    def fitted(offers: Value, some: Value, moves: Value) -> Value:
        """`offers` (side * side, regions), with what the borders `some` add if all regions have moved by `moves`."""
        total = g.gather(g.op("Shape", some), 0)

        def chunk(i: Value, offers: Value) -> tuple[Value]:
            begin = g.reshape(i * BORDERS, 1)
            part = g.op("Slice", some, begin, begin + BORDERS, np.array([0]))  # (B,)
            q, r = g.gather(beyond, part), g.gather(mine, part)
            there, moved = corner(q + g.gather(own, r)), g.gather(moves, g.gather(region, q))
            copied = corner(g.gather(source, q)) + moved // side * line + moved % side
            offered = g.reshape(g.gather(pixels, around + there), side + cell - 1, side + cell - 1, -1)
            wanted = g.gather(pixels, within + copied)  # (cell * cell, B)
            cost: Value | None = None
            for v, u in itertools.product(range(cell), repeat=2):
                pixel = g.op("Slice", offered, np.array((v, u)), np.array((v + side, u + side)), np.array((0, 1)))
                difference = pixel - g.gather(wanted, cell * v + u)
                squares = difference * difference
                cost = squares if cost is None else cost + squares
            assert cost is not None
            costs = g.cast(g.reshape(cost, side**2, -1), INT)  # floats are exact below 2^24; their sums are not
            r = g.op("Expand", r, g.op("Shape", costs))
            return (g.op("ScatterElements", offers, r, costs, axis=1, reduction="add"),)

        (offers,) = g.loop((total + BORDERS - 1) // BORDERS, chunk, (offers, INT))
        return offers

    def of(offers: Value, moves: Value) -> Value:
        return g.reshape(g.op("GatherElements", offers, g.unsqueeze(moves, 0), axis=0), -1)

    def cheapest(offers: Value, moves: Value) -> Value:
        """`moves` (regions,) where none is cheaper, or the first of the cheapest."""
        first = g.op("ArgMin", offers, axis=0, keepdims=0)
        return g.where(of(offers, first) < of(offers, moves), first, moves)

    moves = g.full(g.dims(count + 1), reach * (side + 1))  # none
    start = fitted(stay * g.unsqueeze(sizes, 0), g.nonzero(g.cast(known, INT)), moves)
    between = g.nonzero(g.cast(~known, INT))
    moves, offers = cheapest(start, moves), start
    for _ in range(search.NUDGES - 1):
        offers = fitted(start, between, moves)
        moves = cheapest(offers, moves)

    least, parts = of(offers, moves), []
    for at, step in ((moves // side, side), (moves % side, 1)):
        lower, upper = (of(offers, g.clip(moves + d, 0, side**2 - 1)) - least for d in (-step, step))
        exists = (at > 0) & (at < side - 1) & (lower > 0) & (upper > 0)
        total = g.where(exists, lower + upper, 1)
        half = search.FINE // 2
        fine = ((lower - upper) * half + total * half) // total - half  # never negative before the division
        parts.append(g.unsqueeze((at - reach) * search.FINE + g.where(exists, fine, 0), 1))
    return g.gather(g.concat(*parts, axis=1), region)


def places(g: Graph, source: Value, moves: Value, level: Level, halves: Value) -> Value:
    """`rethined.search.Sources.place`, (h * w, 2) of all cells: known ones are their own source."""
    corner = g.concat(g.unsqueeze(source // level.w, 1), g.unsqueeze(source % level.w, 1), axis=1)
    beyond = search.NUDGE + 1  # no move is that long
    moved = (moves * halves + search.FINE + halves * (2 * search.FINE * beyond)) // (
        2 * search.FINE
    ) - halves * beyond
    return corner * (halves * search.CELL // 2) + moved


def correction(g: Graph, low: Value, place: Value, level: Level, any_: Value, side: Value) -> Value:
    """`rethined.search.correction`, (h * w, 3); the low band itself where there is nothing to copy. `place` of cells
    of `side` pixels."""
    h, w, count = level.h, level.w, level.count
    cells = g.arange(count)
    y, x = cells // w, cells % w
    near = g.clip((4.0 - level.depth) / 2.5, 0.0, 1.0)
    spot = g.cast(place, FLOAT) / g.cast(side, FLOAT)
    rows, columns = (g.gather(spot, axis, axis=1) for axis in (0, 1))

    def sample(dy: int, dx: int) -> Value:
        """`rethined.search._sample`: (h * w, 3) of the low band, that far from each cell's place."""
        taps = []
        for at, length in ((rows + float(dy), h), (columns + float(dx), w)):
            at = g.clip(at, 0.0, g.cast(length - 1, FLOAT))  # outside is only what is not used
            before = g.cast(at, INT)
            after = g.op("Min", before + 1, length - 1)
            taps.append((before, after, g.unsqueeze(at - g.cast(before, FLOAT), 1)))
        (top, bottom, f), (left, right, r) = taps
        one, two, three, four = (
            g.gather(low, row * w + column) * (across * down)
            for row, down in ((top, 1.0 - f), (bottom, f))
            for column, across in ((left, 1.0 - r), (right, r))
        )
        return one + two + three + four

    def total(products: Value) -> Value:
        red, green, blue = (g.gather(products, c, axis=1) for c in range(3))
        return red + green + blue

    copied = sample(0, 0)
    wanted: Operand = 0.0
    rough: Operand = 0.0
    number: Operand = 0.0
    for (dy, dx), there in zip(((-1, 0), (0, -1), (0, 1), (1, 0)), beside(g, level), strict=True):
        exists = g.cast(~g.op("Equal", there, cells), FLOAT)
        onward, back = copied - sample(dy, dx), g.gather(sample(-dy, -dx) - copied, there)
        known = g.unsqueeze(g.gather(level.known, there), 1)
        mean = (onward + back) * 0.5
        jump = copied - g.gather(copied, there) - mean
        before, after = (
            g.gather(low, g.clip(y + n * dy, 0, h - 1) * w + g.clip(x + n * dx, 0, w - 1)) for n in (-2, 3)
        )
        size = total(jump * jump)
        part = g.op("Min", g.op("Max", total((before - after) * jump) * 2.0, 0.0), size) * size
        joint = mean + g.unsqueeze(part / (size * size + float(search.EDGE)), 1) * jump
        wanted = wanted + g.where(known, onward, joint) * g.unsqueeze(exists, 1)
        rough = rough + total(onward * onward) * exists
        number = number + exists
    trusted = (4.0 * (near * near) + float(search.TRUST)) * (rough / (rough + float(search.SMOOTH)))
    wanted = wanted + g.unsqueeze(trusted, 1) * low
    share = trusted + number
    planes = [g.reshape(g.transpose(values, 1, 0), 3, 1, h, w) for values in (low, wanted)]
    gain, rest = float(search.RELAXATION) / g.reshape(share, 1, 1, h, w), float(np.float32(1) - search.RELAXATION)
    odd = (y + x) % 2
    hole = ~level.known
    turns = [g.reshape(g.op("Equal", odd, parity) & hole, 1, 1, h, w) for parity in (0, 1)]
    # Above, before, after and below in a grid with a margin of one: in this order, as sums of floats depend on it.
    sides = [(np.array((dy, dx)), g.dims(h + dy, w + dx)) for dy, dx in ((0, 1), (1, 0), (1, 2), (2, 1))]

    def sweep(i: Value, joined: Value) -> tuple[Value]:
        for turn in turns:
            padded = g.op("Pad", joined, np.array((0, 0, 1, 1, 0, 0, 1, 1)))
            above, before, after, below = (g.op("Slice", padded, *ends, np.array((2, 3))) for ends in sides)
            around = above + before + after + below
            joined = g.where(turn, joined * rest + gain * (planes[1] + around), joined)
        return (joined,)

    (joined,) = g.loop(search.SWEEPS, sweep, (planes[0], FLOAT))
    joined = g.transpose(g.reshape(joined, 3, -1), 1, 0)
    lacking = g.where(g.unsqueeze(hole, 1), joined - copied, 0.0)
    return g.where(any_, lacking, low)


def holes_filled(
    g: Graph,
    image: Value,
    bits: Value,
    place: Value,
    level: Level,
    any_: Value,
    lacking: Value,
    side: Value,
    width: Value,
    spared: Value,
    halves: Value,
) -> Value:
    """`Upscaler.fill`: `image` with its hole pixels, a chunk at a time, replaced; all but those in `spared`, of a
    grid of as many half pixels, are mended."""
    h, w = level.h, level.w
    cells = g.unsqueeze(g.arange(level.count), 1)
    # What each quarter of a cell hears: itself, the neighbour beside, the one above or below, and both.
    quarters = [(v, u) for v in (-1, 1) for u in (-1, 1)]
    dy = np.array([v * e for v, _ in quarters for e in (0, 0, 1, 1)])
    dx = np.array([u * e for _, u in quarters for e in (0, 1, 0, 1)])

    def inside(y: Value, x: Value) -> Value:
        return (y >= 0) & (y < h) & (x >= 0) & (x < w)

    y, x = cells // w + dy, cells % w + dx  # (h * w, 16)
    there = inside(y, x)
    n = g.where(there, y * w + x, 0)
    top, left = (g.gather(g.gather(place, k, axis=1), n) - side * step for k, step in ((0, dy), (1, dx)))
    sy, sx = ((begin + side // 2 + side) // side - 1 for begin in (top, left))  # the nearest cell
    there = there & ~g.gather(level.known, n) & inside(sy, sx) & any_
    there = there & g.gather(level.known, g.where(there, sy * w + sx, 0))
    origin = g.reshape(g.where(there, top * width + left, 0), -1, 4)
    heard = g.reshape(g.cast(there, FLOAT), -1, 4)

    where = g.op("NonZero", bits)  # (2, P)
    count = g.gather(g.op("Shape", where), 1)
    chunks = count // CHUNK + 1
    padded = g.op("Pad", where, g.dims(0, 0, 0, chunks * CHUNK - count))
    flat, open_ = g.reshape(image, -1, 3), g.reshape(bits, -1)
    height = g.gather(g.op("Shape", image), 0)
    half, period, coarse = side // 2, side * 2, lacking * 255.0
    # How much a cell's own copy counts, a triangle over twice its side; the rest is its neighbour's. Sums of whole
    # numbers are exact.
    ramp = g.cast(period - g.op("Abs", (g.arange(side) + half) * 2 + 1 - period), FLOAT)

    def axis(at: Value, cells: Value) -> tuple[Value, Value, Value, Value, tuple[Value, ...]]:
        """Along one axis: the cell (B,), the pixel in it, whether that is in the second half, how much own and
        neighbour are heard (B, 2), and the two cells between which `lacking` is interpolated, with the second's
        share (B, 1)."""
        cell = at // side
        v = at - cell * side
        own = g.unsqueeze(g.gather(ramp, v), 1)
        position = at * 2 + 1 + side
        index = position // period
        fraction = g.cast(position - index * period, FLOAT) / g.cast(period, FLOAT)
        taps = g.op("Max", index - 1, 0), g.op("Min", index, cells - 1), g.unsqueeze(fraction, 1)
        return cell, v, g.cast(v >= half, INT), g.concat(own, g.cast(period, FLOAT) - own, axis=1), taps

    def copies(part: Value) -> Value:
        """What is copied to the pixels `part` (2, B), rows and columns: (B, 3)."""
        cy, v, lower, vertical, (top, bottom, fy) = axis(g.gather(part, 0), h)
        cx, u, right, horizontal, (west, east, fx) = axis(g.gather(part, 1), w)
        quarter = ((cy * w + cx) * 2 + lower) * 2 + right
        both = g.reshape(g.unsqueeze(vertical, 2) * g.unsqueeze(horizontal, 1), -1, 4)
        share = g.unsqueeze(g.gather(heard, quarter) * both, 1)  # (B, 1, 4)
        pixel = g.gather(origin, quarter) + g.unsqueeze(v * width + u, 1)
        total = g.op("MatMul", share, g.cast(g.gather(flat, pixel), FLOAT))
        copied = g.reshape(total, -1, 3) / g.op("Max", g.sum(share, 2), 1e-4)

        def row(y: Value) -> Value:
            return g.gather(coarse, y * w + west) * (1.0 - fx) + g.gather(coarse, y * w + east) * fx

        values = copied + (row(top) * (1.0 - fy) + row(bottom) * fy)
        return g.clip(values, 0.0, 255.0) + 0.5

    def put(of: Callable[[Value], Value]) -> Value:
        """`image` with what `of` gives for its hole pixels, a chunk at a time."""

        def chunk(i: Value) -> tuple[Value]:
            begin = g.reshape(i * CHUNK, 1)
            return (g.cast(of(g.op("Slice", padded, begin, begin + CHUNK, np.array([1]))), BYTE),)

        (colours,) = g.loop(chunks, chunk, scan=(BYTE,))
        updates = g.op("Slice", g.reshape(colours, -1, 3), np.array([0]), g.reshape(count, 1), np.array([0]))
        return g.op("ScatterND", image, g.transpose(where, 1, 0), updates)

    filled = g.reshape(put(copies), -1, 3)

    def mends(part: Value) -> Value:
        """What becomes of that."""
        at = [g.gather(part, axis) * 2 // halves for axis in (0, 1)]
        stay = g.unsqueeze(g.gather(spared, at[0] * w * search.CELL + at[1]), 1)
        written = g.cast(g.gather(filled, g.gather(part, 0) * width + g.gather(part, 1)), INT)
        return g.where(stay, written, mended(g, written, part, filled, open_, height, width))

    return put(mends)


def mended(g: Graph, written: Value, part: Value, flat: Value, open_: Value, height: Value, width: Value) -> Value:
    """`Upscaler.mend`: what was `written` (B, 3) to the pixels `part` (2, B), rows and columns, brought nearer to the
    known ones of `flat` (pixels, 3), where `open_` (pixels,) is 0."""
    reach = len(upscale.BESIDE) // 2
    steps = np.arange(-reach, reach + 1)
    dy, dx = steps.repeat(len(steps)), np.tile(steps, len(steps))
    y, x = g.unsqueeze(g.gather(part, 0), 1) + dy, g.unsqueeze(g.gather(part, 1), 1) + dx  # (B, 25)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    there = g.where(inside, y * width + x, 0)
    hole = g.cast(g.gather(open_, there), INT)
    values = g.cast(g.gather(flat, there), INT)

    def mean(kind: Value, weights: NDArray[np.int64]) -> tuple[Value, Value]:
        """Of the pixels that are of a `kind` (B, 25): weighted sum (B, 3), and sum of weights (B, 1)."""
        share = kind * weights.reshape(-1)
        return g.sum(g.unsqueeze(share, 2) * values, 1), g.op("ReduceSum", share, np.array([1]), keepdims=1)

    known = g.cast(inside & g.op("Equal", hole, 0), INT)
    around, counted = mean(known, upscale.BESIDE)
    own, owned = mean(g.cast(inside, INT) * hole, np.pad(upscale.BESIDE[1:-1, 1:-1], 1))
    beside = g.gather(known, np.flatnonzero(np.maximum(abs(dy), abs(dx)) == 1), axis=1)
    direct, further = upscale.MENDED
    tenths = g.where(g.op("ReduceMax", beside, np.array([1]), keepdims=1) > 0, direct, further)
    pairs = counted * owned
    mixed = (written * 10 + 5) * pairs + tenths * (around * owned - own * counted)
    least = g.op("Max", mixed, 0)  # of integers, which below 0 are not rounded down by all
    return g.where(counted > 0, g.op("Min", least // (g.op("Max", pairs, 1) * 10), 255), written)
