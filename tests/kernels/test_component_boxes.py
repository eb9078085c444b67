"""Boxes at all thresholds at once, against OpenCV's contours at each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.kernels import component_boxes
from shardcam.kernels._jit import Kernel
from shardcam.kernels.box_overlaps import _box_overlaps
from tests.kernels import reference
from tests.kernels.table import only_compiled

Array = NDArray[Any]


def enlarged(raw: Array, size: tuple[int, int]) -> Array:
    return np.asarray(cv2.resize(raw, size[::-1], interpolation=cv2.INTER_CUBIC), np.float64)


MAPS: dict[str, Callable[[np.random.Generator, tuple[int, int]], Array]] = {
    "hills": lambda rng, size: enlarged(rng.normal(size=(7, 7)), size),
    "plateaus": lambda rng, size: enlarged(np.maximum(rng.normal(size=(5, 9)), 0), size),
    "noise": lambda rng, size: rng.normal(size=size),
    "few levels": lambda rng, size: rng.integers(0, 4, size).astype(np.float64),
    "two levels": lambda rng, size: (rng.random(size) < 0.6).astype(np.float64),
    "constant": lambda rng, size: np.ones(size),
    "one pixel": lambda rng, size: (np.arange(size[0] * size[1]) == 3).reshape(size) * 1.0,
}
SIZES = [(1, 1), (1, 17), (17, 1), (2, 2), (13, 29), (31, 18)]


def cases() -> Iterator[tuple[Array, Array, np.random.Generator]]:
    rng = np.random.default_rng(5)
    for size in SIZES:
        for make in MAPS.values():
            scores = make(rng, size)
            scores = scores - scores.min()
            scores = scores / scores.max() if scores.max() > 0 else scores
            yield scores, (scores * 255).astype(np.uint8), rng


def test_equals_opencv_at_every_threshold() -> None:
    for scores, levels, rng in cases():
        boxes = rng.integers(-5, 40, (rng.integers(1, 4), 4))
        boxes[:, 2:] += boxes[:, :2].clip(min=0)
        contours, found = reference.contour_boxes(levels), kernels.contour_boxes(scores, levels)
        np.testing.assert_array_equal(found[np.lexsort(found.T)], contours[np.lexsort(contours.T)])
        overlaps = kernels.box_overlaps(found, boxes)
        np.testing.assert_array_equal(overlaps, reference.box_overlaps(contours, boxes))


def test_the_largest_contour_is_opencvs_or_left_open() -> None:
    for scores, levels, _ in cases():
        found, unsure = kernels.largest_boxes(scores, levels)
        expected = reference.largest_boxes(levels)
        np.testing.assert_array_equal(found[unsure == 0], expected[unsure == 0])


def test_the_largest_contour_is_rarely_left_open() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        scores = enlarged(rng.normal(size=(7, 7)), (112, 112))
        scores = (scores - scores.min()) / np.ptp(scores)
        assert kernels.largest_boxes(scores, (scores * 255).astype(np.uint8))[1].mean() < 0.1


def test_the_largest_is_by_area_and_not_by_pixels() -> None:
    scores = np.zeros((40, 40))
    scores[2, 2:38] = scores[20:24, 20:24] = 1
    found, unsure = kernels.largest_boxes(scores, (scores * 255).astype(np.uint8))
    assert not unsure.any() and (found[:, 1:] == (20, 20, 24, 24)).all()


def test_no_box_of_the_truth_gives_zeros() -> None:
    found = kernels.contour_boxes(np.ones((4, 5)), np.full((4, 5), 255, np.uint8))
    assert not kernels.box_overlaps(found, np.empty((0, 4), np.int64)).any()
    assert not kernels.box_overlaps(found[:0], np.zeros((1, 4), np.int64)).any()


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda s, v: (s.astype(np.float32), v), "scores"),
        (lambda s, v: (s[:, ::2], v), "scores"),
        (lambda s, v: (s, v[:2]), "levels"),
    ],
)
def test_refuses_and_names_the_map(spoil: Callable[..., tuple[Array, ...]], name: str) -> None:
    arguments = spoil(np.ones((4, 6)), np.ones((4, 6), np.uint8))
    for kernel in (kernels.contour_boxes, kernels.largest_boxes):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            kernel(*arguments)


def test_refuses_and_names_the_boxes() -> None:
    found, boxes = np.zeros((3, 5), np.int32), np.zeros((2, 4), np.int64)
    for arguments, name in (
        ((found.astype(np.int64), boxes), "found"),
        ((found[:, :4].copy(), boxes), "found"),
        ((found, boxes.astype(np.int32)), "boxes"),
        ((found, boxes[:, :3]), "boxes"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^{name}: "):
            kernels.box_overlaps(*arguments)


@only_compiled
def test_each_kernel_has_one_signature() -> None:
    scores, levels, boxes = np.eye(6), np.eye(6).astype(np.uint8), np.zeros((1, 4), np.int64)
    found = kernels.contour_boxes(scores, levels)
    for _ in range(2):
        kernels.contour_boxes(scores, levels)
        kernels.largest_boxes(scores, levels)
        kernels.box_overlaps(found, boxes)
        for array in (scores, levels, found, boxes):
            array.flags.writeable = False
    compiled: list[Any] = [
        value.compiled
        for value in (*vars(component_boxes).values(), _box_overlaps)
        if isinstance(value, Kernel)
    ]
    assert [len(kernel.signatures) for kernel in compiled] == [1, 1, 1]


def test_takes_read_only_arrays_and_leaves_them_alone() -> None:
    scores, levels = np.eye(6), np.eye(6).astype(np.uint8)
    copies = [array.copy() for array in (scores, levels)]
    for array in (scores, levels):
        array.flags.writeable = False
    kernels.contour_boxes(scores, levels)
    kernels.largest_boxes(scores, levels)
    for array, copy in zip((scores, levels), copies, strict=True):
        np.testing.assert_array_equal(array, copy)
