"""Weights that are drawn anew: which, from what, and how large the network's values stay."""

import numpy as np
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.randomised import randomised, weighted_layers
from tests.models.networks import every_tap_kind, hand_checked
from tests.models.onnx_models import make, node

LITE0 = "efficientnet_lite0"


def changed(before, after):
    return {n for n, v in before.parameters.items() if not np.array_equal(v, after.parameters[n])}


def test_a_cascade_goes_from_the_logits_down():
    network = every_tap_kind()
    layers = weighted_layers(network)
    assert layers == ["a_conv", "b_conv", "c_conv", "d_conv", "e_conv", "dense"]
    before = set()
    for layer in reversed(layers):
        found = changed(network, randomised(network, layer, 0))
        assert {f"{layer}_weight"} <= found and before < found
        assert not any(name.startswith(tuple(layers[: layers.index(layer)])) for name in found)
        before = found
    assert changed(network, randomised(network, "head", 0)) <= {"dense_weight", "dense_bias"}
    assert randomised(network, "c_bn", 0).digest() != randomised(network, "d_conv", 0).digest()
    assert randomised(network, network.input_name, 0).digest() == (
        randomised(network, "a_conv", 0).digest()
    )


def test_values_depend_on_the_seed_and_the_name_alone():
    network = every_tap_kind()
    low, high = (randomised(network, layer, 3).parameters for layer in ("b_conv", "e_conv"))
    np.testing.assert_array_equal(low["e_conv_weight"], high["e_conv_weight"])
    assert not np.array_equal(low["b_conv_weight"], low["c_conv_weight"])
    other = randomised(network, "b_conv", 4).parameters
    assert not np.array_equal(low["e_conv_weight"], other["e_conv_weight"])
    assert low["e_conv_weight"][0, 0, 0, 0] == pytest.approx(0.05986545)  # on every machine


def test_initialisers():
    network = load_network(LITE0)
    new = randomised(network, network.input_name, 0).parameters
    for name, value in new.items():
        old = network.parameters[name]
        if value.ndim == 4:
            empty = [~(old != 0).any(axis=axes) for axes in ((0, 1, 3), (0, 1, 2))]
            assert not value[:, :, empty[0]].any() and not value[:, :, :, empty[1]].any()
            used = value[:, :, ~empty[0]][:, :, :, ~empty[1]]
            inputs = np.prod(used.shape[1:])
            assert used.std() == pytest.approx((2 / inputs) ** 0.5, rel=0.15)
        elif value.ndim == 2:
            assert value.std() == pytest.approx((2 / sum(value.shape)) ** 0.5, rel=0.01)
        else:
            assert set(value.tolist()) == {float(name.endswith(("gamma", "var")))}
    logits = MxnetNetwork(randomised(network, "stem_conv", 0), ("head_relu6",), 1).forward(
        np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    ).logits  # fmt: skip
    assert np.isfinite(logits).all() and 0 < abs(logits).max() < 1e6


def test_what_is_no_weight_stays(tmp_path):
    """Scaling of the input, interpolation, and a table of positions."""
    rng = np.random.default_rng(0)
    weights = {
        "mean": np.array([0.4, 0.5, 0.6], np.float32).reshape(1, 3, 1, 1),
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "scale": np.array([1, 2, 3, 4], np.float32).reshape(1, 4, 1, 1),
        "places": rng.standard_normal((1, 4, 6, 6)).astype(np.float32),
        "sizes": np.array([1, 1, 1.5, 1.5], np.float32),
        "v": rng.standard_normal((5, 4)).astype(np.float32),
        "b": rng.standard_normal(5).astype(np.float32),
    }
    resize = node("Resize", "p p sizes", "r", mode="linear")
    resize.input[1] = ""
    model = make(
        [
            node("Sub", "x mean", "centred"),
            node("Conv", "centred w", "c"),
            node("Mul", "c scale", "s"),
            node("Add", "s places", "p"),
            resize,
            node("GlobalAveragePool", "r", "g"),
            node("Flatten", "g", "f"),
            node("Gemm", "f v b", "y", transB=1),
        ],
        weights,
        ("N", 3, 8, 8),
        flatten=False,
    )
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    network = load_network(str(tmp_path / "net.onnx"))
    new = randomised(network, network.input_name, 0)
    found = changed(network, new)
    assert {n.partition("/")[2] or n for n in found} >= {"w", "v", "b"}
    kept = network.parameters.keys() - found
    shapes = sorted(network.parameters[name].shape for name in kept)
    assert (1, 4, 6, 6) in shapes and (1, 3, 1, 1) in shapes
    (scale,) = (n for n, v in network.parameters.items() if v.shape == (1, 4, 1, 1))
    assert (new.parameters[scale] == 1).all()


def test_two_classes_of_one_output_stay_opposite(tmp_path):
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "v": rng.standard_normal((1, 4)).astype(np.float32),
        "b": np.ones(1, np.float32),
    }
    nodes = [node("Conv", "x w", "c"), node("GlobalAveragePool", "c", "g"),
             node("Flatten", "g", "f"), node("Gemm", "f v b", "z", transB=1),
             node("Sigmoid", "z", "y")]  # fmt: skip
    (tmp_path / "net.onnx").write_bytes(
        make(nodes, weights, ("N", 3, 8, 8), flatten=False).SerializeToString()
    )
    network = load_network(str(tmp_path / "net.onnx"))
    assert network.binary
    new = randomised(network, "head", 0).parameters["v"]
    np.testing.assert_array_equal(new[0], -new[1])
    assert not np.array_equal(new, network.parameters["v"])


@pytest.mark.parametrize(
    ("layer", "told"),
    [
        ("nothing", "--randomise: hand-checked has no layer 'nothing'"),
        ("logits", "no layer from there to the logits has weights; the last one that has is dense"),
    ],
)
def test_what_cannot_be_randomised(layer, told):
    with pytest.raises(ConfigError, match=told):
        randomised(hand_checked(), layer, 0)


def test_it_is_told():
    assert randomised(hand_checked(), "head", 7).remarks == (
        "weights of 1 layer, from dense to the logits, are random, from --seed 7",
    )
