"""The account of a run: what was listed, done and failed, and how long it took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from shardcam.engine.pipeline.bottleneck import Bottleneck, find_bottleneck
from shardcam.engine.rundir.event_log import Activity, read_events, summarize
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.rundir.shard_file import read_failures, read_shard_summary
from shardcam.engine.types import Failure

MOST = 1000  # failures that are shown one by one


@dataclass(frozen=True)
class Reason:
    """Why samples failed."""

    stage: str
    error: str
    count: int


@dataclass(frozen=True)
class Account:
    """Counted from the shards that are there."""

    planned: int  # samples of the run
    shards_planned: int
    shards: int
    listed: int  # samples of those shards
    ok: int
    failed: int
    bytes: int  # of the shard files
    reasons: tuple[Reason, ...]  # the most frequent first
    failures: tuple[Failure, ...]  # the first MOST
    activity: Activity  # what the event log knows: stage times, speed
    holder: str | None  # who works on the run at this moment

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return self.shards == self.shards_planned

    @property
    def bottleneck(self) -> Bottleneck | None:
        """What held the run up."""
        return find_bottleneck(self.activity.stage_seconds)

    @property
    def closed(self) -> bool:
        """Whether every sample of the run is accounted for."""
        return self.planned == self.listed == self.ok + self.failed


def read_account(run_dir: RunDir, manifest: Manifest) -> Account:
    """Count the shards of a run, and read its failures, a shard at a time.

    Raises
    ------
    RunDirectoryError
        A shard is damaged.
    """
    there = (number for number in run_dir.shard_numbers() if number < manifest.plan["shards"])
    done = [read_shard_summary(run_dir.shard(number)) for number in there]
    reasons: Counter[tuple[str, str]] = Counter()
    first: list[Failure] = []
    for summary in done:
        failures = read_failures(run_dir.shard(summary.shard)) if summary.failed else []
        reasons.update((failure.stage, failure.error) for failure in failures)
        first += failures[: MOST - len(first)]
    return Account(
        planned=manifest.plan["samples"],
        shards_planned=manifest.plan["shards"],
        shards=len(done),
        listed=sum(s.listed for s in done),
        ok=sum(s.ok for s in done),
        failed=sum(s.failed for s in done),
        bytes=sum(s.bytes for s in done),
        reasons=tuple(Reason(*reason, count) for reason, count in reasons.most_common()),
        failures=tuple(first),
        activity=summarize(read_events(run_dir)),
        holder=run_dir.lock_holder(),
    )
