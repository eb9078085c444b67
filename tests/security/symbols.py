"""Small networks that use most operators that a symbol file may, and mutants of them."""

import json

import mxnet as mx

from shardcam.engine.models.symbol_operators import OPERATORS

S = mx.sym
NUMBERS = (
    *("0", "1", "-1", "2", "3", "-2", "-3", "-4", "5", "7", "8", "15", "16", "17", "31", "64"),
    *("255", "1000", "4096", "32767", "32768", "65536", "1048576", "2147483647", "2147483648"),
    *("-2147483648", "9223372036854775807", "1e10", "1e39", "nan", "inf", "-inf", "0x10", "3.5"),
    *("None", "True", "False", "", "()", "(0,0)", "(1,1)", "(-1,-1)", "(1,)", "(2,)", "(3,3,3)"),
    *("(32768,32768)", "(2147483647,1)", "(1,0)", "(0,1)", "(-1,0)", "(0,-1)", "(0,0,0,0)"),
    *("(0,-1,1)", "(2,3)", "(3,2)", "(0,2,3,1)", "(0,3,2,1)", "(1,0,2,3)", "(0,-4,-1,2,-2)"),
    *("(0,-4,0,-1,-2)", "(0,0,-4,-1,0)", "(-3,-2)", "(-2,)", "(0,-3,0)", "(0,65536,65536)"),
    *("(-1,65536,65536)", "(0,-1,65536,65536)", "(16,16)", "(15,15)", "(0,0,0,0,7,7,0,0)"),
    *("(0,0,0,0,1,1,1,1)", "(0,0,0,0,40,40,40,40)", "(1,1,30000,1)", "(1,1,1,2)", "(None,None)"),
    *("(None,None,1,2)", "(None,1,None,None)", "(1,-1,-1)", "[3,3]", "(3L,3L)"),
)


def networks():
    """Symbol files as Python holds JSON."""
    return [json.loads(S.softmax(make()).tojson()) for make in (_layers, _elementwise, _shapes)]


def _image():
    return S.var("data", shape=(0, 3, 16, 16))


def _convolution(x, filters, side=3, **attrs):
    pad = (side // 2, side // 2)
    return S.Convolution(x, kernel=(side, side), num_filter=filters, pad=pad, **attrs)


def _dense(x):
    return S.FullyConnected(S.mean(x, axis=(2, 3)), num_hidden=10)


def _layers():
    x = S.BatchNorm(_convolution(_image(), 8, no_bias=True), fix_gamma=False)
    x = _convolution(S.Activation(x, act_type="relu"), 8, num_group=4)
    x = S.broadcast_add(x, S.Convolution(x, kernel=(1, 1), num_filter=8))
    options = {"kernel": (3, 3), "stride": (2, 2), "adj": (1, 1), "pad": (1, 1), "num_group": 2}
    x = S.Deconvolution(x, num_filter=8, no_bias=False, **options)
    x = S.InstanceNorm(x, S.var("a"), S.var("b"))
    x = S.GroupNorm(x, S.var("c"), S.var("d"), num_groups=2)
    x = S.Dropout(S.L2Normalization(S.LRN(x, nsize=5), mode="channel"), p=0.3)
    for kind, convention in (("max", "valid"), ("avg", "full"), ("sum", "valid")):
        options = {"kernel": (3, 3), "stride": (2, 2), "pad": (1, 1)}
        x = S.Pooling(x, pool_type=kind, pooling_convention=convention, **options)
    x = S.FullyConnected(S.cast(S.LayerNorm(x), dtype="float32"), num_hidden=20)
    return S.FullyConnected(S.Activation(x, act_type="tanh"), num_hidden=10, no_bias=True)


def _elementwise():
    x = _convolution(_image(), 8)
    for name in ("relu", "sigmoid", "tanh", "softsign", "square", "erf", "sin", "negative"):
        x = S.broadcast_add(x, getattr(S, name)(x))
    for name in ("sqrt", "log", "reciprocal", "rsqrt", "cbrt", "exp", "log1p", "BlockGrad"):
        x = x + getattr(S, name)(S.abs(x) + 1)
    for kind in ("leaky", "elu", "selu", "gelu", "prelu"):
        x = S.LeakyReLU(x, act_type=kind)
    x = 2 - S.hard_sigmoid(S.clip(x, a_min=-3, a_max=6)) * 2 / 3
    y = _convolution(x, 8, 1)
    x = S.where(S.broadcast_greater(x, y), x, S.add_n(x, y, x)) - S.broadcast_maximum(x, y)
    x = S.broadcast_mul(S.elemwise_div(x, S.abs(y) + 1), S.var("w", shape=(1, 8, 1, 1)))
    return _dense(S.smooth_l1(x, scalar=1.0) ** 2)


def _shapes():
    x = S.Reshape(_convolution(_image(), 8), shape=(0, -4, 2, 4, -2))
    x = S.Reshape(S.transpose(x, axes=(0, 2, 1, 3, 4)), shape=(0, -3, 0, 0))
    x = S.squeeze(S.expand_dims(S.SwapAxis(x, dim1=2, dim2=3), axis=2), axis=2)
    parts = S.SliceChannel(x, num_outputs=2, axis=1)
    x = S.slice_axis(S.concat(parts[1], parts[0], dim=1), axis=2, begin=1, end=15)
    x = S.slice(x, begin=(None, None, 0, 1), end=(None, None, 12, None))
    x = S.slice_like(x, S.slice_axis(x, axis=3, begin=0, end=12), axes=(3,))
    for mode in ("reflect", "constant", "edge"):
        x = S.Pad(x, mode=mode, pad_width=(0, 0, 0, 0, 1, 1, 2, 2))
    x = S.reverse(S.repeat(S.tile(x, reps=(1, 1, 2, 1)), repeats=2, axis=3), axis=2)
    x = S.depth_to_space(S.space_to_depth(x, block_size=2), block_size=2)
    x = S.contrib.AdaptiveAvgPooling2D(x, output_size=(8, 8))
    x = S.UpSampling(x, scale=2, sample_type="nearest", num_args=1)
    x = S.contrib.BilinearResize2D(x, height=12, width=12)
    x = S.mean(S.stack(x, x, axis=1), axis=1)
    x = S.broadcast_add(x, S.max(x, axis=(2, 3), keepdims=True))
    x = S.broadcast_sub(x, S.norm(x, axis=1, keepdims=True))
    x = x + S.broadcast_axis(S.min(x, axis=3, keepdims=True), axis=3, size=12)
    x = x + S.broadcast_to(S.sum(x, axis=3, keepdims=True), shape=(0, 0, 0, 12))
    x = S.take(x, S.var("index", shape=(5,)), axis=3)
    x = S.Reshape(x, shape=(0, 0, -1))
    x = S.batch_dot(S.softmax(S.batch_dot(x, x, transpose_b=True)), x)
    x = S.dot(S.mean(S.log_softmax(S.contrib.div_sqrt_dim(x)), axis=2), S.var("m", shape=(8, 6)))
    return S.FullyConnected(S.SoftmaxActivation(x), num_hidden=10, flatten=False)


def mutant(rng, network):
    """A copy of a network with one to three changes, most of which its reader has to think of."""
    copy = json.loads(json.dumps(network))
    nodes = copy["nodes"]
    operators = [node for node in nodes if node["op"] != "null"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        node, draw = rng.choice(operators), rng.random()
        number = nodes.index(node)
        if draw < 0.65:
            _change_attribute(rng, node)
        elif draw < 0.8:
            node["op"] = rng.choice(sorted(OPERATORS))
            node["attrs"] = {}
            for _ in OPERATORS[node["op"]]:
                _change_attribute(rng, node)
        elif draw < 0.95:
            place = rng.randrange(len(node["inputs"]))
            node["inputs"][place] = [rng.randrange(number), rng.choice((0, 0, 0, 1)), 0]
        else:
            copy["heads"] = [[number, 0, 0]]
    return copy


def _change_attribute(rng, node):
    """Three of four times to what the attribute may say by itself."""
    kinds = OPERATORS.get(node["op"], {})
    if not kinds:
        return
    name = rng.choice(sorted(kinds))
    allowed = [text for text in NUMBERS if _reads(kinds[name], text)]
    values = allowed if allowed and rng.random() < 0.75 else NUMBERS
    node.setdefault("attrs", {})[name] = rng.choice(values)


def _reads(kind, text):
    try:
        kind.read(text)
    except ValueError:
        return False
    return True
