"""A run seen from outside, and a second driver kept out."""

import json
import re
import shutil
import signal
import time

import h5py
import pytest

from shardcam.engine.rundir import events
from shardcam.engine.rundir.event_log import EventLog
from shardcam.engine.rundir.metric_results import MetricResults
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.jobs.wording import speed
from tests.jobs.command import SMALL, assert_same, contents, shardcam, start
from tests.jobs.images import make_folder
from tests.test_stored_run import STORED

RUN = ("--model", "efficientnet_lite0", "--executor", "local", "--shard-size", "8")


@pytest.mark.process
def test_a_run_is_watched_and_a_second_driver_refused(tmp_path):
    images, run = tmp_path / "images", tmp_path / "run"
    make_folder(images, 400, bad=4)
    command = ("extract", images, *RUN, "--out", run)
    first = start(*command)
    end = time.monotonic() + 120
    while len(list((run / "shards").glob("*.h5"))) < 2:
        assert time.monotonic() < end, "no shard came"
        time.sleep(0.2)
    code, out, err = shardcam("status", run)
    assert code == 0, err
    assert f"running: process {first.pid} on" in out
    assert "images/s over the last shards" in out
    assert "forward" in out
    assert "of 400 done" in out
    code, out, err = shardcam("status", run, "--json")
    assert code == 0, err
    found = json.loads(out)
    (worker,) = found["workers"]
    assert (found["state"], worker["worker"], worker["pid"]) == ("running", "local", first.pid)
    assert worker["images"] == 8 * worker["shards"] >= 16
    assert found["seconds_left"] > 0
    watching = start("status", run, "--watch", 0.1, "--workers")
    until_said(watching, rf" local +{worker['host']} +{first.pid} +shard \d+ for")
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)
    assert (watching.returncode, err) == (0, "")
    for other in (command, ("retry-failed", run), ("verify", run, "--repair")):
        code, out, err = shardcam(*other)
        assert (code, out) == (1, ""), "nothing is judged that may change"
        assert f"process {first.pid} on" in err
        assert "is working on it; wait for it, or stop it first" in err
    first.terminate()
    _, err = first.communicate(timeout=60)
    assert first.returncode == 4, err
    code, out, _ = shardcam("status", run)
    assert code == 0
    assert "the last command ended: Interrupted" in out
    assert "incomplete; the same extract command resumes it" in out

    with (run / "events.jsonl").open("a") as log:  # as a driver elsewhere would, or a killed one
        log.write('{"time": 1, "kind": "run_started"}\n')
    code, out, _ = shardcam("status", run)
    assert code == 0
    assert "or runs on a host whose lock is not seen here" in out


def until_said(process, words):
    for line in process.stdout:
        if re.match(words, line):
            return
    pytest.fail(f"it never said {words}")


def test_a_complete_run_is_watched_once(tmp_path):
    make_folder(tmp_path / "images", 20, bad=2)
    run = tmp_path / "run"
    small = (*SMALL, "--executor", "local", "--shard-size", 8, "--max-pixels", 10**6)
    assert shardcam("extract", tmp_path / "images", *small, "--out", run)[0] == 0
    code, out, err = shardcam("status", run, "--json", "--watch")
    assert (code, err) == (0, "")
    found = json.loads(out)
    counts = {name: found[name] for name in ("shards", "shards_done", "images", "images_failed")}
    assert counts == {"shards": 3, "shards_done": 3, "images": 20, "images_failed": 2}
    assert (found["state"], found["seconds_left"], found["outcome"]) == ("complete", None, "done")
    assert sum(found["failures"].values()) == 2
    assert json.loads(shardcam("status", run, "--json")[1]) == found
    code, out, err = shardcam("status", run, "--watch", "--workers")
    assert code == 0, err
    shown = out.splitlines()
    assert shown == [line.rstrip() for line in shown]
    ((node,), (worker,)) = found["nodes"], found["workers"]
    speed = f"{node['images_per_second']:.1f} images/s"
    assert f" workers     1 on {node['host']}: 20 images, {speed}" in shown
    assert shown[-2].split()[:3] == ["local", node["host"], str(worker["pid"])]


@pytest.mark.parametrize(
    "left", [("listing.zip",), (".begin.lock",), ("listing.zip", ".listing-x")]
)
def test_a_run_that_was_begun_has_nothing_done(tmp_path, left):
    """It was killed before its run.json."""
    run = tmp_path / "run"
    run.mkdir()
    for name in left:
        (run / name).touch()
    if "listing.zip" in left:
        shutil.copy(STORED / "run" / "listing.zip", run)
    code, out, err = shardcam("status", run)
    assert (code, err) == (0, "")
    assert "state    begun, no shard is done yet; the same extract command goes on\n" in out
    found = json.loads(shardcam("status", run, "--json")[1])
    assert (found["state"], found["shards_done"], found["fingerprint"]) == ("incomplete", 0, "")
    assert found["images"] == (11 if "listing.zip" in left else 0)
    for command in ("verify", "report"):
        code, _, err = shardcam(command, run)
        assert code == 2 and err.endswith("has no shard yet; the same extract command goes on\n")
    with RunDir(run).beginning(print):
        assert re.search(r"state +running: process \d+ .* begins it\n", shardcam("status", run)[1])


def test_what_evaluate_measures_is_shown_while_it_does(tmp_path):
    make_folder(tmp_path / "images", 20)
    run = tmp_path / "run"
    small = (*SMALL, "--executor", "local", "--shard-size", 8)
    assert shardcam("extract", tmp_path / "images", *small, "--out", run)[0] == 0
    assert shardcam("evaluate", run, "--metrics", "gini", "--executor", "local")[0] == 0
    (run / "metrics" / "summary.json").unlink()
    (run / "metrics" / "gini" / "shards" / "shard-000001.h5").unlink()
    assert json.loads(shardcam("status", run, "--json")[1])["evaluating"] is None
    with MetricResults(RunDir(run), "gini").folder.lock():
        out = shardcam("status", run)[1]
        found = json.loads(shardcam("status", run, "--json")[1])["evaluating"]
    rate = found["images_per_second"]
    assert found["seconds_left"] == pytest.approx(8 / rate)
    assert re.search(r"metrics +gini: 12 of 20 images measured by process \d+", out)
    assert f"by 1 worker, {speed(rate)} over the last shards, " in out


def test_an_index_that_was_lost_is_made_anew(tmp_path):
    make_folder(tmp_path / "images", 20)
    run = tmp_path / "run"
    small = (*SMALL, "--executor", "local", "--shard-size", 8)
    code, _, err = shardcam("extract", tmp_path / "images", *small, "--out", run)
    assert code == 0, err
    before = contents(run)
    (run / "index.h5").unlink()
    code, out, err = shardcam("index", run)
    assert code == 0, err
    assert "over 3 of 3 shards" in out
    assert_same(before, contents(run))
    assert "still to come" not in out and "state       complete" in shardcam("status", run)[1]
    for name in ("report.json", "failures.csv"):
        (run / name).unlink()
    words = "the same extract command writes"
    told = "still to come: report.json and failures.csv, which the same extract command writes"
    assert told in shardcam("index", run)[1]
    assert f"done; {words} report.json and failures.csv" in shardcam("status", run)[1]
    (run / "failures.csv").write_text("")
    assert f"done; {words} report.json\n" in shardcam("status", run)[1]
    (run / "failures.csv").unlink()
    assert shardcam("index", run, "--merge")[0] == 0
    assert shardcam("verify", run, "--deep")[0] == 0
    for done, shard in (("0 done now", None), ("1 done now", "shard-000001.h5")):
        if shard:
            (run / "shards" / shard).unlink()
        code, out, err = shardcam("extract", tmp_path / "images", *small, "--out", run)
        assert code == 0 and done in out, err
        assert_same(before, contents(run))
        assert {"report.json", "failures.csv"} <= {path.name for path in run.iterdir()}
        with h5py.File(run / "index.h5") as index:
            assert index["sample"].is_virtual == bool(shard), "it stays merged until then"
    code, _, err = shardcam("index", tmp_path / "images")
    assert code == 2
    assert "not a run directory" in err


def test_status_tells_what_workers_wait_for(tmp_path):
    make_folder(tmp_path / "images", 8)
    run = tmp_path / "run"
    assert shardcam("extract", tmp_path / "images", *SMALL, *RUN[2:], "--out", run)[0] == 0
    log = EventLog(RunDir(run))
    log.append(events.RunStarted("host", 1, 1, 1, 8))
    log.append(events.WorkerWaiting(2, "GPUs"))
    with RunDir(run).lock():
        out = shardcam("status", run)[1]
        assert re.search(r"running: process \d+ on .*; waiting for GPUs: 2 workers\b", out)
        log.append(events.WorkerStarted("worker-1", "node", "host", 2, "", [], 80.0))
        assert "; waiting for GPUs: 1 worker\n" in shardcam("status", run)[1]
        log.append(events.WorkerRecycled("worker-2", 0))  # it gave way before it had started
        assert "waiting" not in shardcam("status", run)[1]
        log.append(events.WorkerWaiting(3))
        assert json.loads(shardcam("status", run, "--json")[1])["workers_waiting"] == 3
    assert json.loads(shardcam("status", run, "--json")[1])["workers_waiting"] == 0
    log.close()
