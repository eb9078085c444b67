"""Localisation by boxes: MaxBoxAcc and MaxBoxAccV2, GT-known and top-k localisation.

As in wsolevaluation: a map is enlarged to the network's input, its minimum becomes 0 and its
maximum 1, and at every threshold the boxes around what is above it are compared with those of
the truth. The threshold is the one that is best for the whole set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from shardcam.engine.evaluation.explained_classes import measure_objects
from shardcam.engine.evaluation.metric import Figure, ImageRows, Measured, Merged, Reason
from shardcam.engine.evaluation.objects_in_view import boxes_of, whole_boxes
from shardcam.engine.evaluation.score_maps import (
    Floats,
    Repeated,
    levels,
    positive_score_map,
    score_map,
)
from shardcam.engine.run.intervals import of_mean_share, wilson
from shardcam.engine.truths.truth import Region
from shardcam.engine.types import F4, F8, I4, I8, U1
from shardcam.kernels import IOU_UNIT, box_overlaps, contour_boxes, largest_boxes

THRESHOLDS = 255  # that differ: a pixel's level is above T, for T from 0 to 254
CAM_2016 = 0.2  # of the maximum

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MaxBoxAcc:
    """The share of images with a box that meets one of the truth, at the best threshold.

    The value of an image is its best IoU at any threshold. The column ``iou``, (n,K,255) uint16,
    has the best at each, so that other thresholds and other IoUs can be asked for later: whole
    numbers of 1/10000, rounded down, which a comparison with so many decimals cannot tell from
    the quotient itself. Constant maps and those that are not finite are zeros, and count.
    """

    name: str
    deltas: tuple[float, ...]  # the IoUs that are asked for, of at most four decimals
    all_contours: bool
    interval: float = 0.001
    enlarging: str = "cubic"
    needs_truth: bool = True
    higher_is_better: bool | None = True

    @property
    def convention(self) -> str:
        kind = "MaxBoxAccV2" if self.all_contours else "MaxBoxAcc"
        contours = "all contours" if self.all_contours else "largest contour"
        shares = "/".join(f"{delta:g}" for delta in self.deltas)
        return f"{kind} ({self.enlarging}, {self.interval:g}, {contours}, IoU {shares})"

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        contours = all_contours if self.all_contours else largest_contours
        found_in = Repeated(lambda raw: contours(score_map(raw, rows.view_size, self.enlarging)))
        iou = np.zeros((*rows.target.shape, THRESHOLDS), np.uint16)

        def measure(i: int, k: int, regions: list[Region]) -> float | Reason:
            boxes = _boxes(regions, rows, i)
            if not len(boxes):
                return Reason.NO_BOX
            iou[i, k] = box_overlaps(found_in(maps[i, k]), boxes)
            return float(iou[i, k].max() / IOU_UNIT)

        return Measured(*measure_objects(rows, measure), {"iou": iou})

    def figure(self, merged: Merged) -> Figure:
        if not len(merged.values):
            return _nothing()
        steps, hits = _best_hits(merged, self.deltas, self.interval)
        scores = hits.mean(axis=0)
        low, high = of_mean_share(scores) if len(hits) > 1 else wilson(scores.sum(), len(scores))
        names = [f"{delta:g}" for delta in self.deltas]
        details = {
            "accuracy": dict(zip(names, hits.mean(axis=1).tolist(), strict=True)),
            "threshold": dict(zip(names, (steps * self.interval).tolist(), strict=True)),
            "per_class": per_class(merged.classes, scores),
        }
        return Figure(float(hits.mean(axis=1).mean()), low, high, len(scores), details)

    def best_boxes(self, raw: Floats, size: tuple[int, int], threshold: Mapping[str, float]) -> I4:
        """(m,4) boxes of a map at the best threshold, for an IoU of 0.5 if that was asked for.

        `threshold` is that of the figure's details, `size` the network's input.
        """
        level = _level(threshold.get("0.5", next(iter(threshold.values()))), self.interval)
        of_pixels = levels(score_map(raw, size, self.enlarging))
        if self.all_contours:
            return boxes_above(of_pixels, level)
        return np.array([largest_box(of_pixels, level)], np.int32)


@dataclass(frozen=True)
class Localisation:
    """GT-known and top-k localisation: the class's own box, and its place in the prediction.

    Of runs that explain the label, the only prediction that can be right: top-k localisation
    asks that the label is among the first k predictions and its box meets one of the truth
    with an IoU of at least 0.5. The box is that of the largest contour, at MaxBoxAcc's best
    threshold, or with `cam_2016` above a fifth of the map's maximum, of rectified maps.
    """

    name: str
    top: int | None  # None: GT-known, whatever was predicted
    cam_2016: bool = False
    interval: float = 0.001
    enlarging: str = "cubic"
    delta: float = 0.5
    needs_truth: bool = True
    higher_is_better: bool | None = True

    @property
    def convention(self) -> str:
        known = "GT-known" if self.top is None else f"top-{self.top}"
        threshold = f"MaxBoxAcc's best threshold, {self.interval:g}"
        if self.cam_2016:
            threshold = f"above {CAM_2016:g} of the maximum"
        kind = f"{self.enlarging}, {threshold}, largest contour"
        return f"{known} localisation ({kind}, IoU {self.delta:g})"

    def measure(self, maps: F4, rows: ImageRows) -> Measured:
        found_in = Repeated(lambda raw: self._boxes_of(raw, rows.view_size))
        iou = np.zeros((*rows.target.shape, THRESHOLDS), np.uint16)
        place = np.zeros(rows.target.shape, np.uint8)

        def measure(i: int, k: int, regions: list[Region]) -> float | Reason:
            boxes = _boxes(regions, rows, i)
            if not len(boxes):
                return Reason.NO_BOX
            if rows.target[i, k] != rows.label[i]:
                return Reason.NO_CLASS
            among = np.flatnonzero(rows.top_class[i] == rows.label[i])
            place[i, k] = among[0] + 1 if len(among) else 0
            iou[i, k] = box_overlaps(found_in(maps[i, k]), boxes)
            right = _among(place[i, k], self.top)
            return float(iou[i, k].max() / IOU_UNIT) if right else 0.0

        value, reason = measure_objects(rows, measure)
        kept = iou[..., :1] if self.cam_2016 else iou
        return Measured(value, reason, {"iou": kept, "place": place})

    def _boxes_of(self, raw: Floats, size: tuple[int, int]) -> I4:
        if not self.cam_2016:
            return largest_contours(score_map(raw, size, self.enlarging))
        scores = positive_score_map(raw, size, self.enlarging)
        return np.array([[0, *largest_box(levels(scores), int(CAM_2016 * 255))]], np.int32)

    def figure(self, merged: Merged) -> Figure:
        n = len(merged.values)
        if not n:
            return _nothing()
        interval = 1.0 if self.cam_2016 else self.interval
        (step,), (hits,) = _best_hits(merged, (self.delta,), interval)
        place = np.concatenate([np.asarray(block).reshape(-1) for block in merged.column("place")])
        known = {name: _among(place, top) for name, top in LOCALISATIONS.items()}
        scores = (hits & known[self.name]).astype(np.float64)
        details: dict[str, Any] = {k: float((hits & v).mean()) for k, v in known.items()}
        details["threshold"] = CAM_2016 if self.cam_2016 else step * self.interval
        details["per_class"] = per_class(merged.classes, scores)
        return Figure(float(scores.mean()), *wilson(scores.sum(), n), n, details)

    def best_boxes(self, raw: Floats, size: tuple[int, int], threshold: float) -> I4:
        """(1,4) as `MaxBoxAcc.best_boxes`."""
        if self.cam_2016:
            return self._boxes_of(raw, size)[:, 1:]
        of_pixels = levels(score_map(raw, size, self.enlarging))
        return np.array([largest_box(of_pixels, _level(threshold, self.interval))], np.int32)


LOCALISATIONS = {"gt_known": None, "top1": 1, "top5": 5}


def integer_thresholds(interval: float) -> I8:
    """(steps,) the T of every threshold: 0, interval, 2 interval, ... below 1."""
    return (np.arange(0, 1, interval) * 255).astype(np.int64)


def all_contours(scores: F8) -> I4:
    """(H,W) -> (M,5) threshold and box of every contour at every threshold."""
    return contour_boxes(scores, levels(scores))


def largest_contours(scores: F8) -> I4:
    """(H,W) -> (255,5) threshold and box of the largest contour at every threshold."""
    of_pixels = levels(scores)
    found, unsure = largest_boxes(scores, of_pixels)
    for threshold in np.flatnonzero(unsure).tolist():
        found[threshold, 1:] = largest_box(of_pixels, threshold)
    return found


def boxes_above(of_pixels: U1, threshold: int) -> I4:
    """(H,W) levels -> (m,4) boxes of all contours above a threshold, as `largest_box`."""
    contours, _ = cv2.findContours(
        (of_pixels > threshold).view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE
    )
    boxes = np.array([cv2.boundingRect(one) for one in contours], np.int32).reshape(-1, 4)
    height, width = of_pixels.shape
    return np.minimum(
        boxes + np.pad(boxes[:, :2], ((0, 0), (2, 0))), (width, height, width - 1, height - 1)
    ).astype(np.int32)


def largest_box(of_pixels: U1, threshold: int) -> tuple[int, int, int, int]:
    """(H,W) levels -> x0, y0, x1, y1 around the contour of largest area above a threshold."""
    above = (of_pixels > threshold).view(np.uint8)
    contours, _ = cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0, 0, 0, 0
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, min(x + width, of_pixels.shape[1] - 1), min(y + height, of_pixels.shape[0] - 1)


def per_class(classes: I4, scores: npt.NDArray[Any]) -> dict[str, dict[str, float]]:
    """The mean of each class that has images, and how many it has."""
    found, place = np.unique(classes, return_inverse=True)
    n, total = np.bincount(place), np.bincount(place, scores)
    each = zip(found.tolist(), (total / n).tolist(), n.tolist(), strict=True)
    return {str(label): {"value": value, "n": count} for label, value, count in each}


def _level(threshold: float, interval: float) -> int:
    """The T of a threshold that is a multiple of the interval."""
    return int(integer_thresholds(interval)[round(threshold / interval)])


def _boxes(regions: list[Region], rows: ImageRows, i: int) -> I8:
    """(m,4) boxes of objects in an image's view."""
    return whole_boxes(boxes_of(regions), rows.crop[i], rows.view_size)


def _best_hits(merged: Merged, deltas: tuple[float, ...], interval: float) -> tuple[I8, Bools]:
    """(deltas,) the best threshold's step for each IoU, and (deltas,M) who reaches it there."""
    asked = [round(delta * IOU_UNIT) for delta in deltas]
    counts = sum(
        np.stack([(block >= unit).sum(axis=0) for unit in asked]) for block in merged.column("iou")
    )
    places = integer_thresholds(interval)
    steps = np.asarray(counts)[:, places].argmax(axis=1)
    chosen = list(zip(asked, places[steps].tolist(), strict=True))
    blocks = [np.stack([b[:, t] >= unit for unit, t in chosen]) for b in merged.column("iou")]
    return steps, np.concatenate(blocks, axis=1)


def _among(place: npt.NDArray[Any], top: int | None) -> Bools:
    """Whether the place in the prediction, from 1 or 0 for none, is one of the first."""
    return (place > 0) & (place <= top) if top is not None else np.ones(place.shape, np.bool_)


def _nothing() -> Figure:
    nan = float("nan")
    return Figure(nan, nan, nan, 0)
