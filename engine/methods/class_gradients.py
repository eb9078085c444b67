"""Gradients of class scores, one target after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from array_api_compat import array_namespace

from shardcam.engine.methods.arrays import stacked
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def gradients(layer: LayerView, targets: I4) -> Iterator[F4]:
    """(N,K) classes -> K times (N,C,h,w), or (N,C,1,1) in closed form.

    All classes in one backward pass, if the head takes as many rows.
    """
    images, classes = len(targets), layer.classes
    rows = targets.size
    if layer.closed_form or rows == images or rows > layer.head_rows:
        for column in targets.T:
            yield layer.gradient(one_hot(column, classes))
        return
    image = np.tile(np.arange(images, dtype=np.int32), rows // images)
    together = layer.at(layer.activation[image], image, differentiable=True)
    whole = together.gradient(one_hot(targets.T.ravel(), classes))
    yield from whole.reshape(-1, images, *whole.shape[1:])


def mean_gradient(layer: LayerView, targets: I4) -> F4:
    """(N,K) classes -> (N,K,C) spatial means of the gradients."""
    if layer.closed_form:
        return layer.class_weights(targets) / math.prod(layer.activation.shape[2:])
    return stacked(map(spatial_mean, gradients(layer, targets)))


def one_hot(classes: I4, count: int) -> F4:
    """(N,) class numbers -> (N,count)."""
    directions = np.zeros((len(classes), count), np.float32)
    directions[np.arange(len(classes)), classes] = 1
    return directions


def spatial_mean(values: F4) -> F4:
    """(N,C,h,w) -> (N,C)."""
    mean: F4 = array_namespace(values).mean(values, axis=(2, 3))
    return mean


def spatial_sum(values: F4, layer: LayerView) -> F4:
    """(N,C,h,w) -> (N,C); what is given once for all positions, (N,C,1,1), counts for each."""
    repeats = math.prod(layer.activation.shape[2:]) / math.prod(values.shape[2:])
    total: F4 = array_namespace(values).sum(values, axis=(2, 3)) * repeats
    return total
