"""From the bytes of an image file to pixels.

One rule for every format: EXIF's orientation is applied, XMP's is not; transparency is ignored,
or laid over a colour; more than 8 bits a channel become 8 (`engine.pictures.deep_pictures`). A
file that its decoder or its checksums call damaged is flagged, or fails if it has no picture.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import AvifImagePlugin, Image

from shardcam.engine.pictures import gif, tiff
from shardcam.engine.pictures.deep_pictures import deep_picture, over
from shardcam.engine.pictures.image_header import (
    TRANSPOSED,
    Header,
    UndecodableImage,
    header_of,
)
from shardcam.engine.pictures.jpeg import REDUCTIONS, decode_jpeg
from shardcam.engine.pictures.png import plain_png
from shardcam.engine.types import NO_FLAG, U1, Decoding, Flag

# Of files that are pictures: a .pfm is one too, but those in folders are maps of depth.
EXTENSIONS = (
    *(".apng", ".avif", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc", ".jpe"),
    *(".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga"),
    *(".tif", ".tiff", ".webp"),
)
_OPENCV = ("PNG", "WEBP")  # read by OpenCV, the others by Pillow
_IS_WHOLE = {"GIF": gif.is_whole, "TIFF": tiff.is_whole}  # looked at behind their decoders
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # EXIF orientation: OpenCV's, once transposed
AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # decoders run in threads of ours


@dataclass(frozen=True)
class Picture:
    """A decoded picture."""

    pixels: U1  # (height,width,3) RGB
    image_size: tuple[int, int]  # height and width of the file's picture: `pixels` may be reduced
    flags: Flag = NO_FLAG


def decode(data: bytes, decoding: Decoding, enough: int | None = None) -> Picture:
    """Decode an image file as it is shown.

    The header is read first, so that a small file cannot claim a huge picture.

    Parameters
    ----------
    data
        The file's bytes.
    decoding
        What becomes of transparency and of deep pictures, and how large they may be.
    enough
        A JPEG file is decoded at 1/2, 1/4 or 1/8 of its size, the smallest whose shorter side
        still has that many pixels: libjpeg leaves out the high frequencies.

    Raises
    ------
    UndecodableImage
        Empty, not an image, larger than allowed, truncated, or of values whose range must be
        given.
    """
    if not data:
        raise UndecodableImage("empty", "the file is empty")
    data, flags = plain_png(data)
    header = header_of(data)
    _require_size(header.width, header.height, decoding.max_pixels)
    if header.form == "JPEG":
        pixels, flags = decode_jpeg(data, (header.height, header.width), _reduction(header, enough))
    else:
        with tiff.libtiff_errors() as errors:
            pixels = _stored_pixels(data, header, decoding)
        if pixels is not None and (errors or not _is_whole(data, header.form)):
            flags |= Flag.DAMAGED
    if pixels is None:
        raise UndecodableImage(
            "undecodable", "the image data is truncated or damaged, or of an unsupported kind"
        )
    pixels = _turned(pixels, header.orientation)
    reduced = header.form == "JPEG"
    size = header.image_size if reduced else (pixels.shape[0], pixels.shape[1])
    return Picture(pixels, size, flags)


def picture_of(data: bytes | U1, decoding: Decoding, enough: int | None = None) -> Picture:
    """The picture in what a reader gave: of files see `decode`, pixels are taken as they are.

    Raises
    ------
    UndecodableImage
        See `decode`; pixels can be too many as well.
    """
    if isinstance(data, bytes):
        return decode(data, decoding, enough)
    height, width = data.shape[:2]
    _require_size(width, height, decoding.max_pixels)
    return Picture(data, (height, width))


def _require_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UndecodableImage(
            "oversized", f"{width}x{height} pixels; at most {max_pixels} are allowed (--max-pixels)"
        )


def _stored_pixels(data: bytes, header: Header, decoding: Decoding) -> U1 | None:
    """(height,width,3) as stored, not turned by EXIF; None if they cannot be decoded."""
    if header.deep:
        return deep_picture(data, header.form, decoding)
    background = decoding.background if header.alpha else None
    if header.form in _OPENCV and background is None:
        return _by_opencv(data)
    if header.rounded and isinstance(decoding.depth_range, tuple):
        raise UndecodableImage(
            "range not known",
            f"{header.form} colours are read with the depth that the file states; leave out "
            "--depth-range LOW,HIGH",
        )
    return _by_pillow(data, header.form, background)


def _reduction(header: Header, enough: int | None) -> int:
    if enough is None:
        return 1
    return max(n for n in REDUCTIONS if n == 1 or min(header.width, header.height) >= n * enough)


def _is_whole(data: bytes, form: str) -> bool:
    try:
        return form not in _IS_WHOLE or _IS_WHOLE[form](data)
    except Exception:  # what decoders pass over
        return False


def _by_opencv(data: bytes) -> U1 | None:
    how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error as error:
        raise UndecodableImage("undecodable", f"{error.err}".strip()) from error
    return None if pixels is None else pixels.astype(np.uint8, copy=False)


def _by_pillow(data: bytes, form: str, background: tuple[int, ...] | None) -> U1 | None:
    """The first frame."""
    try:
        with Image.open(io.BytesIO(data), formats=(form,)) as image:
            image.info.pop("xmp", None)  # TIFF files are turned as they are loaded: not by that
            loaded = image.convert("LA") if image.mode == "La" else image
            if background is None:
                return np.asarray(loaded.convert("RGB"))
            pixels = np.asarray(loaded.convert("RGBA"))
    except Exception:  # as header parsers do
        return None
    return over(pixels[..., :3], pixels[..., 3], background)


def _turned(pixels: U1, orientation: int) -> U1:
    """Turned by the orientation that the header's size goes by, so that both always agree."""
    if orientation in TRANSPOSED:
        pixels = cv2.transpose(pixels).astype(np.uint8, copy=False)
    if orientation in _FLIPS:
        pixels = cv2.flip(pixels, _FLIPS[orientation]).astype(np.uint8, copy=False)
    return pixels
