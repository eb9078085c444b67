"""Weights rounded for what comes out, against numpy's windows, and against MXNet's rounding."""

import mxnet as mx
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from shardcam.engine.models.bound_program import Program
from shardcam.engine.models.precision import lower
from shardcam.engine.models.weight_rounding import Site, Window, nearest, on_steps, steps_off
from shardcam.engine.types import Quantization

SITES = [  # and the side of a picture of which all places count
    (Site("w", (3, 3), (2, 2), (1, 1), (1, 1), 1), 4),
    (Site("w", (3, 3), (1, 1), (2, 2), (2, 2), 2), 2),
    (Site("w", (1, 5), (1, 1), (0, 2), (1, 1), 1), 2),
]


@pytest.mark.parametrize(("site", "side"), SITES)
def test_moments_are_those_of_the_inputs_of_an_output(site, side):
    data = np.random.RandomState(0).standard_normal((3, 4, side, side)).astype(np.float32)
    (top, left), (down, right) = site.pad, site.dilate
    padded = np.pad(data, ((0, 0), (0, 0), (top, top), (left, left)))
    spans = [(k - 1) * d + 1 for k, d in zip(site.kernel, site.dilate)]
    windows = sliding_window_view(padded, spans, (2, 3))
    windows = windows[:, :, :: site.stride[0], :: site.stride[1], ::down, ::right]
    patches = windows.transpose(1, 4, 5, 0, 2, 3).reshape(
        site.groups, -1, windows[:, 0, :, :, 0, 0].size
    )
    expected = patches @ patches.transpose(0, 2, 1)
    seen = []
    for window in site.windows(data.shape):
        (top, left), (bottom, right) = window.box
        seen.append(window.seen(data[:, :, top:bottom, left:right]))
    np.testing.assert_allclose(site.moments(np.stack(seen)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("rows", "side"), [([-2, 0, 2], 3), ([0, 2, 4], 4), ([-1], 2), ([0, 1], 2)]
)
def test_a_window_reads_zeros_outside_of_the_picture(rows, side):
    """Also where what is inside is as large as the window."""
    data = np.random.RandomState(0).standard_normal((2, 3, side, side)).astype(np.float32)
    window = Window.of(np.array(rows), np.array(rows), side, side)
    expected = np.pad(data, ((0, 0), (0, 0), (2, 2), (2, 2)))[:, :, np.add(rows, 2)]
    expected = expected[..., np.add(rows, 2)]
    (top, left), (bottom, right) = window.box
    found = window.seen(data[:, :, top:bottom, left:right])
    np.testing.assert_array_equal(found, expected)


def test_site_of_an_operator():
    attrs = {"kernel": "(3, 3)", "stride": "(2, 2)", "num_group": "8", "num_filter": "8"}
    assert Site.of("w", attrs) == Site("w", (3, 3), (2, 2), (0, 0), (1, 1), 8)


@pytest.mark.parametrize(("groups", "inputs"), [(1, 48), (16, 9)])
def test_outputs_of_inputs_that_are_alike_change_less(groups, inputs):
    random = np.random.RandomState(1)
    weight = random.standard_normal((16, inputs, 1, 1)).astype(np.float32)
    seen = random.standard_normal((groups, inputs, 400)) + 5 * random.standard_normal(
        (groups, 1, 400)
    )
    rounded = on_steps(weight, steps_off(weight, seen @ seen.transpose(0, 2, 1)))

    def error(of):  # once MXNet has rounded, too
        return np.linalg.norm((nearest(of) - weight).reshape(groups, -1, inputs) @ seen)

    assert error(rounded) < 0.5 * error(weight)
    step = np.abs(weight).max(axis=(1, 2, 3), keepdims=True) / 127.5
    levels = np.sort(np.abs(rounded / step).reshape(16, inputs))[:, :-1]  # but the largest
    np.testing.assert_allclose(levels, np.rint(levels), atol=1e-4)  # MXNet rounds nothing more
    np.testing.assert_allclose(
        np.abs(rounded).max(axis=(1, 2, 3)), np.abs(weight).max(axis=(1, 2, 3)), rtol=1e-6
    )


def test_channels_that_are_zero_and_inputs_that_are_stay_finite():
    weight = np.zeros((2, 3, 1, 1), np.float32)
    weight[0] = 1
    off = steps_off(weight, np.zeros((1, 3, 3)))
    np.testing.assert_allclose(on_steps(weight, off), weight, rtol=4e-3)  # half a step of 127


def test_steps_of_other_kernels_are_left():
    weight = np.full((2, 3, 1, 1), 0.3, np.float32)
    off = steps_off(np.ones((2, 2, 1, 1), np.float32), np.eye(2)[None])
    assert on_steps(weight, off) is weight
    with pytest.raises(ValueError):
        on_steps(weight, "no base64")


def test_mxnet_rounds_to_the_nearest_of_these_steps():
    """Seen by its int8 convolution of pictures in which one channel is 255, the others 0."""
    random = np.random.RandomState(2)
    weight = random.uniform(-1, 1, (64, 24, 1, 1)).astype(np.float32)
    peaks = random.uniform(1, 1.001, 64).astype(np.float32)
    weight[np.arange(64), random.randint(24, size=64), 0, 0] = peaks * random.choice([-1, 1], 64)
    data, name = mx.sym.var("data"), mx.sym.var("c_weight")
    convolution = mx.sym.Convolution(
        data, name, name="c", kernel=(1, 1), num_filter=64, no_bias=True
    )
    symbol = mx.sym.Group([mx.sym.BlockGrad(convolution)])
    program = Program(symbol, {"c_weight": mx.nd.array(weight)}, {}, mx.cpu())
    most = float(255 * peaks.max())
    ranges = {"data": (0.0, 255.5), "sg_mkldnn_conv_0_output": (-most, most)}
    lowered = lower(program, "int8", Quantization(ranges, keep_first=False))
    pictures = 255 * np.eye(24, dtype=np.float32)[:, :, None, None]
    (seen,) = lowered.bind({"data": mx.nd.array(pictures)}).forward(is_train=False)
    levels = np.rint(seen.asnumpy()[:, :, 0, 0].T * (127.5 / most))
    expected = np.rint(nearest(weight)[:, :, 0, 0] * (127.5 / peaks[:, None]))
    assert {127, -128} <= {*expected.ravel()}
    np.testing.assert_array_equal(levels, expected)
