"""Heatmaps, colours and overlays against OpenCV, pytorch-grad-cam's recipe and hand values."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from shardcam import kernels
from tests.kernels import reference
from tests.kernels.table import JET, only_compiled

few = settings(max_examples=25, deadline=None)
sides = st.integers(1, 12)
# A convolution of 1 to 2 channels, a dense layer, Grad-CAM: small enough to follow on paper.
HAND_MAP = np.array([[0, 4], [28, 32.5]], np.float32)
HAND_HEATMAP = [
    [0.0, 1.0, 3.0, 4.0],
    [7.0, 8.03125, 10.09375, 11.125],
    [21.0, 22.09375, 24.28125, 25.375],
    [28.0, 29.125, 31.375, 32.5],
]
DULL_MAPS = [
    pytest.param([[np.nan, 1, 2]], id="nan"),
    pytest.param([[np.inf, 1, 2]], id="inf"),
    pytest.param([[-np.inf, 1, 2]], id="-inf"),
    pytest.param([[5, 5, 5]], id="constant"),
    pytest.param([[0, 0, 0]], id="zero"),
    pytest.param([[-3, -2, -1]], id="negative"),
    pytest.param([[9]], id="one number"),
]


def grad_cam_heatmap(raw: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """pytorch-grad-cam's way from a raw map to a heatmap in [0, 1]."""
    enlarged = cv2.resize(_to_unit(np.maximum(raw, 0)).astype(np.float32), size[::-1])
    return _to_unit(np.asarray(enlarged))


def _to_unit(cam: NDArray[Any]) -> NDArray[Any]:
    cam = cam - np.min(cam)
    return np.asarray(cam / (1e-7 + np.max(cam)))


def grad_cam_picture(heatmap: NDArray[Any], image: NDArray[Any], peak: bool) -> NDArray[Any]:
    """pytorch-grad-cam's way from a heatmap to a picture; `peak` is its division by the maximum."""
    colours = cv2.applyColorMap((255 * heatmap).astype(np.uint8), cv2.COLORMAP_JET)
    heat = np.asarray(cv2.cvtColor(colours, cv2.COLOR_BGR2RGB)).astype(np.float32) / 255
    cam = 0.5 * heat + 0.5 * (image.astype(np.float32) / 255)
    cam = 255 * (cam / np.max(cam) if peak else cam)
    return cam.astype(np.uint8)


def test_the_map_checked_by_hand() -> None:
    heatmap = kernels.upsample(kernels.normalize(HAND_MAP[None]), (4, 4))[0]
    np.testing.assert_allclose(heatmap * 32.5, HAND_HEATMAP, atol=1e-5)
    levels = kernels.heatmap_u8(HAND_MAP[None], (4, 4))[0]
    np.testing.assert_array_equal(levels, np.uint8(np.array(HAND_HEATMAP) / 32.5 * 254.9999))


def test_normalize_takes_the_minimum_after_relu() -> None:
    maps = np.array([[[-8, 1, 4]], [[2, 3, 4]]], np.float32)
    np.testing.assert_allclose(kernels.normalize(maps), [[[0, 0.25, 1]], [[0, 0.5, 1]]], atol=1e-6)


def test_normalize_adds_its_epsilon_after_the_minimum_is_gone() -> None:
    maps = np.array([[[1.0, 1.0 + 2**-20]]], np.float32)
    expected = 2**-20 / (2**-20 + 1e-7)
    np.testing.assert_allclose(kernels.normalize(maps)[0, 0], [0, expected], rtol=1e-6)


@pytest.mark.parametrize("raw", DULL_MAPS)
def test_a_map_that_shows_nothing_becomes_zeros(raw: list[list[float]]) -> None:
    maps = np.array([raw, np.arange(len(raw[0])).reshape(1, -1)], np.float32)
    assert not kernels.normalize(maps)[0].any()
    assert not kernels.heatmap_u8(maps, (4, 7))[0].any()
    np.testing.assert_array_equal(kernels.normalize(maps)[1:], kernels.normalize(maps[1:]))

    image = np.full((4, 7, 3), 100, np.uint8)
    picture = kernels.overlay(maps[0], image, JET)
    np.testing.assert_array_equal(picture, np.broadcast_to([50, 50, 114], image.shape))


@pytest.mark.parametrize(
    ("shape", "size"), [((1, 6), (70, 1)), ((6, 1), (1, 70)), ((5, 6), (1, 1))]
)
def test_a_map_seen_at_one_point_only_is_constant(
    shape: tuple[int, int], size: tuple[int, int]
) -> None:
    for seed in range(20):
        maps = np.random.default_rng(seed).random((1, *shape), dtype=np.float32)
        assert not kernels.heatmap_u8(maps, size).any()


@few
@given(
    maps=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=3, max_dims=3, max_side=4),
        elements=st.floats(width=32),
    )
)
def test_normalize_stays_in_range_and_equals_its_twin_on_anything(maps: NDArray[Any]) -> None:
    heatmaps = kernels.normalize(maps)
    assert heatmaps.min() >= 0
    assert heatmaps.max() <= 1
    np.testing.assert_array_equal(heatmaps, reference.normalize(maps))


@few
@given(h=sides, w=sides, height=sides, width=sides, seed=st.integers(0, 99))
@example(h=1, w=1, height=5, width=4, seed=0)
@example(h=1, w=6, height=12, width=12, seed=0)
@example(h=7, w=7, height=7, width=7, seed=0)
@example(h=8, w=12, height=4, width=6, seed=0)
def test_upsample_is_opencv_resize(h: int, w: int, height: int, width: int, seed: int) -> None:
    maps = np.random.default_rng(seed).standard_normal((2, h, w), dtype=np.float32)
    resized = [cv2.resize(m, (width, height), interpolation=cv2.INTER_LINEAR) for m in maps]
    np.testing.assert_allclose(kernels.upsample(maps, (height, width)), resized, atol=2e-6)


@pytest.mark.parametrize("size", [(24, 31), (8, 8), (3, 40)])
@pytest.mark.parametrize("peak", [False, True])
def test_overlay_is_pytorch_grad_cams_picture(
    size: tuple[int, int], peak: bool, rng: np.random.Generator
) -> None:
    for _ in range(5):
        raw = rng.standard_normal((7, 5), dtype=np.float32)
        image = rng.integers(0, 200, (*size, 3), dtype=np.uint8)
        theirs = grad_cam_picture(grad_cam_heatmap(raw, size), image, peak)
        ours = kernels.overlay(raw, image, JET, peak_normalize=peak)
        difference = np.abs(ours.astype(int) - theirs)
        assert np.mean(difference <= 1) > 0.99  # the rest: a level on the other side of its edge
        assert difference.max() <= 4
        if peak:
            assert ours.max() == 255


def test_overlay_shows_the_map_as_red_where_it_is_high() -> None:
    raw = np.array([[0, 1]], np.float32)
    picture = kernels.overlay(raw, np.zeros((2, 6, 3), np.uint8), JET, alpha=1)
    assert picture[:, 0].tolist() == [[0, 0, 128], [0, 0, 128]]
    assert picture[0, -1].tolist() in ([128, 0, 0], [132, 0, 0])


@pytest.mark.parametrize("peak", [False, True])
def test_overlay_at_the_ends_of_alpha(peak: bool, rng: np.random.Generator) -> None:
    raw = rng.random((3, 3), dtype=np.float32)
    image = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image[0, 0, 0] = 255
    np.testing.assert_array_equal(kernels.overlay(raw, image, JET, 0.0, peak), image)
    heat = JET[kernels.heatmap_u8(raw[None], (6, 5))[0]]
    assert heat.max() == 255
    np.testing.assert_array_equal(kernels.overlay(raw, image, JET, 1.0, peak), heat)


def test_overlay_of_black_on_black_is_black() -> None:
    black = np.zeros((2, 2, 3), np.uint8)
    picture = kernels.overlay(HAND_MAP, black, np.zeros_like(JET), peak_normalize=True)
    np.testing.assert_array_equal(picture, black)


@pytest.mark.parametrize("alpha", [0.0, 0.25, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("peak", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 70), (70, 1), (3, 63), (3, 64), (3, 65), (5, 150)])
def test_overlay_of_any_width_and_share_equals_its_twin(
    size: tuple[int, int], peak: bool, alpha: float, rng: np.random.Generator
) -> None:
    table = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    for shape in ((1, 1), (1, 6), (6, 1), (4, 7)):
        raw = rng.standard_normal(shape, dtype=np.float32)
        ours = kernels.overlay(raw, image, table, alpha, peak)
        theirs = reference.overlay(raw, image, table, alpha, peak)
        # A level on the other side of its edge is a pixel of any other colour.
        same = (np.abs(ours.astype(int) - theirs) <= 1).all(axis=2)
        assert (~same).sum() <= max(3, 0.01 * same.size)


@only_compiled
@pytest.mark.parametrize("peak", [False, True])
def test_overlay_of_six_million_pixels(peak: bool, rng: np.random.Generator) -> None:
    raw = rng.standard_normal((7, 7), dtype=np.float32)
    image = rng.integers(0, 256, (2000, 3000, 3), dtype=np.uint8)
    difference = np.abs(
        kernels.overlay(raw, image, JET, peak_normalize=peak).astype(np.int16)
        - reference.overlay(raw, image, JET, peak_normalize=peak)
    )
    assert difference.max() <= 5
    assert np.mean(difference > 0) <= 0.001


def test_planar_by_hand() -> None:
    image = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    mean, std = np.array([1, 2, 3], np.float32), np.array([1, 2, 4], np.float32)
    out = kernels.planar(image, mean, std, np.empty((3, 1, 2), np.float32))
    assert out.tolist() == [[[0, 3]], [[0, 1.5]], [[0, 0.75]]]


def test_planar_of_every_byte_equals_its_twin() -> None:
    image = np.arange(3 * 256, dtype=np.uint8).reshape(16, 16, 3)
    mean, std = np.array([127, 116.3, 0], np.float32), np.array([128, 57.1, 255], np.float32)
    expected = reference.planar(image, mean, std, np.empty((3, 16, 16), np.float32))
    out = kernels.planar(image, mean, std, np.empty((3, 16, 16), np.float32))
    np.testing.assert_array_equal(out, expected)
