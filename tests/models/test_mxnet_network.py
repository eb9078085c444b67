"""A batch goes through the backbone in passes, and through the heads together."""

from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models import head, mxnet_network
from shardcam.engine.models.input_buffer import InputBuffer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import BATCH, CPU_PASS, MxnetNetwork, batch_that_fits
from shardcam.engine.types import Preprocessing
from tests.models.networks import every_tap_kind

LAYERS = ("b_relu", "c_bn", "e_relu")
IMAGES = np.random.RandomState(5).standard_normal((11, 3, 12, 12)).astype(np.float32)
MEAN, STD = (120.0, 110.0, 100.0), (58.0, 57.0, 59.0)
TARGETS = np.arange(11, dtype=np.int32)[:, None] % 5


def results(network, images):
    """Logits, what is only read, and a map of each layer; images of other values came before."""
    network.forward(images[::-1] * 3).logits  # noqa: B018
    forward = network.forward(images)
    targets = TARGETS[: len(images)]
    maps = [METHODS["hirescam"](forward.layer(name), targets) for name in LAYERS]
    return [forward.logits, forward.activation("concat"), *maps]


@pytest.mark.parametrize("count", [1, CPU_PASS, CPU_PASS + 1, 10, 11])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_passes_change_nothing(count, threads):
    definition = every_tap_kind()
    network = MxnetNetwork(definition, LAYERS, 11, extra_layers=("concat",), threads=threads)
    found = results(network, IMAGES[:count])
    alone = MxnetNetwork(definition, LAYERS, 1, extra_layers=("concat",))
    each = [results(alone, image[None]) for image in IMAGES[:count]]
    for mine, its in zip(found[:2], zip(*each, strict=True), strict=False):
        np.testing.assert_allclose(mine, np.concatenate(its), rtol=1e-4, atol=1e-5)
    one_pass = MxnetNetwork(definition, LAYERS, 11, extra_layers=("concat",), threads=3)
    assert one_pass.rows == 11
    for mine, its in zip(found, results(one_pass, IMAGES[:count]), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("count", [1, CPU_PASS + 1, 11])
@pytest.mark.parametrize("threads", [1, 3])
def test_pixels_are_normalised(count, threads):
    pixels = np.random.RandomState(6).randint(0, 256, (count, 12, 12, 3), np.uint8)
    definition = every_tap_kind()
    preprocessing = Preprocessing(12, 12, MEAN, STD)
    definition = replace(definition, preprocessing=preprocessing)
    network = MxnetNetwork(definition, LAYERS, 11, extra_layers=("concat",), threads=threads)
    images = ((pixels - np.float32(MEAN)) / np.float32(STD)).transpose(0, 3, 1, 2)
    expected = results(network, images)
    forward = network.forward(pixels)
    maps = [METHODS["hirescam"](forward.layer(name), TARGETS[:count]) for name in LAYERS]
    found = [forward.logits, forward.activation("concat"), *maps]
    for mine, its in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)
    assert forward.images.dtype == np.float32
    np.testing.assert_allclose(forward.images, images, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("device_normalises", [False, True])
def test_the_input_is_normalised_on_either_side(channels, device_normalises):
    """On a GPU it is the device that does it; the same operators, here on the CPU."""
    preprocessing = Preprocessing(5, 7, MEAN[:channels], STD[:channels])
    buffer = InputBuffer(4, preprocessing, mx.cpu(), device_normalises)
    random = np.random.RandomState(7)
    for count in (4, 2, 3):  # a smaller one leaves nothing of the one before
        pixels = random.randint(0, 256, (count, 5, 7, channels), np.uint8)
        buffer.put(pixels)
        expected = ((pixels - np.float32(MEAN[:channels])) / np.float32(STD[:channels])).transpose(
            0, 3, 1, 2
        )
        np.testing.assert_allclose(buffer.data.asnumpy()[:count], expected, rtol=1e-6, atol=1e-6)
        buffer.put(expected[::-1])
        found = buffer.data.asnumpy()
        np.testing.assert_array_equal(found[:count], expected[::-1])
        assert not found[count:].any()


@pytest.mark.parametrize("threads", [1, 3])
def test_with_two_buffers_a_pass_outlives_the_next(threads):
    definition = every_tap_kind()
    network = MxnetNetwork(
        definition, LAYERS, 11, extra_layers=("concat",), threads=threads, buffers=2
    )
    first, second = IMAGES, IMAGES[::-1] * 2
    expected = [results(network, images) for images in (first, second)]
    begun = [network.forward(images) for images in (first, second)]
    for forward, its in zip(begun, expected, strict=True):
        maps = [METHODS["hirescam"](forward.layer(name), TARGETS) for name in LAYERS]
        for mine, other in zip(
            [forward.logits, forward.activation("concat"), *maps], its, strict=True
        ):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("buffers", [1, 2])
def test_a_pass_whose_results_are_gone_says_so(buffers):
    network = MxnetNetwork(every_tap_kind(), LAYERS, 11, extra_layers=("concat",), buffers=buffers)
    first = network.forward(IMAGES)
    layer = first.layer("e_relu")
    for _ in range(buffers - 1):
        network.forward(IMAGES)
    assert layer.activation.shape[0] == 11
    network.forward(IMAGES)
    for stale in (
        lambda: first.logits,
        lambda: first.activation("concat"),
        lambda: layer.activation,
        lambda: layer.gradient(np.ones((11, 5), np.float32)),
    ):
        with pytest.raises(RuntimeError, match="the results of this pass are gone"):
            stale()


def test_a_batch_is_as_large_as_the_head_allows(monkeypatch):
    vgg16 = load_network("vgg16", "random", 64)
    last, early = ("relu12_fwd",), ("relu2_fwd",)
    assert batch_that_fits(vgg16, last, 512) == BATCH
    assert batch_that_fits(vgg16, last, 9) == 2 * CPU_PASS  # no shard has more than 9
    assert batch_that_fits(vgg16, last, 1) == CPU_PASS
    monkeypatch.setattr(mxnet_network, "HEAD_BYTES", head.HEAD_BYTES // 16)
    assert batch_that_fits(vgg16, last, 512) == BATCH
    assert CPU_PASS <= batch_that_fits(vgg16, early, 512) < BATCH
    assert batch_that_fits(vgg16, last + early, 512) == batch_that_fits(vgg16, early, 512)


@pytest.mark.parametrize(
    ("method", "least"),
    [("scorecam", 2), ("ablationcam", 2 * 8), ("fullgrad", 6), ("hirescam", 1)],
)
def test_each_pass_that_a_method_makes_is_reported(monkeypatch, method, least):
    """So that a worker is not held to hang because one of its batches takes an hour."""
    monkeypatch.setattr(head, "HEAD_BYTES", 1)  # a channel at a time
    network = MxnetNetwork(every_tap_kind(), LAYERS, 11)
    layer = network.forward(IMAGES[:2]).layer("b_relu")
    assert layer.activation.shape[1] == 8
    begun = []
    network.on_pass = lambda: begun.append(method)
    METHODS[method](layer, TARGETS[:2])
    assert len(begun) >= least
