"""The CAM methods by name, and the decorator that adds one.

A formula is a function ``(layer, targets, combine)``, or ``(layer, targets)`` where its map is
not a sum of terms, one for each channel::

    @cam_method("gradcam", paper="Selvaraju et al., ICCV 2017", needs=GRADIENT)
    def gradcam(layer: LayerView, targets: I4, combine: Combine) -> F4:
        ...

(N,K) classes give (N,K,h,w) raw maps, float32, signed, before ReLU. `layer` gives activations,
gradients, the head run on other activations and the network run on other images.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from types import MappingProxyType
from typing import TypeVar

from shardcam.engine.methods.combine import Combine, Sum
from shardcam.engine.protocols import LayerView
from shardcam.engine.types import F4, I4, LayerInfo

FORWARD = "the forward pass alone"
GRADIENT = "a gradient"  # in closed form, or by one backward pass through the head

LAST_BLOCK, EACH_BLOCK = "last", "each"  # whose attention is read

Passes = Callable[[LayerInfo], tuple[int, int]]
"""Passes for one image and layer besides the first: of the network, of the part above the layer."""

_Formula = TypeVar("_Formula", bound=Callable[..., F4])
_methods: dict[str, CamMethod] = {}


@dataclass(frozen=True)
class CamMethod:
    """A class activation map method: its formula, where it comes from, what it needs."""

    formula: Callable[..., F4]
    paper: str
    needs: str  # passes and gradients, in words
    supports_eigen_smooth: bool  # the map is a sum of terms, and the formula takes `combine`
    per_class: bool  # the map depends on the class
    multi_pass: bool  # it runs the network, or the head, many times for an image
    passes: Passes  # how many times, where that is known
    explains_input: bool  # it explains the network's input, not a layer
    reads_attention: str  # of a transformer: LAST_BLOCK, EACH_BLOCK, or "" for none
    fuse: str  # how the maps of several layers become one heatmap: mean, max or product

    def __call__(self, layer: LayerView, targets: I4, combine: Combine | None = None) -> F4:
        """See `engine.protocols.Method`; `combine` adds the terms unless given."""
        if self.supports_eigen_smooth:
            return self.formula(layer, targets, combine or Sum())
        return self.formula(layer, targets)


METHODS: Mapping[str, CamMethod] = MappingProxyType(_methods)
"""By name; the order is that of the families in `engine/methods/__init__.py`, then of each file."""


def cam_method(
    name: str,
    *,
    paper: str,
    needs: str,
    per_class: bool = True,
    multi_pass: bool = False,
    passes: Passes = lambda layer: (0, 0),
    explains_input: bool = False,
    reads_attention: str = "",
    fuse: str = "mean",
) -> Callable[[_Formula], _Formula]:
    """Register a formula under a name; the keywords are the fields of `CamMethod`."""

    def register(formula: _Formula) -> _Formula:
        if name in _methods:
            raise ValueError(f"two CAM methods are named {name}")
        _methods[name] = CamMethod(
            formula,
            paper,
            needs,
            supports_eigen_smooth="combine" in signature(formula).parameters,
            per_class=per_class,
            multi_pass=multi_pass,
            passes=passes,
            explains_input=explains_input,
            reads_attention=reads_attention,
            fuse=fuse,
        )
        return formula

    return register
