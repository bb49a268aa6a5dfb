"""How a network wants its pixels. What a peer's range, polarity, order, size and padding are is converted here only.

Needs no PyTorch: a peer exported to ONNX is timed in a process that never imports it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rethined.backends import session_options
from rethined.bench import baselines
from rethined.errors import InputError, WeightsError

Image = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Array = NDArray[Any]
Network = Callable[[Array, Array], Array]
"""(1, 3, H, W) and (1, 1, H, W) in the network's own conventions -> (1, 3, H, W) in them."""


@dataclass(frozen=True)
class Interface:
    """One network's conventions. Hole pixels never hold what was there: they are 0 in its range, or filled."""

    image: tuple[float, float] = (0.0, 1.0)
    """What the samples 0 and 255 are in the input."""
    mask: tuple[float, float] = (0.0, 1.0)
    """What a known pixel and a hole pixel are in the mask."""
    output: tuple[float, float] | None = None
    """What the samples 0 and 255 are in the output; as in the input by default."""
    order: str = "RGB"
    """RGB or BGR, of input and output."""
    layout: str = "NCHW"
    """NCHW or NHWC (ONNX files)."""
    join: str = ""
    """`image,mask` or `mask,image` where one input takes both as four channels; empty for two inputs (ONNX files)."""
    size: int | None = None
    """Side of the square that an image of any shape is squeezed into; None runs at the image's size."""
    grows: bool = False
    """The square's side is the least whole multiple of `size` that covers the image's long side."""
    multiple: int = 1
    """Where the image keeps its size: sides are padded by mirroring to multiples of this."""
    fill: bool = False
    """Hole pixels get the nearest known pixel's colour instead of 0, for a network that blends across the border."""

    @classmethod
    def from_json(cls, text: str, source: str) -> Interface:
        """The fields of this class as a JSON object; those left out keep their defaults.

        Raises:
            InputError: no JSON object, an unknown field, or a value that cannot be; `source` says where it stood.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise InputError(f"{source} is not JSON ({error}); write an object such as {EXAMPLE}") from error
        fields = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, dict) or not values.keys() <= fields:
            unknown = ", ".join(sorted(values.keys() - fields)) if isinstance(values, dict) else type(values).__name__
            raise InputError(f"{source} has {unknown}; give an object of {', '.join(sorted(fields))}")
        for name in ("image", "mask", "output"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        interface = cls(**values)
        interface._check(source)
        return interface

    def _check(self, source: str) -> None:
        for name in ("image", "mask", "output"):
            pair = getattr(self, name)
            whole = isinstance(pair, tuple) and len(pair) == 2 and all(isinstance(v, int | float) for v in pair)
            if not (pair is None and name == "output") and (not whole or pair[0] == pair[1]):
                raise InputError(f"{source}: {name} is {pair!r}; give two different numbers, such as [0, 1]")
        for name, choices in (
            ("order", ("RGB", "BGR")),
            ("layout", ("NCHW", "NHWC")),
            ("join", ("", "image,mask", "mask,image")),
        ):
            if getattr(self, name) not in choices:
                raise InputError(f"{source}: {name} is {getattr(self, name)!r}; choose {' or '.join(choices)}")
        for name in ("size", "multiple"):
            value = getattr(self, name)
            if not (value is None and name == "size") and (type(value) is not int or not 0 < value <= 1 << 14):
                raise InputError(f"{source}: {name} is {value!r}; give a number of pixels")
        for name in ("grows", "fill"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{source}: {name} is {getattr(self, name)!r}; give true or false")
        if self.grows and self.size is None:
            raise InputError(f"{source}: grows needs a size whose multiples the square may have")

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width at which the network runs an image of `height` x `width`."""
        if self.size is not None:
            side = self.size * (-(-max(height, width) // self.size) if self.grows else 1)
            return side, side
        return -(-height // self.multiple) * self.multiple, -(-width // self.multiple) * self.multiple

    def pack(self, image: Image, mask: Mask) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Ours to the network's: float32 (1, 3, H', W') and (1, 1, H', W') with (H', W') = `shape(H, W)`.

        A pixel of a squeezed image is hole if any part of it comes from a hole.
        """
        image = _nearest_known(image, mask) if self.fill else np.where(mask[..., None], np.uint8(0), image)
        height, width = self.shape(*mask.shape)
        if self.size is not None:
            image = _resized(image, height, width)
            mask = _resized(mask.astype(np.float32), height, width) > 0
        else:
            pad = ((0, height - mask.shape[0]), (0, width - mask.shape[1]))
            image = np.pad(image, (*pad, (0, 0)), mode="symmetric")
            mask = np.pad(mask, pad, mode="symmetric")
        if self.order == "BGR":
            image = image[..., ::-1]
        black, white = self.image
        x = np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
        x *= (white - black) / 255
        x += black
        if not self.fill:
            x[:, mask] = 0
        known, hole = self.mask
        return x[None], np.where(mask, np.float32(hole), np.float32(known))[None, None]

    def unpack(self, output: Array, image: Image, mask: Mask) -> Image:
        """The network's (1, 3, H', W') to ours: at the image's size, and in the hole only."""
        black, white = self.output or self.image
        filled = np.ascontiguousarray(output[0].transpose(1, 2, 0), np.float32)
        filled -= black
        filled *= 255 / (white - black)
        if self.order == "BGR":
            filled = filled[..., ::-1]
        height, width = mask.shape
        squeezed = self.size is not None
        filled = _resized(filled, height, width, cv2.INTER_CUBIC) if squeezed else filled[:height, :width]
        return np.where(mask[..., None], np.rint(filled).clip(0, 255).astype(np.uint8), image)


EXAMPLE = '{"image": [0, 1], "mask": [0, 1], "output": [0, 255], "size": 512}'
"""What is given beside an ONNX file; this one is of the usual export of LaMa."""


@dataclass(frozen=True)
class Method:
    """A network and its conventions, in the shape of every method: `(image, mask) -> image`."""

    interface: Interface
    network: Network
    source: Path | None = None
    """The file of its weights."""

    def __call__(self, image: Image, mask: Mask) -> Image:
        """Uint8 RGB (H, W, 3), bool (H, W), True = hole, to a new array; known pixels are bit-identical.

        Raises:
            InputError: not such arrays, or nothing known.
        """
        baselines.check(image, mask)
        if not mask.any():
            return image.copy()
        return self.interface.unpack(self.network(*self.interface.pack(image, mask)), image, mask)


class OnnxNetwork:
    """An ONNX file in ONNX Runtime on the processor, called in an `Interface`'s conventions."""

    def __init__(self, model: Path | bytes, interface: Interface, *, threads: int | None = None) -> None:
        """Raises WeightsError when it is no ONNX file, InputError when its inputs are not an image and a mask."""
        import onnxruntime as ort

        name = "the export" if isinstance(model, bytes) else str(model)
        if isinstance(model, Path) and not model.is_file():
            raise InputError(f"{model}: no such file; give an ONNX file")
        source = model if isinstance(model, bytes) else str(model)
        try:
            self.session = ort.InferenceSession(
                source, session_options(threads or 0), providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own classes share no base but this one
            raise WeightsError(f"{name} cannot be run by ONNX Runtime: {str(error).splitlines()[0]}") from error
        self.channels_last = interface.layout == "NHWC"
        self.join = interface.join
        inputs = self.session.get_inputs()
        channels = [self._channels(given.shape) for given in inputs]
        wanted = [4] if self.join else [3, 1]
        if sorted(map(str, channels)) != sorted(map(str, wanted)) and None not in channels:
            raise InputError(
                f"{name} has inputs of {channels} channels, wanted {wanted}; describe layout and join as they are"
            )
        if len(inputs) != len(wanted):
            raise InputError(f"{name} has {len(inputs)} inputs, wanted {len(wanted)}; describe join as it is")
        # The image first, as it is usual, unless the channels tell otherwise.
        self.inputs = inputs if self.join or channels[0] != 1 else inputs[::-1]
        self.sides = [side for side in self._sides(self.inputs[0].shape) if isinstance(side, int)]

    def _channels(self, shape: list[int | str | None]) -> int | None:
        value = shape[3 if self.channels_last else 1] if len(shape) == 4 else None
        return value if isinstance(value, int) else None

    def _sides(self, shape: list[int | str | None]) -> list[int | str | None]:
        return list(shape[1:3] if self.channels_last else shape[2:4])

    def __call__(self, image: Array, mask: Array) -> Array:
        arrays = [image, mask]
        if self.join:
            arrays = [np.concatenate(arrays if self.join == "image,mask" else arrays[::-1], 1)]
        feed = {}
        for given, array in zip(self.inputs, arrays, strict=True):
            array = array.transpose(0, 2, 3, 1) if self.channels_last else array
            feed[given.name] = _cast(array, given.type)
        outputs = self.session.run(None, feed)
        pictures = [out.transpose(0, 3, 1, 2) if self.channels_last and out.ndim == 4 else out for out in outputs]
        found = [out for out in pictures if out.ndim == 4 and out.shape[1] == 3]
        if not found:
            shapes = ", ".join(str(out.shape) for out in outputs)
            raise InputError(f"the ONNX file gives {shapes}; one output must be a picture of three channels")
        return np.asarray(found[0], np.float32)


def onnx_method(model: Path | bytes, interface: Interface, *, threads: int | None = None) -> Method:
    """An ONNX file as a method. A file of fixed size runs at that size, whatever `interface` says of it.

    Raises:
        InputError: the file's inputs are not an image and a mask, or it takes one shape that is not square.
        WeightsError: no ONNX file.
    """
    network = OnnxNetwork(model, interface, threads=threads)
    if len(network.sides) == 2 and not interface.grows:
        if network.sides[0] != network.sides[1]:
            raise InputError(f"the ONNX file takes {network.sides[1]} x {network.sides[0]} only; export a square")
        interface = dataclasses.replace(interface, size=network.sides[0])
    return Method(interface, network)


def _cast(array: Array, kind: str) -> Array:
    """To an ONNX input's type, integers rounded."""
    types: dict[str, type] = {
        "tensor(float)": np.float32,
        "tensor(float16)": np.float16,
        "tensor(double)": np.float64,
        "tensor(uint8)": np.uint8,
        "tensor(int32)": np.int32,
        "tensor(int64)": np.int64,
        "tensor(bool)": np.bool_,
    }
    if kind not in types:
        raise InputError(f"the ONNX file wants {kind}; export it with float or uint8 inputs")
    whole = not np.issubdtype(types[kind], np.floating) and types[kind] is not np.bool_
    return np.ascontiguousarray(np.rint(array) if whole else array, types[kind])


def _resized(array: Array, height: int, width: int, grow: int = cv2.INTER_LINEAR) -> Array:
    """By area where it shrinks, by `grow` where it only grows; nothing when it is that size already."""
    if array.shape[:2] == (height, width):
        return array
    shrinks = height < array.shape[0] or width < array.shape[1]
    return np.asarray(cv2.resize(array, (width, height), interpolation=cv2.INTER_AREA if shrinks else grow))


def _nearest_known(image: Image, mask: Mask) -> Image:
    """Hole pixels in the colour of the known pixel nearest to them."""
    _, labels = cv2.distanceTransformWithLabels(mask.astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    colours = np.zeros((int(labels.max()) + 1, 3), np.uint8)
    colours[labels[~mask]] = image[~mask]
    return np.where(mask[..., None], colours[labels], image)
