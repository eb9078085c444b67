"""Small ONNX files made by hand, and what onnxruntime and the imported graph say of them."""

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from shardcam.engine.models.mxnet_symbol import symbol_of
from shardcam.engine.models.onnx.onnx_file import OnnxFile

IR_VERSION = 10
BATCH = 2
# Before 1.26 onnxruntime averaged over padding by other rules; for Python 3.10 there is
# no newer one.
OTHER_AVERAGES = tuple(int(n) for n in onnxruntime.__version__.split(".")[:2]) < (1, 26)


def weight(*shape, seed=0, low=None, dtype=np.float32):
    rng = np.random.RandomState(seed + sum(shape))
    value = rng.standard_normal(shape) if low is None else rng.uniform(low, low + 1.5, shape)
    return value.astype(dtype)


def ints(*values):
    return np.array(values, np.int64)


def node(op, inputs, outputs, **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), **attributes)


def make(nodes, weights=None, shape=("N", 3, 9, 11), opset=17, output="y", flatten=True, rank=2):
    """A model whose input is x; its output is flattened to (N,K).

    For `shape` with other than 3 channels, a convolution makes x of three.
    """
    nodes, weights, name = list(nodes), dict(weights or {}), "x"
    if shape[1] != 3 and shape[3] != 3:
        name, weights["widen"] = "images", weight(shape[1], 3, 1, 1)
        nodes.insert(0, helper.make_node("Conv", ["images", "widen"], ["x"], name="widen"))
        shape = (shape[0], 3, *shape[2:])
    if flatten:
        nodes.append(helper.make_node("Flatten", [output], ["flat"], name="flatten", axis=1))
        output = "flat"
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [None] * rank)],
        [
            value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(value, name)
            for name, value in weights.items()
        ],
    )
    ids = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=ids, ir_version=IR_VERSION)


def load_onnx(path, *how, **options):
    return OnnxFile(path).network(*how, **options)


def load(model, tmp_path, image_size=None):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return load_onnx(path, image_size)


def images_for(model, batch=BATCH, seed=3):
    """Images in the layout of the file."""
    dims = model.graph.input[0].type.tensor_type.shape.dim
    shape = [batch, *(d.dim_value for d in dims[1:])]
    return np.random.RandomState(seed).standard_normal(shape).astype(np.float32)


def reference(model, images):
    return _session_run(model.SerializeToString(), images)


def reference_of_file(path, images):
    return _session_run(str(path), images)


def _session_run(source, images):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    # 1.23, the last for Python 3.10, lays FusedConv out anew, and then refuses its sum.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    session = onnxruntime.InferenceSession(source, options)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def bind(definition, images, gradient=False, symbol=None):
    symbol = symbol if symbol is not None else symbol_of(definition.graph)
    arrays = {k: mx.nd.array(v) for k, v in definition.parameters.items()}
    arrays[definition.input_name] = mx.nd.array(images)
    grads = {definition.input_name: mx.nd.zeros(images.shape)} if gradient else None
    return symbol.bind(
        mx.cpu(),
        {n: arrays[n] for n in symbol.list_arguments()},
        aux_states={n: arrays[n] for n in symbol.list_auxiliary_states()},
        args_grad=grads,
        grad_req={definition.input_name: "write"} if gradient else "null",
    )


def run(definition, images):
    return bind(definition, images).forward(is_train=False)[0].asnumpy()


def slope(definition, images, direction, one):
    """d <one, logits> / d images along `direction`, by a backward pass in training mode."""
    executor = bind(definition, images, gradient=True)
    executor.forward(is_train=True)
    executor.backward([mx.nd.array(one)])
    return float((executor.grad_dict[definition.input_name].asnumpy() * direction).sum())


def assert_same(model, tmp_path, rtol=1e-5, atol=1e-5):
    definition = load(model, tmp_path)
    images = images_for(model)
    expected = reference(model, images)
    ours = run(definition, images)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, rtol=rtol, atol=atol)
    return definition
