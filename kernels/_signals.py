"""Signals wait while LLVM works: what a handler raises there is lost, or ends the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def held_signals() -> Iterator[Callable[[], None]]:
    """Let signals that have a handler wait for the end of the block.

    The function that is given to the block calls the handler of one that waits, for a moment at
    which that may raise. In other threads than the main one, which get no signals, nothing is done.
    """
    received: list[int] = []
    handlers: dict[int, Any] = {}

    def hold() -> None:
        if threading.current_thread() is threading.main_thread():
            for number in _STOPPING:
                if callable(handler := signal.getsignal(number)):
                    handlers[number] = handler
                    signal.signal(number, lambda number, _: received.append(number))

    def release() -> None:
        while handlers:
            signal.signal(*handlers.popitem())
        if received:
            signal.raise_signal(received.pop())

    def let_in() -> None:
        if received:
            release()
            hold()

    hold()
    try:
        yield let_in
    finally:
        release()
