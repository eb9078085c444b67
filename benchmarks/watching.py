"""A run of the command, watched from outside: memory, open files and CPU time of its processes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.25  # seconds
DRIVER = "driver"
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """What one process held when it was looked at."""

    megabytes: float
    files: int
    cpu: float  # seconds so far


@dataclass(frozen=True)
class Look:
    """The driver and the workers at one moment."""

    seconds: float  # since the start
    shards: int  # published by then
    processes: dict[str, Process]  # "driver", and "worker PID"


@dataclass(frozen=True)
class Watched:
    """A command that has ended, or was stopped."""

    code: int
    output: str
    looks: list[Look]

    def peak(self, name: str = DRIVER) -> float:
        """Most megabytes of the processes whose names begin so."""
        return max(
            process.megabytes
            for look in self.looks
            for other, process in look.processes.items()
            if other.startswith(name)
        )

    def until(self, shards: int) -> float:
        """Seconds until that many shards were published."""
        return next(look.seconds for look in self.looks if look.shards >= shards)


def watch(run: Path, arguments: list[str], enough: Callable[[int], bool] | None = None) -> Watched:
    """Run ``shardcam ARGUMENTS --out RUN``; send SIGINT when enough shards are published."""
    command = [sys.executable, "-m", "shardcam", *arguments, "--out", str(run)]
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    looks = []
    while process.poll() is None:
        shards = len(list((run / "shards").glob("shard-*.h5")))
        looks.append(Look(time.monotonic() - started, shards, _processes(process.pid)))
        if enough is not None and enough(shards):
            process.send_signal(signal.SIGINT)
            enough = None
        time.sleep(EVERY)
    output, _ = process.communicate()
    return Watched(process.returncode, output, [look for look in looks if look.processes])


def _processes(driver: int) -> dict[str, Process]:
    """The driver, and the Ray workers that descend from it."""
    parents, workers = {}, []
    for pid in (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()):
        try:
            parents[pid] = int(_stat(pid)[1])
            if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Worker"):
                workers.append(pid)
        except OSError:
            continue
    names = {driver: DRIVER} | {
        pid: f"worker {pid}" for pid in workers if _descends(pid, driver, parents)
    }
    found = {}
    for pid, name in names.items():
        try:
            found[name] = _process(pid)
        except (OSError, TypeError):  # it has just ended
            continue
    return found


def _descends(pid: int, driver: int, parents: dict[int, int]) -> bool:
    while pid in parents and pid != driver:
        pid = parents[pid]
    return pid == driver


def _process(pid: int) -> Process:
    status = Path(f"/proc/{pid}/status").read_text()
    kilobytes = int(re.search(r"VmRSS:\s+(\d+)", status)[1])  # type: ignore[index]
    stat = _stat(pid)
    cpu = (int(stat[11]) + int(stat[12])) / _TICKS
    return Process(kilobytes / 1024, len(list(Path(f"/proc/{pid}/fd").iterdir())), cpu)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
