"""A folder tree of image files, or one image file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from engine.errors import SourceError
from engine.types import NO_LABEL, Sample

RUN_MARK = "run.json"


class FolderReader:
    """Image files below a folder, in the order of their keys.

    The key of a sample is its path relative to the folder, with forward slashes.
    Hidden files, files with other extensions, run directories and linked folders are not
    part of the source.

    Parameters
    ----------
    root
        The folder, or a single image file.
    extensions
        Lower-case file name endings that count as images.
    label_from_folder
        Take the first folder below `root` as the class: the number it is named by, if
        all are numbers, else its position in sorted order.
    """

    def __init__(
        self, root: Path, extensions: tuple[str, ...], label_from_folder: bool = False
    ) -> None:
        self._root = root
        self._extensions = extensions
        self._label_from_folder = label_from_folder

    def samples(self) -> Iterator[Sample]:
        """List the source; see :class:`engine.protocols.Reader`."""
        found = sorted(self._files())
        if not found:
            known = " ".join(self._extensions)
            raise SourceError(f"{self._root}: no image file in it (looked for {known})")
        labels = self._labels([key for key, _, _ in found])
        for index, (key, path, size) in enumerate(found):
            label = labels.get(key.partition("/")[0], NO_LABEL)
            yield Sample(key, index, label, path, size)

    def read(self, sample: Sample) -> bytes:
        """Return the file's bytes; see :class:`engine.protocols.Reader`."""
        path = Path(sample.location)
        if not path.is_file() and path.exists():
            raise OSError("not a regular file")  # a pipe would wait for ever
        return path.read_bytes()

    def _files(self) -> Iterator[tuple[str, str, int]]:
        """Key, path and size of every image file."""
        if self._root.is_file():
            file = self._root.resolve()
            yield _key(file.name), str(file), _size(str(file))
            return
        if not self._root.is_dir():
            raise SourceError(f"{self._root}: no such file or folder")
        root = str(self._root.resolve())
        for folder, subfolders, files in os.walk(root, onerror=_unreadable):
            if RUN_MARK in files:  # a run directory: its overlays are no source
                subfolders.clear()
                continue
            subfolders[:] = [name for name in subfolders if not name.startswith(".")]
            for name in files:
                if name.lower().endswith(self._extensions) and not name.startswith("."):
                    path = os.path.join(folder, name)
                    key = os.path.relpath(path, root).replace(os.sep, "/")
                    yield _key(key), path, _size(path)

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


def _key(name: str) -> str:
    """A key is stored as UTF-8: bytes of a name that are not become ``\\xNN``."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:  # a dangling link: the reader will say so when it is read
        return -1


def _unreadable(error: OSError) -> None:
    raise SourceError(f"{error.filename}: {error.strerror}")
