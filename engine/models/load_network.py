"""From the name a user types to a network definition."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardcam.engine.config import LITE0, MODEL_FILES, ImageSize
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.definition import NetworkDefinition

if TYPE_CHECKING:
    from shardcam.engine.models.onnx.onnx_file import OnnxFile


def load_network(
    model: str,
    params: str | None = None,
    image_size: ImageSize | None = None,
    link: str | None = None,
    *,
    output: str | None = None,
    inputs: Mapping[str, str] | None = None,
    keep_rounding: bool = False,
    opened: OnnxFile | None = None,
) -> NetworkDefinition:
    """Load `model`: ``efficientnet_lite0``, IRN's or a zoo name with `params`, or a file.

    `link` is from its logits to scores, see `engine.models.links`; by default as the file says.
    Of a file `output` names the value that holds the logits, and `inputs` has numbers for the
    inputs that take no images; `keep_rounding` rounds activations as a quantised one does.
    `opened` is `model` where that is an ONNX file that is read already.

    Raises
    ------
    ConfigError
        No such model, or the link is none of its.
    ModelError
        Its weights are missing, damaged, not finite, or of another network.
    """
    try:
        definition = _load(model, params, image_size, output, inputs or {}, keep_rounding, opened)
    except MemoryError as error:
        raise ModelError(
            f"{model}: there is too little memory for its weights: {str(error)[:200]}"
        ) from error
    for name, value in definition.parameters.items():
        if not np.isfinite(value.sum(dtype=np.float64)):  # MXNet's ReLU would turn NaN into 0
            raise ModelError(f"{model}: its weight {name!r} holds a NaN or an infinity")
    from shardcam.engine.models.links import at_logits
    from shardcam.engine.models.segmentation import is_segmenter, segmenter

    if is_segmenter(definition):
        return segmenter(definition, link)
    return at_logits(definition, link, classifies=not model.endswith(MODEL_FILES))


def _load(
    model: str,
    params: str | None,
    image_size: ImageSize | None,
    output: str | None,
    inputs: Mapping[str, str],
    keep_rounding: bool,
    opened: OnnxFile | None,
) -> NetworkDefinition:
    if inputs and not model.endswith(".onnx"):
        raise ConfigError(f"--input: {model} has no further inputs; only ONNX files may")
    if keep_rounding and not model.endswith(".onnx"):
        raise ConfigError(f"--rounding: {model} is not quantised; only ONNX files may be")
    if output is not None and not model.endswith(MODEL_FILES):
        raise ConfigError(f"--output: {model} has one output; only model files may have several")
    if model == LITE0:
        from shardcam.engine.models.efficientnet_lite import efficientnet_lite0

        if params is not None:
            raise ModelError(f"{LITE0} brings its own weights; leave --params out")
        return efficientnet_lite0(image_size or 224)
    if model.endswith(".onnx"):
        from shardcam.engine.models.onnx.onnx_file import OnnxFile

        if params is not None:
            raise ModelError(f"{model}: contains its weights; leave --params out")
        file = opened or OnnxFile(Path(model))
        return file.network(image_size, output, inputs, keep_rounding)
    from shardcam.engine.models.checkpoint import SUFFIX, checkpoint_network
    from shardcam.engine.models.resnet_irn import STAGES, resnet50_irn
    from shardcam.engine.models.zoo import NAMES, zoo_network

    if model.endswith(SUFFIX):
        return checkpoint_network(Path(model), params, image_size, output)
    if model in NAMES:
        return zoo_network(model, params, image_size)
    if model in STAGES:
        return resnet50_irn(model, params, image_size)
    names = (LITE0, *STAGES, *NAMES)
    near = difflib.get_close_matches(model, names, n=3, cutoff=0.5)
    offer = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(names)}"
    raise ConfigError(
        f"--model: unknown model {model!r}; give a NAME{SUFFIX} or .onnx file or a name; {offer}"
    )
