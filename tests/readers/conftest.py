"""A web server of our own on loopback."""

import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from shardcam.engine.io import urls


class Server(BaseHTTPRequestHandler):
    """Files of a folder, by byte ranges; told to, it fails a few times first."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self):
        self.server.asked.append((self.path, self.headers.get("Range")))
        path = self.server.root / self.path.lstrip("/").partition("?")[0]
        if self.server.failing or self.path.endswith(self.server.failing_at):
            self.server.failing -= 1
            return self.answer(503)
        if not path.is_file():
            return self.answer(404)
        data = path.read_bytes()
        span = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if span is None or not self.server.ranges:
            return self.answer(200, data)
        first, last = map(int, span.groups())
        length = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return self.answer(206, data[first : last + 1], length)

    do_HEAD = do_GET  # noqa: N815

    def answer(self, status, data=b"", headers=()):
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Accept-Ranges", "bytes" if self.server.ranges else "none")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web(tmp_path, monkeypatch):
    monkeypatch.setattr(urls, "_PAUSES", (0.01, 0.01))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.root, server.failing, server.ranges, server.asked = tmp_path, 0, True, []
    server.failing_at = "no path ends like this"
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
