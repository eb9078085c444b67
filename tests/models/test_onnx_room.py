"""Constants of a file may take so much memory at one time, however much passes through."""

import tracemalloc

import numpy as np
import pytest

from shardcam.engine.errors import ModelError
from shardcam.engine.models.onnx import room
from tests.models.onnx_models import ints, load, make, node, weight

MEBI = 2**20
W = {"w": np.ones((4, 3, 3, 3), np.float32), "k": np.ones((256, 1024), np.float32)}  # a MiB
LAST = [node("ReduceMax", "s", "m", keepdims=0), node("Mul", "w m", "v"), node("Conv", "x v", "y")]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(room, "ROOM", 16 * MEBI)


def kept(count, op):
    """Constants of a MiB each, of which all are there until the last."""
    names = [f"k{i}" for i in range(count)]
    made = [node(op, "k", name) for name in names]
    return [*made, node("Sum", " ".join(names), "s"), *LAST]


def passing(count):
    """As many, each made of the one before."""
    steps = [node("Neg", f"k{i}" if i else "k", f"k{i + 1}") for i in range(count)]
    return [*steps, node("Identity", f"k{count}", "s"), *LAST]


def written(nodes, weights, tmp_path):
    return load(make(nodes, W | weights), tmp_path)


def test_what_passes_is_not_counted(tmp_path):
    assert written(passing(200), {}, tmp_path).graph.heads


def test_what_shares_memory_counts_once(tmp_path):
    views = [node("Reshape", "k turned", f"k{i}") for i in range(100)]
    total = node("Max", " ".join(f"k{i}" for i in range(100)), "s")
    assert written([*views, total, *LAST], {"turned": ints(1024, 256)}, tmp_path).graph.heads


@pytest.mark.parametrize("op", ["Neg", "Abs"])
def test_what_is_kept(op, tmp_path):
    """A weight of a MiB does not let a file keep 128 of them."""
    assert written(kept(10, op), {}, tmp_path).graph.heads
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=r"more than .* of memory at one time"):
            written(kept(120, op), {}, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 32 * MEBI
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("made", "weights"),
    [
        (node("ConstantOfShape", "shape", "s"), {"shape": ints(4096, 4096)}),
        (node("Tile", "k times", "s"), {"times": ints(8, 8)}),
        (node("MatMul", "column row", "s"), {"column": weight(4096, 1), "row": weight(1, 4096)}),
        (node("Range", "low high one", "s"), {"low": np.array(0), "high": np.array(2**24),
                                              "one": np.array(1)}),
    ],
    ids=["filled", "tiled", "product", "range"],
)  # fmt: skip
def test_what_is_large_at_once(made, weights, tmp_path):
    """Nothing is computed that has no room."""
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match="memory at one time"):
            written([made, *LAST], weights, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 16 * MEBI
    finally:
        tracemalloc.stop()


def test_weights_of_many_nodes(tmp_path):
    """One constant for many operators is copied for each of them."""
    shape = ("N", 3, 256, 1024)
    constant = {"k": np.ones((3, 256, 1024), np.float32)}
    nodes = [node("Add", f"{f'a{i}' if i else 'x'} k", f"a{i + 1}") for i in range(60)]
    last = [node("GlobalMaxPool", "a60", "y")]
    with pytest.raises(ModelError, match="memory at one time"):
        load(make([*nodes, *last], constant, shape=shape), tmp_path)
    assert load(
        make([*nodes[:3], node("GlobalMaxPool", "a3", "y")], constant, shape=shape), tmp_path
    )


def test_filters_of_blocks(tmp_path):
    """Col2Im is a convolution here, with as many filters as its blocks have pixels."""
    nodes = [node("Reshape", "x s", "r"), node("Col2Im", "r image block", "y")]
    weights = {"s": ints(0, 2048, 1), "image": ints(2, 1024), "block": ints(2, 1024)}
    with pytest.raises(ModelError, match="memory at one time"):
        load(make(nodes, weights, shape=("N", 1, 32, 64), opset=18), tmp_path)
