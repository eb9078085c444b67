"""ResNet-50 as weakly supervised segmentation has it: finer strides, and a 1x1 convolution last.

Ahn, Cho & Kwak, "Weakly Supervised Learning of Instance Segmentation with Inter-pixel
Relations", CVPR 2019 (IRN). torchvision's layers, of which the last stage, or the last two, keep
the resolution; then the mean over positions, and a convolution of one pixel.
"""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np

from shardcam.engine.config import RANDOM_PARAMS, ImageSize, sides_of
from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import IMAGENET_MEAN, IMAGENET_STD, NetworkDefinition
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.irn_weights import by_torchvision_names
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.models.weight_files import (
    Shape,
    Weights,
    inferred_shapes,
    random_weights,
    read_weights,
)
from shardcam.engine.types import F4, Preprocessing

# Of each network the strides of its four stages, and the dilations of their blocks but the first.
# IRN has no output stride of 8; ReCAM and its successors take the second.
STAGES = {
    "resnet50_irn": ((1, 2, 2, 1), (1, 1, 1, 1)),
    "resnet50_irn8": ((1, 2, 1, 1), (1, 1, 2, 2)),
}
_BLOCKS, _CHANNELS, _FEATURES = (3, 4, 6, 3), (64, 128, 256, 512), 2048
_CLASSES = 20  # of random weights: Pascal VOC's
_EPSILON = 1e-5
_NORM = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
_CLASSIFIER, _FC = "classifier", "fc"  # the last layer: IRN's, and torchvision's


def resnet50_irn(
    name: str, params: str | None, image_size: ImageSize | None = None
) -> NetworkDefinition:
    """Build one of `STAGES` and fill it from `params`: a weight file, or ``random``.

    Its classes are those of the last layer in the file. Behind IRN's comes a sigmoid, as it is
    trained; torchvision's ``fc``, whose bias stays, has the softmax that it was trained with.

    Raises
    ------
    ModelError
        No weights were given, or the file is damaged or of another network.
    """
    if params is None:
        raise ModelError(
            f"{name}: no weights; give them with --params FILE.pth, IRN's or those of "
            "torchvision's resnet50, or --params random to try without"
        )
    size = sides_of(image_size or 224)
    if params == RANDOM_PARAMS:
        return _network(name, size, None)
    weights = read_weights(Path(params))
    try:
        return _network(name, size, by_torchvision_names(weights))
    except ModelError as error:
        raise ModelError(f"{params}: not weights of {name}: {error}") from error


def _network(name: str, size: tuple[int, int], weights: Weights | None) -> NetworkDefinition:
    """Filled from weights by torchvision's names, or at random."""
    last = (_CLASSIFIER, _CLASSES, False) if weights is None else _last_layer(weights)
    builder = _Builder(*STAGES[name])
    symbol = builder.scores(*last)
    shapes = inferred_shapes(symbol, data=(1, 3, *size))
    del shapes["data"]
    names = builder.sources
    return NetworkDefinition(
        name=name,
        graph=inference_form(parse(symbol.tojson())),
        parameters=random_weights(shapes) if weights is None else _fitted(weights, shapes, names),
        preprocessing=Preprocessing(*size, IMAGENET_MEAN, IMAGENET_STD),
    )


def _last_layer(weights: Weights) -> tuple[str, int, bool]:
    """Its name, its classes, and whether it has a bias."""
    last = _CLASSIFIER if f"{_CLASSIFIER}.weight" in weights else _FC
    weight = weights.get(f"{last}.weight")
    if weight is None:
        raise ModelError(f"it has neither {_CLASSIFIER}.weight nor {_FC}.weight")
    if weight.shape[1:] not in ((_FEATURES,), (_FEATURES, 1, 1)) or not len(weight):
        raise ModelError(f"{last}.weight is {weight.shape}, not (classes, {_FEATURES}, 1, 1)")
    return last, len(weight), f"{last}.bias" in weights


def _fitted(weights: Weights, shapes: dict[str, Shape], names: dict[str, str]) -> dict[str, F4]:
    """The weights of all variables, whose `names` in the file are known; and no others."""
    for wrong, words in (
        (names.values() - weights.keys(), "missing"),
        (weights.keys() - names.values(), "unknown (give the network as ONNX)"),
    ):
        if wrong:
            raise ModelError(f"{len(wrong)} {words}, e.g. {min(wrong)[:100]!r}")
    found = {}
    for variable, shape in shapes.items():
        value = weights[names[variable]]
        if value.ndim == 2:  # torchvision's last layer is a dense one
            value = value[..., None, None]
        if value.shape != shape:
            raise ModelError(f"{names[variable]} is {value.shape}, not {shape}")
        found[variable] = np.ascontiguousarray(value, np.float32)
    return found


class _Builder:
    """Writes the symbol layer by layer, and down what torchvision calls each variable."""

    def __init__(self, strides: tuple[int, ...], dilations: tuple[int, ...]) -> None:
        self._stages = [*zip(_CHANNELS, _BLOCKS, strides, dilations, strict=True)]
        self.sources: dict[str, str] = {}

    def scores(self, last: str, classes: int, bias: bool) -> mx.sym.Symbol:
        """As the network is trained: IRN's with a sigmoid at its end, torchvision's without."""
        x = self._conv_bn(mx.sym.var("data"), "conv1", "bn1", 64, 7, stride=2)
        x = mx.sym.Activation(x, name="relu", act_type="relu")
        x = mx.sym.Pooling(
            x, name="maxpool", pool_type="max", kernel=(3, 3), stride=(2, 2), pad=(1, 1)
        )
        for number, (channels, blocks, stride, dilation) in enumerate(self._stages, 1):
            x = self._block(x, f"layer{number}.0", channels, stride, 1, changes=True)
            for i in range(1, blocks):
                x = self._block(x, f"layer{number}.{i}", channels, 1, dilation)
        x = mx.sym.Pooling(x, name="avgpool", global_pool=True, pool_type="avg", kernel=(1, 1))
        x = self._conv(x, last, classes, 1, bias=bias)
        x = mx.sym.Flatten(x, name="logits")
        return mx.sym.sigmoid(x, name="scores") if last == _CLASSIFIER else x

    def _block(
        self, x: mx.sym.Symbol, name: str, channels: int, stride: int, dilation: int,
        changes: bool = False,
    ) -> mx.sym.Symbol:  # fmt: skip
        """A bottleneck, which strides at its 3x3; `changes` the shape of what goes past it."""
        shortcut, own = x, name.replace(".", "_")
        x = self._conv_bn(x, f"{name}.conv1", f"{name}.bn1", channels, 1)
        x = mx.sym.Activation(x, name=f"{own}_relu1", act_type="relu")
        x = self._conv_bn(x, f"{name}.conv2", f"{name}.bn2", channels, 3, stride, dilation)
        x = mx.sym.Activation(x, name=f"{own}_relu2", act_type="relu")
        x = self._conv_bn(x, f"{name}.conv3", f"{name}.bn3", 4 * channels, 1)
        if changes:
            past = f"{name}.downsample"
            shortcut = self._conv_bn(shortcut, f"{past}.0", f"{past}.1", 4 * channels, 1, stride)
        x = mx.sym.elemwise_add(x, shortcut, name=f"{own}_add")
        return mx.sym.Activation(x, name=own, act_type="relu")

    def _conv_bn(
        self, x: mx.sym.Symbol, conv: str, norm: str, channels: int, kernel: int,
        stride: int = 1, dilation: int = 1,
    ) -> mx.sym.Symbol:  # fmt: skip
        x = self._conv(x, conv, channels, kernel, stride, dilation)
        own = norm.replace(".", "_")
        self.sources |= {f"{own}_{ours}": f"{norm}.{theirs}" for ours, theirs in _NORM.items()}
        return mx.sym.BatchNorm(x, name=own, fix_gamma=False, eps=_EPSILON)

    def _conv(
        self, x: mx.sym.Symbol, name: str, channels: int, kernel: int,
        stride: int = 1, dilation: int = 1, bias: bool = False,
    ) -> mx.sym.Symbol:  # fmt: skip
        own = name.replace(".", "_")
        for part in ("weight", "bias") if bias else ("weight",):
            self.sources[f"{own}_{part}"] = f"{name}.{part}"
        pad = kernel // 2 * dilation
        return mx.sym.Convolution(
            x, name=own, num_filter=channels, no_bias=not bias, kernel=(kernel, kernel),
            stride=(stride, stride), pad=(pad, pad), dilate=(dilation, dilation),
        )  # fmt: skip
