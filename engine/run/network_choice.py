"""The network that options name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.errors import ConfigError
from shardcam.engine.types import NO_LINK, SIMILAR, counted

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition
    from shardcam.engine.models.onnx.onnx_file import OnnxFile


def network_of(config: RunConfig, opened: OnnxFile | None = None) -> NetworkDefinition:
    """The network, with the preprocessing that its file has.

    `opened` is that file where it is read already.

    Raises
    ------
    ConfigError, ModelError
        It cannot be loaded.
    """
    from shardcam.engine.models.load_network import load_network

    link = NO_LINK if config.target.startswith(SIMILAR) else config.link  # as the file gives it
    definition = load_network(
        config.model,
        config.params,
        config.image_size,
        link,
        output=config.output,
        inputs=config.inputs,
        keep_rounding=config.rounding == "keep",
        opened=opened,
    )
    return replace(definition, tokens=config.tokens)


def load_definition(config: RunConfig, opened: OnnxFile | None = None) -> NetworkDefinition:
    """The network, with the preprocessing and the random weights the user asked for.

    `opened` is its file where that is read already.

    Raises
    ------
    ConfigError, ModelError
        It cannot be loaded, or the options do not fit the channels or the type of its input.
    """
    definition = network_of(config, opened)
    own = definition.preprocessing
    _require_pictures(config, definition)
    for name, values in (("--mean", config.mean), ("--std", config.std)):
        if values is not None and len(values) != len(own.mean):
            takes = f"{name}: {definition.name} takes {counted(len(own.mean), 'number')}"
            raise ConfigError(takes + ": give R,G,B" * (len(own.mean) == 3))
    changed = replace(
        own,
        resize=config.resize,
        interpolation=config.interpolation,
        channels=config.channels or own.channels,
    )
    mean, std = config.mean or own.in_rgb(own.mean), config.std or own.in_rgb(own.std)
    changed = replace(changed, mean=changed.in_rgb(mean), std=changed.in_rgb(std))
    definition = replace(definition, preprocessing=changed)
    if config.randomise is None:
        if config.seed:
            raise ConfigError(f"--seed {config.seed}: is for --randomise; give that too")
        return definition
    from shardcam.engine.models.randomised import randomised

    return randomised(definition, config.randomise, config.seed)


def _require_pictures(config: RunConfig, definition: NetworkDefinition) -> None:
    """Refuse an input that pictures do not give."""
    channels = len(definition.preprocessing.mean)
    if channels not in (1, 3):
        raise ConfigError(
            f"--model: {definition.name} takes {channels} channels; pictures have three, of which "
            "their luminance makes one"
        )
    if config.channels == "bgr" and channels == 1:
        raise ConfigError(f"--channels {config.channels}: {definition.name} takes one channel")
    if definition.takes_bytes and (config.mean or config.std):
        option = "--mean" if config.mean else "--std"
        raise ConfigError(
            f"{option}: {definition.name} takes pixels as whole numbers, and so as they are: leave "
            "--mean and --std out"
        )
