"""What must not change a map: the batch, the other targets, the way the gradient is obtained."""

import numpy as np
import pytest

from engine.methods import METHODS
from engine.methods.method import FirstComponent
from engine.models import mxnet_network
from engine.models.mxnet_network import MxnetNetwork
from engine.smoothing import smoothed_maps
from tests.models.networks import every_tap_kind, sum_with_its_own_convolution

LAYERS = ("add", "concat", "e_relu")  # inside a residual block, with negative values; the last
PER_LAYER = sorted(set(METHODS) - {"cam", "fullgrad"})
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


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"fullgrad"}))
def test_closed_form_equals_the_head(monkeypatch, name):
    """Behind global average pooling and a dense layer no backward pass is made."""
    closed = network(("add_relu",), define=sum_with_its_own_convolution).forward(IMAGES)
    view = closed.layer("add_relu")
    assert view.closed_form
    expected = METHODS[name](view, TARGETS)
    if name == "cam":
        np.testing.assert_allclose(expected, METHODS["gradcam"](view, TARGETS) * 100, rtol=1e-4)
        return
    monkeypatch.setattr(mxnet_network, "pooled_dense_weight", lambda *_: None)
    slow = network(("add_relu",), define=sum_with_its_own_convolution).forward(IMAGES)
    assert not slow.layer("add_relu").closed_form
    found = METHODS[name](slow.layer("add_relu"), TARGETS)
    # The head is linear: its curvature is 0 but for rounding, divided by a small step.
    assert_close(found, expected) if name != "shapleycam" else np.testing.assert_allclose(
        found, expected, atol=1e-3 * abs(expected).max()
    )


def test_head_rows_within_the_budget(monkeypatch, together):
    """Ablation in pieces of a few rows gives the same map."""
    monkeypatch.setattr("engine.models.head.HEAD_BYTES", 120_000)
    forward = network().forward(IMAGES)
    rows = forward.layer("add").head_rows
    assert 1 < rows < 8
    assert_close(
        METHODS["ablationcam"](forward.layer("add"), TARGETS), together["ablationcam", "add"]
    )


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
    assert 0.5 < found["add"].max() <= 1.2  # a map may exceed its enlarged, stretched heatmap


@pytest.mark.parametrize("define", [every_tap_kind, sum_with_its_own_convolution])
def test_fullgrad_terms_sum_to_the_logit(define):
    """Completeness (Srinivas & Fleuret 2019, proposition 1), the dense layer's bias apart."""
    definition = define()
    layer = network((definition.input_name,), define=define).forward(IMAGES).layer("data")
    direction = np.zeros((3, 5), np.float32)
    direction[np.arange(3), TARGETS[:, 0]] = 1
    total = (IMAGES * layer.gradient(direction)).sum(axis=(1, 2, 3), dtype=np.float64)
    for term in layer.bias_terms(direction):
        total += term.sum(axis=(1, 2, 3), dtype=np.float64)
    total += definition.parameters["dense_bias"][TARGETS[:, 0]]
    logits = layer.logits[np.arange(3), TARGETS[:, 0]]
    np.testing.assert_allclose(total, logits, rtol=1e-3)
