"""Scores of several scales: IRN's golden figures, each recipe by its rules, from half precision."""

import cv2
import numpy as np
import pytest
import skimage.data

from shardcam.engine.analysis.class_scores import class_scores, grid_scores, one_map

SCALES = (1.0, 0.5, 1.5, 2.0)
PHOTOGRAPHS = {  # each of another size
    "chelsea": skimage.data.chelsea,
    "coffee": skimage.data.coffee,
    "rocket": skimage.data.rocket,
    "astronaut": lambda: skimage.data.astronaut()[:333, :499],
    "tall": lambda: skimage.data.astronaut()[:501, :77],
}


def bilinear(grid, size, corners=False):
    """PyTorch's interpolate, by its rules: weights of (H,h) and (W,w) in double precision."""

    def weights(cells, pixels):
        if corners:
            place = np.arange(pixels) * ((cells - 1) / (pixels - 1))
        else:
            place = np.maximum((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5, 0)
        low = np.minimum(place.astype(int), cells - 1)
        share, found = place - low, np.zeros((pixels, cells))
        found[np.arange(pixels), low] = 1 - share
        found[np.arange(pixels), np.minimum(low + 1, cells - 1)] += share
        return found

    return weights(grid.shape[0], size[0]) @ grid @ weights(grid.shape[1], size[1]).T


def rounded_up(size, multiple):
    return tuple(-(-side // multiple) * multiple for side in size)


def by_the_rules(how, grids, scales, size):
    """(H,W) of one class."""
    height, width = size
    if how == "irn":
        total = sum(bilinear(np.maximum(g, 0), rounded_up(size, 16)) for g in grids)
        total = total[:height, :width]
        return total / (total.max() + 1e-5)
    if how == "psa":
        total = sum(bilinear(np.maximum(g, 0), size) for g in grids)
        return total / (total.max() + 1e-5)
    if how == "seam":
        total = 0
        for grid, scale in zip(grids, scales):
            scaled = round(height * scale), round(width * scale)
            total = total + bilinear(bilinear(grid, scaled, corners=True), size)
        total[total < 0] = 0
        low, high = total.min(), total.max()
        total[total < low + 1e-5] = 0
        return (total - low - 1e-5) / (high - low + 1e-5)
    shown = cam_by_the_rules(grids, size) if len(grids) > 1 else grids[0]
    for _ in range(2):
        shown = np.maximum(shown, 0) - np.maximum(shown, 0).min()
        shown = shown / (shown.max() + 1e-7)
        before, shown = shown, bilinear(shown, size)
    return before


def cam_by_the_rules(grids, size):
    small = tuple(-(-side // 4) for side in size)
    return sum(bilinear(np.maximum(grid, 0), small) for grid in grids)


def maps_of(photograph, scales=SCALES, classes=3):
    """Signed maps at an output stride of 16: the colours of a photograph, about their mean."""
    height, width = photograph.shape[:2]
    grids = []
    for scale in scales:
        size = -(-round(height * scale) // 16), -(-round(width * scale) // 16)
        small = cv2.resize(photograph, size[::-1], interpolation=cv2.INTER_AREA)
        mixed = small.astype(np.float64) @ np.array([[1, -1, 0], [0, 1, -1], [1, 1, -3]]).T
        grids.append((mixed.transpose(2, 0, 1)[:classes] / 17).astype(np.float32))
    return tuple(grids)


def whole(size):
    return np.array([0, 0, *size], np.float64), np.array(size, np.int32)


@pytest.mark.parametrize("how", ["irn", "psa", "seam", "pgc"])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("scales", [SCALES, (1.0,), (0.5, 1.5)], ids=str)
def test_recipes(name, how, scales):
    photograph = PHOTOGRAPHS[name]()
    size, grids = photograph.shape[:2], maps_of(photograph, scales)
    classes, scores = grid_scores(grids, scales, np.array([4, 1, 7], "i4"), *whole(size), how)
    assert classes.tolist() == [1, 4, 7] and scores.dtype == np.float32
    for k, c in enumerate([1, 0, 2]):
        expected = by_the_rules(how, [grid[c].astype(np.float64) for grid in grids], scales, size)
        np.testing.assert_allclose(scores[k], expected, atol=2e-5)
    if len(scales) > 1:
        found = one_map(grids, size)
        np.testing.assert_allclose(
            found[0], cam_by_the_rules([grid[0].astype(np.float64) for grid in grids], size), 1e-5
        )


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_half_precision_is_enough(name):
    """As a run stores maps: each in float16 over its own scale."""
    photograph = PHOTOGRAPHS[name]()
    size, grids = photograph.shape[:2], maps_of(photograph)
    stored = []
    for maps in grids:
        scale = np.abs(maps).max(axis=(1, 2), keepdims=True)
        stored.append((maps / scale).astype(np.float16).astype(np.float32) * scale)
    classes = np.arange(3, dtype=np.int32)
    for how in ("irn", "psa", "seam", "pgc"):
        _, exact = grid_scores(grids, SCALES, classes, *whole(size), how)
        _, found = grid_scores(stored, SCALES, classes, *whole(size), how)
        np.testing.assert_allclose(found, exact, atol=1e-3)


def golden_maps():
    """(3,h,w) of four scales by IRN's recipe: rectified, the mirrored one added."""
    for k, (height, width) in enumerate([(2, 2), (1, 1), (2, 3), (3, 4)]):
        c, y, x = np.ogrid[:3, :height, :width]
        a, b = (c + 1) * (y + 1) - x / 2 + k / 4, (c + 2) * (x + 1) / 2 - y
        yield (np.maximum(a, 0) + np.maximum(b, 0)[..., ::-1]).astype(np.float32)


def test_golden_figures_of_irn():
    grids, size, target = tuple(golden_maps()), (20, 27), np.array([0, -1, 2], np.int32)
    classes, high = grid_scores(grids, SCALES, target, *whole(size))
    assert classes.tolist() == [0, 2] and high.shape == (2, *size)
    np.testing.assert_allclose(high.sum(axis=(1, 2)), [412.28503, 405.24167], rtol=1e-6)
    np.testing.assert_allclose(high.min(axis=(1, 2)), [0.439012, 0.486989], atol=1e-6)
    np.testing.assert_allclose((high[0, 3, 5], high[1, 19, 26]), (0.98034215, 0.62870276), 1e-6)
    _, cam = class_scores(one_map(grids, size), target, *whole((5, 7)))
    assert cam.shape == (2, 5, 7)
    np.testing.assert_allclose(cam.sum(axis=(1, 2)), [25.015654, 25.301197], rtol=1e-6)
    np.testing.assert_allclose(cam.min(axis=(1, 2)), [0.419355, 0.445783], atol=1e-6)


def test_what_is_not_usable_at_a_scale_is_left_out():
    grids = [maps.copy() for maps in golden_maps()]
    grids[3][1] = np.nan
    crop, size = whole((20, 27))
    for how in ("irn", "psa", "seam", "pgc"):
        classes, scores = grid_scores(grids, SCALES, np.array([5, 4, 3], "i4"), crop, size, how)
        assert classes.tolist() == [3, 5] and scores.shape == (2, 20, 27)
    none, scores = grid_scores(grids, SCALES, np.full(3, -1, "i4"), crop, size)
    assert len(none) == 0 and scores.shape == (0, 20, 27)


def test_a_box_of_a_picture_is_the_picture_that_the_network_saw():
    grids, target = tuple(golden_maps()), np.arange(3, dtype=np.int32)
    image_size, crop = np.array([50, 60], np.int32), np.array([5, 30, 25, 57], np.float64)
    for how in ("irn", "psa", "seam", "pgc"):
        _, inside = grid_scores(grids, SCALES, target, *whole((20, 27)), how)
        _, scores = grid_scores(grids, SCALES, target, crop, image_size, how)
        np.testing.assert_allclose(scores[:, 5:25, 30:57], inside, atol=1e-6)
        scores[:, 5:25, 30:57] = 0
        assert scores.shape == (3, 50, 60) and not scores.any()


@pytest.mark.parametrize("how", ["irn", "psa", "seam", "pgc"])
def test_a_scale_of_which_a_pixel_is_left(how):
    grids = [np.full((1, 1, 1), 3, np.float32), np.arange(1, 7, dtype=np.float32).reshape(1, 2, 3)]
    _, scores = grid_scores(grids, (0.001, 1), np.array([0], "i4"), *whole((20, 27)), how)
    assert scores.shape == (1, 20, 27)
    assert scores.max() == scores[0, -1, -1] == pytest.approx(1, abs=1e-4)
