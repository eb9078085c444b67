"""A way to a server that a test can cut: what a dashboard that restarts looks like."""

import socket
import threading
from contextlib import contextmanager, suppress


class Proxy:
    """Passes bytes between its port and another one."""

    def __init__(self, port):
        self._target = port
        self._open = []
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """Break every connection, and each that is tried from now on."""
        self._cut = True
        for one in self._open:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def mend(self):
        """Let connections through again."""
        self._cut = False

    def close(self):
        """End it."""
        self.cut()
        self._listener.close()

    def _accept(self):
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self._cut:
                    near.close()
                    continue
                self.connections += 1
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source, sink):
        with suppress(OSError):
            while piece := source.recv(65536):
                sink.sendall(piece)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy_to(port):
    """A proxy to a port of this machine."""
    proxy = Proxy(port)
    try:
        yield proxy
    finally:
        proxy.close()
