"""Zoo networks: weights from files, gradients against finite differences."""

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from shardcam.engine.errors import ModelError
from shardcam.engine.methods.class_gradients import mean_gradient
from shardcam.engine.models.layer_names import class_count, resolve_layer
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from tests.models.finite_differences import crossing_values, mean_slope

SIZE = 64
PARTS = ("weight", "bias")


@pytest.fixture(scope="module")
def vgg16():
    return load_network("vgg16", "random", SIZE)


@pytest.fixture(scope="module")
def resnet50():
    return load_network("resnet50_v1", "random", SIZE)


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        ("vgg16", "conv12_fwd"),  # the last convolution
        ("vgg16", "relu7_fwd"),  # mid-way: two max-poolings above it
        ("resnet50", "stage4_conv8_fwd"),  # inside a residual block: two tensors cross the cut
        ("resnet50", "stage3_relu4_fwd"),
    ],
)
def test_gradient_equals_finite_differences(network, layer, request):
    definition = request.getfixturevalue(network)
    images = np.random.RandomState(2).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    view = MxnetNetwork(definition, (layer,), 2).forward(images).layer(layer)
    targets = np.array([[3, 998], [500, 7]], np.int32)
    gradient = mean_gradient(view, targets)
    inputs = crossing_values(definition, layer, images)
    strongest = np.argsort(-abs(gradient).max(axis=(0, 1)))[[0, 1, 50]]
    for channel in strongest:
        slope = mean_slope(definition, layer, inputs, channel)
        expected = np.take_along_axis(slope, targets, axis=1)
        scale = abs(gradient).max()
        np.testing.assert_allclose(gradient[:, :, channel], expected, atol=1e-3 * scale)


@pytest.mark.parametrize(
    ("network", "layer", "shape"),
    [("vgg16", "relu12_fwd", (512, 4, 4)), ("resnet50", "stage4_activation2", (2048, 2, 2))],
)
def test_auto_layer(network, layer, shape, request):
    info = resolve_layer(request.getfixturevalue(network), "auto")
    assert (info.name, info.shape) == (layer, shape)
    assert info.closed_form == (network == "resnet50")


def test_gradcam_equals_cam_before_pooling_and_dense(resnet50):
    """Closed form, and the same gradient by a backward pass from one layer below it."""
    images = np.random.RandomState(3).standard_normal((2, 3, SIZE, SIZE)).astype(np.float32)
    targets = np.array([[1], [2]], np.int32)
    view = MxnetNetwork(resnet50, ("auto",), 2).forward(images).layer("stage4_activation2")
    np.testing.assert_allclose(mean_gradient(view, targets) * 4, view.class_weights(targets))
    below = MxnetNetwork(resnet50, ("stage4__plus2",), 2).forward(images).layer("stage4__plus2")
    active = (view.activation > 0).mean(axis=(2, 3))[:, None]
    np.testing.assert_allclose(
        mean_gradient(below, targets), view.class_weights(targets) / 4 * active, atol=1e-7
    )


@pytest.mark.parametrize("how", ["save_parameters", "export", "prefixed"])
def test_params_files_of_every_kind(how, tmp_path):
    with mx.name.NameManager():
        prefix = "resnetv10_" if how == "prefixed" else ""
        net = mx.gluon.model_zoo.vision.resnet18_v1(prefix=prefix)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    images = np.random.RandomState(4).standard_normal((1, 3, SIZE, SIZE)).astype(np.float32)
    expected = net(mx.nd.array(images)).asnumpy()
    if how == "save_parameters":
        path = tmp_path / "resnet18.params"
        net.save_parameters(str(path))
    else:
        net.export(str(tmp_path / "resnet18"))
        path = tmp_path / "resnet18-0000.params"
    network = MxnetNetwork(load_network("resnet18_v1", str(path), SIZE), ("auto",), 1)
    np.testing.assert_allclose(network.forward(images).logits, expected, rtol=1e-4, atol=1e-6)


FINE_TUNED = {"resnet18_v1": 5, "squeezenet1.1": 3, "mobilenetv2_0.25": 7, "mobilenet0.25": 11}


def fine_tuned(name, classes):
    """A network of Gluon's, and its logits for images."""
    with mx.name.NameManager():
        net = mx.gluon.model_zoo.vision.get_model(name, classes=classes)
    net.initialize(mx.init.Xavier())
    net.hybridize()
    side = 224 if name == "squeezenet1.1" else SIZE
    images = np.random.RandomState(4).standard_normal((2, 3, side, side)).astype(np.float32)
    return net, images, net(mx.nd.array(images)).asnumpy()


@pytest.mark.parametrize("name", FINE_TUNED)
def test_another_number_of_classes_is_read_from_the_weights(name, tmp_path):
    classes = FINE_TUNED[name]
    net, images, expected = fine_tuned(name, classes)
    path = tmp_path / "net.params"
    net.save_parameters(str(path))
    definition = load_network(name, str(path), images.shape[2])
    assert class_count(definition) == classes
    network = MxnetNetwork(definition, ("auto",), 2)
    logits = network.forward(images).logits
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_fine_tuned_weights_with_torchvisions_names(prefix, tmp_path):
    """DataParallel and Lightning put something in front of each name, Dropout a number behind."""
    net, images, expected = fine_tuned("squeezenet1.1", 3)
    modules = ["features.0"]
    for number in (3, 4, 6, 7, 9, 10, 11, 12):
        modules += (f"features.{number}.{part}" for part in ("squeeze", "expand1x1", "expand3x3"))
    names = [f"{prefix}{m}.{part}" for m in (*modules, "classifier.1") for part in PARTS]
    values = [p.data().asnumpy() for p in net.collect_params().values()]
    save_file(dict(zip(names, values, strict=True)), tmp_path / "net.safetensors")
    definition = load_network("squeezenet1.1", str(tmp_path / "net.safetensors"))
    logits = MxnetNetwork(definition, ("auto",), 2).forward(images).logits
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_a_last_layer_that_does_not_fit_is_refused(vgg16, tmp_path):
    names = {k: mx.nd.array(v) for k, v in vgg16.parameters.items()}
    for weight, bias in (((5, 7), 5), ((5, 4096), 4)):
        names["dense2_weight"], names["dense2_bias"] = mx.nd.zeros(weight), mx.nd.zeros(bias)
        mx.nd.save(str(tmp_path / "other.params"), names)
        with pytest.raises(ModelError, match=r"dense2_weight is .*, not \(1000, 4096\)"):
            load_network("vgg16", str(tmp_path / "other.params"), SIZE)


def test_sizes_that_are_not_square():
    definition = load_network("mobilenetv2_0.25", "random", (64, 96))
    assert definition.preprocessing.input_shape == (3, 64, 96)
    assert resolve_layer(definition, "auto").shape[1:] == (2, 3)


def test_random_parameters_are_the_same_everywhere(vgg16):
    assert vgg16.digest() == load_network("vgg16", "random", SIZE).digest()


def test_weights_of_another_network_are_refused(vgg16, tmp_path):
    path = tmp_path / "other.params"
    mx.nd.save(str(path), {"features.0.weight": mx.nd.zeros((64, 3, 3, 3))})
    with pytest.raises(ModelError, match="not weights of vgg16: 31 missing"):
        load_network("vgg16", str(path), SIZE)
    names = {k: mx.nd.array(v) for k, v in vgg16.parameters.items()}
    names["conv0_weight"] = mx.nd.zeros((64, 3, 5, 5))
    mx.nd.save(str(path), names)
    with pytest.raises(ModelError, match=r"conv0_weight is \(64, 3, 5, 5\)"):
        load_network("vgg16", str(path), SIZE)


def test_no_weights_says_how_to_get_them():
    with pytest.raises(ModelError, match=r"--params FILE\.params"):
        load_network("vgg16")
