"""The Gaussian filter on the permutohedral lattice, beside sums over all pairs."""

import numpy as np
import pytest

from shardcam.kernels import Permutohedral


@pytest.mark.parametrize("axes", [1, 2, 5])
def test_it_is_a_gaussian_filter(axes):
    rng = np.random.default_rng(axes)
    points = (rng.random((600, axes)) * 3 - 1).astype(np.float32)
    values = rng.random((600, 2)).astype(np.float32)
    lattice = Permutohedral(points)
    found = lattice.filter(values) / lattice.filter(np.ones((600, 1), np.float32))
    weights = np.exp(-((points[:, None] - points[None]) ** 2).sum(axis=2) / 2)
    expected = weights @ values / weights.sum(axis=1, keepdims=True)
    assert abs(found - expected).max() < 0.06 < np.ptp(values)
    assert np.corrcoef(found[:, 0], expected[:, 0])[0, 1] > 0.97


def test_the_order_of_points_does_not_matter():
    rng = np.random.default_rng(0)
    points, values = rng.normal(size=(300, 5)).astype("f4") * 9, rng.random((300, 3), np.float32)
    order = rng.permutation(300)
    found = Permutohedral(points[order]).filter(values[order])
    np.testing.assert_allclose(found, Permutohedral(points).filter(values)[order], atol=1e-5)
    points.flags.writeable = values.flags.writeable = False
    assert Permutohedral(points).filter(values).shape == (300, 3)


def test_no_points():
    assert Permutohedral(np.empty((0, 2), "f4")).filter(np.empty((0, 4), "f4")).shape == (0, 4)


def test_what_it_refuses():
    points = np.ones((4, 2), np.float32)
    with pytest.raises(TypeError, match="points"):
        Permutohedral(points.astype(np.float64))
    with pytest.raises(ValueError, match="values"):
        Permutohedral(points).filter(points[:3])
