"""The system libraries that MXNet's wheel expects and does not bring."""

from __future__ import annotations

import ctypes
import sys

from engine.errors import ShardcamError

PACKAGES = {  # shared object: Debian and Ubuntu, Fedora
    "libgomp.so.1": ("libgomp1", "libgomp"),
    "libquadmath.so.0": ("libquadmath0", "libquadmath"),
}


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
