"""Commands that signals stop and that resume: what they say depends on what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from shardcam.engine.protocols import Observer
from shardcam.engine.rundir.events import RunOpened, ShardDone, ShardStarted
from shardcam.engine.types import Event
from shardcam.jobs.stopping import stop_on_signals

_AGAIN = "run the same command again"


@contextmanager
def resumable() -> Iterator[Callable[[Observer], Observer]]:
    """Let signals stop the block; see `stop_on_signals`.

    The function that is given to the block makes an observer of what shows events. A signal that
    a library kept is raised there.
    """
    done, none = 0, False  # shards; whether it is known that there are none

    def what_next() -> str:
        if done:
            return f"{_AGAIN} to resume"
        return f"nothing is done yet; {_AGAIN}" if none else _AGAIN

    with stop_on_signals(what_next) as require_no_signal:

        def observed(show: Observer) -> Observer:
            def observe(event: Event) -> None:
                nonlocal done, none
                require_no_signal()
                if isinstance(event, RunOpened):
                    done, none = done + event.shards_done, True
                elif isinstance(event, ShardStarted):
                    none = False
                elif isinstance(event, ShardDone):
                    done += 1
                show(event)

            return observe

        yield observed
