"""Files <-> arrays. Every output is looked at by another reader: Pillow, tifffile or imagecodecs."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageFilter, ImageOps, JpegImagePlugin

from rethined import containers, image, lzw
from rethined.errors import InputError, OutputError, RethinedWarning
from rethined.image import UnreadableError, encode_photo, read_mask, read_photo, write_atomic

HEIGHT, WIDTH = 45, 61  # odd, prime-ish, not square
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"></x:xmpmeta>'
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAchtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ADRpbG9jAAAAAERAAAIAAQAAAAAB7AABAAAAAAAAAFwAAgAAAAACSAABAAAAAAAAADYAAAA4aWluZgAAAAAAAgAAABVpbmZlAgAA"
    "AAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAABB2lwcnAAAADmaXBjbwAAAHZodmNDAQNwAAAA"
    "kAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq"
    "5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAADAAAAABAAAAIAAAAAH////wAAAAAv///+AAAAACAAAAEHBpeGkAAAAAAwgICAAAAAlpcm90AwAAABlpcG1hAAAAAAAAAAEA"
    "AQaBAgMFhIYAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAJptZGF0AAAAWCgBrxOA9TPn6811px7G5osCj2wRV5J8QxN1+Mw8"
    "P0JSfr+zbDDv78T3+0uyS4R/zklLJtvPKtMvXVThmF6Wu/FlHLRutrxGd8IanDbC6jL/vXZpYLQyK+AAAAAGRXhpZgAATU0AKgAA"
    "AAgAAgEPAAIAAAAGAAAAJgESAAMAAAABAAYAAAAAAABNYWtlcgA="
)
"""48 x 32: red 5x, green 7y, blue 128; turned by orientation 6."""
ORIENTATIONS = range(1, 9)


def texture(channels: int, peak: int = 255, seed: int = 0) -> np.ndarray[Any, Any]:
    """(H, W, C): gradients under noise, no two channels alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    waves = [np.sin(x / (7 + c) + y / (11 - c)) * 0.35 + 0.5 for c in range(channels)]
    noisy = np.stack(waves, -1) + rng.normal(0, 0.05, (HEIGHT, WIDTH, channels))
    return np.rint(noisy.clip(0, 1) * peak).astype(np.uint16 if peak > 255 else np.uint8)


def a_hole() -> np.ndarray[Any, Any]:
    """(H, W) displayed: an ellipse off the centre, so that a wrong rotation shows."""
    hole = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.ellipse(hole, (20, 15), (12, 8), 30, 0, 360, 1, -1)
    return hole.astype(bool)


def an_exif(orientation: int = 1) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F] = "Maker of cameras"
    exif[0x0112] = orientation
    exif.get_ifd(0x8769)[0x9003] = "2026:11:22 10:11:12"
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def saved(picture: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def with_metadata(picture: Image.Image, kind: str, orientation: int = 1, **options: Any) -> bytes:
    options |= {"icc_profile": ICC, "exif": an_exif(orientation), "dpi": (300, 200)}
    if kind in ("JPEG", "WEBP", "AVIF"):
        options["xmp"] = XMP
    return saved(picture, kind, **options)


def filled(photo: image.Photo, hole: np.ndarray[Any, Any], seed: int = 1) -> np.ndarray[Any, Any]:
    """What an engine returns: known pixels as they are, others new."""
    peak = 65535 if photo.pixels.dtype == np.uint16 else 255
    new = np.random.default_rng(seed).integers(0, peak + 1, photo.pixels.shape).astype(photo.pixels.dtype)
    return np.where(hole[..., None], new, photo.pixels)


def opened(data: bytes) -> Image.Image:
    picture = Image.open(io.BytesIO(data))
    picture.load()
    return picture


def grey(rgb: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY))


# ---------------------------------------------------------------- the same format and mode comes back

RGB = Image.fromarray(texture(3))
RGBA = texture(4)
RGBA[:9, 40:, 3] = 0  # colours that nobody sees, but that must come back
RGBA = Image.fromarray(RGBA)
PALETTE = RGB.quantize(60)
LOSSLESS: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "png-1": (RGB.convert("1"), "PNG", {}),
    "png-L": (RGB.convert("L"), "PNG", {}),
    "png-LA": (Image.fromarray(texture(2), "LA"), "PNG", {}),
    "png-P": (PALETTE, "PNG", {}),
    "png-P4": (RGB.quantize(13), "PNG", {"bits": 4}),
    "png-P2": (RGB.quantize(4), "PNG", {"bits": 2}),
    "png-P1": (RGB.quantize(2), "PNG", {"bits": 1}),
    "png-RGB": (RGB, "PNG", {}),
    "png-RGBA": (RGBA, "PNG", {}),
    "png-I16": (Image.fromarray(texture(1, 65535)[..., 0]), "PNG", {}),
    "webp-RGB": (RGB, "WEBP", {"lossless": True}),
    "webp-RGBA": (RGBA, "WEBP", {"lossless": True, "exact": True}),
    "tiff-1": (RGB.convert("1"), "TIFF", {}),
    "tiff-1-fax": (RGB.convert("1"), "TIFF", {"compression": "group4"}),
    "tiff-L": (RGB.convert("L"), "TIFF", {"compression": "tiff_lzw"}),
    "tiff-LA": (Image.fromarray(texture(2), "LA"), "TIFF", {}),
    "tiff-P": (PALETTE, "TIFF", {}),
    "tiff-RGB": (RGB, "TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-RGB-packbits": (RGB, "TIFF", {"compression": "packbits"}),
    "tiff-RGBA": (RGBA, "TIFF", {}),
    "tiff-CMYK": (Image.fromarray(texture(4), "CMYK"), "TIFF", {"compression": "tiff_lzw"}),
    "tiff-I16": (Image.fromarray(texture(1, 65535)[..., 0]), "TIFF", {}),
    "bmp-1": (RGB.convert("1"), "BMP", {}),
    "bmp-L": (RGB.convert("L"), "BMP", {}),
    "bmp-P": (PALETTE, "BMP", {}),
    "bmp-RGB": (RGB, "BMP", {}),
}


@pytest.mark.parametrize("case", LOSSLESS)
def test_lossless_formats_return_mode_metadata_and_known_pixels(case: str) -> None:
    picture, kind, options = LOSSLESS[case]
    source = with_metadata(picture, kind, **options)
    before = opened(source)
    photo, hole = read_photo(source), a_hole()
    result = filled(photo, hole)
    after = opened(encode_photo(photo, result, hole))

    assert (after.format, after.mode, after.size) == (before.format, before.mode, before.size)
    assert np.array_equal(np.asarray(after)[~hole], np.asarray(before)[~hole])
    assert not np.array_equal(np.asarray(after)[hole], np.asarray(before)[hole])
    if before.mode in ("RGBA", "LA"):
        assert np.array_equal(np.asarray(after)[..., -1], np.asarray(before)[..., -1])
    if before.mode == "P":
        assert after.getpalette("RGBA")[: len(before.getpalette("RGBA"))] == before.getpalette("RGBA")
    if before.mode in ("RGB", "RGBA"):
        assert np.array_equal(np.asarray(after)[hole][:, :3], result[hole])
    assert after.info.get("icc_profile") == before.info.get("icc_profile")
    assert (after.info.get("icc_profile") == ICC) == (kind != "BMP")
    if kind != "WEBP":
        np.testing.assert_allclose(
            [float(d) for d in after.info["dpi"]], (300, 200), atol=0.02
        )  # PNG and BMP count per metre
    if kind != "BMP":
        assert dict(after.getexif()).get(0x010F) == "Maker of cameras"
    if kind in ("PNG", "WEBP"):  # Pillow writes these directories not into TIFF
        assert after.getexif().get_ifd(0x8769) == {0x9003: "2026:11:22 10:11:12"}
        assert after.getexif().get_ifd(0x8825) == {1: "N"}
    if kind == "TIFF":
        keeps = {"raw": "raw", "group4": "tiff_adobe_deflate"}
        want = keeps.get(before.info["compression"], before.info["compression"])
        assert after.info["compression"] == want


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{"quality": 80}, {"quality": 90, "subsampling": 0, "progressive": True}])
def test_jpeg_keeps_tables_sampling_and_metadata(mode: str, options: dict[str, Any]) -> None:
    picture = {"L": RGB.convert("L"), "RGB": RGB, "CMYK": Image.fromarray(texture(4), "CMYK")}[mode]
    source = with_metadata(picture, "JPEG", comment=b"a comment", **options)
    before, photo, hole = opened(source), read_photo(source), a_hole()
    result = filled(photo, hole)
    after = opened(encode_photo(photo, result, hole))
    assert isinstance(before, JpegImagePlugin.JpegImageFile)
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert (after.mode, after.size) == (before.mode, before.size)
    assert after.quantization == before.quantization
    assert JpegImagePlugin.get_sampling(after) == JpegImagePlugin.get_sampling(before)
    assert after.info.get("progressive") == before.info.get("progressive")
    for key in ("icc_profile", "dpi", "comment", "xmp", "exif", "jfif_density"):
        assert after.info.get(key) == before.info.get(key), key
    far = ~image.dilate(hole, 24)  # blocks (16 wide with subsampling) that hold no new pixel
    difference = np.abs(np.asarray(after)[far].astype(int) - np.asarray(before)[far])
    careless = opened(saved(Image.fromarray(np.asarray(after), mode), "JPEG", quality=75))  # as most tools do
    assert difference.mean() < 0.5 * np.abs(np.asarray(careless)[far].astype(int) - np.asarray(before)[far]).mean()


def test_jpeg_quality_overrides_tables_but_not_sampling() -> None:
    source = saved(RGB, "JPEG", quality=95, subsampling=0)
    photo, hole = read_photo(source), a_hole()
    after = opened(encode_photo(photo, filled(photo, hole), hole, quality=30))
    assert isinstance(after, JpegImagePlugin.JpegImageFile)
    assert after.quantization == opened(saved(RGB, "JPEG", quality=30)).quantization  # type: ignore[attr-defined]
    assert JpegImagePlugin.get_sampling(after) == 0


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_a_quality_that_the_format_does_not_have_is_warned_about(kind: str) -> None:
    photo, hole = read_photo(saved(RGB, "PNG")), a_hole()
    want = encode_photo(photo, filled(photo, hole), hole, format=kind)
    with pytest.warns(RethinedWarning, match=f"quality is of JPEG, WebP, AVIF: the image is written as {kind}"):
        assert encode_photo(photo, filled(photo, hole), hole, format=kind, quality=50) == want


@pytest.mark.parametrize("quality", [None, 100])
def test_progressive_jpeg_of_noise_at_high_quality_can_be_encoded(quality: int | None) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    options = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_PROGRESSIVE, 1]
    source = cv2.imencode(".jpg", noise, options)[1].tobytes()
    photo, hole = read_photo(source), np.ones(noise.shape[:2], bool)
    assert opened(encode_photo(photo, noise[::-1], hole, quality=quality)).size == (400, 300)


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_lossy_formats_keep_size_alpha_and_metadata(kind: str, mode: str) -> None:
    source = with_metadata(RGB if mode == "RGB" else RGBA, kind, quality=90)
    before, photo, hole = opened(source), read_photo(source), a_hole()
    encoded = encode_photo(photo, filled(photo, hole), hole)
    after = opened(encoded)
    assert (after.format, after.mode, after.size) == (kind, mode, before.size)
    assert after.info["icc_profile"] == ICC
    assert after.info["xmp"] == XMP
    assert after.getexif()[0x010F] == "Maker of cameras"
    known, was = np.asarray(after)[~hole].astype(int), np.asarray(before)[~hole]
    assert np.abs(known - was)[:, :3].mean() < 8  # noise is what lossy formats leave out
    assert len(encode_photo(photo, filled(photo, hole), hole, quality=10)) < len(encoded)
    if (kind, mode) == ("WEBP", "RGBA"):
        assert np.array_equal(np.asarray(after)[..., 3], np.asarray(before)[..., 3])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_keeps_every_bit_and_chunk(channels: int) -> None:
    stored = texture(channels, 65535).squeeze()
    chunks = containers.png_chunks(imagecodecs.png_encode(np.ascontiguousarray(stored)))
    extra = [
        (b"iCCP", b"x\0\0" + zlib.compress(ICC)),
        (b"pHYs", struct.pack(">IIB", 11811, 7874, 1)),
        (b"eXIf", an_exif().tobytes()[6:]),
        (b"tEXt", b"Title\0x"),
    ]
    source = containers.join_png_chunks([chunks[0], *extra, *chunks[1:]])
    photo, hole = read_photo(source), a_hole()
    assert photo.pixels.dtype == np.uint16
    result = filled(photo, hole)
    encoded = encode_photo(photo, result, hole)
    after = imagecodecs.png_decode(encoded)
    assert after.dtype == np.uint16
    assert np.array_equal(after[~hole], stored[~hole])
    if channels >= 3:
        assert np.array_equal(after[hole][:, :3], result[hole])
    else:
        assert np.array_equal(after[hole].reshape(-1, channels)[:, 0], grey(result)[hole])
    if channels in (2, 4):
        assert np.array_equal(after[..., -1], stored[..., -1])
    assert [chunk for chunk in containers.png_chunks(encoded) if chunk in extra] == extra
    assert opened(encoded).info["icc_profile"] == ICC


@pytest.mark.parametrize("layout", ["chunky", "planar", "tiled", "bigtiff", "big-endian", "lzw", "alpha", "grey"])
def test_16_bit_tiff_keeps_every_bit_and_tag(layout: str) -> None:
    stored = texture({"alpha": 4, "grey": 1}.get(layout, 3), 65535).squeeze()
    options: dict[str, Any] = {
        "planar": {"planarconfig": "separate", "rowsperstrip": 7},
        "tiled": {"tile": (16, 16), "compression": "lzw"},
        "bigtiff": {"bigtiff": True},
        "big-endian": {"byteorder": ">"},
        "lzw": {"compression": "lzw", "predictor": True},
        "alpha": {"extrasamples": ["unassalpha"]},
    }.get(layout, {})
    laid_out = np.moveaxis(stored, -1, 0) if layout == "planar" else stored
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        laid_out,
        photometric="minisblack" if layout == "grey" else "rgb",
        metadata=None,
        description="What it shows",
        resolution=(300, 200),
        resolutionunit="inch",
        iccprofile=ICC,
        extratags=[(700, 1, len(XMP), XMP, True), (65000, 4, 3, (1, 2, 3), True)],
        **options,
    )
    photo, hole = read_photo(buffer.getvalue()), a_hole()
    result = filled(photo, hole)
    encoded = encode_photo(photo, result, hole)
    with tifffile.TiffFile(io.BytesIO(encoded)) as file:
        page = file.pages[0].aspage()
        after = page.asarray()
        assert len(file.pages) == 1
        assert page.description == "What it shows"
        assert (page.tags[282].value, page.tags[283].value, page.tags[296].value) == ((300, 1), (200, 1), 2)
        assert page.tags[34675].value == ICC
        assert page.tags[700].value == XMP
        assert page.tags[65000].value == (1, 2, 3)
        assert file.byteorder == (">" if layout == "big-endian" else "<")
        assert (int(page.compression), int(page.predictor)) == {"lzw": (5, 2), "tiled": (5, 1)}.get(layout, (1, 1))
    assert after.dtype == np.uint16
    assert after.shape == stored.shape
    assert np.array_equal(after[~hole], stored[~hole])
    if layout == "grey":
        assert np.array_equal(after[hole], grey(result)[hole])
    else:
        assert np.array_equal(after[hole][:, :3], result[hole])
    if layout == "alpha":
        assert np.array_equal(after[..., 3], stored[..., 3])


def test_tiff_where_0_is_white_and_premultiplied_tiff() -> None:
    hole = a_hole()
    white_is_0 = texture(1)[..., 0]
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, white_is_0, photometric="miniswhite", metadata=None)
    photo = read_photo(buffer.getvalue())
    assert np.array_equal(photo.pixels[..., 1], 255 - white_is_0)
    result = filled(photo, hole)
    after = tifffile.imread(io.BytesIO(encode_photo(photo, result, hole)))
    assert np.array_equal(after, np.where(hole, 255 - grey(result), white_is_0))

    stored = texture(4)
    stored[..., :3] = (stored[..., :3] * (stored[..., 3:] / 255)).astype(np.uint8)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, stored, photometric="rgb", extrasamples=["assocalpha"], metadata=None)
    photo = read_photo(buffer.getvalue())
    after = tifffile.imread(io.BytesIO(encode_photo(photo, filled(photo, hole), hole)))
    assert np.array_equal(after[~hole], stored[~hole])
    assert (after[..., :3] <= after[..., 3:]).all()  # a colour brighter than its alpha is no premultiplied colour


def test_bmp_with_alpha() -> None:
    stored = texture(4)
    source = cv2.imencode(".bmp", stored)[1].tobytes()
    photo, hole = read_photo(source), a_hole()
    assert np.array_equal(photo.pixels, stored[..., 2::-1])
    encoded = encode_photo(photo, filled(photo, hole), hole)
    after = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(after[~hole], stored[~hole])
    assert np.array_equal(after[..., 3], stored[..., 3])


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_png_of_few_bits(depth: int) -> None:
    levels = texture(1, 2**depth - 1)[..., 0]
    bits = np.unpackbits(levels[..., None], axis=-1)[..., -depth:].reshape(HEIGHT, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in bits)
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    source = containers.join_png_chunks(chunks)
    photo, hole = read_photo(source), a_hole()
    spread = levels * (255 // (2**depth - 1))
    assert np.array_equal(photo.pixels[..., 0], spread)
    encoded = encode_photo(photo, filled(photo, hole), hole)
    assert dict(containers.png_chunks(encoded))[b"IHDR"] == header
    after = np.asarray(opened(encoded).convert("L"))
    assert np.array_equal(after[~hole], spread[~hole])
    assert not np.array_equal(after[hole], spread[hole])


def test_interlaced_palette_png() -> None:
    indices = np.asarray(PALETTE)
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b"".join(b"\0" + row.tobytes() for y, x, dy, dx in passes for row in indices[y::dy, x::dx])
    chunks = containers.png_chunks(saved(PALETTE, "PNG"))
    chunks[0] = (b"IHDR", chunks[0][1][:12] + b"\1")
    chunks = [(kind, zlib.compress(rows) if kind == b"IDAT" else payload) for kind, payload in chunks]
    source = containers.join_png_chunks(chunks)
    assert np.array_equal(np.asarray(opened(source)), indices)
    photo, hole = read_photo(source), a_hole()
    after = np.asarray(opened(encode_photo(photo, filled(photo, hole), hole)))
    assert np.array_equal(after[~hole], indices[~hole])


def test_palette_fill_takes_the_nearest_colour_of_the_same_alpha() -> None:
    indices = np.random.default_rng(3).integers(0, 5, (HEIGHT, WIDTH)).astype(np.uint8)
    picture = Image.fromarray(indices, "P")
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9], "RGB")
    alpha = bytes([255, 255, 255, 200, 0])  # entry 4 is transparent, entry 3 in part
    photo, hole = read_photo(saved(picture, "PNG", transparency=alpha)), a_hole()
    result = photo.pixels.copy()
    result[hole] = (250, 10, 10)
    after = opened(encode_photo(photo, result, hole))
    assert after.info["transparency"] == alpha
    want = np.where(hole & (indices < 3), 1, indices)  # 3 and 4 are the only ones of their alpha
    assert np.array_equal(np.asarray(after), want)


def test_the_transparent_colour_of_a_png_stays_where_it_was_and_appears_nowhere_else() -> None:
    pixels = texture(3)
    pixels[10:20, 10:30] = key = np.array([1, 2, 3])
    source = saved(Image.fromarray(pixels), "PNG", transparency=(1, 2, 3))
    photo, hole = read_photo(source), a_hole()
    result = photo.pixels.copy()
    result[hole] = key
    after = opened(encode_photo(photo, result, hole))
    assert after.info["transparency"] == (1, 2, 3)
    assert np.array_equal((np.asarray(after) == key).all(-1), (pixels == key).all(-1))
    assert np.array_equal(np.asarray(after)[~hole], pixels[~hole])


def test_cmyk_fill_has_the_photos_own_share_of_black() -> None:
    stored = texture(4)
    stored[..., 3] = stored[..., :3].min(-1) // 2  # some black, by a rule
    picture = Image.fromarray(stored, "CMYK")
    photo, hole = read_photo(saved(picture, "TIFF")), a_hole()
    after = np.asarray(opened(encode_photo(photo, photo.pixels, hole)))
    # Filled with its own colours the picture stays what it was: in RGB by rounding, in black closely.
    rgb = [np.asarray(Image.fromarray(cmyk, "CMYK").convert("RGB")).astype(int) for cmyk in (stored, after)]
    assert np.abs(rgb[0] - rgb[1]).max() <= 2
    assert np.abs(after[hole][:, 3].astype(int) - stored[hole][:, 3]).mean() < 12  # without the rule: over 50


def test_cmyk_is_read_as_pillow_reads_it() -> None:
    picture = Image.fromarray(texture(4), "CMYK")
    want = np.asarray(picture.convert("RGB")).astype(int)
    assert np.abs(read_photo(saved(picture, "TIFF")).pixels - want).max() <= 1


# ---------------------------------------------------------------- orientation


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_upright_is_what_viewers_show(orientation: int) -> None:
    picture = RGB.copy()
    picture.getexif()[0x0112] = orientation
    want = np.asarray(ImageOps.exif_transpose(picture))
    for array in (texture(3), texture(3)[..., 0], texture(3) > 99, texture(3).astype(np.uint16)):
        turned = image.upright(array, orientation)
        assert turned.dtype == array.dtype
        assert np.array_equal(image.stored_as(turned, orientation), array)
    assert np.array_equal(image.upright(texture(3), orientation), want)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
def test_a_mask_drawn_on_the_displayed_photo_fits(kind: str, orientation: int) -> None:
    options = {
        "WEBP": {"lossless": True},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
        "JPEG": {"quality": 100},
    }
    source = with_metadata(RGB, kind, orientation, **options.get(kind, {}))
    displayed = ImageOps.exif_transpose(opened(source))
    drawn = np.zeros(displayed.size[::-1], bool)
    drawn[3:11, 5:30] = True
    photo = read_photo(source)
    mask = read_mask(saved(Image.fromarray(drawn), "PNG"), photo)
    assert photo.size == displayed.size
    assert np.array_equal(photo.pixels, np.asarray(displayed))
    result = photo.pixels.copy()
    result[mask] = (255, 0, 0)
    after = opened(encode_photo(photo, result, mask))
    assert after.size == opened(source).size  # the stored one
    if kind == "TIFF":  # which Pillow turns on its own
        with tifffile.TiffFile(io.BytesIO(encode_photo(photo, result, mask))) as file:
            assert file.pages[0].aspage().tags[0x0112].value == orientation
    else:
        assert after.getexif().get(0x0112, 1) == orientation
    shown = np.asarray(ImageOps.exif_transpose(after)).astype(int)
    assert (np.abs(shown[5:9, 8:27] - (255, 0, 0)) < 60).all()  # lossy ones bleed at the border
    if kind in ("PNG", "TIFF", "WEBP"):
        assert np.array_equal(shown, result)


def test_another_format_is_written_upright_with_its_tag_reset() -> None:
    source = with_metadata(RGB, "JPEG", orientation=6)
    photo = read_photo(source)
    hole = np.zeros(photo.size[::-1], bool)
    hole[3:11, 5:30] = True
    for kind in ("PNG", "TIFF", "WebP", "BMP"):
        after = opened(encode_photo(photo, photo.pixels, hole, format=kind))
        assert after.size == photo.size == (HEIGHT, WIDTH)
        assert after.getexif().get(0x0112, 1) == 1
        if kind != "BMP":
            assert after.getexif()[0x010F] == "Maker of cameras"
            assert after.info["icc_profile"] == ICC
        if kind != "WebP":
            assert np.array_equal(np.asarray(after), photo.pixels)
            np.testing.assert_allclose([float(d) for d in after.info["dpi"]], (300, 200), atol=0.02)


def test_directories_below_exif_go_into_tiff_and_through_it() -> None:
    hole = a_hole()
    for order in ("<", ">"):
        exif = an_exif()
        exif.endian = order
        jpeg = read_photo(saved(RGB, "JPEG", exif=exif))
        assert jpeg.metadata.exif is not None
        assert containers.byte_order(jpeg.metadata.exif) == order
        tiff = encode_photo(jpeg, jpeg.pixels, hole, format="TIFF")
        photo = read_photo(tiff)
        again = encode_photo(photo, filled(photo, hole), hole)
        assert again != tiff
        for data in (tiff, again, encode_photo(photo, photo.pixels, hole, format="JPEG")):
            tags = opened(data).getexif()
            assert tags[0x010F] == "Maker of cameras"
            assert tags.get_ifd(0x8769) == {0x9003: "2026:11:22 10:11:12"}
            assert tags.get_ifd(0x8825) == {1: "N"}


# ---------------------------------------------------------------- conversions


@pytest.mark.parametrize("target", ["JPEG", "PNG", "WebP", "TIFF", "AVIF", "BMP"])
@pytest.mark.parametrize("case", LOSSLESS)
def test_every_source_can_be_written_in_every_format_or_says_why_not(case: str, target: str) -> None:
    picture, kind, options = LOSSLESS[case]
    source = with_metadata(picture, kind, **options)
    photo, hole = read_photo(source), a_hole()
    if photo.format == target:
        return
    result = filled(photo, hole)
    shown = np.asarray(picture.convert("RGB")) if photo.peak < 65535 else photo.pixels
    with pytest.MonkeyPatch.context() as patch:
        warned: list[str] = []
        patch.setattr(image, "warn", warned.append)
        if case.endswith("A") and target in ("JPEG", "BMP"):
            with pytest.raises(InputError, match="has transparency"):
                encode_photo(photo, result, hole, format=target)
            return
        encoded = encode_photo(photo, result, hole, format=target)
    deep = photo.peak == 65535 and target not in ("PNG", "TIFF")
    assert bool(warned) == deep
    again = read_photo(encoded)
    assert again.format == target
    assert again.size == photo.size
    if deep:
        shown = np.rint(photo.pixels / 257).astype(np.uint8)
    error = np.abs(again.pixels[~hole].astype(int) - shown[~hole])
    lossy = target in ("JPEG", "WebP", "AVIF")
    # 1: CMYK is rounded otherwise by Pillow. Lossy ones: one-bit dithers and noise are their worst case.
    assert error.mean() < (40 if photo.peak == 1 else 16) if lossy else error.max() <= 1
    if target not in ("JPEG", "BMP"):
        assert (again.alpha is None) == (photo.alpha is None)
    if photo.alpha is not None and again.alpha is not None:
        assert np.abs(again.alpha.astype(int) - photo.alpha).mean() < 3  # AVIF is lossy in alpha too


def test_heic_is_read_upright_and_never_written() -> None:
    pytest.importorskip("pi_heif")
    photo = read_photo(HEIC, name="p.heic")
    assert photo.format == "HEIC"
    assert photo.size == (32, 48)  # 48 x 32 turned by its orientation 6
    y, x = np.mgrid[:48, :32]
    assert np.abs(photo.pixels - np.stack([y * 5, (31 - x) * 7, 0 * x + 128], -1)).mean() < 8
    hole = np.zeros((48, 32), bool)
    hole[5:9, 5:9] = True
    with pytest.raises(InputError, match=r"p.heic is HEIC.*\.jpg or \.png"):
        encode_photo(photo, photo.pixels, hole)
    after = opened(encode_photo(photo, photo.pixels, hole, format="PNG"))
    assert np.array_equal(np.asarray(after), photo.pixels)
    assert after.getexif()[0x010F] == "Maker"
    assert after.getexif()[0x0112] == 1


def test_an_empty_mask_returns_the_very_file() -> None:
    source = with_metadata(RGB, "JPEG")
    photo = read_photo(source)
    assert encode_photo(photo, photo.pixels, np.zeros((HEIGHT, WIDTH), bool)) == source


def test_thumbnails_that_show_what_was_removed_are_dropped() -> None:
    thumbnail = saved(RGB.resize((20, 15)), "JPEG")
    exif = bytearray(an_exif().tobytes()[6:])
    order = containers.byte_order(bytes(exif))
    first = struct.unpack_from(order + "I", exif, 4)[0]
    link = first + 2 + 12 * struct.unpack_from(order + "H", exif, first)[0]
    struct.pack_into(order + "I", exif, link, len(exif))
    at = len(exif) + 2 + 2 * 12 + 4
    exif += struct.pack(order + "HHHIIHHIII", 2, 513, 4, 1, at, 514, 4, 1, len(thumbnail), 0) + thumbnail
    resources = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(value)) + value + b"\0" * (len(value) % 2)
        for number, value in ((1028, b"caption"), (1036, thumbnail))
    )
    plain = saved(RGB, "JPEG", exif=b"Exif\0\0" + bytes(exif))
    segment = b"Photoshop 3.0\0" + resources
    source = plain[:2] + struct.pack(">HH", 0xFFED, len(segment) + 2) + segment + plain[2:]
    assert source.count(thumbnail) == 2
    photo, hole = read_photo(source), a_hole()
    encoded = encode_photo(photo, filled(photo, hole), hole)
    assert thumbnail not in encoded
    assert b"caption" in encoded
    assert opened(encoded).getexif()[0x010F] == "Maker of cameras"
    png = encode_photo(photo, filled(photo, hole), hole, format="PNG")
    assert thumbnail not in png


# ---------------------------------------------------------------- masks


def mask_of(picture: Image.Image | bytes, photo: image.Photo | None = None, **options: Any) -> Any:
    data = picture if isinstance(picture, bytes) else saved(picture, "PNG")
    return read_mask(data, photo or read_photo(saved(RGB, "PNG")), **options)


def test_white_is_the_hole_in_every_mode() -> None:
    hole = a_hole()
    light = np.where(hole, 128, 127).astype(np.uint8)  # just so
    greys = Image.fromarray(light)
    deep = np.where(hole, 32768, 32767).astype(np.uint16)
    tiff = io.BytesIO()
    tifffile.imwrite(tiff, 255 - light, photometric="miniswhite", metadata=None)
    masks: dict[str, Image.Image | bytes] = {
        "L": greys,
        "1": Image.fromarray(hole),
        "P": greys.convert("P"),
        "RGB": greys.convert("RGB"),
        "RGBA": greys.convert("RGBA"),
        "LA": greys.convert("LA"),
        "16 bit": Image.fromarray(deep),
        "16 bit RGB": imagecodecs.png_encode(np.dstack([deep] * 3)),
        "CMYK": saved(Image.fromarray(np.where(hole, 255, 0).astype(np.uint8)).convert("CMYK"), "TIFF"),
        "JPEG": saved(Image.fromarray(np.where(hole, 255, 0).astype(np.uint8)), "JPEG", quality=100),
        "0 is white": tiff.getvalue(),
        "WebP": saved(Image.fromarray(np.where(hole, 255, 0).astype(np.uint8)), "WEBP", lossless=True),
    }
    for mode, picture in masks.items():
        assert np.array_equal(mask_of(picture), hole), mode
        assert np.array_equal(mask_of(picture, invert=True), ~hole), mode


def test_what_is_painted_on_an_empty_layer_is_the_hole() -> None:
    hole = a_hole()
    alpha = np.where(hole, 128, 127).astype(np.uint8)
    for colour in ((255, 255, 255), (0, 0, 0), (255, 0, 0)):
        layer = np.dstack([np.full((HEIGHT, WIDTH, 3), colour, np.uint8), alpha])
        assert np.array_equal(mask_of(Image.fromarray(layer)), hole)
        layer[~hole] = 0  # programs that forget the colour under full transparency
        assert np.array_equal(mask_of(Image.fromarray(layer)), hole)
    grey_layer = np.dstack([np.zeros_like(alpha), alpha])
    assert np.array_equal(mask_of(Image.fromarray(grey_layer, "LA")), hole)
    assert not mask_of(Image.fromarray(np.zeros((HEIGHT, WIDTH, 4), np.uint8))).any()


def test_black_and_white_on_a_layer_is_read_as_black_and_white() -> None:
    hole = a_hole()
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    layer[hole, :3] = 255
    layer[..., 3] = 255
    layer[:, 50:] = (255, 255, 255, 0)  # white, but invisible
    assert np.array_equal(mask_of(Image.fromarray(layer)), hole & (np.arange(WIDTH) < 50))


def test_a_mask_whose_white_is_not_white_is_warned_about() -> None:
    hole = a_hole()
    marked = hole.astype(np.uint8)
    layer = np.dstack([marked * 70] * 3 + [np.full_like(marked, 255)])
    layer[:, 50:] = (255, 255, 255, 0)  # white, but invisible
    masks: dict[str, Image.Image] = {
        "is 1; white, which is filled, is 128 or more": Image.fromarray(marked),
        "is 127; white": Image.fromarray(marked * 127),
        "is 255; white, which is filled, is 32768 or more": Image.fromarray(marked.astype(np.uint16) * 255),
        "is 70; white": Image.fromarray(layer),
    }
    for words, picture in masks.items():
        with pytest.warns(RethinedWarning, match=f"the brightest pixel of the mask {words}"):
            assert not mask_of(picture).any()
        with pytest.warns(RethinedWarning, match=f"the brightest pixel of the mask {words}"):
            assert not image.mask_from_pillow(picture).any()
    assert not mask_of(Image.new("L", (WIDTH, HEIGHT))).any()  # black: nothing to fill was meant


def test_a_photo_as_a_mask_is_warned_about() -> None:
    seen = Image.new("RGBA", RGB.size)
    seen.paste(RGB.crop((0, 0, 40, HEIGHT)))
    deep = Image.fromarray(texture(1, 65535)[..., 0])
    for picture in (RGB, RGB.convert("L"), deep, RGB.convert("RGBA"), seen):
        for mask in (mask_of, image.mask_from_pillow):
            with pytest.warns(RethinedWarning, match="the mask has many greys; is it a photo"):
                mask(picture)


def test_soft_and_compressed_masks_are_no_photos() -> None:
    photo = read_photo(saved(Image.new("RGB", (256, 256)), "PNG"))
    wires = np.zeros((256, 256), np.uint8)
    for y in range(0, 256, 12):
        cv2.line(wires, (0, y), (255, y + 40), 255, 1, cv2.LINE_AA)
    ellipse = Image.fromarray(cv2.ellipse(np.zeros_like(wires), (120, 130), (80, 50), 30, 0, 360, 255, -1))
    masks = [Image.fromarray(wires), ellipse, ellipse.filter(ImageFilter.GaussianBlur(8))]
    masks += [ellipse.point(lambda level: level * 200 // 255), ellipse.resize((64, 64)).resize((256, 256))]
    for mask in masks:
        for data in (saved(mask, "PNG"), saved(mask, "JPEG", quality=10), saved(mask, "JPEG", quality=75)):
            assert mask_of(data, photo).any()


def test_a_mask_of_another_size_names_both() -> None:
    with pytest.raises(InputError, match="the mask is 61 x 44 but the image is 61 x 45"):
        mask_of(Image.new("L", (61, 44)))
    turned = read_photo(with_metadata(RGB, "JPEG", orientation=6))
    with pytest.raises(InputError, match=r"61 x 45 but the image is displayed as 45 x 61.*before its EXIF"):
        mask_of(Image.new("L", (61, 45)), turned)


@given(seed=st.integers(0, 99), radius=st.integers(0, 6))
@settings(max_examples=25, deadline=None)
def test_dilate_is_a_disc(seed: int, radius: int) -> None:
    rng = np.random.default_rng(seed)
    mask = rng.random((17, 23)) < 0.02
    ys, xs = np.nonzero(mask)
    y, x = np.mgrid[:17, :23]
    near = ((y[..., None] - ys) ** 2 + (x[..., None] - xs) ** 2 <= radius**2).any(-1)
    assert np.array_equal(image.dilate(mask, radius), near)


@given(seed=st.integers(0, 99), radius=st.integers(0, 9), deep=st.booleans())
@settings(max_examples=25, deadline=None)
def test_feather_changes_nothing_outside_and_fades_inside(seed: int, radius: int, deep: bool) -> None:
    rng = np.random.default_rng(seed)
    kind = np.uint16 if deep else np.uint8
    before, fill = (rng.integers(0, np.iinfo(kind).max, (17, 23, 3)).astype(kind) for _ in range(2))
    mask = np.zeros((17, 23), bool)
    mask[3:14, 4:20] = True
    result = np.where(mask[..., None], fill, before)
    faded = image.feather(before, result, mask, radius)
    assert faded.dtype == kind
    assert np.array_equal(faded[~mask], before[~mask])
    y, x = np.mgrid[:17, :23]
    inside = np.minimum.reduce([y - 2, 14 - y, x - 3, 20 - x])  # pixels to the nearest known one
    weight = np.clip(inside / (radius + 1), 0, 1)[..., None]
    want = before * (1 - weight) + result * weight
    assert np.abs(faded - want).max() <= 0.51


# ---------------------------------------------------------------- Pillow images

PILLOW = {
    "1": RGB.convert("1"),
    "L": RGB.convert("L"),
    "LA": Image.fromarray(texture(2), "LA"),
    "P": RGB.quantize(60),
    "RGB": RGB,
    "RGBA": RGBA,
    "CMYK": Image.fromarray(texture(4), "CMYK"),
    "I;16": Image.fromarray(texture(1, 65535)[..., 0]),
}


@pytest.mark.parametrize("mode", PILLOW)
def test_a_pillow_image_comes_back_in_its_mode(mode: str) -> None:
    picture = PILLOW[mode].copy()
    assert picture.mode == mode
    picture.info["dpi"] = (300, 300)
    before, hole = np.array(picture), a_hole()
    photo = image.photo_from_pillow(picture)
    result = filled(photo, hole)
    after = image.pillow_result(photo, result, hole)
    assert (after.mode, after.size, after.info) == (picture.mode, picture.size, picture.info)
    assert np.array_equal(np.array(picture), before)  # the caller's own is not written to
    assert np.array_equal(np.asarray(after)[~hole], before[~hole])
    shown = np.asarray(after.convert("RGB")) if not mode.startswith("I") else np.asarray(after)
    want = result if not mode.startswith("I") else grey(result)
    if mode in ("RGB", "RGBA", "I;16", "CMYK"):
        assert np.abs(shown[hole].astype(int) - want[hole]).max() <= (2 if mode == "CMYK" else 0)
    else:
        assert not np.array_equal(np.asarray(after)[hole], before[hole])


def test_pillow_images_as_masks_and_those_that_are_neither() -> None:
    hole = a_hole()
    for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK"):
        assert np.array_equal(image.mask_from_pillow(Image.fromarray(hole).convert(mode)), hole), mode
    for mode in ("F", "I", "YCbCr"):
        with pytest.raises(InputError, match=f"image has mode {mode}; convert it to RGB"):
            image.photo_from_pillow(RGB.convert(mode))
        with pytest.raises(InputError, match=f"mask has mode {mode}; convert it to L"):
            image.mask_from_pillow(RGB.convert(mode))


# ---------------------------------------------------------------- bad input


def damaged_files() -> dict[str, bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    whole = {kind: saved(noise, kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP")}
    cut = {f"{kind} cut": data[: len(data) * 2 // 3] for kind, data in whole.items()}
    heads = {f"{kind} head": data[:70] for kind, data in whole.items()}
    flipped = bytearray(whole["PNG"])
    flipped[len(flipped) // 2] ^= 0xFF
    return cut | heads | {"PNG bit": bytes(flipped), "HEIC cut": HEIC[:400]}


@pytest.mark.parametrize(("case", "data"), damaged_files().items(), ids=damaged_files())
def test_damaged_files_are_refused_in_one_sentence(case: str, data: bytes) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_photo(data, name="p")
    assert str(caught.value).startswith("p is ")
    assert "\n" not in str(caught.value)
    assert "bytes not processed" not in str(caught.value)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_no_damage_raises_anything_else(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(FUZZED)))
    source = bytearray(FUZZED[kind])
    for _ in range(data.draw(st.integers(1, 6))):
        source[data.draw(st.integers(0, len(source) - 1))] = data.draw(st.integers(0, 255))
    try:
        photo = read_photo(bytes(source), max_pixels=10**6)
    except InputError:
        return
    hole = np.zeros(photo.size[::-1], bool)
    hole[: max(1, photo.size[1] // 2)] = True
    try:
        encode_photo(photo, photo.pixels, hole)
    except (InputError, OutputError):
        return


def test_not_an_image() -> None:
    for data, what in (
        (b"", "empty"),
        (b"hello world", "not an image"),
        (saved(PALETTE, "GIF"), "not an image"),
    ):
        with pytest.raises(InputError, match=f"the image is {what}") as caught:
            read_photo(data)
        assert not isinstance(caught.value, UnreadableError)


def test_heic_whose_items_have_no_names_is_refused_before_it_crashes_the_decoder() -> None:
    pytest.importorskip("pi_heif")
    at = HEIC.index(b"infe", HEIC.index(b"infe") + 4)
    with pytest.raises(UnreadableError, match="damaged"):
        read_photo(HEIC[: at + 13] + b"\xff" + HEIC[at + 14 :])


def test_several_frames_are_refused() -> None:
    frames = [Image.fromarray(texture(3, seed=seed)) for seed in range(3)]
    for kind in ("WEBP", "TIFF", "PNG", "AVIF"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(InputError, match="several frames"):
            read_photo(data)


def test_kinds_of_tiff_that_are_not_read() -> None:
    for array in (texture(3).astype(np.float32), texture(3).astype(np.uint32)):
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, array, photometric="rgb", metadata=None)
        with pytest.raises(InputError, match="convert it to 8 or 16 bit"):
            read_photo(buffer.getvalue())


@given(raw=st.binary(max_size=300), doubled=st.booleans())
@settings(max_examples=60, deadline=None)
def test_lzw_is_undone(raw: bytes, doubled: bool) -> None:
    raw = raw * 40 if doubled else raw  # long runs, full tables
    packed = imagecodecs.lzw_encode(raw) if raw else b"\x80\x40\x40"  # CLEAR, END
    assert lzw.decode(packed, len(raw)) == raw
    with pytest.raises(ValueError, match="damaged"):
        lzw.decode(packed, len(raw) + 1)


def test_lzw_of_a_whole_picture() -> None:
    raw = np.random.default_rng(0).integers(0, 9, 200_000).astype(np.uint8).tobytes()  # many full tables
    assert lzw.decode(imagecodecs.lzw_encode(raw), len(raw)) == raw


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "BMP"])
def test_the_limit_of_pixels_is_checked_before_decoding(kind: str) -> None:
    data = saved(RGB, kind)
    assert read_photo(data, max_pixels=WIDTH * HEIGHT).size == (WIDTH, HEIGHT)
    with pytest.raises(InputError, match=r"61 x 45 .* limit .* raise max-pixels"):
        read_photo(data, max_pixels=WIDTH * HEIGHT - 1)


def test_a_bomb_is_never_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 10**6)), (b"IEND", b"")]
    with pytest.raises(InputError, match="60000 x 60000 = 3,600,000,000 pixels, the limit is 400,000,000"):
        read_photo(containers.join_png_chunks(chunks))


def test_a_picture_too_large_for_the_format() -> None:
    photo = read_photo(saved(Image.new("RGB", (16_400, 2)), "PNG"))
    hole = np.zeros((2, 16_400), bool)
    hole[0, 0] = True
    with pytest.raises(OutputError, match="cannot be written as WebP"):
        encode_photo(photo, photo.pixels, hole, format="WebP")


@pytest.mark.parametrize(
    ("name", "message"), [("a.gif", r"\.gif files"), ("a", "no suffix"), ("a.heic", r"\.heic files")]
)
def test_formats_that_are_not_written(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        image.format_of(Path(name))


# ---------------------------------------------------------------- writing


def test_write_is_whole_and_never_over_a_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    write_atomic(target, b"one")
    with pytest.raises(InputError, match="--overwrite"):
        write_atomic(target, b"two")
    assert target.read_bytes() == b"one"
    target.chmod(0o640)
    write_atomic(target, b"two", overwrite=True)
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o640
    link = tmp_path / "link.bin"
    link.symlink_to(target)
    write_atomic(link, b"three", overwrite=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"three"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.bin", "link.bin"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException, step: str
) -> None:
    def fail(*_: object) -> None:
        raise failure

    owner: Any = image.os if step == "fsync" else Path
    monkeypatch.setattr(owner, step, fail)
    expected = OutputError if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        write_atomic(tmp_path / "a.bin", b"one")
    assert list(tmp_path.iterdir()) == []
    if expected is OutputError:
        assert str(caught.value).endswith("a.bin cannot be written: No space left on device")


def test_outputs_that_cannot_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "a.png", Path("/dev/null")):
        with pytest.raises(InputError):
            write_atomic(path, b"one", overwrite=True)


def test_side_by_side_shows_three_panels() -> None:
    photo, hole = read_photo(with_metadata(RGB, "PNG")), a_hole()
    picture = opened(image.encode_side_by_side(photo, filled(photo, hole), hole))
    assert picture.size == (3 * WIDTH, HEIGHT)
    panels = np.asarray(picture).reshape(HEIGHT, 3, WIDTH, 3).swapaxes(0, 1).astype(int)
    assert np.abs(panels[0] - photo.pixels).mean() < 12  # noise under chroma subsampling
    assert np.abs(panels[1][hole] - 127).mean() < 12
    assert picture.info["icc_profile"] == ICC
    large = opened(image.encode_side_by_side(photo, photo.pixels, hole, height=30))
    assert large.size == (122, 30)


FUZZED = {
    "JPEG": with_metadata(RGB, "JPEG"),
    "PNG": with_metadata(RGB, "PNG"),
    "PNG palette": with_metadata(RGB.quantize(13), "PNG", bits=4),
    "TIFF": with_metadata(RGB, "TIFF", compression="tiff_lzw"),
    "TIFF fax": with_metadata(RGB.convert("1"), "TIFF", compression="group4"),
    "TIFF PackBits": with_metadata(RGB.convert("L"), "TIFF", compression="packbits"),
    "TIFF JPEG": with_metadata(RGB, "TIFF", compression="jpeg"),
    "WebP": with_metadata(RGB, "WEBP"),
    "AVIF": with_metadata(RGB, "AVIF"),
    "BMP": with_metadata(PALETTE, "BMP"),
}


@pytest.mark.parametrize("source", ["PNG", "BMP"])
@pytest.mark.parametrize("drawn", [True, False])
def test_png_is_compressed_as_what_it_holds_asks(source: str, drawn: bool, tmp_path: Path) -> None:
    """Photos in the fast way, which is about as small, whatever they were read from; drawings in the slow one."""
    if drawn:
        picture = np.full((300, 700, 3), 240, np.uint8)
        picture[::30, :, :2] = 20
        picture[np.arange(300), np.arange(300) * 2] = (200, 30, 30)
    else:
        with Image.open(Path(__file__).parent.parent / "examples" / "photos" / "city.jpg") as file:
            picture = np.asarray(file.convert("RGB"))[:300, :700]
    path = tmp_path / f"picture.{source.lower()}"
    Image.fromarray(picture).save(path)
    photo = read_photo(path)
    mask = np.zeros((300, 700), np.bool_)
    mask[0, 0] = True
    size = len(encode_photo(photo, photo.pixels, mask, format="PNG"))
    fast, slow = (len(imagecodecs.png_encode(picture, **way)) for way in ({"level": 1, "strategy": 3}, {"level": 6}))
    assert (slow < 0.8 * fast) == drawn
    assert abs(size - (slow if drawn else fast)) < 100
