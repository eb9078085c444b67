"""Boxes: wsolevaluation's figures and vectors, exactly; localisation; what is left out."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.box_metrics import (
    Localisation,
    MaxBoxAcc,
    all_contours,
    integer_thresholds,
    largest_box,
)
from shardcam.engine.evaluation.metric import Reason
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.objects_in_view import whole_boxes
from shardcam.engine.evaluation.score_maps import levels, positive_score_map, score_map
from shardcam.engine.run.intervals import wilson
from shardcam.engine.truths.truth import ImageTruth, Region
from shardcam.kernels import IOU_UNIT, box_overlaps
from tests.evaluation.image_rows import boxes, figure, golden_boxes, golden_maps, rows_of

DELTAS = (0.3, 0.5, 0.7)


@pytest.mark.parametrize("kind", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("enlarging", "interval", "contours", "accuracy", "best", "sums"),
    [
        ("cubic", 0.01, "largest", (1, 0.625, 0.25), (47, 57, 62), (474, 136, 46)),
        ("cubic", 0.01, "all", (1, 0.625, 0.25), (47, 57, 62), (483, 136, 46)),
        ("cubic", 0.001, "largest", (1, 0.625, 0.25), (463, 565, 612), (4723, 1361, 460)),
        ("cubic", 0.001, "all", (1, 0.625, 0.25), (463, 565, 612), (4821, 1361, 460)),
        ("linear", 0.01, "largest", (1, 0.625, 0.375), (45, 60, 63), (462, 132, 45)),
        ("linear", 0.001, "all", (1, 0.625, 0.375), (448, 600, 624), (4686, 1319, 455)),
    ],
)
def test_golden_set_of_wsolevaluation(kind, enlarging, interval, contours, accuracy, best, sums):
    metric = MaxBoxAcc("m", DELTAS, contours == "all", interval, enlarging)
    maps, rows = golden_maps().astype(kind), rows_of(golden_boxes())
    found = figure(metric, maps, rows)
    assert tuple(found.details["accuracy"].values()) == accuracy
    assert found.value == np.mean(accuracy)
    steps = np.array(list(found.details["threshold"].values())) / interval
    assert tuple(np.rint(steps)) == best
    iou = metric.measure(maps, rows).columns["iou"][:, 0][:, integer_thresholds(interval)]
    assert tuple((iou >= round(d * IOU_UNIT)).sum() for d in DELTAS) == sums


def test_maps_stored_in_half_precision_move_few_boxes():
    """A run's maps, halved over their scale: 1.6 % of the boxes, none by an IoU of 0.01."""
    maps, rows = golden_maps(), rows_of(golden_boxes())
    scale = np.abs(maps).max(axis=(2, 3), keepdims=True)
    stored = (maps / scale).astype(np.float16).astype(np.float32) * scale.astype(np.float32)
    metric = metric_named("max_box_acc_v2")
    before, after = (
        metric.measure(each, rows).columns["iou"].astype(int) for each in (maps, stored)
    )
    assert (before != after).mean() < 0.02 and np.abs(before - after).max() < 0.01 * IOU_UNIT
    assert figure(metric, stored, rows).value == figure(metric, maps, rows).value


def test_boxes_of_the_first_golden_map():
    scores = score_map(golden_maps()[0, 0], (224, 224), "cubic")
    found = [largest_box(levels(scores), int(t * 255)) for t in (0, 0.15, 0.2, 0.5, 0.8)]
    assert found == [
        (0, 0, 223, 223),
        (0, 0, 116, 111),
        (0, 0, 109, 107),
        (0, 0, 86, 86),
        (30, 30, 69, 69),
    ]
    scaled = whole_boxes(
        np.array([[20, 15, 140, 115], [300, 40, 460, 200]]),
        np.array([0, 0, 375, 500.0]),
        (224, 224),
    )
    assert scaled.tolist() == [[8, 8, 62, 68], [134, 23, 206, 119]]


UNIMODAL = [[0, 0, 0, 0, 0], [0, 4, 4, 4, 6], [0, 4, 10, 8, 6], [0, 4, 4, 4, 6]]
MULTIMODAL = [[4, 0, 2, 2, 2], [4, 4, 0, 4, 0], [0, 0, 0, 4, 0], [10, 6, 8, 2, 2]]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (UNIMODAL, ["1143", "1143", "2143", "2243", "2233"]),
        (MULTIMODAL, ["0043", "0022", "0333", "2333", "0313"]),
        (np.zeros((4, 5)), ["0000"] * 5),
    ],
)
def test_boxes_of_wsolevaluations_own_tests(rows, expected):
    of_pixels = levels(np.array(rows) / 10)
    high = int(of_pixels.max())
    found = [largest_box(of_pixels, int(t * high)) for t in (0, 0.2, 0.4, 0.6, 0.8)]
    assert ["".join(map(str, box)) for box in found] == expected


def test_iou_and_resizing_of_wsolevaluations_own_tests():
    def iou(one, other):
        return box_overlaps(np.array([[0, *one]], np.int32), np.array([other]))[0]

    assert iou((1, 2, 5, 6), (3, 1, 4, 5)) == 8 * IOU_UNIT // 27
    assert iou((0, 0, 0, 0), (0, 0, 0, 0)) == IOU_UNIT
    scaled = whole_boxes(np.array([[1.0, 2, 4, 3]]), np.array([0, 0, 20.0, 10]), (10, 35))
    assert scaled.tolist() == [[3, 1, 14, 1]]


def test_a_hole_is_a_contour_too():
    y, x = np.mgrid[:40, :40]
    ring = ((x - 20) ** 2 + (y - 20) ** 2 > 36) & ((x - 20) ** 2 + (y - 20) ** 2 < 225)
    found = all_contours(ring.astype(np.float64))
    assert found[found[:, 0] == 127, 1:].tolist() == [[6, 6, 35, 35], [13, 13, 28, 28]]
    assert largest_box(levels(ring.astype(np.float64)), 127) == (6, 6, 35, 35)


def test_boxes_of_all_contours_of_the_first_golden_map():
    found = all_contours(score_map(golden_maps()[0, 0], (224, 224), "cubic"))[:, 0]
    assert [(found == int(t * 255)).sum() for t in (0, 0.15, 0.2, 0.5, 0.8)] == [3, 2, 2, 2, 1]


def test_a_line_has_no_area():
    scores = np.zeros((40, 40))
    scores[2, 2:38] = scores[20:24, 20:24] = 1
    assert largest_box(levels(scores), 100) == (20, 20, 24, 24)


def test_stored_ious_compare_as_quotients_do():
    """Every quotient of areas of a view, against every IoU of two decimals."""
    whole = np.arange(1, 3000)
    for delta in (0.05, 0.3, 0.35, 0.5, 0.55, 0.7, 0.95, 1.0):
        near = np.clip((whole[:, None] * delta).astype(int) + np.arange(-1, 3), 0, None)
        stored = near * IOU_UNIT // whole[:, None]
        np.testing.assert_array_equal(
            stored >= round(delta * IOU_UNIT), near / whole[:, None] >= delta
        )


def test_flat_maps_are_zeros_and_count():
    maps = np.ones((3, 1, 7, 7), np.float32)
    maps[1, 0, 3, 3] = np.nan
    maps[2] = 0
    found = metric_named("max_box_acc").measure(maps, rows_of([boxes((0, 0, 9, 9))] * 3))
    assert (found.reason == Reason.MEASURED).all()
    np.testing.assert_allclose(found.value, 1 / 30, atol=1e-4)  # one pixel of 5x6


def test_what_is_left_out_says_why():
    only_mask = ImageTruth((Region(0, None, lambda: np.ones((375, 500), np.uint8)),))
    difficult = ImageTruth((Region(0, (0, 0, 9, 9), None, True),))
    truth = [boxes((0, 0, 99, 99)), None, boxes((0, 0, 9, 9), label=7), only_mask, difficult]
    rows = rows_of(truth, target=[[0, -1], [0, 0], [0, 7], [0, 0], [0, 0]])
    found = metric_named("max_box_acc_v2").measure(np.ones((5, 2, 7, 7), np.float32), rows)
    measured, no_class, no_truth = Reason.MEASURED, Reason.NO_CLASS, Reason.NO_TRUTH
    none = Reason.NO_REGION
    assert found.reason.tolist() == [
        [measured, no_class],
        [no_truth, no_truth],
        [none, measured],
        [Reason.NO_BOX, Reason.NO_BOX],
        [none, none],
    ]
    assert (np.isfinite(found.value) == (found.reason == measured)).all()


@pytest.mark.parametrize("crop", [(0, 0, 375, 500), (0, 62, 375, 437), (-62.5, 0, 437.5, 500)])
def test_the_geometry_of_a_run_does_not_matter(crop):
    """A map that shows the truth in the view, whatever part of the picture that is."""
    truth = (150.0, 100.0, 300.0, 250.0)
    y0, x0, y1, x1 = crop
    y = y0 + (np.arange(224) + 0.5) * (y1 - y0) / 224
    x = x0 + (np.arange(224) + 0.5) * (x1 - x0) / 224
    inside = ((y >= 100) & (y < 250))[:, None] & (x >= 150) & (x < 300)
    maps = inside[None, None].astype(np.float32)
    found = metric_named("max_box_acc").measure(maps, rows_of([boxes(truth)], crop=crop))
    assert found.value[0, 0] > 0.95


def test_a_map_is_not_confused_with_the_one_before():
    maps = np.concatenate([golden_maps()[:2], golden_maps()[:1], golden_maps()[:1]])
    rows = rows_of([golden_boxes()[0]] * 4)
    for name in ("max_box_acc_v2", "max_box_acc", "pxap", "gt_known:cam2016"):
        first, other, again, same = metric_named(name).measure(maps, rows).value[:, 0]
        assert first == again == same != other


def test_an_object_outside_of_the_view_is_missed():
    rows = rows_of([boxes((0, 0, 40, 300))], crop=(0, 62, 375, 437))
    found = metric_named("max_box_acc").measure(golden_maps()[:1], rows)
    assert found.value[0, 0] == 0


def test_localisation_asks_for_the_class_and_its_box():
    """Boxes hit where MaxBoxAcc says so; of eight labels 0 is first, 3 fourth and 9 nowhere."""
    labels = np.array([0, 3, 9, 0, 3, 9, 0, 3], np.int32)
    truth = [
        boxes(*(region.box for region in each.regions), label=int(label))
        for each, label in zip(golden_boxes(), labels, strict=True)
    ]
    rows = rows_of(truth, target=labels[:, None])
    boxes_hit = figure(metric_named("max_box_acc"), golden_maps(), rows)
    found = {
        name: figure(metric_named(name), golden_maps(), rows)
        for name in ("gt_known", "top1", "top5")
    }
    assert found["gt_known"].value == boxes_hit.value == 0.625
    step = round(found["top1"].details["threshold"] / 0.001)
    iou = metric_named("max_box_acc").measure(golden_maps(), rows).columns["iou"][:, 0]
    hit = iou[:, integer_thresholds(0.001)[step]] >= IOU_UNIT // 2
    assert found["top1"].value == (hit & (labels == 0)).mean()
    assert found["top5"].value == (hit & (labels != 9)).mean()
    assert found["top1"].details["gt_known"] == 0.625
    assert (found["top5"].low, found["top5"].high) == wilson(found["top5"].value * 8, 8)


def test_localisation_is_of_labels():
    rows = rows_of([boxes((0, 0, 99, 99)), boxes((0, 0, 99, 99))], target=[[0, 1], [0, 1]])
    rows.label[:] = 0, -1
    found = metric_named("gt_known").measure(np.ones((2, 2, 7, 7), np.float32), rows)
    assert found.reason.tolist() == [[0, Reason.NO_REGION], [Reason.NO_CLASS, Reason.NO_REGION]]


def test_the_rule_of_2016():
    """Above a fifth of the maximum, of which nothing is subtracted."""
    maps, rows = golden_maps(), rows_of(golden_boxes())
    metric = metric_named("gt_known:cam2016")
    expected = []
    for raw, truth in zip(maps[:, 0], golden_boxes(), strict=True):
        scores = np.maximum(cv2.resize(raw, (224, 224), interpolation=cv2.INTER_CUBIC), 0)
        x0, y0, x1, y1 = largest_box((scores / scores.max() * 255).astype(np.uint8), 51)
        best = 0
        for region in truth.regions:
            a0, b0, a1, b1 = (int(v * 224 / s) for v, s in zip(region.box, (500, 375, 500, 375)))
            across, down = min(x1, a1) - max(x0, a0) + 1, min(y1, b1) - max(y0, b0) + 1
            shared = max(across, 0) * max(down, 0)
            areas = (x1 - x0 + 1) * (y1 - y0 + 1) + (a1 - a0 + 1) * (b1 - b0 + 1)
            best = max(best, shared / (areas - shared))
        expected.append(best)
    found = metric.measure(maps, rows)
    np.testing.assert_allclose(found.value[:, 0], expected, atol=1e-4)
    assert figure(metric, maps, rows).value == np.mean(np.array(expected) >= 0.5)
    assert positive_score_map(-np.ones((2, 2)), (4, 4), "cubic").max() == 0


def test_nothing_measured_has_no_figure():
    for name in ("max_box_acc", "gt_known"):
        found = figure(metric_named(name), np.ones((1, 1, 7, 7), np.float32), rows_of([None]))
        assert found.n == 0 and np.isnan(found.value)


def test_the_interval_of_the_mean_of_three_shares_stays_within_them():
    metric = metric_named("max_box_acc_v2")
    maps, rows = golden_maps(), rows_of(golden_boxes())
    found = figure(metric, maps, rows)
    assert 0 <= found.low < found.value < found.high <= 1
    few = figure(metric, maps[:1], rows_of(golden_boxes()[:1]))
    assert few.n == 1 and np.isnan(few.low) and np.isnan(few.high)
    near = [boxes((0, 0, 499, 374)), boxes((0, 0, 499, 374)), boxes((0, 0, 250, 374))]
    many = figure(metric, golden_maps()[:3], rows_of(near))
    assert many.value > 0.6 and many.high == 1


def test_classes_have_their_own_figures():
    truth = [boxes((0, 0, 499, 374), label=i % 2) for i in range(4)]
    found = figure(
        Localisation("gt_known", None), golden_maps()[:4], rows_of(truth, target=[[0], [1]] * 2)
    )
    assert {label: each["n"] for label, each in found.details["per_class"].items()} == {
        "0": 2,
        "1": 2,
    }
