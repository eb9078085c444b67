"""Every method on torch tensors: the maps are tensors too, and those of NumPy arrays."""

import subprocess
import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shardcam.engine.methods import METHODS  # noqa: E402
from shardcam.engine.methods.arrays import scale_maps, to_host, weighted_sum  # noqa: E402
from shardcam.engine.methods.combine import FirstComponent  # noqa: E402
from shardcam.engine.methods.heatmaps import heatmaps  # noqa: E402
from shardcam.engine.methods.smoothing import smoothed_maps  # noqa: E402
from shardcam.engine.pipeline.prefetch import Batch  # noqa: E402
from shardcam.engine.pipeline.run_shard import Parts, explain  # noqa: E402
from shardcam.engine.types import Flag, LayerMaps, Preprocessing, Sample, View  # noqa: E402
from tests.torch.tensor_network import TorchNetwork  # noqa: E402

TARGETS = np.array([[1, 4], [2, 0], [0, 3]], np.int32)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no GPU"))]  # fmt: skip
each_device = pytest.mark.parametrize("device", DEVICES)


def images(size):
    return np.random.RandomState(5).standard_normal((3, 3, *size)).astype(np.float32)


def both(device="cpu", **shape):
    """The same network twice: NumPy arrays of the CPU, and tensors."""
    return TorchNetwork(tensors=False, **shape), TorchNetwork(device=device, **shape)


def assert_same(found, expected, device, tolerance=3e-5):
    assert isinstance(found, torch.Tensor)
    assert (found.dtype, found.device.type) == (torch.from_numpy(expected).dtype, device)
    assert found.is_contiguous()
    largest = abs(expected).max(axis=(2, 3), keepdims=True)
    gap = abs(found.cpu().numpy().astype(np.float64) - expected)
    assert (gap / np.maximum(largest, 1e-6)).max() < tolerance


@each_device
@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.reads_attention])
def test_maps(name, closed, device):
    if name == "cam" and not closed:
        pytest.skip("needs global average pooling")
    for shape in ({}, {"kernel": (9, 11)}, {"channels": 40, "kernel": (9, 2)}):
        arrays, tensors = both(device, closed=closed, **shape)
        method, given = METHODS[name], images((9, 11))
        found = method(tensors.forward(given).layer("relu"), TARGETS)
        assert_same(found, method(arrays.forward(given).layer("relu"), TARGETS), device)


@each_device
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if m.supports_eigen_smooth])
def test_eigen_smoothed_maps(name, device):
    arrays, tensors = both(device, closed=name == "cam")
    method, given = METHODS[name], images((9, 11))
    found = method(tensors.forward(given).layer("relu"), TARGETS, FirstComponent())
    expected = method(arrays.forward(given).layer("relu"), TARGETS, FirstComponent())
    assert_same(found, expected, device, 1e-4)


@each_device
def test_maps_smoothed_over_copies(device):
    arrays, tensors = both(device)
    method, given = METHODS["layercam"], images((9, 11))
    found = smoothed_maps(tensors, method, given, TARGETS)["relu"]
    assert_same(found, smoothed_maps(arrays, method, given, TARGETS)["relu"], device)


@each_device
@pytest.mark.parametrize("fuse", ["mean", "max", "product"])
@pytest.mark.parametrize("layers", [1, 3])
def test_scaled_maps_and_heatmaps(layers, fuse, device):
    raw = np.random.RandomState(1).standard_normal((layers, 2, 3, 5, 4)).astype(np.float32)
    raw[0, 0, 0, 1, 1], raw[0, 1, 0] = np.nan, -1
    arrays = [scale_maps(maps) for maps in raw]
    tensors = [scale_maps(torch.asarray(maps, device=device)) for maps in raw]
    for found, expected in zip(tensors, arrays):
        for one, other in zip(to_host({"": dict(enumerate(found))})[""].values(), expected):
            np.testing.assert_array_equal(one, other)
    found, expected = (
        heatmaps({str(i): LayerMaps(*some[:2]) for i, some in enumerate(kind)}, (13, 24), fuse)
        for kind in (tensors, arrays)
    )
    gap = abs(found.cpu().numpy().astype(int) - expected)
    assert gap.max() <= 1
    assert (gap > 0).mean() < 0.01


@each_device
def test_all_arrays_come_to_the_host(device):
    given = {
        "a": {"x": torch.arange(6.0, device=device).reshape(2, 3).T, "y": np.ones(2)},
        "b": {"z": torch.zeros(1, dtype=torch.uint8, device=device)},
        "c": {},
    }
    found = to_host(given)
    assert {group: list(some) for group, some in found.items()} == {
        group: list(some) for group, some in given.items()
    }
    np.testing.assert_array_equal(found["a"]["x"], [[0, 3], [1, 4], [2, 5]])
    assert (found["a"]["y"].tolist(), found["b"]["z"].tolist()) == ([1, 1], [0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_kernels_run_on_the_stream_in_use():
    activation, weight = torch.zeros(2, 64, 7, 7), torch.ones(2, 1, 64)
    activation, weight = activation.cuda(), weight.cuda()
    scale_maps(weighted_sum(activation, weight))  # compiled
    torch.cuda.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda._sleep(200_000_000)  # what comes on another stream would see the zeros
        activation.fill_(0.5)
        _, scale, _ = scale_maps(weighted_sum(activation, weight))
        found = to_host({"": {"scale": scale}})[""]["scale"]
    assert found.tolist() == [[32], [32]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_what_goes_ahead_of_passes_keeps_its_place():
    """After what was asked for before, and before what is asked for after it."""
    from shardcam.engine.models.torch.torch_device import ahead_of_passes

    ahead, values = ahead_of_passes(), torch.zeros(64, device="cuda")
    torch.cuda._sleep(200_000_000)
    values += 1
    with ahead():
        values *= 3
        torch.cuda._sleep(200_000_000)
        values += 1
    values *= 2
    assert values.tolist() == [8] * 64


class Chosen:
    """Targets; see `engine.pipeline.targets.Targets`. The last image has none."""

    kind = "top"

    def choose(self, logits, scores, samples):
        return np.array([[1, 4], [2, 0], [-1, -1]], np.int32)


@each_device
@pytest.mark.parametrize("half", [False, True])
def test_a_batch_of_tensors_is_explained_as_one_of_arrays(half, device):
    given = images((9, 11))
    given[1] *= 1e6  # too large for half precision
    preprocessing = Preprocessing(9, 11, (0.0,) * 3, (1.0,) * 3)
    views = tuple(View(np.zeros((9, 11, 3), np.uint8), (9, 11), (0, 0, 9, 11)) for _ in given)
    samples = tuple(Sample(str(i), i, -1, "", -1) for i in range(3))
    batch = Batch(3, samples, views, given, (), {})
    results = []
    for network in both(device):
        parts = Parts(
            network=network,
            method=METHODS["layercam"],
            targets=Chosen(),
            sink=None,
            preprocessing=preprocessing,
            save=frozenset({"maps", "activations", "pooled", "heatmaps", "logits"}),
            activation_layers=("relu",),
            half_precision=half,
        )
        forward = network.forward(given)
        results.append(explain(batch, forward.logits, forward, parts))
    expected, found = results
    assert found.flags.tolist() == expected.flags.tolist() == [
        0, Flag.TOO_LARGE if half else 0, 0]  # fmt: skip
    of_gpu = half and device == "cuda"
    pairs = [
        (found.maps["relu"].normalized, expected.maps["relu"].normalized, 1e-5),
        (found.maps["relu"].scale, expected.maps["relu"].scale, 1e-5),
        (found.pooled["relu"], expected.pooled["relu"], 1e-5),
        (found.logits, expected.logits, 1e-5),
        (found.score, expected.score, 1e-5),
    ]
    for one, other, tolerance in pairs:
        assert (type(one), one.dtype) == (np.ndarray, other.dtype)
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)
    stored, whole = found.activations["relu"], expected.activations["relu"]
    assert stored.dtype == (np.float16 if of_gpu else np.float32)
    with np.errstate(over="ignore"):
        whole = whole.astype(stored.dtype)
    np.testing.assert_allclose(stored, whole, rtol=1e-3 if of_gpu else 3e-5, atol=1e-5)
    assert abs(found.heatmap.astype(int) - expected.heatmap).max() <= 1


@pytest.mark.process
def test_torch_is_not_imported_for_numpy_arrays():
    code = """
import sys, numpy as np
import shardcam.engine.pipeline.run_shard
from shardcam.engine.methods.arrays import scale_maps, to_host
to_host({"": dict(enumerate(scale_maps(np.ones((1, 1, 2, 2), np.float32))))})
assert "torch" not in sys.modules and "numba.cuda.cudadrv" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
