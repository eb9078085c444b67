"""FullGrad: what the input and every bias add to the score, of the network as a whole."""

from __future__ import annotations

from array_api_compat import array_namespace, device

from shardcam.engine.methods.arrays import contiguous, normalize, stacked, upsample
from shardcam.engine.methods.class_gradients import one_hot
from shardcam.engine.methods.registry import cam_method
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


@cam_method(
    "fullgrad",
    paper="Srinivas & Fleuret, NeurIPS 2019",
    needs="a backward pass through the whole network",
    multi_pass=True,
    explains_input=True,
)
def fullgrad(layer: LayerView, targets: I4) -> F4:
    """Add up the stretched magnitudes of all terms (equation 6); the layer is the input.

    The terms, input times gradient and each bias times its gradient, sum to the logit where
    the network is piecewise linear (proposition 1).
    """
    like, maps = layer.activation, []
    xp = array_namespace(like)
    for column in targets.T:
        size = len(targets), *layer.images.shape[2:]
        total = xp.zeros(size, dtype=xp.float32, device=device(like))
        for images, term in layer.bias_terms(one_hot(column, layer.classes)):
            total[images] += _saliency(term, layer)
        maps.append(total)
    return stacked(maps)


def _saliency(term: F4, layer: LayerView) -> F4:
    """(N,C,h,w) -> (N,H,W): each channel stretched to [0, 1], added, and then enlarged.

    Enlarging is linear, so that the channels need not be enlarged one by one.
    """
    count, channels, h, w = term.shape
    xp = array_namespace(term)
    normalized = normalize(xp.abs(term).reshape(-1, h, w)).reshape(count, channels, h, w)
    height, width = layer.images.shape[2:]
    return upsample(contiguous(xp.sum(normalized, axis=1)), (height, width))
