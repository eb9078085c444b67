"""MXNet, and the libraries that its wheel expects and does not bring."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from importlib.util import find_spec

from shardcam.engine.errors import ConfigError, ShardcamError, needs, with_extra
from shardcam.engine.models.cuda import preload_libraries
from shardcam.engine.models.import_mxnet import import_mxnet

PACKAGES = {  # shared object: Debian and Ubuntu, Fedora
    "libgomp.so.1": ("libgomp1", "libgomp"),
    "libquadmath.so.0": ("libquadmath0", "libquadmath"),
}
ADDRESS_SPACE = 1536 << 20  # bytes, before there is a network
DRIVER = "libcuda.so.1"
# For each kind of operator MXNet keeps what it made for each shape, for ever unless it is told a
# number; with thousands of shapes that is gigabytes. The largest networks have a few hundred.
OPERATORS_KEPT = "MXNET_MKLDNN_CACHE_NUM", "512"


def ready_libraries() -> None:
    """Import MXNet: check the system's libraries before, and load NVIDIA's if installed.

    Raises
    ------
    ShardcamError
        A library is missing, or the address space is too small; the message says what to do.
    """
    require_system_libraries()
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if resource.RLIM_INFINITY != limit < ADDRESS_SPACE:
        raise ShardcamError(
            f"ulimit -v {limit >> 10} (kB) is too little: MXNet and Numba take "
            f"{ADDRESS_SPACE >> 10} before there is a network; raise it"
        )
    if find_spec("numba") is None:
        raise ConfigError(f"this {needs('numba')}")
    if find_spec("mxnet") is None:
        raise ConfigError(
            f"this {needs('mxnet')}; beside NumPy 2, as on Python 3.13, the extra extraction and "
            "pip install --no-deps mxnet==1.9.1"
        )
    if preload_libraries() and not _loads(DRIVER):
        raise ShardcamError(
            f"{DRIVER} is missing, which MXNet's GPU wheel needs: install NVIDIA's driver, or "
            f"{with_extra('cpu')} in a new environment"
        )
    os.environ.setdefault(*OPERATORS_KEPT)
    import_mxnet()


def require_system_libraries() -> None:
    """Raise one line that names the packages to install, if a library is missing."""
    missing = [name for name in PACKAGES if not _loads(name)]
    if missing:
        debian = " ".join(PACKAGES[name][0] for name in missing)
        fedora = " ".join(PACKAGES[name][1] for name in missing)
        raise ShardcamError(
            f"MXNet needs {' and '.join(missing)}; install with: apt-get install {debian}  "
            f"(Debian, Ubuntu) or dnf install {fedora} (Fedora)"
        )


def _loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    try:
        require_system_libraries()
    except ShardcamError as error:
        sys.exit(f"shardcam: {error}")
