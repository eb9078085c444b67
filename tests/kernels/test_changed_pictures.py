"""Ranks, blurs, changed and imputed pictures: golden values, and what holds for any input."""

from __future__ import annotations

import numpy as np
import pytest

from shardcam import kernels
from shardcam.kernels.blurring import blur_taps
from tests.kernels import reference


@pytest.mark.parametrize(
    ("ties", "order"), [("falling", [4, 2, 1, 5, 3, 0]), ("rising", [4, 1, 2, 0, 3, 5])]
)
def test_the_order_of_equal_pixels(ties, order):
    """RISE's flip of a sort, and torchcam's stable one."""
    for zeros in ([0, 1, 1, 0, 2, 0], [-0.0, 1, 1, 0, 2, -0.0]):
        found = kernels.ranks(np.array([[zeros]], np.float32), ties)
        np.testing.assert_array_equal(np.argsort(found.ravel()), order)


def test_ranks_of_extreme_numbers():
    values = np.array([[[np.inf, 3e38, 1, 1e-45, 0, -1e-45, -3e38, -np.inf]]], np.float32)
    np.testing.assert_array_equal(kernels.ranks(values, "rising").ravel(), np.arange(8))
    np.testing.assert_array_equal(kernels.ranks(-values, "falling").ravel(), np.arange(8)[::-1])
    with pytest.raises(ValueError, match=r"^ties: expected one of rising, falling, got 'any'$"):
        kernels.ranks(values, "any")


def test_the_blur_of_rise():
    """Its kernel: a Gaussian filter of one pixel, with a border that reflects."""
    taps = blur_taps(11, 5.0).astype(np.float64)
    kernel = np.outer(taps, taps)
    assert kernel[5, 5] == pytest.approx(0.008832628216191647, rel=1e-6)
    assert kernel[0, 5] == pytest.approx(0.008266488021414163, rel=1e-6)
    assert kernel[0, 0] == pytest.approx(0.007736635408576913, rel=1e-6)
    assert kernel.sum() == pytest.approx(1, rel=1e-6)
    example = blur_taps(5, 1.0)[2].astype(np.float64) ** 2  # the paper's
    assert example == pytest.approx(0.15915589174187972, rel=1e-6)


def test_a_blur_fades_at_the_border():
    blurred = kernels.blur(np.ones((1, 1, 30, 40), np.float32), 11, 5.0)[0, 0]
    taps = blur_taps(11, 5.0)
    np.testing.assert_allclose(blurred[5:-5, 5:-5], 1, rtol=1e-6)
    assert blurred[0, 0] == pytest.approx(taps[5:].sum() ** 2, rel=1e-6)
    small = np.random.default_rng(0).standard_normal((1, 2, 3, 4), np.float32)
    expected = reference.blur(small, 11, 5.0)
    np.testing.assert_allclose(kernels.blur(small, 11, 5.0), expected, atol=1e-6)


def test_jobs_that_name_what_there_is_not():
    pictures, masks = np.zeros((2, 3, 4, 5), np.float32), np.zeros((3, 4, 5), np.float32)
    out = np.empty((1, 3, 4, 5), np.float32)
    for job in ([2, 0], [0, 3], [-1, 0]):
        with pytest.raises(ValueError, match=r"^jobs: expected numbers from 0 to below 2, 3$"):
            kernels.multiply(pictures, masks, np.array([job]), out)
    ranks = masks.astype(np.uint32)
    for job in ([2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 3, 0], [0, 0, 0, 21]):
        with pytest.raises(ValueError, match=r"^jobs: .* 0 to below 2, 2, 3, 21$"):
            kernels.switch(pictures, ranks, np.array([job]), out)


def test_imputation_of_rong():
    """Values of the authors' function, and of quantus', without noise."""
    y, x = np.mgrid[:5, :5]
    picture = np.stack([5 * y + x, (x - 2) ** 2]).astype(np.float32)
    removed = np.zeros(25, np.uint8)
    removed[[0, 12, 13, 24]] = 1
    found = kernels.impute(picture, removed.reshape(5, 5), 1e-6, np.empty_like(picture))
    expected = [[3.6, 12, 13, 20.4], [2.2, 0.8, 1.8, 2.2]]
    np.testing.assert_allclose(found.reshape(2, 25)[:, removed == 1], expected, atol=1e-5)
    np.testing.assert_array_equal(found.reshape(2, 25)[:, removed == 0],
                                  picture.reshape(2, 25)[:, removed == 0])  # fmt: skip


def masks(rng):
    """Scattered pixels, all but one, none, a block, a frame, and pictures of one row."""
    for height, width in ((16, 16), (17, 23), (5, 31), (1, 40), (33, 8)):
        yield (rng.random((height, width)) < 0.5).astype(np.uint8)
        yield (rng.permutation(height * width) > 0).astype(np.uint8).reshape(height, width)
        yield np.zeros((height, width), np.uint8)
        block = np.zeros((height, width), np.uint8)
        block[height // 4 :, width // 4 : -1] = 1
        yield block
        yield 1 - block


def test_imputation_solves_the_system_of_any_mask(rng):
    for removed in masks(rng):
        picture = rng.standard_normal((3, *removed.shape), np.float32)
        expected = reference.impute(picture, removed, 0, np.empty_like(picture))
        exact = kernels.impute(picture, removed, 1e-6, np.empty_like(picture))
        np.testing.assert_allclose(exact, expected, atol=1e-4)  # of float32
        near = kernels.impute(picture, removed, 1e-3, np.empty_like(picture))
        np.testing.assert_allclose(near, expected, atol=2e-3)
        changed = np.where(removed, np.float32(1e6), picture)
        again = kernels.impute(changed, removed, 1e-3, np.empty_like(picture))
        np.testing.assert_array_equal(again, near)  # what was there leaves no trace


def test_imputation_of_a_large_picture(rng):
    """A ramp is its own mean of neighbours, but for the rim."""
    y, x = np.mgrid[:224, :224].astype(np.float32) / 224
    picture = np.stack([y, x, 1 - x])
    removed = np.zeros((224, 224), np.uint8)
    removed[10:-10, 20:-30] = 1
    found = kernels.impute(picture, removed, 1e-4, np.empty_like(picture))
    np.testing.assert_allclose(found, picture, atol=1e-4)


def test_imputation_needs_a_pixel_and_a_tolerance():
    picture = np.ones((1, 2, 2), np.float32)
    with pytest.raises(ValueError, match=r"^removed: expected at least one pixel that is not$"):
        kernels.impute(picture, np.ones((2, 2), np.uint8), 1e-4, picture.copy())
    for tolerance in (0, -1, np.nan):
        with pytest.raises(ValueError, match=r"^tolerance: expected a positive number"):
            kernels.impute(picture, np.zeros((2, 2), np.uint8), tolerance, picture.copy())


def noise(key, shape=(3, 64, 64), scale=(1, 1, 1)):
    removed = np.ones(shape[1:], np.uint8)
    zeros = np.zeros(shape, np.float32)
    return kernels.add_noise(zeros, removed, np.array(scale, np.float32), key)


def split_mix(seed):
    """The published generator, number by number."""
    limit = (1 << 64) - 1
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & limit
        word = (seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9 & limit
        word = (word ^ (word >> 27)) * 0x94D049BB133111EB & limit
        yield word ^ (word >> 31)


def test_noise_is_what_its_description_says():
    state = 0
    for number in (3, 14, 20):
        state = next(split_mix(state + number))
    words = split_mix(state)
    found = noise((3, 14, 20), (2, 3, 5), (1, 0.5))
    for place, value in np.ndenumerate(found):
        word = next(words)
        radius, turn = ((word >> 32) + 1) / 2**32, (word & 0xFFFFFFFF) / 2**32
        normal = np.sqrt(-2 * np.log(radius)) * np.cos(2 * np.pi * turn)
        assert value == pytest.approx(normal * (1, 0.5)[place[0]], abs=1e-6)


def test_noise_is_normal_and_of_its_key_alone():
    one = noise((0, 5, 20))
    np.testing.assert_array_equal(noise((0, 5, 20)), one)
    every = np.stack([one, *(noise(key) for key in ((1, 5, 20), (0, 6, 20), (0, 5, 40)))])
    flat = every.reshape(12, -1)
    assert abs(np.corrcoef(flat) - np.eye(12)).max() < 0.06
    assert abs(flat.mean()) < 0.02
    assert abs(flat.std() - 1) < 0.02
    assert np.mean(abs(flat) > 1.96) == pytest.approx(0.05, abs=0.005)


def test_noise_is_added_to_removed_pixels_only():
    removed = np.zeros((4, 6), np.uint8)
    removed[1:3, 2] = 1
    picture = np.full((2, 4, 6), 7, np.float32)
    found = kernels.add_noise(picture, removed, np.array([0.1, 0], np.float32), (1, 2))
    assert found is picture
    whole = noise((1, 2), (2, 4, 6), (0.1, 0))
    np.testing.assert_allclose(picture, 7 + np.where(removed, whole, 0), atol=1e-6)
