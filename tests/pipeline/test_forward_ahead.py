"""Forward passes are begun early, each once, and belong to the shard they are of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from shardcam.engine.errors import InternalError
from shardcam.engine.pipeline.forward_ahead import ForwardAhead
from shardcam.engine.pipeline.prefetch import Batch, Prefetcher
from shardcam.engine.pipeline.stage_timer import StageTimer
from shardcam.engine.types import Sample, Shard


def shard(index):
    return Shard(index, tuple(Sample(f"{index}/{i}", i, -1, "", 0) for i in range(4)))


def batches(shard):
    """Batch 2 of each shard has no picture."""
    for i, sample in enumerate(shard.samples):
        samples = () if i == 2 else (sample,)
        images = np.full((len(samples), 1), 10 * shard.index + i, np.float32)
        yield Batch(1, samples, (), images, (), {"read": 0.25})


@dataclass
class Batches:
    batches: Callable
    first_of_next: Callable


class Network:
    """Writes down what is begun; a pass is the number of its batch."""

    def __init__(self, fails=(), buffers=1):
        self.begun, self.fails, self.buffers = [], list(fails), buffers

    def forward(self, images):
        number = int(images[0, 0])
        if number in self.fails:
            self.fails.remove(number)
            raise RuntimeError(f"pass {number}")
        self.begun.append(number)
        return number


def ready(network):
    """What makes the next shard's batches is as far as it goes before each look at them."""
    reading = Prefetcher(batches)

    def first_of_next():
        stream = reading._next
        if stream is not None:
            with stream.changed:
                assert stream.changed.wait_for(lambda: stream.ready or stream.ended, 10)
        return reading.first_of_next()

    return ForwardAhead(Batches(reading.batches, first_of_next), network)


@pytest.mark.parametrize(("buffers", "lead"), [(1, [1, 2, 2, 3]), (2, [2, 2, 3, 4])])
def test_passes_are_begun_before_their_results_are_used(buffers, lead):
    """`lead`: how many had been begun when each batch of the first shard came."""
    network, timer, begun, found = Network(buffers=buffers), StageTimer(), [], []
    ahead = ready(network)
    for batch, forward in ahead.passes(shard(0), shard(1), timer):
        begun.append(len(network.begun))
        found.append(forward)
        assert (forward is None) == (not batch.samples)
    assert found == [0, 1, None, 3]
    assert begun == lead
    assert network.begun == [0, 1, 3, 10]  # the first of the next shard, before this one ends
    assert timer.seconds["read"] == 1.0
    assert [forward for _, forward in ahead.passes(shard(1), None, timer)] == [10, 11, None, 13]
    assert network.begun == [0, 1, 3, 10, 11, 13]


@pytest.mark.parametrize("buffers", [1, 2])
def test_a_pass_that_was_begun_for_nothing_is_forgotten(buffers):
    network = Network(buffers=buffers)
    ahead = ready(network)
    list(ahead.passes(shard(0), shard(1), StageTimer()))
    assert [forward for _, forward in ahead.passes(shard(2), shard(1), StageTimer())] == [
        20,
        21,
        None,
        23,
    ]
    assert [forward for _, forward in ahead.passes(shard(1), None, StageTimer())] == [
        10,
        11,
        None,
        13,
    ]
    assert network.begun.count(20) == 1


@pytest.mark.parametrize("buffers", [1, 2])
def test_what_goes_wrong_early_goes_wrong_in_its_own_shard(buffers):
    network = Network([10] * (buffers + 1), buffers)
    ahead = ready(network)
    assert len(list(ahead.passes(shard(0), shard(1), StageTimer()))) == 4
    with pytest.raises(InternalError, match=r"^RuntimeError: pass 10 \(at sample '1/0'\)"):
        list(ahead.passes(shard(1), None, StageTimer()))


def test_nothing_waits_for_a_batch_that_is_not_made():
    network = Network()
    slow = Batches(lambda shard, next_shard: batches(shard), lambda: None)
    assert len(list(ForwardAhead(slow, network).passes(shard(0), shard(1), StageTimer()))) == 4
    assert network.begun == [0, 1, 3]
