"""From logits to scores."""

from __future__ import annotations

import numpy as np
from array_api_compat import array_namespace

from shardcam.engine.types import F4, I2, NO_CLASS, SIGMOID, SOFTMAX


def linked(logits: F4, link: str) -> F4:
    """(N,classes) logits -> (N,classes) scores, by the network's link; none changes nothing."""
    if link == SOFTMAX:
        return softmax(logits)
    return sigmoid(logits) if link == SIGMOID else logits


def softmax(logits: F4) -> F4:
    """(N,classes) logits -> (N,classes) probabilities, without overflow.

    NaN throughout a row whose highest logit is not a finite number.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinities less infinities are NaN
        exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability: F4 = exponential / exponential.sum(axis=1, keepdims=True)
    return probability


def sigmoid(logits: F4) -> F4:
    """``1 / (1 + exp(-z))`` of each, without overflow."""
    small = np.exp(-np.abs(logits))
    probability: F4 = np.where(logits < 0, small, np.float32(1)) / (1 + small)
    return probability


def won_pixels(logits: F4, link: str) -> tuple[I2, F4]:
    """(N,classes,h,w) -> (N,h,w) class of each pixel, (N,classes) share of the pixels it wins.

    By a sigmoid a class wins where its logit is above 0, be it the highest there or not; a pixel
    where none does has no class. Shares are NaN in rows with a logit that is not finite.
    """
    xp = array_namespace(logits)
    won = logits > 0 if link == SIGMOID else logits == xp.max(logits, axis=1, keepdims=True)
    share = xp.mean(xp.astype(won, xp.float32), axis=(2, 3))
    finite = xp.all(xp.isfinite(logits), axis=(1, 2, 3))
    classes = xp.astype(xp.argmax(logits, axis=1), xp.int16)
    return (
        xp.where(xp.any(won, axis=1), classes, NO_CLASS),
        xp.where(finite[:, None], share, np.nan),
    )
