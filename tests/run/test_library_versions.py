"""The versions that run.json and the checks of a cluster name."""

from importlib.metadata import PackageNotFoundError

import numpy as np

from shardcam.engine.run import library_versions
from shardcam.engine.run.library_versions import version_of


def test_versions_are_those_installed(monkeypatch):
    assert version_of("numpy") == np.__version__
    assert version_of("no-such-library") == "not installed"

    def gpu_build(name):
        if name != "mxnet-cu117":
            raise PackageNotFoundError
        return "1.9.1"

    monkeypatch.setattr(library_versions, "version", gpu_build)
    assert version_of("mxnet") == "1.9.1"
