"""What the channels have in common: principal components, and FEM's counts of high values.

But for eigengradcam the class plays no part. None of these maps is a sum of terms, one for
each channel, so that there is nothing for ``--smooth eigen`` to project.
"""

from __future__ import annotations

from array_api_compat import array_namespace

from shardcam.engine.methods.arrays import stacked, weighted_sum
from shardcam.engine.methods.class_gradients import gradients, spatial_mean
from shardcam.engine.methods.combine import FirstComponent
from shardcam.engine.methods.components import first_component, first_kernel_component
from shardcam.engine.methods.registry import FORWARD, GRADIENT, cam_method
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4

FEM_DEVIATIONS = 2


@cam_method("eigencam", paper="Muhammad & Yeasin, IJCNN 2020", needs=FORWARD, per_class=False)
def eigencam(layer: LayerView, targets: I4) -> F4:
    """The activations A projected on their first principal component."""
    return _for_each_target(first_component(layer.activation), targets)


@cam_method("eigengradcam", paper="pytorch-grad-cam (no paper)", needs=GRADIENT)
def eigengradcam(layer: LayerView, targets: I4) -> F4:
    """The first principal component of HiResCAM's terms, ``G_c A_c``."""
    return FirstComponent().elements(layer.activation, gradients(layer, targets))


@cam_method(
    "kpcacam",
    paper="Karmani et al., MMSP 2024, arXiv:2410.00267",
    needs=FORWARD,
    per_class=False,
)
def kpcacam(layer: LayerView, targets: I4) -> F4:
    """Eigen-CAM in the feature space of a sigmoid kernel."""
    return _for_each_target(first_kernel_component(layer.activation), targets)


@cam_method("fem", paper="Fuad et al., IPTA 2020", needs=FORWARD, per_class=False)
def fem(layer: LayerView, targets: I4) -> F4:
    """Channels weighted by the share of values above mean + 2 deviations, as pytorch-grad-cam."""
    activation = layer.activation
    xp = array_namespace(activation)
    mean = xp.mean(activation, axis=(2, 3), keepdims=True)
    deviation = xp.std(activation, axis=(2, 3), keepdims=True)
    above = activation > mean + FEM_DEVIATIONS * deviation
    weights = spatial_mean(xp.astype(above, xp.float32))
    return _for_each_target(weighted_sum(activation, weights[:, None])[:, 0], targets)


def _for_each_target(maps: F4, targets: I4) -> F4:
    """(N,h,w), (N,K) -> (N,K,h,w): the same map for every class."""
    return stacked([maps] * targets.shape[1])
