"""From the bytes of an image file to the network's view of it."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor

import cv2
import numpy as np
from PIL import ExifTags, Image

from shardcam.engine.types import U1, Box, Preprocessing, View
from shardcam.kernels import resize

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
REDUCTIONS = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2 | cv2.IMREAD_COLOR_RGB,
    4: cv2.IMREAD_REDUCED_COLOR_4 | cv2.IMREAD_COLOR_RGB,
    8: cv2.IMREAD_REDUCED_COLOR_8 | cv2.IMREAD_COLOR_RGB,
}
_FLIPS = {2: 1, 3: -1, 4: 0, 6: 1, 7: -1, 8: 0}  # EXIF orientation: OpenCV's, once transposed
_TRANSPOSED = (5, 6, 7, 8)
INTERPOLATIONS = {
    "area": None,  # area averages when shrinking, else bilinear: our own kernel
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}
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
    header = _header(data)
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
    """The (height,width,3) RGB pixels of what a reader gave; of files see :func:`decode`.

    Raises
    ------
    UndecodableImage
        See :func:`decode`; pixels can be too many as well.
    """
    if isinstance(data, bytes):
        return decode(data, max_pixels, enough)
    height, width = data.shape[:2]
    _require_size(width, height, max_pixels)
    return data


def view_of(
    data: bytes | U1,
    box: Box | None,
    preprocessing: Preprocessing,
    max_pixels: int,
    fast: bool = False,
) -> View:
    """The network's view of what a reader gave, or of the part in a box.

    The part is every whole pixel that the box touches. `image_size` and `crop` of the
    view are those of the whole picture. `fast`: whole JPEG pictures are decoded no larger
    than the view needs.

    Raises
    ------
    UndecodableImage
        See :func:`decode`, or the box lies outside the picture.
    """
    if fast and box is None and isinstance(data, bytes):
        return _fast_view(data, preprocessing, max_pixels)
    pixels = pixels_of(data, max_pixels)
    if box is None:
        return view(pixels, preprocessing)
    height, width = pixels.shape[:2]
    top, left = max(floor(box[0]), 0), max(floor(box[1]), 0)
    bottom, right = min(ceil(box[2]), height), min(ceil(box[3]), width)
    if top >= bottom or left >= right:
        x0, y0, x1, y1 = box[1], box[0], box[3], box[2]
        raise UndecodableImage(
            "box outside", f"the box {x0:g},{y0:g},{x1:g},{y1:g} is outside {width}x{height} pixels"
        )
    seen = view(np.ascontiguousarray(pixels[top:bottom, left:right]), preprocessing)
    y0, x0, y1, x1 = seen.crop
    return View(seen.pixels, (height, width), (y0 + top, x0 + left, y1 + top, x1 + left))


def _fast_view(data: bytes, preprocessing: Preprocessing, max_pixels: int) -> View:
    pixels = decode(data, max_pixels, max(preprocessing.height, preprocessing.width))
    seen = view(pixels, preprocessing)
    header = _header(data)
    if header.form != "JPEG":
        return seen
    h, w = header.image_size
    height, width = seen.image_size
    y0, x0, y1, x1 = seen.crop
    down, across = h / height, w / width
    return View(seen.pixels, (h, w), (y0 * down, x0 * across, y1 * down, x1 * across))


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


def _header(data: bytes) -> _Header:
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


def view(pixels: U1, preprocessing: Preprocessing) -> View:
    """Fit a picture to the network's input.

    ``crop`` takes the largest centred part of the input's shape; ``squash`` takes all
    of it and ignores its shape; ``pad`` keeps the shape and fills up with the mean
    colour.  With the interpolation ``area``, shrinking averages areas, as OpenCV's INTER_AREA,
    and enlarging is bilinear.
    """
    if preprocessing.resize == "squash":
        return _whole(pixels, preprocessing)
    fit = _crop if preprocessing.resize == "crop" else _pad
    return fit(pixels, preprocessing)


def _whole(pixels: U1, preprocessing: Preprocessing) -> View:
    height, width = pixels.shape[:2]
    size = preprocessing.height, preprocessing.width
    resized = _resize(pixels, (0, 0, height, width), size, preprocessing.interpolation)
    return View(resized, (height, width), (0.0, 0.0, float(height), float(width)))


def _crop(pixels: U1, preprocessing: Preprocessing) -> View:
    """Cut before resizing: a picture of one pixel by a million must not be enlarged whole."""
    height, width = pixels.shape[:2]
    rows, columns = preprocessing.height, preprocessing.width
    scale = min(height / rows, width / columns)
    seen = min(max(round(rows * scale), 1), height), min(max(round(columns * scale), 1), width)
    top, left = (height - seen[0]) // 2, (width - seen[1]) // 2
    box = top, left, top + seen[0], left + seen[1]
    resized = _resize(pixels, box, (rows, columns), preprocessing.interpolation)
    return View(resized, (height, width), (float(top), float(left), float(box[2]), float(box[3])))


def _pad(pixels: U1, preprocessing: Preprocessing) -> View:
    height, width = pixels.shape[:2]
    rows, columns = preprocessing.height, preprocessing.width
    scale = min(rows / height, columns / width)
    inner = max(round(height * scale), 1), max(round(width * scale), 1)
    top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
    colour = np.rint(preprocessing.mean).clip(0, 255).astype(np.uint8)
    padded = np.full((rows, columns, 3), colour, np.uint8)  # of one channel: gray
    resized = _resize(pixels, (0, 0, height, width), inner, preprocessing.interpolation)
    padded[top : top + inner[0], left : left + inner[1]] = resized
    y, x = height / inner[0], width / inner[1]  # picture pixels per pixel of the view
    return View(
        padded, (height, width), (-top * y, -left * x, (rows - top) * y, (columns - left) * x)
    )


def stacked(pictures: Sequence[U1], preprocessing: Preprocessing) -> U1:
    """Views (H,W,3) -> (N,H,W,channels); a single channel is the luminance."""
    channels, height, width = preprocessing.input_shape
    pixels = np.empty((len(pictures), height, width, channels), np.uint8)
    for place, picture in zip(pixels, pictures, strict=True):
        place[...] = luminance(picture)[..., None] if channels == 1 else picture
    return pixels


def luminance(pixels: U1) -> U1:
    """(H,W,3) RGB -> (H,W), by the weights of ITU-R BT.601."""
    gray: U1 = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return gray


def _resize(
    pixels: U1, box: tuple[int, int, int, int], size: tuple[int, int], interpolation: str
) -> U1:
    """The part in the box (top, left, bottom, right), in another size (rows, columns)."""
    method = INTERPOLATIONS[interpolation]
    if method is None:
        return resize(np.ascontiguousarray(pixels), box, size)
    top, left, bottom, right = box
    resized: U1 = cv2.resize(
        pixels[top:bottom, left:right], size[::-1], interpolation=method
    ).astype(np.uint8, copy=False)
    return resized
