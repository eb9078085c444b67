"""MXNet checkpoints: ``NAME-symbol.json`` with ``NAME-NNNN.params`` beside it.

Module and Gluon exports, with or without a softmax at the end, any input name.
"""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np

from engine.errors import ModelError
from engine.models.definition import IMAGENET_MEAN, IMAGENET_STD, NetworkDefinition
from engine.models.graph import VARIABLE, Graph, ending_at_logits, inference_form, parse
from engine.models.params_file import read_params
from engine.types import F4, Preprocessing

SUFFIX = "-symbol.json"


def checkpoint_network(symbol: Path, params: str | None, image_size: int) -> NetworkDefinition:
    """Load a checkpoint.

    Parameters
    ----------
    symbol
        The ``-symbol.json`` file.
    params
        The parameter file; by default the newest ``-NNNN.params`` beside the symbol.
    image_size
        Height and width of the input: a checkpoint does not say.

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
    return NetworkDefinition(
        name=symbol.name.removesuffix(SUFFIX),
        graph=inference_form(graph),
        parameters=parameters,
        preprocessing=_usual_preprocessing(channels, image_size),
        input_name=inputs[0],
        assumed=True,
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


def _usual_preprocessing(channels: int, size: int) -> Preprocessing:
    """ImageNet's for colour, the 0-1 scale for one channel."""
    if channels == 1:
        return Preprocessing(size, size, (0.0,), (255.0,))
    return Preprocessing(size, size, IMAGENET_MEAN, IMAGENET_STD)


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
