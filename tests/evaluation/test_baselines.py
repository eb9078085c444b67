"""Baselines: each equals an independent computation, on a run's own geometry."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.baselines import BASELINES, _mixed, baseline_maps, measure_baseline
from shardcam.engine.evaluation.metrics_known import METRICS, metric_named
from tests.evaluation.image_rows import boxes, golden_boxes, merged, rows_of


def test_the_centre_on_annotated_boxes_equals_an_independent_computation():
    """MaxBoxAcc of a Gaussian: by OpenCV's contours, one threshold and one box at a time."""
    rng = np.random.default_rng(7)
    corners = rng.integers(0, (300, 200), (25, 2))
    sides = rng.integers(80, (199, 174), (25, 2))
    truth = [boxes((*c, *(c + s))) for c, s in zip(corners, sides)]
    rows = rows_of(truth)
    metric = metric_named("max_box_acc:0.01")
    found = metric.figure(merged(rows, measure_baseline(metric, "centre", (7, 7), rows)))

    at = (np.arange(7) - 3) / 3.5
    raw = np.exp(-(at[:, None] ** 2 + at**2) / 2).astype(np.float32).astype(np.float64)
    scores = cv2.resize(raw, (224, 224), interpolation=cv2.INTER_CUBIC)
    scores = (scores - scores.min()) / np.ptp(scores)
    of_pixels, accuracy = (scores * 255).astype(np.uint8), []
    for t in np.arange(0, 1, 0.01):
        y, x = np.nonzero(of_pixels > int(t * 255))  # one hill: its box is that of its pixels
        one = np.array([x.min(), y.min(), min(x.max() + 1, 223), min(y.max() + 1, 223)])
        hits = []
        for corner, side in zip(corners, sides):
            scaled = (np.array([*corner, *(corner + side)]) * 224 / [500, 375, 500, 375]).astype(
                int
            )
            low, high = np.maximum(one[:2], scaled[:2]), np.minimum(one[2:], scaled[2:])
            shared = np.clip(high - low + 1, 0, None).prod()
            areas = [(b[2:] - b[:2] + 1).prod() for b in (one, scaled)]
            hits.append(shared / (sum(areas) - shared) >= 0.5)
        accuracy.append(np.mean(hits))
    assert found.value == max(accuracy)
    assert 0 < found.value < 1


@pytest.mark.parametrize("grid", [(7, 7), (1, 1), (3, 5)])
@pytest.mark.parametrize("baseline", BASELINES)
def test_every_baseline_goes_through_every_metric(baseline, grid):
    rows = rows_of(golden_boxes()[:3])
    pixels = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3)).astype(np.uint8)
    for name in METRICS:
        if METRICS[name].kind == "A":
            metric = metric_named(name)
            found = measure_baseline(metric, baseline, grid, rows, pixels=pixels)
            metric.figure(merged(rows, found))
            assert (
                found.value.shape == (3, 1)
                and ((found.reason == 0) == np.isfinite(found.value)).all()
            )


def test_random_maps_depend_on_seed_and_sample_alone():
    rows = rows_of([None] * 4, target=np.zeros((4, 2)))
    maps = baseline_maps("random", (7, 7), rows, seed=3)
    later = rows_of([None] * 2, target=np.zeros((2, 2)), sample=np.array([2, 3]))
    np.testing.assert_array_equal(baseline_maps("random", (7, 7), later, seed=3), maps[2:])
    assert not np.array_equal(baseline_maps("random", (7, 7), rows, seed=4), maps)
    assert len(np.unique(maps)) > 380 and maps.min() >= 0 and maps.max() < 1
    assert abs(maps.mean() - 0.5) < 0.05


def test_random_numbers_are_splitmix64s():
    found = _mixed(np.arange(3, dtype=np.uint64)).tolist()
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_edges_are_where_the_picture_has_them():
    picture = np.zeros((224, 224, 3), np.uint8)
    picture[:, 112:] = 255
    maps = baseline_maps("edges", (7, 7), rows_of([None]), 0, picture[None])
    assert maps.shape == (1, 1, 7, 7) and (maps[0, 0, :, 3] > 0).all()
    assert not maps[0, 0, :, [0, 1, 2, 4, 5, 6]].any()
    with pytest.raises(ValueError, match=r"^pixels: "):
        baseline_maps("edges", (7, 7), rows_of([None]), 0)
