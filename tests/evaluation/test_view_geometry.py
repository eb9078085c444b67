"""Boxes and masks on their way between pictures and views."""

import cv2
import numpy as np
import pytest

from shardcam.engine.evaluation.view_geometry import boxes_in_view, mask_in_view
from shardcam.engine.pictures.imaging import view
from shardcam.engine.types import Preprocessing

BOX = np.array([[1.0, 2.0, 4.0, 3.0], [0.0, 0.0, 10.0, 20.0]])


def test_a_squashed_picture_scales_boxes_as_wsolevaluation_does():
    """Its test: (1,2,4,3) of 10x20 pixels is (3,1,14,1) of 35x10."""
    found = boxes_in_view(BOX, np.array([0.0, 0.0, 20.0, 10.0]), (10, 35))
    assert found.astype(int).tolist() == [[3, 1, 14, 1], [0, 0, 35, 10]]
    widths = np.arange(1, 700, dtype=float)
    for x in (1.0, 37.0, 419.0):
        box = np.array([[x, 0, x, 0]])
        found = [boxes_in_view(box, np.array([0, 0, 5, w]), (5, 224))[0, 0] for w in widths]
        assert found == [x * 224.0 / w for w in widths]  # to the last bit: it is truncated


@pytest.mark.parametrize("resize", ["crop", "squash", "pad", "shorter:50,crop"])
@pytest.mark.parametrize("size", [(60, 90), (90, 60)])
def test_a_box_is_where_the_network_sees_it(resize, size):
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[30:45, 30:50] = 255
    preprocessing = Preprocessing(48, 48, (0.0,) * 3, (1.0,) * 3, resize)
    seen = view(pixels, preprocessing)
    box = np.array([[30.0, 30.0, 50.0, 45.0]])
    x0, y0, x1, y1 = boxes_in_view(box, np.array(seen.crop), (48, 48))[0]
    rows, columns = np.nonzero(seen.pixels[..., 0] > 127)
    assert [columns.min(), rows.min()] == pytest.approx([x0, y0], abs=0.75)
    assert [columns.max() + 1, rows.max() + 1] == pytest.approx([x1, y1], abs=0.75)
    mask = mask_in_view(pixels[..., 0] > 0, size, np.array(seen.crop), (48, 48))
    where = np.nonzero(mask)
    assert [where[1].min(), where[0].min()] == pytest.approx([x0, y0], abs=1)
    assert [where[1].max() + 1, where[0].max() + 1] == pytest.approx([x1, y1], abs=1)


@pytest.mark.parametrize("stored", [(375, 500), (70, 93), (1000, 800)])
def test_a_mask_of_a_squashed_picture_is_opencvs(stored):
    mask = np.random.RandomState(0).rand(*stored) < 0.5
    crop = np.array([0.0, 0.0, 375.0, 500.0])
    found = mask_in_view(mask, (375, 500), crop, (224, 224))
    nearest = cv2.resize(mask.astype(np.uint8), (224, 224), interpolation=cv2.INTER_NEAREST)
    assert found.tolist() == (nearest > 0).tolist()


def test_a_mask_outside_of_the_picture_is_empty():
    crop = np.array([-10.0, 0.0, 30.0, 20.0])
    found = mask_in_view(np.ones((20, 20), bool), (20, 20), crop, (40, 20))
    assert found.all(axis=1).tolist() == [False] * 10 + [True] * 20 + [False] * 10
