"""How signals stop a command."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from shardcam.engine.errors import Interrupted

_STOPPING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_LOOK = 0.05  # seconds between two looks at whether a signal still has its effect


@contextmanager
def stop_on_signals(what_next: str | Callable[[], str]) -> Iterator[Callable[[], None]]:
    """Let Ctrl-C, SIGTERM and SIGHUP (a closed terminal) raise `Interrupted` in the block.

    A library that is loading or calling back may swallow whatever is raised in it. An exception
    that is gone, or was only printed, while the block goes on was swallowed: the signal is then
    sent again. A library may also keep it; the function that is given to the block raises it
    again where there was a signal. SIGHUP stays ignored where it is, as under ``nohup``.

    Parameters
    ----------
    what_next
        What the same command does when it is given again; a function is asked at the signal.
    """
    inside, stopped, calls = True, "", 0

    def stop(number: int, _frame: FrameType | None) -> None:
        nonlocal stopped, calls
        calls += 1
        then = what_next if isinstance(what_next, str) else what_next()
        stopped = f"stopped by {signal.Signals(number).name}; {then}"
        raised = Interrupted(stopped)
        try:
            with suppress(RuntimeError):  # there can be no more threads
                _thread.start_new_thread(insist, (number, weakref.ref(raised), calls))
            raise raised
        finally:
            del raised  # from its own traceback, which would keep it alive

    def insist(number: int, raised: weakref.ref[Interrupted], call: int) -> None:
        sent = False
        while calls == call:
            swallowed = raised() in (None, getattr(sys, "last_value", None))
            if not inside:
                return
            # One that comes just before a long call of C is seen after it: so not only once,
            # but for handlers of others, which may wait.
            if swallowed and not (sent and signal.getsignal(number) is not stop):
                signal.pthread_kill(threading.main_thread().ident or 0, number)
                sent = True
            time.sleep(_LOOK)

    def require_no_signal() -> None:
        if stopped:
            raise Interrupted(stopped)

    before: dict[int, Any] = {}
    try:
        for number in _STOPPING:
            handler = signal.getsignal(number)
            if number != signal.SIGHUP or handler != signal.SIG_IGN:
                before[number] = handler
                signal.signal(number, stop)
        yield require_no_signal
    except Exception as error:
        if stopped:  # what a library made of it
            raise Interrupted(stopped) from error
        raise
    finally:
        inside = False
        for number, handler in before.items():
            signal.signal(number, handler)
