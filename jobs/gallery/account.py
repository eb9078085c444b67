"""The account of a run: what was listed, done and failed, and how long it took."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass

from engine.driver import RunReport
from engine.manifest import Manifest
from engine.results import read_failures
from engine.types import Failure, RunPaths
from jobs.status import published

MOST = 1000  # failures that are shown one by one


@dataclass(frozen=True)
class Reason:
    """Why samples failed."""

    stage: str
    error: str
    count: int


@dataclass(frozen=True)
class Account:
    """Counted from the shards that are there."""

    planned: int  # samples of the run
    shards_planned: int
    shards: int
    listed: int  # samples of those shards
    ok: int
    failed: int
    bytes: int  # of the shard files
    reasons: tuple[Reason, ...]  # the most frequent first
    failures: tuple[Failure, ...]  # the first MOST
    times: RunReport | None  # of the last command that did work; None while there is none

    @property
    def complete(self) -> bool:
        """Whether every shard is there."""
        return self.shards == self.shards_planned

    @property
    def closed(self) -> bool:
        """Whether every sample of the run is accounted for."""
        return self.planned == self.listed == self.ok + self.failed


def read_account(paths: RunPaths, manifest: Manifest) -> Account:
    """Count the shards of a run, and read its failures, a shard at a time.

    Raises
    ------
    RunDirectoryError
        A shard's failures are damaged.
    """
    done = published(paths, manifest.plan["shards"], manifest.fingerprint)
    reasons: Counter[tuple[str, str]] = Counter()
    first: list[Failure] = []
    for summary in done:
        failures = read_failures(paths.shard(summary.shard)) if summary.failed else []
        reasons.update((failure.stage, failure.error) for failure in failures)
        first += failures[: MOST - len(first)]
    return Account(
        planned=manifest.plan["samples"],
        shards_planned=manifest.plan["shards"],
        shards=len(done),
        listed=sum(s.listed for s in done),
        ok=sum(s.ok for s in done),
        failed=sum(s.failed for s in done),
        bytes=sum(s.bytes for s in done),
        reasons=tuple(Reason(*reason, count) for reason, count in reasons.most_common()),
        failures=tuple(first),
        times=_times(paths, manifest.fingerprint),
    )


def _times(paths: RunPaths, fingerprint: str) -> RunReport | None:
    """What report.json says; it is there once a run was complete."""
    try:
        report = RunReport(**json.loads(paths.report.read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return report if report.fingerprint == fingerprint else None
