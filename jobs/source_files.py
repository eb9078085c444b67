"""What runs were made of, which no command may write over: pictures, networks, labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from pathlib import Path

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, RunDirectoryError, SourceError
from shardcam.engine.io.urls import is_url
from shardcam.engine.run.source_listing import make_reader
from shardcam.engine.run.stored_options import stored_config
from shardcam.engine.rundir.listing import Listing
from shardcam.engine.rundir.run_dir import RunDir
from shardcam.engine.rundir.run_json import read_manifest
from shardcam.engine.types import Sample


def require_no_source(option: str, outs: Iterable[Path], runs: Iterable[str | Path]) -> None:
    """Refuse files that runs were made of, and folders with such files in or below them.

    Parameters
    ----------
    outs
        What would be written to. Only what exists can be lost.
    runs
        Paths or URLs; one that is none is told by who opens it.

    Raises
    ------
    ConfigError
        The message names what would be lost.
    """
    if there := [out for out in outs if os.path.lexists(out)]:
        for run in runs:
            _require_none(option, there, _made_of(RunDir.open(run)), f"what {run} was made of")


def require_no_input(option: str, out: Path | None, config: RunConfig) -> None:
    """Refuse a file that an extraction reads.

    Raises
    ------
    ConfigError
        It is.
    """
    if out is not None and os.path.lexists(out):
        files = chain(_options(config), _files(make_reader(config).samples()))
        _require_none(option, [out], files, "an input")


def require_not_read(option: str, path: Path, given: str | None) -> None:
    """Refuse a file that the command reads, or one in a folder that it reads.

    Raises
    ------
    ConfigError
        It is.
    """
    if given is None or is_url(given) or not os.path.lexists(path):
        return
    _real.cache_clear()
    for read in _names(given.partition("::")[0]):
        for name in _names(str(path)):
            if name == read or name.startswith(read.rstrip("/") + "/"):
                raise ConfigError(f"{option} {path}: is read, as {given}; name another file")


def _require_none(option: str, outs: Iterable[Path], files: Iterable[str], what: str) -> None:
    _real.cache_clear()
    targets = {name: out for out in outs for name in _names(str(out))}
    folders = {target.rstrip("/") + "/": out for target, out in targets.items()}
    beginnings = (*folders,)
    for file in files:
        for name in _names(file):
            if name in targets:
                raise ConfigError(f"{option} {targets[name]}: is {what}; name another file")
            if name.startswith(beginnings):
                out = next(out for folder, out in folders.items() if name.startswith(folder))
                raise ConfigError(f"{option} {out}: holds {what} ({file}); name another folder")


def _made_of(home: RunDir) -> Iterator[str]:
    """Files of this machine that a run was made of."""
    if not home.fetch(home.run_json):
        return
    config = stored_config(home.home, read_manifest(home).config)
    yield from _options(config)
    yield from _files(_samples(home, config))


def _options(config: RunConfig) -> Iterator[str]:
    """The files among the options."""
    for name, path in config.paths().items():
        file = path.partition("::")[0]
        if name not in ("out", "cache") and not is_url(file) and Path(file).is_file():
            yield file


def _files(samples: Iterable[Sample]) -> Iterator[str]:
    """The files that samples are in."""
    before = ""
    for sample in samples:
        if is_url(sample.location):
            continue
        yield sample.location
        file, _, part = sample.location.rpartition("#")
        if file != before and (part[:1] == "!" or part.replace(":", "").isdecimal()):
            yield file  # of many samples
            before = file


def _samples(home: RunDir, config: RunConfig) -> Iterable[Sample]:
    if is_url(config.source) and config.root is None:  # as all of its pictures are
        return ()
    home.fetch(home.listing)
    try:
        return Listing(home.listing)
    except RunDirectoryError:  # it is missing or damaged
        try:
            return [*make_reader(config).samples()]
        except SourceError:
            return ()


def _names(path: str) -> Iterator[str]:
    """The name of a file without links above it; and where it leads to, if it is a link."""
    folder, name = os.path.split(path)
    named = os.path.realpath(path) if name in ("", ".", "..") else f"{_real(folder)}/{name}"
    yield named
    if os.path.islink(named):  # noqa: PTH114 - a third of the time, for each of many files
        yield os.path.realpath(named)


@lru_cache
def _real(folder: str) -> str:
    """Without links, and kept for all files of a folder."""
    return os.path.realpath(folder).rstrip("/")
