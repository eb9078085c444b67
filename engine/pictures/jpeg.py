"""From the bytes of a JPEG file to pixels, and whether libjpeg calls it damaged."""

from __future__ import annotations

from contextlib import suppress

import cv2
import numpy as np
import simplejpeg

from shardcam.engine.types import NO_FLAG, U1, Flag

# How libjpeg's warnings begin: after them it goes on to the last row, after errors it does not.
_WARNINGS = ("Corrupt JPEG data", "Inconsistent progression", "Invalid SOS", "Premature end")
_NO_DAMAGE = "Could not determine subsampling"  # TurboJPEG takes the usual ones only
_REDUCED = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_COLOR_RGB,
}
REDUCTIONS = tuple(_REDUCED)


def decode_jpeg(data: bytes, size: tuple[int, int], reduction: int = 1) -> tuple[U1 | None, Flag]:
    """Decode a JPEG file whose header states a size (height, width); it is not turned.

    Returns
    -------
    pixels
        (height,width,3) RGB, both divided by `reduction` and rounded up; None if the file is
        cut off, or libjpeg gives it up.
    flags
        DAMAGED if libjpeg complained: what it could not decode is gray, or wrong.
    """
    rows, columns = (-(-length // reduction) for length in size)

    def decode(file: bytes, strict: bool = True) -> U1:
        room = np.empty((rows, columns, 3), np.uint8)  # the decoder's header is not larger, either
        pixels: U1 = simplejpeg.decode_jpeg(
            file, min_height=rows, min_width=columns, buffer=room, strict=strict
        )
        return pixels

    try:
        return decode(data), NO_FLAG
    except ValueError as error:
        complaint = str(error)
    scan = _first_scan(data)
    if complaint.startswith("Invalid SOS"):
        with suppress(ValueError):
            return decode(_with_usual_parameters(data, scan)), NO_FLAG
    if complaint.startswith(_WARNINGS):
        if data.find(b"\xff\xd9", scan) < 0:  # libjpeg would make up what is missing
            return None, NO_FLAG
        with suppress(ValueError):  # of a warning about the header
            return decode(data, strict=False), Flag.DAMAGED
    elif _NO_DAMAGE not in complaint:  # libjpeg gave it up
        return None, NO_FLAG
    with suppress(cv2.error):
        how = _REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
        pixels: U1 | None = cv2.imdecode(np.frombuffer(data, np.uint8), how)  # type: ignore[assignment]
        return pixels, NO_FLAG if _NO_DAMAGE in complaint else Flag.DAMAGED
    return None, NO_FLAG


def jpeg_warns(data: bytes) -> bool:
    """Whether libjpeg decodes a file, but with a warning."""
    try:
        simplejpeg.decode_jpeg(data)
    except ValueError as error:
        return str(error).startswith(_WARNINGS)
    return False


def _first_scan(data: bytes) -> int:
    """Where the header of the first scan begins, behind thumbnails; 0 if it is not found."""
    at = 2
    while at > 0 and data[at : at + 2] != b"\xff\xda":
        at = data.find(b"\xff", at + 2 + int.from_bytes(data[at + 2 : at + 4], "big"))
    return max(at, 0)


def _with_usual_parameters(data: bytes, scan: int) -> bytes:
    """With 0, 63, 0 where some cameras write others, which mean nothing in a sequential file."""
    at = scan + 5 + 2 * data[scan + 4]
    return data[:at] + b"\0\x3f\0" + data[at + 3 :]
