"""The pointing game: TorchRay's point and tolerance, without a picture in memory."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.baselines import measure_baseline
from shardcam.engine.evaluation.metric import Reason
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.pointing_game import is_near, maximum_in_picture
from shardcam.engine.truths.truth import ImageTruth, Region
from tests.evaluation.image_rows import boxes, figure, masked, merged, rows_of

SIZE = np.array([100, 100], np.int32)
BOX = Region(0, (10, 10, 20, 20))  # pixels 10 to 19
MASK = np.zeros((100, 100), np.uint8)
MASK[10:20, 10:20] = 1


@pytest.mark.parametrize("region", [BOX, Region(0, None, lambda: MASK)], ids=["box", "mask"])
@pytest.mark.parametrize(
    ("x", "y", "hit"),
    [
        (19 + 14, 15, True),
        (19 + 15, 15, False),  # strictly less than 15
        (15, 19 + 14, True),
        (19 + 10, 19 + 11, True),  # 14.87
        (19 + 9, 19 + 12, False),  # exactly 15
        (15, 15, True),
        (0, 0, True),
    ],
)
def test_the_tolerance_is_strict(region, x, y, hit):
    assert is_near((x, y), region, SIZE, 15) is hit


def test_a_mask_far_from_the_point_and_an_empty_one_miss():
    assert not is_near((99, 99), Region(0, None, lambda: MASK), SIZE, 15)
    assert not is_near((15, 15), Region(0, None, lambda: MASK * 0), SIZE, 15)


@pytest.mark.parametrize("grid", [(7, 7), (1, 1), (1, 5), (14, 9), (3, 40)])
@pytest.mark.parametrize("size", [(375, 500), (224, 224), (31, 17), (5, 5)])
def test_the_maximum_is_that_of_the_enlarged_map(grid, size):
    rng = np.random.default_rng(grid[1] + size[0])
    for _ in range(20):
        raw = rng.normal(size=grid)
        if rng.random() < 0.5:
            raw = np.round(raw)  # plateaus
        crop = np.array([0, 0, *size], np.float64)
        x, y = maximum_in_picture(raw, crop, np.array(size, np.int32))
        enlarged = cv2.resize(raw, size[::-1], interpolation=cv2.INTER_LINEAR)
        assert enlarged[int(y), int(x)] >= enlarged.max() - 1e-6
        if grid == (7, 7) and size[0] > 200 and len(np.unique(raw)) == raw.size:
            first = np.unravel_index(enlarged.argmax(), size)
            assert abs(first[0] - y) <= 1 and abs(first[1] - x) <= 1


def test_of_equal_maxima_the_first_row_by_row():
    raw = np.zeros((7, 7))
    raw[0, 6] = raw[5, 0] = 1
    crop, size = np.array([0, 0, 70, 70.0]), np.array([70, 70], np.int32)
    assert maximum_in_picture(raw, crop, size) == (65, 0)


def test_a_view_that_is_a_part_of_the_picture():
    raw = np.zeros((7, 7))
    raw[3, 3] = 1
    size = np.array([100, 300], np.int32)
    assert maximum_in_picture(raw, np.array([0, 100, 100, 200.0]), size) == (149, 49)
    assert maximum_in_picture(raw, np.array([-100.0, 0, 200, 300]), size) == (149, 49)
    # Of a maximum in the padding the nearest pixel of the picture is left.
    raw[3, 3], raw[1, 3] = 0, 1
    x, y = maximum_in_picture(raw, np.array([-100.0, 0, 200, 300]), size)
    assert (x, y) == (149, 0)


def test_the_figure_is_the_mean_over_classes():
    raw = np.zeros((5, 1, 7, 7), np.float32)
    raw[:, 0, 0, 0] = 1  # upper left
    here, away = (0, 0, 50, 50), (400, 300, 499, 374)
    truth = [
        boxes(box, label=k) for k, box in [(0, here), (0, here), (0, away), (2, here), (5, away)]
    ]
    rows = rows_of(truth, target=[[0], [0], [0], [2], [5]])
    found = figure(metric_named("pointing"), raw, rows)
    assert found.value == pytest.approx((2 / 3 + 1 + 0) / 3)
    assert found.details["classes"] == 3 and found.details["mean_of_images"] == 0.6
    assert found.low < found.value < found.high and found.n == 5


def test_flat_maps_and_difficult_objects_are_left_out():
    maps = np.ones((4, 1, 7, 7), np.float32)
    maps[1, 0, 2, 2], maps[2:, 0, 3, 3] = np.nan, 2
    hard = Region(0, (0, 0, 9, 9), None, True)
    both = ImageTruth((hard, Region(0, (400, 0, 409, 9))))
    rows = rows_of([boxes((0, 0, 9, 9)), boxes((0, 0, 9, 9)), ImageTruth((hard,)), both])
    found = metric_named("pointing").measure(maps, rows)
    expected = [Reason.NO_MAP, Reason.NO_MAP, Reason.NO_REGION, Reason.MEASURED]
    assert found.reason[:, 0].tolist() == expected


def test_the_centre_is_the_middle_of_the_picture():
    """Independently: distance of (W/2, H/2) to the pixels of a raster."""
    rng = np.random.default_rng(3)
    truth, expected = [], []
    for _ in range(40):
        x0, y0 = rng.integers(0, 450), rng.integers(0, 330)
        box = x0, y0, x0 + rng.integers(1, 60), y0 + rng.integers(1, 60)
        truth.append(boxes(box))
        raster = np.zeros((375, 500), bool)
        raster[box[1] : box[3], box[0] : box[2]] = True
        v, u = np.nonzero(raster)
        expected.append(((u - 250) ** 2 + (v - 187.5) ** 2 < 225).any())
    rows = rows_of(truth, crop=(0, 0, 375, 375))
    metric = metric_named("pointing")
    found = measure_baseline(metric, "centre", (7, 7), rows)
    np.testing.assert_array_equal(found.value[:, 0], expected)
    assert metric.figure(merged(rows, found)).value == np.mean(expected)


def test_masks_count_with_their_pixels():
    raw = np.zeros((1, 1, 7, 7), np.float32)
    raw[0, 0, 3, 3] = 1
    ring = np.zeros((375, 500), np.uint8)
    cv2.circle(ring, (250, 187), 60, 1, 2)
    found = metric_named("pointing").measure(raw, rows_of([masked(ring)]))
    assert found.value[0, 0] == 0  # in the middle of it, but on none of it
