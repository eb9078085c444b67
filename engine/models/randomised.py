"""Networks of which some weights are lost: what sanity checks of maps hold them against.

From a layer to the logits every weight is drawn anew, as cascading randomisation does (Adebayo et
al., "Sanity checks for saliency maps", NeurIPS 2018); what lies below stays as it was trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Node, ancestors
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.types import F4, counted

HEAD = "head"  # the last layer with weights
_DENSE = ("FullyConnected", "batch_dot", "dot")
_WEIGHTED = ("Convolution", "Deconvolution", *_DENSE)
_NORMS = ("BatchNorm", "GroupNorm", "InstanceNorm", "LayerNorm")
_AFFINE = {"broadcast_mul": 1.0, "elemwise_mul": 1.0, "broadcast_add": 0.0, "elemwise_add": 0.0}
_SLOPE = 0.25  # of PReLU, PyTorch's


def randomised(definition: NetworkDefinition, layer: str, seed: int) -> NetworkDefinition:
    """The network with new weights from `layer`, its own included, to the logits.

    "From" is in the order of the file: layers of all branches that come later. Weights of
    convolutions are normal with variance 2 / inputs (He et al. 2015), of dense layers and
    products with variance 2 / (inputs + outputs) (Glorot and Bengio 2010); biases are 0.
    Normalisations are as new: scale 1, shift 0, mean 0, variance 1. Other scales and shifts of
    channels behind a layer with weights are 1 and 0, and slopes of PReLU 0.25. What is no weight
    stays: embeddings of positions and tokens, matrices that interpolate, the padding of kernels
    with zeros. Each tensor is drawn from the seed and its name, whatever else is drawn.

    Parameters
    ----------
    layer
        Name of a layer, or ``head``: the last one with weights.
    seed
        Any whole number from 0.

    Raises
    ------
    ConfigError
        There is no such layer, or no weight from there on.
    """
    weighted = weighted_layers(definition)
    if not weighted:
        raise ConfigError(f"--randomise {layer}: {definition.name} has no layer with weights")
    name = weighted[-1] if layer == HEAD else _named(definition, layer)
    graph = definition.graph
    needed, behind = ancestors(graph, graph.heads), _behind_weights(definition)
    parameters = dict(definition.parameters)
    start = 0 if name == definition.input_name else graph.number(name)
    for number, node in enumerate(graph.nodes):
        if number >= start and number in needed:
            for parameter, value in _new(definition, node, number in behind, seed):
                parameters[parameter] = value
    layers = [one for one in weighted if graph.number(one) >= start]
    if not layers:
        raise ConfigError(
            f"--randomise {layer}: no layer from there to the logits has weights; the last one "
            f"that has is {weighted[-1]}"
        )
    told = (
        f"weights of {counted(len(layers), 'layer')}, from {name} to the logits, are random, from "
        f"--seed {seed}"
    )
    remarks = (*definition.remarks, told)
    return replace(definition, parameters=parameters, remarks=remarks)


def weighted_layers(definition: NetworkDefinition) -> list[str]:
    """Convolutions, dense layers and products with a matrix, in the order of the file."""
    graph = definition.graph
    needed = ancestors(graph, graph.heads)
    return [
        node.name
        for number, node in enumerate(graph.nodes)
        if number in needed and any(True for _ in _weights(definition, node))
    ]


def _named(definition: NetworkDefinition, layer: str) -> str:
    return resolve_layer(definition, layer, "--randomise").name


def _inputs(definition: NetworkDefinition, node: Node) -> Iterator[str | None]:
    """The parameter that each input of an operator is; None: it is none."""
    for number, _ in node.inputs:
        source = definition.graph.nodes[number]
        if source.op == "broadcast_like":  # a matrix of the file, one for each image
            source = definition.graph.nodes[source.inputs[0][0]]
        known = source.op == VARIABLE and source.name in definition.parameters
        yield source.name if known else None


def _weights(definition: NetworkDefinition, node: Node) -> Iterator[str]:
    """The parameters of a layer that say how it mixes its inputs."""
    if node.op not in _WEIGHTED:
        return
    names = [*_inputs(definition, node)]
    for name in names[1:2] if node.op not in ("batch_dot", "dot") else names:
        value = definition.parameters[name] if name else None
        if name and value is not None and value.ndim > 1 and not _interpolates(node, value):
            yield name


def _interpolates(node: Node, weight: F4) -> bool:
    """Whether a dense layer only resizes: each of its outputs is a mean of its inputs."""
    alone = node.op == "FullyConnected" and len(node.inputs) == 2
    return alone and bool(np.allclose(weight.sum(axis=1), 1, atol=1e-4))


def _behind_weights(definition: NetworkDefinition) -> set[int]:
    """Numbers of the nodes that depend on a layer with weights."""
    found: set[int] = set()
    for number, node in enumerate(definition.graph.nodes):
        below = any(source in found for source, _ in node.inputs)
        if below or any(True for _ in _weights(definition, node)):
            found.add(number)
    return found


def _new(
    definition: NetworkDefinition, node: Node, behind: bool, seed: int
) -> Iterator[tuple[str, F4]]:
    """The new values of a node's parameters, with their names."""
    old = definition.parameters
    names = [*_inputs(definition, node)]
    weights = [*_weights(definition, node)]
    for name in weights:
        yield name, _drawn(node, name, old[name], seed)
    if node.op in _WEIGHTED and weights and len(names) == 3 and names[2]:
        yield names[2], np.zeros_like(old[names[2]])
    if node.op in _NORMS:
        for known, fill in zip(names[1:], (1.0, 0.0, 0.0, 1.0), strict=False):
            if known:
                yield known, np.full_like(old[known], fill)
    if node.op == "LeakyReLU" and len(names) == 2 and names[1]:
        yield names[1], np.full_like(old[names[1]], _SLOPE)
    if node.op in _AFFINE and behind:
        for known in names:
            if known and max(old[known].shape, default=1) == old[known].size > 1:
                yield known, np.full_like(old[known], _AFFINE[node.op])


def _drawn(node: Node, name: str, old: F4, seed: int) -> F4:
    words = np.frombuffer(hashlib.sha256(name.encode()).digest(), np.uint32)
    normal = np.random.default_rng([seed, *words.tolist()]).standard_normal(old.shape, np.float32)
    used = np.ones((1,) * old.ndim, bool)
    for axis in range(2, old.ndim) if node.op not in _DENSE else ():
        others = tuple(i for i in range(old.ndim) if i != axis)
        used = used & (old != 0).any(axis=others, keepdims=True)
    normal *= used
    if node.op in _DENSE:
        variance = 2 / (old.shape[-1] + old.shape[-2])
    else:
        inputs = old.shape[1]
        if node.op == "Deconvolution":
            inputs = old.shape[0] // int(node.attrs.get("num_group", "1"))
        variance = 2 / max(inputs * int(used.sum()), 1)
    drawn: F4 = normal * np.float32(math.sqrt(variance))
    if len(old) == 2 and (old[0] == -old[1]).all():  # one output, as the logits of two classes
        drawn[0] = -drawn[1]
    return drawn
