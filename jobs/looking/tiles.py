"""Small pictures of one size, side by side in one picture, with words, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from math import ceil, sqrt
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from shardcam.engine.io.whole_file import whole_file
from shardcam.engine.types import U1

PAPER, INK = (255, 255, 255), (70, 70, 70)
LABEL_SIZE = 11  # of the letters, in pixels


def tile(
    images: U1,
    columns: int | None = None,
    gutter: int = 4,
    labels: Sequence[str] | None = None,
) -> U1:
    """Lay out (N,h,w,3) -> (H,W,3), RGB, on white, row by row.

    Parameters
    ----------
    images
        The tiles; N at least 1.
    columns
        Tiles in a row; by default as many as make the whole about square.
    gutter
        Pixels between two tiles; none outside.
    labels
        A short text for each tile, written below it.

    Raises
    ------
    ValueError
        There is no tile, or there is not one label for each.
    """
    count, height, width, _ = images.shape
    if not count or (labels is not None and len(labels) != count):
        raise ValueError(f"{count} tiles, labels: {None if labels is None else len(labels)}")
    strip = text_size("0")[1] + 2 if labels is not None else 0
    down, across = height + strip + gutter, width + gutter
    columns = min(count, columns or ceil(sqrt(count * down / across)))
    rows = ceil(count / columns)
    out = np.full((rows * down - gutter, columns * across - gutter, 3), PAPER, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * down, i % columns * across
        out[top : top + height, left : left + width] = image
    if labels is None:
        return out
    places = [(i % columns * across, i // columns * down + height + 1) for i in range(count)]
    return write(out, dict(zip(places, labels, strict=True)), width)


def write(
    picture: U1, texts: dict[tuple[int, int], str], width: int | None = None, size: int = LABEL_SIZE
) -> U1:
    """Write texts with their upper left corners at (x,y); with `width`, centred in `width` pixels.

    A text that is wider than `width` is left out.
    """
    page = Image.fromarray(picture)
    draw = ImageDraw.Draw(page)
    for (x, y), text in texts.items():
        spare = 0 if width is None else width - text_size(text, size)[0]
        if spare >= 0:
            draw.text((x + spare // 2, y), text, INK, _font(size))
    return np.asarray(page)


def text_size(text: str, size: int = LABEL_SIZE) -> tuple[int, int]:
    """Width and height of a line of text, in pixels; lines of one size are equally high."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    return ceil(font.getlength(text)), ascent + descent


def fitting(text: str, width: int, size: int = LABEL_SIZE) -> str:
    """A text, cut to so many pixels."""
    while text and text_size(text, size)[0] > width:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    return text


def save_picture(picture: U1, path: Path) -> None:
    """Write a PNG or JPEG file; it appears whole.

    Raises
    ------
    DiskFull, RunDirectoryError
        No space, or no permission to write.
    """
    data = BytesIO()
    form = Image.registered_extensions()[path.suffix]
    Image.fromarray(picture).save(data, form, quality=85, optimize=True)
    with whole_file(path) as stream:
        stream.write(data.getvalue())


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)  # type: ignore[return-value]
