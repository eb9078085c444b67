"""Runners that do as they are told, for executors to run."""

import os
import signal
import time
from functools import partial
from pathlib import Path

from shardcam.engine.errors import DiskFull, ModelError
from shardcam.engine.types import Sample, Shard, ShardReport


def shards(count):
    return [Shard(i, (Sample(f"sample {i}", i, -1, "", 1),)) for i in range(count)]


def nobody(event):
    """An observer that does not look."""


def go(folder):
    """Let those that wait or sleep go on."""
    Path(folder, "go").touch()


def wait(folder, seconds):
    """Until `go`, or so long; return whether it came."""
    end = time.monotonic() + seconds
    while not Path(folder, "go").exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def builder(script, folder):
    """Make a picklable `build` whose runner follows `script` (shard number: what to do)."""
    return partial(_build, script, folder)


def _build(script, folder):
    if script.get("start") == "model error":
        raise ModelError("weights.params: cut short")
    if script.get("start") == "bug":
        raise ZeroDivisionError("a bug")
    if script.get("start") == "wait":
        Path(folder, f"starting-{os.getpid()}").touch()
        assert wait(folder, 60)
    if script.get("start") == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if script.get("start") == "die but one":
        try:
            Path(folder, "first").touch(exist_ok=False)
        except FileExistsError:
            os.kill(os.getpid(), signal.SIGKILL)
    if script.get("note") == "devices":
        Path(folder, f"devices-{os.getpid()}").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    return ScriptedRunner(script, folder)


class ScriptedRunner:
    def __init__(self, script, folder):
        self.script, self.folder = script, folder

    def run(self, shard, timer, next_shard=None):
        return _run(self.script, self.folder, shard, timer)


def _run(script, folder, shard, timer):
    """`die N`: kill the process the first N times this shard is run."""
    words = script.get(shard.index, "").split(maxsplit=2)
    what, times, unless = (*words, "", "", "")[:3]
    if unless == "unless given up" and len(shard.given_up) == len(shard.samples):
        return ShardReport(shard.index, 1, 0, 1, True, {})
    attempts = len(list(Path(folder).glob(f"{shard.index}-*")))
    Path(folder, f"{shard.index}-{attempts}").touch()
    if what == "die" and attempts < int(times):
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "hang" and attempts < int(times):
        with timer.stage("forward"):
            time.sleep(600)
    if what == "stop" and attempts < int(times):
        time.sleep(2)  # it has answered once
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "passes":  # slow, and a sign of life each second
        with timer.stage("map"):
            for _ in range(int(times)):
                time.sleep(1)
                timer.pass_begun()
    if what == "sleep":
        wait(folder, float(times))
    if what == "gather":  # until so many workers have started
        end = time.monotonic() + 60
        while len(list(Path(folder).glob("devices-*"))) < int(times):
            assert time.monotonic() < end, "too few workers have started"
            time.sleep(0.1)
    if what == "full":
        raise DiskFull("/data: no space left")
    if what == "memory":
        raise MemoryError("7 GiB")
    if what == "bug":
        raise ZeroDivisionError("a bug")
    return ShardReport(shard.index, 1, 1, 0, True, {"forward": 1.0})
