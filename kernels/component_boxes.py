"""Bounding boxes of what lies above each level of a map.

A component is born at a maximum and grows and merges as the threshold falls. Every pixel is
first led uphill to its maximum, so that only where two such basins meet components are joined.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shardcam.kernels._checks import U1, require
from shardcam.kernels._jit import Kernel, inlined

F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]

THRESHOLDS = 255  # of eight bits: what is above 255 is nothing

# Of a square of four pixels, a bit each: how many are there, and four times what it adds to the
# number of components less that of holes.
_ONES = np.array([i.bit_count() for i in range(16)])
_QUARTERS = np.array([0, 1, 1, 0, 1, 0, -2, -1, 1, -2, 0, -1, 0, -1, -1, 0])


def contour_boxes(scores: F8, levels: U1) -> I4:
    """(H,W), (H,W) -> (M,5), float64 and uint8 to int32, C order.

    For every threshold T the boxes around the contours of the pixels with a level above T: all
    that OpenCV's `findContours` lists as a tree, those of holes too. As in wsolevaluation a box
    ends one pixel further at the right and below, unless that is outside, and where no pixel is
    above there is the box 0, 0, 0, 0.

    Parameters
    ----------
    scores : (H, W) float64
        Finite; they order the pixels of one level.
    levels : (H, W) uint8
        Never falling as the scores rise.

    Returns
    -------
    (M, 5) int32
        T, x0, y0, x1, y1; in no order.

    Raises
    ------
    TypeError, ValueError
        If an argument has another dtype or shape or is not C-contiguous.
    """
    height, width = require("scores", scores, np.float64, "H", "W")
    require("levels", levels, np.uint8, height, width)
    found, count = np.empty((16 * THRESHOLDS, 5), np.int32), np.empty(1, np.int64)
    _contour_boxes(scores, levels, out=(found, count))
    if count[0] > len(found):
        found = np.empty((int(count[0]), 5), np.int32)
        _contour_boxes(scores, levels, out=(found, count))
    return found[: count[0]].copy()


def largest_boxes(scores: F8, levels: U1) -> tuple[I4, U1]:
    """(H,W), (H,W) -> (255,5), (255), float64 and uint8 to int32 and uint8, C order.

    For every threshold the box, as `contour_boxes` has them, of the contour with the largest
    area: OpenCV's `contourArea`, of the polygon through the centres of its pixels.

    Parameters
    ----------
    scores, levels : (H, W) float64 and uint8
        As `contour_boxes`.

    Returns
    -------
    boxes : (255, 5) int32
        T, x0, y0, x1, y1, by rising T.
    unsure : (255,) uint8
        1 where components with holes, or of one area, leave it open which is the largest.

    Raises
    ------
    TypeError, ValueError
        As `contour_boxes`.
    """
    height, width = require("scores", scores, np.float64, "H", "W")
    require("levels", levels, np.uint8, height, width)
    boxes, unsure = np.empty((THRESHOLDS, 5), np.int32), np.empty(THRESHOLDS, np.uint8)
    _largest_boxes(scores, levels, out=(boxes, unsure))
    return boxes, unsure


@inlined
def _find(parent: I4, basin: int) -> int:
    while parent[basin] != basin:
        parent[basin] = parent[parent[basin]]
        basin = parent[basin]
    return basin


@inlined
def _padded(scores: F8, levels: U1, turn: bool, values: F8, steps: U1) -> None:
    """A map with a border that is below everything, so that all pixels have eight neighbours.

    To `turn` it makes its minima maxima.
    """
    height, width = scores.shape
    values[:, :], steps[:, :] = -np.inf, 0
    for y in range(height):
        for x in range(width):
            values[y + 1, x + 1] = -scores[y, x] if turn else scores[y, x]
            steps[y + 1, x + 1] = 255 - levels[y, x] if turn else levels[y, x]


@inlined
def _lead_uphill(values: F8, diagonal: bool, places: I4) -> None:
    """Give each pixel the highest place of its neighbourhood.

    Equal ones lead to the last, never in a circle. Written so that LLVM vectorises it.
    """
    height, width = values.shape
    high, step = np.empty(width), np.empty(width, np.int32)
    for y in range(1, height - 1):
        for x in range(width):  # assigning the row would take Numba seconds to compile
            high[x], step[x] = values[y, x], 0
        for v in range(-1, 2):
            for u in range(-1, 2):
                if (v or u) and (diagonal or not (v and u)):
                    offset = np.int32(v * width + u)
                    row = values[y + v]
                    if offset < 0:
                        for x in range(1, width - 1):
                            other = row[x + u]
                            step[x] = offset if other > high[x] else step[x]
                            high[x] = max(high[x], other)
                    else:
                        for x in range(1, width - 1):
                            other = row[x + u]
                            step[x] = offset if other >= high[x] else step[x]
                            high[x] = max(high[x], other)
        for x in range(1, width - 1):
            places[y, x] = y * width + x + step[x]


@inlined
def _basins(values: F8, diagonal: bool, basin: I4) -> int:
    """Number the maxima from 1 and give each pixel that of its own; returns how many.

    `diagonal` says whether pixels that touch at a corner are neighbours. The border has 0.
    """
    height, width = values.shape
    basin[:] = 0
    _lead_uphill(values, diagonal, basin.reshape(height, width))
    count = 0
    for start in range(height * width):  # where the maximum is known there is minus its number
        place = start
        while basin[place] > 0 and basin[place] != place:
            place = basin[place]
        if basin[place] > 0:
            count += 1
            basin[place] = -count
        known, place = basin[place], start
        while basin[place] > 0:
            after = basin[place]
            basin[place] = known
            place = after
    for place in range(height * width):
        basin[place] = -basin[place]
    return count


@inlined
def _shores(basin: I4, width: int, diagonal: bool, shore: U1) -> None:
    """Mark the pixels with a neighbour of another basin; those of the border have none."""
    first, last = width + 1, len(basin) - width - 1
    shore[:first], shore[last:] = 0, 0
    own, found = basin[first:last], shore[first:last]
    left, right = basin[first - 1 : last - 1], basin[first + 1 : last + 1]
    above, below = basin[first - width : last - width], basin[first + width : last + width]
    for i in range(np.uint64(len(own))):
        beside = (own[i] ^ left[i]) | (own[i] ^ right[i])
        found[i] = (beside | (own[i] ^ above[i]) | (own[i] ^ below[i])) != 0
    if diagonal:
        for offset in (-width - 1, -width + 1, width - 1, width + 1):
            other = basin[first + offset : last + offset]
            for i in range(np.uint64(len(own))):
                found[i] |= np.uint8(own[i] != other[i])


@inlined
def _by_level(steps: U1, begin: I8, order: I8) -> None:
    """The pixels, y << 32 | x, by falling level: of level l are those from `begin[255 - l]` on."""
    height, width = steps.shape
    begin[:] = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            begin[256 - steps[y, x]] += 1
    for i in range(256):
        begin[i + 1] += begin[i]
    room = begin.copy()
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            step = 255 - steps[y, x]
            order[room[step]] = y << 32 | x
            room[step] += 1


@inlined
def _landscape(scores: F8, levels: U1, turn: bool) -> tuple[U1, I4, int, U1, I8, I8]:
    """Of all pixels with a border around: levels, basins, how many numbers these have, shores.

    And the pixels by falling level, and where each level begins among them. To `turn` the map
    it finds what is below each level, where pixels that touch at a corner are no neighbours.
    """
    height, width = scores.shape[0] + 2, scores.shape[1] + 2
    values, steps = np.empty((height, width)), np.empty((height, width), np.uint8)
    basin, order = np.empty(height * width, np.int32), np.empty(height * width, np.int64)
    shore, begin = np.empty(height * width, np.uint8), np.empty(257, np.int64)
    _padded(scores, levels, turn, values, steps)
    basins = _basins(values, not turn, basin) + 1
    _shores(basin, width, not turn, shore)
    _by_level(steps, begin, order)
    return steps.reshape(-1), basin, basins, shore, order, begin


@inlined
def _grow(box: I4, root: int, x: int, y: int) -> None:
    box[root, 0], box[root, 1] = min(box[root, 0], x), min(box[root, 1], y)
    box[root, 2], box[root, 3] = max(box[root, 2], x), max(box[root, 3], y)


@inlined
def _connect(
    place: int, steps: U1, width: int, diagonal: bool, basin: I4, parent: I4, box: I4
) -> None:
    """Make one component of all that meet in a pixel."""
    root = _find(parent, basin[place])
    for v in range(-1, 2):
        for u in range(-1, 2):
            other = place + v * width + u
            if (v and u and not diagonal) or basin[other] == basin[place]:
                continue
            joined = _find(parent, basin[other])
            if steps[other] >= steps[place] and joined != root:
                parent[joined] = root
                box[root, 0] = min(box[root, 0], box[joined, 0])
                box[root, 1] = min(box[root, 1], box[joined, 1])
                box[root, 2] = max(box[root, 2], box[joined, 2])
                box[root, 3] = max(box[root, 3], box[joined, 3])


@inlined
def _clear(parent: I4, box: I4) -> None:
    for i in range(len(parent)):
        parent[i] = i
        box[i, 0] = box[i, 1] = 1 << 30
        box[i, 2] = box[i, 3] = -1


@inlined
def _alive(parent: I4, alive: I4, count: int) -> int:
    """Keep those that were not joined to others; returns how many."""
    kept = 0
    for i in range(count):
        if parent[alive[i]] == alive[i]:
            alive[kept] = alive[i]
            kept += 1
    return kept


@Kernel
def _contour_boxes(scores: F8, levels: U1, found: I4, total: I8) -> None:
    height, width = scores.shape
    written = 0
    for holes in range(2):
        diagonal = not holes  # components are of pixels that touch at corners, holes are not
        steps, basin, basins, shore, order, begin = _landscape(scores, levels, bool(holes))
        parent, box = np.empty(basins, np.int32), np.empty((basins, 4), np.int32)
        seen, alive, count = np.zeros(basins, np.bool_), np.empty(basins, np.int32), 0
        _clear(parent, box)
        for step in range(255):
            for i in range(begin[step], begin[step + 1]):
                y, x = order[i] >> 32, order[i] & 0xFFFFFFFF
                place = y * (width + 2) + x
                if not seen[basin[place]]:
                    seen[basin[place]] = True
                    alive[count] = basin[place]
                    count += 1
                _grow(box, _find(parent, basin[place]), x - 1, y - 1)
                if shore[place]:
                    _connect(place, steps, width + 2, diagonal, basin, parent, box)
            count = _alive(parent, alive, count)
            threshold = step if holes else 254 - step
            if not (holes or count):
                if written < len(found):
                    found[written, 0], found[written, 1:] = threshold, 0
                written += 1
            for i in range(count):
                x0, y0 = box[alive[i], 0], box[alive[i], 1]
                x1, y1 = box[alive[i], 2], box[alive[i], 3]
                if holes:  # what touches the edge is around objects, not in one
                    if x0 == 0 or y0 == 0 or x1 == width - 1 or y1 == height - 1:
                        continue
                    x0, y0, x1, y1 = x0 - 1, y0 - 1, x1 + 1, y1 + 1
                if written < len(found):
                    found[written, 0], found[written, 1], found[written, 2] = threshold, x0, y0
                    found[written, 3] = min(x1 + 1, width - 1)
                    found[written, 4] = min(y1 + 1, height - 1)
                written += 1
    total[0] = written


@Kernel
def _largest_boxes(scores: F8, levels: U1, boxes: I4, unsure: U1) -> None:
    height, width = scores.shape[0] + 2, scores.shape[1] + 2  # with the border
    # `bool(0)`, as Numba has it, is of the type of `bool(holes)`, where False is not: that would
    # be one more function to compile.
    steps, basin, basins, shore, order, begin = _landscape(scores, levels, bool(0))
    parent, box = np.empty(basins, np.int32), np.empty((basins, 4), np.int32)
    # Twice the area is the number of squares of four pixels of which three are there, and of
    # those of which all are; and the squares tell how many holes there are.
    area, square = np.zeros(basins, np.int64), np.zeros(height * width, np.uint8)
    seen, alive, count, quarters = np.zeros(basins, np.bool_), np.empty(basins, np.int32), 0, 0
    _clear(parent, box)
    for step in range(255):
        for i in range(begin[step], begin[step + 1]):
            y, x = order[i] >> 32, order[i] & 0xFFFFFFFF
            place = y * width + x
            if not seen[basin[place]]:
                seen[basin[place]] = True
                alive[count] = basin[place]
                count += 1
            _grow(box, _find(parent, basin[place]), x - 1, y - 1)
            if shore[place]:
                _connect(place, steps, width, bool(1), basin, parent, box)
            root = _find(parent, basin[place])
            for corner in range(4):
                at = place - width * (1 - (corner >> 1)) - 1 + (corner & 1)
                before = square[at]
                after = before | np.uint8(8 >> corner)
                square[at] = after
                quarters += _QUARTERS[after] - _QUARTERS[before]
                area[root] += _ONES[after] >= 3
        for i in range(count):  # of each, what was added to basins that it has joined
            root = _find(parent, alive[i])
            if root != alive[i]:
                area[root] += area[alive[i]]
        count = _alive(parent, alive, count)
        whole = 4 * count == quarters
        best = alive[0]
        for i in range(count):
            best = alive[i] if area[alive[i]] > area[best] else best
        threshold = 254 - step
        unsure[threshold] = 0
        boxes[threshold, 0], boxes[threshold, 1:] = threshold, 0
        for i in range(count):
            other = alive[i]
            most = 2 * (box[other, 2] - box[other, 0]) * (box[other, 3] - box[other, 1])
            if other != best and (area[other] if whole else most) >= area[best]:
                unsure[threshold] = 1
        if count:
            boxes[threshold, 1], boxes[threshold, 2] = box[best, 0], box[best, 1]
            boxes[threshold, 3] = min(box[best, 2] + 1, width - 3)
            boxes[threshold, 4] = min(box[best, 3] + 1, height - 3)
