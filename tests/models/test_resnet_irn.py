"""ResNet-50 of IRN: what its weights are called, and which files are refused.

Beside PyTorch in tests/torch/test_irn_network.py.
"""

import numpy as np
import pytest
from safetensors.numpy import save_file

from shardcam.engine.errors import ModelError
from shardcam.engine.models import resnet_irn
from shardcam.engine.models.irn_weights import by_torchvision_names
from shardcam.engine.models.layer_names import class_count, resolve_layer
from shardcam.engine.models.load_network import load_network

# Written out from IRN's modules: a Sequential of conv1, bn1, relu, maxpool and layer1, and so on.
COPIES = {
    "conv1.weight": ("resnet50.conv1.weight", "stage1.0.weight", "backbone.0.0.weight"),
    "bn1.running_var": (
        "resnet50.bn1.running_var", "stage1.1.running_var", "backbone.0.1.running_var",
    ),
    "layer1.2.conv3.weight": (
        "resnet50.layer1.2.conv3.weight", "stage1.4.2.conv3.weight", "backbone.0.4.2.conv3.weight",
    ),
    "layer2.0.downsample.1.bias": (
        "resnet50.layer2.0.downsample.1.bias", "stage2.0.0.downsample.1.bias",
        "backbone.1.0.0.downsample.1.bias",
    ),
    "layer4.1.bn2.weight": (
        "resnet50.layer4.1.bn2.weight", "stage4.0.1.bn2.weight", "backbone.3.0.1.bn2.weight",
    ),
    "classifier.weight": ("classifier.weight", "newly_added.0.weight", "classifier.weight"),
}  # fmt: skip
VALUES = {name: np.array([number], "f4") for number, name in enumerate(COPIES)}


@pytest.mark.parametrize("wrapper", ["", "module.", "module.model."])
@pytest.mark.parametrize("chosen", [(0,), (1,), (2,), (0, 1, 2)])
def test_any_of_the_three_names(wrapper, chosen):
    stored = {
        f"{wrapper}{names[i]}": VALUES[name] for name, names in COPIES.items() for i in chosen
    }
    stored[f"{wrapper}stage1.1.num_batches_tracked"] = np.array(5)
    assert by_torchvision_names(stored) == VALUES


def test_a_backbone_of_the_last_stages():
    """As of W-OoD, which trains two of the four."""
    stage = np.zeros(2)
    stored = {"stage3.0.5.bn1.bias": stage, "backbone.0.0.5.bn1.bias": stage,
              "stage4.0.1.bn1.bias": stage + 1, "backbone.1.0.1.bn1.bias": stage + 1}  # fmt: skip
    assert by_torchvision_names(stored).keys() == {"layer3.5.bn1.bias", "layer4.1.bn1.bias"}


def test_torchvisions_names_stay():
    names = ("conv1.weight", "layer3.5.bn1.running_mean", "fc.bias")
    stored = dict.fromkeys(names, np.zeros(1))
    assert by_torchvision_names(stored) == stored
    assert by_torchvision_names({f"module.{name}": v for name, v in stored.items()}) == stored


def test_copies_that_differ_are_refused():
    for other in (np.ones(1), np.zeros(2)):
        stored = {"stage4.0.0.bn1.bias": np.zeros(1), "backbone.3.0.0.bn1.bias": other}
        with pytest.raises(ModelError, match=r"'stage4.*' and 'backbone.*' should be the same"):
            by_torchvision_names(stored)


@pytest.fixture(scope="module")
def random():
    return load_network("resnet50_irn", "random", 64)


def torchvision_name(variable):
    """layer1_0_bn1_gamma -> layer1.0.bn1.weight."""
    module, part = variable.rsplit("_moving_", 1) if "_moving_" in variable else (
        variable.rsplit("_", 1)
    )  # fmt: skip
    parts = {"gamma": "weight", "beta": "bias", "mean": "running_mean", "var": "running_var"}
    return f"{module.replace('_', '.')}.{parts.get(part, part)}"


@pytest.fixture
def stored(random):
    return {torchvision_name(name): value for name, value in random.parameters.items()}


@pytest.fixture
def load(monkeypatch):
    """The network from weights that need not be written first."""

    def load(weights):
        monkeypatch.setattr(resnet_irn, "read_weights", lambda _: weights)
        return load_network("resnet50_irn", "res50_cam.pth", 64)

    return load


def test_random_weights(random):
    assert (random.link, class_count(random)) == ("sigmoid", 20)
    found = resolve_layer(random, "auto")
    assert (found.name, found.shape, found.closed_form) == ("layer4_2", (2048, 4, 4), True)
    finer = resolve_layer(load_network("resnet50_irn8", "random", 64), "auto")
    assert (finer.shape, finer.closed_form) == ((2048, 8, 8), True)


def test_weights_find_their_places(random, stored, load):
    assert load(stored).digest() == random.digest()


@pytest.mark.parametrize(
    ("shape", "outputs"), [((5, 2048, 1, 1), 5), ((7, 2048), 7), ((1, 2048, 1, 1), 2)]
)
def test_classes_of_the_file(stored, load, shape, outputs):
    stored["classifier.weight"] = np.ones(shape, "f4")
    found = load(stored)
    assert (found.link, class_count(found)) == ("sigmoid", outputs)
    assert resolve_layer(found, "auto").closed_form


def test_the_dense_layer_of_torchvision(stored, load):
    del stored["classifier.weight"]
    stored |= {"fc.weight": np.ones((1000, 2048), "f4"), "fc.bias": np.ones(1000, "f4")}
    found = load(stored)
    assert (found.link, class_count(found)) == ("softmax", 1000)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classifier.weight": None}, "it has neither classifier.weight nor fc.weight"),
        ({"classifier.weight": (20, 512, 1, 1)}, r"classifier.weight is \(20, 512, 1, 1\), not"),
        ({"classifier.weight": (0, 2048)}, r"classifier.weight is \(0, 2048\), not"),
        ({"classifier.weight": ()}, r"classifier.weight is \(\), not"),
        ({"classifier.bias": (19,)}, r"classifier.bias is \(19,\), not \(20,\)"),
        ({"layer4.1.bn2.weight": None}, "1 missing, e.g. 'layer4.1.bn2.weight'"),
        ({"side\n1.weight": (1,)}, r"1 unknown .*ONNX.*, e.g. 'side\\n1.weight'"),
        ({"layer1.0.conv2.weight": (64, 64, 1, 1)}, r"layer1.0.conv2.weight is \(64, 64, 1, 1\)"),
    ],
)
def test_other_weights_are_refused(stored, load, changes, message):
    for name, shape in changes.items():
        stored[name] = None if shape is None else np.zeros(shape, "f4")
    with pytest.raises(ModelError, match=message) as caught:
        load({name: value for name, value in stored.items() if value is not None})
    assert str(caught.value).startswith("res50_cam.pth: not weights of resnet50_irn: ")
    assert "\n" not in str(caught.value)


def test_a_file_of_nothing_is_not_random(tmp_path):
    save_file({"bn1.num_batches_tracked": np.zeros(1)}, tmp_path / "empty.safetensors")
    with pytest.raises(ModelError, match="it has neither"):
        load_network("resnet50_irn", str(tmp_path / "empty.safetensors"))


def test_no_weights_says_how_to_get_them():
    with pytest.raises(ModelError, match=r"resnet50_irn8: no weights; .*--params FILE\.pth"):
        load_network("resnet50_irn8")
