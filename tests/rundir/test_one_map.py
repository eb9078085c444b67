"""The map of several scales, against numbers of IRN's own code."""

import numpy as np

from shardcam.engine.rundir.one_map import one_map
from shardcam.engine.types import GridMaps


def test_golden_of_irn():
    """Maps given by formulas, and what IRN's make_cam.py makes of them."""
    grids, scales = ((2, 2), (1, 1), (2, 3), (3, 4)), []
    for k, grid in enumerate(grids):
        y, x = np.mgrid[: grid[0], : grid[1]].astype(np.float32)
        maps = [
            np.maximum((c + 1) * (y + 1) - x / 2 + k / 4, 0)
            + np.maximum((c + 2) * (x + 1) / 2 - y, 0)[:, ::-1]
            for c in (0, 2)
        ]
        scales.append(np.stack(maps)[None].astype(np.float32))
    ones = np.ones((1, 2, 4), np.float32)
    found = one_map(GridMaps(tuple(scales), ones), (20, 27))
    raw = found.normalized[0] * found.scale[0][:, None, None]
    cam = raw / (raw.max(axis=(1, 2), keepdims=True) + 1e-5)
    assert cam.shape == (2, 5, 7)
    np.testing.assert_allclose(cam.sum(axis=(1, 2)), (25.015654, 25.301197), rtol=1e-6)
    np.testing.assert_allclose(cam.min(axis=(1, 2)), (0.419355, 0.445783), rtol=2e-6)


def test_of_one_scale_it_is_its_map_and_without_class_there_is_none():
    maps = np.array([-1, 0.5, 0.25, 0], np.float32).reshape(1, 2, 1, 2)
    scale = np.array([[[3], [np.nan]]], np.float32)
    one = one_map(GridMaps((maps,), scale), (16, 32))
    assert one.normalized is maps
    np.testing.assert_array_equal(one.scale, [[3, np.nan]])
    several = one_map(GridMaps((maps, maps), np.repeat(scale, 2, axis=2)), (16, 32))
    assert several.normalized.shape == (1, 2, 4, 8) and several.normalized[0, 0].max() == 1
    assert several.scale[0, 0] == 3 and np.isnan(several.scale[0, 1])
    assert not several.normalized[0, 1].any()
