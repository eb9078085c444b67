"""Tiles and panels: what is where, in which colour."""

import cv2
import numpy as np
import pytest

from shardcam import open_run
from shardcam.engine.errors import RunDirectoryError, SourceError
from shardcam.engine.rundir.listing import Listing
from shardcam.jobs.looking.contact_sheet import draw_contact_sheet
from shardcam.jobs.looking.panels import (
    LayerValues,
    colours,
    draw_panels,
    grid_of,
    top_activating_channels,
)
from shardcam.jobs.looking.tiles import LABEL_SIZE, PAPER, fitting, save_picture, text_size, tile
from tests.jobs.shown import change_options, make_shown_run, picture_of

RNG = np.random.RandomState(0)


def test_tiles_lie_row_by_row():
    images = RNG.randint(0, 256, (5, 6, 9, 3)).astype(np.uint8)
    page = tile(images, columns=3, gutter=2)
    assert page.shape == (2 * 6 + 2, 3 * 9 + 2 * 2, 3)
    for i, image in enumerate(images):
        top, left = i // 3 * 8, i % 3 * 11
        np.testing.assert_array_equal(page[top : top + 6, left : left + 9], image)
    assert (page[6:8] == PAPER).all()
    assert (page[:, 9:11] == PAPER).all()
    assert (page[8:, 22:] == PAPER).all()  # where a sixth would be


def test_labels_are_below_their_tiles():
    images = np.zeros((2, 10, 30, 3), np.uint8)
    strip = text_size("0")[1] + 2
    page = tile(images, columns=2, gutter=4, labels=["17", ""])
    assert page.shape == (10 + strip, 64, 3)
    below = (page[10:] != PAPER).any(axis=(0, 2))
    columns = np.flatnonzero(below)
    assert 0 < columns.min() < 15 < columns.max() < 30  # centred, and none below the second
    wide = tile(images, columns=2, labels=["too wide for a tile", "1"])
    assert (wide[10:, :30] == PAPER).all()
    assert text_size("0", 2 * LABEL_SIZE)[1] > text_size("0")[1]


def test_texts_are_cut_to_fit():
    assert fitting("short", 200) == "short"
    cut = fitting("a name that is much too long", 60, 15)
    assert cut.endswith("…")
    assert "a name that is much too long".startswith(cut[:-1])
    assert text_size(cut, 15)[0] <= 60 < text_size("a name that is much too long", 15)[0]
    assert fitting("W", 1) == ""


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_picture_appears_whole(tmp_path, name):
    picture = cv2.resize(RNG.randint(0, 256, (3, 4, 3)).astype(np.uint8), (40, 30))
    save_picture(picture, tmp_path / "new" / name)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]
    found = cv2.imread(str(tmp_path / "new" / name))[..., ::-1].astype(int)
    assert np.abs(found - picture).mean() < (4 if name.endswith("jpg") else 1e-9)
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot be written"):
        save_picture(picture, tmp_path / "file" / name)


def test_no_tiles_or_not_a_label_for_each():
    with pytest.raises(ValueError, match="0 tiles"):
        tile(np.zeros((0, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="2 tiles, labels: 1"):
        tile(np.zeros((2, 2, 2, 3), np.uint8), labels=["a"])


def test_all_channels_in_order_or_the_top_activating_first():
    values = np.array([1.0, 5, -9, 3, 5], np.float32)[:, None, None] + RNG.rand(5, 1, 1) * 0
    assert top_activating_channels(values, 5).tolist() == [0, 1, 2, 3, 4]
    assert top_activating_channels(values, 3).tolist() == [1, 4, 3]
    values[1] = np.nan
    assert top_activating_channels(values, 3).tolist() == [4, 3, 0]


def test_colours_are_relative_to_the_largest_value():
    rgb, low, high = colours(np.array([0, 1, 2, 4], np.float32))
    assert (low, high) == (0, 4)
    assert rgb.sum(axis=1).tolist() == sorted(rgb.sum(axis=1).tolist())  # brighter and brighter
    assert rgb[0].max() < 10
    rgb, low, high = colours(np.array([-4, 0, 2, np.inf, np.nan], np.float32))
    assert (low, high) == (-4, 4)
    (left, middle, right, infinite, nan) = rgb.astype(int)
    assert left[2] > left[0] + 50  # blue
    assert middle.min() > 240  # white
    assert right[0] > right[2] + 50  # red
    assert infinite[0] > infinite[2]
    np.testing.assert_array_equal(nan, left)
    assert colours(np.zeros(3, np.float32))[1:] == (0, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 20, 50, 64, 97, 512, 4096])
def test_grids_hold_all_and_waste_little(count):
    columns, side = grid_of(count)
    rows = -(-count // columns)
    assert rows * columns >= count
    assert rows * columns - count < columns
    assert 1 <= columns / rows <= 3
    assert 26 <= side <= 320


@pytest.mark.parametrize("shape", [(1, 4, 4), (20, 24, 24), (512, 14, 14), (64, 224, 224), (500,)])
def test_panels_of_any_layer(shape):
    """Two of them: as wide as the wider, the picture on the left as it is."""
    values = RNG.standard_normal(shape).astype(np.float32)
    picture = np.full((28, 28, 3), (10, 200, 30), np.uint8)
    one = draw_panels(picture, "caption", [LayerValues("layer", values)], 64)
    both = draw_panels(picture, "é" * 300, [LayerValues("layer", values)] * 2, 64)
    assert both.shape == (2 * len(one), *one.shape[1:])
    green = (one == (10, 200, 30)).all(axis=2)
    rows, columns = (np.flatnonzero(green.any(axis=axis)) for axis in (1, 0))
    assert green[np.ix_(rows, columns)].all()
    assert len(rows) == len(columns) >= 300


def test_a_tile_shows_its_channel():
    values = np.zeros((3, 2, 2), np.float32)
    values[1] = [[8, -8], [4, 0]]
    picture = np.zeros((2, 2, 3), np.uint8)
    page = draw_panels(picture, "", [LayerValues("layer", values)], 64)
    for colour in colours(values)[0][1].reshape(-1, 3):
        assert (page == colour).all(axis=2).sum() > 1000  # a quarter of a large tile


def test_a_contact_sheet_has_the_colours_of_its_run(tmp_path):
    made = make_shown_run(tmp_path, shards=(1,), keys="{}.png")
    sheets = []
    for colormap in ("jet", "jet", "inferno"):
        change_options(made.paths, colormap=colormap)
        with open_run(made.paths.root) as run:
            draw_contact_sheet(run, Listing(made.paths.listing), tmp_path / "sheet.png")
        sheets.append(cv2.imread(str(tmp_path / "sheet.png")))
    np.testing.assert_array_equal(sheets[0], sheets[1])
    assert (sheets[0] != sheets[2]).any()


def test_a_contact_sheet_appears_whole_or_not_at_all(tmp_path):
    made = make_shown_run(tmp_path, shards=(4,), keys="{} $x$.png")
    with open_run(made.paths.root) as run:
        draw_contact_sheet(run, Listing(made.paths.listing), tmp_path / "sheets" / "sheet.png")
        sheet = cv2.imread(str(tmp_path / "sheets" / "sheet.png"))
        assert sheet.shape[1] > sheet.shape[0] > 200  # two rows of three and one
        (tmp_path / "photos" / "3 $x$.png").unlink()
        with pytest.raises(SourceError, match="cannot be read any more"):
            draw_contact_sheet(run, Listing(made.paths.listing), tmp_path / "sheets" / "other.png")
        (tmp_path / "file").touch()
        cv2.imwrite(str(tmp_path / "photos" / "3 $x$.png"), picture_of(3)[..., ::-1])
        with pytest.raises(RunDirectoryError, match="cannot be written"):
            draw_contact_sheet(run, Listing(made.paths.listing), tmp_path / "file" / "sheet.png")
    assert [path.name for path in (tmp_path / "sheets").iterdir()] == ["sheet.png"]
