"""Graphs spelled otherwise that compute the same: the forms that MXNet gets right."""

from __future__ import annotations

from ast import literal_eval
from collections import Counter
from dataclasses import replace

from shardcam.engine.models.graph import Entry, Graph, Node, Rewriting, prune

LOSSES = {
    "SoftmaxOutput": "SoftmaxActivation",
    "LogisticRegressionOutput": "sigmoid",
    **dict.fromkeys(("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput"), "_copy"),
}
_BLOCKED, _RESHAPED = 1, 2
_UNBLOCKED = ("FullyConnected", "LayerNorm", "batch_dot", "softmax", "transpose")
_CHAINED = ("BatchNorm", "Activation", "LeakyReLU", "clip", "relu", "sigmoid", "hard_sigmoid")


def inference_form(graph: Graph) -> Graph:
    """The graph that computes the same in training mode as in inference mode.

    A head runs in training mode, because max-pooling's backward pass reads a
    workspace that MXNet fills only then.  So Dropout must be gone, losses too, and BatchNorm
    must use its stored statistics.  What MXNet's fusion gets wrong is spelled so that
    it leaves it alone.
    """
    return with_shared_dense(_with_unfused_sums(_with_frozen_batchnorm(_without_training(graph))))


def _without_training(graph: Graph) -> Graph:
    """Without Dropout, and without make_loss, which would ignore the gradient it is given."""
    bypass: dict[int, Entry] = {}
    for i, node in enumerate(graph.nodes):
        if node.op in ("Dropout", "make_loss"):
            source = node.inputs[0]
            bypass[i] = bypass.get(source[0], source)

    def target(entry: Entry) -> Entry:
        return bypass.get(entry[0], entry)

    nodes = tuple(replace(n, inputs=tuple(map(target, n.inputs))) for n in graph.nodes)
    return prune(Graph(nodes, tuple(map(target, graph.heads))))


def _with_frozen_batchnorm(graph: Graph) -> Graph:
    frozen = {"use_global_stats": "True"}
    return replace(
        graph,
        nodes=tuple(
            replace(n, attrs=n.attrs | frozen) if n.op == "BatchNorm" else n for n in graph.nodes
        ),
    )


def _with_unfused_sums(graph: Graph) -> Graph:
    """Add a convolution to what follows from it by ``broadcast_add``.

    Of ``elemwise_add(f(conv), conv)``, f any chain of normalisation and activation,
    oneDNN's fusion in MXNet 1.9.1 gives wrong values or an error.
    """

    roots: list[int] = []  # of each node: where the chain that it ends begins
    for i, node in enumerate(graph.nodes):
        roots.append(roots[node.inputs[0][0]] if node.op in _CHAINED else i)

    def respelled(node: Node) -> Node:
        if node.op != "elemwise_add":
            return node
        first, second = (roots[number] for number, _ in node.inputs)
        same = first == second and graph.nodes[first].op == "Convolution"
        return replace(node, op="broadcast_add") if same else node

    return replace(graph, nodes=tuple(map(respelled, graph.nodes)))


def with_shared_dense(graph: Graph) -> Graph:
    """Add 0 to each dense layer that is read more than once, or read and an output.

    oneDNN's fusion in MXNet 1.9.1 joins a dense layer and an elementwise operator that
    reads it, whatever else reads it too; then some get the value of the other. The sum
    cannot be joined, and its gradient is exact.
    """
    readers = Counter([*(entry for n in graph.nodes for entry in n.inputs), *graph.heads])
    names = {n.name for n in graph.nodes}
    new = Rewriting(graph)
    for number, node in new.nodes():
        x = new.write(node)
        shared = f"{node.name}_shared"
        if node.op == "FullyConnected" and readers[number, 0] > 1 and shared not in names:
            new.add("_plus_scalar", shared, {"scalar": 0}, x)
    return new.graph()


def differentiable(graph: Graph) -> Graph:
    """Spell transposes by ``SwapAxis`` where MXNet's backward pass would fail on oneDNN's.

    A convolution's gradient comes in blocks of channels. Where it reaches a transpose of up to
    four axes through a reshape, MXNet 1.9.1 cannot reorder it ("could not create a primitive
    descriptor for a reorder primitive"). ``SwapAxis`` is exact, and several times as slow.
    """
    blocked = _blocked_gradients(graph)
    new = Rewriting(graph)
    for number, node in new.nodes():
        order = literal_eval(node.attrs["axes"]) if node.attrs.get("axes") else ()
        if node.op == "transpose" and 2 < len(order) < 5 and blocked[number] == _RESHAPED:
            (x,), swaps = node.inputs, _swaps(order)
            for i, (first, second) in enumerate(swaps, 1):
                name = node.name if i == len(swaps) else f"{node.name}/swap{i}"
                x = new.add("SwapAxis", name, {"dim1": first, "dim2": second}, x)
            if not swaps:
                new.add("_copy", node.name, {}, x)
        else:
            new.write(node)
    return new.graph()


def _blocked_gradients(graph: Graph) -> list[int]:
    """Of each node's output: whether its gradient is in blocks, and reshaped since."""
    states = [0] * len(graph.nodes)
    for number, node in reversed([*enumerate(graph.nodes)]):
        state = states[number]
        if node.op in ("Convolution", "Deconvolution"):
            state = _BLOCKED
        elif node.op in _UNBLOCKED:
            state = 0
        elif node.op in ("Reshape", "Flatten", "expand_dims", "squeeze") and state:
            state = _RESHAPED
        for source, _ in node.inputs:
            states[source] = max(states[source], state)
    return states


def _swaps(order: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pairs of axes whose exchange, one after the other, makes a transpose."""
    axes, swaps = [*range(len(order))], []
    for i, wanted in enumerate(order):
        at = axes.index(wanted)
        if at != i:
            swaps.append((i, at))
            axes[i], axes[at] = axes[at], axes[i]
    return swaps


def without_loss(graph: Graph) -> tuple[Graph, str]:
    """The graph with what a loss at its end computes, and that loss, "" where it means classes.

    Losses ignore the gradient they are given. The labels go with them.
    """
    number, _ = graph.heads[0]
    loss = graph.nodes[number]
    if loss.op not in LOSSES:
        return prune(graph), ""
    op, attrs = LOSSES[loss.op], {}
    if loss.op == "SoftmaxOutput":
        given = {key for key, text in loss.attrs.items() if text in ("True", "1")}
        if "multi_output" in given:
            attrs = {"mode": "channel"}
        elif "preserve_shape" in given:
            op = "softmax"
    nodes = [*graph.nodes]
    nodes[number] = Node(op, loss.name, attrs, loss.inputs[:1])
    plain = prune(replace(graph, nodes=tuple(nodes), heads=((number, 0), *graph.heads[1:])))
    return plain, loss.op if op == "_copy" else ""
