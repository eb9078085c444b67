"""Outlines and run lengths, against what pycocotools makes of them."""

import numpy as np
import pytest

from shardcam.engine.truths.mask_shapes import Outlines, packed_polygons, run_lengths

# By pycocotools 2.0: frPyObjects of polygons in pictures of 9x11 pixels, height x width.
POLYGONS = {
    "within": ([[1.3, 1.2, 8.7, 2.1, 6.5, 7.4, 2.0, 6.0]], ":184L010O0000N2Nb0"),
    "beyond": ([[-3, -2.5, 20.25, 4, 5.5, 30]], "0X21PN0000"),
    "crossing itself": ([[1, 1, 9, 8, 9, 1, 1, 8]], ":64O1N2N10O2N2N1a0"),
    "two": ([[0, 0, 4, 0, 4, 4, 0, 4], [3, 3, 8.5, 3, 8.5, 8.5, 3, 8.5]], "04500005NM00000000?"),
    "corners twice": ([[2, 2, 2, 2, 7, 2, 7, 2, 7, 7, 7, 7, 2, 7]], "d0540000000R1"),
    "without pixels": ([[1, 1, 5, 1, 9, 1]], "S3"),
}
SIZE = 9, 11


@pytest.mark.parametrize("name", POLYGONS)
def test_polygons(name):
    polygons, text = POLYGONS[name]
    found = Outlines(packed_polygons(polygons), SIZE)()
    assert found.tolist() == run_lengths(text, SIZE)().tolist()
    assert found.dtype == np.uint8 and found.flags.c_contiguous


def test_a_rectangle_has_the_pixels_between_its_corners():
    found = Outlines(packed_polygons([[2, 1, 6, 1, 6, 4, 2, 4]]), SIZE)()
    assert np.argwhere(found).min(axis=0).tolist() == [1, 2]
    assert np.argwhere(found).max(axis=0).tolist() == [3, 5] and found.sum() == 12


def test_run_lengths_as_numbers_and_as_text():
    numbers = run_lengths([9, 3, 6, 4, 77], SIZE)
    assert run_lengths("9361W2", SIZE) == numbers
    expected = np.zeros(99, np.uint8)
    expected[9:12] = expected[18:22] = 1
    assert numbers().tolist() == expected.reshape(11, 9).T.tolist()


def test_all_that_pycocotools_makes():
    """The oracle itself, where it is installed: random polygons and masks, to the pixel."""
    oracle = pytest.importorskip("pycocotools.mask")
    random = np.random.RandomState(0)
    for trial in range(400):
        height, width = random.randint(1, 80, 2).tolist()
        corners = random.uniform(-20, 100, (random.randint(3, 12), 2))
        corners = np.round(corners, (0, 1, 2, 9)[trial % 4])
        polygon = np.repeat(corners, 1 + trial % 2, axis=0).reshape(-1).tolist()
        (theirs,) = oracle.frPyObjects([polygon], height, width)
        expected = oracle.decode(theirs)
        found = Outlines(packed_polygons([polygon]), (height, width))()
        assert found.tolist() == expected.tolist(), polygon
        text = theirs["counts"].decode()
        assert run_lengths(text, (height, width))().tolist() == expected.tolist()
        noise = np.asfortranarray((random.rand(height, width) < random.rand()).astype(np.uint8))
        text = oracle.encode(noise)["counts"].decode()
        assert run_lengths(text, (height, width))().tolist() == noise.tolist()
