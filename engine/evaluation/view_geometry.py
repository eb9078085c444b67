"""Boxes and masks between pictures and what the network saw of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shardcam.engine.types import F8, I8


def boxes_in_view(boxes: F8, crop: F8, view_size: tuple[int, int]) -> F8:
    """(m,4) x0, y0, x1, y1 in pixels of the picture -> in pixels of the view.

    What lies outside of the view has sides outside of 0 to W and H. Of a view of the whole picture
    a side is exactly ``x * W / width``.

    Parameters
    ----------
    crop
        (4,) y0, x0, y1, x1 of the view in the picture's pixels.
    view_size
        H, W of the network's input.
    """
    y0, x0, y1, x1 = crop.tolist()
    start, end = np.array([x0, y0, x0, y0]), np.array([x1, y1, x1, y1])
    height, width = view_size
    sides = np.array([width, height, width, height], np.float64)
    found: F8 = (boxes - start) * sides / (end - start)
    return found


def mask_in_view(
    mask: npt.NDArray[np.bool_], image_size: tuple[int, int], crop: F8, view_size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """(h,w) of the whole picture, in whatever size -> (H,W), False outside of the picture.

    Each pixel of the view takes what lies at its upper left corner; of a view of the whole picture
    that is to the bit what OpenCV's INTER_NEAREST takes.
    """
    (y0, x0, y1, x1), (rows, columns) = crop.tolist(), mask.shape
    y = _taken(y0, y1, view_size[0], image_size[0], rows)
    x = _taken(x0, x1, view_size[1], image_size[1], columns)
    inside = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))
    seen: npt.NDArray[np.bool_] = mask[y.clip(0, rows - 1)][:, x.clip(0, columns - 1)] & inside
    return seen


def _taken(first: float, last: float, view: int, picture: int, stored: int) -> I8:
    """Which of the stored pixels each pixel of the view takes, along one axis."""
    step = 1 / (view / ((last - first) * stored / picture))  # OpenCV's rounding
    taken: I8 = np.floor(first * stored / picture + np.arange(view) * step).astype(np.int64)
    return taken
