"""What passes show for int8, beside every tensor read in full by numpy."""

from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.models.free_memory import give_back
from shardcam.engine.models.observed import Unrounded, observe
from shardcam.engine.models.weight_rounding import MOST_INPUTS
from tests.models.networks import define
from tests.models.test_unsigned import IMAGES, MOVED, blocks


@pytest.fixture(scope="module")
def network():
    return blocks()


@pytest.fixture(scope="module")
def observed(network):
    return observe(Unrounded(network, ("last_relu",), 8), [IMAGES])


@pytest.mark.parametrize("most", [MOST_INPUTS, 0])  # that are read, and that oneDNN pools
def test_ranges_are_those_of_all_values(network, monkeypatch, most):
    monkeypatch.setattr("shardcam.engine.models.observed.MOST_INPUTS", most)
    whole, values = Unrounded(network, ("last_relu",), 8), {}
    found = observe(whole, [IMAGES])
    whole.watch(lambda name, array: values.setdefault(name, array.asnumpy()))
    whole.forward(IMAGES).wait()
    assert len(found.ranges) == 17
    for name, ends in found.ranges.items():
        low, high = values[name].min(), values[name].max()
        assert ends == (low if low < 0 else 0, high)  # what a ReLU writes counts from 0
    assert [*found.extremes] == MOVED
    by_channel = [
        np.stack([value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))])
        for value in values.values()
        if value.ndim == 4
    ]
    for ends in found.extremes.values():
        assert any(np.array_equal(ends, one) for one in by_channel)


def test_how_images_share_passes_changes_nothing(network, observed):
    parts = [IMAGES[:3], IMAGES[3:6], IMAGES[6:]]
    found = observe(Unrounded(network, ("last_relu",), 3), parts)
    assert found.ranges == observed.ranges
    assert found.quantization(keep_first=False) == observed.quantization(keep_first=False)


def test_no_tensor_is_kept():
    """MXNet gives whoever watches a copy that holds the memory of the values."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", kernel=(1, 1), num_filter=32)
    x = mx.sym.Pooling(mx.sym.relu(x, name="relu"), global_pool=True, kernel=(1, 1))
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=2)
    names = ("conv_weight", (32, 3, 1, 1)), ("conv_bias", (32,)), ("dense_weight", (2, 32))
    values = {name: np.ones(shape, np.float32) for name, shape in names}
    large = define(x, values | {"dense_bias": np.zeros(2, np.float32)}, channels=3, size=512)
    images = np.zeros((1, 3, 512, 512), np.float32)
    used = []
    for _ in range(4):
        observe(Unrounded(large, ("relu",), 1), [images])
        mx.nd.waitall()
        give_back()
        used.append(int(Path("/proc/self/statm").read_text().split()[1]) * 4096)
    assert used[-1] - used[1] < 1 << 25  # two passes' values are 73 MB
