"""What decoders need of a PNG file, and whether its checksums find damage."""

from __future__ import annotations

from isal.isal_zlib import crc32

from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.types import NO_FLAG, Flag

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_USED = (b"eXIf", b"sBIT", b"tRNS")  # of the chunks that are not critical
_EXIF_TEXT = b"Raw profile type exif\0"


def plain_png(data: bytes) -> tuple[bytes, Flag]:
    """A PNG file of one picture with what says something about its pixels; other files as they are.

    OpenCV crashes on damaged animations, and allocates what a chunk claims to be. libpng and
    Pillow complain of colour profiles and texts that nobody asked for, or refuse their file.

    Returns
    -------
    file
        The same picture.
    flags
        DAMAGED if a chunk was left out because its checksum is wrong.

    Raises
    ------
    UndecodableImage
        The file is cut off, or a chunk that makes the picture is damaged.
    """
    if not data.startswith(_SIGNATURE):
        return data, NO_FLAG
    kept, flags = [_SIGNATURE], NO_FLAG
    at, end = 0, len(_SIGNATURE)
    while data[at + 4 : at + 8] != b"IEND":
        at, end = end, end + 12 + int.from_bytes(data[end : end + 4], "big")
        chunk = data[at:end]
        kind, checksum = chunk[4:8], int.from_bytes(chunk[-4:], "big")
        critical = kind[:1].isupper()
        whole = len(chunk) == end - at and crc32(chunk[4:-4]) == checksum
        if end > len(data) or (critical and not whole):
            raise UndecodableImage("undecodable", "the image data is truncated or damaged")
        if not whole:
            flags = Flag.DAMAGED
        elif critical or kind in _USED or chunk.startswith(_EXIF_TEXT, 8):
            kept.append(chunk)
    return b"".join(kept), flags
