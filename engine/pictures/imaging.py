"""From the bytes of an image file to the network's view of it."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor

import cv2
import numpy as np

from shardcam.engine.pictures.decode_image import picture_of
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.types import NO_FLAG, U1, Box, Decoding, Fit, Flag, Preprocessing, View
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
    size = picture.pixels.shape[0], picture.pixels.shape[1]
    top, left, bottom, right = part = (0, 0, *size) if box is None else part_of(size, box)
    fit = fit_of(part, preprocessing, picture.image_size if box is None else None)
    height, width = picture.image_size
    down, across = height / size[0], width / size[1]
    y0, x0, y1, x1 = fit.crop
    crop = y0 * down, x0 * across, y1 * down, x1 * across
    flags = picture.flags | _range_flag(picture.pixels[top:bottom, left:right])
    return View(_fitted(picture.pixels, fit, preprocessing), (height, width), crop, flags)


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
    """Fit a picture to the network's input: see `fit_of`.

    Raises
    ------
    UndecodableImage
        The resized picture would be too large; ``area`` needs no more than what is seen.
    """
    height, width = pixels.shape[:2]
    fit = fit_of((0, 0, height, width), preprocessing, image_size)
    return View(_fitted(pixels, fit, preprocessing), (height, width), fit.crop)


def fit_of(
    part: tuple[int, int, int, int],
    preprocessing: Preprocessing,
    image_size: tuple[int, int] | None = None,
) -> Fit:
    """How a part of a picture (top, left, bottom, right) is fitted to the network's input.

    ``none`` leaves it as it is; ``crop`` takes the largest centred part of the input's shape;
    ``squash`` takes all of it and ignores its shape; ``pad`` keeps the shape and fills up with the
    mean colour; ``shorter:N,crop`` makes the shorter side N and takes the centre, as torchvision's
    Resize and CenterCrop do, and what lies outside of the picture is black.  With the
    interpolation ``area``, shrinking averages areas, as OpenCV's INTER_AREA, and enlarging is
    bilinear.

    `image_size` is the height and width of the picture that this is a reduced form of.
    """
    top, left, bottom, right = part
    height, width = bottom - top, right - left
    rows, columns = preprocessing.height, preprocessing.width
    size, start = (rows, columns), (0, 0)
    if preprocessing.shorter is not None:
        shown = image_size or (height, width)
        size, start = _shorter(shown, preprocessing.shorter, (rows, columns))
    elif preprocessing.resize == "pad":
        scale = min(rows / height, columns / width)
        size = max(round(height * scale), 1), max(round(width * scale), 1)
        start = -((rows - size[0]) // 2), -((columns - size[1]) // 2)
    elif preprocessing.resize == "crop":  # before it is resized: 1 pixel by a million stays small
        scale = min(height / rows, width / columns)
        seen = min(max(round(rows * scale), 1), height), min(max(round(columns * scale), 1), width)
        top, left = top + (height - seen[0]) // 2, left + (width - seen[1]) // 2
        bottom, right = top + seen[0], left + seen[1]
    elif preprocessing.resize == "none":
        size = height, width
    crop = float(top), float(left), float(bottom), float(right)
    if preprocessing.shorter is not None or preprocessing.resize == "pad":
        y, x = height / size[0], width / size[1]  # picture pixels per pixel of the resized one
        crop = (
            *(start[0] * y + top, start[1] * x + left),
            *((start[0] + rows) * y + top, (start[1] + columns) * x + left),
        )
    return Fit((top, left, bottom, right), size, start, crop)


def _shorter(
    shown: tuple[int, int], shorter: int, sides: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The sizes and places of torchvision, to the pixel."""
    inner = shorter * shown[0] // min(shown), shorter * shown[1] // min(shown)
    top, left = (
        round((n - side) / 2) if n > side else -((side - n) // 2)
        for n, side in zip(inner, sides, strict=True)
    )
    return inner, (top, left)


def border(preprocessing: Preprocessing) -> U1:
    """(3,) the RGB of what a view shows beyond the picture."""
    if preprocessing.shorter is not None:
        return np.zeros(3, np.uint8)
    colour = np.rint(preprocessing.in_rgb(preprocessing.mean)).clip(0, 255).astype(np.uint8)
    return np.broadcast_to(colour, 3)  # of one channel: gray


def _fitted(pixels: U1, fit: Fit, preprocessing: Preprocessing) -> U1:
    if preprocessing.resize == "none":
        top, left, bottom, right = fit.box
        return np.ascontiguousarray(pixels[top:bottom, left:right])
    sides = preprocessing.height, preprocessing.width
    resized = _resize(pixels, fit.box, fit.size, preprocessing.interpolation, fit.window(sides))
    if resized.shape[:2] == sides:
        return resized
    around = np.empty((*sides, 3), np.uint8)
    around[:] = border(preprocessing)
    around[fit.place(sides)] = resized
    return around


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
    window: tuple[int, int, int, int],
) -> U1:
    """The part in the box (top, left, bottom, right), in another size (rows, columns).

    Of the result only the window.
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
    first, start, last, stop = window
    return np.ascontiguousarray(resized[first:last, start:stop])
