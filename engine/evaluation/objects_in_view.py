"""Where the objects of a picture lie in the network's view of it, pixel by pixel."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.metric import ImageRows
from shardcam.engine.evaluation.view_geometry import boxes_in_view, mask_in_view
from shardcam.engine.truths.truth import ImageTruth, Region
from shardcam.engine.types import F8, I8, U1

Bools = npt.NDArray[np.bool_]

_FAR = 2**20  # pixels: a box may end far outside of the view, but not overflow


def regions_of(truth: ImageTruth, label: int) -> list[Region]:
    """A class's objects that have a place; none where all of them are difficult."""
    regions = [r for r in truth.regions if r.label == label and (r.box or r.mask)]
    return [] if all(region.difficult for region in regions) else regions


def boxes_of(regions: list[Region]) -> F8:
    """(m,4) x0, y0, x1, y1 of those objects that have a box, in pixels of the picture."""
    return np.array([r.box for r in regions if r.box is not None], np.float64).reshape(-1, 4)


def whole_boxes(boxes: F8, crop: F8, size: tuple[int, int]) -> I8:
    """(m,4) x0, y0, x1, y1 in pixels of the picture -> whole numbers, in pixels of the view.

    Truncated, and not cut at the view's edges: what the network does not see of an object is
    missing in its box. Of a squashed picture it is wsolevaluation's rule.
    """
    found: I8 = np.trunc(boxes_in_view(boxes, crop, size)).clip(-_FAR, _FAR).astype(np.int64)
    return found


def objects_in_view(regions: list[Region], rows: ImageRows, i: int) -> Bools:
    """(H,W) pixels of an image's view that lie on any of some objects.

    A box without a mask has the pixels whose centres it holds, x0 <= x < x1, and at least one
    in each direction.

    Raises
    ------
    UnreadableMask
        A file is no longer what it was when the truth was read.
    """
    found = np.zeros(rows.view_size, np.bool_)
    for region in regions:
        if region.mask is not None:
            found |= seen_of(region.mask(), rows, i)
        elif region.box is not None:
            box = boxes_in_view(np.array([region.box]), rows.crop[i], rows.view_size)[0]
            found[_covered(box[1], box[3]), _covered(box[0], box[2])] = True
    return found & picture_in_view(rows, i)


def picture_in_view(rows: ImageRows, i: int) -> Bools:
    """(H,W) pixels of an image's view that show the picture and not what it is padded with."""
    height, width = rows.image_size[i].tolist()
    whole = np.broadcast_to(np.ones(1, np.bool_), (height, width))
    return mask_in_view(whole, (height, width), rows.crop[i], rows.view_size)


def seen_of(mask: U1, rows: ImageRows, i: int) -> Bools:
    """(height,width) of an image's picture, or of another size of it -> (H,W) of its view."""
    height, width = rows.image_size[i].tolist()
    return mask_in_view(mask > 0, (height, width), rows.crop[i], rows.view_size)


def _covered(low: float, high: float) -> slice:
    start, stop = np.ceil(low - 0.5), np.ceil(high - 0.5)
    if stop <= start and high >= low:  # thinner than a pixel: the one that it is in
        start = np.floor((low + high) / 2)
        stop = start + 1
    return slice(*np.clip((start, stop), 0, _FAR).astype(np.int64).tolist())
