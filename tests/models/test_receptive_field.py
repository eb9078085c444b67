"""What the graph says a position sees is what changes it."""

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.receptive_field import receptive_field
from tests.models.networks import define, every_tap_kind

SIZE = 20


def strided():
    """Stride, dilation, a tall kernel, a padded pooling, two branches of different reach."""

    def conv(x, name, kernel, pad, **how):
        return mx.sym.Convolution(x, name=name, num_filter=4, kernel=kernel, pad=pad, **how)

    x = conv(mx.sym.var("data"), "tall", (5, 1), (2, 0), stride=(2, 1))
    x = mx.sym.Pooling(x, name="pool", kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg")
    y = conv(x, "dilated", (3, 3), (2, 2), dilate=(2, 2))
    z = mx.sym.concat(conv(x, "one", (1, 1), (0, 0)), y, name="joined", dim=1)
    mean = mx.sym.Pooling(z, name="mean", kernel=(1, 1), global_pool=True, pool_type="avg")
    gated = mx.sym.broadcast_mul(z, mean, name="gated")
    x = mx.sym.FullyConnected(gated, name="dense", num_hidden=3)
    rng, shapes = np.random.RandomState(0), x.infer_shape(data=(1, 3, SIZE, SIZE))[0]
    values = {
        name: rng.standard_normal(shape).astype(np.float32)
        for name, shape in zip(x.list_arguments(), shapes)
        if name != "data"
    }
    return define(x, values, channels=3, size=SIZE)


def seen(definition, layer, place):
    """Rows and columns of the input that change a position, by changing each pixel."""
    size = definition.preprocessing.height
    changed = np.zeros((size, size), bool)
    network = MxnetNetwork(definition, (layer,), size)
    for seed in range(4):  # a ReLU may be shut for one image
        base = np.random.RandomState(seed).standard_normal((1, 3, size, size)).astype(np.float32)
        still = network.forward(base).layer(layer).activation[0][(slice(None), *place)].copy()
        for row in range(size):
            images = base.repeat(size, axis=0)
            images[range(size), :, row, range(size)] += 3
            moved = (
                network.forward(images).layer(layer).activation[(slice(None), slice(None), *place)]
            )
            changed[row] |= (abs(moved - still) > 1e-5).any(axis=1)
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    return rows[0], columns[0], rows[-1] + 1, columns[-1] + 1


@pytest.mark.parametrize(
    ("make", "layer", "places"),
    [
        (every_tap_kind, "c_bn", [(0, 0), (6, 5)]),
        (every_tap_kind, "concat", [(11, 4)]),
        (every_tap_kind, "pool", [(0, 5), (3, 2)]),
        (strided, "tall", [(0, 3), (4, 19)]),
        (strided, "pool", [(0, 0), (2, 7)]),
        (strided, "joined", [(2, 4), (4, 9)]),
    ],
)
def test_pixels_that_matter(make, layer, places):
    definition = make()
    size = definition.preprocessing.height
    for place in places:
        field = np.array(receptive_field(definition, layer, place))
        assert tuple(field.clip(0, size)) == seen(definition, layer, place)


def test_what_sees_everything_is_not_bounded():
    assert receptive_field(strided(), "gated", (0, 0)) is None
    assert receptive_field(every_tap_kind(), "e_conv", (0, 0)) is not None


def test_a_known_network():
    """ResNet-18 sees 435 pixels before its global pooling, in steps of 32 (Araujo et al. 2019)."""
    resnet = load_network("resnet18_v1", "random")
    first, second = (receptive_field(resnet, "stage4_activation1", (i, i)) for i in (0, 1))
    assert first[3] - first[1] == 435
    assert second[0] - first[0] == 32
