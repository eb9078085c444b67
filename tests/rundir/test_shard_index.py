"""The index: all shards as one file, made from the shards alone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import h5py
import numpy as np
import pytest

from shardcam.engine.errors import DiskFull, RunDirectoryError
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.own_datasets import datasets
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_index import build_index
from tests.rundir.sink_conformance import (
    SPECS,
    TARGETS,
    failure_of,
    make_shard,
    publish,
)


@pytest.fixture
def paths(tmp_path):
    return RunDir(tmp_path / "run")


def publish_shards(paths, failed, fingerprint="f00d", specs=SPECS):
    """One shard of 6 samples for each number of failures."""
    sink = Hdf5Sink(paths, specs, fingerprint)
    for index, count in enumerate(failed):
        publish(sink, make_shard(index), count)


def test_every_dataset_is_that_of_the_shards_in_their_order(paths):
    publish_shards(paths, failed=(0, 6, 2, 0))
    build_index(paths)
    with h5py.File(paths.index) as index:
        shards = [h5py.File(paths.shard(i)) for i in range(4)]
        assert list(datasets(index, virtual=True)) == [spec.name for spec in SPECS]
        for name, dataset in datasets(index, virtual=True).items():
            rows = np.concatenate([shard[name][:] for shard in shards])
            np.testing.assert_array_equal(dataset[:], rows, err_msg=name)
            assert dataset.dtype == shards[0][name].dtype
            assert dict(dataset.attrs) == dict(shards[0][name].attrs)
        assert dict(index.attrs) == {
            "schema": 1,
            "fingerprint": "f00d",
            "shards": 4,
            "samples_listed": 24,
            "samples_ok": 16,
            "samples_failed": 8,
            "complete": True,
        }
        for shard in shards:
            shard.close()


def test_failures_of_all_shards_are_in_it(paths):
    publish_shards(paths, failed=(1, 0, 2))
    samples = [make_shard(0).samples[5], *make_shard(2).samples[4:]]
    expected = [failure_of(sample) for sample in samples]
    with h5py.File(build_index(paths)) as index:
        for name in ("key", "stage", "error", "message"):
            texts = [getattr(failure, name) for failure in expected]
            assert index[f"failure/{name}"].asstr()[:].tolist() == texts
        assert index["failure/sample"][:].tolist() == [failure.sample for failure in expected]


def test_a_run_without_failures_and_one_without_rows(paths, tmp_path):
    publish_shards(paths, failed=(0, 0))
    with h5py.File(build_index(paths)) as index:
        assert len(index["failure/key"]) == 0
    lost = RunDir(tmp_path / "lost")
    publish_shards(lost, failed=(6, 6))
    with h5py.File(build_index(lost)) as index:
        assert index["cam/stage.conv/map"].shape == (0, TARGETS, 5, 7)
        assert index["key"][:].size == 0
        assert len(index["failure/key"]) == 12


def test_it_is_rebuilt_when_shards_have_come(paths):
    publish_shards(paths, failed=(0,))
    build_index(paths)
    publish_shards(paths, failed=(0, 0))
    build_index(paths)
    with h5py.File(paths.index) as index:
        assert index["sample"][:].tolist() == list(range(12))
    assert sorted(path.name for path in paths.root.iterdir()) == ["index.h5", "shards"]


def test_a_gap_in_the_shards_is_marked(paths):
    publish_shards(paths, failed=(0, 0, 0))
    paths.shard(1).unlink()
    with h5py.File(build_index(paths)) as index:
        assert not index.attrs["complete"]
        assert index["sample"][6:].tolist() == list(range(12, 18))


def test_shards_of_seven_digits_come_last(paths):
    sink = Hdf5Sink(paths, SPECS, "f00d")
    for number in (1_000_000, 999_999):
        publish(sink, make_shard(number))
    with h5py.File(build_index(paths)) as index:
        assert index["sample"][[0, 6]].tolist() == [5_999_994, 6_000_000]


def test_a_moved_run_is_read_where_it_is_now(paths, tmp_path, monkeypatch):
    """Not where it was, nor in a directory of the same names that one happens to stand in."""
    publish_shards(paths, failed=(0, 0))
    build_index(paths)
    moved = paths.root.rename(tmp_path / "moved")
    publish_shards(RunDir(tmp_path / "decoy"), failed=(5, 5))
    monkeypatch.chdir(tmp_path / "decoy")
    with h5py.File(moved / "index.h5") as index:
        assert index["sample"][:].tolist() == list(range(12))


ALONE = """
    import sys
    import h5py
    import numpy as np

    expected = dict(np.load(sys.argv[1]))
    for path in sys.argv[2:]:
        found = {}
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item: found.update({name: item[:]}) if hasattr(item, "dtype") else None
            )
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[f"{path}:{name}"])
        assert len(found) == len([name for name in expected if name.startswith(f"{path}:")])
    for other in ("shardcam", "hdf5plugin", "pandas"):
        try:
            __import__(other)
        except ImportError:
            continue
        raise AssertionError(f"{other} is here too")
    """


@pytest.mark.process
@pytest.mark.parametrize("codec", ["none", "gzip"])
def test_whoever_has_h5py_alone_reads_every_file(paths, tmp_path, codec):
    """In an environment that holds nothing but h5py and the NumPy that it needs."""
    sink = Hdf5Sink(paths, SPECS, "f00d", codec)
    for index in range(3):
        publish(sink, make_shard(index), failed=index)
    written = [build_index(paths), *map(paths.shard, range(3))]
    expected = {}
    for path in written:
        with h5py.File(path) as file:
            for name, data in datasets(file, virtual=True).items():
                expected[f"{path}:{name}"] = data[:].astype(data.dtype.str)
    np.savez(tmp_path / "expected.npz", **expected)
    (tmp_path / "alone").mkdir()
    for package in (h5py, np):
        for found in Path(package.__file__).parents[1].glob(f"{package.__name__}*"):
            (tmp_path / "alone" / found.name).symlink_to(found)
    done = subprocess.run(
        [sys.executable, "-S", "-c", textwrap.dedent(ALONE), tmp_path / "expected.npz", *written],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "alone")},
    )
    assert done.returncode == 0, done.stderr


def test_rows_of_a_vanished_shard_are_sentinels_in_plain_h5py(paths):
    """HDF5 raises nothing: this is why `open_run` looks at every shard."""
    publish_shards(paths, failed=(0, 1))
    build_index(paths)
    paths.shard(1).unlink()
    with h5py.File(paths.index) as index:
        rows = {name: dataset[-1] for name, dataset in datasets(index, virtual=True).items()}
    assert rows["key"] == rows["failure/message"] == b""
    assert rows["sample"] == rows["label"] == rows["failure/sample"] == -9
    assert (rows["top_class"] == -9).all()
    assert np.isnan(rows["cam/stage.conv/map"]).all()
    assert np.isnan(rows["score"]).all()
    assert rows["flags"] == 255


def test_shards_of_different_runs_are_refused(paths):
    publish_shards(paths, failed=(0,))
    publish_shards(paths, failed=(0, 0), fingerprint="beef")
    with pytest.raises(RunDirectoryError, match=r"shard-000001.*beef"):
        build_index(paths)


def test_shards_with_different_datasets_are_refused(paths):
    publish_shards(paths, failed=(0,))
    fewer = tuple(spec for spec in SPECS if spec.name != "logits")
    publish_shards(paths, failed=(0, 0), specs=fewer)
    with pytest.raises(RunDirectoryError, match="shard-000001"):
        build_index(paths)


def test_a_damaged_shard_is_named_and_the_old_index_stays(paths):
    publish_shards(paths, failed=(0, 0))
    before = build_index(paths).read_bytes()
    paths.shard(1).write_bytes(b"not HDF5")
    with pytest.raises(RunDirectoryError, match="shard-000001"):
        build_index(paths)
    assert paths.index.read_bytes() == before


def test_a_run_without_shards_has_no_index(paths):
    with pytest.raises(RunDirectoryError, match="no shard"):
        build_index(paths)


def test_a_full_disk_leaves_the_old_index(paths, monkeypatch):
    publish_shards(paths, failed=(0,))
    before = build_index(paths).read_bytes()

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(DiskFull):
        build_index(paths)
    assert paths.index.read_bytes() == before
    assert list(paths.staging.iterdir()) == []


@pytest.mark.process
def test_plain_h5py_reads_it(paths):
    publish_shards(paths, failed=(0, 1))
    build_index(paths)
    code = f"""
        import h5py
        with h5py.File({str(paths.index)!r}) as file:
            assert file["key"].asstr()[10] == "größe/0000010.png"
            assert file["cam/stage.conv/map"][10].any()
        """
    subprocess.run([sys.executable, "-I", "-c", textwrap.dedent(code)], check=True)
