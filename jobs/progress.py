"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.status import Status

from shardcam.engine.run.extraction import RunPlanned
from shardcam.engine.rundir.events import (
    AgreementMeasured,
    ClusterShared,
    CoresShared,
    Progress,
    RunAwaited,
    RunOpened,
    SampleGivenUp,
    SearchStarted,
    ShardDone,
    ShardStarted,
    SourceListing,
    WorkerLost,
    WorkerRecycled,
    WorkersUnneeded,
    WorkerWaiting,
)
from shardcam.engine.rundir.speed import Speed
from shardcam.engine.types import Event, counted
from shardcam.jobs.plan_notes import print_plan
from shardcam.jobs.terminal import printable
from shardcam.jobs.wording import duration, speed

REPORTED: dict[type[Event], str] = {  # events that a person should know of
    RunAwaited: "waiting for {holder}, which begins this run",
    WorkersUnneeded: "--workers {asked}: there is work for {shards}",
    CoresShared: "the workers ask for {asked} cores and share the {cores} that this machine has",
    WorkerWaiting: "workers waiting for {resource}: {workers}",
    ClusterShared: "other runs on this cluster: {runs}; workers for this one: {workers}",
    WorkerLost: "{worker} is lost and replaced: {reason}",
    AgreementMeasured: "comparing changed pictures in {precision} with fp32: images: {images}",
    SearchStarted: "shard {shard}: searching for the image, of {images}, that crashes its workers",
    SampleGivenUp: "{key}: crashes every worker that reads it, and is recorded as a failure",
}
LINE_EVERY = 10.0  # seconds between plain lines
LAST = 100  # reports of each worker that its speed is taken from


class ProgressDisplay:
    """Shows a run on `console`; `show` is an observer. Use as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._bar: Bar | None = None
        self._failed = self._done = self._shards = 0
        self._running: dict[str, Progress] = {}  # of the shards that run, by worker
        self._last_line = time.monotonic()
        self._speed = Speed(LAST)
        self._starting, self._counts_passes = "starting workers", False

    def __enter__(self) -> ProgressDisplay:
        return self

    def __exit__(self, *_: object) -> None:
        self._end_status()
        if self._bar is not None:
            self._bar.stop()

    def show(self, event: Event) -> None:
        """Show what happens to the run and its workers, and how far the current shards are."""
        if isinstance(event, SourceListing):
            self._list(event)
        elif isinstance(event, RunPlanned):
            print_plan(event, self._console)
            self._counts_passes = event.cost is not None
            if event.config.executor == "local":
                self._starting = "loading the network"
        elif isinstance(event, RunOpened):
            self._opened(event)
        elif isinstance(event, Progress):
            self._count(event.worker, event.images)
            self._running[event.worker] = event
            self._redraw()
        elif isinstance(event, ShardStarted):
            self._speed.ready(event.worker, time.monotonic())
        elif isinstance(event, ShardDone):
            self._count(event.worker, event.images)
            self._running.pop(event.worker, None)
            self._advance(event)
        elif isinstance(event, WorkerLost | WorkerRecycled):
            self._running.pop(event.worker, None)
            self._speed.gone(event.worker)
        if type(event) in REPORTED:
            text = REPORTED[type(event)].format(**vars(event))
            self._console.print(printable(text), soft_wrap=True)

    def _opened(self, run: RunOpened) -> None:
        """Show what there is to do, and what was done before."""
        self._total, self._done = run.images, run.images_done
        self._shards_total, self._shards = run.shards, run.shards_done
        if self._shards:
            are = "is" if self._shards == 1 else "are"
            self._console.print(
                f"resuming: {self._shards} of {counted(self._shards_total, 'shard')} {are} done"
            )
        if self._shards < self._shards_total:
            if self._console.is_terminal:
                self._start_bar()
            else:
                self._console.print(self._starting)

    def _count(self, worker: str, images: int) -> None:
        """Measure by what a worker's shard has more than at its last report."""
        before = self._running.get(worker)
        more = images - (before.images if before else 0)
        if more > 0:
            self._speed.add(worker, more, time.monotonic())

    def _advance(self, shard: ShardDone) -> None:
        self._shards += 1
        self._done += shard.images
        self._failed += shard.failed
        self._redraw()

    @property
    def _seen(self) -> int:
        """Images that are done, those of unfinished shards too."""
        return self._done + sum(one.images for one in self._running.values())

    def _redraw(self) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=self._seen, note=self._note())
        elif self._due():
            self._last_line = time.monotonic()
            self._console.print(f"{self._seen}/{counted(self._total, 'image')}, {self._note()}")

    def _list(self, listing: SourceListing) -> None:
        """Say how many images there are so far."""
        note = (
            f"listing: {counted(listing.images, 'image')}"
            if listing.images
            else "listing the source"
        )
        if listing.done:
            self._end_status()
        elif self._console.is_terminal:
            self._status = self._status or self._console.status(note, spinner="line")
            self._status.update(note)
            self._status.start()
        elif listing.images and time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(note)

    def _end_status(self) -> None:
        if self._status is not None:
            self._status.stop()

    def _start_bar(self) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}"))
        self._bar = Bar(*columns, TimeElapsedColumn(), console=self._console)
        self._task = self._bar.add_task(
            "", total=self._total, completed=self._done, note=self._starting
        )
        self._bar.start()

    def _due(self) -> bool:
        finished = self._shards == self._shards_total
        return finished or time.monotonic() - self._last_line >= LINE_EVERY

    def _note(self) -> str:
        rate = self._speed.rate(time.monotonic())
        parts = [] if rate is None else [speed(rate)]
        parts += [f"shards {self._shards}/{self._shards_total}", f"{self._failed} failed"]
        passes = sum(one.passes for one in self._running.values())
        if passes and self._counts_passes:
            parts.append(f"{passes:,} calls of the network in unfinished shards")
        if rate and self._seen < self._total:
            parts.append(f"{duration((self._total - self._seen) / rate)} left")
        return ", ".join(parts)
