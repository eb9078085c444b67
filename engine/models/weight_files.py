"""Weights by name from a file of any known form, chosen by its ending."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load_file

from engine.errors import ModelError
from engine.models.params_file import read_params
from engine.models.torch_file import read_torch_weights

Weights = dict[str, npt.NDArray[np.generic]]


def read_weights(path: Path) -> Weights:
    """Read ``.params``, ``.safetensors``, ``.pth`` or ``.pt``.

    Raises
    ------
    ModelError
        The file is missing, damaged, or of an unknown form.
    """
    readers = {
        ".params": read_params,
        ".safetensors": _read_safetensors,
        ".pth": read_torch_weights,
        ".pt": read_torch_weights,
    }
    if path.suffix not in readers:
        raise ModelError(f"{path}: weights are read from {', '.join(readers)} files")
    return readers[path.suffix](path)


def _read_safetensors(path: Path) -> Weights:
    try:
        return dict(load_file(path))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or 'cannot be read'}") from error
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelError(f"{path}: not a usable .safetensors file: {error}") from error
