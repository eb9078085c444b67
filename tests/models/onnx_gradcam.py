"""Imported networks against what PyTorch said of them when they were exported."""

import mxnet as mx
import numpy as np

from shardcam.engine.methods import METHODS
from shardcam.engine.models.graph import Graph
from shardcam.engine.models.layer_names import auto_layer, map_layouts
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.mxnet_symbol import symbol_of
from tests.models.onnx_models import bind


def relative_error(ours, theirs):
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def layers_of(expected):
    """PyTorch's names of the layers whose maps are known; the first is what `auto` must find."""
    return [key.removeprefix("map:") for key in expected.files if key.startswith("map:")]


def same_layer(definition, expected, layer):
    """Our name of a PyTorch layer: the last node with the same value."""
    wanted = expected[f"activation:{layer}"]
    shape = (wanted.shape[1], *expected[f"map:{layer}"].shape[2:])
    maps = map_layouts(definition).items()
    names = [name for name, layout in maps if layout.is_map and layout.shape == shape]
    means = channel_means(definition, names, expected["images"])
    errors = {name: relative_error(means[name], wanted) for name in names}
    least = min(errors.values())
    assert least < 1e-4, f"no node has the value of {layer}"
    return [name for name in names if errors[name] <= 1.01 * least][-1]


def channel_means(definition, names, images):
    graph = definition.graph
    numbers = [graph.number(name) for name in names]
    heads = tuple((number, 0) for number in numbers)
    internals = symbol_of(Graph(graph.nodes, heads))
    means = [mx.sym.mean(internals[i], axis=(2, 3)) for i in range(len(heads))]
    executor = bind(definition, images, symbol=mx.sym.Group(means))
    return dict(zip(names, (o.asnumpy() for o in executor.forward(is_train=False)), strict=True))


def gradcam_errors(definition, expected):
    """Relative error of the raw maps at each layer, by our name of it.

    Where a unit within rounding of zero is on in float64 and off in float32, PyTorch's
    own float32 maps are as far away; that much is taken off.
    """
    names = [same_layer(definition, expected, layer) for layer in layers_of(expected)]
    assert auto_layer(definition) == names[0]
    images = expected["images"]
    targets = np.tile(expected["targets"], (len(images), 1))
    network = MxnetNetwork(definition, ("auto", *names[1:]), batch_size=len(images))
    forward = network.forward(images)
    return {
        name: relative_error(
            METHODS["gradcam"](forward.layer(name), targets), expected[f"map:{layer}"]
        )
        - float(expected[f"float32:{layer}"])
        for name, layer in zip(names, layers_of(expected), strict=True)
    }
