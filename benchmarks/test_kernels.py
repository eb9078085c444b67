"""Each kernel against its NumPy twin and the fastest OpenCV or BLAS chain, if one does the same.

Every contender runs on one thread. For OpenCV that is set here; BLAS reads the environment when
NumPy is loaded, so set that first:

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 pytest benchmarks/test_kernels.py

Sizes are those of EfficientNet-Lite0: 32 images of 224x224, 1280 channels of 7x7; the overlay
and `planar` take one image. What each chain computes is checked, what it takes is only reported.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pytest_benchmark.fixture import BenchmarkFixture

from shardcam import kernels
from shardcam.kernels.blurring import blur_taps
from tests.kernels.table import PAIRS, REAL, Pair, Size, arrays

F4 = NDArray[np.float32]
U1 = NDArray[np.uint8]


def weighted_sum(activation: F4, weight: F4) -> F4:
    n, c, h, w = activation.shape
    product: F4 = np.matmul(weight, activation.reshape(n, c, h * w))
    return product.reshape(n, -1, h, w)


def product_sum(activation: F4, factor: F4) -> F4:
    product: F4 = np.einsum("nchw,nchw->nhw", activation, factor)
    return product


def layer_cam(activation: F4, factor: F4) -> F4:
    return product_sum(activation, np.maximum(factor, 0))


def element_wise(activation: F4, factor: F4) -> F4:
    total: F4 = np.maximum(factor * activation, 0).sum(axis=1)
    return total


def scale_maps(raw: F4) -> F4:
    unit = np.empty_like(raw)
    for source, target in zip(_each_map(raw), _each_map(unit), strict=True):
        cv2.addWeighted(source, 1 / cv2.norm(source, cv2.NORM_INF), source, 0, 0, dst=target)
    return unit


def normalize(maps: F4) -> F4:
    out = np.empty_like(maps)
    for source, target in zip(maps, out, strict=True):
        _, positive = cv2.threshold(source, 0, 0, cv2.THRESH_TOZERO)
        low, high, _, _ = cv2.minMaxLoc(positive)
        scale = 1 / (high - low + 1e-7)
        cv2.addWeighted(positive, scale, positive, 0, -low * scale, dst=target)
    return out


def upsample(maps: F4, size: tuple[int, int]) -> F4:
    out = np.empty((len(maps), *size), np.float32)
    for source, target in zip(maps, out, strict=True):
        cv2.resize(source, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR)
    return out


def heatmap_u8(maps: F4, size: tuple[int, int]) -> U1:
    out = np.empty((len(maps), *size), np.uint8)
    for source, target in zip(normalize(maps), out, strict=True):
        heatmap = cv2.resize(source, size[::-1], interpolation=cv2.INTER_LINEAR)
        low, high, _, _ = cv2.minMaxLoc(heatmap)
        scale = 255 / (high - low + 1e-7)
        cv2.convertScaleAbs(heatmap, dst=target, alpha=scale, beta=-low * scale)
    return out


def overlay(raw: F4, image: U1, table: U1) -> Any:
    return cv2.addWeighted(_heat(raw, image, table), 0.5, image, 0.5, 0)


def overlay_peak(raw: F4, image: U1, table: U1) -> Any:
    heat = _heat(raw, image, table)
    blended = cv2.addWeighted(heat, 0.5, image, 0.5, 0, dtype=cv2.CV_32F)
    return cv2.convertScaleAbs(blended, alpha=255 / cv2.norm(blended, cv2.NORM_INF))


def grad_cam(raw: F4, image: U1, table: U1) -> Any:
    """pytorch-grad-cam's recipe: `scale_cam_image` before and after, `show_cam_on_image`."""
    cam = _to_unit(np.maximum(raw, 0))
    cam = _to_unit(cv2.resize(cam, image.shape[1::-1]))
    heat = cv2.applyColorMap(np.uint8(255 * cam), cv2.COLORMAP_JET)
    heat = np.float32(cv2.cvtColor(heat, cv2.COLOR_BGR2RGB)) / 255
    blended = 0.5 * heat + 0.5 * (np.float32(image) / 255)
    return np.uint8(255 * (blended / np.max(blended)))


def _to_unit(cam: F4) -> F4:
    cam = cam - np.min(cam)
    return cam / (1e-7 + np.max(cam))


def planar(image: U1, mean: F4, std: F4, out: F4) -> F4:
    levels = (np.arange(256, dtype=np.float32) - mean[:, None]) / std[:, None]
    for c, channel in enumerate(cv2.split(image)):
        cv2.LUT(channel, levels[c], dst=out[c])
    return out


def resize(image: U1, box: tuple[int, ...], size: tuple[int, int]) -> U1:
    top, left, bottom, right = box
    return cv2.resize(image[top:bottom, left:right], size[::-1], interpolation=cv2.INTER_AREA)


def blur(pictures: F4) -> F4:
    out, taps = np.empty_like(pictures), blur_taps(11, 5.0)
    for source, target in zip(_each_map(pictures), _each_map(out), strict=True):
        cv2.sepFilter2D(source, -1, taps, taps, dst=target, borderType=cv2.BORDER_CONSTANT)
    return out


def _each_map(stack: F4) -> F4:
    return stack.reshape(-1, *stack.shape[-2:])


def _heat(raw: F4, image: U1, table: U1) -> Any:
    levels = heatmap_u8(raw[None], (image.shape[0], image.shape[1]))[0]
    return cv2.applyColorMap(levels, table[:, None])


CHAINS: dict[str, Callable[..., Any]] = {
    "weighted_sum": weighted_sum,
    "product_sum-none": product_sum,
    "product_sum-factor": layer_cam,
    "product_sum-product": element_wise,
    "scale_maps": scale_maps,
    "normalize": normalize,
    "upsample": upsample,
    "heatmap_u8": heatmap_u8,
    "overlay": overlay,
    "overlay-peak_normalize": overlay_peak,
    "planar": planar,
    "resize": resize,
    "blur": blur,
}
CASES = [
    ("weighted_sum, 5 targets", PAIRS[0], dataclasses.replace(REAL, targets=5)),
    *((pair.name, pair, REAL) for pair in PAIRS),
]
CONTENDERS = [
    pytest.param(*case, contender, id=f"{case[0]}-{contender}")
    for case in CASES
    for contender in ("kernel", "twin", "chain")
    if contender != "chain" or case[1].name in CHAINS
]


@pytest.fixture(autouse=True)
def one_thread(benchmark: BenchmarkFixture) -> None:
    cv2.setNumThreads(1)
    kernels.warm_up()
    benchmark.extra_info["blas_threads"] = os.environ.get("OPENBLAS_NUM_THREADS", "not set")


@pytest.mark.parametrize(("group", "pair", "size", "contender"), CONTENDERS)
def test_speed(
    group: str, pair: Pair, size: Size, contender: str, benchmark: BenchmarkFixture
) -> None:
    benchmark.group = group
    run = CHAINS[pair.name] if contender == "chain" else getattr(pair, contender)
    expected, *_ = arrays(pair.kernel(*pair.inputs(np.random.default_rng(0), size)))
    inputs = pair.inputs(np.random.default_rng(0), size)
    found, *_ = arrays(run(*inputs))
    # OpenCV rounds to whole levels where the kernels truncate; BLAS adds in another order.
    rounding = 1e-5 * np.abs(expected).max()
    tolerance = pair.levels + 1 if pair.levels or found.dtype == np.uint8 else rounding
    assert np.abs(found.astype(np.float64) - expected).max() <= tolerance
    benchmark(run, *inputs)


@pytest.mark.parametrize("contender", ["kernel", "recipe"])
def test_speed_of_the_whole_recipe(contender: str, benchmark: BenchmarkFixture) -> None:
    """pytorch-grad-cam's picture, in its own NumPy and OpenCV calls."""
    benchmark.group = "overlay-peak_normalize, pytorch-grad-cam"
    (pair,) = (pair for pair in PAIRS if pair.name == "overlay-peak_normalize")
    inputs = pair.inputs(np.random.default_rng(0), REAL)
    gap = np.abs(pair.kernel(*inputs).astype(int) - grad_cam(*inputs))
    assert np.mean(gap <= 1) > 0.99
    benchmark(pair.kernel if contender == "kernel" else grad_cam, *inputs)


@pytest.mark.parametrize("contender", ["kernels", "BLAS"])
def test_speed_of_what_is_stored(contender: str, benchmark: BenchmarkFixture) -> None:
    """Raw maps, ReLU, scale and half precision, against the bare matrix product."""
    benchmark.group = "stored maps of 32x2048x7x7"
    inputs = PAIRS[0].inputs(np.random.default_rng(0), dataclasses.replace(REAL, channels=2048))

    def store(activation: F4, weight: F4) -> Any:
        raw = kernels.weighted_sum(activation, weight)
        unit, scale, flags = kernels.scale_maps(np.maximum(raw, 0, out=raw))
        return unit.astype(np.float16), scale, flags

    benchmark(store if contender == "kernels" else weighted_sum, *inputs)


PER_IMAGE = ["weighted_sum", "upsample", "overlay", "resize"]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", PER_IMAGE)
def test_two_threads(name: str, threads: int, benchmark: BenchmarkFixture) -> None:
    """The same 64 calls by one thread and by two, each with inputs and outputs of its own.

    Tells something only where a second core is idle. Calls of some 10 us do not gain: handing
    the interpreter's lock over takes longer than that.
    """
    benchmark.group = f"{name}, threads"
    (pair,) = (pair for pair in PAIRS if pair.name == name)
    size = dataclasses.replace(REAL, batch=8)
    own = [pair.inputs(np.random.default_rng(i), size) for i in range(threads)]

    def calls(inputs: tuple[Any, ...]) -> None:
        for _ in range(64 // threads):
            pair.kernel(*inputs)

    with ThreadPoolExecutor(threads) as pool:
        benchmark(lambda: list(pool.map(calls, own)))
