"""Files <-> arrays: photos with all they carry, masks, and safe writing.

Everywhere in this package an image is (H, W, 3) RGB, as displayed, and a mask is (H, W), True where a pixel
is to be filled. This module is where files become that and come back as they were: a `Photo` keeps the file's
own pixels in their own mode, bit depth and rotation, and a result is pasted into those, hole pixels only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import itertools
import os
import re
import secrets
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from rethined import containers
from rethined.containers import Metadata
from rethined.errors import InputError, OutputError, RethinedWarning

if TYPE_CHECKING:
    from PIL import Image as PillowImage
    from PIL import ImageFile

Image = NDArray[np.uint8 | np.uint16]
"""(H, W, 3) RGB, upright, 0 to 255 or 0 to 65535."""
Mask = NDArray[np.bool_]
"""(H, W), True where the image is to be filled."""
Colour = Literal["grey", "rgb", "cmyk", "palette"]

MAX_PIXELS = 400_000_000
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WebP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "HEIC": (".heic", ".heif", ".hif"),
}
JPEG_QUALITY, WEBP_QUALITY, AVIF_QUALITY = 95, 90, 90
PNG_STRIPS, PNG_STRIP = 8, 16
"""How many strips of a picture, of how many rows, tell how it is to be compressed."""
LOSSY = ("JPEG", "WebP", "AVIF")
LZW = 5
TIFF_COMPRESSIONS = {
    1,
    2,
    3,
    4,
    LZW,
    7,
    8,
    32946,
    32773,
    50000,
}  # none, fax, LZW, JPEG, deflate, PackBits, Zstd
COLOUR_CHANNELS: dict[Colour, int] = {"grey": 1, "rgb": 3, "cmyk": 4, "palette": 1}


class UnreadableError(InputError):
    """A file that is there and of a known kind, but whose bytes cannot be read or decoded."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A picture file: its pixels as the file stores them, and what is needed to write it back as it came."""

    name: str
    """What messages call it."""
    format: str
    """A key of SUFFIXES, found from the bytes, not from the name."""
    data: bytes
    """The file itself; empty in a photo that is being converted to another format."""
    stored: NDArray[Any]
    """(H, W) or (H, W, C), in the file's mode, before its EXIF rotation; alpha comes after the colour."""
    colour: Colour
    peak: int = 255
    """Value of white (of full ink in CMYK): 1, 3, 15, 255 or 65535."""
    orientation: int = 1
    """EXIF orientation, 1 to 8: how `stored` must be turned to be displayed."""
    metadata: Metadata = dataclasses.field(default_factory=Metadata)
    palette: NDArray[np.uint8] | None = None
    """(n, 4) RGBA colours of a palette image."""
    transparent: NDArray[Any] | None = None
    """The one colour that means transparent (tRNS of a PNG without palette)."""
    inverted: bool = False
    """Whether 0 is white (some fax-like TIFF files)."""
    premultiplied: bool = False
    """Whether colours are stored multiplied by alpha (some TIFF files)."""
    picture: PillowImage.Image | None = None
    """The Pillow image that this was made of, where it was not a file."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height as displayed."""
        height, width = self.stored.shape[:2]
        return (height, width) if self.orientation >= 5 else (width, height)

    @cached_property
    def pixels(self) -> Image:
        """(H, W, 3) upright RGB: uint16 if the file has 16 bits a channel, else uint8. Read only."""
        import cv2

        if self.colour == "palette":
            assert self.palette is not None
            rgb = self.palette[self.stored][..., :3]
        elif self.colour == "cmyk":
            rgb = _cmyk_to_rgb(self.stored)
        elif self.colour == "grey":
            rgb = cv2.cvtColor(self._stored_grey, cv2.COLOR_GRAY2RGB)
        else:
            rgb = self.stored[..., :3]
        return np.ascontiguousarray(upright(rgb, self.orientation))

    @property
    def luminance(self) -> NDArray[Any]:
        """(H, W) upright, in the range of `pixels`."""
        import cv2

        if self.colour == "grey":
            return np.ascontiguousarray(upright(self._stored_grey, self.orientation))
        return np.asarray(cv2.cvtColor(self.pixels, cv2.COLOR_RGB2GRAY))

    @property
    def _stored_grey(self) -> NDArray[Any]:
        """(H, W) of a grey photo, 0 to 255 or 65535, before its EXIF rotation."""
        grey = self.stored if self.stored.ndim == 2 else self.stored[..., 0]
        grey = self.peak - grey if self.inverted else grey
        return np.ascontiguousarray(_full_range(grey, self.peak))

    @property
    def alpha(self) -> NDArray[Any] | None:
        """(H, W) upright, 0 (transparent) to the largest value of its type; None where the file has none."""
        if self.palette is not None and (self.palette[:, 3] < 255).any():
            alpha = self.palette[:, 3][self.stored]
        elif self.transparent is not None:
            alpha = np.where(_equals(self.stored, self.transparent), 0, 255).astype(np.uint8)
        elif self._extra_channels:
            alpha = self.stored[..., COLOUR_CHANNELS[self.colour]]
        else:
            return None
        return np.ascontiguousarray(upright(alpha, self.orientation))

    @property
    def _extra_channels(self) -> int:
        return (1 if self.stored.ndim == 2 else self.stored.shape[2]) - COLOUR_CHANNELS[self.colour]


# ---------------------------------------------------------------- reading


def read_photo(source: Path | bytes, *, name: str | None = None, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a JPEG, PNG, WebP, TIFF, AVIF, BMP or HEIC picture from a file or from its bytes.

    `max_pixels` bounds width times height and is checked before anything is decoded.

    Raises:
        InputError: no such file, no such kind of image, several frames in it, or too many pixels.
        UnreadableError: a file that cannot be read, is cut short or damaged.
    """
    name = name or (source.name if isinstance(source, Path) else "the image")
    data = _read_bytes(source, name)
    kind = _sniff(data, name)

    def check(width: int, height: int) -> None:
        if width * height > max_pixels:
            raise InputError(
                f"{name} has {width} x {height} = {width * height:,} pixels, the limit is {max_pixels:,}; raise "
                "max-pixels if you trust the file"
            )
        if width < 1 or height < 1:
            raise UnreadableError(f"{name} has no pixels ({width} x {height})")

    try:
        photo = _READERS[kind](name, data, check)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # on damaged bytes decoders raise nearly anything: SyntaxError, KeyError...
        reason = " ".join(str(error).split()) or type(error).__name__
        reason = re.sub(r" \(\d+ bytes not processed\)", "", reason)  # of a decoder's buffer, not of the file
        raise UnreadableError(f"{name} is a damaged or unknown kind of {kind} file: {reason}") from error
    if photo.metadata.exif is None:
        return photo
    exif = containers.without_exif_thumbnail(photo.metadata.exif)
    return dataclasses.replace(photo, metadata=dataclasses.replace(photo.metadata, exif=exif))


def format_of(path: Path) -> str:
    """The format that a file name asks for.

    Raises:
        InputError: a suffix of no format rethined writes.
    """
    for kind, suffixes in SUFFIXES.items():
        if path.suffix.lower() in suffixes:
            if kind == "HEIC":
                break
            return kind
    known = " ".join(suffixes[0] for kind, suffixes in SUFFIXES.items() if kind != "HEIC")
    got = f"{path.suffix} files cannot be written" if path.suffix else "the output's name has no suffix"
    raise InputError(f"{got}; name the output with one of {known}")


def is_image_name(path: Path) -> bool:
    """Whether the suffix is one that rethined reads."""
    return any(path.suffix.lower() in suffixes for suffixes in SUFFIXES.values())


def _read_bytes(source: Path | bytes, name: str) -> bytes:
    if isinstance(source, bytes):
        data = source
    else:
        try:
            with source.open("rb") as file:
                data = file.read(64)
                _sniff(data, name)  # before a film of 10 GB is read into memory
                data += file.read()
        except FileNotFoundError:
            raise InputError(f"{source} does not exist; check the path") from None
        except IsADirectoryError:
            raise InputError(f"{source} is a folder where one image is wanted") from None
        except OSError as error:
            raise UnreadableError(f"{source} cannot be read: {error.strerror or error}") from error
    return data


def _sniff(data: bytes, name: str) -> str:
    if data[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if data[:8] == containers.PNG_SIGNATURE:
        return "PNG"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    if data[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if data[:2] == b"BM" and data[6:10] == b"\0\0\0\0":
        return "BMP"
    if data[4:8] == b"ftyp":
        brands = data[8:64]
        if b"avif" in brands or b"avis" in brands:
            return "AVIF"
        if any(brand in brands for brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1")):
            return "HEIC"
    what = "empty" if not data else "not an image of a kind rethined reads"
    raise InputError(f"{name} is {what}; give a {', '.join(SUFFIXES)} file")


Check = Callable[[int, int], None]


def _read_jpeg(name: str, data: bytes, check: Check) -> Photo:
    import simplejpeg

    header = _open_jpeg(data)
    check(*header.size)
    metadata = containers.jpeg_metadata(data)
    stored = None
    if header.mode in ("L", "RGB"):
        # Three times as fast as Pillow. Strict, or it fills what is missing with grey; but strict also
        # refuses the harmless oddities of some cameras, so Pillow has the last word.
        with contextlib.suppress(ValueError):
            space = "GRAY" if header.mode == "L" else "RGB"
            stored = simplejpeg.decode_jpeg(data, colorspace=space, strict=True)
    if stored is None:
        stored = np.array(header)
    return Photo(
        name,
        "JPEG",
        data,
        stored.squeeze(-1) if header.mode == "L" and stored.ndim == 3 else stored,
        colour={"L": "grey", "RGB": "rgb", "CMYK": "cmyk"}[header.mode],  # type: ignore[arg-type]
        orientation=containers.orientation(metadata.exif),
        metadata=_with_info(metadata, header.info),
    )


def _read_png(name: str, data: bytes, check: Check) -> Photo:
    import imagecodecs
    from PIL import PngImagePlugin

    chunks = containers.png_chunks(data)
    named = dict(reversed(chunks))  # the first of each kind
    width, height, depth, kind = struct.unpack(">IIBB", named[b"IHDR"][:10])
    check(width, height)
    if b"acTL" in named:
        raise _several_frames(name)
    metadata = containers.png_metadata(chunks)
    palette = transparent = None
    colour: Colour = "grey" if kind in (0, 4) else "rgb"
    if kind == 3:
        colour, entries = "palette", np.frombuffer(named[b"PLTE"], np.uint8).reshape(-1, 3)
        palette = np.full((len(entries), 4), 255, np.uint8)
        palette[:, :3] = entries
        alpha = np.frombuffer(named.get(b"tRNS", b""), np.uint8)[: len(entries)]
        palette[: len(alpha), 3] = alpha
    elif b"tRNS" in named:
        transparent = np.frombuffer(named[b"tRNS"], ">u2").astype(np.uint16)
    peak = 2**depth - 1
    if depth >= 8 and kind != 3:
        # without tRNS, which would come back as alpha
        plain = [chunk for chunk in chunks if chunk[0] in (b"IHDR", b"IDAT", b"IEND")]
        stored = imagecodecs.png_decode(containers.join_png_chunks(plain))
    else:
        with PngImagePlugin.PngImageFile(io.BytesIO(data)) as image:
            stored = np.array(image).astype(np.uint8)
        if depth in (2, 4) and kind == 0:
            stored //= 255 // peak  # Pillow spreads them over 0 to 255
        if palette is not None and stored.max() >= len(palette):
            raise ValueError("a colour beyond the palette")
    return Photo(
        name,
        "PNG",
        data,
        stored,
        colour,
        peak=255 if kind == 3 else peak,
        orientation=containers.orientation(metadata.exif),
        metadata=metadata,
        palette=palette,
        transparent=transparent,
    )


def _read_tiff(name: str, data: bytes, check: Check) -> Photo:
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page, more = _tiff_pages(file)
        if more:
            raise _several_frames(name)
        check(page.imagewidth, page.imagelength)
        if any(at + size > len(data) for at, size in zip(page.dataoffsets, page.databytecounts, strict=True)):
            raise UnreadableError(f"{name} is cut short; get the whole file")
        photometric, bits = int(page.photometric), page.bitspersample
        models: dict[int, Colour] = {0: "grey", 1: "grey", 2: "rgb", 3: "palette", 5: "cmyk", 6: "rgb"}
        colour = models.get(photometric, "rgb")
        depths = {"grey": (1, 8, 16), "rgb": (8, 16), "palette": (8,), "cmyk": (8,)}[colour]
        integers = int(page.sampleformat or 1) == 1
        if photometric not in models or page.axes not in ("YX", "YXS", "SYX") or not integers or bits not in depths:
            raise InputError(
                f"{name} is a TIFF of {bits} bits and colour model {page.photometric!s}, which rethined "
                "does not read; convert it to 8 or 16 bit grey or RGB"
            )
        if int(page.compression) not in TIFF_COMPRESSIONS:
            raise InputError(
                f"{name} is a TIFF with compression {page.compression!s}, which rethined does not read; save "
                "it with LZW or deflate"
            )
        if int(page.compression) == LZW:
            with tifffile.TiffFile(io.BytesIO(_without_lzw(data, page))) as plain:
                stored = plain.pages[0].asarray()
        else:
            stored = page.asarray()
        if page.axes == "SYX":
            stored = np.ascontiguousarray(np.moveaxis(stored, 0, -1))
        if (1 if stored.ndim == 2 else stored.shape[2]) < COLOUR_CHANNELS[colour]:
            raise ValueError(f"{page.samplesperpixel} channels are too few for its colour model")
        colormap = page.colormap
        premultiplied = 1 in page.extrasamples[:1]
    palette = None
    if colour == "palette":
        palette = np.full((256, 4), 255, np.uint8)
        palette[:, :3] = (np.asarray(colormap).T >> 8).astype(np.uint8)
    tags = containers.describing_tags(data)
    icc, xmp = (tags.pop(code, None) for code in (containers.ICC, containers.XMP))
    exif = containers.exif_from_tags(tags, containers.byte_order(data))
    return Photo(
        name,
        "TIFF",
        data,
        stored.astype(np.uint8) if bits == 1 else stored,
        colour,
        peak=2**bits - 1,
        orientation=containers.orientation(exif),
        metadata=Metadata(
            exif=exif if tags else None,
            icc=icc.value if icc and isinstance(icc.value, bytes) else None,
            xmp=xmp.value if xmp and isinstance(xmp.value, bytes) else None,
            dpi=_tiff_dpi(tags, containers.byte_order(data)),
        ),
        palette=palette,
        inverted=photometric == 0,
        premultiplied=premultiplied,
    )


def _without_lzw(data: bytes, page: Any) -> bytes:
    """The TIFF that `page` (tifffile) was read from, with stored deflate instead of LZW: see rethined.lzw."""
    from rethined import lzw

    samples = 1 if page.planarconfig == 2 else page.samplesperpixel
    columns = page.tilewidth if page.is_tiled else page.imagewidth
    row_bytes = (columns * samples * page.bitspersample + 7) // 8
    strips = -(-page.imagelength // max(page.rowsperstrip, 1))  # in each plane
    segments = []
    for i, (at, size) in enumerate(zip(page.dataoffsets, page.databytecounts, strict=True)):
        rows = page.tilelength if page.is_tiled else page.rowsperstrip
        if not page.is_tiled and i % strips == strips - 1:
            rows = page.imagelength - (strips - 1) * rows
        segments.append(zlib.compress(lzw.decode(data[at : at + size], rows * row_bytes), 0))
    sizes = [len(segment) for segment in segments]
    offsets = list(itertools.accumulate([8, *sizes]))[:-1]
    order = containers.byte_order(data)
    at_tag, size_tag = (324, 325) if page.is_tiled else (273, 279)
    tags = containers.read_tags(data) | {259: containers.longs(order, 8)}
    tags |= {at_tag: containers.longs(order, *offsets), size_tag: containers.longs(order, *sizes)}
    return containers.build_tiff(order, b"".join(segments), tags)


def _tiff_pages(file: Any) -> tuple[Any, int]:
    """The page of a tifffile.TiffFile that is the picture, and how many others it has, thumbnails aside."""
    pages = [page.aspage() for page in file.pages]
    pages = [page for page in pages if not page.subfiletype & 1]  # bit 1: a smaller version of another page
    return pages[0], len(pages) - 1


def _tiff_dpi(tags: containers.Tags, order: str) -> tuple[float, float] | None:
    try:
        unit = struct.unpack(order + "H", tags[containers.RESOLUTION_UNIT].value)[0]  # type: ignore[arg-type]
        codes = (containers.X_RESOLUTION, containers.Y_RESOLUTION)
        pairs = [struct.unpack(order + "II", tags[code].value) for code in codes]  # type: ignore[arg-type]
        x, y = (numerator / denominator for numerator, denominator in pairs)
    except (KeyError, struct.error, ZeroDivisionError, TypeError):
        return None
    scale = {2: 1.0, 3: 2.54}.get(unit)
    return (x * scale, y * scale) if scale else None


def _read_with_pillow(name: str, data: bytes, check: Check) -> Photo:
    """BMP, WebP and AVIF. The plugin is opened directly, as `Image.open` has a limit of pixels of its own."""
    from PIL import AvifImagePlugin, BmpImagePlugin, WebPImagePlugin

    kind = _sniff(data, name)
    plugins: dict[str, type[ImageFile.ImageFile]] = {
        "BMP": BmpImagePlugin.BmpImageFile,
        "WebP": WebPImagePlugin.WebPImageFile,
        "AVIF": AvifImagePlugin.AvifImageFile,
    }
    if kind == "AVIF" and containers.is_deep_avif(data):
        warn(f"{name} has more than 8 bits a channel; AVIF is read and written with 8")
    with plugins[kind](io.BytesIO(data)) as image:
        check(*image.size)
        if getattr(image, "n_frames", 1) != 1:
            raise _several_frames(name)
        stored = np.array(image)
        mode, info = image.mode, dict(image.info)
        palette = None
        if mode == "P":
            entries = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
            palette = np.full((256, 4), 255, np.uint8)
            palette[: len(entries), :3] = entries
    if mode == "1":
        stored = stored.astype(np.uint8)
    metadata = _with_info(Metadata(), info)
    return Photo(
        name,
        kind,
        data,
        stored,
        colour={"1": "grey", "L": "grey", "LA": "grey", "P": "palette", "RGB": "rgb", "RGBA": "rgb"}[mode],  # type: ignore[arg-type]
        peak=1 if mode == "1" else 255,
        orientation=containers.orientation(metadata.exif),
        metadata=metadata,
        palette=palette,
    )


def _read_heic(name: str, data: bytes, check: Check) -> Photo:
    try:
        import pi_heif
    except ImportError as error:
        raise InputError(f"{name} is a HEIC file, which needs: pip install 'rethined[heif]'") from error

    containers.check_heic_items(data)
    file = pi_heif.open_heif(io.BytesIO(data))
    check(*file.size)
    stored = np.array(file)
    metadata = _with_info(Metadata(), file.info)
    if metadata.exif:  # libheif has turned the picture already
        metadata = dataclasses.replace(metadata, exif=containers.with_orientation_1(metadata.exif))
    colour: Colour = "grey" if stored.ndim == 2 else "rgb"
    return Photo(name, "HEIC", data, stored, colour, metadata=metadata)


def _open_jpeg(data: bytes) -> ImageFile.ImageFile:
    from PIL import JpegImagePlugin

    return JpegImagePlugin.JpegImageFile(io.BytesIO(data))


def _with_info(metadata: Metadata, info: dict[Any, Any]) -> Metadata:
    """`metadata`, completed by what Pillow or pi-heif found."""
    exif = metadata.exif or info.get("exif") or None
    if exif and exif.startswith(containers.EXIF_PREFIX):
        exif = exif[len(containers.EXIF_PREFIX) :]
    dpi = info.get("dpi")
    return Metadata(
        exif=exif,
        icc=info.get("icc_profile") or None,
        xmp=metadata.xmp or info.get("xmp") or None,
        dpi=(float(dpi[0]), float(dpi[1])) if dpi and min(dpi) > 0 else None,
    )


def warn(message: str) -> None:
    """Tell the user about a result that is made all the same."""
    warnings.warn(message, RethinedWarning, stacklevel=3)


def _several_frames(name: str) -> InputError:
    return InputError(f"{name} holds several frames or pages; save the one to be filled as a file of its own")


_READERS: dict[str, Callable[[str, bytes, Check], Photo]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "TIFF": _read_tiff,
    "BMP": _read_with_pillow,
    "WebP": _read_with_pillow,
    "AVIF": _read_with_pillow,
    "HEIC": _read_heic,
}


# ---------------------------------------------------------------- Pillow images


def photo_from_pillow(picture: PillowImage.Image, name: Literal["image", "mask"] = "image") -> Photo:
    """A Pillow image, or a mask that is one, as a photo. Its pixels are taken as they are: no EXIF rotation.

    Raises:
        InputError: no Pillow image, an empty one, or a mode other than 1, L, LA, P, RGB, RGBA, CMYK and 16-bit grey.
    """
    from PIL import Image as PillowImage

    if not isinstance(picture, PillowImage.Image):
        raise InputError(f"{name} is of type {type(picture).__name__}; give a NumPy array or a PIL image")
    if not all(picture.size):
        raise InputError(f"{name} is empty; give at least one pixel")
    colours: dict[str, Colour] = {"1": "grey", "L": "grey", "LA": "grey", "P": "palette", "CMYK": "cmyk"}
    colours |= {"RGB": "rgb", "RGBA": "rgb", "I;16": "grey", "I;16L": "grey", "I;16B": "grey"}
    mode = picture.mode
    stored = np.array(picture)
    if mode not in colours:
        raise InputError(f"{name} has mode {mode}; convert it to {'L' if name == 'mask' else 'RGB'}")
    deep = mode.startswith("I")
    palette = transparent = None
    if mode == "P":
        whole = picture.copy()
        whole.apply_transparency()
        entries = np.array(whole.getpalette("RGBA"), np.uint8).reshape(-1, 4)
        palette = np.zeros((256, 4), np.uint8)
        palette[: len(entries)] = entries
    elif "transparency" in picture.info and mode in ("L", "RGB", "I;16"):
        transparent = np.atleast_1d(picture.info["transparency"])
    return Photo(
        f"the {name}",
        mode,
        b"",
        stored.astype(np.uint16 if deep else np.uint8),
        colours[mode],
        peak=1 if mode == "1" else 65535 if deep else 255,
        palette=palette,
        transparent=transparent,
        picture=picture,
    )


def pillow_result(photo: Photo, result: Image, mask: Mask) -> PillowImage.Image:
    """A copy of the Pillow image behind `photo`, filled from `result`: same mode, palette and info."""
    assert photo.picture is not None
    filled = photo.picture.copy()
    stored = _composite(photo, result, mask)
    if filled.mode == "1":
        stored = np.packbits(stored, axis=1)
    elif filled.mode.startswith("I"):
        stored = stored.astype(">u2" if filled.mode == "I;16B" else "<u2")
    filled.frombytes(stored.tobytes())
    return filled


def mask_from_pillow(picture: PillowImage.Image) -> Mask:
    """A Pillow image as a mask, by the rules of `read_mask`.

    Raises:
        InputError: as `photo_from_pillow`.
    """
    return _painted(photo_from_pillow(picture, "mask"))


# ---------------------------------------------------------------- masks


def read_mask(
    source: Path | bytes,
    photo: Photo,
    *,
    name: str | None = None,
    invert: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Mask:
    """Read the mask of `photo`, drawn on the photo as displayed: (H, W), True where it is to be filled.

    White (half of full brightness or more) is the hole, in any mode and bit depth; where the mask has
    transparency, white that is opaque. A mask with transparency in which all that is visible has one colour,
    whichever it is (brush strokes on an empty layer), was painted: what is opaque is the hole. `invert` swaps
    hole and known.

    Raises:
        InputError: as `read_photo`, or a size other than the photo's.
    """
    name = name or (source.name if isinstance(source, Path) else "the mask")
    drawn = read_photo(source, name=name, max_pixels=max_pixels)
    if drawn.size != photo.size:
        got, want = (f"{width} x {height}" for width, height in (drawn.size, photo.size))
        if drawn.size == photo.size[::-1] and photo.orientation >= 5:
            raise InputError(
                f"{drawn.name} is {got} but {photo.name} is displayed as {want}: the mask fits the photo "
                "before its EXIF rotation; draw it on the photo as displayed, or turn it likewise"
            )
        raise InputError(f"{drawn.name} is {got} but {photo.name} is {want}; give a mask of the photo's size")
    hole = _painted(drawn)
    return ~hole if invert else hole


def _painted(drawn: Photo) -> Mask:
    """(H, W): what `read_mask` says is the hole; warns where the mask looks like a mistake."""
    grey, alpha = drawn.luminance, drawn.alpha
    white = np.iinfo(grey.dtype).max // 2 + 1
    hole = np.asarray(grey >= white)
    if alpha is not None:
        opaque = np.asarray(alpha > np.iinfo(alpha.dtype).max // 2)
        if not opaque.all():
            visible = drawn.pixels[opaque]
            # A few levels of slack: lossy formats do not keep one colour exactly one.
            slack = np.iinfo(visible.dtype).max // 32
            if not len(visible) or int(np.ptp(visible, axis=0).max()) <= slack:
                return opaque
            hole &= opaque
            grey = grey[opaque]
    if _many_greys(grey):
        warn(f"{drawn.name} has many greys; is it a photo? In a mask what is to be filled is white, the rest black")
    if not hole.any() and (brightest := int(grey.max())):
        warn(f"the brightest pixel of {drawn.name} is {brightest}; white, which is filled, is {white} or more")
    return hole


def _many_greys(grey: NDArray[Any]) -> bool:
    """Whether a quarter of all pixels are neither nearly black nor nearly white, as in a photo.

    Not counted are the commonest levels, with which some masks are drawn. Blurred edges and what JPEG leaves beside
    them come to a few hundredths, in small masks of many wires to almost a fifth; of photos, to a third and more.
    """
    import cv2

    peak = np.iinfo(grey.dtype).max + 1
    levels = cv2.calcHist([grey], [0], None, [256], [0, peak]).ravel()[32:224]
    return bool(np.sort(levels)[:-8].sum() > grey.size / 4)


def dilate(mask: Mask, radius: int) -> Mask:
    """The mask grown by `radius` pixels in every direction (a disc)."""
    import cv2

    if radius <= 0 or not mask.any():
        return mask
    box = bounds(mask, margin=radius)
    distance = cv2.distanceTransform((~mask[box]).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    grown = mask.copy()
    grown[box] = distance <= radius
    return grown


def feather(image: Image, result: Image, mask: Mask, radius: int) -> Image:
    """`result` faded into `image` over the outermost `radius` pixels of the hole; outside nothing changes."""
    import cv2

    if radius <= 0 or not mask.any():
        return result
    box = bounds(mask, margin=1)  # the known pixel nearest to any of the hole is in there
    hole = np.ascontiguousarray(mask[box])
    distance = cv2.distanceTransform(hole.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    band = hole & (distance <= radius)
    weight = (distance[band] / (radius + 1))[:, None]  # 1 pixel inside the hole: 1 / (radius + 1)
    faded = result.copy()
    faded[box][band] = np.rint(image[box][band] * (1 - weight) + result[box][band] * weight).astype(result.dtype)
    return faded


def bounds(mask: Mask, margin: int = 0) -> tuple[slice, slice]:
    """Rows and columns of the smallest box around the hole, and `margin` pixels more where there are any."""
    import cv2

    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    rows = slice(max(0, y - margin), y + height + margin)
    return rows, slice(max(0, x - margin), x + width + margin)


# ---------------------------------------------------------------- writing


def encode_photo(
    photo: Photo, result: Image, mask: Mask, *, format: str | None = None, quality: int | None = None
) -> bytes:
    """The photo's file with the pixels of `mask` taken from `result` (H, W, 3), both upright.

    In the photo's own format everything comes back as it was: mode, bit depth, palette, rotation, alpha,
    profile, metadata, compression. Lossless formats keep known pixels bit for bit. JPEG is written with the
    quantisation tables and chroma subsampling of the source unless `quality` (1 to 100; for JPEG, WebP and
    AVIF; others warn that they have none) says otherwise. In another `format` it is written upright, with
    the metadata that format can hold.

    Raises:
        InputError: a format that cannot be written or cannot hold what the photo has.
        OutputError: an encoder that refuses the picture, such as one too large for WebP.
    """
    format = format or photo.format
    check_format(photo, format)
    if quality is not None and format not in LOSSY:
        warn(f"quality is of {', '.join(LOSSY)}: {photo.name} is written as {format}, which keeps every pixel")
        quality = None
    if format == photo.format and quality is None and not mask.any():
        return photo.data
    photo = dataclasses.replace(photo, stored=_composite(photo, result, mask))
    if format != photo.format:
        photo = _convert(photo, format)
    try:
        return _WRITERS[format](photo, quality)
    except (OSError, ValueError, RuntimeError, struct.error) as error:
        reason = " ".join(str(error).split())
        raise OutputError(f"{photo.name} cannot be written as {format}: {reason}") from error


def check_format(photo: Photo, format: str) -> None:
    """Refuse early, before anything is filled, what `encode_photo` cannot write.

    Raises:
        InputError: HEIC, or a format that cannot hold the photo's transparency or further channels.
    """
    if format == "HEIC":
        raise InputError(f"{photo.name} is HEIC, which can be read but not written; name the output .jpg or .png")
    if format == photo.format:
        return
    alpha = photo.alpha
    if format in ("JPEG", "BMP") and alpha is not None and (alpha < np.iinfo(alpha.dtype).max).any():
        raise InputError(
            f"{photo.name} has transparency, which {format} cannot hold; name the output .png, .tif or .webp"
        )
    extra = photo._extra_channels
    if extra > 1 or (extra and (photo.colour == "cmyk" or photo.premultiplied)):
        raise InputError(f"{photo.name} has channels that only TIFF can hold; name the output .tif")


def _composite(photo: Photo, result: Image, mask: Mask) -> NDArray[Any]:
    """A copy of the photo's stored pixels, with those of `mask` from `result` in the photo's own mode."""
    everything, hole = photo.stored.copy(), stored_as(mask, photo.orientation)
    box = bounds(hole)  # most holes are small
    stored, hole = everything[box], hole[box].copy()
    if photo.colour == "rgb" and stored.shape[2:] == (3,) and photo.transparent is None:
        # The common case, ten times as fast as by lists of pixels.
        import cv2

        filled = stored_as(result, photo.orientation)[box]
        filled = filled if photo.orientation == 1 else np.ascontiguousarray(filled)
        cv2.copyTo(filled, hole.view(np.uint8), stored)
        return everything
    if photo.transparent is not None:
        hole &= ~_equals(stored, photo.transparent)  # transparency is carried, never filled
    fill = stored_as(result, photo.orientation)[box][hole]  # (n, 3)
    if not len(fill):
        return everything
    if photo.colour == "palette":
        stored[hole] = _nearest_entries(photo, fill, stored[hole])
        return everything
    if photo.colour == "cmyk":
        values = _rgb_to_cmyk(fill, photo.stored[~stored_as(mask, photo.orientation)])
    elif photo.colour == "grey":
        values = _from_full_range(_luminance(fill), photo.peak)
        values = (photo.peak - values if photo.inverted else values)[:, None]
    else:
        values = fill
    channels = COLOUR_CHANNELS[photo.colour]
    if photo.premultiplied:
        alpha = stored[hole][:, channels, None]
        values = np.rint(values * (alpha / photo.peak)).astype(stored.dtype)
    if photo.transparent is not None:
        clash = _equals(values[:, None], photo.transparent)[:, 0]
        values[clash, 0] ^= 1  # one level off, or the pixel would turn transparent
    if stored.ndim == 2:
        stored[hole] = values[:, 0]
    else:
        stored[..., :channels][hole] = values
    return everything


def _luminance(rgb: NDArray[Any]) -> NDArray[Any]:
    """(n, 3) -> (n,), of the same type."""
    import cv2

    return np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb[:, None]), cv2.COLOR_RGB2GRAY)).reshape(-1)


def _full_range(grey: NDArray[Any], peak: int) -> NDArray[Any]:
    return grey if peak >= 255 else grey * np.uint8(255 // peak)


def _from_full_range(grey: NDArray[Any], peak: int) -> NDArray[Any]:
    return grey if peak >= 255 else np.rint(grey * (peak / 255)).astype(np.uint8)


def _equals(stored: NDArray[Any], colour: NDArray[Any]) -> Mask:
    """(H, W): where a pixel is `colour` (1 or 3 values)."""
    return np.asarray((stored.reshape(*stored.shape[:2], -1) == colour).all(axis=-1))


def _nearest_entries(photo: Photo, fill: NDArray[Any], present: NDArray[Any]) -> NDArray[Any]:
    """For each colour (n, 3) the nearest palette entry of the same alpha as the entry now there (n,)."""
    assert photo.palette is not None
    used = np.unique(photo.stored)  # a TIFF or BMP always lists 256 entries, most of them perhaps unused
    chosen = present.copy()
    for alpha in np.unique(photo.palette[present, 3]):
        if alpha == 0:
            continue  # invisible: nothing to fill
        entries = used[photo.palette[used, 3] == alpha]
        colours = photo.palette[entries, :3].astype(np.float32)
        places = np.flatnonzero(photo.palette[present, 3] == alpha)
        for rows in np.array_split(places, len(places) // 2**18 + 1):
            # |c - p|^2 without |c|^2, which is the same for every p
            distance = (colours**2).sum(1) - 2 * fill[rows].astype(np.float32) @ colours.T
            chosen[rows] = entries[distance.argmin(1)]
    return chosen


def _cmyk_to_rgb(cmyk: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., 4+) inks, 255 = full, to (..., 3), by the plain rule: ink takes away light, black all of it."""
    light = 255 - cmyk[..., :4].astype(np.uint16)
    return np.asarray((light[..., :3] * light[..., 3:] + 127) // 255).astype(np.uint8)


def _rgb_to_cmyk(rgb: NDArray[Any], known: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 3) to (n, 4), with as much black in each colour as the known pixels (m, 4) have in theirs.

    Many mixtures make one colour by the plain rule, but a printing profile shows them differently; so the
    fill must mix its colours the way the photo does.
    """

    def bins(colours: NDArray[Any]) -> NDArray[Any]:
        return np.asarray((colours.astype(np.int64) >> 4) @ np.array([256, 16, 1]))  # 16 levels a channel

    def most_black(colours: NDArray[Any]) -> NDArray[Any]:
        return np.asarray(255.0 - colours.max(axis=1))

    seen = _cmyk_to_rgb(known)
    black = np.bincount(bins(seen), known[:, 3], 4096)
    possible = np.bincount(bins(seen), most_black(seen), 4096)
    overall = black.sum() / max(possible.sum(), 1.0)
    share = np.where(possible > 0, black / np.maximum(possible, 1.0), overall).clip(0, 1)
    k = np.rint(share[bins(rgb)] * most_black(rgb))
    inks = 255 - rgb * (255 / np.maximum(255 - k, 1))[:, None]
    return np.concatenate([np.rint(inks.clip(0, 255)), k[:, None]], axis=1).astype(np.uint8)


def _convert(photo: Photo, format: str) -> Photo:
    """The photo in a mode that `format` can hold, upright, without what only its source format can say."""
    colour, peak, metadata, alpha = photo.colour, photo.peak, photo.metadata, photo.alpha
    stored = upright(photo.stored, photo.orientation)
    if colour == "palette":
        assert photo.palette is not None
        stored, colour = photo.palette[stored][..., :3], "rgb"
    elif colour == "grey":
        grey = stored if stored.ndim == 2 else stored[..., 0]
        stored, peak = _full_range(peak - grey if photo.inverted else grey, peak), max(peak, 255)
    elif colour == "cmyk" and format not in ("JPEG", "TIFF"):
        stored, colour = _cmyk_to_rgb(stored), "rgb"
        metadata = dataclasses.replace(metadata, icc=None)  # a profile of inks says nothing about RGB
    else:
        stored = stored[..., : COLOUR_CHANNELS[colour]]
    if colour == "grey" and format in ("WebP", "AVIF"):
        stored, colour = np.dstack([stored] * 3), "rgb"
        metadata = dataclasses.replace(metadata, icc=None)
    if alpha is not None and format not in ("JPEG", "BMP"):
        if peak == 65535 and alpha.dtype == np.uint8:
            alpha = alpha * np.uint16(257)
        stored = np.dstack([stored, alpha])
    if peak == 65535 and format not in ("PNG", "TIFF"):
        warn(f"{photo.name} has 16 bits a channel, {format} holds 8: the rest is lost")
        stored, peak = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8), 255
    if metadata.exif:
        metadata = dataclasses.replace(metadata, exif=containers.with_orientation_1(metadata.exif))
    return Photo(photo.name, format, b"", np.ascontiguousarray(stored), colour, peak, metadata=metadata)


def _write_jpeg(photo: Photo, quality: int | None) -> bytes:
    from PIL import JpegImagePlugin

    options: dict[str, Any] = {"quality": quality or JPEG_QUALITY, "subsampling": 0}
    if photo.data:
        with _open_jpeg(photo.data) as source:
            assert isinstance(source, JpegImagePlugin.JpegImageFile)
            # -1 is of a kind Pillow cannot write: full chroma, which loses least
            options["subsampling"] = max(JpegImagePlugin.get_sampling(source), 0)
            # a progressive file must fit into Pillow's buffer: one byte a pixel, 64 KiB at least
            fits = len(photo.data) < 0.8 * max(source.width * source.height, 2**16) and (quality or 0) <= 90
            options["progressive"] = "progressive" in source.info and fits
            options["keep_rgb"] = source.mode == "RGB" and source.info.get("adobe_transform") == 0
            if quality is None:
                options["qtables"] = source.quantization
                del options["quality"]
    else:
        options |= _pillow_metadata(photo.metadata, exif_prefix=True)
    encoded = _save(_pillow_image(photo), "JPEG", options)
    return containers.with_jpeg_metadata_of(encoded, photo.data) if photo.data else encoded


def _write_png(photo: Photo, quality: int | None) -> bytes:
    del quality  # lossless
    import imagecodecs

    source = containers.png_chunks(photo.data) if photo.data else []
    if photo.colour == "palette" or photo.peak < 255:
        header = bytearray(source[0][1])
        header[12] = 0  # not interlaced
        pixels = zlib.compress(_pack_png_rows(photo.stored, depth=header[8]), 6)
        chunks = [(b"IHDR", bytes(header)), (b"IDAT", pixels)]
        return containers.join_png_chunks(containers.with_png_chunks_of(chunks, source))
    # For photos these settings are as small as zlib's level 6 in a quarter of the time. Drawings may compress much
    # better than this, and then the slow way is fast. Strips from all over the picture tell.
    stored = np.ascontiguousarray(photo.stored)
    height, every = len(stored), -(-len(stored) // PNG_STRIPS)
    strips = np.concatenate([stored[y : y + PNG_STRIP] for y in range(0, height, max(every, PNG_STRIP))])
    fast, slow = {"level": 1, "strategy": 3}, {"level": 6}
    sizes = [len(imagecodecs.png_encode(strips, **way)) for way in (fast, slow)]
    encoded = imagecodecs.png_encode(stored, **(slow if sizes[1] < 0.8 * sizes[0] else fast))
    chunks = containers.png_chunks(bytes(encoded))
    if source:
        chunks = containers.with_png_chunks_of(chunks, source)
    else:
        chunks[1:1] = containers.png_metadata_chunks(photo.metadata)
    return containers.join_png_chunks(chunks)


def _pack_png_rows(stored: NDArray[np.uint8], depth: int) -> bytes:
    """Rows of 1, 2, 4 or 8 bit samples, packed from the left, each after the filter byte 0 (none)."""
    height, width = stored.shape
    in_byte = 8 // depth
    padded = np.zeros((height, -(-width // in_byte) * in_byte), np.uint8)
    padded[:, :width] = stored
    shifts = np.arange(in_byte - 1, -1, -1, dtype=np.uint8) * np.uint8(depth)
    packed = (padded.reshape(height, -1, in_byte) << shifts).sum(axis=2, dtype=np.uint8)
    return np.pad(packed, ((0, 0), (1, 0))).tobytes()


def _write_tiff(photo: Photo, quality: int | None) -> bytes:
    del quality  # lossless
    import tifffile

    exif = photo.metadata.exif
    order = containers.byte_order(exif) if exif else "<"
    options: dict[str, Any] = {"compression": "adobe_deflate", "predictor": True}
    photometric = {"grey": 1, "rgb": 2, "palette": 3, "cmyk": 5}[photo.colour]
    extra = [2] * photo._extra_channels
    if photo.data:
        with tifffile.TiffFile(io.BytesIO(photo.data)) as file:
            page, _ = _tiff_pages(file)
            photometric = int(page.photometric) if photo.colour == "grey" else photometric
            extra = [int(sample) for sample in page.extrasamples]
            compression = {32946: 8}.get(int(page.compression), int(page.compression))
            # what is lossless is kept; JPEG and fax compression inside a TIFF become deflate
            options["compression"] = compression if compression in (1, 5, 8, 32773, 50000) else 8
            options["predictor"] = int(page.predictor) == 2
            if photo.colour == "palette":
                options["colormap"] = page.colormap
    if photo.peak == 1 or options["compression"] in (1, 32773):
        options["predictor"] = False
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        photo.stored.astype(bool) if photo.peak == 1 else photo.stored,
        photometric=photometric,
        planarconfig="contig" if photo.stored.ndim == 3 else None,
        extrasamples=extra or None,
        byteorder=order,  # type: ignore[arg-type]
        metadata=None,
        software=False,
        **options,
    )
    return containers.add_tiff_tags(buffer.getvalue(), containers.tiff_tags(photo.metadata, order))


def _write_webp(photo: Photo, quality: int | None) -> bytes:
    options: dict[str, Any] = {"quality": quality or WEBP_QUALITY}
    if quality is None and containers.is_lossless_webp(photo.data):
        options = {"lossless": True, "exact": True}  # exact: also the colours under full transparency
    return _save(_pillow_image(photo), "WEBP", options | _pillow_metadata(photo.metadata))


def _write_avif(photo: Photo, quality: int | None) -> bytes:
    # Of the same error, 4 % larger and in a sixteenth of the time of the encoder's default: 10 megapixels took 10 s.
    options = {"quality": quality or AVIF_QUALITY, "speed": 9}
    return _save(_pillow_image(photo), "AVIF", options | _pillow_metadata(photo.metadata))


def _write_bmp(photo: Photo, quality: int | None) -> bytes:
    del quality  # lossless
    dpi = photo.metadata.dpi
    if photo.stored.ndim == 3 and photo.stored.shape[2] == 4:  # Pillow writes alpha where nobody looks for it
        import cv2

        encoded = bytearray(cv2.imencode(".bmp", photo.stored[..., [2, 1, 0, 3]])[1])
        if dpi:
            struct.pack_into("<II", encoded, 38, *(round(value / 0.0254) for value in dpi))
        return bytes(encoded)
    return _save(_pillow_image(photo), "BMP", {"dpi": dpi} if dpi else {})


def _pillow_image(photo: Photo) -> PillowImage.Image:
    from PIL import Image as PillowImage

    stored = photo.stored
    if photo.colour == "palette":
        assert photo.palette is not None
        image = PillowImage.fromarray(stored)
        image.putpalette(photo.palette[:, :3].tobytes(), "RGB")
        return image
    if photo.peak == 1:
        return PillowImage.fromarray(stored.astype(bool))
    if photo.colour == "cmyk":
        return PillowImage.frombuffer("CMYK", stored.shape[1::-1], np.ascontiguousarray(stored))
    return PillowImage.fromarray(stored)


def _pillow_metadata(metadata: Metadata, exif_prefix: bool = False) -> dict[str, Any]:
    exif = metadata.exif
    if exif and exif_prefix:
        exif = containers.EXIF_PREFIX + exif
        if len(exif) > 65533:
            warn(f"EXIF of {len(exif)} bytes is left out: JPEG holds 65533")
            exif = None
    values = {"exif": exif, "icc_profile": metadata.icc, "xmp": metadata.xmp, "dpi": metadata.dpi}
    return {key: value for key, value in values.items() if value}


def _save(image: PillowImage.Image, format: str, options: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


_WRITERS: dict[str, Callable[[Photo, int | None], bytes]] = {
    "JPEG": _write_jpeg,
    "PNG": _write_png,
    "TIFF": _write_tiff,
    "WebP": _write_webp,
    "AVIF": _write_avif,
    "BMP": _write_bmp,
}


def encode_side_by_side(photo: Photo, result: Image, mask: Mask, *, height: int = 1024) -> bytes:
    """A JPEG for looking: original, masked and result side by side, at most `height` pixels high."""
    import cv2
    from PIL import Image as PillowImage

    masked = photo.pixels.copy()
    masked[mask] = np.iinfo(masked.dtype).max // 2
    panels = np.concatenate([photo.pixels, masked, result], axis=1)
    if panels.dtype == np.uint16:
        panels = (panels >> 8).astype(np.uint8)
    scale = min(1.0, height / panels.shape[0], 65_000 / panels.shape[1])
    if scale < 1:
        size = (max(1, round(panels.shape[1] * scale)), max(1, round(panels.shape[0] * scale)))
        panels = cv2.resize(panels, size, interpolation=cv2.INTER_AREA)
    icc = photo.metadata.icc if photo.colour == "rgb" else None
    return _save(PillowImage.fromarray(panels), "JPEG", {"quality": 90, "icc_profile": icc})


# ---------------------------------------------------------------- rotation


def upright(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """(H, W, ...) as stored -> as displayed. EXIF orientations above 4 swap the sides."""
    return _turn(array, orientation)


def stored_as(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The inverse of `upright`."""
    return _turn(array, {6: 8, 8: 6}.get(orientation, orientation))


def _turn(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    import cv2

    if orientation == 1:
        return array
    raw = np.ascontiguousarray(array)
    raw = raw.view(np.uint8) if raw.dtype == np.bool_ else raw
    if orientation == 5:
        turned = cv2.transpose(raw)
    elif orientation == 7:
        turned = cv2.flip(cv2.transpose(raw), -1)
    elif orientation in (2, 4):
        turned = cv2.flip(raw, 1 if orientation == 2 else 0)
    else:
        turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
        turned = cv2.rotate(raw, turns[orientation])
    return np.asarray(turned).view(array.dtype)


# ---------------------------------------------------------------- files


def check_output(path: Path, *, overwrite: bool) -> None:
    """Refuse early, before any work, what `write_atomic` could not write.

    Raises:
        InputError: the file exists and `overwrite` is not set, or its folder does not exist.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InputError(f"{path} is not a regular file; use - for standard output")
    if path.exists() and not overwrite:
        raise InputError(f"{path} exists already; choose another name or use --overwrite")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent} is not a folder; create it first")


def write_atomic(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write the whole file or nothing: other programs, and later runs, never see a part of it.

    Raises:
        InputError: as `check_output`.
        OutputError: the folder cannot be written to or the disk is full.
    """
    check_output(path, overwrite=overwrite)
    target = path.resolve()  # a link stays a link
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.tmp")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                temporary.chmod(target.stat().st_mode & 0o777)
            temporary.replace(target)
        except BaseException:  # also when interrupted: leave nothing behind
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}") from error


_HALF = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp")
"""What `write_atomic` calls a file while it is written."""


def remove_halves(paths: Iterable[Path]) -> None:
    """Remove what runs that were killed in `write_atomic` have left of these files."""
    wanted = {(path.parent, path.name[:100]) for path in paths}
    for folder in {folder for folder, _ in wanted}:
        for path in folder.glob(".*.tmp"):
            half = _HALF.fullmatch(path.name)
            if half and (folder, half[1]) in wanted:
                path.unlink()
