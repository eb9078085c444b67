"""Which shards count, and whether they add up."""

import pytest

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.account import Account, good_shards
from shardcam.engine.rundir.run_json import read_manifest
from tests.analysis.runs import make_run

SHARDS = (4, 3, 0, 5)  # good samples; one more of each failed


def test_good_shards_are_whole_and_of_this_run(tmp_path):
    run_dir = make_run(tmp_path / "run", SHARDS).paths
    fingerprint = read_manifest(run_dir).fingerprint
    every = [*good_shards(run_dir, 4, fingerprint)]
    assert [(one.shard, one.ok, one.failed) for one in every] == [
        (number, ok, 1) for number, ok in enumerate(SHARDS)
    ]
    assert [one.shard for one in good_shards(run_dir, 2, fingerprint)] == [0, 1]
    run_dir.shard(1).write_bytes(b"no HDF5")
    run_dir.shard(3).write_bytes(run_dir.shard(0).read_bytes())
    bad = []
    assert [one.shard for one in good_shards(run_dir, 4, fingerprint, bad.append)] == [0, 2]
    assert [str(error).partition(": ")[0] for error in bad] == [
        str(run_dir.shard(1)), str(run_dir.shard(3)),
    ]  # fmt: skip
    assert str(bad[1]).endswith("holds shard 0, not 3")
    with pytest.raises(RunDirectoryError, match="shard-000001"):
        list(good_shards(run_dir, 4, fingerprint))


def test_the_account_adds_up_or_says_why_not(tmp_path):
    run_dir = make_run(tmp_path / "run", SHARDS).paths
    account = Account.of(good_shards(run_dir, 4, read_manifest(run_dir).fingerprint))
    assert (account.shards, account.listed, account.ok, account.failed) == (4, 16, 12, 4)
    assert account.bytes == sum(run_dir.shard(i).stat().st_size for i in range(4))
    assert account.problem(16) is None
    assert account.problem(17) == "17 samples planned, 16 listed, 12 ok + 4 failed"
    assert (
        Account(1, 3, 1, 1, 0, (0,) * 8).problem(3)
        == "3 samples planned, 3 listed, 1 ok + 1 failed"
    )
    assert Account.of([]) == Account(0, 0, 0, 0, 0, (0,) * 8)
