"""What travels beside the pixels: JPEG segments, PNG chunks, EXIF and TIFF tags.

Bytes in, bytes out: no pixel is decoded here. An EXIF block is itself a small TIFF, so one tag reader serves
both. Every reader raises ValueError or struct.error on damaged bytes.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

Tags = dict[int, "Tag"]


@dataclass(frozen=True)
class Tag:
    """One TIFF tag: its type number and its raw value, or the tags of the directory it points to."""

    type: int
    value: bytes | Tags


@dataclass(frozen=True)
class Metadata:
    """What every container can say about a picture, in no container's own wrapping."""

    exif: bytes | None = None
    """A TIFF-structured block ("II*..." or "MM.*"), without the "Exif" prefix of JPEG."""
    icc: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    """Horizontal and vertical, pixels per inch."""


# ---------------------------------------------------------------- TIFF tags

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
XMP, PHOTOSHOP, ICC = 700, 34377, 34675
DIRECTORIES = {34665, 34853, 40965}  # Exif, GPS, interoperability: tags whose value is a directory
SHORT, LONG, RATIONAL, UNDEFINED = 3, 4, 5, 7
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
# How the pixels are laid out, which the encoder says anew; and copies of the old pixels (previews, layers of
# Photoshop), which would show what was removed.
LAYOUT = {*range(254, 270), 273, *range(277, 282), 284, *range(288, 294), 317, *range(320, 328), 330, 334}
LAYOUT |= {*range(338, 342), 347, *range(512, 522), *range(529, 533), 37724}


def byte_order(tiff: bytes) -> str:
    """The struct prefix "<" or ">" of a TIFF or EXIF block."""
    if tiff[:2] not in (b"II", b"MM"):
        raise ValueError("no TIFF byte order mark")
    return "<" if tiff[:2] == b"II" else ">"


def read_tags(tiff: bytes) -> Tags:
    """The tags of the first directory and those below it; a second directory (the thumbnail) is left out."""
    order = byte_order(tiff)
    big = struct.unpack_from(order + "H", tiff, 2)[0] == 43
    first = struct.unpack_from(order + ("Q" if big else "I"), tiff, 8 if big else 4)[0]
    return _read_directory(tiff, first, order, big, depth=0)


def _read_directory(tiff: bytes, offset: int, order: str, big: bool, depth: int) -> Tags:
    count_format, entry_format, inline = ("Q", "HHQ8s", 8) if big else ("H", "HHI4s", 4)
    count = struct.unpack_from(order + count_format, tiff, offset)[0]
    start, step = offset + struct.calcsize(order + count_format), struct.calcsize(order + entry_format)
    if start + count * step > len(tiff):
        raise ValueError("a TIFF directory ends after the file")
    tags: Tags = {}
    for at in range(start, start + count * step, step):
        code, kind, number, value = struct.unpack_from(order + entry_format, tiff, at)
        size = TYPE_BYTES.get(kind, 0) * number
        if size == 0:
            continue  # a type of BigTIFF or none at all
        where = struct.unpack(order + ("Q" if big else "I"), value)[0]
        if code in DIRECTORIES:
            if depth < 2 and where + 2 <= len(tiff):
                tags[code] = Tag(LONG, _read_directory(tiff, where, order, big, depth + 1))
            continue
        raw = value[:size] if size <= inline else tiff[where : where + size]
        if len(raw) == size:  # cameras do write tags that point past the end; such a tag is lost already
            tags[code] = Tag(kind, raw)
    return tags


def write_tags(tags: Tags, order: str, base: int) -> bytes:
    """A directory for position `base` of a classic TIFF, followed by its values and sub-directories."""
    entries, values = b"", b""
    values_at = base + 2 + 12 * len(tags) + 4
    for code, tag in sorted(tags.items()):
        if isinstance(tag.value, bytes):
            number, raw = len(tag.value) // TYPE_BYTES[tag.type], tag.value
            nested = False
        else:
            number, raw = 1, write_tags(tag.value, order, values_at + len(values))
            nested = True
        if len(raw) <= 4 and not nested:
            field = raw.ljust(4, b"\0")
        else:
            field = struct.pack(order + "I", values_at + len(values))
            values += raw + b"\0" * (len(raw) % 2)
        entries += struct.pack(order + "HHI", code, tag.type, number) + field
    return struct.pack(order + "H", len(tags)) + entries + b"\0" * 4 + values


def longs(order: str, *values: int) -> Tag:
    """A tag of 32-bit numbers."""
    return Tag(LONG, struct.pack(f"{order}{len(values)}I", *values))


def build_tiff(order: str, pixels: bytes, tags: Tags) -> bytes:
    """A classic TIFF with `pixels` at position 8, to which `tags` must point, and the directory after."""
    base = 8 + len(pixels) + len(pixels) % 2
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", base)
    return (header + pixels).ljust(base, b"\0") + write_tags(tags, order, base)


def exif_from_tags(tags: Tags, order: str) -> bytes:
    """An EXIF block that holds `tags`, whose raw values are in byte order `order`."""
    return build_tiff(order, b"", tags)


def add_tiff_tags(tiff: bytes, extra: Tags) -> bytes:
    """A classic TIFF with `extra` (in its own byte order) added to its directory, replacing tags it has."""
    order = byte_order(tiff)
    base = len(tiff) + len(tiff) % 2
    directory = write_tags({**read_tags(tiff), **extra}, order, base)
    return tiff[:4] + struct.pack(order + "I", base) + tiff[8:].ljust(base - 8, b"\0") + directory


def describing_tags(tiff: bytes) -> Tags:
    """The tags that describe the picture rather than lay out its pixels."""
    tags = {code: tag for code, tag in read_tags(tiff).items() if code not in LAYOUT}
    if PHOTOSHOP in tags and isinstance(value := tags[PHOTOSHOP].value, bytes):
        tags[PHOTOSHOP] = Tag(tags[PHOTOSHOP].type, without_photoshop_thumbnails(value))
    return tags


def tiff_tags(metadata: Metadata, order: str) -> Tags:
    """What to add to a TIFF of byte order `order`, which must be that of `metadata.exif` if there is one."""
    tags = describing_tags(metadata.exif) if metadata.exif else {}
    if metadata.dpi and X_RESOLUTION not in tags:
        for code, value in zip((X_RESOLUTION, Y_RESOLUTION), metadata.dpi, strict=True):
            tags[code] = Tag(RATIONAL, struct.pack(order + "II", round(value * 10_000), 10_000))
        tags[RESOLUTION_UNIT] = Tag(SHORT, struct.pack(order + "H", 2))
    if metadata.icc:
        tags[ICC] = Tag(UNDEFINED, metadata.icc)
    if metadata.xmp:
        tags[XMP] = Tag(1, metadata.xmp)
    return tags


def orientation(exif: bytes | None) -> int:
    """EXIF orientation 1 to 8; 1 where there is none or it cannot be read."""
    try:
        at = _orientation_at(exif) if exif else None
        value = struct.unpack_from(byte_order(exif) + "H", exif, at)[0] if exif and at else 1
    except (ValueError, struct.error):
        return 1
    return value if 1 <= value <= 8 else 1


def with_orientation_1(exif: bytes) -> bytes:
    """The block with its orientation, if any, set to 1: in place, as maker notes must not move."""
    try:
        at = _orientation_at(exif)
    except (ValueError, struct.error):
        return exif
    return exif if at is None else exif[:at] + struct.pack(byte_order(exif) + "H", 1) + exif[at + 2 :]


def _first_directory(exif: bytes) -> tuple[int, int]:
    """Offset and number of the first directory's entries."""
    order = byte_order(exif)
    offset = struct.unpack_from(order + "I", exif, 4)[0]
    return offset + 2, struct.unpack_from(order + "H", exif, offset)[0]


def _orientation_at(exif: bytes) -> int | None:
    start, count = _first_directory(exif)
    for at in range(start, start + 12 * count, 12):
        if struct.unpack_from(byte_order(exif) + "HH", exif, at) == (ORIENTATION, SHORT):
            return at + 8
    return None


def without_exif_thumbnail(exif: bytes) -> bytes:
    """The block with its thumbnail, which shows what was removed, cut off and overwritten with zeros."""
    try:
        order = byte_order(exif)
        start, count = _first_directory(exif)
        link = start + 12 * count
        second = struct.unpack_from(order + "I", exif, link)[0]
        if second == 0:
            return exif
        number = struct.unpack_from(order + "H", exif, second)[0]
        entries = [struct.unpack_from(order + "HHII", exif, second + 2 + 12 * i) for i in range(number)]
        fields = {code: value for code, _, _, value in entries}
    except (ValueError, struct.error):
        return exif
    cleaned = bytearray(exif)
    cleaned[link : link + 4] = b"\0" * 4
    for offset_tag, length_tag in ((513, 514), (273, 279)):  # a JPEG, or one uncompressed strip
        offset = fields.get(offset_tag, 0)
        length = max(0, min(fields.get(length_tag, 0), len(exif) - offset))
        cleaned[offset : offset + length] = b"\0" * length
    return bytes(cleaned)


def without_photoshop_thumbnails(resources: bytes) -> bytes:
    """Photoshop's image resources ("8BIM" blocks) without the two kinds of thumbnail."""
    kept, at = b"", 0
    while resources[at : at + 4] == b"8BIM" and at + 12 <= len(resources):
        number, name = struct.unpack_from(">HB", resources, at + 4)
        size_at = at + 6 + (name + 2) // 2 * 2  # the name is a Pascal string padded to even length
        if size_at + 4 > len(resources):
            break
        size = struct.unpack_from(">I", resources, size_at)[0]
        end = size_at + 4 + size + size % 2
        if number not in (1033, 1036):
            kept += resources[at:end]
        at = end
    return kept


# ---------------------------------------------------------------- JPEG segments

EXIF_PREFIX, XMP_PREFIX = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
PHOTOSHOP_PREFIX = b"Photoshop 3.0\0"
APP0, APP1, APP2, APP13, APP14, COMMENT = 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE


def jpeg_segments(jpeg: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Marker and payload of each segment before the first scan, and the rest from that scan on."""
    at = 2
    segments: list[tuple[int, bytes]] = []
    while True:
        while jpeg[at + 1 : at + 2] == b"\xff":  # fill bytes
            at += 1
        if at + 4 > len(jpeg) or jpeg[at] != 0xFF:
            raise ValueError("a JPEG segment is cut short")
        marker, size = struct.unpack_from(">BH", jpeg, at + 1)
        if marker == 0xDA:
            return segments, jpeg[at:]
        segments.append((marker, jpeg[at + 4 : at + 2 + size]))
        at += 2 + size


def jpeg_metadata(jpeg: bytes) -> Metadata:
    """EXIF and XMP of a JPEG; ICC and density are left to the decoder, which reads them anyway."""
    payloads = [payload for marker, payload in jpeg_segments(jpeg)[0] if marker == APP1]
    exif = next((p[6:] for p in payloads if p.startswith(EXIF_PREFIX)), None)
    xmp = next((p[len(XMP_PREFIX) :] for p in payloads if p.startswith(XMP_PREFIX)), None)
    return Metadata(exif=exif, xmp=xmp)


def with_jpeg_metadata_of(encoded: bytes, source: bytes) -> bytes:
    """`encoded` with the application and comment segments of `source`, byte for byte.

    Left out is what would contradict the new pixels: thumbnails, and the index (MPF) of further pictures that
    follow the first in the source.
    """
    new, scan = jpeg_segments(encoded)
    parts = [b"\xff\xd8"]
    for marker, payload in jpeg_segments(source)[0]:
        if not (APP0 <= marker <= 0xEF or marker == COMMENT) or marker == APP14:
            continue  # APP14 tells how the encoder stored its colours
        if payload.startswith((b"MPF\0", b"JFXX\0")):
            continue
        if payload.startswith(EXIF_PREFIX):
            payload = EXIF_PREFIX + without_exif_thumbnail(payload[6:])
        elif payload.startswith(PHOTOSHOP_PREFIX):
            payload = PHOTOSHOP_PREFIX + without_photoshop_thumbnails(payload[len(PHOTOSHOP_PREFIX) :])
        elif marker == APP0 and payload.startswith(b"JFIF\0") and len(payload) > 14:
            payload = payload[:12] + b"\0\0"  # width and height of JFIF's own thumbnail
        parts.append(_jpeg_segment(marker, payload))
    parts += [_jpeg_segment(m, p) for m, p in new if m == APP14 or not (APP0 <= m <= 0xEF or m == COMMENT)]
    return b"".join(parts) + scan


def _jpeg_segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


# ---------------------------------------------------------------- PNG chunks

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
MAX_PROFILE_BYTES = 64 * 2**20
Chunks = list[tuple[bytes, bytes]]


def png_chunks(png: bytes) -> Chunks:
    """Type and payload of every chunk up to IEND."""
    at, chunks = 8, []
    while True:
        if at + 12 > len(png):
            raise ValueError("the PNG is cut short")
        size, kind = struct.unpack_from(">I4s", png, at)
        payload = png[at + 8 : at + 8 + size]
        if len(payload) < size:
            raise ValueError("the PNG is cut short")
        chunks.append((kind, payload))
        if kind == b"IEND":
            return chunks
        at += 12 + size


def join_png_chunks(chunks: Chunks) -> bytes:
    """The PNG made of `chunks`, with fresh checksums."""
    parts = [PNG_SIGNATURE]
    for kind, payload in chunks:
        body = kind + payload
        parts += [struct.pack(">I", len(payload)), body, struct.pack(">I", zlib.crc32(body))]
    return b"".join(parts)


def png_metadata(chunks: Chunks) -> Metadata:
    """EXIF, ICC, XMP and density of a PNG."""
    found: dict[bytes, bytes] = {}
    for kind, payload in chunks:
        if kind != b"iTXt" or payload.startswith(XMP_KEYWORD + b"\0\0"):  # \0\0: not compressed
            found.setdefault(kind, payload)
    icc = dpi = xmp = None
    if profile := found.get(b"iCCP"):
        icc = zlib.decompressobj().decompress(profile[profile.index(b"\0") + 2 :], MAX_PROFILE_BYTES)
    if len(density := found.get(b"pHYs", b"")) == 9 and density[8] == 1:
        x, y = struct.unpack(">II", density[:8])
        dpi = (x * 0.0254, y * 0.0254)
    if text := found.get(b"iTXt"):
        xmp = text[len(XMP_KEYWORD) + 3 :].split(b"\0", 2)[-1]
    return Metadata(exif=found.get(b"eXIf"), icc=icc, xmp=xmp, dpi=dpi)


def png_metadata_chunks(metadata: Metadata) -> Chunks:
    """The chunks that say `metadata`, for before the pixels."""
    chunks: Chunks = []
    if metadata.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        x, y = (round(value / 0.0254) for value in metadata.dpi)
        chunks.append((b"pHYs", struct.pack(">IIB", x, y, 1)))
    if metadata.exif:
        chunks.append((b"eXIf", metadata.exif))
    if metadata.xmp:
        chunks.append((b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return chunks


def with_png_chunks_of(encoded: Chunks, source: Chunks) -> Chunks:
    """`source` with the header and pixels of `encoded`; its other chunks stay, byte for byte and in order."""
    pixels = [chunk for chunk in encoded if chunk[0] == b"IDAT"]
    joined: Chunks = [next(chunk for chunk in encoded if chunk[0] == b"IHDR")]
    for kind, payload in source[1:]:
        if kind == b"IDAT":
            joined += pixels
            pixels = []
        elif kind == b"eXIf":
            joined.append((kind, without_exif_thumbnail(payload)))
        else:
            joined.append((kind, payload))
    return joined


# ---------------------------------------------------------------- WebP, AVIF, HEIC


def is_lossless_webp(webp: bytes) -> bool:
    """Whether the picture is a lossless (VP8L) one."""
    at = 12
    while at + 8 <= len(webp):
        kind, size = struct.unpack_from("<4sI", webp, at)
        if kind in (b"VP8L", b"VP8 "):
            return bool(kind == b"VP8L")
        at += 8 + size + size % 2
    return False


def is_deep_avif(avif: bytes) -> bool:
    """Whether an AVIF has 10 or 12 bits a channel: the flag high_bitdepth of its AV1 configuration box."""
    at = avif.find(b"av1C")
    return 0 < at < len(avif) - 7 and bool(avif[at + 6] & 0x40)


def check_heic_items(heic: bytes) -> None:
    """Raise ValueError where a type of a HEIC's items is no text: pi-heif 1.4 crashes the process on it."""
    at = heic.find(b"infe")
    while at >= 0:
        size = int.from_bytes(heic[at - 4 : at], "big")
        version = heic[at + 4]
        heic[at + (14 if version >= 3 else 12) : at - 4 + size].decode()
        at = heic.find(b"infe", at + 4)
