"""What is known of a network's layers is found once, and goes with the network."""

import gc
from dataclasses import replace
from weakref import ref

from shardcam.engine.models import layer_names
from tests.models.test_receptive_field import strided


def test_shapes_are_inferred_once(monkeypatch):
    inferred, infer = [], layer_names._output_shapes
    monkeypatch.setattr(layer_names, "_output_shapes", lambda *a: inferred.append(1) or infer(*a))
    network = strided()
    auto = layer_names.auto_layer(network)
    assert layer_names.resolve_layer(network, "auto").name == auto
    assert layer_names.layer_shapes(network).keys() >= layer_names.map_layouts(network).keys()
    assert layer_names.idle_layers(network) == set()
    assert len(inferred) == 1
    layer_names.layer_shapes(replace(network, tokens=1))
    assert len(inferred) == 2


def test_nothing_keeps_a_network():
    network = strided()
    layer_names.auto_layer(network)
    gone = ref(network)
    del network
    gc.collect()
    assert gone() is None
