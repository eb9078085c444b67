"""What is shown while a run goes on."""

import io
from datetime import datetime, timezone

import pytest
from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.run.cost import Cost
from shardcam.engine.run.extraction import RunPlanned
from shardcam.engine.rundir.events import Progress, RunOpened, ShardDone, ShardStarted
from shardcam.engine.types import Note, Sample, Shard, ShardReport
from shardcam.engine.workers import local_executor
from shardcam.engine.workers.local_executor import LocalExecutor
from shardcam.jobs import progress
from shardcam.jobs.progress import ProgressDisplay

LISTED = datetime(2026, 1, 2, tzinfo=timezone.utc)
STARTED = (RunOpened(2, 0, 4000, 0), 5, ShardStarted(0, "w", 2000, False))


@pytest.fixture
def lines_of(monkeypatch):
    """A function from events to what is printed, line by line; a number is the time from there."""
    clock = {"now": 0.0}
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(progress, "LINE_EVERY", 0)

    def lines(*events, cost=None, **options):
        console = Console(file=io.StringIO(), width=300)
        config = RunConfig(source="s", model="m", out="run", **options)
        notes = (Note("assumed", "at the end"), Note("warning", "at\x1b once"))
        planned = RunPlanned(
            config, 4000, 2, LISTED, True, 4000, {"key": 1}, None, None, notes, cost
        )
        with ProgressDisplay(console) as display:
            for event in (planned, *STARTED, *events):
                if isinstance(event, int):
                    clock["now"] = event
                else:
                    display.show(event)
        return console.file.getvalue().splitlines()

    return lines


def test_how_far_a_run_is_and_how_long_it_goes_on(lines_of):
    done = ShardDone(0, "w", 2000, 7, True, 1000, {})
    lines = lines_of(15, Progress("w", 0, 20), 1005, done, Progress("w", 1, 2000), executor="local")
    assert lines[1:] == [
        r"WARNING: at\x1b once",
        "loading the network",
        "20/4000 images, 2.0 images/s, shards 0/2, 0 failed, 33 min left",
        "2000/4000 images, 2.0 images/s, shards 1/2, 7 failed, 17 min left",
        "4000/4000 images, 4.0 images/s, shards 1/2, 7 failed",
    ]


def test_a_slow_image_shows_that_it_is_alive(lines_of):
    slow = (60, Progress("w", 0, 0, passes=1234), 3605, Progress("w", 0, 4, passes=9999))
    lines = lines_of(*slow, cost=Cost(1280, 1e12), method="scorecam")
    assert lines[1].startswith("scorecam: 1,280 passes for each image; roughly 55 h 33 min to")
    calls = "calls of the network in unfinished shards"
    assert lines[3:] == [
        "starting workers",
        f"0/4000 images, shards 0/2, 0 failed, 1,234 {calls}",
        f"4/4000 images, 0.0011 images/s, shards 0/2, 0 failed, 9,999 {calls}, 42 days left",
    ]


def test_the_local_executor_reports_passes_within_a_batch(monkeypatch):
    class Runner:
        def run(self, shard, timer, next_shard=None):
            for _ in range(3):
                timer.pass_begun()
            timer.batch_done(1)
            return ShardReport(0, 1, 1, 0, True, {})

    told = []
    monkeypatch.setattr(local_executor, "PASSES_EVERY", 0)
    shard = Shard(0, (Sample("a", 0, -1, "", 0),))
    list(LocalExecutor(Runner).run([shard], told.append))
    found = [(event.images, event.passes) for event in told if isinstance(event, Progress)]
    assert found == [(0, 1), (0, 2), (0, 3), (1, 3)]
