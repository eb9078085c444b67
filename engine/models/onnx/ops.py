"""The operators that are known, and how each node is translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import (
    attention_op,
    col2im,
    contrib,
    conv,
    conv_axes,
    dense,
    einsum,
    elementwise,
    norm,
    one_image,
    pad,
    pool,
    products,
    quantised,
    reductions,
    resize,
    scatter,
    shapes,
)
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.fold import fold
from shardcam.engine.models.onnx.moved import with_moved_batch
from shardcam.engine.models.onnx.onnx_graph import Quantised, Value

Rules = Mapping[str, Callable[[Call], Value | tuple[Value, ...]]]

RULES: Rules = {
    "Conv": conv_axes.conv_of_any_rank, "ConvTranspose": conv.conv_transpose,
    "MaxPool": conv_axes.pool_of_any_rank(pool.max_pool),
    "AveragePool": conv_axes.pool_of_any_rank(pool.average_pool),
    "GlobalAveragePool": pool.global_op, "GlobalMaxPool": pool.global_op,
    "BatchNormalization": norm.batch_norm, "LayerNormalization": norm.layer_norm,
    "InstanceNormalization": norm.instance_norm,
    "GroupNormalization": norm.group_norm, "LRN": norm.lrn,
    "Gemm": dense.gemm, "MatMul": products.matmul,
    "Einsum": einsum.einsum, "Attention": attention_op.attention,
    "RMSNormalization": norm.rms_norm,
    "Softmax": dense.softmax, "LogSoftmax": dense.softmax,
    "ReduceMean": dense.reduce, "ReduceSum": dense.reduce,
    "ReduceMax": dense.reduce, "ReduceMin": dense.reduce, "ReduceProd": dense.reduce,
    **reductions.RULES, **quantised.RULES,
    "Identity": shapes.same, "Dropout": shapes.same,
    "Cast": shapes.cast, "CastLike": shapes.cast_like,
    "Reshape": shapes.reshape_op, "Flatten": shapes.flatten,
    "Squeeze": shapes.squeeze, "Unsqueeze": shapes.unsqueeze,
    "Transpose": shapes.transpose_op, "Concat": shapes.concat, "Slice": shapes.slice_op,
    "Split": shapes.split, "Gather": shapes.gather, "Expand": shapes.expand,
    "Tile": shapes.tile, "ScatterND": scatter.scatter_nd, "Col2Im": col2im.col2im,
    "Pad": pad.pad_op, "DepthToSpace": shapes.depth_to_space,
    "Resize": resize.resize, "Upsample": resize.resize,
    **elementwise.RULES,
}  # fmt: skip
DOMAINS: Mapping[str, Rules] = {
    "": RULES,
    "com.microsoft": {**contrib.MICROSOFT, **quantised.MICROSOFT},
    "ai.onnx.ml": contrib.CLASSICAL,
}
ADVICE = (
    "if it comes after the scores, --output NAME takes a value before it; else another exporter "
    "or opset may do without it"
)
QUANTISED = frozenset({*quantised.RULES, *quantised.MICROSOFT})


def translate(call: Call) -> tuple[Value, ...]:
    """Outputs of one node: constants are computed, everything else becomes MXNet nodes.

    Raises
    ------
    ModelError
        The operator, or something about it, is not understood.
    """
    outputs: tuple[Value, ...] | None = fold(call)
    if outputs is None:
        if call.domain == "com.microsoft.nchwc":
            raise ModelError("its layout is for one processor; optimise less: ORT_ENABLE_EXTENDED")
        if call.domain not in DOMAINS:
            raise ModelError(f"operators of {call.domain!r} are not supported")
        rules = DOMAINS[call.domain]
        if call.op not in rules:
            raise ModelError("this operator is not supported")
        rule = rules[call.op]
        if call.fixed_batch == 1:
            rule = partial(one_image.translated, rule=rule)
        if call.op not in QUANTISED and any(isinstance(v, Quantised) for v in call.inputs):
            rule = partial(quantised.moved, rule=rule)
        moved = None if call.fixed_batch == 1 else with_moved_batch(call, rule)
        made = rule(call) if moved is None else moved
        outputs = made if isinstance(made, tuple) else (made,)
    unread = sorted(set(call.attributes) - call.read)
    if unread:
        raise ModelError(f"attribute {unread[0]} is not supported")
    return outputs
