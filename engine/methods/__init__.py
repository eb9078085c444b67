"""Every CAM method, by the name a user types. A new one is a file and a line here."""

from __future__ import annotations

from engine.methods.ablationcam import ABLATIONCAM
from engine.methods.cam import CAM
from engine.methods.eigencam import EIGENCAM
from engine.methods.eigengradcam import EIGENGRADCAM
from engine.methods.fem import FEM
from engine.methods.finercam import FINERCAM
from engine.methods.fullgrad import FULLGRAD
from engine.methods.gradcam import GRADCAM
from engine.methods.gradcam_elementwise import GRADCAM_ELEMENTWISE
from engine.methods.gradcam_plusplus import GRADCAM_PLUSPLUS
from engine.methods.hirescam import HIRESCAM
from engine.methods.kpcacam import KPCACAM
from engine.methods.layercam import LAYERCAM
from engine.methods.method import CamMethod
from engine.methods.refinecam import REFINECAM
from engine.methods.scorecam import SCORECAM
from engine.methods.shapleycam import SHAPLEYCAM
from engine.methods.smoothgradcam_plusplus import SMOOTHGRADCAM_PLUSPLUS
from engine.methods.xgradcam import XGRADCAM

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
