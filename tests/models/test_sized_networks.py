"""One network for pictures of many sizes."""

import gc
from dataclasses import replace
from pathlib import Path
from weakref import ref

import numpy as np
import pytest

from shardcam.engine.errors import ConfigError
from shardcam.engine.methods import METHODS
from shardcam.engine.models import sized_networks
from shardcam.engine.models.checkpoint import checkpoint_network
from shardcam.engine.models.mxnet_network import BoundNetwork, MxnetNetwork
from shardcam.engine.models.observed import Unrounded, observe
from shardcam.engine.models.open_size import OpenSize
from shardcam.engine.models.sized_networks import SizedNetworks, bind_sizes, rows_for
from tests.models.networks import every_tap_kind
from tests.models.small_checkpoint import write_checkpoint

SIZES = ((37, 50), (33, 49), (50, 37), (9, 13), (37, 50))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    symbol = write_checkpoint(tmp_path_factory.mktemp("small"), 32)
    return OpenSize(lambda size: checkpoint_network(Path(symbol), None, size))


def pictures(height, width, count=2):
    return np.random.RandomState(height).randint(0, 256, (count, height, width, 3), np.uint8)


def test_each_size_is_as_if_bound_alone(small):
    networks = bind_sizes(small, ("two_relu",))
    for size in SIZES:
        found = networks.forward(pictures(*size))
        alone = MxnetNetwork(small.at(*size), ("two_relu",), 2).forward(pictures(*size))
        np.testing.assert_allclose(found.logits, alone.logits, rtol=1e-5)
        np.testing.assert_allclose(
            found.activation("two_relu"), alone.activation("two_relu"), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_other_precisions_are_as_if_bound_alone(small, precision):
    found = None
    if precision == "int8":
        images = pictures(224, 224, 3).transpose(0, 3, 1, 2).astype(np.float32)
        seen = observe(Unrounded(small.own, ("two_relu",), 3), [images])
        found = seen.quantization(keep_first=True)
    networks = bind_sizes(small, ("two_relu",), precision, found)
    for size in SIZES:
        images = pictures(*size)
        alone = MxnetNetwork(small.at(*size), ("two_relu",), 2, precision, found).forward(images)
        expected = alone.activation("two_relu")
        values = networks.forward(images).activation("two_relu")
        np.testing.assert_allclose(values, expected, rtol=0.02, atol=0.02 * expected.max())


@pytest.mark.parametrize("name", ["ablationcam", "eigencam", "fullgrad", "gradcam", "layercam"])
@pytest.mark.parametrize("layer", ["one_relu", "two_relu"])
def test_methods_are_as_if_bound_alone(small, name, layer):
    """With a backward pass through the head, and in closed form."""
    networks, targets = bind_sizes(small, (layer,)), np.array([[3], [7]], np.int32)
    for size in SIZES:
        images = pictures(*size)
        found = networks.forward(images).layer(layer)
        alone = MxnetNetwork(small.at(*size), (layer,), 2).forward(images).layer(layer)
        assert found.closed_form == alone.closed_form == (layer == "two_relu")
        maps, expected = (METHODS[name](view, targets) for view in (found, alone))
        np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-4 * abs(expected).max())


def test_a_slope_at_an_odd_size(small):
    """A change of the activation moves the logits as the gradient says, in closed form too."""
    networks = bind_sizes(small, ("one_relu", "two_relu"))
    for height, width in ((33, 49), (50, 37)):
        forward = networks.forward(pictures(height, width))
        for name in ("one_relu", "two_relu"):
            layer, direction = forward.layer(name), np.eye(10, dtype=np.float32)[[3, 7]]
            activation, gradient = layer.activation, layer.gradient(direction)
            gradient = np.broadcast_to(gradient, activation.shape)
            move = 1e-2 * np.random.RandomState(0).standard_normal(activation.shape)
            up, down = (
                (layer.at(activation + sign * move.astype(np.float32), np.arange(2)).logits)
                for sign in (1, -1)
            )
            slope = ((up - down) * direction).sum(1) / 2
            np.testing.assert_allclose(
                slope, (gradient * move).sum((1, 2, 3)), rtol=0.02, atol=1e-4
            )


def test_few_networks_are_held():
    built = []

    class Bound:
        layers, buffers = (), 1

        def forward(self, images):
            return images.shape

    def build(height, width, rows):
        built.append((height, width, rows))
        return Bound()

    networks = SizedNetworks(build, (4, 4), held=2)
    for size in ((4, 4), (5, 5), (4, 4), (6, 6), (4, 4), (5, 5)):
        networks.forward(pictures(*size, 1))
    assert built == [(4, 4, 1), (5, 5, 1), (6, 6, 1), (5, 5, 1)]
    built.clear()
    for count in (1, 5, 8, 9, 15, 64):
        networks.forward(pictures(4, 4, count))
    assert [rows for *_, rows in built] == [8, 16, 64]
    networks = SizedNetworks(build, (4, 4), held=2, whole=True)
    networks.forward(pictures(112, 112, 5))
    assert built[-2:] == [(4, 4, 64), (112, 112, 16)]


def test_of_large_pictures_fewer_networks_are_held(monkeypatch):
    """Each takes memory by its pixels: four of photographs of 12 million would take 15 GB."""
    built = []

    class Bound:
        layers, buffers = (), 1

        def forward(self, images):
            return images.shape

    monkeypatch.setattr(sized_networks, "HELD_PIXELS", 10_000)
    monkeypatch.setattr(sized_networks, "USUAL", 1)
    networks = SizedNetworks(lambda *size: built.append(size) or Bound(), (4, 4), held=4)
    for size in ((60, 50), (50, 60), (60, 51), (60, 50), (50, 60), (200, 100), (60, 50)):
        networks.forward(pictures(*size, 1))
    assert [size[:2] for size in built[1:]] == [
        *((60, 50), (50, 60), (60, 51), (200, 100), (60, 50)),
    ]
    built.clear()
    networks.let_go()
    networks.forward(pictures(60, 50, 1))
    assert built == [(60, 50, 1)]


def test_rows_of_a_pass_by_pixels():
    assert rows_for(224, 224) == 4
    assert rows_for(448, 224, threads=2) == 4
    assert rows_for(4000, 6000, threads=8) == 1
    assert rows_for(1, 1) == 64


def test_a_network_of_one_size_is_refused():
    taps = every_tap_kind()

    def load(size):
        height, width = size or (12, 12)
        return replace(taps, preprocessing=replace(taps.preprocessing, height=height, width=width))

    with pytest.raises(
        ConfigError, match=r"--resize none: taps cannot take .* FullyConnected 'dense'"
    ):
        OpenSize(load)


def test_a_picture_may_be_too_small(small):
    assert small.too_small(2, 2) is None


def test_a_network_that_is_let_go_of_leaves_no_circle(small, monkeypatch):
    """Until a circle is collected its memory is taken: hundreds of megabytes for each size."""
    made = []

    def bound(*given):
        made.append(BoundNetwork(*given))
        return made[-1]

    monkeypatch.setattr(sized_networks, "BoundNetwork", bound)
    networks = bind_sizes(small, ("two_relu",))
    gc.disable()
    try:
        for side in range(20, 40):
            layer = networks.forward(pictures(side, side)).layer("two_relu")
            METHODS["layercam"](layer, np.zeros((2, 1), np.int32))
            layer.of(layer.images).logits  # noqa: B018
        del layer
        went = [ref(network) for network in made]
        made.clear()
        assert [one() is None for one in went].count(False) == sized_networks.HELD
    finally:
        gc.enable()
