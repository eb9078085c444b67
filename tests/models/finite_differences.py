"""Slopes of logits by central differences in float64, where MXNet uses none of oneDNN."""

import mxnet as mx
import numpy as np

from shardcam.engine.models.graph import cut
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.mxnet_symbol import symbol_of


def crossing_values(definition, layer, images):
    """Values of the tensors at a cut, each tapped by itself."""
    nodes, at = definition.graph.nodes, cut(definition.graph, layer, definition.parameters)
    names = [nodes[number].name for number, _ in at.backbone]
    forward = MxnetNetwork(definition, tuple(names), len(images)).forward(images)
    return [forward.layer(name).activation.astype(np.float64) for name in names]


def mean_slope(definition, layer, inputs, channel):
    """(N,classes) change of each logit with the channel's values, per element of the map."""
    step = 1e-6 * abs(inputs[0]).max()
    shift = np.zeros_like(inputs[0])
    shift[:, channel] = step
    up, down = (
        _logits(definition, layer, [inputs[0] + sign * shift, *inputs[1:]]) for sign in (1, -1)
    )
    return (up - down) / (2 * step) / np.prod(inputs[0].shape[2:])


def _logits(definition, layer, inputs):
    at = cut(definition.graph, layer, definition.parameters)
    symbol = symbol_of(at.head)
    known = {k: mx.nd.array(v, dtype="float64") for k, v in definition.parameters.items()}
    known |= {k: mx.nd.array(v, dtype="float64") for k, v in zip(at.crossing, inputs)}
    executor = symbol.bind(
        mx.cpu(),
        {name: known[name] for name in symbol.list_arguments()},
        grad_req="null",
        aux_states={name: known[name] for name in symbol.list_auxiliary_states()},
    )
    return executor.forward(is_train=False)[0].asnumpy()
