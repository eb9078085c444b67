"""MXNet checkpoints: ``NAME-symbol.json`` with ``NAME-NNNN.params`` beside it.

Module and Gluon exports, with or without a softmax at the end, any input name.  A checkpoint
may say what its input is: its variable's attributes ``__shape__`` (0,C,H,W), which MXNet knows,
and ``__mean__`` and ``__std__`` on the 0-255 scale, which are ours.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np

from engine.errors import ModelError
from engine.models.definition import IMAGENET_MEAN, IMAGENET_STD, NetworkDefinition
from engine.models.graph import VARIABLE, Graph, ending_at_logits, inference_form, parse
from engine.models.params_file import read_params
from engine.types import F4, Preprocessing

SUFFIX = "-symbol.json"
SHAPE, MEAN, STD = "__shape__", "__mean__", "__std__"
USUAL_SIZE = 224  # of inputs that say nothing


def checkpoint_network(
    symbol: Path, params: str | None, image_size: int | None
) -> NetworkDefinition:
    """Load a checkpoint.

    Parameters
    ----------
    symbol
        The ``-symbol.json`` file.
    params
        The parameter file; by default the newest ``-NNNN.params`` beside the symbol.
    image_size
        Height and width of the input; by default what the checkpoint says, else 224.

    Raises
    ------
    ModelError
        A file is missing, damaged, or does not fit the other one.
    """
    graph = _read_graph(symbol)
    path = Path(params) if params else _params_beside(symbol)
    stored = {
        name.removeprefix("arg:").removeprefix("aux:"): np.ascontiguousarray(value, np.float32)
        for name, value in read_params(path).items()
    }
    variables = [node.name for node in graph.nodes if node.op == VARIABLE]
    inputs = [name for name in variables if name not in stored]
    if len(inputs) != 1:
        missing = ", ".join(inputs[:3]) or "none"
        raise ModelError(
            f"{path}: should lack one variable of {symbol.name}, its input; lacks {missing}"
        )
    parameters = {name: stored[name] for name in variables if name in stored}
    channels = _input_channels(graph, inputs[0], parameters)
    declared = graph.nodes[graph.number(inputs[0])].attrs
    try:
        preprocessing = _preprocessing(declared, channels, image_size)
    except ValueError as error:
        raise ModelError(f"{symbol}: its input {inputs[0]!r} declares {error}") from None
    return NetworkDefinition(
        name=symbol.name.removesuffix(SUFFIX),
        graph=inference_form(_without_attributes(graph, inputs[0])),
        parameters=parameters,
        preprocessing=preprocessing,
        input_name=inputs[0],
        assumed=not {MEAN, STD} <= declared.keys(),
    )


def _read_graph(path: Path) -> Graph:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path}: {getattr(error, 'strerror', None) or 'not a text file'}"
        ) from error
    try:
        parse(text)  # nothing that is not a graph reaches MXNet's own reader
        graph = parse(mx.sym.load_json(text).tojson())  # brings old files up to date
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except mx.base.MXNetError as error:
        reason = str(error).strip().splitlines()[-1]
        raise ModelError(f"{path}: MXNet cannot read it: {reason}") from error
    if len(graph.heads) != 1:
        raise ModelError(f"{path}: has {len(graph.heads)} outputs; one vector of logits is needed")
    return ending_at_logits(graph)


def _params_beside(symbol: Path) -> Path:
    stem = symbol.name.removesuffix(SUFFIX)
    found = sorted(symbol.parent.glob(f"{stem}-[0-9][0-9][0-9][0-9].params"))
    if not found:
        raise ModelError(f"{symbol}: no {stem}-NNNN.params beside it; give --params FILE")
    return found[-1]


def _preprocessing(
    declared: dict[str, str], channels: int, image_size: int | None
) -> Preprocessing:
    """What the input's attributes say; else ImageNet's for colour, the 0-1 scale for one channel.

    Raises
    ------
    ValueError
        An attribute cannot be meant.
    """
    usual = (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,), (255.0,))
    mean, std = (
        _numbers(declared, name, channels) or values
        for name, values in zip((MEAN, STD), usual, strict=True)
    )
    if min(std) <= 0:
        raise ValueError(f"{STD}={declared[STD]!r}, which must be positive")
    height, width = (image_size, image_size) if image_size else _size(declared, channels)
    return Preprocessing(height, width, mean, std)


def _size(declared: dict[str, str], channels: int) -> tuple[int, int]:
    """Height and width; a shape of another layout, or one that is not fixed, says nothing."""
    shape = _numbers(declared, SHAPE, 4) if declared.get(SHAPE, "").count(",") == 3 else None
    if shape is None or shape[1] != channels or min(shape[2:]) < 1:
        return USUAL_SIZE, USUAL_SIZE
    return int(shape[2]), int(shape[3])


def _numbers(declared: dict[str, str], name: str, count: int) -> tuple[float, ...] | None:
    if name not in declared:
        return None
    parts = declared[name].strip("()[] ,").split(",")
    try:
        numbers = tuple(map(float, parts))
    except ValueError:
        numbers = ()
    if len(numbers) != count or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name}={declared[name]!r}, which is not {count} numbers")
    return numbers


def _without_attributes(graph: Graph, name: str) -> Graph:
    """Forget what was declared of the input, so that it takes any batch and `--image-size`."""
    nodes = [replace(n, attrs={}) if n.name == name else n for n in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def _input_channels(graph: Graph, name: str, parameters: dict[str, F4]) -> int:
    """Channels of the input, from the weight of the first convolution."""
    for node in graph.nodes:
        if node.op == "Convolution":
            weight = parameters.get(graph.nodes[node.inputs[1][0]].name)
            groups = int(node.attrs.get("num_group", "1"))
            channels = 0 if weight is None or weight.ndim != 4 else weight.shape[1] * groups
            if channels not in (1, 3):
                raise ModelError(f"{node.name}: takes {channels} channels; 1 or 3 can be fed")
            return channels
    raise ModelError(f"no convolution takes its input {name!r}")
