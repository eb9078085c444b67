"""Pictures that units respond to."""

import numpy as np
import pytest

from shardcam.engine.models.activation_maximisation import maximise_activation
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.unit_gradients import UnitGradients
from shardcam.engine.types import Preprocessing

SIZE = 96


@pytest.fixture(scope="module")
def lite0():
    return load_network("efficientnet_lite0", image_size=SIZE)


@pytest.mark.parametrize(
    ("layer", "units"),
    [
        ("block11_expand_relu6", [0, 300, 500]),
        ("head_relu6", [0, 400, 800]),
        ("fc", [130, 340, 949]),
    ],
)
def test_activation_rises_at_least_tenfold(lite0, layer, units):
    """Early rectified channels respond to flat grey as well, and cannot: these can."""
    gradients, units = UnitGradients(lite0, layer, len(units)), np.array(units, np.int32)
    field = np.inf if layer == "fc" else SIZE
    found = maximise_activation(gradients.of, units, lite0.preprocessing, field, steps=40, seed=0)
    assert (found.end > 10 * abs(found.start)).all(), (found.start, found.end)
    assert (found.end > 0.5).all()
    assert found.pictures.shape == (len(units), SIZE, SIZE, 3)
    assert found.pictures.dtype == np.uint8


def test_the_class_is_recognised(lite0):
    """The zebra's picture, as it is saved, is a zebra for the network."""
    units = np.array([340, 949], np.int32)
    gradients = UnitGradients(lite0, "fc", 2).of
    made = maximise_activation(gradients, units, lite0.preprocessing, np.inf, steps=40)
    images = (made.pictures.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128
    logits = MxnetNetwork(lite0, ("auto",), 2).forward(images).logits
    assert logits.argmax(axis=1).tolist() == units.tolist()


def test_the_same_seed_gives_the_same_picture_in_any_company(lite0):
    arguments = {"preprocessing": lite0.preprocessing, "field": SIZE, "steps": 3}
    gradients = UnitGradients(lite0, "block2_add", 2).of
    two = maximise_activation(gradients, np.array([1, 5], np.int32), **arguments, seed=7)
    one = maximise_activation(gradients, np.array([5], np.int32), **arguments, seed=7)
    other = maximise_activation(gradients, np.array([5], np.int32), **arguments, seed=8)
    assert abs(one.pictures[0].astype(int) - two.pictures[1]).max() <= 2
    assert abs(one.pictures.astype(int) - other.pictures).max() > 50


def linear(pattern):
    """A unit that measures how much of a pattern is in the picture."""

    def gradient_of(images, units):
        return (images * pattern).sum((1, 2, 3)), np.repeat(pattern[None], len(images), axis=0)

    return gradient_of


@pytest.mark.parametrize("channels", [1, 3])
def test_a_linear_unit_gets_its_own_pattern(channels):
    """Bright where the weights are positive; moved and turned a little on the way."""
    y, x = np.mgrid[:32, :32] - 15.5
    blob = np.exp(-(y**2 + x**2) / 60).astype(np.float32) - 0.2
    pattern = np.repeat(blob[None], channels, axis=0)
    seen = Preprocessing(32, 32, (127.0,) * channels, (128.0,) * channels)
    unit = np.array([0], np.int32)
    found = maximise_activation(linear(pattern), unit, seen, field=32, steps=60)
    gray = found.pictures[0].mean(axis=2)
    assert found.pictures.shape == (1, 32, 32, 3)
    assert np.corrcoef(gray.ravel(), blob.ravel())[0, 1] > 0.8
    assert found.end > 10 * abs(found.start)


def test_slope_is_the_gradient():
    """The way from the input's gradient to the coefficients', against differences in float64."""
    from shardcam.engine.models.activation_maximisation import _Canvas

    seen = Preprocessing(12, 10, (120.0, 110.0, 100.0), (60.0, 50.0, 70.0))
    canvas, rng = _Canvas(seen, field=12), np.random.default_rng(0)
    spectrum, pattern = canvas.noise(rng), rng.standard_normal((1, 3, 12, 10)).astype(np.float32)

    def value(at):
        return float((canvas.images(canvas.colours(at)).astype(np.float64) * pattern).sum())

    slope = canvas.slope(pattern, canvas.colours(spectrum))[0]
    ratios = []
    for place in [(0, 1, 1, 0), (1, 2, 3, 1), (2, 11, 2, 0), (0, 5, 4, 1)]:
        step = np.zeros_like(spectrum)
        step[(0, *place)] = 0.05
        ratios.append((value(spectrum + step) - value(spectrum - step)) / 0.1 / slope[place])
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-2)  # its scale is arbitrary
    assert ratios[0] > 0


def test_what_does_not_respond_stays_flat():
    """No gradient, no step, no NaN."""
    seen = Preprocessing(16, 16, mean=(0.0,), std=(255.0,))
    silent = linear(np.zeros((1, 16, 16), np.float32))
    found = maximise_activation(silent, np.array([0]), seen, 16, 4)
    assert found.start == found.end == 0
