"""The network that options name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.types import counted

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition


def load_definition(config: RunConfig) -> NetworkDefinition:
    """The network, with the preprocessing the user asked for.

    Raises
    ------
    ConfigError, ModelError
        It cannot be loaded, or takes another number of channels.
    """
    from shardcam.engine.models.load_network import load_network

    definition = load_network(config.model, config.params, config.image_size)
    own = definition.preprocessing
    for name, values in (("--mean", config.mean), ("--std", config.std)):
        if values is not None and len(values) != len(own.mean):
            takes = f"{name}: {definition.name} takes {counted(len(own.mean), 'number')}"
            raise ConfigError(takes + ": give R,G,B" * (len(own.mean) == 3))
    changed = replace(
        own,
        mean=config.mean or own.mean,
        std=config.std or own.std,
        resize=config.resize,
        interpolation=config.interpolation,
    )
    return replace(definition, preprocessing=changed)
