"""MXNet checkpoints: ``NAME-symbol.json`` with ``NAME-NNNN.params`` beside it, or other weights.

Module and Gluon exports, with or without a loss at the end, any input name.  A checkpoint
may say what its input is: its variable's attributes ``__shape__`` (0,C,H,W) and ``__dtype__``,
which MXNet knows, and ``__mean__`` and ``__std__`` on the 0-255 scale, R,G,B, which are ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np

from shardcam.engine.config import RANDOM_PARAMS, ImageSize, sides_of
from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import (
    MAX_CHANNELS,
    NetworkDefinition,
    open_size,
    usual_scale,
)
from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.models.graph_forms import inference_form, without_loss
from shardcam.engine.models.input_scaling import plain_pixels, with_inner_scaling
from shardcam.engine.models.model_files import read_model_file
from shardcam.engine.models.mxnet_errors import reason
from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.models.symbol_json import MAX_TEXT, parse
from shardcam.engine.models.symbol_shapes import require_runnable
from shardcam.engine.models.weight_files import Shape, random_weights, read_weights
from shardcam.engine.types import F4, Preprocessing

SUFFIX = "-symbol.json"
SHAPE, MEAN, STD = "__shape__", "__mean__", "__std__"
DTYPE, UINT8 = "__dtype__", "3"
USUAL_SIZE = 224  # of inputs that say nothing
_GREATEST = 1e30  # number that an input may declare, and one over it the least deviation


def checkpoint_network(
    symbol: Path,
    params: str | None,
    image_size: ImageSize | None,
    output: str | None = None,
) -> NetworkDefinition:
    """Load a checkpoint.

    Parameters
    ----------
    symbol
        The ``-symbol.json`` file.
    params
        A weight file with the symbol's names, or ``random``; by default the ``-NNNN.params``
        of the latest epoch beside the symbol.
    image_size
        Side of the input, or height and width; by default what the checkpoint says, else 224.
    output
        Name of the node that computes the logits; by default the symbol's one output.

    Raises
    ------
    ModelError
        A file is missing, damaged, or does not fit the other one.
    """
    graph, loss = without_loss(_read_graph(symbol, output))
    variables = [node.name for node in graph.nodes if node.op == VARIABLE]
    if len(set(variables)) < len(variables):
        raise ModelError(f"{symbol}: several of its variables have one name")
    remarks: tuple[str, ...] = ()
    if params == RANDOM_PARAMS:
        path, stored = symbol, _random_parameters(symbol, graph, image_size)
    else:
        path, remarks = (Path(params), ()) if params else _params_beside(symbol)
        weights = read_weights(path)
        stored = {
            name.removeprefix("arg:").removeprefix("aux:"): np.ascontiguousarray(value, np.float32)
            for name, value in weights.items()
        }
        if len(stored) < len(weights):
            raise ModelError(f"{path}: one of its names is both an argument and an auxiliary state")
    inputs = [name for name in variables if name not in stored]
    if len(inputs) != 1:
        missing = ", ".join(inputs[:3]) or "none"
        raise ModelError(
            f"{path}: should lack one variable of {symbol.name}, its input; lacks {missing}"
        )
    parameters = {name: stored[name] for name in variables if name in stored}
    shapes = {name: value.shape for name, value in parameters.items()}
    given = graph.nodes[graph.number(inputs[0])]
    channels = _input_channels(symbol, graph, given.name, shapes)
    preprocessing = _preprocessing(symbol, given, channels, image_size)
    takes_bytes = given.attrs.get(DTYPE) == UINT8
    if takes_bytes:
        mean, std = plain_pixels(channels)
        preprocessing = replace(preprocessing, mean=mean, std=std)
    if image_size is None and not _declared_size(given.attrs, channels):
        remarks = (*remarks, open_size(USUAL_SIZE, USUAL_SIZE))
    final = inference_form(_without_attributes(graph, given.name))
    _shapes(symbol, final, given.name, preprocessing.input_shape, shapes)
    network = NetworkDefinition(
        name=symbol.name.removesuffix(SUFFIX),
        graph=final,
        parameters=parameters,
        preprocessing=preprocessing,
        input_name=given.name,
        assumed=not takes_bytes and not {MEAN, STD} <= given.attrs.keys(),
        takes_bytes=takes_bytes,
        remarks=remarks,
        loss=loss,
    )
    declared = takes_bytes or {MEAN, STD} & given.attrs.keys()
    return network if declared else with_inner_scaling(network)


def _read_graph(path: Path, output: str | None) -> Graph:
    data = read_model_file(path, MAX_TEXT)
    try:
        # MXNet brings old files up to date; it sees nothing that we have not written.
        graph = parse(symbol_of(parse(data.decode())).tojson())
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not a text file") from error
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except mx.base.MXNetError as error:
        raise ModelError(f"{path}: MXNet cannot read it: {reason(error)}") from error
    names = [graph.nodes[number].name for number, _ in graph.heads]
    if output is not None:
        try:
            graph = replace(graph, heads=((graph.number(output.removesuffix("_output")), 0),))
        except KeyError:
            listed = ", ".join(names[:8])
            raise ModelError(f"{path}: --output {output}: no such node; it has {listed}") from None
    elif len(names) != 1:
        raise ModelError(
            f"{path}: has {len(names)} outputs, {', '.join(names[:8])}; choose one by --output NAME"
        )
    return graph


def _shapes(
    symbol: Path, graph: Graph, images: str, sizes: Shape, known: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Shapes of the variables, once every operator is known to fit."""
    try:
        return require_runnable(graph, images, sizes, known)
    except ModelError as error:
        raise ModelError(f"{symbol}: cannot take {sizes} input: {error}") from error


def _params_beside(symbol: Path) -> tuple[Path, tuple[str, ...]]:
    """The weights of the latest epoch, and that there are others."""
    stem = symbol.name.removesuffix(SUFFIX)
    epoch = re.compile(re.escape(stem) + r"-(\d{4,})\.params")
    found = [
        (int(m[1]), path) for path in symbol.parent.iterdir() if (m := epoch.fullmatch(path.name))
    ]
    if not found:
        raise ModelError(f"{symbol}: no {stem}-NNNN.params beside it; give --params FILE")
    latest = max(found)[1]
    if len(found) == 1:
        return latest, ()
    return latest, (f"of {len(found)} epochs the latest was taken: --params {latest}",)


def _random_parameters(symbol: Path, graph: Graph, image_size: ImageSize | None) -> dict[str, F4]:
    """Parameters of the shapes that follow from that of the first variable, the input.

    It has the channels that the first convolution's weight declares, else its own, else three.
    """
    variables = [node for node in graph.nodes if node.op == VARIABLE]
    given = variables[0]
    shapes = {node.name: _declared_shape(node) for node in variables}
    own = shapes[given.name][1:2] if len(shapes[given.name]) == 4 else ()
    channels = _input_channels(symbol, graph, given.name, shapes, own[0] if any(own) else 3)
    image = _preprocessing(symbol, given, channels, image_size).input_shape
    declared = {name: shape for name, shape in shapes.items() if shape and min(shape) > 0}
    return random_weights(_shapes(symbol, inference_form(graph), given.name, image, declared))


def _preprocessing(
    symbol: Path, given: Node, channels: int, image_size: ImageSize | None
) -> Preprocessing:
    """As the input's attributes declare; else what is usual for so many channels.

    Raises
    ------
    ModelError
        An attribute cannot be meant.
    """
    declared = given.attrs
    try:
        mean, std = (
            _numbers(declared, name, channels) or values
            for name, values in zip((MEAN, STD), usual_scale(channels), strict=True)
        )
        if min(std) < 1 / _GREATEST:
            raise ValueError(f"{STD}={declared[STD]!r}, which must be positive")
        sides = sides_of(image_size) if image_size else _declared_size(declared, channels)
        height, width = sides or (USUAL_SIZE, USUAL_SIZE)
    except ValueError as error:
        raise ModelError(f"{symbol}: its input {given.name!r} declares {error}") from None
    return Preprocessing(height, width, mean, std)


def _declared_size(declared: dict[str, str], channels: int) -> tuple[int, int] | None:
    """Height and width; a shape of another layout, or one that is not fixed, says nothing."""
    shape = _numbers(declared, SHAPE, 4) if declared.get(SHAPE, "").count(",") == 3 else None
    if shape is None or shape[1] != channels or min(shape[2:]) < 1:
        return None
    return int(shape[2]), int(shape[3])


def _numbers(declared: dict[str, str], name: str, count: int) -> tuple[float, ...] | None:
    if name not in declared:
        return None
    parts = declared[name].strip("()[] ,").split(",")
    try:
        numbers = tuple(map(float, parts))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(abs(number) <= _GREATEST for number in numbers):
        raise ValueError(f"{name}={declared[name][:100]!r}, which is not {count} numbers")
    return numbers


def _without_attributes(graph: Graph, name: str) -> Graph:
    """Forget what was declared of the input, so that it takes any batch and `--image-size`."""
    nodes = [replace(n, attrs={}) if n.name == name else n for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def _declared_shape(node: Node) -> Shape:
    """0 where a length is open; () if a variable declares none."""
    return tuple(map(int, re.findall(r"\d+", node.attrs.get(SHAPE, ""))))


def _input_channels(
    symbol: Path, graph: Graph, name: str, shapes: Mapping[str, Shape], otherwise: int = 0
) -> int:
    """Channels of the input, from the weight of the first convolution, if its shape is known."""
    for node in graph.nodes:
        if node.op == "Convolution":
            weight = shapes.get(graph.nodes[node.inputs[1][0]].name, ())
            groups = int(node.attrs.get("num_group", "1"))
            channels = (weight[1] * groups if len(weight) == 4 else 0) or otherwise
            if not 0 < channels <= MAX_CHANNELS:
                raise ModelError(
                    f"{symbol}: {node.name!r} takes {channels} channels, not 1 to {MAX_CHANNELS}"
                )
            return channels
    raise ModelError(f"{symbol}: no convolution takes its input {name!r}")
