"""Every method against pytorch-grad-cam 1.5.7 and torchcam 0.5.0, with heads of two kinds.

`fixtures/peers` was written by export_peers.py: three 12x16 pictures, a class each, and two
layers; between the last one and the logits are two dense layers and a tanh, so that gradients
vary over space and have second derivatives.
"""

from pathlib import Path

import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.heatmaps import heatmaps
from shardcam.engine.methods.smoothing import plain_maps, smoothed_maps
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.types import LayerMaps
from shardcam.kernels import normalize, scale_maps, upsample

FIXTURES = Path(__file__).parent.parent / "fixtures" / "peers"
SIZE = (12, 16)
LAYERS = {"early": "/early/early.1/Relu", "late": "/late/late.2/Mul"}
TERMS = ("gradcam", "gradcam++", "xgradcam", "hirescam", "gradcamelementwise", "layercam")
OTHERS = ("eigencam", "eigengradcam", "kpcacam", "scorecam", "ablationcam", "shapleycam", "fem")
EIGEN = ("eigencam", "eigengradcam", "kpcacam")


@pytest.fixture(scope="module")
def expected():
    with np.load(FIXTURES / "expected.npz") as stored:
        return {key.replace("__", "/"): value for key, value in stored.items()}


@pytest.fixture(scope="module")
def network():
    definition = load_network(str(FIXTURES / "network.onnx"))
    return MxnetNetwork(definition, tuple(LAYERS.values()), 3)


@pytest.fixture
def forward(network, expected):
    return network.forward(expected["images"])


@pytest.fixture(scope="module")
def targets(expected):
    return expected["targets"][:, None].astype(np.int32)


def heatmap(raw):
    return normalize(upsample(normalize(np.ascontiguousarray(raw[:, 0])), SIZE))


def test_logits(forward, expected):
    np.testing.assert_allclose(forward.logits, expected["logits"], atol=1e-5)


CASES = [(name, where) for name in TERMS + OTHERS for where in LAYERS]
# Where a layer has negative values, theirs sets the channel to -1e7 instead of 0: see below.
CASES.remove(("ablationcam", "late"))


@pytest.mark.parametrize(("name", "where"), CASES)
def test_heatmap(forward, expected, targets, name, where):
    raw = METHODS[name](forward.layer(LAYERS[where]), targets)
    theirs = expected[f"{name}/{where}"]
    found = [heatmap(raw), heatmap(-raw)] if name in EIGEN else [heatmap(raw)]
    # Per picture, the better of the two signs that an eigenvector may have.
    worst = np.min([abs(maps - theirs).max(axis=(1, 2)) for maps in found], axis=0)
    assert worst.max() < (1 / 255 if name == "shapleycam" else 1e-3)


def test_ablationcam_zeroes_channels_by_the_formula(forward, targets):
    layer = forward.layer(LAYERS["late"])
    parameters = load_network(str(FIXTURES / "network.onnx")).parameters
    weights = [parameters[name].astype(np.float64) for name in ("head.1.weight", "dense.weight")]
    biases = [parameters[name].astype(np.float64) for name in ("head.1.bias", "dense.bias")]

    def score(activation, target):
        hidden = np.tanh(weights[0] @ activation.ravel() + biases[0])
        return (weights[1] @ hidden + biases[1])[target]

    raw = METHODS["ablationcam"](layer, targets)
    for activation, target, found in zip(layer.activation, targets[:, 0], raw[:, 0]):
        whole, total = score(activation, target), 0
        for channel in range(len(activation)):
            without = activation.copy()
            without[channel] = 0
            total += (whole - score(without, target)) / whole * activation[channel]
        np.testing.assert_allclose(found, total, rtol=1e-3, atol=1e-4 * abs(total).max())


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("name", TERMS)
def test_smooth_eigen(forward, expected, targets, name, where):
    raw = METHODS[name](forward.layer(LAYERS[where]), targets, FirstComponent())
    theirs = expected[f"{name}/{where}/eigen"]
    worst = np.min([abs(heatmap(r) - theirs).max(axis=(1, 2)) for r in (raw, -raw)], axis=0)
    assert worst.max() < 1e-3


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("name", TERMS)
def test_smooth_aug(network, expected, targets, name, where):
    """Theirs is the mean of six heatmaps; ours is stretched, as every heatmap."""
    theirs = expected[f"{name}/{where}/aug"]
    maps = smoothed_maps(network, METHODS[name], expected["images"], targets)[LAYERS[where]]
    mean = upsample(np.ascontiguousarray(maps[:, 0]), SIZE)
    raised = mean.min(axis=(1, 2), keepdims=True) - theirs.min(axis=(1, 2), keepdims=True)
    assert -1e-6 < raised.min() <= raised.max() < 0.1
    assert abs(mean - raised - theirs).max() < 1e-3
    stored = LayerMaps(*scale_maps(maps)[:2])
    drawn = heatmaps({where: stored}, SIZE)[:, 0].astype(np.float32) / 255
    assert abs(drawn - normalize(theirs)).max() < 2 / 255


@pytest.mark.parametrize("name", [*TERMS, "refinecam"])
def test_layers_fused(network, expected, targets, name):
    forward = network.forward(expected["images"])
    raw = plain_maps(forward, network, METHODS[name], targets)
    maps = {layer: LayerMaps(*scale_maps(values)[:2]) for layer, values in raw.items()}
    fused = heatmaps(maps, SIZE, METHODS[name].fuse)[:, 0] / 255
    assert abs(fused - expected[f"{name}/both"]).max() < 1.5 / 255


def test_finercam(forward, expected, targets):
    raw = METHODS["finercam"](forward.layer(LAYERS["late"]), targets)
    assert abs(heatmap(raw) - expected["finercam/late"]).max() < 1e-3


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("name", ["gradcam", "xgradcam", "layercam"])
def test_torchcam(forward, expected, targets, name, where):
    """Raw maps, ReLU and stretched, where torchcam's formula is the same."""
    unit = normalize(
        np.ascontiguousarray(METHODS[name](forward.layer(LAYERS[where]), targets)[:, 0])
    )
    assert abs(unit - expected[f"torchcam/{name}/{where}"]).max() < 1e-3


def test_fullgrad(expected, targets):
    definition = load_network(str(FIXTURES / "network.onnx"))
    network = MxnetNetwork(definition, (definition.input_name,), 3)
    forward = network.forward(expected["images"])
    raw = METHODS["fullgrad"](forward.layer(definition.input_name), targets)[:, 0]
    span = raw.max(axis=(1, 2), keepdims=True) - raw.min(axis=(1, 2), keepdims=True)
    ours = (raw - raw.min(axis=(1, 2), keepdims=True)) / span
    assert abs(ours - expected["fullgrad/late"]).max() < 1e-3
