"""The gradient of a unit with regard to the network's input."""

import numpy as np
import pytest

from shardcam.engine.models.unit_gradients import UnitGradients
from tests.models.networks import every_tap_kind
from tests.models.test_taps import eager

ENTERS = {"e_relu": "e_bn", "b_relu": "b_bn"}  # what a rectifier is driven by
UNITS = np.array([3, 0, 4], np.int32)


@pytest.fixture(scope="module")
def definition():
    return every_tap_kind()


@pytest.fixture(scope="module")
def images():
    return np.random.RandomState(1).standard_normal((3, 3, 12, 12)).astype(np.float32)


def means(definition, images, layer):
    values = eager(definition, images, layer)[0]
    return values.reshape(*values.shape[:2], -1).mean(axis=2)[np.arange(len(images)), UNITS]


@pytest.mark.parametrize("layer", ["b_conv", "b_relu", "add", "concat", "pool", "e_relu", "dense"])
def test_value_and_gradient_equal_float64(definition, images, layer):
    """Batch statistics, max-pooling's workspace and a fused graph each break this."""
    gradients = UnitGradients(definition, layer, batch_size=4)
    values, gradient = gradients.of(images, UNITS)
    np.testing.assert_allclose(values, means(definition, images, layer), rtol=1e-4, atol=1e-5)
    driven = ENTERS.get(layer, layer)
    rng, step = np.random.RandomState(2), 1e-6
    for _ in range(3):
        way = rng.standard_normal(images.shape)
        up, down = (means(definition, images + sign * step * way, driven) for sign in (1, -1))
        slope = (up - down) / (2 * step)
        np.testing.assert_allclose((gradient * way).sum((1, 2, 3)), slope, rtol=1e-3, atol=1e-4)
        assert abs(slope).max() > 1e-3


def test_a_shut_rectifier_still_has_a_way_up(definition, images):
    """Units that are silent at the start could never be maximised."""
    gradients = UnitGradients(definition, "e_relu", batch_size=3)
    entering = eager(definition, images * 50, "e_bn")[0]
    image, unit = np.argwhere((entering < 0).all(axis=(2, 3)))[0]
    values, gradient = gradients.of(images[image : image + 1] * 50, np.array([unit], np.int32))
    assert values[0] == 0
    assert abs(gradient).max() > 0


def test_images_of_a_batch_do_not_know_each_other(definition, images):
    gradients = UnitGradients(definition, "dense", batch_size=3)
    together = gradients.of(images, UNITS)[1]
    alone = gradients.of(images[1:2], UNITS[1:2])[1]
    np.testing.assert_allclose(alone[0], together[1], rtol=1e-4, atol=1e-6)
