"""Channels weighted by gradients of the class score.

A (N,C,h,w) are the layer's activations, S the logit of a class, G = dS/dA; sums and means are
over the positions of a channel unless they name it. CAM stands at the head: behind global
average pooling and one dense layer, the dense layer's weights are its gradient.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator

import numpy as np
from array_api_compat import array_namespace, device

from shardcam.engine.methods.arrays import positive, stacked
from shardcam.engine.methods.class_gradients import (
    gradients,
    mean_gradient,
    one_hot,
    spatial_mean,
    spatial_sum,
)
from shardcam.engine.methods.combine import Combine
from shardcam.engine.methods.registry import FORWARD, GRADIENT, cam_method
from shardcam.engine.methods.scores import softmax
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

ALPHA_EPSILON = 1e-6  # Grad-CAM++
TOTAL_EPSILON = 1e-7  # XGrad-CAM
NOISY_COPIES = 4  # Smooth Grad-CAM++
NOISE_DEVIATION = 0.3  # in the unit of the network's input
SIMILAR_CLASSES = 3  # Finer-CAM
HESSIAN_STEP = 0.01  # ShapleyCAM: share of A, each way


@cam_method("cam", paper="Zhou et al., CVPR 2016", needs=FORWARD)
def cam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c W[t,c] A_c``: the dense layer's weight for the class (equation 2).

    Raises
    ------
    ConfigError
        The network has no global average pooling and dense layer after this one.
    """
    return combine.channels(layer.activation, layer.class_weights(targets))


@cam_method("gradcam", paper="Selvaraju et al., ICCV 2017", needs=GRADIENT)
def gradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c mean(G_c) A_c`` (equations 1 and 2)."""
    return combine.channels(layer.activation, mean_gradient(layer, targets))


@cam_method("refinecam", paper="pytorch-grad-cam, arXiv:2605.14641", needs=GRADIENT, fuse="product")
@cam_method("gradcam++", paper="Chattopadhay et al., WACV 2018", needs=GRADIENT)
def gradcam_plusplus(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c (sum alpha_c relu(G_c)) A_c`` (equations 10, 11, 19).

    RefineCAM is the product of the heatmaps that this gives for several layers.
    """
    activation = layer.activation
    total = array_namespace(activation).sum(activation, axis=(2, 3), keepdims=True)
    weights = (
        spatial_sum(alpha(g**2, g**3, total) * positive(g), layer)
        for g in gradients(layer, targets)
    )
    return combine.channels(activation, stacked(weights))


def alpha(second: F4, third: F4, total: F4) -> F4:
    """``G^2 / (2 G^2 + (sum A) G^3 + 1e-6)``, 0 where there is no gradient.

    As in pytorch-grad-cam; torchcam has ``sum(A G^3)`` in the denominator.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # the map is flagged
        coefficient: F4 = second / (2 * second + total * third + ALPHA_EPSILON)
    kept: F4 = array_namespace(second).where(second != 0, coefficient, 0.0)
    return kept


@cam_method("xgradcam", paper="Fu et al., BMVC 2020", needs=GRADIENT)
def xgradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c (sum(G_c A_c) / (sum(A_c) + 1e-7)) A_c`` (equation 8)."""
    activation = layer.activation
    xp = array_namespace(activation)
    total = xp.sum(activation, axis=(2, 3)) + TOTAL_EPSILON
    weights = (xp.sum(g * activation, axis=(2, 3)) / total for g in gradients(layer, targets))
    return combine.channels(activation, stacked(weights))


@cam_method("hirescam", paper="Draelos & Carin, 2020, arXiv:2011.08891", needs=GRADIENT)
def hirescam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c G_c A_c``: the map shows what the class score used (equation 4)."""
    return combine.elements(layer.activation, gradients(layer, targets))


@cam_method("gradcamelementwise", paper="pytorch-grad-cam (no paper)", needs=GRADIENT)
def gradcam_elementwise(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c relu(G_c A_c)``: what speaks for the class, channel by channel."""
    return combine.elements(layer.activation, gradients(layer, targets), relu="product")


@cam_method("layercam", paper="Jiang et al., TIP 2021", needs=GRADIENT)
def layercam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c relu(G_c) A_c``, meant for early layers too (equation 6)."""
    return combine.elements(layer.activation, gradients(layer, targets), relu="factor")


@cam_method(
    "smoothgradcam++",
    paper="Omeiza et al., 2019, arXiv:1908.01224",
    needs=f"{NOISY_COPIES} more forward passes, {GRADIENT} each",
    multi_pass=True,
    passes=lambda layer: (NOISY_COPIES, 0),
)
def smoothgradcam_plusplus(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Grad-CAM++ with G, G^2 and G^3 averaged over noisy copies of the image (section 3).

    As many copies as torchcam's; the noise is the same for every image and every run.
    """
    activation = layer.activation
    total = array_namespace(activation).sum(activation, axis=(2, 3), keepdims=True)
    classes = layer.classes
    powers: list[list[F4]] = [[]] * targets.shape[1]
    for noise in _noise(layer.images.shape[1:]):
        noisy = layer.of(layer.images + noise)
        for k, column in enumerate(targets.T):
            gradient = noisy.gradient(one_hot(column, classes))
            parts = [gradient**p / NOISY_COPIES for p in (1, 2, 3)]
            powers[k] = list(map(operator.add, powers[k], parts)) or parts
    weights = (
        spatial_sum(alpha(second, third, total) * positive(first), layer)
        for first, second, third in powers
    )
    return combine.channels(activation, stacked(weights))


def _noise(shape: tuple[int, ...]) -> F4:
    random = np.random.RandomState(0)
    noise: F4 = random.normal(0, NOISE_DEVIATION, (NOISY_COPIES, *shape)).astype(np.float32)
    return noise


@cam_method("finercam", paper="Zhang et al., CVPR 2025, arXiv:2501.11309", needs=GRADIENT)
def finercam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Grad-CAM of the logit less the weighted logits of the nearest classes (equation 4)."""
    weights = (spatial_mean(layer.gradient(d)) for d in _directions(layer.logits, targets))
    return combine.channels(layer.activation, stacked(weights))


def _directions(logits: F4, targets: I4) -> Iterator[F4]:
    """K times (N,classes): the gradient of ``z_t - sum_j p_j z_j`` with regard to the logits.

    j runs over the classes whose logits are nearest to the target's, and p is the softmax over
    these, itself a function of the logits, as in pytorch-grad-cam.
    """
    rows, similar = np.arange(len(logits))[:, None], min(SIMILAR_CLASSES, logits.shape[1] - 1)
    for column in targets.T:
        distance = np.abs(logits - logits[rows, column[:, None]])
        distance[rows, column[:, None]] = np.inf
        near = np.argsort(distance, axis=1, kind="stable")[:, :similar]
        direction = one_hot(column, logits.shape[1])
        if near.shape[1]:
            scores = logits[rows, near]
            share = softmax(scores)
            mean = (share * scores).sum(axis=1, keepdims=True)
            direction[rows, near] -= share * (1 + scores - mean)
        yield direction


@cam_method(
    "shapleycam",
    paper="Cai, 2025, arXiv:2501.06261",
    needs=f"{GRADIENT}, two more if the head is curved",
)
def shapleycam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """``sum_c mean(G_c - (H A)_c / 2) A_c``, H the Hessian of S (equation 17).

    The Hessian times A is the slope of the gradient along A, taken as a central difference
    over 1 % of A each way: MXNet's operators have no second derivatives. It is 0 where all
    operators of the head are piecewise linear, as automatic differentiation has it. In a head
    that has both kinds it counts the kinks of ReLU and max-pooling that these 2 % cross, which
    automatic differentiation does not.
    """
    weights = mean_gradient(layer, targets)
    if not layer.piecewise_linear:
        weights = weights - _curvature(layer, targets) / 2
    return combine.channels(layer.activation, weights)


def _curvature(layer: LayerView, targets: I4) -> F4:
    """(N,K,C) spatial means of the Hessian times A."""
    activation, classes = layer.activation, layer.classes
    images, targets_each = targets.shape
    xp, shape = array_namespace(activation), (images, targets_each, activation.shape[1])
    curvature: F4 = xp.empty(shape, dtype=xp.float32, device=device(activation))
    for start in range(0, images, layer.head_rows):
        part = np.arange(start, min(start + layer.head_rows, images), dtype=np.int32)
        for k in range(targets_each):
            direction = one_hot(targets[part, k], classes)
            up, down = (
                layer.at(activation[part] * (1 + step), part, True).gradient(direction)
                for step in (HESSIAN_STEP, -HESSIAN_STEP)
            )
            curvature[part, k] = spatial_mean(up - down) / (2 * HESSIAN_STEP)
    return curvature
