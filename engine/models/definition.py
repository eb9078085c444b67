"""A network as it was loaded: graph, parameters, preprocessing. Not yet bound to a device."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from shardcam.engine.config import size_text
from shardcam.engine.errors import ModelError
from shardcam.engine.models.graph import Graph
from shardcam.engine.models.symbol_json import to_json
from shardcam.engine.types import F4, SOFTMAX, LayerInfo, Preprocessing

# What networks for ImageNet are usually trained with, moved from the 0-1 to the 0-255 scale.
IMAGENET_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
IMAGENET_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)


MAX_CHANNELS = 1024  # of an input


def usual_scale(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation that are assumed: ImageNet's for colour, else the 0-1 scale."""
    if channels == 3:
        return IMAGENET_MEAN, IMAGENET_STD
    return (0.0,) * channels, (255.0,) * channels


def open_size(height: int, width: int) -> str:
    """The remark that a file leaves the input's size open."""
    size = size_text(height, width)
    return f"the model file leaves the input's size open: --image-size {size} was taken"


class OneSize(ModelError):
    """A file states a side of its images, or needs one, and another one is asked for or taken."""


@dataclass(frozen=True, eq=False)
class NetworkDefinition:
    """What a model file says; compared by identity, so that what is found out can be kept by it.

    `graph` ends at the logits; `input_name` is the variable that takes (N,C,H,W)
    float32 images; `parameters` holds every other variable.
    """

    name: str
    graph: Graph
    parameters: dict[str, F4]
    preprocessing: Preprocessing
    input_name: str = "data"
    assumed: bool = False  # the file says nothing of preprocessing; this one was assumed
    takes_bytes: bool = False  # the file's input is of whole numbers: pixels as they are
    remarks: tuple[str, ...] = ()  # what else was chosen because the file leaves it open
    link: str = SOFTMAX  # from logits to scores: softmax, sigmoid or none
    binary: bool = False  # one output z, here the logits -z and z of classes 0 and 1
    loss: str = ""  # of MXNet, for numbers, which the file ended in
    prediction: LayerInfo | None = None  # (classes,h,w) logits of pixels, of a segmentation network
    of_one_size: bool = False  # the graph was made for the input's size: others have another
    tokens: int | None = None  # before those of the picture, where the graph does not say

    def digest(self) -> str:
        """SHA-256 of the graph and of every parameter's name, shape and bytes."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        state = hashlib.sha256(to_json(self.graph).encode())
        for name in sorted(self.parameters):
            value = self.parameters[name]
            state.update(f"\n{name}{value.shape}{value.dtype.str}\n".encode())
            state.update(value.tobytes())
        return state.hexdigest()
