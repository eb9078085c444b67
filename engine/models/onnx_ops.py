"""The operators that are known, and how each node is translated."""

from __future__ import annotations

from collections.abc import Callable

from engine.errors import ModelError
from engine.models import onnx_conv, onnx_dense, onnx_elementwise, onnx_norm, onnx_pad, onnx_pool
from engine.models import onnx_resize as resizing
from engine.models import onnx_shapes as shapes
from engine.models.onnx_call import Call
from engine.models.onnx_fold import FOLDS, fold
from engine.models.onnx_graph import Tensor, Value

RULES: dict[str, Callable[[Call], Tensor | tuple[Tensor, ...]]] = {
    "Conv": onnx_conv.conv, "ConvTranspose": onnx_conv.conv_transpose,
    "MaxPool": onnx_pool.max_pool, "AveragePool": onnx_pool.average_pool,
    "GlobalAveragePool": onnx_pool.global_op, "GlobalMaxPool": onnx_pool.global_op,
    "BatchNormalization": onnx_norm.batch_norm, "LayerNormalization": onnx_norm.layer_norm,
    "InstanceNormalization": onnx_norm.instance_norm,
    "GroupNormalization": onnx_norm.group_norm, "LRN": onnx_norm.lrn,
    "Gemm": onnx_dense.gemm, "MatMul": onnx_dense.matmul,
    "Softmax": onnx_dense.softmax, "LogSoftmax": onnx_dense.softmax,
    "ReduceMean": onnx_dense.reduce, "ReduceSum": onnx_dense.reduce,
    "ReduceMax": onnx_dense.reduce, "ReduceMin": onnx_dense.reduce,
    "Identity": shapes.same, "Dropout": shapes.same,
    "Cast": shapes.cast, "CastLike": shapes.cast_like,
    "Reshape": shapes.reshape_op, "Flatten": shapes.flatten,
    "Squeeze": shapes.squeeze, "Unsqueeze": shapes.unsqueeze,
    "Transpose": shapes.transpose_op, "Concat": shapes.concat, "Slice": shapes.slice_op,
    "Split": shapes.split, "Gather": shapes.gather, "Expand": shapes.expand,
    "Pad": onnx_pad.pad_op, "DepthToSpace": shapes.depth_to_space,
    "Resize": resizing.resize, "Upsample": resizing.resize,
    **onnx_elementwise.RULES,
}  # fmt: skip

KNOWN = frozenset({*RULES, *FOLDS, "Constant"})


def translate(call: Call) -> tuple[Value, ...]:
    """Outputs of one node: constants are computed, everything else becomes MXNet nodes.

    Raises
    ------
    ModelError
        The operator, or something about it, is not understood.
    """
    outputs: tuple[Value, ...] | None = fold(call)
    if outputs is None:
        if call.op not in RULES:
            raise ModelError("this operator is only supported on constants")
        made = RULES[call.op](call)
        outputs = made if isinstance(made, tuple) else (made,)
    unread = sorted(set(call.attributes) - call.read)
    if unread:
        raise ModelError(f"attribute {unread[0]} is not supported")
    return outputs
