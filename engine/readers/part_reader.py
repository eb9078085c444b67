"""Base of the readers whose samples are whole files, or ranges of bytes in a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shardcam.engine.io import files
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part, fetch_many
from shardcam.engine.io.urls import is_url
from shardcam.engine.protocols import Reader
from shardcam.engine.readers.location import part_at
from shardcam.engine.types import U1, Sample


class PartReader(Reader):
    """Reads the bytes of samples, of those at URLs many at a time.

    Parameters
    ----------
    cache
        Where `read_many` looks first for files at URLs, and keeps them.
    """

    def __init__(self, cache: PartCache | None) -> None:
        self._cache = cache

    def read(self, sample: Sample) -> bytes | U1:
        return self._image(_read(self._part(sample)))

    def read_start(self, sample: Sample, length: int) -> bytes | U1:
        path, start, end = self._part(sample)
        if end is not None and end - start <= length:
            return self.read(sample)
        return self._start(files.read_start(path, start, length))

    def _start(self, data: bytes) -> bytes | U1:
        """The first bytes of the image in the first bytes of a sample; OSError as for `_image`."""
        return self._image(data)

    def read_many(self, samples: Sequence[Sample]) -> Iterator[bytes | U1 | OSError]:
        """See `engine.protocols.Reader`; what does not come is read alone."""
        parts = [self._part_or_error(sample) for sample in samples]
        sizes = {
            part: sample.size
            for sample, part in zip(samples, parts, strict=True)
            if not isinstance(part, OSError) and _is_worth_fetching(part)
        }
        fetched = fetch_many(sizes, self._cache)
        for part in parts:
            try:
                if isinstance(part, OSError):
                    raise part
                yield self._image(fetched[part] if part in fetched else _read(part))
            except OSError as error:
                yield error

    def _part(self, sample: Sample) -> Part:
        """Where the sample's bytes are; OSError where they cannot be read."""
        return part_at(sample.location)

    def _image(self, data: bytes) -> bytes | U1:
        """The image in the bytes of a sample; OSError where they are damaged."""
        return data

    def _part_or_error(self, sample: Sample) -> Part | OSError:
        try:
            return self._part(sample)
        except OSError as error:
            return error


def _is_worth_fetching(part: Part) -> bool:
    path, start, end = part
    return is_url(path) and (end is None or 0 < end - start <= files.LARGEST)


def _read(part: Part) -> bytes:
    path, start, end = part
    return files.read(path) if end is None else files.read_range(path, start, end - start)
