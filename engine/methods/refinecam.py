"""RefineCAM: the product of the Grad-CAM++ heatmaps of several layers."""

from __future__ import annotations

from dataclasses import replace

from shardcam.engine.methods.gradcam_plusplus import GRADCAM_PLUSPLUS

REFINECAM = replace(GRADCAM_PLUSPLUS, paper="pytorch-grad-cam, arXiv:2605.14641", fuse="product")
