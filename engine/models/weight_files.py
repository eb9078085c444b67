"""Weights by name: from a file of any known form, chosen by its ending, or random."""

from __future__ import annotations

from math import prod
from pathlib import Path

import mxnet as mx
import numpy as np
import numpy.typing as npt

from shardcam.engine.errors import ModelError
from shardcam.engine.models.free_memory import free_memory, gigabytes
from shardcam.engine.models.params_file import read_params
from shardcam.engine.models.safetensors_file import read_safetensors
from shardcam.engine.models.torch_file import read_torch_weights
from shardcam.engine.types import F4

Shape = tuple[int, ...]
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
        ".safetensors": read_safetensors,
        ".pth": read_torch_weights,
        ".pt": read_torch_weights,
    }
    if path.suffix not in readers:
        raise ModelError(f"{path}: weights are read from {', '.join(readers)} files")
    return readers[path.suffix](path)


def inferred_shapes(symbol: mx.sym.Symbol, **known: Shape) -> dict[str, Shape]:
    """Shapes of a symbol's variables, states included, as far as they follow from the known ones.

    Raises
    ------
    mxnet.base.MXNetError
        The known ones contradict each other, or the symbol.
    """
    shapes, _, states = symbol.infer_shape_partial(**known)
    names = (*symbol.list_arguments(), *symbol.list_auxiliary_states())
    found = zip(names, (*shapes, *states), strict=True)
    return {name: tuple(shape) for name, shape in found if min(shape, default=0) > 0}


def random_weights(shapes: dict[str, Shape], seed: int = 0) -> dict[str, F4]:
    """He initialisation (He et al. 2015) from a fixed seed: equal on every machine.

    Raises
    ------
    MemoryError
        There is too little of it.
    """
    needed, free = sum(4 * prod(shape) for shape in shapes.values()), free_memory()
    if needed > free:
        raise MemoryError(
            f"{gigabytes(needed)}, and {gigabytes(free)} are free; a smaller --image-size may do"
        )
    rng = np.random.RandomState(seed)
    weights: dict[str, F4] = {}
    for name, shape in sorted(shapes.items()):
        if len(shape) > 1:
            deviation = np.sqrt(2.0 / np.prod(shape[1:]))
            weights[name] = (rng.standard_normal(shape) * deviation).astype(np.float32)
        else:
            fill = 1.0 if name.endswith(("gamma", "_var")) else 0.0
            weights[name] = np.full(shape, fill, np.float32)
    return weights
