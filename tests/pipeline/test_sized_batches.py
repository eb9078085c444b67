"""Batches of pictures at their own size: neighbours of one size, in order, none too many."""

import numpy as np
import pytest

from shardcam.engine.pipeline.decoder_threads import Decoders
from shardcam.engine.pipeline.prefetch import Prefetcher
from shardcam.engine.pipeline.sized_batches import Refusal, SizedLoader
from shardcam.engine.pipeline.targets import parse_targets
from shardcam.engine.protocols import Reader
from shardcam.engine.types import Decoding, Failure, Preprocessing, Sample, Shard

PREPROCESSING = Preprocessing(8, 8, (0,) * 3, (1,) * 3, resize="none")


class Pixels(Reader):
    """Pictures as large as their location says, of values that say which they are."""

    def read(self, sample):
        if sample.location == "gone":
            raise OSError("gone")
        height, width = map(int, sample.location.split("x"))
        return np.full((height, width, 3), sample.index, np.uint8)


def loader(threads=1, batch_size=64):
    def refuse(height, width):
        return Refusal("too small", f"{height}x{width}") if height < 3 else None

    return SizedLoader(
        Pixels(),
        parse_targets("top1", 10),
        PREPROCESSING,
        batch_size,
        Decoding(10_000),
        Decoders(threads),
        rows_for=lambda height, width: max(200 // (height * width), 1),
        refuse=refuse,
    )


def shard(*locations, given_up=()):
    samples = [Sample(f"k{i}", i, -1, where, 0) for i, where in enumerate(locations)]
    failures = (Failure(f"k{i}", i, "worker", "worker crashed", "") for i in given_up)
    return Shard(0, tuple(samples), tuple(failures))


def told(batches):
    """Of each batch its samples, failures, listed and room; its pictures are looked at."""
    found = []
    for batch in batches:
        for sample, view in zip(batch.samples, batch.views, strict=True):
            assert (view.pixels == sample.index).all()
            assert "x".join(map(str, view.image_size)) == sample.location
            assert view.crop == (0, 0, *view.image_size)
        assert len({view.pixels.shape for view in batch.views}) <= 1
        failed = [failure.sample for failure in batch.failures]
        found.append(([s.index for s in batch.samples], failed, batch.listed, batch.room))
    return found


@pytest.mark.parametrize("threads", [1, 3])
def test_a_batch_ends_where_the_size_changes_or_it_is_full(threads):
    listed = shard(*["gone", "2x9"], *["5x10"] * 6, "gone", "5x11", "20x20", "20x20", "200x60")
    assert told(Prefetcher(loader(threads).batches).batches(listed)) == [
        ([2, 3, 4, 5], [0, 1], 6, 4),
        ([6, 7], [8], 3, 4),
        ([9], [], 1, 3),
        ([10], [], 1, 1),
        ([11], [], 1, 1),
        ([], [12], 1, 0),
    ]


def test_the_users_number_is_the_most():
    batches = told(loader(batch_size=3).batches(shard(*["5x10"] * 7)))
    assert batches == [([0, 1, 2], [], 3, 3), ([3, 4, 5], [], 3, 3), ([6], [], 1, 3)]


def test_what_was_given_up_is_counted_and_not_read():
    assert told(loader().batches(shard("5x10", "5x10", "5x10", given_up=(1,)))) == [
        ([0, 2], [], 3, 4)
    ]
    assert told(loader().batches(shard("5x10", given_up=(0,)))) == [([], [], 1, 0)]


def test_a_shard_that_fails_reports_now_and_again():
    batches = told(loader().batches(shard(*["gone"] * 70)))
    assert [listed for _, _, listed, _ in batches] == [32, 32, 6]


def test_sizes_may_change_with_every_picture():
    locations = [f"{3 + i % 5}x{4 + i % 3}" for i in range(40)]
    batches = told(loader().batches(shard(*locations)))
    assert [s for samples, *_ in batches for s in samples] == list(range(40))
