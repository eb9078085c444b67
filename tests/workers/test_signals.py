import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shardcam.engine.workers.signals import DeferredSignals


class Stopped(BaseException):
    pass


@pytest.fixture
def handled():
    def stop(*_):
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    yield stop
    signal.signal(signal.SIGTERM, before)


def wait_for(signals):
    end = time.monotonic() + 10
    while not signals.pending:
        assert time.monotonic() < end, "no signal came"
        time.sleep(0.01)


def test_a_signal_waits_for_the_end(handled):
    with pytest.raises(Stopped), DeferredSignals() as signals:
        assert not signals.pending
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(signals)
        assert signals.pending
    assert signal.getsignal(signal.SIGTERM) is handled


@pytest.mark.parametrize("swallowed", [True, False])
def test_a_signal_that_another_handler_took_is_not_lost(handled, swallowed):
    """As Ray's does, which ends the process, or means to where nothing can be raised."""
    with pytest.raises(Stopped), DeferredSignals() as signals:
        signal.signal(signal.SIGTERM, lambda *_: None if swallowed else sys.exit(15))
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(signals)


def test_without_a_signal_nothing_happens(handled):
    with DeferredSignals() as signals:
        assert not signals.pending
    assert signal.getsignal(signal.SIGTERM) is handled
    with pytest.raises(SystemExit), DeferredSignals():
        sys.exit(1)


@pytest.mark.process
def test_a_driver_that_never_looks_ends_all_the_same():
    """As where a call of Ray waits for a cluster that has gone."""
    code = (
        "import os, signal, time\n"
        "from shardcam.engine.workers.signals import DeferredSignals\n"
        "signal.signal(signal.SIGINT, lambda *_: None)\n"
        "with DeferredSignals(patience=0.5):\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(60)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent.parent.parent,
        capture_output=True,
        timeout=50,
    )
    assert ended.returncode == 4
    assert ended.stderr.decode().endswith("The same command resumes the run\n")
    assert ended.stderr.count(b"\n") == 1


def test_a_notebook_is_not_ended_and_gets_its_interrupt():
    """Its handlers are Python's; with patience for 0 s this process would be gone."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), DeferredSignals(patience=0) as signals:
            os.kill(os.getpid(), signal.SIGINT)
            wait_for(signals)
            time.sleep(0.1)
    finally:
        signal.signal(signal.SIGINT, before)
