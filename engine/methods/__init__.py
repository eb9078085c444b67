"""CAM methods: from activations and gradients to maps, and from maps to heatmaps.

May import: kernels, protocols, types.
"""

from __future__ import annotations

from shardcam.engine.methods.ablationcam import ABLATIONCAM
from shardcam.engine.methods.cam import CAM
from shardcam.engine.methods.combine import CamMethod
from shardcam.engine.methods.eigencam import EIGENCAM
from shardcam.engine.methods.eigengradcam import EIGENGRADCAM
from shardcam.engine.methods.fem import FEM
from shardcam.engine.methods.finercam import FINERCAM
from shardcam.engine.methods.fullgrad import FULLGRAD
from shardcam.engine.methods.gradcam import GRADCAM
from shardcam.engine.methods.gradcam_elementwise import GRADCAM_ELEMENTWISE
from shardcam.engine.methods.gradcam_plusplus import GRADCAM_PLUSPLUS
from shardcam.engine.methods.hirescam import HIRESCAM
from shardcam.engine.methods.kpcacam import KPCACAM
from shardcam.engine.methods.layercam import LAYERCAM
from shardcam.engine.methods.refinecam import REFINECAM
from shardcam.engine.methods.scorecam import SCORECAM
from shardcam.engine.methods.shapleycam import SHAPLEYCAM
from shardcam.engine.methods.smoothgradcam_plusplus import SMOOTHGRADCAM_PLUSPLUS
from shardcam.engine.methods.xgradcam import XGRADCAM

METHODS: dict[str, CamMethod] = {
    "cam": CAM,
    "gradcam": GRADCAM,
    "gradcam++": GRADCAM_PLUSPLUS,
    "xgradcam": XGRADCAM,
    "hirescam": HIRESCAM,
    "gradcamelementwise": GRADCAM_ELEMENTWISE,
    "layercam": LAYERCAM,
    "eigencam": EIGENCAM,
    "eigengradcam": EIGENGRADCAM,
    "kpcacam": KPCACAM,
    "scorecam": SCORECAM,
    "ablationcam": ABLATIONCAM,
    "smoothgradcam++": SMOOTHGRADCAM_PLUSPLUS,
    "finercam": FINERCAM,
    "refinecam": REFINECAM,
    "shapleycam": SHAPLEYCAM,
    "fem": FEM,
    "fullgrad": FULLGRAD,
}
