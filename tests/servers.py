"""Object stores on loopback that a test can watch, fail and stop."""

from __future__ import annotations

import threading
import time

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
BUSY = b"<Error><Code>InternalError</Code><Message>busy</Message></Error>"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class S3:
    """A server of S3's protocol; what it holds stays while it is stopped."""

    def __init__(self) -> None:
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = None
        self._deciding = threading.Lock()
        self._port = 0
        self.asked: list[tuple[str, str, str | None]] = []  # method, path, range
        self.failing = 0  # answers that are 503
        self.on_put = lambda path: None
        self.lost = None  # ending of paths that are never kept, without a word of it
        self.delay = 0.0  # seconds before each answer
        self.open = self.most = 0  # requests that wait now, and that did so at once
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self._port, self._answer, threaded=True)
        self._port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """From now on connections are refused."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, environ, start_response):
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.asked.append((method, path, environ.get("HTTP_RANGE")))
        self.open += 1
        self.most = max(self.most, self.open)
        time.sleep(self.delay)
        self.open -= 1
        if "HTTP_AUTHORIZATION" not in environ:
            return self._reply(environ, start_response, "403 Forbidden", DENIED)
        if self.failing:
            self.failing -= 1
            return self._reply(environ, start_response, "503 Service Unavailable", BUSY)
        if method == "PUT":
            self.on_put(path)
            if self.lost and path.endswith(self.lost):
                return self._reply(environ, start_response, "200 OK", b"")
        if "HTTP_IF_NONE_MATCH" in environ:  # S3 looks and writes in one step; moto does not
            with self._deciding:
                return self._app(environ, start_response)
        return self._app(environ, start_response)

    @staticmethod
    def _reply(environ, start_response, status, body):
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response(status, [("Content-Type", "application/xml")])
        return [body]
