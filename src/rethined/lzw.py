"""LZW as in TIFF files (TIFF 6.0, section 13), decoded so that damaged data is an error and nothing worse.

imagecodecs (2026.3) may crash the process on it; libtiff reports on stderr.
"""

from __future__ import annotations

import numpy as np

from rethined.compiled import compiled

CLEAR, END, FIRST = 256, 257, 258


def decode(packed: bytes, size: int) -> bytes:
    """The first `size` bytes that `packed` stands for.

    Raises:
        ValueError: damaged data, or fewer bytes than that.
    """
    out = np.empty(size, np.uint8)
    if _decode(np.frombuffer(packed, np.uint8), out) < size:
        raise ValueError("damaged LZW data")
    return out.tobytes()


def _loop(packed, out):  # type: ignore[no-untyped-def]
    """Fill `out` and return how much of it was filled. A code stands for a run that `out` holds already."""
    start = np.zeros(4096, np.int64)
    length = np.zeros(4096, np.int64)
    bits, following = 9, FIRST  # width of a code; the code that is defined next
    last, last_length = 0, 0  # the run of the code before; 0 after CLEAR
    at, reservoir, have = 0, 0, 0
    position = 0
    while position < out.size:
        while have < bits:
            if at == packed.size:
                return position
            reservoir = ((reservoir << 8) | packed[at]) & 0xFFFFFF
            have += 8
            at += 1
        have -= bits
        code = (reservoir >> have) & ((1 << bits) - 1)
        if code == END:
            return position
        if code == CLEAR:
            bits, following, last_length = 9, FIRST, 0
            continue
        begin = position
        if code < 256:
            out[position] = code
            position += 1
        else:
            if code < following:
                source, run = start[code], length[code]
            elif code == following and last_length > 0:
                source, run = last, last_length + 1  # its last byte is the first that is copied here
            else:
                return position
            for i in range(min(run, out.size - position)):
                out[position] = out[source + i]
                position += 1
        if last_length > 0 and following < 4096:
            start[following], length[following] = last, last_length + 1  # with the byte just written
            following += 1
        if following + 1 >= 1 << bits and bits < 12:
            bits += 1
        last, last_length = begin, position - begin
    return position


_decode = compiled()(_loop) or _loop  # slow, but the same, where numba is not installed
