"""Names as torchvision defines them (written out from its documentation of each network)."""

import random

import pytest

from shardcam.engine.models.torchvision_layout import matched

NORM = ("weight", "bias", "running_mean", "running_var")


def names(*modules):
    """Expand `conv1` to its weight, `bn1+` to a normalisation's four, `fc*` to weight and bias."""
    parts = {"+": NORM, "*": ("weight", "bias")}
    return [
        f"{module.rstrip('+*')}.{part}"
        for module in modules
        for part in parts.get(module[-1], ("weight",))
    ]


RESNET = names(
    "conv1", "bn1+",
    "layer1.0.conv1", "layer1.0.bn1+", "layer1.0.conv2", "layer1.0.bn2+",
    "layer1.1.conv1", "layer1.1.bn1+",
    "layer2.0.conv1", "layer2.0.bn1+", "layer2.0.conv2", "layer2.0.bn2+",
    "layer2.0.downsample.0", "layer2.0.downsample.1+",
    "layer2.1.conv1", "fc*",
)  # fmt: skip
DENSENET = names(
    "features.conv0", "features.norm0+",
    "features.denseblock1.denselayer1.norm1+", "features.denseblock1.denselayer1.conv1",
    "features.denseblock1.denselayer1.norm2+", "features.denseblock1.denselayer1.conv2",
    "features.denseblock1.denselayer2.norm1+", "features.denseblock1.denselayer2.conv1",
    "features.denseblock1.denselayer10.norm1+", "features.denseblock1.denselayer10.conv1",
    "features.transition1.norm+", "features.transition1.conv",
    "features.denseblock2.denselayer1.norm1+", "features.denseblock2.denselayer1.conv1",
    "features.norm5+", "classifier*",
)  # fmt: skip
SQUEEZENET = names(
    "features.0*", "features.3.squeeze*", "features.3.expand1x1*", "features.3.expand3x3*",
    "features.4.squeeze*", "features.12.expand3x3*", "classifier.1*",
)  # fmt: skip
VGG = names("features.0*", "features.1+", "features.3*", "features.10*", "classifier.0*")


@pytest.mark.parametrize("defined", [RESNET, DENSENET, SQUEEZENET, VGG])
@pytest.mark.parametrize("seed", range(3))
def test_definition_order_is_found_in_any_order(defined, seed):
    parts = {"running_mean": "running_mean", "running_var": "running_var"}
    own = [f"p{i}_{parts.get(name.rpartition('.')[2], name.rpartition('.')[2])}"
           for i, name in enumerate(defined)]  # fmt: skip
    shuffled = [*defined, "bn1.num_batches_tracked"]
    random.Random(seed).shuffle(shuffled)
    assert matched(shuffled, own) == dict(zip(own, defined))


def test_layers_that_are_not_alike():
    own = [f"p{i}_weight" for i in range(len(RESNET))]
    assert matched(RESNET, own) is None
    assert matched(RESNET[:-1], [f"p_{n.rpartition('.')[2]}" for n in RESNET]) is None
