"""The network's view of a picture, whatever is asked for, against Pillow and NumPy."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from shardcam.engine.models.normalise import normalised
from shardcam.engine.pictures.imaging import stacked, view_of
from shardcam.engine.types import Decoding, Preprocessing

ROWS, COLUMNS = 40, 56  # of the network's input
BOX = (30.5, 60.0, 250.0, 400.0)  # touches 220 rows; reaches beyond the right edge
REDUCTION = 4  # with --fast-decode: at 1/8 the shorter side has fewer than 56 pixels
MEANS = {"gray": (33.4,), "rgb": (123.7, 116.3, 103.5), "bgr": (103.5, 116.3, 123.7)}
STDS = {"gray": (78.6,), "rgb": (58.4, 57.1, 57.4), "bgr": (57.4, 57.1, 58.4)}


def photograph():
    """A JPEG file 330 pixels high and 331 wide that EXIF turns."""
    y, x = np.mgrid[:330, :331] / 331
    pixels = np.stack([255 * y, 255 * x * x, 128 + 90 * np.sin(5 * x + 3 * y)], axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, "JPEG", quality=97, exif=exif)
    return stream.getvalue()


def seen_by_pillow(picture, channels, resize, box):
    """(40,56,channels) pixels, and the part of the picture that they show."""
    top, left, bottom, right = 0, 0, picture.height, picture.width
    if box:
        top, left, bottom, right = 30, 60, 250, 330
    height, width = bottom - top, right - left
    inner = ROWS, COLUMNS
    if resize.startswith("shorter"):
        pixels, crop = seen_by_torchvision(picture, (top, left, bottom, right))
        return in_channels(pixels, channels), crop
    if resize == "crop":  # as wide as can be: the input is wider than the picture
        assert height * COLUMNS > width * ROWS
        seen = round(width * ROWS / COLUMNS)
        top += (height - seen) // 2
        bottom, height = top + seen, seen
    if resize == "pad":
        inner = ROWS, round(width * ROWS / height)
    colours = np.rint(np.broadcast_to(MEANS["rgb" if channels == "bgr" else channels], 3))
    view = Image.new("RGB", (COLUMNS, ROWS), tuple(colours.astype(int).tolist()))
    margin = (COLUMNS - inner[1]) // 2
    part = picture.resize(inner[::-1], Image.Resampling.BOX, (left, top, right, bottom))
    view.paste(part, (margin, 0))
    beyond = margin * width / inner[1], (COLUMNS - margin) * width / inner[1]
    crop = top, left - beyond[0], bottom, left + beyond[1]
    return in_channels(view, channels), crop


def in_channels(view, channels):
    if channels == "gray":
        return np.asarray(view.convert("L"))[..., None]
    return np.asarray(view)[..., :: -1 if channels == "bgr" else 1]


def seen_by_torchvision(picture, box):
    """Resize(57) and CenterCrop((40, 56)) of torchvision 0.29, by Pillow."""
    top, left, bottom, right = box
    height, width = bottom - top, right - left
    short = min(height, width)
    inner = int(57 * height / short), int(57 * width / short)
    y, x = round((inner[0] - ROWS) / 2), round((inner[1] - COLUMNS) / 2)
    resized = picture.resize(inner[::-1], Image.Resampling.BOX, (left, top, right, bottom))
    down, across = height / inner[0], width / inner[1]
    crop = top + y * down, left + x * across, top + (y + ROWS) * down, left + (x + COLUMNS) * across
    return resized.crop((x, y, x + COLUMNS, y + ROWS)), crop


@pytest.mark.parametrize("channels", ["gray", "rgb", "bgr"])
@pytest.mark.parametrize("resize", ["crop", "squash", "pad", "shorter:57,crop"])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("box", [None, BOX])
def test_views(channels, resize, fast, box):
    data = photograph()
    order = "bgr" if channels == "bgr" else "rgb"
    preprocessing = Preprocessing(
        ROWS, COLUMNS, MEANS[channels], STDS[channels], resize, channels=order
    )
    depth = len(MEANS[channels])
    view = view_of(data, box, preprocessing, Decoding(10**6, fast))
    pixels = stacked([view.pixels], preprocessing)
    images = normalised(pixels, preprocessing)

    assert (view.pixels.shape, view.pixels.dtype) == ((ROWS, COLUMNS, 3), np.uint8)
    assert (pixels.shape, pixels.dtype) == ((1, ROWS, COLUMNS, depth), np.uint8)
    assert (images.shape, images.dtype) == ((1, depth, ROWS, COLUMNS), np.float32)
    assert view.image_size == (331, 330)

    picture = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    expected, crop = seen_by_pillow(picture, channels, resize, box)
    reduced = REDUCTION if fast and box is None else 0  # a box is cut from all pixels
    np.testing.assert_allclose(view.crop, crop, rtol=1e-12, atol=reduced)
    assert abs(pixels[0].astype(int) - expected).max() <= (6 if reduced else 3)
    planes = (expected - np.array(MEANS[channels])) / np.array(STDS[channels])
    np.testing.assert_allclose(images[0], planes.transpose(2, 0, 1), atol=0.12)
