"""What a command that is stopped says of going on: no more than is true."""

import signal

import pytest

from shardcam.engine.errors import Interrupted
from shardcam.engine.rundir.events import RunOpened, ShardDone, ShardStarted, ignore
from shardcam.jobs.resumable import resumable

NEW, RESUMED = RunOpened(2, 0, 8, 0), RunOpened(2, 1, 8, 4)
STARTED = ShardStarted(0, "w", 4, False)
DONE = ShardDone(0, "w", 4, 0, True, 1.0, {})


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((), "run the same command again"),
        ((NEW,), "nothing is done yet; run the same command again"),
        ((NEW, STARTED), "run the same command again"),
        ((NEW, STARTED, DONE), "run the same command again to resume"),
        ((RESUMED,), "run the same command again to resume"),
        ((NEW, STARTED, DONE, NEW), "run the same command again to resume"),  # the next step
    ],
)
def test_a_signal_is_told_with_what_is_done(events, told):
    with pytest.raises(Interrupted, match=f"^stopped by SIGTERM; {told}$"), resumable() as observed:
        observe = observed(ignore)
        for event in events:
            observe(event)
        signal.raise_signal(signal.SIGTERM)
