"""``events.jsonl``: what happened to a run, one JSON object a line, as it happened.

Each has the `time`, in seconds since 1970, its `kind`, which is that of one of
`engine.rundir.events`, and the fields of that.
"""

from __future__ import annotations

import heapq
import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any

from shardcam.engine.errors import RunDirectoryError, read_error, storage_error
from shardcam.engine.io.plain_file import open_plain, parse_json
from shardcam.engine.rundir.events import ShardDone
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_files import PART_EVENTS
from shardcam.engine.rundir.worker_activity import Workers
from shardcam.engine.types import Event, Part

_MOST, _LONGEST = 1 << 30, 1 << 16  # bytes of a log, of a line
_LARGEST = 2.0**37  # of a number, such as the seconds since 1970
_NUMBERS = ("time", "images", "pid", "shard", "workers")
_TEXTS = ("kind", "worker", "host", "device", "outcome", "resource")


class EventLog:
    """The log of a run, or of a part; `append` is an observer (`engine.protocols.Observer`)."""

    def __init__(self, run_dir: RunDir, part: Part | None = None) -> None:
        self.path = run_dir.events if part is None else run_dir.part_events(part)
        run_dir.fetch(self.path)
        try:
            self._handle = open_plain(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
            size = os.fstat(self._handle).st_size
            if size and os.pread(self._handle, 1, size - 1) != b"\n":
                os.write(self._handle, b"\n")  # of a driver that was killed while it wrote
        except OSError as error:
            raise storage_error(error, run_dir.root) from error

    def append(self, event: Event) -> None:
        """Append one line, in one write: lines are whole."""
        if event.kind is None:
            return
        facts = {"time": round(time.time(), 3), "kind": event.kind, **vars(event)}
        line = json.dumps(facts) + "\n"
        try:
            os.write(self._handle, line.encode())
        except OSError as error:
            raise storage_error(error, self.path.parent) from error

    def close(self) -> None:
        os.close(self._handle)


def read_events(run_dir: RunDir) -> Iterator[dict[str, Any]]:
    """The events of a run, oldest first; none if there is no log. Broken lines are left out.

    Those of a command for a part have the name of its log as their `part`, and its worker has a
    name of its own.

    Raises
    ------
    RunDirectoryError
        It is too large for a log.
    StoreError
        A log cannot be read now.
    """
    logs: list[Iterable[dict[str, Any]]] = [_read(run_dir, run_dir.events, {})]
    for name in sorted(run_dir.names(run_dir.root)):
        if name.startswith(PART_EVENTS):
            run_dir.fetch(run_dir.root / name)
            part = {"part": name, "worker": name.removeprefix("events.").removesuffix(".jsonl")}
            logs.append([*_read(run_dir, run_dir.root / name, part)])
    return heapq.merge(*logs, key=itemgetter("time"))


def _read(run_dir: RunDir, path: Path, part: dict[str, str]) -> Iterator[dict[str, Any]]:
    for line in _lines(run_dir, path):
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if isinstance(event, dict) and all(_is_sound(event, name) for name in ("kind", "time")):
            yield {name: value for name, value in event.items() if _is_sound(event, name)} | part


def _is_sound(event: dict[str, Any], name: str) -> bool:
    """Whether a field is there and of its kind; `summarize` and others take it for that."""
    value = event.get(name)
    if name == "part":  # only the name of a log says this
        return False
    if name == "seconds" and event.get("kind") == ShardDone.kind:
        return isinstance(value, dict) and all(map(_is_number, value.values()))
    if name in _NUMBERS:
        return _is_number(value)
    return isinstance(value, str) or name not in _TEXTS


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < _LARGEST  # and no NaN


def _lines(run_dir: RunDir, path: Path) -> Iterator[bytes]:
    place = run_dir.place(path)
    try:
        with os.fdopen(open_plain(path), "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            if size > _MOST:
                raise RunDirectoryError(f"{place}: {size} bytes are no log; move it away")
            yield from iter(lambda: stream.readline(_LONGEST), b"")
    except FileNotFoundError:
        return
    except OSError as error:
        raise read_error(error, place) from error


@dataclass
class Activity:
    """The sums of a run's event log, and the workers of its last command."""

    commands: int = 0
    outcome: str | None = None  # of the last command; None while it runs, or if it was killed
    last: float = 0.0  # seconds since 1970
    workers: Workers = field(default_factory=lambda: Workers({}))
    lost: int = 0  # workers, in all commands
    stage_seconds: Counter[str] = field(default_factory=Counter)

    def add(self, event: dict[str, Any]) -> None:
        """Count one more event, a line of the log."""
        kind = event["kind"]
        self.last = float(event["time"])
        if kind == "run_started":
            self.commands += 1
            self.outcome = None
            if "part" in event:  # others are at work beside it
                self.workers.join(event)
            else:
                self.workers = Workers(event)
        elif kind == "worker_lost":
            self.lost += 1
        elif kind == "shard_done":
            self.stage_seconds.update(event.get("seconds", {}))
        elif kind == "run_ended":
            self.outcome = str(event.get("outcome"))
        self.workers.add(event)


def summarize(events: Iterable[dict[str, Any]]) -> Activity:
    """Read a log from its beginning."""
    activity = Activity()
    for event in events:
        activity.add(event)
    return activity


def worker_rate(events: Iterable[dict[str, Any]]) -> tuple[int, float]:
    """How many workers took shards, and their images per second together.

    Each counts from its first shard, for it may have started late, to the end of all.
    """
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    images = 0
    for event in events:
        if event["kind"] == "shard_started":
            begun.setdefault(event["worker"], event["time"])
        elif event["kind"] == "shard_done":
            ended[event["worker"]] = event["time"]
            images += event["images"]
    seconds = sum(max(ended.values()) - begun[worker] for worker in ended)
    return len(ended), len(ended) * images / seconds
