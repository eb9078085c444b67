"""MXNet checkpoints of both kinds, and files that are none."""

import json

import mxnet as mx
import numpy as np
import pytest

from engine.errors import ModelError
from engine.models.definition import IMAGENET_MEAN, IMAGENET_STD
from engine.models.load import load_network
from engine.models.mxnet_network import MxnetNetwork
from engine.types import Preprocessing

IMAGES = np.random.RandomState(6).standard_normal((2, 3, 16, 16)).astype(np.float32)


def symbol(end):
    x = mx.sym.Convolution(mx.sym.var("pixels"), name="conv", num_filter=6, kernel=(3, 3))
    x = mx.sym.BatchNorm(x, name="bn", fix_gamma=False)
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    x = mx.sym.Dropout(x, name="drop", p=0.5)
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), name="dense", num_hidden=4)
    return {"logits": x, "SoftmaxOutput": mx.sym.SoftmaxOutput(x, name="softmax")}.get(
        end, mx.sym.softmax(x)
    )


def module(tmp_path, end):
    """A checkpoint as Module saves it, and its logits."""
    net = symbol(end)
    labels = ["softmax_label"] if end == "SoftmaxOutput" else []
    trainer = mx.mod.Module(net, data_names=["pixels"], label_names=labels)
    shapes = [("softmax_label", (2,))] if labels else None
    trainer.bind([("pixels", IMAGES.shape)], shapes, for_training=False)
    mx.random.seed(0)
    trainer.init_params(mx.init.Uniform(0.5))
    trainer.save_checkpoint(str(tmp_path / "net"), 7)
    trainer.forward(mx.io.DataBatch([mx.nd.array(IMAGES)]), is_train=False)
    return tmp_path / "net-symbol.json", trainer.get_outputs()[0].asnumpy()


@pytest.mark.parametrize("end", ["logits", "SoftmaxOutput", "softmax"])
def test_module_checkpoint(tmp_path, end):
    path, expected = module(tmp_path, end)
    definition = load_network(str(path), image_size=16)
    assert definition.input_name == "pixels"
    assert definition.assumed
    logits = MxnetNetwork(definition, ("relu",), 2).forward(IMAGES).logits
    if end != "logits":
        logits = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-4)


def test_gluon_export(tmp_path):
    net = mx.gluon.model_zoo.vision.squeezenet1_1()
    net.initialize(mx.init.Xavier())
    net.hybridize()
    images = np.random.RandomState(7).standard_normal((1, 3, 224, 224)).astype(np.float32)
    expected = net(mx.nd.array(images)).asnumpy()
    net.export(str(tmp_path / "net"))
    definition = load_network(str(tmp_path / "net-symbol.json"))
    logits = MxnetNetwork(definition, ("auto",), 1).forward(images).logits
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-5)


def test_the_newest_parameters_beside_the_symbol_are_taken(tmp_path):
    path, _ = module(tmp_path, "logits")
    stored = mx.nd.load(str(tmp_path / "net-0007.params"))
    stored["arg:dense_bias"] = mx.nd.array([1, 2, 3, 4])
    mx.nd.save(str(tmp_path / "net-0010.params"), stored)
    found = load_network(str(path), image_size=16).parameters["dense_bias"]
    assert found.tolist() == [1, 2, 3, 4]
    old = load_network(str(path), str(tmp_path / "net-0007.params"), 16)
    assert old.parameters["dense_bias"].tolist() != [1, 2, 3, 4]


def damage(path, change):
    graph = json.loads(path.read_text())
    change(graph)
    path.write_text(json.dumps(graph))


def unknown_operator(graph):
    graph["nodes"][-1]["op"] = "RunAnything"


def cycle(graph):
    graph["nodes"][3]["inputs"] = [[len(graph["nodes"]) - 1, 0, 0]]


def far_input(graph):
    graph["nodes"][-1]["inputs"][0] = [999, 0, 0]


def two_outputs(graph):
    graph["heads"].append([0, 0, 0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (unknown_operator, "RunAnything"),
        (cycle, "out of order"),
        (far_input, "out of order"),
        (two_outputs, "2 outputs"),
        (lambda graph: graph.pop("nodes"), "not an MXNet symbol file"),
        (lambda graph: graph.update(heads=[]), "its outputs do not exist"),
    ],
)
def test_damaged_symbol(tmp_path, change, message):
    path, _ = module(tmp_path, "logits")
    damage(path, change)
    with pytest.raises(ModelError, match=message) as caught:
        load_network(str(path), image_size=16)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_do_not_fit(tmp_path):
    path, _ = module(tmp_path, "logits")
    params = tmp_path / "net-0007.params"
    whole = params.read_bytes()
    for data, message in [
        (b"", "ends after 0 bytes"),
        (whole[: len(whole) // 2], "in the middle of a value"),
        (b"PK" + whole, "does not begin like one"),
        (whole[:24] + b"\xff" * 40 + whole[64:], "not a usable .params file"),
    ]:
        params.write_bytes(data)
        with pytest.raises(ModelError, match=message):
            load_network(str(path), image_size=16)
    mx.nd.save(str(params), {"arg:conv_weight": mx.nd.zeros((6, 3, 3, 3))})
    with pytest.raises(ModelError, match="its input; lacks pixels, conv_bias"):
        load_network(str(path), image_size=16)
    params.unlink()
    with pytest.raises(ModelError, match=r"no net-NNNN\.params beside it"):
        load_network(str(path), image_size=16)
    with pytest.raises(ModelError, match="No such file"):
        load_network(str(tmp_path / "other-symbol.json"))


def test_an_input_size_it_cannot_take(tmp_path):
    path, _ = module(tmp_path, "logits")
    definition = load_network(str(path), image_size=20)
    with pytest.raises(ModelError, match=r"cannot take \(3, 20, 20\) input"):
        MxnetNetwork(definition, ("relu",), 1)


def declare(path, **attributes):
    def change(graph):
        (node,) = (n for n in graph["nodes"] if n["name"] == "pixels")
        node["attrs"] = {f"__{name}__": text for name, text in attributes.items()}

    damage(path, change)


def test_an_input_that_says_what_it_expects(tmp_path):
    path, _ = module(tmp_path, "logits")
    declare(path, shape="(32, 3, 20, 16)", mean="1.5,2,3", std="[4, 5, 6]")
    definition = load_network(str(path))
    expected = Preprocessing(20, 16, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert definition.preprocessing == expected
    assert not definition.assumed
    other = load_network(str(path), image_size=16)  # whatever size and batch it was saved with
    assert other.preprocessing.input_shape == (3, 16, 16)
    assert MxnetNetwork(other, ("relu",), 2).forward(IMAGES).logits.shape == (2, 4)


@pytest.mark.parametrize("shape", ["(0, 3, 0, 0)", "(0, 20, 16, 3)", "(16,)", "[None, 3]"])
def test_a_shape_that_says_nothing(tmp_path, shape):
    path, _ = module(tmp_path, "logits")
    declare(path, shape=shape)
    definition = load_network(str(path))
    assert definition.preprocessing == Preprocessing(224, 224, IMAGENET_MEAN, IMAGENET_STD)
    assert definition.assumed


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"mean": "1,2"}, r"'pixels' declares __mean__='1,2', which is not 3 numbers"),
        ({"mean": "1,2,nan"}, "not 3 numbers"),
        ({"std": "1,2,x"}, "not 3 numbers"),
        ({"std": "1,0,2"}, "__std__='1,0,2', which must be positive"),
        ({"shape": "(0, 3, a, b)"}, "not 4 numbers"),
    ],
)
def test_an_input_that_says_nonsense(tmp_path, attributes, message):
    path, _ = module(tmp_path, "logits")
    declare(path, **attributes)
    with pytest.raises(ModelError, match=message) as caught:
        load_network(str(path))
    assert str(path) in str(caught.value)
