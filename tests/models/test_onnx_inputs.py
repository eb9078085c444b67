"""What an ONNX file's input may be: any channels, layout and size, floats or whole numbers."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from shardcam.engine.errors import ModelError
from shardcam.engine.models.definition import IMAGENET_MEAN, IMAGENET_STD
from tests.models.onnx_models import IR_VERSION, ints, load, make, node, reference, run, weight

RNG = np.random.RandomState(5)
HEAD = (node("Relu", "c", "r"), node("GlobalAveragePool", "r", "p"), node("Flatten", "p", "y"))


def model(*first, shape, channels, groups=1, dtype=TensorProto.FLOAT, **weights):
    """A convolution of the tensor `x`, which `first` makes of the input `images`."""
    nodes = [*first, node("Conv", "x w", "c", group=groups), *HEAD]
    weights |= {"w": weight(4, channels // groups, 3, 3)}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("images" if first else "x", dtype, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    ids = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=ids, ir_version=IR_VERSION)


LAST = node("Transpose", "images", "x", perm=[0, 3, 1, 2])


@pytest.mark.parametrize(
    ("shape", "first", "channels"),
    [
        (("N", 1, 9, 11), (), 1),
        ((1, 1, 28, 28), (), 1),
        (("N", 4, 9, 11), (), 4),
        (("N", 2, 12, 12), (), 2),
        (("N", 13, 9, 11), (), 13),  # more channels than columns
        (("N", None, 9, 11), (), 6),  # the convolution says how many
        (("N", 9, 11, 1), (LAST,), 1),
        (("N", 9, 11, 4), (LAST,), 4),
        (("N", 12, 12, 13), (LAST,), 13),
        (("N", None, None, 1), (LAST,), 1),
        (("N", 13, 12, 12), (node("Neg", "images", "x"),), 13),
        (("N", 3, 9, 11), (node("Neg", "images", "x"),), 3),
    ],
    ids=str,
)
def test_channels(shape, first, channels, tmp_path):
    made = model(*first, shape=shape, channels=channels)
    definition = load(made, tmp_path, (9, 11) if None in shape[2:] else None)
    size = [11 if side is None else side for side in shape[1:]]
    rows, columns = size[:2] if LAST in first else size[1:]
    rows = 9 if shape[1:3] == (None, None) else rows
    assert definition.preprocessing.input_shape == (channels, rows, columns)
    images = RNG.standard_normal((1 if shape[0] == 1 else 2, channels, rows, columns))
    images = images.astype(np.float32)
    given = images.transpose(0, 2, 3, 1) if LAST in first else images
    np.testing.assert_allclose(
        run(definition, images), reference(made, given), rtol=1e-5, atol=1e-5
    )
    usual = IMAGENET_MEAN if channels == 3 else (0.0,) * channels
    assert definition.preprocessing.mean == usual


def test_channels_that_are_not_known(tmp_path):
    made = model(node("Neg", "images", "x"), shape=("N", None, 9, 11), channels=3)
    with pytest.raises(ModelError, match=r"input 'images' of \(\?,\?,9,11\): its channels are not"):
        load(made, tmp_path)
    made = model(shape=("N", 5000, 9, 11), channels=5000)
    with pytest.raises(ModelError, match="its channels are not 1 to 1024"):
        load(made, tmp_path)


CAST = node("Cast", "t", "x", to=TensorProto.FLOAT)


@pytest.mark.parametrize("dtype", [TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64])
@pytest.mark.parametrize("scaled", [False, True])
def test_whole_numbers_are_the_pixels(dtype, scaled, tmp_path):
    first = [node("Transpose", "images", "t", perm=[0, 3, 1, 2])]
    first += [node("Cast", "t", "f", to=TensorProto.FLOAT), node("Div", "f by", "x")]
    if not scaled:
        first[1:] = [CAST]
    made = model(*first, shape=("N", 9, 11, 3), channels=3, dtype=dtype, by=np.float32(255))
    definition = load(made, tmp_path)
    own = definition.preprocessing
    assert (own.mean, own.std) == ((0.0,) * 3, (1.0,) * 3)
    assert definition.takes_bytes
    assert not definition.assumed
    pixels = RNG.randint(0, 256, (2, 9, 11, 3))
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    found = run(definition, pixels.transpose(0, 3, 1, 2).astype(np.float32))
    np.testing.assert_allclose(found, reference(made, pixels.astype(kind)), rtol=1e-4)


def test_arithmetic_in_whole_numbers_is_refused(tmp_path):
    """What it drops, floats would keep."""
    first = (node("Div", "images by", "t", name="halve"), CAST)
    made = model(*first, shape=("N", 3, 9, 11), channels=3, dtype=TensorProto.INT32, by=np.int32(2))
    with pytest.raises(ModelError, match="Div node 'halve' computes in whole numbers; Cast the in"):
        load(made, tmp_path)


def test_other_types_are_refused_by_name(tmp_path):
    made = model(CAST, shape=("N", 3, 9, 11), channels=3, dtype=TensorProto.INT8)
    with pytest.raises(ModelError, match="input 'images' takes int8; float, uint8, int32 or int64"):
        load(made, tmp_path)


SUB, DIV = node("Sub", "images m", "t"), node("Div", "t s", "x")


@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        ([123.7, 116.3, 103.5], [58.4, 57.1, 57.4], 1.0),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 255.0),
        ([0.02, -0.01, 0.01], [1.1, 1.0, 0.9], None),
    ],
)
def test_a_file_that_normalises_is_given_what_it_expects(mean, std, expected, tmp_path):
    numbers = {n: np.float32(v).reshape(1, 3, 1, 1) for n, v in (("m", mean), ("s", std))}
    definition = load(model(SUB, DIV, shape=("N", 3, 9, 11), channels=3, **numbers), tmp_path)
    assert definition.assumed
    own = definition.preprocessing
    if expected is None:
        assert own.mean == IMAGENET_MEAN
    else:
        assert (own.mean, own.std) == ((0.0,) * 3, (expected,) * 3)


def test_sizes_that_are_not_square(tmp_path):
    made = model(shape=("N", 3, 48, "w"), channels=3)
    assert load(made, tmp_path, (48, 192)).preprocessing.input_shape == (3, 48, 192)
    definition = load(made, tmp_path)
    assert definition.preprocessing.input_shape == (3, 48, 224)
    assert "--image-size 48,224 was taken" in definition.remarks[0]
    with pytest.raises(ModelError, match="it takes images of 48 pixels, not 64"):
        load(made, tmp_path, (64, 192))


def test_a_mean_for_each_channel_taken_apart(tmp_path):
    """As VGG's of TensorFlow turn RGB into BGR."""
    apart = node("Split", "images", "red green blue", axis=1)
    means = {"blue": 103.939, "green": 116.779, "red": 123.68}
    subs = [node("Sub", f"{c} mean_{c}", f"{c}_less") for c in means]
    first = (apart, *subs, node("Concat", "blue_less green_less red_less", "x", axis=1))
    weights = {f"mean_{name}": np.float32(value) for name, value in means.items()}
    made = model(*first, shape=("N", 3, 9, 11), channels=3, **weights)
    own = load(made, tmp_path).preprocessing
    assert (own.mean, own.std) == ((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("stated", "mean", "std"),
    [
        ("NominalRange_0_255", 0.0, 1.0),
        ("Normalized_0_1", 0.0, 255.0),
        ("Normalized_1_1", 127.5, 127.5),
    ],
)
def test_onnx_metadata_for_images(stated, mean, std, tmp_path):
    """As Azure's Custom Vision writes it."""
    made = model(shape=("N", 3, 9, 11), channels=3)
    entries = {"Image.BitmapPixelFormat": "Bgr8", "Image.NominalPixelRange": stated}
    helper.set_model_props(made, entries)
    definition = load(made, tmp_path)
    own = definition.preprocessing
    assert (own.channels, own.mean, own.std) == ("bgr", (mean,) * 3, (std,) * 3)
    assert not definition.assumed
    helper.set_model_props(made, {"Image.BitmapPixelFormat": "Bgr8"})
    definition = load(made, tmp_path)
    own = definition.preprocessing
    assert (own.mean, own.std) == (IMAGENET_MEAN[::-1], IMAGENET_STD[::-1])
    assert definition.assumed


def test_an_open_size_that_does_not_fit(tmp_path):
    """What is taken where the file says nothing is told where the file is refused."""
    nodes = [node("Conv", "x w", "c"), node("Reshape", "c s", "r"), node("Gemm", "r d", "y")]
    weights = {"w": weight(4, 3, 1, 1), "s": ints(0, 4 * 16 * 24), "d": weight(4 * 16 * 24, 5)}
    file = make(nodes, weights, ("N", 3, "h", "w"), flatten=False)
    with pytest.raises(ModelError, match="size open, and --image-size 224 was taken: it may need"):
        load(file, tmp_path)
    assert load(file, tmp_path, image_size=(16, 24)).parameters
