"""Col2Im: overlapping blocks added up to an image, the reverse of PyTorch's unfold."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx.call import Attribute, Call
from shardcam.engine.models.onnx.conv import conv_transpose
from shardcam.engine.models.onnx.onnx_graph import Known, Tensor
from shardcam.engine.models.onnx.shapes import reshape


def col2im(call: Call) -> Tensor:
    """A transposed convolution of each channel, whose filter k is one at pixel k of the block."""
    x = call.tensor()
    image, block = (tuple(int(n) for n in call.array(i).reshape(-1)) for i in (1, 2))
    if len(image) != 2 or len(block) != 2 or x.rank != 3 or min(*image, *block) < 1:
        raise ModelError(f"blocks of {block} of an image of {image} are not supported")
    strides, dilations = (call.integers(name, (1, 1)) for name in ("strides", "dilations"))
    pads = call.integers("pads", (0,) * 4)
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4 or min(*strides, *dilations) < 1:
        raise ModelError("its strides, dilations and pads do not fit two axes")
    left = [
        n + pads[i] + pads[i + 2] - d * (k - 1) - 1
        for i, (n, k, d) in enumerate(zip(image, block, dilations, strict=True))
    ]
    sizes = tuple(rest // s + 1 for rest, s in zip(left, strides, strict=True))
    channels, over = divmod(x.sizes[0], prod(block))
    if over or min(left) < 0 or prod(sizes) != x.sizes[1]:
        raise ModelError(f"{x.sizes} are not blocks of {block} of an image of {image}")
    call.build.room.require(8 * channels * prod(block) ** 2)  # the filters, and a copy
    filters = np.tile(np.eye(prod(block), dtype=np.float32), (channels, 1))
    weight = Known.of(filters.reshape(-1, 1, *block))
    blocks = reshape(call, x, x.multiple, (x.sizes[0], *sizes), "blocks")
    attributes: dict[str, Attribute] = {
        "strides": strides, "dilations": dilations, "pads": pads, "group": channels,
        "output_padding": tuple(rest % s for rest, s in zip(left, strides, strict=True)),
    }  # fmt: skip
    return conv_transpose(replace(call, inputs=(blocks, weight), attributes=attributes))
