"""A folder tree of image files, those that match a pattern, or one image file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from shardcam.engine.errors import SourceError
from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.io.urls import is_url
from shardcam.engine.readers.class_folders import folders_there, number_folders
from shardcam.engine.readers.finding import Found, Pattern, class_folders, find_files
from shardcam.engine.readers.labels import Names
from shardcam.engine.readers.left_out import LeftOut
from shardcam.engine.readers.location import key_text, listing
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.types import NO_LABEL, Sample, SourceNotes


class FolderReader(PartReader):
    """Image files below a folder, in the order of their keys.

    The key of a sample is its path relative to the folder, with forward slashes.
    Hidden files, files with other extensions, run directories and, unless they are followed,
    linked folders are not part of the source; all but the hidden ones are told. Memory holds
    the names in one folder and in those above it, at a URL all of them.

    Parameters
    ----------
    root
        The folder, or a single image file; a path or a URL.
    extensions
        Lower-case file name endings that count as images.
    label_from_folder
        Take the first folder below `root` as the class; see
        `engine.readers.class_folders.number_folders`.
    pattern
        What a key must match to be listed.
    cache
        See `engine.readers.part_reader.PartReader`.
    follow_links
        Enter linked folders; see `engine.readers.finding.find_files`.
    names
        Gives what classes are called.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        extensions: tuple[str, ...],
        label_from_folder: bool = False,
        pattern: Pattern | None = None,
        cache: PartCache | None = None,
        follow_links: bool = False,
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._root = os.fspath(root)
        self._extensions = extensions
        self._label_from_folder = label_from_folder
        self._pattern = pattern
        self._follow_links = follow_links
        self._left_out = LeftOut()
        self._names = names
        self._met = SourceNotes()

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._left_out = LeftOut()
        found: Iterable[Found] = self._files()
        if self._label_from_folder and is_url(self._root):
            found = list(found)  # every folder must be listed before the first class is known
        labels = self._labels(found)
        index = -1
        for index, (key, path, size) in enumerate(found):
            label = labels.get(key.partition("/")[0], NO_LABEL)
            yield Sample(key, index, label, path, size)
        if index < 0:
            raise SourceError(self._nothing())

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`: what was left out, and the classes of folders."""
        return replace(self._met, notes=(*self._met.notes, *self._left_out.notes()))

    def _part(self, sample: Sample) -> Part:
        return sample.location, 0, None

    def _files(self) -> Iterator[Found]:
        """Key, path and size of every image file."""
        if not self._is_single:
            yield from find_files(
                self._root, self._extensions, self._pattern, self._follow_links, self._left_out
            )
            return
        path = self._root if is_url(self._root) else os.path.realpath(self._root)
        with listing(self._root):
            yield key_text(path.rpartition("/")[2]), path, files.size(path)

    @property
    def _is_single(self) -> bool:
        if not is_url(self._root):
            return Path(self._root).is_file()
        return self._pattern is None and not is_folder_url(self._root)

    def _nothing(self) -> str:
        where = f"{self._root}: no image file in it"
        if self._pattern is not None:
            where += " matches the pattern"
        looked = " ".join(self._extensions) or "any file"
        return "; ".join([f"{where} (looked for {looked})", *self._left_out.lines()])

    def _labels(self, found: Iterable[Found]) -> dict[str, int]:
        if not self._label_from_folder:
            return {}
        if isinstance(found, list):
            having = {key.partition("/")[0] for key, _, _ in found if "/" in key}
        elif self._is_single:
            raise SourceError(f"{self._root}: --label-from-folder is for folders, not for a file")
        else:
            having = set(
                class_folders(self._root, self._extensions, self._pattern, self._follow_links)
            )
        folders = folders_there(self._root, having)
        classes, notes = number_folders(self._root, folders, having, self._names())
        self._met = SourceNotes(tuple(notes), classes, named=True)
        return classes


def is_folder_url(url: str) -> bool:
    """Whether a URL is taken for a folder's: it can be listed, and has no ending or ends in /."""
    last = url.rstrip("/").rpartition("/")[2]
    return not url.startswith("http") and (url.endswith("/") or "." not in last)
