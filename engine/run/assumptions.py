"""What a run assumes of its network, and what looks like a slip in the options for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.types import AUTO, LayerInfo, Note

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

LEAST_STD = 0.01  # on the 0-1 scale
CAFFE, CAFFE_NEAR = (103.9, 116.8, 123.7), 2.5  # B,G,R
LARGE_HEAD = 0.15  # of a network's multiply-adds; with gradients it takes as long as the rest


def assumptions(
    config: RunConfig, definition: NetworkDefinition, layers: Sequence[LayerInfo]
) -> list[Note]:
    """Notes of what was assumed of a network, and warnings of what is hardly meant.

    Parameters
    ----------
    definition
        With the preprocessing of `config`.
    layers
        That are explained.
    """
    warnings = (
        *_scale(config),
        *_colours(config),
        *_one_alone(config, definition),
        *_scaled_twice(config, definition),
    )
    warnings += (*_layers(config, definition, layers),)
    told = [Note("warning", text) for text in warnings]
    if definition.assumed and config.mean is None and config.std is None:
        told.append(Note("assumed", _taken(definition)))
    told += (Note("assumed", text) for text in _large_heads(config, definition, layers))
    return [*told, *(Note("assumed", text) for text in definition.remarks)]


def _scale(config: RunConfig) -> Iterator[str]:
    """Means and deviations as they are published for pixels from 0 to 1."""
    mean, std = config.mean or (), config.std or ()
    wrong = {}
    if any(mean) and all(0 <= value <= 1 for value in mean):
        wrong["--mean"] = mean
    if std and all(LEAST_STD <= value < 1 for value in std):
        wrong["--std"] = std
    if wrong:
        given, meant = (
            " ".join(f"{option} {_text(values, times)}" for option, values in wrong.items())
            for times in (1, 255)
        )
        yield f"{given} looks like the 0-1 scale; pixels are 0 to 255 here: {meant}"


def _taken(definition: NetworkDefinition) -> str:
    """The preprocessing that was taken, and why."""
    from shardcam.engine.models.input_scaling import inner_scaling

    own = definition.preprocessing
    why, scaling = "the model file has no preprocessing", inner_scaling(definition)
    if scaling is not None and scaling.preprocessing(len(own.mean)) == (own.mean, own.std):
        why = f"the network scales its input itself ({scaling.node}), from 0 to {scaling.white}"
    order = f"--channels {own.channels} " if len(own.mean) == 3 else ""
    return f"{why}: {order}{_given(own.in_rgb(own.mean), own.in_rgb(own.std))} were taken"


def _colours(config: RunConfig) -> Iterator[str]:
    """Means of Caffe's networks in the order in which they are published."""
    mean = config.mean or ()
    if len(mean) == 3 and all(abs(m - c) < CAFFE_NEAR for m, c in zip(mean, CAFFE, strict=True)):
        yield (
            f"--mean {_text(mean)} looks like B,G,R; it takes R,G,B: --channels bgr --mean "
            f"{_text(mean[::-1])}"
        )


def _one_alone(config: RunConfig, definition: NetworkDefinition) -> Iterator[str]:
    if (config.mean is None) == (config.std is None):
        return
    given, other = ("--mean", "--std") if config.std is None else ("--std", "--mean")
    own = definition.preprocessing
    values = _text(own.in_rgb(own.std if other == "--std" else own.mean))
    whose = "ImageNet's" if definition.assumed else "the network's own"
    yield f"{given} without {other}: {other} {values} was taken, {whose}"


def _scaled_twice(config: RunConfig, definition: NetworkDefinition) -> Iterator[str]:
    from shardcam.engine.models.input_scaling import inner_scaling, plain_pixels

    own = definition.preprocessing
    given = config.mean is not None or config.std is not None
    channels = len(own.mean)
    if not (given or definition.assumed) or (own.mean, own.std) == plain_pixels(channels):
        return
    scaling = inner_scaling(definition)
    if scaling is None or (own.mean, own.std) == scaling.preprocessing(channels):
        return
    how = _given(own.in_rgb(own.mean), own.in_rgb(own.std)) if given else "those assumed"
    expected = "pixels as they are" if scaling.white != 1 else "pixels from 0 to 1"
    mean, std = scaling.preprocessing(channels) or plain_pixels(channels)
    yield (
        f"the network scales its input itself ({scaling.node}), after {how}; if it takes "
        f"{expected}: {_given(mean, std)}"
    )


def _layers(
    config: RunConfig, definition: NetworkDefinition, layers: Sequence[LayerInfo]
) -> Iterator[str]:
    from shardcam.engine.models.layer_names import idle_layers

    idle = idle_layers(definition) if any(info.lies_as for info in layers) else ()
    for info in layers:
        if info.name in idle:
            yield (
                f"--layer {info.name}: only class tokens are read of what follows, so maps made "
                "of gradients are zero everywhere; take a layer before the last attention, as "
                "auto does"
            )
        elif info.shape[1:] == (1, 1):
            yield (
                f"--layer {info.name}: its map is 1x1, and so the same everywhere; take a layer "
                "before the pooling (shardcam layers lists them)"
            )
        elif info.name == definition.input_name and config.layer != (AUTO,):
            yield (
                f"--layer {info.name} is the network's input, whose map says little of where the "
                "network looks (shardcam layers lists hidden layers)"
            )


def _large_heads(
    config: RunConfig, definition: NetworkDefinition, layers: Sequence[LayerInfo]
) -> Iterator[str]:
    """What `auto` costs where small inputs leave the network's last layers without a map."""
    from shardcam.engine.models.layer_names import auto_layer, layer_shapes
    from shardcam.engine.models.multiply_adds import shares_below

    for info in layers if AUTO in config.layer else ():
        if info.closed_form or info.lies_as or info.name == definition.input_name:
            continue  # a gradient costs nothing, it is no smaller input, or there is no layer
        if info.name != auto_layer(definition):
            continue
        head = 1 - shares_below(definition, layer_shapes(definition))[info.name]
        if head > LARGE_HEAD:
            own = "" if config.precision == "fp32" else f" (and not in {config.precision})"
            yield (
                f"--layer auto took {info.name}, the last layer whose map is larger than 1x1 at "
                f"this --image-size; the {head:.0%} of the network above it run in float32{own}, "
                "forward and back"
            )


def _given(mean: Sequence[float], std: Sequence[float]) -> str:
    return f"--mean {_text(mean)} --std {_text(std)}"


def _text(values: Sequence[float], times: float = 1) -> str:
    return ",".join(f"{value * times:g}" for value in values)
