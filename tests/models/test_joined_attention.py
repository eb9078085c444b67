"""Attention reads its dense layer in place, and every value stays the same."""

import mxnet as mx
import numpy as np
import pytest

from shardcam.engine.models import mxnet_programs
from shardcam.engine.models.bound_program import backbone
from shardcam.engine.models.joined_attention import with_joined_attention
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.mxnet_programs import MxnetPrograms
from tests.models.networks import define

HEADS, TOKENS, SIZE = 3, 16, 4
WIDTH = HEADS * SIZE


def dense(x, name, width, **more):
    return mx.sym.FullyConnected(x, name=name, num_hidden=width, flatten=False, **more)


def heads(x, axes=(0, 2, 1, 3)):
    """(N,T,C) -> (N * heads,T,size), or whatever order of (N,T,heads,size)."""
    x = mx.sym.Reshape(x, shape=(0, 0, HEADS, SIZE))
    return mx.sym.Reshape(mx.sym.transpose(x, axes=axes), shape=(-3, 0, 0))


def sliced(x):
    """As torch.nn.MultiheadAttention is written, scaled before the product."""
    x = mx.sym.Reshape(dense(x, "qkv", 3 * WIDTH), shape=(0, 0, 3, WIDTH))
    parts = [mx.sym.slice_axis(x, axis=2, begin=i, end=i + 1) for i in range(3)]
    query, key, value = (mx.sym.Reshape(part, shape=(0, 0, -1)) for part in parts)
    scale = SIZE**-0.25
    return mx.sym.batch_dot(heads(query) * scale, heads(key, (0, 2, 3, 1)) * scale), heads(value)


def in_five_axes(x):
    """As timm writes it: all three are transposed at once; no bias."""
    x = mx.sym.Reshape(dense(x, "qkv", 3 * WIDTH, no_bias=True), shape=(0, 0, 3, HEADS, SIZE))
    parts = mx.sym.SliceChannel(
        mx.sym.transpose(x, axes=(2, 0, 3, 1, 4)), num_outputs=3, axis=0, squeeze_axis=True
    )
    query, key, value = (mx.sym.Reshape(part, shape=(-3, 0, 0)) for part in parts)
    return mx.sym.batch_dot(query * SIZE**-0.5, key, transpose_b=True), value


def apart(x):
    """As Hugging Face writes it: three dense layers, scaled after the product; a mask."""
    query, key, value = (heads(dense(x, name, WIDTH)) for name in ("query", "key", "value"))
    mask = mx.sym.slice_axis(query, axis=2, begin=0, end=1)
    scores = mx.sym.batch_dot(query, key, transpose_b=True, name="product") / SIZE**0.5
    return mx.sym.broadcast_add(scores, mask), value * 2.0


def of_others(x):
    """The keys are of other tokens than the queries."""
    query, value = (heads(dense(x, name, WIDTH)) for name in ("query", "value"))
    key = heads(dense(mx.sym.reverse(x, axis=1), "key", WIDTH))
    return mx.sym.batch_dot(query, key, transpose_b=True), value


def out_of_order(x):
    """What lies at a token is of several: the axes are taken apart without a transpose."""
    query, key, value = (dense(x, name, WIDTH) for name in ("query", "key", "value"))
    value = mx.sym.Reshape(mx.sym.Reshape(value, shape=(0, HEADS, -1, SIZE)), shape=(-3, 0, 0))
    return mx.sym.batch_dot(heads(query), heads(key), transpose_b=True), value


def of_channels(x):
    """Channels attend to channels."""
    query, key, value = (heads(dense(x, name, WIDTH)) for name in ("query", "key", "value"))
    scores = mx.sym.batch_dot(query, key, transpose_a=True)
    return scores, mx.sym.transpose(value, axes=(0, 2, 1))


def of_some_rows(x):
    """As a pruned last block: a part of the tokens asks, and is given as often as it takes."""
    scores, value = sliced(x)
    part = mx.sym.slice_axis(scores, axis=1, begin=0, end=TOKENS // 2)
    return part, value


def transformer(attention):
    """One block between a convolution and a dense layer; images of 8x8 pixels, 16 tokens."""
    x = mx.sym.Convolution(
        mx.sym.var("data"), kernel=(2, 2), stride=(2, 2), num_filter=WIDTH, name="conv"
    )
    tokens = mx.sym.transpose(mx.sym.Reshape(x, shape=(0, 0, -1)), axes=(0, 2, 1), name="tokens")
    scores, value = attention(tokens)
    weights = mx.sym.softmax(scores, axis=-1, name="weights")
    x = mx.sym.batch_dot(weights, value, name="mixed")
    if attention is of_some_rows:
        x = mx.sym.tile(x, reps=(1, 2, 1))
    if attention is of_channels:
        x = mx.sym.transpose(x, axes=(0, 2, 1))
    x = mx.sym.transpose(mx.sym.Reshape(x, shape=(-4, -1, HEADS, 0, 0)), axes=(0, 2, 1, 3))
    x = dense(mx.sym.Reshape(x, shape=(0, 0, -3)), "out", WIDTH) + tokens
    x = mx.sym.Reshape(mx.sym.transpose(x, axes=(0, 2, 1)), shape=(0, 0, 4, 4), name="map")
    x = mx.sym.relu(mx.sym.Convolution(x, kernel=(3, 3), num_filter=8, name="last"), name="relu")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="logits", num_hidden=5)
    random = np.random.RandomState(0)
    shapes = dict(zip(x.list_arguments(), x.infer_shape(data=(1, 3, 8, 8))[0], strict=True))
    values = {n: random.standard_normal(s).astype(np.float32) / 3 for n, s in shapes.items()}
    del values["data"]
    return define(x, values, channels=3, size=8)


IMAGES = np.random.RandomState(1).standard_normal((3, 3, 8, 8)).astype(np.float32)


def values_of(definition, entries):
    executor = backbone(definition, entries, mx.cpu()).bind({"data": mx.nd.array(IMAGES)})
    return [output.asnumpy() for output in executor.forward(is_train=False)]


@pytest.mark.parametrize("attention", [sliced, in_five_axes, apart])
def test_attention_is_joined_and_keeps_its_values(attention):
    definition = transformer(attention)
    names = ["map", "weights", "mixed", *(["product"] if attention is apart else [])]
    entries = [(definition.graph.number(name), 0) for name in names]
    joined, moved = with_joined_attention(definition, entries)
    assert not any(node.op == "batch_dot" for node in joined.graph.nodes)
    for old, new in zip(values_of(definition, entries), values_of(joined, moved), strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 * np.abs(old).max())


def test_joined_attention_is_what_numpy_computes():
    definition = transformer(sliced)
    parameters = definition.parameters
    entries = [(definition.graph.number(name), 0) for name in ("tokens", "mixed")]
    tokens, mixed = values_of(*with_joined_attention(definition, entries))
    qkv = tokens.astype(np.float64) @ parameters["qkv_weight"].T + parameters["qkv_bias"]
    query, key, value = qkv.reshape(3, TOKENS, 3, HEADS, SIZE).transpose(2, 0, 3, 1, 4)
    scores = np.exp(query @ key.swapaxes(2, 3) / SIZE**0.5)
    right = scores / scores.sum(-1, keepdims=True) @ value
    np.testing.assert_allclose(mixed, right.reshape(mixed.shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", [of_others, out_of_order, of_channels, of_some_rows])
def test_what_is_no_attention_of_a_dense_layer_to_itself_stays(attention):
    definition = transformer(attention)
    entries = [(definition.graph.number("map"), 0)]
    joined, moved = with_joined_attention(definition, entries)
    assert joined.graph == definition.graph
    assert moved == entries


def test_maps_logits_and_gradients_are_those_of_the_file(monkeypatch):
    found = []
    for join in (with_joined_attention, lambda definition, entries: (definition, entries)):
        monkeypatch.setattr(mxnet_programs, "with_joined_attention", join)
        network = MxnetNetwork(transformer(sliced), ("map",), 3, attention=("weights",))
        run = network.forward(IMAGES)
        layer = run.layer("map")
        direction = np.eye(5, dtype=np.float32)[[0, 3, 4]]
        found.append([run.logits, layer.activation, layer.gradient(direction), *layer.attention])
    for new, old in zip(*found, strict=True):
        np.testing.assert_allclose(new, old, rtol=0, atol=1e-6 * np.abs(old).max())


def test_only_float32_is_joined():
    definition = transformer(sliced)
    symbols = [MxnetPrograms(definition, ("map",), p).backbone.symbol for p in ("fp32", "bf16")]
    assert ["selfatt" in symbol.tojson() for symbol in symbols] == [True, False]
