"""From SOURCE to its reader, and to the listing of a run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice

from shardcam.engine.config import ANY, RunConfig
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.protocols import Observer, Reader
from shardcam.engine.run.class_numbers import class_numbers
from shardcam.engine.rundir.events import SourceListing
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.write_listing import NAMES, run_listing
from shardcam.engine.types import Sample, SourceNotes

LISTING_OPTIONS = {"source", "root", "label_from_folder", "limit"}  # decide what is listed
LATER_OPTIONS = {"extensions", "follow_links", "label_data"}  # so do these; older ones lack them
EVERY = 1024  # samples between two events


def make_reader(
    config: RunConfig, cache: PartCache | None = None, classes: int | None = None
) -> Reader:
    """The reader of the source.

    Parameters
    ----------
    cache
        For what it reads many of at URLs.
    classes
        How many the network has; see `engine.run.class_numbers.class_numbers`.
    """
    from shardcam.engine.pictures.decode_image import EXTENSIONS
    from shardcam.engine.readers.source import SourceOptions, open_source

    options = SourceOptions(
        extensions=EXTENSIONS,
        other_extensions=("",) if config.extensions == (ANY,) else config.extensions,
        label_from_folder=config.label_from_folder,
        root=config.root,
        cache=cache,
        follow_links=config.follow_links,
        label_data=config.label_data,
        names=partial(class_numbers, config, classes),
    )
    return open_source(config.source, options)


def listing_of(
    config: RunConfig, on_event: Observer, classes: int | None = None
) -> AbstractContextManager[Listing]:
    """The listing that the run directory holds, or a new one, for a network of so many classes."""
    config_used = config.absolute()
    origin = config_used.model_dump(mode="json", include=LISTING_OPTIONS)
    origin |= config_used.model_dump(mode="json", include=LATER_OPTIONS, exclude_defaults=True)
    origin |= {NAMES: config_used.labels}
    reader: Reader | None = None  # a saved listing needs none

    def samples() -> Iterable[Sample]:
        nonlocal reader
        reader = make_reader(config, classes=classes)
        return _counted(islice(reader.samples(), config.limit), on_event)

    def notes() -> SourceNotes:
        return reader.notes() if reader else SourceNotes()

    return run_listing(RunDir.open(config.out), origin, samples, notes)


def _counted(samples: Iterable[Sample], on_event: Observer) -> Iterator[Sample]:
    """Hand samples on, and report how many there are so far."""
    number = 0
    on_event(SourceListing(number, done=False))
    for number, sample in enumerate(samples, 1):
        if number % EVERY == 0:
            on_event(SourceListing(number, done=False))
        yield sample
    on_event(SourceListing(number, done=True))
