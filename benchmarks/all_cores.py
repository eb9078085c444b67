"""Imported before MXNet, which reads when it loads how many threads it may use.

All cores, or as many as OMP_NUM_THREADS says: MXNet alone would take half of them.
"""

import os
import sys

from shardcam.engine.workers.threads import limit_threads

if "mxnet" in sys.modules:
    raise ImportError("import benchmarks.all_cores first: MXNet has chosen its threads already")
THREADS = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
limit_threads(THREADS)
