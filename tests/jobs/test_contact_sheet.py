"""Thumbnails are enlarged before a heatmap is laid over them."""

import numpy as np

from shardcam.jobs.looking.contact_sheet import LEAST, _large


def test_small_pictures_are_enlarged_and_large_ones_left_alone():
    picture = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    large = _large(picture)
    assert large.shape == (LEAST, LEAST * 12 // 8, 3)
    np.testing.assert_array_equal(large[:: LEAST // 8, :: LEAST // 8], picture)
    assert _large(np.zeros((1, 1, 3), np.uint8)).shape == (LEAST, LEAST, 3)
    whole = np.zeros((300, 225, 3), np.uint8)
    assert _large(whole) is whole
