"""A merged index: the rows of all shards in one file that needs nothing beside it."""

from __future__ import annotations

import tracemalloc

import h5py
import numpy as np
import pytest

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir import column
from shardcam.engine.rundir.codec import CODECS
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.merged_index import MERGED, merge_index
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_index import build_index
from tests.child import printed_by
from tests.rundir.sink_conformance import SPECS, make_shard, publish
from tests.rundir.test_shard_index import publish_shards

FILTERS = ("compression", "compression_opts", "fletcher32")


@pytest.fixture
def paths(tmp_path):
    return RunDir(tmp_path / "run")


def files_below(root):
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("codec", CODECS)
def test_it_is_the_index_with_the_rows_in_it(paths, tmp_path, codec):
    sink = Hdf5Sink(paths, SPECS, "f00d", codec)
    for number, failed in enumerate((0, 6, 2, 0)):
        publish(sink, make_shard(number), failed)
    build_index(paths)
    before = files_below(paths.root)
    out = merge_index(paths, codec, tmp_path / "out.h5")
    assert files_below(paths.root) == before
    with h5py.File(out) as merged, h5py.File(paths.index) as index:
        shard = h5py.File(paths.shard(2))
        assert list(datasets(merged)) == [spec.name for spec in SPECS]
        for name, data in datasets(merged).items():
            np.testing.assert_array_equal(data[:], index[name][:], err_msg=name)
            assert not data.is_virtual
            assert (data.dtype, dict(data.attrs)) == (index[name].dtype, dict(index[name].attrs))
            assert [getattr(data, f) for f in FILTERS] == [getattr(shard[name], f) for f in FILTERS]
        assert {n: v for n, v in merged.attrs.items() if n != MERGED} == dict(index.attrs)
        shard.close()


@pytest.mark.process
def test_it_is_read_alone(paths, tmp_path):
    """By another process, which may open few files, where no shard lies."""
    publish_shards(paths, failed=(0, 1))
    (tmp_path / "elsewhere").mkdir()
    merge_index(paths, "gzip").rename(tmp_path / "elsewhere" / "rows.h5")
    code = """
        import sys, h5py
        with h5py.File(sys.argv[1]) as file:
            maps = file["cam/stage.conv/map"][:]
            print(file["sample"][:].tolist(), maps.any(axis=(1, 2, 3)).all())
        """
    printed = printed_by(code, tmp_path / "elsewhere" / "rows.h5")
    assert printed == f"{list(range(11))} True\n"


@pytest.mark.parametrize("out", [None, "out.h5"])
def test_a_damaged_shard_is_named_and_nothing_is_left(paths, tmp_path, out):
    publish_shards(paths, failed=(0, 0))
    build_index(paths)
    with h5py.File(paths.shard(1)) as file:
        place = file["logits"].id.get_chunk_info(0).byte_offset
    with paths.shard(1).open("r+b") as stream:
        stream.seek(place)
        stream.write(bytes(8))
    before = files_below(tmp_path)
    with pytest.raises(RunDirectoryError, match="shard-000001"):
        merge_index(paths, "gzip", out and tmp_path / out)
    assert files_below(tmp_path) == before


@pytest.mark.process
def test_a_full_disk_leaves_the_old_index(paths, tmp_path):
    publish_shards(paths, failed=(0,) * 8)
    build_index(paths)
    before = files_below(tmp_path)
    code = """
        import resource, signal, sys
        from pathlib import Path
        from shardcam.engine.errors import DiskFull
        from shardcam.engine.rundir.run_dir import RunDir
        from shardcam.engine.rundir.merged_index import merge_index

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
        seen = []
        try:
            merge_index(RunDir(Path(sys.argv[1])), "none", None, lambda: seen.append(1))
        except DiskFull:
            print("full", len(seen) < 8)
        """
    assert printed_by(code, paths.root) == "full True\n"
    assert files_below(tmp_path) == before


def test_memory_does_not_grow_with_the_shards(paths, monkeypatch):
    """Forty more shards have 5 MB of rows; a chunk has 10 kB here, not up to 1 MB."""
    monkeypatch.setattr(column, "_CHUNK_BYTES", 10_000)
    peaks = []
    sink = Hdf5Sink(paths, SPECS, "f00d")
    for first, last in ((0, 10), (10, 50)):
        for number in range(first, last):
            publish(sink, make_shard(number, size=60))
        tracemalloc.start()
        merge_index(paths, "gzip")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 200_000
