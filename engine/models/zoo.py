"""Networks of Gluon's model zoo, with weights from a file. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet.gluon.model_zoo import vision

from engine.config import RANDOM_PARAMS
from engine.errors import ModelError
from engine.models.definition import NetworkDefinition
from engine.models.graph import inference_form, parse
from engine.models.params_file import read_params
from engine.types import F4, Preprocessing

NAMES = ("resnet50_v1", "vgg16")

# Gluon's ImageNet convention, moved from the 0-1 to the 0-255 scale.
_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


def zoo_network(name: str, params: str | None, image_size: int = 224) -> NetworkDefinition:
    """Build a zoo network and fill it from `params`: a ``.params`` file, or ``random``.

    Raises
    ------
    ModelError
        No weights were given, or the file is damaged or of another network.
    """
    if params is None:
        raise ModelError(
            f"{name}: no weights; give them with --params FILE.params "
            "(saved by Gluon's save_parameters or export), or --params random to try without"
        )
    with mx.name.NameManager():  # the same layer names in every process, whatever came before
        net = vision.get_model(name, prefix="")
        symbol = net(mx.sym.var("data"))
    shapes = _parameter_shapes(symbol, image_size)
    if params == RANDOM_PARAMS:
        parameters = _random_parameters(shapes)
    else:
        structured = {k: p.name for k, p in net._collect_params_with_prefix().items()}
        parameters = _file_parameters(Path(params), name, shapes, structured)
    return NetworkDefinition(
        name=name,
        graph=inference_form(parse(symbol.tojson())),
        parameters=parameters,
        preprocessing=Preprocessing(image_size, image_size, _MEAN, _STD),
    )


def _parameter_shapes(symbol: mx.sym.Symbol, image_size: int) -> dict[str, tuple[int, ...]]:
    shapes, _, aux = symbol.infer_shape(data=(1, 3, image_size, image_size))
    names = zip(symbol.list_arguments(), shapes, strict=True)
    states = zip(symbol.list_auxiliary_states(), aux, strict=True)
    return {name: tuple(shape) for name, shape in (*names, *states) if name != "data"}


def _random_parameters(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, F4]:
    """He initialisation (He et al. 2015) from a fixed seed: equal on every machine."""
    rng = np.random.RandomState(seed)
    parameters: dict[str, F4] = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("weight"):
            deviation = np.sqrt(2.0 / np.prod(shape[1:]))
            parameters[name] = (rng.standard_normal(shape) * deviation).astype(np.float32)
        else:
            fill = 1.0 if name.endswith(("gamma", "running_var")) else 0.0
            parameters[name] = np.full(shape, fill, np.float32)
    return parameters


def _file_parameters(
    path: Path, name: str, shapes: dict[str, tuple[int, ...]], structured: dict[str, str]
) -> dict[str, F4]:
    """Match the arrays of a file to the network's own names, all of them or none."""
    found = {_own_name(key, structured): value for key, value in read_params(path).items()}
    missing = sorted(set(shapes) - set(found))
    if missing:
        raise ModelError(
            f"{path}: not weights of {name}: {len(missing)} missing, e.g. {missing[0]}"
        )
    for key, shape in shapes.items():
        if found[key].shape != shape:
            raise ModelError(
                f"{path}: not weights of {name}: {key} is {found[key].shape}, not {shape}"
            )
    return {key: np.ascontiguousarray(found[key], np.float32) for key in shapes}


def _own_name(key: str, structured: dict[str, str]) -> str:
    """``features.0.weight``, ``arg:vgg0_conv0_weight`` and ``vgg0_conv0_weight`` mean one thing."""
    if key in structured:
        return structured[key]
    plain = key.removeprefix("arg:").removeprefix("aux:")
    own = set(structured.values())
    without_prefix = plain.partition("_")[2]
    return without_prefix if plain not in own and without_prefix in own else plain
