"""``events.jsonl``: what happened to a run, one JSON object a line, as it happened.

| kind | facts |
|---|---|
| run_started | host, pid, shards, todo, images |
| worker_started | worker, node, host, pid, device, cores, seconds |
| worker_waiting | workers: so many wait for free CPUs or GPUs of the cluster |
| worker_lost | worker, reason, shard (null while it started), node_lost |
| worker_recycled | worker, shards |
| shard_started | shard, worker, images, trial |
| progress | worker, shard, stage, images (told, not logged) |
| shard_done | shard, worker, images, failed, published, seconds of each stage |
| search | shard, images, reason: which of its images end their workers? |
| given_up | sample, key, reason |
| run_ended | outcome |
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.errors import storage_error
from engine.types import RunPaths

NOT_LOGGED = ("progress",)


class EventLog:
    """Appends events to the log of a run; a listener (:class:`engine.protocols.Listener`)."""

    def __init__(self, paths: RunPaths) -> None:
        self._path = paths.events
        try:
            self._handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if os.fstat(self._handle).st_size and not _ends_a_line(self._path):
                os.write(self._handle, b"\n")  # of a driver that was killed while it wrote
        except OSError as error:
            raise storage_error(error, paths.root) from error

    def __call__(self, kind: str, /, **facts: Any) -> None:
        """Append one line, in one write: lines are whole."""
        if kind in NOT_LOGGED:
            return
        line = json.dumps({"time": round(time.time(), 3), "kind": kind, **facts}) + "\n"
        try:
            os.write(self._handle, line.encode())
        except OSError as error:
            raise storage_error(error, self._path.parent) from error

    def close(self) -> None:
        """Close the file."""
        os.close(self._handle)


def read_events(paths: RunPaths) -> Iterator[dict[str, Any]]:
    """The events of a run, oldest first; none if there is no log. Broken lines are left out."""
    try:
        stream = paths.events.open("rb")
    except FileNotFoundError:
        return
    with stream:
        for line in stream:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "kind" in event and "time" in event:
                yield event


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"
