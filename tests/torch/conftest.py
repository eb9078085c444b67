"""PyTorch from an environment of its own, behind the packages of this one: see the Makefile."""

import os
import site
import sys

for folder in filter(None, [os.environ.get("SHARDCAM_TORCH_PACKAGES")]):
    site.addsitedir(folder)
    sys.modules.setdefault("ml_dtypes", None)  # for another NumPy; onnx would take it
