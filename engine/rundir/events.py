"""The events of a run, as values: an observer is called with each of them.

Those that have a kind go to ``events.jsonl`` under it, with their fields in this order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from shardcam.engine.types import Event, Shard, ShardReport


def ignore(event: Event) -> None:
    """An observer that ignores every event."""


@dataclass(frozen=True)
class SourceListing(Event):
    """The source is being listed; not logged."""

    images: int  # so far
    done: bool


@dataclass(frozen=True)
class RunAwaited(Event):
    """Another process writes the listing and ``run.json`` of this run; not logged."""

    holder: str


@dataclass(frozen=True)
class RunOpened(Event):
    """What a run contained when a command opened it; not logged."""

    shards: int  # of the run
    shards_done: int
    images: int  # of the run
    images_done: int  # in those shards


@dataclass(frozen=True)
class RunStarted(Event):
    """A command begins to run the shards that are missing."""

    kind: ClassVar = "run_started"
    host: str
    pid: int
    shards: int  # of the run
    todo: int  # of them, those that are missing
    images: int  # of the run


@dataclass(frozen=True)
class WorkerStarted(Event):
    """A worker has loaded the model."""

    kind: ClassVar = "worker_started"
    worker: str
    node: str  # Ray's id of it
    host: str
    pid: int
    device: str  # CUDA_VISIBLE_DEVICES
    cores: list[int]  # that it is pinned to
    seconds: float  # since it was asked for


@dataclass(frozen=True)
class AgreementMeasured(Event):
    """Changed pictures go through the network in float32, too; not logged."""

    precision: str  # that it is compared with
    images: int


@dataclass(frozen=True)
class WorkersUnneeded(Event):
    """More workers were asked for than there are shards to do; not logged."""

    asked: int
    shards: int


@dataclass(frozen=True)
class CoresShared(Event):
    """The workers on this machine have fewer cores than they ask for; not logged."""

    asked: int
    cores: int


@dataclass(frozen=True)
class WorkerWaiting(Event):
    """Workers wait for free CPUs or GPUs of the cluster."""

    kind: ClassVar = "worker_waiting"
    workers: int  # so many more
    resource: str = "CPUs"  # that they wait for


@dataclass(frozen=True)
class WorkerLost(Event):
    """A worker crashed, hung or went with its node."""

    kind: ClassVar = "worker_lost"
    worker: str
    reason: str
    shard: int | None  # that it held; None while it started
    node_lost: bool


@dataclass(frozen=True)
class WorkerRecycled(Event):
    """A worker ends for its age, because its node is leaving, or to give way to another run."""

    kind: ClassVar = "worker_recycled"
    worker: str
    shards: int  # that it has done


@dataclass(frozen=True)
class ClusterShared(Event):
    """Other runs use the cluster, or do no more: workers change hands between shards."""

    kind: ClassVar = "cluster_shared"
    runs: int  # others
    workers: int  # that this run may have


@dataclass(frozen=True)
class ShardStarted(Event):
    """A worker begins a shard, or a part of one to try."""

    kind: ClassVar = "shard_started"
    shard: int
    worker: str
    images: int
    trial: bool

    @classmethod
    def of(cls, worker: str, shard: Shard) -> ShardStarted:
        """A worker begins `shard`."""
        return cls(shard.index, worker, len(shard.samples), shard.trial)


@dataclass(frozen=True)
class Progress(Event):
    """How far a shard is; not logged."""

    worker: str
    shard: int
    images: int  # done so far
    stage: str | None = None  # where it is known
    passes: int = 0  # of the network or a part of it, so far


@dataclass(frozen=True)
class ShardDone(Event):
    """A shard is published."""

    kind: ClassVar = "shard_done"
    shard: int
    worker: str
    images: int
    failed: int  # of them
    published: bool  # False: another attempt had published it first
    took: float  # seconds of the worker
    seconds: dict[str, float]  # by stage

    @classmethod
    def of(cls, worker: str, report: ShardReport, took: float) -> ShardDone:
        """A worker reports after `took` seconds."""
        seconds = {stage: round(value, 4) for stage, value in report.seconds.items()}
        counts = (report.listed, report.failed, report.published)
        return cls(report.shard, worker, *counts, round(took, 4), seconds)


@dataclass(frozen=True)
class SearchStarted(Event):
    """A shard crashed its workers: which of its images do it?"""

    kind: ClassVar = "search"
    shard: int
    images: int  # that are suspected
    reason: str


@dataclass(frozen=True)
class SampleGivenUp(Event):
    """An image crashed every worker that read it, and becomes a failure."""

    kind: ClassVar = "given_up"
    sample: int
    key: str
    reason: str


@dataclass(frozen=True)
class RunEnded(Event):
    """The command that began with `RunStarted` is over; of one that raises, only logged."""

    kind: ClassVar = "run_ended"
    outcome: str  # done, or the error in one line
