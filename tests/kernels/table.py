"""The kernels, their NumPy twins and inputs for both: one table for tests and benchmarks."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.engine.rundir.colormaps import colour_table
from tests.kernels import reference


@dataclass(frozen=True)
class Size:
    """How large the inputs are."""

    batch: int
    channels: int
    targets: int
    map: tuple[int, int]
    image: tuple[int, int]


# Not square, not a multiple of any vector width, and one block of channels plus a rest.
SMALL = Size(batch=2, channels=11, targets=3, map=(3, 5), image=(23, 18))
# EfficientNet-Lite0 at 224 pixels.
REAL = Size(batch=32, channels=1280, targets=1, map=(7, 7), image=(224, 224))

JET = colour_table("jet")

_numba_config: Any = numba.config
only_compiled = pytest.mark.skipif(bool(_numba_config.DISABLE_JIT), reason="nothing is compiled")

WRITTEN = ("multiply", "switch", "impute", "planar")  # into their last argument

Inputs = Callable[[np.random.Generator, Size], tuple[Any, ...]]


@dataclass(frozen=True)
class Pair:
    """A kernel and its twin.

    `levels` is by how much two results in levels may differ: rounding turns the last bit of a
    float into a whole level, and one level of the map is up to four of the colour table.
    `written` says that the last input is the output.
    """

    name: str
    kernel: Callable[..., Any]
    twin: Callable[..., Any]
    inputs: Inputs
    levels: int = 0
    written: bool = False


def _normal(rng: np.random.Generator, *shape: int) -> NDArray[Any]:
    return rng.standard_normal(shape, dtype=np.float32)


def _image(rng: np.random.Generator, size: Size) -> NDArray[Any]:
    return rng.integers(0, 256, (*size.image, 3), dtype=np.uint8)


def _channels(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    activation = _normal(rng, size.batch, size.channels, *size.map)
    return activation, _normal(rng, size.batch, size.targets, size.channels)


def _activation_and_factor(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    shape = (size.batch, size.channels, *size.map)
    return _normal(rng, *shape), _normal(rng, *shape)


def _raw(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    return (_normal(rng, size.batch, size.targets, *size.map),)


def _maps(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    return (_normal(rng, size.batch, *size.map),)


def _maps_and_size(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    return _normal(rng, size.batch, *size.map), size.image


def _picture(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    return _normal(rng, *size.map), _image(rng, size), JET


def _network_input(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    mean = np.array([123.675, 116.28, 103.53], np.float32)
    std = np.array([58.395, 57.12, 57.375], np.float32)
    return _image(rng, size), mean, std, np.full((3, *size.image), np.nan, np.float32)


def _rounded(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    """Many are equal, some of them 0 and -0."""
    return (np.round(_normal(rng, size.batch, *size.image)) * np.float32(-1),)


def _pictures(rng: np.random.Generator, size: Size) -> NDArray[Any]:
    return _normal(rng, size.batch, 3, *size.image)


def _masked(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    jobs = rng.integers(0, size.batch, (size.batch + 1, 2))
    out = np.full((len(jobs), 3, *size.image), np.nan, np.float32)
    return _pictures(rng, size), _normal(rng, size.batch, *size.image), jobs, out


def _switched(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    pixels = size.image[0] * size.image[1]
    ranks = np.stack([rng.permutation(pixels) for _ in range(size.batch)]).astype(np.uint32)
    jobs = rng.integers(0, size.batch, (size.batch + 1, 4))
    jobs[:, 3] = rng.integers(0, pixels + 1, len(jobs))
    out = np.full((len(jobs), 3, *size.image), np.nan, np.float32)
    return _pictures(rng, size), ranks.reshape(-1, *size.image), jobs, out


def _pictures_to_blur(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    return (_pictures(rng, size),)


def _punctured(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    """Always small: the twin solves a dense system."""
    picture = _normal(rng, 3, *SMALL.image)
    removed = (rng.random(SMALL.image) < rng.uniform(0.2, 0.9)).astype(np.uint8)
    return picture, removed, 1e-6, np.full(picture.shape, np.nan, np.float32)


def _photograph(rng: np.random.Generator, size: Size) -> tuple[Any, ...]:
    """A picture of 500x375 for 224x224, its largest square in the middle."""
    height, width = (375 * size.image[0] // 224, 500 * size.image[1] // 224)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    side = min(height, width)
    left = (width - side) // 2
    return image, (0, left, side, left + side), size.image


def _pair(name: str, inputs: Inputs, levels: int = 0, **options: Any) -> Pair:
    kernel = functools.partial(getattr(kernels, name), **options)
    twin = functools.partial(getattr(reference, name), **options)
    chosen = [key if value is True else value for key, value in options.items()]
    label = "-".join([name, *map(str, chosen)])
    return Pair(label, kernel, twin, inputs, levels, written=name in WRITTEN)


PAIRS = (
    _pair("weighted_sum", _channels),
    _pair("product_sum", _activation_and_factor, relu="none"),
    _pair("product_sum", _activation_and_factor, relu="factor"),
    _pair("product_sum", _activation_and_factor, relu="product"),
    _pair("scale_maps", _raw),
    _pair("normalize", _maps),
    _pair("upsample", _maps_and_size),
    _pair("upsample", _maps_and_size, align_corners=True),
    _pair("heatmap_u8", _maps_and_size, levels=1),
    _pair("overlay", _picture, levels=3),
    _pair("overlay", _picture, levels=5, peak_normalize=True),
    _pair("resize", _photograph, levels=1),
    _pair("ranks", _rounded, ties="rising"),
    _pair("ranks", _rounded, ties="falling"),
    _pair("multiply", _masked),
    _pair("switch", _switched),
    _pair("blur", _pictures_to_blur, size=11, sigma=5.0),
    _pair("impute", _punctured),
    _pair("planar", _network_input),
)


def arrays(result: Any) -> tuple[NDArray[Any], ...]:
    """What a kernel returned, as a tuple of copies."""
    return tuple(map(np.copy, result if isinstance(result, tuple) else (result,)))


def assert_same(actual: Any, expected: Any, levels: int = 0) -> None:
    """Equal shapes and dtypes; equal to rounding, or to whole `levels` in 1 % of the places."""
    for one, other in zip(arrays(actual), arrays(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        if one.dtype == np.uint8 or levels:
            gap = np.abs(one.astype(np.float64) - other)
            assert gap.max(initial=0) <= levels
            assert (gap > 0).sum() <= 0.01 * gap.size
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
