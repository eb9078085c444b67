"""PyTorch from an environment of its own, behind the packages of this one: see the Makefile."""

import os
import site

for folder in filter(None, [os.environ.get("SHARDCAM_TORCH_PACKAGES")]):
    site.addsitedir(folder)
