"""What the driver knows of one worker."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from shardcam.engine.types import Shard


class Pulse(NamedTuple):
    """How far a worker is."""

    shard: int | None  # that it runs, or ran last
    stage: str
    images: int  # of it that are done
    passes: int  # of the network
    told: str = ""  # by its kernels


@dataclass
class WorkerState:
    """A worker and its shards: none while it starts, then one after another."""

    actor: Any
    name: str
    since: float  # when it was asked for, or got its shard, by the clock of those who judge it
    asked: float = field(default_factory=time.monotonic)  # the same by a clock that never stands
    shard: Shard | None = None
    next_shard: Shard | None = None  # which it prefetches
    node: str | None = None  # Ray's id of it, known once it has started
    host: str | None = None  # and its name
    shards_done: int = 0
    heartbeat: Any = None  # the call that waits for its answer
    heartbeat_sent: float = 0.0
    pulse: Pulse | None = None  # the last answer
    progressed: float | None = None  # when that last changed; None: it has not answered yet
    reported_waiting: bool = False

    def stalled(self, now: float) -> float:
        """Seconds without progress."""
        return 0.0 if self.progressed is None else now - max(self.progressed, self.since)
