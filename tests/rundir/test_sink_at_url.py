"""The HDF5 sink keeps its promises where shards are published at a URL."""

import pytest

from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import UrlRunDir
from shardcam.engine.rundir.shard_file import read_failures
from shardcam.engine.types import shard_name
from tests.rundir.sink_conformance import PROMISES, SPECS, SinkCase, rows_of


@pytest.fixture(params=["memory", "s3"])
def paths(request, tmp_path):
    given = request.getfixturevalue(request.param)
    base = "memory://bucket" if request.param == "memory" else given.bucket
    return UrlRunDir(tmp_path, f"{base}/run")


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_the_promises_of_a_sink(promise, paths):
    def rows(shard):
        local = paths.shards / f"{shard.name}.h5"
        assert paths.fetch(local)
        return rows_of(local)

    promise(
        SinkCase(
            Hdf5Sink(paths, SPECS, "f00d"),
            rows=rows,
            failures=lambda shard: read_failures(paths.shard(shard.index)),
            published=lambda shard: paths.exists(paths.shards / shard_name(shard.index)),
            leftovers=lambda: [entry.name for entry in paths.staging.iterdir()],
        )
    )
