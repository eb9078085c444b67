"""Before any benchmark imports MXNet: all cores."""

import benchmarks.all_cores  # noqa: F401
