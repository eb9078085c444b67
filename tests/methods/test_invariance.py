"""What must not change a map: the batch, the other targets, the way the gradient is obtained."""

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.smoothing import smoothed_maps
from shardcam.engine.models import mxnet_programs
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.observed import Unrounded, observe
from shardcam.kernels import NON_FINITE, scale_maps
from tests.models.networks import every_tap_kind, hand_checked, sum_with_its_own_convolution

# Inside a residual block, the head reading another tensor too; with negative values; the last.
LAYERS = ("b_relu", "c_bn", "concat", "e_relu")
ATTENTION = {name for name, method in METHODS.items() if method.reads_attention}
PER_LAYER = sorted(set(METHODS) - {"cam", "fullgrad"} - ATTENTION)
TARGETS = np.array([[1, 4], [2, 0], [0, 3]], np.int32)
IMAGES = np.random.RandomState(5).standard_normal((3, 3, 12, 12)).astype(np.float32)


def network(layers=LAYERS, batch=3, define=every_tap_kind):
    return MxnetNetwork(define(), layers, batch)


def assert_close(found, expected):
    largest = np.abs(expected).max(axis=(-2, -1), keepdims=True)
    assert np.abs((found - expected) / np.maximum(largest, 1e-6)).max() < 2e-4


@pytest.fixture(scope="module")
def together():
    forward = network().forward(IMAGES)
    return {
        (name, layer): METHODS[name](forward.layer(layer), TARGETS)
        for name in PER_LAYER
        for layer in LAYERS
    }


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("name", PER_LAYER)
def test_shapes_and_values(together, name, layer):
    maps = together[name, layer]
    assert maps.dtype == np.float32
    assert maps.shape[:2] == (3, 2)
    assert np.isfinite(maps).all()
    assert (np.ptp(maps, axis=(2, 3)) > 0).any()
    same = np.array_equal(maps[:, 0], maps[:, 1])
    assert same is not METHODS[name].per_class


@pytest.mark.parametrize("name", PER_LAYER)
def test_alone_or_in_a_batch(together, name):
    """Another batch size, another place in the batch, a batch that is not full."""
    other = network(batch=4)
    for i in range(3):
        forward = other.forward(IMAGES[[i, (i + 1) % 3]])
        for layer in LAYERS:
            targets = np.ascontiguousarray(TARGETS[[i, (i + 1) % 3]])
            maps = METHODS[name](forward.layer(layer), targets)
            assert_close(maps, together[name, layer][[i, (i + 1) % 3]])


@pytest.mark.parametrize("name", PER_LAYER)
def test_one_target_or_several(together, name):
    forward = network().forward(IMAGES)
    for layer in LAYERS:
        for k in (1, 0):
            alone = METHODS[name](forward.layer(layer), np.ascontiguousarray(TARGETS[:, k : k + 1]))
            assert_close(alone[:, 0], together[name, layer][:, k])


@pytest.mark.parametrize("name", PER_LAYER)
def test_one_layer_or_several(together, name):
    forward = network(("concat",)).forward(IMAGES)
    assert_close(METHODS[name](forward.layer("concat"), TARGETS), together[name, "concat"])


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"fullgrad"} - ATTENTION))
def test_closed_form_equals_the_head(monkeypatch, name):
    """Behind global average pooling and a dense layer no backward pass is made."""
    closed = network(("add_relu",), define=sum_with_its_own_convolution).forward(IMAGES)
    view = closed.layer("add_relu")
    assert view.closed_form
    expected = METHODS[name](view, TARGETS)
    if name == "cam":
        np.testing.assert_allclose(expected, METHODS["gradcam"](view, TARGETS) * 100, rtol=1e-4)
        return
    monkeypatch.setattr(mxnet_programs, "pooled_dense_weight", lambda *_: None)
    slow = network(("add_relu",), define=sum_with_its_own_convolution).forward(IMAGES)
    assert not slow.layer("add_relu").closed_form
    found = METHODS[name](slow.layer("add_relu"), TARGETS)
    # The head is linear: its curvature is 0 but for rounding, divided by a small step.
    assert_close(found, expected) if name != "shapleycam" else np.testing.assert_allclose(
        found, expected, atol=1e-3 * abs(expected).max()
    )


def test_head_rows_within_the_budget(monkeypatch, together):
    """Ablation in pieces of a few rows gives the same map."""
    monkeypatch.setattr("shardcam.engine.models.head.HEAD_BYTES", 120_000)
    forward = network().forward(IMAGES)
    rows = forward.layer("c_bn").head_rows
    assert 1 < rows < 8
    assert_close(
        METHODS["ablationcam"](forward.layer("c_bn"), TARGETS), together["ablationcam", "c_bn"]
    )


def test_fullgrad_alone_or_in_a_batch(monkeypatch):
    layer = network(("data",)).forward(IMAGES).layer("data")
    together = METHODS["fullgrad"](layer, TARGETS)
    one_image = "shardcam.engine.models.fullgrad_terms.HEAD_BYTES"
    monkeypatch.setattr(one_image, 1)
    other = network(("data",), batch=2)
    for i in range(3):
        alone = METHODS["fullgrad"](other.forward(IMAGES[i : i + 1]).layer("data"), TARGETS[[i]])
        assert_close(alone, together[[i]])


@pytest.mark.parametrize("precision", ["int8", "bf16"])
@pytest.mark.parametrize("name", ["ablationcam", "finercam", "gradcam"])
def test_order_of_the_layers_at_low_precision(name, precision):
    """A layer's own head gives the scores that its map is made from."""
    found = {}
    for layers in (("concat", "e_relu"), ("e_relu", "concat")):
        definition = every_tap_kind()
        seen = observe(Unrounded(definition, layers, 3), [IMAGES]) if precision == "int8" else None
        ranges = seen.quantization(keep_first=False) if seen else None
        net = MxnetNetwork(definition, layers, 3, precision, ranges)
        forward = net.forward(IMAGES)
        found[layers] = [METHODS[name](forward.layer(at), TARGETS) for at in sorted(layers)]
        found[layers].append(forward.logits)
    for first, second in zip(*found.values()):
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-5 * abs(first).max())


def test_smoothgradcam_plusplus_by_the_formula():
    """Section 3 of the paper in float64, from gradients at the noisy images themselves."""
    net = network(("c_bn",))
    activation = net.forward(IMAGES).layer("c_bn").activation.astype(np.float64)
    noise = np.random.RandomState(0).normal(0, 0.3, (4, 3, 12, 12)).astype(np.float32)
    powers = np.zeros((3, *activation.shape))
    for copy in noise:
        view = net.forward(IMAGES + copy).layer("c_bn")
        direction = np.zeros((3, 5), np.float32)
        direction[np.arange(3), TARGETS[:, 1]] = 1
        gradient = view.gradient(direction).astype(np.float64)
        powers += np.stack([gradient, gradient**2, gradient**3]) / 4
    first, second, third = powers
    total = activation.sum(axis=(2, 3), keepdims=True)
    alpha = np.where(second > 0, second / (2 * second + total * third + 1e-6), 0)
    weights = (alpha * np.maximum(first, 0)).sum(axis=(2, 3), keepdims=True)
    expected = (weights * activation).sum(axis=1)
    found = METHODS["smoothgradcam++"](net.forward(IMAGES).layer("c_bn"), TARGETS)
    assert_close(found[:, 1], expected)


@pytest.mark.parametrize("layer", LAYERS)
def test_shapleycam_is_gradcam_where_nothing_is_curved(together, layer):
    np.testing.assert_array_equal(together["shapleycam", layer], together["gradcam", layer])


def test_a_score_of_zero_is_flagged_smoothed_or_not():
    images = np.zeros((1, 1, 4, 4), np.float32)  # every logit of the network is 0
    net = MxnetNetwork(hand_checked(), ("relu",), 1)
    target = np.zeros((1, 1), np.int32)
    plain = METHODS["ablationcam"](net.forward(images).layer("relu"), target)
    smoothed = smoothed_maps(net, METHODS["ablationcam"], images, target)["relu"]
    for raw in (plain, smoothed):
        assert scale_maps(raw)[2][0, 0] == NON_FINITE


def test_eigen_smoothing_of_hirescam_is_eigengradcam(together):
    forward = network().forward(IMAGES)
    for layer in LAYERS:
        maps = METHODS["hirescam"](forward.layer(layer), TARGETS, FirstComponent())
        assert_close(maps, together["eigengradcam", layer])


def test_smoothed_maps_are_between_0_and_1():
    found = smoothed_maps(network(), METHODS["gradcam"], IMAGES, TARGETS)
    assert set(found) == set(LAYERS)
    for maps in found.values():
        assert maps.shape[:2] == (3, 2)
        assert maps.min() >= 0
    assert 0.5 < found["c_bn"].max() <= 1.2  # a map may exceed its enlarged, stretched heatmap


@pytest.mark.parametrize("define", [every_tap_kind, sum_with_its_own_convolution])
def test_fullgrad_terms_sum_to_the_logit(define):
    """Completeness (Srinivas & Fleuret 2019, proposition 1), the dense layer's bias apart."""
    definition = define()
    layer = network((definition.input_name,), define=define).forward(IMAGES).layer("data")
    direction = np.zeros((3, 5), np.float32)
    direction[np.arange(3), TARGETS[:, 0]] = 1
    total = np.zeros(3)
    for images, term in layer.bias_terms(direction):
        total[images] += term.sum(axis=(1, 2, 3), dtype=np.float64)
    total += definition.parameters["dense_bias"][TARGETS[:, 0]]
    logits = layer.logits[np.arange(3), TARGETS[:, 0]]
    np.testing.assert_allclose(total, logits, rtol=1e-3)
