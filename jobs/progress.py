"""What a person sees while a run is going: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from engine.planning import Plan
from engine.types import Shard, ShardReport

LINE_EVERY = 10.0  # seconds between plain lines


class ProgressDisplay:
    """An observer of a run that prints to `console`; use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar: Progress | None = None
        self._failed = self._done_before = self._done = self._shards = 0
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def started(self, plan: Plan, todo: tuple[Shard, ...]) -> None:
        """Show what there is to do, and what was done before."""
        self._total = plan.listed
        self._shards_total = len(plan.shards)
        self._shards = len(plan.shards) - len(todo)
        self._done = self._done_before = plan.listed - sum(len(s.samples) for s in todo)
        self._start = time.monotonic()
        if self._shards:
            self._console.print(f"resuming: {self._shards} of {self._shards_total} shards are done")
        if todo and self._console.is_terminal:
            self._start_bar()

    def shard_done(self, report: ShardReport) -> None:
        """Advance by one shard."""
        self._shards += 1
        self._done += report.listed
        self._failed += report.failed
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._note())
        elif self._due():
            self._last_line = time.monotonic()
            self._console.print(
                f"{self._done}/{self._total} images, {self._note()}, {self._left()}"
            )

    def _start_bar(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Progress(*columns, TimeRemainingColumn(), console=self._console)
        self._task = self._bar.add_task(
            "", total=self._total, completed=self._done, note="starting workers"
        )
        self._bar.start()

    def _due(self) -> bool:
        finished = self._shards == self._shards_total
        return finished or time.monotonic() - self._last_line >= LINE_EVERY

    def _rate(self) -> float:
        return (self._done - self._done_before) / max(time.monotonic() - self._start, 1e-9)

    def _note(self) -> str:
        shards = f"shards {self._shards}/{self._shards_total}"
        return f"{self._rate():.1f} images/s, {shards}, {self._failed} failed"

    def _left(self) -> str:
        seconds = (self._total - self._done) / self._rate()
        return f"{seconds:.0f} s left"
