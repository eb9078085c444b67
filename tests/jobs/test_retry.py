"""What could not be read is tried again, damaged shards are refilled, and nothing is lost."""

import json
import signal
import time

import numpy as np
import pytest

from shardcam.engine.rundir.replace_shards import bring_back, set_aside
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Failure
from shardcam.jobs.commands import retry_failed
from tests.jobs.command import LOCAL, SMALL, assert_same, contents, shardcam, start
from tests.jobs.images import jpeg, make_folder


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("retry") / "images"
    reasons = make_folder(folder, 40, bad=4)
    return folder, [folder / key for key in reasons]


def extract(folder, run):
    return shardcam("extract", folder, *SMALL, *LOCAL, "--out", run, "--max-pixels", 10**6)


def test_failed_samples_are_tried_again(source, tmp_path):
    folder, broken = source
    assert extract(folder, tmp_path / "run")[0] == 0
    before = contents(tmp_path / "run")
    untouched = {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "shards").glob("*.h5")}
    saved = [path.read_bytes() for path in broken]
    try:
        broken[0].write_bytes(jpeg(np.random.RandomState(0), 80, 100))
        code, out, err = shardcam("retry-failed", tmp_path / "run", *LOCAL)
        assert code == 0, err
        assert "40 listed = 37 ok + 3 failed" in out
        rows = contents(tmp_path / "run")
        assert len(rows["key"]) == len(before["key"]) + 1
        assert str(broken[0].relative_to(folder)).encode() in rows["key"].tolist()
        same = [p for p, time in untouched.items() if p.stat().st_mtime_ns == time]
        assert 0 < len(same) < len(untouched)  # shards without failures are left alone
        assert not RunDir(tmp_path / "run").set_aside.exists()
        assert shardcam("verify", tmp_path / "run", "--deep")[0] == 0
    finally:
        for path, data in zip(broken, saved):
            path.write_bytes(data)


@pytest.mark.parametrize(("stage", "apart"), [("worker", True), ("decode", False)])
def test_an_image_that_ended_its_process_is_tried_apart(
    source, tmp_path, monkeypatch, stage, apart
):
    folder, _ = source
    given = []
    assert extract(folder, tmp_path / "run")[0] == 0
    failure = Failure("key", 0, stage, "", "")
    monkeypatch.setattr(retry_failed, "read_failures", lambda _: [failure])
    monkeypatch.setattr(retry_failed, "run_extract", lambda *options: given.append(options[-1]))
    assert shardcam("retry-failed", tmp_path / "run", *LOCAL)[0] == 0
    assert given == [apart]


def test_what_fails_again_is_counted(source, tmp_path):
    folder, _ = source
    assert extract(folder, tmp_path / "run")[0] == 0
    before = contents(tmp_path / "run")
    code, out, err = shardcam("retry-failed", tmp_path / "run", *LOCAL)
    assert (code, err) == (0, "")
    assert "0 of 4 mended, 4 still fail" in out
    code, out, err = shardcam("retry-failed", tmp_path / "run", *LOCAL, "--max-failed", "0.05")
    assert code == 3
    assert "0 of 4 mended, 4 still fail" in out
    assert "4 of 40 samples failed, more than --max-failed 0.05 allows" in err
    assert_same(contents(tmp_path / "run"), before)


def test_where_a_run_was_computed_is_not_of_the_run(source, tmp_path, monkeypatch):
    folder, _ = source
    assert extract(folder, tmp_path / "run")[0] == 0
    file = RunDir(tmp_path / "run").run_json
    stored = json.loads(file.read_text())
    gone = {"address": "10.0.0.1:6379", "workers": 40, "cache": "/gone", "gpus_per_worker": 0.5}
    stored["config"] |= gone | {"executor": "ray"}
    file.write_text(json.dumps(stored))
    given = []
    monkeypatch.setattr(retry_failed, "run_extract", lambda config, *_: given.append(config))
    for options in ((), LOCAL, ("--address", "head:6379", "--workers", 3, "--cache", "here")):
        assert shardcam("retry-failed", tmp_path / "run", *options)[0] == 0
    defaults = dict.fromkeys(gone) | {"executor": "auto", "gpus_per_worker": 0.0}
    expected = [{}, {"executor": "local"}, {"address": "head:6379", "workers": 3, "cache": "here"}]
    for config, changed in zip(given, expected, strict=True):
        assert {n: getattr(config, n) for n in defaults} == defaults | changed
        assert config.max_pixels == 10**6  # of the run
    code, _, err = shardcam("retry-failed", tmp_path / "run", "--workers", 0)
    assert code == 2 and "--workers: " in err


def test_nothing_failed_is_said(tmp_path):
    make_folder(tmp_path / "images", 3)
    assert extract(tmp_path / "images", tmp_path / "run")[0] == 0
    code, out, _ = shardcam("retry-failed", tmp_path / "run")
    assert code == 0
    assert "nothing to do" in out


@pytest.mark.process
def test_whoever_is_killed_in_between_loses_nothing(source, tmp_path):
    folder, _ = source
    assert extract(folder, tmp_path / "run")[0] == 0
    before = contents(tmp_path / "run")
    process = start("retry-failed", tmp_path / "run", *LOCAL)
    while process.poll() is None and not RunDir(tmp_path / "run").set_aside.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    code, _, err = extract(folder, tmp_path / "run")
    assert code == 0, err
    assert_same(contents(tmp_path / "run"), before)
    assert not RunDir(tmp_path / "run").set_aside.exists()


def test_what_is_not_replaced_comes_back(tmp_path):
    paths = RunDir(tmp_path)
    paths.shards.mkdir()
    for number in range(3):
        paths.shard(number).write_text(f"old {number}")
    with pytest.raises(ConnectionError), set_aside(paths, [0, 2]):
        assert not paths.shard(0).exists()
        paths.shard(0).write_text("new 0")
        raise ConnectionError  # no error of the disk that holds the shards
    assert [paths.shard(n).read_text() for n in range(3)] == ["new 0", "old 1", "old 2"]
    bring_back(paths)  # harmless when there is nothing
    assert not paths.set_aside.exists()


def test_an_unfinished_run_is_refused_with_what_completes_it(source, tmp_path):
    folder, _ = source
    assert extract(folder, tmp_path / "run")[0] == 0
    RunDir(tmp_path / "run").shard(1).unlink()
    code, _, err = shardcam("retry-failed", tmp_path / "run")
    assert code == 1
    assert "4 of 5 shards are done; the same extract command completes it" in err


def test_damaged_shards_are_moved_aside_and_refilled(source, tmp_path):
    folder, _ = source
    assert extract(folder, tmp_path / "run")[0] == 0
    before = contents(tmp_path / "run")
    paths = RunDir(tmp_path / "run")
    paths.shard(1).write_bytes(paths.shard(1).read_bytes()[:3000])
    paths.shard(2).unlink()
    code, _, err = extract(folder, tmp_path / "run")
    assert code == 1
    assert "verify --repair moves it aside" in err
    code, out, _ = shardcam("status", tmp_path / "run")
    assert code == 0
    assert "damaged" in out
    assert f"1 shard, first: {paths.shard(1)}: unreadable (" in out
    assert "; shardcam verify --repair moves them aside" in out
    code, _, err = shardcam("verify", tmp_path / "run", "--repair")
    assert code == 1
    assert "2 of 5 shards missing or damaged; 1 moved to" in err
    assert extract(folder, tmp_path / "run")[0] == 0
    assert_same(contents(tmp_path / "run"), before)
    assert shardcam("verify", tmp_path / "run", "--deep")[0] == 0
