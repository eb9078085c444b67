"""Boxes and masks between pictures and what the network saw of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F8 = npt.NDArray[np.float64]


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
    start, extent, sides = _axes(crop, view_size)
    return (boxes - start) * sides / extent


def boxes_in_picture(boxes: F8, crop: F8, view_size: tuple[int, int]) -> F8:
    """The way back from `boxes_in_view`."""
    start, extent, sides = _axes(crop, view_size)
    return boxes * extent / sides + start


def mask_in_view(
    mask: npt.NDArray[np.bool_], image_size: tuple[int, int], crop: F8, view_size: tuple[int, int]
) -> npt.NDArray[np.bool_]:
    """(h,w) of the whole picture, in whatever size -> (H,W), False outside of the picture.

    Each pixel of the view takes what lies at its upper left corner, as OpenCV's INTER_NEAREST.
    """
    height, width = view_size
    (y0, x0, y1, x1), (rows, columns) = crop.tolist(), mask.shape
    down = (y0 + np.arange(height) * (y1 - y0) / height) * rows / image_size[0]
    across = (x0 + np.arange(width) * (x1 - x0) / width) * columns / image_size[1]
    y, x = np.floor(down).astype(np.int64), np.floor(across).astype(np.int64)
    inside = ((y >= 0) & (y < rows))[:, None] & ((x >= 0) & (x < columns))
    seen: npt.NDArray[np.bool_] = mask[y.clip(0, rows - 1)][:, x.clip(0, columns - 1)] & inside
    return seen


def _axes(crop: F8, view_size: tuple[int, int]) -> tuple[F8, F8, F8]:
    """Where x, y, x, y begin, how long they are in the picture, and in the view."""
    y0, x0, y1, x1 = crop.tolist()
    start, end = np.array([x0, y0, x0, y0]), np.array([x1, y1, x1, y1])
    height, width = view_size
    return start, end - start, np.array([width, height, width, height], np.float64)
