"""Writing in a thread: the same promises, and errors that arrive a little later."""

import threading
import time

import h5py
import pytest

from shardcam.engine.errors import DiskFull
from shardcam.engine.pipeline.background_sink import WAITING, BackgroundSink
from shardcam.engine.pipeline.tee_sink import TeeSink
from shardcam.engine.rundir.hdf5_sink import Hdf5Sink
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.shard_file import read_failures
from tests.rundir.sink_conformance import (
    PROMISES,
    SPECS,
    SinkCase,
    make_batch,
    make_shard,
    publish,
    rows_of,
)


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
def test_it_keeps_the_promises_of_a_sink(promise, tmp_path):
    paths = RunDir(tmp_path)
    promise(
        SinkCase(
            BackgroundSink(Hdf5Sink(paths, SPECS, "f00d")),
            rows=lambda shard: rows_of(paths.shard(shard.index)),
            failures=lambda shard: read_failures(paths.shard(shard.index)),
            published=lambda shard: paths.shard(shard.index).exists(),
            leftovers=lambda: sorted(p.name for p in paths.staging.iterdir()),
        )
    )


@pytest.mark.parametrize("codec", ["none", "gzip", "zstd", "lz4"])
def test_every_codec_gives_the_same_rows_and_has_a_checksum(codec, tmp_path):
    shard = make_shard()
    paths = RunDir(tmp_path)
    assert publish(Hdf5Sink(paths, SPECS, "f00d", codec), shard)
    rows = rows_of(paths.shard(0))
    expected = tmp_path / "gzip"
    publish(Hdf5Sink(RunDir(expected), SPECS, "f00d"), shard)
    assert {name: values.tobytes() for name, values in rows.items()} == {
        name: values.tobytes() for name, values in rows_of(RunDir(expected).shard(0)).items()
    }
    with h5py.File(paths.shard(0)) as file:
        assert file["logits"].fletcher32


class Slow:
    """A writer that waits for a gate, and may fail."""

    def __init__(self, error=None):
        self.gate, self.error, self.written, self.discarded = threading.Event(), error, 0, False

    def open(self, _shard):
        return self

    def write(self, _batch):
        assert self.gate.wait(10)
        if self.error:
            raise self.error
        self.written += 1

    def commit(self, _failures):
        return True

    def discard(self):
        self.discarded = True


BATCH = make_batch(make_shard().samples)


def test_the_caller_goes_on_and_waits_only_when_too_much_is_waiting():
    slow = Slow()
    writer = BackgroundSink(slow).open(make_shard())
    for _ in range(WAITING):
        writer.write(BATCH)
    assert slow.written == 0
    threading.Timer(0.2, slow.gate.set).start()
    start = time.monotonic()
    for _ in range(3):
        writer.write(BATCH)
    assert time.monotonic() - start > 0.1
    assert writer.commit([])
    assert slow.written == WAITING + 3


def test_an_error_is_raised_by_a_later_call_and_never_lost():
    slow = Slow(DiskFull("no space"))
    slow.gate.set()
    writer = BackgroundSink(slow).open(make_shard())
    with pytest.raises(DiskFull):
        for _ in range(100):
            writer.write(BATCH)
            time.sleep(0.01)
    with pytest.raises(DiskFull):
        writer.commit([])
    writer.discard()
    assert slow.discarded


class Full:
    """A sink that cannot be opened."""

    def open(self, _shard):
        raise DiskFull("no space")


def test_of_several_sinks_none_is_left_open_where_one_cannot_be_opened():
    before, slow = threading.active_count(), Slow()
    with pytest.raises(DiskFull):
        TeeSink(BackgroundSink(slow), Full()).open(make_shard())
    assert slow.discarded
    assert threading.active_count() == before


def test_what_is_discarded_is_not_written():
    slow = Slow()
    writer = BackgroundSink(slow).open(make_shard())
    for _ in range(WAITING):
        writer.write(BATCH)
    threading.Timer(0.2, slow.gate.set).start()
    writer.discard()
    assert slow.written <= 1  # the one that was being written
    assert slow.discarded


def test_no_thread_is_left_where_ctrl_c_comes_before_the_first_batch_or_while_discarding(
    monkeypatch,
):
    before, slow = threading.active_count(), Slow()
    writer = BackgroundSink(slow).open(make_shard())
    assert threading.active_count() == before
    slow.gate.set()
    writer.write(BATCH)

    def interrupted():
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(writer._thread, "join", interrupted)
    with pytest.raises(KeyboardInterrupt):
        writer.discard()
    assert threading.active_count() == before
    assert slow.discarded
