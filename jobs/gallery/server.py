"""The report as pages that are made when a browser of this machine asks for them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import numpy.typing as npt

from shardcam.engine.analysis.row_filter import RowFilter
from shardcam.engine.analysis.samples import Samples
from shardcam.engine.analysis.stored_clusters import NO_CLUSTER
from shardcam.engine.errors import ConfigError, ShardcamError
from shardcam.engine.types import F4, NO_CLASS
from shardcam.jobs.gallery.gallery_items import Item, MeanMap, Pictures, make_items
from shardcam.jobs.gallery.gallery_run import UNREAD, OpenedRun
from shardcam.jobs.gallery.heatmap_pictures import FORM, NoPhotograph, encode
from shardcam.jobs.gallery.page import PER_PAGE, as_json, policy, render
from shardcam.jobs.gallery.row_columns import MEASURE_ORDERS, ORDERS, Positions, in_order
from shardcam.jobs.gallery.run_clusters import RunClusters

LOOPBACK = "127.0.0.1"
_HOSTS = (LOOPBACK, "localhost")  # what a browser of this machine calls us
_TEXT, _HTML, _JSON = "text/plain; charset=utf-8", "text/html; charset=utf-8", "application/json"
_CONDITIONS = {  # what a query calls a condition, the filter's name for it, and its kind
    "predicted": ("predicted", int),
    "label": ("label", int),
    "correct": ("correct", int),
    "flag": ("flag", int),
    "low": ("min_score", float),
    "high": ("max_score", float),
}
_BOUNDS = ("least", "most")  # of a measure
_LARGEST = 2**31
_MOST_ROWS = 64  # that are asked for at once


@dataclass(frozen=True)
class Answer:
    """What is sent to a browser."""

    status: int
    form: str
    body: bytes


class Pages:
    """Everything that can be asked for, by its path.

    Threads may share it.
    """

    def __init__(self, opened: OpenedRun) -> None:
        self._opened, self._lock = opened, Lock()
        self._means: dict[str, list[MeanMap]] = {}
        every = opened.gallery(opened.columns, None, None, opened.shown_clusters())
        self._page = render(every).encode()
        self._parts: dict[re.Pattern[str], Callable[..., Answer]] = {
            re.compile(r"/items"): self._items,
            re.compile(r"/means"): self._mean_maps,
            re.compile(r"/rows"): self._rows,
            re.compile(r"/clusters/(\d{1,9})/(\d{1,9})"): self._clusters,
            re.compile(r"/photo/(\d{1,9})\.webp"): self._photo,
            re.compile(r"/heat/(\d{1,9})/(\d{1,9})/(\d{1,9})\.webp"): self._heat,
        }

    def answer(self, target: str) -> Answer:
        """What is at a path, which may have a query."""
        path, _, query = target.partition("?")
        if path == "/":
            return Answer(200, _HTML, self._page)
        try:
            asked = dict(parse_qsl(query, max_num_fields=20))
            for pattern, part in self._parts.items():
                if found := pattern.fullmatch(path):
                    return part(asked, *map(int, found.groups()))
            return Answer(404, _TEXT, b"There is nothing here.")
        except (IndexError, NoPhotograph) as error:
            return Answer(404, _TEXT, str(error).encode())
        except ValueError as error:
            return Answer(400, _TEXT, str(error).encode())
        except ShardcamError as error:
            return Answer(500, _TEXT, str(error).encode())

    def _items(self, asked: dict[str, str]) -> Answer:
        page = _number("page", asked.pop("page", "0"), int)
        opened, order = self._opened, _order(asked.pop("order", ORDERS[0]))
        columns, values, measured = opened.columns, *self._measured(asked)
        wanted = measured & self._clustered(asked)
        rows = in_order(columns, wanted & _filter(asked).matching(columns), order, values)
        part = rows[page * PER_PAGE : (page + 1) * PER_PAGE]
        return _json({"total": len(rows), "items": self._made(part)})

    def _rows(self, asked: dict[str, str]) -> Answer:
        rows = [_number("rows", text, int) for text in asked.get("rows", "").split(",")]
        if len(rows) > _MOST_ROWS:
            raise ValueError(f"rows: {_MOST_ROWS} at most")
        return _json(self._made(np.array(rows, np.intp)))

    def _made(self, rows: Positions) -> list[Item]:
        opened = self._opened
        return make_items(
            opened.run,
            rows,
            opened.name_of,
            self._addresses,
            opened.measures,
            opened.boxes,
            opened.clusters,
        )

    def _clusters(self, _: dict[str, str], clustering: int, number: int) -> Answer:
        if number not in self._opened.clusters[clustering].classes:
            raise IndexError(f"class {number} was not clustered")
        return _json(self._opened.class_clusters(clustering, number))

    def _clustered(self, asked: dict[str, str]) -> npt.NDArray[np.bool_]:
        """(N,) which rows are of the class and the cluster that are asked for."""
        of, cluster = asked.pop("group", None), asked.pop("cluster", None)
        if of is None:
            if cluster is not None:
                raise ValueError("cluster: of which class?")
            return np.ones(len(self._opened.columns), bool)
        clustering, number = (_number("group", text, int) for text in f"{of}:".split(":")[:2])
        wanted = None if cluster is None else _number("cluster", cluster, int, NO_CLUSTER)
        one: RunClusters = self._opened.clusters[clustering]
        return one.matching(number, wanted)

    def _measured(self, asked: dict[str, str]) -> tuple[F4 | None, npt.NDArray[np.bool_]]:
        """(N,) values of the measure that is asked for, and which rows meet its bounds."""
        number, bounds = asked.pop("measure", None), {n: asked.pop(n, None) for n in _BOUNDS}
        if number is None:
            if any(bounds.values()):
                raise ValueError("least, most: of which metric?")
            return None, np.ones(len(self._opened.columns), bool)
        values = self._opened.measures[_number("measure", number, int)].values[:, 0]
        low, high = (
            otherwise if text is None else _number(name, text, float, -_LARGEST)
            for (name, text), otherwise in zip(bounds.items(), (-np.inf, np.inf), strict=True)
        )
        return values, (values >= low) & (values <= high)

    def _addresses(self, samples: Samples, _: int, row: int) -> Pictures:
        layers, targets = range(len(self._opened.maps)), samples["target"].shape[1]
        heat: list[list[str | None]]
        heat = [[f"heat/{layer}/{k}/{row}.webp" for k in range(targets)] for layer in layers]
        photographs = self._opened.photographs
        there = photographs is not None and photographs.missing is None
        return Pictures(f"photo/{row}.webp" if there else None, None, heat)

    def _mean_maps(self, asked: dict[str, str]) -> Answer:
        layer = self._layer(_number("layer", asked.get("layer", ""), int))
        with self._lock:  # the second who asks waits for the first one's pass
            if layer not in self._means:
                self._means[layer] = self._opened.means(layer)
        return _json(self._means[layer])

    def _photo(self, _: dict[str, str], row: int) -> Answer:
        if self._opened.photographs is None:
            raise NoPhotograph(UNREAD)
        shards = self._opened.run.take(row).shards()
        return Answer(200, FORM, encode(self._opened.photographs.view(next(shards), 0)))

    def _heat(self, _: dict[str, str], layer: int, target: int, row: int) -> Answer:
        shards = self._opened.run.take(row).shards()
        drawn = self._opened.heatmap(next(shards), 0, row, layer, target)
        return Answer(200, FORM, drawn) if drawn else Answer(404, _TEXT, b"The other run has none.")

    def _layer(self, number: int) -> str:
        return self._opened.run.layers[number]


def _order(asked: str) -> str:
    if asked not in (*ORDERS, *MEASURE_ORDERS):
        raise ValueError(f"order: one of {', '.join((*ORDERS, *MEASURE_ORDERS))}")
    return asked


def _filter(asked: dict[str, str]) -> RowFilter:
    """What was asked for; ValueError where it makes no sense."""
    if unknown := asked.keys() - _CONDITIONS.keys():
        raise ValueError(f"no such filter: {min(unknown)}")
    given: dict[str, Any] = {}
    for name, text in asked.items():
        condition, kind = _CONDITIONS[name]
        given[condition] = _number(name, text, kind, least=NO_CLASS)
    if "correct" in given:
        given["correct"] = bool(given["correct"])
    if given.get("flag") == 0:  # none is set
        given["flags"] = given.pop("flag")
    return RowFilter(**given)


def _number(name: str, text: str, kind: type[int] | type[float], least: int = 0) -> Any:
    try:
        value = kind(text)
    except ValueError:
        raise ValueError(f"{name}: expected a number, got {text[:20]!r}") from None
    if not least <= value < _LARGEST:
        raise ValueError(f"{name}: out of range")
    return value


def _json(value: Any) -> Answer:
    return Answer(200, _JSON, as_json(value).encode())


class _Handler(BaseHTTPRequestHandler):
    """GET, from this machine's browsers, and nothing else."""

    timeout = 30  # seconds for a request to come

    def __init__(self, pages: Pages, *given: Any) -> None:
        self._pages = pages
        super().__init__(*given)

    def do_GET(self) -> None:
        """Answer."""
        if not self._is_ours():
            # A page elsewhere whose name leads to this machine (DNS rebinding).
            answer = Answer(403, _TEXT, f"Ask for http://{LOOPBACK}, by that name.".encode())
        else:
            answer = self._pages.answer(self.path)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.form)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Content-Security-Policy", f"{policy(True)}; frame-ancestors 'none'")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(answer.body)

    def _is_ours(self) -> bool:
        hosts = self.headers.get_all("Host", [])
        try:
            return len(hosts) == 1 and urlsplit(f"//{hosts[0]}").hostname in _HOSTS
        except ValueError:
            return False

    def version_string(self) -> str:
        """The server's name."""
        return "shardcam"

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class ReportServer(ThreadingHTTPServer):
    """A server on loopback.

    Raises
    ------
    ConfigError
        The port cannot be opened.
    """

    def __init__(self, opened: OpenedRun, port: int) -> None:
        try:
            super().__init__((LOOPBACK, port), partial(_Handler, Pages(opened)))
        except OSError as error:
            raise ConfigError(f"--port {port}: {error.strerror}; 0 takes a free one") from error

    @property
    def address(self) -> str:
        """Where the report is."""
        return f"http://{LOOPBACK}:{self.server_port}/"

    def handle_error(self, *given: Any) -> None:
        """Print what went wrong; a browser that went away is not an error."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            super().handle_error(*given)
