"""What stands between a reader and the files of a run."""

import builtins
import errno
import sys

import pytest

from shardcam.engine.errors import StoreError
from shardcam.engine.rundir.hdf5_reading import register_filters


def test_filters_that_cannot_be_read_now_are_tried_again(monkeypatch):
    imported = builtins.__import__

    def refuse(name, *rest):
        if name == "hdf5plugin":
            raise OSError(errno.EMFILE, "Too many open files")
        return imported(name, *rest)

    register_filters.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", refuse)
        with pytest.raises(StoreError, match=r"^hdf5plugin: cannot be read now: Too many open"):
            register_filters()
    register_filters()
    assert "hdf5plugin" in sys.modules
