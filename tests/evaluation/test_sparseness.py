"""Complexity, entropy and Gini index, against Quantus' values and closed forms."""

import numpy as np
import pytest

from shardcam.engine.evaluation.metric import Reason
from shardcam.engine.evaluation.metrics_known import metric_named
from tests.evaluation.image_rows import figure, rows_of


def value(name, raw):
    maps = np.array(raw, np.float32)[None, None]
    return metric_named(name).measure(maps, rows_of([None])).value[0, 0]


@pytest.mark.parametrize(
    ("raw", "gini", "entropy"),
    [
        (np.array([[0, 1, 2], [3, 4, 10]]), 0.5, 1.3330743),
        (np.eye(1, 49).reshape(7, 7), 1 - 1 / 49, 0),
        (np.ones((7, 7)), 0, np.log(49)),
        (-np.ones((7, 7)), 0, np.log(49)),
        ((np.arange(16) - 3).reshape(4, 4), 0.40476181224491914, 2.490808589574775),  # Quantus
    ],
)
def test_known_values(raw, gini, entropy):
    """Quantus adds 1e-7 to each number and 1e-12 in the logarithm."""
    assert value("gini", raw) == pytest.approx(gini, abs=2e-7)
    assert value("entropy", raw) == pytest.approx(entropy, abs=2e-7)


def test_complexity_is_the_mean_of_pytorch_grad_cams_map():
    raw = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    low = np.maximum(raw, 0)
    low = (low - low.min()) / (1e-7 + np.ptp(low))
    import cv2

    high = cv2.resize(low, (224, 224))
    high = (high - high.min()) / (1e-7 + np.ptp(high))
    assert value("complexity", raw) == pytest.approx(high.mean(), abs=1e-5)


def test_empty_maps_are_left_out():
    maps = np.zeros((4, 1, 3, 3), np.float32)
    maps[1, 0, 0, 0], maps[2], maps[3] = np.nan, 5, -np.eye(3)
    for name, measured in (("complexity", 0), ("entropy", 2), ("gini", 2)):
        found = metric_named(name).measure(maps, rows_of([None] * 4))
        assert np.isfinite(found.value).sum() == measured
        assert ((found.reason == Reason.NO_MAP) == ~np.isfinite(found.value)).all()


def test_the_figure_is_the_mean():
    maps = np.random.default_rng(1).normal(size=(6, 2, 7, 7)).astype(np.float32)
    rows = rows_of([None] * 6, target=[[0, -1], [0, 1]] * 3)
    found = figure(metric_named("gini"), maps, rows)
    assert found.n == 9 and found.low < found.value < found.high
