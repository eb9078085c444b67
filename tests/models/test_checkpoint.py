"""MXNet checkpoints of both kinds, and files that are none."""

import json

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import IMAGENET_MEAN, IMAGENET_STD
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.types import Preprocessing
from tests.models.test_torch_file import described

IMAGES = np.random.RandomState(6).standard_normal((2, 3, 16, 16)).astype(np.float32)


def symbol(end):
    x = mx.sym.Convolution(mx.sym.var("pixels"), name="conv", num_filter=6, kernel=(3, 3))
    x = mx.sym.BatchNorm(x, name="bn", fix_gamma=False)
    x = mx.sym.Activation(x, name="relu", act_type="relu")
    x = mx.sym.Dropout(x, name="drop", p=0.5)
    x = mx.sym.Pooling(x, name="pool", global_pool=True, pool_type="avg")
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
    found = load_network(str(path), image_size=16)
    assert found.parameters["dense_bias"].tolist() == [1, 2, 3, 4]
    newest = tmp_path / "net-0010.params"
    assert found.remarks[0] == f"of 2 epochs the latest was taken: --params {newest}"
    old = load_network(str(path), str(tmp_path / "net-0007.params"), 16)
    assert old.parameters["dense_bias"].tolist() != [1, 2, 3, 4]
    assert not any("epochs" in remark for remark in old.remarks)


@pytest.mark.parametrize("stem", ["net[v2]", "a*b", "net.1"])
def test_the_latest_epoch_is_found_whatever_the_name(tmp_path, stem):
    path, _ = module(tmp_path, "logits")
    path = path.rename(tmp_path / f"{stem}-symbol.json")
    stored = mx.nd.load(str(tmp_path / "net-0007.params"))
    for name in (f"{stem}-0007", f"{stem}-9999", f"{stem}-10000", "netv-20000", f"{stem}-x-30000"):
        stored["arg:dense_bias"] = mx.nd.full(4, int(name.rpartition("-")[2]))
        mx.nd.save(str(tmp_path / f"{name}.params"), stored)
    assert load_network(str(path), image_size=16).parameters["dense_bias"].tolist() == [10000] * 4


def test_weights_in_safetensors(tmp_path):
    path, _ = module(tmp_path, "logits")
    expected = load_network(str(path), image_size=16)
    save_file(expected.parameters, tmp_path / "w.safetensors")
    found = load_network(str(path), str(tmp_path / "w.safetensors"), 16)
    assert found.digest() == expected.digest()


def test_weights_in_a_torch_file(tmp_path):
    x = mx.sym.Convolution(
        mx.sym.var("data"), mx.sym.var("w"), num_filter=1, kernel=(1, 1), no_bias=True
    )
    mx.sym.Flatten(x).save(str(tmp_path / "net-symbol.json"))
    file = tmp_path / "w.pth"
    file.write_bytes(described(count=3, shape=(1, 3, 1, 1), stride=(3, 1, 1, 1)))
    found = load_network(str(tmp_path / "net-symbol.json"), str(file))
    assert found.parameters["w"].tolist() == [[[[0]], [[1]], [[2]]]]


def test_random_weights(tmp_path):
    path, _ = module(tmp_path, "SoftmaxOutput")
    stored = load_network(str(path), image_size=16)
    (tmp_path / "net-0007.params").unlink()
    found = load_network(str(path), "random", 16)
    assert found.digest() == load_network(str(path), "random", 16).digest()
    shapes = [{n: v.shape for n, v in d.parameters.items()} for d in (stored, found)]
    assert shapes[0] == shapes[1]
    assert (found.parameters["bn_moving_var"] == 1).all()
    logits = MxnetNetwork(found, ("relu",), 2).forward(IMAGES).logits
    assert logits.std() > 0.1


def test_random_weights_for_one_channel(tmp_path):
    """As the input declares, or as the weight does, which Gluon writes down."""
    path, _ = module(tmp_path, "logits")
    declare(path, shape="(0, 1, 28, 20)", mean="33.4")
    found = load_network(str(path), "random")
    assert found.preprocessing == Preprocessing(28, 20, (33.4,), (255.0,))
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(4, 3, in_channels=1), mx.gluon.nn.Dense(3))
    net.initialize()
    net.hybridize()
    net(mx.nd.zeros((1, 1, 16, 16)))
    net.export(str(tmp_path / "gluon"))
    found = load_network(str(tmp_path / "gluon-symbol.json"), "random", 16)
    assert found.preprocessing.input_shape == (1, 16, 16)


def test_random_weights_of_shapes_that_nothing_says(tmp_path):
    x = mx.sym.Convolution(mx.sym.var("data"), name="conv", num_filter=6, kernel=(3, 3))
    path = str(tmp_path / "net-symbol.json")
    mx.sym.broadcast_mul(x, mx.sym.var("scale")).save(path)
    with pytest.raises(ModelError, match=r"the shape of 'scale' .*; give --params FILE"):
        load_network(path, "random")
    with pytest.raises(ModelError, match=r"net-symbol\.json: cannot take \(3, 2, 2\) input"):
        load_network(path, "random", 2)


@pytest.mark.parametrize("name", ["arg:bn_gamma", "aux:bn_moving_mean"])
def test_weights_of_another_shape(tmp_path, name):
    """MXNet finds these only when it binds the network, and names none of them."""
    path, _ = module(tmp_path, "logits")
    stored = mx.nd.load(str(tmp_path / "net-0007.params"))
    mx.nd.save(str(tmp_path / "net-0007.params"), stored | {name: mx.nd.zeros(5)})
    with pytest.raises(ModelError, match=rf"BatchNorm 'bn': .* '{name[4:]}' is \(5,\), not \(6,\)"):
        load_network(str(path), image_size=16)


def damage(path, change):
    graph = json.loads(path.read_text())
    change(graph)
    path.write_text(json.dumps(graph))


def unknown_operator(graph):
    graph["nodes"][-1]["op"] = "RunAnything"


def cycle(graph):
    graph["nodes"][3]["inputs"][0] = [len(graph["nodes"]) - 1, 0, 0]


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
        (b"PK" + whole, "header is not that of such a file"),
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
    with pytest.raises(ModelError, match=r"cannot take \(3, 2, 2\) input: Convolution 'conv': "):
        load_network(str(path), image_size=2)


def declare(path, variable="pixels", **attributes):
    def change(graph):
        (node,) = (n for n in graph["nodes"] if n["name"] == variable)
        node["attrs"] = {f"__{name}__": text for name, text in attributes.items()}

    damage(path, change)


def test_an_input_that_says_what_it_expects(tmp_path):
    path, _ = module(tmp_path, "softmax")
    declare(path, shape="(32, 3, 20, 16)", mean="1.5,2,3", std="[4, 5, 6]")
    definition = load_network(str(path))
    expected = Preprocessing(20, 16, (1.5, 2.0, 3.0), (4.0, 5.0, 6.0))
    assert definition.preprocessing == expected
    assert not definition.assumed
    assert definition.remarks == ()
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
    assert "--image-size 224 was taken" in definition.remarks[0]


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


@pytest.mark.parametrize("channels", [2, 5])
def test_any_number_of_channels(tmp_path, channels):
    x = mx.sym.Convolution(mx.sym.var("data"), mx.sym.var("w"), num_filter=4, kernel=(3, 3),
                           no_bias=True, name="conv")  # fmt: skip
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), num_hidden=3, no_bias=True, name="dense")
    path = tmp_path / "net-symbol.json"
    x.save(str(path))
    weights = {"arg:w": mx.nd.ones((4, channels, 3, 3)), "arg:dense_weight": mx.nd.ones((3, 144))}
    mx.nd.save(str(tmp_path / "net-0000.params"), weights)
    definition = load_network(str(path), image_size=8)
    usual = Preprocessing(8, 8, (0.0,) * channels, (255.0,) * channels)
    assert definition.preprocessing == usual
    pixels = np.random.RandomState(0).randint(0, 256, (1, 8, 8, channels), np.uint8)
    logits = MxnetNetwork(definition, ("conv",), 1).forward(pixels).logits
    windows = np.lib.stride_tricks.sliding_window_view(pixels[0] / 255, (3, 3), axis=(0, 1))
    np.testing.assert_allclose(logits[0], [4 * windows.sum()] * 3, rtol=1e-5)


def scaled(path, first, statistics=None, **declared):
    """A network that does something to its input before its convolution."""
    x = mx.sym.Convolution(first(mx.sym.var("data")), name="conv", num_filter=4, kernel=(3, 3))
    x = mx.sym.FullyConnected(mx.sym.Flatten(x), num_hidden=3, name="dense")
    x.save(str(path))
    shapes = zip(x.list_arguments(), x.infer_shape(data=(1, 3, 8, 8))[0], strict=True)
    weights = {f"arg:{n}": mx.nd.ones(shape) for n, shape in shapes if n != "data"}
    for n in x.list_auxiliary_states():
        weights[f"aux:{n}"] = mx.nd.full((3,), statistics[n.rpartition("_")[2]])
    mx.nd.save(str(path).replace("-symbol.json", "-0000.params"), weights)
    declare(path, "data", **declared)
    return load_network(str(path), image_size=8)


def test_a_network_that_normalises_is_given_pixels(tmp_path):
    """As MXNet's own ResNets, whose first layer has the statistics of pixels."""

    def first(data):
        return mx.sym.BatchNorm(data, name="bn")

    path = tmp_path / "net-symbol.json"
    definition = scaled(path, first, {"mean": 118.0, "var": 3600.0})
    assert definition.assumed
    assert definition.preprocessing == Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)
    definition = scaled(path, first, {"mean": 118.0, "var": 3600.0}, mean="1,2,3", std="4,5,6")
    assert definition.preprocessing == Preprocessing(8, 8, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0))


def test_a_network_that_takes_bytes_is_given_pixels(tmp_path):
    def first(data):
        return mx.sym.Cast(data, dtype="float32")

    definition = scaled(tmp_path / "net-symbol.json", first, dtype="3")
    assert definition.takes_bytes
    assert not definition.assumed
    assert definition.preprocessing == Preprocessing(8, 8, (0.0,) * 3, (1.0,) * 3)


def test_one_of_several_outputs(tmp_path):
    path, _ = module(tmp_path, "logits")
    alone = load_network(str(path), image_size=16)
    symbol = mx.sym.load(str(path))
    group = mx.sym.Group([symbol, mx.sym.sum(symbol, name="total")])
    group.save(str(path))
    name = symbol.list_outputs()[0]
    with pytest.raises(ModelError, match=r"has 2 outputs, .*, total; choose one by --output NAME"):
        load_network(str(path), image_size=16)
    with pytest.raises(ModelError, match="--output other: no such node"):
        load_network(str(path), image_size=16, output="other")
    for given in (name, name.removesuffix("_output")):
        assert load_network(str(path), image_size=16, output=given).digest() == alone.digest()
