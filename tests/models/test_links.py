"""What a file ends with is taken off, remembered, and what it gave is the score again."""

import re

import mxnet as mx
import numpy as np
import pytest
from onnx import numpy_helper

from shardcam.engine.errors import ConfigError
from shardcam.engine.methods.scores import linked
from shardcam.engine.models.checkpoint import checkpoint_network
from shardcam.engine.models.layer_names import resolve_layer
from shardcam.engine.models.links import at_logits
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.onnx_models import images_for, ints, load, make, node, reference, run, weight

CONV = [node("Conv", "x w", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "p")]
WEIGHTS = {
    "w": weight(16, 3, 3, 3),
    **{f"d{n}": weight(n, 16) for n in (1, 5)},
    **{f"k{n}": weight(n, 16, 1, 1) for n in (1, 5)},
    **{f"b{n}": weight(n) for n in (1, 5)},
    **{"two": np.float32(2), "one": np.float32(1), "twos": np.full((1, 5), 2, np.float32)},
    **{"low": np.float32(1e-7), "high": np.float32(1 - 1e-7), "row": ints(0, -1), "flat": ints(-1)},
    "uneven": np.array([[1, 2, 3, 4, 5]], np.float32),
}
SIGMOID = [node("Sigmoid", "z", "s")]
SOFTMAX = [node("Softmax", "z", "s", axis=1)]


def ending(tail, outputs=5, dense=True):
    """A network whose logits z the tail goes on from; the last output is the file's."""
    end = [node("Flatten", "p", "f"), node("Gemm", f"f d{outputs} b{outputs}", "z", transB=1)]
    if not dense:
        end = [node("Conv", f"p k{outputs} b{outputs}", "z")]
    nodes = [*CONV, *end, *tail]
    used = {name for n in nodes for name in n.input}
    weights = {name: value for name, value in WEIGHTS.items() if name in used}
    return make(nodes, weights, flatten=False, output=nodes[-1].output[0])


@pytest.mark.parametrize("outputs", [1, 5])
@pytest.mark.parametrize("dense", [True, False], ids=["dense", "convolution"])
@pytest.mark.parametrize(
    "tail",
    [
        [],
        [node("Clip", "s low high", "q")],
        [node("Clip", "s low", "q")],
        [node("Identity", "s", "i"), node("Cast", "i", "q", to=1)],
        [node("Flatten", "s", "q")],
        [node("Log", "s", "q")],
        [node("Mul", "s two", "m"), node("Add", "m one", "q")],
        [node("Mul", "two s", "m"), node("Sub", "m one", "q")],
    ],
)
def test_a_sigmoid_at_the_end_is_taken_off(tail, dense, outputs, tmp_path):
    model = ending([*SIGMOID, *tail], outputs, dense)
    images = images_for(model)
    logits = reference(ending([node("Flatten", "z", "y")], outputs, dense), images)
    found = at_logits(load(model, tmp_path))
    assert (found.link, found.binary) == ("sigmoid", outputs == 1)
    z = run(found, images)
    expected = np.concatenate([-logits, logits], axis=1) if outputs == 1 else logits
    np.testing.assert_allclose(z, expected, rtol=1e-4)
    probability = reference(ending([*SIGMOID, node("Flatten", "s", "y")], outputs, dense), images)
    np.testing.assert_allclose(linked(z, found.link)[:, -outputs:], probability, atol=1e-6)
    assert not found.remarks
    assert resolve_layer(found, "r").closed_form


@pytest.mark.parametrize(
    ("tail", "rest"),
    [
        (SOFTMAX, []),
        (SOFTMAX, [node("Clip", "s low high", "q"), node("Log", "q", "l")]),
        (SOFTMAX, [node("Mul", "s twos", "q")]),
        ([node("LogSoftmax", "z", "s")], [node("Exp", "s", "q")]),
        ([*SOFTMAX, node("Softmax", "s", "t")], [node("Identity", "t", "q")]),
    ],
)
def test_a_softmax_is_taken_off_behind_what_keeps_the_order(tail, rest, tmp_path):
    model = ending([*tail, *rest])
    images = images_for(model)
    found = at_logits(load(model, tmp_path))
    assert (found.link, found.binary, found.remarks) == ("softmax", False, ())
    np.testing.assert_allclose(run(found, images), reference(ending([]), images), rtol=1e-4)


def test_one_minus_a_sigmoid_and_both_sides(tmp_path):
    """1 - p is the sigmoid of minus the logit."""
    images = images_for(ending([]))
    z = reference(ending([], 1), images)
    model = ending([*SIGMOID, node("Sub", "one s", "y")], 1)
    found = at_logits(load(model, tmp_path))
    np.testing.assert_allclose(run(found, images), np.concatenate([z, -z], axis=1), rtol=1e-4)
    sides = [node("Sub", "one s", "m"), node("Concat", "m s", "y", axis=1)]
    found = at_logits(load(ending([*SIGMOID, *sides], 1), tmp_path))
    assert (found.link, found.binary) == ("sigmoid", False)
    np.testing.assert_allclose(run(found, images), np.concatenate([-z, z], axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    "tail",
    [
        [*SIGMOID, node("Squeeze", "s", "y")],
        [*SIGMOID, node("Reshape", "s flat", "y")],
        [node("Squeeze", "z", "y")],
    ],
)
def test_an_output_without_an_axis_of_classes(tail, tmp_path):
    """PyTorch's ``model(x).squeeze(1)``: a number for each image."""
    model = ending(tail, 1)
    if tail[-1].op_type == "Squeeze":
        model.graph.node[-1].input.append("axis")
        model.graph.initializer.append(numpy_helper.from_array(ints(1), "axis"))
    images = images_for(model)
    z = reference(ending([], 1), images)
    found = at_logits(load(model, tmp_path))
    assert found.binary and found.link == "sigmoid"
    np.testing.assert_allclose(run(found, images), np.concatenate([-z, z], axis=1), rtol=1e-4)


@pytest.mark.parametrize(
    ("tail", "outputs", "link", "told"),
    [
        ([], 5, "softmax", "without softmax or sigmoid: --link softmax was taken"),
        ([], 1, "sigmoid", "one output and no sigmoid .* --link none"),
        ([node("Tanh", "z", "y")], 5, "none", "ends in tanh, .*no class is claimed"),
        ([node("HardSigmoid", "z", "y")], 1, "none", "ends in hard_sigmoid"),
        (
            [*SIGMOID, node("Mul", "s uneven", "y")],
            *(5, "softmax", "several softmaxes or sigmoids that were not taken off"),
        ),
        ([node("Softmax", "z", "y", axis=1)], 1, "sigmoid", "softmax of one output"),
        (
            [node("Tanh", "z", "t"), node("Mul", "t two", "m"), node("Add", "m one", "y")],
            *(1, "none", "ends in tanh"),
        ),
        ([node("Relu", "z", "y")], 1, "none", "ends in relu"),
        ([node("Clip", "z low high", "y")], 1, "none", "ends in clip"),
        ([node("Relu", "z", "y")], 5, "softmax", "without softmax or sigmoid"),
        (
            [node("ReduceL2", "z", "n", axes=[1]), node("Div", "z n", "y")],
            *(5, "none", "ends in a vector of length 1"),
        ),
        (  # as torch.nn.functional.normalize
            [
                node("ReduceL2", "z", "n", axes=[1]),
                node("Clip", "n low", "above"),
                node("Shape", "z", "sizes"),
                node("Expand", "above sizes", "each"),
                node("Div", "z each", "y"),
            ],
            *(5, "none", "ends in a vector of length 1"),
        ),
        ([*SIGMOID, node("Mul", "s z", "y")], 1, "none", "one output, made of softmaxes"),
    ],
)
def test_what_is_guessed_is_told(tail, outputs, link, told, tmp_path):
    found = at_logits(load(ending(tail, outputs), tmp_path))
    assert found.link == link
    (remark,) = found.remarks
    assert re.search(told, remark)


@pytest.mark.parametrize("outputs", [1, 5])
def test_the_link_can_be_given(outputs, tmp_path):
    images = images_for(ending([]))
    z = reference(ending([], outputs), images)
    model = load(ending(SIGMOID, outputs), tmp_path)
    none = at_logits(model, "none")
    assert (none.link, none.binary, none.remarks) == ("none", False, ())
    np.testing.assert_allclose(run(none, images), 1 / (1 + np.exp(-z)), rtol=1e-5)
    plain = at_logits(load(ending([], outputs), tmp_path), "sigmoid")
    assert (plain.link, plain.binary, plain.remarks) == ("sigmoid", outputs == 1, ())
    if outputs == 1:
        with pytest.raises(ConfigError, match="--link softmax: model has one output"):
            at_logits(model, "softmax")
    else:
        found = at_logits(model, "softmax")
        assert found.link == "softmax"
        np.testing.assert_allclose(run(found, images), z, rtol=1e-4)


def test_a_hard_sigmoid_is_taken_off_if_asked(tmp_path):
    images = images_for(ending([]))
    z = reference(ending([], 1), images)
    found = at_logits(load(ending([node("HardSigmoid", "z", "y")], 1), tmp_path), "sigmoid")
    np.testing.assert_allclose(run(found, images)[:, 1:], 0.8 * z, rtol=1e-4)


def test_one_output_behind_other_operators(tmp_path):
    """Not one dense layer: both sides are put after it."""
    tail = [node("Mul", "z two", "m"), node("Add", "m one", "t"), node("Sigmoid", "t", "y")]
    images = images_for(ending([]))
    t = 2 * reference(ending([], 1), images) + 1
    found = at_logits(load(ending(tail, 1), tmp_path))
    np.testing.assert_allclose(run(found, images), np.concatenate([-t, t], axis=1), rtol=1e-4)


def test_the_gradients_of_both_sides(tmp_path):
    """Class 1 by the output, class 0 by minus it, in closed form and by a backward pass."""
    for tail in ([*SIGMOID], [node("Add", "z z", "t"), node("Sigmoid", "t", "y")]):
        found = at_logits(load(ending(tail, 1), tmp_path))
        view = MxnetNetwork(found, ("r",), 2).forward(images_for(ending([]))).layer("r")
        zero, one = (view.gradient(np.tile(np.eye(2, dtype=np.float32)[k], (2, 1))) for k in (0, 1))
        assert view.closed_form == (len(tail) == 1)
        np.testing.assert_array_equal(zero, -one)
        slope = len(tail) * WEIGHTS["d1"][0] / 63
        np.testing.assert_allclose(one.mean(axis=(2, 3))[0], slope, rtol=1e-4)


def checkpoint(tmp_path, end, outputs):
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=6, kernel=(3, 3))
    x = mx.sym.Pooling(mx.sym.Activation(x, act_type="relu"), global_pool=True, pool_type="avg")
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=outputs)
    z, net = x, end(x)
    rng = np.random.RandomState(0)
    known = {"conv_weight": (6, 3, 3, 3), "conv_bias": (6,)}
    known |= {"dense_weight": (outputs, 6), "dense_bias": (outputs,)}
    values = {f"arg:{n}": mx.nd.array(rng.standard_normal(s)) for n, s in known.items()}
    net.save(str(tmp_path / "net-symbol.json"))
    mx.nd.save(str(tmp_path / "net-0000.params"), values)
    return z, {name.removeprefix("arg:"): value for name, value in values.items()}


@pytest.mark.parametrize(
    ("end", "link"),
    [
        (lambda x: mx.sym.SoftmaxOutput(x), "softmax"),
        (lambda x: mx.sym.SoftmaxOutput(x, multi_output=True), "softmax"),
        (lambda x: mx.sym.SoftmaxOutput(x, preserve_shape=True), "softmax"),
        (lambda x: mx.sym.SoftmaxActivation(x), "softmax"),
        (lambda x: mx.sym.log_softmax(x), "softmax"),
        (lambda x: mx.sym.LogisticRegressionOutput(x), "sigmoid"),
        (lambda x: mx.sym.sigmoid(x), "sigmoid"),
        (lambda x: mx.sym.Activation(x, act_type="sigmoid") * 100, "sigmoid"),
        (lambda x: mx.sym.LinearRegressionOutput(x), "none"),
        (lambda x: mx.sym.MAERegressionOutput(x, grad_scale=0.5), "none"),
        (lambda x: mx.sym.SVMOutput(x, margin=1, use_linear=True), "none"),
        (lambda x: mx.sym.L2Normalization(x), "none"),
    ],
)
@pytest.mark.parametrize("outputs", [1, 4])
def test_symbol_files(end, link, outputs, tmp_path):
    z, values = checkpoint(tmp_path, end, outputs)
    images = np.random.RandomState(6).standard_normal((2, 3, 16, 16)).astype(np.float32)
    expected = z.bind(mx.cpu(), {"data": mx.nd.array(images), **values}).forward()[0].asnumpy()
    found = load_network(str(tmp_path / "net-symbol.json"), image_size=16)
    one_of_two = outputs == 1 and link != "none"
    assert (found.link, found.binary) == ("sigmoid" if one_of_two else link, one_of_two)
    logits = MxnetNetwork(found, ("conv",), 2).forward(images).logits
    if "L2Normalization" in {n.op for n in found.graph.nodes}:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(logits[:, -outputs:], expected, rtol=1e-4)
    if one_of_two:
        np.testing.assert_allclose(logits[:, :1], -expected, rtol=1e-4)
    told = {"none": "no class is claimed"}.get(found.link, "")
    assert told in " ".join(found.remarks)


def test_make_loss_lets_the_gradient_of_each_class_through(tmp_path):
    """MXNet's has a gradient of its own, whatever it is given."""
    images = np.random.RandomState(6).standard_normal((2, 3, 16, 16)).astype(np.float32)
    found = []
    for number, end in enumerate((lambda x: mx.sym.make_loss(x), lambda x: x)):
        (folder := tmp_path / str(number)).mkdir()
        checkpoint(folder, end, 4)
        network = load_network(str(folder / "net-symbol.json"), image_size=16)
        layer = MxnetNetwork(network, ("conv",), 2).forward(images).layer("conv")
        found.append([layer.gradient(np.eye(4, dtype=np.float32)[[k, k]]) for k in range(4)])
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-7)


def test_the_temperature_of_a_softmax_belongs_to_the_logits(tmp_path):
    checkpoint(tmp_path, lambda x: mx.sym.softmax(x, temperature=4), 4)
    images = np.random.RandomState(6).standard_normal((2, 3, 16, 16)).astype(np.float32)
    given = checkpoint_network(tmp_path / "net-symbol.json", None, 16)
    probability = MxnetNetwork(given, ("conv",), 2).forward(images).logits
    found = at_logits(given)
    logits = MxnetNetwork(found, ("conv",), 2).forward(images).logits
    np.testing.assert_allclose(linked(logits, "softmax"), probability, rtol=1e-4)
