"""What is told of a network and its options before the work, and again when it is done."""

import numpy as np
import pytest

from shardcam.engine.config import RunConfig
from shardcam.engine.models.definition import (
    IMAGENET_MEAN,
    NetworkDefinition,
    usual_scale,
)
from shardcam.engine.models.graph import VARIABLE, Graph, Node
from shardcam.engine.models.input_scaling import with_inner_scaling
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.run.assumptions import assumptions
from shardcam.engine.run.network_choice import load_definition
from shardcam.engine.types import LayerInfo, Preprocessing

CONV = LayerInfo("conv", (8, 4, 4), True)
IMAGENET = "--mean 123.675,116.28,103.53 --std 58.395,57.12,57.375"
OF_FILE = f"the model file has no preprocessing: --channels rgb {IMAGENET} were taken"
BYTES, SHARES = "--mean 0,0,0 --std 1,1,1", "--mean 0,0,0 --std 255,255,255"


def network(*first, assumed=True, remarks=(), channels=3):
    """A convolution, behind operators on the input, each with a scalar or weights."""
    nodes, weights = [Node(VARIABLE, "data")], {}
    for op, constant in (*first, ("Convolution", [1.0])):
        source = len(nodes) - 1
        inputs = [(source, 0)]
        for value in constant if isinstance(constant, list) else []:
            weights[f"w{len(nodes)}"] = np.full(3, value, np.float32)
            nodes.append(Node(VARIABLE, f"w{len(nodes)}"))
            inputs.append((len(nodes) - 1, 0))
        attrs = {} if isinstance(constant, list | None) else {"scalar": str(constant)}
        swapped = inputs[::-1] if op.startswith("r_") else inputs
        op = op.removeprefix("r_")
        nodes.append(Node(op, f"{op}{len(nodes)}", attrs, tuple(swapped)))
    graph = Graph(tuple(nodes), ((len(nodes) - 1, 0),))
    seen = Preprocessing(8, 8, *usual_scale(channels))
    definition = NetworkDefinition("net", graph, weights, seen, "data", assumed, remarks=remarks)
    return with_inner_scaling(definition) if assumed else definition


def chosen(definition, config):
    """The network with the preprocessing that is asked for."""
    with pytest.MonkeyPatch.context() as patch:
        module = "shardcam.engine.models.load_network.load_network"
        patch.setattr(module, lambda *_, **__: definition)
        return load_definition(config)


def told(definition, layers=(CONV,), **options):
    config = RunConfig(source="s", model="m", out="o", **options)
    definition = chosen(definition, config)
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
    found = told(network(channels=len(mean)), mean=mean, std=std)
    assert [kind for kind, _ in found] == ["warning"] * bool(meant)
    assert all(text.endswith(f"pixels are 0 to 255 here: {meant}") for _, text in found)


@pytest.mark.parametrize(
    "mean", [(103.939, 116.779, 123.68), (104, 117, 123), (102.98, 115.9, 122.8)]
)
def test_the_mean_of_a_network_from_caffe_is_told(mean):
    ((kind, text),) = told(network(), mean=mean, std=(1,) * 3, channels="bgr")
    assert kind == "warning"
    assert text.endswith(f"--channels bgr --mean {','.join(f'{m:g}' for m in mean[::-1])}")
    assert told(network(), mean=mean[::-1], std=(1,) * 3, channels="bgr") == []


def test_the_order_of_the_channels_is_told():
    assert told(network(), channels="bgr") == [("assumed", OF_FILE.replace("rgb", "bgr"))]
    ((_, text),) = told(network(), channels="bgr", mean=(120, 110, 100))
    assert "--std 58.395,57.12,57.375 was taken" in text
    config = RunConfig(source="s", model="m", out="o", channels="bgr", std=(1, 2, 3))
    seen = chosen(network(), config).preprocessing
    assert (seen.mean, seen.std) == (IMAGENET_MEAN[::-1], (3, 2, 1))


def test_one_without_the_other_is_told():
    text = "--mean without --std: --std 58.395,57.12,57.375 was taken, ImageNet's"
    assert told(network(), mean=(120,) * 3) == [("warning", text)]
    ((kind, text),) = told(network(assumed=False), std=(60,) * 3)
    assert kind == "warning"
    assert text.endswith("--mean 123.675,116.28,103.53 was taken, the network's own")


NORM = [1.0, 0.0]  # gamma, beta


@pytest.mark.parametrize(
    ("first", "node", "white"),
    [
        ([("_div_scalar", 255)], "_div_scalar1", 255),
        (
            [("_mul_scalar", 1 / 255), ("broadcast_sub", [0.45]), ("broadcast_div", [0.23])],
            "_mul",
            255,
        ),
        ([("_div_scalar", 255), ("_mul_scalar", 128)], "_div_scalar1", 255),
        ([("Cast", None), ("transpose", None), ("_mul_scalar", 1 / 127.5)], "_mul_scalar3", 255),
        ([("broadcast_sub", [110.0])], "broadcast_sub2", 255),
        ([("_rminus_scalar", 127.5), ("_div_scalar", -128)], "_rminus_scalar1", 255),
        ([("r_broadcast_sub", [127.5])], "broadcast_sub2", 255),
        ([("_plus_scalar", -0.45), ("_div_scalar", 0.225)], "_plus_scalar1", 1),
        ([("_mul_scalar", 2), ("_minus_scalar", 1)], "_mul_scalar1", 1),
        ([("_mul_scalar", 255), ("broadcast_sub", [110.0])], "_mul_scalar1", 1),
        ([("BatchNorm", [*NORM, 118.0, 3900.0])], "BatchNorm5", 255),
        ([("BatchNorm", [*NORM, 0.44, 0.07])], "BatchNorm5", 1),
        ([("_div_scalar", 2), ("BatchNorm", [*NORM, 60.0, 900.0])], "_div_scalar1", 255),
        ([("_plus_scalar", 1), ("_div_scalar", 2)], "_plus_scalar1", None),
        ([("_rdiv_scalar", 255)], "_rdiv_scalar1", None),
        ([("_div_scalar", 0)], "_div_scalar1", None),
        ([("BatchNorm", [1.0])], "BatchNorm2", None),
    ],
)
def test_a_network_that_scales_its_input(first, node, white):
    """It is given what it expects; where that does not show, a warning says so."""
    definition = network(*first)
    notes = told(definition)
    expected = {255: BYTES, 1: SHARES, None: IMAGENET}[white]
    kinds = ["assumed"] if white else ["warning", "assumed"]
    assert [kind for kind, _ in notes] == kinds
    assert node in notes[0][1]
    assert f"{expected} were taken" in notes[-1][1]
    if white:
        assert f"from 0 to {white}: --channels rgb" in notes[0][1]
    assert told(network(*first, assumed=False)) == []
    given = told(definition, mean=(120,) * 3, std=(60,) * 3)
    assert [kind for kind, _ in given] == ["warning"]
    assert "after --mean 120,120,120 --std 60,60,60; if" in given[0][1]
    assert given[0][1].endswith(SHARES if white == 1 else BYTES)
    assert told(definition, mean=(0,) * 3, std=(1,) * 3) == []


@pytest.mark.parametrize(
    "first",
    [
        [("Pad", None)],
        [("Activation", None), ("_mul_scalar", 1 / 255)],
        [("BatchNorm", [*NORM, 0.02, 1.1])],  # of what is standardised, as in Gluon's ResNet v2
        [("_mul_scalar", 0.458), ("_plus_scalar", -0.03)],  # of ImageNet's, as in Inception v3
    ],
)
def test_a_network_that_does_not_scale_its_input(first):
    assert told(network(*first)) == [("assumed", OF_FILE)]


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
