import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from shardcam.engine.workers import ray_executor
from shardcam.engine.workers import signals as deferred
from shardcam.engine.workers.ray_address import LOCAL
from shardcam.engine.workers.ray_cluster import RayOptions
from shardcam.engine.workers.ray_executor import RayExecutor
from shardcam.engine.workers.signals import DeferredSignals
from tests.workers.scripted import builder, nobody

OPTIONS = RayOptions(1, 1, 0, LOCAL)


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


def test_a_signal_that_comes_as_the_wait_ends_is_not_lost(handled, monkeypatch):
    set_wakeup_fd = signal.set_wakeup_fd

    def and_then_one_comes(handle):
        set_wakeup_fd(handle)
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped), DeferredSignals():
        monkeypatch.setattr(signal, "set_wakeup_fd", and_then_one_comes)


def test_the_alarm_of_rays_handler_does_not_abort_the_process(handled):
    with pytest.raises(Stopped), DeferredSignals() as signals:
        signal.alarm(100)  # as that handler does before it calls this one
        os.kill(os.getpid(), signal.SIGTERM)
        wait_for(signals)
        end = time.monotonic() + 10
        while signal.getitimer(signal.ITIMER_REAL)[0]:
            assert time.monotonic() < end, "it goes off"
            time.sleep(0.01)


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
    assert ended.stderr.decode().endswith("Run the same command again\n")
    assert ended.stderr.count(b"\n") == 1


@pytest.mark.parametrize("may_exit", [False, True])
def test_only_a_command_may_be_ended(tmp_path, monkeypatch, handled, may_exit):
    """Whatever handlers a program has that calls the library: they get the signal."""
    left = threading.Event()

    @contextmanager
    def stuck(_options, _own):
        os.kill(os.getpid(), signal.SIGTERM)
        yield left.wait(10 if may_exit else 0.2)

    monkeypatch.setattr(ray_executor, "session", stuck)
    monkeypatch.setattr(ray_executor, "PATIENCE", 0)
    monkeypatch.setattr(ray_executor, "require_capacity", lambda _options: sys.exit(1))
    monkeypatch.setattr(deferred, "_leave", left.set)
    with pytest.raises(Stopped):
        list(RayExecutor(builder({}, tmp_path), OPTIONS, may_exit).run([], nobody))
    assert left.is_set() == may_exit
