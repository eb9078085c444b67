"""Shapes of one operator by itself, as MXNet infers them."""

from __future__ import annotations

from collections.abc import Sequence

import mxnet as mx

from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.models.mxnet_errors import reason
from shardcam.engine.models.mxnet_symbol import symbol_of

Shape = tuple[int, ...]


def node_shapes(
    node: Node, shapes: Sequence[Shape | None], outputs: int = 1
) -> tuple[list[Shape], list[Shape]]:
    """Shapes of an operator's inputs and outputs; () where one does not follow.

    Parameters
    ----------
    node
        The operator; what it reads does not matter.
    shapes
        Of its inputs, None where one is not known.
    outputs
        How many of its outputs are wanted.

    Raises
    ------
    ModelError
        The inputs do not fit it.
    """
    names = [f"in{i}" for i in range(len(shapes))]
    variables = tuple(Node(VARIABLE, name) for name in names)
    count = len(variables)
    alone = Node(node.op, "operator", node.attrs, tuple((i, 0) for i in range(count)))
    heads = tuple((count, i) for i in range(outputs))
    try:
        symbol = symbol_of(Graph((*variables, alone), heads))
        arguments = symbol.list_arguments()
        takes = {*arguments}
        known = {n: s for n, s in zip(names, shapes, strict=True) if s and n in takes}
        found, made, states = symbol.infer_shape_partial(**known)
    except mx.MXNetError as error:
        given = [shape for shape in shapes if shape]
        raise ModelError(f"shapes {given} do not fit it: {reason(error)}") from error
    by_name = dict(
        zip([*arguments, *symbol.list_auxiliary_states()], [*found, *states], strict=True)
    )
    return [_whole(by_name[name]) for name in names], [_whole(shape) for shape in made]


def _whole(shape: Sequence[int] | None) -> Shape:
    return tuple(map(int, shape)) if shape and min(shape) > 0 else ()
