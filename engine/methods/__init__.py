"""CAM methods: from activations and gradients to maps, and from maps to heatmaps.

May import: errors, kernels, protocols, types.
"""

from __future__ import annotations

# isort: off
# Each family registers its methods as it is imported, and METHODS lists them in that order.
from shardcam.engine.methods import gradient, eigen, perturbation, fullgrad, attention
from shardcam.engine.methods.registry import METHODS
# isort: on

__all__ = ["METHODS", "attention", "eigen", "fullgrad", "gradient", "perturbation"]
