"""Layers that are no (N,C,h,w) in their network, against PyTorch and pytorch-grad-cam.

`fixtures/tokens` was written by export_tokens.py, by both of PyTorch's exporters.
"""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.heatmaps import heatmaps
from shardcam.engine.methods.smoothing import plain_maps
from shardcam.engine.models.attention_layers import attention_layers
from shardcam.engine.models.closed_form import may_be_pooled_dense
from shardcam.engine.models.layer_names import (
    auto_layer,
    idle_layers,
    map_layouts,
    resolve_layer,
)
from shardcam.engine.models.layouts import layout_of_tokens
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.types import LayerMaps
from shardcam.kernels import normalize, scale_maps, upsample
from tests.jobs.command import shardcam
from tests.models.onnx_gradcam import relative_error
from tests.models.onnx_models import images_for, ints, load, make, node, weight

FIXTURES = Path(__file__).parent.parent / "fixtures" / "tokens"
NETWORKS = {  # how the layer that is explained lies
    "vit": "1+24 tokens",
    "registers": "2+24 tokens",
    "swin": "8x12x16",
    "last": "4x6x8",
    "mixer": "24 tokens",
    "hybrid": "24 tokens",
}
METHODS_OF_BOTH = (
    *("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcamelementwise", "layercam"),
    *("eigencam", "eigengradcam", "kpcacam", "scorecam", "ablationcam", "fem", "finercam"),
)
FORMULAS = ("smoothgradcam++", "shapleycam")  # which pytorch-grad-cam lacks for tokens


def definition_of(name, exporter="script"):
    return load_network(str(FIXTURES / f"{name}.{exporter}.onnx"))


def expected_of(name):
    with np.load(FIXTURES / f"{name}.npz") as stored:
        return dict(stored)


def all_targets(expected):
    return np.tile(expected["targets"], (len(expected["images"]), 1))


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_map_of_a_layer(name, exporter):
    definition, expected = definition_of(name, exporter), expected_of(name)
    layer = "auto"
    if name == "hybrid":  # its last layer is a convolution; this one's gradient comes through it
        (layer,) = [n.name for n in definition.graph.nodes if n.op == "LayerNorm"]
    network = MxnetNetwork(definition, (layer,), batch_size=2)
    (info,) = network.layers
    assert info.lies_as == NETWORKS[name]
    assert info.shape == expected["activation"].shape[1:]
    forward = network.forward(expected["images"])
    assert relative_error(forward.logits, expected["logits"]) < 1e-4
    layer = forward.layer(info.name)
    assert relative_error(layer.activation, expected["activation"]) < 1e-4
    assert relative_error(METHODS["gradcam"](layer, all_targets(expected)), expected["maps"]) < 1e-3


@pytest.mark.parametrize("name", ["vit", "swin"])
@pytest.mark.parametrize("method", METHODS_OF_BOTH)
def test_method(name, method, request):
    """Heatmaps, of the better of the two signs that an eigenvector may have."""
    expected, forward = request.getfixturevalue(name)
    targets = expected["targets"][:, None]
    raw = METHODS[method](explained(forward), targets)[:, 0]
    size = expected["images"].shape[2:]
    maps = [normalize(upsample(normalize(np.ascontiguousarray(m)), size)) for m in (raw, -raw)]
    found = maps if method in ("eigencam", "eigengradcam", "kpcacam") else maps[:1]
    worst = np.min([abs(m - expected[f"cam__{method}"]).max(axis=(1, 2)) for m in found], axis=0)
    assert worst.max() < 1e-3


def forward_of(name):
    expected = expected_of(name)
    network = MxnetNetwork(definition_of(name), ("auto",), batch_size=2)
    return expected, network.forward(expected["images"])


def explained(forward):
    return forward.layer(forward.network.layers[0].name)


@pytest.fixture(scope="module")
def vit():
    return forward_of("vit")


@pytest.fixture(scope="module")
def swin():
    return forward_of("swin")


@pytest.mark.parametrize("name", ["vit", "swin"])
@pytest.mark.parametrize("method", FORMULAS)
def test_formula(name, method, request):
    expected, forward = request.getfixturevalue(name)
    found = METHODS[method](explained(forward), expected["targets"][:, None])[:, 0]
    assert relative_error(found, expected[f"raw__{method}"]) < 1e-3


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_fullgrad(name):
    """Biases of convolutions alone, here as there."""
    definition, expected = definition_of(name), expected_of(name)
    network = MxnetNetwork(definition, (definition.input_name,), 2)
    layer = network.forward(expected["images"]).layer(definition.input_name)
    raw = METHODS["fullgrad"](layer, expected["targets"][:, None])[:, 0]
    raw -= raw.min(axis=(1, 2), keepdims=True)
    unit = raw / raw.max(axis=(1, 2), keepdims=True)
    assert abs(unit - expected["cam__fullgrad"]).max() < 1e-3


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_refinecam(name):
    """Of two blocks; heatmaps have 8 bits."""
    definition, expected = definition_of(name), expected_of(name)
    auto = auto_layer(definition)
    earlier = auto.replace("blocks.1", "blocks.0")
    network = MxnetNetwork(definition, (earlier, auto), 2)
    forward = network.forward(expected["images"])
    raw = plain_maps(forward, network, METHODS["refinecam"], expected["targets"][:, None])
    maps = {layer: LayerMaps(*scale_maps(values)[:2]) for layer, values in raw.items()}
    fused = heatmaps(maps, expected["images"].shape[2:], "product")[:, 0] / 255
    assert abs(fused - expected["cam__refinecam"]).max() < 1.5 / 255


def test_cam():
    """The last normalisation of a Swin is pooled and goes through a dense layer; a ViT's is not."""
    definition, expected = definition_of("swin"), expected_of("swin")
    (layer,) = [n.name for n in definition.graph.nodes if n.op == "LayerNorm"][-1:]
    assert resolve_layer(definition, layer).closed_form
    forward = MxnetNetwork(definition, (layer,), 2).forward(expected["images"])
    found = METHODS["cam"](forward.layer(layer), expected["targets"][:, None])[:, 0]
    assert relative_error(found, expected["raw__cam"]) < 1e-4
    assert not resolve_layer(definition_of("vit"), "auto").closed_form


def test_several_layers_and_saved_activations():
    """Cut at several layers at once each gives what it gives alone."""
    definition, expected = definition_of("vit"), expected_of("vit")
    auto = auto_layer(definition)
    others = [name for name, layout in map_layouts(definition).items() if layout.axis][::9]
    together = MxnetNetwork(
        definition, (auto, *others), 2, extra_layers=("/patch_embed/Transpose",)
    )
    forward = together.forward(expected["images"])
    assert forward.activation("/patch_embed/Transpose").shape == (2, 16, 4, 6)
    for name in others:
        alone = MxnetNetwork(definition, (name,), 2).forward(expected["images"])
        maps = [
            METHODS["gradcam"](run.layer(name), all_targets(expected)) for run in (forward, alone)
        ]
        np.testing.assert_allclose(*maps, rtol=1e-4, atol=1e-6)


def attention_of(path, images):
    """(N,heads,T,T) of each block, by onnxruntime."""
    model = onnx.load(path)
    names = [n.output[0] for n in model.graph.node if n.op_type == "Softmax"]
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return session.run(names, {session.get_inputs()[0].name: images})


def attended(name, exporter, method):
    """Maps by a network that was told to read its attention, and what onnxruntime says of it."""
    definition, expected = definition_of(name, exporter), expected_of(name)
    info = resolve_layer(definition, "auto")
    read = attention_layers(definition, info, every=method == "rollout")
    network = MxnetNetwork(definition, (info.name,), 2, attention=read)
    forward = network.forward(expected["images"])
    assert relative_error(forward.logits, expected["logits"]) < 1e-4
    maps = METHODS[method](forward.layer(info.name), all_targets(expected))
    np.testing.assert_array_equal(maps[:, 0], maps[:, 1])
    path = FIXTURES / f"{name}.{exporter}.onnx"
    return maps[:, 0], attention_of(path, expected["images"])


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", ["vit", "registers", "hybrid"])
def test_attention(name, exporter):
    """The last block's, of the first token, or of all where no others lie before the picture's."""
    maps, blocks = attended(name, exporter, "attention")
    mean = blocks[-1].reshape(2, -1, *blocks[-1].shape[-2:]).mean(1)
    row = mean.mean(1) if name == "hybrid" else mean[:, 0]
    np.testing.assert_allclose(maps, row[:, -24:].reshape(2, 4, 6), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_rollout(exporter):
    """As Abnar and Zuidema's own code: heads averaged, identity added, rows made one again."""
    maps, blocks = attended("vit", exporter, "rollout")
    joint = np.eye(25)
    for block in blocks:
        mixed = block.mean(1) + np.eye(25)
        joint = mixed / mixed.sum(-1, keepdims=True) @ joint
    np.testing.assert_allclose(maps, joint[:, 0, 1:].reshape(2, 4, 6), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["swin", "mixer", "last"])
def test_attention_that_is_not_there(name):
    definition = definition_of(name)
    with pytest.raises(ConfigError, match="no attention between all of its tokens"):
        attention_layers(definition, resolve_layer(definition, "auto"), every=False)


@pytest.mark.parametrize("every", [False, True])
def test_windows_with_as_many_positions_as_the_layer_are_not_the_picture(every):
    """As in Swin, whose last layer is as large as one of its windows."""
    definition = definition_of("swin")
    layer = replace(resolve_layer(definition, "auto"), shape=(16, 4, 4))
    with pytest.raises(ConfigError, match="no attention between all of its tokens"):
        attention_layers(definition, layer, every)


def test_a_gate_is_no_block(tmp_path):
    """As in gMLP: half of the channels is normalised once more, and mixed."""
    nodes = [
        node("Conv", "x k", "c", strides=[4, 4]), node("Reshape", "c flat", "r"),
        node("Transpose", "r", "t", perm=[0, 2, 1]), node("LayerNormalization", "t one zero", "n"),
        node("MatMul", "n up", "m"), node("Gelu", "m", "g"),
        node("Split", "g", "u v", axis=2, num_outputs=2),
        node("LayerNormalization", "v one zero", "gate"),
        node("Transpose", "gate", "across", perm=[0, 2, 1]), node("MatMul", "across mix", "a"),
        node("Transpose", "a", "back", perm=[0, 2, 1]), node("Mul", "u back", "gated"),
        node("MatMul", "gated down", "d"), node("Add", "t d", "s"),
        node("ReduceMean", "s one_axis", "mean", keepdims=0), node("MatMul", "mean dense", "y"),
    ]  # fmt: skip
    weights = {
        "k": weight(8, 3, 4, 4), "flat": ints(0, 8, -1), "one": weight(8), "zero": weight(8),
        "up": weight(8, 16), "mix": weight(24, 24), "down": weight(8, 8), "one_axis": ints(1),
        "dense": weight(8, 5),
    }  # fmt: skip
    model = make(nodes, weights, shape=("N", 3, 16, 24), opset=20, flatten=False)
    assert auto_layer(load(model, tmp_path)) == "n"


def test_windows_that_gather_cuts_out(tmp_path):
    """As PyTorch exports unfold: every second row and column, then those after them."""
    nodes = [
        node("Conv", "x k", "c"), node("Relu", "c", "r"),
        node("Gather", "r rows", "h", axis=2), node("Gather", "h columns", "w", axis=4),
        node("Transpose", "w", "t", perm=[0, 1, 2, 4, 3, 5]), node("Reshape", "t flat", "p"),
        node("Sigmoid", "p", "f"), node("ReduceMean", "f", "m", axes=[2, 3], keepdims=0),
        node("MatMul", "m dense", "y"),
    ]  # fmt: skip
    weights = {
        "k": weight(8, 3, 1, 1), "rows": ints([0, 2], [1, 3]),
        "columns": ints([0, 2, 4], [1, 3, 5]), "flat": ints(0, 8, 4, 6), "dense": weight(8, 5),
    }  # fmt: skip
    model = make(nodes, weights, shape=("N", 3, 4, 6), flatten=False)
    network = MxnetNetwork(load(model, tmp_path), ("r", "f"), 2)
    forward = network.forward(images_for(model))
    below, windows = (forward.layer(name).activation for name in ("r", "f"))
    np.testing.assert_allclose(windows, 1 / (1 + np.exp(-below)), rtol=1e-5)


def test_layers_behind_the_last_attention():
    """Of a network that reads its class token only, their gradients are zero."""
    definition, expected = definition_of("vit"), expected_of("vit")
    idle = idle_layers(definition)
    assert auto_layer(definition) not in idle
    tokens = [name for name, layout in map_layouts(definition).items() if layout.axis]
    network = MxnetNetwork(definition, tuple(tokens), 2)
    forward = network.forward(expected["images"])
    maps = {n: METHODS["gradcam"](forward.layer(n), all_targets(expected)) for n in tokens}
    zero = {name for name, values in maps.items() if not values.any()}
    assert idle and idle <= zero
    assert all("/blocks.1/attn/" in name for name in zero - idle)  # queries of other tokens
    assert not idle_layers(definition_of("registers"))  # it takes the mean of all tokens


def test_closed_form_of_channels_last():
    """Global average pooling and a dense layer behind (N,h,w,C) need no backward pass."""
    assert resolve_layer(definition_of("last"), "auto").closed_form


@pytest.mark.parametrize("name", ["last", "mixer"])
def test_few_layers_can_have_a_closed_form(name):
    """Only those are cut to find out: for each layer of a large network that takes long."""
    definition = definition_of(name)
    found = {n for n in map_layouts(definition) if resolve_layer(definition, n).closed_form}
    near = may_be_pooled_dense(definition.graph)
    assert found <= near and len(near) < 10
    assert bool(found) == (name == "last")


def test_tokens_that_an_option_counts():
    """Where the graph does not say which they are: the picture's proportions do."""
    layout = layout_of_tokens((1, 25, 16), 1, (16, 24))
    assert (layout.shape, layout.words) == ((16, 4, 6), "1+24 tokens")
    assert layout_of_tokens((1, 25, 16), 0, (16, 24)) is None
    assert layout_of_tokens((1, 49, 8), 0, (224, 224)).shape == (8, 7, 7)


def test_tokens_option(tmp_path):
    """A dense layer over positions leaves no order that the graph shows."""
    nodes = [
        node("Conv", "x k", "c"), node("Reshape", "c s", "r"), node("MatMul", "r w", "m"),
        node("Transpose", "m", "t", perm=[0, 2, 1]), node("Sigmoid", "t", "f"),
        node("MatMul", "f d", "e"), node("ReduceMean", "e", "y", axes=[1], keepdims=0),
    ]  # fmt: skip
    weights = {"k": weight(8, 3, 1, 1), "s": ints(0, 8, -1), "w": weight(24, 24), "d": weight(8, 5)}
    definition = load(make(nodes, weights, shape=("N", 3, 4, 6), flatten=False), tmp_path)
    assert not resolve_layer(definition, "f").spatial
    info = resolve_layer(replace(definition, tokens=0), "f")
    assert (info.shape, info.lies_as) == ((8, 4, 6), "24 tokens")


@pytest.mark.parametrize(
    ("name", "layout", "tokens"),
    [
        ("vit", "tokens", {"before": 1, "after": 0, "picture": [4, 6]}),
        ("mixer", "tokens", {"before": 0, "after": 0, "picture": [4, 6]}),
        ("swin", "channels last", None),
        ("hybrid", "channels first", None),
    ],
)
def test_what_is_found_out_of_a_layout(name, layout, tokens):
    code, out, err = shardcam("layers", FIXTURES / f"{name}.script.onnx", "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)["detected"]
    assert (facts["layout"], facts["tokens"]) == (layout, tokens)


def test_layers_without_a_map():
    """The attention of tokens to tokens has three axes and no height and width."""
    definition = definition_of("vit")
    (name,) = [n.name for n in definition.graph.nodes if n.op == "softmax"][-1:]
    info = resolve_layer(definition, name)
    assert (info.shape, info.spatial) == ((2, 25, 25), False)
    with pytest.raises(ConfigError, match="pieces of images"):
        softmax = [n.name for n in definition_of("swin").graph.nodes if n.op == "softmax"]
        resolve_layer(definition_of("swin"), softmax[0])
