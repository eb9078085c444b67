"""From SOURCE to its reader, and to the listing of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
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
from shardcam.engine.types import Sample, Sizes, SourceNotes

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
    by_own_size = config.copies is not None
    config_used = config.absolute()
    origin = config_used.model_dump(mode="json", include=LISTING_OPTIONS)
    origin |= config_used.model_dump(mode="json", include=LATER_OPTIONS, exclude_defaults=True)
    origin |= {NAMES: config_used.labels} | ({"order": "size"} if by_own_size else {})
    reader: Reader | None = None  # a saved listing needs none
    sizes: Sizes | None = None

    def samples() -> Iterable[Sample]:
        nonlocal reader, sizes
        reader = make_reader(config, classes=classes)
        listed = islice(reader.samples(), config.limit)
        if not by_own_size:
            return _counted(listed, on_event)
        from shardcam.engine.run.order_by_size import by_size

        ordered, sizes = by_size(listed, reader, _reported(on_event))
        on_event(SourceListing(len(ordered), done=True))
        return ordered

    def notes() -> SourceNotes:
        return replace(reader.notes(), sizes=sizes) if reader else SourceNotes()

    return run_listing(RunDir.open(config.out), origin, samples, notes)


def _counted(samples: Iterable[Sample], on_event: Observer) -> Iterator[Sample]:
    """Hand samples on, and report how many there are so far."""
    number, report = 0, _reported(on_event)
    for number, sample in enumerate(samples, 1):
        report(number)
        yield sample
    on_event(SourceListing(number, done=True))


def _reported(on_event: Observer) -> Callable[[int], None]:
    """Report at the start, and then now and again, how many samples there are so far."""
    on_event(SourceListing(0, done=False))

    def report(number: int) -> None:
        if number % EVERY == 0:
            on_event(SourceListing(number, done=False))

    return report
