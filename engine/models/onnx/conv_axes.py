"""Convolution along one axis or three, and pooling along one, as along two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.conv import conv
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor, Value
from shardcam.engine.models.onnx.shapes import reshape, transpose


def conv_of_any_rank(call: Call) -> Tensor:
    """Conv along one, two or three axes; of three, one must have a kernel of length one."""
    x = call.tensor()
    if x.rank == 3:
        weight = call.array(1)
        if weight.ndim != 3:
            raise ModelError(f"a weight of {weight.shape} does not fit {x.sizes} for each image")
        return _along_one(call, x, conv, (Known.of(weight[:, :, None]), *call.inputs[2:]))
    return _along_three(call, x) if x.rank == 5 else conv(call)


def pool_of_any_rank(rule: Callable[[Call], Tensor]) -> Callable[[Call], Tensor]:
    """Pooling along one axis or two."""

    def made(call: Call) -> Tensor:
        x = call.tensor()
        return _along_one(call, x, rule, ()) if x.rank == 3 else rule(call)

    return made


def _along_one(
    call: Call, x: Tensor, rule: Callable[[Call], Tensor], others: tuple[Value | None, ...]
) -> Tensor:
    """(N,C,L) is (N,C,1,L); `others` are the inputs behind it."""
    image = reshape(call, x, x.multiple, (x.sizes[0], 1, x.sizes[1]), "image")
    inputs = (image, *others)
    attributes: dict[str, Attribute] = dict(call.attributes)
    for key, other in (("kernel_shape", 1), ("strides", 1), ("dilations", 1)):
        if key in attributes:
            attributes[key] = (other, *call.integers(key))
    if "pads" in attributes:
        before, after = call.integers("pads")
        attributes["pads"] = (0, before, 0, after)
    y = rule(replace(call, inputs=inputs, attributes=attributes))
    return reshape(call, y, x.multiple, (y.sizes[0], y.sizes[2]), "line")


def _along_three(call: Call, x: Tensor) -> Tensor:
    """The axis that the kernel does not reach along goes to the batch."""
    weight, axes = call.array(1), (0, 1, 2)
    if weight.ndim != 5:
        raise ModelError(f"a weight of {weight.shape} does not fit {x.sizes} for each image")
    strides, pads = call.integers("strides", (1, 1, 1)), call.integers("pads", (0,) * 6)
    alone = [a for a in axes if weight.shape[2 + a] == strides[a] == 1 and not any(pads[a::3])]
    if not alone:
        raise ModelError("of three axes one must have a kernel of length one")
    kept = [a for a in axes if a != alone[0]]
    order = (0, 2 + alone[0], 1, *(2 + a for a in kept))
    turned = transpose(call, x, order, "turned")
    length, channels, *sides = turned.sizes
    images = reshape(call, turned, x.multiple * length, (channels, *sides), "images")
    attributes: dict[str, Attribute] = dict(call.attributes)
    for key in ("kernel_shape", "strides", "dilations"):
        if key in attributes:
            values = call.integers(key)
            attributes[key] = tuple(values[a] for a in kept)
    if "pads" in attributes:
        attributes["pads"] = tuple(pads[a + side] for side in (0, 3) for a in kept)
    inputs = (images, Known.of(weight.squeeze(2 + alone[0])), *call.inputs[2:])
    y = conv(replace(call, inputs=inputs, attributes=attributes))
    apart = reshape(call, y, x.multiple, (length, *y.sizes), "apart")
    back = [0, 2, 0, 0, 0]
    for position, axis in enumerate((alone[0], *kept)):
        back[2 + axis] = 1 if position == 0 else 2 + position
    return transpose(call, apart, tuple(back), "volume")
