"""What holds for every kernel: it equals its twin, and it refuses what it cannot take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shardcam import kernels
from shardcam.kernels import (
    _raster,
    blurring,
    checksum,
    imputation,
    masking,
    packing,
    preprocess,
    ranking,
    regions,
    resizing,
    weighting,
)
from shardcam.kernels._jit import Kernel
from tests.kernels.table import JET, PAIRS, SMALL, Pair, arrays, assert_same, only_compiled

each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def read_only(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    copy = value.copy()
    copy.flags.writeable = False
    return copy


def each_array(pair: Pair, rng: np.random.Generator) -> Iterator[tuple[str, list[Any], int]]:
    """The name of each array argument, all arguments, and its place among them."""
    for index, name in enumerate(inspect.signature(pair.kernel).parameters):
        arguments = list(pair.inputs(rng, SMALL))
        if index < len(arguments) and isinstance(arguments[index], np.ndarray):
            yield name, arguments, index


@each_pair
def test_equals_its_twin(pair: Pair) -> None:
    for seed in range(3):
        actual = pair.kernel(*pair.inputs(np.random.default_rng(seed), SMALL))
        expected = pair.twin(*pair.inputs(np.random.default_rng(seed), SMALL))
        assert_same(actual, expected, pair.levels)


@each_pair
def test_takes_read_only_inputs(pair: Pair, rng: np.random.Generator) -> None:
    inputs = pair.inputs(rng, SMALL)
    expected = arrays(pair.kernel(*inputs))
    frozen = [read_only(value) for value in inputs]
    if pair.written:
        frozen[-1] = np.zeros_like(inputs[-1])
    for one, other in zip(arrays(pair.kernel(*frozen)), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@each_pair
def test_leaves_its_inputs_alone(pair: Pair, rng: np.random.Generator) -> None:
    inputs = pair.inputs(rng, SMALL)
    before = [np.copy(value) for value in inputs]
    pair.kernel(*inputs)
    for value, copy in list(zip(inputs, before, strict=True))[: -1 if pair.written else None]:
        np.testing.assert_array_equal(value, copy)


def strided(array: NDArray[Any]) -> NDArray[Any]:
    return np.repeat(array, 2, axis=-1)[..., ::2]


def misaligned(array: NDArray[Any]) -> NDArray[Any]:
    room = np.zeros(array.nbytes + 1, np.uint8)
    return room[1:].view(array.dtype).reshape(array.shape)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        pytest.param(strided, ValueError, id="strided"),
        pytest.param(lambda a: a[None], ValueError, id="more axes"),
        pytest.param(lambda a: a.reshape(-1)[:1], ValueError, id="one number"),
        pytest.param(lambda a: a[..., :0], ValueError, id="empty axis"),
        pytest.param(lambda a: a.astype(np.float64), TypeError, id="float64"),
        pytest.param(lambda a: np.zeros(a.shape, np.int32), TypeError, id="int32"),
        pytest.param(lambda a: a.tolist(), TypeError, id="list"),
    ],
)
@each_pair
def test_refuses_and_names_the_argument(
    pair: Pair,
    spoil: Callable[[NDArray[Any]], Any],
    error: type[Exception],
    rng: np.random.Generator,
) -> None:
    for name, arguments, index in each_array(pair, rng):
        arguments[index] = spoil(arguments[index])
        with pytest.raises(error, match=f"^{name}: .*") as caught:
            pair.kernel(*arguments)
        assert "\n" not in str(caught.value)


@each_pair
def test_refuses_foreign_byte_order_and_alignment(pair: Pair, rng: np.random.Generator) -> None:
    for name, arguments, index in each_array(pair, rng):
        array = arguments[index]
        if array.dtype == np.float32:
            with pytest.raises(TypeError, match=f"^{name}: .*>f4"):
                pair.kernel(*arguments[:index], array.astype(">f4"), *arguments[index + 1 :])
            with pytest.raises(ValueError, match=f"^{name}: .*aligned"):
                pair.kernel(*arguments[:index], misaligned(array), *arguments[index + 1 :])


def test_refuses_shapes_that_do_not_belong_together() -> None:
    activation, image = np.ones((2, 5, 3, 3), np.float32), np.ones((4, 4, 3), np.uint8)
    raw, three = np.ones((2, 2), np.float32), np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"^weight: expected shape \(2, K, 5\), got \(2, 1, 6\)$"):
        kernels.weighted_sum(activation, np.ones((2, 1, 6), np.float32))
    with pytest.raises(ValueError, match=r"^factor: expected shape \(2, 5, 3, 3\)"):
        kernels.product_sum(activation, activation[:1], "none")
    with pytest.raises(ValueError, match=r"^table: expected shape \(256, 3\)"):
        kernels.overlay(raw, image, JET[:255])
    with pytest.raises(ValueError, match=r"^out: "):
        kernels.planar(image, three, three, np.empty((3, 4, 5), np.float32))


def test_refuses_values_outside_their_range() -> None:
    image, three = np.ones((4, 4, 3), np.uint8), np.ones(3, np.float32)
    raw, out = np.ones((2, 2), np.float32), np.empty((3, 4, 4), np.float32)
    for alpha in (-0.1, 1.1, np.nan):
        with pytest.raises(ValueError, match=r"^alpha: "):
            kernels.overlay(raw, image, JET, alpha)
    with pytest.raises(ValueError, match=r"^relu: expected one of none, factor, product, got"):
        kernels.product_sum(raw[None, None], raw[None, None], "weight")
    for std in (0, -1, np.nan):
        with pytest.raises(ValueError, match=r"^std: "):
            kernels.planar(image, three, np.array([1, std, 1], np.float32), out)
    for box in ((0, 0, 5, 4), (-1, 0, 4, 4), (2, 0, 2, 4), (0, 3, 4, 2)):
        with pytest.raises(ValueError, match=r"^box: expected a part of 4x4 pixels, got"):
            kernels.resize(image, box, (2, 2))
    with pytest.raises(TypeError):
        kernels.resize(image, (0, 0, 4, 3.5), (2, 2))  # type: ignore[arg-type]
    for window in ((0, 0, 3, 2), (-1, 0, 2, 2), (1, 0, 1, 2)):
        with pytest.raises(ValueError, match=r"^window: expected a part of 2x2 pixels, got"):
            kernels.resize(image, (0, 0, 4, 4), (2, 2), window)
    for size in ((0, 4), (4, 0), (-1, 4)):
        with pytest.raises(ValueError, match=r"^size: "):
            kernels.resize(image, (0, 0, 4, 4), size)
        for enlarge in (kernels.upsample, kernels.heatmap_u8):
            with pytest.raises(ValueError, match=r"^size: "):
                enlarge(raw[None], size)


def test_refuses_a_read_only_output() -> None:
    image, three = np.ones((4, 4, 3), np.uint8), np.ones(3, np.float32)
    with pytest.raises(ValueError, match=r"^out: expected a writable array$"):
        kernels.planar(image, three, three, read_only(np.empty((3, 4, 4), np.float32)))


def test_writes_and_returns_the_given_output(rng: np.random.Generator) -> None:
    batch = np.full((2, 3, 23, 18), 7, np.float32)
    image, mean, std, expected = PAIRS[-1].inputs(rng, SMALL)
    assert kernels.planar(image, mean, std, expected) is expected
    kernels.planar(image, mean, std, batch[1])
    np.testing.assert_array_equal(batch[1], expected)
    assert (batch[0] == 7).all()


def test_an_empty_batch_gives_an_empty_result() -> None:
    none = np.empty((0, 4, 2, 2), np.float32)
    assert kernels.weighted_sum(none, np.empty((0, 3, 4), np.float32)).shape == (0, 3, 2, 2)
    assert kernels.product_sum(none, none, "factor").shape == (0, 2, 2)
    assert [part.shape for part in kernels.scale_maps(none)] == [(0, 4, 2, 2), (0, 4), (0, 4)]
    assert kernels.normalize(none[:, 0].copy()).shape == (0, 2, 2)
    assert kernels.heatmap_u8(none[:, 0].copy(), (5, 6)).shape == (0, 5, 6)


def test_threads_may_share_every_kernel(rng: np.random.Generator) -> None:
    for pair in PAIRS:
        if pair.written:
            continue
        inputs = pair.inputs(rng, SMALL)
        expected = arrays(pair.kernel(*inputs))
        with ThreadPoolExecutor(4) as pool:
            for future in [pool.submit(pair.kernel, *inputs) for _ in range(8)]:
                for one, other in zip(arrays(future.result()), expected, strict=True):
                    np.testing.assert_array_equal(one, other)


@only_compiled
def test_each_kernel_has_one_signature(rng: np.random.Generator) -> None:
    for pair in PAIRS:
        *inputs, last = pair.inputs(rng, SMALL)
        pair.kernel(*inputs, last)
        pair.kernel(*map(read_only, inputs), last if pair.written else read_only(last))
    kernels.warm_up()
    kernels.add_noise(np.zeros((1, 1, 1), np.float32), np.ones((1, 1), np.uint8),
                      np.ones(1, np.float32), (0,))  # fmt: skip
    modules = (_raster, blurring, checksum, imputation, masking, packing, preprocess, ranking,
               regions, resizing, weighting)  # fmt: skip
    found = [value for module in modules for value in vars(module).values()]
    compiled: list[Any] = [value.compiled for value in found if isinstance(value, Kernel)]
    assert len(compiled) == 19
    assert [len(kernel.signatures) for kernel in compiled] == [1] * 19
