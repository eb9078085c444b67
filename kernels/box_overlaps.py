"""How well the boxes around what lies above each level of a map meet given boxes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import require
from shardcam.kernels._jit import Kernel
from shardcam.kernels.component_boxes import I4, I8, THRESHOLDS

U2 = NDArray[np.uint16]

IOU_UNIT = 10_000


def box_overlaps(found: I4, boxes: I8) -> U2:
    """(N,5), (M,4) -> (255), int32 and int64 to uint16, C order.

    For every threshold the best intersection over union of a box found with a box given; all
    extents are one more than the differences.

    Parameters
    ----------
    found : (N, 5) int32
        T, x0, y0, x1, y1 of each; T from 0 to 254.
    boxes : (M, 4) int64
        x0, y0, x1, y1, from -2^20 to 2^20.

    Returns
    -------
    (255,) uint16
        In `IOU_UNIT`, rounded down: comparing it with a multiple of the unit is exact.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or shape or is not C-contiguous.
    """
    require("found", found, np.int32, "N", 5)
    require("boxes", boxes, np.int64, "M", 4)
    best = np.empty(THRESHOLDS, np.uint16)
    _box_overlaps(found, boxes, out=(best,))
    return best


@Kernel
def _box_overlaps(found: I4, boxes: I8, best: U2) -> None:
    best[:] = 0
    for n in range(len(found)):
        x0, y0, x1, y1 = found[n, 1], found[n, 2], found[n, 3], found[n, 4]
        own = np.int64(x1 - x0 + 1) * (y1 - y0 + 1)
        for m in range(len(boxes)):
            a0, b0, a1, b1 = boxes[m, 0], boxes[m, 1], boxes[m, 2], boxes[m, 3]
            across = max(min(x1, a1) - max(x0, a0) + 1, 0)
            down = max(min(y1, b1) - max(y0, b0) + 1, 0)
            whole = own + (a1 - a0 + 1) * (b1 - b0 + 1) - across * down
            if whole > 0:
                best[found[n, 0]] = max(best[found[n, 0]], across * down * 10_000 // whole)
