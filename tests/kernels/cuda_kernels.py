"""Every CUDA kernel against its twin for the CPU: on a GPU, or in Numba's simulator of one.

Run by path: ``pytest tests/kernels/cuda_kernels.py`` where there is a GPU; see `test_cuda`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numba import config, cuda
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.engine.types import Fit
from shardcam.kernels import cuda as gpu
from shardcam.kernels.cuda import device_maps, device_pictures, device_resizing
from tests.kernels.table import JET

_config: Any = config
SIMULATED = bool(_config.ENABLE_CUDASIM)
# Maps: not square, one number, one row; channels: one, fewer than a block's rows, more.
SHAPES = [(2, 5, 3, 5), (1, 1, 1, 1), (3, 1, 1, 2), (1, 2047, 1, 1), (1, 70, 1, 7)]
each_shape = pytest.mark.parametrize(
    ("shape", "bad"),
    [(shape, None) for shape in SHAPES] + [(SHAPES[0], bad) for bad in (np.nan, np.inf, -np.inf)],
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread of the simulator is one of Python's."""
    if SIMULATED:
        sizes = {"LANES": 4, "ROWS": 2, "THREADS": 4, "PIXELS": 8, "WHOLE": 8}
        for module in (device_maps, device_pictures, device_resizing):
            for name in sizes.keys() & vars(module).keys():
                monkeypatch.setattr(module, name, sizes[name])


def sent(array: NDArray[Any]) -> Any:
    """The array in the GPU's memory."""
    if not SIMULATED:
        return cuda.to_device(array)
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    class Array(FakeCUDAArray):  # type: ignore[misc]
        @property
        def __cuda_array_interface__(self) -> dict[str, Any]:
            return {**self._ary.__array_interface__, "version": 3}

    return Array(array)


def empty(*shape: int, dtype: Any = np.float32) -> Any:
    return sent(np.full(shape, 77, dtype))


def back(array: Any) -> NDArray[Any]:
    host: NDArray[Any] = array.copy_to_host()
    return host


def normal(seed: int, *shape: int, bad: float | None = None) -> NDArray[Any]:
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    if bad is not None:
        values.reshape(-1)[values.size // 2] = bad
    return values


def picture(seed: int, *shape: int) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def assert_levels(found: NDArray[Any], expected: NDArray[Any], levels: int) -> None:
    gap = np.abs(found.astype(int) - expected)
    assert (found.dtype, found.shape, gap.max()) <= (expected.dtype, expected.shape, levels)
    assert (gap > 0).sum() <= 1 + 0.01 * gap.size


@each_shape
@pytest.mark.parametrize("targets", [1, 3])
def test_weighted_sum(shape: tuple[int, ...], bad: float | None, targets: int) -> None:
    activation = normal(0, *shape, bad=bad)
    weight = normal(1, shape[0], targets, shape[1])
    out = empty(shape[0], targets, *shape[2:])
    gpu.weighted_sum(sent(activation), sent(weight), out)
    expected = kernels.weighted_sum(activation, weight)
    np.testing.assert_allclose(back(out), expected, rtol=1e-5, atol=1e-4)


@each_shape
@pytest.mark.parametrize("relu", ["none", "factor", "product"])
def test_product_sum(shape: tuple[int, ...], bad: float | None, relu: str) -> None:
    activation, factor = normal(0, *shape), normal(1, *shape, bad=bad)
    out = empty(shape[0], *shape[2:])
    gpu.product_sum(sent(activation), sent(factor), relu, out)
    expected = kernels.product_sum(activation, factor, relu)
    np.testing.assert_allclose(back(out), expected, rtol=1e-5, atol=1e-4)


def test_a_map_depends_neither_on_the_others_nor_on_the_call() -> None:
    activation, weight = normal(0, 3, 70, 3, 5), normal(1, 3, 2, 70)
    found = []
    for n, k in ((slice(0, 3), slice(0, 2)), (slice(2, 3), slice(1, 2))):
        some, factors = activation[n].copy(), weight[n, k].copy()
        out = empty(len(some), factors.shape[1], 3, 5)
        gpu.weighted_sum(sent(some), sent(factors), out)
        found.append(back(out)[-1, -1])
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (1, 9)])
def test_scale_maps(size: tuple[int, int]) -> None:
    raw = normal(0, 4, 3, *size)
    raw[0, 0], raw[0, 1], raw[1, 2] = -1, 0, 3
    raw[2, 0, 0, 0], raw[2, 1, -1, -1], raw[3, 1, 0, 0] = np.nan, np.inf, -np.inf
    raw[3, 0] *= 1e-45  # hardly a number above zero
    unit, scale, flags = empty(*raw.shape), empty(4, 3), empty(4, 3, dtype=np.uint8)
    gpu.scale_maps(sent(raw), unit, scale, flags)
    for found, expected in zip((unit, scale, flags), kernels.scale_maps(raw), strict=True):
        np.testing.assert_array_equal(back(found), expected)


def odd_maps(*size: int) -> NDArray[Any]:
    maps = normal(0, 6, *size)
    maps[1], maps[2] = -1, 3
    maps[3, 0, 0], maps[4, -1, -1], maps[5, 0, 0] = np.nan, np.inf, -np.inf
    return maps


@pytest.mark.parametrize("size", [(3, 5), (1, 1), (1, 9)])
def test_normalize(size: tuple[int, int]) -> None:
    maps = odd_maps(*size)
    out = empty(*maps.shape)
    gpu.normalize(sent(maps), out)
    np.testing.assert_allclose(back(out), kernels.normalize(maps), rtol=1e-6)


SIZES = [
    ((3, 5), (12, 20)),
    ((3, 5), (10, 13)),
    ((1, 1), (3, 2)),
    ((4, 3), (4, 9)),
    ((7, 5), (3, 2)),
    ((2, 9), (7, 1)),
]


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_upsample(size: tuple[int, int], target: tuple[int, int]) -> None:
    maps = odd_maps(*size)
    if target != (12, 20):  # elsewhere a pixel lies on a sample, and the last bit names neighbours
        maps = maps[:3]
    out = empty(len(maps), *target)
    gpu.upsample(sent(maps), out)
    found, expected = back(out), kernels.upsample(maps, target)
    expected[~np.isfinite(expected)] = np.nan  # on a CPU, infinity less infinity
    found[~np.isfinite(found)] = np.nan
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "target"), SIZES)
def test_heatmap_u8(size: tuple[int, int], target: tuple[int, int]) -> None:
    maps = odd_maps(*size)
    out = empty(len(maps), *target, dtype=np.uint8)
    gpu.heatmap_u8(sent(maps), out)
    assert_levels(back(out), kernels.heatmap_u8(maps, target), 1)


@pytest.mark.parametrize("peak", [False, True])
@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_overlay(alpha: float, peak: bool) -> None:
    maps, images = odd_maps(3, 4), picture(1, 6, 5, 7, 3)
    images[2] = 0
    out = empty(*images.shape, dtype=np.uint8)
    gpu.overlay(sent(maps), sent(images), sent(JET), out, alpha, peak)
    expected = [
        kernels.overlay(raw, image, JET, alpha, peak)
        for raw, image in zip(maps, images, strict=True)
    ]
    assert_levels(back(out), np.stack(expected), 5 if peak else 3)


VIEW = 6, 7
FITS = {  # height and width of a picture; its part, what that is resized to, where the view begins
    "area": ((13, 17), (1, 2, 12, 16), VIEW, (0, 0)),
    "whole numbers": ((12, 14), (0, 0, 12, 14), VIEW, (0, 0)),
    "enlarged": ((4, 5), (0, 1, 4, 5), VIEW, (0, 0)),
    "one way each": ((20, 3), (0, 0, 20, 3), VIEW, (0, 0)),
    "copied": ((9, 9), (2, 1, 8, 8), VIEW, (0, 0)),
    "with a border": ((9, 30), (0, 0, 9, 30), (2, 7), (-2, 0)),
    "cut out": ((30, 20), (0, 0, 30, 20), (12, 8), (3, 0)),
    "both": ((11, 40), (0, 0, 11, 40), (4, 15), (-1, 4)),
    "one pixel": ((1, 1), (0, 0, 1, 1), VIEW, (0, 0)),
}


def planar(pictures: list[NDArray[Any]]) -> tuple[Any, list[int]]:
    """All of them as the kernels take them, and where each begins."""
    flat = [one.transpose(2, 0, 1).ravel() for one in pictures]
    starts = np.cumsum([0, *map(len, flat)]).tolist()
    return sent(np.concatenate(flat)), starts


def test_fit_pictures() -> None:
    """All at once, the last one first, and nothing outside of what is resized."""
    fits = [Fit(box, size, start, (0.0, 0.0, 0.0, 0.0)) for _, box, size, start in FITS.values()]
    pictures = [picture(i, *size, 3) for i, (size, *_) in enumerate(FITS.values())]
    pixels, starts = planar(pictures)
    rows = range(len(fits) - 1, -1, -1)
    numbers = [
        (start, *one.shape[:2], *fit.box, *fit.size, *fit.start, row)
        for start, one, fit, row in zip(starts, pictures, fits, rows)
    ]
    out = empty(len(fits), *VIEW, 3, dtype=np.uint8)
    gpu.fit_pictures(pixels, sent(np.array(numbers)), out)
    for row, one, fit in zip(rows, pictures, fits):
        expected = np.full((*VIEW, 3), 77, np.uint8)
        expected[fit.place(VIEW)] = kernels.resize(one, fit.box, fit.size, fit.window(VIEW))
        assert_levels(back(out)[row], expected, 1)


def test_small_ranges() -> None:
    """Of a part: what lies beside it does not count, nor in which row or colour it differs."""
    pictures = [np.full((20, 9, 3), 100, np.uint8) for _ in range(5)]
    pictures[0][3, 8, 2] = 131  # one less than the limit
    pictures[1][3, 8, 2] = 132
    pictures[2][0], pictures[2][:, 0] = 0, 255
    pictures[3][16, 3, 0] = 0
    pictures[4][1, 1], pictures[4][19, 8] = 85, 117
    pixels, starts = planar(pictures)
    boxes = [(0, 0, 20, 9), (0, 0, 20, 9), (1, 1, 20, 9), (0, 0, 17, 9), (1, 1, 20, 9)]
    parts = [(start, 20, 9, *box) for start, box in zip(starts, boxes)]
    out = empty(5, dtype=np.uint8)
    gpu.small_ranges(pixels, sent(np.array(parts)), 32, out)
    assert back(out).tolist() == [1, 0, 1, 0, 0]


Call = Callable[..., None]
CALLS: dict[str, tuple[Call, dict[str, Any]]] = {
    "weighted_sum": (
        gpu.weighted_sum,
        {"activation": (2, 3, 4, 5), "weight": (2, 1, 3), "out": (2, 1, 4, 5)},
    ),
    "product_sum": (
        functools.partial(gpu.product_sum, relu="none"),
        {"activation": (2, 3, 4, 5), "factor": (2, 3, 4, 5), "out": (2, 4, 5)},
    ),
    "scale_maps": (
        gpu.scale_maps,
        {"raw": (2, 3, 4, 5), "unit": (2, 3, 4, 5), "scale": (2, 3), "flags": (2, 3)},
    ),
    "normalize": (gpu.normalize, {"maps": (2, 4, 5), "out": (2, 4, 5)}),
    "upsample": (gpu.upsample, {"maps": (2, 4, 5), "out": (2, 8, 9)}),
    "heatmap_u8": (gpu.heatmap_u8, {"maps": (2, 4, 5), "out": (2, 8, 9)}),
    "overlay": (
        gpu.overlay,
        {"raw": (2, 4, 5), "images": (2, 8, 9, 3), "table": (256, 3), "out": (2, 8, 9, 3)},
    ),
    "fit_pictures": (
        gpu.fit_pictures,
        {"pixels": (90,), "fits": (2, 12), "out": (2, 8, 9, 3)},
    ),
    "small_ranges": (
        functools.partial(gpu.small_ranges, limit=32),
        {"pixels": (90,), "parts": (2, 7), "out": (2,)},
    ),
}
BYTES = {("scale_maps", "flags"), ("heatmap_u8", "out")} | {
    *(("overlay", name) for name in ("images", "table", "out")),
    *((name, key) for name in ("fit_pictures", "small_ranges") for key in ("pixels", "out")),
}
WHOLE_NUMBERS = {("fit_pictures", "fits"), ("small_ranges", "parts")}


@pytest.mark.parametrize("name", CALLS)
def test_refuses_and_names_the_argument(name: str) -> None:
    call, shapes = CALLS[name]
    types = dict.fromkeys(BYTES, np.uint8) | dict.fromkeys(WHOLE_NUMBERS, np.int64)
    good = {
        key: np.zeros(shape, types.get((name, key), np.float32)) for key, shape in shapes.items()
    }
    for key, array in good.items():
        others = {other: sent(value) for other, value in good.items() if other != key}
        for wrong, error, text in [
            (array.tolist(), TypeError, "expected an array on the GPU, got list"),
            (array, TypeError, "expected an array on the GPU, got ndarray"),
            (sent(array.astype(np.float64)), TypeError, "expected dtype .*, got float64"),
            (sent(array[None]), ValueError, "expected shape"),
            (sent(array[..., :0].copy()), ValueError, "expected shape"),
            (sent(np.asfortranarray(array)), ValueError, "expected a C-contiguous, aligned array"),
        ][: 6 if array.ndim > 1 else 5]:
            with pytest.raises(error, match=f"^{key}: {text}"):
                call(**others, **{key: wrong})


def test_refuses_values_outside_their_range() -> None:
    maps, image = sent(np.zeros((1, 2, 2), np.float32)), empty(1, 4, 4, 3, dtype=np.uint8)
    planes = empty(1, 3, 4, 4)
    with pytest.raises(ValueError, match=r"^alpha: expected a number from 0 to 1, got 1.1"):
        gpu.overlay(maps, image, sent(JET), image, alpha=1.1)
    with pytest.raises(ValueError, match=r"^relu: expected one of none, factor, product, got"):
        gpu.product_sum(planes, planes, "weight", maps)


def test_an_empty_batch_launches_nothing() -> None:
    none = empty(0, 4, 2, 2)
    gpu.weighted_sum(none, empty(0, 3, 4), empty(0, 3, 2, 2))
    gpu.product_sum(none, none, "factor", empty(0, 2, 2))
    gpu.scale_maps(none, none, empty(0, 4), empty(0, 4, dtype=np.uint8))
    gpu.heatmap_u8(empty(0, 2, 2), empty(0, 5, 6, dtype=np.uint8))
    pixels, image = empty(9, dtype=np.uint8), empty(1, 2, 2, 3, dtype=np.uint8)
    gpu.fit_pictures(pixels, empty(0, 12, dtype=np.int64), image)
    gpu.small_ranges(pixels, empty(0, 7, dtype=np.int64), 32, empty(0, dtype=np.uint8))
