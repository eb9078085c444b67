"""A folder tree of image files, those that match a pattern, or one image file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine import files
from engine.errors import SourceError
from engine.readers.finding import Found, Pattern, find_files
from engine.readers.location import key_text, listing
from engine.types import NO_LABEL, Sample


class FolderReader:
    """Image files below a folder, in the order of their keys.

    The key of a sample is its path relative to the folder, with forward slashes.
    Hidden files, files with other extensions, run directories and linked folders are not
    part of the source.

    Parameters
    ----------
    root
        The folder, or a single image file; a path or a URL.
    extensions
        Lower-case file name endings that count as images.
    label_from_folder
        Take the first folder below `root` as the class: the number it is named by, if
        all are numbers, else its position in sorted order.
    pattern
        What a key must match to be listed.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        extensions: tuple[str, ...],
        label_from_folder: bool = False,
        pattern: Pattern | None = None,
    ) -> None:
        self._root = os.fspath(root)
        self._extensions = extensions
        self._label_from_folder = label_from_folder
        self._pattern = pattern

    def samples(self) -> Iterator[Sample]:
        """List the source; see :class:`engine.protocols.Reader`."""
        found = sorted(self._files())
        if not found:
            known = " ".join(self._extensions)
            where = f"{self._root}: no image file in it"
            if self._pattern is not None:
                where += " matches the pattern"
            raise SourceError(f"{where} (looked for {known})")
        labels = self._labels([key for key, _, _ in found])
        for index, (key, path, size) in enumerate(found):
            label = labels.get(key.partition("/")[0], NO_LABEL)
            yield Sample(key, index, label, path, size)

    def read(self, sample: Sample) -> bytes:
        """Return the file's bytes; see :class:`engine.protocols.Reader`."""
        return files.read(sample.location)

    def _files(self) -> Iterator[Found]:
        """Key, path and size of every image file."""
        if files.is_url(self._root):
            single = self._root.lower().endswith(self._extensions)
        else:
            single = Path(self._root).is_file()
        if not single:
            yield from find_files(self._root, self._extensions, self._pattern)
            return
        path = self._root if files.is_url(self._root) else os.path.realpath(self._root)
        with listing(self._root):
            yield key_text(path.rpartition("/")[2]), path, files.size(path)

    def _labels(self, keys: list[str]) -> dict[str, int]:
        if not self._label_from_folder:
            return {}
        folders = sorted({key.partition("/")[0] for key in keys if "/" in key})
        if not folders:
            raise SourceError(f"{self._root}: --label-from-folder needs class folders in it")
        numbered = [name for name in folders if _is_number(name)]
        if 0 < len(numbered) < len(folders):
            other = next(name for name in folders if not _is_number(name))
            raise SourceError(
                f"{self._root}: --label-from-folder: folder {numbered[0]!r} is a class number and "
                f"{other!r} is not; name all class folders by numbers, or none"
            )
        return {name: int(name) if numbered else i for i, name in enumerate(folders)}


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) < 10
