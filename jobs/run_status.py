"""How far a run is and who works on it, from its files alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone

from shardcam.engine.errors import RunDirectoryError, StoreError, WrongRun
from shardcam.engine.evaluation.unfinished import Unfinished, unfinished_metrics
from shardcam.engine.pipeline.bottleneck import find_bottleneck
from shardcam.engine.rundir.account import Account, good_shards
from shardcam.engine.rundir.event_log import Activity, read_events, summarize
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.report_json import account_to_come, run_notes
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import has_begun, read_manifest
from shardcam.engine.rundir.shard_file import ShardSummary, read_failures
from shardcam.engine.rundir.worker_activity import WorkerActivity
from shardcam.engine.types import Note, counted

RUNNING, COMPLETE, INCOMPLETE = "running", "complete", "incomplete"


@dataclass(frozen=True)
class NodeStatus:
    """The workers of a machine."""

    host: str
    workers: int
    images: int  # that they have done
    images_per_second: float | None  # None: one of them has done no shard yet


@dataclass(frozen=True)
class Evaluating:
    """An `evaluate` of the run that is at work."""

    images_per_second: float | None  # over the last shards
    seconds_left: float | None
    workers: tuple[WorkerActivity, ...]


@dataclass(frozen=True)
class RunStatus:
    """What ``shardcam status --json`` prints."""

    run: str
    fingerprint: str  # empty if the run was begun and has no run.json yet
    source: str
    model: str
    method: str
    target: str
    listing: str
    state: str  # running, complete or incomplete
    told: str  # the same in words: who works on it, or what completes it
    shards: int = 0
    shards_done: int = 0
    damaged: tuple[str, ...] = ()  # what is wrong with shards
    images: int = 0
    images_done: int = 0
    images_failed: int = 0  # of these
    bytes: int = 0
    failures: dict[str, int] = field(default_factory=dict)  # by reason
    unfinished: tuple[Unfinished, ...] = ()  # metrics
    evaluating: Evaluating | None = None
    notes: tuple[Note, ...] = ()
    images_per_second: float | None = None  # over the last shards
    seconds_left: float | None = None  # while it is running
    stage_seconds: dict[str, float] = field(default_factory=dict)
    bottleneck: str | None = None
    nodes: tuple[NodeStatus, ...] = ()
    workers: tuple[WorkerActivity, ...] = ()  # of the last command
    workers_waiting: int = 0  # for CPUs or GPUs
    workers_lost: int = 0  # in all commands
    last_event: str | None = None  # ISO 8601, UTC
    outcome: str | None = None  # of the last command, if it has ended

    @property
    def goes_on(self) -> bool:
        """Whether there is more to see of it."""
        return self.state != COMPLETE or self.evaluating is not None


def read_status(run_dir: RunDir) -> RunStatus:
    """Look at a run, whether it is running or not.

    Raises
    ------
    RunDirectoryError
        It is not a run.
    StoreError
        It cannot be read now.
    """
    try:
        manifest = read_manifest(run_dir)
    except WrongRun:
        if has_begun(run_dir):
            return _begun(run_dir)
        raise
    config, planned = manifest.config, manifest.plan["shards"]
    damaged: list[RunDirectoryError] = []
    done = [*good_shards(run_dir, planned, manifest.fingerprint, damaged.append)]
    account = Account.of(done)
    run_dir.fetch(run_dir.events)
    activity = summarize(read_events(run_dir))
    state, told = _state(run_dir, account.shards == planned, activity)
    rate, left = activity.workers.images_per_second, manifest.plan["samples"] - account.listed
    bottleneck = find_bottleneck(activity.stage_seconds)
    workers, unfinished = activity.workers.every(), unfinished_metrics(run_dir, manifest)
    last = datetime.fromtimestamp(activity.last, timezone.utc) if activity.last else None
    return RunStatus(
        run=str(run_dir.home),
        fingerprint=manifest.fingerprint,
        source=str(config.get("source")),
        model=str(config.get("model")),
        method=str(config.get("method")),
        target=str(config.get("target")),
        listing=_listing(run_dir),
        state=state,
        told=told,
        shards=planned,
        shards_done=account.shards,
        damaged=tuple(map(str, damaged)),
        images=manifest.plan["samples"],
        images_done=account.listed,
        images_failed=account.failed,
        bytes=account.bytes,
        failures=_failures(run_dir, done),
        unfinished=unfinished,
        evaluating=_evaluating(run_dir, unfinished),
        notes=run_notes(run_dir, account),
        images_per_second=rate,
        seconds_left=left / rate if rate and state == RUNNING else None,
        stage_seconds=dict(activity.stage_seconds.most_common()),
        bottleneck=str(bottleneck) if bottleneck else None,
        nodes=_nodes(workers),
        workers=tuple(workers),
        workers_waiting=activity.workers.waiting if state == RUNNING else 0,
        workers_lost=activity.lost,
        last_event=last.isoformat(timespec="seconds") if last else None,
        outcome=activity.outcome,
    )


def _begun(run_dir: RunDir) -> RunStatus:
    """Of a run whose first command is not as far as ``run.json``, or was stopped before."""
    run_dir.fetch(run_dir.listing)
    holder, source, images = run_dir.beginner(), "", 0
    with suppress(RunDirectoryError, StoreError):  # none, or not yet
        listing = Listing(run_dir.listing)
        source, images = str(listing.facts.origin.get("source")), len(listing)
    told = "begun, no shard is done yet; the same extract command goes on"
    if holder:
        told = f"running: {holder} begins it"
    return RunStatus(
        run=str(run_dir.home),
        fingerprint="",
        source=source,
        model="",
        method="",
        target="",
        listing=_listing(run_dir),
        state=RUNNING if holder else INCOMPLETE,
        told=told,
        images=images,
    )


def _evaluating(run_dir: RunDir, unfinished: Sequence[Unfinished]) -> Evaluating | None:
    """How fast metrics are measured now; one command measures all of its own together."""
    left = [one.asked - one.images for one in unfinished if one.holder]
    if not left:
        return None
    workers = summarize(read_events(RunDir.open(f"{run_dir.home}/metrics"))).workers
    rate = workers.images_per_second
    return Evaluating(rate, max(left) / rate if rate else None, tuple(workers.every()))


def _state(run_dir: RunDir, complete: bool, activity: Activity) -> tuple[str, str]:
    holder = run_dir.lock_holder()
    if holder:
        workers = activity.workers
        waiting = f"; waiting for {workers.resource}: {counted(workers.waiting, 'worker')}"
        return RUNNING, f"running: {holder}{waiting if workers.waiting else ''}"
    if complete:
        left = "the index, " * (not run_dir.exists(run_dir.index))
        left += account_to_come(run_dir)
        if not left:
            return COMPLETE, "complete"
        what = f"the same extract command writes {left.rstrip(', ')}"
        return INCOMPLETE, f"every shard is done; {what}"
    why = ""
    if activity.commands and activity.outcome is None:  # the log has no end of it
        why = " (its last command was killed, or runs on a host whose lock is not seen here)"
    return INCOMPLETE, f"incomplete{why}; the same extract command resumes it"


def _nodes(workers: Sequence[WorkerActivity]) -> tuple[NodeStatus, ...]:
    found: list[NodeStatus] = []
    for host in sorted({worker.host for worker in workers}):
        there = [worker for worker in workers if worker.host == host]
        rates = [one.images_per_second for one in there if one.images_per_second is not None]
        rate = sum(rates) if len(rates) == len(there) else None
        found.append(NodeStatus(host, len(there), sum(one.images for one in there), rate))
    return tuple(found)


def _failures(run_dir: RunDir, done: list[ShardSummary]) -> dict[str, int]:
    """Failures by reason, the most frequent first."""
    reasons: Counter[str] = Counter()
    for _, shard in run_dir.open_shards([summary.shard for summary in done if summary.failed]):
        reasons.update(failure.error for failure in read_failures(shard))
    return dict(reasons.most_common())


def _listing(run_dir: RunDir) -> str:
    run_dir.fetch(run_dir.listing)
    try:
        listing = Listing(run_dir.listing)
    except (RunDirectoryError, StoreError) as error:
        return str(error)
    return f"{len(listing)} images, {listing.created:%Y-%m-%d %H:%M} UTC"
