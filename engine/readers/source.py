"""From SOURCE, as typed, to its reader, by the kind of source that it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from shardcam.engine.errors import ConfigError, SourceError
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.urls import is_url, require_url
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.finding import Pattern, is_pattern, parse_pattern
from shardcam.engine.readers.folder import FolderReader, is_folder_url
from shardcam.engine.readers.idx import IdxReader
from shardcam.engine.readers.label_data import stored_labels
from shardcam.engine.readers.labels import LabelData, Names
from shardcam.engine.readers.manifest import ManifestReader
from shardcam.engine.readers.npy_images import NpyReader
from shardcam.engine.readers.recordio import RecordReader
from shardcam.engine.readers.tar import TarReader, is_archive_set

_MANIFESTS = (".txt", ".csv", ".tsv", ".jsonl", ".parquet")
_HDF5 = (".h5", ".hdf5")
_IDX = ("idx3-ubyte", "idx3-ubyte.gz")
KINDS = (
    "a folder, an image, a pattern ('photos/**/*.jpg'), a manifest (.txt .csv .tsv .jsonl "
    ".parquet), "
    ".rec, .tar ('train-{000..123}.tar', 'train-*.tar'), .h5 .hdf5 (FILE.h5::DATASET), .npy, or "
    "idx (images-idx3-ubyte, .gz)"
)


@dataclass(frozen=True)
class SourceOptions:
    """Options of a source."""

    extensions: tuple[str, ...]  # lower-case endings of image files
    other_extensions: tuple[str, ...] = ()  # to look for in their place; "" is any
    label_from_folder: bool = False
    root: str | None = None  # where the paths of a manifest begin
    cache: PartCache | None = None  # of what is read at URLs
    follow_links: bool = False  # enter linked folders
    label_data: str | None = None  # where the labels of an array of pictures are
    names: Callable[[], Names] = Names  # gives what classes are called

    @property
    def taken(self) -> tuple[str, ...]:
        """Endings that files must have where the source is searched for images."""
        return self.other_extensions or self.extensions


def open_source(source: str, options: SourceOptions) -> Reader:
    """The reader of a source, which nothing was read of yet.

    Raises
    ------
    SourceError
        It is missing, or of no known kind.
    ConfigError
        An option is for sources of another kind.
    """
    for path in (source, options.root, options.label_data):
        if path is not None and is_url(path):
            require_url(path)
    reader = _reader(source, options)
    if options.label_from_folder and not isinstance(reader, FolderReader):
        raise ConfigError(f"--label-from-folder is for folders; {source} is not a folder")
    if options.follow_links and not isinstance(reader, FolderReader):
        raise ConfigError(f"--follow-links is for folders; {source} is not a folder")
    if options.other_extensions and not isinstance(reader, FolderReader | TarReader):
        raise ConfigError(
            f"--extensions is for folders, patterns and .tar; {source} is none of them"
        )
    if options.root is not None and not isinstance(reader, ManifestReader):
        raise ConfigError(
            f"--root is for manifests ({' '.join(_MANIFESTS)}); {source} is not a manifest"
        )
    others = FolderReader | ManifestReader | RecordReader | TarReader
    if options.label_data is not None and isinstance(reader, others):
        raise ConfigError(f"--label-data is for .h5 .hdf5, .npy and idx; {source} is none of them")
    return reader


def _reader(source: str, options: SourceOptions) -> Reader:
    remote = is_url(source)
    if not remote and Path(source).is_dir():
        return _folder(source, options)
    there = not remote and Path(source).exists()
    name = (source.partition("?")[0] if remote else source).lower()
    if not there and name.endswith(".tar") and is_archive_set(source):
        return TarReader(source, options.taken, options.cache, options.names)
    path, inside, dataset = source.partition("::")
    if inside and not there and path.lower().endswith(_HDF5):
        return _hdf5(path, dataset, options)
    if not there and is_pattern(source):
        pattern = parse_pattern(source)
        return _folder(pattern.root, options, pattern)
    if not remote and not there:
        raise SourceError(f"{source}: no such file or folder")
    if name.endswith(_MANIFESTS):
        endings, names = options.extensions, options.names
        return ManifestReader(source, options.root, options.cache, endings, names)
    if name.endswith(_HDF5):
        return _hdf5(source, None, options)
    if name.endswith(".rec"):
        return RecordReader(source, options.cache, options.names)
    if name.endswith(".tar"):
        return TarReader(source, options.taken, options.cache, options.names)
    if name.endswith(".npy"):
        return NpyReader(source, options.cache, _label_data(options), options.names)
    if name.endswith(_IDX):
        return IdxReader(source, options.cache, _label_data(options), options.names)
    if (remote and is_folder_url(source)) or name.endswith(options.taken):
        return _folder(source, options)
    raise SourceError(
        f"{source}: not a known kind of source; known are {KINDS}; --extensions any takes a file "
        "with another ending for an image"
    )


def _folder(root: str, options: SourceOptions, pattern: Pattern | None = None) -> Reader:
    labels, links = options.label_from_folder, options.follow_links
    names = options.names
    return FolderReader(root, options.taken, labels, pattern, options.cache, links, names)


def _hdf5(path: str, dataset: str | None, options: SourceOptions) -> Reader:
    """Its reader; h5py is loaded for HDF5 alone."""
    from shardcam.engine.readers.hdf5_images import Hdf5Reader

    return Hdf5Reader(path, dataset, _label_data(options), options.names)


def _label_data(options: SourceOptions) -> LabelData | None:
    return partial(stored_labels, options.label_data) if options.label_data is not None else None
