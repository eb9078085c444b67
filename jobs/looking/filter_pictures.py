"""Pictures of filters, and of what units respond to."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from shardcam.engine.types import F4, U1
from shardcam.jobs.looking.tiles import PAPER, text_size, tile, write

TILE = 56  # pixels that a filter's tile has at least, enlarged by a whole number
INPUTS = 12  # tiles of a filter that has many input channels
_GUTTER, _MARGIN, _HEADING = 6, 8, 13
_RED, _BLUE = np.array([178, 24, 43], np.float32), np.array([33, 102, 172], np.float32)


def colour_filters(weights: F4, units: Sequence[int]) -> U1:
    """(N,3,kh,kw) or (N,1,kh,kw) that look at the picture itself -> a tile in its colours each.

    Zero is middle grey, and the largest weight of each filter, by size, is black or white.
    """
    chosen = weights[list(units)]
    levels = np.rint(127.5 + 127.5 * _scaled(chosen)).astype(np.uint8).transpose(0, 2, 3, 1)
    colours = np.broadcast_to(levels, (*levels.shape[:3], 3))
    return _framed(tile(_enlarged(colours, TILE), labels=[str(unit) for unit in units]))


def signed_filters(weights: F4, units: Sequence[int]) -> U1:
    """(N,M,kh,kw) -> a row for each filter, a tile for each of its input channels of largest norm.

    White is zero, red positive, blue negative, on one scale for all of a filter.
    """
    chosen = _scaled(weights[list(units)])
    if chosen.shape[1] == 1:
        tiles = _enlarged(_diverging(chosen[:, 0]), TILE)
        return _framed(tile(tiles, labels=[str(unit) for unit in units]))
    rows = []
    for unit, filters in zip(units, chosen, strict=True):
        strength = np.linalg.norm(filters.reshape(len(filters), -1), axis=1)
        inputs = np.argsort(-strength, kind="stable")[:INPUTS]
        tiles = _enlarged(_diverging(filters[inputs]), TILE * 2 // 3)
        rows.append((f"filter {unit}", tile(tiles, INPUTS, labels=[f"in {i}" for i in inputs])))
    return stacked(rows)


def stacked(rows: Sequence[tuple[str, U1]]) -> U1:
    """Pictures below one another, each under a heading."""
    strip = text_size("0", _HEADING)[1] + 2
    width = max(picture.shape[1] for _, picture in rows)
    height = sum(strip + len(picture) + _GUTTER for _, picture in rows) - _GUTTER
    out = np.full((height, width, 3), PAPER, np.uint8)
    texts, top = {}, 0
    for heading, picture in rows:
        texts[0, top] = heading
        top += strip
        out[top : top + len(picture), : picture.shape[1]] = picture
        top += len(picture) + _GUTTER
    return _framed(write(out, texts, size=_HEADING))


def gallery(pictures: U1, labels: Sequence[str], columns: int | None = None) -> U1:
    """Pictures of one size, each with its label below it."""
    return _framed(tile(pictures, columns, _GUTTER, labels))


def enlarged_to(pictures: U1, side: int) -> U1:
    """(N,h,w,3) -> (N,side,side * w / h,3): pixels stay visible where they become large."""
    height, width = pictures.shape[1:3]
    how = cv2.INTER_NEAREST if side >= 4 * height else cv2.INTER_CUBIC
    how = cv2.INTER_AREA if side < height else how
    size = max(1, round(side * width / height)), side
    return np.stack([cv2.resize(picture, size, interpolation=how) for picture in pictures])


def _scaled(filters: F4) -> F4:
    """Each filter in [-1,1]."""
    peak = abs(filters).max(axis=tuple(range(1, filters.ndim)), keepdims=True)
    scaled: F4 = filters / np.maximum(peak, np.finfo(np.float32).tiny)
    return scaled


def _diverging(values: F4) -> U1:
    """(N,h,w) in [-1,1] -> (N,h,w,3)."""
    share = abs(values)[..., None]
    end = np.where(values[..., None] > 0, _RED, _BLUE)
    colours: U1 = np.rint((1 - share) * 255 + share * end).astype(np.uint8)
    return colours


def _enlarged(tiles: U1, side: int) -> U1:
    """Each pixel becomes a square, so that a tile has at least `side` pixels; edged in grey."""
    factor = -(-side // max(tiles.shape[1:3]))
    large = tiles.repeat(factor, axis=1).repeat(factor, axis=2)
    for edge in (large[:, 0], large[:, -1], large[:, :, 0], large[:, :, -1]):
        edge[...] = 200
    return large


def _framed(picture: U1) -> U1:
    edges = ((_MARGIN, _MARGIN), (_MARGIN, _MARGIN), (0, 0))
    return np.pad(picture, edges, constant_values=PAPER[0])
