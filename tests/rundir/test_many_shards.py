"""Runs of many shards at a URL: what is asked for at once, and that it is the same."""

from collections import Counter

import fsspec
import h5py
import numpy as np
import pytest

from shardcam.engine.analysis.open_run import open_run
from shardcam.engine.errors import RunDirectoryError, StoreError
from shardcam.engine.io import remote_file as streams
from shardcam.engine.io import urls
from shardcam.engine.rundir.merged_index import merge_index
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import UrlRunDir
from shardcam.engine.rundir.shard_file import check_shard, read_failures, read_shard_summary
from shardcam.engine.rundir.shard_index import build_index
from tests.rundir.test_shard_file import make_run

SHARDS = 20


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("many") / "run", [i % 3 == 0 for i in range(SHARDS)])


@pytest.fixture
def there(made, s3, monkeypatch, tmp_path):
    """The run at a URL, whose server takes its time."""
    monkeypatch.setenv("SHARDCAM_SCRATCH", str(tmp_path / "scratch"))
    fsspec.filesystem("s3").put(str(made[0].root), f"{s3.bucket}/run", recursive=True)
    (tmp_path / "here").mkdir()
    s3.asked.clear()
    s3.delay, s3.most = 0.05, 0
    return UrlRunDir(tmp_path / "here", f"{s3.bucket}/run")


def asked_of_shards(s3):
    return Counter(path for _, path, _ in s3.asked if "/shards/shard-" in path)


def test_a_run_is_opened_and_copied_together(made, there, s3):
    with open_run(there.url) as run, open_run(made[0].root) as here:
        assert run["key"][:].tolist() == here["key"][:].tolist()
        for name in ("sample", "top_score"):
            np.testing.assert_array_equal(run[name][:], here[name][:])
        assert run.failures == here.failures
    assert s3.most >= 16
    assert set(asked_of_shards(s3).values()) == {2}  # its ends, all of it


def test_shards_are_looked_at_together(made, there, s3):
    every = range(SHARDS)
    for number, shard in there.open_shards(every):
        local = made[0].shard(number)
        assert read_shard_summary(shard) == read_shard_summary(local)
        assert read_failures(shard) == read_failures(local)
        assert check_shard(shard, number, made[1], deep=True) is None
    assert s3.most >= 16
    assert set(asked_of_shards(s3).values()) == {1}
    build_index(there)


def test_rows_are_merged_from_there_and_to_there(made, there, s3, tmp_path):
    """The file at the URL is whole: it needs no copy of the shards beside it."""
    s3.delay = 0
    for out in (None, tmp_path / "out.h5"):
        path = merge_index(there, "gzip", out)
        if out is None:
            path = tmp_path / "got.h5"
            fsspec.filesystem("s3").get_file(f"{there.url}/index.h5", str(path))
        with h5py.File(path) as merged, h5py.File(made[0].index) as index:
            for name, data in datasets(index, virtual=True).items():
                np.testing.assert_array_equal(merged[name][:], data[:], err_msg=name)
    with open_run(there.url) as run, open_run(made[0].root) as here:
        assert run["key"][:].tolist() == here["key"][:].tolist()


def test_files_larger_than_their_ends_are_read_in_between(made, there, s3, monkeypatch):
    monkeypatch.setattr(streams, "_END", 3000)
    monkeypatch.setattr(streams, "BLOCK", 4096)
    for number, shard in there.open_shards(range(5)):
        assert check_shard(shard, number, made[1], deep=True) is None
        assert read_shard_summary(shard) == read_shard_summary(made[0].shard(number))


def test_what_does_not_come_at_once_is_asked_for_again(there, s3):
    s3.failing = 0
    opened = there.open_shards(range(3))
    s3.delay, s3.failing = 0, 5
    assert [read_shard_summary(shard).shard for _, shard in opened] == [0, 1, 2]
    assert s3.failing == 0


def test_one_that_is_missing_is_named(made, there, s3, monkeypatch):
    fsspec.filesystem("s3").rm_file(there.shard(7))
    with pytest.raises(RunDirectoryError, match=r"shard-000007\.h5: missing"):
        open_run(there.url)
    told = []
    for _, shard in there.open_shards((6, 7, 8)):
        try:
            told.append(read_shard_summary(shard).shard)
        except RunDirectoryError as error:
            told.append(str(error))
    assert told == [6, f"{there.shard(7)}: missing", 8]
    monkeypatch.setattr(urls, "_PAUSES", ())
    s3.stop()
    try:
        with pytest.raises(StoreError, match="cannot be read"):
            list(there.open_shards((6, 7)))
    finally:
        s3.start()
