"""Images per second of workers that start and end at different times."""

from __future__ import annotations

from collections import deque


class Speed:
    """The sum of what each worker does a second, counted from when it was ready.

    It is not known before each worker has done something: until then the first reports, which
    come together, say nothing of how long they took.

    Parameters
    ----------
    last
        Of each worker only so many reports count; None: all.
    """

    def __init__(self, last: int | None = None) -> None:
        self._kept = None if last is None else last + 1
        self._workers: dict[str, deque[tuple[float, int]]] = {}  # times, and images by then
        self._known = False

    def ready(self, worker: str, time: float) -> None:
        """A worker begins; the first time counts."""
        if worker not in self._workers:
            self._workers[worker] = deque([(time, 0)], self._kept)

    def add(self, worker: str, images: int, time: float) -> None:
        """A worker has done so many images more."""
        self.ready(worker, time)
        points = self._workers[worker]
        points.append((time, points[-1][1] + images))
        self._known = self._known or all(len(points) > 1 for points in self._workers.values())

    def gone(self, worker: str) -> None:
        """A worker has ended, and does no more."""
        self._workers.pop(worker, None)

    def rate(self, now: float | None = None) -> float | None:
        """Images per second, if they are known; with `now`, a worker that is silent gets slower."""
        if not self._known or not self._workers:
            return None
        return sum(_rate(points, now) for points in self._workers.values())

    def rate_of(self, worker: str) -> float:
        """Those of one worker."""
        return _rate(self._workers[worker], None)


def _rate(points: deque[tuple[float, int]], now: float | None) -> float:
    (first, before), (last, images) = points[0], points[-1]
    seconds = last - first
    if now is not None and len(points) > 1:  # the next report is on its way
        seconds = max(seconds, now - first - seconds / (len(points) - 1))
    return (images - before) / seconds if seconds > 0 else 0.0
