"""Networks whose input may be of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.layer_names import class_count

Load = Callable[[tuple[int, int] | None], NetworkDefinition]


class OpenSize:
    """A network at any size of its input.

    Parameters
    ----------
    load
        Loads it for an input of (height, width), None for the network's own.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self.own = load(None)

    def at(self, height: int, width: int) -> NetworkDefinition:
        """The network for inputs of this size.

        Raises
        ------
        ModelError
            It cannot take them.
        """
        sides = replace(self.own.preprocessing, height=height, width=width)
        return replace(self.own, preprocessing=sides)

    def too_small(self, height: int, width: int) -> str | None:
        """Why the network cannot take pictures of this size; None if it can."""
        try:
            class_count(self.at(height, width))
        except ModelError:
            return f"{self.own.name} cannot take pictures of {height}x{width} pixels: too small"
        return None


def require_open_size(load: Load) -> OpenSize:
    """Refuse a network that takes inputs of one size only.

    Raises
    ------
    ConfigError
        It says why.
    """
    network = OpenSize(load)
    for size in ((375, 500), (333, 499)):
        if (reason := network.too_small(*size)) is not None:
            raise ConfigError(f"--resize none: {reason}; give --image-size without it")
    return network
