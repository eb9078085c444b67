"""``--target similar:PICTURE|VECTOR.npy``: what the embeddings of images are compared with."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.io.urls import is_url
from shardcam.engine.types import F4, SIMILAR

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition


@dataclass(frozen=True)
class Concept:
    """Embeddings that others are compared with."""

    vectors: F4  # (K,D)
    digest: str  # SHA-256 of the file they are from


def concept_of(config: RunConfig, definition: NetworkDefinition) -> Concept | None:
    """The embeddings that ``--target`` names, if it names some; of a picture, by the network.

    Parameters
    ----------
    definition
        The network, which ends in its embedding, with the preprocessing of `config`.

    Raises
    ------
    ConfigError
        The file cannot be read, or does not fit the network.
    """
    if not config.target.startswith(SIMILAR):
        return None
    from shardcam.engine.models.layer_names import class_count
    from shardcam.engine.models.model_files import read_model_file

    path, size = Path(config.target.removeprefix(SIMILAR)), class_count(definition)
    if is_url(config.target.removeprefix(SIMILAR)):
        raise ConfigError(f"--target {config.target}: takes a file, not a URL")
    if size == 1:
        raise ConfigError(f"--target {SIMILAR}{path}: the network gives one number, no embedding")
    try:
        data = read_model_file(path)
    except ModelError as error:
        raise ConfigError(f"--target {SIMILAR}{error}") from error
    is_vector = path.suffix == ".npy"
    vectors = _stored(path, data) if is_vector else _of_picture(path, data, config, definition)
    if vectors.ndim != 2 or vectors.shape[1] != size or not len(vectors):
        raise ConfigError(
            f"--target {SIMILAR}{path}: holds {vectors.shape}; the network's embedding has {size} "
            "numbers"
        )
    lengths = np.linalg.norm(vectors, axis=1)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise ConfigError(f"--target {SIMILAR}{path}: a vector is 0 or not finite")
    return Concept(vectors, hashlib.sha256(data).hexdigest())


def _stored(path: Path, data: bytes) -> F4:
    """(K,D), of one vector K is 1."""
    try:
        stored = np.load(io.BytesIO(data), allow_pickle=False)
        vectors: F4 = np.atleast_2d(stored.astype(np.float32, casting="same_kind"))
        return vectors
    except Exception as error:  # NumPy's parser of headers raises many things
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"--target {SIMILAR}{path}: no array of numbers: {reason}") from error


def _of_picture(path: Path, data: bytes, config: RunConfig, definition: NetworkDefinition) -> F4:
    from shardcam.engine.models.mxnet_network import MxnetNetwork
    from shardcam.engine.pictures.image_header import UndecodableImage
    from shardcam.engine.pictures.imaging import stacked, view_of

    try:
        view = view_of(data, None, definition.preprocessing, config.decoding)
    except UndecodableImage as error:
        raise ConfigError(f"--target {SIMILAR}{path}: {error}") from error
    images = stacked([view.pixels], definition.preprocessing)
    return MxnetNetwork(definition, (definition.input_name,), 1).forward(images).logits
