"""Raw maps and their scales: values by hand, odd maps, and properties for any input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.kernels import ALL_ZERO, CONSTANT, NON_FINITE
from tests.kernels import reference
from tests.kernels.table import arrays

few = settings(max_examples=25, deadline=None)
finite = st.floats(allow_nan=False, allow_infinity=False, width=32)
map_stacks = hnp.array_shapes(min_dims=4, max_dims=4, max_side=4)
TINY = np.float32(1e-45)  # the smallest number above zero
HUGE = np.finfo(np.float32).max


def test_weighted_sum_keeps_the_sign() -> None:
    activation = np.array([[[[1, 2]], [[3, -4]]]], np.float32)
    weight = np.array([[[1, -1], [0, 2]]], np.float32)
    raw = kernels.weighted_sum(activation, weight)
    np.testing.assert_array_equal(raw, [[[[-2, 6]], [[6, -8]]]])


@pytest.mark.parametrize("channels", [1, 7, 8, 9, 16, 23])
def test_weighted_sum_adds_every_channel_once(channels: int) -> None:
    activation = 2.0 ** np.arange(channels, dtype=np.float32).reshape(1, channels, 1, 1)
    raw = kernels.weighted_sum(activation, np.ones((1, 1, channels), np.float32))
    assert raw.item() == 2**channels - 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 8])
def test_weighted_sum_passes_on_what_is_not_finite(bad: float, channel: int) -> None:
    activation = np.ones((1, 9, 1, 3), np.float32)
    activation[0, channel, 0, 1] = bad
    raw = kernels.weighted_sum(activation, np.ones((1, 1, 9), np.float32))
    np.testing.assert_array_equal(raw, [[[[9, bad, 9]]]])


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 9), (7, 7), (9, 7), (1, 64), (5, 13), (8, 17), (40, 26)]
)
def test_weighted_sum_of_any_size_of_map(shape: tuple[int, int], rng: np.random.Generator) -> None:
    activation = rng.standard_normal((2, 19, *shape), dtype=np.float32)
    weight = rng.standard_normal((2, 3, 19), dtype=np.float32)
    raw = kernels.weighted_sum(activation, weight)
    np.testing.assert_allclose(
        raw, reference.weighted_sum(activation, weight), rtol=1e-5, atol=1e-5
    )


@few
@given(shape=hnp.array_shapes(min_dims=5, max_dims=5, max_side=4), seed=st.integers(0, 99))
def test_weighted_sum_of_a_map_ignores_the_rest_of_the_batch(
    shape: tuple[int, ...], seed: int
) -> None:
    n, k, c, h, w = shape
    rng = np.random.default_rng(seed)
    activation = rng.standard_normal((n, 5 * c, h, w), dtype=np.float32)
    weight = rng.standard_normal((n, k, 5 * c), dtype=np.float32)
    together = kernels.weighted_sum(activation, weight)
    np.testing.assert_allclose(
        together, reference.weighted_sum(activation, weight), rtol=1e-5, atol=1e-5
    )
    alone = kernels.weighted_sum(activation[-1:], weight[-1:, -1:].copy())
    np.testing.assert_array_equal(together[-1:, -1:], alone)


@pytest.mark.parametrize(
    ("relu", "expected"), [("none", [[-5, 9]]), ("factor", [[1, 9]]), ("product", [[1, 12]])]
)
def test_product_sum_by_hand(relu: str, expected: list[list[float]]) -> None:
    activation = np.array([[[[1, -3]], [[2, 4]]]], np.float32)
    factor = np.array([[[[1, 1]], [[-3, 3]]]], np.float32)
    np.testing.assert_array_equal(kernels.product_sum(activation, factor, relu), [expected])


@pytest.mark.parametrize("relu", ["none", "factor", "product"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channel", [0, 8])
def test_product_sum_passes_on_what_is_not_finite(relu: str, bad: float, channel: int) -> None:
    factor = np.ones((1, 9, 1, 3), np.float32)
    factor[0, channel, 0, 1] = bad
    raw = kernels.product_sum(np.ones_like(factor), factor, relu)
    middle = 8 if bad == -np.inf and relu != "none" else bad
    np.testing.assert_array_equal(raw, [[[9, middle, 9]]])


@few
@given(
    shape=hnp.array_shapes(min_dims=4, max_dims=4, max_side=5),
    relu=st.sampled_from(["none", "factor", "product"]),
    seed=st.integers(0, 99),
)
def test_product_sum_of_a_map_ignores_the_rest_of_the_batch(
    shape: tuple[int, ...], relu: str, seed: int
) -> None:
    n, c, h, w = shape
    rng = np.random.default_rng(seed)
    activation, factor = rng.standard_normal((2, n, 4 * c, h, w), dtype=np.float32)
    together = kernels.product_sum(activation, factor, relu)
    np.testing.assert_allclose(
        together, reference.product_sum(activation, factor, relu), rtol=1e-5, atol=1e-5
    )
    # A copy, so that the map lies at another address too.
    alone = kernels.product_sum(activation[-1:].copy(), factor[-1:].copy(), relu)
    np.testing.assert_array_equal(together[-1:], alone)


@pytest.mark.parametrize(
    ("raw", "scale", "flags"),
    [
        ([[0, 4], [28, 32.5]], 32.5, 0),
        ([[-40, 4], [28, 32.5]], 40, 0),
        ([[-3, -1]], 3, ALL_ZERO),
        ([[-3, 0]], 3, ALL_ZERO),
        ([[0, 0, 0]], 0, ALL_ZERO | CONSTANT),
        ([[-2, -2]], 2, ALL_ZERO | CONSTANT),
        ([[2, 2]], 2, CONSTANT),
        ([[7]], 7, CONSTANT),
        ([[TINY, -TINY, 0]], TINY, 0),
        ([[HUGE, -HUGE, 1]], HUGE, 0),
        ([[1, np.nan]], 0, NON_FINITE),
        ([[np.nan, np.nan]], 0, NON_FINITE),
        ([[np.inf, 1]], 0, NON_FINITE),
        ([[-np.inf, -np.inf]], 0, NON_FINITE),
    ],
)
def test_scale_maps_by_hand(raw: list[list[float]], scale: float, flags: int) -> None:
    array = np.array([[raw]], np.float32)
    unit, found_scale, found_flags = kernels.scale_maps(array)
    assert found_scale.item() == np.float32(scale)
    assert found_flags.item() == flags
    expected = array / np.float32(scale) if scale else np.zeros_like(array)
    np.testing.assert_array_equal(unit, expected)


@few
@given(raw=hnp.arrays(np.float32, map_stacks, elements=finite))
def test_scale_maps_can_be_undone(raw: NDArray[Any]) -> None:
    unit, scale, _ = kernels.scale_maps(raw)
    assert np.abs(unit).max() <= 1
    np.testing.assert_array_equal(scale, np.abs(raw).max(axis=(2, 3)))
    # `unit` has no digits below TINY, nor has `raw`.
    lost = TINY * np.maximum(1.0, scale)[..., None, None]
    assert (np.abs(unit * scale[..., None, None] - raw) <= 1e-6 * np.abs(raw) + lost).all()


@few
@given(raw=hnp.arrays(np.float32, map_stacks, elements=st.floats(width=32)))
def test_scale_maps_equals_its_twin_on_anything(raw: NDArray[Any]) -> None:
    pairs = zip(arrays(kernels.scale_maps(raw)), arrays(reference.scale_maps(raw)), strict=True)
    for one, other in pairs:
        np.testing.assert_array_equal(one, other)
        assert np.isfinite(one).all()
