"""Several commands work on the parts of one run at once, and one completes it."""

import json
import threading

import pytest

from shardcam.engine.errors import RunDirectoryError
from shardcam.engine.rundir.event_log import read_events
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.types import Part
from tests.jobs.command import SMALL, assert_same, contents, shardcam, start
from tests.jobs.images import make_folder

LOCAL = (*SMALL, "--executor", "local", "--shard-size", 4)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "images"
    make_folder(folder, 30)
    return folder


@pytest.fixture(scope="module")
def undisturbed(images, tmp_path_factory):
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    code, _, err = shardcam("extract", images, *LOCAL, "--out", run)
    assert code == 0, err
    return run


def test_every_shard_is_in_one_part():
    for shards, of in ((10, 3), (2, 5), (7, 1)):
        parts = [Part(number, of).shards(shards) for number in range(1, of + 1)]
        assert sorted(n for part in parts for n in part) == [*range(shards)]


@pytest.mark.process
def test_parts_at_once_and_the_command_that_closes_the_run(images, undisturbed, tmp_path):
    """They begin the run together: one of them lists the source, the other waits for it."""
    run = tmp_path / "run"
    command = ("extract", images, *LOCAL, "--out", run)
    both = [start(*command, "--part", f"{number}/2") for number in (1, 2)]
    for number, process in enumerate(both, 1):
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert f"part {number}/2: 4 shards, of which 4 done now; " in out
    assert not (run / "index.h5").exists() and not (run / "report.json").exists()
    assert not [path for path in run.iterdir() if ".lock" in path.name]

    code, out, err = shardcam("status", run)
    assert "8 of 8 done" in out and "the same extract command writes the index" in out
    code, out, err = shardcam(*command)
    assert code == 0, err
    assert "30 listed = 30 ok + 0 failed" in out
    assert_same(contents(run), contents(undisturbed))
    report = json.loads((run / "report.json").read_text())
    assert (report["ok"], report["shards_done_now"]) == (30, 0)
    assert report["stage_seconds"]["forward"] > 0
    assert shardcam("verify", run, "--deep")[0] == 0
    assert "part" not in json.loads((run / "run.json").read_text())["config"]
    done = [event for event in read_events(RunDir(run)) if event["kind"] == "shard_done"]
    assert sorted(event["shard"] for event in done) == [*range(8)]
    assert {event["part"][-12:-6] for event in done} == {"1-of-2", "2-of-2"}


def test_what_a_part_lacks_is_done_by_the_command_that_closes_the_run(
    images, undisturbed, tmp_path
):
    command = ("extract", images, *LOCAL, "--out", tmp_path / "run")
    assert shardcam(*command, "--part", "2/3")[0] == 0
    code, out, _ = shardcam(*command, "--part", "2/3")
    assert code == 0 and "part 2/3: 3 shards, of which 0 done now; 10 images = 10 ok" in out
    code, out, _ = shardcam(*command)
    assert code == 0 and "8, of which 5 done now" in out
    assert_same(contents(tmp_path / "run"), contents(undisturbed))


def test_a_part_without_shards_does_nothing(images, tmp_path):
    command = ("extract", images, *LOCAL, "--out", tmp_path / "run")
    code, out, err = shardcam(*command, "--part", "9/9")
    assert code == 0, err
    assert "part 9/9: 0 shards" in out


def test_the_account_follows_shards_that_were_computed_again(images, undisturbed, tmp_path):
    """By parts, after the run was closed: some images are gone since."""
    source, run = tmp_path / "images", tmp_path / "run"
    make_folder(source, 8)
    command = ("extract", source, *LOCAL, "--out", run)
    assert shardcam(*command)[0] == 0
    next(iter(sorted(source.rglob("*.jpg")))).unlink()
    (run / "shards" / "shard-000000.h5").unlink()
    assert shardcam(*command, "--part", "1/2")[0] == 0
    code, out, err = shardcam(*command)
    assert code == 0, err
    assert "8 listed = 7 ok + 1 failed" in out
    assert json.loads((run / "report.json").read_text())["failed"] == 1
    assert len((run / "failures.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--part", "3/2"), "--part: takes I/N such as 3/8"),
        (("--part", "0/2"), "--part: takes I/N"),
        (("--part", "2"), "--part: takes I/N"),
        (("--part", "1/2", "--executor", "ray"), "--part is for --executor local"),
        (("--part", "1/2", "--layer", "nowhere"), "nowhere"),
        (("--part", "1/2", "--target", "label"), "--target label"),
    ],
)
def test_what_is_refused_leaves_no_trace(images, tmp_path, more, words):
    code, _, err = shardcam("extract", images, *LOCAL, *more, "--out", tmp_path / "new" / "run")
    assert code != 0 and words in err and err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_run_grows_without_parts(images, tmp_path):
    command = ("extract", images, *LOCAL, "--out", tmp_path / "run")
    assert shardcam(*command, "--limit", 8)[0] == 0
    code, _, err = shardcam(*command, "--part", "1/2")
    assert code == 2
    assert "--part 1/2: the run has 8 images, and would grow to 30" in err


@pytest.fixture(params=["here", "memory"])
def run_dirs(request, tmp_path):
    """The run as two processes see it."""
    if request.param == "here":
        (tmp_path / "run").mkdir()
        return [RunDir.open(tmp_path / "run")] * 2
    request.getfixturevalue("memory")
    return [RunDir.open("memory://bucket/run") for _ in range(2)]


def test_parts_and_whole_runs_keep_out_of_each_others_way(run_dirs):
    one, two = run_dirs
    first, second = Part(1, 3), Part(2, 3)
    with one.lock(first), two.lock(second):
        assert two.lock_holder().endswith(" for part 1-of-3 and 1 other part")
        two.require_no_driver(Part(3, 3))
        for refused in (lambda: two.lock(first), two.lock):
            with pytest.raises(RunDirectoryError, match="is working on it; wait"), refused():
                pass
        with pytest.raises(RunDirectoryError, match="for part 1-of-3"):
            two.require_no_driver()
    assert one.lock_holder() is None
    with one.lock():
        with pytest.raises(RunDirectoryError, match="is working on it"), two.lock(first):
            pass
        with pytest.raises(RunDirectoryError, match="is working on it"):
            two.require_no_driver(first)
    with two.lock(first) as died:
        assert not died


def test_one_begins_the_run_and_the_others_find_it(run_dirs):
    one, two = run_dirs
    told, found = [], []

    def later():
        with two.beginning(told.append):
            found.append(two.exists(two.run_json))

    with one.beginning(told.append):
        other = threading.Thread(target=later)
        other.start()
        other.join(1.5)
        assert len(told) == 1 and found == []
        one.write_atomically(one.run_json, "{}")
    other.join(30)
    assert found == [True]
    assert not one.names(one.root) - {"run.json"}


def test_another_begins_the_run_where_the_first_fails(tmp_path):
    """Which removes the folder that the others wait in."""
    one, two = (RunDir.open(tmp_path / "new" / "run") for _ in range(2))
    told, found = [], []

    def later():
        with two.beginning(told.append):
            found.append(two.root.is_dir())
            two.write_atomically(two.run_json, "{}")

    other = threading.Thread(target=later)
    with pytest.raises(RunDirectoryError), one.beginning(told.append):
        other.start()
        other.join(1.5)
        raise RunDirectoryError("the source is gone")
    other.join(30)
    assert len(told) == 1 and found == [True]
    assert [path.name for path in two.root.iterdir()] == ["run.json"]
