"""Maps of pictures at their own sizes: read in any order, placed, exported, or refused."""

import json

import cv2
import numpy as np
import pytest

from shardcam import export, open_run
from shardcam.engine.analysis.class_means import class_means
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.types import NO_CLASS, Copies
from shardcam.kernels import heatmap_u8
from tests.analysis.native_runs import FOUR, MAP, SIZES, grid_of, make_native_run
from tests.rundir.test_cells import change


@pytest.fixture(scope="module", params=[Copies(), Copies((0.5,), flip=True), FOUR], ids=str)
def made(request, tmp_path_factory):
    return make_native_run(tmp_path_factory.mktemp("native") / "run", copies=request.param)


@pytest.fixture
def maps(made):
    with open_run(made.paths.root) as run:
        yield run.cam("stage/conv")


def enlarged(maps, size):
    """OpenCV's bilinear, of each map."""
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_LINEAR) for one in maps])


def expected(made, i):
    """The map of a sample: as stored, or the sum of the rectified ones on a quarter of the size."""
    raw = made.raw(i)
    if len(raw) == 1:
        return raw[0]
    small = tuple(-(-side // 4) for side in SIZES[i])
    return sum(enlarged(np.maximum(one, 0), small) for one in raw)


def test_every_way_to_index(made, maps):
    whole = [expected(made, i) for i in range(len(SIZES))]
    assert maps.shape == (6, 2) and len(maps) == 6 and maps.dtype == np.float32
    for index in (3, -1, np.int64(2)):
        np.testing.assert_allclose(maps[index], whole[index], rtol=1e-6)
    for index, rows in (
        (slice(None), range(6)),
        (slice(4, 1, -1), (4, 3, 2)),
        ([5, 0, 0, 3], (5, 0, 0, 3)),
        (np.arange(6) % 2 == 1, (1, 3, 5)),
        (slice(0, 0), ()),
    ):
        for k in (slice(None), 0, -1, [1, 0]):
            found = maps[index, k]
            assert isinstance(found, list) and len(found) == len(rows)
            for one, i in zip(found, rows, strict=True):
                assert one.dtype == np.float32
                np.testing.assert_allclose(one, whole[i][k], rtol=1e-6)
    np.testing.assert_allclose(maps[5, 0, 1:, -1], whole[5][0, 1:, -1], rtol=1e-6)
    assert [one.shape for one in maps] == [one.shape for one in whole]


@pytest.mark.parametrize("index", [6, -7, (0, 2), "x", [[0]], np.ones(5, bool)], ids=str)
def test_what_is_no_index(maps, index):
    with pytest.raises(IndexError, match=r"there are|a mask of|not a number"):
        maps[index]


def test_the_maps_of_each_scale(made, maps):
    for i, found in enumerate(maps.grids(slice(None))):
        assert isinstance(found, tuple)
        for one, raw in zip(found, made.raw(i), strict=True):
            np.testing.assert_allclose(one, raw, rtol=1e-6)
            assert (np.isnan(one).all(axis=(1, 2)) == (made.target[i] == NO_CLASS)).all()
    assert [one.shape for one in maps.grids(5)] == [one.shape for one in made.raw(5)]


def test_selections_and_shards_have_the_same_maps(made):
    with open_run(made.paths.root) as run:
        whole = run.cam(MAP)[:]
        chosen = [1, 2, 4, 5]
        for one, i in zip(run.take(chosen).cam(MAP)[:], chosen, strict=True):
            np.testing.assert_array_equal(one, whole[i])
        by_shard = [one for shard in run.take(chosen).shards() for one in shard.cam(MAP)[:]]
        for one, i in zip(by_shard, chosen, strict=True):
            np.testing.assert_array_equal(one, whole[i])
        assert list(run.table.height) == [height for height, _ in SIZES]
        assert len(run.select(predicted=range(6))) == len(run)
    with pytest.raises(ValueError, match="the file is closed"):
        run.cam(MAP)


def test_the_cells_themselves_are_no_column(made):
    with (
        open_run(made.paths.root) as run,
        pytest.raises(ConfigError, match=r"a row for each cell of a map; see cam\('stage.conv'\)"),
    ):
        run[f"cam/{MAP}/cells"]


def test_normalized_and_heatmaps(made, maps):
    heat = maps.heatmap((50, 41))
    assert heat.shape == (6, 2, 50, 41) and heat.dtype == np.uint8
    for i, one in enumerate(maps.normalized()):
        raw = np.maximum(np.nan_to_num(expected(made, i)), 0).astype(np.float64)
        raw -= raw.min(axis=(1, 2), keepdims=True)
        high = raw.max(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(one, raw / np.where(high, high, 1), rtol=0, atol=1e-5)
        plain = heatmap_u8(one, (50, 41))
        assert abs(heat[i].astype(int) - plain).max() <= 1
        np.testing.assert_array_equal(heat[i, 1], heat[i][1])
    assert heat[[]].shape == (0, 2, 50, 41)
    with pytest.raises(ValueError, match=r"size: expected positive numbers, got \(0, 5\)"):
        maps.heatmap((0, 5))


def test_on_the_original_picture(made, maps):
    for i, (size, placed) in enumerate(zip(SIZES, maps.each_on_original(0), strict=True)):
        assert placed.shape == size
        np.testing.assert_array_equal(placed, maps.on_original(i))
        assert abs(placed.astype(int) - maps.heatmap(size)[i, 0]).max() <= 1
        picture = np.full((*size, 3), 100, np.uint8)
        assert maps.overlay(i, picture, alpha=0.0).tolist() == picture.tolist()
        for k in (0, 1):
            assert maps.on_original(i, k).any() != (made.target[i, k] == NO_CLASS)
    with pytest.raises(ValueError, match=r"picture: expected uint8 \(33, 49, 3\)"):
        maps.overlay(0, np.zeros((49, 33, 3), np.uint8))


def test_groups_are_of_pictures_of_one_size(made, maps):
    groups = list(maps.grouped([0, 5, 3, 1, 2, 4]))
    assert [places.tolist() for places, _ in groups] == [[0, 3], [1], [2, 5], [4]]
    np.testing.assert_array_equal(groups[2][1], np.stack([maps[3], maps[4]]))


def test_masks_and_regions_are_of_each_picture(made, tmp_path):
    with open_run(made.paths.root) as run:
        assert export.masks(run, tmp_path / "masks", MAP, 0.4) == 5  # one has no class
        paths = sorted((tmp_path / "masks").iterdir())
        masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
        placed = [*run.take([0, 1, 2, 4, 5]).cam(MAP).each_on_original()]
        for mask, levels in zip(masks, placed, strict=True):
            np.testing.assert_array_equal(mask > 0, levels >= 0.4 * 255)
        assert [mask.shape for mask in masks] == [*SIZES[:3], *SIZES[4:]]
        assert export.coco(run, tmp_path / "regions.json", MAP, 0.4)
    found = json.loads((tmp_path / "regions.json").read_text())
    assert [(one["height"], one["width"]) for one in found["images"]] == list(SIZES)
    for one in found["annotations"]:
        assert one["segmentation"]["size"] == list(SIZES[one["image_id"] - one["image_id"] // 5])


def test_what_takes_one_size_takes_maps_of_one_size(made, tmp_path):
    with open_run(made.paths.root) as run:
        for use in (
            lambda some: export.npy(some, tmp_path / "maps.npy", MAP),
            lambda some: export.xarray(some, MAP),
            lambda some: class_means(some, MAP),
        ):
            with pytest.raises(ConfigError, match=f"takes maps of one size; those of {MAP} have"):
                use(run)
        same = run.take(run["image_size"][:, 0] == 64)
        export.npy(same, tmp_path / "maps.npy", MAP, target=1)
        stacked = np.stack(same.cam(MAP)[:, 1])
        np.testing.assert_array_equal(np.load(tmp_path / "maps.npy"), stacked)
        array = export.xarray(same, MAP)
        np.testing.assert_array_equal(array.values, np.stack(same.cam(MAP)[:]))
        means = class_means(same, MAP)
        assert means.counts.sum() == 1 and means.maps.shape[1:] == stacked.shape[1:]
        none = run.take([])
        assert export.npy(none, tmp_path / "none.npy", MAP) == 0
        assert export.xarray(none, MAP).shape == (0, 2, 1, 1)


def test_maps_of_one_size_are_an_array(tmp_path):
    made = make_native_run(tmp_path / "run", sizes=((32, 48),) * 3)
    with open_run(made.paths.root) as run:
        assert np.asarray(run.cam(MAP)).shape == (3, 2, *grid_of((32, 48), 1))


@pytest.mark.parametrize(
    ("name", "edit", "problem"),
    [
        ("cells", lambda cells: cells[:-1], r"cells has \d+ cells, not \d+"),
        (
            "grid",
            lambda grid: np.where(np.arange(4)[:, None, None] == 3, 1 << 20, grid),
            "no map has",
        ),
        ("scale", lambda scale: scale[:-1], "scale is"),
    ],
)
def test_maps_that_claim_too_much_are_damage(tmp_path, name, edit, problem):
    """Of a picture without a class no cell tells how large its maps are."""
    made = make_native_run(tmp_path / "run")
    with open_run(made.paths.root) as run:
        change(made.paths.shard(0), f"cam/{MAP}/{name}", edit)
        for rows in (3, slice(None)):
            with pytest.raises(RunDirectoryError, match=problem):
                run.cam(MAP)[rows]
        assert run.cam(MAP)[5].shape == (2, *grid_of(SIZES[5], 1))
