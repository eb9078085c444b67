"""From logits to scores."""

from __future__ import annotations

import numpy as np

from shardcam.engine.types import F4


def softmax(logits: F4) -> F4:
    """(N,classes) logits -> (N,classes) probabilities, without overflow.

    NaN throughout a row whose highest logit is not a finite number.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # infinities less infinities are NaN
        exponential = np.exp(logits - logits.max(axis=1, keepdims=True))
        probability: F4 = exponential / exponential.sum(axis=1, keepdims=True)
    return probability
