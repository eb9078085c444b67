"""Base of the readers of files in which uint8 pictures of one size lie one behind the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

from shardcam.engine.errors import SourceError
from shardcam.engine.io.download_cache import PartCache
from shardcam.engine.io.fetch_many import Part
from shardcam.engine.readers.labels import LabelData, Labels, Names
from shardcam.engine.readers.location import place
from shardcam.engine.readers.part_reader import PartReader
from shardcam.engine.readers.pixels import Stack, picture_of
from shardcam.engine.types import NO_LABEL, U1, Sample, SourceNotes


class StackReader(PartReader):
    """The pictures of a file; the key is the picture's number.

    Parameters
    ----------
    path
        The file, a path or a URL.
    cache
        See `engine.readers.part_reader.PartReader`.
    label_data
        Gives the labels; None: those of the source itself, if it has some.
    names
        See `engine.readers.labels.Labels`.
    """

    def __init__(
        self,
        path: str,
        cache: PartCache | None = None,
        label_data: LabelData | None = None,
        names: Callable[[], Names] = Names,
    ) -> None:
        super().__init__(cache)
        self._path = path
        self._label_data = label_data
        self._labels = Labels(names)

    @property
    @abstractmethod
    def _layout(self) -> tuple[int, Stack]:
        """Where the pictures begin, and what they are; SourceError where the file is damaged."""

    def _own_labels(self, count: int) -> Iterator[Any]:
        """What the source itself says of each picture."""
        return repeat(NO_LABEL, count)

    def samples(self) -> Iterator[Sample]:
        """List the source; see `engine.protocols.Reader`."""
        self._labels.forget()
        start, stack = self._layout
        length, labels_of = stack.picture_bytes, self._label_data or self._own_labels
        for index, value in enumerate(labels_of(stack.count)):
            label = self._labels.of(value, "picture", index)
            location = place(self._path, start + index * length, length)
            yield Sample(stack.key(index), index, label, location, length)

    def notes(self) -> SourceNotes:
        """See `engine.protocols.Reader`."""
        return self._labels.met()

    def read_start(self, sample: Sample, length: int) -> bytes | U1:
        return self.read(sample)

    def _part(self, sample: Sample) -> Part:
        try:
            _ = self._layout
        except SourceError as error:  # it was good when it was listed
            raise OSError(str(error)) from error
        _, start, end = super()._part(sample)
        return self._path, start, end  # any bytes would do for pixels: those of no other file

    def _image(self, data: bytes) -> U1:
        return picture_of(data, self._layout[1])
