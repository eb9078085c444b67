"""From the bytes of an image file to the network's view of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import cv2
import numpy as np

from shardcam.engine.pictures.decode_image import picture_of
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.types import NO_FLAG, U1, Box, Decoding, Flag, Preprocessing, View
from shardcam.kernels import resize

SMALL_RANGE = 32  # of 256 values: a picture that has fewer is flagged
MOST_RESIZED = 2**26  # pixels: what OpenCV resizes before the centre is cut out
INTERPOLATIONS = {
    "area": None,  # area averages when shrinking, else bilinear: our own kernel
    "nearest": cv2.INTER_NEAREST_EXACT,
    "bilinear": cv2.INTER_LINEAR,
    "bicubic": cv2.INTER_CUBIC,
    "lanczos": cv2.INTER_LANCZOS4,
}


def view_of(
    data: bytes | U1, box: Box | None, preprocessing: Preprocessing, decoding: Decoding
) -> View:
    """The network's view of what a reader gave, or of the part in a box.

    The part is every whole pixel that the box touches. `image_size` and `crop` of the
    view are those of the whole picture, its flags those of what is looked at. With
    `decoding.fast`, whole JPEG pictures are decoded no larger than the view needs.

    Raises
    ------
    UndecodableImage
        See `decode`, or the box lies outside the picture.
    """
    enough = None
    if decoding.fast and box is None and preprocessing.resize != "none":
        enough = preprocessing.shorter or max(preprocessing.height, preprocessing.width)
    picture = picture_of(data, decoding, enough)
    part, top, left = picture.pixels, 0, 0
    if box is not None:
        part, top, left = _part(picture.pixels, box)
    seen = view(part, preprocessing, picture.image_size if box is None else None)
    height, width = picture.image_size
    y0, x0, y1, x1 = seen.crop
    down, across = height / picture.pixels.shape[0], width / picture.pixels.shape[1]
    crop = (y0 + top) * down, (x0 + left) * across, (y1 + top) * down, (x1 + left) * across
    return View(seen.pixels, (height, width), crop, picture.flags | _range_flag(part))


def _part(pixels: U1, box: Box) -> tuple[U1, int, int]:
    """The pixels that a box touches, and the first of their rows and columns."""
    top, left, bottom, right = part_of((pixels.shape[0], pixels.shape[1]), box)
    return np.ascontiguousarray(pixels[top:bottom, left:right]), top, left


def part_of(size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """The whole pixels of a picture of some height and width that a box touches, as a box.

    Raises
    ------
    UndecodableImage
        There are none.
    """
    height, width = size
    top, left = max(floor(box[0]), 0), max(floor(box[1]), 0)
    bottom, right = min(ceil(box[2]), height), min(ceil(box[3]), width)
    if top >= bottom or left >= right:
        x0, y0, x1, y1 = box[1], box[0], box[3], box[2]
        raise UndecodableImage(
            "box outside", f"the box {x0:g},{y0:g},{x1:g},{y1:g} is outside {width}x{height} pixels"
        )
    return top, left, bottom, right


def _range_flag(pixels: U1) -> Flag:
    """Whether all values lie within an eighth of the range: too dark, too bright, or flat."""
    for some in (pixels[::16], pixels):  # a few of its rows clear nearly every picture
        if int(some.max()) - int(some.min()) >= SMALL_RANGE:
            return NO_FLAG
    return Flag.SMALL_RANGE


def view(
    pixels: U1, preprocessing: Preprocessing, image_size: tuple[int, int] | None = None
) -> View:
    """Fit a picture to the network's input.

    ``none`` leaves it as it is; ``crop`` takes the largest centred part of the input's shape;
    ``squash`` takes all of it and ignores its shape; ``pad`` keeps the shape and fills up with the
    mean colour; ``shorter:N,crop`` makes the shorter side N and takes the centre, as torchvision's
    Resize and CenterCrop do, and what lies outside of the picture is black.  With the
    interpolation ``area``, shrinking averages areas, as OpenCV's INTER_AREA, and enlarging is
    bilinear.

    `image_size` is the height and width of the picture that `pixels` are a reduced form of.

    Raises
    ------
    UndecodableImage
        The resized picture would be too large; ``area`` needs no more than what is seen.
    """
    if preprocessing.shorter is not None:
        shown = image_size or pixels.shape[:2]
        return _shorter(pixels, preprocessing, preprocessing.shorter, shown)
    if preprocessing.resize == "none":
        height, width = pixels.shape[:2]
        return View(pixels, (height, width), (0.0, 0.0, float(height), float(width)))
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
    colour = np.rint(preprocessing.in_rgb(preprocessing.mean)).clip(0, 255).astype(np.uint8)
    padded = np.full((rows, columns, 3), colour, np.uint8)  # of one channel: gray
    resized = _resize(pixels, (0, 0, height, width), inner, preprocessing.interpolation)
    padded[top : top + inner[0], left : left + inner[1]] = resized
    y, x = height / inner[0], width / inner[1]  # picture pixels per pixel of the view
    return View(
        padded, (height, width), (-top * y, -left * x, (rows - top) * y, (columns - left) * x)
    )


def _shorter(
    pixels: U1, preprocessing: Preprocessing, shorter: int, image_size: tuple[int, ...]
) -> View:
    """The sizes and places of torchvision, to the pixel."""
    height, width = pixels.shape[:2]
    sides = preprocessing.height, preprocessing.width
    inner = [shorter * side // min(image_size) for side in image_size]
    top, left = (
        round((n - side) / 2) if n > side else -((side - n) // 2)
        for n, side in zip(inner, sides, strict=True)
    )
    bottom, right = top + sides[0], left + sides[1]
    window = max(top, 0), max(left, 0), min(bottom, inner[0]), min(right, inner[1])
    whole, interpolation = (0, 0, height, width), preprocessing.interpolation
    resized = _resize(pixels, whole, (inner[0], inner[1]), interpolation, window)
    if resized.shape[:2] != sides:
        around = np.zeros((*sides, 3), np.uint8)
        rows = slice(window[0] - top, window[2] - top)
        around[rows, window[1] - left : window[3] - left] = resized
        resized = around
    y, x = height / inner[0], width / inner[1]  # picture pixels per pixel of the resized one
    return View(resized, (height, width), (top * y, left * x, bottom * y, right * x))


def stacked(pictures: Sequence[U1], preprocessing: Preprocessing) -> U1:
    """Views (H,W,3) RGB -> (N,H,W,channels), as the network takes them: see `put`."""
    pixels = room_for(len(pictures), preprocessing)
    for place, picture in zip(pixels, pictures, strict=True):
        put(picture, preprocessing, place)
    return pixels


def room_for(count: int, preprocessing: Preprocessing) -> U1:
    """(N,H,W,channels) bytes that nobody has written yet."""
    channels, height, width = preprocessing.input_shape
    return np.empty((count, height, width, channels), np.uint8)


def put(picture: U1, preprocessing: Preprocessing, place: U1) -> None:
    """Write a view (H,W,3) RGB to (H,W,channels), as the network takes it: see `channels`.

    A single channel is the luminance.
    """
    if place.shape[2] == 1:
        place[..., 0] = luminance(picture)
    else:
        place[...] = picture[..., ::-1] if preprocessing.channels == "bgr" else picture


def luminance(pixels: U1) -> U1:
    """(H,W,3) RGB -> (H,W), by the weights of ITU-R BT.601."""
    gray: U1 = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.uint8, copy=False)
    return gray


def _resize(
    pixels: U1,
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    interpolation: str,
    window: tuple[int, int, int, int] | None = None,
) -> U1:
    """The part in the box (top, left, bottom, right), in another size (rows, columns).

    Of the result only the window, if there is one.
    """
    method = INTERPOLATIONS[interpolation]
    if method is None:
        return resize(np.ascontiguousarray(pixels), box, size, window)
    if size[0] * size[1] > MOST_RESIZED:
        raise UndecodableImage(
            "oversized",
            f"{size[1]}x{size[0]} pixels once it is resized; --interpolation area does not need "
            "all of them",
        )
    top, left, bottom, right = box
    resized: U1 = cv2.resize(
        pixels[top:bottom, left:right], size[::-1], interpolation=method
    ).astype(np.uint8, copy=False)
    first, start, last, stop = window or (0, 0, *size)
    return np.ascontiguousarray(resized[first:last, start:stop])
