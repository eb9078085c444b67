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
from shardcam.engine.workers import local_executor, ray_executor
from shardcam.engine.workers.local_executor import LocalExecutor
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import limits
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


def test_workers_that_are_of_no_use_are_told_of(lines_of, monkeypatch):
    monkeypatch.setattr(ray_executor, "usable_cores", lambda: 4)
    options = RayOptions(64, 2, 0.0, None)
    events = [*limits(options, 6, here=True), *limits(options, 64, here=False)]
    assert lines_of(*events)[-2:] == [
        "--workers 64: there is work for 6",
        "the workers ask for 12 cores and share the 4 that this machine has",
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


def test_two_workers_with_long_shards_are_never_shown_faster_than_they_are(lines_of):
    """Each makes 32 images in 8 s, and is asked how far it is every 2 s; one begins 3 s later."""
    begins = {"w": 5, "v": 8}
    events = [8, ShardStarted(1, "v", 2000, False)]
    for second in range(9, 400):
        events.append(second)
        for shard, worker in enumerate(begins):
            if (second - shard) % 2 == 0:
                done = 32 * ((second - begins[worker]) // 8)
                events.append(Progress(worker, shard, done, "forward"))
    shown = []
    for line in lines_of(*events)[3:]:
        counts, *rest = line.split(", ")
        if rate := [float(part.split()[0]) for part in rest if part.endswith("images/s")]:
            shown.append((int(counts.split("/")[0]), *rate))
    assert shown[0][0] == 64, "nothing before each has done a batch"
    assert len(shown) > 300
    assert all(6.0 <= rate <= 8.0 for _, rate in shown)
    assert shown[-1][1] == pytest.approx(8.0, rel=0.03)


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
