"""Pictures read again from a run's source, and what is cut out of them."""

import cv2
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.errors import SourceError
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.listing import Listing
from shardcam.jobs.source_pictures import WHITE, SourcePictures, cut
from tests.jobs.shown import make_shown_run, picture_of


def random_picture(height, width):
    return np.random.RandomState(0).randint(0, 200, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("box", [(0, 5, 10, 15), (-5, 0, 15, 20), (-3, -4, 2, 1), (8, 9.6, 8, 9.7)])
def test_whole_pixels_are_those_of_numpy(box):
    picture = random_picture(10, 20)
    canvas = np.pad(picture, ((20, 20), (20, 20), (0, 0)), constant_values=WHITE)
    top, left, bottom, right = (round(edge) + 20 for edge in box)
    expected = canvas[top : max(bottom, top + 1), left : max(right, left + 1)]
    np.testing.assert_array_equal(cut(picture, np.array(box, np.float32), WHITE), expected)


@pytest.mark.parametrize("box", [(-4, 0, 0, 5), (10, 0, 12, 5), (0, -9, 5, -2), (0, 20, 5, 29)])
@pytest.mark.parametrize("size", [None, (6, 7)])
def test_beside_a_picture_is_nothing_of_it(box, size):
    assert (cut(random_picture(10, 20), box, 127, size) == 127).all()


def test_a_part_is_fitted_to_its_size():
    """Half of the box is picture; a line of less than a pixel is one still."""
    found = cut(np.zeros((10, 20, 3), np.uint8), (-10, 0, 10, 20), WHITE, (40, 30))
    assert found.shape == (40, 30, 3)
    assert (found[:20] == WHITE).all()
    assert not found[20:].any()
    line = cut(np.zeros((1, 1000, 3), np.uint8), (-499, 0, 501, 1000), WHITE, (50, 50))
    assert (line == 0).all(axis=(1, 2)).sum() == 1


def test_a_picture_that_changed_or_is_gone_is_told(tmp_path):
    made = make_shown_run(tmp_path, shards=(4,), keys="{}.png")
    photos = tmp_path / "photos"
    cv2.imwrite(str(photos / "1.png"), np.zeros((7, 7, 3)))
    (photos / "2.png").write_bytes(b"no picture")
    (photos / "3.png").unlink()
    with open_run(made.paths.root) as run:
        config = stored_config(made.paths.root, run.config)
        pictures = SourcePictures(Listing(made.paths.listing), config)
        np.testing.assert_array_equal(pictures.read(run, 0), picture_of(0))
        for row, words in (
            (1, "'1.png' cannot be read any more: the picture has changed: it was 60x80"),
            (2, "'2.png' cannot be read any more: not a JPEG/PNG"),
            (3, "'3.png' cannot be read any more: No such file"),
        ):
            with pytest.raises(SourceError, match=words) as caught:
                pictures.read(run, row)
            assert str(caught.value).startswith(f"{photos}: its picture ")


def test_a_part_that_begins_within_a_pixel_is_enlarged():
    """It begins at the pixel before, which does not come to lie outside of the result."""
    picture = random_picture(10, 20)
    found = cut(picture, (2.5, 4.5, 7.5, 14.5), WHITE, (50, 100))
    assert found.shape == (50, 100, 3)
    middle = picture[4:6, 8:11].mean()
    assert abs(found[15:35, 35:65].mean() - middle) < 40
