"""A Ray head of a test's own, on loopback, beside any other Ray of this machine."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
START_SECONDS = 90


@dataclass(frozen=True)
class Head:
    """Where a head listens."""

    address: str  # HOST:PORT, for extract
    folder: Path  # its temporary files
    dashboard: str  # http://HOST:PORT, for submit; nobody there if it has none


def free_ports(count):
    """So many ports that nobody listens on."""
    taken = [socket.socket() for _ in range(count)]
    try:
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]
    finally:
        for one in taken:
            one.close()


@contextmanager
def ray_head(cpus, gpus=0, dashboard=False, **environment):
    """Start a head in a process group of its own; end that group, and no other Ray."""
    port, web, client = free_ports(3)
    folder = tempfile.mkdtemp(prefix="head-")  # a socket's path must be short
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"]
    where = [f"--port={port}", "--node-ip-address=127.0.0.1", f"--temp-dir={folder}"]
    where += ["--min-worker-port=0", "--max-worker-port=0", f"--ray-client-server-port={client}"]
    web_at = [
        "--dashboard-host=127.0.0.1",
        f"--dashboard-port={web}",
        "--dashboard-agent-listen-port=0",
    ]
    size = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--object-store-memory=80000000"]
    head = subprocess.Popen(
        [*command, *where, *size, f"--include-dashboard={dashboard}", *web_at],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(head, port, *([web] if dashboard else []))
        yield Head(f"127.0.0.1:{port}", Path(folder), f"http://127.0.0.1:{web}")
    finally:
        _end(head, folder)


def _wait_for(head, *ports):
    deadline = time.monotonic() + START_SECONDS
    for port in ports:
        while True:
            assert head.poll() is None, "ray start ended"
            assert time.monotonic() < deadline, f"nobody listens on {port}"
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            time.sleep(0.1)


def _end(head, folder):
    """TERM lets Ray end its processes, of which some have groups of their own."""
    head.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        head.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(head.pid, signal.SIGKILL)
    head.wait()
    shutil.rmtree(folder, ignore_errors=True)
