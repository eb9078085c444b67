"""What is said of a run before it begins."""

import io
from dataclasses import replace
from datetime import datetime, timezone

import pytest
from rich.console import Console

from shardcam.engine.config import RunConfig
from shardcam.engine.run.cost import Cost
from shardcam.engine.run.extraction import RunPlanned
from shardcam.engine.types import counted
from shardcam.jobs import plan_notes
from shardcam.jobs.plan_notes import cost_note, print_plan, size_note
from shardcam.jobs.wording import duration, speed

LISTED = datetime(2026, 1, 2, tzinfo=timezone.utc)
SIZES = {"key": 20_000, "activation/conv": 12_544_000, "cam/conv/map": 196_000, "flags": 1000}


def planned(free, **options):
    config = RunConfig(source="s", model="m", out="run", **options)
    return RunPlanned(config, 1000, 10, LISTED, True, 1000, SIZES, free, None)


def test_the_size_is_said_and_a_large_dataset_is_named(monkeypatch):
    plain = "1000 images in 10 shards: files of about 12.8 MB"
    assert size_note(planned(10**9)) == f"{plain} before gzip; 1 GB free"
    monkeypatch.setattr(plan_notes, "LARGE", 10**7)
    assert size_note(planned(None, codec="none", save=("maps", "overlays"))) == (
        f"{plain}, 12.5 MB of them activation/conv, and pictures"
    )


def test_the_cost_of_many_passes_is_said():
    cost = Cost(passes=512, multiply_adds=2e12)
    alone = planned(None, method="scorecam", workers=4)
    assert cost_note(alone, cost) == (
        "scorecam: 512 passes for each image; roughly 6 h 57 min to 27 h 47 min for 1000 images "
        "on 4 cores, at 5 to 20 billion multiply-adds a second and core (a guess until the first "
        "batch is done)"
    )
    on_gpus = planned(None, method="scorecam", gpus_per_worker=1)
    assert cost_note(on_gpus, cost) == "scorecam: 512 passes for each image"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (130, "2 min"), (7800, "2 h 10 min"), (864_000, "10 days")],
)
def test_durations_are_readable(seconds, words):
    assert duration(seconds) == words


def test_a_slow_run_has_a_speed():
    assert [speed(rate) for rate in (12.34, 1, 0.0221)] == [
        "12.3 images/s", "1.0 images/s", "0.022 images/s"
    ]  # fmt: skip


def test_what_compression_must_do_is_said():
    note = size_note(planned(sum(SIZES.values()) // 4))
    assert note.endswith("3.19 MB free: enough only if gzip makes it 4 times smaller")


def test_one_of_a_kind_is_not_called_many():
    assert [counted(n, "class") for n in (0, 1, 2)] == ["0 classes", "1 class", "2 classes"]
    assert counted(12_345, "image", ",") == "12,345 images"
    one = replace(planned(None), images=1, shards=1, listed_now=False, before=0)
    console = Console(file=io.StringIO(), width=300)
    print_plan(one, console)
    assert console.file.getvalue().splitlines() == [
        "1 image as listed on 2026-01-02 00:00 UTC",
        "the run grows from 0 to 1 image, in 1 shard",
        "1 image in 1 shard: files of about 12.8 MB before gzip",
    ]
