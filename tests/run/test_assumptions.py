"""What is told of a network and its options before the work, and again when it is done."""

from dataclasses import replace

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.models.definition import IMAGENET_MEAN, IMAGENET_STD, NetworkDefinition
from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.run.assumptions import assumptions
from shardcam.engine.types import LayerInfo, Preprocessing

CONV = LayerInfo("conv", (8, 4, 4), True)
IMAGENET = "--mean 123.675,116.28,103.53 --std 58.395,57.12,57.375"
OF_FILE = f"the model file has no preprocessing: {IMAGENET} were taken"


def network(*first, assumed=True, remarks=()):
    """A convolution, behind some operators on the input; each may read a weight of that name."""
    nodes = [Node(VARIABLE, "data")]
    for op, weight in (*first, ("Convolution", "weight")):
        source = len(nodes) - 1
        inputs = [(source, 0)]
        if weight:
            nodes.append(Node(VARIABLE, weight))
            inputs.append((source + 1, 0))
        nodes.append(Node(op, f"{op} {weight}".strip(), {}, tuple(inputs)))
    graph = Graph(tuple(nodes), ((len(nodes) - 1, 0),))
    seen = Preprocessing(8, 8, IMAGENET_MEAN, IMAGENET_STD)
    weights = {n.name: np.ones(1, np.float32) for n in nodes[1:] if n.op == VARIABLE}
    return NetworkDefinition("net", graph, weights, seen, "data", assumed, remarks)


def told(definition, layers=(CONV,), **options):
    config = RunConfig(source="s", model="m", out="o", **options)
    seen = definition.preprocessing
    seen = replace(seen, mean=config.mean or seen.mean, std=config.std or seen.std)
    definition = replace(definition, preprocessing=seen)
    return [(note.kind, note.text) for note in assumptions(config, definition, layers)]


def test_what_a_file_does_not_say():
    assert told(network()) == [("assumed", OF_FILE)]
    assert told(network(assumed=False, remarks=("the size",))) == [("assumed", "the size")]
    assert told(network(), mean=(120,) * 3, std=(60,) * 3) == []


@pytest.mark.parametrize(
    ("mean", "std", "meant"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), IMAGENET),
        ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), "--mean 127.5,127.5,127.5 --std 127.5,127.5,127.5"),
        ((0, 0, 0), (0.5, 0.5, 0.5), "--std 127.5,127.5,127.5"),
        ((0.1307,), (78.6,), "--mean 33.3285"),
        ((0, 0, 0), (1, 1, 1), None),
        ((0, 0, 0), (255, 255, 255), None),
        ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5), None),
        ((0, 0, 0), (1 / 257,) * 3, None),  # of 16 bits
        ((103.9, 116.8, 0.9), (1, 1, 1), None),
    ],
)
def test_the_scale_from_0_to_1_is_told(mean, std, meant):
    found = told(network(), mean=mean, std=std)
    assert [kind for kind, _ in found] == ["warning"] * bool(meant)
    assert all(text.endswith(f"pixels are 0 to 255 here: {meant}") for _, text in found)


def test_one_without_the_other_is_told():
    text = "--mean without --std: --std 58.395,57.12,57.375 was taken, ImageNet's"
    assert told(network(), mean=(120,) * 3) == [("warning", text)]
    ((kind, text),) = told(network(assumed=False), std=(60,) * 3)
    assert kind == "warning"
    assert text.endswith("--mean 123.675,116.28,103.53 was taken, the network's own")


@pytest.mark.parametrize(
    ("first", "node"),
    [
        ([("_div_scalar", "")], "_div_scalar"),
        ([("transpose", ""), ("_mul_scalar", ""), ("_plus_scalar", "")], "_mul_scalar"),
        ([("broadcast_sub", "mean")], "broadcast_sub mean"),
        ([("BatchNorm", "gamma")], "BatchNorm gamma"),
        ([("Pad", "")], None),
        ([("Activation", ""), ("_mul_scalar", "")], None),
    ],
)
def test_a_network_that_scales_its_input_is_told(first, node):
    warned = [text for kind, text in told(network(*first)) if kind == "warning"]
    assert len(warned) == bool(node)
    assert all(f"({node})" in text and "--mean 0,0,0 --std 1,1,1" in text for text in warned)
    assert told(network(*first, assumed=False)) == []
    assert told(network(*first), mean=(0,) * 3, std=(1,) * 3) == []
    given = told(network(*first), mean=(120,) * 3, std=(60,) * 3)
    assert len(given) == bool(node)
    assert all("after --mean 120,120,120 --std 60,60,60; if" in text for _, text in given)


def test_layers_that_show_nothing_are_told():
    quiet = {"mean": (0,) * 3, "std": (1,) * 3}
    ((kind, text),) = told(network(), (LayerInfo("gap", (8, 1, 1), True), CONV), **quiet)
    assert (kind, text[:30]) == ("warning", "--layer gap: its map is 1x1, a")
    data = LayerInfo("data", (3, 8, 8), False)
    ((kind, text),) = told(network(), (data,), layer=("data",), **quiet)
    assert (kind, text[:38]) == ("warning", "--layer data is the network's input, w")
    assert told(network(), (data,), method="fullgrad", **quiet) == []


@pytest.mark.parametrize(
    ("size", "options", "share"),
    [
        (32, {}, "41%"),
        (32, {"precision": "int8"}, "41%"),
        (32, {"layer": ("block11_expand_relu6",)}, None),
        (64, {}, None),
        (224, {}, None),
    ],
)
def test_what_auto_costs_where_the_last_layers_have_no_map(size, options, share):
    definition = load_network("efficientnet_lite0", None, size)
    layer = resolve_layer(definition, *options.get("layer", ("auto",)))
    found = told(definition, [layer], **options)
    assert [kind for kind, _ in found] == ["assumed"] * (share is not None)
    if share:
        own = " (and not in int8)" if "precision" in options else ""
        assert f"the {share} of the network above it run in float32{own}, forw" in found[0][1]
        assert found[0][1].startswith("--layer auto took block11_expand_relu6, the last layer ")
