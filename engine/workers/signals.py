"""SIGINT and SIGTERM wait for a moment at which the driver may stop."""

from __future__ import annotations

import signal


class DeferredSignals:
    """Lets SIGINT and SIGTERM wait for a moment at which the driver may stop.

    Ray swallows or garbles what a handler raises inside its calls, and puts a handler of
    its own in the place of SIGTERM's, which ends the process with no word.
    """

    _numbers = (signal.SIGINT, signal.SIGTERM)

    def __enter__(self) -> DeferredSignals:
        self._received: list[int] = []
        self._handlers = {number: signal.getsignal(number) for number in self._numbers}
        self.install()
        return self

    def install(self) -> None:
        """Record signals from here on; again after Ray has put its handler in place."""
        for number in self._numbers:
            signal.signal(number, lambda number, _frame: self._received.append(number))

    @property
    def pending(self) -> bool:
        """Whether a signal waits."""
        return bool(self._received)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        if kind is SystemExit:  # from Ray's handler
            self._received.append(signal.SIGTERM)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self.pending:
            signal.raise_signal(self._received[0])
        return kind is SystemExit
