"""Pictures decoded by other processes: the same batches, and nothing stays behind."""

import errno
import gc
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import InternalError, SourceError, WorkerError
from shardcam.engine.pipeline.prefetch import Prefetcher
from shardcam.engine.pipeline.targets import parse_targets
from shardcam.engine.run.build_worker import _loader, decode_processes
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.types import Failure, Preprocessing, Shard
from shardcam.engine.workers import decoder_processes
from shardcam.engine.workers.child_process import ChildProcess
from shardcam.engine.workers.decoder_processes import DecoderProcesses, _SharedMemory
from tests.jobs.command import ROOT
from tests.jobs.images import make_folder
from tests.readers.sources import pictures, png, write_h5, write_tar
from tests.workers import decoding
from tests.workers.decoding import BATCH, beside, many, shard

pytestmark = pytest.mark.process
RGB = Preprocessing(48, 64, (120.0, 110.0, 100.0), (60.0, 60.0, 60.0))


@pytest.fixture(scope="module")
def two():
    return decoding.processes(2)


def sources(base):
    make_folder(base / "folder", 50, bad=4)
    stack = pictures(50)
    write_tar(base / "all.tar", [(f"{i:03d}.png", png(one)) for i, one in enumerate(stack)])
    write_h5(base / "one.h5", stack, range(50))
    np.save(base / "stack.npy", stack)
    return [base / name for name in ("folder", "all.tar", "one.h5", "stack.npy")]


def same(found, expected):
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert (one.listed, one.samples, one.failures) == (
            other.listed, other.samples, other.failures)  # fmt: skip
        np.testing.assert_array_equal(one.images, other.images)
        for view, expected_view in zip(one.views, other.views, strict=True):
            assert replace(view, pixels=0) == replace(expected_view, pixels=0)
            np.testing.assert_array_equal(view.pixels, expected_view.pixels)


def test_the_same_batches_as_in_threads_to_the_bit(tmp_path):
    """Of every kind of source, as the network takes them, failures included; whole and reduced."""
    options = {"fast_decode": True, "max_pixels": 1_000_000}
    orders = [
        RGB,
        replace(RGB, channels="bgr", resize="pad"),
        replace(RGB, mean=(1.0,), std=(1.0,), height=33),
        replace(RGB, resize="shorter:60,crop"),
    ]
    for source, preprocessing in zip(sources(tmp_path), orders):
        config = RunConfig(source=str(source), model="-", out="-", executor="local", **options)
        label = parse_targets("label", 30)  # of some there is none: they are refused
        load = partial(_loader, config, label if ".h5" in source.name else parse_targets("top1", 9))
        load = partial(load, preprocessing, 20)
        samples = tuple(make_reader(config).samples())
        shards = [Shard(0, samples[:41]), Shard(1, samples[41:])]
        others = DecoderProcesses(2, load, preprocessing, 20)
        expected = [list(load(3).batches(one)) for one in shards]
        ahead = Prefetcher(load(1, others).batches)
        same(list(ahead.batches(*shards)), expected[0])
        same(list(ahead.batches(shards[1])), expected[1])
        failed = sum(len(batch.failures) for batch in [*expected[0], *expected[1]])
        assert failed == {"folder": 4, "one.h5": 20}.get(source.name, 0)


def test_memory_is_locked_once_and_unlocked_at_the_end():
    """As a GPU wants it that reads from it; `lock` and what it returns are torch's."""
    locked, unlocked = [], []

    def lock(memory):
        locked.append((memory.ctypes.data, memory.nbytes))
        return partial(unlocked.append, memory.ctypes.data)

    others = DecoderProcesses(1, decoding.told, decoding.PREPROCESSING, BATCH, lock)
    for _ in range(3):
        for batch in beside(others).batches(many()):
            start = batch.images.ctypes.data
            assert any(at <= start < at + size for at, size in locked)
    del batch
    assert len(locked) == len(set(locked)) and unlocked == []
    del others
    gc.collect()
    assert sorted(unlocked) == sorted(at for at, _ in locked)


def test_processes_leave_cores_to_what_they_feed(two):
    list(beside(two).batches(shard("good")))
    ready = [one.process.number for one in two._decoders if one.ready]
    expected = min(19, os.getpriority(os.PRIO_PROCESS, 0) + decoder_processes.BEHIND)
    assert {os.getpriority(os.PRIO_PROCESS, number) for number in ready} == {expected}


def test_given_up_samples_and_errors_of_reading(two):
    one = shard("good", "gone", "good", "die")
    given_up = Failure("die", 3, "worker", "worker crashed", "")
    (batch,) = beside(two).batches(replace(one, given_up=(given_up,)))
    assert (batch.listed, [s.index for s in batch.samples]) == (4, [0, 2])
    (failure,) = batch.failures
    assert (failure.key, failure.stage, failure.error) == ("gone", "read", "unreadable")
    assert batch.images[:, 0, 0, 0].tolist() == [0, 2]
    assert list(beside(two).batches(Shard(0, ()))) == []


def test_a_picture_that_ends_its_process_fails_alone(two):
    keys = ["good"] * 90
    keys[5] = keys[60] = "die"
    batches = list(beside(two).batches(shard(*keys)))
    failures = [failure for batch in batches for failure in batch.failures]
    assert [(f.sample, f.stage, f.error, f.message) for f in failures] == [
        (5, "worker", "worker crashed", "died of SIGKILL"),
        (60, "worker", "worker crashed", "died of SIGKILL"),
    ]
    for batch in batches:
        assert (batch.images[:, 0, 0, 0] == [s.index for s in batch.samples]).all()
    assert sum(len(batch.samples) for batch in batches) == 88


@pytest.mark.parametrize("build", [decoding.dying, decoding.told])
def test_processes_that_always_die_stop_the_run(build, monkeypatch):
    """While they start, or over every picture."""
    monkeypatch.setattr(decoder_processes, "LOSSES", 3)
    with pytest.raises(WorkerError, match="a decoder process died of SIGKILL, and it is not the"):
        list(beside(decoding.processes(1, build)).batches(shard(*["die"] * 20)))


def test_no_more_processes_than_the_system_gives():
    """One line, wherever files run out, and none stays open."""
    files, limits = len(os.listdir("/proc/self/fd")), resource.getrlimit(resource.RLIMIT_NOFILE)
    told = []
    for most in range(files, files + 12):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        try:
            ChildProcess(decoder_processes.serve).end()
        except WorkerError as error:
            told.append(str(error))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert len(os.listdir("/proc/self/fd")) == files
    assert {*told} == {"no child process can be started: Too many open files"}


def test_no_more_memory_than_the_system_gives(monkeypatch):
    monkeypatch.setattr(_SharedMemory, "piece", refuse)
    with pytest.raises(
        WorkerError, match=r"no memory to share .*: Cannot allocate memory; a small"
    ):
        list(beside(decoding.processes(1)).batches(many()))


def refuse(*_):
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


@pytest.mark.parametrize(
    ("key", "error", "told"),
    [
        ("bug", InternalError, r"^KeyError: 'a bug of the reader' \(at sample 'bug'\)"),
        ("no source", SourceError, "^the source has gone$"),
    ],
)
def test_what_is_raised_there_is_raised_here(two, key, error, told):
    with pytest.raises(error, match=told) as raised:
        list(beside(two).batches(shard(*["good"] * 50, key)))
    assert key != "bug" or "decoding.py" in raised.value.trace
    assert len(list(beside(two).batches(many()))) == 3  # and they go on


def test_batches_that_nobody_takes_hold_up_nothing(two):
    """Another shard than the announced one comes; a consumer fails half-way."""
    ahead = Prefetcher(beside(two).batches)
    first = ahead.batches(many(), many(index=1))
    next(first)
    for index in (2, 3):
        found = list(ahead.batches(many(index=index, first=7 * index), many(index=9)))
        rows = np.concatenate([batch.images[:, 0, 0, 0] for batch in found])
        assert rows.tolist() == [7 * index + i for i in range(100)]
    assert len(list(ahead.batches(many(index=9)))) == 3
    assert two.begun == 0


def test_memory_is_used_again_when_nobody_holds_it(two):
    held = next(beside(two).batches(many(first=3)))
    for _ in range(10):
        list(beside(two).batches(many()))
    assert held.images[:, 0, 0, 0].tolist() == [3 + i for i in range(BATCH)]
    assert held.views[7].pixels.max() == 10
    assert len(two._memory._pieces) < 16  # of more than 30 batches


def ended(numbers):
    end = time.monotonic() + 20
    while any(Path(f"/proc/{number}").exists() for number in numbers):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def test_they_end_with_what_made_them():
    others = decoding.processes(2)
    numbers = [one.process.number for one in others._decoders]
    gc.collect()
    files = len(os.listdir("/proc/self/fd"))
    list(beside(others).batches(many()))
    del others
    gc.collect()
    assert ended(numbers)
    assert len(os.listdir("/proc/self/fd")) == files - 2 * 2 - 2  # pipes; memory and selector


@pytest.mark.parametrize("how", ["kill", "interrupt"])
def test_they_end_with_their_parent_whatever_they_do(how):
    """Killed, it says goodbye to nobody; and these never come to look."""
    parent = subprocess.Popen(
        [sys.executable, "-c", "from tests.workers.decoding import hang; hang(2)"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    numbers = [*map(int, parent.stdout.readline().split())]
    assert len(numbers) == 2
    time.sleep(1)  # some are in the reader by then, some still import
    parent.kill() if how == "kill" else parent.send_signal(2)
    parent.wait()
    parent.stdout.close()
    assert ended(numbers)


def test_where_it_is_the_default():
    config = RunConfig(source="-", model="-", out="-", cpus_per_worker=3)
    assert decode_processes(config) == 0
    gpu = config.model_copy(update={"gpus_per_worker": 0.5})
    assert decode_processes(gpu) == 3
    assert decode_processes(gpu.model_copy(update={"decode_processes": 0})) == 0
    assert decode_processes(config.model_copy(update={"decode_processes": 2})) == 2
