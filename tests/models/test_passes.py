"""A batch goes through the backbone in passes, and through the heads together."""

import numpy as np
import pytest

from engine.methods import METHODS
from engine.models import head, mxnet_network
from engine.models.load import load_network
from engine.models.mxnet_network import BATCH, CPU_PASS, MxnetNetwork, batch_that_fits
from tests.models.networks import every_tap_kind

LAYERS = ("b_relu", "c_bn", "e_relu")
IMAGES = np.random.RandomState(5).standard_normal((11, 3, 12, 12)).astype(np.float32)
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
    network = MxnetNetwork(definition, LAYERS, 11, read=("concat",), threads=threads)
    found = results(network, IMAGES[:count])
    alone = MxnetNetwork(definition, LAYERS, 1, read=("concat",))
    each = [results(alone, image[None]) for image in IMAGES[:count]]
    for mine, its in zip(found[:2], zip(*each, strict=True), strict=False):
        np.testing.assert_allclose(mine, np.concatenate(its), rtol=1e-4, atol=1e-5)
    one_pass = MxnetNetwork(definition, LAYERS, 11, read=("concat",), threads=3)
    assert one_pass._pass == 11
    for mine, its in zip(found, results(one_pass, IMAGES[:count]), strict=True):
        np.testing.assert_allclose(mine, its, rtol=1e-4, atol=1e-5)


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
