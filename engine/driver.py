"""The driver: run the shards that are missing, then account for every sample."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Protocol

from engine.errors import AccountingError, RunDirectoryError
from engine.manifest import write_atomically
from engine.planning import Plan
from engine.protocols import Executor
from engine.results import check_shard, open_run, read_failures, read_shard_summary
from engine.types import Failure, RunPaths, Shard, ShardReport
from engine.writers.index import build_index
from engine.writers.staging import clean_staging


class Observer(Protocol):
    """Somebody who watches a run."""

    def started(self, plan: Plan, todo: tuple[Shard, ...]) -> None:
        """The run begins; shards not in `todo` are done already."""
        ...

    def shard_done(self, report: ShardReport) -> None:
        """One shard was published."""
        ...


@dataclass(frozen=True)
class RunReport:
    """The closed account of a finished run: listed = ok + failed."""

    fingerprint: str
    shards: int
    shards_done_now: int  # by this command; the others were there before
    listed: int
    ok: int
    failed: int
    failures: dict[str, int]  # by reason
    seconds: float  # wall clock of this command's shards
    images_per_second: float
    stage_seconds: dict[str, float]  # summed over this command's workers
    bottleneck: str | None


def missing_shards(plan: Plan, paths: RunPaths, fingerprint: str) -> tuple[Shard, ...]:
    """Resume is a set difference: the shards of the plan that have no file.

    Raises
    ------
    RunDirectoryError
        A shard file is damaged, or of another run.
    """
    todo = []
    for shard in plan.shards:
        path = paths.shard(shard.index)
        if not path.exists():
            todo.append(shard)
            continue
        problem = check_shard(path, shard.index, fingerprint)
        if problem:
            raise RunDirectoryError(f"{problem}; delete that file and run the command again")
    return tuple(todo)


def execute(
    plan: Plan, executor: Executor, paths: RunPaths, fingerprint: str, observer: Observer
) -> RunReport:
    """Run what is missing, index the shards and close the account.

    Raises
    ------
    AccountingError
        A sample of the plan is neither done nor failed.
    """
    clean_staging(paths)
    todo = missing_shards(plan, paths, fingerprint)
    observer.started(plan, todo)
    start = time.perf_counter()
    reports = []
    if todo:
        for report in executor.run(todo):
            reports.append(report)
            observer.shard_done(report)
        clean_staging(paths)  # of workers that died
    seconds = time.perf_counter() - start
    result = _close(plan, paths, reports, seconds)
    if todo or not _index_is_good(paths):
        build_index(paths)
    if todo or not paths.report.exists():
        write_atomically(paths, "report.json", json.dumps(asdict(result), indent=2) + "\n")
    return result


def _index_is_good(paths: RunPaths) -> bool:
    try:
        open_run(paths.root).close()
    except RunDirectoryError:
        return False
    return True


def _close(plan: Plan, paths: RunPaths, reports: list[ShardReport], seconds: float) -> RunReport:
    """Count from the published files alone, and write failures.csv from them."""
    summaries = [read_shard_summary(paths.shard(shard.index)) for shard in plan.shards]
    listed = sum(s.listed for s in summaries)
    ok, failed = sum(s.ok for s in summaries), sum(s.failed for s in summaries)
    if listed != plan.listed or listed != ok + failed:
        raise AccountingError(
            f"{paths.root}: {plan.listed} samples in the source, {listed} in the shards, "
            f"{ok} ok + {failed} failed"
        )
    failures = [f for s in summaries if s.failed for f in read_failures(paths.shard(s.shard))]
    if reports or not paths.failures.exists():
        write_atomically(paths, "failures.csv", _table(failures))
    stages: Counter[str] = Counter()
    for report in reports:
        stages.update(report.seconds)
    done_now = sum(report.listed for report in reports)
    return RunReport(
        fingerprint=summaries[0].fingerprint,
        shards=len(plan.shards),
        shards_done_now=len(reports),
        listed=listed,
        ok=ok,
        failed=failed,
        failures=dict(Counter(failure.error for failure in failures)),
        seconds=seconds,
        images_per_second=done_now / seconds if reports else 0.0,
        stage_seconds=dict(stages),
        bottleneck=max(stages, key=lambda stage: stages[stage]) if stages else None,
    )


def _table(failures: list[Failure]) -> str:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("key", "sample", "stage", "error", "message"))
    rows.writerows((f.key, f.sample, f.stage, f.error, f.message) for f in failures)
    return text.getvalue()
