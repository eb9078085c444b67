"""Maps from 0 to 1, heatmaps, and heatmaps on the original pictures, compared with plain loops."""

import math

import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.analysis.placement import place
from shardcam.engine.errors import ConfigError
from shardcam.engine.pictures.imaging import view
from shardcam.engine.rundir.colormaps import colour_table
from shardcam.engine.types import Preprocessing
from shardcam.kernels import heatmap_u8
from tests.analysis.runs import LAYERS, MAP, SIZES, make_run
from tests.jobs.shown import change_options


def stored(made, layer=MAP):
    return made.rows[f"cam/{layer}/map"].astype(np.float32)


def by_hand(maps):
    """ReLU, then each map to 0..1; in float64."""
    positive = np.maximum(maps.astype(np.float64), 0)
    positive -= positive.min(axis=(-2, -1), keepdims=True)
    return positive / (positive.max(axis=(-2, -1), keepdims=True) + 1e-7)


@pytest.mark.parametrize("index", [slice(None), 3, ([9, 0, 0], 1), (2, [1, 1])], ids=str)
def test_normalized_maps(made, run, index):
    maps = run.cam(MAP).normalized()
    assert maps.shape == (12, 2, 5, 7)
    assert maps[index].dtype == np.float32
    np.testing.assert_allclose(maps[index], by_hand(stored(made))[index], rtol=0, atol=1e-6)


@pytest.mark.parametrize("index", [slice(2, 6), -1, ([9, 0, 0], 1), (2, 0), slice(0, 0)], ids=str)
def test_heatmaps(made, run, index):
    maps = run.cam("stage/conv").heatmap((50, 41))
    assert maps.shape == (12, 2, 50, 41)
    whole = heatmap_u8(stored(made).reshape(-1, 5, 7), (50, 41)).reshape(maps.shape)
    np.testing.assert_array_equal(maps[index], whole[index])
    assert maps[index].dtype == np.uint8


def test_a_size_that_is_none_is_one_line(run):
    with pytest.raises(ValueError, match=r"size: expected positive numbers, got \(0, 5\)"):
        run.cam(MAP).heatmap((0, 5))


def value_at(unit, y, x):
    """Bilinear between the centres of the cells, clamped to the edges."""
    y, x = (min(max(v, 0), n - 1) for v, n in zip((y, x), unit.shape))
    top, left = int(y), int(x)
    down, right = min(top + 1, unit.shape[0] - 1), min(left + 1, unit.shape[1] - 1)
    above = (1 - (x - left)) * unit[top, left] + (x - left) * unit[top, right]
    below = (1 - (x - left)) * unit[down, left] + (x - left) * unit[down, right]
    return (1 - (y - top)) * above + (y - top) * below


def pixel_by_pixel(raw, crop, size):
    """The heatmap on the picture, as float levels, and which pixels the network saw."""
    (y0, x0, y1, x1), (h, w), unit = crop, raw.shape, by_hand(raw)
    values = {}
    for y in range(math.floor(y0) - 1, math.ceil(y1) + 1):
        for x in range(math.floor(x0) - 1, math.ceil(x1) + 1):
            if y0 <= y + 0.5 < y1 and x0 <= x + 0.5 < x1:
                row, across = (y + 0.5 - y0) / (y1 - y0) * h - 0.5, (x + 0.5 - x0) / (x1 - x0) * w
                values[y, x] = value_at(unit, row, across - 0.5)
    low, high = min(values.values()), max(values.values())
    levels, seen = np.zeros(size), np.zeros(size, bool)
    for (y, x), value in values.items():
        if 0 <= y < size[0] and 0 <= x < size[1]:
            levels[y, x], seen[y, x] = 255 * (value - low) / (high - low + 1e-7), True
    return levels, seen


@pytest.mark.parametrize("resize", ["crop", "squash", "pad"])
def test_on_the_original_picture_as_a_loop_over_pixels_does(tmp_path, resize):
    made = make_run(tmp_path / "run", shards=(9,), failures=0, resize=resize)
    sizes = [tuple(size) for size in made.rows["image_size"].tolist()]
    assert sizes == list(SIZES)
    with open_run(made.paths.root) as run:
        maps = run.cam(MAP)
        for i, size in enumerate(sizes):
            if max(size) > 300 and resize == "pad":
                continue  # half a million pixels each; see below
            raw, crop = stored(made)[i, 1], made.rows["crop"][i].tolist()
            levels, seen = pixel_by_pixel(raw, crop, size)
            placed = maps.on_original(i, 1)
            assert (placed.shape, placed.dtype) == (size, np.uint8)
            assert (placed[~seen] == 0).all()
            assert seen.all() or resize == "crop"
            truncated = levels.astype(np.uint8)
            exact = abs(levels - np.rint(levels)) > 1e-3  # float32 may fall to the other side
            np.testing.assert_array_equal(placed[exact], truncated[exact])
            assert (abs(placed.astype(int) - truncated) <= 1).all()


def test_a_crop_holds_the_heatmap_of_its_size(made, run):
    """To the level: where the view ends between pixels there is nothing to interpolate anew."""
    for i, crop in enumerate(made.rows["crop"].astype(int)):
        y0, x0, y1, x1 = crop
        inner = run.cam(MAP).heatmap((y1 - y0, x1 - x0))[i, 0]
        placed = run.cam(MAP).on_original(i)
        np.testing.assert_array_equal(placed[y0:y1, x0:x1], inner)
        assert placed.sum() == inner.sum()


@pytest.mark.parametrize("size", [(60, 80), (33, 500), (700, 20), (24, 30), (900, 900)])
def test_a_padded_picture_gets_the_heatmap_of_its_part_of_the_view(size):
    """Of the view's heatmap, the picture is the inner part, enlarged or shrunk."""
    raw = np.random.default_rng(3).random((6, 6)).astype(np.float32)
    padding = Preprocessing(240, 240, (0.0,) * 3, (1.0,) * 3, "pad")
    seen = view(np.full((*size, 3), 255, np.uint8), padding)
    inner = np.argwhere(seen.pixels[..., 0] > 0)
    (top, left), (bottom, right) = inner.min(axis=0), inner.max(axis=0) + 1
    placed, _ = place(raw, np.array(seen.crop, np.float32), np.array(size))
    heat = heatmap_u8(raw[None], (240, 240))[0]
    rows = top + (np.arange(size[0]) + 0.5) / size[0] * (bottom - top)
    columns = left + (np.arange(size[1]) + 0.5) / size[1] * (right - left)
    nearest = heat[rows.astype(int)[:, None], columns.astype(int)]
    one_step = 255 / 40  # of the view: 240 pixels for 6 cells, in each direction
    assert abs(placed.astype(int) - nearest).max() <= 2 * one_step


def test_a_long_narrow_picture_takes_no_square(made):
    levels, seen = place(
        np.eye(7, dtype=np.float32),
        np.array([-500000, 0, 500001, 1000001], np.float32),
        np.array([1, 1000001]),
    )
    assert levels.shape == (1, 1000001)
    assert levels.max() > 200
    assert seen == (slice(0, 1), slice(0, 1000001))


@pytest.mark.parametrize("resize", ["crop", "pad"])
def test_an_overlay_on_the_original_picture(tmp_path, resize):
    made = make_run(tmp_path / "run", shards=(9,), failures=0, resize=resize)
    rng = np.random.default_rng(1)
    with open_run(made.paths.root) as run:
        maps = run.cam(LAYERS[0].name)
        for i in (0, 1, 3, 8):
            picture = rng.integers(0, 256, (*SIZES[i], 3), np.uint8)
            before = picture.copy()
            drawn = maps.overlay(i, picture, target=1, alpha=0.25)
            np.testing.assert_array_equal(picture, before)
            _, seen = pixel_by_pixel(stored(made)[i, 1], made.rows["crop"][i].tolist(), SIZES[i])
            heat = colour_table("jet")[maps.on_original(i, 1)].astype(float)
            expected = np.where(seen[..., None], 0.25 * heat + 0.75 * picture, picture)
            np.testing.assert_array_equal(drawn, expected.astype(np.uint8))


def test_an_overlay_has_the_colours_of_its_run(tmp_path):
    made = make_run(tmp_path / "run")
    change_options(made.paths, colormap="inferno", alpha=0.25)
    picture = np.random.default_rng(1).integers(0, 256, (*SIZES[1], 3), np.uint8)
    with open_run(made.paths.root) as run:
        maps = run.select(flags=1).cam(MAP)
        inferno, jet = (maps.overlay(0, picture, 0, 0.25, name) for name in ("inferno", "jet"))
        np.testing.assert_array_equal(maps.overlay(0, picture), inferno)
        assert (inferno != jet).any()
        shards = run.select(flags=1).shards()
        np.testing.assert_array_equal(next(shards).cam(MAP).overlay(0, picture), inferno)
        with pytest.raises(ConfigError, match="colormap 'gray': expected one of jet, viridis"):
            maps.overlay(0, picture, colormap="gray")


def test_a_wrong_picture_is_one_line(run):
    maps = run.cam(MAP)
    wrong = r"expected uint8 \(60, 80, 3\), .* got uint8 \(8.*; is its EXIF orientation applied"
    with pytest.raises(ValueError, match=wrong):
        maps.overlay(0, np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="got float64"):
        maps.overlay(0, np.zeros((60, 80, 3)))
    with pytest.raises(ValueError, match="alpha: expected a number from 0 to 1, got 2"):
        maps.overlay(0, np.zeros((60, 80, 3), np.uint8), alpha=2)
    for wrong in ((12, 0), (0, 2)):
        with pytest.raises(IndexError, match="out of range"):
            maps.on_original(*wrong)
