"""Weights of IRN's networks by torchvision's names.

Its modules hold each layer three times, and so do its checkpoints: ``resnet50.layer1.0...``,
``stage1.4.0...`` and ``backbone.0.4.0...``, the last one as ``classifier`` and ``newly_added.0``.
Of some successors ``backbone`` is the last two of the four stages.
"""

from __future__ import annotations

import re
from collections.abc import Collection

import numpy as np

from shardcam.engine.errors import ModelError
from shardcam.engine.models.weight_files import Weights

_COUNTER = "num_batches_tracked"
_BACKBONE = re.compile(r"backbone\.(\d)\.")
_COUNT = 4  # stages; the first begins with what comes before torchvision's
_STAGES = (
    (r"stage1\.0\.", "conv1."),
    (r"stage1\.1\.", "bn1."),
    (r"stage1\.4\.", "layer1."),
    (r"stage([234])\.0\.", r"layer\1."),
)


def by_torchvision_names(weights: Weights) -> Weights:
    """Each weight once, under the name that torchvision's ResNet has for it.

    Names that are none of IRN's stay as they are.

    Raises
    ------
    ModelError
        What should be copies of one weight differ.
    """
    kept = [name for name in weights if name.rpartition(".")[2] != _COUNTER]
    wrapper = _wrapper(kept)
    held = [int(at[1]) for name in kept if (at := _BACKBONE.match(name, wrapper))]
    missing = _COUNT - 1 - max(held, default=0)
    found: Weights = {}
    first: dict[str, str] = {}
    for name in kept:
        plain = _plain(name[wrapper:], missing)
        if plain not in found:
            found[plain], first[plain] = weights[name], name
        elif not np.array_equal(found[plain], weights[name]):
            both = f"{first[plain][:100]!r} and {name[:100]!r}"
            raise ModelError(f"{both} should be the same weight, and differ")
    return found


def _wrapper(names: Collection[str]) -> int:
    """Letters that DataParallel and its like put in front of all names."""
    first, last = min(names, default=""), max(names, default="")
    same = [a == b for a, b in zip(first, last, strict=False)]
    return first.rfind(".", 0, [*same, False].index(False)) + 1


def _plain(name: str, missing: int) -> str:
    """torchvision's name, where ``backbone`` lacks so many of the first stages."""
    name = name.removeprefix("resnet50.")
    name = re.sub(r"^newly_added\.0\.", "classifier.", name)
    if found := _BACKBONE.match(name):
        name = f"stage{int(found[1]) + 1 + missing}.{name[found.end() :]}"
    for pattern, layer in _STAGES:
        name = re.sub(f"^{pattern}", layer, name)
    return name
