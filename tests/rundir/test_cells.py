"""Maps of pictures at their own size: cells of all of them one after another."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.codec import CODECS
from shardcam.engine.rundir.column import _CELLS
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.merged_index import merge_index
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.schema import dataset_specs
from shardcam.engine.rundir.shard_file import check_shard
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.types import NO_CLASS, Copies, GridMaps
from tests.rundir.sink_conformance import (
    CLASSES,
    KEY_BYTES,
    LAYER,
    TARGETS,
    VIEW,
    failure_of,
    make_batch,
    make_shard,
)
from tests.rundir.test_shard_file import seal

COPIES = Copies((1.0, 0.5, 2.0), flip=True)
SPECS = dataset_specs(
    (LAYER,), (LAYER,), CLASSES, TARGETS, VIEW, KEY_BYTES, ("maps", "logits"), copies=COPIES
)
CAM = "cam/stage.conv/"
TARGET = np.array([[2, 0], [1, NO_CLASS], [NO_CLASS, NO_CLASS]], np.int32)


@pytest.fixture
def paths(tmp_path):
    return RunDir(tmp_path / "run")


def native_batch(samples, grids):
    """Random maps of the given rows and columns at each scale, with absent classes among them."""
    random = np.random.default_rng(samples[0].index)
    target = TARGET[[sample.index % len(TARGET) for sample in samples]]
    shape = target.shape
    maps = tuple(random.uniform(-1, 1, (*shape, *grid)).astype(np.float32) for grid in grids)
    scale = random.uniform(1, 2, (*shape, len(grids))).astype(np.float32)
    scale[target == NO_CLASS] = np.nan
    batch = replace(make_batch(samples), target=target, maps={}, heatmap=None)
    return replace(batch, grids={LAYER.name: GridMaps(maps, scale)})


def publish_native(paths, index=0, codec="gzip", large=1):
    """Four pictures of two sizes; the fifth fails. What was written, in order."""
    shard = make_shard(index, 5)
    batches = [
        native_batch(shard.samples[:3], ((2 * large, 3), (1, 2), (4, 6))),
        native_batch(shard.samples[3:4], ((3, 3 * large), (2, 1), (5, 7))),
    ]
    writer = Hdf5Sink(paths, SPECS, "f00d", codec).open(shard)
    for batch in batches:
        writer.write(batch)
    assert writer.commit([failure_of(shard.samples[4])])
    return batches


def maps_of(file):
    """By plain h5py, of each image (k,h,w) at each scale."""
    for image in range(len(file["key"])):
        grid, classes = file[CAM + "grid"][:], (file["target"][:] >= 0).sum(axis=1)
        counts = classes * grid.prod(axis=2).sum(axis=1)
        ends = counts.cumsum()
        rows = file[CAM + "cells"][ends[image] - counts[image] : ends[image]]
        rows = rows.reshape(classes[image], grid[image].prod(axis=1).sum())
        parts = np.split(rows, grid[image].prod(axis=1).cumsum()[:-1], axis=1)
        yield [part.reshape(-1, *size) for part, size in zip(parts, grid[image], strict=True)]


def expected_maps(batches):
    for batch in batches:
        maps = batch.grids[LAYER.name].normalized
        for row, target in enumerate(batch.target):
            yield [one[row][target != NO_CLASS] for one in maps]


@pytest.mark.parametrize("codec", CODECS)
def test_maps_come_back_as_written(paths, codec):
    batches = publish_native(paths, codec=codec)
    with h5py.File(paths.shard(0)) as file:
        assert [spec.name for spec in SPECS] == list(datasets(file))
        for found, wanted in zip(maps_of(file), expected_maps(batches), strict=True):
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other.astype(np.float16))
        np.testing.assert_array_equal(
            file[CAM + "scale"][:], np.concatenate([b.grids[LAYER.name].scale for b in batches])
        )
        assert file[CAM + "cells"].attrs["scales"].tolist() == [1, 0.5, 2]
        assert file[CAM + "cells"].attrs["flip"]
    assert check_shard(paths.shard(0), 0, "f00d", deep=True) is None


def test_more_cells_than_a_chunk_has(paths):
    batches = publish_native(paths, large=_CELLS // 9)
    with h5py.File(paths.shard(0)) as file:
        assert len(file[CAM + "cells"]) > _CELLS
        for found, wanted in zip(maps_of(file), expected_maps(batches), strict=True):
            np.testing.assert_array_equal(found[0], wanted[0].astype(np.float16))
    assert check_shard(paths.shard(0), 0, "f00d", deep=True) is None


def test_a_shard_without_any_picture(paths):
    shard = make_shard()
    assert Hdf5Sink(paths, SPECS, "f00d").open(shard).commit(map(failure_of, shard.samples))
    publish_native(paths, 1)
    with h5py.File(build_index(paths)) as index, h5py.File(paths.shard(1)) as file:
        np.testing.assert_array_equal(index[CAM + "cells"][:], file[CAM + "cells"][:])


@pytest.mark.parametrize("build", [build_index, lambda paths: merge_index(paths, "gzip")])
def test_the_index_has_the_cells_of_all_shards(paths, build):
    batches = [batch for number in range(3) for batch in publish_native(paths, number)]
    with h5py.File(build(paths)) as index:
        for found, wanted in zip(maps_of(index), expected_maps(batches), strict=True):
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_array_equal(one, other.astype(np.float16))
        with h5py.File(paths.shard(0)) as shard:
            attributes = shard[CAM + "cells"].attrs
            assert {**index[CAM + "cells"].attrs}.keys() == {**attributes}.keys()
            assert (index[CAM + "cells"].attrs["scales"] == attributes["scales"]).all()


def change(path, name, edit):
    """Make a dataset anew, with other rows."""
    with h5py.File(path, "r+") as file:
        rows, attributes = edit(file[name][:]), dict(file[name].attrs)
        del file[name]
        if rows is not None:
            file.create_dataset(name, data=rows).attrs.update(attributes)
    seal(path)


@pytest.mark.parametrize(
    ("name", "edit", "problem"),
    [
        ("cells", lambda cells: cells[:-1], "cells has 187 cells, not 188"),
        ("grid", lambda grid: grid[:, [1, 1, 2]], "cells has 188 cells, not 162"),
        ("grid", lambda grid: -grid, "sizes that no map has"),
        ("grid", lambda grid: grid[:, :2], "grid has 2 scales, .*scale 3"),
        ("grid", lambda grid: None, "parts of them"),
        ("scale", lambda scale: scale[:, :, 0], "parts of them"),
        ("cells", lambda cells: cells[:, None], "which none of a run is"),
    ],
)
def test_parts_that_do_not_fit_are_found(paths, name, edit, problem):
    publish_native(paths)
    change(paths.shard(0), CAM + name, edit)
    with pytest.raises(AssertionError, match=problem):
        assert check_shard(paths.shard(0), 0, "f00d") is None
    with pytest.raises(RunDirectoryError, match=problem):
        build_index(paths)
