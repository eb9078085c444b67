"""PxAP: wsolevaluation's figures, and what does not count."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.pixel_precision import average_precision
from shardcam.engine.truths.truth import ImageTruth, Region
from tests.evaluation.image_rows import figure, golden_maps, masked, rows_of

Y, X = np.mgrid[:224, :224]
SQUARE = {"size": (224, 224)}


def golden_masks():
    ignore = ((Y < 40) & (X < 60)).astype(np.uint8)
    for i in range(8):
        x, y = 48 + 32 * (i % 5), 48 + 32 * ((2 * i) % 5)
        disc = (X - x) ** 2 + (Y - y) ** 2 < (30 + 4 * i) ** 2
        yield masked(disc.astype(np.uint8), ignore=ignore)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "expected"), [("pxap:0.01", 92.97303791546642), ("pxap", 93.15962291814937)]
)
def test_golden_set_of_wsolevaluation(kind, name, expected):
    rows = rows_of(list(golden_masks()), **SQUARE)
    found = figure(metric_named(name), golden_maps().astype(kind), rows)
    tolerance = 1e-12 if kind is np.float64 else 1e-7
    assert 100 * found.value == pytest.approx(expected, rel=tolerance)
    assert np.isnan(found.low) and found.n == 8


def test_half_precision_moves_the_hundredths_of_a_percent():
    rows = rows_of(list(golden_masks()), **SQUARE)
    maps = golden_maps()
    exact, stored = (figure(metric_named("pxap"), each, rows) for each in (maps, maps.astype("f2")))
    assert abs(exact.value - stored.value) < 1e-4


@pytest.mark.parametrize("objects, others", [(43031, 7145), (833, 49342), (347, 13909)])
def test_a_constant_map_gives_the_share_of_the_objects(objects, others):
    kinds = np.full(224 * 224, 2, np.uint8)
    kinds[:objects], kinds[objects : objects + others] = 1, 0
    kinds = kinds.reshape(224, 224)
    truth = masked((kinds == 1) * np.uint8(1), ignore=(kinds == 2) * np.uint8(1))
    found = figure(
        metric_named("pxap"), np.ones((1, 1, 7, 7), np.float32), rows_of([truth], **SQUARE)
    )
    assert found.value == objects / (objects + others)


def test_the_state_adds_up():
    maps, truth = golden_maps(), list(golden_masks())
    metric = metric_named("pxap:linear:0.01")
    parts = [metric.measure(maps[s], rows_of(truth[s], **SQUARE)) for s in (slice(3), slice(3, 8))]
    whole = metric.measure(maps, rows_of(truth, **SQUARE))
    total = sum(part.state["pixels"] for part in parts)
    np.testing.assert_array_equal(total, whole.state["pixels"])


def test_equals_a_plain_computation_on_squashed_pictures():
    """Masks of the picture's size by OpenCV, scores by np.histogram."""
    rng = np.random.default_rng(0)
    mask = np.zeros((97, 130), np.uint8)
    mask[20:60, 31:90] = 255
    maps = rng.normal(size=(1, 1, 5, 6)).astype(np.float32)
    found = metric_named("pxap:0.01").measure(
        maps, rows_of([masked(mask)], size=(97, 130), view=(64, 48))
    )
    scores = cv2.resize(maps[0, 0].astype(np.float64), (48, 64), interpolation=cv2.INTER_CUBIC)
    scores = (scores - scores.min()) / np.ptp(scores)
    seen = cv2.resize(mask, (48, 64), interpolation=cv2.INTER_NEAREST) > 0
    edges = np.append(np.arange(0, 1, 0.01), [1, 2, 3])
    for kind, row in zip((~seen, seen), found.state["pixels"]):
        np.testing.assert_array_equal(row, np.histogram(scores[kind], edges)[0])


def test_padding_does_not_count():
    mask = np.ones((100, 200), np.uint8)
    rows = rows_of([masked(mask)], size=(100, 200), crop=(-50, 0, 150, 200))
    found = metric_named("pxap").measure(golden_maps()[:1], rows)
    assert found.state["pixels"].sum() == found.state["pixels"][1].sum() == 112 * 224


def test_a_box_without_a_mask_is_filled():
    mask = np.zeros((224, 224), np.uint8)
    mask[10:50, 20:90] = 1
    metric = metric_named("pxap")
    rows = [
        rows_of([t], **SQUARE) for t in (masked(mask), ImageTruth((Region(0, (20, 10, 90, 50)),)))
    ]
    one, other = (metric.measure(golden_maps()[:1], r) for r in rows)
    np.testing.assert_array_equal(one.state["pixels"], other.state["pixels"])


def test_an_object_outside_of_the_view_has_no_precision():
    rows = rows_of([ImageTruth((Region(0, (0, 0, 40, 300)),))], crop=(0, 62, 375, 437))
    found = metric_named("pxap").measure(golden_maps()[:1], rows)
    assert found.value[0, 0] == 0


def test_average_precision_is_of_rectangles():
    assert average_precision(np.array([[2, 1, 0], [0, 1, 1]])) == 0.5 * 1 + 0.5 * (2 / 3)


def test_nothing_measured_has_no_figure():
    found = figure(metric_named("pxap"), np.ones((1, 1, 7, 7), np.float32), rows_of([None]))
    assert found.n == 0 and np.isnan(found.value)
