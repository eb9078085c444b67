"""What the driver knows of one worker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from shardcam.engine.types import Shard


class Pulse(NamedTuple):
    """How far a worker is."""

    shard: int | None  # that it runs, or ran last
    stage: str
    images: int  # of it that are done
    passes: int  # of the network


@dataclass
class WorkerState:
    """A worker and its shards: none while it starts, then one after another."""

    actor: Any
    name: str
    since: float  # when it was asked for, or got its shard
    shard: Shard | None = None
    next_shard: Shard | None = None  # which it prefetches
    node: str | None = None  # known once it has started
    shards_done: int = 0
    heartbeat: Any = None  # the call that waits for its answer
    heartbeat_sent: float = 0.0
    pulse: Pulse | None = None  # the last answer
    progressed: float | None = None  # when that last changed; None: it has not answered yet
    reported_waiting: bool = False

    def stalled(self, now: float) -> float:
        """Seconds without progress."""
        return 0.0 if self.progressed is None else now - max(self.progressed, self.since)
