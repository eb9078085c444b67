"""`similarity` and `ssim` against SciPy, scikit-image and plain counting."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from skimage.metrics import structural_similarity

from shardcam import kernels
from tests.kernels.table import only_compiled

Maps = NDArray[np.float32]


def pairs(rng: np.random.Generator, count: int, size: tuple[int, int]) -> tuple[Maps, Maps]:
    """Related maps, half of them with many ties."""
    first = rng.standard_normal((count, *size))
    second = 0.6 * first + rng.standard_normal((count, *size))
    first[::2], second[::2] = first[::2].round(), second[::2].round()
    return first.astype(np.float32), second.astype(np.float32)


def highest(values: NDArray[np.float32]) -> set[int]:
    flat = values.ravel()
    kept = -(-flat.size // 5)
    return {i for i, value in enumerate(flat) if (flat > value).sum() < kept}


@pytest.mark.parametrize("size", [(7, 7), (1, 5), (13, 4), (2, 1)])
def test_equals_scipy_and_counting(size: tuple[int, int], rng: np.random.Generator) -> None:
    first, second = pairs(rng, 12, size)
    found = kernels.similarity(first, second)
    for a, b, row in zip(first, second, found, strict=True):
        if a.min() == a.max() or b.min() == b.max():
            assert np.isnan(row).all()
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of absolute values that are constant
            absolute = stats.spearmanr(abs(a).ravel(), abs(b).ravel()).statistic
        both, either = highest(a) & highest(b), highest(a) | highest(b)
        expected = [
            stats.pearsonr(a.ravel().astype(float), b.ravel().astype(float)).statistic,
            stats.spearmanr(a.ravel(), b.ravel()).statistic,
            absolute,
            len(both) / len(either),
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "size", [(11, 11), (16, 12), pytest.param((224, 224), marks=only_compiled)]
)
def test_ssim_is_that_of_scikit_image(size: tuple[int, int], rng: np.random.Generator) -> None:
    coarse = pairs(rng, 3, (7, 7))
    first, second = (kernels.upsample(maps, size) for maps in coarse)
    found = kernels.ssim(first, second)
    for a, b, value in zip(first.astype(float), second.astype(float), found, strict=True):
        a, b = ((x - x.min()) / (x.max() - x.min()) for x in (a, b))
        expected = structural_similarity(a, b, gaussian_weights=True, data_range=1)
        assert value == pytest.approx(expected, abs=1e-9)


def test_equal_maps_are_alike_and_opposite_ones_are_not(rng: np.random.Generator) -> None:
    maps = rng.standard_normal((2, 12, 12), dtype=np.float32)
    np.testing.assert_allclose(kernels.similarity(maps, maps), 1)
    np.testing.assert_allclose(kernels.ssim(maps, 3 * maps + 1), 1, atol=1e-6)
    np.testing.assert_allclose(kernels.similarity(maps, -maps)[:, :2], -1)


def test_what_has_no_order_has_no_similarity() -> None:
    good = np.arange(144, dtype=np.float32).reshape(1, 12, 12)
    holes = [np.where(good, good, np.float32(hole)) for hole in (np.inf, np.nan)]
    for bad in (np.zeros_like(good), np.full_like(good, 3), *holes):
        for one, other in ((good, bad), (bad, good)):
            assert np.isnan(kernels.similarity(one, other)).all()
            assert np.isnan(kernels.ssim(one, other)).all()
    assert np.isnan(kernels.ssim(good[:, :10].copy(), good[:, 2:].copy())).all()
    signs = np.array([[[-1, 1, 1, -1]]], np.float32)
    assert np.isnan(kernels.similarity(signs, signs)).tolist() == [[False, False, True, False]]


def test_refuses_maps_of_other_sizes_and_types() -> None:
    maps = np.ones((2, 12, 12), np.float32)
    for function in (kernels.similarity, kernels.ssim):
        with pytest.raises(ValueError, match=r"^second: expected shape \(2, 12, 12\)"):
            function(maps, maps[:1])
        with pytest.raises(TypeError, match=r"^first: expected dtype float32"):
            function(maps.astype(np.float64), maps)
