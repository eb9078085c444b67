"""What folding a node may cost at most: the numbers it makes, and the steps that takes.

onnx has shape inference for it, but in C++ that some damaged operands crash.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, isfinite, prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axis_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Array

MAX_NUMBERS = 2**27  # in one result
_BYTES = 8  # of a number, at most
_BLAS = 16  # steps of a matrix product in one of other operators
# Operators whose results broadcast their inputs, and those whose results are no larger than these.
_ELEMENTWISE = frozenset({
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitShift",
    "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Ceil", "Celu", "Clip", "Cos",
    "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "HardSigmoid",
    "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "Log", "Max", "Mean", "Min", "Mish",
    "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum",
    "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
})  # fmt: skip
_WITHIN = frozenset({
    "ArgMax", "ArgMin", "BatchNormalization", "Compress", "Concat", "CumProd", "CumSum",
    "DepthToSpace", "DynamicQuantizeLinear", "EyeLike", "Flatten", "GatherElements",
    "GlobalAveragePool",
    "GlobalMaxPool", "Hardmax", "InstanceNormalization", "LRN", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "QuantizeLinear", "ReduceL1", "ReduceL2",
    "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare", "Reshape", "ReverseSequence", "ScatterElements",
    "ScatterND", "Shape", "Size", "Slice", "Softmax", "SpaceToDepth", "Split", "Squeeze",
    "TopK", "Transpose", "Trilu", "Unique", "Unsqueeze",
})  # fmt: skip
_LOOPED = frozenset({
    "AveragePool", "Erf", "GatherElements", "GatherND", "Gelu", "LRN", "LpPool", "MaxPool",
    "Resize", "ReverseSequence", "ScatterElements", "Upsample",
})  # fmt: skip
_LOOP = 256  # a step of Python in steps of NumPy
FOLD_FIRST = (
    "onnxruntime can compute its constants once: SessionOptions.optimized_model_filepath with "
    "ORT_ENABLE_BASIC"
)

Arrays = Sequence[Array | None]


def given(arrays: Arrays, index: int) -> Array:
    array = arrays[index] if index < len(arrays) else None
    if array is None:
        raise ModelError(f"input {index} is missing")
    return array


def pay(call: Call, arrays: Arrays) -> None:
    """Take what a node costs from the file's allowance.

    Raises
    ------
    ModelError
        It is too much, or not known.
    """
    read = sum(a.size for a in arrays if a is not None)
    if call.op in _GROWING:
        made, steps = _GROWING[call.op](call, arrays)
    elif call.op in _ELEMENTWISE:
        made = steps = prod(np.broadcast_shapes(*(a.shape for a in arrays if a is not None)))
    elif call.op in _WITHIN:
        made = steps = read
    else:
        raise ModelError(f"this operator is not supported on constants; {FOLD_FIRST}")
    if made > MAX_NUMBERS:
        raise ModelError(f"a constant of {made} numbers is too large")
    call.build.room.require(_BYTES * made)
    call.build.pay(read + 2 * made + steps * (_LOOP if call.op in _LOOPED else 1))


def pay_product(call: Call, read: int, made: int, depth: int) -> None:
    """As `pay`, of `made` sums of `depth` products."""
    if made > MAX_NUMBERS:
        raise ModelError(f"a constant of {made} numbers is too large")
    call.build.room.require(_BYTES * made)
    call.build.pay(read + 2 * made + made * depth // _BLAS)


def spatial(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[int],
) -> tuple[int, ...]:
    """How many windows there are along each axis."""
    count = len(sizes)
    if len(pads) != 2 * count or min((*pads, 0)) < 0 or min((*kernel, *stride, *dilation)) < 1:
        raise ModelError("its windows are impossible")
    ends = (n + pads[i] + pads[count + i] for i, n in enumerate(sizes))
    windows = zip(ends, kernel, stride, dilation, strict=True)
    found = tuple((n - (k - 1) * d - 1) // s + 1 for n, k, s, d in windows)
    if min(found, default=1) < 1:
        raise ModelError("its kernel is larger than what it reads")
    return found


Size = tuple[int, int]  # numbers made, and steps that they take


def _shape_of_first(call: Call, arrays: Arrays) -> Size:
    return _twice(prod(_whole(given(arrays, 0))))


def _range(call: Call, arrays: Arrays) -> Size:
    start, limit, step = (float(given(arrays, i).item()) for i in range(3))
    if not isfinite(start + limit + step) or step == 0:
        raise ModelError(f"a range from {start} to {limit} by {step} has no end")
    return _twice(max(ceil((limit - start) / step), 0))


def _expand(call: Call, arrays: Arrays) -> Size:
    return _twice(prod(np.broadcast_shapes(given(arrays, 0).shape, _whole(given(arrays, 1)))))


def _tile(call: Call, arrays: Arrays) -> Size:
    return _twice(given(arrays, 0).size * prod(_whole(given(arrays, 1))))


def _pad(call: Call, arrays: Arrays) -> Size:
    shape = list(given(arrays, 0).shape)
    pads = (
        call.integers("pads") if call.opset < 11 else _whole(given(arrays, 1), least=-MAX_NUMBERS)
    )
    axes = _whole(axes, least=-9) if len(arrays) > 3 and (axes := arrays[3]) is not None else None
    for i, (before, after) in enumerate(
        zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=False)
    ):
        shape[i if axes is None else axes[i]] += before + after
    if min(shape, default=0) < 0:
        raise ModelError("nothing is left of it")
    return _twice(prod(shape))


def _one_hot(call: Call, arrays: Arrays) -> Size:
    return _twice(given(arrays, 0).size * int(given(arrays, 1).item()))


def _non_zero(call: Call, arrays: Arrays) -> Size:
    x = given(arrays, 0)
    return _twice(x.size * x.ndim)


def _gather(call: Call, arrays: Arrays) -> Size:
    data, index = given(arrays, 0), given(arrays, 1)
    axis = axis_of(call.integer("axis", 0), data.ndim)
    return _twice(index.size * prod(data.shape[:axis]) * prod(data.shape[axis + 1 :]))


def _gather_nd(call: Call, arrays: Arrays) -> Size:
    data, index = given(arrays, 0), given(arrays, 1)
    first = call.integer("batch_dims", 0) + index.shape[-1]
    return _twice(prod(index.shape[:-1]) * prod(data.shape[first:]))


def _product(call: Call, arrays: Arrays) -> Size:
    a, b = given(arrays, 0), given(arrays, 1)
    rows, depth = (1, 1, *a.shape)[-2:]
    other, columns = (1, *b.shape, 1)[-2:] if b.ndim < 2 else b.shape[-2:]
    if call.op == "Gemm":
        rows, depth = (depth, rows) if call.integer("transA", 0) else (rows, depth)
        columns = other if call.integer("transB", 0) else columns
    made = prod(np.broadcast_shapes(a.shape[:-2], b.shape[:-2])) * rows * columns
    return made, made * depth // _BLAS


def _resize(call: Call, arrays: Arrays) -> Size:
    """Each number is made of all that are read, one by one."""
    x = given(arrays, 0)
    scales = arrays[1 if call.op == "Upsample" else 2]
    if scales is None:
        made = x.size * prod(_whole(given(arrays, 3)))
    else:
        made = prod(ceil(n * float(s)) for n, s in zip(x.shape, scales, strict=True))
    return made, made * x.size


def _pool(call: Call, arrays: Arrays) -> Size:
    x, kernel = given(arrays, 0), call.integers("kernel_shape")
    pads = call.integers("pads", (0,) * 2 * len(kernel))
    if min(pads, default=0) < 0 or min(kernel, default=0) < 1:
        raise ModelError("its kernel or padding is impossible")
    windows = [n + sum(pads) + k for n, k in zip(x.shape[2:], kernel, strict=True)]
    made = prod(x.shape[:2]) * prod(windows)
    return made, made * prod(kernel)


def _einsum(call: Call, arrays: Arrays) -> Size:
    """Products of all lengths: what any order of contraction stays below."""
    lengths: dict[str, int] = {}
    equation = call.text("equation")
    for term, array in zip(equation.partition("->")[0].split(","), arrays, strict=True):
        letters = term.replace(" ", "")
        if array is None or len(letters) != array.ndim or "." in letters:
            raise ModelError(f"equation {equation[:100]!r} is not supported")
        lengths |= dict(zip(letters, array.shape, strict=True))
    return _twice(prod(lengths.values()))


def _twice(count: int) -> Size:
    return count, count


def _whole(array: Array, least: int = 0) -> tuple[int, ...]:
    """The whole numbers of a shape."""
    numbers = tuple(int(n) for n in array.reshape(-1))
    if array.dtype.kind not in "iu" or min(numbers, default=0) < least:
        raise ModelError(f"{str(numbers)[:100]} is not a shape")
    return numbers


_GROWING: dict[str, Callable[[Call, Arrays], Size]] = {
    "ConstantOfShape": _shape_of_first, "Range": _range, "Expand": _expand, "Tile": _tile,
    "Pad": _pad, "OneHot": _one_hot, "NonZero": _non_zero,
    "Gather": _gather, "GatherND": _gather_nd,
    "MatMul": _product, "Gemm": _product, "MatMulInteger": _product, "Einsum": _einsum,
    "Resize": _resize, "Upsample": _resize,
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool"), _pool),
}  # fmt: skip
