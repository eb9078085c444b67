"""Shards one after the other, in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from engine.protocols import ShardRunner
from engine.types import Shard, ShardReport


class LocalExecutor:
    """Runs every shard here.

    Parameters
    ----------
    build
        Makes the runner, once, when the first shard is asked for.
    """

    def __init__(self, build: Callable[[], ShardRunner]) -> None:
        self._build = build

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardReport]:
        """See :class:`engine.protocols.Executor`."""
        runner = self._build()
        for shard in shards:
            yield runner(shard)
