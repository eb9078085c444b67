"""A clock that stands still while this process does."""

from __future__ import annotations

import time

LONGEST = 1.0  # seconds: twice as long as a driver at work waits for anything


class AwakeClock:
    """Seconds, but for those that a stopped or suspended process missed.

    Who looks at it once in a while judges others only by the time that it was awake itself.
    """

    def __init__(self) -> None:
        self._seen = time.monotonic()
        self._missed = 0.0

    def __call__(self) -> float:
        """Seconds since an arbitrary moment; of a gap in the calls so many count as `LONGEST`."""
        now = time.monotonic()
        self._missed += max(now - self._seen - LONGEST, 0.0)
        self._seen = now
        return now - self._missed
