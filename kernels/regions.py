"""Regions of a picture as run lengths."""

from __future__ import annotations

import operator

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import require
from shardcam.kernels._jit import Kernel

I4 = NDArray[np.int32]
I8 = NDArray[np.int64]


def run_lengths(labels: I4, label: int, box: tuple[int, int, int, int]) -> I8:
    """(H,W), (1), (4) -> (R), int32 to int64, C order.

    The lengths of the runs of pixels without and with a label, in turn, over the whole picture,
    column by column, as COCO has them. The first and the last are without it, and may be 0.

    Parameters
    ----------
    labels : (H, W) int32
        Of each pixel.
    label : int
        The one that is looked for.
    box : (top, left, bottom, right)
        The part that has all pixels of it; bottom and right are outside of the part.

    Raises
    ------
    TypeError, ValueError
        If the labels have another dtype or shape or are not C-contiguous, or the box is empty,
        not inside the picture or not of whole numbers.
    """
    height, width = require("labels", labels, np.int32, "H", "W")
    top, left, bottom, right = map(operator.index, box)
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        raise ValueError(f"box: expected a part of {height}x{width} pixels, got {box}")
    lengths = np.empty((bottom - top + 1) * (right - left) + 2, np.int64)
    _run_lengths(labels, label, (top, left, bottom, right), out=(lengths,))
    return lengths[1 : lengths[0]]


@Kernel
def _run_lengths(labels: I4, label: int, box: tuple[int, int, int, int], lengths: I8) -> None:
    top, left, bottom, right = box
    height, width = labels.shape
    whole = bottom - top == height  # a run may go on in the next column
    count, begun, inside = 1, 0, False
    for x in range(left, right):
        for y in range(top, bottom):
            if (labels[y, x] == label) != inside:
                lengths[count] = x * height + y - begun
                begun += lengths[count]
                count += 1
                inside = not inside
        if inside and not (whole and x + 1 < right):
            lengths[count] = x * height + bottom - begun
            begun += lengths[count]
            count += 1
            inside = False
    lengths[count] = height * width - begun
    lengths[0] = count + 1
