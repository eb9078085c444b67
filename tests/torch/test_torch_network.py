"""A network in PyTorch beside the same in MXNet, on the CPU: layers, logits, gradients, maps."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from shardcam.engine.errors import ConfigError
from shardcam.engine.methods import METHODS
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.smoothing import smoothed_maps
from shardcam.engine.models.attention_layers import attention_layers
from shardcam.engine.models.layer_names import auto_layer, resolve_layer, with_maps
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.onnx.onnx_file import OnnxFile
from shardcam.engine.models.torch import torch_biases, torch_device, torch_head, torch_network
from shardcam.engine.models.torch.fold_batchnorm import folded
from shardcam.engine.models.torch.fused_steps import FUSED, with_fused_relus
from shardcam.engine.models.torch.torch_network import TorchNetwork
from shardcam.engine.models.torch.torch_program import Program, Weights
from tests.models.networks import (
    HAND_INPUT,
    HAND_LOGIT,
    dense_read_twice,
    every_tap_kind,
    hand_checked,
    sum_with_its_own_convolution,
)

ONNX = Path(__file__).parent.parent / "fixtures" / "onnx"
LOGITS, VALUES, MAPS = 1e-5, 1e-5, 1e-4
ZOO = {
    "resnet18_v1": 64,
    "resnet18_v2": 64,
    "vgg11_bn": 64,
    "alexnet": 96,
    "squeezenet1.1": 224,
    "densenet121": 224,
    "mobilenet0.25": 64,
    "mobilenetv2_0.25": 64,
    "inceptionv3": 299,
}
EXPORTS = ("mobilenet_v3_large", "convnext_tiny", "shufflenet_v2_x1_0", "regnet_y_400mf")
SMALL = {
    "taps": (every_tap_kind, ("a_relu", "b_conv", "c_bn", "add", "concat", "pool", "e_relu")),
    "gated": (dense_read_twice, ("first", "gated", "last")),
    "sum": (sum_with_its_own_convolution, ("conv", "add_relu")),
}


def images_for(definition, count=3, seed=1):
    shape = (count, *definition.preprocessing.input_shape)
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def error(found, expected):
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype == np.float32
    return np.abs(found - expected).max() / np.abs(expected).max()


def directions(count, classes):
    return np.random.RandomState(2).standard_normal((count, classes)).astype(np.float32)


def assert_same(definition, layers, maps=("gradcam", "hirescam")):
    """Logits, activations, gradients and maps of three images in a batch of four."""
    images = images_for(definition)
    ours = TorchNetwork(definition, layers, 4).forward(images)
    theirs = MxnetNetwork(definition, layers, 4).forward(images)
    assert ours.network.layers == theirs.network.layers
    assert error(ours.logits, theirs.logits) < LOGITS
    targets = np.argsort(-theirs.logits, axis=1)[:, :2].astype(np.int32)
    for name in layers:
        one, other = ours.layer(name), theirs.layer(name)
        assert one.closed_form == other.closed_form
        assert one.piecewise_linear == other.piecewise_linear
        assert one.classes == other.classes
        assert error(one.activation, other.activation) < VALUES, name
        for method in maps:
            found, expected = (METHODS[method](view, targets) for view in (one, other))
            assert error(found, expected) < MAPS, (name, method)


@pytest.mark.parametrize("name", SMALL)
def test_small_networks(name):
    define, layers = SMALL[name]
    assert_same(define(), layers)


@pytest.mark.parametrize("name", ZOO)
def test_networks_of_the_zoo(name):
    definition = load_network(name, "random", ZOO[name])
    assert_same(definition, (auto_layer(definition),))


def test_lite0():
    definition = load_network("efficientnet_lite0", image_size=96)
    assert_same(definition, (auto_layer(definition), "block10_add"))


@pytest.mark.parametrize("name", ["tiny.script", "tiny.dynamo", "tiny1.script", "tiny1.dynamo"])
def test_small_onnx_networks(name):
    definition = OnnxFile(ONNX / f"{name}.onnx").network()
    assert_same(definition, (auto_layer(definition),))


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
@pytest.mark.parametrize("name", EXPORTS)
def test_onnx_networks(name, exporter):
    place = os.environ.get("SHARDCAM_TORCH_EXPORTS")
    if not place:
        pytest.fail("set SHARDCAM_TORCH_EXPORTS; see tests/models/test_onnx_networks.py")
    definition = OnnxFile(Path(place) / f"{name}.{exporter}.onnx").network()
    assert_same(definition, (auto_layer(definition),))


def test_maps_known_by_hand():
    view = TorchNetwork(hand_checked(), ("relu",), 1).forward(HAND_INPUT).layer("relu")
    assert view.logits.max() == HAND_LOGIT
    np.testing.assert_array_equal(view.gradient(np.eye(4, dtype=np.float32)[:1])[0, 0], 1)


OF_LAYERS = [name for name, method in METHODS.items() if not method.reads_attention]
# Where activations have both signs the denominators of these cross 0.
POSITIVE_ONLY = {"gradcam++", "refinecam", "smoothgradcam++"}


@pytest.mark.parametrize(
    ("define", "layer", "method"),
    [
        *((every_tap_kind, "a_relu", method) for method in OF_LAYERS),
        *((dense_read_twice, "first", name) for name in OF_LAYERS if name not in POSITIVE_ONLY),
    ],
)
def test_every_method(define, layer, method):
    definition = define()
    layer = definition.input_name if METHODS[method].explains_input else layer
    images = images_for(definition)
    targets = np.array([[0, 3], [1, 2], [4, 0]], np.int32)
    if method == "cam":
        definition, layer = sum_with_its_own_convolution(), "add_relu"
    found, expected = (
        METHODS[method](network(definition, (layer,), 4).forward(images).layer(layer), targets)
        for network in (TorchNetwork, MxnetNetwork)
    )
    assert error(found, expected) < MAPS


@pytest.mark.parametrize("method", ["gradcam", "layercam", "ablationcam"])
def test_smoothing(method):
    definition, layer = every_tap_kind(), "concat"
    images = images_for(definition)
    targets = np.array([[0, 3], [1, 2], [4, 0]], np.int32)
    both = [network(definition, (layer,), 4) for network in (TorchNetwork, MxnetNetwork)]

    def eigen(view, targets):
        return METHODS[method](view, targets, FirstComponent())

    for formula in (METHODS[method], eigen):
        found, expected = (smoothed_maps(net, formula, images, targets)[layer] for net in both)
        assert error(found, expected) < 5 * MAPS  # where a map is stretched, so are its errors


def test_heads_on_other_activations():
    definition = every_tap_kind()
    images = images_for(definition)
    layers = SMALL["taps"][1]
    ours = TorchNetwork(definition, layers, 4).forward(images)
    theirs = MxnetNetwork(definition, layers, 4).forward(images)
    image = np.array([2, 0, 1, 1], np.int32)
    for name in layers:
        one, other = ours.layer(name), theirs.layer(name)
        assert one.head_rows == other.head_rows
        activation = other.activation[image] * np.float32(0.5)
        for given in (activation, torch.from_numpy(activation)):
            head = one.at(given, image, differentiable=True)
            expected = other.at(activation, image, differentiable=True)
            assert error(head.logits, expected.logits) < LOGITS
            way = directions(4, 5)
            assert error(head.gradient(way), expected.gradient(way)) < MAPS
            again = head.gradient(torch.from_numpy(way))  # one forward pass, several backward
            np.testing.assert_array_equal(again, head.gradient(way))
        assert error(one.at(activation, image).logits, expected.logits) < LOGITS


def test_terms_of_fullgrad(monkeypatch):
    monkeypatch.setattr(torch_biases, "HEAD_BYTES", 120_000)  # some images at a time
    definition = every_tap_kind()
    images, way = images_for(definition, 4), directions(4, 5)
    ours, theirs = (
        network(definition, ("data",), 4).forward(images).layer("data")
        for network in (TorchNetwork, MxnetNetwork)
    )
    found = [np.zeros((4, 12, 12), np.float32) for _ in range(2)]
    for total, view in zip(found, (ours, theirs)):
        for part, term in view.bias_terms(way):
            if term.shape[2:] == (12, 12):
                total[part] += np.asarray(term).sum(axis=1)
    assert error(*found) < LOGITS


def test_class_weights_of_a_closed_form():
    definition = sum_with_its_own_convolution()
    images, targets = images_for(definition), np.array([[0, 3], [1, 2], [4, 0]], np.int32)
    ours, theirs = (
        network(definition, ("add_relu", "conv"), 4).forward(images)
        for network in (TorchNetwork, MxnetNetwork)
    )
    expected = theirs.layer("add_relu").class_weights(targets)
    for given in (targets, torch.from_numpy(targets)):
        np.testing.assert_array_equal(ours.layer("add_relu").class_weights(given), expected)
    with pytest.raises(ConfigError, match="conv: no global average pooling"):
        ours.layer("conv").class_weights(targets)


def test_what_layers_give_are_tensors_and_logits_are_arrays():
    forward = TorchNetwork(every_tap_kind(), ("concat",), 4).forward(images_for(every_tap_kind()))
    view = forward.layer("concat")
    for tensor in (view.activation, view.gradient(directions(3, 5)), forward.activation("concat")):
        assert isinstance(tensor, torch.Tensor)
        assert tensor.dtype == torch.float32 and tensor.is_contiguous()
        assert not tensor.requires_grad
    for array in (view.logits, view.images, forward.logits, forward.images):
        assert type(array) is np.ndarray and array.dtype == np.float32


@pytest.mark.parametrize("count", [1, 3, 4])
def test_pixels_and_batches_that_are_not_full(count):
    definition = load_network("efficientnet_lite0", image_size=64)
    layers, read = ("block10_add",), ("fc", "block2_add")
    pixels = np.random.RandomState(0).randint(0, 256, (4, 64, 64, 3)).astype(np.uint8)
    read = tuple(n.name for n in definition.graph.nodes if n.op == "FullyConnected")
    ours = TorchNetwork(definition, layers, 4, extra_layers=read)
    theirs = MxnetNetwork(definition, layers, 4, extra_layers=read)
    ours.forward(pixels)  # what it leaves behind is gone
    found, expected = (network.forward(pixels[:count]) for network in (ours, theirs))
    np.testing.assert_array_equal(found.images, expected.images)
    assert error(found.logits, expected.logits) < LOGITS
    assert error(found.activation(layers[0]), expected.activation(layers[0])) < VALUES
    assert error(found.activation(read[0]), expected.activation(read[0])) < VALUES
    with pytest.raises(ValueError, match="5 images, but a batch has 4"):
        ours.forward(np.concatenate([pixels, pixels[:1]]))


@pytest.mark.parametrize("buffers", [1, 2])
def test_results_are_valid_until_as_many_passes_have_begun(buffers):
    definition = every_tap_kind()
    images = images_for(definition)
    network = TorchNetwork(definition, ("concat",), 4, buffers=buffers)
    first = network.forward(images)
    layer, logits = first.layer("concat"), first.logits
    for _ in range(buffers - 1):
        network.forward(images[::-1].copy())
    np.testing.assert_array_equal(first.logits, logits)
    network.forward(images)
    for stale in (
        first.wait,
        lambda: first.logits,
        lambda: first.activation("concat"),
        lambda: layer.activation,
        lambda: layer.gradient(directions(3, 5)),
    ):
        with pytest.raises(RuntimeError, match="the results of this pass are gone"):
            stale()


def test_a_pass_over_other_images_leaves_this_one_as_it_is():
    definition = every_tap_kind()
    images = images_for(definition)
    network = TorchNetwork(definition, ("concat",), 4)
    view = network.forward(images).layer("concat")
    before = view.activation.clone()
    for given in (images[::-1].copy(), torch.from_numpy(images[::-1].copy())):
        other = view.of(given)
        assert error(other.activation, before.flip(0)) < VALUES
        assert error(other.logits, view.logits[::-1]) < LOGITS
    np.testing.assert_array_equal(view.activation, before)
    assert view.network_rows == 4


@pytest.mark.parametrize(
    ("method", "least"),
    [("scorecam", 2), ("ablationcam", 2 * 8), ("fullgrad", 6), ("hirescam", 1)],
)
def test_each_pass_that_a_method_makes_is_reported(monkeypatch, method, least):
    monkeypatch.setattr(torch_head, "HEAD_BYTES", 1)  # a channel at a time
    network = TorchNetwork(every_tap_kind(), ("b_relu",), 11)
    layer = network.forward(images_for(network.definition)).layer("b_relu")
    begun = []
    network.on_pass = lambda: begun.append(method)
    METHODS[method](layer, np.array([[0, 3], [1, 2], [4, 0]], np.int32))
    assert len(begun) >= least


@pytest.mark.parametrize("name", ["resnet18_v1", "mobilenetv2_0.25", "resnet18_v2"])
def test_half_precision_is_near(name):
    definition = load_network(name, "random", 64)
    images = images_for(definition)
    layer = auto_layer(definition)
    exact, half = (
        TorchNetwork(definition, (layer,), 3, precision).forward(images)
        for precision in ("fp32", "bf16")
    )
    assert half.layer(layer).activation.dtype == torch.float32
    assert np.corrcoef(exact.logits.ravel(), half.logits.ravel())[0, 1] > 0.99
    assert error(half.logits, exact.logits) < 0.1


@pytest.mark.parametrize("name", ["resnet18_v1", "vgg11_bn", "alexnet"])
def test_folding_and_fusing_change_no_values(name):
    definition = load_network(name, "random", ZOO[name])
    graph, heads = definition.graph, definition.graph.heads
    plain = Program(graph, heads, Weights(definition.parameters, torch.device("cpu")))
    less, parameters = folded(graph, definition.parameters, heads)
    fused = with_fused_relus(less, heads)
    assert {n.op for n in fused.nodes} & FUSED.keys()
    given = {definition.input_name: torch.from_numpy(images_for(definition))}
    expected = plain(given)[0].numpy()
    for other in (less, fused):
        program = Program(other, heads, Weights(parameters, torch.device("cpu")))
        assert error(program(given)[0], expected) < LOGITS


def test_a_tap_is_neither_folded_nor_fused():
    definition, cpu = every_tap_kind(), torch.device("cpu")
    graph, given = definition.graph, {"data": torch.from_numpy(images_for(definition))}
    for number, node in enumerate(graph.nodes):
        if node.op != "null":
            kept = [(number, 0)]
            less, parameters = folded(graph, definition.parameters, kept)
            fused = with_fused_relus(less, kept)
            found = Program(fused, kept, Weights(parameters, cpu))(given)
            expected = Program(graph, kept, Weights(definition.parameters, cpu))(given)
            assert error(found[0], expected[0]) < VALUES, node.name


def test_memory_that_runs_out_is_told_in_one_line(monkeypatch):
    network = TorchNetwork(every_tap_kind(), ("concat",), 4)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nGPU 0 has")

    monkeypatch.setattr(torch_network._Bound, "forward", full)
    with pytest.raises(Exception, match=r"out of memory: CUDA.*2 GiB; run it again with a smaller"):
        network.forward(images_for(network.definition))


@pytest.mark.process
def test_it_needs_no_mxnet():
    import subprocess

    code = (
        "import sys; sys.modules['mxnet'] = None\n"
        f"sys.path[:] = {sys.path!r}\n"
        "import shardcam.engine.models.torch.torch_network"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.process
def test_it_imports_no_compiler():
    """PyTorch's, which takes seconds."""
    import subprocess

    code = (
        f"import sys; sys.path[:] = {sys.path!r}\n"
        "import tests.torch.conftest\n"
        "from tests.models.networks import every_tap_kind\n"
        "from shardcam.engine.models.torch.torch_network import TorchNetwork\n"
        "TorchNetwork(every_tap_kind(), ('a_relu',), 1)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(
    ("capability", "built", "served"),
    [
        ((9, 0), ["sm_80", "sm_90"], True),
        ((8, 9), ["sm_80", "sm_90"], True),
        ((8, 0), ["sm_86", "sm_90"], False),
        ((7, 0), ["sm_75", "sm_80"], False),
        ((12, 0), ["sm_90a", "sm_100"], False),
        ((12, 0), ["sm_90", "compute_90"], True),
        ((10, 3), ["sm_100", "sm_120"], True),
    ],
)
def test_gpus_that_this_pytorch_has_no_code_for(capability, built, served, monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    for refusal in (torch_device.gpu_refusal(), torch_device.gpu_refusal(capability)):
        assert (refusal is None) == served
        assert served or f"has code for {', '.join(built)}" in refusal


@pytest.mark.parametrize("method", ["attention", "rollout"])
def test_attention_that_is_read(method):
    """Blocks whose batch is multiplied by heads among them."""
    fixtures = Path(__file__).parent.parent / "fixtures" / "tokens"
    images = np.load(fixtures / "vit.npz")["images"]
    for exporter in ("script", "dynamo"):
        definition = load_network(str(fixtures / f"vit.{exporter}.onnx"))
        info = resolve_layer(definition, "auto")
        read = attention_layers(definition, info, every=method == "rollout")
        ours = MxnetNetwork(definition, (info.name,), 2, attention=read)
        other = TorchNetwork(
            with_maps(definition, [info.name, *read]), (info.name,), 2, attention=read
        )
        targets = np.zeros((2, 1), np.int32)
        one, two = (
            METHODS[method](network.forward(images).layer(info.name), targets)
            for network in (ours, other)
        )
        np.testing.assert_allclose(two.numpy(), one, rtol=1e-4, atol=1e-6)
