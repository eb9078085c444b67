"""EfficientNet-Lite0 with its real weights, against PyTorch and pytorch-grad-cam.

``fixtures/reference/lite0_expected.npz`` holds what PyTorch and pytorch-grad-cam 1.5.7
gave for five photographs, at the last feature map.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest

from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.pictures.imaging import view
from shardcam.kernels import heatmap_u8, normalize, planar, upsample
from tests.pictures.decoded import decoded

FIXTURES = Path(__file__).parent.parent / "fixtures" / "reference"


@pytest.fixture(scope="module")
def reference():
    with np.load(FIXTURES / "lite0_expected.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def definition():
    return load_network("efficientnet_lite0")


@pytest.fixture(scope="module")
def images(reference, definition):
    size = definition.preprocessing
    mean, std = np.float32(size.mean), np.float32(size.std)
    batch = np.empty((5, 3, 224, 224), np.float32)
    for name, out in zip(reference["names"], batch):
        pixels = decoded((FIXTURES / f"{name}.png").read_bytes())
        planar(view(pixels, size).pixels, mean, std, out)
    return batch


@pytest.fixture(scope="module")
def forward(definition, images):
    return MxnetNetwork(definition, ("auto",), 5).forward(images)


def test_logits(forward, reference):
    np.testing.assert_allclose(forward.logits, reference["logits"], atol=1e-3, rtol=0)
    assert forward.logits.argmax(axis=1).tolist() == [285, 967, 657, 665, 985]


def test_pooled_features(forward, reference):
    pooled = forward.layer("head_relu6").activation.mean(axis=(2, 3))
    np.testing.assert_allclose(pooled, reference["pooled_features"], atol=1e-4)


def test_raw_gradcam_and_heatmap(forward, reference):
    targets = reference["target"].astype(np.int32)[:, None]
    raw = METHODS["gradcam"](forward.layer("head_relu6"), targets)[:, 0]
    expected = reference["raw_gradcam"]
    worst = abs(raw - expected).max(axis=(1, 2)) / expected.max(axis=(1, 2))
    assert worst.max() < 1e-3
    theirs = reference["pytorch_grad_cam__gradcam"].astype(np.float32)
    assert abs(normalize(upsample(normalize(raw), (224, 224))) - theirs).max() < 1e-3
    stored = heatmap_u8(raw, (224, 224)).astype(np.float32) / 255
    assert abs(stored - theirs).max() < 2 / 255


THEIRS = {"gradcam++": "gradcamplusplus"}
PEERS = ("hirescam", "gradcam++", "xgradcam", "layercam", "eigencam", "eigengradcam",
         pytest.param("scorecam", marks=pytest.mark.slow),  # 1280 forward passes for each image
         "ablationcam", "kpcacam", "gradcamelementwise")  # fmt: skip


TORCHCAM = {"gradcam": "GradCAM", "xgradcam": "XGradCAM", "layercam": "LayerCAM"}


@pytest.fixture(scope="module")
def network(definition):
    return MxnetNetwork(definition, ("auto",), 8)


@pytest.mark.parametrize("name", PEERS)
def test_heatmaps_of_every_method(network, images, reference, name):
    count = 1 if name == "scorecam" else 2
    theirs = reference[f"pytorch_grad_cam__{THEIRS.get(name, name)}"][:count].astype(np.float32)
    targets = reference["target"].astype(np.int32)[:count, None]
    raw = METHODS[name](network.forward(images[:count]).layer("head_relu6"), targets)[:, 0]
    ours = normalize(upsample(normalize(np.ascontiguousarray(raw)), (224, 224)))
    assert abs(ours - theirs).max() < 1e-3
    stored = heatmap_u8(np.ascontiguousarray(raw), (224, 224)).astype(np.float32) / 255
    assert abs(stored - theirs).max() < 2 / 255


@pytest.mark.parametrize("name", TORCHCAM)
def test_maps_of_torchcam(network, images, reference, name):
    """Where the formulas are the same; its Grad-CAM++ and Score-CAM are others."""
    targets = reference["target"].astype(np.int32)[:2, None]
    raw = METHODS[name](network.forward(images[:2]).layer("head_relu6"), targets)[:, 0]
    unit = normalize(np.ascontiguousarray(raw))
    assert abs(unit - reference[f"torchcam__{TORCHCAM[name]}"]).max() < 1e-3


def test_gradcam_equals_cam_but_for_the_area(forward, reference):
    targets = reference["target"].astype(np.int32)[:, None]
    layer = forward.layer("head_relu6")
    np.testing.assert_allclose(
        METHODS["gradcam"](layer, targets) * 49, METHODS["cam"](layer, targets), rtol=1e-5
    )


def test_two_targets_together_equal_each_alone(definition, images):
    view_ = MxnetNetwork(definition, ("block10_add",), 5).forward(images).layer("block10_add")
    pair = np.tile(np.array([[285, 967]], np.int32), (5, 1))
    together = METHODS["gradcam"](view_, pair)
    for k in range(2):
        alone = METHODS["gradcam"](view_, np.ascontiguousarray(pair[:, k : k + 1]))
        np.testing.assert_allclose(together[:, k], alone[:, 0], rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("size", [224, 225, (160, 225), (225, 96)])
def test_same_padding_at_every_size(size):
    """The grown kernels equal TensorFlow's "same" padding, written out with cv2."""
    definition = load_network("efficientnet_lite0", image_size=size)
    sides = definition.preprocessing.input_shape[1:]
    image = np.random.RandomState(0).standard_normal((3, *sides)).astype(np.float32)
    network = MxnetNetwork(definition, ("stem_conv",), 1)
    ours = network.forward(image[None]).layer("stem_conv").activation[0]
    out = [-(-side // 2) for side in sides]
    totals = [max((n - 1) * 2 + 3 - side, 0) for n, side in zip(out, sides)]
    padded = np.pad(image, ((0, 0), *((total // 2, total - total // 2) for total in totals)))
    weight = definition.parameters["stem_conv_weight"][0][:, -3:, -3:]
    expected = sum(cv2.filter2D(padded[c], -1, weight[c])[1:-1:2, 1:-1:2] for c in range(3))
    np.testing.assert_allclose(ours[0], expected[: out[0], : out[1]], atol=1e-4)
