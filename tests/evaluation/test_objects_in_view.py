"""Objects in the view of a picture that is squashed, cut or padded."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.objects_in_view import (
    objects_in_view,
    picture_in_view,
    seen_of,
    whole_boxes,
)
from shardcam.engine.truths.truth import Region
from tests.evaluation.image_rows import rows_of

SIZES = [(375, 500), (31, 17), (224, 224), (1000, 641), (1, 1), (7, 1500), (448, 672)]
PADDED = {"size": (10, 10), "crop": (-5, 0, 15, 20), "view": (20, 20)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("view", [(224, 224), (48, 64), (299, 299)])
def test_masks_of_squashed_pictures_equal_opencvs(size, view):
    mask = np.random.default_rng(size[0]).integers(0, 2, size).astype(np.uint8)
    expected = cv2.resize(mask, view[::-1], interpolation=cv2.INTER_NEAREST) > 0
    np.testing.assert_array_equal(seen_of(mask, rows_of([None], size=size, view=view), 0), expected)


@pytest.mark.parametrize("size", SIZES)
def test_boxes_of_squashed_pictures_equal_wsolevaluations(size):
    found = np.random.default_rng(0).integers(0, max(size), (50, 4)).astype(np.float64)
    whole = np.array([0, 0, *size], np.float64)
    expected = [
        [int(v * 224 / side) for v, side in zip(box, (size[1], size[0], size[1], size[0]))]
        for box in found
    ]
    assert whole_boxes(found, whole, (224, 224)).tolist() == expected


def test_boxes_of_a_cut_and_a_padded_view():
    box = np.array([[100.0, 50, 200, 150]])
    assert whole_boxes(box, np.array([50, 100, 150, 200.0]), (50, 50)).tolist() == [[0, 0, 50, 50]]
    padded = np.array([-50.0, 0, 250, 300])
    assert whole_boxes(box, padded, (30, 30)).tolist() == [[10, 10, 20, 20]]
    far = np.array([[-1e12, -np.inf, 1e12, np.inf]])
    assert np.abs(whole_boxes(far, padded, (30, 30))).max() == 2**20


def test_a_padded_view_shows_the_picture_in_a_part():
    inside = picture_in_view(rows_of([None], **PADDED), 0)
    assert inside[5:15, :10].all() and inside.sum() == 100


def test_boxes_are_half_open_and_stay_in_the_picture():
    rows = rows_of([None], size=(10, 10), view=(10, 10))
    found = objects_in_view([Region(0, (2, 3, 5, 4))], rows, 0)
    assert np.argwhere(found).tolist() == [[3, 2], [3, 3], [3, 4]]
    assert not objects_in_view([Region(0, (30, 30, 40, 40))], rows, 0).any()
    padded = rows_of([None], **PADDED)
    found = objects_in_view([Region(0, (-50, -50, np.inf, 50))], padded, 0)
    np.testing.assert_array_equal(found, picture_in_view(padded, 0))
