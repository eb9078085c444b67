"""bf16 and int8 backbones against float32, on photographs and real weights."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.layer_names import auto_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.normalise import normalised
from shardcam.engine.models.observed import Unrounded, observe
from shardcam.engine.pictures.imaging import stacked, view
from tests.pictures.decoded import decoded

PHOTOGRAPHS = sorted((Path(__file__).parent.parent / "fixtures" / "reference").glob("*.png"))
LAYERS = ("block10_add", "head_relu6")


@pytest.fixture(scope="module")
def definition():
    return load_network("efficientnet_lite0")


@pytest.fixture(scope="module")
def images(definition):
    size = definition.preprocessing
    pictures = [view(decoded(path.read_bytes()), size).pixels for path in PHOTOGRAPHS]
    return normalised(stacked(pictures, size), size)


@pytest.fixture(scope="module")
def exact(definition, images):
    return MxnetNetwork(definition, LAYERS, 5).forward(images)


@pytest.fixture(scope="module")
def ranges(definition, images):
    return observe(Unrounded(definition, LAYERS, 5), [images]).quantization(keep_first=True)


def raw_maps(forward, targets):
    return METHODS["gradcam"](forward.layer("head_relu6"), targets)


@pytest.mark.parametrize(("precision", "least"), [("bf16", 0.98), ("int8", 0.97)])
def test_maps_agree_with_float32(definition, images, exact, ranges, precision, least):
    forward = MxnetNetwork(definition, LAYERS, 5, precision, ranges).forward(images)
    targets = exact.logits.argmax(axis=1)[:, None].astype(np.int32)
    pairs = zip(raw_maps(exact, targets), raw_maps(forward, targets))
    correlations = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]
    assert min(correlations) > least
    assert (forward.logits != exact.logits).any()
    assert (forward.logits.argmax(axis=1) == targets[:, 0]).mean() >= 0.8


def test_weights_are_rounded_for_what_comes_out(definition, images):
    """On photographs that were not calibrated on."""
    layers = ("block2_add", "head_relu6")
    found = observe(Unrounded(definition, layers, 3), [images[:3]]).quantization(keep_first=False)
    assert "stem_conv_weight" in found.rounding
    assert "head_conv_weight" not in found.rounding  # it has 320 inputs
    truth = MxnetNetwork(definition, layers, 2).forward(images[3:]).layer("block2_add").activation

    def error(quantization):
        network = MxnetNetwork(definition, layers, 2, "int8", quantization)
        return np.linalg.norm(network.forward(images[3:]).layer("block2_add").activation - truth)

    assert error(found) < 0.8 * error(replace(found, rounding={}))


def test_the_first_convolution_in_float32_keeps_its_weights(ranges):
    assert "stem_conv_weight" not in ranges.rounding
    assert "block0_depthwise_conv_weight" in ranges.rounding


def test_ranges_are_those_of_the_activations(definition, images, ranges):
    assert "data" not in ranges.ranges  # the first convolution stays in float32
    assert len([bounds for bounds in ranges.ranges.values() if bounds == (0, 6)]) > 10
    every = (
        observe(Unrounded(definition, LAYERS, 5), [images]).quantization(keep_first=False).ranges
    )
    assert every["data"] == (pytest.approx(images.min()), pytest.approx(images.max()))


def test_the_same_ranges_give_the_same_numbers(definition, images, ranges):
    """Each worker quantises for itself; the table makes them one."""
    first, second = (
        MxnetNetwork(definition, LAYERS, 5, "int8", ranges).forward(images).logits for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


def test_int8_without_ranges_is_a_bug(definition):
    with pytest.raises(ValueError, match="needs calibrated ranges"):
        MxnetNetwork(definition, LAYERS, 5, "int8")


def test_dense_weights_by_any_name():
    """What enlarges the maps of a segmentation network is a dense layer without a weight's name."""
    ends = Path(__file__).parent.parent / "fixtures" / "ends"
    definition = load_network(str(ends / "pixels.onnx"))
    with np.load(ends / "expected.npz") as stored:
        images, best = stored["images"], stored["pixels__best"]
    layer, seen = "/0/features/features.1/Relu", definition.prediction.name
    ranges = observe(Unrounded(definition, (layer,), 3, (seen,)), [images]).quantization(
        keep_first=True
    )
    network = MxnetNetwork(definition, (layer,), 3, "int8", ranges, extra_layers=(seen,))
    found = network.forward(images).activation(seen).argmax(axis=1)
    assert (found == best).mean() > 0.95


@pytest.mark.parametrize("exporter", ["script", "dynamo"])
def test_bf16_where_a_join_has_both_kinds(exporter):
    """SegFormer's decoder joins what was enlarged, in float32, to what was not."""
    place = Path(__file__).parent.parent / "fixtures" / "segformer"
    definition = load_network(str(place / f"{exporter}.onnx"))
    with np.load(place / "expected.npz") as stored:
        pictures, best = stored["pictures"], stored["best"]
    images = (pictures.transpose(0, 3, 1, 2) - np.float32(127.5)) / np.float32(64)
    seen = definition.prediction.name
    network = MxnetNetwork(definition, (auto_layer(definition),), 2, "bf16", extra_layers=(seen,))
    found = network.forward(images).activation(seen).argmax(axis=1)
    assert (found == best).mean() > 0.97  # of PyTorch's bfloat16: 0.98
