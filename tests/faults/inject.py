"""Faults for a run's workers, put around the parts that the product makes for itself.

A plan is a list of `Fault`, kept in a folder. Each happens once, whoever meets it and
however often the run is begun again: a file remembers it. A poisoned image is met always.
"""

import errno
import json
import os
import resource
import signal
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

import shardcam.engine.rundir.run_dir
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.prefetch import Prefetcher
from shardcam.engine.pipeline.run_shard import ShardPipeline
from shardcam.engine.protocols import Reader
from shardcam.engine.run.build_worker import build_parts

MEGABYTE = 1 << 20
ROOM = 256 * MEGABYTE  # of memory, before an image that wants all of it gets no more


@dataclass(frozen=True)
class Fault:
    """What happens where: `at` is a sample before and during the forward pass, then a shard."""

    place: str  # read, forward, write, publish, published
    at: int
    kind: str  # kill, crash, stop, hang, error, memory, slow, or the name of an errno
    always: bool = False


class Plan:
    """The faults of a run; knows which of them have happened."""

    def __init__(self, folder):
        self._folder = Path(folder)
        self._faults = {}
        for item in json.loads((self._folder / "plan.json").read_text()):
            fault = Fault(**item)
            self._faults[fault.place, fault.at] = fault

    def meet(self, place, at):
        fault = self._faults.get((place, at))
        if fault is None:
            return
        name = f"{place}-{at}-{fault.kind}"
        if fault.always:
            (self._folder / f"{name}-{os.getpid()}").touch()
        else:
            try:
                (self._folder / name).touch(exist_ok=False)
            except FileExistsError:
                return
        happen(fault)


def happen(fault):
    what = fault.kind
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif what == "hang":
        time.sleep(3600)
    elif what == "slow":
        time.sleep(3)
    elif what == "error":
        raise ZeroDivisionError("a bug")
    elif what == "memory":
        exhaust_memory()
    else:
        code = getattr(errno, what)
        raise OSError(code, os.strerror(code))


def exhaust_memory():
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    held = []
    while True:
        held.append(np.ones(16 * MEGABYTE, np.uint8))


def write_plan(folder, faults):
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps([asdict(fault) for fault in faults]))


def happened(folder):
    """Names of the faults that were met, those of poisoned images once a victim."""
    return sorted(path.name for path in folder.iterdir() if path.name != "plan.json")


class FaultyReader(Reader):
    def __init__(self, reader, plan):
        self._reader, self._plan = reader, plan

    def read(self, sample):
        self._plan.meet("read", sample.index)
        return self._reader.read(sample)


class FaultyForwardAhead(ForwardAhead):
    """Faults happen once a pass has begun, before it is waited for."""

    def __init__(self, prefetcher, network, plan):
        super().__init__(prefetcher, network)
        self._plan = plan

    def passes(self, shard, next_shard, timer):
        for batch, forward in super().passes(shard, next_shard, timer):
            for sample in batch.samples:
                self._plan.meet("forward", sample.index)
            yield batch, forward


class FaultySink:
    def __init__(self, sink, plan):
        self._sink, self._plan = sink, plan

    def open(self, shard):
        return FaultyWriter(self._sink.open(shard), self._plan, shard)


class FaultyWriter:
    def __init__(self, writer, plan, shard):
        self._writer, self._plan, self._shard = writer, plan, shard

    def write(self, batch):
        self._plan.meet("write", self._shard.index)
        self._writer.write(batch)

    def commit(self, failures):
        published = self._writer.commit(failures)
        self._plan.meet("published", self._shard.index)
        return published

    def discard(self):
        self._writer.discard()


def faulty_build(folder, order):
    """Make the runner of the product, with faults around its reader, network and sink."""
    plan = Plan(folder)
    loader, parts = build_parts(order)
    loader = replace(loader, reader=FaultyReader(loader.reader, plan))
    publish = shardcam.engine.rundir.run_dir.publish

    def faulty_publish(staged, final):
        plan.meet("publish", int(final.stem.rpartition("-")[2]))
        return publish(staged, final)

    shardcam.engine.rundir.run_dir.publish = faulty_publish  # in this worker's process alone
    ahead = FaultyForwardAhead(Prefetcher(loader.batches), parts.network, plan)
    parts = replace(parts, sink=FaultySink(parts.sink, plan))
    return ShardPipeline(parts, ahead)
