"""Weights of torchvision's layout in Gluon's networks, .safetensors, .params, NaN and damage."""

import struct

import mxnet as mx
import numpy as np
import pytest
from safetensors.numpy import save_file

from shardcam.engine.errors import ModelError
from shardcam.engine.methods import METHODS
from shardcam.engine.models.load_network import load_network
from shardcam.engine.models.mxnet_network import MxnetNetwork
from shardcam.engine.models.weight_files import read_weights
from shardcam.kernels import NON_FINITE, scale_maps


def test_gluon_names_in_safetensors(tmp_path):
    definition = load_network("resnet50_v1", "random", 64)
    save_file(definition.parameters, tmp_path / "net.safetensors")
    again = load_network("resnet50_v1", str(tmp_path / "net.safetensors"), 64)
    assert again.digest() == definition.digest()


def test_torchvision_weights_of_another_architecture_point_to_onnx(tmp_path):
    """torchvision's ResNet-50 strides in its 3x3 convolutions, Gluon's in its 1x1 ones."""
    save_file({"conv1.weight": np.zeros((64, 3, 7, 7), np.float32)}, tmp_path / "r.safetensors")
    with pytest.raises(ModelError, match=r"export it to ONNX and give --model FILE\.onnx"):
        load_network("resnet50_v1", str(tmp_path / "r.safetensors"))
    with pytest.raises(ModelError, match="its layers are not those of the network"):
        load_network("vgg16", str(tmp_path / "r.safetensors"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 4,
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{]",
        struct.pack("<Q", 70)
        + b'{"w":{"dtype":"F32","shape":[99],"data_offsets":[0,4]}}'.ljust(70),
        struct.pack("<Q", 80)
        + b'{"w":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}'.ljust(80)
        + b"\0" * 4,
    ],
)
def test_hostile_safetensors(tmp_path, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelError, match=r"w\.safetensors") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def params_bytes(tmp_path, value):
    mx.nd.save(str(tmp_path / "w.params"), {"w": mx.nd.array(value, dtype=value.dtype)})
    return (tmp_path / "w.params").read_bytes()


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int64"])
def test_params_of_every_number_type(tmp_path, dtype):
    value = np.arange(6).reshape(1, 2, 3).astype(dtype)
    params_bytes(tmp_path, value)
    found = read_weights(tmp_path / "w.params")["w"]
    np.testing.assert_array_equal(found, value)
    assert found.dtype == value.dtype


def test_hostile_params(tmp_path):
    """Every byte of the header wrong in turn: an error or the same numbers, never a crash."""
    value = np.arange(4, dtype=np.float32)
    data = params_bytes(tmp_path, value)
    refused = 0
    for position in range(min(len(data), 80)):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        (tmp_path / "w.params").write_bytes(damaged)
        try:
            read_weights(tmp_path / "w.params")
        except ModelError as error:
            assert "w.params" in str(error)
            refused += 1
    assert refused > 30


def test_unknown_ending(tmp_path):
    with pytest.raises(ModelError, match=r"\.params, \.safetensors, \.pth, \.pt files"):
        read_weights(tmp_path / "w.h5")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    """MXNet's ReLU turns a NaN into 0, and the results would look healthy."""
    definition = load_network("resnet50_v1", "random", 64)
    for name, wrong in (("conv0_weight", np.nan), ("dense0_weight", np.inf)):
        weight = definition.parameters[name].copy()
        weight.flat[3] = wrong
        save_file(definition.parameters | {name: weight}, tmp_path / "bad.safetensors")
        with pytest.raises(ModelError, match=f"{name}' holds a NaN or an infinity"):
            load_network("resnet50_v1", str(tmp_path / "bad.safetensors"), 64)


def test_a_map_that_is_not_finite_is_flagged():
    """Overflow in the network itself: huge inputs make infinite activations."""
    network = load_network("resnet50_v1", "random", 64)
    images = np.full((1, 3, 64, 64), 1e37, np.float32)
    forward = MxnetNetwork(network, ("auto",), 1).forward(images)
    layer = forward.layer("stage4_activation2")
    unit, scale, flags = scale_maps(METHODS["gradcam"](layer, np.array([[7, 8]], np.int32)))
    assert (flags == NON_FINITE).all()
    assert not unit.any() and not scale.any()
