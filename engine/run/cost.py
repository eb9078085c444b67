"""What a method costs that runs the network many times for an image, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shardcam.engine.config import RunConfig
from shardcam.engine.run.method_choice import method_of
from shardcam.engine.types import LayerInfo

if TYPE_CHECKING:
    from shardcam.engine.models.definition import NetworkDefinition

RATES = 20e9, 5e9  # multiply-adds a second of one core: large convolutions, depthwise ones


@dataclass(frozen=True)
class Cost:
    """Of one image, besides what every method needs."""

    passes: int  # of the network, or of the part above a layer
    multiply_adds: float

    @property
    def seconds(self) -> tuple[float, float]:
        """A guess for one CPU core: at least, and at most."""
        return self.multiply_adds / RATES[0], self.multiply_adds / RATES[1]


def run_cost(
    config: RunConfig, definition: NetworkDefinition, layers: Sequence[LayerInfo]
) -> Cost | None:
    """The cost of a method that makes many passes; None of others."""
    from shardcam.engine.methods.smoothing import COPIES
    from shardcam.engine.models.layer_names import layer_shapes
    from shardcam.engine.models.multiply_adds import multiply_adds, shares_below

    method = method_of(config)
    counts = [(info.name, *method.passes(info)) for info in layers]
    copies = len(COPIES) if "aug" in config.smooth else 1
    passes = copies * sum(whole + head for _, whole, head in counts)
    if not passes:
        return None
    shapes = layer_shapes(definition)
    below = shares_below(definition, shapes)
    networks = sum(whole + head * (1 - below.get(name, 0)) for name, whole, head in counts)
    return Cost(passes, copies * networks * multiply_adds(definition, shapes))


def work_of(definition: NetworkDefinition, cost: Cost | None) -> float:
    """Multiply-adds of one image: of its pass, and of those that a method makes besides."""
    from shardcam.engine.models.layer_names import layer_shapes
    from shardcam.engine.models.multiply_adds import multiply_adds

    once = multiply_adds(definition, layer_shapes(definition))
    return once + (cost.multiply_adds if cost else 0)
