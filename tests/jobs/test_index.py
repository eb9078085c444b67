"""``shardcam index``: what it writes, and what it says of it."""

import resource

import h5py
import numpy as np
import pytest
from click.testing import CliRunner

from shardcam import open_run
from shardcam.engine.errors import ConfigError, RunDirectoryError
from shardcam.engine.rundir.check_index import check_index
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.jobs.commands.index import index
from tests.analysis.runs import make_run


@pytest.fixture
def made(tmp_path):
    return make_run(tmp_path / "run")


def run_index(*arguments):
    return CliRunner().invoke(index, [*map(str, arguments)])


def test_a_run_with_a_merged_index_is_the_same_run(made):
    done = run_index(made.paths.root, "--merge")
    assert "holds all rows itself, from 4 of 4 shards" in done.output
    with open_run(made.paths.root) as run, h5py.File(made.paths.index) as merged:
        assert not merged["sample"].is_virtual
        for name in ("key", "label", "crop"):
            np.testing.assert_array_equal(run[name][:], made.rows[name])
        assert [one.sample for one in run.failures] == made.rows["failure/sample"].tolist()
        assert [len(shard) for shard in run.shards()] == [4, 3, 5]


def test_a_merged_index_of_other_shards_is_refused_until_it_is_made_anew(made):
    run_index(made.paths.root, "--merge")
    made.paths.shard(3).unlink()
    with pytest.raises(RunDirectoryError, match="merged from other shards than the run's"):
        check_index(made.paths, read_manifest(made.paths).fingerprint)
    assert "over 3 of 4 shards" in run_index(made.paths.root).output
    assert len(check_index(made.paths, read_manifest(made.paths).fingerprint)) == 3


def test_a_merged_file_is_written_beside_the_run_and_over_nothing(made, tmp_path):
    before = made.paths.index.read_bytes()
    run, out = made.paths.root, tmp_path / "out.h5"
    assert run_index(run, "--merge", "--out", out).exit_code == 0
    assert made.paths.index.read_bytes() == before
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["sample"][:], made.rows["sample"])
    for words, *arguments in (
        ("exists; --force replaces it", "--merge", "--out", out),
        ("there is no folder", "--merge", "--out", tmp_path / "none" / "x.h5"),
        ("leave --out out", "--merge", "--out", run / "index.h5"),
        ("takes a path", "--merge", "--out", "s3://bucket/x.h5"),
        ("--out is for --merge", "--out", out),
        ("--force is for --out", "--merge", "--force"),
    ):
        with pytest.raises(ConfigError, match=words):
            raise run_index(run, *arguments).exception
    out.write_text("old")
    assert run_index(run, "--merge", "--out", out, "--force").exit_code == 0
    assert h5py.is_hdf5(out)


@pytest.mark.parametrize(("limit", "told"), [(67, True), (68, False)])
def test_more_shards_than_may_be_open_are_told_of(made, monkeypatch, limit, told):
    """h5py needs 4 files for them, and every process some of its own."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, 4096))
    done = run_index(made.paths.root)
    assert "over 4 of 4 shards" in done.output
    assert ("plain h5py needs ulimit -n 128 to read the index" in done.output) == told
