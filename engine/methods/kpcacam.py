"""KPCA-CAM: the first kernel principal component of A."""

from __future__ import annotations

from shardcam.engine.methods.combine import FORWARD, CamMethod, Combine
from shardcam.engine.methods.components import first_kernel_component
from shardcam.engine.methods.eigencam import for_each_target
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4


def kpcacam(layer: LayerView, targets: I4, combine: Combine) -> F4:
    """Eigen-CAM in the feature space of a sigmoid kernel; the class plays no part."""
    return for_each_target(first_kernel_component(layer.activation), targets)


KPCACAM = CamMethod(
    kpcacam,
    "Karmani et al., MMSP 2024, arXiv:2410.00267",
    FORWARD,
    cost=(1.03, 1.04),
    terms=False,
    per_class=False,
)
