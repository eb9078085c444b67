"""Metrics of stored maps: core-minutes for a whole validation set, and memory.

2,000 maps of 7x7 for 50,000 of ImageNet's, each against two boxes. The contender is OpenCV's
contours at each of the 255 thresholds that differ, as wsolevaluation finds boxes.
"""

from __future__ import annotations

import resource
import time
from typing import Any

import cv2
import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from shardcam import kernels
from shardcam.engine.evaluation.metric import ImageRows
from shardcam.engine.evaluation.metrics_known import METRICS, metric_named
from shardcam.engine.evaluation.score_maps import levels, score_map
from shardcam.engine.truths.truth import ImageTruth, Region

MAPS, SHARD, VALIDATION = 2000, 500, 50_000
BOXES = ((60.0, 40.0, 330.0, 310.0), (300.0, 200.0, 480.0, 370.0))
TRUTH = ImageTruth(tuple(Region(0, box) for box in BOXES))
NAMES = [name for name in METRICS if METRICS[name].kind == "A"]


def rows(count: int) -> ImageRows:
    zeros = np.zeros(count, np.int32)
    return ImageRows(
        np.arange(count),
        tuple(map(str, range(count))),
        zeros,
        zeros[:, None],
        np.full((count, 1), 0.5, np.float32),
        np.tile(np.arange(5, dtype=np.int32), (count, 1)),
        np.tile([0.0, 0.0, 375.0, 500.0], (count, 1)),
        np.tile(np.array([375, 500], np.int32), (count, 1)),
        (224, 224),
        (TRUTH,) * count,
    )


def maps(count: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, 1, 7, 7)).astype(np.float32)


def core_minutes(seconds: float, count: int) -> float:
    return round(seconds / count * VALIDATION / 60, 2)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.mark.parametrize("name", NAMES)
def test_core_minutes_of_a_validation_set(name: str, benchmark: BenchmarkFixture) -> None:
    """By CPU time, which other programs on the machine change least."""
    metric, some, few = metric_named(name), maps(MAPS), rows(SHARD)
    metric.measure(some[:2], rows(2))

    def measure() -> tuple[float, list[int]]:
        start, peaks = time.process_time(), []
        for at in range(0, MAPS, SHARD):
            metric.measure(some[at : at + SHARD], few)
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return time.process_time() - start, peaks

    seconds, peaks = benchmark.pedantic(measure)
    benchmark.extra_info["core_minutes"] = core_minutes(seconds, MAPS)
    benchmark.extra_info["grown_kb"] = peaks[-1] - peaks[0]
    print(f"\n{name}: {core_minutes(seconds, MAPS)} core-minutes for {VALIDATION:,} maps")
    assert peaks[-1] - peaks[0] < 8 << 10


@pytest.mark.parametrize("contender", ["kernel", "contours"])
def test_max_box_acc_v2_against_contours(contender: str, benchmark: BenchmarkFixture) -> None:
    benchmark.group = "max_box_acc_v2, 100 maps"
    metric, some, few = metric_named("max_box_acc_v2"), maps(100), rows(100)
    scaled = (np.array(BOXES) * 224 / [500, 375, 500, 375]).astype(np.int64)

    def contours() -> Any:
        return np.array([overlaps(levels(score_map(raw[0], (224, 224), "cubic"))) for raw in some])

    def overlaps(of_pixels: Any) -> Any:
        found = []
        for threshold in range(255):
            above = (of_pixels > threshold).view(np.uint8)
            for one in cv2.findContours(above, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[0]:
                x, y, width, height = cv2.boundingRect(one)
                found.append((threshold, x, y, min(x + width, 223), min(y + height, 223)))
        return kernels.box_overlaps(np.array(found, np.int32), scaled)

    def kernel() -> Any:
        return metric.measure(some, few).columns["iou"][:, 0]

    np.testing.assert_array_equal(kernel()[:5], contours()[:5])
    found: Any = kernel if contender == "kernel" else contours
    benchmark.pedantic(found, rounds=3)
