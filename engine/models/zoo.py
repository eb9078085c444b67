"""Networks of Gluon's model zoo, with weights from a file. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo import vision

from shardcam.engine.config import RANDOM_PARAMS, ImageSize, sides_of, size_text
from shardcam.engine.errors import ModelError
from shardcam.engine.models import torchvision_layout
from shardcam.engine.models.definition import IMAGENET_MEAN, IMAGENET_STD, NetworkDefinition
from shardcam.engine.models.graph_forms import inference_form
from shardcam.engine.models.symbol_json import parse
from shardcam.engine.models.weight_files import (
    Shape,
    Weights,
    inferred_shapes,
    random_weights,
    read_weights,
)
from shardcam.engine.types import F4, Preprocessing

NAMES = (
    *torchvision_layout.SAME,
    "inceptionv3",
    *(f"mobilenet{width}" for width in ("1.0", "0.75", "0.5", "0.25")),
    *(f"mobilenetv2_{width}" for width in ("1.0", "0.75", "0.5", "0.25")),
    *(f"resnet{n}_v1" for n in (50, 101, 152)),
    *(f"resnet{n}_v2" for n in (18, 34, 50, 101, 152)),
)
_SIZES = {"inceptionv3": 299}


def zoo_network(
    name: str, params: str | None, image_size: ImageSize | None = None
) -> NetworkDefinition:
    """Build a zoo network and fill it from `params`: a weight file, or ``random``.

    It has as many classes as the last layer in the file: 1000, or those of a fine-tuned network.

    Raises
    ------
    ModelError
        No weights were given, or the file is damaged or of another network.
    """
    if params is None:
        raise ModelError(
            f"{name}: no weights; give them with --params FILE.params (saved by Gluon), "
            "FILE.safetensors or torchvision's FILE.pth, or --params random to try without"
        )
    net, symbol = _build(name)
    size = sides_of(image_size or _SIZES.get(name, 224))
    shapes = _parameter_shapes(name, symbol, size)
    if params == RANDOM_PARAMS:
        parameters = random_weights(shapes)
    else:
        weights = _file_weights(Path(params), name, net)
        classes = _classes(weights, shapes, net)
        if classes is not None:
            net, symbol = _build(name, classes)
            shapes = _parameter_shapes(name, symbol, size)
        parameters = _checked(Path(params), name, weights, shapes)
    return NetworkDefinition(
        name=name,
        graph=inference_form(parse(symbol.tojson())),
        parameters=parameters,
        preprocessing=Preprocessing(*size, IMAGENET_MEAN, IMAGENET_STD),
    )


def _build(name: str, classes: int = 1000) -> tuple[Any, mx.sym.Symbol]:
    with mx.name.NameManager():  # the same layer names in every process, whatever came before
        net = vision.get_model(name, prefix="", classes=classes)
        return net, net(mx.sym.var("data"))


def _classes(weights: Weights, shapes: dict[str, Shape], net: Any) -> int | None:
    """Outputs of the last layer in a file, where they differ from the network's; else None."""
    last = [*net.output.collect_params()]  # its weight comes first
    usual, found = shapes[last[0]], weights[last[0]].shape
    others = all(weights[key].shape[:1] == found[:1] for key in last)
    fits = len(found) == len(usual) and found[1:] == usual[1:] and others
    return found[0] if fits and 0 < found[0] != usual[0] else None


def _parameter_shapes(name: str, symbol: mx.sym.Symbol, size: tuple[int, int]) -> dict[str, Shape]:
    try:
        shapes = inferred_shapes(symbol, data=(1, 3, *size))
    except mx.base.MXNetError as error:
        raise ModelError(f"{name}: cannot take --image-size {size_text(*size)}") from error
    del shapes["data"]
    return shapes


def _file_weights(path: Path, name: str, net: Any) -> Weights:
    """Match the arrays of a file to the network's own names, all of them or none."""
    weights, own = read_weights(path), list(net.collect_params())
    found = _by_own_names(weights, net)
    missing = sorted(set(own) - set(found))
    if missing and path.suffix != ".params":
        found = _from_torch(path, name, weights, own)
        missing = sorted(set(own) - set(found))
    if missing:
        raise ModelError(
            f"{path}: not weights of {name}: {len(missing)} missing, e.g. {missing[0]}"
        )
    return found


def _checked(path: Path, name: str, found: Weights, shapes: dict[str, Shape]) -> dict[str, F4]:
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ModelError(
                f"{path}: not weights of {name}: {key} is {found[key].shape}, not {shape}"
            )
    return {key: np.ascontiguousarray(found[key], np.float32) for key in shapes}


def _by_own_names(weights: Weights, net: Any) -> Weights:
    """``features.0.weight``, ``arg:vgg0_conv0_weight`` and ``vgg0_conv0_weight`` mean one thing."""
    structured = {key: p.name for key, p in net._collect_params_with_prefix().items()}
    own = set(structured.values())
    found: Weights = {}
    for key, value in weights.items():
        plain = structured.get(key, key.removeprefix("arg:").removeprefix("aux:"))
        without_prefix = plain.partition("_")[2]
        found[without_prefix if plain not in own and without_prefix in own else plain] = value
    return found


def _from_torch(path: Path, name: str, weights: Weights, own: list[str]) -> Weights:
    if name not in torchvision_layout.SAME:
        raise ModelError(
            f"{path}: not Gluon's weights, and torchvision's network differs from Gluon's "
            f"{name}; export it to ONNX and give --model FILE.onnx"
        )
    names = torchvision_layout.matched(list(weights), own)
    if names is None:
        raise ModelError(f"{path}: not weights of {name}: its layers are not those of the network")
    return {ours: weights[theirs] for ours, theirs in names.items()}
