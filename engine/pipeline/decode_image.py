"""From the bytes of an image file to pixels."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import ExifTags, Image

from shardcam.engine.types import U1

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
REDUCTIONS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_COLOR_RGB,
}
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # EXIF orientation: OpenCV's, once transposed
_TRANSPOSED = (5, 6, 7, 8)
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


class UndecodableImage(Exception):
    """A file that is not a usable image. `reason` is short, for grouping."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def decode(data: bytes, max_pixels: int, enough: int | None = None) -> U1:
    """Decode an image file to (height,width,3) RGB, EXIF orientation applied, alpha dropped.

    The header is read first, so that a small file cannot claim a huge picture.

    Parameters
    ----------
    data
        The file's bytes.
    max_pixels
        Larger pictures are refused.
    enough
        A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size, the smallest whose shorter side
        still has that many pixels: libjpeg leaves out the high frequencies.

    Raises
    ------
    UndecodableImage
        Empty, not an image, larger than `max_pixels`, or truncated.
    """
    if not data:
        raise UndecodableImage("empty", "the file is empty")
    header = header_of(data)
    _require_size(header.width, header.height, max_pixels)
    if header.form == "JPEG":
        pixels = _decode_jpeg(data, header, enough)
    elif header.form == "PNG" and not _has_all_chunks(data):
        pixels = None
    elif header.form == "GIF":
        pixels = _decode_gif(data)
    else:
        pixels = _decode(data, cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise UndecodableImage(
            "undecodable", "the image data is truncated or damaged, or of an unsupported kind"
        )
    return pixels


def pixels_of(data: bytes | U1, max_pixels: int, enough: int | None = None) -> U1:
    """The (height,width,3) RGB pixels of what a reader gave; of files see `decode`.

    Raises
    ------
    UndecodableImage
        See `decode`; pixels can be too many as well.
    """
    if isinstance(data, bytes):
        return decode(data, max_pixels, enough)
    height, width = data.shape[:2]
    _require_size(width, height, max_pixels)
    return data


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UndecodableImage(
            "oversized", f"{width}x{height} pixels; at most {max_pixels} are allowed (--max-pixels)"
        )


def _decode(data: bytes, how: int) -> U1 | None:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error as error:
        raise UndecodableImage("undecodable", f"{error.err}".strip()) from error
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _decode_jpeg(data: bytes, header: _Header, enough: int | None) -> U1 | None:
    """Turned by the orientation that the header's size goes by, so that both always agree."""
    shorter = min(header.width, header.height)
    by = max(n for n in REDUCTIONS if n == 1 or (enough is not None and shorter >= n * enough))
    pixels = _decode(data, REDUCTIONS[by] | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        return None
    if header.orientation in _TRANSPOSED:
        pixels = cv2.transpose(pixels).astype(np.uint8, copy=False)
    if header.orientation in _FLIPS:
        pixels = cv2.flip(pixels, _FLIPS[header.orientation]).astype(np.uint8, copy=False)
    return pixels


def _has_all_chunks(data: bytes) -> bool:
    """Whether the chunks of a PNG file lie in the file, up to its end.

    OpenCV allocates what a chunk claims to be: a file of 5 kB costs 2 GB.
    """
    at = 8
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == b"IEND":
            return True
        at += 12 + int.from_bytes(data[at : at + 4], "big")
    return False


def _decode_gif(data: bytes) -> U1 | None:
    """The first frame, by Pillow: OpenCV's wheel has no GIF decoder."""
    try:
        with Image.open(io.BytesIO(data), formats=("GIF",)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, EOFError, IndexError):
        return None


@dataclass(frozen=True)
class _Header:
    """The header of an image file, read before it is decoded."""

    form: str
    width: int  # as stored
    height: int
    orientation: int = 1  # EXIF's, of JPEG files

    @property
    def image_size(self) -> tuple[int, int]:
        turned = self.orientation in _TRANSPOSED
        return (self.width, self.height) if turned else (self.height, self.width)


def header_of(data: bytes) -> _Header:
    Image.MAX_IMAGE_PIXELS = None  # the bound is the caller's
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as header:
            form, exif = str(header.format), header.info.get("exif", b"")
            width, height = header.size
            return _Header(form, width, height, _orientation(exif) if form == "JPEG" else 1)
    except Exception as error:  # header parsers raise nearly anything on hostile bytes
        known = "/".join(FORMATS)
        raise UndecodableImage(
            "not an image", f"not a {known} file, or its header is damaged or cut off"
        ) from error


def _orientation(exif: bytes) -> int:
    """The orientation that an EXIF block states, however damaged its other tags; 1 if none.

    Pillow's own reader warns of damaged tags, and takes XMP's orientation too.
    """
    tiff = exif.removeprefix(b"Exif\0\0")
    order = "<" if tiff.startswith(b"II") else ">"
    try:
        mark, start = struct.unpack_from(f"{order}2xHI", tiff)
        if mark != 42:
            return 1
        (count,) = struct.unpack_from(f"{order}H", tiff, start)
        for at in range(start + 2, start + 2 + 12 * count, 12):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, at)
            if tag == ExifTags.Base.Orientation:
                return int(value)
    except struct.error:
        pass
    return 1
