"""From SOURCE to its reader, and to the listing of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import islice

from shardcam.engine.config import RunConfig
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.protocols import Reader
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.scratch import open_paths
from shardcam.engine.rundir.write_listing import run_listing
from shardcam.engine.types import Sample

Watch = Callable[[Iterable[Sample]], Iterable[Sample]]
LISTING_OPTIONS = {"source", "root", "label_from_folder", "limit"}  # decide what is listed


def make_reader(config: RunConfig, cache: PartCache | None = None) -> Reader:
    """The reader of the source; `cache` is for what it reads many of at URLs."""
    from shardcam.engine.pipeline.imaging import EXTENSIONS
    from shardcam.engine.readers.source import SourceOptions, open_source

    options = SourceOptions(EXTENSIONS, config.label_from_folder, config.root, cache)
    return open_source(config.source, options)


def listing_of(config: RunConfig, watch: Watch) -> AbstractContextManager[Listing]:
    """The listing that the run directory holds, or a new one, which `watch` sees being made."""
    origin = config.absolute().model_dump(mode="json", include=LISTING_OPTIONS)

    def samples() -> Iterable[Sample]:
        return watch(islice(make_reader(config).samples(), config.limit))

    return run_listing(open_paths(config.out), origin, samples)
