"""One place that sets how many threads a process uses, before the libraries look."""

from __future__ import annotations

import faulthandler
import logging
import os
import warnings
from contextlib import suppress


def limit_threads(count: int) -> None:
    """Give MXNet, BLAS, Numba and OpenCV `count` threads; call before MXNet is imported.

    MXNet reads OMP_NUM_THREADS when it loads, and takes half the cores if it is unset.
    Its crash handler replaces Python's unless faulthandler came first.
    """
    # sys.stderr may be None, closed, or have no descriptor, as in a notebook or a service
    with suppress(OSError, AttributeError, ValueError, RuntimeError):
        faulthandler.enable()
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = str(count)
    os.environ.setdefault("MXNET_SUBGRAPH_VERBOSE", "0")  # a line to stderr at each bind
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a damaged image becomes a failure row
    warnings.filterwarnings("ignore", module="PIL")  # about odd EXIF entries
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    import cv2

    cv2.setNumThreads(count)
