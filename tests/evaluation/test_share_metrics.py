"""Energy, mass and rank, against Quantus' values and plain NumPy."""

import numpy as np
import pytest

from shardcam.engine.evaluation.metric import Reason
from shardcam.engine.evaluation.metrics_known import metric_named
from shardcam.engine.evaluation.share_metrics import rank
from shardcam.engine.truths.truth import ImageTruth, Region, UnreadableMask
from shardcam.kernels import upsample
from tests.evaluation.image_rows import boxes, figure, golden_boxes, golden_maps, masked, rows_of

GOLDEN = (np.arange(16, dtype=np.float32) - 3).reshape(1, 1, 4, 4)
CORNER = {"size": (4, 4), "view": (4, 4)}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mass", 0.5277777777777778), ("rank", 0.5), ("energy", (7 + 8 + 11 + 12) / 78)],
)
def test_golden_set(name, expected):
    """Quantus 0.6.0's mass and rank of a map whose lower right 2x2 are the object."""
    found = metric_named(name).measure(GOLDEN, rows_of([boxes((2, 2, 4, 4))], **CORNER))
    assert found.value[0, 0] == pytest.approx(expected, rel=1e-7)


def test_rows_are_not_columns():
    maps = np.zeros((1, 1, 4, 4), np.float32)
    maps[0, 0, 0, 3] = 1  # upper right
    for box, expected in (((3, 0, 4, 1), 1), ((0, 3, 1, 4), 0)):
        found = metric_named("energy").measure(maps, rows_of([boxes(box)], **CORNER))
        assert found.value[0, 0] == expected


def test_energy_of_squashed_pictures_equals_a_plain_computation():
    maps, truth = golden_maps().astype(np.float32), golden_boxes()
    found = metric_named("energy").measure(maps, rows_of(truth))
    seen = upsample(np.maximum(maps[:, 0], 0), (224, 224)).astype(np.float64)
    x, y = (np.arange(224) + 0.5) * 500 / 224, (np.arange(224) + 0.5) * 375 / 224
    for i, each in enumerate(truth):
        on = np.zeros((224, 224), bool)
        for region in each.regions:
            x0, y0, x1, y1 = region.box
            on |= ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)
        assert found.value[i, 0] == pytest.approx(seen[i][on].sum() / seen[i].sum(), rel=1e-6)
    mean = figure(metric_named("energy"), maps, rows_of(truth))
    assert mean.value == pytest.approx(found.value.mean()) and mean.low < mean.value < mean.high


def test_a_uniform_map_has_the_share_of_the_object():
    mask = np.zeros((224, 224), np.uint8)
    mask[:, :56] = 1
    for name in ("energy", "mass", "rank"):
        rows = rows_of([masked(mask)], size=(224, 224))
        assert metric_named(name).measure(np.ones((1, 1, 7, 7), np.float32), rows).value == 0.25


def test_equal_values_at_the_limit_count_in_part():
    seen = np.array([[3, 2, 2, 2, 0]], np.float32)
    assert rank(seen, np.array([[0, 1, 0, 1, 0]], bool)) == pytest.approx((2 / 3) / 2)


@pytest.mark.parametrize("name", ["energy", "mass", "rank"])
def test_empty_and_non_finite_maps_are_left_out(name):
    maps = np.zeros((3, 1, 7, 7), np.float32)
    maps[0, 0, 0, 0], maps[1, 0, 0, 0] = np.nan, np.inf
    found = metric_named(name).measure(maps, rows_of([boxes((0, 0, 50, 50))] * 3))
    kept = 1 if name == "rank" else 0  # the order of equal pixels needs no sum
    assert (found.reason == Reason.NO_MAP).sum() == 3 - kept
    assert np.isfinite(found.value).sum() == kept


def test_an_object_thinner_than_a_pixel_has_one():
    raw = np.ones((1, 1, 4, 4), np.float32)
    rows = rows_of([boxes((100, 100, 101, 101))], size=(400, 400), view=(4, 4))
    assert metric_named("energy").measure(raw, rows).value == 1 / 16


@pytest.mark.parametrize("name", ["energy", "pointing", "pxap"])
def test_a_mask_that_can_no_longer_be_read_is_left_out(name):
    def gone():
        raise UnreadableMask("changed")

    truth = [ImageTruth((Region(0, None, gone),)), masked(np.ones((9, 9), np.uint8))]
    found = metric_named(name).measure(golden_maps()[:2], rows_of(truth))
    assert found.reason[:, 0].tolist() == [Reason.UNREADABLE, Reason.MEASURED]
