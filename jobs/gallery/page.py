"""The page, made from its templates: everything it needs is in it."""

from __future__ import annotations

import json
import math
import re
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from shardcam.engine.run.disk_space import readable
from shardcam.engine.rundir.run_json import Manifest
from shardcam.engine.types import counted
from shardcam.jobs.gallery.cluster_views import RANKED, ShownClusters
from shardcam.jobs.gallery.evaluation_charts import band, bars, line, mark, outline, share
from shardcam.jobs.gallery.gallery_items import Item, MeanMap
from shardcam.jobs.gallery.run_account import MOST, RunAccount
from shardcam.jobs.gallery.run_metrics import Evaluation
from shardcam.jobs.gallery.run_statistics import FLAGS, Statistics
from shardcam.jobs.terminal import printable

PER_PAGE = 24
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
_OPTIONS: tuple[str, ...] = (
    "source",
    "model",
    "method",
    "smooth",
    "layer",
    "fuse",
    "target",
    "precision",
)
_OPTIONS += ("output", "link", "image_size", "resize", "scales", "flip", "channels", "tokens")
_OPTIONS += ("label_from_folder", "limit", "save", "codec")


@dataclass(frozen=True)
class Choice:
    """A class to filter by."""

    number: int
    name: str
    count: int  # of rows


@dataclass(frozen=True)
class ShownRun:
    """What a page says of each of its runs."""

    name: str
    manifest: Manifest
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Gallery:
    """What is on the pages of a run."""

    name: str  # of the run directory
    manifest: Manifest
    account: RunAccount
    statistics: Statistics
    layers: tuple[str, ...]
    maps: tuple[str, ...]  # what is drawn of each image: of its layers, and of another run's
    averages: bool  # whether there are maps that can be averaged
    targets: int
    choices: tuple[Choice, ...]  # predicted classes to filter by
    labels: tuple[Choice, ...]  # given classes to filter by
    alpha: float  # the heatmaps' share at first
    notes: tuple[str, ...]  # what is not there, and why
    items: list[Item] | None  # None: they are asked for, page by page
    means: dict[str, list[MeanMap]] | None  # of each layer; None: they are asked for
    evaluation: Evaluation | None  # None: nothing was measured
    measures: tuple[str, ...]  # what pictures can be ordered by, besides
    boxes: str | None  # the layer whose boxes can be drawn
    beside: str | None  # name of the other run
    runs: tuple[ShownRun, ...]  # that of the page, and the other one
    clusters: tuple[ShownClusters, ...]  # each clustering of the run


def render(gallery: Gallery) -> str:
    """The page as HTML."""
    environment = _environment()
    style, script = _part("style.css"), _script()
    return environment.get_template("page.html").render(
        gallery=gallery,
        run=gallery.manifest,
        account=gallery.account,
        statistics=gallery.statistics,
        options={
            name: values
            for name in _OPTIONS
            if any(values := [_option(one.manifest.config.get(name)) for one in gallery.runs])
        },
        flags=FLAGS,
        most=MOST,
        most_ranked=RANKED,
        served=gallery.items is None,
        style=Markup(style),
        script=Markup(script),
        policy=policy(gallery.items is None),
        data={
            "items": gallery.items,
            "means": gallery.means,
            "layers": gallery.layers,
            "maps": [printable(name) for name in gallery.maps],
            "measures": [printable(name) for name in gallery.measures],
            "boxes": None if gallery.boxes is None else gallery.layers.index(gallery.boxes),
            "perPage": PER_PAGE,
            "clusterings": [_clustering(one) for one in gallery.clusters],
        },
    )


def _clustering(one: ShownClusters) -> dict[str, Any]:
    """What the script is given of a clustering."""
    return {
        "name": printable(one.run.name),
        "layer": one.layer,
        "target": one.run.target,
        "groups": {group.number: group.clusters for group in one.groups},
        "held": one.held,
    }


def as_json(value: Any) -> str:
    """Frozen dataclasses as JSON objects."""
    return json.dumps(value, default=vars, allow_nan=False, separators=(",", ":"))


@cache
def policy(served: bool) -> str:
    """What a browser may load for the page: nothing but what is in it, or its own server's."""
    own = " 'self'" if served else ""
    rules = [
        "default-src 'none'",
        f"style-src {_digest(_part('style.css'))}",
        f"script-src {_digest(_script())}",
        f"img-src data:{own}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*rules, "connect-src 'self'"] if served else rules)


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _script() -> str:
    return _part("page.js") + _part("clusters.js")


@cache
def _part(name: str) -> str:
    templates = files("shardcam.jobs.gallery") / "templates"
    return (templates / name).read_text(encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("shardcam.jobs.gallery"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters |= {
        "counted": lambda number, noun: counted(number, noun, ","),
        "count": _count,
        "size": readable,
        "duration": _duration,
        "figure": _figure,
        "whole_options": whole_options,
    }
    environment.globals |= {
        "band": band, "bars": bars, "line": line, "mark": mark, "outline": outline, "share": share
    }  # fmt: skip
    environment.policies["json.dumps_function"] = lambda value, **_: as_json(value)
    return environment


def whole_options(text: object) -> Markup:
    """A text whose options of the command are not broken at their hyphens."""
    words = str(escape(printable(str(text))))
    return Markup(_OPTION.sub(r'<span class="whole">\g<0></span>', words))


def _finalized(value: Any) -> Any:
    """What is put into the page: texts of the run without control characters."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _option(value: Any) -> str:
    """An option's value in words; empty, if it was not given."""
    if value in (None, False, [], "", ["auto"], [1.0]):
        return ""
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _figure(number: float) -> str:
    return "\N{EN DASH}" if math.isnan(number) else f"{number:.4g}"


def _count(number: int) -> str:
    return f"{number:,}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
