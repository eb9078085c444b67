"""The driver: run the shards that are missing, then account for every sample."""

from __future__ import annotations

import csv
import json
import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, field

from shardcam.engine.errors import AccountingError, RunDirectoryError, ShardcamError, one_line
from shardcam.engine.io.plain_text import cell
from shardcam.engine.pipeline.bottleneck import find_bottleneck
from shardcam.engine.protocols import Executor, Observer
from shardcam.engine.run.plan import Plan
from shardcam.engine.rundir.account import Account, good_shards
from shardcam.engine.rundir.check_index import check_index
from shardcam.engine.rundir.event_log import EventLog, read_events
from shardcam.engine.rundir.events import RunEnded, RunOpened, RunStarted, ShardDone
from shardcam.engine.rundir.replace_shards import bring_back, set_aside
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import ShardSummary, read_failures, read_shard_summary
from shardcam.engine.rundir.shard_index import build_index
from shardcam.engine.types import Event, Failure, Note, Part, RunReport, Shard, ShardReport, counted

FEWEST = 32  # images below which start-up dominates the seconds
FULL = 0.8  # share of the places in batches, below which it is told why


@dataclass
class Tally:
    """What this command's workers have reported, added up."""

    shards: int = 0
    images: int = 0
    placed: int = 0  # images in batches that count their places
    room: int = 0  # those places
    seconds: Counter[str] = field(default_factory=Counter)  # by stage

    def add(self, report: ShardReport) -> None:
        self.shards += 1
        self.images += report.listed
        if report.room:
            self.placed += report.ok
            self.room += report.room
        self.seconds.update(report.seconds)


class _Todo:
    """The missing shards of a plan, made one by one."""

    def __init__(self, plan: Plan, numbers: Sequence[int]) -> None:
        self._plan, self._numbers = plan, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __iter__(self) -> Iterator[Shard]:
        return map(self._plan.shard, self._numbers)


def published_shards(
    plan: Plan, run_dir: RunDir, fingerprint: str, part: Part | None = None
) -> dict[int, ShardSummary]:
    """Summaries of the shards that exist, in a part or in all; resuming runs all others.

    Raises
    ------
    RunDirectoryError
        A shard file is damaged, or of another run.
    StoreError
        One cannot be read now.
    """

    def stop(error: RunDirectoryError) -> None:
        raise RunDirectoryError(
            f"{error}; shardcam verify --repair moves it aside, and the same command refills it"
        ) from error

    good = good_shards(run_dir, plan.shards, fingerprint, stop, part)
    return {summary.shard: summary for summary in good}


def execute(
    plan: Plan,
    executor: Executor,
    run_dir: RunDir,
    fingerprint: str,
    on_event: Observer,
    again: bool = False,
    notes: Sequence[Note] = (),
) -> RunReport:
    """Run what is missing, index the shards and close the account.

    `again`: shards were set aside on purpose (`engine.rundir.replace_shards`). `notes`: what
    was assumed and left out; the report adds what the rows are flagged for.

    Raises
    ------
    AccountingError
        A sample of the plan is neither done nor failed.
    """
    run_dir.clean_staging()
    if not again:
        bring_back(run_dir)
    done = published_shards(plan, run_dir, fingerprint)
    short = [number for number in done if done[number].listed < plan.samples_in(number)]
    for number in short:  # the last, before the run grew
        del done[number]
    todo = [number for number in range(plan.shards) if number not in done]
    images_done = sum(map(plan.samples_in, done))
    on_event(RunOpened(plan.shards, len(done), plan.listed, images_done))
    start = time.perf_counter()
    tally = Tally()
    if todo:
        aside = set_aside(run_dir, short) if short else nullcontext()
        with aside, logged(run_dir, plan, len(todo), on_event) as observe:
            for report in _reports(executor, _Todo(plan, todo), run_dir, observe):
                tally.add(report)
    seconds = time.perf_counter() - start
    done |= {number: read_shard_summary(shard) for number, shard in run_dir.open_shards(todo)}
    fresh = bool(todo) or not _index_is_good(run_dir, fingerprint)
    if fresh and not todo:
        tally = _tally_of_parts(run_dir)
    notes = (*notes, *_batch_notes(plan, tally))
    result = _close(plan, run_dir, done, tally, seconds, fresh, notes)
    if fresh:
        build_index(run_dir)
    if fresh or not run_dir.exists(run_dir.report):
        text = json.dumps(asdict(result), indent=2) + "\n"
        run_dir.write_atomically(run_dir.report, text)
    return result


def _reports(
    executor: Executor, todo: _Todo, run_dir: RunDir, observe: Observer
) -> Iterator[ShardReport]:
    """Of each shard; what workers that died, or were ended, began to write is gone afterwards."""
    try:
        yield from executor.run(todo, observe)
    finally:
        with suppress(ShardcamError):  # else the next run removes it
            run_dir.clean_staging()


def _batch_notes(plan: Plan, tally: Tally) -> Iterator[Note]:
    """How full batches of pictures of many sizes were, and why no fuller."""
    if not tally.room or not (sizes := plan.listing.sizes):
        return
    share = tally.placed / tally.room
    text = f"batches were {share:.0%} full"
    if share < FULL:
        each = plan.listed / max(sizes.distinct, 1)
        text += (
            f": a size has {counted(each, 'image', '.3g')}, and batches end with their "
            f"shard of {plan.shard_size} (a larger --shard-size has fuller ones)"
        )
    yield Note("sizes", text)


def execute_part(
    plan: Plan,
    part: Part,
    executor: Executor,
    run_dir: RunDir,
    fingerprint: str,
    on_event: Observer,
) -> RunReport:
    """Run what is missing of a part, and count its shards; the index and the account are not made.

    Others may do the same with other parts at the same time.
    """
    own = part.shards(plan.shards)
    run_dir.clean_staging()
    done = published_shards(plan, run_dir, fingerprint, part)
    todo = [number for number in own if number not in done]
    images, images_done = (sum(map(plan.samples_in, some)) for some in (own, done))
    on_event(RunOpened(len(own), len(done), images, images_done))
    start, tally = time.perf_counter(), Tally()
    if todo:
        with logged(run_dir, plan, len(todo), on_event, part) as observe:
            for report in _reports(executor, _Todo(plan, todo), run_dir, observe):
                tally.add(report)
    seconds = time.perf_counter() - start
    done |= {number: read_shard_summary(shard) for number, shard in run_dir.open_shards(todo)}
    summaries = [done[number] for number in own]
    failures = _failures(run_dir, summaries)
    return _report(summaries, fingerprint, tally, seconds, failures)


@contextmanager
def logged(
    run_dir: RunDir, plan: Plan, todo: int, on_event: Observer, part: Part | None = None
) -> Iterator[Observer]:
    """An observer that writes the log of the run, or of a part, and calls `on_event`; it closes it.

    `on_event` gets `RunEnded` only where nothing was raised, for it may itself have raised.
    """
    log = EventLog(run_dir, part)

    def observe(event: Event) -> None:
        log.append(event)
        on_event(event)

    outcome = "done"
    try:
        observe(RunStarted(socket.gethostname(), os.getpid(), plan.shards, todo, plan.listed))
        yield observe
    except BaseException as error:
        outcome = one_line(error)
        raise
    finally:
        ended = RunEnded(outcome)
        try:
            with suppress(ShardcamError):  # what stopped the run counts, if it did not
                log.append(ended)
        finally:
            log.close()
        with suppress(ShardcamError):
            run_dir.put(log.path)
    on_event(ended)


def _tally_of_parts(run_dir: RunDir) -> Tally:
    """The stages of what commands for parts did: this command had nothing to do."""
    tally = Tally()
    for event in read_events(run_dir):
        if "part" in event and event["kind"] == ShardDone.kind:
            tally.images += int(event.get("images", 0))
            tally.seconds.update(event.get("seconds", {}))
    return tally


def _index_is_good(run_dir: RunDir, fingerprint: str) -> bool:
    try:
        check_index(run_dir, fingerprint)
    except RunDirectoryError:
        return False
    return True


def _close(
    plan: Plan,
    run_dir: RunDir,
    done: dict[int, ShardSummary],
    tally: Tally,
    seconds: float,
    fresh: bool,
    notes: Sequence[Note],
) -> RunReport:
    """Count from the published files alone, and write failures.csv from them."""
    summaries = [done[number] for number in range(plan.shards)]
    if problem := Account.of(summaries).problem(plan.listed):
        raise AccountingError(f"{run_dir.home}: {problem}")
    failures = _failures(run_dir, summaries)
    if fresh or not run_dir.exists(run_dir.failures):
        failures = _tabled(failures, run_dir)
    fingerprint = summaries[0].fingerprint
    return _report(summaries, fingerprint, tally, seconds, failures, notes)


def _report(
    summaries: list[ShardSummary],
    fingerprint: str,
    tally: Tally,
    seconds: float,
    failures: Iterable[Failure],
    notes: Sequence[Note] = (),
) -> RunReport:
    account = Account.of(summaries)
    reasons = Counter(failure.error for failure in failures)
    bottleneck = find_bottleneck(tally.seconds) if tally.images >= FEWEST else None
    return RunReport(
        fingerprint=fingerprint,
        shards=account.shards,
        shards_done_now=tally.shards,
        listed=account.listed,
        ok=account.ok,
        failed=account.failed,
        failures=dict(reasons),
        seconds=seconds,
        images_per_second=tally.images / seconds if tally.shards else 0.0,
        stage_seconds=dict(tally.seconds),
        bottleneck=str(bottleneck) if bottleneck else None,
        notes=(*notes, *account.notes),
    )


def _failures(run_dir: RunDir, summaries: Iterable[ShardSummary]) -> Iterator[Failure]:
    having = [summary.shard for summary in summaries if summary.failed]
    for _, shard in run_dir.open_shards(having):
        yield from read_failures(shard)


def _tabled(failures: Iterable[Failure], run_dir: RunDir) -> Iterator[Failure]:
    """Write failures.csv on the way: there may be as many of them as samples."""
    with run_dir.atomic_file(run_dir.failures) as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(("key", "sample", "stage", "error", "message"))
        for f in failures:
            rows.writerow((cell(f.key), f.sample, *map(cell, (f.stage, f.error, f.message))))
            yield f
