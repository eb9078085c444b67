"""Normalization layers."""

from __future__ import annotations

from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.axes import axis_of
from shardcam.engine.models.onnx.call import Call
from shardcam.engine.models.onnx.onnx_graph import Array, Known, Shape, Tensor, Weight
from shardcam.engine.models.onnx.shapes import reshape, vector


def batch_norm(call: Call) -> Tensor:
    """BatchNormalization with its stored statistics."""
    call.ignore("momentum")
    call.must_be("training_mode", 0)
    call.must_be("spatial", 1)
    x = call.tensor()
    if call.outputs > 1:
        raise ModelError("it is in training mode")
    for i in range(1, 5):
        _check_channels(call.array(i), x)
    weights = [call.build.weight(call.known(i)) for i in (1, 2)]
    weights += [call.build.weight(call.known(i), role=f"statistics{i}") for i in (3, 4)]
    return call.emit(
        "BatchNorm", [x, *weights],
        eps=call.number("epsilon", 1e-5), fix_gamma=False, use_global_stats=True,
    )  # fmt: skip


def instance_norm(call: Call) -> Tensor:
    """InstanceNormalization; PyTorch writes GroupNorm with it, too."""
    x = call.tensor()
    for i in (1, 2):
        _check_channels(call.array(i), x)
    weights = [call.build.weight(call.known(i)) for i in (1, 2)]
    return call.emit("InstanceNorm", [x, *weights], eps=call.number("epsilon", 1e-5))


def group_norm(call: Call) -> Tensor:
    """GroupNormalization: an instance norm over groups, then a scale and shift.

    Opset 18 has one scale for each group, later ones one for each channel.
    """
    call.ignore("stash_type")
    x, groups = call.tensor(), call.integer("num_groups")
    channels = x.sizes[0] if x.sizes else 0
    if groups < 1 or channels % groups:
        raise ModelError(f"{channels} channels cannot be split into {groups} groups")
    y = reshape(call, x, x.multiple, (groups, prod(x.sizes) // groups), "groups")
    plain = [call.parameter("ones", np.ones(groups)), call.parameter("zeros", np.zeros(groups))]
    y = call.emit("InstanceNorm", [y, *plain], "norm", eps=call.number("epsilon", 1e-5))
    y = reshape(call, y, x.multiple, x.sizes, "back")
    repeat = channels // groups if call.opset < 21 else 1
    scale, shift = (_channel_row(np.repeat(call.array(i), repeat), x) for i in (1, 2))
    y = call.emit("broadcast_mul", [y, call.parameter("scale", scale)], "scaled")
    return call.emit("broadcast_add", [y, call.parameter("shift", shift)])


def layer_norm(call: Call) -> Tensor:
    """LayerNormalization over the last axes; MXNet's knows one axis, so several become one."""
    call.ignore("stash_type")
    if call.outputs > 1:
        raise ModelError("its further outputs are not supported")
    x = call.tensor()
    axis = axis_of(call.integer("axis", -1), x.rank)
    if axis == 0:
        raise ModelError("it would mix the images of a batch")
    sizes = x.sizes[axis - 1 :]
    shift = call.known(2) if call.has(2) else Known.of(np.zeros(1, np.float32))
    weights = [
        _flat_weight(call, known, sizes, part)
        for known, part in ((call.known(1), "scale"), (shift, "shift"))
    ]
    flat = reshape(call, x, x.multiple, (*x.sizes[: axis - 1], prod(sizes)), "flat")
    y = call.emit(
        "LayerNorm", [vector(call, flat, "row"), *weights],
        axis=-1, eps=call.number("epsilon", 1e-5),
    )  # fmt: skip
    return reshape(call, y, x.multiple, x.sizes, "back")


def rms_norm(call: Call) -> Tensor:
    """RMSNormalization over the last axes: as LayerNormalization, without a mean."""
    call.ignore("stash_type")
    x, scale = call.tensor(), call.array(1)
    axis = axis_of(call.integer("axis", -1), x.rank)
    if axis == 0:
        raise ModelError("it would mix the images of a batch")
    squares = call.emit("square", [x], "square")
    mean = call.emit("mean", [squares], "mean", axis=tuple(range(axis, x.rank)), keepdims=True)
    mean = call.emit("_plus_scalar", [mean], "above", scalar=call.number("epsilon", 1e-5))
    normal = call.emit("broadcast_mul", [x, call.emit("rsqrt", [mean], "rsqrt")], "normal")
    weight = np.broadcast_to(scale, x.sizes[axis - 1 :])[(None,) * axis]
    return call.emit("broadcast_mul", [normal, call.parameter("scale", weight)])


def lrn(call: Call) -> Tensor:
    """LRN across channels."""
    x, size = call.image(), call.integer("size")
    if size < 1 or size % 2 == 0:
        raise ModelError(f"a window of {size} channels is not supported")
    return call.emit(
        "LRN", [x], nsize=size, alpha=call.number("alpha", 1e-4),
        beta=call.number("beta", 0.75), knorm=call.number("bias", 1.0),
    )  # fmt: skip


def _flat_weight(call: Call, known: Known, sizes: Shape, part: str) -> Weight:
    if known.name and known.constant.shape == sizes and len(sizes) == 1:
        return call.build.weight(known)
    return call.parameter(part, np.broadcast_to(known.constant, sizes).reshape(-1))


def _check_channels(value: Array, x: Tensor) -> None:
    if not x.sizes or value.shape != (x.sizes[0],):
        raise ModelError(f"a weight of {value.shape} does not fit {x.sizes}")


def _channel_row(value: Array, x: Tensor) -> Array:
    _check_channels(value, x)
    return value.reshape(1, -1, *(1 for _ in x.sizes[1:]))
