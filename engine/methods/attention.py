"""What a transformer attends to. The class plays no part.

Each row of an attention matrix sums to one over the tokens. Where tokens other than the picture's
come first, the row of the very first is read, the class token's; else the mean of all rows.
"""

from __future__ import annotations

import functools
from math import prod

from array_api_compat import array_namespace, device

from shardcam.engine.methods.arrays import stacked
from shardcam.engine.methods.registry import EACH_BLOCK, FORWARD, LAST_BLOCK, cam_method
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


@cam_method(
    "attention",
    paper="Caron et al., ICCV 2021",
    needs=FORWARD,
    per_class=False,
    reads_attention=LAST_BLOCK,
)
def attention(layer: LayerView, targets: I4) -> F4:
    """The last block's attention of the class token to the picture's tokens, the heads' mean."""
    (last,) = map(_mean_of_heads, layer.attention)
    return _map(last, layer, targets)


@cam_method(
    "rollout",
    paper="Abnar & Zuidema, ACL 2020",
    needs=FORWARD,
    per_class=False,
    reads_attention=EACH_BLOCK,
)
def rollout(layer: LayerView, targets: I4) -> F4:
    """The product of all blocks' ``(mean of heads + 1) / 2``, the class token's row of it."""
    mixed = map(_with_identity, map(_mean_of_heads, layer.attention))
    return _map(functools.reduce(lambda below, block: block @ below, mixed), layer, targets)


def _with_identity(block: F4) -> F4:
    """(N,T,T) the mean of a block and what its residual connection passes on."""
    xp = array_namespace(block)
    mixed: F4 = (block + xp.eye(block.shape[-1], dtype=xp.float32, device=device(block))) / 2
    return mixed


def _mean_of_heads(block: F4) -> F4:
    """(N,heads,Q,T) -> (N,Q,T)."""
    mean: F4 = array_namespace(block).mean(block, axis=1)
    return mean


def _map(block: F4, layer: LayerView, targets: I4) -> F4:
    """(N,Q,T) -> (N,K,h,w): the same for every class."""
    height, width = layer.activation.shape[2:]
    count, _, tokens = block.shape
    others = tokens - prod((height, width))
    row = block[:, 0] if others else array_namespace(block).mean(block, axis=1)
    maps = row[:, others:].reshape(count, height, width)
    return stacked([maps] * targets.shape[1])
