import os
import signal
import sys

import pytest

from engine.workers.signals import DeferredSignals


class Stopped(BaseException):
    pass


@pytest.fixture
def handled():
    def stop(*_):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield stop
    signal.signal(signal.SIGTERM, before)


def test_a_signal_waits_for_the_end(handled):
    with pytest.raises(Stopped), DeferredSignals() as signals:
        assert not signals.pending
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.pending
        assert signals.pending
    assert signal.getsignal(signal.SIGTERM) is handled


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_signal_that_another_handler_took_is_not_lost(handled, swallowed):
    """As Ray's does, which ends the process, or means to where nothing can be raised."""
    with pytest.raises(Stopped), DeferredSignals() as signals:
        signal.signal(signal.SIGTERM, lambda *_: None if swallowed else sys.exit(15))
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.pending


def test_without_a_signal_nothing_happens(handled):
    with DeferredSignals() as signals:
        assert not signals.pending
    assert signal.getsignal(signal.SIGTERM) is handled
    with pytest.raises(SystemExit), DeferredSignals():
        sys.exit(1)
