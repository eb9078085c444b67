"""Whether a network fits the memory there is, reckoned before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterable

from shardcam.engine.config import size_text
from shardcam.engine.errors import ConfigError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.free_memory import gigabytes
from shardcam.engine.models.graph import ancestors, cut
from shardcam.engine.models.layer_names import layer_shapes

CPU_PASS = 4  # images that a core takes through the backbone at once: more leave its cache
LARGEST = 2**31 - 1  # numbers of one of MXNet's tensors


def require_memory(
    definition: NetworkDefinition,
    layers: Iterable[str],
    batch_size: int,
    rows: int,
    free: int | None = None,
) -> None:
    """Refuse a batch that cannot fit.

    What is reckoned is the least that is needed: weights, the input, the largest operator of the
    backbone and what the heads keep.

    Parameters
    ----------
    definition
        The network.
    layers
        Names of those that are explained.
    batch_size
        Images that go through the heads at once.
    rows
        Images that go through the backbone at once.
    free
        Bytes, None where they are not known.

    Raises
    ------
    ConfigError
        It names the option.
    """
    graph, image = definition.graph, definition.preprocessing.input_shape
    shapes = {definition.input_name: image, **layer_shapes(definition)}
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    cuts = [cut(graph, name, definition.parameters) for name in layers]
    each = [sizes.get(node.name, 0) for node in graph.nodes]  # numbers for one image
    below = ancestors(graph, [entry for c in cuts for entry in c.backbone])
    crossing = [each[i] for c in cuts for i, _ in c.backbone]
    heads = [sizes.get(node.name, 0) for c in cuts for node in c.head.nodes]
    largest = max(max(each[i] for i in below) * rows, max([*crossing, *heads]) * batch_size)
    size = size_text(*image[1:])
    option = f"--batch-size {batch_size}" if batch_size > 1 else f"--image-size {size}"
    if largest > LARGEST:
        raise ConfigError(
            f"{option}: a tensor of {definition.name} would hold {largest} numbers, and MXNet's "
            f"hold at most {LARGEST}; give a smaller one, or a smaller --image-size"
        )
    steps = [each[i] + max([each[s] for s, _ in graph.nodes[i].inputs], default=0) for i in below]
    needed = 4 * (rows * (max(steps) + 2 * math.prod(image)) + batch_size * sum(crossing + heads))
    needed += sum(value.nbytes for value in definition.parameters.values())
    if free is not None and needed > free:
        raise ConfigError(
            f"{option}: {definition.name} needs some {gigabytes(needed)} of memory, and "
            f"{gigabytes(free)} are free; give a smaller one, or a smaller --image-size"
        )
