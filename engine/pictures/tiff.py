"""What is known of damage in a TIFF file beside what keeps Pillow from decoding it."""

from __future__ import annotations

import ctypes
import io
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from isal import isal_zlib
from PIL import Image, _imaging
from PIL import TiffImagePlugin as Tag

from shardcam.engine.pictures.jpeg import jpeg_warns
from shardcam.kernels import lzw_length, packbits_length

Tags = Mapping[int, Any]
_FILL_ORDER, _YCBCR, _PLANES = 266, 6, 2
_thread = threading.local()


@contextmanager
def libtiff_errors() -> Iterator[list[bytes]]:
    """Collect what libtiff calls errors in this thread: Pillow goes on after some of them."""
    found: list[bytes] = []
    _thread.errors = found
    try:
        yield found
    finally:
        del _thread.errors


def _collect(module: bytes, message: bytes, values: int) -> None:
    with suppress(AttributeError):  # in a thread that does not ask
        _thread.errors.append(message)


# Pillow leaves libtiff's own handler in place, which prints the message without the file's name.
_handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)(_collect)
with suppress(OSError, AttributeError):  # a Pillow whose libtiff is out of reach
    ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler(_handler)


def is_whole(data: bytes) -> bool:
    """Whether each strip or tile has the checksum (deflate) or size (LZW, PackBits) that it should.

    libtiff stops when it has enough. Of JPEG parts, whether libjpeg is content; of fax codes
    (Group 4), whether there is none without meaning; other compressions have nothing to go by.
    """
    with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
        tags: Tags = image.tag_v2
    check = _CHECKS.get(tags.get(Tag.COMPRESSION, 1))
    if check is None or tags.get(_FILL_ORDER, 1) != 1:
        return True
    tiled = Tag.TILEOFFSETS in tags
    offsets = tags[Tag.TILEOFFSETS if tiled else Tag.STRIPOFFSETS]
    counts = tags[Tag.TILEBYTECOUNTS if tiled else Tag.STRIPBYTECOUNTS]
    parts = (data[offset : offset + count] for offset, count in zip(offsets, counts, strict=False))
    sizes = _sizes(tags, tiled)
    return all(part and check(part, sizes, tags) for part in parts)


def _sizes(tags: Tags, tiled: bool) -> tuple[int, int]:
    """Bytes of a tile or strip, and of the last strip of a plane, if it is shorter."""
    height, width = tags[Tag.IMAGELENGTH], tags[Tag.IMAGEWIDTH]
    rows = tags[Tag.TILELENGTH] if tiled else min(tags.get(Tag.ROWSPERSTRIP, height), height)
    columns = tags[Tag.TILEWIDTH] if tiled else width
    apart = tags.get(Tag.PLANAR_CONFIGURATION, 1) == _PLANES
    samples = 1 if apart else tags.get(Tag.SAMPLESPERPIXEL, 1)
    row = (columns * samples * tags.get(Tag.BITSPERSAMPLE, (1,))[0] + 7) // 8
    return rows * row, height % rows * row


def _is_whole_deflate(part: bytes, sizes: tuple[int, int], tags: Tags) -> bool:
    stream = isal_zlib.decompressobj()
    try:
        stream.decompress(part, sizes[0] + 1)
    except isal_zlib.error:  # type: ignore[misc]
        return False
    return bool(stream.eof)


def _is_whole_lzw(part: bytes, sizes: tuple[int, int], tags: Tags) -> bool:
    if _is_subsampled(tags) or (len(part) > 1 and part[0] == 0 and part[1] & 1):
        return True  # the codes of old writers begin so, and have another order
    return lzw_length(np.frombuffer(part, np.uint8)) in sizes


def _is_whole_packbits(part: bytes, sizes: tuple[int, int], tags: Tags) -> bool:
    return _is_subsampled(tags) or packbits_length(np.frombuffer(part, np.uint8)) in sizes


def _is_whole_jpeg(part: bytes, sizes: tuple[int, int], tags: Tags) -> bool:
    tables = tags.get(Tag.JPEGTABLES)
    return not jpeg_warns(tables[:-2] + part[2:] if tables else part)


def _is_whole_fax(part: bytes, sizes: tuple[int, int], tags: Tags) -> bool:
    """Codes have at most 11 zeros in a row; libtiff takes more for the end of the picture."""
    return b"\0\0" not in part.rstrip(b"\0")


def _is_subsampled(tags: Tags) -> bool:
    return bool(tags.get(Tag.PHOTOMETRIC_INTERPRETATION) == _YCBCR)


_CHECKS = {
    4: _is_whole_fax,
    5: _is_whole_lzw,
    7: _is_whole_jpeg,
    8: _is_whole_deflate,
    32773: _is_whole_packbits,
    32946: _is_whole_deflate,
}
