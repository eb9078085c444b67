"""Whether the data of a GIF file make its first picture: Pillow stops when it has enough."""

from __future__ import annotations

import struct

import numpy as np

from shardcam.kernels import lzw_length

_PICTURE = 0x2C  # what begins with it; an extension with 0x21


def is_whole(data: bytes) -> bool:
    """Whether the first picture of a file that Pillow could decode has as many pixels as it states.

    GIF has no checksums: a pixel that is wrong is not found.
    """
    at = 13 + _table(data[10])
    while data[at] != _PICTURE:
        at, _ = _blocks(data, at + 2)
    width, height, has_table = struct.unpack_from("<HHB", data, at + 5)
    at += 10 + _table(has_table)
    _, codes = _blocks(data, at + 1)
    length = lzw_length(np.frombuffer(codes, np.uint8), data[at], gif=True)
    return length == int(width) * int(height)


def _table(flags: int) -> int:
    """Bytes of the colour table that flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(data: bytes, at: int) -> tuple[int, bytes]:
    """Where a sequence of blocks ends, and what they hold."""
    blocks = []
    while size := data[at]:
        blocks.append(data[at + 1 : at + 1 + size])
        at += 1 + size
    return at + 1, b"".join(blocks)
