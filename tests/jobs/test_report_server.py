"""The report's server answers its own pages to this machine's browsers, and nothing else."""

import http.client
import json
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest

from shardcam.jobs.gallery.gallery_run import opened_run
from shardcam.jobs.gallery.page import PER_PAGE
from shardcam.jobs.gallery.server import ReportServer
from tests.jobs.command import shardcam, start
from tests.jobs.shown import make_shown_run


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    return make_shown_run(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def server(shown):
    with opened_run(shown.paths, photographs=True) as opened, ReportServer(opened, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server, path, method="GET", hosts=("127.0.0.1",)):
    """Status, headers and body of a request with the given Host headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)
    connection.putrequest(method, path, skip_host=True)
    for host in hosts:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def rows_of(server, query=""):
    status, _, body = ask(server, f"/items?{query}")
    assert status == 200, body
    found = json.loads(body)
    return found["total"], [item["row"] for item in found["items"]]


def test_pages_go_through_all_rows(server):
    seen = []
    for page in range(4):
        total, rows = rows_of(server, f"page={page}")
        assert total == 70
        seen += rows
    assert seen == list(range(70))
    assert len(rows_of(server, "page=0")[1]) == PER_PAGE


def test_filters_look_at_all_rows(server, shown):
    rows = shown.rows
    first, score, label = rows["top_class"][:, 0], rows["top_score"][:, 0], rows["label"]
    wanted = np.flatnonzero((label >= 0) & (label != first) & (score >= 0.5))
    wanted = wanted[np.argsort(score[wanted], kind="stable")]
    total, found = rows_of(server, "correct=0&low=0.5&order=unsure")
    assert total == len(wanted) > 0
    assert found == wanted[:PER_PAGE].tolist()
    assert rows_of(server, "predicted=99") == (0, [])


def test_pictures_are_made_on_request(server, shown):
    for path in ("/photo/7.webp", "/heat/0/1/7.webp"):
        status, headers, body = ask(server, path)
        assert (status, headers["Content-Type"]) == (200, "image/webp")
        assert cv2.imdecode(np.frombuffer(body, np.uint8), 1).shape[2] == 3
    _, _, body = ask(server, "/items")
    pictures = json.loads(body)["items"][7]["pictures"]
    assert pictures["photo"] == "photo/7.webp"
    assert pictures["heat"][0][1] == "heat/0/1/7.webp"


def test_average_maps_are_made_on_request(server, shown):
    status, _, body = ask(server, "/means?layer=1")
    assert status == 200
    assert sum(m["count"] for m in json.loads(body)) == (shown.rows["flags"] == 0).sum()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/run.json", 404),
        ("/../run.json", 404),
        ("/..%2frun.json", 404),
        ("//etc/passwd", 404),
        ("/photo/../../run.json", 404),
        ("/photo/70.webp", 404),
        ("/photo/-1.webp", 404),
        ("/photo/%30.webp", 404),
        ("/heat/2/0/0.webp", 404),
        ("/heat/0/2/0.webp", 404),
        ("/means?layer=2", 404),
        ("/means", 400),
        ("/items?page=-1", 400),
        ("/items?low=nan", 400),
        ("/items?low=<b>", 400),
        ("/items?predicted=9999999999999999999999", 400),
        ("/items?order=random", 400),
        ("/items?password=1", 400),
        ("/items?" + "&".join(f"x{i}=1" for i in range(30)), 400),
        ("http://127.0.0.1/", 404),
    ],
)
def test_nothing_else_is_there(server, path, status):
    found, headers, body = ask(server, path)
    assert found == status, body
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("hosts", "status"),
    [
        (("127.0.0.1:8000",), 200),
        (("localhost:9",), 200),
        (("LOCALHOST",), 200),
        (("evil.example",), 403),
        (("127.0.0.1.evil.example:8000",), 403),
        (("evil@localhost.example",), 403),
        (("[::1",), 403),
        (("127.0.0.1", "evil.example"), 403),
        ((), 403),
    ],
    ids=str,
)
def test_a_page_elsewhere_cannot_read_it_under_another_name(server, hosts, status):
    for path in ("/", "/items", "/photo/0.webp"):
        assert ask(server, path, hosts=hosts)[0] == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_only_get(server, method):
    assert ask(server, "/", method)[0] == 501


def test_every_answer_forbids_what_the_page_does_not_need(server):
    _, headers, body = ask(server, "/")
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert headers["Cache-Control"] == "no-store"
    assert b"<img src=x" not in body


def test_it_listens_on_loopback_alone(server):
    assert server.socket.getsockname()[0] == "127.0.0.1"


def test_many_at_once(server):
    """Threads share the files: each gets its own picture."""
    alone = [ask(server, f"/photo/{row}.webp")[2] for row in range(70)]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(lambda row: ask(server, f"/photo/{row}.webp")[2], range(70))
        heats = pool.map(lambda row: ask(server, f"/heat/0/0/{row}.webp")[0], range(70))
        assert list(together) == alone
        assert set(heats) == {200}
    assert len(set(alone)) > 60


def test_a_browser_that_goes_away_is_no_error(server, capfd):
    for _ in range(5):
        connection = socket.create_connection(("127.0.0.1", server.server_port))
        connection.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()
    assert rows_of(server)[0] == 70
    assert capfd.readouterr().err == ""


@pytest.mark.process
def test_the_command_serves_until_it_is_stopped(shown):
    process = start("report", shown.paths.root, "--serve", "--port", 0)
    try:
        line = process.stdout.readline()
        port = int(line.partition("http://127.0.0.1:")[2].partition("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/")
        assert connection.getresponse().status == 200
        code, _, err = shardcam("report", shown.paths.root, "--serve", "--port", port)
        assert (code, err.count("\n")) == (2, 1)
        assert f"--port {port}: Address already in use; 0 takes a free one" in err
    finally:
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert not (shown.paths.root / "report.html").exists()
