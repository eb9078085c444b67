"""Activations as pictures: one panel for each layer, its channels as tiles, the input beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, sqrt

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.types import F4, U1
from shardcam.jobs.looking.tiles import PAPER, fitting, text_size, tile, write

GRID = 480  # pixels that a panel's tiles are high, about
SMALLEST, LARGEST = 26, 320  # sides of a tile
GUTTER, GAP, MARGIN = 2, 18, 16  # between tiles, parts of a panel, panels
FRAME = (205, 205, 205)  # around a tile, so that white ones have an end
TITLE, CAPTION = 15, 12  # sizes of letters
BAR = 12  # pixels of the colour bar's width
_BLUE_TO_RED = ((33, 60, 120), (67, 147, 195), (247, 247, 247), (214, 96, 77), (110, 10, 30))


@dataclass(frozen=True)
class LayerValues:
    """What a layer computed of one picture."""

    name: str
    values: F4  # (C,h,w), or (D,) of a dense layer


def draw_panels(picture: U1, caption: str, layers: Sequence[LayerValues], top: int) -> U1:
    """Draw one panel for each layer, one below the other.

    Parameters
    ----------
    picture
        (height,width,3): what the network saw.
    caption
        A line about it.
    layers
        Whose channels to show.
    top
        At most so many of a layer's: those of the highest mean.
    """
    panels = [_panel(picture, caption, layer, top) for layer in layers]
    width = max(panel.shape[1] for panel in panels)
    return np.concatenate([_padded(panel, width) for panel in panels])


def top_activating_channels(values: F4, top: int) -> npt.NDArray[np.intp]:
    """The channels to show: all in their order, or the `top` of highest mean, highest first."""
    if len(values) <= top:
        return np.arange(len(values))
    means = np.nan_to_num(values.reshape(len(values), -1).mean(axis=1), nan=-np.inf)
    return np.argsort(-means, kind="stable")[:top]


def colours(values: F4) -> tuple[U1, float, float]:
    """(...) -> (...,3) RGB, and the values that the ends of the colours stand for.

    Blue through white to red where there are negative values, with white at 0; else from black
    at 0. The ends are the largest absolute value of all.
    """
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0)) or 1.0
    lowest = -largest if (finite < 0).any() else 0.0
    table = _diverging() if lowest else _rising()
    clean = np.nan_to_num(values, nan=lowest, posinf=largest, neginf=lowest)
    levels = np.rint((clean - lowest) / (largest - lowest) * 255).clip(0, 255).astype(np.uint8)
    return table[levels], lowest, largest


def _panel(picture: U1, caption: str, layer: LayerValues, top: int) -> U1:
    values = layer.values if layer.values.ndim == 3 else layer.values[:, None, None]
    channels = top_activating_channels(values, top)
    columns, side = grid_of(len(channels))
    rows = values.shape[1]
    side -= side % rows if rows < side else 0  # so that all cells are equally large
    drawn, lowest, largest = colours(values)
    cells = np.stack([_framed(_sized(drawn[c], side)) for c in channels])
    grid = tile(cells, columns, GUTTER, [str(c) for c in channels])
    height = len(grid)
    seen = _sized(picture, height)
    bar = _bar(height, lowest)
    ends = [f"{largest:.3g}", f"{lowest:.3g}"]
    numbers = max(text_size(text, CAPTION)[0] for text in ends)
    line, small = (text_size("0", size)[1] for size in (TITLE, CAPTION))
    top_edge = MARGIN + line + small + 8
    lefts = np.cumsum([MARGIN, seen.shape[1] + GAP, grid.shape[1] + GAP, BAR + 5])
    title, note = _captions(layer, channels, largest, lowest)
    width = max(
        lefts[3] + numbers,
        lefts[1] + text_size(title, TITLE)[0],
        lefts[1] + text_size(note, CAPTION)[0],
    )
    page = np.full((top_edge + height + MARGIN, width + MARGIN, 3), PAPER, np.uint8)
    for left, part in zip(lefts, (seen, grid, bar), strict=False):
        page[top_edge : top_edge + height, left : left + part.shape[1]] = part
    page = write(page, {(lefts[0], MARGIN): "input", (lefts[1], MARGIN): title}, size=TITLE)
    under = MARGIN + line + 2
    places = {(lefts[0], under): fitting(caption, seen.shape[1], CAPTION), (lefts[1], under): note}
    places |= {(lefts[3], top_edge): ends[0], (lefts[3], top_edge + height - small): ends[1]}
    if lowest:
        places[lefts[3], top_edge + (height - small) // 2] = "0"
    return write(page, places, size=CAPTION)


def grid_of(count: int) -> tuple[int, int]:
    """Columns, and the side of a tile: few empty places, and half as wide again as high."""
    wanted = sqrt(1.5 * count)
    choices = range(max(1, ceil(sqrt(count))), max(1, int(sqrt(2.2 * count))) + 1)
    columns = min(choices, key=lambda c: (-count % c, abs(c - wanted)))
    rows = ceil(count / columns)
    return columns, min(max(GRID // rows, SMALLEST), LARGEST)


def _captions(
    layer: LayerValues, channels: npt.NDArray[np.intp], largest: float, lowest: float
) -> tuple[str, str]:
    every, *size = layer.values.shape
    kind = f"channels of {size[0]}x{size[1]}" if size else "units"
    shown = f"{len(channels)} of {every}" if len(channels) < every else str(every)
    highest = "highest mean first" if size else "highest first"
    order = f", {highest}" if len(channels) < every else ""
    ends = f"{lowest:.3g} to {largest:.3g}"
    note = f"one colour scale, {ends}: the layer's largest absolute value in this image"
    return f"{layer.name}: {shown} {kind}{order}", note


def _sized(image: U1, height: int) -> U1:
    """Enlarge by repeating pixels, as they are few; reduce by averaging."""
    rows, columns = image.shape[:2]
    width = max(1, round(columns * height / rows))
    few = 4 * rows <= height or rows <= 64
    bigger = cv2.INTER_NEAREST if few else cv2.INTER_LINEAR
    how = bigger if height >= rows else cv2.INTER_AREA
    sized: U1 = cv2.resize(image, (width, height), interpolation=how).astype(np.uint8, copy=False)
    return sized


def _framed(image: U1) -> U1:
    framed = np.full((image.shape[0] + 2, image.shape[1] + 2, 3), FRAME, np.uint8)
    framed[1:-1, 1:-1] = image
    return framed


def _padded(panel: U1, width: int) -> U1:
    out = np.full((len(panel), width, 3), PAPER, np.uint8)
    out[:, : panel.shape[1]] = panel
    return out


def _bar(height: int, lowest: float) -> U1:
    table = _diverging() if lowest else _rising()
    levels = np.linspace(255, 0, height).round().astype(np.uint8)
    return np.repeat(table[levels][:, None], BAR, axis=1)


@cache
def _rising() -> U1:
    return colour_table("inferno")


@cache
def _diverging() -> U1:
    stops = np.linspace(0, 255, len(_BLUE_TO_RED))
    channels = [np.interp(np.arange(256), stops, c) for c in zip(*_BLUE_TO_RED, strict=True)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)
