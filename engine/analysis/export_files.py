"""Exports that are a file for each sample."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from shardcam.engine.analysis.samples import Samples
from shardcam.engine.io.whole_file import make_folder, whole_file
from shardcam.engine.rundir.overlays import picture_name
from shardcam.engine.types import U1

Made = Iterator[tuple[str, bytes]]  # names and contents of files
Contents = Iterator[tuple[int, bytes]]  # of files of rows
Pictures = Callable[[Samples, int], U1]  # the picture of a row, (height,width,3) RGB
_SAFE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")


class ImageFiles(Protocol):
    """What is made of each sample: a file that is called as its picture is."""

    @property
    def layer(self) -> str: ...

    @property
    def ending(self) -> str: ...

    @property
    def needs_pictures(self) -> bool: ...

    def made(self, shard: Samples, rows: Sequence[int], pictures: Pictures | None) -> Contents:
        """Row of a shard, and contents of its file, for each of some rows that has one."""


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


def export_images(
    samples: Samples,
    folder: Path,
    files: ImageFiles,
    keep: bool,
    pictures: Pictures | None = None,
) -> int:
    """Write the file of each sample, but those that are there and are kept; how many."""
    samples.cam(files.layer)  # refuses a layer without maps
    stems = iter(file_stems(samples.keys, samples["sample"][:].tolist()))

    def made(shard: Samples) -> Made:
        own = [next(stems) for _ in range(len(shard))]
        return made_images(shard, own, folder, files, keep, pictures)

    return export_files(samples, folder, made)


def made_images(
    shard: Samples,
    stems: Sequence[str],
    folder: Path,
    files: ImageFiles,
    keep: bool,
    pictures: Pictures | None,
) -> Made:
    """What is made of a shard's samples, whose stems are given, but for what is there and kept."""
    names = [f"{stem}{files.ending}" for stem in stems]
    rows = [i for i, name in enumerate(names) if not (keep and (folder / name).exists())]
    return ((names[i], contents) for i, contents in files.made(shard, rows, pictures))


def plain_stem(key: str) -> str:
    """The name of a picture without folders and ending."""
    return posixpath.splitext(posixpath.basename(key))[0]


def file_stems(keys: list[str], indices: list[int]) -> list[str]:
    """How the files of pictures are called, without an ending.

    As the pictures, without their folders; where two would be called the same, or a name is not
    safe on every file system, all begin with their index, as overlays do.
    """
    stems = list(map(plain_stem, keys))
    distinct = len({stem.lower() for stem in stems}) == len(stems)
    if distinct and all(map(_SAFE.fullmatch, stems)):
        return stems
    return [picture_name(index, key) for index, key in zip(indices, keys, strict=True)]
