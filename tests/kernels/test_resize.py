"""`resize` against OpenCV and its twin, for any sizes and boxes."""

from __future__ import annotations

from math import gcd
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from shardcam import kernels
from tests.kernels import reference
from tests.kernels.table import only_compiled

few = settings(max_examples=50, deadline=None)
sides = st.integers(1, 20)


def opencv(image: NDArray[Any], size: tuple[int, int]) -> Any:
    """The engine's way: areas where either axis shrinks, else bilinear."""
    shrinking = size[0] < image.shape[0] or size[1] < image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR
    return cv2.resize(image, size[::-1], interpolation=method).reshape(*size, 3)


@few
@given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
@example(h=1, w=1, height=5, width=4, seed=0)
@example(h=1, w=20, height=7, width=7, seed=0)
@example(h=20, w=1, height=7, width=7, seed=0)
@example(h=8, w=8, height=4, width=4, seed=0)
@example(h=8, w=8, height=8, width=8, seed=0)
@example(h=8, w=8, height=8, width=5, seed=0)
@example(h=8, w=8, height=8, width=11, seed=0)
@example(h=9, w=7, height=1, width=1, seed=0)
def test_is_opencv_resize(h: int, w: int, height: int, width: int, seed: int) -> None:
    # Where one axis grows while the other shrinks, and edges of old and new pixels coincide,
    # OpenCV's rounding may take the pixel before the edge (14 to 18 columns, the tenth).
    for old, new, other in ((h, height, width < w), (w, width, height < h)):
        assume(not (old < new and other and gcd(old, new) > 1))
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (h + 3, w + 2, 3), dtype=np.uint8)
    box = (1, 2, 1 + h, 2 + w)
    found = kernels.resize(image, box, (height, width)).astype(int)
    expected = opencv(image[1 : 1 + h, 2 : 2 + w], (height, width))
    assert np.abs(found - expected).max() <= 1
    exact = reference.unrounded_resize(image, box, (height, width))
    # A tie, half a level, may fall on either side of the rounding.
    assert np.abs(found - exact).max() <= 0.5 + 1e-9


@few
@given(
    sizes=st.tuples(sides, sides, sides, sides),
    cuts=st.tuples(*4 * [st.floats(0, 1)]),
    seed=st.integers(0, 99),
)
def test_a_window_is_a_part_of_the_whole(sizes: Any, cuts: Any, seed: int) -> None:
    h, w, height, width = sizes
    image = np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)
    top, left = int(cuts[0] * (height - 1)), int(cuts[1] * (width - 1))
    bottom = top + 1 + int(cuts[2] * (height - top - 1))
    right = left + 1 + int(cuts[3] * (width - left - 1))
    box, size = (0, 0, h, w), (height, width)
    found = kernels.resize(image, box, size, (top, left, bottom, right))
    expected = kernels.resize(image, box, size)[top:bottom, left:right]
    np.testing.assert_array_equal(found, expected)


@only_compiled
@pytest.mark.parametrize("size", [(224, 224), (300, 450)])
def test_a_picture_of_six_million_pixels(size: tuple[int, int], rng: np.random.Generator) -> None:
    coarse = rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)
    image = cv2.resize(coarse, (3000, 2000), interpolation=cv2.INTER_CUBIC)
    gap = kernels.resize(image, (0, 500, 2000, 2500), size) - opencv(
        image[:, 500:2500], size
    ).astype(int)
    assert np.abs(gap).max() <= 1 and np.mean(gap != 0) < 1e-3


@pytest.mark.parametrize("box", [(0, 0, 9, 8), (2, 1, 9, 8)])
def test_equal_sizes_are_a_copy(box: tuple[int, int, int, int], rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    part = image[box[0] :, box[1] :]
    found = kernels.resize(image, box, part.shape[:2])
    np.testing.assert_array_equal(found, part)
    assert found.flags.c_contiguous and not np.shares_memory(found, image)


@pytest.mark.parametrize("size", [(3, 4), (20, 31), (30, 4)])
def test_one_colour_stays_one_colour(size: tuple[int, int]) -> None:
    image = np.full((10, 12, 3), (0, 128, 255), np.uint8)
    found = kernels.resize(image, (0, 0, 10, 12), size)
    np.testing.assert_array_equal(found, np.broadcast_to([0, 128, 255], found.shape))
