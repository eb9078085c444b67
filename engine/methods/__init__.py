"""Every CAM method, by the name a user types. A new one is a file and a line here."""

from __future__ import annotations

from engine.methods.cam import cam
from engine.methods.gradcam import gradcam
from engine.protocols import Method

METHODS: dict[str, Method] = {
    "cam": cam,
    "gradcam": gradcam,
}
