"""Pictures at scales of their own size: the bytes are those that the recipes make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shardcam.engine.pictures.resampling import rescaled, scaled_size


def recipe(picture, scale):
    """``pil_rescale`` of IRN's misc/imutils.py, of order 3."""
    height, width = picture.shape[:2]
    target = (int(np.round(height * scale)), int(np.round(width * scale)))
    if target == (height, width):
        return picture
    resized = Image.fromarray(picture).resize(target[::-1], resample=Image.BICUBIC)
    return np.asarray(resized)


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from((1, 0.5, 1.5, 2, 0.37, 3.3)))
@settings(max_examples=60, deadline=None)
def test_every_byte_is_that_of_the_recipe(height, width, scale):
    picture = np.random.default_rng(height * 71 + width).integers(0, 256, (height, width, 3))
    picture = picture.astype(np.uint8)
    if min(round(height * scale), round(width * scale)) == 0:
        assert min(rescaled(picture, scale).shape) == 1
        return
    found = rescaled(picture, scale)
    assert np.array_equal(found, recipe(picture, scale))
    assert found.shape == (*scaled_size(height, width, scale), 3)


@pytest.mark.parametrize(("side", "scale", "expected"), [(5, 0.5, 2), (7, 0.5, 4), (333, 1.5, 500)])
def test_halves_go_to_the_even_number(side, scale, expected):
    assert scaled_size(side, side, scale) == (expected, expected)
