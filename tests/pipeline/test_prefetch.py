"""Reading ahead: the same batches, in order, bounded, and nothing waits for ever."""

import threading
import time
from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from shardcam.engine.errors import InternalError, SourceError
from shardcam.engine.pictures.imaging import stacked
from shardcam.engine.pipeline.decoder_threads import Decoders
from shardcam.engine.pipeline.prefetch import AHEAD, BYTES_TOGETHER, BatchLoader, Prefetcher
from shardcam.engine.pipeline.targets import parse_targets
from shardcam.engine.protocols import Reader
from shardcam.engine.types import Decoding, Failure, Preprocessing, Sample, Shard


def shard(index, count=6):
    samples = tuple(Sample(f"{index}/{i}", i, -1, "", 0) for i in range(count))
    return Shard(index, samples)


class Kitchen:
    """Batches are (shard, number); it writes down when each is made."""

    def __init__(self, fails_at=None):
        self.made = []
        self.fails_at = fails_at

    def batches(self, shard):
        for number in range(len(shard.samples)):
            if (shard.index, number) == self.fails_at:
                raise RuntimeError("the reader broke")
            self.made.append((shard.index, number))
            yield shard.index, number


def settled(kitchen):
    """What has been made when nothing more is made."""
    before = None
    while before != len(kitchen.made):
        before = len(kitchen.made)
        time.sleep(0.1)
    return list(kitchen.made)


def test_batches_come_in_order_and_the_thread_is_never_far_ahead():
    kitchen = Kitchen()
    taken = []
    for batch in Prefetcher(kitchen.batches).batches(shard(0)):
        taken.append(batch)
        assert len(settled(kitchen)) <= len(taken) + AHEAD + 1
    assert taken == [(0, i) for i in range(6)]


class Place:
    """A reader that writes down which samples are read at once, and finds none."""

    def __init__(self):
        self.told = []

    def read_many(self, samples):
        self.told.append([sample.index for sample in samples])
        for _ in samples:
            yield OSError("gone")


@pytest.mark.parametrize(
    ("batch_size", "sizes"), [(8, [32, 32, 5]), (12, [36, 33]), (40, [40, 29])]
)
def test_batches_are_read_together_in_larger_parts(batch_size, sizes):
    """A sample that was given up is not fetched."""
    place, targets = Place(), parse_targets("top1", 10)
    preprocessing = Preprocessing(8, 8, (0, 0, 0), (1, 1, 1))
    loader = BatchLoader(place, targets, preprocessing, batch_size, Decoding(100))
    given_up = Failure("0/3", 3, "worker", "died", "")
    batches = list(loader.batches(replace(shard(0, 70), given_up=(given_up,))))
    assert [len(part) for part in place.told] == sizes
    assert list(chain(*place.told)) == [i for i in range(70) if i != 3]
    assert sum(batch.listed for batch in batches) == 70
    assert sum(len(batch.failures) for batch in batches) == 69


def test_large_images_are_read_together_by_fewer():
    place, targets = Place(), parse_targets("top1", 10)
    preprocessing = Preprocessing(8, 8, (0, 0, 0), (1, 1, 1))
    loader = BatchLoader(place, targets, preprocessing, 4, Decoding(100))
    third = BYTES_TOGETHER // 3
    sizes = [third, third, third, 1, -1, 2 * BYTES_TOGETHER, 1]
    samples = tuple(Sample(f"{i}", i, -1, "", size) for i, size in enumerate(sizes))
    assert [batch.listed for batch in loader.batches(Shard(0, samples))] == [4, 3]
    assert place.told == [[0, 1, 2, 3, 4], [5], [6]]


@pytest.mark.parametrize("channels", [(1, "rgb"), (3, "rgb"), (3, "bgr")])
@pytest.mark.parametrize("threads", [1, 3])
def test_views_are_rows_of_the_batch(threads, channels):
    """Once in memory where the network takes them as they are; failures leave no gap."""
    pictures = np.random.RandomState(0).randint(0, 256, (8, 6, 6, 3)).astype(np.uint8)

    class Reads(Reader):
        def read(self, sample):
            return b"none" if sample.index in (1, 6, 7) else pictures[sample.index]

    count, order = channels
    numbers = (0.0,) * count, (1.0,) * count
    preprocessing = Preprocessing(6, 6, *numbers, interpolation="nearest", channels=order)
    loader = BatchLoader(
        Reads(), parse_targets("top1", 10), preprocessing, 3, Decoding(100), Decoders(threads)
    )
    given_up = Failure("0/0", 0, "worker", "died", "")
    batches = list(loader.batches(replace(shard(0, 8), given_up=(given_up,))))
    assert [batch.listed for batch in batches] == [3, 3, 2]
    assert [[s.index for s in batch.samples] for batch in batches] == [[2], [3, 4, 5], []]
    assert [[f.sample for f in batch.failures] for batch in batches] == [[1], [], [6, 7]]
    for batch in batches:
        seen = pictures[[sample.index for sample in batch.samples]]
        assert batch.images.shape == (len(seen), 6, 6, count)
        np.testing.assert_array_equal(batch.images, stacked(list(seen), preprocessing))
        for view, picture in zip(batch.views, seen):
            np.testing.assert_array_equal(view.pixels, picture)
    whole = batches[1]
    shared = [np.shares_memory(view.pixels, whole.images) for view in whole.views]
    assert shared == [channels == (3, "rgb")] * 3


class Pixels(Reader):
    """A reader of black pictures; one of them is of no shape, and so is a bug of its own."""

    def read(self, sample):
        if sample.index == 2:
            raise KeyError("a bug of the reader")
        if sample.index == 5:
            raise SourceError("the source has gone")
        return np.zeros((8,) if sample.index == 4 else (8, 8, 3), np.uint8)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("given_up", "told", "where"),
    [
        ((), r"^KeyError: 'a bug of the reader' \(at sample '0/2'\)", "test_prefetch.py"),
        ((2,), r"^ValueError: .* \(at sample '0/4'\)", "imaging.py"),
    ],
)
def test_a_bug_names_the_sample_and_where_it_was_raised(given_up, told, where, threads):
    preprocessing = Preprocessing(8, 8, (0, 0, 0), (1, 1, 1))
    targets, threads = parse_targets("top1", 10), Decoders(threads)
    loader = BatchLoader(Pixels(), targets, preprocessing, 3, Decoding(100), decoders=threads)
    failures = tuple(Failure(f"0/{i}", i, "worker", "died", "") for i in given_up)
    with pytest.raises(InternalError, match=told) as raised:
        list(Prefetcher(loader.batches).batches(replace(shard(0, 5), given_up=failures)))
    assert where in raised.value.trace
    with pytest.raises(SourceError, match=r"^the source has gone$"):
        list(loader.batches(replace(shard(0), samples=shard(0).samples[5:])))


def test_the_next_shard_is_begun_and_made_once():
    kitchen = Kitchen()
    ahead = Prefetcher(kitchen.batches)
    assert len(list(ahead.batches(shard(0), shard(1)))) == 6
    begun = settled(kitchen)
    assert begun[6:] == [(1, i) for i in range(AHEAD + 1)]
    assert list(ahead.batches(shard(1))) == [(1, i) for i in range(6)]
    assert len(kitchen.made) == 12


def test_a_consumer_that_fails_leaves_no_thread_behind():
    """Nobody will ask for the shard that was told to come next."""
    ahead = Prefetcher(Kitchen().batches)
    taken = ahead.batches(shard(0), shard(1))
    next(taken)
    with pytest.raises(ZeroDivisionError):
        taken.throw(ZeroDivisionError())
    end = time.monotonic() + 10
    while ahead._thread is not None:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_another_shard_than_the_announced_one_comes():
    kitchen = Kitchen()
    ahead = Prefetcher(kitchen.batches)
    list(ahead.batches(shard(0), shard(1)))
    assert list(ahead.batches(shard(2))) == [(2, i) for i in range(6)]
    assert list(ahead.batches(shard(1))) == [(1, i) for i in range(6)]


def test_a_shard_that_is_given_up_half_way_holds_up_no_other():
    ahead = Prefetcher(Kitchen().batches)
    batches = ahead.batches(shard(0), shard(1))
    assert next(batches) == (0, 0)  # and the rest is never taken, though somebody holds it
    assert list(ahead.batches(shard(2))) == [(2, i) for i in range(6)]
    del batches


def test_an_error_comes_where_it_happened_and_the_next_shard_works():
    ahead = Prefetcher(Kitchen(fails_at=(0, 3)).batches)
    batches = ahead.batches(shard(0))
    assert [next(batches) for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
    with pytest.raises(RuntimeError, match="the reader broke"):
        next(batches)
    assert len(list(ahead.batches(shard(1)))) == 6


def test_one_thread_at_a_time_and_none_when_all_is_made_or_given_up():
    ahead = Prefetcher(Kitchen().batches)
    before = threading.active_count()
    for i in range(5):
        list(ahead.batches(shard(i), shard(i + 1)))
        assert threading.active_count() <= before + 1
    list(ahead.batches(shard(5)))
    batches = ahead.batches(shard(6))
    next(batches)
    thread = ahead._thread
    batches.close()
    thread.join(10)
    assert not thread.is_alive()
