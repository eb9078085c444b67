"""Networks whose input may be of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache

import numpy as np

from shardcam.engine.config import size_text
from shardcam.engine.errors import ConfigError, ModelError
from shardcam.engine.models.definition import NetworkDefinition, OneSize
from shardcam.engine.models.graph import VARIABLE, Node
from shardcam.engine.models.layer_names import class_count, layer_shapes, map_layouts, with_maps
from shardcam.engine.models.symbol_shapes import OTHER_FITS, require_runnable
from shardcam.engine.models.zoo import NAMES
from shardcam.engine.types import F4

Load = Callable[[tuple[int, int] | None], NetworkDefinition]

PROBES = 8
VARIANTS = 64  # graphs of one network that are remembered
INSTEAD = "give --image-size without --resize none"


class OpenSize:
    """A network at any size of its input.

    Most files hold one graph for all sizes. Where it depends on the size, as TensorFlow's "same"
    padding does, the network is loaded for each.

    Parameters
    ----------
    load
        Loads it for an input of (height, width), None for the network's own.
    one_graph
        What is known of it: whether one graph is for all sizes. None: it is tried.

    Attributes
    ----------
    one_graph : bool
        See above.

    Raises
    ------
    ConfigError
        It takes inputs of one size only; the line says why.
    """

    def __init__(self, load: Load, one_graph: bool | None = None) -> None:
        self._load = load
        try:
            own = load(None)
        except OneSize as error:
            raise ConfigError(f"--resize none: {error}; {INSTEAD}") from error
        self._whole = _whole_windows(own)
        self.own = self._pooled_globally(own)
        self._variants: list[NetworkDefinition] = []
        self.variant = lru_cache(VARIANTS)(self._variant)
        self._fits = {(own.preprocessing.height, own.preprocessing.width)}
        self._too_small: set[tuple[int, int]] = set()
        self.one_graph = bool(one_graph)
        if one_graph is None:
            probed = [self._probed(*size) for size in _probes(own)]
            self.one_graph = probed == [self.own] * len(probed)
            self.variant.cache_clear()
        if self.one_graph:
            del self._load  # with the file that it may hold

    def at(self, height: int, width: int) -> NetworkDefinition:
        """The network for inputs of this size.

        Raises
        ------
        ModelError
            It cannot take them.
        """
        return _at(self.variant(height, width), height, width)

    def too_small(self, height: int, width: int) -> str | None:
        """Why the network cannot take pictures of a size; None if it can."""
        own = self.own.preprocessing
        if self._fit(min(height, own.height), min(width, own.width)):
            return None  # what its own sides fit, longer ones do
        return f"{width}x{height} pixels are too few for {self.own.name}"

    def _fit(self, height: int, width: int) -> bool:
        """Whether sides no longer than the network's own are long enough."""
        if any(height >= size[0] and width >= size[1] for size in self._fits):
            return True
        if any(height <= size[0] and width <= size[1] for size in self._too_small):
            return False
        try:
            self._loaded(height, width)
        except ModelError:
            self._too_small.add((height, width))
            return False
        self._fits.add((height, width))
        return True

    def _variant(self, height: int, width: int) -> NetworkDefinition:
        """The network with the graph and the parameters of a size: one for all that share them."""
        if self.one_graph:
            return self.own
        loaded = self._loaded(height, width)
        known = (self.own, *self._variants)
        found = next((one for one in known if _computes_the_same(one, loaded)), None)
        if found is None:
            found = _sharing(loaded, self.own.parameters)
            self._variants = [*self._variants[1 - VARIANTS :], found]
        return found

    def _loaded(self, height: int, width: int) -> NetworkDefinition:
        """The network as it is for a size, once every operator is known to fit."""
        if self.own.of_one_size and not self.one_graph:
            return self._pooled_globally(self._load((height, width)))
        network = _at(self.own, height, width)
        shapes = {name: value.shape for name, value in network.parameters.items()}
        images = network.preprocessing.input_shape
        require_runnable(network.graph, network.input_name, images, shapes)
        return network

    def _probed(self, height: int, width: int) -> NetworkDefinition:
        """The network of a size that it is only tried at."""
        name = self.own.name
        try:
            variant = self.variant(height, width)
            found, wanted = class_count(_at(variant, height, width)), class_count(self.own)
            if found != wanted:
                raise ModelError(f"it would have {found} logits, not {wanted}")
        except OneSize as error:
            raise ConfigError(
                f"--resize none: {name}: the file fixes the size of its input; export it with open "
                f"height and width (dynamic axes), or {INSTEAD}"
            ) from error
        except ModelError as error:
            size, own = size_text(height, width), self.own.preprocessing
            why = "".join(
                f"; {window!r} pools the whole map at {size_text(own.height, own.width)} only"
                for window in self._whole
            )
            misfit = str(error).removesuffix(OTHER_FITS)
            raise ConfigError(
                f"--resize none: {name} cannot take pictures of any size: at {size} {misfit}{why}; "
                f"{INSTEAD}"
            ) from error
        return variant

    def _pooled_globally(self, network: NetworkDefinition) -> NetworkDefinition:
        """Gluon's networks have a pooling of the whole map that is written for one size."""
        if network.name not in NAMES or not self._whole:
            return network
        nodes = tuple(
            replace(n, attrs={**n.attrs, "global_pool": "True"}) if n.name in self._whole else n
            for n in network.graph.nodes
        )
        return replace(network, graph=replace(network.graph, nodes=nodes))


def _probes(own: NetworkDefinition) -> list[tuple[int, int]]:
    """Sizes to try a network at: twice its own and more, so that no window covers a map by chance.

    What depends on the parity of a map's sides shows at one of them, however deep the map lies.
    """
    longer = max(own.preprocessing.height, own.preprocessing.width)
    sides = np.random.RandomState(0).randint(2 * longer + 8, 4 * longer + 16, (PROBES, 2))
    return [(int(height), int(width)) for height, width in sides]


def _at(network: NetworkDefinition, height: int, width: int) -> NetworkDefinition:
    sides = replace(network.preprocessing, height=height, width=width)
    return replace(network, preprocessing=sides)


def _whole_windows(network: NetworkDefinition) -> list[str]:
    """Names of poolings whose window covers the map at the network's own size."""
    shapes, nodes = layer_shapes(network), network.graph.nodes

    def covers(node: Node) -> bool:
        if node.op != "Pooling" or node.attrs.get("global_pool", "False") in ("True", "1"):
            return False
        source = nodes[node.inputs[0][0]].name
        one = (1, 1)
        return shapes[node.name][1:] == one != shapes.get(source, (0, *one))[1:]

    return [node.name for node in nodes if node.op != VARIABLE and covers(node)]


def _computes_the_same(first: NetworkDefinition, second: NetworkDefinition) -> bool:
    """Whether graphs, how maps lie in them, and parameters are equal."""
    if first.graph != second.graph or first.parameters.keys() != second.parameters.keys():
        return False
    for name, value in first.parameters.items():
        other = second.parameters[name]
        if value is not other and not np.array_equal(value, other):
            return False
    return _laid(first) == _laid(second)


def _sharing(network: NetworkDefinition, parameters: dict[str, F4]) -> NetworkDefinition:
    """The same network, with those of the parameters that are equal to its own."""
    shared = {
        name: parameters[name] if np.array_equal(value, parameters.get(name, ())) else value
        for name, value in network.parameters.items()
    }
    return replace(network, parameters=shared)


def _laid(network: NetworkDefinition) -> object:
    others = [name for name, layout in map_layouts(network).items() if not layout.is_map]
    return with_maps(network, others).graph if others else None
