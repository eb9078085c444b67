"""Exports that are a file for each sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import make_folder, whole_file

Made = Iterator[tuple[str, bytes]]  # names and contents of files


def export_files(samples: Samples, folder: Path, made: Callable[[Samples], Made]) -> int:
    """Write what is made of the samples of each shard in turn; how many files."""
    make_folder(folder)
    return sum(1 for shard in samples.shards() for _ in write_files(folder, made(shard)))


def write_files(folder: Path, files: Iterable[tuple[str, bytes]]) -> Iterator[str]:
    """Write files, each whole or not at all; the name of each when it is there."""
    for name, contents in files:
        with whole_file(folder / name) as stream:
            stream.write(contents)
        yield name
