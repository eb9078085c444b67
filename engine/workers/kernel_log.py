"""What the kernels of a worker's process log, for the driver to log it."""

from __future__ import annotations

import logging
from collections.abc import Callable

KERNELS = logging.getLogger("shardcam.kernels")


class KernelLog(logging.Handler):
    """Gives `tell` each line that the kernels of this process log."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        KERNELS.setLevel(logging.INFO)
        KERNELS.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(record.getMessage())
