"""The account of a run: what was listed, done and failed, and how long it took."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from shardcam.engine.pipeline.bottleneck import Bottleneck, find_bottleneck
from shardcam.engine.rundir.account import Account, good_shards
from shardcam.engine.rundir.event_log import Activity, read_events, summarize
from shardcam.engine.rundir.report_json import run_notes
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.rundir.shard_file import read_failures
from shardcam.engine.types import Failure, Note

MOST = 1000  # failures that are shown one by one


@dataclass(frozen=True)
class Reason:
    """Why samples failed."""

    stage: str
    error: str
    count: int


@dataclass(frozen=True)
class RunAccount(Account):
    """The account of the shards that are there, and of the run that they are of."""

    planned: int  # samples of the run
    shards_planned: int
    reasons: tuple[Reason, ...]  # the most frequent first
    failures: tuple[Failure, ...]  # the first MOST
    activity: Activity  # what the event log knows: stage times, speed
    holder: str | None  # who works on the run at this moment
    told: tuple[Note, ...]  # what it assumed, left out and flagged

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
        return self.problem(self.planned) is None


def read_account(run_dir: RunDir, manifest: Manifest) -> RunAccount:
    """Count the shards of a run, and read its failures, a shard at a time.

    Raises
    ------
    RunDirectoryError
        A shard is damaged.
    """
    done = list(good_shards(run_dir, manifest.plan["shards"], manifest.fingerprint))
    reasons: Counter[tuple[str, str]] = Counter()
    first: list[Failure] = []
    for summary in done:
        failures = read_failures(run_dir.shard(summary.shard)) if summary.failed else []
        reasons.update((failure.stage, failure.error) for failure in failures)
        first += failures[: MOST - len(first)]
    account = Account.of(done)
    run_dir.fetch(run_dir.events)
    return RunAccount(
        **vars(account),
        planned=manifest.plan["samples"],
        shards_planned=manifest.plan["shards"],
        reasons=tuple(Reason(*reason, count) for reason, count in reasons.most_common()),
        failures=tuple(first),
        activity=summarize(read_events(run_dir)),
        holder=run_dir.lock_holder(),
        told=run_notes(run_dir, account),
    )
