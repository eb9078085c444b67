"""Where a network says how much each token attends to the others."""

from __future__ import annotations

from math import prod

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.axis_parts import CHANNELS, TOKENS, Axis, is_grid
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.layer_names import followed_axes
from shardcam.engine.types import LayerInfo


def attention_layers(network: NetworkDefinition, layer: LayerInfo, every: bool) -> tuple[str, ...]:
    """Names of the softmaxes (heads,Q,T) over all tokens of the picture: the last, or each.

    Parameters
    ----------
    network
        The network.
    layer
        A layer whose positions are those of the tokens, and become those of maps of attention.
    every
        All blocks are wanted, and must attend from all tokens to all tokens.

    Raises
    ------
    ConfigError
        Nothing attends to all of its positions, or some blocks do not.
    """
    positions = prod(layer.shape[1:])
    found, sizes = [], set()
    for name, axes in followed_axes(network).items():
        node = network.graph.nodes[network.graph.number(name)]
        if node.op == "softmax" and len(axes) > 2 and is_grid(axes[-1]):
            queries, tokens = (prod(part.size for part in axis) for axis in axes[-2:])
            windows = prod(p.size for axis in axes[:-2] for p in axis if p.kind != CHANNELS)
            sizes.add((queries, tokens * windows))
            if _positions(axes[-1]) == positions and windows == 1:
                found.append(name)
    if not found:
        raise ConfigError(
            f"--layer {layer.name}: {network.name} has no attention between all of its tokens; "
            "--method gradcam works everywhere"
        )
    if every and (len(sizes) > 1 or not all(queries == tokens for queries, tokens in sizes)):
        listed = ", ".join(f"{queries} of {tokens}" for queries, tokens in sorted(sizes))
        raise ConfigError(
            f"{network.name} does not attend from all tokens to all in each block ({listed}); "
            "--method attention shows the last one"
        )
    return tuple(found) if every else (found[-1],)


def _positions(axis: Axis) -> int:
    """Of the picture along an axis; others may lie beside them."""
    return prod(p.size for part in axis for p in (part.inside if part.kind == TOKENS else (part,)))
