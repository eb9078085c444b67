"""MXNet, imported without what it does not need."""

from __future__ import annotations

import sys


def import_mxnet() -> None:
    """Import MXNet, but not scikit-learn, with SciPy and pandas, for a base class of a class.

    Where scikit-learn is installed that is a quarter of the time, in every worker and command.
    """
    hidden = "sklearn" not in sys.modules
    if hidden:
        sys.modules["sklearn"] = None  # type: ignore[assignment]
    try:
        import mxnet  # noqa: F401
    finally:
        if hidden:
            del sys.modules["sklearn"]
