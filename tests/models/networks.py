"""Small networks that tests can reason about."""

import mxnet as mx
import numpy as np

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.types import Preprocessing

HAND_INPUT = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
HAND_LOGIT = 54.0


def define(symbol, parameters, channels, size, name="test"):
    preprocessing = Preprocessing(size, size, mean=(0.0,) * channels, std=(1.0,) * channels)
    graph = inference_form(parse(symbol.tojson()))
    return NetworkDefinition(name, graph, parameters, preprocessing)


def hand_checked():
    """Conv 1->2 of ones, biases -50 and -75; ReLU; dense 8->4; ReLU: maps known by hand."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=2, kernel=(3, 3))
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=4)
    x = mx.sym.Activation(x, name="logits", act_type="relu")
    row = np.array([1, 1, 1, 1, 1, -1, -1, -1], np.float32)
    parameters = {
        "conv_weight": np.ones((2, 1, 3, 3), np.float32),
        "conv_bias": np.array([-50, -75], np.float32),
        "dense_weight": np.tile(row, (4, 1)),
        "dense_bias": np.zeros(4, np.float32),
    }
    return define(x, parameters, channels=1, size=4, name="hand-checked")


def every_tap_kind(seed=0):
    """A network with a tap of each kind: conv, BN, ReLU, residual add, concat, max-pool."""

    def conv_bn(x, name, channels, kernel=3):
        pad = (kernel // 2, kernel // 2)
        x = mx.sym.Convolution(
            x, name=f"{name}_conv", num_filter=channels, kernel=(kernel, kernel), pad=pad,
            no_bias=True,
        )  # fmt: skip
        return mx.sym.BatchNorm(x, name=f"{name}_bn", fix_gamma=False)

    x = mx.sym.Activation(conv_bn(mx.sym.var("data"), "a", 8), name="a_relu", act_type="relu")
    y = mx.sym.Activation(conv_bn(x, "b", 8), name="b_relu", act_type="relu")
    y = conv_bn(y, "c", 8)
    x = mx.sym.elemwise_add(y, x, name="add")
    x = mx.sym.Activation(x, name="add_relu", act_type="relu")
    x = mx.sym.concat(x, conv_bn(x, "d", 4, 1), name="concat", dim=1)
    x = mx.sym.Pooling(x, name="pool", kernel=(2, 2), stride=(2, 2), pool_type="max")
    x = mx.sym.Dropout(x, name="dropout", p=0.5)
    x = mx.sym.Activation(conv_bn(x, "e", 6), name="e_relu", act_type="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=5)
    return define(x, _random(x, (1, 3, 12, 12), seed), channels=3, size=12, name="taps")


def sum_with_its_own_convolution(seed=0):
    """conv + relu(bn(conv)): what oneDNN's fusion in MXNet gets wrong."""
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=8, kernel=(3, 3))
    y = mx.sym.Activation(
        mx.sym.BatchNorm(x, name="bn", fix_gamma=False), name="relu", act_type="relu"
    )
    x = mx.sym.Activation(mx.sym.elemwise_add(y, x, name="add"), name="add_relu", act_type="relu")
    x = mx.sym.Pooling(x, name="pool", global_pool=True, pool_type="avg", kernel=(1, 1))
    x = mx.sym.FullyConnected(x, name="dense", num_hidden=5)
    return define(x, _random(x, (1, 3, 12, 12), seed), channels=3, size=12, name="sum")


def dense_read_twice(seed=0):
    """A gate on channels whose dense layer two activations read: MXNet's fusion mixes them up."""
    first = mx.sym.Convolution(mx.sym.var("data"), name="first", num_filter=8, kernel=(3, 3))
    x = mx.sym.Pooling(first, name="pool", global_pool=True, pool_type="avg", kernel=(1, 1))
    gate = mx.sym.FullyConnected(x, name="gate", num_hidden=8)
    tanh = mx.sym.Activation(gate, name="tanh", act_type="tanh")
    relu = mx.sym.Activation(gate, name="relu", act_type="relu")
    x = mx.sym.Reshape(mx.sym.broadcast_add(tanh, relu, name="both"), shape=(-1, 8, 1, 1))
    x = mx.sym.broadcast_mul(first, x, name="gated")
    x = mx.sym.Convolution(x, name="last", num_filter=6, kernel=(3, 3))
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="hidden", num_hidden=7)
    x = mx.sym.Activation(x, name="bent", act_type="relu")
    x = mx.sym.FullyConnected(x, name="dense", num_hidden=5)
    return define(x, _random(x, (1, 3, 12, 12), seed), channels=3, size=12, name="gated")


def axes_in_place(seed=0):
    """A transpose that moves no axis reads what something else read before."""
    x = mx.sym.var("data")
    for name in ("conv", "next"):
        x = mx.sym.Convolution(x, name=name, num_filter=16, kernel=(3, 3))
    flat = mx.sym.reshape(x, shape=(0, 0, -1))
    both = mx.sym.sin(flat) + mx.sym.transpose(flat, axes=(0, 1, 2))
    x = mx.sym.reshape(both, shape=(0, 0, 8, 8))
    x = mx.sym.Convolution(x, name="last", num_filter=16, kernel=(3, 3))
    x = mx.sym.FullyConnected(x, name="dense", num_hidden=5)
    return define(x, _random(x, (1, 3, 12, 12), seed), channels=3, size=12, name="in-place")


def _random(symbol, shape, seed):
    rng = np.random.RandomState(seed)
    arguments, _, states = symbol.infer_shape(data=shape)
    parameters = {}
    for name, size in zip(symbol.list_arguments(), arguments):
        if name != "data":
            offset = 1.0 if name.endswith("gamma") else 0.0
            parameters[name] = (offset + 0.3 * rng.standard_normal(size)).astype(np.float32)
    for name, size in zip(symbol.list_auxiliary_states(), states):
        value = rng.uniform(0.5, 2.0, size) if name.endswith("var") else rng.normal(0, 0.5, size)
        parameters[name] = value.astype(np.float32)
    return parameters
