"""One small network for each operator, attribute and form of it that is supported."""

import numpy as np

from tests.models.onnx_models import ints, node, weight

# Each case: nodes from x to y, weights, and what differs from the defaults of make().
CASES = {}


def case(name, nodes, weights=None, **options):
    assert name not in CASES
    CASES[name] = ([nodes] if not isinstance(nodes, list) else nodes, weights or {}, options)


def conv_case(name, shape=("N", 3, 9, 11), filters=4, groups=1, kernel=(3, 3), bias=True, **attrs):
    weights = {"w": weight(filters, shape[1] // groups, *kernel)}
    weights |= {"b": weight(filters)} if bias else {}
    inputs = "x w b" if bias else "x w"
    case(f"Conv-{name}", node("Conv", inputs, "y", group=groups, **attrs), weights, shape=shape)


conv_case("plain")
conv_case("no-bias", bias=False)
conv_case("stride", strides=[2, 3])
conv_case("pad", pads=[1, 1, 1, 1])
conv_case("kernel-shape", kernel=(3, 5), kernel_shape=[3, 5], pads=[1, 2, 1, 2])
conv_case("dilated", dilations=[2, 3], pads=[2, 3, 2, 3])
conv_case("depthwise", groups=3, filters=3)
conv_case("groups", groups=3, filters=6, strides=[2, 2], pads=[1, 1, 1, 1])
conv_case("uneven-end", pads=[0, 0, 1, 1], strides=[2, 2])
conv_case("uneven-start", pads=[1, 2, 0, 1], strides=[2, 2])
conv_case("uneven-mixed", pads=[0, 2, 1, 0])
conv_case("uneven-depthwise", groups=3, filters=3, pads=[0, 1, 1, 2], strides=[2, 2])
conv_case("uneven-dilated", dilations=[2, 2], pads=[0, 1, 1, 4])
conv_case("uneven-dilated-even-steps", dilations=[2, 2], pads=[0, 2, 2, 4])
conv_case("uneven-far", pads=[0, 0, 7, 8])
for auto in ("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET"):
    conv_case(f"{auto}-2", auto_pad=auto, strides=[2, 2])
    conv_case(f"{auto}-3", auto_pad=auto, strides=[3, 3], kernel=(4, 5))
conv_case("VALID-dilated", auto_pad="VALID", dilations=[2, 2])


def transposed_case(name, groups=1, kernel=(3, 4), bias=True, **attrs):
    weights = {"w": weight(3, 2, *kernel)} | ({"b": weight(2 * groups)} if bias else {})
    inputs = "x w b" if bias else "x w"
    attrs = {"group": groups, **attrs}
    case(f"ConvTranspose-{name}", node("ConvTranspose", inputs, "y", **attrs), weights)


transposed_case("plain")
transposed_case("no-bias", bias=False)
transposed_case("stride", strides=[2, 3])
transposed_case("pads", strides=[2, 2], pads=[1, 1, 1, 1])
transposed_case("uneven", strides=[2, 2], pads=[0, 1, 1, 2])
transposed_case("output-padding", strides=[2, 3], pads=[1, 1, 1, 1], output_padding=[1, 2])
transposed_case("uneven-output-padding", strides=[2, 3], pads=[1, 0, 0, 2], output_padding=[1, 2])
transposed_case("groups", groups=3, strides=[2, 2])
transposed_case("dilated", dilations=[2, 2], pads=[1, 1, 1, 1])
transposed_case("output-shape", strides=[2, 2], output_shape=[18, 23])
transposed_case("output-shape-odd", strides=[2, 2], output_shape=[18, 22])
transposed_case("same-upper", strides=[2, 2], auto_pad="SAME_UPPER")
transposed_case("same-lower", strides=[2, 2], auto_pad="SAME_LOWER")
transposed_case("valid", strides=[2, 2], auto_pad="VALID")

POOLS = {
    "plain": {"kernel_shape": [3, 3]},
    "stride": {"kernel_shape": [3, 2], "strides": [2, 3]},
    "even": {"kernel_shape": [2, 2], "strides": [2, 2]},
    "pad": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    "uneven-end": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [0, 0, 1, 1]},
    "uneven-start": {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 0, 0]},
    "uneven-one": {"kernel_shape": [3, 3], "strides": [1, 1], "pads": [0, 1, 2, 1]},
    "ceil": {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1},
    "ceil-over": {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1},
    "ceil-pad": {"kernel_shape": [3, 2], "strides": [3, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "ceil-drop": {"kernel_shape": [2, 2], "strides": [5, 4], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    "ceil-uneven": {
        "kernel_shape": [3, 3], "strides": [2, 3], "pads": [1, 0, 0, 2], "ceil_mode": 1,
    },
    "upper": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "upper-even": {"kernel_shape": [2, 2], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
    "lower": {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    "upper-one": {"kernel_shape": [2, 4], "auto_pad": "SAME_UPPER"},
    "valid": {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"},
    "stride-larger": {"kernel_shape": [2, 2], "strides": [3, 4]},
}  # fmt: skip
for name, attrs in POOLS.items():
    for size in ((9, 11), (10, 12)):
        shape = ("N", 3, *size)
        label = f"{name}-{size[0]}"
        case(f"MaxPool-{label}", node("MaxPool", "x", "y", **attrs), shape=shape, opset=12)
        for include in (0, 1):
            options = {"shape": shape, "opset": 19}
            pool = node("AveragePool", "x", "y", count_include_pad=include, **attrs)
            case(f"AveragePool-{label}-include{include}", pool, **options)
case("AveragePool-whole", node("AveragePool", "x", "y", kernel_shape=[9, 11]))
case("AveragePool-opset9", node("AveragePool", "x", "y", kernel_shape=[2, 2]), opset=9)
case("AveragePool-opset10", node("AveragePool", "x", "y", kernel_shape=[2, 2], ceil_mode=1,
                                 strides=[2, 2]), opset=10)  # fmt: skip
case("MaxPool-opset9", node("MaxPool", "x", "y", kernel_shape=[2, 2], storage_order=0), opset=9)
for opset in (21, 22, 23):
    for op in ("MaxPool", "AveragePool"):
        for name in ("ceil-pad", "ceil-drop", "upper"):
            case(f"{op}-{name}-opset{opset}", node(op, "x", "y", **POOLS[name]), opset=opset)
for op in ("GlobalAveragePool", "GlobalMaxPool"):
    case(op, node(op, "x", "y"))

STATISTICS = {"g": weight(3), "b": weight(3, seed=1), "m": weight(3, seed=2), "v": weight(3, low=1)}
for opset in (9, 14, 15, 17):
    case(f"BatchNormalization-{opset}", node("BatchNormalization", "x g b m v", "y", epsilon=1e-3,
                                             momentum=0.8), STATISTICS, opset=opset)  # fmt: skip
case(
    "BatchNormalization-shared-weights",
    node("BatchNormalization", "x g b g g", "y", epsilon=3.0),
    {"g": weight(3, low=1), "b": weight(3)},
)
case(
    "BatchNormalization-dense",
    [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "f"),
     node("BatchNormalization", "f g b m v", "y")],
    STATISTICS,
)  # fmt: skip
case("InstanceNormalization", node("InstanceNormalization", "x g b", "y", epsilon=1e-3), STATISTICS)
for axis, shape in ((-1, (11,)), (2, (9, 11)), (1, (3, 9, 11)), (-2, (9, 11))):
    weights = {"g": weight(*shape), "b": weight(*shape, seed=1)}
    case(f"LayerNormalization{axis}", node("LayerNormalization", "x g b", "y", axis=axis), weights)
case("LayerNormalization-no-bias", node("LayerNormalization", "x g", "y", epsilon=1e-2),
     {"g": weight(11)})  # fmt: skip
GROUPED = ("N", 6, 5, 7)
case(
    "GroupNormalization-exported",
    [node("Reshape", "x s", "r"), node("InstanceNormalization", "r one zero", "n"),
     node("Shape", "x", "full"), node("Reshape", "n full", "back"),
     node("Mul", "back g", "m"), node("Add", "m b", "y")],
    {"s": ints(0, 3, -1), "one": np.ones(3, np.float32), "zero": np.zeros(3, np.float32),
     "g": weight(6, 1, 1), "b": weight(6, 1, 1, seed=1)},
    shape=GROUPED,
)  # fmt: skip
case("GroupNormalization-18", node("GroupNormalization", "x g b", "y", num_groups=3),
     {"g": weight(3), "b": weight(3, seed=1)}, shape=GROUPED, opset=18)  # fmt: skip
case("GroupNormalization-21", node("GroupNormalization", "x g b", "y", num_groups=3, epsilon=0.01),
     {"g": weight(6), "b": weight(6, seed=1)}, shape=GROUPED, opset=21)  # fmt: skip
case("LRN", node("LRN", "x", "y", size=3, alpha=0.3, beta=0.6, bias=1.5))
case("LRN-5", node("LRN", "x", "y", size=5), shape=("N", 9, 4, 5))

for op in ("Relu", "Sigmoid", "Tanh", "Softplus", "Softsign", "Erf", "Neg", "Exp", "Abs"):
    case(op, node(op, "x", "y"))
for op in ("Sqrt", "Log", "Reciprocal"):
    case(op, [node("Abs", "x", "a"), node("Add", "a c", "p"), node(op, "p", "y")],
         {"c": np.float32(0.1)})  # fmt: skip
case("Softplus-large", [node("Mul", "x c", "m"), node("Softplus", "m", "y")], {"c": np.float32(50)})
for op in ("LeakyRelu", "Elu", "Selu", "HardSigmoid"):
    case(op, node(op, "x", "y"))
    case(f"{op}-alpha", node(op, "x", "y", alpha=0.3))
case("HardSigmoid-beta", node("HardSigmoid", "x", "y", alpha=0.7, beta=0.1))
case("HardSwish", node("HardSwish", "x", "y"), opset=14)
case("HardSwish-exported", [node("HardSigmoid", "x", "s", alpha=1 / 6, beta=0.5),
                            node("Mul", "x s", "y")])  # fmt: skip
case("Swish-exported", [node("Sigmoid", "x", "s"), node("Mul", "x s", "y")])
case("Mish", node("Mish", "x", "y"), opset=18)
case("Mish-exported", [node("Softplus", "x", "s"), node("Tanh", "s", "t"), node("Mul", "x t", "y")])
case("Gelu", node("Gelu", "x", "y"), opset=20)
case("Gelu-tanh", node("Gelu", "x", "y", approximate="tanh"), opset=20)
case(
    "Gelu-exported",
    [node("Div", "x r", "d"), node("Erf", "d", "e"), node("Add", "e one", "a"),
     node("Mul", "x a", "m"), node("Mul", "m half", "y")],
    {"r": np.float32(2**0.5), "one": np.float32(1), "half": np.float32(0.5)},
)  # fmt: skip
for name, shape in {"channel": (3, 1, 1), "one": (1,), "last": (11,), "full": (3, 9, 11)}.items():
    case(f"PRelu-{name}", node("PRelu", "x s", "y"), {"s": weight(*shape)})
CONV = {"w": weight(16, 3, 3, 3), "s": weight(16, low=0.5)}
for name, chain in {
    "none": [node("Identity", "c", "d")],
    "relu": [node("Relu", "c", "d")],
    "norm": [node("BatchNormalization", "c s s s s", "d")],
    "norm-leaky": [node("BatchNormalization", "c s s s s", "n"), node("LeakyRelu", "n", "d")],
}.items():
    for inputs in ("c d", "d c"):
        nodes = [node("Conv", "x w", "c"), *chain, node("Add", inputs, "y")]
        case(f"Add-within-one-chain-{name}-{inputs}", nodes, CONV)
case("Clip-6", node("Clip", "x", "y", min=-0.5, max=0.6), opset=9)
case("Clip-6-min", node("Clip", "x", "y", min=-0.5), opset=10)
LIMITS = {"low": np.float32(-0.4), "high": np.float32(0.7)}
case("Clip", node("Clip", "x low high", "y"), LIMITS, opset=11)
case("Clip-min", node("Clip", "x low", "y"), LIMITS, opset=13)
case("Clip-max", helper := node("Clip", "x low high", "y"), LIMITS, opset=12)
helper.input[1] = ""
case("Clip-relu", node("Clip", "x zero", "y"), {"zero": np.float32(0)})
case("Clip-none", node("Clip", "x", "y"))

OPERANDS = {
    "scalar": np.float32(1.7), "row": weight(11, low=0.5), "channel": weight(3, 1, 1, low=0.5),
    "batch-one": weight(1, 3, 1, 1, low=0.5), "full": weight(3, 9, 11, low=0.5),
}  # fmt: skip
for op in ("Add", "Sub", "Mul", "Div", "Min", "Max", "Pow"):
    for name, operand in OPERANDS.items():
        positive = [node("Abs", "x", "p")] if op in ("Pow", "Div") else [node("Neg", "x", "p")]
        case(f"{op}-{name}", [*positive, node(op, "p c", "y")], {"c": operand})
        if op != "Div":
            case(f"{op}-{name}-left", [*positive, node(op, "c p", "y")], {"c": operand})
    case(f"{op}-tensors", [node("Exp", "x", "a"), node("Sigmoid", "x", "b"),
                           node(op, "a b", "y")])  # fmt: skip
    case(f"{op}-broadcast", [node("Exp", "x", "a"), node("GlobalMaxPool", "a", "b"),
                             node(op, "a b", "y")])  # fmt: skip
case("Div-left", [node("Exp", "x", "e"), node("Div", "c e", "y")], {"c": np.float32(2)})
for exponent in (2.0, 0.5, -0.5, 3.0, 1.5):
    case(f"Pow-{exponent}", [node("Exp", "x", "e"), node("Pow", "e c", "y")],
         {"c": np.float32(exponent)})  # fmt: skip
case("Pow-negative-base", node("Pow", "x c", "y"), {"c": np.float32(2)})
for op in ("Max", "Min", "Sum", "Mean"):
    case(f"{op}-three", [node("Exp", "x", "a"), node("Neg", "x", "b"), node(op, "a b x", "y")])

for op in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin"):
    for keep in (0, 1):
        for axes in ([2, 3], [1], [-1], [1, 2, 3], [-2, -1], [1, 3]):
            if axes == [1, 2, 3] and not keep:
                continue
            listed = "".join(map(str, axes))
            reduction = node(op, "x", "y", axes=axes, keepdims=keep)
            case(f"{op}-{listed}-{keep}", reduction, opset=12)
            case(f"{op}-input-{listed}-{keep}", node(op, "x a", "y", keepdims=keep),
                 {"a": ints(*axes)}, opset=18)  # fmt: skip
case("ReduceSum-13", node("ReduceSum", "x a", "y", keepdims=0), {"a": ints(2, 3)}, opset=13)
case("ReduceMean-noop", node("ReduceMean", "x", "y", noop_with_empty_axes=1), opset=18)

case("Concat", [node("Exp", "x", "e"), node("Concat", "x e x", "y", axis=1)])
case("Concat-last", [node("Exp", "x", "e"), node("Concat", "x e", "y", axis=-1)])
case("Concat-one", node("Concat", "x", "y", axis=1))
for opset in (9, 11, 12):
    case(f"Split-{opset}", [node("Split", "x", "a b c", axis=1),
                            node("Concat", "c a", "y", axis=1)], opset=opset)  # fmt: skip
    case(f"Split-{opset}-uneven", [node("Split", "x", "a b", axis=2, split=[2, 7]),
                                   node("Concat", "b a", "y", axis=2)], opset=opset)  # fmt: skip
case("Split-13", [node("Split", "x s", "a b", axis=3), node("Concat", "b a", "y", axis=3)],
     {"s": ints(4, 7)}, opset=13)  # fmt: skip
case("Split-18", [node("Split", "x", "a b", axis=-1, num_outputs=2),
                  node("Concat", "b a", "y", axis=3)], opset=18)  # fmt: skip
case("Slice-9", node("Slice", "x", "y", starts=[1, -5], ends=[2**62, -1], axes=[1, 3]), opset=9)
case("Slice-9-all", node("Slice", "x", "y", starts=[0, 1], ends=[9999, 2]), opset=9)
for name, (starts, ends, axes, steps) in {
    "one": ([1], [3], [2], [1]), "steps": ([0, 1], [9, 11], [2, 3], [2, 3]),
    "negative": ([-1, 8], [-(2**62), 2], [1, 2], [-1, -2]), "open": ([0], [2**63 - 1], [0], [1]),
    "tail": ([-3], [2**63 - 1], [3], [1]),
}.items():  # fmt: skip
    weights = {"s": ints(*starts), "e": ints(*ends), "a": ints(*axes), "t": ints(*steps)}
    for opset in (10, 17):
        case(f"Slice-{name}-{opset}", node("Slice", "x s e a t", "y"), weights, opset=opset)
for mode in ("constant", "edge", "reflect"):
    pads = [0, 0, 1, 2, 0, 0, 3, 0]
    case(f"Pad-{mode}-9", node("Pad", "x", "y", mode=mode, pads=pads), opset=9)
    case(f"Pad-{mode}", node("Pad", "x p", "y", mode=mode), {"p": ints(*pads)}, opset=11)
    case(f"Pad-{mode}-axes", helper := node("Pad", "x p v a", "y", mode=mode),
         {"p": ints(1, 2, 3, 4), "a": ints(-1, 2)}, opset=18)  # fmt: skip
    helper.input[2] = ""
    case(f"Pad-{mode}-channels", node("Pad", "x p", "y", mode=mode),
         {"p": ints(0, 1, 0, 0, 0, 2, 0, 3)})  # fmt: skip
case("Pad-value-9", node("Pad", "x", "y", pads=[0, 0, 1, 1, 0, 0, 1, 1], value=1.5), opset=10)
case("Pad-value", node("Pad", "x p v", "y"),
     {"p": ints(0, 0, 1, 1, 0, 0, 1, 1), "v": np.float32(-2.5)})  # fmt: skip
case("Pad-nothing", node("Pad", "x p", "y"), {"p": ints(0, 0, 0, 0, 0, 0, 0, 0)})
for stride in (1, 2):
    case(f"Pad-Conv-{stride}", [node("Pad", "x p", "q"),
                                node("Conv", "q w", "y", strides=[stride, stride])],
         {"p": ints(0, 0, 0, 1, 0, 0, 1, 1), "w": weight(4, 3, 3, 3)})  # fmt: skip

for axis in (1, 2, 3, 4, -1):
    nodes = [node("Flatten", "x", "f", axis=axis), node("Reshape", "f s", "y")]
    case(f"Flatten-{axis}", nodes, {"s": ints(-1, 3, 9, 11)})
for name, target in {
    "copy": (0, 0, -1), "rest": (-1, 297), "grow": (0, 3, 3, 3, 11), "merge": (-1, 9, 11),
    "back": (0, 27, 11, 1),
}.items():  # fmt: skip
    nodes = [node("Reshape", "x s", "r"), node("Reshape", "r t", "y")]
    case(f"Reshape-{name}", nodes, {"s": ints(*target), "t": ints(-1, 11, 9, 3)})
case("Reshape-of-shape", [
    node("Shape", "x", "s"), node("Gather", "s i", "n", axis=0),
    node("Unsqueeze", "n", "u", axes=[0]), node("Concat", "u rest", "t", axis=0),
    node("Reshape", "x t", "y")],
    {"i": np.array(0, np.int64), "rest": ints(-1, 11)}, opset=11)  # fmt: skip
case("Reshape-shuffle", [
    node("Shape", "x", "s"), node("Slice", "s zero one", "n"), node("Mul", "n one", "m"),
    node("Concat", "m rest", "t", axis=0), node("Reshape", "x t", "r"),
    node("Transpose", "r", "q", perm=[0, 2, 1, 3, 4]), node("Concat", "n back", "v", axis=0),
    node("Reshape", "q v", "y")],
    {"zero": ints(0), "one": ints(1), "rest": ints(2, 3, 5, 7), "back": ints(6, 5, 7)},
    shape=GROUPED)  # fmt: skip
case("Reshape-allowzero", node("Reshape", "x s", "y", allowzero=1), {"s": ints(-1, 27, 11)})
case("Shape-range", [node("Shape", "x", "s", start=0, end=1), node("Concat", "s r", "t", axis=0),
                     node("Reshape", "x t", "y")], {"r": ints(33, 9)})  # fmt: skip
POOLED = node("GlobalAveragePool", "x", "p")
case("Squeeze", [POOLED, node("Squeeze", "p", "y", axes=[2, -1])], opset=11)
case("Squeeze-13", [POOLED, node("Squeeze", "p a", "y")], {"a": ints(3)}, opset=13)
case("Squeeze-all", [POOLED, node("Squeeze", "p", "y")], opset=13)
case("Unsqueeze", [node("Unsqueeze", "x", "u", axes=[2, -1]), node("Neg", "u", "y")], opset=11)
case("Unsqueeze-13", [node("Unsqueeze", "x a", "u"), node("Neg", "u", "y")], {"a": ints(1)},
     opset=13)  # fmt: skip
case("Transpose", node("Transpose", "x", "y", perm=[0, 2, 3, 1]))
case("Transpose-twice", [node("Transpose", "x", "t", perm=[0, 2, 3, 1]),
                         node("Transpose", "t", "y", perm=[0, 2, 3, 1])])  # fmt: skip
case("Expand", [POOLED, node("Expand", "p s", "y")], {"s": ints(1, 3, 4, 5)})
case("Expand-shape", [POOLED, node("Shape", "x", "s"), node("Expand", "p s", "y")])
case("Expand-nothing", node("Expand", "x s", "y"), {"s": ints(1, 1)})
case("Gather", node("Gather", "x i", "y", axis=1), {"i": ints(2, 0, -1)})
case("Gather-scalar", node("Gather", "x i", "y", axis=2), {"i": np.array(4, np.int64)})
case("Gather-matrix", node("Gather", "x i", "y", axis=3), {"i": ints(2, 0, 1, 7).reshape(2, 2)})
for mode in ("DCR", "CRD"):
    case(f"DepthToSpace-{mode}", node("DepthToSpace", "x", "y", blocksize=2, mode=mode),
         shape=("N", 12, 4, 5), opset=11)  # fmt: skip

ROW = [POOLED, node("Flatten", "p", "f")]
DENSE = {"w": weight(3, 5), "t": weight(5, 3), "b": weight(5), "s": np.float32(0.4)}
case("Gemm", [*ROW, node("Gemm", "f w b", "y")], DENSE)
case("Gemm-transB", [*ROW, node("Gemm", "f t b", "y", transB=1)], DENSE)
case("Gemm-scaled", [*ROW, node("Gemm", "f t b", "y", transB=1, alpha=0.5, beta=2.0)], DENSE)
case("Gemm-scalar-bias", [*ROW, node("Gemm", "f w s", "y", beta=0.5)], DENSE)
case("Gemm-no-bias", [*ROW, node("Gemm", "f w", "y")], DENSE, opset=11)
case("MatMul", [*ROW, node("MatMul", "f w", "y")], DENSE)
case("MatMul-Add", [*ROW, node("MatMul", "f w", "m"), node("Add", "m b", "y")], DENSE)
case("MatMul-Add-left", [*ROW, node("MatMul", "f w", "m"), node("Add", "b m", "y")], DENSE)
case("MatMul-images", [node("MatMul", "x v", "m"), node("Add", "m b", "y")],
     {"v": weight(11, 5), "b": weight(5)})  # fmt: skip
case("MatMul-tensors", [node("Transpose", "x", "t", perm=[0, 1, 3, 2]), node("MatMul", "x t", "y")])
case("MatMul-tensors-3", [
    node("Reshape", "x s", "r"), node("Transpose", "r", "t", perm=[0, 2, 1]),
    node("MatMul", "t r", "y")], {"s": ints(0, 3, -1)})  # fmt: skip
for opset in (11, 13):
    for axis in (1, 2, 3, -1):
        nodes = [node("Softmax", "x", "s", axis=axis), node("Neg", "s", "y")]
        case(f"Softmax-{opset}-{axis}", nodes, opset=opset)
case("LogSoftmax", [node("LogSoftmax", "x", "s", axis=1), node("Neg", "s", "y")])
case("Identity", [node("Identity", "x", "i"), node("Neg", "i", "y")])
case("Dropout-9", [node("Dropout", "x", "d", ratio=0.5), node("Neg", "d", "y")], opset=9)
case("Dropout-12", [node("Dropout", "x r", "d mask"), node("Neg", "d", "y")],
     {"r": np.float32(0.5)}, opset=12)  # fmt: skip
case("Cast", [node("Cast", "x", "d", to=11), node("Cast", "d", "e", to=1), node("Neg", "e", "y")])
case("Constant", [node("Constant", "", "c", value_float=1.5), node("Add", "x c", "y")])
case("Constant-folded", [
    node("ConstantOfShape", "shape", "c"), node("Cast", "c", "d", to=1), node("Shape", "x", "s"),
    node("Gather", "s i", "h"), node("Cast", "h", "f", to=1), node("Sqrt", "f", "q"),
    node("Range", "zero h one", "line"), node("Cast", "line", "g", to=1), node("Div", "g q", "v"),
    node("Add", "x v", "a"), node("Add", "a d", "y")],
    {"shape": ints(1, 11), "i": np.array(3, np.int64), "zero": np.array(0, np.int64),
     "one": np.array(1, np.int64)})  # fmt: skip
case("Constant-where", [
    node("Shape", "x", "s"), node("Equal", "s seven", "e"), node("Where", "e minus s", "t"),
    node("Reshape", "x t", "y")], {"seven": ints(9), "minus": ints(-1)})  # fmt: skip

for mode in ("nearest", "linear"):
    for name, scales in {"double": (2, 2), "uneven": (3, 1.5), "half": (0.5, 0.4)}.items():
        weights = {"s": np.array([1, 1, *scales], np.float32), "roi": np.zeros(0, np.float32)}
        if name != "half":  # onnxruntime does not make pictures smaller by Upsample
            upsample = node("Upsample", "x s", "y", mode=mode)
            case(f"Upsample-{mode}-{name}", upsample, weights, opset=9)
        case(f"Resize-10-{mode}-{name}", node("Resize", "x s", "y", mode=mode), weights, opset=10)
        for where in ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"):
            attrs = {"mode": mode, "coordinate_transformation_mode": where}
            case(f"Resize-11-{mode}-{where}-{name}", node("Resize", "x roi s", "y", **attrs),
                 weights, opset=11)  # fmt: skip
for where in ("half_pixel", "align_corners", "asymmetric"):
    sizes = helper = node("Resize", "x roi s n", "y", mode="linear",
                          coordinate_transformation_mode=where)  # fmt: skip
    sizes.input[1] = sizes.input[2] = ""
    case(f"Resize-sizes-{where}", sizes, {"n": ints(2, 3, 13, 7)}, opset=13)
sizes = node("Resize", "x roi s n", "y", mode="linear")
sizes.input[1] = sizes.input[2] = ""
case("Resize-sizes-of-shape", [
    node("Shape", "x", "d"), node("Slice", "d zero two", "head"),
    node("Concat", "head tail", "n", axis=0), sizes],
    {"zero": ints(0), "two": ints(2), "tail": ints(18, 22)}, opset=13)  # fmt: skip
for rounding in ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"):
    nearest = node("Resize", "x roi s", "y", mode="nearest", nearest_mode=rounding)
    nearest.input[1] = ""
    case(f"Resize-19-{rounding}", nearest, {"s": np.array([1, 1, 1.6, 0.7], np.float32)}, opset=19)
axes = node("Resize", "x roi s n", "y", mode="linear", axes=[2, 3])
axes.input[1] = axes.input[2] = ""
case("Resize-18-axes", axes, {"n": ints(5, 20)}, opset=18)

for op in ("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceProd"):
    for keep in (0, 1):
        for axes in ([2, 3], [1], [-1]):
            listed = "".join(map(str, axes))
            case(f"{op}-{listed}-{keep}", node(op, "x", "y", axes=axes, keepdims=keep), opset=13)
    case(f"{op}-input", node(op, "x a", "y"), {"a": ints(2, 1)}, opset=18)
case("ReduceLogSum", [node("Exp", "x", "e"), node("ReduceLogSum", "e", "y", axes=[1])])
case("ReduceLogSumExp-large", [node("Mul", "x c", "m"),
                              node("ReduceLogSumExp", "m", "y", axes=[3])],
     {"c": np.float32(200)})  # fmt: skip
case(
    "GlobalResponseNormalization",
    [node("ReduceL2", "x", "g", axes=[2, 3], keepdims=1), node("ReduceMean", "g", "m", axes=[1]),
     node("Add", "m e", "p"), node("Div", "g p", "n"), node("Mul", "x n", "y")],
    {"e": np.float32(1e-6)},
)  # fmt: skip

KEYS = node("Transpose", "x", "t", perm=[0, 1, 3, 2])  # (3,11,9)
case("MatMul-one-for-all-rows", [KEYS, node("ReduceMean", "t", "r", axes=[1]),
                                 node("MatMul", "x r", "y")])  # fmt: skip
case("MatMul-one-on-the-left", [KEYS, node("ReduceMean", "x", "l", axes=[1]),
                                node("MatMul", "l t", "y")])  # fmt: skip
case("MatMul-constant-of-four-axes", node("MatMul", "x c", "y"), {"c": weight(1, 3, 11, 4)})
case("MatMul-constant-of-three-axes", node("MatMul", "x c", "y"), {"c": weight(3, 11, 4)})
case("MatMul-constant-for-all", node("MatMul", "x c", "y"), {"c": weight(1, 1, 11, 4)})
case("MatMul-constant-vector", node("MatMul", "x c", "y"), {"c": weight(11)})
case("MatMul-constant-left", node("MatMul", "c x", "y"), {"c": weight(4, 9)})
case("MatMul-constants-left", node("MatMul", "c x", "y"), {"c": weight(3, 4, 9)})
case("MatMul-constant-vector-left", node("MatMul", "c x", "y"), {"c": weight(9)})

LINES = [node("Reshape", "x s", "r")]  # (N,27,11)
for mode in ("constant", "edge", "reflect", "wrap"):
    opset = 19 if mode == "wrap" else 17
    case(f"Pad-{mode}-rank-3", [*LINES, node("Pad", "r p", "y", mode=mode)],
         {"s": ints(0, -1, 11), "p": ints(0, 2, 0, 0, 1, 3)}, opset=opset)  # fmt: skip
    case(f"Pad-{mode}-three-axes", node("Pad", "x p", "y", mode=mode),
         {"p": ints(0, 1, 0, 2, 0, 2, 1, 0)}, opset=opset)  # fmt: skip
case("Pad-rank-5", [node("Reshape", "x s", "r"), node("Pad", "r p", "y")],
     {"s": ints(0, 3, 3, 3, 11), "p": ints(0, 0, 1, 0, 1, 0, 2, 0, 0, 0)})  # fmt: skip
case("Pad-rank-2", [node("Flatten", "x", "f"), node("Pad", "f p", "y")], {"p": ints(0, 2, 0, 1)})
case("Pad-cuts-off", node("Pad", "x p", "y"), {"p": ints(0, 0, -2, 1, 0, -1, 0, -3)})


def fused(name, op, inputs, weights=None, before=(), **attributes):
    """An operator of com.microsoft."""
    nodes = [*before, node(op, inputs, "y", domain="com.microsoft", **attributes)]
    case(f"{op}-{name}", nodes, weights)


FUSED = {"w": weight(4, 3, 3, 3), "b": weight(4), "g": weight(11), "o": weight(11, seed=1)}
fused("plain", "FusedConv", "x w b", FUSED, activation="Relu", pads=[1, 1, 1, 1])
for activation, numbers in {
    "Tanh": [], "Sigmoid": [], "LeakyRelu": [0.2], "Clip": [-0.4, 0.9], "HardSigmoid": [0.3, 0.4],
}.items():  # fmt: skip
    given = {"activation_params": [float(n) for n in numbers]} if numbers else {}
    fused(activation, "FusedConv", "x w b", FUSED, activation=activation, **given)
fused("sum", "FusedConv", "x w b z", FUSED, activation="Relu",
      before=[node("Conv", "x w", "z")])  # fmt: skip
ROW = [node("Flatten", "x", "f"), node("Slice", "f from to one", "v")]  # (N,11)
ROWS = {"from": ints(0), "to": ints(11), "one": ints(1), "m": weight(11, 4), "b": weight(4)}
fused("relu", "FusedGemm", "v m b", ROWS, before=ROW, activation="Relu", alpha=0.5)
fused("leaky", "FusedGemm", "v m b", ROWS, before=ROW, activation="LeakyRelu", activation_alpha=0.3)
fused("scaled", "FusedMatMul", "x m", ROWS, alpha=0.25)
fused("turned", "FusedMatMul", "x x", alpha=0.5, transB=1)
fused("turned-constant", "FusedMatMul", "x t", {"t": weight(4, 11)}, transB=1)
fused("turned-left", "FusedMatMul", "x x", transA=1)
fused("plain", "Gelu", "x")
fused("plain", "BiasGelu", "x g", FUSED)
fused("plain", "FastGelu", "x")
fused("bias", "FastGelu", "x g", FUSED)
fused("plain", "QuickGelu", "x", alpha=1.3)
LINE = [node("Reshape", "x s", "r"), node("Neg", "r", "n")]
LINED = FUSED | {"s": ints(0, -1, 11), "k": weight(11, seed=2)}
fused("plain", "SkipLayerNormalization", "r n g o", LINED, before=LINE, epsilon=1e-4)
fused("bias", "SkipLayerNormalization", "r r g o k", LINED, before=LINE)
fused("no-shift", "SkipLayerNormalization", "r r g", LINED, before=LINE)

LINE_CONV = {"s": ints(0, -1, 11), "w": weight(6, 9, 3), "b": weight(6)}
case(
    "Conv-one-axis",
    [
        node("Reshape", "x s", "r"),
        node("Conv", "r w b", "y", group=3, strides=[2], pads=[2, 1], kernel_shape=[3]),
    ],
    LINE_CONV,
)
VOLUME = node("Reshape", "x s", "r")
for axis, (kernel, pads) in enumerate(
    [
        ((1, 3, 2), [0, 1, 0, 0, 1, 1]),
        ((2, 1, 3), [0, 0, 1, 1, 0, 1]),
        ((3, 2, 1), [1, 0, 0, 1, 1, 0]),
    ]
):
    case(f"Conv-three-axes-{axis}", [VOLUME, node("Conv", "r w", "y", pads=pads)],
         {"s": ints(0, 3, 3, 3, 11), "w": weight(4, 3, *kernel)})  # fmt: skip

# A batch that is not the first axis: t is (3,N,99).
TOKENS = {
    "s": ints(0, 3, 99), "w": weight(99, 99), "b": weight(99), "g": weight(99), "one": ints(1),
    "two": ints(2), "zero": ints(0), "pick": np.array(1), "part": ints(1, 2),
    "back": ints(3, -1, 99), "rows": ints(-1, 99), "heads": ints(3, -1, 33), "k": weight(1, 1, 99),
}  # fmt: skip
TURNED = [node("Reshape", "x s", "r"), node("Transpose", "r", "t", perm=[1, 0, 2])]


def moved_case(name, nodes, **options):
    weights = {key: value for key, value in TOKENS.items() if f" {key}" in _read(nodes)}
    case(f"moved-{name}", [*TURNED, *nodes], weights | {"s": TOKENS["s"]}, **options)


def _read(nodes):
    return "".join(f" {name}" for n in nodes for name in n.input)


moved_case("gather", [node("Gather", "t pick", "y", axis=0)])
moved_case("gather-some", [
    node("Gather", "t part", "g1", axis=0), node("Transpose", "g1", "y", perm=[1, 2, 0]),
])  # fmt: skip
moved_case("split", [
    node("Split", "t", "a b c", axis=0), node("Squeeze", "a zero", "d"),
    node("Squeeze", "c zero", "e"), node("Sub", "d e", "y"),
])  # fmt: skip
moved_case("slice", [
    node("Slice", "t one two zero", "a"), node("Squeeze", "a zero", "y"),
])  # fmt: skip
moved_case("along", [
    node("MatMul", "t w", "m"), node("Add", "b m", "a"), node("LayerNormalization", "a g b", "l"),
    node("Softmax", "l", "p", axis=-1), node("Mul", "p t", "q"), node("Sigmoid", "q", "o"),
    node("Add", "o k", "u"), node("Concat", "u t", "v", axis=2),
    node("Transpose", "v", "y", perm=[1, 0, 2]),
])  # fmt: skip
moved_case("dense", [
    node("Reshape", "t rows", "f"), node("Gemm", "f w b", "h"), node("Reshape", "h back", "v"),
    node("Transpose", "v", "y", perm=[1, 0, 2]),
])  # fmt: skip
moved_case("heads", [
    node("Reshape", "t heads", "f"), node("Transpose", "f", "q", perm=[1, 0, 2]),
    node("Transpose", "f", "u", perm=[1, 2, 0]), node("MatMul", "q u", "a"),
    node("Softmax", "a", "p", axis=-1), node("MatMul", "p q", "o"),
    node("Transpose", "o", "v", perm=[1, 0, 2]), node("Reshape", "v back", "c"),
    node("Transpose", "c", "y", perm=[1, 0, 2]),
])  # fmt: skip
moved_case("unsqueeze", [
    node("Unsqueeze", "t two", "a"), node("Transpose", "a", "y", perm=[1, 2, 3, 0]),
])  # fmt: skip
case("Concat-token", [
    node("Reshape", "x s", "r"), node("Shape", "x", "n"), node("Slice", "n zero one", "m"),
    node("Concat", "m minus minus", "e", axis=0), node("Expand", "k e", "token"),
    node("Concat", "token r", "c", axis=1), node("Add", "c p", "y"),
], {"s": ints(0, 3, 99), "zero": ints(0), "one": ints(1), "minus": ints(1), "k": weight(1, 1, 99),
    "p": weight(1, 4, 99)})  # fmt: skip

HEADS = ("N", 3, 4, 6)  # of what the other operand is made of, too
for equation, turned in {
    "nhqd,nhkd->nhqk": (0, 1, 2, 3), "nhqk,nhkd->nhqd": (0, 1, 3, 2),
    "nabc,nacb->nab": (0, 1, 3, 2), "nhqd,nhkd->nqkh": (0, 1, 2, 3),
    "nabc,nbcd->nad": (0, 2, 3, 1), "nabc,nabc->nab": (0, 1, 2, 3),
    "nabc,ndbc->nabdc": (0, 1, 2, 3),
}.items():  # fmt: skip
    other = node("Transpose", "x", "t", perm=list(turned))
    case(f"Einsum-{equation}", [other, node("Einsum", "x t", "y", equation=equation)], shape=HEADS)
for equation, shape in {
    "nchw,cd->ndhw": (3, 5), "nchw,cwd->ncdh": (3, 6, 5), "n c h w, h -> n c w": (4,),
    "nchw,w->nchw": (6,), "nchw,chd->ncdw": (3, 4, 5),
}.items():  # fmt: skip
    case(f"Einsum-constant-{equation}", node("Einsum", "x w", "y", equation=equation),
         {"w": weight(*shape)}, shape=HEADS)  # fmt: skip
case("Einsum-constant-first", node("Einsum", "w x", "y", equation="dc,nchw->ndhw"),
     {"w": weight(5, 3)}, shape=HEADS)  # fmt: skip


def attention_case(name, inputs="q k v", shape=("N", 3, 5, 8), weights=None, **attributes):
    """Queries, keys and values that differ."""
    made = [node("Neg", "x", "q"), node("Tanh", "x", "k"), node("Abs", "x", "v")]
    case(f"Attention-{name}", [*made, node("Attention", inputs, "y", **attributes)],
         weights, shape=shape, opset=23)  # fmt: skip


attention_case("plain")
attention_case("scale", scale=0.3)
attention_case("mask", "q k v m", weights={"m": weight(5, 5)})
attention_case("kept", "q k v m", weights={"m": np.tri(5, dtype=bool)})
case("Attention-rank-3", [
    node("Reshape", "x s", "r"), node("Tanh", "r", "k"),
    node("Attention", "r k r", "y", q_num_heads=3, kv_num_heads=3),
], {"s": ints(0, 9, -1)}, opset=23)  # fmt: skip
for axis, shape in ((-1, (11,)), (2, (9, 11))):
    case(f"RMSNormalization{axis}", node("RMSNormalization", "x g", "y", axis=axis, epsilon=1e-2),
         {"g": weight(*shape)}, opset=23)  # fmt: skip
LINE = {"s": ints(0, 3, -1)}
for op in ("MaxPool", "AveragePool"):
    pooled = node(op, "r", "y", kernel_shape=[3], strides=[2], pads=[1, 1])
    case(f"{op}-one-axis", [node("Reshape", "x s", "r"), pooled], LINE)
case("Tile", node("Tile", "x r", "y"), {"r": ints(1, 1, 2, 3)})
case("Tile-of-one", [node("ReduceMax", "x", "m", axes=[2]), node("Tile", "m r", "y")],
     {"r": ints(1, 1, 5, 1)})  # fmt: skip
for where in ("half_pixel", "align_corners", "asymmetric"):
    for size in (ints(1, 3, 14, 7), ints(1, 3, 4, 22)):
        resized = node("Resize", "x none none z", "y", mode="cubic",
                       coordinate_transformation_mode=where)  # fmt: skip
        resized.input[1] = resized.input[2] = ""
        case(f"Resize-cubic-{where}-{size[3]}",
             [node("Shape", "x", "n"), node("Slice", "n zero two", "m"),
              node("Concat", "m wanted", "z", axis=0), resized],
             {"zero": ints(0), "two": ints(2), "wanted": size[2:]})  # fmt: skip


def scatter_case(name, updates, *places, data="x", weights=None):
    """Updates at places along the axes behind the batch, numbered as exporters write slices."""
    sizes = [len(numbers) for numbers in places]
    grids = {
        f"p{axis}": ints(*numbers).reshape(-1, *(1 for _ in sizes[axis + 1 :]))
        for axis, numbers in enumerate(places)
    }
    numbered = []
    for axis in ("rows", *grids):
        numbered += [node("Expand", f"{axis} shape", f"{axis}_all")]
        numbered += [node("Unsqueeze", f"{axis}_all last", f"{axis}_apart")]
    case(f"ScatterND-{name}", [
        node("Shape", "x", "n", start=0, end=1), node("Squeeze", "n", "count"),
        node("Range", "zero count one", "range"), node("Reshape", "range column", "rows"),
        node("Concat", "n sizes", "shape", axis=0), *numbered,
        node("Concat", " ".join(f"{axis}_apart" for axis in ("rows", *grids)), "at", axis=-1),
        *updates, node("ScatterND", f"{data} at updates", "y"),
    ], {"zero": np.array(0), "one": np.array(1), "sizes": ints(*sizes), "last": ints(-1),
        "column": ints(-1, *(1 for _ in sizes)), **grids, **(weights or {})})  # fmt: skip


CUT = [node("Tanh", "x", "t"), node("Slice", "t begin end axes", "updates")]
CORNER = {"begin": ints(0, 1), "end": ints(8, 9), "axes": ints(2, 3)}
scatter_case("block", CUT, range(3), range(1, 9), range(2, 10), weights=CORNER)
scatter_case("from-the-end", CUT, (0, 1, -1), range(-8, 0), range(8), weights=CORNER)
scatter_case("rows", [node("Tanh", "x", "t"), node("Gather", "t two", "updates", axis=1)],
             (2, 0), weights={"two": ints(0, 1)})  # fmt: skip
scatter_case("images", [node("Tanh", "x", "updates")])
scatter_case("constant", [
    node("Concat", "n whole", "full", axis=0), node("Expand", "k full", "updates"),
], (1,), weights={"whole": ints(1, 9, 11), "k": weight(1, 1, 9, 11)})  # fmt: skip
scatter_case("in-a-constant", [
    node("Concat", "n whole", "full", axis=0), node("Expand", "k full", "buffer"), *CUT,
], range(3), range(8), range(8), data="buffer",
    weights={"whole": ints(3, 9, 11), "k": weight(1, 3, 9, 11)} | CORNER)  # fmt: skip
MOVED = [node("Transpose", "x", "t", perm=[1, 0, 2, 3])]
BACK = [node("ScatterND", "t at u", "s"), node("Transpose", "s", "y", perm=[1, 0, 2, 3])]
case("ScatterND-before-the-batch", [
    *MOVED, node("Gather", "t two", "g", axis=0), node("Neg", "g", "u"), *BACK,
], {"two": ints(1, 2), "at": ints([2], [0])})  # fmt: skip


def blocks_case(name, image, block, channels, **attributes):
    """The 297 numbers of an image as blocks of another."""
    rows = channels * block[0] * block[1]
    case(f"Col2Im-{name}", [
        node("Reshape", "x s", "r"), node("Col2Im", "r image block", "y", **attributes),
    ], {"s": ints(0, rows, -1), "image": ints(*image), "block": ints(*block)},
        opset=18)  # fmt: skip


blocks_case("plain", (5, 13), (3, 3), 1)
blocks_case("strides", (3, 7), (3, 3), 11, strides=[2, 2])
blocks_case("strides-that-leave-some", (4, 8), (3, 3), 11, strides=[2, 2])
blocks_case("pads", (2, 6), (3, 3), 11, strides=[2, 2], pads=[1, 1, 1, 1])
blocks_case("uneven-pads", (2, 6), (3, 3), 11, strides=[2, 2], pads=[1, 0, 0, 1])
blocks_case("dilations", (3, 7), (3, 3), 11, dilations=[1, 2])
blocks_case("one-row", (1, 11), (1, 1), 27)
