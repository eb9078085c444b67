"""What was found out about a network from its file, one fact for each line of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shardcam.engine.models.definition import NetworkDefinition
from shardcam.engine.models.input_scaling import InnerScaling, inner_scaling
from shardcam.engine.models.layer_names import class_count
from shardcam.engine.models.layouts import Layout
from shardcam.engine.types import NO_LINK, counted


@dataclass(frozen=True)
class Fact:
    """Something that was found out."""

    text: str  # for people
    value: Any  # the same for programs, as JSON has it


def detected(network: NetworkDefinition, auto: str, layout: Layout) -> dict[str, Fact]:
    """What a network takes and gives, by what each fact is called.

    `auto` is the layer that is explained by default, `layout` how it lies in the network.
    """
    shape = network.preprocessing.input_shape
    size = "x".join(map(str, shape))
    return {
        "input": Fact(
            f"{network.input_name}, {size}", {"name": network.input_name, "shape": shape}
        ),
        "channels": _channels(shape[0], network.preprocessing.channels),
        "preprocessing": _preprocessing(network),
        "scaling inside": _scaling(inner_scaling(network)),
        "layout": _layout(auto, layout),
        "tokens": _tokens(layout),
        "output": _output(network),
        "link": Fact(network.link, network.link),
    }


def _output(network: NetworkDefinition) -> Fact:
    classes = class_count(network)
    of = " of one output" if network.binary else " of pixels" if network.prediction else ""
    return Fact(counted(classes, "output" if network.link == NO_LINK else "class") + of, classes)


def _layout(auto: str, layout: Layout) -> Fact:
    if layout.is_map:
        return Fact(f"channels first ({auto})", "channels first")
    kind = "tokens" if _has_tokens(layout) else "channels last"
    return Fact(f"{kind}, {layout.words} ({auto})", kind)


def _has_tokens(layout: Layout) -> bool:
    return bool(layout.axis) or len(layout.own) == 2


def _tokens(layout: Layout) -> Fact:
    if not _has_tokens(layout):
        return Fact("none", None)
    height, width = layout.shape[1:]
    return Fact(
        f"{layout.before} before and {layout.after} after the {height}x{width} of the picture",
        {"before": layout.before, "after": layout.after, "picture": [height, width]},
    )


def _channels(count: int, order: str) -> Fact:
    if count == 3:
        letters = ", ".join(order.upper())
        return Fact(f"{letters}: set --channels if it takes them in another order", order)
    if count == 1:
        return Fact("the luminance", "luminance")
    return Fact(f"{count}, which pictures do not give", count)


def _preprocessing(network: NetworkDefinition) -> Fact:
    own = network.preprocessing
    given = own.in_rgb(own.mean), own.in_rgb(own.std)
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in given)
    source = "assumed, set --mean and --std if wrong" if network.assumed else "the model's own"
    source = "its input is of whole numbers" if network.takes_bytes else source
    pixel = {1: "luminance", 3: "RGB"}.get(len(own.mean), "pixel")
    return Fact(
        f"({pixel} - [{mean}]) / [{std}], 0-255 scale: {source}",
        {
            "mean": given[0],
            "std": given[1],
            "assumed": network.assumed,
            "whole_numbers": network.takes_bytes,
        },
    )


def _scaling(found: InnerScaling | None) -> Fact:
    if found is None:
        return Fact("none", None)
    pixels = (
        "of what does not show" if found.white is None else f"of pixels from 0 to {found.white}"
    )
    return Fact(f"{found.node}, {pixels}", {"node": found.node, "white": found.white})
